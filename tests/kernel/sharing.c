// SPDX-License-Identifier: GPL-2.0-only
/* Processes that hold one buffer see one memory, whoever wrote, passed or exited. */
#include "zc.h"

#define SIZE (5 * PAGE)

static void pass_to_receiver(const struct heap *heap)
{
	int sockets[2];
	pid_t child;
	void *memory;
	int fd;

	socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets);
	child = fork();
	if (child == 0) {
		int got = receive_fd(sockets[1]);

		memory = map(got, SIZE);
		if (memory == MAP_FAILED || !is_filled(memory, SIZE, 1))
			_exit(1);
		fill(memory, SIZE, 2);
		_exit(0);
	}
	fd = must_alloc(heap, SIZE);
	memory = must_map(fd, SIZE);
	fill(memory, SIZE, 1);
	ok(send_fd(sockets[0], fd), "%s: its fd can be sent", heap->name);
	ok(end_of(child) == 0, "%s: the receiver reads what the sender wrote", heap->name);
	ok(is_filled(memory, SIZE, 2), "%s: the sender reads what the receiver wrote",
	   heap->name);
	ok(info(fd).user_mappings == 1, "%s: the receiver's mapping went with it",
	   heap->name);
	munmap(memory, SIZE);
	close(fd);
	close(sockets[0]);
	close(sockets[1]);
}

static void sender_exits_first(const struct heap *heap)
{
	struct held before = held(heap);
	int sockets[2], got;
	pid_t child;
	void *memory;

	socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets);
	child = fork();
	if (child == 0) {
		int fd = alloc(heap, SIZE);

		memory = map(fd, SIZE);
		if (memory == MAP_FAILED)
			_exit(1);
		fill(memory, SIZE, 3);
		_exit(send_fd(sockets[1], fd) ? 0 : 2);
	}
	ok(end_of(child) == 0, "%s: a process allocates, writes, sends and exits",
	   heap->name);
	ok(heap_now(heap).used_buffers == before.buffers + 1,
	   "%s: the buffer lives on in the socket", heap->name);
	got = receive_fd(sockets[0]);
	memory = must_map(got, SIZE);
	ok(is_filled(memory, SIZE, 3), "%s: it can be read after its maker is gone",
	   heap->name);
	fill(memory, SIZE, 4);
	ok(is_filled(memory, SIZE, 4), "%s: and written", heap->name);
	munmap(memory, SIZE);
	close(got);
	close(sockets[0]);
	close(sockets[1]);
	ok(held_as(heap, before), "%s: and goes with its last holder", heap->name);
}

static void never_received(const struct heap *heap)
{
	struct held before = held(heap);
	int sockets[2], fd = must_alloc(heap, SIZE);

	socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets);
	ok(send_fd(sockets[0], fd), "%s: its fd is sent", heap->name);
	close(fd);
	close(sockets[0]);
	close(sockets[1]);
	ok(held_as(heap, before), "%s: a buffer that nobody receives goes with the socket",
	   heap->name);
}

static void forked(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE), pipes[2];
	void *memory = must_map(fd, SIZE);
	char byte;
	pid_t child;

	fill(memory, SIZE, 5);
	if (pipe(pipes))
		bail("pipe: %s", strerror(errno));
	child = fork();
	if (child == 0) {
		if (!is_filled(memory, SIZE, 5))
			_exit(1);
		fill(memory, SIZE, 6);
		if (write(pipes[1], "", 1) != 1)
			_exit(2);
		for (int tries = 0; tries < 500; tries++, pause_ms(10))
			if (*(volatile uint64_t *)memory == pattern(7, 0))
				_exit(0);
		_exit(3);
	}
	ok(read(pipes[0], &byte, 1) == 1 && is_filled(memory, SIZE, 6),
	   "%s: a parent sees its child's writes", heap->name);
	fill(memory, SIZE, 7);
	ok(end_of(child) == 0,
	   "%s: a child sees its parent's writes, before and after the fork", heap->name);
	munmap(memory, SIZE);
	close(fd);
	close(pipes[0]);
	close(pipes[1]);
}

static void two_mappings(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE);
	char *one = must_map(fd, SIZE), *other = must_map(fd, SIZE);

	fill(one, SIZE, 8);
	ok(one != other && is_filled(other, SIZE, 8), "%s: two mappings show one memory",
	   heap->name);
	munmap(one, SIZE);
	ok(is_filled(other, SIZE, 8), "%s: one stays when the other goes", heap->name);
	close(fd);
	ok(is_filled(other, SIZE, 8), "%s: and when the fd goes", heap->name);
	fill(other, SIZE, 9);
	ok(is_filled(other, SIZE, 9), "%s: and can still be written", heap->name);
	munmap(other, SIZE);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);

	pass_to_receiver(heap);
	sender_exits_first(heap);
	never_received(heap);
	forked(heap);
	two_mappings(heap);
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

int main(void)
{
	for_each_heap(test);
	return done_testing();
}
