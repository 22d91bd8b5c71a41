/*
 * A fetch that reads files in the pool: making it, and telling how it ended.
 */
#include "provider/filejob.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "format/utf8.h"

/* When a stamp was young, the next change may bear the same one; so look again when it is old. */
enum { YOUNG_AGAIN_MS = 2 * FILE_STAMP_COARSE_MS };
enum { LINKS_MAX = 40 }; /* the kernel's own limit */

static char *join_path(const char *dir, struct slice path)
{
	size_t dir_len = strlen(dir);
	char *s;

	if (path.len > 0 && path.data[0] == '/')
		return strndup(path.data, path.len);
	s = malloc(dir_len + 1 + path.len + 1);
	if (!s)
		return NULL;
	memcpy(s, dir, dir_len);
	s[dir_len] = '/';
	memcpy(s + dir_len + 1, path.data, path.len);
	s[dir_len + 1 + path.len] = '\0';
	return s;
}

static int conf_params(struct filejob_conf *c, const struct strmap *params, const char **ret_param,
                       struct error *err)
{
	const char *secrets = strmap_get_str(params, "secrets");
	int r = allowed_paths_parse(strmap_get_str(params, "allowed.paths"), &c->allowed, err);

	if (r < 0) {
		*ret_param = "allowed.paths";
		return r;
	}
	if (!secrets || secrets[0] == '\0')
		return 0;
	if (secrets[0] != '/' && !c->cwd) {
		*ret_param = "secrets";
		return error_set(err, EINVAL, "Path %s is not absolute, and the working directory is unknown",
		                 secrets);
	}
	c->secrets = join_path(c->cwd ? c->cwd : "", slice_str(secrets));
	return c->secrets ? 0 : error_set(err, ENOMEM, "out of memory");
}

int filejob_conf_init(struct filejob_conf *c, const struct provider_env *env, void (*work)(struct filejob *j),
                      void (*free_self)(struct filejob_conf *c), const struct strmap *params,
                      const char **ret_param, struct error *ret_err)
{
	int r = 0;

	*ret_param = NULL;
	atomic_init(&c->refs, 1);
	c->env = env;
	c->work = work;
	c->free_self = free_self;
	c->allowed = (struct allowed_paths){ .unrestricted = true };
	c->secrets = NULL;
	/* Now: the worker goes to / when all providers are open. */
	c->cwd = getcwd(NULL, 0);
	if (!c->cwd && errno == ENOMEM)
		return error_set(ret_err, ENOMEM, "out of memory");
	if (params)
		r = conf_params(c, params, ret_param, ret_err);
	if (r < 0)
		filejob_conf_done(c);
	return r;
}

void filejob_conf_done(struct filejob_conf *c)
{
	allowed_paths_done(&c->allowed);
	free(c->cwd);
	free(c->secrets);
}

static void conf_free(struct filejob_conf *c)
{
	filejob_conf_done(c);
	free(c);
}

int filejob_open(const struct provider_env *env, void (*work)(struct filejob *j), const struct strmap *params,
                 void **ret_self, const char **ret_param, struct error *ret_err)
{
	struct filejob_conf *c = calloc(1, sizeof(*c));
	int r;

	*ret_param = NULL;
	if (!c)
		return error_set(ret_err, ENOMEM, "out of memory");
	r = filejob_conf_init(c, env, work, conf_free, params, ret_param, ret_err);
	if (r < 0) {
		free(c);
		return r;
	}
	*ret_self = c;
	return 0;
}

static void conf_unref(struct filejob_conf *c)
{
	if (atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
		c->free_self(c);
}

void filejob_close(void *self)
{
	conf_unref(self);
}

int filejob_map(void *self, struct slice path, struct slice key, struct buf *ret_id, struct buf *ret_field,
                struct error *ret_err)
{
	struct filejob_conf *c = self;
	char norm[PATH_MAX];
	char *abs;
	int r;

	if (path.len > 0 && memchr(path.data, '\0', path.len))
		return error_set(ret_err, EIO, "the path holds a NUL character");
	if (path.len == 0 && c->secrets)
		path = slice_str(c->secrets);
	if (path.len == 0 || (path.data[0] != '/' && !c->allowed.unrestricted)) {
		/* Without a path there is nothing to read; a relative one is never allowed. The
		 * fetch says which. */
		r = buf_add_slice(ret_id, path);
	} else if (path.data[0] != '/' && !c->cwd) {
		return error_set(ret_err, EIO,
		                 "the path %.*s is not absolute, and the working directory is unknown",
		                 SLICE_FMT(path));
	} else {
		abs = join_path(c->cwd ? c->cwd : "", path);
		if (!abs)
			return error_set(ret_err, ENOMEM, "out of memory");
		r = c->allowed.unrestricted ? 0 : file_normalize(abs, norm, sizeof(norm));
		for (size_t n = strlen(abs); n > 1 && abs[n - 1] == '/'; n--)
			abs[n - 1] = '\0'; /* as java.nio.file.Path has it */
		if (r == 0)
			r = buf_add_str(ret_id, c->allowed.unrestricted ? abs : norm);
		free(abs);
	}
	if (r == 0)
		r = buf_add_slice(ret_field, key);
	if (r == 0 && ret_id->len >= PATH_MAX)
		r = -ENAMETOOLONG;
	if (r == -ENOMEM)
		return error_set(ret_err, ENOMEM, "out of memory");
	return r < 0 ? error_set(ret_err, EIO, "the path or the key is too long") : 0;
}

void filejob_reads(void *self, void (*add)(void *arg, const char *path), void *arg)
{
	struct filejob_conf *c = self;

	if (c->allowed.unrestricted)
		add(arg, "/");
	for (size_t i = 0; i < c->allowed.len; i++)
		add(arg, c->allowed.entries[i]);
}

struct filejob *filejob_new(struct filejob_conf *c, const struct fetch *f)
{
	struct filejob *j = calloc(1, sizeof(*j));
	size_t bytes = f->n_fields * sizeof(*f->fields);
	char *pos;

	if (!j)
		return NULL;
	for (size_t i = 0; i < f->n_fields; i++)
		bytes += f->fields[i].len;
	/* Copies: the resolver may free its own while the work is stuck. */
	j->fields = malloc(bytes + 1);
	j->path = f->id.len > 0 ? strndup(f->id.data, f->id.len) : strdup("");
	if (!j->fields || !j->path) {
		free(j->fields);
		free(j->path);
		free(j);
		return NULL;
	}
	pos = (char *)(j->fields + f->n_fields);
	for (size_t i = 0; i < f->n_fields; i++) {
		if (f->fields[i].len > 0)
			memcpy(pos, f->fields[i].data, f->fields[i].len);
		j->fields[i] = slice_of(pos, f->fields[i].len);
		pos += f->fields[i].len;
	}
	j->n_fields = f->n_fields;
	j->begun_ns = clock_real_ns();
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	j->conf = c;
	return j;
}

void filejob_free(void *job)
{
	struct filejob *j = job;

	secret_values_unref(j->values);
	secret_files_done(j->files, j->n_files);
	conf_unref(j->conf);
	free(j->fields);
	free(j->path);
	free(j);
}

void filejob_tell(struct filejob *j, bool constant)
{
	struct fetch_result r = {
		.err = j->err,
		.outage = j->outage,
		.text = j->text.code != 0 ? j->text.text : NULL,
		.values = j->values,
		.files = j->err != 0 ? j->files : NULL,
		.n_files = j->err != 0 ? j->n_files : 0,
		.ttl_ms = j->young ? YOUNG_AGAIN_MS : -1,
		.lease_ms = -1,
		.constant = constant && j->err == 0,
	};

	j->values = NULL;
	j->fetch->priv = NULL;
	j->fetch->done(j->fetch, &r);
}

static int job_work(void *arg)
{
	struct filejob *j = arg;

	j->conf->work(j);
	return 0;
}

static void job_done(int result, void *arg)
{
	struct filejob *j = arg;
	struct fetch *f = j->fetch;
	struct error text = ERROR_INIT;
	struct fetch_result r = { .err = ETIMEDOUT, .outage = true, .ttl_ms = -1, .lease_ms = -1 };

	if (result == 0) {
		filejob_tell(j, false);
		return;
	}
	/* The work may be running still: of the job only what it never writes is looked at. */
	if (result == -EBUSY)
		(void)error_set(&text, ETIMEDOUT, "%s: still no answer", j->path);
	else
		(void)error_set(&text, ETIMEDOUT, "%s: no answer within %lld ms", j->path,
		                (long long)f->deadline_ms);
	r.text = text.text;
	f->priv = NULL;
	f->done(f, &r);
}

int filejob_fetch(void *self, struct fetch *f)
{
	struct filejob_conf *c = self;
	struct filejob *j = filejob_new(c, f);
	enum pool_place place = f->place;

	if (!j)
		return -ENOMEM;
	j->fetch = f;
	/* Of a file that was never looked at its name must do; not needed as long as all answer. */
	if (place == POOL_UNKNOWN && pool_has_stuck(c->env->pool) && !file_mount_is_local(j->path))
		place = POOL_DOUBTFUL;
	/* The thread may run the work before this returns; it never looks at these. */
	j->pool_job = NULL;
	f->priv = pool_submit(c->env->pool, job_work, job_done, filejob_free, j, f->deadline_ms,
	                      j->path, place);
	if (!f->priv) {
		filejob_free(j);
		return -ENOMEM;
	}
	return 0;
}

void filejob_cancel(void *self, struct fetch *f)
{
	(void)self;
	if (f->priv)
		pool_cancel(f->priv);
	f->priv = NULL;
}

void filejob_fail(struct filejob *j, int err, bool outage, const char *fmt, ...)
{
	va_list ap;

	secret_values_unref(j->values);
	j->values = NULL;
	j->err = err;
	j->outage = outage;
	va_start(ap, fmt);
	(void)error_vset(&j->text, err, fmt, ap);
	va_end(ap);
}

void filejob_fail_read(struct filejob *j, int r, const char *path, const struct error *why)
{
	const char *text = why && why->code != 0 ? why->text : strerror(-r);

	switch (-r) {
	case ENOENT:
	case ENOTDIR:
		filejob_fail(j, ENOKEY, false, "%s: no such file", path);
		break;
	case EACCES:
	case EPERM:
		filejob_fail(j, EKEYREJECTED, false, "%s: permission denied", path);
		break;
	case EDEADLK: /* our own mount: waiting doesn't help, nor for links in a circle */
	case ELOOP:
	case ENAMETOOLONG:
		filejob_fail(j, EIO, false, "%s: %s", path, text);
		break;
	case ENOMEM:
		filejob_fail(j, EIO, true, "%s: out of memory", path);
		break;
	default:
		filejob_fail(j, EIO, true, "%s: %s", path, text);
	}
}

void filejob_note(struct filejob *j, const char *fmt, ...)
{
	va_list ap;

	if (j->text.code != 0)
		return;
	va_start(ap, fmt);
	(void)error_vset(&j->text, ENOKEY, fmt, ap);
	va_end(ap);
}

/* Was it young when it was read, which was between begun_ns and now? */
static bool is_young(const struct filejob *j, const struct file_stamp *stamp)
{
	int64_t now = clock_real_ns();
	int64_t at = stamp->ctime_ns < now ? stamp->ctime_ns : now;

	if (at < j->begun_ns)
		at = j->begun_ns;
	return stamp->exists && file_stamp_is_young(stamp, at);
}

int filejob_add_file(struct filejob *j, const char *path, const struct file_stamp *stamp, bool local)
{
	struct secret_file *bigger = realloc(j->files, (j->n_files + 1) * sizeof(*j->files));
	struct file_stamp now;
	char *copy = strdup(path);

	if (bigger)
		j->files = bigger;
	if (!bigger || !copy) {
		free(copy);
		filejob_fail(j, EIO, true, "%s: out of memory", path);
		return -ENOMEM;
	}
	j->files[j->n_files++] = (struct secret_file){ .path = copy, .stamp = *stamp, .local = local };
	j->young |= local && is_young(j, stamp);
	/* What has been read by way of a descriptor need not be known to the kernel by its path, by which
	 * it will be looked at. */
	if (local && file_stamp_peek(path, &now) == -EAGAIN)
		(void)file_stamp_take(path, &now);
	return 0;
}

void filejob_drop_files(struct filejob *j)
{
	secret_files_done(j->files, j->n_files);
	j->files = NULL;
	j->n_files = 0;
	j->young = false;
}

void filejob_succeed(struct filejob *j, const struct secret_field *fields, size_t n_fields)
{
	j->values = secret_values_new(fields, n_fields, j->files, j->n_files);
	if (!j->values)
		filejob_fail(j, EIO, true, "%s: out of memory", j->path);
}

static int not_allowed(struct filejob *j, const char *path, int r)
{
	if (r == -EACCES)
		filejob_note(j, "the path %s is not allowed by allowed.paths", path);
	return r;
}

int filejob_allowed(struct filejob *j, const char *path)
{
	/* realpath(3) would ask our own mount. What leads there is refused by whoever opens it. */
	if (!j->conf->allowed.unrestricted && file_leads_to_own_mount(path))
		return 0;
	return not_allowed(j, path, allowed_paths_check(&j->conf->allowed, path));
}

static int permit(const char *real, void *arg)
{
	return allowed_paths_permit(arg, real);
}

int filejob_read(struct filejob *j, const char *path, const char *shown, struct buf *out,
                 struct file_read *ret, struct error *why)
{
	struct allowed_paths *allowed = &j->conf->allowed;
	int r = file_read_permitted(path, allowed->unrestricted ? NULL : permit, allowed, out, ret, why);

	return why->code == 0 ? not_allowed(j, shown, r) : r;
}

int filejob_allowed_fd(struct filejob *j, const char *path, int fd)
{
	char real[PATH_MAX];
	int r;

	if (j->conf->allowed.unrestricted)
		return 0;
	r = file_real_path(fd, real);
	return not_allowed(j, path, r < 0 ? r : allowed_paths_permit(&j->conf->allowed, real));
}

/* Where a link leads, for one that leads nowhere yet. False: no link. */
static bool follow_link(char path[PATH_MAX])
{
	char to[PATH_MAX];
	char *slash = strrchr(path, '/');
	ssize_t n = readlink(path, to, sizeof(to) - 1);
	size_t dir = slash ? (size_t)(slash - path) + 1 : 0;

	if (n <= 0)
		return false;
	to[n] = '\0';
	if (to[0] == '/')
		dir = 0;
	if (dir + (size_t)n >= PATH_MAX)
		return false;
	memcpy(path + dir, to, (size_t)n + 1);
	return true;
}

bool filejob_is_local(const char *path)
{
	char at[PATH_MAX];
	int links = 0;

	if (path[0] != '/' || strlen(path) >= sizeof(at) || file_leads_to_own_mount(path))
		return false;
	strcpy(at, path);
	for (;;) {
		int fd = open(at, O_PATH | O_CLOEXEC);
		char *slash;

		if (fd >= 0) {
			bool local = file_is_local(fd);

			(void)close(fd);
			return local;
		}
		if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
			return false;
		if (follow_link(at)) {
			if (++links > LINKS_MAX)
				return false;
			continue;
		}
		slash = strrchr(at, '/');
		if (!slash)
			return false;
		strcpy(slash, slash == at ? "/" : "");
		if (slash == at && ++links > LINKS_MAX)
			return false;
	}
}

bool filejob_is_utf8(struct slice s)
{
	size_t i = s.len > 0 ? utf8_ascii_len(s.data, s.len) : 0;

	while (i < s.len) {
		uint32_t c;
		size_t n = utf8_decode(s.data + i, s.len - i, &c);

		if (n == 0 || utf8_is_surrogate(c))
			return false;
		i += n;
	}
	return true;
}
