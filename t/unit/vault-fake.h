/*
 * For tests of the vault provider: a server that answers by a table, in place of src/net/server.c and tls.c, and a host
 * that writes down what it is told. Times are those of vault_times, which the tests shorten.
 */
#ifndef CONNECTFS_UNIT_VAULT_FAKE_H
#define CONNECTFS_UNIT_VAULT_FAKE_H

#include "provider-help.h"

#include <inttypes.h>
#include <poll.h>

#include "base/clock.h"
#include "base/secmem.h"
#include "provider/vault.h"

/* ---- the server ---- */

enum { RULES_MAX = 64, FAKE_LOG_MAX = 1 << 16 };

struct rule {
	const char *method, *path;
	char token[64];   /* "": none; "*": any */
	int status, err;
	char body[1024];
	int delay_ms;
	unsigned hits;
};

struct server {
	struct server_settings settings;
	char address[128];
	bool open;
};

struct server_call {
	struct rule *rule;
	struct loop_timer *timer;
	void (*done)(void *arg, const struct http_response *r);
	void *arg;
};

static struct rule rules[RULES_MAX];
static unsigned n_rules;
static size_t fake_calls;         /* under way */
static char requests[FAKE_LOG_MAX]; /* "GET /v1/x token body; " */
static struct server *fake_server;

/* The same method, path and token: another answer from now on. */
static inline struct rule *on(const char *method, const char *path, const char *token, int status, const char *body)
{
	struct rule *r = NULL;

	for (unsigned i = 0; i < n_rules; i++)
		if (!strcmp(rules[i].method, method) && !strcmp(rules[i].path, path) && !strcmp(rules[i].token, token))
			r = &rules[i];
	if (!r) {
		assert_true(n_rules < RULES_MAX);
		r = &rules[n_rules++];
	}
	*r = (struct rule){ .method = method, .path = path, .status = status };
	(void)snprintf(r->token, sizeof(r->token), "%s", token);
	(void)snprintf(r->body, sizeof(r->body), "%s", body);
	return r;
}

static inline struct rule *find_rule(const char *method, const char *path, const char *token)
{
	static struct rule none = { .status = 404, .body = "{\"errors\":[]}" };
	struct rule *best = NULL;

	for (unsigned i = 0; i < n_rules; i++) {
		struct rule *r = &rules[i];

		if (strcmp(r->method, method) || strcmp(r->path, path))
			continue;
		if (!strcmp(r->token, token))
			return r;
		if (!strcmp(r->token, "*"))
			best = r;
	}
	return best ? best : &none;
}

static inline void note(char *to, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static inline void note(char *to, size_t size, const char *fmt, ...)
{
	size_t len = strlen(to);
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(to + len, size - len, fmt, ap);
	va_end(ap);
}

/* How often the log holds it. */
static inline unsigned count(const char *log, const char *what)
{
	unsigned n = 0;

	for (const char *s = log; (s = strstr(s, what)); s += strlen(what))
		n++;
	return n;
}

int server_new(struct loop *loop, const struct server_settings *settings, struct server **ret, struct error *ret_err)
{
	struct server *s = calloc(1, sizeof(*s));

	(void)ret_err;
	assert_non_null(s);
	assert_ptr_equal(loop, env.loop);
	s->settings = *settings;
	(void)snprintf(s->address, sizeof(s->address), "%s", settings->addresses[0]);
	fake_server = *ret = s;
	return 0;
}

void server_free(struct server *s)
{
	if (!s)
		return;
	assert_int_equal(fake_calls, 0);
	fake_server = NULL;
	tls_free(s->settings.tls);
	free(s);
}

static inline void call_free(struct server_call *c)
{
	fake_calls--;
	loop_timer_free(c->timer);
	free(c);
}

static inline void on_call(void *arg)
{
	struct server_call *c = arg;
	char *body = secmem_strdup(slice_str(c->rule->body));
	struct http_response r = {
		.err = c->rule->err, .text = c->rule->err ? "the connection was refused" : NULL, .status = c->rule->status,
		.body = slice_str(body), .json = true, .retry_after_ms = -1,
	};
	void (*done)(void *arg, const struct http_response *r) = c->done;

	arg = c->arg;
	call_free(c);
	done(arg, &r);
	secmem_free(body);
}

struct server_call *server_start(struct server *s, const struct server_request *req,
                                 void (*done)(void *arg, const struct http_response *r), void *arg)
{
	struct server_call *c = calloc(1, sizeof(*c));
	char token[64] = "";

	(void)s;
	assert_non_null(c);
	for (size_t i = 0; i < req->n_headers; i++)
		if (!strcmp(req->headers[i].name, "X-Vault-Token"))
			(void)snprintf(token, sizeof(token), "%.*s", SLICE_FMT(req->headers[i].value));
		else if (!strcmp(req->headers[i].name, "X-Vault-Namespace"))
			note(requests, sizeof(requests), "[%.*s] ", SLICE_FMT(req->headers[i].value));
	note(requests, sizeof(requests), "%s %s %s%s%.*s; ", req->method, req->path, token, req->once ? " once" : "",
	     SLICE_FMT(req->body));
	c->rule = find_rule(req->method, req->path, token);
	c->rule->hits++;
	c->done = done;
	c->arg = arg;
	c->timer = loop_timer_new(env.loop, on_call, c);
	assert_non_null(c->timer);
	loop_timer_set(c->timer, c->rule->delay_ms);
	fake_calls++;
	return c;
}

void server_cancel(struct server_call *c)
{
	call_free(c);
}

void server_get_status(const struct server *s, struct server_status *ret)
{
	*ret = (struct server_status){ .address = s->address, .open = s->open, .error = s->open ? "circuit" : NULL };
}

int server_encode(struct buf *out, struct slice s, bool keep_slashes)
{
	(void)keep_slashes;
	return buf_add_slice(out, s);
}

struct tls {
	char *ca_cert;
};

int tls_new(struct loop *loop, struct pool *pool, struct watcher *watcher, const struct tls_settings *settings,
            struct tls **ret, struct error *ret_err)
{
	(void)loop, (void)pool, (void)watcher, (void)ret_err;
	*ret = calloc(1, sizeof(**ret));
	assert_non_null(*ret);
	(*ret)->ca_cert = settings->ca_cert ? strdup(settings->ca_cert) : NULL;
	return 0;
}

void tls_free(struct tls *t)
{
	if (t)
		free(t->ca_cert);
	free(t);
}

void tls_reads(const struct tls *t, void (*add)(void *arg, const char *path), void *arg)
{
	if (t->ca_cert)
		add(arg, t->ca_cert);
}

/* ---- the host ---- */

static char host_log[FAKE_LOG_MAX]; /* "healed; tell W text; lease id end replace text; " */
static struct strmap *kept;         /* name → char * */
static unsigned healed;
static int64_t host_lease_ms = -1, host_replace_ms = -1; /* of the last lease that moved */
static char host_state[8192];

static inline void fake_lease(void *arg, struct slice id, int64_t lease_ms, int64_t replace_ms, struct slice state,
                              const char *text)
{
	(void)arg;
	host_lease_ms = lease_ms;
	host_replace_ms = replace_ms;
	(void)snprintf(host_state, sizeof(host_state), "%.*s", SLICE_FMT(state));
	note(host_log, sizeof(host_log), "lease %.*s %s; ", SLICE_FMT(id), text ? text : "moved");
}

static inline void fake_healed(void *arg)
{
	(void)arg;
	healed++;
	note(host_log, sizeof(host_log), "healed; ");
}

static inline int fake_keep(void *arg, struct slice name, struct slice data)
{
	void *old = NULL;

	(void)arg;
	if (data.len == 0)
		free(strmap_del(kept, name));
	else
		assert_int_equal(strmap_put(kept, name, strndup(data.data, data.len), &old), 0);
	free(old);
	return 0;
}

static inline void fake_tell(void *arg, enum provider_level level, const char *text)
{
	(void)arg;
	note(host_log, sizeof(host_log), "tell %c %s; ", "EWI"[level], text);
}

static const struct provider_host fake_host = {
	.lease = fake_lease, .healed = fake_healed, .keep = fake_keep, .tell = fake_tell,
};

/* ---- a test's beginning and end ---- */

static const char mounts_path[] = "/v1/sys/internal/ui/mounts/secret/db";
#define MOUNT_KV2 "{\"data\":{\"path\":\"secret/\",\"type\":\"kv\",\"options\":{\"version\":\"2\"}}}"
#define LOOKUP(ttl, renewable) \
	"{\"data\":{\"ttl\":" #ttl ",\"creation_ttl\":" #ttl ",\"renewable\":" #renewable ",\"num_uses\":0,\"type\":\"service\"}}"
#define DENIED "{\"errors\":[\"permission denied\"]}"
#define NO_RIGHT "{\"errors\":[\"1 error occurred:\\n\\t* permission denied\\n\\n\"]}"
static const char lookup_self[] = "/v1/auth/token/lookup-self", renew_self[] = "/v1/auth/token/renew-self";

static inline int vault_setup(void **state)
{
	static bool once;

	if (!once)
		secmem_install_jansson();
	once = true;
	vault_times = (struct vault_times){
		.mount_ms = 60000, .mount_refused_ms = 60000, .login_min_ms = 20, .login_max_ms = 40, .forbidden_ms = 60000,
		.lookup_ms = 60000, .revoke_ms = 60000,
	};
	n_rules = 0;
	healed = 0;
	requests[0] = host_log[0] = host_state[0] = '\0';
	kept = strmap_new();
	env = (struct provider_env){ .host = &fake_host, .wait_ms = 1000 };
	if (!kept || help_setup(state) != 0)
		return -1;
	return watcher_new(env.loop, env.pool, &env.watcher);
}

static inline int vault_teardown(void **state)
{
	strmap_free(kept, free);
	watcher_free(env.watcher);
	env.watcher = NULL;
	return help_teardown(state);
}

/* Runs the loop until the condition holds. */
#define UNTIL(condition) \
	do { \
		int64_t until_ = clock_mono_ms() + 20000; \
		while (!(condition)) { \
			if (clock_mono_ms() > until_) \
				fail_msg("never: %s\n%s\n%s", #condition, requests, host_log); \
			(void)loop_run_once(env.loop, 0); \
			(void)poll(NULL, 0, 1); \
		} \
	} while (0)

static inline void run_for(int ms)
{
	int64_t until = clock_mono_ms() + ms;

	while (clock_mono_ms() < until) {
		(void)loop_run_once(env.loop, 0);
		(void)poll(NULL, 0, 1);
	}
}

/* What a fetch brought. */
struct had {
	struct fetch fetch;
	struct buf id;
	struct slice fields[HELP_FIELDS];
	bool done;
	int err;
	bool outage, exact;
	char text[ERROR_TEXT_MAX + 1];
	struct secret_values *values;
	int64_t ttl_ms, lease_ms, replace_ms;
	char state[8192];
};

static inline void had_done(struct fetch *f, const struct fetch_result *r)
{
	struct had *h = f->arg;

	assert_false(h->done);
	h->done = true;
	h->err = r->err;
	h->outage = r->outage;
	h->exact = r->exact;
	h->values = r->values;
	h->ttl_ms = r->ttl_ms;
	h->lease_ms = r->lease_ms;
	h->replace_ms = r->replace_ms;
	(void)snprintf(h->text, sizeof(h->text), "%s", r->text ? r->text : "");
	(void)snprintf(h->state, sizeof(h->state), "%.*s", SLICE_FMT(r->state));
	assert_true((r->err == 0) == (r->values != NULL));
}

static inline void ask(struct opened o, const char *path, const char *const *keys, struct had *h)
{
	struct error err = ERROR_INIT;
	size_t n = 0;

	memset(h, 0, sizeof(*h));
	if (map_it(o, path, &h->id, &err) < 0)
		fail_msg("%s", err.text);
	for (; keys[n]; n++)
		h->fields[n] = slice_str(keys[n]);
	h->fetch = (struct fetch){ .id = buf_slice(&h->id), .fields = h->fields, .n_fields = n,
	                           .deadline_ms = HELP_DEADLINE_MS, .done = had_done, .arg = h };
	assert_int_equal(o.ops->fetch(o.self, &h->fetch), 0);
	assert_false(h->done);
}

static inline struct had had(struct opened o, const char *path, const char *const *keys)
{
	struct had h;

	ask(o, path, keys, &h);
	UNTIL(h.done);
	buf_free(&h.id);
	return h;
}

/* The key "a" has this value. */
static inline struct had assert_had(struct had h, const char *want)
{
	struct slice v = { NULL, 0 };

	if (h.err)
		fail_msg("%d %s\n%s", h.err, h.text, requests);
	assert_true(secret_values_get(h.values, SLICE_LIT("a"), &v));
	if (!slice_eq_str(v, want))
		fail_msg("\"%.*s\", not \"%s\"", SLICE_FMT(v), want);
	secret_values_unref(h.values);
	return h;
}

static inline void assert_not_had(struct had h, int err, bool outage, const char *why)
{
	if (h.err != err || h.outage != outage || !strstr(h.text, why))
		fail_msg("err %d outage %d \"%s\", wanted %d %d \"%s\"\n%s", h.err, h.outage, h.text, err, outage, why, requests);
}

static inline void assert_told(const char *what)
{
	if (!strstr(host_log, what))
		fail_msg("\"%s\" is not in %s", what, host_log);
}

static inline void assert_asked(const char *what, unsigned times)
{
	if (count(requests, what) != times)
		fail_msg("\"%s\" is not %u times in %s", what, times, requests);
}

/* A token file with this token, and what is usual: KV 2 at secret/, secret/db with a = value, a token for an hour. */
static inline void usual(const char *token)
{
	put_text("token", token);
	(void)on("GET", lookup_self, token, 200, LOOKUP(3600, true));
	(void)on("GET", lookup_self, "*", 403, DENIED);
	(void)on("GET", mounts_path, "*", 403, DENIED);
	(void)on("GET", mounts_path, token, 200, MOUNT_KV2);
	(void)on("GET", "/v1/secret/data/db", "*", 403, DENIED);
	(void)on("GET", "/v1/secret/data/db", token, 200, "{\"data\":{\"data\":{\"a\":\"1\"},\"metadata\":{\"version\":1}}}");
}

static inline struct opened open_token(void)
{
	return open_with("vault", PARAMS("address", "http://127.0.0.1:8200", "token", at("token")));
}

#endif
