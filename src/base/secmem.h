/*
 * Secret memory: an arena for values, snapshots, tokens and parser buffers.
 *
 * Memory from here is locked (mlock), left out of core dumps (MADV_DONTDUMP), not
 * inherited by a child (MADV_DONTFORK), fenced by guard pages, and wiped when it is
 * freed. It is ordinary anonymous memory and not memfd_secret, since the kernel
 * answers EFAULT when such memory is written to /dev/fuse.
 *
 * All functions may be called from any thread. Before secmem_init the policy is
 * SECMEM_LOCK_TRY. Locking that fails under SECMEM_LOCK_TRY is told by the stats
 * (the caller warns); under SECMEM_LOCK_REQUIRE the allocation fails with ENOMEM.
 * The arena grows in segments of SECMEM_SEGMENT bytes; larger blocks have a mapping of
 * their own; segments that are empty are given back.
 */
#ifndef CONNECTFS_BASE_SECMEM_H
#define CONNECTFS_BASE_SECMEM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

enum secmem_lock {
	SECMEM_LOCK_TRY,
	SECMEM_LOCK_REQUIRE
};

enum { SECMEM_SEGMENT = 256 * 1024 };

struct secmem_stats {
	size_t used;     /* bytes handed out and not freed */
	size_t mapped;   /* bytes mapped for them */
	size_t locked;   /* bytes of these that are locked */
	int lock_errno;  /* of the last mlock that failed, 0 if none did */
};

/* Sets the policy and tries to lock a first segment. 0, or -ENOMEM/-EPERM if the policy
 * is REQUIRE and memory can't be locked. May be called again. */
int secmem_init(enum secmem_lock policy);

enum secmem_lock secmem_lock_policy(void);

/* 16-byte aligned; contents undefined; NULL and errno=ENOMEM on failure. n may be 0. */
void *secmem_alloc(size_t n) __attribute__((malloc));
void *secmem_zalloc(size_t n) __attribute__((malloc));
/* Like realloc, but the old block is wiped. On failure p stays valid. */
void *secmem_realloc(void *p, size_t n);
/* Wipes and frees. NULL is allowed. */
void secmem_free(void *p);
/* A NUL-terminated copy; NULL on failure. */
char *secmem_strdup(struct slice s) __attribute__((malloc));

void secmem_get_stats(struct secmem_stats *ret);

/* PR_SET_DUMPABLE 0 and RLIMIT_CORE 0 for this process. To be called first thing in each
 * role, and again after each change of uid (exec and setuid reset the flag). 0 or -errno. */
int secmem_harden_process(void);

/* Makes jansson allocate here, so that its frees wipe. Once, before threads. */
void secmem_install_jansson(void);

/* For tests: the n-th allocation from now (1: the next one) fails; -1: none does. */
void secmem_fail_after(long n);

#endif
