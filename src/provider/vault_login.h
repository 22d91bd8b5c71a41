/*
 * One login of a vault provider: reads the files, unwraps what is wrapped, logs in, and asks what the token is
 * (lookup-self). Event thread.
 */
#ifndef CONNECTFS_PROVIDER_VAULT_LOGIN_H
#define CONNECTFS_PROVIDER_VAULT_LOGIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "provider/vault_settings.h"

struct vault;
struct vault_login;

enum { VAULT_CREDENTIAL_MAX = 32 * 1024 }; /* bytes of a file with a token, a secret id, a password */

/* What outlives a login; secret memory, NULL: none. */
struct vault_material {
	char *secret_id; /* as read last: its file may be gone */
	char *wrapping;  /* the wrapping token that it came from, which is used up */
	bool moved;      /* by the login that has just ended */
};

void vault_material_done(struct vault_material *m);

/* What lookup-self says, or, where it is refused, what the login said. */
struct vault_token_facts {
	int64_t left_ms;    /* INT64_MAX: it never ends, or nobody knows */
	int64_t life_ms;    /* what a renewal should bring; 0: not known */
	bool renewable, batch;
	bool looked;        /* lookup-self is allowed */
	bool detailed;      /* it was refused, in the words that a living token gets */
	int64_t num_uses;
};

struct vault_login_result {
	int err;            /* a positive errno with a sentence */
	const char *text;
	bool same;          /* the file holds the current token still; no more is told */
	struct slice token; /* secret memory, during done */
	struct vault_token_facts facts;
};

/* current: the token in use if it lives, of which nothing is asked where its file still holds it; empty: none. Done is
 * called once, never from within this call, and not after cancel. NULL: out of memory. */
struct vault_login *vault_login_start(struct vault *v, struct vault_material *m, struct slice current,
                                      void (*done)(void *arg, const struct vault_login_result *r), void *arg);
void vault_login_cancel(struct vault_login *l); /* NULL allowed */

/* The files that a login reads: fills ret, returns how many. */
enum { VAULT_LOGIN_FILES = 2 };
unsigned vault_login_files(const struct vault_settings *s, const struct vault_source *ret[VAULT_LOGIN_FILES]);

struct vault_reply;
struct pool_job;
/* Where the settings say so, the file whose secret id is in the material now; a warning where it can't be. *job: NULL
 * but while it is under way. */
void vault_login_remove_secret_id(struct vault *v, struct pool_job **job);
/* "/run/token", or "the environment". */
const char *vault_login_source(const struct vault_settings *s);
/* Of a lookup-self that was answered 200. */
void vault_login_facts(const struct vault_reply *reply, struct vault_token_facts *ret);

/* What is of the secret in the text becomes '*'. */
void vault_mask(char *text, struct slice secret);

#endif
