/*
 * Opens a file from N threads at once: parked FILE N. At the end a line for each errno and time:
 * "ERRNO count min-ms max-ms" (errno "ok" where the open succeeded). "started" when all threads run.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *path;
static pthread_barrier_t gate;
struct result {
	pthread_t thread;
	int err;
	long ms;
};

static long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void *run(void *arg)
{
	struct result *r = arg;

	pthread_barrier_wait(&gate);
	long t0 = now_ms();
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	r->err = fd < 0 ? errno : 0;
	r->ms = now_ms() - t0;
	if (fd >= 0)
		close(fd);
	return NULL;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	path = argv[1];
	size_t n = (size_t)atol(argv[2]);
	struct result *all = calloc(n, sizeof(*all));
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 * 1024);
	pthread_barrier_init(&gate, NULL, (unsigned)n + 1);
	for (size_t i = 0; i < n; i++) {
		int r = pthread_create(&all[i].thread, &attr, run, &all[i]);
		if (r) {
			printf("thread %zu: %s\n", i, strerror(r));
			return 3;
		}
	}
	pthread_barrier_wait(&gate);
	printf("started\n");
	fflush(stdout);
	for (size_t i = 0; i < n; i++)
		pthread_join(all[i].thread, NULL);
	for (int err = 0; err < 200; err++) {
		long count = 0, min = -1, max = 0;
		for (size_t i = 0; i < n; i++) {
			if (all[i].err != err)
				continue;
			count++;
			if (min < 0 || all[i].ms < min)
				min = all[i].ms;
			if (all[i].ms > max)
				max = all[i].ms;
		}
		if (count)
			printf("%s %ld %ld %ld\n", err ? strerrorname_np(err) : "ok", count, min, max);
	}
	return 0;
}
