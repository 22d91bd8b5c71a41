/*
 * The seccomp filters, by libseccomp: lists of the system calls that a process needs from now on. One
 * that is not in the list kills the process (SIGSYS), which the supervisor reports as any other death.
 */
#ifndef CONNECTFS_DAEMON_FILTER_H
#define CONNECTFS_DAEMON_FILTER_H

#include <stdbool.h>

/*
 * All that libc, libfuse, libevent and we do in the worker: files are opened for reading only, threads and no
 * processes are started, no socket is made unless network says so. read_only: Landlock keeps openat2 from writing,
 * whose flags a filter can't see; where it does not, openat2 is answered with ENOSYS.
 *
 * For all threads of the process. 0 or -errno (-ENOSYS, -EINVAL: the kernel has no filters).
 */
int filter_worker(bool read_only, bool network);
/* Touching, making and unlinking names by path, and the socket. Allocates before, and never after. */
int filter_notifier(void);

#endif
