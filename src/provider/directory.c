/*
 * The provider "directory": each key is a file of a directory, and its value the whole file, as
 * Kafka's DirectoryConfigProvider.
 *
 * All files of one fetch are of one version where the directory has versions, that is, where
 * Kubernetes' atomic writer fills it: the visible names are links to "..data/NAME", and "..data"
 * is a link that is switched. So "..data" is resolved once, the files are read below what it led
 * to, and if it leads elsewhere afterwards, they are read again.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "format/limits.h"
#include "provider/filejob.h"

enum { TRIES = 3 };
#define DATA "..data"

/* One reading of the directory. */
struct reading {
	struct filejob *job;
	int dir, data;          /* data: what "..data" led to, or -1 */
	char link[PATH_MAX];    /* the target of "..data", "" for none */
	struct buf *bufs;       /* one a field */
	struct secret_field *found;
	size_t n_found;
	bool denied;            /* a file was there that we may not read */
};

static bool key_is_name(struct slice key)
{
	return key.len > 0 && key.len <= NAME_MAX && !memchr(key.data, '/', key.len) &&
	       !memchr(key.data, '\0', key.len) && !slice_eq_str(key, ".") && !slice_eq_str(key, "..");
}

static void read_data_link(int dir, char ret[PATH_MAX])
{
	ssize_t n = readlinkat(dir, DATA, ret, PATH_MAX - 1);

	ret[n > 0 ? n : 0] = '\0';
}

/* Is the visible name the atomic writer's link into "..data"? */
static bool links_to_data(const struct reading *rd, const char *name)
{
	char to[sizeof(DATA "/") + NAME_MAX], want[sizeof(DATA "/") + NAME_MAX];
	ssize_t n;

	if (rd->data < 0)
		return false;
	(void)snprintf(want, sizeof(want), DATA "/%s", name);
	n = readlinkat(rd->dir, name, to, sizeof(to));
	return n > 0 && (size_t)n == strlen(want) && memcmp(to, want, (size_t)n) == 0;
}

/* By way of the descriptor, so that the directory may be switched meanwhile, and by file_read_all,
 * which touches no device and not our own mount. Without /proc only the path is left. */
static int read_below(const struct reading *rd, const char *name, const char *path, struct buf *out,
                      struct file_read *got, struct error *why)
{
	char by_fd[64 + NAME_MAX];
	int dir = links_to_data(rd, name) ? rd->data : rd->dir;

	(void)snprintf(by_fd, sizeof(by_fd), "/proc/self/fd/%d", dir);
	if (access(by_fd, F_OK) < 0)
		return filejob_read(rd->job, path, path, out, got, why);
	(void)snprintf(by_fd, sizeof(by_fd), "/proc/self/fd/%d/%s", dir, name);
	return filejob_read(rd->job, by_fd, path, out, got, why);
}

/* What reading a key's file has brought. A negative result ends the reading, and is the outcome. */
static int judge(struct reading *rd, size_t i, const char *path, int r, const struct error *why)
{
	struct filejob *j = rd->job;
	struct slice value = buf_slice(&rd->bufs[i]);

	if (r == -ENOENT || r == -ENOTDIR || r == -EISDIR || r == -EINVAL || r == -ELOOP)
		return 0; /* Kafka ignores subdirectories and links that lead nowhere. */
	if (r == -EACCES && why->code == 0)
		return 0; /* not allowed by allowed.paths: a note says so */
	if (r == -EACCES || r == -EPERM) {
		/* Of this key alone: the others' values must not be lost by it. */
		filejob_note(j, "%s: permission denied", path);
		rd->denied = true;
		return 0;
	}
	if (r < 0) {
		filejob_fail_read(j, r, path, why);
		return r;
	}
	if (!filejob_is_utf8(value)) {
		filejob_fail(j, EIO, true, "%s: malformed UTF-8 in the value of the key %.*s", path,
		             SLICE_FMT(j->fields[i]));
		return -EILSEQ;
	}
	rd->found[rd->n_found].key = j->fields[i];
	rd->found[rd->n_found++].value = value;
	return 0;
}

static int read_key(struct reading *rd, size_t i)
{
	struct filejob *j = rd->job;
	struct file_read got = { .local = false };
	struct error why = ERROR_INIT;
	char path[PATH_MAX], name[NAME_MAX + 1];
	int r;

	if (!key_is_name(j->fields[i]))
		return 0;
	memcpy(name, j->fields[i].data, j->fields[i].len);
	name[j->fields[i].len] = '\0';
	if ((size_t)snprintf(path, sizeof(path), "%s/%s", j->path, name) >= sizeof(path) ||
	    filejob_allowed(j, path) < 0)
		return 0;
	r = read_below(rd, name, path, &rd->bufs[i], &got, &why);
	if (r < 0)
		got.local = filejob_is_local(path);
	r = judge(rd, i, path, r, &why);
	return filejob_add_file(j, path, &got.stamp, got.local) < 0 ? -ENOMEM : r;
}

static int read_keys(struct reading *rd)
{
	int r = 0;

	for (size_t i = 0; i < rd->job->n_fields && r == 0; i++)
		r = read_key(rd, i);
	return r;
}

/* Forgets what a reading brought, for the next. */
static void start_over(struct reading *rd)
{
	struct filejob *j = rd->job;

	for (size_t i = 0; i < j->n_fields; i++)
		buf_free(&rd->bufs[i]);
	for (size_t i = 0; i < j->n_fields; i++)
		buf_init_secret(&rd->bufs[i], LIMIT_SECRET_BYTES);
	rd->n_found = 0;
	rd->denied = false;
	filejob_drop_files(j);
	j->err = 0;
	j->outage = false;
	j->text = (struct error)ERROR_INIT;
}

/* The directory itself first, so that a file that is new in it is seen. */
static int add_directory(struct reading *rd)
{
	struct filejob *j = rd->job;
	struct file_stamp stamp = { .exists = false };

	(void)file_stamp_take(j->path, &stamp);
	return filejob_add_file(j, j->path, &stamp, filejob_is_local(j->path));
}

/* One version of all, or -EAGAIN: it was switched meanwhile. Else 0, or the outcome is a failure. */
static int read_version(struct reading *rd)
{
	char after[PATH_MAX];
	int r;

	start_over(rd);
	if (add_directory(rd) < 0)
		return -ENOMEM;
	read_data_link(rd->dir, rd->link);
	rd->data = rd->link[0] ? openat(rd->dir, DATA, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	r = read_keys(rd);
	if (rd->data >= 0)
		(void)close(rd->data);
	read_data_link(rd->dir, after);
	return strcmp(rd->link, after) != 0 ? -EAGAIN : r;
}

static void read_directory(struct filejob *j, int dir)
{
	struct reading rd = { .job = j, .dir = dir };
	int r = -EAGAIN;

	rd.bufs = calloc(j->n_fields + 1, sizeof(*rd.bufs));
	rd.found = calloc(j->n_fields + 1, sizeof(*rd.found));
	if (!rd.bufs || !rd.found) {
		filejob_fail(j, EIO, true, "%s: out of memory", j->path);
		goto out;
	}
	for (int try = 0; try < TRIES && r == -EAGAIN; try++)
		r = read_version(&rd);
	if (r == -EAGAIN)
		filejob_fail(j, EIO, true, "%s: it changed while it was read", j->path);
	else if (r == 0 && rd.denied && rd.n_found == 0)
		j->err = EKEYREJECTED; /* the note is the sentence */
	else if (r == 0)
		filejob_succeed(j, rd.found, rd.n_found);
	for (size_t i = 0; i < j->n_fields; i++)
		buf_free(&rd.bufs[i]);
out:
	free(rd.bufs);
	free(rd.found);
}

void directory_work(struct filejob *j)
{
	struct reading rd = { .job = j };
	int fd;

	if (j->path[0] == '\0') {
		filejob_note(j, "the reference has no path");
		filejob_succeed(j, NULL, 0);
		return;
	}
	if (filejob_allowed(j, j->path) < 0) {
		filejob_succeed(j, NULL, 0);
		return;
	}
	if (file_leads_to_own_mount(j->path)) {
		if (add_directory(&rd) == 0)
			filejob_fail(j, EIO, false, "%s: lies on this mount itself", j->path);
		return;
	}
	fd = open(j->path, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0) {
		/* A link on the way may have been switched since. */
		if (filejob_allowed_fd(j, j->path, fd) < 0)
			filejob_succeed(j, NULL, 0);
		else
			read_directory(j, fd);
		(void)close(fd);
		return;
	}
	if (errno == ENOENT || errno == ENOTDIR) {
		/* As Kafka: no failure, there are only no keys in it. */
		filejob_note(j, "the path %s is not a directory", j->path);
		if (add_directory(&rd) == 0)
			filejob_succeed(j, NULL, 0);
	} else {
		int r = -errno;

		if (add_directory(&rd) == 0)
			filejob_fail_read(j, r, j->path, NULL);
	}
}

static int directory_open(const struct provider_env *env, const char *class_name, const struct strmap *params,
                          void **ret_self, const char **ret_param, struct error *ret_err)
{
	void *self;
	struct filejob_conf *c;
	int r = filejob_open(env, directory_work, params, &self, ret_param, ret_err);

	(void)class_name;
	if (r < 0)
		return r;
	/* That one is of the file provider. */
	c = self;
	free(c->secrets);
	c->secrets = NULL;
	*ret_self = c;
	return 0;
}

static const char *const classes[] = {
	"org.apache.kafka.common.config.provider.DirectoryConfigProvider",
	NULL,
};

const struct provider_ops provider_directory = {
	.name = "directory",
	.classes = classes,
	.open = directory_open,
	.map = filejob_map,
	.reads = filejob_reads,
	.fetch = filejob_fetch,
	.cancel = filejob_cancel,
	.close = filejob_close,
};
