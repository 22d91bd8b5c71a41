/*
 * Walking a path in a thread, with a kernel watch on each step: the part of base/watch that may block.
 *
 * A walk touches nothing but itself and the struct inotify, which lives as long as somebody walks. The
 * watches that it made belong to the watcher once that has looked at them (walk_taken); those of a walk
 * that nobody waited for are orphans, which the watcher takes back when it next looks.
 */
#ifndef CONNECTFS_BASE_WALK_H
#define CONNECTFS_BASE_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/inotify.h>

#include "base/file.h"

/* What is asked of the kernel for a step on the way, and for the end of it. */
#define WALK_STRUCTURE (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB)
#define WALK_SELF (IN_DELETE_SELF | IN_MOVE_SELF)
#define WALK_STEP (WALK_STRUCTURE | WALK_SELF)
#define WALK_FINAL (WALK_STEP | IN_MODIFY | IN_CLOSE_WRITE)

/* A longer way is not watched, but looked at by time: PATH_MAX and forty symlinks allow for far more
 * than anybody has, and each costs a look. */
enum { WALK_STEPS_MAX = 256 };

struct inotify; /* a descriptor, and the orphans */

struct inotify *inotify_new(void); /* NULL with errno set */
struct inotify *inotify_ref(struct inotify *in);
void inotify_unref(struct inotify *in); /* NULL allowed; any thread */
int inotify_fd(const struct inotify *in);
/* Takes one orphan off the list: a watch descriptor, or -1. */
int inotify_take_orphan(struct inotify *in);

struct walk_step {
	int wd;
	char *name; /* NULL: the directory (or the mounted file) itself */
	bool final; /* the file itself, and not a step on the way to it */
};

struct walk {
	struct inotify *in;
	bool is_dir, taken;
	struct walk_step *steps;
	size_t n_steps, cap;
	unsigned looks;          /* names and links so far */
	int blind;               /* errno of what could not be watched but has to be, or 0 */
	struct file_stamp stamp; /* of a file, after all of that */
	int stamp_err;           /* 0, or why there is none */
	char path[];
};

struct walk *walk_new(struct inotify *in, const char *path, bool is_dir); /* absolute; NULL: no memory */
/* Walks. 0, or -errno: out of memory or watches. What was found by then counts in any case. Blocks. */
int walk_run(struct walk *k);
void walk_free(struct walk *k); /* any thread */

#endif
