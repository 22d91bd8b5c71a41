/*
 * The notifier's protocol, with a directory of an ordinary file system instead of a mount.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/settings.h"
#include "fs/notifier.h"

struct fixture {
	char dir[64], file[128];
	int socket;
	pid_t pid;
	uint64_t seq;
};

static void put(struct fixture *f, struct notifier_request r, const char *name)
{
	size_t len = offsetof(struct notifier_request, name) + strlen(name) + 1;

	strcpy(r.name, name);
	assert_int_equal(send(f->socket, &r, len, 0), len);
}

/* Sends and returns the answer's err. */
static int ask(struct fixture *f, uint32_t op, const char *name, unsigned events, int64_t mtime_ns)
{
	struct notifier_request r = { .op = op, .seq = ++f->seq, .events = events, .mtime_ns = mtime_ns };
	struct notifier_answer a;

	put(f, r, name);
	assert_int_equal(recv(f->socket, &a, sizeof a, 0), sizeof a);
	assert_int_equal(a.seq, f->seq);
	return a.err;
}

static int confine(struct notifier_greeting *ret)
{
	strcpy(ret->lacks[1], "this is a test");
	return 0;
}

static int fail_to_confine(struct notifier_greeting *ret)
{
	(void)ret;
	return -EPERM;
}

static void start(struct fixture *f, unsigned wrong_device)
{
	struct notifier_request hello = { .op = NOTIFIER_HELLO };
	struct notifier_greeting greeting;
	struct stat st;
	int sv[2], fd;

	*f = (struct fixture){ .seq = 0 };
	strcpy(f->dir, "/tmp/fs-notifier-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->file, sizeof f->file, "%s/orders.properties", f->dir);
	fd = open(f->file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(stat(f->dir, &st), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
	f->pid = fork();
	assert_true(f->pid >= 0);
	if (f->pid == 0)
		_exit(notifier_main(sv[1], getuid(), getgid(), confine));
	close(sv[1]);
	f->socket = sv[0];
	assert_int_equal(recv(f->socket, &greeting, sizeof greeting, 0), sizeof greeting); /* unasked */
	assert_string_equal(greeting.lacks[0], "");
	assert_string_equal(greeting.lacks[1], "this is a test");
	hello.dev_major = major(st.st_dev);
	hello.dev_minor = minor(st.st_dev) + wrong_device;
	put(f, hello, f->dir);
}

static void finish(struct fixture *f)
{
	int status;

	close(f->socket);
	assert_int_equal(waitpid(f->pid, &status, 0), f->pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	unlink(f->file);
	assert_int_equal(rmdir(f->dir), 0);
}

/* The events that have come, or-ed. */
static uint32_t events(int in)
{
	char buf[4096] __attribute__((aligned(8)));
	uint32_t all = 0;
	ssize_t n;

	while ((n = read(in, buf, sizeof buf)) > 0) {
		for (char *p = buf; p < buf + n;) {
			const struct inotify_event *e = (const void *)p;

			all |= e->mask & IN_ALL_EVENTS;
			p += sizeof *e + e->len;
		}
	}
	return all;
}

static void test_touches_make_their_events(void **state)
{
	struct fixture f;
	struct stat st;
	int in = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

	(void)state;
	start(&f, 0);
	assert_true(inotify_add_watch(in, f.file, IN_ALL_EVENTS) >= 0);
	assert_int_equal(ask(&f, NOTIFIER_TOUCH, "orders.properties", NOTIFY_MODIFY, 1500000000000000001), 0);
	assert_int_equal(events(in), IN_MODIFY);
	assert_int_equal(stat(f.file, &st), 0);
	assert_int_equal(st.st_mtim.tv_sec, 1500000000);
	assert_int_equal(st.st_mtim.tv_nsec, 1);
	assert_int_equal(ask(&f, NOTIFIER_TOUCH, "orders.properties", NOTIFY_ATTRIB, 1500000000000000002), 0);
	assert_int_equal(events(in), IN_ATTRIB);
	assert_int_equal(ask(&f, NOTIFIER_TOUCH, "orders.properties", NOTIFY_MODIFY | NOTIFY_ATTRIB, 3), 0);
	assert_int_equal(events(in), IN_MODIFY | IN_ATTRIB);
	assert_int_equal(ask(&f, NOTIFIER_ATTRIB, "orders.properties", NOTIFY_MODIFY, 3), 0);
	assert_int_equal(events(in), IN_ATTRIB);
	close(in);
	finish(&f);
}

static void test_names_come_and_go(void **state)
{
	struct fixture f;
	int in = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

	(void)state;
	start(&f, 0);
	assert_true(inotify_add_watch(in, f.dir, IN_CREATE | IN_DELETE) >= 0);
	assert_int_equal(ask(&f, NOTIFIER_MKNOD, "new.json", 0, 0), 0);
	assert_int_equal(events(in), IN_CREATE);
	assert_int_equal(ask(&f, NOTIFIER_MKNOD, "new.json", 0, 0), -EEXIST);
	assert_int_equal(ask(&f, NOTIFIER_UNLINK, "new.json", 0, 0), 0);
	assert_int_equal(events(in), IN_DELETE);
	assert_int_equal(ask(&f, NOTIFIER_UNLINK, "new.json", 0, 0), -ENOENT);
	assert_int_equal(ask(&f, NOTIFIER_TOUCH, "new.json", NOTIFY_MODIFY, 1), -ENOENT);
	close(in);
	finish(&f);
}

static void test_another_file_system_is_left_alone(void **state)
{
	struct fixture f;
	struct stat before, after;

	(void)state;
	start(&f, 1);
	assert_int_equal(stat(f.file, &before), 0);
	assert_int_equal(ask(&f, NOTIFIER_TOUCH, "orders.properties", NOTIFY_MODIFY, 1), -ESTALE);
	assert_int_equal(ask(&f, NOTIFIER_UNLINK, "orders.properties", 0, 0), -ESTALE);
	assert_int_equal(ask(&f, NOTIFIER_MKNOD, "new.json", 0, 0), -ESTALE);
	assert_int_equal(stat(f.file, &after), 0);
	assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
	finish(&f);
}

static void test_names_stay_inside(void **state)
{
	static const char *const names[] = { "", ".", "..", "../x", "a/b", "/etc/passwd" };
	struct fixture f;

	(void)state;
	start(&f, 0);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		assert_int_equal(ask(&f, NOTIFIER_MKNOD, names[i], 0, 0), -EINVAL);
	assert_int_equal(ask(&f, 99, "orders.properties", 0, 0), -EINVAL);
	finish(&f);
}

static void test_many_are_answered_in_order(void **state)
{
	struct fixture f;
	struct notifier_answer a;

	(void)state;
	start(&f, 0);
	for (uint64_t i = 1; i <= 64; i++) {
		struct notifier_request r = { .op = NOTIFIER_TOUCH, .seq = i, .events = NOTIFY_MODIFY,
			                      .mtime_ns = (int64_t)i };

		put(&f, r, "orders.properties");
	}
	for (uint64_t i = 1; i <= 64; i++) {
		assert_int_equal(recv(f.socket, &a, sizeof a, 0), sizeof a);
		assert_int_equal(a.seq, i);
		assert_int_equal(a.err, 0);
	}
	finish(&f);
}

static void test_ends_where_it_cannot_be_confined(void **state)
{
	char c;
	int sv[2], status;
	pid_t pid;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(notifier_main(sv[1], getuid(), getgid(), fail_to_confine));
	close(sv[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 0);
	assert_int_equal(recv(sv[0], &c, 1, 0), 0); /* without a word */
	close(sv[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_touches_make_their_events),
		cmocka_unit_test(test_names_come_and_go),
		cmocka_unit_test(test_another_file_system_is_left_alone),
		cmocka_unit_test(test_names_stay_inside),
		cmocka_unit_test(test_many_are_answered_in_order),
		cmocka_unit_test(test_ends_where_it_cannot_be_confined),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
