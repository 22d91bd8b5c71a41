/*
 * connectfs render: one resolved config on standard output. It needs no mount, takes no
 * privilege, starts no other process.
 */
#include <errno.h>
#include <getopt.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

enum { SENTENCE_MAX = 65536 };

struct rendering {
	bool done;
	int err;
	struct snapshot *snapshot;
};

static void on_open(int err, struct snapshot *snapshot, void *arg)
{
	struct rendering *r = arg;

	r->err = err;
	r->snapshot = snapshot;
	r->done = true;
}

/* Why it can't be had: the sentence that the mount shows in user.connectfs.error. */
static int tell(struct connector *conn, int err)
{
	const char *name = connector_name(conn);
	struct buf text;
	int status;

	buf_init(&text, SENTENCE_MAX);
	if (connector_xattr(conn, "error", &text) < 0 || text.len == 0)
		status = cli_broken("%s: %s", name, strerror(-err));
	else if (text.len > strlen(name) && strncmp(text.data, name, strlen(name)) == 0)
		status = cli_broken("%s", text.data);
	else
		status = cli_broken("%s: %s", name, text.data);
	buf_free(&text);
	return status;
}

/* By write(2): stdio would leave a copy in memory that nobody wipes. */
static int write_out(const struct snapshot *snapshot)
{
	const char *p = snapshot_data(snapshot);
	size_t left = snapshot_size(snapshot);

	while (left > 0) {
		ssize_t n = write(STDOUT_FILENO, p, left);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return cli_broken("can't write to standard output: %s", strerror(errno));
		p += n;
		left -= (size_t)n;
	}
	return 0;
}

static int render(struct cli_once *o, const char *name)
{
	struct rendering r = { false, 0, NULL };
	struct open_wait *wait = NULL;
	struct error err = ERROR_INIT;
	struct connector *conn = engine_find(o->engine, name, &err);
	int status;

	if (!conn)
		return cli_broken("%s: %s", name, err.text[0] ? err.text : "no such connector");
	r.err = catalog_open_wait(engine_catalog(o->engine), conn, on_open, &r, &wait);
	if (!r.err) {
		int failed = cli_once_wait(o, &r.done);
		if (failed < 0)
			r.err = failed;
		open_wait_release(wait);
	}
	status = r.err ? tell(conn, r.err) : write_out(r.snapshot);
	snapshot_unref(r.snapshot);
	connector_unref(conn);
	return status;
}

int cli_render(int argc, char **argv)
{
	static const struct option options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct cli_settings settings = { NULL, 0 };
	struct cli_once once;
	int c, status = 0;

	while (status == 0 && (c = getopt_long(argc, argv, "s:h", options, NULL)) != -1) {
		if (c == 's') {
			status = cli_settings_add(&settings, optarg);
		} else {
			cli_settings_done(&settings);
			return cli_option(c);
		}
	}
	if (status == 0 && argc - optind != 2)
		status = cli_usage("render: give SOURCE and one CONNECTOR (a name as the mount shows it)");
	if (status == 0) {
		status = cli_once_open(argv[optind], &settings, false, &once);
		if (status == 0)
			status = render(&once, argv[optind + 1]);
		cli_once_close(&once);
	}
	cli_settings_done(&settings);
	return status;
}
