/*
 * The state that the files of this room share, and the nodes: which id is what, and its attributes.
 *
 * To be included first: it says which interface of libfuse we speak.
 */
#ifndef CONNECTFS_FS_NODE_H
#define CONNECTFS_FS_NODE_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/loop.h"
#include "core/catalog.h"
#include "core/engine.h"
#include "core/stats.h"
#include "fs/fs.h"

/* Node ids of our own; a connector's are connector_ino(). Never renumbered: a successor must
 * understand the ids that the kernel holds. */
enum {
	FS_INO_ROOT = FUSE_ROOT_ID,
	FS_INO_CONTROL = 2, /* .connectfs */
	FS_INO_STATUS = 3,
	FS_INO_METRICS = 4,
	FS_INO_VERSION = 5,
	FS_INO_REFRESH = 6,
	FS_INO_END
};

enum {
	FS_NAME_MAX = 255,
	FS_MAX_WRITE = 128 * 1024, /* also bounds READ, and libfuse's buffer a thread */
};

/* Names change only by MKNOD and UNLINK or with a notification, attributes only after an
 * invalidation: the kernel may keep them. */
#define FS_LONG_TIMEOUT 3600.0

#define FS_CONTROL_NAME ".connectfs"

struct contents;
struct handles;
struct notify;
struct parked;

struct fs {
	struct engine *engine;
	struct catalog *catalog;
	struct stats *stats;
	struct loop *loop;
	struct fs_config config; /* mountpoint is ours */
	char *mountpoint;
	struct journal *journal; /* from fs_serve on */
	struct handles *handles;
	struct notify *notify;
	struct contents *contents; /* of the control files */

	/* Opens that wait; see open.h. */
	pthread_mutex_t parked_lock;
	struct parked *parked;
	atomic_uint n_parked[2]; /* requests of control files, and opens */

	/* The session. */
	struct fuse_session *se;
	pthread_t thread;
	bool running;            /* thread is to be joined; event thread */
	int result;              /* of the loop; written by thread before it posts */
	atomic_bool stopping;
	atomic_bool inited;      /* the kernel may hold attributes: it is worth telling it */
	atomic_bool told_ready;    /* INIT has been answered */
	struct listing *to_forget; /* whose attributes the kernel may still have from a predecessor; event thread */
	size_t n_forgotten;
	void (*ready)(void *arg);
	void (*ended)(void *arg, int err);
	void *arg;
};

/* The unique of the request that this thread handles. */
uint64_t fs_current_unique(void);

/* A whole struct stat, and how long the kernel may keep it. Never waits. */
void node_attr_connector(struct fs *fs, struct connector *conn, struct stat *ret, double *ret_timeout);
/* Of any node; -ESTALE for an unknown one. */
int node_attr(struct fs *fs, uint64_t ino, struct stat *ret, double *ret_timeout);
/* Fills what LOOKUP, MKNOD and READDIRPLUS answer. */
void node_entry_connector(struct fs *fs, struct connector *conn, struct fuse_entry_param *ret);
/* Finds a name; 0, -ENOENT, -ENOTDIR, -ESTALE or -ENAMETOOLONG. */
int node_lookup(struct fs *fs, uint64_t parent, const char *name, struct fuse_entry_param *ret);

/* May the caller of req read the connectors' files? The kernel has asked the same before. */
bool node_may_read(const struct fs *fs, fuse_req_t req);
bool node_is_owner(const struct fs *fs, fuse_req_t req); /* or root */

/* ops.c: the table for fuse_session_new. */
extern const struct fuse_lowlevel_ops fs_ops;

#endif
