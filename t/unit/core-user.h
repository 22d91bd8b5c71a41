/*
 * A resolver and its users, for the tests of the resolver.
 */
#ifndef T_UNIT_CORE_USER_H
#define T_UNIT_CORE_USER_H

#include "core-help.h"

#include "core/resolver_private.h"

static struct resolver *resolver;
static struct watcher *watcher;
static struct pool *pool;

/* A connector's place: its config, its binding, and what it was told. */
struct user {
	char text[512];
	struct config *config;
	struct binding *b;
	unsigned changed, done;
	int64_t since_ms;
	bool fetching; /* needs again in done */
};

static inline void user_changed(void *arg, int64_t since_ms)
{
	struct user *u = arg;

	u->changed++;
	u->since_ms = since_ms;
}

static inline void user_done(void *arg)
{
	struct user *u = arg;

	u->done++;
}

static inline struct user *user_new(const char *text)
{
	struct user *u = calloc(1, sizeof(*u));
	struct error err = ERROR_INIT;
	unsigned line;

	assert_non_null(u);
	(void)snprintf(u->text, sizeof(u->text), "%s", text);
	assert_int_equal(config_parse(slice_str(u->text), CONFIG_PROPERTIES, &u->config, &line, &err), 0);
	assert_int_equal(resolver_bind(resolver, u->config, user_changed, u, &u->b), 0);
	return u;
}

static inline void user_free(struct user *u)
{
	binding_free(u->b);
	config_free(u->config);
	free(u);
}

static inline int begin(struct user *u, enum need need)
{
	u->done = 0;
	return binding_need(u->b, need, user_done, u);
}

static inline void need(struct user *u, enum need what)
{
	if (begin(u, what) == 1)
		UNTIL(u->done);
}

static struct error why;

static inline enum resolution what(struct user *u, size_t i, const char *value)
{
	struct slice v = { NULL, 0 };
	enum resolution r;

	why = (struct error)ERROR_INIT;
	r = binding_resolve(u->b, i, &v, &why);
	if (r == RESOLVED || r == RESOLVED_STALE) {
		if (!slice_eq_str(v, value))
			fail_msg("\"%.*s\" and not \"%s\"", SLICE_FMT(v), value ? value : "");
	}
	return r;
}

static inline void assert_broken(struct user *u, size_t i, int code, const char *text)
{
	assert_int_equal(what(u, i, NULL), BROKEN);
	if (why.code != code || !strstr(why.text, text))
		fail_msg("%s: %s", strerror(why.code), why.text);
}

static inline void make_resolver(bool watching)
{
	struct report report = REPORT_INIT;

	assert_int_equal(resolver_new(&settings, loop, pool, watching ? watcher : NULL, &resolver, &report), 0);
	assert_int_equal(report.len, 0);
}

static inline int setup(void **state)
{
	(void)state;
	help_loop_new();
	help_settings();
	help_fake();
	help_dir();
	assert_int_equal(pool_new(loop, &pool), 0);
	assert_int_equal(watcher_new(loop, pool, &watcher), 0);
	make_resolver(true);
	return 0;
}

static inline int teardown(void **state)
{
	size_t pos = 0;

	(void)state;
	assert_null(resolver_next_secret(resolver, &pos)); /* none is kept that nobody uses */
	resolver_free(resolver);
	watcher_free(watcher);
	pool_free(pool);
	help_loop_free();
	help_settings_done();
	help_dir_done();
	return 0;
}

static inline void again(void)
{
	resolver_free(resolver);
	make_resolver(true);
}

#endif
