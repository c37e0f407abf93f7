// SPDX-License-Identifier: LGPL-2.1-or-later
/* The consumer's end of a channel. */
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <sys/timerfd.h>

#include "channel_socket.h"

#define NSEC_PER_MSEC	 1000000LL

#define DEFAULT_RETRY_MS 200

/*
 * A wait begins with this many milliseconds inside recvmmsg(), which is one system call where
 * poll() and recvmmsg() are two; only then it is one that zcbuf_consumer_wake() can end.
 */
#define PATIENCE_MS 100

enum state {
	OFFLINE,  /* there is to be a connection */
	GREETING, /* HELLO was sent */
	ONLINE,
	LEAVING, /* there is no connection, and the program is being told */
	OVER,
};

struct known {
	uint32_t id;
	struct zcbuf_buffer *buffer;
};

struct frame {
	struct zcbuf_frame frame; /* what the program sees */
	struct frame *next;	  /* in held or unused */
	uint64_t id;
	uint64_t connection;
	void *metadata; /* kept to be used again */
	size_t room;
};

struct zcbuf_consumer {
	atomic_uint refs;
	struct zcbuf_ctx *ctx;
	struct zcbuf_consumer_config config;
	struct channel_address address;
	int waker; /* eventfd: woken is true */
	atomic_bool woken;

	pthread_mutex_t receiving; /* of what follows; held while waiting */
	enum state state;
	int error;
	bool connected; /* the program has been told so */
	bool looked;	/* there is nothing to be found by looking again */
	struct channel_inbox inbox;
	struct known buffers[ZCBUF_CHANNEL_BUFFERS_MAX];
	unsigned int n_buffers;
	struct zcbuf_buffer *removed; /* the last event was about it */
	struct channel_place place;   /* where the last producer listened */
	int64_t tried;		      /* when the last attempt to connect was */
	bool ready_raised, timer_armed;

	pthread_mutex_t lock; /* of what follows; inside receiving */
	int fd;		      /* -1 if there is no connection */
	uint64_t connection;
	bool closed;
	uint32_t max_frames, n_held; /* of this connection */
	struct frame *held, *unused;
	int outer; /* epoll for the program: fd, timer and ready; or -1 */
	int timer; /* when to connect again */
	int ready; /* eventfd: there is something to do although nothing arrives */
};

/* ---- frames -------------------------------------------------------------------------- */

/* The lock is held in this section. */

static struct frame *frame_new(struct zcbuf_consumer *c, size_t metadata_size)
{
	struct frame *frame = c->unused;
	void *metadata;

	if (!frame) {
		frame = calloc(1, sizeof(*frame));
		if (!frame)
			return NULL;
		c->unused = frame;
	}
	if (frame->room < metadata_size) {
		metadata = realloc(frame->metadata, metadata_size);
		if (!metadata)
			return NULL;
		frame->metadata = metadata;
		frame->room = metadata_size;
	}
	c->unused = frame->next;
	return frame;
}

static void frame_clear(struct frame *frame)
{
	close_p(&frame->frame.fence);
	for (int i = 0; i < ZCBUF_FRAME_BUFFERS; i++)
		zcbuf_buffer_unref(frame->frame.buffers[i]);
}

static void frames_free(struct frame *frame)
{
	while (frame) {
		struct frame *next = frame->next;

		free(frame->metadata);
		free(frame);
		frame = next;
	}
}

/* ---- connection ---------------------------------------------------------------------- */

static int say_hello(const struct zcbuf_consumer *c, int fd)
{
	struct channel_hello hello = {
		.header = CHANNEL_HEADER(CHANNEL_HELLO, sizeof(hello)),
		.magic = CHANNEL_MAGIC,
		.version = CHANNEL_VERSION,
		.features = CHANNEL_FEATURES,
		.max_frames = c->config.max_frames,
		.drop = c->config.drop,
	};

	return channel_send(fd, &hello.header, sizeof(hello), NULL, -1);
}

/* Takes over @fd if it succeeds. */
static int greet(struct zcbuf_consumer *c, int fd)
{
	struct timeval patience = { .tv_usec = PATIENCE_MS * 1000L };
	int r;

	/* A producer that has hung up already has perhaps said why. */
	r = say_hello(c, fd);
	if (r < 0 && r != -EPIPE && r != -ECONNRESET)
		return r;
	r = 0;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	pthread_mutex_lock(&c->lock);
	if (c->outer >= 0)
		r = channel_epoll_add(c->outer, fd, 0);
	if (!r) {
		c->fd = fd;
		c->connection++;
		c->n_held = 0;
	}
	pthread_mutex_unlock(&c->lock);
	if (!r)
		c->state = GREETING;
	return r;
}

static int try_to_connect(struct zcbuf_consumer *c)
{
	_cleanup_(close_p) int fd = -1;
	int r;

	c->tried = channel_now();
	fd = channel_connect(&c->address, &c->place);
	if (fd == -ECONNREFUSED)
		channel_unlink_dead(&c->place);
	if (fd < 0)
		return fd;
	r = greet(c, fd);
	if (!r)
		take_fd(&fd);
	return r;
}

static void leave(struct zcbuf_consumer *c, int error)
{
	pthread_mutex_lock(&c->lock);
	if (c->outer >= 0)
		epoll_ctl(c->outer, EPOLL_CTL_DEL, c->fd, NULL);
	channel_hang_up(&c->fd);
	if (c->closed) {
		c->config.flags &= ~ZCBUF_CONSUMER_RECONNECT;
		error = -ECANCELED;
	}
	pthread_mutex_unlock(&c->lock);
	channel_inbox_clear(&c->inbox);
	c->error = error;
	c->state = LEAVING;
}

static bool is_closed(struct zcbuf_consumer *c)
{
	bool closed;

	pthread_mutex_lock(&c->lock);
	closed = c->closed;
	pthread_mutex_unlock(&c->lock);
	return closed;
}

static bool reconnects(const struct zcbuf_consumer *c)
{
	return c->config.flags & ZCBUF_CONSUMER_RECONNECT;
}

static int64_t retry_time(const struct zcbuf_consumer *c)
{
	return c->tried + c->config.retry_ms * NSEC_PER_MSEC;
}

/* ---- what the producer says ---------------------------------------------------------- */

/* These return 1 for an event, 0 for none, and an error to end the connection. */

static struct known *find_buffer(struct zcbuf_consumer *c, uint32_t id)
{
	for (unsigned int i = 0; i < c->n_buffers; i++)
		if (c->buffers[i].id == id)
			return &c->buffers[i];
	return NULL;
}

static int handle_welcome(struct zcbuf_consumer *c, const struct channel_welcome *welcome,
			  struct zcbuf_consumer_event *event)
{
	int r;

	r = channel_peer(c->fd, &event->peer);
	if (r < 0)
		return r;
	c->max_frames = welcome->max_frames;
	c->state = ONLINE;
	c->connected = true;
	event->type = ZCBUF_CONSUMER_CONNECTED;
	return 1;
}

static int handle_format(const struct channel_message *message,
			 struct zcbuf_consumer_event *event)
{
	event->type = ZCBUF_CONSUMER_FORMAT;
	event->data = message->payload;
	event->size = message->payload_size;
	return 1;
}

static int handle_buffer(struct zcbuf_consumer *c, const struct channel_buffer *message,
			 int *fd, struct zcbuf_consumer_event *event)
{
	_cleanup_(zcbuf_buffer_unref_p) struct zcbuf_buffer *buffer = NULL;
	int r;

	if (c->n_buffers == ZCBUF_CHANNEL_BUFFERS_MAX || find_buffer(c, message->id))
		return -EPROTO;
	r = buffer_adopt(c->ctx, *fd, &buffer);
	if (r < 0)
		return r == -EINVAL ? -EPROTO : r;
	take_fd(fd);
	if (zcbuf_buffer_size(buffer) != message->size)
		return -EPROTO;
	event->type = ZCBUF_CONSUMER_BUFFER_ADDED;
	event->buffer = buffer;
	c->buffers[c->n_buffers++] =
		(struct known){ .id = message->id, .buffer = take_pointer(buffer) };
	return 1;
}

static int forget_buffer(struct zcbuf_consumer *c, struct known *known,
			 struct zcbuf_consumer_event *event)
{
	if (!known)
		return -EPROTO;
	event->type = ZCBUF_CONSUMER_BUFFER_REMOVED;
	event->buffer = c->removed = known->buffer;
	*known = c->buffers[--c->n_buffers];
	return 1;
}

static int frame_fill(struct zcbuf_consumer *c, struct frame *frame,
		      const struct channel_message *message)
{
	const struct channel_frame *from = &message->frame;

	frame->id = from->frame;
	frame->connection = c->connection;
	frame->frame = (struct zcbuf_frame){
		.sequence = from->sequence,
		.pts = from->pts,
		.duration = from->duration,
		.flags = from->flags,
		.lost = from->lost,
		.fence = -1,
		.metadata = frame->metadata,
		.metadata_size = message->payload_size,
	};
	if (message->payload_size)
		memcpy(frame->metadata, message->payload, message->payload_size);
	for (int i = 0; i < ZCBUF_FRAME_BUFFERS && from->buffers[i]; i++) {
		const struct known *known = find_buffer(c, from->buffers[i]);

		if (!known)
			return -EPROTO;
		frame->frame.buffers[i] = zcbuf_buffer_ref(known->buffer);
	}
	return 0;
}

static int handle_frame(struct zcbuf_consumer *c, const struct channel_message *message,
			int *fd, struct zcbuf_consumer_event *event)
{
	struct frame *frame;
	int r = 0;

	if (*fd >= 0 && !channel_is_fence(*fd))
		return -EPROTO;
	pthread_mutex_lock(&c->lock);
	frame = c->n_held < c->max_frames ? frame_new(c, message->payload_size) : NULL;
	if (!frame)
		r = c->n_held < c->max_frames ? -ENOMEM : -EPROTO;
	else
		r = frame_fill(c, frame, message);
	if (frame && r < 0) {
		frame_clear(frame);
		frame->next = c->unused;
		c->unused = frame;
	} else if (frame) {
		frame->frame.fence = take_fd(fd);
		frame->next = c->held;
		c->held = frame;
		c->n_held++;
		event->type = ZCBUF_CONSUMER_FRAME;
		event->frame = &frame->frame;
	}
	pthread_mutex_unlock(&c->lock);
	return r < 0 ? r : 1;
}

static int handle(struct zcbuf_consumer *c, const struct channel_message *message, int *fd,
		  struct zcbuf_consumer_event *event)
{
	enum channel_type type = message->header.type;

	if (type == CHANNEL_BYE)
		return message->bye.error;
	if ((type == CHANNEL_WELCOME) != (c->state == GREETING))
		return -EPROTO;
	switch (type) {
	case CHANNEL_WELCOME:
		return handle_welcome(c, &message->welcome, event);
	case CHANNEL_FORMAT:
		return handle_format(message, event);
	case CHANNEL_BUFFER:
		return handle_buffer(c, &message->buffer, fd, event);
	case CHANNEL_REMOVE:
		return forget_buffer(c, find_buffer(c, message->remove.id), event);
	case CHANNEL_FRAME:
		return handle_frame(c, message, fd, event);
	case CHANNEL_END:
		event->type = ZCBUF_CONSUMER_END;
		return 1;
	default:
		return -EPROTO;
	}
}

/* ---- receiving ----------------------------------------------------------------------- */

static int take_message(struct zcbuf_consumer *c, struct zcbuf_consumer_event *event)
{
	struct channel_message message;
	_cleanup_(close_p) int fd = -1;
	int r;

	r = channel_inbox_take(&c->inbox, &message, &fd);
	return r > 0 ? handle(c, &message, &fd, event) : r;
}

/* An attempt to connect that came to nothing is no news, unless the producer said why. */
static bool worth_telling(const struct zcbuf_consumer *c)
{
	return c->connected || c->error != -ECONNRESET || !reconnects(c);
}

static int take_leave(struct zcbuf_consumer *c, struct zcbuf_consumer_event *event)
{
	bool tell = worth_telling(c);

	if (c->n_buffers)
		return forget_buffer(c, &c->buffers[c->n_buffers - 1], event);
	c->state = reconnects(c) ? OFFLINE : OVER;
	c->connected = false;
	event->type = ZCBUF_CONSUMER_DISCONNECTED;
	event->error = c->error;
	return tell;
}

/* From memory: returns 1 with an event, or 0. */
static int take_event(struct zcbuf_consumer *c, struct zcbuf_consumer_event *event)
{
	int r = 0;

	*event = (struct zcbuf_consumer_event){ 0 };
	if (c->state == GREETING || c->state == ONLINE) {
		r = take_message(c, event);
		if (r < 0)
			leave(c, r);
	}
	return c->state == LEAVING ? take_leave(c, event) : r;
}

/* True if zcbuf_consumer_wake() was called, or @deadline has passed. */
static bool wait_over(struct zcbuf_consumer *c, int64_t deadline)
{
	if (atomic_exchange(&c->woken, false)) {
		channel_flag_lower(c->waker);
		return true;
	}
	return deadline != CHANNEL_NEVER && channel_now() >= deadline;
}

/* Returns -EAGAIN if nothing came. */
static int receive_patiently(struct zcbuf_consumer *c, int64_t deadline)
{
	struct pollfd fds[] = {
		{ .fd = c->fd, .events = POLLIN },
		{ .fd = c->waker, .events = POLLIN },
	};
	int r = -EAGAIN;

	if (deadline == CHANNEL_NEVER ||
	    deadline - channel_now() > PATIENCE_MS * NSEC_PER_MSEC)
		r = channel_inbox_receive(&c->inbox, c->fd, 0);
	if (r != -EAGAIN)
		return r;
	if (poll(fds, 2, channel_timeout(deadline)) <= 0 || !fds[0].revents)
		return -EAGAIN;
	return channel_inbox_receive(&c->inbox, c->fd, MSG_DONTWAIT);
}

/* Returns 1 if take_event() may find something now, 0 to give up. */
static int receive(struct zcbuf_consumer *c, int64_t deadline, bool wait)
{
	int r;

	if (!wait && c->looked) {
		c->looked = false;
		return 0;
	}
	if (wait)
		r = receive_patiently(c, deadline);
	else
		r = channel_inbox_receive(&c->inbox, c->fd, MSG_DONTWAIT);
	/* A program that polls calls until there is nothing left: it need not look twice. */
	c->looked = !r && c->inbox.emptied;
	if (r == -EAGAIN || r == -EINTR)
		return wait;
	if (r < 0)
		leave(c, r);
	return 1;
}

static int connect_again(struct zcbuf_consumer *c, int64_t deadline, bool wait)
{
	struct pollfd waker = { .fd = c->waker, .events = POLLIN };
	int64_t retry = retry_time(c);

	if (channel_now() >= retry) {
		if (!try_to_connect(c))
			return 1;
		retry = retry_time(c);
	}
	if (wait)
		poll(&waker, 1, channel_timeout(deadline < retry ? deadline : retry));
	return wait;
}

static int next_event(struct zcbuf_consumer *c, int timeout_ms,
		      struct zcbuf_consumer_event *event)
{
	int64_t deadline = timeout_ms ? channel_deadline(timeout_ms) : 0;
	int r;

	c->removed = zcbuf_buffer_unref(c->removed);
	if (is_closed(c)) {
		if (c->state == GREETING || c->state == ONLINE)
			leave(c, -ECANCELED);
		else if (c->state == OFFLINE)
			c->state = OVER;
	}
	do {
		r = take_event(c, event);
		if (r)
			return r;
		if (c->state == OVER)
			return -ENOTCONN;
		if (timeout_ms && wait_over(c, deadline))
			return 0;
		if (c->state == OFFLINE)
			r = connect_again(c, deadline, timeout_ms);
		else
			r = receive(c, deadline, timeout_ms);
	} while (r);
	return 0;
}

/* The program's poll() must see what is in memory, and when to connect again. */
static void update_outer(struct zcbuf_consumer *c)
{
	bool ready = c->state == LEAVING || c->inbox.next < c->inbox.count;

	if (ready != c->ready_raised) {
		c->ready_raised = ready;
		if (ready)
			channel_flag_raise(c->ready);
		else
			channel_flag_lower(c->ready);
	}
	if (c->state == OFFLINE || c->timer_armed)
		channel_timer_set(c->timer,
				  c->state == OFFLINE ? retry_time(c) : CHANNEL_NEVER);
	c->timer_armed = c->state == OFFLINE;
}

int zcbuf_consumer_next_event(struct zcbuf_consumer *c, int timeout_ms,
			      struct zcbuf_consumer_event *event)
{
	bool outer;
	int r;

	pthread_mutex_lock(&c->receiving);
	r = next_event(c, timeout_ms, event);
	pthread_mutex_lock(&c->lock);
	outer = c->outer >= 0;
	pthread_mutex_unlock(&c->lock);
	if (outer)
		update_outer(c);
	pthread_mutex_unlock(&c->receiving);
	return r;
}

int zcbuf_consumer_give_back(struct zcbuf_consumer *c, const struct zcbuf_frame *given,
			     int fence)
{
	struct channel_release release = {
		.header = CHANNEL_HEADER(CHANNEL_RELEASE, sizeof(release)),
	};
	struct frame **link = &c->held, *frame;

	pthread_mutex_lock(&c->lock);
	while (*link && &(*link)->frame != given)
		link = &(*link)->next;
	frame = *link;
	if (!frame) {
		pthread_mutex_unlock(&c->lock);
		return ctx_fail(
			c->ctx, -EINVAL,
			"give back: not a frame of this consumer, or given back before");
	}
	*link = frame->next;
	if (frame->connection == c->connection) {
		c->n_held--;
		release.frame = frame->id;
		/* If it cannot be sent, the end of the connection gives the frame back. */
		if (c->fd >= 0 &&
		    channel_send(c->fd, &release.header, sizeof(release), NULL, fence))
			shutdown(c->fd, SHUT_RDWR);
	}
	frame_clear(frame);
	frame->next = c->unused;
	c->unused = frame;
	pthread_mutex_unlock(&c->lock);
	return 0;
}

void zcbuf_consumer_wake(struct zcbuf_consumer *c)
{
	if (!atomic_exchange(&c->woken, true))
		channel_flag_raise(c->waker);
}

/* ---- birth and end ------------------------------------------------------------------- */

static void zcbuf_consumer_unref_p(struct zcbuf_consumer **consumer)
{
	zcbuf_consumer_unref(*consumer);
}

static int consumer_new(struct zcbuf_ctx *ctx, const struct zcbuf_consumer_config *config,
			struct zcbuf_consumer **result)
{
	static const struct zcbuf_consumer_config defaults;
	_cleanup_(zcbuf_consumer_unref_p) struct zcbuf_consumer *c = NULL;
	int r;

	if (!config)
		config = &defaults;
	if ((config->flags & ~ZCBUF_CONSUMER_RECONNECT) ||
	    config->drop > ZCBUF_DROP_NEWEST || config->retry_ms > INT32_MAX)
		return ctx_fail(ctx, -EINVAL,
				"consumer: a field of its configuration is out of "
				"range (see libzcbuf-channel.h)");
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->refs = 1;
	c->ctx = zcbuf_ctx_ref(ctx);
	c->config = *config;
	if (!c->config.retry_ms)
		c->config.retry_ms = DEFAULT_RETRY_MS;
	c->fd = c->outer = c->timer = c->ready = -1;
	c->timer_armed = true; /* as make_outer() leaves it */
	pthread_mutex_init(&c->receiving, NULL);
	pthread_mutex_init(&c->lock, NULL);
	c->waker = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->waker < 0)
		return ctx_fail(ctx, -errno, "consumer: no file descriptor: %m");
	r = channel_inbox_init(&c->inbox, CHANNEL_FROM_PRODUCER);
	if (r < 0)
		return r;
	*result = take_pointer(c);
	return 0;
}

int zcbuf_consumer_new(struct zcbuf_ctx *ctx, const char *address,
		       const struct zcbuf_consumer_config *config,
		       struct zcbuf_consumer **result)
{
	_cleanup_(zcbuf_consumer_unref_p) struct zcbuf_consumer *c = NULL;
	int r;

	r = consumer_new(ctx, config, &c);
	if (r < 0)
		return r;
	r = channel_address(address, &c->address);
	if (r < 0)
		return ctx_fail(
			ctx, r,
			"%s: not an address (a path of less than 108 bytes, or @name)",
			address ? address : "NULL");
	r = try_to_connect(c);
	if (r < 0 && (!reconnects(c) || r == -ENOMEM || r == -EMFILE))
		return ctx_fail(ctx, r, "%s: no producer there: %s", address, strerror(-r));
	*result = take_pointer(c);
	return 0;
}

int zcbuf_consumer_new_from_socket(struct zcbuf_ctx *ctx, int fd,
				   const struct zcbuf_consumer_config *config,
				   struct zcbuf_consumer **result)
{
	_cleanup_(zcbuf_consumer_unref_p) struct zcbuf_consumer *c = NULL;
	_cleanup_(close_p) int own = -1;
	bool listening;
	int r;

	r = consumer_new(ctx, config, &c);
	if (r < 0)
		return r;
	own = channel_adopt(fd, &listening);
	if (own < 0 || listening || reconnects(c))
		return ctx_fail(
			ctx, own < 0 ? own : -EINVAL,
			"fd %d: not a connected SOCK_SEQPACKET Unix socket, or one to "
			"connect again",
			fd);
	r = greet(c, own);
	if (r < 0)
		return ctx_fail(ctx, r, "fd %d: no producer there: %s", fd, strerror(-r));
	take_fd(&own);
	*result = take_pointer(c);
	return 0;
}

struct zcbuf_consumer *zcbuf_consumer_ref(struct zcbuf_consumer *c)
{
	atomic_fetch_add(&c->refs, 1);
	return c;
}

void zcbuf_consumer_close(struct zcbuf_consumer *c)
{
	pthread_mutex_lock(&c->lock);
	c->closed = true;
	if (c->fd >= 0)
		shutdown(c->fd, SHUT_RDWR);
	else if (c->timer >= 0)
		channel_timer_set(c->timer, 0);
	pthread_mutex_unlock(&c->lock);
	zcbuf_consumer_wake(c);
}

struct zcbuf_consumer *zcbuf_consumer_unref(struct zcbuf_consumer *c)
{
	if (!c || atomic_fetch_sub(&c->refs, 1) != 1)
		return NULL;
	if (c->state != ONLINE)
		channel_unlink_dead(&c->place);
	channel_hang_up(&c->fd);
	channel_inbox_release(&c->inbox);
	zcbuf_buffer_unref(c->removed);
	for (unsigned int i = 0; i < c->n_buffers; i++)
		zcbuf_buffer_unref(c->buffers[i].buffer);
	for (struct frame *frame = c->held; frame; frame = frame->next)
		frame_clear(frame);
	frames_free(c->held);
	frames_free(c->unused);
	close_p(&c->outer);
	close_p(&c->timer);
	close_p(&c->ready);
	close_p(&c->waker);
	pthread_mutex_destroy(&c->lock);
	pthread_mutex_destroy(&c->receiving);
	zcbuf_ctx_unref(c->ctx);
	free(c);
	return NULL;
}

static int make_outer(struct zcbuf_consumer *c)
{
	_cleanup_(close_p) int outer = epoll_create1(EPOLL_CLOEXEC), timer = -1, ready = -1;
	int r = 0;

	timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	ready = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (outer < 0 || timer < 0 || ready < 0)
		return -errno;
	r = channel_epoll_add(outer, timer, 0);
	if (!r)
		r = channel_epoll_add(outer, ready, 0);
	if (!r && c->fd >= 0)
		r = channel_epoll_add(outer, c->fd, 0);
	if (r < 0)
		return r;
	/* Once, because what there is to do now was not looked at for the program's poll(). */
	channel_timer_set(timer, 0);
	c->outer = take_fd(&outer);
	c->timer = take_fd(&timer);
	c->ready = take_fd(&ready);
	return 0;
}

int zcbuf_consumer_fd(struct zcbuf_consumer *c)
{
	int r = 0;

	pthread_mutex_lock(&c->lock);
	if (c->outer < 0)
		r = make_outer(c);
	if (!r)
		r = c->outer;
	pthread_mutex_unlock(&c->lock);
	return r;
}
