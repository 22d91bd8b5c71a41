/*
 * Tests of src/base/error.h and src/base/clock.h.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"

static void sets_and_prefixes(void **state)
{
	struct error e = ERROR_INIT;

	(void)state;
	assert_int_equal(error_set(&e, EINVAL, "bad key %s", "x"), -EINVAL);
	assert_int_equal(e.code, EINVAL);
	assert_string_equal(e.text, "bad key x");
	assert_int_equal(error_prefix(&e, "%s:%d: ", "a.properties", 12), -EINVAL);
	assert_string_equal(e.text, "a.properties:12: bad key x");
	/* An argument may be the old sentence. */
	assert_int_equal(error_set(&e, EIO, "again: %s", e.text), -EIO);
	assert_string_equal(e.text, "again: a.properties:12: bad key x");
}

static void null_is_allowed(void **state)
{
	(void)state;
	assert_int_equal(error_set(NULL, ENOENT, "x %d", 1), -ENOENT);
	assert_int_equal(error_prefix(NULL, "x"), -EIO);
}

static void controls_become_question_marks(void **state)
{
	struct error e;

	(void)state;
	error_set(&e, EIO, "a\nb\033[1m\x7f\xc2\x9b" "c\xc3\xa4%s", "\t");
	assert_string_equal(e.text, "a?b?[1m???c\xc3\xa4?");
	/* Alone, overlong, cut off; bidirectional controls, line separators */
	error_set(&e, EIO, "%s", "\x9b" "a\xc1\x9b" "b\xe2\x80");
	assert_string_equal(e.text, "?a\xc1?b\xe2?");
	error_set(&e, EIO, "%s", "\xe2\x80\xae\xe2\x80\x8e\xe2\x81\xa6\xe2\x80\xa8\xd8\x9c\xe2\x82\xac");
	assert_string_equal(e.text, "??????????????\xe2\x82\xac");
	error_prefix(&e, "%s: ", "\xc2\x85\xe9");
	assert_string_equal(e.text, "??\xe9: ??????????????\xe2\x82\xac");
}

static void is_cut_between_characters(void **state)
{
	static const char *const chars[] = { "a", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80" };
	char text[1100];
	struct error e;

	(void)state;
	for (size_t c = 0; c < 4; c++) {
		size_t n = strlen(chars[c]);
		for (size_t shift = 0; shift < n; shift++) {
			memset(text, 'x', shift);
			size_t len = shift;
			for (; len + n < sizeof(text); len += n)
				memcpy(text + len, chars[c], n);
			text[len] = '\0';
			error_set(&e, EIO, "%s", text);
			size_t got = strlen(e.text);
			assert_in_range(got, ERROR_TEXT_MAX - n + 1, ERROR_TEXT_MAX);
			assert_int_equal((got - shift) % n, 0);
			assert_memory_equal(e.text, text, got);
			error_prefix(&e, "yy");
			got = strlen(e.text);
			assert_in_range(got, ERROR_TEXT_MAX - n + 1, ERROR_TEXT_MAX);
			assert_int_equal((got - 2 - shift) % n, 0);
		}
	}
	/* No UTF-8 at all: nothing to find, and nothing overrun. */
	memset(text, 0x80, sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	error_set(&e, EIO, "%s", text);
	assert_int_equal(strlen(e.text), ERROR_TEXT_MAX);
	error_prefix(&e, "%s", text);
	assert_int_equal(strlen(e.text), ERROR_TEXT_MAX);
}

static void clocks_convert(void **state)
{
	char text[CLOCK_RFC3339_SIZE];

	(void)state;
	assert_string_equal(clock_rfc3339(0, text), "1970-01-01T00:00:00.000Z");
	assert_string_equal(clock_rfc3339(INT64_C(1795645464123999999), text), "2026-11-25T22:24:24.123Z");
	assert_string_equal(clock_rfc3339(-1, text), "1969-12-31T23:59:59.999Z");
	assert_string_equal(clock_rfc3339(INT64_MAX, text), "2262-04-11T23:47:16.854Z");
	assert_int_equal(clock_from_timespec(clock_timespec(-1)), -1);
	assert_int_equal(clock_timespec(-1).tv_nsec, 999999999);
	assert_int_equal(clock_from_timespec(clock_timespec(1234567890123)), 1234567890123);
	/* What a file's time may be, and 64 bits of nanoseconds do not hold. */
	assert_true(clock_from_timespec((struct timespec){ .tv_sec = INT64_C(13569465600) }) == INT64_MAX);
	assert_true(clock_from_timespec((struct timespec){ .tv_sec = INT64_MAX, .tv_nsec = 999999999 }) == INT64_MAX);
	assert_true(clock_from_timespec((struct timespec){ .tv_sec = -INT64_C(13569465600) }) == INT64_MIN);
	assert_true(clock_from_timespec((struct timespec){ .tv_sec = INT64_MIN, .tv_nsec = 1 }) == INT64_MIN);
	assert_true(clock_from_timespec(clock_timespec(INT64_MAX)) == INT64_MAX);
	assert_true(clock_from_timespec(clock_timespec(INT64_MIN)) == INT64_MIN);
	int64_t a = clock_mono_ns(), b = clock_mono_ns();
	assert_true(b >= a && clock_mono_ms() >= a / 1000000);
	assert_true(clock_real_ns() > INT64_C(1700000000000000000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sets_and_prefixes),
		cmocka_unit_test(null_is_allowed),
		cmocka_unit_test(controls_become_question_marks),
		cmocka_unit_test(is_cut_between_characters),
		cmocka_unit_test(clocks_convert),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
