/*
 * The providers' work with each allocation failing once: told as a failure, and nothing lost.
 * The work is run here and not in the pool, since only one thread may have failing allocations.
 */
#include "provider-help.h"

#include "allocfail.h"
#include "provider/filejob.h"

static int setup(void **state)
{
	if (help_setup(state) < 0)
		return -1;
	put_text("file", "a=1\nb=\\u00e9\nc=3\n");
	make_dir("dir");
	put_text("dir/a", "1");
	put_text("dir/b", "2");
	put_text("env", "a=1\nb=2\n");
	return 0;
}

static struct error err;
static const char *param;

/* Opens, maps, makes a job and works; true when it got to the end. */
static bool one_pass(const char *class_name, const struct strmap *params, const char *path)
{
	const struct provider_ops *ops = registry_find(class_name);
	struct slice fields[] = { SLICE_LIT("a"), SLICE_LIT("b"), SLICE_LIT("none") };
	struct fetch f = { .fields = fields, .n_fields = 3 };
	struct buf id, field;
	struct filejob *j = NULL;
	void *self;
	bool good = false;
	int r = ops->open(&env, class_name, params, &self, &param, &err);

	if (r < 0) {
		assert_int_equal(r, -ENOMEM);
		return false;
	}
	buf_init(&id, PATH_MAX);
	buf_init(&field, PATH_MAX);
	r = ops->map(self, slice_str(path), fields[0], &id, &field, &err);
	if (r == 0) {
		f.id = buf_slice(&id);
		j = filejob_new(self, &f);
	} else {
		assert_int_equal(r, -ENOMEM);
	}
	if (j) {
		j->conf->work(j);
		good = j->err == 0;
		if (good) {
			assert_int_equal(secret_values_count(j->values), 2);
		} else {
			assert_null(j->values);
			assert_true(j->outage || j->err == EKEYREJECTED);
		}
		filejob_free(j);
	}
	buf_free(&id);
	buf_free(&field);
	ops->close(self);
	return good;
}

static void fail_each(const char *class_name, const char *const *pairs, const char *path)
{
	struct strmap *params = strmap_new();
	bool good = false;
	long n;

	for (size_t i = 0; pairs[i]; i += 2)
		assert_int_equal(strmap_put(params, slice_str(pairs[i]), (void *)(uintptr_t)pairs[i + 1], NULL), 0);
	for (n = 0; n < 1000; n++) {
		bool failed;

		alloc_fail_after(n);
		good = one_pass(class_name, params, path);
		failed = alloc_failed();
		alloc_fail_after(-1);
		if (!failed)
			break;
		assert_false(good);
	}
	assert_true(good);
	assert_in_range(n, 5, 999);
	strmap_free(params, NULL);
}

static void test_file(void **state)
{
	(void)state;
	fail_each("file", PARAMS("allowed.paths", base), at("file"));
	fail_each("file", PARAMS("secrets", at("dir")), "");
}

static void test_directory(void **state)
{
	(void)state;
	fail_each("directory", PARAMS("allowed.paths", base), at("dir"));
}

static void test_env(void **state)
{
	(void)state;
	fail_each("env", PARAMS("environment.file", at("env"), "allowlist.pattern", "[a-z]*"), "");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, help_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = { T(test_file), T(test_directory), T(test_env) };

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
