/*
 * JSON configs: jansson says whether the text is valid, and a scanner, which may then trust the
 * text, finds where the values are.
 *
 * jansson's own messages quote the text near the error, which may be a secret, and so are never
 * shown. Its strings lose their place and its numbers their form, and so only the form and the
 * number of the members are taken from its tree.
 */
#include "format/json.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include <jansson.h>

#include "format/limits.h"
#include "format/utf8.h"

struct scanner {
	struct slice text;
	const char *p, *end; /* in the text, which is valid: end is met only by mistake */
	unsigned line;
	char *out;           /* where decoded text goes */
	struct error *err;
};

/* What jansson knows of a text. */
struct outline {
	enum json_form form;
	size_t n_members;
};

static int fail_memory(unsigned *ret_line, struct error *err)
{
	if (ret_line)
		*ret_line = 0;
	return error_set(err, ENOMEM, "out of memory");
}

static const char *explain(enum json_error_code code)
{
	switch (code) {
	case json_error_stack_overflow:
		return "JSON is nested too deeply";
	case json_error_invalid_utf8:
		return "malformed UTF-8";
	case json_error_premature_end_of_input:
		return "JSON ends too early";
	case json_error_end_of_input_expected:
		return "something follows the end of the JSON";
	case json_error_null_character:
	case json_error_null_byte_in_key:
		return "JSON has a NUL character";
	case json_error_numeric_overflow:
		return "JSON has a number that is too large";
	default:
		return "not valid JSON";
	}
}

static int fail_syntax(const json_error_t *e, unsigned *ret_line, struct error *err)
{
	enum json_error_code code = json_error_code(e);

	if (ret_line)
		*ret_line = e->line > 0 ? (unsigned)e->line : 0;
	if (code == json_error_duplicate_key)
		return error_set(err, EEXIST, "a key occurs twice (column %d)", e->column);
	return error_set(err, EINVAL, "%s (column %d)", explain(code), e->column);
}

/* The column in characters of a place in the text, from 1. */
static int column_of(struct slice text, const char *p)
{
	int column = 1;

	while (p > text.data && p[-1] != '\n') {
		p--;
		column += ((unsigned char)*p & 0xc0) != 0x80;
	}
	return column;
}

static unsigned line_of(struct slice text, const char *p)
{
	unsigned line = 1;

	while (p > text.data)
		line += *--p == '\n';
	return line;
}

/* Jackson skips a byte order mark, too. */
static size_t bom_len(struct slice text)
{
	return text.len >= 3 && memcmp(text.data, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
}

/* From an opening quote to the closing one, or to the last character. */
static const char *string_end(const char *p, const char *end)
{
	for (p++; p < end && *p != '"'; p++)
		if (*p == '\\' && end - p > 1)
			p++;
	return p < end ? p : end - 1;
}

/*
 * jansson builds a tree of all that it reads, so what it may have to build is bounded before: the
 * number of values and their depth. Of invalid text all that comes before the first error is
 * counted as jansson sees it, and that is where jansson ends.
 */
static int check_limits(struct slice text, unsigned *ret_line, struct error *err)
{
	const char *end = text.data + text.len, *p;
	size_t n = 1, depth = 0;
	bool opened = false; /* just now: what comes next is the first value of an object or array */

	for (p = text.data; p < end && n <= LIMIT_JSON_VALUES && depth <= LIMIT_JSON_DEPTH; p++) {
		if (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')
			continue;
		if (*p == ']' || *p == '}') {
			opened = false;
			depth -= depth > 0;
			continue;
		}
		n += opened || *p == ',';
		opened = *p == '[' || *p == '{';
		depth += opened;
		if (*p == '"')
			p = string_end(p, end);
	}
	if (n <= LIMIT_JSON_VALUES && depth <= LIMIT_JSON_DEPTH)
		return 0;
	p--;
	if (ret_line)
		*ret_line = line_of(text, p);
	if (depth > LIMIT_JSON_DEPTH)
		return error_set(err, EINVAL, "%s (column %d)", explain(json_error_stack_overflow),
		                 column_of(text, p));
	return error_set(err, E2BIG, "more than %d values (column %d)", LIMIT_JSON_VALUES,
	                 column_of(text, p));
}

/*
 * Validates. jansson does not always tell that memory ran out (it takes a string that could not
 * be copied for a syntax error), but errno does.
 */
static int validate(struct slice text, struct outline *ret, unsigned *ret_line, struct error *err)
{
	const json_t *config;
	json_error_t e;
	json_t *root;

	errno = 0;
	root = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &e);
	if (errno == ENOMEM || (!root && (json_error_code(&e) == json_error_out_of_memory ||
	                                  json_error_code(&e) == json_error_unknown))) {
		json_decref(root);
		return fail_memory(ret_line, err);
	}
	if (!root)
		return fail_syntax(&e, ret_line, err);
	if (!json_is_object(root)) {
		json_decref(root);
		if (ret_line)
			*ret_line = 1;
		return error_set(err, EINVAL, "not a JSON object");
	}
	config = json_object_get(root, "config");
	ret->form = json_is_object(config) ? JSON_REQUEST : JSON_FLAT;
	ret->n_members = json_object_size(json_is_object(config) ? config : root);
	json_decref(root);
	return 0;
}

static char peek(const struct scanner *s)
{
	return s->p < s->end ? *s->p : '\0';
}

/* Skips white space, and c if it is there. True if it was. */
static bool skip(struct scanner *s, char c)
{
	for (; s->p < s->end; s->p++) {
		if (*s->p == '\n')
			s->line++;
		else if (*s->p != ' ' && *s->p != '\t' && *s->p != '\r')
			break;
	}
	if (c == '\0' || peek(s) != c)
		return false;
	s->p++;
	return true;
}

static void decode_escape(struct scanner *s, char *start)
{
	static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
	char c = *s->p++;
	const char *known = strchr(from, c);
	uint32_t unit = 0;

	if (c != 'u') {
		*s->out++ = known && c ? to[known - from] : c;
		return;
	}
	for (int i = 0; i < 4 && s->p < s->end; i++)
		unit = unit << 4 | ((uint32_t)utf8_hex(*s->p++) & 0xf);
	s->out = utf8_put_unit(start, s->out, unit);
}

/* At the opening quote. */
static struct slice scan_string(struct scanner *s)
{
	char *start = s->out;

	for (s->p++; s->p < s->end && *s->p != '"';) {
		const char *run = s->p;

		while (s->p < s->end && *s->p != '"' && *s->p != '\\')
			s->p++;
		memcpy(s->out, run, (size_t)(s->p - run));
		s->out += s->p - run;
		if (s->end - s->p >= 2 && *s->p == '\\') {
			s->p++;
			decode_escape(s, start);
		}
	}
	if (s->p < s->end)
		s->p++;
	return slice_of(start, (size_t)(s->out - start));
}

/* A number, true, false or null, as written. */
static struct slice scan_bare(struct scanner *s)
{
	char *start = s->out;

	while (s->p < s->end && *s->p != '\0' && !strchr(",]} \t\r\n", *s->p))
		*s->out++ = *s->p++;
	return slice_of(start, (size_t)(s->out - start));
}

static bool at_nested(const struct scanner *s)
{
	return peek(s) == '{' || peek(s) == '[';
}

/* Skips a value of any kind, without recursion. */
static void skip_value(struct scanner *s)
{
	size_t depth = 0;

	while (s->p < s->end) {
		char *out = s->out;
		char c;

		skip(s, '\0');
		c = peek(s);
		if (c == '"') {
			scan_string(s);
			s->out = out;
		} else {
			if (c == '{' || c == '[')
				depth++;
			if (depth == 0)
				scan_bare(s);
			else
				s->p++;
			if (c == '}' || c == ']')
				depth--;
			s->out = out;
		}
		if (depth == 0)
			return;
	}
}

/* A scalar. A string, or what Jackson makes of it where a string is wanted. */
static void scan_scalar(struct scanner *s, struct json_member *ret)
{
	ret->value_start = (size_t)(s->p - s->text.data);
	if (peek(s) == '"') {
		ret->value = scan_string(s);
	} else {
		ret->value = scan_bare(s);
		ret->is_null = slice_eq_str(ret->value, "null");
		if (ret->is_null)
			ret->value.len = 0;
	}
	ret->value_end = (size_t)(s->p - s->text.data);
}

/* Goes to the next member of an object and reads its key; the value is next. False: no more. */
static bool next_member(struct scanner *s, struct json_member *ret)
{
	skip(s, ',');
	skip(s, '\0');
	if (peek(s) != '"')
		return false;
	*ret = (struct json_member){ .line = s->line };
	ret->key = scan_string(s);
	skip(s, ':');
	skip(s, '\0');
	return true;
}

/* The members of the config, whose opening brace is next. */
static int scan_config(struct scanner *s, size_t n_members, struct json_config *c)
{
	struct json_member item;

	skip(s, '{');
	while (next_member(s, &item)) {
		if (at_nested(s))
			return error_set(s->err, EINVAL,
			                 "the value of \"%.*s\" is an object or array (column %d)",
			                 SLICE_FMT(item.key), column_of(s->text, s->p));
		if (c->len == n_members) /* a tree that lost members, for want of memory */
			return error_set(s->err, ENOMEM, "out of memory");
		scan_scalar(s, &item);
		c->items[c->len++] = item;
	}
	skip(s, '}');
	return 0;
}

/* A request: its config and its name. */
static int scan_request(struct scanner *s, size_t n_members, struct json_config *c)
{
	struct json_member item;

	skip(s, '{');
	while (next_member(s, &item)) {
		int r = 0;

		if (slice_eq_str(item.key, "config")) {
			r = scan_config(s, n_members, c);
		} else if (slice_eq_str(item.key, "name") && !at_nested(s)) {
			scan_scalar(s, &item);
			c->name = item.value;
		} else {
			skip_value(s);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

int json_config_parse(struct slice text, size_t max_keys, struct json_config *ret, unsigned *ret_line,
                      struct error *ret_err)
{
	struct json_config c = JSON_CONFIG_INIT;
	size_t bom = bom_len(text);
	struct outline outline = { JSON_FLAT, 0 };
	struct scanner s;
	int r;

	text = text.len ? slice_of(text.data + bom, text.len - bom) : SLICE_LIT("");
	r = check_limits(text, ret_line, ret_err);
	if (r == 0)
		r = validate(text, &outline, ret_line, ret_err);
	if (r < 0)
		return r;
	if (outline.n_members > max_keys) {
		if (ret_line)
			*ret_line = 0;
		return error_set(ret_err, E2BIG, "more than %zu keys", max_keys);
	}
	c.form = outline.form;
	c.items = malloc((outline.n_members + 1) * sizeof(*c.items));
	c.pool = malloc(text.len + 1); /* escapes only shrink */
	if (!c.items || !c.pool) {
		json_config_done(&c);
		return fail_memory(ret_line, ret_err);
	}
	s = (struct scanner){ text, text.data, text.data + text.len, 1, c.pool, ret_err };
	r = c.form == JSON_REQUEST ? scan_request(&s, outline.n_members, &c)
	                           : scan_config(&s, outline.n_members, &c);
	if (r < 0) {
		if (ret_line)
			*ret_line = r == -ENOMEM ? 0 : s.line;
		json_config_done(&c);
		return r;
	}
	for (size_t i = 0; i < c.len; i++) {
		c.items[i].value_start += bom;
		c.items[i].value_end += bom;
	}
	*ret = c;
	return 0;
}

void json_config_done(struct json_config *c)
{
	free(c->items);
	free(c->pool);
	*c = (struct json_config)JSON_CONFIG_INIT;
}

/* The escape of the character at s, which is not plain. Returns its length in s. */
static size_t put_escape(struct buf *out, const char *s, size_t len, int *ret)
{
	static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
	uint32_t c;
	size_t n = utf8_decode(s, len, &c);
	const char *known = n == 1 && c ? strchr(from, (char)c) : NULL;

	if (n == 0)
		*ret = buf_add_str(out, "\xef\xbf\xbd"); /* U+FFFD, as Java does */
	else if (known)
		*ret = buf_add(out, (const char[]){ '\\', to[known - from] }, 2);
	else if (c < 0x20 || utf8_is_surrogate(c))
		*ret = buf_addf(out, "\\u%04x", (unsigned)c);
	else
		*ret = buf_add(out, s, n);
	return n ? n : 1;
}

static bool is_plain(char c)
{
	return (unsigned char)c >= 0x20 && !(c & 0x80) && c != '"' && c != '\\';
}

int json_write_string(struct buf *out, struct slice value)
{
	int r = buf_add_char(out, '"');
	size_t i = 0;

	while (i < value.len && r == 0) {
		size_t start = i;

		while (i < value.len && is_plain(value.data[i]))
			i++;
		if (i > start)
			r = buf_add(out, value.data + start, i - start);
		if (i < value.len && r == 0)
			i += put_escape(out, value.data + i, value.len - i, &r);
	}
	return r < 0 ? r : buf_add_char(out, '"');
}
