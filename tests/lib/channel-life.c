// SPDX-License-Identifier: LGPL-2.1-or-later
/* Producers and consumers that come and go, and what they leave behind: nothing. */
#include "channel.h"

static char directory[] = "/tmp/zcbuf-XXXXXX", path[64];

static bool exists(const char *name)
{
	struct stat st;

	return !lstat(name, &st);
}

static mode_t mode_of(const char *name)
{
	struct stat st;

	return stat(name, &st) ? 0 : st.st_mode & 07777;
}

static int listen_at(struct zcbuf_ctx *ctx, const char *address,
		     struct zcbuf_producer **producer)
{
	int r;

	must(zcbuf_producer_new(ctx, NULL, producer));
	r = zcbuf_producer_listen(*producer, address, 0640);
	if (r)
		*producer = zcbuf_producer_unref(*producer);
	return r;
}

/* ---- socket files ----------------------------------------------------------------------- */

static int leave_socket_file(void *address)
{
	struct zcbuf_producer *producer;

	check(!listen_at(new_ctx(), address, &producer));
	_exit(0); /* as if it were killed: nothing is cleaned up */
}

static void socket_files(void)
{
	struct zcbuf_ctx *ctx = new_ctx();
	struct zcbuf_producer *first, *second;
	char content[8] = "", name[200];
	int fd, fds = open_fds();
	mode_t mask = umask(077);

	returns(listen_at(ctx, path, &first), 0, "a producer listens at a path");
	umask(mask);
	ok(mode_of(path) == 0640, "with the mode that was asked for, whatever the umask");
	returns(listen_at(ctx, path, &second), -EADDRINUSE, "a second one is refused");
	ok(strstr(logged.error, path), "in a message that names the path: %s",
	   logged.error);
	ok(exists(path), "and does not remove the first one's socket");
	zcbuf_producer_close(first);
	ok(!exists(path), "closing removes it");
	zcbuf_producer_unref(first);
	ok(open_fds() == fds, "no file descriptor is left");

	in_child(leave_socket_file, path);
	ok(exists(path), "a producer that is killed leaves its socket file");
	returns(listen_at(ctx, path, &first), 0, "the next one replaces it");
	zcbuf_producer_unref(first);
	ok(!exists(path), "and removes its own");

	returns(listen_at(ctx, path, &first), 0, "a producer listens");
	must(unlink(path));
	must(fd = open(path, O_CREAT | O_RDWR, 0600));
	must(write(fd, "precious", 8));
	zcbuf_producer_unref(first);
	ok(exists(path), "a file that took the place of its socket is not removed");
	returns(listen_at(ctx, path, &first), -EADDRINUSE, "nor replaced");
	ok(pread(fd, content, 8, 0) == 8 && !memcmp(content, "precious", 8), "nor changed");
	close(fd);
	unlink(path);

	snprintf(name, sizeof(name), "%s/none/socket", directory);
	returns(listen_at(ctx, name, &first), -ENOENT, "a directory that does not exist");
	memset(name, 'x', sizeof(name) - 1);
	name[0] = '/';
	name[sizeof(name) - 1] = '\0';
	returns(listen_at(ctx, name, &first), -ENAMETOOLONG, "a path that is too long");
	returns(listen_at(ctx, "", &first), -EINVAL, "an empty path");
	returns(listen_at(ctx, "@", &first), -EINVAL, "an abstract name without a name");
	snprintf(name, sizeof(name), "@zcbuf-life-%d", getpid());
	returns(listen_at(ctx, name, &first), 0, "an abstract name");
	returns(listen_at(ctx, name, &second), -EADDRINUSE, "is given once");
	zcbuf_producer_unref(first);
	returns(listen_at(ctx, name, &first), 0, "and again when it is free");
	zcbuf_producer_unref(first);
	ok(open_fds() == fds, "no file descriptor is left");
	zcbuf_ctx_unref(ctx);
}

#define STARTERS 4

struct starting {
	atomic_bool begin;
	atomic_uint losers;
};

/* Exits with 0 if it listens, at a socket file that is there and stays there. */
static void start_at(struct starting *starting)
{
	struct zcbuf_ctx *ctx = new_ctx();
	struct zcbuf_producer *producer;
	struct zcbuf_consumer *c;

	while (!starting->begin)
		;
	if (listen_at(ctx, path, &producer)) {
		starting->losers++;
		_exit(1);
	}
	for (int i = 0; i < 500 && starting->losers < STARTERS - 1; i++)
		sleep_ms(10);
	_exit(zcbuf_consumer_new(ctx, path, NULL, &c) ? 2 : 0);
}

static void race(void)
{
	struct starting *starting = mmap(NULL, sizeof(*starting), PROT_READ | PROT_WRITE,
					 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int right = 0, status;
	pid_t pids[STARTERS];

	/* All see a dead socket file; exactly one may take its place. */
	for (int round = 0; round < 20; round++) {
		int listening = 0;

		starting->begin = false;
		starting->losers = 0;
		in_child(leave_socket_file, path);
		for (int i = 0; i < STARTERS; i++) {
			pids[i] = must(fork());
			if (!pids[i])
				start_at(starting);
		}
		sleep_ms(20);
		starting->begin = true;
		for (int i = 0; i < STARTERS; i++) {
			must(waitpid(pids[i], &status, 0));
			listening += !status;
		}
		right += listening == 1;
		unlink(path);
	}
	ok(right == 20, "of %d producers that start at once, one listens (%d times of 20)",
	   STARTERS, right);
	munmap(starting, sizeof(*starting));
}

static void inherited_sockets(void)
{
	struct zcbuf_ctx *ctx = new_ctx();
	struct zcbuf_consumer *c;
	struct zcbuf_producer *p;
	struct stage s = { .ctx = ctx };
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = must(socket(AF_UNIX, SOCK_SEQPACKET, 0)), pipes[2], stream[2];

	must(zcbuf_producer_new(ctx, NULL, &p));
	s.producer = p;
	strcpy(name.sun_path, path);
	must(bind(fd, (struct sockaddr *)&name, sizeof(name)));
	must(listen(fd, 4));
	returns(zcbuf_producer_add_socket(p, fd), 0, "an inherited socket that listens");
	close(fd);
	must(zcbuf_consumer_new(ctx, path, NULL, &c));
	ok(until(&s, s.connected == 1), "can be connected to");
	zcbuf_consumer_unref(c);
	zcbuf_producer_close(p);
	ok(exists(path), "its file belongs to whoever made it");
	unlink(path);
	must(pipe(pipes));
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, stream));
	returns(zcbuf_producer_add_socket(p, pipes[0]), -EINVAL, "a pipe is no socket");
	returns(zcbuf_producer_add_socket(p, stream[0]), -EINVAL, "a stream is no channel");
	returns(zcbuf_producer_add_socket(p, 999), -EBADF, "nothing is nothing");
	returns(zcbuf_consumer_new_from_socket(ctx, stream[0], NULL, &c), -EINVAL,
		"for a consumer neither");
	zcbuf_producer_unref(p);
	zcbuf_ctx_unref(ctx);
	for (int i = 0; i < 2; i++) {
		close(pipes[i]);
		close(stream[i]);
	}
}

/* ---- producers that die ----------------------------------------------------------------- */

struct theatre {
	const char *address;
	atomic_uint frames; /* sent */
	atomic_uint format;
};

/* A producer in a process of its own, until it is killed. */
static pid_t theatre_start(struct theatre *t, unsigned int format)
{
	pid_t pid = must(fork());
	char text[16];
	struct stage s;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	stage_open(&s, NULL, 6);
	snprintf(text, sizeof(text), "%u", format);
	must(zcbuf_producer_set_format(s.producer, text, strlen(text)));
	must(zcbuf_producer_listen(s.producer, t->address, 0600));
	for (;; t->frames++) {
		stage_send(&s, 0);
		stage_run(&s, 5);
	}
}

static void producer_death(void)
{
	struct theatre *t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct viewer *v = viewer_new(path), *steady;
	unsigned int frames;
	pid_t pid;

	t->address = path;
	v->config = (struct zcbuf_consumer_config){ .flags = ZCBUF_CONSUMER_RECONNECT,
						    .retry_ms = 20 };
	v->keep = 2;
	v = viewer_start(v);
	sleep_ms(200);
	ok(!v->connected && !v->disconnected && !v->result,
	   "a consumer may wait for a producer that is not there yet");
	pid = theatre_start(t, 1);
	ok(eventually(v->frames > 10), "and gets its frames when it comes");
	steady = viewer_start(viewer_new(path));
	ok(eventually(steady->frames > 10), "another one only connects once");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ok(eventually(v->disconnected == 1 && steady->disconnected == 1) &&
		   v->error == -ECONNRESET,
	   "both learn that the producer was killed");
	ok(eventually(steady->result == -ENOTCONN), "for one that is all");
	ok(v->removed == v->buffers, "all its buffers were removed");
	ok(eventually(!exists(path)), "its socket file is removed by those who noticed");
	frames = v->frames;
	pid = theatre_start(t, 2);
	ok(eventually(v->frames > frames + 10) && v->connected == 2,
	   "the other one connects to the next producer");
	ok(!strcmp(v->format, "2") && !v->wrong, "and sees what that one shows");
	kill(pid, SIGSTOP);
	sleep_ms(100);
	ok(!v->wrong && v->disconnected == 1, "a producer that stops is not one that died");
	kill(pid, SIGCONT);
	frames = v->frames;
	ok(eventually(v->frames > frames), "and can go on");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ok(eventually(v->disconnected == 2), "the second death is noticed, too");
	viewer_end(v, 0);
	viewer_end(steady, 0);
	ok(!exists(path), "no socket file is left");
	munmap(t, sizeof(*t));
}

static void no_producer(void)
{
	struct zcbuf_ctx *ctx = new_ctx();
	struct zcbuf_consumer *c;
	int fds = open_fds();

	returns(zcbuf_consumer_new(ctx, path, NULL, &c), -ENOENT, "no producer");
	ok(strstr(logged.error, path), "is said with the path: %s", logged.error);
	in_child(leave_socket_file, path);
	returns(zcbuf_consumer_new(ctx, path, NULL, &c), -ECONNREFUSED, "a dead producer");
	returns(zcbuf_consumer_new(ctx, path,
				   &(struct zcbuf_consumer_config){ .flags = 1 << 7 }, &c),
		-EINVAL, "an unknown flag");
	returns(zcbuf_consumer_new(ctx, "", NULL, &c), -EINVAL, "no path");
	ok(exists(path) && open_fds() == fds, "leave everything as it was");
	unlink(path);
	zcbuf_ctx_unref(ctx);
}

/* ---- what is held when it ends ---------------------------------------------------------- */

static void held_frames_stay_valid(void)
{
	const struct zcbuf_frame *frames[2];
	struct zcbuf_consumer *c;
	struct stage s;
	int fds;

	stage_open(&s, NULL, 3);
	fds = open_fds();
	c = stage_consumer(&s, NULL);
	next_of(c, ZCBUF_CONSUMER_CONNECTED);
	for (int i = 0; i < 2; i++) {
		must(stage_send(&s, 0));
		frames[i] = next_of(c, ZCBUF_CONSUMER_FRAME).frame;
	}
	stage_run(&s, 5);
	must(stage_send(&s, 0));
	must(zcbuf_consumer_give_back(c, next_of(c, ZCBUF_CONSUMER_FRAME).frame, -1));
	/* Now, while that is not yet read. */
	must(zcbuf_producer_disconnect(s.producer, s.consumer));
	returns(zcbuf_producer_disconnect(s.producer, s.consumer), -ENOENT,
		"a consumer is disconnected once");
	ok(until(&s, stage_complete(&s)),
	   "a producer that disconnects gets its buffers back");
	ok(next_of(c, ZCBUF_CONSUMER_DISCONNECTED).error == -ECANCELED,
	   "the consumer learns why");
	ok(painted(frames[0]->buffers[0], 1) && painted(frames[1]->buffers[0], 2),
	   "and still reads what it holds");
	returns(zcbuf_consumer_give_back(c, frames[0], -1), 0, "which it may give back");
	returns(zcbuf_consumer_give_back(c, frames[0], -1), -EINVAL, "once");
	zcbuf_consumer_unref(c);
	ok(open_fds() == fds, "or not: it goes with the consumer");
	stage_close(&s);
}

static void frames_of_an_old_connection(void)
{
	struct zcbuf_consumer_config config = { .flags = ZCBUF_CONSUMER_RECONNECT,
						.retry_ms = 1,
						.max_frames = 2 };
	const struct zcbuf_frame *old, *frame;
	struct zcbuf_consumer *c;
	struct stage s;

	stage_open(&s, NULL, 4);
	must(zcbuf_consumer_new(s.ctx, s.address, &config, &c));
	until(&s, s.connected == 1);
	must(stage_send(&s, 0));
	old = next_of(c, ZCBUF_CONSUMER_FRAME).frame;
	must(zcbuf_producer_disconnect(s.producer, s.consumer));
	next_of(c, ZCBUF_CONSUMER_DISCONNECTED);
	for (int64_t end = now_ms() + PATIENCE_MS; s.connected < 2 && now_ms() < end;) {
		quiet(c); /* this is when it connects */
		stage_run(&s, 5);
	}
	must(stage_send(&s, 0));
	frame = next_of(c, ZCBUF_CONSUMER_FRAME).frame;
	must(zcbuf_consumer_give_back(c, old, -1));
	stage_run(&s, 50);
	ok(s.disconnected == 1 && stage_info(&s, getpid()).held == 1,
	   "a frame of an old connection is not given back in the new one");
	must(zcbuf_consumer_give_back(c, frame, -1));
	ok(until(&s, stage_complete(&s)), "one of the new one is");
	zcbuf_consumer_unref(c);
	stage_close(&s);
}

static void closing(void)
{
	struct zcbuf_producer_event event;
	struct zcbuf_consumer_event seen;
	struct zcbuf_consumer *c;
	struct stage s;

	stage_open(&s, NULL, 3);
	c = stage_consumer(&s, NULL);
	next_of(c, ZCBUF_CONSUMER_CONNECTED);
	stage_run(&s, 5);
	for (int i = 0; i < 3; i++)
		must(stage_send(&s, 0));
	zcbuf_producer_close(s.producer);
	for (int i = 0; i < 3; i++)
		ok(zcbuf_producer_next_event(s.producer, 0, &event) == 1 &&
			   event.type == ZCBUF_PRODUCER_RELEASED,
		   "a producer that is closed releases all frames");
	ok(zcbuf_producer_next_event(s.producer, 0, &event) == 1 &&
		   event.type == ZCBUF_PRODUCER_DISCONNECTED,
	   "and tells who was disconnected");
	returns(zcbuf_producer_next_event(s.producer, -1, &event), 0,
		"then there is no more");
	returns(zcbuf_producer_send(s.producer, &(struct zcbuf_frame){ 0 }, -1), -EPIPE,
		"nor can anything be sent");
	zcbuf_consumer_close(c);
	ok(next_of(c, ZCBUF_CONSUMER_DISCONNECTED).error == -ECANCELED,
	   "a consumer that is closed is told so");
	returns(zcbuf_consumer_next_event(c, -1, &seen), -ENOTCONN, "and then has ended");
	zcbuf_consumer_unref(c);
	stage_close(&s);

	c = NULL;
	s = (struct stage){ .ctx = new_ctx() };
	must(zcbuf_consumer_new(
		s.ctx, path,
		&(struct zcbuf_consumer_config){ .flags = ZCBUF_CONSUMER_RECONNECT }, &c));
	zcbuf_consumer_close(c);
	returns(zcbuf_consumer_next_event(c, -1, &seen), -ENOTCONN,
		"one that is closed while it waits for a producer has ended, too");
	zcbuf_consumer_unref(c);
	zcbuf_ctx_unref(s.ctx);
}

/* ---- file descriptors ------------------------------------------------------------------- */

static void many_lives(void)
{
	struct zcbuf_consumer *c;
	struct stage s;
	int fds;

	stage_open(&s, NULL, 4);
	fds = open_fds();
	for (unsigned int i = 1; i <= 100; i++) {
		must(zcbuf_consumer_new(s.ctx, s.address, NULL, &c));
		until(&s, s.connected == i);
		for (int k = 0; k < 3; k++)
			must(stage_send(&s, 0));
		next_of(c, ZCBUF_CONSUMER_FRAME); /* never given back */
		if (i % 2)
			zcbuf_consumer_fd(c);
		zcbuf_consumer_unref(c);
		until(&s, s.disconnected == i);
	}
	ok(s.disconnected == 100 && stage_complete(&s),
	   "a hundred consumers came and went");
	ok(open_fds() == fds, "and no file descriptor is left of them");
	stage_close(&s);
}

static int64_t processor_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void no_fd_to_accept(void)
{
	int64_t busy;
	struct zcbuf_consumer *c;
	struct stage s;

	stage_open(&s, NULL, 1);
	must(zcbuf_consumer_new(s.ctx, s.address, NULL, &c));
	forbid_fds();
	busy = processor_ms();
	stage_run(&s, 600);
	busy = processor_ms() - busy;
	ok(!s.connected, "a producer without file descriptors lets consumers wait");
	ok(busy < 150, "and sleeps meanwhile (busy for %d of 600 ms)", (int)busy);
	allow_fds();
	ok(until(&s, s.connected == 1), "until it has some");
	zcbuf_consumer_unref(c);
	stage_close(&s);
}

static void no_fd_for_a_buffer(void)
{
	struct zcbuf_consumer *c;
	struct stage s;

	stage_open(&s, NULL, 1);
	c = stage_consumer(&s, NULL);
	next_of(c, ZCBUF_CONSUMER_CONNECTED);
	stage_run(&s, 5);
	must(stage_send(&s, 0));
	forbid_fds();
	ok(next_of(c, ZCBUF_CONSUMER_DISCONNECTED).error == -EMFILE,
	   "a consumer that has no file descriptor for a buffer is disconnected and knows "
	   "why");
	allow_fds();
	ok(until(&s, stage_complete(&s)), "the frame comes back");
	zcbuf_consumer_unref(c);
	stage_close(&s);
}

int main(int argc, char **argv)
{
	be_viewer(argc, argv);
	must(mkdtemp(directory) ? 0 : -1);
	snprintf(path, sizeof(path), "%s/socket", directory);
	socket_files();
	race();
	inherited_sockets();
	producer_death();
	no_producer();
	held_frames_stay_valid();
	frames_of_an_old_connection();
	closing();
	many_lives();
	no_fd_to_accept();
	no_fd_for_a_buffer();
	ok(!rmdir(directory), "nothing is left in the directory");
	return done_testing();
}
