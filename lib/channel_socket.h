/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the two ends of a channel do with sockets, clocks and wake-ups alike. */
#ifndef LIBZCBUF_CHANNEL_SOCKET_H
#define LIBZCBUF_CHANNEL_SOCKET_H

#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "channel_message.h"
#include "private.h"

/* ---- addresses ----------------------------------------------------------------------- */

struct channel_address {
	struct sockaddr_un name;
	socklen_t length;
};

/* Where a socket file is, and which one it is. */
struct channel_place {
	struct channel_address address;
	dev_t device; /* 0 and 0 if there is no file */
	ino_t inode;
};

/* @text is a path, or "@name". -EINVAL or -ENAMETOOLONG. */
int channel_address(const char *text, struct channel_address *address);

/* Returns a listening socket. */
int channel_listen(struct zcbuf_ctx *ctx, const char *text, mode_t mode,
		   struct channel_place *place);

/* Returns a connected, blocking socket. Never waits. */
int channel_connect(const struct channel_address *address, struct channel_place *place);

/* Removes the socket file at @place if it is still the same. */
void channel_unlink(const struct channel_place *place);

/* The same, but only if nobody listens at it any more. */
void channel_unlink_dead(const struct channel_place *place);

/* A duplicate of @fd, which must be a SOCK_SEQPACKET Unix socket. */
int channel_adopt(int fd, bool *listening);

int channel_peer(int fd, struct zcbuf_peer *peer);

/* Whether @fd is a sync_file. Anything else might never become readable. */
bool channel_is_fence(int fd);

/* Ends a connection, also for those who have duplicates of the socket. */
void channel_hang_up(int *fd);

/* ---- messages ------------------------------------------------------------------------ */

/*
 * Sends @header and the message of @header->size bytes that it begins; the part behind the
 * first @fixed bytes is at @payload. @fd goes with it if it is positive. Never waits.
 */
int channel_send(int socket, const struct channel_header *header, size_t fixed,
		 const void *payload, int fd);

/* True if a message could not be sent now but may be later. */
bool channel_send_later(int error);

/* Room for as many messages as one system call receives. */
struct channel_inbox {
	struct mmsghdr *headers;
	enum channel_side from;
	unsigned int room;  /* messages that fit */
	unsigned int count; /* messages that are there */
	unsigned int next;  /* the first that was not taken */
	bool emptied;	    /* the last call received all that there was */
};

int channel_inbox_init(struct channel_inbox *inbox, enum channel_side from);
void channel_inbox_release(struct channel_inbox *inbox);

/* Closes what was received and not taken. */
void channel_inbox_clear(struct channel_inbox *inbox);

/*
 * Receives into an inbox from which everything was taken. @flags: MSG_DONTWAIT, or 0 to wait
 * as the socket says. -EAGAIN or -EINTR if nothing came; -ECONNRESET.
 */
int channel_inbox_receive(struct channel_inbox *inbox, int socket, int flags);

/*
 * Takes one message; the caller closes @fd if it is not -1. Returns 1, or 0 if there is none
 * left; -ECONNRESET where the stream ends, -EMFILE if a file descriptor was lost for lack of
 * room, and what channel_parse() returns.
 */
int channel_inbox_take(struct channel_inbox *inbox, struct channel_message *message,
		       int *fd);

/* ---- time and wake-ups --------------------------------------------------------------- */

#define CHANNEL_NEVER INT64_MAX

/* Nanoseconds of CLOCK_MONOTONIC. */
int64_t channel_now(void);
int64_t channel_deadline(int timeout_ms);

/* Milliseconds until @deadline for poll(2): rounded up, -1 for CHANNEL_NEVER. */
int channel_timeout(int64_t deadline);

/* Arms a timerfd for @deadline, or disarms it for CHANNEL_NEVER. */
void channel_timer_set(int timer, int64_t deadline);

/* An eventfd that is readable or not. */
void channel_flag_raise(int flag);
void channel_flag_lower(int flag);

int channel_epoll_add(int epoll, int fd, uint64_t tag);

#endif /* LIBZCBUF_CHANNEL_SOCKET_H */
