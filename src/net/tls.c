/*
 * TLS files: read and parsed in the pool into what OpenSSL takes, and handed to each connection by reference.
 */
#include "net/tls.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/list.h"
#include "net/lib.h"

#define SYSTEM_CA "/etc/ssl/certs/ca-certificates.crt"

enum {
	FILE_BYTES_MAX = 4 * 1024 * 1024,
	DIR_FILES_MAX = 4096,
	READ_MS = 10000,
	AGAIN_MS = 1000,   /* between two attempts that failed, */
	AGAIN_MAX_MS = 32000, /* and in the end, doubled each time, while what was read before holds */
	POLL_MS = 30000,   /* of files on another machine, whose changes a watch does not see */
	SETTLE_MS = 50,    /* certificate and key are written one after the other */
};

/* What was read. */
struct material {
	X509_STORE *store;
	X509 *cert;             /* NULL: none is shown */
	STACK_OF(X509) *chain;
	EVP_PKEY *key;
	unsigned char digest[EVP_MAX_MD_SIZE]; /* of all that was read */
};

struct paths {
	char *ca_cert, *ca_path, *client_cert, *client_key;
};

enum { CA_CERT, CLIENT_CERT, CLIENT_KEY, FILES };

/* One reading, in the pool: it has all that it needs, since it may outlive the rest. */
struct reading {
	struct paths paths;
	struct material material;
	EVP_MD_CTX *digest;
	struct file_stamp stamps[FILES];
	bool remote;            /* one of them is not a file of this machine */
	struct error err;
	struct tls *tls;        /* the loop's */
};

struct tls_wait {
	struct tls *tls;
	void (*done)(void *arg, int err, const char *text);
	void *arg;
	struct list node;
};

enum { WATCHES = FILES + 1 };

struct tls {
	struct loop *loop;
	struct pool *pool;
	struct watcher *watcher;
	struct paths paths;
	char *server_name;
	bool skip_verify;
	struct material material;
	bool loaded, again;         /* again: it has changed while it was read */
	uint64_t generation;
	struct pool_job *job;
	struct list waits;
	struct loop_timer *timer;   /* reads anew, or tells */
	struct loop_timer *poll;
	struct error failure;       /* of the last reading; code 0: it went well */
	int64_t failed_ms, again_ms;
	struct watch *watches[WATCHES];
	void (*changed)(void *arg);
	void *changed_arg;
};

static void paths_done(struct paths *p)
{
	free(p->ca_cert);
	free(p->ca_path);
	free(p->client_cert);
	free(p->client_key);
}

static void material_done(struct material *m)
{
	X509_STORE_free(m->store);
	X509_free(m->cert);
	sk_X509_pop_free(m->chain, X509_free);
	EVP_PKEY_free(m->key);
	*m = (struct material){ .store = NULL };
}

/* ---- reading: in the pool ---- */

static int read_file(struct reading *r, const char *path, struct buf *out, struct file_stamp *stamp, struct error *err)
{
	struct error why = ERROR_INIT;
	struct file_read got = { .local = true };
	int e;

	buf_init_secret(out, FILE_BYTES_MAX);
	e = file_read_all(path, out, &got, &why);
	if (stamp)
		*stamp = got.stamp;
	r->remote |= !got.local;
	if (!e && (EVP_DigestUpdate(r->digest, &out->len, sizeof(out->len)) != 1 ||
	           (out->len && EVP_DigestUpdate(r->digest, out->data, out->len) != 1)))
		e = -ENOMEM;
	if (e) {
		buf_free(out);
		return error_set(err, EPROTO, "%s: %s", path, why.text[0] ? why.text : strerror(-e));
	}
	return 0;
}

static BIO *bio_of(const struct buf *b)
{
	return BIO_new_mem_buf(b->len ? b->data : "", (int)b->len);
}

/* How many certificates of it went into the store. */
static int add_authorities(X509_STORE *store, const struct buf *pem)
{
	BIO *bio = bio_of(pem);
	X509 *cert;
	int n = 0;

	while (bio && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
		n += X509_STORE_add_cert(store, cert) == 1;
		X509_free(cert);
	}
	BIO_free(bio);
	ERR_clear_error(); /* that there are no more is one */
	return n;
}

static int load_authority_file(struct reading *r, const char *path, struct error *err)
{
	struct buf pem;
	int n;

	if (read_file(r, path, &pem, &r->stamps[CA_CERT], err) != 0)
		return -EPROTO;
	n = add_authorities(r->material.store, &pem);
	buf_free(&pem);
	return n ? 0 : error_set(err, EPROTO, "%s: no certificate in PEM form is in it", path);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* What has no certificate, or can't be read, is passed over. */
static int load_entry(struct reading *r, const char *dir, const char *name)
{
	char path[PATH_MAX];
	struct buf pem;
	int n;

	if (name[0] == '.' || snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path) ||
	    read_file(r, path, &pem, NULL, NULL) != 0)
		return 0;
	n = add_authorities(r->material.store, &pem);
	buf_free(&pem);
	return n;
}

/* In the order of their names, so that the same files have the same digest. */
static int load_authority_dir(struct reading *r, const char *dir)
{
	struct dirent **names;
	int found = 0, n;

	if (file_leads_to_own_mount(dir))
		return error_set(&r->err, EPROTO, "%s: lies on this mount itself", dir);
	n = scandir(dir, &names, NULL, by_name);
	if (n < 0)
		return error_set(&r->err, EPROTO, "%s: %s", dir, strerror(errno));
	for (int i = 0; i < n; i++) {
		if (i < DIR_FILES_MAX)
			found += load_entry(r, dir, names[i]->d_name);
		free(names[i]);
	}
	free(names);
	return found ? 0 : error_set(&r->err, EPROTO, "%s: no certificate in PEM form is in its files", dir);
}

static int load_store(struct reading *r)
{
	const struct paths *p = &r->paths;
	X509_STORE *store = X509_STORE_new();
	int err = 0;

	r->material.store = store;
	if (!store)
		return error_set(&r->err, ENOMEM, "out of memory");
	X509_STORE_set_flags(store, X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN);
	if (p->ca_cert)
		err = load_authority_file(r, p->ca_cert, &r->err);
	if (!err && p->ca_path)
		err = load_authority_dir(r, p->ca_path);
	if (!p->ca_cert && !p->ca_path)
		(void)load_authority_file(r, SYSTEM_CA, NULL); /* none: then no server is trusted */
	return err;
}

/* Never asks on the terminal. */
static int no_passphrase(char *buf, int size, int writing, void *arg)
{
	(void)buf;
	(void)size;
	(void)writing;
	(void)arg;
	return -1;
}

static int load_key(struct reading *r, const struct buf *cert_pem)
{
	const char *path = r->paths.client_key ? r->paths.client_key : r->paths.client_cert;
	struct buf own;
	BIO *bio;

	if (r->paths.client_key && read_file(r, path, &own, &r->stamps[CLIENT_KEY], &r->err) != 0)
		return -EPROTO;
	bio = bio_of(r->paths.client_key ? &own : cert_pem);
	r->material.key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
	BIO_free(bio);
	if (r->paths.client_key)
		buf_free(&own);
	ERR_clear_error();
	if (!r->material.key)
		return error_set(&r->err, EPROTO, "%s: no private key in PEM form without a passphrase is in it", path);
	if (X509_check_private_key(r->material.cert, r->material.key) != 1) {
		ERR_clear_error();
		return error_set(&r->err, EPROTO, "%s: the key does not belong to the certificate %s", path,
		                 r->paths.client_cert);
	}
	return 0;
}

static int load_client(struct reading *r)
{
	struct buf pem;
	BIO *bio;
	X509 *more;
	int err;

	if (!r->paths.client_cert)
		return 0;
	if (read_file(r, r->paths.client_cert, &pem, &r->stamps[CLIENT_CERT], &r->err) != 0)
		return -EPROTO;
	bio = bio_of(&pem);
	r->material.cert = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
	r->material.chain = sk_X509_new_null();
	while (r->material.cert && r->material.chain && (more = PEM_read_bio_X509(bio, NULL, NULL, NULL)))
		if (!sk_X509_push(r->material.chain, more))
			X509_free(more);
	BIO_free(bio);
	ERR_clear_error();
	if (!r->material.cert)
		err = error_set(&r->err, EPROTO, "%s: no certificate in PEM form is in it", r->paths.client_cert);
	else
		err = load_key(r, &pem);
	buf_free(&pem);
	return err;
}

static int reading_work(void *arg)
{
	struct reading *r = arg;
	int err;

	r->digest = EVP_MD_CTX_new();
	if (!r->digest || EVP_DigestInit_ex(r->digest, EVP_sha256(), NULL) != 1)
		return error_set(&r->err, ENOMEM, "out of memory");
	err = load_store(r);
	if (!err)
		err = load_client(r);
	if (!err && EVP_DigestFinal_ex(r->digest, r->material.digest, NULL) != 1)
		err = error_set(&r->err, ENOMEM, "out of memory");
	return err;
}

static void reading_free(void *arg)
{
	struct reading *r = arg;

	paths_done(&r->paths);
	material_done(&r->material);
	EVP_MD_CTX_free(r->digest);
	free(r);
}

static bool copy_path(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return !from || *to;
}

static bool copy_paths(struct paths *to, const char *ca_cert, const char *ca_path, const char *cert, const char *key)
{
	return copy_path(&to->ca_cert, ca_cert) && copy_path(&to->ca_path, ca_path) &&
	       copy_path(&to->client_cert, cert) && copy_path(&to->client_key, key);
}

/* ---- the loop ---- */

static void tell_waits(struct tls *t)
{
	struct list told;

	list_init(&told);
	list_splice(&told, &t->waits);
	while (!list_empty(&told)) {
		struct tls_wait *w = list_entry(told.next, struct tls_wait, node);
		bool ok = t->loaded;

		list_remove(&w->node);
		w->done(w->arg, ok ? 0 : t->failure.code, ok ? NULL : t->failure.text);
		free(w);
	}
}

static void watch_files(struct tls *t, const struct reading *r);

/* True: what is known is now other than it was. The same bytes cost no connection: a touch, or a watch that sees
 * nothing and has one look again and again. */
static bool take_material(struct tls *t, struct reading *r)
{
	bool first = !t->loaded;

	t->again_ms = AGAIN_MS;
	if (!first && memcmp(t->material.digest, r->material.digest, sizeof(t->material.digest)) == 0)
		return false;
	material_done(&t->material);
	t->material = r->material;
	r->material = (struct material){ .store = NULL };
	t->loaded = true;
	t->generation++;
	return !first;
}

static void reading_failed(struct tls *t, const struct reading *r)
{
	if (!r) /* the work may be running yet: its sentence is not ours */
		error_set(&t->failure, ETIMEDOUT, "the TLS files can't be read in time");
	else
		t->failure = r->err;
	t->failed_ms = clock_mono_ms();
	if (!t->loaded)
		return;
	/* A certificate whose key comes next, say; meanwhile what was read before holds. */
	loop_timer_set(t->timer, t->again_ms);
	t->again_ms = t->again_ms < AGAIN_MAX_MS ? t->again_ms * 2 : AGAIN_MAX_MS;
}

static void reading_done(int result, void *arg)
{
	struct reading *r = arg;
	struct tls *t = r->tls;
	bool in_time = result != -ETIMEDOUT && result != -EBUSY, moved = false;

	t->job = NULL;
	t->failure = (struct error)ERROR_INIT;
	if (result == 0)
		moved = take_material(t, r);
	else
		reading_failed(t, in_time ? r : NULL);
	if (t->watcher)
		watch_files(t, in_time ? r : NULL);
	if (t->again || (in_time && r->remote))
		loop_timer_set(t->again ? t->timer : t->poll, t->again ? SETTLE_MS : POLL_MS);
	t->again = false;
	tell_waits(t);
	if (moved && t->changed)
		t->changed(t->changed_arg);
}

static bool begin_reading(struct tls *t)
{
	struct reading *r = calloc(1, sizeof(*r));

	if (t->job || !r) {
		free(r);
		return t->job;
	}
	r->tls = t;
	if (copy_paths(&r->paths, t->paths.ca_cert, t->paths.ca_path, t->paths.client_cert, t->paths.client_key))
		t->job = pool_submit(t->pool, reading_work, reading_done, reading_free, r, READ_MS, NULL, POOL_UNKNOWN);
	if (!t->job)
		reading_free(r);
	return t->job;
}

static void on_timer(void *arg)
{
	struct tls *t = arg;

	if (!list_empty(&t->waits) && !t->job) /* a failure that is young still */
		tell_waits(t);
	else if (t->job)
		t->again = true; /* it may have read what changed before that */
	else if (!begin_reading(t))
		loop_timer_set(t->timer, AGAIN_MS);
}

static void on_poll(void *arg)
{
	struct tls *t = arg;

	if (!loop_timer_armed(t->timer))
		loop_timer_set(t->timer, 0);
}

static void on_change(unsigned events, const char *name, void *arg)
{
	struct tls *t = arg;

	(void)name;
	if (events & (WATCH_CHANGED | WATCH_OVERFLOW))
		loop_timer_set(t->timer, SETTLE_MS);
}

/* From what they were when they were read, so that nothing is missed. One that can't be had is tried again with the
 * next reading. */
static void watch_files(struct tls *t, const struct reading *r)
{
	const char *const files[FILES] = { t->paths.ca_cert, t->paths.client_cert, t->paths.client_key };

	for (size_t i = 0; i < FILES; i++)
		if (files[i] && !t->watches[i])
			t->watches[i] = watch_file(t->watcher, files[i], r ? &r->stamps[i] : NULL, on_change, t);
	if (t->paths.ca_path && !t->watches[FILES])
		t->watches[FILES] = watch_dir(t->watcher, t->paths.ca_path, on_change, t);
}

/* It comes to stand in a URL. */
static bool valid_name(const char *s)
{
	size_t len = strlen(s);

	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)s[i]) && !strchr("-._", s[i]))
			return false;
	return len > 0 && len <= 255;
}

int tls_new(struct loop *loop, struct pool *pool, struct watcher *watcher, const struct tls_settings *settings,
            struct tls **ret, struct error *ret_err)
{
	struct tls *t = calloc(1, sizeof(*t));

	if (!t)
		return error_set(ret_err, ENOMEM, "out of memory");
	t->loop = loop;
	t->pool = pool;
	t->watcher = watcher;
	t->skip_verify = settings->skip_verify;
	list_init(&t->waits);
	t->again_ms = AGAIN_MS;
	t->timer = loop_timer_new(loop, on_timer, t);
	t->poll = loop_timer_new(loop, on_poll, t);
	if (!t->timer || !t->poll || !copy_path(&t->server_name, settings->server_name) ||
	    !copy_paths(&t->paths, settings->ca_cert, settings->ca_path, settings->client_cert, settings->client_key)) {
		tls_free(t);
		return error_set(ret_err, ENOMEM, "out of memory");
	}
	if (settings->client_key && !settings->client_cert) {
		tls_free(t);
		return error_set(ret_err, EINVAL, "a key without a certificate");
	}
	if (settings->server_name && !valid_name(settings->server_name)) {
		tls_free(t);
		return error_set(ret_err, EINVAL, "%s is not the name of a server", settings->server_name);
	}
	*ret = t;
	return 0;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	if (t->job)
		pool_cancel(t->job);
	for (size_t i = 0; i < WATCHES; i++)
		watch_free(t->watches[i]);
	loop_timer_free(t->timer);
	loop_timer_free(t->poll);
	material_done(&t->material);
	paths_done(&t->paths);
	free(t->server_name);
	free(t);
}

void tls_reads(const struct tls *t, void (*add)(void *arg, const char *path), void *arg)
{
	const char *const all[] = { t->paths.ca_cert, t->paths.ca_path, t->paths.client_cert, t->paths.client_key };

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i])
			add(arg, all[i]);
	if (!t->paths.ca_cert && !t->paths.ca_path)
		add(arg, SYSTEM_CA);
}

int tls_ready(struct tls *t, void (*done)(void *arg, int err, const char *text), void *arg, struct tls_wait **ret)
{
	struct tls_wait *w;

	if (t->loaded)
		return 0;
	w = malloc(sizeof(*w));
	if (!w)
		return -ENOMEM;
	*w = (struct tls_wait){ t, done, arg, { NULL, NULL } };
	list_init(&w->node);
	list_append(&t->waits, &w->node);
	if (t->job) {
		;
	} else if (t->failure.code && clock_mono_ms() - t->failed_ms < AGAIN_MS) {
		loop_timer_set(t->timer, 0);
	} else if (!begin_reading(t)) {
		error_set(&t->failure, ENOMEM, "out of memory");
		t->failed_ms = clock_mono_ms();
		loop_timer_set(t->timer, 0);
	}
	*ret = w;
	return 1;
}

void tls_wait_cancel(struct tls_wait *w)
{
	list_remove(&w->node);
	free(w);
}

uint64_t tls_generation(const struct tls *t)
{
	return t->generation;
}

const char *tls_server_name(const struct tls *t)
{
	return t->server_name;
}

bool tls_skips_verify(const struct tls *t)
{
	return t->skip_verify;
}

int tls_apply(struct tls *t, void *ssl_ctx)
{
	SSL_CTX *ctx = ssl_ctx;
	const struct material *m = &t->material;

	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_options(ctx, SSL_OP_CLEANSE_PLAINTEXT);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	if (m->store)
		SSL_CTX_set1_cert_store(ctx, m->store);
	if (!m->cert)
		return 0;
	if (SSL_CTX_use_certificate(ctx, m->cert) != 1 || SSL_CTX_use_PrivateKey(ctx, m->key) != 1 ||
	    (m->chain && SSL_CTX_set1_chain(ctx, m->chain) != 1)) {
		ERR_clear_error();
		return -ENOMEM;
	}
	return 0;
}

void tls_on_change(struct tls *t, void (*changed)(void *arg), void *arg)
{
	t->changed = changed;
	t->changed_arg = arg;
}
