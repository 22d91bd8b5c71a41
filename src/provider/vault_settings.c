/*
 * Parameters of the vault provider, in four dialects.
 */
#include "provider/vault_settings.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/secmem.h"

#define CLASS_LENSES "io.lenses.connect.secrets.providers.VaultSecretProvider"
#define CLASS_JCUSTENBORDER "com.github.jcustenborder.kafka.config.vault.VaultConfigProvider"
#define CLASS_CONFLUENT "io.confluent.csid.config.provider.vault.VaultConfigProvider"

#define DEFAULT_ADDRESS "https://127.0.0.1:8200"
#define LENSES_ADDRESS "http://localhost:8200"
#define SERVICE_ACCOUNT_TOKEN "/var/run/secrets/kubernetes.io/serviceaccount/token"

const char *const vault_classes[] = { CLASS_LENSES, CLASS_JCUSTENBORDER, CLASS_CONFLUENT, NULL };

enum { ADDRESSES_MAX = 16 };

struct parsing {
	const struct strmap *params;
	vault_warn_fn *warn;
	void *arg;
	struct vault_settings *s;
	const char *param;      /* at fault */
	struct error *err;
	int r;                  /* the first failure */
};

static const char *const auth_names[] = {
	[VAULT_AUTH_NONE] = "none", [VAULT_AUTH_TOKEN] = "token", [VAULT_AUTH_APPROLE] = "approle",
	[VAULT_AUTH_KUBERNETES] = "kubernetes", [VAULT_AUTH_JWT] = "jwt", [VAULT_AUTH_CERT] = "cert",
	[VAULT_AUTH_USERPASS] = "userpass", [VAULT_AUTH_LDAP] = "ldap",
};

const char *vault_auth_name(enum vault_auth_kind kind)
{
	return auth_names[kind];
}

static void fail(struct parsing *p, const char *param, int code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

static void fail(struct parsing *p, const char *param, int code, const char *fmt, ...)
{
	va_list ap;

	if (p->r)
		return;
	p->param = param;
	va_start(ap, fmt);
	p->r = error_vset(p->err, code, fmt, ap);
	va_end(ap);
}

static void warn(struct parsing *p, const char *text)
{
	if (p->warn)
		p->warn(p->arg, text);
}

/* ---- values ---- */

/* NULL: not set, or empty. */
static const char *param(struct parsing *p, const char *name)
{
	const char *v = strmap_get_str(p->params, name);

	return v && *v ? v : NULL;
}

/* BAO_X before VAULT_X. */
static const char *env(const char *name)
{
	char full[64];
	const char *v;

	snprintf(full, sizeof(full), "BAO_%s", name);
	v = getenv(full);
	if (v && *v)
		return v;
	snprintf(full, sizeof(full), "VAULT_%s", name);
	v = getenv(full);
	return v && *v ? v : NULL;
}

static void set(struct parsing *p, char **to, const char *value)
{
	char *copy = value ? strdup(value) : NULL;

	if (value && !copy) {
		fail(p, NULL, ENOMEM, "out of memory");
		return;
	}
	free(*to);
	*to = copy;
}

static void set_secret(struct parsing *p, char **to, const char *value)
{
	char *copy = value ? secmem_strdup(slice_str(value)) : NULL;

	if (value && !copy)
		fail(p, NULL, ENOMEM, "out of memory");
	secmem_free(*to);
	*to = copy;
}

/* Relative to where we were started. */
static void set_path(struct parsing *p, char **to, const char *value)
{
	char cwd[PATH_MAX], full[2 * PATH_MAX];

	if (!value || value[0] == '/') {
		set(p, to, value);
		return;
	}
	if (!getcwd(cwd, sizeof(cwd)) || snprintf(full, sizeof(full), "%s/%s", cwd, value) >= (int)sizeof(full)) {
		fail(p, NULL, EINVAL, "%s: the path can't be made absolute", value);
		return;
	}
	set(p, to, full);
}

static void set_file(struct parsing *p, struct vault_source *to, const char *value)
{
	if (!value)
		return;
	set_path(p, &to->file, value);
	set_secret(p, &to->value, NULL);
}

/* A secret in clear: the Java providers have it so. */
static void set_value(struct parsing *p, struct vault_source *to, const char *name)
{
	const char *v = param(p, name);
	char text[256];

	if (!v)
		return;
	set_secret(p, &to->value, v);
	set(p, &to->file, NULL);
	snprintf(text, sizeof(text), "%s stands in the settings in clear: better in a file", name);
	warn(p, text);
}

/* -1: neither. What Go's ParseBool takes, since Vault's own variables are read so. */
static int bool_of(const char *v)
{
	if (strcasecmp(v, "true") == 0 || strcasecmp(v, "t") == 0 || strcmp(v, "1") == 0)
		return 1;
	return strcasecmp(v, "false") == 0 || strcasecmp(v, "f") == 0 || strcmp(v, "0") == 0 ? 0 : -1;
}

static bool parse_bool(struct parsing *p, const char *name, const char *v, bool fallback)
{
	int b = v ? bool_of(v) : fallback;

	if (b < 0)
		fail(p, name, EINVAL, "\"%s\" is neither true nor false", v);
	return b > 0;
}

static int64_t parse_number(struct parsing *p, const char *name, const char *v, int64_t fallback, int64_t max)
{
	char *end;
	long long n;

	if (!v)
		return fallback;
	errno = 0;
	n = strtoll(v, &end, 10);
	if (errno || *end || end == v || n < 0 || n > max) {
		fail(p, name, EINVAL, "\"%s\" is no number from 0 to %lld", v, (long long)max);
		return fallback;
	}
	return n;
}

/* "90", "30s", "5m", "1h", "1d" → seconds */
static int64_t parse_duration(struct parsing *p, const char *name, const char *v)
{
	char *end;
	long long n, unit;

	if (!v)
		return 0;
	errno = 0;
	n = strtoll(v, &end, 10);
	unit = *end == 's' || !*end ? 1 : *end == 'm' ? 60 : *end == 'h' ? 3600 : *end == 'd' ? 86400 : 0;
	if (errno || end == v || n < 0 || n > 1000000000 || !unit || (*end && end[1])) {
		fail(p, name, EINVAL, "\"%s\" is no duration such as 30s, 5m or 1h", v);
		return 0;
	}
	return n * unit;
}

static void set_addresses(struct parsing *p, const char *name, const char *v)
{
	struct vault_settings *s = p->s;
	char *copy = strdup(v), *next, *one;

	s->addresses = calloc(ADDRESSES_MAX, sizeof(char *));
	if (!copy || !s->addresses)
		fail(p, NULL, ENOMEM, "out of memory");
	for (one = copy ? strtok_r(copy, ",", &next) : NULL; one && !p->r; one = strtok_r(NULL, ",", &next)) {
		size_t len;

		while (isspace((unsigned char)*one))
			one++;
		for (len = strlen(one); len && isspace((unsigned char)one[len - 1]); len--)
			one[len - 1] = '\0';
		if (!*one)
			continue;
		if (s->n_addresses == ADDRESSES_MAX) {
			fail(p, name, EINVAL, "more than %d addresses", ADDRESSES_MAX);
			break;
		}
		set(p, &s->addresses[s->n_addresses], one);
		s->n_addresses += !p->r;
	}
	if (!p->r && !s->n_addresses)
		fail(p, name, EINVAL, name ? "there is no address in it" :
		     "there is no address in BAO_AGENT_ADDR, BAO_ADDR, VAULT_AGENT_ADDR or VAULT_ADDR of the environment");
	free(copy);
}

/* "/a/b/" → "a/b" */
static void set_trimmed(struct parsing *p, char **to, const char *value)
{
	char *copy;
	size_t len;

	if (!value)
		return;
	while (*value == '/')
		value++;
	if (!*value) { /* "/": none, whatever the environment has */
		free(*to);
		*to = NULL;
		return;
	}
	copy = strdup(value);
	if (!copy) {
		fail(p, NULL, ENOMEM, "out of memory");
		return;
	}
	for (len = strlen(copy); len && copy[len - 1] == '/'; len--)
		copy[len - 1] = '\0';
	free(*to);
	*to = copy;
}

static int longer_path(const void *a, const void *b)
{
	const struct vault_mount_setting *x = a, *y = b;
	size_t n = strlen(x->path), m = strlen(y->path);

	return n < m ? 1 : n > m ? -1 : 0;
}

static bool set_mount(struct parsing *p, const char *one)
{
	struct vault_mount_setting *m = &p->s->mounts[p->s->n_mounts];
	const char *eq = strrchr(one, '=');
	char *path = NULL, *with_slash;

	if (!eq || eq == one || !(strcmp(eq, "=1") == 0 || strcmp(eq, "=2") == 0 || strcmp(eq, "=raw") == 0))
		return false;
	with_slash = strndup(one, (size_t)(eq - one));
	if (!with_slash)
		fail(p, NULL, ENOMEM, "out of memory");
	set_trimmed(p, &path, with_slash);
	free(with_slash);
	if (path && asprintf(&m->path, "%s/", path) < 0) {
		m->path = NULL;
		fail(p, NULL, ENOMEM, "out of memory");
	}
	free(path);
	m->version = eq[1] == 'r' ? 0 : (unsigned)(eq[1] - '0');
	p->s->n_mounts += m->path != NULL;
	return m->path;
}

static void set_mounts(struct parsing *p)
{
	const char *v = param(p, "mounts");
	char *copy, *next, *one;

	if (!v)
		return;
	copy = strdup(v);
	p->s->mounts = calloc(VAULT_MOUNTS_MAX, sizeof(p->s->mounts[0]));
	if (!copy || !p->s->mounts)
		fail(p, NULL, ENOMEM, "out of memory");
	for (one = copy ? strtok_r(copy, ", ", &next) : NULL; one && !p->r; one = strtok_r(NULL, ", ", &next))
		if (p->s->n_mounts == VAULT_MOUNTS_MAX || !set_mount(p, one))
			fail(p, "mounts", EINVAL, "\"%s\" is not of the form path=1, path=2 or path=raw, or there are too many",
			     one);
	free(copy);
	if (!p->r && p->s->n_mounts > 1)
		qsort(p->s->mounts, p->s->n_mounts, sizeof(p->s->mounts[0]), longer_path);
}

/* ---- what all have ---- */

static void parse_environment(struct parsing *p)
{
	struct vault_settings *s = p->s;

	set_trimmed(p, &s->namespace_, env("NAMESPACE"));
	set_path(p, &s->ca_cert, env("CACERT"));
	set_path(p, &s->ca_path, env("CAPATH"));
	set_path(p, &s->client_cert, env("CLIENT_CERT"));
	set_path(p, &s->client_key, env("CLIENT_KEY"));
	set(p, &s->tls_server_name, env("TLS_SERVER_NAME"));
	/* A parameter may come yet that makes it count no more, but nobody means to have it wrong. */
	if (env("SKIP_VERIFY") && bool_of(env("SKIP_VERIFY")) < 0)
		fail(p, NULL, EINVAL, "BAO_SKIP_VERIFY or VAULT_SKIP_VERIFY is \"%s\" in the environment: neither true nor "
		     "false", env("SKIP_VERIFY"));
	s->tls_skip_verify = parse_bool(p, NULL, env("SKIP_VERIFY"), false);
}

static void set_address(struct parsing *p, const char *name, const char *fallback)
{
	const char *v = param(p, name);

	if (!v) {
		name = NULL;
		v = env("AGENT_ADDR");
	}
	if (!v)
		v = env("ADDR");
	set_addresses(p, name, v ? v : fallback);
}

/* A token of the environment, or the one that `bao login` has left. */
static bool set_token_of_user(struct parsing *p)
{
	const char *v = env("TOKEN"), *home = getenv("HOME");
	char path[PATH_MAX];

	if (v) {
		set_secret(p, &p->s->token.value, v);
		warn(p, "the token is taken from the environment, which other processes of this user can read: "
		     "better give a file by the parameter token");
		return true;
	}
	if (!home || snprintf(path, sizeof(path), "%s/.vault-token", home) >= (int)sizeof(path) ||
	    access(path, R_OK) != 0)
		return false;
	set(p, &p->s->token.file, path);
	return true;
}

static void set_mount_path(struct parsing *p, const char *name, const char *fallback)
{
	const char *v = name ? param(p, name) : NULL;

	if (v && strncmp(v, "auth/", 5) == 0) /* as Agent's users write it */
		v += 5;
	set_trimmed(p, &p->s->auth_mount, v ? v : fallback);
	if (!p->r && !p->s->auth_mount)
		fail(p, name, EINVAL, "it is empty");
}

/* ---- our own ---- */

static void choose_auth(struct parsing *p)
{
	struct vault_settings *s = p->s;
	const char *v = param(p, "auth");

	if (!v) {
		if (param(p, "token"))
			s->auth = VAULT_AUTH_TOKEN;
		else if (param(p, "auth.role_id_file_path"))
			s->auth = VAULT_AUTH_APPROLE;
		else if (set_token_of_user(p))
			s->auth = VAULT_AUTH_TOKEN;
		else
			fail(p, "auth", EINVAL, "nothing says how to log in: set the parameter token to a file that holds a "
			     "token, or auth to a method (approle, kubernetes, jwt, cert, userpass, ldap, or none where an "
			     "Agent or a Proxy adds the token)");
		return;
	}
	for (size_t i = 0; i < sizeof(auth_names) / sizeof(auth_names[0]); i++) {
		if (strcmp(v, auth_names[i]) == 0) {
			s->auth = (enum vault_auth_kind)i;
			return;
		}
	}
	if (strcmp(v, "aws") == 0)
		fail(p, "auth", EINVAL, "the method aws is not there yet; use another, or an Agent and auth=none");
	else
		fail(p, "auth", EINVAL, "the method \"%s\" is none of token, approle, kubernetes, jwt, cert, userpass, ldap "
		     "and none", v);
}

static void need(struct parsing *p, const void *value, const char *name)
{
	if (!value)
		fail(p, name, EINVAL, "the login method %s needs it", auth_names[p->s->auth]);
}

static void parse_own_auth(struct parsing *p)
{
	struct vault_settings *s = p->s;
	const char *jwt = param(p, "auth.jwt_path") ? param(p, "auth.jwt_path") : param(p, "auth.path");

	set(p, &s->role, param(p, "auth.role") ? param(p, "auth.role") : param(p, "auth.name"));
	set(p, &s->username, param(p, "auth.username"));
	s->token_wrapped = parse_bool(p, "auth.token_wrapped", param(p, "auth.token_wrapped"), false);
	set_mount_path(p, "auth.mount_path", auth_names[s->auth]);
	switch (s->auth) {
	case VAULT_AUTH_TOKEN:
		set_file(p, &s->token, param(p, "token"));
		if (!s->token.file && !s->token.value && !set_token_of_user(p))
			need(p, NULL, "token");
		break;
	case VAULT_AUTH_APPROLE:
		set_file(p, &s->role_id, param(p, "auth.role_id_file_path"));
		set_file(p, &s->secret_id, param(p, "auth.secret_id_file_path"));
		s->remove_secret_id = parse_bool(p, "auth.remove_secret_id_file_after_reading",
		                                 param(p, "auth.remove_secret_id_file_after_reading"), false);
		set(p, &s->secret_id_wrapping_path, param(p, "auth.secret_id_response_wrapping_path"));
		need(p, s->role_id.file, "auth.role_id_file_path");
		break;
	case VAULT_AUTH_KUBERNETES:
		set_file(p, &s->jwt, param(p, "auth.token_path") ? param(p, "auth.token_path") : jwt ? jwt :
		         SERVICE_ACCOUNT_TOKEN);
		need(p, s->role, "auth.role");
		break;
	case VAULT_AUTH_JWT:
		set_file(p, &s->jwt, jwt);
		need(p, s->jwt.file, "auth.jwt_path");
		break;
	case VAULT_AUTH_CERT:
		need(p, s->client_cert, "client_cert");
		break;
	case VAULT_AUTH_USERPASS:
	case VAULT_AUTH_LDAP:
		set_file(p, &s->password, param(p, "auth.password_file_path"));
		need(p, s->username, "auth.username");
		need(p, s->password.file, "auth.password_file_path");
		break;
	case VAULT_AUTH_NONE:
		break;
	}
}

static void parse_own(struct parsing *p)
{
	struct vault_settings *s = p->s;

	set_address(p, "address", DEFAULT_ADDRESS);
	if (param(p, "namespace"))
		set_trimmed(p, &s->namespace_, param(p, "namespace"));
	if (param(p, "ca_cert") || param(p, "ca_path")) {
		set_path(p, &s->ca_cert, param(p, "ca_cert"));
		set_path(p, &s->ca_path, param(p, "ca_path"));
	}
	if (param(p, "client_cert")) {
		set_path(p, &s->client_cert, param(p, "client_cert"));
		set_path(p, &s->client_key, param(p, "client_key"));
	} else if (param(p, "client_key")) {
		set_path(p, &s->client_key, param(p, "client_key"));
	}
	if (param(p, "tls_server_name"))
		set(p, &s->tls_server_name, param(p, "tls_server_name"));
	s->tls_skip_verify = parse_bool(p, "tls_skip_verify", param(p, "tls_skip_verify"), s->tls_skip_verify);
	set_trimmed(p, &s->path, param(p, "path"));
	set_trimmed(p, &s->prefix, param(p, "prefix"));
	set_mounts(p);
	s->revoke = parse_bool(p, "revoke", param(p, "revoke"), false);
	s->increment_s = parse_duration(p, "lease.increment", param(p, "lease.increment"));
	choose_auth(p);
	if (!p->r)
		parse_own_auth(p);
}

/* ---- the Java providers ---- */

static void refuse(struct parsing *p, const char *name, const char *instead)
{
	if (param(p, name))
		fail(p, name, EINVAL, "it is not supported: %s", instead);
}

struct java_auth {
	const char *name;
	enum vault_auth_kind kind;
};

static void choose_java_auth(struct parsing *p, const char *name, const struct java_auth *known)
{
	const char *v = param(p, name);

	p->s->auth = VAULT_AUTH_TOKEN;
	if (!v)
		return;
	for (; known->name; known++) {
		if (strcasecmp(v, known->name) == 0) {
			p->s->auth = known->kind;
			return;
		}
	}
	fail(p, name, EINVAL, "the login method \"%s\" is not supported: with class=vault there are approle, kubernetes, "
	     "jwt, cert, userpass, ldap, token, and none behind an Agent", v);
}

static void need_java(struct parsing *p, const struct vault_source *v, const char *name)
{
	if (!v->value && !v->file)
		need(p, NULL, name);
}

static void parse_lenses(struct parsing *p)
{
	static const struct java_auth known[] = {
		{ "token", VAULT_AUTH_TOKEN }, { "approle", VAULT_AUTH_APPROLE }, { "userpass", VAULT_AUTH_USERPASS },
		{ "kubernetes", VAULT_AUTH_KUBERNETES }, { "cert", VAULT_AUTH_CERT }, { "ldap", VAULT_AUTH_LDAP },
		{ "jwt", VAULT_AUTH_JWT }, { NULL, VAULT_AUTH_NONE },
	};
	struct vault_settings *s = p->s;
	bool ldap;

	set_address(p, "vault.addr", LENSES_ADDRESS);
	if (param(p, "vault.namespace"))
		set_trimmed(p, &s->namespace_, param(p, "vault.namespace"));
	if (param(p, "vault.pem"))
		set_path(p, &s->ca_cert, param(p, "vault.pem"));
	if (param(p, "vault.client.pem"))
		set_path(p, &s->client_cert, param(p, "vault.client.pem"));
	refuse(p, "vault.ssl.truststore.location", "give the authorities in PEM form by vault.pem");
	refuse(p, "vault.ssl.keystore.location", "give certificate and key in PEM form by vault.client.pem");
	s->kv_version = (unsigned)parse_number(p, "vault.engine.version", param(p, "vault.engine.version"), 2, 2);
	s->prefix_depth = (unsigned)parse_number(p, "vault.prefix.depth", param(p, "vault.prefix.depth"), 1, 100);
	choose_java_auth(p, "vault.auth.method", known);
	set_value(p, &s->token, "vault.token");
	set_value(p, &s->role_id, "app.role.id");
	set_value(p, &s->secret_id, "app.role.secret.id");
	set_value(p, &s->jwt, "jwt");
	ldap = s->auth == VAULT_AUTH_LDAP;
	set(p, &s->username, param(p, ldap ? "ldap.username" : "username"));
	set_value(p, &s->password, ldap ? "ldap.password" : "password");
	if (s->auth == VAULT_AUTH_KUBERNETES)
		set_file(p, &s->jwt, param(p, "kubernetes.token.path") ? param(p, "kubernetes.token.path") :
		         SERVICE_ACCOUNT_TOKEN);
	set(p, &s->role, param(p, s->auth == VAULT_AUTH_KUBERNETES ? "kubernetes.role" : "jwt.role"));
	set_mount_path(p, s->auth == VAULT_AUTH_APPROLE ? "app.role.path" : s->auth == VAULT_AUTH_KUBERNETES ?
	               "kubernetes.auth.path" : s->auth == VAULT_AUTH_CERT ? "cert.mount" : s->auth == VAULT_AUTH_JWT ?
	               "jwt.provider" : ldap ? "ldap.mount" : "mount", auth_names[s->auth]);
	if (s->auth == VAULT_AUTH_APPROLE)
		need_java(p, &s->role_id, "app.role.id");
}

static void parse_jcustenborder(struct parsing *p)
{
	static const struct java_auth known[] = { { "Token", VAULT_AUTH_TOKEN }, { NULL, VAULT_AUTH_NONE } };
	struct vault_settings *s = p->s;

	set_address(p, "vault.address", DEFAULT_ADDRESS);
	if (param(p, "vault.namespace"))
		set_trimmed(p, &s->namespace_, param(p, "vault.namespace"));
	set_trimmed(p, &s->prefix, param(p, "vault.prefix"));
	s->tls_skip_verify = !parse_bool(p, "vault.ssl.verify.enabled", param(p, "vault.ssl.verify.enabled"),
	                                 !s->tls_skip_verify);
	choose_java_auth(p, "vault.login.by", known);
	set_value(p, &s->token, "vault.token");
	set_mount_path(p, NULL, "token");
}

static void parse_confluent(struct parsing *p)
{
	static const struct java_auth known[] = {
		{ "Token", VAULT_AUTH_TOKEN }, { "AppRole", VAULT_AUTH_APPROLE }, { "UserPass", VAULT_AUTH_USERPASS },
		{ "LDAP", VAULT_AUTH_LDAP }, { "Certificate", VAULT_AUTH_CERT }, { NULL, VAULT_AUTH_NONE },
	};
	struct vault_settings *s = p->s;

	set_address(p, "vault.address", DEFAULT_ADDRESS);
	if (param(p, "vault.namespace"))
		set_trimmed(p, &s->namespace_, param(p, "vault.namespace"));
	set_trimmed(p, &s->prefix, param(p, "vault.prefixpath"));
	s->kv_version = (unsigned)parse_number(p, "vault.secrets.version", param(p, "vault.secrets.version"), 0, 2);
	s->tls_skip_verify = !parse_bool(p, "vault.ssl.verify.enabled", param(p, "vault.ssl.verify.enabled"),
	                                 !s->tls_skip_verify);
	if (param(p, "vault.ssl.pem_trust_path"))
		set_path(p, &s->ca_cert, param(p, "vault.ssl.pem_trust_path"));
	if (param(p, "vault.ssl.pem_cert_path")) {
		set_path(p, &s->client_cert, param(p, "vault.ssl.pem_cert_path"));
		set_path(p, &s->client_key, param(p, "vault.ssl.pem_key_path"));
	}
	choose_java_auth(p, "vault.auth.method", known);
	set_value(p, &s->token, "vault.auth.token");
	set(p, &s->username, param(p, "vault.auth.username"));
	set_value(p, &s->password, "vault.auth.password");
	set_value(p, &s->role_id, "vault.auth.role");
	set_value(p, &s->secret_id, "vault.auth.secret");
	set_mount_path(p, "vault.auth.mount", auth_names[s->auth]);
	if (s->auth == VAULT_AUTH_APPROLE)
		need_java(p, &s->role_id, "vault.auth.role");
}

static void check_java_auth(struct parsing *p)
{
	struct vault_settings *s = p->s;

	if (p->r)
		return;
	if (s->auth == VAULT_AUTH_TOKEN && !s->token.value && !s->token.file && !set_token_of_user(p))
		fail(p, s->dialect == VAULT_CONFLUENT ? "vault.auth.token" : "vault.token", EINVAL,
		     "there is no token, here or in the environment");
	if (s->auth == VAULT_AUTH_USERPASS || s->auth == VAULT_AUTH_LDAP) {
		need(p, s->username, s->dialect == VAULT_CONFLUENT ? "vault.auth.username" : "username");
		need_java(p, &s->password, s->dialect == VAULT_CONFLUENT ? "vault.auth.password" : "password");
	}
	if (s->auth == VAULT_AUTH_CERT)
		need(p, s->client_cert, s->dialect == VAULT_CONFLUENT ? "vault.ssl.pem_cert_path" : "vault.client.pem");
	if (s->auth == VAULT_AUTH_JWT)
		need_java(p, &s->jwt, "jwt");
	if (s->auth == VAULT_AUTH_KUBERNETES)
		need(p, s->role, "kubernetes.role");
}

/* ---- all of it ---- */

static enum vault_dialect dialect_of(const char *class_name)
{
	if (strcmp(class_name, CLASS_LENSES) == 0)
		return VAULT_LENSES;
	if (strcmp(class_name, CLASS_JCUSTENBORDER) == 0)
		return VAULT_JCUSTENBORDER;
	return strcmp(class_name, CLASS_CONFLUENT) == 0 ? VAULT_CONFLUENT : VAULT_OURS;
}

int vault_settings_parse(const char *class_name, const struct strmap *params, vault_warn_fn *warn_fn, void *arg,
                         struct vault_settings *ret, const char **ret_param, struct error *ret_err)
{
	struct vault_settings s = { .dialect = dialect_of(class_name) };
	struct parsing p = { .params = params, .warn = warn_fn, .arg = arg, .s = &s, .err = ret_err };

	parse_environment(&p);
	switch (s.dialect) {
	case VAULT_OURS:
		parse_own(&p);
		break;
	case VAULT_LENSES:
		parse_lenses(&p);
		check_java_auth(&p);
		break;
	case VAULT_JCUSTENBORDER:
		parse_jcustenborder(&p);
		check_java_auth(&p);
		break;
	case VAULT_CONFLUENT:
		parse_confluent(&p);
		check_java_auth(&p);
		break;
	}
	if (p.r) {
		vault_settings_done(&s);
		*ret_param = p.param;
		return p.r;
	}
	*ret = s;
	return 0;
}

static void source_done(struct vault_source *v)
{
	free(v->file);
	secmem_free(v->value);
}

void vault_settings_done(struct vault_settings *s)
{
	for (size_t i = 0; s->addresses && i < s->n_addresses; i++)
		free(s->addresses[i]);
	free(s->addresses);
	for (size_t i = 0; s->mounts && i < s->n_mounts; i++)
		free(s->mounts[i].path);
	free(s->mounts);
	free(s->namespace_);
	free(s->ca_cert);
	free(s->ca_path);
	free(s->client_cert);
	free(s->client_key);
	free(s->tls_server_name);
	free(s->path);
	free(s->prefix);
	free(s->auth_mount);
	free(s->role);
	free(s->username);
	free(s->secret_id_wrapping_path);
	source_done(&s->token);
	source_done(&s->role_id);
	source_done(&s->secret_id);
	source_done(&s->password);
	source_done(&s->jwt);
	*s = (struct vault_settings){ .dialect = VAULT_OURS };
}
