/*
 * A store: where stored configs come from.
 *
 * All calls come from the event thread and return at once; what blocks runs in the pool. A
 * store knows names and texts; it knows nothing of providers, rendering or FUSE.
 */
#ifndef CONNECTFS_STORE_STORE_H
#define CONNECTFS_STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"
#include "base/keep.h"
#include "base/loop.h"
#include "base/pool.h"
#include "base/report.h"
#include "base/slice.h"
#include "base/watch.h"
#include "format/config.h"

struct store_env {
	struct loop *loop;
	struct pool *pool;
	struct watcher *watcher; /* NULL: don't watch (check, render) */
	int64_t wait_ms;         /* deadline of file I/O */
};

/* A stored config as it was read once: immutable, reference-counted, any thread. */
struct stored {
	const char *text;        /* NULs are possible in it, see len */
	size_t len;
	enum config_syntax syntax;
	int64_t mtime_ns;        /* of the file; of the first sight where there is none */
	const char *path;        /* of the file, NULL where there is none */
	struct file_stamp stamp; /* of the file, when it was read */
	bool young;              /* so young then that its next change may bear the same time: read again */
	bool local;              /* the file may be checked by statx from any thread */
	bool watched;            /* a watch that saw all when it was read tells of its changes (and says so
	                            when it no longer sees all): an open needs no check of its own */
	struct keep *keep;       /* NULL: the text lies in ordinary memory */
	void *block;             /* of the keep: the text lies in it */
};

/* Copies text and path (NULL allowed); the rest is the store's to fill. NULL: out of memory. */
struct stored *stored_new(struct slice text, enum config_syntax syntax, const char *path);
/* Another one with all that s has, but its text, which lies at text in a block of the keep. Takes the block over, and
 * frees it with the last reference. NULL: out of memory; then the block stays the caller's. */
struct stored *stored_in_keep(const struct stored *s, struct keep *keep, void *block, const char *text);
struct stored *stored_ref(struct stored *s);
void stored_unref(struct stored *s); /* NULL allowed */
static inline struct slice stored_text(const struct stored *s)
{
	return slice_of(s->text, s->len);
}
/* Any thread, never blocks: true when there is no file, or it is watched, or local and unchanged as far as
 * the kernel can tell without asking anybody. */
bool stored_unchanged(const struct stored *s);

/* What a store tells. In the event thread, never from within a call of the store. name is the
 * name of the file in the mount, valid during the call. */
struct store_events {
	/* Connectors there are; also for each one at the start, before ready. mtime_ns: of the file. */
	void (*added)(void *arg, const char *name, int64_t mtime_ns);
	void (*removed)(void *arg, const char *name);
	/* The text may have changed: load it to see. */
	void (*changed)(void *arg, const char *name);
	/* The text is being written; changed follows, 1 s after the last sign of it at the latest. */
	void (*writing)(void *arg, const char *name);
	/* The first listing is complete (err 0), or the store can't be read at all (a sentence). */
	void (*ready)(void *arg, const struct error *err);
	void *arg;
};

struct store; /* begins with its ops */
struct store_load;

struct store_ops {
	const char *name;
	/* Begins to list and to watch. 0 or -errno. */
	int (*start)(struct store *s, const struct store_events *ev);
	/*
	 * Reads one stored config; done comes later, once, in the event thread: with a reference to
	 * stored (taken over by the callee), or err with a sentence (-ENOENT: it is gone; then removed
	 * has been or will be told). NULL: out of memory.
	 */
	struct store_load *(*load)(struct store *s, const char *name,
	                           void (*done)(void *arg, struct stored *stored, const struct error *err),
	                           void *arg);
	void (*cancel)(struct store *s, struct store_load *load); /* done will not be called */
	void (*close)(struct store *s);                           /* after all loads have ended */
};

struct store {
	const struct store_ops *ops;
};

/*
 * A directory of *.properties and *.json (symlinks followed to regular files; dot files, names
 * ending in '~' or '#', '#…', and editors' .swp, .bak, .tmp, .orig, .rej left out by the two
 * suffixes). A file's name is its name in the mount. Added, changed and removed files are told at
 * once by inotify (a full re-scan on overflow, or where it is a remote file system every
 * 30 s). 0, or -errno with a sentence.
 */
int store_directory_open(const struct store_env *env, const char *path, struct store **ret,
                         struct error *ret_err);
/* Is it a name that the directory store shows? */
bool store_directory_shows(const char *name);

#endif
