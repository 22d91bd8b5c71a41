/*
 * What resolver.c and binding.c share.
 */
#ifndef CONNECTFS_CORE_RESOLVER_PRIVATE_H
#define CONNECTFS_CORE_RESOLVER_PRIVATE_H

#include "base/strmap.h"
#include "core/resolver.h"

struct resolver {
	const struct settings *settings;
	struct loop *loop;
	struct watcher *watcher; /* NULL: once */
	struct keep *keep;       /* NULL: none, or not yet */
	struct strmap *kept;     /* records of a predecessor that nobody has claimed yet; NULL: none any more */
	struct strmap *secrets;  /* "{provider}:{id}" → struct secret, one reference each */
	size_t n_providers;
	struct provider_instance providers[];
};

/* A binding's use of one secret. */
struct binding_secret {
	struct binding *binding;
	struct secret *secret;
	struct list user, waiter;
	uint32_t index;      /* in the binding */
	uint8_t tries;       /* of the need under way */
	bool wanting;        /* its fields are among those that the secret is wanted for */
	unsigned long asked; /* s->n_begun at the need's beginning */
};

enum ref_kind { REF_LITERAL, REF_BROKEN, REF_SECRET };

/* There are as many of them as references in all connectors: kept small. */
struct binding_ref {
	uint8_t kind;               /* enum ref_kind */
	bool mapped;                /* field is our own, since the provider has made it of the key; else the config's */
	uint32_t secret;            /* REF_SECRET: index */
	union {
		struct slice field; /* REF_SECRET */
		struct {
			char *error;
			int err;
		} broken;           /* REF_BROKEN */
	};
};

struct binding {
	struct resolver *resolver;
	const struct config *config;
	void (*changed)(void *arg, int64_t since_ms);
	void *arg;
	struct binding_secret **secrets; /* each once; room for the next power of two */
	size_t n_secrets;
	enum need need;
	size_t pending;                  /* secrets that have not said yet */
	void (*done)(void *arg);
	void *done_arg;
	struct binding_ref refs[];       /* as many as config->n_refs */
};

/* Has the secret said what there is to say? Starts a fetch where it takes one. asked: how many fetches had
 * begun when the question was asked; waited: it has been asked before. */
bool secret_said(struct secret *s, enum need need, unsigned long asked, bool waited);
/* A waiter was woken (it is in no list any more). */
void binding_secret_said(struct binding_secret *bs);

/* The secret of that id, made where there is none; borrowed: a new one is dropped with its last user.
 * 0 or -errno. */
int resolver_get_secret(struct resolver *r, struct provider_instance *p, struct slice id,
                        struct secret **ret);
void resolver_drop_secret(struct secret *s);

/* doubt.c. Must the result of a file be held back, and the file be read again a moment later? What was read while
 * somebody wrote may be half of it; bad news is believed when it is told twice, with a moment between, of a file that
 * has been left alone meanwhile. */
bool secret_must_hold(struct secret *s, const struct fetch *f, const struct fetch_result *r);

/* host.c: what providers ask of us. */
extern const struct provider_host resolver_host;
/* kept_state.c: what providers keep for a successor of theirs. Host's keep; done: frees the table, not the records. */
int kept_state_put(struct provider_instance *p, struct slice name, struct slice data);
void kept_state_restore(struct resolver *r); /* gives to each what its predecessor has left */
void kept_state_done(struct provider_instance *p);
/* Of how a provider is set: one of the same name that is set otherwise now may well be another one. */
uint64_t kept_provider_hash(const struct provider_settings *p);

/* For host.c: lease_ms and replace_ms as in fetch_result, state too. */
void secret_move_lease(struct secret *s, int64_t lease_ms, int64_t replace_ms, struct slice state);
/* The lease has ended: values are fetched anew if somebody has used them, else it lapses. */
void secret_lease_gone(struct secret *s, const char *text);
/* What an outage has failed is fetched in so many ms, unless that is to be sooner. */
void secret_retry(struct secret *s, int64_t ms);
struct secret *resolver_find_secret(struct provider_instance *p, struct slice id); /* NULL: there is none */

/* kept_secret.c. Store: after a fetch that has brought or left values, all members being set. Restore: of a new
 * secret; true: it has a predecessor's values, and is to be scheduled. */
void kept_secret_store(struct secret *s);
void kept_secret_drop(struct secret *s);
bool kept_secret_restore(struct secret *s);

#endif
