/*
 * For tests of providers: a loop and a pool, a directory to write files in, and a fetch that
 * is waited for.
 */
#ifndef CONNECTFS_UNIT_PROVIDER_HELP_H
#define CONNECTFS_UNIT_PROVIDER_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "provider/provider.h"
#include "provider/registry.h"

enum { HELP_FIELDS = 16, HELP_DEADLINE_MS = 20000 };

static struct provider_env env;
static char base[PATH_MAX]; /* the test's directory; real path */

static inline int help_setup(void **state)
{
	char template[] = "/tmp/connectfs-t-XXXXXX";

	(void)state;
	if (!mkdtemp(template) || !realpath(template, base))
		return -1;
	return loop_new(&env.loop) < 0 || pool_new(env.loop, &env.pool) < 0 ? -1 : 0;
}

static inline int help_teardown(void **state)
{
	char command[PATH_MAX + 16];

	(void)state;
	pool_free(env.pool);
	loop_free(env.loop);
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", base);
	return system(command);
}

/* The path of a name in the test's directory; valid until the 64th call after. */
static inline const char *at(const char *name)
{
	static char ring[64][PATH_MAX];
	static unsigned next;
	char *s = ring[next++ % 64];

	(void)snprintf(s, PATH_MAX, "%.2000s/%.2000s", base, name);
	return s;
}

static inline void put_bytes(const char *name, const char *data, size_t len)
{
	int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (ssize_t)len);
	assert_int_equal(close(fd), 0);
}

static inline void put_text(const char *name, const char *text)
{
	put_bytes(name, text, strlen(text));
}

static inline void make_dir(const char *name)
{
	assert_int_equal(mkdir(at(name), 0700), 0);
}

static inline void make_link(const char *target, const char *name)
{
	assert_int_equal(symlink(target, at(name)), 0);
}

/* params: name, value, …, NULL */
static inline int open_provider(const char *class_name, const char *const *params, void **ret_self,
                                const char **ret_param, struct error *ret_err)
{
	const struct provider_ops *ops = registry_find(class_name);
	struct strmap *map = strmap_new();
	int r;

	assert_non_null(ops);
	assert_non_null(map);
	for (size_t i = 0; params && params[i]; i += 2)
		assert_int_equal(strmap_put(map, slice_str(params[i]), (void *)(uintptr_t)params[i + 1], NULL), 0);
	r = ops->open(&env, class_name, map, ret_self, ret_param, ret_err);
	strmap_free(map, NULL);
	return r;
}

/* An opened provider. */
struct opened {
	const struct provider_ops *ops;
	void *self;
};

static inline struct opened open_with(const char *class_name, const char *const *params)
{
	struct opened o = { .ops = registry_find(class_name) };
	struct error err = ERROR_INIT;
	const char *param = NULL;
	int r = open_provider(class_name, params, &o.self, &param, &err);

	if (r < 0)
		fail_msg("%s: %s", param ? param : "", err.text);
	return o;
}

static inline void close_it(struct opened o)
{
	o.ops->close(o.self);
}

/* What a fetch brought, kept. */
struct got {
	bool done;
	int err;
	bool outage, constant;
	char text[ERROR_TEXT_MAX + 1];
	struct secret_values *values;
	int64_t ttl_ms;
	size_t n_files;        /* with err */
	char file[PATH_MAX];   /* the first */
	bool file_local, file_exists;
};

static inline void help_done(struct fetch *f, const struct fetch_result *r)
{
	struct got *g = f->arg;

	assert_false(g->done);
	g->done = true;
	g->err = r->err;
	g->outage = r->outage;
	g->constant = r->constant;
	g->values = r->values;
	g->ttl_ms = r->ttl_ms;
	(void)snprintf(g->text, sizeof(g->text), "%s", r->text ? r->text : "");
	g->n_files = r->n_files;
	if (r->n_files > 0) {
		(void)snprintf(g->file, sizeof(g->file), "%s", r->files[0].path);
		g->file_local = r->files[0].local;
		g->file_exists = r->files[0].stamp.exists;
	}
	assert_true((r->err == 0) == (r->values != NULL));
	assert_true(r->err == 0 || r->text);
	assert_int_equal(r->lease_ms, -1);
}

/* A fetch that can be cancelled: the caller runs the loop. */
struct pending {
	struct fetch fetch;
	struct buf id;
	struct slice fields[HELP_FIELDS];
	struct got got;
};

static inline int map_it(struct opened o, const char *path, struct buf *ret_id, struct error *err)
{
	struct buf field;
	int r;

	buf_init(ret_id, 2 * PATH_MAX);
	buf_init(&field, 4096);
	r = o.ops->map(o.self, slice_str(path), SLICE_LIT("key"), ret_id, &field, err);
	if (r == 0)
		assert_true(slice_eq_str(buf_slice(&field), "key"));
	buf_free(&field);
	return r;
}

static inline int begin(struct opened o, const char *path, const char *const *keys, struct pending *p)
{
	struct error err = ERROR_INIT;
	size_t n = 0;

	memset(p, 0, sizeof(*p));
	assert_int_equal(map_it(o, path, &p->id, &err), 0);
	for (; keys[n]; n++)
		p->fields[n] = slice_str(keys[n]);
	p->fetch = (struct fetch){ .id = buf_slice(&p->id), .fields = p->fields, .n_fields = n,
	                           .deadline_ms = HELP_DEADLINE_MS, .done = help_done, .arg = &p->got };
	return o.ops->fetch(o.self, &p->fetch);
}

static inline struct got fetch_keys(struct opened o, const char *path, const char *const *keys)
{
	struct pending p;

	assert_int_equal(begin(o, path, keys, &p), 0);
	assert_false(p.got.done);
	while (!p.got.done)
		assert_int_equal(loop_run_once(env.loop, 1), 0);
	buf_free(&p.id);
	return p.got;
}
#define KEYS(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define PARAMS KEYS

static inline struct slice value_of(const struct got *g, const char *key)
{
	struct slice v = { NULL, 0 };

	if (g->values)
		(void)secret_values_get(g->values, slice_str(key), &v);
	return v;
}

/* Exactly these, key, value, …, NULL; and frees them. */
static inline void assert_values(struct got g, const char *const *want)
{
	size_t n = 0;

	if (g.err != 0)
		fail_msg("%s", g.text);
	for (; want[n]; n += 2) {
		struct slice v = value_of(&g, want[n]);

		if (!v.data || !slice_eq_str(v, want[n + 1]))
			fail_msg("key %s: not what was wanted, but \"%.*s\"", want[n], SLICE_FMT(v));
	}
	assert_int_equal(secret_values_count(g.values), n / 2);
	secret_values_unref(g.values);
}

static inline void assert_nothing(struct got g, const char *why)
{
	assert_values(g, KEYS(NULL));
	if (why && !strstr(g.text, why))
		fail_msg("\"%s\" does not hold \"%s\"", g.text, why);
}

static inline void assert_failed(struct got g, int err, bool outage, const char *why)
{
	if (g.err != err || g.outage != outage || !strstr(g.text, why))
		fail_msg("err %d outage %d \"%s\", wanted %d %d \"%s\"", g.err, g.outage, g.text, err, outage, why);
}

#endif
