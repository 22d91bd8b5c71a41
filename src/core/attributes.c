/*
 * Extended attributes, user.connectfs.*: what operators ask one connector. Any thread, no wait.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
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

/* A path may hold anything; here a line is a secret, and goes to a terminal. */
static int add_visible(struct buf *out, struct slice s)
{
	size_t start = out->len;
	int err = buf_add_slice(out, s);

	if (!err && s.len)
		text_mask_controls(out->data + start, s.len);
	return err;
}

/* An attribute holds 64 KiB at most (XATTR_SIZE_MAX). The list ends before what does not fit. */
enum { ATTR_SECRETS_MAX = 500, ATTR_SECRETS_BYTES = 60000 };

static int attr_secrets(struct connector *conn, struct buf *out)
{
	const struct config *c = conn->config;
	int err = 0;

	if (!c || !c->n_sources)
		return -ENODATA;
	for (size_t i = 0; i < c->n_sources && i < ATTR_SECRETS_MAX && !err; i++) {
		const struct config_source *source = &c->sources[i];

		if (out->len + source->provider.len + source->path.len + 2 > ATTR_SECRETS_BYTES)
			break;
		if (i)
			err = buf_add_char(out, '\n');
		if (!err)
			err = add_visible(out, source->provider);
		if (!err)
			err = buf_add_char(out, ':');
		if (!err)
			err = add_visible(out, source->path);
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
