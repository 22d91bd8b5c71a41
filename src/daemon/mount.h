/*
 * Mounting, unmounting, and telling whose mount it is, without ever touching a mount: a dead or
 * stopped one can hang whoever looks at it.
 */
#ifndef CONNECTFS_DAEMON_MOUNT_H
#define CONNECTFS_DAEMON_MOUNT_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/error.h"

struct mount_options {
	bool allow_other;
	const char *fsname;  /* what df and /proc/mounts show: SOURCE */
	const char *kernel;  /* further options for the kernel, comma-separated ("noexec,nodev"), or NULL */
};

/* Canonical form of a mount point, whose last component is never looked at where something is
 * mounted: realpath of the directory that holds it, and its name. A last component that is a
 * symlink is followed in the same way. It need not exist. malloc'ed in *ret. */
int mount_canonical(const char *path, char **ret, struct error *ret_err);

struct mount_entry {
	bool found;
	bool ours;           /* type fuse.connectfs */
	bool fuse;           /* type fuse or fuse.*: looking at it may hang */
	unsigned major, minor;
	uid_t user;          /* who mounted it, where the mount says so (user_id=); else (uid_t)-1 */
	char *source;        /* free */
};
/* The topmost mount at the canonical path, from /proc/self/mountinfo. 0 or -errno. */
int mount_find(const char *path, struct mount_entry *ret);
/* The same from a stream in the form of mountinfo. */
int mount_find_in(FILE *in, const char *path, struct mount_entry *ret);

/* Is the topmost mount there ours, of that device number? Somebody may have mounted over it. */
bool mount_is_at(const char *path, unsigned major, unsigned minor);
/* The device number of the mount just made; where it can't be told the mount is undone. */
int mount_identify(const char *path, unsigned *ret_major, unsigned *ret_minor, struct error *ret_err);

/* The lock of a mount point, held as long as its supervisor lives: flock on a file in /run/connectfs
 * (root), else in /run/user/UID/connectfs where there is a /run/user/UID of ours, else in
 * /tmp/connectfs-UID (0700, ours), whatever the environment says. The file's content is the
 * supervisor's process id. 0 with *ret_fd (CLOEXEC); -EBUSY with *ret_pid when another lives, which is
 * believed after two seconds only where nothing of ours is mounted there: it may just be ending. */
int mount_lock(const char *path, int *ret_fd, pid_t *ret_pid, struct error *ret_err);
/* For `connectfs reload`, in the lock's file: that the n-th reload has begun, and how it went. */
void mount_lock_begun(int fd, unsigned n);
void mount_lock_note(int fd, unsigned n, int status, const char *text);

struct mount_reloads {
	unsigned begun, ended; /* how many */
	int status;            /* how the last one went */
	char *text;            /* its sentences; free */
};
/* The same, read by who may: 0, and the supervisor's process id; -ENOENT: nobody serves that; -errno. */
int mount_lock_read(const char *path, pid_t *ret_pid, struct mount_reloads *ret);
/* For the end: removes the file and closes. */
void mount_unlock(const char *path, int fd);

/* Mounts on the canonical path and returns the device (CLOEXEC): mount(2) for root, else fusermount3. With
 * default_permissions, nosuid, nodev, type fuse.connectfs. Where a symlink has been put into the path since:
 * -ELOOP or -ENOTDIR, and nothing is mounted. */
int mount_open(const char *path, const struct mount_options *options, int *ret_fd, struct error *ret_err);
/* Detaches it (umount2 or fusermount3 -u), lazily where it is busy. 0, -ENOENT/-EINVAL: not mounted. */
int mount_close(const char *path, bool lazy);
/* For who holds the lock: detaches what a killed connectfs left there. How many, or -errno. */
int mount_remove_dead(const char *path, struct error *ret_err);

#endif
