/*
 * The service manager: see service.h.
 */
#include "daemon/service.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"

enum {
	SEND_MS = 500, /* a manager that does not read for so long won't be waited for */
	MESSAGE_MAX = 2048,
};

/* A variable, taken out of the environment. False: it isn't there, or too long. */
static bool take_variable(const char *name, char *ret, size_t size)
{
	const char *value = getenv(name);
	int n = value ? snprintf(ret, size, "%s", value) : -1;

	unsetenv(name);
	return n > 0 && (size_t)n < size;
}

static bool parse_address(struct service *s, const char *path)
{
	size_t len = strlen(path);

	if ((*path != '/' && *path != '@') || len < 2 || len >= sizeof(s->address.sun_path))
		return false;
	s->address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(s->address.sun_path, path, len);
	s->address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	if (*path == '@')
		s->address.sun_path[0] = '\0';
	else
		s->address_len++; /* the NUL */
	return true;
}

static void parse_watchdog(struct service *s, const char *usec, const char *pid)
{
	char *end;
	unsigned long long us;

	if (*pid && strtol(pid, &end, 10) != getpid())
		return; /* it is another process that is watched */
	us = strtoull(usec, &end, 10);
	if (*usec < '0' || *usec > '9' || *end || us == 0 || us > INT64_MAX)
		return;
	s->watchdog_ms = us >= 2000 ? (int64_t)(us / 2000) : 1;
	s->next_ms = clock_mono_ms();
	snprintf(s->watchdog_usec, sizeof(s->watchdog_usec), "%llu", us);
}

void service_init(struct service *s, bool foreground)
{
	char path[sizeof(s->address.sun_path)] = "", usec[24] = "", pid[24] = "";
	bool given = take_variable("NOTIFY_SOCKET", path, sizeof(path));
	const struct timeval limit = { .tv_usec = SEND_MS * 1000 };

	take_variable("WATCHDOG_USEC", usec, sizeof(usec));
	take_variable("WATCHDOG_PID", pid, sizeof(pid));
	*s = (struct service){ .fd = -1 };
	if (!foreground || !given || !parse_address(s, path))
		return;
	s->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s->fd < 0)
		return;
	setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	parse_watchdog(s, usec, pid);
}

int service_environment(const struct service *s)
{
	char path[sizeof(s->address.sun_path) + 1] = "", pid[24];

	if (s->fd < 0)
		return 0;
	memcpy(path, s->address.sun_path, s->address_len - offsetof(struct sockaddr_un, sun_path));
	if (!*path)
		*path = '@';
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	if (setenv("NOTIFY_SOCKET", path, 1) != 0)
		return -errno;
	if (*s->watchdog_usec &&
	    (setenv("WATCHDOG_USEC", s->watchdog_usec, 1) != 0 || setenv("WATCHDOG_PID", pid, 1) != 0))
		return -errno;
	return 0;
}

void service_done(struct service *s)
{
	fd_close(&s->fd);
}

/* fd -1: none. wait: SEND_MS at most; else what does not go out at once is not said. */
static int send_message(struct service *s, const char *text, int fd, bool wait)
{
	union fd_room room;
	struct iovec iov = { (char *)(uintptr_t)text, strlen(text) };
	struct msghdr m = {
		.msg_name = &s->address, .msg_namelen = s->address_len, .msg_iov = &iov, .msg_iovlen = 1,
	};

	if (s->fd < 0)
		return 0;
	if (fd >= 0)
		fd_attach(&m, &room, fd);
	return sendmsg(s->fd, &m, MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT)) < 0 ? -errno : 0;
}

/* lines, then STATUS= with the text. */
static int send_status(struct service *s, const char *lines, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));
static int send_status(struct service *s, const char *lines, const char *fmt, va_list ap)
{
	char message[MESSAGE_MAX];
	struct error text = ERROR_INIT; /* masks controls, and cuts between characters */

	if (s->fd < 0)
		return 0;
	error_vset(&text, 0, fmt, ap);
	snprintf(message, sizeof(message), "%sSTATUS=%s\n", lines, text.text);
	return send_message(s, message, -1, *lines);
}

int service_ready(struct service *s, const char *fmt, ...)
{
	char lines[64];
	va_list ap;
	int err;

	snprintf(lines, sizeof(lines), "READY=1\nMAINPID=%d\n", (int)getpid());
	va_start(ap, fmt);
	err = send_status(s, lines, fmt, ap);
	va_end(ap);
	return err;
}

int service_status(struct service *s, const char *fmt, ...)
{
	va_list ap;
	int err;

	va_start(ap, fmt);
	err = send_status(s, "", fmt, ap);
	va_end(ap);
	return err;
}

int service_reloading(struct service *s)
{
	char message[96];
	struct timespec now; /* not base/clock.h's, which runs on while the machine sleeps */

	clock_gettime(CLOCK_MONOTONIC, &now);
	snprintf(message, sizeof(message), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\nSTATUS=reloading\n",
	         (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
	return send_message(s, message, -1, true);
}

int service_stopping(struct service *s)
{
	return send_message(s, "STOPPING=1\nSTATUS=stopping\n", -1, true);
}

int service_watchdog(struct service *s, int64_t now_ms)
{
	if (s->watchdog_ms == 0 || now_ms < s->next_ms)
		return 0;
	s->next_ms = now_ms + s->watchdog_ms;
	return send_message(s, "WATCHDOG=1\n", -1, false);
}

int service_keep_fd(struct service *s, const char *name, int fd)
{
	char message[256];

	snprintf(message, sizeof(message), "FDSTORE=1\nFDNAME=%s\nFDPOLL=0\n", name);
	return send_message(s, message, fd, true);
}

int service_drop_fd(struct service *s, const char *name)
{
	char message[256];

	snprintf(message, sizeof(message), "FDSTOREREMOVE=1\nFDNAME=%s\n", name);
	return send_message(s, message, -1, true);
}

enum { LISTEN_FDS_START = 3, LISTEN_FDS_MAX = 64 };

/* Which of the names the i-th of a list with colons is; n: none. */
static size_t name_at(const char *list, unsigned i, const char *const *names, size_t n)
{
	size_t len, at = 0;

	for (; i > 0; i--) {
		list += strcspn(list, ":");
		list += *list == ':';
	}
	len = strcspn(list, ":");
	while (at < n && (strncmp(list, names[at], len) != 0 || names[at][len]))
		at++;
	return at;
}

void service_take_fds(bool foreground, const char *const *names, size_t n, int *ret_fds)
{
	char pid[24] = "", count[24] = "", list[2048] = "";
	bool given = take_variable("LISTEN_PID", pid, sizeof(pid));
	unsigned fds;

	given = take_variable("LISTEN_FDS", count, sizeof(count)) && given;
	take_variable("LISTEN_FDNAMES", list, sizeof(list));
	for (size_t i = 0; i < n; i++)
		ret_fds[i] = -1;
	if (!foreground || !given || strtol(pid, NULL, 10) != getpid())
		return;
	fds = (unsigned)strtoul(count, NULL, 10);
	for (unsigned i = 0; i < fds && i < LISTEN_FDS_MAX; i++) {
		size_t at = name_at(list, i, names, n);
		int fd = LISTEN_FDS_START + (int)i;

		if (at == n || ret_fds[at] >= 0) {
			close(fd);
		} else {
			fcntl(fd, F_SETFD, FD_CLOEXEC);
			ret_fds[at] = fd;
		}
	}
}
