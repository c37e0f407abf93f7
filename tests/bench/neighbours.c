// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * neighbours: the frames a second that one consumer gets while another one misbehaves, by the way
 * that they go, and in the worst second. Prints a line of JSON for each.
 */
#include <channel_message.h>
#include <gst/gst.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOCKET "/tmp/zcbuf-neighbours"
/* Of 100 frames each: with fewer, a stopped unixfdsrc would not yet have filled its socket. */
#define SECONDS 10
#define CAMERA                                                                         \
	"videotestsrc is-live=true pattern=black ! video/x-raw,format=NV12,width=320," \
	"height=240,framerate=100/1 ! "

static const struct transport {
	const char *name, *sink, *source;
	int type; /* of its socket */
} transports[] = {
	{ "zcbufsrc", "zcbufsink socket-path=" SOCKET, "zcbufsrc socket-path=" SOCKET,
	  SOCK_SEQPACKET },
	{ "unixfdsrc", "unixfdsink socket-path=" SOCKET, "unixfdsrc socket-path=" SOCKET,
	  SOCK_STREAM },
};

static const struct transport *transport;
static atomic_uint *frames; /* of the good consumer, shared with it */

static void count_frame(GstElement *sink, GstBuffer *buffer, GstPad *pad, gpointer data)
{
	(void)sink, (void)buffer, (void)pad, (void)data;
	++*frames;
}

static void play(const char *before, const char *after)
{
	char *description = g_strconcat(before, after, NULL);
	GError *error = NULL;
	GstElement *pipeline, *end;

	gst_init(NULL, NULL);
	pipeline = gst_parse_launch(description, &error);
	if (error)
		g_error("%s: %s", description, error->message);
	end = gst_bin_get_by_name(GST_BIN(pipeline), "end");
	if (end)
		g_signal_connect(end, "handoff", G_CALLBACK(count_frame), NULL);
	gst_element_set_state(pipeline, GST_STATE_PLAYING);
	for (;;)
		pause();
}

static pid_t start(void (*run)(void))
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	run();
	_exit(1);
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void produce(void)
{
	play(CAMERA, transport->sink);
}

static void consume(void)
{
	play(transport->source, " ! fakesink sync=false signal-handoffs=true name=end");
}

static void consume_uncounted(void)
{
	play(transport->source, " ! fakesink sync=false");
}

/* ---- those that misbehave --------------------------------------------------------------- */

static void nothing(void)
{
	for (;;)
		pause();
}

static void stops(void)
{
	pid_t pid = start(consume_uncounted);

	sleep(2);
	kill(pid, SIGSTOP);
	nothing();
}

static void is_killed(void)
{
	for (;;) {
		pid_t pid = start(consume_uncounted);

		usleep(1000 * 1000);
		end(pid);
	}
}

static int connect_to_it(void)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = SOCKET };
	int fd = socket(AF_UNIX, transport->type | SOCK_CLOEXEC, 0);

	while (connect(fd, (struct sockaddr *)&name, sizeof(name)))
		usleep(1000);
	return fd;
}

/* Waits until the other end hangs up, but no longer than @ms. */
static void hang_on(int fd, int ms)
{
	struct pollfd p = { .fd = fd };

	poll(&p, 1, ms);
	close(fd);
}

static void connects_1000_times(void)
{
	for (int i = 0; i < 1000; i++)
		close(connect_to_it());
	nothing();
}

static void sends_garbage(void)
{
	unsigned char bytes[64];

	for (;;) {
		int fd = connect_to_it();

		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = (unsigned char)random();
		send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL);
		hang_on(fd, 100);
	}
}

static int say_hello(void)
{
	struct channel_hello hello = {
		.header = CHANNEL_HEADER(CHANNEL_HELLO, sizeof(hello)),
		.magic = CHANNEL_MAGIC,
		.version = CHANNEL_VERSION,
	};
	int fd = connect_to_it();

	send(fd, &hello, sizeof(hello), MSG_NOSIGNAL);
	return fd;
}

static bool release(int fd, uint64_t frame)
{
	struct channel_release release = {
		.header = CHANNEL_HEADER(CHANNEL_RELEASE, sizeof(release)),
		.frame = frame,
	};

	return send(fd, &release, sizeof(release), MSG_NOSIGNAL) > 0;
}

static void never_reads(void)
{
	for (;;)
		hang_on(say_hello(), -1);
}

static void sends_unknown_ids(void)
{
	for (;;) {
		int fd = say_hello();

		release(fd, UINT64_MAX);
		hang_on(fd, 100);
	}
}

static void replays(void)
{
	for (;;) {
		int fd = say_hello();
		struct channel_frame frame;

		while (recv(fd, &frame, sizeof(frame), 0) > 0)
			if (frame.header.type == CHANNEL_FRAME && release(fd, frame.frame))
				release(fd, frame.frame);
		close(fd);
	}
}

static void floods(void)
{
	for (;;) {
		int fd = say_hello();

		for (uint64_t i = 0; release(fd, i << 32); i++)
			;
		close(fd);
	}
}

static const struct {
	const char *name;
	void (*run)(void);
	bool zcbuf_only; /* for it speaks the protocol */
} kinds[] = {
	{ "nobody", nothing, false },
	{ "stops", stops, false },
	{ "is killed each second", is_killed, false },
	{ "connects 1,000 times", connects_1000_times, false },
	{ "sends garbage", sends_garbage, false },
	{ "never reads", never_reads, true },
	{ "sends ids it never got", sends_unknown_ids, true },
	{ "replays", replays, true },
	{ "floods", floods, true },
};

/* ---- both ------------------------------------------------------------------------------- */

static bool wait_for_frames(void)
{
	for (int i = 0; i < 3000 && !*frames; i++)
		usleep(10000);
	return *frames;
}

static void measure(const char *kind, void (*misbehave)(void))
{
	unsigned int before, first, worst = UINT_MAX;
	pid_t sender, good, bad;
	struct utsname kernel;

	*frames = 0;
	unlink(SOCKET);
	sender = start(produce);
	while (access(SOCKET, F_OK))
		usleep(10000);
	usleep(500000); /* until somebody listens there */
	good = start(consume);
	if (!wait_for_frames())
		g_error("%s: no frame arrived", transport->name);
	sleep(1);
	bad = start(misbehave);
	first = before = *frames;
	for (int i = 0; i < SECONDS; i++) {
		sleep(1);
		if (*frames - before < worst)
			worst = *frames - before;
		before = *frames;
	}
	uname(&kernel);
	printf("{\"kernel\": \"%s\", \"unit\": \"frames a second\", \"peer\": \"%s\", "
	       "\"operation\": \"%s\", \"state\": \"neighbour\", \"size\": 0, "
	       "\"mean\": %.1f, \"worst\": %u}\n",
	       kernel.release, transport->name, kind, (before - first) / (double)SECONDS,
	       worst);
	fflush(stdout);
	end(bad);
	end(good);
	end(sender);
	unlink(SOCKET);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	frames = mmap(NULL, sizeof(*frames), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (size_t i = 0; i < G_N_ELEMENTS(transports); i++)
		for (size_t j = 0; j < G_N_ELEMENTS(kinds); j++) {
			transport = &transports[i];
			if (transport->type == SOCK_SEQPACKET || !kinds[j].zcbuf_only)
				measure(kinds[j].name, kinds[j].run);
		}
	return 0;
}
