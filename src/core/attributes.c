/*
 * Extended attributes, user.connectfs.*: what operators ask one connector. Any thread, no wait.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "core/core.h"

/* All are called with the connector's lock held. -ENODATA: it has none now. */

static int add_time(struct buf *out, int64_t ns)
{
	char text[CLOCK_RFC3339_SIZE];

	return ns ? buf_add_str(out, clock_rfc3339(ns, text)) : -ENODATA;
}

static int attr_state(struct connector *conn, struct buf *out)
{
	return buf_add_str(out, connector_state_name(conn->state));
}

static int attr_error(struct connector *conn, struct buf *out)
{
	return conn->error ? buf_add_str(out, conn->error) : -ENODATA;
}

static int attr_version(struct connector *conn, struct buf *out)
{
	return buf_addf(out, "%llu", (unsigned long long)conn->version);
}

static int attr_rotated(struct connector *conn, struct buf *out)
{
	return add_time(out, conn->rotated_ns);
}

/* Of its secrets, the one that was fetched longest ago. */
static int attr_fetched(struct connector *conn, struct buf *out)
{
	int64_t oldest = 0;

	for (size_t i = 0; conn->snapshot && i < conn->snapshot->n_deps; i++) {
		struct secret *s = conn->snapshot->deps[i].secret;

		pthread_mutex_lock(&s->lock);
		if (s->fetched_ns && (!oldest || s->fetched_ns < oldest))
			oldest = s->fetched_ns;
		pthread_mutex_unlock(&s->lock);
	}
	return add_time(out, oldest);
}

/* Of its leases, the first to end. */
static int attr_expires(struct connector *conn, struct buf *out)
{
	int64_t first = 0;

	for (size_t i = 0; conn->snapshot && i < conn->snapshot->n_deps; i++) {
		struct secret *s = conn->snapshot->deps[i].secret;

		pthread_mutex_lock(&s->lock);
		if (s->lease_end_ns && (!first || s->lease_end_ns < first))
			first = s->lease_end_ns;
		pthread_mutex_unlock(&s->lock);
	}
	return add_time(out, first);
}

static bool seen_before(const struct config *c, size_t i)
{
	for (size_t j = 0; j < i; j++)
		if (slice_eq(c->refs[j].provider, c->refs[i].provider) && slice_eq(c->refs[j].path, c->refs[i].path))
			return true;
	return false;
}

enum { ATTR_SECRETS_MAX = 500 }; /* an attribute holds 64 KiB at most (XATTR_SIZE_MAX) */

static int attr_secrets(struct connector *conn, struct buf *out)
{
	const struct config *c = conn->config;
	size_t lines = 0;
	int err = 0;

	if (!c || !c->n_refs)
		return -ENODATA;
	for (size_t i = 0; i < c->n_refs && lines < ATTR_SECRETS_MAX && out->len < 60000 && !err; i++) {
		if (seen_before(c, i))
			continue;
		err = buf_addf(out, "%s%.*s:%.*s", lines ? "\n" : "", SLICE_FMT(c->refs[i].provider),
		               SLICE_FMT(c->refs[i].path));
		lines++;
	}
	return err;
}

static const struct {
	const char *name;
	int (*get)(struct connector *conn, struct buf *out);
} attributes[] = {
	{ "state", attr_state },     { "error", attr_error },     { "version", attr_version },
	{ "rotated", attr_rotated }, { "fetched", attr_fetched }, { "expires", attr_expires },
	{ "secrets", attr_secrets },
};

enum { N_ATTRIBUTES = sizeof(attributes) / sizeof(attributes[0]) };

int connector_xattr(struct connector *conn, const char *name, struct buf *out)
{
	int err = -EOPNOTSUPP;

	for (size_t i = 0; i < N_ATTRIBUTES; i++) {
		if (strcmp(name, attributes[i].name) != 0)
			continue;
		pthread_mutex_lock(&conn->lock);
		err = attributes[i].get(conn, out);
		pthread_mutex_unlock(&conn->lock);
		break;
	}
	return err;
}

int connector_xattr_list(struct connector *conn, struct buf *out)
{
	int err = 0;

	pthread_mutex_lock(&conn->lock);
	for (size_t i = 0; i < N_ATTRIBUTES && !err; i++) {
		struct buf value;

		buf_init(&value, 128 * 1024);
		if (attributes[i].get(conn, &value) != -ENODATA) {
			err = buf_addf(out, "user.connectfs.%s", attributes[i].name);
			if (!err)
				err = buf_add_char(out, '\0');
		}
		buf_free(&value);
	}
	pthread_mutex_unlock(&conn->lock);
	return err;
}
