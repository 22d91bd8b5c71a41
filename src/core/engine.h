/*
 * The engine: settings, store, providers, resolver and catalog, put together on one loop. The
 * worker runs one behind the mount; `check` and `render` run one without.
 *
 * Event thread, unless said otherwise.
 */
#ifndef CONNECTFS_CORE_ENGINE_H
#define CONNECTFS_CORE_ENGINE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/loop.h"
#include "base/report.h"
#include "core/catalog.h"
#include "core/settings.h"
#include "core/stats.h"

struct keep;

struct engine;

enum engine_mode {
	ENGINE_MOUNT, /* watches, polls, announces */
	ENGINE_ONCE,  /* for check and render: reads once, watches nothing, announces nothing */
};

/*
 * Opens the providers and the store of settings, which must outlive the engine. Bad parameters
 * of providers go to report. 0, or -EINVAL (see report), or another -errno with report.
 */
int engine_new(struct settings *settings, enum engine_mode mode, struct loop *loop, struct engine **ret,
               struct report *report);
void engine_free(struct engine *e); /* NULL allowed. All opens must have ended; the loop no longer runs. */

/* Begins to list the store; ready(err, arg) once the first listing is there (err NULL) or failed. */
int engine_start(struct engine *e, void (*ready)(void *arg, const struct error *err), void *arg);
/*
 * The keep that makes snapshots and what has been seen of connectors outlive us. engine_await_keep before
 * engine_start: nothing is rendered before the keep is given. engine_set_keep after the first listing and
 * engine_set_sink, before FUSE is served: takes over what a predecessor left in it. successor: there was one (an
 * empty keep tells nothing of it: then nothing is taken for new); crashed: it died by its own fault. The keep must
 * outlive the engine, or be frozen. 0 or -errno (what could not be taken over is as if it were new).
 */
void engine_await_keep(struct engine *e);
int engine_set_keep(struct engine *e, struct keep *keep, bool successor, bool crashed);
struct keep *engine_keep(const struct engine *e); /* NULL: none */

/* From when connectors come and go by the sink instead of at once. Before FUSE is served. */
void engine_set_sink(struct engine *e, const struct catalog_sink *sink);

int engine_watches_fd(const struct engine *e); /* watcher_fd(); -1: none */
struct catalog *engine_catalog(struct engine *e);             /* any thread */
const struct settings *engine_settings(const struct engine *e); /* any thread */
struct stats *engine_stats(struct engine *e);                  /* any thread */

/* Calls add for each directory or file that is read from now on, "/" where that can be any: of the store
 * and the providers. Before engine_start. */
void engine_reads(struct engine *e, void (*add)(void *arg, const char *path), void *arg);

/* Does a provider make connections? */
bool engine_network(const struct engine *e);

/* What keeps a fault of the worker's from doing harm, for the status. */
struct engine_protection {
	const char *name;
	const char *lacks; /* why it is not in force, NULL: it is */
};

/* What the daemon knows and the status shows; copied, but for the protections, which outlive the engine. */
struct engine_processes {
	int supervisor, worker, notifier; /* process ids, 0: none */
	const char *mountpoint;
	int64_t started_ns;               /* of the mount, real time; 0: not known yet */
	int64_t worker_started_ns;
	unsigned long worker_restarts;
	const struct engine_protection *protections;          /* of the worker */
	const struct engine_protection *notifier_protections; /* NULL: it has not told */
	size_t n_protections;                                 /* of each */
};
void engine_set_processes(struct engine *e, const struct engine_processes *p);

/* The whole of .connectfs/status.json and of .connectfs/metrics into out (empty, not secret; its maximum is
 * the caller's). 0, -ENOMEM or -EFBIG. */
int engine_status_json(struct engine *e, struct buf *out);
int engine_metrics(struct engine *e, struct buf *out);

/* Fetches anew now what the connector (or "*": every connector that has been opened) refers to,
 * file-backed and polled, leased only with leases; -ENOENT: no such connector (name as the mount shows it, or without
 * its suffix). The result shows in the status. */
int engine_refresh(struct engine *e, const char *name, bool leases);

/* `check`: looks at every stored config (online: resolves all its references as well), puts all
 * that is wrong into report (files as the mount names them), calls progress after each (NULL
 * allowed) and done at the end. names: only these (n 0: all); an unknown one is an error in report. */
int engine_check(struct engine *e, bool online, const char *const *names, size_t n, struct report *report,
                 void (*progress)(void *arg, size_t done, size_t total), void (*done)(void *arg), void *arg);

/* The connector that an operator means: the name in the mount, or without its suffix where that
 * is unambiguous. A reference, or NULL with a sentence. */
struct connector *engine_find(struct engine *e, const char *name, struct error *ret_err);

#endif
