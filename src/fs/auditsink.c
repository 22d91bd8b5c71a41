/*
 * The sinks of the audit log: see auditsink.h.
 */
#include "fs/auditsink.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/logfmt.h"

#define IDENTIFIER "connectfs"

enum { DATAGRAM_MAX = 64 * 1024 }; /* each value three times over at most; far below a socket's own limit */

static const char *socket_paths[] = {
	[AUDIT_JOURNAL] = "/run/systemd/journal/socket", [AUDIT_SYSLOG] = "/dev/log",
};

void audit_sink_set_sockets(const char *journal, const char *syslog)
{
	if (journal)
		socket_paths[AUDIT_JOURNAL] = journal;
	if (syslog)
		socket_paths[AUDIT_SYSLOG] = syslog;
}

/* ---- opening ---- */

static int open_file(const char *path, int *ret_fd, struct error *ret_err)
{
	struct stat st;
	int fd, err = 0;

	if (file_is_own_mountpoint(path))
		return error_set(ret_err, EINVAL, "%s: it lies below the mount point itself", path);
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
	if (fd < 0 && (errno == ELOOP || errno == ENXIO))
		return error_set(ret_err, errno, "%s: it is %s, and must be a regular file", path,
		                 errno == ELOOP ? "a symbolic link" : "a FIFO or a device");
	if (fd < 0)
		return error_set(ret_err, errno, "%s: %s", path, strerror(errno));
	if (fstat(fd, &st) != 0)
		err = error_set(ret_err, errno, "%s: %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		err = error_set(ret_err, EINVAL, "%s: it must be a regular file", path);
	if (err)
		close(fd);
	else
		*ret_fd = fd;
	return err;
}

static int open_socket(struct audit_sink *sink, struct error *ret_err)
{
	const char *path = socket_paths[sink->kind];
	struct sockaddr_un *address = &sink->address;
	int fd;

	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(address->sun_path))
		return error_set(ret_err, ENAMETOOLONG, "%s: %s", path, strerror(ENAMETOOLONG));
	strcpy(address->sun_path, path);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)address, sizeof(*address)) != 0) {
		int err = error_set(ret_err, errno, "%s: %s", path, strerror(errno));

		if (fd >= 0)
			close(fd);
		return err;
	}
	sink->fd = fd;
	return 0;
}

int audit_sink_open(struct audit_sink *sink, const char *where, struct error *ret_err)
{
	*sink = (struct audit_sink){ .kind = AUDIT_FILE, .fd = -1, .path = where };
	if (strcmp(where, "journal") == 0)
		sink->kind = AUDIT_JOURNAL;
	else if (strcmp(where, "syslog") == 0)
		sink->kind = AUDIT_SYSLOG;
	else
		return open_file(where, &sink->fd, ret_err);
	tzset(); /* it reads a file, which may be out of reach later */
	return open_socket(sink, ret_err);
}

int audit_sink_reopen(struct audit_sink *sink, struct error *ret_err)
{
	int fd, err;

	if (sink->kind != AUDIT_FILE)
		return 0;
	err = open_file(sink->path, &fd, ret_err);
	if (err)
		return err;
	/* In one step: a write that is under way ends in the old one. */
	if (dup3(fd, sink->fd, O_CLOEXEC) < 0)
		err = error_set(ret_err, errno, "%s: %s", sink->path, strerror(errno));
	close(fd);
	return err;
}

void audit_sink_close(struct audit_sink *sink)
{
	if (sink->fd >= 0)
		close(sink->fd);
	sink->fd = -1;
}

/* ---- writing ---- */

static void add_pairs(struct logfmt *line, const struct audit_pair *pairs, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (pairs[i].value)
			logfmt_pair(line, pairs[i].key, pairs[i].value);
	logfmt_end(line);
}

static int write_file(struct audit_sink *sink, int64_t time_ns, const struct audit_pair *pairs, size_t n)
{
	struct logfmt line = LOGFMT_INIT;
	char time[CLOCK_RFC3339_SIZE];
	ssize_t done;

	if (sink->torn) {
		if (write(sink->fd, "\n", 1) != 1)
			return -errno;
		sink->torn = false;
	}
	logfmt_pair(&line, "time", clock_rfc3339(time_ns, time));
	add_pairs(&line, pairs, n);
	line.data[line.len++] = '\n';
	done = write(sink->fd, line.data, line.len);
	if (done < 0)
		return -errno;
	if ((size_t)done == line.len)
		return 0;
	sink->torn = done > 0;
	return -ENOSPC;
}

static int send_datagram(struct audit_sink *sink, const char *data, size_t len)
{
	const struct sockaddr *to = (const struct sockaddr *)&sink->address;

	if (send(sink->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return 0;
	/* Who listened when we connected is gone. Another may listen there by now; connecting anew is not for
	 * a process in a sandbox. */
	if ((errno == ECONNREFUSED || errno == ENOTCONN || errno == ECONNRESET || errno == EPIPE) &&
	    sendto(sink->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL, to, sizeof(sink->address)) >= 0)
		return 0;
	return -errno;
}

/* "KEY=value", or where the value has newlines, KEY, its length in 8 bytes and the value. */
static void add_field(struct buf *b, const char *prefix, const char *key, const char *value)
{
	uint64_t len = strlen(value);

	buf_add_str(b, prefix);
	for (; *key; key++)
		buf_add_char(b, (char)toupper((unsigned char)*key));
	buf_add_char(b, strchr(value, '\n') ? '\n' : '=');
	for (unsigned i = 0; i < 8 && strchr(value, '\n'); i++)
		buf_add_char(b, (char)(len >> (8 * i) & 0xff));
	buf_add_str(b, value);
	buf_add_char(b, '\n');
}

static int write_journal(struct audit_sink *sink, int priority, const struct audit_pair *pairs, size_t n)
{
	struct logfmt line = LOGFMT_INIT;
	char number[16];
	struct buf b;
	int err;

	buf_init(&b, DATAGRAM_MAX);
	add_pairs(&line, pairs, n);
	add_field(&b, "", "MESSAGE", line.data);
	snprintf(number, sizeof(number), "%d", priority);
	add_field(&b, "", "PRIORITY", number);
	snprintf(number, sizeof(number), "%d", LOG_FAC(LOG_AUTHPRIV));
	add_field(&b, "", "SYSLOG_FACILITY", number);
	add_field(&b, "", "SYSLOG_IDENTIFIER", IDENTIFIER);
	for (size_t i = 0; i < n; i++)
		if (pairs[i].value)
			add_field(&b, "CONNECTFS_", pairs[i].key, pairs[i].value);
	err = b.err ? b.err : send_datagram(sink, b.data, b.len);
	buf_free(&b);
	return err;
}

static int write_syslog(struct audit_sink *sink, int priority, int64_t time_ns, const struct audit_pair *pairs,
                        size_t n)
{
	static const char months[][4] = {
		"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
	};
	struct timespec ts = clock_timespec(time_ns);
	struct logfmt line = LOGFMT_INIT;
	char head[96];
	struct tm tm;

	if (!localtime_r(&ts.tv_sec, &tm))
		return -errno;
	snprintf(head, sizeof(head), "<%d>%s %2d %02d:%02d:%02d " IDENTIFIER "[%d]: ", LOG_AUTHPRIV | priority,
	         months[tm.tm_mon], tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)getpid());
	logfmt_text(&line, head);
	add_pairs(&line, pairs, n);
	return send_datagram(sink, line.data, line.len);
}

int audit_sink_write(struct audit_sink *sink, int priority, int64_t time_ns, const struct audit_pair *pairs,
                     size_t n)
{
	if (sink->kind == AUDIT_FILE)
		return write_file(sink, time_ns, pairs, n);
	if (sink->kind == AUDIT_JOURNAL)
		return write_journal(sink, priority, pairs, n);
	return write_syslog(sink, priority, time_ns, pairs, n);
}

bool audit_sink_wait(struct audit_sink *sink, int ms)
{
	struct pollfd p = { .fd = sink->fd, .events = POLLOUT };

	return poll(&p, 1, ms) == 1;
}
