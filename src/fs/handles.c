/*
 * Open files: a hash table a shard, and beside it a list of those that were opened a moment ago, for the
 * sizes that fstat must tell.
 */
#include "fs/handles.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
	SHARDS = 64,
	BUCKETS_MIN = 16, /* a shard; a power of two */
};

struct shard {
	_Alignas(64) pthread_mutex_t lock;
	struct handle **buckets;
	size_t n_buckets, len;
	struct handle *newest, *oldest;
};

struct handles {
	struct shard shards[SHARDS];
};

static uint64_t mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0x9e3779b97f4a7c15u;
	return x ^ x >> 29;
}

static struct shard *shard_of(struct handles *h, uint64_t ino)
{
	return &h->shards[mix(ino) % SHARDS];
}

static struct handle **slot_of(const struct shard *s, uint64_t unique)
{
	struct handle **slot = &s->buckets[mix(unique) & (s->n_buckets - 1)];

	while (*slot && (*slot)->unique != unique)
		slot = &(*slot)->next;
	return slot;
}

struct handles *handles_new(void)
{
	struct handles *h = aligned_alloc(_Alignof(struct handles), sizeof *h);

	if (!h)
		return NULL;
	for (size_t i = 0; i < SHARDS; i++) {
		struct shard *s = &h->shards[i];

		*s = (struct shard){ .n_buckets = BUCKETS_MIN };
		pthread_mutex_init(&s->lock, NULL);
		s->buckets = calloc(BUCKETS_MIN, sizeof *s->buckets);
		if (!s->buckets) {
			while (i-- > 0)
				free(h->shards[i].buckets);
			free(h);
			return NULL;
		}
	}
	return h;
}

void handles_free(struct handles *h)
{
	if (!h)
		return;
	for (size_t i = 0; i < SHARDS; i++) {
		struct shard *s = &h->shards[i];

		for (size_t b = 0; b < s->n_buckets; b++) {
			for (struct handle *x = s->buckets[b], *next; x; x = next) {
				next = x->next;
				handle_unref(x);
			}
		}
		free(s->buckets);
		pthread_mutex_destroy(&s->lock);
	}
	free(h);
}

/* Without memory for more buckets the chains just get longer. */
static void grow(struct shard *s)
{
	size_t n = s->n_buckets * 2;
	struct handle **buckets = calloc(n, sizeof *buckets);

	if (!buckets)
		return;
	for (size_t b = 0; b < s->n_buckets; b++) {
		for (struct handle *x = s->buckets[b], *next; x; x = next) {
			struct handle **to = &buckets[mix(x->unique) & (n - 1)];

			next = x->next;
			x->next = *to;
			*to = x;
		}
	}
	free(s->buckets);
	s->buckets = buckets;
	s->n_buckets = n;
}

static void recent_add(struct shard *s, struct handle *x)
{
	x->recent = true;
	x->older = s->newest;
	x->newer = NULL;
	if (s->newest)
		s->newest->newer = x;
	else
		s->oldest = x;
	s->newest = x;
}

static void recent_del(struct shard *s, struct handle *x)
{
	if (!x->recent)
		return;
	x->recent = false;
	if (x->newer)
		x->newer->older = x->older;
	else
		s->newest = x->older;
	if (x->older)
		x->older->newer = x->newer;
	else
		s->oldest = x->newer;
}

static void recent_expire(struct shard *s, int64_t now_ms)
{
	while (s->oldest && now_ms - s->oldest->opened_ms >= HANDLES_RECENT_MS)
		recent_del(s, s->oldest);
}

void handles_add(struct handles *h, uint64_t ino, uint64_t unique, struct handle *x,
                 void (*release)(struct handle *handle), uint64_t size, int64_t now_ms)
{
	struct shard *s = shard_of(h, ino);
	struct handle **slot;

	*x = (struct handle){ .ino = ino, .unique = unique, .size = size, .release = release,
		              .opened_ms = now_ms };
	atomic_init(&x->refs, 1);
	pthread_mutex_lock(&s->lock);
	if (s->len >= s->n_buckets * 2)
		grow(s);
	slot = slot_of(s, unique);
	x->next = *slot; /* NULL: a unique is never used again */
	*slot = x;
	s->len++;
	recent_expire(s, now_ms);
	if (size > 0)
		recent_add(s, x);
	pthread_mutex_unlock(&s->lock);
}

struct handle *handles_get(struct handles *h, uint64_t ino, uint64_t unique, uint64_t read_end)
{
	struct shard *s = shard_of(h, ino);
	struct handle *x;

	pthread_mutex_lock(&s->lock);
	x = *slot_of(s, unique);
	if (x) {
		atomic_fetch_add_explicit(&x->refs, 1, memory_order_relaxed);
		if (read_end >= x->size)
			recent_del(s, x);
	}
	pthread_mutex_unlock(&s->lock);
	return x;
}

bool handles_known(struct handles *h, uint64_t ino, uint64_t unique)
{
	struct shard *s = shard_of(h, ino);
	bool known;

	pthread_mutex_lock(&s->lock);
	known = *slot_of(s, unique) != NULL;
	pthread_mutex_unlock(&s->lock);
	return known;
}

void handle_unref(struct handle *handle)
{
	if (atomic_fetch_sub_explicit(&handle->refs, 1, memory_order_acq_rel) > 1)
		return;
	handle->release(handle);
}

struct handle *handles_take(struct handles *h, uint64_t ino, uint64_t unique)
{
	struct shard *s = shard_of(h, ino);
	struct handle **slot, *x;

	pthread_mutex_lock(&s->lock);
	slot = slot_of(s, unique);
	x = *slot;
	if (x) {
		*slot = x->next;
		s->len--;
		recent_del(s, x);
	}
	pthread_mutex_unlock(&s->lock);
	return x;
}

bool handles_drop(struct handles *h, uint64_t ino, uint64_t unique)
{
	struct handle *x = handles_take(h, ino, unique);

	if (x)
		handle_unref(x);
	return x;
}

uint64_t handles_longest(struct handles *h, uint64_t ino, int64_t now_ms)
{
	struct shard *s = shard_of(h, ino);
	uint64_t longest = 0;

	pthread_mutex_lock(&s->lock);
	recent_expire(s, now_ms);
	for (const struct handle *x = s->newest; x; x = x->older) {
		if (x->ino == ino && x->size > longest)
			longest = x->size;
	}
	pthread_mutex_unlock(&s->lock);
	return longest;
}
