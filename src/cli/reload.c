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
	WAIT_MAX_MS = 150000, /* longer than the supervisor waits for two new workers, one after the other */
};

static int tell(const char *text, int status)
{
	if (*text)
		fprintf(stderr, "%s%s", text, text[strlen(text) - 1] == '\n' ? "" : "\n");
	return status;
}

/* What has been begun before may not know what is installed and set now: it is another one that we wait for. */
static int await(const char *mountpoint, unsigned begun, struct mount_reloads *ret)
{
	int64_t end = clock_mono_ms() + WAIT_MAX_MS;
	pid_t pid;
	int err;

	do {
		usleep(LOOK_MS * 1000);
		err = mount_lock_read(mountpoint, &pid, ret);
		if (!err && ret->ended > begun)
			return 0;
		if (!err)
			free(ret->text);
	} while (err != -ENOENT && clock_mono_ms() < end);
	return err == -ENOENT ? err : -ETIMEDOUT;
}

static int reload(const char *path)
{
	struct error err = ERROR_INIT;
	struct mount_reloads r;
	char *mountpoint;
	int e, status;
	pid_t pid;

	if (mount_canonical(path, &mountpoint, &err) != 0)
		return cli_broken("%s", err.text);
	e = mount_lock_read(mountpoint, &pid, &r);
	if (!e)
		free(r.text);
	if (!e && kill(pid, SIGHUP) != 0)
		e = -errno;
	if (e) {
		free(mountpoint);
		if (e == -ENOENT || e == -ESRCH)
			return cli_broken("%s: no connectfs of this user serves it", path);
		return cli_broken("%s: %s", path, strerror(-e));
	}
	e = await(mountpoint, r.begun, &r);
	free(mountpoint);
	if (e)
		return cli_broken("%s: %s", path, e == -ENOENT ? "it has ended" : "the supervisor does not say how it went");
	status = tell(r.text, r.status);
	free(r.text);
	return status;
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
