/*
 * UTF-8, one character at a time.
 *
 * Strict as Java's decoder (no overlong forms, nothing above U+10FFFF), but for one liberty:
 * surrogates in their three-byte form are decoded (WTF-8), and strict callers refuse them.
 */
#ifndef CONNECTFS_FORMAT_UTF8_H
#define CONNECTFS_FORMAT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline bool utf8_is_surrogate(uint32_t c)
{
	return c >= 0xd800 && c <= 0xdfff;
}

/* Length of the leading part of s that is ASCII. */
static inline size_t utf8_ascii_len(const char *s, size_t len)
{
	size_t i = 0;

	for (; len - i >= sizeof(uint64_t); i += sizeof(uint64_t)) {
		uint64_t word;

		memcpy(&word, s + i, sizeof(word));
		if (word & UINT64_C(0x8080808080808080))
			break;
	}
	while (i < len && !(s[i] & 0x80))
		i++;
	return i;
}

/* Decodes the first character of s[0..len), len > 0. Returns its length, or 0 if malformed. */
static inline size_t utf8_decode(const char *s, size_t len, uint32_t *ret_char)
{
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	unsigned char lead = (unsigned char)s[0];
	size_t n = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 :
	           lead < 0xf5 ? 4 : 0;
	uint32_t c;

	if (n == 0 || n > len)
		return 0;
	c = n == 1 ? lead : lead & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if (((unsigned char)s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | ((unsigned char)s[i] & 0x3f);
	}
	if (c < smallest[n] || c > 0x10ffff)
		return 0;
	*ret_char = c;
	return n;
}

/* Writes c (surrogates included) to out and returns the length, 4 at most. */
static inline size_t utf8_encode(uint32_t c, char *out)
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

/*
 * Appends a UTF-16 code unit to the text [start, out): a low surrogate joins a high one before
 * it. Returns the new end. Never makes more than three bytes a unit.
 */
static inline char *utf8_put_unit(char *start, char *out, uint32_t unit)
{
	if (unit >= 0xdc00 && unit <= 0xdfff && out - start >= 3) {
		const unsigned char *last = (const unsigned char *)out - 3;

		if (last[0] == 0xed && last[1] >= 0xa0 && last[1] <= 0xaf) {
			uint32_t high = (last[1] & 0x0fu) << 6 | (last[2] & 0x3fu);

			out -= 3;
			return out + utf8_encode(0x10000 + (high << 10) + (unit - 0xdc00), out);
		}
	}
	return out + utf8_encode(unit, out);
}

/* Value of a hexadecimal digit, or -1. */
static inline int utf8_hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

#endif
