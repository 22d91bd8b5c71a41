/*
 * Clocks and their conversions.
 */
#include "base/clock.h"

#include <stdbool.h>
#include <stdio.h>

enum { NS_PER_MS = 1000000 };
static const int64_t NS_PER_S = 1000000000;

static int64_t read_clock(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return clock_from_timespec(ts);
}

int64_t clock_mono_ns(void)
{
	return read_clock(CLOCK_BOOTTIME);
}

int64_t clock_mono_ms(void)
{
	return clock_mono_ns() / NS_PER_MS;
}

int64_t clock_real_ns(void)
{
	return read_clock(CLOCK_REALTIME);
}

struct timespec clock_timespec(int64_t ns)
{
	struct timespec ts = { .tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S };

	if (ts.tv_nsec < 0) {
		ts.tv_nsec += NS_PER_S;
		ts.tv_sec--;
	}
	return ts;
}

int64_t clock_from_timespec(struct timespec ts)
{
	int64_t ns;

	/* Before 1970 seconds are rounded down: one of them is taken off and added to the rest, so that
	 * the product does not leave the range where the sum would not. */
	bool before = ts.tv_sec < 0;
	int64_t s = (int64_t)ts.tv_sec + before;
	int64_t rest = (int64_t)ts.tv_nsec - (before ? NS_PER_S : 0);
	if (__builtin_mul_overflow(s, NS_PER_S, &ns) || __builtin_add_overflow(ns, rest, &ns))
		return before ? INT64_MIN : INT64_MAX;
	return ns;
}

char *clock_rfc3339(int64_t real_ns, char *ret)
{
	struct timespec ts = clock_timespec(real_ns);
	struct tm tm;

	gmtime_r(&ts.tv_sec, &tm);
	/* The remainders change nothing; they show the compiler that the text fits. */
	snprintf(ret, CLOCK_RFC3339_SIZE, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ",
	         ((unsigned)tm.tm_year + 1900u) % 10000u, ((unsigned)tm.tm_mon + 1u) % 100u,
	         (unsigned)tm.tm_mday % 100u, (unsigned)tm.tm_hour % 100u, (unsigned)tm.tm_min % 100u,
	         (unsigned)tm.tm_sec % 100u, (unsigned)(ts.tv_nsec / NS_PER_MS) % 1000u);
	return ret;
}
