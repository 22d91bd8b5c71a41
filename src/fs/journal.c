/*
 * The journal of requests in flight.
 */
#include "fs/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "fs/node.h"

#ifndef MADV_POPULATE_WRITE /* glibc 2.34 */
#define MADV_POPULATE_WRITE 23
#endif

#define JOURNAL_MAGIC 0x6c6e726a73666e63 /* "cnfsjrnl" */

enum {
	BUFFER = FS_MAX_WRITE + 4096, /* as libfuse's own: what the kernel wants for max_write */
	SLOT_DATA = JOURNAL_SLOT - 16,
	INIT_MAX = 256,
	N_BUCKETS = 4096,
	NO_SLOT = -1,
	UNIQUE_STEP = 2, /* the kernel counts requests by twos: FUSE_REQ_ID_STEP in fs/fuse/fuse_dev_i.h */
};

enum slot_flag {
	SLOT_EXECUTED = 1,    /* somebody executes it just now */
	SLOT_INTERRUPTED = 2,
	SLOT_DEATHS = 0x100,  /* deaths while it was executed, counted in the bits from here on … */
	SLOT_SEEN = 0x10000,  /* … and from here on those while it was there, waiting */
};

struct slot {
	_Atomic uint64_t unique; /* 0: free. Stored last, cleared first */
	_Atomic uint32_t flags;
	uint32_t len;
	unsigned char data[SLOT_DATA];
};
_Static_assert(sizeof(struct slot) == JOURNAL_SLOT, "a slot with its head");

/* INIT and its answer, without fuse_in_header's length rules: as they were. */
struct saved {
	_Atomic uint32_t len; /* 0: none. Stored last */
	_Alignas(8) unsigned char data[INIT_MAX];
};

struct file {
	uint64_t magic;
	_Atomic uint64_t format;
	int64_t started_ns;
	struct saved init, answer;
	struct slot slots[JOURNAL_SLOTS];
	_Atomic uint32_t buffer_flags[JOURNAL_BUFFERS]; /* as a slot's, of a request that has none */
	_Alignas(4096) unsigned char buffers[JOURNAL_BUFFERS][BUFFER];
};

struct replay {
	int slot;   /* NO_SLOT: the buffer */
	int buffer;
};

struct journal {
	struct file *file;
	pthread_key_t key;       /* of the thread's struct reader */
	pthread_mutex_t lock;
	pthread_cond_t ready;    /* INIT has been answered */
	bool successor;
	bool init_given;         /* to libfuse */
	_Atomic uint64_t init_unique; /* waits for its answer; 0: none */
	int init_result;         /* 0: no answer yet; 1; -EPROTO */
	void (*refused)(void *arg, uint64_t ino, uint64_t unique);
	void *refused_arg;
	struct replay *replays;
	size_t n_replays, next_replay;
	/* Of the slots in use, which have what unique; and the free ones. */
	int32_t bucket[N_BUCKETS], chain[JOURNAL_SLOTS];
	int32_t free[JOURNAL_SLOTS];
	size_t n_free;
	_Atomic uint64_t holds[JOURNAL_BUFFERS]; /* the request in a thread's buffer; 0: none, or none with an answer */
	uint32_t buffers;        /* bit set: taken by a thread, or holds what is to be replayed */
};

/* What this thread reads into, and what it has read. */
struct reader {
	struct journal *journal;
	int buffer;
	uint64_t unique;
	int slot;
};

static void save(struct saved *s, const void *data, size_t len)
{
	if (len > INIT_MAX)
		return; /* no successor then: it finds none saved */
	memcpy(s->data, data, len);
	FAULT_STORE(&s->len, (uint32_t)len);
}

/* ---- slots ---- */

static int32_t *bucket_of(struct journal *j, uint64_t unique)
{
	return &j->bucket[unique / UNIQUE_STEP % N_BUCKETS];
}

/* Under the lock. */
static int find(struct journal *j, uint64_t unique)
{
	int32_t i = *bucket_of(j, unique);

	while (i != NO_SLOT && atomic_load_explicit(&j->file->slots[i].unique, memory_order_relaxed) != unique)
		i = j->chain[i];
	return i;
}

static void link_slot(struct journal *j, int i, uint64_t unique)
{
	int32_t *b = bucket_of(j, unique);

	j->chain[i] = *b;
	*b = i;
}

/* Puts a request of those flags into a slot; NO_SLOT: there is none, or it is too long. All of it under the lock: an
 * INTERRUPT that another thread reads meanwhile finds it there or in its buffer. */
static int slot_add(struct journal *j, const struct fuse_in_header *in, size_t len, const _Atomic uint32_t *flags,
                    uint32_t clear)
{
	struct slot *s;
	int i = NO_SLOT;

	if (len > SLOT_DATA)
		return NO_SLOT;
	pthread_mutex_lock(&j->lock);
	if (j->n_free > 0) {
		i = j->free[--j->n_free];
		s = &j->file->slots[i];
		memcpy(s->data, in, len);
		s->len = (uint32_t)len;
		atomic_store_explicit(&s->flags, atomic_load(flags) & ~clear, memory_order_relaxed);
		FAULT_STORE(&s->unique, in->unique);
		link_slot(j, i, in->unique);
	}
	pthread_mutex_unlock(&j->lock);
	return i;
}

static void slot_done(struct journal *j, uint64_t unique)
{
	int32_t *at;
	int i;

	pthread_mutex_lock(&j->lock);
	i = find(j, unique);
	if (i != NO_SLOT) {
		for (at = bucket_of(j, unique); *at != i; at = &j->chain[*at])
			;
		*at = j->chain[i];
		FAULT_STORE(&j->file->slots[i].unique, 0);
		j->free[j->n_free++] = i;
	}
	pthread_mutex_unlock(&j->lock);
}

/* In whose buffer it is; -1: in none. The owner may be done with it at any moment. */
static int buffer_of(const struct journal *j, uint64_t unique)
{
	int i = JOURNAL_BUFFERS - 1;

	while (i >= 0 && atomic_load(&j->holds[i]) != unique)
		i--;
	return i;
}

/* False: it is in no slot. */
static bool set_flags(struct journal *j, uint64_t unique, uint32_t set, uint32_t clear)
{
	_Atomic uint32_t *flags;
	int i, buffer;

	pthread_mutex_lock(&j->lock);
	i = find(j, unique);
	if (i != NO_SLOT) {
		flags = &j->file->slots[i].flags;
		FAULT_STORE(flags, (atomic_load(flags) & ~clear) | set);
	} else if ((buffer = buffer_of(j, unique)) >= 0) {
		/* Should it wait, it takes them along; should it be answered, who reads next begins with none. */
		atomic_fetch_or(&j->file->buffer_flags[buffer], set);
		FAULT_POINT();
	}
	pthread_mutex_unlock(&j->lock);
	return i != NO_SLOT;
}

size_t journal_used(struct journal *j)
{
	size_t n;

	pthread_mutex_lock(&j->lock);
	n = JOURNAL_SLOTS - j->n_free;
	pthread_mutex_unlock(&j->lock);
	return n;
}

/* ---- the thread's buffer ---- */

static struct fuse_in_header *header(struct journal *j, int buffer)
{
	return (struct fuse_in_header *)(void *)j->file->buffers[buffer];
}

/* It holds nothing that a successor should look at. */
static void buffer_done(struct journal *j, int buffer)
{
	_Atomic uint32_t *flags = &j->file->buffer_flags[buffer];

	atomic_store_explicit(&j->holds[buffer], 0, memory_order_relaxed);
	FAULT_STORE((_Atomic uint32_t *)&header(j, buffer)->len, 0);
	if (atomic_load_explicit(flags, memory_order_relaxed))
		FAULT_STORE(flags, 0);
}

/* Before it is read into: into a page that is not there a read by one who is killed just then fails, with the
 * request lost. */
static void populate(struct journal *j, int buffer)
{
	madvise(j->file->buffers[buffer], BUFFER, MADV_POPULATE_WRITE);
}

static int take_buffer(struct journal *j)
{
	int i = 0;

	pthread_mutex_lock(&j->lock);
	while (i < JOURNAL_BUFFERS && j->buffers & 1u << i)
		i++;
	if (i < JOURNAL_BUFFERS)
		j->buffers |= 1u << i;
	pthread_mutex_unlock(&j->lock);
	if (i == JOURNAL_BUFFERS)
		return -1;
	populate(j, i);
	return i;
}

static void leave_buffer(struct journal *j, int buffer)
{
	pthread_mutex_lock(&j->lock);
	j->buffers &= ~(1u << buffer);
	pthread_mutex_unlock(&j->lock);
}

static void reader_end(void *arg)
{
	struct reader *r = arg;

	if (r->buffer >= 0)
		leave_buffer(r->journal, r->buffer);
	free(r);
}

/* NULL with errno: no memory, or too many threads. */
static struct reader *reader_of(struct journal *j)
{
	struct reader *r = pthread_getspecific(j->key);

	if (r)
		return r;
	r = malloc(sizeof(*r));
	if (r) {
		*r = (struct reader){ .journal = j, .buffer = take_buffer(j), .slot = NO_SLOT };
		if (r->buffer >= 0 && pthread_setspecific(j->key, r) == 0)
			return r;
		reader_end(r);
	}
	errno = ENOMEM;
	return NULL;
}

bool journal_park(struct journal *j, uint64_t unique)
{
	struct reader *r = pthread_getspecific(j->key);
	const struct fuse_in_header *in;

	if (!r || r->unique != unique)
		return false;
	if (r->slot != NO_SLOT)
		return set_flags(j, unique, 0, SLOT_EXECUTED);
	in = header(j, r->buffer);
	r->slot = slot_add(j, in, in->len, &j->file->buffer_flags[r->buffer], SLOT_EXECUTED);
	if (r->slot == NO_SLOT)
		return false;
	buffer_done(j, r->buffer);
	return true;
}

/* ---- reading ---- */

static bool has_answer(uint32_t opcode)
{
	return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT;
}

/* The journal's part of a request that lies in the thread's buffer. */
static void record(struct journal *j, struct reader *r, size_t len)
{
	struct fuse_in_header *in = header(j, r->buffer);

	r->unique = in->unique;
	r->slot = NO_SLOT;
	if (in->opcode == FUSE_INIT) {
		save(&j->file->init, in, len);
		atomic_store(&j->init_unique, in->unique);
	} else if (in->opcode == FUSE_INTERRUPT) {
		const struct fuse_interrupt_in *arg = (const void *)(in + 1);

		set_flags(j, arg->unique, SLOT_INTERRUPTED, 0);
		r->unique = 0;
	} else if (has_answer(in->opcode)) {
		FAULT_STORE(&j->file->buffer_flags[r->buffer], SLOT_EXECUTED);
		atomic_store(&j->holds[r->buffer], in->unique);
	} else {
		r->unique = 0;
	}
}

static ssize_t read_device(struct journal *j, struct reader *r, int device, void *buf, size_t size)
{
	ssize_t n;

	if (size > BUFFER)
		size = BUFFER;
	buffer_done(j, r->buffer);
	r->unique = 0;
	n = read(device, j->file->buffers[r->buffer], size);
	if (n < (ssize_t)sizeof(struct fuse_in_header))
		return n;
	FAULT_POINT();
	record(j, r, (size_t)n);
	memcpy(buf, j->file->buffers[r->buffer], (size_t)n);
	return n;
}

/* The predecessor's INIT; -1: somebody has it, or there is none. */
static ssize_t give_init(struct journal *j, void *buf, size_t size)
{
	size_t len = atomic_load(&j->file->init.len);

	if (!j->successor || j->init_given || len > size)
		return -1;
	memcpy(buf, j->file->init.data, len);
	j->init_given = true;
	j->init_unique = ((const struct fuse_in_header *)(const void *)j->file->init.data)->unique;
	return (ssize_t)len;
}

static const struct fuse_in_header *replay_header(struct journal *j, struct replay what)
{
	return what.slot == NO_SLOT ? header(j, what.buffer) : (const void *)j->file->slots[what.slot].data;
}

static _Atomic uint32_t *replay_flags(struct journal *j, struct replay what)
{
	return what.slot == NO_SLOT ? &j->file->buffer_flags[what.buffer] : &j->file->slots[what.slot].flags;
}

/* What a request that the predecessor left is answered without being executed; 0: it is to be executed. */
static int verdict(struct journal *j, struct replay what)
{
	const struct fuse_in_header *in = replay_header(j, what);
	uint32_t flags = atomic_load(replay_flags(j, what));

	if (flags / SLOT_SEEN >= JOURNAL_SEEN_MAX || flags % SLOT_SEEN / SLOT_DEATHS >= JOURNAL_DEATHS_MAX)
		return -EIO;
	/* Nothing else than an open waits for what may take long. */
	return flags & SLOT_INTERRUPTED && in->opcode == FUSE_OPEN ? -EINTR : 0;
}

static void write_error(struct journal *j, int device, struct replay what, int err)
{
	const struct fuse_in_header in = *replay_header(j, what);
	struct fuse_out_header out = { .len = sizeof(out), .error = err, .unique = in.unique };
	struct iovec iov = { .iov_base = &out, .iov_len = sizeof(out) };

	/* Where the kernel doesn't want it (ENOENT) the predecessor's answer has come first, and holds. */
	if (journal_writev(j, device, &iov, 1) > 0 && in.opcode == FUSE_OPEN && j->refused)
		j->refused(j->refused_arg, in.nodeid, in.unique);
	if (what.slot == NO_SLOT) {
		buffer_done(j, what.buffer);
		leave_buffer(j, what.buffer);
	}
}

static ssize_t give_replay(struct journal *j, struct reader *r, struct replay what, void *buf, size_t size)
{
	size_t len = what.slot != NO_SLOT ? j->file->slots[what.slot].len : header(j, what.buffer)->len;

	buffer_done(j, r->buffer);
	if (what.slot == NO_SLOT) { /* its buffer becomes ours: there it lies safely */
		leave_buffer(j, r->buffer);
		r->buffer = what.buffer;
		populate(j, r->buffer);
	}
	if (len > size) { /* can't be: sizes are the same in all workers of a format */
		errno = EIO;
		return -1;
	}
	memcpy(buf, replay_header(j, what), len);
	r->unique = ((const struct fuse_in_header *)buf)->unique;
	r->slot = what.slot;
	if (what.slot != NO_SLOT)
		set_flags(j, r->unique, SLOT_EXECUTED, 0);
	else
		FAULT_STORE(replay_flags(j, what), atomic_load(replay_flags(j, what)) | SLOT_EXECUTED);
	return (ssize_t)len;
}

/* The next that the predecessor left: 1, 0 when there is nothing any more, -1 when all is over. Waits for the
 * answer of INIT. */
static int next_left(struct journal *j, struct replay *ret)
{
	int result = 0;

	pthread_mutex_lock(&j->lock);
	while (j->init_result == 0)
		pthread_cond_wait(&j->ready, &j->lock);
	if (j->init_result < 0) {
		result = -1;
	} else if (j->next_replay < j->n_replays) {
		*ret = j->replays[j->next_replay++];
		result = 1;
	}
	pthread_mutex_unlock(&j->lock);
	return result;
}

/* 0: nothing any more. */
static ssize_t read_left(struct journal *j, struct reader *r, int device, void *buf, size_t size)
{
	struct replay what;
	ssize_t n;
	int err, left;

	pthread_mutex_lock(&j->lock);
	n = give_init(j, buf, size);
	pthread_mutex_unlock(&j->lock);
	if (n > 0)
		return n;
	while ((left = next_left(j, &what)) > 0) {
		err = verdict(j, what);
		if (!err)
			return give_replay(j, r, what, buf, size);
		write_error(j, device, what, err);
	}
	errno = ENODEV;
	return left;
}

ssize_t journal_read(struct journal *j, int device, void *buf, size_t size, uint64_t *ret_unique)
{
	struct reader *r = reader_of(j);
	ssize_t n;

	if (!r)
		return -1;
	n = j->successor ? read_left(j, r, device, buf, size) : 0;
	if (n == 0)
		n = read_device(j, r, device, buf, size);
	if (n >= (ssize_t)sizeof(struct fuse_in_header))
		*ret_unique = ((const struct fuse_in_header *)buf)->unique;
	return n;
}

/* ---- writing ---- */

static size_t gather(const struct iovec *iov, int count, unsigned char *out, size_t size)
{
	size_t n = 0;

	for (int i = 0; i < count; i++) {
		if (iov[i].iov_len > size - n)
			return 0;
		if (iov[i].iov_len)
			memcpy(out + n, iov[i].iov_base, iov[i].iov_len);
		n += iov[i].iov_len;
	}
	return n;
}

/* The answer to INIT: the first is kept, a successor's is compared. It writes it as well, since who kept it may
 * have died before it wrote: if not, the kernel doesn't know any more what this answers. */
static ssize_t answer_init(struct journal *j, int device, struct iovec *iov, int count)
{
	const struct saved *first = &j->file->answer;
	unsigned char answer[INIT_MAX];
	size_t len = gather(iov, count, answer, sizeof(answer)), first_len = atomic_load(&first->len);
	ssize_t n = (ssize_t)len;
	int result = 1;

	if (first_len > 0 && (len != first_len || memcmp(answer, first->data, len) != 0)) {
		result = -EPROTO;
	} else {
		if (first_len == 0)
			save(&j->file->answer, answer, len);
		FAULT_POINT();
		n = writev(device, iov, count);
		FAULT_POINT();
		if (n < 0 && errno == ENOENT && first_len > 0)
			n = (ssize_t)len;
	}
	if (n < 0)
		return n;
	pthread_mutex_lock(&j->lock);
	j->init_unique = 0;
	j->init_result = result;
	pthread_cond_broadcast(&j->ready);
	pthread_mutex_unlock(&j->lock);
	return n;
}

int journal_is_ready(struct journal *j)
{
	int result;

	pthread_mutex_lock(&j->lock);
	result = j->init_result;
	pthread_mutex_unlock(&j->lock);
	return result;
}

ssize_t journal_writev(struct journal *j, int device, struct iovec *iov, int count)
{
	const struct fuse_out_header *out = iov[0].iov_base;
	struct reader *r = pthread_getspecific(j->key);
	uint64_t unique = iov[0].iov_len >= sizeof(*out) ? out->unique : 0;
	ssize_t n;
	int err;

	if (unique == 0) /* a notification */
		return writev(device, iov, count);
	if (unique == atomic_load_explicit(&j->init_unique, memory_order_relaxed))
		return answer_init(j, device, iov, count);
	FAULT_POINT();
	n = writev(device, iov, count);
	err = errno;
	FAULT_POINT();
	/* ENOENT: it was answered before, or given up; there is nothing to be done about other failures. */
	if (r && r->unique == unique) {
		r->unique = 0;
		if (r->slot == NO_SLOT) {
			buffer_done(j, r->buffer);
			errno = err;
			return n;
		}
	}
	slot_done(j, unique);
	errno = err;
	return n;
}

/* ---- taking over ---- */

int journal_create(int64_t started_ns, int *ret_fd)
{
	const off_t at = offsetof(struct file, started_ns);
	int fd = memfd_create("connectfs-journal", MFD_CLOEXEC | MFD_ALLOW_SEALING), err;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, sizeof(struct file)) < 0 ||
	    pwrite(fd, &started_ns, sizeof(started_ns), at) != (ssize_t)sizeof(started_ns) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		err = -errno;
		close(fd);
		return err;
	}
	*ret_fd = fd;
	return 0;
}

/* A successor counts the deaths of what was being executed. Nobody executes it now. */
static void count_death(_Atomic uint32_t *of, enum journal_death death)
{
	uint32_t flags = atomic_load(of);

	if (death == JOURNAL_CRASHED && flags & SLOT_EXECUTED)
		flags += SLOT_DEATHS;
	if (death == JOURNAL_CRASHED)
		flags += SLOT_SEEN;
	if (death == JOURNAL_POISON)
		flags += JOURNAL_SEEN_MAX * SLOT_SEEN;
	FAULT_STORE(of, flags & ~(uint32_t)SLOT_EXECUTED);
}

static bool is_request(struct journal *j, int buffer)
{
	const struct fuse_in_header *in = header(j, buffer);

	return in->len >= sizeof(*in) && in->len <= BUFFER && in->unique && has_answer(in->opcode) &&
	       in->opcode != FUSE_INIT;
}

static bool is_interrupt(struct journal *j, int buffer)
{
	const struct fuse_in_header *in = header(j, buffer);

	return in->len >= sizeof(*in) + sizeof(struct fuse_interrupt_in) && in->opcode == FUSE_INTERRUPT;
}

/* The interrupt in a buffer: whom it means. */
static void adopt_interrupt(struct journal *j, int buffer)
{
	const struct fuse_interrupt_in *arg = (const void *)(header(j, buffer) + 1);

	set_flags(j, arg->unique, SLOT_INTERRUPTED, 0);
	buffer_done(j, buffer);
}

/* A request in a buffer goes into a slot, or stays there when it is too long. */
static void adopt_buffer(struct journal *j, int buffer, enum journal_death death)
{
	const struct fuse_in_header *in = header(j, buffer);
	_Atomic uint32_t *flags = &j->file->buffer_flags[buffer];
	bool known;

	if (in->len && in->opcode == FUSE_INIT && !atomic_load(&j->file->init.len))
		save(&j->file->init, in, in->len);
	if (!is_request(j, buffer)) {
		buffer_done(j, buffer);
		return;
	}
	pthread_mutex_lock(&j->lock);
	known = find(j, in->unique) != NO_SLOT;
	pthread_mutex_unlock(&j->lock);
	if (!known)
		count_death(flags, death);
	if (known || slot_add(j, in, in->len, flags, 0) != NO_SLOT) {
		buffer_done(j, buffer);
		return;
	}
	j->buffers |= 1u << buffer;
	j->replays[j->n_replays++] = (struct replay){ NO_SLOT, buffer };
}

static void replay_slots(struct journal *j, uint32_t flag)
{
	for (int i = 0; i < JOURNAL_SLOTS; i++) {
		const struct slot *s = &j->file->slots[i];

		if (atomic_load(&s->unique) && (atomic_load(&s->flags) & SLOT_INTERRUPTED) == flag)
			j->replays[j->n_replays++] = (struct replay){ i, -1 };
	}
}

static int adopt(struct journal *j, enum journal_death death)
{
	j->replays = calloc(JOURNAL_SLOTS + JOURNAL_BUFFERS, sizeof(*j->replays));
	if (!j->replays)
		return -ENOMEM;
	for (int i = JOURNAL_SLOTS; i-- > 0;) {
		struct slot *s = &j->file->slots[i];
		uint64_t unique = atomic_load(&s->unique);

		if (!unique) {
			j->free[j->n_free++] = i;
			continue;
		}
		count_death(&s->flags, death);
		link_slot(j, i, unique);
	}
	for (int b = 0; b < JOURNAL_BUFFERS; b++)
		if (!is_interrupt(j, b))
			adopt_buffer(j, b, death);
	/* Now that whom they mean have slots. */
	for (int b = 0; b < JOURNAL_BUFFERS; b++)
		if (is_interrupt(j, b))
			adopt_interrupt(j, b);
	/* What was interrupted first: somebody may be waiting to be killed. */
	replay_slots(j, SLOT_INTERRUPTED);
	replay_slots(j, 0);
	return 0;
}

static int check_head(struct journal *j)
{
	struct file *f = j->file;
	uint64_t format = atomic_load(&f->format);

	if (format == 0) {
		f->magic = JOURNAL_MAGIC;
		FAULT_STORE(&f->format, JOURNAL_FORMAT);
		return 0;
	}
	if (f->magic != JOURNAL_MAGIC)
		return -EBADMSG;
	return format == JOURNAL_FORMAT ? 0 : -EPROTO;
}

int journal_attach(int fd, enum journal_death death, struct journal **ret)
{
	struct journal *j = calloc(1, sizeof(*j));
	struct stat st;
	int err = -ENOMEM;

	if (!j)
		return err;
	pthread_mutex_init(&j->lock, NULL);
	pthread_cond_init(&j->ready, NULL);
	memset(j->bucket, 0xff, sizeof(j->bucket));
	if (pthread_key_create(&j->key, reader_end) != 0)
		goto fail;
	err = fstat(fd, &st) < 0 ? -errno : st.st_size != sizeof(struct file) ? -EBADMSG : 0;
	if (err)
		goto fail_key;
	j->file = mmap(NULL, sizeof(struct file), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (j->file == MAP_FAILED) {
		err = -errno;
		goto fail_key;
	}
	err = check_head(j);
	if (!err)
		err = adopt(j, death);
	if (!err) {
		j->successor = atomic_load(&j->file->init.len) > 0;
		*ret = j;
		return 0;
	}
	munmap(j->file, sizeof(struct file));
	free(j->replays);
fail_key:
	pthread_key_delete(j->key);
fail:
	free(j);
	return err;
}

void journal_detach(struct journal *j)
{
	struct reader *r;

	if (!j)
		return;
	r = pthread_getspecific(j->key);
	pthread_key_delete(j->key);
	free(r);
	munmap(j->file, sizeof(struct file));
	pthread_mutex_destroy(&j->lock);
	pthread_cond_destroy(&j->ready);
	free(j->replays);
	free(j);
}

bool journal_is_successor(const struct journal *j)
{
	return j->successor;
}

int64_t journal_started_ns(const struct journal *j)
{
	return j->file->started_ns;
}

void journal_stop(struct journal *j)
{
	pthread_mutex_lock(&j->lock);
	if (j->init_result == 0)
		j->init_result = -ENODEV;
	pthread_cond_broadcast(&j->ready);
	pthread_mutex_unlock(&j->lock);
}

void journal_on_refused(struct journal *j, void (*refused)(void *arg, uint64_t ino, uint64_t unique), void *arg)
{
	j->refused = refused;
	j->refused_arg = arg;
}

size_t journal_pending(const struct journal *j)
{
	return j->n_replays;
}
