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

bool text_is_control(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0xd800 && c <= 0xdfff) || c == 0x061c ||
	       (c >= 0x200e && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

size_t text_first_char(const char *text, size_t len, uint32_t *ret)
{
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const unsigned char *s = (const unsigned char *)text;
	size_t n = s[0] < 0xc0 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf8 ? 4 : 1;
	uint32_t c = n == 1 ? s[0] : s[0] & (0x7fu >> n);

	*ret = s[0];
	if (n > len)
		return 1;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 1;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (c < smallest[n])
		return 1;
	*ret = c;
	return n;
}

void text_mask_controls(char *s, size_t len)
{
	uint32_t c;

	for (size_t at = 0, n; at < len; at += n) {
		n = text_first_char(s + at, len - at, &c);
		if (text_is_control(c))
			memset(s + at, '?', n);
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
	text_mask_controls(joined, strlen(joined));
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
