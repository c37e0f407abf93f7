// SPDX-License-Identifier: GPL-2.0-only
/*
 * CPU access is bracketed by START and END. Brackets that do not match, come before there is a
 * device or after it has gone are answered as any other, and change no byte.
 */
#include "importer.h"

#define SIZE  (MiB + 5 * PAGE)

#define START (ZCBUF_SYNC_START | ZCBUF_SYNC_READ | ZCBUF_SYNC_WRITE)
#define END   (ZCBUF_SYNC_END | ZCBUF_SYNC_READ | ZCBUF_SYNC_WRITE)

static void brackets(const struct heap *heap, int fd, const char *when)
{
	void *memory = must_map(fd, SIZE);

	fill(memory, SIZE, 1);
	ok(sync_range(fd, 0, SIZE, END) == 0, "%s: END first, %s", heap->name, when);
	ok(sync_all(fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW) == 0,
	   "%s: END of DMA_BUF_IOCTL_SYNC first, %s", heap->name, when);
	ok(sync_range(fd, 0, SIZE, START) == 0 && sync_range(fd, 0, SIZE, START) == 0 &&
		   sync_range(fd, 0, SIZE, END) == 0,
	   "%s: START, START, END, %s", heap->name, when);
	ok(sync_all(fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW) == 0 &&
		   sync_range(fd, PAGE, PAGE, END) == 0,
	   "%s: START of the whole, END of a page, %s", heap->name, when);
	ok(sync_range(fd, PAGE, 1, START) == 0 &&
		   sync_all(fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW) == 0,
	   "%s: START of a byte, END of the whole, %s", heap->name, when);
	ok(is_filled(memory, SIZE, 1), "%s: no byte has changed, %s", heap->name, when);
	munmap(memory, SIZE);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);
	int fd, dev;

	if (!importable(heap))
		return;
	fd = must_alloc(heap, SIZE);
	dev = device();
	brackets(heap, fd, "without a device");
	if (attach(dev, heap, fd, 64, 0))
		bail("%s: attach: %s", heap->name, strerror(errno));
	brackets(heap, fd, "before the device maps");
	must_map_device(dev, BIDIRECTIONAL);
	brackets(heap, fd, "while the device maps");
	ok(device_sees(dev, SIZE, 1), "%s: and the device sees the same", heap->name);
	unmap_device(dev);
	brackets(heap, fd, "after the device unmapped");
	detach(dev);
	brackets(heap, fd, "after the device detached");
	close(dev);

	is_errno(sync_all(fd, 0), EINVAL,
		 "%s: DMA_BUF_IOCTL_SYNC neither to read nor to write", heap->name);
	is_errno(sync_all(fd, DMA_BUF_SYNC_RW | 8), EINVAL,
		 "%s: an unknown flag of DMA_BUF_IOCTL_SYNC", heap->name);
	close(fd);
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

int main(void)
{
	for_each_heap(test);
	return done_testing();
}
