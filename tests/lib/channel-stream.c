// SPDX-License-Identifier: LGPL-2.1-or-later
/* What arrives at the consumers of a channel. */
#include <linux/dma-buf.h>
#include <linux/sync_file.h>
#include <pthread.h>
#include <sys/ioctl.h>

#include "channel.h"
#include "vgem.h"

#define FRAMES 200

/* ---- processes ------------------------------------------------------------------------ */

static void one_consumer(void)
{
	struct stage s;
	struct viewer *v;

	stage_open(&s, NULL, 4);
	must(zcbuf_producer_set_format(s.producer, "grey", 4));
	v = viewer_start(viewer_new(s.address));
	ok(until(&s, s.connected == 1), "a consumer in another process connects");
	ok(v->pid == stage_info(&s, v->pid).peer.pid,
	   "the producer knows which process it is");
	for (int i = 0; i < FRAMES; i++)
		if (stage_send(&s, PATIENCE_MS) != 1)
			diag("frame %d was not taken", i);
	must(zcbuf_producer_end(s.producer));
	ok(eventually(v->ends == 1), "the end of the stream arrives");
	ok(v->frames == FRAMES && !v->lost && !v->disorder,
	   "behind all frames, in their order");
	ok(!v->wrong, "each frame has its own content, until it is given back");
	ok(v->formats == 1 && !strcmp(v->format, "grey"), "the format arrives once");
	ok(v->buffers == 4, "each buffer arrives once");
	ok(v->memory_fds == 4, "and is one file descriptor of the consumer");
	ok(stage_info(&s, v->pid).fds == 4, "which has crossed the socket once");
	ok(!v->writable, "the consumer cannot write to any of them");
	ok(until(&s, stage_complete(&s)), "all buffers come back");
	ok(s.released == FRAMES, "every frame is released once");
	ok(viewer_end(v, 0) == 0, "the consumer leaves");
	ok(until(&s, s.disconnected == 1) && s.error == -ECONNRESET,
	   "and the producer learns it");
	stage_close(&s);
}

static void ten_consumers(void)
{
	struct viewer *v[10];
	unsigned int right = 0;
	struct stage s;

	stage_open(&s, NULL, 6);
	for (int i = 0; i < 10; i++)
		v[i] = viewer_start(viewer_new(s.address));
	until(&s, s.connected == 10);
	for (int i = 0; i < FRAMES; i++)
		if (stage_send(&s, PATIENCE_MS) != 10)
			diag("frame %d was not taken by all", i);
	must(zcbuf_producer_end(s.producer));
	for (int i = 0; i < 10; i++)
		right += eventually(v[i]->ends == 1) && v[i]->frames == FRAMES &&
			 !v[i]->lost && !v[i]->disorder && !v[i]->wrong &&
			 v[i]->buffers == 6 && stage_info(&s, v[i]->pid).fds == 6;
	ok(right == 10, "ten consumers get every frame, and every buffer once");
	ok(until(&s, stage_complete(&s)), "all buffers come back");
	for (int i = 0; i < 10; i++)
		viewer_end(v[i], 0);
	stage_close(&s);
}

static void late_consumers(void)
{
	struct zcbuf_consumer *first, *late;
	struct stage s;

	stage_open(&s, NULL, 2);
	must(zcbuf_producer_set_format(s.producer, "grey", 4));
	stage_send(&s, 0);
	first = stage_consumer(&s, NULL);
	next_of(first, ZCBUF_CONSUMER_FORMAT);
	stage_send(&s, 0);
	ok(next_of(first, ZCBUF_CONSUMER_FRAME).frame->sequence == 2,
	   "who comes late gets the format and the frames from then on");
	must(zcbuf_producer_end(s.producer));
	next_of(first, ZCBUF_CONSUMER_END);
	late = stage_consumer(&s, NULL);
	next_of(late, ZCBUF_CONSUMER_CONNECTED);
	next_of(late, ZCBUF_CONSUMER_FORMAT);
	next_of(late, ZCBUF_CONSUMER_END);
	must(zcbuf_producer_end(s.producer));
	stage_run(&s, 5);
	ok(quiet(late), "who comes after the end learns that it has ended, once");
	stage_send(&s, 0);
	ok(next_of(late, ZCBUF_CONSUMER_FRAME).frame->sequence == 3,
	   "another frame begins the stream again");
	must(zcbuf_producer_end(s.producer));
	next_of(late, ZCBUF_CONSUMER_END);
	ok(true, "and it can end again");
	zcbuf_producer_restart(s.producer);
	zcbuf_consumer_unref(first);
	first = stage_consumer(&s, NULL);
	next_of(first, ZCBUF_CONSUMER_CONNECTED);
	next_of(first, ZCBUF_CONSUMER_FORMAT);
	stage_run(&s, 5);
	ok(quiet(first) && quiet(late),
	   "who comes after the producer began again is told of no end");
	must(zcbuf_producer_end(s.producer));
	next_of(first, ZCBUF_CONSUMER_END);
	next_of(late, ZCBUF_CONSUMER_END);
	ok(true, "but of the next one");
	zcbuf_consumer_unref(first);
	zcbuf_consumer_unref(late);
	stage_close(&s);
}

/* ---- frames --------------------------------------------------------------------------- */

static void all_fields(void)
{
	static char metadata[ZCBUF_CHANNEL_PAYLOAD_MAX + 1];
	const struct zcbuf_frame *frame;
	struct zcbuf_producer_event event;
	struct zcbuf_consumer *c;
	bool same = true;
	struct stage s;

	stage_open(&s, NULL, 4);
	c = stage_consumer(&s, NULL);
	for (size_t i = 0; i < sizeof(metadata); i++)
		metadata[i] = (char)(i * 7);
	for (unsigned int n = 0; n <= 4; n++) {
		struct zcbuf_frame sent = {
			.sequence = UINT64_MAX - n,
			.pts = n ? 1234567890123 * n : ZCBUF_TIME_NONE,
			.duration = 40000000 + n,
			.flags = 0x80000001 + n,
			.metadata = metadata,
			.metadata_size = n * 4096,
			.user_data = &s,
		};

		memcpy(sent.buffers, s.pool, n * sizeof(sent.buffers[0]));
		must(zcbuf_producer_send(s.producer, &sent, 0));
		frame = next_of(c, ZCBUF_CONSUMER_FRAME).frame;
		same &= frame->sequence == sent.sequence && frame->pts == sent.pts &&
			frame->duration == sent.duration && frame->flags == sent.flags &&
			frame->metadata_size == sent.metadata_size && frame->fence == -1 &&
			!frame->user_data && !frame->lost &&
			(!n || !memcmp(frame->metadata, metadata, sent.metadata_size));
		for (unsigned int i = 0; i < 4; i++)
			same &= !frame->buffers[i] == !sent.buffers[i];
		must(zcbuf_consumer_give_back(c, frame, -1));
		must(zcbuf_producer_next_event(s.producer, PATIENCE_MS, &event) == 1 ? 0
										     : -1);
		if (event.type == ZCBUF_PRODUCER_CONNECTED)
			must(zcbuf_producer_next_event(s.producer, PATIENCE_MS, &event));
		same &= event.type == ZCBUF_PRODUCER_RELEASED &&
			event.frame.user_data == &s &&
			event.frame.sequence == sent.sequence &&
			!memcmp(event.frame.buffers, sent.buffers, sizeof(sent.buffers)) &&
			event.frame.fence == -1 && !event.frame.metadata;
	}
	ok(same,
	   "frames of 0 to 4 buffers and 0 to 16384 bytes of metadata arrive as sent");

	returns(zcbuf_producer_send(s.producer,
				    &(struct zcbuf_frame){ .metadata = metadata,
							   .metadata_size =
								   sizeof(metadata) },
				    0),
		-EINVAL, "one byte more of metadata is refused");
	returns(zcbuf_producer_set_format(s.producer, metadata, sizeof(metadata)), -EINVAL,
		"and of a format");
	returns(zcbuf_producer_set_format(s.producer, metadata, sizeof(metadata) - 1), 0,
		"the largest format is not");
	ok(next_of(c, ZCBUF_CONSUMER_FORMAT).size == sizeof(metadata) - 1, "and arrives");
	must(zcbuf_producer_remove_buffer(s.producer, s.pool[3]));
	returns(zcbuf_producer_send(s.producer,
				    &(struct zcbuf_frame){ .buffers = { s.pool[3] } }, 0),
		-ENOENT, "a buffer that was not added cannot be sent");
	returns(zcbuf_producer_remove_buffer(s.producer, s.pool[3]), -ENOENT,
		"nor be removed twice");
	returns(zcbuf_producer_add_buffer(s.producer, s.pool[0]), -EEXIST,
		"nor added twice");
	zcbuf_consumer_unref(c);
	stage_close(&s);
}

static void nobody_there(void)
{
	struct zcbuf_producer_event event;
	struct stage s;

	stage_open(&s, NULL, 1);
	returns(stage_send(&s, PATIENCE_MS), 0, "a frame for nobody goes to nobody");
	ok(zcbuf_producer_next_event(s.producer, 0, &event) == 1 &&
		   event.type == ZCBUF_PRODUCER_RELEASED &&
		   event.frame.buffers[0] == s.pool[0],
	   "and is released at once");
	stage_close(&s);
}

static void formats_and_frames(void)
{
	struct zcbuf_consumer_event event;
	struct zcbuf_consumer *c;
	char format[16] = "";
	unsigned int right = 0;
	struct stage s;

	/* Each frame's sequence says its format; the consumer is slow and sees some of them. */
	stage_open(&s, &(struct zcbuf_producer_config){ .max_frames = 2 }, 8);
	c = stage_consumer(&s, NULL);
	next_of(c, ZCBUF_CONSUMER_CONNECTED);
	for (int i = 1; i <= 30; i++) {
		char text[16];

		snprintf(text, sizeof(text), "%d", i);
		must(zcbuf_producer_set_format(s.producer, text, strlen(text)));
		must(stage_send(&s, 0));
		while (i % 5 == 0 && zcbuf_consumer_next_event(c, 20, &event) == 1) {
			if (event.type == ZCBUF_CONSUMER_FORMAT)
				snprintf(format, sizeof(format), "%.*s", (int)event.size,
					 (const char *)event.data);
			if (event.type == ZCBUF_CONSUMER_FRAME) {
				right +=
					(unsigned int)atoi(format) == event.frame->sequence;
				must(zcbuf_consumer_give_back(c, event.frame, -1));
				stage_run(&s, 1);
			}
		}
	}
	ok(right >= 12, "each frame arrives behind its format (%u did)", right);
	ok(atoi(format) == 30, "the last format arrives although the consumer was slow");
	zcbuf_consumer_unref(c);
	stage_close(&s);
}

static void frame_of_an_old_format(void)
{
	struct zcbuf_consumer_config config = { .max_frames = 1 };
	const struct zcbuf_frame *frame;
	struct zcbuf_consumer *c;
	struct stage s;

	stage_open(&s, NULL, 4);
	c = stage_consumer(&s, &config);
	must(zcbuf_producer_set_format(s.producer, "old", 3));
	next_of(c, ZCBUF_CONSUMER_FORMAT);
	must(stage_send(&s, 0));
	must(stage_send(&s, 0)); /* waits */
	must(zcbuf_producer_set_format(s.producer, "new", 3));
	must(zcbuf_consumer_give_back(c, next_of(c, ZCBUF_CONSUMER_FRAME).frame, -1));
	next_of(c, ZCBUF_CONSUMER_FORMAT);
	stage_run(&s, 20);
	ok(quiet(c), "a frame that waits does not come behind another format");
	must(stage_send(&s, 0));
	frame = next_of(c, ZCBUF_CONSUMER_FRAME).frame;
	ok(frame->sequence == 3 && frame->lost == 1, "it is lost");
	zcbuf_consumer_unref(c);
	stage_close(&s);
}

/* A consumer that does not read, until its socket takes no more. */
static void does_not_read(void)
{
	static char format[ZCBUF_CHANNEL_PAYLOAD_MAX];
	struct zcbuf_consumer_event event;
	unsigned int formats = 0, removed = 0, last = 0;
	struct zcbuf_buffer *extra;
	struct zcbuf_consumer *c;
	struct stage s;

	stage_open(&s, NULL, 1);
	c = stage_consumer(&s, NULL);
	next_of(c, ZCBUF_CONSUMER_CONNECTED);
	must(stage_send(&s, 0));
	for (unsigned int i = 1; i <= 100; i++) {
		memcpy(format, &i, sizeof(i));
		must(zcbuf_producer_set_format(s.producer, format, sizeof(format)));
	}
	/* In the place of the first one, of which the consumer is yet to be told. */
	must(zcbuf_producer_remove_buffer(s.producer, s.pool[0]));
	extra = stage_buffer(s.ctx);
	must(zcbuf_producer_add_buffer(s.producer, extra));
	must(zcbuf_producer_send(s.producer, &(struct zcbuf_frame){ .buffers = { extra } },
				 0));
	must(zcbuf_producer_end(s.producer));
	ok(stage_info(&s, getpid()).waiting == 1, "a frame waits for a full socket");
	for (int64_t end = now_ms() + PATIENCE_MS; now_ms() < end; stage_run(&s, 1)) {
		if (zcbuf_consumer_next_event(c, 1, &event) != 1)
			continue;
		removed += event.type == ZCBUF_CONSUMER_BUFFER_REMOVED;
		if (event.type == ZCBUF_CONSUMER_FORMAT) {
			formats++;
			memcpy(&last, event.data, sizeof(last));
		}
		if (event.type == ZCBUF_CONSUMER_FRAME)
			must(zcbuf_consumer_give_back(c, event.frame, -1));
		if (event.type == ZCBUF_CONSUMER_END)
			break;
	}
	ok(event.type == ZCBUF_CONSUMER_END, "who reads late gets all that still matters");
	ok(formats < 100 && last == 100,
	   "which is the last format, and %u of the 99 others", formats - 1);
	ok(removed == 1, "that a buffer was removed");
	ok(until(&s, s.released == 2) && stage_info(&s, getpid()).sent == 2,
	   "and the frame that waited");
	zcbuf_consumer_unref(c);
	zcbuf_buffer_unref(extra);
	stage_close(&s);
}

/* ---- the pool ------------------------------------------------------------------------- */

static void buffers_come_and_go(void)
{
	const struct zcbuf_frame *held;
	struct zcbuf_consumer_event event;
	struct zcbuf_buffer *first, *known, *extra;
	struct zcbuf_consumer *c;
	bool added = false;
	struct stage s;

	stage_open(&s, NULL, 1);
	first = s.pool[0];
	c = stage_consumer(&s, NULL);
	stage_send(&s, 0);
	known = next_of(c, ZCBUF_CONSUMER_BUFFER_ADDED).buffer;
	held = next_of(c, ZCBUF_CONSUMER_FRAME).frame;
	ok(held->buffers[0] == known, "the buffer of a frame is the one that was added");
	must(zcbuf_producer_remove_buffer(s.producer, first));
	ok(next_of(c, ZCBUF_CONSUMER_BUFFER_REMOVED).buffer == known,
	   "a consumer learns that a buffer was removed");
	ok(quiet(c) && held->buffers[0] == known && painted(known, 1),
	   "and still reads it in the frame that it holds");
	must(zcbuf_consumer_give_back(c, held, -1));
	ok(until(&s, s.n_free == 1) && s.free[0] == first,
	   "which is released although the buffer was removed");

	/* The new one takes the place of the old one. */
	extra = stage_buffer(s.ctx);
	must(zcbuf_producer_add_buffer(s.producer, extra));
	s.free[0] = extra;
	stage_send(&s, 0);
	while (zcbuf_consumer_next_event(c, PATIENCE_MS, &event) == 1 &&
	       event.type != ZCBUF_CONSUMER_FRAME)
		added |= event.type == ZCBUF_CONSUMER_BUFFER_ADDED;
	ok(added && painted(event.frame->buffers[0], 2),
	   "a buffer can be added in mid-stream");
	ok(stage_info(&s, getpid()).buffers == 1, "the consumer knows one buffer now");

	/* Removed while a frame with it waits: that frame cannot be sent any more. */
	for (int i = 0; i < 4; i++)
		must(zcbuf_producer_send(s.producer,
					 &(struct zcbuf_frame){ .buffers = { extra } }, 0));
	ok(stage_info(&s, getpid()).waiting == 1,
	   "a frame waits for a consumer that is full");
	must(zcbuf_producer_remove_buffer(s.producer, extra));
	ok(stage_info(&s, getpid()).waiting == 0, "but not when its buffer is removed");
	zcbuf_consumer_unref(c);
	zcbuf_buffer_unref(extra);
	stage_close(&s);
}

static void too_many_buffers(void)
{
	static struct zcbuf_buffer *many[ZCBUF_CHANNEL_BUFFERS_MAX + 1];
	struct zcbuf_consumer *c;
	struct stage s;
	int n = 0, r = 0;

	stage_open(&s, NULL, 0);
	c = stage_consumer(&s, &(struct zcbuf_consumer_config){ .max_frames = 1 });
	for (; n <= ZCBUF_CHANNEL_BUFFERS_MAX && !r; n++) {
		many[n] = stage_buffer(s.ctx);
		r = zcbuf_producer_add_buffer(s.producer, many[n]);
	}
	ok(r == -ENOSPC && n == ZCBUF_CHANNEL_BUFFERS_MAX + 1, "256 buffers, and no more");
	for (int i = 0; i < n - 1; i++) {
		must(zcbuf_producer_send(
			s.producer, &(struct zcbuf_frame){ .buffers = { many[i] } }, 0));
		must(zcbuf_consumer_give_back(c, next_of(c, ZCBUF_CONSUMER_FRAME).frame,
					      -1));
		stage_run(&s, 1);
	}
	ok(stage_info(&s, getpid()).buffers == ZCBUF_CHANNEL_BUFFERS_MAX,
	   "a consumer knows them all");
	zcbuf_consumer_unref(c);
	for (int i = 0; i < n; i++)
		zcbuf_buffer_unref(many[i]);
	stage_close(&s);
}

/* A dma-buf that is not zcbuf's, or NULL where there is none. */
static struct zcbuf_buffer *foreign_buffer(struct zcbuf_ctx *ctx)
{
	struct zcbuf_heap_need need = { .backends = ZCBUF_BACKEND_DMA_HEAP |
						    ZCBUF_BACKEND_UDMABUF };
	struct zcbuf_buffer *buffer = NULL;
	struct zcbuf_heap *heap;

	if (zcbuf_heap_open_for(ctx, &need, &heap))
		return NULL;
	if (zcbuf_heap_alloc(heap, BUFFER_SIZE, NULL, &buffer))
		buffer = NULL;
	zcbuf_heap_unref(heap);
	return buffer;
}

static bool shared_writable(enum zcbuf_share share, struct zcbuf_buffer *buffer,
			    int *result)
{
	struct zcbuf_producer_config config = { .share = share };
	struct zcbuf_consumer *c;
	bool writable = false;
	struct stage s;
	void *data;

	stage_open(&s, &config, 0);
	*result = zcbuf_producer_add_buffer(s.producer, buffer);
	c = stage_consumer(&s, NULL);
	if (!*result) {
		must(zcbuf_producer_send(
			s.producer, &(struct zcbuf_frame){ .buffers = { buffer } }, 0));
		buffer = next_of(c, ZCBUF_CONSUMER_BUFFER_ADDED).buffer;
		writable = !zcbuf_buffer_map(buffer, ZCBUF_SYNC_WRITE, &data);
	}
	zcbuf_consumer_unref(c);
	stage_close(&s);
	return writable;
}

static void rights(void)
{
	static const char *const heaps[] = { "zcbuf-system", "memfd" };
	struct zcbuf_ctx *ctx = new_ctx();
	struct zcbuf_buffer *foreign = foreign_buffer(ctx);
	int r;

	for (int i = 0; i < 2; i++) {
		struct zcbuf_buffer *buffer;
		struct zcbuf_heap *heap;

		if (zcbuf_heap_open(ctx, heaps[i], &heap)) {
			skip("%s: no such heap here", heaps[i]);
			continue;
		}
		must(zcbuf_heap_alloc(heap, BUFFER_SIZE, NULL, &buffer));
		zcbuf_heap_unref(heap);
		ok(!shared_writable(ZCBUF_SHARE_READ_ONLY, buffer, &r) && !r,
		   "%s: shared read-only", heaps[i]);
		ok(!shared_writable(ZCBUF_SHARE_PREFER_READ_ONLY, buffer, &r) && !r,
		   "%s: also when that is only preferred", heaps[i]);
		ok(shared_writable(ZCBUF_SHARE_WRITABLE, buffer, &r) && !r,
		   "%s: writable when the producer says so", heaps[i]);
		zcbuf_buffer_unref(buffer);
	}
	if (foreign) {
		ok(!shared_writable(ZCBUF_SHARE_READ_ONLY, foreign, &r) && r == -EOPNOTSUPP,
		   "a dma-buf of somebody else's is not shared by default");
		ok(shared_writable(ZCBUF_SHARE_PREFER_READ_ONLY, foreign, &r) && !r,
		   "but writable, if read-only is only preferred");
	} else {
		skip("no other dma-buf heap here");
	}
	zcbuf_buffer_unref(foreign);
	zcbuf_ctx_unref(ctx);
}

/* ---- consumers that are slow ---------------------------------------------------------- */

static void drop_oldest(void)
{
	struct zcbuf_consumer_config config = { .max_frames = 2,
						.drop = ZCBUF_DROP_OLDEST };
	const struct zcbuf_frame *frame;
	struct zcbuf_consumer *c;
	struct stage s;

	stage_open(&s, NULL, 8);
	c = stage_consumer(&s, &config);
	next_of(c, ZCBUF_CONSUMER_CONNECTED);
	for (int i = 1; i <= 10; i++)
		must(stage_send(&s, 0));
	frame = next_of(c, ZCBUF_CONSUMER_FRAME).frame;
	ok(frame->sequence == 1 && next_of(c, ZCBUF_CONSUMER_FRAME).frame->sequence == 2 &&
		   quiet(c),
	   "drop oldest: a consumer that gives nothing back gets two frames if it may hold "
	   "two");
	ok(stage_info(&s, getpid()).waiting == 1 && stage_info(&s, getpid()).held == 2,
	   "the newest one waits for it");
	must(zcbuf_consumer_give_back(c, frame, -1));
	stage_run(&s, 20);
	frame = next_of(c, ZCBUF_CONSUMER_FRAME).frame;
	ok(frame->sequence == 10 && frame->lost == 7 && labelled(frame),
	   "it comes next, with its metadata, and says that seven are lost");
	ok(stage_info(&s, getpid()).dropped == 7, "the producer counts them, too");
	zcbuf_consumer_unref(c);
	stage_close(&s);
}

static void drop_newest(void)
{
	struct zcbuf_consumer_config config = { .max_frames = 2,
						.drop = ZCBUF_DROP_NEWEST };
	const struct zcbuf_frame *frame;
	struct zcbuf_consumer *c;
	struct stage s;

	stage_open(&s, NULL, 8);
	c = stage_consumer(&s, &config);
	next_of(c, ZCBUF_CONSUMER_CONNECTED);
	for (int i = 1; i <= 10; i++)
		must(stage_send(&s, 0));
	frame = next_of(c, ZCBUF_CONSUMER_FRAME).frame;
	next_of(c, ZCBUF_CONSUMER_FRAME);
	must(zcbuf_consumer_give_back(c, frame, -1));
	stage_run(&s, 20);
	ok(quiet(c) && !stage_info(&s, getpid()).waiting, "drop newest: no frame waits");
	stage_send(&s, 0);
	frame = next_of(c, ZCBUF_CONSUMER_FRAME).frame;
	ok(frame->sequence == 11 && frame->lost == 8,
	   "the next one says that eight are lost");
	zcbuf_consumer_unref(c);
	stage_close(&s);
}

static void wishes(void)
{
	struct zcbuf_producer_config config = { .max_frames = 3,
						.drop = ZCBUF_DROP_NEWEST };
	struct zcbuf_consumer_config modest = { .max_frames = 1 },
				     greedy = { .max_frames = 9 };
	struct zcbuf_consumer *c;
	struct stage s;

	stage_open(&s, &config, 1);
	c = stage_consumer(&s, &modest);
	next_of(c, ZCBUF_CONSUMER_CONNECTED);
	ok(stage_info(&s, getpid()).max_frames == 1, "a consumer may ask for fewer frames");
	ok(stage_info(&s, getpid()).drop == ZCBUF_DROP_NEWEST,
	   "and gets the producer's way of dropping if it does not mind");
	zcbuf_consumer_unref(c);
	stage_run(&s, 20);
	c = stage_consumer(&s, &greedy);
	next_of(c, ZCBUF_CONSUMER_CONNECTED);
	ok(stage_info(&s, getpid()).max_frames == 3, "but not for more than there are");
	zcbuf_consumer_unref(c);
	stage_close(&s);
}

static void *give_back_later(void *argument)
{
	struct zcbuf_consumer *c = argument;
	const struct zcbuf_frame *frame = next_of(c, ZCBUF_CONSUMER_FRAME).frame;

	sleep_ms(300);
	must(zcbuf_consumer_give_back(c, frame, -1));
	return NULL;
}

static void back_pressure(void)
{
	struct zcbuf_consumer_config config = { .max_frames = 1 };
	struct zcbuf_consumer *c;
	int64_t begin, first, second;
	pthread_t thread;
	struct stage s;

	stage_open(&s, NULL, 8);
	c = stage_consumer(&s, &config);
	next_of(c, ZCBUF_CONSUMER_CONNECTED);
	must(stage_send(&s, 0));
	pthread_create(&thread, NULL, give_back_later, c);
	begin = now_ms();
	must(stage_send(&s, PATIENCE_MS));
	first = now_ms() - begin;
	pthread_join(thread, NULL);
	ok(first >= 250 && first < PATIENCE_MS,
	   "sending waits for a frame to come back (%d ms)", (int)first);
	ok(!stage_info(&s, getpid()).dropped, "so that nothing is dropped");

	begin = now_ms();
	must(stage_send(&s, 300));
	first = now_ms() - begin;
	begin = now_ms();
	must(stage_send(&s, 2 * PATIENCE_MS));
	second = now_ms() - begin;
	ok(first >= 300, "it waits no longer than it was told (%d ms)", (int)first);
	ok(second < PATIENCE_MS, "and not again for the same consumer (%d ms)",
	   (int)second);
	must(zcbuf_consumer_give_back(c, next_of(c, ZCBUF_CONSUMER_FRAME).frame, -1));
	stage_run(&s, 20);
	begin = now_ms();
	must(stage_send(&s, 300));
	first = now_ms() - begin;
	ok(first >= 300, "but when it has given something back (%d ms)", (int)first);
	zcbuf_consumer_unref(c);
	stage_close(&s);
}

/* ---- event loops ---------------------------------------------------------------------- */

static bool readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1;
}

static void drain(struct stage *s)
{
	struct zcbuf_producer_event event;

	while (zcbuf_producer_next_event(s->producer, 0, &event) == 1)
		stage_event(s, &event);
}

static void poll_loop(void)
{
	struct zcbuf_consumer_event event;
	struct zcbuf_consumer *c;
	const struct zcbuf_frame *frame;
	int producer, consumer;
	struct stage s;

	stage_open(&s, NULL, 4);
	producer = zcbuf_producer_fd(s.producer);
	ok(producer >= 0 && producer == zcbuf_producer_fd(s.producer),
	   "one fd of a producer");
	ok(!readable(producer, 20), "which is not readable if there is nothing to do");
	must(stage_send(&s, 0));
	ok(readable(producer, 0), "but when a frame was released at once");
	drain(&s);
	ok(s.released == 1 && !readable(producer, 20), "until this was told");

	must(zcbuf_consumer_new(s.ctx, s.address, NULL, &c));
	consumer = zcbuf_consumer_fd(c);
	ok(consumer >= 0 && consumer == zcbuf_consumer_fd(c), "one fd of a consumer");
	ok(readable(producer, PATIENCE_MS),
	   "the producer's is readable when somebody connects");
	while (!s.connected && readable(producer, PATIENCE_MS))
		drain(&s);
	ok(readable(consumer, PATIENCE_MS) && next_of(c, ZCBUF_CONSUMER_CONNECTED).peer.pid,
	   "the consumer's when it is admitted");
	ok(quiet(c) && !readable(consumer, 20), "and then no more");
	for (int i = 0; i < 2; i++)
		must(stage_send(&s, 0));
	frame = next_of(c, ZCBUF_CONSUMER_FRAME).frame;
	ok(readable(consumer, 0), "it is readable while there are events in memory");
	while (zcbuf_consumer_next_event(c, 0, &event) == 1)
		;
	ok(!readable(consumer, 20), "until they are taken");
	must(zcbuf_consumer_give_back(c, frame, -1));
	ok(readable(producer, PATIENCE_MS), "the producer's when a frame comes back");
	drain(&s);
	ok(s.released == 2 && !readable(producer, 20), "until that was told");
	zcbuf_producer_close(s.producer);
	ok(readable(consumer, PATIENCE_MS), "the consumer's when the producer goes");
	ok(next_of(c, ZCBUF_CONSUMER_DISCONNECTED).error == -ECANCELED, "which it learns");
	returns(zcbuf_consumer_next_event(c, 0, &event), -ENOTCONN,
		"then there is no more");
	zcbuf_consumer_unref(c);
	stage_close(&s);
}

static void *wake_both(void *argument)
{
	void **both = argument;

	sleep_ms(200);
	zcbuf_producer_wake(both[0]);
	sleep_ms(200);
	zcbuf_consumer_wake(both[1]);
	return NULL;
}

static void wake_up(void)
{
	struct zcbuf_producer_event event;
	struct zcbuf_consumer_event seen;
	struct zcbuf_consumer *c;
	int64_t begin = now_ms();
	pthread_t thread;
	struct stage s;
	void *both[2];

	stage_open(&s, NULL, 1);
	c = stage_consumer(&s, NULL);
	next_of(c, ZCBUF_CONSUMER_CONNECTED);
	stage_run(&s, 20);
	both[0] = s.producer;
	both[1] = c;
	pthread_create(&thread, NULL, wake_both, both);
	returns(zcbuf_producer_next_event(s.producer, -1, &event), 0,
		"a producer is woken");
	returns(zcbuf_consumer_next_event(c, -1, &seen), 0, "a consumer is woken");
	pthread_join(thread, NULL);
	zcbuf_producer_wake(s.producer);
	zcbuf_consumer_wake(c);
	returns(zcbuf_producer_next_event(s.producer, -1, &event), 0,
		"a producer that is woken before it waits does not wait");
	returns(zcbuf_consumer_next_event(c, -1, &seen), 0, "nor does a consumer");
	ok(now_ms() - begin < PATIENCE_MS, "all within moments");
	zcbuf_consumer_unref(c);
	stage_close(&s);
}

/* ---- fences --------------------------------------------------------------------------- */

static bool is_pending(int fence)
{
	struct sync_file_info info = { .status = -1 };

	return fence > 0 && !ioctl(fence, SYNC_IOC_FILE_INFO, &info) && info.status == 0;
}

static bool signals(int fence)
{
	return fence > 0 &&
	       poll(&(struct pollfd){ .fd = fence, .events = POLLIN }, 1, PATIENCE_MS) == 1;
}

static void fences(void)
{
	struct zcbuf_frame frame = { 0 };
	const struct zcbuf_frame *got[2];
	struct zcbuf_producer_event event;
	struct zcbuf_consumer *c[2];
	uint32_t work[2];
	struct stage s;
	int fence[2], fds = 0, vgem;

	vgem = vgem_open();
	if (vgem < 0) {
		skip("no vgem here, to have fences from");
		return;
	}
	stage_open(&s, NULL, 1);
	for (int i = 0; i < 2; i++) {
		c[i] = stage_consumer(&s,
				      &(struct zcbuf_consumer_config){ .max_frames = 1 });
		next_of(c[i], ZCBUF_CONSUMER_CONNECTED);
	}
	stage_run(&s, 20);
	frame.buffers[0] = s.pool[0];
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 2; i++)
			must(fence[i] = vgem_work(vgem, &work[i]));
		frame.fence = fence[0];
		must(zcbuf_producer_send(s.producer, &frame, 0));
		must(zcbuf_producer_send(s.producer, &frame, 0)); /* this one waits */
		for (int i = 0; i < 2; i++) {
			got[i] = next_of(c[i], ZCBUF_CONSUMER_FRAME).frame;
			ok(is_pending(got[i]->fence),
			   "a frame brings the fence of who still writes it");
			must(zcbuf_consumer_give_back(c[i], got[i], fence[i]));
		}
		ok(zcbuf_producer_next_event(s.producer, PATIENCE_MS, &event) == 1 &&
			   is_pending(event.frame.fence),
		   "and comes back with one for both consumers");
		vgem_end(vgem, work[0]);
		ok(is_pending(event.frame.fence),
		   "which has not signalled when one is ready");
		vgem_end(vgem, work[1]);
		ok(signals(event.frame.fence), "but when both are");
		for (int i = 0; i < 2; i++) {
			got[i] = next_of(c[i], ZCBUF_CONSUMER_FRAME).frame;
			ok(signals(got[i]->fence),
			   "a frame that had to wait still has its fence");
			must(zcbuf_consumer_give_back(c[i], got[i], -1));
		}
		ok(zcbuf_producer_next_event(s.producer, PATIENCE_MS, &event) == 1 &&
			   event.frame.fence == -1,
		   "and comes back without if nobody gave any");
		zcbuf_producer_next_event(s.producer, 0, &event);
		for (int i = 0; i < 2; i++)
			close(fence[i]);
		if (!round)
			fds = open_fds(); /* with the buffer's */
	}
	ok(open_fds() == fds, "no file descriptor of a fence is left");
	for (int i = 0; i < 2; i++)
		zcbuf_consumer_unref(c[i]);
	stage_close(&s);
	close(vgem);
}

int main(int argc, char **argv)
{
	be_viewer(argc, argv);
	one_consumer();
	if (argc == 1) /* valgrind would take too long for so many processes */
		ten_consumers();
	late_consumers();
	all_fields();
	nobody_there();
	formats_and_frames();
	frame_of_an_old_format();
	does_not_read();
	buffers_come_and_go();
	too_many_buffers();
	rights();
	drop_oldest();
	drop_newest();
	wishes();
	back_pressure();
	poll_loop();
	wake_up();
	fences();
	return done_testing();
}
