/*
 * The file system: FUSE operations over the catalog, by libfuse's low-level interface.
 *
 * The FUSE threads run libfuse's multi-threaded loop over a device that the supervisor has mounted
 * (fuse_session_custom_io). They serve what is fresh by themselves; an open that must wait is
 * parked in the event thread. Nothing but open ever waits.
 */
#ifndef CONNECTFS_FS_FS_H
#define CONNECTFS_FS_FS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/loop.h"
#include "core/engine.h"
#include "fs/journal.h"

struct audit;
struct fs;
struct notifier_greeting;

enum {
	/* Opens that wait at the same time; a further one is answered ETIMEDOUT at once. Bounds memory
	 * and the journal. */
	FS_PARKED_MAX = 4096,
};

struct fs_config {
	const char *mountpoint; /* canonical */
	uid_t owner;
	gid_t group;
	mode_t mode;            /* of the files */
	bool debug;             /* -d: libfuse's own trace on stderr (requests, never bytes) */
	struct audit *audit;    /* audit.h; outlives the file system; NULL: none */
};

/* Event thread. The engine must outlive it; installs itself as the engine's sink. 0 or -errno. */
int fs_new(struct engine *engine, struct loop *loop, const struct fs_config *config, struct fs **ret);

/*
 * Serves device (taken over) in threads of its own, going on where the journal and the engine's keep were left
 * (journal: its descriptor, which stays the caller's). ready(arg) is called in the event thread when FUSE_INIT
 * has been answered; ended(err, arg) when the session ended: err 0 after an unmount (ENODEV), else a
 * negative errno: -EPROTO when this program can't go on with that session. 0 or -errno.
 */
int fs_serve(struct fs *fs, int device, int journal, enum journal_death death, void (*ready)(void *arg),
             void (*ended)(void *arg, int err), void *arg);

/* Since when there is the mount, whichever worker we are: real time. After fs_serve. */
int64_t fs_started_ns(const struct fs *fs);

/* What this program makes of FUSE_INIT, in a number: with another one the answer may differ, and so a program can't
 * go on with the session of that other. */
uint64_t fs_init_number(void);

/* The mount's device number, by which the notifier knows that it is still ours. Before fs_set_notifier. */
void fs_set_mount_device(struct fs *fs, dev_t dev);
/* What the notifier says of itself, its strings ended. False: it won't do, and is lost. */
typedef bool fs_greeted(void *arg, const struct notifier_greeting *greeting);
/* The notifier's socket (taken over; an earlier one is closed): SOCK_SEQPACKET, see
 * notifier.h. notifier_pid: whose SETATTR, MKNOD and UNLINK are heard. Event thread.
 * greeted is called before any of its answers is heard; lost(arg) when the notifier hangs up. */
int fs_set_notifier(struct fs *fs, int socket, pid_t notifier_pid, fs_greeted *greeted, void (*lost)(void *arg),
                    void *arg);

/* Ends the threads, whether the session has ended or not; all parked opens are answered EINTR.
 * Event thread; after it neither ready nor ended is called. */
void fs_stop(struct fs *fs);
/* NULL allowed. The loop no longer runs, and catalog_end_waits has been called: neither posted work nor an
 * open_done may come any more. */
void fs_free(struct fs *fs);

#endif
