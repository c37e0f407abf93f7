/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libzcbuf channels: a stream of buffers from one process to any number of others.
 *
 *   struct zcbuf_producer   publishes a pool of buffers at a Unix socket, and sends frames
 *   struct zcbuf_consumer   receives them, and gives each one back
 *
 * The file descriptor of a buffer crosses once for each consumer, normally as a read-only
 * view; from then on a frame is one small message, whatever its size. A producer:
 *
 *   struct zcbuf_producer_event event;
 *   struct zcbuf_producer *producer;
 *
 *   zcbuf_producer_new(ctx, NULL, &producer);
 *   zcbuf_producer_listen(producer, "/run/camera", 0600);
 *   zcbuf_producer_set_format(producer, "NV12 1920x1080", 14);
 *   for (int i = 0; i < 4; i++)
 *           zcbuf_producer_add_buffer(producer, buffers[i]), push(buffers[i]);
 *   while (running) {
 *           while (no_free_buffer() && zcbuf_producer_next_event(producer, -1, &event) == 1)
 *                   if (event.type == ZCBUF_PRODUCER_RELEASED)
 *                           push(event.frame.buffers[0]);
 *           struct zcbuf_frame frame = { .buffers = { pop() } };
 *           fill(frame.buffers[0]);
 *           zcbuf_producer_send(producer, &frame, 0);
 *   }
 *
 * and a consumer:
 *
 *   struct zcbuf_consumer_event event;
 *   struct zcbuf_consumer *consumer;
 *
 *   zcbuf_consumer_new(ctx, "/run/camera", NULL, &consumer);
 *   while (zcbuf_consumer_next_event(consumer, -1, &event) == 1) {
 *           if (event.type != ZCBUF_CONSUMER_FRAME)
 *                   continue;
 *           show(event.frame->buffers[0]);
 *           zcbuf_consumer_give_back(consumer, event.frame, -1);
 *   }
 *
 * Rules, beside those of libzcbuf.h:
 *   - There are no hidden threads, and only a function with a timeout_ms may block: for that
 *     many milliseconds, not at all if 0, without limit if negative. A signal does not end
 *     the wait; zcbuf_producer_wake() and zcbuf_consumer_wake() do.
 *   - Everything happens inside the calls of this page. A program with an event loop polls
 *     zcbuf_producer_fd() or zcbuf_consumer_fd() for POLLIN, and then calls the _next_event
 *     function with timeout 0 until it returns 0. A program without one gives a timeout.
 *   - The log function of the context must not call functions of this page.
 *   - Any thread may call any function at any time. Events of one handle are meant for one
 *     thread: what an event points to is valid until the next _next_event of that handle.
 *   - No consumer can delay the producer or another consumer, whatever it does or fails to
 *     do: it holds a bounded number of frames, what it does not take is dropped for it
 *     alone, and it is disconnected when it breaks the protocol or keeps a frame that is
 *     needed for too long.
 *   - What a consumer held is released in the next call of zcbuf_producer_next_event() if it
 *     closes, dies or breaks the protocol. If it only stops, that is hold_ms (5 seconds by
 *     default) after it was given its oldest frame, or later, when that is first needed back.
 *   - A frame that a consumer was given is not written to until it gave it back. There is
 *     one exception: a consumer that was disconnected. Its mappings and file descriptors stay
 *     valid, but the producer uses the memory for newer frames.
 *
 * The protocol is described byte by byte in docs/channel-protocol.md.
 */
#ifndef LIBZCBUF_CHANNEL_H
#define LIBZCBUF_CHANNEL_H

#include <sys/types.h>

#include <libzcbuf.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Buffers in one frame, at most: one for each plane. */
#define ZCBUF_FRAME_BUFFERS 4
/* Bytes of metadata in one frame, and of a format, at most. */
#define ZCBUF_CHANNEL_PAYLOAD_MAX 16384
/* Buffers that a producer can have added at one time, at most. */
#define ZCBUF_CHANNEL_BUFFERS_MAX 256
/* Frames that one consumer can hold at one time, at most. */
#define ZCBUF_CHANNEL_FRAMES_MAX 64
/* Consumers of one producer, at most. */
#define ZCBUF_CHANNEL_CONSUMERS_MAX 1024

/* A time that is not known. */
#define ZCBUF_TIME_NONE UINT64_MAX

/**
 * struct zcbuf_frame - buffers that hold one picture, or one piece of anything
 * @buffers: the memory; the first NULL ends the list. A frame without buffers carries
 *	only metadata
 * @sequence: number of the frame, chosen by the producing program
 * @pts: when to show it or when it was captured, in nanoseconds, or ZCBUF_TIME_NONE. The
 *	clock is a matter between the programs; CLOCK_MONOTONIC is recommended
 * @duration: nanoseconds, or ZCBUF_TIME_NONE
 * @flags: chosen by the producing program
 * @lost: for consumers: how many frames before this one were dropped for this consumer
 *	only, because it held too many; producers leave it 0
 * @fence: a sync_file: the frame may be read when it has signalled. 0 or negative: now. It
 *	stays the sender's; a consumer may use it until it gives the frame back
 * @metadata: bytes for the consuming program, not looked at by the channel; may be NULL
 * @metadata_size: up to ZCBUF_CHANNEL_PAYLOAD_MAX
 * @user_data: for producers: comes back with the frame in ZCBUF_PRODUCER_RELEASED;
 *	for consumers: NULL
 */
struct zcbuf_frame {
	struct zcbuf_buffer *buffers[ZCBUF_FRAME_BUFFERS];
	uint64_t sequence;
	uint64_t pts;
	uint64_t duration;
	uint32_t flags;
	uint32_t lost;
	int fence;
	const void *metadata;
	size_t metadata_size;
	void *user_data;
};

/**
 * struct zcbuf_peer - the process at the other end, as it was when it connected or listened
 * @pid: its process, 0 if outside of this PID namespace
 * @uid: its effective user
 * @gid: its effective group
 */
struct zcbuf_peer {
	pid_t pid;
	uid_t uid;
	gid_t gid;
};

/**
 * enum zcbuf_drop - which frame a consumer loses that already holds all it may
 *
 * Both apply only to frames for which zcbuf_producer_send() did not wait or waited in vain.
 *
 * @ZCBUF_DROP_DEFAULT: the other side's choice; the producer's default is ZCBUF_DROP_OLDEST
 * @ZCBUF_DROP_OLDEST: the newest frame waits until the consumer gives one back, in the place
 *	of an older one that still waits: right for a display
 * @ZCBUF_DROP_NEWEST: the new frame: for consumers that would rather have neighbours
 */
enum zcbuf_drop {
	ZCBUF_DROP_DEFAULT = 0,
	ZCBUF_DROP_OLDEST = 1,
	ZCBUF_DROP_NEWEST = 2,
};

/* ---- producer ------------------------------------------------------------------------ */

struct zcbuf_producer;

/**
 * enum zcbuf_share - what rights consumers get to the memory
 * @ZCBUF_SHARE_READ_ONLY: they may read. A buffer whose file descriptor cannot be narrowed
 *	(a dma-buf that is not zcbuf's and was made writable) is refused. For a memfd this
 *	protects against mistakes and against other users, but not against a process of the same
 *	user, which can open it anew
 * @ZCBUF_SHARE_PREFER_READ_ONLY: the same, but a buffer that cannot be narrowed is shared
 *	as it is
 * @ZCBUF_SHARE_WRITABLE: buffers are shared as they are
 */
enum zcbuf_share {
	ZCBUF_SHARE_READ_ONLY = 0,
	ZCBUF_SHARE_PREFER_READ_ONLY = 1,
	ZCBUF_SHARE_WRITABLE = 2,
};

/* A frame is taken away after hold_ms even if nobody needs its buffers. */
#define ZCBUF_PRODUCER_HOLD_STRICT (1U << 0)
/* Everybody may connect whom the mode of the socket file lets. */
#define ZCBUF_PRODUCER_ALLOW_ALL (1U << 1)

/**
 * struct zcbuf_producer_config - how a producer treats its consumers; all zero: the defaults
 * @flags: ZCBUF_PRODUCER_* bits
 * @share: &enum zcbuf_share
 * @drop: &enum zcbuf_drop, for consumers that have no wish of their own
 * @max_consumers: how many are admitted, default 64. A connection that has not yet said
 *	what it wants makes place for a new one
 * @max_frames: how many frames one consumer may hold, default 4; a consumer may ask for
 *	fewer. With ZCBUF_DROP_OLDEST one more may wait for it in the producer
 * @hold_ms: a consumer that has held one frame for this long is disconnected as soon as
 *	the frame is needed back, that is: when the consumer misses frames because it holds all it
 *	may, or when every buffer that was added is in use. Default 5000; negative: never.
 *	ZCBUF_PRODUCER_HOLD_STRICT drops the "as soon as"
 * @uids: users that may connect beside the producer's own and root
 * @n_uids: length of @uids
 * @gids: groups whose members may connect
 * @n_gids: length of @gids
 * @allow: asked last, if nothing above admits the peer; returns 0 to refuse it. Called
 *	without any lock, from zcbuf_producer_next_event() or zcbuf_producer_send(). May be NULL
 * @allow_data: for @allow
 */
struct zcbuf_producer_config {
	uint32_t flags;
	uint32_t share;
	uint32_t drop;
	uint32_t max_consumers;
	uint32_t max_frames;
	int32_t hold_ms;
	const uid_t *uids;
	size_t n_uids;
	const gid_t *gids;
	size_t n_gids;
	int (*allow)(void *allow_data, const struct zcbuf_peer *peer);
	void *allow_data;
};

/**
 * zcbuf_producer_new - make a producer; nobody can connect yet
 * @config: copied; NULL for the defaults
 *
 * Errors: -EINVAL (a field out of its range), -ENOMEM, -EMFILE.
 */
int zcbuf_producer_new(struct zcbuf_ctx *ctx, const struct zcbuf_producer_config *config,
		       struct zcbuf_producer **producer);
struct zcbuf_producer *zcbuf_producer_ref(struct zcbuf_producer *producer);

/** zcbuf_producer_unref - the last one does what zcbuf_producer_close() does, too */
struct zcbuf_producer *zcbuf_producer_unref(struct zcbuf_producer *producer);

/**
 * zcbuf_producer_listen - let consumers connect
 * @address: path of a socket file, or an abstract name "@name"
 * @mode: permissions of the socket file, as for chmod(2), whatever the umask
 *
 * May be called for several addresses. A socket file on which nobody listens any more is
 * replaced; it is removed when the producer is closed. Errors: -EADDRINUSE (a live producer
 * is there, or something that is no socket), -ENAMETOOLONG, -EACCES, -ENOENT (no such
 * directory), -ENOSPC (more than eight addresses), -EINVAL (no address), -EPIPE (closed),
 * -EMFILE, -ENOMEM.
 */
int zcbuf_producer_listen(struct zcbuf_producer *producer, const char *address, mode_t mode);

/**
 * zcbuf_producer_add_socket - the same for a socket that exists already
 * @fd: SOCK_SEQPACKET, listening (from systemd, say) or connected to one consumer (half of
 *	a socketpair). Duplicated; the caller keeps its own. One that listens becomes
 *	non-blocking
 *
 * Errors: -EBADF, -EINVAL (another kind of socket), -EACCES (connected to a process that
 * may not), -EUSERS (max_consumers), -ENOSPC (more than eight that listen), -EPIPE (closed),
 * -EMFILE, -ENOMEM.
 */
int zcbuf_producer_add_socket(struct zcbuf_producer *producer, int fd);

/**
 * zcbuf_producer_fd - readable when zcbuf_producer_next_event() has something to do
 *
 * The same at every call. Errors: -EMFILE, -ENOMEM.
 */
int zcbuf_producer_fd(struct zcbuf_producer *producer);

/**
 * zcbuf_producer_add_buffer - add a buffer to the pool, at any time
 *
 * The producer keeps a reference, and a read-only view as the configuration says; both are
 * shared by all consumers. Errors: -EEXIST, -EOPNOTSUPP (cannot be shared read-only, see
 * &enum zcbuf_share), -ENOSPC (ZCBUF_CHANNEL_BUFFERS_MAX), -ENOMEM, -EMFILE.
 */
int zcbuf_producer_add_buffer(struct zcbuf_producer *producer, struct zcbuf_buffer *buffer);

/**
 * zcbuf_producer_remove_buffer - take a buffer out of the pool, at any time
 *
 * Consumers learn it; those that hold it keep it valid until they give it back, and
 * ZCBUF_PRODUCER_RELEASED still comes for frames that are on their way. Errors: -ENOENT.
 */
int zcbuf_producer_remove_buffer(struct zcbuf_producer *producer,
				 struct zcbuf_buffer *buffer);

/**
 * zcbuf_producer_set_format - what the frames that follow contain
 * @data: bytes for the consuming program, not looked at by the channel; copied
 * @size: up to ZCBUF_CHANNEL_PAYLOAD_MAX
 *
 * Every consumer gets the newest format before the first frame that was sent after it; one
 * that is slow may miss those in between. Errors: -EINVAL, -ENOMEM.
 */
int zcbuf_producer_set_format(struct zcbuf_producer *producer, const void *data, size_t size);

/**
 * zcbuf_producer_send - send a frame to all consumers
 * @frame: copied, its metadata too; its buffers must have been added
 * @timeout_ms: how long to wait for consumers that hold all they may. A consumer that did not
 *	make it is not waited for again until it gives something back
 *
 * Once per call that succeeds there will be a ZCBUF_PRODUCER_RELEASED, also when nobody is
 * connected. Returns the number of consumers that get the frame or may still get it. Errors:
 * -EINVAL (metadata too large), -ENOENT (a buffer that was not added), -ENOMEM, -ENOBUFS
 * (thousands of releases were never collected with zcbuf_producer_next_event()), -EPIPE (closed).
 */
int zcbuf_producer_send(struct zcbuf_producer *producer, const struct zcbuf_frame *frame,
			int timeout_ms);

/**
 * zcbuf_producer_end - tell consumers that the stream has ended
 *
 * They get ZCBUF_CONSUMER_END behind the last frame, and stay connected; so do those that
 * connect later. zcbuf_producer_restart() or another frame begins the stream again.
 */
int zcbuf_producer_end(struct zcbuf_producer *producer);

/**
 * zcbuf_producer_restart - begin the stream again after zcbuf_producer_end()
 *
 * From now on those that connect wait for frames. Nothing happens if the stream has not ended.
 */
void zcbuf_producer_restart(struct zcbuf_producer *producer);

/**
 * enum zcbuf_producer_event_type - what happened to a producer
 * @ZCBUF_PRODUCER_RELEASED: nobody uses @frame any more; its buffers may be written to
 * @ZCBUF_PRODUCER_CONNECTED: a consumer was admitted
 * @ZCBUF_PRODUCER_DISCONNECTED: a consumer has gone; what it held is being released
 */
enum zcbuf_producer_event_type {
	ZCBUF_PRODUCER_RELEASED = 1,
	ZCBUF_PRODUCER_CONNECTED = 2,
	ZCBUF_PRODUCER_DISCONNECTED = 3,
};

/**
 * struct zcbuf_producer_event - one event
 * @type: &enum zcbuf_producer_event_type
 * @error: DISCONNECTED: -ECONNRESET (the consumer closed or died), -ETIMEDOUT (it held a
 *	frame for too long), -EPROTO (it broke the protocol), -ECANCELED (this program closed or
 *	disconnected it), -EMFILE (no file descriptor left for its fence)
 * @frame: RELEASED: as it was sent, but without metadata, and @frame.fence is a sync_file (or
 *	-1) that signals when the last consumer's device has read the buffers. It belongs to
 *	the producer; dup(2) it to keep it beyond the next event
 * @consumer: CONNECTED, DISCONNECTED: number of the consumer, never used twice
 * @peer: CONNECTED, DISCONNECTED: its process
 */
struct zcbuf_producer_event {
	enum zcbuf_producer_event_type type;
	int error;
	struct zcbuf_frame frame;
	uint64_t consumer;
	struct zcbuf_peer peer;
};

/**
 * zcbuf_producer_next_event - do what is to be done, and say what happened
 *
 * This is where consumers are admitted and disconnected, and frames come back; call it
 * regularly. (zcbuf_producer_send() does the same while it waits, and keeps the events.)
 * Returns 1 with an event, or 0 if none came in time or zcbuf_producer_wake() was called.
 */
int zcbuf_producer_next_event(struct zcbuf_producer *producer, int timeout_ms,
			      struct zcbuf_producer_event *event);

/**
 * zcbuf_producer_wake - end the wait of every thread that is inside a call with a timeout
 *
 * zcbuf_producer_next_event() then returns 0 unless there is an event; zcbuf_producer_send()
 * goes on as if the time were over. If nobody waits, the next wait ends at once.
 */
void zcbuf_producer_wake(struct zcbuf_producer *producer);

/**
 * struct zcbuf_consumer_info - one consumer, as its producer sees it
 * @id: its number, as in &struct zcbuf_producer_event
 * @peer: its process
 * @max_frames: how many frames it may hold
 * @drop: &enum zcbuf_drop
 * @held: frames that it holds now
 * @waiting: frames that wait for it now
 * @buffers: file descriptors it was given and not yet told to forget
 * @sent: frames it was given
 * @returned: frames it gave back
 * @dropped: frames that were dropped for it
 * @fds: file descriptors of buffers that it was given since it connected
 */
struct zcbuf_consumer_info {
	uint64_t id;
	struct zcbuf_peer peer;
	uint32_t max_frames;
	uint32_t drop;
	uint32_t held;
	uint32_t waiting;
	uint32_t buffers;
	uint64_t sent;
	uint64_t returned;
	uint64_t dropped;
	uint64_t fds;
};

/**
 * zcbuf_producer_get_consumers - who is connected
 * @infos: out: an array, to be freed with free(3)
 *
 * Returns the number of consumers. Errors: -ENOMEM.
 */
int zcbuf_producer_get_consumers(struct zcbuf_producer *producer,
				 struct zcbuf_consumer_info **infos);

/**
 * struct zcbuf_producer_stats - what a producer did since it was made
 * @frames: frames sent
 * @released: frames released
 * @buffers: buffers added now
 * @busy_buffers: of these, how many are in frames that are not released
 * @consumers: consumers connected now
 * @admitted: consumers admitted
 * @refused: connections refused, for who they were, for what they said, or for lack of place
 * @expelled: consumers disconnected for -ETIMEDOUT or -EPROTO
 */
struct zcbuf_producer_stats {
	uint64_t frames;
	uint64_t released;
	uint32_t buffers;
	uint32_t busy_buffers;
	uint32_t consumers;
	uint64_t admitted;
	uint64_t refused;
	uint64_t expelled;
};

/** zcbuf_producer_get_stats - count what happened until now */
void zcbuf_producer_get_stats(struct zcbuf_producer *producer,
			      struct zcbuf_producer_stats *stats);

/** zcbuf_producer_disconnect - disconnect one consumer. Errors: -ENOENT. */
int zcbuf_producer_disconnect(struct zcbuf_producer *producer, uint64_t consumer);

/**
 * zcbuf_producer_close - stop listening and disconnect everybody
 *
 * All frames are released: zcbuf_producer_next_event() with timeout 0 hands out what is left
 * to be told. Only that function and zcbuf_producer_unref() make sense afterwards.
 */
void zcbuf_producer_close(struct zcbuf_producer *producer);

/* ---- consumer ------------------------------------------------------------------------ */

struct zcbuf_consumer;

/* Wait for a producer that is not there yet, and connect again when it has gone. */
#define ZCBUF_CONSUMER_RECONNECT (1U << 0)

/**
 * struct zcbuf_consumer_config - all zero: the defaults
 * @flags: ZCBUF_CONSUMER_* bits
 * @drop: &enum zcbuf_drop
 * @max_frames: how many frames this program wants to hold at one time; 0, or more than the
 *	producer allows: what the producer allows
 * @retry_ms: time between two attempts to connect, default 200
 */
struct zcbuf_consumer_config {
	uint32_t flags;
	uint32_t drop;
	uint32_t max_frames;
	uint32_t retry_ms;
};

/**
 * zcbuf_consumer_new - connect to a producer
 * @address: as given to zcbuf_producer_listen()
 * @config: copied; NULL for the defaults
 *
 * Does not wait for the producer's answer: that is ZCBUF_CONSUMER_CONNECTED, or
 * ZCBUF_CONSUMER_DISCONNECTED with the reason for refusing. With
 * ZCBUF_CONSUMER_RECONNECT it need not even exist; to wait for it with a deadline, wait
 * for ZCBUF_CONSUMER_CONNECTED that long. Errors: without ZCBUF_CONSUMER_RECONNECT -ENOENT
 * or -ECONNREFUSED (no producer there), -EACCES, -EAGAIN (it is overrun); always -EINVAL,
 * -ENAMETOOLONG, -ENOMEM, -EMFILE.
 */
int zcbuf_consumer_new(struct zcbuf_ctx *ctx, const char *address,
		       const struct zcbuf_consumer_config *config,
		       struct zcbuf_consumer **consumer);

/**
 * zcbuf_consumer_new_from_socket - the same over a socket that is connected to a producer
 * @fd: SOCK_SEQPACKET; duplicated, the caller keeps its own
 *
 * Errors: -EBADF, -EINVAL (another kind of socket, a field out of its range, or
 * ZCBUF_CONSUMER_RECONNECT), -ENOTCONN (not connected), -EMFILE, -ENOMEM.
 */
int zcbuf_consumer_new_from_socket(struct zcbuf_ctx *ctx, int fd,
				   const struct zcbuf_consumer_config *config,
				   struct zcbuf_consumer **consumer);
struct zcbuf_consumer *zcbuf_consumer_ref(struct zcbuf_consumer *consumer);

/** zcbuf_consumer_unref - the last one disconnects, and frees frames not given back */
struct zcbuf_consumer *zcbuf_consumer_unref(struct zcbuf_consumer *consumer);

/**
 * zcbuf_consumer_fd - readable when zcbuf_consumer_next_event() has something to do
 *
 * The same at every call, whatever the connection does. Errors: -EMFILE, -ENOMEM.
 */
int zcbuf_consumer_fd(struct zcbuf_consumer *consumer);

/**
 * enum zcbuf_consumer_event_type - what a consumer is told
 * @ZCBUF_CONSUMER_CONNECTED: @peer has admitted this consumer
 * @ZCBUF_CONSUMER_FORMAT: @data and @size: the format of the frames that follow
 * @ZCBUF_CONSUMER_BUFFER_ADDED: @buffer will be in frames; the same struct zcbuf_buffer each
 *	time, so that what is made of it once (a mapping, an import) serves the whole stream
 * @ZCBUF_CONSUMER_BUFFER_REMOVED: @buffer will be in no further frame. The library's
 *	reference goes with the next event, or when the last frame with it is given back
 * @ZCBUF_CONSUMER_FRAME: @frame arrived; give it back
 * @ZCBUF_CONSUMER_END: the stream has ended. More may follow if the producer begins again
 * @ZCBUF_CONSUMER_DISCONNECTED: @error says why. All buffers are removed (each was announced
 *	by ZCBUF_CONSUMER_BUFFER_REMOVED before this); frames that are held stay valid, see
 *	the top of this page for what may happen to their content
 */
enum zcbuf_consumer_event_type {
	ZCBUF_CONSUMER_CONNECTED = 1,
	ZCBUF_CONSUMER_FORMAT = 2,
	ZCBUF_CONSUMER_BUFFER_ADDED = 3,
	ZCBUF_CONSUMER_BUFFER_REMOVED = 4,
	ZCBUF_CONSUMER_FRAME = 5,
	ZCBUF_CONSUMER_END = 6,
	ZCBUF_CONSUMER_DISCONNECTED = 7,
};

/**
 * struct zcbuf_consumer_event - one event
 * @type: &enum zcbuf_consumer_event_type
 * @error: DISCONNECTED: -ECONNRESET (the producer closed or died), -EACCES (it does not admit
 *	this process), -EUSERS (it has no place), -ETIMEDOUT (it wanted a frame back),
 *	-ECANCELED (it disconnected this consumer), -EPROTONOSUPPORT (it speaks another version),
 *	-EPROTO (one side broke the protocol), -EMFILE or -ENOMEM (a buffer could not be taken)
 * @peer: CONNECTED: the producer; a program that trusts only some users looks at it
 * @data: FORMAT: the bytes
 * @size: FORMAT: how many
 * @buffer: BUFFER_ADDED, BUFFER_REMOVED
 * @frame: FRAME: valid until it is given back, with its buffers and metadata
 */
struct zcbuf_consumer_event {
	enum zcbuf_consumer_event_type type;
	int error;
	struct zcbuf_peer peer;
	const void *data;
	size_t size;
	struct zcbuf_buffer *buffer;
	const struct zcbuf_frame *frame;
};

/**
 * zcbuf_consumer_next_event - receive
 *
 * Returns 1 with an event, or 0 if none came in time or zcbuf_consumer_wake() was called.
 * Errors: -ENOTCONN: the connection has ended, as ZCBUF_CONSUMER_DISCONNECTED has said, and
 * ZCBUF_CONSUMER_RECONNECT is not set.
 */
int zcbuf_consumer_next_event(struct zcbuf_consumer *consumer, int timeout_ms,
			      struct zcbuf_consumer_event *event);

/**
 * zcbuf_consumer_give_back - this program has finished with a frame
 * @frame: from ZCBUF_CONSUMER_FRAME; no longer valid after this call
 * @fence: a sync_file that signals when a device has finished with it, too, or -1; stays
 *	the caller's
 *
 * In any order, from any thread, and also when the connection has ended. Whoever gives frames
 * back late holds a reference to the consumer until then. Errors: -EINVAL (not a frame of
 * this consumer).
 */
int zcbuf_consumer_give_back(struct zcbuf_consumer *consumer, const struct zcbuf_frame *frame,
			     int fence);

/**
 * zcbuf_consumer_wake - end the wait of a thread inside zcbuf_consumer_next_event()
 *
 * It returns within a tenth of a second. If nobody waits, the next wait ends at once.
 */
void zcbuf_consumer_wake(struct zcbuf_consumer *consumer);

/**
 * zcbuf_consumer_close - disconnect now, and do not connect again
 *
 * zcbuf_consumer_next_event() returns what is left to be told and then -ENOTCONN. Frames stay
 * valid until they are given back.
 */
void zcbuf_consumer_close(struct zcbuf_consumer *consumer);

#ifdef __cplusplus
}
#endif

#endif /* LIBZCBUF_CHANNEL_H */
