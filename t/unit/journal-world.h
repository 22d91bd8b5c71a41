/*
 * For tests of the journal: the kernel's side, played by the test, and the worker's. In place of the device there is a
 * socket that keeps packets apart.
 */
#ifndef CONNECTFS_UNIT_JOURNAL_WORLD_H
#define CONNECTFS_UNIT_JOURNAL_WORLD_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "dying.h"
#include "fs/journal.h"
#include "fs/node.h"

enum {
	BUF = FS_MAX_WRITE + 4096,
	LONG = 65536,
	NOTHING = -1000,
};
#define STARTED INT64_C(1700000000000000000)

/* ---- the kernel's side ---- */

struct world {
	int kernel, device; /* of the socket */
	int fd;             /* of the journal */
	struct journal *j;
};

static void begin(struct world *w)
{
	int sv[2], size = 1 << 20;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
	*w = (struct world){ .kernel = sv[0], .device = sv[1] };
	setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	assert_int_equal(journal_create(STARTED, &w->fd), 0);
}

static void attach(struct world *w, enum journal_death death)
{
	assert_int_equal(journal_attach(w->fd, death, &w->j), 0);
	assert_int_equal(journal_started_ns(w->j), STARTED); /* whatever becomes of those who serve it */
	fcntl(w->device, F_SETFL, O_NONBLOCK);
}

static void finish(struct world *w)
{
	journal_detach(w->j);
	close(w->kernel);
	close(w->device);
	close(w->fd);
}

/* What a request carries follows from its number. */
static void fill(unsigned char *p, size_t n, uint64_t unique)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)(unique * 31 + i * 7 + i / 251);
}

static void ask(struct world *w, uint32_t opcode, uint64_t unique, size_t n)
{
	static unsigned char buf[BUF];
	struct fuse_in_header h = { .len = (uint32_t)(sizeof(h) + n), .opcode = opcode, .unique = unique, .nodeid = 1 };

	memcpy(buf, &h, sizeof(h));
	fill(buf + sizeof(h), n, unique);
	assert_int_equal(send(w->kernel, buf, sizeof(h) + n, 0), sizeof(h) + n);
}

static void ask_interrupt(struct world *w, uint64_t unique)
{
	struct {
		struct fuse_in_header h;
		struct fuse_interrupt_in in;
	} r = { { .len = sizeof(r), .opcode = FUSE_INTERRUPT, .unique = unique | 1 }, { .unique = unique } };

	assert_int_equal(send(w->kernel, &r, sizeof(r), 0), sizeof(r));
}

struct reply {
	struct fuse_out_header h;
	uint64_t sum;
};

/* The next answer; false: there is none. */
static bool hear(struct world *w, struct reply *ret)
{
	memset(ret, 0, sizeof(*ret));
	return recv(w->kernel, ret, sizeof(*ret), MSG_DONTWAIT) >= (ssize_t)sizeof(ret->h);
}

/* An answer to that, and none else. Its error. */
static int heard(struct world *w, uint64_t unique)
{
	struct reply r;

	if (!hear(w, &r))
		return NOTHING;
	assert_int_equal(r.h.unique, unique);
	return r.h.error;
}

/* ---- the worker's side ---- */

static unsigned char request[BUF];

static uint64_t sum_of(const unsigned char *p, size_t n)
{
	uint64_t sum = 14695981039346656037u;

	for (size_t i = 0; i < n; i++)
		sum = (sum ^ p[i]) * 1099511628211u;
	return sum;
}

/* The next request, in request[]: its number; 0: there is none. */
static uint64_t take(struct world *w)
{
	uint64_t unique = 0;
	ssize_t n = journal_read(w->j, w->device, request, sizeof(request), &unique);
	const struct fuse_in_header *h = (const void *)request;

	if (n < 0)
		return 0;
	assert_int_equal(n, h->len);
	assert_int_equal(h->unique, unique);
	if (h->opcode != FUSE_INTERRUPT) {
		static unsigned char expected[BUF];

		fill(expected, (size_t)n - sizeof(*h), unique);
		assert_memory_equal(request + sizeof(*h), expected, (size_t)n - sizeof(*h));
	}
	return unique;
}

static uint32_t opcode(void)
{
	return ((const struct fuse_in_header *)(const void *)request)->opcode;
}

static ssize_t say(struct journal *j, int device, uint64_t unique, int error, uint64_t sum)
{
	struct fuse_out_header h = { .len = sizeof(h) + sizeof(sum), .error = error, .unique = unique };
	struct iovec iov[] = { { &h, sizeof(h) }, { &sum, sizeof(sum) } };

	return journal_writev(j, device, iov, 2);
}

static void answer(struct world *w, uint64_t unique, int error)
{
	assert_true(say(w->j, w->device, unique, error, unique) > 0);
}

/* INIT taken and answered. The kernel may hear the answer again. */
static void init(struct world *w)
{
	struct reply r;

	assert_int_equal(take(w), 2);
	assert_int_equal(opcode(), FUSE_INIT);
	assert_int_equal(journal_is_ready(w->j), 0);
	answer(w, 2, 0);
	assert_int_equal(journal_is_ready(w->j), 1);
	while (hear(w, &r))
		assert_int_equal(r.h.unique, 2);
}

static void start(struct world *w)
{
	begin(w);
	attach(w, JOURNAL_KILLED);
	assert_false(journal_is_successor(w->j));
	ask(w, FUSE_INIT, 2, 64);
	init(w);
}

/* This worker is dead, and there is another that has answered INIT. */
static void succeed(struct world *w, enum journal_death death)
{
	journal_detach(w->j);
	attach(w, death);
	assert_true(journal_is_successor(w->j));
	init(w);
}

#endif
