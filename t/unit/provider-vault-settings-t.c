/*
 * Parameters of the vault provider, in all dialects, and its environment.
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
#include <unistd.h>

#include "base/secmem.h"
#include "provider/vault_settings.h"

#define LENSES "io.lenses.connect.secrets.providers.VaultSecretProvider"
#define JCUSTENBORDER "com.github.jcustenborder.kafka.config.vault.VaultConfigProvider"
#define CONFLUENT "io.confluent.csid.config.provider.vault.VaultConfigProvider"

static struct vault_settings s;
static struct error why;
static const char *bad_param;
static char warnings[2048];

static void warned(void *arg, const char *text)
{
	(void)arg;
	strncat(warnings, text, sizeof(warnings) - strlen(warnings) - 2);
	strcat(warnings, "\n");
}

/* "name=value" a parameter */
static int parse(const char *class_name, const char *const *params)
{
	struct strmap *m = strmap_new();
	int err;

	for (; *params; params++) {
		const char *eq = strchr(*params, '=');

		assert_int_equal(strmap_put(m, slice_of(*params, (size_t)(eq - *params)), (void *)(uintptr_t)(eq + 1), NULL),
		                 0);
	}
	warnings[0] = '\0';
	bad_param = NULL;
	why = (struct error)ERROR_INIT;
	err = vault_settings_parse(class_name, m, warned, NULL, &s, &bad_param, &why);
	strmap_free(m, NULL);
	return err;
}

#define PARSE(class_name, ...) parse(class_name, (const char *const[]){ __VA_ARGS__, NULL })

static int setup(void **state)
{
	static const char *const names[] = {
		"ADDR", "AGENT_ADDR", "TOKEN", "NAMESPACE", "CACERT", "CAPATH", "CLIENT_CERT", "CLIENT_KEY", "TLS_SERVER_NAME",
		"SKIP_VERIFY",
	};
	char full[64];

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(full, sizeof(full), "VAULT_%s", names[i]);
		unsetenv(full);
		(void)snprintf(full, sizeof(full), "BAO_%s", names[i]);
		unsetenv(full);
	}
	setenv("HOME", "/nonexistent", 1);
	return 0;
}

/* KIP-297's own example. */
static void test_kip(void **state)
{
	(void)state;
	assert_int_equal(PARSE("vault", "token=/run/secrets/vault-token", "path=/secret/connect/",
	                       "address=https://a:8200, http://b:8200"), 0);
	assert_int_equal(s.auth, VAULT_AUTH_TOKEN);
	assert_string_equal(s.token.file, "/run/secrets/vault-token");
	assert_null(s.token.value);
	assert_string_equal(s.path, "secret/connect");
	assert_int_equal(s.n_addresses, 2);
	assert_string_equal(s.addresses[1], "http://b:8200");
	assert_string_equal(warnings, "");
	vault_settings_done(&s);
}

static void test_environment(void **state)
{
	(void)state;
	setenv("VAULT_ADDR", "http://v:1", 1);
	setenv("BAO_ADDR", "http://b:1", 1);
	setenv("VAULT_TOKEN", "canary", 1);
	setenv("VAULT_NAMESPACE", "/ns1/ns2/", 1);
	setenv("VAULT_CACERT", "/ca.pem", 1);
	setenv("BAO_SKIP_VERIFY", "true", 1);
	assert_int_equal(PARSE("vault", "x=y"), 0);
	assert_string_equal(s.addresses[0], "http://b:1");
	assert_string_equal(s.token.value, "canary");
	assert_string_equal(s.namespace_, "ns1/ns2");
	assert_string_equal(s.ca_cert, "/ca.pem");
	assert_true(s.tls_skip_verify);
	assert_non_null(strstr(warnings, "environment"));
	assert_null(strstr(warnings, "canary"));
	vault_settings_done(&s);
	/* parameters go before it */
	setenv("VAULT_AGENT_ADDR", "unix:///agent", 1);
	assert_int_equal(PARSE("vault", "token=/t", "namespace=other", "ca_path=/dir", "tls_skip_verify=false"), 0);
	assert_string_equal(s.addresses[0], "unix:///agent");
	assert_string_equal(s.token.file, "/t");
	assert_null(s.token.value);
	assert_string_equal(s.namespace_, "other");
	assert_null(s.ca_cert);
	assert_false(s.tls_skip_verify);
	assert_string_equal(warnings, "");
	vault_settings_done(&s);
	setenv("BAO_SKIP_VERIFY", "maybe", 1);
	assert_int_equal(PARSE("vault", "token=/t"), -EINVAL);
	assert_null(bad_param);
	assert_non_null(strstr(why.text, "BAO_SKIP_VERIFY"));
	setenv("BAO_SKIP_VERIFY", "F", 1); /* as Go has it */
	setenv("BAO_AGENT_ADDR", " ,", 1);
	assert_int_equal(PARSE("vault", "token=/t"), -EINVAL);
	assert_null(bad_param);
	assert_non_null(strstr(why.text, "BAO_AGENT_ADDR"));
}

/* Each parameter over its variable, and a variable left alone by others. */
static void test_parameters_win(void **state)
{
	(void)state;
	setenv("VAULT_CLIENT_CERT", "/e/cert", 1);
	setenv("VAULT_CLIENT_KEY", "/e/key", 1);
	setenv("VAULT_CAPATH", "/e/ca", 1);
	setenv("VAULT_TLS_SERVER_NAME", "e", 1);
	setenv("VAULT_NAMESPACE", "e", 1);
	setenv("BAO_TOKEN", "", 1); /* an empty one is none */
	setenv("VAULT_TOKEN", "canary", 1);
	assert_int_equal(PARSE("vault", "client_key=/p/key", "namespace=/"), 0);
	assert_string_equal(s.client_cert, "/e/cert");
	assert_string_equal(s.client_key, "/p/key");
	assert_string_equal(s.ca_path, "/e/ca");
	assert_string_equal(s.tls_server_name, "e");
	assert_null(s.namespace_);
	assert_string_equal(s.token.value, "canary");
	vault_settings_done(&s);
	/* a certificate with its key in one file: not the other's key */
	assert_int_equal(PARSE("vault", "client_cert=/p/cert", "auth=cert", "ca_cert=/p/ca", "tls_server_name=p"), 0);
	assert_string_equal(s.client_cert, "/p/cert");
	assert_null(s.client_key);
	assert_null(s.ca_path);
	assert_string_equal(s.tls_server_name, "p");
	assert_null(s.token.value);
	vault_settings_done(&s);
}

/* ~/.vault-token is told by its name, and comes after all else. */
static void test_token_of_login(void **state)
{
	char dir[] = "/tmp/vault-settings-XXXXXX", path[64];
	FILE *f;

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/.vault-token", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	(void)fclose(f);
	setenv("HOME", dir, 1);
	assert_int_equal(PARSE("vault", "x=y"), 0);
	assert_int_equal(s.auth, VAULT_AUTH_TOKEN);
	assert_string_equal(s.token.file, path);
	vault_settings_done(&s);
	assert_int_equal(PARSE("vault", "auth.role_id_file_path=/r"), 0);
	assert_int_equal(s.auth, VAULT_AUTH_APPROLE);
	assert_null(s.token.file);
	vault_settings_done(&s);
	assert_int_equal(PARSE(LENSES, "x=y"), 0);
	assert_string_equal(s.token.file, path);
	assert_string_equal(s.addresses[0], "http://localhost:8200");
	vault_settings_done(&s);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void test_limits(void **state)
{
	char many[8192] = "mounts=";

	(void)state;
	for (int i = 0; i <= VAULT_MOUNTS_MAX; i++)
		(void)snprintf(many + strlen(many), sizeof(many) - strlen(many), "m%d=1,", i);
	assert_int_equal(PARSE("vault", "token=/t", many), -EINVAL);
	assert_string_equal(bad_param, "mounts");
	(void)snprintf(many, sizeof(many), "address=");
	for (int i = 0; i <= 16; i++)
		(void)snprintf(many + strlen(many), sizeof(many) - strlen(many), "http://h%d,", i);
	assert_int_equal(PARSE("vault", "token=/t", many), -EINVAL);
	assert_string_equal(bad_param, "address");
}

/* Each allocation of secret memory fails once. */
static void test_no_memory(void **state)
{
	int err = -ENOMEM, n;

	(void)state;
	for (n = 1; n < 100 && err; n++) {
		secmem_fail_after(n);
		err = PARSE(LENSES, "vault.auth.method=approle", "app.role.id=i", "app.role.secret.id=s", "vault.token=t");
		secmem_fail_after(-1);
		assert_true(err == 0 || (err == -ENOMEM && why.code == ENOMEM));
	}
	assert_int_equal(err, 0);
	assert_int_equal(n, 5);
	vault_settings_done(&s);
}

static void test_logins(void **state)
{
	(void)state;
	assert_int_equal(PARSE("vault", "auth.role_id_file_path=/r", "auth.secret_id_file_path=rel"), 0);
	assert_int_equal(s.auth, VAULT_AUTH_APPROLE);
	assert_string_equal(s.auth_mount, "approle");
	assert_int_equal(s.secret_id.file[0], '/'); /* absolute */
	assert_false(s.remove_secret_id);
	vault_settings_done(&s);
	assert_int_equal(PARSE("vault", "auth=kubernetes", "auth.role=connect", "auth.mount_path=auth/k8s/"), 0);
	assert_string_equal(s.auth_mount, "k8s");
	assert_string_equal(s.jwt.file, "/var/run/secrets/kubernetes.io/serviceaccount/token");
	vault_settings_done(&s);
	assert_int_equal(PARSE("vault", "auth=jwt", "auth.path=/jwt"), 0);
	assert_string_equal(s.jwt.file, "/jwt");
	assert_null(s.role);
	vault_settings_done(&s);
	assert_int_equal(PARSE("vault", "auth=ldap", "auth.username=u", "auth.password_file_path=/p"), 0);
	assert_string_equal(s.username, "u");
	vault_settings_done(&s);
	assert_int_equal(PARSE("vault", "auth=none"), 0);
	vault_settings_done(&s);
	assert_int_equal(PARSE("vault", "auth=cert", "client_cert=/c", "client_key=/k", "auth.name=web"), 0);
	assert_string_equal(s.role, "web");
	vault_settings_done(&s);
}

static void test_mounts(void **state)
{
	(void)state;
	assert_int_equal(PARSE("vault", "token=/t", "mounts=secret=2, team/a/kv=1,database=raw"), 0);
	assert_int_equal(s.n_mounts, 3);
	assert_string_equal(s.mounts[0].path, "team/a/kv/");
	assert_int_equal(s.mounts[0].version, 1);
	vault_settings_done(&s);
}

static void assert_bad(const char *param, const char *text)
{
	if (!bad_param || strcmp(bad_param, param) != 0 || !strstr(why.text, text))
		fail_msg("%s: %s, and not %s: %s", bad_param ? bad_param : "-", why.text, param, text);
}

static void test_bad(void **state)
{
	static const struct {
		const char *class_name, *params[4], *param, *text;
	} rows[] = {
		{ "vault", { "x=y" }, "auth", "nothing says how to log in" },
		{ "vault", { "auth=magic" }, "auth", "\"magic\" is none of" },
		{ "vault", { "auth=aws" }, "auth", "aws" },
		{ "vault", { "auth=token" }, "token", "needs it" },
		{ "vault", { "auth=approle" }, "auth.role_id_file_path", "needs it" },
		{ "vault", { "auth=kubernetes" }, "auth.role", "needs it" },
		{ "vault", { "auth=jwt" }, "auth.jwt_path", "needs it" },
		{ "vault", { "auth=cert" }, "client_cert", "needs it" },
		{ "vault", { "auth=userpass", "auth.username=u" }, "auth.password_file_path", "needs it" },
		{ "vault", { "token=/t", "address= , " }, "address", "no address" },
		{ "vault", { "token=/t", "mounts=secret=3" }, "mounts", "secret=3" },
		{ "vault", { "token=/t", "tls_skip_verify=yes" }, "tls_skip_verify", "neither true nor false" },
		{ "vault", { "token=/t", "lease.increment=soon" }, "lease.increment", "no duration" },
		{ LENSES, { "vault.auth.method=gcp" }, "vault.auth.method", "\"gcp\" is not supported" },
		{ LENSES, { "vault.token=t", "vault.ssl.truststore.location=/x.jks" }, "vault.ssl.truststore.location",
		  "PEM form by vault.pem" },
		{ LENSES, { "vault.token=t", "vault.engine.version=3" }, "vault.engine.version", "no number" },
		{ JCUSTENBORDER, { "x=y" }, "vault.token", "no token" },
		{ JCUSTENBORDER, { "vault.login.by=LDAP" }, "vault.login.by", "not supported" },
		{ CONFLUENT, { "vault.auth.method=AppRole" }, "vault.auth.role", "needs it" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(parse(rows[i].class_name, rows[i].params), -EINVAL);
		assert_bad(rows[i].param, rows[i].text);
	}
}

static void test_lenses(void **state)
{
	(void)state;
	assert_int_equal(PARSE(LENSES, "vault.addr=http://v:8200", "vault.auth.method=approle", "app.role.path=myrole",
	                       "app.role.id=canary-id", "app.role.secret.id=canary-secret", "vault.pem=/ca.pem",
	                       "vault.prefix.depth=2"), 0);
	assert_int_equal(s.dialect, VAULT_LENSES);
	assert_int_equal(s.auth, VAULT_AUTH_APPROLE);
	assert_string_equal(s.auth_mount, "myrole");
	assert_string_equal(s.role_id.value, "canary-id");
	assert_string_equal(s.secret_id.value, "canary-secret");
	assert_int_equal(s.kv_version, 2);
	assert_int_equal(s.prefix_depth, 2);
	assert_non_null(strstr(warnings, "app.role.secret.id"));
	assert_null(strstr(warnings, "canary"));
	vault_settings_done(&s);
}

static void test_other_java(void **state)
{
	(void)state;
	assert_int_equal(PARSE(JCUSTENBORDER, "vault.address=http://v:8200", "vault.token=t", "vault.prefix=staging",
	                       "vault.ssl.verify.enabled=false"), 0);
	assert_string_equal(s.prefix, "staging");
	assert_true(s.tls_skip_verify);
	vault_settings_done(&s);
	assert_int_equal(PARSE(CONFLUENT, "vault.address=http://v:8200", "vault.auth.method=UserPass",
	                       "vault.auth.username=u", "vault.auth.password=p", "vault.auth.mount=up",
	                       "vault.ssl.pem_trust_path=/ca", "vault.secrets.version=1"), 0);
	assert_int_equal(s.auth, VAULT_AUTH_USERPASS);
	assert_string_equal(s.password.value, "p");
	assert_string_equal(s.auth_mount, "up");
	assert_string_equal(s.ca_cert, "/ca");
	assert_int_equal(s.kv_version, 1);
	vault_settings_done(&s);
}

#define T(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_kip), T(test_environment), T(test_logins), T(test_mounts), T(test_bad), T(test_lenses), T(test_other_java),
		T(test_parameters_win), T(test_token_of_login), T(test_limits), T(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
