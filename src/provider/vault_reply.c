/*
 * Answers of Vault.
 */
#include "provider/vault_reply.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/secmem.h"

enum {
	VALUE_MAX = 4 * 1024 * 1024,
	STATIC_LAST_MS = 200,     /* a static role is read so often while its rotation is near */
	DOTS_MAX = 32,
	TOKEN_MIN = 16,           /* of what is masked in errors */
};

/* ---- the envelope ---- */

/* Of text alone: jansson recurses, and a stack has an end; and its tree takes many times the bytes of small values. */
static int check_size(struct slice s, struct error *err)
{
	size_t depth = 0, values = 1;
	bool in_string = false;

	for (size_t i = 0; i < s.len; i++) {
		char c = s.data[i];

		if (in_string && c == '\\') {
			i++;
		} else if (c == '"') {
			in_string = !in_string;
		} else if (in_string) {
			continue;
		} else if (c == '{' || c == '[') {
			depth++;
			values++;
		} else if ((c == '}' || c == ']') && depth) {
			depth--;
		} else if (c == ',') {
			values++;
		}
		if (depth > VAULT_JSON_DEPTH)
			return error_set(err, EPROTO, "the answer is JSON of more than %d levels", VAULT_JSON_DEPTH);
		if (values > VAULT_JSON_VALUES)
			return error_set(err, EPROTO, "the answer has more than %d values", VAULT_JSON_VALUES);
	}
	return 0;
}

static bool looks_like_html(struct slice s)
{
	size_t i = 0;

	while (i < s.len && isspace((unsigned char)s.data[i]))
		i++;
	return i < s.len && s.data[i] == '<';
}

/* ---- numbers ----
 *
 * Vault gives a number as it was written; jansson would round what is more than an int64. So each number with a
 * fraction, an exponent or too many digits is put aside, and what jansson reads in its place is a real: where its text
 * is, plus a half. All reals of the tree are such.
 */

enum { EXACT_DIGITS = 18 };

static size_t count_digits(struct slice s, size_t pos)
{
	size_t n = 0;

	while (pos + n < s.len && isdigit((unsigned char)s.data[pos + n]))
		n++;
	return n;
}

/* The length of the JSON number at pos; 0: there is none. */
static size_t number_len(struct slice s, size_t pos, bool *ret_exact)
{
	size_t at = pos, n, tail;

	at += s.data[at] == '-';
	n = count_digits(s, at);
	if (!n)
		return 0;
	if (s.data[at] == '0') /* "01" is none */
		n = 1;
	*ret_exact = n <= EXACT_DIGITS && !(at > pos && s.data[at] == '0');
	at += n;
	tail = at < s.len && s.data[at] == '.' ? count_digits(s, at + 1) : 0;
	if (tail) {
		*ret_exact = false;
		at += 1 + tail;
	}
	if (at < s.len && (s.data[at] == 'e' || s.data[at] == 'E')) {
		size_t sign = at + 1 < s.len && (s.data[at + 1] == '+' || s.data[at + 1] == '-');

		tail = count_digits(s, at + 1 + sign);
		if (tail) {
			*ret_exact = false;
			at += 1 + sign + tail;
		}
	}
	return at - pos;
}

/* The body with such numbers replaced; it has none of them: both stay empty. */
static int put_numbers_aside(struct slice body, struct buf *out, struct buf *numbers)
{
	bool in_string = false, exact = true;
	size_t from = 0;

	for (size_t i = 0, n; i < body.len; i += n) {
		char c = body.data[i], place[32];

		n = 1;
		if (in_string && c == '\\') {
			n = 2;
		} else if (c == '"') {
			in_string = !in_string;
		} else if (!in_string && (c == '-' || isdigit((unsigned char)c))) {
			n = number_len(body, i, &exact);
			if (n && !exact) {
				/* The blanks keep "1-2.5" from becoming a number. */
				(void)snprintf(place, sizeof(place), " %zu.5 ", numbers->len);
				buf_add(out, body.data + from, i - from);
				buf_add_str(out, place);
				buf_add(numbers, body.data + i, n);
				buf_add_char(numbers, '\0');
				from = i + n;
			}
			n += !n;
		}
	}
	if (from)
		buf_add(out, body.data + from, body.len - from);
	return out->err ? out->err : numbers->err;
}

/* *ret_numbers: secret memory, NULL where there are none. */
static int load(struct slice body, json_t **ret_root, char **ret_numbers, struct error *ret_err)
{
	struct buf text, numbers;
	json_error_t e = { .line = 0 };
	json_t *root = NULL;
	int err;

	buf_init_secret(&text, 8 * body.len + 64);
	buf_init_secret(&numbers, 2 * body.len + 64);
	err = put_numbers_aside(body, &text, &numbers);
	if (!err) {
		if (numbers.len)
			body = buf_slice(&text);
		errno = 0;
		root = json_loadb(body.data, body.len, JSON_ALLOW_NUL, &e);
		/* jansson may take a failed allocation for a wrong token, or say nothing. */
		if (!root && (errno == ENOMEM || !e.text[0] || json_error_code(&e) == json_error_out_of_memory))
			err = -ENOMEM;
		else if (!root)
			err = -EPROTO;
	}
	if (!err && numbers.len)
		*ret_numbers = buf_steal(&numbers, NULL);
	buf_free(&text);
	buf_free(&numbers);
	if (err)
		return error_set(ret_err, -err, err == -EPROTO ? "the answer is no JSON object" : "out of memory");
	*ret_root = root;
	return 0;
}

/* ---- members ---- */

static struct slice string_of(const json_t *v)
{
	return json_is_string(v) ? slice_of(json_string_value(v), json_string_length(v)) : slice_of("", 0);
}

static bool is_absent(const json_t *v)
{
	return !v || json_is_null(v);
}

/* Seconds: a number, or nothing. */
static int64_t seconds_of(const json_t *v)
{
	int64_t s = json_is_integer(v) ? json_integer_value(v) : 0;

	return s < 0 ? 0 : s > INT32_MAX ? INT32_MAX : s;
}

/* A server may quote what it was sent. What could be a token, a secret id or a part of a JSON web token becomes dots:
 * letters and digits in a row, in which there are both. */
static void mask_tokens(char *s)
{
	static const char also[] = "_-.+=";

	while (*s) {
		size_t n = 0;
		bool letter = false, digit = false;

		for (; s[n] && (isalnum((unsigned char)s[n]) || strchr(also, s[n])); n++) {
			letter = letter || isalpha((unsigned char)s[n]);
			digit = digit || isdigit((unsigned char)s[n]);
		}
		if (n >= TOKEN_MIN && letter && digit)
			memset(s, '.', n);
		s += n ? n : 1;
	}
}

static void take_errors(struct vault_reply *r)
{
	const json_t *errors = json_object_get(r->root, "errors");
	size_t len = 0;

	for (size_t i = 0; i < json_array_size(errors) && i < VAULT_ERRORS_SHOWN; i++) {
		struct slice one = string_of(json_array_get(errors, i));
		int n;

		if (len + 4 >= sizeof(r->errors))
			break;
		n = snprintf(r->errors + len, sizeof(r->errors) - len, "%s%.*s", len ? "; " : "",
		             (int)(one.len < sizeof(r->errors) ? one.len : sizeof(r->errors)), one.data);
		len += n > 0 ? (size_t)n : 0;
	}
	for (char *p = r->errors; *p; p++) /* go-multierror's lines */
		if (isspace((unsigned char)*p))
			*p = ' ';
	mask_tokens(r->errors);
	text_mask_controls(r->errors, strlen(r->errors));
}

static void take_auth(struct vault_reply *r, const json_t *auth)
{
	r->has_auth = json_is_object(auth);
	if (!r->has_auth)
		return;
	r->auth.token = string_of(json_object_get(auth, "client_token"));
	r->auth.lease_s = seconds_of(json_object_get(auth, "lease_duration"));
	r->auth.renewable = json_is_true(json_object_get(auth, "renewable"));
	r->auth.batch = slice_eq_str(string_of(json_object_get(auth, "token_type")), "batch");
	r->auth.mfa = !is_absent(json_object_get(auth, "mfa_requirement"));
	r->auth.num_uses = seconds_of(json_object_get(auth, "num_uses"));
}

static void take_wrap(struct vault_reply *r, const json_t *wrap)
{
	r->has_wrap = json_is_object(wrap);
	r->wrap_token = string_of(json_object_get(wrap, "token"));
	r->wrap_path = string_of(json_object_get(wrap, "creation_path"));
}

static bool is_type(const json_t *root, const char *key, json_type type)
{
	const json_t *v = json_object_get(root, key);

	return is_absent(v) || json_typeof(v) == type;
}

int vault_reply_parse(struct slice body, struct vault_reply *ret, struct error *ret_err)
{
	struct vault_reply r = { .root = NULL };
	bool renewable;
	int err;

	while (body.len && isspace((unsigned char)body.data[body.len - 1]))
		body.len--;
	if (!body.len) {
		*ret = r;
		return 0;
	}
	if (looks_like_html(body))
		return error_set(ret_err, EPROTO, "HTML came in place of JSON: is that Vault, or a proxy before it?");
	err = check_size(body, ret_err);
	if (err)
		return err;
	err = load(body, &r.root, &r.numbers, ret_err);
	if (err)
		return err;
	if (!json_is_object(r.root)) {
		vault_reply_done(&r);
		return error_set(ret_err, EPROTO, "the answer is no JSON object");
	}
	renewable = is_absent(json_object_get(r.root, "renewable")) ||
	            json_is_boolean(json_object_get(r.root, "renewable"));
	if (!renewable || !is_type(r.root, "lease_id", JSON_STRING) || !is_type(r.root, "errors", JSON_ARRAY) ||
	    !is_type(r.root, "lease_duration", JSON_INTEGER) || !is_type(r.root, "auth", JSON_OBJECT) ||
	    !is_type(r.root, "wrap_info", JSON_OBJECT)) {
		vault_reply_done(&r);
		return error_set(ret_err, EPROTO, "the answer is not in the form of Vault's");
	}
	r.lease_id = string_of(json_object_get(r.root, "lease_id"));
	r.lease_s = seconds_of(json_object_get(r.root, "lease_duration"));
	r.renewable = json_is_true(json_object_get(r.root, "renewable"));
	r.has_data = json_is_object(json_object_get(r.root, "data"));
	take_auth(&r, json_object_get(r.root, "auth"));
	take_wrap(&r, json_object_get(r.root, "wrap_info"));
	take_errors(&r);
	*ret = r;
	return 0;
}

void vault_reply_done(struct vault_reply *r)
{
	json_decref(r->root);
	secmem_free(r->numbers);
	*r = (struct vault_reply){ .root = NULL };
}

bool vault_reply_says(const struct vault_reply *r, const char *text)
{
	return strstr(r->errors, text);
}

/* ---- values ---- */

static int add_dumped(const char *data, size_t len, void *arg)
{
	return buf_add(arg, data, len) < 0 ? -1 : 0;
}

/* Compact; its depth is bounded by that of the answer. */
static void add_value(struct buf *out, const json_t *v, const char *numbers)
{
	const char *key;
	size_t i, key_len;
	json_t *item;
	void *at;

	switch (json_typeof(v)) {
	case JSON_OBJECT:
		buf_add_char(out, '{');
		for (at = json_object_iter((json_t *)(uintptr_t)v), i = 0; at;
		     at = json_object_iter_next((json_t *)(uintptr_t)v, at), i++) {
			key = json_object_iter_key(at);
			key_len = json_object_iter_key_len(at);
			item = json_stringn(key, key_len);
			if (i)
				buf_add_char(out, ',');
			if (!item || json_dump_callback(item, add_dumped, out, JSON_ENCODE_ANY) != 0)
				out->err = out->err ? out->err : -ENOMEM;
			json_decref(item);
			buf_add_char(out, ':');
			add_value(out, json_object_iter_value(at), numbers);
		}
		buf_add_char(out, '}');
		break;
	case JSON_ARRAY:
		buf_add_char(out, '[');
		for (i = 0; i < json_array_size(v); i++) {
			if (i)
				buf_add_char(out, ',');
			add_value(out, json_array_get(v, i), numbers);
		}
		buf_add_char(out, ']');
		break;
	case JSON_REAL:
		buf_add_str(out, numbers + (size_t)json_real_value(v));
		break;
	default:
		if (json_dump_callback(v, add_dumped, out, JSON_ENCODE_ANY | JSON_COMPACT) != 0 && !out->err)
			out->err = -ENOMEM;
	}
}

/* In secret memory. NULL value: out of memory. */
static struct slice value_text(const json_t *v, const char *numbers)
{
	struct buf out;
	char *text;
	size_t len = 0;

	buf_init_secret(&out, VALUE_MAX);
	if (json_is_string(v))
		buf_add(&out, json_string_value(v), json_string_length(v));
	else
		add_value(&out, v, numbers);
	if (out.err) {
		buf_free(&out);
		return slice_of(NULL, 0);
	}
	text = buf_steal(&out, &len);
	return slice_of(text, len);
}

static const json_t *member(const json_t *of, const char *key, size_t len)
{
	char index[16], *end;
	unsigned long i;

	if (json_is_object(of))
		return json_object_getn(of, key, len);
	if (!json_is_array(of) || !len || len >= sizeof(index) || !isdigit((unsigned char)key[0]))
		return NULL;
	memcpy(index, key, len);
	index[len] = '\0';
	i = strtoul(index, &end, 10);
	return *end ? NULL : json_array_get(of, i);
}

/* The flat key goes before the path that it may be read as. */
static const json_t *find(const json_t *data, struct slice field)
{
	const json_t *v = json_object_getn(data, field.data ? field.data : "", field.len);
	int dots = 0;

	if (v || !field.len || !memchr(field.data, '.', field.len))
		return v;
	v = data;
	for (size_t pos = 0, end; pos <= field.len && v && dots++ < DOTS_MAX; pos = end + 1) {
		const char *dot = memchr(field.data + pos, '.', field.len - pos);

		end = dot ? (size_t)(dot - field.data) : field.len;
		v = member(v, field.data + pos, end - pos);
		if (!dot)
			return v;
	}
	return NULL;
}

static int add_field(struct vault_secret *s, struct slice key, const json_t *v, const char *numbers)
{
	struct slice value;

	if (is_absent(v))
		return 0;
	value = value_text(v, numbers);
	if (!value.data)
		return -ENOMEM;
	s->fields[s->n_fields++] = (struct secret_field){ key, value };
	return 0;
}

static bool is_wanted(const struct slice *wanted, size_t n, struct slice key)
{
	for (size_t i = 0; i < n; i++)
		if (slice_eq(wanted[i], key))
			return true;
	return false;
}

/* all: what nobody wants yet as well, since to ask again would make another. */
static int take_fields(struct vault_secret *s, const struct vault_reply *r, const json_t *data,
                       const struct slice *wanted, size_t n, bool all)
{
	int err = 0;
	void *at;

	s->fields = calloc(n + json_object_size(data) + 1, sizeof(s->fields[0]));
	if (!s->fields)
		return -ENOMEM;
	for (size_t i = 0; i < n && !err; i++)
		err = add_field(s, wanted[i], find(data, wanted[i]), r->numbers);
	for (at = json_object_iter((json_t *)(uintptr_t)data); at && all && !err;
	     at = json_object_iter_next((json_t *)(uintptr_t)data, at)) {
		struct slice key = slice_of(json_object_iter_key(at), json_object_iter_key_len(at));

		if (!is_wanted(wanted, n, key))
			err = add_field(s, key, json_object_iter_value(at), r->numbers);
	}
	return err;
}

void vault_secret_done(struct vault_secret *s)
{
	for (size_t i = 0; i < s->n_fields; i++)
		secmem_free((void *)(uintptr_t)s->fields[i].value.data);
	free(s->fields);
	*s = (struct vault_secret){ .fields = NULL };
}

/* ---- time ---- */

static bool digits(const char **p, const char *end, int n, int *ret)
{
	*ret = 0;
	for (; n > 0; n--, (*p)++) {
		if (*p >= end || !isdigit((unsigned char)**p))
			return false;
		*ret = *ret * 10 + (**p - '0');
	}
	return true;
}

static bool skip(const char **p, const char *end, char c)
{
	if (*p >= end || **p != c)
		return false;
	(*p)++;
	return true;
}

bool vault_parse_time(struct slice s, int64_t *ret_ns)
{
	const char *p = s.data, *end = s.data + s.len;
	struct tm tm = { .tm_sec = 0 };
	int64_t ns = 0, scale = 100000000, offset = 0;
	int year, month, hours = 0, minutes = 0;
	bool minus;
	time_t t;

	if (!s.len || !digits(&p, end, 4, &year) || !skip(&p, end, '-') || !digits(&p, end, 2, &month) ||
	    !skip(&p, end, '-') || !digits(&p, end, 2, &tm.tm_mday) || !(skip(&p, end, 'T') || skip(&p, end, 't')) ||
	    !digits(&p, end, 2, &tm.tm_hour) || !skip(&p, end, ':') || !digits(&p, end, 2, &tm.tm_min) ||
	    !skip(&p, end, ':') || !digits(&p, end, 2, &tm.tm_sec))
		return false;
	if (skip(&p, end, '.')) {
		if (p >= end || !isdigit((unsigned char)*p))
			return false;
		for (; p < end && isdigit((unsigned char)*p); p++, scale /= 10)
			ns += scale * (*p - '0');
	}
	if (!skip(&p, end, 'Z') && !skip(&p, end, 'z')) {
		minus = p < end && *p == '-';
		if (!(skip(&p, end, '+') || skip(&p, end, '-')) || !digits(&p, end, 2, &hours) || !skip(&p, end, ':') ||
		    !digits(&p, end, 2, &minutes))
			return false;
		offset = (minus ? -1 : 1) * (hours * 3600 + minutes * 60);
	}
	if (p != end || month < 1 || month > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 23 ||
	    tm.tm_min > 59 || tm.tm_sec > 60 || year < 1970 || year > 2260)
		return false;
	tm.tm_year = year - 1900;
	tm.tm_mon = month - 1;
	t = timegm(&tm);
	*ret_ns = ((int64_t)t - offset) * 1000000000 + ns;
	return true;
}

/* ---- secrets ---- */

/* KV 2's metadata says why there is no data. The server has looked at its own clock: no need for ours. */
static int gone(const json_t *metadata, struct error *err)
{
	long long version = json_integer_value(json_object_get(metadata, "version"));

	if (json_is_true(json_object_get(metadata, "destroyed")))
		return error_set(err, EKEYREVOKED, "its version %lld has been destroyed", version);
	if (string_of(json_object_get(metadata, "deletion_time")).len)
		return error_set(err, EKEYREVOKED, "its version %lld has been deleted", version);
	return 0;
}

/* Also where nobody has told that it is one, since the token may not ask for mounts. */
static bool is_kv2(const json_t *data, enum vault_kind kind)
{
	const json_t *inner = json_object_get(data, "data"), *metadata = json_object_get(data, "metadata");

	if (kind == VAULT_KV2)
		return true;
	return kind == VAULT_OTHER && json_object_size(data) == 2 && (json_is_object(inner) || json_is_null(inner)) &&
	       json_is_object(metadata) && json_is_integer(json_object_get(metadata, "version"));
}

/* "30s", "1h30m", a number of seconds; -1: none, which no time at all is too. */
static int64_t own_ttl_ms(const json_t *v)
{
	struct slice s = string_of(v);
	char text[32], *at = text, *end;
	int64_t ms = 0;

	if (json_is_integer(v))
		return seconds_of(v) ? seconds_of(v) * 1000 : -1;
	if (!s.len || s.len >= sizeof(text))
		return -1;
	memcpy(text, s.data, s.len);
	text[s.len] = '\0';
	while (*at) {
		long long n, unit;

		if (!isdigit((unsigned char)*at))
			return -1;
		errno = 0;
		n = strtoll(at, &end, 10);
		unit = *end == 's' || (!*end && at == text) ? 1000 : *end == 'm' && end[1] == 's' ? 1 : *end == 'm' ? 60000 :
		       *end == 'h' ? 3600000 : *end == 'd' ? 86400000 : 0;
		if (errno || n > INT32_MAX || !unit)
			return -1;
		ms += n * unit;
		at = end + (unit == 1 ? 2 : *end != '\0');
	}
	return strlen(text) == s.len && ms > 0 ? ms : -1;
}

static void take_times(struct vault_secret *s, const json_t *data, enum vault_kind kind, int64_t now_s)
{
	const json_t *ttl = json_object_get(data, "ttl");

	if (kind == VAULT_KV1) {
		s->ttl_ms = own_ttl_ms(ttl);
	} else if (kind == VAULT_OTHER && json_is_integer(ttl) &&
	           (json_object_get(data, "last_vault_rotation") || json_object_get(data, "last_openbao_rotation") ||
	            json_object_get(data, "rotation_period"))) {
		s->exact = true;
		s->ttl_ms = json_integer_value(ttl) <= 1 ? STATIC_LAST_MS : (seconds_of(ttl) - 1) * 1000;
	} else if (kind == VAULT_OTHER && json_is_integer(json_object_get(data, "expiration")) &&
	           json_object_get(data, "certificate")) {
		int64_t end = json_integer_value(json_object_get(data, "expiration"));

		s->end_ms = end <= now_s ? 0 : end - now_s > INT32_MAX ? (int64_t)INT32_MAX * 1000 : (end - now_s) * 1000;
	}
}

int vault_reply_secret(const struct vault_reply *r, int status, enum vault_kind kind, const struct slice *wanted,
                       size_t n_wanted, int64_t now_s, struct vault_secret *ret, struct error *ret_err)
{
	struct vault_secret s = { .ttl_ms = -1, .end_ms = -1 };
	const json_t *data = json_object_get(r->root, "data"), *metadata;
	int err;

	if (json_is_object(data) && is_kv2(data, kind)) {
		metadata = json_object_get(data, "metadata");
		kind = VAULT_KV2;
		data = json_object_get(data, "data");
		/* With data a deletion_time is one to come, whatever our clock says. */
		err = status == 404 || is_absent(data) || json_is_true(json_object_get(metadata, "destroyed")) ?
		      gone(metadata, ret_err) : 0;
		if (err)
			return err;
	}
	if (status == 404 || is_absent(data))
		return error_set(ret_err, ENOKEY, "there is nothing at this path");
	if (!json_is_object(data))
		return error_set(ret_err, EPROTO, "the answer is not in the form of Vault's");
	err = take_fields(&s, r, data, wanted, n_wanted, kind == VAULT_OTHER);
	if (err) {
		vault_secret_done(&s);
		return error_set(ret_err, ENOMEM, "out of memory");
	}
	take_times(&s, data, kind, now_s);
	*ret = s;
	return 0;
}

/* ---- look-ups ---- */

static const json_t *data_of(const struct vault_reply *r, const char *key)
{
	return json_object_get(json_object_get(r->root, "data"), key);
}

bool vault_reply_number(const struct vault_reply *r, const char *key, int64_t *ret)
{
	const json_t *v = data_of(r, key);

	if (!json_is_integer(v))
		return false;
	*ret = json_integer_value(v);
	return true;
}

bool vault_reply_bool(const struct vault_reply *r, const char *key, bool *ret)
{
	const json_t *v = data_of(r, key);

	if (!json_is_boolean(v))
		return false;
	*ret = json_is_true(v);
	return true;
}

bool vault_reply_string(const struct vault_reply *r, const char *key, struct slice *ret)
{
	const json_t *v = data_of(r, key);

	if (!json_is_string(v))
		return false;
	*ret = string_of(v);
	return true;
}

bool vault_reply_mount(const struct vault_reply *r, struct vault_mount *ret)
{
	struct slice path = string_of(data_of(r, "path")), type = string_of(data_of(r, "type"));
	struct slice version = string_of(json_object_get(data_of(r, "options"), "version"));

	if (!path.len || path.data[path.len - 1] != '/')
		return false;
	*ret = (struct vault_mount){ path, 0 };
	if (slice_eq_str(type, "kv") || slice_eq_str(type, "generic"))
		ret->version = slice_eq_str(version, "2") ? 2 : 1;
	return true;
}
