/*
 * Tests of src/fs/journal.h, between a kernel and a worker that the test plays (journal-world.h). The journal.c in this
 * program has fault points (dying.h).
 */
#include "journal-world.h"

/* ---- one after the other ---- */

static void normal_life(void **state)
{
	struct world w;

	(void)state;
	start(&w);
	assert_int_equal(take(&w), 0);
	for (uint64_t u = 4; u < 400; u += 2) {
		ask(&w, FUSE_LOOKUP, u, u);
		assert_int_equal(take(&w), u);
		assert_int_equal(journal_used(w.j), 0);
		if (u % 4) {
			assert_true(journal_park(w.j, u));
			assert_true(journal_park(w.j, u)); /* again does no harm */
			assert_int_equal(journal_used(w.j), 1);
		}
		answer(&w, u, -ENOENT);
		assert_int_equal(journal_used(w.j), 0);
		assert_int_equal(heard(&w, u), -ENOENT);
	}
	ask(&w, FUSE_FORGET, 1000, 8);
	ask(&w, FUSE_BATCH_FORGET, 1002, 800);
	assert_int_equal(take(&w), 1000);
	assert_int_equal(journal_used(w.j), 0);
	assert_int_equal(take(&w), 1002);
	assert_int_equal(journal_used(w.j), 0);
	assert_false(journal_park(w.j, 1002)); /* it has no answer */
	/* A notification is nobody's answer. */
	answer(&w, 0, FUSE_NOTIFY_INVAL_INODE);
	assert_int_equal(heard(&w, 0), FUSE_NOTIFY_INVAL_INODE);
	succeed(&w, JOURNAL_KILLED);
	assert_int_equal(journal_pending(w.j), 0);
	assert_int_equal(take(&w), 0);
	finish(&w);
}

static void a_successor_answers_what_is_left(void **state)
{
	struct world w;

	(void)state;
	start(&w);
	for (uint64_t u = 4; u <= 40; u += 2) {
		ask(&w, FUSE_GETATTR, u, 16);
		assert_int_equal(take(&w), u);
		if (u % 4)
			answer(&w, u, 0);
		else if (u < 40) /* the last one stays in the buffer */
			assert_true(journal_park(w.j, u));
	}
	for (uint64_t u = 6; u <= 38; u += 4)
		assert_int_equal(heard(&w, u), 0);
	ask(&w, FUSE_GETATTR, 42, 16); /* not read yet: comes last */
	for (int deaths = 0; deaths < 3; deaths++) {
		bool seen[64] = { false };

		succeed(&w, JOURNAL_KILLED);
		assert_int_equal(journal_pending(w.j), 10);
		for (int i = 0; i < 10; i++) {
			uint64_t u = take(&w);

			assert_true(u >= 4 && u <= 40 && u % 4 == 0 && !seen[u]);
			seen[u] = true;
		}
		assert_int_equal(journal_used(w.j), 10);
	}
	assert_int_equal(take(&w), 42);
	for (uint64_t u = 4; u <= 40; u += 4) {
		answer(&w, u, 0);
		assert_int_equal(heard(&w, u), 0);
	}
	answer(&w, 42, 0);
	assert_int_equal(heard(&w, 42), 0);
	succeed(&w, JOURNAL_KILLED);
	assert_int_equal(journal_pending(w.j), 0);
	finish(&w);
}

static void a_long_one_stays_in_its_buffer(void **state)
{
	struct world w;

	(void)state;
	start(&w);
	for (uint64_t u = 4; u < 20; u += 2) {
		ask(&w, FUSE_SETXATTR, u, LONG);
		assert_int_equal(take(&w), u);
		assert_false(journal_park(w.j, u));
		assert_int_equal(journal_used(w.j), 0);
		succeed(&w, JOURNAL_KILLED);
		assert_int_equal(journal_pending(w.j), 1);
		assert_int_equal(take(&w), u);
		assert_false(journal_park(w.j, u));
		/* It is safe there also from the next death. */
		succeed(&w, JOURNAL_KILLED);
		assert_int_equal(take(&w), u);
		answer(&w, u, -EROFS);
		assert_int_equal(heard(&w, u), -EROFS);
		succeed(&w, JOURNAL_KILLED);
		assert_int_equal(journal_pending(w.j), 0);
		ask(&w, FUSE_LOOKUP, u + 100, 10);
		assert_int_equal(take(&w), u + 100);
		assert_true(journal_park(w.j, u + 100));
		answer(&w, u + 100, 0);
		assert_int_equal(heard(&w, u + 100), 0);
	}
	finish(&w);
}

static void note_refused(void *arg, uint64_t ino, uint64_t unique)
{
	assert_int_equal(ino, 1);
	*(uint64_t *)arg += unique;
}

struct other {
	struct world *w;
	uint64_t took;
};

static void *take_elsewhere(void *arg)
{
	struct other *o = arg;

	o->took = take(o->w);
	return NULL;
}

/* Another thread reads the INTERRUPT. */
static void interrupt_elsewhere(struct world *w, uint64_t unique)
{
	struct other o = { .w = w };
	pthread_t thread;

	ask_interrupt(w, unique);
	assert_int_equal(pthread_create(&thread, NULL, take_elsewhere, &o), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(o.took, unique + 1);
}

static void what_was_interrupted_comes_first(void **state)
{
	struct world w;
	uint64_t refused = 0;

	(void)state;
	start(&w);
	for (uint64_t u = 4; u <= 12; u += 2) {
		ask(&w, u == 6 ? FUSE_READ : FUSE_OPEN, u, 8);
		assert_int_equal(take(&w), u);
		assert_true(journal_park(w.j, u));
	}
	ask_interrupt(&w, 6);
	ask_interrupt(&w, 10);
	ask_interrupt(&w, 999998); /* of nobody */
	assert_int_equal(take(&w), 7);
	assert_int_equal(take(&w), 11);
	assert_int_equal(take(&w), 999999);
	assert_int_equal(journal_used(w.j), 5);
	succeed(&w, JOURNAL_KILLED);
	journal_on_refused(w.j, note_refused, &refused);
	/* A read is only the first, an open is answered at once. */
	assert_int_equal(take(&w), 6);
	assert_int_equal(heard(&w, 10), NOTHING);
	assert_int_not_equal(take(&w), 10);
	assert_int_equal(heard(&w, 10), -EINTR);
	assert_int_equal(refused, 10);
	assert_int_equal(journal_used(w.j), 4);
	assert_int_not_equal(take(&w), 0);
	assert_int_not_equal(take(&w), 0);
	assert_int_equal(take(&w), 0);
	finish(&w);
}

/* It was being executed when the INTERRUPT came, and waits only then. */
static void interrupted_before_it_waits(void **state)
{
	struct world w;

	(void)state;
	start(&w);
	for (uint64_t u = 4; u <= 400; u += 4) {
		ask(&w, FUSE_OPEN, u, 8);
		assert_int_equal(take(&w), u);
		interrupt_elsewhere(&w, u);
		if (u % 8) {
			assert_true(journal_park(w.j, u));
			ask(&w, FUSE_OPEN, u + 2, 8);
			assert_int_equal(take(&w), u + 2);
			answer(&w, u + 2, 0);
			assert_int_equal(heard(&w, u + 2), 0);
		} /* else we die before that */
		succeed(&w, JOURNAL_KILLED);
		assert_int_equal(take(&w), 0);
		assert_int_equal(heard(&w, u), -EINTR);
	}
	finish(&w);
}

/* ---- poison ---- */

static void two_crashes_are_enough(void **state)
{
	struct world w;

	(void)state;
	start(&w);
	ask(&w, FUSE_OPEN, 4, 8);
	assert_int_equal(take(&w), 4);
	assert_true(journal_park(w.j, 4));
	ask(&w, FUSE_WRITE, 6, 8);
	assert_int_equal(take(&w), 6);
	for (int deaths = 0; deaths < 4; deaths++) {
		/* Every other one doesn't count. */
		succeed(&w, deaths % 2 ? JOURNAL_CRASHED : JOURNAL_KILLED);
		assert_int_equal(take(&w), 4);
		assert_true(journal_park(w.j, 4));
		assert_int_equal(take(&w), deaths < 3 ? 6 : 0);
		assert_int_equal(heard(&w, 6), deaths < 3 ? NOTHING : -EIO);
	}
	answer(&w, 4, 0);
	assert_int_equal(heard(&w, 4), 0);
	succeed(&w, JOURNAL_CRASHED);
	assert_int_equal(journal_pending(w.j), 0);
	finish(&w);
}

/* The same for one that has no slot; while it waits for its turn it isn't at fault. */
static void two_crashes_by_a_long_one(void **state)
{
	struct world w;

	(void)state;
	start(&w);
	ask(&w, FUSE_WRITE, 4, LONG);
	assert_int_equal(take(&w), 4);
	for (int deaths = 0; deaths < 6; deaths++) {
		succeed(&w, deaths % 2 ? JOURNAL_CRASHED : JOURNAL_KILLED);
		if (deaths == 3)
			succeed(&w, JOURNAL_CRASHED);
		assert_int_equal(take(&w), deaths < 3 ? 4 : 0);
		assert_int_equal(heard(&w, 4), deaths == 3 ? -EIO : NOTHING);
	}
	assert_int_equal(journal_pending(w.j), 0);
	ask(&w, FUSE_WRITE, 6, LONG);
	for (int crashes = 0; crashes < 2; crashes++) {
		assert_int_equal(take(&w), 6);
		succeed(&w, JOURNAL_CRASHED);
		succeed(&w, JOURNAL_CRASHED); /* before its turn came */
	}
	assert_int_equal(take(&w), 0);
	assert_int_equal(heard(&w, 6), -EIO);
	finish(&w);
}

static void poison_is_not_tasted(void **state)
{
	struct world w;
	struct reply r;
	int n = 0;

	(void)state;
	start(&w);
	for (uint64_t u = 4; u <= 12; u += 2) {
		ask(&w, u == 12 ? FUSE_WRITE : FUSE_OPEN, u, u == 12 ? LONG : 8);
		assert_int_equal(take(&w), u);
		if (u < 12)
			assert_true(journal_park(w.j, u));
	}
	succeed(&w, JOURNAL_POISON);
	ask(&w, FUSE_LOOKUP, 14, 8);
	assert_int_equal(take(&w), 14);
	while (hear(&w, &r)) {
		assert_int_equal(r.h.error, -EIO);
		n++;
	}
	assert_int_equal(n, 5);
	answer(&w, 14, 0);
	assert_int_equal(heard(&w, 14), 0);
	assert_int_equal(journal_used(w.j), 0);
	succeed(&w, JOURNAL_KILLED);
	assert_int_equal(journal_pending(w.j), 0);
	finish(&w);
}

/* ---- INIT ---- */

static void another_answer_to_init_is_refused(void **state)
{
	struct world w;
	uint64_t u = 0;

	(void)state;
	start(&w);
	ask(&w, FUSE_LOOKUP, 4, 8);
	assert_int_equal(take(&w), 4);
	journal_detach(w.j);
	attach(&w, JOURNAL_KILLED);
	assert_int_equal(take(&w), 2);
	assert_true(say(w.j, w.device, 2, 0, 12345) > 0);
	assert_int_equal(journal_is_ready(w.j), -EPROTO);
	assert_int_equal(heard(&w, 2), NOTHING);
	assert_int_equal(journal_read(w.j, w.device, request, sizeof(request), &u), -1);
	assert_int_equal(errno, ENODEV);
	/* Who answers as the first did goes on. */
	succeed(&w, JOURNAL_KILLED);
	assert_int_equal(take(&w), 4);
	finish(&w);
}

/* INIT was read, and no more: its answer is the first. */
static void init_is_not_lost(void **state)
{
	struct world w;

	(void)state;
	begin(&w);
	attach(&w, JOURNAL_KILLED);
	ask(&w, FUSE_INIT, 2, 64);
	assert_int_equal(take(&w), 2);
	journal_detach(w.j);
	attach(&w, JOURNAL_KILLED);
	assert_int_equal(take(&w), 2);
	assert_int_equal(opcode(), FUSE_INIT);
	answer(&w, 2, 0);
	assert_int_equal(heard(&w, 2), 0);
	ask(&w, FUSE_LOOKUP, 4, 8);
	assert_int_equal(take(&w), 4);
	succeed(&w, JOURNAL_KILLED);
	assert_int_equal(take(&w), 4);
	finish(&w);
}

static void *wait_for_init(void *arg)
{
	struct world *w = arg;
	static unsigned char buf[BUF];
	uint64_t unique;
	ssize_t n = journal_read(w->j, w->device, buf, sizeof(buf), &unique);

	return (void *)(intptr_t)(n < 0 ? errno : 0);
}

static void stop_wakes_who_waits_for_init(void **state)
{
	struct world w;
	pthread_t t;
	void *result;

	(void)state;
	start(&w);
	journal_detach(w.j);
	attach(&w, JOURNAL_KILLED);
	assert_int_equal(take(&w), 2);
	assert_int_equal(pthread_create(&t, NULL, wait_for_init, &w), 0);
	journal_stop(w.j);
	pthread_join(t, &result);
	assert_int_equal((intptr_t)result, ENODEV);
	assert_int_equal(journal_is_ready(w.j), -ENODEV);
	succeed(&w, JOURNAL_KILLED);
	finish(&w);
}

/* ---- many ---- */

static void more_than_there_are_slots(void **state)
{
	struct world w;
	uint64_t u, last = 4 + 2 * JOURNAL_SLOTS;
	struct reply r;
	size_t n = 0;

	(void)state;
	start(&w);
	for (u = 4; u < last; u += 2) {
		ask(&w, FUSE_OPEN, u, 8);
		assert_int_equal(take(&w), u);
		assert_true(journal_park(w.j, u));
	}
	assert_int_equal(journal_used(w.j), JOURNAL_SLOTS);
	for (; u < last + 100; u += 2) {
		ask(&w, FUSE_OPEN, u, 8);
		assert_int_equal(take(&w), u);
		assert_false(journal_park(w.j, u));
		answer(&w, u, -ETIMEDOUT);
		assert_int_equal(heard(&w, u), -ETIMEDOUT);
	}
	ask(&w, FUSE_OPEN, u, 8);
	assert_int_equal(take(&w), u);
	succeed(&w, JOURNAL_KILLED);
	assert_int_equal(journal_pending(w.j), JOURNAL_SLOTS + 1);
	assert_int_equal(take(&w), u);
	answer(&w, u, 0);
	assert_int_equal(heard(&w, u), 0);
	while ((u = take(&w))) {
		answer(&w, u, 0);
		n++;
		assert_true(hear(&w, &r));
		assert_int_equal(r.h.unique, u);
	}
	assert_int_equal(n, JOURNAL_SLOTS);
	assert_int_equal(journal_used(w.j), 0);
	finish(&w);
}

static void what_is_not_ours_is_refused(void **state)
{
	struct world w;
	struct journal *j = NULL;
	uint64_t word;

	(void)state;
	begin(&w);
	attach(&w, JOURNAL_KILLED);
	assert_int_equal(pread(w.fd, &word, 8, 8), 8);
	assert_int_equal(word, JOURNAL_FORMAT);
	word++;
	assert_int_equal(pwrite(w.fd, &word, 8, 8), 8);
	assert_int_equal(journal_attach(w.fd, JOURNAL_KILLED, &j), -EPROTO);
	assert_int_equal(pwrite(w.fd, &word, 8, 0), 8);
	assert_int_equal(journal_attach(w.fd, JOURNAL_KILLED, &j), -EBADMSG);
	assert_int_equal(journal_attach(w.kernel, JOURNAL_KILLED, &j), -EBADMSG);
	assert_int_equal(journal_attach(-1, JOURNAL_KILLED, &j), -EBADF);
	assert_null(j);
	journal_detach(NULL);
	finish(&w);
}

/* ---- a worker with threads ---- */

/*
 * Answers each request with the sum of what it carried. An OPEN is parked, and answered by another thread a
 * little later, or EINTR when INTERRUPT comes first. A DESTROY ends the thread that reads it.
 */
enum { PARKED_MAX = 64 };

struct server {
	struct world *w;
	pthread_mutex_t lock;
	struct { uint64_t unique, sum; } parked[PARKED_MAX];
	size_t n_parked;
	atomic_bool ended;
	atomic_int broken;
};

static void park(struct server *s, uint64_t unique, uint64_t sum)
{
	bool full;

	pthread_mutex_lock(&s->lock);
	full = s->n_parked == PARKED_MAX || !journal_park(s->w->j, unique);
	if (!full) {
		s->parked[s->n_parked].unique = unique;
		s->parked[s->n_parked++].sum = sum;
	}
	pthread_mutex_unlock(&s->lock);
	if (full)
		say(s->w->j, s->w->device, unique, 0, sum);
}

static void interrupt(struct server *s, uint64_t unique)
{
	bool found = false;

	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < s->n_parked && !found; i++) {
		found = s->parked[i].unique == unique;
		if (found)
			s->parked[i] = s->parked[--s->n_parked];
	}
	pthread_mutex_unlock(&s->lock);
	if (found)
		say(s->w->j, s->w->device, unique, -EINTR, 0);
}

static void answer_parked(struct server *s)
{
	uint64_t unique = 1, sum = 0;

	while (unique) {
		pthread_mutex_lock(&s->lock);
		unique = 0;
		if (s->n_parked > 0) {
			unique = s->parked[--s->n_parked].unique;
			sum = s->parked[s->n_parked].sum;
		}
		pthread_mutex_unlock(&s->lock);
		if (unique)
			say(s->w->j, s->w->device, unique, 0, sum);
	}
}

/* False: the end. */
static bool serve_one(struct server *s, unsigned char *buf)
{
	const struct fuse_in_header *h = (const void *)buf;
	uint64_t unique = 0, sum;
	ssize_t n = journal_read(s->w->j, s->w->device, buf, BUF, &unique);

	if (n < (ssize_t)sizeof(*h)) {
		s->broken += errno != EAGAIN;
		return false;
	}
	sum = sum_of(buf + sizeof(*h), (size_t)n - sizeof(*h));
	switch (h->opcode) {
	case FUSE_FORGET:
		return true;
	case FUSE_INTERRUPT:
		interrupt(s, ((const struct fuse_interrupt_in *)(const void *)(h + 1))->unique);
		return true;
	case FUSE_OPEN:
		park(s, unique, sum);
		return true;
	case FUSE_DESTROY:
		answer_parked(s);
		say(s->w->j, s->w->device, unique, 0, sum);
		return false;
	default:
		say(s->w->j, s->w->device, unique, 0, sum);
		return true;
	}
}

static void *serve(void *arg)
{
	struct server *s = arg;
	unsigned char *buf = malloc(BUF);

	while (buf && serve_one(s, buf))
		;
	free(buf);
	return NULL;
}

static void *answer_now_and_then(void *arg)
{
	const struct timespec pause = { .tv_nsec = 100000 };
	struct server *s = arg;

	while (!s->ended) {
		nanosleep(&pause, NULL);
		answer_parked(s);
	}
	return NULL;
}

/* Returns when each thread has had its DESTROY. */
static int serve_in_threads(struct world *w, int n, enum journal_death death)
{
	struct server s = { .w = w, .lock = PTHREAD_MUTEX_INITIALIZER };
	pthread_t t[8], later;

	if (journal_attach(w->fd, death, &w->j) != 0)
		return BROKEN;
	pthread_create(&later, NULL, answer_now_and_then, &s);
	for (int i = 0; i < n; i++)
		pthread_create(&t[i], NULL, serve, &s);
	for (int i = 0; i < n; i++)
		pthread_join(t[i], NULL);
	s.ended = true;
	pthread_join(later, NULL);
	journal_detach(w->j);
	w->j = NULL;
	return s.broken ? BROKEN : 0;
}

static uint64_t sum_for(uint64_t unique, size_t n)
{
	static unsigned char buf[BUF];

	fill(buf, n, unique);
	return sum_of(buf, n);
}

/* ---- killed at random ---- */

enum { WINDOW = 24, REQUESTS_MAX = 200000 };

struct asked {
	uint64_t sum;
	bool answered, interrupted;
};

struct load {
	struct world *w;
	struct asked *asked; /* by unique / 2 */
	size_t next, waiting, answered, again;
	unsigned seed;
};

static void ask_something(struct load *l)
{
	static const size_t lengths[] = { 8, 30, 100, 456, 457, 4000, LONG };
	uint64_t u = 2 * l->next;
	size_t n = lengths[rand_r(&l->seed) % 100 < 90 ? rand_r(&l->seed) % 4 : rand_r(&l->seed) % 7];
	bool is_open = rand_r(&l->seed) % 3 == 0;

	l->asked[l->next++] = (struct asked){ .sum = sum_for(u, n) };
	l->waiting++;
	ask(l->w, is_open ? FUSE_OPEN : FUSE_READ, u, n);
	if (is_open && rand_r(&l->seed) % 4 == 0) {
		l->asked[u / 2].interrupted = true;
		ask_interrupt(l->w, u);
	}
	if (rand_r(&l->seed) % 20 == 0) {
		ask(l->w, FUSE_FORGET, 2 * l->next, 8);
		l->asked[l->next++].answered = true;
	}
}

static void hear_all(struct load *l, int wait_ms)
{
	struct pollfd p = { .fd = l->w->kernel, .events = POLLIN };
	struct reply r;

	poll(&p, 1, wait_ms);
	while (hear(l->w, &r)) {
		struct asked *a = &l->asked[r.h.unique / 2];

		if (r.h.unique == 2)
			continue; /* INIT's answer, as often as it is said */
		assert_true(r.h.unique % 2 == 0 && r.h.unique / 2 < l->next);
		if (!a->interrupted || r.h.error == 0) {
			assert_int_equal(r.h.error, 0);
			assert_true(r.sum == a->sum);
		} else {
			assert_int_equal(r.h.error, -EINTR);
		}
		l->again += a->answered;
		if (!a->answered)
			l->waiting--;
		a->answered = true;
	}
}

static pid_t fork_worker(struct world *w, enum journal_death death)
{
	pid_t pid = fork();

	if (pid == 0) {
		close(w->kernel);
		_exit(serve_in_threads(w, 4, death));
	}
	assert_true(pid > 0);
	return pid;
}

static void some_work(struct load *l, int ms)
{
	struct timespec now, end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_nsec += ms * 1000000;
	do {
		while (l->waiting < WINDOW && l->next < REQUESTS_MAX)
			ask_something(l);
		hear_all(l, 1);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((now.tv_sec - end.tv_sec) * 1000000000ll + now.tv_nsec - end.tv_nsec < 0);
}

static void killed_at_random_none_is_lost(void **state)
{
	struct world w;
	struct load l = { .w = &w, .next = 2, .seed = 1 };
	pid_t pid;
	int status;

	(void)state;
	l.asked = calloc(REQUESTS_MAX + 2, sizeof(*l.asked));
	assert_non_null(l.asked);
	begin(&w);
	ask(&w, FUSE_INIT, 2, 64);
	pid = fork_worker(&w, JOURNAL_KILLED);
	for (int i = 0; i < scaled(300); i++) {
		some_work(&l, 1 + rand_r(&l.seed) % 6);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		pid = fork_worker(&w, JOURNAL_KILLED);
	}
	while (l.waiting > 0)
		hear_all(&l, 1000);
	for (int i = 0; i < 4; i++)
		ask(&w, FUSE_DESTROY, 2 * l.next++, 8);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	attach(&w, JOURNAL_KILLED);
	assert_int_equal(journal_pending(w.j), 0);
	print_message("# %zu requests, %zu answers more than once\n", l.next, l.again);
	free(l.asked);
	finish(&w);
}

static void threads_without_a_death(void **state)
{
	struct world w;
	struct load l = { .w = &w, .next = 2, .seed = 7 };
	pid_t pid;
	int status;

	(void)state;
	l.asked = calloc(REQUESTS_MAX + 2, sizeof(*l.asked));
	assert_non_null(l.asked);
	begin(&w);
	ask(&w, FUSE_INIT, 2, 64);
	pid = fork_worker(&w, JOURNAL_KILLED);
	while (l.next < (size_t)scaled(20000))
		some_work(&l, 1);
	while (l.waiting > 0)
		hear_all(&l, 1000);
	assert_int_equal(l.again, 0);
	for (int i = 0; i < 4; i++)
		ask(&w, FUSE_DESTROY, 2 * l.next++, 8);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	free(l.asked);
	finish(&w);
}

/* ---- dead at every step ---- */

static const struct {
	uint32_t opcode;
	uint64_t unique;
	size_t n;
	bool interrupted;
} script[] = {
	{ FUSE_INIT, 2, 64, false },   { FUSE_LOOKUP, 4, 20, false },       { FUSE_OPEN, 6, 8, false },
	{ FUSE_OPEN, 8, 8, true },     { FUSE_SETXATTR, 10, LONG, false },  { FUSE_FORGET, 12, 8, false },
	{ FUSE_OPEN, 14, 8, false },   { FUSE_READ, 16, 40, false },        { FUSE_WRITE, 18, 5000, false },
	{ FUSE_OPEN, 20, 8, true },    { FUSE_RELEASE, 22, 24, false },     { FUSE_SETXATTR, 24, LONG, false },
	{ FUSE_DESTROY, 26, 0, false },
};
enum { N_SCRIPT = sizeof(script) / sizeof(script[0]) };

/* A worker of one thread, whose parked requests are answered by DESTROY. */
static int until_step(struct world *w, long n, enum journal_death death)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		struct server s = { .w = w, .lock = PTHREAD_MUTEX_INITIALIZER };

		alarm(60); /* what waits for ever has lost a request */
		fcntl(w->device, F_SETFL, O_NONBLOCK); /* all has been asked */
		fault_in = n;
		if (journal_attach(w->fd, death, &w->j) != 0)
			_exit(BROKEN);
		serve(&s);
		_exit(s.broken ? BROKEN : 0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void check_answers(struct world *w)
{
	int n[N_SCRIPT] = { 0 };
	struct reply r;

	while (hear(w, &r)) {
		int i = 0;

		while (i < N_SCRIPT && script[i].unique != r.h.unique)
			i++;
		assert_true(i < N_SCRIPT && script[i].opcode != FUSE_FORGET);
		n[i]++;
		assert_int_equal(r.h.error, script[i].interrupted ? -EINTR : 0);
		if (!script[i].interrupted)
			assert_true(r.sum == sum_for(script[i].unique, script[i].n));
	}
	for (int i = 0; i < N_SCRIPT; i++)
		assert_true(script[i].opcode == FUSE_FORGET || n[i] > 0);
}

/* The worker dies at its n-th step, so; the next one is killed at its m-th (0: isn't), the one after that lives. */
static int die_twice(long n, long m, enum journal_death death)
{
	struct world w;
	int result, last;

	begin(&w);
	for (int i = 0; i < N_SCRIPT; i++) {
		ask(&w, script[i].opcode, script[i].unique, script[i].n);
		if (script[i].interrupted)
			ask_interrupt(&w, script[i].unique);
	}
	last = result = until_step(&w, n, JOURNAL_KILLED);
	if (last == DIED && m)
		last = until_step(&w, m, death);
	if (last == DIED)
		last = until_step(&w, 0, m ? JOURNAL_KILLED : death);
	assert_int_equal(last, 0);
	check_answers(&w);
	attach(&w, JOURNAL_KILLED);
	assert_int_equal(journal_used(w.j), 0);
	assert_int_equal(journal_pending(w.j), 0);
	finish(&w);
	return result;
}

static void dead_at_every_step(void **state)
{
	int step = getenv("CONNECTFS_TEST_SCALE") ? 5 : 1, result = DIED;
	long n;

	(void)state;
	for (n = 1; result == DIED; n += step) {
		result = die_twice(n, 0, JOURNAL_KILLED);
		if (result == DIED)
			die_twice(n, n * 31 % 90 + 1, n % 2 ? JOURNAL_CRASHED : JOURNAL_KILLED);
	}
	assert_int_equal(result, 0);
	assert_true(n > 60);
	print_message("# %ld steps\n", n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(normal_life),
		cmocka_unit_test(a_successor_answers_what_is_left),
		cmocka_unit_test(a_long_one_stays_in_its_buffer),
		cmocka_unit_test(what_was_interrupted_comes_first),
		cmocka_unit_test(interrupted_before_it_waits),
		cmocka_unit_test(two_crashes_are_enough),
		cmocka_unit_test(two_crashes_by_a_long_one),
		cmocka_unit_test(poison_is_not_tasted),
		cmocka_unit_test(another_answer_to_init_is_refused),
		cmocka_unit_test(init_is_not_lost),
		cmocka_unit_test(stop_wakes_who_waits_for_init),
		cmocka_unit_test(more_than_there_are_slots),
		cmocka_unit_test(what_is_not_ours_is_refused),
		cmocka_unit_test(threads_without_a_death),
		cmocka_unit_test(killed_at_random_none_is_lost),
		cmocka_unit_test(dead_at_every_step),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
