/*
 * Watches on files and directories through inotify, for paths that are replaced in every way:
 * written in place, renamed over, removed and made anew, swapped through a symlink (Kubernetes'
 * "..data"), or not there yet.
 *
 * One inotify instance for all; one kernel watch a directory, whatever the number of paths in it.
 * Every directory that holds a component of the path which is or may become a symlink is watched,
 * and the final directory; when a component changes, the chain is walked anew. Walking may block
 * (a link may come to lead anywhere), so it is done in the pool; all else in the loop's thread, to
 * which these functions belong. On a network's file system a watch sees this machine's changes only:
 * the caller polls these.
 */
#ifndef CONNECTFS_BASE_WATCH_H
#define CONNECTFS_BASE_WATCH_H

#include <stdbool.h>

#include "base/file.h"
#include "base/loop.h"
#include "base/pool.h"

struct watcher;
struct watch;

enum watch_event {
	WATCH_WRITING = 1 << 0,  /* IN_MODIFY: being written, a close will follow */
	WATCH_CHANGED = 1 << 1,  /* closed after writing, replaced, made, removed, mode changed */
	WATCH_OVERFLOW = 1 << 2, /* events were lost: look at everything */
	/* WRITING and CHANGED together: it has changed (was made, say), and is being written since. */
};

int watcher_new(struct loop *loop, struct pool *pool, struct watcher **ret); /* 0 or -errno */
/* NULL allowed; watches must be gone. Before the pool is freed. */
void watcher_free(struct watcher *w);

/*
 * Calls fn(events, name, arg) when the file at path (absolute) changes. name is NULL. The watch begins
 * to see a moment after this; known is what the file was before (NULL: none of the caller's business),
 * and when it is no longer that, fn(WATCH_CHANGED) is called then.
 *
 * A watch that does not see all (the user's limit of watches, a directory that may be searched but not
 * read, a file system that gives no answer) calls fn(WATCH_OVERFLOW) after a second, two, and so on up
 * to WATCH_BLIND_MAX_MS, until it sees again: look yourself then.
 * NULL with errno set: ENOMEM, EINVAL (not absolute), ENAMETOOLONG.
 */
enum { WATCH_BLIND_MAX_MS = 32000 };
struct watch *watch_file(struct watcher *w, const char *path, const struct file_stamp *known,
                         void (*fn)(unsigned events, const char *name, void *arg), void *arg);
/*
 * Calls fn for each entry of the directory that changes, name being the entry's, or NULL for the
 * directory itself (removed, replaced, overflow: look at all of it); and once when it begins to see, so
 * that what is listed then misses nothing. Changes to what an entry's symlink points to are not
 * seen; watch_file() sees them.
 */
struct watch *watch_dir(struct watcher *w, const char *path,
                        void (*fn)(unsigned events, const char *name, void *arg), void *arg);
/* Does it see all? False also until it has begun to. Any thread. */
bool watch_sees(const struct watch *w);
void watch_free(struct watch *w); /* NULL allowed; also from a callback */

/* Reads what the kernel has queued now and calls the callbacks: before a decision that must
 * know of a write that began a moment ago. Not from a callback of a watch. */
void watcher_drain(struct watcher *w);
/*
 * Has all been told that had happened when this was called, of watches that saw (watch_sees) when they were asked
 * before this? Any thread; never waits. True: what a callback has written before (atomically) is seen by who asks
 * then. False: the kernel has something queued, or it is being told, or a path is being walked.
 */
bool watcher_is_quiet(const struct watcher *w);
/* The descriptor of all watches. A process that has the only one dies some 15 ms later, waiting for the kernel to
 * put the watches away; not so while another holds a copy, who need not read it. */
int watcher_fd(const struct watcher *w);
/* Are paths being walked? For tests. */
bool watcher_is_walking(const struct watcher *w);

#endif
