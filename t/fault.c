/*
 * Lets the worker of t/connectfs-test die at a place of the test's choice (base/fault.h).
 *
 * The environment variable CONNECTFS_FAULT names a file of two 64-bit numbers, which is mapped at the start (the
 * sandbox would forbid it later), and which the test writes while we run: how many places are still to be passed
 * up to the one that kills (0: none kills), and how many have been passed. Counted down in the file, the number
 * is 0 when the successor comes, which lives.
 */
#include "base/fault.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct faults {
	_Atomic int64_t left;
	_Atomic int64_t passed;
};

static struct faults *faults; /* NULL: nobody asks */

__attribute__((constructor)) static void map_file(void)
{
	const char *path = getenv("CONNECTFS_FAULT");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *map;

	if (fd < 0)
		return;
	map = mmap(NULL, sizeof(*faults), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		faults = map;
}

void fault_point(void)
{
	if (!faults)
		return;
	atomic_fetch_add_explicit(&faults->passed, 1, memory_order_relaxed);
	/* Of several threads the one that takes the last kills; it doesn't come back from it. kill(2) is not for
	 * the sandbox. */
	if (atomic_load_explicit(&faults->left, memory_order_relaxed) > 0 && atomic_fetch_sub(&faults->left, 1) == 1)
		syscall(SYS_tgkill, getpid(), gettid(), SIGKILL);
}
