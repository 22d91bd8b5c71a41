/*
 * Reads FILE over and over until the file STOP is there: opens, reads it in short pieces at changing
 * offsets, closes. Each must be one whole version, and versions only go up. "ok N first V last V".
 *
 *     steady FILE STOP [SEED]
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "versions.h"

enum { SIZE = 64 * 1024 };

static _Noreturn void bad(const char *what, unsigned long round, const char *text)
{
	printf("bad %s at round %lu (%s): %.300s\n", what, round, strerror(errno), text);
	exit(1);
}

/* By pieces of some bytes, with steps back now and then, which must read the same. */
static size_t read_pieces(int fd, char *buf, unsigned long round)
{
	char again[512];
	size_t len = 0;
	ssize_t n;

	for (;;) {
		size_t want = 1 + (size_t)rand() % (rand() % 4 ? 4096 : 40);

		if (want > SIZE - len - 1)
			bad("length", round, "");
		n = pread(fd, buf + len, want, (off_t)len);
		if (n < 0)
			bad("read", round, "");
		if (n == 0)
			break;
		len += (size_t)n;
		if (rand() % 8 == 0) {
			size_t back = (size_t)rand() % len, some = len - back < sizeof(again) ? len - back : sizeof(again);

			n = pread(fd, again, some, (off_t)back);
			if (n != (ssize_t)some || memcmp(again, buf + back, some) != 0)
				bad("step back", round, again);
		}
	}
	buf[len] = '\0';
	return len;
}

int main(int argc, char **argv)
{
	static char buf[SIZE];
	struct versions versions = {0};
	unsigned long n = 0;

	if (argc < 3)
		return 2;
	srand(argc > 3 ? (unsigned)atoi(argv[3]) : 1);
	for (; access(argv[2], F_OK) != 0; n++) {
		int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
		const char *what;

		if (fd < 0)
			bad("open", n, argv[1]);
		what = versions_check(&versions, buf, read_pieces(fd, buf, n));
		if (what)
			bad(what, n, buf);
		if (close(fd) != 0)
			bad("close", n, "");
	}
	printf("ok %lu first %lu last %lu\n", n, versions.first, versions.last);
	return 0;
}
