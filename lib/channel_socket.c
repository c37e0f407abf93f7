// SPDX-License-Identifier: LGPL-2.1-or-later
#include <fcntl.h>
#include <libgen.h>
#include <linux/sync_file.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>

#include "channel_socket.h"

#define NSEC_PER_MSEC 1000000LL

/* Connections that wait to be accepted. */
#define BACKLOG 128

/* ---- addresses ----------------------------------------------------------------------- */

int channel_address(const char *text, struct channel_address *address)
{
	size_t length = text ? strlen(text) : 0;
	bool abstract = length && text[0] == '@';
	struct sockaddr_un *name = &address->name;

	if (length <= abstract)
		return -EINVAL;
	if (length >= sizeof(name->sun_path))
		return -ENAMETOOLONG;
	*address = (struct channel_address){ .name.sun_family = AF_UNIX };
	memcpy(name->sun_path, text, length);
	if (abstract)
		name->sun_path[0] = '\0';
	address->length = offsetof(struct sockaddr_un, sun_path) + length + !abstract;
	return 0;
}

static bool is_file(const struct channel_address *address)
{
	return address->name.sun_path[0];
}

static int socket_new(void)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

static int name_socket(int (*call)(int, const struct sockaddr *, socklen_t), int fd,
		       const struct channel_address *address)
{
	return call(fd, (const struct sockaddr *)&address->name, address->length) ? -errno
										  : 0;
}

static int find_place(const struct channel_address *address, struct channel_place *place)
{
	struct stat st;

	*place = (struct channel_place){ .address = *address };
	if (!is_file(address))
		return 0;
	if (lstat(address->name.sun_path, &st))
		return -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EADDRINUSE;
	place->device = st.st_dev;
	place->inode = st.st_ino;
	return 0;
}

/*
 * Whoever judges or replaces a socket file holds this lock, so that two producers that start
 * together do not remove each other's. Returns -1 if somebody else holds it all the time.
 */
static int lock_directory(const struct channel_address *address, int tries)
{
	char path[sizeof(address->name.sun_path)];
	_cleanup_(close_p) int fd = -1;

	memcpy(path, address->name.sun_path, sizeof(path));
	fd = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	while (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB)) {
		if (!--tries)
			return -1;
		poll(NULL, 0, 10);
	}
	return take_fd(&fd);
}

static bool same_file(const struct channel_place *place)
{
	struct channel_place now;

	return place->inode && !find_place(&place->address, &now) &&
	       now.inode == place->inode && now.device == place->device;
}

static bool nobody_listens(const struct channel_address *address)
{
	_cleanup_(close_p) int fd = socket_new();

	return fd >= 0 && name_socket(connect, fd, address) == -ECONNREFUSED;
}

int channel_listen(struct zcbuf_ctx *ctx, const char *text, mode_t mode,
		   struct channel_place *place)
{
	_cleanup_(close_p) int fd = -1, lock = -1;
	struct channel_address address;
	struct channel_place stale;
	int r;

	r = channel_address(text, &address);
	if (r < 0)
		return ctx_fail(
			ctx, r,
			"%s: not an address (a path of less than %zu bytes, or @name)",
			text ? text : "NULL", sizeof(address.name.sun_path));
	fd = socket_new();
	if (fd < 0)
		return ctx_fail(ctx, fd, "%s: no socket: %s", text, strerror(-fd));
	if (is_file(&address))
		lock = lock_directory(&address, 100);
	r = name_socket(bind, fd, &address);
	if (r == -EADDRINUSE && is_file(&address) && !find_place(&address, &stale) &&
	    nobody_listens(&address)) {
		channel_unlink(&stale);
		r = name_socket(bind, fd, &address);
	}
	if (r == -EADDRINUSE)
		return ctx_fail(ctx, r,
				"%s: in use: another producer, or a file that is no socket",
				text);
	if (r < 0)
		return ctx_fail(ctx, r, "%s: cannot listen: %s", text, strerror(-r));
	/* Nobody can connect before listen(2), so there is no moment with the wrong mode. */
	r = find_place(&address, place);
	if (!r && is_file(&address) && chmod(text, mode))
		r = -errno;
	if (!r && listen(fd, BACKLOG))
		r = -errno;
	if (r < 0) {
		channel_unlink(place);
		return ctx_fail(ctx, r, "%s: cannot listen: %s", text, strerror(-r));
	}
	return take_fd(&fd);
}

int channel_connect(const struct channel_address *address, struct channel_place *place)
{
	_cleanup_(close_p) int fd = socket_new();
	struct channel_place found;
	int r;

	if (fd < 0)
		return fd;
	/* Before connecting: what is there afterwards may be another one. */
	r = find_place(address, &found);
	if (!r)
		r = name_socket(connect, fd, address);
	if (r < 0)
		return r == -EADDRINUSE ? -ECONNREFUSED : r;
	fcntl(fd, F_SETFL, 0); /* a socket that blocks, for receiving; nothing else waits */
	*place = found;
	return take_fd(&fd);
}

void channel_unlink(const struct channel_place *place)
{
	if (same_file(place))
		unlink(place->address.name.sun_path);
}

void channel_unlink_dead(const struct channel_place *place)
{
	_cleanup_(close_p) int lock = -1;

	if (!same_file(place))
		return;
	lock = lock_directory(&place->address, 1);
	if (lock >= 0 && nobody_listens(&place->address))
		channel_unlink(place);
}

int channel_adopt(int fd, bool *listening)
{
	int domain, type, accepts, off = 0;
	_cleanup_(close_p) int copy = -1;
	socklen_t length = sizeof(int);

	copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (copy < 0)
		return -errno;
	if (getsockopt(copy, SOL_SOCKET, SO_DOMAIN, &domain, &length) ||
	    getsockopt(copy, SOL_SOCKET, SO_TYPE, &type, &length) ||
	    getsockopt(copy, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &length) ||
	    domain != AF_UNIX || type != SOCK_SEQPACKET)
		return -EINVAL;
	/* Credentials would take the place of file descriptors. */
	setsockopt(copy, SOL_SOCKET, SO_PASSCRED, &off, sizeof(off));
	*listening = accepts;
	if (accepts && fcntl(copy, F_SETFL, O_NONBLOCK))
		return -errno;
	return take_fd(&copy);
}

int channel_peer(int fd, struct zcbuf_peer *peer)
{
	struct ucred cred;
	socklen_t length = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &length))
		return -errno;
	*peer = (struct zcbuf_peer){ .pid = cred.pid, .uid = cred.uid, .gid = cred.gid };
	return 0;
}

bool channel_is_fence(int fd)
{
	struct sync_file_info info = { 0 };

	return !ioctl(fd, SYNC_IOC_FILE_INFO, &info);
}

void channel_hang_up(int *fd)
{
	if (*fd < 0)
		return;
	shutdown(*fd, SHUT_RDWR);
	close(take_fd(fd));
}

/* ---- messages ------------------------------------------------------------------------ */

union control {
	char bytes[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

int channel_send(int socket, const struct channel_header *header, size_t fixed,
		 const void *payload, int fd)
{
	struct iovec parts[2] = {
		{ .iov_base = (void *)header, .iov_len = fixed },
		{ .iov_base = (void *)payload, .iov_len = header->size - fixed },
	};
	struct msghdr message = {
		.msg_iov = parts,
		.msg_iovlen = header->size > fixed ? 2 : 1,
	};
	union control control;

	if (fd > 0) {
		memset(&control, 0, sizeof(control));
		control.align = (struct cmsghdr){
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
			.cmsg_len = CMSG_LEN(sizeof(int)),
		};
		memcpy(CMSG_DATA(&control.align), &fd, sizeof(fd));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
	}
	while (sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

bool channel_send_later(int error)
{
	return error == -EAGAIN || error == -ENOBUFS || error == -ENOMEM ||
	       error == -ETOOMANYREFS;
}

struct letter {
	struct iovec part;
	union control control;
};

int channel_inbox_init(struct channel_inbox *inbox, enum channel_side from)
{
	bool large = from == CHANNEL_FROM_PRODUCER;
	size_t bytes = large ? CHANNEL_PRODUCER_MESSAGE_MAX : CHANNEL_CONSUMER_MESSAGE_MAX;
	unsigned int room = large ? 4 : 16;
	struct letter *letters;
	char *data;

	/* One more byte shows that a message is too long. */
	bytes = (bytes + 1 + 15) & ~(size_t)15;
	*inbox = (struct channel_inbox){ .from = from, .room = room };
	inbox->headers = calloc(room, sizeof(*inbox->headers) + sizeof(*letters) + bytes);
	if (!inbox->headers)
		return -ENOMEM;
	letters = (struct letter *)&inbox->headers[room];
	data = (char *)&letters[room];
	for (unsigned int i = 0; i < room; i++) {
		letters[i].part =
			(struct iovec){ .iov_base = data + i * bytes, .iov_len = bytes };
		inbox->headers[i].msg_hdr.msg_iov = &letters[i].part;
		inbox->headers[i].msg_hdr.msg_iovlen = 1;
		inbox->headers[i].msg_hdr.msg_control = &letters[i].control;
	}
	return 0;
}

void channel_inbox_release(struct channel_inbox *inbox)
{
	channel_inbox_clear(inbox);
	free(inbox->headers);
	*inbox = (struct channel_inbox){ 0 };
}

/* The file descriptor in @header, or -1. There is room for one; the kernel closes others. */
static int passed_fd(struct msghdr *header)
{
	struct cmsghdr *control = CMSG_FIRSTHDR(header);
	int fd = -1;

	if (control && control->cmsg_level == SOL_SOCKET &&
	    control->cmsg_type == SCM_RIGHTS && control->cmsg_len == CMSG_LEN(sizeof(fd)))
		memcpy(&fd, CMSG_DATA(control), sizeof(fd));
	return fd;
}

void channel_inbox_clear(struct channel_inbox *inbox)
{
	for (; inbox->next < inbox->count; inbox->next++) {
		int fd = passed_fd(&inbox->headers[inbox->next].msg_hdr);

		close_p(&fd);
	}
}

int channel_inbox_receive(struct channel_inbox *inbox, int socket, int flags)
{
	int r;

	for (unsigned int i = 0; i < inbox->room; i++) {
		inbox->headers[i].msg_hdr.msg_controllen = CMSG_LEN(sizeof(int));
		inbox->headers[i].msg_hdr.msg_flags = 0;
	}
	inbox->next = inbox->count = 0;
	r = recvmmsg(socket, inbox->headers, inbox->room,
		     MSG_CMSG_CLOEXEC | MSG_WAITFORONE | flags, NULL);
	/* A peer that closed with our messages unread: there may be messages for us, too. */
	if (r < 0 && errno == ECONNRESET)
		r = recvmmsg(socket, inbox->headers, inbox->room,
			     MSG_CMSG_CLOEXEC | MSG_WAITFORONE | flags, NULL);
	if (r < 0)
		return -errno;
	inbox->count = r;
	inbox->emptied = inbox->count < inbox->room;
	return r ? 0 : -ECONNRESET;
}

int channel_inbox_take(struct channel_inbox *inbox, struct channel_message *message,
		       int *fd)
{
	struct mmsghdr *letter = &inbox->headers[inbox->next];
	_cleanup_(close_p) int passed = -1;
	int r;

	*fd = -1;
	if (inbox->next == inbox->count)
		return 0;
	inbox->next++;
	if (!letter->msg_len)
		return -ECONNRESET;
	passed = passed_fd(&letter->msg_hdr);
	if (letter->msg_hdr.msg_flags & MSG_CTRUNC)
		return passed < 0 ? -EMFILE : -EPROTO;
	r = channel_parse(letter->msg_hdr.msg_iov->iov_base, letter->msg_len, passed >= 0,
			  inbox->from, message);
	if (r < 0)
		return r;
	*fd = take_fd(&passed);
	return 1;
}

/* ---- time and wake-ups --------------------------------------------------------------- */

int64_t channel_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 * NSEC_PER_MSEC + now.tv_nsec;
}

int64_t channel_deadline(int timeout_ms)
{
	return timeout_ms < 0 ? CHANNEL_NEVER : channel_now() + timeout_ms * NSEC_PER_MSEC;
}

int channel_timeout(int64_t deadline)
{
	int64_t left;

	if (deadline == CHANNEL_NEVER)
		return -1;
	left = (deadline - channel_now() + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC;
	return left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}

void channel_timer_set(int timer, int64_t deadline)
{
	struct itimerspec when = { 0 };

	if (deadline != CHANNEL_NEVER) {
		/* Zero would disarm it. */
		if (deadline < 1)
			deadline = 1;
		when.it_value.tv_sec = deadline / (1000 * NSEC_PER_MSEC);
		when.it_value.tv_nsec = deadline % (1000 * NSEC_PER_MSEC);
	}
	timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

void channel_flag_raise(int flag)
{
	eventfd_write(flag, 1);
}

void channel_flag_lower(int flag)
{
	eventfd_t value;

	eventfd_read(flag, &value);
}

int channel_epoll_add(int epoll, int fd, uint64_t tag)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = tag };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}
