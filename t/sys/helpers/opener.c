/*
 * Opens a file once with a handler for SIGUSR1 (no SA_RESTART): opener FILE. "opening", then "ok BYTES" or the errno.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void on_usr1(int sig)
{
	(void)sig;
}

int main(int argc, char **argv)
{
	static char buf[1 << 20];
	struct sigaction sa = { .sa_handler = on_usr1 };

	if (argc != 2)
		return 2;
	sigaction(SIGUSR1, &sa, NULL);
	printf("opening\n");
	fflush(stdout);
	int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		printf("%s\n", strerrorname_np(errno));
		return 1;
	}
	ssize_t n = read(fd, buf, sizeof(buf));
	printf("ok %zd\n", n);
	return 0;
}
