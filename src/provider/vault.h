/*
 * The vault provider from inside: what its files share. Event thread.
 *
 *     vault.c        the instance, a fetch from beginning to end, mount discovery
 *     vault_auth.c   the token: who waits for one, lookup-self, renewal, what a 403 means, what is kept
 *     vault_login.c  one login, from the files that it reads to the token
 *     vault_lease.c  leases: renewal, lookup, revocation, what a successor adopts
 *
 * The order of ownership: an instance owns its auth, its leases and its server; a lease holds a reference of the token
 * that it was made under; a token is renewed as long as it is the current one or a lease holds it.
 */
#ifndef CONNECTFS_PROVIDER_VAULT_H
#define CONNECTFS_PROVIDER_VAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "net/server.h"
#include "provider/provider.h"
#include "provider/vault_auth.h"
#include "provider/vault_lease.h"
#include "provider/vault_reply.h"
#include "provider/vault_settings.h"

enum {
	VAULT_REQUEST_MS = 10000,   /* of what nobody waits for: renewals, look-ups */
	VAULT_FIRST_JITTER = 10,    /* percent by which renewals come earlier */
	VAULT_SHRINK_PERCENT = 90,  /* a renewal that grants less of what it should extends no longer */
	VAULT_CACHED_MOUNTS_MAX = 4096,
	VAULT_BODY_MAX = 64 * 1024, /* of a request */
};

/* What tests want shorter. */
struct vault_times {
	int64_t mount_ms;          /* a discovered mount is asked for again */
	int64_t mount_refused_ms;  /* the same, where the answer was a refusal */
	int64_t login_min_ms, login_max_ms; /* back-off after a login that failed, and after renewals that did */
	int64_t forbidden_ms;      /* between two logins that are caused by a 403 */
	int64_t lookup_ms;         /* VAULT_LOOKUP_MS */
	int64_t revoke_ms;         /* VAULT_REVOKE_MS */
};
extern struct vault_times vault_times;

struct vault {
	const struct provider_env *env;
	struct vault_settings settings;
	struct server *server;
	struct tls *tls;            /* the server's; NULL: none */
	struct vault_auth *auth;
	struct vault_leases *leases;
	struct strmap *mounts;      /* discovered: "secret/" → what it is; or the path of an id whose question was refused */
	struct list queries;        /* discoveries under way */
	int64_t refused_ms;         /* monotonic: when a discovery was refused last; 0: none was */
	struct list fetches;
	struct list warnings;       /* of open, told when the loop runs */
	unsigned n_warnings;
	struct loop_timer *warn_timer;
	unsigned long requests, request_failures;
};

/*
 * One request with the headers that Vault wants (X-Vault-Request, X-Vault-Namespace unless the path is of the root
 * namespace) and the token (NULL: none). done is called as server_start's, with the reply parsed (never NULL; empty
 * where there is none or it can't be parsed, which r->err and r->text tell then). NULL: out of memory.
 */
struct vault_request;
typedef void vault_done(void *arg, const struct http_response *r, const struct vault_reply *reply);
struct vault_request *vault_request_start(struct vault *v, const char *method, const char *path, struct slice body,
                                          struct slice token, bool once, int64_t deadline_ms, vault_done *done,
                                          void *arg);
void vault_request_cancel(struct vault_request *q); /* NULL allowed */

/* A JSON object of strings: add, add, end; only the last result need be looked at. 0 or buf's error. */
int vault_body_add(struct buf *body, const char *key, struct slice value);
int vault_body_end(struct buf *body);

/* Does the answer to a 403 say itself that the token is dead? Not all servers do. */
bool vault_says_dead(const struct vault_reply *reply);
/* The server is out (no connection, "not now"), and says nothing of what was asked. */
bool vault_is_outage(const struct http_response *r, const struct vault_reply *reply);
/* 2/3 of ms, less up to VAULT_FIRST_JITTER percent of it. */
int64_t vault_renew_in(int64_t ms);
/* Doubles *backoff between login_min_ms and login_max_ms (0 before the first). A wait drawn from its upper half. */
int64_t vault_backoff(int64_t *backoff);

/* A sentence of what went wrong, with method-free words: "secret/db: the server answered 403: permission denied". */
void vault_sentence(struct error *ret, const char *what, const struct http_response *r,
                    const struct vault_reply *reply);
/* env->host->tell, where there is a host. */
void vault_tell(const struct vault *v, enum provider_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
