/*
 * Stored configs: Kafka's ConfigTransformer cases in both syntaxes, what is copied and what is
 * written anew, limits, and every allocation failed once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <errno.h>

#include <cmocka.h>

#include "allocfail.h"
#include "base/secmem.h"
#include "format/config.h"
#include "format/json.h"
#include "format/limits.h"
#include "format/properties.h"
#include "format-data.h"

/* The providers of t/data/providers.json, and the calls that a transform would make. */
struct fake {
	const struct config *c;
	const json_t *providers; /* of one table */
	json_t *calls;           /* provider -> path -> key -> true; NULL: not wanted */
};

static json_t *get(const json_t *object, struct slice key)
{
	return json_object_getn(object, key.data, key.len);
}

/* The member of an object, made if it is missing. */
static json_t *need(json_t *object, struct slice key)
{
	if (!get(object, key))
		json_object_setn_new(object, key.data, key.len, json_object());
	return get(object, key);
}

static bool fake_lookup(void *arg, size_t index, struct slice *ret_value)
{
	const struct fake *f = arg;
	const struct config_ref *ref = &f->c->refs[index];
	const struct config_source *source = config_ref_source(f->c, ref);
	const json_t *provider = get(f->providers, source->provider), *path, *value;

	if (!provider)
		return false;
	if (f->calls)
		need(need(need(f->calls, source->provider), source->path), ref->key);
	path = get(provider, source->path);
	value = get(path ? path : json_object_get(provider, "*"), ref->key);
	if (!json_is_string(value))
		return false;
	*ret_value = data_slice(value);
	return true;
}

static bool no_lookup(void *arg, size_t index, struct slice *ret_value)
{
	(void)arg;
	(void)index;
	(void)ret_value;
	return false;
}

/* Each reference becomes the string arg. */
static bool same_lookup(void *arg, size_t index, struct slice *ret_value)
{
	(void)index;
	*ret_value = slice_str(arg);
	return true;
}

static struct config *parse(struct slice text, enum config_syntax syntax)
{
	struct error err = ERROR_INIT;
	struct config *c = NULL;
	unsigned line;
	int r = config_parse(text, syntax, &c, &line, &err);

	if (r < 0)
		fail_msg("%d %s: \"%.*s\"", r, err.text, SLICE_FMT(text));
	return c;
}

/* A config of the members of map, in either syntax. */
static void write_map(struct buf *b, json_t *map, enum config_syntax syntax)
{
	const char *key, *comma = "";
	json_t *value;

	buf_init(b, LIMIT_STORED_BYTES);
	buf_add_str(b, syntax == CONFIG_JSON ? "{" : "");
	json_object_foreach(map, key, value) {
		if (syntax == CONFIG_JSON) {
			buf_add_str(b, comma);
			json_write_string(b, slice_str(key));
			buf_add_str(b, ":");
			if (json_is_null(value))
				buf_add_str(b, "null");
			else
				json_write_string(b, data_slice(value));
		} else if (!json_is_null(value)) {
			properties_write_key(b, slice_str(key));
			buf_add_str(b, "=");
			properties_write_value(b, data_slice(value));
			buf_add_str(b, "\n");
		}
		comma = ",";
	}
	assert_int_equal(buf_add_str(b, syntax == CONFIG_JSON ? "}" : "#\n"), 0);
}

static json_t *calls_of(const json_t *row)
{
	json_t *all = json_object(), *call, *key;
	size_t i, j;

	json_array_foreach(json_object_get(row, "calls"), i, call) {
		json_t *path = need(need(all, data_field(call, "provider")), data_field(call, "path"));

		json_array_foreach(json_object_get(call, "keys"), j, key)
			need(path, data_slice(key));
	}
	return all;
}

/* Renders the map, and reads what came out. */
static void check_transform(const json_t *row, const json_t *providers, json_t *map, json_t *result,
                            enum config_syntax syntax)
{
	struct fake fake = { NULL, providers, json_object() };
	json_t *calls = calls_of(row);
	struct buf text, out, wanted;
	struct config *c;

	write_map(&text, map, syntax);
	c = parse(buf_slice(&text), syntax);
	fake.c = c;
	buf_init_secret(&out, LIMIT_RENDERED_BYTES);
	assert_int_equal(config_render(c, buf_slice(&text), fake_lookup, &fake, &out), 0);
	write_map(&wanted, result, syntax);
	data_assert_eq(buf_slice(&out), buf_slice(&wanted), row);
	if (!json_equal(fake.calls, calls))
		fail_msg("other calls than wanted in %s", json_dumps(row, 0));
	buf_reset(&out);
	assert_int_equal(config_render(c, buf_slice(&text), no_lookup, NULL, &out), 0);
	data_assert_eq(buf_slice(&out), buf_slice(&text), row);
	config_free(c);
	buf_free(&text);
	buf_free(&out);
	buf_free(&wanted);
	json_decref(calls);
	json_decref(fake.calls);
}

static void test_transform(void **state)
{
	json_t *rows = data_load("transform.json"), *tables = data_load("providers.json"), *row;
	size_t i;

	(void)state;
	json_array_foreach(rows, i, row) {
		const json_t *providers = get(tables, data_field(row, "table"));
		json_t *map = json_object_get(row, "map"), *result = json_object_get(row, "result");

		if (map) {
			json_incref(map);
			json_incref(result);
		} else {
			map = json_pack("{s:O}", "myKey", json_object_get(row, "input"));
			result = json_pack("{s:O}", "myKey", json_object_get(row, "output"));
		}
		check_transform(row, providers, map, result, CONFIG_PROPERTIES);
		check_transform(row, providers, map, result, CONFIG_JSON);
		json_decref(map);
		json_decref(result);
	}
	assert_true(i > 45);
	json_decref(rows);
	json_decref(tables);
}

static void check_render(struct slice text, enum config_syntax syntax, const char *value, struct slice wanted)
{
	struct config *c = parse(text, syntax);
	struct buf out;

	buf_init_secret(&out, LIMIT_RENDERED_BYTES);
	assert_int_equal(config_render(c, text, value ? same_lookup : no_lookup, (void *)value, &out), 0);
	data_assert_eq(buf_slice(&out), wanted, NULL);
	config_free(c);
	buf_free(&out);
}

static void test_bytes(void **state)
{
	static const struct {
		const char *in, *value, *out;
	} properties[] = {
		{ "", "s", "" },
		{ "# ${a:b}\n\n k = ${a:b}  \r\nx=\\u0041\\\n  b", "s",
		  "# ${a:b}\n\n k = s  \r\nx=\\u0041\\\n  b" },
		{ "k ${a:b}", "=s", "k \\=s" },
		{ "k ${a:b}", ":s", "k \\:s" },
		{ "k ${a:b}\nz=1", "", "k \nz=1" },
		{ "k ${a:b}", " s", "k \\ s" },
		{ "k=x${a:b}", " =s", "k=x =s" },
		{ "k=${a:b}\nz=1", "s\\", "k=s\\\\\nz=1" },
		{ "k=${a:b}\nz=1", "s\nt\\u", "k=s\\nt\\\\u\nz=1" },
		{ "k=${a:\\\n   b}\\\n\nz=1", "s", "k=s\nz=1" },
		{ "k=${a:b}\\", "s", "k=s" },
		{ "k=\\u0024{a:b}", "s", "k=s" },
		{ "k\\=${a:b}=x", "s", "k\\=${a:b}=x" },
		{ "k=\xe9${a:b}\nn=\xe9", "\xe2\x82\xac", "k=\\u00e9\\u20ac\nn=\xe9" },
		{ "k=${a:b}\nk=${a:c}\nk=x", "s", "k=${a:b}\nk=${a:c}\nk=x" },
		{ "k=1\nk=${a:c}", "s", "k=1\nk=s" },
		{ "k=${a:b}${a:b}", "${a:b}", "k=${a:b}${a:b}" },
		{ "k \\\n  ${a:b}", "#s", "k \\\n  #s" },
	}, json[] = {
		{ "{}", "s", "{}" },
		{ " {\n \"k\" : \"${a:b}\" ,\"\\u0041\":\"\\u0041\"}\n", "\"s\n",
		  " {\n \"k\" : \"\\\"s\\n\" ,\"\\u0041\":\"\\u0041\"}\n" },
		{ "{\"name\":\"${a:b}\",\"config\":{\"k\":\"\\u0024{a:b}\"},\"x\":\"${a:b}\"}", "s",
		  "{\"name\":\"${a:b}\",\"config\":{\"k\":\"s\"},\"x\":\"${a:b}\"}" },
		{ "{\"${a:b}\":null,\"n\":1,\"e\":\"\xc3\xa9${a:b}\"}", "\xe2\x82\xac",
		  "{\"${a:b}\":null,\"n\":1,\"e\":\"\xc3\xa9\xe2\x82\xac\"}" },
		{ "\xef\xbb\xbf{\"k\":\"${a:b}\"}", "", "\xef\xbb\xbf{\"k\":\"\"}" },
		{ "{\"k\":\"${a:b}\"}", "\xed\xa0\xbd", "{\"k\":\"\\ud83d\"}" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(properties) / sizeof(properties[0]); i++) {
		struct slice in = slice_str(properties[i].in);

		check_render(in, CONFIG_PROPERTIES, properties[i].value, slice_str(properties[i].out));
		check_render(in, CONFIG_PROPERTIES, NULL, in);
	}
	for (size_t i = 0; i < sizeof(json) / sizeof(json[0]); i++) {
		check_render(slice_str(json[i].in), CONFIG_JSON, json[i].value, slice_str(json[i].out));
		check_render(slice_str(json[i].in), CONFIG_JSON, NULL, slice_str(json[i].in));
	}
}

static void test_tables(void **state)
{
	static const char text[] = "name=n\nk=x${a:b:c}y${d:e}\nz=1\n\nj=${a:b:f}\nz=2";
	struct config *c = parse(slice_str(text), CONFIG_PROPERTIES);

	(void)state;
	assert_int_equal(c->n_keys, 4);
	assert_string_equal(c->name, "n");
	assert_int_equal(c->n_values, 2);
	assert_int_equal(c->n_refs, 3);
	data_assert_eq(c->values[0].key, SLICE_LIT("k"), NULL);
	assert_int_equal(c->values[0].line, 2);
	assert_int_equal(c->values[1].line, 5);
	assert_int_equal(c->values[1].first_ref, 2);
	assert_int_equal(c->values[1].n_refs, 1);
	data_assert_eq(slice_of(text + c->values[1].start, c->values[1].end - c->values[1].start),
	               SLICE_LIT("${a:b:f}"), NULL);
	data_assert_eq(config_ref_source(c, &c->refs[1])->provider, SLICE_LIT("d"), NULL);
	assert_int_equal(config_ref_source(c, &c->refs[1])->path.len, 0);
	data_assert_eq(c->refs[1].key, SLICE_LIT("e"), NULL);
	assert_int_equal(c->refs[1].start, 10);
	assert_int_equal(c->refs[1].value, 0);
	assert_int_equal(c->refs[2].value, 1);
	config_free(c);
	config_free(NULL);
}

static void test_name_and_reload(void **state)
{
	static const struct {
		const char *in, *name;
		enum config_reload reload;
		bool valid;
	} cases[] = {
		{ "k=v", NULL, CONFIG_RELOAD_RESTART, true },
		{ "name=a\nname=b\nconfig.action.reload=none", "b", CONFIG_RELOAD_NONE, true },
		{ "name=\nconfig.reload.action= NONE ", NULL, CONFIG_RELOAD_NONE, true },
		{ "name=\\u0000\nconfig.action.reload=Restart\nconfig.reload.action=none", NULL,
		  CONFIG_RELOAD_RESTART, true },
		{ "config.action.reload=bogus\nconfig.reload.action=none", NULL,
		  CONFIG_RELOAD_RESTART, false },
		{ "config.action.reload=${a:b}", NULL, CONFIG_RELOAD_RESTART, false },
		{ "config.action.reload=", NULL, CONFIG_RELOAD_RESTART, false },
		{ "{\"name\":\"n\",\"config.action.reload\":\"none\"}", "n", CONFIG_RELOAD_NONE, true },
		{ "{\"name\":\"n\",\"config\":{\"name\":\"m\",\"config.action.reload\":null}}", "n",
		  CONFIG_RELOAD_RESTART, true },
		{ "{\"name\":null,\"config\":{\"name\":\"m\",\"config.reload.action\":\"nOne\"}}", "m",
		  CONFIG_RELOAD_NONE, true },
		{ "{\"config\":{},\"config.action.reload\":\"none\"}", NULL, CONFIG_RELOAD_RESTART, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool json = cases[i].in[0] == '{';
		struct config *c = parse(slice_str(cases[i].in), json ? CONFIG_JSON : CONFIG_PROPERTIES);

		if (cases[i].name)
			assert_string_equal(c->name, cases[i].name);
		else
			assert_null(c->name);
		assert_int_equal(c->reload, cases[i].reload);
		assert_int_equal(c->reload_valid, cases[i].valid);
		config_free(c);
	}
}

static void check_parse(const struct buf *b, enum config_syntax syntax, int wanted)
{
	struct error err = ERROR_INIT;
	struct config *c = NULL;
	unsigned line = 4711;
	int r = config_parse(buf_slice(b), syntax, &c, &line, &err);

	if (r != wanted)
		fail_msg("%d %s", r, err.text);
	assert_int_equal(err.code, -wanted);
	if (r < 0)
		assert_true(!c && line != 4711);
	config_free(c);
}

static void test_stored_limits(void **state)
{
	struct buf b;

	(void)state;
	for (size_t len = LIMIT_STORED_BYTES - 1; len <= LIMIT_STORED_BYTES + 1; len++) {
		buf_init(&b, LIMIT_STORED_BYTES * 2);
		assert_int_equal(buf_add_str(&b, "{}"), 0);
		while (b.len < len)
			assert_int_equal(buf_add_char(&b, ' '), 0);
		check_parse(&b, CONFIG_PROPERTIES, len > LIMIT_STORED_BYTES ? -EFBIG : 0);
		check_parse(&b, CONFIG_JSON, len > LIMIT_STORED_BYTES ? -EFBIG : 0);
		buf_free(&b);
	}
	for (int n = LIMIT_STORED_KEYS - 1; n <= LIMIT_STORED_KEYS + 1; n++) {
		buf_init(&b, LIMIT_STORED_BYTES);
		for (int i = 0; i < n; i++)
			assert_int_equal(buf_addf(&b, "%d\n", i), 0);
		check_parse(&b, CONFIG_PROPERTIES, n > LIMIT_STORED_KEYS ? -E2BIG : 0);
		buf_reset(&b);
		for (int i = 0; i < n; i++)
			assert_int_equal(buf_addf(&b, "%c\"%d\":1", i ? ',' : '{', i), 0);
		assert_int_equal(buf_add_char(&b, '}'), 0);
		check_parse(&b, CONFIG_JSON, n > LIMIT_STORED_KEYS ? -E2BIG : 0);
		buf_free(&b);
	}
}

/* n references of a shape, in which # is a number, ten a line. */
static void many_refs(struct buf *b, const char *shape, int n, bool descending)
{
	buf_init(b, LIMIT_STORED_BYTES);
	for (int i = 0; i < n; i++) {
		char number[16];
		const char *at = strchr(shape, '#');

		(void)snprintf(number, sizeof(number), "%05x", descending ? n - i : i);
		if (i % 10 == 0)
			assert_int_equal(buf_addf(b, "%sk%d=", i ? "\n" : "", i), 0);
		assert_int_equal(buf_addf(b, "%.*s%s%s", (int)(at - shape), shape, number, at + 1), 0);
	}
}

/* As many references as there may be, of every shape, and how many sources they have. */
static void test_many_refs(void **state)
{
	static const struct {
		const char *shape;
		size_t n_sources, n_providers;
	} cases[] = {
		{ "${u#:}", LIMIT_STORED_REFS, LIMIT_STORED_REFS },
		{ "${file:/#:}", LIMIT_STORED_REFS, 1 },
		{ "${file:/a/path:#}", 1, 1 },
		{ "${env:#}", 1, 1 },
		{ "${p#:same:key}", LIMIT_STORED_REFS, LIMIT_STORED_REFS },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]) * 2; i++) {
		size_t providers = 0;
		struct config *c;
		struct buf b;

		many_refs(&b, cases[i / 2].shape, LIMIT_STORED_REFS, i % 2);
		c = parse(buf_slice(&b), CONFIG_PROPERTIES);
		assert_int_equal(c->n_refs, LIMIT_STORED_REFS);
		assert_int_equal(c->n_sources, cases[i / 2].n_sources);
		for (size_t s = 0; s < c->n_sources; s++)
			providers += c->sources[s].first;
		assert_int_equal(providers, cases[i / 2].n_providers);
		config_free(c);
		buf_free(&b);
	}
}

static void test_refs_limit(void **state)
{
	struct error err = ERROR_INIT;
	struct config *c = NULL;
	unsigned line = 0;
	struct buf b;

	(void)state;
	many_refs(&b, "${u#:}", LIMIT_STORED_REFS, false);
	assert_int_equal(buf_addf(&b, "\nlast=${one:more}\nz=${and:more}\n"), 0);
	assert_int_equal(config_parse(buf_slice(&b), CONFIG_PROPERTIES, &c, &line, &err), -E2BIG);
	assert_null(c);
	assert_int_equal(line, LIMIT_STORED_REFS / 10 + 1);
	assert_string_equal(err.text, "more than 10000 references");
	assert_int_equal(err.code, E2BIG);
	/* what is shadowed does not count */
	assert_int_equal(buf_addf(&b, "last=1\nz=2\n"), 0);
	c = parse(buf_slice(&b), CONFIG_PROPERTIES);
	assert_int_equal(c->n_refs, LIMIT_STORED_REFS);
	config_free(c);
	buf_free(&b);
	/* all in one value, of JSON */
	buf_init(&b, LIMIT_STORED_BYTES);
	assert_int_equal(buf_add_str(&b, "{\n\"a\":\""), 0);
	for (int i = 0; i < LIMIT_STORED_REFS + 1; i++)
		assert_int_equal(buf_add_str(&b, "${a:}"), 0);
	assert_int_equal(buf_add_str(&b, "\"}"), 0);
	assert_int_equal(config_parse(buf_slice(&b), CONFIG_JSON, &c, &line, NULL), -E2BIG);
	assert_int_equal(line, 2);
	buf_free(&b);
}

static void test_sources(void **state)
{
	static const char text[] = "a=${p:x:1}${q:x:1}${p:x:2}\n"
	                           "b=${p::1}${p:1}${r:\\u0000:1}${q:y:1}\nc=${p:x:3}";
	static const struct {
		const char *provider, *path;
		bool first;
	} sources[] = {
		{ "p", "x", true }, { "q", "x", true }, { "p", "", false }, { "r", NULL, true }, { "q", "y", false },
	};
	static const size_t of_refs[] = { 0, 1, 0, 2, 2, 3, 4, 0 };
	struct config *c = parse(slice_str(text), CONFIG_PROPERTIES);

	(void)state;
	assert_int_equal(c->n_sources, 5);
	assert_int_equal(c->n_refs, 8);
	for (size_t i = 0; i < 5; i++) {
		struct slice path = sources[i].path ? slice_str(sources[i].path) : SLICE_LIT("\0");

		data_assert_eq(c->sources[i].provider, slice_str(sources[i].provider), NULL);
		data_assert_eq(c->sources[i].path, path, NULL);
		assert_int_equal(c->sources[i].first, sources[i].first);
	}
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(c->refs[i].source, of_refs[i]);
	config_free(c);
	c = parse(SLICE_LIT("a=1\n"), CONFIG_PROPERTIES);
	assert_int_equal(c->n_sources, 0);
	config_free(c);
}

/* Exactly LIMIT_RENDERED_BYTES can be rendered, and one more byte can not. */
static void test_rendered_limit(void **state)
{
	static const struct slice in = SLICE_LIT("a=${a:b}\nb=${a:b}${a:b}${a:b}");
	struct config *c = parse(in, CONFIG_PROPERTIES);
	const size_t each = (LIMIT_RENDERED_BYTES - 5) / 4;

	(void)state;
	for (size_t len = each - 1; len <= each + 1; len++) {
		char *value = malloc(len + 1);
		struct buf out;
		int r;

		memset(value, 'x', len);
		value[len] = '\0';
		buf_init_secret(&out, LIMIT_RENDERED_BYTES);
		r = config_render(c, in, same_lookup, value, &out);
		assert_int_equal(r, len > each ? -EFBIG : 0);
		assert_int_equal(out.len, len > each ? 0 : len * 4 + 5);
		buf_free(&out);
		free(value);
	}
	config_free(c);
}

static const struct slice alloc_texts[] = {
	[CONFIG_PROPERTIES] = SLICE_LIT("name=n\nk=${a:b:c}\nlong=a ${a:b}\n"),
	[CONFIG_JSON] = SLICE_LIT("{\"name\":\"n\",\"tasks\":[{\"x\":1}],"
	                          "\"config\":{\"a.key.that.needs.memory\":"
	                          "\"${a:b} and so much text that the buffer has to grow more than once\"}}"),
};

static void test_alloc_parse(void **state)
{
	(void)state;
	json_set_alloc_funcs(alloc_malloc, alloc_free);
	for (int syntax = CONFIG_PROPERTIES; syntax <= CONFIG_JSON; syntax++) {
		struct config *c = NULL;
		long live = alloc_live();

		for (long n = 0; !c; n++) {
			unsigned line = 4711;
			struct error err;
			int r;

			alloc_fail_after(n);
			r = config_parse(alloc_texts[syntax], syntax, &c, &line, &err);
			if (alloc_failed() && r != -ENOMEM)
				fail_msg("allocation %ld: %d", n, r);
			alloc_fail_after(-1);
			assert_int_equal(alloc_live(), live);
			assert_true(r == 0 || (r == -ENOMEM && line == 0 && !c));
			assert_true(n < 1000);
		}
		config_free(c);
	}
	json_set_alloc_funcs(malloc, free);
}

/* Over 64 keys the reader allocates for its sort, too. */
static void test_alloc_many(void **state)
{
	struct buf b;
	int r = -1;

	(void)state;
	buf_init(&b, 1 << 20);
	for (int i = 0; i < 200; i++)
		assert_int_equal(buf_addf(&b, "k%d=${a:b}\n", i), 0);
	for (long n = 0; r < 0; n++) {
		struct config *c = NULL;

		alloc_fail_after(n);
		r = config_parse(buf_slice(&b), CONFIG_PROPERTIES, &c, NULL, NULL);
		alloc_fail_after(-1);
		assert_true(r == 0 || r == -ENOMEM);
		config_free(c);
	}
	buf_free(&b);
}

static void test_alloc_render(void **state)
{
	(void)state;
	for (int syntax = CONFIG_PROPERTIES; syntax <= CONFIG_JSON; syntax++) {
		struct config *c = parse(alloc_texts[syntax], syntax);
		int r = -1;

		for (long n = 1; r < 0; n++) {
			struct secmem_stats before, after;
			struct buf out;

			secmem_get_stats(&before);
			buf_init_secret(&out, LIMIT_RENDERED_BYTES);
			secmem_fail_after(n);
			r = config_render(c, alloc_texts[syntax], same_lookup, (char[]){ "\xc3\xa9" }, &out);
			secmem_fail_after(-1);
			assert_true(r == 0 || r == -ENOMEM);
			buf_free(&out);
			secmem_get_stats(&after);
			assert_int_equal(before.used, after.used);
			assert_true(n < 100);
		}
		config_free(c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_transform),       cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_tables),          cmocka_unit_test(test_name_and_reload),
		cmocka_unit_test(test_stored_limits),   cmocka_unit_test(test_rendered_limit),
		cmocka_unit_test(test_many_refs),       cmocka_unit_test(test_refs_limit),
		cmocka_unit_test(test_sources),
		cmocka_unit_test(test_alloc_parse),     cmocka_unit_test(test_alloc_many),
		cmocka_unit_test(test_alloc_render),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
