/*
 * For tests of the watcher, with real files in a directory of their own.
 */
#ifndef CONNECTFS_UNIT_WATCH_HELP_H
#define CONNECTFS_UNIT_WATCH_HELP_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/watch.h"

static struct loop *loop;
static struct pool *pool;
static struct watcher *watcher;
static char dir[256];

static inline const char *in(const char *name)
{
	static char room[4][512];
	static unsigned n;

	n = (n + 1) % 4;
	snprintf(room[n], sizeof(room[n]), "%s/%s", dir, name);
	return room[n];
}

static inline void put(const char *name, const char *text)
{
	int fd = open(in(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static inline void replace(const char *from, const char *to)
{
	assert_int_equal(rename(in(from), in(to)), 0);
}

static inline void make_dir(const char *name)
{
	assert_int_equal(mkdir(in(name), 0755), 0);
}

static inline void link_to(const char *target, const char *name)
{
	assert_int_equal(symlink(target, in(name)), 0);
}

static inline int setup(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void)state;
	snprintf(dir, sizeof(dir), "%s/base-watch-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir) || loop_new(&loop) < 0 || pool_new(loop, &pool) < 0)
		return -1;
	return watcher_new(loop, pool, &watcher);
}

static inline int teardown(void **state)
{
	char command[1024];

	(void)state;
	if (getuid() == 0 && seteuid(0) < 0)
		return -1;
	watcher_free(watcher);
	pool_free(pool);
	loop_free(loop);
	snprintf(command, sizeof(command), "chmod -R u+rwx '%s' && rm -rf '%s'", dir, dir);
	return system(command);
}

/* What a watch has told so far. */
struct seen {
	unsigned events, calls;
	char names[256]; /* of entries, with a space after each; "." for NULL */
	struct watch *free_this;
};

static inline void note(unsigned events, const char *name, void *arg)
{
	struct seen *s = arg;

	assert_true(events != 0);
	s->events |= events;
	s->calls++;
	size_t n = strlen(s->names);
	snprintf(s->names + n, sizeof(s->names) - n, "%s ", name ? name : ".");
}

/* Until all that has happened is told. */
static inline void settle(void)
{
	do {
		watcher_drain(watcher);
		while (watcher_is_walking(watcher))
			loop_run_once(loop, 1);
		watcher_drain(watcher);
	} while (watcher_is_walking(watcher));
}

static inline unsigned drain(struct seen *s)
{
	s->events = 0;
	s->calls = 0;
	s->names[0] = '\0';
	settle();
	return s->events;
}

static inline struct watch *watch(const char *name, struct seen *s)
{
	*s = (struct seen){ 0 };
	struct watch *x = watch_file(watcher, in(name), NULL, note, s);
	assert_non_null(x);
	assert_int_equal(drain(s), 0);
	return x;
}

#endif
