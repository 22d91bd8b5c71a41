/*
 * Lines in logfmt.
 */
#include "base/logfmt.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

enum { LINE_TAIL = 16 }; /* kept free for the quote, the mark of a cut and the newline */

static void put(struct logfmt *l, const char *s, size_t n)
{
	/* A closing quote may have gone one byte over. */
	if (l->cut || l->len + n > LOGFMT_LINE_MAX - LINE_TAIL) {
		l->cut = true;
		return;
	}
	memcpy(l->data + l->len, s, n);
	l->len += n;
}

void logfmt_text(struct logfmt *l, const char *s)
{
	put(l, s, strlen(s));
}

static size_t first_char(const char *s, uint32_t *ret)
{
	return text_first_char(s, strnlen(s, 4), ret);
}

static bool needs_quotes(const char *s)
{
	uint32_t c;

	if (!*s)
		return true;
	for (size_t n; *s; s += n) {
		n = first_char(s, &c);
		if (strchr(" =\"\\", *s) || text_is_control(c))
			return true;
	}
	return false;
}

/* The character c, whose bytes are the n at s. */
static void put_escaped(struct logfmt *l, const char *s, size_t n, uint32_t c)
{
	char hex[8];

	if (*s == '"' || *s == '\\') {
		put(l, (char[]){ '\\', *s }, 2);
	} else if (*s == '\n') {
		put(l, "\\n", 2);
	} else if (*s == '\r') {
		put(l, "\\r", 2);
	} else if (*s == '\t') {
		put(l, "\\t", 2);
	} else if (text_is_control(c)) {
		for (size_t i = 0; i < n; i++) {
			snprintf(hex, sizeof(hex), "\\x%02x", (unsigned char)s[i]);
			put(l, hex, 4);
		}
	} else {
		put(l, s, n);
	}
}

void logfmt_pair(struct logfmt *l, const char *key, const char *value)
{
	size_t start = l->len;
	uint32_t c;

	if (start > 0 && l->data[start - 1] != '>' && l->data[start - 1] != ' ')
		put(l, " ", 1);
	logfmt_text(l, key);
	put(l, "=", 1);
	if (l->cut) {
		l->len = start; /* no half of a key */
		return;
	}
	if (!needs_quotes(value)) {
		for (size_t n; *value; value += n)
			put(l, value, n = first_char(value, &c));
		return;
	}
	put(l, "\"", 1);
	bool opened = !l->cut;
	for (size_t n; *value; value += n) {
		n = first_char(value, &c);
		put_escaped(l, value, n, c);
	}
	if (opened)
		l->data[l->len++] = '"'; /* LINE_TAIL has room for it */
}

void logfmt_end(struct logfmt *l)
{
	if (l->cut) {
		memcpy(l->data + l->len, " cut=true", 9);
		l->len += 9;
	}
	l->data[l->len] = '\0';
}
