/*
 * java.util.Properties: the reader by the table that Java checks too, the writer by reading back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <errno.h>

#include <cmocka.h>

#include "base/secmem.h"
#include "format/limits.h"
#include "format/properties.h"
#include "format-data.h"

static int parse(struct slice text, enum properties_charset charset, struct properties *ret)
{
	struct error err = ERROR_INIT;
	unsigned line = 4711;
	int r = properties_parse(text, charset, text.len % 2, LIMIT_STORED_KEYS, ret, &line, &err);

	if (r < 0) {
		assert_int_equal(err.code, -r);
		assert_true(err.text[0] && line != 4711);
	}
	return r;
}

static void check_row(const json_t *row, struct slice text, enum properties_charset charset)
{
	json_t *map = json_object_get(row, "map"), *value;
	struct properties p = PROPERTIES_INIT;
	const char *key;
	size_t n = 0;
	int r = parse(text, charset, &p);

	if (json_is_true(json_object_get(row, "error"))) {
		if (r != -EILSEQ)
			fail_msg("no error for \"%.*s\"", SLICE_FMT(text));
		return;
	}
	if (r < 0)
		fail_msg("error %d for \"%.*s\"", r, SLICE_FMT(text));
	for (size_t i = 0; i < p.len; i++) {
		const struct property *e = &p.items[i];

		n += !e->shadowed;
		assert_true(e->value_start <= e->value_end && e->value_end <= text.len);
		assert_true((properties_find(&p, e->key) == e) == !e->shadowed);
	}
	if (n != json_object_size(map))
		fail_msg("%zu keys in \"%.*s\"", n, SLICE_FMT(text));
	json_object_foreach(map, key, value) {
		const struct property *e = properties_find(&p, slice_str(key));

		if (!e)
			fail_msg("no key \"%s\" in \"%.*s\"", key, SLICE_FMT(text));
		data_assert_eq(e->value, data_slice(value), row);
	}
	properties_done(&p);
}

static void test_table(void **state)
{
	json_t *rows = data_load("properties.json"), *row;
	size_t i;

	(void)state;
	json_array_foreach(rows, i, row) {
		struct slice charset = data_field(row, "charset"), text = data_input(row);

		if (!charset.data || slice_eq_str(charset, "utf8"))
			check_row(row, text, PROPERTIES_UTF8);
		if (!charset.data || slice_eq_str(charset, "latin1"))
			check_row(row, text, PROPERTIES_LATIN1);
		free((void *)text.data);
	}
	assert_true(i > 120);
	json_decref(rows);
}

/* What JSON can't say: NUL, unpaired surrogates. */
static void test_wtf8(void **state)
{
	static const struct {
		const char *in;
		struct slice out;
	} cases[] = {
		{ "k=\\u0000", { "", 1 } },
		{ "k=\\ud800", SLICE_LIT("\xed\xa0\x80") },
		{ "k=\\udfff", SLICE_LIT("\xed\xbf\xbf") },
		{ "k=\\udc00\\ud800", SLICE_LIT("\xed\xb0\x80\xed\xa0\x80") },
		{ "k=\\ud800\\ud800\\udc00", SLICE_LIT("\xed\xa0\x80\xf0\x90\x80\x80") },
		{ "k=\\ud800\\udc00\\udc00", SLICE_LIT("\xf0\x90\x80\x80\xed\xb0\x80") },
		{ "k=\\udbff\\udfff", SLICE_LIT("\xf4\x8f\xbf\xbf") },
		{ "k=\\ud800x\\udc00", SLICE_LIT("\xed\xa0\x80x\xed\xb0\x80") },
		{ "\\ud800=\\udc00", SLICE_LIT("\xed\xb0\x80") },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (int charset = PROPERTIES_UTF8; charset <= PROPERTIES_LATIN1; charset++) {
			struct properties p;

			assert_int_equal(parse(slice_str(cases[i].in), charset, &p), 0);
			assert_int_equal(p.len, 1);
			data_assert_eq(p.items[0].value, cases[i].out, NULL);
			properties_done(&p);
		}
	}
	struct properties p;

	assert_int_equal(parse(SLICE_LIT("a\0b=c\0d"), PROPERTIES_UTF8, &p), 0);
	data_assert_eq(p.items[0].key, SLICE_LIT("a\0b"), NULL);
	data_assert_eq(p.items[0].value, SLICE_LIT("c\0d"), NULL);
	properties_done(&p);
}

static void test_places(void **state)
{
	static const struct {
		const char *in;
		size_t start, end;
		unsigned line;
	} cases[] = {
		{ "k=v", 2, 3, 1 },          { "k=v\nx", 2, 3, 1 },       { "k=v \r\n", 2, 4, 1 },
		{ " k  = v", 6, 7, 1 },      { "k", 1, 1, 1 },            { "k =", 3, 3, 1 },
		{ "\n\r\n\r#\nk v", 8, 9, 5 }, { "k=a\\\n  b\nx", 2, 8, 1 }, { "k=\\\n  b\n", 6, 7, 1 },
		{ "k\\\n \\\n =\\\n v", 11, 12, 1 }, { "k=v\\", 2, 4, 1 }, { "k=v\\\n", 2, 5, 1 },
		{ "k=v\\\n\n", 2, 5, 1 },    { "\\\n\\\r\nk=v", 7, 8, 3 }, { "k=v\\\\\n", 2, 5, 1 },
		{ "k = = v", 4, 7, 1 },      { "k\\", 2, 2, 1 },          { "k=\\u0041\n", 2, 8, 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct properties p;

		assert_int_equal(parse(slice_str(cases[i].in), PROPERTIES_LATIN1, &p), 0);
		if (p.items[0].value_start != cases[i].start || p.items[0].value_end != cases[i].end ||
		    p.items[0].line != cases[i].line)
			fail_msg("%zu: [%zu, %zu) line %u", i, p.items[0].value_start, p.items[0].value_end,
			         p.items[0].line);
		properties_done(&p);
	}
}

static void test_error_lines(void **state)
{
	static const struct {
		const char *in;
		unsigned line;
	} cases[] = {
		{ "\\uq", 1 }, { "a=1\nb=\\u12", 2 }, { "a=1\r\nb=2\rc=3\n\n#\n\xff", 6 },
		{ "a=1\\\n\\\n\\u1", 3 },
		{ "a=\\u0\\\n0\\\nx", 3 }, { "\xc3", 1 }, { "a\r\n\xc3(", 2 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct properties p = PROPERTIES_INIT;
		struct slice in = slice_str(cases[i].in);
		struct error err = ERROR_INIT;
		unsigned line = 0;

		assert_int_equal(properties_parse(in, PROPERTIES_UTF8, true, 10, &p, &line, &err), -EILSEQ);
		assert_int_equal(line, cases[i].line);
		assert_null(p.items); /* untouched */
		assert_int_equal(properties_parse(in, PROPERTIES_UTF8, true, 10, &p, NULL, NULL), -EILSEQ);
	}
}

static void test_max_keys(void **state)
{
	struct properties p = PROPERTIES_INIT;
	struct error err;
	unsigned line;

	(void)state;
	assert_int_equal(properties_parse(SLICE_LIT("a\nb\nc"), PROPERTIES_UTF8, false, 3, &p, NULL,
	                                  NULL), 0);
	assert_int_equal(p.len, 3);
	properties_done(&p);
	assert_null(p.items);
	properties_done(&p);
	assert_int_equal(properties_parse(SLICE_LIT("a\nb\na\nb"), PROPERTIES_UTF8, false, 3, &p, &line,
	                                  &err), -E2BIG);
	assert_int_equal(line, 4);
	assert_int_equal(properties_parse((struct slice){ NULL, 0 }, PROPERTIES_UTF8, true, 0, &p, NULL,
	                                  NULL), 0);
	assert_int_equal(p.len, 0);
	assert_null(properties_find(&p, SLICE_LIT("a")));
	properties_done(&p);
}

/* Writes key and value, reads them with both character sets, with each separator. */
static void round_trip(struct slice key, struct slice value)
{
	static const char *const separators[] = { "=", ":", " ", " = ", "\t", " \\\n ", "= \\\r\n" };

	for (size_t i = 0; i < sizeof(separators) / sizeof(separators[0]); i++) {
		struct properties p;
		struct buf b;

		if (key.len == 0 && !strchr("=:", separators[i][0]))
			continue;
		buf_init(&b, 1 << 20);
		assert_int_equal(properties_write_key(&b, key), 0);
		assert_int_equal(buf_add_str(&b, separators[i]), 0);
		assert_int_equal(properties_write_value(&b, value), 0);
		assert_int_equal(buf_add_str(&b, "\nz=1"), 0);
		for (size_t at = 0; at < b.len; at++)
			assert_true((unsigned char)b.data[at] < 0x7f);
		for (int charset = PROPERTIES_UTF8; charset <= PROPERTIES_LATIN1; charset++) {
			assert_int_equal(parse(buf_slice(&b), charset, &p), 0);
			assert_int_equal(p.len, 2);
			data_assert_eq(p.items[0].key, key, NULL);
			data_assert_eq(p.items[0].value, value, NULL);
			properties_done(&p);
		}
		buf_free(&b);
	}
}

static void test_write_singles(void **state)
{
	(void)state;
	for (uint32_t c = 0; c <= 0x10ffff; c += c < 0x10000 ? 1 : 997) {
		char text[4];
		struct slice s = { text, utf8_encode(c, text) };

		round_trip(s, s);
	}
	round_trip(SLICE_LIT(""), SLICE_LIT(""));
	round_trip(SLICE_LIT("k"), SLICE_LIT(""));
}

static void test_write_pairs(void **state)
{
	static const uint32_t odd[] = { 0, 1, '\t', '\n', 0xb, '\f', '\r', ' ', '!', '"', '#', '$', '0', ':',
		'=', '\\', 'f', 'n', 'r', 't', 'u', '{', '}', '~', 0x7f, 0x80, 0x85, 0xa0, 0xff, 0x100, 0x7ff,
		0x800, 0x2028, 0xd7ff, 0xd800, 0xdbff, 0xdc00, 0xdfff, 0xe000, 0xfeff, 0xffff,
		0x10000, 0x10ffff };
	const size_t n = sizeof(odd) / sizeof(odd[0]);

	(void)state;
	for (size_t i = 0; i < n * n; i++) {
		char text[8], *end = text;

		end += utf8_encode(odd[i / n], end);
		end = odd[i % n] < 0x10000 ? utf8_put_unit(text, end, odd[i % n])
		                           : end + utf8_encode(odd[i % n], end);
		round_trip(slice_of(text, (size_t)(end - text)), slice_of(text, (size_t)(end - text)));
	}
}

static struct slice random_text(char *text, size_t max_chars)
{
	size_t n = random_below((uint32_t)max_chars + 1);
	char *end = text;

	while (n-- > 0) {
		uint32_t kind = random_below(4);
		uint32_t c = kind == 0 ? random_below(0x20) : kind == 1 ? random_below(0x10000) :
		             0x20 + random_below(0x60);

		end = utf8_put_unit(text, end, c);
	}
	return slice_of(text, (size_t)(end - text));
}

static void test_write_random(void **state)
{
	(void)state;
	random_init();
	for (int i = 0; i < 20000; i++) {
		char key[3 * 8], value[3 * 24];
		struct slice k = random_text(key, 8);

		round_trip(k, random_text(value, 24));
	}
}

static void test_write_exact(void **state)
{
	static const struct {
		struct slice in;
		const char *value, *key;
	} cases[] = {
		{ SLICE_LIT("jdbc:pg://h/d?a=b c"), "jdbc:pg://h/d?a=b c", "jdbc\\:pg\\://h/d?a\\=b\\ c" },
		{ SLICE_LIT("  x "), "\\  x ", "\\ \\ x\\ " },
		{ SLICE_LIT("=="), "\\==", "\\=\\=" },
		{ SLICE_LIT(":"), "\\:", "\\:" },
		{ SLICE_LIT("#a"), "#a", "\\#a" },
		{ SLICE_LIT("a#!"), "a#!", "a#!" },
		{ SLICE_LIT("!"), "!", "\\!" },
		{ SLICE_LIT("a\\"), "a\\\\", "a\\\\" },
		{ SLICE_LIT("\t\n\r\f\v\0\x7f"), "\\t\\n\\r\\f\\u000b\\u0000\\u007f",
		  "\\t\\n\\r\\f\\u000b\\u0000\\u007f" },
		{ SLICE_LIT("\xc3\xa9\xf0\x9f\x98\x80"), "\\u00e9\\ud83d\\ude00", "\\u00e9\\ud83d\\ude00" },
		{ SLICE_LIT("a\xff\xc3"), "a\\ufffd\\ufffd", "a\\ufffd\\ufffd" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf b;

		buf_init(&b, 1000);
		assert_int_equal(properties_write_value(&b, cases[i].in), 0);
		data_assert_eq(buf_slice(&b), slice_str(cases[i].value), NULL);
		buf_reset(&b);
		assert_int_equal(properties_write_key(&b, cases[i].in), 0);
		data_assert_eq(buf_slice(&b), slice_str(cases[i].key), NULL);
		buf_free(&b);
		buf_init(&b, strlen(cases[i].value) - 1);
		assert_int_equal(properties_write_value(&b, cases[i].in), -EFBIG);
		buf_free(&b);
	}
}

static void test_many_keys(void **state)
{
	struct properties p;
	struct buf b;

	(void)state;
	for (int same = 0; same < 2; same++) {
		buf_init(&b, 1 << 20);
		for (int i = 0; i < LIMIT_STORED_KEYS; i++)
			buf_addf(&b, "a.long.prefix.of.all.keys.%d=%d\n", same ? i % 7 : i, i);
		assert_int_equal(b.err, 0);
		assert_int_equal(parse(buf_slice(&b), PROPERTIES_UTF8, &p), 0);
		for (size_t i = 0; i < p.len; i++)
			assert_int_equal(p.items[i].shadowed, same && i + 7 < LIMIT_STORED_KEYS);
		properties_done(&p);
		buf_free(&b);
	}
}

static void test_hostile(void **state)
{
	static const char *const units[] = { "\\", "\\\\", "\\\n", "\\\r\n", "\n", "\r", "#\n", "# \r", " ",
		"=", "k", "\\u0041", "a=\\\n", "\xc3\xa9", "\xff", "a\\ ", "\\:", "a\r", "\\\n#\n" };
	char *text = malloc(LIMIT_STORED_BYTES);

	(void)state;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		for (int charset = PROPERTIES_UTF8; charset <= PROPERTIES_LATIN1; charset++) {
			size_t len = strlen(units[i]);
			struct properties p = PROPERTIES_INIT;

			for (size_t at = 0; at < LIMIT_STORED_BYTES; at++)
				text[at] = units[i][at % len];
			if (parse(slice_of(text, LIMIT_STORED_BYTES), charset, &p) == 0)
				properties_done(&p);
		}
	}
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_wtf8),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_error_lines),
		cmocka_unit_test(test_max_keys),
		cmocka_unit_test(test_write_singles),
		cmocka_unit_test(test_write_pairs),
		cmocka_unit_test(test_write_random),
		cmocka_unit_test(test_write_exact),
		cmocka_unit_test(test_many_keys),
		cmocka_unit_test(test_hostile),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
