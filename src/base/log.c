/*
 * The log: builds one line in memory and writes it at once, without ever waiting.
 */
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/logfmt.h"

static atomic_int log_level = LOG_LEVEL_INFO;
static _Atomic(const char *) log_role;
static atomic_bool to_journal, to_socket;
static atomic_ulong dropped;

static pthread_mutex_t sink_mutex = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool have_sink; /* so that no mutex is taken without one */
static void (*sink_fn)(const char *line, void *arg);
static void *sink_arg;

static const char *const level_names[] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARN] = "warn",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};

int log_level_parse(const char *s)
{
	for (int i = LOG_LEVEL_ERROR; i <= LOG_LEVEL_DEBUG; i++)
		if (s && strcmp(s, level_names[i]) == 0)
			return i;
	return -EINVAL;
}

void log_set_level(enum log_level level)
{
	atomic_store(&log_level, (int)level);
}

enum log_level log_get_level(void)
{
	return (enum log_level)atomic_load(&log_level);
}

void log_set_role(const char *role)
{
	atomic_store(&log_role, role);
}

void log_set_sink(void (*fn)(const char *line, void *arg), void *arg)
{
	pthread_mutex_lock(&sink_mutex);
	sink_fn = fn;
	sink_arg = arg;
	atomic_store(&have_sink, fn != NULL);
	pthread_mutex_unlock(&sink_mutex);
}

void log_init(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char own[64];
	struct stat st;

	if (fstat(STDERR_FILENO, &st) < 0)
		return;
	snprintf(own, sizeof(own), "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	atomic_store(&to_journal, stream && strcmp(stream, own) == 0);
	atomic_store(&to_socket, S_ISSOCK(st.st_mode));
}

unsigned long log_dropped(void)
{
	return atomic_load(&dropped);
}

static void put_head(struct logfmt *l, enum log_level level, bool journal)
{
	static const char *const priorities[] = {
		[LOG_LEVEL_ERROR] = "<3>",
		[LOG_LEVEL_WARN] = "<4>",
		[LOG_LEVEL_INFO] = "<6>",
		[LOG_LEVEL_DEBUG] = "<7>",
	};
	char time[CLOCK_RFC3339_SIZE];
	const char *role = atomic_load(&log_role);

	if (journal) {
		logfmt_text(l, priorities[level]);
	} else {
		logfmt_pair(l, "time", clock_rfc3339(clock_real_ns(), time));
		logfmt_pair(l, "level", level_names[level]);
	}
	if (role)
		logfmt_pair(l, "role", role);
}

/*
 * Standard error may be shared with other programs, so O_NONBLOCK is not ours to set: a socket
 * is asked not to wait by a flag, anything else by poll() before.
 */
static bool write_line(const struct logfmt *l)
{
	struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };

	if (atomic_load(&to_socket))
		return send(STDERR_FILENO, l->data, l->len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)l->len;
	if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT) || (p.revents & (POLLERR | POLLNVAL)))
		return false;
	return write(STDERR_FILENO, l->data, l->len) == (ssize_t)l->len;
}

static void emit(struct logfmt *l)
{
	if (atomic_load(&have_sink)) {
		pthread_mutex_lock(&sink_mutex);
		if (sink_fn)
			sink_fn(l->data, sink_arg);
		pthread_mutex_unlock(&sink_mutex);
		return;
	}
	l->data[l->len++] = '\n';
	if (!write_line(l))
		atomic_fetch_add(&dropped, 1);
}

void log_write(enum log_level level, const char *msg, ...)
{
	int saved = errno; /* a log line between a failure and its handling changes nothing */
	struct logfmt l = LOGFMT_INIT;
	const char *key;
	va_list ap;

	if ((int)level > atomic_load(&log_level))
		return;
	put_head(&l, level, atomic_load(&to_journal) && !atomic_load(&have_sink));
	logfmt_pair(&l, "msg", msg);
	va_start(ap, msg);
	while ((key = va_arg(ap, const char *))) {
		const char *value = va_arg(ap, const char *);
		if (value)
			logfmt_pair(&l, key, value);
	}
	va_end(ap);
	logfmt_end(&l);
	emit(&l);
	errno = saved;
}
