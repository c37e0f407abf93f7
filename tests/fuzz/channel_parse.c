// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * libFuzzer: the parser of a channel's messages. The first byte of the input says which side
 * sent it (bit 0) and how many file descriptors came along (bits 1 and 2).
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "channel_message.h"

/* What holds for every message that is accepted, whatever was sent. */
static void check(const struct channel_message *m, const char *data, size_t size,
		  unsigned int n_fds, enum channel_side from)
{
	enum channel_type type = m->header.type;
	bool consumer = type == CHANNEL_HELLO || type == CHANNEL_RELEASE;

	if (m->header.size != size || consumer != (from == CHANNEL_FROM_CONSUMER))
		abort();
	if (m->payload_size > ZCBUF_CHANNEL_PAYLOAD_MAX ||
	    (const char *)m->payload + m->payload_size != data + size)
		abort();
	if (m->payload_size && type != CHANNEL_FORMAT && type != CHANNEL_FRAME)
		abort();
	if (n_fds > 1 || (type == CHANNEL_BUFFER) > n_fds ||
	    (n_fds && type != CHANNEL_BUFFER && type != CHANNEL_FRAME &&
	     type != CHANNEL_RELEASE))
		abort();
	if (type == CHANNEL_WELCOME &&
	    (m->welcome.max_frames - 1 >= ZCBUF_CHANNEL_FRAMES_MAX || m->welcome.features))
		abort();
	if (type == CHANNEL_BUFFER && (!m->buffer.id || !m->buffer.size))
		abort();
	if (type == CHANNEL_BYE && m->bye.error >= 0)
		abort();
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	struct channel_message message;
	enum channel_side from;
	unsigned int n_fds;
	char *copy;

	if (!size)
		return 0;
	from = data[0] & 1 ? CHANNEL_FROM_PRODUCER : CHANNEL_FROM_CONSUMER;
	n_fds = data[0] >> 1 & 3;
	data++;
	size--;
	/* A copy without a byte to spare shows each byte that is read behind it. */
	copy = malloc(size);
	if (size)
		memcpy(copy, data, size);
	if (!channel_parse(copy, size, n_fds, from, &message))
		check(&message, copy, size, n_fds, from);
	free(copy);
	return 0;
}
