/*
 * The pool of threads for file I/O.
 *
 * A job is held by the loop's side until done was called, and by the thread's side until work has
 * returned; refs counts these, and the last one out calls free_arg. Results go through a list and an
 * eventfd of the pool's own, so that nothing of it is left in the loop when it is freed. A job whose
 * deadline passed while it ran is "overdue": its thread is stuck. Of the jobs that wait, the oldest whose
 * place may take one more thread comes first. All state is under one mutex.
 */
#include "base/pool.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum job_state {
	JOB_QUEUED,
	JOB_RUNNING,
	JOB_FINISHED
};

struct pool_job {
	struct pool *pool;
	int (*work)(void *arg);
	void (*done)(int result, void *arg); /* NULL: cancelled, or called already */
	void (*free_arg)(void *arg);
	void *arg;
	struct loop_timer *timer; /* the loop's side only */
	int64_t deadline_ms;      /* clock_mono_ms() */
	const char *key;          /* in arg, or NULL */
	enum pool_place place;
	uint64_t no;              /* the order of submission */
	enum job_state state;
	int result;
	int refs;
	bool overdue;
	struct pool_job *next; /* queue, or list of finished jobs */
};

struct job_list {
	struct pool_job *first, **last;
	size_t len;
};

enum slot_state {
	SLOT_FREE,
	SLOT_LIVE,
	SLOT_ENDED /* to be joined */
};

struct slot {
	struct pool *pool;
	pthread_t thread;
	enum slot_state state;
	struct pool_job *job; /* running, or NULL */
};

enum { SLOTS = POOL_THREADS + POOL_STUCK_MAX };

struct pool {
	struct loop *loop;
	struct loop_fd *watch;
	int event_fd;

	pthread_mutex_t mutex;
	pthread_cond_t queued;   /* a job came, or the end */
	pthread_cond_t returned; /* a work returned; waited for with a deadline */
	struct job_list queues[POOL_PLACES], finished;
	unsigned running[POOL_PLACES]; /* jobs that are not overdue */
	uint64_t submitted;
	struct slot slots[SLOTS];
	unsigned threads; /* live */
	unsigned idle;    /* of these, waiting for a job */
	unsigned overdue; /* of these, running an overdue job */
	bool ending;
	unsigned refs; /* the owner's and one for each live thread */
};

static void jobs_init(struct job_list *l)
{
	l->first = NULL;
	l->last = &l->first;
	l->len = 0;
}

static void jobs_append(struct job_list *l, struct pool_job *j)
{
	j->next = NULL;
	*l->last = j;
	l->last = &j->next;
	l->len++;
}

static struct pool_job *jobs_take_first(struct job_list *l)
{
	struct pool_job *j = l->first;

	if (j) {
		l->first = j->next;
		if (!l->first)
			l->last = &l->first;
		l->len--;
	}
	return j;
}

static void jobs_remove(struct job_list *l, struct pool_job *j)
{
	struct pool_job **p = &l->first;

	while (*p && *p != j)
		p = &(*p)->next;
	if (!*p)
		return;
	*p = j->next;
	if (!*p)
		l->last = p;
	l->len--;
}

/* How many jobs of the place may begin now. */
static unsigned room(const struct pool *p, enum pool_place place)
{
	static const struct {
		unsigned running, stuck;
	} limits[POOL_PLACES] = {
		[POOL_LOCAL] = { POOL_THREADS, UINT_MAX },
		[POOL_UNKNOWN] = { POOL_THREADS - 1, POOL_STUCK_MAX },
		[POOL_DOUBTFUL] = { POOL_THREADS / 2, POOL_STUCK_MAX / 2 },
	};
	unsigned running = 0;

	for (int i = (int)place; i < POOL_PLACES; i++)
		running += p->running[i];
	/* Those that run may get stuck, every one. */
	if (running >= limits[place].running || p->overdue + running >= limits[place].stuck)
		return 0;
	unsigned a = limits[place].running - running, b = limits[place].stuck - p->overdue - running;
	return a < b ? a : b;
}

/* How many of the jobs that wait might begin now. */
static size_t runnable(const struct pool *p)
{
	size_t n = 0;

	for (int i = 0; i < POOL_PLACES; i++) {
		unsigned most = room(p, (enum pool_place)i);
		n += p->queues[i].len < most ? p->queues[i].len : most;
	}
	return n;
}

static struct pool_job *take_next(struct pool *p)
{
	struct pool_job *oldest = NULL;

	for (int i = 0; i < POOL_PLACES; i++) {
		struct pool_job *j = p->queues[i].first;
		if (j && (!oldest || j->no < oldest->no) && room(p, (enum pool_place)i) > 0)
			oldest = j;
	}
	return oldest ? jobs_take_first(&p->queues[oldest->place]) : NULL;
}

static bool is_stuck(const struct pool *p, const char *key)
{
	for (unsigned i = 0; key && p->overdue > 0 && i < SLOTS; i++) {
		const struct pool_job *j = p->slots[i].state == SLOT_LIVE ? p->slots[i].job : NULL;
		if (j && j->overdue && j->key && strcmp(j->key, key) == 0)
			return true;
	}
	return false;
}

/* Threads that count: those that are not stuck, and those that are beyond POOL_STUCK_MAX. */
static unsigned counted(const struct pool *p)
{
	unsigned stuck = p->overdue < POOL_STUCK_MAX ? p->overdue : POOL_STUCK_MAX;

	return p->threads - stuck;
}

/* --- a job's and a pool's end ----------------------------------------------------------- */

static void job_free(struct pool_job *j)
{
	j->free_arg(j->arg);
	free(j);
}

static void pool_release(struct pool *p)
{
	pthread_cond_destroy(&p->queued);
	pthread_cond_destroy(&p->returned);
	pthread_mutex_destroy(&p->mutex);
	if (p->event_fd >= 0)
		close(p->event_fd);
	free(p);
}

static void tell_loop(struct pool *p)
{
	const uint64_t one = 1;

	while (write(p->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* --- threads ---------------------------------------------------------------------------- */

/* Runs j without the mutex and hands it on. The mutex is held on entry and on return. */
static void run_job(struct slot *slot, struct pool_job *j)
{
	struct pool *p = slot->pool;

	j->state = JOB_RUNNING;
	j->refs++;
	p->running[j->place]++;
	slot->job = j;
	pthread_mutex_unlock(&p->mutex);
	int result = j->work(j->arg);
	pthread_mutex_lock(&p->mutex);

	slot->job = NULL;
	j->state = JOB_FINISHED;
	j->result = result;
	bool last = --j->refs == 0;
	if (j->overdue) {
		p->overdue--;
		pthread_cond_broadcast(&p->queued); /* others may have room now, if this thread ends */
	} else {
		p->running[j->place]--;
		jobs_append(&p->finished, j);
		if (!p->ending)
			tell_loop(p);
	}
	if (last) {
		pthread_mutex_unlock(&p->mutex);
		job_free(j);
		pthread_mutex_lock(&p->mutex);
	}
	pthread_cond_broadcast(&p->returned);
}

static void *thread_main(void *arg)
{
	struct slot *slot = arg;
	struct pool *p = slot->pool;

	pthread_mutex_lock(&p->mutex);
	/* A thread that was stuck and finds its place taken ends. */
	while (!p->ending && counted(p) <= POOL_THREADS) {
		struct pool_job *j = take_next(p);
		if (j) {
			run_job(slot, j);
			continue;
		}
		p->idle++;
		pthread_cond_wait(&p->queued, &p->mutex);
		p->idle--;
	}
	slot->state = SLOT_ENDED;
	p->threads--;
	bool last = --p->refs == 0;
	pthread_mutex_unlock(&p->mutex);
	if (last)
		pool_release(p);
	return NULL;
}

static struct slot *free_slot(struct pool *p)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		struct slot *s = &p->slots[i];
		if (s->state == SLOT_ENDED) {
			pthread_join(s->thread, NULL); /* it needs nothing but to return */
			s->state = SLOT_FREE;
		}
		if (s->state == SLOT_FREE)
			return s;
	}
	return NULL;
}

/* Starts a thread where more jobs wait than idle threads will take. With the mutex. */
static void start_thread(struct pool *p)
{
	sigset_t all, old;
	struct slot *s;

	if (runnable(p) <= p->idle || counted(p) >= POOL_THREADS || !(s = free_slot(p)))
		return;
	*s = (struct slot){ .pool = p, .state = SLOT_LIVE };
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&s->thread, NULL, thread_main, s) == 0) {
		p->threads++;
		p->refs++;
	} else {
		s->state = SLOT_FREE; /* the threads that are there must do */
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* --- the loop's side -------------------------------------------------------------------- */

/* Ends the loop's side: calls done where somebody still wants it. Without the mutex. */
static void complete(struct pool_job *j, int result)
{
	struct pool *p = j->pool;
	void (*done)(int, void *) = j->done;

	loop_timer_free(j->timer);
	j->timer = NULL;
	j->done = NULL;
	if (done)
		done(result, j->arg);
	/* Only now: until done has returned, a thread that comes back must not free arg. */
	pthread_mutex_lock(&p->mutex);
	bool last = --j->refs == 0;
	pthread_mutex_unlock(&p->mutex);
	if (last)
		job_free(j);
}

static void set_overdue(struct pool *p, struct pool_job *j)
{
	j->overdue = true;
	p->overdue++;
	p->running[j->place]--;
}

static void on_deadline(void *arg)
{
	struct pool_job *j = arg;
	struct pool *p = j->pool;

	pthread_mutex_lock(&p->mutex);
	if (j->state == JOB_FINISHED) {
		pthread_mutex_unlock(&p->mutex); /* in time, if only just: its result is on the way */
		return;
	}
	if (j->state == JOB_QUEUED) {
		jobs_remove(&p->queues[j->place], j);
	} else {
		set_overdue(p, j);
		pthread_cond_broadcast(&p->queued);
		start_thread(p);
	}
	pthread_mutex_unlock(&p->mutex);
	complete(j, -ETIMEDOUT);
}

static void on_finished(int fd, void *arg)
{
	struct pool *p = arg;
	uint64_t count;
	struct pool_job *j;

	if (read(fd, &count, sizeof(count)) < 0)
		return; /* EAGAIN, EINTR: the loop calls again where there is something */
	pthread_mutex_lock(&p->mutex);
	size_t n = p->finished.len;
	pthread_mutex_unlock(&p->mutex);
	/* Those that are there now: one by one, since done may cancel the next, or submit another. */
	while (n-- > 0) {
		pthread_mutex_lock(&p->mutex);
		j = jobs_take_first(&p->finished);
		pthread_mutex_unlock(&p->mutex);
		if (!j)
			return;
		complete(j, j->result);
	}
}

/* False: there is not even one thread, which is as good as out of memory. With the mutex. */
static bool enqueue(struct pool *p, struct pool_job *j)
{
	struct job_list *queue = &p->queues[j->place];

	if (is_stuck(p, j->key)) {
		j->state = JOB_FINISHED;
		j->result = -EBUSY;
		loop_timer_stop(j->timer);
		jobs_append(&p->finished, j);
		tell_loop(p);
		return true;
	}
	j->no = p->submitted++;
	jobs_append(queue, j);
	start_thread(p);
	if (p->threads == 0) {
		jobs_remove(queue, j);
		return false;
	}
	pthread_cond_signal(&p->queued);
	return true;
}

struct pool_job *pool_submit(struct pool *p, int (*work)(void *arg), void (*done)(int result, void *arg),
                             void (*free_arg)(void *arg), void *arg, int64_t deadline_ms, const char *key,
                             enum pool_place place)
{
	struct pool_job *j = malloc(sizeof(*j));

	if (!j)
		return NULL;
	*j = (struct pool_job){ .pool = p, .work = work, .done = done, .free_arg = free_arg, .arg = arg,
		                .state = JOB_QUEUED, .refs = 1, .key = key, .place = place };
	j->timer = loop_timer_new(p->loop, on_deadline, j);
	if (!j->timer) {
		free(j);
		return NULL;
	}
	int64_t now = clock_mono_ms();
	j->deadline_ms = deadline_ms > INT64_MAX - now ? INT64_MAX : now + deadline_ms;
	loop_timer_set(j->timer, deadline_ms);

	pthread_mutex_lock(&p->mutex);
	bool ok = enqueue(p, j);
	pthread_mutex_unlock(&p->mutex);
	if (!ok) {
		loop_timer_free(j->timer);
		free(j);
		return NULL;
	}
	return j;
}

void pool_cancel(struct pool_job *j)
{
	struct pool *p = j->pool;

	j->done = NULL;
	pthread_mutex_lock(&p->mutex);
	bool queued = j->state == JOB_QUEUED;
	if (queued)
		jobs_remove(&p->queues[j->place], j);
	pthread_mutex_unlock(&p->mutex);
	/* A running one keeps its deadline, since its thread may be stuck as well as any. */
	if (queued)
		complete(j, -ECANCELED);
}

bool pool_has_stuck(struct pool *p)
{
	pthread_mutex_lock(&p->mutex);
	bool any = p->overdue > 0;
	pthread_mutex_unlock(&p->mutex);
	return any;
}

int pool_new(struct loop *loop, struct pool **ret)
{
	struct pool *p = calloc(1, sizeof(*p));
	pthread_condattr_t attr;
	int err;

	if (!p)
		return -ENOMEM;
	pthread_mutex_init(&p->mutex, NULL);
	pthread_cond_init(&p->queued, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->returned, &attr);
	pthread_condattr_destroy(&attr);
	for (int i = 0; i < POOL_PLACES; i++)
		jobs_init(&p->queues[i]);
	jobs_init(&p->finished);
	p->loop = loop;
	p->refs = 1;
	p->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->event_fd < 0) {
		err = errno;
		pool_release(p);
		return -err;
	}
	p->watch = loop_fd_new(loop, p->event_fd, on_finished, p);
	if (!p->watch) {
		pool_release(p);
		return -ENOMEM;
	}
	*ret = p;
	return 0;
}

/* --- pool_free -------------------------------------------------------------------------- */

/* The earliest deadline of a job that runs and is not overdue, INT64_MAX if there is none; marks those
 * whose deadline has passed. Their loop's side ends here as well. */
static int64_t next_deadline(struct pool *p, int64_t now)
{
	int64_t next = INT64_MAX;

	for (unsigned i = 0; i < SLOTS; i++) {
		struct pool_job *j = p->slots[i].state == SLOT_LIVE ? p->slots[i].job : NULL;
		if (!j || j->overdue)
			continue;
		if (j->deadline_ms > now) {
			next = j->deadline_ms < next ? j->deadline_ms : next;
			continue;
		}
		set_overdue(p, j);
		loop_timer_free(j->timer);
		j->timer = NULL;
		j->refs--;
	}
	return next;
}

static bool any_running(const struct pool *p)
{
	for (unsigned i = 0; i < SLOTS; i++)
		if (p->slots[i].state == SLOT_LIVE && p->slots[i].job && !p->slots[i].job->overdue)
			return true;
	return false;
}

static void wait_for_running(struct pool *p)
{
	for (;;) {
		int64_t now = clock_mono_ms();
		int64_t next = next_deadline(p, now);
		struct timespec until;

		if (!any_running(p))
			return;
		/* By steps of an hour at most: "no deadline" must not overflow. */
		int64_t ms = next - now < 3600000 ? next - now : 3600000;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until = clock_timespec(clock_from_timespec(until) + ms * 1000000);
		pthread_cond_timedwait(&p->returned, &p->mutex, &until);
	}
}

static void drop_jobs(struct job_list *l)
{
	struct pool_job *j;

	while ((j = jobs_take_first(l))) {
		loop_timer_free(j->timer);
		job_free(j);
	}
}

void pool_free(struct pool *p)
{
	pthread_t join[SLOTS];
	unsigned joins = 0;

	if (!p)
		return;
	loop_fd_free(p->watch);
	pthread_mutex_lock(&p->mutex);
	p->ending = true;
	pthread_cond_broadcast(&p->queued);
	wait_for_running(p);
	for (unsigned i = 0; i < SLOTS; i++) {
		struct slot *s = &p->slots[i];
		if (s->state == SLOT_LIVE && s->job)
			pthread_detach(s->thread); /* stuck: it releases what it needs when it comes back */
		else if (s->state != SLOT_FREE)
			join[joins++] = s->thread;
	}
	pthread_mutex_unlock(&p->mutex);
	for (unsigned i = 0; i < joins; i++)
		pthread_join(join[i], NULL);

	/* No thread looks at these any more: those that are stuck have no job in them. */
	for (int i = 0; i < POOL_PLACES; i++)
		drop_jobs(&p->queues[i]);
	drop_jobs(&p->finished);
	pthread_mutex_lock(&p->mutex);
	bool last = --p->refs == 0;
	pthread_mutex_unlock(&p->mutex);
	if (last)
		pool_release(p);
}
