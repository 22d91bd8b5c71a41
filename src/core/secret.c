/*
 * The part of a secret that every thread reads.
 */
#include "core/secret.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/secmem.h"

struct secret *secret_new(struct provider_instance *provider, struct slice id)
{
	struct secret *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->id = malloc(id.len + 1);
	if (!s->id) {
		free(s);
		return NULL;
	}
	if (id.len)
		memcpy(s->id, id.data, id.len);
	s->id[id.len] = '\0';
	s->id_len = id.len;
	s->provider = provider;
	s->generation = 1;
	atomic_init(&s->refs, 1);
	pthread_mutex_init(&s->lock, NULL);
	list_init(&s->users);
	list_init(&s->waiters);
	return s;
}

struct secret *secret_ref(struct secret *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

void secret_unref(struct secret *s)
{
	if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
		return;
	/* Timers, watches and fetches were let go when the resolver dropped it. */
	secret_values_unref(s->values);
	secret_files_done(s->files, s->n_files);
	for (size_t i = 0; i < s->n_wanted; i++)
		free(s->wanted[i].name);
	free(s->wanted);
	free(s->error);
	free(s->note);
	secmem_free(s->lease_state);
	free(s->id);
	free(s->key);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- files ---- */

enum { LOOKED_BITS = 44 }; /* milliseconds of 500 years */

#define LOOKED_MASK (((uint64_t)1 << LOOKED_BITS) - 1)

void secret_sign(struct secret *s)
{
	uint64_t was = atomic_load(&s->looked);

	while (!atomic_compare_exchange_weak(&s->looked, &was, ((was >> LOOKED_BITS) + 1) << LOOKED_BITS))
		;
}

static bool was_looked_at(uint64_t looked)
{
	int64_t until_ms = (int64_t)(looked & LOOKED_MASK);

	return until_ms && clock_mono_ms() < until_ms;
}

static bool all_is_watched(const struct secret *s)
{
	for (size_t i = 0; i < s->n_watches && s->watches_complete; i++)
		if (!watch_sees(s->watches[i]))
			return false;
	return s->watches_complete;
}

/* Can a change since the last look be ruled out? Under the lock; in this order: a watch that sees has told what it
 * heard before only when the watcher is quiet after that, and what has been told shows in looked only then. */
static bool need_not_look(struct secret *s)
{
	return was_looked_at(atomic_load(&s->looked)) && all_is_watched(s) && watcher_is_quiet(s->watcher) &&
	       was_looked_at(atomic_load(&s->looked));
}

/* Looks at them. looked: as it was before. */
static bool files_unchanged(struct secret *s, const struct secret_values *values, uint64_t looked)
{
	uint64_t until = (uint64_t)(clock_mono_ms() + SECRET_LOOK_MS) & LOOKED_MASK;

	if (!secret_values_files_unchanged(values))
		return false;
	/* Unless there was a sign meanwhile. */
	atomic_compare_exchange_strong(&s->looked, &looked, (looked & ~LOOKED_MASK) | until);
	return true;
}

/* Under the lock. A successor must know it as well. */
static void secret_use_locked(struct secret *s)
{
	s->used = true;
	kept_secret_used(s);
}

void secret_use(struct secret *s)
{
	pthread_mutex_lock(&s->lock);
	if (!s->used)
		secret_use_locked(s);
	pthread_mutex_unlock(&s->lock);
}

bool secret_is_fresh(struct secret *s, uint64_t generation)
{
	struct secret_values *values;
	bool fresh, by_files;
	uint64_t looked;

	pthread_mutex_lock(&s->lock);
	if (s->generation != generation || s->state != SECRET_OK) {
		pthread_mutex_unlock(&s->lock);
		return false;
	}
	by_files = s->rotation == ROTATION_FILES;
	if (!by_files) {
		fresh = clock_mono_ms() < s->fresh_until_ms;
		if (fresh && s->rotation == ROTATION_LEASE && !s->used)
			secret_use_locked(s);
		pthread_mutex_unlock(&s->lock);
		return fresh;
	}
	if (need_not_look(s)) {
		pthread_mutex_unlock(&s->lock);
		return true;
	}
	looked = atomic_load(&s->looked);
	values = secret_values_ref(s->values);
	pthread_mutex_unlock(&s->lock);
	fresh = files_unchanged(s, values, looked);
	secret_values_unref(values);
	return fresh;
}

const char *secret_state_name(enum secret_state state)
{
	static const char *const names[] = { "idle", "ok", "stale", "failed" };

	return names[state];
}

const char *secret_rotation_name(enum secret_rotation rotation)
{
	static const char *const names[] = { "unknown", "files", "poll", "ttl", "lease", "constant" };

	return names[rotation];
}
