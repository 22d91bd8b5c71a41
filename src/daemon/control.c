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

#include "base/fd.h"

enum { CONTROL_HEAD = offsetof(struct control_message, text) };

int control_send(int socket, const struct control_message *m, int fd)
{
	union fd_room room;
	/* Text without its NUL would be read past its end: cut, never sent whole. */
	size_t len = strnlen(m->text, CONTROL_TEXT_MAX - 1);
	struct iovec iov[] = {
		{ .iov_base = (void *)(uintptr_t)m, .iov_len = CONTROL_HEAD + len },
		{ .iov_base = (char[]){ '\0' }, .iov_len = 1 },
	};
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n;

	if (fd >= 0)
		fd_attach(&msg, &room, fd);
	do
		n = sendmsg(socket, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

int control_receive(int socket, struct control_message *ret, int *ret_fd)
{
	struct control_message m;
	union fd_room room;
	struct iovec iov = { .iov_base = &m, .iov_len = sizeof(m) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = room.room, .msg_controllen = sizeof(room.room),
	};
	ssize_t n;
	int fd;

	do
		n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0) /* the peer died with our packets unread: the end as well */
		return errno == ECONNRESET ? -ENOTCONN : -errno;
	fd = fd_take(&msg);
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
