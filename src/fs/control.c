/*
 * The files of .connectfs/. What they show is fixed at open; status.json and metrics are made by the event
 * thread, which owns what they tell.
 */
#include "config.h"

#include "fs/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/keep.h"
#include "base/strmap.h"
#include "fs/handles.h"
#include "fs/journal.h"
#include "fs/open.h"

enum {
	CONTENT_MAX = 256 * 1024 * 1024, /* a status of a hundred thousand connectors */
	CONTENT_SHARED_MS = 100,         /* how old a status a stranger may get, … */
	CONTENT_SHARED_TIMES = 10,       /* … and by how many times as long as it took: that much of the event thread they
	                                  * leave to others */
	CONTENTS_MAX = 8,                /* of one file; then strangers' opens are answered EAGAIN, */
	CONTENTS_OWNER_MAX = 64,         /* and then the owner's */
	LINE_MAX_LEN = 4096,             /* to refresh, longer than any name */
};

static const struct {
	const char *name;
	uint64_t ino;
} files[] = {
	{ "status.json", FS_INO_STATUS },
	{ "metrics", FS_INO_METRICS },
	{ "version", FS_INO_VERSION },
	{ "refresh", FS_INO_REFRESH },
};

bool control_is_ino(uint64_t ino)
{
	return ino >= FS_INO_STATUS && ino < FS_INO_END;
}

const char *control_file(size_t i, uint64_t *ret_ino)
{
	if (i >= sizeof files / sizeof *files)
		return NULL;
	*ret_ino = files[i].ino;
	return files[i].name;
}

uint64_t control_find(const char *name)
{
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		if (strcmp(files[i].name, name) == 0)
			return files[i].ino;
	}
	return 0;
}

void control_attr(struct fs *fs, uint64_t ino, struct stat *ret)
{
	(void)fs;
	if (ino == FS_INO_CONTROL) {
		ret->st_mode = S_IFDIR | 0755;
		ret->st_nlink = 2;
	} else {
		ret->st_mode = S_IFREG | (ino == FS_INO_REFRESH ? 0200 : 0444);
	}
}

/* ---- reading ---- */

/*
 * What an open descriptor shows. Whoever can enter the mount can open status.json as often as they like,
 * and it is long: so those who came before it was made share it, strangers also one that was made a
 * moment ago, and only so many may live.
 */
struct content {
	atomic_uint refs;
	atomic_uint *alive; /* of its file, and counted there */
	int64_t made_ns;    /* when its making began */
	int64_t shared_ns;  /* strangers share it for so long from then on */
	struct keep *keep;  /* in which data lies, so that it is read to its end by whoever serves then; NULL: malloc'ed */
	char *data;
	size_t len;
	struct content *next; /* of contents.restored */
};

struct contents {
	struct {
		struct content *newest; /* event thread */
		atomic_uint alive;
	} of[2]; /* status.json, metrics */
	struct loop_timer *forget;
	struct content *restored; /* while we take over */
};

/* An open status.json or metrics. */
struct open_content {
	struct handle handle;
	struct content *content;
	struct kept_handle *kept; /* where content lies in the keep */
};

/* Its place in contents.of. */
static size_t file_of(uint64_t ino)
{
	return ino == FS_INO_STATUS ? 0 : 1;
}

static struct open_content *open_content_of(struct handle *handle)
{
	return list_entry(handle, struct open_content, handle);
}

static void content_unref(struct content *c)
{
	if (!c || atomic_fetch_sub(&c->refs, 1) != 1)
		return;
	atomic_fetch_sub(c->alive, 1);
	if (c->keep)
		keep_free(c->keep, c->data);
	else
		free(c->data);
	free(c);
}

/* Moves what it shows into the keep, where there is room. */
static void keep_content(struct content *c, struct keep *keep)
{
	char *kept = keep ? keep_alloc(keep, c->len) : NULL;

	if (!kept)
		return;
	memcpy(kept, c->data, c->len);
	keep_commit(keep, kept, KEEP_CONTENT);
	free(c->data);
	c->data = kept;
	c->keep = keep;
}

/* Takes what is in b, and empties it. NULL: out of memory. */
static struct content *content_new(struct fs *fs, struct buf *b, int64_t made_ns, atomic_uint *alive)
{
	struct content *c = malloc(sizeof *c);

	if (c) {
		*c = (struct content){ .alive = alive, .made_ns = made_ns };
		atomic_init(&c->refs, 1);
		atomic_fetch_add(alive, 1);
		c->data = buf_steal(b, &c->len);
		if (!c->data) {
			content_unref(c);
			c = NULL;
		} else {
			keep_content(c, engine_keep(fs->engine));
		}
	}
	buf_free(b);
	return c;
}

static void open_content_release(struct handle *handle)
{
	struct open_content *o = open_content_of(handle);

	content_unref(o->content);
	free(o);
}

static void forget_newest(struct contents *all, size_t i)
{
	content_unref(all->of[i].newest);
	all->of[i].newest = NULL;
}

/* Those that strangers share no longer; and waits for the others. */
static void forget_old(void *arg)
{
	struct contents *all = arg;
	int64_t now = clock_mono_ns(), left, next = 0;

	for (size_t i = 0; i < sizeof all->of / sizeof *all->of; i++) {
		if (!all->of[i].newest)
			continue;
		left = all->of[i].newest->made_ns + all->of[i].newest->shared_ns - now;
		if (left <= 0)
			forget_newest(all, i);
		else if (!next || left < next)
			next = left;
	}
	if (next)
		loop_timer_set(all->forget, next / 1000000 + 1);
}

int control_new(struct fs *fs)
{
	fs->contents = calloc(1, sizeof *fs->contents);
	if (!fs->contents)
		return -ENOMEM;
	fs->contents->forget = loop_timer_new(fs->loop, forget_old, fs->contents);
	return fs->contents->forget ? 0 : -ENOMEM;
}

void control_free(struct fs *fs)
{
	if (!fs->contents)
		return;
	for (size_t i = 0; i < sizeof fs->contents->of / sizeof *fs->contents->of; i++)
		forget_newest(fs->contents, i);
	loop_timer_free(fs->contents->forget);
	free(fs->contents);
}

/* Answers an open with c, whose reference it takes. */
static void answer_content(struct fs *fs, fuse_req_t req, uint64_t ino, uint64_t unique,
                           struct fuse_file_info *fi, struct content *c)
{
	struct open_content *o = c ? malloc(sizeof *o) : NULL;

	if (!o) {
		content_unref(c);
		fuse_reply_err(req, ENOMEM);
		return;
	}
	o->content = c;
	o->kept = c->keep ? open_keep_handle(c->keep, ino, unique, keep_place(c->keep, c->data), keep_seq(c->data)) : NULL;
	handles_add(fs->handles, ino, unique, &o->handle, open_content_release, 0, clock_mono_ms());
	fi->fh = unique;
	fi->direct_io = 1;
	fi->noflush = 1;
	if (fuse_reply_open(req, fi) < 0)
		control_dropped(fs, ino, unique);
}

void control_dropped(struct fs *fs, uint64_t ino, uint64_t unique)
{
	struct handle *handle = handles_take(fs->handles, ino, unique);
	struct open_content *o;

	if (!handle)
		return;
	if (ino != FS_INO_REFRESH) { /* as of a connector's file: see open_dropped */
		o = open_content_of(handle);
		if (o->kept)
			keep_free(o->content->keep, o->kept);
		o->kept = NULL;
	}
	handle_unref(handle);
}

/* ---- taking over ---- */

/* The content that lies there; made of it where it is the first that is asked for. */
static struct content *restored_content(struct fs *fs, uint64_t ino, char *data)
{
	struct contents *all = fs->contents;
	struct content *c = all->restored;

	while (c && c->data != data)
		c = c->next;
	if (c) {
		atomic_fetch_add(&c->refs, 1);
		return c;
	}
	c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	*c = (struct content){ .keep = engine_keep(fs->engine), .data = data, .len = keep_size(data), .next = all->restored };
	atomic_init(&c->refs, 1);
	c->alive = &all->of[file_of(ino)].alive;
	atomic_fetch_add(c->alive, 1);
	all->restored = c;
	return c;
}

bool control_restore(struct fs *fs, struct kept_handle *h)
{
	struct keep *keep = engine_keep(fs->engine);
	char *data = keep_find(keep, h->place, h->seq, KEEP_CONTENT);
	bool known = h->ino == FS_INO_STATUS || h->ino == FS_INO_METRICS;
	struct open_content *o = data && known ? calloc(1, sizeof *o) : NULL;

	if (!o)
		return false;
	o->content = restored_content(fs, h->ino, data);
	if (!o->content) {
		free(o);
		return false;
	}
	o->kept = h;
	handles_add(fs->handles, h->ino, h->unique, &o->handle, open_content_release, 0, clock_mono_ms());
	return true;
}

static void drop_unread(void *arg, void *block)
{
	struct fs *fs = arg;
	const struct content *c = fs->contents->restored;

	while (c && c->data != block)
		c = c->next;
	if (!c)
		keep_free(engine_keep(fs->engine), block);
}

void control_restored(struct fs *fs)
{
	keep_each(engine_keep(fs->engine), KEEP_CONTENT, drop_unread, fs);
	fs->contents->restored = NULL;
}

/* ---- making it ---- */

/* What p is to show: a reference. Event thread. */
static int content_for(struct parked *p, struct content **ret)
{
	struct contents *all = p->fs->contents;
	size_t i = file_of(p->ino);
	struct content *newest = all->of[i].newest;
	bool owner = node_is_owner(p->fs, p->req);
	int64_t now = clock_mono_ns();
	struct buf b;
	int err;

	/* A stranger must not keep what was made for the owner either, one after another. */
	if (atomic_load(&all->of[i].alive) >= (owner ? CONTENTS_OWNER_MAX : CONTENTS_MAX) &&
	    (!owner || !newest || newest->made_ns < p->since_ns))
		return -EAGAIN;
	if (newest && newest->made_ns >= (owner ? p->since_ns : p->since_ns - newest->shared_ns)) {
		atomic_fetch_add(&newest->refs, 1);
		*ret = newest;
		return 0;
	}
	buf_init(&b, CONTENT_MAX);
	err = i == 0 ? engine_status_json(p->fs->engine, &b) : engine_metrics(p->fs->engine, &b);
	if (err) {
		buf_free(&b);
		return err;
	}
	*ret = content_new(p->fs, &b, now, &all->of[i].alive);
	if (!*ret)
		return -ENOMEM;
	(*ret)->shared_ns = CONTENT_SHARED_MS * 1000000LL + CONTENT_SHARED_TIMES * (clock_mono_ns() - now);
	content_unref(newest);
	atomic_fetch_add(&(*ret)->refs, 1);
	all->of[i].newest = *ret;
	if (!loop_timer_armed(all->forget))
		loop_timer_set(all->forget, CONTENT_SHARED_MS);
	return 0;
}

/* Event thread. */
static void make_content(void *arg)
{
	struct parked *p = arg;
	struct content *c = NULL;
	int err;

	if (parked_claim(p)) {
		err = content_for(p, &c);
		if (err)
			fuse_reply_err(p->req, -err);
		else
			answer_content(p->fs, p->req, p->ino, p->unique, &p->fi, c);
	}
	parked_free(p);
}

static void reply_piece(fuse_req_t req, const char *data, size_t len, size_t size, size_t pos)
{
	if (pos >= len)
		fuse_reply_buf(req, NULL, 0);
	else
		fuse_reply_buf(req, data + pos, size < len - pos ? size : len - pos);
}

void control_read(struct fs *fs, fuse_req_t req, uint64_t ino, size_t size, off_t off, uint64_t fh)
{
	static const char version[] = PACKAGE_STRING "\n";
	struct handle *handle;
	const struct content *c;

	if (ino == FS_INO_VERSION) {
		reply_piece(req, version, sizeof version - 1, size, (size_t)off);
		return;
	}
	handle = handles_get(fs->handles, ino, fh, 0);
	if (!handle || ino == FS_INO_REFRESH) {
		if (handle)
			handle_unref(handle);
		fuse_reply_err(req, EBADF);
		return;
	}
	c = open_content_of(handle)->content;
	reply_piece(req, c->data, c->len, size, (size_t)off);
	handle_unref(handle);
}

/* ---- refresh ---- */

#define REFRESH_LEASES "leases/" /* before a name: leased secrets too. No name has a slash */

/* An open refresh: the line that has begun, over the writes of the descriptor. */
struct lines {
	struct handle handle;
	pthread_mutex_t lock;
	size_t len;
	char rest[LINE_MAX_LEN];
};

static struct lines *lines_of(struct handle *handle)
{
	return list_entry(handle, struct lines, handle);
}

static void lines_release(struct handle *handle)
{
	struct lines *l = lines_of(handle);

	pthread_mutex_destroy(&l->lock);
	free(l);
}

static struct lines *lines_new(void)
{
	struct lines *l = malloc(sizeof *l);

	if (l) {
		pthread_mutex_init(&l->lock, NULL);
		l->len = 0;
	}
	return l;
}

/* That of an open descriptor. Of one that was opened with a predecessor, it is made anew: a line that had
 * been begun is lost. */
static struct handle *lines_handle(struct fs *fs, uint64_t unique)
{
	struct handle *handle = handles_get(fs->handles, FS_INO_REFRESH, unique, 0);
	struct lines *l;

	if (handle || !journal_is_successor(fs->journal) || !(l = lines_new()))
		return handle;
	handles_add(fs->handles, FS_INO_REFRESH, unique, &l->handle, lines_release, 0, clock_mono_ms());
	return handles_get(fs->handles, FS_INO_REFRESH, unique, 0);
}

static void open_refresh(struct fs *fs, fuse_req_t req, struct fuse_file_info *fi)
{
	uint64_t unique = fs_current_unique();
	struct lines *l;

	if (!node_is_owner(fs, req) || (fi->flags & O_ACCMODE) != O_WRONLY) {
		fuse_reply_err(req, EACCES);
		return;
	}
	l = lines_new();
	if (!l) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	handles_add(fs->handles, FS_INO_REFRESH, unique, &l->handle, lines_release, 0, clock_mono_ms());
	fi->fh = unique;
	fi->direct_io = 1;
	fi->noflush = 0; /* a last line without its end is taken when it is closed */
	if (fuse_reply_open(req, fi) < 0)
		handles_drop(fs->handles, FS_INO_REFRESH, unique);
}

/* Leaves each line once: a write of thousands of "*" is none of the event thread's business. */
static int drop_repeated(struct parked *p)
{
	struct strmap *seen = strmap_new();
	size_t kept = 0, n;
	int err = seen ? 0 : -ENOMEM;

	for (size_t pos = 0; !err && pos < p->text_len; pos += n) {
		struct slice line = slice_str(p->text + pos);

		n = line.len + 1;
		if (strmap_get(seen, line))
			continue;
		err = strmap_put(seen, line, p, NULL) < 0 ? -ENOMEM : 0;
		memmove(p->text + kept, p->text + pos, n);
		kept += n;
	}
	strmap_free(seen, NULL);
	p->text_len = kept;
	return err;
}

/* Event thread: one line after another; the first error is the answer. */
static void do_refresh(void *arg)
{
	struct parked *p = arg;
	int err = 0;

	if (parked_claim(p)) {
		for (size_t pos = 0; pos < p->text_len; pos += strlen(p->text + pos) + 1) {
			const char *line = p->text + pos;
			bool leases = strncmp(line, REFRESH_LEASES, strlen(REFRESH_LEASES)) == 0;
			int e = engine_refresh(p->fs->engine, line + (leases ? strlen(REFRESH_LEASES) : 0), leases);

			if (!err)
				err = e;
		}
		if (err)
			fuse_reply_err(p->req, -err);
		else if (p->written)
			fuse_reply_write(p->req, p->written);
		else
			fuse_reply_err(p->req, 0); /* a FLUSH */
	}
	parked_free(p);
}

/* Adds the line of the two parts to text, unless it is empty. */
static size_t add_line(char *text, size_t len, const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t n = a_len + b_len;

	memcpy(text + len, a, a_len);
	if (b_len)
		memcpy(text + len + a_len, b, b_len);
	if (n > 0 && text[len + n - 1] == '\r')
		n--;
	if (n == 0)
		return len;
	text[len + n] = '\0';
	return len + n + 1;
}

/*
 * Takes the lines that data ends: into text, which has room for all, NUL-terminated. What begins and
 * isn't ended stays in l. -EINVAL, and nothing taken, for a NUL or a line that is no name.
 */
static int take_lines(struct lines *l, const char *data, size_t size, char *text, size_t *ret_len)
{
	size_t len = 0, kept = l->len;
	const char *end;

	if (memchr(data, '\0', size))
		return -EINVAL;
	while ((end = memchr(data, '\n', size))) {
		size_t n = (size_t)(end - data);

		len = add_line(text, len, l->rest, kept, data, n);
		kept = 0;
		data += n + 1;
		size -= n + 1;
	}
	if (kept + size > sizeof l->rest)
		return -EINVAL;
	memcpy(l->rest + kept, data, size);
	l->len = kept + size;
	*ret_len = len;
	return 0;
}

void control_write(struct fs *fs, fuse_req_t req, uint64_t ino, const char *data, size_t size,
                   struct fuse_file_info *fi)
{
	struct handle *handle = lines_handle(fs, fi->fh);
	struct parked *p = NULL;
	struct lines *l;
	int err = 0;

	if (!handle) {
		fuse_reply_err(req, EBADF);
		return;
	}
	if (size > CONTROL_WRITE_MAX)
		err = -EFBIG;
	else if (!(p = parked_new(fs, req, ino, fi, clock_mono_ns())) || !(p->text = malloc(LINE_MAX_LEN + size + 1)))
		err = -ENOMEM;
	if (!err) {
		l = lines_of(handle);
		pthread_mutex_lock(&l->lock);
		err = take_lines(l, data, size, p->text, &p->text_len);
		pthread_mutex_unlock(&l->lock);
	}
	handle_unref(handle);
	if (!err)
		err = drop_repeated(p);
	if (!err && p->text_len > 0) {
		p->written = size;
		parked_post(p, do_refresh);
		return;
	}
	if (p)
		parked_free(p);
	if (err)
		fuse_reply_err(req, -err);
	else
		fuse_reply_write(req, size);
}

void control_flush(struct fs *fs, fuse_req_t req, uint64_t ino, struct fuse_file_info *fi)
{
	struct handle *handle = ino == FS_INO_REFRESH ? handles_get(fs->handles, ino, fi->fh, 0) : NULL;
	struct parked *p = NULL;
	struct lines *l;
	int err = 0;

	if (!handle) {
		fuse_reply_err(req, 0);
		return;
	}
	l = lines_of(handle);
	pthread_mutex_lock(&l->lock);
	if (l->len > 0) {
		p = parked_new(fs, req, ino, fi, clock_mono_ns());
		if (!p || !(p->text = malloc(l->len + 1)))
			err = ENOMEM;
		else
			p->text_len = add_line(p->text, 0, l->rest, l->len, NULL, 0);
		l->len = 0;
	}
	pthread_mutex_unlock(&l->lock);
	handle_unref(handle);
	if (!err && p) {
		parked_post(p, do_refresh);
		return;
	}
	if (p)
		parked_free(p);
	fuse_reply_err(req, err);
}

void control_open(struct fs *fs, fuse_req_t req, uint64_t ino, struct fuse_file_info *fi)
{
	struct parked *p;

	if (journal_is_successor(fs->journal) && ino != FS_INO_REFRESH && open_repeat_answer(fs, req, ino, fi))
		return;
	if (ino == FS_INO_REFRESH) {
		open_refresh(fs, req, fi);
		return;
	}
	if ((fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC) {
		fuse_reply_err(req, EROFS);
		return;
	}
	if (ino == FS_INO_VERSION) {
		fi->direct_io = 1;
		fi->noflush = 1;
		fuse_reply_open(req, fi); /* it is the same for all: there is nothing to be held */
		return;
	}
	p = parked_new(fs, req, ino, fi, clock_mono_ns());
	if (!p)
		fuse_reply_err(req, ENOMEM);
	else
		parked_post(p, make_content);
}
