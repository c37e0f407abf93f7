// SPDX-License-Identifier: LGPL-2.1-or-later
/* One producer and one consumer, used by many threads at once. */
#include <pthread.h>

#include "channel.h"

#define POOL   8
#define FRAMES 2000

/* A pool that threads share. */
static struct {
	pthread_mutex_t lock;
	struct zcbuf_buffer *free[POOL];
	int n_free;
} pool = { .lock = PTHREAD_MUTEX_INITIALIZER };

static struct stage stage;
static struct zcbuf_consumer *consumer;
static atomic_uint sent, released, received, wrong, ended, consumers;
static atomic_bool stop;

static struct zcbuf_buffer *pop(void)
{
	struct zcbuf_buffer *buffer = NULL;

	pthread_mutex_lock(&pool.lock);
	if (pool.n_free)
		buffer = pool.free[--pool.n_free];
	pthread_mutex_unlock(&pool.lock);
	return buffer;
}

static void push(struct zcbuf_buffer *buffer)
{
	pthread_mutex_lock(&pool.lock);
	pool.free[pool.n_free++] = buffer;
	pthread_mutex_unlock(&pool.lock);
}

static void *send_frames(void *argument)
{
	(void)argument;
	while (sent < FRAMES) {
		struct zcbuf_frame frame = { .sequence = ++sent };

		while (!(frame.buffers[0] = pop()))
			sleep_ms(1);
		paint(frame.buffers[0], frame.sequence);
		must(zcbuf_producer_send(stage.producer, &frame, 20));
	}
	return NULL;
}

static void *collect(void *argument)
{
	struct zcbuf_producer_event event;
	int timeout = *(int *)argument;

	while (!stop) {
		while (zcbuf_producer_next_event(stage.producer, timeout, &event) == 1) {
			if (event.type == ZCBUF_PRODUCER_RELEASED) {
				released++;
				push(event.frame.buffers[0]);
			} else if (event.type == ZCBUF_PRODUCER_CONNECTED) {
				consumers++;
			}
		}
		if (!timeout)
			sleep_ms(1);
	}
	return NULL;
}

/* Frames on their way from the thread that receives to those that give back. */
static struct {
	pthread_mutex_t lock;
	const struct zcbuf_frame *frames[64];
	int n;
} queue = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void *receive(void *argument)
{
	struct zcbuf_consumer_event event;

	(void)argument;
	while (zcbuf_consumer_next_event(consumer, -1, &event) >= 0) {
		if (event.type == ZCBUF_CONSUMER_END)
			ended++;
		if (event.type != ZCBUF_CONSUMER_FRAME)
			continue;
		received++;
		pthread_mutex_lock(&queue.lock);
		queue.frames[queue.n++] = event.frame;
		pthread_mutex_unlock(&queue.lock);
		event.type = 0;
	}
	return NULL;
}

static void *give_back(void *argument)
{
	(void)argument;
	while (!stop) {
		const struct zcbuf_frame *frame = NULL;

		pthread_mutex_lock(&queue.lock);
		if (queue.n)
			frame = queue.frames[--queue.n];
		pthread_mutex_unlock(&queue.lock);
		if (!frame) {
			sleep_ms(1);
			continue;
		}
		wrong += !painted(frame->buffers[0], frame->sequence);
		must(zcbuf_consumer_give_back(consumer, frame, -1));
	}
	return NULL;
}

/* Everything else that somebody may call meanwhile. */
static void *disturb(void *argument)
{
	struct zcbuf_consumer_info *infos;
	struct zcbuf_producer_stats stats;
	struct zcbuf_consumer *c;

	(void)argument;
	while (!stop) {
		must(zcbuf_consumer_new(stage.ctx, stage.address, NULL, &c));
		must(zcbuf_producer_set_format(stage.producer, "x", 1));
		must(zcbuf_producer_get_consumers(stage.producer, &infos));
		free(infos);
		zcbuf_producer_get_stats(stage.producer, &stats);
		zcbuf_producer_wake(stage.producer);
		zcbuf_consumer_wake(consumer);
		must(zcbuf_producer_fd(stage.producer));
		must(zcbuf_consumer_fd(consumer));
		zcbuf_consumer_unref(zcbuf_consumer_ref(consumer));
		zcbuf_producer_unref(zcbuf_producer_ref(stage.producer));
		sleep_ms(2);
		zcbuf_consumer_unref(c);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t senders[3], collectors[3], receiver, givers[2], other;
	static int timeouts[3] = { -1, 5, 0 };

	be_viewer(argc, argv);
	stage_open(&stage, &(struct zcbuf_producer_config){ .max_consumers = 256 }, POOL);
	while (stage.n_free)
		push(stage.free[--stage.n_free]);
	must(zcbuf_consumer_new(stage.ctx, stage.address, NULL, &consumer));
	for (int i = 0; i < 3; i++)
		pthread_create(&collectors[i], NULL, collect, &timeouts[i]);
	eventually(consumers == 1);
	pthread_create(&receiver, NULL, receive, NULL);
	for (int i = 0; i < 2; i++)
		pthread_create(&givers[i], NULL, give_back, NULL);
	pthread_create(&other, NULL, disturb, NULL);
	for (int i = 0; i < 3; i++)
		pthread_create(&senders[i], NULL, send_frames, NULL);
	for (int i = 0; i < 3; i++)
		pthread_join(senders[i], NULL);
	ok(sent >= FRAMES, "three threads send");
	must(zcbuf_producer_end(stage.producer));
	ok(eventually(ended > 0), "one receives, to the end (%u frames)", received);
	ok(received > FRAMES / 4, "most of what was sent");
	ok(eventually(released == sent), "three collect every frame that is released");
	ok(!wrong, "two give back, after reading what was sent");
	ok(consumers > 5, "other consumers came and went");
	zcbuf_consumer_close(consumer);
	pthread_join(receiver, NULL);
	stop = true;
	for (int i = 0; i < 2; i++)
		pthread_join(givers[i], NULL);
	pthread_join(other, NULL);
	zcbuf_producer_close(stage.producer);
	for (int i = 0; i < 3; i++)
		pthread_join(collectors[i], NULL);
	ok(pool.n_free == POOL, "all threads end, and all buffers are back");
	zcbuf_consumer_unref(consumer);
	stage_close(&stage);
	return done_testing();
}
