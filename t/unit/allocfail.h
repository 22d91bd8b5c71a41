/*
 * Makes allocations fail, in tests linked with
 *   -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
 *
 * Only calls from the program's own objects are wrapped; a shared library that can be told how to
 * allocate (jansson) is to be given alloc_malloc and alloc_free. Not for several threads.
 */
#ifndef CONNECTFS_UNIT_ALLOCFAIL_H
#define CONNECTFS_UNIT_ALLOCFAIL_H

#include <stdbool.h>
#include <stddef.h>

/* n more allocations succeed, then all fail with ENOMEM. Negative: none fails. */
void alloc_fail_after(long n);
/* Whether an allocation has failed since alloc_fail_after. */
bool alloc_failed(void);
/* Blocks from alloc_malloc not yet given to alloc_free. */
long alloc_live(void);

void *alloc_malloc(size_t n);
void alloc_free(void *p);

/* The linker calls these. */
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

#endif
