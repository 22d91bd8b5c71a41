/*
 * Error sentences: formatted, cut to size and made safe for one log line.
 */
#include "base/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Length of s without a UTF-8 character that is cut off at its end. */
static size_t whole_chars(const char *s, size_t len)
{
	size_t back = 0;
	size_t want = 1;

	while (back < 4 && back < len && ((unsigned char)s[len - 1 - back] & 0xc0) == 0x80)
		back++;
	if (back == len || back == 4)
		return len; /* no UTF-8: nothing to save */
	unsigned char lead = (unsigned char)s[len - 1 - back];
	if (lead >= 0xf0)
		want = 4;
	else if (lead >= 0xe0)
		want = 3;
	else if (lead >= 0xc0)
		want = 2;
	return back + 1 < want ? len - 1 - back : len;
}

static void mask_controls(char *s)
{
	unsigned char *p = (unsigned char *)s;

	for (; *p; p++) {
		if (*p < 0x20 || *p == 0x7f) {
			*p = '?';
		} else if (*p == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f) {
			/* U+0080…U+009F: a terminal takes them for escape sequences */
			p[0] = '?';
			p[1] = '?';
		}
	}
}

/* Joins prefix and text into err. Both may point into err->text. */
static void set_text(struct error *err, const char *prefix, const char *text)
{
	char joined[ERROR_TEXT_MAX + 1];
	int n = snprintf(joined, sizeof(joined), "%s%s", prefix, text);

	if (n < 0)
		joined[0] = '\0';
	else if ((size_t)n >= sizeof(joined))
		joined[whole_chars(joined, sizeof(joined) - 1)] = '\0';
	mask_controls(joined);
	memcpy(err->text, joined, strlen(joined) + 1);
}

/* vsnprintf into room of ERROR_TEXT_MAX + 1 bytes, cut between characters. */
static void format_text(char *ret, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
static void format_text(char *ret, const char *fmt, va_list ap)
{
	int n = vsnprintf(ret, ERROR_TEXT_MAX + 1, fmt, ap);

	if (n < 0)
		ret[0] = '\0';
	else if (n > ERROR_TEXT_MAX)
		ret[whole_chars(ret, ERROR_TEXT_MAX)] = '\0';
}

int error_vset(struct error *err, int code, const char *fmt, va_list ap)
{
	char text[ERROR_TEXT_MAX + 1]; /* not err->text at once: an argument may point into it */

	if (err) {
		format_text(text, fmt, ap);
		set_text(err, "", text);
		err->code = code;
	}
	return -code;
}

int error_set(struct error *err, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int r = error_vset(err, code, fmt, ap);
	va_end(ap);
	return r;
}

int error_prefix(struct error *err, const char *fmt, ...)
{
	char prefix[ERROR_TEXT_MAX + 1];
	va_list ap;

	if (!err)
		return -EIO; /* never 0: the caller is on its way out of a failure */
	va_start(ap, fmt);
	format_text(prefix, fmt, ap);
	va_end(ap);
	set_text(err, prefix, err->text);
	return -err->code;
}
