/*
 * The packets between supervisor and worker: see control.h.
 */
#include "daemon/control.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CONTROL_HEAD = offsetof(struct control_message, text) };

/* Room for one descriptor, aligned as CMSG_FIRSTHDR wants it. */
union control_ancillary {
	struct cmsghdr align;
	char room[CMSG_SPACE(sizeof(int))];
};

int control_send(int socket, const struct control_message *m, int fd)
{
	union control_ancillary ancillary;
	/* Text without its NUL would be read past its end: cut, never sent whole. */
	size_t len = strnlen(m->text, CONTROL_TEXT_MAX - 1);
	struct iovec iov[] = {
		{ .iov_base = (void *)(uintptr_t)m, .iov_len = CONTROL_HEAD + len },
		{ .iov_base = (char[]){ '\0' }, .iov_len = 1 },
	};
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n;

	if (fd >= 0) {
		struct cmsghdr *c;

		memset(&ancillary, 0, sizeof(ancillary));
		msg.msg_control = ancillary.room;
		msg.msg_controllen = sizeof(ancillary.room);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	do
		n = sendmsg(socket, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/* The first descriptor of the packet; any others are closed. */
static int take_descriptor(struct msghdr *msg)
{
	int fd = -1;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = 0; at + sizeof(int) <= c->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
			int got;

			memcpy(&got, CMSG_DATA(c) + at, sizeof(got));
			if (fd < 0)
				fd = got;
			else
				close(got);
		}
	}
	return fd;
}

int control_receive(int socket, struct control_message *ret, int *ret_fd)
{
	struct control_message m;
	union control_ancillary ancillary;
	struct iovec iov = { .iov_base = &m, .iov_len = sizeof(m) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = ancillary.room, .msg_controllen = sizeof(ancillary.room),
	};
	ssize_t n;
	int fd;

	do
		n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0) /* the peer died with our packets unread: the end as well */
		return errno == ECONNRESET ? -ENOTCONN : -errno;
	fd = take_descriptor(&msg);
	if (n == 0 && fd < 0)
		return -ENOTCONN;
	if ((msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || n <= (ssize_t)CONTROL_HEAD ||
	    !memchr(m.text, '\0', (size_t)n - CONTROL_HEAD)) {
		if (fd >= 0)
			close(fd);
		return -EPROTO;
	}
	memcpy(ret, &m, (size_t)n);
	*ret_fd = fd;
	return 0;
}
