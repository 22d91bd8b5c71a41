/*
 * Leases of the vault provider: renewed, cut short, revoked, lost with their token, adopted.
 */
#include "vault-fake.h"

#define FIELD KEYS("a")
#define CREDS(id, s, renewable) \
	"{\"lease_id\":\"" id "\",\"lease_duration\":" #s ",\"renewable\":" #renewable ",\"data\":{\"a\":\"user\"}}"
#define RENEWED(s, renewable) "{\"lease_id\":\"l1\",\"lease_duration\":" #s ",\"renewable\":" #renewable "}"
static const char creds[] = "/v1/database/creds/r", renew_lease[] = "/v1/sys/leases/renew";
static const char lookup_lease[] = "/v1/sys/leases/lookup", revoke_lease[] = "/v1/sys/leases/revoke";

static struct opened open_db(const char *name, const char *value)
{
	return open_with("vault", PARAMS("address", "http://127.0.0.1:8200", "token", at("token"), "mounts", "database=raw",
	                                 name, value));
}

static struct had lease_had(struct opened o)
{
	return assert_had(had(o, "database/creds/r", FIELD), "user");
}

static void test_is_renewed(void **state)
{
	struct provider_status st = { 0 };
	struct opened o;
	struct had h;

	(void)state;
	usual("t1");
	(void)on("GET", creds, "t1", 200, CREDS("l1", 1, true));
	(void)on("PUT", renew_lease, "t1", 200, RENEWED(1, true));
	o = open_db("revoke", "false");
	h = lease_had(o);
	assert_true(h.lease_ms > 0 && h.lease_ms <= 1000);
	assert_true(h.replace_ms > h.lease_ms);
	assert_asked("once", 1);
	UNTIL(count(host_log, "lease database/creds/r moved") == 2);
	assert_true(host_lease_ms > 0 && host_replace_ms > host_lease_ms);
	assert_asked("PUT /v1/sys/leases/renew t1{\"lease_id\":\"l1\",\"increment\":1}", 2);
	o.ops->status(o.self, &st);
	assert_int_equal(st.leases, 1);
	assert_int_equal(st.renewals, 2);
	assert_asked("GET /v1/database/creds/r", 1);
	o.ops->release(o.self, SLICE_LIT("database/creds/r"));
	o.ops->release(o.self, SLICE_LIT("database/creds/other"));
	run_for(1000);
	assert_asked("leases/renew", 2); /* nobody has use of it */
	close_it(o);
}

/* max_ttl is near: it is to be replaced before its end. */
static void test_shrinks(void **state)
{
	struct opened o;

	(void)state;
	usual("t1");
	(void)on("GET", creds, "t1", 200, CREDS("l1", 2, true));
	(void)on("PUT", renew_lease, "t1", 200, RENEWED(1, true));
	o = open_db("revoke", "false");
	(void)lease_had(o);
	UNTIL(count(host_log, "lease database/creds/r moved") == 1);
	assert_true(host_lease_ms <= 1000 && host_replace_ms < host_lease_ms);
	run_for(1100);
	assert_asked("leases/renew", 1);
	assert_null(strstr(host_log, "revoked"));
	close_it(o);
}

static void test_not_renewable(void **state)
{
	struct opened o;
	struct had h;

	(void)state;
	usual("t1");
	(void)on("GET", creds, "t1", 200, CREDS("l1", 10, false));
	o = open_db("revoke", "false");
	h = lease_had(o);
	assert_true(h.replace_ms > 0 && h.replace_ms <= 9000);
	/* "lease is not renewable" is known later, too */
	(void)on("GET", creds, "t1", 200, CREDS("l2", 1, true));
	(void)on("PUT", renew_lease, "t1", 400, "{\"errors\":[\"lease is not renewable\"]}");
	h = lease_had(o);
	assert_true(h.replace_ms > h.lease_ms);
	UNTIL(count(host_log, "moved") == 1);
	assert_true(host_replace_ms < host_lease_ms);
	close_it(o);
}

static void test_revoked_by_operator(void **state)
{
	struct opened o;

	(void)state;
	usual("t1");
	vault_times.lookup_ms = 30;
	(void)on("GET", creds, "t1", 200, CREDS("l1", 3600, true));
	(void)on("PUT", lookup_lease, "t1", 200, "{\"data\":{\"ttl\":3600}}");
	o = open_db("revoke", "false");
	(void)lease_had(o);
	UNTIL(count(requests, "leases/lookup") >= 3);
	assert_string_equal(host_log, "");
	/* cut short */
	(void)on("PUT", lookup_lease, "t1", 200, "{\"data\":{\"ttl\":100}}");
	UNTIL(count(host_log, "moved") == 1);
	assert_true(host_lease_ms <= 100000);
	(void)on("PUT", lookup_lease, "t1", 400, "{\"errors\":[\"invalid lease\"]}");
	UNTIL(strstr(host_log, "revoked"));
	assert_int_equal(host_lease_ms, 0);
	unsigned n = count(requests, "leases/");
	run_for(100);
	assert_int_equal(count(requests, "leases/"), n);
	/* at a renewal */
	vault_times.lookup_ms = 60000;
	(void)on("GET", creds, "t1", 200, CREDS("l2", 1, true));
	(void)on("PUT", renew_lease, "t1", 400, "{\"errors\":[\"lease not found\"]}");
	(void)lease_had(o);
	UNTIL(count(host_log, "revoked") == 2);
	close_it(o);
}

/* A policy forbids to look: no more questions, and the lease goes on. */
static void test_lookup_forbidden(void **state)
{
	struct opened o;

	(void)state;
	usual("t1");
	vault_times.lookup_ms = 20;
	(void)on("GET", creds, "t1", 200, CREDS("l1", 3600, true));
	(void)on("PUT", lookup_lease, "t1", 403, NO_RIGHT);
	o = open_db("revoke", "false");
	(void)lease_had(o);
	run_for(150);
	assert_asked("leases/lookup", 1);
	assert_asked("GET /v1/auth/token/lookup-self t1", 2);
	assert_string_equal(host_log, "");
	close_it(o);
}

/* With an Agent in front there is no token of ours, and a refusal is one all the same. */
static void test_without_token(void **state)
{
	struct opened o;

	(void)state;
	vault_times.lookup_ms = 20;
	(void)on("GET", creds, "", 200, CREDS("l1", 1, true));
	(void)on("PUT", lookup_lease, "", 403, DENIED);
	(void)on("PUT", renew_lease, "", 403, DENIED);
	o = open_with("vault", PARAMS("address", "http://x:1", "auth", "none", "mounts", "database=raw"));
	(void)lease_had(o);
	UNTIL(count(host_log, "moved") == 1);
	assert_true(host_replace_ms < host_lease_ms);
	assert_asked("leases/lookup", 1);
	assert_asked("leases/renew", 1);
	close_it(o);
}

static void test_outage_of_renewal(void **state)
{
	struct opened o;
	struct rule *r;

	(void)state;
	usual("t1");
	(void)on("GET", creds, "t1", 200, CREDS("l1", 1, true));
	r = on("PUT", renew_lease, "t1", 503, "");
	o = open_db("revoke", "false");
	(void)lease_had(o);
	UNTIL(r->hits >= 3);
	assert_null(strstr(host_log, "lease "));
	(void)on("PUT", renew_lease, "t1", 200, RENEWED(1, true));
	UNTIL(count(host_log, "moved") == 1);
	on("PUT", renew_lease, "t1", 0, "")->err = ETIMEDOUT;
	run_for(1100);
	struct provider_status st = { 0 };
	o.ops->status(o.self, &st);
	assert_int_equal(st.leases, 0);
	assert_true(st.renewal_failures > 3);
	close_it(o);
}

/* It ends with its token, whatever was granted. */
static void test_token_ends(void **state)
{
	struct provider_status st;
	struct opened o;
	struct had h;

	(void)state;
	usual("t1");
	(void)on("GET", lookup_self, "t1", 200, LOOKUP(1, false));
	(void)on("GET", creds, "t1", 200, CREDS("l1", 3600, true));
	o = open_db("revoke", "false");
	h = lease_had(o);
	assert_true(h.lease_ms <= 1000);
	/* by its time, or by the token's, whichever timer is first */
	do {
		st = (struct provider_status){ 0 };
		run_for(20);
		o.ops->status(o.self, &st);
	} while (st.leases > 0);
	assert_asked("leases/renew", 0);
	/* a token that is dead before its time takes its leases with it */
	(void)on("GET", lookup_self, "t1", 200, LOOKUP(3600, true));
	run_for(1100);
	(void)lease_had(o);
	(void)on("GET", lookup_self, "t1", 403, DENIED);
	(void)on("GET", creds, "t1", 403, DENIED);
	assert_not_had(had(o, "database/creds/r", FIELD), EKEYREJECTED, true, "");
	assert_told("lease database/creds/r the token that it was made with has ended");
	assert_int_equal(host_lease_ms, 0);
	close_it(o);
}

/* Another token: what was made with the one before is replaced in good time, and renewed with it until then. */
static void test_another_token(void **state)
{
	struct opened o;
	struct had h;

	(void)state;
	usual("t1");
	(void)on("GET", lookup_self, "t1", 200, LOOKUP(2, false));
	(void)on("GET", creds, "t1", 200, CREDS("l1", 3600, true));
	o = open_db("revoke", "false");
	h = lease_had(o);
	assert_true(h.replace_ms > h.lease_ms); /* as long as there is no other */
	usual("t2");
	(void)on("GET", creds, "t2", 200, CREDS("l2", 3600, true));
	UNTIL(count(host_log, "moved") == 1);
	assert_true(host_lease_ms > 0 && host_lease_ms <= 2000 && host_replace_ms < host_lease_ms);
	h = lease_had(o);
	assert_true(h.lease_ms > 3000000);
	assert_asked("GET /v1/database/creds/r t2", 1);
	assert_non_null(strmap_get(kept, SLICE_LIT("token:1"))); /* of the lease that was replaced */
	UNTIL(!strmap_get(kept, SLICE_LIT("token:1")));
	assert_null(strstr(host_log, "has ended"));
	close_it(o);
}

static void test_revokes(void **state)
{
	struct opened o;

	(void)state;
	usual("t1");
	vault_times.revoke_ms = 60;
	(void)on("PUT", revoke_lease, "t1", 204, "");
	(void)on("GET", creds, "t1", 200, CREDS("l1", 3600, true));
	o = open_db("revoke", "true");
	(void)lease_had(o);
	(void)on("GET", creds, "t1", 200, CREDS("l2", 3600, true));
	(void)lease_had(o);
	assert_asked("leases/revoke", 0);
	UNTIL(count(requests, "PUT /v1/sys/leases/revoke t1{\"lease_id\":\"l1\"}") == 1);
	o.ops->release(o.self, SLICE_LIT("database/creds/r"));
	run_for(20);
	assert_asked("l2", 0);
	UNTIL(count(requests, "PUT /v1/sys/leases/revoke t1{\"lease_id\":\"l2\"}") == 1);
	run_for(20);
	close_it(o);
}

static void test_is_adopted(void **state)
{
	struct opened o;
	struct had h;
	struct slice name, id = SLICE_LIT("database/creds/r");
	void *value;
	size_t pos = 0;

	(void)state;
	usual("t1");
	(void)on("GET", creds, "t1", 200, CREDS("l1", 2, true));
	(void)on("PUT", renew_lease, "t1", 200, RENEWED(2, true));
	o = open_db("revoke", "false");
	h = lease_had(o);
	close_it(o);
	requests[0] = '\0';
	o = open_db("revoke", "false");
	assert_int_equal(o.ops->adopt(o.self, id, slice_str(h.state), 1000), -ENOENT); /* no token */
	while (strmap_next(kept, &pos, &name, &value))
		o.ops->restore(o.self, name, slice_str(value));
	assert_int_equal(o.ops->adopt(o.self, id, SLICE_LIT("nonsense"), 1000), -EINVAL);
	assert_int_equal(o.ops->adopt(o.self, id, slice_str(h.state), 1000), 0);
	assert_string_equal(host_log, "");
	UNTIL(count(host_log, "moved") == 2); /* when to replace it, and a renewal */
	assert_asked("PUT /v1/sys/leases/renew t1{\"lease_id\":\"l1\",\"increment\":2}", 1);
	assert_asked("lookup-self", 0);
	close_it(o);
}

static void test_close_with_requests(void **state)
{
	struct opened o;

	(void)state;
	usual("t1");
	(void)on("GET", creds, "t1", 200, CREDS("l1", 1, true));
	on("PUT", renew_lease, "t1", 200, RENEWED(1, true))->delay_ms = 10000;
	o = open_db("revoke", "false");
	(void)lease_had(o);
	UNTIL(count(requests, "leases/renew") == 1);
	close_it(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_is_renewed, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_shrinks, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_not_renewable, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_revoked_by_operator, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_lookup_forbidden, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_without_token, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_outage_of_renewal, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_token_ends, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_another_token, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_revokes, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_is_adopted, vault_setup, vault_teardown),
		cmocka_unit_test_setup_teardown(test_close_with_requests, vault_setup, vault_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
