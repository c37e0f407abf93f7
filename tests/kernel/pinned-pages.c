// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel reads and writes a mapping in place: O_DIRECT, io_uring, MSG_ZEROCOPY, vmsplice,
 * process_vm_readv. What it has pinned is given to nobody else, though the buffer be freed.
 * Heaps without ZCBUF_HEAP_CAP_PIN answer EFAULT.
 */
#include <arpa/inet.h>
#include <liburing.h>
#include <netinet/in.h>
#include <sys/uio.h>

#include "zc.h"

#ifndef SO_ZEROCOPY
#define SO_ZEROCOPY 60
#endif

#define SIZE (2 * MiB + 5 * PAGE)

/* A file on a real file system, which takes O_DIRECT; no name is left. */
static int scratch_file(void)
{
	char path[] = "/mnt/scratch/zcbuf-XXXXXX";
	int fd = mkostemp(path, O_DIRECT | O_CLOEXEC);

	if (fd < 0 || ftruncate(fd, SIZE))
		bail("%s: %s", path, strerror(errno));
	unlink(path);
	return fd;
}

static int buffered(int direct)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", direct);
	return open(path, O_RDWR | O_CLOEXEC);
}

static bool file_filled(int direct, uint64_t seed)
{
	void *copy = malloc(SIZE);
	int fd = buffered(direct);
	bool same =
		pread(fd, copy, SIZE, 0) == (ssize_t)SIZE && is_filled(copy, SIZE, seed);

	close(fd);
	free(copy);
	return same;
}

static bool fill_file(int direct, uint64_t seed)
{
	void *copy = malloc(SIZE);
	int fd = buffered(direct);
	bool done;

	fill(copy, SIZE, seed);
	done = pwrite(fd, copy, SIZE, 0) == (ssize_t)SIZE && fsync(fd) == 0;
	close(fd);
	free(copy);
	return done;
}

static void direct_io(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE), file = scratch_file();
	char *memory = must_map(fd, SIZE);

	fill_file(file, 0); /* what is not on the disk need not be read from it */
	fill(memory, SIZE, 1);
	if (!heap_can(heap, ZCBUF_HEAP_CAP_PIN)) {
		is_errno(pwrite(file, memory, SIZE, 0), EFAULT,
			 "%s: O_DIRECT cannot write from it", heap->name);
		is_errno(pread(file, memory, SIZE, 0), EFAULT, "%s: nor read into it",
			 heap->name);
		goto out;
	}
	ok(pwrite(file, memory, SIZE, 0) == (ssize_t)SIZE, "%s: O_DIRECT writes from it",
	   heap->name);
	ok(file_filled(file, 1), "%s: and the file has what was in it", heap->name);
	ok(fill_file(file, 2) && pread(file, memory, SIZE, 0) == (ssize_t)SIZE,
	   "%s: O_DIRECT reads into it", heap->name);
	ok(is_filled(memory, SIZE, 2), "%s: and it has what was in the file", heap->name);

	fill(memory, SIZE, 3);
	ok(pread(file, memory + 3 * PAGE + 512, 1024, 512) == 1024 &&
		   is_filled(memory, 3 * PAGE + 512, 3) &&
		   is_filled_from(memory + 3 * PAGE + 512, 512, 1024, 2) &&
		   is_filled_from(memory + 3 * PAGE + 1536, 3 * PAGE + 1536,
				  SIZE - 3 * PAGE - 1536, 3),
	   "%s: sectors are read to their place and nowhere else", heap->name);

	void *read_only = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);

	is_errno(pread(file, read_only, SIZE, 0), EFAULT,
		 "%s: O_DIRECT does not read into a read-only mapping", heap->name);
	ok(pwrite(file, read_only, SIZE, 0) == (ssize_t)SIZE, "%s: but writes from it",
	   heap->name);
	munmap(read_only, SIZE);
out:
	munmap(memory, SIZE);
	close(fd);
	close(file);
}

static void uring(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE), file = scratch_file(), error;
	char *memory = must_map(fd, SIZE);
	struct iovec iov = { .iov_base = memory, .iov_len = SIZE };
	struct io_uring_cqe *cqe = NULL;
	struct io_uring ring;

	if (io_uring_queue_init(4, &ring, 0)) {
		skip("%s: this kernel has no io_uring", heap->name);
		goto out;
	}
	error = io_uring_register_buffers(&ring, &iov, 1);
	if (!heap_can(heap, ZCBUF_HEAP_CAP_PIN)) {
		ok(error == -EFAULT, "%s: io_uring cannot have it as a fixed buffer",
		   heap->name);
		goto exit;
	}
	if (error == -EOPNOTSUPP) {
		skip("%s: io_uring of this kernel takes no fixed buffers of files",
		     heap->name);
		goto exit;
	}
	ok(error == 0, "%s: io_uring takes it as a fixed buffer", heap->name);
	fill(memory, SIZE, 4);
	io_uring_prep_write_fixed(io_uring_get_sqe(&ring), file, memory, SIZE, 0, 0);
	ok(io_uring_submit(&ring) == 1 && io_uring_wait_cqe(&ring, &cqe) == 0 &&
		   cqe->res == (int)SIZE,
	   "%s: and writes from it", heap->name);
	io_uring_cqe_seen(&ring, cqe);
	ok(file_filled(file, 4) && fill_file(file, 5), "%s: what was in it", heap->name);

	/* The registration holds the pages, not the mapping and not the buffer. */
	void *other = must_map(fd, SIZE);

	munmap(memory, SIZE);
	io_uring_prep_read_fixed(io_uring_get_sqe(&ring), file, memory, SIZE, 0, 0);
	ok(io_uring_submit(&ring) == 1 && io_uring_wait_cqe(&ring, &cqe) == 0 &&
		   cqe->res == (int)SIZE && is_filled(other, SIZE, 5),
	   "%s: and reads into it, mapped or not", heap->name);
	io_uring_cqe_seen(&ring, cqe);
	munmap(other, SIZE);
	memory = NULL;
exit:
	io_uring_queue_exit(&ring);
out:
	if (memory)
		munmap(memory, SIZE);
	close(fd);
	close(file);
}

static void zerocopy_send(const struct heap *heap)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = must_alloc(heap, 16 * PAGE), listener, sender, receiver, on = 1;
	void *memory = must_map(fd, 16 * PAGE), *copy = malloc(16 * PAGE);
	socklen_t length = sizeof(address);
	size_t got = 0;
	ssize_t n;

	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	sender = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listener, (void *)&address, sizeof(address)) || listen(listener, 1) ||
	    getsockname(listener, (void *)&address, &length) ||
	    connect(sender, (void *)&address, sizeof(address)) ||
	    setsockopt(sender, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)))
		bail("no connection to myself: %s", strerror(errno));
	receiver = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	fill(memory, 16 * PAGE, 6);
	n = send(sender, memory, 16 * PAGE, MSG_ZEROCOPY);
	if (!heap_can(heap, ZCBUF_HEAP_CAP_PIN)) {
		ok(n == -1 && errno == EFAULT, "%s: MSG_ZEROCOPY cannot send from it",
		   heap->name);
	} else {
		ok(n == (ssize_t)(16 * PAGE), "%s: MSG_ZEROCOPY sends from it", heap->name);
		while (got < 16 * PAGE &&
		       (n = recv(receiver, (char *)copy + got, 16 * PAGE - got, 0)) > 0)
			got += n;
		ok(is_filled(copy, 16 * PAGE, 6), "%s: what was in it", heap->name);
	}
	close(receiver);
	close(sender);
	close(listener);
	munmap(memory, 16 * PAGE);
	free(copy);
	close(fd);
}

/* Take up the memory that was freed a moment ago, and write over it. */
static void reuse(const struct heap *heap, size_t size)
{
	int fds[32], count;

	for (count = 0; count < 32; count++) {
		void *memory;

		fds[count] = alloc(heap, size);
		if (fds[count] < 0)
			break;
		memory = must_map(fds[count], size);
		memset(memory, 0xee, size);
		munmap(memory, size);
	}
	while (count)
		close(fds[--count]);
}

/* A page in a pipe is the buffer's own; it stays what it was when the buffer has gone. */
static void pages_in_a_pipe(const struct heap *heap)
{
	static const size_t sizes[] = { PAGE, 16 * PAGE, 64 * PAGE, 512 * PAGE };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		size_t size = sizes[i], length = size > 64 * PAGE ? 64 * PAGE : size;
		int fd = must_alloc(heap, size), pipes[2];
		char *memory = must_map(fd, size), *copy = malloc(length);
		struct iovec iov = { .iov_base = memory + size - length,
				     .iov_len = length };
		ssize_t n;

		if (pipe2(pipes, O_CLOEXEC | O_NONBLOCK) ||
		    fcntl(pipes[1], F_SETPIPE_SZ, MiB) < 0)
			bail("pipe: %s", strerror(errno));
		fill(memory, size, 7);
		n = vmsplice(pipes[1], &iov, 1, 0);
		if (!heap_can(heap, ZCBUF_HEAP_CAP_PIN)) {
			ok(n == -1 && errno == EFAULT,
			   "%s: vmsplice() cannot take %zu bytes of it", heap->name,
			   length);
			munmap(memory, size);
			close(fd);
		} else {
			struct held before = held(heap);

			ok(n == (ssize_t)length,
			   "%s: vmsplice() takes the last pages of %zu bytes", heap->name,
			   size);
			memory[size - length] = 'x';
			munmap(memory, size);
			close(fd);
			ok(heap_now(heap).used_buffers == before.buffers - 1,
			   "%s: the buffer is gone, its pages are in the pipe", heap->name);
			reuse(heap, size);
			n = read(pipes[0], copy, length);
			ok(n == (ssize_t)length && copy[0] == 'x',
			   "%s: they are the same pages, not a copy", heap->name);
			copy[0] = (char)pattern(7, (size - length) / 8);
			ok(is_filled_from(copy, size - length, length, 7),
			   "%s: which nobody else was given meanwhile", heap->name);
		}
		close(pipes[0]);
		close(pipes[1]);
		free(copy);
	}
}

/* Debuggers and their like. */
static void from_outside(const struct heap *heap)
{
	int fd = must_alloc(heap, 4 * PAGE);
	void *memory = must_map(fd, 4 * PAGE), *copy = malloc(4 * PAGE);
	struct iovec local = { .iov_base = copy, .iov_len = 4 * PAGE };
	struct iovec remote = { .iov_base = memory, .iov_len = 4 * PAGE };
	pid_t child;

	fill(memory, 4 * PAGE, 8);
	child = fork();
	if (child == 0) {
		pause();
		_exit(0);
	}
	if (heap_can(heap, ZCBUF_HEAP_CAP_PIN)) {
		ok(process_vm_readv(child, &local, 1, &remote, 1, 0) == 4 * PAGE &&
			   is_filled(copy, 4 * PAGE, 8),
		   "%s: process_vm_readv() reads it", heap->name);
		fill(copy, 4 * PAGE, 9);
		ok(process_vm_writev(child, &local, 1, &remote, 1, 0) == 4 * PAGE &&
			   is_filled(memory, 4 * PAGE, 9),
		   "%s: process_vm_writev() writes it", heap->name);
	} else {
		is_errno(process_vm_readv(child, &local, 1, &remote, 1, 0), EFAULT,
			 "%s: process_vm_readv() does not read it", heap->name);
	}

	char path[64];
	int mem;

	fill(memory, 4 * PAGE, 10);
	snprintf(path, sizeof(path), "/proc/%d/mem", child);
	mem = open(path, O_RDWR | O_CLOEXEC);
	ok(pread(mem, copy, 4 * PAGE, (off_t)(uintptr_t)memory) == 4 * PAGE &&
		   is_filled(copy, 4 * PAGE, 10),
	   "%s: a debugger reads it through /proc/PID/mem", heap->name);
	fill(copy, 4 * PAGE, 11);
	ok(pwrite(mem, copy, 4 * PAGE, (off_t)(uintptr_t)memory) == 4 * PAGE &&
		   is_filled(memory, 4 * PAGE, 11),
	   "%s: and writes it", heap->name);
	close(mem);
	kill(child, SIGKILL);
	end_of(child);
	munmap(memory, 4 * PAGE);
	free(copy);
	close(fd);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);

	direct_io(heap);
	uring(heap);
	zerocopy_send(heap);
	pages_in_a_pipe(heap);
	from_outside(heap);
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

int main(void)
{
	for_each_heap(test);
	return done_testing();
}
