/*
 * Answers of Vault, taken apart.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/secmem.h"
#include "provider/vault_reply.h"

static struct vault_reply reply;
static struct vault_secret secret;
static struct error why;

static int parse(const char *body)
{
	why = (struct error)ERROR_INIT;
	return vault_reply_parse(slice_str(body), &reply, &why);
}

/* "field=value;…" of what the reply has of the fields; or the errno's name. Fields are joined by commas. */
static const char *read_as(const char *body, int status, enum vault_kind kind, const char *fields)
{
	static char text[1024];
	struct slice wanted[8];
	size_t n = 0, len = 0;
	int err;

	for (const char *at = fields; *at; at += strcspn(at, ","), at += *at == ',')
		wanted[n++] = slice_of(at, strcspn(at, ","));
	assert_int_equal(parse(body), 0);
	err = vault_reply_secret(&reply, status, kind, wanted, n, 1000000000, &secret, &why);
	text[0] = '\0';
	if (err) {
		vault_reply_done(&reply);
		assert_true(why.text[0]);
		return strerrorname_np(-err);
	}
	for (size_t i = 0; i < secret.n_fields; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%.*s=%.*s;", SLICE_FMT(secret.fields[i].key),
		                        SLICE_FMT(secret.fields[i].value));
	vault_secret_done(&secret);
	vault_reply_done(&reply);
	return text;
}

static void test_values(void **state)
{
	const char *body = "{\"data\":{\"a\":\"text\",\"b\":12,\"c\":true,\"d\":{\"y\":[1,2.50,\"\\u00e9\\n\"],\"x\":null},"
	                   "\"e\":null,\"f.g\":\"flat\",\"f\":{\"g\":\"deep\",\"h\":\"only\"},\"l\":[{\"k\":\"v\"}],"
	                   "\"n\":0.1,\"big\":9007199254740993}}";

	(void)state;
	assert_string_equal(read_as(body, 200, VAULT_KV1, "a,b,c"), "a=text;b=12;c=true;");
	assert_string_equal(read_as(body, 200, VAULT_KV1, "d"), "d={\"y\":[1,2.50,\"\xc3\xa9\\n\"],\"x\":null};");
	assert_string_equal(read_as(body, 200, VAULT_KV1, "e,z"), "");
	assert_string_equal(read_as(body, 200, VAULT_KV1, "f.g,f.h,l.0.k,l.1.k,l.x"), "f.g=flat;f.h=only;l.0.k=v;");
	assert_string_equal(read_as(body, 200, VAULT_KV1, "n,big"), "n=0.1;big=9007199254740993;");
}

/* As Vault has them, however many digits; strings that look like them are none. */
static void test_numbers(void **state)
{
	const char *body = "{\"data\":{\"a\":1.10,\"b\":123456789012345678901234567890,\"c\":-0,\"d\":1E+400,\"e\":-12.5e-3,"
	                   "\"f\":[9223372036854775807,0.30000000000000000001,\"7.50\\\"8.5\"],\"g\":\"0.5\",\"h\":1.0,"
	                   "\"i\":-999999999999999999,\"j\":{\"k\":2.00}}}";

	(void)state;
	assert_string_equal(read_as(body, 200, VAULT_KV1, "a,b,c,d,e"),
	                    "a=1.10;b=123456789012345678901234567890;c=-0;d=1E+400;e=-12.5e-3;");
	assert_string_equal(read_as(body, 200, VAULT_KV1, "f,g,h,i,j.k,f.0"),
	                    "f=[9223372036854775807,0.30000000000000000001,\"7.50\\\"8.5\"];g=0.5;h=1.0;i=-999999999999999999;"
	                    "j.k=2.00;f.0=9223372036854775807;");
}

static void test_odd_values(void **state)
{
	(void)state;
	assert_string_equal(read_as("{\"data\":{\"a\":\"\",\"b\":{},\"c\":[],\"a\":\"last\"}}", 200, VAULT_KV1, "a,b,c"),
	                    "a=last;b={};c=[];");
	assert_string_equal(read_as("{\"data\":{\"a\":\"\",\"l\":[1,2]}}", 200, VAULT_KV1, "a"), "a=;");
	assert_string_equal(read_as("{\"data\":{\"l\":[1,2]}}", 200, VAULT_KV1,
	                            "l.,l.-1,l.99999999999999999999,.l,l.1.x,l.1"), "l.1=2;");
	/* a flat key of null is there, and not a way */
	assert_string_equal(read_as("{\"data\":{\"a.b\":null,\"a\":{\"b\":\"x\"}}}", 200, VAULT_KV1, "a.b"), "");
	assert_int_equal(parse("{\"data\":{\"a\":\"x\\u0000y\"}}"), 0);
	assert_int_equal(vault_reply_secret(&reply, 200, VAULT_KV1, &SLICE_LIT("a"), 1, 0, &secret, &why), 0);
	assert_int_equal(secret.fields[0].value.len, 3);
	vault_secret_done(&secret);
	vault_reply_done(&reply);
}

/* Each allocation of secret memory fails once, and jansson's are there. */
static void test_no_memory(void **state)
{
	const char *body = "{\"lease_id\":\"x\",\"data\":{\"a\":{\"y\":[1,2.50,\"\\u00e9\"]},\"b\":\"text\",\"c\":1.5}}";
	const struct slice wanted[] = { SLICE_LIT("a"), SLICE_LIT("b") };
	int err = -ENOMEM, n;

	(void)state;
	for (n = 1; n < 1000 && err; n++) {
		secmem_fail_after(n);
		err = parse(body);
		if (!err) {
			err = vault_reply_secret(&reply, 200, VAULT_OTHER, wanted, 2, 0, &secret, &why);
			vault_reply_done(&reply);
		}
		secmem_fail_after(-1);
		if (err && (err != -ENOMEM || why.code != ENOMEM))
			fail_msg("allocation %d: %d, %s", n, err, why.text);
	}
	assert_int_equal(err, 0);
	assert_true(n > 20);
	vault_secret_done(&secret);
}

/* What nobody wants yet comes along where to ask again would make another. */
static void test_all_of_a_lease(void **state)
{
	(void)state;
	assert_string_equal(read_as("{\"lease_id\":\"x\",\"data\":{\"u\":\"1\",\"p\":\"2\"}}", 200, VAULT_OTHER, "p"),
	                    "p=2;u=1;");
	assert_string_equal(read_as("{\"data\":{\"u\":\"1\",\"p\":\"2\"}}", 200, VAULT_KV1, "p"), "p=2;");
}

#define META(m) "\"metadata\":{\"version\":2,\"created_time\":\"2026-01-01T00:00:00Z\"," m "}"

static void test_kv2(void **state)
{
	const char *live = "{\"data\":{\"data\":{\"a\":\"1\"}," META("\"deletion_time\":\"\",\"destroyed\":false") "}}";

	(void)state;
	assert_string_equal(read_as(live, 200, VAULT_KV2, "a"), "a=1;");
	assert_string_equal(read_as(live, 200, VAULT_OTHER, "a"), "a=1;"); /* the mount's kind is not known */
	assert_string_equal(read_as("{\"data\":{\"data\":{\"a\":\"1\"}," META("\"deletion_time\":"
	                            "\"2200-01-01T00:00:00.5Z\",\"destroyed\":false") "}}", 200, VAULT_KV2, "a"), "a=1;");
	assert_string_equal(read_as("{\"data\":{\"data\":null," META("\"deletion_time\":\"2001-01-01T00:00:00.123456789Z\","
	                            "\"destroyed\":false") "}}", 404, VAULT_KV2, "a"), "EKEYREVOKED");
	assert_non_null(strstr(why.text, "deleted"));
	assert_string_equal(read_as("{\"data\":{\"data\":null," META("\"deletion_time\":\"\",\"destroyed\":true") "}}", 404,
	                            VAULT_KV2, "a"), "EKEYREVOKED");
	assert_non_null(strstr(why.text, "destroyed"));
	/* our clock is wrong: before the server's, and after it */
	assert_string_equal(read_as("{\"data\":{\"data\":null," META("\"deletion_time\":\"2200-01-01T00:00:00Z\","
	                            "\"destroyed\":false") "}}", 404, VAULT_KV2, "a"), "EKEYREVOKED");
	assert_string_equal(read_as("{\"data\":{\"data\":{\"a\":\"1\"}," META("\"deletion_time\":\"2001-01-01T00:00:00Z\","
	                            "\"destroyed\":false") "}}", 200, VAULT_KV2, "a"), "a=1;");
	/* a KV 1 secret that looks a bit like it */
	assert_string_equal(read_as("{\"data\":{\"data\":{\"a\":\"1\"},\"metadata\":\"m\"}}", 200, VAULT_OTHER, "metadata"),
	                    "metadata=m;data={\"a\":\"1\"};");
	assert_string_equal(read_as("{\"errors\":[]}", 404, VAULT_KV2, "a"), "ENOKEY");
	assert_string_equal(read_as("", 404, VAULT_KV2, "a"), "ENOKEY");
	assert_string_equal(read_as("{\"data\":null}", 200, VAULT_KV1, "a"), "ENOKEY");
	assert_string_equal(read_as("{\"data\":[1]}", 200, VAULT_KV1, "a"), "EPROTO");
}

static int64_t ttl_of(const char *body, enum vault_kind kind, int64_t *end_ms)
{
	int64_t ttl;

	assert_int_equal(parse(body), 0);
	assert_int_equal(vault_reply_secret(&reply, 200, kind, NULL, 0, 1000000000, &secret, &why), 0);
	ttl = secret.ttl_ms;
	*end_ms = secret.end_ms;
	vault_secret_done(&secret);
	vault_reply_done(&reply);
	return ttl;
}

static void test_times(void **state)
{
	int64_t end;

	(void)state;
	assert_int_equal(ttl_of("{\"lease_duration\":2764800,\"data\":{\"a\":\"1\"}}", VAULT_KV1, &end), -1);
	assert_int_equal(ttl_of("{\"data\":{\"ttl\":\"30s\"}}", VAULT_KV1, &end), 30000);
	assert_int_equal(ttl_of("{\"data\":{\"ttl\":\"1h\"}}", VAULT_KV1, &end), 3600000);
	assert_int_equal(ttl_of("{\"data\":{\"ttl\":90}}", VAULT_KV1, &end), 90000);
	assert_int_equal(ttl_of("{\"data\":{\"ttl\":\"90\"}}", VAULT_KV1, &end), 90000);
	assert_int_equal(ttl_of("{\"data\":{\"ttl\":\"1h30m\"}}", VAULT_KV1, &end), 5400000);
	assert_int_equal(ttl_of("{\"data\":{\"ttl\":\"1m500ms\"}}", VAULT_KV1, &end), 60500);
	static const char *const none[] = { "\"soon\"", "\"\"", "\"0s\"", "0", "-5", "\"-5s\"", "\"1h30\"", "\"5w\"",
		                            "\"99999999999s\"",
		                            "1.5", "true", "\"1h\\u0000\"", "\"s\"" };
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		char body[64];

		(void)snprintf(body, sizeof(body), "{\"data\":{\"ttl\":%s}}", none[i]);
		assert_int_equal(ttl_of(body, VAULT_KV1, &end), -1);
	}
	assert_int_equal(ttl_of("{\"data\":{\"ttl\":\"30s\"}}", VAULT_OTHER, &end), -1);
	assert_int_equal(ttl_of("{\"data\":{\"ttl\":60,\"last_vault_rotation\":\"x\"}}", VAULT_OTHER, &end), 59000);
	assert_int_equal(ttl_of("{\"data\":{\"ttl\":1,\"last_vault_rotation\":\"x\"}}", VAULT_OTHER, &end), 200);
	assert_int_equal(ttl_of("{\"data\":{\"ttl\":0,\"rotation_period\":5}}", VAULT_OTHER, &end), 200);
	assert_int_equal(end, -1);
	ttl_of("{\"data\":{\"certificate\":\"c\",\"expiration\":1000003600}}", VAULT_OTHER, &end);
	assert_int_equal(end, 3600000);
	ttl_of("{\"data\":{\"certificate\":\"c\",\"expiration\":1}}", VAULT_OTHER, &end);
	assert_int_equal(end, 0);
}

static void test_envelope(void **state)
{
	(void)state;
	assert_int_equal(parse("{\"lease_id\":\"database/creds/r/x\",\"renewable\":true,\"lease_duration\":10,\"auth\":null,"
	                       "\"data\":{}}"), 0);
	assert_true(slice_eq_str(reply.lease_id, "database/creds/r/x"));
	assert_true(reply.renewable && reply.has_data && !reply.has_auth && !reply.has_wrap);
	assert_int_equal(reply.lease_s, 10);
	vault_reply_done(&reply);
	assert_int_equal(parse("{\"auth\":{\"client_token\":\"t\",\"lease_duration\":3600,\"renewable\":true,"
	                       "\"token_type\":\"batch\",\"mfa_requirement\":{},\"num_uses\":3}}"), 0);
	assert_true(reply.has_auth && reply.auth.batch && reply.auth.mfa && reply.auth.renewable);
	assert_true(slice_eq_str(reply.auth.token, "t"));
	assert_int_equal(reply.auth.num_uses, 3);
	vault_reply_done(&reply);
	assert_int_equal(parse("{\"wrap_info\":{\"token\":\"w\",\"creation_path\":\"auth/approle/login\"}}"), 0);
	assert_true(slice_eq_str(reply.wrap_path, "auth/approle/login"));
	vault_reply_done(&reply);
	assert_int_equal(parse("{\"errors\":[\"1 error occurred:\\n\\t* permission denied\\n\\n\",\"\\u001b[2J\"]}"), 0);
	assert_true(vault_reply_says(&reply, "permission denied"));
	assert_null(strpbrk(reply.errors, "\n\t\033"));
	vault_reply_done(&reply);
	assert_int_equal(parse("{\"errors\":[\"bad token hvs.CAESIKanary0123 of role-with-a-long-name, KanaryKanary1234567\"]}"), 0);
	assert_null(strstr(reply.errors, "anary"));
	assert_non_null(strstr(reply.errors, "role-with-a-long-name"));
	vault_reply_done(&reply);
	assert_int_equal(parse(" \n"), 0);
	vault_reply_done(&reply);
}

static void test_bad(void **state)
{
	static const char *const bodies[] = {
		"<html>canary</html>", "canary", "[1]", "{\"data\":", "{\"lease_id\":3}", "{\"errors\":{}}", "{\"auth\":\"x\"}",
		"{\"renewable\":\"yes\"}", "{\"lease_duration\":\"1h\"}", "{\"lease_duration\":1.5}", "{} {}",
		"{\"data\":01.5}", "{\"data\":1.}", "{\"data\":-}", "{\"data\":1.5.5}", "{\"data\":1.5e}", "{\"data\":.5}",
		"{\"data\":-1-2.5}", "{\"data\":1.5-2.5}", "{\"data\":1.5\"", "{\"data\":\"\\", "1.5", "-",
	};
	struct buf deep;

	(void)state;
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		assert_int_equal(parse(bodies[i]), -EPROTO);
		assert_null(strstr(why.text, "canary"));
	}
	buf_init(&deep, 1 << 20);
	buf_add_str(&deep, "{\"data\":");
	for (int i = 0; i < 100000; i++)
		buf_add_char(&deep, '[');
	assert_int_equal(parse(deep.data), -EPROTO);
	assert_non_null(strstr(why.text, "levels"));
	buf_reset(&deep);
	buf_add_str(&deep, "{\"data\":[0");
	for (int i = 0; i < VAULT_JSON_VALUES; i++)
		buf_add_str(&deep, ",0");
	buf_add_str(&deep, "]}");
	assert_int_equal(parse(deep.data), -EPROTO);
	assert_non_null(strstr(why.text, "values"));
	buf_free(&deep);
}

static void test_lookups(void **state)
{
	struct vault_mount m;
	struct slice s;
	int64_t n;
	bool b;

	(void)state;
	assert_int_equal(parse("{\"data\":{\"ttl\":5,\"renewable\":true,\"type\":\"service\"}}"), 0);
	assert_true(vault_reply_number(&reply, "ttl", &n) && n == 5);
	assert_true(vault_reply_bool(&reply, "renewable", &b) && b);
	assert_true(vault_reply_string(&reply, "type", &s) && slice_eq_str(s, "service"));
	assert_false(vault_reply_number(&reply, "type", &n));
	assert_false(vault_reply_string(&reply, "none", &s));
	assert_false(vault_reply_mount(&reply, &m));
	vault_reply_done(&reply);
	assert_int_equal(parse("{\"data\":{\"path\":\"secret/\",\"type\":\"kv\",\"options\":{\"version\":\"2\"}}}"), 0);
	assert_true(vault_reply_mount(&reply, &m) && m.version == 2);
	vault_reply_done(&reply);
	assert_int_equal(parse("{\"data\":{\"path\":\"kv/\",\"type\":\"kv\",\"options\":null}}"), 0);
	assert_true(vault_reply_mount(&reply, &m) && m.version == 1);
	vault_reply_done(&reply);
	assert_int_equal(parse("{\"data\":{\"path\":\"db/\",\"type\":\"database\",\"options\":{\"version\":\"2\"}}}"), 0);
	assert_true(vault_reply_mount(&reply, &m) && m.version == 0);
	vault_reply_done(&reply);
}

static void test_time(void **state)
{
	static const struct {
		const char *text;
		int64_t ns; /* -1: none */
	} rows[] = {
		{ "1970-01-01T00:00:01Z", 1000000000 },
		{ "2001-09-09T01:46:40.5Z", 1000000000500000000 },
		{ "2001-09-09T03:46:40.123456789+02:00", 1000000000123456789 },
		{ "2001-09-08T20:46:40-05:00", 1000000000000000000 },
		{ "2001-09-09T01:46:40", -1 }, { "2001-09-09", -1 }, { "", -1 }, { "2001-13-09T01:46:40Z", -1 },
		{ "2001-09-09T01:46:40.Z", -1 }, { "2001-09-09T01:46:40Zx", -1 }, { "0001-01-01T00:00:00Z", -1 },
	};
	int64_t ns;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		ns = -1;
		assert_int_equal(vault_parse_time(slice_str(rows[i].text), &ns), rows[i].ns >= 0);
		assert_int_equal(ns, rows[i].ns);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values), cmocka_unit_test(test_all_of_a_lease), cmocka_unit_test(test_kv2),
		cmocka_unit_test(test_times), cmocka_unit_test(test_envelope), cmocka_unit_test(test_bad),
		cmocka_unit_test(test_lookups), cmocka_unit_test(test_time), cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_odd_values), cmocka_unit_test(test_no_memory),
	};

	secmem_install_jansson();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
