/*
 * Counters that any thread may move without a lock, for metrics and status.
 */
#ifndef CONNECTFS_CORE_STATS_H
#define CONNECTFS_CORE_STATS_H

#include <stdatomic.h>
#include <stdint.h>

/* Upper bounds of the buckets of open latency, in microseconds; the last is +Inf. */
#define STATS_OPEN_BUCKETS \
	{ 50, 100, 250, 500, 1000, 5000, 25000, 100000, 500000, 1000000, 5000000, 10000000 }
enum { STATS_N_OPEN_BUCKETS = 12 };

struct stats {
	atomic_ullong opens, open_errors, reads, read_bytes;
	atomic_ullong open_bucket[STATS_N_OPEN_BUCKETS + 1];
	atomic_ullong open_us_sum;
	atomic_ullong rotations, renders, touches, touch_failures;
	atomic_llong open_files; /* now */
	atomic_llong parked;     /* opens that wait now */
	atomic_ullong parked_refused;
	atomic_ullong audit_lines, audit_dropped;
};

void stats_open_done(struct stats *s, int64_t us, int err);

#endif
