/*
 * The lock of a mount point: a file whose lock is held as long as the supervisor lives, and in which stands
 * who that is and how its reloads went. See mount.h.
 */
#include "daemon/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/strmap.h"

enum {
	LOCK_NAME_MAX = 200, /* bytes of a lock file's name before it is hashed */
	LOCK_TRIES = 100,
	LOCK_WAIT_MS = 2000, /* for who is just ending; our end takes a second at most */
	LOCK_RETRY_MS = 10,
};

/* Makes the directory, or takes the one that is there if nobody else can write to it. */
static int open_lock_directory(const char *dir, int *ret, struct error *ret_err)
{
	struct stat st;
	int fd, err;

	if (mkdir(dir, 0700) != 0 && errno != EEXIST)
		return error_set(ret_err, errno, "can't make the directory of locks %s: %s", dir,
		                 strerror(errno));
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return error_set(ret_err, errno, "can't open the directory of locks %s: %s", dir,
		                 strerror(errno));
	if (fstat(fd, &st) != 0) {
		err = error_set(ret_err, errno, "%s: %s", dir, strerror(errno));
	} else if (st.st_uid != geteuid() || (st.st_mode & 022)) {
		err = error_set(ret_err, EPERM, "the directory of locks %s is not ours alone: it must belong "
		                "to user %u and be writable for nobody else", dir, (unsigned)geteuid());
	} else {
		*ret = fd;
		return 0;
	}
	close(fd);
	return err;
}

/* The directory of lock files: the same for all processes of a user, whatever their environment says. Else a
 * second start would take a living mount for a dead one. */
static int lock_directory(int *ret, struct error *ret_err)
{
	unsigned uid = (unsigned)geteuid();
	char run[40], dir[64] = "/run/connectfs";
	struct stat st;

	if (uid != 0) {
		snprintf(run, sizeof(run), "/run/user/%u", uid);
		if (lstat(run, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == uid) /* there is one, and ours */
			snprintf(dir, sizeof(dir), "%s/connectfs", run);
		else
			snprintf(dir, sizeof(dir), "/tmp/connectfs-%u", uid);
	}
	return open_lock_directory(dir, ret, ret_err);
}

/* The lock file's name: the path with '/' and '%' percent-encoded; a long one is cut and hashed. */
static void lock_name(const char *path, char ret[NAME_MAX + 1])
{
	size_t at = 0;

	for (const char *p = path; *p; p++) {
		if (at + 3 > LOCK_NAME_MAX) {
			snprintf(ret + at, NAME_MAX + 1 - at, "%%~%016llx",
			         (unsigned long long)hash_bytes(path, strlen(path)));
			return;
		}
		if (*p == '/' || *p == '%')
			at += (size_t)snprintf(ret + at, 4, "%%%02X", (unsigned)(unsigned char)*p);
		else
			ret[at++] = *p;
	}
	ret[at] = '\0';
}

static pid_t lock_holder(int fd)
{
	char text[32];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return 0;
	text[n] = '\0';
	return (pid_t)strtol(text, NULL, 10);
}

/* One try: 1 where the file was removed between its opening and the lock. */
static int try_lock(int dir, const char *name, int *ret_fd, pid_t *ret_pid)
{
	struct stat locked, named;
	int fd = openat(dir, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600), err;

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		err = errno == EWOULDBLOCK ? -EBUSY : -errno;
		if (err == -EBUSY)
			*ret_pid = lock_holder(fd);
	} else if (fstat(fd, &locked) != 0) {
		err = -errno;
	} else if (fstatat(dir, name, &named, AT_SYMLINK_NOFOLLOW) != 0 ||
	           named.st_ino != locked.st_ino || named.st_dev != locked.st_dev) {
		err = 1;
	} else {
		char text[32];
		int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());

		if (ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)n, 0) == n) {
			*ret_fd = fd;
			return 0;
		}
		err = errno ? -errno : -EIO;
	}
	close(fd);
	return err;
}

/* Nothing of ours is mounted there: whoever holds the lock is just ending, or beginning. */
static bool is_passing(const char *path)
{
	struct mount_entry e = { .source = NULL };
	bool passing = mount_find(path, &e) == 0 && !(e.found && e.ours);

	free(e.source);
	return passing;
}

int mount_lock(const char *path, int *ret_fd, pid_t *ret_pid, struct error *ret_err)
{
	const struct timespec pause = { .tv_nsec = LOCK_RETRY_MS * 1000000 };
	int64_t end = clock_mono_ms() + LOCK_WAIT_MS;
	char name[NAME_MAX + 1];
	pid_t pid = 0;
	int dir, err = lock_directory(&dir, ret_err);

	if (err)
		return err;
	lock_name(path, name);
	for (int i = 0; i < LOCK_TRIES; i++) {
		err = try_lock(dir, name, ret_fd, &pid);
		/* umount returns before the daemon has ended, and a mount may follow at once */
		while (err == -EBUSY && clock_mono_ms() < end && is_passing(path)) {
			nanosleep(&pause, NULL);
			err = try_lock(dir, name, ret_fd, &pid);
		}
		if (err <= 0)
			break;
	}
	close(dir);
	if (err == 0)
		return 0;
	if (err > 0)
		err = -EAGAIN;
	if (err != -EBUSY)
		return error_set(ret_err, -err, "can't lock the mount point %s: %s", path, strerror(-err));
	*ret_pid = pid;
	if (pid > 0)
		return error_set(ret_err, EBUSY, "%s is already served by connectfs (process %d)", path,
		                 (int)pid);
	return error_set(ret_err, EBUSY, "%s is already served by connectfs", path);
}

enum { NOTE_MAX = 16 * 1024 }; /* longer than any sentences of a worker */

/* The process id, and how many reloads have begun. Always as long, so that it can be changed by itself. */
#define NOTE_HEAD "%-10d %10u\n"

void mount_lock_begun(int fd, unsigned n)
{
	char head[32];
	int len = snprintf(head, sizeof(head), NOTE_HEAD, (int)getpid(), n);

	if (pwrite(fd, head, (size_t)len, 0) != len)
		errno = 0; /* who waits has the end to go by */
}

/* Behind the head: "N STATUS", the sentences, and a line that says that it is all. */
void mount_lock_note(int fd, unsigned n, int status, const char *text)
{
	char *all;
	int len = asprintf(&all, NOTE_HEAD "%u %d\n%s\n.\n", (int)getpid(), n, n, status, text);

	if (len < 0)
		return;
	if (pwrite(fd, all, (size_t)len, 0) == len && ftruncate(fd, len) != 0)
		errno = 0; /* what stands behind the dot is not read */
	free(all);
}

/* Of a note that is whole; -EAGAIN: it is being written. */
static int parse_note(char *text, pid_t *ret_pid, struct mount_reloads *ret)
{
	struct mount_reloads r = { 0 };
	char *line = strchr(text, '\n'), *body = NULL, *end;
	int pid = 0;

	if (sscanf(text, "%d %u", &pid, &r.begun) < 1 || pid <= 0)
		return -EAGAIN;
	if (line && line[1]) {
		body = strchr(line + 1, '\n');
		end = body ? strstr(body, "\n.\n") : NULL;
		if (!end || sscanf(line + 1, "%u %d", &r.ended, &r.status) != 2)
			return -EAGAIN;
		*end = '\0';
		body = end > body ? body + 1 : NULL;
	}
	r.text = strdup(body ? body : "");
	if (!r.text)
		return -ENOMEM;
	*ret_pid = pid;
	*ret = r;
	return 0;
}

int mount_lock_read(const char *path, pid_t *ret_pid, struct mount_reloads *ret)
{
	char name[NAME_MAX + 1], text[NOTE_MAX];
	int dir, fd, err = lock_directory(&dir, NULL);
	ssize_t n;

	if (err)
		return err;
	lock_name(path, name);
	fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	err = fd < 0 ? -errno : 0;
	close(dir);
	if (err)
		return err;
	/* A lock that nobody holds is what a dead one left. */
	if (flock(fd, LOCK_SH | LOCK_NB) == 0)
		err = -ENOENT;
	n = pread(fd, text, sizeof(text) - 1, 0);
	close(fd);
	if (err || n <= 0)
		return err ? err : -EAGAIN;
	text[n] = '\0';
	return parse_note(text, ret_pid, ret);
}

void mount_unlock(const char *path, int fd)
{
	char name[NAME_MAX + 1];
	int dir;

	/* First the name, then the lock: who opened the file before sees that it is gone. */
	if (lock_directory(&dir, NULL) == 0) {
		lock_name(path, name);
		unlinkat(dir, name, 0);
		close(dir);
	}
	close(fd);
}
