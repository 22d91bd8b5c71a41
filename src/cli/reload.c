/*
 * connectfs reload: the mount goes on with the program and the settings that are there now.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "daemon/mount.h"

enum {
	LOOK_MS = 20,
	WAIT_MAX_MS = 90000, /* longer than the supervisor waits for a new worker */
};

static int tell(const char *text, int status)
{
	if (*text)
		fprintf(stderr, "%s%s", text, text[strlen(text) - 1] == '\n' ? "" : "\n");
	return status;
}

static int reload(const char *path)
{
	struct error err = ERROR_INIT;
	unsigned before, n;
	char *mountpoint, *text;
	int64_t end = clock_mono_ms() + WAIT_MAX_MS;
	int r, status;
	pid_t pid;

	if (mount_canonical(path, &mountpoint, &err) != 0)
		return cli_broken("%s", err.text);
	r = mount_lock_read(mountpoint, &pid, &before, &status, &text);
	if (!r)
		free(text);
	if (!r && kill(pid, SIGHUP) != 0)
		r = -errno;
	if (r) {
		free(mountpoint);
		if (r == -ENOENT || r == -ESRCH)
			return cli_broken("%s: no connectfs of this user serves it", path);
		return cli_broken("%s: %s", path, strerror(-r));
	}
	do {
		usleep(LOOK_MS * 1000);
		r = mount_lock_read(mountpoint, &pid, &n, &status, &text);
		if (!r && n != before) {
			status = tell(text, status);
			free(text);
			free(mountpoint);
			return status;
		}
		if (!r)
			free(text);
	} while (r != -ENOENT && clock_mono_ms() < end);
	free(mountpoint);
	return cli_broken("%s: %s", path, r == -ENOENT ? "it has ended" : "the supervisor does not say how it went");
}

int cli_reload(int argc, char **argv)
{
	static const struct option options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1)
		return cli_option(c);
	if (optind + 1 != argc)
		return cli_usage("reload: give MOUNTPOINT");
	return reload(argv[optind]);
}
