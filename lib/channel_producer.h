/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The producer's end of a channel, for the three files that it is made of: channel_producer.c
 * is what programs call, channel_admission.c lets consumers in, and channel_client.c talks
 * to one of them.
 *
 * Nothing waits for a consumer. What each was told (told, format, end_told) is kept beside what
 * is true; client_flush() sends the difference as far as its socket takes it, so that nothing
 * queues up for a consumer that does not read.
 */
#ifndef LIBZCBUF_CHANNEL_PRODUCER_H
#define LIBZCBUF_CHANNEL_PRODUCER_H

#include "channel_socket.h"

#define NSEC_PER_MSEC 1000000LL

#define LISTENERS_MAX 8

/* A client is found by the lower bits of its id. */
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
	struct zcbuf_consumer_info info; /* without what is counted below */
	int fd;
	enum client_state state;
	int error;     /* why it is GONE */
	int64_t since; /* when it connected */
	struct event connected, disconnected;

	struct held held[ZCBUF_CHANNEL_FRAMES_MAX]; /* oldest first */
	unsigned int n_held;
	struct frame *waiting; /* or NULL */
	bool missing;	       /* it could not get a frame since it last gave one back */
	bool slow;	       /* it was waited for in vain since it last gave one back */
	bool blocked;	       /* wait for its socket to take more */

	uint32_t told[ZCBUF_CHANNEL_BUFFERS_MAX]; /* id it knows in this slot, or 0 */
	bool forget;				  /* some of these are to be removed */
	uint64_t format;			  /* serial of the one it knows */
	bool end_told;
	uint32_t lost; /* frames since the last one that it got */
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

/* ---- channel_producer.c --------------------------------------------------------------- */

void producer_lock(struct zcbuf_producer *p);
void producer_unlock(struct zcbuf_producer *p);

/* Here and below the lock is held, unless it says otherwise. */

void producer_queue_event(struct zcbuf_producer *p, struct event *event,
			  enum zcbuf_producer_event_type type);

/* To be called when something has a deadline that had none before. */
void producer_arm_timer(struct zcbuf_producer *p);

/* ---- channel_admission.c -------------------------------------------------------------- */

/* Takes over a connected socket. The lock is released in between. */
int producer_admit(struct zcbuf_producer *p, int fd);

/* Accepts what waits at a listener. The lock is released in between. */
void producer_accept(struct zcbuf_producer *p, unsigned int listener);

void producer_resume_listening(struct zcbuf_producer *p);

/* ---- channel_client.c ----------------------------------------------------------------- */

struct frame *frame_new(struct zcbuf_producer *p);
void frame_recycle(struct zcbuf_producer *p, struct frame *frame);
void frame_free(struct frame *frame);

/* Marks its buffers as used by it, or no longer. */
void frame_busy(struct zcbuf_producer *p, struct frame *frame, bool busy);

/* While a frame waits for somebody, what belongs to the program must be kept. */
int frame_keep(struct frame *frame);

/* One holder less. */
void frame_put(struct zcbuf_producer *p, struct frame *frame);

/* Says why a connection ends, to whoever may still listen. */
void client_say_bye(int fd, int error);

/* A client that was never admitted is freed; nobody has heard of it. */
void client_disconnect(struct zcbuf_producer *p, struct client *client, int error);
void client_free(struct zcbuf_producer *p, struct client *client);

/* True if another frame would have to wait. */
bool client_full(const struct client *client);

/* Sends a frame to a client, or lets it wait, or drops one. */
void client_offer(struct zcbuf_producer *p, struct client *client, struct frame *frame);
void client_drop_waiting(struct zcbuf_producer *p, struct client *client);

/* Sends what the client does not know yet, as far as its socket takes it. */
void client_flush(struct zcbuf_producer *p, struct client *client);

/* Does what the client says. One that is SILENT may be freed. */
void client_receive(struct zcbuf_producer *p, struct client *client);

#endif /* LIBZCBUF_CHANNEL_PRODUCER_H */
