/*
 * Bindings: which secrets and fields a connector's references mean.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/resolver_private.h"

enum { BINDING_TRIES = 3 }; /* a file that changes faster than it is read is served as last read */

/* ---- wanted fields ---- */

static struct slice wanted_name(const struct secret_wanted *w)
{
	return slice_of(w->name, w->len);
}

/* Where the field is, or where it would have to be put. */
static size_t wanted_place(const struct secret *s, struct slice name, bool *ret_found)
{
	size_t low = 0, high = s->n_wanted;

	*ret_found = false;
	while (low < high) {
		size_t mid = (low + high) / 2;
		int c = slice_compare(name, wanted_name(&s->wanted[mid]));

		if (c == 0) {
			*ret_found = true;
			return mid;
		}
		if (c < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

static struct secret_wanted *wanted_find(const struct secret *s, const struct binding_ref *ref)
{
	bool found;
	size_t i = wanted_place(s, ref->field, &found);

	return found ? &s->wanted[i] : NULL;
}

static int compare_refs(const void *a, const void *b)
{
	const struct binding_ref *const *x = a, *const *y = b;

	if ((*x)->secret != (*y)->secret)
		return (*x)->secret < (*y)->secret ? -1 : 1;
	return slice_compare((*x)->field, (*y)->field);
}

/* The fields that nobody wants yet, each once, without users. */
static int wanted_new(const struct secret *s, struct binding_ref *const *refs, size_t n,
                      struct secret_wanted *ret, size_t *ret_n)
{
	size_t n_new = 0;

	for (size_t i = 0; i < n; i++) {
		const struct binding_ref *ref = refs[i];
		char *copy;

		if ((i && compare_refs(&refs[i - 1], &refs[i]) == 0) || wanted_find(s, ref))
			continue;
		copy = malloc(ref->field.len + 1);
		if (!copy) {
			while (n_new)
				free(ret[--n_new].name);
			return -ENOMEM;
		}
		if (ref->field.len)
			memcpy(copy, ref->field.data, ref->field.len);
		copy[ref->field.len] = '\0';
		ret[n_new++] = (struct secret_wanted){ copy, ref->field.len, 0 };
	}
	*ret_n = n_new;
	return 0;
}

/* A lease has brought all that is in it, so that who wants more of it, or of what isn't there, makes no other. But a
 * path into what is nested (it has dots) is found by a read only. */
static bool has_all(const struct secret *s, const struct secret_wanted *more, size_t n)
{
	struct slice value;

	if (s->rotation != ROTATION_LEASE || !s->values)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!secret_values_get(s->values, wanted_name(&more[i]), &value) &&
		    memchr(more[i].name, '.', more[i].len))
			return false;
	return true;
}

/* Both are sorted; from the end, so that each moves but once. */
static int wanted_merge(struct secret *s, const struct secret_wanted *more, size_t n_more)
{
	size_t old = s->n_wanted, to = old + n_more;
	struct secret_wanted *w = realloc(s->wanted, to * sizeof(*w));

	if (!w)
		return -ENOMEM;
	s->wanted = w;
	s->n_wanted = to;
	s->wanted_grew = s->wanted_grew || !has_all(s, more, n_more);
	while (n_more) {
		const struct secret_wanted *m = &more[n_more - 1];

		if (old && slice_compare(wanted_name(&w[old - 1]), wanted_name(m)) > 0)
			w[--to] = w[--old];
		else
			w[--to] = more[--n_more];
	}
	return 0;
}

/* All that a binding wants of one secret, sorted, at once: of 10,000 fields added one after another, each
 * would move those behind it. */
static int wanted_add(struct secret *s, struct binding_ref *const *refs, size_t n)
{
	struct secret_wanted *more = malloc(n * sizeof(*more));
	size_t n_more = 0;
	int err = more ? wanted_new(s, refs, n, more, &n_more) : -ENOMEM;

	if (!err && n_more)
		err = wanted_merge(s, more, n_more);
	for (size_t i = 0; i < n_more && err; i++)
		free(more[i].name);
	free(more);
	for (size_t i = 0; i < n && !err; i++)
		wanted_find(s, refs[i])->users++;
	return err;
}

/* Forgets the fields that have no users any more. */
static void wanted_sweep(struct secret *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n_wanted; i++) {
		if (s->wanted[i].users)
			s->wanted[n++] = s->wanted[i];
		else
			free(s->wanted[i].name);
	}
	s->n_wanted = n;
}

/* ---- making ---- */

static struct provider_instance *find_provider(struct resolver *r, struct slice name)
{
	for (size_t i = 0; i < r->n_providers; i++)
		if (slice_eq_str(name, r->providers[i].settings->name))
			return &r->providers[i];
	return NULL;
}

bool resolver_has_provider(struct resolver *r, struct slice name)
{
	const struct provider_instance *p = find_provider(r, name);

	return p && p->settings->class_name;
}

static int ref_broken(struct binding_ref *ref, int err, struct slice provider, const char *what,
                      const char *text)
{
	ref->kind = REF_BROKEN;
	ref->broken.err = err;
	if (asprintf(&ref->broken.error, "%.*s: %s%s", SLICE_FMT(provider), what, text) < 0) {
		ref->broken.error = NULL;
		return -ENOMEM;
	}
	return 0;
}

static int more_room(struct binding *b)
{
	size_t n = b->n_secrets;
	struct binding_secret **more;

	if (n & (n - 1))
		return 0;
	more = realloc(b->secrets, (n ? 2 * n : 1) * sizeof(struct binding_secret *));
	if (!more)
		return -ENOMEM;
	b->secrets = more;
	return 0;
}

/* The index of a secret in the binding that is being made. Nobody else becomes a user meanwhile: if the
 * binding is one already, it is the last. */
static int use_secret(struct binding *b, struct secret *s, uint32_t *ret)
{
	struct binding_secret *bs;

	if (!list_empty(&s->users)) {
		bs = list_entry(s->users.prev, struct binding_secret, user);
		if (bs->binding == b) {
			*ret = bs->index;
			return 0;
		}
	}
	bs = more_room(b) == 0 ? calloc(1, sizeof(*bs)) : NULL;
	if (!bs)
		return -ENOMEM;
	bs->binding = b;
	bs->secret = secret_ref(s);
	bs->index = (uint32_t)b->n_secrets;
	list_init(&bs->waiter);
	list_init(&bs->user);
	list_append(&s->users, &bs->user);
	b->secrets[b->n_secrets++] = bs;
	*ret = bs->index;
	return 0;
}

/* As a rule the field is the key as it is written. */
static int set_field(struct binding_ref *ref, struct slice field, struct slice key)
{
	char *copy;

	ref->kind = REF_SECRET;
	ref->field = key;
	if (slice_eq(field, key))
		return 0;
	copy = malloc(field.len + 1); /* it may be empty */
	if (!copy) {
		ref->kind = REF_LITERAL;
		return -ENOMEM;
	}
	if (field.len)
		memcpy(copy, field.data, field.len);
	ref->field = slice_of(copy, field.len);
	ref->mapped = true;
	return 0;
}

static int bind_secret(struct binding *b, struct binding_ref *ref, struct provider_instance *p, struct slice id,
                       struct slice field, struct slice key)
{
	struct secret *s = NULL;
	int err = resolver_get_secret(b->resolver, p, id, &s);

	if (!err) {
		err = use_secret(b, s, &ref->secret);
		if (err && list_empty(&s->users))
			resolver_drop_secret(s);
	}
	if (!err)
		err = set_field(ref, field, key);
	return err;
}

static int bind_ref(struct binding *b, struct binding_ref *ref, const struct config_ref *cr)
{
	const struct config_source *source = config_ref_source(b->config, cr);
	struct provider_instance *p = find_provider(b->resolver, source->provider);
	struct error error = ERROR_INIT;
	struct buf id, field;
	int err;

	ref->kind = REF_LITERAL;
	if (!p || !p->settings->class_name)
		return 0; /* as in Kafka: other software writes ${a:b} too */
	if (!p->ops)
		return ref_broken(ref, EIO, source->provider, "this connectfs has no provider of the class ",
		                  p->settings->class_name);
	buf_init(&id, 64 * 1024);
	buf_init(&field, 64 * 1024);
	err = p->ops->map(p->self, source->path, cr->key, &id, &field, &error);
	if (err && err != -ENOMEM)
		err = ref_broken(ref, -err, source->provider, "", error.text[0] ? error.text : strerror(-err));
	else if (!err)
		err = bind_secret(b, ref, p, buf_slice(&id), buf_slice(&field), cr->key);
	buf_free(&id);
	buf_free(&field);
	return err;
}

static int bind_fields(struct binding *b)
{
	struct binding_ref **sorted = malloc((b->config->n_refs + 1) * sizeof(*sorted));
	size_t n = 0;
	int err = 0;

	if (!sorted)
		return -ENOMEM;
	for (size_t i = 0; i < b->config->n_refs; i++)
		if (b->refs[i].kind == REF_SECRET)
			sorted[n++] = &b->refs[i];
	if (n > 1)
		qsort(sorted, n, sizeof(*sorted), compare_refs);
	for (size_t i = 0, end; i < n && !err; i = end) {
		struct binding_secret *bs = b->secrets[sorted[i]->secret];

		end = i + 1;
		while (end < n && sorted[end]->secret == sorted[i]->secret)
			end++;
		err = wanted_add(bs->secret, &sorted[i], end - i);
		bs->wanting = !err;
	}
	free(sorted);
	return err;
}

int resolver_bind(struct resolver *r, const struct config *config,
                  void (*changed)(void *arg, int64_t since_ms), void *arg, struct binding **ret)
{
	struct binding *b = calloc(1, sizeof(*b) + config->n_refs * sizeof(b->refs[0]));
	int err = 0;

	if (!b)
		return -ENOMEM;
	b->resolver = r;
	b->config = config;
	b->changed = changed;
	b->arg = arg;
	for (size_t i = 0; i < config->n_refs && !err; i++)
		err = bind_ref(b, &b->refs[i], &config->refs[i]);
	if (!err)
		err = bind_fields(b);
	if (err) {
		binding_free(b);
		return err;
	}
	*ret = b;
	return 0;
}

void binding_free(struct binding *b)
{
	if (!b)
		return;
	for (size_t i = 0; i < b->config->n_refs; i++) {
		struct binding_ref *ref = &b->refs[i];

		if (ref->kind == REF_SECRET && b->secrets[ref->secret]->wanting)
			wanted_find(b->secrets[ref->secret]->secret, ref)->users--;
		if (ref->mapped)
			free((char *)(uintptr_t)ref->field.data);
		if (ref->kind == REF_BROKEN)
			free(ref->broken.error);
	}
	for (size_t i = 0; i < b->n_secrets; i++) {
		struct binding_secret *bs = b->secrets[i];
		struct secret *s = bs->secret;

		wanted_sweep(s);
		list_remove(&bs->waiter);
		list_remove(&bs->user);
		if (list_empty(&s->users))
			resolver_drop_secret(s);
		secret_unref(s);
		free(bs);
	}
	free(b->secrets);
	free(b);
}

size_t binding_n_secrets(const struct binding *b)
{
	return b->n_secrets;
}

struct secret *binding_secret(const struct binding *b, size_t i)
{
	return b->secrets[i]->secret;
}

/* ---- needing ---- */

int binding_need(struct binding *b, enum need need, void (*done)(void *arg), void *arg)
{
	b->need = need;
	for (size_t i = 0; need == NEED_FRESH && i < b->n_secrets; i++)
		secret_use(b->secrets[i]->secret);
	b->done = done;
	b->done_arg = arg;
	b->pending = 0;
	for (size_t i = 0; i < b->n_secrets; i++) {
		struct binding_secret *bs = b->secrets[i];

		bs->tries = 0;
		bs->asked = bs->secret->n_begun;
		if (secret_said(bs->secret, need, bs->asked, false))
			continue;
		list_append(&bs->secret->waiters, &bs->waiter);
		b->pending++;
	}
	return b->pending ? 1 : 0;
}

void binding_secret_said(struct binding_secret *bs)
{
	struct binding *b = bs->binding;

	if (++bs->tries < BINDING_TRIES && !secret_said(bs->secret, b->need, bs->asked, true)) {
		list_append(&bs->secret->waiters, &bs->waiter);
		return;
	}
	if (--b->pending == 0)
		b->done(b->done_arg);
}

bool binding_lapsed(const struct binding *b)
{
	for (size_t i = 0; i < b->n_secrets; i++)
		if (b->secrets[i]->secret->lapsed)
			return true;
	return false;
}

/* ---- resolving ---- */

static uint64_t hash_more(uint64_t h, struct slice s)
{
	const uint64_t all[] = { h, s.len, hash_bytes(s.data, s.len) };

	return hash_bytes(all, sizeof(all));
}

uint64_t binding_hash(const struct binding *b, uint64_t seed)
{
	uint64_t h = seed;

	for (size_t i = 0; i < b->n_secrets; i++) {
		const struct secret *s = b->secrets[i]->secret;

		h = hash_more(h, slice_of(s->id, s->id_len));
		for (size_t j = 0; s->values && j < secret_values_count(s->values); j++) {
			struct secret_field f = secret_values_at(s->values, j);

			h = hash_more(hash_more(h, f.key), f.value);
		}
	}
	return h;
}

static enum resolution missing(const struct binding *b, const struct binding_ref *ref, const struct secret *s,
                               struct error *err)
{
	if (s->state == SECRET_STALE) { /* wanted only since the outage began: nobody knows */
		error_set(err, s->err, "%s", s->error ? s->error : strerror(s->err));
		return BROKEN;
	}
	if (b->resolver->settings->unresolved_keep)
		return LITERAL;
	if (s->note)
		error_set(err, ENOKEY, "no key \"%.*s\": %s", SLICE_FMT(ref->field), s->note);
	else
		error_set(err, ENOKEY, "%s: no key \"%.*s\" in \"%.*s\"", s->provider->settings->name,
		          SLICE_FMT(ref->field), (int)s->id_len, s->id);
	return BROKEN;
}

enum resolution binding_unfit(const struct binding *b, size_t i, struct error *err)
{
	const struct binding_ref *ref = &b->refs[i];

	if (ref->kind == REF_BROKEN)
		error_set(err, ref->broken.err, "%s", ref->broken.error);
	return ref->kind == REF_BROKEN ? BROKEN : ref->kind == REF_LITERAL ? LITERAL : RESOLVED;
}

enum resolution binding_resolve(const struct binding *b, size_t i, struct slice *ret_value, struct error *err)
{
	const struct binding_ref *ref = &b->refs[i];
	const struct secret *s;

	if (ref->kind != REF_SECRET)
		return binding_unfit(b, i, err);
	s = b->secrets[ref->secret]->secret;
	if (!s->values) {
		int code = s->err ? s->err : EIO;

		error_set(err, code, "%s", s->error ? s->error : strerror(code));
		return BROKEN;
	}
	if (!secret_values_get(s->values, ref->field, ret_value))
		return missing(b, ref, s, err);
	return s->state == SECRET_STALE ? RESOLVED_STALE : RESOLVED;
}
