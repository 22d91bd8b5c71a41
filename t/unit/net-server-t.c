/*
 * Tests of src/net/server.h, against servers in threads (http-peer.h).
 */
#include "http-help.h"

#include <openssl/x509v3.h>

#include "base/pool.h"
#include "net/server.h"

static struct peer a, b;
static struct server *server;
static struct pool *pool;
static int opened, closed;
static int64_t probe_ms; /* 0: as it is by default */
static char opened_by[ERROR_TEXT_MAX + 1];

static int setup(void **state)
{
	(void)state;
	opened = closed = 0;
	probe_ms = 0;
	if (http_global_init() < 0 || loop_new(&loop) < 0 || pool_new(loop, &pool) < 0)
		return -1;
	peer_start(&a, NULL, 0);
	peer_start(&b, NULL, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	server_free(server);
	server = NULL;
	pool_free(pool);
	peer_stop(&a);
	peer_stop(&b);
	loop_free(loop);
	return 0;
}

static void on_changed(void *arg, const char *text)
{
	(void)arg;
	if (text)
		snprintf(opened_by, sizeof(opened_by), "%s", text);
	opened += text != NULL;
	closed += text == NULL;
}

static void make(const char *first, const char *second, struct tls *tls)
{
	const char *const addresses[] = { first, second };
	const struct server_settings s = { .addresses = addresses, .n_addresses = second ? 2 : 1, .tls = tls, .connections = 4,
	                                   .probe = "/status/200", .changed = on_changed, .connect_ms = probe_ms };
	struct error err = ERROR_INIT;

	assert_int_equal(server_new(loop, &s, &server, &err), 0);
}

static struct server_call *start(const struct server_request *how, const char *path, struct got *g)
{
	static const struct http_header h = { "X-Vault-Token", { "HEADER-CANARY", 13 } };
	struct server_request req = *how;
	struct server_call *c;

	req.method = req.method ? req.method : "GET";
	req.path = path;
	req.headers = &h;
	req.n_headers = 1;
	req.deadline_ms = req.deadline_ms ? req.deadline_ms : 60000;
	*g = (struct got){ .then = g->then };
	c = server_start(server, &req, note, g);
	assert_non_null(c);
	assert_int_equal(g->told, 0);
	return c;
}

static const struct server_request plain, once = { .once = true };

static void get(const char *path, struct got *g)
{
	start(&plain, path, g);
	run_until(g->told);
}

static void get_once(const char *path, struct got *g)
{
	start(&once, path, g);
	run_until(g->told);
}

static int asked(struct peer *p)
{
	return atomic_exchange(&p->requests, 0);
}

static bool is_open(void)
{
	struct server_status s;

	server_get_status(server, &s);
	assert_true(s.open == (s.error != NULL));
	return s.open;
}

static const char *first_address(void)
{
	struct server_status s;

	server_get_status(server, &s);
	return s.address;
}

/* --- addresses ---------------------------------------------------------------------------- */

static void test_first_is_asked(void **state)
{
	struct got g = { 0 };
	struct server_status s;

	(void)state;
	make(a.base, b.base, NULL);
	for (int i = 0; i < 3; i++) {
		get("/ok", &g);
		assert_int_equal(g.err, 0);
		assert_string_equal(g.body, "{\"data\":1}");
	}
	assert_int_equal(asked(&a), 3);
	assert_int_equal(asked(&b), 0);
	server_get_status(server, &s);
	assert_string_equal(s.address, a.base);
	assert_false(s.open);
	assert_false(s.insecure);
	assert_true(s.since_ns == 0);
	assert_int_equal(s.http.connections, 1);
}

static void test_next_is_asked(void **state)
{
	struct got g = { 0 };

	(void)state;
	make(a.base, b.base, NULL);
	peer_stop(&a);
	get("/ok", &g);
	assert_int_equal(g.err, 0);
	assert_string_equal(first_address(), b.base); /* and it stays the first */
	peer_start(&a, NULL, a.port);
	get("/ok", &g);
	assert_int_equal(asked(&a), 0);
	assert_int_equal(asked(&b), 2);
	/* What is sealed is no better than what is down; by whichever way, nobody has been told of an outage. */
	atomic_store(&b.mode, 503);
	get("/ok", &g);
	assert_int_equal(g.status, 200);
	assert_string_equal(first_address(), a.base);
	assert_int_equal(opened, 0);
	/* Something that makes something goes on to the next, if it was not sent */
	peer_stop(&a);
	atomic_store(&b.mode, 0);
	get_once("/ok", &g);
	assert_int_equal(g.status, 200);
}

static void test_bad_addresses(void **state)
{
	static const char *const bad[] = {
		"", "host:8200", "ftp://host", "https://", "http://:80", "http://u:CANARY@host", "http://host/v1", "http://host/?q",
		"http://host:0", "http://host:65536", "http://host:80x", "http://ho st", "unix://x", "unix:CANARY",
		"CANARY", "https://host", /* without TLS */
	};
	struct server_settings s = { .n_addresses = 1, .probe = "/", .connections = 1 };
	struct server *none = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct error err = ERROR_INIT;

		s.addresses = &bad[i];
		if (server_new(loop, &s, &none, &err) != -EINVAL)
			fail_msg("taken: %s", bad[i]);
		assert_true(strlen(err.text) > 0);
		assert_null(strstr(err.text, "CANARY"));
	}
	s.n_addresses = 0;
	assert_int_equal(server_new(loop, &s, &none, NULL), -EINVAL);
	assert_null(none);
}

/* --- the circuit -------------------------------------------------------------------------- */

static void test_circuit(void **state)
{
	struct got g = { 0 }, many[20] = { { 0 } };
	struct server_status s;

	(void)state;
	make(a.base, b.base, NULL);
	peer_stop(&a);
	peer_stop(&b);
	get("/ok", &g);
	assert_int_equal(g.err, ECONNREFUSED);
	assert_false(g.sent);
	assert_true(is_open());
	run_until(opened == 1);
	assert_non_null(strstr(opened_by, "refused"));
	server_get_status(server, &s);
	assert_true(s.since_ns > 0);
	/* Whoever comes now is told at once, and costs nothing. */
	for (int i = 0; i < 20; i++)
		start(&plain, "/ok", &many[i]);
	for (int i = 0; i < 20; i++) {
		run_until(many[i].told);
		assert_int_equal(many[i].err, ECONNREFUSED);
	}
	server_get_status(server, &s);
	assert_true(s.http.calls <= 2 + s.probes);
	peer_start(&b, NULL, b.port);
	run_until(closed == 1);
	assert_false(is_open());
	assert_string_equal(first_address(), b.base);
	assert_int_equal(asked(&b), 1); /* the probe */
	server_get_status(server, &s);
	assert_true(s.probes >= 1);
	get("/ok", &g);
	assert_int_equal(g.err, 0);
	assert_int_equal(opened, 1);
}

static void test_sealed(void **state)
{
	struct got g = { 0 };

	(void)state;
	make(a.base, NULL, NULL);
	atomic_store(&a.mode, 503);
	get("/ok", &g);
	assert_int_equal(g.err, 0);
	assert_int_equal(g.status, 503);
	assert_int_equal(asked(&a), 1);
	assert_true(is_open());
	get("/ok", &g);
	assert_int_equal(g.err, EIO);
	assert_non_null(strstr(g.text, "503"));
	run_until(atomic_load(&a.requests) > 0); /* a probe, which finds the same */
	run_for(50);
	assert_true(is_open());
	atomic_store(&a.mode, 0);
	run_until(closed == 1);
	get("/ok", &g);
	assert_int_equal(g.status, 200);
}

static void test_back_off_grows_until_a_request_ends_well(void **state)
{
	struct got g = { 0 };
	struct server_status s;

	(void)state;
	make(a.base, NULL, NULL);
	/* Each time it closes by a probe, and opens with the next request */
	for (int i = 0; i < 3; i++) {
		get("/status/503", &g);
		assert_true(is_open());
		run_until(closed == i + 1);
	}
	server_get_status(server, &s);
	assert_int_equal(s.probes, 3);
	get("/ok", &g);
	assert_int_equal(g.err, 0);
}

/* One secret that takes too long is no outage of all. */
static void test_slow_request(void **state)
{
	const struct server_request soon = { .deadline_ms = 100 }, at_once = { .deadline_ms = 1 };
	static struct got hanging[5];
	struct got g = { 0 };

	(void)state;
	make(a.base, NULL, NULL);
	start(&soon, "/hang", &g);
	run_until(g.told);
	assert_int_equal(g.err, ETIMEDOUT);
	assert_true(g.sent);
	run_until(atomic_load(&a.requests) >= 2); asked(&a); /* a probe looks */
	run_for(50);
	assert_int_equal(opened, 0);
	get("/ok", &g);
	assert_int_equal(g.err, 0);
	/* Nor are four that hang and one that waits behind them */
	for (int i = 0; i < 4; i++)
		hanging[i].then = NULL;
	struct server_call *calls[4];
	for (int i = 0; i < 4; i++)
		calls[i] = start(&plain, "/hang", &hanging[i]);
	run_until(atomic_load(&a.requests) == 1 + 4);
	start(&at_once, "/ok", &g);
	run_until(g.told);
	assert_int_equal(g.err, ETIMEDOUT);
	assert_false(g.sent);
	run_until(atomic_load(&a.requests) == 1 + 5); /* the probe does not wait */
	run_for(50);
	assert_int_equal(opened, 0);
	for (int i = 0; i < 4; i++)
		server_cancel(calls[i]);
}

static void test_server_that_hangs(void **state)
{
	const struct server_request soon = { .deadline_ms = 100 };
	struct got g = { 0 };

	(void)state;
	probe_ms = 300;
	make(a.base, b.base, NULL);
	atomic_store(&a.mode, -1);
	start(&soon, "/ok", &g);
	run_until(g.told);
	/* Not the request, which may have had no time for both: the probe finds the one that answers */
	run_until(strcmp(first_address(), b.base) == 0);
	assert_int_equal(opened, 0);
	atomic_store(&b.mode, -1);
	start(&soon, "/ok", &g);
	run_until(g.told);
	assert_int_equal(g.err, ETIMEDOUT);
	run_until(opened == 1);
	get("/ok", &g);
	assert_int_equal(g.err, ETIMEDOUT);
}

/* --- trying again ------------------------------------------------------------------------- */

static void test_not_now(void **state)
{
	static const int statuses[] = { 412, 429, 500, 502, 504 };
	struct got g = { 0 };
	char path[64];

	(void)state;
	make(a.base, NULL, NULL);
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		snprintf(path, sizeof(path), "/flaky/2/%d", statuses[i]);
		atomic_store(&a.flaky, 0);
		get(path, &g);
		assert_int_equal(g.status, 200);
		assert_int_equal(asked(&a), 3);
		path[7] = '3';
		atomic_store(&a.flaky, 0);
		get(path, &g);
		assert_int_equal(g.status, statuses[i]);
		assert_int_equal(asked(&a), 3);
		path[7] = '1';
		atomic_store(&a.flaky, 0);
		get_once(path, &g);
		if (statuses[i] < 500) { /* it was not acted on */
			assert_int_equal(g.status, 200);
			assert_int_equal(asked(&a), 2);
		} else {
			assert_int_equal(g.status, statuses[i]);
			assert_int_equal(asked(&a), 1);
		}
	}
	assert_int_equal(opened, 0);
	get("/status/404", &g);
	assert_int_equal(asked(&a), 1);
	get("/status/501", &g);
	assert_int_equal(asked(&a), 1);
}

static void test_retry_after(void **state)
{
	const struct server_request soon = { .deadline_ms = 5000 };
	struct got g = { 0 };
	struct server_status s;

	(void)state;
	make(a.base, NULL, NULL);
	start(&soon, "/retry/7", &g);
	run_until(g.told);
	assert_int_equal(g.status, 429); /* the answer, and no time-out: it would come too late */
	assert_int_equal(asked(&a), 1);
	get("/retry/0", &g);
	assert_int_equal(g.status, 429);
	assert_int_equal(asked(&a), 3);
	server_get_status(server, &s);
	assert_int_equal(s.retries, 2);
}

static void test_broken_answers(void **state)
{
	struct got g = { 0 };

	(void)state;
	make(a.base, b.base, NULL);
	get_once("/close", &g); /* it may have been acted on */
	assert_int_equal(g.err, EPROTO);
	assert_true(g.sent);
	assert_int_equal(atomic_load(&a.closed) + atomic_load(&b.closed), 1);
	run_for(100);
	asked(&a);
	asked(&b);
	get("/close", &g);
	assert_int_equal(g.err, EPROTO);
	/* The other has been asked as well; and libcurl sends again what a kept-alive connection swallowed. */
	assert_true(atomic_load(&a.closed) > 0 && atomic_load(&b.closed) > 0);
	assert_true(atomic_load(&a.closed) + atomic_load(&b.closed) >= 3);
	run_for(100);
	asked(&a);
	asked(&b);
	get("/cut", &g);
	assert_int_equal(g.err, EPROTO);
	assert_int_equal(g.status, 200);
	assert_int_equal(asked(&a) + asked(&b), 1 + SERVER_RETRIES);
	get_once("/cut", &g);
	assert_int_equal(asked(&a) + asked(&b), 1);
	run_for(100);
	assert_int_equal(opened, 0);
	get("/ok", &g);
	assert_int_equal(g.err, 0);
}

/* --- redirects ---------------------------------------------------------------------------- */

static void test_redirects(void **state)
{
	const struct server_request post = { .method = "POST", .body = SLICE_LIT("{\"x\":1}") };
	struct got g = { 0 };
	char path[600];

	(void)state;
	make(a.base, b.base, NULL);
	get("/redirect?/ok", &g);
	assert_int_equal(g.status, 200);
	assert_int_equal(asked(&a), 2);
	snprintf(path, sizeof(path), "/redirect?%s/echo", b.base);
	start(&post, path, &g);
	run_until(g.told);
	assert_string_equal(g.body, "{\"x\":1}");
	assert_true(peer_saw(&b, "X-Vault-Token: HEADER-CANARY"));
	assert_int_equal(strncmp(b.head, "POST /echo ", 11), 0);
	assert_int_equal(asked(&a), 1);
	assert_int_equal(asked(&b), 1);
	assert_string_equal(first_address(), b.base);
	get("/loop", &g);
	assert_int_equal(g.err, EPROTO);
	assert_int_equal(asked(&b), 1 + SERVER_REDIRECTS);
	assert_int_equal(opened, 0);
}

static void test_redirects_elsewhere(void **state)
{
	static const char *const to[] = { "http://foreign.example:8200/v1/CANARY?CANARY", "http://u:CANARY@127.0.0.1:1/x",
	                                  "//127.0.0.1/CANARY", "ftp://CANARY", "CANARY", "unix:///CANARY" };
	struct got g = { 0 };
	char path[600];

	(void)state;
	make(a.base, NULL, NULL);
	for (size_t i = 0; i < sizeof(to) / sizeof(to[0]); i++) {
		snprintf(path, sizeof(path), "/redirect?%s", to[i]);
		get(path, &g);
		assert_int_equal(g.err, EPROTO);
		if (i == 0)
			assert_non_null(strstr(g.text, "http://foreign.example:8200"));
	}
	/* Another port of the same host is another server. */
	snprintf(path, sizeof(path), "/redirect?%s/ok", b.base);
	get(path, &g);
	assert_int_equal(g.err, EPROTO);
	assert_non_null(strstr(g.text, b.base));
	assert_int_equal(asked(&b), 0);
}

static SSL_CTX *self_signed(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = X509_new();

	X509_gmtime_adj(X509_getm_notBefore(x), -100);
	X509_gmtime_adj(X509_getm_notAfter(x), 100000);
	X509_set_pubkey(x, key);
	X509_sign(x, key, EVP_sha256());
	assert_int_equal(SSL_CTX_use_certificate(ctx, x), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
	X509_free(x);
	EVP_PKEY_free(key);
	return ctx;
}

static void test_never_from_https_to_http(void **state)
{
	const struct tls_settings ts = { .skip_verify = true };
	SSL_CTX *ctx = self_signed();
	struct server_status s;
	struct tls *tls = NULL;
	struct got g = { 0 };
	char path[600];

	(void)state;
	peer_stop(&a);
	peer_start(&a, ctx, 0);
	assert_int_equal(tls_new(loop, pool, NULL, &ts, &tls, NULL), 0);
	make(a.base, b.base, tls);
	server_get_status(server, &s);
	assert_true(s.insecure);
	get("/ok", &g);
	assert_int_equal(g.err, 0);
	snprintf(path, sizeof(path), "/redirect?%s/ok", b.base);
	get(path, &g);
	assert_int_equal(g.err, EPROTO);
	assert_non_null(strstr(g.text, "https to http"));
	assert_int_equal(asked(&b), 0);
	server_free(server);
	server = NULL;
	peer_stop(&a);
	SSL_CTX_free(ctx);
}

/* --- at any moment ------------------------------------------------------------------------ */

static void test_cancel(void **state)
{
	static const char *const paths[] = { "/ok", "/hang", "/retry/1", "/loop", "/close", "/status/503" };
	struct got g = { 0 };

	(void)state;
	make(a.base, b.base, NULL);
	for (int turns = 0; turns < 8; turns++) {
		for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
			struct server_call *c = start(&plain, paths[i], &g);

			for (int k = 0; k < turns && !g.told; k++)
				loop_run_once(loop, 0);
			if (!g.told)
				server_cancel(c);
		}
	}
	run_until(!is_open());
	get("/ok", &g);
	assert_int_equal(g.err, 0);
}

static void test_free_while_it_probes(void **state)
{
	struct got g = { 0 };

	(void)state;
	make(a.base, NULL, NULL);
	atomic_store(&a.mode, 503);
	get("/ok", &g);
	asked(&a);
	atomic_store(&a.mode, -1);
	run_until(atomic_load(&a.requests) == 1);
	server_free(server);
	server = NULL;
	run_for(20);
}

static void free_server(struct got *g)
{
	(void)g;
	server_free(server);
	server = NULL;
}

static void test_free_from_within_done(void **state)
{
	static const char *const paths[] = { "/ok", "/status/503", "/close", "/redirect?http://x/" };
	struct got g = { .then = free_server };

	(void)state;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		make(a.base, NULL, NULL);
		get(paths[i], &g);
		assert_null(server);
	}
	make(a.base, NULL, NULL);
	peer_stop(&a);
	get("/ok", &g);
	assert_null(server);
	g.then = NULL;
	make(a.base, NULL, NULL);
	get("/ok", &g);
	g.then = free_server;
	get("/ok", &g); /* refused by the circuit */
	assert_null(server);
	run_for(20);
}

static void test_encode(void **state)
{
	struct buf out;

	(void)state;
	buf_init(&out, 1000);
	assert_int_equal(server_encode(&out, slice_of("a/b ?#%\xc3\xa4+~-._\0z", 16), false), 0);
	assert_string_equal(out.data, "a%2Fb%20%3F%23%25%C3%A4%2B~-._%00z");
	buf_reset(&out);
	assert_int_equal(server_encode(&out, SLICE_LIT("a/b c"), true), 0);
	assert_string_equal(out.data, "a/b%20c");
	buf_free(&out);
	buf_init(&out, 4);
	assert_int_equal(server_encode(&out, SLICE_LIT("a/b c"), false), -EFBIG);
	buf_free(&out);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_first_is_asked), T(test_next_is_asked), T(test_bad_addresses), T(test_circuit), T(test_sealed),
		T(test_back_off_grows_until_a_request_ends_well), T(test_slow_request), T(test_server_that_hangs),
		T(test_not_now), T(test_retry_after), T(test_broken_answers), T(test_redirects), T(test_redirects_elsewhere),
		T(test_never_from_https_to_http), T(test_cancel), T(test_free_while_it_probes), T(test_free_from_within_done),
		T(test_encode),
	};

	return cmocka_run_group_tests_name("net-server", tests, NULL, NULL);
}
