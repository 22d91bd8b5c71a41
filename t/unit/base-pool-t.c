/*
 * Tests of src/base/pool.h.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/pool.h"

static struct loop *loop;
static struct pool *pool;

/* What happened, over all jobs. */
static atomic_int started, returned, freed;
static int completed, timed_out, refused;
static int sum;

struct task {
	int fd; /* ≥ 0: work reads it, and so waits until the test lets it go */
	int value;
	char key[16];
};

static int work(void *arg)
{
	struct task *t = arg;
	char c;

	atomic_fetch_add(&started, 1);
	while (t->fd >= 0 && read(t->fd, &c, 1) < 0 && errno == EINTR)
		;
	atomic_fetch_add(&returned, 1);
	return t->value;
}

static void done(int result, void *arg)
{
	struct task *t = arg;

	assert_true(result == t->value || result == -ETIMEDOUT || result == -EBUSY);
	completed++;
	if (result == -ETIMEDOUT)
		timed_out++;
	else if (result == -EBUSY)
		refused++;
	else
		sum += result;
}

static void free_task(void *arg)
{
	free(arg);
	atomic_fetch_add(&freed, 1);
}

static struct pool_job *submit(int fd, int value, int64_t deadline_ms)
{
	struct task *t = malloc(sizeof(*t));

	assert_non_null(t);
	*t = (struct task){ .fd = fd, .value = value };
	struct pool_job *j = pool_submit(pool, work, done, free_task, t, deadline_ms, NULL, POOL_LOCAL);
	assert_non_null(j);
	return j;
}

/* Of a key and a place. */
static struct pool_job *submit_at(int fd, int value, int64_t deadline_ms, const char *key, enum pool_place place)
{
	struct task *t = malloc(sizeof(*t));

	assert_non_null(t);
	*t = (struct task){ .fd = fd, .value = value };
	strcpy(t->key, key);
	struct pool_job *j = pool_submit(pool, work, done, free_task, t, deadline_ms, t->key, place);
	assert_non_null(j);
	return j;
}

static int setup(void **state)
{
	(void)state;
	started = returned = freed = 0;
	completed = timed_out = refused = sum = 0;
	if (loop_new(&loop) < 0)
		return -1;
	return pool_new(loop, &pool);
}

static int teardown(void **state)
{
	(void)state;
	pool_free(pool);
	loop_free(loop);
	pool = NULL;
	return 0;
}

static void tick(void *arg)
{
	(void)arg;
}

/* Runs the loop until *what is n, a minute at most. */
#define RUN_UNTIL(what, n)                                                 \
	do {                                                               \
		struct loop_timer *timer_ = loop_timer_new(loop, tick, NULL); \
		for (int i_ = 0; i_ < 6000 && (what) != (n); i_++) {       \
			loop_timer_set(timer_, 10);                        \
			loop_run_once(loop, 1);                            \
		}                                                          \
		loop_timer_free(timer_);                                   \
		assert_int_equal((what), (n));                             \
	} while (0)

/* Long enough for a job to get its thread before, on a slow machine under valgrind as well. */
enum { STUCK_MS = 400 };

/* Jobs that have a thread each and stay in it beyond their deadline. */
static void submit_stuck(int fd, int n)
{
	int before = started;

	for (int i = 0; i < n; i++) {
		submit(fd, 1, STUCK_MS);
		RUN_UNTIL(started, before + i + 1);
	}
}

static void runs_many_jobs(void **state)
{
	(void)state;
	for (int i = 1; i <= 1000; i++)
		submit(-1, i, 60000);
	assert_int_equal(completed, 0);
	RUN_UNTIL(completed, 1000);
	assert_int_equal(sum, 500500);
	assert_int_equal(freed, 1000);
	assert_int_equal(timed_out, 0);
}

static void runs_four_at_once(void **state)
{
	int fd[2];

	(void)state;
	assert_int_equal(pipe(fd), 0);
	submit(-1, 1, 60000);
	RUN_UNTIL(completed, 1); /* one thread is idle now: it must not be counted on twice */
	for (int i = 0; i < 6; i++)
		submit(fd[0], 1, 60000);
	RUN_UNTIL(started, 1 + POOL_THREADS);
	for (int i = 0; i < 3; i++)
		loop_run_once(loop, 0);
	assert_int_equal(started, 1 + POOL_THREADS);
	close(fd[1]);
	RUN_UNTIL(completed, 7);
	close(fd[0]);
}

static void stuck_threads_are_replaced(void **state)
{
	int fd[2];

	(void)state;
	assert_int_equal(pipe(fd), 0);
	submit_stuck(fd[0], POOL_THREADS);
	RUN_UNTIL(timed_out, POOL_THREADS);
	assert_int_equal(freed, 0); /* work still has the arguments */
	for (int i = 0; i < 10; i++)
		submit(-1, 5, 60000);
	RUN_UNTIL(completed, POOL_THREADS + 10);
	assert_int_equal(sum, 50);
	close(fd[1]);
	RUN_UNTIL(freed, POOL_THREADS + 10);
	assert_int_equal(completed, POOL_THREADS + 10);
	submit(-1, 7, 60000);
	RUN_UNTIL(sum, 57);
	close(fd[0]);
}

static void stuck_threads_have_a_limit(void **state)
{
	enum { ALL = POOL_THREADS + POOL_STUCK_MAX };
	int fd[2];

	(void)state;
	assert_int_equal(pipe(fd), 0);
	submit_stuck(fd[0], POOL_THREADS);
	for (int i = 1; i < ALL / POOL_THREADS; i++) {
		RUN_UNTIL(timed_out, i * POOL_THREADS);
		submit_stuck(fd[0], POOL_THREADS);
	}
	RUN_UNTIL(timed_out, ALL);
	submit(-1, 1, 20); /* never runs */
	RUN_UNTIL(timed_out, ALL + 1);
	assert_int_equal(started, ALL);
	assert_int_equal(freed, 1);
	submit(-1, 9, 60000); /* waits until a thread comes back */
	assert_int_equal(write(fd[1], "x", 1), 1);
	RUN_UNTIL(sum, 9);
	close(fd[1]);
	RUN_UNTIL(freed, ALL + 2);
	submit(-1, 9, 60000);
	RUN_UNTIL(sum, 18);
	close(fd[0]);
}

static void a_stuck_key_is_refused(void **state)
{
	int fd[2];

	(void)state;
	assert_int_equal(pipe(fd), 0);
	assert_false(pool_has_stuck(pool));
	submit_at(fd[0], 1, STUCK_MS, "a", POOL_LOCAL);
	RUN_UNTIL(started, 1);
	submit_at(fd[0], 1, STUCK_MS, "a", POOL_LOCAL); /* none is stuck yet */
	RUN_UNTIL(started, 2);
	RUN_UNTIL(timed_out, 2);
	assert_true(pool_has_stuck(pool));
	for (int i = 1; i <= 100; i++) {
		submit_at(-1, 1, 60000, "a", POOL_LOCAL);
		assert_int_equal(refused, i - 1); /* not from within the call */
		RUN_UNTIL(refused, i);
	}
	assert_int_equal(started, 2);
	struct pool_job *j = submit_at(-1, 1, 60000, "a", POOL_LOCAL);
	pool_cancel(j);
	submit_at(-1, 5, 60000, "b", POOL_LOCAL);
	RUN_UNTIL(sum, 5);
	RUN_UNTIL(freed, 102);
	submit_at(-1, 5, 60000, "a", POOL_LOCAL); /* dropped or refused: freed in any case */
	close(fd[1]);
	RUN_UNTIL(freed, 105);
	assert_false(pool_has_stuck(pool));
	submit_at(-1, 7, 60000, "a", POOL_LOCAL);
	RUN_UNTIL(sum, 12);
	submit_at(fd[0], 1, 60000, "a", POOL_LOCAL);
	RUN_UNTIL(sum, 13);
	close(fd[0]);
}

/* However many files hang, those that are known to be local are read. */
static void local_files_always_have_threads(void **state)
{
	char key[16];
	int fd[2];

	(void)state;
	assert_int_equal(pipe(fd), 0);
	for (int i = 0; i < 200; i++) {
		snprintf(key, sizeof(key), "%d", i);
		submit_at(fd[0], 1, STUCK_MS / 8, key, i % 2 ? POOL_DOUBTFUL : POOL_UNKNOWN);
	}
	submit_at(-1, 3, 60000, "local", POOL_LOCAL);
	RUN_UNTIL(sum, 3); /* while others wait for threads */
	RUN_UNTIL(timed_out, 200);
	for (int i = 200; i < 240; i++) {
		snprintf(key, sizeof(key), "%d", i);
		submit_at(fd[0], 1, STUCK_MS / 8, key, POOL_UNKNOWN);
		RUN_UNTIL(timed_out, i + 1);
	}
	assert_true(started <= 1 + POOL_STUCK_MAX);
	for (int i = 0; i < 20; i++)
		submit_at(-1, 1, 60000, "local", POOL_LOCAL);
	RUN_UNTIL(sum, 23);
	close(fd[1]);
	RUN_UNTIL(freed, 261);
	submit_at(-1, 1, 60000, "0", POOL_DOUBTFUL);
	RUN_UNTIL(sum, 24);
	close(fd[0]);
}

/* What is doubtful leaves threads to what is merely unknown. */
static void doubtful_files_leave_room(void **state)
{
	char key[16];
	int fd[2];

	(void)state;
	assert_int_equal(pipe(fd), 0);
	for (int i = 0; i < 100; i++) {
		snprintf(key, sizeof(key), "%d", i);
		submit_at(fd[0], 1, STUCK_MS / 8, key, POOL_DOUBTFUL);
		if (i % 10 == 9)
			RUN_UNTIL(timed_out, i + 1);
	}
	assert_true(started <= POOL_STUCK_MAX / 2);
	submit_at(-1, 3, 60000, "x", POOL_UNKNOWN);
	RUN_UNTIL(sum, 3);
	close(fd[1]);
	RUN_UNTIL(freed, 101);
	close(fd[0]);
}

static void cancelled_jobs_are_not_done(void **state)
{
	struct pool_job *running[POOL_THREADS];
	int fd[2];

	(void)state;
	assert_int_equal(pipe(fd), 0);
	for (int i = 0; i < POOL_THREADS; i++)
		running[i] = submit(fd[0], 1, 60000);
	RUN_UNTIL(started, POOL_THREADS);
	struct pool_job *queued = submit(-1, 1, 60000);
	pool_cancel(queued);
	assert_int_equal(freed, 1);
	for (int i = 0; i < POOL_THREADS; i++)
		pool_cancel(running[i]);
	close(fd[1]);
	RUN_UNTIL(freed, 1 + POOL_THREADS);
	assert_int_equal(completed, 0);
	/* One that has returned, but is not done yet. */
	struct pool_job *j = submit(-1, 1, 60000);
	while (returned < 1 + POOL_THREADS)
		usleep(1000);
	pool_cancel(j);
	RUN_UNTIL(freed, 2 + POOL_THREADS);
	assert_int_equal(completed, 0);
	close(fd[0]);
}

static void a_cancelled_job_may_be_stuck(void **state)
{
	int fd[2];

	(void)state;
	assert_int_equal(pipe(fd), 0);
	for (int i = 0; i < POOL_THREADS; i++) {
		struct pool_job *j = submit(fd[0], 1, STUCK_MS);
		RUN_UNTIL(started, i + 1);
		pool_cancel(j);
	}
	submit(-1, 3, 60000);
	RUN_UNTIL(completed, 1);
	assert_int_equal(sum, 3);
	assert_int_equal(freed, 1);
	close(fd[1]);
	RUN_UNTIL(freed, POOL_THREADS + 1);
	assert_int_equal(completed, 1);
	close(fd[0]);
}

static void free_drops_and_waits(void **state)
{
	int fd[2];

	(void)state;
	assert_int_equal(pipe(fd), 0);
	for (int i = 0; i < POOL_THREADS; i++)
		submit(fd[0], 1, 60000);
	RUN_UNTIL(started, POOL_THREADS);
	for (int i = 0; i < 5; i++)
		submit(fd[0], 1, 60000);
	close(fd[1]);
	pool_free(pool);
	pool = NULL;
	assert_int_equal(freed, POOL_THREADS + 5);
	assert_int_equal(completed, 0);
	assert_int_equal(started, returned);
	close(fd[0]);
	pool_free(NULL);
}

static void free_does_not_wait_for_stuck_threads(void **state)
{
	int fd[2];

	(void)state;
	assert_int_equal(pipe(fd), 0);
	submit_stuck(fd[0], 2);
	RUN_UNTIL(timed_out, 2);
	submit_stuck(fd[0], 1); /* becomes overdue within pool_free */
	pool_free(pool);
	pool = NULL;
	assert_int_equal(returned, 0);
	close(fd[1]);
	for (int i = 0; i < 6000 && freed < 3; i++)
		usleep(10000);
	assert_int_equal(freed, 3);
	close(fd[0]);
	usleep(20000); /* lets the detached threads end, for the leak checkers' sake only */
}

static int all_signals_blocked(void *arg)
{
	sigset_t set;

	(void)arg;
	pthread_sigmask(SIG_SETMASK, NULL, &set);
	return sigismember(&set, SIGTERM) && sigismember(&set, SIGUSR1) && sigismember(&set, SIGCHLD) ? 1 : 2;
}

static void note_result(int result, void *arg)
{
	(void)arg;
	sum = result;
}

static void no_free(void *arg)
{
	(void)arg;
}

static void signals_are_blocked(void **state)
{
	sigset_t set;

	(void)state;
	assert_non_null(pool_submit(pool, all_signals_blocked, note_result, no_free, NULL, 60000, NULL, POOL_LOCAL));
	RUN_UNTIL(sum, 1);
	pthread_sigmask(SIG_SETMASK, NULL, &set);
	assert_false(sigismember(&set, SIGTERM));
}

static void submit_next(int result, void *arg)
{
	(void)arg;
	sum += result;
	if (sum < 10)
		submit(-1, 10, 60000);
}

static int one(void *arg)
{
	(void)arg;
	return 1;
}

static void done_may_submit(void **state)
{
	(void)state;
	assert_non_null(pool_submit(pool, one, submit_next, no_free, NULL, 60000, NULL, POOL_LOCAL));
	RUN_UNTIL(sum, 11);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(runs_many_jobs),
		TEST(runs_four_at_once),
		TEST(stuck_threads_are_replaced),
		TEST(stuck_threads_have_a_limit),
		TEST(a_stuck_key_is_refused),
		TEST(local_files_always_have_threads),
		TEST(doubtful_files_leave_room),
		TEST(cancelled_jobs_are_not_done),
		TEST(a_cancelled_job_may_be_stuck),
		TEST(free_drops_and_waits),
		TEST(free_does_not_wait_for_stuck_threads),
		TEST(signals_are_blocked),
		TEST(done_may_submit),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
