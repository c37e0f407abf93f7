// SPDX-License-Identifier: LGPL-2.1-or-later
/* The producer's end of a channel, as programs call it. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

#include "channel_producer.h"

#define DEFAULT_CONSUMERS 64
#define DEFAULT_FRAMES	  4
#define DEFAULT_HOLD_MS	  5000

/* A connection says HELLO at once, or it is none. */
#define HELLO_TIME (1000 * NSEC_PER_MSEC)
/* Calls that may be answered from memory before the sockets are looked at again. */
#define CALLS_PER_LOOK 16
/* Frames whose release the program has not collected, at most. */
#define FRAMES_MAX	4096
#define EVENTS_PER_LOOK 32

/* What epoll returns: a client's id, which is above these, or a listener, or one of them. */
#define TAG_TIMER LISTENERS_MAX
#define TAG_WAKER (LISTENERS_MAX + 1)

/* ---- events -------------------------------------------------------------------------- */

void producer_queue_event(struct zcbuf_producer *p, struct event *event,
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

void producer_lock(struct zcbuf_producer *p)
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

void producer_unlock(struct zcbuf_producer *p)
{
	announce(p);
	pthread_mutex_unlock(&p->lock);
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
void producer_arm_timer(struct zcbuf_producer *p)
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
	if (p->resume <= now)
		producer_resume_listening(p);
	producer_arm_timer(p);
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
			producer_accept(p, tag);
		else if (tag == TAG_TIMER)
			handle_timer(p);
		else if (tag == TAG_WAKER)
			channel_flag_lower(p->waker);
		else if (client && client->info.id == tag && client->state != GONE)
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

	producer_lock(p);
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
	producer_unlock(p);
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
	producer_lock(p);
	r = listener_add(p, fd, &place);
	producer_unlock(p);
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
	producer_lock(p);
	if (p->closed) {
		r = -EPIPE;
	} else if (listening) {
		r = listener_add(p, own, &nowhere);
		if (!r)
			take_fd(&own);
	} else {
		r = producer_admit(p, take_fd(&own));
	}
	producer_unlock(p);
	return r;
}

int zcbuf_producer_fd(struct zcbuf_producer *p)
{
	_cleanup_(close_p) int outer = -1, ready = -1;
	int r = 0;

	producer_lock(p);
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
	producer_unlock(p);
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

	producer_lock(p);
	r = add_buffer(p, buffer);
	producer_unlock(p);
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
		client_flush(p, c);
	}
	producer_arm_timer(p);
}

int zcbuf_producer_remove_buffer(struct zcbuf_producer *p, struct zcbuf_buffer *buffer)
{
	struct slot *slot;

	producer_lock(p);
	slot = buffer ? find_slot(p, buffer) : NULL;
	if (slot)
		remove_buffer(p, slot);
	producer_unlock(p);
	return slot ? 0 : -ENOENT;
}

/* ---- the stream ---------------------------------------------------------------------- */

static void flush_all(struct zcbuf_producer *p)
{
	for (struct client *c = p->first; c; c = c->next)
		client_flush(p, c);
}

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
	producer_lock(p);
	free(p->format);
	p->format = copy;
	p->format_size = size;
	p->format_serial++;
	for (struct client *c = p->first; c; c = c->next)
		client_drop_waiting(p, c); /* it has another format */
	flush_all(p);
	producer_unlock(p);
	return 0;
}

int zcbuf_producer_end(struct zcbuf_producer *p)
{
	producer_lock(p);
	p->ended = true;
	flush_all(p);
	producer_unlock(p);
	return 0;
}

static void restart(struct zcbuf_producer *p)
{
	if (!p->ended)
		return;
	p->ended = false;
	for (struct client *c = p->first; c; c = c->next)
		c->end_told = false;
}

void zcbuf_producer_restart(struct zcbuf_producer *p)
{
	producer_lock(p);
	restart(p);
	producer_unlock(p);
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
	restart(p);
	for (struct client *c = p->first; c; c = c->next)
		client_offer(p, c, frame);
	keep_for_waiting(p, frame);
	r = (int)frame->holders - 1;
	frame_put(p, frame);
	producer_arm_timer(p);
	return r;
}

int zcbuf_producer_send(struct zcbuf_producer *p, const struct zcbuf_frame *frame,
			int timeout_ms)
{
	int r;

	if (frame->metadata_size > ZCBUF_CHANNEL_PAYLOAD_MAX)
		return ctx_fail(p->ctx, -EINVAL, "metadata has %d bytes at most, not %zu",
				ZCBUF_CHANNEL_PAYLOAD_MAX, frame->metadata_size);
	producer_lock(p);
	make_room(p, timeout_ms);
	r = p->closed ? -EPIPE : send_frame(p, frame);
	producer_unlock(p);
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
	event->consumer = client->info.id;
	event->peer = client->info.peer;
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

	producer_lock(p);
	if (p->events && ++p->unlooked >= CALLS_PER_LOOK && !p->closed)
		look(p);
	if (!p->events && !p->closed)
		look_for_events(p, timeout_ms);
	r = have_events(p);
	if (r)
		deliver(p, event);
	producer_unlock(p);
	return r;
}

void zcbuf_producer_wake(struct zcbuf_producer *p)
{
	producer_lock(p);
	if (p->waiters)
		p->wakes++;
	else
		p->wake_next = true;
	wake_all(p);
	producer_unlock(p);
}

/* ---- who is there -------------------------------------------------------------------- */

int zcbuf_producer_get_consumers(struct zcbuf_producer *p,
				 struct zcbuf_consumer_info **result)
{
	struct zcbuf_consumer_info *infos;
	int n = 0;

	producer_lock(p);
	infos = calloc(p->stats.consumers + 1, sizeof(*infos));
	for (const struct client *c = p->first; infos && c; c = c->next) {
		if (c->state != ADMITTED)
			continue;
		infos[n] = c->info;
		infos[n].held = c->n_held;
		infos[n++].waiting = c->waiting ? 1 : 0;
	}
	producer_unlock(p);
	if (!infos)
		return -ENOMEM;
	*result = infos;
	return n;
}

void zcbuf_producer_get_stats(struct zcbuf_producer *p, struct zcbuf_producer_stats *stats)
{
	producer_lock(p);
	*stats = p->stats;
	stats->buffers = p->n_buffers;
	stats->busy_buffers = p->n_busy;
	producer_unlock(p);
}

int zcbuf_producer_disconnect(struct zcbuf_producer *p, uint64_t consumer)
{
	struct client *client;
	int r = -ENOENT;

	producer_lock(p);
	client = p->clients[consumer & CLIENT_INDEX];
	if (client && client->info.id == consumer && client->state == ADMITTED) {
		client_disconnect(p, client, -ECANCELED);
		r = 0;
	}
	producer_unlock(p);
	return r;
}
