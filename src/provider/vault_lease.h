/*
 * Leases of a vault provider: each is made by one read, renewed at 2/3 of its life less jitter until that no longer
 * extends it, and then left to be replaced by another read (which the resolver decides) a tenth before its end. It ends
 * at the earlier of its own end and its token's (sys/leases/renew grants more than a dying token has: observed). Once a
 * minute sys/leases/lookup tells whether an operator has revoked it, unless the policy forbids to ask.
 *
 * What it does with a lease it tells by env->host->lease().
 */
#ifndef CONNECTFS_PROVIDER_VAULT_LEASE_H
#define CONNECTFS_PROVIDER_VAULT_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "provider/provider.h"
#include "provider/vault_auth.h"

struct vault;
struct vault_leases;

enum {
	VAULT_LOOKUP_MS = 60000,          /* between two sys/leases/lookup of one lease */
	VAULT_REVOKE_MS = 10 * 60 * 1000, /* param.revoke: after the last connector that uses it has gone, or after it
	                                     has been replaced */
	VAULT_REPLACE_PERCENT = 10,       /* of a lease's life before its end it is replaced, at most VAULT_REPLACE_MAX_MS */
	VAULT_REPLACE_MAX_MS = 10 * 60 * 1000,
};

int vault_leases_new(struct vault *v, struct vault_leases **ret); /* 0 or -ENOMEM */
void vault_leases_free(struct vault_leases *l); /* NULL allowed; revokes nothing */

/*
 * The secret id has been read, with this lease (lease_id empty: nothing to renew, only an end: a certificate). An
 * earlier lease of the id is retired: no longer renewed, its token held for VAULT_REVOKE_MS more, then revoked if set
 * so. Fills what a fetch_result says of it; *ret_state lives until the next call for this id. lease_id is copied. 0
 * or -ENOMEM.
 */
int vault_lease_begin(struct vault_leases *l, struct slice id, struct slice lease_id, int64_t lease_ms, bool renewable,
                      struct vault_token *token, int64_t *ret_lease_ms, int64_t *ret_replace_ms,
                      struct slice *ret_state);
/* provider_ops' adopt and release. */
int vault_lease_adopt(struct vault_leases *l, struct slice id, struct slice state, int64_t lease_ms);
void vault_lease_release(struct vault_leases *l, struct slice id);
/* Of vault_auth_on_token: dead, or not to be extended any more. */
void vault_leases_token_moved(struct vault_leases *l, struct vault_token *t);

size_t vault_leases_count(const struct vault_leases *l);
void vault_leases_counters(const struct vault_leases *l, unsigned long *ret_renewals, unsigned long *ret_failures);

#endif
