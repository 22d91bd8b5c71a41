/*
 * A slice: bytes that somebody else owns.
 *
 * A slice may hold NUL bytes and is not NUL-terminated. It is valid as long as
 * what it points into; functions that take slices never keep them unless their
 * contract says so.
 */
#ifndef CONNECTFS_BASE_SLICE_H
#define CONNECTFS_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct slice {
	const char *data; /* never NULL unless len is 0 */
	size_t len;
};

#define SLICE_LIT(s) ((struct slice){ (s), sizeof(s) - 1 })
/* For printf's "%.*s"; only for names and paths, never for values. */
#define SLICE_FMT(s) (int)(s).len, (s).data ? (s).data : ""

static inline struct slice slice_str(const char *s)
{
	return (struct slice){ s, s ? strlen(s) : 0 };
}

static inline struct slice slice_of(const char *data, size_t len)
{
	return (struct slice){ data, len };
}

static inline bool slice_eq(struct slice a, struct slice b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* By bytes: < 0, 0 or > 0. */
static inline int slice_compare(struct slice a, struct slice b)
{
	size_t n = a.len < b.len ? a.len : b.len;
	int c = n > 0 ? memcmp(a.data, b.data, n) : 0;

	return c != 0 ? c : (a.len > b.len) - (a.len < b.len);
}

static inline bool slice_eq_str(struct slice a, const char *b)
{
	return slice_eq(a, slice_str(b));
}

#endif
