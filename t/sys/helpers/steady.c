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

static long check(const char *text, size_t len, unsigned long round)
{
	long first, a, b, last;
	int xs_from, xs_to, end = -1;

	if (sscanf(text, "name=orders\nfirst=%ld\na=%ld-%n", &first, &a, &xs_from) != 2)
		bad("form", round, text);
	xs_to = xs_from + (int)strspn(text + xs_from, "x");
	if (sscanf(text + xs_to, "\nb=%ld\nlast=%ld\n%n", &b, &last, &end) != 2 || end < 0 || (size_t)(xs_to + end) != len)
		bad("form", round, text);
	if (a != first || b != first || last != first || xs_to - xs_from != first * 37 % 3000)
		bad("mix", round, text);
	return first;
}

int main(int argc, char **argv)
{
	static char buf[SIZE];
	long first = 0, last = 0;
	unsigned long n = 0;

	if (argc < 3)
		return 2;
	srand(argc > 3 ? (unsigned)atoi(argv[3]) : 1);
	for (; access(argv[2], F_OK) != 0; n++) {
		int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
		long v;

		if (fd < 0)
			bad("open", n, argv[1]);
		v = check(buf, read_pieces(fd, buf, n), n);
		if (close(fd) != 0)
			bad("close", n, "");
		if (v < last)
			bad("went back", n, buf);
		last = v;
		if (!first)
			first = v;
	}
	printf("ok %lu first %ld last %ld\n", n, first, last);
	return 0;
}
