/*
 * Paths of references to Vault, and what is asked for them.
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

#include "base/secmem.h"
#include "provider/vault_path.h"

static struct vault_settings settings;
static struct error why;

/* The id of a path, or the errno as "-N". */
static const char *mapped(const char *path)
{
	static char text[512];
	struct buf id, field;
	int err;

	buf_init(&id, 65536);
	buf_init(&field, 65536);
	why = (struct error)ERROR_INIT;
	err = vault_path_map(&settings, slice_str(path), SLICE_LIT("k"), &id, &field, &why);
	if (err) {
		assert_int_equal(why.code, -err);
		assert_true(why.text[0]);
		(void)snprintf(text, sizeof(text), "%d", err);
	} else {
		assert_string_equal(field.data, "k");
		(void)snprintf(text, sizeof(text), "%s", id.data);
	}
	buf_free(&id);
	buf_free(&field);
	return text;
}

static void test_map(void **state)
{
	static const char *const rows[][2] = {
		{ "secret/db", "secret/db" },
		{ "/secret//db/", "secret/db" },
		{ "secret/data/db", "secret/data/db" },
		{ "secret/db?version=3", "secret/db?version=3" },
		{ "secret/db?", "secret/db" },
		{ "pki/issue/web?ttl=1h&common_name=a.example", "pki/issue/web?common_name=a.example&ttl=1h" },
		{ "pki/issue/web?x=%3A%7d+&y", "pki/issue/web?x=%3A%7D%2B&y=" },
		{ "a b/c%d", "a b/c%d" },
		{ "secret/db?version=%3", "-22" },
		{ "secret/db?version=%zz", "-22" },
		{ "secret/db?v=%00", "-22" },
		{ "secret/db?=1", "-22" },
		{ "secret/db?a=1&a=2", "-22" },
		{ "secret/../db", "-22" },
		{ "secret/./db", "-22" },
		{ "secret/db.", "-22" },
		{ "/", "-22" },
		{ "?version=1", "-22" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_string_equal(mapped(rows[i][0]), rows[i][1]);
	assert_int_equal(-ENOKEY, atoi(mapped("")));
}

static void test_map_default_and_prefix(void **state)
{
	(void)state;
	settings.path = (char[]){ "secret/connect" };
	assert_string_equal(mapped(""), "secret/connect");
	assert_string_equal(mapped("other/x"), "other/x");
	settings.prefix = (char[]){ "/team/" };
	assert_string_equal(mapped("db"), "team/db");
	settings = (struct vault_settings){ .dialect = VAULT_OURS };
}

static void test_map_lenses(void **state)
{
	(void)state;
	settings = (struct vault_settings){ .dialect = VAULT_LENSES, .kv_version = 2, .prefix_depth = 1 };
	assert_string_equal(mapped("secret/my-secret"), "secret/data/my-secret");
	assert_string_equal(mapped("secret/data/my-secret"), "secret/data/my-secret");
	assert_string_equal(mapped("database/creds/role"), "database/creds/role");
	settings.prefix_depth = 2;
	assert_string_equal(mapped("team/kv/my"), "team/kv/data/my");
	assert_string_equal(mapped("/team//kv//data/my"), "team/kv/data/my");
	assert_string_equal(mapped("team/kv//my"), "team/kv/data/my");
	assert_string_equal(mapped("team/../x"), "-22");
	settings.kv_version = 1;
	assert_string_equal(mapped("team/kv/my"), "team/kv/my");
	settings.kv_version = 2;
	settings.prefix_depth = 0; /* by mount discovery */
	assert_string_equal(mapped("team/kv/my"), "team/kv/my");
	settings = (struct vault_settings){ .dialect = VAULT_OURS };
}

struct row {
	const char *id, *mount;
	unsigned version;
	const char *path, *body;
	enum vault_kind kind;
};

static void test_target(void **state)
{
	static const struct row rows[] = {
		{ "secret/db", "secret/", 2, "/v1/secret/data/db", NULL, VAULT_KV2 },
		{ "secret/data/db", "secret/", 2, "/v1/secret/data/db", NULL, VAULT_KV2 },
		{ "secret/metadata/db", "secret/", 2, "/v1/secret/metadata/db", NULL, VAULT_KV1 },
		{ "secret/subkeys/db?version=2", "secret/", 2, "/v1/secret/subkeys/db?version=2", NULL, VAULT_KV1 },
		{ "secret", "secret/", 2, "/v1/secret/data/", NULL, VAULT_KV2 },
		{ "secret/db?version=3", "secret/", 2, "/v1/secret/data/db?version=3", NULL, VAULT_KV2 },
		{ "secret/db", "secret/", 1, "/v1/secret/db", NULL, VAULT_KV1 },
		{ "team/a/kv/x/y", "team/a/kv/", 2, "/v1/team/a/kv/data/x/y", NULL, VAULT_KV2 },
		{ "secretive/db", "secret/", 2, "/v1/secretive/db", NULL, VAULT_OTHER },
		{ "secret/data/db?version=3", "", 0, "/v1/secret/data/db?version=3", NULL, VAULT_OTHER },
		{ "a b/c%d/\xc3\xa9", "", 0, "/v1/a%20b/c%25d/%C3%A9", NULL, VAULT_OTHER },
		{ "database/creds/r", "database/", 0, "/v1/database/creds/r", NULL, VAULT_OTHER },
		{ "pki/issue/web?common_name=a%22b&ttl=1h", "pki/", 0, "/v1/pki/issue/web",
		  "{\"common_name\":\"a\\\"b\",\"ttl\":\"1h\"}", VAULT_OTHER },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *r = &rows[i];
		struct vault_mount mount = { slice_str(r->mount), r->version };
		struct vault_target t;

		assert_int_equal(vault_path_target(slice_str(r->id), &mount, &t, &why), 0);
		assert_string_equal(t.path.data, r->path);
		assert_int_equal(t.kind, r->kind);
		assert_int_equal(t.write, r->body != NULL);
		if (r->body)
			assert_string_equal(t.body.data, r->body);
		else
			assert_int_equal(t.body.len, 0);
		vault_target_done(&t);
	}
}

/* What would show our own token, or end it. */
static void test_target_not_ours(void **state)
{
	static const char *const ids[] = {
		"auth/token/lookup-self", "auth/token/revoke-self?x=1", "sys/mounts", "ns1/auth/token/revoke-self?x=1",
	};
	struct vault_mount none = { SLICE_LIT(""), 0 }, kv = { SLICE_LIT("secret/"), 2 };
	struct vault_target t;

	(void)state;
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		assert_int_equal(vault_path_target(slice_str(ids[i]), &none, &t, &why), -EINVAL);
		assert_non_null(strstr(why.text, "our own token"));
	}
	assert_int_equal(vault_path_target(SLICE_LIT("secret/auth/token/x"), &kv, &t, &why), 0);
	vault_target_done(&t);
}

static void test_target_not_utf8(void **state)
{
	struct vault_mount mount = { slice_str("pki/"), 0 };
	struct vault_target t;

	(void)state;
	assert_int_equal(vault_path_target(SLICE_LIT("pki/issue/x?a=%ff"), &mount, &t, &why), -EINVAL);
	/* a surrogate */
	assert_int_equal(vault_path_target(SLICE_LIT("pki/issue/x?%ED%A0%80=a"), &mount, &t, &why), -EINVAL);
}

/* A pinned version that would not be one. */
static void test_target_kv1_version(void **state)
{
	struct vault_mount mount = { slice_str("kv/"), 1 };
	struct vault_target t;

	(void)state;
	assert_int_equal(vault_path_target(SLICE_LIT("kv/db?version=3"), &mount, &t, &why), -EINVAL);
	assert_non_null(strstr(why.text, "no versions"));
}

static void test_limits(void **state)
{
	char path[20000];
	struct buf id, field;

	(void)state;
	memset(path, 'a', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(atoi(mapped(path)), -EINVAL);
	assert_non_null(strstr(why.text, "too long"));
	path[2] = '?'; /* a parameter of that length */
	assert_int_equal(atoi(mapped(path)), -EINVAL);
	for (size_t i = 3; i + 4 < sizeof(path); i += 5)
		(void)snprintf(path + i, 6, "%04zu&", i / 5); /* and too many of them */
	path[400] = '\0';
	assert_int_equal(atoi(mapped(path)), -EINVAL);
	assert_non_null(strstr(why.text, "more than"));
	/* the caller's own limit */
	buf_init(&id, 8);
	buf_init(&field, 8);
	assert_int_equal(vault_path_map(&settings, SLICE_LIT("secret/db?version=12"), SLICE_LIT("k"), &id, &field, &why),
	                 -EINVAL);
	buf_free(&id);
	buf_free(&field);
}

/* Each allocation of secret memory fails once: of the body of a write. */
static void test_no_memory(void **state)
{
	struct vault_mount mount = { slice_str("pki/"), 0 };
	struct vault_target t;
	int err = -ENOMEM, n;

	(void)state;
	for (n = 1; n < 100 && err; n++) {
		why = (struct error)ERROR_INIT;
		secmem_fail_after(n);
		err = vault_path_target(SLICE_LIT("pki/issue/x?common_name=a&ttl=1h"), &mount, &t, &why);
		secmem_fail_after(-1);
		assert_true(err == 0 || (err == -ENOMEM && why.code == ENOMEM));
	}
	assert_int_equal(err, 0);
	assert_true(n > 3);
	vault_target_done(&t);
}

static void test_mounts(void **state)
{
	struct vault_mount_setting mounts[] = { { (char[]){ "team/a/kv/" }, 1 }, { (char[]){ "team/" }, 2 } };
	struct vault_mount m;
	struct buf out;

	(void)state;
	settings.mounts = mounts;
	settings.n_mounts = 2;
	assert_true(vault_path_mount(&settings, SLICE_LIT("team/a/kv/x?version=1"), &m));
	assert_int_equal(m.version, 1);
	assert_true(vault_path_mount(&settings, SLICE_LIT("team/b"), &m));
	assert_int_equal(m.version, 2);
	assert_false(vault_path_mount(&settings, SLICE_LIT("teams/b"), &m));
	settings = (struct vault_settings){ .dialect = VAULT_OURS };
	buf_init(&out, 1000);
	assert_int_equal(vault_path_discovery(SLICE_LIT("a b/c?version=1"), &out), 0);
	assert_string_equal(out.data, "/v1/sys/internal/ui/mounts/a%20b/c");
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map), cmocka_unit_test(test_map_default_and_prefix),
		cmocka_unit_test(test_map_lenses), cmocka_unit_test(test_target),
		cmocka_unit_test(test_target_not_ours), cmocka_unit_test(test_target_not_utf8), cmocka_unit_test(test_mounts),
		cmocka_unit_test(test_target_kv1_version), cmocka_unit_test(test_limits), cmocka_unit_test(test_no_memory),
	};

	secmem_install_jansson();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
