/*
 * Tests of src/net/http.h, without TLS, against a server in a thread (http-peer.h).
 */
#include "http-help.h"

#include <netdb.h>
#include <semaphore.h>
#include <sys/stat.h>
#include <sys/wait.h>

static struct peer peer;
static struct http *http;
static const struct http_header canary[] = { { "X-Vault-Token", { "HEADER-CANARY", 13 } } };

static void make(unsigned connections, int64_t connect_ms)
{
	const struct http_settings s = { .connections = connections, .connect_ms = connect_ms };

	assert_int_equal(http_new(loop, &s, &http), 0);
}

static int setup(void **state)
{
	(void)state;
	if (http_global_init() < 0 || loop_new(&loop) < 0)
		return -1;
	peer_start(&peer, NULL, 0);
	make(4, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	http_free(http);
	peer_stop(&peer);
	loop_free(loop);
	return 0;
}

static struct http_call *start(const char *method, const char *path, struct got *g)
{
	const struct http_request req = { .method = method, .base = peer.base, .path = path, .headers = canary,
	                                  .n_headers = 1, .deadline_ms = 60000 };
	struct http_call *c;

	*g = (struct got){ .then = g->then };
	c = http_start(http, &req, note, g);
	assert_non_null(c);
	assert_int_equal(g->told, 0);
	return c;
}

static void get(const char *path, struct got *g)
{
	start("GET", path, g);
	run_until(g->told);
	assert_int_equal(g->told, 1);
}

static int failed(const char *path, struct got *g)
{
	get(path, g);
	assert_true(strlen(g->text) > 0);
	assert_non_null(strstr(g->text, "GET"));
	assert_int_equal(g->body_len, 0);
	return g->err;
}

static void test_answer(void **state)
{
	struct got g = { 0 };

	(void)state;
	get("/ok", &g);
	assert_int_equal(g.err, 0);
	assert_int_equal(g.status, 200);
	assert_true(g.sent);
	assert_true(g.json);
	assert_string_equal(g.body, "{\"data\":1}");
	assert_true(g.retry_after_ms == -1);
	assert_true(g.date_ns == 0);
	assert_string_equal(g.location, "");
	get("/html", &g);
	assert_false(g.json);
	get("/status/404", &g);
	assert_int_equal(g.err, 0);
	assert_int_equal(g.status, 404);
	assert_string_equal(g.body, "{\"errors\":[\"BODY-CANARY\"]}");
	get("/status/204", &g);
	assert_int_equal(g.status, 204);
}

static void test_what_is_sent(void **state)
{
	struct got g = { 0 };
	const struct http_header headers[] = { { "X-Vault-Token", { "t", 1 } }, { "X-Empty", { NULL, 0 } } };
	struct http_request req = { .method = "POST", .base = peer.base, .path = "/echo?a=%20b/../c", .headers = headers,
	                            .n_headers = 2, .body = SLICE_LIT("{\"a\":1}"), .deadline_ms = 60000 };

	(void)state;
	req.path = "/echo";
	http_start(http, &req, note, &g);
	run_until(g.told);
	assert_string_equal(g.body, "{\"a\":1}");
	assert_true(g.json); /* +json */
	assert_int_equal(strncmp(peer.head, "POST /echo HTTP/1.1\r\n", 21), 0);
	assert_true(peer_saw(&peer, "X-Vault-Token: t"));
	assert_true(peer_saw(&peer, "X-Empty:"));
	assert_true(peer_saw(&peer, "Content-Type: application/json"));
	assert_true(peer_saw(&peer, "Content-Length: 7"));
	assert_null(strcasestr(peer.head, "\r\nExpect:"));
	assert_null(strcasestr(peer.head, "\r\nAccept-Encoding:"));
	/* The same handle again, now without a body, and a path as it is */
	req = (struct http_request){ .method = "LIST", .base = peer.base, .path = "/status/200/./a/../%2e?x=%2F",
	                             .deadline_ms = 60000 };
	g = (struct got){ 0 };
	http_start(http, &req, note, &g);
	run_until(g.told);
	assert_int_equal(strncmp(peer.head, "LIST /status/200/./a/../%2e?x=%2F HTTP/1.1\r\n", 44), 0);
	assert_null(strcasestr(peer.head, "X-Vault-Token"));
	assert_null(strcasestr(peer.head, "Content-Type"));
	/* None, but such as must have one */
	req = (struct http_request){ .method = "PUT", .base = peer.base, .path = "/ok", .deadline_ms = 60000 };
	g = (struct got){ 0 };
	http_start(http, &req, note, &g);
	run_until(g.told);
	assert_true(peer_saw(&peer, "Content-Length: 0"));
}

static void test_long_body_is_sent_without_expect(void **state)
{
	static char body[12000];
	struct got g = { 0 };
	const struct http_request req = { .method = "POST", .base = peer.base, .path = "/ok", .deadline_ms = 60000,
	                                  .body = { body, sizeof(body) } };

	(void)state;
	memset(body, 'b', sizeof(body));
	http_start(http, &req, note, &g);
	run_until(g.told);
	assert_int_equal(g.err, 0);
	assert_int_equal(peer.body_len, sizeof(body));
	assert_null(strcasestr(peer.head, "\r\nExpect:"));
}

static void test_headers_of_answers(void **state)
{
	struct got g = { 0 };
	char path[600] = "/redirect?";

	(void)state;
	get("/retry/7", &g);
	assert_int_equal(g.status, 429);
	assert_int_equal(g.retry_after_ms, 7000);
	get("/retry-date", &g);
	assert_int_equal(g.retry_after_ms, 30000);
	assert_true(g.date_ns == 1700000000LL * 1000000000);
	get("/redirect?https://other/x?y=1", &g);
	assert_int_equal(g.status, 307);
	assert_string_equal(g.location, "https://other/x?y=1");
	assert_int_equal(atomic_load(&peer.requests), 3); /* it was not followed */
	memset(path + 10, 'p', 500);
	get(path, &g);
	assert_string_equal(g.location, path + 10);
	get("/interim", &g);
	assert_int_equal(g.status, 200);
	assert_false(g.json);
	assert_true(g.retry_after_ms == -1);
}

static void test_connections_are_kept(void **state)
{
	struct got g = { 0 };
	struct http_stats s;

	(void)state;
	for (int i = 0; i < 20; i++)
		get("/ok", &g);
	assert_int_equal(atomic_load(&peer.connections), 1);
	http_get_stats(http, &s);
	assert_int_equal(s.connections, 1);
	assert_int_equal(s.calls, 20);
	assert_int_equal(s.failures, 0);
	assert_int_equal(s.active, 0);
}

static void test_no_more_than_so_many_at_a_time(void **state)
{
	static struct got g[12];
	struct http_call *hanging[4];
	struct http_stats s;

	(void)state;
	for (int i = 0; i < 4; i++)
		hanging[i] = start("GET", "/hang", &g[i]);
	for (int i = 4; i < 12; i++)
		start("GET", "/ok", &g[i]);
	run_until(atomic_load(&peer.requests) == 4);
	http_get_stats(http, &s);
	assert_int_equal(s.active, 4);
	assert_int_equal(s.queued, 8);
	run_for(50);
	for (int i = 4; i < 12; i++)
		assert_int_equal(g[i].told, 0);
	http_cancel(hanging[0]);
	for (int i = 4; i < 12; i++)
		run_until(g[i].told);
	http_get_stats(http, &s);
	assert_int_equal(s.queued, 0);
	assert_int_equal(s.active, 3);
	assert_true(atomic_load(&peer.connections) <= 5);
	for (int i = 1; i < 4; i++)
		http_cancel(hanging[i]);
	for (int i = 0; i < 4; i++)
		assert_int_equal(g[i].told, 0);
}

static void test_urgent_does_not_wait(void **state)
{
	static struct got g[5], urgent;
	struct http_call *hanging[4];
	const struct http_request req = { .method = "GET", .base = peer.base, .path = "/ok", .deadline_ms = 60000,
	                                  .urgent = true };

	(void)state;
	for (int i = 0; i < 4; i++)
		hanging[i] = start("GET", "/hang", &g[i]);
	start("GET", "/ok", &g[4]);
	run_until(atomic_load(&peer.requests) == 4);
	http_start(http, &req, note, &urgent);
	run_until(urgent.told);
	assert_int_equal(urgent.err, 0);
	assert_int_equal(g[4].told, 0);
	for (int i = 0; i < 4; i++)
		http_cancel(hanging[i]);
	run_until(g[4].told);
}

static void test_deadlines(void **state)
{
	struct got g = { 0 }, queued = { 0 };
	struct http_request req = { .method = "GET", .base = peer.base, .path = "/hang?s=CANARY", .deadline_ms = 30 };

	(void)state;
	http_free(http);
	make(1, 0);
	req.path = "/hang";
	http_start(http, &req, note, &g);
	req.path = "/ok?q=CANARY";
	req.deadline_ms = 1;
	http_start(http, &req, note, &queued);
	run_until(g.told && queued.told);
	assert_int_equal(g.err, ETIMEDOUT);
	assert_true(g.sent);
	assert_true(g.late);
	assert_non_null(strstr(g.text, "no answer in time"));
	assert_int_equal(queued.err, ETIMEDOUT);
	assert_false(queued.sent);
	assert_true(queued.late);
	assert_non_null(strstr(queued.text, "/ok"));
	/* The connection on which somebody waits for an answer yet is not used again. */
	get("/ok", &g);
	assert_int_equal(g.err, 0);
	req.path = "/slow-body";
	req.deadline_ms = 50;
	g = (struct got){ 0 };
	http_start(http, &req, note, &g);
	run_until(g.told);
	assert_int_equal(g.err, ETIMEDOUT);
	assert_true(g.sent);
	assert_int_equal(g.body_len, 0);
}

/* A socket whose queue of connections is full: the kernel drops what comes. */
static void test_no_connection_in_time(void **state)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int full = socket(AF_INET, SOCK_STREAM, 0), fill[2];
	char base[64];
	struct got g = { 0 };
	struct http_request req = { .method = "GET", .base = base, .path = "/ok", .deadline_ms = 60000 };

	(void)state;
	assert_int_equal(bind(full, (struct sockaddr *)&a, len), 0);
	assert_int_equal(listen(full, 0), 0);
	assert_int_equal(getsockname(full, (struct sockaddr *)&a, &len), 0);
	for (int i = 0; i < 2; i++) {
		fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)connect(fill[i], (struct sockaddr *)&a, len);
	}
	snprintf(base, sizeof(base), "http://127.0.0.1:%u", ntohs(a.sin_port));
	http_free(http);
	make(1, 100);
	http_start(http, &req, note, &g);
	run_until(g.told);
	assert_int_equal(g.err, ETIMEDOUT);
	assert_false(g.sent);
	assert_false(g.late);
	assert_non_null(strstr(g.text, "no connection in time"));
	/* By its own deadline */
	req.deadline_ms = 20;
	g = (struct got){ 0 };
	http_start(http, &req, note, &g);
	run_until(g.told);
	assert_int_equal(g.err, ETIMEDOUT);
	assert_false(g.sent);
	assert_true(g.late);
	for (int i = 0; i < 2; i++)
		close(fill[i]);
	close(full);
}

static void test_broken_answers(void **state)
{
	static const char *const cut[] = { "/cut", "/cut-chunk" }, *const gone[] = { "/close", "/reset" };
	struct got g = { 0 };

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(failed(cut[i], &g), EPROTO);
		assert_non_null(strstr(g.text, "cut off"));
		assert_int_equal(g.status, 200);
		assert_true(g.sent);
		assert_int_equal(failed(gone[i], &g), EPROTO);
		assert_non_null(strstr(g.text, "broke off"));
		assert_int_equal(g.status, 0);
		assert_true(g.sent);
	}
	assert_int_equal(failed("/garbage", &g), EPROTO);
	assert_non_null(strstr(g.text, "HTTP"));
	assert_true(g.sent);
	assert_int_equal(failed("/headers", &g), EPROTO);
	assert_non_null(strstr(g.text, "too long"));
	assert_int_equal(failed("/long-line", &g), EPROTO);
	assert_non_null(strstr(g.text, "too long"));
	get("/ok", &g);
	assert_int_equal(g.err, 0);
}

static void test_bodies_have_a_limit(void **state)
{
	static const char *const paths[] = { "/big", "/big-chunks" };
	struct got g = { 0 };
	struct http_request req = { .method = "GET", .base = peer.base, .deadline_ms = 60000, .max_body = PEER_BIG };

	(void)state;
	for (int i = 0; i < 2; i++) {
		req.path = paths[i];
		req.max_body = PEER_BIG;
		g = (struct got){ 0 };
		http_start(http, &req, note, &g);
		run_until(g.told);
		assert_int_equal(g.err, 0);
		assert_int_equal(g.body_len, PEER_BIG);
		req.max_body = PEER_BIG - 1;
		g = (struct got){ 0 };
		http_start(http, &req, note, &g);
		run_until(g.told);
		assert_int_equal(g.err, EPROTO);
		assert_int_equal(g.status, 200);
		assert_non_null(strstr(g.text, "too long"));
		assert_int_equal(g.body_len, 0);
	}
}

static void test_refused(void **state)
{
	struct got g = { 0 };

	(void)state;
	get("/ok", &g); /* so that the handle has sent something before */
	peer_stop(&peer);
	get("/ok", &g);
	assert_int_equal(g.err, ECONNREFUSED);
	assert_false(g.sent);
	assert_non_null(strstr(g.text, "refused"));
	assert_non_null(strstr(g.text, peer.base));
	get("/ok", &g);
	assert_int_equal(g.err, ECONNREFUSED);
	assert_false(g.sent);
}

/* By fresh nothing goes out twice; without it libcurl sends again what a dead connection has swallowed. */
static void test_dead_connections(void **state)
{
	struct got g = { 0 };
	struct http_request req = { .method = "GET", .base = peer.base, .path = "/stale", .deadline_ms = 60000,
	                            .fresh = true };

	(void)state;
	get("/stale", &g);
	assert_int_equal(g.err, 0);
	get("/stale", &g);
	assert_int_equal(g.err, 0);
	assert_int_equal(atomic_load(&peer.requests), 3);
	assert_int_equal(atomic_load(&peer.connections), 2);
	g = (struct got){ 0 };
	http_start(http, &req, note, &g);
	run_until(g.told);
	assert_int_equal(g.err, 0);
	assert_int_equal(atomic_load(&peer.requests), 4);
	assert_int_equal(atomic_load(&peer.connections), 3);
	req.path = "/close";
	g = (struct got){ 0 };
	http_start(http, &req, note, &g);
	run_until(g.told);
	assert_int_equal(g.err, EPROTO);
	assert_true(g.sent);
	assert_int_equal(atomic_load(&peer.requests), 5);
}

static void test_unix_socket(void **state)
{
	char dir[] = "/tmp/net-http-XXXXXX", path[64];
	struct peer other;
	struct got g = { 0 };
	struct http_request req = { .method = "GET", .path = "/ok", .deadline_ms = 60000 };

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	peer_start_unix(&other, path);
	req.base = other.base;
	http_start(http, &req, note, &g);
	run_until(g.told);
	assert_int_equal(g.err, 0);
	assert_string_equal(g.body, "{\"data\":1}");
	/* The next one goes by TCP again */
	get("/ok", &g);
	assert_int_equal(atomic_load(&peer.requests), 1);
	peer_stop(&other);
	unlink(path);
	g = (struct got){ 0 };
	http_start(http, &req, note, &g);
	run_until(g.told);
	assert_int_equal(g.err, ECONNREFUSED);
	assert_false(g.sent);
	rmdir(dir);
}

static void test_what_cannot_be_sent(void **state)
{
	static const struct slice bad[] = { { "a\nCANARY", 8 }, { "a\rCANARY", 8 }, { "a\0CANARY", 8 } };
	struct got g = { 0 };

	(void)state;
	for (int i = 0; i < 3; i++) {
		const struct http_header h = { "X-Vault-Token", bad[i] };
		const struct http_request req = { .method = "GET", .base = peer.base, .path = "/ok", .headers = &h,
		                                  .n_headers = 1, .deadline_ms = 60000 };

		g = (struct got){ 0 };
		assert_non_null(http_start(http, &req, note, &g));
		assert_int_equal(g.told, 0);
		run_until(g.told);
		assert_int_equal(g.err, EINVAL);
		assert_false(g.sent);
	}
	get("/a\nb", &g);
	assert_int_equal(g.err, EINVAL);
	assert_int_equal(atomic_load(&peer.requests), 0);
	const struct http_request tls = { .method = "GET", .base = "https://localhost:1", .path = "/", .deadline_ms = 60000 };
	g = (struct got){ 0 };
	http_start(http, &tls, note, &g);
	run_until(g.told);
	assert_int_equal(g.err, EINVAL);
}

static void test_environment_has_no_proxy(void **state)
{
	const struct http_settings s = { .connections = 1, .env_proxy = true };
	struct got g = { 0 };

	(void)state;
	setenv("http_proxy", "http://127.0.0.1:1", 1);
	get("/ok", &g);
	assert_int_equal(g.err, 0);
	http_free(http);
	assert_int_equal(http_new(loop, &s, &http), 0);
	get("/ok", &g);
	assert_int_equal(g.err, ECONNREFUSED);
	setenv("no_proxy", "127.0.0.1", 1);
	get("/ok", &g);
	assert_int_equal(g.err, 0);
	unsetenv("http_proxy");
	unsetenv("no_proxy");
}

static struct http_call *to_cancel;
static struct got other_got;

static void start_another(struct got *g)
{
	g->then = NULL;
	start("GET", "/ok", &other_got);
	http_cancel(to_cancel);
}

static void test_from_within_done(void **state)
{
	static struct got g, cancelled;

	(void)state;
	to_cancel = start("GET", "/hang", &cancelled);
	g.then = start_another;
	get("/ok", &g);
	run_until(other_got.told);
	assert_int_equal(other_got.err, 0);
	assert_int_equal(cancelled.told, 0);
}

static void free_all(struct got *g)
{
	(void)g;
	http_free(http);
	http = NULL;
}

static void test_free_from_within_done(void **state)
{
	static struct got g;

	(void)state;
	g.then = free_all;
	get("/ok", &g);
	assert_null(http);
}

static void test_cancel_at_any_moment(void **state)
{
	static const char *const paths[] = { "/ok", "/hang", "/slow-body", "/big", "/close", "/garbage" };
	struct got g = { 0 };

	(void)state;
	for (int turns = 0; turns < 8; turns++) {
		for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
			struct http_call *c = start("GET", paths[i], &g);

			for (int k = 0; k < turns && !g.told; k++)
				loop_run_once(loop, 0);
			if (!g.told)
				http_cancel(c);
		}
	}
	get("/ok", &g);
	assert_int_equal(g.err, 0);
}

/* Takes the place of libc's, for libcurl as well. */
static atomic_bool lookup_hangs;
static sem_t lookup_begun, lookup_goes_on;

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **ret)
{
	(void)name;
	(void)service;
	(void)hints;
	(void)ret;
	if (atomic_load(&lookup_hangs)) {
		sem_post(&lookup_begun);
		while (sem_wait(&lookup_goes_on) < 0)
			;
		sem_post(&lookup_begun);
	}
	return EAI_NONAME;
}

static int begun(void)
{
	int n = 0;

	sem_getvalue(&lookup_begun, &n);
	return n;
}

/* Whoever cancels does not wait for the name service: here it would wait for ever. */
static void test_names(void **state)
{
	struct got g = { 0 };
	struct http_call *c;
	struct http_request req = { .method = "GET", .base = "http://no.such.host.invalid:80", .path = "/ok",
	                            .deadline_ms = 60000 };

	(void)state;
	http_start(http, &req, note, &g);
	run_until(g.told);
	assert_int_equal(g.err, EHOSTUNREACH);
	assert_false(g.sent);
	assert_non_null(strstr(g.text, "no.such.host.invalid"));
	sem_init(&lookup_begun, 0, 0);
	sem_init(&lookup_goes_on, 0, 0);
	atomic_store(&lookup_hangs, true);
	g = (struct got){ 0 };
	req.base = "http://other.invalid:80";
	c = http_start(http, &req, note, &g);
	run_until(begun() > 0);
	sem_wait(&lookup_begun);
	alarm(60);
	http_cancel(c);
	req.deadline_ms = 20;
	req.base = "http://third.invalid:80";
	http_start(http, &req, note, &g);
	run_until(g.told);
	alarm(0);
	assert_int_equal(g.err, ETIMEDOUT);
	assert_false(g.sent);
	/* The threads are let go before the test ends. */
	for (int i = 0; i < 2; i++)
		sem_post(&lookup_goes_on);
	for (int i = 0; i < 3; i++)
		while (sem_wait(&lookup_begun) < 0)
			;
	atomic_store(&lookup_hangs, false);
}

/* What can be written to, of all that this process has mapped. */
static int count_in_memory(const char *xored, size_t n)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512], what[64];
	unsigned long from, to;
	int found = 0;

	for (size_t i = 0; i < n; i++)
		what[i] = (char)(xored[i] ^ 1);
	while (fgets(line, sizeof(line), f)) {
		char flags[5];

		if (sscanf(line, "%lx-%lx %4s", &from, &to, flags) != 3 || strncmp(flags, "rw", 2) != 0 || strstr(line, "[stack"))
			continue;
		for (const char *at = (const char *)from, *end = (const char *)to; at < end; at++) {
			at = memmem(at, (size_t)(end - at), what, n);
			if (!at)
				break;
			found++;
		}
	}
	fclose(f);
	explicit_bzero(what, sizeof(what));
	return found;
}

#ifdef WITH_SANITIZERS
enum { WITHOUT_SCAN = 1 };
#else
enum { WITHOUT_SCAN = 0 };
#endif

/* The server is another process, which has what it was sent. */
static pid_t serve_elsewhere(unsigned *ret_port, int *ret_end)
{
	int port[2], end[2];
	pid_t pid;
	char c;

	assert_int_equal(pipe(port), 0);
	assert_int_equal(pipe(end), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(end[1]);
		peer_start(&peer, NULL, 0);
		(void)!write(port[1], &peer.port, sizeof(peer.port));
		(void)!read(end[0], &c, 1);
		_exit(0);
	}
	close(end[0]);
	close(port[1]);
	assert_int_equal(read(port[0], ret_port, sizeof(*ret_port)), sizeof(*ret_port));
	close(port[0]);
	*ret_end = end[1];
	return pid;
}

static void test_nothing_is_left_in_memory(void **state)
{
	static const char token[] = "UNQDO,TORDDO,8263"; /* xor 1 */
	const size_t n = sizeof(token) - 1;
	struct got g = { 0 };
	char value[sizeof(token)], base[64];
	struct http_header h = { "X-Vault-Token", { value, n } };
	struct http_request req = { .method = "POST", .base = base, .path = "/echo", .headers = &h, .n_headers = 1,
	                            .body = { value, n }, .deadline_ms = 60000 };
	unsigned port;
	int end;
	pid_t pid;

	(void)state;
	if (WITHOUT_SCAN || getenv("CONNECTFS_TEST_VALGRIND")) {
		print_message("# SKIP: not under a sanitizer or valgrind, which map terabytes\n");
		return;
	}
	pid = serve_elsewhere(&port, &end);
	snprintf(base, sizeof(base), "http://127.0.0.1:%u", port);
	for (size_t i = 0; i < n; i++)
		value[i] = (char)(token[i] ^ 1);
	assert_int_equal(count_in_memory(token, n), 0);
	for (int i = 0; i < 2; i++) {
		g = (struct got){ 0 };
		http_start(http, &req, note, &g);
		assert_true(count_in_memory(token, n) >= 2);
		run_until(g.told);
		assert_int_equal(g.err, 0);
		assert_int_equal(g.body_len, n);
	}
	explicit_bzero(value, sizeof(value));
	explicit_bzero(&g, sizeof(g));
	assert_int_equal(count_in_memory(token, n), 0); /* though the connection is kept, and the handle */
	close(end);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_answer), T(test_what_is_sent), T(test_long_body_is_sent_without_expect), T(test_headers_of_answers),
		T(test_connections_are_kept), T(test_no_more_than_so_many_at_a_time), T(test_urgent_does_not_wait),
		T(test_deadlines), T(test_no_connection_in_time), T(test_broken_answers), T(test_bodies_have_a_limit),
		T(test_refused), T(test_dead_connections), T(test_unix_socket), T(test_what_cannot_be_sent),
		T(test_environment_has_no_proxy), T(test_from_within_done), T(test_free_from_within_done),
		T(test_cancel_at_any_moment), T(test_names), T(test_nothing_is_left_in_memory),
	};

	return cmocka_run_group_tests_name("net-http", tests, NULL, NULL);
}
