/*
 * A fetch that reads files in the pool: what the providers file, directory and env share.
 *
 * An instance begins with a struct filejob_conf. A job holds a reference of it, since it may be
 * stuck in a thread of the pool when the instance is closed. A job's work runs in such a thread
 * and touches nothing but the job and the (immutable) instance.
 */
#ifndef CONNECTFS_PROVIDER_FILEJOB_H
#define CONNECTFS_PROVIDER_FILEJOB_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "provider/paths.h"
#include "provider/provider.h"

struct filejob;

struct filejob_conf {
	atomic_uint refs;
	const struct provider_env *env; /* event thread only */
	void (*work)(struct filejob *j);
	void (*free_self)(struct filejob_conf *c); /* frees what the provider added, and c */
	struct allowed_paths allowed;
	char *cwd;                      /* at open; NULL: unknown */
	char *secrets;                  /* KIP-297's draft: the path of references without one; NULL: none */
};

struct filejob {
	struct filejob_conf *conf;
	char *path;                     /* the secret id; absolute, or as written where never allowed */
	struct slice *fields;           /* wanted */
	size_t n_fields;
	int64_t begun_ns;               /* before anything was read; real time */
	/* The outcome, the work's until it returns */
	int err;
	bool outage;
	struct error text;              /* code 0: none */
	struct secret_values *values;
	struct secret_file *files;
	size_t n_files;
	bool young;                     /* a stamp that may hide the next change */
	/* The event thread's */
	struct fetch *fetch;
	struct pool_job *pool_job;
};

/* Fills the common part of an instance: allowed.paths and secrets of params (unless NULL), cwd. Then
 * 0 and one reference; or -EINVAL or -ENOMEM, with nothing to free but c itself. */
int filejob_conf_init(struct filejob_conf *c, const struct provider_env *env, void (*work)(struct filejob *j),
                      void (*free_self)(struct filejob_conf *c), const struct strmap *params,
                      const char **ret_param, struct error *ret_err);
void filejob_conf_done(struct filejob_conf *c); /* the common part only; for free_self */

/* provider_ops' open for providers that add nothing to a struct filejob_conf. */
int filejob_open(const struct provider_env *env, void (*work)(struct filejob *j), const struct strmap *params,
                 void **ret_self, const char **ret_param, struct error *ret_err);
/* provider_ops' fetch, cancel and close. */
int filejob_fetch(void *self, struct fetch *f);
void filejob_cancel(void *self, struct fetch *f);
void filejob_close(void *self);
/* provider_ops' map for a path and a key: makes the path absolute, and normalises it where
 * allowed.paths holds (as Kafka does). */
int filejob_map(void *self, struct slice path, struct slice key, struct buf *ret_id, struct buf *ret_field,
                struct error *ret_err);
/* provider_ops' reads: what allowed.paths says. */
void filejob_reads(void *self, void (*add)(void *arg, const char *path), void *arg);
/* A job that no pool runs (its caller does): NULL out of memory. */
struct filejob *filejob_new(struct filejob_conf *c, const struct fetch *f);
void filejob_free(void *job);
/* Tells j->fetch how the work ended. */
void filejob_tell(struct filejob *j, bool constant);

/* For the work. Each replaces the outcome before it. */
void filejob_fail(struct filejob *j, int err, bool outage, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* By what file_read_all and its like returned, and their sentence. */
void filejob_fail_read(struct filejob *j, int r, const char *path, const struct error *why);
/* Why fields may be missing; the first one counts. */
void filejob_note(struct filejob *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Adds a file that the outcome depends on. 0, or -ENOMEM (told as the outcome). */
int filejob_add_file(struct filejob *j, const char *path, const struct file_stamp *stamp, bool local);
void filejob_drop_files(struct filejob *j);
/* The end of work that succeeded. */
void filejob_succeed(struct filejob *j, const struct secret_field *fields, size_t n_fields);
/* Does allowed.paths allow it? 0; -EACCES: no, a note says so, and the work goes on without it;
 * another -errno: it can't be told (links in a circle, a name that is too long). Of our own mount nothing is asked: 0,
 * and file_read_all and its like refuse it. */
int filejob_allowed(struct filejob *j, const char *path);
/* The same of what has been opened, whatever path led there; path is for the note. */
int filejob_allowed_fd(struct filejob *j, const char *path, int fd);
/* file_read_all, where allowed.paths allows the file that has been opened: a link may have been switched
 * since filejob_allowed(). -EACCES without a sentence (why->code 0): it doesn't, and a note says so of the
 * path shown. */
int filejob_read(struct filejob *j, const char *path, const char *shown, struct buf *out,
                 struct file_read *ret, struct error *why);

/* Is what is there at the path, or would be made there, on a local file system? Blocks. */
bool filejob_is_local(const char *path);
/* Strictly: no surrogates, nothing overlong, as Java's decoder that reports. */
bool filejob_is_utf8(struct slice s);

/* A job whose path is a directory with a file a key; the directory provider's work, and the file
 * provider's where `secrets` is a directory. */
void directory_work(struct filejob *j);

#endif
