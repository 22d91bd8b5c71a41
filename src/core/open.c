/*
 * Opening: the fast path of every thread, and the wait in the event thread.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/core.h"

static void wait_unref(struct open_wait *w)
{
	if (atomic_fetch_sub(&w->refs, 1) != 1)
		return;
	connector_unref(w->connector);
	free(w);
}

/* What is there may be served without asking anybody: a reference; else NULL. */
static struct snapshot *snapshot_if_fresh(struct connector *conn)
{
	struct snapshot *s = NULL;
	struct stored *stored = NULL;

	pthread_mutex_lock(&conn->lock);
	if (conn->state == CONNECTOR_OK && conn->snapshot->text_generation == conn->text_generation &&
	    !conn->stored_stale) {
		s = snapshot_ref(conn->snapshot);
		stored = stored_ref(conn->stored);
	}
	pthread_mutex_unlock(&conn->lock);
	if (s && (!stored_unchanged(stored) || !snapshot_is_fresh(s))) {
		snapshot_unref(s);
		s = NULL;
	}
	stored_unref(stored);
	return s;
}

/*
 * Where file_stamp_peek can't promise not to wait (before Linux 5.12), a path that has come to lead onto our
 * own mount (a symlink that was switched) makes it wait for another FUSE thread. So never all of them look at
 * files at the same time; who finds too many at it lets the pool look.
 */
struct snapshot *catalog_open_now(struct catalog *c, struct connector *conn)
{
	struct snapshot *s = NULL;

	if (atomic_fetch_add(&c->looking, 1) < CATALOG_LOOKING_MAX)
		s = snapshot_if_fresh(conn);
	atomic_fetch_sub(&c->looking, 1);
	return s;
}

void open_wait_finish(struct open_wait *w, int err, struct snapshot *snapshot)
{
	w->ended = true;
	w->done(err, snapshot ? snapshot_ref(snapshot) : NULL, w->arg);
	wait_unref(w);
}

static void wait_begin(void *arg)
{
	struct open_wait *w = arg;
	struct connector *conn = connector_ref(w->connector);
	struct engine *e = conn->catalog->engine;

	/* What the kernel has queued says whether a file is being written just now. */
	if (e->watcher)
		watcher_drain(e->watcher);
	if (conn->job == JOB_NONE) {
		list_append(&conn->waits, &w->node);
		connector_work(conn);
	} else {
		list_append(&conn->later, &w->node);
	}
	connector_unref(conn);
}

static void wait_interrupted(void *arg)
{
	struct open_wait *w = arg;

	if (!w->ended) {
		list_remove(&w->node);
		open_wait_finish(w, -EINTR, NULL);
	}
	wait_unref(w);
}

int catalog_open_wait(struct catalog *c, struct connector *conn, open_done *done, void *arg,
                      struct open_wait **ret_wait)
{
	struct open_wait *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	atomic_init(&w->refs, 2); /* the caller's, and the event thread's until done */
	atomic_init(&w->interrupted, false);
	w->connector = connector_ref(conn);
	w->done = done;
	w->arg = arg;
	list_init(&w->node);
	w->begin = (struct loop_work){ wait_begin, w, NULL };
	w->interrupt = (struct loop_work){ wait_interrupted, w, NULL };
	*ret_wait = w;
	loop_post_work(c->engine->loop, &w->begin);
	return 0;
}

void open_wait_interrupt(struct open_wait *w)
{
	if (atomic_exchange(&w->interrupted, true))
		return;
	atomic_fetch_add(&w->refs, 1);
	loop_post_work(w->connector->catalog->engine->loop, &w->interrupt);
}

void open_wait_release(struct open_wait *w)
{
	wait_unref(w);
}
