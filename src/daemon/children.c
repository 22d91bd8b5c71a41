/*
 * Starting the other processes, and handing over to them.
 */
#include "daemon/supervisor.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/keep.h"
#include "base/log.h"

void child_back_off(struct child *c)
{
	int64_t now = clock_mono_ms();

	if (now - c->since_ms >= HEALTHY_MS)
		c->delay_ms = 0;
	c->delay_ms = c->delay_ms == 0 ? BACKOFF_FIRST_MS : c->delay_ms * 2;
	if (c->delay_ms > BACKOFF_MAX_MS)
		c->delay_ms = BACKOFF_MAX_MS;
	c->again_ms = now + c->delay_ms;
}

void child_kill(const struct child *c, int signal)
{
	if (c->pid > 0)
		kill(c->pid, signal);
}

/* Only our own children: what mount.c started it waits for itself. */
bool child_reap(struct child *c, int *ret_status)
{
	return c->pid > 0 && waitpid(c->pid, ret_status, WNOHANG) == c->pid;
}

bool child_end(pid_t pid, int ms)
{
	int64_t end = clock_mono_ms() + ms;

	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, WNOHANG) != pid) {
		if (clock_mono_ms() >= end)
			return false;
		usleep(1000);
	}
	return true;
}

/* By name, both being canonical. */
static bool is_below(const char *path, const char *top)
{
	size_t len = strlen(top);

	return strncmp(path, top, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

int worker_start(struct supervisor *s, int exe, pid_t *ret_pid, int *ret_control)
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
	err = role_start(exe, &role, ret_pid);
	close(pair[1]);
	if (err)
		close(pair[0]);
	else
		*ret_control = pair[0];
	return err;
}

int notifier_start(struct supervisor *s)
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

static int send_all(struct supervisor *s)
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

int worker_hand_over(struct supervisor *s)
{
	int err = send_all(s);

	/* The notifier of the worker before may be dying still: its end starts the next one. */
	if (!err && s->notifier.pid == 0)
		err = notifier_start(s);
	return err == -EPIPE || err == -ECONNRESET ? 0 : err;
}

/* ---- the keep ---- */

static void release_map(struct supervisor *s)
{
	if (s->keep_map)
		munmap(s->keep_map, s->keep_mapped);
	s->keep_map = NULL;
	s->keep_mapped = 0;
}

void keep_hold(struct supervisor *s, size_t bytes)
{
	void *map;

	if (bytes <= s->keep_mapped)
		return;
	map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, s->keep, 0);
	if (map == MAP_FAILED)
		return;
	madvise(map, bytes, MADV_DONTDUMP);
	madvise(map, bytes, MADV_DONTFORK);
	release_map(s); /* first, or the limit would count both; the worker has it locked as well */
	if (mlock(map, bytes) != 0)
		log_warn("memory for secrets can't be locked while no worker lives", "error", strerror(errno), NULL);
	s->keep_map = map;
	s->keep_mapped = bytes;
}

int keep_renew(struct supervisor *s)
{
	int keep, err = keep_create(&keep);

	if (err)
		return err;
	release_map(s);
	fd_close(&s->keep);
	s->keep = keep;
	mount_store_again(s);
	return 0;
}

void keep_drop(struct supervisor *s)
{
	release_map(s);
	fd_close(&s->keep);
	fd_close(&s->journal);
}
