/*
 * Paths of references to Vault.
 */
#include "provider/vault_path.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "format/utf8.h"
#include "net/server.h"

enum { PARAMS_MAX = 64, PATH_MAX_LEN = 16 * 1024 };

/* A parameter of a query, decoded. */
struct param {
	struct buf name, value;
};

struct query {
	struct param params[PARAMS_MAX];
	size_t n;
};

static void query_done(struct query *q)
{
	for (size_t i = 0; i < q->n; i++) {
		buf_free(&q->params[i].name);
		buf_free(&q->params[i].value);
	}
	q->n = 0;
}

static int hex(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 : -1;
}

static int buf_failed(int r, struct error *err)
{
	return r == -ENOMEM ? error_set(err, ENOMEM, "out of memory") : error_set(err, EINVAL, "the path is too long");
}

static int decode(struct slice s, struct buf *out, struct error *err)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.data[i];

		if (c == '%') {
			if (s.len - i < 3 || hex(s.data[i + 1]) < 0 || hex(s.data[i + 2]) < 0)
				return error_set(err, EINVAL, "a percent sign in the query of a path is followed by two hex digits");
			c = (char)(hex(s.data[i + 1]) * 16 + hex(s.data[i + 2]));
			i += 2;
		}
		if (!c)
			return error_set(err, EINVAL, "a path has a NUL in it");
		buf_add_char(out, c);
	}
	return out->err ? buf_failed(out->err, err) : 0;
}

static int compare_params(const void *a, const void *b)
{
	const struct param *x = a, *y = b;

	return slice_compare(buf_slice(&x->name), buf_slice(&y->name));
}

/* name=value&…; sorted, each name once. */
static int query_parse(struct slice s, struct query *q, struct error *err)
{
	int r = 0;

	q->n = 0;
	for (size_t pos = 0, end; pos < s.len && !r; pos = end + 1) {
		const char *amp = memchr(s.data + pos, '&', s.len - pos);
		struct slice one, name;
		const char *eq;
		struct param *p;

		end = amp ? (size_t)(amp - s.data) : s.len;
		one = slice_of(s.data + pos, end - pos);
		if (!one.len)
			continue;
		if (q->n == PARAMS_MAX) {
			r = error_set(err, EINVAL, "a path has more than %d parameters", PARAMS_MAX);
			break;
		}
		p = &q->params[q->n++];
		buf_init(&p->name, PATH_MAX_LEN);
		buf_init(&p->value, PATH_MAX_LEN);
		eq = memchr(one.data, '=', one.len);
		name = eq ? slice_of(one.data, (size_t)(eq - one.data)) : one;
		r = decode(name, &p->name, err);
		if (!r && eq)
			r = decode(slice_of(eq + 1, one.len - name.len - 1), &p->value, err);
		if (!r && !p->name.len)
			r = error_set(err, EINVAL, "a parameter of a path has no name");
	}
	if (!r && q->n > 1)
		qsort(q->params, q->n, sizeof(q->params[0]), compare_params);
	for (size_t i = 1; i < q->n && !r; i++)
		if (compare_params(&q->params[i - 1], &q->params[i]) == 0)
			r = error_set(err, EINVAL, "the parameter \"%.*s\" of a path stands there twice",
			              (int)q->params[i].name.len, q->params[i].name.data);
	if (r)
		query_done(q);
	return r;
}

static const struct param *query_get(const struct query *q, const char *name)
{
	for (size_t i = 0; i < q->n; i++)
		if (slice_eq_str(buf_slice(&q->params[i].name), name))
			return &q->params[i];
	return NULL;
}

/* ---- map ---- */

/* Adds the path's segments, with one slash between; "." and ".." are refused, which proxies would resolve. */
static int add_segments(struct buf *out, struct slice path, struct error *err)
{
	for (size_t pos = 0, end; pos < path.len; pos = end + 1) {
		const char *slash = memchr(path.data + pos, '/', path.len - pos);
		struct slice one;

		end = slash ? (size_t)(slash - path.data) : path.len;
		one = slice_of(path.data + pos, end - pos);
		if (!one.len)
			continue;
		if (slice_eq_str(one, ".") || slice_eq_str(one, ".."))
			return error_set(err, EINVAL, "a path of Vault has no \".\" and no \"..\"");
		if (memchr(one.data, '\0', one.len))
			return error_set(err, EINVAL, "a path has a NUL in it");
		if (out->len)
			buf_add_char(out, '/');
		if (buf_add_slice(out, one) != 0)
			return buf_failed(out->err, err);
	}
	return 0;
}

static struct slice without_query(struct slice path, struct slice *ret_query)
{
	const char *q = path.len ? memchr(path.data, '?', path.len) : NULL;

	*ret_query = q ? slice_of(q + 1, path.len - (size_t)(q - path.data) - 1) : slice_of(NULL, 0);
	return q ? slice_of(path.data, (size_t)(q - path.data)) : path;
}

/* Lenses: "data" after so many elements, unless it is a database or there already. */
static int lenses_path(const struct vault_settings *s, struct slice path, struct buf *out, struct error *err)
{
	size_t pos = 0, depth = s->prefix_depth;
	struct slice rest;
	int r;

	while (path.len && path.data[0] == '/')
		path = slice_of(path.data + 1, path.len - 1);
	for (; depth && pos < path.len; depth--) {
		const char *slash = memchr(path.data + pos, '/', path.len - pos);

		pos = slash ? (size_t)(slash - path.data) + 1 : path.len;
		while (pos < path.len && path.data[pos] == '/')
			pos++;
	}
	rest = slice_of(path.data + pos, path.len - pos);
	if (s->kv_version != 2 || !s->prefix_depth || !rest.len ||
	    (path.len > 15 && memcmp(path.data, "database/creds/", 15) == 0) ||
	    (rest.len > 5 && memcmp(rest.data, "data/", 5) == 0))
		return add_segments(out, path, err);
	r = add_segments(out, slice_of(path.data, pos), err);
	if (!r)
		r = add_segments(out, SLICE_LIT("data"), err);
	return r ? r : add_segments(out, rest, err);
}

static int add_query(struct buf *out, const struct query *q)
{
	for (size_t i = 0; i < q->n; i++) {
		buf_add_char(out, i ? '&' : '?');
		server_encode(out, buf_slice(&q->params[i].name), false);
		buf_add_char(out, '=');
		server_encode(out, buf_slice(&q->params[i].value), false);
	}
	return out->err;
}

int vault_path_map(const struct vault_settings *s, struct slice path, struct slice key, struct buf *ret_id,
                   struct buf *ret_field, struct error *ret_err)
{
	struct query query;
	struct slice q;
	int err = 0;

	if (!path.len && !s->path)
		return error_set(ret_err, ENOKEY, "a reference names a path and a key: ${provider:path:key} "
		                 "(or the provider's parameter path names one for all)");
	path = without_query(path.len ? path : slice_str(s->path), &q);
	if (path.len > PATH_MAX_LEN || q.len > PATH_MAX_LEN)
		return error_set(ret_err, EINVAL, "the path is too long");
	err = query_parse(q, &query, ret_err);
	if (err)
		return err;
	if (s->prefix)
		err = add_segments(ret_id, slice_str(s->prefix), ret_err);
	if (!err)
		err = s->dialect == VAULT_LENSES ? lenses_path(s, path, ret_id, ret_err) : add_segments(ret_id, path, ret_err);
	if (!err && !ret_id->len)
		err = error_set(ret_err, EINVAL, "the path is empty");
	if (!err && ret_id->data[ret_id->len - 1] == '.')
		err = error_set(ret_err, EINVAL, "a path of Vault does not end in a full stop");
	if (!err && (add_query(ret_id, &query) != 0 || buf_add_slice(ret_field, key) != 0))
		err = buf_failed(ret_id->err ? ret_id->err : ret_field->err, ret_err);
	query_done(&query);
	return err;
}

/* ---- target ---- */

static bool has_prefix(struct slice s, struct slice prefix)
{
	return s.len >= prefix.len && memcmp(s.data, prefix.data, prefix.len) == 0;
}

static bool begins(struct slice s, const char *prefix)
{
	return has_prefix(s, slice_str(prefix));
}

/* KV 2: data/ after the mount, unless the rest has it. Returns how the answer is to be read: what is there of a secret
 * but its data has no data of its own. */
static enum vault_kind add_kv2(struct buf *out, struct slice path, struct slice mount)
{
	struct slice rest = path.len >= mount.len ? slice_of(path.data + mount.len, path.len - mount.len) :
	                    slice_of(NULL, 0);

	server_encode(out, mount, true);
	if (begins(rest, "metadata/") || begins(rest, "subkeys/")) {
		server_encode(out, rest, true);
		return VAULT_KV1;
	}
	if (!begins(rest, "data/"))
		buf_add_str(out, "data/");
	server_encode(out, rest, true);
	return VAULT_KV2;
}

static bool is_utf8(struct slice s)
{
	uint32_t c;

	for (size_t i = 0, n; i < s.len; i += n) {
		n = utf8_decode(s.data + i, s.len - i, &c);
		if (!n || utf8_is_surrogate(c))
			return false;
	}
	return true;
}

static int add_body(struct buf *out, const struct query *q)
{
	json_t *o = json_object();
	char *text = NULL;
	int err = o ? 0 : -ENOMEM;

	for (size_t i = 0; i < q->n && !err; i++) {
		const struct param *p = &q->params[i];
		json_t *value;

		if (!is_utf8(buf_slice(&p->name)) || !is_utf8(buf_slice(&p->value))) {
			err = -EINVAL;
			break;
		}
		value = json_stringn(p->value.len ? p->value.data : "", p->value.len);
		if (!value || json_object_setn_new(o, p->name.data, p->name.len, value) != 0)
			err = -ENOMEM;
	}
	if (!err) {
		text = json_dumps(o, JSON_COMPACT);
		err = text ? buf_add_str(out, text) : -ENOMEM;
	}
	json_decref(o);
	if (text) {
		json_free_t give_back;

		json_get_alloc_funcs(NULL, &give_back);
		give_back(text);
	}
	return err;
}

static bool is_inside(struct slice path, const struct vault_mount *mount)
{
	/* "secret" itself is inside of "secret/" */
	return mount->path.len && (has_prefix(path, mount->path) ||
	       (path.len + 1 == mount->path.len && memcmp(path.data, mount->path.data, path.len) == 0));
}

/* A reference that read auth/token/lookup-self would show the token that all is read with; one that wrote to
 * revoke-self would end it. Also below a namespace. */
static bool is_ours(struct slice path)
{
	static const char token[] = "/auth/token/";

	return begins(path, "auth/") || begins(path, "sys/") ||
	       (path.len && memmem(path.data, path.len, token, sizeof(token) - 1));
}

int vault_path_target(struct slice id, const struct vault_mount *mount, struct vault_target *ret,
                      struct error *ret_err)
{
	struct vault_target t = { .kind = VAULT_OTHER };
	struct slice q, path = without_query(id, &q);
	struct query query;
	int err = query_parse(q, &query, ret_err);
	bool inside = is_inside(path, mount);

	if (err)
		return err;
	buf_init(&t.path, 4 * PATH_MAX_LEN + 64);
	buf_init_secret(&t.body, 4 * PATH_MAX_LEN + 64);
	buf_add_str(&t.path, "/v1/");
	if (inside && mount->version == 2) {
		t.kind = add_kv2(&t.path, path, mount->path);
	} else {
		t.kind = inside && mount->version == 1 ? VAULT_KV1 : VAULT_OTHER;
		server_encode(&t.path, path, true);
	}
	/* A version, or what a KV is asked with, stays a query; what others are given is a body. */
	if (inside && mount->version == 1 && query_get(&query, "version"))
		err = -ENOTSUP;
	if (t.kind == VAULT_OTHER && is_ours(path))
		err = -EACCES;
	t.write = t.kind == VAULT_OTHER && query.n && !(query.n == 1 && query_get(&query, "version"));
	if (!err)
		err = t.write ? add_body(&t.body, &query) : add_query(&t.path, &query);
	if (!err)
		err = t.path.err;
	query_done(&query);
	if (err) {
		vault_target_done(&t);
		return error_set(ret_err, err == -ENOMEM ? ENOMEM : EINVAL, err == -EINVAL ?
		                 "a parameter of the path is no UTF-8" : err == -EACCES ?
		                 "what lies below auth/ and sys/ is not for references: it would show or end our own token" :
		                 err == -ENOTSUP ? "a KV store of version 1 has no versions of a secret" : err == -EFBIG ?
		                 "the path is too long" : "out of memory");
	}
	*ret = t;
	return 0;
}

void vault_target_done(struct vault_target *t)
{
	buf_free(&t->path);
	buf_free(&t->body);
}

bool vault_path_mount(const struct vault_settings *s, struct slice id, struct vault_mount *ret)
{
	struct slice q, path = without_query(id, &q);

	for (size_t i = 0; i < s->n_mounts; i++) {
		struct vault_mount m = { slice_str(s->mounts[i].path), s->mounts[i].version };

		if (is_inside(path, &m)) {
			*ret = m;
			return true;
		}
	}
	return false;
}

int vault_path_discovery(struct slice id, struct buf *out)
{
	struct slice q, path = without_query(id, &q);

	buf_add_str(out, "/v1/sys/internal/ui/mounts/");
	return server_encode(out, path, true);
}
