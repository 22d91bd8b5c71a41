/*
 * Another program in the place of the one that runs, or the same with other settings.
 *
 *   SIGHUP ─▶ a worker of the program that lies at our path now: a candidate. It reads its settings and lists the
 *             store, without device, keep and journal. If it fails, or takes too long, nothing has happened.
 *          ─▶ CONFIGURED: the old worker is killed, which is a planned crash, and the candidate takes over.
 *          ─▶ READY: we become that program too, in place: same process id, same descriptors, what we know in a
 *             sealed memory file.
 *
 * How it went stands in the file of the lock, for `connectfs reload`. Who asks while one is under way, which may
 * have read its settings by then, gets another one after it.
 */
#include "daemon/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/keep.h"
#include "base/log.h"
#include "base/secmem.h"
#include "daemon/mount.h"
#include "fs/journal.h"

enum {
	RELOAD_MAX_MS = 60000, /* for settings and listing */
	KILL_MAX_MS = 5000,    /* for the old worker's death */
};

/* ---- the end of a reload ---- */

static void say(struct supervisor *s, int status, const char *text)
{
	s->reloads++;
	mount_lock_note(s->lock, s->reloads, status, text);
	if (status)
		log_error("not reloaded: the worker that runs goes on", "mountpoint", s->mountpoint, "error", text, NULL);
	else
		log_info("reloaded", "mountpoint", s->mountpoint, NULL);
	if (s->ready_once)
		service_ready(&s->service, "serving %s from %s%s", s->mountpoint, s->start->source,
		              status ? " (not reloaded: see the log)" : "");
	if (s->reload_again)
		kill(getpid(), SIGHUP); /* waits for whoever we are by then: a signal that is pending outlives an exec */
	s->reload_again = false;
}

static void drop_candidate(struct supervisor *s)
{
	struct candidate *c = &s->next;

	/* One that hangs is dead to us all the same: it has nothing of the mount, and remains a zombie at worst. */
	if (c->pid > 0 && !child_end(c->pid, STOP_GIVE_UP_MS))
		log_error("the new worker does not die", "mountpoint", s->mountpoint, NULL);
	fd_close(&c->control);
	fd_close(&c->exe);
	free(c->failure);
	*c = (struct candidate){ .control = -1, .exe = -1 };
}

static void give_up(struct supervisor *s, const char *why)
{
	say(s, 2, s->next.failure ? s->next.failure : why);
	drop_candidate(s);
}

void reload_stop(struct supervisor *s)
{
	drop_candidate(s);
}

/* ---- its beginning ---- */

void reload_begin(struct supervisor *s)
{
	struct candidate *c = &s->next;
	int err = 0;

	/* Until the new worker is ready: one that dies before is succeeded, and the reload goes on. */
	if (c->pid > 0 || s->replaced) {
		log_info("another reload is to follow the one under way", "mountpoint", s->mountpoint, NULL);
		s->reload_again = true;
		return;
	}
	mount_lock_begun(s->lock, s->reloads + 1);
	if (s->phase != SERVING) {
		say(s, 2, "connectfs: the mount is not being served just now; try again");
		return;
	}
	log_info("reloading", "mountpoint", s->mountpoint, NULL);
	service_reloading(&s->service);
	c->exe = open(s->exe_path, O_RDONLY | O_CLOEXEC);
	if (c->exe < 0)
		err = -errno;
	if (!err)
		err = worker_start(s, c->exe, &c->pid, &c->control);
	c->until_ms = clock_mono_ms() + RELOAD_MAX_MS;
	if (err) {
		char text[256];

		snprintf(text, sizeof(text), "connectfs: can't start %s: %s", s->exe_path, strerror(-err));
		c->pid = 0;
		give_up(s, text);
	}
}

/* ---- the hand-over ---- */

/* False: it does not die, and two must not serve. */
static bool kill_old(struct supervisor *s)
{
	if (s->worker.pid > 0 && !child_end(s->worker.pid, KILL_MAX_MS))
		return false;
	s->worker.pid = 0;
	return true;
}

static void take_over(struct supervisor *s, const struct control_message *m)
{
	struct candidate *c = &s->next;
	int err;

	if (!kill_old(s)) {
		give_up(s, "connectfs: the old worker does not die");
		return;
	}
	fd_close(&s->control);
	fd_close(&s->exe);
	s->control = c->control;
	s->exe = c->exe;
	s->worker = (struct child){ .pid = c->pid, .since_ms = clock_mono_ms() };
	s->heard_ms = clock_mono_ms();
	s->uid = m->uid;
	s->gid = m->gid;
	if (s->phase == SERVING) /* else it had died before, and how that was stays known */
		s->death = CONTROL_DEATH_KILLED;
	s->phase = OPENING;
	s->replaced = true;
	*c = (struct candidate){ .control = -1, .exe = -1 };
	s->notifier_left = s->notifier.pid > 0;
	err = worker_hand_over(s);
	if (err)
		supervisor_fail(s, 2, "connectfs: can't hand over: %s", strerror(-err));
}

static void on_configured(struct supervisor *s, const struct control_message *m)
{
	if (s->phase != SERVING && s->phase != PAUSED)
		give_up(s, "connectfs: the worker died meanwhile; try again");
	else if (m->init_number != s->init_number)
		give_up(s, "connectfs: the new program, or its libfuse, would speak otherwise with the kernel: unmount and "
		           "mount again");
	else if (m->keep_format != KEEP_FORMAT || m->journal_format != JOURNAL_FORMAT ||
	         m->supervisor_format != CONTROL_SUPERVISOR_FORMAT)
		give_up(s, "connectfs: the new program keeps what it knows in another form: unmount and mount again");
	else
		take_over(s, m);
}

void reload_on_message(struct supervisor *s)
{
	struct control_message m;
	int fd = -1, err;

	while (s->next.control >= 0) {
		err = control_receive(s->next.control, &m, &fd);
		if (err == -EAGAIN)
			return;
		if (err) { /* SIGCHLD says the rest */
			fd_close(&s->next.control);
			return;
		}
		fd_close(&fd);
		if (m.op == CONTROL_CONFIGURED) {
			on_configured(s, &m);
			return; /* it is a candidate no more */
		}
		if (m.op == CONTROL_FAILED && !s->next.failure)
			s->next.failure = strdup(m.text);
	}
}

void reload_on_child(struct supervisor *s)
{
	char how[ROLE_ENDED_SIZE], text[128];
	int status;

	if (s->next.pid == 0 || waitpid(s->next.pid, &status, WNOHANG) != s->next.pid)
		return;
	reload_on_message(s); /* its last words */
	s->next.pid = 0;
	snprintf(text, sizeof(text), "connectfs: the new worker ended before it was ready: %s", role_how_ended(status, how));
	give_up(s, text);
}

void reload_on_time(struct supervisor *s, int64_t now)
{
	if (s->next.pid > 0 && now >= s->next.until_ms)
		give_up(s, "connectfs: the new worker was not ready in time");
}

/* ---- becoming the new program ---- */

/* What the next image of us must know; behind it the strings, each with its NUL. */
struct saved {
	uint32_t size; /* of all */
	int32_t lock, device, keep, journal, control, watches;
	int32_t worker, notifier;
	uint32_t major, minor, uid, gid, restarts, reloads;
	uint8_t allow_other, background, has_fsname, has_kernel;
	uint32_t n_args;
	uint64_t init_number;
	int64_t worker_since_ms, notifier_since_ms, notifier_again_ms;
};

static void add_string(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s) + 1);
}

static int write_state(struct supervisor *s, int *ret_fd)
{
	const struct supervisor_start *start = s->start;
	struct saved saved = {
		.lock = s->lock, .device = s->device, .keep = s->keep, .journal = s->journal, .control = s->control,
		.watches = s->watches,
		.worker = s->worker.pid, .notifier = s->notifier.pid, .major = s->major, .minor = s->minor,
		.uid = s->uid, .gid = s->gid, .restarts = s->restarts, .reloads = s->reloads,
		.allow_other = start->mount.allow_other, .background = start->background,
		.has_fsname = start->mount.fsname != NULL, .has_kernel = start->mount.kernel != NULL,
		.init_number = s->init_number, .worker_since_ms = s->worker.since_ms, .notifier_since_ms = s->notifier.since_ms,
		.notifier_again_ms = s->notifier.again_ms,
	};
	struct buf b;
	int fd, err;

	buf_init(&b, 4 * 1024 * 1024);
	while (start->worker_args[saved.n_args])
		saved.n_args++;
	buf_add(&b, (const char *)&saved, sizeof(saved));
	add_string(&b, start->mountpoint);
	add_string(&b, start->source);
	add_string(&b, start->directory);
	add_string(&b, saved.has_fsname ? start->mount.fsname : "");
	add_string(&b, saved.has_kernel ? start->mount.kernel : "");
	for (uint32_t i = 0; i < saved.n_args; i++)
		add_string(&b, start->worker_args[i]);
	err = b.err;
	fd = err ? -1 : memfd_create("connectfs-supervisor", MFD_ALLOW_SEALING);
	if (!err && (fd < 0 || write(fd, b.data, b.len) != (ssize_t)b.len ||
	             fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0))
		err = -errno;
	buf_free(&b);
	if (err && fd >= 0)
		close(fd);
	if (!err)
		*ret_fd = fd;
	return err;
}

/* What the next image of us has open by the same numbers. */
static void set_descriptor_flags(const struct supervisor *s, int flags)
{
	const int kept[] = { s->lock, s->device, s->keep, s->journal, s->control, s->watches };

	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		fcntl(kept[i], F_SETFD, flags);
}

/* Comes back only where it can't be done; then we stay what we are, and the worker goes on all the same. */
static void become(struct supervisor *s)
{
	char fd_text[16], self[] = "connectfs", role[] = "--role=supervisor";
	char *argv[] = { self, role, fd_text, (char *)(uintptr_t)s->mountpoint, NULL };
	int fd, err = write_state(s, &fd);

	if (!err) {
		snprintf(fd_text, sizeof(fd_text), "%d", fd);
		set_descriptor_flags(s, 0);
		err = service_environment(&s->service);
		if (!err) {
			fexecve(s->exe, argv, environ);
			err = -errno;
		}
		service_done(&s->service);
		service_init(&s->service, !s->start->background); /* out of the environment again */
		set_descriptor_flags(s, FD_CLOEXEC);
		close(fd);
	}
	log_error("the supervisor can't become the new program; it goes on as the old one", "error", strerror(-err), NULL);
}

void reload_on_ready(struct supervisor *s)
{
	if (!s->replaced)
		return;
	s->replaced = false;
	say(s, 0, "");
	become(s);
}

/* ---- being the new program ---- */

static char *next_string(char **at, char *end)
{
	char *s = *at, *nul = memchr(s, '\0', (size_t)(end - s));

	*at = nul ? nul + 1 : end;
	return nul ? s : NULL;
}

static bool read_state(int fd, char **ret, struct saved *ret_saved)
{
	struct stat st;
	char *all;

	if (fstat(fd, &st) < 0 || st.st_size < (off_t)sizeof(*ret_saved))
		return false;
	all = malloc((size_t)st.st_size);
	if (!all || pread(fd, all, (size_t)st.st_size, 0) != st.st_size) {
		free(all);
		return false;
	}
	memcpy(ret_saved, all, sizeof(*ret_saved));
	ret_saved->size = (uint32_t)st.st_size;
	*ret = all;
	return true;
}

static int resume(struct supervisor *s, struct supervisor_start *start, const struct saved *v)
{
	struct stat st;

	*s = (struct supervisor){
		.start = start, .mountpoint = start->mountpoint, .exe = -1, .signals = -1, .report = -1, .watches = v->watches,
		.lock = v->lock, .device = v->device, .keep = v->keep, .journal = v->journal, .control = v->control,
		.next = { .control = -1, .exe = -1 }, .phase = SERVING, .ready_once = true, .mounted = true,
		.death = CONTROL_DEATH_KILLED, .major = v->major, .minor = v->minor, .uid = v->uid, .gid = v->gid,
		.init_number = v->init_number, .restarts = v->restarts, .reloads = v->reloads, .heard_ms = clock_mono_ms(),
		.worker = { .pid = v->worker, .since_ms = v->worker_since_ms },
		.notifier = { .pid = v->notifier, .since_ms = v->notifier_since_ms, .again_ms = v->notifier_again_ms },
	};
	set_descriptor_flags(s, FD_CLOEXEC);
	service_init(&s->service, !start->background);
	if (fstat(s->keep, &st) == 0)
		keep_hold(s, (size_t)st.st_size);
	return supervisor_resume(s);
}

int reload_resumed(int argc, char **argv)
{
	struct supervisor_start start = { .report = -1 };
	struct supervisor s;
	struct saved v;
	char *all, *at, *end, **args;
	int fd = argc == 4 ? atoi(argv[2]) : -1, status = 2;

	log_set_role("supervisor");
	if (secmem_harden_process() != 0 || fd <= 2 || !read_state(fd, &all, &v)) {
		fputs("connectfs: --role=supervisor is not for the command line\n", stderr);
		return 2;
	}
	close(fd);
	at = all + sizeof(v);
	end = all + v.size;
	start.mountpoint = next_string(&at, end);
	start.source = next_string(&at, end);
	start.directory = next_string(&at, end);
	start.mount.fsname = next_string(&at, end);
	start.mount.kernel = next_string(&at, end);
	start.mount.fsname = v.has_fsname ? start.mount.fsname : NULL;
	start.mount.kernel = v.has_kernel ? start.mount.kernel : NULL;
	start.mount.allow_other = v.allow_other;
	start.background = v.background;
	args = calloc(v.n_args + 1, sizeof(*args));
	for (uint32_t i = 0; args && i < v.n_args; i++)
		args[i] = next_string(&at, end);
	start.worker_args = args;
	if (args)
		status = resume(&s, &start, &v);
	free(args);
	free(all);
	return status;
}
