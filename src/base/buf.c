/*
 * The growing byte buffer.
 */
#include "base/buf.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/secmem.h"

enum { BUF_FIRST_CAP = 64 };

void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){ .max = max };
}

void buf_init_secret(struct buf *b, size_t max)
{
	*b = (struct buf){ .max = max, .secret = true };
}

static void drop_memory(struct buf *b)
{
	if (b->secret)
		secmem_free(b->data);
	else
		free(b->data);
	b->data = NULL;
	b->len = 0;
	b->cap = 0;
}

static int fail(struct buf *b, int err)
{
	drop_memory(b);
	b->err = err;
	return err;
}

static char *resize(const struct buf *b, size_t cap)
{
	return b->secret ? secmem_realloc(b->data, cap) : realloc(b->data, cap);
}

/* Makes room for n more bytes and the NUL. */
static int grow(struct buf *b, size_t n)
{
	if (b->err)
		return b->err;
	if (n > b->max - b->len)
		return fail(b, -EFBIG);
	if (b->len + n == SIZE_MAX)
		return fail(b, -ENOMEM);
	size_t need = b->len + n + 1;
	if (need <= b->cap)
		return 0;

	size_t cap = b->cap > b->max / 2 ? b->max : b->cap * 2;
	if (cap < BUF_FIRST_CAP)
		cap = BUF_FIRST_CAP;
	if (cap > b->max)
		cap = b->max + 1; /* no overflow: max is below cap */
	if (cap < need)
		cap = need;
	char *data = resize(b, cap);
	if (!data)
		return fail(b, -ENOMEM);
	b->data = data;
	b->cap = cap;
	return 0;
}

int buf_add(struct buf *b, const void *data, size_t len)
{
	int r = grow(b, len);

	if (r < 0)
		return r;
	if (len > 0)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
	return 0;
}

int buf_add_slice(struct buf *b, struct slice s)
{
	return buf_add(b, s.data, s.len);
}

int buf_add_str(struct buf *b, const char *s)
{
	return buf_add(b, s, strlen(s));
}

int buf_add_char(struct buf *b, char c)
{
	return buf_add(b, &c, 1);
}

int buf_vaddf(struct buf *b, const char *fmt, va_list ap)
{
	va_list again;

	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (b->err)
		return b->err;
	if (n < 0)
		return fail(b, -ENOMEM);
	int r = grow(b, (size_t)n);
	if (r < 0)
		return r;
	if (vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap) != n)
		return fail(b, -ENOMEM);
	b->len += (size_t)n;
	return 0;
}

int buf_addf(struct buf *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int r = buf_vaddf(b, fmt, ap);
	va_end(ap);
	return r;
}

char *buf_reserve(struct buf *b, size_t n)
{
	if (grow(b, n) < 0)
		return NULL;
	/* The caller adds to len without a NUL: have one stand wherever the bytes may end. */
	memset(b->data + b->len, 0, n + 1);
	return b->data + b->len;
}

void buf_reset(struct buf *b)
{
	if (b->secret && b->data)
		explicit_bzero(b->data, b->cap);
	b->len = 0;
	if (b->data)
		b->data[0] = '\0';
}

void buf_free(struct buf *b)
{
	drop_memory(b);
	b->err = 0;
}

char *buf_steal(struct buf *b, size_t *ret_len)
{
	/* An empty addition gives an empty buffer its NUL, and a failed one its error. */
	if (buf_add(b, "", 0) < 0)
		return NULL;
	/* Growth leaves up to half of the room unused, and what is stolen is often kept long. */
	char *data = resize(b, b->len + 1);
	if (!data)
		data = b->data;
	if (ret_len)
		*ret_len = b->len;
	b->data = NULL;
	b->len = 0;
	b->cap = 0;
	return data;
}
