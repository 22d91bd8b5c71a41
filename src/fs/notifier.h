/*
 * The notifier: a process without the FUSE device that makes rotation visible to inotify, by
 * touching the mount. A process of its own since a daemon that touches its own mount can become
 * unkillable.
 *
 * It parses nothing but these messages, one a packet, over a SOCK_SEQPACKET socket of the worker.
 * The first is NOTIFIER_HELLO. Its own first one is a greeting, unasked; then it answers each but HELLO
 * with the same seq and the result. It
 * works in order, opens the mount's root by path each time (an open descriptor would keep the mount
 * busy), and checks by the device number that it is still our mount (statx with
 * AT_STATX_DONT_SYNC, which asks nobody). It leaves when the socket ends.
 */
#ifndef CONNECTFS_FS_NOTIFIER_H
#define CONNECTFS_FS_NOTIFIER_H

#include <stdint.h>

enum notifier_op {
	NOTIFIER_HELLO = 1, /* name: the mount point; dev_major, dev_minor: of the mount */
	NOTIFIER_TOUCH,     /* name, mtime_ns, events (enum notify_events) */
	NOTIFIER_ATTRIB,    /* name, mtime_ns: both times, one IN_ATTRIB */
	NOTIFIER_MKNOD,     /* name */
	NOTIFIER_UNLINK,    /* name */
};

struct notifier_request {
	uint32_t op, events;
	uint64_t seq;
	int64_t mtime_ns;
	uint32_t dev_major, dev_minor;
	char name[4096]; /* NUL-terminated; only as much as is used is sent */
};

struct notifier_answer {
	uint64_t seq;
	int32_t err; /* 0 or a negative errno */
	uint32_t pad;
};

enum { NOTIFIER_PROTECTIONS = 6, NOTIFIER_WHY_SIZE = 128 };

/* Of each protection, in an order that is the business of others: "": it is in force; else why not. */
struct notifier_greeting {
	char lacks[NOTIFIER_PROTECTIONS][NOTIFIER_WHY_SIZE]; /* NUL-terminated */
};

/* The role: runs until the socket ends. uid, gid: of the owner of the files, taken on first when
 * root. confine is called after that and before the first message is read, gives up what the rest does not
 * need, and fills the greeting, which is all zeros; 0, or the notifier ends. Returns the exit status. */
int notifier_main(int socket, uint32_t uid, uint32_t gid, int (*confine)(struct notifier_greeting *ret));

#endif
