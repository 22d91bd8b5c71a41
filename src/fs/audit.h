/*
 * The audit log: one line for each open of a connector's file, whether it went well or not. Never a value.
 *
 *   time=… msg=open connector=orders.properties version=3 uid=998 gid=998 pid=4711 comm=java
 *   unit=kafka-connect.service exe=/usr/lib/jvm/…/bin/java result=ok
 *
 * uid and gid are those that the kernel checked, pid the process; tid stands beside it where another
 * thread than its first one opened. unit is the unit of the system's service manager, as journald tells
 * it; a reader outside of all units has cgroup instead. exe is there where we may look, which another
 * user's process takes a capability for. What could not be told is left out, all of it where the reader is
 * in another pid namespace (pid=0). result is "ok" or the name of the errno; version is left out where
 * nothing was given.
 *
 * Nobody waits for it. audit_begin() reads some files of /proc (auditreader.h) in the FUSE thread, since the
 * reader is sure to be there only as long as its open has no answer. The finished line goes to a bounded
 * queue under a lock that is held for some instructions, and a thread of its own writes it (auditsink.h).
 *
 * What does not fit is not lost in silence. Too many opens in a row (RATE and BURST in audit.c), a full
 * queue, a sink that refuses: each is counted (stats.audit_dropped), and as soon as there is room again, at
 * most once a second, a line says how many: msg="opens not logged" dropped=17. A worker that is killed
 * loses what its queue held, some milliseconds of lines; an open that its successor answers again has
 * another line, without a version.
 */
#ifndef CONNECTFS_FS_AUDIT_H
#define CONNECTFS_FS_AUDIT_H

#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "core/stats.h"

struct audit;
struct audit_open; /* an open that has no answer yet */

#define AUDIT_VERSION_UNKNOWN UINT64_MAX

/* Opens the log, as connectfs.audit says (copied); before privileges are dropped, and without a thread.
 * *ret is NULL where where is NULL: no audit log. 0, or -errno with a sentence. */
int audit_new(const char *where, struct audit **ret, struct error *ret_err);
/* Starts its thread; before the first open. NULL allowed. stats must outlive it. 0 or -errno. */
int audit_start(struct audit *a, struct stats *stats);
/* Opens its file anew by name, where it has been renamed and we still may. Any thread but one at a time. */
int audit_reopen(struct audit *a, struct error *ret_err);
/* Writes what is queued, and ends. All opens have ended. NULL allowed. */
void audit_free(struct audit *a);

/* Any thread, as the next. NULL: no audit log (a is NULL), or no room, which has been counted. connector: its
 * file's name, "" for one that is gone (copied); the rest as of fuse_req_ctx(). */
struct audit_open *audit_begin(struct audit *a, const char *connector, uid_t uid, gid_t gid, pid_t pid);
/* The open has ended so: 0 or -errno, and the version that was given, where it is known. Once for each; frees it. NULL
 * allowed. */
void audit_end(struct audit_open *open, int err, uint64_t version);

#endif
