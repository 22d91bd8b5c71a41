/*
 * Making changes visible: the kernel is told directly, inotify's watchers through the notifier.
 *
 * Messages wait in one queue, those that have been sent at its head, and are answered in order. A
 * message is given up when it has waited NOTIFY_PATIENCE_MS and the notifier has done nothing for as
 * long: a busy notifier may take its time, a stuck one holds nothing up. What the stuck one
 * does later is refused by the handlers, since it is no longer expected.
 */
#include "fs/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "fs/notifier.h"

enum { RETRY_MS = 5 }; /* when the socket is full: the loop doesn't watch for room */

struct message {
	TAILQ_ENTRY(message) link;
	struct notify *notify;
	struct connector *conn;
	enum notifier_op op;
	unsigned events;
	int64_t mtime_ns, queued_ms;
	uint64_t seq;  /* 0: not sent */
};

struct notify {
	struct fs *fs;
	struct catalog_sink sink;
	dev_t dev;
	int socket;
	atomic_int pid;
	struct loop_fd *watch;
	struct loop_timer *retry, *patience;
	fs_greeted *greet;
	void (*lost)(void *arg);
	void *arg;     /* of both */
	TAILQ_HEAD(, message) queue;
	struct message *unsent; /* the first that hasn't been sent */
	uint64_t seq, answered;
	int64_t progress_ms;    /* when the notifier was last heard of */
	bool hello;             /* sent on this socket */
	bool greeted;           /* by the notifier */
	bool stuck;             /* and said so */
	int last_err;           /* that was complained of */
};

static void pump(struct notify *n);

/* ---- the kernel ---- */

static void tell_inode(struct notify *n, uint64_t ino)
{
	struct fs *fs = n->fs;

	/* Attributes only (a negative offset): never waits for a page. Whom the kernel doesn't know
	 * (ENOENT) it has nothing of. */
	if (fs->se && atomic_load(&fs->inited))
		(void)fuse_lowlevel_notify_inval_inode(fs->se, ino, -1, 0);
}

static void invalidate(void *arg, struct connector *conn)
{
	tell_inode(arg, connector_ino(conn));
}

/* ---- the end of a message ---- */

static void message_free(struct message *m)
{
	connector_unref(m->conn);
	free(m);
}

/* The name comes or goes without the event. */
static void change_name_silently(struct notify *n, const struct message *m)
{
	struct fs *fs = n->fs;
	const char *name = connector_name(m->conn);

	if (m->op == NOTIFIER_MKNOD) {
		catalog_appeared(fs->catalog, m->conn);
	} else {
		catalog_vanished(fs->catalog, m->conn);
		if (fs->se && atomic_load(&fs->inited))
			(void)fuse_lowlevel_notify_delete(fs->se, FS_INO_ROOT, connector_ino(m->conn), name,
			                                  strlen(name));
	}
	tell_inode(n, FS_INO_ROOT);
}

/* Once for all that fail in the same way. */
static void complain(struct notify *n, const struct message *m, int err)
{
	const char *what = m->op == NOTIFIER_MKNOD    ? "the new name was not announced"
	                   : m->op == NOTIFIER_UNLINK ? "the removed name was not announced"
	                                              : "the change was not announced";

	if (err == n->last_err)
		return;
	n->last_err = err;
	log_warn(what, "connector", connector_name(m->conn), "error", strerror(-err), NULL);
}

/* Tells the catalog what has become of m, which has left the queue, and frees it. */
static void conclude(struct notify *n, struct message *m, int err)
{
	struct catalog *catalog = n->fs->catalog;

	switch (m->op) {
	case NOTIFIER_MKNOD:
		if (err == 0 || err == -EEXIST)
			catalog_appeared(catalog, m->conn);
		else
			change_name_silently(n, m);
		break;
	case NOTIFIER_UNLINK:
		if (err == 0 || err == -ENOENT)
			catalog_vanished(catalog, m->conn);
		else
			change_name_silently(n, m);
		break;
	default:
		catalog_touched(catalog, m->conn, err);
		break;
	}
	message_free(m);
}

static bool is_trouble(const struct message *m, int err)
{
	if (err == 0 || (m->op == NOTIFIER_MKNOD && err == -EEXIST))
		return false;
	return err != -ENOENT || m->op == NOTIFIER_MKNOD; /* ENOENT: it went meanwhile */
}

static void dequeue(struct notify *n, struct message *m)
{
	if (n->unsent == m)
		n->unsent = TAILQ_NEXT(m, link);
	TAILQ_REMOVE(&n->queue, m, link);
}

/* ---- patience ---- */

static void arm_patience(struct notify *n)
{
	const struct message *first = TAILQ_FIRST(&n->queue);
	int64_t since, now = clock_mono_ms();

	if (!first) {
		loop_timer_stop(n->patience);
		return;
	}
	since = first->queued_ms > n->progress_ms ? first->queued_ms : n->progress_ms;
	loop_timer_set(n->patience, since + NOTIFY_PATIENCE_MS > now ? since + NOTIFY_PATIENCE_MS - now : 0);
}

static void disconnect(struct notify *n, bool tell)
{
	if (n->socket < 0)
		return;
	loop_fd_free(n->watch);
	n->watch = NULL;
	close(n->socket);
	n->socket = -1;
	atomic_store(&n->pid, 0);
	loop_timer_stop(n->retry);
	/* What it had and didn't answer the next one is told again: doing it twice does no harm. */
	for (struct message *m = TAILQ_FIRST(&n->queue); m; m = TAILQ_NEXT(m, link))
		m->seq = 0;
	n->unsent = TAILQ_FIRST(&n->queue);
	if (tell && n->lost)
		n->lost(n->arg);
}

static void out_of_patience(void *arg)
{
	struct notify *n = arg;
	struct message *m;
	int64_t now = clock_mono_ms();
	unsigned long given_up = 0;

	if (now - n->progress_ms < NOTIFY_PATIENCE_MS) {
		arm_patience(n);
		return;
	}
	while ((m = TAILQ_FIRST(&n->queue)) && now - m->queued_ms >= NOTIFY_PATIENCE_MS) {
		dequeue(n, m);
		if (given_up++ == 0 && !n->stuck)
			complain(n, m, -ETIMEDOUT);
		conclude(n, m, -ETIMEDOUT);
	}
	if (given_up && !n->stuck) {
		n->stuck = true;
		log_warn(n->socket < 0 ? "there is no notifier: changes happen without events"
		                       : "the notifier does not answer: changes happen without events", NULL);
	}
	if (n->socket >= 0 && n->seq != n->answered && now - n->progress_ms >= NOTIFY_STUCK_MS)
		disconnect(n, true);
	/* While it is stuck each message has but its own time. */
	if (TAILQ_FIRST(&n->queue))
		arm_patience(n);
	else if (n->socket >= 0 && n->seq != n->answered)
		loop_timer_set(n->patience, NOTIFY_STUCK_MS);
}

/* ---- the socket ---- */

static int send_request(struct notify *n, struct notifier_request *r, const char *name)
{
	size_t len = strlen(name);

	if (len >= sizeof r->name)
		return -ENAMETOOLONG;
	memcpy(r->name, name, len + 1);
	len += offsetof(struct notifier_request, name) + 1;
	return send(n->socket, r, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int send_hello(struct notify *n)
{
	struct notifier_request r = { .op = NOTIFIER_HELLO, .dev_major = major(n->dev),
		                      .dev_minor = minor(n->dev) };
	int err = send_request(n, &r, n->fs->mountpoint);

	if (!err)
		n->hello = true;
	return err;
}

static int send_message(struct notify *n, struct message *m)
{
	struct notifier_request r = { .op = m->op, .events = m->events, .seq = n->seq + 1,
		                      .mtime_ns = m->mtime_ns };
	int err = send_request(n, &r, connector_name(m->conn));

	if (!err) {
		/* Its time begins when it has something to do. */
		if (n->seq == n->answered)
			n->progress_ms = clock_mono_ms();
		m->seq = ++n->seq;
	}
	return err;
}

/* Sends what there is room for. */
static void pump(struct notify *n)
{
	int err = 0;

	if (n->socket < 0)
		return;
	if (!n->hello)
		err = send_hello(n);
	while (!err && n->unsent && n->seq - n->answered < NOTIFY_WINDOW) {
		err = send_message(n, n->unsent);
		if (!err)
			n->unsent = TAILQ_NEXT(n->unsent, link);
	}
	if (err == -EAGAIN || err == -ENOBUFS)
		loop_timer_set(n->retry, RETRY_MS);
	else if (err)
		disconnect(n, true);
}

static void retry(void *arg)
{
	struct notify *n = arg;

	pump(n);
}

static void take_answer(struct notify *n, const struct notifier_answer *a)
{
	struct message *m = TAILQ_FIRST(&n->queue);

	if (a->seq <= n->answered || a->seq > n->seq)
		return;
	n->answered = a->seq;
	n->progress_ms = clock_mono_ms();
	if (n->stuck) {
		n->stuck = false;
		log_info("the notifier answers again", NULL);
	}
	while (m && m->seq && m->seq < a->seq) /* answers come in order: this can't be */
		m = TAILQ_NEXT(m, link);
	if (!m || m->seq != a->seq)
		return; /* given up before */
	dequeue(n, m);
	if (is_trouble(m, a->err))
		complain(n, m, a->err);
	else
		n->last_err = 0;
	conclude(n, m, a->err);
}

/* False: it isn't one, or the notifier won't do. */
static bool take_greeting(struct notify *n, struct notifier_greeting *g, size_t size)
{
	if (size != sizeof *g)
		return false;
	for (int i = 0; i < NOTIFIER_PROTECTIONS; i++)
		g->lacks[i][NOTIFIER_WHY_SIZE - 1] = '\0';
	n->greeted = true;
	return n->greet(n->arg, g);
}

static void readable(int fd, void *arg)
{
	struct notify *n = arg;
	union {
		struct notifier_greeting greeting;
		struct notifier_answer answer;
	} p;
	ssize_t got;

	for (int i = 0; i < NOTIFY_WINDOW; i++) {
		got = recv(fd, &p, sizeof p, MSG_DONTWAIT);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (got <= 0 || (!n->greeted && !take_greeting(n, &p.greeting, (size_t)got))) {
			disconnect(n, true);
			break;
		}
		if (got == (ssize_t)sizeof p.answer)
			take_answer(n, &p.answer);
	}
	pump(n);
	arm_patience(n);
}

/* ---- the sink ---- */

/* None of these may call back at once. */
static int enqueue(struct notify *n, struct connector *conn, enum notifier_op op, unsigned events,
                   int64_t mtime_ns)
{
	struct message *m = malloc(sizeof *m);

	if (!m) {
		log_error("out of memory: a change is not announced", "connector", connector_name(conn),
		          NULL);
		return -ENOMEM;
	}
	*m = (struct message){ .notify = n, .conn = connector_ref(conn), .op = op, .events = events,
		               .mtime_ns = mtime_ns, .queued_ms = clock_mono_ms() };
	TAILQ_INSERT_TAIL(&n->queue, m, link);
	if (!n->unsent)
		n->unsent = m;
	if (n->socket >= 0 && !loop_timer_armed(n->retry))
		loop_timer_set(n->retry, 0); /* so that what comes together goes together */
	if (TAILQ_FIRST(&n->queue) == m)
		arm_patience(n);
	return 0;
}

static void touched_without_events(void *arg)
{
	struct message *m = arg;

	conclude(m->notify, m, 0);
}

static int touch(void *arg, struct connector *conn, enum touch_kind kind, int64_t mtime_ns)
{
	struct notify *n = arg;
	unsigned events = engine_settings(n->fs->engine)->notify;
	struct message *m;

	if (events)
		return enqueue(n, conn, kind == TOUCH_STATE ? NOTIFIER_ATTRIB : NOTIFIER_TOUCH, events, mtime_ns);
	m = malloc(sizeof *m);
	if (!m)
		return -ENOMEM;
	*m = (struct message){ .notify = n, .conn = connector_ref(conn), .op = NOTIFIER_TOUCH };
	if (loop_post(n->fs->loop, touched_without_events, m) == 0)
		return 0;
	message_free(m);
	return -ENOMEM;
}

static int appear(void *arg, struct connector *conn)
{
	return enqueue(arg, conn, NOTIFIER_MKNOD, 0, 0);
}

static int vanish(void *arg, struct connector *conn)
{
	return enqueue(arg, conn, NOTIFIER_UNLINK, 0, 0);
}

/* ---- life ---- */

int notify_new(struct fs *fs, struct notify **ret)
{
	struct notify *n = calloc(1, sizeof *n);

	if (!n)
		return -ENOMEM;
	n->fs = fs;
	n->socket = -1;
	n->sink = (struct catalog_sink){ invalidate, touch, appear, vanish, n };
	TAILQ_INIT(&n->queue);
	n->retry = loop_timer_new(fs->loop, retry, n);
	n->patience = loop_timer_new(fs->loop, out_of_patience, n);
	if (!n->retry || !n->patience) {
		notify_free(n);
		return -ENOMEM;
	}
	*ret = n;
	return 0;
}

void notify_free(struct notify *n)
{
	struct message *m;

	if (!n)
		return;
	disconnect(n, false);
	while ((m = TAILQ_FIRST(&n->queue))) {
		TAILQ_REMOVE(&n->queue, m, link);
		message_free(m);
	}
	loop_timer_free(n->retry);
	loop_timer_free(n->patience);
	free(n);
}

const struct catalog_sink *notify_sink(struct notify *n)
{
	return &n->sink;
}

void notify_set_device(struct notify *n, dev_t dev)
{
	n->dev = dev;
}

int notify_connect(struct notify *n, int socket, pid_t pid, fs_greeted *greeted, void (*lost)(void *arg),
                   void *arg)
{
	struct loop_fd *watch = loop_fd_new(n->fs->loop, socket, readable, n);

	if (!watch) {
		close(socket);
		return -ENOMEM;
	}
	disconnect(n, false);
	n->socket = socket;
	n->watch = watch;
	n->greet = greeted;
	n->lost = lost;
	n->arg = arg;
	n->hello = n->greeted = false;
	n->stuck = false;
	n->answered = n->seq; /* the earlier one's answers won't come */
	n->progress_ms = clock_mono_ms();
	atomic_store(&n->pid, pid);
	loop_timer_set(n->retry, 0);
	return 0;
}

bool notify_is_from_notifier(struct notify *n, fuse_req_t req)
{
	pid_t pid = fuse_req_ctx(req)->pid;

	return pid == 0 || pid == atomic_load(&n->pid);
}
