/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A producer of 1080p and four consumers, each a GStreamer process. The consumers are stopped
 * and killed at random instants, and come again; what they look at is summed up to the last
 * byte, and what the producer and the kernel take for all this must not grow.
 *
 *	four-consumers [SECONDS]
 */
#include <process.h>
#include <storm.h>
#include <sys/utsname.h>

#include "../gst/gst-test.h"

#include <libzcbuf.h>

#define CAPS	    "video/x-raw,format=NV12,width=1920,height=1080,framerate=30/1"
#define PLACES	    4
#define MAX_BUFFERS 32
#define SECONDS	    120

/* ---- what a frame looks like --------------------------------------------------------------- */

/* In its first pixels. All others are made of the number. */
struct head {
	guint64 number;
	guint64 sum[2];
};

#define HEAD_WORDS (sizeof(struct head) / sizeof(guint64))

/* The second sum tells where a word was. */
static inline void add(guint64 sum[2], guint64 word)
{
	sum[0] += word;
	sum[1] += sum[0];
}

static void paint(guint64 *words, gsize n, guint64 number)
{
	struct head head = { .number = number };
	guint64 word = number * 0x9e3779b97f4a7c15;

	for (gsize i = HEAD_WORDS; i < n; i++) {
		words[i] = word += 0x2545f4914f6cdd1d;
		add(head.sum, word);
	}
	memcpy(words, &head, sizeof(head));
}

static bool painted(const guint64 *words, gsize n, guint64 number)
{
	struct head head;
	guint64 sum[2] = { 0 };

	memcpy(&head, words, sizeof(head));
	for (gsize i = HEAD_WORDS; i < n; i++)
		add(sum, words[i]);
	return head.number == number && !memcmp(head.sum, sum, sizeof(sum));
}

static bool looks_right(GstBuffer *buffer)
{
	bool right = false;
	GstMapInfo map;

	if (gst_buffer_map(buffer, &map, GST_MAP_READ)) {
		right = painted((guint64 *)map.data, map.size / sizeof(guint64),
				GST_BUFFER_OFFSET(buffer));
		gst_buffer_unmap(buffer, &map);
	}
	return right;
}

/* ---- who sends ----------------------------------------------------------------------------- */

/* What the producer says of itself. */
struct report {
	atomic_bool over; /* and what the others say to it */
	atomic_uint frames, buffers, busy, admitted, expelled, copied;
	atomic_int fds;	    /* without those of its buffers and consumers */
	atomic_long memory; /* KiB without the buffers */
};

static GstPadProbeReturn paint_frame(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
	GstBuffer *buffer = gst_buffer_make_writable(GST_PAD_PROBE_INFO_BUFFER(info));
	GstMapInfo map;

	(void)pad, (void)data;
	GST_PAD_PROBE_INFO_DATA(info) = buffer;
	if (!gst_buffer_map(buffer, &map, GST_MAP_READWRITE))
		abort();
	paint((guint64 *)map.data, map.size / sizeof(guint64), GST_BUFFER_OFFSET(buffer));
	gst_buffer_unmap(buffer, &map);
	return GST_PAD_PROBE_OK;
}

static void probe(GstElement *element, const gchar *name, GstPadProbeCallback callback,
		  gpointer data)
{
	GstPad *pad = gst_element_get_static_pad(element, name);

	gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, callback, data, NULL);
	gst_object_unref(pad);
}

static void produce(struct report *report, const gchar *address)
{
	GstElement *producer, *sink;
	GstMessage *error;
	guint consumers;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	gst_init(NULL, NULL);
	producer = gst_test_pipeline("videotestsrc is-live=true pattern=black ! " CAPS
				     " ! zcbufsink name=sink max-buffers=%u socket-path=%s",
				     MAX_BUFFERS, address);
	sink = gst_bin_get_by_name(GST_BIN(producer), "sink");
	probe(sink, "sink", paint_frame, NULL);
	gst_element_set_state(producer, GST_STATE_PLAYING);
	while (!report->over) {
		report->buffers = (guint)gst_test_stat(sink, "buffers");
		report->busy = (guint)gst_test_stat(sink, "busy-buffers");
		report->admitted = (guint)gst_test_stat(sink, "admitted");
		report->expelled = (guint)gst_test_stat(sink, "expelled");
		report->copied = (guint)gst_test_stat(sink, "copied-frames");
		g_object_get(sink, "num-consumers", &consumers, NULL);
		report->fds = open_fds() - 2 * (int)report->buffers - (int)consumers;
		report->memory = memory_kib();
		report->frames = (guint)gst_test_stat(sink, "frames");
		/* and the messages about consumers go */
		error = gst_bus_timed_pop_filtered(GST_ELEMENT_BUS(producer),
						   GST_SECOND / 10, GST_MESSAGE_ERROR);
		if (error)
			_exit(1);
	}
	gst_object_unref(sink);
	gst_test_stop(producer);
	_exit(0);
}

/* ---- who looks ----------------------------------------------------------------------------- */

/* A consumer. It may keep some frames, as who shows or encodes them does, and looks again then. */
struct viewer {
	GstElement *pipeline, *src;
	GQueue kept;
	guint keep;
	guint64 last;
	guint frames, wrong;
};

static void view_frame(struct viewer *viewer, GstBuffer *buffer)
{
	guint64 number = GST_BUFFER_OFFSET(buffer);

	if (!looks_right(buffer) || (viewer->frames && number <= viewer->last))
		g_atomic_int_inc(&viewer->wrong);
	viewer->last = number;
	g_queue_push_tail(&viewer->kept, gst_buffer_ref(buffer));
	while (g_queue_get_length(&viewer->kept) > viewer->keep) {
		buffer = g_queue_pop_head(&viewer->kept);
		if (viewer->keep && !looks_right(buffer))
			g_atomic_int_inc(&viewer->wrong);
		gst_buffer_unref(buffer);
	}
	g_atomic_int_inc(&viewer->frames);
}

static void view(struct viewer *viewer, const gchar *address, GstPadProbeCallback callback,
		 gpointer data)
{
	viewer->pipeline =
		gst_test_pipeline("zcbufsrc name=src socket-path=%s ! fakesink sync=false "
				  "enable-last-sample=false",
				  address);
	viewer->src = gst_bin_get_by_name(GST_BIN(viewer->pipeline), "src");
	probe(viewer->src, "src", callback, data);
	gst_element_set_state(viewer->pipeline, GST_STATE_PLAYING);
}

static void view_no_more(struct viewer *viewer)
{
	gst_element_set_state(viewer->pipeline, GST_STATE_NULL);
	g_queue_clear_full(&viewer->kept, (GDestroyNotify)gst_buffer_unref);
	gst_object_unref(viewer->src);
	gst_object_unref(viewer->pipeline);
}

/* ---- those that come and go ---------------------------------------------------------------- */

struct mortal {
	struct viewer viewer;
	struct storm *storm;
	struct life *life;
	guint frames; /* then it leaves by itself */
	bool done;
};

static GstPadProbeReturn live_a_frame(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
	struct mortal *mortal = data;

	if (mortal->done)
		return GST_PAD_PROBE_DROP;
	mortal->life->phase = 1;
	view_frame(&mortal->viewer, GST_PAD_PROBE_INFO_BUFFER(info));
	mortal->life->judging = mortal->viewer.wrong;
	mortal->storm->frames++;
	mortal->done = mortal->viewer.wrong || mortal->viewer.frames == mortal->frames;
	if (mortal->done)
		gst_element_post_message(
			mortal->viewer.src,
			gst_message_new_application(GST_OBJECT(pad),
						    gst_structure_new_empty("done")));
	return GST_PAD_PROBE_OK;
}

/* A frame or a format that cannot be understood, and no broken connection. */
static bool is_of_the_stream(GstMessage *message)
{
	GError *error = NULL;

	if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR)
		gst_message_parse_error(message, &error, NULL);
	return error && error->domain == GST_STREAM_ERROR;
}

static void live(struct storm *storm, struct life *life, unsigned int place)
{
	struct mortal mortal = { .storm = storm, .life = life };
	GstMessage *message;

	(void)place;
	mortal.viewer.keep = (guint)random() % 4;
	mortal.frames = random() % 4 ? 0 : (guint)random() % 100 + 1;
	gst_init(NULL, NULL);
	view(&mortal.viewer, storm->address, live_a_frame, &mortal);
	message = gst_test_wait(mortal.viewer.pipeline,
				GST_MESSAGE_ERROR | GST_MESSAGE_APPLICATION, 1 << 20);
	/* Who was stopped for too long may find newer content, but then is disconnected as well. */
	if (mortal.viewer.wrong && GST_MESSAGE_TYPE(message) != GST_MESSAGE_ERROR)
		message = gst_test_wait(mortal.viewer.pipeline, GST_MESSAGE_ERROR, 10);
	if (!message || is_of_the_stream(message))
		storm->wrong++;
	life->judging = false;
	view_no_more(&mortal.viewer);
}

/* ---- the one that stays -------------------------------------------------------------------- */

static GstPadProbeReturn watch_frame(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
	(void)pad;
	view_frame(data, GST_PAD_PROBE_INFO_BUFFER(info));
	return GST_PAD_PROBE_OK;
}

/* ---- what must not grow -------------------------------------------------------------------- */

enum { FDS, MEMORY, SLAB, IN_USE, SERIES };

/* What it is, and by how much it may grow. A longer time finds smaller leaks by the same amount. */
static struct series {
	const char *what;
	long most;
	GArray *samples;
} series[SERIES] = {
	[FDS] = { .what = "file descriptors of the producer", .most = 0 },
	[MEMORY] = { .what = "KiB of the producer", .most = 1024 },
	[SLAB] = { .what = "KiB of the kernel's unreclaimable slab", .most = 1024 },
	/* the pool of buffers may still grow, up to what it may have */
	[IN_USE] = { .what = "KiB in use in the machine, without buffers", .most = 8192 },
};

static long meminfo(const gchar *text, const gchar *name)
{
	const gchar *line = strstr(text, name);

	if (!line)
		bail("no %s in /proc/meminfo", name);
	return strtol(line + strlen(name), NULL, 10);
}

/* KiB in zcbuf's heaps, whoever has them. */
static long heaps_kib(struct zcbuf_ctx *ctx)
{
	struct zcbuf_heap_info *infos = NULL;
	guint64 bytes = 0;
	int n = zcbuf_heap_list(ctx, &infos);

	for (int i = 0; i < n; i++)
		if (infos[i].backend == ZCBUF_BACKEND_ZCBUF)
			bytes += infos[i].used_bytes;
	free(infos);
	return (long)(bytes / 1024);
}

static void sample(struct zcbuf_ctx *ctx, const struct report *report)
{
	long values[SERIES] = { [FDS] = report->fds, [MEMORY] = report->memory };
	gchar *text;

	if (!g_file_get_contents("/proc/meminfo", &text, NULL, NULL))
		bail("no /proc/meminfo");
	values[SLAB] = meminfo(text, "SUnreclaim:");
	values[IN_USE] = meminfo(text, "MemTotal:") - meminfo(text, "MemAvailable:") -
			 heaps_kib(ctx);
	g_free(text);
	for (int i = 0; i < SERIES; i++) {
		if (!series[i].samples)
			series[i].samples = g_array_new(FALSE, FALSE, sizeof(long));
		g_array_append_val(series[i].samples, values[i]);
	}
}

static gint compare(gconstpointer a, gconstpointer b)
{
	long x = *(const long *)a, y = *(const long *)b;

	return (x > y) - (x < y);
}

static long median(const GArray *samples, guint begin, guint end)
{
	GArray *part = g_array_new(FALSE, FALSE, sizeof(long));
	long middle;

	g_array_append_vals(part, &g_array_index(samples, long, begin), end - begin);
	g_array_sort(part, compare);
	middle = g_array_index(part, long, part->len / 2);
	g_array_free(part, TRUE);
	return middle;
}

/* From the second quarter to the last one: in the first all become as large as they may. */
static long growth(const struct series *s)
{
	guint n = s->samples->len;

	return median(s->samples, n * 3 / 4, n) - median(s->samples, n / 4, n / 2);
}

/* ---- all of them --------------------------------------------------------------------------- */

/* A line for the table in docs/endurance.md. */
static void say_record(const struct storm *storm, const struct report *report, guint frames,
		       int seconds)
{
	GDateTime *now = g_date_time_new_now_utc();
	gchar *date = g_date_time_format(now, "%F");
	struct utsname kernel;

	uname(&kernel);
	diag("| %s | %s | %u | %d | %u | %u | %u | %u | %u | %+ld | %+ld | %+ld | %s |",
	     date, kernel.release, storm->seed, seconds, report->frames,
	     storm->frames + frames, storm->killed[0] + storm->killed[1], storm->stopped,
	     report->expelled, growth(&series[FDS]), growth(&series[MEMORY]),
	     growth(&series[SLAB]), tap_failures ? "failed" : "passed");
	g_free(date);
	g_date_time_unref(now);
}

static void endure(struct storm *storm, struct report *report, pid_t producer,
		   const gchar *address, int seconds)
{
	struct viewer watcher = { .keep = 1 }, last = { 0 };
	struct zcbuf_ctx *ctx;
	long before;
	guint frames;
	gint64 end;
	int fds, status;

	if (zcbuf_ctx_new(&ctx) < 0)
		bail("no context");
	before = heaps_kib(ctx);
	while (report->frames <= 5) {
		if (waitpid(producer, &status, WNOHANG))
			bail("the producer died");
		g_usleep(G_USEC_PER_SEC / 100);
	}
	fds = report->fds;
	view(&watcher, address, watch_frame, &watcher);
	if (!gst_test_until(g_atomic_int_get(&watcher.frames) > 5))
		bail("no frame arrives");
	g_strlcpy(storm->address, address, sizeof(storm->address));
	end = g_get_monotonic_time() + seconds * G_TIME_SPAN_SECOND;
	for (int i = 0; g_get_monotonic_time() < end; i++) {
		sample(ctx, report);
		if (i % 60 == 59)
			diag("%d s: %u frames, %u lives, %d fds, %ld KiB", i + 1,
			     report->frames, storm_lives(storm), report->fds,
			     report->memory);
		g_usleep(G_USEC_PER_SEC);
	}
	storm->over = true;
	waitpid(storm->pid, NULL, 0);
	frames = (guint)g_atomic_int_get(&watcher.frames);

	diag("%u lives: %u left, %u were killed (%u with frames), %u stopped, %u of these "
	     "for "
	     "a while, %u expelled",
	     storm_lives(storm), storm->left, storm->killed[0] + storm->killed[1],
	     storm->killed[1], storm->stopped, storm->resumed, report->expelled);
	ok(storm->killed[1] >= PLACES && storm->left && storm->stopped > storm->resumed &&
		   storm->resumed,
	   "consumers came, were stopped and killed, and came again for %d s", seconds);
	ok(!storm->crashed, "none crashed");
	ok(storm->frames > 100 && !storm->wrong,
	   "each of the %u frames that they looked at was whole", storm->frames);
	ok(frames > 100 && !watcher.wrong,
	   "another one got %u frames meanwhile, each whole, in order", frames);
	ok(gst_test_stat(watcher.src, "connections") == 1, "over one connection");
	view_no_more(&watcher);
	for (int i = 0; i < SERIES; i++)
		ok(growth(&series[i]) <= series[i].most, "%s: %+ld from %ld",
		   series[i].what, growth(&series[i]),
		   g_array_index(series[i].samples, long, 0));
	ok(gst_test_until(report->busy == 0), "all buffers are back in the pool");
	ok(report->buffers <= MAX_BUFFERS, "which has as many as it may (%u)",
	   report->buffers);
	ok(!report->copied, "no frame was copied");
	ok(gst_test_until(report->fds == fds),
	   "the producer has as many file descriptors as before (%d)", report->fds - fds);

	view(&last, address, watch_frame, &last);
	ok(gst_test_until(g_atomic_int_get(&last.frames) >= 30),
	   "who comes then gets frames");
	view_no_more(&last);
	ok(!last.wrong, "each of %u whole", last.frames);
	report->over = true;
	ok(waitpid(producer, &status, 0) == producer && status == 0,
	   "the producer lived to the end");
	ok(gst_test_until(heaps_kib(ctx) <= before), "and leaves no buffer");
	zcbuf_ctx_unref(ctx);
	say_record(storm, report, frames, seconds);
	for (int i = 0; i < SERIES; i++)
		g_array_free(series[i].samples, TRUE);
}

int main(int argc, char **argv)
{
	struct storm *storm = storm_begin(PLACES, 8192, 8192, live);
	struct report *report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	gchar *address = gst_test_address();
	pid_t producer = fork();

	if (!producer)
		produce(report, address);
	gst_test_begin();
	endure(storm, report, producer, address, argc > 1 ? atoi(argv[1]) : SECONDS);
	g_free(address);
	return gst_test_end();
}
