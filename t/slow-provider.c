/*
 * The provider "slow", of the tests only: models a secret store on the network, which answers late, not at
 * all, or with an error, just as the test says. Linked into connectfs-test (src/main.c and this), never into
 * the installed program.
 *
 *     config.providers.slow.class=slow
 *     config.providers.slow.param.control=DIR     required
 *     config.providers.slow.param.delay.ms=N      of a fetch that says nothing else; 0
 *
 * ${slow:ID:FIELD} is the secret ID (without a path: "default"), as the file DIR/ID has it at each fetch. That
 * there is no such file is ENOKEY. Its lines, in any order:
 *
 *     delay=MS        answer then
 *     hold=1          answer as soon as the file no longer says so (then with what it says)
 *     hang=1          never answer
 *     error=ENOKEY    fail so (any of the names in errors[])
 *     outage=1        … being an outage
 *     text=SENTENCE   … with this sentence
 *     ttl=MS          to be read again then
 *     lease=MS        its values end then
 *     replace=MS      … and are replaced then; 9/10 of it
 *     constant=1
 *     .FIELD=VALUE    a field (without the dot where its name is none of these words)
 *
 * Each fetch writes a line to DIR/log when it begins, "fetch ID FIELD,FIELD", and one when it ends, "done ID" or
 * "cancel ID".
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/loop.h"
#include "base/strmap.h"
#include "provider/provider.h"
#include "provider/registry.h"

enum { HOLD_LOOK_MS = 5, CONTROL_MAX = 256 * 1024, FIELDS_MAX = 4096 };

struct slow {
	const struct provider_env *env;
	char *control;
	long delay_ms;
	int log; /* opened before the worker keeps itself from writing */
};

struct slow_fetch {
	struct slow *self;
	struct fetch *f;
	struct loop_timer *timer;
	char *path;
	bool answered; /* the delay has passed */
};

struct control {
	char *text;
	long delay_ms, ttl_ms, lease_ms, replace_ms;
	int err;
	bool hold, hang, outage, constant;
	const char *sentence;
	struct secret_field fields[FIELDS_MAX];
	size_t n_fields;
};

static const struct {
	const char *name;
	int value;
} errors[] = {
	{ "ENOKEY", ENOKEY }, { "EKEYEXPIRED", EKEYEXPIRED }, { "EKEYREVOKED", EKEYREVOKED },
	{ "EKEYREJECTED", EKEYREJECTED }, { "ETIMEDOUT", ETIMEDOUT }, { "ECONNREFUSED", ECONNREFUSED },
	{ "EHOSTUNREACH", EHOSTUNREACH }, { "EPROTO", EPROTO }, { "EIO", EIO },
};

static int error_by_name(const char *name)
{
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (!strcmp(errors[i].name, name))
			return errors[i].value;
	return EIO;
}

static void note(const struct slow *s, const char *what, const struct fetch *f, bool with_fields)
{
	char *line = NULL;
	size_t size = 0;
	FILE *m = open_memstream(&line, &size);

	if (!m)
		return;
	fprintf(m, "%s %.*s", what, SLICE_FMT(f->id));
	for (size_t i = 0; with_fields && i < f->n_fields; i++)
		fprintf(m, "%s%.*s", i ? "," : " ", SLICE_FMT(f->fields[i]));
	fputc('\n', m);
	fclose(m);
	if (s->log >= 0 && write(s->log, line, size) < 0)
		perror("slow provider: log");
	free(line);
}

static void control_line(struct control *c, char *line)
{
	char *value = strchr(line, '=');

	if (!value)
		return;
	*value++ = '\0';
	if (!strcmp(line, "delay"))
		c->delay_ms = atol(value);
	else if (!strcmp(line, "ttl"))
		c->ttl_ms = atol(value);
	else if (!strcmp(line, "lease"))
		c->lease_ms = atol(value);
	else if (!strcmp(line, "replace"))
		c->replace_ms = atol(value);
	else if (!strcmp(line, "error"))
		c->err = error_by_name(value);
	else if (!strcmp(line, "text"))
		c->sentence = value;
	else if (!strcmp(line, "hold"))
		c->hold = atoi(value) != 0;
	else if (!strcmp(line, "hang"))
		c->hang = atoi(value) != 0;
	else if (!strcmp(line, "outage"))
		c->outage = atoi(value) != 0;
	else if (!strcmp(line, "constant"))
		c->constant = atoi(value) != 0;
	else if (c->n_fields < FIELDS_MAX)
		c->fields[c->n_fields++] = (struct secret_field){ slice_str(line + (*line == '.')), slice_str(value) };
}

static int control_read(const struct slow *s, const char *path, struct control *c)
{
	char *next = NULL;
	FILE *f = fopen(path, "re");

	*c = (struct control){ .delay_ms = s->delay_ms, .ttl_ms = -1, .lease_ms = -1, .replace_ms = -1 };
	if (!f) {
		c->err = ENOKEY;
		c->sentence = "there is no such secret";
		return 0;
	}
	c->text = calloc(1, CONTROL_MAX + 1);
	if (c->text && fread(c->text, 1, CONTROL_MAX, f) == CONTROL_MAX)
		fprintf(stderr, "slow provider: %s is too long\n", path);
	fclose(f);
	if (!c->text)
		return -ENOMEM;
	for (char *line = strtok_r(c->text, "\n", &next); line; line = strtok_r(NULL, "\n", &next))
		control_line(c, line);
	return 0;
}

static void control_done(struct control *c)
{
	free(c->text);
	free(c);
}

static void fetch_free(struct slow_fetch *sf)
{
	sf->f->priv = NULL;
	loop_timer_free(sf->timer);
	free(sf->path);
	free(sf);
}

static bool wanted(const struct fetch *f, struct slice key)
{
	for (size_t i = 0; i < f->n_fields; i++)
		if (slice_eq(f->fields[i], key))
			return true;
	return false;
}

static void answer(struct slow_fetch *sf, struct control *c)
{
	struct fetch *f = sf->f;
	struct fetch_result r = { .err = c->err, .ttl_ms = c->ttl_ms, .lease_ms = c->lease_ms, .constant = c->constant,
	                          .replace_ms = c->replace_ms < 0 ? c->lease_ms * 9 / 10 : c->replace_ms };
	size_t n = 0;

	if (!c->err) {
		for (size_t i = 0; i < c->n_fields; i++)
			if (wanted(f, c->fields[i].key))
				c->fields[n++] = c->fields[i];
		r.values = secret_values_new(c->fields, n, NULL, 0);
		if (!r.values)
			r.err = EIO;
	}
	if (r.err) {
		r.outage = c->outage;
		r.text = c->sentence ? c->sentence : "the test said so";
	}
	note(sf->self, "done", f, false);
	fetch_free(sf);
	f->done(f, &r);
}

static void look(void *arg)
{
	struct slow_fetch *sf = arg;
	struct control *c = calloc(1, sizeof(*c));

	if (!c || control_read(sf->self, sf->path, c)) {
		loop_timer_set(sf->timer, HOLD_LOOK_MS);
	} else if (c->hang || c->hold) {
		loop_timer_set(sf->timer, HOLD_LOOK_MS);
	} else if (!sf->answered && c->delay_ms > 0) {
		sf->answered = true;
		loop_timer_set(sf->timer, c->delay_ms);
	} else {
		answer(sf, c);
	}
	if (c)
		control_done(c);
}

static int slow_fetch_start(void *self, struct fetch *f)
{
	struct slow *s = self;
	struct slow_fetch *sf = calloc(1, sizeof(*sf));

	if (!sf)
		return -ENOMEM;
	*sf = (struct slow_fetch){ .self = s, .f = f };
	sf->timer = loop_timer_new(s->env->loop, look, sf);
	if (asprintf(&sf->path, "%s/%.*s", s->control, SLICE_FMT(f->id)) < 0)
		sf->path = NULL;
	if (!sf->timer || !sf->path) {
		fetch_free(sf);
		return -ENOMEM;
	}
	f->priv = sf;
	note(s, "fetch", f, true);
	loop_timer_set(sf->timer, 0);
	return 0;
}

static void slow_cancel(void *self, struct fetch *f)
{
	note(self, "cancel", f, false);
	fetch_free(f->priv);
}

static int slow_map(void *self, struct slice path, struct slice key, struct buf *ret_id, struct buf *ret_field,
                    struct error *ret_err)
{
	(void)self;
	for (size_t i = 0; i < path.len; i++)
		if (path.data[i] == '/' || path.data[i] == '\0')
			return error_set(ret_err, EIO, "a secret of the slow provider has no '/' in its name");
	int r = buf_add_slice(ret_id, path.len ? path : SLICE_LIT("default"));
	return r ? r : buf_add_slice(ret_field, key);
}

static void slow_close(void *self)
{
	struct slow *s = self;

	if (s->log >= 0)
		close(s->log);
	free(s->control);
	free(s);
}

static int slow_open(const struct provider_env *env, const char *class_name, const struct strmap *params,
                     void **ret_self, const char **ret_param, struct error *ret_err)
{
	const char *control = strmap_get_str(params, "control"), *delay = strmap_get_str(params, "delay.ms");
	char path[4096];
	struct slow *s;

	(void)class_name;
	*ret_param = "control";
	if (!control || *control != '/')
		return error_set(ret_err, EINVAL, "param.control must be the path of a directory");
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->env = env;
	s->delay_ms = delay ? atol(delay) : 0;
	s->control = strdup(control);
	if (!s->control) {
		free(s);
		return -ENOMEM;
	}
	snprintf(path, sizeof(path), "%s/log", control);
	s->log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	*ret_param = NULL;
	*ret_self = s;
	return 0;
}

static void slow_reads(void *self, void (*add)(void *arg, const char *path), void *arg)
{
	struct slow *s = self;

	add(arg, s->control);
}

static const char *const slow_classes[] = { "org.example.SlowConfigProvider", NULL };

static const struct provider_ops provider_slow = {
	.name = "slow",
	.classes = slow_classes,
	.open = slow_open,
	.map = slow_map,
	.reads = slow_reads,
	.fetch = slow_fetch_start,
	.cancel = slow_cancel,
	.close = slow_close,
};

__attribute__((constructor)) static void slow_register(void)
{
	if (registry_add(&provider_slow))
		abort();
}
