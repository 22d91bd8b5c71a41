/*
 * The event loop of one thread, over libevent: descriptors, timers, and work posted from
 * other threads.
 *
 * Everything but loop_post and loop_stop is for the loop's own thread. Callbacks run one
 * after another in that thread; none may block.
 */
#ifndef CONNECTFS_BASE_LOOP_H
#define CONNECTFS_BASE_LOOP_H

#include <stdint.h>

struct loop;
struct loop_timer;
struct loop_fd;
struct event_base;

int loop_new(struct loop **ret); /* 0 or -errno */
void loop_free(struct loop *l);  /* NULL allowed; posted work that did not run is dropped */
/* Runs until loop_stop. 0 or -errno. */
int loop_run(struct loop *l);
/* Runs what is due now and returns; with wait, waits for at least one event. For tests. */
int loop_run_once(struct loop *l, int wait);
void loop_stop(struct loop *l); /* any thread */

/* Runs fn(arg) in the loop's thread, in the order of the calls. Any thread, and it wakes the
 * loop. 0 or -ENOMEM (then fn will not run). */
int loop_post(struct loop *l, void (*fn)(void *arg), void *arg);
/* The same without an allocation, so that it can't fail: the caller owns the node, which must
 * not be posted again before its fn has begun to run. */
struct loop_work {
	void (*fn)(void *arg);
	void *arg;
	struct loop_work *next; /* the loop's */
};
void loop_post_work(struct loop *l, struct loop_work *w);

/* A one-shot timer, not armed. NULL: out of memory. */
struct loop_timer *loop_timer_new(struct loop *l, void (*fn)(void *arg), void *arg);
/* Arms (or arms anew) to run once in ms milliseconds (≥ 0), never within this call.
 * Can't fail. */
void loop_timer_set(struct loop_timer *t, int64_t ms);
void loop_timer_stop(struct loop_timer *t);
int loop_timer_armed(const struct loop_timer *t);
void loop_timer_free(struct loop_timer *t); /* NULL allowed; also from its own callback */

/* Calls fn while fd is readable (level-triggered). fd stays the caller's and must outlive
 * the watch. NULL: out of memory. */
struct loop_fd *loop_fd_new(struct loop *l, int fd, void (*fn)(int fd, void *arg), void *arg);
void loop_fd_free(struct loop_fd *w); /* NULL allowed; also from its own callback */

/* A descriptor that is waited for in both directions, such as a socket: fn is told what of LOOP_READ and LOOP_WRITE
 * has come, among what is wanted (at first nothing). fd as above. */
enum { LOOP_READ = 1, LOOP_WRITE = 2 };
struct loop_io;
struct loop_io *loop_io_new(struct loop *l, int fd, void (*fn)(int fd, unsigned events, void *arg), void *arg);
int loop_io_want(struct loop_io *io, unsigned events); /* 0 or -ENOMEM */
void loop_io_free(struct loop_io *io); /* NULL allowed; also from its own callback; before fd is closed */

#endif
