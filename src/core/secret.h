/*
 * A secret as it lives: what one provider returns for one secret id, kept up to date by the
 * resolver and read by every thread that opens a connector.
 *
 * Private to src/core/. What is under "lock" is written by the event thread only, which may
 * therefore read it without the lock. The rest belongs to the event thread.
 */
#ifndef CONNECTFS_CORE_SECRET_H
#define CONNECTFS_CORE_SECRET_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/file.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/watch.h"
#include "core/settings.h"
#include "provider/provider.h"

struct resolver;
struct fetch_job;

/* One entry of config.providers. */
struct provider_instance {
	struct resolver *resolver;
	const struct provider_settings *settings;
	const struct provider_ops *ops; /* NULL: a class that we lack */
	void *self;
	struct provider_env env;
	struct strmap *states;          /* what it has put into the keep: name → block; NULL: nothing yet */
	size_t n_polled;                /* secrets that are polled: they share max.rps */
	unsigned long fetches, errors;
};

enum secret_state {
	SECRET_IDLE,   /* never fetched */
	SECRET_OK,
	SECRET_STALE,  /* the secret store doesn't answer: last known values */
	SECRET_FAILED, /* nothing to serve */
};

enum secret_rotation {
	ROTATION_UNKNOWN,
	ROTATION_FILES,
	ROTATION_POLL,
	ROTATION_TTL,
	ROTATION_LEASE,
	ROTATION_CONSTANT,
};

struct secret_wanted {
	char *name;
	size_t len;
	unsigned users;
};

enum {
	/* What inotify does not tell of a watched file (stores through mmap, a hard link in another directory, a mount on
	 * the way) is seen by an open so long after the last look at it. As long as time stamps are coarse. */
	SECRET_LOOK_MS = FILE_STAMP_COARSE_MS,
};

struct secret {
	atomic_uint refs;
	struct provider_instance *provider;
	struct watcher *watcher;   /* NULL: nothing is watched */
	char *id;
	size_t id_len;
	/* Until when (monotonic) an open need not look at its files, unless the watcher has something to tell: in the lower
	 * LOOKED_BITS; 0: it must. Above, the number of signs of a change so far, so that a look which began before a sign
	 * doesn't count after it. */
	_Atomic uint64_t looked;

	pthread_mutex_t lock;
	struct secret_values *values;
	uint64_t generation;       /* moves whenever values change, or come or go */
	enum secret_state state;
	enum secret_rotation rotation;
	int64_t fresh_until_ms;    /* of what has no files; of a lease no later than it is to be replaced */
	bool used;                 /* opened since it was fetched: a lease is replaced only then; any thread sets it */
	struct kept_secret *kept;  /* its record in the keep, or NULL */
	int64_t fetched_ns;        /* real; 0: never */
	int64_t lease_end_ns;      /* real; 0: none */
	struct watch **watches;    /* of its files */
	size_t n_watches;
	bool watches_complete;     /* there is one for each of them */

	struct resolver *resolver; /* NULL once it has been dropped */
	char *key;                 /* in the resolver's table */
	size_t key_len;
	struct secret_wanted *wanted; /* sorted by name */
	size_t n_wanted;
	bool wanted_grew;          /* since the last fetch began */
	bool asked_more;           /* had it grown when that fetch began? */
	struct list users;         /* struct binding_secret.user */
	struct list waiters;       /* struct binding_secret.waiter */
	struct fetch_job *fetch;   /* in flight */
	bool unbegun;              /* it could not even begin: the timer tells so */
	unsigned long n_begun, n_answered; /* fetches: how many have begun, which one ended last */
	bool again;                /* a change was seen while it was */

	struct loop_timer *timer;  /* at the earliest of the following; 0: none */
	int64_t deadline_ms;       /* of the fetch, or of waiting for a writer */
	int64_t writing_ms;        /* half-written until then */
	unsigned writes, writes_before; /* signs of a writer: so far, and when the fetch began */
	unsigned doubts;           /* results in a row that were worse than what is known, and not believed */
	int64_t event_ms;          /* the last sign of a change of its files */
	int64_t held_ms, doubted_ms; /* since when results are held back: overlapped by a write; worse than
	                                what is known; 0: not */
	int64_t due_ms;            /* next fetch; for a failure: next attempt */
	int64_t end_ms;            /* of the lease, or of what may be served stale */

	int64_t fetched_ms;        /* monotonic; 0: never */
	int64_t attempt_ms;        /* when the last fetch began */
	int64_t changed_ms;        /* first sign of a change not yet fetched, 0: none */
	int64_t replace_ms;        /* a lease: when to fetch another, if it is used by then; 0: not known, or it has passed */
	char *lease_state;         /* a lease: what the provider must know of it after us; secret memory */
	size_t lease_state_len;
	bool lapsed;               /* its lease ended while nobody used it: who refers to it becomes idle */
	int64_t poll_ms;           /* effective, 0: not polled */
	int64_t backoff_ms;
	int err;                   /* of the last fetch */
	bool outage;
	char *error, *note;        /* sentences: of the failure; why fields may be missing */
	struct secret_file *files; /* whose change can heal a failure */
	size_t n_files;
	char **watched_paths;      /* what watches are for */
};

struct secret *secret_new(struct provider_instance *provider, struct slice id); /* NULL: no memory */
struct secret *secret_ref(struct secret *s);  /* any thread */
void secret_unref(struct secret *s);          /* any thread; NULL allowed */

/* Any thread, never blocks: may what was rendered at this generation be served without asking? */
bool secret_is_fresh(struct secret *s, uint64_t generation);
/* Somebody opens what refers to it. Any thread. */
void secret_use(struct secret *s);
/* kept_secret.c: the same in its record; under the secret's lock. One store. */
void kept_secret_used(struct secret *s);
/* There is a sign that a file has changed: the next open looks at them. */
void secret_sign(struct secret *s);

const char *secret_state_name(enum secret_state state);
const char *secret_rotation_name(enum secret_rotation rotation);

#endif
