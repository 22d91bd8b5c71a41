/*
 * .connectfs/status.json. Its members are documented in connectfs(8).
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/secmem.h"
#include "core/core.h"
#include "format/limits.h"

static int add_bytes(const char *data, size_t len, void *arg)
{
	return buf_add(arg, data, len) < 0 ? -1 : 0;
}

/* Takes the value over. */
static int add_json(struct buf *out, json_t *value)
{
	int err = value && json_dump_callback(value, add_bytes, out, JSON_COMPACT) == 0 ? out->err : -ENOMEM;

	json_decref(value);
	return err;
}

/* Names may be any bytes; JSON must be UTF-8. */
static json_t *json_name(const char *s, size_t len)
{
	json_t *value = json_stringn(s, len);
	char *clean;

	if (value)
		return value;
	clean = malloc(len + 1);
	if (!clean)
		return NULL;
	for (size_t i = 0; i < len; i++)
		clean[i] = (unsigned char)s[i] >= 0x80 ? '?' : s[i];
	value = json_stringn(clean, len);
	free(clean);
	return value;
}

static json_t *json_str_or_null(const char *s)
{
	return s ? json_name(s, strlen(s)) : json_null();
}

static json_t *json_time_or_null(int64_t ns)
{
	char text[CLOCK_RFC3339_SIZE];

	return ns ? json_string(clock_rfc3339(ns, text)) : json_null();
}

/* Sets a member that may have failed to be made: then the object is dropped later as a whole. */
static void set(json_t *object, const char *key, json_t *value)
{
	json_object_set_new(object, key, value ? value : json_null());
}

static json_t *connector_secrets(const struct connector *conn, json_t *unknown)
{
	json_t *list = json_array();
	const struct config *c = conn->config;
	struct resolver *r = conn->catalog->engine->resolver;

	for (size_t i = 0; c && i < c->n_sources; i++) {
		const struct config_source *source = &c->sources[i];
		struct buf text;

		if (!resolver_has_provider(r, source->provider)) {
			if (source->first)
				json_array_append_new(unknown,
				                      json_name(source->provider.data, source->provider.len));
			continue;
		}
		buf_init(&text, LIMIT_STORED_BYTES);
		buf_add_slice(&text, source->provider);
		buf_add_char(&text, ':');
		if (buf_add_slice(&text, source->path) == 0)
			json_array_append_new(list, json_name(text.data, text.len));
		buf_free(&text);
	}
	return list;
}

static json_t *connector_json(const struct connector *conn)
{
	json_t *o = json_object(), *unknown = json_array();
	struct buf name;

	buf_init(&name, LIMIT_NAME);
	if (connector_config_name(conn, &name) < 0)
		buf_free(&name);
	set(o, "name", json_name(conn->name, strlen(conn->name)));
	set(o, "connector", json_name(name.len ? name.data : "", name.len));
	buf_free(&name);
	set(o, "state", json_string(connector_state_name(conn->state)));
	set(o, "version", json_integer((json_int_t)conn->version));
	set(o, "size", json_integer(conn->snapshot ? (json_int_t)conn->snapshot->size : 0));
	set(o, "mtime", json_time_or_null(conn->mtime_ns));
	set(o, "rotated", json_time_or_null(conn->rotated_ns));
	set(o, "error", json_str_or_null(conn->error));
	set(o, "errno", json_str_or_null(connector_errno_name(conn->err)));
	set(o, "secrets", connector_secrets(conn, unknown));
	set(o, "unknown_providers", unknown);
	return o;
}

static size_t count_users(const struct secret *s)
{
	size_t n = 0;

	for (const struct list *l = s->users.next; l != &s->users; l = l->next)
		n++;
	return n;
}

static json_t *secret_json(const struct secret *s)
{
	json_t *o = json_object();
	int64_t now = clock_mono_ms();
	bool fetching = s->fetch && s->state == SECRET_IDLE;

	set(o, "provider", json_str_or_null(s->provider->settings->name));
	set(o, "id", json_name(s->id, s->id_len));
	set(o, "state", json_string(fetching ? "fetching" : secret_state_name(s->state)));
	set(o, "fetched", json_time_or_null(s->fetched_ns));
	set(o, "age_ms", s->fetched_ms ? json_integer(now - s->fetched_ms) : json_null());
	set(o, "rotation", json_string(secret_rotation_name(s->rotation)));
	set(o, "poll_ms", s->poll_ms ? json_integer(s->poll_ms) : json_null());
	set(o, "expires", json_time_or_null(s->lease_end_ns));
	set(o, "next_ms", s->due_ms ? json_integer(s->due_ms > now ? s->due_ms - now : 0) : json_null());
	set(o, "users", json_integer((json_int_t)count_users(s)));
	set(o, "error", json_str_or_null(s->error ? s->error : s->note));
	set(o, "errno", json_str_or_null(connector_errno_name(s->err)));
	return o;
}

static void set_count(json_t *o, const char *key, unsigned long n)
{
	set(o, key, json_integer((json_int_t)n));
}

/* Only of those that ask somebody else. */
static void set_provider_status(json_t *o, const struct provider_status *s)
{
	set(o, "address", json_str_or_null(s->address));
	set(o, "insecure", json_boolean(s->insecure));
	set(o, "error", json_str_or_null(s->error));
	set(o, "error_since", json_time_or_null(s->error_since_ns));
	set(o, "login", json_str_or_null(s->login));
	set(o, "logged_in", json_time_or_null(s->login_ns));
	set(o, "login_expires", json_time_or_null(s->login_end_ns));
	set_count(o, "leases", s->leases);
	set_count(o, "requests", s->requests);
	set_count(o, "request_failures", s->request_failures);
	set_count(o, "logins", s->logins);
	set_count(o, "login_failures", s->login_failures);
	set_count(o, "renewals", s->renewals);
	set_count(o, "renewal_failures", s->renewal_failures);
}

static json_t *provider_json(const struct provider_instance *p)
{
	struct provider_status status;

	json_t *o = json_object();

	set(o, "name", json_str_or_null(p->settings->name));
	set(o, "class", json_str_or_null(p->settings->class_name));
	set(o, "known", json_boolean(p->ops != NULL));
	set(o, "fetches", json_integer((json_int_t)p->fetches));
	set(o, "errors", json_integer((json_int_t)p->errors));
	if (provider_status(p, &status))
		set_provider_status(o, &status);
	return o;
}

static json_t *memory_json(void)
{
	struct secmem_stats m;
	json_t *o = json_object();

	secmem_get_stats(&m);
	set(o, "used", json_integer((json_int_t)m.used));
	set(o, "mapped", json_integer((json_int_t)m.mapped));
	set(o, "locked", json_integer((json_int_t)m.locked));
	set(o, "lock_error", m.lock_errno ? json_string(strerror(m.lock_errno)) : json_null());
	return o;
}

/* null where there is none. */
static json_t *keep_json(const struct engine *e)
{
	struct keep_stats stats;
	json_t *o;

	if (!e->keep)
		return json_null();
	keep_get_stats(e->keep, &stats);
	o = json_object();
	set(o, "used", json_integer((json_int_t)stats.used));
	set(o, "size", json_integer((json_int_t)stats.size));
	set(o, "locked", json_integer((json_int_t)stats.locked));
	set(o, "blocks", json_integer((json_int_t)stats.blocks));
	set(o, "failed", json_integer((json_int_t)stats.failed));
	set(o, "lock_error", stats.lock_errno ? json_string(strerror(stats.lock_errno)) : json_null());
	return o;
}

static json_t *protection_json(const char *lacks)
{
	json_t *o = json_object();

	set(o, "in_force", json_boolean(!lacks));
	set(o, "why", json_str_or_null(lacks));
	return o;
}

static json_t *protections_json(const struct engine_protection *p, size_t n)
{
	json_t *o = json_object();

	for (size_t i = 0; i < n; i++)
		set(o, p[i].name, protection_json(p[i].lacks));
	return o;
}

static json_t *worker_protections_json(const struct engine_processes *p)
{
	json_t *o = protections_json(p->protections, p->n_protections);
	struct secmem_stats m;

	secmem_get_stats(&m);
	set(o, "memory_lock", protection_json(m.lock_errno ? strerror(m.lock_errno) : NULL));
	return o;
}

void listing_count_states(const struct listing *all, size_t counts[CONNECTOR_N_STATES])
{
	memset(counts, 0, CONNECTOR_N_STATES * sizeof(counts[0]));
	for (size_t i = 0; i < all->len; i++)
		counts[all->items[i]->state]++;
}

static json_t *states_json(const struct listing *all)
{
	size_t counts[CONNECTOR_N_STATES];
	json_t *o = json_object();

	listing_count_states(all, counts);
	for (size_t i = 0; i < CONNECTOR_N_STATES; i++)
		set(o, connector_state_name((enum connector_state)i), json_integer((json_int_t)counts[i]));
	return o;
}

static json_t *audit_json(struct engine *e)
{
	json_t *o = json_object();

	set(o, "to", json_str_or_null(e->settings->audit));
	set(o, "lines", json_integer((json_int_t)atomic_load(&e->stats.audit_lines)));
	set(o, "dropped", json_integer((json_int_t)atomic_load(&e->stats.audit_dropped)));
	return o;
}

static json_t *head_json(struct engine *e, struct listing *all)
{
	json_t *o = json_object();
	const struct engine_processes *p = &e->processes;

	set(o, "version", json_string(PACKAGE_VERSION));
	set(o, "mountpoint", json_str_or_null(p->mountpoint));
	set(o, "source", json_str_or_null(e->settings->source));
	set(o, "started", json_time_or_null(p->started_ns));
	set(o, "supervisor", json_integer(p->supervisor));
	set(o, "worker", json_integer(p->worker));
	set(o, "notifier", json_integer(p->notifier));
	set(o, "worker_restarts", json_integer((json_int_t)p->worker_restarts));
	set(o, "open_files", json_integer(atomic_load(&e->stats.open_files)));
	set(o, "parked", json_integer(atomic_load(&e->stats.parked)));
	set(o, "memory", memory_json());
	set(o, "keep", keep_json(e));
	set(o, "protections", worker_protections_json(p));
	set(o, "notifier_protections", p->notifier_protections ?
	    protections_json(p->notifier_protections, p->n_protections) : json_null());
	set(o, "audit", audit_json(e));
	set(o, "connectors_by_state", states_json(all));
	return o;
}

/* Members one after another, so that no tree of all connectors is built. */
static int add_members(struct engine *e, struct listing *all, struct buf *out)
{
	struct secret *s;
	size_t pos = 0, n = 0;
	int err = 0;

	buf_add_str(out, ",\n\"connectors\":[");
	for (size_t i = 0; i < all->len && !err; i++) {
		buf_add_str(out, i ? ",\n" : "\n");
		err = add_json(out, connector_json(all->items[i]));
	}
	buf_add_str(out, "],\n\"secrets\":[");
	while (!err && (s = resolver_next_secret(e->resolver, &pos))) {
		buf_add_str(out, n++ ? ",\n" : "\n");
		err = add_json(out, secret_json(s));
	}
	buf_add_str(out, "],\n\"providers\":[");
	for (size_t i = 0; i < resolver_n_providers(e->resolver) && !err; i++) {
		buf_add_str(out, i ? ",\n" : "\n");
		err = add_json(out, provider_json(resolver_provider(e->resolver, i)));
	}
	return err ? err : buf_add_str(out, "]}\n");
}

int engine_status_json(struct engine *e, struct buf *out)
{
	struct listing *all = catalog_list(e->catalog);
	int err;

	if (!all)
		return -ENOMEM;
	err = add_json(out, head_json(e, all));
	if (!err) {
		out->len--; /* the closing brace comes at the end */
		err = add_members(e, all, out);
	}
	listing_unref(all);
	return err;
}
