/*
 * Readers' check of what they read: each text one whole version as rotate.c writes it, and versions only go up.
 */
#ifndef VERSIONS_H
#define VERSIONS_H

#include <stdio.h>
#include <string.h>

/* Zero at first; those of the first and of the last text. */
struct versions {
	unsigned long first, last;
};

/* NULL, or what is wrong with text[0..len), which ends with '\0'. */
static const char *versions_check(struct versions *vs, const char *text, size_t len)
{
	unsigned long v, va, vb, ve;
	int at = 0, xs_at = 0, end = 0;
	const char *a;
	size_t xs;

	if (len < 20 || text[len - 1] != '\n' || sscanf(text, "name=orders\nfirst=%lu\na=%n", &v, &at) != 1 || !at)
		return "head";
	a = text + at;
	if (sscanf(a, "%lu-%n", &va, &xs_at) != 1 || !xs_at || va != v)
		return "mixed";
	a += xs_at;
	xs = strspn(a, "x");
	if (xs != (v * 37) % 3000)
		return "length";
	if (sscanf(a + xs, "\nb=%lu\nlast=%lu%n", &vb, &ve, &end) != 2 || vb != v || ve != v || a + xs + end + 1 != text + len)
		return "tail";
	if (v < vs->last)
		return "went back";
	vs->last = v;
	if (!vs->first)
		vs->first = v;
	return NULL;
}

#endif
