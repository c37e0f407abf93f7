// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The producer's end of a channel.
 *
 * Nothing here waits for a consumer. What a consumer has been told (told, format, end_told) is
 * kept beside what is true; flush_client() sends the difference when its socket takes it, so
 * that nothing queues up for a consumer that does not read.
 */
#include <fcntl.h>
#include <linux/sync_file.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

#include "channel_socket.h"

#define NSEC_PER_MSEC	  1000000LL

#define DEFAULT_CONSUMERS 64
#define DEFAULT_FRAMES	  4
#define DEFAULT_HOLD_MS	  5000

/* A connection says HELLO at once, or it is none. */
#define HELLO_TIME (1000 * NSEC_PER_MSEC)
/* How long new connections wait when there is no file descriptor left for them. */
#define ACCEPT_PAUSE (100 * NSEC_PER_MSEC)
/*
 * If there are more connections than these, the others wait so long that accepting takes one
 * part of the time in so many: a flood of them does not delay frames.
 */
#define ACCEPTS_PER_TURN 4
#define ACCEPT_SHARE	 10
/* Calls that may be answered from memory before the sockets are looked at again. */
#define CALLS_PER_LOOK 8
/* Frames whose release the program has not collected, at most. */
#define FRAMES_MAX	4096
#define LISTENERS_MAX	8
#define EVENTS_PER_LOOK 32

/* What epoll returns: a client's id, which is above these, or one of them. */
#define TAG_TIMER    LISTENERS_MAX
#define TAG_WAKER    (LISTENERS_MAX + 1)
#define CLIENT_INDEX (ZCBUF_CHANNEL_CONSUMERS_MAX - 1)

struct event {
	struct event *next;
	enum zcbuf_producer_event_type type;
};

/* A buffer of the pool; id is 0 where there is none. */
struct slot {
	struct zcbuf_buffer *buffer;
	struct zcbuf_buffer *view;
	int reopened;
	int fd; /* what consumers get: of one of these three */
	uint32_t id;
	uint32_t flags;
	unsigned int busy; /* frames that contain it */
};

struct frame {
	struct event released;
	struct frame *next; /* unused frames */
	struct zcbuf_frame frame;
	uint64_t id;
	unsigned int count; /* of buffers */
	unsigned int slots[ZCBUF_FRAME_BUFFERS];
	uint32_t ids[ZCBUF_FRAME_BUFFERS];
	unsigned int holders; /* clients that hold it, and clients it waits for */
	int fence;	      /* of consumers' devices, merged; or -1 */
	void *metadata;	      /* kept to be used again */
	size_t room;
};

struct held {
	struct frame *frame;
	int64_t since;
};

enum client_state {
	SILENT, /* has not said HELLO */
	ADMITTED,
	GONE, /* kept until the program has been told */
};

struct client {
	struct client *next;
	uint64_t id;
	int fd;
	enum client_state state;
	int error;
	int64_t since;
	struct zcbuf_peer peer;
	struct event connected, disconnected;

	uint32_t max_frames;
	enum zcbuf_drop drop;

	struct held held[ZCBUF_CHANNEL_FRAMES_MAX]; /* oldest first */
	unsigned int n_held;
	struct frame *waiting; /* or NULL */
	bool missing;	       /* it could not get a frame since it last gave one back */
	bool slow;	       /* it was waited for in vain since it last gave one back */
	bool blocked;	       /* wait for its socket to take more */

	uint32_t told[ZCBUF_CHANNEL_BUFFERS_MAX]; /* id it knows in this slot, or 0 */
	uint32_t n_told;
	bool forget; /* some of these are to be removed */
	uint64_t format;
	bool end_told;

	uint32_t lost;
	uint64_t sent, returned, dropped, fds;
};

struct listener {
	int fd;
	struct channel_place place;
};

struct zcbuf_producer {
	atomic_uint refs;
	struct zcbuf_ctx *ctx;
	struct zcbuf_producer_config config;
	uid_t *uids;
	gid_t *gids;
	uid_t own_uid;
	int io; /* epoll: listeners, clients, timer, waker */
	int timer;
	int waker;
	pthread_cond_t changed;
	pthread_mutex_t lock; /* of all that follows */

	bool leading;	      /* a thread is inside epoll_wait() for all that wait */
	unsigned int waiters; /* threads that wait, the leading one included */
	unsigned int wakes;
	bool wake_next;
	int outer; /* epoll for the program: io and ready; or -1 */
	int ready; /* eventfd: there are events in the queue */
	bool ready_raised;
	unsigned int unlooked; /* calls since the sockets were last looked at */
	bool looked;	       /* there is nothing to be found by looking again */
	bool closed;

	struct listener listeners[LISTENERS_MAX];
	unsigned int n_listeners;
	int64_t resume; /* when to accept connections again */
	int64_t armed;	/* what the timer is set to */

	struct client *first;
	struct client **clients; /* by id & CLIENT_INDEX */
	unsigned int n_clients;
	uint64_t client_serial;
	struct channel_inbox inbox;

	struct slot slots[ZCBUF_CHANNEL_BUFFERS_MAX];
	unsigned int n_slots; /* the first that were ever used */
	unsigned int n_buffers, n_busy;
	uint32_t last_buffer;

	void *format;
	size_t format_size;
	uint64_t format_serial;
	bool ended;

	struct frame *unused;
	struct frame *delivered; /* its fence is in the program's hands */
	unsigned int n_frames;	 /* that are not unused */
	uint64_t last_frame;
	struct event *events, **events_end;
	bool news; /* some of these were queued since other threads were woken */

	struct zcbuf_producer_stats stats;
};

/* ---- events -------------------------------------------------------------------------- */

static void queue_event(struct zcbuf_producer *p, struct event *event,
			enum zcbuf_producer_event_type type)
{
	event->next = NULL;
	event->type = type;
	*p->events_end = event;
	p->events_end = &event->next;
	p->news = true;
}

static struct event *take_event(struct zcbuf_producer *p)
{
	struct event *event = p->events;

	p->events = event->next;
	if (!p->events)
		p->events_end = &p->events;
	return event;
}

/* The program's poll() must see events that are in memory. */
static void update_ready(struct zcbuf_producer *p)
{
	if (p->ready < 0 || p->ready_raised == !!p->events)
		return;
	p->ready_raised = p->events;
	if (p->ready_raised)
		channel_flag_raise(p->ready);
	else
		channel_flag_lower(p->ready);
}

static void lock(struct zcbuf_producer *p)
{
	pthread_mutex_lock(&p->lock);
}

/* Everything that other threads wait for has perhaps come. */
static void wake_all(struct zcbuf_producer *p)
{
	if (p->leading)
		channel_flag_raise(p->waker);
	pthread_cond_broadcast(&p->changed);
}

static void announce(struct zcbuf_producer *p)
{
	if (p->news && p->waiters)
		wake_all(p);
	p->news = false;
	update_ready(p);
}

static void unlock(struct zcbuf_producer *p)
{
	announce(p);
	pthread_mutex_unlock(&p->lock);
}

/* ---- frames -------------------------------------------------------------------------- */

static struct frame *frame_new(struct zcbuf_producer *p)
{
	struct frame *frame = p->unused;

	if (frame) {
		p->unused = frame->next;
	} else {
		frame = calloc(1, sizeof(*frame));
		if (!frame)
			return NULL;
	}
	p->n_frames++;
	return frame;
}

static void frame_recycle(struct zcbuf_producer *p, struct frame *frame)
{
	close_p(&frame->fence);
	frame->next = p->unused;
	p->unused = frame;
	p->n_frames--;
}

static void frame_free(struct frame *frame)
{
	free(frame->metadata);
	free(frame);
}

/* While a frame waits for somebody, what belongs to the program must be kept. */
static int frame_keep(struct frame *frame)
{
	struct zcbuf_frame *f = &frame->frame;
	void *metadata;
	int fence;

	if (f->metadata_size > frame->room) {
		metadata = realloc(frame->metadata, f->metadata_size);
		if (!metadata)
			return -ENOMEM;
		frame->metadata = metadata;
		frame->room = f->metadata_size;
	}
	if (f->fence > 0) {
		fence = fcntl(f->fence, F_DUPFD_CLOEXEC, 3);
		if (fence < 0)
			return -errno;
		f->fence = fence;
	}
	if (f->metadata_size)
		memcpy(frame->metadata, f->metadata, f->metadata_size);
	f->metadata = frame->metadata;
	return 0;
}

static void frame_busy(struct zcbuf_producer *p, struct frame *frame, bool busy)
{
	for (unsigned int i = 0; i < frame->count; i++) {
		struct slot *slot = &p->slots[frame->slots[i]];

		if (slot->id != frame->ids[i])
			continue; /* removed meanwhile */
		if (busy)
			p->n_busy += !slot->busy++;
		else
			p->n_busy -= !--slot->busy;
	}
}

static void frame_put(struct zcbuf_producer *p, struct frame *frame)
{
	if (--frame->holders)
		return;
	/* A copy from frame_keep(): the program's was forgotten by zcbuf_producer_send(). */
	if (frame->frame.fence > 0)
		close(frame->frame.fence);
	frame->frame.metadata = NULL;
	frame->frame.metadata_size = 0;
	frame_busy(p, frame, false);
	p->stats.released++;
	queue_event(p, &frame->released, ZCBUF_PRODUCER_RELEASED);
}

/* Takes over @fence, which some consumer says is a sync_file. */
static int frame_add_fence(struct zcbuf_producer *p, struct frame *frame, int fence)
{
	_cleanup_(close_p) int own = fence;
	struct sync_merge_data merge = { .name = "zcbuf" };
	int r;

	if (!channel_is_fence(fence))
		return -EPROTO;
	if (frame->fence < 0) {
		frame->fence = take_fd(&own);
		return 0;
	}
	merge.fd2 = frame->fence;
	r = ioctl_errno(fence, SYNC_IOC_MERGE, &merge);
	if (r < 0) {
		ctx_log(p->ctx, LOG_ERR, "frame %llu: a consumer's fence is lost: %s",
			(unsigned long long)frame->frame.sequence, strerror(-r));
		return 0;
	}
	close(frame->fence);
	frame->fence = merge.fence;
	return 0;
}

/* ---- deadlines ----------------------------------------------------------------------- */

static int64_t client_deadline(const struct zcbuf_producer *p, const struct client *client)
{
	bool dry = p->n_buffers && p->n_busy == p->n_buffers;

	if (client->state == SILENT)
		return client->since + HELLO_TIME;
	if (client->state == GONE || !client->n_held || p->config.hold_ms < 0)
		return CHANNEL_NEVER;
	if (!dry && !client->missing && !(p->config.flags & ZCBUF_PRODUCER_HOLD_STRICT))
		return CHANNEL_NEVER;
	return client->held[0].since + p->config.hold_ms * NSEC_PER_MSEC;
}

static struct client *most_urgent(const struct zcbuf_producer *p, int64_t *deadline)
{
	struct client *urgent = NULL;

	*deadline = CHANNEL_NEVER;
	for (struct client *c = p->first; c; c = c->next) {
		int64_t when = client_deadline(p, c);

		if (when < *deadline) {
			*deadline = when;
			urgent = c;
		}
	}
	return urgent;
}

/* The timer is set when something becomes urgent, and may find that it no longer is. */
static void arm_timer(struct zcbuf_producer *p)
{
	int64_t deadline;

	most_urgent(p, &deadline);
	if (p->resume < deadline)
		deadline = p->resume;
	if (deadline >= p->armed)
		return;
	channel_timer_set(p->timer, deadline);
	p->armed = deadline;
}

/* ---- clients ------------------------------------------------------------------------- */

static void client_free(struct zcbuf_producer *p, struct client *client)
{
	struct client **link = &p->first;

	while (*link != client)
		link = &(*link)->next;
	*link = client->next;
	p->clients[client->id & CLIENT_INDEX] = NULL;
	p->n_clients--;
	free(client);
}

static void send_bye(int fd, int error)
{
	struct channel_bye bye = {
		.header = CHANNEL_HEADER(CHANNEL_BYE, sizeof(bye)),
		.error = error,
	};

	channel_send(fd, &bye.header, sizeof(bye), NULL, -1);
}

/* A client that was never admitted is freed; nobody has heard of it. */
static void client_disconnect(struct zcbuf_producer *p, struct client *client, int error)
{
	if (error != -ECONNRESET)
		send_bye(client->fd, error);
	epoll_ctl(p->io, EPOLL_CTL_DEL, client->fd, NULL);
	channel_hang_up(&client->fd);
	if (client->state == SILENT) {
		p->stats.refused++;
		client_free(p, client);
		return;
	}
	client->state = GONE;
	client->error = error;
	for (unsigned int i = 0; i < client->n_held; i++)
		frame_put(p, client->held[i].frame);
	client->n_held = 0;
	if (client->waiting)
		frame_put(p, client->waiting);
	client->waiting = NULL;
	p->stats.consumers--;
	p->stats.expelled += error == -ETIMEDOUT || error == -EPROTO;
	queue_event(p, &client->disconnected, ZCBUF_PRODUCER_DISCONNECTED);
}

static void client_lose(struct client *client)
{
	client->lost++;
	client->dropped++;
	client->missing = true;
}

static void client_drop_waiting(struct zcbuf_producer *p, struct client *client)
{
	if (client->waiting) {
		client_lose(client);
		frame_put(p, client->waiting);
		client->waiting = NULL;
	}
}

static bool client_full(const struct client *client)
{
	return client->waiting || client->n_held == client->max_frames;
}

static int tell_removed(struct zcbuf_producer *p, struct client *client, unsigned int i)
{
	struct channel_remove remove = {
		.header = CHANNEL_HEADER(CHANNEL_REMOVE, sizeof(remove)),
		.id = client->told[i],
	};
	int r;

	if (!client->told[i] || client->told[i] == p->slots[i].id)
		return 0;
	r = channel_send(client->fd, &remove.header, sizeof(remove), NULL, -1);
	if (r < 0)
		return r;
	client->told[i] = 0;
	client->n_told--;
	return 0;
}

static int tell_buffer(struct zcbuf_producer *p, struct client *client, unsigned int i)
{
	const struct slot *slot = &p->slots[i];
	struct channel_buffer buffer = {
		.header = CHANNEL_HEADER(CHANNEL_BUFFER, sizeof(buffer)),
		.id = slot->id,
		.flags = slot->flags,
	};
	int r;

	if (client->told[i] == slot->id)
		return 0;
	r = tell_removed(p, client, i);
	if (r < 0)
		return r;
	buffer.size = zcbuf_buffer_size(slot->buffer);
	r = channel_send(client->fd, &buffer.header, sizeof(buffer), NULL, slot->fd);
	if (r < 0)
		return r;
	client->told[i] = slot->id;
	client->n_told++;
	client->fds++;
	return 0;
}

static int tell_format(struct zcbuf_producer *p, struct client *client)
{
	struct channel_format format = {
		.header = CHANNEL_HEADER(CHANNEL_FORMAT, sizeof(format) + p->format_size),
	};
	int r = channel_send(client->fd, &format.header, sizeof(format), p->format, -1);

	if (!r)
		client->format = p->format_serial;
	return r;
}

static int tell_end(struct client *client)
{
	struct channel_end end = { .header = CHANNEL_HEADER(CHANNEL_END, sizeof(end)) };
	int r = channel_send(client->fd, &end.header, sizeof(end), NULL, -1);

	client->end_told = !r;
	return r;
}

/* Turns the frame that waits for @client into one that it holds. */
static int tell_frame(struct zcbuf_producer *p, struct client *client)
{
	struct frame *frame = client->waiting;
	struct channel_frame message = {
		.header = CHANNEL_HEADER(CHANNEL_FRAME,
					 sizeof(message) + frame->frame.metadata_size),
		.frame = frame->id,
		.sequence = frame->frame.sequence,
		.pts = frame->frame.pts,
		.duration = frame->frame.duration,
		.flags = frame->frame.flags,
		.lost = client->lost,
	};
	int r;

	for (unsigned int i = 0; i < frame->count; i++) {
		r = tell_buffer(p, client, frame->slots[i]);
		if (r < 0)
			return r;
		message.buffers[i] = frame->ids[i];
	}
	r = channel_send(client->fd, &message.header, sizeof(message),
			 frame->frame.metadata, frame->frame.fence);
	if (r < 0)
		return r;
	client->held[client->n_held++] =
		(struct held){ .frame = take_pointer(client->waiting),
			       .since = channel_now() };
	client->lost = 0;
	client->sent++;
	return 0;
}

static int tell_all(struct zcbuf_producer *p, struct client *client)
{
	int r = 0;

	for (unsigned int i = 0; !r && client->forget && i < p->n_slots; i++)
		r = tell_removed(p, client, i);
	if (!r)
		client->forget = false;
	if (!r && client->format != p->format_serial)
		r = tell_format(p, client);
	if (!r && client->waiting && client->n_held < client->max_frames)
		r = tell_frame(p, client);
	if (!r && p->ended && !client->end_told && !client->waiting)
		r = tell_end(client);
	return r;
}

static void client_block(struct zcbuf_producer *p, struct client *client, bool blocked)
{
	struct epoll_event event = {
		.events = blocked ? EPOLLIN | EPOLLOUT : EPOLLIN,
		.data.u64 = client->id,
	};

	if (client->blocked == blocked)
		return;
	client->blocked = blocked;
	epoll_ctl(p->io, EPOLL_CTL_MOD, client->fd, &event);
}

/* Sends what the client does not know yet, as far as its socket takes it. */
static void flush_client(struct zcbuf_producer *p, struct client *client)
{
	int r = client->state == ADMITTED ? tell_all(p, client) : 0;

	if (client->state != ADMITTED)
		return;
	if (r == 0 || channel_send_later(r))
		client_block(p, client, r == -EAGAIN);
	else
		client_disconnect(p, client, -ECONNRESET);
}

static void flush_all(struct zcbuf_producer *p)
{
	for (struct client *c = p->first; c; c = c->next)
		flush_client(p, c);
}

/* ---- what clients say ---------------------------------------------------------------- */

static int client_hello(struct zcbuf_producer *p, struct client *client,
			const struct channel_hello *hello)
{
	uint32_t most = p->config.max_frames, wish = hello->max_frames;
	struct channel_welcome welcome = {
		.header = CHANNEL_HEADER(CHANNEL_WELCOME, sizeof(welcome)),
		.magic = CHANNEL_MAGIC,
		.version = CHANNEL_VERSION,
		.features = hello->features & CHANNEL_FEATURES,
		.max_frames = wish && wish < most ? wish : most,
		.drop = hello->drop ? hello->drop : p->config.drop,
	};

	if (channel_send(client->fd, &welcome.header, sizeof(welcome), NULL, -1) < 0)
		return -ECONNRESET;
	client->max_frames = welcome.max_frames;
	client->drop = welcome.drop;
	client->state = ADMITTED;
	p->stats.admitted++;
	p->stats.consumers++;
	queue_event(p, &client->connected, ZCBUF_PRODUCER_CONNECTED);
	return 0;
}

/* Takes over @fence. A frame that the client does not hold is an offence. */
static int client_release(struct zcbuf_producer *p, struct client *client, uint64_t id,
			  int fence)
{
	_cleanup_(close_p) int own = fence;
	struct frame *frame;
	unsigned int i = 0;
	int r = 0;

	while (i < client->n_held && client->held[i].frame->id != id)
		i++;
	if (i == client->n_held)
		return -EPROTO;
	frame = client->held[i].frame;
	if (fence >= 0)
		r = frame_add_fence(p, frame, take_fd(&own));
	if (r < 0)
		return r;
	client->n_held--;
	memmove(&client->held[i], &client->held[i + 1],
		(client->n_held - i) * sizeof(client->held[0]));
	client->returned++;
	client->missing = client->slow = false;
	frame_put(p, frame);
	return 0;
}

static int client_handle(struct zcbuf_producer *p, struct client *client,
			 const struct channel_message *message, int fd)
{
	_cleanup_(close_p) int own = fd;

	if (client->state == SILENT && message->header.type == CHANNEL_HELLO)
		return client_hello(p, client, &message->hello);
	if (client->state == ADMITTED && message->header.type == CHANNEL_RELEASE)
		return client_release(p, client, message->release.frame, take_fd(&own));
	return -EPROTO;
}

static void client_receive(struct zcbuf_producer *p, struct client *client)
{
	struct channel_message message;
	int fd, r;

	r = channel_inbox_receive(&p->inbox, client->fd, MSG_DONTWAIT);
	if (r == -EAGAIN || r == -EINTR)
		r = 0;
	while (!r && (r = channel_inbox_take(&p->inbox, &message, &fd)) > 0)
		r = client_handle(p, client, &message, fd);
	channel_inbox_clear(&p->inbox);
	if (r < 0)
		client_disconnect(p, client, r);
	else
		flush_client(p, client);
}

/* ---- admission ----------------------------------------------------------------------- */

static bool group_listed(const struct zcbuf_producer *p, gid_t gid)
{
	for (size_t i = 0; i < p->config.n_gids; i++)
		if (p->gids[i] == gid)
			return true;
	return false;
}

static bool in_listed_group(const struct zcbuf_producer *p, int fd)
{
	_cleanup_(free_p) gid_t *groups = NULL;
	socklen_t size = 0;

	getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &size);
	groups = malloc(size + 1);
	if (!groups || getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size))
		return false;
	for (size_t i = 0; i < size / sizeof(*groups); i++)
		if (group_listed(p, groups[i]))
			return true;
	return false;
}

/* Without the lock. */
static bool peer_allowed(const struct zcbuf_producer *p, int fd,
			 const struct zcbuf_peer *peer)
{
	if ((p->config.flags & ZCBUF_PRODUCER_ALLOW_ALL) || peer->uid == p->own_uid ||
	    peer->uid == 0)
		return true;
	for (size_t i = 0; i < p->config.n_uids; i++)
		if (p->uids[i] == peer->uid)
			return true;
	if (group_listed(p, peer->gid) || (p->config.n_gids && in_listed_group(p, fd)))
		return true;
	return p->config.allow && p->config.allow(p->config.allow_data, peer);
}

static bool make_place(struct zcbuf_producer *p)
{
	struct client *oldest = NULL;

	if (p->n_clients < p->config.max_consumers)
		return true;
	for (struct client *c = p->first; c; c = c->next)
		if (c->state == SILENT && (!oldest || c->id < oldest->id))
			oldest = c;
	if (oldest)
		client_disconnect(p, oldest, -EUSERS);
	return oldest;
}

static int client_add(struct zcbuf_producer *p, int fd, const struct zcbuf_peer *peer)
{
	struct client *client = calloc(1, sizeof(*client));
	unsigned int index = 0;
	int r;

	if (!client)
		return -ENOMEM;
	while (p->clients[index])
		index++;
	*client = (struct client){
		.next = p->first,
		.id = ++p->client_serial * ZCBUF_CHANNEL_CONSUMERS_MAX + index,
		.fd = fd,
		.since = channel_now(),
		.peer = *peer,
	};
	r = channel_epoll_add(p->io, fd, client->id);
	if (r < 0) {
		free(client);
		return r;
	}
	p->first = p->clients[index] = client;
	p->n_clients++;
	arm_timer(p);
	/* Now, so that it cannot be taken for one that says nothing. */
	client_receive(p, client);
	return 0;
}

/* Takes over @fd. The lock is released in between. */
static int admit(struct zcbuf_producer *p, int fd)
{
	_cleanup_(close_p) int own = fd;
	struct zcbuf_peer peer;
	bool allowed;
	int r;

	r = channel_peer(fd, &peer);
	if (r < 0)
		return r;
	unlock(p);
	allowed = peer_allowed(p, fd, &peer);
	lock(p);
	if (!allowed) {
		ctx_log(p->ctx, LOG_INFO, "process %d of user %u may not connect", peer.pid,
			peer.uid);
		r = -EACCES;
	} else if (p->closed) {
		r = -EPIPE;
	} else if (!make_place(p)) {
		r = -EUSERS;
	} else {
		r = client_add(p, fd, &peer);
	}
	if (r < 0) {
		p->stats.refused++;
		send_bye(fd, r);
		shutdown(fd, SHUT_RDWR);
		return r;
	}
	take_fd(&own);
	return 0;
}

static void listen_to_all(struct zcbuf_producer *p, bool listen)
{
	for (unsigned int i = 0; i < p->n_listeners; i++) {
		struct epoll_event event = { .events = listen ? EPOLLIN : 0,
					     .data.u64 = i };

		epoll_ctl(p->io, EPOLL_CTL_MOD, p->listeners[i].fd, &event);
	}
}

static void pause_listening(struct zcbuf_producer *p, int64_t how_long)
{
	listen_to_all(p, false);
	p->resume = channel_now() + how_long;
	arm_timer(p);
}

static void accept_clients(struct zcbuf_producer *p, unsigned int i)
{
	int64_t begin = channel_now(), time;

	for (int turn = 0; turn < ACCEPTS_PER_TURN; turn++) {
		int fd = accept4(p->listeners[i].fd, NULL, NULL,
				 SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			admit(p, fd);
			if (p->closed)
				return;
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
			   errno == ENOBUFS) {
			ctx_log(p->ctx, LOG_WARNING, "a consumer has to wait: %m");
			pause_listening(p, ACCEPT_PAUSE);
			return;
		} else if (errno != EINTR && errno != ECONNABORTED) {
			return;
		}
	}
	time = (channel_now() - begin) * ACCEPT_SHARE;
	pause_listening(p, time < ACCEPT_PAUSE ? time : ACCEPT_PAUSE);
}

/* ---- looking at the sockets ---------------------------------------------------------- */

static void handle_timer(struct zcbuf_producer *p)
{
	int64_t now = channel_now(), deadline;
	struct client *client;

	channel_flag_lower(p->timer);
	p->armed = CHANNEL_NEVER;
	/* One after the other: what the first gives back may be all that is needed. */
	while ((client = most_urgent(p, &deadline)) && deadline <= now)
		client_disconnect(p, client, -ETIMEDOUT);
	if (p->resume <= now) {
		p->resume = CHANNEL_NEVER;
		listen_to_all(p, true);
	}
	arm_timer(p);
}

/* Any of @events may be about something that another thread has dealt with. */
static void handle(struct zcbuf_producer *p, const struct epoll_event *events, int n)
{
	for (int i = 0; i < n; i++) {
		uint64_t tag = events[i].data.u64;
		struct client *client = p->clients[tag & CLIENT_INDEX];

		if (p->closed)
			return;
		if (tag < LISTENERS_MAX)
			accept_clients(p, tag);
		else if (tag == TAG_TIMER)
			handle_timer(p);
		else if (tag == TAG_WAKER)
			channel_flag_lower(p->waker);
		else if (client && client->id == tag && client->state != GONE)
			client_receive(p, client);
	}
	p->unlooked = 0;
}

static void look(struct zcbuf_producer *p)
{
	struct epoll_event events[EVENTS_PER_LOOK];

	handle(p, events, epoll_wait(p->io, events, EVENTS_PER_LOOK, 0));
}

/* Returns when something has changed, or may have. One thread waits in the kernel for all. */
static void wait_for_change(struct zcbuf_producer *p, int64_t deadline)
{
	struct epoll_event events[EVENTS_PER_LOOK];
	struct timespec until = {
		.tv_sec = deadline / (1000 * NSEC_PER_MSEC),
		.tv_nsec = deadline % (1000 * NSEC_PER_MSEC),
	};
	int n;

	announce(p);
	if (p->leading) {
		pthread_cond_timedwait(&p->changed, &p->lock, &until);
		return;
	}
	p->leading = true;
	pthread_mutex_unlock(&p->lock);
	n = epoll_wait(p->io, events, EVENTS_PER_LOOK, channel_timeout(deadline));
	pthread_mutex_lock(&p->lock);
	p->leading = false;
	handle(p, events, n);
	pthread_cond_broadcast(&p->changed);
}

/* Waits until @done() or the end of time, or zcbuf_producer_wake(). */
static void wait_until(struct zcbuf_producer *p, int64_t deadline,
		       bool (*done)(const struct zcbuf_producer *p))
{
	unsigned int wakes = p->wakes;

	p->waiters++;
	while (!done(p) && !p->closed && p->wakes == wakes && !p->wake_next &&
	       channel_now() < deadline)
		wait_for_change(p, deadline);
	p->wake_next = false;
	p->waiters--;
}

/* ---- birth and end ------------------------------------------------------------------- */

static bool config_valid(const struct zcbuf_producer_config *config)
{
	return !(config->flags &
		 ~(ZCBUF_PRODUCER_HOLD_STRICT | ZCBUF_PRODUCER_ALLOW_ALL)) &&
	       config->share <= ZCBUF_SHARE_WRITABLE && config->drop <= ZCBUF_DROP_NEWEST &&
	       config->max_consumers <= ZCBUF_CHANNEL_CONSUMERS_MAX &&
	       config->max_frames <= ZCBUF_CHANNEL_FRAMES_MAX &&
	       (config->uids || !config->n_uids) && (config->gids || !config->n_gids);
}

static int copy_config(struct zcbuf_producer *p, const struct zcbuf_producer_config *config)
{
	struct zcbuf_producer_config *own = &p->config;

	*own = *config;
	if (!own->drop)
		own->drop = ZCBUF_DROP_OLDEST;
	if (!own->max_consumers)
		own->max_consumers = DEFAULT_CONSUMERS;
	if (!own->max_frames)
		own->max_frames = DEFAULT_FRAMES;
	if (!own->hold_ms)
		own->hold_ms = DEFAULT_HOLD_MS;
	p->uids = calloc(own->n_uids + 1, sizeof(*p->uids));
	p->gids = calloc(own->n_gids + 1, sizeof(*p->gids));
	if (!p->uids || !p->gids)
		return -ENOMEM;
	if (own->n_uids)
		memcpy(p->uids, own->uids, own->n_uids * sizeof(*p->uids));
	if (own->n_gids)
		memcpy(p->gids, own->gids, own->n_gids * sizeof(*p->gids));
	return 0;
}

static int open_fds(struct zcbuf_producer *p)
{
	int r;

	p->io = epoll_create1(EPOLL_CLOEXEC);
	p->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	p->waker = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->io < 0 || p->timer < 0 || p->waker < 0)
		return -errno;
	r = channel_epoll_add(p->io, p->timer, TAG_TIMER);
	return r < 0 ? r : channel_epoll_add(p->io, p->waker, TAG_WAKER);
}

static void zcbuf_producer_unref_p(struct zcbuf_producer **producer)
{
	zcbuf_producer_unref(*producer);
}

int zcbuf_producer_new(struct zcbuf_ctx *ctx, const struct zcbuf_producer_config *config,
		       struct zcbuf_producer **result)
{
	static const struct zcbuf_producer_config defaults;
	_cleanup_(zcbuf_producer_unref_p) struct zcbuf_producer *p = NULL;
	pthread_condattr_t attributes;
	int r;

	if (!config)
		config = &defaults;
	if (!config_valid(config))
		return ctx_fail(ctx, -EINVAL,
				"producer: a field of its configuration is out of "
				"range (see libzcbuf-channel.h)");
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->refs = 1;
	p->ctx = zcbuf_ctx_ref(ctx);
	p->own_uid = geteuid();
	p->io = p->timer = p->waker = p->outer = p->ready = -1;
	p->resume = p->armed = CHANNEL_NEVER;
	p->events_end = &p->events;
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&p->changed, &attributes);
	pthread_condattr_destroy(&attributes);

	r = copy_config(p, config);
	if (r < 0)
		return r;
	p->clients = calloc(ZCBUF_CHANNEL_CONSUMERS_MAX, sizeof(struct client *));
	if (!p->clients)
		return -ENOMEM;
	r = channel_inbox_init(&p->inbox, CHANNEL_FROM_CONSUMER);
	if (r < 0)
		return r;
	r = open_fds(p);
	if (r < 0)
		return ctx_fail(ctx, r, "producer: no file descriptors: %s", strerror(-r));
	*result = take_pointer(p);
	return 0;
}

struct zcbuf_producer *zcbuf_producer_ref(struct zcbuf_producer *p)
{
	atomic_fetch_add(&p->refs, 1);
	return p;
}

void zcbuf_producer_close(struct zcbuf_producer *p)
{
	struct client *next;

	lock(p);
	p->closed = true;
	for (unsigned int i = 0; i < p->n_listeners; i++) {
		epoll_ctl(p->io, EPOLL_CTL_DEL, p->listeners[i].fd, NULL);
		channel_unlink(&p->listeners[i].place);
		close(p->listeners[i].fd);
	}
	p->n_listeners = 0;
	for (struct client *c = p->first; c; c = next) {
		next = c->next;
		if (c->state != GONE)
			client_disconnect(p, c, -ECANCELED);
	}
	wake_all(p);
	unlock(p);
}

static void slot_clear(struct slot *slot)
{
	close_p(&slot->reopened);
	zcbuf_buffer_unref(slot->view);
	zcbuf_buffer_unref(slot->buffer);
	*slot = (struct slot){ .reopened = -1, .fd = -1 };
}

static void drop_events(struct zcbuf_producer *p)
{
	struct zcbuf_producer_event event;

	while (p->events)
		zcbuf_producer_next_event(p, 0, &event);
	if (p->delivered)
		frame_recycle(p, p->delivered);
}

struct zcbuf_producer *zcbuf_producer_unref(struct zcbuf_producer *p)
{
	struct frame *frame;

	if (!p || atomic_fetch_sub(&p->refs, 1) != 1)
		return NULL;
	zcbuf_producer_close(p);
	drop_events(p);
	while ((frame = p->unused)) {
		p->unused = frame->next;
		frame_free(frame);
	}
	for (unsigned int i = 0; i < p->n_slots; i++)
		slot_clear(&p->slots[i]);
	channel_inbox_release(&p->inbox);
	close_p(&p->outer);
	close_p(&p->ready);
	close_p(&p->io);
	close_p(&p->timer);
	close_p(&p->waker);
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
	zcbuf_ctx_unref(p->ctx);
	free(p->clients);
	free(p->format);
	free(p->uids);
	free(p->gids);
	free(p);
	return NULL;
}

/* ---- where consumers come from ------------------------------------------------------- */

/* Takes over @fd if it succeeds. */
static int listener_add(struct zcbuf_producer *p, int fd, const struct channel_place *place)
{
	int r;

	if (p->closed)
		return -EPIPE;
	if (p->n_listeners == LISTENERS_MAX)
		return ctx_fail(p->ctx, -ENOSPC,
				"a producer listens at %d addresses at most",
				LISTENERS_MAX);
	r = channel_epoll_add(p->io, fd, p->n_listeners);
	if (r < 0)
		return r;
	p->listeners[p->n_listeners++] = (struct listener){ .fd = fd, .place = *place };
	return 0;
}

int zcbuf_producer_listen(struct zcbuf_producer *p, const char *address, mode_t mode)
{
	struct channel_place place;
	int fd, r;

	fd = channel_listen(p->ctx, address, mode, &place);
	if (fd < 0)
		return fd;
	lock(p);
	r = listener_add(p, fd, &place);
	unlock(p);
	if (r < 0) {
		channel_unlink(&place);
		close(fd);
	}
	return r;
}

int zcbuf_producer_add_socket(struct zcbuf_producer *p, int fd)
{
	static const struct channel_place nowhere;
	_cleanup_(close_p) int own = -1;
	bool listening;
	int r;

	own = channel_adopt(fd, &listening);
	if (own < 0)
		return ctx_fail(p->ctx, own, "fd %d: not a SOCK_SEQPACKET Unix socket", fd);
	lock(p);
	if (p->closed) {
		r = -EPIPE;
	} else if (listening) {
		r = listener_add(p, own, &nowhere);
		if (!r)
			take_fd(&own);
	} else {
		r = admit(p, take_fd(&own));
	}
	unlock(p);
	return r;
}

int zcbuf_producer_fd(struct zcbuf_producer *p)
{
	_cleanup_(close_p) int outer = -1, ready = -1;
	int r = 0;

	lock(p);
	if (p->outer < 0) {
		outer = epoll_create1(EPOLL_CLOEXEC);
		ready = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (outer < 0 || ready < 0)
			r = -errno;
		if (!r)
			r = channel_epoll_add(outer, p->io, 0);
		if (!r)
			r = channel_epoll_add(outer, ready, 0);
		if (!r) {
			p->outer = take_fd(&outer);
			p->ready = take_fd(&ready);
		}
	}
	if (!r)
		r = p->outer;
	unlock(p);
	return r;
}

/* ---- the pool ------------------------------------------------------------------------ */

/*
 * A read-only file descriptor of a memfd. Only its owner can get a writable one from it, by
 * opening it anew, if nobody else has permission to.
 */
static int reopen_read_only(int fd)
{
	char path[32];
	int copy;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	copy = open(path, O_RDONLY | O_CLOEXEC);
	if (copy < 0)
		return -errno;
	fchmod(copy, S_IRUSR | S_IWUSR);
	return copy;
}

static int slot_share(struct zcbuf_producer *p, struct slot *slot)
{
	struct zcbuf_buffer_info info;
	int r;

	r = zcbuf_buffer_get_info(slot->buffer, &info);
	if (r < 0)
		return r;
	slot->fd = zcbuf_buffer_fd(slot->buffer);
	slot->flags = info.read_only ? CHANNEL_BUFFER_READ_ONLY : 0;
	if (info.read_only || p->config.share == ZCBUF_SHARE_WRITABLE)
		return 0;
	if (info.backend == ZCBUF_BACKEND_ZCBUF) {
		r = zcbuf_buffer_view(slot->buffer, 0, 0, ZCBUF_VIEW_READ_ONLY,
				      &slot->view);
		if (r < 0)
			return r;
		slot->fd = zcbuf_buffer_fd(slot->view);
	} else if (info.backend == ZCBUF_BACKEND_MEMFD) {
		slot->reopened = reopen_read_only(slot->fd);
		if (slot->reopened < 0)
			return ctx_fail(p->ctx, slot->reopened,
					"buffer %llu: cannot be opened read-only: %s",
					(unsigned long long)info.inode,
					strerror(-slot->reopened));
		slot->fd = slot->reopened;
	} else if (p->config.share == ZCBUF_SHARE_PREFER_READ_ONLY) {
		return 0;
	} else {
		return ctx_fail(
			p->ctx, -EOPNOTSUPP,
			"buffer %llu: a %s buffer cannot be shared read-only (allocate "
			"from a zcbuf heap, or set share in the configuration)",
			(unsigned long long)info.inode, zcbuf_backend_name(info.backend));
	}
	slot->flags = CHANNEL_BUFFER_READ_ONLY;
	return 0;
}

static struct slot *find_slot(struct zcbuf_producer *p, const struct zcbuf_buffer *buffer)
{
	for (unsigned int i = 0; i < p->n_slots; i++)
		if (p->slots[i].buffer == buffer)
			return &p->slots[i];
	return NULL;
}

static int add_buffer(struct zcbuf_producer *p, struct zcbuf_buffer *buffer)
{
	struct slot *slot = find_slot(p, buffer), fresh = { .reopened = -1, .fd = -1 };
	int r;

	if (slot)
		return -EEXIST;
	slot = find_slot(p, NULL);
	if (!slot && p->n_slots == ZCBUF_CHANNEL_BUFFERS_MAX)
		return ctx_fail(p->ctx, -ENOSPC, "a producer has %d buffers at most",
				ZCBUF_CHANNEL_BUFFERS_MAX);
	fresh.buffer = zcbuf_buffer_ref(buffer);
	r = slot_share(p, &fresh);
	if (r < 0) {
		slot_clear(&fresh);
		return r;
	}
	fresh.id = ++p->last_buffer;
	if (!slot)
		slot = &p->slots[p->n_slots++];
	*slot = fresh;
	p->n_buffers++;
	return 0;
}

int zcbuf_producer_add_buffer(struct zcbuf_producer *p, struct zcbuf_buffer *buffer)
{
	int r;

	lock(p);
	r = add_buffer(p, buffer);
	unlock(p);
	return r;
}

static bool frame_contains(const struct frame *frame, uint32_t id)
{
	for (unsigned int i = 0; frame && i < frame->count; i++)
		if (frame->ids[i] == id)
			return true;
	return false;
}

static void remove_buffer(struct zcbuf_producer *p, struct slot *slot)
{
	uint32_t id = slot->id;

	p->n_buffers--;
	p->n_busy -= slot->busy > 0;
	slot_clear(slot);
	for (struct client *c = p->first; c; c = c->next) {
		if (frame_contains(c->waiting, id))
			client_drop_waiting(p, c);
		if (c->told[slot - p->slots] == id)
			c->forget = true;
		flush_client(p, c);
	}
	arm_timer(p);
}

int zcbuf_producer_remove_buffer(struct zcbuf_producer *p, struct zcbuf_buffer *buffer)
{
	struct slot *slot;

	lock(p);
	slot = buffer ? find_slot(p, buffer) : NULL;
	if (slot)
		remove_buffer(p, slot);
	unlock(p);
	return slot ? 0 : -ENOENT;
}

/* ---- the stream ---------------------------------------------------------------------- */

int zcbuf_producer_set_format(struct zcbuf_producer *p, const void *data, size_t size)
{
	void *copy;

	if (size > ZCBUF_CHANNEL_PAYLOAD_MAX)
		return ctx_fail(p->ctx, -EINVAL, "a format has %d bytes at most, not %zu",
				ZCBUF_CHANNEL_PAYLOAD_MAX, size);
	copy = malloc(size + 1);
	if (!copy)
		return -ENOMEM;
	if (size)
		memcpy(copy, data, size);
	lock(p);
	free(p->format);
	p->format = copy;
	p->format_size = size;
	p->format_serial++;
	for (struct client *c = p->first; c; c = c->next)
		client_drop_waiting(p, c); /* it has another format */
	flush_all(p);
	unlock(p);
	return 0;
}

int zcbuf_producer_end(struct zcbuf_producer *p)
{
	lock(p);
	p->ended = true;
	flush_all(p);
	unlock(p);
	return 0;
}

static bool worth_waiting(const struct zcbuf_producer *p)
{
	for (const struct client *c = p->first; c; c = c->next)
		if (c->state == ADMITTED && !c->slow && client_full(c))
			return true;
	return false;
}

static bool nobody_to_wait_for(const struct zcbuf_producer *p)
{
	return !worth_waiting(p);
}

static void make_room(struct zcbuf_producer *p, int timeout_ms)
{
	struct client *next;

	if (++p->unlooked >= CALLS_PER_LOOK)
		look(p);
	for (struct client *c = p->first; c; c = next) {
		next = c->next;
		if (c->state == ADMITTED && client_full(c))
			client_receive(p, c);
	}
	if (!timeout_ms || !worth_waiting(p))
		return;
	wait_until(p, channel_deadline(timeout_ms), nobody_to_wait_for);
	for (struct client *c = p->first; c; c = c->next)
		c->slow |= c->state == ADMITTED && client_full(c);
}

static int frame_fill(struct zcbuf_producer *p, struct frame *frame,
		      const struct zcbuf_frame *source)
{
	*frame = (struct frame){
		.frame = *source,
		.id = ++p->last_frame,
		.holders = 1, /* zcbuf_producer_send() */
		.fence = -1,
		.metadata = frame->metadata,
		.room = frame->room,
	};
	while (frame->count < ZCBUF_FRAME_BUFFERS && source->buffers[frame->count]) {
		struct slot *slot = find_slot(p, source->buffers[frame->count]);

		if (!slot)
			return ctx_fail(p->ctx, -ENOENT,
					"frame %llu: its buffer %u was not added",
					(unsigned long long)source->sequence, frame->count);
		frame->slots[frame->count] = slot - p->slots;
		frame->ids[frame->count++] = slot->id;
	}
	return 0;
}

static void client_offer(struct zcbuf_producer *p, struct client *client,
			 struct frame *frame)
{
	bool full;

	if (client->waiting && client->n_held < client->max_frames)
		flush_client(p, client);
	if (client->state != ADMITTED)
		return;
	full = client_full(client);
	if (full && client->drop == ZCBUF_DROP_NEWEST) {
		client_lose(client);
		return;
	}
	client_drop_waiting(p, client);
	client->missing |= full;
	client->waiting = frame;
	frame->holders++;
	if (!full)
		flush_client(p, client);
}

static void keep_for_waiting(struct zcbuf_producer *p, struct frame *frame)
{
	int r = 1;

	for (struct client *c = p->first; c; c = c->next) {
		if (c->waiting != frame)
			continue;
		if (r == 1)
			r = frame_keep(frame);
		if (r < 0)
			client_drop_waiting(p, c);
	}
	if (r != 0)
		frame->frame.fence = -1;
}

static int send_frame(struct zcbuf_producer *p, const struct zcbuf_frame *source)
{
	struct frame *frame;
	int r;

	if (p->n_frames == FRAMES_MAX)
		return ctx_fail(p->ctx, -ENOBUFS,
				"%d frames sent without looking for "
				"ZCBUF_PRODUCER_RELEASED",
				FRAMES_MAX);
	frame = frame_new(p);
	if (!frame)
		return -ENOMEM;
	r = frame_fill(p, frame, source);
	if (r < 0) {
		frame_recycle(p, frame);
		return r;
	}
	frame_busy(p, frame, true);
	p->stats.frames++;
	if (p->ended)
		for (struct client *c = p->first; c; c = c->next)
			c->end_told = false;
	p->ended = false;
	for (struct client *c = p->first; c; c = c->next)
		client_offer(p, c, frame);
	keep_for_waiting(p, frame);
	r = frame->holders - 1;
	frame_put(p, frame);
	arm_timer(p);
	return r;
}

int zcbuf_producer_send(struct zcbuf_producer *p, const struct zcbuf_frame *frame,
			int timeout_ms)
{
	int r;

	if (frame->metadata_size > ZCBUF_CHANNEL_PAYLOAD_MAX)
		return ctx_fail(p->ctx, -EINVAL, "metadata has %d bytes at most, not %zu",
				ZCBUF_CHANNEL_PAYLOAD_MAX, frame->metadata_size);
	lock(p);
	make_room(p, timeout_ms);
	r = p->closed ? -EPIPE : send_frame(p, frame);
	unlock(p);
	return r;
}

/* ---- what happened ------------------------------------------------------------------- */

static void deliver_frame(struct zcbuf_producer *p, struct frame *frame,
			  struct zcbuf_producer_event *event)
{
	if (p->delivered)
		frame_recycle(p, p->delivered);
	event->frame = frame->frame;
	event->frame.fence = frame->fence;
	p->delivered = frame;
}

static void deliver_client(struct zcbuf_producer *p, struct client *client,
			   struct zcbuf_producer_event *event)
{
	event->consumer = client->id;
	event->peer = client->peer;
	if (event->type != ZCBUF_PRODUCER_DISCONNECTED)
		return;
	event->error = client->error;
	client_free(p, client);
}

#define container(pointer, type, member) \
	((type *)(void *)((char *)(pointer)-offsetof(type, member)))

static void deliver(struct zcbuf_producer *p, struct zcbuf_producer_event *result)
{
	struct event *event = take_event(p);

	*result = (struct zcbuf_producer_event){ .type = event->type };
	if (event->type == ZCBUF_PRODUCER_RELEASED)
		deliver_frame(p, container(event, struct frame, released), result);
	else if (event->type == ZCBUF_PRODUCER_CONNECTED)
		deliver_client(p, container(event, struct client, connected), result);
	else
		deliver_client(p, container(event, struct client, disconnected), result);
}

static bool have_events(const struct zcbuf_producer *p)
{
	return p->events;
}

/* With one client there is no need to ask epoll which one has something to say. */
static void look_at_only_client(struct zcbuf_producer *p, unsigned int min_held)
{
	struct client *client = p->first;

	if (client && !client->next && client->state == ADMITTED &&
	    client->n_held >= min_held && ++p->unlooked < CALLS_PER_LOOK)
		client_receive(p, client);
}

static void look_for_events(struct zcbuf_producer *p, int timeout_ms)
{
	/* It holds more than it is probably working on: something may have come back. */
	if (timeout_ms) {
		look_at_only_client(p, 2);
		if (!p->events)
			wait_until(p, channel_deadline(timeout_ms), have_events);
		return;
	}
	/* A program that polls calls until there is nothing left: it need not look twice. */
	if (!p->looked) {
		look_at_only_client(p, 1);
		if (!p->events)
			look(p);
	}
	p->looked = p->events;
}

int zcbuf_producer_next_event(struct zcbuf_producer *p, int timeout_ms,
			      struct zcbuf_producer_event *event)
{
	int r;

	lock(p);
	if (p->events && ++p->unlooked >= CALLS_PER_LOOK && !p->closed)
		look(p);
	if (!p->events && !p->closed)
		look_for_events(p, timeout_ms);
	r = have_events(p);
	if (r)
		deliver(p, event);
	unlock(p);
	return r;
}

void zcbuf_producer_wake(struct zcbuf_producer *p)
{
	lock(p);
	if (p->waiters)
		p->wakes++;
	else
		p->wake_next = true;
	wake_all(p);
	unlock(p);
}

/* ---- who is there -------------------------------------------------------------------- */

static void describe_client(const struct client *client, struct zcbuf_consumer_info *info)
{
	*info = (struct zcbuf_consumer_info){
		.id = client->id,
		.peer = client->peer,
		.max_frames = client->max_frames,
		.drop = client->drop,
		.held = client->n_held,
		.waiting = client->waiting ? 1 : 0,
		.buffers = client->n_told,
		.sent = client->sent,
		.returned = client->returned,
		.dropped = client->dropped,
		.fds = client->fds,
	};
}

int zcbuf_producer_get_consumers(struct zcbuf_producer *p,
				 struct zcbuf_consumer_info **result)
{
	struct zcbuf_consumer_info *infos;
	int n = 0;

	lock(p);
	infos = calloc(p->stats.consumers + 1, sizeof(*infos));
	for (const struct client *c = p->first; infos && c; c = c->next)
		if (c->state == ADMITTED)
			describe_client(c, &infos[n++]);
	unlock(p);
	if (!infos)
		return -ENOMEM;
	*result = infos;
	return n;
}

void zcbuf_producer_get_stats(struct zcbuf_producer *p, struct zcbuf_producer_stats *stats)
{
	lock(p);
	*stats = p->stats;
	stats->buffers = p->n_buffers;
	stats->busy_buffers = p->n_busy;
	unlock(p);
}

int zcbuf_producer_disconnect(struct zcbuf_producer *p, uint64_t consumer)
{
	struct client *client;
	int r = -ENOENT;

	lock(p);
	client = p->clients[consumer & CLIENT_INDEX];
	if (client && client->id == consumer && client->state == ADMITTED) {
		client_disconnect(p, client, -ECANCELED);
		r = 0;
	}
	unlock(p);
	return r;
}
