/*
 * Clocks. Monotonic time decides (deadlines, freshness); real time is only shown.
 */
#ifndef CONNECTFS_BASE_CLOCK_H
#define CONNECTFS_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

int64_t clock_mono_ms(void); /* CLOCK_BOOTTIME: a lease also runs while the machine sleeps */
int64_t clock_mono_ns(void);
int64_t clock_real_ns(void);

enum { CLOCK_RFC3339_SIZE = 32 };
/* "2026-11-24T22:24:24.123Z" (UTC). ret has CLOCK_RFC3339_SIZE bytes. Returns ret. */
char *clock_rfc3339(int64_t real_ns, char *ret);

struct timespec clock_timespec(int64_t ns);
/* Beyond what 64 bits of nanoseconds hold (the years 1678 to 2261): the first or the last moment. */
int64_t clock_from_timespec(struct timespec ts);

#endif
