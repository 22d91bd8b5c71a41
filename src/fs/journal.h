/*
 * The journal: the requests that the kernel has handed out and that have not been answered, in memory that
 * outlives the worker, so that a successor answers them. (The kernel hands out a request once; one that is
 * lost leaves its caller waiting for ever. FUSE_NOTIFY_RESEND would do it as well, since Linux 6.9 only.)
 *
 * A request is read straight into a buffer of the thread that reads, which lies in the journal. There it stays when
 * that thread answers it, as nearly all are; a request that others are to answer later is first put into a slot.
 * Buffer and slot are cleared when the kernel has taken the answer. A worker that dies at any instruction leaves
 * each request in a buffer or in a slot, or answered; or there and answered: then the successor's answer gets ENOENT
 * from the kernel, and is the end of it. FORGET and INTERRUPT have no answer.
 *
 * The successor's session gets first the INIT that the first worker got, whose answer must be the same if
 * there was one, then what the journal holds, then what the kernel says. What had been interrupted is answered
 * EINTR at once; what was being executed in two deaths that were no SIGKILL, or waited in five of them, EIO.
 *
 * It is as old as the mount and goes wherever that is gone on with, and so it also says since when there is one.
 *
 * Holds no secrets: names, and what is written to refresh. Not locked. Threads: any, but for attach and detach.
 */
#ifndef CONNECTFS_FS_JOURNAL_H
#define CONNECTFS_FS_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct journal;

enum {
	JOURNAL_FORMAT = 2,
	JOURNAL_SLOT = 512,           /* a request with its slot's head */
	JOURNAL_SLOTS = 2 * 4096 + 64, /* more than may be parked, opens and others, and what the threads leave */
	JOURNAL_BUFFERS = 16,         /* at least libfuse's threads */
	JOURNAL_DEATHS_MAX = 2,       /* crashes while it was executed: no more tries */
	JOURNAL_SEEN_MAX = 5,         /* crashes while it waited: what it waits for may be at fault */
};

/* A new one; CLOEXEC. started_ns: real time, see journal_started_ns. 0 or -errno. */
int journal_create(int64_t started_ns, int *ret_fd);

/* How it comes that there is a successor. */
enum journal_death {
	JOURNAL_KILLED,  /* on purpose, by SIGKILL, or in order */
	JOURNAL_CRASHED, /* by a signal that says that what was executed is at fault, or by the watchdog */
	JOURNAL_POISON,  /* so often that nothing of it is to be executed again: all is answered EIO */
};

/* Maps fd, which stays the caller's. 0; -EPROTO: another format; -EBADMSG; -ENOMEM; another -errno. */
int journal_attach(int fd, enum journal_death death, struct journal **ret);
void journal_detach(struct journal *j); /* NULL allowed */

/* Is there a session to be continued? */
bool journal_is_successor(const struct journal *j);
/* As it was given to journal_create, by whoever did. */
int64_t journal_started_ns(const struct journal *j);
/* Says who is to be told that an OPEN of the predecessor's has been refused by the journal: no RELEASE will
 * come, though the predecessor may have made a handle. Before the session begins; from any thread. */
void journal_on_refused(struct journal *j, void (*refused)(void *arg, uint64_t ino, uint64_t unique), void *arg);
/* For tests: how many requests are taken over. Before the session begins. */
size_t journal_pending(const struct journal *j);

/*
 * For fuse_custom_io: like read and writev of the device, errno on failure. journal_read returns 0 requests of
 * the predecessor's first; *ret_unique is what was read.
 */
ssize_t journal_read(struct journal *j, int device, void *buf, size_t size, uint64_t *ret_unique);
ssize_t journal_writev(struct journal *j, int device, struct iovec *iov, int count);
/* 1 once INIT has been answered, 0 before; -EPROTO: this worker would have answered something else than the
 * first one: it must not serve; -ENODEV: stopped before. */
int journal_is_ready(struct journal *j);
/* Who waits for INIT waits no longer. */
void journal_stop(struct journal *j);

/*
 * The request of that number, which this thread has read, is to wait: it is put into a slot, unless it is there, and
 * from then on is executed by nobody, so that no death is its fault. Before others are told of it. False: it is
 * longer than a slot, or all are taken; it must be answered before this thread reads again.
 */
bool journal_park(struct journal *j, uint64_t unique);

/* For tests: requests in slots now. */
size_t journal_used(struct journal *j);

#endif
