/*
 * Stored configs of either syntax: what they refer to, and how they look with it filled in.
 *
 * A config is one block of memory: the struct, its tables, and copies of the values that hold
 * references. The whole decoded text lives only while it is parsed.
 */
#include "format/config.h"

#include <assert.h>
#include <errno.h>
#include <stdalign.h>
#include <stdlib.h>
#include <strings.h>

#include "format/json.h"
#include "format/limits.h"
#include "format/properties.h"

/* A parsed text, whatever its syntax. */
struct parsed {
	enum config_syntax syntax;
	struct properties properties;
	struct json_config json;
	size_t len;
};

/* What a config takes. */
struct measure {
	size_t n_keys, n_values, n_refs, n_sources, pool;
	unsigned line; /* of the first reference that is too many; 0: there is none */
};

static int parse(struct slice text, enum config_syntax syntax, struct parsed *ret, unsigned *ret_line,
                 struct error *err)
{
	int r;

	*ret = (struct parsed){ .syntax = syntax, .properties = PROPERTIES_INIT, .json = JSON_CONFIG_INIT };
	if (syntax == CONFIG_PROPERTIES) {
		r = properties_parse(text, PROPERTIES_LATIN1, false, LIMIT_STORED_KEYS, &ret->properties,
		                     ret_line, err);
		ret->len = ret->properties.len;
	} else {
		r = json_config_parse(text, LIMIT_STORED_KEYS, &ret->json, ret_line, err);
		ret->len = ret->json.len;
	}
	return r;
}

static void parsed_done(struct parsed *p)
{
	properties_done(&p->properties);
	json_config_done(&p->json);
}

/* The keys that mean something to us, as found. */
struct specials {
	struct slice name, reload, reload_alias;
	bool has_reload, has_reload_alias;
};

/* Key and value of the i-th entry. False: it does not count (shadowed). */
static bool entry_at(const struct parsed *p, size_t i, struct slice *ret_key, struct slice *ret_value)
{
	if (p->syntax == CONFIG_PROPERTIES) {
		const struct property *e = &p->properties.items[i];

		*ret_key = e->key;
		*ret_value = e->value;
		return !e->shadowed;
	}
	*ret_key = p->json.items[i].key;
	*ret_value = p->json.items[i].value;
	return true;
}

/* All of the i-th entry, but its references. */
static struct config_value value_at(const struct parsed *p, size_t i)
{
	if (p->syntax == CONFIG_PROPERTIES) {
		const struct property *e = &p->properties.items[i];

		return (struct config_value){ .key = e->key, .value = e->value, .line = e->line,
		                              .start = (uint32_t)e->value_start,
		                              .end = (uint32_t)e->value_end };
	} else {
		const struct json_member *e = &p->json.items[i];

		return (struct config_value){ .key = e->key, .value = e->value, .line = e->line,
		                              .start = (uint32_t)e->value_start,
		                              .end = (uint32_t)e->value_end };
	}
}

/* A null counts as missing. */
static void note_special(struct specials *s, const struct parsed *p, size_t i, struct slice key,
                         struct slice value)
{
	if (p->syntax == CONFIG_JSON && p->json.items[i].is_null)
		return;
	if (slice_eq_str(key, "name")) {
		s->name = value;
	} else if (slice_eq_str(key, "config.action.reload")) {
		s->reload = value;
		s->has_reload = true;
	} else if (slice_eq_str(key, "config.reload.action")) {
		s->reload_alias = value;
		s->has_reload_alias = true;
	}
}

/* As Kafka's ConfigDef trims strings. */
static struct slice trim(struct slice s)
{
	while (s.len > 0 && (unsigned char)s.data[0] <= ' ') {
		s.data++;
		s.len--;
	}
	while (s.len > 0 && (unsigned char)s.data[s.len - 1] <= ' ')
		s.len--;
	return s;
}

static bool eq_ignoring_case(struct slice s, const char *word)
{
	return s.len == strlen(word) && strncasecmp(s.data, word, s.len) == 0;
}

static void set_reload(struct config *c, const struct specials *s)
{
	struct slice value = trim(s->has_reload ? s->reload : s->reload_alias);

	c->reload = CONFIG_RELOAD_RESTART;
	c->reload_valid = true;
	if (!s->has_reload && !s->has_reload_alias)
		return;
	if (eq_ignoring_case(value, "none"))
		c->reload = CONFIG_RELOAD_NONE;
	else
		c->reload_valid = eq_ignoring_case(value, "restart");
}

/* The connector's name: a request's own goes first. Empty: none; a name with NUL can't be one. */
static struct slice choose_name(const struct parsed *p, const struct specials *s)
{
	struct slice name = p->json.name.len > 0 ? p->json.name : s->name;

	if (name.len > 0 && memchr(name.data, '\0', name.len))
		name.len = 0;
	return name;
}

static struct measure measure(const struct parsed *p, struct specials *ret_specials)
{
	struct measure m = { .pool = 0 };
	struct slice key, value;

	for (size_t i = 0; i < p->len; i++) {
		struct reference ref;
		size_t pos = 0, n = 0;

		if (!entry_at(p, i, &key, &value))
			continue;
		m.n_keys++;
		note_special(ret_specials, p, i, key, value);
		while (reference_next(value, &pos, &ref))
			n++;
		if (n == 0)
			continue;
		m.n_values++;
		m.n_refs += n;
		m.pool += key.len + value.len;
		if (m.n_refs > LIMIT_STORED_REFS) {
			m.line = value_at(p, i).line;
			break;
		}
	}
	return m;
}

static struct config *allocate(const struct measure *m)
{
	static_assert(alignof(struct config_value) <= alignof(struct config), "the block is aligned for all");
	static_assert(alignof(struct config_ref) <= alignof(struct config), "the block is aligned for all");
	static_assert(alignof(struct config_source) <= alignof(struct config), "the block is aligned, too");
	static_assert(sizeof(struct config_value) % alignof(struct config) == 0, "what follows is aligned");
	size_t values = m->n_values * sizeof(struct config_value);
	size_t refs = m->n_refs * sizeof(struct config_ref);
	size_t sources = m->n_sources * sizeof(struct config_source);
	struct config *c = malloc(sizeof(*c) + values + refs + sources + m->pool);

	if (!c)
		return NULL;
	*c = (struct config){ .n_keys = m->n_keys };
	c->values = (struct config_value *)(void *)(c + 1);
	c->refs = (struct config_ref *)(void *)((char *)(c + 1) + values);
	c->sources = (struct config_source *)(void *)((char *)(c + 1) + values + refs);
	c->pool = (char *)(c + 1) + values + refs + sources;
	return c;
}

static struct slice keep(char **pool, struct slice s)
{
	struct slice copy = { *pool, s.len };

	if (s.len > 0)
		memcpy(*pool, s.data, s.len);
	*pool += s.len;
	return copy;
}

/* ---- what refers to the same ---- */

/* A reference, while it is worked out what all of them refer to. */
struct origin {
	struct slice provider, path;
	uint32_t ref;
};

struct origins {
	struct origin *sorted; /* by provider, path and place */
	uint32_t *source_of;   /* by reference */
	size_t n;
};

/* Any order will do that has the same next to each other. */
static int compare_slices(struct slice a, struct slice b)
{
	if (a.len != b.len)
		return a.len < b.len ? -1 : 1;
	return a.len ? memcmp(a.data, b.data, a.len) : 0;
}

static int compare_sources(const struct origin *a, const struct origin *b)
{
	int c = compare_slices(a->provider, b->provider);

	return c ? c : compare_slices(a->path, b->path);
}

static int compare_origins(const void *a, const void *b)
{
	const struct origin *x = a, *y = b;
	int c = compare_sources(x, y);

	return c ? c : (x->ref > y->ref) - (x->ref < y->ref);
}

/* In their order. */
static void find_origins(struct origins *o, const struct parsed *p)
{
	struct slice key, value;
	struct reference ref;
	size_t n = 0, pos;

	for (size_t i = 0; i < p->len && n < o->n; i++) {
		pos = 0;
		while (entry_at(p, i, &key, &value) && reference_next(value, &pos, &ref)) {
			o->sorted[n] = (struct origin){ ref.provider, ref.path, (uint32_t)n };
			n++;
		}
	}
}

/* Tells each reference the first one with the same source, then numbers the sources in order. */
static size_t number_sources(struct origins *o)
{
	const struct origin *first = o->sorted;
	uint32_t n = 0;

	for (size_t i = 0; i < o->n; i++) {
		if (compare_sources(first, &o->sorted[i]) != 0)
			first = &o->sorted[i];
		o->source_of[o->sorted[i].ref] = first->ref;
	}
	for (size_t i = 0; i < o->n; i++)
		/* Else it has been numbered already: it came before. */
		o->source_of[i] = o->source_of[i] == i ? n++ : o->source_of[o->source_of[i]];
	return n;
}

static void origins_done(struct origins *o)
{
	free(o->sorted);
	free(o->source_of);
}

/* 0 with the number of sources in m, or -ENOMEM. */
static int origins_of(const struct parsed *p, struct measure *m, struct origins *ret)
{
	struct origins o = { .n = m->n_refs };

	*ret = (struct origins){ .n = 0 };
	if (o.n == 0)
		return 0;
	o.sorted = malloc(o.n * sizeof(*o.sorted));
	o.source_of = malloc(o.n * sizeof(*o.source_of));
	if (!o.sorted || !o.source_of) {
		origins_done(&o);
		return -ENOMEM;
	}
	find_origins(&o, p);
	qsort(o.sorted, o.n, sizeof(*o.sorted), compare_origins);
	m->n_sources = number_sources(&o);
	*ret = o;
	return 0;
}

static void mark_providers(struct config *c, const struct origins *o)
{
	for (size_t i = 0, end; i < o->n; i = end) {
		uint32_t first = o->source_of[o->sorted[i].ref];

		end = i + 1;
		while (end < o->n && slice_eq(o->sorted[i].provider, o->sorted[end].provider)) {
			if (o->source_of[o->sorted[end].ref] < first)
				first = o->source_of[o->sorted[end].ref];
			end++;
		}
		c->sources[first].first = true;
	}
}

/* ---- building ---- */

/* Adds an entry, if it holds references. */
static void add_value(struct config *c, const struct parsed *p, size_t i, const struct origins *o, char **pool)
{
	struct slice key, value;
	struct reference ref;
	struct config_value e;
	size_t pos = 0;

	if (!entry_at(p, i, &key, &value) || !reference_next(value, &pos, &ref))
		return;
	e = value_at(p, i);
	e.key = keep(pool, e.key);
	e.value = keep(pool, e.value);
	e.first_ref = (uint32_t)c->n_refs;
	pos = 0;
	while (reference_next(e.value, &pos, &ref)) {
		uint32_t source = o->source_of[c->n_refs];

		if (source == c->n_sources)
			c->sources[c->n_sources++] = (struct config_source){ ref.provider, ref.path, false };
		c->refs[c->n_refs++] = (struct config_ref){ ref.key, (uint32_t)ref.start, (uint32_t)ref.end,
			                                    (uint32_t)c->n_values, source };
	}
	e.n_refs = (uint32_t)c->n_refs - e.first_ref;
	c->values[c->n_values++] = e;
}

static struct config *build(const struct parsed *p, struct measure m, const struct specials *specials)
{
	struct slice name = choose_name(p, specials);
	struct config *c = NULL;
	struct origins origins;
	char *pool;

	m.pool += name.len + 1;
	if (origins_of(p, &m, &origins) == 0)
		c = allocate(&m);
	if (!c) {
		origins_done(&origins);
		return NULL;
	}
	c->syntax = p->syntax;
	set_reload(c, specials);
	pool = c->pool;
	if (name.len > 0) {
		c->name = pool;
		keep(&pool, name);
		*pool++ = '\0';
	}
	for (size_t i = 0; i < p->len && c->n_values < m.n_values; i++)
		add_value(c, p, i, &origins, &pool);
	mark_providers(c, &origins);
	origins_done(&origins);
	return c;
}

static int fail_at(unsigned line, unsigned *ret_line, int err)
{
	if (ret_line)
		*ret_line = line;
	return err;
}

int config_parse(struct slice text, enum config_syntax syntax, struct config **ret, unsigned *ret_line,
                 struct error *ret_err)
{
	struct specials specials = { .has_reload = false };
	struct config *c = NULL;
	struct measure m;
	struct parsed p;
	int r;

	if (text.len > LIMIT_STORED_BYTES)
		return fail_at(0, ret_line,
		               error_set(ret_err, EFBIG, "more than %d bytes", LIMIT_STORED_BYTES));
	r = parse(text, syntax, &p, ret_line, ret_err);
	if (r < 0)
		return r;
	m = measure(&p, &specials);
	if (!m.line)
		c = build(&p, m, &specials);
	parsed_done(&p);
	if (m.line)
		return fail_at(m.line, ret_line,
		               error_set(ret_err, E2BIG, "more than %d references", LIMIT_STORED_REFS));
	if (!c)
		return fail_at(0, ret_line, error_set(ret_err, ENOMEM, "out of memory"));
	*ret = c;
	return 0;
}

void config_free(struct config *c)
{
	free(c);
}

/* Fills the references of a value in, into tmp. 0, 1 (none was replaced) or tmp's error. */
static int resolve(const struct config *c, const struct config_value *v, config_lookup *lookup, void *arg,
                   struct buf *tmp)
{
	bool replaced = false;
	size_t done = 0;
	int r = 0;

	buf_reset(tmp);
	for (size_t i = v->first_ref; i < v->first_ref + v->n_refs && r == 0; i++) {
		const struct config_ref *ref = &c->refs[i];
		struct slice value;

		if (!lookup(arg, i, &value))
			continue;
		r = buf_add(tmp, v->value.data + done, ref->start - done);
		if (r == 0)
			r = buf_add_slice(tmp, value);
		done = ref->end;
		replaced = true;
	}
	if (r < 0 || !replaced)
		return r < 0 ? r : 1;
	return buf_add(tmp, v->value.data + done, v->value.len - done);
}

int config_render(const struct config *c, struct slice text, config_lookup *lookup, void *arg,
                  struct buf *out)
{
	struct buf tmp;
	size_t done = 0;
	int r = 0;

	buf_init_secret(&tmp, LIMIT_RENDERED_BYTES);
	for (size_t i = 0; i < c->n_values; i++) {
		const struct config_value *v = &c->values[i];

		r = resolve(c, v, lookup, arg, &tmp);
		if (r < 0)
			break;
		if (r > 0) {
			r = 0;
			continue; /* copied with what follows */
		}
		r = buf_add(out, text.data + done, v->start - done);
		if (r == 0)
			r = c->syntax == CONFIG_JSON ? json_write_string(out, buf_slice(&tmp))
			                             : properties_write_value(out, buf_slice(&tmp));
		if (r < 0)
			break;
		done = v->end;
	}
	if (r == 0 && done < text.len)
		r = buf_add(out, text.data + done, text.len - done);
	buf_free(&tmp);
	return r;
}
