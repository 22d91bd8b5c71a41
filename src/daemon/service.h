/*
 * The service manager: what sd_notify(3) does, without libsystemd. Datagrams of lines to the socket that
 * NOTIFY_SOCKET names (a path, or "@" and an abstract name).
 *
 * Only the supervisor speaks to it, and only in the foreground: a daemon in the background is not the
 * process that the manager waits for, and who started it may well be a service himself, for which we
 * must not speak. Without a manager every function does nothing and returns 0.
 *
 * One thread, no sandbox. Sending waits half a second at most where a manager does not read, and for a status
 * or a sign of life not at all; it fails with -errno, which callers may leave alone: the manager's own
 * deadlines tell of it. Text that is given has its controls masked, so that it
 * stays one line.
 */
#ifndef CONNECTFS_DAEMON_SERVICE_H
#define CONNECTFS_DAEMON_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct service {
	int fd;                 /* -1: there is no manager, or it isn't ours to speak to */
	struct sockaddr_un address;
	socklen_t address_len;
	int64_t watchdog_ms;    /* between two signs of life: half of WATCHDOG_USEC; 0: none are wanted */
	int64_t next_ms;        /* when the next one is due (clock_mono_ms) */
	char watchdog_usec[24]; /* as it was given, for service_environment; "": not */
};

/* Reads the environment, and takes the variables out of it: children get none of them. foreground false: does
 * only that. Never fails: without a usable socket there is no manager. */
void service_init(struct service *s, bool foreground);
/* Puts the variables back, for an exec of ourselves. 0 or -ENOMEM. */
int service_environment(const struct service *s);
void service_done(struct service *s);

/* READY=1, MAINPID of this process, and STATUS. Also the end of a reload. */
int service_ready(struct service *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int service_status(struct service *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* RELOADING=1, with the time it wants beside it; ends by service_ready. */
int service_reloading(struct service *s);
int service_stopping(struct service *s);
/* WATCHDOG=1 where it is due. To be called whenever next_ms has come. */
int service_watchdog(struct service *s, int64_t now_ms);

/* Gives the manager a copy of fd, to be kept over our death and handed to the next start under that name (letters,
 * digits, '-'; LISTEN_FDNAMES). It is not looked at for hang-ups (FDPOLL=0), which would drop it. The unit needs
 * FileDescriptorStoreMax=. fd stays the caller's. */
int service_keep_fd(struct service *s, const char *name, int fd);
/* Lets go of all of that name: before an intended end. */
int service_drop_fd(struct service *s, const char *name);
/* What an earlier start has left with the manager (LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES, which are taken out of the
 * environment): into ret_fds the descriptor of each of the n names, CLOEXEC and the caller's, or -1. Others
 * are closed. To be called before a descriptor is opened; foreground as of service_init. */
void service_take_fds(bool foreground, const char *const *names, size_t n, int *ret_fds);

#endif
