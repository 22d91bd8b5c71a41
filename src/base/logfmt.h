/*
 * A line in logfmt, built in memory: pairs of key and value, values quoted where logfmt asks for it, and
 * what a terminal may take for a command or what begins another line (text_is_control) escaped.
 *
 * What does not fit is left out as a whole or cut within a value, nothing is added after it, and
 * logfmt_end() says cut=true. No allocation, no failure. One thread at a time.
 */
#ifndef CONNECTFS_BASE_LOGFMT_H
#define CONNECTFS_BASE_LOGFMT_H

#include <stdbool.h>
#include <stddef.h>

/* PIPE_BUF: a pipe that polls as writable takes this much at once, and does not mix it. */
enum { LOGFMT_LINE_MAX = 4096 };

struct logfmt {
	char data[LOGFMT_LINE_MAX + 1];
	size_t len;
	bool cut; /* something did not fit: nothing more is added */
};

#define LOGFMT_INIT { .len = 0 }

/* Text as it is; for what stands before the pairs. */
void logfmt_text(struct logfmt *l, const char *s);
/* A blank comes between pairs, and between text and a pair unless the text ends in '>' or ' '. */
void logfmt_pair(struct logfmt *l, const char *key, const char *value);
/* The mark of a cut where there was one, and the NUL after the last character. There is room for a newline
 * in its place. */
void logfmt_end(struct logfmt *l);

#endif
