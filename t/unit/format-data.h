/*
 * What the tests of src/format/ share: the tables in t/data/, text in hexadecimal, random text.
 * To be included after cmocka.h.
 */
#ifndef CONNECTFS_UNIT_FORMAT_DATA_H
#define CONNECTFS_UNIT_FORMAT_DATA_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "base/buf.h"
#include "format/utf8.h"

/* The file t/data/NAME; the caller decrefs it. */
static inline json_t *data_load(const char *name)
{
	const char *dir = getenv("srcdir");
	char path[4096];
	json_error_t e;
	json_t *data;

	snprintf(path, sizeof(path), "%s/t/data/%s", dir ? dir : ".", name);
	data = json_load_file(path, JSON_REJECT_DUPLICATES, &e);
	if (!data)
		fail_msg("%s:%d: %s", path, e.line, e.text);
	return data;
}

/* A JSON string's bytes; data is NULL where it is no string. */
static inline struct slice data_slice(const json_t *v)
{
	return slice_of(json_string_value(v), json_string_length(v));
}

static inline struct slice data_field(const json_t *row, const char *field)
{
	return data_slice(json_object_get(row, field));
}

/* The field "input", or the bytes of the field "hex". The caller frees data. */
static inline struct slice data_input(const json_t *row)
{
	struct slice hex = data_field(row, "hex"), input = data_field(row, "input");
	char *copy;

	/* of the exact size, so that the sanitizer sees a read behind it */
	if (!hex.data) {
		copy = malloc(input.len ? input.len : 1);
		if (input.len)
			memcpy(copy, input.data, input.len);
		return slice_of(copy, input.len);
	}
	copy = malloc(hex.len / 2 + 1);
	for (size_t i = 0; i + 1 < hex.len; i += 2)
		copy[i / 2] = (char)(utf8_hex(hex.data[i]) << 4 | utf8_hex(hex.data[i + 1]));
	return slice_of(copy, hex.len / 2);
}

/* Fails with both texts unless they are the same. row: what to name in the message. */
static inline void data_assert_eq(struct slice seen, struct slice wanted, const json_t *row)
{
	char *dump;

	if (slice_eq(seen, wanted))
		return;
	dump = row ? json_dumps(row, JSON_COMPACT) : NULL;
	fail_msg("seen \"%.*s\", wanted \"%.*s\" in %s", SLICE_FMT(seen), SLICE_FMT(wanted),
	         dump ? dump : "?");
	free(dump);
}

static uint64_t random_state;

/* From the environment variable SEED, or the clock; told, so that a failure can be repeated. */
static inline void random_init(void)
{
	const char *seed = getenv("SEED");

	random_state = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) * 2654435761u;
	printf("# SEED=%llu\n", (unsigned long long)random_state);
	random_state |= 1;
}

static inline uint32_t random_below(uint32_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 32) % n;
}

#endif
