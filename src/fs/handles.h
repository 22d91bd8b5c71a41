/*
 * Open files and directories: from the unique of the OPEN request to what it was given.
 *
 * Any thread. The locks are sharded by node and held for some instructions.
 */
#ifndef CONNECTFS_FS_HANDLES_H
#define CONNECTFS_FS_HANDLES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct handles;

/* Lies in what it stands for, which is one piece of memory: see list_entry of base/list.h. All of it is the
 * table's. */
struct handle {
	uint64_t ino, unique, size;
	void (*release)(struct handle *handle);
	int64_t opened_ms;
	atomic_uint refs;
	struct handle *next;          /* in its bucket */
	struct handle *newer, *older; /* in the shard's recent ones */
	bool recent;
};

/* For how long after its open a handle's size may be reported instead of the newest. */
enum { HANDLES_RECENT_MS = 1000 };

struct handles *handles_new(void); /* NULL: out of memory */
void handles_free(struct handles *h); /* NULL allowed; releases what is still open */

/* Takes handle over: release(handle), which frees it, runs when it has been dropped and nobody uses it any
 * more, in any thread. size: of what will be read; 0 where it is never to be reported. */
void handles_add(struct handles *h, uint64_t ino, uint64_t unique, struct handle *handle,
                 void (*release)(struct handle *handle), uint64_t size, int64_t now_ms);
/* A reference, or NULL. read_end: where the read ends that it is for, so that the handle knows
 * when it has been read to its end (0: no read). */
struct handle *handles_get(struct handles *h, uint64_t ino, uint64_t unique, uint64_t read_end);
void handle_unref(struct handle *handle);
bool handles_known(struct handles *h, uint64_t ino, uint64_t unique);
/* Forgets it, and gives its reference to the caller; NULL: there is none such. */
struct handle *handles_take(struct handles *h, uint64_t ino, uint64_t unique);
/* The same, and lets go of it; false: there is none such. */
bool handles_drop(struct handles *h, uint64_t ino, uint64_t unique);
/* The largest size of the node's handles that were opened less than HANDLES_RECENT_MS ago and
 * haven't been read to their end; 0: none. */
uint64_t handles_longest(struct handles *h, uint64_t ino, int64_t now_ms);

#endif
