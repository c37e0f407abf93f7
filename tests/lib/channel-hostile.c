// SPDX-License-Identifier: LGPL-2.1-or-later
/* Peers that stop, die, lie, or never were consumers: they cost the others nothing. */
#include <grp.h>

#include <channel_message.h>

#include "channel.h"

#define HOLD_MS 500
/* Of zcbuf_producer_config, and what a busy machine may add to it. */
#define DEFAULT_HOLD_MS 5000
#define LATE_MS		5000
/* Enough for all that the others may hold, so that nobody has to wait for them. */
#define POOL 96
/* A frame every so many milliseconds, as a camera would. */
#define INTERVAL_MS 5

/* ---- a peer without the library -------------------------------------------------------- */

static int raw_connect(const char *address)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	socklen_t length =
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(address));
	int fd = must(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));

	strcpy(name.sun_path, address);
	name.sun_path[0] = '\0';
	if (connect(fd, (struct sockaddr *)&name, length)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Sends @size bytes and @n_fds times the fd 0. */
static void raw_send(int socket, const void *data, size_t size, unsigned int n_fds)
{
	struct iovec part = { .iov_base = (void *)data, .iov_len = size };
	union {
		char bytes[CMSG_SPACE(64 * sizeof(int))];
		struct cmsghdr header;
	} control = { .header = { .cmsg_level = SOL_SOCKET,
				  .cmsg_type = SCM_RIGHTS,
				  .cmsg_len = CMSG_LEN(n_fds * sizeof(int)) } };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (n_fds) {
		memset(CMSG_DATA(&control.header), 0, n_fds * sizeof(int));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
	}
	sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void raw_hello(int socket)
{
	struct channel_hello hello = {
		.header = CHANNEL_HEADER(CHANNEL_HELLO, sizeof(hello)),
		.magic = CHANNEL_MAGIC,
		.version = CHANNEL_VERSION,
	};

	raw_send(socket, &hello, sizeof(hello), 0);
}

static void raw_release(int socket, uint64_t frame, unsigned int n_fds)
{
	struct channel_release release = {
		.header = CHANNEL_HEADER(CHANNEL_RELEASE, sizeof(release)),
		.frame = frame,
	};

	raw_send(socket, &release, sizeof(release), n_fds);
}

/* Reads up to a message of @type; returns false at the end of the connection. */
static bool raw_receive(int socket, enum channel_type type, void *data, size_t size)
{
	static char bytes[CHANNEL_PRODUCER_MESSAGE_MAX];
	struct channel_header *header = (struct channel_header *)bytes;

	for (;;) {
		struct pollfd p = { .fd = socket, .events = POLLIN };
		ssize_t n;

		poll(&p, 1, PATIENCE_MS);
		n = recv(socket, bytes, sizeof(bytes), 0);
		if (n < 0 && errno == ECONNRESET)
			continue; /* what was sent before that follows */
		if (n <= 0)
			return false;
		if (header->type == type) {
			memcpy(data, bytes, size);
			return true;
		}
	}
}

/* ---- while somebody else watches -------------------------------------------------------- */

/* A stage with a viewer that must not be disturbed, and frames that never stop. */
struct show {
	struct stage stage;
	struct viewer *viewer;
	int64_t next; /* frame */
	int fds;
	long memory;
	uint64_t missed;
};

static void show_open(struct show *show, const struct zcbuf_producer_config *config)
{
	*show = (struct show){ 0 };
	stage_open(&show->stage, config, POOL);
	show->viewer = viewer_start(viewer_new(show->stage.address));
	until(&show->stage, show->stage.connected == 1);
	show->fds = open_fds();
	show->memory = memory_kib();
	show->next = now_ms();
}

/*
 * Does what is to be done for @ms: a frame each INTERVAL_MS, if there is a buffer and the viewer
 * has what was sent before. So a busy machine costs it no frame, and what does is a fault.
 */
static void show_run(struct show *show, int ms)
{
	int64_t end = now_ms() + ms;

	do {
		if (now_ms() >= show->next &&
		    show->viewer->frames == show->stage.sequence) {
			if (show->stage.n_free)
				stage_send(&show->stage, 0);
			else
				show->missed++;
			show->next = now_ms() + INTERVAL_MS;
		}
		stage_run(&show->stage, 1);
	} while (now_ms() < end);
}

#define show_until(show, cond)                         \
	({                                             \
		int64_t end_ = now_ms() + PATIENCE_MS; \
		while (!(cond) && now_ms() < end_)     \
			show_run(show, 2);             \
		(cond);                                \
	})

/* The viewer has got all that was sent, for which there always was a buffer; all are back. */
static void show_is_undisturbed(struct show *show, const char *what)
{
	struct viewer *v = show->viewer;
	unsigned int before = v->frames;

	ok(show_until(show, v->frames > before + 3), "%s: frames still arrive elsewhere",
	   what);
	ok(!v->disconnected && !v->wrong && !v->disorder, "%s: with the right content",
	   what);
	ok(until(&show->stage, stage_complete(&show->stage)), "%s: all buffers are back",
	   what);
	ok(eventually(v->frames == show->stage.sequence) && !v->lost && !show->missed,
	   "%s: each of %llu frames", what, (unsigned long long)show->stage.sequence);
	ok(stage_stats(&show->stage).consumers == 1 && open_fds() == show->fds,
	   "%s: nothing is left of it", what);
	grew_little(show->memory, what);
}

static void show_close(struct show *show)
{
	viewer_end(show->viewer, 0);
	stage_close(&show->stage);
}

/* ---- consumers that stop or die --------------------------------------------------------- */

static void stopped(void)
{
	struct zcbuf_producer_config config = { .hold_ms = HOLD_MS };
	struct viewer *sleeper;
	struct show show;
	unsigned int frames;
	int64_t begin;
	int time;

	show_open(&show, &config);
	sleeper = viewer_start(viewer_new(show.stage.address));
	show_until(&show, sleeper->frames > 10);
	frames = show.viewer->frames;
	begin = now_ms();
	kill(sleeper->pid, SIGSTOP);
	ok(show_until(&show, show.stage.disconnected == 1),
	   "SIGSTOP: the consumer is disconnected");
	time = (int)(now_ms() - begin);
	ok(time >= HOLD_MS - 100 && time < HOLD_MS + LATE_MS,
	   "SIGSTOP: in its time (after %d ms)", time);
	ok(show.stage.error == -ETIMEDOUT && stage_stats(&show.stage).expelled == 1,
	   "SIGSTOP: because it held a frame for too long");
	ok(show.viewer->frames > frames + 3, "SIGSTOP: meanwhile others got %u frames",
	   show.viewer->frames - frames);
	show_is_undisturbed(&show, "SIGSTOP");
	kill(sleeper->pid, SIGCONT);
	ok(eventually(sleeper->disconnected == 1) && sleeper->error == -ETIMEDOUT,
	   "SIGCONT: the consumer learns why");
	viewer_end(sleeper, 0);
	show_close(&show);
}

static void stopped_for_a_moment(void)
{
	struct viewer *sleeper;
	struct show show;

	show_open(&show, NULL);
	sleeper = viewer_start(viewer_new(show.stage.address));
	show_until(&show, sleeper->frames > 10);
	kill(sleeper->pid, SIGSTOP);
	show_run(&show, 300);
	kill(sleeper->pid, SIGCONT);
	show_run(&show, 300);
	ok(!sleeper->disconnected && sleeper->lost && !sleeper->wrong,
	   "a consumer that stops for a moment loses frames (%u) and no more",
	   sleeper->lost);
	viewer_end(sleeper, 0);
	show_until(&show, show.stage.disconnected == 1);
	show_close(&show);
}

static void killed(void)
{
	struct viewer *victim;
	struct show show;

	show_open(&show, NULL);
	for (unsigned int i = 1; i <= 5; i++) {
		victim = viewer_new(show.stage.address);
		victim->keep = i % 3;
		victim->die_at = i;
		victim = viewer_start(victim);
		show_until(&show, show.stage.disconnected == i);
		viewer_end(victim, 0);
	}
	ok(show.stage.disconnected == 5 && show.stage.error == -ECONNRESET,
	   "SIGKILL with a frame in hand: the producer learns it");
	show_is_undisturbed(&show, "SIGKILL");
	show_close(&show);
}

static void never_reads(void)
{
	struct show show;
	int64_t begin;
	int fd, time;

	show_open(&show, NULL);
	fd = must(raw_connect(show.stage.address));
	raw_hello(fd);
	ok(show_until(&show, show.stage.connected == 2), "never reads: it is admitted");
	begin = now_ms();
	ok(show_until(&show, show.stage.disconnected == 1) &&
		   show.stage.error == -ETIMEDOUT,
	   "never reads: and disconnected");
	time = (int)(now_ms() - begin);
	ok(time >= DEFAULT_HOLD_MS - 100 && time < DEFAULT_HOLD_MS + LATE_MS,
	   "never reads: within the time that the header says (after %d ms)", time);
	close(fd);
	show_is_undisturbed(&show, "never reads");
	show_close(&show);
}

/* Holds what it may, without stopping the stream: that is its right. */
static void holds_without_harm(void)
{
	struct zcbuf_producer_config config = { .hold_ms = 100, .max_frames = 3 };
	struct zcbuf_consumer_config two = { .max_frames = 2 };
	struct zcbuf_consumer *c;
	struct stage s;

	stage_open(&s, &config, 4);
	c = stage_consumer(&s, &two);
	next_of(c, ZCBUF_CONSUMER_CONNECTED);
	must(stage_send(&s, 0));
	next_of(c, ZCBUF_CONSUMER_FRAME);
	stage_run(&s, 500);
	ok(!s.disconnected, "a frame that nobody needs may be kept");
	must(stage_send(&s, 0));
	stage_run(&s, 500);
	ok(!s.disconnected, "also by a consumer that then holds all it may");
	must(stage_send(&s, 0));
	ok(until(&s, s.disconnected == 1), "but not when it misses the next one");
	zcbuf_consumer_unref(c);
	ok(until(&s, stage_complete(&s)), "then all are back");

	c = stage_consumer(&s, NULL);
	next_of(c, ZCBUF_CONSUMER_CONNECTED);
	must(stage_send(&s, 0));
	stage_run(&s, 500);
	ok(s.disconnected == 1, "(a frame that nobody needs)");
	while (s.n_free)
		must(zcbuf_producer_remove_buffer(s.producer, s.free[--s.n_free]));
	ok(until(&s, s.disconnected == 2) && s.error == -ETIMEDOUT,
	   "nor when every buffer of the pool is in use");
	zcbuf_consumer_unref(c);
	stage_close(&s);

	config.flags = ZCBUF_PRODUCER_HOLD_STRICT;
	stage_open(&s, &config, 4);
	c = stage_consumer(&s, NULL);
	next_of(c, ZCBUF_CONSUMER_CONNECTED);
	must(stage_send(&s, 0));
	ok(until(&s, s.disconnected == 1) && s.error == -ETIMEDOUT,
	   "and not at all when the producer is strict");
	zcbuf_consumer_unref(c);
	stage_close(&s);

	config = (struct zcbuf_producer_config){ .hold_ms = -1 };
	stage_open(&s, &config, 4);
	c = stage_consumer(&s, &two);
	next_of(c, ZCBUF_CONSUMER_CONNECTED);
	for (int i = 0; i < 4; i++)
		must(stage_send(&s, 0));
	stage_run(&s, 500);
	ok(!s.disconnected, "for ever, when there is no limit");
	zcbuf_consumer_unref(c);
	stage_close(&s);
}

/* ---- consumers that lie ----------------------------------------------------------------- */

static void say_nothing(int fd)
{
	(void)fd;
}

static void say_random_bytes(int fd)
{
	unsigned char bytes[96];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)random();
	raw_send(fd, bytes, 1 + (size_t)random() % sizeof(bytes), 0);
}

static void say_empty(int fd)
{
	raw_send(fd, "", 0, 0);
}

static void say_too_much(int fd)
{
	static char bytes[65536];

	raw_hello(fd);
	raw_send(fd, bytes, sizeof(bytes), 0);
}

static void say_half(int fd)
{
	struct channel_hello hello = {
		.header = CHANNEL_HEADER(CHANNEL_HELLO, sizeof(hello)),
		.magic = CHANNEL_MAGIC,
		.version = CHANNEL_VERSION,
	};

	raw_send(fd, &hello, sizeof(hello) - 8, 0);
}

static void say_hello_twice(int fd)
{
	raw_hello(fd);
	raw_hello(fd);
}

static void say_release_first(int fd)
{
	raw_release(fd, 1, 0);
}

static void say_what_producers_say(int fd)
{
	struct channel_end end = { .header = CHANNEL_HEADER(CHANNEL_END, sizeof(end)) };

	raw_hello(fd);
	raw_send(fd, &end, sizeof(end), 0);
}

static void say_unknown_release(int fd)
{
	raw_hello(fd);
	raw_release(fd, UINT64_MAX, 0);
}

static void say_many_fds(int fd)
{
	raw_hello(fd);
	raw_release(fd, 1, 64);
}

static void say_hello_with_fd(int fd)
{
	struct channel_hello hello = {
		.header = CHANNEL_HEADER(CHANNEL_HELLO, sizeof(hello)),
		.magic = CHANNEL_MAGIC,
		.version = CHANNEL_VERSION,
	};

	raw_send(fd, &hello, sizeof(hello), 1);
}

static void say_flood(int fd)
{
	raw_hello(fd);
	for (int i = 0; i < 300; i++)
		raw_release(fd, (uint64_t)i << 32, 0);
}

static const struct {
	const char *name;
	void (*say)(int fd);
} liars[] = {
	{ "random bytes", say_random_bytes },
	{ "an empty message", say_empty },
	{ "a message that is too long", say_too_much },
	{ "half a HELLO", say_half },
	{ "HELLO twice", say_hello_twice },
	{ "RELEASE before HELLO", say_release_first },
	{ "what a producer says", say_what_producers_say },
	{ "RELEASE of a frame it never got", say_unknown_release },
	{ "64 file descriptors", say_many_fds },
	{ "HELLO with a file descriptor", say_hello_with_fd },
	{ "a flood", say_flood },
};

/* The producer has hung up. */
static bool left(int socket)
{
	struct pollfd p = { .fd = socket };

	return poll(&p, 1, 0) == 1 && p.revents & POLLHUP;
}

static void garbage(void)
{
	struct channel_bye bye;
	struct show show;

	show_open(&show, NULL);
	srandom(1);
	for (size_t i = 0; i < sizeof(liars) / sizeof(liars[0]); i++) {
		struct zcbuf_producer_stats before = stage_stats(&show.stage), after;
		int n = liars[i].say == say_random_bytes ? 200 : 3;

		for (int k = 0; k < n; k++) {
			int fd = must(raw_connect(show.stage.address));

			liars[i].say(fd);
			if (liars[i].say == say_empty)
				shutdown(fd, SHUT_WR);
			/* Nobody but us serves the producer, so nothing may block here. */
			show_until(&show, left(fd));
			if (liars[i].say != say_empty &&
			    (!raw_receive(fd, CHANNEL_BYE, &bye, sizeof(bye)) ||
			     bye.error != -EPROTO))
				diag("%s: no BYE", liars[i].name);
			close(fd);
		}
		show_until(&show, stage_stats(&show.stage).consumers == 1);
		after = stage_stats(&show.stage);
		ok(after.refused + after.expelled == before.refused + before.expelled + n,
		   "%s: is the end of the connection", liars[i].name);
	}
	show_is_undisturbed(&show, "lies");
	show_close(&show);
}

static void replay(void)
{
	struct channel_frame frame;
	struct channel_bye bye;
	struct stage s;
	int fd;

	stage_open(&s, NULL, 4);
	for (int lie = 0; lie < 2; lie++) {
		fd = must(raw_connect(s.address));
		raw_hello(fd);
		until(&s, s.connected == (unsigned int)lie + 1);
		must(stage_send(&s, 0));
		ok(raw_receive(fd, CHANNEL_FRAME, &frame, sizeof(frame)),
		   "a frame arrives");
		raw_release(fd, frame.frame, lie);
		if (!lie) {
			ok(until(&s, s.n_free == 4) && !s.disconnected,
			   "it can be given back once");
			raw_release(fd, frame.frame, 0);
		}
		ok(until(&s, s.disconnected == (unsigned int)lie + 1) && s.error == -EPROTO,
		   lie ? "but not with a fence that is none" : "but not twice");
		ok(raw_receive(fd, CHANNEL_BYE, &bye, sizeof(bye)) && bye.error == -EPROTO,
		   "which the producer says");
		ok(until(&s, stage_complete(&s)), "and then has its buffer");
		close(fd);
	}
	stage_close(&s);
}

/* The same beside somebody else. */
static void replays(void)
{
	struct channel_frame frame;
	struct show show;
	int fd;

	show_open(&show, NULL);
	for (unsigned int i = 1; i <= 20; i++) {
		fd = must(raw_connect(show.stage.address));
		raw_hello(fd);
		show_until(&show, stage_info(&show.stage, getpid()).sent);
		raw_receive(fd, CHANNEL_FRAME, &frame, sizeof(frame));
		raw_release(fd, frame.frame, 0);
		raw_release(fd, frame.frame, 0);
		show_until(&show, show.stage.disconnected == i);
		close(fd);
	}
	ok(show.stage.disconnected == 20 && stage_stats(&show.stage).expelled == 20,
	   "replays: each is the end of the connection");
	show_is_undisturbed(&show, "replays");
	show_close(&show);
}

static void other_version(void)
{
	struct channel_hello hello = {
		.header = CHANNEL_HEADER(CHANNEL_HELLO, sizeof(hello) - 8),
		.magic = CHANNEL_MAGIC,
		.version = CHANNEL_VERSION + 1,
	};
	struct channel_bye bye;
	struct stage s;
	int fd;

	stage_open(&s, NULL, 0);
	fd = must(raw_connect(s.address));
	raw_send(fd, &hello, sizeof(hello) - 8, 0);
	until(&s, stage_stats(&s).refused == 1);
	ok(raw_receive(fd, CHANNEL_BYE, &bye, sizeof(bye)) && bye.error == -EPROTONOSUPPORT,
	   "a peer of another version is told so, whatever the size of its HELLO");
	close(fd);
	stage_close(&s);
}

/* ---- crowds ----------------------------------------------------------------------------- */

/* In a process of its own: @n connections at once, of which each says @say. */
static pid_t crowd(const char *address, int n, void (*say)(int))
{
	pid_t pid = must(fork());

	if (pid)
		return pid;
	allow_fds();
	for (int i = 0; i < n;) {
		int fd = raw_connect(address);

		if (fd < 0) {
			sleep_ms(1); /* the queue of connections is full */
			continue;
		}
		say(fd);
		i++;
	}
	_exit(0);
}

/* Frames a second that the viewer gets, until @end or until process @pid has ended. */
static unsigned int frame_rate(struct show *show, int64_t end, pid_t pid)
{
	unsigned int frames = show->viewer->frames;
	int64_t begin = now_ms();
	int status;

	while (pid ? !waitpid(pid, &status, WNOHANG) : now_ms() < end)
		show_run(show, 10);
	return (unsigned int)((show->viewer->frames - frames) * 1000 / (now_ms() - begin));
}

static void crowds(void)
{
	static const struct {
		const char *name;
		void (*say)(int);
	} kinds[] = {
		{ "1000 connections that say nothing", say_nothing },
		{ "1000 connections that say HELLO", raw_hello },
	};
	struct zcbuf_producer_config config = { .max_consumers = 16, .hold_ms = HOLD_MS };

	for (int i = 0; i < 2; i++) {
		unsigned int normal, rate;
		struct viewer *late;
		struct show show;
		pid_t pid;

		show_open(&show, &config);
		show_run(&show, 100);
		normal = frame_rate(&show, now_ms() + 500, 0);
		pid = crowd(show.stage.address, 1000, kinds[i].say);
		rate = frame_rate(&show, 0, pid);
		ok(stage_stats(&show.stage).admitted <= 1000, "%s: are survived",
		   kinds[i].name);
		/* They take their part of the processor, too. */
		ok(rate > 0, "%s: frames keep coming: %u a second, without %u",
		   kinds[i].name, rate, normal);
		late = viewer_start(viewer_new(show.stage.address));
		ok(show_until(&show, late->frames > 0), "%s: another consumer gets in",
		   kinds[i].name);
		viewer_end(late, 0);
		show_until(&show, stage_stats(&show.stage).consumers == 1);
		show_is_undisturbed(&show, kinds[i].name);
		show_close(&show);
	}
}

static void silence_makes_place(void)
{
	struct zcbuf_producer_config config = { .max_consumers = 3 };
	struct channel_bye bye;
	struct stage s;
	int silent[3], loud[4];

	stage_open(&s, &config, 0);
	for (int i = 0; i < 3; i++)
		silent[i] = must(raw_connect(s.address));
	stage_run(&s, 20);
	for (int i = 0; i < 4; i++) {
		loud[i] = must(raw_connect(s.address));
		raw_hello(loud[i]);
		stage_run(&s, 20);
	}
	ok(s.connected == 3, "connections that say nothing make place for three that do");
	ok(raw_receive(loud[3], CHANNEL_BYE, &bye, sizeof(bye)) && bye.error == -EUSERS,
	   "the fourth is told that there is none");
	for (int i = 0; i < 3; i++)
		close(silent[i]);
	for (int i = 0; i < 4; i++)
		close(loud[i]);
	stage_close(&s);

	stage_open(&s, NULL, 0);
	silent[0] = must(raw_connect(s.address));
	ok(until(&s, stage_stats(&s).refused == 1),
	   "one that says nothing is dropped in time");
	close(silent[0]);
	stage_close(&s);
}

/* ---- who may connect -------------------------------------------------------------------- */

#define NOBODY	  65534
#define SOMEGROUP 4321

struct caller {
	const char *address;
	gid_t group; /* besides its own */
};

/* Returns 0 if admitted, 1 if refused with -EACCES, 2 if it could not even connect. */
static int call(void *argument)
{
	const struct caller *caller = argument;
	struct zcbuf_consumer_event event;
	struct zcbuf_consumer *c;

	if (setgroups(1, &caller->group) || setgid(NOBODY) || setuid(NOBODY))
		_exit(99);
	if (zcbuf_consumer_new(new_ctx(), caller->address, NULL, &c))
		_exit(2);
	while (zcbuf_consumer_next_event(c, PATIENCE_MS, &event) == 1) {
		if (event.type == ZCBUF_CONSUMER_CONNECTED)
			_exit(0);
		if (event.type == ZCBUF_CONSUMER_DISCONNECTED && event.error == -EACCES)
			_exit(1);
	}
	_exit(98);
}

static int try_to_call(const struct zcbuf_producer_config *config, const char *path,
		       mode_t mode, gid_t group)
{
	struct caller caller = { .group = group };
	int status;
	struct stage s;
	pid_t pid;

	stage_open(&s, config, 0);
	if (path)
		must(zcbuf_producer_listen(s.producer, path, mode));
	caller.address = path ? path : s.address;
	pid = must(fork());
	if (!pid)
		_exit(call(&caller));
	while (!waitpid(pid, &status, WNOHANG))
		stage_run(&s, 5);
	stage_close(&s);
	return WEXITSTATUS(status);
}

static struct zcbuf_peer asked;

static int allow_one(void *answer, const struct zcbuf_peer *peer)
{
	asked = *peer;
	return *(int *)answer;
}

static void credentials(void)
{
	const uid_t uid = NOBODY;
	const gid_t gid = NOBODY, extra = SOMEGROUP;
	char directory[] = "/tmp/zcbuf-XXXXXX", path[64];
	int yes = 1, no = 0;

	if (geteuid()) {
		skip("only root can be somebody else");
		return;
	}
	ok(try_to_call(NULL, NULL, 0, 1) == 1, "another user is refused");
	ok(try_to_call(&(struct zcbuf_producer_config){ .uids = &uid, .n_uids = 1 }, NULL,
		       0, 1) == 0,
	   "unless that user is listed");
	ok(try_to_call(&(struct zcbuf_producer_config){ .gids = &gid, .n_gids = 1 }, NULL,
		       0, 1) == 0,
	   "or the group");
	ok(try_to_call(&(struct zcbuf_producer_config){ .gids = &extra, .n_gids = 1 }, NULL,
		       0, SOMEGROUP) == 0,
	   "also one of the additional groups");
	ok(try_to_call(&(struct zcbuf_producer_config){ .gids = &extra, .n_gids = 1 }, NULL,
		       0, 1) == 1,
	   "but not if it is another group");
	ok(try_to_call(&(struct zcbuf_producer_config){ .allow = allow_one,
							.allow_data = &yes },
		       NULL, 0, 1) == 0,
	   "or the program says yes");
	ok(asked.uid == NOBODY && asked.gid == NOBODY && asked.pid > 0,
	   "which is asked with the peer's identity");
	ok(try_to_call(&(struct zcbuf_producer_config){ .allow = allow_one,
							.allow_data = &no },
		       NULL, 0, 1) == 1,
	   "and may say no");

	must(mkdtemp(directory) ? 0 : -1);
	chmod(directory, 0755);
	snprintf(path, sizeof(path), "%s/socket", directory);
	struct zcbuf_producer_config all = { .flags = ZCBUF_PRODUCER_ALLOW_ALL };
	ok(try_to_call(&all, NULL, 0, 1) == 0, "or everybody may");
	ok(try_to_call(&all, path, 0666, 1) == 0, "also over a socket file");
	ok(try_to_call(&all, path, 0600, 1) == 2, "if its mode lets them");
	rmdir(directory);
}

/* ---- producers that lie ----------------------------------------------------------------- */

struct liar {
	int socket;
	struct zcbuf_consumer *consumer;
};

static void liar_send(struct liar *liar, const void *message, int fd)
{
	const struct channel_header *header = message;
	struct iovec part = { .iov_base = (void *)message, .iov_len = header->size };
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr header;
	} control = { .header = { .cmsg_level = SOL_SOCKET,
				  .cmsg_type = SCM_RIGHTS,
				  .cmsg_len = CMSG_LEN(sizeof(int)) } };
	struct msghdr bare = { .msg_iov = &part, .msg_iovlen = 1 };

	if (fd >= 0) {
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
		bare.msg_control = &control;
		bare.msg_controllen = sizeof(control.bytes);
	}
	must(sendmsg(liar->socket, &bare, MSG_NOSIGNAL));
}

static void liar_welcome(struct liar *liar)
{
	struct channel_welcome welcome = {
		.header = CHANNEL_HEADER(CHANNEL_WELCOME, sizeof(welcome)),
		.magic = CHANNEL_MAGIC,
		.version = CHANNEL_VERSION,
		.max_frames = 2,
		.drop = ZCBUF_DROP_OLDEST,
	};

	liar_send(liar, &welcome, -1);
}

static void liar_buffer(struct liar *liar, uint32_t id, uint64_t size, int fd)
{
	struct channel_buffer buffer = {
		.header = CHANNEL_HEADER(CHANNEL_BUFFER, sizeof(buffer)),
		.id = id,
		.size = size,
	};

	liar_send(liar, &buffer, fd);
}

static void liar_frame(struct liar *liar, uint32_t id, int fence)
{
	struct channel_frame frame = {
		.header = CHANNEL_HEADER(CHANNEL_FRAME, sizeof(frame)),
		.frame = 1,
		.buffers = { id },
	};

	liar_send(liar, &frame, fence);
}

/* Each of these is one lie, to a consumer that was welcomed and knows buffer 1. */
static void lie(struct liar *liar, int number, int memory)
{
	struct channel_remove remove = {
		.header = CHANNEL_HEADER(CHANNEL_REMOVE, sizeof(remove)),
		.id = 2,
	};

	switch (number) {
	case 0:
		liar_welcome(liar);
		break;
	case 1:
		liar_frame(liar, 2, -1);
		break;
	case 2:
		for (int i = 0; i < 3; i++)
			liar_frame(liar, 1, -1);
		break;
	case 3:
		liar_buffer(liar, 1, BUFFER_SIZE, memory);
		break;
	case 4:
		liar_buffer(liar, 2, BUFFER_SIZE, liar->socket);
		break;
	case 5:
		liar_buffer(liar, 2, BUFFER_SIZE * 2, memory);
		break;
	case 6:
		liar_buffer(liar, 2, BUFFER_SIZE, -1);
		break;
	case 7:
		liar_send(liar, &remove, -1);
		break;
	case 8:
		liar_frame(liar, 1, memory);
		break;
	case 9:
		for (uint32_t i = 2; i <= ZCBUF_CHANNEL_BUFFERS_MAX; i++) {
			liar_buffer(liar, i, BUFFER_SIZE, memory);
			next_of(liar->consumer, ZCBUF_CONSUMER_BUFFER_ADDED);
		}
		liar_buffer(liar, UINT32_MAX, BUFFER_SIZE, memory);
		break;
	}
}

static const char *const lies[] = {
	"welcomes twice",
	"sends a frame of an unknown buffer",
	"sends more frames than it said",
	"gives a buffer twice",
	"gives a socket as a buffer",
	"gives a buffer of another size",
	"gives a buffer without file descriptor",
	"removes an unknown buffer",
	"sends memory as a fence",
	"gives more buffers than there can be",
};

static void lying_producers(void)
{
	struct zcbuf_ctx *ctx = new_ctx();
	struct zcbuf_buffer *buffer = stage_buffer(ctx);
	struct zcbuf_consumer_event event;
	int fds = open_fds();

	for (int i = 0; i < 10; i++) {
		int pair[2], memory = zcbuf_buffer_fd(buffer);
		struct liar liar;

		must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair));
		liar.socket = pair[0];
		must(zcbuf_consumer_new_from_socket(ctx, pair[1], NULL, &liar.consumer));
		close(pair[1]);
		liar_welcome(&liar);
		liar_buffer(&liar, 1, BUFFER_SIZE, memory);
		next_of(liar.consumer, ZCBUF_CONSUMER_BUFFER_ADDED);
		lie(&liar, i, memory);
		event = next_of(liar.consumer, ZCBUF_CONSUMER_DISCONNECTED);
		ok(event.error == -EPROTO, "a producer that %s is left", lies[i]);
		zcbuf_consumer_unref(liar.consumer);
		close(liar.socket);
	}
	ok(open_fds() == fds, "and no file descriptor of theirs is kept");
	zcbuf_buffer_unref(buffer);
	zcbuf_ctx_unref(ctx);
}

int main(int argc, char **argv)
{
	be_viewer(argc, argv);
	stopped();
	stopped_for_a_moment();
	killed();
	never_reads();
	holds_without_harm();
	garbage();
	replay();
	replays();
	other_version();
	crowds();
	silence_makes_place();
	credentials();
	lying_producers();
	return done_testing();
}
