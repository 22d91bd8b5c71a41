/*
 * The resolver: every secret that an active connector refers to, fetched once whatever the number
 * of its users, kept fresh, served stale in an outage, with back-off after failures.
 *
 * Event thread only. Private to src/core/.
 */
#ifndef CONNECTFS_CORE_RESOLVER_H
#define CONNECTFS_CORE_RESOLVER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/list.h"
#include "base/pool.h"
#include "base/report.h"
#include "base/slice.h"
#include "base/watch.h"
#include "core/secret.h"
#include "core/settings.h"
#include "format/config.h"

struct keep;

enum {
	RESOLVER_BACKOFF_MIN_MS = 1000,  /* at least a second between attempts (DESIGN.md section 4) */
	RESOLVER_BACKOFF_MAX_MS = 60000, /* a healed store is noticed within a minute */
	RESOLVER_WRITING_MS = 1000,      /* a writer that never closes is believed after a second */
};

/* watcher NULL: nothing is watched or polled (check, render). The settings must outlive it. 0, or
 * -EINVAL with what is wrong in report, or -ENOMEM. */
int resolver_new(const struct settings *settings, struct loop *loop, struct pool *pool,
                 struct watcher *watcher, struct resolver **ret, struct report *report);
/* The keep in which secrets that aren't files outlive us; what a predecessor has there is claimed when a secret
 * is first referred to. 0 or -ENOMEM. */
int resolver_set_keep(struct resolver *r, struct keep *keep);
bool resolver_has_kept(const struct resolver *r); /* something has not been claimed yet */
void resolver_kept_done(struct resolver *r); /* what hasn't been claimed is dropped */
void resolver_free(struct resolver *r); /* NULL allowed; all bindings must be gone */

/* What a config refers to: one entry for each of its references. */
struct binding;

/* changed(arg, since_ms) is called when values, or the state of a secret that it uses, have
 * changed; since_ms: clock_mono_ms() at the first sign of it. Not from within a call. config must
 * outlive the binding. 0 or -ENOMEM. */
int resolver_bind(struct resolver *r, const struct config *config,
                  void (*changed)(void *arg, int64_t since_ms), void *arg, struct binding **ret);
void binding_free(struct binding *b); /* NULL allowed; a need under way is given up */

size_t binding_n_secrets(const struct binding *b);
struct secret *binding_secret(const struct binding *b, size_t i);
/* Of what rendering takes from the secrets, with seed: the same in every process as long as it is the same. */
uint64_t binding_hash(const struct binding *b, uint64_t seed);

enum need {
	NEED_FRESH, /* for an open: nothing older than fresh.ms, files as they are now */
	NEED_KNOWN, /* for a re-render: what is known; only what never was is fetched */
};

/* Sees to it that all its secrets are known, well or in failure. 0: they are now. 1: done(arg)
 * comes later, not from within this call. At most one need of a binding at a time. */
int binding_need(struct binding *b, enum need need, void (*done)(void *arg), void *arg);

/* Has one of its secrets lapsed: did its lease end while nobody opened what refers to it? */
bool binding_lapsed(const struct binding *b);

enum resolution {
	RESOLVED,
	RESOLVED_STALE, /* last known value */
	LITERAL,        /* its provider isn't configured, or connectfs.unresolved=keep: stays as it is */
	BROKEN,         /* error says why */
};

/* The value of the i-th reference as known now; valid until control returns to the loop. */
enum resolution binding_resolve(const struct binding *b, size_t i, struct slice *ret_value,
                                struct error *ret_err);

/* What can be said without asking anybody: RESOLVED where nothing speaks against it, LITERAL, BROKEN. */
enum resolution binding_unfit(const struct binding *b, size_t i, struct error *ret_err);

/* Fetches anew now, files and polled secrets; leased ones only where leases is true. */
void resolver_refresh(struct secret *s, bool leases);

/* For status and metrics: walks. */
struct secret *resolver_next_secret(struct resolver *r, size_t *pos);
/* Is it in config.providers, with a class (be it one that we lack)? */
bool resolver_has_provider(struct resolver *r, struct slice name);
/* What it says of itself; false: it asks nobody. */
bool provider_status(const struct provider_instance *p, struct provider_status *ret);
size_t resolver_n_providers(const struct resolver *r);
const struct provider_instance *resolver_provider(const struct resolver *r, size_t i);

#endif
