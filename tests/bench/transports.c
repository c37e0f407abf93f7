// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * transports: what one frame costs the process that sends it, and the one that receives it and
 * looks at each of its pages, by the way that it goes. Prints lines of JSON for each way and
 * size.
 */
#include <errno.h>
#include <gst/gst.h>
#include <libzcbuf-channel.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP 50
#define FRAMES	200
#define SOCKET	"/tmp/zcbuf-transports"
/* the names that PipeWire knows them by */
#define SENDER	 "sender"
#define RECEIVER "receiver"
#define PAGE	 4096

/* The sender's drawing is measured too. It is the same for all: each frame is black. */
#define CAMERA                                        \
	"videotestsrc is-live=true pattern=black ! "  \
	"video/x-raw,format=BGRx,width=%d,height=%d," \
	"framerate=50/1 ! "

static const struct transport {
	const char *name, *sink, *source; /* without a source: by the library alone */
	bool daemon;			  /* somebody in between tells them of each other */
} transports[] = {
	{ "libzcbuf", "zcbufsink socket-path=" SOCKET, NULL, false },
	{ "zcbufsrc", "zcbufsink socket-path=" SOCKET, "zcbufsrc socket-path=" SOCKET,
	  false },
	{ "unixfdsrc", "unixfdsink socket-path=" SOCKET, "unixfdsrc socket-path=" SOCKET,
	  false },
	{ "shmsrc",
	  "shmsink wait-for-connection=false shm-size=67108864 socket-path=" SOCKET,
	  "shmsrc is-live=true socket-path=" SOCKET, false },
	{ "pipewiresrc",
	  "pipewiresink mode=provide stream-properties=props,node.name=" SENDER
	  ",media.class=Video/Source",
	  "pipewiresrc stream-properties=props,node.name=" RECEIVER, true },
};

static const struct {
	int width, height;
} sizes[] = { { 320, 240 }, { 1920, 1080 } };

/* ---- the receiver ----------------------------------------------------------------------- */

static const struct transport *transport;
static int frame_size;
static clockid_t
	sender_clock; /* CPU time of its process, as CLOCK_PROCESS_CPUTIME_ID is ours */
static unsigned int frames;
static gint64 received_before, sent_before;

static gint64 cpu_time(clockid_t clock)
{
	struct timespec time;

	if (clock_gettime(clock, &time))
		g_error("clock_gettime: %s", g_strerror(errno));
	return time.tv_sec * G_GINT64_CONSTANT(1000000000) + time.tv_nsec;
}

static void print(const char *operation, gint64 cost)
{
	struct utsname kernel;

	uname(&kernel);
	printf("{\"kernel\": \"%s\", \"unit\": \"nanoseconds\", \"peer\": \"%s\", "
	       "\"operation\": \"%s\", \"state\": \"channel\", \"size\": %d, "
	       "\"median\": %" G_GINT64_FORMAT "}\n",
	       kernel.release, transport->name, operation, frame_size, cost / FRAMES);
	fflush(stdout);
}

static int look_at(const volatile guint8 *data, gsize size)
{
	int sum = 0;

	for (gsize i = 0; i < size; i += PAGE)
		sum += data[i];
	return sum;
}

/* Ends the process after the last frame. */
static void count_frame(void)
{
	frames++;
	if (frames == WARM_UP) {
		received_before = cpu_time(CLOCK_PROCESS_CPUTIME_ID);
		sent_before = cpu_time(sender_clock);
	}
	if (frames < WARM_UP + FRAMES)
		return;
	print("received", cpu_time(CLOCK_PROCESS_CPUTIME_ID) - received_before);
	print("sent", cpu_time(sender_clock) - sent_before);
	_exit(0);
}

static void handoff(GstElement *sink, GstBuffer *buffer, GstPad *pad, gpointer data)
{
	GstMapInfo map;

	(void)sink, (void)pad, (void)data;
	if (!gst_buffer_map(buffer, &map, GST_MAP_READ))
		g_error("a frame cannot be mapped");
	look_at(map.data, map.size);
	gst_buffer_unmap(buffer, &map);
	count_frame();
}

static void play(const char *description)
{
	GError *error = NULL;
	GstElement *pipeline = gst_parse_launch(description, &error);

	if (error)
		g_error("%s: %s", description, error->message);
	gst_element_set_state(pipeline, GST_STATE_PLAYING);
}

static void receive_by_pipeline(const char *source)
{
	g_autofree char *description = g_strdup_printf(
		"%s ! fakesink name=end sync=false signal-handoffs=true", source);
	GError *error = NULL;
	GstElement *pipeline = gst_parse_launch(description, &error);

	if (error)
		g_error("%s: %s", description, error->message);
	g_signal_connect(gst_bin_get_by_name(GST_BIN(pipeline), "end"), "handoff",
			 G_CALLBACK(handoff), NULL);
	gst_element_set_state(pipeline, GST_STATE_PLAYING);
	for (;;)
		pause();
}

static void receive_by_library(void)
{
	struct zcbuf_consumer_event event;
	struct zcbuf_consumer *consumer;
	struct zcbuf_buffer *buffer;
	struct zcbuf_ctx *ctx;
	void *data;

	if (zcbuf_ctx_new(&ctx) || zcbuf_consumer_new(ctx, SOCKET, NULL, &consumer))
		exit(1);
	while (zcbuf_consumer_next_event(consumer, -1, &event) == 1) {
		if (event.type != ZCBUF_CONSUMER_FRAME)
			continue;
		buffer = event.frame->buffers[0];
		if (zcbuf_buffer_map(buffer, ZCBUF_SYNC_READ, &data) ||
		    zcbuf_buffer_begin(buffer, ZCBUF_SYNC_READ))
			exit(1);
		look_at(data, zcbuf_buffer_size(buffer));
		zcbuf_buffer_end(buffer, ZCBUF_SYNC_READ);
		zcbuf_consumer_give_back(consumer, event.frame, -1);
		count_frame();
	}
	exit(1);
}

/* ---- both ------------------------------------------------------------------------------- */

static pid_t start_daemon(void)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	/* What it says is of the buses that it does not find, for sound and portals. */
	freopen("/dev/null", "w", stderr);
	execlp("pipewire", "pipewire", NULL);
	_exit(1);
}

/* What a session manager would do, as soon as there is something to link. */
static void link_them(void)
{
	while (system("pw-link " SENDER ":capture_1 " RECEIVER ":input_1 2> /dev/null"))
		g_usleep(100000);
}

static pid_t start_sender(int width, int height)
{
	g_autofree char *description = NULL;
	pid_t pid = fork();

	if (pid)
		return pid;
	gst_init(NULL, NULL);
	description = g_strdup_printf(CAMERA "%s", width, height, transport->sink);
	play(description);
	for (;;)
		pause();
}

static int receive(void)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		if (!transport->source)
			receive_by_library();
		gst_init(NULL, NULL);
		receive_by_pipeline(transport->source);
	}
	if (transport->daemon)
		link_them();
	waitpid(pid, &status, 0);
	return status;
}

static int measure(int width, int height)
{
	pid_t daemon = 0, sender;
	int status;

	frame_size = width * height * 4;
	unlink(SOCKET);
	if (transport->daemon)
		daemon = start_daemon();
	sender = start_sender(width, height);
	if (clock_getcpuclockid(sender, &sender_clock))
		g_error("no clock of process %d", sender);
	while (!transport->daemon && access(SOCKET, F_OK))
		g_usleep(10000);
	g_usleep(500000); /* until somebody listens there */
	status = receive();
	kill(sender, SIGKILL);
	waitpid(sender, NULL, 0);
	if (daemon) {
		kill(daemon, SIGTERM);
		waitpid(daemon, NULL, 0);
	}
	unlink(SOCKET);
	return status;
}

int main(void)
{
	for (gsize i = 0; i < G_N_ELEMENTS(transports); i++)
		for (gsize j = 0; j < G_N_ELEMENTS(sizes); j++) {
			transport = &transports[i];
			if (measure(sizes[j].width, sizes[j].height))
				return 1;
		}
	return 0;
}
