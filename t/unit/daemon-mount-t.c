/*
 * Mount points: canonical names, mountinfo, the lock. Mounts themselves are tested by t/sys.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/mount.h"

static const char mountinfo[] =
	"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
	"23 22 0:5 / /proc rw - proc proc rw\n"
	"40 22 0:38 / /mnt/a rw,nosuid,nodev,relatime shared:2 master:3 - fuse.connectfs /etc/my\\040conf "
	"rw,user_id=1000,group_id=7,default_permissions,allow_other\n"
	"41 22 0:39 / /mnt/sp\\040ace\\011tab\\134 rw - fuse.connectfs src rw,user_id=0,group_id=0\n"
	"42 22 0:40 / /mnt/b rw - fuse.sshfs host: rw,user_id=5\n"
	"43 42 0:41 / /mnt/b rw - tmpfs tmpfs rw\n"
	"44 22 0:42 / /mnt/c rw - tmpfs tmpfs rw\n"
	"45 44 0:43 / /mnt/c rw - fuse.connectfs  rw,group_id=1\n"
	"46 22 0:44 / /mnt/d rw - fuse x\n"
	"47 22 0:45 / /mnt/short\n"
	"48 22 nonsense / /mnt/e rw - fuse.connectfs x rw\n"
	"\n"
	"49 22 0:46 / /mnt/f rw - fuse.connectfsx x rw,xuser_id=3,user_id=4\n"
	"50 22 0:47 / /mnt/last rw - fuse.connectfs x rw";

static struct mount_entry find(const char *path)
{
	struct mount_entry e;
	FILE *in = fmemopen((void *)(uintptr_t)mountinfo, sizeof(mountinfo) - 1, "r");

	assert_non_null(in);
	assert_int_equal(mount_find_in(in, path, &e), 0);
	fclose(in);
	return e;
}

static void test_find(void **state)
{
	struct mount_entry e = find("/mnt/a");

	(void)state;
	assert_true(e.found && e.ours && e.fuse);
	assert_int_equal(e.major, 0);
	assert_int_equal(e.minor, 38);
	assert_int_equal(e.user, 1000);
	assert_string_equal(e.source, "/etc/my conf");
	free(e.source);
	e = find("/mnt/sp ace\ttab\\");
	assert_true(e.found && e.ours);
	assert_int_equal(e.minor, 39);
	free(e.source);
	e = find("/mnt/last");
	assert_true(e.found && e.ours);
	assert_int_equal(e.user, (uid_t)-1);
	free(e.source);
}

static void test_topmost(void **state)
{
	struct mount_entry e = find("/mnt/b");

	(void)state;
	assert_true(e.found && !e.ours && !e.fuse);
	assert_string_equal(e.source, "tmpfs");
	free(e.source);
	e = find("/mnt/c");
	assert_true(e.found && e.ours);
	assert_string_equal(e.source, "");
	free(e.source);
}

static void test_others(void **state)
{
	static const char *const none[] = { "/mnt", "/mnt/a/", "/mnt/short", "/mnt/e", "/mnt/sp", "" };
	struct mount_entry e;

	(void)state;
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		e = find(none[i]);
		assert_false(e.found || e.ours || e.fuse);
		assert_null(e.source);
	}
	e = find("/mnt/d");
	assert_true(e.found && e.fuse && !e.ours);
	free(e.source);
	e = find("/mnt/f");
	assert_true(e.found && e.fuse && !e.ours);
	assert_int_equal(e.user, 4);
	free(e.source);
}

static void test_find_proc(void **state)
{
	struct mount_entry e;

	(void)state;
	assert_int_equal(mount_find("/proc", &e), 0);
	assert_true(e.found && !e.fuse);
	free(e.source);
}

/* ---- Canonical ------------------------------------------------------------------------- */

static char dir[] = "/tmp/daemon-mount-XXXXXX";

static int make_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) && chdir(dir) == 0 && mkdir("real", 0700) == 0 && mkdir("real/m", 0700) == 0 &&
	       symlink("real", "link") == 0 && symlink("real/m", "mlink") == 0 &&
	       symlink("../link/m", "real/back") == 0 && symlink("loop2", "loop1") == 0 &&
	       symlink("loop1", "loop2") == 0 && symlink("nowhere", "dangling") == 0 ? 0 : -1;
}

static int remove_dir(void **state)
{
	static const char *const files[] = { "link", "mlink", "real/back", "loop1", "loop2", "dangling" };

	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		unlink(files[i]);
	rmdir("real/m");
	rmdir("real");
	return chdir("/") || rmdir(dir);
}

static void expect(const char *path, const char *below)
{
	char want[PATH_MAX], *got = NULL;
	struct error err = ERROR_INIT;

	snprintf(want, sizeof(want), "%s%s", dir, below);
	assert_int_equal(mount_canonical(path, &got, &err), 0);
	assert_string_equal(got, want);
	free(got);
}

static void test_canonical(void **state)
{
	char absolute[PATH_MAX];

	(void)state;
	expect("real/m", "/real/m");
	expect("real/m///", "/real/m");
	expect("./real/../real/./m/", "/real/m");
	expect("link/m", "/real/m");
	expect("mlink", "/real/m");
	expect("mlink/", "/real/m");
	expect("link/back", "/real/m");
	expect(".", "");
	expect("real/..", "");
	expect("real/m/.", "/real/m");
	expect("new", "/new"); /* it need not exist */
	expect("dangling", "/nowhere");
	snprintf(absolute, sizeof(absolute), "%s//link/m", dir);
	expect(absolute, "/real/m");
}

static void test_canonical_errors(void **state)
{
	struct error err = ERROR_INIT;
	char *got = NULL;

	(void)state;
	assert_int_equal(mount_canonical("", &got, &err), -ENOENT);
	assert_int_equal(mount_canonical("nowhere/m", &got, &err), -ENOENT);
	assert_string_equal(err.text, "mount point nowhere/m: No such file or directory");
	assert_int_equal(mount_canonical("loop1", &got, NULL), -ELOOP);
	assert_int_equal(mount_canonical("loop1/m", &got, NULL), -ELOOP);
	assert_null(got);
	assert_int_equal(mount_canonical("/", &got, NULL), 0);
	assert_string_equal(got, "/");
	free(got);
}

/* ---- The lock -------------------------------------------------------------------------- */

static void test_lock(void **state)
{
	char path[PATH_MAX];
	struct error err = ERROR_INIT;
	int fd = -1, fd2 = -1;
	pid_t pid = 0;

	(void)state;
	snprintf(path, sizeof(path), "%s/real/m", dir);
	assert_int_equal(mount_lock(path, &fd, &pid, &err), 0);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(mount_lock(path, &fd2, &pid, &err), -EBUSY);
	assert_int_equal(pid, getpid());
	assert_non_null(strstr(err.text, "already served"));
	assert_int_equal(fd2, -1);
	mount_unlock(path, fd);
	assert_int_equal(mount_lock(path, &fd, &pid, &err), 0);
	mount_unlock(path, fd);
}

static void test_lock_names(void **state)
{
	static char one[3001], two[3001];
	int fd1, fd2;
	pid_t pid;

	(void)state;
	/* Two long paths that differ at their ends only, and two that a bad encoding would mix up. */
	memset(one, 'a', sizeof(one) - 1);
	one[0] = '/';
	memcpy(two, one, sizeof(two));
	two[2999] = 'b';
	assert_int_equal(mount_lock(one, &fd1, &pid, NULL), 0);
	assert_int_equal(mount_lock(two, &fd2, &pid, NULL), 0);
	mount_unlock(one, fd1);
	mount_unlock(two, fd2);
	assert_int_equal(mount_lock("/no such/x", &fd1, &pid, NULL), 0);
	assert_int_equal(mount_lock("/no such%2Fx", &fd2, &pid, NULL), 0);
	mount_unlock("/no such/x", fd1);
	mount_unlock("/no such%2Fx", fd2);
}

/* Another process holds it, and is killed: the lock is free, the file stays behind. */
static void test_lock_of_the_dead(void **state)
{
	char path[PATH_MAX], byte;
	int fd, ready[2];
	pid_t child, pid = 0;

	(void)state;
	snprintf(path, sizeof(path), "%s/real/m", dir);
	assert_int_equal(pipe(ready), 0);
	child = fork();
	if (child == 0) {
		if (mount_lock(path, &fd, &pid, NULL) != 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_true(child > 0);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(mount_lock(path, &fd, &pid, NULL), -EBUSY);
	assert_int_equal(pid, child);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(mount_lock(path, &fd, &pid, NULL), 0);
	mount_unlock(path, fd);
	close(ready[0]);
	close(ready[1]);
}

/* Processes that lock and unlock (and so remove the file) at the same time never hold it together. */
static void test_lock_race(void **state)
{
	enum { PROCESSES = 4, TIMES = 500 };
	char path[PATH_MAX];
	pid_t children[PROCESSES];
	int status;

	(void)state;
	snprintf(path, sizeof(path), "%s/real/m", dir);
	for (int i = 0; i < PROCESSES; i++) {
		children[i] = fork();
		if (children[i] != 0)
			continue;
		for (int done = 0; done < TIMES;) {
			int fd, token, err;
			pid_t pid;

			err = mount_lock(path, &fd, &pid, NULL);
			if (err == -EBUSY || err == -EAGAIN)
				continue;
			if (err)
				_exit(2);
			token = open("real/token", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
			if (token < 0)
				_exit(3);
			close(token);
			unlink("real/token");
			mount_unlock(path, fd);
			done++;
		}
		_exit(0);
	}
	for (int i = 0; i < PROCESSES; i++) {
		assert_int_equal(waitpid(children[i], &status, 0), children[i]);
		assert_int_equal(status, 0);
	}
}

/* What is told of reloads, in the order in which it comes. */
static void test_lock_notes(void **state)
{
	char path[PATH_MAX];
	struct mount_reloads r;
	pid_t pid;
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/real/m", dir);
	assert_int_equal(mount_lock_read(path, &pid, &r), -ENOENT);
	assert_int_equal(mount_lock(path, &fd, &pid, NULL), 0);
	for (unsigned n = 0; n < 12; n++) {
		char text[32] = "";

		if (n > 0) {
			mount_lock_begun(fd, n);
			assert_int_equal(mount_lock_read(path, &pid, &r), 0);
			assert_int_equal(r.begun, n);
			assert_int_equal(r.ended, n - 1);
			assert_int_equal(r.status, (n - 1) % 3);
			free(r.text);
			snprintf(text, sizeof(text), "%.*s", (int)n, "line one\nline two");
			mount_lock_note(fd, n, (int)n % 3, text);
		}
		assert_int_equal(mount_lock_read(path, &pid, &r), 0);
		assert_int_equal(pid, getpid());
		assert_int_equal(r.begun, n);
		assert_int_equal(r.ended, n);
		assert_int_equal(r.status, (int)n % 3);
		assert_string_equal(r.text, text);
		free(r.text);
		assert_int_equal(mount_lock(path, &(int){ 0 }, &pid, NULL), -EBUSY);
		assert_int_equal(pid, getpid());
	}
	mount_unlock(path, fd);
	assert_int_equal(mount_lock_read(path, &pid, &r), -ENOENT);
}

static void test_close_of_nothing(void **state)
{
	char path[PATH_MAX];

	(void)state;
	snprintf(path, sizeof(path), "%s/real/m", dir);
	assert_int_equal(mount_close(path, false), -EINVAL);
	assert_int_equal(mount_close(path, true), -EINVAL);
	assert_int_equal(mount_remove_dead(path, NULL), 0);
	assert_false(mount_is_at(path, 0, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find), cmocka_unit_test(test_topmost), cmocka_unit_test(test_others),
		cmocka_unit_test(test_find_proc), cmocka_unit_test(test_canonical),
		cmocka_unit_test(test_canonical_errors), cmocka_unit_test(test_lock),
		cmocka_unit_test(test_lock_names), cmocka_unit_test(test_lock_of_the_dead),
		cmocka_unit_test(test_lock_race), cmocka_unit_test(test_lock_notes),
		cmocka_unit_test(test_close_of_nothing),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
