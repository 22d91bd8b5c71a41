/*
 * The notifier's role. It touches the mount, so it may hang when the worker does: it holds
 * nothing that anybody waits for, and its worst end is a SIGKILL.
 */
#include "fs/notifier.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/secmem.h"
#include "core/settings.h"

enum { BATCH_MAX = 64 }; /* an open root keeps the mount busy */

struct notifier {
	int socket;
	uint32_t dev_major, dev_minor;
	char mountpoint[sizeof ((struct notifier_request *)0)->name];
};

/* One packet; 1, 0 at the end, -EAGAIN. Anything that isn't a message of ours is the end as well. */
static int receive(const struct notifier *n, struct notifier_request *ret, int flags)
{
	const size_t fixed = offsetof(struct notifier_request, name);
	ssize_t got;

	do
		got = recv(n->socket, ret, sizeof *ret, flags);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN ? -EAGAIN : 0;
	if ((size_t)got <= fixed || (size_t)got > sizeof *ret || ((char *)ret)[got - 1] != '\0')
		return 0;
	return 1;
}

static bool say(const struct notifier *n, const void *packet, size_t size)
{
	ssize_t sent;

	do
		sent = send(n->socket, packet, size, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent == (ssize_t)size;
}

static bool answer(const struct notifier *n, uint64_t seq, int err)
{
	struct notifier_answer a = { .seq = seq, .err = err };

	return say(n, &a, sizeof a);
}

/* The mount's root, or -errno; -ESTALE: something else is there now. Asks the file system nothing. */
static int open_root(const struct notifier *n)
{
	int fd = open(n->mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	struct statx stx;

	if (fd < 0)
		return -errno;
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE, &stx) < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	if (stx.stx_dev_major != n->dev_major || stx.stx_dev_minor != n->dev_minor) {
		close(fd);
		return -ESTALE;
	}
	return fd;
}

static int set_times(int root, const char *name, struct timespec atime, struct timespec mtime)
{
	const struct timespec times[2] = { atime, mtime };

	return utimensat(root, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

/* The mtime alone makes IN_MODIFY, both times IN_ATTRIB. */
static int touch(int root, const struct notifier_request *r)
{
	const struct timespec omit = { .tv_nsec = UTIME_OMIT };
	struct timespec mtime = clock_timespec(r->mtime_ns);
	unsigned events = r->op == NOTIFIER_ATTRIB ? NOTIFY_ATTRIB : r->events;
	int err = 0;

	if (events & NOTIFY_MODIFY)
		err = set_times(root, r->name, omit, mtime);
	if (!err && (events & NOTIFY_ATTRIB))
		err = set_times(root, r->name, mtime, mtime);
	return err;
}

static int carry_out(int root, const struct notifier_request *r)
{
	if (root < 0)
		return root;
	if (!r->name[0] || strchr(r->name, '/') || !strcmp(r->name, ".") || !strcmp(r->name, ".."))
		return -EINVAL;
	switch (r->op) {
	case NOTIFIER_TOUCH:
	case NOTIFIER_ATTRIB:
		return touch(root, r);
	case NOTIFIER_MKNOD:
		return mknodat(root, r->name, S_IFREG | 0400, 0) < 0 ? -errno : 0;
	case NOTIFIER_UNLINK:
		return unlinkat(root, r->name, 0) < 0 ? -errno : 0;
	default:
		return -EINVAL;
	}
}

/* r and what else has come meanwhile; false at the end. */
static bool serve_batch(const struct notifier *n, struct notifier_request *r)
{
	int root = open_root(n), more = 1;
	bool ok = true;

	for (int i = 0; ok && more > 0; i++) {
		ok = answer(n, r->seq, carry_out(root, r));
		if (ok && i + 1 < BATCH_MAX)
			more = receive(n, r, MSG_DONTWAIT);
		else
			more = -EAGAIN;
	}
	if (root >= 0)
		close(root);
	return ok && more == -EAGAIN;
}

/* Nothing but the socket and what stands for standard input, output and error. */
static void close_others(int socket)
{
	if (socket > 3)
		close_range(3, (unsigned)socket - 1, 0);
	close_range((unsigned)(socket < 3 ? 3 : socket + 1), ~0u, 0);
}

static int become(uid_t uid, gid_t gid)
{
	if (geteuid() == 0) {
		if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
			return -errno;
	} else if (geteuid() != uid) {
		return -EPERM;
	}
	/* Both are lost with a change of uid. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return -errno;
	return secmem_harden_process();
}

int notifier_main(int socket, uint32_t uid, uint32_t gid, int (*confine)(struct notifier_greeting *ret))
{
	struct notifier n = { .socket = socket };
	struct notifier_greeting greeting = { 0 };
	struct notifier_request *r = malloc(sizeof *r);
	int status = EXIT_FAILURE;

	signal(SIGTERM, SIG_DFL);
	close_others(socket);
	if (!r || secmem_harden_process() < 0 || chdir("/") < 0 || become(uid, gid) ||
	    confine(&greeting))
		goto out;
	status = EXIT_SUCCESS;
	if (!say(&n, &greeting, sizeof greeting) || receive(&n, r, 0) != 1)
		goto out;
	if (r->op != NOTIFIER_HELLO) {
		status = EXIT_FAILURE;
		goto out;
	}
	n.dev_major = r->dev_major;
	n.dev_minor = r->dev_minor;
	strcpy(n.mountpoint, r->name);
	while (receive(&n, r, 0) == 1 && serve_batch(&n, r))
		;
out:
	free(r);
	return status;
}
