/*
 * Tests of src/net/tls.h, with certificates made here, and of HTTP over it (http.h) with a server in a thread.
 */
#include "http-help.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include "base/pool.h"
#include "base/watch.h"
#include "net/tls.h"

struct id {
	X509 *cert;
	EVP_PKEY *key;
};

static char dir[] = "/tmp/net-tls-XXXXXX";
static struct id ca, other_ca, sub_ca, server_id, expired, foreign, misnamed, under_sub, one, two;
static struct peer peer;
static struct pool *pool;
static struct watcher *watcher;
static struct tls *tls;
static struct http *http;
static int changes;

/* --- certificates ----------------------------------------------------------------------- */

static void extend(X509 *x, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *e;

	X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
	e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(e);
	X509_add_ext(x, e, -1);
	X509_EXTENSION_free(e);
}

static void make_id(struct id *id, const struct id *issuer, const char *cn, const char *san, long days)
{
	static long serial = 1;
	X509_NAME *name = X509_NAME_new();

	id->key = EVP_EC_gen("P-256");
	id->cert = X509_new();
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
	X509_set_version(id->cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(id->cert), serial++);
	X509_set_subject_name(id->cert, name);
	X509_set_issuer_name(id->cert, issuer ? X509_get_subject_name(issuer->cert) : name);
	X509_gmtime_adj(X509_getm_notBefore(id->cert), -10 * 86400L);
	X509_gmtime_adj(X509_getm_notAfter(id->cert), days * 86400L);
	X509_set_pubkey(id->cert, id->key);
	extend(id->cert, NID_basic_constraints, san ? "CA:FALSE" : "critical,CA:TRUE");
	if (san)
		extend(id->cert, NID_subject_alt_name, san);
	assert_true(X509_sign(id->cert, issuer ? issuer->key : id->key, EVP_sha256()) > 0);
	X509_NAME_free(name);
}

static void free_id(struct id *id)
{
	X509_free(id->cert);
	EVP_PKEY_free(id->key);
}

static const char *in(const char *name)
{
	static char room[64][128]; /* settings hold them for a while */
	static int n;

	n = (n + 1) % 64;
	snprintf(room[n], sizeof(room[n]), "%s/%s", dir, name);
	return room[n];
}

/* By rename, as those do it who replace certificates. */
static void put(const char *name, const struct id *cert, const struct id *key)
{
	FILE *f = fopen(in(".new"), "we");

	assert_non_null(f);
	if (cert)
		PEM_write_X509(f, cert->cert);
	if (key)
		PEM_write_PrivateKey(f, key->key, NULL, NULL, 0, NULL, NULL);
	fclose(f);
	assert_int_equal(rename(in(".new"), in(name)), 0);
}

static void put_text(const char *name, const char *text)
{
	FILE *f = fopen(in(name), "we");

	fputs(text, f);
	fclose(f);
}

static int group_setup(void **state)
{
	(void)state;
	if (http_global_init() < 0 || !mkdtemp(dir))
		return -1;
	make_id(&ca, NULL, "authority", NULL, 10);
	make_id(&other_ca, NULL, "another", NULL, 10);
	make_id(&sub_ca, &ca, "below", NULL, 10);
	make_id(&server_id, &ca, "server", "IP:127.0.0.1,DNS:localhost", 10);
	make_id(&expired, &ca, "server", "IP:127.0.0.1", -5);
	make_id(&foreign, &other_ca, "server", "IP:127.0.0.1", 10);
	make_id(&misnamed, &ca, "server", "DNS:vault.example", 10);
	make_id(&under_sub, &sub_ca, "server", "IP:127.0.0.1", 10);
	make_id(&one, &ca, "one", "DNS:one", 10);
	make_id(&two, &ca, "two", "DNS:two", 10);
	return 0;
}

static int group_teardown(void **state)
{
	struct id *all[] = { &ca, &other_ca, &sub_ca, &server_id, &expired, &foreign, &misnamed, &under_sub, &one, &two };
	char command[256];

	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		free_id(all[i]);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

/* --- each test ---------------------------------------------------------------------------- */

static int setup(void **state)
{
	(void)state;
	changes = 0;
	peer.fd = -1;
	put("ca.pem", &ca, NULL);
	return loop_new(&loop) < 0 || pool_new(loop, &pool) < 0 ? -1 : watcher_new(loop, pool, &watcher);
}

static int teardown(void **state)
{
	char command[256];

	(void)state;
	http_free(http);
	http = NULL;
	tls_free(tls);
	tls = NULL;
	watcher_free(watcher);
	pool_free(pool);
	peer_stop(&peer);
	SSL_CTX_free(peer.tls);
	peer.tls = NULL;
	loop_free(loop);
	snprintf(command, sizeof(command), "rm -rf '%s'/*", dir);
	return system(command);
}

static int any_certificate(int ok, X509_STORE_CTX *ctx)
{
	(void)ok;
	(void)ctx;
	return 1;
}

/* client: does it ask for a certificate of the client's? 2: and insists */
static void serve(const struct id *id, int client, int max_version)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	assert_int_equal(SSL_CTX_use_certificate(ctx, id->cert), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(ctx, id->key), 1);
	SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"t", 1);
	SSL_CTX_set_verify(ctx, client == 0 ? SSL_VERIFY_NONE : client == 1 ? SSL_VERIFY_PEER :
	                   SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, any_certificate);
	if (max_version) {
		SSL_CTX_set_max_proto_version(ctx, max_version);
		SSL_CTX_set_min_proto_version(ctx, max_version == TLS1_3_VERSION ? TLS1_2_VERSION : max_version);
		if (max_version < TLS1_2_VERSION) {
			SSL_CTX_set_cipher_list(ctx, "ALL:@SECLEVEL=0");
			SSL_CTX_set_security_level(ctx, 0);
		}
	}
	peer_start(&peer, ctx, 0);
}

static void on_changed(void *arg)
{
	(void)arg;
	changes++;
}

static void trust(const struct tls_settings *s)
{
	struct error err = ERROR_INIT;
	struct http_settings hs = { .connections = 2 };

	http_free(http);
	tls_free(tls);
	assert_int_equal(tls_new(loop, pool, watcher, s, &tls, &err), 0);
	tls_on_change(tls, on_changed, NULL);
	hs.tls = tls;
	assert_int_equal(http_new(loop, &hs, &http), 0);
}

static int get(const char *path, struct got *g)
{
	const struct http_header h = { "X-Vault-Token", SLICE_LIT("HEADER-CANARY") };
	const struct http_request req = { .method = "GET", .base = peer.base, .path = path, .headers = &h, .n_headers = 1,
	                                  .deadline_ms = 60000 };

	*g = (struct got){ 0 };
	assert_non_null(http_start(http, &req, note, g));
	assert_int_equal(g->told, 0);
	run_until(g->told);
	return g->err;
}

static void trust_ca(void)
{
	const struct tls_settings s = { .ca_cert = in("ca.pem") };

	trust(&s);
}

static void assert_has(const struct got *g, const char *what)
{
	if (!strstr(g->text, what))
		fail_msg("\"%s\" is not in: %s", what, g->text);
}

/* --- servers ------------------------------------------------------------------------------ */

static void test_trusted(void **state)
{
	struct got g;

	(void)state;
	serve(&server_id, 0, 0);
	trust_ca();
	for (int i = 0; i < 3; i++) {
		assert_int_equal(get("/ok", &g), 0);
		assert_string_equal(g.body, "{\"data\":1}");
	}
	assert_int_equal(atomic_load(&peer.connections), 1);
	assert_int_equal(tls_generation(tls), 1);
	assert_false(tls_skips_verify(tls));
}

static void test_tls_1_2(void **state)
{
	struct got g;

	(void)state;
	serve(&server_id, 0, TLS1_2_VERSION);
	trust_ca();
	assert_int_equal(get("/ok", &g), 0);
}

static void test_tls_1_1_is_refused(void **state)
{
	struct got g;

	(void)state;
	serve(&server_id, 0, TLS1_1_VERSION);
	trust_ca();
	assert_int_equal(get("/ok", &g), EPROTO);
	assert_false(g.sent);
	assert_has(&g, "TLS: ");
	assert_has(&g, "protocol version");
}

static void test_unknown_authority(void **state)
{
	struct got g;

	(void)state;
	serve(&foreign, 0, 0);
	trust_ca();
	assert_int_equal(get("/ok", &g), EPROTO);
	assert_false(g.sent);
	assert_has(&g, "unable to get local issuer certificate");
}

static void test_expired(void **state)
{
	struct got g;

	(void)state;
	serve(&expired, 0, 0);
	trust_ca();
	assert_int_equal(get("/ok", &g), EPROTO);
	assert_false(g.sent);
	assert_has(&g, "certificate has expired");
}

static void test_names(void **state)
{
	struct tls_settings s = { .ca_cert = in("ca.pem") };
	struct got g;
	char host[64];

	(void)state;
	serve(&misnamed, 0, 0);
	trust(&s);
	assert_int_equal(get("/ok", &g), EPROTO);
	assert_false(g.sent);
	assert_has(&g, "matches target host name");
	s.server_name = "vault.example";
	trust(&s);
	assert_int_equal(get("/ok", &g), 0);
	assert_string_equal(peer.sni, "vault.example");
	snprintf(host, sizeof(host), "Host: 127.0.0.1:%u", peer.port);
	assert_true(peer_saw(&peer, host));
	assert_int_equal(get("/ok", &g), 0);
	assert_int_equal(atomic_load(&peer.connections), 2);
	s.server_name = "other.example";
	trust(&s);
	assert_int_equal(get("/ok", &g), EPROTO);
}

static void test_skip_verify(void **state)
{
	const struct tls_settings s = { .ca_cert = in("ca.pem"), .skip_verify = true };
	struct got g;

	(void)state;
	serve(&foreign, 0, 0);
	trust(&s);
	assert_true(tls_skips_verify(tls));
	assert_int_equal(get("/ok", &g), 0);
}

static void test_no_tls_there(void **state)
{
	struct got g;

	(void)state;
	peer_start(&peer, NULL, 0);
	snprintf(peer.base, sizeof(peer.base), "https://127.0.0.1:%u", peer.port);
	trust_ca();
	assert_int_equal(get("/ok", &g), EPROTO);
	assert_false(g.sent);
	assert_has(&g, "wrong version number");
}

/* An authority below another one may be all that is trusted; and it may lie in a directory, among other things. */
static void test_authorities(void **state)
{
	struct tls_settings s = { .ca_cert = in("ca.pem") };
	struct got g;

	(void)state;
	serve(&under_sub, 0, 0);
	put("ca.pem", &sub_ca, NULL);
	trust(&s);
	assert_int_equal(get("/ok", &g), 0);
	assert_int_equal(mkdir(in("d"), 0755), 0);
	put("d/any-name", &other_ca, NULL);
	put_text("d/README", "no certificate\n");
	assert_int_equal(mkdir(in("d/dir"), 0755), 0);
	s = (struct tls_settings){ .ca_path = in("d") };
	trust(&s);
	assert_int_equal(get("/ok", &g), EPROTO);
	assert_int_equal(changes, 0);
	put("d/zzz", &sub_ca, NULL);
	run_until(changes == 1);
	assert_int_equal(get("/ok", &g), 0);
	/* Both hold */
	put("ca.pem", &other_ca, NULL);
	s.ca_cert = in("ca.pem");
	trust(&s);
	assert_int_equal(get("/ok", &g), 0);
}

/* --- files -------------------------------------------------------------------------------- */

static void test_files_that_are_wrong(void **state)
{
	struct tls_settings s = { .ca_cert = in("none.pem") };
	struct got g;

	(void)state;
	serve(&server_id, 0, 0);
	trust(&s);
	assert_int_equal(get("/ok", &g), EPROTO);
	assert_has(&g, "none.pem");
	assert_false(g.sent);
	assert_int_equal(get("/ok", &g), EPROTO); /* at once: it has failed a moment ago */
	put_text("text.pem", "-----BEGIN NOTHING\nCANARY\n");
	s.ca_cert = in("text.pem");
	trust(&s);
	assert_int_equal(get("/ok", &g), EPROTO);
	assert_has(&g, "text.pem");
	put("one.pem", &one, NULL);
	put("two.key", NULL, &two);
	s = (struct tls_settings){ .ca_cert = in("ca.pem"), .client_cert = in("one.pem"), .client_key = in("two.key") };
	trust(&s);
	assert_int_equal(get("/ok", &g), EPROTO);
	assert_has(&g, "does not belong");
	s.client_key = NULL;
	trust(&s);
	assert_int_equal(get("/ok", &g), EPROTO);
	assert_has(&g, "no private key");
	FILE *f = fopen(in("locked.key"), "we");
	PEM_write_PrivateKey(f, one.key, EVP_aes_128_cbc(), NULL, 0, NULL, (char[]){ "secret" });
	fclose(f);
	s.client_key = in("locked.key");
	trust(&s);
	assert_int_equal(get("/ok", &g), EPROTO);
	assert_has(&g, "passphrase");
}

static void test_file_that_comes_later(void **state)
{
	const struct tls_settings s = { .ca_cert = in("later.pem") };
	struct got g;

	(void)state;
	serve(&server_id, 0, 0);
	trust(&s);
	assert_int_equal(get("/ok", &g), EPROTO);
	put("later.pem", &ca, NULL);
	run_until(tls_generation(tls) == 1); /* nobody had to ask */
	assert_int_equal(get("/ok", &g), 0);
}

static void test_settings_that_are_wrong(void **state)
{
	struct tls_settings s = { .client_key = in("k") };
	struct error err = ERROR_INIT;
	struct tls *t = NULL;

	(void)state;
	assert_int_equal(tls_new(loop, pool, watcher, &s, &t, &err), -EINVAL);
	s = (struct tls_settings){ .server_name = "a/b" };
	assert_int_equal(tls_new(loop, pool, watcher, &s, &t, &err), -EINVAL);
	s.server_name = "";
	assert_int_equal(tls_new(loop, pool, watcher, &s, &t, &err), -EINVAL);
	assert_null(t);
}

static void count(void *arg, const char *path)
{
	(void)path;
	++*(int *)arg;
}

static void test_reads(void **state)
{
	struct tls_settings s = { .ca_cert = in("ca.pem"), .ca_path = in("d"), .client_cert = in("c"), .client_key = in("k") };
	int n = 0;

	(void)state;
	trust(&s);
	tls_reads(tls, count, &n);
	assert_int_equal(n, 4);
	n = 0;
	s = (struct tls_settings){ 0 };
	trust(&s);
	tls_reads(tls, count, &n);
	assert_int_equal(n, 1); /* the system's */
}

static void not_called(void *arg, int err, const char *text)
{
	(void)arg;
	(void)err;
	(void)text;
	fail();
}

static void test_waits(void **state)
{
	const struct tls_settings s = { .ca_cert = in("ca.pem") };
	struct tls_wait *w;

	(void)state;
	trust(&s);
	assert_int_equal(tls_ready(tls, not_called, NULL, &w), 1);
	tls_wait_cancel(w);
	run_until(tls_generation(tls) == 1);
	assert_int_equal(tls_ready(tls, not_called, NULL, &w), 0);
	trust(&s);
	assert_int_equal(tls_ready(tls, not_called, NULL, &w), 1);
	tls_wait_cancel(w);
	http_free(http);
	http = NULL;
	tls_free(tls); /* while it reads */
	tls = NULL;
	run_for(20);
}

/* --- our own ------------------------------------------------------------------------------ */

static void test_own_certificate_is_wanted(void **state)
{
	static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
	struct tls_settings s = { .ca_cert = in("ca.pem") };
	struct got g;

	(void)state;
	put("one.pem", &one, &one);
	for (int i = 0; i < 2; i++) {
		serve(&server_id, 2, versions[i]);
		s.client_cert = NULL;
		trust(&s);
		assert_int_equal(get("/ok", &g), EPROTO);
		/* In TLS 1.3 the alert may be lost: our request is there by then, unread, and the kernel resets. */
		if (versions[i] == TLS1_2_VERSION || !strstr(g.text, "broke off")) {
			assert_has(&g, "TLS: ");
			assert_has(&g, "alert");
		}
		s.client_cert = in("one.pem");
		trust(&s);
		assert_int_equal(get("/ok", &g), 0);
		assert_string_equal(peer.shown, "one");
		peer_stop(&peer);
		SSL_CTX_free(peer.tls);
		peer.tls = NULL;
	}
}

static void rotate(int max_version)
{
	const struct tls_settings s = { .ca_cert = in("ca.pem"), .client_cert = in("own.pem"), .client_key = in("own.key") };
	struct got g;

	put("own.pem", &one, NULL);
	put("own.key", NULL, &one);
	serve(&server_id, 1, max_version);
	trust(&s);
	assert_int_equal(get("/ok", &g), 0);
	assert_int_equal(get("/ok", &g), 0);
	assert_string_equal(peer.shown, "one");
	assert_int_equal(atomic_load(&peer.connections), 1);
	/* One file after the other: in between what was known before holds. */
	put("own.pem", &two, NULL);
	run_for(300);
	assert_int_equal(get("/ok", &g), 0);
	assert_string_equal(peer.shown, "one");
	assert_int_equal(atomic_load(&peer.connections), 1);
	assert_int_equal(changes, 0);
	put("own.key", NULL, &two);
	run_until(changes == 1);
	assert_int_equal(get("/ok", &g), 0);
	assert_string_equal(peer.shown, "two"); /* and no session of before is taken up again */
	assert_int_equal(atomic_load(&peer.connections), 2);
	assert_int_equal(tls_generation(tls), 2);
}

static void test_rotation(void **state)
{
	(void)state;
	rotate(TLS1_3_VERSION);
}

static void test_rotation_tls_1_2(void **state)
{
	(void)state;
	rotate(TLS1_2_VERSION);
}

static void test_same_bytes_cost_no_connection(void **state)
{
	struct got g;

	(void)state;
	serve(&server_id, 0, 0);
	trust_ca();
	assert_int_equal(get("/ok", &g), 0);
	put("ca.pem", &ca, NULL);
	run_for(400);
	assert_int_equal(tls_generation(tls), 1);
	assert_int_equal(changes, 0);
	assert_int_equal(get("/ok", &g), 0);
	assert_int_equal(atomic_load(&peer.connections), 1);
}

/* Who was trusted and is no longer: new calls fail, the one under way may end. */
static void test_trust_is_taken_away(void **state)
{
	const struct http_request req = { .method = "GET", .base = peer.base, .path = "/hang", .deadline_ms = 60000 };
	struct got hanging = { 0 }, g;
	struct http_call *c;
	struct http_stats s;

	(void)state;
	serve(&server_id, 0, 0);
	trust_ca();
	assert_int_equal(get("/ok", &g), 0);
	c = http_start(http, &req, note, &hanging);
	run_until(atomic_load(&peer.requests) == 2);
	put("ca.pem", &other_ca, NULL);
	run_until(changes == 1);
	assert_int_equal(get("/ok", &g), EPROTO);
	assert_int_equal(hanging.told, 0);
	http_get_stats(http, &s);
	assert_int_equal(s.active, 1);
	http_cancel(c);
	put("ca.pem", &ca, NULL);
	run_until(changes == 2);
	assert_int_equal(get("/ok", &g), 0);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_trusted), T(test_tls_1_2), T(test_tls_1_1_is_refused), T(test_unknown_authority), T(test_expired),
		T(test_names), T(test_skip_verify), T(test_no_tls_there), T(test_authorities), T(test_files_that_are_wrong),
		T(test_file_that_comes_later), T(test_settings_that_are_wrong), T(test_reads), T(test_waits),
		T(test_own_certificate_is_wanted), T(test_rotation), T(test_rotation_tls_1_2),
		T(test_same_bytes_cost_no_connection), T(test_trust_is_taken_away),
	};

	return cmocka_run_group_tests_name("net-tls", tests, group_setup, group_teardown);
}
