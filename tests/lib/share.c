// SPDX-License-Identifier: LGPL-2.1-or-later
/* Buffers that go from process to process. */
#include <netinet/in.h>
#include <sys/socket.h>

#include "lib.h"

#define RW (ZCBUF_SYNC_READ | ZCBUF_SYNC_WRITE)

static const struct {
	int type;
	const char *name;
} sockets[] = {
	{ SOCK_STREAM, "stream" },
	{ SOCK_SEQPACKET, "seqpacket" },
	{ SOCK_DGRAM, "datagram" },
};

struct job {
	const char *heap;
	int socket;
	uint64_t inode;
};

/*
 * Text, byte by byte: where memory is a device's, arm64 answers what the C library does with
 * strings, words that are not aligned, by SIGBUS.
 */
static void put(volatile char *to, const char *text)
{
	while ((*to++ = *text++))
		;
}

static bool holds(const volatile char *data, const char *text)
{
	while (*data == *text && *text)
		data++, text++;
	return *data == *text;
}

/* ---- between processes --------------------------------------------------------------- */

static int answer(void *argument)
{
	struct job *job = argument;
	struct zcbuf_ctx *ctx = new_ctx();
	struct zcbuf_buffer *buffer;
	char *data;

	check(!zcbuf_buffer_recv(ctx, job->socket, &buffer));
	data = (char *)mapped(buffer, RW);
	check(!zcbuf_buffer_begin(buffer, RW));
	check(holds(data, "question"));
	put(data + 4096, "answer");
	check(!zcbuf_buffer_end(buffer, RW));
	zcbuf_buffer_unref(buffer);

	/* A buffer of the child's own, which the parent reads when the child is gone. */
	buffer = new_buffer(ctx, job->heap, 4096);
	put((char *)mapped(buffer, RW), "last words");
	check(!zcbuf_buffer_send(buffer, job->socket));
	return 0;
}

static void both_directions(struct zcbuf_ctx *ctx, const char *heap, int type,
			    const char *name)
{
	struct zcbuf_buffer *buffer = new_buffer(ctx, heap, 8192), *last;
	int pair[2], fds;
	struct job job = { .heap = heap };
	char *data = (char *)mapped(buffer, RW);

	must(socketpair(AF_UNIX, type, 0, pair));
	job.socket = pair[1];
	put(data, "question");
	must(zcbuf_buffer_send(buffer, pair[0]));
	ok(in_child(answer, &job), "%s, %s: a child reads what the parent wrote", heap,
	   name);
	ok(holds(data + 4096, "answer"), "%s, %s: the parent reads what the child wrote",
	   heap, name);
	close(pair[1]);
	fds = open_fds();
	returns(zcbuf_buffer_recv(ctx, pair[0], &last), 0,
		"%s, %s: a buffer arrives after its sender has exited", heap, name);
	ok(holds((char *)mapped(last, ZCBUF_SYNC_READ), "last words"),
	   "%s, %s: with its content", heap, name);
	ok(fcntl(zcbuf_buffer_fd(last), F_GETFD) & FD_CLOEXEC,
	   "%s, %s: it is close-on-exec", heap, name);
	zcbuf_buffer_unref(last);
	ok(open_fds() == fds, "%s, %s: and leaves nothing behind", heap, name);
	zcbuf_buffer_unref(buffer);
	close(pair[0]);
}

static int only_read(void *argument)
{
	struct job *job = argument;
	struct zcbuf_ctx *ctx = new_ctx();
	struct zcbuf_buffer_info info;
	struct zcbuf_buffer *buffer, *wider;
	void *data;

	check(!zcbuf_buffer_recv(ctx, job->socket, &buffer));
	check(!zcbuf_buffer_get_info(buffer, &info) && info.read_only);
	check(info.inode == job->inode && info.backend == ZCBUF_BACKEND_ZCBUF);
	check(zcbuf_buffer_map(buffer, RW, &data) == -EACCES);
	check(!zcbuf_buffer_map(buffer, ZCBUF_SYNC_READ, &data));
	check(!strcmp(data, "look, do not touch"));
	check(!zcbuf_buffer_view(buffer, 0, 0, 0, &wider));
	check(zcbuf_buffer_map(wider, RW, &data) == -EACCES);
	return 0;
}

static void read_only(struct zcbuf_ctx *ctx)
{
	struct zcbuf_buffer *buffer = new_buffer(ctx, "zcbuf-system", 4096), *view;
	struct zcbuf_buffer_info info;
	struct job job = { 0 };
	int pair[2];

	strcpy((char *)mapped(buffer, RW), "look, do not touch");
	must(zcbuf_buffer_view(buffer, 0, 0, ZCBUF_VIEW_READ_ONLY, &view));
	must(zcbuf_buffer_get_info(view, &info));
	must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	must(zcbuf_buffer_send(view, pair[0]));
	job.socket = pair[1];
	job.inode = info.inode;
	ok(in_child(only_read, &job),
	   "a read-only view is read-only in the other process, too");
	zcbuf_buffer_unref(view);
	zcbuf_buffer_unref(buffer);
	close(pair[0]);
	close(pair[1]);
}

/* ---- when it fails ------------------------------------------------------------------- */

static void broken_sockets(struct zcbuf_ctx *ctx)
{
	struct zcbuf_buffer *buffer = new_buffer(ctx, "memfd", 4096), *got = (void *)1;
	int pair[2], tcp = socket(AF_INET, SOCK_STREAM, 0);

	returns(zcbuf_buffer_send(buffer, -1), -EBADF, "send to no socket: -EBADF");
	returns(zcbuf_buffer_recv(ctx, -1, &got), -EBADF, "receive from no socket: -EBADF");
	returns(zcbuf_buffer_send(buffer, zcbuf_buffer_fd(buffer)), -ENOTSOCK,
		"send to a file: -ENOTSOCK");
	returns(zcbuf_buffer_recv(ctx, zcbuf_buffer_fd(buffer), &got), -ENOTSOCK,
		"receive from a file: -ENOTSOCK");
	if (tcp < 0)
		skip("no TCP/IP here");
	else
		returns(zcbuf_buffer_send(buffer, tcp), -EAFNOSUPPORT,
			"send over TCP: -EAFNOSUPPORT");
	close(tcp);
	for (int i = 0; i < 2; i++) {
		must(socketpair(AF_UNIX, sockets[i].type | SOCK_NONBLOCK, 0, pair));
		returns(zcbuf_buffer_recv(ctx, pair[0], &got), -EAGAIN,
			"%s: nothing there yet: -EAGAIN", sockets[i].name);
		close(pair[1]);
		returns(zcbuf_buffer_recv(ctx, pair[0], &got), -ECONNRESET,
			"%s: the other end has closed: -ECONNRESET", sockets[i].name);
		returns(zcbuf_buffer_send(buffer, pair[0]), -EPIPE,
			"%s: send to nobody: -EPIPE, and no signal", sockets[i].name);
		close(pair[0]);
	}
	ok(got == (void *)1, "a failure writes no result");
	zcbuf_buffer_unref(buffer);
}

/* What zcbuf_buffer_send() would send, and what can be wrong with it. */
struct message {
	uint32_t magic, version;
	uint64_t size;
	char more[8];
};

static void send_raw(int socket, const void *bytes, size_t length, const int *fds,
		     size_t count)
{
	char control[CMSG_SPACE(sizeof(int) * 8)] = { 0 };
	struct iovec data = { (void *)bytes, length };
	struct msghdr header = { .msg_iov = &data, .msg_iovlen = 1 };
	struct cmsghdr *record;

	if (count) {
		header.msg_control = control;
		header.msg_controllen = CMSG_SPACE(sizeof(int) * count);
		record = CMSG_FIRSTHDR(&header);
		record->cmsg_len = CMSG_LEN(sizeof(int) * count);
		record->cmsg_level = SOL_SOCKET;
		record->cmsg_type = SCM_RIGHTS;
		memcpy(CMSG_DATA(record), fds, sizeof(int) * count);
	}
	must(sendmsg(socket, &header, 0));
}

static void garbage(struct zcbuf_ctx *ctx, int type, const char *socket_name)
{
	struct zcbuf_buffer *buffer = new_buffer(ctx, "memfd", 8192), *got = (void *)1;
	const int memfd = zcbuf_buffer_fd(buffer), null = open("/dev/null", O_RDWR);
	const struct message good = { 0x6675627a, 1, 8192, "" };
	const struct {
		const char *name;
		struct message message;
		size_t length;
		int fds[8];
		size_t count;
	} cases[] = {
		{ "no fd", good, 16, { 0 }, 0 },
		{ "two fds", good, 16, { memfd, memfd }, 2 },
		{ "eight fds",
		  good,
		  16,
		  { memfd, null, null, null, null, null, null, null },
		  8 },
		{ "an fd of something else", good, 16, { null }, 1 },
		{ "a wrong magic", { 1, 1, 8192, "" }, 16, { memfd }, 1 },
		{ "a wrong version", { 0x6675627a, 2, 8192, "" }, 16, { memfd }, 1 },
		{ "a wrong size", { 0x6675627a, 1, 4096, "" }, 16, { memfd }, 1 },
		{ "too short a message", good, 15, { memfd }, 1 },
		{ "one byte", good, 1, { memfd, null }, 2 },
		{ "too long a message", good, 24, { memfd }, 1 },
	};
	const size_t count = sizeof(cases) / sizeof(cases[0]);
	int fds = open_fds(), pair[2];

	for (size_t i = 0; i < count; i++) {
		/* A stream has no messages: what is too long there is the next one's start. */
		if (type == SOCK_STREAM && cases[i].length > 16)
			continue;
		must(socketpair(AF_UNIX, type, 0, pair));
		send_raw(pair[0], &cases[i].message, cases[i].length, cases[i].fds,
			 cases[i].count);
		forget_log();
		returns(zcbuf_buffer_recv(ctx, pair[1], &got), -EPROTO, "%s: %s: -EPROTO",
			socket_name, cases[i].name);
		ok(logged.errors == 1, "%s: %s: is logged once", socket_name,
		   cases[i].name);
		must(zcbuf_buffer_send(buffer, pair[0]));
		returns(zcbuf_buffer_recv(ctx, pair[1], &got), 0,
			"%s: %s: the next one arrives", socket_name, cases[i].name);
		zcbuf_buffer_unref(got);
		got = (void *)1;
		close(pair[0]);
		close(pair[1]);
	}
	if (type == SOCK_DGRAM) {
		must(socketpair(AF_UNIX, type, 0, pair));
		must(send(pair[0], "", 0, 0));
		returns(zcbuf_buffer_recv(ctx, pair[1], &got), -EPROTO,
			"%s: an empty one: -EPROTO", socket_name);
		close(pair[0]);
		close(pair[1]);
	}
	ok(got == (void *)1 && open_fds() == fds, "%s: no stray fd is left", socket_name);
	zcbuf_buffer_unref(buffer);
	close(null);
}

static void no_room(struct zcbuf_ctx *ctx)
{
	struct zcbuf_buffer *buffer = new_buffer(ctx, "memfd", 4096), *got;
	int pair[2];

	must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	must(zcbuf_buffer_send(buffer, pair[0]));
	must(zcbuf_buffer_send(buffer, pair[0]));
	forbid_fds();
	returns(zcbuf_buffer_recv(ctx, pair[1], &got), -EMFILE,
		"no room for the file descriptor: -EMFILE");
	allow_fds();
	returns(zcbuf_buffer_recv(ctx, pair[1], &got), 0, "the next one arrives");
	zcbuf_buffer_unref(got);
	zcbuf_buffer_unref(buffer);
	close(pair[0]);
	close(pair[1]);
}

/* A receiver that asked for credentials gets more than fds beside the message. */
static void with_credentials(struct zcbuf_ctx *ctx)
{
	struct zcbuf_buffer *buffer = new_buffer(ctx, "memfd", 4096), *got;
	int pair[2], on = 1;

	must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	must(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
	must(zcbuf_buffer_send(buffer, pair[0]));
	returns(zcbuf_buffer_recv(ctx, pair[1], &got), 0, "credentials do not disturb");
	zcbuf_buffer_unref(got);
	zcbuf_buffer_unref(buffer);
	close(pair[0]);
	close(pair[1]);
}

int main(void)
{
	struct zcbuf_ctx *ctx = new_ctx();
	struct zcbuf_heap_info *infos;
	int count = (int)must(zcbuf_heap_list(ctx, &infos));

	for (int i = 0; i < count; i++)
		for (int j = 0; j < 3; j++)
			both_directions(ctx, infos[i].name, sockets[j].type,
					sockets[j].name);
	read_only(ctx);
	broken_sockets(ctx);
	for (int j = 0; j < 3; j++)
		garbage(ctx, sockets[j].type, sockets[j].name);
	no_room(ctx);
	with_credentials(ctx);
	free(infos);
	zcbuf_ctx_unref(ctx);
	return done_testing();
}
