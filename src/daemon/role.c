/*
 * Starting the roles, and being one: see role.h and daemon.h. The parts: starting a role by exec,
 * being one, starting the supervisor.
 */
#include "daemon/role.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/control.h"
#include "daemon/daemon.h"
#include "daemon/sandbox.h"
#include "fs/notifier.h"

enum {
	EXE_FD_MIN = 10, /* out of the way of what role_child moves about */
	ARGS_MAX = 4096
};

extern char **environ;

int role_open_self(int *ret_exe)
{
	int low = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), fd;

	if (low < 0)
		return -errno;
	fd = fcntl(low, F_DUPFD_CLOEXEC, EXE_FD_MIN);
	if (fd < 0) {
		int err = -errno;

		close(low);
		return err;
	}
	close(low);
	*ret_exe = fd;
	return 0;
}

/* Is it the journal's socket? JOURNAL_STREAM is "device:inode", systemd.exec(5). */
static bool is_journal(const struct stat *st)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;

	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 && dev == st->st_dev &&
	       ino == st->st_ino;
}

int role_open_null(void)
{
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

void role_detach_stdio_to(int null)
{
	struct stat st;
	bool keep = false;

	if (null < 0)
		return;
	if (fstat(STDERR_FILENO, &st) == 0)
		keep = S_ISREG(st.st_mode) || (S_ISCHR(st.st_mode) && !isatty(STDERR_FILENO)) ||
		       (S_ISSOCK(st.st_mode) && is_journal(&st));
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	if (!keep)
		dup2(null, STDERR_FILENO);
	if (null > STDERR_FILENO)
		close(null);
}

void role_detach_stdio(void)
{
	role_detach_stdio_to(role_open_null());
}

/* The environment of a role that needs none: only what makes the program start and a sanitizer
 * behave. */
static char **minimal_environment(char **room, size_t n)
{
	static const char *const kept[] = {
		"PATH=", "LANG=", "LD_LIBRARY_PATH=", "JOURNAL_STREAM=", "ASAN_OPTIONS=", "LSAN_OPTIONS=",
		"TSAN_OPTIONS=", "UBSAN_OPTIONS=", "GCOV_PREFIX=", "GCOV_PREFIX_STRIP=",
	};
	size_t at = 0;

	for (char **e = environ; e && *e; e++)
		for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
			if (strncmp(*e, kept[i], strlen(kept[i])) == 0 && at + 1 < n)
				room[at++] = *e;
	room[at] = NULL;
	return room;
}

static void reset_signals(void)
{
	sigset_t none;

	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGTERM, SIG_DFL);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Between fork and exec. */
static _Noreturn void role_child(int exe, const struct role *role, char **argv)
{
	char *env[32];

	if (role->detach)
		role_detach_stdio();
	if (!role->directory || chdir(role->directory) != 0)
		if (chdir("/") != 0)
			_exit(127);
	if (role->socket == ROLE_SOCKET)
		fcntl(ROLE_SOCKET, F_SETFD, 0);
	else if (dup2(role->socket, ROLE_SOCKET) < 0)
		_exit(127);
	close_range(ROLE_SOCKET + 1, ~0U, CLOSE_RANGE_CLOEXEC);
	reset_signals();
	fexecve(exe, argv, role->minimal_environment ?
	                   minimal_environment(env, sizeof(env) / sizeof(env[0])) : environ);
	_exit(127);
}

int role_start(int exe, const struct role *role, pid_t *ret_pid)
{
	static char self[] = "connectfs";
	char option[64], **argv;
	size_t n = 0;
	pid_t pid;
	int err = 0;

	while (role->args[n])
		if (++n > ARGS_MAX)
			return -E2BIG;
	argv = calloc(n + 3, sizeof(*argv));
	if (!argv)
		return -ENOMEM;
	snprintf(option, sizeof(option), "--role=%s", role->name);
	argv[0] = self;
	argv[1] = option;
	memcpy(argv + 2, role->args, n * sizeof(*argv));
	pid = fork();
	if (pid == 0)
		role_child(exe, role, argv);
	if (pid < 0)
		err = -errno;
	else
		*ret_pid = pid;
	free(argv);
	return err;
}

int role_watch_signals(const int *signals, size_t n, int *ret_fd)
{
	sigset_t set;
	int fd;

	signal(SIGCHLD, SIG_DFL); /* ignored by who started us, children would vanish unseen */
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	for (size_t i = 0; i < n; i++)
		sigaddset(&set, signals[i]);
	if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
		return -errno;
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

const char *role_how_ended(int status, char *ret)
{
	if (WIFSIGNALED(status))
		snprintf(ret, ROLE_ENDED_SIZE, "signal %d (%s)", WTERMSIG(status),
		         strsignal(WTERMSIG(status)));
	else
		snprintf(ret, ROLE_ENDED_SIZE, "exit status %d", WEXITSTATUS(status));
	return ret;
}

/* ---- Being a role ------------------------------------------------------------------------ */

/* A uid or gid in decimal. */
static int parse_id(const char *s, uint32_t *ret)
{
	char *end;
	unsigned long v;

	errno = 0;
	v = strtoul(s, &end, 10);
	if (errno || end == s || *end || *s == '-' || v > UINT32_MAX)
		return -EINVAL;
	*ret = (uint32_t)v;
	return 0;
}

static int confine_notifier(struct notifier_greeting *ret)
{
	struct sandbox s;
	int err;

	_Static_assert(sizeof(s.lacks) == sizeof(ret->lacks), "what is lacking is told as it is");
	sandbox_init(&s);
	err = sandbox_enter_notifier(&s);
	memcpy(ret->lacks, s.lacks, sizeof(ret->lacks));
	return err;
}

static int notifier_role(int argc, char **argv)
{
	uint32_t uid, gid;

	if (argc != 4 || parse_id(argv[2], &uid) != 0 || parse_id(argv[3], &gid) != 0) {
		fputs("connectfs: --role=notifier is not for the command line\n", stderr);
		return 2;
	}
	log_set_role("notifier");
	return notifier_main(ROLE_SOCKET, uid, gid, confine_notifier);
}

int daemon_role(int argc, char **argv)
{
	bool worker, notifier;

	if (argc < 2)
		return -1;
	if (strcmp(argv[1], "--role=supervisor") == 0) {
		prctl(PR_SET_NAME, "connectfs");
		log_init();
		return reload_resumed(argc, argv);
	}
	worker = strcmp(argv[1], "--role=worker") == 0;
	notifier = strcmp(argv[1], "--role=notifier") == 0;
	if (!worker && !notifier)
		return -1;
	/* exec from a descriptor leaves the descriptor's number as the name in ps and top. */
	prctl(PR_SET_NAME, "connectfs");
	close_range(ROLE_SOCKET + 1, ~0U, 0);
	fcntl(ROLE_SOCKET, F_SETFD, FD_CLOEXEC);
	log_init();
	return worker ? worker_main(argc, argv) : notifier_role(argc, argv);
}

/* ---- Starting the supervisor ------------------------------------------------------------ */

/* The child in the background: nothing inherited but standard error, no terminal. */
static _Noreturn void supervise_in_background(struct supervisor_start *start)
{
	setsid();
	if (start->report > STDERR_FILENO + 1)
		close_range(STDERR_FILENO + 1, (unsigned)start->report - 1, 0);
	close_range((unsigned)start->report + 1, ~0U, 0);
	_exit(supervisor_run(start));
}

/* The parent: what the child says, until the mount is ready or can't be. */
static int wait_for_start(int report, pid_t pid)
{
	unsigned char status;
	char text[CONTROL_TEXT_MAX];
	ssize_t n;

	do
		n = read(report, &status, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1 && status == 0)
		return 0;
	if (n != 1) {
		fputs("connectfs: the daemon died before the mount was ready\n", stderr);
		status = 2;
	}
	for (char last = '\0'; n > 0;) {
		n = read(report, text, sizeof(text));
		if (n > 0)
			last = text[n - 1];
		else if (last && last != '\n')
			fputc('\n', stderr);
		fwrite(text, 1, n > 0 ? (size_t)n : 0, stderr);
	}
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return status;
}

static int run_in_background(struct supervisor_start *start)
{
	int report[2], status;
	pid_t pid;

	signal(SIGCHLD, SIG_DFL);
	fflush(NULL);
	if (pipe2(report, O_CLOEXEC) != 0) {
		fprintf(stderr, "connectfs: can't start: %s\n", strerror(errno));
		return 2;
	}
	start->report = report[1];
	pid = fork();
	if (pid == 0)
		supervise_in_background(start);
	close(report[1]);
	if (pid < 0)
		fprintf(stderr, "connectfs: can't start: %s\n", strerror(errno));
	status = pid < 0 ? 2 : wait_for_start(report[0], pid);
	close(report[0]);
	return status;
}

static void free_strings(char **strings)
{
	for (char **s = strings; s && *s; s++)
		free(*s);
	free(strings);
}

/* argv of the worker: see role.h. */
static char **make_worker_args(const struct daemon_options *o, const char *mountpoint, const char *source)
{
	char **args = calloc(4 + o->n_overrides, sizeof(*args));
	size_t n = 0;

	if (!args)
		return NULL;
	if (!(args[n++] = strdup(mountpoint)))
		goto nomem;
	if (asprintf(&args[n], "-%s%s%s", o->mount.allow_other ? ",allow_other" : "",
	             o->debug ? ",debug" : "", o->foreground ? "" : ",detach") < 0)
		goto nomem;
	n++;
	if (!(args[n++] = strdup(source)))
		goto nomem;
	for (size_t i = 0; i < o->n_overrides; i++, n++)
		if (asprintf(&args[n], "%s=%s", o->overrides[i].key, o->overrides[i].value) < 0)
			goto nomem;
	return args;
nomem:
	if (n < 4 + o->n_overrides)
		args[n] = NULL; /* undefined after a failing asprintf */
	free_strings(args);
	return NULL;
}

static char *make_absolute(const char *directory, const char *path)
{
	char *s;

	if (path[0] == '/')
		return strdup(path);
	if (asprintf(&s, "%s/%s", strcmp(directory, "/") == 0 ? "" : directory, path) < 0)
		return NULL;
	return s;
}

static int run_start(const struct daemon_options *o, struct supervisor_start *start)
{
	char **args;
	int status;

	start->mount = o->mount;
	if (!o->mount.fsname || strcmp(o->mount.fsname, o->source) == 0)
		start->mount.fsname = start->source;
	args = make_worker_args(o, start->mountpoint, start->source);
	if (!args) {
		fputs("connectfs: out of memory\n", stderr);
		return 2;
	}
	start->worker_args = args;
	status = o->foreground ? supervisor_run(start) : run_in_background(start);
	free_strings(args);
	return status;
}

/* Here everything is settled that depends on the directory we were started in. */
int daemon_run(const struct daemon_options *options)
{
	struct supervisor_start start = { .background = !options->foreground, .report = -1 };
	char *mountpoint = NULL, *directory = NULL, *source = NULL;
	struct error err = ERROR_INIT;
	int status = 2;

	if (mount_canonical(options->mountpoint, &mountpoint, &err) != 0) {
		fprintf(stderr, "connectfs: %s\n", err.text);
	} else if (!(directory = getcwd(NULL, 0)) || !(source = make_absolute(directory, options->source))) {
		fprintf(stderr, "connectfs: the current directory: %s\n", strerror(errno));
	} else {
		start.mountpoint = mountpoint;
		start.directory = directory;
		start.source = source;
		status = run_start(options, &start);
	}
	free(mountpoint);
	free(directory);
	free(source);
	return status;
}
