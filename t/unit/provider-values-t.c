/*
 * Sets of values: order, look-up, equality, files, references of many threads.
 */
#include <pthread.h>

#include "provider-help.h"

static struct secret_values *make(const char *const *pairs)
{
	struct secret_field fields[HELP_FIELDS];
	size_t n = 0;

	for (; pairs[2 * n]; n++)
		fields[n] = (struct secret_field){ slice_str(pairs[2 * n]), slice_str(pairs[2 * n + 1]) };
	return secret_values_new(fields, n, NULL, 0);
}

static void test_sorted(void **state)
{
	struct secret_values *v = make(KEYS("b", "2", "", "0", "ab", "1b", "a", "1"));
	struct slice s;

	(void)state;
	assert_int_equal(secret_values_count(v), 4);
	assert_true(slice_eq_str(secret_values_at(v, 0).key, ""));
	assert_true(slice_eq_str(secret_values_at(v, 1).key, "a"));
	assert_true(slice_eq_str(secret_values_at(v, 2).key, "ab"));
	assert_true(slice_eq_str(secret_values_at(v, 3).value, "2"));
	assert_true(secret_values_get(v, SLICE_LIT("ab"), &s) && slice_eq_str(s, "1b"));
	assert_true(secret_values_get(v, SLICE_LIT(""), &s) && slice_eq_str(s, "0"));
	assert_false(secret_values_get(v, SLICE_LIT("c"), &s));
	assert_false(secret_values_get(v, SLICE_LIT("a\0"), &s));
	assert_true(secret_values_files_unchanged(v));
	secret_values_unref(v);
}

static void test_empty(void **state)
{
	struct secret_values *v = secret_values_new(NULL, 0, NULL, 0);
	struct slice s;

	(void)state;
	assert_int_equal(secret_values_count(v), 0);
	assert_int_equal(secret_values_n_files(v), 0);
	assert_false(secret_values_get(v, SLICE_LIT(""), &s));
	secret_values_unref(v);
	secret_values_unref(NULL);
}

static void test_bytes(void **state)
{
	struct secret_field f[] = { { SLICE_LIT("k\0x"), SLICE_LIT("v\0\xff") }, { SLICE_LIT("k"), { NULL, 0 } } };
	struct secret_values *v = secret_values_new(f, 2, NULL, 0);
	struct slice s;

	(void)state;
	assert_true(secret_values_get(v, SLICE_LIT("k\0x"), &s) && slice_eq(s, SLICE_LIT("v\0\xff")));
	assert_true(secret_values_get(v, SLICE_LIT("k"), &s) && s.len == 0);
	secret_values_unref(v);
}

static void test_equal(void **state)
{
	struct secret_values *a = make(KEYS("a", "1", "b", "2")), *b = make(KEYS("b", "2", "a", "1"));
	struct secret_values *c = make(KEYS("a", "1", "b", "3")), *d = make(KEYS("a", "1"));
	struct secret_values *e = make(KEYS("a", "1", "c", "2"));

	(void)state;
	assert_true(secret_values_equal(a, b));
	assert_false(secret_values_equal(a, c));
	assert_false(secret_values_equal(a, d));
	assert_false(secret_values_equal(a, e));
	assert_false(secret_values_equal(a, NULL));
	assert_false(secret_values_equal(NULL, a));
	assert_true(secret_values_equal(NULL, NULL));
	secret_values_unref(a);
	secret_values_unref(b);
	secret_values_unref(c);
	secret_values_unref(d);
	secret_values_unref(e);
}

static void test_files(void **state)
{
	struct secret_file files[2] = { { .local = true }, { .local = true } };
	struct secret_values *v, *remote;

	(void)state;
	put_text("f", "x");
	files[0].path = strdup(at("f"));
	files[1].path = strdup(at("missing"));
	assert_int_equal(file_stamp_take(files[0].path, &files[0].stamp), 0);
	assert_int_equal(file_stamp_take(files[1].path, &files[1].stamp), 0);
	v = secret_values_new(NULL, 0, files, 2);
	files[0].local = false;
	remote = secret_values_new(NULL, 0, files, 1);
	assert_int_equal(secret_values_n_files(v), 2);
	assert_string_equal(secret_values_file(v, 1)->path, files[1].path);
	assert_ptr_not_equal(secret_values_file(v, 1)->path, files[1].path);
	assert_true(secret_values_files_unchanged(v));
	assert_false(secret_values_files_unchanged(remote));
	put_text("missing", "");
	assert_false(secret_values_files_unchanged(v));
	assert_int_equal(unlink(at("missing")), 0);
	assert_true(secret_values_files_unchanged(v));
	put_text("f", "xy");
	assert_false(secret_values_files_unchanged(v));
	secret_values_unref(v);
	secret_values_unref(remote);
	free(files[0].path);
	free(files[1].path);
}

static void *ref_often(void *arg)
{
	struct slice s;

	for (int i = 0; i < 20000; i++) {
		struct secret_values *v = secret_values_ref(arg);

		if (!secret_values_get(v, SLICE_LIT("a"), &s))
			abort();
		secret_values_unref(v);
	}
	secret_values_unref(arg);
	return NULL;
}

static void test_threads(void **state)
{
	struct secret_values *v = make(KEYS("a", "1"));
	pthread_t t[4];

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, ref_often, secret_values_ref(v)), 0);
	secret_values_unref(v);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sorted), cmocka_unit_test(test_empty),   cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_equal),  cmocka_unit_test(test_threads),
		cmocka_unit_test_setup_teardown(test_files, help_setup, help_teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
