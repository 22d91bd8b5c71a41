/*
 * Fuzzes src/format/. The first byte of the input says what the rest is.
 *
 *   clang -fsanitize=fuzzer,address,undefined …, with all of src/format and its part of src/base
 *
 * Without libFuzzer (-DFUZZ_MAIN), it runs the files that it is given, or standard input.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "format/config.h"
#include "format/json.h"
#include "format/limits.h"
#include "format/properties.h"
#include "format/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* abort, and not assert, so that NDEBUG does not take the oracle away */
static void must(bool holds)
{
	if (!holds)
		abort();
}

static void fuzz_references(struct slice text)
{
	struct reference ref;
	size_t pos = 0, before = 0;

	while (reference_next(text, &pos, &ref)) {
		must(ref.start >= before && ref.end > ref.start && ref.end <= text.len && pos == ref.end);
		must(memcmp(text.data + ref.start, "${", 2) == 0 && text.data[ref.end - 1] == '}');
		must(ref.provider.data == text.data + ref.start + 2);
		must(ref.key.data + ref.key.len == text.data + ref.end - 1);
		before = ref.end;
	}
	must(pos == text.len || pos == before);
}

/* What the writer writes is read back by both readers. */
static void check_written(struct slice key, struct slice value)
{
	for (int charset = PROPERTIES_UTF8; charset <= PROPERTIES_LATIN1; charset++) {
		struct properties p;
		struct buf b;

		buf_init(&b, 8 * LIMIT_STORED_BYTES);
		properties_write_key(&b, key);
		buf_add_char(&b, '=');
		must(properties_write_value(&b, value) == 0);
		must(properties_parse(buf_slice(&b), charset, false, 1, &p, NULL, NULL) == 0 && p.len == 1);
		must(slice_eq(p.items[0].key, key) && slice_eq(p.items[0].value, value));
		properties_done(&p);
		buf_free(&b);
	}
}

static void fuzz_properties(struct slice text, enum properties_charset charset)
{
	struct properties p;
	size_t before = 0;

	if (properties_parse(text, charset, text.len % 2, LIMIT_STORED_KEYS, &p, NULL, NULL) < 0)
		return;
	for (size_t i = 0; i < p.len; i++) {
		const struct property *e = &p.items[i];

		must(e->value_start >= before && e->value_end >= e->value_start && e->value_end <= text.len);
		must(e->line > 0);
		before = e->value_end;
		if (i < 20) {
			must((properties_find(&p, e->key) == e) == !e->shadowed);
			check_written(e->key, e->value);
		}
	}
	properties_done(&p);
}

static void fuzz_json(struct slice text)
{
	struct json_config c;
	size_t before = 0;

	if (json_config_parse(text, LIMIT_STORED_KEYS, &c, NULL, NULL) < 0)
		return;
	for (size_t i = 0; i < c.len; i++) {
		const struct json_member *e = &c.items[i];
		struct json_config again;
		struct buf b;

		must(e->value_start > before && e->value_end > e->value_start && e->value_end < text.len);
		must((text.data[e->value_start] == '"') == (text.data[e->value_end - 1] == '"'));
		before = e->value_end;
		buf_init(&b, 8 * LIMIT_STORED_BYTES);
		buf_add_char(&b, '{');
		json_write_string(&b, e->key);
		buf_add_char(&b, ':');
		json_write_string(&b, e->value);
		must(buf_add_char(&b, '}') == 0);
		must(json_config_parse(buf_slice(&b), 1, &again, NULL, NULL) == 0 && again.len == 1);
		must(slice_eq(again.items[0].key, e->key) && slice_eq(again.items[0].value, e->value));
		json_config_done(&again);
		buf_free(&b);
	}
	json_config_done(&c);
}

/* Every other reference becomes a value with all that needs an escape. */
static bool lookup(void *arg, size_t index, struct slice *ret_value)
{
	static const struct slice values[] = {
		SLICE_LIT(" =:#\\\t\n\"\xc3\xa9\xf0\x9f\x98\x80"), SLICE_LIT(""),
		SLICE_LIT("=${a:b}\\"), SLICE_LIT(":\x01}"),
	};

	if (!arg || index % 2)
		return false;
	*ret_value = values[index / 2 % 4];
	return true;
}

/* The value of the i-th value of c, with its references replaced. */
static void expected(const struct config *c, const struct config_value *v, struct buf *out)
{
	size_t done = 0;

	buf_reset(out);
	for (size_t i = v->first_ref; i < v->first_ref + v->n_refs; i++) {
		struct slice value;

		if (!lookup(out, i, &value))
			continue;
		buf_add(out, v->value.data + done, c->refs[i].start - done);
		buf_add_slice(out, value);
		done = c->refs[i].end;
	}
	must(buf_add(out, v->value.data + done, v->value.len - done) == 0);
}

/* Each value reads back as it was meant, with the keys of the original. */
static void check_rendered(const struct config *c, struct slice text)
{
	struct properties p = PROPERTIES_INIT;
	struct json_config j = JSON_CONFIG_INIT;
	size_t at = 0, len;
	struct buf wanted;

	buf_init(&wanted, 8 * LIMIT_STORED_BYTES);
	if (c->syntax == CONFIG_JSON)
		must(json_config_parse(text, LIMIT_STORED_KEYS, &j, NULL, NULL) == 0);
	else
		must(properties_parse(text, PROPERTIES_LATIN1, false, LIMIT_STORED_KEYS, &p, NULL,
		                      NULL) == 0);
	len = c->syntax == CONFIG_JSON ? j.len : p.len;
	for (size_t i = 0; i < c->n_values; i++) {
		const struct config_value *v = &c->values[i];

		expected(c, v, &wanted);
		/* values come in order: an entry that fits, after the one before */
		for (; at < len; at++) {
			struct slice key = c->syntax == CONFIG_JSON ? j.items[at].key : p.items[at].key;
			struct slice value = c->syntax == CONFIG_JSON ? j.items[at].value : p.items[at].value;

			if ((c->syntax == CONFIG_JSON || !p.items[at].shadowed) && slice_eq(key, v->key)) {
				must(slice_eq(value, buf_slice(&wanted)));
				break;
			}
		}
		must(at++ < len);
	}
	properties_done(&p);
	json_config_done(&j);
	buf_free(&wanted);
}

static void fuzz_config(struct slice text, enum config_syntax syntax)
{
	struct config *c;
	struct buf out;

	if (config_parse(text, syntax, &c, NULL, NULL) < 0)
		return;
	buf_init_secret(&out, LIMIT_RENDERED_BYTES);
	must(config_render(c, text, lookup, NULL, &out) == 0);
	must(slice_eq(buf_slice(&out), text));
	buf_reset(&out);
	if (config_render(c, text, lookup, &out, &out) == 0)
		check_rendered(c, buf_slice(&out));
	buf_free(&out);
	config_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = { (const char *)data + 1, size - 1 };

	if (size == 0)
		return 0;
	switch (data[0] % 6) {
	case 0:
		fuzz_references(text);
		break;
	case 1:
		fuzz_properties(text, PROPERTIES_UTF8);
		break;
	case 2:
		fuzz_properties(text, PROPERTIES_LATIN1);
		break;
	case 3:
		fuzz_json(text);
		break;
	case 4:
		fuzz_config(text, CONFIG_PROPERTIES);
		break;
	default:
		fuzz_config(text, CONFIG_JSON);
		break;
	}
	return 0;
}

#ifdef FUZZ_MAIN
static void run(FILE *file)
{
	const size_t max = 2 * LIMIT_STORED_BYTES;
	uint8_t *data = malloc(max);

	if (data)
		LLVMFuzzerTestOneInput(data, fread(data, 1, max, file));
	free(data);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		run(stdin);
	for (int i = 1; i < argc; i++) {
		FILE *file = fopen(argv[i], "rb");

		if (!file) {
			perror(argv[i]);
			return 1;
		}
		run(file);
		fclose(file);
	}
	return 0;
}
#endif
