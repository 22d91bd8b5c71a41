/*
 * What a vault provider is told: its parameters, in our names or those of the Java providers that people come from
 * (connectfs.properties(5)), over the environment that Vault's users have (BAO_* before VAULT_*). Pure but for the
 * environment: no file is read here.
 */
#ifndef CONNECTFS_PROVIDER_VAULT_SETTINGS_H
#define CONNECTFS_PROVIDER_VAULT_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/strmap.h"

/* Whose class name it was: path forms and parameters differ. */
enum vault_dialect {
	VAULT_OURS,
	VAULT_LENSES,       /* io.lenses.connect.secrets.providers.VaultSecretProvider */
	VAULT_JCUSTENBORDER, /* com.github.jcustenborder.kafka.config.vault.VaultConfigProvider */
	VAULT_CONFLUENT,    /* io.confluent.csid.config.provider.vault.VaultConfigProvider */
};

enum vault_auth_kind {
	VAULT_AUTH_NONE,    /* an Agent or a Proxy adds the token */
	VAULT_AUTH_TOKEN,
	VAULT_AUTH_APPROLE,
	VAULT_AUTH_KUBERNETES,
	VAULT_AUTH_JWT,
	VAULT_AUTH_CERT,
	VAULT_AUTH_USERPASS,
	VAULT_AUTH_LDAP,
};

/* A secret of the settings: in a file, or (a warning says so) as it is. At most one is set. */
struct vault_source {
	char *file;  /* absolute; read when it is needed, white space at the end is dropped */
	char *value; /* secret memory */
};

/* mounts=secret=2,team/a/kv=1,database=raw: what is at a path without asking. */
struct vault_mount_setting {
	char *path;       /* "team/a/kv/": with a slash at its end, none at its beginning */
	unsigned version; /* 1 or 2; 0: no KV, the path is used as it is */
};

enum { VAULT_MOUNTS_MAX = 256 };

struct vault_settings {
	enum vault_dialect dialect;
	char **addresses;          /* address: split at commas, trimmed; https://127.0.0.1:8200 by default */
	size_t n_addresses;
	char *namespace_;          /* without slashes at its ends; NULL: none */
	char *ca_cert, *ca_path, *client_cert, *client_key, *tls_server_name; /* NULL: not set */
	bool tls_skip_verify;
	char *path;                /* of references without one; NULL: none */
	char *prefix;              /* before each path (vault.prefix, vault.prefixpath); NULL: none */
	unsigned prefix_depth;     /* Lenses: "data" goes after so many elements; 0: by mount discovery */
	unsigned kv_version;       /* Lenses, Confluent: what they are told (1, 2); 0: by mount discovery */
	struct vault_mount_setting *mounts; /* longest path first */
	size_t n_mounts;
	bool revoke;               /* leases are revoked when nobody has use of them any more */
	int64_t increment_s;       /* lease.increment: asked for at renewals; 0: the server's default */

	enum vault_auth_kind auth;
	char *auth_mount;          /* auth.mount_path: "approle"; the method's own name by default */
	char *role;                /* auth.role: kubernetes, jwt (NULL: the mount's default), cert (name; NULL: any) */
	char *username;            /* userpass, ldap */
	struct vault_source token;     /* token: a file (a value only by the environment, and in the Java dialects) */
	bool token_wrapped;        /* the token file holds a wrapping token (auth.token_wrapped) */
	struct vault_source role_id, secret_id; /* secret_id may be set in neither way (bind_secret_id=false) */
	bool remove_secret_id;     /* auth.remove_secret_id_file_after_reading; false by default, unlike Agent's: the
	                              worker's sandbox writes nothing, and a removal is for who can */
	char *secret_id_wrapping_path; /* auth.secret_id_response_wrapping_path: the file holds a wrapping token made there */
	struct vault_source password;  /* userpass, ldap */
	struct vault_source jwt;       /* kubernetes: the service account's token by default */
};

/* A finding that is no error: "token is given in the environment …". */
typedef void vault_warn_fn(void *arg, const char *text);

/*
 * class_name as in config.providers.{n}.class. 0, or -EINVAL or -ENOMEM with a sentence; *ret_param (static) names the
 * parameter at fault as it is written in that dialect, or NULL (then it is the environment's, which the sentence
 * names). Unknown parameters are ignored. Relative paths are made absolute. warn may be NULL.
 */
int vault_settings_parse(const char *class_name, const struct strmap *params, vault_warn_fn *warn, void *arg,
                         struct vault_settings *ret, const char **ret_param, struct error *ret_err);
void vault_settings_done(struct vault_settings *s);
const char *vault_auth_name(enum vault_auth_kind kind); /* "approle" */
/* The class names other than "vault", NULL-terminated. */
extern const char *const vault_classes[];

#endif
