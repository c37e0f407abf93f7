// SPDX-License-Identifier: GPL-2.0-only
/*
 * ZCBUF_ALLOC_RECYCLE: whoever says that his own old data may be in a buffer gets memory that
 * nobody has to zero. It is his as long as his heap node is open: no other open file, no other
 * cgroup and no buffer without the flag ever has a byte of it.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "cgroup.h"

#define LARGE (2 * MiB)
/* Chunks of each size. */
#define SIZE (LARGE + 2 * 65536 + 3 * PAGE)

/* A buffer of SIZE bytes from an open heap node, and its mapping. */
struct buffer {
	int fd;
	unsigned char *memory;
};

static struct buffer get(int node, uint64_t flags)
{
	struct zcbuf_ioc_alloc arg = { .size = SIZE,
				       .flags = flags,
				       .fd_flags = O_RDWR | O_CLOEXEC };

	if (ioctl(node, ZCBUF_IOC_ALLOC, &arg))
		bail("no buffer: %s", strerror(errno));
	return (struct buffer){ .fd = arg.fd, .memory = must_map(arg.fd, SIZE) };
}

static void drop_buffer(struct buffer *buffer)
{
	munmap(buffer->memory, SIZE);
	close(buffer->fd);
}

/* Bytes of it that are BYTE. */
static size_t count(const struct buffer *buffer, unsigned char byte)
{
	size_t n = 0;

	for (size_t i = 0; i < SIZE; i++)
		n += buffer->memory[i] == byte;
	return n;
}

/* A buffer with the flag is filled with BYTE, and dies. */
static void leave_behind(int node, unsigned char byte)
{
	struct buffer buffer = get(node, ZCBUF_ALLOC_RECYCLE);

	memset(buffer.memory, byte, SIZE);
	drop_buffer(&buffer);
}

/* How many bytes a new one has that are BYTE. */
static size_t found(int node, uint64_t flags, unsigned char byte)
{
	struct buffer buffer = get(node, flags);
	size_t n = count(&buffer, byte);

	drop_buffer(&buffer);
	return n;
}

static void seen_by_its_owner(const struct heap *heap)
{
	struct buffer buffer;

	pool_drain(heap);
	buffer = get(heap->fd, ZCBUF_ALLOC_RECYCLE);
	ok(count(&buffer, 0) == SIZE, "%s: the first buffer is zero", heap->name);
	drop_buffer(&buffer);
	leave_behind(heap->fd, 0x5a);
	ok(pool_bytes(heap) == (long long)SIZE, "%s: its memory is kept", heap->name);
	pause_ms(200);
	ok(found(heap->fd, ZCBUF_ALLOC_RECYCLE, 0x5a) == SIZE,
	   "%s: and is as it was, later too: nobody zeroes it", heap->name);
}

static void seen_by_nobody_else(const struct heap *heap)
{
	int other = heap_open(heap, O_RDWR);
	pid_t child;

	leave_behind(heap->fd, 0x5a);
	ok(found(heap->fd, 0, 0) == SIZE, "%s: a buffer without the flag is zero",
	   heap->name);
	ok(found(other, ZCBUF_ALLOC_RECYCLE, 0) == SIZE, "%s: so is another open file's",
	   heap->name);
	ok(found(other, ZCBUF_ALLOC_RECYCLE | ZCBUF_ALLOC_DMA32, 0) == SIZE &&
		   found(heap->fd, ZCBUF_ALLOC_RECYCLE | ZCBUF_ALLOC_DMA32, 0) == SIZE,
	   "%s: and memory of a special kind", heap->name);
	ok(found(heap->fd, ZCBUF_ALLOC_RECYCLE, 0x5a) == SIZE,
	   "%s: the owner's is untouched by all this", heap->name);
	close(other);

	make("zcbuf-a");
	child = fork();
	if (child == 0) {
		long long charged;

		enter("zcbuf-a");
		charged = charge("zcbuf-a");
		if (found(heap->fd, ZCBUF_ALLOC_RECYCLE, 0) != SIZE)
			_exit(1);
		if (!about(charge("zcbuf-a"), charged + SIZE))
			_exit(2);
		leave_behind(heap->fd, 0xa5);
		_exit(found(heap->fd, ZCBUF_ALLOC_RECYCLE, 0xa5) == SIZE ? 0 : 3);
	}
	ok(end_of(child) == 0, "%s: in another cgroup the same file has memory of its own",
	   heap->name);
	ok(found(heap->fd, ZCBUF_ALLOC_RECYCLE, 0x5a) == SIZE,
	   "%s: of which none comes here", heap->name);
	pool_drain(heap);
	ok(drop("zcbuf-a"), "%s: the cgroup can go", heap->name);
}

static void ends_with_the_file(const struct heap *heap)
{
	int node = heap_open(heap, O_RDWR);
	struct buffer survivor = get(node, ZCBUF_ALLOC_RECYCLE);
	bool zero = true;

	pool_drain(heap);
	memset(survivor.memory, 0x5a, SIZE);
	leave_behind(node, 0x5a);
	ok(pool_bytes(heap) == (long long)SIZE, "%s: an open file keeps its memory",
	   heap->name);
	close(node);
	ok(pool_bytes(heap) == 0, "%s: which goes when it is closed", heap->name);
	ok(count(&survivor, 0x5a) == SIZE, "%s: a buffer that is alive stays as it is",
	   heap->name);
	drop_buffer(&survivor);
	ok(pool_bytes(heap) == 0, "%s: and is not kept for anybody", heap->name);

	/* The next open file may well lie where the last one lay. */
	for (int round = 0; round < 20; round++) {
		node = heap_open(heap, O_RDWR);
		survivor = get(node, ZCBUF_ALLOC_RECYCLE);
		zero = count(&survivor, 0) == SIZE && zero;
		leave_behind(node, 0x5a);
		memset(survivor.memory, 0x5a, SIZE);
		close(node);
		node = heap_open(heap, O_RDWR);
		drop_buffer(&survivor);
		zero = found(node, ZCBUF_ALLOC_RECYCLE, 0) == SIZE && zero;
		close(node);
	}
	ok(zero, "%s: an open file inherits nothing from an earlier one", heap->name);
}

static void gives_way(const struct heap *heap)
{
	long long limit = pool_limit(heap);

	leave_behind(heap->fd, 0x5a);
	pool_set_limit(heap, 0);
	ok(pool_bytes(heap) == 0, "%s: it goes when the pool is emptied", heap->name);
	pool_set_limit(heap, limit);
	leave_behind(heap->fd, 0x5a);
	write_file("/proc/sys/vm/drop_caches", "2");
	ok(pool_bytes(heap) == 0, "%s: and when memory is wanted", heap->name);
	ok(found(heap->fd, ZCBUF_ALLOC_RECYCLE, 0) == SIZE, "%s: then it is zeroed again",
	   heap->name);
}

/* A page that a pipe has is not the owner's alone. */
static void held_pages(const struct heap *heap)
{
	struct buffer buffer;
	struct iovec iov = { .iov_len = PAGE };
	unsigned char page[PAGE];
	int pipes[2];

	pool_drain(heap);
	buffer = get(heap->fd, ZCBUF_ALLOC_RECYCLE);
	if (pipe2(pipes, O_CLOEXEC))
		bail("pipe2: %s", strerror(errno));
	memset(buffer.memory, 0x5a, SIZE);
	iov.iov_base = buffer.memory + 7 * PAGE;
	if (vmsplice(pipes[1], &iov, 1, 0) != (ssize_t)PAGE)
		bail("vmsplice: %s", strerror(errno));
	drop_buffer(&buffer);
	buffer = get(heap->fd, ZCBUF_ALLOC_RECYCLE);
	memset(buffer.memory, 0xff, SIZE);
	ok(read(pipes[0], page, PAGE) == (ssize_t)PAGE && page[0] == 0x5a &&
		   !memcmp(page, page + 1, PAGE - 1),
	   "%s: what somebody has pinned does not come again", heap->name);
	drop_buffer(&buffer);
	close(pipes[0]);
	close(pipes[1]);
}

static const struct heap *racing;
static atomic_bool over;
static atomic_int wrong;

/* One open file after the other; all bytes are zero or its own. */
static void *owner(void *arg)
{
	unsigned char mine = (uintptr_t)arg;

	while (!over) {
		int node = heap_open(racing, O_RDWR);
		struct buffer late = get(node, ZCBUF_ALLOC_RECYCLE);

		wrong += count(&late, 0) != SIZE;
		memset(late.memory, mine, SIZE);
		for (int round = 0; round < 3; round++) {
			struct buffer buffer = get(node, ZCBUF_ALLOC_RECYCLE);

			wrong += count(&buffer, 0) + count(&buffer, mine) != SIZE;
			memset(buffer.memory, mine, SIZE);
			drop_buffer(&buffer);
		}
		wrong += found(node, 0, 0) != SIZE;
		close(node);
		drop_buffer(&late);
	}
	return NULL;
}

static void *trims(void *arg)
{
	while (!over) {
		pool_set_limit(racing, 0);
		pool_set_limit(racing, *(long long *)arg);
		write_file("/proc/sys/vm/drop_caches", "2");
		pause_ms(5);
	}
	return NULL;
}

static void races(const struct heap *heap)
{
	long long limit = pool_limit(heap);
	pthread_t threads[4];

	racing = heap;
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, owner,
			       (void *)(uintptr_t)(0x11 * (i + 1)));
	pthread_create(&threads[3], NULL, trims, &limit);
	pause_ms(3000);
	over = true;
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	pool_set_limit(heap, limit);
	ok(wrong == 0, "%s: also while others come, go and empty the pool", heap->name);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);

	if (pool_bytes(heap) < 0) {
		ok(found(heap->fd, ZCBUF_ALLOC_RECYCLE, 0) == SIZE &&
			   found(heap->fd, ZCBUF_ALLOC_RECYCLE, 0) == SIZE,
		   "%s: without a pool all memory is zero", heap->name);
		return;
	}
	seen_by_its_owner(heap);
	seen_by_nobody_else(heap);
	ends_with_the_file(heap);
	gives_way(heap);
	held_pages(heap);
	races(heap);
	pool_drain(heap);
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

int main(void)
{
	cgroups_begin();
	for_each_heap(test);
	return done_testing();
}
