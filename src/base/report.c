/*
 * The list of findings.
 */
#include "base/report.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static void item_done(struct report_item *item)
{
	free(item->file);
	free(item->key);
	free(item->text);
}

static bool grow(struct report *r)
{
	/* len alone tells the room: it doubles at each power of two from 16 on. */
	if (r->len != 0 && (r->len < 16 || (r->len & (r->len - 1)) != 0))
		return true;
	size_t room = r->len == 0 ? 16 : r->len * 2;
	struct report_item *items = realloc(r->items, room * sizeof(*items));
	if (!items)
		return false;
	r->items = items;
	return true;
}

static bool copy_string(const char *s, char **ret)
{
	if (!s)
		return true;
	*ret = strdup(s);
	return *ret != NULL;
}

void report_add(struct report *r, enum report_severity severity, const char *file, unsigned line,
                const char *key, const char *fmt, ...)
{
	struct report_item item = { .severity = severity, .line = line };
	va_list ap;

	if (!r)
		return;
	if (severity == REPORT_ERROR)
		r->errors++;
	else if (severity == REPORT_WARNING)
		r->warnings++;

	va_start(ap, fmt);
	if (r->len >= REPORT_MAX || vasprintf(&item.text, fmt, ap) < 0)
		item.text = NULL; /* vasprintf leaves it undefined on failure */
	va_end(ap);
	if (!item.text || !copy_string(file, &item.file) || !copy_string(key, &item.key) || !grow(r)) {
		item_done(&item);
		r->truncated = true;
		return;
	}
	r->items[r->len++] = item;
}

/* A line each: what a file or key brought along must not start another, nor command the terminal. */
static void print_clean(FILE *out, const char *s)
{
	size_t len = strlen(s);
	char *clean = strdup(s);

	if (!clean) {
		fputs("(out of memory)", out);
		return;
	}
	text_mask_controls(clean, len);
	fwrite(clean, 1, len, out);
	free(clean);
}

static void print_item(const struct report_item *item, FILE *out)
{
	static const char *const words[] = {
		[REPORT_ERROR] = "", [REPORT_WARNING] = "warning: ", [REPORT_NOTE] = "note: "
	};

	if (item->file) {
		print_clean(out, item->file);
		if (item->line)
			fprintf(out, ":%u", item->line);
		fputs(": ", out);
	} else if (item->line) {
		fprintf(out, "line %u: ", item->line);
	}
	if (item->key) {
		print_clean(out, item->key);
		fputs(": ", out);
	}
	fputs(words[item->severity], out);
	print_clean(out, item->text);
	fputc('\n', out);
}

void report_print(const struct report *r, FILE *out)
{
	for (size_t i = 0; i < r->len; i++)
		print_item(&r->items[i], out);
	if (r->truncated)
		fputs("(there are more findings)\n", out);
}

void report_done(struct report *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->len; i++)
		item_done(&r->items[i]);
	free(r->items);
	*r = (struct report)REPORT_INIT;
}
