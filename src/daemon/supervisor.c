/*
 * The supervisor: mounts, starts worker and notifier, starts them again when they die, and takes
 * everything down at the end. It reads no secret, parses neither settings nor anything from the
 * network, has no thread, and never touches the mount.
 *
 *   CONFIGURING ──CONFIGURED: mount, DEVICE, NOTIFIER──▶ OPENING ──READY──▶ SERVING
 *        ▲                                                                    │
 *        └──────────── PAUSED (back-off, if any) ◀─── the worker died ────────┘
 *
 * and from each of them STOPPING: by a signal, by an unmount, by a failure at start. When a worker dies, the
 * device, the keep and the journal stay here, and its successor gets them: it goes on with the requests
 * and the open files. Only where the mount itself has gone (somebody has aborted the connection) is it made anew.
 */
#include "daemon/role.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/keep.h"
#include "base/log.h"
#include "base/secmem.h"
#include "daemon/control.h"
#include "daemon/mount.h"
#include "fs/journal.h"

enum {
	BACKOFF_FIRST_MS = 50,
	BACKOFF_MAX_MS = 10000,
	HEALTHY_MS = 60000,     /* who lived that long begins with the first back-off again */
	STOP_TERM_MS = 500,     /* for ending in order; then SIGKILL */
	STOP_GIVE_UP_MS = 400,  /* after SIGKILL: a process that the kernel does not let die, since a thread of it
	                         * is in a file system that hangs. Nothing is gained by waiting for it: it is
	                         * unmounted, and who waits for our end shall have it within a second. */
	WAIT_MAX_MS = 60000,
	AT_ONCE_MS = 50,        /* who served that long is replaced without a back-off */
	SILENT_MS = 15000,      /* a worker that isn't heard of for so long hangs, and is killed */
	POISON_DEATHS = 2,      /* so many that crash before they serve: the next begins with nothing of theirs */
};

enum phase { CONFIGURING, OPENING, SERVING, PAUSED, STOPPING };

struct child {
	pid_t pid;        /* 0: none */
	int64_t since_ms; /* started, or of the worker: ready */
	int64_t again_ms; /* when to start another; 0: not waiting for that */
	int64_t delay_ms; /* the last back-off */
};

struct supervisor {
	const struct supervisor_start *start;
	const char *mountpoint;   /* start's */
	int exe, lock, signals, device, control;
	int keep, journal;        /* what a successor finds */
	void *keep_map;           /* read-only and never read: it keeps the memory locked while no worker lives */
	size_t keep_mapped;
	enum control_death death; /* of the last worker */
	unsigned crashes;         /* in a row, before one was ready */
	int64_t heard_ms;         /* when the worker was last heard of */
	bool hung;                /* and it was killed for that */
	int report;               /* pipe to the parent in the background, until start-up is over */
	enum phase phase;
	bool ready_once, mounted;
	unsigned major, minor;    /* of the mount */
	uint32_t uid, gid;        /* of the files, hence of the notifier */
	uint32_t restarts;
	struct child worker, notifier;
	int64_t kill_ms, give_up_ms; /* while STOPPING */
	int status;
	char *failure;            /* sentences for who started us */
};

static void stop(struct supervisor *s, int status);

/* ---- Failures --------------------------------------------------------------------------- */

static void fail(struct supervisor *s, int status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Remembers the sentences; the first ones win, being the cause of the others. */
static void remember_failure(struct supervisor *s, int status, const char *text)
{
	if (s->failure)
		return;
	s->failure = strdup(text);
	s->status = status;
}

static void log_failure(struct supervisor *s, const char *msg)
{
	char *save, *line = s->failure ? strtok_r(s->failure, "\n", &save) : NULL;

	for (; line; line = strtok_r(NULL, "\n", &save))
		log_error(msg, "mountpoint", s->mountpoint, "error", line, NULL);
	free(s->failure);
	s->failure = NULL;
}

static void back_off(struct child *c)
{
	int64_t now = clock_mono_ms();

	if (now - c->since_ms >= HEALTHY_MS)
		c->delay_ms = 0;
	c->delay_ms = c->delay_ms == 0 ? BACKOFF_FIRST_MS : c->delay_ms * 2;
	if (c->delay_ms > BACKOFF_MAX_MS)
		c->delay_ms = BACKOFF_MAX_MS;
	c->again_ms = now + c->delay_ms;
}

/* ---- The mount ------------------------------------------------------------------------- */

static bool is_mounted(const struct supervisor *s)
{
	return mount_is_at(s->mountpoint, s->major, s->minor);
}

static void unmount(struct supervisor *s, bool lazy)
{
	int err = -EBUSY;

	if (!s->mounted)
		return;
	s->mounted = false;
	if (!is_mounted(s))
		return;
	if (!lazy)
		err = mount_close(s->mountpoint, false);
	if (err)
		err = mount_close(s->mountpoint, true);
	if (err && err != -EINVAL && err != -ENOENT)
		log_error("can't unmount", "mountpoint", s->mountpoint, "error", strerror(-err), NULL);
	else
		log_info("unmounted", "mountpoint", s->mountpoint, NULL);
}

static int do_mount(struct supervisor *s, struct error *ret_err)
{
	int err = mount_open(s->mountpoint, &s->start->mount, &s->device, ret_err);

	if (!err)
		err = mount_identify(s->mountpoint, &s->major, &s->minor, ret_err);
	s->mounted = !err;
	return err;
}

/* ---- The children ---------------------------------------------------------------------- */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void kill_child(const struct child *c, int signal)
{
	if (c->pid > 0)
		kill(c->pid, signal);
}

/* By name, both being canonical. */
static bool is_below(const char *path, const char *top)
{
	size_t len = strlen(top);

	return strncmp(path, top, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

static int start_worker(struct supervisor *s)
{
	struct role role = {
		.name = "worker", .args = s->start->worker_args, .directory = s->start->directory,
	};
	int pair[2], err;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
		return -errno;
	role.socket = pair[1];
	/* Where we were started may be on the mount by now: entering it would ask a worker that does not
	 * serve yet. */
	if (s->ready_once && is_below(s->start->directory, s->mountpoint))
		role.directory = NULL;
	err = role_start(s->exe, &role, &s->worker.pid);
	close(pair[1]);
	if (err) {
		close(pair[0]);
		return err;
	}
	s->control = pair[0];
	s->worker.since_ms = s->heard_ms = clock_mono_ms();
	s->worker.again_ms = 0;
	s->hung = false;
	s->phase = CONFIGURING;
	return 0;
}

static int start_notifier(struct supervisor *s)
{
	char uid[16], gid[16];
	char *args[] = { uid, gid, NULL };
	struct role role = {
		.name = "notifier", .args = args, .minimal_environment = true,
		.detach = s->start->background,
	};
	struct control_message m = { .op = CONTROL_NOTIFIER };
	int pair[2], err;

	snprintf(uid, sizeof(uid), "%" PRIu32, s->uid);
	snprintf(gid, sizeof(gid), "%" PRIu32, s->gid);
	s->notifier.since_ms = clock_mono_ms();
	s->notifier.again_ms = 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return -errno;
	role.socket = pair[1];
	err = role_start(s->exe, &role, &s->notifier.pid);
	close(pair[1]);
	if (!err) {
		m.pid = s->notifier.pid;
		err = control_send(s->control, &m, pair[0]);
	}
	close(pair[0]);
	return err;
}

static void drop_keep(struct supervisor *s)
{
	if (s->keep_map)
		munmap(s->keep_map, s->keep_mapped);
	s->keep_map = NULL;
	s->keep_mapped = 0;
	close_fd(&s->keep);
	close_fd(&s->journal);
}

/* The end of a mount: nothing of it stays. */
static void take_down(struct supervisor *s)
{
	close_fd(&s->device);
	close_fd(&s->control);
	kill_child(&s->worker, SIGKILL);
	kill_child(&s->notifier, SIGKILL);
	s->notifier.again_ms = 0;
	unmount(s, true);
	drop_keep(s);
	s->death = CONTROL_DEATH_NONE;
}

/* A start that went wrong. The first: the end. A later one: another try after the back-off; readers wait. */
static void give_up_start(struct supervisor *s)
{
	if (!s->ready_once) {
		take_down(s);
		stop(s, s->status);
		return;
	}
	close_fd(&s->control);
	kill_child(&s->worker, SIGKILL);
	log_failure(s, "the worker can't start");
	s->phase = PAUSED;
	if (s->worker.pid == 0)
		back_off(&s->worker);
}

static void fail(struct supervisor *s, int status, const char *fmt, ...)
{
	char text[ERROR_TEXT_MAX + 64];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	remember_failure(s, status, text);
	give_up_start(s);
}

/* Ends in order what lives; sooner or later the loop finds that nothing does. */
static void stop(struct supervisor *s, int status)
{
	struct control_message m = { .op = CONTROL_STOP };

	if (s->phase == STOPPING)
		return;
	s->phase = STOPPING;
	s->status = status;
	s->kill_ms = clock_mono_ms() + STOP_TERM_MS;
	s->give_up_ms = s->kill_ms + STOP_GIVE_UP_MS;
	s->worker.again_ms = s->notifier.again_ms = 0;
	unmount(s, false);
	close_fd(&s->device);
	if (s->control >= 0 && control_send(s->control, &m, -1) != 0)
		close_fd(&s->control); /* its end says the same */
	kill_child(&s->notifier, SIGTERM);
}

/* ---- What the worker says --------------------------------------------------------------- */

/* Maps the keep anew, as long as it is now, and locks it. */
static void hold_keep(struct supervisor *s, size_t bytes)
{
	void *map;

	if (bytes <= s->keep_mapped)
		return;
	map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, s->keep, 0);
	if (map == MAP_FAILED)
		return;
	madvise(map, bytes, MADV_DONTDUMP);
	madvise(map, bytes, MADV_DONTFORK);
	if (mlock(map, bytes) != 0)
		log_warn("memory for secrets can't be locked while no worker lives", "error", strerror(errno), NULL);
	if (s->keep_map)
		munmap(s->keep_map, s->keep_mapped);
	s->keep_map = map;
	s->keep_mapped = bytes;
}

/* A mount with its keep and journal, where there is none to go on with. */
static int do_begin(struct supervisor *s, struct error *ret_err)
{
	int err;

	if (s->device >= 0)
		return 0;
	err = keep_create(&s->keep);
	if (!err)
		err = journal_create(&s->journal);
	if (err)
		return error_set(ret_err, EIO, "can't start: %s", strerror(-err));
	return do_mount(s, ret_err);
}

static int hand_over(struct supervisor *s)
{
	struct control_message m = { .op = CONTROL_KEEP };
	int err = control_send(s->control, &m, s->keep);

	m.op = CONTROL_JOURNAL;
	if (!err)
		err = control_send(s->control, &m, s->journal);
	m = (struct control_message){
		.op = CONTROL_DEVICE, .restarts = s->restarts, .death = s->death,
		.dev_major = s->major, .dev_minor = s->minor,
	};
	return err ? err : control_send(s->control, &m, s->device);
}

static void on_configured(struct supervisor *s, const struct control_message *m)
{
	struct error err = ERROR_INIT;
	int e;

	if (s->phase != CONFIGURING)
		return;
	s->uid = m->uid;
	s->gid = m->gid;
	if (do_begin(s, &err) != 0) {
		fail(s, 2, "connectfs: %s", err.text);
		return;
	}
	s->phase = OPENING;
	e = hand_over(s);
	/* The notifier of the worker before may be dying still: its end starts the next one. */
	if (!e && s->notifier.pid == 0)
		e = start_notifier(s);
	if (e)
		fail(s, 2, "connectfs: can't start: %s", strerror(-e));
}

/* Tells the parent that waits in the background's case, or ours, how the start went. */
static void report_start(struct supervisor *s)
{
	unsigned char status = (unsigned char)s->status;
	const char *text = s->failure ? s->failure : "";

	if (s->report < 0) {
		if (*text)
			fprintf(stderr, "%s%s", text, text[strlen(text) - 1] == '\n' ? "" : "\n");
		return;
	}
	if (write(s->report, &status, 1) == 1 && *text)
		if (write(s->report, text, strlen(text)) < 0)
			log_error("can't tell", "error", text, NULL);
	close_fd(&s->report);
}

static void on_ready(struct supervisor *s)
{
	char restarts[16];

	if (s->phase != OPENING)
		return;
	s->phase = SERVING;
	s->crashes = 0;
	s->worker.since_ms = clock_mono_ms();
	if (s->report >= 0) {
		report_start(s);
		role_detach_stdio();
	}
	s->ready_once = true;
	snprintf(restarts, sizeof(restarts), "%" PRIu32, s->restarts);
	log_info(s->death == CONTROL_DEATH_NONE ? "mounted" : "serving again", "mountpoint", s->mountpoint,
	         "source", s->start->source, "restarts", s->restarts > 0 ? restarts : NULL, NULL);
}

static void on_notifier_lost(struct supervisor *s)
{
	if (s->phase == STOPPING) /* told to end */
		return;
	log_warn("the notifier is lost", "mountpoint", s->mountpoint, NULL);
	kill_child(&s->notifier, SIGKILL); /* its death starts the next one */
}

static void on_message(struct supervisor *s)
{
	struct control_message m;
	int fd, err;

	while (s->control >= 0) {
		err = control_receive(s->control, &m, &fd);
		if (err == -EAGAIN)
			return;
		if (err) { /* it is about to end: SIGCHLD says how */
			close_fd(&s->control);
			return;
		}
		close_fd(&fd);
		s->heard_ms = clock_mono_ms();
		switch (m.op) {
		case CONTROL_CONFIGURED:
			on_configured(s, &m);
			break;
		case CONTROL_READY:
			on_ready(s);
			break;
		case CONTROL_FAILED:
			remember_failure(s, m.status > 0 && m.status < 128 ? m.status : 2, m.text);
			break;
		case CONTROL_NOTIFIER_LOST:
			on_notifier_lost(s);
			break;
		case CONTROL_KEEP_GREW:
			hold_keep(s, m.bytes);
			break;
		default:
			break;
		}
	}
}

/* An empty one in place of one that can't be used. */
static void new_keep(struct supervisor *s)
{
	int keep, err = keep_create(&keep);

	if (err) {
		log_error("can't make a new keep", "error", strerror(-err), NULL);
		return;
	}
	if (s->keep_map)
		munmap(s->keep_map, s->keep_mapped);
	s->keep_map = NULL;
	s->keep_mapped = 0;
	close_fd(&s->keep);
	s->keep = keep;
}

/* ---- Deaths ---------------------------------------------------------------------------- */

/* Has it brought it upon itself? Then what it did may not be done again. */
static bool is_crash(const struct supervisor *s, int status)
{
	static const int own[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS };

	for (size_t i = 0; WIFSIGNALED(status) && i < sizeof(own) / sizeof(own[0]); i++)
		if (WTERMSIG(status) == own[i])
			return true;
	return s->hung;
}

/* A worker that had the device or was to get it has died: another goes on. */
static void succeed(struct supervisor *s, int status, const char *how)
{
	bool crash = is_crash(s, status), served = s->phase == SERVING;
	bool at_once = served && clock_mono_ms() - s->worker.since_ms >= AT_ONCE_MS;

	log_error(s->hung ? "the worker hung; starting another" : "the worker died; starting another", "mountpoint",
	          s->mountpoint, "ended", how, NULL);
	log_failure(s, "the worker failed");
	close_fd(&s->control);
	s->restarts++;
	s->death = crash ? CONTROL_DEATH_CRASHED : CONTROL_DEATH_KILLED;
	if (!served && crash && ++s->crashes >= POISON_DEATHS) {
		log_error("workers die before they serve: the next begins without what they kept", "mountpoint",
		          s->mountpoint, NULL);
		s->death = CONTROL_DEATH_POISON;
		new_keep(s);
	}
	/* The socket's end ends the notifier too, as soon as somebody answers what it waits for. */
	s->notifier.again_ms = 0;
	s->phase = PAUSED;
	if (at_once) {
		s->worker.again_ms = clock_mono_ms();
		s->worker.delay_ms = 0;
	} else {
		back_off(&s->worker);
	}
}

static void on_worker_death(struct supervisor *s, int status)
{
	char how[ROLE_ENDED_SIZE];

	on_message(s); /* its last words, and CONTROL_FAILED among them */
	s->worker.pid = 0;
	role_how_ended(status, how);
	if (s->phase == STOPPING) { /* killed by us, or on its way out: then nobody else would tell */
		if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
			log_error("the worker died while it stopped", "mountpoint", s->mountpoint, "ended", how, NULL);
		return;
	}
	if (s->phase == PAUSED) { /* killed by take_down after a start that went wrong */
		back_off(&s->worker);
		return;
	}
	if (s->ready_once && s->device >= 0) {
		if (!mount_exists(s->major, s->minor)) {
			log_info("unmounted", "mountpoint", s->mountpoint, NULL);
			stop(s, 0);
			return;
		}
		/* The session ends also when somebody aborts the connection: then it is still mounted, and dead. */
		if (s->phase == SERVING && WIFEXITED(status) && WEXITSTATUS(status) == ROLE_EXIT_UNMOUNTED) {
			log_error("the connection was aborted; mounting anew", "mountpoint", s->mountpoint, NULL);
			take_down(s);
		}
		succeed(s, status, how);
		return;
	}
	fail(s, 2, "connectfs: the worker ended before the mount was ready: %s", how);
}

static void on_notifier_death(struct supervisor *s, int status)
{
	char how[ROLE_ENDED_SIZE];

	s->notifier.pid = 0;
	if (s->phase != SERVING && s->phase != OPENING)
		return;
	/* 0: its socket ended, because the worker closed it or is dying itself. */
	log_write(WIFEXITED(status) && WEXITSTATUS(status) == 0 ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN,
	          "the notifier ended; starting another", "mountpoint", s->mountpoint, "ended",
	          role_how_ended(status, how), NULL);
	back_off(&s->notifier);
}

/* Only our own children: what mount.c started it waits for itself. */
static bool reap(struct child *c, int *ret_status)
{
	return c->pid > 0 && waitpid(c->pid, ret_status, WNOHANG) == c->pid;
}

static void on_children(struct supervisor *s)
{
	int status;

	if (reap(&s->worker, &status))
		on_worker_death(s, status);
	if (reap(&s->notifier, &status))
		on_notifier_death(s, status);
}

static void on_stop_signal(struct supervisor *s, int signal)
{
	log_info("stopping", "mountpoint", s->mountpoint, "signal", strsignal(signal), NULL);
	if (s->report >= 0) /* somebody waits for a mount that will not be */
		remember_failure(s, 2, "connectfs: stopped by a signal before the mount was ready");
	stop(s, s->report >= 0 ? 2 : 0);
}

static void on_signals(struct supervisor *s)
{
	struct signalfd_siginfo info;
	bool child = false;

	/* First all of them, so that an order to stop comes before a death that it caused. */
	while (read(s->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCHLD) {
			child = true;
		} else if (info.ssi_signo == SIGHUP) {
			log_info("SIGHUP is ignored: settings are not reloaded", NULL);
		} else if (s->phase != STOPPING) {
			on_stop_signal(s, (int)info.ssi_signo);
		}
	}
	if (child)
		on_children(s);
}

/* ---- The loop -------------------------------------------------------------------------- */

static void on_time(struct supervisor *s)
{
	int64_t now = clock_mono_ms();
	int err;

	if (s->phase == STOPPING && now >= s->kill_ms) {
		kill_child(&s->worker, SIGKILL);
		kill_child(&s->notifier, SIGKILL);
		s->kill_ms = INT64_MAX;
	}
	if (s->worker.pid > 0 && s->phase == SERVING && !s->hung && now - s->heard_ms >= SILENT_MS) {
		s->hung = true;
		kill_child(&s->worker, SIGKILL);
	}
	if (s->worker.again_ms && now >= s->worker.again_ms) {
		err = start_worker(s);
		if (err) {
			log_error("can't start a worker", "error", strerror(-err), NULL);
			back_off(&s->worker);
		}
	}
	if (s->notifier.again_ms && now >= s->notifier.again_ms) {
		err = start_notifier(s);
		if (err) {
			log_error("can't start a notifier", "error", strerror(-err), NULL);
			kill_child(&s->notifier, SIGKILL);
			if (s->notifier.pid == 0)
				back_off(&s->notifier);
		}
	}
}

static int next_timeout(const struct supervisor *s)
{
	int64_t at = INT64_MAX, left;

	if (s->phase == STOPPING)
		at = s->kill_ms < s->give_up_ms ? s->kill_ms : s->give_up_ms;
	if (s->worker.again_ms && s->worker.again_ms < at)
		at = s->worker.again_ms;
	if (s->notifier.again_ms && s->notifier.again_ms < at)
		at = s->notifier.again_ms;
	if (s->phase == SERVING && s->worker.pid > 0 && !s->hung && s->heard_ms + SILENT_MS < at)
		at = s->heard_ms + SILENT_MS;
	if (at == INT64_MAX)
		return -1;
	left = at - clock_mono_ms();
	return left < 0 ? 0 : left > WAIT_MAX_MS ? WAIT_MAX_MS : (int)left;
}

static bool is_over(const struct supervisor *s)
{
	if (s->phase != STOPPING)
		return false;
	if (s->worker.pid == 0 && s->notifier.pid == 0)
		return true;
	if (clock_mono_ms() < s->give_up_ms)
		return false;
	log_error("a process does not die", "mountpoint", s->mountpoint, NULL);
	return true;
}

static void run(struct supervisor *s)
{
	while (!is_over(s)) {
		/* Of the report pipe only its end is heard: who waited for the start is gone. */
		struct pollfd p[] = {
			{ .fd = s->signals, .events = POLLIN },
			{ .fd = s->control, .events = POLLIN },
			{ .fd = s->phase == STOPPING ? -1 : s->report, .events = 0 },
		};

		if (poll(p, 3, next_timeout(s)) < 0 && errno != EINTR) {
			log_error("poll", "error", strerror(errno), NULL);
			stop(s, 1);
			return;
		}
		if (p[0].revents)
			on_signals(s);
		if (p[1].revents)
			on_message(s);
		if (p[2].revents && s->report >= 0)
			stop(s, 2);
		on_time(s);
	}
}

/* ---- Start and end --------------------------------------------------------------------- */

static void set_up(struct supervisor *s)
{
	static const int heard[] = { SIGTERM, SIGINT, SIGHUP, SIGCHLD };
	struct error err = ERROR_INIT;
	pid_t pid;
	int e, removed = 0;

	if ((e = secmem_harden_process()) != 0 || (e = role_open_self(&s->exe)) != 0 ||
	    (e = role_watch_signals(heard, sizeof(heard) / sizeof(heard[0]), &s->signals)) != 0)
		fail(s, 2, "connectfs: can't start: %s", strerror(-e));
	else if (chdir("/") != 0)
		fail(s, 2, "connectfs: /: %s", strerror(errno));
	else if (mount_lock(s->mountpoint, &s->lock, &pid, &err) != 0)
		fail(s, 2, "connectfs: %s", err.text);
	else if ((removed = mount_remove_dead(s->mountpoint, &err)) < 0)
		fail(s, 2, "connectfs: %s", err.text);
	else if ((e = start_worker(s)) != 0)
		fail(s, 2, "connectfs: can't start the worker: %s", strerror(-e));
	if (removed > 0)
		log_warn("unmounted what a dead connectfs left", "mountpoint", s->mountpoint, NULL);
}

int supervisor_run(const struct supervisor_start *start)
{
	struct supervisor s = {
		.start = start, .mountpoint = start->mountpoint, .exe = -1, .lock = -1, .signals = -1,
		.device = -1, .keep = -1, .journal = -1, .control = -1, .report = start->report,
	};

	log_set_role("supervisor");
	log_init();
	set_up(&s);
	run(&s);
	take_down(&s);
	if (s.lock >= 0)
		mount_unlock(s.mountpoint, s.lock);
	if (!s.ready_once)
		report_start(&s);
	close_fd(&s.signals);
	close_fd(&s.exe);
	free(s.failure);
	return s.status;
}
