/*
 * Reading files that others write, and telling whether they changed.
 */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/clock.h"

enum {
	READ_STEP = 64 * 1024,
	READ_TRIES = 3,
	LINKS_MAX = 40 /* the kernel's own limit */
};

/* --- stamps ----------------------------------------------------------------------------- */

static int64_t statx_ns(struct statx_timestamp t)
{
	return clock_from_timespec((struct timespec){ .tv_sec = t.tv_sec, .tv_nsec = t.tv_nsec });
}

static void stamp_from(const struct statx *stx, struct file_stamp *ret)
{
	*ret = (struct file_stamp){
		.exists = true,
		.dev = makedev(stx->stx_dev_major, stx->stx_dev_minor),
		.ino = stx->stx_ino,
		.size = stx->stx_size,
		.mtime_ns = statx_ns(stx->stx_mtime),
		.ctime_ns = statx_ns(stx->stx_ctime),
		.mode = stx->stx_mode,
	};
}

static int stamp_fd(int fd, unsigned flags, struct file_stamp *ret)
{
	struct statx stx;

	if (statx(fd, "", AT_EMPTY_PATH | (int)flags, STATX_BASIC_STATS, &stx) < 0)
		return -errno;
	stamp_from(&stx, ret);
	return 0;
}

int file_stamp_take(const char *path, struct file_stamp *ret)
{
	struct statx stx;

	if (file_leads_to_own_mount(path))
		return -EDEADLK;
	if (statx(AT_FDCWD, path, AT_STATX_SYNC_AS_STAT, STATX_BASIC_STATS, &stx) < 0) {
		if (errno != ENOENT && errno != ENOTDIR)
			return -errno;
		*ret = (struct file_stamp){ .exists = false };
		return 0;
	}
	stamp_from(&stx, ret);
	return 0;
}

int file_stamp_peek(const char *path, struct file_stamp *ret)
{
	static atomic_bool unknown; /* to a kernel before 5.12, and to valgrind */
	struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_CACHED };

	if (atomic_load_explicit(&unknown, memory_order_relaxed))
		return file_stamp_take(path, ret);
	int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
		*ret = (struct file_stamp){ .exists = false };
		return 0;
	}
	if (fd < 0 && (errno == ENOSYS || errno == EINVAL)) {
		atomic_store_explicit(&unknown, true, memory_order_relaxed);
		return file_stamp_take(path, ret);
	}
	if (fd < 0)
		return -errno;
	int r = stamp_fd(fd, AT_STATX_DONT_SYNC, ret);
	close(fd);
	return r;
}

bool file_stamp_equal(const struct file_stamp *a, const struct file_stamp *b)
{
	if (!a->exists || !b->exists)
		return a->exists == b->exists;
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->mtime_ns == b->mtime_ns &&
	       a->ctime_ns == b->ctime_ns && a->mode == b->mode;
}

bool file_stamp_is_young(const struct file_stamp *s, int64_t real_ns)
{
	const int64_t coarse_ns = (int64_t)FILE_STAMP_COARSE_MS * 1000000;
	int64_t age;

	if (__builtin_sub_overflow(real_ns, s->ctime_ns, &age))
		return false;
	/* A ctime far in the future is another machine's clock or one set back: reading again and again
	 * until that time comes would not help. */
	return s->exists && age < coarse_ns && age > -coarse_ns;
}

/* --- where a file lies ------------------------------------------------------------------ */

/* File systems whose statx is answered from this machine's memory or disks. */
static const struct {
	uint32_t type;    /* statfs' f_type */
	const char *name; /* in /proc/self/mountinfo */
} local_types[] = {
	{ 0xef53, "ext4" },
	{ 0xef53, "ext3" },
	{ 0xef53, "ext2" },
	{ 0x58465342, "xfs" },
	{ 0x9123683e, "btrfs" },
	{ 0x73727279, "btrfs" }, /* in a test */
	{ 0xf2f52010, "f2fs" },
	{ 0x2fc12fc1, "zfs" },
	{ 0xca451a4e, "bcachefs" },
	{ 0x3153464a, "jfs" },
	{ 0x52654973, "reiserfs" },
	{ 0x3434, "nilfs2" },
	{ 0x4d44, "vfat" },
	{ 0x2011bab0, "exfat" },
	{ 0x7366746e, "ntfs3" },
	{ 0x9660, "iso9660" },
	{ 0x15013346, "udf" },
	{ 0x73717368, "squashfs" },
	{ 0xe0f5e1e2, "erofs" },
	{ 0x28cd3d45, "cramfs" },
	{ 0x24051905, "ubifs" },
	{ 0x72b6, "jffs2" },
	{ 0x01021994, "tmpfs" },
	{ 0x01021994, "devtmpfs" },
	{ 0x858458f6, "ramfs" },
	{ 0x858458f6, "rootfs" },
	{ 0x958458f6, "hugetlbfs" },
	{ 0x794c7630, "overlay" },
	{ 0x9fa0, "proc" },
	{ 0x62656572, "sysfs" },
	{ 0x64626720, "debugfs" },
	{ 0x74726163, "tracefs" },
	{ 0x62656570, "configfs" },
	{ 0x73636673, "securityfs" },
	{ 0x1cd1, "devpts" },
	{ 0x27e0eb, "cgroup" },
	{ 0x63677270, "cgroup2" },
	{ 0xde5e81e4, "efivarfs" },
};
enum { LOCAL_TYPES = sizeof(local_types) / sizeof(local_types[0]) };

bool file_is_local(int fd)
{
	struct statfs sf;

	if (fstatfs(fd, &sf) < 0)
		return false;
	for (size_t i = 0; i < LOCAL_TYPES; i++)
		if ((uint32_t)sf.f_type == local_types[i].type)
			return true;
	return false;
}

static bool is_local_type(const char *name)
{
	for (size_t i = 0; i < LOCAL_TYPES; i++)
		if (strcmp(local_types[i].name, name) == 0)
			return true;
	return false;
}

/* mountinfo writes blanks and backslashes as three octal digits. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++, to++) {
		*to = *s;
		if (s[0] == '\\' && s[1] && s[2] && s[3]) {
			*to = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
			s += 3;
		}
	}
	*to = '\0';
}

static bool lies_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/' || n == 1);
}

bool file_mount_is_local(const char *path)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char normal[PATH_MAX], *line = NULL;
	bool local = false;
	size_t size = 0, best = 0;

	if (f && path[0] == '/' && file_normalize(path, normal, sizeof(normal)) == 0) {
		while (getline(&line, &size, f) > 0) {
			/* "36 35 98:0 /root /mount/point rw,noatime shared:1 - ext4 /dev/sda rw" */
			char *at = line, *end = NULL, type[32];
			for (int i = 0; at && i < 4; i++)
				at = strchr(at + (i > 0), ' ');
			if (at)
				end = strchr(++at, ' ');
			char *dash = end ? strstr(end, " - ") : NULL;
			if (!dash || sscanf(dash, " - %31s", type) != 1)
				continue;
			*end = '\0';
			unescape(at);
			/* Of two on one place the later lies on top. */
			if (lies_below(normal, at) && strlen(at) >= best) {
				best = strlen(at);
				local = is_local_type(type);
			}
		}
	}
	free(line);
	if (f)
		fclose(f);
	return local;
}

static atomic_ullong own_device;
static pthread_rwlock_t own_lock = PTHREAD_RWLOCK_INITIALIZER;
static char *own_mountpoint; /* normalised */

void file_set_own_device(dev_t dev)
{
	atomic_store(&own_device, (unsigned long long)dev);
}

static bool is_own_device(uint64_t dev)
{
	unsigned long long own = atomic_load(&own_device);

	return own != 0 && own == dev;
}

int file_set_own_mountpoint(const char *path)
{
	char normal[PATH_MAX];
	char *copy = NULL;

	if (path) {
		int r = file_normalize(path, normal, sizeof(normal));
		if (r < 0)
			return r;
		copy = strdup(normal);
		if (!copy)
			return -ENOMEM;
	}
	pthread_rwlock_wrlock(&own_lock);
	char *old = own_mountpoint;
	own_mountpoint = copy;
	pthread_rwlock_unlock(&own_lock);
	free(old);
	return 0;
}

bool file_is_own_mountpoint(const char *path)
{
	char normal[PATH_MAX];
	bool own = false;

	/* A path longer than PATH_MAX leads nowhere. */
	if (path[0] != '/' || file_normalize(path, normal, sizeof(normal)) < 0)
		return false;
	pthread_rwlock_rdlock(&own_lock);
	if (own_mountpoint)
		own = lies_below(normal, own_mountpoint);
	pthread_rwlock_unlock(&own_lock);
	return own;
}

/* A way along a path. */
struct way {
	char at[PATH_MAX];   /* where we are: without symlinks, "" for the root */
	char rest[PATH_MAX]; /* what is still to go */
	int links;
};

/* Takes the first name off the rest, and goes there. False: there is none, or it is too long. */
static bool way_step(struct way *w)
{
	char *name = w->rest + strspn(w->rest, "/");
	size_t len = strcspn(name, "/"), at = strlen(w->at);

	if (len == 0 || at + 1 + len >= sizeof(w->at))
		return false;
	if (len == 2 && memcmp(name, "..", 2) == 0) {
		char *slash = strrchr(w->at, '/');
		if (slash)
			*slash = '\0';
	} else if (len != 1 || *name != '.') {
		w->at[at] = '/';
		memcpy(w->at + at + 1, name, len);
		w->at[at + 1 + len] = '\0';
	}
	memmove(w->rest, name + len, strlen(name + len) + 1);
	return true;
}

/* Where we are there may be a symlink: then its target comes before the rest. False: it leads nowhere. */
static bool way_follow(struct way *w)
{
	char target[PATH_MAX];
	size_t rest = strlen(w->rest);
	ssize_t n = w->at[0] ? readlink(w->at, target, sizeof(target)) : -1;

	if (n < 0)
		return !w->at[0] || errno == EINVAL;
	if (++w->links > LINKS_MAX || (size_t)n + rest >= sizeof(w->rest))
		return false;
	memmove(w->rest + n, w->rest, rest + 1); /* which begins with a slash, or is nothing */
	memcpy(w->rest, target, (size_t)n);
	*(target[0] == '/' ? w->at : strrchr(w->at, '/')) = '\0';
	return true;
}

bool file_leads_to_own_mount(const char *path)
{
	struct way w = { .links = 0 };
	bool known;

	pthread_rwlock_rdlock(&own_lock);
	known = own_mountpoint;
	pthread_rwlock_unlock(&own_lock);
	if (!known || path[0] != '/' || strlen(path) >= sizeof(w.rest))
		return false;
	strcpy(w.rest, path);
	while (way_step(&w)) {
		if (file_is_own_mountpoint(w.at))
			return true;
		if (!way_follow(&w))
			return false;
	}
	return false;
}

/* Writes s before *at, a slash between it and what is there. False: no room. */
static bool prepend(char *ret, size_t *at, size_t end, const char *s, size_t len)
{
	size_t slash = *at < end ? 1 : 0;

	if (len + slash > *at)
		return false;
	if (slash)
		ret[--*at] = '/';
	*at -= len;
	memcpy(ret + *at, s, len);
	return true;
}

/* From the end to the beginning, so that a ".." is known before the name that it takes away, and
 * nothing is written that does not stay. */
int file_normalize(const char *path, char *ret, size_t size)
{
	bool absolute = path[0] == '/';
	size_t skip = 0; /* ".." seen that still take a name away */
	size_t len = strlen(path);

	if (size < 2)
		return -ENAMETOOLONG;
	size_t end = size - 1, at = end;
	while (len > 0) {
		size_t stop = len;
		while (len > 0 && path[len - 1] != '/')
			len--;
		const char *name = path + len;
		size_t n = stop - len;
		if (len > 0)
			len--; /* the slash */
		if (n == 0 || (n == 1 && name[0] == '.'))
			continue;
		if (n == 2 && name[0] == '.' && name[1] == '.')
			skip++;
		else if (skip > 0)
			skip--;
		else if (!prepend(ret, &at, end, name, n))
			return -ENAMETOOLONG;
	}
	for (; skip > 0 && !absolute; skip--)
		if (!prepend(ret, &at, end, "..", 2))
			return -ENAMETOOLONG;
	if (absolute) {
		if (at == 0)
			return -ENAMETOOLONG;
		ret[--at] = '/';
	}
	memmove(ret, ret + at, end - at);
	ret[end - at] = '\0';
	return 0;
}

/* --- reading ---------------------------------------------------------------------------- */

static int fail(struct error *ret_err, int err)
{
	const char *what = strerrordesc_np(err);

	return error_set(ret_err, err, "%s", what ? what : "unknown error");
}

/* Refuses what must not be opened or read, before anything is asked of the file system itself. */
static int check_kind(const struct file_stamp *s, struct error *ret_err)
{
	if (is_own_device(s->dev))
		return error_set(ret_err, EDEADLK, "lies on this mount itself");
	if (S_ISDIR(s->mode))
		return fail(ret_err, EISDIR);
	if (!S_ISREG(s->mode))
		return error_set(ret_err, EINVAL, "not a regular file");
	return 0;
}

/* Reads from offset at into out. The number of bytes, 0 at the end, or -errno. */
static ssize_t read_step(int fd, struct buf *out, off_t at, size_t step)
{
	char probe;
	char *to = &probe;
	size_t room = out->max - out->len;
	ssize_t n;

	if (room > 0) {
		room = room < step ? room : step;
		to = buf_reserve(out, room);
		if (!to)
			return out->err;
	}
	do
		n = pread(fd, to, room > 0 ? room : 1, at);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (room == 0) {
		explicit_bzero(&probe, 1);
		return n == 0 ? 0 : -EFBIG;
	}
	out->len += (size_t)n;
	return n;
}

static int read_once(int fd, struct buf *out, uint64_t size)
{
	size_t start = out->len;
	/* The size is known, as a rule: one step reads it all, and one byte more finds the end
	 * without letting the buffer grow for it. In /proc it is always 0. */
	size_t step = size > 0 ? (size_t)size + 1 : READ_STEP;

	if (size > out->max - out->len)
		return -EFBIG;
	for (;;) {
		ssize_t n = read_step(fd, out, (off_t)(out->len - start), step);
		if (n <= 0)
			return (int)n;
		step = out->len - start == size ? 1 : READ_STEP;
	}
}

static void shorten(struct buf *out, size_t len)
{
	if (!out->data)
		return;
	if (out->secret)
		explicit_bzero(out->data + len, out->len - len);
	out->len = len;
	out->data[len] = '\0';
}

static int read_stable(int fd, struct buf *out, struct file_read *f, struct error *ret_err)
{
	size_t start = out->len;

	for (int i = 0; i < READ_TRIES; i++) {
		struct file_stamp before;
		int r = stamp_fd(fd, AT_STATX_SYNC_AS_STAT, &before);
		if (r < 0)
			return fail(ret_err, -r);
		f->stamp = before;
		r = read_once(fd, out, before.size);
		if (r == -EFBIG)
			return error_set(ret_err, EFBIG, "larger than the maximum of %zu bytes", out->max);
		if (r < 0)
			return fail(ret_err, -r);
		r = stamp_fd(fd, AT_STATX_SYNC_AS_STAT, &f->stamp);
		if (r < 0)
			return fail(ret_err, -r);
		if (file_stamp_equal(&before, &f->stamp))
			return 0;
		shorten(out, start);
	}
	return error_set(ret_err, EAGAIN, "changes while it is read");
}

int file_read_fd(int fd, struct buf *out, struct file_read *ret, struct error *ret_err)
{
	struct file_read f = { .local = false };
	size_t start = out->len;

	/* DONT_SYNC: of our own mount the kernel tells what it knows, and does not ask us. */
	int r = stamp_fd(fd, AT_STATX_DONT_SYNC, &f.stamp);
	if (r < 0)
		r = fail(ret_err, -r);
	else
		r = check_kind(&f.stamp, ret_err);
	if (r == 0) {
		f.local = file_is_local(fd);
		r = read_stable(fd, out, &f, ret_err);
		if (r < 0)
			shorten(out, start);
	}
	if (ret)
		*ret = f;
	return r;
}

/* Opens for reading what the O_PATH descriptor stands for, so that no symlink swapped meanwhile leads
 * to a device or onto our mount. Without /proc only the path is left (NULL: may not be used), and
 * file_read_fd checks again. */
static int open_for_reading(int path_fd, const char *path)
{
	const int flags = O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
	char link[32];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", path_fd);
	int fd = open(link, flags);
	if (fd < 0 && errno == ENOENT && path)
		fd = open(path, flags);
	return fd < 0 ? -errno : fd;
}

int file_real_path(int fd, char *ret)
{
	static const char deleted[] = " (deleted)";
	const size_t n_deleted = sizeof(deleted) - 1;
	struct stat a, b;
	char link[32];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, ret, PATH_MAX);
	if (n < 0)
		return -errno;
	if (n == PATH_MAX)
		return -ENAMETOOLONG;
	ret[n] = '\0';
	if (ret[0] != '/')
		return -ENOENT;
	/* Replaced or removed since it was opened: the kernel tells its last name, with this after it,
	 * unless that is a name that somebody has chosen. */
	if ((size_t)n > n_deleted && strcmp(ret + n - n_deleted, deleted) == 0 &&
	    (lstat(ret, &a) < 0 || fstat(fd, &b) < 0 || a.st_ino != b.st_ino || a.st_dev != b.st_dev))
		ret[(size_t)n - n_deleted] = '\0';
	return 0;
}

static int check_permit(int fd, int (*permit)(const char *real, void *arg), void *arg, struct error *ret_err)
{
	char real[PATH_MAX];

	if (!permit)
		return 0;
	int r = file_real_path(fd, real);
	if (r < 0)
		return fail(ret_err, -r);
	return permit(real, arg) == 0 ? 0 : -EACCES;
}

int file_read_all(const char *path, struct buf *out, struct file_read *ret, struct error *ret_err)
{
	return file_read_permitted(path, NULL, NULL, out, ret, ret_err);
}

int file_read_permitted(const char *path, int (*permit)(const char *real, void *arg), void *arg,
                        struct buf *out, struct file_read *ret, struct error *ret_err)
{
	struct file_read f = { .local = false };
	int fd = -1;
	int r;

	if (ret)
		*ret = f;
	if (file_leads_to_own_mount(path))
		return error_set(ret_err, EDEADLK, "lies on this mount itself");
	int path_fd = open(path, O_PATH | O_CLOEXEC);
	if (path_fd < 0)
		return fail(ret_err, errno);
	r = stamp_fd(path_fd, AT_STATX_DONT_SYNC, &f.stamp);
	if (r < 0)
		r = fail(ret_err, -r);
	else
		r = check_kind(&f.stamp, ret_err);
	if (r == 0)
		r = check_permit(path_fd, permit, arg, ret_err);
	if (r == 0) {
		f.local = file_is_local(path_fd);
		fd = open_for_reading(path_fd, permit ? NULL : path);
		if (fd < 0)
			r = fail(ret_err, -fd);
	}
	if (ret)
		*ret = f;
	close(path_fd);
	if (r < 0)
		return r;
	r = file_read_fd(fd, out, ret, ret_err);
	close(fd);
	return r;
}
