/*
 * Secrets in the keep: what a successor must not have to ask for again. Of secrets from files there are none: it
 * looks at files anyway.
 *
 * A record is written whole when a fetch has brought values, or has found the secret store out, and then
 * takes the place of the one before; of two of one secret the later holds. The times are those of
 * clock_mono_ms(), which goes on as long as the machine runs, and so does the keep.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/keep.h"
#include "base/secmem.h"
#include "core/resolver_private.h"

enum { KEY_MAX = 2 * 1024 * 1024 }; /* an id is a path of a stored config, which has 1 MiB at most */

/* Behind the head lie, each with its length before it: the provider's name, the secret's id, the note, in an outage
 * its sentence, the lease's state, the names that were asked for, and keys and values by turns. */
struct kept_secret {
	int64_t fetched_ns, fetched_ms, fresh_until_ms, due_ms, end_ms, lease_end_ns, replace_ms;
	uint64_t provider;  /* hash of how it was set */
	uint16_t rotation;  /* enum secret_rotation */
	uint16_t err;       /* 0, or in an outage its errno */
	uint32_t grew;      /* more is wanted than what the fetch was asked for */
	_Atomic uint32_t used; /* opened since it was fetched */
	uint32_t n_wanted, n_fields;
	uint32_t len;      /* of what follows */
	char data[];
};

static size_t put_size(size_t len)
{
	return sizeof(uint32_t) + len;
}

static char *put(char *at, const char *data, size_t len)
{
	uint32_t n = (uint32_t)len;

	memcpy(at, &n, sizeof(n));
	if (len)
		memcpy(at + sizeof(n), data, len);
	return at + sizeof(n) + len;
}

/* NULL is kept as nothing. */
static char *put_str(char *at, const char *text)
{
	return put(at, text, text ? strlen(text) : 0);
}

static size_t str_size(const char *text)
{
	return put_size(text ? strlen(text) : 0);
}

/* False: it can't be read further. */
static bool take(const struct kept_secret *k, size_t *pos, struct slice *ret)
{
	uint32_t n;

	if (*pos > k->len || k->len - *pos < sizeof(n))
		return false;
	memcpy(&n, k->data + *pos, sizeof(n));
	*pos += sizeof(n);
	if (n > k->len - *pos)
		return false;
	*ret = slice_of(k->data + *pos, n);
	*pos += n;
	return true;
}

/* NULL: out of memory, or none was kept. */
static bool take_str(const struct kept_secret *k, size_t *pos, char **ret)
{
	struct slice text;

	if (!take(k, pos, &text))
		return false;
	*ret = text.len ? strndup(text.data, text.len) : NULL;
	return true;
}

static struct kept_secret *record_of(struct keep *keep, const struct secret *s)
{
	const char *name = s->provider->settings->name, *error = s->err ? s->error : NULL;
	size_t n = secret_values_count(s->values);
	size_t len = str_size(name) + put_size(s->id_len) + str_size(s->note) + str_size(error) +
	             put_size(s->lease_state_len);
	struct kept_secret *k;
	char *at;

	for (size_t i = 0; i < s->n_wanted; i++)
		len += put_size(s->wanted[i].len);
	for (size_t i = 0; i < n; i++)
		len += put_size(secret_values_at(s->values, i).key.len) + put_size(secret_values_at(s->values, i).value.len);
	k = keep_alloc(keep, sizeof(*k) + len);
	if (!k)
		return NULL;
	*k = (struct kept_secret){
		.fetched_ns = s->fetched_ns, .fetched_ms = s->fetched_ms, .fresh_until_ms = s->fresh_until_ms,
		.due_ms = s->due_ms, .end_ms = s->end_ms, .lease_end_ns = s->lease_end_ns, .rotation = (uint16_t)s->rotation,
		.provider = kept_provider_hash(s->provider->settings), .replace_ms = s->replace_ms, .err = (uint16_t)s->err,
		.grew = s->wanted_grew,
		.n_wanted = (uint32_t)s->n_wanted, .n_fields = (uint32_t)n, .len = (uint32_t)len,
	};
	at = put(put_str(k->data, name), s->id, s->id_len);
	at = put_str(put_str(at, s->note), error);
	at = put(at, s->lease_state, s->lease_state_len);
	for (size_t i = 0; i < s->n_wanted; i++)
		at = put(at, s->wanted[i].name, s->wanted[i].len);
	for (size_t i = 0; i < n; i++) {
		struct secret_field f = secret_values_at(s->values, i);

		at = put(put(at, f.key.data, f.key.len), f.value.data, f.value.len);
	}
	return k;
}

/* Returns the one before. Other threads mark a record as used, under the lock. */
static struct kept_secret *set_record(struct secret *s, struct kept_secret *k)
{
	struct kept_secret *old;

	pthread_mutex_lock(&s->lock);
	old = s->kept;
	s->kept = k;
	if (s->used)
		kept_secret_used(s);
	pthread_mutex_unlock(&s->lock);
	return old;
}

void kept_secret_store(struct secret *s)
{
	struct keep *keep = s->resolver->keep;
	struct kept_secret *k;

	if (!keep)
		return;
	k = s->rotation == ROTATION_FILES ? NULL : record_of(keep, s);
	if (k)
		keep_commit(keep, k, KEEP_SECRET);
	keep_free(keep, set_record(s, k)); /* also where there was no room: a successor asks again */
}

void kept_secret_drop(struct secret *s)
{
	struct kept_secret *old = set_record(s, NULL);

	if (s->resolver->keep)
		keep_free(s->resolver->keep, old);
}

void kept_secret_used(struct secret *s)
{
	if (s->kept && !keep_is_frozen(s->provider->resolver->keep))
		atomic_store(&s->kept->used, 1);
}

/* ---- taking over ---- */

/* The names at a record's beginning. False: it is damaged. */
static bool take_names(const struct kept_secret *k, size_t *pos, struct slice *ret_provider, struct slice *ret_id)
{
	*pos = 0;
	return keep_holds(k, sizeof(*k), k->len) && take(k, pos, ret_provider) && take(k, pos, ret_id);
}

/* "{provider}\0{id}". 0 or -ENOMEM. */
static int add_key(struct buf *key, struct slice provider, struct slice id)
{
	buf_init(key, KEY_MAX);
	buf_add_slice(key, provider);
	buf_add(key, "", 1);
	return buf_add_slice(key, id);
}

struct collecting {
	struct resolver *r;
	int err;
};

static void collect(void *arg, void *block)
{
	struct collecting *c = arg;
	struct kept_secret *k = block, *other;
	struct slice provider, id;
	struct buf key;
	void *old = NULL;
	size_t pos;
	int err;

	if (!take_names(k, &pos, &provider, &id)) {
		keep_free(c->r->keep, k);
		return;
	}
	err = add_key(&key, provider, id);
	other = err ? NULL : strmap_get(c->r->kept, buf_slice(&key));
	if (!err && other && keep_seq(other) > keep_seq(k))
		err = -EEXIST;
	if (!err)
		err = strmap_put(c->r->kept, buf_slice(&key), k, &old);
	buf_free(&key);
	if (err)
		keep_free(c->r->keep, k);
	if (old)
		keep_free(c->r->keep, old);
	if (err == -ENOMEM)
		c->err = err;
}

int resolver_set_keep(struct resolver *r, struct keep *keep)
{
	struct collecting c = { .r = r };

	r->keep = keep;
	r->kept = strmap_new();
	if (!r->kept)
		return -ENOMEM;
	keep_each(keep, KEEP_SECRET, collect, &c);
	kept_state_restore(r);
	return c.err;
}

bool resolver_has_kept(const struct resolver *r)
{
	return r->kept && strmap_len(r->kept) > 0;
}

void resolver_kept_done(struct resolver *r)
{
	struct slice key;
	size_t pos = 0;
	void *value;

	while (r->kept && strmap_next(r->kept, &pos, &key, &value))
		keep_free(r->keep, value);
	strmap_free(r->kept, NULL);
	r->kept = NULL;
}

static bool read_wanted(struct secret *s, const struct kept_secret *k, size_t *pos)
{
	struct slice name;

	s->wanted = calloc((size_t)k->n_wanted + 1, sizeof(*s->wanted));
	if (!s->wanted)
		return false;
	for (uint32_t i = 0; i < k->n_wanted; i++) {
		if (!take(k, pos, &name) || !(s->wanted[i].name = calloc(1, name.len + 1)))
			return false;
		if (name.len)
			memcpy(s->wanted[i].name, name.data, name.len); /* NULs may be in it */
		s->wanted[i].len = name.len;
		s->n_wanted = i + 1; /* sorted, as they were */
	}
	return true;
}

/* What the provider left to itself. Out of memory: it can't be taken over. */
static bool read_lease(struct secret *s, const struct kept_secret *k, size_t *pos)
{
	struct slice state;

	if (!take(k, pos, &state))
		return false;
	if (!state.len)
		return true;
	s->lease_state = secmem_alloc(state.len);
	if (!s->lease_state)
		return false;
	memcpy(s->lease_state, state.data, state.len);
	s->lease_state_len = state.len;
	return true;
}

/* Only a provider that goes on with the lease can say when it must be replaced. */
static bool adopt_lease(struct secret *s, const struct kept_secret *k)
{
	const struct provider_ops *ops = s->provider->ops;
	int64_t left = k->end_ms - clock_mono_ms();

	if (k->rotation != ROTATION_LEASE || !s->lease_state_len)
		return true;
	return ops->adopt && ops->adopt(s->provider->self, slice_of(s->id, s->id_len),
	                                slice_of(s->lease_state, s->lease_state_len), left) == 0;
}

static struct secret_values *read_values(const struct kept_secret *k, size_t *pos)
{
	struct secret_field *fields = calloc((size_t)k->n_fields + 1, sizeof(*fields));
	struct secret_values *v = NULL;
	uint32_t i = 0;

	while (fields && i < k->n_fields && take(k, pos, &fields[i].key) && take(k, pos, &fields[i].value))
		i++;
	if (fields && i == k->n_fields)
		v = secret_values_new(fields, i, NULL, 0);
	free(fields);
	return v;
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* The settings may be others than the predecessor's. */
static void take_times(struct secret *s, const struct kept_secret *k)
{
	int64_t now = clock_mono_ms();

	s->rotation = k->rotation;
	s->fetched_ns = k->fetched_ns;
	s->fetched_ms = k->fetched_ms;
	s->lease_end_ns = k->lease_end_ns;
	s->fresh_until_ms = k->fresh_until_ms;
	if (s->rotation == ROTATION_POLL || s->rotation == ROTATION_TTL)
		s->fresh_until_ms = k->fetched_ms + s->provider->settings->refresh.fresh_ms;
	s->end_ms = k->end_ms;
	s->due_ms = k->due_ms;
	s->replace_ms = k->replace_ms;
	s->used = atomic_load(&k->used);
	if (s->rotation == ROTATION_POLL && s->due_ms)
		s->due_ms = earlier(s->due_ms, now + s->provider->settings->refresh.poll_ms);
	if (s->due_ms && s->due_ms <= now)
		s->due_ms = now + 1;
}

/* What may not be served any more, or not for this provider, is not taken over. */
static bool may_be_taken(const struct secret *s, const struct kept_secret *k)
{
	int64_t stale = s->provider->settings->refresh.stale_ms, now = clock_mono_ms();

	if (k->provider != kept_provider_hash(s->provider->settings))
		return false;
	if (k->lease_end_ns)
		return k->lease_end_ns > clock_real_ns() && k->end_ms > now;
	return k->rotation == ROTATION_CONSTANT || stale < 0 || now < k->fetched_ms + stale;
}

static bool read_record(struct secret *s, const struct kept_secret *k)
{
	struct slice provider, id;
	size_t pos;

	if (take_names(k, &pos, &provider, &id) && take_str(k, &pos, &s->note) && take_str(k, &pos, &s->error) &&
	    read_lease(s, k, &pos) && read_wanted(s, k, &pos))
		s->values = read_values(k, &pos);
	return s->values;
}

/* As a new one is. */
static void unread(struct secret *s)
{
	free(s->note);
	free(s->error);
	s->note = s->error = NULL;
	secmem_free(s->lease_state);
	s->lease_state = NULL;
	s->lease_state_len = 0;
	secret_values_unref(s->values);
	s->values = NULL;
	for (size_t i = 0; i < s->n_wanted; i++)
		free(s->wanted[i].name);
	free(s->wanted);
	s->wanted = NULL;
	s->n_wanted = 0;
}

bool kept_secret_restore(struct secret *s)
{
	struct resolver *r = s->resolver;
	struct kept_secret *k = NULL;
	struct buf key;

	if (!r->kept)
		return false;
	if (add_key(&key, slice_str(s->provider->settings->name), slice_of(s->id, s->id_len)) == 0)
		k = strmap_del(r->kept, buf_slice(&key));
	buf_free(&key);
	if (!k)
		return false;
	if (!may_be_taken(s, k) || !read_record(s, k) || !adopt_lease(s, k)) {
		unread(s);
		keep_free(r->keep, k);
		return false;
	}
	take_times(s, k);
	s->wanted_grew = k->grew;
	s->err = (int)k->err;
	s->outage = k->err;
	s->state = k->err ? SECRET_STALE : SECRET_OK;
	s->kept = k;
	return true;
}
