/*
 * A stored config as it was read once.
 */
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "store/store.h"

/* The count lies beside what is public. One block for all of it: texts are read by the pool's threads and freed by
 * others, and each small block of them that goes on living would keep a page from going back to the system. */
struct counted {
	atomic_uint refs;
	struct stored stored;
	char bytes[]; /* the path, and the text unless it lies in the keep */
};

static struct counted *counted_of(struct stored *s)
{
	return (struct counted *)((char *)s - offsetof(struct counted, stored));
}

/* With room for a text of len bytes, and with the path. */
static struct counted *counted_new(size_t len, const char *path)
{
	size_t path_size = path ? strlen(path) + 1 : 0;
	struct counted *c = len > SIZE_MAX / 2 ? NULL : malloc(sizeof(*c) + len + path_size);

	if (!c)
		return NULL;
	atomic_init(&c->refs, 1);
	c->stored = (struct stored){ .text = c->bytes, .len = len, .path = path ? c->bytes + len : NULL };
	if (path)
		memcpy(c->bytes + len, path, path_size);
	return c;
}

struct stored *stored_new(struct slice text, enum config_syntax syntax, const char *path)
{
	struct counted *c = counted_new(text.len, path);

	if (!c)
		return NULL;
	if (text.len > 0)
		memcpy(c->bytes, text.data, text.len);
	c->stored.syntax = syntax;
	return &c->stored;
}

struct stored *stored_in_keep(const struct stored *s, struct keep *keep, void *block, const char *text)
{
	struct counted *c = counted_new(0, s->path);
	const char *path = c ? c->stored.path : NULL;

	if (!c)
		return NULL;
	c->stored = *s;
	c->stored.path = path;
	c->stored.text = text;
	c->stored.keep = keep;
	c->stored.block = block;
	return &c->stored;
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
	if (s->keep)
		keep_free(s->keep, s->block);
	free(counted_of(s));
}

bool stored_unchanged(const struct stored *s)
{
	struct file_stamp now;

	if (!s->path || s->watched)
		return true;
	return s->local && file_stamp_peek(s->path, &now) == 0 && file_stamp_equal(&now, &s->stamp);
}
