/*
 * The provider "file": Kafka's FileConfigProviderTest, failures and how they heal, `secrets`.
 */
#include "provider-help.h"
#include "format/limits.h"

#define KAFKA "org.apache.kafka.common.config.provider.FileConfigProvider"
#define DRAFT "org.apache.kafka.connect.configs.FileConfigProvider"

static int setup(void **state)
{
	if (help_setup(state) < 0)
		return -1;
	make_dir("dir");
	make_dir("sibling");
	put_text("dir/file", "testKey=testResult\ntestKey2=testResult2");
	put_text("dir/other", "testKey=other");
	put_text("sibling/file", "testKey=sibling");
	return 0;
}

static void test_kafka(void **state)
{
	struct opened o = open_with(KAFKA, NULL);

	(void)state;
	assert_values(fetch_keys(o, at("dir/file"), KEYS("testKey", "testKey2")),
	              KEYS("testKey", "testResult", "testKey2", "testResult2"));
	assert_values(fetch_keys(o, at("dir/file"), KEYS("testKey")), KEYS("testKey", "testResult"));
	assert_nothing(fetch_keys(o, at("dir/file"), KEYS("missing")), "");
	assert_nothing(fetch_keys(o, "", KEYS("testKey")), "no path");
	close_it(o);
}

static void test_allowed(void **state)
{
	char two[2 * PATH_MAX];
	struct opened dir = open_with("file", PARAMS("allowed.paths", at("dir")));
	struct opened file = open_with("file", PARAMS("allowed.paths", at("dir/file")));
	struct opened both;

	(void)state;
	(void)snprintf(two, sizeof(two), "%s,%s", at("dir"), at("sibling"));
	both = open_with("file", PARAMS("allowed.paths", two));
	assert_values(fetch_keys(dir, at("dir/file"), KEYS("testKey")), KEYS("testKey", "testResult"));
	assert_values(fetch_keys(file, at("dir/file"), KEYS("testKey")), KEYS("testKey", "testResult"));
	assert_values(fetch_keys(both, at("dir/file"), KEYS("testKey")), KEYS("testKey", "testResult"));
	assert_values(fetch_keys(both, at("sibling/file"), KEYS("testKey")), KEYS("testKey", "sibling"));
	assert_nothing(fetch_keys(dir, at("sibling/file"), KEYS("testKey")), "is not allowed by allowed.paths");
	assert_nothing(fetch_keys(file, at("dir/other"), KEYS("testKey")), "is not allowed by allowed.paths");
	assert_nothing(fetch_keys(dir, at("dir/file/../../sibling/file"), KEYS("testKey")), "is not allowed");
	assert_nothing(fetch_keys(dir, "dir/file", KEYS("testKey")), "the path dir/file is not allowed");
	assert_failed(fetch_keys(dir, at("dir/none"), KEYS("testKey")), ENOKEY, false, "no such file");
	close_it(dir);
	close_it(file);
	close_it(both);
}

static void test_open_fails(void **state)
{
	struct error err = ERROR_INIT;
	const char *param = NULL;
	void *self;

	(void)state;
	assert_int_equal(open_provider("file", PARAMS("allowed.paths", "x"), &self, &param, &err), -EINVAL);
	assert_string_equal(param, "allowed.paths");
	assert_string_equal(err.text, "Path x is not absolute");
	close_it(open_with("file", PARAMS("unknown", "x")));
}

static void test_map(void **state)
{
	struct opened o, strict;
	struct error err = ERROR_INIT;
	struct buf id, field;
	char cwd[PATH_MAX], want[2 * PATH_MAX], longer[PATH_MAX + 10];

	(void)state;
	assert_non_null(getcwd(cwd, sizeof(cwd)));
	o = open_with("file", NULL);
	strict = open_with("file", PARAMS("allowed.paths", "/"));
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(map_it(o, "x/../y", &id, &err), 0);
	(void)snprintf(want, sizeof(want), "%s/x/../y", cwd);
	assert_true(slice_eq_str(buf_slice(&id), want));
	buf_free(&id);
	assert_int_equal(map_it(strict, "/x/..//y", &id, &err), 0);
	assert_true(slice_eq_str(buf_slice(&id), "/y"));
	buf_free(&id);
	buf_init(&id, PATH_MAX);
	buf_init(&field, PATH_MAX);
	assert_int_equal(o.ops->map(o.self, SLICE_LIT("/a\0b"), SLICE_LIT("k"), &id, &field, &err), -EIO);
	assert_non_null(strstr(err.text, "NUL"));
	memset(longer, 'x', sizeof(longer));
	longer[0] = '/';
	longer[sizeof(longer) - 1] = '\0';
	buf_free(&id);
	assert_int_equal(map_it(o, longer, &id, &err), -EIO);
	buf_free(&id);
	buf_free(&field);
	assert_int_equal(chdir(cwd), 0);
	close_it(o);
	close_it(strict);
}

static void test_broken_files(void **state)
{
	struct opened o = open_with("file", NULL);
	char *big = malloc(LIMIT_SECRET_BYTES + 1);

	(void)state;
	put_text("utf8", "a=1\nb=\xff\xfe\n");
	assert_failed(fetch_keys(o, at("utf8"), KEYS("a")), EIO, true, "/utf8:2: ");
	put_text("escape", "a=1\n\n\n\n\n\nb=\\u12\n");
	assert_failed(fetch_keys(o, at("escape"), KEYS("a")), EIO, true, "/escape:7: ");
	assert_failed(fetch_keys(o, at("dir"), KEYS("a")), EIO, true, "/dir: ");
	assert_int_equal(mkfifo(at("fifo"), 0600), 0);
	assert_failed(fetch_keys(o, at("fifo"), KEYS("a")), EIO, true, "/fifo: ");
	memset(big, 'x', LIMIT_SECRET_BYTES + 1);
	put_bytes("big", big, LIMIT_SECRET_BYTES + 1);
	assert_failed(fetch_keys(o, at("big"), KEYS("a")), EIO, true, "/big: ");
	put_bytes("big", big, LIMIT_SECRET_BYTES);
	assert_nothing(fetch_keys(o, at("big"), KEYS("a")), "");
	assert_failed(fetch_keys(o, at("dir/file/x"), KEYS("a")), ENOKEY, false, "no such file");
	free(big);
	close_it(o);
}

static void test_denied(void **state)
{
	struct opened o = open_with("file", NULL);
	struct got g;

	(void)state;
	assert_int_equal(chmod(at("dir/file"), 0), 0);
	g = fetch_keys(o, at("dir/file"), KEYS("testKey"));
	if (geteuid() == 0) {
		assert_values(g, KEYS("testKey", "testResult"));
	} else {
		assert_failed(g, EKEYREJECTED, false, "permission denied");
		assert_int_equal(g.n_files, 1);
		assert_true(g.file_local && g.file_exists);
	}
	close_it(o);
}

static void test_missing_heals(void **state)
{
	struct opened o = open_with("file", NULL);
	struct got g = fetch_keys(o, at("dir/new/file"), KEYS("k"));

	(void)state;
	assert_failed(g, ENOKEY, false, "/dir/new/file: no such file");
	assert_int_equal(g.n_files, 1);
	assert_string_equal(g.file, at("dir/new/file"));
	assert_true(g.file_local);
	assert_false(g.file_exists);
	make_dir("dir/new");
	put_text("dir/new/file", "k=\\u00e9\n");
	assert_values(fetch_keys(o, at("dir/new/file"), KEYS("k")), KEYS("k", "\xc3\xa9"));
	close_it(o);
}

static void test_own_mount(void **state)
{
	struct opened o = open_with("file", NULL);

	(void)state;
	assert_int_equal(file_set_own_mountpoint(at("dir")), 0);
	assert_failed(fetch_keys(o, at("dir/file"), KEYS("testKey")), EIO, false, "lies on this mount itself");
	assert_int_equal(file_set_own_mountpoint("/no/mount"), 0);
	close_it(o);
}

static void test_unchanged(void **state)
{
	struct opened o = open_with("file", NULL);
	struct got g;

	(void)state;
	g = fetch_keys(o, at("dir/file"), KEYS("testKey"));
	assert_true(g.ttl_ms > 0); /* so young that the next change may not show */
	assert_int_equal(secret_values_n_files(g.values), 1);
	assert_true(secret_values_files_unchanged(g.values));
	secret_values_unref(g.values);
	usleep(60000);
	g = fetch_keys(o, at("dir/file"), KEYS("testKey"));
	assert_int_equal(g.ttl_ms, -1);
	put_text("dir/file", "testKey=longer than that\n");
	assert_false(secret_values_files_unchanged(g.values));
	secret_values_unref(g.values);
	close_it(o);
}

static void test_secrets(void **state)
{
	struct opened file = open_with(DRAFT, PARAMS("secrets", at("dir/file")));
	struct opened dir = open_with(DRAFT, PARAMS("secrets", at("dir")));
	struct opened none = open_with(DRAFT, PARAMS("secrets", at("none")));
	struct opened denied = open_with(DRAFT, PARAMS("secrets", at("dir"), "allowed.paths", at("sibling")));

	(void)state;
	assert_values(fetch_keys(file, "", KEYS("testKey")), KEYS("testKey", "testResult"));
	assert_values(fetch_keys(file, at("dir/other"), KEYS("testKey")), KEYS("testKey", "other"));
	assert_values(fetch_keys(dir, "", KEYS("other", "testKey")), KEYS("other", "testKey=other"));
	assert_values(fetch_keys(dir, at("dir/other"), KEYS("testKey")), KEYS("testKey", "other"));
	assert_failed(fetch_keys(dir, at("sibling"), KEYS("file")), EIO, true, "sibling");
	assert_failed(fetch_keys(none, "", KEYS("k")), ENOKEY, false, "/none: no such file");
	make_dir("none");
	put_text("none/k", "v");
	assert_values(fetch_keys(none, "", KEYS("k")), KEYS("k", "v"));
	assert_nothing(fetch_keys(denied, "", KEYS("other")), "not allowed");
	close_it(file);
	close_it(dir);
	close_it(none);
	close_it(denied);
}

static void test_cancel(void **state)
{
	struct opened o = open_with("file", NULL);
	struct pending p[20];

	(void)state;
	for (int i = 0; i < 20; i++)
		assert_int_equal(begin(o, at("dir/file"), KEYS("testKey"), &p[i]), 0);
	for (int i = 0; i < 20; i += 2)
		o.ops->cancel(o.self, &p[i].fetch);
	for (int i = 1; i < 20; i += 2)
		while (!p[i].got.done)
			assert_int_equal(loop_run_once(env.loop, 1), 0);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(p[i].got.done, i % 2);
		buf_free(&p[i].id);
		secret_values_unref(p[i].got.values);
	}
	close_it(o);
}

static void test_deadline(void **state)
{
	struct opened o = open_with("file", NULL);
	struct pending p;
	struct error err = ERROR_INIT;

	(void)state;
	memset(&p, 0, sizeof(p));
	assert_int_equal(map_it(o, at("dir/file"), &p.id, &err), 0);
	p.fields[0] = SLICE_LIT("testKey");
	p.fetch = (struct fetch){ .id = buf_slice(&p.id), .fields = p.fields, .n_fields = 1, .deadline_ms = 0,
	                          .done = help_done, .arg = &p.got };
	assert_int_equal(o.ops->fetch(o.self, &p.fetch), 0);
	close_it(o); /* the job outlives the instance */
	while (!p.got.done)
		assert_int_equal(loop_run_once(env.loop, 1), 0);
	/* Either may be first. */
	if (p.got.err != 0)
		assert_failed(p.got, ETIMEDOUT, true, "/dir/file: no answer within 0 ms");
	secret_values_unref(p.got.values);
	buf_free(&p.id);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, help_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_kafka),  T(test_allowed),       T(test_open_fails), T(test_map),
		T(test_denied), T(test_missing_heals), T(test_own_mount),  T(test_broken_files),
		T(test_cancel), T(test_unchanged),     T(test_secrets),    T(test_deadline),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
