/*
 * The text format of java.util.Properties, to the letter (Properties.load, OpenJDK 17), with
 * the place of each value, so that a value can be replaced and the rest kept byte for byte.
 *
 * Decoded text is UTF-8, with two liberties that Java's UTF-16 strings have as well: it may
 * hold NUL, and an unpaired surrogate (from \ud800) is kept in the three-byte form that UTF-8
 * would give it (WTF-8). Pairs of surrogates are combined.
 */
#ifndef CONNECTFS_FORMAT_PROPERTIES_H
#define CONNECTFS_FORMAT_PROPERTIES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/slice.h"

enum properties_charset {
	/* Properties.load(Reader) over UTF-8, as FileConfigProvider: malformed bytes are an error */
	PROPERTIES_UTF8,
	/* Properties.load(InputStream), as Connect reads worker and connector files */
	PROPERTIES_LATIN1,
};

struct property {
	struct slice key, value;        /* decoded; owned by the struct properties */
	unsigned line;                  /* natural line where the key begins, from 1 */
	size_t value_start, value_end;  /* the value as written, in the text: from its first
	                                   character (separator and white space are before it) to
	                                   before the terminator of its last natural line */
	bool shadowed;                  /* a later line has the same key, and that one counts */
};

struct properties {
	struct property *items; /* in the order of the text, shadowed ones included */
	size_t len;
	char *pool;             /* decoded text */
	bool secret;            /* both lie in secret memory */
};

#define PROPERTIES_INIT { NULL, 0, NULL, false }

/*
 * Reads a whole text. secret: what is allocated lies in secret memory. max_keys bounds len.
 * 0, or a negative errno with the line in *ret_line (0: none; may be NULL) and a sentence
 * without it: -EILSEQ (malformed UTF-8; a malformed \uXXXX), -E2BIG (too many keys), -ENOMEM.
 * The sentence never quotes a value. Pure; linear in text.len.
 */
int properties_parse(struct slice text, enum properties_charset charset, bool secret, size_t max_keys,
                     struct properties *ret, unsigned *ret_line, struct error *ret_err);
/* The property that counts, or NULL. Linear. */
const struct property *properties_find(const struct properties *p, struct slice key);
void properties_done(struct properties *p); /* wipes where secret; leaves PROPERTIES_INIT */

/*
 * Writes a decoded value so that both forms of Properties.load() read it back: ASCII,
 * \uXXXX (pairs for what is outside the BMP), \t \n \r \f and \\ escaped, leading white space,
 * '=' and ':' escaped. For the place between value_start and value_end. 0 or buf's error.
 */
int properties_write_value(struct buf *out, struct slice value);
/* The same for a key (all white space, '=', ':', and a leading '#' or '!' escaped). */
int properties_write_key(struct buf *out, struct slice key);

#endif
