/*
 * The three processes of a mount, roles of one binary, each started by exec.
 *
 *   supervisor   mounts, keeps the device, starts the others and starts them again
 *   worker       everything else
 *   notifier     touches the mount (fs/notifier.h)
 */
#ifndef CONNECTFS_DAEMON_DAEMON_H
#define CONNECTFS_DAEMON_DAEMON_H

#include <stdbool.h>
#include <stddef.h>

#include "core/settings.h"
#include "daemon/mount.h"

struct daemon_options {
	const char *source, *mountpoint;
	const struct settings_override *overrides;
	size_t n_overrides;
	struct mount_options mount;
	bool foreground, debug;
};

/*
 * Mounts and serves until it is unmounted or told to end. In the foreground: returns the exit
 * status at the end. Else: returns 0 in the caller as soon as the mount is ready, and 2 with the
 * sentence on standard error when it can't be. status 0 after an unmount or SIGTERM, SIGINT.
 */
int daemon_run(const struct daemon_options *options);

/* The hidden first argument of the other roles, "--role=worker" and "--role=notifier": runs the role
 * and returns its exit status; -1 when argv asks for no role. Called first thing in main. */
int daemon_role(int argc, char **argv);

#endif
