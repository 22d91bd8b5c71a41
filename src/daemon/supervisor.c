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
#include "daemon/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/secmem.h"
#include "daemon/mount.h"

static void stop(struct supervisor *s, int status);

static int start_worker(struct supervisor *s)
{
	int err = worker_start(s, s->exe, &s->worker.pid, &s->control);

	if (err)
		return err;
	s->worker.since_ms = s->heard_ms = clock_mono_ms();
	s->worker.again_ms = 0;
	s->hung = false;
	s->phase = CONFIGURING;
	return 0;
}

/* ---- Failures --------------------------------------------------------------------------- */

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

/* ---- The children ---------------------------------------------------------------------- */

/* The end of a mount: nothing of it stays. */
static void take_down(struct supervisor *s)
{
	fd_close(&s->device);
	fd_close(&s->control);
	child_kill(&s->worker, SIGKILL);
	child_kill(&s->notifier, SIGKILL);
	s->notifier.again_ms = 0;
	mount_end(s, true);
	keep_drop(s);
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
	fd_close(&s->control);
	child_kill(&s->worker, SIGKILL);
	log_failure(s, "the worker can't start");
	s->phase = PAUSED;
	if (s->worker.pid == 0)
		child_back_off(&s->worker);
}

void supervisor_fail(struct supervisor *s, int status, const char *fmt, ...)
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
	service_stopping(&s->service);
	mount_drop_stored(s);
	mount_end(s, false);
	fd_close(&s->device);
	if (s->control >= 0 && control_send(s->control, &m, -1) != 0)
		fd_close(&s->control); /* its end says the same */
	child_kill(&s->notifier, SIGTERM);
	reload_stop(s); /* may wait for a moment */
}

/* ---- What the worker says --------------------------------------------------------------- */

static void on_configured(struct supervisor *s, const struct control_message *m)
{
	struct error err = ERROR_INIT;
	int e;

	if (s->phase != CONFIGURING)
		return;
	s->uid = m->uid;
	s->gid = m->gid;
	if (mount_begin(s, &err) != 0) {
		supervisor_fail(s, 2, "connectfs: %s", err.text);
		return;
	}
	if (s->death == CONTROL_DEATH_NONE || !s->init_number)
		s->init_number = m->init_number;
	s->phase = OPENING;
	e = worker_hand_over(s);
	if (e)
		supervisor_fail(s, 2, "connectfs: can't start: %s", strerror(-e));
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
	if (write(s->report, &status, 1) == 1 && *text && write(s->report, text, strlen(text)) < 0)
		log_error("can't tell", "error", text, NULL);
	fd_close(&s->report);
}

/* Takes watches. */
static void on_ready(struct supervisor *s, int *watches)
{
	char restarts[16];

	if (s->phase != OPENING)
		return;
	fd_close(&s->watches); /* this takes its time, but readers are served already */
	s->watches = *watches;
	*watches = -1;
	s->phase = SERVING;
	s->crashes = 0;
	s->unserved_ms = 0;
	s->worker.since_ms = clock_mono_ms();
	if (s->report >= 0) {
		report_start(s);
		role_detach_stdio();
	}
	s->ready_once = true;
	service_ready(&s->service, "serving %s from %s", s->mountpoint, s->start->source);
	snprintf(restarts, sizeof(restarts), "%" PRIu32, s->restarts);
	log_info(s->death == CONTROL_DEATH_NONE ? "mounted" : "serving again", "mountpoint", s->mountpoint,
	         "source", s->start->source, "restarts", s->restarts > 0 ? restarts : NULL, NULL);
	reload_on_ready(s);
}

static void on_notifier_lost(struct supervisor *s)
{
	if (s->phase == STOPPING) /* told to end */
		return;
	log_warn("the notifier is lost", "mountpoint", s->mountpoint, NULL);
	child_kill(&s->notifier, SIGKILL); /* its death starts the next one */
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
			fd_close(&s->control);
			return;
		}
		s->heard_ms = clock_mono_ms();
		switch (m.op) {
		case CONTROL_CONFIGURED:
			on_configured(s, &m);
			break;
		case CONTROL_READY:
			on_ready(s, &fd);
			break;
		case CONTROL_FAILED:
			remember_failure(s, m.status > 0 && m.status < 128 ? m.status : 2, m.text);
			break;
		case CONTROL_NOTIFIER_LOST:
			on_notifier_lost(s);
			break;
		case CONTROL_KEEP_GREW:
			keep_hold(s, m.bytes);
			break;
		case CONTROL_OUTDATED:
			if (s->phase == SERVING)
				reload_begin(s);
			break;
		default:
			break;
		}
		fd_close(&fd);
	}
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
	bool at_once = served && clock_mono_ms() - s->worker.since_ms >= (crash ? AT_ONCE_CRASH_MS : AT_ONCE_MS);

	log_error(s->hung ? "the worker hung; starting another" : "the worker died; starting another", "mountpoint",
	          s->mountpoint, "ended", how, NULL);
	service_status(&s->service, "the worker %s (%s); starting another", s->hung ? "hung" : "died", how);
	log_failure(s, "the worker failed");
	fd_close(&s->control);
	s->restarts++;
	s->death = crash ? CONTROL_DEATH_CRASHED : CONTROL_DEATH_KILLED;
	if (!served && crash && ++s->crashes >= POISON_DEATHS) {
		log_error("workers die before they serve: the next begins without what they kept", "mountpoint",
		          s->mountpoint, NULL);
		s->death = CONTROL_DEATH_POISON;
		if (keep_renew(s) != 0)
			log_error("can't make a new keep", NULL);
	}
	/* The socket's end ends the notifier too, as soon as somebody answers what it waits for. */
	s->notifier.again_ms = 0;
	s->notifier_left = s->notifier.pid > 0;
	s->phase = PAUSED;
	if (served || !s->unserved_ms)
		s->unserved_ms = clock_mono_ms();
	if (at_once)
		s->early = 0;
	if (at_once || (!crash && ++s->early <= EARLY_MAX))
		s->worker.delay_ms = 0;
	if (at_once)
		s->worker.again_ms = clock_mono_ms();
	else
		child_back_off(&s->worker);
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
	if (s->phase == PAUSED) { /* killed by give_up_start or take_down */
		child_back_off(&s->worker);
		return;
	}
	if (s->ready_once && s->device >= 0) {
		if (!mount_is_alive(s) && !mount_is_ours(s)) {
			log_info("unmounted", "mountpoint", s->mountpoint, NULL);
			stop(s, 0);
			return;
		}
		/* The session ends also when somebody aborts the connection: then it is still mounted, and dead. */
		if (!mount_is_alive(s)) {
			log_error("the connection was aborted; mounting anew", "mountpoint", s->mountpoint, NULL);
			take_down(s);
		}
		succeed(s, status, how);
		return;
	}
	supervisor_fail(s, 2, "connectfs: the worker ended before the mount was ready: %s", how);
}

static void on_notifier_death(struct supervisor *s, int status)
{
	char how[ROLE_ENDED_SIZE];
	bool left = s->notifier_left;

	s->notifier.pid = 0;
	s->notifier_left = false;
	if (s->phase != SERVING && s->phase != OPENING)
		return;
	/* 0: its socket ended, because the worker closed it or is dying itself. */
	log_write(WIFEXITED(status) && WEXITSTATUS(status) == 0 ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN,
	          "the notifier ended; starting another", "mountpoint", s->mountpoint, "ended",
	          role_how_ended(status, how), NULL);
	if (left) /* the next is the first of this worker */
		s->notifier.again_ms = clock_mono_ms();
	else
		child_back_off(&s->notifier);
}

/*
 * Is it dead, but for a thread that the kernel does not let die, and so without a SIGCHLD? Such a one waits for a file
 * system that hangs; that may be the mount itself, where a symlink leads to, and then it waits for the successor.
 * Nothing of it runs any more: the first thread's end was that of all.
 */
static bool is_undead(pid_t pid)
{
	char path[32], text[256];
	const char *state;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	state = strrchr(text, ')'); /* behind the name, which may hold anything */
	return state && strncmp(state, ") Z", 3) == 0;
}

/* When to look at a worker that says nothing. */
static int64_t undead_at(const struct supervisor *s)
{
	int64_t last = s->looked_ms > s->heard_ms ? s->looked_ms : s->heard_ms;

	return s->ready_once && s->worker.pid > 0 && s->phase != STOPPING ? last + DEAD_LOOK_MS : INT64_MAX;
}

static void look_for_undead(struct supervisor *s, int64_t now)
{
	pid_t pid = s->worker.pid;
	int status;

	s->looked_ms = now;
	if (child_reap(&s->worker, &status)) { /* its SIGCHLD is on the way */
		on_worker_death(s, status);
	} else if (is_undead(pid)) {
		s->undead = pid;
		on_worker_death(s, SIGKILL); /* as far as can be told */
	}
}

static void on_children(struct supervisor *s)
{
	int status;

	if (s->undead > 0 && waitpid(s->undead, NULL, WNOHANG) == s->undead)
		s->undead = 0;
	reload_on_child(s);
	if (child_reap(&s->worker, &status))
		on_worker_death(s, status);
	if (child_reap(&s->notifier, &status))
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
	bool child = false, hup = false;

	/* First all of them, so that an order to stop comes before a death that it caused. */
	while (read(s->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCHLD) {
			child = true;
		} else if (info.ssi_signo == SIGHUP) {
			hup = true;
		} else if (s->phase != STOPPING) {
			on_stop_signal(s, (int)info.ssi_signo);
		}
	}
	if (child)
		on_children(s);
	if (hup && s->phase != STOPPING)
		reload_begin(s);
}

/* ---- The loop -------------------------------------------------------------------------- */

/* When readers have waited long enough for a worker that serves; INT64_MAX: they don't wait. */
static int64_t unserved_at(const struct supervisor *s)
{
	return s->unserved_ms && s->device >= 0 && s->phase != STOPPING ? s->unserved_ms + UNSERVED_MS : INT64_MAX;
}

/* When the worker has been silent for too long. Before the first mount there is nobody whom that keeps waiting. */
static int64_t silent_at(const struct supervisor *s)
{
	return s->ready_once && s->worker.pid > 0 && s->phase != STOPPING && !s->hung ? s->heard_ms + SILENT_MS :
	       INT64_MAX;
}

static void on_time(struct supervisor *s)
{
	int64_t now = clock_mono_ms();
	int err;

	service_watchdog(&s->service, now);
	if (s->phase == STOPPING && now >= s->kill_ms) {
		child_kill(&s->worker, SIGKILL);
		child_kill(&s->notifier, SIGKILL);
		s->kill_ms = INT64_MAX;
	}
	if (now >= unserved_at(s)) {
		log_error("no worker can serve: readers wait no longer; mounting anew as soon as one can", "mountpoint",
		          s->mountpoint, NULL);
		s->unserved_ms = 0;
		take_down(s);
		if (s->phase != PAUSED) { /* its death starts the next */
			s->phase = PAUSED;
			s->worker.again_ms = 0;
		}
	}
	if (now >= undead_at(s))
		look_for_undead(s, now);
	if (now >= silent_at(s)) {
		s->hung = true;
		child_kill(&s->worker, SIGKILL);
	}
	reload_on_time(s, now);
	if (s->worker.again_ms && now >= s->worker.again_ms) {
		err = start_worker(s);
		if (err) {
			log_error("can't start a worker", "error", strerror(-err), NULL);
			child_back_off(&s->worker);
		}
	}
	if (s->notifier.again_ms && now >= s->notifier.again_ms) {
		err = notifier_start(s);
		if (err) {
			log_error("can't start a notifier", "error", strerror(-err), NULL);
			child_kill(&s->notifier, SIGKILL);
			if (s->notifier.pid == 0)
				child_back_off(&s->notifier);
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
	if (unserved_at(s) < at)
		at = unserved_at(s);
	if (silent_at(s) < at)
		at = silent_at(s);
	if (undead_at(s) < at)
		at = undead_at(s);
	if (s->next.pid > 0 && s->next.until_ms < at)
		at = s->next.until_ms;
	if (s->service.watchdog_ms && s->service.next_ms < at)
		at = s->service.next_ms;
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
			{ .fd = s->next.control, .events = POLLIN },
		};

		if (poll(p, sizeof(p) / sizeof(p[0]), next_timeout(s)) < 0 && errno != EINTR) {
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
		if (p[3].revents && s->next.control == p[3].fd)
			reload_on_message(s);
		on_time(s);
	}
}

/* ---- Start and end --------------------------------------------------------------------- */

static const int heard[] = { SIGTERM, SIGINT, SIGHUP, SIGCHLD };

/* Where a package puts the next version of us. NULL: no memory. */
static char *path_of_self(void)
{
	static const char deleted[] = " (deleted)";
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	size_t mark = sizeof(deleted) - 1;

	if (n <= 0)
		return NULL;
	path[n] = '\0';
	if ((size_t)n > mark && strcmp(path + n - mark, deleted) == 0) /* it has been replaced already */
		path[(size_t)n - mark] = '\0';
	return strdup(path);
}

static void set_up(struct supervisor *s)
{
	struct error err = ERROR_INIT;
	pid_t pid;
	int e, removed = 0;

	s->exe_path = path_of_self();
	if ((e = s->exe_path ? 0 : -ENOMEM) != 0 || (e = secmem_harden_process()) != 0 || (e = role_open_self(&s->exe)) != 0 ||
	    (e = role_watch_signals(heard, sizeof(heard) / sizeof(heard[0]), &s->signals)) != 0)
		supervisor_fail(s, 2, "connectfs: can't start: %s", strerror(-e));
	else if (chdir("/") != 0)
		supervisor_fail(s, 2, "connectfs: /: %s", strerror(errno));
	else if (mount_lock(s->mountpoint, &s->lock, &pid, &err) != 0)
		supervisor_fail(s, 2, "connectfs: %s", err.text);
	else if (!mount_go_on(s) && (removed = mount_remove_dead(s->mountpoint, &err)) < 0)
		supervisor_fail(s, 2, "connectfs: %s", err.text);
	else if ((e = start_worker(s)) != 0)
		supervisor_fail(s, 2, "connectfs: can't start the worker: %s", strerror(-e));
	if (removed > 0)
		log_warn("unmounted what a dead connectfs left", "mountpoint", s->mountpoint, NULL);
}

/* From the first worker, or from the one that was found, to the end. */
static int run_to_the_end(struct supervisor *s)
{
	run(s);
	take_down(s);
	reload_stop(s);
	if (s->lock >= 0)
		mount_unlock(s->mountpoint, s->lock);
	if (!s->ready_once)
		report_start(s);
	fd_close(&s->signals);
	fd_close(&s->exe);
	fd_close(&s->watches);
	service_done(&s->service);
	free(s->failure);
	free(s->exe_path);
	return s->status;
}

int supervisor_resume(struct supervisor *s)
{
	int err = role_open_self(&s->exe);

	if (!err)
		err = role_watch_signals(heard, sizeof(heard) / sizeof(heard[0]), &s->signals);
	s->exe_path = path_of_self();
	if (err)
		log_error("can't go on in the new program", "error", strerror(-err), NULL);
	else
		on_children(s); /* who died while nobody heard */
	return run_to_the_end(s);
}

int supervisor_run(const struct supervisor_start *start)
{
	struct supervisor s = {
		.start = start, .mountpoint = start->mountpoint, .exe = -1, .lock = -1, .signals = -1,
		.watches = -1, .device = -1, .keep = -1, .journal = -1, .control = -1, .report = start->report,
		.next = { .control = -1, .exe = -1 },
	};

	log_set_role("supervisor");
	log_init();
	mount_take_stored(&s);
	service_init(&s.service, !start->background);
	set_up(&s);
	return run_to_the_end(&s);
}
