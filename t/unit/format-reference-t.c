/*
 * The reference scanner: Kafka's cases, a slow but obvious twin, hostile input.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "format/limits.h"
#include "format/reference.h"
#include "format-data.h"

static void test_table(void **state)
{
	json_t *rows = data_load("references.json"), *row;
	size_t i;

	(void)state;
	json_array_foreach(rows, i, row) {
		const json_t *wanted = json_object_get(row, "references");
		struct slice text = data_input(row);
		struct reference ref;
		size_t pos = 0, n = 0;

		while (reference_next(text, &pos, &ref)) {
			const json_t *want = json_array_get(wanted, n++);

			assert_int_equal(pos, ref.end);
			data_assert_eq(slice_of(text.data + ref.start, ref.end - ref.start),
			               data_field(want, "text"), row);
			data_assert_eq(ref.provider, data_field(want, "provider"), row);
			data_assert_eq(ref.path, data_field(want, "path"), row);
			data_assert_eq(ref.key, data_field(want, "key"), row);
		}
		if (n != json_array_size(wanted))
			fail_msg("%zu references in \"%.*s\"", n, SLICE_FMT(text));
		free((void *)text.data);
	}
	assert_true(i > 60);
	json_decref(rows);
}

/*
 * Kafka's pattern, tried at each place in turn: "${", lazily up to ":" and "}" without a '}'
 * between. Which colons are taken follows from the laziness: always the first ones.
 */
static bool slow_match(struct slice s, size_t start, struct reference *ret)
{
	size_t colon[2], n = 0, i;

	if (s.len - start < 2 || s.data[start] != '$' || s.data[start + 1] != '{')
		return false;
	for (i = start + 2; i < s.len && s.data[i] != '}'; i++) {
		if (s.data[i] == ':' && n < 2)
			colon[n++] = i;
	}
	if (i == s.len || n == 0)
		return false;
	ret->start = start;
	ret->end = i + 1;
	ret->provider = slice_of(s.data + start + 2, colon[0] - start - 2);
	ret->path = slice_of(s.data + colon[0] + 1, n == 2 ? colon[1] - colon[0] - 1 : 0);
	ret->key = slice_of(s.data + colon[n - 1] + 1, i - colon[n - 1] - 1);
	return true;
}

static bool slow_next(struct slice s, size_t *pos, struct reference *ret)
{
	for (; *pos < s.len; ++*pos) {
		if (slow_match(s, *pos, ret)) {
			*pos = ret->end;
			return true;
		}
	}
	return false;
}

static void test_random(void **state)
{
	static const char alphabet[] = { '$', '{', '}', ':', 'a', '\n', '\\', '\0' };

	(void)state;
	random_init();
	for (int round = 0; round < 300000; round++) {
		char text[24];
		struct slice s = { text, random_below(sizeof(text) + 1) };
		struct reference a, b;
		size_t pa = 0, pb = 0;

		for (size_t i = 0; i < s.len; i++)
			text[i] = alphabet[random_below(sizeof(alphabet))];
		while (slow_next(s, &pb, &b)) {
			assert_true(reference_next(s, &pa, &a));
			assert_int_equal(a.start, b.start);
			assert_int_equal(a.end, b.end);
			assert_true(slice_eq(a.provider, b.provider));
			assert_true(slice_eq(a.path, b.path));
			assert_true(slice_eq(a.key, b.key));
		}
		assert_false(reference_next(s, &pa, &a));
	}
}

static void test_nothing(void **state)
{
	struct reference ref = { .start = 77 };
	size_t pos = 0;

	(void)state;
	assert_false(reference_next((struct slice){ NULL, 0 }, &pos, &ref));
	pos = 99;
	assert_false(reference_next(SLICE_LIT("${a:b}"), &pos, &ref));
	pos = 6;
	assert_false(reference_next(SLICE_LIT("${a:b}"), &pos, &ref));
	pos = 1; /* behind the '$' */
	assert_false(reference_next(SLICE_LIT("${a:b}"), &pos, &ref));
	assert_int_equal(ref.start, 77);
}

/* Each takes the pattern of Kafka minutes and more. */
static void test_hostile(void **state)
{
	static const char *const units[] = { "${", "${:", ":", "$", "{", "}", "${}", "${a}", "${::::",
		"${:}", "${${:}" };
	char *text = malloc(LIMIT_STORED_BYTES);

	(void)state;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t len = strlen(units[i]), pos = 0, n = 0;
		struct reference ref;

		for (size_t at = 0; at < LIMIT_STORED_BYTES; at++)
			text[at] = units[i][at % len];
		memcpy(text, "${", 2);
		while (reference_next(slice_of(text, LIMIT_STORED_BYTES), &pos, &ref))
			n++;
		assert_true(strchr(units[i], '}') && strchr(units[i], ':') ? n > 100000 : n == 0);
	}
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_hostile),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
