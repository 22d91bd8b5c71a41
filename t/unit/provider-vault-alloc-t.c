/*
 * The pure parts of the vault provider with each allocation failing once: told as a lack of memory, and nothing lost
 * (under valgrind and the sanitizers).
 *
 * Linked with -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup,--wrap=asprintf.
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

#include "allocfail.h"
#include "base/secmem.h"
#include "provider/vault_path.h"
#include "provider/vault_reply.h"
#include "provider/vault_settings.h"

char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);
int __wrap_asprintf(char **ret, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

char *__wrap_strndup(const char *s, size_t n)
{
	size_t len = strnlen(s, n);
	char *copy = __wrap_malloc(len + 1);

	if (copy) {
		memcpy(copy, s, len);
		copy[len] = '\0';
	}
	return copy;
}

char *__wrap_strdup(const char *s)
{
	return __wrap_strndup(s, strlen(s));
}

int __wrap_asprintf(char **ret, const char *fmt, ...)
{
	char *room = __wrap_malloc(1);
	va_list ap;
	int n;

	if (!room)
		return -1;
	free(room);
	va_start(ap, fmt);
	n = vasprintf(ret, fmt, ap);
	va_end(ap);
	return n;
}

/* Does the work until no allocation fails in it. */
static void fail_each(int (*work)(struct error *err), long at_least)
{
	int r = -ENOMEM;
	long n;

	for (n = 0; n < 1000; n++) {
		struct error err = ERROR_INIT;
		bool failed;

		alloc_fail_after(n);
		r = work(&err);
		failed = alloc_failed();
		alloc_fail_after(-1);
		if (!failed)
			break;
		if (r != -ENOMEM || err.code != ENOMEM || !err.text[0])
			fail_msg("allocation %ld: %d, %d %s", n, r, err.code, err.text);
	}
	assert_int_equal(r, 0);
	assert_true(n >= at_least);
}

static int parse(const char *class_name, const char *const *params, struct error *err)
{
	static struct strmap *maps[2];
	struct strmap **m = &maps[params[0][0] == 'v'];
	struct vault_settings s;
	const char *param;
	int r;

	if (!*m) { /* kept, so that what fails is the work's */
		alloc_fail_after(-1);
		*m = strmap_new();
		for (; *params; params += 2)
			assert_int_equal(strmap_put(*m, slice_str(params[0]), (void *)(uintptr_t)params[1], NULL), 0);
		alloc_fail_after(0);
	}
	r = vault_settings_parse(class_name, *m, NULL, NULL, &s, &param, err);
	if (r == 0)
		vault_settings_done(&s);
	if (!alloc_failed()) {
		strmap_free(*m, NULL);
		*m = NULL;
	}
	return r;
}

static int work_settings(struct error *err)
{
	static const char *const params[] = {
		"address", "https://a:8200, http://b:8200", "namespace", "ns/", "ca_cert", "ca.pem", "ca_path", "/ca",
		"client_cert", "/c", "client_key", "/k", "tls_server_name", "n", "path", "a/b", "prefix", "p",
		"mounts", "secret=2,team/kv=1", "auth.role_id_file_path", "/r", "auth.secret_id_file_path", "/s",
		"auth.secret_id_response_wrapping_path", "auth/approle/x", "auth.role", "r", "auth.username", "u", NULL,
	};

	return parse("vault", params, err);
}

static int work_java(struct error *err)
{
	static const char *const params[] = {
		"vault.address", "https://a:8200", "vault.auth.method", "UserPass", "vault.auth.username", "u",
		"vault.auth.password", "p", "vault.prefixpath", "x", "vault.ssl.pem_trust_path", "/t", NULL,
	};

	return parse("io.confluent.csid.config.provider.vault.VaultConfigProvider", params, err);
}

static int work_path(struct error *err)
{
	struct vault_settings s = { .dialect = VAULT_LENSES, .kv_version = 2, .prefix_depth = 1,
	                            .prefix = (char[]){ "p" } };
	struct vault_mount mount = { SLICE_LIT("pki/"), 0 };
	struct vault_target t;
	struct buf id, field;
	int r;

	buf_init(&id, 4096);
	buf_init(&field, 4096);
	r = vault_path_map(&s, SLICE_LIT("secret/db?version=3&a=%20"), SLICE_LIT("key"), &id, &field, err);
	buf_reset(&id);
	if (r == 0)
		r = vault_path_target(SLICE_LIT("pki/issue/x?common_name=a&ttl=1h"), &mount, &t, err);
	if (r == 0)
		vault_target_done(&t);
	buf_free(&id);
	buf_free(&field);
	return r;
}

static int work_reply(struct error *err)
{
	const struct slice wanted[] = { SLICE_LIT("a"), SLICE_LIT("b.c") };
	struct vault_reply reply;
	struct vault_secret secret;
	int r = vault_reply_parse(SLICE_LIT("{\"data\":{\"a\":1.50,\"b\":{\"c\":\"x\"}}}"), &reply, err);

	if (r < 0)
		return r;
	r = vault_reply_secret(&reply, 200, VAULT_OTHER, wanted, 2, 0, &secret, err);
	if (r == 0)
		vault_secret_done(&secret);
	vault_reply_done(&reply);
	return r;
}

static void test_settings(void **state)
{
	(void)state;
	fail_each(work_settings, 15);
}

static void test_java(void **state)
{
	(void)state;
	fail_each(work_java, 5);
}

static void test_path(void **state)
{
	(void)state;
	fail_each(work_path, 5);
}

static void test_reply(void **state)
{
	(void)state;
	fail_each(work_reply, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_settings), cmocka_unit_test(test_java), cmocka_unit_test(test_path),
		cmocka_unit_test(test_reply),
	};

	secmem_install_jansson();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
