/*
 * connectfs check: looks at all stored configs and says all that is wrong.
 */
#include <errno.h>
#include <getopt.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/strmap.h"
#include "cli/cli.h"

enum { PROGRESS_MS = 100 };

struct checking {
	bool done, show;  /* show: progress, on a terminal */
	size_t total;
	int64_t shown_ms; /* when progress was shown last; 0: never */
};

static void on_progress(void *arg, size_t done, size_t total)
{
	struct checking *c = arg;
	int64_t now = clock_mono_ms();

	c->total = total;
	if (!c->show || (c->shown_ms && now - c->shown_ms < PROGRESS_MS))
		return;
	c->shown_ms = now;
	fprintf(stderr, "\r%zu/%zu", done, total);
	fflush(stderr);
}

static void on_done(void *arg)
{
	struct checking *c = arg;

	if (c->shown_ms)
		fputs("\r                                        \r", stderr);
	c->done = true;
}

/* How many connectors have an error. */
static int count_broken(const struct report *report, size_t *ret)
{
	static char mark;
	struct strmap *files = strmap_new();
	int r = files ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < report->len; i++) {
		const struct report_item *item = &report->items[i];
		if (item->severity == REPORT_ERROR && item->file)
			r = strmap_put(files, slice_str(item->file), &mark, NULL);
	}
	if (r == 0)
		*ret = strmap_len(files);
	strmap_free(files, NULL);
	return r;
}

static int summarize(const struct report *report, size_t total)
{
	size_t broken = 0;

	report_print(report, stderr);
	if (count_broken(report, &broken) < 0)
		return cli_no_memory();
	printf("%zu connector%s, %zu broken", total, total == 1 ? "" : "s", broken);
	if (report->warnings)
		printf(", %zu warning%s", report->warnings, report->warnings == 1 ? "" : "s");
	putchar('\n');
	if (fflush(stdout) != 0)
		return cli_broken("can't write to standard output: %s", strerror(errno));
	return report->errors ? 1 : 0;
}

static int check(struct cli_once *o, bool online, const char *const *names, size_t n)
{
	struct checking c = { .show = isatty(STDERR_FILENO) };
	struct report report = REPORT_INIT;
	int r = engine_check(o->engine, online, names, n, &report, on_progress, on_done, &c);

	if (r == 0)
		r = cli_once_wait(o, &c.done);
	int status = r < 0 ? cli_broken("can't check: %s", strerror(-r)) : summarize(&report, c.total);
	report_done(&report);
	return status;
}

int cli_check(int argc, char **argv)
{
	static const struct option options[] = {
		{ "online", no_argument, NULL, 'n' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct cli_settings settings = { NULL, 0 };
	struct cli_once once;
	bool online = false;
	int c, status = 0;

	while (status == 0 && (c = getopt_long(argc, argv, "s:h", options, NULL)) != -1) {
		if (c == 's') {
			status = cli_settings_add(&settings, optarg);
		} else if (c == 'n') {
			online = true;
		} else {
			cli_settings_done(&settings);
			return cli_option(c);
		}
	}
	if (status == 0 && optind >= argc)
		status = cli_usage("check: give SOURCE, a settings file or a directory of stored configs");
	if (status == 0) {
		status = cli_once_open(argv[optind], &settings, true, &once);
		if (status == 0)
			status = check(&once, online, (const char *const *)argv + optind + 1,
			               (size_t)(argc - optind - 1));
		cli_once_close(&once);
	}
	cli_settings_done(&settings);
	return status;
}
