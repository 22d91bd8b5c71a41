/*
 * The provider "file": Kafka's FileConfigProviderTest, failures and how they heal, `secrets`.
 */
#include "provider-help.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/wait.h>

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

/* A file that gives no answer is asked once, however often it is wanted. */
static void test_stuck(void **state)
{
	struct opened o = open_with("file", NULL);
	struct pending p;
	int status;
	pid_t pid;

	(void)state;
	if (getenv("CONNECTFS_TEST_VALGRIND")) { /* it waits at the end for threads that nothing can end */
		print_message("# SKIP: not under valgrind, which waits for stuck threads\n");
		close_it(o);
		return;
	}
	make_dir("hung");
	pid = fork();
	if (pid > 0) {
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status) && WEXITSTATUS(status) != 77)
			assert_int_equal(WEXITSTATUS(status), 0);
		close_it(o);
		return;
	}
	/* The child has mounts of its own, one of which never answers; and threads of its own. */
	char options[128];
	int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	(void)snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse);
	if (fuse < 0 || unshare(CLONE_NEWNS) < 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("hung", at("hung"), "fuse", MS_NODEV | MS_NOSUID, options) < 0)
		_exit(77);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(begin(o, at("hung/file"), KEYS("k"), &p), 0);
		o.ops->cancel(o.self, &p.fetch);
		p.fetch.deadline_ms = 200;
		assert_int_equal(o.ops->fetch(o.self, &p.fetch), 0);
		while (!p.got.done)
			if (loop_run_once(env.loop, 1) != 0)
				_exit(1);
		if (p.got.err != ETIMEDOUT || !p.got.outage ||
		    !strstr(p.got.text, i ? "still no answer" : "no answer within 200 ms"))
			_exit(2);
		buf_free(&p.id);
		if (i == 0)
			sleep(1); /* the cancelled one, whose deadline is the help's */
	}
	_exit(0);
}

static atomic_int flipping;

/* paths: outside, and where the links are made and come to. */
/* Slow builds and valgrind do less (CONNECTFS_TEST_SCALE). */
static bool is_scaled_down(void)
{
	return getenv("CONNECTFS_TEST_SCALE") != NULL;
}

static void *flip(void *arg)
{
	const char *const *paths = arg;

	while (atomic_load(&flipping)) {
		if (symlink(paths[0], paths[1]) < 0 || rename(paths[1], paths[2]) < 0 ||
		    symlink("file", paths[1]) < 0 || rename(paths[1], paths[2]) < 0)
			abort();
		usleep(is_scaled_down() ? 2000 : 20); /* valgrind runs one thread at a time */
	}
	return NULL;
}

/* A link that leads in and out of what is allowed, faster than anybody can look. */
static void test_allowed_race(void **state)
{
	struct opened o = open_with("file", PARAMS("allowed.paths", at("dir")));
	char outside[PATH_MAX], new[PATH_MAX], link[PATH_MAX];
	const char *paths[] = { strcpy(outside, at("sibling/file")), strcpy(new, at("dir/new")),
		                strcpy(link, at("dir/link")) };
	pthread_t thread;
	int good = 0, rounds = is_scaled_down() ? 30 : 300;

	(void)state;
	make_link("file", "dir/link");
	atomic_store(&flipping, 1);
	assert_int_equal(pthread_create(&thread, NULL, flip, paths), 0);
	for (int i = 0; i < rounds; i++) {
		struct got g = fetch_keys(o, at("dir/link"), KEYS("testKey"));
		struct slice v = value_of(&g, "testKey");

		assert_false(slice_eq_str(v, "sibling"));
		good += slice_eq_str(v, "testResult");
		secret_values_unref(g.values);
	}
	atomic_store(&flipping, 0);
	pthread_join(thread, NULL);
	print_message("# %d of %d were allowed\n", good, rounds);
	assert_values(fetch_keys(o, at("dir/file"), KEYS("testKey")), KEYS("testKey", "testResult"));
	close_it(o);
}

/* The last of two counts, and a search takes no time however many there are. */
static void test_many_keys(void **state)
{
	enum { KEYS_IN_FILE = 10000 };
	char *text = malloc(KEYS_IN_FILE * 40), *end = text;
	struct opened o = open_with("file", NULL);

	(void)state;
	for (int i = 0; i < KEYS_IN_FILE / 2; i++)
		end += sprintf(end, "k%d=first\n", i);
	for (int i = 0; i < KEYS_IN_FILE / 2; i++)
		end += sprintf(end, "k%d=v%d\n", i, i);
	put_text("many", text);
	free(text);
	assert_values(fetch_keys(o, at("many"), KEYS("k0", "k17", "k4999", "k5000", "k")),
	              KEYS("k0", "v0", "k17", "v17", "k4999", "v4999"));
	close_it(o);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, help_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_kafka),  T(test_allowed),       T(test_open_fails), T(test_map),
		T(test_denied), T(test_missing_heals), T(test_own_mount),  T(test_broken_files),
		T(test_cancel), T(test_unchanged),     T(test_secrets),    T(test_deadline),
		T(test_stuck),  T(test_allowed_race),  T(test_many_keys),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
