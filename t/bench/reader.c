/*
 * The clients of `make bench`. Each prints one line of JSON; times are in seconds, latencies in
 * milliseconds.
 *
 *     reader open THREADS SECONDS ROUNDS FILE…  open, read to the end and close, as often as possible
 *     reader stat THREADS SECONDS ROUNDS FILE…  stat, as often as possible; both of them by turns: each
 *                                            FILE SECONDS long, and that in so many ROUNDS
 *     reader once FILE…                      opens and reads each once
 *     reader all THREADS FILE…               the same, so many at a time
 *     reader follow FILE                     prints a line whenever FILE was modified or renamed over: its text
 *                                            after it, and the (real) time of the event; until it is killed
 *     reader touch DIRECTORY N FILE…         touches each twice as the notifier does, under a watch of
 *                                            the directory, until the watch has seen it all; N rounds
 *     reader rotate DIRECTORY N SECRET FILE… rewrites SECRET, and waits until a watch of the directory has
 *                                            seen each FILE modified and its attributes changed
 *     reader latency WAY N SECRET FILE       the time from the end of a change of SECRET to the IN_MODIFY
 *                                            of FILE after which it shows the change. WAY: write (in
 *                                            place) or rename (over it). "late": how much later than
 *                                            asked for the reader itself wakes up from a sleep
 *     reader wait WAY FILE                   how long one open, read and close takes at most, between a
 *                                            byte on standard input and the next; answers both with a
 *                                            line, and so on until its end. Those count that end between,
 *                                            and one more that begins after the second byte was read. WAY:
 *                                            must (a failure or other bytes than at first are the end)
 *                                            or try (tried again until it succeeds, which is one operation)
 *
 * A FILE of the form PREFIX%SUFFIX:FROM:TO stands for as many numbered names. SECRET's text is
 * written with every "@" replaced by a number that goes up.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 64, SETS_MAX = 8, PATIENCE_MS = 60000, READ_SIZE = 128 * 1024 };

static char **files;
static size_t n_files;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "reader: %s: %s\n", what, strerror(errno));
	exit(2);
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void add_file(const char *path)
{
	char *copy = strdup(path);

	files = realloc(files, (n_files + 1) * sizeof *files);
	if (!files || !copy)
		die("memory");
	files[n_files++] = copy;
}

/* PREFIX%SUFFIX:FROM:TO, or a path as it is. */
static void add_files(const char *arg)
{
	const char *percent = strchr(arg, '%'), *colon = percent ? strchr(percent, ':') : NULL;
	unsigned from, to;
	char path[4096];

	if (!colon || sscanf(colon, ":%u:%u", &from, &to) != 2) {
		add_file(arg);
		return;
	}
	for (unsigned i = from; i < to; i++) {
		snprintf(path, sizeof path, "%.*s%u%.*s", (int)(percent - arg), arg, i, (int)(colon - percent - 1),
		         percent + 1);
		add_file(path);
	}
}

/* ---- loops ---- */

struct loop {
	pthread_t thread;
	char **files;
	size_t n_files, first;
	int64_t end_ns;
	unsigned long n;
};

static void read_one(const char *path, char *buf)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		die(path);
	do
		n = read(fd, buf, READ_SIZE);
	while (n > 0);
	if (n < 0)
		die(path);
	close(fd);
}

static void *open_loop(void *arg)
{
	struct loop *l = arg;
	char *buf = malloc(READ_SIZE);

	for (size_t i = l->first; now_ns() < l->end_ns; i++, l->n++)
		read_one(l->files[i % l->n_files], buf);
	free(buf);
	return NULL;
}

static void *stat_loop(void *arg)
{
	struct loop *l = arg;
	struct stat st;

	for (size_t i = l->first; now_ns() < l->end_ns; i++, l->n++)
		if (stat(l->files[i % l->n_files], &st) < 0)
			die(l->files[i % l->n_files]);
	return NULL;
}

/* The rate of one round. */
static double run_loops(void *(*fn)(void *), unsigned threads, double seconds, char **of, size_t n_of)
{
	struct loop loops[THREADS_MAX] = { { 0 } };
	int64_t start = now_ns(), end = start + (int64_t)(seconds * 1e9);
	unsigned long n = 0;

	for (unsigned i = 0; i < threads; i++) {
		loops[i].files = of;
		loops[i].n_files = n_of;
		loops[i].first = i * n_of / threads;
		loops[i].end_ns = end;
		if (pthread_create(&loops[i].thread, NULL, fn, &loops[i]))
			die("thread");
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(loops[i].thread, NULL);
		n += loops[i].n;
	}
	return (double)n / ((double)(now_ns() - start) / 1e9);
}

static void by_turns(void *(*fn)(void *), unsigned threads, double seconds, unsigned rounds, char **args,
                     int n_args)
{
	size_t from[SETS_MAX + 1] = { 0 };

	if (threads > THREADS_MAX || n_args > SETS_MAX)
		die("usage");
	for (int a = 0; a < n_args; a++) {
		add_files(args[a]);
		from[a + 1] = n_files;
	}
	printf("{\"rates\":[");
	for (unsigned i = 0; i < rounds; i++) {
		printf("%s[", i ? "," : "");
		for (int a = 0; a < n_args; a++)
			printf("%s%.1f", a ? "," : "",
			       run_loops(fn, threads, seconds, files + from[a], from[a + 1] - from[a]));
		printf("]");
	}
	printf("]}\n");
}

static void once(void)
{
	char *buf = malloc(READ_SIZE);
	int64_t start = now_ns();

	for (size_t i = 0; i < n_files; i++)
		read_one(files[i], buf);
	printf("{\"n\":%zu,\"seconds\":%.6f}\n", n_files, (double)(now_ns() - start) / 1e9);
	free(buf);
}

static atomic_size_t next_file;

static void *all_loop(void *arg)
{
	char *buf = malloc(READ_SIZE);

	for (size_t i; (i = atomic_fetch_add(&next_file, 1)) < n_files;)
		read_one(files[i], buf);
	free(buf);
	return arg;
}

static void all(unsigned n)
{
	pthread_t threads[THREADS_MAX];
	int64_t start = now_ns();

	if (n > THREADS_MAX)
		die("usage");
	for (unsigned i = 0; i < n; i++)
		if (pthread_create(&threads[i], NULL, all_loop, NULL))
			die("thread");
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	printf("{\"n\":%zu,\"seconds\":%.6f}\n", n_files, (double)(now_ns() - start) / 1e9);
}

/* ---- inotify ---- */

/* The names in the order of strcmp, and what has been seen of each. */
struct watch {
	int fd;
	const char **names;
	uint32_t *seen;
	size_t left;
	bool overflow;
	pthread_t thread;
};

static const char *base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void watch_begin(struct watch *w, const char *dir)
{
	*w = (struct watch){ .fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK) };
	w->names = calloc(n_files, sizeof *w->names);
	w->seen = calloc(n_files, sizeof *w->seen);
	if (w->fd < 0 || !w->names || !w->seen || inotify_add_watch(w->fd, dir, IN_MODIFY | IN_ATTRIB) < 0)
		die(dir);
	for (size_t i = 0; i < n_files; i++)
		w->names[i] = base(files[i]);
	qsort(w->names, n_files, sizeof *w->names, by_name);
}

static void watch_reset(struct watch *w)
{
	memset(w->seen, 0, n_files * sizeof *w->seen);
	w->left = n_files;
}

static void watch_take(struct watch *w, const struct inotify_event *e)
{
	const uint32_t both = IN_MODIFY | IN_ATTRIB;
	const char *name = e->name;
	const char **at;
	uint32_t was;

	if (e->mask & IN_Q_OVERFLOW)
		w->overflow = true;
	if (!e->len)
		return;
	at = bsearch(&name, w->names, n_files, sizeof *w->names, by_name);
	if (!at)
		return;
	was = w->seen[at - w->names];
	w->seen[at - w->names] |= e->mask & both;
	if (was != both && w->seen[at - w->names] == both)
		w->left--;
}

/* Until all has been seen; false: it has not, in a minute. */
static bool watch_wait(struct watch *w)
{
	static _Alignas(struct inotify_event) char buf[256 * 1024];
	struct pollfd p = { .fd = w->fd, .events = POLLIN };
	ssize_t n;

	while (w->left && !w->overflow) {
		if (poll(&p, 1, PATIENCE_MS) <= 0)
			return false;
		n = read(w->fd, buf, sizeof buf);
		if (n < 0 && errno != EAGAIN)
			die("inotify");
		for (ssize_t i = 0; i < n;) {
			const struct inotify_event *e = (const void *)(buf + i);

			watch_take(w, e);
			i += (ssize_t)(sizeof *e + e->len);
		}
	}
	return !w->overflow;
}

static void *watch_thread(void *arg)
{
	return watch_wait(arg) ? arg : NULL;
}

static void touch(const char *dir, unsigned rounds)
{
	const struct timespec omit = { .tv_nsec = UTIME_OMIT };
	struct watch w;
	void *all = NULL;

	watch_begin(&w, dir);
	printf("{\"seconds\":[");
	for (unsigned i = 0; i < rounds; i++) {
		int64_t start = now_ns();
		int root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

		watch_reset(&w);
		if (root < 0 || pthread_create(&w.thread, NULL, watch_thread, &w))
			die(dir);
		for (size_t f = 0; f < n_files; f++) {
			struct timespec mtime = { .tv_sec = time(NULL), .tv_nsec = i + 1 };
			const struct timespec modify[2] = { omit, mtime }, attrib[2] = { mtime, mtime };

			if (utimensat(root, base(files[f]), modify, AT_SYMLINK_NOFOLLOW) < 0 ||
			    utimensat(root, base(files[f]), attrib, AT_SYMLINK_NOFOLLOW) < 0)
				die(files[f]);
		}
		pthread_join(w.thread, &all);
		close(root);
		if (!all)
			die("not all touches were seen");
		printf("%s%.6f", i ? "," : "", (double)(now_ns() - start) / 1e9);
	}
	printf("]}\n");
}

/* The first line of a text, on a line; it has no quotes. */
static void tell_text(const char *path, const struct timespec *at)
{
	char text[256] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	printf("{\"at\":%lld.%09ld,\"text\":\"%s\"}\n", (long long)at->tv_sec, at->tv_nsec, text);
}

/* By a watch of the directory, since a file that is renamed over is another one. */
static void follow(const char *path)
{
	static _Alignas(struct inotify_event) char buf[64 * 1024];
	char *dir = strdup(path);
	int fd = inotify_init1(IN_CLOEXEC);
	ssize_t n;

	if (!dir || !strrchr(dir, '/'))
		die("usage");
	*strrchr(dir, '/') = '\0';
	if (fd < 0 || inotify_add_watch(fd, dir, IN_MODIFY | IN_MOVED_TO) < 0)
		die(dir);
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("{}\n"); /* it watches */
	while ((n = read(fd, buf, sizeof buf)) > 0) {
		struct timespec at;

		clock_gettime(CLOCK_REALTIME, &at);
		for (ssize_t i = 0; i < n;) {
			const struct inotify_event *e = (const void *)(buf + i);

			if (e->len && strcmp(e->name, base(path)) == 0)
				tell_text(path, &at);
			i += (ssize_t)(sizeof *e + e->len);
		}
	}
	free(dir);
}

/* ---- secrets ---- */

static char *template;
static unsigned long counter;

static void load_template(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct timespec ts;
	char buf[65536];
	ssize_t n;

	if (fd < 0 || (n = read(fd, buf, sizeof buf - 1)) < 0)
		die(path);
	close(fd);
	buf[n] = '\0';
	template = strdup(buf);
	clock_gettime(CLOCK_REALTIME, &ts); /* more than any earlier run has come to */
	counter = (unsigned long)ts.tv_sec * 1000000 + (unsigned long)ts.tv_nsec / 1000;
	/* What an earlier run has written is a number again. */
	for (char *p = template; template && (p = strstr(p, "=v")); p++) {
		size_t digits = strspn(p + 2, "0123456789");

		if (digits) {
			p[2] = '@';
			memmove(p + 3, p + 2 + digits, strlen(p + 2 + digits) + 1);
		}
	}
}

static void write_secret(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	char buf[131072];
	size_t len = 0;

	counter++;
	for (const char *p = template; *p && len < sizeof buf - 64; p++) {
		if (*p == '@')
			len += (size_t)sprintf(buf + len, "%lu", counter);
		else
			buf[len++] = *p;
	}
	if (fd < 0 || write(fd, buf, len) != (ssize_t)len)
		die(path);
	close(fd);
}

static void change(const char *path, bool by_rename)
{
	char other[4096];

	if (!by_rename) {
		write_secret(path);
		return;
	}
	snprintf(other, sizeof other, "%s.new", path);
	write_secret(other);
	if (rename(other, path) < 0)
		die(path);
}

/* How much longer it took, in ms. */
static double pause_ms(long ms)
{
	const struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
	int64_t start = now_ns();

	nanosleep(&t, NULL);
	return (double)(now_ns() - start) / 1e6 - (double)ms;
}

static void rotate(const char *dir, unsigned rounds, const char *secret)
{
	struct watch w;
	int64_t start;

	load_template(secret);
	watch_begin(&w, dir);
	printf("{\"seconds\":[");
	for (unsigned i = 0; i < rounds; i++) {
		watch_reset(&w);
		start = now_ns();
		change(secret, false);
		if (!watch_wait(&w))
			die("not all changes were seen");
		printf("%s%.6f", i ? "," : "", (double)(now_ns() - start) / 1e9);
	}
	printf("]}\n");
}

static int by_number(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void drain(int fd)
{
	char buf[4096];

	while (read(fd, buf, sizeof buf) > 0)
		;
}

/* Does the file show the number that was written last? */
static bool is_shown(const char *path)
{
	static char buf[READ_SIZE];
	char number[32];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof buf - 1);

	if (n < 0)
		die(path);
	close(fd);
	buf[n] = '\0';
	snprintf(number, sizeof number, "%lu", counter);
	return strstr(buf, number);
}

/* When the event came; without end the file shows something else. */
static int64_t event_ns(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int64_t at;

	do {
		if (poll(&p, 1, PATIENCE_MS) <= 0)
			die("no event");
		at = now_ns();
		drain(fd);
	} while (!is_shown(files[0]));
	return at;
}

static void print_latencies(const char *name, double *ms, unsigned n)
{
	qsort(ms, n, sizeof *ms, by_number);
	printf("\"%s\":{\"n\":%u,\"min\":%.3f,\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"max\":%.3f}", name, n, ms[0],
	       ms[n / 2], ms[n * 9 / 10], ms[n * 99 / 100], ms[n - 1]);
}

static void latency(const char *way, unsigned rounds, const char *secret)
{
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	double *ms = calloc(rounds, sizeof *ms), *late = calloc(rounds, sizeof *late);

	load_template(secret);
	if (fd < 0 || !ms || !late || inotify_add_watch(fd, files[0], IN_MODIFY) < 0)
		die(files[0]);
	for (unsigned i = 0; i < rounds; i++) {
		int64_t start;

		late[i] = pause_ms(60 + random() % 40);
		drain(fd);
		change(secret, strcmp(way, "rename") == 0);
		start = now_ns();
		ms[i] = (double)(event_ns(fd) - start) / 1e6;
	}
	printf("{");
	print_latencies("latency", ms, rounds);
	printf(",");
	print_latencies("late", late, rounds);
	printf("}\n");
}

/* ---- over a restart ---- */

static char first[READ_SIZE];
static ssize_t first_len;

static ssize_t read_all(const char *path, char *buf)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n, len = 0;

	if (fd < 0)
		return -1;
	while ((n = read(fd, buf + len, (size_t)(READ_SIZE - len))) > 0)
		len += n;
	if (n < 0) {
		int err = errno;

		close(fd);
		errno = err;
		return -1;
	}
	return close(fd) < 0 ? -1 : len;
}

/* One operation, in ms. Between its attempts, if it may fail, it leaves the processor to who is just starting. */
static double read_same(const char *path, bool may_fail)
{
	static char buf[READ_SIZE];
	const struct timespec pause = { .tv_nsec = 100000 };
	int64_t start = now_ns();
	ssize_t n;

	while ((n = read_all(path, buf)) != first_len || memcmp(buf, first, (size_t)n) != 0) {
		if (n >= 0)
			errno = EBADMSG; /* other bytes */
		if (!may_fail || now_ns() - start > PATIENCE_MS * INT64_C(1000000))
			die(path);
		nanosleep(&pause, NULL);
	}
	return (double)(now_ns() - start) / 1e6;
}

/* Until an operation that began after somebody wants the end has ended too: then he knows who answered it. */
static void wait_round(bool may_fail)
{
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
	double ms, longest = 0;
	unsigned long n = 0;
	bool last = false;

	read_same(files[0], may_fail);
	printf("{}\n"); /* under way */
	for (; !last; n++) {
		last = poll(&p, 1, 0) > 0;
		ms = read_same(files[0], may_fail);
		if (ms > longest)
			longest = ms;
	}
	printf("{\"n\":%lu,\"ms\":%.3f}\n", n, longest);
}

static void wait_rounds(const char *way)
{
	char c;

	setvbuf(stdout, NULL, _IOLBF, 0);
	first_len = read_all(files[0], first);
	if (first_len < 0)
		die(files[0]);
	while (read(STDIN_FILENO, &c, 1) == 1) {
		wait_round(strcmp(way, "try") == 0);
		if (read(STDIN_FILENO, &c, 1) != 1)
			return;
	}
}

/* How many arguments a verb has before its files */
static int n_own(const char *verb)
{
	if (strcmp(verb, "once") == 0 || strcmp(verb, "follow") == 0)
		return 0;
	if (strcmp(verb, "wait") == 0 || strcmp(verb, "all") == 0)
		return 1;
	return strcmp(verb, "touch") == 0 ? 2 : 3;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	int own = n_own(verb);

	if (argc < own + 3) {
		fprintf(stderr, "usage: see t/bench/reader.c\n");
		return 2;
	}
	if (strcmp(verb, "open") == 0 || strcmp(verb, "stat") == 0) {
		by_turns(verb[0] == 'o' ? open_loop : stat_loop, (unsigned)atoi(argv[2]), atof(argv[3]),
		         (unsigned)atoi(argv[4]), argv + 5, argc - 5);
		return 0;
	}
	for (int i = own + 2; i < argc; i++)
		add_files(argv[i]);
	if (strcmp(verb, "once") == 0)
		once();
	else if (strcmp(verb, "all") == 0)
		all((unsigned)atoi(argv[2]));
	else if (strcmp(verb, "follow") == 0)
		follow(argv[2]);
	else if (strcmp(verb, "touch") == 0)
		touch(argv[2], (unsigned)atoi(argv[3]));
	else if (strcmp(verb, "rotate") == 0)
		rotate(argv[2], (unsigned)atoi(argv[3]), argv[4]);
	else if (strcmp(verb, "latency") == 0)
		latency(argv[2], (unsigned)atoi(argv[3]), argv[4]);
	else if (strcmp(verb, "wait") == 0)
		wait_rounds(argv[2]);
	else
		return 2;
	return 0;
}
