/*
 * Reads and writes the text format of java.util.Properties.
 *
 * The reader goes over the bytes once, since all that has a meaning in the format is ASCII:
 * UTF-8 is validated before, and Latin-1 widened on the way. Where the manual page of the format
 * and OpenJDK's LineReader differ (a file that ends in a lone backslash, a comment after an empty
 * continued line), it does as LineReader.
 */
#include "format/properties.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/secmem.h"
#include "format/utf8.h"

enum {
	FIRST_ITEMS = 32,
	/* Up to here an insertion sort is faster than qsort, which allocates. */
	SMALL_SORT = 64,
};

/* Where the next byte of a kind is, so that each is searched for once over the whole text. */
struct finder {
	char byte;
	size_t at;
	bool valid;
};

struct parser {
	const char *text;
	size_t len, pos;
	unsigned line;
	bool widen;                  /* Latin-1 with bytes above 0x7f */
	char *out;                   /* where decoded text goes */
	struct finder lf, cr, slash;
	struct properties p;
	size_t cap, max_keys;
	struct error *err;
};

struct key_order {
	uint64_t hash;
	const struct property *item;
};

static void *take(bool secret, size_t n)
{
	return secret ? secmem_alloc(n) : malloc(n);
}

static bool is_white(char c)
{
	return c == ' ' || c == '\t' || c == '\f';
}

/* What ends a key: white space, '=' or ':'. */
static bool is_separator(char c)
{
	const uint64_t one = 1;
	const uint64_t set = one << ' ' | one << '\t' | one << '\f' | one << '=' | one << ':';

	return (unsigned char)c < 64 && (set >> c & 1);
}

static bool is_eol(char c)
{
	return c == '\n' || c == '\r';
}

static bool at_end(const struct parser *ps)
{
	return ps->pos >= ps->len || is_eol(ps->text[ps->pos]);
}

static void skip_white(struct parser *ps)
{
	while (ps->pos < ps->len && is_white(ps->text[ps->pos]))
		ps->pos++;
}

static void take_eol(struct parser *ps)
{
	if (ps->text[ps->pos] == '\r' && ps->pos + 1 < ps->len && ps->text[ps->pos + 1] == '\n')
		ps->pos++;
	ps->pos++;
	ps->line++;
}

/* True if the line ends here, but goes on in the next one (or in none). */
static bool at_continuation(const struct parser *ps)
{
	return ps->pos < ps->len && ps->text[ps->pos] == '\\' &&
	       (ps->pos + 1 == ps->len || is_eol(ps->text[ps->pos + 1]));
}

/* Skips what joins natural lines. The caller has read escapes in pairs, so a '\\' is not escaped. */
static void join_lines(struct parser *ps)
{
	while (at_continuation(ps)) {
		if (++ps->pos < ps->len)
			take_eol(ps);
		skip_white(ps);
	}
}

static size_t find_next(const struct parser *ps, struct finder *f)
{
	if (!f->valid || f->at < ps->pos) {
		const char *hit = memchr(ps->text + ps->pos, f->byte, ps->len - ps->pos);

		f->at = hit ? (size_t)(hit - ps->text) : ps->len;
		f->valid = true;
	}
	return f->at;
}

/* End of the natural line. */
static size_t line_end(struct parser *ps)
{
	size_t lf = find_next(ps, &ps->lf);
	size_t cr = find_next(ps, &ps->cr);

	return lf < cr ? lf : cr;
}

/* End of the part from pos that needs no thought. */
static size_t run_end(struct parser *ps, bool key)
{
	size_t end = line_end(ps);
	size_t slash = find_next(ps, &ps->slash);

	if (slash < end)
		end = slash;
	if (key) {
		size_t i = ps->pos;

		while (i < end && !is_separator(ps->text[i]))
			i++;
		return i;
	}
	return end;
}

static void copy_run(struct parser *ps, size_t end)
{
	if (!ps->widen) {
		memcpy(ps->out, ps->text + ps->pos, end - ps->pos);
		ps->out += end - ps->pos;
		ps->pos = end;
		return;
	}
	while (ps->pos < end)
		ps->out += utf8_encode((unsigned char)ps->text[ps->pos++], ps->out);
}

/* The four digits after "\u"; lines may be joined between them. */
static int decode_unit(struct parser *ps, char *start)
{
	uint32_t unit = 0;

	for (int i = 0; i < 4; i++) {
		int digit;

		join_lines(ps);
		digit = ps->pos < ps->len ? utf8_hex(ps->text[ps->pos]) : -1;
		if (digit < 0)
			return error_set(ps->err, EILSEQ, "malformed \\uXXXX: not four hexadecimal digits");
		unit = unit << 4 | (uint32_t)digit;
		ps->pos++;
	}
	ps->out = utf8_put_unit(start, ps->out, unit);
	return 0;
}

/* At a backslash that another character of the line follows. */
static int decode_escape(struct parser *ps, char *start)
{
	char c = ps->text[++ps->pos];

	switch (c) {
	case 'u':
		ps->pos++;
		return decode_unit(ps, start);
	case 't':
		*ps->out++ = '\t';
		break;
	case 'n':
		*ps->out++ = '\n';
		break;
	case 'r':
		*ps->out++ = '\r';
		break;
	case 'f':
		*ps->out++ = '\f';
		break;
	default:
		/* of a longer UTF-8 sequence this is the first byte, and the rest is ordinary */
		copy_run(ps, ps->pos + 1);
		return 0;
	}
	ps->pos++;
	return 0;
}

/* Decodes a key up to its separator, or a value up to the end of the logical line. */
static int decode(struct parser *ps, bool key, struct slice *ret)
{
	char *start = ps->out;
	int r;

	for (;;) {
		copy_run(ps, run_end(ps, key));
		if (ps->pos < ps->len && ps->text[ps->pos] == '\\')
			join_lines(ps);
		if (at_end(ps))
			break;
		if (ps->text[ps->pos] == '\\') {
			r = decode_escape(ps, start);
			if (r < 0)
				return r;
		} else if (key && is_separator(ps->text[ps->pos])) {
			break;
		}
	}
	*ret = slice_of(start, (size_t)(ps->out - start));
	return 0;
}

static void skip_separator(struct parser *ps)
{
	bool seen = false;

	for (;; ps->pos++) {
		join_lines(ps);
		if (at_end(ps))
			return;
		if (is_white(ps->text[ps->pos]))
			continue;
		if (seen || !is_separator(ps->text[ps->pos]))
			return;
		seen = true;
	}
}

/*
 * Goes to the first character of the next logical line. False: there is none. A backslash that
 * is the whole file's last line makes a line of its own, which is empty, unless "\r\n" follows it:
 * that is what LineReader does.
 */
static bool next_line(struct parser *ps)
{
	for (;;) {
		skip_white(ps);
		if (ps->pos >= ps->len)
			return false;
		if (is_eol(ps->text[ps->pos])) {
			take_eol(ps);
		} else if (ps->text[ps->pos] == '#' || ps->text[ps->pos] == '!') {
			ps->pos = line_end(ps);
		} else if (at_continuation(ps)) {
			if (ps->pos + 2 >= ps->len)
				return true;
			ps->pos++;
			take_eol(ps);
		} else {
			return true;
		}
	}
}

static int grow(struct parser *ps)
{
	size_t cap = ps->cap ? ps->cap * 2 : FIRST_ITEMS;
	struct property *items;

	if (ps->p.len >= ps->max_keys)
		return error_set(ps->err, E2BIG, "more than %zu keys", ps->max_keys);
	if (ps->p.len < ps->cap)
		return 0;
	items = ps->p.secret ? secmem_realloc(ps->p.items, cap * sizeof(*items))
	                     : realloc(ps->p.items, cap * sizeof(*items));
	if (!items)
		return error_set(ps->err, ENOMEM, "out of memory");
	ps->p.items = items;
	ps->cap = cap;
	return 0;
}

static int parse_lines(struct parser *ps)
{
	while (next_line(ps)) {
		struct property item = { .line = ps->line };
		int r = grow(ps);

		if (r == 0)
			r = decode(ps, true, &item.key);
		if (r < 0)
			return r;
		skip_separator(ps);
		item.value_start = ps->pos;
		r = decode(ps, false, &item.value);
		if (r < 0)
			return r;
		item.value_end = ps->pos;
		ps->p.items[ps->p.len++] = item;
	}
	return 0;
}

static unsigned line_of(struct slice text, size_t pos)
{
	unsigned line = 1;

	for (size_t i = 0; i < pos; i++) {
		if (text.data[i] == '\n' && i > 0 && text.data[i - 1] == '\r')
			continue;
		line += is_eol(text.data[i]);
	}
	return line;
}

/* Length of the part of text that is strict UTF-8. */
static size_t valid_utf8(struct slice text)
{
	size_t i = 0;

	for (;;) {
		uint32_t c;
		size_t n;

		i += utf8_ascii_len(text.data + i, text.len - i);
		if (i == text.len)
			return i;
		n = utf8_decode(text.data + i, text.len - i, &c);
		if (n == 0 || utf8_is_surrogate(c))
			return i;
		i += n;
	}
}

/* The most bytes that the decoded text can have: escapes only shrink. */
static size_t decoded_max(struct parser *ps, enum properties_charset charset)
{
	size_t high = 0;

	if (charset == PROPERTIES_LATIN1) {
		size_t i = utf8_ascii_len(ps->text, ps->len);

		for (; i < ps->len; i++)
			high += (ps->text[i] & 0x80) != 0;
	}
	ps->widen = high > 0;
	return ps->len + high;
}

/* Spreads keys well enough to tell most apart; equal hashes are only slower. */
static uint64_t hash_key(struct slice key)
{
	uint64_t h = key.len * UINT64_C(0x9e3779b97f4a7c15), word = 0;
	size_t i = 0;

	for (; key.len - i >= sizeof(word); i += sizeof(word)) {
		memcpy(&word, key.data + i, sizeof(word));
		h = (h ^ word) * UINT64_C(0xff51afd7ed558ccd);
		h ^= h >> 32;
	}
	word = 0;
	memcpy(&word, key.data + i, key.len - i);
	h = (h ^ word) * UINT64_C(0xff51afd7ed558ccd);
	return h ^ h >> 32;
}

static int compare_keys(const void *pa, const void *pb)
{
	const struct key_order *a = pa, *b = pb;
	int c;

	if (a->hash != b->hash)
		return a->hash < b->hash ? -1 : 1;
	if (a->item->key.len != b->item->key.len)
		return a->item->key.len < b->item->key.len ? -1 : 1;
	c = memcmp(a->item->key.data, b->item->key.data, a->item->key.len);
	if (c != 0)
		return c;
	return a->item < b->item ? -1 : a->item > b->item;
}

static void sort_keys(struct key_order *order, size_t n)
{
	if (n > SMALL_SORT) {
		qsort(order, n, sizeof(*order), compare_keys);
		return;
	}
	for (size_t i = 1; i < n; i++) {
		struct key_order moved = order[i];
		size_t j = i;

		for (; j > 0 && moved.hash <= order[j - 1].hash; j--) {
			if (compare_keys(&moved, &order[j - 1]) > 0)
				break;
			order[j] = order[j - 1];
		}
		order[j] = moved;
	}
}

static int mark_shadowed(struct properties *p, struct error *err)
{
	struct key_order small[SMALL_SORT], *order = small;

	if (p->len > SMALL_SORT) {
		order = malloc(p->len * sizeof(*order));
		if (!order)
			return error_set(err, ENOMEM, "out of memory");
	}
	for (size_t i = 0; i < p->len; i++)
		order[i] = (struct key_order){ hash_key(p->items[i].key), &p->items[i] };
	sort_keys(order, p->len);
	for (size_t i = 1; i < p->len; i++) {
		const struct property *a = order[i - 1].item, *b = order[i].item;

		if (order[i - 1].hash == order[i].hash && slice_eq(a->key, b->key))
			p->items[a - p->items].shadowed = true;
	}
	if (order != small)
		free(order);
	return 0;
}

static void set_line(unsigned *ret_line, unsigned line)
{
	if (ret_line)
		*ret_line = line;
}

int properties_parse(struct slice text, enum properties_charset charset, bool secret, size_t max_keys,
                     struct properties *ret, unsigned *ret_line, struct error *ret_err)
{
	struct parser ps = {
		.text = text.len ? text.data : "", .len = text.len, .line = 1,
		.lf = { .byte = '\n' }, .cr = { .byte = '\r' }, .slash = { .byte = '\\' },
		.p = { .secret = secret }, .max_keys = max_keys, .err = ret_err,
	};
	int r;

	if (charset == PROPERTIES_UTF8) {
		size_t valid = valid_utf8(slice_of(ps.text, ps.len));

		if (valid < text.len) {
			set_line(ret_line, line_of(text, valid));
			return error_set(ret_err, EILSEQ, "malformed UTF-8");
		}
	}
	ps.p.pool = take(secret, decoded_max(&ps, charset) + 1);
	if (!ps.p.pool) {
		set_line(ret_line, 0);
		return error_set(ret_err, ENOMEM, "out of memory");
	}
	ps.out = ps.p.pool;
	r = parse_lines(&ps);
	if (r == 0) {
		ps.line = 0;
		r = mark_shadowed(&ps.p, ret_err);
	}
	if (r < 0) {
		set_line(ret_line, r == -ENOMEM ? 0 : ps.line);
		properties_done(&ps.p);
		return r;
	}
	*ret = ps.p;
	return 0;
}

const struct property *properties_find(const struct properties *p, struct slice key)
{
	for (size_t i = p->len; i-- > 0;) {
		if (slice_eq(p->items[i].key, key))
			return &p->items[i];
	}
	return NULL;
}

void properties_done(struct properties *p)
{
	if (p->secret) {
		secmem_free(p->items);
		secmem_free(p->pool);
	} else {
		free(p->items);
		free(p->pool);
	}
	*p = (struct properties)PROPERTIES_INIT;
}

static char *put_hex(char *out, uint32_t unit)
{
	static const char digits[] = "0123456789abcdef";

	*out++ = '\\';
	*out++ = 'u';
	for (int shift = 12; shift >= 0; shift -= 4)
		*out++ = digits[unit >> shift & 0xf];
	return out;
}

/* Writes the escape of the character at s, which is not plain, and returns its length in s. */
static size_t put_escape(struct buf *out, const char *s, size_t len, int *ret)
{
	static const char from[] = "\t\n\r\f", to[] = "tnrf";
	char escape[12], *end = escape;
	uint32_t c = 0xfffd; /* what no caller should give is replaced, as Java does */
	size_t n = utf8_decode(s, len, &c);
	const char *known = c > 0 && c < 0x80 ? strchr(from, (char)c) : NULL;

	if (c >= 0x20 && c <= 0x7e) {
		*end++ = '\\';
		*end++ = (char)c;
	} else if (known) {
		*end++ = '\\';
		*end++ = to[known - from];
	} else if (c >= 0x10000) {
		end = put_hex(end, 0xd800 + ((c - 0x10000) >> 10));
		end = put_hex(end, 0xdc00 + ((c - 0x10000) & 0x3ff));
	} else {
		end = put_hex(end, c);
	}
	*ret = buf_add(out, escape, (size_t)(end - escape));
	return n ? n : 1;
}

static bool is_plain(char c, bool first, bool key)
{
	if ((unsigned char)c < 0x20 || (unsigned char)c > 0x7e || c == '\\')
		return false;
	if (c == ' ' || c == '=' || c == ':')
		return !first && !key;
	return !(first && key && (c == '#' || c == '!'));
}

static int write_escaped(struct buf *out, struct slice s, bool key)
{
	size_t i = 0;
	int r = 0;

	while (i < s.len && r == 0) {
		size_t start = i;

		while (i < s.len && is_plain(s.data[i], i == 0, key))
			i++;
		if (i > start)
			r = buf_add(out, s.data + start, i - start);
		if (i < s.len && r == 0)
			i += put_escape(out, s.data + i, s.len - i, &r);
	}
	return r;
}

int properties_write_value(struct buf *out, struct slice value)
{
	return write_escaped(out, value, false);
}

int properties_write_key(struct buf *out, struct slice key)
{
	return write_escaped(out, key, true);
}
