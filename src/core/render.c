/*
 * From a text and what its references mean to bytes, or to the sentence that says why not.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/secmem.h"
#include "core/core.h"
#include "format/limits.h"

void binding_survey(const struct binding *b, const struct config *config, struct slice *values,
                    bool *resolved, trouble_fn *fn, void *arg)
{
	for (size_t i = 0; i < config->n_refs; i++) {
		struct error err = ERROR_INIT;
		struct slice value = { NULL, 0 };
		enum resolution how = binding_resolve(b, i, &value, &err);

		if (values) {
			resolved[i] = how == RESOLVED || how == RESOLVED_STALE;
			values[i] = value;
		}
		if (how != RESOLVED)
			fn(arg, &config->refs[i], how, &err);
	}
}

struct survey {
	const struct connector *conn;
	struct rendering *r;
	size_t more;
};

/* The first trouble makes errno and sentence; further ones are told as long as there is room. */
static void collect_trouble(void *arg, const struct config_ref *ref, enum resolution how,
                            const struct error *err)
{
	struct survey *s = arg;
	const struct config_value *value = &s->conn->config->values[ref->value];
	struct error *out = &s->r->error;
	struct error one = ERROR_INIT;

	if (how == RESOLVED_STALE && s->r->state == CONNECTOR_OK)
		s->r->state = CONNECTOR_STALE;
	if (how != BROKEN)
		return;
	error_set(&one, err->code, "%s:%u: %.*s: %s", s->conn->name, value->line, SLICE_FMT(value->key), err->text);
	if (s->r->state != CONNECTOR_FAILED) {
		s->r->state = CONNECTOR_FAILED;
		s->r->err = err->code;
		*out = one;
	} else if (strlen(out->text) + strlen(one.text) + 2 < ERROR_TEXT_MAX - 32) {
		struct error both = ERROR_INIT;

		error_set(&both, out->code, "%s; %s", out->text, one.text);
		*out = both;
	} else {
		s->more++;
	}
}

/* Why last known values are served: the first secret that is stale says it. */
static void explain_stale(const struct binding *b, struct rendering *r)
{
	for (size_t i = 0; i < binding_n_secrets(b); i++) {
		const struct secret *s = binding_secret(b, i);

		if (s->state != SECRET_STALE)
			continue;
		r->err = s->err;
		error_set(&r->error, s->err, "last known values: %s", s->error ? s->error : strerror(s->err));
		return;
	}
}

struct lookup {
	const struct slice *values;
	const bool *resolved;
};

static bool lookup_value(void *arg, size_t index, struct slice *ret)
{
	const struct lookup *l = arg;

	if (!l->resolved[index])
		return false;
	*ret = l->values[index];
	return true;
}

static int render_bytes(const struct connector *conn, const struct lookup *l, struct rendering *ret)
{
	struct buf out;
	int err;

	buf_init_secret(&out, LIMIT_RENDERED_BYTES);
	err = config_render(conn->config, stored_text(conn->stored), lookup_value, (void *)l, &out);
	if (err == -EFBIG) {
		ret->state = CONNECTOR_FAILED;
		ret->err = EIO;
		error_set(&ret->error, EIO, "%s: the resolved config would be larger than %d bytes", conn->name,
		          LIMIT_RENDERED_BYTES);
		buf_free(&out);
		return 0;
	}
	if (err) {
		buf_free(&out);
		return err;
	}
	ret->data = buf_steal(&out, &ret->size);
	return ret->data ? 0 : -ENOMEM;
}

int connector_render(const struct connector *conn, struct rendering *ret)
{
	size_t n = conn->config->n_refs;
	struct slice *values = calloc(n + 1, sizeof(*values));
	bool *resolved = calloc(n + 1, sizeof(*resolved));
	struct rendering r = { .state = CONNECTOR_OK, .error = ERROR_INIT };
	struct survey survey = { .conn = conn, .r = &r };
	int err = -ENOMEM;

	if (values && resolved) {
		binding_survey(conn->binding, conn->config, values, resolved, collect_trouble, &survey);
		if (survey.more) {
			struct error all = ERROR_INIT;

			error_set(&all, r.error.code, "%s; and %zu more", r.error.text, survey.more);
			r.error = all;
		}
		if (r.state == CONNECTOR_STALE)
			explain_stale(conn->binding, &r);
		err = r.state == CONNECTOR_FAILED ? 0 :
			render_bytes(conn, &(struct lookup){ values, resolved }, &r);
	}
	free(values);
	free(resolved);
	if (!err)
		*ret = r;
	return err;
}
