/*
 * The catalog: every connector, what is known of it, and its current snapshot.
 *
 * Two kinds of callers. FUSE threads (any thread) look connectors up, ask for attributes and open
 * them; they take no lock that is held for longer than some instructions. The event thread owns
 * all changes. "Any thread" or "event thread" stands beside each function.
 */
#ifndef CONNECTFS_CORE_CATALOG_H
#define CONNECTFS_CORE_CATALOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "core/snapshot.h"

struct catalog;
struct connector;
struct open_wait;

/* Node ids: 63-bit hash of the file name, always ≥ CONNECTOR_INO_MIN; below are the file system's own. */
enum { CONNECTOR_INO_MIN = 1024 };

/* ---- looking (any thread) ---- */

/* A reference, or NULL. Only visible connectors are found by name (see catalog_appeared). By node id also
 * one that has been removed, as long as somebody holds a reference (an open file, a listing). */
struct connector *catalog_find(struct catalog *c, const char *name);
struct connector *catalog_find_ino(struct catalog *c, uint64_t ino);
struct connector *connector_ref(struct connector *conn);
void connector_unref(struct connector *conn); /* NULL allowed */

const char *connector_name(const struct connector *conn); /* the file name in the mount */
uint64_t connector_ino(const struct connector *conn);

struct connector_attr {
	uint64_t size;    /* of the current snapshot; 0: none */
	int64_t mtime_ns;
	bool cacheable;   /* the kernel may keep it: there is a snapshot and no touch is pending */
};
void connector_get_attr(struct connector *conn, struct connector_attr *ret);

/* The visible connectors in the order of names at one moment; immutable, reference-counted. */
struct listing {
	size_t len;
	struct connector **items;
};
struct listing *catalog_list(struct catalog *c); /* NULL: out of memory */
void listing_unref(struct listing *l);           /* NULL allowed */
/* mtime of the root directory: moves when names come and go. */
int64_t catalog_mtime_ns(struct catalog *c);

/* Value of the attribute user.connectfs.<name> (without the prefix) into out; -ENODATA when it has
 * none now, -EOPNOTSUPP for a name that isn't ours. Never waits. */
int connector_xattr(struct connector *conn, const char *name, struct buf *out);
/* Appends the NUL-separated list of the attributes that have a value now, with their prefix. */
int connector_xattr_list(struct connector *conn, struct buf *out);

/* ---- opening (any thread) ---- */

/*
 * done(err, snapshot, arg): err is 0 with a reference to a snapshot (the callee's), or a negative
 * errno of DESIGN.md section 5's table. Called in the event thread, once, never from within
 * catalog_open_wait.
 */
typedef void open_done(int err, struct snapshot *snapshot, void *arg);

/* What is there, if it is fresh: a reference. NULL: catalog_open_wait must say. Never waits. */
struct snapshot *catalog_open_now(struct catalog *c, struct connector *conn);
/*
 * Lets the event thread take an open up: done follows (soon where there is a failure in force or the last
 * known values are served in an outage). The deadline is the fetch's. 0 or -ENOMEM.
 * *ret_wait is a handle that the caller gives back, once, by open_wait_release, from any thread,
 * before or after done.
 */
int catalog_open_wait(struct catalog *c, struct connector *conn, open_done *done, void *arg,
                      struct open_wait **ret_wait);
/* Asks that done come soon with -EINTR, unless it has been or is being called. Any thread. */
void open_wait_interrupt(struct open_wait *w);
void open_wait_release(struct open_wait *w);
/* At the end, when no open can come any more: done(err) of all that wait, now. Of opens that the loop has not
 * begun with it isn't called. Event thread, the loop no longer running. */
void catalog_end_waits(struct catalog *c, int err);

/* ---- taking over (event thread, after engine_set_keep) ---- */

/* The snapshot that lies there in the keep: a reference, or NULL. */
struct snapshot *catalog_kept_snapshot(struct catalog *c, uint64_t place, uint64_t seq);
/* Nobody asks any more: what nobody holds is dropped. */
void catalog_kept_done(struct catalog *c);

/* ---- rotation, towards the file system (event thread) ---- */

enum touch_kind {
	TOUCH_ROTATED, /* mtime has moved: the events of connectfs.notify */
	TOUCH_STATE,   /* became broken, stale or well with the same bytes: one IN_ATTRIB, same mtime */
};

/* What the file system does for the catalog. Event thread; none may block or call back at once. */
struct catalog_sink {
	/* Attributes are about to change: drop those that the kernel keeps. From now to the end of the
	 * touch connector_attr.cacheable is false. */
	void (*invalidate)(void *arg, struct connector *conn);
	/* Touch, then call catalog_touched. At most one touch of a connector is under way. This and the
	 * next two: 0, or -ENOMEM, and the change happens without the event. */
	int (*touch)(void *arg, struct connector *conn, enum touch_kind kind, int64_t mtime_ns);
	/* A name is to be made (MKNOD) or taken away (UNLINK); then catalog_appeared/_vanished. */
	int (*appear)(void *arg, struct connector *conn);
	int (*vanish)(void *arg, struct connector *conn);
	void *arg;
};

/* The touch has ended: err 0, or a negative errno (-ETIMEDOUT: the notifier did not come). */
void catalog_touched(struct catalog *c, struct connector *conn, int err);
/* The name may be seen now. Also any thread, from the MKNOD handler: idempotent. */
void catalog_appeared(struct catalog *c, struct connector *conn);
/* The name is gone. Also any thread, from the UNLINK handler: idempotent. */
void catalog_vanished(struct catalog *c, struct connector *conn);
/* Any thread: the connector of that name that waits for its MKNOD (a reference), or NULL. */
struct connector *catalog_find_appearing(struct catalog *c, const char *name);
/* Any thread: is its UNLINK due? */
bool connector_is_vanishing(struct connector *conn);
/* Any thread: is a SETATTR with this mtime what the notifier was told? */
bool connector_touch_expected(struct connector *conn, int64_t mtime_ns);

#endif
