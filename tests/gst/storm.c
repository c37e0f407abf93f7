/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One zcbufsink and ten consumers that come and go for a minute, stopped and killed at random
 * instants: some are gst-launch-1.0, some plain programs on the library.
 */
#include <process.h>
#include <storm.h>

#include "gst-test.h"

#include <libzcbuf-channel.h>

#define CAPS	"video/x-raw,format=NV12,width=320,height=240,framerate=30/1"
#define PLACES	10
#define SECONDS 60
#define PAGE	4096

/* ---- what a frame looks like --------------------------------------------------------------- */

/* Its number, at the beginning of each page. */
static void paint(guint8 *data, gsize size, guint64 number)
{
	for (gsize i = 0; i + sizeof(number) <= size; i += PAGE)
		memcpy(data + i, &number, sizeof(number));
}

static bool painted(const guint8 *data, gsize size)
{
	for (gsize i = PAGE; i + sizeof(guint64) <= size; i += PAGE)
		if (memcmp(data, data + i, sizeof(guint64)) != 0)
			return false;
	return true;
}

static GstPadProbeReturn paint_frame(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
	GstBuffer *buffer = gst_buffer_make_writable(GST_PAD_PROBE_INFO_BUFFER(info));
	GstMapInfo map;

	(void)pad, (void)data;
	GST_PAD_PROBE_INFO_DATA(info) = buffer;
	if (gst_buffer_map(buffer, &map, GST_MAP_READWRITE)) {
		paint(map.data, map.size, GST_BUFFER_OFFSET(buffer));
		gst_buffer_unmap(buffer, &map);
	}
	return GST_PAD_PROBE_OK;
}

/* A consumer in this process, every frame of which is looked at. */
struct watcher {
	GstElement *pipeline, *src;
	guint64 last;
	guint frames, wrong;
};

static GstPadProbeReturn watch_frame(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
	GstBuffer *buffer = GST_PAD_PROBE_INFO_BUFFER(info);
	struct watcher *watcher = data;
	guint64 number = 0;
	GstMapInfo map;

	(void)pad;
	if (gst_buffer_map(buffer, &map, GST_MAP_READ)) {
		memcpy(&number, map.data, sizeof(number));
		if (!painted(map.data, map.size) || number != GST_BUFFER_OFFSET(buffer) ||
		    (watcher->frames && number <= watcher->last))
			g_atomic_int_inc(&watcher->wrong);
		gst_buffer_unmap(buffer, &map);
	} else {
		g_atomic_int_inc(&watcher->wrong);
	}
	watcher->last = number;
	g_atomic_int_inc(&watcher->frames);
	return GST_PAD_PROBE_OK;
}

static void watch(struct watcher *watcher, const gchar *address)
{
	GstPad *pad;

	*watcher = (struct watcher){ 0 };
	watcher->pipeline = gst_test_pipeline(
		"zcbufsrc name=src socket-path=%s ! fakesink sync=false", address);
	watcher->src = gst_bin_get_by_name(GST_BIN(watcher->pipeline), "src");
	pad = gst_element_get_static_pad(watcher->src, "src");
	gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, watch_frame, watcher, NULL);
	gst_object_unref(pad);
	gst_element_set_state(watcher->pipeline, GST_STATE_PLAYING);
}

static void unwatch(struct watcher *watcher)
{
	gst_object_unref(watcher->src);
	gst_test_stop(watcher->pipeline);
}

/* ---- those that come and go ---------------------------------------------------------------- */

/* Who was stopped for too long may find newer content, but then is disconnected as well. */
static void judge(struct storm *storm, struct life *life, struct zcbuf_consumer *consumer,
		  const struct zcbuf_frame *frame)
{
	struct zcbuf_buffer *buffer = frame->buffers[0];
	struct zcbuf_consumer_event event;
	void *data;
	bool right;
	int r;

	life->judging = true;
	if (zcbuf_buffer_map(buffer, ZCBUF_SYNC_READ, &data) ||
	    zcbuf_buffer_begin(buffer, ZCBUF_SYNC_READ))
		abort();
	right = painted(data, 320 * 240 * 3 / 2);
	zcbuf_buffer_end(buffer, ZCBUF_SYNC_READ);
	storm->frames++;
	if (right) {
		life->judging = false;
		return;
	}
	do {
		r = zcbuf_consumer_next_event(consumer, 10000, &event);
	} while (r == 1 && event.type != ZCBUF_CONSUMER_DISCONNECTED);
	storm->wrong += r != 1;
	life->judging = false;
	_exit(0); /* what it holds may change again, and there is no second event for that */
}

static void live_plainly(struct storm *storm, struct life *life)
{
	struct zcbuf_consumer_event event;
	struct zcbuf_consumer *consumer;
	struct zcbuf_ctx *ctx;
	long frames = random() % 2 ? -1 : random() % 100; /* then it leaves by itself */

	if (zcbuf_ctx_new(&ctx))
		abort();
	if (zcbuf_consumer_new(ctx, storm->address, NULL, &consumer))
		_exit(0);
	while (frames && zcbuf_consumer_next_event(consumer, -1, &event) == 1) {
		if (event.type != ZCBUF_CONSUMER_FRAME)
			continue;
		life->phase = 1;
		judge(storm, life, consumer, event.frame);
		poll(NULL, 0, (int)(random() % 50));
		judge(storm, life, consumer, event.frame);
		zcbuf_consumer_give_back(consumer, event.frame, -1);
		frames--;
	}
	zcbuf_consumer_unref(consumer);
}

static void live(struct storm *storm, struct life *life, unsigned int place)
{
	static const char *const ends[] = {
		"fakesink sync=false",
		"queue ! fakesink sync=true ts-offset=3600000000000", /* keeps all it may */
	};
	char line[256];

	if (place % 2) {
		live_plainly(storm, life);
		return;
	}
	snprintf(line, sizeof(line),
		 "exec gst-launch-1.0 -q zcbufsrc socket-path=%s ! %s > /dev/null 2>&1",
		 storm->address, ends[place / 2 % 2]);
	execl("/bin/sh", "sh", "-c", line, NULL);
	abort();
}

/* ---- the sink in the midst of them --------------------------------------------------------- */

/* How many gst-launch-1.0 were admitted since the last call, as the sink's messages tell. */
static guint count_launched(GstElement *producer)
{
	GstBus *bus = gst_element_get_bus(producer);
	GstMessage *message;
	guint count = 0;

	while ((message = gst_bus_pop_filtered(bus, GST_MESSAGE_ELEMENT))) {
		const GstStructure *s = gst_message_get_structure(message);
		gchar *path, *name = NULL;
		gint pid = 0;

		if (gst_structure_has_name(s, "zcbuf-consumer-connected"))
			gst_structure_get_int(s, "pid", &pid);
		path = g_strdup_printf("/proc/%d/comm", pid);
		if (g_file_get_contents(path, &name, NULL, NULL))
			count += g_str_has_prefix(name, "gst-launch");
		g_free(name);
		g_free(path);
		gst_message_unref(message);
	}
	gst_object_unref(bus);
	return count;
}

static void a_storm(struct storm *storm)
{
	gchar *address = gst_test_address();
	GstElement *producer =
		gst_test_pipeline("videotestsrc is-live=true pattern=black ! " CAPS
				  " ! zcbufsink name=sink max-buffers=40 socket-path=%s",
				  address);
	GstElement *sink = gst_bin_get_by_name(GST_BIN(producer), "sink");
	GstPad *pad = gst_element_get_static_pad(sink, "sink");
	struct watcher watcher, last;
	guint frames, launched = 0;
	gint64 end;
	long memory;
	int fds, now;

	gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, paint_frame, NULL, NULL);
	gst_object_unref(pad);
	gst_element_set_state(producer, GST_STATE_PLAYING);
	gst_test_until(gst_test_stat(sink, "frames") > 5);
	fds = open_fds() - 2 * (int)gst_test_stat(sink, "buffers"); /* each has a view */
	watch(&watcher, address);
	gst_test_until(g_atomic_int_get(&watcher.frames) > 5);

	end = g_get_monotonic_time() + SECONDS * G_TIME_SPAN_SECOND;
	strcpy(storm->address, address);
	g_usleep(SECONDS / 4 * G_USEC_PER_SEC); /* so that the pool has grown */
	memory = memory_kib();
	frames = (guint)g_atomic_int_get(&watcher.frames);
	while (g_get_monotonic_time() < end) {
		launched += count_launched(producer);
		g_usleep(G_USEC_PER_SEC / 10);
	}
	frames = (guint)g_atomic_int_get(&watcher.frames) - frames;
	storm->over = true;
	waitpid(storm->pid, NULL, 0);

	diag("%u lives: %u left, %u were killed (%u of the plain ones with frames), %u "
	     "stopped, "
	     "%u of these for a while",
	     storm_lives(storm), storm->left, storm->killed[0] + storm->killed[1],
	     storm->killed[1], storm->stopped, storm->resumed);
	ok(storm_lives(storm) >= 3 * PLACES && storm->killed[0] && storm->killed[1] &&
		   storm->left && storm->stopped > storm->resumed && storm->resumed,
	   "consumers came and went for a minute");
	ok(launched >= PLACES / 2, "of gst-launch-1.0, %u got as far as to be admitted",
	   launched);
	ok(!storm->crashed, "none crashed");
	ok(storm->frames > 100 && !storm->wrong,
	   "each of the %u frames that the plain ones looked at was whole", storm->frames);
	ok(frames > SECONDS && !watcher.wrong,
	   "another one got %u frames meanwhile, each as it was sent, in order", frames);
	ok(gst_test_stat(watcher.src, "connections") == 1, "over one connection");
	unwatch(&watcher);
	ok(gst_test_until(gst_test_stat(sink, "busy-buffers") == 0),
	   "all buffers are back in the pool");
	ok(gst_test_stat(sink, "buffers") <= 40, "which has as many as it may (%u)",
	   (guint)gst_test_stat(sink, "buffers"));
	now = open_fds() - 2 * (int)gst_test_stat(sink, "buffers");
	ok(now <= fds, "the producer has no more file descriptors (%d)", now - fds);
	ok(memory_kib() - memory < 4096, "and no more memory (%ld KiB)",
	   memory_kib() - memory);

	watch(&last, address);
	ok(gst_test_until(g_atomic_int_get(&last.frames) >= 60),
	   "who comes then gets frames");
	unwatch(&last);
	ok(!last.wrong, "each of %u as it was sent", last.frames);
	gst_object_unref(sink);
	gst_test_stop(producer);
	g_free(address);
}

int main(void)
{
	struct storm *storm = storm_begin(PLACES, 8192, 8192, live);

	gst_test_begin();
	a_storm(storm);
	return gst_test_end();
}
