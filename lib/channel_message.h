/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the two ends of a channel say to each other; docs/channel-protocol.md explains it.
 *
 * One message is one SOCK_SEQPACKET record: a structure of this file, and behind FORMAT and
 * FRAME the payload. Both ends are on one machine, so numbers are in its byte order.
 */
#ifndef LIBZCBUF_CHANNEL_MESSAGE_H
#define LIBZCBUF_CHANNEL_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#include "libzcbuf-channel.h"

#define CHANNEL_MAGIC	0x4642435aU /* "ZCBF" on a little-endian machine */
#define CHANNEL_VERSION 1

/* Additions to this version that both ends must know; there are none yet. */
#define CHANNEL_FEATURES 0ULL

enum channel_type {
	CHANNEL_HELLO = 1,   /* consumer: who I am; the first message */
	CHANNEL_RELEASE = 2, /* consumer: a frame comes back, perhaps with a sync_file */
	CHANNEL_WELCOME = 3, /* producer: the answer to HELLO */
	CHANNEL_FORMAT = 4,  /* producer: what the frames that follow contain */
	CHANNEL_BUFFER = 5,  /* producer: a buffer, with its file descriptor */
	CHANNEL_REMOVE = 6,  /* producer: a buffer will not be used again */
	CHANNEL_FRAME = 7,   /* producer: a frame, perhaps with a sync_file */
	CHANNEL_END = 8,     /* producer: the stream has ended */
	CHANNEL_BYE = 9,     /* producer: why it is about to close the connection */
};

struct channel_header {
	uint32_t type;
	uint32_t size; /* of the whole message, payload included */
};

/* The first four fields of HELLO and WELCOME are the same in every version. */
struct channel_hello {
	struct channel_header header;
	uint32_t magic;
	uint32_t version;
	uint64_t features;
	uint32_t max_frames; /* wanted; 0: as many as allowed */
	uint32_t drop;	     /* enum zcbuf_drop */
	uint64_t reserved;
};

struct channel_welcome {
	struct channel_header header;
	uint32_t magic;
	uint32_t version;
	uint64_t features; /* those that both sides have */
	uint32_t max_frames;
	uint32_t drop;
	uint64_t reserved;
};

struct channel_release {
	struct channel_header header;
	uint64_t frame;
};

struct channel_format {
	struct channel_header header;
};

#define CHANNEL_BUFFER_READ_ONLY (1U << 0)

struct channel_buffer {
	struct channel_header header;
	uint32_t id; /* not 0 */
	uint32_t flags;
	uint64_t size;
};

struct channel_remove {
	struct channel_header header;
	uint32_t id;
	uint32_t reserved;
};

struct channel_frame {
	struct channel_header header;
	uint64_t frame; /* what RELEASE answers with */
	uint64_t sequence;
	uint64_t pts;
	uint64_t duration;
	uint32_t flags;
	uint32_t lost;
	uint32_t buffers[ZCBUF_FRAME_BUFFERS]; /* ids; the first 0 ends the list */
};

struct channel_end {
	struct channel_header header;
};

struct channel_bye {
	struct channel_header header;
	int32_t error; /* a negative errno */
	uint32_t reserved;
};

/* docs/channel-protocol.md has these numbers, and other languages rely on them. */
_Static_assert(sizeof(struct channel_hello) == 40, "HELLO");
_Static_assert(sizeof(struct channel_welcome) == 40, "WELCOME");
_Static_assert(sizeof(struct channel_release) == 16, "RELEASE");
_Static_assert(sizeof(struct channel_buffer) == 24, "BUFFER");
_Static_assert(sizeof(struct channel_remove) == 16, "REMOVE");
_Static_assert(sizeof(struct channel_frame) == 64, "FRAME");
_Static_assert(sizeof(struct channel_bye) == 16, "BYE");

/* Bytes of the largest message from each side. */
#define CHANNEL_CONSUMER_MESSAGE_MAX sizeof(struct channel_hello)
#define CHANNEL_PRODUCER_MESSAGE_MAX \
	(sizeof(struct channel_frame) + ZCBUF_CHANNEL_PAYLOAD_MAX)

struct channel_message {
	union {
		struct channel_header header;
		struct channel_hello hello;
		struct channel_welcome welcome;
		struct channel_release release;
		struct channel_buffer buffer;
		struct channel_remove remove;
		struct channel_frame frame;
		struct channel_bye bye;
	};
	const void *payload; /* points into what was parsed */
	size_t payload_size;
};

enum channel_side {
	CHANNEL_FROM_CONSUMER,
	CHANNEL_FROM_PRODUCER,
};

/*
 * Checks all of a message that can be checked without knowing what was said before, and takes
 * it apart. @n_fds file descriptors came with it. Returns 0, -EPROTO, or -EPROTONOSUPPORT if
 * it is a greeting of another version.
 */
int channel_parse(const void *data, size_t size, unsigned int n_fds, enum channel_side from,
		  struct channel_message *message);

#define CHANNEL_HEADER(kind, length)                       \
	{                                                  \
		.type = (kind), .size = (uint32_t)(length) \
	}

#endif /* LIBZCBUF_CHANNEL_MESSAGE_H */
