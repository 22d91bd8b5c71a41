/*
 * The engine.
 */
#include "core/engine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "core/core.h"

/* connectfs.warm: every connector is resolved in the background, as if it had been opened. */
void engine_warm(struct engine *e)
{
	struct listing *all = e->settings->warm && e->mode == ENGINE_MOUNT ? catalog_list(e->catalog) : NULL;

	for (size_t i = 0; all && i < all->len; i++) {
		all->items[i]->active = true;
		kept_set(all->items[i], KEPT_ACTIVE, 0);
		catalog_queue_load(all->items[i]);
	}
	listing_unref(all);
}

static void store_ready(void *arg, const struct error *err)
{
	struct catalog *c = arg; /* as of all events of the store */
	struct engine *e = c->engine;

	e->listed = true;
	e->ready(e->ready_arg, err);
	if (!err && !e->awaits_keep)
		engine_warm(e);
	catalog_pump(c);
}

int engine_new(struct settings *settings, enum engine_mode mode, struct loop *loop, struct engine **ret,
               struct report *report)
{
	struct engine *e = calloc(1, sizeof(*e));
	struct error error = ERROR_INIT;
	struct store_env env;
	int err;

	if (!e)
		return -ENOMEM;
	e->settings = settings;
	e->mode = mode;
	e->loop = loop;
	err = pool_new(loop, &e->pool);
	if (!err && mode == ENGINE_MOUNT)
		err = watcher_new(loop, e->pool, &e->watcher);
	if (!err)
		err = resolver_new(settings, loop, e->pool, e->watcher, &e->resolver, report);
	if (!err)
		err = catalog_new(e, &e->catalog);
	env = (struct store_env){ loop, e->pool, e->watcher, settings->wait_ms };
	if (!err) {
		err = store_directory_open(&env, settings->directory, &e->store, &error);
		if (err)
			report_add(report, REPORT_ERROR, settings->file, 0, "connectfs.store.directory", "%s",
			           error.text[0] ? error.text : strerror(-err));
	}
	if (err) {
		engine_free(e);
		return err;
	}
	*ret = e;
	return 0;
}

void engine_free(struct engine *e)
{
	if (!e)
		return;
	check_free(e->check);
	catalog_free(e->catalog);
	if (e->store)
		e->store->ops->close(e->store);
	resolver_free(e->resolver);
	watcher_free(e->watcher);
	pool_free(e->pool);
	free(e->mountpoint);
	free(e);
}

int engine_start(struct engine *e, void (*ready)(void *arg, const struct error *err), void *arg)
{
	struct store_events ev = {
		.added = catalog_store_added,
		.removed = catalog_store_removed,
		.changed = catalog_store_changed,
		.writing = catalog_store_writing,
		.ready = store_ready,
		.arg = e->catalog,
	};

	e->ready = ready;
	e->ready_arg = arg;
	return e->store->ops->start(e->store, &ev);
}

void engine_await_keep(struct engine *e)
{
	e->awaits_keep = true;
}

void engine_set_sink(struct engine *e, const struct catalog_sink *sink)
{
	e->catalog->sink = *sink;
	e->catalog->has_sink = true;
}

int engine_watches_fd(const struct engine *e)
{
	return e->watcher ? watcher_fd(e->watcher) : -1;
}

struct catalog *engine_catalog(struct engine *e)
{
	return e->catalog;
}

const struct settings *engine_settings(const struct engine *e)
{
	return e->settings;
}

struct stats *engine_stats(struct engine *e)
{
	return &e->stats;
}

void engine_set_processes(struct engine *e, const struct engine_processes *p)
{
	char *copy = p->mountpoint ? strdup(p->mountpoint) : NULL;

	free(e->mountpoint);
	e->mountpoint = copy;
	e->processes = *p;
	e->processes.mountpoint = copy;
}

void engine_reads(struct engine *e, void (*add)(void *arg, const char *path), void *arg)
{
	add(arg, e->settings->directory);
	for (size_t i = 0; i < resolver_n_providers(e->resolver); i++) {
		const struct provider_instance *p = resolver_provider(e->resolver, i);

		if (p->ops && p->ops->reads)
			p->ops->reads(p->self, add, arg);
	}
}

bool engine_network(const struct engine *e)
{
	for (size_t i = 0; i < resolver_n_providers(e->resolver); i++) {
		const struct provider_instance *p = resolver_provider(e->resolver, i);

		if (p->ops && p->ops->network)
			return true;
	}
	return false;
}

/* ---- names ---- */

struct connector *engine_find(struct engine *e, const char *name, struct error *ret_err)
{
	static const char *const suffixes[] = { ".properties", ".json" };
	struct connector *found = catalog_find(e->catalog, name);
	char full[512];

	for (size_t i = 0; !found && i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		struct connector *other;

		if (snprintf(full, sizeof(full), "%s%s", name, suffixes[i]) >= (int)sizeof(full))
			break;
		found = catalog_find(e->catalog, full);
		if (!found || i > 0)
			continue;
		snprintf(full, sizeof(full), "%s%s", name, suffixes[1]);
		other = catalog_find(e->catalog, full);
		if (other) {
			error_set(ret_err, EINVAL, "%s: there are %s.properties and %s.json: say which", name, name, name);
			connector_unref(other);
			connector_unref(found);
			return NULL;
		}
	}
	if (!found)
		error_set(ret_err, ENOENT, "%s: no such connector", name);
	return found;
}

static void refresh_connector(struct connector *conn)
{
	conn->stored_stale = true;
	connector_queue_announce(conn, clock_mono_ms() - conn->catalog->engine->settings->settle_ms);
}

int engine_refresh(struct engine *e, const char *name, bool leases)
{
	struct connector *conn;
	struct listing *all;
	struct secret *s;
	size_t pos = 0;

	if (strcmp(name, "*") != 0) {
		conn = engine_find(e, name, NULL);
		if (!conn)
			return -ENOENT;
		for (size_t i = 0; conn->binding && i < binding_n_secrets(conn->binding); i++)
			resolver_refresh(binding_secret(conn->binding, i), leases);
		refresh_connector(conn);
		connector_unref(conn);
		return 0;
	}
	all = catalog_list(e->catalog);
	if (!all)
		return -ENOMEM;
	while ((s = resolver_next_secret(e->resolver, &pos))) /* each once, whatever the number of its users */
		resolver_refresh(s, leases);
	for (size_t i = 0; i < all->len; i++)
		if (all->items[i]->active)
			refresh_connector(all->items[i]);
	listing_unref(all);
	return 0;
}
