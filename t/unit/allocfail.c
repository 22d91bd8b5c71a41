/*
 * Allocations that fail when a test wants them to.
 */
#include "allocfail.h"

#include <errno.h>
#include <stdlib.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);

static long left = -1;
static long live;
static bool failed;

void alloc_fail_after(long n)
{
	left = n;
	failed = false;
}

bool alloc_failed(void)
{
	return failed;
}

long alloc_live(void)
{
	return live;
}

static bool must_fail(void)
{
	if (left < 0)
		return false;
	if (left > 0) {
		left--;
		return false;
	}
	failed = true;
	errno = ENOMEM;
	return true;
}

void *__wrap_malloc(size_t n)
{
	return must_fail() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return must_fail() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return must_fail() ? NULL : __real_realloc(p, n);
}

void *alloc_malloc(size_t n)
{
	void *p = __wrap_malloc(n);

	live += p != NULL;
	return p;
}

void alloc_free(void *p)
{
	live -= p != NULL;
	free(p);
}
