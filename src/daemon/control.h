/*
 * What supervisor and worker tell each other: packets over a SOCK_SEQPACKET socket pair, small, of a
 * fixed layout, descriptors attached. The supervisor never parses text from the worker; it shows it.
 */
#ifndef CONNECTFS_DAEMON_CONTROL_H
#define CONNECTFS_DAEMON_CONTROL_H

#include <stdint.h>

enum control_op {
	/* supervisor → worker */
	CONTROL_DEVICE = 1, /* fd: /dev/fuse, mounted; dev_major, dev_minor, death, restarts. After the next two */
	CONTROL_KEEP,       /* fd: base/keep.h */
	CONTROL_JOURNAL,    /* fd: fs/journal.h */
	CONTROL_NOTIFIER,   /* fd: the notifier's socket; pid */
	CONTROL_STOP,       /* end in order: answer what is parked, leave */
	/* worker → supervisor */
	CONTROL_CONFIGURED, /* settings read and good, listing made: ready for the device; uid, gid: the
	                       files' owner */
	CONTROL_READY,      /* FUSE_INIT is answered; fd: its watches', to be held */
	CONTROL_FAILED,     /* text: the sentences to show; then it leaves. status: the exit status */
	CONTROL_NOTIFIER_LOST, /* the notifier hung up or is stuck: another one, please */
	CONTROL_KEEP_GREW,  /* to so many bytes */
	CONTROL_ALIVE,      /* the event loop turns; every CONTROL_ALIVE_MS */
	CONTROL_OUTDATED,   /* its sandbox keeps it from what it needs by now: a successor, please, as by a reload */
};

enum {
	CONTROL_TEXT_MAX = 8192,
	CONTROL_ALIVE_MS = 1000,
	/* Of these packets, and of what a supervisor leaves to the program that it becomes. */
	CONTROL_SUPERVISOR_FORMAT = 2,
};

/* How the worker before ended. */
enum control_death {
	CONTROL_DEATH_NONE,    /* there was none: the mount is new */
	CONTROL_DEATH_KILLED,  /* by SIGKILL, or by its own exit: what it did is not to blame */
	CONTROL_DEATH_CRASHED, /* by a signal that it brought upon itself, or by the watchdog */
	CONTROL_DEATH_POISON,  /* so two of them before they could serve: nothing of theirs is to be used */
};

struct control_message {
	uint32_t op;
	uint32_t uid, gid;
	int32_t pid, status;
	uint32_t dev_major, dev_minor;
	uint32_t restarts; /* how many workers there were before */
	uint32_t death;    /* enum control_death */
	uint64_t bytes;
	uint64_t init_number; /* with CONTROL_CONFIGURED: fs_init_number() */
	/* With CONTROL_CONFIGURED: what the program understands; see reload.c. */
	uint32_t keep_format, journal_format, supervisor_format;
	char text[CONTROL_TEXT_MAX]; /* NUL-terminated; only as much as is used is sent */
};

/* fd -1: none attached. 0 or -errno (-EAGAIN: the socket is full). */
int control_send(int socket, const struct control_message *m, int fd);
/* One packet; *ret_fd is -1 or CLOEXEC and the caller's. 0; -ENOTCONN at the end; -errno. */
int control_receive(int socket, struct control_message *ret, int *ret_fd);

#endif
