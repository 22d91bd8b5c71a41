/*
 * The peer for `make bench`: a FUSE file system with nothing behind it. N files that all
 * show the bytes of one, with the same flags, timeouts and loop as connectfs.
 *
 *     nullfs [-p PATTERN] MOUNTPOINT N FILE
 *
 * PATTERN is a printf format of a name with one %u, by default "c%u.properties".
 * In the foreground, until it is unmounted.
 */
#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	INO_FIRST = 1024,
	MAX_WRITE = 128 * 1024,
	THREADS = 10,
};

#define TIMEOUT 3600.0

static const char *prefix = "c", *suffix = ".properties";
static unsigned n_files;
static char *content;
static size_t content_len;
static struct timespec started;

static void fill_attr(fuse_ino_t ino, struct stat *st)
{
	*st = (struct stat){ .st_ino = ino, .st_nlink = 1, .st_uid = getuid(), .st_gid = getgid(),
		             .st_blksize = 4096 };
	st->st_atim = st->st_mtim = st->st_ctim = started;
	if (ino == FUSE_ROOT_ID) {
		st->st_mode = S_IFDIR | 0755;
		st->st_nlink = 2;
	} else {
		st->st_mode = S_IFREG | 0400;
		st->st_size = (off_t)content_len;
		st->st_blocks = (blkcnt_t)((content_len + 511) / 512);
	}
}

static void name_of(unsigned i, char *ret, size_t size)
{
	snprintf(ret, size, "%s%u%s", prefix, i, suffix);
}

/* The node of a name, 0 if there is none. */
static fuse_ino_t find(const char *name)
{
	size_t len = strlen(prefix);
	unsigned long i;
	char *end;

	if (strncmp(name, prefix, len) != 0 || name[len] < '0' || name[len] > '9')
		return 0;
	i = strtoul(name + len, &end, 10);
	return i < n_files && strcmp(end, suffix) == 0 ? INO_FIRST + i : 0;
}

static void null_init(void *userdata, struct fuse_conn_info *conn)
{
	const unsigned on = FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS | FUSE_CAP_EXPLICIT_INVAL_DATA |
	                    FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC;
	const unsigned off = FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
	                     FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_READDIRPLUS_AUTO;

	(void)userdata;
	conn->max_write = MAX_WRITE;
	conn->want = (conn->want & ~off) | (conn->capable & on);
}

static struct fuse_entry_param entry_of(fuse_ino_t ino)
{
	struct fuse_entry_param e = { .ino = ino, .attr_timeout = TIMEOUT, .entry_timeout = TIMEOUT };

	fill_attr(ino, &e.attr);
	return e;
}

static void null_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_ino_t ino = parent == FUSE_ROOT_ID ? find(name) : 0;
	struct fuse_entry_param e = entry_of(ino);

	if (ino)
		fuse_reply_entry(req, &e);
	else
		fuse_reply_err(req, ENOENT);
}

static void null_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	(void)fi;
	fill_attr(ino, &st);
	fuse_reply_attr(req, &st, TIMEOUT);
}

static void null_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                         struct fuse_file_info *fi)
{
	(void)attr, (void)to_set;
	null_getattr(req, ino, fi);
}

static void null_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fi->direct_io = 1;
	fi->noflush = 1;
	fuse_reply_open(req, fi);
}

static void null_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	size_t pos = (size_t)off, len = pos < content_len ? content_len - pos : 0;

	(void)ino, (void)fi;
	fuse_reply_buf(req, content + (len ? pos : 0), len < size ? len : size);
}

static void null_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino, (void)fi;
	fuse_reply_err(req, 0);
}

static void null_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	(void)ino, (void)name, (void)size;
	fuse_reply_err(req, EOPNOTSUPP);
}

static void read_dir(fuse_req_t req, size_t size, off_t off, int plus)
{
	char name[256], *out = malloc(size);
	size_t used = 0, n = 0;

	if (!out) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	for (unsigned i = (unsigned)off; i < n_files; i++) {
		struct fuse_entry_param e = entry_of(INO_FIRST + i);

		name_of(i, name, sizeof name);
		if (plus)
			n = fuse_add_direntry_plus(req, out + used, size - used, name, &e, (off_t)i + 1);
		else
			n = fuse_add_direntry(req, out + used, size - used, name, &e.attr, (off_t)i + 1);
		if (n > size - used)
			break;
		used += n;
	}
	fuse_reply_buf(req, out, used);
	free(out);
}

static void null_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)ino, (void)fi;
	read_dir(req, size, off, 0);
}

static void null_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)ino, (void)fi;
	read_dir(req, size, off, 1);
}

static const struct fuse_lowlevel_ops ops = {
	.init = null_init,
	.lookup = null_lookup,
	.getattr = null_getattr,
	.setattr = null_setattr,
	.open = null_open,
	.read = null_read,
	.release = null_release,
	.readdir = null_readdir,
	.readdirplus = null_readdirplus,
	.getxattr = null_getxattr,
};

static int load(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	content = malloc((size_t)st.st_size + 1);
	n = content ? read(fd, content, (size_t)st.st_size) : -1;
	close(fd);
	content_len = n > 0 ? (size_t)n : 0;
	return n < 0 ? -1 : 0;
}

static int serve(const char *mountpoint)
{
	char name[] = "nullfs", o[] = "-o", options[] = "default_permissions,fsname=nullfs,subtype=nullfs";
	char *argv[] = { name, o, options, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	struct fuse_session *se = fuse_session_new(&args, &ops, sizeof ops, NULL);
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int err = 1;

	fuse_opt_free_args(&args);
	if (se && config && fuse_set_signal_handlers(se) == 0) {
		if (fuse_session_mount(se, mountpoint) == 0) {
			fuse_loop_cfg_set_max_threads(config, THREADS);
			err = fuse_session_loop_mt(se, config);
			fuse_session_unmount(se);
		}
		fuse_remove_signal_handlers(se);
	}
	if (config)
		fuse_loop_cfg_destroy(config);
	if (se)
		fuse_session_destroy(se);
	return err;
}

int main(int argc, char **argv)
{
	int i = 1;
	char *at;

	if (argc > 2 && strcmp(argv[1], "-p") == 0) {
		at = strstr(argv[2], "%u");
		if (!at) {
			fprintf(stderr, "nullfs: PATTERN needs a %%u\n");
			return 2;
		}
		*at = '\0';
		prefix = argv[2];
		suffix = at + 2;
		i = 3;
	}
	if (argc - i != 3) {
		fprintf(stderr, "usage: nullfs [-p PATTERN] MOUNTPOINT N FILE\n");
		return 2;
	}
	n_files = (unsigned)strtoul(argv[i + 1], NULL, 10);
	clock_gettime(CLOCK_REALTIME, &started);
	if (load(argv[i + 2])) {
		perror(argv[i + 2]);
		return 2;
	}
	return serve(argv[i]) ? 1 : 0;
}
