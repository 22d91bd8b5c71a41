/*
 * JSON configs: forms, places, errors that quote nothing; the writer by reading back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <errno.h>

#include <cmocka.h>

#include "format/json.h"
#include "format/limits.h"
#include "format-data.h"

static const struct json_member *find(const struct json_config *c, const char *key)
{
	for (size_t i = 0; i < c->len; i++) {
		if (slice_eq_str(c->items[i].key, key))
			return &c->items[i];
	}
	return NULL;
}

static void check_good(const json_t *row, struct slice text, const struct json_config *c)
{
	json_t *map = json_object_get(row, "map"), *value;
	const char *key;

	bool request = slice_eq_str(data_field(row, "form"), "request");

	assert_int_equal(c->form, request ? JSON_REQUEST : JSON_FLAT);
	data_assert_eq(c->name, data_field(row, "name"), row);
	if (c->len != json_object_size(map))
		fail_msg("%zu keys in \"%.*s\"", c->len, SLICE_FMT(text));
	json_object_foreach(map, key, value) {
		const struct json_member *e = find(c, key);
		char first, last;

		if (!e)
			fail_msg("no key \"%s\" in \"%.*s\"", key, SLICE_FMT(text));
		data_assert_eq(e->value, data_slice(value), row);
		assert_int_equal(e->is_null, json_is_null(value));
		assert_true(e->value_start < e->value_end && e->value_end < text.len);
		first = text.data[e->value_start];
		last = text.data[e->value_end - 1];
		if (first == '"')
			assert_true(last == '"' && e->value_end - e->value_start >= e->value.len + 2);
		else if (!e->is_null)
			data_assert_eq(slice_of(text.data + e->value_start, e->value_end - e->value_start),
			               e->value, row);
	}
}

static void check_row(const json_t *row, struct slice text)
{
	struct slice error = data_field(row, "error");
	int wanted = !error.data ? 0 : slice_eq_str(error, "duplicate") ? -EEXIST : -EINVAL;
	struct json_config c = JSON_CONFIG_INIT;
	struct error err = ERROR_INIT;
	unsigned line = 4711;
	int r = json_config_parse(text, 100, &c, &line, &err);

	if (r != wanted)
		fail_msg("%d (%s), wanted %d: \"%.*s\"", r, err.text, wanted, SLICE_FMT(text));
	if (r < 0) {
		assert_int_equal(err.code, -r);
		assert_true(line <= 2 && err.text[0]);
		assert_null(strstr(err.text, "near"));
		assert_null(c.pool);
		assert_int_equal(json_config_parse(text, 100, &c, NULL, NULL), wanted);
		return;
	}
	check_good(row, text, &c);
	json_config_done(&c);
	assert_null(c.items);
}

static void test_table(void **state)
{
	json_t *rows = data_load("json.json"), *row;
	size_t i;

	(void)state;
	json_array_foreach(rows, i, row) {
		struct slice text = data_input(row);

		check_row(row, text);
		free((void *)text.data);
	}
	assert_true(i > 70);
	json_decref(rows);
}

/* Cut anywhere, a text is an error; and one with a byte changed never crashes. */
static void test_damaged(void **state)
{
	static const char text[] = "{\"name\":\"n\",\"tasks\":[{\"a\":[1,-2.5e3]}],\n"
	                           "\"config\":{\"k\":\"\\u00e9\\ud83d\\ude00 "
	                           "\xc3\xa9\",\"b\":true,\"n\":null}}";

	(void)state;
	for (size_t len = 0; len < sizeof(text) - 1; len++) {
		struct json_config c;
		char *copy = malloc(len + 1);

		memcpy(copy, text, len);
		assert_int_equal(json_config_parse(slice_of(copy, len), 100, &c, NULL, NULL), -EINVAL);
		free(copy);
	}
	for (size_t i = 0; i < (sizeof(text) - 1) * 256; i++) {
		struct json_config c;
		char copy[sizeof(text)];

		memcpy(copy, text, sizeof(text));
		copy[i / 256] = (char)(i % 256);
		if (json_config_parse(slice_of(copy, sizeof(text) - 1), 100, &c, NULL, NULL) == 0)
			json_config_done(&c);
	}
}

static void test_errors(void **state)
{
	static const struct {
		const char *in, *sentence;
		unsigned line;
	} cases[] = {
		{ "{\"pw\":\n \"hunter2\" hunter2}", "not valid JSON (column 17)", 2 },
		{ "{\"pw\":\"hunter2", "JSON ends too early (column 14)", 1 },
		{ "{\"a\":\"hunter2\"}\nhunter2", "something follows the end of the JSON (column 6)", 2 },
		{ "{\n\"\xc3\xa9\":1,\"a\":{\"hunter2\":1}}",
		  "the value of \"a\" is an object or array (column 11)", 2 },
		{ "[]", "not a JSON object", 1 },
		{ "{\"a\":1e999}", "JSON has a number that is too large (column 10)", 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct error err = ERROR_INIT;
		struct json_config c;
		unsigned line = 0;

		assert_int_equal(json_config_parse(slice_str(cases[i].in), 9, &c, &line, &err), -EINVAL);
		assert_string_equal(err.text, cases[i].sentence);
		assert_int_equal(line, cases[i].line);
	}
}

static void test_lines(void **state)
{
	static const char good[] = "{\n\"a\":1,\r\n\n \"b\"\n:\n2\n,\"c\":3}";
	static const char bad[] = "{\n\"a\":1,\r\n\n \"b\"\n:\n2\n,\"c\":{\"\":0}}";
	unsigned line;
	struct json_config c;

	(void)state;
	assert_int_equal(json_config_parse(slice_str(good), 9, &c, NULL, NULL), 0);
	assert_int_equal(c.items[0].line, 2);
	assert_int_equal(c.items[1].line, 4);
	assert_int_equal(c.items[2].line, 7);
	json_config_done(&c);
	assert_int_equal(json_config_parse(slice_str(bad), 9, &c, &line, NULL), -EINVAL);
	assert_int_equal(line, 7);
}

static void test_max_keys(void **state)
{
	struct json_config c = JSON_CONFIG_INIT;
	struct error err;
	unsigned line;

	(void)state;
	assert_int_equal(json_config_parse(SLICE_LIT("{\"a\":1,\"b\":2}"), 2, &c, &line, &err), 0);
	json_config_done(&c);
	assert_int_equal(json_config_parse(SLICE_LIT("{\"a\":1,\"b\":2}"), 1, &c, &line, &err), -E2BIG);
	assert_int_equal(line, 0);
	/* what is beside config does not count */
	assert_int_equal(json_config_parse(SLICE_LIT("{\"a\":1,\"b\":2,\"config\":{\"c\":3}}"), 1, &c, NULL,
	                                   NULL), 0);
	json_config_done(&c);
	json_config_done(&c);
	assert_int_equal(json_config_parse((struct slice){ NULL, 0 }, 1, &c, &line, &err), -EINVAL);
}

/* {"tasks":[[[…]]],"config":{}}: all or nothing, and never a deep stack of our own. */
static void test_deep(void **state)
{
	static const int depths[] = { 1, 2, LIMIT_JSON_DEPTH - 1, LIMIT_JSON_DEPTH, 2047, 2049, 10000, 400000 };

	(void)state;
	for (size_t d = 0; d < sizeof(depths) / sizeof(depths[0]); d++) {
		const int depth = depths[d];
		struct json_config c;
		struct buf b;
		int r;

		buf_init(&b, 1 << 20);
		assert_int_equal(buf_add_str(&b, "{\"tasks\":"), 0);
		for (int i = 0; i < depth; i++)
			assert_int_equal(buf_add_char(&b, '['), 0);
		for (int i = 0; i < depth; i++)
			assert_int_equal(buf_add_char(&b, ']'), 0);
		assert_int_equal(buf_add_str(&b, ",\"config\":{\"a\":\"b\"}}"), 0);
		r = json_config_parse(buf_slice(&b), 10, &c, NULL, NULL);
		assert_int_equal(r, depth + 1 > LIMIT_JSON_DEPTH ? -EINVAL : 0);
		if (r == 0) {
			assert_int_equal(c.len, 1);
			json_config_done(&c);
		}
		buf_free(&b);
	}
}

static void test_hostile(void **state)
{
	static const char *const units[] = { "{", "[", "{\"a\":", "\"", "\\", "[],", "\"\\\\\",",
		"{\"a\":\"\\u0041", "0", " ", "\n", "\xff", "{\"config\":" };
	char *text = malloc(LIMIT_STORED_BYTES);

	(void)state;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t len = strlen(units[i]);
		struct json_config c;

		for (size_t at = 0; at < LIMIT_STORED_BYTES; at++)
			text[at] = units[i][at % len];
		assert_int_equal(json_config_parse(slice_of(text, LIMIT_STORED_BYTES), 10000, &c, NULL, NULL),
		                 strchr(units[i], ',') ? -E2BIG : -EINVAL);
	}
	free(text);
}

static size_t most, now;

static void *count_malloc(size_t n)
{
	size_t *p = malloc(n + 2 * sizeof(*p));

	if (!p)
		return NULL;
	*p = n;
	now += n;
	most = now > most ? now : most;
	return p + 2;
}

static void count_free(void *p)
{
	size_t *head = p;

	if (!p)
		return;
	now -= head[-2];
	free(head - 2);
}

/* Exactly as many values as there may be, and one more, whatever they are; and what they cost. */
static void test_values(void **state)
{
	static const struct {
		const char *unit;
		int each;
	} cases[] = {
		{ "[]", 1 }, { "{}", 1 }, { "1", 1 }, { "\"\\\",[\"", 1 }, { " [ 1 ]", 2 }, { "{\"[,\":\n[]}", 2 },
		{ "{\"a\":1,\"b\":[]}", 3 },
	};

	(void)state;
	json_set_alloc_funcs(count_malloc, count_free);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]) * 2; i++) {
		/* beside those: the object, tasks' array, config and what is in it */
		int n = (LIMIT_JSON_VALUES - 4) / cases[i / 2].each, all = n * cases[i / 2].each + 4;
		struct error err = ERROR_INIT;
		struct json_config c;
		unsigned line = 0;
		struct buf b;
		int r;

		buf_init(&b, LIMIT_STORED_BYTES);
		assert_int_equal(buf_add_str(&b, "{\"tasks\":["), 0);
		for (int k = 0; k < n; k++)
			assert_int_equal(buf_addf(&b, "%s%s", k ? "," : "", cases[i / 2].unit), 0);
		assert_int_equal(buf_add_str(&b, "],\n\"config\":{\"a\":1"), 0);
		for (; i % 2 && all <= LIMIT_JSON_VALUES; all++)
			assert_int_equal(buf_addf(&b, ",\"%d\":2", all), 0);
		assert_int_equal(buf_add_str(&b, "}}"), 0);
		most = now = 0;
		r = json_config_parse(buf_slice(&b), 10, &c, &line, &err);
		assert_int_equal(r, i % 2 ? -E2BIG : 0);
		if (r < 0)
			assert_int_equal(strncmp(err.text, "more than 40000 values (column ", 31), 0);
		else
			json_config_done(&c);
		assert_true(most < 16 * 1024 * 1024);
		assert_int_equal(now, 0);
		buf_free(&b);
	}
	json_set_alloc_funcs(malloc, free);
}

/* Writes text as key and value and reads it, unless it has what jansson refuses. */
static void round_trip(struct slice text, bool refused)
{
	struct json_config c;
	struct buf b;
	int r;

	buf_init(&b, 1 << 20);
	buf_add_char(&b, '{');
	json_write_string(&b, text);
	buf_add_char(&b, ':');
	json_write_string(&b, text);
	assert_int_equal(buf_add_char(&b, '}'), 0);
	r = json_config_parse(buf_slice(&b), 1, &c, NULL, NULL);
	assert_int_equal(r, refused ? -EINVAL : 0);
	if (r == 0) {
		data_assert_eq(c.items[0].key, text, NULL);
		data_assert_eq(c.items[0].value, text, NULL);
		json_config_done(&c);
	}
	buf_free(&b);
}

static void test_write_singles(void **state)
{
	(void)state;
	for (uint32_t c = 0; c <= 0x10ffff; c += c < 0x10000 ? 1 : 997) {
		char text[4];

		round_trip(slice_of(text, utf8_encode(c, text)), c == 0 || utf8_is_surrogate(c));
	}
	round_trip(SLICE_LIT(""), false);
}

static void test_write_random(void **state)
{
	(void)state;
	random_init();
	for (int i = 0; i < 20000; i++) {
		char text[4 * 20], *end = text;
		uint32_t n = random_below(20);

		while (n-- > 0) {
			uint32_t c = 1 + random_below(random_below(2) ? 0x7f : 0x10ffff);

			end += utf8_is_surrogate(c) ? 0 : utf8_encode(c, end);
		}
		round_trip(slice_of(text, (size_t)(end - text)), false);
	}
}

static void test_write_exact(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{ "", "\"\"" },
		{ "a/b\"c\\d", "\"a/b\\\"c\\\\d\"" },
		{ "\b\f\n\r\t\v\x1b\x7f", "\"\\b\\f\\n\\r\\t\\u000b\\u001b\x7f\"" },
		{ "\xc3\xa9\xf0\x9f\x98\x80", "\"\xc3\xa9\xf0\x9f\x98\x80\"" },
		{ "\xed\xa0\xbd", "\"\\ud83d\"" },
		{ "\xed\xa0\xbd\xed\xb8\x80", "\"\\ud83d\\ude00\"" },
		{ "a\xff\xc3", "\"a\xef\xbf\xbd\xef\xbf\xbd\"" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf b;

		buf_init(&b, 1000);
		assert_int_equal(json_write_string(&b, slice_str(cases[i].in)), 0);
		data_assert_eq(buf_slice(&b), slice_str(cases[i].out), NULL);
		buf_free(&b);
		buf_init(&b, strlen(cases[i].out) - 1);
		assert_int_equal(json_write_string(&b, slice_str(cases[i].in)), -EFBIG);
		buf_free(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),        cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_errors),       cmocka_unit_test(test_lines),
		cmocka_unit_test(test_max_keys),     cmocka_unit_test(test_deep),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_hostile),      cmocka_unit_test(test_write_singles),
		cmocka_unit_test(test_write_random), cmocka_unit_test(test_write_exact),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
