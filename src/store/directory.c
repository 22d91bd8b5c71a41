/*
 * The store "directory": each *.properties and *.json file of a directory is a stored config.
 *
 * What blocks runs in the pool: a scan lists the whole directory, a check looks at one name, a
 * load reads one file. Each name that is listed, or that something happens to, has an entry; at
 * most one check of an entry is under way, and events meanwhile make one more. While a scan is
 * under way checks are newer than it, so what they looked at is left alone by its result.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/strmap.h"
#include "format/limits.h"
#include "store/store.h"

enum {
	POLL_MS = 30000,    /* where there are no events */
	RETRY_MS = 1000,    /* after we ran out of memory */
	WRITING_MS = 1000,  /* a writer that is silent for so long is taken to have finished */
};

/* What there is under a name. */
struct look {
	int err;                 /* can't be told: a positive errno */
	bool regular;            /* a regular file, symlinks followed */
	bool link;               /* the name is a symlink */
	bool local;              /* of a link: what it leads to is local */
	struct file_stamp stamp; /* of the regular file */
};

struct dirstore {
	struct store store;
	struct store_env env;
	struct store_events ev;
	char *path;
	struct strmap *entries;
	struct watch *watch;     /* NULL: none could be had */
	struct loop_timer *poll;
	struct pool_job *scan_job;
	enum pool_place place;   /* where the directory is, by the last scan */
	uint64_t scan_no;        /* of the scan under way, or the last */
	bool scan_again, ready, broken, retry;
	size_t n_unwatched;      /* links that no watch could be had for */
};

struct entry {
	struct dirstore *s;
	char *name;
	bool present;            /* told as added */
	bool link, unwatched;
	bool doubtful;           /* a link to elsewhere, or it gave no answer */
	struct file_stamp stamp;
	struct watch *watch;     /* of a link */
	struct pool_job *job;    /* a check under way */
	bool again, force;       /* one more check; which tells changed in any case */
	bool writing;
	struct loop_timer *timer; /* the writer's silence, or the second look of entry_wait */
	int64_t wait_ms;         /* since when a coming or going waits to be told; 0: none does */
	uint64_t checked, seen;  /* scans */
};

/* --- In the pool --- */

static struct file_stamp stamp_of(const struct stat *st)
{
	return (struct file_stamp){
		.exists = true,
		.dev = st->st_dev,
		.ino = st->st_ino,
		.size = (uint64_t)st->st_size,
		.mtime_ns = clock_from_timespec(st->st_mtim),
		.ctime_ns = clock_from_timespec(st->st_ctim),
		.mode = st->st_mode,
	};
}

/* A time in a file that has room above it: mtime grows with each rotation. */
static int64_t mtime_of(const struct file_stamp *stamp)
{
	const int64_t most = INT64_MAX - INT64_C(1000000000000000);

	return stamp->mtime_ns < most ? stamp->mtime_ns : most;
}

static bool is_local_at(int dir, const char *path)
{
	int fd = openat(dir, path, O_PATH | O_CLOEXEC);
	bool local = fd >= 0 && file_is_local(fd);

	if (fd >= 0)
		(void)close(fd);
	return local;
}

/* Is what the link leads to local, or where there is nothing yet, the directory it would be in? */
static bool link_is_local(int dir, const char *name)
{
	char to[PATH_MAX];
	ssize_t n;
	char *slash;

	if (is_local_at(dir, name))
		return true;
	if (faccessat(dir, name, F_OK, AT_EACCESS) == 0)
		return false;
	n = readlinkat(dir, name, to, sizeof(to) - 1);
	if (n <= 0)
		return false;
	to[n] = '\0';
	slash = strrchr(to, '/');
	if (!slash)
		return is_local_at(dir, ".");
	slash[slash == to] = '\0';
	return is_local_at(dir, to);
}

static bool is_gone(int err)
{
	return err == ENOENT || err == ENOTDIR || err == ELOOP || err == EACCES;
}

/* type: readdir's d_type, where it is known. A link that leads to our own mount leads nowhere. */
static void look_at(int dir, const char *path, const char *name, unsigned char type, struct look *ret)
{
	char full[PATH_MAX];
	struct stat st;

	*ret = (struct look){ 0 };
	if (type == DT_UNKNOWN) {
		if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			ret->err = is_gone(errno) ? 0 : errno;
			return;
		}
		type = S_ISLNK(st.st_mode) ? DT_LNK : S_ISREG(st.st_mode) ? DT_REG : DT_DIR;
	}
	ret->link = type == DT_LNK;
	if (type != DT_LNK && type != DT_REG)
		return;
	if (ret->link && ((size_t)snprintf(full, sizeof(full), "%s/%s", path, name) >= sizeof(full) ||
	                  file_leads_to_own_mount(full)))
		return;
	if (ret->link)
		ret->local = link_is_local(dir, name);
	if (fstatat(dir, name, &st, 0) < 0) {
		ret->err = is_gone(errno) ? 0 : errno;
	} else if (S_ISREG(st.st_mode)) {
		ret->regular = true;
		ret->stamp = stamp_of(&st);
	}
}

struct scan_item {
	char *name;
	struct look look;
};

struct scan {
	struct dirstore *s;      /* for the loop's thread */
	char *path;
	bool list;               /* else only: is it local? */
	int err;                 /* of the directory: a positive errno */
	bool local;
	struct scan_item *items;
	size_t n, cap;
};

static void scan_free(void *arg)
{
	struct scan *sc = arg;

	for (size_t i = 0; i < sc->n; i++)
		free(sc->items[i].name);
	free(sc->items);
	free(sc->path);
	free(sc);
}

static int scan_add(struct scan *sc, const char *name, const struct look *look)
{
	if (sc->n == sc->cap) {
		size_t cap = sc->cap > 0 ? sc->cap * 2 : 64;
		struct scan_item *bigger = realloc(sc->items, cap * sizeof(*bigger));

		if (!bigger)
			return ENOMEM;
		sc->items = bigger;
		sc->cap = cap;
	}
	sc->items[sc->n].name = strdup(name);
	if (!sc->items[sc->n].name)
		return ENOMEM;
	sc->items[sc->n++].look = *look;
	return 0;
}

static int scan_list(struct scan *sc, DIR *d)
{
	for (;;) {
		struct dirent *de;
		struct look look;
		int r;

		errno = 0;
		de = readdir(d);
		if (!de)
			return errno;
		if (!store_directory_shows(de->d_name))
			continue;
		look_at(dirfd(d), sc->path, de->d_name, de->d_type, &look);
		if (!look.regular && !look.link && look.err == 0)
			continue;
		r = scan_add(sc, de->d_name, &look);
		if (r != 0)
			return r;
	}
}

/* The directory isn't there: would it be on a local file system? */
static bool nearest_is_local(const char *path)
{
	char at[PATH_MAX];
	struct stat st;
	char *slash;

	if (strlen(path) >= sizeof(at))
		return false;
	strcpy(at, path);
	/* A link to nowhere may lead to anywhere. */
	while (lstat(at, &st) < 0 && (errno == ENOENT || errno == ENOTDIR)) {
		slash = strrchr(at, '/');
		if (!slash || slash[1] == '\0')
			return false;
		slash[slash == at] = '\0';
	}
	return is_local_at(AT_FDCWD, at);
}

static int scan_work(void *arg)
{
	struct scan *sc = arg;
	DIR *d = NULL;
	int fd;

	if (file_leads_to_own_mount(sc->path)) {
		sc->err = EDEADLK;
		return 0;
	}
	fd = open(sc->path, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		sc->err = errno;
		sc->local = nearest_is_local(sc->path);
		return 0;
	}
	sc->local = file_is_local(fd);
	if (sc->list) {
		d = fdopendir(fd);
		sc->err = d ? scan_list(sc, d) : errno;
	}
	if (d)
		(void)closedir(d);
	else
		(void)close(fd);
	return 0;
}

struct check {
	struct entry *e;         /* for the loop's thread */
	bool force;
	char *dir;
	char *path;              /* of the file */
	const char *name;        /* in path */
	struct look look;
};

static void check_free(void *arg)
{
	struct check *c = arg;

	free(c->dir);
	free(c->path);
	free(c);
}

static int check_work(void *arg)
{
	struct check *c = arg;
	int dir = open(c->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (dir >= 0) {
		look_at(dir, c->dir, c->name, DT_UNKNOWN, &c->look);
		(void)close(dir);
	} else if (errno != ENOENT && errno != ENOTDIR) {
		c->look.err = errno;
	}
	return 0;
}

struct store_load {
	struct dirstore *s;      /* this and the next three for the loop's thread */
	struct pool_job *job;
	void (*done)(void *arg, struct stored *stored, const struct error *err);
	void *arg;
	char *path;
	const char *name;        /* in path */
	struct stored *stored;
	struct error err;
};

static void load_free(void *arg)
{
	struct store_load *l = arg;

	stored_unref(l->stored);
	free(l->path);
	free(l);
}

static bool has_suffix(const char *name, const char *suffix)
{
	size_t n = strlen(name), m = strlen(suffix);

	return n > m && strcmp(name + n - m, suffix) == 0;
}

static int load_work(void *arg)
{
	struct store_load *l = arg;
	enum config_syntax syntax = has_suffix(l->name, ".json") ? CONFIG_JSON : CONFIG_PROPERTIES;
	struct file_read got = { .local = false };
	struct buf text;
	int64_t began_ns;
	int r;

	buf_init(&text, LIMIT_STORED_BYTES);
	began_ns = clock_real_ns();
	r = file_read_all(l->path, &text, &got, &l->err);
	if (r == -ENOENT || r == -ENOTDIR) {
		(void)error_set(&l->err, ENOENT, "no such file");
	} else if (r == -EISDIR || r == -EINVAL) {
		/* Nor is it listed, then. */
		l->err.code = ENOENT;
	} else if (r == 0) {
		l->stored = stored_new(buf_slice(&text), syntax, l->path);
		if (l->stored) {
			l->stored->stamp = got.stamp;
			l->stored->mtime_ns = mtime_of(&got.stamp);
			l->stored->local = got.local;
			l->stored->young = file_stamp_is_young(&got.stamp, began_ns);
		} else {
			(void)error_set(&l->err, ENOMEM, "out of memory");
		}
	} else if (l->err.code == 0) {
		(void)error_set(&l->err, -r, "%s", strerror(-r));
	}
	buf_free(&text);
	return 0;
}

/* --- In the loop's thread: entries --- */

static void entry_free(void *arg)
{
	struct entry *e = arg;

	if (e->job)
		pool_cancel(e->job);
	watch_free(e->watch);
	loop_timer_free(e->timer);
	if (e->unwatched)
		e->s->n_unwatched--;
	free(e->name);
	free(e);
}

static void set_poll(struct dirstore *s)
{
	if (s->retry)
		loop_timer_set(s->poll, RETRY_MS);
	else if (s->env.watcher && (!s->watch || s->broken || s->n_unwatched > 0))
		loop_timer_set(s->poll, POLL_MS);
	else
		loop_timer_stop(s->poll);
	s->retry = false;
}

static void want_retry(struct dirstore *s)
{
	s->retry = true;
	if (!s->scan_job)
		set_poll(s);
}

static struct entry *entry_get(struct dirstore *s, const char *name)
{
	struct entry *e = strmap_get(s->entries, slice_str(name));

	if (e)
		return e;
	e = calloc(1, sizeof(*e));
	if (e) {
		e->s = s;
		e->name = strdup(name);
	}
	if (!e || !e->name || strmap_put(s->entries, slice_str(name), e, NULL) < 0) {
		if (e)
			entry_free(e);
		want_retry(s);
		return NULL;
	}
	return e;
}

/* Forgets an entry that nothing is known of any more. */
static void entry_settle(struct entry *e)
{
	struct dirstore *s = e->s;

	if (e->present || e->link || e->job || e->writing || s->scan_job || e->wait_ms)
		return;
	(void)strmap_del(s->entries, slice_str(e->name));
	entry_free(e);
}

static void on_event(struct entry *e, unsigned events);
static void on_silence(void *arg);
static void scan_request(struct dirstore *s);

static void on_link(unsigned events, const char *name, void *arg)
{
	struct entry *e = arg;

	(void)name;
	if (events & WATCH_OVERFLOW)
		scan_request(e->s);
	if (events & (WATCH_CHANGED | WATCH_WRITING))
		on_event(e, events & (WATCH_CHANGED | WATCH_WRITING));
}

/* Watches what a link leads to. The watch tells when that is no longer what the look has shown. */
static void entry_watch(struct entry *e, const struct look *look)
{
	struct dirstore *s = e->s;
	bool want = look->link && look->local && s->env.watcher;
	char path[PATH_MAX];

	e->link = look->link;
	if (!want) {
		watch_free(e->watch);
		e->watch = NULL;
	} else if (!e->watch &&
	           (size_t)snprintf(path, sizeof(path), "%s/%s", s->path, e->name) < sizeof(path)) {
		e->watch = watch_file(s->env.watcher, path, &look->stamp, on_link, e);
	}
	s->n_unwatched -= e->unwatched;
	e->unwatched = e->link && !e->watch;
	s->n_unwatched += e->unwatched;
}

/* Must it be looked at once more before it is told? A name that has just been made may still be empty,
 * and one that is gone may be back in a moment: so editors save. */
static bool entry_wait(struct entry *e, const struct look *look)
{
	struct dirstore *s = e->s;
	int64_t now = clock_mono_ms();
	bool comes = look->regular && !e->present && file_stamp_is_young(&look->stamp, clock_real_ns());
	bool goes = !look->regular && e->present;

	if (!s->env.watcher || !s->ready || !(comes || goes)) {
		e->wait_ms = 0;
		return false;
	}
	if (!e->timer)
		e->timer = loop_timer_new(s->env.loop, on_silence, e);
	if (!e->wait_ms)
		e->wait_ms = now;
	if (!e->timer || now - e->wait_ms >= (comes ? WRITING_MS : FILE_STAMP_COARSE_MS)) {
		e->wait_ms = 0;
		return false;
	}
	if (!e->writing)
		loop_timer_set(e->timer, FILE_STAMP_COARSE_MS);
	return true;
}

/* Tells what a look has shown. force: changed in any case. */
static void entry_tell(struct entry *e, const struct look *look, bool force)
{
	const struct store_events *ev = &e->s->ev;
	bool changed;

	if (look->err != 0) {
		/* Can't be told. A load will say why. */
		if (e->present && force && !e->writing)
			ev->changed(ev->arg, e->name);
		return;
	}
	if (entry_wait(e, look))
		return;
	changed = force || !file_stamp_equal(&e->stamp, &look->stamp);
	e->stamp = look->stamp;
	if (look->regular && !e->present) {
		e->present = true;
		ev->added(ev->arg, e->name, mtime_of(&e->stamp));
		if (e->writing)
			ev->writing(ev->arg, e->name);
	} else if (!look->regular && e->present) {
		e->present = false;
		ev->removed(ev->arg, e->name);
	} else if (e->present && changed && !e->writing) {
		/* While it is being written this follows at the end of that. */
		ev->changed(ev->arg, e->name);
	}
}

static void check_request(struct entry *e);

static void check_done(int result, void *arg)
{
	struct check *c = arg;
	struct entry *e = c->e;
	/* After a timeout the look may be being written still. */
	struct look look = result == 0 ? c->look : (struct look){ .err = -result };

	e->job = NULL;
	e->doubtful = result < 0 || (look.link && !look.local);
	if (e->s->scan_job)
		e->checked = e->s->scan_no;
	if (look.err == 0)
		entry_watch(e, &look);
	entry_tell(e, &look, c->force);
	if (look.err != 0 || (e->unwatched && !loop_timer_armed(e->s->poll))) {
		e->s->broken |= look.err != 0;
		if (!e->s->scan_job)
			set_poll(e->s);
	}
	if (e->again)
		check_request(e);
	else
		entry_settle(e);
}

static enum pool_place entry_place(const struct entry *e)
{
	return e->doubtful ? POOL_DOUBTFUL : e->s->place;
}

static void check_request(struct entry *e)
{
	struct dirstore *s = e->s;
	struct check *c;

	e->again = e->job;
	if (e->job)
		return;
	c = calloc(1, sizeof(*c));
	if (c) {
		c->dir = strdup(s->path);
		if (asprintf(&c->path, "%s/%s", s->path, e->name) < 0)
			c->path = NULL;
	}
	if (c && c->dir && c->path) {
		c->e = e;
		c->force = e->force;
		c->name = c->path + strlen(s->path) + 1;
		e->job = pool_submit(s->env.pool, check_work, check_done, check_free, c, s->env.wait_ms, c->path,
		                     entry_place(e));
	}
	if (e->job) {
		e->force = false;
		return;
	}
	if (c)
		check_free(c);
	want_retry(s);
}

static void check_forced(struct entry *e)
{
	e->writing = false;
	if (e->timer)
		loop_timer_stop(e->timer);
	e->force = true;
	check_request(e);
}

static void on_silence(void *arg)
{
	check_forced(arg);
}

static void on_event(struct entry *e, unsigned events)
{
	const struct store_events *ev = &e->s->ev;

	/* Both: it has changed, and is being written since. */
	if ((events & WATCH_WRITING) && !e->timer)
		e->timer = loop_timer_new(e->s->env.loop, on_silence, e);
	if (!(events & WATCH_WRITING) || !e->timer) {
		check_forced(e);
		return;
	}
	loop_timer_set(e->timer, WRITING_MS);
	if (e->wait_ms && clock_mono_ms() - e->wait_ms >= WRITING_MS)
		check_request(e); /* a writer without an end: the name is shown all the same */
	if (e->writing)
		return;
	e->writing = true;
	if (e->present)
		ev->writing(ev->arg, e->name);
	else
		check_request(e);
}

static void on_directory(unsigned events, const char *name, void *arg)
{
	struct dirstore *s = arg;
	struct entry *e;

	if (!name || (events & WATCH_OVERFLOW)) {
		scan_request(s);
	} else if (store_directory_shows(name)) {
		e = entry_get(s, name);
		if (e)
			on_event(e, events);
	}
}

/* --- In the loop's thread: scans --- */

static void tell_ready(struct dirstore *s, int code)
{
	struct error err = ERROR_INIT;

	if (s->ready)
		return;
	s->ready = true;
	if (code == EDEADLK)
		(void)error_set(&err, code, "%s: lies on this mount itself", s->path);
	else if (code == ETIMEDOUT)
		(void)error_set(&err, code, "%s: no answer within %lld ms", s->path,
		                (long long)s->env.wait_ms);
	else if (code != 0)
		(void)error_set(&err, code, "%s: %s", s->path, strerror(code));
	s->ev.ready(s->ev.arg, code != 0 ? &err : NULL);
}

/* Tells the difference between what was known and a complete listing. */
static void scan_diff(struct dirstore *s, const struct scan *sc)
{
	const struct look nothing = { 0 };
	struct slice key;
	size_t pos = 0;
	void *value;

	for (size_t i = 0; i < sc->n; i++) {
		struct entry *e = entry_get(s, sc->items[i].name);

		if (!e)
			continue;
		e->seen = s->scan_no;
		if (e->job || e->checked == s->scan_no)
			continue;
		e->doubtful = sc->items[i].look.link && !sc->items[i].look.local;
		if (sc->items[i].look.err == 0)
			entry_watch(e, &sc->items[i].look);
		entry_tell(e, &sc->items[i].look, e->force);
		e->force = false;
	}
	while (strmap_next(s->entries, &pos, &key, &value)) {
		struct entry *e = value;

		if (e->seen != s->scan_no && !e->job && e->checked != s->scan_no) {
			entry_watch(e, &nothing);
			entry_tell(e, &nothing, false);
		}
		entry_settle(e);
	}
}

/* Watches the directory where it may. True: the watch is new, and asks for a listing when it sees. */
static bool watch_directory(struct dirstore *s, bool local)
{
	if (!s->env.watcher || (local && s->watch))
		return false;
	if (!local) {
		watch_free(s->watch);
		s->watch = NULL;
		return false;
	}
	s->watch = watch_dir(s->env.watcher, s->path, on_directory, s);
	return s->watch;
}

static void scan_start(struct dirstore *s, bool list);

static void scan_done(int result, void *arg)
{
	struct scan *sc = arg;
	struct dirstore *s = sc->s;
	bool again;

	s->scan_job = NULL;
	if (result < 0) {
		s->broken = true;
		s->place = POOL_DOUBTFUL;
		tell_ready(s, result == -EBUSY ? ETIMEDOUT : -result);
	} else {
		s->place = sc->local ? POOL_LOCAL : POOL_DOUBTFUL;
		again = watch_directory(s, sc->local);
		if (!sc->list && sc->err == 0) {
			if (!again)
				scan_start(s, true);
			return;
		}
		s->broken = sc->err != 0;
		if (sc->err == 0 || sc->err == ENOENT || sc->err == ENOTDIR)
			scan_diff(s, sc);
		tell_ready(s, sc->err);
	}
	if (s->scan_again)
		scan_start(s, true);
	else
		set_poll(s);
}

static void scan_start(struct dirstore *s, bool list)
{
	struct scan *sc = calloc(1, sizeof(*sc));

	s->scan_again = false;
	s->scan_no++;
	if (sc)
		sc->path = strdup(s->path);
	if (sc && sc->path) {
		sc->s = s;
		sc->list = list;
		s->scan_job = pool_submit(s->env.pool, scan_work, scan_done, scan_free, sc, s->env.wait_ms,
		                          sc->path, s->place);
	}
	if (s->scan_job)
		return;
	if (sc)
		scan_free(sc);
	want_retry(s);
}

static void scan_request(struct dirstore *s)
{
	if (s->scan_job)
		s->scan_again = true;
	else
		scan_start(s, true);
}

static void on_poll(void *arg)
{
	scan_request(arg);
}

/* --- The store --- */

static int directory_start(struct store *store, const struct store_events *ev)
{
	struct dirstore *s = (struct dirstore *)store;

	s->ev = *ev;
	/* The watch comes before the listing, so that nothing is missed between them; and before the
	 * watch must be known that it doesn't block. */
	scan_start(s, !s->env.watcher);
	if (s->scan_job)
		return 0;
	loop_timer_stop(s->poll);
	return -ENOMEM;
}

static void load_done(int result, void *arg)
{
	struct store_load *l = arg;
	struct dirstore *s = l->s;
	struct stored *stored;
	struct error err = ERROR_INIT;
	struct entry *e;

	if (result < 0) {
		if (result == -EBUSY)
			(void)error_set(&err, ETIMEDOUT, "still no answer");
		else
			(void)error_set(&err, -result, "no answer within %lld ms", (long long)s->env.wait_ms);
		e = strmap_get(s->entries, slice_str(l->name));
		if (e)
			e->doubtful = true;
		l->done(l->arg, NULL, &err);
		return;
	}
	e = strmap_get(s->entries, slice_str(l->name));
	if (l->stored)
		l->stored->watched = s->watch && watch_sees(s->watch) && !s->broken && e && e->present && !e->link;
	if (e && e->present && l->err.code == ENOENT) {
		/* Gone, and nobody has said so yet; or back already, and then it is to be loaded. */
		e->force = true;
		check_request(e);
	}
	stored = l->stored;
	l->stored = NULL;
	l->done(l->arg, stored, stored ? NULL : &l->err);
}

static struct store_load *directory_load(struct store *store, const char *name,
                                         void (*done)(void *arg, struct stored *stored,
                                                      const struct error *err),
                                         void *arg)
{
	struct dirstore *s = (struct dirstore *)store;
	struct store_load *l = calloc(1, sizeof(*l));
	const struct entry *e;

	if (!l)
		return NULL;
	if (asprintf(&l->path, "%s/%s", s->path, name) < 0)
		l->path = NULL;
	if (l->path) {
		l->s = s;
		l->done = done;
		l->arg = arg;
		l->name = l->path + strlen(s->path) + 1;
		e = strmap_get(s->entries, slice_str(name));
		l->job = pool_submit(s->env.pool, load_work, load_done, load_free, l, s->env.wait_ms, l->path,
		                     e ? entry_place(e) : s->place);
	}
	if (l->path && l->job)
		return l;
	load_free(l);
	return NULL;
}

static void directory_cancel(struct store *store, struct store_load *load)
{
	(void)store;
	pool_cancel(load->job);
}

static void directory_close(struct store *store)
{
	struct dirstore *s = (struct dirstore *)store;

	if (s->scan_job)
		pool_cancel(s->scan_job);
	watch_free(s->watch);
	loop_timer_free(s->poll);
	strmap_free(s->entries, entry_free);
	free(s->path);
	free(s);
}

static const struct store_ops directory_ops = {
	.name = "directory",
	.start = directory_start,
	.load = directory_load,
	.cancel = directory_cancel,
	.close = directory_close,
};

bool store_directory_shows(const char *name)
{
	if (name[0] == '.' || name[0] == '#')
		return false;
	return has_suffix(name, ".properties") || has_suffix(name, ".json");
}

/* Absolute, since the daemon goes to / later. */
static char *absolute(const char *path)
{
	char *cwd, *s;

	if (path[0] == '/')
		return strdup(path);
	cwd = getcwd(NULL, 0);
	if (!cwd || asprintf(&s, "%s/%s", cwd, path) < 0)
		s = NULL;
	free(cwd);
	return s;
}

int store_directory_open(const struct store_env *env, const char *path, struct store **ret,
                         struct error *ret_err)
{
	struct dirstore *s;

	if (path[0] == '\0')
		return error_set(ret_err, EINVAL, "the directory of the stored configs has no name");
	s = calloc(1, sizeof(*s));
	if (!s)
		return error_set(ret_err, ENOMEM, "out of memory");
	s->store.ops = &directory_ops;
	s->env = *env;
	s->place = POOL_UNKNOWN;
	s->entries = strmap_new();
	s->path = absolute(path);
	s->poll = loop_timer_new(env->loop, on_poll, s);
	if (!s->entries || !s->path || !s->poll) {
		directory_close(&s->store);
		return error_set(ret_err, ENOMEM, "out of memory");
	}
	*ret = &s->store;
	return 0;
}
