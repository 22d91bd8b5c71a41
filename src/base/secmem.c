/*
 * The arena of secret memory.
 *
 * A segment is one mapping between guard pages, cut into blocks with boundary tags: each block
 * begins with a header that tells its size and that of its neighbour before it, so that free
 * neighbours merge at once. Free blocks of all segments hang in lists by size, found through two
 * levels of bitmaps ("two-level segregated fit"): allocating and freeing cost the same with ten
 * blocks and with a million. All of it is under one mutex; wiping is not.
 */
#include "base/secmem.h"

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SECMEM_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SECMEM_ASAN 1
#endif

#ifdef SECMEM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/lsan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

enum {
	UNIT = 16,                        /* alignment, and size of a header */
	BLOCK_MIN = 2 * UNIT,             /* a free block holds its list links */
	BIG_MIN = SECMEM_SEGMENT / 4,     /* from here on a block has its own mapping */
	SUB_BITS = 3,                     /* 8 lists for each power of two */
	SUBS = 1 << SUB_BITS,
	LEVELS = 16                       /* up to 2^(LEVELS + SUB_BITS) units */
};

enum block_state {
	BLOCK_FREE = 0x46524545,
	BLOCK_USED = 0x55534544,
	BLOCK_BIG = 0x42494721
};

/* Before every block. Sizes include the header and are multiples of UNIT. */
struct block {
	uint32_t state;
	uint32_t offset; /* from the segment's first byte */
	uint32_t size;
	uint32_t before; /* size of the block before it, 0: it is the first */
};
_Static_assert(sizeof(struct block) == UNIT, "header is one unit");

/* The payload of a free block. */
struct links {
	struct block *next, *prev;
};

/* At the start of each mapping, both of a segment and of a big block. */
struct segment {
	struct segment *next, *prev; /* segments only */
	size_t size;                 /* without guard pages */
	size_t locked;               /* size or 0 */
	size_t blocks;               /* in use */
	size_t big_size;             /* what was asked for, big blocks only */
};
enum { SEGMENT_HEAD = (sizeof(struct segment) + UNIT - 1) / UNIT * UNIT };

static struct {
	pthread_mutex_t mutex;
	enum secmem_lock policy;
	struct segment *segments;
	size_t empty; /* segments without a block in use */
	struct block *lists[LEVELS][SUBS];
	uint32_t levels;         /* bit set: a list of the level isn't empty */
	uint32_t subs[LEVELS];
	struct secmem_stats stats;
	long fail_after;
} arena = { .mutex = PTHREAD_MUTEX_INITIALIZER, .fail_after = -1 };

static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static size_t round_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

static void *payload(struct block *b)
{
	return b + 1;
}

static struct links *links_of(struct block *b)
{
	return (struct links *)(void *)(b + 1);
}

static struct block *at(struct block *b, ptrdiff_t bytes)
{
	return (struct block *)(void *)((char *)b + bytes);
}

static struct segment *segment_of(struct block *b)
{
	return (struct segment *)(void *)((char *)b - b->offset);
}

/* A pointer that isn't ours, or is freed twice, must not go on: the arena holds secrets. */
static void check(const struct block *b, bool ok)
{
	if (!ok || ((uintptr_t)b & (UNIT - 1)) != 0)
		abort();
}

/* --- mappings --------------------------------------------------------------------------- */

static int lock_mapping(struct segment *s)
{
	if (s->locked)
		return 0;
	if (mlock(s, s->size) < 0) {
		arena.stats.lock_errno = errno;
		return -errno;
	}
	s->locked = s->size;
	arena.stats.locked += s->size;
	return 0;
}

static void unmap(struct segment *s)
{
	size_t page = page_size();
	size_t size = s->size;
	char *base = (char *)s - page;

	arena.stats.mapped -= size;
	arena.stats.locked -= s->locked;
#ifdef SECMEM_ASAN
	ASAN_UNPOISON_MEMORY_REGION(s, size);
	__lsan_unregister_root_region(s, size);
#endif
	munmap(base, size + 2 * page); /* unlocks as well */
}

/* Maps size bytes (whole pages) between two guard pages. NULL with errno=ENOMEM. */
static struct segment *map(size_t size)
{
	size_t page = page_size();
	int saved = errno;

	if (size > SIZE_MAX - 2 * page)
		goto fail;
	char *base = mmap(NULL, size + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (base == MAP_FAILED)
		goto fail;
	struct segment *s = (struct segment *)(void *)(base + page);
	if (madvise(base, size + 2 * page, MADV_DONTFORK) < 0 ||
	    madvise(base, size + 2 * page, MADV_DONTDUMP) < 0 ||
	    mprotect(s, size, PROT_READ | PROT_WRITE) < 0) {
		munmap(base, size + 2 * page);
		goto fail;
	}
	/* Where a mapping of the parent's lay that a child has not inherited, it is poisoned still. */
	ASAN_UNPOISON_MEMORY_REGION(s, size);
	*s = (struct segment){ .size = size };
	arena.stats.mapped += size;
#ifdef SECMEM_ASAN
	/* The leak checker looks for pointers only where malloc or it was told of memory. */
	__lsan_register_root_region(s, size);
#endif
	if (lock_mapping(s) < 0 && arena.policy == SECMEM_LOCK_REQUIRE) {
		unmap(s);
		goto fail;
	}
	errno = saved; /* whoever asks jansson what went wrong has nothing else to look at (format/json.c) */
	return s;
fail:
	errno = ENOMEM;
	return NULL;
}

/* --- free lists ------------------------------------------------------------------------- */

/* The list whose blocks are all of size or larger (up), or that holds a block of size. */
static void list_for(size_t size, bool up, unsigned *ret_level, unsigned *ret_sub)
{
	size_t units = size / UNIT;

	if (units < SUBS) {
		*ret_level = 0;
		*ret_sub = (unsigned)units;
		return;
	}
	unsigned top = 63u - (unsigned)__builtin_clzll(units);
	if (up) {
		units += ((size_t)1 << (top - SUB_BITS)) - 1;
		top = 63u - (unsigned)__builtin_clzll(units);
	}
	*ret_level = top - SUB_BITS + 1;
	*ret_sub = (unsigned)(units >> (top - SUB_BITS)) & (SUBS - 1);
}

static void list_add(struct block *b)
{
	unsigned level, sub;

	list_for(b->size, false, &level, &sub);
	struct block *head = arena.lists[level][sub];
	b->state = BLOCK_FREE;
	ASAN_UNPOISON_MEMORY_REGION(links_of(b), sizeof(struct links));
	*links_of(b) = (struct links){ head, NULL };
	if (head)
		links_of(head)->prev = b;
	arena.lists[level][sub] = b;
	arena.levels |= 1u << level;
	arena.subs[level] |= 1u << sub;
}

static void list_del(struct block *b)
{
	unsigned level, sub;
	struct links l = *links_of(b);

	list_for(b->size, false, &level, &sub);
	check(b, b->state == BLOCK_FREE);
	if (l.next)
		links_of(l.next)->prev = l.prev;
	if (l.prev) {
		links_of(l.prev)->next = l.next;
		return;
	}
	arena.lists[level][sub] = l.next;
	if (!l.next) {
		arena.subs[level] &= ~(1u << sub);
		if (!arena.subs[level])
			arena.levels &= ~(1u << level);
	}
}

static struct block *list_find(size_t size)
{
	unsigned level, sub;

	list_for(size, true, &level, &sub);
	uint32_t subs = arena.subs[level] & (~0u << sub);
	if (!subs) {
		uint32_t levels = arena.levels & (~0u << (level + 1));
		if (!levels)
			return NULL;
		level = (unsigned)__builtin_ctz(levels);
		subs = arena.subs[level];
	}
	return arena.lists[level][__builtin_ctz(subs)];
}

/* --- blocks ----------------------------------------------------------------------------- */

static bool is_last(struct block *b)
{
	return b->offset + (size_t)b->size == SECMEM_SEGMENT;
}

static void set_size(struct block *b, uint32_t size)
{
	b->size = size;
	if (!is_last(b))
		at(b, size)->before = size;
}

/* Cuts b (in no list) to size; what remains, if it makes a block, becomes a free one. */
static void cut(struct block *b, size_t size)
{
	size_t rest = b->size - size;

	if (rest < BLOCK_MIN)
		return;
	struct block *r = at(b, (ptrdiff_t)size);
	ASAN_UNPOISON_MEMORY_REGION(r, sizeof(*r));
	*r = (struct block){ BLOCK_FREE, b->offset + (uint32_t)size, 0, (uint32_t)size };
	b->size = (uint32_t)size;
	set_size(r, (uint32_t)rest);
	ASAN_POISON_MEMORY_REGION(payload(r), rest - UNIT);

	struct block *after = is_last(r) ? NULL : at(r, r->size);
	if (after && after->state == BLOCK_FREE) {
		list_del(after);
		set_size(r, r->size + after->size);
	}
	list_add(r);
}

/* Merges b, which is in no list, with its free neighbours; the result is in no list. */
static struct block *merge(struct block *b)
{
	struct block *after = is_last(b) ? NULL : at(b, b->size);

	if (after && after->state == BLOCK_FREE) {
		list_del(after);
		set_size(b, b->size + after->size);
	}
	struct block *before = b->before ? at(b, -(ptrdiff_t)b->before) : NULL;
	if (before && before->state == BLOCK_FREE) {
		list_del(before);
		set_size(before, before->size + b->size);
		b = before;
	}
	return b;
}

static bool add_segment(void)
{
	struct segment *s = map(SECMEM_SEGMENT);

	if (!s)
		return false;
	s->next = arena.segments;
	if (s->next)
		s->next->prev = s;
	arena.segments = s;
	arena.empty++;
	struct block *b = (struct block *)(void *)((char *)s + SEGMENT_HEAD);
	*b = (struct block){ BLOCK_FREE, SEGMENT_HEAD, SECMEM_SEGMENT - SEGMENT_HEAD, 0 };
	ASAN_POISON_MEMORY_REGION(payload(b), b->size - UNIT);
	list_add(b);
	return true;
}

static void drop_segment(struct segment *s)
{
	if (s->next)
		s->next->prev = s->prev;
	if (s->prev)
		s->prev->next = s->next;
	else
		arena.segments = s->next;
	arena.empty--;
	unmap(s);
}

static void *alloc_small(size_t n)
{
	size_t size = round_up(n + UNIT, UNIT);

	if (size < BLOCK_MIN)
		size = BLOCK_MIN;
	struct block *b = list_find(size);
	if (!b) {
		if (!add_segment())
			return NULL;
		b = list_find(size);
	}
	list_del(b);
	cut(b, size);
	b->state = BLOCK_USED;
	struct segment *s = segment_of(b);
	if (s->blocks++ == 0)
		arena.empty--;
	arena.stats.used += b->size - UNIT;
	ASAN_POISON_MEMORY_REGION(payload(b), b->size - UNIT);
	ASAN_UNPOISON_MEMORY_REGION(payload(b), n);
	return payload(b);
}

static void free_small(struct block *b)
{
	struct segment *s = segment_of(b);

	arena.stats.used -= b->size - UNIT;
	b->state = BLOCK_FREE;
	ASAN_POISON_MEMORY_REGION(payload(b), b->size - UNIT);
	b = merge(b);
	list_add(b);
	if (--s->blocks == 0 && ++arena.empty > 1) {
		/* One empty segment is kept, so that a single value that comes and goes maps none. */
		list_del(b);
		drop_segment(s);
	}
}

/* --- big blocks ------------------------------------------------------------------------- */

enum { BIG_HEAD = SEGMENT_HEAD + UNIT };

static void *alloc_big(size_t n)
{
	size_t page = page_size();

	if (n > SIZE_MAX / 2) {
		errno = ENOMEM;
		return NULL;
	}
	struct segment *s = map(round_up(n + BIG_HEAD, page));
	if (!s)
		return NULL;
	struct block *b = (struct block *)(void *)((char *)s + SEGMENT_HEAD);
	*b = (struct block){ BLOCK_BIG, SEGMENT_HEAD, 0, 0 };
	s->big_size = n;
	arena.stats.used += n;
	ASAN_POISON_MEMORY_REGION(payload(b), s->size - BIG_HEAD);
	ASAN_UNPOISON_MEMORY_REGION(payload(b), n);
	return payload(b);
}

static void free_big(struct block *b)
{
	struct segment *s = segment_of(b);

	arena.stats.used -= s->big_size;
	unmap(s);
}

/* --- the interface ---------------------------------------------------------------------- */

/* The room of the block behind p, without its mutex: a block in use has one owner. */
static size_t room_of(struct block *b)
{
	check(b, b->state == BLOCK_USED || b->state == BLOCK_BIG);
	return b->state == BLOCK_BIG ? segment_of(b)->size - BIG_HEAD : b->size - UNIT;
}

static void before_fork(void)
{
	pthread_mutex_lock(&arena.mutex);
}

static void after_fork_parent(void)
{
	pthread_mutex_unlock(&arena.mutex);
}

/* The child has no mapping of the arena any more: it begins with an empty one. */
static void after_fork_child(void)
{
	arena.segments = NULL;
	arena.empty = 0;
	memset(arena.lists, 0, sizeof(arena.lists));
	arena.levels = 0;
	memset(arena.subs, 0, sizeof(arena.subs));
	arena.stats = (struct secmem_stats){ 0 };
	pthread_mutex_unlock(&arena.mutex);
}

static void watch_forks(void)
{
	pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

enum secmem_lock secmem_lock_policy(void)
{
	enum secmem_lock policy;

	pthread_mutex_lock(&arena.mutex);
	policy = arena.policy;
	pthread_mutex_unlock(&arena.mutex);
	return policy;
}

int secmem_init(enum secmem_lock policy)
{
	int r = 0;

	pthread_once(&fork_once, watch_forks);
	pthread_mutex_lock(&arena.mutex);
	enum secmem_lock old = arena.policy;
	arena.policy = policy;
	if (!arena.segments && !add_segment())
		r = arena.stats.lock_errno == EPERM ? -EPERM : -ENOMEM;
	for (struct segment *s = arena.segments; s && r == 0; s = s->next)
		r = lock_mapping(s);
	if (policy == SECMEM_LOCK_TRY && arena.segments)
		r = 0;
	if (r < 0) {
		arena.policy = old;
		r = r == -EPERM ? -EPERM : -ENOMEM;
	}
	pthread_mutex_unlock(&arena.mutex);
	return r;
}

void *secmem_alloc(size_t n)
{
	void *p = NULL;

	pthread_once(&fork_once, watch_forks);
	pthread_mutex_lock(&arena.mutex);
	if (arena.fail_after > 0 && --arena.fail_after == 0) {
		arena.fail_after = -1;
		errno = ENOMEM;
	} else {
		p = n < BIG_MIN ? alloc_small(n) : alloc_big(n);
	}
	pthread_mutex_unlock(&arena.mutex);
	return p;
}

void *secmem_zalloc(size_t n)
{
	void *p = secmem_alloc(n);

	if (p)
		memset(p, 0, n);
	return p;
}

void secmem_free(void *p)
{
	if (!p)
		return;
	struct block *b = (struct block *)p - 1;
	size_t room = room_of(b);
	ASAN_UNPOISON_MEMORY_REGION(p, room);
	explicit_bzero(p, room); /* before the mutex: this is what takes time */
	pthread_mutex_lock(&arena.mutex);
	if (b->state == BLOCK_BIG)
		free_big(b);
	else
		free_small(b);
	pthread_mutex_unlock(&arena.mutex);
}

/* Makes a block smaller, or larger within its room, where that wastes no memory. */
static bool resize_in_place(struct block *b, size_t n)
{
	size_t room = room_of(b);

	if (n > room || (b->state == BLOCK_BIG && n < room / 2))
		return false;
	ASAN_UNPOISON_MEMORY_REGION(payload(b), room);
	explicit_bzero((char *)payload(b) + n, room - n);
	pthread_mutex_lock(&arena.mutex);
	if (b->state == BLOCK_BIG) {
		struct segment *s = segment_of(b);
		arena.stats.used = arena.stats.used - s->big_size + n;
		s->big_size = n;
	} else {
		size_t size = round_up(n + UNIT, UNIT);
		arena.stats.used -= b->size;
		cut(b, size < BLOCK_MIN ? BLOCK_MIN : size);
		arena.stats.used += b->size;
		room = b->size - UNIT;
	}
	ASAN_POISON_MEMORY_REGION(payload(b), room);
	ASAN_UNPOISON_MEMORY_REGION(payload(b), n);
	pthread_mutex_unlock(&arena.mutex);
	return true;
}

void *secmem_realloc(void *p, size_t n)
{
	if (!p)
		return secmem_alloc(n);
	struct block *b = (struct block *)p - 1;
	if (resize_in_place(b, n))
		return p;
	size_t have = b->state == BLOCK_BIG ? segment_of(b)->big_size : b->size - UNIT;
	void *q = secmem_alloc(n);
	if (!q)
		return NULL;
	if (b->state != BLOCK_BIG)
		ASAN_UNPOISON_MEMORY_REGION(p, have); /* what was asked for isn't recorded */
	memcpy(q, p, have < n ? have : n);
	secmem_free(p);
	return q;
}

char *secmem_strdup(struct slice s)
{
	char *copy = s.len == SIZE_MAX ? NULL : secmem_alloc(s.len + 1);

	if (!copy)
		return NULL;
	if (s.len > 0)
		memcpy(copy, s.data, s.len);
	copy[s.len] = '\0';
	return copy;
}

void secmem_get_stats(struct secmem_stats *ret)
{
	pthread_mutex_lock(&arena.mutex);
	*ret = arena.stats;
	pthread_mutex_unlock(&arena.mutex);
}

int secmem_harden_process(void)
{
	const struct rlimit none = { 0, 0 };

	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
		return -errno;
	return 0;
}

void secmem_install_jansson(void)
{
	json_set_alloc_funcs(secmem_alloc, secmem_free);
}

void secmem_fail_after(long n)
{
	pthread_mutex_lock(&arena.mutex);
	arena.fail_after = n;
	pthread_mutex_unlock(&arena.mutex);
}
