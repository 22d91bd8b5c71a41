/*
 * The event loop: libevent watches the descriptors; timers and posted work are our own, since
 * adding a timer to libevent may fail and ours may not.
 *
 * Timers lie in a binary heap that has room for all that exist, and share one timerfd on
 * CLOCK_BOOTTIME, so that after the machine slept they are due at once. Posted work lies in a
 * list under a mutex; an eventfd wakes the loop.
 */
#include "base/loop.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/thread.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"

struct work_list {
	struct loop_work *first, **last;
};

struct loop {
	struct event_base *base;
	struct event *wake_event, *tick_event;
	int wake_fd, tick_fd;
	atomic_bool stop;

	pthread_mutex_t mutex; /* of posted */
	struct work_list posted;

	struct loop_timer **heap; /* armed timers, the earliest first */
	size_t armed, timers, room;
	uint64_t order; /* counts loop_timer_set */
	int64_t tick_ns; /* what the timerfd is set to, 0: off */
};

struct loop_timer {
	struct loop *loop;
	void (*fn)(void *arg);
	void *arg;
	int64_t due_ns;
	uint64_t order; /* equal times run in the order of arming */
	size_t pos;     /* in the heap, from 1; 0: not armed */
};

struct loop_fd {
	struct event *event;
	void (*fn)(int fd, void *arg);
	void *arg;
};

/* A posted function and its node in one. */
struct post {
	struct loop_work work;
	void (*fn)(void *arg);
	void *arg;
};

/* --- posted work ------------------------------------------------------------------------ */

static void wake(struct loop *l)
{
	const uint64_t one = 1;

	/* Fails only when the counter is full, and then the loop is awake anyway. */
	while (write(l->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void run_post(void *arg)
{
	struct post *p = arg;
	void (*fn)(void *) = p->fn;
	void *fn_arg = p->arg;

	free(p);
	fn(fn_arg);
}

void loop_post_work(struct loop *l, struct loop_work *w)
{
	w->next = NULL;
	pthread_mutex_lock(&l->mutex);
	bool was_empty = !l->posted.first;
	*l->posted.last = w;
	l->posted.last = &w->next;
	/* Within the mutex: afterwards the loop may have run the work and be gone. */
	if (was_empty)
		wake(l);
	pthread_mutex_unlock(&l->mutex);
}

int loop_post(struct loop *l, void (*fn)(void *arg), void *arg)
{
	struct post *p = malloc(sizeof(*p));

	if (!p)
		return -ENOMEM;
	*p = (struct post){ .work = { .fn = run_post, .arg = p }, .fn = fn, .arg = arg };
	loop_post_work(l, &p->work);
	return 0;
}

static struct loop_work *take_posted(struct loop *l)
{
	pthread_mutex_lock(&l->mutex);
	struct loop_work *first = l->posted.first;
	l->posted = (struct work_list){ NULL, &l->posted.first };
	pthread_mutex_unlock(&l->mutex);
	return first;
}

/* Runs what was posted until now; what is posted meanwhile has its turn after other events. */
static void on_wake(int fd, short what, void *arg)
{
	struct loop *l = arg;
	uint64_t count;

	(void)what;
	if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN && errno != EINTR)
		return;
	for (struct loop_work *w = take_posted(l), *next; w; w = next) {
		next = w->next; /* before fn, which may free the node or post it again */
		w->fn(w->arg);
	}
}

static void drop_work(struct loop_work *w)
{
	while (w) {
		struct loop_work *next = w->next;
		if (w->fn == run_post)
			free(w->arg);
		w = next;
	}
}

/* --- timers ----------------------------------------------------------------------------- */

static bool timer_before(const struct loop_timer *a, const struct loop_timer *b)
{
	return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static void heap_place(struct loop *l, size_t pos, struct loop_timer *t)
{
	l->heap[pos - 1] = t;
	t->pos = pos;
}

static void heap_up(struct loop *l, size_t pos, struct loop_timer *t)
{
	for (; pos > 1 && timer_before(t, l->heap[pos / 2 - 1]); pos /= 2)
		heap_place(l, pos, l->heap[pos / 2 - 1]);
	heap_place(l, pos, t);
}

static void heap_down(struct loop *l, size_t pos, struct loop_timer *t)
{
	for (size_t child; (child = pos * 2) <= l->armed; pos = child) {
		if (child < l->armed && timer_before(l->heap[child], l->heap[child - 1]))
			child++;
		if (!timer_before(l->heap[child - 1], t))
			break;
		heap_place(l, pos, l->heap[child - 1]);
	}
	heap_place(l, pos, t);
}

static void heap_del(struct loop *l, struct loop_timer *t)
{
	size_t pos = t->pos;
	struct loop_timer *last = l->heap[--l->armed];

	t->pos = 0;
	if (last == t)
		return;
	if (pos > 1 && timer_before(last, l->heap[pos / 2 - 1]))
		heap_up(l, pos, last);
	else
		heap_down(l, pos, last);
}

/* Sets the timerfd to the earliest timer. It may stay set too early, which is cheaper than setting
 * it for each timer that is stopped, but never too late. */
static void set_tick(struct loop *l)
{
	if (l->armed == 0 || (l->tick_ns != 0 && l->tick_ns <= l->heap[0]->due_ns))
		return;
	l->tick_ns = l->heap[0]->due_ns;
	struct itimerspec when = { .it_value = clock_timespec(l->tick_ns) };
	timerfd_settime(l->tick_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void on_tick(int fd, short what, void *arg)
{
	struct loop *l = arg;
	uint64_t count, limit = l->order;
	int64_t now = clock_mono_ns();

	(void)what;
	if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN && errno != EINTR)
		return;
	l->tick_ns = 0;
	/* Timers armed by these callbacks wait for the next turn, so that others have theirs. */
	while (l->armed > 0 && l->heap[0]->due_ns <= now && l->heap[0]->order <= limit) {
		struct loop_timer *t = l->heap[0];
		heap_del(l, t);
		t->fn(t->arg); /* may free t */
	}
	set_tick(l);
}

struct loop_timer *loop_timer_new(struct loop *l, void (*fn)(void *arg), void *arg)
{
	if (l->timers == l->room) {
		size_t room = l->room ? l->room * 2 : 16;
		struct loop_timer **heap = realloc(l->heap, room * sizeof(*heap));
		if (!heap)
			return NULL;
		l->heap = heap;
		l->room = room;
	}
	struct loop_timer *t = malloc(sizeof(*t));
	if (!t)
		return NULL;
	*t = (struct loop_timer){ .loop = l, .fn = fn, .arg = arg };
	l->timers++;
	return t;
}

void loop_timer_set(struct loop_timer *t, int64_t ms)
{
	struct loop *l = t->loop;
	int64_t now = clock_mono_ns();
	const int64_t ns_per_ms = 1000000;

	if (t->pos)
		heap_del(l, t);
	if (ms < 0)
		ms = 0;
	t->due_ns = ms > (INT64_MAX - now) / ns_per_ms ? INT64_MAX : now + ms * ns_per_ms;
	t->order = ++l->order;
	l->armed++;
	heap_up(l, l->armed, t);
	set_tick(l);
}

void loop_timer_stop(struct loop_timer *t)
{
	if (t->pos)
		heap_del(t->loop, t);
}

int loop_timer_armed(const struct loop_timer *t)
{
	return t->pos != 0;
}

void loop_timer_free(struct loop_timer *t)
{
	if (!t)
		return;
	loop_timer_stop(t);
	t->loop->timers--;
	free(t);
}

/* --- descriptors ------------------------------------------------------------------------ */

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct loop_fd *w = arg;

	(void)what;
	w->fn(fd, w->arg); /* may free w */
}

struct loop_fd *loop_fd_new(struct loop *l, int fd, void (*fn)(int fd, void *arg), void *arg)
{
	struct loop_fd *w = malloc(sizeof(*w));

	if (!w)
		return NULL;
	*w = (struct loop_fd){ .fn = fn, .arg = arg };
	w->event = event_new(l->base, fd, EV_READ | EV_PERSIST, on_readable, w);
	if (!w->event || event_add(w->event, NULL) < 0) {
		loop_fd_free(w);
		return NULL;
	}
	return w;
}

void loop_fd_free(struct loop_fd *w)
{
	if (!w)
		return;
	if (w->event)
		event_free(w->event);
	free(w);
}

struct loop_io {
	struct event *event;
	struct event_base *base;
	unsigned wanted; /* LOOP_READ and LOOP_WRITE */
	void (*fn)(int fd, unsigned events, void *arg);
	void *arg;
	int fd;
};

static void on_io(evutil_socket_t fd, short what, void *arg)
{
	struct loop_io *io = arg;

	io->fn(fd, (what & EV_READ ? LOOP_READ : 0u) | (what & EV_WRITE ? LOOP_WRITE : 0u), io->arg); /* may free io */
}

struct loop_io *loop_io_new(struct loop *l, int fd, void (*fn)(int fd, unsigned events, void *arg), void *arg)
{
	struct loop_io *io = malloc(sizeof(*io));

	if (!io)
		return NULL;
	*io = (struct loop_io){ .base = l->base, .fn = fn, .arg = arg, .fd = fd };
	io->event = event_new(l->base, fd, EV_READ | EV_PERSIST, on_io, io);
	if (!io->event) {
		free(io);
		return NULL;
	}
	return io;
}

int loop_io_want(struct loop_io *io, unsigned events)
{
	short what = (short)((events & LOOP_READ ? EV_READ : 0) | (events & LOOP_WRITE ? EV_WRITE : 0));

	if (events == io->wanted)
		return 0;
	if (io->wanted)
		event_del(io->event);
	io->wanted = 0;
	if (!events)
		return 0;
	if (event_assign(io->event, io->base, io->fd, (short)(what | EV_PERSIST), on_io, io) < 0 ||
	    event_add(io->event, NULL) < 0)
		return -ENOMEM;
	io->wanted = events;
	return 0;
}

void loop_io_free(struct loop_io *io)
{
	if (!io)
		return;
	event_free(io->event);
	free(io);
}

/* --- the loop --------------------------------------------------------------------------- */

static pthread_once_t threads_once = PTHREAD_ONCE_INIT;

static void use_threads(void)
{
	evthread_use_pthreads();
}

static struct event *add_event(struct loop *l, int fd, event_callback_fn fn)
{
	struct event *e = event_new(l->base, fd, EV_READ | EV_PERSIST, fn, l);

	if (e && event_add(e, NULL) < 0) {
		event_free(e);
		e = NULL;
	}
	return e;
}

int loop_new(struct loop **ret)
{
	struct loop *l = calloc(1, sizeof(*l));
	int err;

	if (!l)
		return -ENOMEM;
	pthread_once(&threads_once, use_threads);
	pthread_mutex_init(&l->mutex, NULL);
	l->posted.last = &l->posted.first;
	l->tick_fd = -1;
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->wake_fd < 0)
		goto fail;
	l->tick_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (l->tick_fd < 0)
		goto fail;
	errno = ENOMEM; /* libevent does not always say */
	l->base = event_base_new();
	if (!l->base)
		goto fail;
	l->wake_event = add_event(l, l->wake_fd, on_wake);
	l->tick_event = add_event(l, l->tick_fd, on_tick);
	if (!l->wake_event || !l->tick_event)
		goto fail;
	*ret = l;
	return 0;
fail:
	err = errno ? errno : ENOMEM;
	loop_free(l);
	return -err;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	/* First: whoever called loop_stop last may still be within the mutex. */
	drop_work(take_posted(l));
	if (l->wake_event)
		event_free(l->wake_event);
	if (l->tick_event)
		event_free(l->tick_event);
	if (l->base)
		event_base_free(l->base);
	if (l->wake_fd >= 0)
		close(l->wake_fd);
	if (l->tick_fd >= 0)
		close(l->tick_fd);
	pthread_mutex_destroy(&l->mutex);
	free(l->heap);
	free(l);
}

int loop_run(struct loop *l)
{
	while (!atomic_exchange(&l->stop, false))
		if (event_base_loop(l->base, EVLOOP_ONCE) < 0)
			return -EIO;
	return 0;
}

int loop_run_once(struct loop *l, int wait)
{
	return event_base_loop(l->base, EVLOOP_ONCE | (wait ? 0 : EVLOOP_NONBLOCK)) < 0 ? -EIO : 0;
}

void loop_stop(struct loop *l)
{
	pthread_mutex_lock(&l->mutex);
	atomic_store(&l->stop, true);
	wake(l);
	pthread_mutex_unlock(&l->mutex);
}
