/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the tests of channels share: a stage, which is a producer with a pool in this
 * process, and viewers, which are consumers in processes of their own (fork and exec of the
 * test program) that tell what they see through shared memory.
 */
#ifndef TESTS_CHANNEL_H
#define TESTS_CHANNEL_H

#include <libzcbuf-channel.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "lib.h"

#define BUFFER_SIZE 65536
/* Long enough for a slow virtual machine. */
#ifndef PATIENCE_MS
#define PATIENCE_MS 20000
#endif

static inline int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline void sleep_ms(int ms)
{
	poll(NULL, 0, ms);
}

/* eventually(condition): true as soon as CONDITION holds, false if it never does. */
#define eventually(cond)                               \
	({                                             \
		int64_t end_ = now_ms() + PATIENCE_MS; \
		while (!(cond) && now_ms() < end_)     \
			sleep_ms(1);                   \
		(cond);                                \
	})

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED
#endif
#endif

static inline void grew_little(long before, const char *what)
{
#ifdef SANITIZED
	(void)before;
	skip("%s: a sanitizer keeps what was freed", what);
#else
	long grown = memory_kib() - before;

	ok(grown < 512, "%s: the producer grew by %ld KiB", what, grown);
#endif
}

/* ---- what a frame of these tests looks like ------------------------------------------- */

/* Something different in every page, for every frame. */
static inline void paint(struct zcbuf_buffer *buffer, uint64_t sequence)
{
	unsigned char *data = mapped(buffer, ZCBUF_SYNC_WRITE);

	must(zcbuf_buffer_begin(buffer, ZCBUF_SYNC_WRITE));
	for (size_t i = 0; i < BUFFER_SIZE; i += 4096)
		memcpy(data + i, &(uint64_t){ sequence * 1000 + i / 4096 }, 8);
	must(zcbuf_buffer_end(buffer, ZCBUF_SYNC_WRITE));
}

static inline bool painted(struct zcbuf_buffer *buffer, uint64_t sequence)
{
	const unsigned char *data = mapped(buffer, ZCBUF_SYNC_READ);
	bool right = true;

	must(zcbuf_buffer_begin(buffer, ZCBUF_SYNC_READ));
	for (size_t i = 0; i < BUFFER_SIZE; i += 4096)
		right &= !memcmp(data + i, &(uint64_t){ sequence * 1000 + i / 4096 }, 8);
	must(zcbuf_buffer_end(buffer, ZCBUF_SYNC_READ));
	return right;
}

/* stage_send() sends the sequence once more, as metadata. */
static inline bool labelled(const struct zcbuf_frame *frame)
{
	return frame->metadata_size == sizeof(frame->sequence) &&
	       !memcmp(frame->metadata, &frame->sequence, sizeof(frame->sequence));
}

/* ---- viewers -------------------------------------------------------------------------- */

struct viewer {
	/* what it shall do */
	char address[128];
	int socket; /* instead of the address, if it is not 0 */
	struct zcbuf_consumer_config config;
	atomic_int work_ms;  /* for each frame */
	atomic_uint keep;    /* frames that it does not give back */
	unsigned int die_at; /* kills itself while it holds this frame, counted from 1 */
	atomic_bool quit;

	/* what it saw */
	pid_t pid;
	atomic_int result; /* of zcbuf_consumer_new(), or of the last next_event */
	atomic_uint connected, disconnected, formats, buffers, removed, frames, ends;
	atomic_uint lost, wrong, disorder, writable, kept;
	atomic_int error; /* of the last disconnection */
	atomic_ullong sequence;
	atomic_int memory_fds; /* dma-bufs and memfds it has open, itself counted */
	char format[64];
};

/* Links of /proc/self/fd that are memory: "/memfd:…" or "/dmabuf:…". */
static inline int count_memory_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	char link[64];
	int count = 0;

	while ((entry = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);

		link[n < 0 ? 0 : n] = '\0';
		count += !strncmp(link, "/memfd:zcbuf-test", 17) ||
			 !strncmp(link, "/dmabuf:", 8);
	}
	closedir(dir);
	return count;
}

static inline void view_buffer(struct viewer *v, struct zcbuf_buffer *buffer)
{
	int fd = zcbuf_buffer_fd(buffer);
	void *data = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	v->buffers++;
	v->memory_fds = count_memory_fds();
	v->writable += data != MAP_FAILED ||
		       zcbuf_buffer_map(buffer, ZCBUF_SYNC_WRITE, &data) != -EACCES;
}

static inline void view_frame(struct viewer *v, struct zcbuf_consumer *consumer,
			      const struct zcbuf_frame *frame)
{
	v->lost += frame->lost;
	v->disorder += v->frames && frame->sequence <= v->sequence;
	v->sequence = frame->sequence;
	v->wrong += !labelled(frame);
	v->wrong += !painted(frame->buffers[0], frame->sequence);
	if (v->work_ms)
		sleep_ms(v->work_ms);
	v->wrong += !painted(frame->buffers[0], frame->sequence);
	if (v->frames + 1 == v->die_at)
		raise(SIGKILL);
	if (v->kept < v->keep)
		v->kept++;
	else
		must(zcbuf_consumer_give_back(consumer, frame, -1));
	v->frames++;
}

static inline void view_event(struct viewer *v, struct zcbuf_consumer *consumer,
			      const struct zcbuf_consumer_event *event)
{
	switch (event->type) {
	case ZCBUF_CONSUMER_CONNECTED:
		v->connected++;
		break;
	case ZCBUF_CONSUMER_FORMAT:
		snprintf(v->format, sizeof(v->format), "%.*s", (int)event->size,
			 (const char *)event->data);
		v->formats++;
		break;
	case ZCBUF_CONSUMER_BUFFER_ADDED:
		view_buffer(v, event->buffer);
		break;
	case ZCBUF_CONSUMER_BUFFER_REMOVED:
		v->removed++;
		break;
	case ZCBUF_CONSUMER_FRAME:
		view_frame(v, consumer, event->frame);
		break;
	case ZCBUF_CONSUMER_END:
		v->ends++;
		break;
	case ZCBUF_CONSUMER_DISCONNECTED:
		v->error = event->error;
		v->disconnected++;
		break;
	}
}

static inline int viewer_main(struct viewer *v)
{
	struct zcbuf_consumer_event event;
	struct zcbuf_consumer *consumer;
	struct zcbuf_ctx *ctx = new_ctx();
	int r;

	if (v->socket)
		r = zcbuf_consumer_new_from_socket(ctx, v->socket, &v->config, &consumer);
	else
		r = zcbuf_consumer_new(ctx, v->address, &v->config, &consumer);
	v->result = r;
	while (r >= 0 && !v->quit) {
		r = zcbuf_consumer_next_event(consumer, 50, &event);
		if (r == 1)
			view_event(v, consumer, &event);
	}
	if (!v->result) {
		v->result = r;
		zcbuf_consumer_unref(consumer);
	}
	zcbuf_ctx_unref(ctx);
	return 0;
}

/* Every test program's main() begins with this: it may be a viewer. */
static inline void be_viewer(int argc, char **argv)
{
	struct viewer *v;

	if (argc != 3 || strcmp(argv[1], "viewer"))
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	v = mmap(NULL, sizeof(*v), PROT_READ | PROT_WRITE, MAP_SHARED, atoi(argv[2]), 0);
	close(atoi(argv[2]));
	exit(viewer_main(v));
}

/* A viewer that does not run yet: set what it shall do, then viewer_start(). */
static inline struct viewer *viewer_new(const char *address)
{
	struct viewer *v = mmap(NULL, sizeof(*v), PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	snprintf(v->address, sizeof(v->address), "%s", address);
	return v;
}

static inline struct viewer *viewer_start(struct viewer *v)
{
	int fd = must(memfd_create("viewer", 0));
	char number[16], self[256] = "";
	struct viewer *shared;
	pid_t pid;

	must(ftruncate(fd, sizeof(*v)));
	shared = mmap(NULL, sizeof(*v), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	memcpy(shared, v, sizeof(*v));
	munmap(v, sizeof(*v));
	snprintf(number, sizeof(number), "%d", fd);
	/* Read, because valgrind can answer that, but not run the link itself. */
	must(readlink("/proc/self/exe", self, sizeof(self) - 1));
	pid = must(fork());
	if (!pid) {
		if (shared->socket)
			fcntl(shared->socket, F_SETFD, 0);
		execl(self, "viewer", "viewer", number, NULL);
		_exit(127);
	}
	close(fd);
	shared->pid = pid;
	return shared;
}

/* Waits for its process, killing it with @signal first if that is not 0. */
static inline int viewer_end(struct viewer *v, int signal)
{
	int status;

	v->quit = true;
	if (signal)
		kill(v->pid, signal);
	must(waitpid(v->pid, &status, 0));
	munmap(v, sizeof(*v));
	return status;
}

/* ---- the stage ------------------------------------------------------------------------ */

#define POOL_MAX 128

struct stage {
	struct zcbuf_ctx *ctx;
	struct zcbuf_producer *producer;
	char address[64];
	struct zcbuf_buffer *pool[POOL_MAX];
	struct zcbuf_buffer *free[POOL_MAX];
	unsigned int n_pool, n_free;
	uint64_t sequence;
	unsigned int connected, disconnected, released;
	int error;	   /* of the last disconnection */
	uint64_t consumer; /* the last that connected or went */
};

static inline struct zcbuf_buffer *stage_buffer(struct zcbuf_ctx *ctx)
{
	struct zcbuf_alloc_options options = { .name = "zcbuf-test" };
	struct zcbuf_buffer *buffer;
	struct zcbuf_heap *heap;

	must(zcbuf_heap_open(ctx, NULL, &heap));
	must(zcbuf_heap_alloc(heap, BUFFER_SIZE, &options, &buffer));
	zcbuf_heap_unref(heap);
	return buffer;
}

static inline void stage_open(struct stage *s, const struct zcbuf_producer_config *config,
			      unsigned int n_buffers)
{
	static int number;

	*s = (struct stage){ .ctx = new_ctx() };
	snprintf(s->address, sizeof(s->address), "@zcbuf-test-%d-%d", getpid(), ++number);
	must(zcbuf_producer_new(s->ctx, config, &s->producer));
	must(zcbuf_producer_listen(s->producer, s->address, 0));
	while (s->n_pool < n_buffers) {
		s->pool[s->n_pool] = stage_buffer(s->ctx);
		must(zcbuf_producer_add_buffer(s->producer, s->pool[s->n_pool]));
		s->free[s->n_free++] = s->pool[s->n_pool++];
	}
}

static inline void stage_event(struct stage *s, const struct zcbuf_producer_event *event)
{
	if (event->type == ZCBUF_PRODUCER_RELEASED) {
		s->released++;
		if (event->frame.buffers[0] && s->n_free < s->n_pool)
			s->free[s->n_free++] = event->frame.buffers[0];
		return;
	}
	s->consumer = event->consumer;
	if (event->type == ZCBUF_PRODUCER_CONNECTED) {
		s->connected++;
	} else {
		s->disconnected++;
		s->error = event->error;
	}
}

/* Does what is to be done within @ms. */
static inline bool stage_run(struct stage *s, int ms)
{
	struct zcbuf_producer_event event;
	int64_t end = now_ms() + ms;
	int left = ms;

	do {
		while (zcbuf_producer_next_event(s->producer, left, &event) == 1) {
			stage_event(s, &event);
			left = 0;
		}
		left = (int)(end - now_ms());
	} while (left > 0);
	return true;
}

/* until(stage, condition): runs the stage until CONDITION holds; false if it never does. */
#define until(stage, cond)                             \
	({                                             \
		int64_t end_ = now_ms() + PATIENCE_MS; \
		while (!(cond) && now_ms() < end_)     \
			stage_run(stage, 1);           \
		(cond);                                \
	})

/* Sends one frame, as soon as there is a buffer for it. Returns what send returned. */
static inline int stage_send(struct stage *s, int timeout_ms)
{
	uint64_t label = s->sequence + 1;
	struct zcbuf_frame frame = {
		.sequence = label,
		.pts = ZCBUF_TIME_NONE,
		.metadata = &label,
		.metadata_size = sizeof(label),
	};
	int r;

	if (!until(s, s->n_free))
		bail("no buffer came back");
	frame.buffers[0] = s->free[--s->n_free];
	s->sequence++;
	paint(frame.buffers[0], frame.sequence);
	r = zcbuf_producer_send(s->producer, &frame, timeout_ms);
	label = 0; /* whatever waits has a copy */
	return r;
}

static inline struct zcbuf_producer_stats stage_stats(struct stage *s)
{
	struct zcbuf_producer_stats stats;

	zcbuf_producer_get_stats(s->producer, &stats);
	return stats;
}

/* True if every buffer is back. */
static inline bool stage_complete(struct stage *s)
{
	return s->n_free == s->n_pool && !stage_stats(s).busy_buffers;
}

static inline struct zcbuf_consumer_info stage_info(struct stage *s, pid_t pid)
{
	struct zcbuf_consumer_info *infos, info = { 0 };
	int n = (int)must(zcbuf_producer_get_consumers(s->producer, &infos));

	for (int i = 0; i < n; i++)
		if (infos[i].peer.pid == pid)
			info = infos[i];
	free(infos);
	return info;
}

static inline void stage_close(struct stage *s)
{
	zcbuf_producer_unref(s->producer);
	for (unsigned int i = 0; i < s->n_pool; i++)
		zcbuf_buffer_unref(s->pool[i]);
	zcbuf_ctx_unref(s->ctx);
}

/* A consumer in this process, over a socketpair. */
static inline struct zcbuf_consumer *
stage_consumer(struct stage *s, const struct zcbuf_consumer_config *config)
{
	struct zcbuf_consumer *consumer;
	int pair[2];

	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	must(zcbuf_consumer_new_from_socket(s->ctx, pair[1], config, &consumer));
	must(zcbuf_producer_add_socket(s->producer, pair[0]));
	close(pair[0]);
	close(pair[1]);
	return consumer;
}

/* The next event of @type; others are skipped. */
static inline struct zcbuf_consumer_event next_of(struct zcbuf_consumer *consumer,
						  enum zcbuf_consumer_event_type type)
{
	struct zcbuf_consumer_event event;

	do {
		if (zcbuf_consumer_next_event(consumer, PATIENCE_MS, &event) != 1)
			bail("an event of type %d did not come", type);
	} while (event.type != type);
	return event;
}

/* True if there is no event now. */
static inline bool quiet(struct zcbuf_consumer *consumer)
{
	struct zcbuf_consumer_event event;

	return !zcbuf_consumer_next_event(consumer, 20, &event);
}

#endif /* TESTS_CHANNEL_H */
