/*
 * The catalog's sink: tells the kernel what has changed, and the notifier what to touch.
 *
 * Event thread, unless said otherwise.
 */
#ifndef CONNECTFS_FS_NOTIFY_H
#define CONNECTFS_FS_NOTIFY_H

#include "fs/node.h"

enum {
	NOTIFY_WINDOW = 64,        /* messages that the notifier may have and not have answered */
	NOTIFY_PATIENCE_MS = 1000, /* without an answer: the change happens without the event */
	NOTIFY_STUCK_MS = 5000,    /* without an answer: another notifier, please */
};

int notify_new(struct fs *fs, struct notify **ret); /* 0 or -ENOMEM */
void notify_free(struct notify *n); /* NULL allowed */
/* What engine_set_sink is given; valid as long as n. */
const struct catalog_sink *notify_sink(struct notify *n);

void notify_set_device(struct notify *n, dev_t dev);
/* See fs_set_notifier. */
int notify_connect(struct notify *n, int socket, pid_t pid, fs_greeted *greeted, void (*lost)(void *arg),
                   void *arg);

/* Any thread: does the request come from the notifier? Also true where the kernel can't tell
 * the caller's process id (another pid namespace): then what is asked must be what was told. */
bool notify_is_from_notifier(struct notify *n, fuse_req_t req);

#endif
