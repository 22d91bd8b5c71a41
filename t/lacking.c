/*
 * A notifier that lacks a protection, for the tests: linked into connectfs-test by --wrap=filter_notifier, never into the
 * installed program. A directory in PATH, which is most of what a notifier's environment has, says what is wrong:
 *
 *     /notifier-lacks-seccomp   the kernel has no seccomp filters for it
 *     /notifier-hangs           it does not come so far
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/filter.h"

int __real_filter_notifier(void);
int __wrap_filter_notifier(void);

int __wrap_filter_notifier(void)
{
	const char *path = getenv("PATH");

	while (path && strstr(path, "/notifier-hangs"))
		pause();
	return path && strstr(path, "/notifier-lacks-seccomp") ? -ENOSYS : __real_filter_notifier();
}
