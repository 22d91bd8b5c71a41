/*
 * Snapshots.
 */
#include "core/snapshot.h"

#include <stdlib.h>

#include "base/secmem.h"
#include "core/core.h"

struct snapshot *snapshot_new(struct keep *keep, char *data, size_t size, const struct binding *b)
{
	size_t n = b ? binding_n_secrets(b) : 0;
	struct snapshot *s = calloc(1, sizeof(*s) + n * sizeof(s->deps[0]));
	char *kept = NULL;

	if (s && keep && !(kept = kept_snapshot_new(keep, data, size))) {
		free(s);
		s = NULL;
	}
	if (!s)
		return NULL;
	if (kept)
		secmem_free(data);
	atomic_init(&s->refs, 1);
	s->keep = keep;
	data = kept ? kept : data;
	s->data = data;
	s->size = size;
	s->n_deps = n;
	for (size_t i = 0; i < n; i++) {
		s->deps[i].secret = secret_ref(binding_secret(b, i));
		s->deps[i].generation = s->deps[i].secret->generation;
	}
	return s;
}

struct snapshot *snapshot_adopt(struct keep *keep, char *data, size_t size)
{
	struct snapshot *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	atomic_init(&s->refs, 1);
	s->keep = keep;
	s->data = data;
	s->size = size;
	s->text_generation = UINT64_MAX;
	return s;
}

struct snapshot *snapshot_ref(struct snapshot *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

void snapshot_unref(struct snapshot *s)
{
	if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < s->n_deps; i++)
		secret_unref(s->deps[i].secret);
	if (s->keep)
		kept_snapshot_free(s->keep, s->data);
	else
		secmem_free(s->data);
	free(s);
}

bool snapshot_is_fresh(const struct snapshot *s)
{
	for (size_t i = 0; i < s->n_deps; i++)
		if (!secret_is_fresh(s->deps[i].secret, s->deps[i].generation))
			return false;
	return true;
}

const char *snapshot_data(const struct snapshot *s)
{
	return s->data;
}

size_t snapshot_size(const struct snapshot *s)
{
	return s->size;
}

uint64_t snapshot_version(const struct snapshot *s)
{
	return s->version;
}
