/*
 * What the files of src/core/ share: connectors, snapshots, catalog and engine from inside.
 *
 * Private to src/core/. Where a member says "lock", the event thread alone writes it, under the
 * lock, and may read it without; other threads read it under the lock.
 */
#ifndef CONNECTFS_CORE_CORE_H
#define CONNECTFS_CORE_CORE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/fault.h"
#include "base/keep.h"
#include "base/list.h"
#include "base/strmap.h"
#include "core/catalog.h"
#include "core/engine.h"
#include "core/resolver.h"
#include "core/secret.h"
#include "format/limits.h"
#include "store/store.h"

/* ---- snapshots ---- */

struct snapshot_dep {
	struct secret *secret;
	uint64_t generation;
};

struct snapshot {
	atomic_uint refs;
	struct keep *keep; /* in which data lies; NULL: in secret memory */
	char *data;
	size_t size;
	uint64_t text_generation; /* of the stored config that it was rendered from */
	uint64_t version;         /* of the connector, with these bytes */
	size_t n_deps;
	struct snapshot_dep deps[];
};

/* Takes data over (secret memory) on success; with a keep it is put there. NULL: out of memory, or the
 * keep is full. */
struct snapshot *snapshot_new(struct keep *keep, char *data, size_t size, const struct binding *b);
/* Of bytes that lie in the keep already. Never fresh. NULL: out of memory. */
struct snapshot *snapshot_adopt(struct keep *keep, char *data, size_t size);
/* Any thread: are all secrets as they were, and fresh? */
bool snapshot_is_fresh(const struct snapshot *s);

/* ---- connectors ---- */

enum connector_state {
	CONNECTOR_IDLE,   /* never opened: nothing is known of its secrets */
	CONNECTOR_OK,
	CONNECTOR_STALE,  /* last known values, or last good stored config */
	CONNECTOR_FAILED,
	CONNECTOR_N_STATES,
};

enum presence {
	PRESENCE_GONE,
	PRESENCE_APPEARING, /* told to the sink, not visible yet */
	PRESENCE_VISIBLE,
	PRESENCE_VANISHING, /* told to the sink, still visible */
};

enum job {
	JOB_NONE,
	JOB_LOADING, /* the store reads the text */
	JOB_NEEDING, /* secrets are being fetched */
};

struct connector {
	atomic_uint refs;
	struct catalog *catalog;
	uint64_t ino;
	bool collision;               /* another name has this hash: always failed */
	_Atomic enum presence presence;

	atomic_bool stored_stale;     /* the text may have changed: an open reads it again; written by the event
	                                 thread only */

	pthread_mutex_t lock;
	struct snapshot *snapshot;    /* the last good one; served in state OK and STALE */
	struct stored *stored;        /* the last good text, NULL: not read yet. In the keep, when it has been opened */
	uint64_t text_generation;     /* moves when the text does */
	enum connector_state state;
	int err;                      /* positive errno of FAILED and STALE */
	char *error;                  /* the sentence */
	int64_t mtime_ns, rotated_ns; /* rotated: 0 never */
	uint64_t version;
	struct kept_connector *kept;  /* the same, where a successor finds it; NULL: there is no keep */
	bool touch_pending;           /* attributes must not be kept by the kernel */
	bool touch_told;              /* a touch is under way, and that is what the notifier was told */
	int64_t touch_mtime_ns;
	struct config *config;        /* of stored */

	/* the event thread's */
	bool wanted;                  /* the store has it */
	bool active;                  /* was opened: its secrets are kept up to date */
	struct binding *binding;      /* NULL unless active */
	uint64_t text_hash;           /* of stored's text, or of what the worker before had; 0: none */
	bool restored;                /* its state is what the worker before has told: the first of ours may be that */
	bool dirty;                   /* must be rendered again */
	bool stored_writing;          /* the file is being written now */
	bool moved;                   /* mtime and version have moved within this job */
	bool window_over;             /* the settle time is over: announce at the end of this job */
	bool background;              /* the job is one of the catalog's background loads */
	bool touching;                /* a touch is under way */
	int touch_again;              /* enum touch_kind + 1 of the next one, 0: none */
	int announce;                 /* enum touch_kind + 1 that is due at announce_ms, 0: none */
	int64_t announce_ms;          /* while in the queue */
	struct list announce_node;
	enum job job;
	struct store_load *load;
	int64_t doubted_ms;           /* since when an empty or broken text, just written, is doubted; 0: not */
	struct loop_timer *writer_timer; /* the job waits for a writer until then */
	char *load_error;             /* sentence of the last load or parse that failed; NULL: no memory */
	int load_err;                 /* its positive errno, 0: it went well */
	struct list waits;            /* struct open_wait: those whom the job serves */
	struct list later;            /* those who came since it began */
	struct list load_node;        /* in the catalog's queue of texts to be read */
	struct list young_node;       /* in the catalog's list of texts to be read again */
	atomic_bool reconciling;      /* reconcile is posted, and holds a reference */
	struct loop_work reconcile;
	struct list adopted_node;
	char name[];
};

struct catalog {
	struct engine *engine;
	pthread_rwlock_t lock;        /* of the two tables; held for a look-up or an insertion */
	struct strmap *names;         /* name → connector; a reference each */
	struct strmap *inos;          /* 8 bytes of ino → connector; no reference */
	pthread_mutex_t listing_lock;
	struct listing *listing;      /* cached, NULL: must be made anew */
	_Atomic int64_t own_mtime_ns;
	_Atomic int64_t *mtime_ns;    /* that, or where a successor finds it; settled before FUSE is served */
	struct kept_catalog *kept;    /* NULL: there is no keep, or it was full */
	struct catalog_sink sink;
	bool has_sink;

	struct list announce;         /* by announce_ms */
	struct loop_timer *announce_timer;
	struct list to_load;          /* connectors whose text must be read in the background */
	size_t loading;               /* background jobs under way */
	bool pumping;
	struct strmap *kept_snapshots; /* while a worker takes over: place in the keep → snapshot */
	struct list adopted;          /* and what the store no longer has, but somebody may hold open */
	atomic_int looking;           /* threads that look at files just now */
	struct list young;            /* to be read again: time stamps are coarse */
	struct loop_timer *young_timer;
};

enum {
	CATALOG_LOOKING_MAX = 6,  /* of libfuse's 10 threads */
	CATALOG_LOADS = 8,        /* texts read in the background at the same time */
	LIMIT_NAME = LIMIT_STORED_BYTES, /* of a connector: it is a value of its stored config */
};

void listing_count_states(const struct listing *all, size_t counts[CONNECTOR_N_STATES]);

int catalog_new(struct engine *e, struct catalog **ret);
void catalog_free(struct catalog *c);

void catalog_queue_load(struct connector *conn); /* a background job, in its turn */
void catalog_pump(struct catalog *c); /* begins background loads, where there is room */

/* The store's events. */
void catalog_store_added(void *arg, const char *name, int64_t mtime_ns);
void catalog_store_removed(void *arg, const char *name);
void catalog_store_changed(void *arg, const char *name);
void catalog_store_writing(void *arg, const char *name);

/* For tests: another hash of names. NULL: the usual one. */
void catalog_set_hash(uint64_t (*hash)(const void *data, size_t len));

/* connector.c: what becomes of one connector. Event thread. */
struct connector *connector_new(struct catalog *c, const char *name, uint64_t ino, int64_t mtime_ns);
void connector_destroy(struct connector *conn);           /* any thread: the last reference is gone */
void connector_work(struct connector *conn);              /* begins its job, unless one is under way */
void connector_drop(struct connector *conn, int err);     /* lets go of its secrets; waits end with err */
const char *connector_state_name(enum connector_state state);
const char *connector_errno_name(int err);                /* "ENOKEY"; NULL for 0 */
/* config.name, else the file's base name, appended to out. */
int connector_config_name(const struct connector *conn, struct buf *out);

/* render.c: pure but for the log. */
struct rendering {
	enum connector_state state;   /* OK, STALE or FAILED */
	int err;
	struct error error;           /* sentence of STALE and FAILED */
	char *data;                   /* not FAILED: secret memory */
	size_t size;
};
int connector_render(const struct connector *conn, struct rendering *ret);
/* One reference in trouble: text without the place. */
typedef void trouble_fn(void *arg, const struct config_ref *ref, enum resolution how,
                        const struct error *err);
/* Resolves all references; calls fn for each that is BROKEN, LITERAL or stale. values may be NULL. */
void binding_survey(const struct binding *b, const struct config *config, struct slice *values,
                    bool *resolved, trouble_fn *fn, void *arg);

/* announce.c: when and how changes are shown. Event thread. */
void connector_queue_announce(struct connector *conn, int64_t since_ms);
void connector_note(struct connector *conn, enum touch_kind kind); /* something has changed: tell of it */
void connector_job_announce(struct connector *conn);      /* a job has ended: send or queue what was noted */
/* A rotation: mtime, version, the log. snapshot: what is about to be published, NULL: nothing yet. */
void connector_move(struct connector *conn, const struct snapshot *snapshot);
void connector_due(struct connector *conn, enum touch_kind kind); /* the worker before has not told of it */
void connector_young(struct connector *conn);            /* its text is to be read again soon */
int announce_init(struct catalog *c);
void announce_done(struct catalog *c);

/* kept.c: what a successor finds. Event thread, but for kept_set, kept_end and what is of snapshots. */
enum kept_is {
	KEPT_VISIBLE = 1,     /* its name has been shown */
	KEPT_ACTIVE = 2,      /* it has been opened */
	KEPT_DUE_ROTATED = 4, /* touches that have not ended */
	KEPT_DUE_STATE = 8,
	KEPT_RENDERING = 16,  /* just now: if that kills us, it is remembered */
	KEPT_FAILED = 32,     /* its state, which has been told */
	KEPT_STALE = 64,
	KEPT_STATES = KEPT_FAILED | KEPT_STALE,
};
struct kept_facts {
	int64_t mtime_ns, rotated_ns;
	uint64_t version;
	uint64_t snapshot_place, snapshot_seq;
	uint64_t text_hash;
};
/* As they are, but with that snapshot (NULL: the one in force). */
struct kept_facts kept_facts(const struct connector *conn, const struct snapshot *snapshot);
uint32_t kept_state(enum connector_state state);          /* as flags */
void kept_begin(struct connector *conn);                  /* its record, as it is, unless there is one */
void kept_store(struct connector *conn, const struct kept_facts *facts);
void kept_refresh(struct connector *conn, const struct snapshot *snapshot); /* both in one */
void kept_set(struct connector *conn, uint32_t set, uint32_t clear);
bool kept_render(struct connector *conn);                 /* begins; false: just this has killed workers */
void kept_rendered(struct connector *conn);               /* it has gone well */
/* s with its text in the keep, where a successor finds it: of a connector that has been opened. NULL: it stays as it
 * is, since it lies there already, or there is no room. */
struct stored *kept_text(const struct connector *conn, const struct stored *s);
void kept_text_move(struct connector *conn);              /* the same with conn->stored */
void kept_end(struct connector *conn);                    /* the connector is being destroyed */
void kept_moved(struct catalog *c);                       /* names have come or gone; any thread */
void kept_catalog_end(struct catalog *c);
char *kept_snapshot_new(struct keep *keep, const char *data, size_t size); /* a copy; NULL: full */
void kept_snapshot_free(struct keep *keep, char *data);

/* catalog.c, for kept.c. */
/* The connector of that name, a reference: the store's, or one that has gone since and was visible then or not. */
struct connector *catalog_adopt(struct catalog *c, const char *name, bool visible);
void catalog_adopted(struct catalog *c, struct connector *conn); /* takes the reference */
void catalog_drop_adopted(struct catalog *c);
void catalog_appear_again(struct catalog *c, struct connector *conn); /* it was listed, but is new */

/* open.c */
struct open_wait {
	atomic_uint refs;
	struct connector *connector;
	open_done *done;
	void *arg;
	bool ended;                   /* event thread */
	struct list node;
	struct loop_work begin;
	struct loop_work interrupt;
	atomic_bool interrupted;
};

void open_wait_finish(struct open_wait *w, int err, struct snapshot *snapshot);

/* ---- engine ---- */

struct engine {
	struct settings *settings;
	enum engine_mode mode;
	struct loop *loop;
	struct pool *pool;
	struct watcher *watcher;
	struct resolver *resolver;
	struct store *store;
	struct catalog *catalog;
	struct keep *keep;            /* NULL: none, or not yet */
	bool awaits_keep;             /* nothing is rendered before it is there */
	struct stats stats;
	struct engine_processes processes;
	char *mountpoint;
	void (*ready)(void *arg, const struct error *err);
	void *ready_arg;
	bool listed;
	struct check *check;
};

void engine_warm(struct engine *e);                          /* where the settings say so */
void check_free(struct check *c);                            /* NULL allowed */

#endif
