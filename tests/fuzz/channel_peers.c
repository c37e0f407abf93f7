// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * libFuzzer: a producer and a consumer whose peer says what the input says.
 *
 * The input is a list of messages: a byte of flags, the length in two bytes, and that many
 * bytes. Flag bit 0: behind it the other side gets a turn; bits 1 and 2: a file descriptor
 * comes along (1: memory, 2: a pipe, 3: several).
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>
#include <unistd.h>

#include "channel_message.h"

#define SIZE 8192

static struct zcbuf_ctx *ctx;
static struct zcbuf_buffer *buffer;
static int pipes[2];

static void need(int result)
{
	if (result < 0)
		abort();
}

static void set_up(void)
{
	struct zcbuf_heap *heap;

	need(zcbuf_ctx_new(&ctx));
	zcbuf_ctx_set_log(ctx, NULL, NULL);
	need(zcbuf_heap_open(ctx, "memfd", &heap));
	need(zcbuf_heap_alloc(heap, SIZE, NULL, &buffer));
	zcbuf_heap_unref(heap);
	need(pipe(pipes));
}

static void say(int socket, const void *data, size_t size, unsigned int what)
{
	const int fds[4][3] = {
		{ -1 },
		{ zcbuf_buffer_fd(buffer), -1 },
		{ pipes[0], -1 },
		{ pipes[0], zcbuf_buffer_fd(buffer), pipes[1] },
	};
	size_t n = what == 3 ? 3 : what ? 1 : 0;
	struct iovec part = { .iov_base = (void *)data, .iov_len = size };
	union {
		char bytes[CMSG_SPACE(3 * sizeof(int))];
		struct cmsghdr header;
	} control = { .header = { .cmsg_level = SOL_SOCKET,
				  .cmsg_type = SCM_RIGHTS,
				  .cmsg_len = CMSG_LEN(n * sizeof(int)) } };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (n) {
		memcpy(CMSG_DATA(&control.header), fds[what], n * sizeof(int));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(n * sizeof(int));
	}
	sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void listen_to(int socket)
{
	static char bytes[CHANNEL_PRODUCER_MESSAGE_MAX];

	while (recv(socket, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
}

static void producer_turn(struct zcbuf_producer *producer, unsigned int *on_the_way)
{
	struct zcbuf_frame frame = { .buffers = { buffer, buffer }, .fence = pipes[0] };
	struct zcbuf_producer_event event;

	while (zcbuf_producer_next_event(producer, 0, &event) == 1)
		*on_the_way -= event.type == ZCBUF_PRODUCER_RELEASED;
	need(zcbuf_producer_send(producer, &frame, 0));
	++*on_the_way;
}

static void consumer_turn(struct zcbuf_consumer *consumer)
{
	const struct zcbuf_frame *kept = NULL;
	struct zcbuf_consumer_event event;

	while (zcbuf_consumer_next_event(consumer, 0, &event) == 1) {
		if (event.type != ZCBUF_CONSUMER_FRAME)
			continue;
		/* One of two stays with the consumer. */
		if (kept)
			need(zcbuf_consumer_give_back(consumer, kept, -1));
		kept = kept ? NULL : event.frame;
	}
}

static bool next_message(const unsigned char **data, size_t *size, const void **message,
			 size_t *length, unsigned int *flags)
{
	if (*size < 3)
		return false;
	*flags = (*data)[0];
	*length = (*data)[1] | (size_t)(*data)[2] << 8;
	*data += 3;
	*size -= 3;
	if (*length > *size)
		*length = *size;
	*message = *data;
	*data += *length;
	*size -= *length;
	return true;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	struct zcbuf_producer *producer = NULL;
	struct zcbuf_consumer *consumer = NULL;
	struct zcbuf_producer_event event;
	unsigned int flags, on_the_way = 0;
	const void *message;
	size_t length;
	int pair[2];

	if (!ctx)
		set_up();
	if (!size)
		return 0;
	need(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	if (data[0] & 1) {
		need(zcbuf_producer_new(ctx, NULL, &producer));
		need(zcbuf_producer_add_buffer(producer, buffer));
		need(zcbuf_producer_add_socket(producer, pair[1]));
	} else {
		need(zcbuf_consumer_new_from_socket(ctx, pair[1], NULL, &consumer));
	}
	close(pair[1]);
	data++;
	size--;
	while (next_message(&data, &size, &message, &length, &flags)) {
		say(pair[0], message, length, flags >> 1 & 3);
		if (!(flags & 1))
			continue;
		if (producer)
			producer_turn(producer, &on_the_way);
		else
			consumer_turn(consumer);
		listen_to(pair[0]);
	}
	close(pair[0]);
	if (producer) {
		zcbuf_producer_close(producer);
		while (zcbuf_producer_next_event(producer, 0, &event) == 1)
			on_the_way -= event.type == ZCBUF_PRODUCER_RELEASED;
		if (on_the_way)
			abort(); /* a frame that nobody holds was not released */
		zcbuf_producer_unref(producer);
	} else {
		consumer_turn(consumer);
		zcbuf_consumer_unref(consumer);
	}
	return 0;
}
