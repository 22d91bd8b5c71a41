/*
 * A small pool of threads for file I/O that may block (NFS, automounts, FIFOs).
 *
 * Jobs run in POOL_THREADS threads and are completed in the loop's thread. A job has a
 * deadline: when it passes, the job is completed with -ETIMEDOUT, and the thread that is stuck
 * in it no longer counts, so another takes its place (POOL_STUCK_MAX stuck threads at most;
 * beyond that jobs wait, and time out). All threads block all signals.
 *
 * One file system that hangs must not take the threads from all others. So a job has a key, what it
 * looks at: while one is stuck with that key, no other begins. And a job has a place, as far as it is
 * known: the less it is trusted to answer, the fewer threads it may take, running or stuck.
 */
#ifndef CONNECTFS_BASE_POOL_H
#define CONNECTFS_BASE_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"

enum {
	POOL_THREADS = 4,
	POOL_STUCK_MAX = 16
};

/* Where a job looks; by that, how many such jobs (and those of the places below) may run at a time,
 * and how many may be stuck, which are counted with those of all places. */
enum pool_place {
	POOL_LOCAL,    /* a local file system, as the last look said: all threads, whatever is stuck */
	POOL_UNKNOWN,  /* never looked at: all threads but one, and POOL_STUCK_MAX */
	POOL_DOUBTFUL, /* a network's or FUSE's, or it gave no answer last time: half of each */
	POOL_PLACES
};

struct pool;
struct pool_job;

int pool_new(struct loop *loop, struct pool **ret); /* threads start with the first job */
/* Waits for running jobs that are not stuck (each until its deadline at most); queued ones are dropped.
 * done is called for none any more, free_arg for all. Not from within a done. NULL allowed. */
void pool_free(struct pool *p);

/*
 * Runs work(arg) in a thread of the pool, then done(result, arg) in the loop's thread, never from
 * within this call, where result is work's, or -ETIMEDOUT when deadline_ms (from now) passed first,
 * also while the job was still queued, or -EBUSY when a job of the same key has passed its deadline and
 * is stuck still. After -ETIMEDOUT work may be running yet: of arg only what it never writes may be
 * looked at. After done no callback touches arg but free_arg(arg), which runs once work has returned as
 * well, in whichever thread comes last (so free_arg must be safe in any). work must touch only arg.
 * key: what is looked at, a path as a rule, or NULL; it belongs to arg. The handle is the pool's, and
 * valid until done. Loop's thread only. NULL: out of memory (nothing is called, arg stays the caller's).
 */
struct pool_job *pool_submit(struct pool *p, int (*work)(void *arg), void (*done)(int result, void *arg),
                             void (*free_arg)(void *arg), void *arg, int64_t deadline_ms, const char *key,
                             enum pool_place place);
/* Is anything stuck? Loop's thread. */
bool pool_has_stuck(struct pool *p);
/* done will not be called; free_arg will. Loop's thread, before done. */
void pool_cancel(struct pool_job *job);

#endif
