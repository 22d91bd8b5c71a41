/*
 * Tests of src/base/log.h.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

static char last[8192];
static int lines;

static void keep(const char *line, void *arg)
{
	(void)arg;
	lines++;
	snprintf(last, sizeof(last), "%s", line);
}

/* The line without its time. */
static const char *rest(void)
{
	assert_memory_equal(last, "time=20", 7);
	assert_int_equal(strcspn(last, " "), strlen("time=2026-11-24T22:24:24.123Z"));
	return last + strcspn(last, " ") + 1;
}

static int setup(void **state)
{
	(void)state;
	lines = 0;
	log_set_level(LOG_LEVEL_INFO);
	log_set_role(NULL);
	log_set_sink(keep, NULL);
	return 0;
}

static void writes_logfmt(void **state)
{
	(void)state;
	errno = 77;
	log_info("rotated", "connector", "orders", "version", "7", NULL);
	assert_int_equal(errno, 77);
	assert_string_equal(rest(), "level=info msg=rotated connector=orders version=7");
	log_set_role("worker");
	log_error("two words", "a", NULL, "b", "", "c", "x=y", NULL);
	assert_string_equal(rest(), "level=error role=worker msg=\"two words\" b=\"\" c=\"x=y\"");
}

static void escapes(void **state)
{
	(void)state;
	log_warn("m", "a", "l1\nl2\r\t\"q\"\\", "b", "\033[1m",
	         "c", "\xc3\xa4", "d", "\xc2\x9b", "e", "\xe2", "f", "\xe2\x80\xae", NULL);
	assert_string_equal(rest(), "level=warn msg=m "
	                            "a=\"l1\\nl2\\r\\t\\\"q\\\"\\\\\" b=\"\\x1b[1m\" c=\xc3\xa4 "
	                            "d=\"\\xc2\\x9b\" e=\xe2 f=\"\\xe2\\x80\\xae\"");
}

static void levels(void **state)
{
	(void)state;
	assert_int_equal(log_level_parse("error"), LOG_LEVEL_ERROR);
	assert_int_equal(log_level_parse("warn"), LOG_LEVEL_WARN);
	assert_int_equal(log_level_parse("info"), LOG_LEVEL_INFO);
	assert_int_equal(log_level_parse("debug"), LOG_LEVEL_DEBUG);
	assert_int_equal(log_level_parse("Info"), -EINVAL);
	assert_int_equal(log_level_parse(""), -EINVAL);
	assert_int_equal(log_level_parse(NULL), -EINVAL);
	log_debug("x", NULL);
	assert_int_equal(lines, 0);
	log_set_level(LOG_LEVEL_DEBUG);
	assert_int_equal(log_get_level(), LOG_LEVEL_DEBUG);
	log_debug("x", NULL);
	assert_int_equal(lines, 1);
	log_set_level(LOG_LEVEL_ERROR);
	log_warn("x", NULL);
	assert_int_equal(lines, 1);
}

static void long_values_are_cut(void **state)
{
	static char value[6000];

	(void)state;
	for (size_t shift = 0; shift < 4; shift++) {
		for (int quoted = 0; quoted < 2; quoted++) {
			memset(value, quoted ? ' ' : 'x', 4);
			size_t len = shift;
			for (; len < 5000; len += 3)
				memcpy(value + len, "\xe2\x82\xac", 3);
			value[len] = '\0';
			log_info("m", "v", value, "after", "x", NULL);
			size_t n = strlen(last);
			assert_in_range(n, 4070, 4095);
			assert_string_equal(last + n - 9, " cut=true");
			const char *end = last + n - 9;
			if (quoted && shift > 0)
				assert_int_equal(*--end, '"');
			assert_memory_equal(end - 3, "\xe2\x82\xac", 3);
			assert_null(strstr(last, "after"));
		}
	}
}

/* Of every length about the limit; what comes after it is either there or the line says that it was cut. */
static void a_value_may_end_at_the_limit(void **state)
{
	static char value[5000];

	(void)state;
	for (size_t len = 3900; len < 4200; len++) {
		memset(value, 'x', len);
		value[0] = ' ';
		value[len] = '\0';
		log_info("m", "v", value, "after", value, "last", value, NULL);
		size_t n = strlen(last);
		assert_in_range(n, 3900, 4095);
		assert_string_equal(last + n - 9, " cut=true");
	}
}

/* Logs with standard error replaced by fd. */
static void log_to(int fd, const char *journal)
{
	int saved = dup(STDERR_FILENO);

	log_set_sink(NULL, NULL);
	assert_true(dup2(fd, STDERR_FILENO) >= 0);
	if (journal)
		setenv("JOURNAL_STREAM", journal, 1);
	else
		unsetenv("JOURNAL_STREAM");
	log_init();
	log_info("hello", "n", "1", NULL);
	dup2(saved, STDERR_FILENO);
	close(saved);
	unsetenv("JOURNAL_STREAM");
	log_init();
	log_set_sink(keep, NULL);
}

static void knows_the_journal(void **state)
{
	int fd[2];
	struct stat st;
	char id[64], text[256];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	assert_int_equal(fstat(fd[1], &st), 0);
	snprintf(id, sizeof(id), "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	log_to(fd[1], id);
	ssize_t n = read(fd[0], text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = '\0';
	assert_string_equal(text, "<6>msg=hello n=1\n");
	log_to(fd[1], "1:2");
	n = read(fd[0], text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = '\0';
	assert_memory_equal(text, "time=", 5);
	close(fd[0]);
	unsigned long dropped = log_dropped();
	log_to(fd[1], id); /* no SIGPIPE */
	assert_int_equal(log_dropped(), dropped + 1);
	close(fd[1]);
}

static void drops_what_would_block(void **state)
{
	int fd[2];
	char page[4096] = { 0 };
	unsigned long dropped = log_dropped();

	(void)state;
	assert_int_equal(pipe2(fd, O_NONBLOCK), 0);
	while (write(fd[1], page, sizeof(page)) > 0)
		;
	fcntl(fd[1], F_SETFL, 0);
	log_to(fd[1], NULL);
	assert_int_equal(log_dropped(), dropped + 1);
	while (read(fd[0], page, sizeof(page)) == sizeof(page) && page[0] == 0)
		;
	log_to(fd[1], NULL);
	assert_int_equal(log_dropped(), dropped + 1);
	assert_true(read(fd[0], page, sizeof(page)) > 0);
	close(fd[0]);
	log_to(fd[1], NULL);
	assert_int_equal(log_dropped(), dropped + 2);
	close(fd[1]);
}

static void *log_much(void *arg)
{
	for (int i = 0; i < 500; i++)
		log_info("thread", "n", arg, NULL);
	return NULL;
}

static void any_thread_may_log(void **state)
{
	pthread_t t[3];
	char x[] = "x";

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&t[i], NULL, log_much, x), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(lines, 1500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(writes_logfmt, setup),
		cmocka_unit_test_setup(escapes, setup),
		cmocka_unit_test_setup(levels, setup),
		cmocka_unit_test_setup(long_values_are_cut, setup),
		cmocka_unit_test_setup(a_value_may_end_at_the_limit, setup),
		cmocka_unit_test_setup(knows_the_journal, setup),
		cmocka_unit_test_setup(drops_what_would_block, setup),
		cmocka_unit_test_setup(any_thread_may_log, setup),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
