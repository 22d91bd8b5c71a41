/*
 * Walking a path, with a kernel watch on each step.
 *
 * From the root on and through every symlink, (directory, name) is noted for each step, so that whatever
 * replaces a step is seen in the directory that holds it; a step that is missing is seen when it comes.
 * Directories are watched before they are looked into, so that a change meanwhile is an event and not lost.
 */
#include "base/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SYMLINKS_MAX = 40 }; /* as the kernel */

struct inotify {
	atomic_uint refs;
	int fd;
	pthread_mutex_t mutex; /* of the orphans */
	int *orphans;
	size_t n_orphans, cap;
};

/* --- the descriptor --------------------------------------------------------------------- */

struct inotify *inotify_new(void)
{
	struct inotify *in = calloc(1, sizeof(*in));

	if (!in)
		return NULL;
	in->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (in->fd < 0) {
		int err = errno;
		free(in);
		errno = err;
		return NULL;
	}
	atomic_init(&in->refs, 1);
	pthread_mutex_init(&in->mutex, NULL);
	return in;
}

struct inotify *inotify_ref(struct inotify *in)
{
	atomic_fetch_add_explicit(&in->refs, 1, memory_order_relaxed);
	return in;
}

void inotify_unref(struct inotify *in)
{
	if (!in || atomic_fetch_sub_explicit(&in->refs, 1, memory_order_acq_rel) != 1)
		return;
	close(in->fd);
	pthread_mutex_destroy(&in->mutex);
	free(in->orphans);
	free(in);
}

int inotify_fd(const struct inotify *in)
{
	return in->fd;
}

int inotify_take_orphan(struct inotify *in)
{
	pthread_mutex_lock(&in->mutex);
	int wd = in->n_orphans > 0 ? in->orphans[--in->n_orphans] : -1;
	pthread_mutex_unlock(&in->mutex);
	return wd;
}

/* Out of memory the watch stays in the kernel, where its events mean nothing to us: a leak, no more. */
static void add_orphan(struct inotify *in, int wd)
{
	pthread_mutex_lock(&in->mutex);
	if (in->n_orphans == in->cap) {
		size_t cap = in->cap ? in->cap * 2 : 16;
		int *bigger = realloc(in->orphans, cap * sizeof(*bigger));
		if (bigger) {
			in->orphans = bigger;
			in->cap = cap;
		}
	}
	if (in->n_orphans < in->cap)
		in->orphans[in->n_orphans++] = wd;
	pthread_mutex_unlock(&in->mutex);
}

/* --- steps ------------------------------------------------------------------------------ */

/* Large, so on the stack of the thread that walks. */
struct way {
	struct walk *walk;
	char at[PATH_MAX];   /* where we are: without symlinks, "." and ".." */
	char rest[PATH_MAX]; /* what is still to go */
	int links;
};

enum step {
	STEP_ON,
	STEP_END, /* missing, or at the file */
};

/* Watches a name (or NULL: all) in the directory where we are. 0 or -errno. */
static int add_step(struct way *k, const char *name, size_t len, uint32_t mask)
{
	struct walk *w = k->walk;

	if (w->n_steps == w->cap) {
		size_t cap = w->cap ? w->cap * 2 : 8;
		struct walk_step *bigger = realloc(w->steps, cap * sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		w->steps = bigger;
		w->cap = cap;
	}
	struct walk_step s = { .name = name ? strndup(name, len) : NULL, .final = (mask & IN_MODIFY) != 0 };
	if (name && !s.name)
		return -ENOMEM;
	s.wd = inotify_add_watch(w->in->fd, k->at, mask | IN_MASK_ADD | IN_EXCL_UNLINK);
	if (s.wd < 0) {
		int err = errno;
		free(s.name);
		return -err;
	}
	w->steps[w->n_steps++] = s;
	return 0;
}

/* at + "/" + name, false if that is too long for the kernel as well. */
static bool walk_into(struct way *k, const char *name, size_t len)
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

static void walk_up(struct way *k)
{
	char *slash = strrchr(k->at, '/');

	slash[slash == k->at ? 1 : 0] = '\0';
}

/* Takes the first name off the rest: its length, copied to name (NAME_MAX + 1 bytes); 0: none left;
 * -ENAMETOOLONG. */
static int walk_name(struct way *k, char *name, bool *ret_last)
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
static enum step walk_link(struct way *k, const char *target, size_t len)
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
static int subscribe_mounted_file(struct way *k)
{
	struct statx stx;

	if (statx(AT_FDCWD, k->at, AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC, STATX_TYPE, &stx) < 0 ||
	    !S_ISREG(stx.stx_mode) || !(stx.stx_attributes & STATX_ATTR_MOUNT_ROOT))
		return 0;
	int r = add_step(k, NULL, 0, WALK_FINAL | IN_DONT_FOLLOW);
	return r == -ENOENT || r == -ELOOP ? 0 : r; /* gone already: an event is on its way */
}

/* One name of the path. A step, or -errno. */
static int walk_step(struct way *k, const char *name, size_t len, bool last)
{
	char target[PATH_MAX];
	uint32_t mask = last && !k->walk->is_dir ? WALK_FINAL : WALK_STEP;
	int r = add_step(k, name, len, mask | IN_ONLYDIR);

	if (r == -ENOENT || r == -ENOTDIR)
		return STEP_END; /* the step before tells when it comes */
	if (r == -ENOMEM || r == -ENOSPC)
		return r;
	int unseen = -r; /* the directory may be searched but not read, most likely */
	size_t parent = strlen(k->at);
	if (!walk_into(k, name, len) || file_is_own_mountpoint(k->at))
		return STEP_END; /* looking there would wait for ourselves */
	ssize_t n = readlink(k->at, target, sizeof(target));
	if (n >= 0) {
		if (unseen)
			k->walk->blind = unseen;
		k->at[parent] = '\0';
		return n == 0 || n == sizeof(target) ? STEP_END : (int)walk_link(k, target, (size_t)n);
	}
	/* EINVAL: no symlink. A directory that can't be watched from above tells of its own end, so only
	 * a name that is missing, or the file, leaves us blind. */
	bool there = errno == EINVAL;
	if (unseen && (!there || mask & IN_MODIFY))
		k->walk->blind = unseen;
	if (!there)
		return STEP_END;
	if (mask & IN_MODIFY) {
		r = subscribe_mounted_file(k);
		return r < 0 ? r : STEP_END;
	}
	return STEP_ON;
}

static int walk_way(struct way *k)
{
	char name[NAME_MAX + 1];
	bool last;
	int len;

	while ((len = walk_name(k, name, &last)) > 0) {
		if (++k->walk->looks > WALK_STEPS_MAX) {
			k->walk->blind = ELOOP;
			return 0;
		}
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
	if (len < 0 || !k->walk->is_dir)
		return 0;
	int r = add_step(k, NULL, 0, WALK_FINAL | IN_ONLYDIR);
	if (r == -ENOMEM || r == -ENOSPC)
		return r;
	if (r < 0 && r != -ENOENT && r != -ENOTDIR)
		k->walk->blind = -r;
	return 0;
}

/* --- the interface ---------------------------------------------------------------------- */

struct walk *walk_new(struct inotify *in, const char *path, bool is_dir)
{
	size_t len = strlen(path);
	struct walk *k = calloc(1, sizeof(*k) + len + 1);

	if (!k)
		return NULL;
	memcpy(k->path, path, len + 1);
	k->is_dir = is_dir;
	k->in = inotify_ref(in);
	return k;
}

int walk_run(struct walk *k)
{
	struct way way = { .walk = k, .at = "/" };

	memcpy(way.rest, k->path, strlen(k->path) + 1);
	int r = walk_way(&way);
	if (!k->is_dir)
		k->stamp_err = file_stamp_take(k->path, &k->stamp);
	return r;
}

void walk_free(struct walk *k)
{
	for (size_t i = 0; i < k->n_steps; i++) {
		if (!k->taken)
			add_orphan(k->in, k->steps[i].wd);
		free(k->steps[i].name);
	}
	free(k->steps);
	inotify_unref(k->in);
	free(k);
}
