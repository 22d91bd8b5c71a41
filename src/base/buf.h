/*
 * A growing byte buffer with a mandatory maximum.
 *
 * Once an operation has failed (over the maximum, out of memory) the buffer is freed, and
 * every later operation returns the same error: so a chain of additions needs only the last
 * result to be checked (as curl's dynbuf). A secret buffer lies in secret memory and is wiped
 * when it grows and when it is freed. Not for use by two threads at once.
 */
#ifndef CONNECTFS_BASE_BUF_H
#define CONNECTFS_BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

struct buf {
	char *data;   /* NUL-terminated when len > 0; owned */
	size_t len;   /* without the NUL */
	size_t cap, max;
	int err;      /* 0 or a negative errno */
	bool secret;
};

/* max: the most bytes it may ever hold. Allocates nothing. */
void buf_init(struct buf *b, size_t max);
void buf_init_secret(struct buf *b, size_t max);

/* 0, -EFBIG (over max) or -ENOMEM. */
int buf_add(struct buf *b, const void *data, size_t len);
int buf_add_slice(struct buf *b, struct slice s);
int buf_add_str(struct buf *b, const char *s);
int buf_add_char(struct buf *b, char c);
int buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int buf_vaddf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* Makes room for n more bytes and returns where they go (NULL on failure); the caller then
 * adds to len itself, n at most. */
char *buf_reserve(struct buf *b, size_t n);

/* Forgets (and wipes, where secret) the content; keeps the room, and the error. */
void buf_reset(struct buf *b);
/* Empties it; an error is forgotten as well, the maximum stays. */
void buf_free(struct buf *b);

static inline struct slice buf_slice(const struct buf *b)
{
	return (struct slice){ b->data, b->len };
}

/* Gives the memory to the caller, who frees it by free() or, from a secret buffer,
 * secmem_free(). "" and not NULL for an empty buffer; NULL out of memory
 * or after a failed operation.
 * The buffer is empty afterwards. */
char *buf_steal(struct buf *b, size_t *ret_len);

#endif
