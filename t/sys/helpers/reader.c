/*
 * Opens and reads a file N times, or until SIGTERM: reader FILE N plain|fstat|small. Checks that each read is one
 * whole version (rotate.c) and that versions only go up. "ok N first F last L", or "bad …" and exit status 1.
 * fstat: believes st_size, as many programs do; small: by reads of 7 to 100 bytes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "versions.h"

static volatile sig_atomic_t stop;

static void on_term(int sig)
{
	(void)sig;
	stop = 1;
}

static int bad(const char *why, long i, const char *text, size_t len)
{
	printf("bad %s at round %ld, %zu bytes: %.*s\n", why, i, len, (int)(len > 300 ? 300 : len), text);
	return 1;
}

int main(int argc, char **argv)
{
	static char text[65536];
	struct versions versions = {0};

	if (argc != 4)
		return 2;
	long n = atol(argv[2]);
	signal(SIGTERM, on_term);
	int use_fstat = !strcmp(argv[3], "fstat"), small = !strcmp(argv[3], "small");
	for (long i = 0; i < n; i++) {
		int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
		size_t len = 0;
		ssize_t r;

		if (fd < 0 && errno == EINTR && stop)
			n = i;
		if (i == n)
			break;
		if (fd < 0)
			return bad(strerrorname_np(errno), i, "", 0);
		size_t want = sizeof(text) - 1;
		if (use_fstat) {
			struct stat st;
			if (fstat(fd, &st) || st.st_size <= 0)
				return bad("fstat", i, "", 0);
			want = (size_t)st.st_size < want ? (size_t)st.st_size : want;
		}
		while (len < want) {
			size_t chunk = small ? 7 + (size_t)(i % 94) : want - len;
			r = read(fd, text + len, chunk < want - len ? chunk : want - len);
			if (r < 0)
				return bad(strerrorname_np(errno), i, text, len);
			if (r == 0)
				break;
			len += (size_t)r;
		}
		if (!use_fstat && read(fd, text + len, 1) != 0)
			return bad("no end", i, text, len);
		close(fd);
		text[len] = '\0';

		const char *what = versions_check(&versions, text, len);
		if (what)
			return bad(what, i, text, len);
		if (stop)
			n = i + 1;
	}
	printf("ok %ld first %lu last %lu\n", n, versions.first, versions.last);
	return 0;
}
