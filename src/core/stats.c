/*
 * Counters.
 */
#include "core/stats.h"

void stats_open_done(struct stats *s, int64_t us, int err)
{
	static const int64_t bounds[STATS_N_OPEN_BUCKETS] = STATS_OPEN_BUCKETS;
	unsigned i = 0;

	if (us < 0)
		us = 0; /* a clock that was set back */
	while (i < STATS_N_OPEN_BUCKETS && us > bounds[i])
		i++;
	/* Nothing reads two of these together, so no order between them is needed. */
	atomic_fetch_add_explicit(&s->opens, 1, memory_order_relaxed);
	if (err)
		atomic_fetch_add_explicit(&s->open_errors, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&s->open_bucket[i], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&s->open_us_sum, (unsigned long long)us, memory_order_relaxed);
}
