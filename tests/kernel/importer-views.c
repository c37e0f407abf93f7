// SPDX-License-Identifier: GPL-2.0-only
/* What devices and drivers get of a view: its range, and no more than its rights. */
#include "importer.h"

#define PAGES 21 /* a chunk of 64 KiB and some single pages */
#define SIZE  (PAGES * PAGE)

/* The rest of a test without an attachment makes no sense. */
static void must_attach(int dev, const struct heap *heap, int fd)
{
	if (attach(dev, heap, fd, 64, 0))
		bail("%s: attach: %s", heap->name, strerror(errno));
}

static void ranges(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE), dev = device(), wrong = 0;
	char *memory = must_map(fd, SIZE), copy[PAGE];

	fill(memory, SIZE, 1);
	for (size_t first = 0; first < PAGES; first++)
		for (size_t count = 1; first + count <= PAGES; count += 2) {
			int part = view(fd, first * PAGE, count * PAGE, 0);

			must_attach(dev, heap, part);
			if (must_map_device(dev, TO_DEVICE).length != count * PAGE ||
			    !device_sees(dev, count * PAGE, 1 + first * PAGE / 8) ||
			    device_read(dev, copy, count * PAGE, 1) == 0 ||
			    device_read(dev, copy, count * PAGE - 1, 2) == 0) {
				diag("%zu pages from %zu", count, first);
				wrong++;
			}
			unmap_device(dev);
			detach(dev);
			close(part);
		}
	ok(!wrong, "%s: a device on a view sees its range, and no other", heap->name);

	int part = view(fd, 2 * PAGE, 3 * PAGE, 0);
	int inner = view(part, PAGE, PAGE, 0);

	must_attach(dev, heap, inner);
	must_map_device(dev, FROM_DEVICE);
	memset(copy, 0x5a, PAGE);
	device_write(dev, copy, 0, PAGE);
	unmap_device(dev);
	detach(dev);
	ok(!memcmp(memory + 3 * PAGE, copy, PAGE) && is_filled(memory, 3 * PAGE, 1) &&
		   is_filled_from(memory + 4 * PAGE, 4 * PAGE, SIZE - 4 * PAGE, 1),
	   "%s: what it writes through a view of a view is at its place", heap->name);
	close(inner);
	close(part);
	munmap(memory, SIZE);
	close(dev);
	close(fd);
}

static void vmaps(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE), dev = device(), wrong = 0;
	char *memory = must_map(fd, SIZE), copy[PAGE];

	fill(memory, SIZE, 2);
	must_attach(dev, heap, fd);
	if (!heap_can(heap, ZCBUF_HEAP_CAP_VMAP)) {
		ok(vmap_read(dev, copy, 0, 1) < 0, "%s: a driver cannot map it",
		   heap->name);
		goto close;
	}
	for (size_t offset = 0; offset + 8 <= SIZE; offset += 1021)
		if (vmap_read(dev, copy, offset, 8) || memcmp(copy, memory + offset, 8)) {
			diag("byte %zu", offset);
			wrong++;
		}
	for (size_t offset = 0; offset < SIZE; offset += PAGE)
		if (vmap_read(dev, copy, offset, PAGE) ||
		    memcmp(copy, memory + offset, PAGE)) {
			diag("page %zu", offset / PAGE);
			wrong++;
		}
	ok(!wrong, "%s: a driver's mapping shows what a process's mapping shows",
	   heap->name);
	memset(copy, 0xa5, PAGE);
	ok(vmap_write(dev, copy, 4 * PAGE - 100, 200) == 0 &&
		   !memcmp(memory + 4 * PAGE - 100, copy, 200) &&
		   is_filled(memory, 3 * PAGE, 2) &&
		   is_filled_from(memory + 5 * PAGE, 5 * PAGE, (PAGES - 5) * PAGE, 2),
	   "%s: and can be written", heap->name);
	is_errno(vmap_read(dev, copy, SIZE, 1), EINVAL, "%s: up to its end", heap->name);
	detach(dev);

	fill(memory, SIZE, 3);
	wrong = 0;
	for (size_t first = 0; first < PAGES; first++)
		for (size_t count = 1; first + count <= PAGES; count += 3) {
			int part =
				view(fd, first * PAGE, count * PAGE, ZCBUF_VIEW_READ_ONLY);

			must_attach(dev, heap, part);
			if (vmap_read(dev, copy, (count - 1) * PAGE, PAGE) ||
			    memcmp(copy, memory + (first + count - 1) * PAGE, PAGE) ||
			    vmap_read(dev, copy, count * PAGE - 1, 2) == 0) {
				diag("%zu pages from %zu", count, first);
				wrong++;
			}
			detach(dev);
			close(part);
		}
	ok(!wrong, "%s: a driver's mapping of a view shows its range", heap->name);
close:
	munmap(memory, SIZE);
	close(dev);
	close(fd);
}

/* Read-only is about processes: a device may still write, as display drivers may have to. */
static void read_only(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE), dev = device();
	int part = view(fd, 0, 0, ZCBUF_VIEW_READ_ONLY);
	char *memory = must_map(fd, SIZE);

	must_attach(dev, heap, part);
	for (enum direction d = BIDIRECTIONAL; d <= FROM_DEVICE; d++) {
		ok(map_device(dev, d) == 0, "%s: a read-only view can be mapped %s",
		   heap->name, direction_name[d]);
		unmap_device(dev);
	}
	must_map_device(dev, BIDIRECTIONAL);
	device_fills(dev, 0, SIZE, 4);
	unmap_device(dev);
	ok(is_filled(memory, SIZE, 4), "%s: and written by a device", heap->name);
	munmap(memory, SIZE);
	close(dev);
	close(part);
	close(fd);
}

static void refuses_writers(const struct heap *heap, int dev, int part, const char *what)
{
	char byte;

	if (attach(dev, heap, part, 64, 0)) {
		/* Peer-to-peer devices map both ways from the start, before 6.13. */
		ok(errno == EACCES && heap->is.kind == ZCBUF_HEAP_CARVEOUT,
		   "%s: %s takes no device that maps both ways at once", heap->name, what);
		return;
	}
	is_errno(map_device(dev, FROM_DEVICE), EACCES, "%s: %s is not mapped %s",
		 heap->name, what, direction_name[FROM_DEVICE]);
	is_errno(map_device(dev, BIDIRECTIONAL), EACCES, "%s: %s is not mapped %s",
		 heap->name, what, direction_name[BIDIRECTIONAL]);
	ok(map_device(dev, TO_DEVICE) == 0, "%s: %s is mapped %s", heap->name, what,
	   direction_name[TO_DEVICE]);
	is_errno(map_again(dev, FROM_DEVICE), EACCES, "%s: nor then by a second mapping",
		 heap->name);
	ok(vmap_read(dev, &byte, 0, 1) < 0, "%s: %s is not mapped by drivers", heap->name,
	   what);
	unmap_device(dev);
	detach(dev);
}

static void device_read_only(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE), dev = device(), other = device();
	int part = view(fd, 0, 0, ZCBUF_VIEW_DEVICE_READ_ONLY);
	int inner = view(part, PAGE, PAGE, 0);
	char *memory = must_map(fd, SIZE);

	fill(memory, SIZE, 5);
	refuses_writers(heap, dev, part, "a device-read-only view");
	refuses_writers(heap, dev, inner, "a view of one");

	if (attach(dev, heap, part, 64, 0) == 0) {
		must_map_device(dev, TO_DEVICE);
		ok(device_sees(dev, SIZE, 5), "%s: a device reads through it", heap->name);
		must_attach(other, heap, fd);
		ok(map_device(other, BIDIRECTIONAL) == 0,
		   "%s: the buffer itself is mapped both ways beside it", heap->name);
		device_fills(other, 0, SIZE, 6);
		unmap_device(other);
		sync_all(fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE);
		ok(device_sees(dev, SIZE, 6), "%s: and seen through it", heap->name);
		if (heap_can(heap, ZCBUF_HEAP_CAP_VMAP))
			ok(vmap_write(other, "x", 0, 1) == 0 && memory[0] == 'x',
			   "%s: and mapped by drivers", heap->name);
	}
	munmap(memory, SIZE);
	close(other);
	close(dev);
	close(inner);
	close(part);
	close(fd);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);

	if (!importable(heap))
		return;
	ranges(heap);
	vmaps(heap);
	read_only(heap);
	device_read_only(heap);
	ok(held_as(heap, before), "%s: nothing is left behind", heap->name);
}

int main(void)
{
	for_each_heap(test);
	return done_testing();
}
