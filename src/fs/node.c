/*
 * Nodes: ids, attributes and names. Nothing here waits or fetches: the kernel asks for attributes
 * before it knows whether the caller may have more.
 */
#include "fs/node.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "fs/control.h"
#include "fs/handles.h"

static void fill_common(const struct fs *fs, struct stat *st, uint64_t ino, mode_t mode, int64_t ns)
{
	*st = (struct stat){ 0 };
	st->st_ino = ino;
	st->st_mode = mode;
	st->st_nlink = 1;
	st->st_uid = fs->config.owner;
	st->st_gid = fs->config.group;
	st->st_blksize = 4096;
	st->st_mtim = st->st_ctim = st->st_atim = clock_timespec(ns);
}

void node_attr_connector(struct fs *fs, struct connector *conn, struct stat *ret, double *ret_timeout)
{
	struct connector_attr attr;
	uint64_t ino = connector_ino(conn), longest;

	connector_get_attr(conn, &attr);
	*ret_timeout = attr.cacheable ? FS_LONG_TIMEOUT : 0;
	/* The kernel doesn't say for which descriptor it asks: a reader that trusts st_size and
	 * holds the longer snapshot must not stop before its end. */
	longest = handles_longest(fs->handles, ino, clock_mono_ms());
	if (longest > attr.size) {
		attr.size = longest;
		*ret_timeout = 0;
	}
	fill_common(fs, ret, ino, S_IFREG | fs->config.mode, attr.mtime_ns);
	ret->st_size = (off_t)attr.size;
	ret->st_blocks = (blkcnt_t)((attr.size + 511) / 512);
}

static void attr_root(struct fs *fs, struct stat *ret, double *ret_timeout)
{
	fill_common(fs, ret, FS_INO_ROOT, S_IFDIR | 0755, catalog_mtime_ns(fs->catalog));
	ret->st_nlink = 3; /* "..", "." and that of .connectfs */
	*ret_timeout = FS_LONG_TIMEOUT;
}

int node_attr(struct fs *fs, uint64_t ino, struct stat *ret, double *ret_timeout)
{
	struct connector *conn;

	if (ino == FS_INO_ROOT) {
		attr_root(fs, ret, ret_timeout);
		return 0;
	}
	if (ino == FS_INO_CONTROL || control_is_ino(ino)) {
		fill_common(fs, ret, ino, 0, fs_started_ns(fs));
		control_attr(fs, ino, ret);
		*ret_timeout = FS_LONG_TIMEOUT;
		return 0;
	}
	conn = catalog_find_ino(fs->catalog, ino);
	if (!conn)
		return -ESTALE;
	node_attr_connector(fs, conn, ret, ret_timeout);
	connector_unref(conn);
	return 0;
}

void node_entry_connector(struct fs *fs, struct connector *conn, struct fuse_entry_param *ret)
{
	*ret = (struct fuse_entry_param){ .ino = connector_ino(conn), .entry_timeout = FS_LONG_TIMEOUT };
	node_attr_connector(fs, conn, &ret->attr, &ret->attr_timeout);
}

static int lookup_own(struct fs *fs, uint64_t ino, struct fuse_entry_param *ret)
{
	*ret = (struct fuse_entry_param){ .ino = ino, .entry_timeout = FS_LONG_TIMEOUT };
	return node_attr(fs, ino, &ret->attr, &ret->attr_timeout);
}

int node_lookup(struct fs *fs, uint64_t parent, const char *name, struct fuse_entry_param *ret)
{
	struct connector *conn;
	uint64_t ino;

	if (strlen(name) > FS_NAME_MAX)
		return -ENAMETOOLONG;
	if (parent == FS_INO_CONTROL) {
		ino = control_find(name);
		return ino ? lookup_own(fs, ino, ret) : -ENOENT;
	}
	if (parent != FS_INO_ROOT)
		return parent < FS_INO_END ? -ENOTDIR : -ESTALE;
	if (strcmp(name, FS_CONTROL_NAME) == 0)
		return lookup_own(fs, FS_INO_CONTROL, ret);
	conn = catalog_find(fs->catalog, name);
	if (!conn)
		return -ENOENT;
	node_entry_connector(fs, conn, ret);
	connector_unref(conn);
	return 0;
}

bool node_is_owner(const struct fs *fs, fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return ctx->uid == 0 || ctx->uid == fs->config.owner;
}

/* Is the files' group among the caller's supplementary ones? Where that can't be found out (it is
 * read from /proc, which may not be ours) the kernel's own check, which came first, stands. */
static bool has_group(const struct fs *fs, fuse_req_t req)
{
	gid_t list[256];
	int n = fuse_req_getgroups(req, sizeof list / sizeof *list, list);

	if (n < 0 || n > (int)(sizeof list / sizeof *list))
		return true;
	for (int i = 0; i < n; i++) {
		if (list[i] == fs->config.group)
			return true;
	}
	return false;
}

bool node_may_read(const struct fs *fs, fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	mode_t mode = fs->config.mode;

	if (ctx->uid == 0)
		return true;
	if (ctx->uid == fs->config.owner)
		return mode & S_IRUSR;
	if (ctx->gid == fs->config.group)
		return mode & S_IRGRP;
	if (!(mode & S_IRGRP) == !(mode & S_IROTH))
		return mode & S_IROTH; /* in the group or not */
	return has_group(fs, req) ? mode & S_IRGRP : mode & S_IROTH;
}
