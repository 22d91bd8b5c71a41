/*
 * `connectfs check`: looks at every stored config and says all that is wrong.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/core.h"

/* Connectors are looked at one after another: output in order, and gentle to secret stores. */
struct check {
	struct engine *engine;
	bool online;
	struct connector **items;
	size_t len, at;
	struct report *report;
	void (*progress)(void *arg, size_t done, size_t total);
	void (*done)(void *arg);
	void *arg;
	struct store_load *load;
	struct stored *stored;
	struct config *config;
	struct binding *binding;
	struct loop_timer *next;
};

static void check_next(void *arg);

static void check_clear(struct check *c)
{
	binding_free(c->binding);
	config_free(c->config);
	stored_unref(c->stored);
	c->binding = NULL;
	c->config = NULL;
	c->stored = NULL;
}

void check_free(struct check *c)
{
	if (!c)
		return;
	if (c->load)
		c->engine->store->ops->cancel(c->engine->store, c->load);
	loop_timer_free(c->next);
	check_clear(c);
	for (size_t i = 0; i < c->len; i++)
		connector_unref(c->items[i]);
	free(c->items);
	free(c);
}

/* By way of the loop, so that a thousand connectors are no thousand frames deep. */
static void check_done_one(struct check *c)
{
	check_clear(c);
	c->at++;
	if (c->progress)
		c->progress(c->arg, c->at, c->len);
	loop_timer_set(c->next, 0);
}

static const char *check_name(const struct check *c)
{
	return c->items[c->at]->name;
}

static void check_trouble(void *arg, const struct config_ref *ref, enum resolution how,
                          const struct error *err)
{
	struct check *c = arg;
	const struct config_value *value = &c->config->values[ref->value];
	struct slice provider = config_ref_source(c->config, ref)->provider;
	struct buf key;

	buf_init(&key, 4096);
	if (buf_add_slice(&key, value->key) < 0 || !key.len)
		buf_add_str(&key, "(a key)");
	if (how == BROKEN)
		report_add(c->report, REPORT_ERROR, check_name(c), value->line, key.data, "%s", err->text);
	else if (how == LITERAL && resolver_has_provider(c->engine->resolver, provider))
		report_add(c->report, REPORT_NOTE, check_name(c), value->line, key.data,
		           "stays as it is: the provider \"%.*s\" has no such key", SLICE_FMT(provider));
	else if (how == LITERAL)
		report_add(c->report, REPORT_NOTE, check_name(c), value->line, key.data,
		           "stays as it is: there is no provider \"%.*s\" in config.providers", SLICE_FMT(provider));
	buf_free(&key);
}

/* Offline, only what can't work whatever the secret store says is an error. */
static void check_offline(struct check *c)
{
	for (size_t i = 0; i < c->config->n_refs; i++) {
		struct error err = ERROR_INIT;
		enum resolution how = binding_unfit(c->binding, i, &err);

		if (how != RESOLVED)
			check_trouble(c, &c->config->refs[i], how, &err);
	}
}

static void check_said(void *arg)
{
	struct check *c = arg;

	binding_survey(c->binding, c->config, NULL, NULL, check_trouble, c);
	check_done_one(c);
}

/* Each is looked at once: what changes later is none of its business. */
static void ignore_change(void *arg, int64_t since_ms)
{
	(void)arg;
	(void)since_ms;
}

static void check_loaded(void *arg, struct stored *stored, const struct error *err)
{
	struct check *c = arg;
	struct error parse = ERROR_INIT;
	unsigned line = 0;

	c->load = NULL;
	c->stored = stored;
	if (err) {
		report_add(c->report, REPORT_ERROR, check_name(c), 0, NULL, "%s", err->text);
	} else if (config_parse(stored_text(stored), stored->syntax, &c->config, &line, &parse) < 0) {
		report_add(c->report, REPORT_ERROR, check_name(c), line, NULL, "%s", parse.text);
	} else if (resolver_bind(c->engine->resolver, c->config, ignore_change, c, &c->binding) < 0) {
		report_add(c->report, REPORT_ERROR, check_name(c), 0, NULL, "out of memory");
	} else {
		if (!c->config->reload_valid)
			report_add(c->report, REPORT_ERROR, check_name(c), 0, "config.action.reload",
			           "must be restart or none");
		if (c->online) {
			if (binding_need(c->binding, NEED_FRESH, check_said, c) == 0)
				check_said(c);
			return;
		}
		check_offline(c);
	}
	check_done_one(c);
}

static void check_next(void *arg)
{
	struct check *c = arg;
	struct store *store = c->engine->store;

	if (c->at == c->len) {
		void (*done)(void *) = c->done;
		void *done_arg = c->arg;

		c->engine->check = NULL;
		check_free(c);
		done(done_arg);
		return;
	}
	c->load = store->ops->load(store, check_name(c), check_loaded, c);
	if (!c->load) {
		report_add(c->report, REPORT_ERROR, check_name(c), 0, NULL, "out of memory");
		check_done_one(c);
	}
}

static void check_named(struct check *c, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct error err = ERROR_INIT;
		struct connector *conn = engine_find(c->engine, names[i], &err);

		if (conn)
			c->items[c->len++] = conn;
		else
			report_add(c->report, REPORT_ERROR, NULL, 0, NULL, "%s", err.text);
	}
}

int engine_check(struct engine *e, bool online, const char *const *names, size_t n, struct report *report,
                 void (*progress)(void *arg, size_t done, size_t total), void (*done)(void *arg), void *arg)
{
	struct listing *all = catalog_list(e->catalog);
	struct check *c = calloc(1, sizeof(*c));

	if (all && c)
		c->items = calloc((n ? n : all->len) + 1, sizeof(struct connector *));
	if (c)
		c->next = loop_timer_new(e->loop, check_next, c);
	if (!all || !c || !c->items || !c->next) {
		listing_unref(all);
		check_free(c);
		return -ENOMEM;
	}
	c->engine = e;
	c->online = online;
	c->report = report;
	c->progress = progress;
	c->done = done;
	c->arg = arg;
	if (n)
		check_named(c, names, n);
	else
		for (size_t i = 0; i < all->len; i++)
			c->items[c->len++] = connector_ref(all->items[i]);
	listing_unref(all);
	e->check = c;
	loop_timer_set(c->next, 0);
	return 0;
}
