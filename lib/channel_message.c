// SPDX-License-Identifier: LGPL-2.1-or-later
/* The only place where bytes from another process become messages. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "channel_message.h"

struct rule {
	enum channel_side from;
	size_t size;	    /* without payload; 0: there is no such message */
	size_t payload_max; /* 0: none */
	unsigned int min_fds, max_fds;
};

static const struct rule rules[] = {
	[CHANNEL_HELLO] = { CHANNEL_FROM_CONSUMER, sizeof(struct channel_hello), 0, 0, 0 },
	[CHANNEL_RELEASE] = { CHANNEL_FROM_CONSUMER, sizeof(struct channel_release), 0, 0,
			      1 },
	[CHANNEL_WELCOME] = { CHANNEL_FROM_PRODUCER, sizeof(struct channel_welcome), 0, 0,
			      0 },
	[CHANNEL_FORMAT] = { CHANNEL_FROM_PRODUCER, sizeof(struct channel_format),
			     ZCBUF_CHANNEL_PAYLOAD_MAX, 0, 0 },
	[CHANNEL_BUFFER] = { CHANNEL_FROM_PRODUCER, sizeof(struct channel_buffer), 0, 1,
			     1 },
	[CHANNEL_REMOVE] = { CHANNEL_FROM_PRODUCER, sizeof(struct channel_remove), 0, 0,
			     0 },
	[CHANNEL_FRAME] = { CHANNEL_FROM_PRODUCER, sizeof(struct channel_frame),
			    ZCBUF_CHANNEL_PAYLOAD_MAX, 0, 1 },
	[CHANNEL_END] = { CHANNEL_FROM_PRODUCER, sizeof(struct channel_end), 0, 0, 0 },
	[CHANNEL_BYE] = { CHANNEL_FROM_PRODUCER, sizeof(struct channel_bye), 0, 0, 0 },
};

/* A greeting is looked at before its size is: another version may have another one. */
static int check_version(const void *data, size_t size)
{
	struct channel_hello hello;
	const size_t constant = offsetof(struct channel_hello, features);

	if (size < constant)
		return -EPROTO;
	memcpy(&hello, data, constant);
	if (hello.magic != CHANNEL_MAGIC)
		return -EPROTO;
	return hello.version == CHANNEL_VERSION ? 0 : -EPROTONOSUPPORT;
}

static bool drop_known(uint32_t drop)
{
	return drop <= ZCBUF_DROP_NEWEST;
}

static bool fields_valid(const struct channel_message *message)
{
	bool ended = false;

	switch ((enum channel_type)message->header.type) {
	case CHANNEL_HELLO:
		return drop_known(message->hello.drop) && !message->hello.reserved;
	case CHANNEL_WELCOME:
		return drop_known(message->welcome.drop) && !message->welcome.reserved &&
		       !(message->welcome.features & ~CHANNEL_FEATURES) &&
		       message->welcome.max_frames &&
		       message->welcome.max_frames <= ZCBUF_CHANNEL_FRAMES_MAX;
	case CHANNEL_BUFFER:
		return message->buffer.id && message->buffer.size &&
		       !(message->buffer.flags & ~CHANNEL_BUFFER_READ_ONLY);
	case CHANNEL_REMOVE:
		return message->remove.id && !message->remove.reserved;
	case CHANNEL_FRAME:
		for (int i = 0; i < ZCBUF_FRAME_BUFFERS; i++) {
			if (ended && message->frame.buffers[i])
				return false;
			ended = !message->frame.buffers[i];
		}
		return true;
	case CHANNEL_BYE:
		return message->bye.error < 0 && message->bye.error >= -4095 &&
		       !message->bye.reserved;
	case CHANNEL_RELEASE:
	case CHANNEL_FORMAT:
	case CHANNEL_END:
		return true;
	}
	return false;
}

int channel_parse(const void *data, size_t size, unsigned int n_fds, enum channel_side from,
		  struct channel_message *message)
{
	struct channel_header header;
	const struct rule *rule;
	int r;

	if (size < sizeof(header))
		return -EPROTO;
	memcpy(&header, data, sizeof(header));
	if (header.size != size || header.type >= sizeof(rules) / sizeof(rules[0]))
		return -EPROTO;
	rule = &rules[header.type];
	if (!rule->size || rule->from != from)
		return -EPROTO;
	if (header.type == CHANNEL_HELLO || header.type == CHANNEL_WELCOME) {
		r = check_version(data, size);
		if (r < 0)
			return r;
	}
	if (size < rule->size || size - rule->size > rule->payload_max)
		return -EPROTO;
	if (n_fds < rule->min_fds || n_fds > rule->max_fds)
		return -EPROTO;
	memset(message, 0, sizeof(*message));
	memcpy(message, data, rule->size);
	message->payload = (const char *)data + rule->size;
	message->payload_size = size - rule->size;
	return fields_valid(message) ? 0 : -EPROTO;
}
