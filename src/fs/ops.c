/*
 * The FUSE operations. Nothing but open waits. FORGET has no handler: node ids are hashes and
 * hold nothing. Every operation that would change something answers EROFS, except what the
 * notifier was told and writing to .connectfs/refresh.
 */
#include "fs/node.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/strmap.h"
#include "core/snapshot.h"
#include "fs/control.h"
#include "fs/handles.h"
#include "fs/notify.h"
#include "fs/open.h"

#define XATTR_PREFIX "user.connectfs."

enum {
	XATTR_MAX = 64 * 1024,  /* XATTR_SIZE_MAX: more the kernel does not take */
	DIR_FIRST = 3,          /* "." and ".." and .connectfs come before the connectors */
};

static struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* ---- looking ---- */

#define INIT_ON (FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS | FUSE_CAP_EXPLICIT_INVAL_DATA | \
                 FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC)
/* No pipes: a secret in one is one more copy. */
#define INIT_OFF (FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | \
                  FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_READDIRPLUS_AUTO | \
                  FUSE_CAP_EXPORT_SUPPORT)

uint64_t fs_init_number(void)
{
	/* libfuse answers as well, each version in its own way. */
	const uint64_t all[] = { (uint64_t)fuse_version(), FS_MAX_WRITE, INIT_ON, INIT_OFF };

	return hash_bytes(all, sizeof all);
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct fs *fs = userdata;

	conn->max_write = FS_MAX_WRITE;
	conn->want = (conn->want & ~(unsigned)INIT_OFF) | (conn->capable & INIT_ON);
	atomic_store(&fs->inited, true);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry;
	int err = node_lookup(fs_of(req), parent, name, &entry);

	if (err)
		fuse_reply_err(req, -err); /* never cached: a new name is announced by MKNOD */
	else
		fuse_reply_entry(req, &entry);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;
	double timeout;
	int err = node_attr(fs_of(req), ino, &st, &timeout);

	(void)fi;
	if (err)
		fuse_reply_err(req, -err);
	else
		fuse_reply_attr(req, &st, timeout);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct listing *list = catalog_list(fs_of(req)->catalog);
	struct statvfs st = { .f_bsize = 4096, .f_frsize = 4096, .f_namemax = FS_NAME_MAX };

	(void)ino;
	st.f_files = FS_INO_END - 1 + (list ? list->len : 0);
	listing_unref(list);
	fuse_reply_statfs(req, &st);
}

/* ---- directories ---- */

/* An open root directory. */
struct open_dir {
	struct handle handle;
	struct listing *list;
};

static struct open_dir *dir_of(struct handle *handle)
{
	return list_entry(handle, struct open_dir, handle);
}

static void dir_release(struct handle *handle)
{
	struct open_dir *d = dir_of(handle);

	listing_unref(d->list);
	free(d);
}

static int dir_add(struct fs *fs, uint64_t unique)
{
	struct open_dir *d = malloc(sizeof *d);

	if (!d || !(d->list = catalog_list(fs->catalog))) {
		free(d);
		return -ENOMEM;
	}
	handles_add(fs->handles, FS_INO_ROOT, unique, &d->handle, dir_release, 0, 0);
	return 0;
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	uint64_t unique = fs_current_unique();

	if (ino != FS_INO_ROOT && ino != FS_INO_CONTROL) {
		fuse_reply_err(req, ino < FS_INO_END ? ENOTDIR : ESTALE);
		return;
	}
	fi->fh = unique;
	if (ino == FS_INO_ROOT && dir_add(fs, unique)) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	if (fuse_reply_open(req, fi) < 0)
		handles_drop(fs->handles, ino, unique);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	handles_drop(fs_of(req)->handles, ino, fi->fh);
	fuse_reply_err(req, 0);
}

/* The entry at a position; its name, or NULL after the last. Of the directories "." and ".."
 * READDIRPLUS tells the kernel no node. */
static const char *dir_entry(struct fs *fs, fuse_ino_t dir, const struct listing *list, size_t pos, bool plus,
                             struct fuse_entry_param *ret)
{
	uint64_t ino;
	const char *name;

	*ret = (struct fuse_entry_param){ 0 };
	if (pos < 2) {
		ret->attr.st_ino = pos == 0 ? dir : FS_INO_ROOT;
		ret->attr.st_mode = S_IFDIR;
		return pos == 0 ? "." : "..";
	}
	if (dir == FS_INO_CONTROL) {
		name = control_file(pos - 2, &ino);
	} else if (pos < DIR_FIRST) {
		name = FS_CONTROL_NAME;
		ino = FS_INO_CONTROL;
	} else {
		if (pos - DIR_FIRST >= list->len)
			return NULL;
		struct connector *conn = list->items[pos - DIR_FIRST];

		if (plus)
			node_entry_connector(fs, conn, ret);
		ret->attr.st_ino = connector_ino(conn);
		ret->attr.st_mode = S_IFREG;
		if (plus)
			ret->attr.st_mode |= fs->config.mode;
		return connector_name(conn);
	}
	if (name) {
		ret->ino = ino;
		ret->entry_timeout = FS_LONG_TIMEOUT;
		node_attr(fs, ino, &ret->attr, &ret->attr_timeout);
	}
	return name;
}

static size_t fill_dir(struct fs *fs, fuse_req_t req, fuse_ino_t dir, const struct listing *list, off_t off,
                       bool plus, char *out, size_t size)
{
	struct fuse_entry_param entry;
	size_t used = 0, n;
	const char *name;

	for (size_t pos = (size_t)off;; pos++) {
		off_t next = (off_t)pos + 1;

		name = dir_entry(fs, dir, list, pos, plus, &entry);
		if (!name)
			return used;
		if (plus)
			n = fuse_add_direntry_plus(req, out + used, size - used, name, &entry, next);
		else
			n = fuse_add_direntry(req, out + used, size - used, name, &entry.attr, next);
		if (n > size - used)
			return used;
		used += n;
	}
}

static void read_dir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, uint64_t fh, bool plus)
{
	struct fs *fs = fs_of(req);
	struct handle *handle = ino == FS_INO_ROOT ? handles_get(fs->handles, ino, fh, 0) : NULL;
	struct listing *list = NULL, *own = NULL;
	char *out;

	if (size > FS_MAX_WRITE)
		size = FS_MAX_WRITE;
	if (handle)
		list = dir_of(handle)->list;
	else if (ino == FS_INO_ROOT)
		list = own = catalog_list(fs->catalog); /* opened with a predecessor */
	out = malloc(size ? size : 1);
	if (!out || off < 0 || (ino == FS_INO_ROOT && !list))
		fuse_reply_err(req, off < 0 ? EINVAL : ENOMEM);
	else
		fuse_reply_buf(req, out, fill_dir(fs, req, ino, list, off, plus, out, size));
	free(out);
	listing_unref(own);
	if (handle)
		handle_unref(handle);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	read_dir(req, ino, size, off, fi->fh, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	read_dir(req, ino, size, off, fi->fh, true);
}

/* ---- files ---- */

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (ino >= CONNECTOR_INO_MIN)
		open_connector(fs_of(req), req, ino, fi);
	else if (control_is_ino(ino))
		control_open(fs_of(req), req, ino, fi);
	else
		fuse_reply_err(req, ino < FS_INO_END ? EISDIR : ESTALE);
}

/*
 * The kernel gives no lock owner where it reads for its page cache, and one where it reads for a read(2)
 * (fuse_send_read, fs/fuse/file.c). direct_io keeps read(2) out of the page cache; splice and sendfile
 * go through it since Linux 6.5 (filemap_splice_read), and so does a private mmap. It is one for all
 * descriptors, so it would mix versions, and keep plaintext. EINVAL makes programs fall back from
 * splice and sendfile to read.
 */
static bool is_for_page_cache(const struct fuse_file_info *fi)
{
	return fi->lock_owner == 0;
}

static void read_connector(fuse_req_t req, const struct open_file *f, size_t size, size_t pos)
{
	struct fs *fs = fs_of(req);
	size_t len = snapshot_size(f->snapshot);

	len = pos >= len ? 0 : len - pos;
	if (len > size)
		len = size;
	atomic_fetch_add_explicit(&fs->stats->reads, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&fs->stats->read_bytes, len, memory_order_relaxed);
	fuse_reply_buf(req, len ? snapshot_data(f->snapshot) + pos : NULL, len);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct handle *handle;

	if (off < 0 || (ino >= CONNECTOR_INO_MIN && is_for_page_cache(fi))) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	if (ino < CONNECTOR_INO_MIN) {
		control_read(fs, req, ino, size, off, fi->fh);
		return;
	}
	handle = handles_get(fs->handles, ino, fi->fh, (uint64_t)off + size);
	if (!handle) {
		fuse_reply_err(req, EBADF);
		return;
	}
	read_connector(req, open_file_of(handle), size, (size_t)off);
	handle_unref(handle);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);

	if (ino >= CONNECTOR_INO_MIN)
		open_dropped(fs, ino, fi->fh);
	else
		control_dropped(fs, ino, fi->fh);
	fuse_reply_err(req, 0);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	control_flush(fs_of(req), req, ino, fi);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off,
                     struct fuse_file_info *fi)
{
	(void)off;
	if (ino == FS_INO_REFRESH)
		control_write(fs_of(req), req, ino, data, size, fi);
	else
		fuse_reply_err(req, EROFS);
}

/* ---- extended attributes ---- */

/* Answers size bytes of what is in b, or how much it is, as the two xattr calls do. */
static void reply_xattr(fuse_req_t req, int err, struct buf *b, size_t size)
{
	if (err)
		fuse_reply_err(req, err == -EFBIG ? E2BIG : -err);
	else if (size == 0)
		fuse_reply_xattr(req, b->len);
	else if (size < b->len)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, b->data, b->len);
	buf_free(b);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	const size_t prefix = sizeof XATTR_PREFIX - 1;
	struct connector *conn;
	struct buf b;
	int err;

	/* Said of any other name, so that ls asks but once. */
	if (ino < FS_INO_END || strncmp(name, XATTR_PREFIX, prefix) != 0) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	conn = catalog_find_ino(fs_of(req)->catalog, ino);
	if (!conn) {
		fuse_reply_err(req, ESTALE);
		return;
	}
	buf_init(&b, XATTR_MAX);
	err = connector_xattr(conn, name + prefix, &b);
	connector_unref(conn);
	reply_xattr(req, err, &b, size);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct connector *conn;
	struct buf b;
	int err = 0;

	buf_init(&b, XATTR_MAX);
	if (ino >= FS_INO_END) {
		conn = catalog_find_ino(fs_of(req)->catalog, ino);
		err = conn ? connector_xattr_list(conn, &b) : -ESTALE;
		connector_unref(conn);
	}
	reply_xattr(req, err, &b, size);
}

/* ---- what the notifier was told ---- */

/* Only times, and the mtime given. */
static bool is_touch(int to_set)
{
	const int times = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME;

	return (to_set & FUSE_SET_ATTR_MTIME) && !(to_set & ~times);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                       struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct connector *conn = ino >= CONNECTOR_INO_MIN ? catalog_find_ino(fs->catalog, ino) : NULL;
	struct stat st;
	double timeout;
	int err = EROFS;

	(void)fi;
	if (ino >= CONNECTOR_INO_MIN && !conn)
		err = ESTALE;
	if (conn && is_touch(to_set) && notify_is_from_notifier(fs->notify, req) &&
	    connector_touch_expected(conn, clock_from_timespec(attr->st_mtim))) {
		node_attr_connector(fs, conn, &st, &timeout);
		err = 0;
	}
	connector_unref(conn);
	/* "echo orders > refresh" */
	if (ino == FS_INO_REFRESH && (to_set & FUSE_SET_ATTR_SIZE) && attr->st_size == 0 &&
	    node_is_owner(fs, req))
		err = -node_attr(fs, ino, &st, &timeout);
	/* Never what the caller sent, and not to be kept: the touch isn't over. */
	if (err)
		fuse_reply_err(req, err);
	else
		fuse_reply_attr(req, &st, 0);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct fs *fs = fs_of(req);
	struct connector *conn = NULL;
	struct fuse_entry_param entry;

	(void)rdev;
	if (parent == FS_INO_ROOT && S_ISREG(mode) && notify_is_from_notifier(fs->notify, req))
		conn = catalog_find_appearing(fs->catalog, name);
	if (!conn) {
		fuse_reply_err(req, EROFS);
		return;
	}
	catalog_appeared(fs->catalog, conn);
	node_entry_connector(fs, conn, &entry);
	connector_unref(conn);
	fuse_reply_entry(req, &entry);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param entry;
	struct connector *conn = parent == FS_INO_ROOT ? catalog_find(fs->catalog, name) : NULL;
	int err = EROFS;

	if (conn && notify_is_from_notifier(fs->notify, req) && connector_is_vanishing(conn)) {
		catalog_vanished(fs->catalog, conn);
		err = 0;
	} else if (!conn) {
		err = node_lookup(fs, parent, name, &entry) == -ENOENT ? ENOENT : EROFS;
	}
	connector_unref(conn);
	fuse_reply_err(req, err);
}

/* ---- what nobody may ---- */

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	(void)parent, (void)name, (void)mode;
	fuse_reply_err(req, EROFS);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	(void)parent, (void)name;
	fuse_reply_err(req, EROFS);
}

static void op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
	(void)link, (void)parent, (void)name;
	fuse_reply_err(req, EROFS);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
                      const char *newname, unsigned flags)
{
	(void)parent, (void)name, (void)newparent, (void)newname, (void)flags;
	fuse_reply_err(req, EROFS);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	(void)ino, (void)newparent, (void)newname;
	fuse_reply_err(req, EROFS);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *fi)
{
	(void)parent, (void)name, (void)mode, (void)fi;
	fuse_reply_err(req, EROFS);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
                        int flags)
{
	(void)ino, (void)name, (void)value, (void)size, (void)flags;
	fuse_reply_err(req, EROFS);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	(void)ino, (void)name;
	fuse_reply_err(req, EROFS);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                         struct fuse_file_info *fi)
{
	(void)ino, (void)mode, (void)offset, (void)length, (void)fi;
	fuse_reply_err(req, EROFS);
}

static void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in,
                               fuse_ino_t ino_out, off_t off_out, struct fuse_file_info *fi_out, size_t len,
                               int flags)
{
	(void)ino_in, (void)off_in, (void)fi_in, (void)ino_out, (void)off_out, (void)fi_out;
	(void)len, (void)flags;
	fuse_reply_err(req, EROFS);
}

static void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg, struct fuse_file_info *fi,
                     unsigned flags, const void *in, size_t in_size, size_t out_size)
{
	(void)ino, (void)cmd, (void)arg, (void)fi, (void)flags, (void)in, (void)in_size, (void)out_size;
	fuse_reply_err(req, ENOTTY);
}

const struct fuse_lowlevel_ops fs_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.statfs = op_statfs,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.release = op_release,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.mknod = op_mknod,
	.unlink = op_unlink,
	.mkdir = op_mkdir,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.create = op_create,
	.setxattr = op_setxattr,
	.removexattr = op_removexattr,
	.fallocate = op_fallocate,
	.copy_file_range = op_copy_file_range,
	.ioctl = op_ioctl,
};
