/*
 * For tests of what a death may leave behind: fault_point() of base/fault.h, which ends the process at the
 * place that is to be tried.
 */
#ifndef CONNECTFS_UNIT_DYING_H
#define CONNECTFS_UNIT_DYING_H

#include <stdlib.h>
#include <unistd.h>

#include "base/fault.h"

enum {
	DIED = 77,   /* exit status at a fault point */
	BROKEN = 78, /* of a child that found something wrong */
	CANNOT = 79, /* of one that can't try it here */
};

static long fault_in;  /* dies at that one; 0: never */
static long faults;    /* passed */

void fault_point(void)
{
	if (fault_in && ++faults == fault_in)
		_exit(DIED);
}

/* Less where all is slow. */
static int scaled(int n)
{
	const char *scale = getenv("CONNECTFS_TEST_SCALE");
	double by = scale ? atof(scale) : 1;

	n = by < 1 ? (int)(n * by) : n;
	return n > 0 ? n : 1;
}

#endif
