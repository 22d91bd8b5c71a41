/*
 * An error that a person will read: an errno and one sentence.
 *
 * Functions that can fail in ways a person must understand take a
 * "struct error *ret_err" as their last parameter, fill it on failure and return
 * the negative errno. NULL is allowed: the caller does not want the sentence.
 * The sentence names provider, path, key names, file and line; never a value.
 * It is cut at ERROR_TEXT_MAX bytes (on a character boundary), never overrun,
 * and what a terminal may take for a command becomes '?' (text_mask_controls), so that it is one line.
 */
#ifndef CONNECTFS_BASE_ERROR_H
#define CONNECTFS_BASE_ERROR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ERROR_TEXT_MAX = 1023 };

struct error {
	int code; /* a positive errno; 0: no error */
	char text[ERROR_TEXT_MAX + 1];
};

#define ERROR_INIT { 0, "" }

/* Fills err (NULL allowed) and returns -code, so: return error_set(err, EINVAL, "…"); */
int error_set(struct error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int error_vset(struct error *err, int code, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));
/* Puts a prefix ("orders.properties:12: ") before the sentence. Returns -err->code,
 * and -EIO for a NULL err (which is allowed). */
int error_prefix(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What a terminal may take for a command (controls, U+0080–U+009F among them), what begins another line,
 * and what turns the line around (the bidirectional controls). Pure, as are the next two. */
bool text_is_control(uint32_t c);
/* The first character of s, len > 0: returns its length; where there is no UTF-8 character (or an overlong
 * one), 1, and *ret is the byte. Surrogates are decoded. */
size_t text_first_char(const char *s, size_t len, uint32_t *ret);
/* For text of others that goes to a terminal: each byte of such a control and each of 0x80–0x9f that
 * belongs to no UTF-8 character becomes '?'. In place. */
void text_mask_controls(char *s, size_t len);

#endif
