/*
 * Tests of src/base/file.h.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"

static char dir[256];

/* A path in the test's directory, in one of some static buffers. */
static const char *in(const char *name)
{
	static char room[4][512];
	static unsigned n;

	n = (n + 1) % 4;
	snprintf(room[n], sizeof(room[n]), "%s/%s", dir, name);
	return room[n];
}

static void put(const char *name, const char *text)
{
	int fd = open(in(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static int setup(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void)state;
	snprintf(dir, sizeof(dir), "%s/base-file-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir))
		return -1;
	char *real = realpath(dir, NULL);
	snprintf(dir, sizeof(dir), "%s", real ? real : dir);
	free(real);
	return 0;
}

static int teardown(void **state)
{
	char command[1024];

	(void)state;
	file_set_own_device(0);
	file_set_own_mountpoint(NULL);
	snprintf(command, sizeof(command), "chmod -R u+rwx '%s' && rm -rf '%s'", dir, dir);
	return system(command);
}

static void stamps_tell_changes(void **state)
{
	struct file_stamp a, b;

	(void)state;
	assert_int_equal(file_stamp_take(in("none"), &a), 0);
	assert_false(a.exists);
	put("f", "abc");
	assert_int_equal(file_stamp_take(in("f/below"), &a), 0);
	assert_false(a.exists);
	assert_int_equal(file_stamp_take(in("f"), &a), 0);
	assert_true(a.exists && S_ISREG(a.mode));
	assert_int_equal(a.size, 3);
	struct stat st;
	assert_int_equal(stat(in("f"), &st), 0);
	assert_true(a.dev == st.st_dev && a.ino == st.st_ino);
	assert_true(a.mtime_ns == clock_from_timespec(st.st_mtim));
	assert_true(a.ctime_ns == clock_from_timespec(st.st_ctim));
	assert_int_equal(file_stamp_take(in("f"), &b), 0);
	assert_true(file_stamp_equal(&a, &b));
	put("f", "abcd");
	assert_int_equal(file_stamp_take(in("f"), &b), 0);
	assert_false(file_stamp_equal(&a, &b));
	assert_int_equal(symlink("f", in("link")), 0);
	assert_int_equal(file_stamp_take(in("link"), &a), 0);
	assert_true(file_stamp_equal(&a, &b));
	assert_int_equal(chmod(in("f"), 0600), 0);
	assert_int_equal(file_stamp_take(in("f"), &b), 0);
	assert_false(file_stamp_equal(&a, &b));
	assert_int_equal(symlink("loop", in("loop")), 0);
	struct file_stamp before = b;
	assert_int_equal(file_stamp_take(in("loop"), &b), -ELOOP);
	assert_true(file_stamp_equal(&before, &b));
	struct file_stamp n1 = { .exists = false, .size = 1 }, n2 = { .exists = false, .size = 2 };
	assert_true(file_stamp_equal(&n1, &n2));
	assert_false(file_stamp_equal(&n1, &b));
}

static void youth(void **state)
{
	struct file_stamp s = { .exists = true, .ctime_ns = 1000000000000 };

	(void)state;
	assert_true(file_stamp_is_young(&s, s.ctime_ns));
	assert_true(file_stamp_is_young(&s, s.ctime_ns + 19999999));
	assert_false(file_stamp_is_young(&s, s.ctime_ns + 20000000));
	assert_true(file_stamp_is_young(&s, s.ctime_ns - 1000000));
	assert_false(file_stamp_is_young(&s, s.ctime_ns - 3600000000000));
	s.exists = false;
	assert_false(file_stamp_is_young(&s, s.ctime_ns));
}

static void reads_whole_files(void **state)
{
	static char big[200001];
	struct file_read f;
	struct error e = ERROR_INIT;
	struct buf b;

	(void)state;
	for (int i = 0; i < 200000; i++)
		big[i] = (char)('a' + i % 23);
	put("big", big);
	put("empty", "");
	buf_init_secret(&b, 200000);
	assert_int_equal(file_read_all(in("big"), &b, &f, &e), 0);
	assert_int_equal(b.len, 200000);
	assert_int_equal(b.cap, 200001); /* exactly its size: no growth just to find the end */
	assert_string_equal(b.data, big);
	assert_true(f.stamp.exists && f.stamp.size == 200000);
	buf_free(&b);
	buf_init(&b, 1000000);
	assert_int_equal(file_read_all(in("empty"), &b, NULL, NULL), 0);
	assert_int_equal(b.len, 0);
	buf_add_str(&b, "before ");
	put("f", "text");
	assert_int_equal(symlink("f", in("link")), 0);
	assert_int_equal(file_read_all(in("link"), &b, &f, &e), 0);
	assert_string_equal(b.data, "before text");
	buf_free(&b);
	/* st_size is 0 there */
	assert_int_equal(file_read_all("/proc/self/status", &b, &f, &e), 0);
	assert_non_null(strstr(b.data, "Pid:"));
	assert_true(f.local);
	buf_free(&b);
}

static void reads_descriptors(void **state)
{
	struct file_read f;
	struct buf b;

	(void)state;
	put("f", "text");
	int fd = open(in("f"), O_RDONLY | O_CLOEXEC);
	buf_init(&b, 4);
	assert_int_equal(file_read_fd(fd, &b, &f, NULL), 0);
	assert_string_equal(b.data, "text");
	buf_free(&b);
	close(fd);
	fd = open(dir, O_RDONLY | O_CLOEXEC);
	assert_int_equal(file_read_fd(fd, &b, &f, NULL), -EISDIR);
	close(fd);
	assert_int_equal(file_read_fd(-1, &b, &f, NULL), -EBADF);
	buf_free(&b);
}

static int read_error(const char *path, size_t max, struct file_read *ret, struct error *e)
{
	struct buf b;

	buf_init(&b, max);
	int r = file_read_all(path, &b, ret, e);
	assert_int_equal(b.len, 0);
	buf_free(&b);
	assert_int_equal(e->code, -r);
	assert_null(strstr(e->text, dir));
	return r;
}

static void refuses_what_is_no_file(void **state)
{
	struct file_read f;
	struct error e;

	(void)state;
	assert_int_equal(read_error(in("none"), 10, &f, &e), -ENOENT);
	assert_string_equal(e.text, "No such file or directory");
	assert_false(f.stamp.exists);
	assert_int_equal(read_error(dir, 10, &f, &e), -EISDIR);
	assert_true(f.stamp.exists);
	assert_int_equal(mkfifo(in("fifo"), 0644), 0);
	assert_int_equal(read_error(in("fifo"), 10, &f, &e), -EINVAL);
	assert_string_equal(e.text, "not a regular file");
	assert_int_equal(read_error("/dev/null", 10, &f, &e), -EINVAL);
	assert_int_equal(symlink("/dev/zero", in("dev")), 0);
	assert_int_equal(read_error(in("dev"), 10, &f, &e), -EINVAL);
	put("f", "12345");
	assert_int_equal(read_error(in("f"), 4, &f, &e), -EFBIG);
	assert_int_equal(f.stamp.size, 5);
	assert_int_equal(read_error("/proc/self/status", 10, &f, &e), -EFBIG);
	assert_int_equal(chmod(in("f"), 0), 0);
	if (geteuid() != 0) {
		assert_int_equal(read_error(in("f"), 10, &f, &e), -EACCES);
		assert_int_equal(f.stamp.size, 5);
	}
	assert_int_equal(symlink("loop", in("loop")), 0);
	assert_int_equal(read_error(in("loop"), 10, &f, &e), -ELOOP);
}

static void refuses_the_own_mount(void **state)
{
	struct file_read f;
	struct error e;
	struct stat st;
	struct file_stamp s;
	struct buf b;

	(void)state;
	assert_int_equal(mkdir(in("mnt"), 0755), 0);
	put("mnt/f", "x");
	put("mnt-not", "x");
	assert_false(file_is_own_mountpoint(in("mnt")));
	assert_int_equal(file_set_own_mountpoint(in("./x/../mnt/")), 0);
	assert_true(file_is_own_mountpoint(in("mnt")));
	assert_true(file_is_own_mountpoint(in("a/..//mnt/./f")));
	assert_false(file_is_own_mountpoint(in("mnt/..")));
	assert_false(file_is_own_mountpoint(in("mnt-not")));
	assert_false(file_is_own_mountpoint("mnt"));
	/* The same with symlinks: absolute, relative, of a directory on the way, and of /proc */
	assert_int_equal(symlink(in("mnt/f"), in("home-1")), 0);
	assert_int_equal(symlink("./home-1", in("home-2")), 0);
	assert_int_equal(symlink("mnt", in("home-3")), 0);
	assert_int_equal(symlink("home-round", in("home-round")), 0);
	assert_int_equal(symlink("nowhere/../mnt", in("home-not")), 0);
	assert_true(file_leads_to_own_mount(in("mnt/f")));
	assert_true(file_leads_to_own_mount(in("home-1")));
	assert_true(file_leads_to_own_mount(in("home-2")));
	assert_true(file_leads_to_own_mount(in("home-3/../x")));
	assert_false(file_leads_to_own_mount(in("home-round")));
	assert_false(file_leads_to_own_mount(in("home-not")));
	assert_false(file_leads_to_own_mount(in(".")));
	assert_false(file_leads_to_own_mount("home-1"));
	assert_int_equal(read_error(in("mnt/f"), 10, &f, &e), -EDEADLK);
	assert_string_equal(e.text, "lies on this mount itself");
	assert_int_equal(file_stamp_take(in("mnt/f"), &s), -EDEADLK);
	buf_init(&b, 10);
	assert_int_equal(file_read_all(in("mnt-not"), &b, &f, &e), 0);
	buf_free(&b);
	assert_int_equal(file_set_own_mountpoint("/"), 0);
	assert_true(file_is_own_mountpoint(dir));
	assert_int_equal(file_set_own_mountpoint(NULL), 0);
	assert_false(file_is_own_mountpoint(in("mnt")));

	assert_int_equal(stat(dir, &st), 0);
	file_set_own_device(st.st_dev);
	assert_int_equal(symlink("mnt/f", in("link")), 0);
	assert_int_equal(read_error(in("link"), 10, &f, &e), -EDEADLK);
	assert_string_equal(e.text, "lies on this mount itself");
	assert_int_equal(file_read_all("/proc/self/stat", &b, &f, &e), -EFBIG);
	buf_free(&b);
	file_set_own_device(0);
	assert_int_equal(file_read_all(in("link"), &b, &f, &e), 0);
	buf_free(&b);
}

static void knows_local_file_systems(void **state)
{
	int fd = open("/proc/self/stat", O_PATH | O_CLOEXEC);

	(void)state;
	assert_true(file_is_local(fd));
	close(fd);
	assert_false(file_is_local(-1));
	int p[2];
	assert_int_equal(pipe(p), 0);
	assert_false(file_is_local(p[0]));
	close(p[0]);
	close(p[1]);
}

static atomic_bool stop;

static void *write_on(void *arg)
{
	int fd = open(arg, O_WRONLY | O_CLOEXEC);

	for (int i = 0; !atomic_load(&stop) && fd >= 0; i++) {
		struct timespec t[2] = { { i, 0 }, { i, 0 } };
		futimens(fd, t);
	}
	close(fd);
	return NULL;
}

/* A file that always changes is either read between two changes or refused. */
static void notices_changes_while_reading(void **state)
{
	static char big[3000001];
	char path[512];
	struct error e = ERROR_INIT;
	struct buf b;
	pthread_t t;
	int again = 0;

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	put("f", big);
	snprintf(path, sizeof(path), "%s", in("f"));
	stop = false;
	assert_int_equal(pthread_create(&t, NULL, write_on, path), 0);
	for (int i = 0; i < 20000 && again == 0; i++) { /* mostly the first or second */
		buf_init(&b, sizeof(big));
		int r = file_read_all(path, &b, NULL, &e);
		assert_true(r == 0 || r == -EAGAIN);
		assert_int_equal(b.len, r == 0 ? sizeof(big) - 1 : 0);
		again += r == -EAGAIN;
		buf_free(&b);
	}
	atomic_store(&stop, true);
	pthread_join(t, NULL);
	assert_int_equal(again, 1);
	assert_string_equal(e.text, "changes while it is read");
}

static void normalizes(void **state)
{
	static const char *const cases[][2] = {
		{ "/", "/" }, { "//", "/" }, { "/a/b", "/a/b" }, { "/a//b/", "/a/b" }, { "/a/./b/.", "/a/b" },
		{ "/a/../b", "/b" }, { "/..", "/" }, { "/../../a", "/a" }, { "/a/b/../../c", "/c" },
		{ "/a/..", "/" },
		{ "a/b", "a/b" }, { "a/..", "" }, { ".", "" }, { "", "" }, { "..", ".." }, { "../a", "../a" },
		{ "a/../../b", "../b" }, { "../../a/..", "../.." }, { "./a", "a" },
		{ "...", "..." }, { "/.a/..b", "/.a/..b" },
	};
	char room[64];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(file_normalize(cases[i][0], room, sizeof(room)), 0);
		assert_string_equal(room, cases[i][1]);
	}
	assert_int_equal(file_normalize("/abc", room, 5), 0);
	assert_string_equal(room, "/abc");
	assert_int_equal(file_normalize("/abc", room, 4), -ENAMETOOLONG);
	assert_int_equal(file_normalize("abc", room, 4), 0);
	assert_int_equal(file_normalize("abcd", room, 4), -ENAMETOOLONG);
	assert_int_equal(file_normalize("/", room, 2), 0);
	assert_int_equal(file_normalize("/", room, 1), -ENAMETOOLONG);
	assert_int_equal(file_normalize("abcdefgh/../x", room, 4), 0);
	assert_string_equal(room, "x");
	assert_int_equal(file_normalize("../..", room, 5), -ENAMETOOLONG);
}

static void a_look_that_never_waits(void **state)
{
	struct file_stamp a, b;

	(void)state;
	put("f", "1");
	assert_int_equal(symlink("f", in("link")), 0);
	assert_int_equal(file_stamp_take(in("f"), &a), 0);
	assert_int_equal(file_stamp_peek(in("f"), &b), 0);
	assert_true(file_stamp_equal(&a, &b));
	put("f", "22");
	assert_int_equal(file_stamp_peek(in("f"), &b), 0);
	assert_true(b.exists && b.size == 2);
	assert_false(file_stamp_equal(&a, &b));
	/* What the kernel does not know by heart may be anything. */
	int r = file_stamp_peek(in("link"), &b);
	assert_true(r == -EAGAIN || (r == 0 && b.size == 2));
	(void)file_stamp_take(in("none"), &a);
	r = file_stamp_peek(in("none"), &b);
	assert_true(r == -EAGAIN || (r == 0 && !b.exists));
	assert_int_equal(file_set_own_mountpoint(NULL), 0);
}

static void far_times(void **state)
{
	struct file_stamp a, b;
	struct timespec t[2] = { { .tv_sec = INT64_C(13569465600) }, { .tv_sec = INT64_C(13569465600) } };

	(void)state;
	put("f", "1");
	assert_int_equal(utimensat(AT_FDCWD, in("f"), t, 0), 0);
	assert_int_equal(file_stamp_take(in("f"), &a), 0);
	assert_true(a.mtime_ns > INT64_C(1700000000000000000));
	t[0].tv_sec = t[1].tv_sec = -INT64_C(315619200);
	assert_int_equal(utimensat(AT_FDCWD, in("f"), t, 0), 0);
	assert_int_equal(file_stamp_take(in("f"), &b), 0);
	assert_true(b.mtime_ns < 0 && !file_stamp_equal(&a, &b));
	a = (struct file_stamp){ .exists = true, .ctime_ns = INT64_MIN };
	assert_false(file_stamp_is_young(&a, clock_real_ns()));
	a.ctime_ns = INT64_MAX;
	assert_false(file_stamp_is_young(&a, INT64_MIN));
}

static void mounts_by_name(void **state)
{
	(void)state;
	assert_true(file_mount_is_local("/proc/self/status"));
	assert_true(file_mount_is_local("/sys/none/./../kernel"));
	assert_false(file_mount_is_local("relative"));
	int fd = open(dir, O_PATH | O_CLOEXEC);
	assert_int_equal(file_mount_is_local(in("none/below")), file_is_local(fd));
	close(fd);
}

struct permitted {
	char seen[PATH_MAX];
	const char *only;
	const char *swap_to; /* what the link is made to lead to meanwhile */
};

static int permit(const char *real, void *arg)
{
	struct permitted *p = arg;

	strcpy(p->seen, real);
	if (p->swap_to) {
		unlink(in("link"));
		assert_int_equal(symlink(p->swap_to, in("link")), 0);
	}
	return strcmp(real, p->only) == 0 ? 0 : -EACCES;
}

static int read_it(const char *name, struct permitted *p, char *ret)
{
	struct error e = ERROR_INIT;
	struct buf b;

	buf_init(&b, 100);
	int r = file_read_permitted(in(name), permit, p, &b, NULL, &e);
	assert_int_equal(e.code, 0);
	snprintf(ret, 100, "%s", b.len ? b.data : "");
	buf_free(&b);
	return r;
}

/* What is judged is what is read, whatever the path leads to by then. */
static void only_what_is_permitted(void **state)
{
	char inside[512], text[100], real[PATH_MAX];
	struct permitted p = { .only = inside };

	(void)state;
	put("inside", "good");
	put("outside", "secret");
	snprintf(inside, sizeof(inside), "%s", in("inside"));
	assert_int_equal(symlink("inside", in("link")), 0);
	assert_int_equal(read_it("link", &p, text), 0);
	assert_string_equal(p.seen, inside);
	assert_string_equal(text, "good");
	p.swap_to = "outside";
	assert_int_equal(read_it("link", &p, text), 0);
	assert_string_equal(text, "good");
	p.swap_to = "inside";
	assert_int_equal(read_it("link", &p, text), -EACCES);
	assert_string_equal(text, "");
	/* Replaced while it is open: its last name counts. */
	int fd = open(inside, O_RDONLY | O_CLOEXEC);
	put("new", "2");
	assert_int_equal(rename(in("new"), inside), 0);
	assert_int_equal(file_real_path(fd, real), 0);
	assert_string_equal(real, inside);
	close(fd);
	/* A name that only looks like that. */
	put("inside (deleted)", "secret");
	p.swap_to = NULL;
	assert_int_equal(read_it("inside (deleted)", &p, text), -EACCES);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(stamps_tell_changes),
		TEST(youth),
		TEST(reads_whole_files),
		TEST(reads_descriptors),
		TEST(refuses_what_is_no_file),
		TEST(refuses_the_own_mount),
		TEST(knows_local_file_systems),
		TEST(notices_changes_while_reading),
		TEST(normalizes),
		TEST(a_look_that_never_waits),
		TEST(far_times),
		TEST(mounts_by_name),
		TEST(only_what_is_permitted),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
