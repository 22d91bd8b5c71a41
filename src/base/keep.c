/*
 * The keep.
 *
 * The file is a row of chunks. The first holds the head; each other begins with a word that says what it
 * is: free, cut into blocks of one size, or the first of a run that holds one large block. A block begins with a
 * word too: nothing, committed, or dying. Each of these words changes by one store, and only when what
 * lies behind it is in order; nothing else in the file is relied on by a successor, who makes all the rest
 * (which chunks have room, where) anew in memory of its own.
 *
 * A block that is freed is dying until it has been wiped. What isn't committed when a successor comes is wiped.
 */
#include "base/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/secmem.h"

#ifndef MADV_POPULATE_WRITE /* glibc 2.34 */
#define MADV_POPULATE_WRITE 23
#endif

#define KEEP_MAGIC 0x70656b7366636e63 /* "cncfskep" */

enum {
	CHUNK = 32 * 1024,
	CHUNK_HEAD = 64,
	CHUNKS_MAX = (size_t)KEEP_SEGMENTS_MAX * KEEP_SEGMENT / CHUNK,
	BLOCK_HEAD = 16,
	N_CLASSES = 36,
	NONE = -1
};

/* Bytes of a block with its head; multiples of 16. Up to 2 KiB, where most are, a sixth or so above the one before;
 * and each as large as its number in a chunk allows. */
static const uint32_t class_size[N_CLASSES] = {
	48, 64, 80, 96, 112, 128, 144, 160, 176, 208, 240, 272, 304, 352, 416, 480, 544, 592, 672, 752, 848, 960,
	1088, 1200, 1360, 1472, 1632, 1808, 2032, 2336, 2720, 3264, 4080, 5440, 8176, 16352
};

enum chunk_type { CHUNK_FREE = 0, CHUNK_BLOCKS = 1, CHUNK_RUN = 2 };
enum block_state { BLOCK_NOTHING = 0, BLOCK_COMMITTED = 1, BLOCK_DYING = 2 };

struct head {
	uint64_t magic;
	_Atomic uint64_t format; /* stored last: 0 is a file that was being made */
	_Atomic uint64_t seq;    /* the last that was given; here, since the block that has it may be gone */
};

struct chunk {
	_Atomic uint64_t word; /* type, and behind its 8 bits the class or the number of chunks */
};

struct block {
	_Atomic uint64_t word; /* state, behind its 8 bits the kind, behind that 8 the size asked for */
	_Atomic uint64_t seq;
};

/* What we know of a chunk. */
struct info {
	uint8_t type;
	uint8_t class;
	uint32_t used;        /* blocks in use; of a run: its chunks */
	int32_t next, prev;   /* in the list of its class's chunks with room */
	uint32_t free;        /* place of its first free block in it, 0: none. Links are in the blocks */
};

struct keep {
	pthread_mutex_t lock;
	int fd;
	char *base;           /* of the reserved addresses */
	size_t n_chunks;      /* in the file */
	size_t search;        /* no chunk before it is free */
	struct info *info;
	int32_t room[N_CLASSES]; /* first chunk with room, NONE */
	atomic_bool frozen;
	struct keep_stats stats;
	void (*grown)(void *arg, size_t bytes);
	void *arg;
};

/* ---- places ---- */

static struct chunk *chunk_at(const struct keep *k, size_t i)
{
	return (struct chunk *)(void *)(k->base + i * CHUNK);
}

static size_t chunk_of(const struct keep *k, const void *p)
{
	return (size_t)((const char *)p - k->base) / CHUNK;
}

static struct block *block_of(const void *payload)
{
	return (struct block *)(void *)((char *)payload - BLOCK_HEAD);
}

static void *payload_of(struct block *b)
{
	return (char *)b + BLOCK_HEAD;
}

static uint64_t word_of(uint64_t low, uint64_t rest)
{
	return low | rest << 8;
}

static enum block_state state_of(const struct block *b)
{
	return (enum block_state)(atomic_load_explicit(&b->word, memory_order_relaxed) & 0xff);
}

static size_t blocks_in(unsigned class)
{
	return (CHUNK - CHUNK_HEAD) / class_size[class];
}

static void wipe(void *p, size_t n)
{
	explicit_bzero(p, n);
	FAULT_POINT();
}

/* ---- lists of chunks with room ---- */

static void room_add(struct keep *k, size_t i)
{
	struct info *c = &k->info[i];

	c->prev = NONE;
	c->next = k->room[c->class];
	if (c->next != NONE)
		k->info[c->next].prev = (int32_t)i;
	k->room[c->class] = (int32_t)i;
}

static void room_del(struct keep *k, size_t i)
{
	struct info *c = &k->info[i];

	if (c->next != NONE)
		k->info[c->next].prev = c->prev;
	if (c->prev != NONE)
		k->info[c->prev].next = c->next;
	else
		k->room[c->class] = c->next;
}

/* ---- growing ---- */

static int lock_range(struct keep *k, char *from, size_t n)
{
	if (mlock(from, n) == 0) {
		k->stats.locked += n;
		return 0;
	}
	k->stats.lock_errno = errno;
	if (secmem_lock_policy() == SECMEM_LOCK_REQUIRE)
		return -errno;
	/* Then it is at least there: or where memory is short the first store would be a SIGBUS, and the kernel,
	 * taking an answer from a page that must be fetched, would fail it when we are killed just then. */
	return madvise(from, n, MADV_POPULATE_WRITE) < 0 && errno != EINVAL ? -errno : 0;
}

/* Maps the file from the bytes mapped so far up to size. */
static int map_up_to(struct keep *k, size_t size)
{
	size_t at = k->n_chunks * CHUNK, n = size - at;
	char *from = k->base + at;

	if (n == 0)
		return 0;
	if (mmap(from, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, k->fd, (off_t)at) == MAP_FAILED)
		return -errno;
	madvise(from, n, MADV_DONTDUMP);
	madvise(from, n, MADV_DONTFORK);
	if (lock_range(k, from, n) < 0) {
		mmap(from, n, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
		return -ENOMEM;
	}
	k->n_chunks = size / CHUNK;
	k->stats.size = size;
	if (k->grown)
		k->grown(k->arg, size);
	return 0;
}

static int grow(struct keep *k, size_t chunks)
{
	size_t at = k->n_chunks * CHUNK;
	size_t n = (chunks * CHUNK + KEEP_SEGMENT - 1) / KEEP_SEGMENT * KEEP_SEGMENT;
	struct stat st;

	if (at + n > (size_t)KEEP_SEGMENTS_MAX * KEEP_SEGMENT)
		return -ENOMEM;
	FAULT_POINT();
	if (fstat(k->fd, &st) < 0)
		return -errno;
	/* Longer than what is mapped where the last attempt could not be mapped or locked. It can't get shorter. */
	if (st.st_size < (off_t)(at + n) && ftruncate(k->fd, (off_t)(at + n)) < 0)
		return -errno;
	FAULT_POINT();
	return map_up_to(k, at + n);
}

/* The first of n free chunks in a row; 0: none. */
static size_t find_chunks(struct keep *k, size_t n)
{
	size_t in_a_row = 0, step;
	bool all_used = true; /* from k->search on */

	for (size_t i = k->search; i < k->n_chunks; i += step) {
		if (k->info[i].type == CHUNK_FREE) {
			all_used = false;
			step = 1;
			if (++in_a_row == n)
				return i + 1 - n;
			continue;
		}
		step = k->info[i].type == CHUNK_RUN ? k->info[i].used : 1;
		if (all_used)
			k->search = i + step;
		in_a_row = 0;
	}
	return 0;
}

static size_t take_chunks(struct keep *k, size_t n)
{
	size_t i = find_chunks(k, n);

	if (i == 0 && grow(k, n) == 0)
		i = find_chunks(k, n);
	return i;
}

/* ---- blocks of one size ---- */

static unsigned class_for(size_t n)
{
	unsigned class = 0;

	while (class_size[class] < n)
		class++;
	return class;
}

static struct block *block_at(const struct keep *k, size_t i, uint32_t place)
{
	return (struct block *)(void *)((char *)chunk_at(k, i) + place);
}

/* Puts a wiped block into its chunk's list. */
static void push(struct keep *k, size_t i, struct block *b)
{
	struct info *c = &k->info[i];

	*(uint32_t *)payload_of(b) = c->free;
	c->free = (uint32_t)((char *)b - (char *)chunk_at(k, i));
}

static struct block *pop(struct keep *k, size_t i)
{
	struct info *c = &k->info[i];
	struct block *b = block_at(k, i, c->free);

	c->free = *(uint32_t *)payload_of(b);
	*(uint32_t *)payload_of(b) = 0;
	return b;
}

/* Cuts a free chunk. It is cleared first: links of a list of blocks of another size may lie in it. */
static bool add_blocks(struct keep *k, unsigned class)
{
	size_t i = take_chunks(k, 1);

	if (i == 0)
		return false;
	memset((char *)chunk_at(k, i) + CHUNK_HEAD, 0, CHUNK - CHUNK_HEAD);
	FAULT_STORE(&chunk_at(k, i)->word, word_of(CHUNK_BLOCKS, class));
	k->info[i] = (struct info){ .type = CHUNK_BLOCKS, .class = (uint8_t)class };
	for (size_t b = blocks_in(class); b-- > 0;)
		push(k, i, block_at(k, i, CHUNK_HEAD + (uint32_t)b * class_size[class]));
	room_add(k, i);
	return true;
}

static struct block *alloc_block(struct keep *k, unsigned class)
{
	struct block *b;
	size_t i;

	if (k->room[class] == NONE && !add_blocks(k, class))
		return NULL;
	i = (size_t)k->room[class];
	b = pop(k, i);
	k->info[i].used++;
	if (!k->info[i].free)
		room_del(k, i);
	k->stats.used += class_size[class];
	return b;
}

static void chunk_is_free(struct keep *k, size_t i, size_t n)
{
	FAULT_STORE(&chunk_at(k, i)->word, word_of(CHUNK_FREE, 0));
	for (size_t j = 0; j < n; j++)
		k->info[i + j] = (struct info){ .type = CHUNK_FREE };
	if (i < k->search)
		k->search = i;
}

static void free_block(struct keep *k, size_t i, struct block *b)
{
	struct info *c = &k->info[i];
	bool had_room = c->free;

	push(k, i, b);
	k->stats.used -= class_size[c->class];
	c->used--;
	if (!had_room)
		room_add(k, i);
	/* One chunk of each size stays, so that one block that comes and goes does not cut it anew. */
	if (c->used == 0 && (c->next != NONE || c->prev != NONE)) {
		room_del(k, i);
		chunk_is_free(k, i, 1);
	}
}

/* ---- large blocks ---- */

static struct block *alloc_run(struct keep *k, size_t n)
{
	size_t chunks = (n + CHUNK_HEAD + CHUNK - 1) / CHUNK, i = take_chunks(k, chunks);

	if (i == 0)
		return NULL;
	memset((char *)chunk_at(k, i) + CHUNK_HEAD, 0, chunks * CHUNK - CHUNK_HEAD);
	FAULT_STORE(&chunk_at(k, i)->word, word_of(CHUNK_RUN, chunks));
	k->info[i] = (struct info){ .type = CHUNK_RUN, .used = (uint32_t)chunks };
	for (size_t j = 1; j < chunks; j++)
		k->info[i + j].type = CHUNK_RUN; /* never looked at: a search leaps over them */
	k->stats.used += chunks * CHUNK;
	return block_at(k, i, CHUNK_HEAD);
}

static void free_run(struct keep *k, size_t i)
{
	size_t n = k->info[i].used;

	k->stats.used -= n * CHUNK;
	chunk_is_free(k, i, n);
}

static size_t room_in(const struct keep *k, size_t i)
{
	const struct info *c = &k->info[i];

	return c->type == CHUNK_RUN ? c->used * (size_t)CHUNK - CHUNK_HEAD - BLOCK_HEAD
	                            : class_size[c->class] - BLOCK_HEAD;
}

/* ---- the interface ---- */

void *keep_alloc(struct keep *k, size_t n)
{
	size_t whole = n + BLOCK_HEAD;
	struct block *b = NULL;

	pthread_mutex_lock(&k->lock);
	if (n <= KEEP_BLOCK_MAX)
		b = whole <= class_size[N_CLASSES - 1] ? alloc_block(k, class_for(whole)) : alloc_run(k, whole);
	if (b) {
		k->stats.blocks++;
		/* A block without a state is nothing, whatever else the word says. */
		atomic_store_explicit(&b->word, word_of(BLOCK_NOTHING, (uint64_t)n << 8), memory_order_relaxed);
	} else {
		k->stats.failed++;
	}
	pthread_mutex_unlock(&k->lock);
	if (!b) {
		errno = ENOMEM;
		return NULL;
	}
	return payload_of(b);
}

void keep_commit(struct keep *k, void *block, enum keep_kind kind)
{
	struct head *h = (struct head *)(void *)k->base;
	struct block *b = block_of(block);
	uint64_t size = keep_size(block);

	atomic_store_explicit(&b->seq, atomic_fetch_add(&h->seq, 1) + 1, memory_order_relaxed);
	FAULT_POINT();
	FAULT_STORE(&b->word, word_of(BLOCK_COMMITTED, (uint64_t)kind | size << 8));
}

void keep_free(struct keep *k, void *block)
{
	struct block *b;
	size_t i;

	if (!block || keep_is_frozen(k))
		return;
	b = block_of(block);
	i = chunk_of(k, b);
	if (state_of(b) == BLOCK_COMMITTED)
		FAULT_STORE(&b->word, word_of(BLOCK_DYING, 0));
	wipe(block, room_in(k, i)); /* the chunk of a block in use doesn't change what it is */
	atomic_store_explicit(&b->seq, 0, memory_order_relaxed);
	FAULT_STORE(&b->word, 0);
	pthread_mutex_lock(&k->lock);
	k->stats.blocks--;
	if (k->info[i].type == CHUNK_RUN)
		free_run(k, i);
	else
		free_block(k, i, b);
	pthread_mutex_unlock(&k->lock);
}

void keep_freeze(struct keep *k)
{
	atomic_store(&k->frozen, true);
}

bool keep_is_frozen(const struct keep *k)
{
	return atomic_load_explicit(&k->frozen, memory_order_relaxed);
}

size_t keep_size(const void *block)
{
	return (size_t)(atomic_load_explicit(&block_of(block)->word, memory_order_relaxed) >> 16);
}

uint64_t keep_seq(const void *block)
{
	return atomic_load_explicit(&block_of(block)->seq, memory_order_relaxed);
}

uint64_t keep_place(const struct keep *k, const void *block)
{
	return (uint64_t)((const char *)block - k->base);
}

static bool is_committed(const struct block *b, enum keep_kind kind)
{
	uint64_t word = atomic_load_explicit(&b->word, memory_order_acquire);

	return (word & 0xff) == BLOCK_COMMITTED && (kind == KEEP_ANY || (word >> 8 & 0xff) == (uint64_t)kind);
}

/* The block that may begin at that place; NULL: none can. Under the lock. */
static struct block *block_from(const struct keep *k, uint64_t place)
{
	size_t i = place / CHUNK, at = place % CHUNK;

	if (i == 0 || i >= k->n_chunks || at < CHUNK_HEAD + BLOCK_HEAD)
		return NULL;
	at -= CHUNK_HEAD + BLOCK_HEAD;
	switch (k->info[i].type) {
	case CHUNK_BLOCKS:
		if (at % class_size[k->info[i].class] != 0 || at / class_size[k->info[i].class] >= blocks_in(k->info[i].class))
			return NULL;
		break;
	case CHUNK_RUN:
		if (at != 0 || k->info[i].used == 0)
			return NULL;
		break;
	default:
		return NULL;
	}
	return block_of(k->base + place);
}

void *keep_find(struct keep *k, uint64_t place, uint64_t seq, enum keep_kind kind)
{
	struct block *b;

	pthread_mutex_lock(&k->lock); /* chunks may be cut and freed meanwhile */
	b = block_from(k, place);
	if (b && (!is_committed(b, kind) || keep_seq(payload_of(b)) != seq))
		b = NULL;
	pthread_mutex_unlock(&k->lock);
	return b ? payload_of(b) : NULL;
}

void keep_each(struct keep *k, enum keep_kind kind, void (*fn)(void *arg, void *block), void *arg)
{
	for (size_t i = 1; i < k->n_chunks; i++) {
		struct info c = k->info[i];
		size_t n = c.type == CHUNK_RUN ? 1 : c.type == CHUNK_BLOCKS ? blocks_in(c.class) : 0;

		for (size_t b = 0; b < n; b++) {
			struct block *at = block_at(k, i, CHUNK_HEAD + (uint32_t)b * class_size[c.class]);

			if (is_committed(at, kind))
				fn(arg, payload_of(at));
			if (k->info[i].type != c.type)
				break; /* its last block was freed */
		}
		if (c.type == CHUNK_RUN)
			i += c.used - 1;
	}
}

void keep_get_stats(struct keep *k, struct keep_stats *ret)
{
	pthread_mutex_lock(&k->lock);
	*ret = k->stats;
	pthread_mutex_unlock(&k->lock);
}

/* ---- making and attaching ---- */

int keep_create(int *ret_fd)
{
	int fd = memfd_create("connectfs-keep", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	*ret_fd = fd;
	return 0;
}

/* Takes up a block that a predecessor left. False: it can't be one. */
static bool adopt_block(struct keep *k, size_t i, struct block *b)
{
	struct info *c = &k->info[i];
	const struct head *h = (const struct head *)(const void *)k->base;
	uint64_t seq = atomic_load_explicit(&b->seq, memory_order_relaxed);

	if (state_of(b) != BLOCK_COMMITTED) {
		wipe(payload_of(b), room_in(k, i));
		atomic_store_explicit(&b->seq, 0, memory_order_relaxed);
		FAULT_STORE(&b->word, 0);
		if (c->type == CHUNK_BLOCKS)
			push(k, i, b);
		return true;
	}
	if (keep_size(payload_of(b)) > room_in(k, i))
		return false;
	if (seq == 0 || seq > atomic_load_explicit(&h->seq, memory_order_relaxed))
		return false;
	k->stats.blocks++;
	k->stats.used += c->type == CHUNK_RUN ? c->used * (size_t)CHUNK : class_size[c->class];
	if (c->type == CHUNK_BLOCKS)
		c->used++;
	return true;
}

static bool adopt_blocks(struct keep *k, size_t i, uint64_t class)
{
	if (class >= N_CLASSES)
		return false;
	k->info[i] = (struct info){ .type = CHUNK_BLOCKS, .class = (uint8_t)class };
	for (size_t b = blocks_in((unsigned)class); b-- > 0;)
		if (!adopt_block(k, i, block_at(k, i, CHUNK_HEAD + (uint32_t)b * class_size[class])))
			return false;
	if (k->info[i].used == 0)
		chunk_is_free(k, i, 1);
	else if (k->info[i].free)
		room_add(k, i);
	return true;
}

static bool adopt_run(struct keep *k, size_t i, uint64_t chunks)
{
	struct block *b = block_at(k, i, CHUNK_HEAD);

	if (chunks == 0 || chunks > k->n_chunks - i)
		return false;
	k->info[i] = (struct info){ .type = CHUNK_RUN, .used = (uint32_t)chunks };
	for (size_t j = 1; j < chunks; j++)
		k->info[i + j].type = CHUNK_RUN;
	if (!adopt_block(k, i, b))
		return false;
	if (state_of(b) != BLOCK_COMMITTED)
		chunk_is_free(k, i, chunks);
	return true;
}

static bool adopt(struct keep *k)
{
	for (size_t i = 1; i < k->n_chunks; i++) {
		uint64_t word = atomic_load_explicit(&chunk_at(k, i)->word, memory_order_acquire);

		switch (word & 0xff) {
		case CHUNK_FREE:
			k->info[i] = (struct info){ .type = CHUNK_FREE };
			break;
		case CHUNK_BLOCKS:
			if (!adopt_blocks(k, i, word >> 8))
				return false;
			break;
		case CHUNK_RUN:
			if (!adopt_run(k, i, word >> 8))
				return false;
			i += (word >> 8) - 1;
			break;
		default:
			return false;
		}
	}
	return true;
}

/* The head of the file; a new one's is written. */
static int check_head(struct keep *k)
{
	struct head *h = (struct head *)(void *)k->base;
	uint64_t format = atomic_load_explicit(&h->format, memory_order_acquire);

	if (format == 0) { /* nothing else has been written */
		h->magic = KEEP_MAGIC;
		FAULT_STORE(&h->format, KEEP_FORMAT);
		return 0;
	}
	if (h->magic != KEEP_MAGIC)
		return -EBADMSG;
	return format == KEEP_FORMAT ? 0 : -EPROTO;
}

static int attach(struct keep *k)
{
	struct stat st;
	int err = 0;

	if (fstat(k->fd, &st) < 0)
		return -errno;
	if (st.st_size % KEEP_SEGMENT != 0 || st.st_size / KEEP_SEGMENT > KEEP_SEGMENTS_MAX)
		return -EBADMSG;
	k->base = mmap(NULL, (size_t)KEEP_SEGMENTS_MAX * KEEP_SEGMENT, PROT_NONE,
	               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (k->base == MAP_FAILED) {
		k->base = NULL;
		return -errno;
	}
	err = st.st_size == 0 ? grow(k, 1) : map_up_to(k, (size_t)st.st_size);
	if (!err)
		err = check_head(k);
	if (!err && !adopt(k))
		err = -EBADMSG;
	return err;
}

int keep_attach(int fd, void (*grown)(void *arg, size_t bytes), void *arg, struct keep **ret)
{
	struct keep *k = calloc(1, sizeof(*k));
	int err;

	if (!k)
		return -ENOMEM;
	pthread_mutex_init(&k->lock, NULL);
	k->fd = fd;
	k->search = 1; /* the first chunk is the head's */
	k->grown = grown;
	k->arg = arg;
	for (unsigned c = 0; c < N_CLASSES; c++)
		k->room[c] = NONE;
	k->info = calloc(CHUNKS_MAX, sizeof(*k->info));
	err = k->info ? attach(k) : -ENOMEM;
	if (err) {
		keep_detach(k);
		return err;
	}
	*ret = k;
	return 0;
}

void keep_detach(struct keep *k)
{
	if (!k)
		return;
	if (k->base)
		munmap(k->base, (size_t)KEEP_SEGMENTS_MAX * KEEP_SEGMENT);
	free(k->info);
	pthread_mutex_destroy(&k->lock);
	free(k);
}
