/*
 * Files that others write: reading them whole and safely, and telling whether they changed.
 */
#ifndef CONNECTFS_BASE_FILE_H
#define CONNECTFS_BASE_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/error.h"

/* What statx tells of a file, enough to see that it changed. */
struct file_stamp {
	bool exists;
	uint64_t dev, ino, size;
	int64_t mtime_ns, ctime_ns;
	uint32_t mode; /* st_mode */
};

/* How long after a change of ctime another change may bear the same time: a tick of the
 * slowest kernel (CONFIG_HZ=100) and one more, since multigrain time stamps came with 6.13. */
enum { FILE_STAMP_COARSE_MS = 20 };

/* Follows symlinks. A file that isn't there (ENOENT, ENOTDIR) is 0 with exists=false; other
 * errors are -errno; -EDEADLK for our own mount, which is not asked. May block on a remote file system. */
int file_stamp_take(const char *path, struct file_stamp *ret);
/* The same, but it never waits (so it asks for no mountpoint either): -EAGAIN where the kernel would have
 * to ask a file system for what it doesn't have in memory. So for any thread, also for a path that may
 * have come to lead to a file system that hangs. What was read a moment ago is in memory, as a rule; so
 * -EAGAIN means: read it. (Before Linux 5.12, which can't say what it has in memory, it is file_stamp_take.) */
int file_stamp_peek(const char *path, struct file_stamp *ret);
bool file_stamp_equal(const struct file_stamp *a, const struct file_stamp *b);
/* Was the ctime younger than FILE_STAMP_COARSE_MS at real_ns? Then read again later. */
bool file_stamp_is_young(const struct file_stamp *s, int64_t real_ns);

/* True where a statx can be trusted not to block: a file system of this machine that is
 * neither FUSE nor a network's nor an automount. By statfs f_type; unknown types are remote. */
bool file_is_local(int fd);
/* The same by the path's name and the table of mounts alone; symlinks are not followed. Never waits. */
bool file_mount_is_local(const char *path);

/* The device number no file may lie on: our own mount (0: none yet). Reading it would wait for
 * ourselves. Set by the worker when it has the device; any thread. */
void file_set_own_device(dev_t dev);
/* The mount point as well, canonical, for the test by name. Copied; NULL: none. 0, -ENOMEM or
 * -ENAMETOOLONG. Any thread. */
int file_set_own_mountpoint(const char *path);
/* True when the path, lexically normalised, is our mount point or below it. Any thread, never waits. */
bool file_is_own_mountpoint(const char *path);
/* Does the path (absolute), symlinks followed, come by our mount point? The mount itself is not asked: a thread of ours
 * that waits for an answer of the mount can't die before somebody gives it, and a successor that looks there before it
 * serves waits for itself. May block as the file systems on the way do. */
bool file_leads_to_own_mount(const char *path);

struct file_read {
	struct file_stamp stamp; /* as fstat told after the last byte; equal before and after */
	bool local;
};

/*
 * Reads a whole regular file into out (a buffer with its maximum) by
 * O_RDONLY|O_NONBLOCK|O_CLOEXEC|O_NOCTTY; never reads from a FIFO, device or directory.
 * 0, or -errno with a sentence without the path: -ENOENT, -EACCES, -EISDIR/-EINVAL (no regular
 * file), -EFBIG (over the buffer's maximum), -EDEADLK with "lies on this mount itself" for our own
 * mount, -EAGAIN (it changed while it was read, three times in a row).
 * ret (NULL allowed) is filled as far as known also on failure; out is as it was then, but for a buffer
 * that has failed itself. May block: for the pool.
 */
int file_read_all(const char *path, struct buf *out, struct file_read *ret, struct error *ret_err);
/* The same, where permit(real path, arg) says 0 of the file that has been opened, whatever the path leads
 * to by then; else -EACCES without a sentence, and nothing was read of it. */
int file_read_permitted(const char *path, int (*permit)(const char *real, void *arg), void *arg,
                        struct buf *out, struct file_read *ret, struct error *ret_err);
/* The same for a descriptor of the caller's, open for reading; from its beginning, whatever its offset. */
int file_read_fd(int fd, struct buf *out, struct file_read *ret, struct error *ret_err);
/* The path of what an open descriptor stands for, from the kernel: where it is now, or where it was when
 * it was removed. PATH_MAX bytes. 0 or -errno. */
int file_real_path(int fd, char *ret);

/* Lexical normalisation as java.nio.file.Path.normalize(): "." and "..", double slashes; no
 * file system access. ret has size bytes; -ENAMETOOLONG. */
int file_normalize(const char *path, char *ret, size_t size);

#endif
