/*
 * The provider "directory": Kafka's DirectoryConfigProviderTest, and Kubernetes' atomic writer.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "provider-help.h"
#include "format/limits.h"

static int setup(void **state)
{
	if (help_setup(state) < 0)
		return -1;
	make_dir("parent");
	make_dir("parent/dir");
	make_dir("parent/dir/subdir");
	make_dir("sibling");
	put_text("parent/dir/foo", "FOO");
	put_text("parent/dir/bar", "BAR\n");
	put_text("parent/dir/subdir/subdirFile", "SUBDIRFILE");
	put_text("parent/siblingFile", "x");
	put_text("sibling/siblingFile", "SIBLING");
	return 0;
}

static void test_kafka(void **state)
{
	struct opened o = open_with("org.apache.kafka.common.config.provider.DirectoryConfigProvider", NULL);
	const char *dir = at("parent/dir");

	(void)state;
	assert_values(fetch_keys(o, dir, KEYS("foo", "bar")), KEYS("foo", "FOO", "bar", "BAR\n"));
	assert_values(fetch_keys(o, dir, KEYS("foo", "baz")), KEYS("foo", "FOO"));
	assert_nothing(fetch_keys(o, dir, KEYS("subdir", "subdirFile", "subdir/subdirFile")), "");
	assert_nothing(fetch_keys(o, dir, KEYS("", ".", "..", "../siblingFile", "./foo", "/etc/passwd")), "");
	assert_nothing(fetch_keys(o, "", KEYS("foo")), "no path");
	assert_nothing(fetch_keys(o, at("none"), KEYS("foo")), "is not a directory");
	assert_nothing(fetch_keys(o, at("parent/dir/foo"), KEYS("foo")), "is not a directory");
	close_it(o);
}

static void test_allowed(void **state)
{
	char two[2 * PATH_MAX];
	struct opened one = open_with("directory", PARAMS("allowed.paths", at("parent")));
	struct opened both;

	(void)state;
	(void)snprintf(two, sizeof(two), "%s,%s", at("parent/dir"), at("sibling"));
	both = open_with("directory", PARAMS("allowed.paths", two));
	assert_values(fetch_keys(one, at("parent/dir"), KEYS("foo")), KEYS("foo", "FOO"));
	assert_values(fetch_keys(both, at("parent/dir/subdir"), KEYS("subdirFile")), KEYS("subdirFile", "SUBDIRFILE"));
	assert_nothing(fetch_keys(one, at("sibling"), KEYS("siblingFile")), "is not allowed by allowed.paths");
	assert_nothing(fetch_keys(one, at("parent/../sibling"), KEYS("siblingFile")), "is not allowed");
	make_link("../../sibling/siblingFile", "parent/dir/out");
	assert_values(fetch_keys(one, at("parent/dir"), KEYS("foo", "out")), KEYS("foo", "FOO"));
	close_it(one);
	close_it(both);
}

static void test_values(void **state)
{
	struct opened o = open_with("directory", NULL);
	const char *dir = at("parent/dir");
	char *big = malloc(LIMIT_SECRET_BYTES + 1);

	(void)state;
	make_link("foo", "parent/dir/link");
	make_link("nowhere", "parent/dir/dangling");
	put_text("parent/dir/.dot", "D");
	put_bytes("parent/dir/nul", "a\0b", 3);
	put_text("parent/dir/utf8", "\xf0\x9f\x98\x80\xc3\xa9");
	assert_values(fetch_keys(o, dir, KEYS(".dot", "dangling", "link", "utf8")),
	              KEYS(".dot", "D", "link", "FOO", "utf8", "\xf0\x9f\x98\x80\xc3\xa9"));
	put_text("parent/dir/bad", "a\xff" "b");
	assert_failed(fetch_keys(o, dir, KEYS("bad", "foo")), EIO, true, "the key bad");
	put_text("parent/dir/bad", "\xed\xa0\x80");
	assert_failed(fetch_keys(o, dir, KEYS("bad")), EIO, true, "malformed UTF-8");
	put_text("parent/dir/bad", "\xc3");
	assert_failed(fetch_keys(o, dir, KEYS("bad")), EIO, true, "malformed UTF-8");
	assert_values(fetch_keys(o, dir, KEYS("foo")), KEYS("foo", "FOO"));
	memset(big, 'x', LIMIT_SECRET_BYTES + 1);
	put_bytes("parent/dir/big", big, LIMIT_SECRET_BYTES + 1);
	assert_failed(fetch_keys(o, dir, KEYS("big")), EIO, true, "/big: ");
	assert_int_equal(mkfifo(at("parent/dir/fifo"), 0600), 0);
	assert_nothing(fetch_keys(o, dir, KEYS("fifo")), "");
	free(big);
	close_it(o);
}

static void test_denied(void **state)
{
	struct opened o = open_with("directory", NULL);
	const char *dir = at("parent/dir");

	(void)state;
	if (geteuid() != 0) {
		assert_int_equal(chmod(at("parent/dir/foo"), 0), 0);
		assert_values(fetch_keys(o, dir, KEYS("bar", "foo")), KEYS("bar", "BAR\n"));
		assert_failed(fetch_keys(o, dir, KEYS("foo")), EKEYREJECTED, false, "/foo: permission denied");
		assert_int_equal(chmod(dir, 0), 0);
		assert_failed(fetch_keys(o, dir, KEYS("bar")), EKEYREJECTED, false, "/dir: permission denied");
		assert_int_equal(chmod(dir, 0700), 0);
	}
	close_it(o);
}

static void test_files(void **state)
{
	struct opened o = open_with("directory", NULL);
	struct got g = fetch_keys(o, at("parent/dir"), KEYS("foo", "new"));

	(void)state;
	assert_int_equal(secret_values_n_files(g.values), 3);
	assert_string_equal(secret_values_file(g.values, 0)->path, at("parent/dir"));
	assert_string_equal(secret_values_file(g.values, 1)->path, at("parent/dir/foo"));
	assert_string_equal(secret_values_file(g.values, 2)->path, at("parent/dir/new"));
	assert_false(secret_values_file(g.values, 2)->stamp.exists);
	assert_true(secret_values_files_unchanged(g.values));
	put_text("parent/dir/new", "N");
	assert_false(secret_values_files_unchanged(g.values));
	secret_values_unref(g.values);
	g = fetch_keys(o, at("none"), KEYS("foo"));
	assert_true(secret_values_files_unchanged(g.values));
	make_dir("none");
	assert_false(secret_values_files_unchanged(g.values));
	secret_values_unref(g.values);
	close_it(o);
}

/* As kubelet: a new directory, and "..data" renamed over. */
static void write_version(int n)
{
	char dir[32], file[64], text[32];

	(void)snprintf(dir, sizeof(dir), "k8s/..v%d", n);
	make_dir(dir);
	(void)snprintf(text, sizeof(text), "%d", n);
	for (char c = 'a'; c <= 'd'; c++) {
		(void)snprintf(file, sizeof(file), "%s/%c", dir, c);
		put_text(file, text);
	}
	(void)snprintf(dir, sizeof(dir), "..v%d", n);
	make_link(dir, "k8s/..data_tmp");
	assert_int_equal(rename(at("k8s/..data_tmp"), at("k8s/..data")), 0);
}

static void remove_version(int n)
{
	char path[64];

	for (char c = 'a'; c <= 'd'; c++) {
		(void)snprintf(path, sizeof(path), "k8s/..v%d/%c", n, c);
		(void)unlink(at(path));
	}
	(void)snprintf(path, sizeof(path), "k8s/..v%d", n);
	(void)rmdir(at(path));
}

static atomic_bool stop;

/* Its own names: at() is for one thread. */
static void *switch_often(void *arg)
{
	char target[32], tmp[PATH_MAX + 32], data[PATH_MAX + 32];

	(void)arg;
	(void)snprintf(tmp, sizeof(tmp), "%s/k8s/..data_tmp", base);
	(void)snprintf(data, sizeof(data), "%s/k8s/..data", base);
	for (int i = 0; !atomic_load(&stop); i++) {
		(void)snprintf(target, sizeof(target), "..v%d", i % 2 + 1);
		if (symlink(target, tmp) < 0 || rename(tmp, data) < 0)
			abort();
		usleep(200);
	}
	return NULL;
}

static void test_kubernetes(void **state)
{
	struct opened o = open_with("directory", NULL);
	struct got g;
	pthread_t t;

	(void)state;
	make_dir("k8s");
	write_version(1);
	for (char c[] = "k8s/a"; c[4] <= 'd'; c[4]++) {
		char target[] = "..data/?";

		target[7] = c[4];
		make_link(target, c);
	}
	/* Within the tick in which a link was made each look at it is written to it: never from memory. */
	usleep(20000);
	g = fetch_keys(o, at("k8s"), KEYS("..data", "a", "b", "c", "d"));
	assert_true(secret_values_files_unchanged(g.values));
	write_version(2);
	assert_false(secret_values_files_unchanged(g.values));
	assert_values(g, KEYS("a", "1", "b", "1", "c", "1", "d", "1"));
	assert_values(fetch_keys(o, at("k8s"), KEYS("a", "d")), KEYS("a", "2", "d", "2"));
	assert_int_equal(pthread_create(&t, NULL, switch_often, NULL), 0);
	for (int i = 0; i < 500; i++) {
		g = fetch_keys(o, at("k8s"), KEYS("a", "b", "c", "d"));
		if (g.err != 0) {
			assert_failed(g, EIO, true, "it changed while it was read");
			continue;
		}
		assert_true(slice_eq(value_of(&g, "a"), value_of(&g, "d")));
		assert_true(slice_eq(value_of(&g, "b"), value_of(&g, "c")));
		assert_true(slice_eq(value_of(&g, "a"), value_of(&g, "b")));
		secret_values_unref(g.values);
	}
	atomic_store(&stop, true);
	assert_int_equal(pthread_join(t, NULL), 0);
	remove_version(1);
	remove_version(2);
	assert_nothing(fetch_keys(o, at("k8s"), KEYS("a", "d")), "");
	close_it(o);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, help_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = { T(test_kafka),  T(test_allowed), T(test_values),
		                            T(test_denied), T(test_files),   T(test_kubernetes) };

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
