// SPDX-License-Identifier: LGPL-2.1-or-later
/* One consumer, as its producer sees it, and the frames that it holds. */
#include <fcntl.h>
#include <linux/sync_file.h>
#include <string.h>
#include <sys/epoll.h>

#include "channel_producer.h"

/* ---- frames -------------------------------------------------------------------------- */

struct frame *frame_new(struct zcbuf_producer *p)
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

void frame_recycle(struct zcbuf_producer *p, struct frame *frame)
{
	close_p(&frame->fence);
	frame->next = p->unused;
	p->unused = frame;
	p->n_frames--;
}

void frame_free(struct frame *frame)
{
	free(frame->metadata);
	free(frame);
}

int frame_keep(struct frame *frame)
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

void frame_busy(struct zcbuf_producer *p, struct frame *frame, bool busy)
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

void frame_put(struct zcbuf_producer *p, struct frame *frame)
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
	producer_queue_event(p, &frame->released, ZCBUF_PRODUCER_RELEASED);
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

/* ---- clients ------------------------------------------------------------------------- */

void client_free(struct zcbuf_producer *p, struct client *client)
{
	struct client **link = &p->first;

	while (*link != client)
		link = &(*link)->next;
	*link = client->next;
	p->clients[client->info.id & CLIENT_INDEX] = NULL;
	p->n_clients--;
	free(client);
}

void client_say_bye(int fd, int error)
{
	struct channel_bye bye = {
		.header = CHANNEL_HEADER(CHANNEL_BYE, sizeof(bye)),
		.error = error,
	};

	channel_send(fd, &bye.header, sizeof(bye), NULL, -1);
}

void client_disconnect(struct zcbuf_producer *p, struct client *client, int error)
{
	if (error != -ECONNRESET)
		client_say_bye(client->fd, error);
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
	producer_queue_event(p, &client->disconnected, ZCBUF_PRODUCER_DISCONNECTED);
}

static void client_lose(struct client *client)
{
	client->lost++;
	client->info.dropped++;
	client->missing = true;
}

void client_drop_waiting(struct zcbuf_producer *p, struct client *client)
{
	if (client->waiting) {
		client_lose(client);
		frame_put(p, client->waiting);
		client->waiting = NULL;
	}
}

bool client_full(const struct client *client)
{
	return client->waiting || client->n_held == client->info.max_frames;
}

/* ---- what clients are told ------------------------------------------------------------ */

/* These return what channel_send() does; the client knows what was sent. */

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
	client->info.buffers--;
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
	buffer.size = zcbuf_buffer_size(slot->buffer);
	r = channel_send(client->fd, &buffer.header, sizeof(buffer), NULL, slot->fd);
	if (r < 0)
		return r;
	client->told[i] = slot->id;
	client->info.buffers++;
	client->info.fds++;
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
	client->info.sent++;
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
	if (!r && client->waiting && client->n_held < client->info.max_frames)
		r = tell_frame(p, client);
	if (!r && p->ended && !client->end_told && !client->waiting)
		r = tell_end(client);
	return r;
}

static void client_block(struct zcbuf_producer *p, struct client *client, bool blocked)
{
	struct epoll_event event = {
		.events = blocked ? EPOLLIN | EPOLLOUT : EPOLLIN,
		.data.u64 = client->info.id,
	};

	if (client->blocked == blocked)
		return;
	client->blocked = blocked;
	epoll_ctl(p->io, EPOLL_CTL_MOD, client->fd, &event);
}

void client_flush(struct zcbuf_producer *p, struct client *client)
{
	int r;

	if (client->state != ADMITTED)
		return;
	r = tell_all(p, client);
	if (r == 0 || channel_send_later(r))
		client_block(p, client, r == -EAGAIN);
	else
		client_disconnect(p, client, -ECONNRESET);
}

void client_offer(struct zcbuf_producer *p, struct client *client, struct frame *frame)
{
	bool full;

	if (client->waiting && client->n_held < client->info.max_frames)
		client_flush(p, client);
	if (client->state != ADMITTED)
		return;
	full = client_full(client);
	if (full && client->info.drop == ZCBUF_DROP_NEWEST) {
		client_lose(client);
		return;
	}
	client_drop_waiting(p, client);
	client->missing |= full;
	client->waiting = frame;
	frame->holders++;
	if (!full)
		client_flush(p, client);
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
	client->info.max_frames = welcome.max_frames;
	client->info.drop = welcome.drop;
	client->state = ADMITTED;
	p->stats.admitted++;
	p->stats.consumers++;
	producer_queue_event(p, &client->connected, ZCBUF_PRODUCER_CONNECTED);
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
	client->info.returned++;
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

void client_receive(struct zcbuf_producer *p, struct client *client)
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
		client_flush(p, client);
}
