/*
 * What providers keep for a successor of theirs (tokens, say): one record a name, which a new one takes the place of.
 */
#include <errno.h>
#include <string.h>

#include "base/keep.h"
#include "core/resolver_private.h"

struct kept_state {
	uint64_t provider;   /* kept_provider_hash() */
	uint32_t provider_len, name_len, len;
	char data[];         /* the provider's name, the record's, and what it holds */
};

static struct slice provider_of(const struct kept_state *k)
{
	return slice_of(k->data, k->provider_len);
}

static struct slice name_of(const struct kept_state *k)
{
	return slice_of(k->data + k->provider_len, k->name_len);
}

static struct slice data_of(const struct kept_state *k)
{
	return slice_of(k->data + k->provider_len + k->name_len, k->len);
}

uint64_t kept_provider_hash(const struct provider_settings *p)
{
	uint64_t h = p->class_name ? hash_bytes(p->class_name, strlen(p->class_name)) : 0;
	struct slice key;
	size_t pos = 0;
	void *value;

	while (strmap_next(p->params, &pos, &key, &value)) {
		const uint64_t all[] = { h, hash_bytes(key.data, key.len), hash_bytes(value, strlen(value)) };

		h = hash_bytes(all, sizeof(all));
	}
	return h;
}

static struct kept_state *record_of(struct provider_instance *p, struct slice name, struct slice data)
{
	struct slice provider = slice_str(p->settings->name);
	struct kept_state *k = keep_alloc(p->resolver->keep, sizeof(*k) + provider.len + name.len + data.len);

	if (!k)
		return NULL;
	*k = (struct kept_state){
		.provider = kept_provider_hash(p->settings), .provider_len = (uint32_t)provider.len,
		.name_len = (uint32_t)name.len, .len = (uint32_t)data.len,
	};
	memcpy(k->data, provider.data, provider.len);
	memcpy(k->data + provider.len, name.data, name.len);
	memcpy(k->data + provider.len + name.len, data.data, data.len);
	keep_commit(p->resolver->keep, k, KEEP_STATE);
	return k;
}

int kept_state_put(struct provider_instance *p, struct slice name, struct slice data)
{
	struct keep *keep = p->resolver->keep;
	struct kept_state *k = NULL;
	void *old = NULL;
	int err = 0;

	if (!keep)
		return -ENOSPC;
	if (!p->states && !(p->states = strmap_new()))
		return -ENOMEM;
	if (!data.len) {
		keep_free(keep, strmap_del(p->states, name));
		return 0;
	}
	k = record_of(p, name, data);
	err = k ? strmap_put(p->states, name, k, &old) : -ENOSPC;
	if (err) {
		if (k)
			keep_free(keep, k);
		old = strmap_del(p->states, name); /* what it says holds no more */
	}
	if (old)
		keep_free(keep, old);
	return err;
}

/* NULL: it belongs to none that there is now. */
static struct provider_instance *owner_of(struct resolver *r, const struct kept_state *k)
{
	for (size_t i = 0; i < r->n_providers; i++) {
		struct provider_instance *p = &r->providers[i];

		if (p->ops && p->ops->restore && slice_eq_str(provider_of(k), p->settings->name) &&
		    k->provider == kept_provider_hash(p->settings))
			return p;
	}
	return NULL;
}

/* A crash may have left two of one name: the later holds. */
static void restore_one(void *arg, void *block)
{
	struct resolver *r = arg;
	struct kept_state *k = block, *other;
	bool sound = keep_holds(k, sizeof(*k), 0) &&
	             keep_holds(k, sizeof(*k), (size_t)k->provider_len + k->name_len + k->len);
	struct provider_instance *p = sound ? owner_of(r, k) : NULL;
	void *old = NULL;

	if (!p || (!p->states && !(p->states = strmap_new()))) {
		keep_free(r->keep, k);
		return;
	}
	other = strmap_get(p->states, name_of(k));
	if ((other && keep_seq(other) > keep_seq(k)) || strmap_put(p->states, name_of(k), k, &old) < 0)
		old = k;
	if (old)
		keep_free(r->keep, old);
}

void kept_state_restore(struct resolver *r)
{
	struct slice name;
	void *value;

	keep_each(r->keep, KEEP_STATE, restore_one, r);
	for (size_t i = 0; i < r->n_providers; i++) {
		struct provider_instance *p = &r->providers[i];
		size_t pos = 0;

		while (p->states && strmap_next(p->states, &pos, &name, &value))
			p->ops->restore(p->self, name, data_of(value));
	}
}

void kept_state_done(struct provider_instance *p)
{
	strmap_free(p->states, NULL);
	p->states = NULL;
}
