/*
 * The service manager, played by a socket of ours.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/service.h"

static char dir[] = "/tmp/connectfs-service-XXXXXX";
static char path[64], text[4096];
static int manager = -1;

/* name: a path, or "@" and an abstract name. */
static void listen_at(const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));

	if (manager >= 0)
		close(manager);
	manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	memcpy(address.sun_path, name, strlen(name));
	if (*name == '@')
		address.sun_path[0] = '\0';
	else
		unlink(name);
	assert_int_equal(bind(manager, (struct sockaddr *)&address, len), 0);
	setenv("NOTIFY_SOCKET", name, 1);
}

/* The next message, and the descriptor that came with it (-1: none). "" when there is none. */
static const char *heard(int *ret_fd)
{
	char room[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { text, sizeof(text) - 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room) };
	ssize_t n = recvmsg(manager, &m, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m);

	text[n > 0 ? n : 0] = '\0';
	if (ret_fd) {
		*ret_fd = -1;
		if (c)
			memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
	}
	return text;
}

static int setup(void **state)
{
	(void)state;
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	listen_at(path);
	return 0;
}

static void says_how_it_stands(void **state)
{
	struct service s;
	char want[128];
	struct timespec now;

	(void)state;
	service_init(&s, true);
	assert_null(getenv("NOTIFY_SOCKET"));
	assert_int_equal(service_ready(&s, "serving %s", "/m\nREADY=0"), 0);
	snprintf(want, sizeof(want), "READY=1\nMAINPID=%d\nSTATUS=serving /m?READY=0\n", (int)getpid());
	assert_string_equal(heard(NULL), want);
	assert_int_equal(service_status(&s, "%s", "so so"), 0);
	assert_string_equal(heard(NULL), "STATUS=so so\n");
	assert_int_equal(service_reloading(&s), 0);
	heard(NULL);
	assert_memory_equal(text, "RELOADING=1\nMONOTONIC_USEC=", 27);
	clock_gettime(CLOCK_MONOTONIC, &now);
	assert_in_range(strtoull(text + 27, NULL, 10), ((uint64_t)now.tv_sec - 60) * 1000000,
	                ((uint64_t)now.tv_sec + 1) * 1000000);
	assert_int_equal(service_stopping(&s), 0);
	assert_string_equal(heard(NULL), "STOPPING=1\nSTATUS=stopping\n");
	assert_int_equal(service_watchdog(&s, INT64_MAX), 0); /* none is wanted */
	assert_string_equal(heard(NULL), "");
	service_done(&s);
	service_done(&s);
}

static void keeps_descriptors(void **state)
{
	struct service s;
	struct stat mine, theirs;
	int fd;

	(void)state;
	service_init(&s, true);
	assert_int_equal(service_keep_fd(&s, "fuse", manager), 0);
	assert_string_equal(heard(&fd), "FDSTORE=1\nFDNAME=fuse\nFDPOLL=0\n");
	assert_true(fd >= 0);
	assert_int_equal(fstat(manager, &mine) | fstat(fd, &theirs), 0);
	assert_int_equal(mine.st_ino, theirs.st_ino);
	close(fd);
	assert_int_equal(service_drop_fd(&s, "fuse"), 0);
	assert_string_equal(heard(&fd), "FDSTOREREMOVE=1\nFDNAME=fuse\n");
	assert_int_equal(fd, -1);
	service_done(&s);
}

static void the_watchdog_hears_twice_in_its_time(void **state)
{
	struct service s;
	char pid[16];
	int64_t now;

	(void)state;
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("WATCHDOG_USEC", "30000000", 1);
	setenv("WATCHDOG_PID", pid, 1);
	service_init(&s, true);
	assert_null(getenv("WATCHDOG_USEC"));
	assert_null(getenv("WATCHDOG_PID"));
	assert_int_equal(s.watchdog_ms, 15000);
	now = clock_mono_ms();
	assert_in_range(s.next_ms, now - 1000, now); /* at once */
	assert_int_equal(service_watchdog(&s, now), 0);
	assert_string_equal(heard(NULL), "WATCHDOG=1\n");
	assert_int_equal(service_watchdog(&s, now + 14999), 0);
	assert_string_equal(heard(NULL), "");
	assert_int_equal(s.next_ms, now + 15000);
	assert_int_equal(service_watchdog(&s, now + 15000), 0);
	assert_string_equal(heard(NULL), "WATCHDOG=1\n");
	service_done(&s);
}

static void a_watchdog_of_others_is_not_ours(void **state)
{
	static const char *const bad[][2] = {
		{ "30000000", "1" }, { "0", NULL }, { "", NULL }, { "-5", NULL }, { "12x", NULL },
		{ "99999999999999999999999", NULL },
	};
	struct service s;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		setenv("NOTIFY_SOCKET", path, 1);
		setenv("WATCHDOG_USEC", bad[i][0], 1);
		if (bad[i][1])
			setenv("WATCHDOG_PID", bad[i][1], 1);
		service_init(&s, true);
		assert_true(s.fd >= 0);
		assert_int_equal(s.watchdog_ms, 0);
		service_done(&s);
	}
}

static void an_abstract_name_will_do(void **state)
{
	char name[64];
	struct service s;

	(void)state;
	snprintf(name, sizeof(name), "@connectfs-test-%d", (int)getpid());
	listen_at(name);
	service_init(&s, true);
	service_status(&s, "x");
	assert_string_equal(heard(NULL), "STATUS=x\n");
	service_done(&s);
}

static void comes_back_for_an_exec(void **state)
{
	static const char *const names[] = { NULL, "@connectfs-test" };
	struct service s;
	char pid[16];

	(void)state;
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	for (size_t i = 0; i < 2; i++) {
		const char *name = names[i] ? names[i] : path;

		setenv("NOTIFY_SOCKET", name, 1);
		setenv("WATCHDOG_USEC", "3000000", 1);
		service_init(&s, true);
		assert_null(getenv("NOTIFY_SOCKET"));
		assert_int_equal(service_environment(&s), 0);
		assert_string_equal(getenv("NOTIFY_SOCKET"), name);
		assert_string_equal(getenv("WATCHDOG_USEC"), "3000000");
		assert_string_equal(getenv("WATCHDOG_PID"), pid);
		service_done(&s);
	}
}

static void without_a_manager_nothing_happens(void **state)
{
	static const char *const none[] = { NULL, "", "@", "/", "relative", "vsock:2:1234" };
	char longer[200];
	struct service s;

	(void)state;
	memset(longer, 'x', sizeof(longer));
	longer[0] = '/';
	longer[sizeof(longer) - 1] = '\0';
	for (size_t i = 0; i <= sizeof(none) / sizeof(none[0]); i++) {
		const char *name = i < sizeof(none) / sizeof(none[0]) ? none[i] : longer;

		if (name)
			setenv("NOTIFY_SOCKET", name, 1);
		else
			unsetenv("NOTIFY_SOCKET");
		setenv("WATCHDOG_USEC", "3000000", 1);
		service_init(&s, true);
		assert_int_equal(s.fd, -1);
		assert_int_equal(s.watchdog_ms, 0);
		assert_int_equal(service_ready(&s, "x") | service_status(&s, "x") | service_reloading(&s), 0);
		assert_int_equal(service_stopping(&s) | service_watchdog(&s, INT64_MAX), 0);
		assert_int_equal(service_keep_fd(&s, "x", 0) | service_drop_fd(&s, "x"), 0);
		assert_int_equal(service_environment(&s), 0);
		assert_null(getenv("NOTIFY_SOCKET"));
		service_done(&s);
	}
	/* In the background it is somebody else's */
	setenv("NOTIFY_SOCKET", path, 1);
	setenv("WATCHDOG_USEC", "3000000", 1);
	service_init(&s, false);
	assert_int_equal(s.fd, -1);
	assert_null(getenv("NOTIFY_SOCKET"));
	assert_null(getenv("WATCHDOG_USEC"));
}

static void a_manager_that_hangs_is_not_waited_for(void **state)
{
	struct service s;
	int64_t begin = clock_mono_ms();
	int err = 0;

	(void)state;
	service_init(&s, true);
	for (int i = 0; i < 100000 && !err; i++)
		err = service_status(&s, "x");
	assert_int_equal(err, -EAGAIN);
	assert_in_range(clock_mono_ms() - begin, 0, 400);
	assert_int_equal(service_stopping(&s), -EAGAIN);
	assert_in_range(clock_mono_ms() - begin, 450, 10000);
	service_done(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(says_how_it_stands, setup),
		cmocka_unit_test_setup(keeps_descriptors, setup),
		cmocka_unit_test_setup(the_watchdog_hears_twice_in_its_time, setup),
		cmocka_unit_test_setup(a_watchdog_of_others_is_not_ours, setup),
		cmocka_unit_test_setup(an_abstract_name_will_do, setup),
		cmocka_unit_test_setup(comes_back_for_an_exec, setup),
		cmocka_unit_test_setup(without_a_manager_nothing_happens, setup),
		cmocka_unit_test_setup(a_manager_that_hangs_is_not_waited_for, setup),
	};
	int rc;

	cmocka_set_message_output(CM_OUTPUT_TAP);
	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof(path), "%s/notify", dir);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	rmdir(dir);
	return rc;
}
