/*
 * The command line: which verb, and what the verbs have in common.
 */
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/secmem.h"
#include "daemon/mount.h"

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

enum { GUARD_MS = 5000 }; /* a status comes within milliseconds; longer is a hang */

static const char usage[] =
	"usage: connectfs [-f] [-d] [-o OPTIONS] [-s KEY=VALUE]... SOURCE MOUNTPOINT\n"
	"       connectfs check   [--online] [-s KEY=VALUE]... SOURCE [CONNECTOR...]\n"
	"       connectfs render  [-s KEY=VALUE]... SOURCE CONNECTOR\n"
	"       connectfs status  [--json] [--watch] MOUNTPOINT\n"
	"       connectfs refresh [--leases] MOUNTPOINT [CONNECTOR...]\n"
	"       connectfs reload  MOUNTPOINT\n"
	"       connectfs --help | --version\n"
	"\n"
	"Shows Kafka Connect connectors as files, with their secrets filled in.\n"
	"SOURCE is a settings file (a worker's properties file will do), or a directory of\n"
	"stored configs (*.properties, *.json).\n"
	"\n"
	"  -f                stay in the foreground\n"
	"  -d                foreground, and log what FUSE is asked\n"
	"  -o OPTIONS        mount options, and settings without \"connectfs.\": mode=0440,group=connect\n"
	"  -s KEY=VALUE      a setting, over what SOURCE says\n"
	"  --online          check: resolve all references as well\n"
	"  --json, --watch   status: as JSON; again each second\n"
	"  --leases          refresh: leased secrets too\n"
	"\n"
	"Unmount with umount or fusermount3 -u. The manual: connectfs(8), connectfs.properties(5).\n";

static void say(const char *fmt, va_list ap) __attribute__((format(printf, 1, 0)));
static void say(const char *fmt, va_list ap)
{
	struct error err = ERROR_INIT; /* for its cleaning of what came from the command line */

	error_vset(&err, EINVAL, fmt, ap);
	fprintf(stderr, "connectfs: %s\n", err.text);
}

int cli_usage(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
	return 2;
}

int cli_broken(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
	return 1;
}

int cli_no_memory(void)
{
	return cli_broken("out of memory");
}

void cli_print_usage(FILE *out)
{
	fputs(usage, out);
}

int cli_option(int c)
{
	if (c == 'h') {
		cli_print_usage(stdout);
		return 0;
	}
	fputs("connectfs: try 'connectfs --help'\n", stderr); /* getopt has named the option */
	return 2;
}

/* ---- settings of the command line ---- */

int cli_settings_add(struct cli_settings *s, const char *arg)
{
	struct settings_override *items = realloc(s->items, (s->len + 1) * sizeof(*items));
	int r;

	if (!items)
		return cli_no_memory();
	s->items = items;
	r = settings_override_parse(arg, &items[s->len]);
	if (r == -EINVAL)
		return cli_usage("-s %s: write KEY=VALUE, such as -s connectfs.mode=0440", arg);
	if (r < 0)
		return cli_no_memory();
	s->len++;
	return 0;
}

void cli_settings_done(struct cli_settings *s)
{
	for (size_t i = 0; i < s->len; i++) {
		free(s->items[i].key);
		free(s->items[i].value);
	}
	free(s->items);
	*s = (struct cli_settings){ NULL, 0 };
}

/* ---- looking at a mount ---- */

int cli_find_mount(const char *path, char **ret)
{
	struct mount_entry entry = { 0 };
	struct error err = ERROR_INIT;
	char *canonical;
	int r = mount_canonical(path, &canonical, &err);

	if (r < 0)
		return cli_usage("%s: %s", path, err.text[0] ? err.text : strerror(-r));
	r = mount_find(canonical, &entry);
	free(entry.source);
	if (r < 0) {
		free(canonical);
		return cli_usage("%s: can't read the table of mounts: %s", path, strerror(-r));
	}
	if (!entry.found || !entry.ours) {
		free(canonical);
		return cli_usage("%s: %s", path, entry.found ? "it is a mount, but not a connectfs one" :
		                 "no connectfs is mounted there; give the mount point itself");
	}
	*ret = canonical;
	return 0;
}

int cli_mount_fault(const char *path, int err)
{
	switch (err) {
	case -ETIMEDOUT:
		return cli_usage("%s: the mount is not answering: its worker hangs or there is none; see its "
		                 "log, and end its connectfs to have it unmounted", path);
	case -ENOTCONN:
	case -ECONNABORTED:
		return cli_usage("%s: the mount is dead: its connectfs has ended without unmounting; mount "
		                 "it again, or unmount it by umount or fusermount3 -u", path);
	case -EACCES:
	case -EPERM:
		return cli_usage("%s: %s; it takes the user who mounted it, or a mount with -o allow_other",
		                 path, strerror(-err));
	default:
		return cli_usage("%s: %s", path, strerror(-err));
	}
}

/* Reads what the child says until it ends; -ETIMEDOUT. */
static int guard_read(int fd, struct buf *out)
{
	int64_t end = clock_mono_ms() + GUARD_MS;

	for (;;) {
		int64_t left = end - clock_mono_ms();
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		char chunk[16384];
		int r = left > 0 ? poll(&pfd, 1, (int)left) : 0;

		if (r < 0 && errno != EINTR)
			return -errno;
		if (r == 0)
			return -ETIMEDOUT;
		if (r < 0)
			continue;
		ssize_t n = read(fd, chunk, sizeof(chunk));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return 0;
		if (n > 0 && buf_add(out, chunk, (size_t)n) < 0)
			return out->err;
	}
}

int cli_guard(int (*work)(int out, void *arg), void *arg, struct buf *out)
{
	int fds[2], status = 0;

	if (pipe(fds) < 0)
		return -errno;
	pid_t pid = fork();
	if (pid < 0) {
		int r = -errno;
		close(fds[0]);
		close(fds[1]);
		return r;
	}
	if (pid == 0) {
		close(fds[0]);
		_exit(-work(fds[1], arg)); /* every errno fits an exit status */
	}
	close(fds[1]);
	int r = guard_read(fds[0], out);
	close(fds[0]);
	if (r < 0) {
		/* Perhaps it can't even be killed now, so nobody waits for it. */
		kill(pid, SIGKILL);
		waitpid(pid, NULL, WNOHANG);
		return r;
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}

/* ---- an engine for one look ---- */

struct once_ready {
	bool done;
	struct error err;
};

static void on_ready(void *arg, const struct error *err)
{
	struct once_ready *ready = arg;

	if (err)
		ready->err = *err;
	ready->done = true;
}

int cli_once_wait(struct cli_once *o, const bool *done)
{
	/* By flag and not by loop_stop: what is waited for may already have come. */
	while (!*done) {
		int r = loop_run_once(o->loop, 1);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Settings and memory, before anything secret is read. */
static int once_settings(const char *source, const struct cli_settings *overrides, struct report *report,
                         struct settings **ret)
{
	int r = secmem_harden_process();

	if (r < 0)
		return cli_usage("can't keep this process from being dumped: %s", strerror(-r));
	secmem_install_jansson();
	r = settings_load(source, overrides->items, overrides->len, ret, report);
	if (r == -ENOMEM)
		return cli_no_memory();
	if (r < 0)
		return 2;
	r = secmem_init((*ret)->lock);
	if (r < 0)
		return cli_usage("can't lock memory (%s), and connectfs.memory.lock=require asks for it; "
		                 "raise the limit (ulimit -l, LimitMEMLOCK=)", strerror(-r));
	return 0;
}

static int once_start(struct cli_once *o, struct report *report)
{
	struct once_ready ready = { false, ERROR_INIT };
	int r = loop_new(&o->loop);

	if (r == 0)
		r = engine_new(o->settings, ENGINE_ONCE, o->loop, &o->engine, report);
	if (r == -EINVAL)
		return 2; /* the report says why */
	if (r == 0)
		r = engine_start(o->engine, on_ready, &ready);
	if (r == 0)
		r = cli_once_wait(o, &ready.done);
	if (r < 0)
		return cli_broken("can't start: %s", strerror(-r));
	if (ready.err.code)
		return cli_usage("%s", ready.err.text);
	return 0;
}

int cli_once_open(const char *source, const struct cli_settings *overrides, bool warnings,
                  struct cli_once *ret)
{
	struct report report = REPORT_INIT;
	int status;

	*ret = (struct cli_once){ NULL, NULL, NULL };
	log_init();
	log_set_level(LOG_LEVEL_ERROR); /* what is found is told by the verb itself */
	status = once_settings(source, overrides, &report, &ret->settings);
	if (status == 0)
		status = once_start(ret, &report);
	if (warnings || report.errors)
		report_print(&report, stderr);
	report_done(&report);
	return status;
}

void cli_once_close(struct cli_once *o)
{
	engine_free(o->engine);
	loop_free(o->loop);
	settings_free(o->settings);
}

/* ---- verbs ---- */

static const struct verb {
	const char *name;
	int (*run)(int argc, char **argv); /* NULL: not in this version */
} verbs[] = {
	{ "check", cli_check },   { "render", cli_render }, { "status", cli_status },
	{ "refresh", cli_refresh }, { "reload", cli_reload }, { "restart", NULL },
};

int cli_main(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : NULL;

	setlocale(LC_CTYPE, ""); /* how wide characters are */
	if (!word) {
		cli_print_usage(stderr);
		return 2;
	}
	if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
		cli_print_usage(stdout);
		return 0;
	}
	if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
		puts("connectfs " PACKAGE_VERSION);
		return 0;
	}
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(word, verbs[i].name) != 0)
			continue;
		if (!verbs[i].run)
			return cli_usage("%s: not in this version", word);
		return verbs[i].run(argc - 1, argv + 1);
	}
	return cli_mount(argc, argv);
}
