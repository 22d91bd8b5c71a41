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
#include "fs/handles.h"
#include "fs/open.h"

enum {
	CONTENT_MAX = 256 * 1024 * 1024, /* a status of a hundred thousand connectors */
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

struct content {
	char *data;
	size_t len;
};

static void content_free(void *data)
{
	struct content *c = data;

	free(c->data);
	free(c);
}

/* Answers an open with what is in b, and empties b. */
static void answer_content(struct fs *fs, fuse_req_t req, uint64_t ino, uint64_t unique,
                           struct fuse_file_info *fi, struct buf *b)
{
	struct content *c = malloc(sizeof *c);
	int err = -ENOMEM;

	if (c) {
		c->data = buf_steal(b, &c->len);
		err = c->data ? handles_add(fs->handles, ino, unique, c, content_free, 0, clock_mono_ms())
		              : -ENOMEM;
		if (err)
			content_free(c);
	}
	buf_free(b);
	if (err) {
		fuse_reply_err(req, -err);
		return;
	}
	fi->fh = unique;
	fi->direct_io = 1;
	fi->noflush = 1;
	if (fuse_reply_open(req, fi) < 0)
		handles_drop(fs->handles, ino, unique);
}

/* Event thread. */
static void make_content(void *arg)
{
	struct parked *p = arg;
	struct buf b;
	int err;

	if (parked_claim(p)) {
		buf_init(&b, CONTENT_MAX);
		err = p->ino == FS_INO_STATUS ? engine_status_json(p->fs->engine, &b)
		                              : engine_metrics(p->fs->engine, &b);
		if (err) {
			buf_free(&b);
			fuse_reply_err(p->req, -err);
		} else {
			answer_content(p->fs, p->req, p->ino, p->unique, &p->fi, &b);
		}
	}
	parked_free(p);
}

void control_read(struct fs *fs, fuse_req_t req, uint64_t ino, size_t size, off_t off, uint64_t fh)
{
	struct handle *handle = handles_get(fs->handles, ino, fh, 0);
	const struct content *c;
	size_t pos = (size_t)off;

	if (!handle || ino == FS_INO_REFRESH) {
		if (handle)
			handle_unref(handle);
		fuse_reply_err(req, EBADF);
		return;
	}
	c = handle_data(handle);
	if (pos >= c->len)
		fuse_reply_buf(req, NULL, 0);
	else
		fuse_reply_buf(req, c->data + pos, size < c->len - pos ? size : c->len - pos);
	handle_unref(handle);
}

/* ---- refresh ---- */

/* An open refresh: the line that has begun, over the writes of the descriptor. */
struct lines {
	pthread_mutex_t lock;
	size_t len;
	char rest[LINE_MAX_LEN];
};

static void lines_free(void *data)
{
	struct lines *l = data;

	pthread_mutex_destroy(&l->lock);
	free(l);
}

static void open_refresh(struct fs *fs, fuse_req_t req, struct fuse_file_info *fi)
{
	uint64_t unique = fs_current_unique();
	struct lines *l;
	int err;

	if (!node_is_owner(fs, req) || (fi->flags & O_ACCMODE) != O_WRONLY) {
		fuse_reply_err(req, EACCES);
		return;
	}
	l = malloc(sizeof *l);
	if (!l) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	pthread_mutex_init(&l->lock, NULL);
	l->len = 0;
	err = handles_add(fs->handles, FS_INO_REFRESH, unique, l, lines_free, 0, clock_mono_ms());
	if (err) {
		lines_free(l);
		fuse_reply_err(req, -err);
		return;
	}
	fi->fh = unique;
	fi->direct_io = 1;
	fi->noflush = 0; /* a last line without its end is taken when it is closed */
	if (fuse_reply_open(req, fi) < 0)
		handles_drop(fs->handles, FS_INO_REFRESH, unique);
}

/* Event thread: one line after another; the first error is the answer. */
static void do_refresh(void *arg)
{
	struct parked *p = arg;
	int err = 0;

	if (parked_claim(p)) {
		for (size_t pos = 0; pos < p->text_len; pos += strlen(p->text + pos) + 1) {
			int e = engine_refresh(p->fs->engine, p->text + pos);

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
	struct handle *handle = handles_get(fs->handles, ino, fi->fh, 0);
	struct parked *p = NULL;
	struct lines *l;
	int err = 0;

	if (!handle) {
		fuse_reply_err(req, EBADF);
		return;
	}
	if (size > CONTROL_WRITE_MAX)
		err = -EFBIG;
	else if (!(p = parked_new(fs, req, ino, fi)) || !(p->text = malloc(LINE_MAX_LEN + size + 1)))
		err = -ENOMEM;
	if (!err) {
		l = handle_data(handle);
		pthread_mutex_lock(&l->lock);
		err = take_lines(l, data, size, p->text, &p->text_len);
		pthread_mutex_unlock(&l->lock);
	}
	handle_unref(handle);
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
	l = handle_data(handle);
	pthread_mutex_lock(&l->lock);
	if (l->len > 0) {
		p = parked_new(fs, req, ino, fi);
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
	struct buf b;

	if (ino == FS_INO_REFRESH) {
		open_refresh(fs, req, fi);
		return;
	}
	if ((fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC) {
		fuse_reply_err(req, EROFS);
		return;
	}
	if (ino == FS_INO_VERSION) {
		buf_init(&b, 256);
		buf_addf(&b, "%s\n", PACKAGE_STRING);
		answer_content(fs, req, ino, fs_current_unique(), fi, &b);
		return;
	}
	p = parked_new(fs, req, ino, fi);
	if (!p)
		fuse_reply_err(req, ENOMEM);
	else
		parked_post(p, make_content);
}
