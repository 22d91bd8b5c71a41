/*
 * Tests of src/base/keep.h. The keep.c in this program has fault points (dying.h).
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/keep.h"
#include "base/secmem.h"
#include "dying.h"
#include "ledger.h"

/* The sanitizers make mlock do nothing. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif
#ifndef UNDER_SANITIZER
#define UNDER_SANITIZER 0
#endif

/* ---- one after the other ---- */

static void count_block(void *arg, void *block)
{
	(void)block;
	++*(size_t *)arg;
}

static size_t count(struct keep *k, enum keep_kind kind)
{
	size_t n = 0;

	keep_each(k, kind, count_block, &n);
	return n;
}

static const size_t sizes[] = {
	0, 1, 15, 16, 17, 31, 32, 33, 100, 1000, 8000, 16336, 16337, 32688, 32689, 32704, 32705, 70000, 1048576 - 80,
	1048576, 3000000, 5 * 1048576,
};
enum { N_SIZES = sizeof(sizes) / sizeof(sizes[0]) };

static void all_sizes_come_back(void **state)
{
	int fd = create();
	struct keep *k = attach(fd);
	uint64_t place[N_SIZES], seq[N_SIZES];
	struct keep_stats stats;

	(void)state;
	for (int i = 0; i < N_SIZES; i++) {
		unsigned char *b = keep_alloc(k, sizes[i]);

		assert_non_null(b);
		assert_int_equal((uintptr_t)b % 16, 0);
		assert_int_equal(keep_size(b), sizes[i]);
		assert_true(is_zero(b, sizes[i]));
		memset(b, i + 1, sizes[i]);
		keep_commit(k, b, i % 2 ? KEEP_SECRET : KEEP_HANDLE);
		assert_int_equal(keep_size(b), sizes[i]);
		place[i] = keep_place(k, b);
		seq[i] = keep_seq(b);
		assert_true(i == 0 || seq[i] > seq[i - 1]);
	}
	for (int round = 0; round < 2; round++) {
		assert_int_equal(count(k, KEEP_ANY), N_SIZES);
		assert_int_equal(count(k, KEEP_SECRET), N_SIZES / 2);
		assert_int_equal(count(k, KEEP_SNAPSHOT), 0);
		for (int i = 0; i < N_SIZES; i++) {
			enum keep_kind kind = i % 2 ? KEEP_SECRET : KEEP_HANDLE;
			unsigned char *b = keep_find(k, place[i], seq[i], kind);

			assert_non_null(b);
			assert_int_equal(keep_size(b), sizes[i]);
			assert_true(sizes[i] == 0 || b[0] == i + 1);
			assert_true(sizes[i] == 0 || memcmp(b, b + 1, sizes[i] - 1) == 0);
			assert_null(keep_find(k, place[i], seq[i] + 1000, kind));
			assert_null(keep_find(k, place[i], seq[i], KEEP_CONNECTOR));
			assert_ptr_equal(keep_find(k, place[i], seq[i], KEEP_ANY), b);
			for (int off = 1; off < 64; off++)
				assert_null(keep_find(k, place[i] + (uint64_t)off, seq[i], KEEP_ANY));
		}
		keep_detach(k);
		k = attach(fd);
	}
	for (int i = 0; i < N_SIZES; i++)
		keep_free(k, keep_find(k, place[i], seq[i], KEEP_ANY));
	keep_free(k, NULL);
	keep_get_stats(k, &stats);
	assert_int_equal(stats.blocks, 0);
	assert_int_equal(stats.used, 0);
	assert_int_equal(stats.failed, 0);
	assert_null(keep_alloc(k, KEEP_BLOCK_MAX + 1));
	assert_int_equal(errno, ENOMEM);
	assert_null(keep_alloc(k, SIZE_MAX));
	assert_null(keep_find(k, 0, 0, KEEP_ANY));
	assert_null(keep_find(k, UINT64_MAX, 0, KEEP_ANY));
	assert_null(keep_find(k, stats.size, 0, KEEP_ANY));
	keep_detach(k);
	keep_detach(NULL);
	close(fd);
}

static void free_one(void *arg, void *block)
{
	keep_free(arg, block);
}

/* keep_each lets its block be freed; the seals hold. */
static void each_may_free(void **state)
{
	int fd = create();
	struct keep *k = attach(fd);

	(void)state;
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 2000; i++)
			keep_commit(k, keep_alloc(k, (size_t)(i * 37 % 20000)), i % 3 ? KEEP_SECRET : KEEP_HANDLE);
		keep_commit(k, keep_alloc(k, 300000), KEEP_SECRET);
		keep_each(k, KEEP_SECRET, free_one, k);
		assert_int_equal(count(k, KEEP_SECRET), 0);
		assert_int_equal(count(k, KEEP_ANY), 667);
		keep_each(k, KEEP_ANY, free_one, k);
		assert_int_equal(count(k, KEEP_ANY), 0);
	}
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(errno, EPERM);
	keep_detach(k);
	close(fd);
}

static void note_growth(void *arg, size_t bytes)
{
	size_t *seen = arg;

	assert_true(bytes > *seen && bytes % KEEP_SEGMENT == 0);
	*seen = bytes;
}

static void grows_and_says_so(void **state)
{
	int fd = create();
	size_t grown = 0, again = 0;
	struct keep *k = NULL;
	struct keep_stats stats;
	struct stat st;

	(void)state;
	assert_int_equal(keep_attach(fd, note_growth, &grown, &k), 0);
	assert_int_equal(grown, KEEP_SEGMENT);
	for (int i = 0; i < 3000; i++)
		keep_commit(k, keep_alloc(k, 1000), KEEP_SNAPSHOT);
	assert_true(grown >= 3 * KEEP_SEGMENT && grown <= 4 * KEEP_SEGMENT);
	keep_commit(k, keep_alloc(k, 3 * KEEP_SEGMENT), KEEP_SNAPSHOT);
	keep_get_stats(k, &stats);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, grown);
	assert_int_equal(stats.size, grown);
	assert_true(stats.used >= 3000 * 1000 + 3 * KEEP_SEGMENT && stats.used <= grown);
	assert_true(stats.locked <= stats.size);
	keep_detach(k);
	assert_int_equal(keep_attach(fd, note_growth, &again, &k), 0);
	assert_int_equal(again, grown);
	assert_int_equal(count(k, KEEP_ANY), 3001);
	keep_detach(k);
	close(fd);
}

/* Room behind and in place of large blocks is found. */
static void large_blocks_come_and_go(void **state)
{
	int fd = create();
	struct keep *k = attach(fd);
	struct keep_stats stats;
	void *first, *b[8];

	(void)state;
	first = keep_alloc(k, 100000);
	for (int round = 0; round < 200; round++) {
		for (int i = 0; i < 8; i++)
			assert_non_null(b[i] = keep_alloc(k, (size_t)(40000 + 1000 * i + 200 * round)));
		keep_free(k, first);
		for (int i = 1; i < 8; i++)
			keep_free(k, b[i]);
		first = b[0];
	}
	keep_get_stats(k, &stats);
	assert_true(stats.size <= 3 * KEEP_SEGMENT);
	keep_detach(k);
	close(fd);
}

/* ---- full ---- */

static int in_child(int (*fn)(int fd), int fd)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		_exit(fn(fd));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The file can't get longer than 4 MiB. */
static int fill_up(int fd)
{
	const struct rlimit limit = { 4 * KEEP_SEGMENT, 4 * KEEP_SEGMENT };
	struct keep *k;
	struct keep_stats stats;
	void *b, *last = NULL;
	int n = 0;

	signal(SIGXFSZ, SIG_IGN);
	if (setrlimit(RLIMIT_FSIZE, &limit) != 0 || keep_attach(fd, NULL, NULL, &k) != 0)
		return 1;
	errno = 0;
	if (keep_alloc(k, 5 * KEEP_SEGMENT) || errno != ENOMEM)
		return 2;
	while ((b = keep_alloc(k, 5000))) {
		memset(b, 1, 5000);
		keep_commit(k, b, KEEP_SNAPSHOT);
		last = b;
		n++;
	}
	keep_get_stats(k, &stats);
	if (errno != ENOMEM || n < 600 || stats.failed != 2 || stats.size != 4 * KEEP_SEGMENT || count(k, KEEP_ANY) != (size_t)n)
		return 3;
	keep_free(k, last);
	if (!keep_alloc(k, 5000) || keep_alloc(k, 5000))
		return 4;
	keep_detach(k);
	if (keep_attach(fd, NULL, NULL, &k) != 0 || count(k, KEEP_ANY) != (size_t)n - 1)
		return 5;
	keep_detach(k);
	return 0;
}

static void full_is_an_error_and_no_more(void **state)
{
	int fd = create();
	struct keep *k;

	(void)state;
	assert_int_equal(in_child(fill_up, fd), 0);
	k = attach(fd);
	assert_non_null(keep_alloc(k, 5 * KEEP_SEGMENT));
	keep_detach(k);
	close(fd);
}

/* Where the memory must be locked and can't: what is locked goes on, and once it can be, so does the rest. */
static int lock_little(int fd)
{
	struct rlimit limit;
	struct keep *k;
	struct keep_stats stats;

	getrlimit(RLIMIT_MEMLOCK, &limit);
	limit.rlim_cur = 2 * KEEP_SEGMENT;
	if (limit.rlim_max < 6 * KEEP_SEGMENT || setrlimit(RLIMIT_MEMLOCK, &limit) != 0)
		return CANNOT;
	if (getuid() == 0 && (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0))
		return 1;
	if (secmem_init(SECMEM_LOCK_REQUIRE) != 0 || keep_attach(fd, NULL, NULL, &k) != 0)
		return 2;
	if (keep_alloc(k, 8 * KEEP_SEGMENT))
		return 3;
	keep_get_stats(k, &stats);
	if (stats.size != KEEP_SEGMENT || stats.locked != KEEP_SEGMENT || stats.lock_errno == 0)
		return 4;
	limit.rlim_cur = limit.rlim_max;
	if (!keep_alloc(k, 500000) || setrlimit(RLIMIT_MEMLOCK, &limit) != 0)
		return 5;
	/* The file is longer by now than what is mapped. */
	for (int i = 0; i < 2; i++)
		if (!keep_alloc(k, 700000))
			return 6;
	keep_detach(k);
	return 0;
}

static void must_be_locked(void **state)
{
	int fd = create(), result;

	(void)state;
	result = UNDER_SANITIZER ? CANNOT : in_child(lock_little, fd);
	close(fd);
	if (result != CANNOT)
		assert_int_equal(result, 0);
}

/* ---- what is not to be believed ---- */

static void put(int fd, off_t at, uint64_t word)
{
	assert_int_equal(pwrite(fd, &word, sizeof(word), at), sizeof(word));
}

static uint64_t get(int fd, off_t at)
{
	uint64_t word = 0;

	assert_int_equal(pread(fd, &word, sizeof(word), at), sizeof(word));
	return word;
}

static int try_attach(int fd)
{
	struct keep *k = NULL;
	int err = keep_attach(fd, NULL, NULL, &k);

	keep_detach(k);
	return err;
}

static void damage_is_refused(void **state)
{
	static const uint64_t bad[] = {
		3, 0xff, 1 | 36 << 8, 1 | 0xffffffffull << 8, 2, 2 | 32 << 8, 2 | 0xffffffffffffffull << 8, UINT64_MAX,
	};
	enum { CHUNK = 32 * 1024, FIRST_BLOCK = CHUNK + 64 };
	int fd = create();
	struct keep *k = attach(fd);
	uint64_t word;

	(void)state;
	keep_commit(k, keep_alloc(k, 100), KEEP_SECRET);
	keep_detach(k);
	word = get(fd, CHUNK);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		put(fd, CHUNK, bad[i]);
		assert_int_equal(try_attach(fd), -EBADMSG);
	}
	put(fd, CHUNK, word);
	word = get(fd, FIRST_BLOCK);
	put(fd, FIRST_BLOCK, (word & 0xffff) | 1000ull << 16); /* larger than its place */
	assert_int_equal(try_attach(fd), -EBADMSG);
	put(fd, FIRST_BLOCK, word);
	assert_int_equal(try_attach(fd), 0);

	word = get(fd, 0);
	put(fd, 0, word + 1);
	assert_int_equal(try_attach(fd), -EBADMSG);
	put(fd, 0, word);
	word = get(fd, 8);
	put(fd, 8, KEEP_FORMAT + 1);
	assert_int_equal(try_attach(fd), -EPROTO);
	put(fd, 8, word);
	k = attach(fd);
	assert_int_equal(count(k, KEEP_SECRET), 1);
	keep_detach(k);
	assert_int_equal(ftruncate(fd, KEEP_SEGMENT + 4096), 0);
	assert_int_equal(try_attach(fd), -EBADMSG);
	assert_int_equal(ftruncate(fd, (off_t)(KEEP_SEGMENTS_MAX + 1) * KEEP_SEGMENT), 0);
	assert_int_equal(try_attach(fd), -EBADMSG);
	close(fd);
}

/* ---- wiping ---- */

static void nothing_is_left_of_what_is_freed(void **state)
{
	static const size_t some[] = { 8, 100, 1000, 16000, 33000, 200000, 2000000 };
	struct ledger *l = ledger_new();
	int fd = create();
	struct keep *k = attach(fd);
	uint32_t id[14];
	void *b;

	(void)state;
	for (int i = 0; i < 14; i++)
		assert_true((id[i] = make(k, l, some[i % 7], i % 7 != 3, &b)) > 0);
	for (int i = 0; i < 7; i++) {
		if (i != 3)
			assert_true(drop(k, l, id[i]));
	}
	/* A block that isn't committed is freed and wiped all the same. */
	make(k, l, 5000, false, &b);
	keep_free(k, b);
	make(k, l, 500000, false, &b);
	keep_free(k, b);
	keep_detach(k);
	k = attach_and_check(fd, l);
	assert_int_equal(count(k, KEEP_ANY), 6);
	for (int i = 7; i < 14; i++)
		if (i % 7 != 3)
			assert_true(drop(k, l, id[i]));
	check(k, fd, l);
	keep_detach(k);
	close(fd);
	ledger_free(l);
}

static void frozen_it_stays(void **state)
{
	struct ledger *l = ledger_new();
	int fd = create();
	struct keep *k = attach(fd);
	void *a, *b;

	(void)state;
	assert_true(make(k, l, 1000, true, &a) > 0);
	assert_true(make(k, l, 100000, true, &b) > 0);
	keep_freeze(k);
	keep_free(k, a);
	keep_free(k, b);
	keep_detach(k);
	k = attach_and_check(fd, l);
	assert_int_equal(count(k, KEEP_ANY), 2);
	keep_detach(k);
	close(fd);
	ledger_free(l);
}

/* A place and a number together name one block, for ever: also when the block with the highest
 * number was freed before a successor came. */
static void no_number_comes_again(void **state)
{
	int fd = create();
	uint64_t place = 0, seq = 0;

	(void)state;
	for (int round = 0; round < 5; round++) {
		struct keep *k = attach(fd);
		void *b = keep_alloc(k, 100);

		keep_commit(k, b, KEEP_SNAPSHOT);
		assert_true(keep_seq(b) > seq);
		assert_null(keep_find(k, place, seq, KEEP_SNAPSHOT));
		place = keep_place(k, b);
		seq = keep_seq(b);
		keep_free(k, b);
		keep_detach(k);
	}
	close(fd);
}

/* ---- at random ---- */

static size_t random_size(unsigned *seed)
{
	int r = rand_r(seed) % 1000;

	if (r < 3)
		return WORD + (size_t)rand_r(seed) % 2500000;
	if (r < 30)
		return WORD + (size_t)rand_r(seed) % 200000;
	if (r < 150)
		return WORD + (size_t)rand_r(seed) % 20000;
	return WORD + (size_t)rand_r(seed) % 400;
}

enum { LIVE_MAX = 400 };

/* Something of all that can be done; live: numbers of blocks. False: something was wrong. */
static bool one_operation(struct keep *k, struct ledger *l, uint32_t *live, size_t *n_live, unsigned *seed)
{
	size_t i;
	void *b;

	if (*n_live < LIVE_MAX && rand_r(seed) % 100 < 52) {
		live[*n_live] = make(k, l, random_size(seed), true, &b);
		return live[(*n_live)++] > 0;
	}
	if (rand_r(seed) % 20 == 0) {
		uint32_t id = make(k, l, random_size(seed), false, &b);

		l->state[id] = FREEING;
		keep_free(k, b);
		l->state[id] = FREED;
		return id > 0;
	}
	if (*n_live == 0)
		return true;
	i = (size_t)rand_r(seed) % *n_live;
	b = keep_find(k, l->place[live[i]], l->seq[live[i]], KEEP_SNAPSHOT);
	if (!b || !is_whole(b, live[i], l->size[live[i]]) || !drop(k, l, live[i]))
		return false;
	live[i] = live[--*n_live];
	return true;
}

static size_t list_live(struct ledger *l, uint32_t *live)
{
	size_t n = 0;

	for (uint32_t id = 1; id < l->next && n < LIVE_MAX; id++)
		if (l->state[id] == COMMITTED)
			live[n++] = id;
	return n;
}

static void as_the_model_says(void **state)
{
	uint32_t live[LIVE_MAX];
	struct keep_stats stats;

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		unsigned seed = round + 1;
		struct ledger *l = ledger_new();
		int fd = create();
		struct keep *k = attach(fd);
		size_t n_live = 0;

		for (int i = 0; i < scaled(12000); i++) {
			assert_true(one_operation(k, l, live, &n_live, &seed));
			if (rand_r(&seed) % 400 == 0) {
				if (rand_r(&seed) % 2)
					make(k, l, random_size(&seed), false, &(void *){ NULL }); /* left behind */
				keep_detach(k);
				k = attach_and_check(fd, l);
			}
		}
		check(k, fd, l);
		while (n_live > 0)
			assert_true(drop(k, l, live[--n_live]));
		keep_get_stats(k, &stats);
		assert_int_equal(stats.blocks, 0);
		assert_int_equal(stats.used, 0);
		assert_int_equal(stats.failed, 0);
		assert_true(stats.size <= 48 * KEEP_SEGMENT);
		keep_detach(k);
		close(fd);
		ledger_free(l);
	}
}

struct churner {
	pthread_t thread;
	struct keep *k;
	unsigned seed;
	size_t wrong;
};

/* Its own blocks, which nobody else changes; by place and number, as who refers to them does. */
static void *churn(void *arg)
{
	enum { N = 100 };
	struct churner *c = arg;
	struct { uint64_t place, seq; size_t n; unsigned char fill; } slot[N] = { 0 };

	for (int i = 0; i < scaled(30000); i++) {
		int at = rand_r(&c->seed) % N;
		unsigned char *b;

		if (slot[at].seq) {
			b = keep_find(c->k, slot[at].place, slot[at].seq, KEEP_SECRET);
			c->wrong += !b || keep_size(b) != slot[at].n;
			for (size_t j = 0; b && j < slot[at].n; j += 61)
				c->wrong += b[j] != slot[at].fill;
			keep_free(c->k, b);
			slot[at].seq = 0;
			continue;
		}
		slot[at].n = random_size(&c->seed) / 4;
		slot[at].fill = (unsigned char)rand_r(&c->seed);
		b = keep_alloc(c->k, slot[at].n);
		if (!b || !is_zero(b, slot[at].n)) {
			c->wrong++;
			continue;
		}
		memset(b, slot[at].fill, slot[at].n);
		keep_commit(c->k, b, KEEP_SECRET);
		slot[at].place = keep_place(c->k, b);
		slot[at].seq = keep_seq(b);
	}
	for (int at = 0; at < N; at++)
		if (slot[at].seq)
			keep_free(c->k, keep_find(c->k, slot[at].place, slot[at].seq, KEEP_SECRET));
	return NULL;
}

static void four_threads(void **state)
{
	struct churner c[4];
	struct keep_stats stats;
	int fd = create();
	struct keep *k = attach(fd);

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		c[i] = (struct churner){ .k = k, .seed = i + 1 };
		assert_int_equal(pthread_create(&c[i].thread, NULL, churn, &c[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(c[i].thread, NULL);
		assert_int_equal(c[i].wrong, 0);
	}
	keep_get_stats(k, &stats);
	assert_int_equal(stats.blocks, 0);
	assert_int_equal(stats.used, 0);
	keep_detach(k);
	close(fd);
}

/* ---- killed ---- */

static int work_until_killed(int fd, struct ledger *l, unsigned seed)
{
	uint32_t live[LIVE_MAX];
	size_t n_live = list_live(l, live);
	struct keep *k;

	if (keep_attach(fd, NULL, NULL, &k) != 0)
		return BROKEN;
	while (l->next < IDS - 1)
		if (!one_operation(k, l, live, &n_live, &seed))
			return BROKEN;
	return 0; /* faster than the killer */
}

static void a_killed_one_leaves_whole_blocks(void **state)
{
	struct ledger *l = ledger_new();
	int fd = create(), kills = scaled(300);

	(void)state;
	for (int i = 0; i < kills; i++) {
		struct timespec pause = { .tv_nsec = 300000 + (i * 7919) % 4000 * 1000 };
		int status;
		pid_t pid = fork();

		if (pid == 0)
			_exit(work_until_killed(fd, l, (unsigned)i + 1));
		assert_true(pid > 0);
		nanosleep(&pause, NULL);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
		keep_detach(attach_and_check(fd, l));
		if (l->next > IDS / 2) { /* numbers become scarce: another keep */
			ledger_free(l);
			close(fd);
			l = ledger_new();
			fd = create();
		}
	}
	close(fd);
	ledger_free(l);
}

/* ---- dead at every step ---- */

/* Blocks that a script begins with: few places in a chunk, so that there are not thousands of steps. */
static void prepare(int fd, struct ledger *l)
{
	static const size_t some[] = { 16000, 4000, 8000, 100000, 6000, 16000, 40000 };
	struct keep *k = attach(fd);
	void *b;

	for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++)
		assert_true(make(k, l, some[i], i != 2, &b) > 0);
	keep_detach(k);
}

/* All kinds of steps: another block in an old chunk and in a new one, one block in place of another, the last of a
 * chunk freed, large ones, growth, the end. */
static int script(int fd, struct ledger *l)
{
	struct keep *k;
	uint32_t a, b, c;
	void *at;

	if (keep_attach(fd, NULL, NULL, &k) != 0)
		return BROKEN;
	if (!(a = make(k, l, 16000, true, &at)) || !drop(k, l, 1) || !(b = make(k, l, 15000, true, &at)) || !drop(k, l, a))
		return BROKEN;
	if (!make(k, l, 30000, true, &at) || !drop(k, l, 4) || !make(k, l, 90000, false, &at))
		return BROKEN;
	keep_free(k, at);
	if (!(c = make(k, l, 1200000, true, &at)) || !drop(k, l, 6) || !drop(k, l, b) || !make(k, l, 8000, true, &at))
		return BROKEN;
	if (!make(k, l, 16000, false, &at) || !drop(k, l, c) || !make(k, l, 50000, true, &at))
		return BROKEN;
	keep_detach(k);
	return 0;
}

static int only_attach(int fd, struct ledger *l)
{
	struct keep *k;

	(void)l;
	if (keep_attach(fd, NULL, NULL, &k) != 0)
		return BROKEN;
	keep_detach(k);
	return 0;
}

/* fn in a child that dies at its n-th step. Its exit status. */
static int until_step(int (*fn)(int fd, struct ledger *l), int fd, struct ledger *l, long n)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		fault_in = n;
		_exit(fn(fd, l));
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* What is left goes on working. */
static void go_on(int fd, struct ledger *l)
{
	struct keep *k = attach_and_check(fd, l);
	uint32_t live[LIVE_MAX];
	size_t n = list_live(l, live);
	struct keep_stats stats;
	void *b;

	for (size_t i = 0; i < n; i++) {
		assert_true(drop(k, l, live[i]));
		assert_true(make(k, l, l->size[live[i]], true, &b) > 0);
	}
	check(k, fd, l);
	n = list_live(l, live);
	while (n > 0)
		assert_true(drop(k, l, live[--n]));
	keep_get_stats(k, &stats);
	assert_int_equal(stats.used, 0);
	assert_true(stats.size <= 3 * KEEP_SEGMENT);
	check(k, fd, l);
	keep_detach(k);
}

static void dead_at_every_step(void **state)
{
	int step = getenv("CONNECTFS_TEST_SCALE") ? 11 : 1, result = DIED;
	long n;

	(void)state;
	for (n = 1; result == DIED; n += step) {
		struct ledger *l = ledger_new();
		int fd = create();

		prepare(fd, l);
		result = until_step(script, fd, l, n);
		assert_true(result == DIED || result == 0);
		/* The successor dies as well, while it takes over. */
		if (result == DIED)
			until_step(only_attach, fd, l, n * 31 % 97 + 1);
		go_on(fd, l);
		close(fd);
		ledger_free(l);
	}
	assert_true(n > 100);
	print_message("# %ld steps\n", n);
}

/* The first attach of all, which makes the file. */
static void dead_while_it_is_made(void **state)
{
	int result = DIED;

	(void)state;
	for (long n = 1; result == DIED; n++) {
		struct ledger *l = ledger_new();
		int fd = create();

		result = until_step(only_attach, fd, l, n);
		assert_true(result == DIED || result == 0);
		prepare(fd, l);
		go_on(fd, l);
		close(fd);
		ledger_free(l);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_sizes_come_back),
		cmocka_unit_test(each_may_free),
		cmocka_unit_test(grows_and_says_so),
		cmocka_unit_test(large_blocks_come_and_go),
		cmocka_unit_test(full_is_an_error_and_no_more),
		cmocka_unit_test(must_be_locked),
		cmocka_unit_test(damage_is_refused),
		cmocka_unit_test(nothing_is_left_of_what_is_freed),
		cmocka_unit_test(frozen_it_stays),
		cmocka_unit_test(no_number_comes_again),
		cmocka_unit_test(as_the_model_says),
		cmocka_unit_test(four_threads),
		cmocka_unit_test(a_killed_one_leaves_whole_blocks),
		cmocka_unit_test(dead_at_every_step),
		cmocka_unit_test(dead_while_it_is_made),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
