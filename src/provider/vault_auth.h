/*
 * The token of a vault provider: how it is had, how long it lives, and what a 403 means.
 *
 * One login at a time, whoever waits for it. A login that fails is an outage of all secrets; it is tried again with
 * back-off (1 s to 60 s, jittered), at once when a file that it reads changes. After each login lookup-self says how
 * long the token lives; where that is refused it proves nothing later. Renewed at 2/3 of its life less jitter; where
 * renewal no longer extends it, a new login is made, while leases keep the old token (struct vault_token is reference
 * counted, and renewed as long as somebody holds it).
 */
#ifndef CONNECTFS_PROVIDER_VAULT_AUTH_H
#define CONNECTFS_PROVIDER_VAULT_AUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "provider/provider.h"

struct vault;
struct vault_auth;
struct vault_token;

int vault_auth_new(struct vault *v, struct vault_auth **ret); /* 0 or -ENOMEM. Reads and asks nothing yet */
void vault_auth_free(struct vault_auth *a);                   /* NULL allowed */
void vault_auth_reads(const struct vault_auth *a, void (*add)(void *arg, const char *path), void *arg);

/*
 * The current token: 0 and a reference in *ret (NULL with login "none"); 1: done(arg, err, text, token) comes later,
 * not from within this call, token being a reference for the callee, and err 0; or a positive errno with a sentence,
 * of a login that failed (always an outage), also at once by a failure that is younger than its back-off: then 1 too.
 */
struct vault_auth_wait;
int vault_auth_need(struct vault_auth *a, void (*done)(void *arg, int err, const char *text, struct vault_token *t),
                    void *arg, struct vault_token **ret, struct vault_auth_wait **ret_wait);
void vault_auth_wait_cancel(struct vault_auth_wait *w);

struct vault_token *vault_token_ref(struct vault_token *t);
void vault_token_unref(struct vault_token *t); /* NULL allowed */
struct slice vault_token_id(const struct vault_token *t); /* for the header; NULL: empty */
/* How long it lives unless it is renewed; ms from now; INT64_MAX: for ever, or nobody knows. */
int64_t vault_token_left_ms(const struct vault_token *t);
bool vault_token_is_current(const struct vault_token *t); /* also of none: there is no other */
bool vault_token_is_final(const struct vault_token *t); /* it will not be extended any more */
bool vault_token_is_dead(const struct vault_token *t); /* seen to be: the leases made under it are dead with it */

/*
 * A request with this token got 403 (reply: its errors). Finds out what that means, one question for all who ask at
 * a time: verdict(arg, dead): true: the token is dead; a new login is under way unless one was caused by a 403 less
 * than a minute ago, and vault_auth_need() waits for it. False: it lives, a right is missing. Not from within the call.
 */
struct vault_verdict;
int vault_auth_judge(struct vault_auth *a, struct vault_token *t, bool says_invalid,
                     void (*verdict)(void *arg, bool dead), void *arg, struct vault_verdict **ret);
/* The server's words leave no doubt ("invalid token"). Its leases are told of it before this returns. */
void vault_auth_condemn(struct vault_auth *a, struct vault_token *t);
void vault_verdict_cancel(struct vault_verdict *w);
/* A request with it succeeded: it lives. */
void vault_auth_proved(struct vault_auth *a, struct vault_token *t);

/* The connection stands again: a login that failed without it is tried now. */
void vault_auth_connected(struct vault_auth *a);

/* vault_lease.c is told when a token is dead, when it has been renewed, or when another has taken its place (its leases
 * are to be replaced before vault_token_left_ms). */
void vault_auth_on_token(struct vault_auth *a, void (*fn)(void *arg, struct vault_token *t), void *arg);

/* Tokens (and a secret id whose file is removed) outlive the process: under "token:N" in the keep. The current one is
 * marked. */
void vault_auth_restore(struct vault_auth *a, struct slice name, struct slice data);
/* The token of that mark ("token:N"), a reference; NULL: there is none. For leases that are adopted. */
struct vault_token *vault_auth_find(struct vault_auth *a, struct slice name);
struct slice vault_token_name(const struct vault_token *t); /* "token:N" */

void vault_auth_status(const struct vault_auth *a, struct provider_status *ret);

#endif
