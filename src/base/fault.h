/*
 * Places where a test lets the process die: before and after each store to memory that outlives it.
 *
 * FAULT_POINT costs nothing where CONNECTFS_FAULTS is not defined, which is everywhere but in the test
 * program. There the n-th place that is passed from the start kills the process, n being the number in the
 * file that the environment variable CONNECTFS_FAULT names; the file is emptied first, so that the successor
 * lives.
 */
#ifndef CONNECTFS_BASE_FAULT_H
#define CONNECTFS_BASE_FAULT_H

#ifdef CONNECTFS_FAULTS
void fault_point(void); /* t/fault.c */
#define FAULT_POINT() fault_point()
#else
#define FAULT_POINT() ((void)0)
#endif

#endif
