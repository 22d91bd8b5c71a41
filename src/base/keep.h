/*
 * The keep: memory that outlives the process that writes it.
 *
 * A memory file (memfd_create(2)), sealed against shrinking, that the supervisor creates and holds, and that
 * one worker at a time maps and writes. It is cut into blocks. A block belongs to the keep from keep_commit to
 * keep_free; a successor that attaches finds those, as they were, and nothing else: a process that is
 * killed at any instruction leaves each block as it was before or after the call under way.
 *
 * What is committed may still be changed in place, as long as each single store leaves it good: flags by an
 * atomic store, larger things twice over with an atomic index that says which of the two holds.
 *
 * No pointers in it: a successor maps it elsewhere. A block refers to another by keep_place and keep_seq,
 * which together are never used again.
 *
 * All blocks are wiped when they are freed, also those that a dying process left behind half-made. The memory is
 * locked as the policy of secmem.h says, is left out of core dumps, and isn't inherited by a child.
 *
 * Threads: any, but for keep_attach, keep_each and keep_detach, while which nobody else calls.
 */
#ifndef CONNECTFS_BASE_KEEP_H
#define CONNECTFS_BASE_KEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct keep;

enum {
	KEEP_FORMAT = 3,                  /* of the blocks' layout and of what users put into them */
	KEEP_SEGMENT = 1024 * 1024,       /* it grows by so much; never shrinks */
	KEEP_SEGMENTS_MAX = 1024,         /* 1 GiB; then it is full */
	KEEP_BLOCK_MAX = 16 * 1024 * 1024 /* the largest block */
};

/* What a block is, one number for each user. Never renumbered within a format. */
enum keep_kind {
	KEEP_ANY = 0,
	KEEP_SNAPSHOT = 1,  /* core/kept.h */
	KEEP_CONNECTOR = 2,
	KEEP_SECRET = 3,
	KEEP_HANDLE = 4,    /* fs/open.h */
	KEEP_CONTENT = 5,   /* fs/control.c: bytes of an open status.json or metrics */
	KEEP_TEXT = 6,      /* core/kept.h: the last good text of a connector that has been opened */
	KEEP_CATALOG = 7,   /* of all of them together */
	KEEP_STATE = 8,     /* core/kept_state.c: what a provider keeps */
};

struct keep_stats {
	size_t used;    /* bytes in blocks that were allocated and not freed, with their heads */
	size_t size;    /* of the file */
	size_t locked;  /* bytes of it that we have locked */
	size_t blocks;
	size_t failed;  /* allocations that failed */
	int lock_errno; /* of the last mlock that failed, 0: none did */
};

/* A new one without blocks; CLOEXEC. 0 or -errno. */
int keep_create(int *ret_fd);

/*
 * Maps fd, which stays the caller's and must outlive the keep, and makes ready to write; a file of no bytes is
 * formatted. grown(arg, bytes): the file has got longer; called under the keep's lock, from any thread, and at
 * once for what there is. NULL allowed.
 * 0; -EPROTO: another format; -EBADMSG: not ours, or damaged; -ENOMEM; another -errno.
 */
int keep_attach(int fd, void (*grown)(void *arg, size_t bytes), void *arg, struct keep **ret);
void keep_detach(struct keep *k); /* NULL allowed; the file stays as it is */

/* From now on what is in the file stays there: keep_free does nothing, and who changes a block in place asks
 * keep_is_frozen before. For a worker that ends in order, and has a successor all the same. */
void keep_freeze(struct keep *k);
bool keep_is_frozen(const struct keep *k);

/* Zeroed, aligned to 16; NULL with errno ENOMEM: full, or it can't be locked and must be. Not part of
 * the keep before keep_commit. */
void *keep_alloc(struct keep *k, size_t n);
void keep_commit(struct keep *k, void *block, enum keep_kind kind);
/* Takes it out of the keep and wipes it, committed or not. NULL allowed. */
void keep_free(struct keep *k, void *block);

size_t keep_size(const void *block);           /* n of keep_alloc */
/* Has it room for a head of so many bytes and len more? What a crashing process has written over may not. */
static inline bool keep_holds(const void *block, size_t head, uint64_t len)
{
	size_t size = keep_size(block);

	return size >= head && len <= size - head;
}
uint64_t keep_seq(const void *block);          /* of its keep_commit: larger is later */
uint64_t keep_place(const struct keep *k, const void *block);
/* The committed block of that kind at that place, if its sequence number is seq; else NULL. */
void *keep_find(struct keep *k, uint64_t place, uint64_t seq, enum keep_kind kind);

/* Calls fn for each committed block of the kind (KEEP_ANY: all). fn may free that block and those that
 * it has been called for; what it commits may be among those that follow. */
void keep_each(struct keep *k, enum keep_kind kind, void (*fn)(void *arg, void *block), void *arg);

void keep_get_stats(struct keep *k, struct keep_stats *ret);

#endif
