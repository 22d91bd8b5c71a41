/*
 * The sandbox: what a process that has entered it can still do, and what not. Each is tried in a child.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/loop.h"
#include "base/pool.h"
#include "base/secmem.h"
#include "daemon/sandbox.h"

#if defined(WITH_SANITIZERS) || defined(WITH_COVERAGE)
enum { HAS_SECCOMP = 0 };
#else
enum { HAS_SECCOMP = 1 };
#endif

static char top[] = "/tmp/sandbox-t.XXXXXX";
static struct sandbox sandbox;

/* ---- the files ---- */

static const char *at(const char *name)
{
	static char paths[4][PATH_MAX];
	static unsigned n;
	char *path = paths[n++ % 4];

	snprintf(path, PATH_MAX, "%s/%s", top, name);
	return path;
}

static void put(const char *name)
{
	int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "x", 1), 1);
	close(fd);
}

static int copy(const char *text, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));

	close(fd);
	return n == (ssize_t)strlen(text) ? 0 : -1;
}

static int set_up(void **state)
{
	(void)state;
	if (!mkdtemp(top))
		return -1;
	for (const char *const *d = (const char *const[]){ "in", "in/v1", "in/v2", "out", "deep", "deep/a", "rel",
	                                                   "rel/1", "rel/2", NULL }; *d; d++)
		if (mkdir(at(*d), 0755) != 0)
			return -1;
	put("in/file");
	put("in/v1/k");
	put("in/v2/k");
	put("out/file");
	put("deep/a/file");
	put("rel/1/k");
	put("rel/2/k");
	return symlink("v1", at("in/..data")) || symlink("rel/1", at("current")) ||
	       symlink(at("in"), at("out/abs")) || symlink("loop", at("out/loop"));
}

static int tear_down(void **state)
{
	char command[PATH_MAX];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", top);
	return system(command);
}

/* ---- a child in a sandbox ---- */

static int reads(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

/* Enters it with what is allowed so far; ends the child where that can't be. */
static void enter(void)
{
	struct error err = ERROR_INIT;

	if (sandbox_drop_capabilities(&sandbox) != 0 || secmem_harden_process() != 0 ||
	    sandbox_enter(&sandbox, false, &err) != 0)
		_exit(100);
}

/* What run returns, or 1000 and the signal that killed the child. */
static int in_child(int (*run)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		sandbox_init(&sandbox);
		_exit(run());
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Valgrind knows neither call, a machine may lack Landlock, and some builds go without. */
static bool lacking(bool files)
{
	const char *why = NULL;

	if (getenv("CONNECTFS_TEST_VALGRIND"))
		why = "not under valgrind";
	else if (!files && !HAS_SECCOMP)
		why = "this build has no seccomp";
	else if (files && syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 0)
		why = "this kernel has no Landlock";
#ifdef WITH_COVERAGE
	why = "this build counts lines";
#endif
	if (why)
		print_message("# SKIP: %s\n", why);
	return why;
}

/* ---- files ---- */

#define CHECK(condition) do { \
	if (!(condition)) { \
		fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
		return 1; \
	} \
} while (0)

static int reading(void)
{
	CHECK(sandbox_allow(&sandbox, at("in")) == 0);
	CHECK(sandbox_allow(&sandbox, at("deep/a/file")) == 0);
	CHECK(sandbox_allow(&sandbox, "relative") == 0);
	enter();
	CHECK(sandbox.lacks[SANDBOX_FILES][0] == '\0');
	CHECK(reads(at("in/file")) == 0);
	CHECK(reads(at("in/..data/k")) == 0);
	CHECK(reads(at("out/abs/file")) == 0); /* what counts is where it leads */
	CHECK(reads(at("deep/a/file")) == 0);
	CHECK(reads(at("out/file")) == EACCES);
	CHECK(reads("/etc/passwd") == EACCES);
	CHECK(reads("/") == EACCES);
	CHECK(reads("/proc/self/mountinfo") == 0);
	CHECK(reads("/proc/1/environ") != 0);
	return 0;
}

static void test_reading(void **state)
{
	(void)state;
	if (lacking(true))
		return;
	assert_int_equal(in_child(reading), 0);
}

/* The names are changed meanwhile, by a process outside. */
static int behind_links(void)
{
	int go[2], gone[2];
	char c = 0;

	CHECK(pipe(go) == 0 && pipe(gone) == 0);
	if (fork() == 0) {
		c = read(go[0], &c, 1) == 1 && symlink("v2", at("in/new")) == 0 && rename(at("in/new"), at("in/..data")) == 0 &&
		    symlink("rel/2", at("new")) == 0 && rename(at("new"), at("current")) == 0;
		put("in/tmp");
		c = c && rename(at("in/tmp"), at("in/file")) == 0 && mkdir(at("in/later"), 0755) == 0;
		put("in/later/k");
		_exit(write(gone[1], &c, 1) != 1);
	}
	CHECK(sandbox_allow(&sandbox, at("in/..data/k")) == 0);
	CHECK(sandbox_allow(&sandbox, at("current/k")) == 0);
	enter();
	CHECK(reads(at("current/k")) == 0 && reads(at("in/..data/k")) == 0);
	CHECK(write(go[1], "x", 1) == 1 && read(gone[0], &c, 1) == 1 && c == 1);
	CHECK(reads(at("current/k")) == 0);
	CHECK(reads(at("in/..data/k")) == 0);
	CHECK(reads(at("in/file")) == 0);
	CHECK(reads(at("in/later/k")) == 0);
	CHECK(reads(at("out/file")) == EACCES);
	return 0;
}

static void test_behind_links(void **state)
{
	(void)state;
	if (lacking(true))
		return;
	assert_int_equal(in_child(behind_links), 0);
}

/* What is not there yet: below the nearest directory; never "/". */
static int missing(void)
{
	CHECK(sandbox_allow(&sandbox, at("deep/no/such/file")) == 0);
	CHECK(sandbox_allow(&sandbox, "/no-such-directory-here/file") == 0);
	CHECK(sandbox.n_dirs == 1 && !sandbox.everywhere);
	CHECK(sandbox_allow(&sandbox, at("out/loop")) == 0);
	CHECK(sandbox.n_dirs < 100);
	enter();
	CHECK(reads(at("deep/a/file")) == 0);
	CHECK(reads(at("in/v1/k")) == EACCES);
	CHECK(reads("/etc/passwd") == EACCES);
	return 0;
}

static void test_missing(void **state)
{
	(void)state;
	if (lacking(true))
		return;
	assert_int_equal(in_child(missing), 0);
}

static int own_mount(void)
{
	CHECK(file_set_own_mountpoint(at("out")) == 0);
	CHECK(sandbox_allow(&sandbox, at("out/file")) == 0);
	CHECK(sandbox.n_dirs == 0);
	return 0;
}

static void test_own_mount(void **state)
{
	(void)state;
	if (lacking(true))
		return;
	assert_int_equal(in_child(own_mount), 0);
}

static int everywhere(void)
{
	CHECK(sandbox_allow(&sandbox, "/") == 0);
	enter();
	CHECK(strcmp(sandbox.lacks[SANDBOX_FILES], "not confined, set allowed.paths") == 0);
	CHECK(sandbox.causes[SANDBOX_FILES] == SANDBOX_SETTINGS);
	CHECK(reads(at("out/file")) == 0);
	CHECK(reads("/etc/passwd") == 0);
	return 0;
}

static void test_everywhere(void **state)
{
	(void)state;
	if (lacking(true))
		return;
	assert_int_equal(in_child(everywhere), 0);
}

/* ---- what the worker does all the time ---- */

static struct loop *the_loop;
static int pool_result;

static int pool_work(void *arg)
{
	struct buf text;
	int r;

	buf_init_secret(&text, 4096);
	r = file_read_all(arg, &text, NULL, NULL);
	buf_free(&text);
	return r;
}

static void pool_free_arg(void *arg)
{
	(void)arg;
}

static void pool_done(int result, void *arg)
{
	(void)arg;
	pool_result = result;
	loop_stop(the_loop);
}

static int living(void)
{
	char path[PATH_MAX];
	struct rlimit limit;
	struct pool *pool;

	CHECK(sandbox_allow(&sandbox, at("in")) == 0);
	CHECK(loop_new(&the_loop) == 0 && pool_new(the_loop, &pool) == 0);
	enter();
	CHECK(sandbox.lacks[SANDBOX_CAPABILITIES][0] == '\0' && sandbox.lacks[SANDBOX_NO_NEW_PRIVS][0] == '\0');
	CHECK(sandbox.lacks[SANDBOX_NOT_DUMPABLE][0] == '\0' && sandbox.lacks[SANDBOX_NETWORK][0] == '\0');
	snprintf(path, sizeof(path), "%s", at("in/file"));
	pool_result = 1;
	CHECK(pool_submit(pool, pool_work, pool_done, pool_free_arg, path, 10000, path, POOL_UNKNOWN));
	CHECK(loop_run(the_loop) == 0);
	CHECK(pool_result == 0);
	pool_free(pool);
	loop_free(the_loop);
	free(malloc(1 << 24));
	secmem_free(secmem_alloc(1 << 20));
	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	return 0;
}

static void test_living(void **state)
{
	(void)state;
	if (lacking(true))
		return;
	assert_int_equal(in_child(living), 0);
}

/* ---- the network ---- */

static int listener(struct sockaddr_in *ret)
{
	socklen_t len = sizeof(*ret);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*ret = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	return bind(fd, (struct sockaddr *)ret, len) == 0 && listen(fd, 1) == 0 &&
	       getsockname(fd, (struct sockaddr *)ret, &len) == 0 ? fd : -1;
}

/* What is connected to; 0 or an errno. */
static int connects(const struct sockaddr_in *to)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), err = 0;

	if (fd < 0)
		return errno;
	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)) != 0)
		err = errno;
	close(fd);
	return err;
}

static int listens_at_path(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	return bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, 1) == 0 ? fd : -1;
}

static int connects_to_path(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), err;

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	err = connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 ? 0 : errno;
	close(fd);
	return err;
}

/* A worker whose provider makes connections: names and connections, and of /etc no more than that takes. */
static int connected(void)
{
	struct sockaddr_in at_peer;
	struct addrinfo *found = NULL;
	int peer = listener(&at_peer), server;

	CHECK(peer >= 0 && listens_at_path(at("socket")) >= 0);
	CHECK(sandbox_allow_network(&sandbox) == 0);
	enter();
	CHECK(connects(&at_peer) == 0);
	CHECK(getaddrinfo("localhost", "80", NULL, &found) == 0 && found);
	freeaddrinfo(found);
	CHECK(reads("/etc/hosts") == 0);
	CHECK(reads("/etc/passwd") == EACCES);
	CHECK(reads("/etc/shadow") == EACCES);
	CHECK(reads("/etc") == EACCES && reads("/etc/ssl/openssl.cnf") != 0);
	CHECK(!sandbox_is_outdated(&sandbox));
	CHECK(connects_to_path(at("socket")) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, (int[2]){ 0 }) == 0);
	CHECK(if_nametoindex("lo") == 1);
	CHECK(strcmp(sandbox.lacks[SANDBOX_NETWORK], "a provider makes connections") == 0);
	CHECK(SANDBOX_PARTS == 6 && sandbox.lacks[SANDBOX_FILES][0] == '\0');
	CHECK(sandbox_require(&sandbox, NULL) == 0 || !HAS_SECCOMP);
	/* it serves nobody */
	if (HAS_SECCOMP) {
		server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		listen(server, 1);
	}
	return 0;
}

/* Packets, raw and of other families: for nobody. */
static int raw_socket(void)
{
	CHECK(sandbox_allow_network(&sandbox) == 0);
	enter();
	return socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) < 0;
}

static int packet_socket(void)
{
	CHECK(sandbox_allow_network(&sandbox) == 0);
	enter();
	return socket(AF_PACKET, SOCK_DGRAM, 0) < 0;
}

static int other_netlink(void)
{
	CHECK(sandbox_allow_network(&sandbox) == 0);
	enter();
	return socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER) < 0;
}

/* TCP is not bound: there is nobody to be served. Of kernels that know how to withhold that. */
static int binding(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1);
	int fd;

	CHECK(sandbox_allow_network(&sandbox) == 0);
	enter();
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(fd >= 0);
	CHECK((bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0) == (abi < 4));
	return 0;
}

static void test_no_more_than_connected(void **state)
{
	int (*const tries[])(void) = { raw_socket, packet_socket, other_netlink };

	(void)state;
	if (lacking(true))
		return;
	assert_int_equal(in_child(binding), 0);
	for (size_t i = 0; HAS_SECCOMP && i < sizeof(tries) / sizeof(tries[0]); i++)
		assert_int_equal(in_child(tries[i]), 1000 + SIGSYS);
}

/* In a namespace of its own, /etc being a file system of the test's. 77: there can be none. What it is: a file that is
 * replaced, or a link; the first is lost by a rename, the second not; and what lies beside is not given away. */
static int with_etc(bool link)
{
	char file[PATH_MAX];

	if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("etc", "/etc", "tmpfs", 0, "mode=755") != 0)
		return 77;
	snprintf(file, sizeof(file), "%s", link ? at("in/resolv") : "/etc/resolv.real");
	CHECK(copy("nameserver 127.0.0.1\n", file) == 0 && copy("x", "/etc/shadow") == 0);
	CHECK(copy("hosts: files\n", "/etc/nsswitch.conf") == 0 && copy("127.0.0.1 localhost\n", "/etc/hosts") == 0);
	CHECK(symlink(file, "/etc/resolv.conf") == 0);
	return 0;
}

static int renamed_over(bool link)
{
	int go[2], gone[2], err = with_etc(link);
	char file[PATH_MAX], beside[PATH_MAX + 8], c = 0;

	if (err)
		return err;
	snprintf(file, sizeof(file), "%s", link ? at("in/resolv") : "/etc/resolv.real");
	snprintf(beside, sizeof(beside), "%s.new", file);
	CHECK(pipe(go) == 0 && pipe(gone) == 0);
	if (fork() == 0) {
		c = read(go[0], &c, 1) == 1 && copy("nameserver 127.0.0.2\n", beside) == 0 && rename(beside, file) == 0;
		_exit(write(gone[1], &c, 1) != 1);
	}
	CHECK(sandbox_allow_network(&sandbox) == 0);
	enter();
	CHECK(reads("/etc/resolv.conf") == 0 && reads("/etc/shadow") == EACCES && !sandbox_is_outdated(&sandbox));
	CHECK(write(go[1], "x", 1) == 1 && read(gone[0], &c, 1) == 1 && c == 1);
	CHECK(sandbox_is_outdated(&sandbox) == !link);
	CHECK((reads("/etc/resolv.conf") == 0) == link && reads("/etc/shadow") == EACCES);
	return 0;
}

static int renamed_file(void)
{
	return renamed_over(false);
}

static int renamed_elsewhere(void)
{
	return renamed_over(true);
}

static void test_outdated(void **state)
{
	int r;

	(void)state;
	if (lacking(true))
		return;
	r = in_child(renamed_file);
	if (r == 77) {
		print_message("# SKIP: no mount namespace can be had\n");
		return;
	}
	assert_int_equal(r, 0);
	assert_int_equal(in_child(renamed_elsewhere), 0);
}

static void test_connected(void **state)
{
	(void)state;
	if (lacking(true))
		return;
	assert_int_equal(in_child(connected), HAS_SECCOMP ? 1000 + SIGSYS : 0);
}

static int not_connected(void)
{
	enter();
	return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) < 0;
}

static void test_not_connected(void **state)
{
	(void)state;
	if (lacking(false))
		return;
	assert_int_equal(in_child(not_connected), 1000 + SIGSYS);
}

static void *wait_for_ever(void *arg)
{
	for (;;)
		sleep(1);
	return arg;
}

/* As libfuse does at its end, for which libc loads a library. */
static int cancelling(void)
{
	pthread_t thread;

	enter();
	CHECK(pthread_create(&thread, NULL, wait_for_ever, NULL) == 0);
	CHECK(pthread_cancel(thread) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	return 0;
}

static void test_cancelling(void **state)
{
	(void)state;
	if (lacking(true))
		return;
	assert_int_equal(in_child(cancelling), 0);
}

/* ---- what kills ---- */

static int writing(void)
{
	enter();
	return open(at("in/file"), O_WRONLY) < 0 && errno == EACCES ? 0 : 1;
}

static int making(void)
{
	enter();
	return open(at("in/made"), O_RDONLY | O_CREAT, 0600) < 0 && errno == EACCES ? 0 : 1;
}

static int forking(void)
{
	enter();
	return fork() < 0;
}

static int executing(void)
{
	enter();
	execl("/bin/true", "true", NULL);
	return errno == EACCES ? 0 : 1;
}

static int connecting(void)
{
	enter();
	return socket(AF_INET, SOCK_STREAM, 0) < 0;
}

static int setting_limits(void)
{
	const struct rlimit limit = { 10, 10 };

	enter();
	return setrlimit(RLIMIT_NOFILE, &limit) < 0;
}

static int killing(void)
{
	enter();
	return kill(getppid(), 0) < 0;
}

static void test_killed(void **state)
{
	int (*const tries[])(void) = { writing, making, forking, executing, connecting, setting_limits, killing };

	(void)state;
	if (lacking(false))
		return;
	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++)
		assert_int_equal(in_child(tries[i]), 1000 + SIGSYS);
	assert_int_equal(access(at("in/made"), F_OK), -1);
}

/* Where the build has no seccomp Landlock alone must hold. */
static void test_landlock_alone(void **state)
{
	int (*const tries[])(void) = { writing, making, executing };

	(void)state;
	if (lacking(true) || HAS_SECCOMP)
		return;
	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++)
		assert_int_equal(in_child(tries[i]), 0);
}

/* ---- the notifier ---- */

static int notifying(void)
{
	const struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = 2 } };
	struct error err = ERROR_INIT;
	int dir;

	CHECK(secmem_harden_process() == 0 && sandbox_enter_notifier(&sandbox) == 0);
	for (int i = 0; i < SANDBOX_PARTS; i++)
		CHECK(!HAS_SECCOMP || sandbox.lacks[i][0] == '\0');
	CHECK(sandbox.lacks[SANDBOX_CAPABILITIES][0] == '\0' && sandbox.lacks[SANDBOX_NO_NEW_PRIVS][0] == '\0');
	CHECK(sandbox.lacks[SANDBOX_NOT_DUMPABLE][0] == '\0');
	CHECK(HAS_SECCOMP || strncmp(sandbox.lacks[SANDBOX_SECCOMP], "this build ", 11) == 0);
	CHECK(sandbox_require(&sandbox, &err) == (HAS_SECCOMP ? 0 : -ENOTSUP));
	dir = open(at("in"), O_PATH | O_DIRECTORY | O_CLOEXEC);
	CHECK(dir >= 0);
	CHECK(utimensat(dir, "file", times, AT_SYMLINK_NOFOLLOW) == 0);
	CHECK(mknodat(dir, "node", S_IFREG | 0400, 0) == 0);
	CHECK(unlinkat(dir, "node", 0) == 0);
	return 0;
}

static int notifier_reading(void)
{
	CHECK(sandbox_enter_notifier(&sandbox) == 0);
	return reads(at("in/file"));
}

/* Dumpable: nothing has made it otherwise. */
static int notifier_lacking(void)
{
	struct error err = ERROR_INIT;

	CHECK(sandbox_enter_notifier(&sandbox) == 0);
	CHECK(sandbox_require(&sandbox, &err) == -ENOTSUP);
	CHECK(strstr(err.text, "not_dumpable: "));
	CHECK(!HAS_SECCOMP || strcmp(err.text, "not all protections can be had: not_dumpable: not entered") == 0);
	return 0;
}

static int notifier_making(void)
{
	CHECK(sandbox_enter_notifier(&sandbox) == 0);
	return mkdir(at("in/dir"), 0700);
}

static int notifier_fifo(void)
{
	CHECK(sandbox_enter_notifier(&sandbox) == 0);
	return mknod(at("in/fifo"), S_IFIFO | 0600, 0);
}

static void test_notifier(void **state)
{
	struct stat st;

	(void)state;
	if (lacking(true))
		return;
	assert_int_equal(in_child(notifying), 0);
	assert_int_equal(stat(at("in/file"), &st), 0);
	assert_int_equal(st.st_mtime, 2);
	assert_int_equal(in_child(notifier_lacking), 0);
	if (!HAS_SECCOMP)
		return;
	assert_int_equal(in_child(notifier_reading), 1000 + SIGSYS);
	assert_int_equal(in_child(notifier_making), 1000 + SIGSYS);
	assert_int_equal(in_child(notifier_fifo), 1000 + SIGSYS);
}

/* ---- require ---- */

static int requiring(void)
{
	struct error err = ERROR_INIT;

	CHECK(sandbox_drop_capabilities(&sandbox) == 0 && secmem_harden_process() == 0);
	if (sandbox_enter(&sandbox, true, &err) == 0)
		return HAS_SECCOMP ? 0 : 1;
	CHECK(!HAS_SECCOMP && err.code == ENOTSUP);
	CHECK(strncmp(err.text, "not all protections can be had: seccomp: this build ", 52) == 0);
	return 0;
}

/* Something that should hold and does not. */
static int requiring_more(void)
{
	struct error err = ERROR_INIT;

	CHECK(sandbox_enter(&sandbox, true, &err) == -ENOTSUP);
	CHECK(strstr(err.text, "capabilities: not entered") && strstr(err.text, "not_dumpable: not entered"));
	return 0;
}

static void test_require(void **state)
{
	(void)state;
	if (lacking(true))
		return;
	assert_int_equal(in_child(requiring), 0);
	assert_int_equal(in_child(requiring_more), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reading),
		cmocka_unit_test(test_behind_links),
		cmocka_unit_test(test_missing),
		cmocka_unit_test(test_own_mount),
		cmocka_unit_test(test_everywhere),
		cmocka_unit_test(test_living), cmocka_unit_test(test_connected),
		cmocka_unit_test(test_no_more_than_connected),
		cmocka_unit_test(test_outdated),
		cmocka_unit_test(test_not_connected),
		cmocka_unit_test(test_cancelling),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_landlock_alone),
		cmocka_unit_test(test_notifier),
		cmocka_unit_test(test_require),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
