/*
 * The vault provider: an instance, and a fetch from the token over the mount's kind to the answer.
 */
#include "provider/vault.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/secmem.h"
#include "format/json.h"
#include "provider/vault_login.h"

enum {
	PATH_SHOWN_MAX = 512, PATH_BUF_MAX = 64 * 1024, WARNINGS_MAX = 16,
};

struct vault_times vault_times = {
	.mount_ms = 10 * 60 * 1000, .mount_refused_ms = 60 * 1000, .login_min_ms = 1000, .login_max_ms = 60 * 1000,
	.forbidden_ms = 60 * 1000, .lookup_ms = VAULT_LOOKUP_MS, .revoke_ms = VAULT_REVOKE_MS,
};

/* ---- requests ---- */

struct vault_request {
	struct vault *v;
	char *token;        /* secret memory; NULL: none */
	struct server_call *call;
	vault_done *done;
	void *arg;
};

static void request_free(struct vault_request *q)
{
	secmem_free(q->token);
	free(q);
}

/* A proxy on the way may answer in words of its own: of those only "not now" (5xx, 429) means anything. */
static void on_response(void *arg, const struct http_response *resp)
{
	struct vault_request *q = arg;
	struct vault_reply reply = { .root = NULL };
	struct http_response r = *resp;
	struct error why = ERROR_INIT;
	int e = r.err ? 0 : vault_reply_parse(r.body, &reply, &why);

	if (e < 0)
		reply = (struct vault_reply){ .root = NULL };
	if (e < 0 && (e == -ENOMEM || (r.status < 500 && r.status != 429))) {
		r.err = -e;
		r.text = why.code ? why.text : "out of memory";
	}
	vault_mask(reply.errors, slice_str(q->token)); /* some repeat what they were given */
	if (r.err || (r.status >= 400 && r.status != 404))
		q->v->request_failures++;
	q->done(q->arg, &r, &reply);
	vault_reply_done(&reply);
	request_free(q);
}

static bool is_of_root(const char *path)
{
	static const char *const root[] = { "/v1/sys/health", "/v1/sys/seal-status", "/v1/sys/leader" };

	for (size_t i = 0; i < sizeof(root) / sizeof(*root); i++)
		if (strncmp(path, root[i], strlen(root[i])) == 0)
			return true;
	return false;
}

struct vault_request *vault_request_start(struct vault *v, const char *method, const char *path, struct slice body,
                                          struct slice token, bool once, int64_t deadline_ms, vault_done *done,
                                          void *arg)
{
	struct vault_request *q = calloc(1, sizeof(*q));
	struct http_header headers[3] = { { "X-Vault-Request", SLICE_LIT("true") } };
	struct server_request req = {
		.method = method, .path = path, .headers = headers, .n_headers = 1, .body = body,
		.deadline_ms = deadline_ms > 0 ? deadline_ms : 1, .once = once,
	};

	if (!q)
		return NULL;
	if (v->settings.namespace_ && !is_of_root(path))
		headers[req.n_headers++] = (struct http_header){ "X-Vault-Namespace", slice_str(v->settings.namespace_) };
	if (token.len > 0)
		headers[req.n_headers++] = (struct http_header){ "X-Vault-Token", token };
	*q = (struct vault_request){ .v = v, .done = done, .arg = arg };
	if (token.len == 0 || (q->token = secmem_strdup(token)))
		q->call = server_start(v->server, &req, on_response, q);
	if (!q->call) {
		request_free(q);
		return NULL;
	}
	v->requests++;
	return q;
}

void vault_request_cancel(struct vault_request *q)
{
	if (!q)
		return;
	server_cancel(q->call);
	request_free(q);
}

int vault_body_add(struct buf *body, const char *key, struct slice value)
{
	(void)buf_add_char(body, body->len == 0 ? '{' : ',');
	(void)json_write_string(body, slice_str(key));
	(void)buf_add_char(body, ':');
	return json_write_string(body, value);
}

int vault_body_end(struct buf *body)
{
	return buf_add_str(body, body->len == 0 ? "{}" : "}");
}

bool vault_says_dead(const struct vault_reply *reply)
{
	return vault_reply_says(reply, "invalid token") || vault_reply_says(reply, "bad token");
}

bool vault_is_outage(const struct http_response *r, const struct vault_reply *reply)
{
	/* KV 2 on its way from KV 1: the one 400 that passes by itself. */
	return r->err || r->status >= 500 || r->status == 429 || r->status == 412 ||
	       (r->status == 400 && vault_reply_says(reply, "Upgrading from non-versioned"));
}

void vault_sentence(struct error *ret, const char *what, const struct http_response *r, const struct vault_reply *reply)
{
	const char *sep = reply->errors[0] ? ": " : "";

	if (r->err)
		(void)error_set(ret, r->err, "%s: %s", what, r->text ? r->text : strerror(r->err));
	else if (r->status == 503 && !reply->errors[0])
		(void)error_set(ret, EIO, "%s: the server answered 503: it is sealed, or in maintenance", what);
	else
		(void)error_set(ret, EIO, "%s: the server answered %d%s%s", what, r->status, sep, reply->errors);
}

void vault_tell(const struct vault *v, enum provider_level level, const char *fmt, ...)
{
	struct error text = ERROR_INIT;
	va_list ap;

	if (!v->env->host)
		return;
	va_start(ap, fmt);
	(void)error_vset(&text, EIO, fmt, ap);
	va_end(ap);
	v->env->host->tell(v->env->host_arg, level, text.text);
}

int64_t vault_renew_in(int64_t ms)
{
	int64_t at = ms / 3 * 2, most = ms / 100 * VAULT_FIRST_JITTER;

	return at - (most > 0 ? random() % (most + 1) : 0);
}

int64_t vault_backoff(int64_t *backoff)
{
	int64_t b = *backoff > 0 ? *backoff * 2 : vault_times.login_min_ms;

	if (b > vault_times.login_max_ms)
		b = vault_times.login_max_ms;
	*backoff = b;
	return b - (b > 1 ? random() % (b / 2 + 1) : 0);
}

/* ---- fetches and the questions for mounts ---- */

struct vault_fetch {
	struct list node;       /* vault.fetches */
	struct vault *v;
	struct fetch *f;
	int64_t deadline_ms;    /* monotonic */
	struct vault_token *token;
	bool anew;              /* after a 403 with a token that was dead */
	bool within;            /* ops->fetch has not returned yet */
	enum vault_kind kind;
	struct vault_auth_wait *wait;
	struct vault_verdict *verdict;
	struct vault_request *request;
	struct mount_query *query;
	struct list query_node; /* mount_query.fetches */
	struct loop_timer *later;
	int err;                /* to be told by later, as why says */
	bool outage;
	struct error why;
};

/* What is known of mounts, by "secret/", or by "secret/db" where the question for that was refused. */
struct mount_known {
	struct vault_mount mount; /* its path is path */
	int64_t until_ms;
	char path[];
};

/* One question a first element of a path: most mounts have no slash in their names. */
struct mount_query {
	struct list node;       /* vault.queries */
	struct vault *v;
	struct slice id;        /* of the fetch that made it; owned */
	struct slice key;       /* of id: what it is asked for */
	struct vault_token *token;
	struct list fetches;
	struct vault_request *request;
	struct vault_verdict *verdict;
	struct error why;       /* of a refusal */
	bool again;             /* of what is known; nobody waits */
};

static void fetch_token(struct vault_fetch *vf);
static void fetch_mount(struct vault_fetch *vf);

static struct slice path_of(struct slice id)
{
	const char *q = id.len > 0 ? memchr(id.data, '?', id.len) : NULL;

	return q ? slice_of(id.data, (size_t)(q - id.data)) : id;
}

static const char *shown(struct slice id, char ret[PATH_SHOWN_MAX])
{
	struct slice p = path_of(id);

	(void)snprintf(ret, PATH_SHOWN_MAX, "%.*s", SLICE_FMT(p));
	return ret;
}

static int64_t left_ms(const struct vault_fetch *vf)
{
	int64_t left = vf->deadline_ms - clock_mono_ms();

	return left > 0 ? left : 1;
}

static void fetch_free(struct vault_fetch *vf)
{
	list_remove(&vf->node);
	list_remove(&vf->query_node);
	vault_auth_wait_cancel(vf->wait);
	vault_verdict_cancel(vf->verdict);
	vault_request_cancel(vf->request);
	vault_token_unref(vf->token);
	loop_timer_free(vf->later);
	free(vf);
}

static void fetch_done(struct vault_fetch *vf, const struct fetch_result *r)
{
	struct fetch *f = vf->f;

	f->priv = NULL;
	f->done(f, r);
	fetch_free(vf);
}

static void on_later(void *arg)
{
	struct vault_fetch *vf = arg;
	struct fetch_result r = {
		.err = vf->err, .outage = vf->outage, .text = vf->why.text, .ttl_ms = -1, .lease_ms = -1,
	};

	fetch_done(vf, &r);
}

/* vf->why says what; not to be used after, but by ops->fetch. */
static void fetch_fail(struct vault_fetch *vf, int err, bool outage)
{
	vf->err = err;
	vf->outage = outage;
	if (!vf->within) {
		on_later(vf);
		return;
	}
	loop_timer_set(vf->later, 0);
}

static void fetch_fail_memory(struct vault_fetch *vf)
{
	(void)error_set(&vf->why, ENOMEM, "out of memory");
	fetch_fail(vf, EIO, true);
}

/* By what the server has said, or that it didn't. */
static void fetch_fail_by(struct vault_fetch *vf, const struct http_response *r, const struct vault_reply *reply)
{
	char path[PATH_SHOWN_MAX];
	bool outage = vault_is_outage(r, reply) && r->err != EINVAL;
	int err = r->err == ENOMEM || r->err == EINVAL ? EIO : r->err ? r->err : r->status == 403 ? EKEYREJECTED : EIO;

	vault_sentence(&vf->why, shown(vf->f->id, path), r, reply);
	fetch_fail(vf, err, outage);
}

/* ---- mounts ---- */

/* The kind of the id's mount, if it is known. *ret_old: so long that it is time to ask again, which the caller does. */
static bool mount_find(struct vault *v, struct slice id, struct vault_mount *ret, bool *ret_old)
{
	struct slice path = path_of(id), key;
	int64_t now = clock_mono_ms();

	*ret_old = false;
	if (vault_path_mount(&v->settings, id, ret))
		return true;
	for (size_t len = path.len; len > 0; len--) {
		struct mount_known *k;

		if (len < path.len && path.data[len - 1] != '/')
			continue;
		key = slice_of(path.data, len);
		k = strmap_get(v->mounts, key);
		if (k && now >= k->until_ms && k->mount.path.len == 0) {
			free(strmap_del(v->mounts, key));
			k = NULL;
		}
		if (k) {
			*ret = k->mount;
			*ret_old = now >= k->until_ms;
			if (*ret_old)
				k->until_ms = now + vault_times.mount_refused_ms;
			return true;
		}
	}
	return false;
}

/* Room for others: what has passed its time, or, where nothing has, everything. */
static void mounts_trim(struct vault *v)
{
	int64_t now = clock_mono_ms();

	for (int all = 0; all < 2 && strmap_len(v->mounts) >= VAULT_CACHED_MOUNTS_MAX; all++) {
		struct slice key;
		void *value;
		size_t pos = 0;

		while (strmap_next(v->mounts, &pos, &key, &value))
			if (all || now >= ((struct mount_known *)value)->until_ms)
				free(strmap_del(v->mounts, key));
	}
}

/* path empty: the question for key was refused. Without memory it is asked again. */
static void mount_put(struct vault *v, struct slice key, bool known, unsigned version)
{
	struct mount_known *k = malloc(sizeof(*k) + key.len + 1);
	void *old = NULL;

	if (!k)
		return;
	mounts_trim(v);
	if (key.len > 0)
		memcpy(k->path, key.data, key.len);
	k->path[key.len] = '\0';
	k->mount = (struct vault_mount){ .path = slice_of(k->path, known ? key.len : 0), .version = version };
	k->until_ms = clock_mono_ms() + (known ? vault_times.mount_ms : vault_times.mount_refused_ms);
	if (strmap_put(v->mounts, key, k, &old) < 0)
		free(k);
	free(old);
}

static void query_free(struct mount_query *mq)
{
	list_remove(&mq->node);
	vault_request_cancel(mq->request);
	vault_verdict_cancel(mq->verdict);
	vault_token_unref(mq->token);
	free((char *)mq->id.data);
	free(mq);
}

/* Frees it; next for each fetch that waits. */
static void query_end(struct mount_query *mq, void (*next)(struct vault_fetch *vf, const struct mount_query *mq))
{
	struct list now;

	list_remove(&mq->node); /* who asks for the same from here on asks anew */
	list_init(&now);
	list_splice(&now, &mq->fetches);
	while (!list_empty(&now)) {
		struct vault_fetch *vf = list_entry(now.next, struct vault_fetch, query_node);

		list_remove(&vf->query_node);
		vf->query = NULL;
		next(vf, mq);
	}
	query_free(mq);
}

static void next_mount(struct vault_fetch *vf, const struct mount_query *mq)
{
	(void)mq;
	fetch_mount(vf);
}

/* The token was dead. */
static void next_token(struct vault_fetch *vf, const struct mount_query *mq)
{
	if (vf->anew) {
		vf->why = mq->why;
		fetch_fail(vf, EKEYREJECTED, true);
		return;
	}
	vf->anew = true;
	fetch_token(vf);
}

static void next_failure(struct vault_fetch *vf, const struct mount_query *mq)
{
	vf->why = mq->why;
	fetch_fail(vf, mq->why.code, true);
}

/* Not to be known, or not by us: paths are used as they are. What is known stays so: a path that is used in another way
 * than before would seem to be gone. */
static void query_refused(struct mount_query *mq)
{
	if (mq->again) {
		query_end(mq, next_mount);
		return;
	}
	mount_put(mq->v, path_of(mq->id), false, 0);
	mq->v->refused_ms = clock_mono_ms();
	query_end(mq, next_mount);
}

static void on_query_verdict(void *arg, bool dead)
{
	struct mount_query *mq = arg;

	mq->verdict = NULL;
	if (dead)
		query_end(mq, next_token);
	else
		query_refused(mq);
}

/* Where the mount's path ends in the id: the answer may be without the namespace that the id begins with, or with the
 * one that our header names. 0: it doesn't belong to it. */
static size_t mount_end(const struct vault *v, struct slice path, struct slice mount)
{
	size_t ns = v->settings.namespace_ ? strlen(v->settings.namespace_) : 0;

	if (ns > 0 && mount.len > ns + 1 && memcmp(mount.data, v->settings.namespace_, ns) == 0 && mount.data[ns] == '/')
		mount = slice_of(mount.data + ns + 1, mount.len - ns - 1);
	while (mount.len > 0 && mount.data[mount.len - 1] == '/')
		mount.len--;
	for (size_t at = 0; mount.len > 0 && at + mount.len <= path.len; at++)
		if ((at == 0 || path.data[at - 1] == '/') && memcmp(path.data + at, mount.data, mount.len) == 0 &&
		    (at + mount.len == path.len || path.data[at + mount.len] == '/'))
			return at + mount.len;
	return 0;
}

static void query_answered(struct mount_query *mq, const struct vault_reply *reply)
{
	struct slice path = path_of(mq->id);
	struct vault_mount m;
	struct buf key;
	size_t end;

	if (!vault_reply_mount(reply, &m) || (end = mount_end(mq->v, path, m.path)) == 0) {
		query_refused(mq);
		return;
	}
	buf_init(&key, PATH_BUF_MAX);
	(void)buf_add(&key, path.data, end);
	if (end == path.len) /* the mount itself was asked for */
		mount_put(mq->v, path, false, 0);
	if (buf_add_char(&key, '/') == 0)
		mount_put(mq->v, buf_slice(&key), true, m.version);
	buf_free(&key);
	query_end(mq, next_mount);
}

static void on_query(void *arg, const struct http_response *r, const struct vault_reply *reply)
{
	struct mount_query *mq = arg;
	char what[PATH_SHOWN_MAX];
	bool invalid;

	mq->request = NULL;
	vault_sentence(&mq->why, shown(mq->id, what), r, reply);
	if (mq->why.code == EINVAL || mq->why.code == ENOMEM)
		mq->why.code = EIO;
	if (vault_is_outage(r, reply)) {
		query_end(mq, next_failure);
	} else if (r->status == 200) {
		vault_auth_proved(mq->v->auth, mq->token);
		query_answered(mq, reply);
	} else if (r->status == 403 && mq->token) {
		invalid = vault_says_dead(reply);
		if (vault_auth_judge(mq->v->auth, mq->token, invalid, on_query_verdict, mq, &mq->verdict) < 0)
			query_end(mq, next_failure);
	} else {
		query_refused(mq);
	}
}

static struct mount_query *query_find(struct vault *v, struct slice key)
{
	for (struct list *n = v->queries.next; n != &v->queries; n = n->next) {
		struct mount_query *mq = list_entry(n, struct mount_query, node);

		if (slice_eq(mq->key, key))
			return mq;
	}
	return NULL;
}

static struct mount_query *query_new(struct vault_fetch *vf, size_t key_len)
{
	struct vault *v = vf->v;
	struct mount_query *mq = calloc(1, sizeof(*mq));
	char *id = malloc(vf->f->id.len + 1);
	struct buf path;

	if (!mq || !id) {
		free(mq);
		free(id);
		return NULL;
	}
	memcpy(id, vf->f->id.data, vf->f->id.len);
	mq->v = v;
	mq->id = slice_of(id, vf->f->id.len);
	mq->key = slice_of(id, key_len);
	mq->token = vault_token_ref(vf->token);
	list_init(&mq->fetches);
	list_append(&v->queries, &mq->node);
	buf_init(&path, PATH_BUF_MAX);
	if (vault_path_discovery(mq->id, &path) == 0)
		mq->request = vault_request_start(v, "GET", path.data, slice_of(NULL, 0), vault_token_id(mq->token), false,
		                                  VAULT_REQUEST_MS, on_query, mq);
	buf_free(&path);
	if (mq->request)
		return mq;
	query_free(mq);
	return NULL;
}

/* Those of one first element wait for the first of them: its answer will do for all. Not where one was refused. */
static void mount_ask(struct vault_fetch *vf)
{
	struct slice path = path_of(vf->f->id);
	const char *slash = path.len > 0 ? memchr(path.data, '/', path.len) : NULL;
	bool refused = vf->v->refused_ms && clock_mono_ms() - vf->v->refused_ms < vault_times.mount_refused_ms;
	size_t len = slash && !refused ? (size_t)(slash - path.data) : path.len;
	struct mount_query *mq = query_find(vf->v, slice_of(path.data, len));

	if (!mq)
		mq = query_new(vf, len);
	if (!mq) {
		fetch_fail_memory(vf);
		return;
	}
	vf->query = mq;
	list_append(&mq->fetches, &vf->query_node);
}

/* ---- the read ---- */

static void on_fetch_verdict(void *arg, bool dead)
{
	struct vault_fetch *vf = arg;

	vf->verdict = NULL;
	if (dead && !vf->anew) {
		vf->anew = true;
		fetch_token(vf);
	} else {
		fetch_fail(vf, EKEYREJECTED, dead);
	}
}

static void on_forbidden(struct vault_fetch *vf, const struct http_response *r, const struct vault_reply *reply)
{
	bool invalid = vault_says_dead(reply);
	char path[PATH_SHOWN_MAX];

	vault_sentence(&vf->why, shown(vf->f->id, path), r, reply);
	if (!vf->token) /* an Agent's, of which nothing can be asked */
		fetch_fail(vf, EKEYREJECTED, invalid);
	else if (vault_auth_judge(vf->v->auth, vf->token, invalid, on_fetch_verdict, vf, &vf->verdict) < 0)
		fetch_fail(vf, EKEYREJECTED, true);
}

/* What ends by itself, and what is made anew by each read. */
static int fill_lease(struct vault_fetch *vf, const struct vault_reply *reply, const struct vault_secret *s,
                      struct fetch_result *r)
{
	struct vault_leases *l = vf->v->leases;
	int64_t ms = reply->lease_s > 0 && reply->lease_s < INT64_MAX / 2000 ? reply->lease_s * 1000 : 0;

	if (vf->kind == VAULT_OTHER && reply->lease_id.len > 0) {
		if (s->end_ms >= 0 && s->end_ms < ms)
			ms = s->end_ms;
		return vault_lease_begin(l, vf->f->id, reply->lease_id, ms, reply->renewable, vf->token, &r->lease_ms,
		                         &r->replace_ms, &r->state);
	}
	if (s->end_ms >= 0)
		return vault_lease_begin(l, vf->f->id, slice_of(NULL, 0), s->end_ms, false, NULL, &r->lease_ms,
		                         &r->replace_ms, &r->state);
	vault_lease_release(l, vf->f->id);
	r->ttl_ms = s->ttl_ms;
	r->exact = s->exact;
	return 0;
}

static void fetch_take(struct vault_fetch *vf, const struct http_response *resp, const struct vault_reply *reply)
{
	struct vault_secret s = { .ttl_ms = -1, .end_ms = -1 };
	struct fetch_result r = { .ttl_ms = -1, .lease_ms = -1 };
	struct error why = ERROR_INIT;
	char path[PATH_SHOWN_MAX];
	int e = vault_reply_secret(reply, resp->status, vf->kind, vf->f->fields, vf->f->n_fields,
	                           clock_real_ns() / 1000000000, &s, &why);

	shown(vf->f->id, path);
	if (e < 0) {
		if (why.code)
			(void)error_set(&vf->why, -e, "%s: %s", path, why.text);
		else if (e == -ENOKEY)
			(void)error_set(&vf->why, ENOKEY, "%s: there is no such secret", path);
		else
			(void)error_set(&vf->why, -e, "%s: %s", path, strerror(-e));
		fetch_fail(vf, e == -ENOMEM ? EIO : -e, e != -ENOKEY && e != -EKEYREVOKED);
		return;
	}
	r.values = secret_values_new(s.fields, s.n_fields, NULL, 0);
	if (!r.values || fill_lease(vf, reply, &s, &r) < 0) {
		secret_values_unref(r.values);
		vault_secret_done(&s);
		fetch_fail_memory(vf);
		return;
	}
	vault_secret_done(&s);
	fetch_done(vf, &r);
}

static void on_fetched(void *arg, const struct http_response *r, const struct vault_reply *reply)
{
	struct vault_fetch *vf = arg;

	vf->request = NULL;
	if (!r->err && (r->status == 200 || r->status == 204 || r->status == 404)) {
		vault_auth_proved(vf->v->auth, vf->token);
		fetch_take(vf, r, reply);
	} else if (!r->err && r->status == 403) {
		on_forbidden(vf, r, reply);
	} else {
		fetch_fail_by(vf, r, reply);
	}
}

static void fetch_read(struct vault_fetch *vf, const struct vault_mount *m)
{
	struct vault_target t;
	struct error why = ERROR_INIT;
	char path[PATH_SHOWN_MAX];
	int e = vault_path_target(vf->f->id, m, &t, &why);

	if (e == 0) {
		vf->kind = t.kind;
		vf->request = vault_request_start(vf->v, t.write ? "POST" : "GET", t.path.data, buf_slice(&t.body),
		                                  vault_token_id(vf->token), t.kind == VAULT_OTHER, left_ms(vf), on_fetched,
		                                  vf);
		vault_target_done(&t);
	}
	if (e < 0 && e != -ENOMEM) {
		(void)error_set(&vf->why, EIO, "%s: %s", shown(vf->f->id, path), why.code ? why.text : strerror(-e));
		fetch_fail(vf, EIO, false);
	} else if (!vf->request) {
		fetch_fail_memory(vf);
	}
}

static void fetch_mount(struct vault_fetch *vf)
{
	struct vault_mount m;
	struct mount_query *mq;
	bool old;

	if (!mount_find(vf->v, vf->f->id, &m, &old)) {
		mount_ask(vf);
		return;
	}
	mq = old ? query_new(vf, path_of(vf->f->id).len) : NULL;
	if (mq)
		mq->again = true;
	fetch_read(vf, &m);
}

static void on_token(void *arg, int err, const char *text, struct vault_token *t)
{
	struct vault_fetch *vf = arg;

	vf->wait = NULL;
	if (err) {
		(void)error_set(&vf->why, err, "%s", text);
		fetch_fail(vf, err == ENOMEM || err == EINVAL ? EIO : err, true);
		return;
	}
	vf->token = t;
	fetch_mount(vf);
}

static void fetch_token(struct vault_fetch *vf)
{
	int r;

	vault_token_unref(vf->token);
	vf->token = NULL;
	r = vault_auth_need(vf->v->auth, on_token, vf, &vf->token, &vf->wait);
	if (r < 0)
		fetch_fail_memory(vf);
	else if (r == 0)
		fetch_mount(vf);
}

static int vault_fetch_start(void *self, struct fetch *f)
{
	struct vault *v = self;
	struct vault_fetch *vf = calloc(1, sizeof(*vf));

	if (!vf)
		return -ENOMEM;
	vf->later = loop_timer_new(v->env->loop, on_later, vf);
	if (!vf->later) {
		free(vf);
		return -ENOMEM;
	}
	vf->v = v;
	vf->f = f;
	vf->deadline_ms = clock_mono_ms() + f->deadline_ms;
	list_init(&vf->query_node);
	list_append(&v->fetches, &vf->node);
	f->priv = vf;
	vf->within = true;
	fetch_token(vf);
	vf->within = false;
	return 0;
}

static void vault_fetch_cancel(void *self, struct fetch *f)
{
	(void)self;
	if (f->priv)
		fetch_free(f->priv);
	f->priv = NULL;
}

/* ---- the instance ---- */

struct warning {
	struct list node;
	char text[];
};

static void add_warning(struct vault *v, const char *text)
{
	struct warning *w;

	if (!v->env->host || !(w = malloc(sizeof(*w) + strlen(text) + 1)))
		return;
	strcpy(w->text, text);
	list_append(&v->warnings, &w->node);
}

static void on_warning(void *arg, const char *text)
{
	struct vault *v = arg;

	if (v->n_warnings++ < WARNINGS_MAX)
		add_warning(v, text);
}

static void on_warn_timer(void *arg)
{
	struct vault *v = arg;

	while (!list_empty(&v->warnings)) {
		struct warning *w = list_entry(v->warnings.next, struct warning, node);

		list_remove(&w->node);
		vault_tell(v, PROVIDER_WARNING, "%s", w->text);
		free(w);
	}
}

static void on_server(void *arg, const char *text)
{
	struct vault *v = arg;

	if (text) {
		vault_tell(v, PROVIDER_WARNING, "no answer: %s", text);
		return;
	}
	vault_tell(v, PROVIDER_INFO, "the server answers again");
	vault_auth_connected(v->auth);
	if (v->env->host)
		v->env->host->healed(v->env->host_arg);
}

static void on_token_moved(void *arg, struct vault_token *t)
{
	struct vault *v = arg;

	vault_leases_token_moved(v->leases, t);
}

static void vault_close(void *self)
{
	struct vault *v = self;

	while (!list_empty(&v->queries))
		query_free(list_entry(v->queries.next, struct mount_query, node));
	vault_leases_free(v->leases);
	vault_auth_free(v->auth);
	server_free(v->server);
	strmap_free(v->mounts, free);
	loop_timer_free(v->warn_timer);
	while (!list_empty(&v->warnings)) {
		struct warning *w = list_entry(v->warnings.next, struct warning, node);

		list_remove(&w->node);
		free(w);
	}
	vault_settings_done(&v->settings);
	free(v);
}

static bool wants_tls(const struct vault_settings *s)
{
	for (size_t i = 0; i < s->n_addresses; i++)
		if (strncasecmp(s->addresses[i], "https://", 8) == 0)
			return true;
	return false;
}

static int open_server(struct vault *v, struct error *err)
{
	const struct vault_settings *s = &v->settings;
	struct tls_settings ts = {
		.ca_cert = s->ca_cert, .ca_path = s->ca_path, .client_cert = s->client_cert, .client_key = s->client_key,
		.server_name = s->tls_server_name, .skip_verify = s->tls_skip_verify,
	};
	struct server_settings ss = {
		.addresses = (const char *const *)s->addresses, .n_addresses = s->n_addresses,
		.connections = v->env->http_connections ? v->env->http_connections : HTTP_CONNECTIONS,
		.env_proxy = v->env->http_env_proxy, .connect_ms = HTTP_CONNECT_MS,
		.probe = "/v1/sys/health?standbyok=true&perfstandbyok=true", .changed = on_server, .arg = v,
	};
	int r = wants_tls(s) ? tls_new(v->env->loop, v->env->pool, v->env->watcher, &ts, &ss.tls, err) : 0;

	if (r < 0)
		return r;
	r = server_new(v->env->loop, &ss, &v->server, err);
	if (r < 0)
		tls_free(ss.tls);
	else
		v->tls = ss.tls;
	return r;
}

static int vault_open(const struct provider_env *env, const char *class_name, const struct strmap *params,
                      void **ret_self, const char **ret_param, struct error *ret_err)
{
	struct vault *v = calloc(1, sizeof(*v));
	int r;

	*ret_param = NULL;
	if (!v)
		return error_set(ret_err, ENOMEM, "out of memory");
	v->env = env;
	list_init(&v->queries);
	list_init(&v->fetches);
	list_init(&v->warnings);
	r = vault_settings_parse(class_name, params, on_warning, v, &v->settings, ret_param, ret_err);
	if (r < 0) {
		memset(&v->settings, 0, sizeof(v->settings));
		vault_close(v);
		return r;
	}
	v->mounts = strmap_new();
	v->warn_timer = loop_timer_new(env->loop, on_warn_timer, v);
	if (!v->mounts || !v->warn_timer || vault_auth_new(v, &v->auth) < 0 || vault_leases_new(v, &v->leases) < 0) {
		vault_close(v);
		return error_set(ret_err, ENOMEM, "out of memory");
	}
	vault_auth_on_token(v->auth, on_token_moved, v);
	r = open_server(v, ret_err);
	if (r < 0) {
		*ret_param = r == -EINVAL ? "address" : NULL;
		vault_close(v);
		return r;
	}
	if (v->settings.tls_skip_verify)
		add_warning(v, "the server's certificate is NOT verified (tls_skip_verify): whoever is on the way can read and "
		            "change all secrets");
	loop_timer_set(v->warn_timer, 0);
	*ret_self = v;
	return 0;
}

static int vault_map(void *self, struct slice path, struct slice key, struct buf *ret_id, struct buf *ret_field,
                     struct error *ret_err)
{
	const struct vault *v = self;

	return vault_path_map(&v->settings, path, key, ret_id, ret_field, ret_err);
}

static void vault_reads(void *self, void (*add)(void *arg, const char *path), void *arg)
{
	const struct vault *v = self;

	if (v->tls)
		tls_reads(v->tls, add, arg);
	vault_auth_reads(v->auth, add, arg);
}

static void vault_restore(void *self, struct slice name, struct slice data)
{
	vault_auth_restore(((struct vault *)self)->auth, name, data);
}

static int vault_adopt(void *self, struct slice id, struct slice state, int64_t lease_ms)
{
	return vault_lease_adopt(((struct vault *)self)->leases, id, state, lease_ms);
}

static void vault_release(void *self, struct slice id)
{
	vault_lease_release(((struct vault *)self)->leases, id);
}

static void vault_status(void *self, struct provider_status *ret)
{
	const struct vault *v = self;
	struct server_status s;

	vault_auth_status(v->auth, ret);
	server_get_status(v->server, &s);
	ret->address = s.address;
	ret->insecure = s.insecure;
	if (s.open) { /* a login that fails fails by it */
		ret->error = s.error;
		ret->error_since_ns = s.since_ns;
	}
	ret->leases = vault_leases_count(v->leases);
	ret->requests = v->requests;
	ret->request_failures = v->request_failures;
	unsigned long renewals, failures;
	vault_leases_counters(v->leases, &renewals, &failures);
	ret->renewals += renewals;
	ret->renewal_failures += failures;
}

const struct provider_ops provider_vault = {
	.name = "vault",
	.classes = vault_classes,
	.open = vault_open,
	.map = vault_map,
	.reads = vault_reads,
	.fetch = vault_fetch_start,
	.cancel = vault_fetch_cancel,
	.close = vault_close,
	.network = true,
	.restore = vault_restore,
	.adopt = vault_adopt,
	.release = vault_release,
	.status = vault_status,
};
