/*
 * The roles of the daemon, and how they are started: the supervisor by daemon_run, the others by
 * exec from a descriptor of our own executable, so that they are the same binary though the file
 * may have been replaced.
 *
 * A role started by exec inherits standard input, output and error, ROLE_SOCKET, and nothing else. SIGINT and
 * SIGHUP are ignored in it: a terminal sends them to all, but it is the supervisor who ends the
 * others.
 *
 *   connectfs --role=worker MOUNTPOINT FLAGS SOURCE [KEY=VALUE]…
 *   connectfs --role=notifier UID GID
 *   connectfs --role=supervisor FD MOUNTPOINT     only by the supervisor itself: see reload.c
 *
 * FLAGS is a comma-separated list of "allow_other", "debug", "detach" (see role_detach_stdio;
 * after READY), or "-".
 */
#ifndef CONNECTFS_DAEMON_ROLE_H
#define CONNECTFS_DAEMON_ROLE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "daemon/mount.h"

enum {
	ROLE_SOCKET = 3,         /* control.h of the worker, notifier.h of the notifier */
	ROLE_EXIT_UNMOUNTED = 0, /* of the worker: the session ended by itself */
	ROLE_EXIT_FAILED = 1,
	ROLE_EXIT_STOPPED = 3,   /* of the worker: told to by a signal or by CONTROL_STOP */
};

struct role {
	const char *name;         /* "worker", "notifier" */
	char *const *args;        /* what follows --role=…; NULL-terminated */
	int socket;               /* becomes ROLE_SOCKET */
	const char *directory;    /* where it starts; "/" where that is gone; NULL: "/" */
	bool minimal_environment; /* PATH, LANG and what a sanitizer needs; else ours */
	bool detach;              /* role_detach_stdio from the start */
};

/* Our own executable, open for role_start (CLOEXEC, never one of the low numbers). 0 or -errno. */
int role_open_self(int *ret_exe);
/* Only for a process without threads. 0 with *ret_pid, or -errno. A failing exec is seen as
 * the child's exit status 127. */
int role_start(int exe, const struct role *role, pid_t *ret_pid);

/* For a daemon in the background: standard input and output become /dev/null; standard error as
 * well, unless it is the journal or a file: nobody reads a terminal later, and who reads a pipe
 * waits for its end. */
void role_detach_stdio(void);
/* The same in two steps, for who can't open anything by then: /dev/null (CLOEXEC; -1: there is none), and
 * what becomes of it, which closes it. */
int role_open_null(void);
void role_detach_stdio_to(int null);

/* Blocks the signals for this thread and those that it starts, and gives a signalfd (non-blocking,
 * CLOEXEC) of them. SIGPIPE is ignored from here on. 0 or -errno. */
int role_watch_signals(const int *signals, size_t n, int *ret_fd);

enum { ROLE_ENDED_SIZE = 64 };
/* "signal 9 (Killed)", "exit status 1", from what waitpid says. Returns ret (ROLE_ENDED_SIZE bytes). */
const char *role_how_ended(int status, char *ret);

/* worker.c; argv as above. */
int worker_main(int argc, char **argv);

struct supervisor_start {
	const char *mountpoint;      /* canonical */
	const char *source;          /* absolute */
	const char *directory;       /* where the worker starts: relative paths are from here */
	char *const *worker_args;
	struct mount_options mount;
	bool background;
	int report; /* Background: pipe to who waits for the start, taken over. It gets a byte, the exit
	               status (0: the mount is ready), and the sentences. -1: standard error gets those. */
};

/* reload.c: the supervisor after a reload, which was that of another program before. */
int reload_resumed(int argc, char **argv);

/* supervisor.c; a process without threads. Returns the exit status, when all is taken down. */
int supervisor_run(const struct supervisor_start *start);

#endif
