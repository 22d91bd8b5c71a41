/*
 * The string map: entries in an array in order of insertion, and an open-addressed index of
 * their positions. Deleted entries leave holes, which the next rebuild closes.
 */
#include "base/strmap.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

struct entry {
	char *key; /* NULL: a hole */
	size_t len;
	uint64_t hash;
	void *value;
};

struct strmap {
	struct entry *entries;
	uint32_t *index;  /* position + 1 in entries; SLOT_FREE, SLOT_DELETED */
	size_t slots;     /* of index: a power of two */
	size_t used, cap; /* of entries, holes included; cap is 3/4 of slots */
	size_t len;       /* without holes */
};

static const uint32_t SLOT_FREE = 0;
static const uint32_t SLOT_DELETED = UINT32_MAX;
enum { SLOTS_FIRST = 8 };

static uint64_t seed[2];
static pthread_once_t seed_once = PTHREAD_ONCE_INIT;

static void make_seed(void)
{
	if (getrandom(seed, sizeof(seed), 0) == (ssize_t)sizeof(seed))
		return;
	/* Only a kernel without getrandom comes here: the addresses are still unknown outside. */
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	seed[0] = (uint64_t)ts.tv_nsec ^ (uint64_t)(uintptr_t)&ts;
	seed[1] = (uint64_t)(uintptr_t)&seed << 20;
}

static uint64_t rotl(uint64_t x, int n)
{
	return (x << n) | (x >> (64 - n));
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

/* SipHash-1-3 (Aumasson and Bernstein): without the seed nobody can make names collide. */
static uint64_t siphash(const char *data, size_t len)
{
	uint64_t v[4] = { seed[0] ^ 0x736f6d6570736575u, seed[1] ^ 0x646f72616e646f6du,
		          seed[0] ^ 0x6c7967656e657261u, seed[1] ^ 0x7465646279746573u };
	uint64_t word;
	size_t left = len;

	for (; left >= 8; left -= 8, data += 8) {
		memcpy(&word, data, 8);
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
	}
	word = 0;
	if (left > 0)
		memcpy(&word, data, left);
	word |= (uint64_t)len << 56;
	v[3] ^= word;
	sip_round(v);
	v[0] ^= word;
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

struct strmap *strmap_new(void)
{
	pthread_once(&seed_once, make_seed);
	return calloc(1, sizeof(struct strmap));
}

void strmap_free(struct strmap *m, void (*free_value)(void *))
{
	if (!m)
		return;
	for (size_t i = 0; i < m->used; i++) {
		if (!m->entries[i].key)
			continue;
		if (free_value)
			free_value(m->entries[i].value);
		free(m->entries[i].key);
	}
	free(m->entries);
	free(m->index);
	free(m);
}

/* The index slot of key, or SIZE_MAX. */
static size_t find_slot(const struct strmap *m, struct slice key, uint64_t hash)
{
	if (m->slots == 0)
		return SIZE_MAX;
	for (size_t s = hash & (m->slots - 1);; s = (s + 1) & (m->slots - 1)) {
		if (m->index[s] == SLOT_FREE)
			return SIZE_MAX;
		if (m->index[s] == SLOT_DELETED)
			continue;
		const struct entry *e = &m->entries[m->index[s] - 1];
		if (e->hash == hash && slice_eq(key, slice_of(e->key, e->len)))
			return s;
	}
}

static void index_entry(struct strmap *m, size_t pos)
{
	size_t s = m->entries[pos].hash & (m->slots - 1);

	while (m->index[s] != SLOT_FREE)
		s = (s + 1) & (m->slots - 1);
	m->index[s] = (uint32_t)pos + 1;
}

/* Closes the holes, and makes room for at least one more entry. */
static int rebuild(struct strmap *m)
{
	size_t slots = SLOTS_FIRST;

	while (slots / 4 * 3 <= m->len + m->len / 4)
		slots *= 2;
	if (slots / 4 * 3 >= UINT32_MAX - 1)
		return -ENOMEM;
	uint32_t *index = calloc(slots, sizeof(*index));
	struct entry *entries = malloc(slots / 4 * 3 * sizeof(*entries));
	if (!index || !entries) {
		free(index);
		free(entries);
		return -ENOMEM;
	}
	size_t n = 0;
	for (size_t i = 0; i < m->used; i++)
		if (m->entries[i].key)
			entries[n++] = m->entries[i];
	free(m->index);
	free(m->entries);
	m->index = index;
	m->entries = entries;
	m->slots = slots;
	m->cap = slots / 4 * 3;
	m->used = n;
	for (size_t i = 0; i < n; i++)
		index_entry(m, i);
	return 0;
}

void *strmap_get(const struct strmap *m, struct slice key)
{
	size_t s = find_slot(m, key, siphash(key.data, key.len));

	return s == SIZE_MAX ? NULL : m->entries[m->index[s] - 1].value;
}

const char *strmap_get_str(const struct strmap *m, const char *key)
{
	return strmap_get(m, slice_str(key));
}

int strmap_put(struct strmap *m, struct slice key, void *value, void **ret_old)
{
	uint64_t hash = siphash(key.data, key.len);
	size_t s = find_slot(m, key, hash);

	if (s != SIZE_MAX) {
		struct entry *e = &m->entries[m->index[s] - 1];
		if (ret_old)
			*ret_old = e->value;
		e->value = value;
		return 0;
	}
	if (m->used == m->cap) {
		int r = rebuild(m);
		if (r < 0)
			return r;
	}
	char *copy = malloc(key.len + 1);
	if (!copy)
		return -ENOMEM;
	if (key.len > 0)
		memcpy(copy, key.data, key.len);
	copy[key.len] = '\0';
	m->entries[m->used] = (struct entry){ copy, key.len, hash, value };
	index_entry(m, m->used);
	m->used++;
	m->len++;
	if (ret_old)
		*ret_old = NULL;
	return 0;
}

void *strmap_del(struct strmap *m, struct slice key)
{
	size_t s = find_slot(m, key, siphash(key.data, key.len));

	if (s == SIZE_MAX)
		return NULL;
	struct entry *e = &m->entries[m->index[s] - 1];
	void *value = e->value;
	free(e->key); /* last: the caller's key may be this one, seen by strmap_next */
	e->key = NULL;
	m->index[s] = SLOT_DELETED;
	if (--m->len == 0) {
		/* Empty: all holes can go at once, without an allocation. */
		memset(m->index, 0, m->slots * sizeof(*m->index));
		m->used = 0;
	}
	return value;
}

size_t strmap_len(const struct strmap *m)
{
	return m->len;
}

bool strmap_next(const struct strmap *m, size_t *pos, struct slice *ret_key, void **ret_value)
{
	while (*pos < m->used && !m->entries[*pos].key)
		(*pos)++;
	if (*pos >= m->used)
		return false;
	const struct entry *e = &m->entries[(*pos)++];
	if (ret_key)
		*ret_key = slice_of(e->key, e->len);
	if (ret_value)
		*ret_value = e->value;
	return true;
}

uint64_t hash_bytes(const void *data, size_t len)
{
	const unsigned char *p = data;
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	return h;
}
