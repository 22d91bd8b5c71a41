/*
 * The audit log: what stands in a line, where it goes, and that nobody waits for it and nothing is lost in
 * silence.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "fs/audit.h"
#include "fs/auditreader.h"
#include "fs/auditsink.h"

static char dir[] = "/tmp/connectfs-audit-XXXXXX";
static char file[64], journal[64], syslog_path[64];
static struct stats stats;
static char text[4 * 1024 * 1024];

static void no_log(const char *line, void *arg)
{
	(void)line;
	(void)arg;
}

static int setup(void **state)
{
	(void)state;
	unlink(file);
	memset(&stats, 0, sizeof(stats));
	return 0;
}

static struct audit *open_log(const char *where)
{
	struct error err = ERROR_INIT;
	struct audit *a = NULL;

	assert_int_equal(audit_new(where, &a, &err), 0);
	assert_non_null(a);
	assert_int_equal(audit_start(a, &stats), 0);
	return a;
}

static void log_open(struct audit *a, const char *connector, int err, uint64_t version)
{
	audit_end(audit_begin(a, connector, 1, 2, getpid()), err, version);
}

static const char *content(const char *path)
{
	FILE *f = fopen(path, "r");
	size_t n;

	assert_non_null(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = '\0';
	fclose(f);
	return text;
}

static size_t count(const char *in, const char *what)
{
	size_t n = 0;

	for (; (in = strstr(in, what)); in += strlen(what))
		n++;
	return n;
}

static void off_is_nothing(void **state)
{
	struct audit *a = (struct audit *)1;

	(void)state;
	assert_int_equal(audit_new(NULL, &a, NULL), 0);
	assert_null(a);
	assert_int_equal(audit_start(NULL, &stats), 0);
	assert_null(audit_begin(NULL, "a", 0, 0, 1));
	audit_end(NULL, 0, 0);
	assert_int_equal(audit_reopen(NULL, NULL), 0);
	audit_free(NULL);
}

static void a_line_an_open(void **state)
{
	struct audit *a;
	struct stat st;
	char want[256];

	(void)state;
	prctl(PR_SET_NAME, "read er");
	a = open_log(file);
	log_open(a, "orders.properties", 0, 7);
	log_open(a, "b.json", -ENOKEY, 3);
	audit_free(a);
	content(file);
	assert_memory_equal(text, "time=20", 7);
	assert_int_equal(count(text, "\n"), 2);
	snprintf(want, sizeof(want), "Z msg=open connector=orders.properties version=7 uid=1 gid=2 pid=%d comm=\"read er\" ",
	         (int)getpid());
	assert_non_null(strstr(text, want));
	snprintf(want, sizeof(want), "Z msg=open connector=b.json uid=1 gid=2 pid=%d ", (int)getpid());
	assert_non_null(strstr(text, want));
	assert_non_null(strstr(text, " result=ok\n"));
	assert_non_null(strstr(text, " result=ENOKEY\n"));
	assert_int_equal(count(text, "fs-audit-t"), 2); /* exe: it is our own */
	assert_null(strstr(text, " tid="));
	assert_int_equal(atomic_load(&stats.audit_lines), 2);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	/* A second one appends */
	a = open_log(file);
	log_open(a, "c", 0, 1);
	audit_free(a);
	assert_int_equal(count(content(file), "\n"), 3);
}

static void names_make_no_lines(void **state)
{
	char name[300];
	struct audit *a;

	(void)state;
	prctl(PR_SET_NAME, "a\nresult=ok");
	a = open_log(file);
	log_open(a, "x\nmsg=open \"q\" \033[1m", -EACCES, 0);
	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	log_open(a, name, -EACCES, 0);
	audit_end(audit_begin(a, "", 1, 2, 0), -ESTALE, 0);
	audit_free(a);
	prctl(PR_SET_NAME, "fs-audit-t");
	content(file);
	assert_int_equal(count(text, "\n"), 3);
	assert_non_null(strstr(text, " connector=\"x\\nmsg=open \\\"q\\\" \\x1b[1m\" "));
	assert_non_null(strstr(text, " comm=\"a\\nresult=ok\" "));
	assert_int_equal(count(text, "result=ok\n"), 0);
	assert_non_null(strstr(text, "nnn... uid="));
	assert_non_null(strstr(text, "msg=open connector=\"\" uid=1 gid=2 pid=0 result=ESTALE\n"));
}

static void *in_a_thread(void *arg)
{
	static int tid;

	tid = (int)syscall(SYS_gettid);
	prctl(PR_SET_NAME, "a-thread");
	audit_end(audit_begin(arg, "t", 0, 0, tid), 0, 1);
	return &tid;
}

static void a_thread_is_one_of_its_process(void **state)
{
	struct audit *a = open_log(file);
	pthread_t thread;
	void *tid;
	char want[64];

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, in_a_thread, a), 0);
	pthread_join(thread, &tid);
	audit_free(a);
	snprintf(want, sizeof(want), " pid=%d tid=%d comm=fs-audit-t ", (int)getpid(), *(int *)tid);
	assert_non_null(strstr(content(file), want));
}

static void finds_the_unit(void **state)
{
	static const char *const units[][2] = {
		{ "/system.slice/kafka.service", "kafka.service" },
		{ "/system.slice/kafka.service/ssh.service", "kafka.service" },
		{ "/a.slice/a-b.slice/docker-12.scope", "docker-12.scope" },
		{ "/user.slice/user-1000.slice/user@1000.service/app.slice/x.service", "user@1000.service" },
		{ "/init.scope", "init.scope" },
		{ "/kubepods/pod1/kafka.service", NULL }, { "/x.slice", NULL }, { "/.service", NULL }, { "", NULL },
	};
	char unit[64];

	(void)state;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		assert_int_equal(audit_reader_unit(units[i][0], unit, sizeof(unit)), units[i][1] != NULL);
		if (units[i][1])
			assert_string_equal(unit, units[i][1]);
	}
}

static void refused(const char *path, int code)
{
	struct error err = ERROR_INIT;
	struct audit *a = NULL;

	assert_int_equal(audit_new(path, &a, &err), -code);
	assert_null(a);
	assert_non_null(strstr(err.text, path));
}

static void only_a_regular_file_will_do(void **state)
{
	char path[96], fifo[96];
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/link", dir);
	assert_int_equal(symlink(file, path), 0);
	refused(path, ELOOP);
	assert_int_equal(access(file, F_OK), -1);
	snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	refused(fifo, ENXIO);
	fd = open(fifo, O_RDONLY | O_NONBLOCK); /* with a reader it can be opened */
	refused(fifo, EINVAL);
	close(fd);
	refused("/dev/null", EINVAL);
	refused(dir, EISDIR);
	snprintf(path, sizeof(path), "%s/none/audit", dir);
	refused(path, ENOENT);
	snprintf(path, sizeof(path), "%s/link", dir);
	unlink(path);
	unlink(fifo);
}

static void opens_anew(void **state)
{
	struct error err = ERROR_INIT;
	char old[96];
	struct audit *a;

	(void)state;
	snprintf(old, sizeof(old), "%s.1", file);
	a = open_log(file);
	log_open(a, "first", 0, 1);
	while (atomic_load(&stats.audit_lines) < 1)
		usleep(1000);
	assert_int_equal(rename(file, old), 0);
	log_open(a, "second", 0, 1);
	while (atomic_load(&stats.audit_lines) < 2)
		usleep(1000);
	assert_int_equal(audit_reopen(a, &err), 0);
	log_open(a, "third", 0, 1);
	while (atomic_load(&stats.audit_lines) < 3)
		usleep(1000);
	unlink(file);
	assert_int_equal(mkdir(file, 0700), 0);
	assert_int_equal(audit_reopen(a, &err), -EISDIR);
	rmdir(file);
	log_open(a, "fourth", 0, 1); /* into what it has open */
	audit_free(a);
	assert_int_equal(atomic_load(&stats.audit_lines), 4);
	assert_non_null(strstr(content(old), "second"));
	assert_null(strstr(text, "third"));
	unlink(old);
}

/* Each open is either in the log or in the number of those that are not. */
static void assert_all_told(const char *log, size_t opens)
{
	size_t lines = count(log, "msg=open "), lost = 0;

	for (const char *at = log; (at = strstr(at, " dropped=")); at += 9)
		lost += strtoul(at + 9, NULL, 10);
	assert_int_equal(lines, atomic_load(&stats.audit_lines));
	assert_int_equal(lost, atomic_load(&stats.audit_dropped));
	assert_int_equal(lines + lost, opens);
}

static void a_flood_is_bounded(void **state)
{
	struct audit *a = open_log(file);
	int64_t begin = clock_mono_ns();
	size_t n = 20000;

	(void)state;
	for (size_t i = 0; i < n; i++)
		audit_end(audit_begin(a, "flood", 0, 0, 0), 0, 1);
	assert_in_range((clock_mono_ns() - begin) / 1000000, 0, 5000);
	audit_free(a);
	assert_all_told(content(file), n);
	assert_in_range(count(text, "msg=open "), 4096, 4096 + 5000);
	assert_true(count(text, "msg=\"opens not logged\"") >= 1);
}

static void *many(void *arg)
{
	for (int i = 0; i < 500; i++)
		audit_end(audit_begin(arg, "many", 0, 0, 0), 0, 1);
	return NULL;
}

static void any_thread(void **state)
{
	struct audit *a = open_log(file);
	pthread_t t[4];

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, many, a), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	audit_free(a);
	assert_all_told(content(file), 2000);
	assert_int_equal(atomic_load(&stats.audit_dropped), 0);
}

static void what_a_full_disk_takes(void **state)
{
	struct error err = ERROR_INIT;
	struct audit_pair pair = { "msg", "open" };
	struct audit_sink sink;

	(void)state;
	assert_int_equal(audit_sink_open(&sink, file, &err), 0);
	sink.torn = true; /* half a line is there */
	assert_int_equal(audit_sink_write(&sink, 6, 0, &pair, 1), 0);
	assert_false(sink.torn);
	audit_sink_close(&sink);
	sink.fd = open("/dev/full", O_WRONLY);
	assert_int_equal(audit_sink_write(&sink, 6, 0, &pair, 1), -ENOSPC);
	audit_sink_close(&sink);
	assert_string_equal(content(file), "\ntime=1970-01-01T00:00:00.000Z msg=open\n");
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	unlink(path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* The next datagram as text; NULs show as '0'. */
static const char *receive(int fd)
{
	ssize_t n = recv(fd, text, sizeof(text) - 1, 0);

	assert_true(n > 0);
	for (ssize_t i = 0; i < n; i++)
		if (text[i] == '\0')
			text[i] = '0';
	text[n] = '\0';
	return text;
}

static void speaks_the_journals_language(void **state)
{
	int fd = listen_at(journal);
	struct audit *a = open_log("journal");

	(void)state;
	log_open(a, "two\nlines", -ENOKEY, 0);
	receive(fd);
	assert_memory_equal(text, "MESSAGE=msg=open connector=\"two\\nlines\" uid=1 ", 45);
	assert_non_null(strstr(text, " result=ENOKEY\nPRIORITY=5\nSYSLOG_FACILITY=10\nSYSLOG_IDENTIFIER=connectfs\n"
	                             "CONNECTFS_MSG=open\nCONNECTFS_CONNECTOR\n\t0000000two\nlines\nCONNECTFS_UID=1\n"
	                             "CONNECTFS_GID=2\nCONNECTFS_PID="));
	assert_string_equal(text + strlen(text) - 24, "CONNECTFS_RESULT=ENOKEY\n");
	/* The journal is started anew */
	close(fd);
	fd = listen_at(journal);
	log_open(a, "again", 0, 4);
	assert_non_null(strstr(receive(fd), "\nPRIORITY=6\n"));
	assert_non_null(strstr(text, "\nCONNECTFS_CONNECTOR=again\nCONNECTFS_VERSION=4\n"));
	audit_free(a);
	close(fd);
	unlink(journal);
	assert_int_equal(audit_new("journal", &a, NULL), -ENOENT);
}

static void speaks_syslog(void **state)
{
	int fd = listen_at(syslog_path);
	struct audit *a = open_log("syslog");
	char want[64];

	(void)state;
	log_open(a, "a b", 0, 1);
	receive(fd);
	assert_memory_equal(text, "<86>", 4);
	snprintf(want, sizeof(want), " connectfs[%d]: msg=open connector=\"a b\" version=1 uid=1 ", (int)getpid());
	assert_ptr_equal(strstr(text, want), text + strlen("<86>Nov 24 22:24:24"));
	audit_free(a);
	close(fd);
}

static void a_full_socket_is_counted(void **state)
{
	int fd = listen_at(journal);
	struct audit *a = open_log("journal");
	size_t n = 3000, lines = 0, lost = 0;

	(void)state;
	for (size_t i = 0; i < n; i++)
		audit_end(audit_begin(a, "full", 0, 0, 0), 0, 1);
	for (int i = 0; i < 5000 && atomic_load(&stats.audit_lines) + atomic_load(&stats.audit_dropped) < n; i++)
		usleep(1000);
	assert_int_equal(atomic_load(&stats.audit_lines) + atomic_load(&stats.audit_dropped), n);
	assert_true(atomic_load(&stats.audit_dropped) > 0);
	/* There is room again */
	while (lost == 0) {
		receive(fd);
		if (strstr(text, "msg=open "))
			lines++;
		else if (strstr(text, "\nCONNECTFS_DROPPED="))
			lost = strtoul(strstr(text, "\nCONNECTFS_DROPPED=") + 19, NULL, 10);
	}
	assert_int_equal(lines, atomic_load(&stats.audit_lines));
	assert_int_equal(lost, atomic_load(&stats.audit_dropped));
	audit_free(a);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(off_is_nothing, setup),
		cmocka_unit_test_setup(a_line_an_open, setup),
		cmocka_unit_test_setup(names_make_no_lines, setup),
		cmocka_unit_test_setup(a_thread_is_one_of_its_process, setup),
		cmocka_unit_test_setup(finds_the_unit, setup),
		cmocka_unit_test_setup(only_a_regular_file_will_do, setup),
		cmocka_unit_test_setup(opens_anew, setup),
		cmocka_unit_test_setup(a_flood_is_bounded, setup),
		cmocka_unit_test_setup(any_thread, setup),
		cmocka_unit_test_setup(what_a_full_disk_takes, setup),
		cmocka_unit_test_setup(speaks_the_journals_language, setup),
		cmocka_unit_test_setup(speaks_syslog, setup),
		cmocka_unit_test_setup(a_full_socket_is_counted, setup),
	};
	int rc;

	cmocka_set_message_output(CM_OUTPUT_TAP);
	log_set_sink(no_log, NULL);
	if (!mkdtemp(dir))
		return 1;
	snprintf(file, sizeof(file), "%s/audit", dir);
	snprintf(journal, sizeof(journal), "%s/journal", dir);
	snprintf(syslog_path, sizeof(syslog_path), "%s/log", dir);
	audit_sink_set_sockets(journal, syslog_path);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(file);
	unlink(journal);
	unlink(syslog_path);
	rmdir(dir);
	return rc;
}
