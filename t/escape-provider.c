/*
 * The provider "escape", of the tests only: does in the worker what somebody would who has found a fault in
 * one of its parsers. Linked into connectfs-test, never into the installed program.
 *
 *     config.providers.escape.class=escape
 *
 * ${escape:WHAT ARGUMENT:KEY} tries WHAT (see tries[]) in a thread of its own, and has as value of each key "done",
 * or the name of the errno; where the attempt ends the process, nobody answers.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/loop.h"
#include "provider/provider.h"
#include "provider/registry.h"

enum { WORD_MAX = 16, ID_MAX = 4096 };

/* ---- what is tried: 0, or -1 and errno ---- */

static int try_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);

	return fd < 0 ? -1 : close(fd);
}

static int try_read(const char *path)
{
	return try_open(path, O_RDONLY | O_NONBLOCK);
}

static int try_list(const char *path)
{
	return try_open(path, O_RDONLY | O_DIRECTORY);
}

static int try_make(const char *path)
{
	return try_open(path, O_WRONLY | O_CREAT);
}

static int try_append(const char *path)
{
	return try_open(path, O_RDWR | O_APPEND);
}

/* Of this call a filter can't see the flags. */
static int try_openat2(const char *path)
{
	struct open_how how = { .flags = O_WRONLY | O_CLOEXEC };
	long fd = syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));

	return fd < 0 ? -1 : close((int)fd);
}

static int try_exec(const char *path)
{
	char *const argv[] = { NULL, NULL };

	return execve(path, argv, argv);
}

static int try_fork(const char *arg)
{
	pid_t pid = fork();

	(void)arg;
	if (pid == 0)
		_exit(0);
	return pid < 0 ? -1 : waitpid(pid, NULL, 0) < 0 ? -1 : 0;
}

static int try_mount(const char *path)
{
	return mount("none", path, "tmpfs", 0, NULL);
}

static int try_trace(const char *arg)
{
	(void)arg;
	return ptrace(PTRACE_ATTACH, getppid(), NULL, NULL) < 0 ? -1 : 0;
}

static int try_kill(const char *arg)
{
	(void)arg;
	return kill(getppid(), SIGTERM);
}

static int try_listen(const char *arg)
{
	const struct sockaddr_in any = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)arg;
	if (fd < 0 || bind(fd, (const struct sockaddr *)&any, sizeof(any)) < 0)
		return -1;
	return listen(fd, 1);
}

static int try_connect(const char *port)
{
	const struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((in_port_t)atoi(port)),
	                                .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd < 0 ? -1 : connect(fd, (const struct sockaddr *)&to, sizeof(to));
}

static int try_unix(const char *path)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
	return fd < 0 ? -1 : connect(fd, (const struct sockaddr *)&to, sizeof(to));
}

static int try_chmod(const char *path)
{
	return chmod(path, 0777);
}

static int try_namespace(const char *arg)
{
	(void)arg;
	return unshare(CLONE_NEWUSER);
}

/* The memory of new code. */
static int try_code(const char *arg)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)arg;
	return p == MAP_FAILED ? -1 : 0;
}

/* No attempt to escape: what must work. */
static int try_nothing(const char *arg)
{
	(void)arg;
	return 0;
}

static const struct {
	const char *what;
	int (*run)(const char *arg);
} tries[] = {
	{ "nothing", try_nothing }, { "read", try_read }, { "list", try_list }, { "make", try_make },
	{ "append", try_append }, { "openat2", try_openat2 }, { "unlink", unlink }, { "rmdir", rmdir },
	{ "chmod", try_chmod }, { "exec", try_exec }, { "fork", try_fork }, { "mount", try_mount },
	{ "umount", umount }, { "trace", try_trace }, { "kill", try_kill }, { "listen", try_listen },
	{ "connect", try_connect }, { "unix", try_unix }, { "namespace", try_namespace }, { "code", try_code },
};

/* ---- the provider ---- */

struct escape {
	const struct provider_env *env;
};

struct attempt {
	struct fetch *f;
	struct loop_timer *timer;
	char id[ID_MAX];
	char outcome[32];
};

static void *attempt_run(void *arg)
{
	struct attempt *a = arg;
	char word[WORD_MAX] = "";
	int n = 0;

	snprintf(a->outcome, sizeof(a->outcome), "no such attempt");
	if (sscanf(a->id, "%15s %n", word, &n) < 1)
		return NULL;
	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++)
		if (strcmp(tries[i].what, word) == 0)
			snprintf(a->outcome, sizeof(a->outcome), "%s",
			         tries[i].run(a->id + n) == 0 ? "done" : strerrorname_np(errno));
	return NULL;
}

static void attempt_free(struct attempt *a)
{
	loop_timer_free(a->timer);
	free(a);
}

static void answer(void *arg)
{
	struct attempt *a = arg;
	struct fetch *f = a->f;
	struct fetch_result r = { .ttl_ms = -1, .lease_ms = -1 };
	struct secret_field *fields = calloc(f->n_fields + 1, sizeof(*fields));
	pthread_t thread;

	if (pthread_create(&thread, NULL, attempt_run, a) == 0)
		pthread_join(thread, NULL);
	for (size_t i = 0; fields && i < f->n_fields; i++)
		fields[i] = (struct secret_field){ f->fields[i], slice_str(a->outcome) };
	r.values = fields ? secret_values_new(fields, f->n_fields, NULL, 0) : NULL;
	r.err = r.values ? 0 : EIO;
	free(fields);
	f->priv = NULL;
	attempt_free(a);
	f->done(f, &r);
}

static int escape_fetch(void *self, struct fetch *f)
{
	struct escape *s = self;
	struct attempt *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->f = f;
	snprintf(a->id, sizeof(a->id), "%.*s", SLICE_FMT(f->id));
	a->timer = loop_timer_new(s->env->loop, answer, a);
	if (!a->timer) {
		free(a);
		return -ENOMEM;
	}
	f->priv = a;
	loop_timer_set(a->timer, 0);
	return 0;
}

static void escape_cancel(void *self, struct fetch *f)
{
	(void)self;
	attempt_free(f->priv);
}

static int escape_map(void *self, struct slice path, struct slice key, struct buf *ret_id, struct buf *ret_field,
                      struct error *ret_err)
{
	int r = buf_add_slice(ret_id, path);

	(void)self;
	(void)ret_err;
	return r ? r : buf_add_slice(ret_field, key);
}

static int escape_open(const struct provider_env *env, const char *class_name, const struct strmap *params,
                       void **ret_self, const char **ret_param, struct error *ret_err)
{
	struct escape *s = calloc(1, sizeof(*s));

	(void)class_name;
	(void)params;
	*ret_param = NULL;
	if (!s)
		return error_set(ret_err, ENOMEM, "out of memory");
	s->env = env;
	*ret_self = s;
	return 0;
}

static const struct provider_ops provider_escape = {
	.name = "escape",
	.open = escape_open,
	.map = escape_map,
	.fetch = escape_fetch,
	.cancel = escape_cancel,
	.close = free,
};

__attribute__((constructor)) static void escape_register(void)
{
	if (registry_add(&provider_escape))
		abort();
}
