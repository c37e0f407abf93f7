// SPDX-License-Identifier: GPL-2.0-only
/*
 * open() and mmap() of one node, as with any driver: ALLOC says at which offset of the heap's
 * node a buffer is found, by the open file that allocated it and as long as the buffer lives.
 */
#include "zc.h"

#define SIZE (4 * PAGE)

static void *map_node(int node, size_t length, int prot, uint64_t offset)
{
	return mmap(NULL, length, prot, MAP_SHARED, node, offset);
}

static struct zcbuf_ioc_alloc must_alloc_from(int node)
{
	struct zcbuf_ioc_alloc arg = { .size = SIZE, .fd_flags = O_RDWR | O_CLOEXEC };

	if (ioctl(node, ZCBUF_IOC_ALLOC, &arg))
		bail("no buffer: %s", strerror(errno));
	return arg;
}

static void ranges(const struct heap *heap)
{
	const int prot = PROT_READ | PROT_WRITE;
	struct zcbuf_ioc_alloc one = must_alloc_from(heap->fd),
			       two = must_alloc_from(heap->fd);
	char *memory, *by_fd = must_map(one.fd, SIZE), *part;
	int wrong = 0;

	ok(one.mmap_offset % PAGE == 0 && two.mmap_offset % PAGE == 0,
	   "%s: offsets are whole pages", heap->name);
	ok(one.mmap_offset + SIZE <= two.mmap_offset ||
		   two.mmap_offset + SIZE <= one.mmap_offset,
	   "%s: two buffers lie apart", heap->name);
	memory = map_node(heap->fd, SIZE, prot, one.mmap_offset);
	ok(memory != MAP_FAILED, "%s: a buffer is found at its offset", heap->name);
	fill(by_fd, SIZE, 1);
	ok(is_filled(memory, SIZE, 1), "%s: it is the same memory as by its fd",
	   heap->name);
	ok(info(one.fd).user_mappings == 2, "%s: it counts as a mapping", heap->name);
	munmap(memory, SIZE);

	for (size_t first = 0; first < SIZE; first += PAGE)
		for (size_t length = PAGE; length <= SIZE + PAGE; length += PAGE) {
			bool fits = first + length <= SIZE;

			part = map_node(heap->fd, length, PROT_READ,
					one.mmap_offset + first);
			if (fits != (part != MAP_FAILED) || (!fits && errno != EINVAL) ||
			    (fits && !is_filled_from(part, first, length, 1)))
				wrong++;
			if (part != MAP_FAILED)
				munmap(part, length);
		}
	ok(!wrong, "%s: so is each part of it, and nothing that reaches further",
	   heap->name);
	is_errno(map_node(heap->fd, PAGE, prot, 0x7ffffffff000), EINVAL,
		 "%s: nothing is found where no buffer is", heap->name);
	munmap(by_fd, SIZE);
	close(one.fd);
	close(two.fd);
}

static void rights(const struct heap *heap)
{
	struct zcbuf_ioc_alloc arg = must_alloc_from(heap->fd);
	void *memory;

	is_errno(mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, heap->fd, arg.mmap_offset),
		 EINVAL, "%s: a private mapping is refused", heap->name);
	is_errno(map_node(heap->fd, SIZE, PROT_READ | PROT_EXEC, arg.mmap_offset), EPERM,
		 "%s: an executable mapping is refused", heap->name);
	memory = map_node(heap->fd, SIZE, PROT_READ, arg.mmap_offset);
	is_errno(mprotect(memory, SIZE, PROT_EXEC), EACCES, "%s: and stays refused",
		 heap->name);
	ok(mremap(memory, SIZE, SIZE + PAGE, MREMAP_MAYMOVE) == MAP_FAILED,
	   "%s: it cannot grow", heap->name);
	munmap(memory, SIZE);
	close(arg.fd);
}

static void another_open_file(const struct heap *heap)
{
	struct zcbuf_ioc_alloc arg = must_alloc_from(heap->fd);
	int other = heap_open(heap, O_RDWR), same = dup(heap->fd);
	void *memory;

	is_errno(map_node(other, SIZE, PROT_READ, arg.mmap_offset), EINVAL,
		 "%s: another open file does not find the buffer", heap->name);
	memory = map_node(same, SIZE, PROT_READ, arg.mmap_offset);
	ok(memory != MAP_FAILED, "%s: another fd of the same open file does", heap->name);
	munmap(memory, SIZE);

	struct zcbuf_ioc_alloc first = must_alloc_from(other);

	memory = map_node(other, SIZE, PROT_READ, first.mmap_offset);
	ok(memory != MAP_FAILED, "%s: it finds its own", heap->name);
	munmap(memory, SIZE);
	close(first.fd);
	close(other);
	close(same);
	close(arg.fd);
}

static void lifetime(const struct heap *heap)
{
	struct held before = held(heap);
	int node = heap_open(heap, O_RDWR);
	struct zcbuf_ioc_alloc arg = must_alloc_from(node);
	char *memory, *again;
	pid_t child;

	memory = map_node(node, SIZE, PROT_READ | PROT_WRITE, arg.mmap_offset);
	if (memory == MAP_FAILED)
		bail("cannot map the node: %s", strerror(errno));
	fill(memory, SIZE, 2);
	close(arg.fd);
	ok(is_filled(memory, SIZE, 2), "%s: a mapping holds the buffer without its fd",
	   heap->name);
	again = map_node(node, SIZE, PROT_READ, arg.mmap_offset);
	ok(again != MAP_FAILED && is_filled(again, SIZE, 2),
	   "%s: which can be mapped again", heap->name);
	munmap(again, SIZE);
	child = fork();
	if (child == 0) {
		fill(memory, SIZE, 3);
		_exit(0);
	}
	ok(end_of(child) == 0 && is_filled(memory, SIZE, 3),
	   "%s: and is shared with a child", heap->name);
	munmap(memory, SIZE);
	is_errno(map_node(node, SIZE, PROT_READ, arg.mmap_offset), EINVAL,
		 "%s: a buffer that is gone is found no more", heap->name);

	arg = must_alloc_from(node);
	memory = map_node(node, SIZE, PROT_READ | PROT_WRITE, arg.mmap_offset);
	ok(memory != MAP_FAILED && is_zero(memory, SIZE),
	   "%s: the next one is found, and zero", heap->name);
	fill(memory, SIZE, 4);
	close(node);
	close(arg.fd);
	ok(is_filled(memory, SIZE, 4), "%s: a mapping needs neither node nor fd",
	   heap->name);
	munmap(memory, SIZE);
	ok(held_as(heap, before), "%s: and the buffer goes with it", heap->name);

	node = heap_open(heap, O_RDWR);
	arg = must_alloc_from(node);
	close(node);
	memory = must_map(arg.fd, SIZE);
	ok(is_zero(memory, SIZE) && info(arg.fd).size == SIZE, "%s: a buffer needs no node",
	   heap->name);
	munmap(memory, SIZE);
	close(arg.fd);
	ok(held_as(heap, before), "%s: and goes after it", heap->name);
}

static void views(const struct heap *heap)
{
	struct zcbuf_ioc_alloc arg = must_alloc_from(heap->fd);
	int narrow = view(arg.fd, PAGE, PAGE, ZCBUF_VIEW_READ_ONLY);
	void *memory;

	close(arg.fd);
	memory = map_node(heap->fd, SIZE, PROT_READ | PROT_WRITE, arg.mmap_offset);
	ok(memory != MAP_FAILED,
	   "%s: who allocated it may map what only a view still holds", heap->name);
	munmap(memory, SIZE);
	close(narrow);
	is_errno(map_node(heap->fd, SIZE, PROT_READ, arg.mmap_offset), EINVAL,
		 "%s: and no more when the view has gone", heap->name);
}

static void many(const struct heap *heap)
{
	enum { COUNT = 300 };
	static struct zcbuf_ioc_alloc args[COUNT];
	bool right = true;

	for (int i = 0; i < COUNT; i++) {
		uint64_t *memory;

		args[i] = must_alloc_from(heap->fd);
		memory = map_node(heap->fd, PAGE, PROT_WRITE, args[i].mmap_offset);
		if (memory == MAP_FAILED)
			bail("cannot map number %d: %s", i, strerror(errno));
		*memory = i;
		munmap(memory, PAGE);
		if (i % 3 == 2)
			close(args[i - 1].fd); /* and the next may take its place */
	}
	for (int i = 0; i < COUNT; i++) {
		bool gone = i % 3 == 1;
		uint64_t *memory;

		if (gone)
			continue;
		memory = map_node(heap->fd, PAGE, PROT_READ, args[i].mmap_offset);
		right = right && memory != MAP_FAILED && *memory == (uint64_t)i;
		munmap(memory, PAGE);
		close(args[i].fd);
	}
	ok(right, "%s: of many buffers each is found at its own offset", heap->name);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);

	ranges(heap);
	rights(heap);
	another_open_file(heap);
	lifetime(heap);
	views(heap);
	many(heap);
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

int main(void)
{
	for_each_heap(test);
	return done_testing();
}
