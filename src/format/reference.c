/*
 * Finds references as Kafka's ConfigTransformer does, in linear time.
 *
 * No character of a match but the last can be '}', and so each "}" ends at most one match: the
 * one that begins at the first "${" before it. Where that part has no colon, no later "${" in it
 * could match either, since its part is shorter.
 */
#include "format/reference.h"

static const char *find(const char *from, const char *end, char c)
{
	return from < end ? memchr(from, c, (size_t)(end - from)) : NULL;
}

/* The next "${" in [from, end), or NULL. */
static const char *find_start(const char *from, const char *end)
{
	while ((from = find(from, end, '$')) != NULL) {
		if (end - from >= 2 && from[1] == '{')
			return from;
		from++;
	}
	return NULL;
}

static struct slice between(const char *from, const char *to)
{
	return slice_of(from, (size_t)(to - from));
}

static void split(const char *body, const char *end, const char *colon, struct reference *ret)
{
	const char *second = find(colon + 1, end, ':');

	ret->provider = between(body, colon);
	ret->path = between(colon + 1, second ? second : colon + 1);
	ret->key = between(second ? second + 1 : colon + 1, end);
}

bool reference_next(struct slice text, size_t *pos, struct reference *ret)
{
	const char *end, *start, *close, *colon;

	if (*pos >= text.len)
		return false;
	end = text.data + text.len;
	start = text.data + *pos;
	while ((start = find_start(start, end)) != NULL) {
		close = find(start + 2, end, '}');
		if (!close)
			break; /* so no later "${" can end either */
		colon = find(start + 2, close, ':');
		if (colon) {
			ret->start = (size_t)(start - text.data);
			ret->end = (size_t)(close + 1 - text.data);
			split(start + 2, close, colon, ret);
			*pos = ret->end;
			return true;
		}
		start = close + 1;
	}
	*pos = text.len;
	return false;
}
