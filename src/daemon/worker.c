/*
 * The worker's frame: reads the settings, takes on its user, opens what lies outside of its sandbox and
 * enters that, then runs engine and file system on one loop, and does what the supervisor says (control.h).
 */
#include <errno.h>
#include <grp.h>
#include <malloc.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/keep.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/secmem.h"
#include "core/engine.h"
#include "core/settings.h"
#include "daemon/control.h"
#include "daemon/role.h"
#include "daemon/sandbox.h"
#include "fs/audit.h"
#include "fs/fs.h"
#include "fs/notifier.h"

enum {
	STOP_WAIT_MS = 200, /* for the session to end by the unmount, before it is cut off */
	STUCK_S = 2,        /* then SIGALRM ends what hangs on the way out */
	OUTDATED_AGAIN_MS = 300000,
	GREETING_MS = 5000, /* for a notifier to say that it is confined, where that is required */
};

struct worker {
	/* From argv */
	char *mountpoint, *source;
	bool allow_other, debug, detach;
	struct settings_override *overrides;
	size_t n_overrides;

	uid_t uid;        /* the mounting user's, as we were started */
	gid_t gid;
	struct settings *settings;
	struct loop *loop;
	struct loop_fd *control, *signals;
	struct loop_timer *stop_timer, *greeting_timer;
	int signal_fd;
	struct engine *engine;
	struct audit *audit;
	struct fs *fs;
	struct engine_processes processes;
	int keep_fd, journal_fd;
	struct keep *keep;
	struct loop_timer *alive;
	int64_t outdated_again_ms;                /* when to look again whether the sandbox is outdated */
	struct sandbox sandbox, notifier_sandbox; /* the notifier's: what it says that it lacks */
	struct engine_protection protections[SANDBOX_PARTS], notifier_protections[SANDBOX_PARTS];
	int null;         /* /dev/null, for role_detach_stdio_to */
	bool first;       /* of this mount: somebody waits to hear whether it can be made */
	bool serves;      /* FUSE_INIT has been answered */
	bool greeted;     /* a notifier is confined as it must be */
	bool told;        /* CONTROL_READY */
	bool configured, ended;
	int status;
};

/* ---- Failing --------------------------------------------------------------------------- */

static int fail(struct worker *w, int status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Tells the supervisor the sentences, which shows them. Returns status. */
static int fail_text(struct worker *w, int status, const char *text)
{
	struct control_message m = { .op = CONTROL_FAILED, .status = status };

	snprintf(m.text, sizeof(m.text), "%s", text);
	control_send(ROLE_SOCKET, &m, -1);
	w->status = status;
	return status;
}

static int fail(struct worker *w, int status, const char *fmt, ...)
{
	char text[ERROR_TEXT_MAX + 64];
	/* A key at the beginning says already whose sentence it is. */
	int n = snprintf(text, sizeof(text), "%s", strncmp(fmt, "connectfs.", 10) == 0 ? "" : "connectfs: ");
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text + n, sizeof(text) - (size_t)n, fmt, ap);
	va_end(ap);
	return fail_text(w, status, text);
}

static int fail_report(struct worker *w, const struct report *report)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return fail(w, 2, "out of memory");
	report_print(report, out);
	if (fclose(out) != 0 || !text) {
		free(text);
		return fail(w, 2, "out of memory");
	}
	fail_text(w, 2, *text ? text : "connectfs: out of memory");
	free(text);
	return 2;
}

static void log_warnings(const struct report *report)
{
	for (size_t i = 0; i < report->len; i++) {
		const struct report_item *item = &report->items[i];
		char line[16];

		snprintf(line, sizeof(line), "%u", item->line);
		if (item->severity == REPORT_WARNING)
			log_warn(item->text, "file", item->file, "line", item->line ? line : NULL,
			         "key", item->key, NULL);
	}
}

/* ---- Settings and user ----------------------------------------------------------------- */

static bool has_flag(const char *flags, const char *flag)
{
	size_t len = strlen(flag);

	for (const char *at = flags; *at; at += strcspn(at, ","), at += *at == ',')
		if (strcspn(at, ",") == len && strncmp(at, flag, len) == 0)
			return true;
	return false;
}

static int parse_args(struct worker *w, int argc, char **argv)
{
	if (argc < 5)
		return -EINVAL;
	w->mountpoint = argv[2];
	w->allow_other = has_flag(argv[3], "allow_other");
	w->debug = has_flag(argv[3], "debug");
	w->detach = has_flag(argv[3], "detach");
	w->source = argv[4];
	w->overrides = calloc((size_t)argc, sizeof(*w->overrides));
	if (!w->overrides)
		return -ENOMEM;
	for (int i = 5; i < argc; i++) {
		int err = settings_override_parse(argv[i], &w->overrides[w->n_overrides]);

		if (err)
			return err;
		w->n_overrides++;
	}
	return 0;
}

/* The files' owner: the mounting user, or another where the kernel lets that one in. 0 or a status. */
static int settle_owner(struct worker *w)
{
	struct settings *s = w->settings;

	if (!s->owner_set)
		s->owner = w->uid;
	if (!s->group_set)
		s->group = w->gid;
	if (s->owner == w->uid)
		return 0;
	if (w->uid != 0)
		return fail(w, 2, "connectfs.owner: an ordinary user's mount can't show files of another "
		            "user (%u, and you are %u)", (unsigned)s->owner, (unsigned)w->uid);
	if (!w->allow_other)
		return fail(w, 2, "connectfs.owner: user %u could not enter this mount: another owner than "
		            "the mounting user needs the mount option allow_other", (unsigned)s->owner);
	return 0;
}

/* setgroups, gid and uid of run.user, for good. The capabilities stay permitted, and are dropped next. */
static int take_on_user(uid_t uid, gid_t gid, bool user_set)
{
	struct passwd *p = user_set ? getpwuid(uid) : NULL;

	if ((p ? initgroups(p->pw_name, gid) : setgroups(1, &gid)) != 0 || setresgid(gid, gid, gid) != 0 ||
	    prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0 || setresuid(uid, uid, uid) != 0 ||
	    prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) != 0)
		return -errno;
	return 0;
}

static int drop_privileges(struct worker *w)
{
	const struct settings *s = w->settings;
	uid_t uid = s->run_user_set ? s->run_user : w->uid;
	gid_t gid = w->gid;
	int err = 0;

	if (s->run_group_set) {
		gid = s->run_group;
	} else if (s->run_user_set && uid != w->uid) {
		struct passwd *p = getpwuid(uid);

		gid = p ? p->pw_gid : w->gid;
	}
	if (w->uid != 0 && uid != w->uid)
		return fail(w, 2, "connectfs.run.user: only root can run the worker as another user");
	if (w->uid != 0 && gid != w->gid)
		return fail(w, 2, "connectfs.run.group: only root can run the worker with another group");
	if (uid != w->uid || gid != w->gid)
		err = take_on_user(uid, gid, s->run_user_set);
	if (err)
		return fail(w, 2, "connectfs.run.user: can't become user %u, group %u: %s", (unsigned)uid,
		            (unsigned)gid, strerror(-err));
	err = sandbox_drop_capabilities(&w->sandbox);
	if (err && w->uid == 0)
		return fail(w, 2, "can't drop the capabilities: %s", strerror(-err));
	/* A change of user makes us dumpable again, and forgets the parent's death signal. */
	err = secmem_harden_process();
	if (err)
		return fail(w, 2, "can't protect the process's memory: %s", strerror(-err));
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	return 0;
}

static int lock_memory(struct worker *w)
{
	struct secmem_stats stats;
	struct rlimit limit = { 0 };
	char kib[32];
	int err = secmem_init(w->settings->lock);

	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (limit.rlim_cur == RLIM_INFINITY)
		snprintf(kib, sizeof(kib), "unlimited");
	else
		snprintf(kib, sizeof(kib), "%llu KiB", (unsigned long long)limit.rlim_cur / 1024);
	if (err)
		return fail(w, 2, "connectfs.memory.lock=require: memory for secrets can't be locked: %s; "
		            "the limit RLIMIT_MEMLOCK is %s: raise it (LimitMEMLOCK= of the systemd unit, "
		            "memlock in /etc/security/limits.conf, ulimit -l)", strerror(-err), kib);
	secmem_get_stats(&stats);
	if (stats.lock_errno)
		log_warn("memory for secrets can't be locked and may be swapped out", "error",
		         strerror(stats.lock_errno), "RLIMIT_MEMLOCK", kib, "raise",
		         "LimitMEMLOCK= or ulimit -l", NULL);
	return 0;
}

/* As whom we were started: the file may be out of reach for whom we run as. */
static int open_audit(struct worker *w)
{
	struct error err = ERROR_INIT;

	if (audit_new(w->settings->audit, &w->audit, &err) != 0)
		return fail(w, 2, "connectfs.audit: %s", err.text);
	return 0;
}

/* All that blocks, and all that needs whom we were started as. 0 or an exit status. */
static int read_settings(struct worker *w)
{
	struct report report = REPORT_INIT;
	int status = 0;

	if (file_set_own_mountpoint(w->mountpoint) != 0)
		return fail(w, 2, "out of memory");
	if (settings_load(w->source, w->overrides, w->n_overrides, &w->settings, &report) != 0) {
		status = fail_report(w, &report);
	} else {
		log_set_level(w->settings->log_level);
		log_warnings(&report);
	}
	report_done(&report);
	if (!status)
		status = settle_owner(w);
	if (!status)
		status = open_audit(w);
	if (!status)
		status = drop_privileges(w);
	if (!status)
		status = lock_memory(w);
	return status;
}

/* ---- The file system's and the engine's callbacks ---------------------------------------- */

static void end(struct worker *w, int status)
{
	if (!w->ended)
		w->status = status;
	w->ended = true;
	loop_stop(w->loop);
}

/* A new mount is not ready before it is known that all is confined that must be. One that is there goes on. */
static bool awaits_greeting(const struct worker *w)
{
	return w->first && w->settings->sandbox_required && !w->greeted;
}

static void tell_ready(struct worker *w)
{
	struct control_message m = { .op = CONTROL_READY };

	if (w->told || !w->serves || awaits_greeting(w))
		return;
	w->told = true;
	loop_timer_stop(w->greeting_timer);
	if (control_send(ROLE_SOCKET, &m, engine_watches_fd(w->engine)) != 0) {
		end(w, ROLE_EXIT_FAILED);
		return;
	}
	if (w->null >= 0)
		role_detach_stdio_to(w->null);
	w->null = -1;
}

static void on_ready(void *arg)
{
	struct worker *w = arg;

	w->serves = true;
	if (awaits_greeting(w))
		loop_timer_set(w->greeting_timer, GREETING_MS);
	tell_ready(w);
}

static void on_greeting_timer(void *arg)
{
	end(arg, fail(arg, 2, "connectfs.sandbox=require: the notifier does not say how it is confined"));
}

static void show_protections(const struct sandbox *s, struct engine_protection *ret)
{
	for (int i = 0; i < SANDBOX_PARTS; i++)
		ret[i] = (struct engine_protection){ sandbox_part_name((enum sandbox_part)i),
			                             s->lacks[i][0] ? s->lacks[i] : NULL };
}

/* What the worker lacks as well has been told. Builds with sanitizers leave out more in the notifier. */
static void warn_of_notifier(const struct worker *w)
{
	for (int i = 0; i < SANDBOX_PARTS; i++)
		if (w->notifier_sandbox.lacks[i][0] && !w->sandbox.lacks[i][0] &&
		    w->sandbox.causes[SANDBOX_SECCOMP] != SANDBOX_BUILD)
			log_warn("the notifier lacks a protection", "protection", sandbox_part_name((enum sandbox_part)i),
			         "why", w->notifier_sandbox.lacks[i], NULL);
}

static bool on_notifier_greeting(void *arg, const struct notifier_greeting *g)
{
	struct worker *w = arg;
	struct error err = ERROR_INIT;

	_Static_assert(sizeof(w->notifier_sandbox.lacks) == sizeof(g->lacks), "what is lacking is told as it is");
	memcpy(w->notifier_sandbox.lacks, g->lacks, sizeof(g->lacks));
	show_protections(&w->notifier_sandbox, w->notifier_protections);
	w->processes.notifier_protections = w->notifier_protections;
	engine_set_processes(w->engine, &w->processes);
	if (!w->settings->sandbox_required) {
		warn_of_notifier(w);
	} else if (sandbox_require(&w->notifier_sandbox, &err) != 0) {
		if (awaits_greeting(w))
			end(w, fail(w, 2, "connectfs.sandbox=require: the notifier: %s", err.text));
		else
			log_error("the notifier is not confined as connectfs.sandbox=require wants", "error", err.text, NULL);
		return false;
	}
	w->greeted = true;
	tell_ready(w);
	return true;
}

static void on_ended(void *arg, int err)
{
	struct worker *w = arg;

	if (err == -EPROTO)
		fail(w, 1, "this version can't go on with the mount: it would have answered FUSE_INIT otherwise");
	end(w, err ? ROLE_EXIT_FAILED : ROLE_EXIT_UNMOUNTED);
}

static void on_notifier_lost(void *arg)
{
	struct control_message m = { .op = CONTROL_NOTIFIER_LOST };

	(void)arg;
	if (control_send(ROLE_SOCKET, &m, -1) != 0)
		log_error("the supervisor can't be told that the notifier is lost", NULL);
}

static void on_listed(void *arg, const struct error *err)
{
	struct worker *w = arg;
	struct control_message m = {
		.op = CONTROL_CONFIGURED, .uid = w->settings->owner, .gid = w->settings->group,
		.keep_format = KEEP_FORMAT, .journal_format = JOURNAL_FORMAT,
		.supervisor_format = CONTROL_SUPERVISOR_FORMAT, .init_number = fs_init_number(),
	};

	if (w->configured)
		return;
	w->configured = true;
	if (err)
		end(w, fail(w, 2, "%s", err->text));
	else if (control_send(ROLE_SOCKET, &m, -1) != 0)
		end(w, ROLE_EXIT_FAILED);
}

/* ---- What the supervisor says ----------------------------------------------------------- */

/* From any thread. If it can't be told, the supervisor locks less. */
static void on_keep_grown(void *arg, size_t bytes)
{
	struct control_message m = { .op = CONTROL_KEEP_GREW, .bytes = bytes };

	(void)arg;
	control_send(ROLE_SOCKET, &m, -1);
}

static enum journal_death journal_death(uint32_t death)
{
	switch (death) {
	case CONTROL_DEATH_CRASHED:
		return JOURNAL_CRASHED;
	case CONTROL_DEATH_POISON:
		return JOURNAL_POISON;
	default:
		return JOURNAL_KILLED;
	}
}

/* Engine and file system on the keep, the journal and the device. 0 or -errno; takes device. */
static int serve(struct worker *w, const struct control_message *m, int device)
{
	const struct settings *s = w->settings;
	const struct fs_config config = {
		.mountpoint = w->mountpoint, .owner = s->owner, .group = s->group, .mode = s->mode,
		.debug = w->debug, .audit = w->audit,
	};
	dev_t mount = makedev(m->dev_major, m->dev_minor);
	int err;

	file_set_own_device(mount);
	err = keep_attach(w->keep_fd, on_keep_grown, w, &w->keep);

	if (!err)
		err = fs_new(w->engine, w->loop, &config, &w->fs);
	if (err) {
		close(device);
		return err;
	}
	err = engine_set_keep(w->engine, w->keep, m->death != CONTROL_DEATH_NONE, m->death == CONTROL_DEATH_CRASHED);
	if (err)
		log_error("not all could be taken over", "error", strerror(-err), NULL);
	fs_set_mount_device(w->fs, mount);
	return fs_serve(w->fs, device, w->journal_fd, journal_death(m->death), on_ready, on_ended, w);
}

static void on_device(struct worker *w, const struct control_message *m, int device)
{
	int err;

	if (device < 0 || w->fs) {
		if (device >= 0)
			close(device);
		return;
	}
	err = audit_start(w->audit, engine_stats(w->engine));
	if (!err)
		err = serve(w, m, device);
	else
		close(device);
	if (err) {
		end(w, fail(w, 2, "can't serve the mount: %s", strerror(-err)));
		return;
	}
	w->first = m->death == CONTROL_DEATH_NONE;
	w->processes.worker_restarts = m->restarts;
	w->processes.started_ns = fs_started_ns(w->fs);
	engine_set_processes(w->engine, &w->processes);
}

static void take_fd(int *to, int fd)
{
	fd_close(to);
	*to = fd;
}

/* Again after a while, should the reload have failed. */
static void look_at_sandbox(struct worker *w)
{
	struct control_message m = { .op = CONTROL_OUTDATED };
	int64_t now = clock_mono_ms();

	if (!w->serves || now < w->outdated_again_ms || !sandbox_is_outdated(&w->sandbox))
		return;
	w->outdated_again_ms = now + OUTDATED_AGAIN_MS;
	log_info("another resolv.conf has come, which this worker may not read: reloading", NULL);
	control_send(ROLE_SOCKET, &m, -1);
}

static void say_alive(void *arg)
{
	struct worker *w = arg;
	struct control_message m = { .op = CONTROL_ALIVE };

	control_send(ROLE_SOCKET, &m, -1);
	look_at_sandbox(w);
	loop_timer_set(w->alive, CONTROL_ALIVE_MS);
}

static void on_notifier(struct worker *w, const struct control_message *m, int socket)
{
	int err;

	if (socket < 0)
		return;
	if (!w->fs) {
		close(socket);
		return;
	}
	w->processes.notifier = m->pid;
	w->processes.notifier_protections = NULL;
	engine_set_processes(w->engine, &w->processes);
	err = fs_set_notifier(w->fs, socket, m->pid, on_notifier_greeting, on_notifier_lost, w);
	if (err) {
		log_error("can't use the notifier", "error", strerror(-err), NULL);
		on_notifier_lost(w);
	}
}

static void on_stop_timer(void *arg)
{
	end(arg, ROLE_EXIT_STOPPED);
}

static void on_stop(struct worker *w)
{
	/* The mount is detached by now. If nobody has a file open, the session ends by itself at once. */
	if (w->fs && w->stop_timer)
		loop_timer_set(w->stop_timer, STOP_WAIT_MS);
	else
		end(w, ROLE_EXIT_STOPPED);
}

static void on_control(int socket, void *arg)
{
	struct worker *w = arg;
	struct control_message m;
	int fd = -1, err = control_receive(socket, &m, &fd);

	if (err == -EAGAIN)
		return;
	if (err) { /* the supervisor is gone */
		end(w, ROLE_EXIT_STOPPED);
		return;
	}
	switch (m.op) {
	case CONTROL_DEVICE:
		on_device(w, &m, fd);
		return;
	case CONTROL_KEEP:
		take_fd(&w->keep_fd, fd);
		return;
	case CONTROL_JOURNAL:
		take_fd(&w->journal_fd, fd);
		return;
	case CONTROL_NOTIFIER:
		on_notifier(w, &m, fd);
		return;
	case CONTROL_STOP:
		on_stop(w);
		break;
	default:
		break;
	}
	if (fd >= 0)
		close(fd);
}

static void on_signal(int fd, void *arg)
{
	struct signalfd_siginfo info;

	while (read(fd, &info, sizeof(info)) == sizeof(info))
		end(arg, ROLE_EXIT_STOPPED);
}

/* ---- Life ------------------------------------------------------------------------------ */

static void allow_path(void *arg, const char *path)
{
	struct worker *w = arg;
	int err = sandbox_allow(&w->sandbox, path);

	if (err)
		log_warn("it can't be read from now on", "path", path, "error", strerror(-err), NULL);
}

/* What the kernel lacks is told once here; all that is not in force, by the status. 0 or an exit status. */
static int confine(struct worker *w)
{
	struct sandbox *s = &w->sandbox;
	struct error err = ERROR_INIT;

	if (w->detach)
		w->null = role_open_null();
	engine_reads(w->engine, allow_path, w);
	if (engine_network(w->engine) && sandbox_allow_network(s) != 0)
		return fail(w, 2, "out of memory");
	if (sandbox_enter(s, w->settings->sandbox_required, &err) != 0)
		return fail(w, 2, "connectfs.sandbox%s: %s", w->settings->sandbox_required ? "=require" : "",
		            err.text);
	show_protections(s, w->protections);
	for (int i = 0; i < SANDBOX_PARTS; i++)
		if (s->lacks[i][0] && s->causes[i] == SANDBOX_KERNEL)
			log_warn("a protection is not in force", "protection", w->protections[i].name, "why", s->lacks[i], NULL);
	return 0;
}

static int start_engine(struct worker *w)
{
	struct report report = REPORT_INIT;
	int err = loop_new(&w->loop), status = 0;

	if (!err) {
		w->control = loop_fd_new(w->loop, ROLE_SOCKET, on_control, w);
		w->signals = loop_fd_new(w->loop, w->signal_fd, on_signal, w);
		w->stop_timer = loop_timer_new(w->loop, on_stop_timer, w);
		w->greeting_timer = loop_timer_new(w->loop, on_greeting_timer, w);
		w->alive = loop_timer_new(w->loop, say_alive, w);
		if (!w->control || !w->signals || !w->stop_timer || !w->greeting_timer || !w->alive)
			err = -ENOMEM;
		else
			loop_timer_set(w->alive, CONTROL_ALIVE_MS);
	}
	if (err)
		return fail(w, 2, "can't start: %s", strerror(-err));
	err = engine_new(w->settings, ENGINE_MOUNT, w->loop, &w->engine, &report);
	/* Relative paths in references and parameters are from where we were started, as in Kafka. The
	 * providers know where that is by now; it is not to be kept busy. */
	if (!err && chdir("/") != 0)
		err = -errno;
	if (err && report.errors > 0)
		status = fail_report(w, &report);
	else if (err)
		status = fail(w, 2, "can't start: %s", strerror(-err));
	else
		log_warnings(&report);
	report_done(&report);
	if (!status)
		status = confine(w);
	if (status)
		return status;
	w->processes = (struct engine_processes){
		.supervisor = getppid(), .worker = getpid(), .mountpoint = w->mountpoint,
		.worker_started_ns = clock_real_ns(), .protections = w->protections, .n_protections = SANDBOX_PARTS,
	};
	engine_set_processes(w->engine, &w->processes);
	engine_await_keep(w->engine);
	err = engine_start(w->engine, on_listed, w);
	return err ? fail(w, 2, "can't start: %s", strerror(-err)) : 0;
}

static void release(struct worker *w)
{
	/* What hangs here would keep the device open: rather be killed. */
	alarm(STUCK_S);
	if (w->keep)
		keep_freeze(w->keep); /* there may be a successor */
	if (w->fs) {
		fs_stop(w->fs);
		/* They hold what fs_free frees. */
		catalog_end_waits(engine_catalog(w->engine), -EINTR);
		fs_free(w->fs);
	}
	audit_free(w->audit);
	engine_free(w->engine);
	keep_detach(w->keep);
	fd_close(&w->keep_fd);
	fd_close(&w->journal_fd);
	loop_timer_free(w->alive);
	loop_timer_free(w->stop_timer);
	loop_timer_free(w->greeting_timer);
	loop_fd_free(w->control);
	loop_fd_free(w->signals);
	loop_free(w->loop);
	settings_free(w->settings);
	for (size_t i = 0; i < w->n_overrides; i++) {
		free(w->overrides[i].key);
		free(w->overrides[i].value);
	}
	free(w->overrides);
	sandbox_done(&w->sandbox);
	if (w->signal_fd >= 0)
		close(w->signal_fd);
	alarm(0);
}

int worker_main(int argc, char **argv)
{
	struct worker w = { .uid = getuid(), .gid = getgid(), .signal_fd = -1, .keep_fd = -1,
		            .journal_fd = -1, .null = -1 };
	int err;

	sandbox_init(&w.sandbox);
	log_set_role("worker");
	umask(077);
	err = secmem_harden_process();
	secmem_install_jansson();
	/* Else glibc raises it to twice the largest block that was freed (mallopt(3)), and each thread's arena would keep
	 * as much of what it read. */
	mallopt(M_TRIM_THRESHOLD, 128 * 1024);
	if (err)
		fail(&w, 2, "can't protect the process's memory: %s", strerror(-err));
	else if (parse_args(&w, argc, argv) != 0)
		fail(&w, 2, "--role=worker is not for the command line");
	else if ((err = role_watch_signals((const int[]){ SIGTERM }, 1, &w.signal_fd)) != 0)
		fail(&w, 2, "can't start: %s", strerror(-err));
	else if (read_settings(&w) == 0 && start_engine(&w) == 0 && (err = loop_run(w.loop)) != 0)
		fail(&w, 1, "the event loop: %s", strerror(-err));
	release(&w);
	return w.status;
}
