/*
 * Places where a test lets the process die: before and after each store to memory that outlives it.
 *
 * FAULT_POINT costs nothing where CONNECTFS_FAULTS is not defined, which is everywhere but in tests: unit tests
 * that have a copy of a file with it, and fault_point of their own, and t/connectfs-test (t/fault.c).
 */
#ifndef CONNECTFS_BASE_FAULT_H
#define CONNECTFS_BASE_FAULT_H

#include <stdatomic.h>

#ifdef CONNECTFS_FAULTS
void fault_point(void);
#define FAULT_POINT() fault_point()
#else
#define FAULT_POINT() ((void)0)
#endif

/* A store that a successor may find or not: what lies behind it is in order before. */
#define FAULT_STORE(to, value) \
	do { \
		FAULT_POINT(); \
		atomic_store_explicit(to, value, memory_order_release); \
		FAULT_POINT(); \
	} while (0)

#endif
