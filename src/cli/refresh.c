/*
 * connectfs refresh: asks a mount to fetch secrets anew.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

struct request {
	const char *mountpoint;
	char **names;
	int n;
	bool leases;
};

static int write_name(int fd, const char *name, bool leases)
{
	char *line;
	int len = asprintf(&line, "%s%s\n", leases ? "leases/" : "", name), r = 0;

	if (len < 0)
		return -ENOMEM;
	ssize_t n = write(fd, line, (size_t)len); /* whole: the mount takes a line a write */
	if (n < 0)
		r = -errno;
	else if (n != len)
		r = -EIO;
	free(line);
	return r;
}

/* In the child: writes each name; where it fails the name goes to out. */
static int send_names(int out, void *arg)
{
	struct request *q = arg;
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/.connectfs/refresh", q->mountpoint);

	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -EPROTO : -errno; /* ENOENT is kept for connectors */
	if (q->n == 0)
		return write_name(fd, "*", q->leases);
	for (int i = 0; i < q->n; i++) {
		int r = write_name(fd, q->names[i], q->leases);
		if (r < 0)
			return write(out, q->names[i], strlen(q->names[i])) < 0 ? -errno : r;
	}
	return 0;
}

static int refresh(const char *path, char **names, int n, bool leases)
{
	struct request q = { NULL, names, n, leases };
	struct buf failed;
	char *mountpoint;
	int r, status = cli_find_mount(path, &mountpoint);

	if (status != 0)
		return status;
	for (int i = 0; i < n; i++) {
		if (!names[i][0] || strpbrk(names[i], "\n/")) {
			free(mountpoint);
			return cli_broken("%s: no such connector", names[i]);
		}
	}
	q.mountpoint = mountpoint;
	buf_init(&failed, 65536);
	r = cli_guard(send_names, &q, &failed);
	if (r == -ENOENT && failed.len)
		status = cli_broken("%s: no such connector", failed.data);
	else if (r < 0 && failed.len)
		status = cli_broken("%s: %s", failed.data, strerror(-r));
	else if (r < 0)
		status = cli_mount_fault(path, r);
	buf_free(&failed);
	free(mountpoint);
	return status;
}

int cli_refresh(int argc, char **argv)
{
	static const struct option options[] = {
		{ "leases", no_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	bool leases = false;
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c != 'l')
			return cli_option(c);
		leases = true;
	}
	if (optind >= argc)
		return cli_usage("refresh: give MOUNTPOINT, and connectors if not all are meant");
	return refresh(argv[optind], argv + optind + 1, argc - optind - 1, leases);
}
