/*
 * Tests of src/base/buf.h.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/secmem.h"

static void adds_and_terminates(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 1000);
	assert_int_equal(b.cap, 0);
	assert_int_equal(buf_add_str(&b, "ab"), 0);
	assert_int_equal(buf_add_char(&b, 'c'), 0);
	assert_int_equal(buf_add(&b, "\0d", 2), 0);
	assert_int_equal(buf_add_slice(&b, SLICE_LIT("ef")), 0);
	assert_int_equal(buf_add_slice(&b, slice_of(NULL, 0)), 0);
	assert_int_equal(buf_addf(&b, "%d-%s", 7, "x"), 0);
	assert_int_equal(b.len, 10);
	assert_memory_equal(b.data, "abc\0def7-x", 11);
	assert_true(slice_eq(buf_slice(&b), slice_of("abc\0def7-x", 10)));
	buf_free(&b);
	assert_null(b.data);
	buf_free(&b);
}

static void maximum_is_exact_and_sticky(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 5);
	assert_int_equal(buf_add_str(&b, "12345"), 0);
	assert_int_equal(buf_add(&b, "", 0), 0);
	assert_int_equal(buf_add_char(&b, '6'), -EFBIG);
	assert_null(b.data);
	assert_int_equal(b.len, 0);
	assert_int_equal(buf_add(&b, "", 0), -EFBIG);
	assert_int_equal(buf_addf(&b, "x"), -EFBIG);
	assert_null(buf_reserve(&b, 0));
	assert_null(buf_steal(&b, NULL));
	buf_reset(&b);
	assert_int_equal(buf_add_char(&b, '1'), -EFBIG);
	buf_free(&b);
	assert_int_equal(buf_addf(&b, "%s", "12345"), 0);
	assert_int_equal(buf_addf(&b, "%s", "6"), -EFBIG);
	buf_free(&b);
	assert_null(buf_reserve(&b, SIZE_MAX));
	assert_int_equal(b.err, -EFBIG);
	buf_free(&b);
	buf_init(&b, SIZE_MAX);
	assert_null(buf_reserve(&b, SIZE_MAX));
	assert_int_equal(b.err, -ENOMEM);
	buf_free(&b);
	buf_init(&b, 0);
	assert_int_equal(buf_add(&b, NULL, 0), 0);
	assert_int_equal(buf_add_char(&b, 'x'), -EFBIG);
	buf_free(&b);
}

static void reserve_gives_room(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 100);
	assert_int_equal(buf_add_str(&b, "ab"), 0);
	char *to = buf_reserve(&b, 98);
	assert_non_null(to);
	memset(to, 'x', 97);
	b.len += 97;
	assert_int_equal(b.data[b.len], '\0');
	assert_int_equal(strlen(b.data), 99);
	assert_int_equal(b.cap, 101);
	assert_null(buf_reserve(&b, 2));
	buf_free(&b);
}

static void grows_to_a_large_size(void **state)
{
	struct buf b;

	(void)state;
	for (int secret = 0; secret < 2; secret++) {
		if (secret)
			buf_init_secret(&b, 300000);
		else
			buf_init(&b, 300000);
		for (int i = 0; i < 300000; i++)
			assert_int_equal(buf_add_char(&b, (char)('a' + i % 26)), 0);
		for (int i = 0; i < 300000; i++)
			assert_int_equal(b.data[i], 'a' + i % 26);
		assert_int_equal(buf_add_char(&b, 'x'), -EFBIG);
		buf_free(&b);
	}
}

static void steal_gives_the_memory(void **state)
{
	struct buf b;
	size_t len = 99;

	(void)state;
	buf_init(&b, 100);
	char *s = buf_steal(&b, &len);
	assert_string_equal(s, "");
	assert_int_equal(len, 0);
	free(s);
	buf_add_str(&b, "abc");
	s = buf_steal(&b, &len);
	assert_string_equal(s, "abc");
	assert_int_equal(len, 3);
	free(s);
	assert_null(b.data);
	assert_int_equal(b.len, 0);
	buf_add_str(&b, "again");
	assert_string_equal(b.data, "again");
	buf_free(&b);
	buf_init_secret(&b, 100000);
	for (int i = 0; i < 40000; i++)
		buf_add_char(&b, 's');
	s = buf_steal(&b, &len);
	assert_int_equal(strlen(s), 40000);
	secmem_free(s);
}

static void reset_wipes(void **state)
{
	struct buf b;

	(void)state;
	buf_init_secret(&b, 100);
	buf_add_str(&b, "secret");
	size_t cap = b.cap;
	buf_reset(&b);
	assert_int_equal(b.len, 0);
	assert_int_equal(b.cap, cap);
	assert_memory_equal(b.data, "\0\0\0\0\0\0", 7);
	buf_free(&b);
	buf_init(&b, 10);
	buf_reset(&b);
	buf_free(&b);
}

static void out_of_memory_is_sticky(void **state)
{
	struct buf b;
	struct secmem_stats before, after;

	(void)state;
	secmem_get_stats(&before);
	buf_init_secret(&b, 100000);
	buf_add_str(&b, "secret");
	secmem_fail_after(1);
	char *to = buf_reserve(&b, 5000);
	secmem_fail_after(-1);
	assert_null(to);
	assert_null(b.data);
	assert_int_equal(buf_add_str(&b, "x"), -ENOMEM);
	buf_free(&b);
	secmem_get_stats(&after);
	assert_int_equal(before.used, after.used);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(adds_and_terminates),
		cmocka_unit_test(maximum_is_exact_and_sticky),
		cmocka_unit_test(reserve_gives_room),
		cmocka_unit_test(grows_to_a_large_size),
		cmocka_unit_test(steal_gives_the_memory),
		cmocka_unit_test(reset_wipes),
		cmocka_unit_test(out_of_memory_is_sticky),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
