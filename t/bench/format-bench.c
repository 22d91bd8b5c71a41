/*
 * References resolved by the pure functions: how long, and how that grows on hostile values.
 *
 * Prints a JSON line for each: {"name", "ns"} (nanoseconds for one operation, the median of several
 * rounds; "min_ns" and "max_ns" are the spread). t/interop/TransformBench.java does the first two
 * with Kafka's ConfigTransformer; as that, they render a config that is parsed already, and "… with
 * parsing" does both. The hostile ones scan, or parse and render, a text of so many KiB.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "format/config.h"
#include "format/limits.h"
#include "format/reference.h"

enum { ROUNDS = 9, ROUND_NS = 10 * 1000 * 1000, N_VALUES = 1000, VALUE_MAX = 64 };

static char values[N_VALUES][VALUE_MAX];

struct job {
	struct slice text;
	const struct config *config; /* NULL: parse each time */
	struct buf out;
	size_t sink;                 /* so that nothing is optimised away */
};

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "format-bench: %s\n", what);
	exit(2);
}

/* The keys are key0, key1, … */
static bool look_up(void *arg, size_t index, struct slice *ret)
{
	const struct config_ref *r = &((const struct config *)arg)->refs[index];
	size_t n = 0;

	for (size_t i = strlen("key"); i < r->key.len; i++)
		n = 10 * n + (size_t)(r->key.data[i] - '0');
	if (n >= N_VALUES)
		return false;
	*ret = slice_str(values[n]);
	return true;
}

static void render(struct job *j, const struct config *c)
{
	buf_reset(&j->out);
	if (config_render(c, j->text, look_up, (void *)(uintptr_t)c, &j->out) < 0)
		die("can't render");
	j->sink += j->out.len;
}

static void run_render(struct job *j)
{
	render(j, j->config);
}

static void run_parse_render(struct job *j)
{
	struct config *c;

	if (config_parse(j->text, CONFIG_PROPERTIES, &c, NULL, NULL) < 0)
		die("can't parse");
	render(j, c);
	config_free(c);
}

static void run_scan(struct job *j)
{
	struct reference ref;
	size_t pos = 0;

	while (reference_next(j->text, &pos, &ref))
		j->sink += ref.end;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double time_round(void (*run)(struct job *), struct job *j)
{
	int64_t start = clock_mono_ns(), now;
	size_t n = 0;

	do {
		run(j);
		n++;
		now = clock_mono_ns();
	} while (now - start < ROUND_NS);
	return (double)(now - start) / (double)n;
}

static void measure(const char *name, size_t kib, void (*run)(struct job *), struct job *j)
{
	double ns[ROUNDS];
	char size[32] = "";

	run(j); /* warm */
	for (size_t i = 0; i < ROUNDS; i++)
		ns[i] = time_round(run, j);
	qsort(ns, ROUNDS, sizeof(*ns), compare);
	if (kib)
		(void)snprintf(size, sizeof(size), ", %zu KiB", kib);
	printf("{\"name\":\"%s%s\",\"ns\":%.1f,\"min_ns\":%.1f,\"max_ns\":%.1f}\n", name, size, ns[ROUNDS / 2],
	       ns[0], ns[ROUNDS - 1]);
	fflush(stdout);
}

static void measure_config(const char *name, struct buf *text)
{
	struct job j = { .text = buf_slice(text) };
	struct config *c;
	char with[64];

	if (text->err || config_parse(j.text, CONFIG_PROPERTIES, &c, NULL, NULL) < 0)
		die("can't parse");
	j.config = c;
	buf_init_secret(&j.out, LIMIT_RENDERED_BYTES);
	measure(name, 0, run_render, &j);
	(void)snprintf(with, sizeof(with), "%s, with parsing", name);
	measure(with, 0, run_parse_render, &j);
	buf_free(&j.out);
	config_free(c);
	buf_free(text);
}

static void bench_30_keys(void)
{
	struct buf text;

	buf_init(&text, LIMIT_STORED_BYTES);
	for (int i = 0; i < 25; i++)
		buf_addf(&text, "some.property.name.%d=an ordinary value of number %d\n", i, i);
	for (int i = 0; i < 5; i++)
		buf_addf(&text, "some.secret.%d=${file:/run/secrets/orders.properties:key%d}\n", i, i);
	measure_config("30 keys, 5 references", &text);
}

static void bench_1000_references(void)
{
	struct buf text;

	buf_init(&text, LIMIT_STORED_BYTES);
	buf_add_str(&text, "value=");
	for (int i = 0; i < N_VALUES; i++)
		buf_addf(&text, "${file:/run/secrets/orders.properties:key%d} ", i);
	measure_config("1 value, 1000 references", &text);
}

/* A text of just so many KiB: "k=", head, and as much of the pattern as fits. */
static void bench_hostile(const char *name, const char *head, const char *pattern)
{
	for (size_t kib = 1; kib <= LIMIT_STORED_BYTES / 1024; kib *= 2) {
		size_t len = strlen(pattern), head_len = strlen(head) + 2;
		struct job j = { .config = NULL };
		char *text = malloc(kib * 1024 + 1), label[64];

		if (!text)
			die("out of memory");
		sprintf(text, "k=%s", head);
		for (size_t i = head_len; i < kib * 1024; i++)
			text[i] = pattern[(i - head_len) % len];
		j.text = slice_of(text, kib * 1024);
		buf_init_secret(&j.out, LIMIT_RENDERED_BYTES);
		(void)snprintf(label, sizeof(label), "hostile %s, scan", name);
		measure(label, kib, run_scan, &j);
		(void)snprintf(label, sizeof(label), "hostile %s, parse and render", name);
		measure(label, kib, run_parse_render, &j);
		buf_free(&j.out);
		free(text);
	}
}

int main(void)
{
	for (int i = 0; i < N_VALUES; i++)
		(void)snprintf(values[i], sizeof(values[i]), "the-value-of-secret-%d", i);
	bench_30_keys();
	bench_1000_references();
	bench_hostile("${ repeated", "", "${");
	bench_hostile("colons without end", "${", ":");
	bench_hostile("${: repeated", "", "${:");
	return 0;
}
