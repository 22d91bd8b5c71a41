/*
 * Tests of src/base/loop.h.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/loop.h"

/* A string that may be passed as void *. */
#define S(s) ((char[]){ s })

static struct loop *loop;
static char seen[64];

static int setup(void **state)
{
	(void)state;
	seen[0] = '\0';
	return loop_new(&loop);
}

static int teardown(void **state)
{
	(void)state;
	loop_free(loop);
	loop = NULL;
	return 0;
}

static void note(void *arg)
{
	strncat(seen, arg, sizeof(seen) - strlen(seen) - 1);
}

static void tick(void *arg)
{
	(void)arg;
}

/* Runs the loop until that was seen, or something else of its length; a minute at most. */
static void run_until(const char *what)
{
	struct loop_timer *t = loop_timer_new(loop, tick, NULL);

	for (int i = 0; i < 6000 && strlen(seen) < strlen(what); i++) {
		loop_timer_set(t, 10); /* so that a test that fails does not wait for ever */
		loop_run_once(loop, 1);
	}
	loop_timer_free(t);
	assert_string_equal(seen, what);
}

static void post_again(void *arg)
{
	note(S("b"));
	loop_post(loop, note, arg);
}

static void posts_run_in_order(void **state)
{
	struct loop_work w = { .fn = note, .arg = S("c") };

	(void)state;
	assert_int_equal(loop_run_once(loop, 0), 0);
	assert_int_equal(loop_post(loop, note, S("a")), 0);
	assert_int_equal(loop_post(loop, post_again, S("d")), 0);
	loop_post_work(loop, &w);
	assert_string_equal(seen, "");
	run_until("abcd");
	loop_post_work(loop, &w);
	run_until("abcdc");
}

static struct loop_work self_work;

static void post_self(void *arg)
{
	(void)arg;
	note(S("s"));
	if (strlen(seen) < 3)
		loop_post_work(loop, &self_work);
}

static void work_may_post_itself(void **state)
{
	(void)state;
	self_work = (struct loop_work){ .fn = post_self };
	loop_post_work(loop, &self_work);
	run_until("sss");
}

static void pending_posts_are_dropped(void **state)
{
	struct loop_work w = { .fn = note, .arg = S("c") };

	(void)state;
	loop_post(loop, note, S("a"));
	loop_post_work(loop, &w);
	loop_free(loop);
	loop = NULL;
	assert_string_equal(seen, "");
	loop_free(NULL);
}

static void timers_run_in_order_of_time(void **state)
{
	struct loop_timer *a = loop_timer_new(loop, note, S("a"));
	struct loop_timer *b = loop_timer_new(loop, note, S("b"));
	struct loop_timer *c = loop_timer_new(loop, note, S("c"));
	struct loop_timer *d = loop_timer_new(loop, note, S("d"));

	(void)state;
	assert_false(loop_timer_armed(a));
	loop_timer_set(a, 500); /* the machine may pause here, but not for that long */
	loop_timer_set(b, 5);
	loop_timer_set(c, 0);
	loop_timer_set(d, 1);
	assert_true(loop_timer_armed(a));
	assert_string_equal(seen, "");
	loop_timer_stop(d);
	assert_false(loop_timer_armed(d));
	run_until("cba");
	assert_false(loop_timer_armed(a));
	loop_timer_set(a, INT64_MAX);
	loop_timer_set(d, -5);
	run_until("cbad");
	/* Arming anew replaces. */
	loop_timer_set(b, 100000);
	loop_timer_set(b, 1);
	run_until("cbadb");
	loop_timer_free(a);
	loop_timer_free(b);
	loop_timer_free(c);
	loop_timer_free(d);
	loop_timer_free(NULL);
}

static void timer_is_never_early(void **state)
{
	struct loop_timer *a = loop_timer_new(loop, note, S("a"));
	int64_t start = clock_mono_ns();

	(void)state;
	loop_timer_set(a, 30);
	run_until("a");
	assert_true(clock_mono_ns() - start >= 30000000);
	loop_timer_free(a);
}

static struct loop_timer *timers[3];

static void free_and_set(void *arg)
{
	(void)arg;
	note(S("f"));
	loop_timer_free(timers[0]); /* its own */
	loop_timer_free(timers[1]); /* due as well */
	loop_timer_set(timers[2], 0);
}

static void timers_may_go_within_callbacks(void **state)
{
	(void)state;
	timers[0] = loop_timer_new(loop, free_and_set, NULL);
	timers[1] = loop_timer_new(loop, note, S("x"));
	timers[2] = loop_timer_new(loop, note, S("g"));
	loop_timer_set(timers[0], 0);
	loop_timer_set(timers[1], 0);
	run_until("fg");
	loop_run_once(loop, 0);
	assert_string_equal(seen, "fg");
	loop_timer_free(timers[2]);
}

static void count_up(void *arg)
{
	++*(int *)arg;
}

static void rearm(void *arg)
{
	loop_timer_set(timers[0], 0);
	count_up(arg);
}

/* A timer that always wants to run leaves the others their turn. */
static void timers_do_not_starve_others(void **state)
{
	int n = 0;

	(void)state;
	timers[0] = loop_timer_new(loop, rearm, &n);
	loop_timer_set(timers[0], 0);
	loop_post(loop, note, S("a"));
	run_until("a");
	for (int i = 0; i < 1000 && n < 10; i++)
		loop_run_once(loop, 1);
	assert_in_range(n, 10, 20);
	loop_timer_free(timers[0]);
}

struct many {
	struct loop_timer *timer;
	int64_t due;
};
static int64_t newest;
static int ran;

static void check_order(void *arg)
{
	struct many *m = arg;

	assert_true(m->due >= newest);
	newest = m->due;
	ran++;
}

static void many_timers(void **state)
{
	enum { N = 5000 };
	static struct many m[N];
	unsigned seed = 1;
	int stopped = 0;

	(void)state;
	newest = 0;
	ran = 0;
	for (int i = 0; i < N; i++) {
		m[i].timer = loop_timer_new(loop, check_order, &m[i]);
		assert_non_null(m[i].timer);
	}
	for (int i = 0; i < N; i++) {
		int64_t ms = rand_r(&seed) % 50;
		/* To the millisecond; equal ones run by nanoseconds, which rise with i. */
		m[i].due = clock_mono_ms() + ms;
		loop_timer_set(m[i].timer, ms);
		m[i].due = m[i].due < clock_mono_ms() + ms ? 0 : m[i].due;
	}
	for (int i = 0; i < N; i++) {
		if (m[i].due == 0 || i % 3 == 0) { /* the millisecond changed between: unknown */
			loop_timer_stop(m[i].timer);
			stopped++;
		}
	}
	for (int i = 0; i < 10000 && ran < N - stopped; i++)
		loop_run_once(loop, 1);
	assert_int_equal(ran, N - stopped);
	for (int i = 0; i < N; i++)
		loop_timer_free(m[i].timer);
}

static struct loop_fd *reader;

static void read_one(int fd, void *arg)
{
	char c[2] = { 0 };

	assert_int_equal(read(fd, c, 1), 1);
	note(c);
	if (c[0] == 'q') {
		loop_fd_free(reader);
		reader = NULL;
	}
	(void)arg;
}

static void descriptors_are_level_triggered(void **state)
{
	int fd[2];

	(void)state;
	assert_int_equal(pipe(fd), 0);
	reader = loop_fd_new(loop, fd[0], read_one, NULL);
	assert_non_null(reader);
	loop_run_once(loop, 0);
	assert_int_equal(write(fd[1], "abqd", 4), 4);
	run_until("abq");
	assert_null(reader);
	loop_run_once(loop, 0);
	loop_run_once(loop, 0);
	assert_string_equal(seen, "abq");
	loop_fd_free(NULL);
	/* A regular file can't be watched. */
	FILE *f = tmpfile();
	if (f) {
		assert_null(loop_fd_new(loop, fileno(f), read_one, NULL));
		fclose(f);
	}
	close(fd[0]);
	close(fd[1]);
}

enum { POSTS = 5000 };
static int posted_to_loop;

static void count_and_stop(void *arg)
{
	(void)arg;
	if (++posted_to_loop == 2 * POSTS)
		loop_stop(loop);
}

static void *post_many(void *arg)
{
	for (int i = 0; i < POSTS; i++)
		if (loop_post(loop, count_and_stop, arg) < 0)
			abort();
	return NULL;
}

static void threads_post(void **state)
{
	pthread_t t[2];

	(void)state;
	posted_to_loop = 0;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, post_many, NULL), 0);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(posted_to_loop, 2 * POSTS);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
}

static void stop(void *arg)
{
	loop_stop(arg);
}

static void *stop_it(void *arg)
{
	loop_stop(arg);
	return NULL;
}

static void a_thread_may_stop_the_loop(void **state)
{
	pthread_t t;

	(void)state;
	assert_int_equal(pthread_create(&t, NULL, stop_it, loop), 0);
	assert_int_equal(loop_run(loop), 0);
	pthread_join(t, NULL);
	/* And it runs again. */
	loop_post(loop, note, S("a"));
	loop_post(loop, stop, loop);
	loop_post(loop, note, S("b"));
	assert_int_equal(loop_run(loop), 0);
	assert_string_equal(seen, "ab");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

/* --- descriptors in both directions ------------------------------------------------------- */

static int pair[2];
static struct loop_io *io, *other_io;
static unsigned told;
static char io_name[] = "i";

static void note_io(int fd, unsigned events, void *arg)
{
	char c;

	assert_int_equal(fd, pair[0]);
	told |= events;
	if (events & LOOP_READ)
		(void)!read(fd, &c, 1);
	if (events & LOOP_WRITE)
		assert_int_equal(loop_io_want(io, LOOP_READ), 0); /* else it would come for ever */
	note(arg);
}

static void make_pair(void (*fn)(int fd, unsigned events, void *arg))
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	io = loop_io_new(loop, pair[0], fn, io_name);
	assert_non_null(io);
	told = 0;
}

static void close_pair(void)
{
	close(pair[0]);
	if (pair[1] >= 0)
		close(pair[1]);
}

static void io_tells_only_what_is_wanted(void **state)
{
	(void)state;
	make_pair(note_io);
	assert_int_equal(write(pair[1], "ab", 2), 2);
	for (int i = 0; i < 5; i++)
		loop_run_once(loop, 0);
	assert_int_equal(told, 0); /* nothing as yet */
	assert_int_equal(loop_io_want(io, LOOP_READ), 0);
	run_until("ii");
	assert_int_equal(told, LOOP_READ);
	told = 0;
	assert_int_equal(loop_io_want(io, LOOP_WRITE), 0);
	run_until("iii");
	assert_int_equal(told, LOOP_WRITE);
	assert_int_equal(loop_io_want(io, LOOP_READ | LOOP_WRITE), 0);
	assert_int_equal(loop_io_want(io, LOOP_READ | LOOP_WRITE), 0);
	assert_int_equal(write(pair[1], "c", 1), 1);
	told = 0;
	run_until("iiii");
	assert_int_equal(told, LOOP_READ | LOOP_WRITE);
	assert_int_equal(loop_io_want(io, 0), 0);
	assert_int_equal(write(pair[1], "d", 1), 1);
	for (int i = 0; i < 5; i++)
		loop_run_once(loop, 0);
	assert_string_equal(seen, "iiii");
	assert_int_equal(loop_io_want(io, LOOP_READ), 0);
	run_until("iiiii");
	loop_io_free(io);
	loop_io_free(NULL);
	close_pair();
}

/* The end of the other side, and an error, come as what is wanted. */
static void io_tells_the_end(void **state)
{
	(void)state;
	make_pair(note_io);
	assert_int_equal(loop_io_want(io, LOOP_READ), 0);
	close(pair[1]);
	pair[1] = -1;
	while (seen[0] == '\0')
		loop_run_once(loop, 1);
	assert_int_equal(told, LOOP_READ);
	assert_int_equal(loop_io_want(io, LOOP_WRITE), 0);
	told = 0;
	while (!(told & LOOP_WRITE))
		loop_run_once(loop, 1);
	assert_int_equal(told, LOOP_WRITE);
	loop_io_free(io);
	close_pair();
}

static void free_both(int fd, unsigned events, void *arg)
{
	(void)fd;
	(void)events;
	note(arg);
	loop_io_free(io);
	loop_io_free(other_io);
	io = other_io = NULL;
}

/* Also another's, which is due in the same turn. */
static void io_may_go_within_callbacks(void **state)
{
	(void)state;
	make_pair(free_both);
	other_io = loop_io_new(loop, pair[1], free_both, io_name);
	assert_non_null(other_io);
	assert_int_equal(loop_io_want(io, LOOP_WRITE), 0);
	assert_int_equal(loop_io_want(other_io, LOOP_WRITE), 0);
	run_until("i");
	for (int i = 0; i < 5; i++)
		loop_run_once(loop, 0);
	assert_string_equal(seen, "i");
	close_pair();
}

/* The number of a descriptor comes back, for something else. */
static void io_of_a_number_used_before(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		make_pair(note_io);
		assert_int_equal(loop_io_want(io, LOOP_READ | LOOP_WRITE), 0);
		seen[0] = '\0';
		run_until("i");
		assert_int_equal(told, LOOP_WRITE);
		loop_io_free(io);
		close_pair();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(posts_run_in_order),
		TEST(work_may_post_itself),
		TEST(pending_posts_are_dropped),
		TEST(timers_run_in_order_of_time),
		TEST(timer_is_never_early),
		TEST(timers_may_go_within_callbacks),
		TEST(timers_do_not_starve_others),
		TEST(many_timers),
		TEST(descriptors_are_level_triggered),
		TEST(io_tells_only_what_is_wanted),
		TEST(io_tells_the_end),
		TEST(io_may_go_within_callbacks),
		TEST(io_of_a_number_used_before),
		TEST(threads_post),
		TEST(a_thread_may_stop_the_loop),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
