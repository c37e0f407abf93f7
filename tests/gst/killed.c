/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One of two processes is killed, or stopped, in the middle of a stream. */
#include <process.h>

#include "gst-test.h"

#include <libzcbuf.h>
#include <signal.h>
#include <sys/wait.h>

#define CAPS "video/x-raw,format=NV12,width=320,height=240,framerate=30/1"

/* gst-launch-1.0 with a pipeline, in a process of its own. */
static GPid launch(const gchar *format, ...) G_GNUC_PRINTF(1, 2);

static GPid launch(const gchar *format, ...)
{
	gchar *description, *line, **argv;
	GError *error = NULL;
	va_list args;
	GPid pid;

	va_start(args, format);
	description = g_strdup_vprintf(format, args);
	va_end(args);
	line = g_strdup_printf("env -u GST_TRACERS -u GST_DEBUG -u GST_DEBUG_FILE "
			       "gst-launch-1.0 -q %s",
			       description);
	g_shell_parse_argv(line, NULL, &argv, NULL);
	if (!g_spawn_async(NULL, argv, NULL,
			   G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD |
				   G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL,
			   NULL, NULL, &pid, &error))
		bail("%s: %s", line, error->message);
	g_strfreev(argv);
	g_free(line);
	g_free(description);
	return pid;
}

static void kill_now(GPid pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* A number that the sink knows of its first consumer; 0 if it has none. */
static guint64 consumer_stat(GstElement *sink, const gchar *name)
{
	const GstStructure *consumer;
	GstStructure *stats;
	const GValue *list;
	guint64 number = 0;
	guint small;

	g_object_get(sink, "stats", &stats, NULL);
	list = gst_structure_get_value(stats, "consumers");
	if (gst_value_list_get_size(list) > 0) {
		consumer = gst_value_get_structure(gst_value_list_get_value(list, 0));
		if (gst_structure_get_uint(consumer, name, &small))
			number = small;
		else
			gst_structure_get_uint64(consumer, name, &number);
	}
	gst_structure_free(stats);
	return number;
}

static guint consumers(GstElement *sink)
{
	guint n;

	g_object_get(sink, "num-consumers", &n, NULL);
	return n;
}

/* Buffers that live in zcbuf's heaps, whoever has them. */
static guint64 buffers_in_heaps(void)
{
	struct zcbuf_heap_info *infos = NULL;
	struct zcbuf_ctx *ctx;
	guint64 buffers = 0;
	int n;

	if (zcbuf_ctx_new(&ctx) < 0)
		bail("no context");
	n = zcbuf_heap_list(ctx, &infos);
	for (int i = 0; i < n; i++)
		if (infos[i].backend == ZCBUF_BACKEND_ZCBUF)
			buffers += infos[i].used_buffers;
	free(infos);
	zcbuf_ctx_unref(ctx);
	return buffers;
}

static gchar *socket_file(void)
{
	return g_strdup_printf("/tmp/zcbuf-test-%d", (int)getpid());
}

static void a_killed_consumer_leaves_nothing(void)
{
	gchar *path = socket_file();
	GstElement *producer = gst_test_pipeline("videotestsrc is-live=true ! " CAPS
						 " ! zcbufsink name=sink max-buffers=8 "
						 "socket-path=%s",
						 path);
	GstElement *sink = gst_bin_get_by_name(GST_BIN(producer), "sink");
	guint64 frames, buffers;
	int fds;
	GPid pid;

	gst_element_set_state(producer, GST_STATE_PLAYING);
	gst_test_until(gst_test_stat(sink, "frames") > 5);
	fds = open_fds();
	/* Were the frames of one lost, the third would not get enough. */
	for (int turn = 0; turn < 3; turn++) {
		/* It takes all it may, and keeps it. */
		pid = launch("zcbufsrc socket-path=%s ! queue ! fakesink sync=true "
			     "ts-offset=3600000000000",
			     path);
		ok(gst_test_until(consumer_stat(sink, "held") == 4 &&
				  consumer_stat(sink, "waiting") == 1),
		   "a consumer holds 4 frames");
		kill_now(pid);
		ok(gst_test_until(consumers(sink) == 0), "it is killed");
		ok(gst_test_until(gst_test_stat(sink, "busy-buffers") == 0),
		   "and all buffers are back in the pool");
		frames = gst_test_stat(sink, "frames");
		ok(gst_test_until(gst_test_stat(sink, "frames") > frames + 20),
		   "the stream goes on");
	}
	buffers = gst_test_stat(sink, "buffers");
	ok(buffers <= 8, "though the pool has no more buffers than it may");
	/* Buffers that were allocated while it held others stay in the pool. */
	ok(gst_test_until(open_fds() <= fds + (int)buffers * 2),
	   "no file descriptor stays open");

	pid = launch("zcbufsrc socket-path=%s ! fakesink", path);
	ok(gst_test_until(consumers(sink) == 1), "another one can take its place");
	kill_now(pid);
	gst_object_unref(sink);
	gst_test_stop(producer);
	ok(access(path, F_OK) != 0, "a producer that stops takes its socket file along");
	g_free(path);
}

static void a_stopped_consumer_delays_nobody(void)
{
	gchar *address = gst_test_address();
	GstElement *producer = gst_test_pipeline("videotestsrc is-live=true ! " CAPS
						 " ! zcbufsink name=sink socket-path=%s",
						 address);
	GstElement *other = gst_test_pipeline(
		"zcbufsrc name=src socket-path=%s ! fakesink sync=false", address);
	GstElement *sink = gst_bin_get_by_name(GST_BIN(producer), "sink");
	GstElement *src = gst_bin_get_by_name(GST_BIN(other), "src");
	guint64 received;
	GPid pid;

	gst_element_set_state(producer, GST_STATE_PLAYING);
	gst_element_get_state(producer, NULL, NULL, 10 * GST_SECOND);
	pid = launch("zcbufsrc socket-path=%s ! fakesink sync=false", address);
	gst_test_until(consumers(sink) == 1 && consumer_stat(sink, "sent") > 0);
	gst_element_set_state(other, GST_STATE_PLAYING);
	gst_test_until(consumers(sink) == 2);
	kill(pid, SIGSTOP);
	/* Far more frames than there are buffers: whoever waited for it would have stopped. */
	received = gst_test_stat(src, "frames");
	ok(gst_test_until(gst_test_stat(src, "frames") > received + 60),
	   "while a consumer is stopped, the others get their frames");
	kill_now(pid);
	gst_object_unref(src);
	gst_object_unref(sink);
	gst_test_stop(other);
	gst_test_stop(producer);
	g_free(address);
}

static void a_killed_producer_leaves_nothing(void)
{
	gchar *path = socket_file();
	GstElement *consumer = gst_test_pipeline(
		"zcbufsrc name=src socket-path=%s reconnect=true ! fakesink sync=false",
		path);
	GstElement *src = gst_bin_get_by_name(GST_BIN(consumer), "src");
	guint64 before = buffers_in_heaps();
	gboolean left;
	int fds;
	GPid pid;

	gst_element_set_state(consumer, GST_STATE_PLAYING);
	fds = open_fds();
	pid = launch("videotestsrc is-live=true ! " CAPS " ! zcbufsink socket-path=%s",
		     path);
	gst_test_until(gst_test_stat(src, "frames") > 5);
	ok(access(path, F_OK) == 0 && gst_test_stat(src, "frames") > 5, "a stream flows");
	kill_now(pid);
	ok(gst_test_until(access(path, F_OK) != 0),
	   "the socket file of a producer that was killed vanishes");
	/* The last frame that fakesink showed stays valid; the library keeps /dev/zcbuf open. */
	left = gst_test_until(open_fds() <= fds + 2 && buffers_in_heaps() <= before + 1);
	diag("%d file descriptors, %d buffers are left", open_fds() - fds,
	     (int)(buffers_in_heaps() - before));
	ok(left, "so do its file descriptors and buffers, but for the frame that is shown");

	pid = launch("videotestsrc is-live=true ! " CAPS " ! zcbufsink socket-path=%s",
		     path);
	ok(gst_test_until(gst_test_stat(src, "connections") == 2),
	   "another one takes its place");
	kill_now(pid);
	gst_object_unref(src);
	gst_test_stop(consumer);
	ok(gst_test_until(buffers_in_heaps() == before), "in the end nothing is left");
	g_free(path);
}

int main(void)
{
	gst_test_begin();
	a_killed_consumer_leaves_nothing();
	a_stopped_consumer_delays_nobody();
	a_killed_producer_leaves_nothing();
	return gst_test_end();
}
