/*
 * Our side of the comparison with Kafka: reads the records that Compare.java reads, and answers
 * each as that does, but with our own code. kafka.t compares the answers.
 *
 * A record is a line of words; the first is its number, the second its kind. Text is written as
 * the hexadecimal digits of its UTF-16 code units (so that unpaired surrogates compare), bytes
 * by theirs; "-" is empty and "~" is null. TABLE is a number, and so many times: provider path key
 * value (path "*": any; key or value "~": none). Maps are answered in the order of their digits.
 *
 *     T TABLE n (key value)*                   ConfigTransformer: calls and values
 *     P bytes                                  Properties.load in UTF-8 and in ISO-8859-1
 *     R bytes TABLE                            a .properties config, rendered
 *     J bytes                                  a JSON config
 *     V class n (param value)* path n key*     a provider: configure, get
 *
 * With -i each answer is flushed. Memory of one record comes from a pool that the next one reuses.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/loop.h"
#include "base/pool.h"
#include "base/secmem.h"
#include "base/strmap.h"
#include "format/config.h"
#include "format/json.h"
#include "format/limits.h"
#include "format/properties.h"
#include "format/reference.h"
#include "format/utf8.h"
#include "provider/provider.h"
#include "provider/registry.h"

enum { OUT_MAX = 256 * 1024 * 1024, FETCH_MS = 20000 };

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "vectors: %s\n", what);
	exit(2);
}

/* The pool */

struct chunk {
	struct chunk *next;
};

static struct chunk *chunks;

static void *take(size_t n)
{
	struct chunk *c = malloc(sizeof(*c) + n + 1);

	if (!c)
		die("out of memory");
	c->next = chunks;
	chunks = c;
	return c + 1;
}

static void release(void)
{
	while (chunks) {
		struct chunk *c = chunks;

		chunks = c->next;
		free(c);
	}
}

/* Words */

static char *line_pos;

static const char *word(void)
{
	char *w = line_pos;

	if (!w)
		die("a record is too short");
	line_pos = strchr(w, ' ');
	if (line_pos)
		*line_pos++ = '\0';
	return w;
}

static size_t number(void)
{
	return strtoul(word(), NULL, 10);
}

static uint32_t hex(const char *w, size_t n)
{
	uint32_t v = 0;

	for (size_t i = 0; i < n; i++) {
		int digit = utf8_hex(w[i]);

		if (digit < 0)
			die("no hexadecimal digit");
		v = v << 4 | (uint32_t)digit;
	}
	return v;
}

struct text {
	bool is_null;
	struct slice s; /* followed by a NUL */
};

static struct text text_of(const char *w)
{
	size_t len = strlen(w);
	char *start, *out;

	if (strcmp(w, "~") == 0)
		return (struct text){ true, SLICE_LIT("") };
	if (strcmp(w, "-") == 0)
		len = 0;
	start = out = take(len);
	for (size_t i = 0; i + 4 <= len; i += 4)
		out = utf8_put_unit(start, out, hex(w + i, 4));
	*out = '\0';
	return (struct text){ false, slice_of(start, (size_t)(out - start)) };
}

static struct slice bytes_of(const char *w)
{
	size_t len = strcmp(w, "-") == 0 ? 0 : strlen(w) / 2;
	char *start = take(len);

	for (size_t i = 0; i < len; i++)
		start[i] = (char)hex(w + 2 * i, 2);
	return slice_of(start, len);
}

/* Answers */

static struct buf answer;

static void say(const char *s)
{
	if (buf_add_str(&answer, s) < 0)
		die("an answer is too long");
}

static char *put_unit(char *p, uint32_t unit)
{
	static const char digits[] = "0123456789abcdef";

	for (int shift = 12; shift >= 0; shift -= 4)
		*p++ = digits[unit >> shift & 0xf];
	return p;
}

/* The digits of decoded text, from the pool. */
static char *digits_of(struct slice s)
{
	char *start = take(4 * s.len + 1), *p = start;

	for (size_t i = 0; i < s.len;) {
		uint32_t c;
		size_t n = utf8_decode(s.data + i, s.len - i, &c);

		if (n == 0) { /* can't be: told as what no Java string has */
			return strcpy(take(16), "MALFORMED");
		}
		if (c >= 0x10000) {
			p = put_unit(p, 0xd800 + ((c - 0x10000) >> 10));
			c = 0xdc00 + ((c - 0x10000) & 0x3ff);
		}
		p = put_unit(p, c);
		i += n;
	}
	strcpy(p, s.len ? "" : "-");
	return start;
}

/* Are there two halves of a pair side by side? What decoded a text has joined them. */
static bool has_split_pair(struct slice s)
{
	bool after_high = false;

	for (size_t i = 0; i < s.len;) {
		uint32_t c = 0;
		size_t n = utf8_decode(s.data + i, s.len - i, &c);

		if (after_high && c >= 0xdc00 && c <= 0xdfff)
			return true;
		after_high = c >= 0xd800 && c <= 0xdbff;
		i += n ? n : 1;
	}
	return false;
}

/* A list of lines that is answered sorted, each followed by ';' ("-" if there is none). */
struct list {
	const char **items;
	size_t len, cap;
};

static void list_add(struct list *l, const char *a, const char *sep1, const char *b, const char *sep2,
                     const char *c)
{
	size_t n = strlen(a) + strlen(sep1) + strlen(b) + strlen(sep2) + strlen(c) + 1;
	char *s = take(n);

	snprintf(s, n, "%s%s%s%s%s", a, sep1, b, sep2, c);
	if (l->len == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 16;
		const char **items = take(cap * sizeof(*items));

		if (l->len)
			memcpy(items, l->items, l->len * sizeof(*items));
		l->items = items;
		l->cap = cap;
	}
	l->items[l->len++] = s;
}

static int compare_lines(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static char *list_text(struct list *l)
{
	size_t n = 2;
	char *s, *p;

	if (l->len > 1)
		qsort(l->items, l->len, sizeof(*l->items), compare_lines);
	for (size_t i = 0; i < l->len; i++)
		n += strlen(l->items[i]) + 1;
	p = s = take(n);
	strcpy(s, l->len ? "" : "-");
	for (size_t i = 0; i < l->len; i++) {
		if (i > 0 && strcmp(l->items[i], l->items[i - 1]) == 0)
			continue;
		p += sprintf(p, "%s;", l->items[i]);
	}
	return s;
}

static void list_decoded(struct list *l, struct slice key, bool is_null, struct slice value)
{
	if (has_split_pair(key) || has_split_pair(value))
		list_add(l, "SPLIT", "", "", "", "");
	list_add(l, digits_of(key), "=", is_null ? "~" : digits_of(value), "", "");
}

/* The same of a value that was put together from several. */
static void list_joined(struct list *l, struct slice key, bool is_null, struct slice value)
{
	list_add(l, digits_of(key), "=", is_null ? "~" : digits_of(value), "", "");
}

/* Tables of what the fake providers hold */

struct row {
	struct text provider, path, key, value;
	bool any_path;
};

struct table {
	struct row *rows;
	size_t len;
};

static struct table read_table(void)
{
	struct table t = { NULL, number() };

	t.rows = take(t.len * sizeof(*t.rows));
	for (size_t i = 0; i < t.len; i++) {
		struct row *r = &t.rows[i];
		const char *path;

		r->provider = text_of(word());
		path = word();
		r->any_path = strcmp(path, "*") == 0;
		r->path = text_of(r->any_path ? "-" : path);
		r->key = text_of(word());
		r->value = text_of(word());
	}
	return t;
}

static bool table_has(const struct table *t, struct slice provider)
{
	for (size_t i = 0; i < t->len; i++) {
		if (slice_eq(t->rows[i].provider.s, provider))
			return true;
	}
	return false;
}

static bool table_get(const struct table *t, struct slice provider, struct slice path, struct slice key,
                      struct slice *ret)
{
	bool any_path = true;

	for (size_t i = 0; i < t->len; i++) {
		const struct row *r = &t->rows[i];

		if (slice_eq(r->provider.s, provider) && !r->any_path && slice_eq(r->path.s, path))
			any_path = false;
	}
	for (size_t i = 0; i < t->len; i++) {
		const struct row *r = &t->rows[i];

		if (slice_eq(r->provider.s, provider) && r->any_path == any_path &&
		    (any_path || slice_eq(r->path.s, path)) && !r->key.is_null && slice_eq(r->key.s, key)) {
			*ret = r->value.s;
			return !r->value.is_null;
		}
	}
	return false;
}

struct lookup {
	const struct config *config;
	const struct table *table;
	size_t replaced;
};

static bool look_up(void *arg, size_t index, struct slice *ret)
{
	struct lookup *l = arg;
	const struct config_ref *r = &l->config->refs[index];
	const struct config_source *source = config_ref_source(l->config, r);

	if (!table_get(l->table, source->provider, source->path, r->key, ret))
		return false;
	l->replaced++;
	return true;
}

/* Renders a stored config by a table. 0, or the error of parsing or rendering. */
static int render(struct slice text, enum config_syntax syntax, const struct table *t, struct buf *out,
                  size_t *ret_replaced)
{
	struct lookup l = { NULL, t, 0 };
	struct config *c;
	int r = config_parse(text, syntax, &c, NULL, NULL);

	if (r < 0)
		return r;
	l.config = c;
	r = config_render(c, text, look_up, &l, out);
	config_free(c);
	*ret_replaced = l.replaced;
	return r;
}

/* The map of a .properties text, as an answer; NULL if it can't be read. */
static char *load(struct slice text, enum properties_charset charset)
{
	struct properties p = PROPERTIES_INIT;
	struct list l = { NULL, 0, 0 };

	if (properties_parse(text, charset, false, LIMIT_STORED_KEYS, &p, NULL, NULL) < 0)
		return NULL;
	for (size_t i = 0; i < p.len; i++) {
		if (!p.items[i].shadowed)
			list_decoded(&l, p.items[i].key, false, p.items[i].value);
	}
	properties_done(&p);
	return list_text(&l);
}

/* T: the scanner by itself, then the same through .properties and JSON and back */

struct entry {
	struct text key, value;
};

static struct slice substitute(struct slice value, const struct table *t, struct list *calls)
{
	struct reference ref;
	size_t pos = 0, done = 0, len;
	struct buf out;
	char *copy;

	buf_init(&out, OUT_MAX);
	while (reference_next(value, &pos, &ref)) {
		struct slice secret;

		if (!table_has(t, ref.provider))
			continue;
		list_add(calls, digits_of(ref.provider), ",", digits_of(ref.path), ",", digits_of(ref.key));
		if (!table_get(t, ref.provider, ref.path, ref.key, &secret))
			continue;
		buf_add(&out, value.data + done, ref.start - done);
		buf_add_slice(&out, secret);
		done = ref.end;
	}
	if (value.len > done)
		buf_add(&out, value.data + done, value.len - done);
	if (out.err)
		die("a value is too long");
	len = out.len;
	copy = take(len);
	if (len)
		memcpy(copy, out.data, len);
	buf_free(&out);
	return slice_of(copy, len);
}

static void through_properties(const struct entry *entries, size_t n, const struct table *t,
                               const char *expected)
{
	struct buf text, out;
	const char *latin1, *utf8;
	size_t replaced;

	buf_init(&text, OUT_MAX);
	buf_init_secret(&out, LIMIT_RENDERED_BYTES);
	for (size_t i = 0; i < n; i++) {
		if (entries[i].value.is_null)
			continue;
		properties_write_key(&text, entries[i].key.s);
		buf_add_char(&text, '=');
		properties_write_value(&text, entries[i].value.s);
		buf_add_char(&text, '\n');
	}
	if (text.err || render(buf_slice(&text), CONFIG_PROPERTIES, t, &out, &replaced) < 0) {
		say(" properties=failed");
	} else {
		latin1 = load(buf_slice(&out), PROPERTIES_LATIN1);
		utf8 = load(buf_slice(&out), PROPERTIES_UTF8);
		if (!latin1 || strcmp(latin1, expected) != 0) {
			say(" latin1=");
			say(latin1 ? latin1 : "err");
		}
		if (!utf8 || strcmp(utf8, expected) != 0) {
			say(" utf8=");
			say(utf8 ? utf8 : "err");
		}
	}
	buf_free(&text);
	buf_free(&out);
}

/* JSON takes neither NUL nor unpaired surrogates in a stored config. */
static bool json_takes(struct slice s)
{
	for (size_t i = 0; i < s.len;) {
		uint32_t c = 0;
		size_t n = utf8_decode(s.data + i, s.len - i, &c);

		if (n == 0 || c == 0 || utf8_is_surrogate(c))
			return false;
		i += n;
	}
	return true;
}

/* The map of a JSON config, as an answer; NULL if it can't be read. */
static char *load_json(struct slice text, struct json_config *ret)
{
	struct list l = { NULL, 0, 0 };

	if (json_config_parse(text, LIMIT_STORED_KEYS, ret, NULL, NULL) < 0)
		return NULL;
	for (size_t i = 0; i < ret->len; i++)
		list_decoded(&l, ret->items[i].key, ret->items[i].is_null, ret->items[i].value);
	return list_text(&l);
}

static void through_json(const struct entry *entries, size_t n, const struct table *t, const char *expected)
{
	struct json_config json = JSON_CONFIG_INIT;
	struct buf text, out;
	const char *loaded = NULL;
	size_t replaced;

	for (size_t i = 0; i < n; i++) {
		if (!json_takes(entries[i].key.s) || !json_takes(entries[i].value.s))
			return;
	}
	for (size_t i = 0; i < t->len; i++) {
		if (!json_takes(t->rows[i].value.s)) /* could be rendered, but not be read back here */
			return;
	}
	buf_init(&text, OUT_MAX);
	buf_init_secret(&out, LIMIT_RENDERED_BYTES);
	buf_add_char(&text, '{');
	for (size_t i = 0; i < n; i++) {
		buf_add_str(&text, i ? "," : "");
		json_write_string(&text, entries[i].key.s);
		buf_add_char(&text, ':');
		if (entries[i].value.is_null)
			buf_add_str(&text, "null");
		else
			json_write_string(&text, entries[i].value.s);
	}
	buf_add_char(&text, '}');
	if (!text.err && render(buf_slice(&text), CONFIG_JSON, t, &out, &replaced) == 0)
		loaded = load_json(buf_slice(&out), &json);
	if (!loaded || strcmp(loaded, expected) != 0) {
		say(" json=");
		say(loaded ? loaded : "err");
	}
	json_config_done(&json);
	buf_free(&text);
	buf_free(&out);
}

static void transform(void)
{
	struct table t = read_table();
	size_t n = number();
	struct entry *entries = take(n * sizeof(*entries));
	struct list calls = { NULL, 0, 0 }, values = { NULL, 0, 0 }, not_null = { NULL, 0, 0 };
	const char *all;

	for (size_t i = 0; i < n; i++) {
		struct slice value;

		entries[i].key = text_of(word());
		entries[i].value = text_of(word());
		if (entries[i].value.is_null) {
			list_joined(&values, entries[i].key.s, true, SLICE_LIT(""));
			continue;
		}
		value = substitute(entries[i].value.s, &t, &calls);
		list_joined(&values, entries[i].key.s, false, value);
		list_joined(&not_null, entries[i].key.s, false, value);
	}
	all = list_text(&values);
	say("calls ");
	say(list_text(&calls));
	say(" values ");
	say(all);
	through_properties(entries, n, &t, list_text(&not_null));
	through_json(entries, n, &t, all);
}

/* P, R, J */

static void properties(void)
{
	struct slice text = bytes_of(word());
	const char *utf8 = load(text, PROPERTIES_UTF8), *latin1 = load(text, PROPERTIES_LATIN1);

	say("utf8 ");
	say(utf8 ? utf8 : "err");
	say(" latin1 ");
	say(latin1 ? latin1 : "err");
}

static void rendering(void)
{
	struct slice text = bytes_of(word());
	struct table t = read_table();
	size_t replaced = 0;
	struct buf out;

	buf_init_secret(&out, LIMIT_RENDERED_BYTES);
	if (render(text, CONFIG_PROPERTIES, &t, &out, &replaced) < 0) {
		say("err");
	} else if (replaced == 0 && !slice_eq(buf_slice(&out), text)) {
		say("changed without a reason");
	} else {
		char *p = take(2 * out.len + 1);

		strcpy(p, out.len ? "" : "-");
		for (size_t i = 0; i < out.len; i++)
			sprintf(p + 2 * i, "%02x", (unsigned char)out.data[i]);
		say(p);
	}
	buf_free(&out);
}

static void json(void)
{
	struct slice text = bytes_of(word());
	struct json_config c = JSON_CONFIG_INIT;
	const char *map = load_json(text, &c);

	if (!map) {
		say("err");
		return;
	}
	say(c.form == JSON_REQUEST ? "request " : "flat ");
	if (c.form == JSON_REQUEST) {
		say(digits_of(c.name));
		say(" ");
	}
	say(map);
	json_config_done(&c);
}

/* V: a provider, driven as the resolver does it: map each key, one fetch a secret id */

static struct provider_env env;

struct group {
	struct slice id;
	struct slice fields[64];
	size_t n_fields;
};

struct outcome {
	bool ended;
	int err;
	struct secret_values *values;
};

static void fetched(struct fetch *f, const struct fetch_result *r)
{
	struct outcome *o = f->arg;

	o->ended = true;
	o->err = r->err;
	o->values = r->values;
	loop_stop(env.loop);
}

static void timed_out(void *arg)
{
	(void)arg;
	die("a provider did not answer");
}

static int compare_slices(const void *a, const void *b)
{
	const struct slice *x = a, *y = b;
	size_t n = x->len < y->len ? x->len : y->len;
	int r = n ? memcmp(x->data, y->data, n) : 0;

	return r ? r : (x->len > y->len) - (x->len < y->len);
}

/* Fetches a group and adds its values. 0 or a positive errno. */
static int fetch_group(const struct provider_ops *ops, void *self, struct group *g, struct list *l)
{
	struct outcome o = { false, 0, NULL };
	struct fetch f = { .id = g->id, .fields = g->fields, .n_fields = g->n_fields, .deadline_ms = FETCH_MS,
	                   .done = fetched, .arg = &o };
	struct loop_timer *timer = loop_timer_new(env.loop, timed_out, NULL);

	qsort(g->fields, g->n_fields, sizeof(*g->fields), compare_slices);
	if (!timer || ops->fetch(self, &f) < 0)
		die("out of memory");
	loop_timer_set(timer, FETCH_MS + 5000);
	while (!o.ended && loop_run(env.loop) == 0)
		;
	loop_timer_free(timer);
	for (size_t i = 0; o.values && i < secret_values_count(o.values); i++) {
		struct secret_field v = secret_values_at(o.values, i);

		list_decoded(l, v.key, false, v.value);
	}
	secret_values_unref(o.values);
	return o.err;
}

/* Puts a key where it belongs. False: the provider refuses it. */
static bool sort_in(const struct provider_ops *ops, void *self, struct slice path, struct slice key,
                    struct group *groups, size_t *n_groups)
{
	struct buf id, field;
	struct group *g = groups;
	char *copy;
	bool ok;

	buf_init(&id, 1 << 20);
	buf_init(&field, 1 << 20);
	ok = ops->map(self, path, key, &id, &field, NULL) == 0;
	if (ok) {
		while (g < groups + *n_groups && !slice_eq(g->id, buf_slice(&id)))
			g++;
		if (g == groups + *n_groups) {
			copy = take(id.len);
			memcpy(copy, id.len ? id.data : "", id.len);
			*g = (struct group){ .id = slice_of(copy, id.len) };
			++*n_groups;
		}
		copy = take(field.len);
		memcpy(copy, field.len ? field.data : "", field.len);
		g->fields[g->n_fields++] = slice_of(copy, field.len);
	}
	buf_free(&id);
	buf_free(&field);
	return ok;
}

static void ask(const struct provider_ops *ops, void *self, struct slice path)
{
	size_t n_keys = number(), n_groups = 0;
	struct group *groups = take(64 * sizeof(*groups));
	struct list l = { NULL, 0, 0 };
	bool ok = true;

	if (n_keys > 64)
		die("too many keys");
	for (size_t i = 0; i < n_keys; i++)
		ok &= sort_in(ops, self, path, text_of(word()).s, groups, &n_groups);
	for (size_t i = 0; i < n_groups && ok; i++)
		ok = fetch_group(ops, self, &groups[i], &l) == 0;
	say(ok ? list_text(&l) : "err");
}

/* A string in the pool, of which the map wants to own none. */
static char *pool_str(struct slice s)
{
	char *copy = take(s.len + 1);

	memcpy(copy, s.data, s.len);
	copy[s.len] = '\0';
	return copy;
}

static void provider(void)
{
	const char *name = text_of(word()).s.data;
	const struct provider_ops *ops = registry_find(name);
	size_t n = number();
	struct strmap *params = strmap_new();
	const char *param;
	struct slice path;
	void *self;

	if (!ops || !params)
		die("no such provider");
	for (size_t i = 0; i < n; i++) {
		struct slice key = text_of(word()).s, value = text_of(word()).s;

		if (strmap_put(params, key, pool_str(value), NULL) < 0)
			die("out of memory");
	}
	path = text_of(word()).s;
	if (ops->open(&env, name, params, &self, &param, NULL) < 0) {
		say("err configure");
	} else {
		ask(ops, self, path);
		ops->close(self);
	}
	strmap_free(params, NULL);
}

static void record(char *line)
{
	const char *id, *kind;

	line_pos = line;
	id = word();
	kind = word();
	buf_reset(&answer);
	say(id);
	say(" ");
	switch (kind[0]) {
	case 'T':
		transform();
		break;
	case 'P':
		properties();
		break;
	case 'R':
		rendering();
		break;
	case 'J':
		json();
		break;
	case 'V':
		provider();
		break;
	default:
		die("unknown kind of record");
	}
	puts(answer.data);
	release();
}

int main(int argc, char **argv)
{
	bool interactive = argc > 1 && strcmp(argv[1], "-i") == 0;
	char *line = NULL;
	size_t size = 0;
	ssize_t len;

	if (loop_new(&env.loop) < 0 || pool_new(env.loop, &env.pool) < 0)
		die("out of memory");
	buf_init(&answer, OUT_MAX);
	while ((len = getline(&line, &size, stdin)) > 0) {
		if (line[len - 1] == '\n')
			line[len - 1] = '\0';
		record(line);
		if (interactive)
			fflush(stdout);
	}
	pool_free(env.pool);
	loop_free(env.loop);
	buf_free(&answer);
	free(line);
	return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 2;
}
