/*
 * The vault provider's fetches: what each answer of the server means.
 */
#include "vault-fake.h"

#define FIELD KEYS("a")

static void test_reads_kv2(void **state)
{
	struct opened o;

	(void)state;
	usual("t1");
	o = open_token();
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	assert_asked("GET /v1/auth/token/lookup-self t1", 1);
	assert_asked("GET /v1/sys/internal/ui/mounts/secret/db t1", 1);
	assert_asked("GET /v1/secret/data/db t1", 2);
	close_it(o);
}

static void test_many_ask_once(void **state)
{
	struct opened o;
	struct had h[8];

	(void)state;
	usual("t1");
	o = open_token();
	for (size_t i = 0; i < 8; i++)
		ask(o, i % 2 ? "secret/db" : "secret/other", FIELD, &h[i]);
	(void)on("GET", "/v1/sys/internal/ui/mounts/secret/other", "t1", 200, MOUNT_KV2);
	for (size_t i = 0; i < 8; i++) {
		UNTIL(h[i].done);
		if (i % 2)
			(void)assert_had(h[i], "1");
		else
			assert_not_had(h[i], ENOKEY, false, "secret/other");
		buf_free(&h[i].id);
	}
	assert_asked("lookup-self", 1);
	assert_asked("ui/mounts/", 1);
	close_it(o);
}

static void test_statuses(void **state)
{
	static const struct {
		int status;
		const char *body;
		int err;
		bool outage;
		const char *why;
	} cases[] = {
		{ 404, "{\"errors\":[]}", ENOKEY, false, "secret/db" },
		{ 404, "{\"data\":{\"data\":null,\"metadata\":{\"deletion_time\":\"2020-01-01T00:00:00Z\",\"destroyed\":false}}}",
		  EKEYREVOKED, false, "secret/db" },
		{ 404, "{\"data\":{\"data\":null,\"metadata\":{\"deletion_time\":\"\",\"destroyed\":true}}}", EKEYREVOKED, false,
		  "destroyed" },
		{ 403, NO_RIGHT, EKEYREJECTED, false, "permission denied" },
		{ 400, "{\"errors\":[\"no\"]}", EIO, false, "the server answered 400: no" },
		{ 400, "{\"errors\":[\"Upgrading from non-versioned to versioned data.\"]}", EIO, true, "Upgrading" },
		{ 405, "{\"errors\":[\"unsupported operation\"]}", EIO, false, "405" },
		{ 412, "{\"errors\":[\"required index state not present\"]}", EIO, true, "412" },
		{ 429, "{\"errors\":[\"quota\"]}", EIO, true, "429" },
		{ 500, "{\"errors\":[\"internal\"]}", EIO, true, "500: internal" },
		{ 502, "<html>bad gateway</html>", EIO, true, "502" },
		{ 503, "{\"errors\":[\"Vault is sealed\"]}", EIO, true, "sealed" },
		{ 503, "", EIO, true, "sealed" },
		{ 200, "<html>a portal</html>", EPROTO, true, "secret/db" },
		{ 403, "<html>a firewall</html>", EPROTO, true, "secret/db" },
	};
	struct opened o;

	(void)state;
	usual("t1");
	o = open_token();
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		(void)on("GET", "/v1/secret/data/db", "t1", cases[i].status, cases[i].body);
		assert_not_had(had(o, "secret/db", FIELD), cases[i].err, cases[i].outage, cases[i].why);
	}
	on("GET", "/v1/secret/data/db", "t1", 0, "")->err = ECONNREFUSED;
	assert_not_had(had(o, "secret/db", FIELD), ECONNREFUSED, true, "the connection was refused");
	usual("t1");
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	close_it(o);
	/* a server that repeats the token */
	usual("hvs.abcdefghijk");
	(void)on("GET", "/v1/secret/data/db", "hvs.abcdefghijk", 400, "{\"errors\":[\"no hvs.abcdefghijk, hvs.abcdef!\"]}");
	o = open_token();
	assert_not_had(had(o, "secret/db", FIELD), EIO, false, "400: no ***************, **********!");
	close_it(o);
}

/* A question that is refused: the path is used as it is, and the question not repeated for a while. */
static void test_mount_refused(void **state)
{
	struct opened o;

	(void)state;
	usual("t1");
	(void)on("GET", mounts_path, "t1", 403, NO_RIGHT);
	(void)on("GET", "/v1/secret/db", "t1", 200, "{\"lease_duration\":2764800,\"data\":{\"a\":\"raw\"}}");
	vault_times.mount_refused_ms = 50;
	o = open_token();
	struct had h = assert_had(had(o, "secret/db", FIELD), "raw");
	assert_int_equal(h.lease_ms, -1);
	assert_int_equal(h.ttl_ms, -1);
	(void)assert_had(had(o, "secret/db", FIELD), "raw");
	run_for(60);
	usual("t1");
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	close_it(o);
}

/* An outage of the question is one of the secret, and nothing is remembered. */
static void test_mount_outage(void **state)
{
	struct opened o;

	(void)state;
	usual("t1");
	(void)on("GET", mounts_path, "t1", 503, "");
	o = open_token();
	assert_not_had(had(o, "secret/db", FIELD), EIO, true, "secret/db");
	usual("t1");
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	close_it(o);
}

/* What is known is asked for again in time, and a refusal then makes nobody use another path. */
static void test_mount_again(void **state)
{
	struct opened o;

	(void)state;
	usual("t1");
	vault_times.mount_ms = 20;
	vault_times.mount_refused_ms = 20;
	o = open_token();
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	(void)on("GET", mounts_path, "t1", 403, NO_RIGHT);
	for (unsigned n = 2; n < 4; n++) {
		run_for(30);
		(void)assert_had(had(o, "secret/db", FIELD), "1");
		UNTIL(count(requests, "ui/mounts/") == n);
		run_for(5);
	}
	/* another kind of mount has taken its place */
	(void)on("GET", mounts_path, "t1", 200, "{\"data\":{\"path\":\"secret/\",\"type\":\"kv\",\"options\":null}}");
	(void)on("GET", "/v1/secret/db", "t1", 200, "{\"data\":{\"a\":\"kv1\"}}");
	run_for(30);
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	run_for(5);
	(void)assert_had(had(o, "secret/db", FIELD), "kv1");
	assert_asked("GET /v1/secret/db t1", 1);
	close_it(o);
}

static void test_mount_by_settings(void **state)
{
	struct opened o;

	(void)state;
	usual("t1");
	o = open_with("vault", PARAMS("address", "http://127.0.0.1:8200", "token", at("token"), "mounts", "secret=2",
	                              "namespace", "/team/a/"));
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	assert_asked("ui/mounts", 0);
	assert_asked("[team/a] GET /v1/secret/data/db t1", 1);
	close_it(o);
}

static void test_namespace_in_mount(void **state)
{
	struct opened o;

	(void)state;
	usual("t1");
	(void)on("GET", "/v1/sys/internal/ui/mounts/ns/secret/db", "t1", 200, MOUNT_KV2);
	(void)on("GET", "/v1/ns/secret/data/db", "t1", 200, "{\"data\":{\"data\":{\"a\":\"ns\"},\"metadata\":{}}}");
	o = open_token();
	(void)assert_had(had(o, "ns/secret/db", FIELD), "ns");
	close_it(o);
}

/* An Agent adds the token. */
static void test_login_none(void **state)
{
	struct opened o;

	(void)state;
	(void)on("GET", mounts_path, "", 200, MOUNT_KV2);
	(void)on("GET", "/v1/secret/data/db", "", 200, "{\"data\":{\"data\":{\"a\":\"1\"},\"metadata\":{}}}");
	o = open_with("vault", PARAMS("address", "unix:///run/agent.sock", "auth", "none"));
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	(void)on("GET", "/v1/secret/data/db", "", 403, DENIED);
	assert_not_had(had(o, "secret/db", FIELD), EKEYREJECTED, false, "permission denied");
	close_it(o);
}

static void test_cancel_anywhere(void **state)
{
	struct opened o;
	struct had h[4];

	(void)state;
	usual("t1");
	for (int ms = 0; ms < 12; ms += 2) {
		on("GET", lookup_self, "t1", 200, LOOKUP(3600, true))->delay_ms = 3;
		on("GET", mounts_path, "t1", 200, MOUNT_KV2)->delay_ms = 3;
		on("GET", "/v1/secret/data/db", "t1", 200, "{}")->delay_ms = 300;
		o = open_token();
		for (size_t i = 0; i < 4; i++)
			ask(o, "secret/db", FIELD, &h[i]);
		run_for(ms);
		for (size_t i = 0; i < 4; i++) {
			o.ops->cancel(o.self, &h[i].fetch);
			assert_false(h[i].done);
			buf_free(&h[i].id);
		}
		close_it(o); /* with what nobody waits for under way */
	}
}

static void test_static_role(void **state)
{
	struct opened o;
	struct had h;

	(void)state;
	usual("t1");
	o = open_with("vault", PARAMS("address", "http://127.0.0.1:8200", "token", at("token"), "mounts", "database=raw"));
	(void)on("GET", "/v1/database/static-creds/r", "t1", 200,
	         "{\"lease_id\":\"\",\"lease_duration\":0,\"data\":{\"a\":\"p\",\"ttl\":40,\"rotation_period\":60,"
	         "\"last_vault_rotation\":\"2026-01-01T00:00:00Z\"}}");
	h = assert_had(had(o, "database/static-creds/r", FIELD), "p");
	assert_true(h.exact);
	assert_true(h.ttl_ms > 38000 && h.ttl_ms < 42000);
	assert_int_equal(h.lease_ms, -1);
	assert_asked(" once", 1);
	close_it(o);
}

static void test_pki(void **state)
{
	struct opened o;
	struct had h;
	char body[256];

	(void)state;
	usual("t1");
	o = open_with("vault", PARAMS("address", "http://127.0.0.1:8200", "token", at("token"), "mounts", "pki=raw"));
	(void)snprintf(body, sizeof(body), "{\"lease_id\":\"\",\"data\":{\"a\":\"pem\",\"certificate\":\"c\",\"expiration\":%" PRId64 "}}",
	               clock_real_ns() / 1000000000 + 1000);
	(void)on("POST", "/v1/pki/issue/web", "t1", 200, body);
	h = assert_had(had(o, "pki/issue/web?common_name=a.example", FIELD), "pem");
	assert_true(h.lease_ms > 990000 && h.lease_ms <= 1000000);
	assert_true(h.replace_ms > 890000 && h.replace_ms <= 901000);
	assert_asked("{\"common_name\":\"a.example\"}", 1);
	close_it(o);
}

static void add_path(void *arg, const char *path)
{
	note(arg, 1024, "%s ", path);
}

static void test_open(void **state)
{
	struct provider_status st = { 0 };
	char log[1024] = "", want[1024];
	struct opened o;
	void *self;
	const char *param = NULL;
	struct error err = ERROR_INIT;

	(void)state;
	usual("t1");
	o = open_with("vault", PARAMS("address", "https://127.0.0.1:8200", "token", at("token"), "ca_cert", at("ca.pem"),
	                              "tls_skip_verify", "true"));
	o.ops->reads(o.self, add_path, log);
	(void)snprintf(want, sizeof(want), "%s %s ", at("ca.pem"), at("token"));
	assert_string_equal(log, want);
	assert_string_equal(host_log, "");
	run_for(5);
	assert_told("NOT verified");
	o.ops->status(o.self, &st);
	assert_string_equal(st.login, "token");
	assert_string_equal(st.address, "https://127.0.0.1:8200");
	assert_null(st.error);
	assert_true(o.ops->network);
	/* the circuit closes: the resolver is told */
	fake_server->settings.changed(fake_server->settings.arg, "no route");
	assert_int_equal(healed, 0);
	fake_server->settings.changed(fake_server->settings.arg, NULL);
	assert_int_equal(healed, 1);
	/* and that answers it by a login, which it doesn't refuse for its back-off */
	vault_times.login_min_ms = vault_times.login_max_ms = 600000;
	on("GET", lookup_self, "t1", 0, "")->err = ECONNREFUSED;
	assert_not_had(had(o, "secret/db", FIELD), ECONNREFUSED, true, "refused");
	(void)on("GET", lookup_self, "t1", 200, LOOKUP(3600, true));
	run_for(10);
	assert_not_had(had(o, "secret/db", FIELD), ECONNREFUSED, true, "refused");
	fake_server->settings.changed(fake_server->settings.arg, NULL);
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	close_it(o);
	assert_int_equal(open_provider("vault", PARAMS("auth", "nonsense"), &self, &param, &err), -EINVAL);
	assert_non_null(param);
	env.host = NULL;
	close_it(open_token());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_reads_kv2, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_many_ask_once, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_statuses, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_mount_refused, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_mount_outage, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_mount_again, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_mount_by_settings, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_namespace_in_mount, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_login_none, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_cancel_anywhere, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_static_role, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_pki, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_open, vault_setup, vault_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
