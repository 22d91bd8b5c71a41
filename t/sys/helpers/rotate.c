/*
 * Writes a secret file again and again until SIGTERM: rotate FILE MICROSECONDS rename|inplace [SECONDS].
 * Version v has version=v, a=v-xxx… of (v * 37) % 3000 bytes, b=v, end=v. Prints "last V writes N".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stop;

static void on_term(int sig)
{
	(void)sig;
	stop = 1;
}

static int put(const char *path, const char *text, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, text, len) != (ssize_t)len || close(fd)) {
		perror(path);
		return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static char text[8192], pad[4096];
	char tmp[4096];
	struct timespec t;
	unsigned long v = 0;

	if (argc < 4)
		return 2;
	long us = atol(argv[2]), limit = argc > 4 ? (long)(atof(argv[4]) * 1e6 / (us ? us : 1)) : -1;
	int in_place = !strcmp(argv[3], "inplace");
	signal(SIGTERM, on_term);
	memset(pad, 'x', sizeof(pad) - 1);
	snprintf(tmp, sizeof(tmp), "%s.rotate", argv[1]);
	clock_gettime(CLOCK_MONOTONIC, &t);
	while (!stop && (limit < 0 || (long)v < limit)) {
		v++;
		int n = snprintf(text, sizeof(text), "version=%lu\na=%lu-%.*s\nb=%lu\nend=%lu\n", v, v, (int)((v * 37) % 3000), pad, v, v);
		if (in_place ? put(argv[1], text, (size_t)n) : put(tmp, text, (size_t)n) || rename(tmp, argv[1]))
			return 1;
		t.tv_nsec += us * 1000;
		while (t.tv_nsec >= 1000000000) {
			t.tv_nsec -= 1000000000;
			t.tv_sec++;
		}
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
	}
	printf("last %lu writes %lu\n", v, v);
	return 0;
}
