/*
 * One login: files in the pool, then one request after the other. Whatever it has got that can be got only once (an
 * unwrapped secret id) is in the material before the next step, so that a failure of that step doesn't lose it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/secmem.h"
#include "provider/vault.h"
#include "provider/vault_login.h"

enum {
	LOGIN_PATH_MAX = 4096, PATH_SHOWN_MAX = 256,
	MASK_WINDOW = 8, MASK_MIN = 4, /* so much of a secret is not shown; a shorter one can't be told from words */
};

/* What the pool does; nothing in it is anybody else's, as its thread may be stuck. */
struct reading {
	unsigned n;
	char *path[VAULT_LOGIN_FILES];
	struct buf data[VAULT_LOGIN_FILES];
	int err[VAULT_LOGIN_FILES];
	struct error why[VAULT_LOGIN_FILES];
	struct vault_login *login; /* event thread only */
};

struct vault_login {
	struct vault *v;
	struct vault_material *m;
	void (*done)(void *arg, const struct vault_login_result *r);
	void *arg;
	char *current;              /* NULL: none */
	struct pool_job *job;
	struct vault_request *request;
	char *first, *second;       /* of the files (role id and secret id, or the only one), or as the settings have them */
	char *token;
	struct vault_token_facts facts;
	bool have_facts;            /* of the login's own answer */
};

void vault_material_done(struct vault_material *m)
{
	secmem_free(m->secret_id);
	secmem_free(m->wrapping);
	*m = (struct vault_material){ NULL, NULL, false };
}

/* ---- the end ---- */

static void login_free(struct vault_login *l)
{
	if (l->job)
		pool_cancel(l->job);
	vault_request_cancel(l->request);
	secmem_free(l->current);
	secmem_free(l->first);
	secmem_free(l->second);
	secmem_free(l->token);
	free(l);
}

void vault_login_cancel(struct vault_login *l)
{
	if (l)
		login_free(l);
}

static void finish(struct vault_login *l, const struct vault_login_result *r)
{
	l->done(l->arg, r);
	login_free(l);
}

static void fail(struct vault_login *l, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void fail(struct vault_login *l, int err, const char *fmt, ...)
{
	struct error why = ERROR_INIT;
	va_list ap;

	va_start(ap, fmt);
	(void)error_vset(&why, err, fmt, ap);
	va_end(ap);
	finish(l, &(struct vault_login_result){ .err = err, .text = why.text });
}

static void fail_memory(struct vault_login *l)
{
	fail(l, ENOMEM, "login: out of memory");
}

/* By what the server said, or that it said nothing. */
static void fail_by(struct vault_login *l, const char *what, const struct http_response *r,
                    const struct vault_reply *reply)
{
	struct error why = ERROR_INIT;
	int err = r->err ? r->err : vault_is_outage(r, reply) ? EIO : EKEYREJECTED;

	vault_sentence(&why, what, r, reply);
	vault_mask(why.text, slice_str(l->first));
	vault_mask(why.text, slice_str(l->second));
	vault_mask(why.text, slice_str(l->token));
	finish(l, &(struct vault_login_result){ .err = err, .text = why.text });
}

static bool succeeded(const struct http_response *r)
{
	return !r->err && (r->status == 200 || r->status == 204);
}

/* ---- lookup-self ---- */

void vault_login_facts(const struct vault_reply *reply, struct vault_token_facts *ret)
{
	struct vault_token_facts f = { .left_ms = INT64_MAX, .looked = true };
	int64_t ttl = 0, n = 0;
	struct slice s;

	/* ttl 0 is "for ever" where there is no moment of expiry, and its last second otherwise. */
	if (vault_reply_number(reply, "ttl", &ttl) && ttl > 0 && ttl < INT64_MAX / 1000)
		f.left_ms = ttl * 1000;
	else if (vault_reply_string(reply, "expire_time", &s) && s.len > 0)
		f.left_ms = 0;
	if (vault_reply_number(reply, "period", &n) && n > 0 && n < INT64_MAX / 1000)
		f.life_ms = n * 1000;
	else if (vault_reply_number(reply, "creation_ttl", &n) && n > 0 && n < INT64_MAX / 1000)
		f.life_ms = n * 1000;
	if (vault_reply_number(reply, "num_uses", &n))
		f.num_uses = n;
	(void)vault_reply_bool(reply, "renewable", &f.renewable);
	f.batch = vault_reply_string(reply, "type", &s) && slice_eq_str(s, "batch");
	*ret = f;
}

static void on_looked(void *arg, const struct http_response *r, const struct vault_reply *reply)
{
	struct vault_login *l = arg;
	struct vault_login_result res = { .err = 0 };

	l->request = NULL;
	if (succeeded(r)) {
		vault_login_facts(reply, &l->facts);
	} else if (!l->have_facts && (vault_is_outage(r, reply) || r->status != 403 ||
	                              vault_says_dead(reply))) {
		fail_by(l, "auth/token/lookup-self", r, reply);
		return;
	}
	if (!succeeded(r) && r->status == 403) /* observed: a dead one gets the bare words */
		l->facts.detailed = vault_reply_says(reply, "1 error occurred");
	res.token = slice_str(l->token);
	res.facts = l->facts;
	finish(l, &res);
}

static void look(struct vault_login *l)
{
	l->request = vault_request_start(l->v, "GET", "/v1/auth/token/lookup-self", slice_of(NULL, 0),
	                                 slice_str(l->token), false, VAULT_REQUEST_MS, on_looked, l);
	if (!l->request)
		fail_memory(l);
}

/* Something that goes into a header. */
static bool is_token(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.data[i] <= ' ' || s.data[i] == 0x7f)
			return false;
	return s.len > 0;
}

static void take_auth(struct vault_login *l, const char *what, const struct vault_reply *reply)
{
	const struct vault_auth_reply *a = &reply->auth;

	if (reply->has_auth && a->mfa) {
		fail(l, EKEYREJECTED, "%s: the server wants a second factor, which nobody can give here", what);
		return;
	}
	if (!reply->has_auth || !is_token(a->token)) {
		fail(l, EPROTO, "%s: the answer holds no token", what);
		return;
	}
	secmem_free(l->token);
	l->token = secmem_strdup(a->token);
	if (!l->token) {
		fail_memory(l);
		return;
	}
	l->have_facts = true;
	l->facts = (struct vault_token_facts){
		.left_ms = a->lease_s > 0 && a->lease_s < INT64_MAX / 1000 ? a->lease_s * 1000 : INT64_MAX,
		.life_ms = a->lease_s > 0 && a->lease_s < INT64_MAX / 1000 ? a->lease_s * 1000 : 0,
		.renewable = a->renewable, .batch = a->batch, .num_uses = a->num_uses,
	};
	look(l);
}

/* ---- the login itself ---- */

static void on_login(void *arg, const struct http_response *r, const struct vault_reply *reply)
{
	struct vault_login *l = arg;
	char what[64];

	l->request = NULL;
	(void)snprintf(what, sizeof(what), "login by %s", vault_auth_name(l->v->settings.auth));
	if (succeeded(r))
		take_auth(l, what, reply);
	else
		fail_by(l, what, r, reply);
}

static int login_path(const struct vault_settings *s, struct buf *out)
{
	(void)buf_add_str(out, "/v1/auth/");
	(void)server_encode(out, slice_str(s->auth_mount), true);
	(void)buf_add_str(out, "/login");
	if (s->auth == VAULT_AUTH_USERPASS || s->auth == VAULT_AUTH_LDAP) {
		(void)buf_add_char(out, '/');
		(void)server_encode(out, slice_str(s->username), false);
	}
	return buf_add_char(out, '\0');
}

static int login_body(const struct vault_login *l, struct buf *out)
{
	const struct vault_settings *s = &l->v->settings;

	switch (s->auth) {
	case VAULT_AUTH_APPROLE:
		(void)vault_body_add(out, "role_id", slice_str(l->first));
		if (l->second)
			(void)vault_body_add(out, "secret_id", slice_str(l->second));
		break;
	case VAULT_AUTH_KUBERNETES:
	case VAULT_AUTH_JWT:
		if (s->role)
			(void)vault_body_add(out, "role", slice_str(s->role));
		(void)vault_body_add(out, "jwt", slice_str(l->first));
		break;
	case VAULT_AUTH_CERT:
		if (s->role)
			(void)vault_body_add(out, "name", slice_str(s->role));
		break;
	default:
		(void)vault_body_add(out, "password", slice_str(l->first));
		break;
	}
	return vault_body_end(out);
}

static void log_in(struct vault_login *l)
{
	struct buf path, body;

	buf_init(&path, LOGIN_PATH_MAX);
	buf_init_secret(&body, VAULT_BODY_MAX * 2); /* escaping may double it */
	if (login_path(&l->v->settings, &path) == 0 && login_body(l, &body) == 0)
		l->request = vault_request_start(l->v, "POST", path.data, buf_slice(&body), slice_of(NULL, 0), false,
		                                 VAULT_REQUEST_MS, on_login, l);
	buf_free(&path);
	buf_free(&body);
	if (!l->request)
		fail_memory(l);
}

/* ---- wrapped tokens and secret ids ---- */

static char *wrapping_of(struct vault_login *l)
{
	return l->v->settings.auth == VAULT_AUTH_TOKEN ? l->first : l->second;
}

const char *vault_login_source(const struct vault_settings *s)
{
	const struct vault_source *src = s->auth == VAULT_AUTH_TOKEN ? &s->token : &s->secret_id;

	return src->file ? src->file : "the environment";
}

static void fail_wrapping(struct vault_login *l, const char *why)
{
	vault_tell(l->v, PROVIDER_ERROR, "the wrapping token of %s %s", vault_login_source(&l->v->settings), why);
	fail(l, EKEYREJECTED, "the wrapping token of %s %s", vault_login_source(&l->v->settings), why);
}

static void on_unwrapped(void *arg, const struct http_response *r, const struct vault_reply *reply)
{
	struct vault_login *l = arg;
	char *used = wrapping_of(l);
	struct slice s;

	l->request = NULL;
	if (!succeeded(r)) {
		if (vault_is_outage(r, reply))
			fail_by(l, "sys/wrapping/unwrap", r, reply);
		else
			fail_wrapping(l, "could not be used: somebody else has opened it");
		return;
	}
	if (l->v->settings.auth == VAULT_AUTH_TOKEN) {
		l->m->wrapping = l->first;
		l->first = NULL;
		l->m->moved = true;
		take_auth(l, "sys/wrapping/unwrap", reply);
		return;
	}
	if (!vault_reply_string(reply, "secret_id", &s) || s.len == 0) {
		fail(l, EPROTO, "sys/wrapping/unwrap: the answer holds no secret id");
		return;
	}
	vault_material_done(l->m);
	l->m->secret_id = secmem_strdup(s);
	l->m->wrapping = used;
	l->m->moved = true;
	l->second = secmem_strdup(s);
	if (!l->second || !l->m->secret_id)
		fail_memory(l);
	else
		log_in(l);
}

/* Was it made where such a thing is made? Else somebody has slipped us another. */
static bool is_expected_path(const struct vault_settings *s, struct slice path)
{
	const char *want = s->auth == VAULT_AUTH_TOKEN ? "auth/" : s->secret_id_wrapping_path;
	size_t len = strlen(want), ns = s->namespace_ ? strlen(s->namespace_) : 0;

	while (len > 0 && s->auth != VAULT_AUTH_TOKEN && want[len - 1] == '/')
		len--;
	while (*want == '/' && len > 0) {
		want++;
		len--;
	}
	if (ns > 0 && path.len > ns && memcmp(path.data, s->namespace_, ns) == 0 && path.data[ns] == '/')
		path = slice_of(path.data + ns + 1, path.len - ns - 1);
	if (path.len < len || memcmp(path.data, want, len) != 0)
		return false;
	return s->auth == VAULT_AUTH_TOKEN || path.len == len;
}

static void on_wrapping_looked(void *arg, const struct http_response *r, const struct vault_reply *reply)
{
	struct vault_login *l = arg;
	struct error why = ERROR_INIT;
	struct slice path;

	l->request = NULL;
	if (!succeeded(r)) {
		if (vault_is_outage(r, reply))
			fail_by(l, "sys/wrapping/lookup", r, reply);
		else
			fail_wrapping(l, "is not valid: it has run out, or somebody else has opened it");
		return;
	}
	if (!vault_reply_string(reply, "creation_path", &path))
		path = SLICE_LIT("an unknown path");
	if (!is_expected_path(&l->v->settings, path)) {
		(void)error_set(&why, EKEYREJECTED, "was made at %.*s and not at %s: somebody may have put it in place of another",
		                path.len < PATH_SHOWN_MAX ? (int)path.len : PATH_SHOWN_MAX, path.data,
		                l->v->settings.auth == VAULT_AUTH_TOKEN ? "auth/…" : l->v->settings.secret_id_wrapping_path);
		fail_wrapping(l, why.text);
		return;
	}
	l->request = vault_request_start(l->v, "POST", "/v1/sys/wrapping/unwrap", slice_of(NULL, 0),
	                                 slice_str(wrapping_of(l)), true, VAULT_REQUEST_MS, on_unwrapped, l);
	if (!l->request)
		fail_memory(l);
}

static void unwrap(struct vault_login *l)
{
	struct buf body;

	if (!is_token(slice_str(wrapping_of(l)))) {
		fail(l, EINVAL, "%s does not hold one wrapping token", vault_login_source(&l->v->settings));
		return;
	}
	buf_init_secret(&body, VAULT_BODY_MAX * 2);
	(void)vault_body_add(&body, "token", slice_str(wrapping_of(l)));
	if (vault_body_end(&body) == 0)
		l->request = vault_request_start(l->v, "POST", "/v1/sys/wrapping/lookup", buf_slice(&body),
		                                 slice_of(NULL, 0), false, VAULT_REQUEST_MS, on_wrapping_looked, l);
	buf_free(&body);
	if (!l->request)
		fail_memory(l);
}

/* ---- files ---- */

unsigned vault_login_files(const struct vault_settings *s, const struct vault_source *ret[VAULT_LOGIN_FILES])
{
	switch (s->auth) {
	case VAULT_AUTH_TOKEN:
		ret[0] = &s->token;
		return 1;
	case VAULT_AUTH_APPROLE:
		ret[0] = &s->role_id;
		ret[1] = &s->secret_id;
		return 2;
	case VAULT_AUTH_KUBERNETES:
	case VAULT_AUTH_JWT:
		ret[0] = &s->jwt;
		return 1;
	case VAULT_AUTH_USERPASS:
	case VAULT_AUTH_LDAP:
		ret[0] = &s->password;
		return 1;
	default:
		return 0;
	}
}

static void token_read(struct vault_login *l)
{
	if (l->v->settings.token_wrapped) {
		if (l->m->wrapping && strcmp(l->m->wrapping, l->first) == 0) {
			if (l->current)
				finish(l, &(struct vault_login_result){ .same = true });
			else
				fail(l, EKEYREJECTED, "the wrapping token of %s has been used, and the token that was in it has "
				     "ended: a new one is needed", vault_login_source(&l->v->settings));
			return;
		}
		secmem_free(l->m->wrapping);
		l->m->wrapping = NULL;
		unwrap(l);
		return;
	}
	if (!is_token(slice_str(l->first))) {
		fail(l, EINVAL, "%s does not hold one token", vault_login_source(&l->v->settings));
		return;
	}
	if (l->current && strcmp(l->current, l->first) == 0) {
		finish(l, &(struct vault_login_result){ .same = true });
		return;
	}
	l->token = l->first;
	l->first = NULL;
	l->facts.left_ms = INT64_MAX;
	look(l);
}

static void secret_id_read(struct vault_login *l)
{
	struct vault_material *m = l->m;
	bool wrapped = l->v->settings.secret_id_wrapping_path && l->v->settings.secret_id.file;

	if (wrapped && l->second && !(m->wrapping && strcmp(m->wrapping, l->second) == 0)) {
		unwrap(l);
		return;
	}
	if (!wrapped && l->second) {
		if (!m->secret_id || strcmp(m->secret_id, l->second) != 0) {
			vault_material_done(m);
			m->secret_id = secmem_strdup(slice_str(l->second));
			m->moved = true;
			if (!m->secret_id) {
				fail_memory(l);
				return;
			}
		}
		log_in(l);
		return;
	}
	/* The file is gone, or its wrapping token was opened by us before. */
	secmem_free(l->second);
	l->second = m->secret_id ? secmem_strdup(slice_str(m->secret_id)) : NULL;
	if (!l->second && m->secret_id)
		fail_memory(l);
	else
		log_in(l);
}

/* 0: it is there (or need not be); else the login has failed. */
static int take_read(struct vault_login *l, const struct reading *rd, const struct vault_source *src, unsigned *file,
                     char **to)
{
	const struct vault_settings *s = &l->v->settings;
	struct slice text = slice_str(src->value);
	unsigned i;

	if (src->file) {
		i = (*file)++;
		if (rd->err[i] == -ENOENT && src == &s->secret_id && l->m->secret_id)
			return 0; /* removed after it was read */
		if (rd->err[i] < 0) {
			fail(l, rd->err[i] == -ENOMEM ? ENOMEM : EIO, "login: %s: %s", src->file,
			     rd->why[i].code ? rd->why[i].text : strerror(-rd->err[i]));
			return -1;
		}
		text = buf_slice(&rd->data[i]);
		while (text.len > 0 && strchr(" \t\r\n", text.data[text.len - 1]))
			text.len--;
		if (text.len == 0 || memchr(text.data, '\0', text.len)) {
			fail(l, EINVAL, "login: %s %s", src->file, text.len ? "holds a NUL character" : "is empty");
			return -1;
		}
	} else if (!src->value) {
		return 0;
	}
	*to = secmem_strdup(text);
	if (!*to)
		fail_memory(l);
	return *to ? 0 : -1;
}

static void on_read(int result, void *arg)
{
	struct reading *rd = arg;
	struct vault_login *l = rd->login;
	const struct vault_source *src[VAULT_LOGIN_FILES];
	unsigned n = vault_login_files(&l->v->settings, src), file = 0;

	l->job = NULL;
	if (result < 0) {
		fail(l, ETIMEDOUT, "login: %s: no answer from the file system", rd->n ? rd->path[0] : "");
		return;
	}
	if (n > 0 && take_read(l, rd, src[0], &file, &l->first) < 0)
		return;
	if (n > 1 && take_read(l, rd, src[1], &file, &l->second) < 0)
		return;
	if (n > 0 && !l->first)
		fail(l, EINVAL, "login by %s: there is no %s", vault_auth_name(l->v->settings.auth),
		     l->v->settings.auth == VAULT_AUTH_TOKEN ? "token" : "credential");
	else if (l->v->settings.auth == VAULT_AUTH_TOKEN)
		token_read(l);
	else if (l->v->settings.auth == VAULT_AUTH_APPROLE)
		secret_id_read(l);
	else
		log_in(l);
}

static int read_work(void *arg)
{
	struct reading *rd = arg;

	for (unsigned i = 0; i < rd->n; i++)
		rd->err[i] = file_read_all(rd->path[i], &rd->data[i], NULL, &rd->why[i]);
	return 0;
}

static void reading_free(void *arg)
{
	struct reading *rd = arg;

	for (unsigned i = 0; i < VAULT_LOGIN_FILES; i++) {
		buf_free(&rd->data[i]);
		free(rd->path[i]);
	}
	free(rd);
}

static struct reading *reading_new(struct vault_login *l)
{
	const struct vault_source *src[VAULT_LOGIN_FILES];
	unsigned n = vault_login_files(&l->v->settings, src);
	struct reading *rd = calloc(1, sizeof(*rd));

	if (!rd)
		return NULL;
	rd->login = l;
	for (unsigned i = 0; i < VAULT_LOGIN_FILES; i++)
		buf_init_secret(&rd->data[i], VAULT_CREDENTIAL_MAX);
	for (unsigned i = 0; i < n; i++) {
		if (!src[i]->file)
			continue;
		rd->path[rd->n] = strdup(src[i]->file);
		if (!rd->path[rd->n++]) {
			reading_free(rd);
			return NULL;
		}
	}
	return rd;
}

struct vault_login *vault_login_start(struct vault *v, struct vault_material *m, struct slice current,
                                      void (*done)(void *arg, const struct vault_login_result *r), void *arg)
{
	struct vault_login *l = calloc(1, sizeof(*l));
	struct reading *rd = l ? (l->v = v, reading_new(l)) : NULL;

	if (!rd)
		goto fail;
	l->m = m;
	l->done = done;
	l->arg = arg;
	m->moved = false;
	if (current.len > 0 && !(l->current = secmem_strdup(current)))
		goto fail;
	l->job = pool_submit(v->env->pool, read_work, on_read, reading_free, rd, VAULT_REQUEST_MS,
	                     rd->n ? rd->path[0] : NULL, rd->n ? POOL_UNKNOWN : POOL_LOCAL);
	if (l->job)
		return l;
fail:
	if (rd)
		reading_free(rd);
	if (l)
		login_free(l);
	return NULL;
}

/* ---- after it ---- */

struct removal {
	struct vault *v;        /* this and job: event thread only */
	struct pool_job **job;
	char path[];
};

static int removal_work(void *arg)
{
	return unlink(((struct removal *)arg)->path) < 0 && errno != ENOENT ? -errno : 0;
}

static void on_removal(int result, void *arg)
{
	struct removal *rm = arg;

	*rm->job = NULL;
	if (result < 0)
		vault_tell(rm->v, PROVIDER_WARNING, "the secret id's file %s has been read, and can't be removed: %s",
		           rm->path, strerror(-result));
}

void vault_login_remove_secret_id(struct vault *v, struct pool_job **job)
{
	const char *path = v->settings.secret_id.file;
	struct removal *rm;

	if (!v->settings.remove_secret_id || !path || *job)
		return;
	rm = malloc(sizeof(*rm) + strlen(path) + 1);
	if (!rm)
		return;
	rm->v = v;
	rm->job = job;
	strcpy(rm->path, path);
	*job = pool_submit(v->env->pool, removal_work, on_removal, free, rm, VAULT_REQUEST_MS, rm->path,
	                   POOL_UNKNOWN);
	if (!*job)
		free(rm);
}

/* Whatever stretch of the secret is in the text, also where the text was cut. */
void vault_mask(char *text, struct slice secret)
{
	size_t len = strlen(text), window = secret.len < MASK_WINDOW ? secret.len : MASK_WINDOW, masked = 0;

	if (window < MASK_MIN)
		return;
	for (size_t i = 0; i + window <= len; i++) {
		if (!memmem(secret.data, secret.len, text + i, window))
			continue;
		/* What later windows are compared with stays as it is for now: only what lies before them is masked. */
		if (i > masked)
			masked = i;
		size_t end = i + window;

		while (i + 1 + window <= len && memmem(secret.data, secret.len, text + i + 1, window))
			end = ++i + window;
		memset(text + masked, '*', end - masked);
		masked = end;
		i = end - 1;
	}
}
