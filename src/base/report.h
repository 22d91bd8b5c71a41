/*
 * A list of findings with their places, for what must say all that is wrong and not only the
 * first: settings, `connectfs check`.
 */
#ifndef CONNECTFS_BASE_REPORT_H
#define CONNECTFS_BASE_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum report_severity {
	REPORT_ERROR,
	REPORT_WARNING,
	REPORT_NOTE
};

struct report_item {
	enum report_severity severity;
	char *file;    /* NULL: none */
	unsigned line; /* 0: none */
	char *key;     /* NULL: none */
	char *text;
};

struct report {
	struct report_item *items;
	size_t len;
	size_t errors, warnings;
	bool truncated; /* out of memory, or more than REPORT_MAX findings: there was more */
};

enum { REPORT_MAX = 100000 };
#define REPORT_INIT { NULL, 0, 0, 0, false }

/* file and key may be NULL, line 0. Copies all. Can't fail: see truncated (errors is counted
 * all the same). NULL report allowed. */
void report_add(struct report *r, enum report_severity severity, const char *file, unsigned line,
                const char *key, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
/* "orders.properties:12: connection.password: sentence", a line each; "warning: " before the
 * sentence of a warning, "note: " of a note. */
void report_print(const struct report *r, FILE *out);
void report_done(struct report *r);

#endif
