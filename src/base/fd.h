/*
 * Descriptors: closing them, and one that goes along with a message over a Unix socket (SCM_RIGHTS, unix(7)).
 */
#ifndef CONNECTFS_BASE_FD_H
#define CONNECTFS_BASE_FD_H

#include <sys/socket.h>

/* Closes what is open, and makes it -1. */
void fd_close(int *fd);

/* Room for one descriptor, aligned as CMSG_FIRSTHDR wants it. */
union fd_room {
	struct cmsghdr align;
	char room[CMSG_SPACE(sizeof(int))];
};

/* Sends fd along with m, by room, which must live until then. fd stays the caller's. */
void fd_attach(struct msghdr *m, union fd_room *room, int fd);
/* The first descriptor that came along with m, -1: none. Any others are closed. */
int fd_take(struct msghdr *m);

#endif
