/*
 * What blocks a keep should have, in memory that outlives who changes it: before and after each step of a
 * block's life it is noted here, so that after a death it can be told what must be there, what may be, and
 * what may not.
 *
 * What a block holds says whose it is: words of MARK, the block's number, and the word's. So what a
 * successor finds is known for whole or half, and what of a freed block is left in the file is found.
 */
#ifndef CONNECTFS_UNIT_LEDGER_H
#define CONNECTFS_UNIT_LEDGER_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/keep.h"

enum {
	IDS = 1 << 16,   /* numbers of blocks in one keep */
	WORD = 8,
	MARK = 0xcafe55,
};

enum state { NEVER, FILLING, COMMITTING, COMMITTED, FREEING, FREED };

struct ledger {
	_Atomic int state[IDS];
	_Atomic uint32_t size[IDS];
	_Atomic uint64_t place[IDS], seq[IDS];
	_Atomic uint64_t max_seq;
	_Atomic uint32_t next;
};

static struct ledger *ledger_new(void)
{
	struct ledger *l = mmap(NULL, sizeof(*l), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(l, MAP_FAILED);
	l->next = 1;
	return l;
}

static void ledger_free(struct ledger *l)
{
	munmap(l, sizeof(*l));
}

static uint64_t word_for(uint32_t id, size_t i)
{
	return (uint64_t)MARK << 40 | (uint64_t)id << 20 | (i & 0xfffff);
}

static void fill(void *block, uint32_t id, size_t n)
{
	uint64_t *w = block;

	for (size_t i = 0; i < n / WORD; i++)
		w[i] = word_for(id, i);
	memset((char *)block + n / WORD * WORD, 0xa5, n % WORD);
}

static bool is_whole(const void *block, uint32_t id, size_t n)
{
	const uint64_t *w = block;
	const unsigned char *rest = (const unsigned char *)block + n / WORD * WORD;

	for (size_t i = 0; i < n / WORD; i++)
		if (w[i] != word_for(id, i))
			return false;
	for (size_t i = 0; i < n % WORD; i++)
		if (rest[i] != 0xa5)
			return false;
	return keep_size(block) == n;
}

static bool is_zero(const void *p, size_t n)
{
	const char *c = p;

	return n == 0 || (c[0] == 0 && memcmp(c, c + 1, n - 1) == 0);
}

static uint32_t id_of(uint64_t word)
{
	return word >> 40 == MARK ? (uint32_t)(word >> 20 & 0xfffff) : 0;
}

/* A new block of n bytes, at least a word, committed unless told otherwise; its number, or 0: something is
 * wrong. */
static uint32_t make(struct keep *k, struct ledger *l, size_t n, bool commit, void **ret)
{
	uint32_t id = l->next++;
	void *b;

	if (id >= IDS)
		return 0;
	l->state[id] = FILLING;
	l->size[id] = (uint32_t)n;
	b = keep_alloc(k, n);
	if (!b || (uintptr_t)b % 16 != 0 || !is_zero(b, n))
		return 0;
	fill(b, id, n);
	l->place[id] = keep_place(k, b);
	*ret = b;
	if (!commit)
		return id;
	l->state[id] = COMMITTING;
	keep_commit(k, b, KEEP_SNAPSHOT);
	l->seq[id] = keep_seq(b);
	l->state[id] = COMMITTED;
	/* Of one thread at a time where this is looked at. */
	if (l->seq[id] <= l->max_seq)
		return 0;
	l->max_seq = l->seq[id];
	return id;
}

/* By its number; false: it isn't there as it should. */
static bool drop(struct keep *k, struct ledger *l, uint32_t id)
{
	void *b = keep_find(k, l->place[id], l->seq[id], KEEP_SNAPSHOT);

	if (!b || !is_whole(b, id, l->size[id]))
		return false;
	l->state[id] = FREEING;
	keep_free(k, b);
	l->state[id] = FREED;
	return keep_find(k, l->place[id], l->seq[id], KEEP_SNAPSHOT) == NULL;
}

/* ---- what is found ---- */

struct found {
	struct ledger *l;
	bool seen[IDS];
	size_t blocks, wrong;
};

static void see(void *arg, void *block)
{
	struct found *f = arg;
	uint32_t id = id_of(*(uint64_t *)block);
	int state = id < IDS ? f->l->state[id] : NEVER;

	f->blocks++;
	if (state < COMMITTING || state > FREEING || f->seen[id] || !is_whole(block, id, f->l->size[id]))
		f->wrong++;
	else
		f->seen[id] = true;
}

/* Words of blocks that aren't there. */
static size_t left_over(int fd, const struct found *f)
{
	struct stat st;
	size_t n = 0, size;
	const uint64_t *w;

	assert_int_equal(fstat(fd, &st), 0);
	size = (size_t)st.st_size;
	w = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(w, MAP_FAILED);
	for (size_t i = 0; i < size / WORD; i++) {
		uint32_t id = w[i] >> 40 == MARK ? id_of(w[i]) : 0;

		n += id && (id >= IDS || !f->seen[id]);
	}
	munmap((void *)(uintptr_t)w, size);
	return n;
}

/* What a death may leave: what was committed whole, what was being committed or freed whole or not
 * at all, and no word of anything else. The ledger is brought up to date. */
static void check(struct keep *k, int fd, struct ledger *l)
{
	static struct found f;
	struct keep_stats stats;

	memset(&f, 0, sizeof(f));
	f.l = l;
	keep_each(k, KEEP_ANY, see, &f);
	assert_int_equal(f.wrong, 0);
	for (uint32_t id = 1; id < l->next && id < IDS; id++) {
		if (l->state[id] == COMMITTED)
			assert_true(f.seen[id]);
		l->state[id] = f.seen[id] ? COMMITTED : FREED;
	}
	assert_int_equal(left_over(fd, &f), 0);
	keep_get_stats(k, &stats);
	assert_int_equal(stats.blocks, f.blocks);
}

static struct keep *attach(int fd)
{
	struct keep *k = NULL;

	assert_int_equal(keep_attach(fd, NULL, NULL, &k), 0);
	return k;
}

static int create(void)
{
	int fd = -1;

	assert_int_equal(keep_create(&fd), 0);
	return fd;
}

/* After a death nothing is relied on that the ledger says of places. */
struct refind {
	struct keep *k;
	struct ledger *l;
};

static void note_place(void *arg, void *block)
{
	struct refind *r = arg;
	uint32_t id = id_of(*(uint64_t *)block);

	r->l->place[id] = keep_place(r->k, block);
	r->l->seq[id] = keep_seq(block);
	if (r->l->seq[id] > r->l->max_seq)
		r->l->max_seq = r->l->seq[id];
}

static struct keep *attach_and_check(int fd, struct ledger *l)
{
	struct keep *k = attach(fd);
	struct refind r = { k, l };

	check(k, fd, l);
	keep_each(k, KEEP_ANY, note_place, &r);
	return k;
}

#endif
