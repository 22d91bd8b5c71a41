/*
 * For tests of the core: a loop that is run until something is so, settings made by hand, a provider that
 * answers what the test says ("fake"), and a binding with its counts.
 */
#ifndef CONNECTFS_UNIT_CORE_HELP_H
#define CONNECTFS_UNIT_CORE_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "core/core.h"
#include "provider/registry.h"

/* ---- the loop ---- */

static struct loop *loop;
static struct loop_timer *tick;

static inline void help_tick(void *arg)
{
	(void)arg;
	loop_timer_set(tick, 2);
}

/* Runs the loop until cond; fails the test after so many seconds. */
enum { PATIENCE_MS = 20000 };
#define UNTIL(cond)                                                                     \
	do {                                                                            \
		int64_t until_ = clock_mono_ms() + PATIENCE_MS;                         \
		while (!(cond)) {                                                       \
			if (clock_mono_ms() > until_)                                   \
				fail_msg("%s:%d: never: %s", __FILE__, __LINE__, #cond); \
			loop_run_once(loop, 1);                                         \
		}                                                                       \
	} while (0)

static inline void run_for(int64_t ms)
{
	int64_t end = clock_mono_ms() + ms;

	do
		loop_run_once(loop, 1);
	while (clock_mono_ms() < end);
}

/* Runs what is due now. */
static inline void run_due(void)
{
	for (int i = 0; i < 5; i++)
		loop_run_once(loop, 0);
}

static inline void help_no_log(const char *line, void *arg)
{
	(void)line;
	(void)arg;
}

static inline void help_loop_new(void)
{
	log_set_sink(help_no_log, NULL);
	assert_int_equal(loop_new(&loop), 0);
	tick = loop_timer_new(loop, help_tick, NULL);
	assert_non_null(tick);
	loop_timer_set(tick, 2);
}

static inline void help_loop_free(void)
{
	run_due();
	loop_timer_free(tick);
	loop_free(loop);
}

/* ---- settings ---- */

static struct provider_settings help_providers[5];
static struct settings settings;

static inline void help_settings(void)
{
	static const char *const names[][2] = {
		{ "fake", "fake" }, { "file", "file" }, { "lacked", "com.example.Vault" }, { "classless", NULL }, { "fake2", "fake" },
	};
	const struct refresh_settings refresh = { .fresh_ms = 60, .poll_ms = 100, .stale_ms = 60000, .max_rps = 1000 };

	settings = (struct settings){
		.source = (char *)(uintptr_t)"source",
		.providers = help_providers,
		.n_providers = 5,
		.refresh = refresh,
		.wait_ms = 300,
		.settle_ms = 20,
	};
	for (size_t i = 0; i < 5; i++) {
		help_providers[i] = (struct provider_settings){
			.name = (char *)(uintptr_t)names[i][0],
			.class_name = (char *)(uintptr_t)names[i][1],
			.params = strmap_new(),
			.refresh = refresh,
		};
		assert_non_null(help_providers[i].params);
	}
}

static inline void help_settings_done(void)
{
	for (size_t i = 0; i < 5; i++)
		strmap_free(help_providers[i].params, NULL);
}

/* ---- the fake provider: ${fake:ID:FIELD} ---- */

struct fake {
	char id[32];
	int err;
	bool outage, hang, oom, constant;
	const char *text;
	int64_t ttl_ms, lease_ms, delay_ms;
	int64_t replace_ms;    /* with a lease; -1: 9/10 of it */
	const char *state;     /* of a lease; NULL: none */
	const char *pairs[16]; /* key, value, …, NULL */
	unsigned fetches, cancels;
	char fields[256];      /* of the last fetch */
	struct fake_fetch *flight;
};

struct fake_fetch {
	struct fake *fake;
	struct fetch *f;
	struct loop_timer *timer;
};

static struct fake fakes[64];
static char fake_log[4096];                 /* what it was called for, but fetches: "release one; …" */
static size_t n_fakes;

static inline struct fake *fake(const char *id)
{
	for (size_t i = 0; i < n_fakes; i++)
		if (!strcmp(fakes[i].id, id))
			return &fakes[i];
	assert_true(n_fakes < 64);
	fakes[n_fakes] = (struct fake){ .ttl_ms = -1, .lease_ms = -1, .replace_ms = -1 };
	(void)snprintf(fakes[n_fakes].id, sizeof(fakes[0].id), "%s", id);
	return &fakes[n_fakes++];
}

/* Its fields from now on: key, value, … */
#define fake_set(fk, ...) \
	memcpy((fk)->pairs, ((const char *[16]){ __VA_ARGS__, NULL }), sizeof((fk)->pairs))

static inline void fake_end(struct fake_fetch *ff)
{
	ff->fake->flight = NULL;
	loop_timer_free(ff->timer);
	free(ff);
}

static inline void fake_answer(void *arg)
{
	struct fake_fetch *ff = arg;
	struct fake *fk = ff->fake;
	struct fetch *f = ff->f;
	struct fetch_result r = { .err = fk->err, .outage = fk->outage, .text = fk->text, .ttl_ms = fk->ttl_ms,
	                          .lease_ms = fk->lease_ms, .constant = fk->constant, .state = slice_str(fk->state),
	                          .replace_ms = fk->replace_ms < 0 ? fk->lease_ms * 9 / 10 : fk->replace_ms };
	struct secret_field fields[8];
	size_t n = 0;

	fake_end(ff);
	for (size_t i = 0; i < f->n_fields && !r.err; i++)
		for (const char **p = fk->pairs; *p; p += 2)
			if (slice_eq_str(f->fields[i], p[0]))
				fields[n++] = (struct secret_field){ f->fields[i], slice_str(p[1]) };
	if (!r.err) {
		r.values = secret_values_new(fields, n, NULL, 0);
		if (!r.values) {
			r.err = EIO;
			r.outage = true;
		}
	}
	if (r.err && !r.text)
		r.text = "it says no";
	f->done(f, &r);
}

static inline int fake_open(const struct provider_env *env, const char *class_name, const struct strmap *params,
                            void **ret_self, const char **ret_param, struct error *err)
{
	(void)env;
	(void)class_name;
	if (strmap_get_str(params, "bad")) {
		*ret_param = "bad";
		return error_set(err, EINVAL, "must not be given");
	}
	*ret_self = fakes;
	return 0;
}

static inline int fake_map(void *self, struct slice path, struct slice key, struct buf *id, struct buf *field,
                           struct error *err)
{
	int r;

	(void)self;
	if (slice_eq_str(path, "unmapped"))
		return error_set(err, EIO, "the path \"unmapped\" is none");
	r = buf_add_slice(id, path);
	return r ? r : buf_add_slice(field, key);
}

static inline int fake_fetch(void *self, struct fetch *f)
{
	char id[32];
	struct fake *fk;
	struct fake_fetch *ff;

	(void)self;
	(void)snprintf(id, sizeof(id), "%.*s", SLICE_FMT(f->id));
	fk = fake(id);
	fk->fetches++;
	if (fk->oom)
		return -ENOMEM;
	assert_null(fk->flight); /* one at a time */
	ff = calloc(1, sizeof(*ff));
	if (ff)
		ff->timer = loop_timer_new(loop, fake_answer, ff);
	if (!ff || !ff->timer) {
		free(ff);
		return -ENOMEM;
	}
	fk->fields[0] = '\0';
	for (size_t i = 0; i < f->n_fields; i++)
		(void)snprintf(fk->fields + strlen(fk->fields), sizeof(fk->fields) - strlen(fk->fields), "%s%.*s",
		               i ? "," : "", SLICE_FMT(f->fields[i]));
	ff->f = f;
	ff->fake = fk;
	f->priv = ff;
	fk->flight = ff;
	if (!fk->hang)
		loop_timer_set(ff->timer, fk->delay_ms);
	return 0;
}

static inline void fake_cancel(void *self, struct fetch *f)
{
	struct fake_fetch *ff = f->priv;

	(void)self;
	ff->fake->cancels++;
	fake_end(ff);
}

static inline void fake_close(void *self)
{
	(void)self;
	for (size_t i = 0; i < n_fakes; i++)
		assert_null(fakes[i].flight);
}

static inline void fake_note(const char *what, struct slice a, struct slice b)
{
	size_t n = strlen(fake_log);

	(void)snprintf(fake_log + n, sizeof(fake_log) - n, "%s %.*s%s%.*s; ", what, SLICE_FMT(a), b.len ? " " : "",
	               SLICE_FMT(b));
}

static inline void fake_restore(void *self, struct slice name, struct slice data)
{
	(void)self;
	fake_note("restore", name, data);
}

static inline int fake_adopt(void *self, struct slice id, struct slice state, int64_t lease_ms)
{
	(void)self;
	assert_true(lease_ms > 0);
	fake_note("adopt", id, state);
	return slice_eq_str(state, "bad") ? -EINVAL : 0;
}

static inline void fake_release_secret(void *self, struct slice id)
{
	(void)self;
	fake_note("release", id, slice_of(NULL, 0));
}

/* A fetch that hangs ends now. */
static inline void fake_release(struct fake *fk)
{
	fk->hang = false;
	if (fk->flight)
		loop_timer_set(fk->flight->timer, 0);
}

static const char *const fake_classes[] = { NULL };
static const struct provider_ops fake_ops = {
	.name = "fake", .classes = fake_classes, .open = fake_open, .map = fake_map, .fetch = fake_fetch,
	.cancel = fake_cancel, .close = fake_close, .restore = fake_restore, .adopt = fake_adopt,
	.release = fake_release_secret,
};

static inline void help_fake(void)
{
	static bool added;

	if (!added)
		assert_int_equal(registry_add(&fake_ops), 0);
	added = true;
	n_fakes = 0;
}

/* ---- files ---- */

static char dir[64];

static inline const char *at(const char *name)
{
	static char ring[16][256];
	static unsigned next;
	char *s = ring[next++ % 16];

	(void)snprintf(s, sizeof(ring[0]), "%.60s/%.180s", dir, name);
	return s;
}

static inline void put_in_place(const char *name, const char *text)
{
	int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	assert_int_equal(close(fd), 0);
}

/* Whole, by rename. */
static inline void put(const char *name, const char *text)
{
	put_in_place(".new", text);
	assert_int_equal(rename(at(".new"), at(name)), 0);
}

static inline void help_dir(void)
{
	strcpy(dir, "/tmp/connectfs-t-XXXXXX");
	assert_non_null(mkdtemp(dir));
}

static inline void help_dir_done(void)
{
	char command[128];

	(void)snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	assert_int_equal(system(command), 0);
}

#endif
