/*
 * Least privilege: what the worker and the notifier give up for good before they look at anything that
 * others wrote, so that a fault in a parser gains its finder nothing but what the process may do anyway.
 *
 *   capabilities   none but CAP_IPC_LOCK, where the process had that
 *   no_new_privs   no set-uid program gives back what was dropped
 *   Landlock       reads below the directories that the settings name, and no other file; writes, makes,
 *                  removes and executes nothing; opens no TCP connection, unless a provider does; signals and traces
 *                  nobody outside
 *   seccomp        an allow list of system calls (filter.h); the process is killed by any other
 *
 * The order in the worker: sandbox_init, settings, user, sandbox_drop_capabilities, all that has to be
 * opened outside, sandbox_allow for each directory, sandbox_enter, then the first thread. Landlock
 * holds for the calling thread and those that it starts later, and so do the capabilities: a thread that is
 * there already would go free. All of it is inherited, and none of it can be undone.
 *
 * What the kernel lacks is left out and told by sandbox.lacks, unless it is required. Builds with sanitizers
 * go without seccomp, since their run-time needs other system calls, and in the notifier without Landlock too; builds
 * that count lines go without both, since they write the counts at their end.
 */
#ifndef CONNECTFS_DAEMON_SANDBOX_H
#define CONNECTFS_DAEMON_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum sandbox_part {
	SANDBOX_SECCOMP,
	SANDBOX_FILES,   /* reading is confined to directories, by Landlock */
	SANDBOX_NETWORK, /* by Landlock, or since seccomp allows no socket */
	SANDBOX_CAPABILITIES,
	SANDBOX_NO_NEW_PRIVS,
	SANDBOX_NOT_DUMPABLE,
	SANDBOX_PARTS,
};

/* Why it is lacking. */
enum sandbox_cause {
	SANDBOX_KERNEL,
	SANDBOX_BUILD,    /* sanitizers, coverage */
	SANDBOX_SETTINGS, /* they want it so */
};

enum { SANDBOX_WHY_SIZE = 128, SANDBOX_DIRS_MAX = 1024 };

struct sandbox {
	char lacks[SANDBOX_PARTS][SANDBOX_WHY_SIZE]; /* "": in force; else why not */
	enum sandbox_cause causes[SANDBOX_PARTS];
	bool everywhere;                             /* "/" is allowed */
	bool network;                                /* connections may be made */
	bool names;                                  /* resolv.conf could be read before */
	int *dirs;                                   /* O_PATH descriptors, of files too */
	size_t n_dirs;
};

/* Nothing is in force yet. Pure. */
void sandbox_init(struct sandbox *s);
void sandbox_done(struct sandbox *s); /* sandbox_init allowed; what is in force stays so */

/* "seccomp", "files", …: as the status has it. */
const char *sandbox_part_name(enum sandbox_part part);

/*
 * Keeps CAP_IPC_LOCK, if it is permitted, and drops all others from each set; the bounding set where
 * that is permitted. After a change of user, which must have kept them (PR_SET_KEEPCAPS). Sets
 * no_new_privs too. 0 or -errno, which is also told by s->lacks.
 */
int sandbox_drop_capabilities(struct sandbox *s);

/*
 * What lies below path may be read later: the directory that it leads to, or in which it lies where it is a
 * file, since a rule on a file would end with the first rename over it. Where a symlink is on the way, also the
 * directory in which its target lies, so that it may be switched to another beside it (Kubernetes' ..data).
 * The nearest directory that is there, where path is missing, but "/" only if path is "/". Never looks at
 * our own mount. Blocks as the path's file systems do. 0, -ENOMEM or -E2BIG; what can't be opened is left out.
 */
int sandbox_allow(struct sandbox *s, const char *path);

/*
 * Connections may be made later (TCP, UDP for the name service, Unix sockets; nothing is listened to), and what the
 * name service reads of /etc may be read. Where that leads to a file in /etc itself, as a rule on the file, since
 * there lie the hashes of passwords too; where a symlink leads elsewhere (systemd-resolved's /run/systemd/resolve),
 * to the directory. 0, -ENOMEM or -E2BIG.
 */
int sandbox_allow_network(struct sandbox *s);

/*
 * A rule on a file ends with the first rename over it, as NetworkManager and DHCP clients make it; then libc takes
 * resolv.conf for empty, and asks for names at 127.0.0.1. True: this has happened, and only a successor, with a rule
 * on the new file, can read it. In the sandbox; opens the file.
 */
bool sandbox_is_outdated(const struct sandbox *s);

/*
 * Enters Landlock and seccomp, as they are to be for the worker; what programs in general read is
 * allowed here. require: as sandbox_require; by then the process may be confined already, and can only end.
 * Else 0 or -ENOMEM.
 */
int sandbox_enter(struct sandbox *s, bool require, struct error *ret_err);

/*
 * The notifier's, in one go, after its last change of user: no capability, no file but by O_PATH, the
 * system calls that touching takes. s as of sandbox_init, and with nothing to be given back. 0 or -errno where
 * capabilities could not be dropped.
 */
int sandbox_enter_notifier(struct sandbox *s);

/* What is lacking by kernel or build is -ENOTSUP with a sentence that names all of it. Else 0. Pure. */
int sandbox_require(const struct sandbox *s, struct error *ret_err);

#endif
