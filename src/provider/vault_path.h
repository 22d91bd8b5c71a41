/*
 * Paths of references to Vault, and what is asked of the server for them. Pure.
 *
 *     secret/db                    by the mount's kind: KV 2 → secret/data/db, else as it is
 *     secret/data/db               as people paste it: the same secret in KV 2
 *     secret/db?version=3          KV 2: that version
 *     pki/issue/web?common_name=a.example&ttl=24h
 *                                  written to (POST) with the parameters as JSON strings
 *     database/creds/orders        leased
 *
 * The query is percent-decoded, since ':' and '}' can't stand in a path of a reference; the path before it is taken
 * as it is, and percent-encoded on its way.
 */
#ifndef CONNECTFS_PROVIDER_VAULT_PATH_H
#define CONNECTFS_PROVIDER_VAULT_PATH_H

#include "base/buf.h"
#include "base/error.h"
#include "base/slice.h"
#include "provider/vault_settings.h"

/*
 * provider_ops.map: the id is the path as it is asked for: prefix before it, without slashes at its ends or doubled,
 * the query's parameters sorted and encoded in one way. Two spellings of one secret whose mount's kind is not known yet
 * (secret/db, secret/data/db) are two ids. Field: the key.
 * -ENOKEY without path and default path; -EINVAL ("..", a full stop at the end, a bad percent code, a NUL).
 */
int vault_path_map(const struct vault_settings *s, struct slice path, struct slice key, struct buf *ret_id,
                   struct buf *ret_field, struct error *ret_err);

/* What an id stands for, when its mount is known. */
struct vault_mount {
	struct slice path;  /* "secret/"; empty: not known, the path is used as it is */
	unsigned version;   /* 1, 2; 0: no KV */
};

enum vault_kind {
	VAULT_KV1,          /* also metadata/ and subkeys/ of a KV 2, whose answers are as plain */
	VAULT_KV2,
	VAULT_OTHER,        /* whatever the reply says of it: leased, static role, certificate */
};

struct vault_target {
	enum vault_kind kind;
	bool write;         /* POST, with body */
	struct buf path;    /* "/v1/secret/data/db?version=3", for struct server_request */
	struct buf body;    /* JSON; empty for a GET */
};

/* The target's buffers are the caller's; initialised here. Only pki/issue, pki/sign and the like are written to: paths
 * with a parameter other than version (and outside of KV). 0, -EINVAL or -ENOMEM. */
int vault_path_target(struct slice id, const struct vault_mount *mount, struct vault_target *ret,
                      struct error *ret_err);
void vault_target_done(struct vault_target *t);

/* The mount of the settings that holds for the id (the longest), or false. */
bool vault_path_mount(const struct vault_settings *s, struct slice id, struct vault_mount *ret);
/* "/v1/sys/internal/ui/mounts/secret/db" for the id, into out. 0 or buf's error. */
int vault_path_discovery(struct slice id, struct buf *out);

#endif
