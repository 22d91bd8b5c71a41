/*
 * Tests of src/base/strmap.h.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/strmap.h"

static struct slice number_key(char *room, unsigned n)
{
	return slice_of(room, (size_t)sprintf(room, "key-%u", n));
}

static void puts_gets_deletes(void **state)
{
	struct strmap *m = strmap_new();
	int a, b;
	void *old = &a;

	(void)state;
	assert_non_null(m);
	assert_null(strmap_get(m, SLICE_LIT("x")));
	assert_null(strmap_del(m, SLICE_LIT("x")));
	assert_int_equal(strmap_put(m, SLICE_LIT("x"), &a, &old), 0);
	assert_null(old);
	assert_int_equal(strmap_put(m, SLICE_LIT("x"), &b, &old), 0);
	assert_ptr_equal(old, &a);
	assert_int_equal(strmap_len(m), 1);
	assert_int_equal(strmap_put(m, SLICE_LIT("x\0y"), &a, NULL), 0);
	assert_int_equal(strmap_put(m, slice_of(NULL, 0), &a, NULL), 0);
	assert_ptr_equal(strmap_get(m, SLICE_LIT("x")), &b);
	assert_ptr_equal(strmap_get(m, SLICE_LIT("x\0y")), &a);
	assert_ptr_equal(strmap_get(m, SLICE_LIT("")), &a);
	assert_ptr_equal(strmap_del(m, SLICE_LIT("x")), &b);
	assert_null(strmap_get(m, SLICE_LIT("x")));
	assert_int_equal(strmap_len(m), 2);
	strmap_free(m, NULL);
	strmap_free(NULL, NULL);
}

static void frees_values_and_finds_strings(void **state)
{
	struct strmap *m = strmap_new();

	(void)state;
	assert_int_equal(strmap_put(m, SLICE_LIT("a"), strdup("1"), NULL), 0);
	assert_int_equal(strmap_put(m, SLICE_LIT("b"), strdup("2"), NULL), 0);
	assert_string_equal(strmap_get_str(m, "b"), "2");
	assert_null(strmap_get_str(m, "c"));
	free(strmap_del(m, SLICE_LIT("a")));
	strmap_free(m, free);
}

static void keeps_order_through_many_changes(void **state)
{
	enum { N = 20000 };
	static char values[N];
	struct strmap *m = strmap_new();
	char room[32];
	struct slice key;
	void *value;
	size_t pos = 0;
	unsigned expect = 0;

	(void)state;
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(strmap_put(m, number_key(room, i), &values[i], NULL), 0);
	/* Deleting the entry just seen is allowed within the walk. */
	while (strmap_next(m, &pos, &key, &value)) {
		assert_ptr_equal(value, &values[expect]);
		assert_true(slice_eq(key, number_key(room, expect)));
		if (expect % 3 != 0)
			assert_ptr_equal(strmap_del(m, key), value);
		expect++;
	}
	assert_int_equal(expect, N);
	for (unsigned i = 0; i < N; i++)
		assert_ptr_equal(strmap_get(m, number_key(room, i)), i % 3 ? NULL : (void *)&values[i]);
	for (unsigned i = 1; i < N; i += 3)
		assert_int_equal(strmap_put(m, number_key(room, i), &values[i], NULL), 0);
	pos = 0;
	expect = 0;
	while (strmap_next(m, &pos, NULL, &value)) {
		assert_ptr_equal(value, &values[expect]);
		expect += 3;
		if (expect >= N && expect % 3 == 0)
			expect = 1;
	}
	strmap_free(m, NULL);
}

static void churn_does_not_grow(void **state)
{
	struct strmap *m = strmap_new();
	char room[32];
	int v;

	(void)state;
	for (unsigned i = 0; i < 100000; i++) {
		assert_int_equal(strmap_put(m, number_key(room, i), &v, NULL), 0);
		if (i >= 5)
			assert_ptr_equal(strmap_del(m, number_key(room, i - 5)), &v);
	}
	assert_int_equal(strmap_len(m), 5);
	strmap_free(m, NULL);
}

static void walk_may_empty_the_map(void **state)
{
	struct strmap *m = strmap_new();
	char room[32];
	struct slice key;
	size_t pos = 0;
	int v;

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		strmap_put(m, number_key(room, i), &v, NULL);
	while (strmap_next(m, &pos, &key, NULL))
		strmap_del(m, key);
	assert_int_equal(strmap_len(m), 0);
	assert_int_equal(strmap_put(m, SLICE_LIT("z"), &v, NULL), 0);
	assert_ptr_equal(strmap_get(m, SLICE_LIT("z")), &v);
	strmap_free(m, NULL);
}

static void hash_is_fnv1a(void **state)
{
	(void)state;
	assert_true(hash_bytes("", 0) == UINT64_C(0xcbf29ce484222325));
	assert_true(hash_bytes("a", 1) == UINT64_C(0xaf63dc4c8601ec8c));
	assert_true(hash_bytes("foobar", 6) == UINT64_C(0x85944171f73967e8));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(puts_gets_deletes),
		cmocka_unit_test(frees_values_and_finds_strings),
		cmocka_unit_test(keeps_order_through_many_changes),
		cmocka_unit_test(churn_does_not_grow),
		cmocka_unit_test(walk_may_empty_the_map),
		cmocka_unit_test(hash_is_fnv1a),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
