/*
 * Watches on files and directories through inotify, for paths that are replaced in every way:
 * written in place, renamed over, removed and made anew, swapped through a symlink (Kubernetes'
 * "..data"), or not there yet.
 *
 * One inotify instance for all; one kernel watch a directory, whatever the number of paths in it.
 * Every directory that holds a component of the path which is or may become a symlink is watched,
 * and the final directory; when a component changes, the chain is resolved anew. Loop's thread
 * only. Resolving a chain stats and readlinks, so only paths on local file systems are given
 * here: the caller checks (file_is_local), and polls the others.
 */
#ifndef CONNECTFS_BASE_WATCH_H
#define CONNECTFS_BASE_WATCH_H

#include <stdbool.h>

#include "base/loop.h"

struct watcher;
struct watch;

enum watch_event {
	WATCH_WRITING = 1 << 0,  /* IN_MODIFY: being written, a close will follow */
	WATCH_CHANGED = 1 << 1,  /* closed after writing, replaced, made, removed, mode changed */
	WATCH_OVERFLOW = 1 << 2, /* events were lost: look at everything */
	/* WRITING and CHANGED together: it has changed (was made, say), and is being written since. */
};

int watcher_new(struct loop *loop, struct watcher **ret); /* 0 or -errno */
void watcher_free(struct watcher *w);                     /* NULL allowed; watches must be gone */

/*
 * Calls fn(events, name, arg) when the file at path (absolute) changes. name is NULL.
 * NULL with errno set: ENOMEM, EINVAL (not absolute), ENAMETOOLONG; ENOSPC (the user's limit of
 * watches) or EACCES (a directory that may be searched but not read): the caller polls instead. A
 * watch that comes into such a state later calls fn(WATCH_OVERFLOW) each second until it sees again.
 */
struct watch *watch_file(struct watcher *w, const char *path,
                         void (*fn)(unsigned events, const char *name, void *arg), void *arg);
/*
 * Calls fn for each entry of the directory that changes, name being the entry's, or NULL for the
 * directory itself (removed, replaced, overflow: look at all of it). Changes to what an
 * entry's symlink points to are not seen; watch_file() sees them.
 */
struct watch *watch_dir(struct watcher *w, const char *path,
                        void (*fn)(unsigned events, const char *name, void *arg), void *arg);
void watch_free(struct watch *w); /* NULL allowed; also from a callback */

/* Reads what the kernel has queued now and calls the callbacks: before a decision that must
 * know of a write that began a moment ago. Not from a callback of a watch. */
void watcher_drain(struct watcher *w);

#endif
