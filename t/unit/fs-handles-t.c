/*
 * The table of open files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "fs/handles.h"

static atomic_int released;

static void release(struct handle *handle)
{
	free(handle);
	atomic_fetch_add(&released, 1);
}

static struct handle *add(struct handles *h, uint64_t ino, uint64_t unique, uint64_t size, int64_t now_ms)
{
	struct handle *x = malloc(sizeof *x);

	if (x)
		handles_add(h, ino, unique, x, release, size, now_ms);
	return x;
}

static struct handles *table(void)
{
	struct handles *h = handles_new();

	assert_non_null(h);
	atomic_store(&released, 0);
	return h;
}

static void test_a_handle_is_found_until_it_is_dropped(void **state)
{
	struct handles *h = table();
	struct handle *mine, *x;

	(void)state;
	mine = add(h, 5000, 8, 10, 0);
	assert_non_null(mine);
	assert_null(handles_get(h, 5000, 10, 0));
	assert_null(handles_get(h, 5001, 8, 0));
	x = handles_get(h, 5000, 8, 0);
	assert_ptr_equal(x, mine);
	assert_true(handles_drop(h, 5000, 8));
	assert_false(handles_drop(h, 5000, 8));
	assert_null(handles_get(h, 5000, 8, 0));
	assert_int_equal(atomic_load(&released), 0); /* x is still used */
	handle_unref(x);
	assert_int_equal(atomic_load(&released), 1);
	handles_free(h);
}

static void test_the_end_releases_what_is_open(void **state)
{
	struct handles *h = table();

	(void)state;
	for (uint64_t i = 0; i < 10000; i++)
		assert_non_null(add(h, 1024 + i % 7, 2 * i, i, 0));
	for (uint64_t i = 0; i < 10000; i += 2)
		assert_true(handles_drop(h, 1024 + i % 7, 2 * i));
	for (uint64_t i = 0; i < 10000; i++) {
		struct handle *x = handles_get(h, 1024 + i % 7, 2 * i, 0);

		assert_int_equal(x != NULL, i % 2);
		if (x)
			handle_unref(x);
	}
	handles_free(h);
	assert_int_equal(atomic_load(&released), 10000);
	handles_free(NULL);
}

static void read_to(struct handles *h, uint64_t unique, uint64_t end)
{
	struct handle *x = handles_get(h, 5000, unique, end);

	assert_non_null(x);
	handle_unref(x);
}

static void test_the_longest_recent_handle(void **state)
{
	struct handles *h = table();

	(void)state;
	assert_int_equal(handles_longest(h, 5000, 0), 0);
	assert_non_null(add(h, 5000, 2, 200, 100));
	assert_non_null(add(h, 5000, 4, 300, 200));
	assert_non_null(add(h, 5001, 6, 900, 200));
	assert_non_null(add(h, 5000, 8, 0, 200));
	assert_int_equal(handles_longest(h, 5000, 200), 300);
	assert_int_equal(handles_longest(h, 5002, 200), 0);
	/* not once it has been read to its end */
	read_to(h, 4, 299);
	assert_int_equal(handles_longest(h, 5000, 200), 300);
	read_to(h, 4, 4096);
	assert_int_equal(handles_longest(h, 5000, 200), 200);
	/* nor later than a second after its open */
	assert_int_equal(handles_longest(h, 5000, 1099), 200);
	assert_int_equal(handles_longest(h, 5000, 1100), 0);
	assert_int_equal(handles_longest(h, 5001, 1199), 900);
	/* nor when it has been closed */
	assert_true(handles_drop(h, 5001, 6));
	assert_int_equal(handles_longest(h, 5001, 1199), 0);
	handles_free(h);
	assert_int_equal(atomic_load(&released), 4);
}

static struct handles *shared;

static void *hammer(void *arg)
{
	uint64_t me = (uintptr_t)arg;

	for (uint64_t i = 0; i < 20000; i++) {
		uint64_t unique = (i * 4 + me) * 2, ino = 5000 + i % 2;
		struct handle *x;

		if (!add(shared, ino, unique, 100, (int64_t)i / 10))
			return arg;
		x = handles_get(shared, ino, unique, i % 3 ? 100 : 50);
		if (!x)
			return arg;
		handles_longest(shared, ino, (int64_t)i / 10);
		handles_drop(shared, ino, unique);
		handle_unref(x);
	}
	return NULL;
}

static void test_four_threads(void **state)
{
	pthread_t threads[4];
	void *failed;

	(void)state;
	shared = table();
	for (uintptr_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hammer, (void *)i), 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	assert_int_equal(atomic_load(&released), 80000);
	handles_free(shared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_handle_is_found_until_it_is_dropped),
		cmocka_unit_test(test_the_end_releases_what_is_open),
		cmocka_unit_test(test_the_longest_recent_handle),
		cmocka_unit_test(test_four_threads),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
