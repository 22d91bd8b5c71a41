/*
 * The supervisor from inside: what its files share. supervisor.c is what it does when; children.c starts the other
 * processes and hands over to them; ownmount.c has the mount; reload.c puts another program in the place of
 * the one that runs.
 *
 * A process without threads: everything here belongs to its one loop.
 */
#ifndef CONNECTFS_DAEMON_SUPERVISOR_H
#define CONNECTFS_DAEMON_SUPERVISOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/fd.h"
#include "daemon/control.h"
#include "daemon/role.h"
#include "daemon/service.h"

enum {
	BACKOFF_FIRST_MS = 10,
	BACKOFF_MAX_MS = 10000,
	HEALTHY_MS = 60000,     /* who lived that long begins with the first back-off again */
	STOP_TERM_MS = 500,     /* for ending in order; then SIGKILL */
	STOP_GIVE_UP_MS = 400,  /* after SIGKILL: a process that the kernel does not let die, since a thread of it
	                         * is in a file system that hangs. Nothing is gained by waiting for it: it is
	                         * unmounted, and who waits for our end shall have it within a second. */
	WAIT_MAX_MS = 60000,
	AT_ONCE_MS = 50,        /* who served that long is replaced without a back-off … */
	AT_ONCE_CRASH_MS = 5000, /* … or that long, when it died by its own fault */
	UNSERVED_MS = 15000,    /* readers wait no longer for workers that can't serve: the connection is ended */
	SILENT_MS = 15000,      /* a worker that isn't heard of for so long hangs, and is killed */
	DEAD_LOOK_MS = 2000,    /* after such a silence, and then as often: is it dead, but for a thread? */
	EARLY_MAX = 20,         /* so many in a row that were only killed too early wait but the first back-off */
	POISON_DEATHS = 2,      /* so many that crash before they serve: the next begins with nothing of theirs */
};

enum phase { CONFIGURING, OPENING, SERVING, PAUSED, STOPPING };

struct child {
	pid_t pid;        /* 0: none */
	int64_t since_ms; /* started, or of the worker: ready */
	int64_t again_ms; /* when to start another; 0: not waiting for that */
	int64_t delay_ms; /* the last back-off */
};

/* A worker of another program, or with other settings, that has not taken over yet. */
struct candidate {
	pid_t pid;        /* 0: none */
	int control, exe;
	int64_t until_ms; /* so long it may take */
	char *failure;    /* its sentences */
};

struct supervisor {
	const struct supervisor_start *start;
	const char *mountpoint;   /* start's */
	int exe, lock, signals, device, control;
	int keep, journal;        /* what a successor finds */
	int watches;              /* the worker's inotify: held, so that its death is quick and its successor's watches are */
	void *keep_map;           /* read-only and never read: it keeps the memory locked while no worker lives */
	size_t keep_mapped;
	enum control_death death; /* of the last worker */
	unsigned crashes;         /* in a row, before one was ready */
	unsigned early;           /* deaths in a row that did not come of themselves, but too early */
	int64_t unserved_ms;      /* since when nobody serves the mount that there is; 0: somebody does */
	int64_t heard_ms;         /* when the worker was last heard of */
	int64_t looked_ms;        /* when it was last looked at for that */
	pid_t undead;             /* one that a thread keeps from being reaped, and that has a successor; 0: none */
	bool hung;                /* and it was killed for that */
	int report;               /* pipe to the parent in the background, until start-up is over */
	struct service service;
	enum phase phase;
	bool ready_once, mounted;
	unsigned major, minor;    /* of the mount */
	uint32_t uid, gid;        /* of the files, hence of the notifier */
	uint32_t restarts;
	struct child worker, notifier;
	bool notifier_left;       /* the notifier is of a worker that has died, and is to end */
	char *exe_path;           /* of the program, as it was started: a package upgrade puts another there */
	struct candidate next;
	uint64_t init_number;     /* of the worker that answered FUSE_INIT */
	bool replaced;            /* the program that we are is not the worker's: become that one */
	uint32_t reloads;         /* how many have come to an end */
	bool reload_again;        /* somebody has asked for one while one was under way */
	int64_t kill_ms, give_up_ms; /* while STOPPING */
	int status;
	char *failure;            /* sentences for who started us */
};

/* supervisor.c */
void supervisor_fail(struct supervisor *s, int status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* One that was serving goes on in another program; see reload.c. */
int supervisor_resume(struct supervisor *s);

/* children.c */
void child_back_off(struct child *c);
void child_kill(const struct child *c, int signal);
bool child_reap(struct child *c, int *ret_status); /* true: it has ended */
/* SIGKILL, and so long at most until it has ended. False: the kernel does not let it die yet, see STOP_GIVE_UP_MS. */
bool child_end(pid_t pid, int ms);
/* A worker of the program exe: 0 with *ret_pid and *ret_control, or -errno. */
int worker_start(struct supervisor *s, int exe, pid_t *ret_pid, int *ret_control);
int notifier_start(struct supervisor *s);
/* Gives device, keep and journal to the worker, and a notifier of its own. 0 also where it has just died: SIGCHLD says
 * how. Else -errno. */
int worker_hand_over(struct supervisor *s);
/* Maps the keep, as long as it is now, and locks it. */
void keep_hold(struct supervisor *s, size_t bytes);
int keep_renew(struct supervisor *s);              /* an empty one in place of one that can't be used */
void keep_drop(struct supervisor *s);              /* and the journal */

/* ownmount.c */
/* A mount with its keep and journal, where there is none to go on with. */
int mount_begin(struct supervisor *s, struct error *ret_err);
void mount_end(struct supervisor *s, bool lazy);
bool mount_is_ours(const struct supervisor *s);    /* what is mounted on our mount point */
/* Does the kernel still have requests for us? Wherever the mount is by now (it moves with its directory), and
 * also when it has been detached and a file is still open. */
bool mount_is_alive(const struct supervisor *s);
/* The service manager's file descriptor store. Take: what it has for us, before anything is opened. Go on: true
 * where that is a living mount of ours on our mount point. Drop: nothing is to be gone on with. */
void mount_take_stored(struct supervisor *s);
bool mount_go_on(struct supervisor *s);
void mount_drop_stored(struct supervisor *s);
void mount_store_again(struct supervisor *s);      /* they are others now */

/* reload.c */
void reload_begin(struct supervisor *s);           /* at SIGHUP */
void reload_on_message(struct supervisor *s);      /* next.control can be read */
void reload_on_child(struct supervisor *s);        /* SIGCHLD */
void reload_on_time(struct supervisor *s, int64_t now);
void reload_on_ready(struct supervisor *s);        /* the worker serves */
void reload_stop(struct supervisor *s);            /* the end of all */

#endif
