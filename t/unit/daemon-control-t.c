/*
 * The packets between supervisor and worker.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/control.h"

static int set_up(void **state)
{
	static int pair[2];

	*state = pair;
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair);
}

static int tear_down(void **state)
{
	int *pair = *state;

	for (int i = 0; i < 2; i++)
		if (pair[i] >= 0)
			close(pair[i]);
	return 0;
}

static void test_fields(void **state)
{
	int *pair = *state, fd = 99;
	struct control_message m = {
		.op = CONTROL_FAILED, .uid = 1, .gid = UINT32_MAX, .pid = -1, .status = 2, .dev_major = 0,
		.dev_minor = 77, .restarts = 5, .text = "settings:3: connectfs.mode: what?",
	}, got;

	assert_int_equal(control_send(pair[0], &m, -1), 0);
	assert_int_equal(control_receive(pair[1], &got, &fd), 0);
	assert_int_equal(fd, -1);
	assert_memory_equal(&got, &m, offsetof(struct control_message, text));
	assert_string_equal(got.text, m.text);
	assert_int_equal(control_receive(pair[1], &got, &fd), -EAGAIN);
}

static void test_only_what_is_used_is_sent(void **state)
{
	int *pair = *state;
	struct control_message m = { .op = CONTROL_READY, .text = "four" };
	char raw[sizeof(m) + 1];

	memset(m.text + 5, 'x', sizeof(m.text) - 5); /* must not leave the process */
	assert_int_equal(control_send(pair[0], &m, -1), 0);
	assert_int_equal(recv(pair[1], raw, sizeof(raw), 0), offsetof(struct control_message, text) + 5);
}

static void test_longest_text(void **state)
{
	int *pair = *state, fd;
	static struct control_message m = { .op = CONTROL_FAILED }, got;

	memset(m.text, 'a', sizeof(m.text)); /* no NUL: is cut */
	assert_int_equal(control_send(pair[0], &m, -1), 0);
	assert_int_equal(control_receive(pair[1], &got, &fd), 0);
	assert_int_equal(strlen(got.text), CONTROL_TEXT_MAX - 1);
}

static void test_descriptor(void **state)
{
	int *pair = *state, fd, file = open("/dev/null", O_RDONLY);
	struct control_message m = { .op = CONTROL_DEVICE }, got;
	struct stat sent, received;

	assert_true(file >= 0);
	assert_int_equal(control_send(pair[0], &m, file), 0);
	assert_int_equal(control_receive(pair[1], &got, &fd), 0);
	assert_true(fd >= 0 && fd != file);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(fstat(file, &sent), 0);
	assert_int_equal(fstat(fd, &received), 0);
	assert_int_equal(sent.st_rdev, received.st_rdev);
	close(fd);
	close(file);
}

static void test_bad_packets(void **state)
{
	int *pair = *state, fd = 99;
	static struct control_message got;
	char raw[sizeof(got) + 1];

	got.op = 99;
	memset(raw, 'x', sizeof(raw));
	/* too short, no text at all, text without its end, too long */
	const size_t sizes[] = { 1, offsetof(struct control_message, text),
	                         offsetof(struct control_message, text) + 9, sizeof(got), sizeof(raw) };
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(send(pair[0], raw, sizes[i], 0), (ssize_t)sizes[i]);
		assert_int_equal(control_receive(pair[1], &got, &fd), -EPROTO);
	}
	assert_int_equal(got.op, 99);
	assert_int_equal(fd, 99);
}

static void test_end(void **state)
{
	int *pair = *state, fd;
	struct control_message m = { .op = CONTROL_STOP }, got;

	assert_int_equal(control_send(pair[0], &m, -1), 0);
	close(pair[0]);
	pair[0] = -1;
	assert_int_equal(control_receive(pair[1], &got, &fd), 0);
	assert_int_equal(control_receive(pair[1], &got, &fd), -ENOTCONN);
	assert_int_equal(control_send(pair[1], &m, -1), -EPIPE);
}

static void test_full(void **state)
{
	int *pair = *state, err = 0;
	static struct control_message m = { .op = CONTROL_FAILED };

	memset(m.text, 'a', sizeof(m.text) - 1);
	for (int i = 0; i < 10000 && !err; i++)
		err = control_send(pair[0], &m, -1);
	assert_int_equal(err, -EAGAIN);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_fields), TEST(test_only_what_is_used_is_sent), TEST(test_longest_text),
		TEST(test_descriptor), TEST(test_bad_packets), TEST(test_end), TEST(test_full),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
