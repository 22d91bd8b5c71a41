/*
 * Watches on paths, through inotify.
 *
 * A watch subscribes to (directory, name) for each step of its path (base/walk.h). When one of these
 * changes, the path is walked anew; subscriptions are made before old ones go, so that the kernel's
 * watches stay.
 *
 *     kdir (a kernel watch) ── nodes (names in it) ── subs ── watches
 *
 * An event finds its node by one hash lookup. Callbacks about files run when all events are read, once
 * for each watch; callbacks about entries of a directory run at once.
 *
 * A walk runs in the pool, and the watches that it makes tell events before we know what for. So while
 * walks are under way, what is heard is kept ("recent"), and heard once more by the subscriptions that
 * are new when a walk ends. That an old kernel watch is gone is kept there as well: a walk that had been
 * given it is then repeated.
 */
#include "base/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/strmap.h"
#include "base/walk.h"

enum {
	RETRY_MS = 1000,
	RETRIES_MAX = WATCH_BLIND_MAX_MS / RETRY_MS,
	WALK_MS = 10000,    /* then the watch is blind */
	RECENT_MAX = 4096,  /* names; beyond that all who walk walk once more */
	READ_SIZE = 64 * 1024
};

/* A kernel watch: a directory, or a file that is a mount point of its own. */
struct kdir {
	int wd; /* -1: the kernel has dropped it */
	struct node *nodes;
};

/* A name in a directory, or the directory itself. */
struct node {
	struct kdir *dir;
	struct node *prev, *next; /* in dir */
	struct sub *subs;
	uint64_t mark;            /* of the walk that takes stock of a watch's old subs */
	bool mark_final;
	size_t key_len;
	char key[]; /* of watcher.nodes */
};

struct sub {
	struct node *node;
	struct watch *watch;
	struct sub *prev, *next; /* in node */
	struct sub *step;        /* next of the same watch */
	uint64_t walk_no;
	bool final;              /* the file itself, and not a step on the way to it */
};

/* What was heard of a name while walks are under way. */
struct recent {
	uint64_t serial; /* of the last event */
	uint32_t mask;   /* of all of them */
};

/* A walk in the pool. */
struct walking {
	struct walk *walk;
	struct watch *watch;
	struct watcher *watcher;
	struct pool_job *job;
	uint64_t serial; /* of the last event before it */
};

struct watch {
	struct watcher *watcher;
	struct watch *prev, *next;           /* in watcher */
	struct watch *pend_prev, *pend_next; /* in watcher.pending, if events != 0 */
	void (*fn)(unsigned events, const char *name, void *arg);
	void *arg;
	struct sub *subs;
	struct walking *walking; /* NULL: none is under way */
	struct file_stamp known; /* before the first walk, if has_known */
	unsigned events; /* to be told */
	unsigned held;   /* to be told when the walk has ended */
	unsigned retries, wait; /* while blind: ticks of RETRY_MS between looks, and until the next one */
	bool stale;      /* the path must be walked anew */
	atomic_bool blind; /* something of it can't be watched */
	atomic_bool began; /* it has been walked */
	bool writing;    /* as told last */
	bool is_dir, has_known;
	char path[];
};

struct watcher {
	struct pool *pool;
	struct inotify *inotify;
	int fd; /* its */
	struct loop_fd *readable;
	struct loop_timer *retry;
	struct strmap *kdirs; /* wd → kdir */
	struct strmap *nodes; /* wd and name → node */
	struct strmap *recent; /* as nodes → struct recent */
	uint64_t serial;       /* of events */
	uint64_t lost;         /* up to this one recent has been forgotten */
	uint64_t walk_no;
	size_t n_walking;
	size_t n_busy;         /* why we are not quiet: walks, and somebody who is reading or telling events */
	atomic_ulong busy_no;  /* moves with n_busy, from 0 and to it: odd while we are busy */
	struct watch *watches;
	struct watch *pending, *pending_last;
	struct sub *iter; /* next one of the node whose callbacks run */
	bool dispatching;
	char buffer[READ_SIZE] __attribute__((aligned(__alignof__(struct inotify_event))));
};

static void busy_begin(struct watcher *w)
{
	if (w->n_busy++ == 0)
		atomic_fetch_add(&w->busy_no, 1);
}

static void busy_end(struct watcher *w)
{
	if (--w->n_busy == 0)
		atomic_fetch_add(&w->busy_no, 1);
}

/* --- keys ------------------------------------------------------------------------------- */

enum { KEY_MAX = sizeof(int) + 1 + NAME_MAX };

static struct slice kdir_key(const int *wd)
{
	return slice_of((const char *)wd, sizeof(*wd));
}

/* name NULL: the directory itself. */
static struct slice node_key(char *room, int wd, const char *name, size_t name_len)
{
	size_t len = sizeof(wd);

	memcpy(room, &wd, sizeof(wd));
	if (name) {
		room[len++] = '/';
		memcpy(room + len, name, name_len);
		len += name_len;
	}
	return slice_of(room, len);
}

static struct node *find_node(struct watcher *w, int wd, const char *name)
{
	char room[KEY_MAX];
	size_t len = name ? strlen(name) : 0;

	return len > NAME_MAX ? NULL : strmap_get(w->nodes, node_key(room, wd, name, len));
}

/* --- kernel watches and subscriptions --------------------------------------------------- */

static void recent_clear(struct watcher *w)
{
	struct slice key;
	size_t pos = 0;
	void *value;

	while (strmap_len(w->recent) > 0 && strmap_next(w->recent, &pos, &key, &value)) {
		strmap_del(w->recent, key);
		free(value);
	}
}

/* Keeps what was heard of a name (NULL: of the directory itself) for the walks under way. */
static void recent_add(struct watcher *w, int wd, const char *name, uint32_t mask)
{
	char room[KEY_MAX];
	struct slice key = node_key(room, wd, name, name ? strlen(name) : 0);

	w->serial++;
	if (w->n_walking == 0)
		return;
	struct recent *r = strmap_get(w->recent, key);
	if (!r && strmap_len(w->recent) < RECENT_MAX) {
		r = calloc(1, sizeof(*r));
		if (r && strmap_put(w->recent, key, r, NULL) < 0) {
			free(r);
			r = NULL;
		}
	}
	if (!r) {
		recent_clear(w);
		w->lost = w->serial;
		return;
	}
	r->serial = w->serial;
	if (mask & (WALK_STRUCTURE | IN_CLOSE_WRITE))
		r->mask &= ~(uint32_t)IN_MODIFY; /* that writing has ended */
	r->mask |= mask;
}

/* What was heard of it after an event. */
static uint32_t recent_get(struct watcher *w, int wd, const char *name, uint64_t since)
{
	char room[KEY_MAX];
	const struct recent *r = strmap_get(w->recent, node_key(room, wd, name, name ? strlen(name) : 0));

	return r && r->serial > since ? r->mask : 0;
}

static void kernel_drop(struct watcher *w, int wd)
{
	inotify_rm_watch(w->fd, wd);
	recent_add(w, wd, NULL, IN_IGNORED); /* a walk may have been given it just before */
}

static void kdir_release(struct watcher *w, struct kdir *d)
{
	if (d->nodes)
		return;
	if (d->wd >= 0) {
		strmap_del(w->kdirs, kdir_key(&d->wd));
		kernel_drop(w, d->wd);
	}
	free(d);
}

/* NULL: out of memory. */
static struct kdir *kdir_get(struct watcher *w, int wd)
{
	struct kdir *d = strmap_get(w->kdirs, kdir_key(&wd));

	if (d)
		return d;
	d = malloc(sizeof(*d));
	if (!d)
		return NULL;
	*d = (struct kdir){ .wd = wd };
	if (strmap_put(w->kdirs, kdir_key(&wd), d, NULL) == 0)
		return d;
	free(d);
	return NULL;
}

/* Watches that a walk made for nobody. */
static void drop_orphans(struct watcher *w)
{
	int wd;

	while ((wd = inotify_take_orphan(w->inotify)) >= 0)
		if (!strmap_get(w->kdirs, kdir_key(&wd)))
			kernel_drop(w, wd);
}

static void node_release(struct watcher *w, struct node *n)
{
	struct kdir *d = n->dir;

	if (n->subs)
		return;
	strmap_del(w->nodes, slice_of(n->key, n->key_len));
	if (n->next)
		n->next->prev = n->prev;
	if (n->prev)
		n->prev->next = n->next;
	else
		d->nodes = n->next;
	free(n);
	kdir_release(w, d);
}

static struct node *node_get(struct watcher *w, struct kdir *d, const char *name, size_t name_len)
{
	char room[KEY_MAX];
	struct slice key = node_key(room, d->wd, name, name_len);
	struct node *n = strmap_get(w->nodes, key);

	if (n)
		return n;
	n = malloc(sizeof(*n) + key.len);
	if (!n)
		return NULL;
	*n = (struct node){ .dir = d, .next = d->nodes, .key_len = key.len };
	memcpy(n->key, key.data, key.len);
	if (strmap_put(w->nodes, key, n, NULL) < 0) {
		free(n);
		return NULL;
	}
	if (n->next)
		n->next->prev = n;
	d->nodes = n;
	return n;
}

static void sub_free(struct watcher *w, struct sub *s)
{
	struct node *n = s->node;

	if (w->iter == s)
		w->iter = s->next;
	if (s->next)
		s->next->prev = s->prev;
	if (s->prev)
		s->prev->next = s->next;
	else
		n->subs = s->next;
	free(s);
	node_release(w, n);
}

static void subs_free(struct watcher *w, struct sub *s)
{
	while (s) {
		struct sub *step = s->step;
		sub_free(w, s);
		s = step;
	}
}

/* Subscribes x to what a walk found, and puts that into *subs. 0 or -ENOMEM. */
static int subscribe(struct watch *x, const struct walk_step *step, struct sub **subs)
{
	struct watcher *w = x->watcher;
	struct kdir *d = kdir_get(w, step->wd);

	if (!d)
		return -ENOMEM;
	struct node *n = node_get(w, d, step->name, step->name ? strlen(step->name) : 0);
	if (!n) {
		kdir_release(w, d);
		return -ENOMEM;
	}
	/* The way may come by the same place twice; then it is the newest here. */
	struct sub *s = n->subs;
	if (s && s->watch == x && s->walk_no == w->walk_no) {
		s->final |= step->final;
		return 0;
	}
	s = malloc(sizeof(*s));
	if (!s) {
		node_release(w, n);
		return -ENOMEM;
	}
	*s = (struct sub){ .node = n, .watch = x, .next = n->subs, .step = *subs, .final = step->final,
		           .walk_no = w->walk_no };
	if (s->next)
		s->next->prev = s;
	n->subs = s;
	*subs = s;
	return 0;
}

/* --- events ----------------------------------------------------------------------------- */

static void pend(struct watch *x, unsigned events, bool stale)
{
	struct watcher *w = x->watcher;

	x->stale |= stale;
	if (x->events == 0) {
		x->pend_prev = w->pending_last;
		x->pend_next = NULL;
		if (w->pending_last)
			w->pending_last->pend_next = x;
		else
			w->pending = x;
		w->pending_last = x;
	}
	if (events & WATCH_CHANGED)
		x->events &= ~(unsigned)WATCH_WRITING; /* it has ended; what is written after that is told as well */
	x->events |= events;
}

static void unpend(struct watch *x)
{
	struct watcher *w = x->watcher;

	if (x->events == 0)
		return;
	if (x->pend_next)
		x->pend_next->pend_prev = x->pend_prev;
	else
		w->pending_last = x->pend_prev;
	if (x->pend_prev)
		x->pend_prev->pend_next = x->pend_next;
	else
		w->pending = x->pend_next;
	x->events = 0;
}

static void set_blind(struct watch *x, bool blind)
{
	struct watcher *w = x->watcher;

	if (!blind) {
		x->retries = x->wait = 0;
	} else if (!x->blind || x->wait == 0) {
		x->retries = x->retries ? x->retries * 2 : 1;
		if (x->retries > RETRIES_MAX)
			x->retries = RETRIES_MAX;
		x->wait = x->retries;
	}
	x->blind = blind;
	if (blind && !loop_timer_armed(w->retry))
		loop_timer_set(w->retry, RETRY_MS);
}

static void walk_start(struct watch *x);

static void run_pending(struct watcher *w)
{
	drop_orphans(w);
	while (w->pending) {
		struct watch *x = w->pending;
		unsigned events = x->events;
		unpend(x);
		if (x->stale && !x->walking)
			walk_start(x);
		/* Held until the walk has ended, so that what changes after the callback is an event. But
		 * that it is being written is told at once: who reads it now reads half of it. */
		if (x->walking && !(events & WATCH_WRITING)) {
			x->held |= events;
			if (events & WATCH_CHANGED)
				x->writing = false;
			continue;
		}
		if (events & (WATCH_WRITING | WATCH_CHANGED))
			x->writing = (events & WATCH_WRITING) != 0;
		events |= x->held;
		x->held = 0;
		x->fn(events, NULL, x->arg);
	}
}

static void run_all(struct watcher *w)
{
	bool nested = w->dispatching;

	if (nested)
		return;
	w->dispatching = true;
	busy_begin(w);
	run_pending(w);
	busy_end(w);
	w->dispatching = false;
}

/* What an event means to a subscription: what to tell, and whether the way may be another now. */
static unsigned meaning(bool final, uint32_t mask, bool *ret_stale)
{
	*ret_stale = mask & WALK_STRUCTURE;
	if (!final)
		return mask & WALK_STRUCTURE ? WATCH_CHANGED : 0u;
	return (mask & IN_MODIFY ? WATCH_WRITING : 0u) |
	       (mask & (WALK_STRUCTURE | IN_CLOSE_WRITE) ? WATCH_CHANGED : 0u);
}

/* --- walks ------------------------------------------------------------------------------ */

/* What has been heard of a place that is new to x since the walk began. True: walk once more. */
static bool hear_recent(struct watch *x, const struct walk_step *step, uint64_t since)
{
	uint32_t mask = recent_get(x->watcher, step->wd, step->name, since);
	uint32_t self = recent_get(x->watcher, step->wd, NULL, since);
	bool stale;
	unsigned events = meaning(step->final, mask, &stale);

	stale |= (self & (WALK_SELF | IN_UNMOUNT | IN_IGNORED)) != 0;
	x->held |= stale ? events | WATCH_CHANGED : events;
	return stale;
}

/* Has the kernel dropped it since it was given to a walk? Watch descriptors are not used again. */
static bool is_gone(struct watcher *w, int wd)
{
	return (recent_get(w, wd, NULL, 0) & IN_IGNORED) && !strmap_get(w->kdirs, kdir_key(&wd));
}

/* Replaces x's subscriptions by what the walk found. True: it is the way that it was. */
static bool take_steps(struct watch *x, const struct walking *g)
{
	struct watcher *w = x->watcher;
	const struct walk *k = g->walk;
	struct sub *subs = NULL;
	size_t n_old = 0, n_new = 0;
	bool same = true;

	w->walk_no++;
	for (struct sub *s = x->subs; s; s = s->step, n_old++) {
		s->node->mark = w->walk_no;
		s->node->mark_final = s->final;
	}
	for (size_t i = 0; i < k->n_steps; i++) {
		const struct walk_step *step = &k->steps[i];
		if (is_gone(w, step->wd)) {
			x->stale = true;
			continue;
		}
		int r = subscribe(x, step, &subs);
		if (r < 0) {
			set_blind(x, true);
			break;
		}
		const struct node *n = find_node(w, step->wd, step->name);
		bool known = n->mark == w->walk_no;
		same &= known && n->mark_final == step->final;
		if (!known && hear_recent(x, step, g->serial))
			x->stale = true;
	}
	for (struct sub *s = subs; s; s = s->step)
		n_new++;
	struct sub *old = x->subs;
	x->subs = subs;
	subs_free(w, old);
	return same && n_old == n_new;
}

static void walking_free(void *arg)
{
	struct walking *g = arg;

	walk_free(g->walk);
	free(g);
}

static int walk_work(void *arg)
{
	return walk_run(((struct walking *)arg)->walk);
}

static void walk_ended(struct watch *x)
{
	struct watcher *w = x->watcher;

	x->walking = NULL;
	busy_end(w);
	if (--w->n_walking == 0) {
		recent_clear(w);
		w->lost = 0;
	}
}

/* The first time: what has changed since the caller knew it? Later: is it another file now? */
static void tell_walked(struct watch *x, const struct walk *k, bool same)
{
	bool began = x->began;

	x->began = true;
	if (began ? !same : x->is_dir)
		x->held |= WATCH_CHANGED;
	if (!began && x->has_known && (k->stamp_err != 0 || !file_stamp_equal(&x->known, &k->stamp)))
		x->held |= WATCH_CHANGED;
	if (!began && x->blind)
		x->held |= WATCH_OVERFLOW;
	if (x->held && x->writing)
		x->held |= WATCH_WRITING;
}

static void walk_done(int result, void *arg)
{
	struct walking *g = arg;
	struct watch *x = g->watch;
	struct watcher *w = g->watcher;

	busy_begin(w); /* until what was held has been told */
	drop_orphans(w);
	/* After a timeout the walk may be under way still, and is not looked at. */
	if (result == -ETIMEDOUT || result == -EBUSY) {
		set_blind(x, true);
		x->held |= WATCH_OVERFLOW;
	} else {
		g->walk->taken = true;
		set_blind(x, result < 0 || g->walk->blind);
		if (g->serial < w->lost) {
			x->stale = true;
			x->held |= WATCH_CHANGED;
		}
		tell_walked(x, g->walk, take_steps(x, g));
	}
	walk_ended(x);
	unsigned held = x->held;
	x->held = 0;
	if (held)
		pend(x, held, false);
	if (x->stale)
		pend(x, WATCH_CHANGED, true);
	run_all(w);
	busy_end(w);
}

static void walk_start(struct watch *x)
{
	struct watcher *w = x->watcher;
	struct walking *g = calloc(1, sizeof(*g));

	x->stale = false;
	if (g)
		g->walk = walk_new(w->inotify, x->path, x->is_dir);
	if (g && g->walk) {
		g->watch = x;
		g->watcher = w;
		g->serial = w->serial;
		g->job = pool_submit(w->pool, walk_work, walk_done, walking_free, g, WALK_MS, g->walk->path,
		                     x->blind ? POOL_DOUBTFUL : POOL_LOCAL);
	}
	if (g && g->job) {
		x->walking = g;
		w->n_walking++;
		busy_begin(w);
		return;
	}
	if (g && g->walk)
		walk_free(g->walk);
	free(g);
	set_blind(x, true);
}

/* --- reading events --------------------------------------------------------------------- */

/* One event for all who subscribed to the node. */
static void tell_node(struct watcher *w, struct node *n, uint32_t mask, const char *name)
{
	bool stale;

	if (!n)
		return;
	for (struct sub *s = n->subs; s; s = w->iter) {
		w->iter = s->next; /* sub_free moves it on */
		struct watch *x = s->watch;
		unsigned events = meaning(s->final, mask, &stale);
		if (!events)
			continue;
		if (s->final && x->is_dir && name)
			x->fn(events, name, x->arg); /* may free anything */
		else
			pend(x, events, stale);
	}
	w->iter = NULL;
}

/* The directory itself was moved, removed or unmounted: each path through it leads elsewhere. */
static void tell_all_in(struct kdir *d)
{
	for (struct node *n = d->nodes; n; n = n->next)
		for (struct sub *s = n->subs; s; s = s->next)
			pend(s->watch, WATCH_CHANGED, true);
}

static void on_event(struct watcher *w, const struct inotify_event *e)
{
	if (e->mask & IN_Q_OVERFLOW) {
		w->lost = ++w->serial;
		for (struct watch *x = w->watches; x; x = x->next)
			pend(x, WATCH_OVERFLOW, true);
		return;
	}
	recent_add(w, e->wd, e->len > 0 ? e->name : NULL, e->mask);
	struct kdir *d = strmap_get(w->kdirs, kdir_key(&e->wd));
	if (!d)
		return; /* from before we gave it up, or of a walk under way */
	if (e->mask & (WALK_SELF | IN_UNMOUNT | IN_IGNORED))
		tell_all_in(d);
	if (e->mask & IN_IGNORED) {
		/* The number is not used again; the nodes go when their watches are resolved anew. */
		strmap_del(w->kdirs, kdir_key(&e->wd));
		d->wd = -1;
		return;
	}
	if (e->len > 0)
		tell_node(w, find_node(w, e->wd, e->name), e->mask, NULL);
	/* Looked up only now: the callbacks before may have freed it. */
	tell_node(w, find_node(w, e->wd, NULL), e->mask, e->len > 0 ? e->name : NULL);
}

void watcher_drain(struct watcher *w)
{
	int queued = 0;

	if (w->dispatching)
		return;
	w->dispatching = true;
	busy_begin(w);
	/* Not until nothing is left: a busy directory must not keep the loop from its other work. */
	if (ioctl(w->fd, FIONREAD, &queued) < 0)
		queued = 0;
	while (queued > 0) {
		ssize_t n = read(w->fd, w->buffer, sizeof(w->buffer));
		if (n <= 0)
			break; /* EAGAIN, EINTR: the loop calls again */
		queued -= (int)n;
		for (char *p = w->buffer; p < w->buffer + n;) {
			const struct inotify_event *e = (const struct inotify_event *)(const void *)p;
			on_event(w, e);
			p += sizeof(*e) + e->len;
		}
	}
	run_pending(w);
	busy_end(w);
	w->dispatching = false;
}

bool watcher_is_quiet(const struct watcher *w)
{
	unsigned long no = atomic_load(&w->busy_no);
	int queued = 0;

	/* Who takes events from the queue between the two looks has moved the number before it began. */
	return no % 2 == 0 && ioctl(w->fd, FIONREAD, &queued) == 0 && queued == 0 && atomic_load(&w->busy_no) == no;
}

static void on_readable(int fd, void *arg)
{
	(void)fd;
	watcher_drain(arg);
}

/* Watches that can't see everything ask their owners to look, and try to do better. */
static void on_retry(void *arg)
{
	struct watcher *w = arg;
	bool any = false;

	for (struct watch *x = w->watches; x; x = x->next) {
		if (!x->blind)
			continue;
		any = true;
		if (!x->walking && x->wait > 0 && --x->wait == 0)
			pend(x, WATCH_OVERFLOW, true);
	}
	if (any)
		loop_timer_set(w->retry, RETRY_MS);
	run_all(w);
}

/* --- the interface ---------------------------------------------------------------------- */

int watcher_new(struct loop *loop, struct pool *pool, struct watcher **ret)
{
	struct watcher *w = calloc(1, sizeof(*w));
	int err = ENOMEM;

	if (!w)
		return -ENOMEM;
	w->pool = pool;
	w->inotify = inotify_new();
	if (!w->inotify) {
		err = errno;
		goto fail;
	}
	w->fd = inotify_fd(w->inotify);
	w->recent = strmap_new();
	w->kdirs = strmap_new();
	w->nodes = strmap_new();
	w->retry = loop_timer_new(loop, on_retry, w);
	w->readable = loop_fd_new(loop, w->fd, on_readable, w);
	if (!w->kdirs || !w->nodes || !w->recent || !w->retry || !w->readable)
		goto fail;
	*ret = w;
	return 0;
fail:
	watcher_free(w);
	return -err;
}

void watcher_free(struct watcher *w)
{
	if (!w)
		return;
	loop_fd_free(w->readable);
	loop_timer_free(w->retry);
	strmap_free(w->kdirs, NULL);
	strmap_free(w->nodes, NULL);
	strmap_free(w->recent, free);
	inotify_unref(w->inotify);
	free(w);
}

static struct watch *watch_new(struct watcher *w, const char *path, bool is_dir,
                               const struct file_stamp *known,
                               void (*fn)(unsigned events, const char *name, void *arg), void *arg)
{
	size_t len = strlen(path);

	if (path[0] != '/' || len >= PATH_MAX) {
		errno = path[0] == '/' ? ENAMETOOLONG : EINVAL;
		return NULL;
	}
	struct watch *x = malloc(sizeof(*x) + len + 1);
	if (!x)
		return NULL;
	*x = (struct watch){ .watcher = w, .fn = fn, .arg = arg, .is_dir = is_dir, .next = w->watches };
	memcpy(x->path, path, len + 1);
	if (known) {
		x->known = *known;
		x->has_known = true;
	}
	if (x->next)
		x->next->prev = x;
	w->watches = x;
	walk_start(x);
	if (!x->walking) {
		watch_free(x);
		errno = ENOMEM;
		return NULL;
	}
	return x;
}

struct watch *watch_file(struct watcher *w, const char *path, const struct file_stamp *known,
                         void (*fn)(unsigned events, const char *name, void *arg), void *arg)
{
	return watch_new(w, path, false, known, fn, arg);
}

struct watch *watch_dir(struct watcher *w, const char *path,
                        void (*fn)(unsigned events, const char *name, void *arg), void *arg)
{
	return watch_new(w, path, true, NULL, fn, arg);
}

void watch_free(struct watch *x)
{
	if (!x)
		return;
	struct watcher *w = x->watcher;
	if (x->walking) {
		pool_cancel(x->walking->job); /* what it has watched by then are orphans */
		walk_ended(x);
	}
	unpend(x);
	subs_free(w, x->subs);
	if (x->next)
		x->next->prev = x->prev;
	if (x->prev)
		x->prev->next = x->next;
	else
		w->watches = x->next;
	free(x);
}

bool watch_sees(const struct watch *x)
{
	return atomic_load(&x->began) && !atomic_load(&x->blind);
}

int watcher_fd(const struct watcher *w)
{
	return w->fd;
}

bool watcher_is_walking(const struct watcher *w)
{
	return w->n_walking > 0;
}
