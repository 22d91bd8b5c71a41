/*
 * Tests of watcher_is_quiet() (src/base/watch.h).
 */
#include <pthread.h>
#include <stdatomic.h>

#include "watch-help.h"

static void note_busy(unsigned events, const char *name, void *arg)
{
	(void)events;
	(void)name;
	assert_false(watcher_is_quiet(watcher));
	++*(unsigned *)arg;
}

static void quiet_when_all_is_told(void **state)
{
	unsigned calls = 0;
	struct watch *x;
	int fd;

	(void)state;
	make_dir("d");
	put("d/f", "1");
	link_to("d", "l");
	assert_true(watcher_is_quiet(watcher));
	x = watch_file(watcher, in("l/f"), NULL, note_busy, &calls);
	assert_non_null(x);
	assert_false(watch_sees(x));
	assert_false(watcher_is_quiet(watcher)); /* it is walked */
	settle();
	assert_true(watch_sees(x) && watcher_is_quiet(watcher));

	fd = open(in("d/f"), O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0 && watcher_is_quiet(watcher));
	assert_int_equal(write(fd, "2", 1), 1);
	assert_false(watcher_is_quiet(watcher));
	watcher_drain(watcher);
	assert_true(watcher_is_quiet(watcher) && calls == 1);
	close(fd);
	assert_false(watcher_is_quiet(watcher));
	settle();
	assert_true(watcher_is_quiet(watcher) && calls == 2);

	make_dir("e");
	put("e/f", "3");
	link_to("e", "l2");
	replace("l2", "l");
	assert_false(watcher_is_quiet(watcher));
	watcher_drain(watcher);
	assert_false(watcher_is_quiet(watcher)); /* it is walked anew, and told afterwards */
	settle();
	assert_true(watcher_is_quiet(watcher) && calls == 3);
	watch_free(x);
	settle();
	assert_true(watcher_is_quiet(watcher));
}

static atomic_bool told, no_more;
static atomic_uint times_quiet, times_wrong;

static void note_told(unsigned events, const char *name, void *arg)
{
	(void)events;
	(void)name;
	(void)arg;
	atomic_store(&told, true);
}

/* Who finds quiet after a write has been told of it. */
static void *writer(void *arg)
{
	int fd = *(int *)arg;

	while (!atomic_load(&no_more)) {
		atomic_store(&told, false);
		if (pwrite(fd, "x", 1, 0) != 1)
			atomic_fetch_add(&times_wrong, 1);
		while (!watcher_is_quiet(watcher) && !atomic_load(&no_more))
			;
		if (watcher_is_quiet(watcher)) {
			atomic_fetch_add(&times_quiet, 1);
			if (!atomic_load(&told))
				atomic_fetch_add(&times_wrong, 1);
		}
	}
	return NULL;
}

static void never_quiet_too_early(void **state)
{
	pthread_t thread;
	struct watch *x;
	int fd;

	(void)state;
	put("f", "1");
	fd = open(in("f"), O_WRONLY | O_CLOEXEC);
	x = watch_file(watcher, in("f"), NULL, note_told, NULL);
	assert_true(fd >= 0 && x);
	settle();
	atomic_store(&no_more, false);
	assert_int_equal(pthread_create(&thread, NULL, writer, &fd), 0);
	for (int i = 0; i < 20000 || atomic_load(&times_quiet) < 100; i++) {
		watcher_drain(watcher);
		if (i % 100 == 0)
			sched_yield();
	}
	atomic_store(&no_more, true);
	pthread_join(thread, NULL);
	assert_int_equal(atomic_load(&times_wrong), 0);
	watch_free(x);
	close(fd);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(quiet_when_all_is_told),
		TEST(never_quiet_too_early),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
