// SPDX-License-Identifier: LGPL-2.1-or-later
/* Giving buffers to other processes, over Unix sockets. */
#include <string.h>
#include <sys/socket.h>

#include "private.h"

#define SHARE_MAGIC   0x6675627aU /* "zbuf" */
#define SHARE_VERSION 1

/* What travels beside the file descriptor. */
struct share_message {
	uint32_t magic;
	uint32_t version;
	uint64_t size; /* of the buffer, in bytes */
};

/* The most fds that the kernel lets one message carry (SCM_MAX_FD), and other records. */
#define CONTROL_SIZE (CMSG_SPACE(253 * sizeof(int)) + 512)

int zcbuf_buffer_send(struct zcbuf_buffer *buffer, int socket)
{
	struct share_message message = {
		.magic = SHARE_MAGIC,
		.version = SHARE_VERSION,
		.size = zcbuf_buffer_size(buffer),
	};
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .header = {
			      .cmsg_len = CMSG_LEN(sizeof(int)),
			      .cmsg_level = SOL_SOCKET,
			      .cmsg_type = SCM_RIGHTS,
		      } };
	struct iovec data = { &message, sizeof(message) };
	struct msghdr header = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	int fd = zcbuf_buffer_fd(buffer), domain;
	socklen_t length = sizeof(domain);

	/* TCP would send the message and silently leave the fd behind. */
	if (getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &length))
		return -errno;
	if (domain != AF_UNIX)
		return -EAFNOSUPPORT;
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	if (sendmsg(socket, &header, MSG_NOSIGNAL) < 0)
		return -errno;
	return 0;
}

/*
 * Takes the fds out of what arrived. Returns how many there were; the first one is kept,
 * all others are closed.
 */
static size_t take_fds(struct msghdr *header, int *first)
{
	struct cmsghdr *record;
	size_t count = 0;

	for (record = CMSG_FIRSTHDR(header); record; record = CMSG_NXTHDR(header, record)) {
		size_t fds = (record->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (record->cmsg_level != SOL_SOCKET || record->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < fds; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(record) + i * sizeof(fd), sizeof(fd));
			if (count++)
				close(fd);
			else
				*first = fd;
		}
	}
	return count;
}

/* A datagram may be empty; everywhere else that is how a connection ends. */
static bool is_datagram(int socket)
{
	socklen_t length = sizeof(int);
	int type;

	return !getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &length) &&
	       type == SOCK_DGRAM;
}

int zcbuf_buffer_recv(struct zcbuf_ctx *ctx, int socket, struct zcbuf_buffer **result)
{
	_cleanup_(zcbuf_buffer_unref_p) struct zcbuf_buffer *buffer = NULL;
	_cleanup_(close_p) int fd = -1;
	struct share_message message;
	union {
		struct cmsghdr header;
		char space[CONTROL_SIZE];
	} control;
	struct iovec data = { &message, sizeof(message) };
	struct msghdr header = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t received = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
	size_t fds;
	int r;

	if (received < 0)
		return -errno;
	fds = take_fds(&header, &fd);
	if (!received && !is_datagram(socket))
		return -ECONNRESET;
	if (!fds && (header.msg_flags & MSG_CTRUNC))
		return ctx_fail(
			ctx, -EMFILE,
			"socket %d: no room for a file descriptor (raise 'ulimit -n')",
			socket);
	if (received != sizeof(message) || (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) ||
	    message.magic != SHARE_MAGIC || message.version != SHARE_VERSION || fds != 1)
		return ctx_fail(ctx, -EPROTO, "socket %d: what arrived is no buffer",
				socket);
	r = buffer_adopt(ctx, fd, &buffer);
	if (!r)
		take_fd(&fd);
	if (r == -EINVAL || (!r && zcbuf_buffer_size(buffer) != message.size))
		return ctx_fail(
			ctx, -EPROTO,
			"socket %d: what arrived is no dma-buf or memfd of %llu bytes",
			socket, (unsigned long long)message.size);
	if (r < 0)
		return r;
	*result = take_pointer(buffer);
	return 0;
}
