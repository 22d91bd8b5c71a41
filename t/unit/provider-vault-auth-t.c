/*
 * The vault provider's token: logins by each method, renewal, what a 403 means, what a successor finds.
 */
#include "vault-fake.h"

#define FIELD KEYS("a")
#define AUTH(token, s, renewable) \
	"{\"auth\":{\"client_token\":\"" token "\",\"lease_duration\":" #s ",\"renewable\":" #renewable \
	",\"token_type\":\"service\",\"num_uses\":0}}"
static const char approle[] = "/v1/auth/approle/login";

static struct opened open_approle(const char *name, const char *value)
{
	return open_with("vault", PARAMS("address", "http://127.0.0.1:8200", "auth", "approle", "auth.role_id_file_path",
	                                 at("role"), "auth.secret_id_file_path", at("secret"), name, value));
}

static void usual_approle(void)
{
	usual("t1");
	put_text("role", "r1\n");
	put_text("secret", "s1\n");
	(void)on("POST", approle, "", 200, AUTH("t1", 3600, true));
}

static void test_approle(void **state)
{
	struct provider_status st = { 0 };
	struct opened o;

	(void)state;
	usual_approle();
	o = open_approle("mounts", "secret=2");
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	assert_asked("POST /v1/auth/approle/login {\"role_id\":\"r1\",\"secret_id\":\"s1\"}", 1);
	assert_asked("GET /v1/auth/token/lookup-self t1", 1);
	o.ops->status(o.self, &st);
	assert_string_equal(st.login, "approle");
	assert_int_equal(st.logins, 1);
	assert_true(st.login_ns > 0 && st.login_end_ns > clock_real_ns() + 3500000000000);
	assert_null(st.error);
	assert_string_equal(host_log, "");
	close_it(o);
}

/* A failed login is an outage of all; it heals by itself, and says so. */
static void test_login_fails(void **state)
{
	struct provider_status st = { 0 };
	struct opened o;

	(void)state;
	usual_approle();
	(void)on("POST", approle, "", 400, "{\"errors\":[\"invalid role or secret ID\"]}");
	o = open_approle("mounts", "secret=2");
	assert_not_had(had(o, "secret/db", FIELD), EKEYREJECTED, true, "login by approle: the server answered 400: invalid role");
	assert_not_had(had(o, "secret/db", FIELD), EKEYREJECTED, true, "invalid role");
	o.ops->status(o.self, &st);
	assert_non_null(st.error);
	assert_true(st.error_since_ns > 0 && st.login_failures >= 1);
	on("POST", approle, "", 0, "")->err = ECONNREFUSED;
	run_for(60);
	assert_not_had(had(o, "secret/db", FIELD), ECONNREFUSED, true, "connection was refused");
	assert_int_equal(healed, 0);
	usual_approle();
	UNTIL(healed == 1);
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	assert_int_equal(count(host_log, "no login"), 1);
	close_it(o);
}

/* A file that changes ends the wait. */
static void test_file_changes(void **state)
{
	struct opened o;

	(void)state;
	usual_approle();
	vault_times.login_min_ms = vault_times.login_max_ms = 600000;
	unlink(at("secret"));
	o = open_approle("mounts", "secret=2");
	assert_not_had(had(o, "secret/db", FIELD), EIO, true, "secret");
	assert_asked("POST", 0);
	run_for(30);
	put_text("secret", "s1");
	UNTIL(healed == 1);
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	close_it(o);
}

static void test_other_methods(void **state)
{
	struct opened o;

	(void)state;
	usual("t1");
	put_text("jwt", "j.w.t\n");
	put_text("password", "p\"w\n");
	(void)on("POST", "/v1/auth/k8s/login", "", 200, AUTH("t1", 3600, true));
	(void)on("POST", "/v1/auth/jwt/login", "", 200, AUTH("t1", 3600, true));
	(void)on("POST", "/v1/auth/cert/login", "", 200, AUTH("t1", 3600, true));
	(void)on("POST", "/v1/auth/userpass/login/bob", "", 200, AUTH("t1", 3600, true));
	(void)on("POST", "/v1/auth/ldap/login/bob", "", 200, "{\"auth\":{\"mfa_requirement\":{\"x\":1},\"client_token\":\"\"}}");
	o = open_with("vault", PARAMS("address", "http://x:1", "mounts", "secret=2", "auth", "kubernetes", "auth.role", "r",
	                              "auth.mount_path", "k8s", "auth.token_path", at("jwt")));
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	assert_asked("POST /v1/auth/k8s/login {\"role\":\"r\",\"jwt\":\"j.w.t\"}", 1);
	close_it(o);
	o = open_with("vault", PARAMS("address", "http://x:1", "mounts", "secret=2", "auth", "jwt", "auth.path", at("jwt")));
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	assert_asked("POST /v1/auth/jwt/login {\"jwt\":\"j.w.t\"}", 1);
	close_it(o);
	o = open_with("vault", PARAMS("address", "http://x:1", "mounts", "secret=2", "auth", "cert", "auth.role", "web",
	                              "client_cert", at("cert.pem"), "client_key", at("key.pem")));
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	assert_asked("POST /v1/auth/cert/login {\"name\":\"web\"}", 1);
	close_it(o);
	o = open_with("vault", PARAMS("address", "http://x:1", "mounts", "secret=2", "auth", "userpass", "auth.username", "bob",
	                              "auth.password_file_path", at("password")));
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	assert_asked("POST /v1/auth/userpass/login/bob {\"password\":\"p\\\"w\"}", 1);
	close_it(o);
	o = open_with("vault", PARAMS("address", "http://x:1", "mounts", "secret=2", "auth", "ldap", "auth.username", "bob",
	                              "auth.password_file_path", at("password")));
	assert_not_had(had(o, "secret/db", FIELD), EKEYREJECTED, true, "second factor");
	close_it(o);
}

static void test_token_is_renewed(void **state)
{
	struct provider_status st = { 0 };
	struct opened o;

	(void)state;
	usual("t1");
	(void)on("GET", lookup_self, "t1", 200, LOOKUP(1, true));
	(void)on("POST", renew_self, "t1", 200, AUTH("t1", 1, true));
	o = open_token();
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	UNTIL(count(requests, "POST /v1/auth/token/renew-self t1{\"increment\":1}") == 2);
	/* an outage is lived through */
	(void)on("POST", renew_self, "t1", 503, "");
	UNTIL(count(requests, "renew-self") >= 4);
	(void)on("POST", renew_self, "t1", 200, AUTH("t1", 1, true));
	run_for(700);
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	assert_asked("lookup-self", 1);
	o.ops->status(o.self, &st);
	assert_true(st.renewals >= 3 && st.renewal_failures >= 1);
	assert_string_equal(host_log, "");
	close_it(o);
}

/* Renewal that no longer extends: another login, before the end. */
static void test_max_ttl(void **state)
{
	struct opened o;

	(void)state;
	usual_approle();
	usual("t2");
	(void)on("GET", lookup_self, "t1", 200, LOOKUP(2, true));
	(void)on("POST", renew_self, "t1", 200, AUTH("t1", 1, true));
	o = open_approle("mounts", "secret=2");
	(void)on("GET", "/v1/secret/data/db", "t1", 200, "{\"data\":{\"data\":{\"a\":\"1\"},\"metadata\":{}}}");
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	(void)on("POST", approle, "", 200, AUTH("t2", 3600, true));
	UNTIL(count(requests, "approle/login") == 2);
	run_for(10);
	assert_asked("renew-self t1", 1);
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	assert_asked("GET /v1/secret/data/db t2", 1);
	assert_string_equal(host_log, "");
	assert_null(strmap_get(kept, SLICE_LIT("token:1")));
	assert_non_null(strmap_get(kept, SLICE_LIT("token:2")));
	close_it(o);
	assert_non_null(strmap_get(kept, SLICE_LIT("token:2")));
}

/* A file's token that ends: a warning, an outage, and the next one heals it. */
static void test_token_file_ends(void **state)
{
	struct provider_status st = { 0 };
	struct opened o;

	(void)state;
	usual("t1");
	(void)on("GET", lookup_self, "t1", 200, LOOKUP(1, false));
	o = open_token();
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	UNTIL(strstr(host_log, "can't be extended"));
	o.ops->status(o.self, &st);
	assert_null(st.error);
	(void)on("GET", lookup_self, "t1", 403, DENIED);
	(void)on("GET", lookup_self, "t1", 403, "{\"errors\":[\"permission denied\",\"invalid token\"]}");
	UNTIL(strstr(host_log, "no login"));
	assert_not_had(had(o, "secret/db", FIELD), EKEYREJECTED, true, "lookup-self");
	usual("t2");
	UNTIL(healed == 1);
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	assert_asked("GET /v1/secret/data/db t2", 1);
	close_it(o);
}

/* A file that is rewritten with a living token is followed. */
static void test_token_file_follows(void **state)
{
	struct opened o;

	(void)state;
	usual("t1");
	o = open_token();
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	run_for(20);
	put_text("token", "t1");
	run_for(50);
	assert_asked("lookup-self t1", 1); /* the same */
	usual("t2");
	UNTIL(count(requests, "lookup-self t2") == 1);
	run_for(10);
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	assert_asked("GET /v1/secret/data/db t2", 1);
	close_it(o);
}

/* A dead token: one login, and the read is repeated. */
static void test_dead_token(void **state)
{
	struct opened o;
	struct had h[3];

	(void)state;
	usual_approle();
	o = open_approle("mounts", "secret=2");
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	(void)on("GET", lookup_self, "t1", 403, DENIED);
	(void)on("GET", "/v1/secret/data/db", "t1", 403, DENIED);
	usual("t2");
	(void)on("POST", approle, "", 200, AUTH("t2", 3600, true));
	for (size_t i = 0; i < 3; i++)
		ask(o, "secret/db", FIELD, &h[i]);
	for (size_t i = 0; i < 3; i++) {
		UNTIL(h[i].done);
		(void)assert_had(h[i], "1");
		buf_free(&h[i].id);
	}
	assert_asked("approle/login", 2);
	assert_asked("lookup-self t1", 2);
	/* the next dies at once: not another login within the minute */
	(void)on("GET", lookup_self, "t2", 403, DENIED);
	(void)on("GET", "/v1/secret/data/db", "t2", 403, DENIED);
	assert_not_had(had(o, "secret/db", FIELD), EKEYREJECTED, true, "refused a token");
	assert_not_had(had(o, "secret/db", FIELD), EKEYREJECTED, true, "refused a token");
	assert_asked("approle/login", 2);
	close_it(o);
}

static void test_missing_right(void **state)
{
	struct opened o;

	(void)state;
	usual_approle();
	o = open_approle("mounts", "secret=2");
	(void)on("GET", "/v1/secret/data/db", "t1", 403, DENIED);
	assert_not_had(had(o, "secret/db", FIELD), EKEYREJECTED, false, "permission denied");
	/* where nobody can say, nothing is lost */
	(void)on("GET", lookup_self, "t1", 503, "");
	assert_not_had(had(o, "secret/db", FIELD), EKEYREJECTED, true, "permission denied");
	assert_asked("approle/login", 1);
	close_it(o);
}

/* lookup-self is refused to the living token, in words or without: that proves nothing. */
static void test_no_lookup_right(void **state)
{
	struct opened o;

	(void)state;
	usual_approle();
	(void)on("GET", lookup_self, "t1", 403, NO_RIGHT);
	o = open_approle("mounts", "secret=2");
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	(void)on("GET", "/v1/secret/data/x", "t1", 403, NO_RIGHT);
	assert_not_had(had(o, "secret/x", FIELD), EKEYREJECTED, false, "permission denied");
	assert_asked("approle/login", 1);
	/* the words of a dead one */
	(void)on("GET", lookup_self, "t1", 403, DENIED);
	(void)on("GET", "/v1/secret/data/db", "t1", 403, DENIED);
	usual("t2");
	(void)on("POST", approle, "", 200, AUTH("t2", 3600, true));
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	close_it(o);
	/* a server that has no other words */
	usual_approle();
	requests[0] = '\0';
	(void)on("GET", lookup_self, "t1", 403, DENIED);
	o = open_approle("mounts", "secret=2");
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	(void)on("GET", "/v1/secret/data/x", "t1", 403, DENIED);
	assert_not_had(had(o, "secret/x", FIELD), EKEYREJECTED, false, "permission denied");
	assert_asked("approle/login", 1);
	close_it(o);
}

static void test_wrapped_secret_id(void **state)
{
	struct opened o;

	(void)state;
	usual_approle();
	put_text("secret", "w1\n");
	(void)on("POST", "/v1/sys/wrapping/lookup", "", 200,
	         "{\"data\":{\"creation_path\":\"auth/approle/role/x/secret-id\"}}");
	(void)on("POST", "/v1/sys/wrapping/unwrap", "w1", 200, "{\"data\":{\"secret_id\":\"s9\"}}");
	o = open_approle("auth.secret_id_response_wrapping_path", "auth/approle/role/x/secret-id");
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	assert_asked("POST /v1/sys/wrapping/lookup {\"token\":\"w1\"}", 1);
	assert_asked("POST /v1/sys/wrapping/unwrap w1 once; ", 1);
	assert_asked("{\"role_id\":\"r1\",\"secret_id\":\"s9\"}", 1);
	/* the next login uses what came out */
	(void)on("GET", lookup_self, "t1", 403, DENIED);
	(void)on("GET", "/v1/secret/data/db", "t1", 403, DENIED);
	usual("t2");
	(void)on("POST", approle, "", 200, AUTH("t2", 3600, true));
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	assert_asked("unwrap", 1);
	assert_asked("{\"role_id\":\"r1\",\"secret_id\":\"s9\"}", 2);
	close_it(o);
}

static void test_wrapped_by_others(void **state)
{
	struct opened o;

	(void)state;
	usual_approle();
	put_text("secret", "w1\n");
	(void)on("POST", "/v1/sys/wrapping/lookup", "", 200, "{\"data\":{\"creation_path\":\"cubbyhole/x\"}}");
	o = open_approle("auth.secret_id_response_wrapping_path", "auth/approle/role/x/secret-id");
	assert_not_had(had(o, "secret/db", FIELD), EKEYREJECTED, true, "was made at cubbyhole/x and not at auth/approle/role/x/secret-id");
	assert_asked("unwrap", 0);
	assert_told("tell E the wrapping token");
	(void)on("POST", "/v1/sys/wrapping/lookup", "", 400,
	         "{\"errors\":[\"wrapping token is not valid or does not exist\"]}");
	UNTIL(strstr(host_log, "somebody else has opened it"));
	close_it(o);
}

/* KIP-297's Docker secret, wrapped: opened once, and then the token in it lives on. */
static void test_wrapped_token(void **state)
{
	struct opened o;

	(void)state;
	usual("t1");
	put_text("token", "w1");
	(void)on("POST", "/v1/sys/wrapping/lookup", "", 200, "{\"data\":{\"creation_path\":\"auth/token/create\"}}");
	(void)on("POST", "/v1/sys/wrapping/unwrap", "w1", 200, AUTH("t1", 3600, true));
	o = open_with("vault", PARAMS("address", "http://127.0.0.1:8200", "token", at("token"), "auth.token_wrapped", "true"));
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	put_text("token", "w1");
	run_for(50);
	assert_asked("unwrap", 1);
	(void)on("GET", lookup_self, "t1", 403, DENIED);
	(void)on("GET", "/v1/secret/data/db", "t1", 403, DENIED);
	assert_not_had(had(o, "secret/db", FIELD), EKEYREJECTED, true, "a new one is needed");
	assert_asked("unwrap", 1);
	usual("t2");
	(void)on("POST", "/v1/sys/wrapping/unwrap", "w2", 200, AUTH("t2", 3600, true));
	put_text("token", "w2");
	UNTIL(healed == 1);
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	close_it(o);
}

static void test_removes_secret_id(void **state)
{
	struct opened o;

	(void)state;
	usual_approle();
	o = open_approle("auth.remove_secret_id_file_after_reading", "true");
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	UNTIL(access(at("secret"), F_OK) != 0);
	(void)on("GET", lookup_self, "t1", 403, DENIED);
	(void)on("GET", "/v1/secret/data/db", "t1", 403, DENIED);
	usual("t2");
	(void)on("POST", approle, "", 200, AUTH("t2", 3600, true));
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	assert_asked("\"secret_id\":\"s1\"", 2);
	assert_non_null(strmap_get(kept, SLICE_LIT("secret-id")));
	close_it(o);
}

static void test_restored(void **state)
{
	struct opened o;
	struct slice name;
	void *value;
	size_t pos = 0;

	(void)state;
	usual_approle();
	o = open_approle("mounts", "secret=2");
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	close_it(o);
	unlink(at("secret"));
	requests[0] = '\0';
	o = open_approle("mounts", "secret=2");
	o.ops->restore(o.self, SLICE_LIT("token:7"), SLICE_LIT("nonsense"));
	o.ops->restore(o.self, SLICE_LIT("token:x"), SLICE_LIT("1"));
	o.ops->restore(o.self, SLICE_LIT("?"), SLICE_LIT(""));
	while (strmap_next(kept, &pos, &name, &value))
		o.ops->restore(o.self, name, slice_str(value));
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	assert_string_equal(requests, "GET /v1/secret/data/db t1; ");
	run_for(1100);
	assert_non_null(strmap_get(kept, SLICE_LIT("token:1")));
	/* and the secret id, whose file is gone */
	(void)on("GET", lookup_self, "t1", 403, DENIED);
	(void)on("GET", "/v1/secret/data/db", "t1", 403, DENIED);
	usual("t2");
	(void)on("POST", approle, "", 200, AUTH("t2", 3600, true));
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	close_it(o);
}

static void test_num_uses(void **state)
{
	struct opened o;

	(void)state;
	usual("t1");
	(void)on("GET", lookup_self, "t1", 200, "{\"data\":{\"ttl\":3600,\"num_uses\":5,\"renewable\":true}}");
	o = open_token();
	(void)assert_had(had(o, "secret/db", FIELD), "1");
	assert_told("can be used 5 times only");
	close_it(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_approle, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_login_fails, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_file_changes, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_other_methods, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_token_is_renewed, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_max_ttl, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_token_file_ends, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_token_file_follows, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_dead_token, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_missing_right, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_no_lookup_right, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_wrapped_secret_id, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_wrapped_by_others, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_wrapped_token, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_removes_secret_id, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_restored, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_num_uses, vault_setup, vault_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
