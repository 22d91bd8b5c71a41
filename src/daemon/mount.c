/*
 * Mounting and unmounting without ever touching a mount: see mount.h.
 *
 * The parts: canonical paths, /proc/self/mountinfo, fusermount3, mount(2). The lock is in mountlock.c.
 */
#include "daemon/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

enum {
	SYMLINKS_MAX = 40,        /* as in the kernel */
	STALE_MOUNTS_MAX = 16,
	FUSERMOUNT_MS = 10000,    /* then it is killed: the directory's file system hangs */
};

/* ---- Canonical paths ------------------------------------------------------------------- */

static char *format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static char *format(const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : s;
}

/* Cuts path into the directory that holds the last component and its name (both malloc'ed);
 * name is NULL where there is none to speak of: "/", ".", "..". */
static int split(const char *path, char **ret_dir, char **ret_name)
{
	size_t len = strlen(path), at;
	char *dir, *name;

	while (len > 1 && path[len - 1] == '/')
		len--;
	for (at = len; at > 0 && path[at - 1] != '/'; at--)
		;
	name = strndup(path + at, len - at);
	if (!name)
		return -ENOMEM;
	if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		free(name);
		name = NULL;
		dir = strndup(path, len);
	} else {
		dir = at == 0 ? strdup(".") : strndup(path, at);
	}
	if (!dir) {
		free(name);
		return -ENOMEM;
	}
	*ret_dir = dir;
	*ret_name = name;
	return 0;
}

/* The directory resolved and the name put to it, or the directory alone. */
static char *resolve(const char *dir, const char *name)
{
	char *real = realpath(dir, NULL), *s;

	if (!real || !name)
		return real;
	s = format("%s/%s", strcmp(real, "/") == 0 ? "" : real, name);
	free(real);
	return s;
}

/* Where path's last component is a symlink: what it points to, from the directory it lies in. */
static char *follow(const char *path)
{
	char target[PATH_MAX];
	ssize_t n = readlink(path, target, sizeof(target) - 1);

	if (n < 0)
		return NULL;
	target[n] = '\0';
	if (target[0] == '/')
		return strdup(target);
	return format("%.*s/%s", (int)(strrchr(path, '/') - path), path, target);
}

/* One step: path with its directory resolved; *ret_next is what a symlink leads to, or NULL. */
static int canonical_step(const char *path, char **ret, char **ret_next)
{
	struct mount_entry entry;
	char *dir, *name, *full;
	int err = split(path, &dir, &name);

	if (err)
		return err;
	errno = ENOMEM;
	full = resolve(dir, name);
	err = full ? 0 : -errno;
	free(dir);
	*ret_next = NULL;
	if (!err && name && mount_find(full, &entry) == 0) {
		/* A mount point is no symlink, and a dead or stopped mount must not be asked. */
		if (!entry.found)
			*ret_next = follow(full);
		free(entry.source);
	}
	free(name);
	if (!err)
		*ret = full;
	return err;
}

int mount_canonical(const char *path, char **ret, struct error *ret_err)
{
	char *at, *full = NULL, *next;
	int err = 0;

	if (!*path)
		return error_set(ret_err, ENOENT, "the mount point is an empty string");
	at = strdup(path);
	for (int i = 0; at && i < SYMLINKS_MAX; i++) {
		err = canonical_step(at, &full, &next);
		if (err)
			break;
		free(at);
		if (!next) {
			*ret = full;
			return 0;
		}
		free(full);
		at = next;
	}
	if (!at)
		err = -ENOMEM;
	else if (!err)
		err = -ELOOP;
	free(at);
	return error_set(ret_err, -err, "mount point %s: %s", path, strerror(-err));
}

/* ---- /proc/self/mountinfo -------------------------------------------------------------- */

/* mountinfo writes space, tab, newline, backslash and '#' as \ooo. In place. */
static char *unescape(char *s)
{
	char *out = s;

	for (const char *p = s; *p;) {
		if (p[0] == '\\' && p[1] >= '0' && p[1] <= '3' && p[2] >= '0' && p[2] <= '7' &&
		    p[3] >= '0' && p[3] <= '7') {
			*out++ = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
			p += 4;
		} else {
			*out++ = *p++;
		}
	}
	*out = '\0';
	return s;
}

static uid_t user_of(const char *super_options)
{
	const char *at = super_options;
	unsigned user;

	while (at) {
		if (sscanf(at, "user_id=%u", &user) == 1)
			return (uid_t)user;
		at = strchr(at, ',');
		at = at ? at + 1 : NULL;
	}
	return (uid_t)-1;
}

/* "36 35 98:0 /root /point options [optional]… - type source super". Takes line apart. 1: path's
 * line, 0: another's. */
static int parse_line(char *line, const char *path, struct mount_entry *ret)
{
	enum { ID, PARENT, DEVICE, ROOT, POINT, HEAD };
	char *head[HEAD], *save, *type, *source, *super, *word;
	unsigned major, minor;

	word = strtok_r(line, " \n", &save);
	for (int i = 0; i < HEAD; i++) {
		if (!word)
			return 0;
		head[i] = word;
		word = strtok_r(NULL, " \n", &save);
	}
	if (strcmp(unescape(head[POINT]), path) != 0 ||
	    sscanf(head[DEVICE], "%u:%u", &major, &minor) != 2)
		return 0;
	while (word && strcmp(word, "-") != 0)
		word = strtok_r(NULL, " \n", &save);
	if (!word)
		return 0;
	type = strtok_r(NULL, " \n", &save);
	/* An empty source leaves two spaces, which strtok takes for one. */
	source = save && *save == ' ' ? save : strtok_r(NULL, " \n", &save);
	super = strtok_r(NULL, " \n", &save);
	if (!type)
		return 0;
	*ret = (struct mount_entry){
		.found = true,
		.ours = strcmp(type, "fuse.connectfs") == 0,
		.fuse = strcmp(type, "fuse") == 0 || strncmp(type, "fuse.", 5) == 0,
		.major = major, .minor = minor,
		.user = user_of(super),
		.source = source && *source != ' ' ? unescape(source) : NULL,
	};
	return 1;
}

int mount_find_in(FILE *in, const char *path, struct mount_entry *ret)
{
	struct mount_entry found = { .user = (uid_t)-1 }, entry;
	char *line = NULL;
	size_t size = 0;
	int err = 0;

	/* Mounts on one another are listed in the order of their making: the last is on top. */
	while (!err && getline(&line, &size, in) >= 0) {
		if (!parse_line(line, path, &entry))
			continue;
		entry.source = strdup(entry.source ? entry.source : "");
		if (!entry.source) {
			err = -ENOMEM;
			break;
		}
		free(found.source);
		found = entry;
	}
	if (!err && ferror(in))
		err = -EIO;
	free(line);
	if (err)
		free(found.source);
	else
		*ret = found;
	return err;
}

int mount_find(const char *path, struct mount_entry *ret)
{
	FILE *in = fopen("/proc/self/mountinfo", "re");
	int err;

	if (!in)
		return -errno;
	err = mount_find_in(in, path, ret);
	fclose(in);
	return err;
}

bool mount_is_at(const char *path, unsigned major, unsigned minor)
{
	struct mount_entry entry;

	if (mount_find(path, &entry) != 0)
		return false;
	free(entry.source);
	return entry.ours && entry.major == major && entry.minor == minor;
}

int mount_identify(const char *path, unsigned *ret_major, unsigned *ret_minor, struct error *ret_err)
{
	struct mount_entry entry;
	int err = mount_find(path, &entry);

	if (!err) {
		free(entry.source);
		if (entry.ours) {
			*ret_major = entry.major;
			*ret_minor = entry.minor;
			return 0;
		}
		err = -ENOENT;
	}
	mount_close(path, true);
	return error_set(ret_err, -err, "mounted on %s, but /proc/self/mountinfo does not show it: %s", path,
	                 strerror(-err));
}

/* ---- fusermount3 ----------------------------------------------------------------------- */

static _Noreturn void fusermount_child(char *const argv[], int comm, int err)
{
	char number[16];

	if (comm >= 0) {
		fcntl(comm, F_SETFD, 0);
		snprintf(number, sizeof(number), "%d", comm);
		setenv("_FUSE_COMMFD", number, 1);
	}
	dup2(err, STDERR_FILENO);
	execv("/usr/bin/fusermount3", argv);
	execvp("fusermount3", argv);
	dprintf(STDERR_FILENO, "fusermount3: %s\n", strerror(errno));
	_exit(127);
}

/* One packet of fusermount3 with the device. */
static int receive_device(int comm)
{
	union fd_room room;
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = room.room, .msg_controllen = sizeof(room.room),
	};

	return recvmsg(comm, &msg, MSG_CMSG_CLOEXEC) <= 0 ? -1 : fd_take(&msg);
}

/* What it says and the device it hands over, until it has closed both or the time is up. */
static int listen_to(int err_fd, int comm, char *text, size_t size, int *ret_device)
{
	struct pollfd p[] = { { .fd = err_fd, .events = POLLIN }, { .fd = comm, .events = POLLIN } };
	int64_t end = clock_mono_ms() + FUSERMOUNT_MS;
	size_t at = 0;

	while (p[0].fd >= 0 || p[1].fd >= 0) {
		int64_t left = end - clock_mono_ms();

		if (left <= 0)
			break;
		if (poll(p, 2, (int)left) < 0 && errno != EINTR)
			break;
		if (p[0].fd >= 0 && p[0].revents) {
			char more[256];
			ssize_t n = read(err_fd, more, sizeof(more));

			for (ssize_t i = 0; i < n && at + 1 < size; i++)
				text[at++] = more[i];
			if (n <= 0)
				p[0].fd = -1;
		}
		if (p[1].fd >= 0 && p[1].revents) {
			*ret_device = receive_device(comm);
			p[1].fd = -1;
		}
	}
	text[at] = '\0';
	return p[0].fd >= 0 || p[1].fd >= 0 ? -ETIMEDOUT : 0;
}

/* The last line of what it said, without "fusermount3: " and the newline. */
static void last_sentence(char *text)
{
	static const char prefix[] = "fusermount3: ";
	size_t len = strlen(text);
	char *line;

	while (len > 0 && text[len - 1] == '\n')
		text[--len] = '\0';
	line = strrchr(text, '\n');
	line = line ? line + 1 : text;
	if (strncmp(line, prefix, sizeof(prefix) - 1) == 0)
		line += sizeof(prefix) - 1;
	memmove(text, line, strlen(line) + 1);
}

/* err: of listening to it; then it is not waited for but killed. 0, -ENOENT: there is none; -EPERM: it
 * could not; or err. */
static int wait_for_fusermount(pid_t pid, int err)
{
	int status = 0;

	if (err)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (err || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
		return err;
	return WIFEXITED(status) && WEXITSTATUS(status) == 127 ? -ENOENT : -EPERM;
}

/*
 * Runs fusermount3 (which is set-user-id root). ret_device NULL: it hands over none. 0, or -errno
 * with its sentence in text. By hand and not by libfuse's fuse_open_channel, which writes its
 * sentences to standard error instead of telling them.
 */
static int fusermount(char *const argv[], int *ret_device, char *text, size_t size)
{
	int comm[2] = { -1, -1 }, said[2] = { -1, -1 }, device = -1, err = 0;
	pid_t pid = -1;

	*text = '\0';
	if (pipe2(said, O_CLOEXEC) != 0 ||
	    (ret_device && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, comm) != 0) ||
	    (pid = fork()) < 0)
		err = -errno;
	if (pid == 0)
		fusermount_child(argv, comm[1], said[1]);
	fd_close(&said[1]);
	fd_close(&comm[1]);
	if (!err) {
		err = listen_to(said[0], comm[0], text, size, &device);
		err = wait_for_fusermount(pid, err);
	}
	if (!err && ret_device && device < 0)
		err = -EPROTO;
	fd_close(&said[0]);
	fd_close(&comm[0]);
	if (err)
		fd_close(&device);
	else if (ret_device)
		*ret_device = device;
	last_sentence(text);
	return err;
}

/* ---- Mounting -------------------------------------------------------------------------- */

/* /proc/self/fd/FD: a path that leads to what is open, whatever takes the place of its name. */
enum { FD_PATH_SIZE = 40 };

static const char *fd_path(int fd, char ret[FD_PATH_SIZE])
{
	snprintf(ret, FD_PATH_SIZE, "/proc/self/fd/%d", fd);
	return ret;
}

/*
 * Opens the directory at the canonical path: -ELOOP where a symlink was put into it, since then
 * somebody else than us says where we mount. Safe also on a mount that hangs: O_PATH asks nobody.
 */
static int open_canonical(const char *path, int *ret)
{
	char at[FD_PATH_SIZE], target[PATH_MAX];
	int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), err = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = readlink(fd_path(fd, at), target, sizeof(target) - 1);
	if (n < 0)
		err = -errno;
	else if ((size_t)n != strlen(path) || memcmp(target, path, (size_t)n) != 0)
		err = -ELOOP;
	if (err)
		close(fd);
	else
		*ret = fd;
	return err;
}

struct mount_flag {
	const char *name;
	unsigned long set, clear;
};

/* Options of the kernel's that are flags. "dev" and "suid" are accepted and change nothing, and
 * neither does "ro": on a read-only mount the notifier could not touch a file. */
static const struct mount_flag mount_flags[] = {
	{ "rw", 0, 0 }, { "ro", 0, 0 }, { "dev", 0, 0 }, { "suid", 0, 0 },
	{ "nodev", MS_NODEV, 0 }, { "nosuid", MS_NOSUID, 0 },
	{ "exec", 0, MS_NOEXEC }, { "noexec", MS_NOEXEC, 0 },
	{ "async", 0, MS_SYNCHRONOUS }, { "sync", MS_SYNCHRONOUS, 0 },
	{ "dirsync", MS_DIRSYNC, 0 },
	{ "atime", 0, MS_NOATIME }, { "noatime", MS_NOATIME, 0 },
	{ "diratime", 0, MS_NODIRATIME }, { "nodiratime", MS_NODIRATIME, 0 },
	{ "relatime", MS_RELATIME, 0 }, { "strictatime", MS_STRICTATIME, 0 },
};

static const struct mount_flag *find_flag(const char *name, size_t len)
{
	for (size_t i = 0; i < sizeof(mount_flags) / sizeof(mount_flags[0]); i++)
		if (strlen(mount_flags[i].name) == len && memcmp(mount_flags[i].name, name, len) == 0)
			return &mount_flags[i];
	return NULL;
}

/* Kernel options taken apart: flags, and the rest with a comma before each (malloc'ed). With names,
 * flags go into the rest as well, as fusermount3 wants them. */
static char *split_options(const char *options, bool names, unsigned long *flags)
{
	char *rest = calloc(1, (options ? strlen(options) : 0) + 2), *end = rest;
	const char *next;

	if (!rest)
		return NULL;
	for (const char *at = options; at && *at; at = next) {
		size_t len = strcspn(at, ",");
		const struct mount_flag *f = find_flag(at, len);

		next = at[len] ? at + len + 1 : at + len;
		if (f)
			*flags = (*flags | f->set) & ~f->clear;
		if (len > 0 && (!f || (names && (f->set || f->clear)))) {
			*end++ = ',';
			end = (char *)mempcpy(end, at, len);
		}
	}
	return rest;
}

static int mount_on(int point, const struct mount_options *options, unsigned long flags, const char *data)
{
	char at[FD_PATH_SIZE];

	return mount(options->fsname, fd_path(point, at), "fuse.connectfs", flags, data) == 0 ? 0 : -errno;
}

/* What was just mounted must be seen where it was meant to be; else its directory has been moved. */
static int check_mounted(const char *path, int point)
{
	struct mount_entry entry;
	char at[FD_PATH_SIZE];
	int err = mount_find(path, &entry);

	if (!err) {
		free(entry.source);
		if (entry.ours)
			return 0;
		err = -ELOOP;
	}
	umount2(fd_path(point, at), MNT_DETACH); /* goes to what is mounted there */
	return err;
}

/* point: path, open. */
static int mount_directly(const char *path, int point, const struct mount_options *options, int *ret_fd)
{
	unsigned long flags = MS_NOSUID | MS_NODEV;
	char *rest = split_options(options->kernel, false, &flags), *data;
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC), err;

	if (fd < 0) {
		err = -errno;
		free(rest);
		return err;
	}
	data = rest ? format("fd=%d,rootmode=40000,user_id=%u,group_id=%u,default_permissions%s%s", fd,
	                     (unsigned)getuid(), (unsigned)getgid(),
	                     options->allow_other ? ",allow_other" : "", rest) : NULL;
	if (!data)
		err = -ENOMEM;
	else
		err = mount_on(point, options, flags, data);
	if (!err)
		err = check_mounted(path, point);
	free(rest);
	free(data);
	if (err)
		close(fd);
	else
		*ret_fd = fd;
	return err;
}

/* fusermount3 takes "\," and "\\" for a comma and a backslash within fsname. */
static char *escape_fsname(const char *s)
{
	char *escaped = malloc(2 * strlen(s) + 1), *out = escaped;

	if (!escaped)
		return NULL;
	for (; *s; s++) {
		if (*s == ',' || *s == '\\')
			*out++ = '\\';
		*out++ = *s;
	}
	*out = '\0';
	return escaped;
}

static int mount_by_helper(const char *path, const struct mount_options *options, int *ret_fd,
                           struct error *ret_err)
{
	unsigned long flags = 0;
	char *fsname = escape_fsname(options->fsname), *rest = split_options(options->kernel, true, &flags);
	char *o = fsname && rest ? format("fsname=%s,subtype=connectfs,default_permissions%s%s", fsname,
	                                  options->allow_other ? ",allow_other" : "", rest) : NULL;
	static char program[] = "fusermount3", option[] = "-o", dashes[] = "--";
	char text[ERROR_TEXT_MAX], *point = strdup(path);
	char *argv[] = { program, option, o, dashes, point, NULL };
	int err = o && point ? fusermount(argv, ret_fd, text, sizeof(text)) : -ENOMEM;

	free(fsname);
	free(rest);
	free(o);
	free(point);
	if (!err)
		return 0;
	if (err == -ENOMEM)
		return error_set(ret_err, ENOMEM, "out of memory");
	if (options->allow_other && strstr(text, "user_allow_other"))
		return error_set(ret_err, EPERM, "can't mount on %s with allow_other: an ordinary user may "
		                 "do so only where /etc/fuse.conf has the line user_allow_other", path);
	if (err == -ENOENT)
		return error_set(ret_err, ENOENT, "can't mount on %s: an ordinary user needs the program "
		                 "fusermount3 (package fuse3) for it", path);
	return error_set(ret_err, -err, "can't mount on %s: %s", path,
	                 *text ? text : err == -ETIMEDOUT ? "fusermount3 does not come back" :
	                 "fusermount3 failed");
}

/* Only a directory can be mounted on. */
static int open_point(const char *path, int *ret, struct error *ret_err)
{
	int err;

	if (strcmp(path, "/") == 0)
		return error_set(ret_err, EBUSY, "the mount point must not be the root directory");
	err = open_canonical(path, ret);
	if (err == -ENOENT)
		return error_set(ret_err, ENOENT, "the mount point %s does not exist", path);
	if (err == -ENOTDIR)
		return error_set(ret_err, ENOTDIR, "the mount point %s is not a directory", path);
	if (err == -ELOOP)
		return error_set(ret_err, ELOOP, "the mount point %s leads elsewhere by now: somebody put a "
		                 "symlink into its path", path);
	return err ? error_set(ret_err, -err, "the mount point %s: %s", path, strerror(-err)) : 0;
}

int mount_open(const char *path, const struct mount_options *options, int *ret_fd, struct error *ret_err)
{
	int point, err = open_point(path, &point, ret_err);

	if (err)
		return err;
	err = geteuid() == 0 ? mount_directly(path, point, options, ret_fd) : -EPERM;
	close(point);
	if (err == -EPERM) /* also a root without CAP_SYS_ADMIN */
		return mount_by_helper(path, options, ret_fd, ret_err);
	if (err == -ENOENT || err == -ENODEV || err == -ENXIO)
		return error_set(ret_err, -err, "can't mount on %s: this system has no FUSE (/dev/fuse): %s; "
		                 "modprobe fuse may help", path, strerror(-err));
	if (err == -EINVAL)
		return error_set(ret_err, EINVAL, "can't mount on %s: the kernel refuses the mount "
		                 "options%s%s", path, options->kernel ? " " : "",
		                 options->kernel ? options->kernel : "");
	if (err)
		return error_set(ret_err, -err, "can't mount on %s: %s", path, strerror(-err));
	return 0;
}

/* umount2 of path and of nothing that somebody put in its place: from the directory that holds it. */
static int unmount_directly(const char *path, int flags)
{
	const char *slash = strrchr(path, '/');
	char *at = NULL, dir_at[FD_PATH_SIZE], *dir;
	int fd, err;

	if (!slash || !slash[1])
		return -EINVAL;
	dir = slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
	if (!dir)
		return -ENOMEM;
	err = open_canonical(dir, &fd);
	free(dir);
	if (err)
		return err;
	at = format("%s%s", fd_path(fd, dir_at), slash);
	err = !at ? -ENOMEM : umount2(at, UMOUNT_NOFOLLOW | flags) == 0 ? 0 : -errno;
	free(at);
	close(fd);
	return err;
}

int mount_close(const char *path, bool lazy)
{
	static char program[] = "fusermount3", now[] = "-u", detach[] = "-uz", dashes[] = "--";
	char *argv[] = { program, lazy ? detach : now, dashes, NULL, NULL }, text[ERROR_TEXT_MAX], *point;
	struct mount_entry entry;
	int err;

	err = unmount_directly(path, lazy ? MNT_DETACH : 0);
	if (err != -EPERM)
		return err;
	/* An ordinary user's: only fusermount3 may. It does not say why it failed but in words. */
	err = mount_find(path, &entry);
	if (err)
		return err;
	free(entry.source);
	if (!entry.found)
		return -EINVAL;
	point = strdup(path);
	if (!point)
		return -ENOMEM;
	argv[3] = point;
	err = fusermount(argv, NULL, text, sizeof(text));
	free(point);
	return err == -EPERM ? -EBUSY : err;
}

int mount_remove_dead(const char *path, struct error *ret_err)
{
	for (int removed = 0; removed < STALE_MOUNTS_MAX; removed++) {
		struct mount_entry entry;
		int err = mount_find(path, &entry);

		if (err)
			return error_set(ret_err, -err, "/proc/self/mountinfo: %s", strerror(-err));
		free(entry.source);
		if (!entry.ours)
			return removed;
		if (entry.user != getuid()) /* another user's lock is not ours to ask: it may be alive */
			return error_set(ret_err, EBUSY, "%s is a connectfs mount of user %u: unmount it "
			                 "first", path, (unsigned)entry.user);
		err = mount_close(path, true);
		if (err)
			return error_set(ret_err, -err, "a dead connectfs mount on %s can't be unmounted: %s",
			                 path, strerror(-err));
	}
	return error_set(ret_err, EBUSY, "too many mounts on %s", path);
}
