/*
 * Requests that wait for the event thread: opens that need a fetch, and what the control files ask.
 *
 * A parked request is answered exactly once, by whoever claims it: the event thread when the result
 * is there, the FUSE thread that is told of an interrupt (at once, whatever the event thread does just
 * now: who is killed must not stay), or fs_stop. It is freed by the event thread, which keeps it in any
 * case until the result comes.
 */
#ifndef CONNECTFS_FS_OPEN_H
#define CONNECTFS_FS_OPEN_H

#include "fs/node.h"

#include <semaphore.h>

#include "base/list.h"
#include "fs/handles.h"

enum parked_state {
	PARKED_SETUP,       /* the FUSE thread isn't through with it */
	PARKED_WAITS,
	PARKED_EARLY,       /* the result came during SETUP: the FUSE thread answers */
	PARKED_INTERRUPTED, /* an interrupt came during SETUP: the FUSE thread answers */
	PARKED_ANSWERED,    /* who comes now only frees */
};

struct parked {
	struct fs *fs;
	fuse_req_t req;
	uint64_t ino, unique;
	struct fuse_file_info fi;
	int64_t since_ns;
	atomic_int state;
	/* an open */
	struct connector *conn;
	struct open_wait *wait;
	struct snapshot *snapshot;
	int err;
	struct audit_open *audit;   /* who answers ends it, and nobody else looks at it then */
	/* a write to refresh: NUL-terminated lines one after another */
	char *text;
	size_t text_len, written;
	sem_t *freed;               /* posted at its end: the thread that read it waits; or NULL */
	bool is_open;               /* of a connector; else of a control file */
	struct parked *prev, *next; /* fs->parked */
	bool listed;
};

/* In SETUP; since_ns: when the request came. NULL: out of memory. */
struct parked *parked_new(struct fs *fs, fuse_req_t req, uint64_t ino, const struct fuse_file_info *fi,
                          int64_t since_ns);
/* Runs fn(p) in the event thread, which must begin with parked_claim. On failure, or if it was interrupted
 * at once, the request has been answered and p is gone. */
void parked_post(struct parked *p, void (*fn)(void *p));
/* True: the caller answers, then frees. False: it has been answered; the caller frees. Event thread. */
bool parked_claim(struct parked *p);
void parked_free(struct parked *p);

/* Answers all that wait EINTR. Event thread. */
void parked_stop_all(struct fs *fs);
/* Frees what is left. The loop no longer runs. */
void parked_free_all(struct fs *fs);

/* An open file in the keep (KEEP_HANDLE), there before its OPEN is answered. */
struct kept_handle {
	uint64_t unique; /* of its OPEN, which is the file handle */
	uint64_t ino;
	uint64_t place, seq; /* of the snapshot, or of a control file's content */
};

/* In the keep from now on; NULL: it is full. */
struct kept_handle *open_keep_handle(struct keep *keep, uint64_t ino, uint64_t unique, uint64_t place, uint64_t seq);

/* What an open connector's handle holds. */
struct open_file {
	struct handle handle;
	struct connector *conn; /* so that the node is known as long as a descriptor is open */
	struct snapshot *snapshot;
	struct keep *keep;
	struct kept_handle *kept;
};

static inline struct open_file *open_file_of(struct handle *handle)
{
	return list_entry(handle, struct open_file, handle);
}

/* OPEN of a connector; its RELEASE. */
void open_connector(struct fs *fs, fuse_req_t req, uint64_t ino, struct fuse_file_info *fi);
void open_dropped(struct fs *fs, uint64_t ino, uint64_t unique);
/* An OPEN that a predecessor has taken up: true, and it has been answered. */
bool open_repeat_answer(struct fs *fs, fuse_req_t req, uint64_t ino, struct fuse_file_info *fi);
/* Takes over the files that were open in the worker before. 0 or -errno. Before the session begins. */
int open_restore(struct fs *fs);

#endif
