/*
 * Where audit lines go: a file, the journal or syslog. Opened by whom we were started as, before
 * privileges are dropped; written by one thread.
 *
 *   file      O_APPEND, mode 0600 where it is made. Neither a symlink nor anything but a regular file: a
 *             FIFO would block, and who may write the directory may have put a symlink there.
 *   journal   systemd's native protocol, a datagram to /run/systemd/journal/socket: MESSAGE=, PRIORITY=,
 *             SYSLOG_IDENTIFIER=, and each pair as CONNECTFS_KEY=
 *   syslog    a datagram to /dev/log as glibc's syslog(3) sends it, facility authpriv
 *
 * The sockets never block: what is refused is told by -EAGAIN and is the caller's to count. A file may,
 * where its file system hangs.
 */
#ifndef CONNECTFS_FS_AUDITSINK_H
#define CONNECTFS_FS_AUDITSINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

#include "base/error.h"

struct audit_pair {
	const char *key, *value; /* value NULL: left out */
};

enum audit_sink_kind { AUDIT_FILE, AUDIT_JOURNAL, AUDIT_SYSLOG };

struct audit_sink {
	enum audit_sink_kind kind;
	int fd;
	bool torn;                  /* of a file: half a line stands at its end */
	const char *path;           /* of a file; the caller's */
	struct sockaddr_un address; /* of a socket, for when who listens has been started anew */
};

/* where: "journal", "syslog" or a path, which must outlive the sink. 0, or -errno with a sentence. */
int audit_sink_open(struct audit_sink *sink, const char *where, struct error *ret_err);
/* Opens the file anew by its name (it has been renamed); on failure all stays as it is. Of sockets nothing
 * need be done. Also while another thread writes. */
int audit_sink_reopen(struct audit_sink *sink, struct error *ret_err);
void audit_sink_close(struct audit_sink *sink);

/* One record; priority as of syslog(3). 0 or -errno, and then nothing (or of a file, half of it) is there. */
int audit_sink_write(struct audit_sink *sink, int priority, int64_t time_ns, const struct audit_pair *pairs,
                     size_t n);
/* Waits until a socket that said -EAGAIN may take more. False: it does not within ms. */
bool audit_sink_wait(struct audit_sink *sink, int ms);

/* For tests: other paths of the sockets; kept by the caller. NULL: the usual one. Before any is opened. */
void audit_sink_set_sockets(const char *journal, const char *syslog);

#endif
