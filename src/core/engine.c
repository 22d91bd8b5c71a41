/*
 * The engine.
 */
#include "core/engine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/core.h"

static void engine_ready(void *arg, const struct error *err)
{
	struct engine *e = arg;

	e->listed = true;
	e->ready(e->ready_arg, err);
	if (e->settings->warm && e->mode == ENGINE_MOUNT && !err)
		engine_warm(e);
	catalog_pump(e->catalog);
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
		err = watcher_new(loop, &e->watcher);
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
		.ready = engine_store_ready,
		.arg = e->catalog,
	};

	e->ready = ready;
	e->ready_arg = arg;
	return e->store->ops->start(e->store, &ev);
}

void engine_store_ready(void *arg, const struct error *err)
{
	struct catalog *c = arg;

	engine_ready(c->engine, err);
}

void engine_set_sink(struct engine *e, const struct catalog_sink *sink)
{
	e->catalog->sink = *sink;
	e->catalog->has_sink = true;
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

/* ---- warming: every connector is opened once, some at a time ---- */

enum { WARM_AT_ONCE = 16 };

struct warm {
	struct engine *engine;
	struct listing *names;
	size_t next, under_way;
};

static void warm_next(struct warm *w);

static void warm_opened(int err, struct snapshot *snapshot, void *arg)
{
	struct warm *w = arg;

	(void)err; /* the connector's state tells */
	snapshot_unref(snapshot);
	w->under_way--;
	warm_next(w);
}

static void warm_next(struct warm *w)
{
	while (w->under_way < WARM_AT_ONCE && w->next < w->names->len) {
		struct snapshot *snapshot;
		struct open_wait *wait;
		int err = catalog_open(w->engine->catalog, w->names->items[w->next++], warm_opened, w, &snapshot, &wait);

		if (err == -EINPROGRESS) {
			w->under_way++;
			open_wait_release(wait);
		} else if (!err) {
			snapshot_unref(snapshot);
		}
	}
	if (w->under_way)
		return;
	listing_unref(w->names);
	free(w);
}

void engine_warm(struct engine *e)
{
	struct warm *w = calloc(1, sizeof(*w));

	if (!w)
		return;
	w->engine = e;
	w->names = catalog_list(e->catalog);
	if (w->names)
		warm_next(w);
	else
		free(w);
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
	for (size_t i = 0; conn->binding && i < binding_n_secrets(conn->binding); i++)
		resolver_refresh(binding_secret(conn->binding, i), false);
	connector_queue_announce(conn, 0);
}

int engine_refresh(struct engine *e, const char *name)
{
	struct connector *conn;
	struct listing *all;

	if (strcmp(name, "*") != 0) {
		conn = engine_find(e, name, NULL);
		if (!conn)
			return -ENOENT;
		refresh_connector(conn);
		connector_unref(conn);
		return 0;
	}
	all = catalog_list(e->catalog);
	if (!all)
		return -ENOMEM;
	for (size_t i = 0; i < all->len; i++)
		if (all->items[i]->active)
			refresh_connector(all->items[i]);
	listing_unref(all);
	return 0;
}
