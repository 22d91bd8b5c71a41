/*
 * A stored config as it was read once.
 */
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "store/store.h"

/* The count lies beside what is public. */
struct counted {
	atomic_uint refs;
	struct stored stored;
};

static struct counted *counted_of(struct stored *s)
{
	return (struct counted *)((char *)s - offsetof(struct counted, stored));
}

struct stored *stored_new(struct slice text, enum config_syntax syntax, const char *path)
{
	struct counted *c = calloc(1, sizeof(*c));
	struct stored *s;

	if (!c)
		return NULL;
	atomic_init(&c->refs, 1);
	s = &c->stored;
	s->text = malloc(text.len + 1);
	s->path = path ? strdup(path) : NULL;
	if (!s->text || (path && !s->path)) {
		stored_unref(s);
		return NULL;
	}
	if (text.len > 0)
		memcpy(s->text, text.data, text.len);
	s->text[text.len] = '\0';
	s->len = text.len;
	s->syntax = syntax;
	return s;
}

struct stored *stored_ref(struct stored *s)
{
	atomic_fetch_add_explicit(&counted_of(s)->refs, 1, memory_order_relaxed);
	return s;
}

void stored_unref(struct stored *s)
{
	if (!s || atomic_fetch_sub_explicit(&counted_of(s)->refs, 1, memory_order_acq_rel) != 1)
		return;
	free(s->text);
	free(s->path);
	free(counted_of(s));
}

bool stored_unchanged(const struct stored *s)
{
	struct file_stamp now;

	if (!s->path || s->watched)
		return true;
	return s->local && file_stamp_peek(s->path, &now) == 0 && file_stamp_equal(&now, &s->stamp);
}
