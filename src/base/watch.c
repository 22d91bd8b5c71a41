/*
 * Watches on paths, through inotify.
 *
 * A watch subscribes to (directory, name) for each step of its path, from the root on and through every
 * symlink, so that whatever replaces a step is seen in the directory that holds it; a step that is
 * missing is seen when it comes. Directories are watched before they are looked into, so that a
 * change meanwhile is an event and not lost. On such an event the path is walked anew; subscriptions
 * are made before old ones go, so that the kernel's watches stay.
 *
 *     kdir (a kernel watch) ── nodes (names in it) ── subs ── watches
 *
 * An event finds its node by one hash lookup. Callbacks about files run when all events are read, once
 * for each watch; callbacks about entries of a directory run at once.
 */
#include "base/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/strmap.h"

enum {
	SYMLINKS_MAX = 40, /* as the kernel */
	RETRY_MS = 1000,
	READ_SIZE = 64 * 1024
};

#define MASK_STRUCTURE (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB)
#define MASK_SELF (IN_DELETE_SELF | IN_MOVE_SELF)
#define MASK_STEP (MASK_STRUCTURE | MASK_SELF)
#define MASK_FINAL (MASK_STEP | IN_MODIFY | IN_CLOSE_WRITE)

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
	size_t key_len;
	char key[]; /* of watcher.nodes */
};

struct sub {
	struct node *node;
	struct watch *watch;
	struct sub *prev, *next; /* in node */
	struct sub *step;        /* next of the same watch */
	bool final;              /* the file itself, and not a step on the way to it */
};

struct watch {
	struct watcher *watcher;
	struct watch *prev, *next;           /* in watcher */
	struct watch *pend_prev, *pend_next; /* in watcher.pending, if events != 0 */
	void (*fn)(unsigned events, const char *name, void *arg);
	void *arg;
	struct sub *subs;
	unsigned events; /* to be told */
	bool stale;      /* the path must be walked anew */
	bool blind;      /* something of it can't be watched: looked at every RETRY_MS */
	bool is_dir;
	char path[];
};

struct watcher {
	int fd;
	struct loop_fd *readable;
	struct loop_timer *retry;
	struct strmap *kdirs; /* wd → kdir */
	struct strmap *nodes; /* wd and name → node */
	struct watch *watches;
	struct watch *pending, *pending_last;
	struct sub *iter; /* next one of the node whose callbacks run */
	bool dispatching;
	char buffer[READ_SIZE] __attribute__((aligned(__alignof__(struct inotify_event))));
};

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

/* --- subscriptions ---------------------------------------------------------------------- */

static void kdir_release(struct watcher *w, struct kdir *d)
{
	if (d->nodes)
		return;
	if (d->wd >= 0) {
		strmap_del(w->kdirs, kdir_key(&d->wd));
		inotify_rm_watch(w->fd, d->wd);
	}
	free(d);
}

static struct kdir *kdir_get(struct watcher *w, const char *path, uint32_t mask)
{
	int wd = inotify_add_watch(w->fd, path, mask | IN_MASK_ADD | IN_EXCL_UNLINK);

	if (wd < 0)
		return NULL;
	struct kdir *d = strmap_get(w->kdirs, kdir_key(&wd));
	if (d)
		return d;
	d = malloc(sizeof(*d));
	if (d) {
		*d = (struct kdir){ .wd = wd };
		if (strmap_put(w->kdirs, kdir_key(&wd), d, NULL) == 0)
			return d;
		free(d);
	}
	inotify_rm_watch(w->fd, wd);
	errno = ENOMEM;
	return NULL;
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

/* Subscribes x to a name (or NULL: to all) in the directory at path, and puts that into *subs.
 * 0 or -errno. */
static int subscribe(struct watch *x, const char *path, const char *name, size_t name_len, uint32_t mask,
                     struct sub **subs)
{
	struct watcher *w = x->watcher;
	struct kdir *d = kdir_get(w, path, mask);

	if (!d)
		return -errno;
	struct node *n = node_get(w, d, name, name_len);
	if (!n) {
		kdir_release(w, d);
		return -ENOMEM;
	}
	bool final = (mask & IN_MODIFY) != 0;
	for (struct sub *s = *subs; s; s = s->step) {
		if (s->node == n) {
			s->final |= final;
			return 0;
		}
	}
	struct sub *s = malloc(sizeof(*s));
	if (!s) {
		node_release(w, n);
		return -ENOMEM;
	}
	*s = (struct sub){ .node = n, .watch = x, .next = n->subs, .step = *subs, .final = final };
	if (s->next)
		s->next->prev = s;
	n->subs = s;
	*subs = s;
	return 0;
}

/* --- walking a path --------------------------------------------------------------------- */

struct walk {
	struct watch *watch;
	struct sub *subs;   /* found so far */
	char at[PATH_MAX];  /* where we are: without symlinks, "." and ".." */
	char rest[PATH_MAX]; /* what is still to go */
	int links;
	int blind; /* errno of what could not be watched but has to be, or 0 */
};

enum step {
	STEP_ON,
	STEP_END, /* missing, or at the file */
};

/* at + "/" + name, false if that is too long for the kernel as well. */
static bool walk_into(struct walk *k, const char *name, size_t len)
{
	size_t n = strlen(k->at);

	if (n == 1)
		n = 0;
	if (n + 1 + len >= sizeof(k->at))
		return false;
	k->at[n] = '/';
	memcpy(k->at + n + 1, name, len);
	k->at[n + 1 + len] = '\0';
	return true;
}

static void walk_up(struct walk *k)
{
	char *slash = strrchr(k->at, '/');

	slash[slash == k->at ? 1 : 0] = '\0';
}

/* Takes the first name off the rest: its length, copied to name (NAME_MAX + 1 bytes); 0: none left;
 * -ENAMETOOLONG. */
static int walk_name(struct walk *k, char *name, bool *ret_last)
{
	char *s = k->rest + strspn(k->rest, "/");
	size_t len = strcspn(s, "/");

	if (len > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(name, s, len);
	name[len] = '\0';
	s += len;
	s += strspn(s, "/");
	*ret_last = *s == '\0';
	memmove(k->rest, s, strlen(s) + 1);
	return (int)len;
}

/* Goes on at the target of a symlink, at being where it lies. */
static enum step walk_link(struct walk *k, const char *target, size_t len)
{
	size_t rest = strlen(k->rest);

	if (++k->links > SYMLINKS_MAX || len + 1 + rest >= sizeof(k->rest))
		return STEP_END;
	memmove(k->rest + len + 1, k->rest, rest + 1);
	memcpy(k->rest, target, len);
	k->rest[len] = '/';
	if (target[0] == '/')
		memcpy(k->at, "/", 2);
	return STEP_ON;
}

/* A file bound to its place by a mount is written through another directory: watch it itself. */
static int subscribe_mounted_file(struct walk *k)
{
	struct statx stx;

	if (statx(AT_FDCWD, k->at, AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC, STATX_TYPE, &stx) < 0 ||
	    !S_ISREG(stx.stx_mode) || !(stx.stx_attributes & STATX_ATTR_MOUNT_ROOT))
		return 0;
	int r = subscribe(k->watch, k->at, NULL, 0, MASK_FINAL | IN_DONT_FOLLOW, &k->subs);
	return r == -ENOENT || r == -ELOOP ? 0 : r; /* gone already: an event is on its way */
}

/* One name of the path. A step, or -errno. */
static int walk_step(struct walk *k, const char *name, size_t len, bool last)
{
	char target[PATH_MAX];
	uint32_t mask = last && !k->watch->is_dir ? MASK_FINAL : MASK_STEP;
	int r = subscribe(k->watch, k->at, name, len, mask | IN_ONLYDIR, &k->subs);

	if (r == -ENOENT || r == -ENOTDIR)
		return STEP_END; /* the step before tells when it comes */
	if (r == -ENOMEM || r == -ENOSPC)
		return r;
	int unseen = -r; /* the directory may be searched but not read, most likely */
	size_t parent = strlen(k->at);
	if (!walk_into(k, name, len))
		return STEP_END;
	ssize_t n = readlink(k->at, target, sizeof(target));
	if (n >= 0) {
		if (unseen)
			k->blind = unseen;
		k->at[parent] = '\0';
		return n == 0 || n == sizeof(target) ? STEP_END : (int)walk_link(k, target, (size_t)n);
	}
	/* EINVAL: no symlink. A directory that can't be watched from above tells of its own end, so only
	 * a name that is missing, or the file, leaves us blind. */
	bool there = errno == EINVAL;
	if (unseen && (!there || mask & IN_MODIFY))
		k->blind = unseen;
	if (!there)
		return STEP_END;
	if (mask & IN_MODIFY) {
		r = subscribe_mounted_file(k);
		return r < 0 ? r : STEP_END;
	}
	return STEP_ON;
}

static int walk(struct walk *k)
{
	char name[NAME_MAX + 1];
	bool last;
	int len;

	while ((len = walk_name(k, name, &last)) > 0) {
		if (strcmp(name, ".") == 0)
			continue;
		if (strcmp(name, "..") == 0) {
			walk_up(k);
			continue;
		}
		int r = walk_step(k, name, (size_t)len, last);
		if (r < 0)
			return r;
		if (r == STEP_END)
			return 0;
	}
	if (len < 0 || !k->watch->is_dir)
		return 0;
	int r = subscribe(k->watch, k->at, NULL, 0, MASK_FINAL | IN_ONLYDIR, &k->subs);
	if (r == -ENOMEM || r == -ENOSPC)
		return r;
	if (r < 0 && r != -ENOENT && r != -ENOTDIR)
		k->blind = -r;
	return 0;
}

/* Walks x's path and replaces its subscriptions. 0, or -errno of what keeps it from being seen whole;
 * what could be subscribed to then is, all the same. */
static int resolve(struct watch *x)
{
	struct walk k = { .watch = x, .at = "/" };
	struct sub *old = x->subs;

	memcpy(k.rest, x->path, strlen(x->path) + 1);
	int r = walk(&k);
	x->subs = k.subs;
	subs_free(x->watcher, old);
	x->stale = false;
	if (r == 0 && k.blind)
		r = -k.blind;
	x->blind = r < 0;
	if (x->blind && !loop_timer_armed(x->watcher->retry))
		loop_timer_set(x->watcher->retry, RETRY_MS);
	return r;
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

static void run_pending(struct watcher *w)
{
	while (w->pending) {
		struct watch *x = w->pending;
		unsigned events = x->events;
		unpend(x);
		if (x->stale)
			resolve(x); /* before the callback: what changes from here on is an event */
		x->fn(events, NULL, x->arg);
	}
}

/* One event for all who subscribed to the node. */
static void tell_node(struct watcher *w, struct node *n, uint32_t mask, const char *name)
{
	unsigned events = (mask & IN_MODIFY ? WATCH_WRITING : 0u) |
	                  (mask & (MASK_STRUCTURE | IN_CLOSE_WRITE) ? WATCH_CHANGED : 0u);

	if (!n || !events)
		return;
	for (struct sub *s = n->subs; s; s = w->iter) {
		w->iter = s->next; /* sub_free moves it on */
		struct watch *x = s->watch;
		if (s->final && x->is_dir && name)
			x->fn(events, name, x->arg); /* may free anything */
		else if (s->final)
			pend(x, events, mask & MASK_STRUCTURE);
		else if (mask & MASK_STRUCTURE)
			pend(x, WATCH_CHANGED, true);
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
		for (struct watch *x = w->watches; x; x = x->next)
			pend(x, WATCH_OVERFLOW, true);
		return;
	}
	struct kdir *d = strmap_get(w->kdirs, kdir_key(&e->wd));
	if (!d)
		return; /* from before we gave it up */
	if (e->mask & (MASK_SELF | IN_UNMOUNT | IN_IGNORED))
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
	w->dispatching = false;
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

	for (struct watch *x = w->watches; x; x = x->next)
		if (x->blind)
			pend(x, WATCH_OVERFLOW, true);
	w->dispatching = true;
	run_pending(w);
	w->dispatching = false;
}

/* --- the interface ---------------------------------------------------------------------- */

int watcher_new(struct loop *loop, struct watcher **ret)
{
	struct watcher *w = calloc(1, sizeof(*w));
	int err = ENOMEM;

	if (!w)
		return -ENOMEM;
	w->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (w->fd < 0) {
		err = errno;
		goto fail;
	}
	w->kdirs = strmap_new();
	w->nodes = strmap_new();
	w->retry = loop_timer_new(loop, on_retry, w);
	w->readable = loop_fd_new(loop, w->fd, on_readable, w);
	if (!w->kdirs || !w->nodes || !w->retry || !w->readable)
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
	if (w->fd >= 0)
		close(w->fd);
	free(w);
}

static struct watch *watch_new(struct watcher *w, const char *path, bool is_dir,
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
	if (x->next)
		x->next->prev = x;
	w->watches = x;
	int r = resolve(x);
	if (r < 0) {
		watch_free(x);
		errno = -r;
		return NULL;
	}
	return x;
}

struct watch *watch_file(struct watcher *w, const char *path,
                         void (*fn)(unsigned events, const char *name, void *arg), void *arg)
{
	return watch_new(w, path, false, fn, arg);
}

struct watch *watch_dir(struct watcher *w, const char *path,
                        void (*fn)(unsigned events, const char *name, void *arg), void *arg)
{
	return watch_new(w, path, true, fn, arg);
}

void watch_free(struct watch *x)
{
	if (!x)
		return;
	struct watcher *w = x->watcher;
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
