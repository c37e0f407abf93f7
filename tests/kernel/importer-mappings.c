// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device reads what the CPU wrote and the CPU reads what the device wrote, whatever the
 * device reaches and however small its segments are.
 */
#include "importer.h"

/* Large and small chunks, and not a multiple of any. */
#define SIZE (2 * MiB + 64 * 1024 + 3 * PAGE)

static size_t size_for(const struct heap *heap)
{
	return smaller(SIZE, heap->is.max_size);
}

/* A buffer with a mapping for the CPU and an attached device. */
struct shared {
	const struct heap *heap;
	size_t size;
	char *memory;
	int fd, dev;
	unsigned int bits;
};

static void reads(struct shared *s)
{
	const char *name = s->heap->name;

	fill(s->memory, s->size, 1);
	must_map_device(s->dev, TO_DEVICE);
	ok(device_sees(s->dev, s->size, 1), "%s, %u bits: a device reads what was there",
	   name, s->bits);
	sync_all(s->fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_WRITE);
	fill(s->memory, s->size, 2);
	sync_all(s->fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE);
	ok(device_sees(s->dev, s->size, 2), "%s, %u bits: and what the CPU wrote later",
	   name, s->bits);
	is_errno(device_write(s->dev, "", 0, 1), EACCES,
		 "%s, %u bits: it cannot write in this direction", name, s->bits);
	unmap_device(s->dev);
	ok(is_filled(s->memory, s->size, 2), "%s, %u bits: nothing has changed that", name,
	   s->bits);
}

static void writes(struct shared *s)
{
	const char *name = s->heap->name;
	size_t head = PAGE, tail = 2 * PAGE, middle = s->size - head - tail;

	fill(s->memory, s->size, 3);
	must_map_device(s->dev, FROM_DEVICE);
	device_fills(s->dev, head, middle, 4);
	sync_all(s->fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ);
	ok(is_filled_from(s->memory + head, head, middle, 4),
	   "%s, %u bits: the CPU reads what a device wrote", name, s->bits);
	ok(is_filled(s->memory, head, 3) &&
		   is_filled_from(s->memory + s->size - tail, s->size - tail, tail, 3),
	   "%s, %u bits: what it did not write is as it was", name, s->bits);
	sync_all(s->fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ);
	is_errno(device_read(s->dev, s->memory, 0, 1), EACCES,
		 "%s, %u bits: it cannot read in this direction", name, s->bits);
	device_fills(s->dev, 0, s->size, 5);
	unmap_device(s->dev);
	ok(is_filled(s->memory, s->size, 5),
	   "%s, %u bits: the end of a mapping is enough to see what the device wrote", name,
	   s->bits);
}

static void both(struct shared *s)
{
	const char *name = s->heap->name;

	fill(s->memory, s->size, 6);
	must_map_device(s->dev, BIDIRECTIONAL);
	ok(device_sees(s->dev, s->size, 6),
	   "%s, %u bits: a device reads in both directions", name, s->bits);
	device_fills(s->dev, 0, s->size, 7);
	sync_all(s->fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW);
	ok(is_filled(s->memory, s->size, 7), "%s, %u bits: and writes", name, s->bits);
	fill(s->memory, s->size, 8);
	sync_all(s->fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW);
	ok(device_sees(s->dev, s->size, 8), "%s, %u bits: and reads again", name, s->bits);
	unmap_device(s->dev);
	ok(is_filled(s->memory, s->size, 8), "%s, %u bits: nothing has changed that", name,
	   s->bits);
}

/* The driver of the device, not a process, brackets access. */
static void by_driver(struct shared *s)
{
	must_map_device(s->dev, BIDIRECTIONAL);
	device_fills(s->dev, 0, s->size, 9);
	ok(ioctl(s->dev, ZCBUF_IMPORTER_CPU_BEGIN, BIDIRECTIONAL) == 0 &&
		   is_filled(s->memory, s->size, 9),
	   "%s, %u bits: a driver begins CPU access", s->heap->name, s->bits);
	fill(s->memory, s->size, 10);
	ok(ioctl(s->dev, ZCBUF_IMPORTER_CPU_END, BIDIRECTIONAL) == 0 &&
		   device_sees(s->dev, s->size, 10),
	   "%s, %u bits: and ends it", s->heap->name, s->bits);
	unmap_device(s->dev);
}

static void reach(struct shared *s)
{
	struct zcbuf_importer_map map = must_map_device(s->dev, TO_DEVICE);
	bool bounces = s->bits == 32 && s->heap->is.kind == ZCBUF_HEAP_SYSTEM;

	if (bounces_all())
		bounces = s->heap->is.kind != ZCBUF_HEAP_CARVEOUT;

	ok(map.length == s->size && !map.unreachable,
	   "%s, %u bits: the device reaches all of it", s->heap->name, s->bits);
	if (s->bits == 64 && !bounces)
		ok(!map.bounced, "%s, %u bits: at its own place", s->heap->name, s->bits);
	else if (!bounces || !map.known)
		diag("%s, %u bits: %u of %u segments in bounce buffers", s->heap->name,
		     s->bits, map.bounced, map.nents);
	else if (!has_high_memory() && !bounces_all())
		skip("%s: the device reaches all memory of this machine", s->heap->name);
	else
		ok(map.bounced, "%s, %u bits: through bounce buffers", s->heap->name,
		   s->bits);
	unmap_device(s->dev);
}

static void share(const struct heap *heap, unsigned int bits)
{
	struct shared s = {
		.heap = heap,
		.size = size_for(heap),
		.dev = device(),
		.bits = bits,
	};

	s.fd = must_alloc(heap, s.size);
	s.memory = must_map(s.fd, s.size);
	if (!reaches(bits, heap, s.fd)) {
		skip("%s: too far away for %u bits, and nothing bounces it", heap->name,
		     bits);
		goto close;
	}
	if (!ok(attach(s.dev, heap, s.fd, bits, 0) == 0, "%s: a device of %u bits attaches",
		heap->name, bits))
		goto close;
	reach(&s);
	reads(&s);
	writes(&s);
	both(&s);
	by_driver(&s);
	ok(detach(s.dev) == 0, "%s: the device of %u bits detaches", heap->name, bits);
close:
	munmap(s.memory, s.size);
	close(s.dev);
	close(s.fd);
}

static void segments(const struct heap *heap)
{
	static const unsigned int limits[] = { PAGE, 5000, 64 * 1024, 1 * MiB + 1, 0 };
	size_t size = size_for(heap);
	int fd = must_alloc(heap, size), dev = device();
	char *memory = must_map(fd, size);

	fill(memory, size, 11);
	for (unsigned int i = 0; i < sizeof(limits) / sizeof(*limits); i++) {
		unsigned int limit = limits[i] ?: UINT_MAX;
		struct zcbuf_importer_map map;

		if (attach(dev, heap, fd, 64, limits[i]))
			bail("%s: attach: %s", heap->name, strerror(errno));
		map = must_map_device(dev, BIDIRECTIONAL);
		ok(map.max_segment <= limit && map.length == size,
		   "%s: segments of %u bytes at most", heap->name, limit);
		ok(map.alignment >= PAGE && map.nents >= (size + limit - 1) / limit &&
			   map.nents <= size / PAGE,
		   "%s: of whole pages: %u", heap->name, map.nents);
		if (heap_can(heap, ZCBUF_HEAP_CAP_CONTIGUOUS) && !map.bounced)
			ok(map.contiguous && (limits[i] || map.nents == 1),
			   "%s: one behind the other", heap->name);
		ok(device_sees(dev, size, 11), "%s: in the right order", heap->name);
		unmap_device(dev);
		detach(dev);
	}
	/* Older kernels map for a peer-to-peer importer as it attaches. */
	is_errno(attach(dev, heap, fd, 64, PAGE - 1) ?: map_device(dev, BIDIRECTIONAL),
		 EOPNOTSUPP, "%s: not for a device that takes less than a page at a time",
		 heap->name);
	detach(dev);
	munmap(memory, size);
	close(dev);
	close(fd);
}

static void alignment(const struct heap *heap)
{
	for (size_t align = PAGE; align <= heap->is.max_alignment && align <= 2 * MiB;
	     align *= 8) {
		struct zcbuf_ioc_alloc arg = {
			.size = smaller(2 * align + PAGE, heap->is.max_size / 2),
			.alignment = align,
			.fd_flags = O_RDWR | O_CLOEXEC,
		};
		struct zcbuf_importer_map map;
		int dev = device();

		if (ioctl(heap->fd, ZCBUF_IOC_ALLOC, &arg)) {
			skip("%s: no buffer aligned to %zu: %s", heap->name, align,
			     strerror(errno));
			close(dev);
			continue;
		}
		if (attach(dev, heap, arg.fd, 64, 0))
			bail("%s: attach: %s", heap->name, strerror(errno));
		map = must_map_device(dev, TO_DEVICE);
		ok(map.alignment >= align || map.bounced,
		   "%s: a device finds each piece aligned to %zu", heap->name, align);
		close(dev);
		close(arg.fd);
	}
}

/* Memory below 4 GiB needs no bounce buffers, which is what it is for. */
static void dma32(const struct heap *heap)
{
	struct zcbuf_ioc_alloc arg = {
		.size = size_for(heap),
		.flags = ZCBUF_ALLOC_DMA32,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};
	struct zcbuf_importer_map map;
	int dev;

	if (!heap_can(heap, ZCBUF_HEAP_CAP_DMA32) || bounces_all())
		return;
	if (ioctl(heap->fd, ZCBUF_IOC_ALLOC, &arg))
		bail("%s: ALLOC below 4 GiB: %s", heap->name, strerror(errno));
	dev = device();
	if (attach(dev, heap, arg.fd, 32, 0))
		bail("%s: attach: %s", heap->name, strerror(errno));
	map = must_map_device(dev, BIDIRECTIONAL);
	ok(!map.bounced && !map.unreachable,
	   "%s: a device of 32 bits reaches memory below 4 GiB by itself", heap->name);
	close(dev);
	close(arg.fd);
}

/* More than all bounce buffers together. */
static void too_large(const struct heap *heap)
{
	size_t size = 128 * MiB;
	long slots = bounce_slots();
	int fd, dev;

	if (heap->is.kind != ZCBUF_HEAP_SYSTEM || !has_high_memory())
		return;
	fd = alloc(heap, size);
	if (fd < 0) {
		skip("%s: no %zu bytes to spare", heap->name, size);
		return;
	}
	dev = device();
	if (attach(dev, heap, fd, 32, 0))
		bail("%s: attach: %s", heap->name, strerror(errno));
	if (map_device(dev, TO_DEVICE) == 0) {
		skip("%s: this kernel bounces even %zu bytes", heap->name, size);
	} else {
		ok(errno == EIO || errno == ENOMEM,
		   "%s: a mapping fails when the bounce buffers run out", heap->name);
		ok(bounce_slots() == slots, "%s: and keeps none of them", heap->name);
		is_errno(unmap_device(dev), EINVAL, "%s: and is none", heap->name);
	}
	detach(dev);
	close(fd);
	fd = must_alloc(heap, size_for(heap));
	ok(attach(dev, heap, fd, 32, 0) == 0 && map_device(dev, TO_DEVICE) == 0,
	   "%s: a smaller one does not", heap->name);
	close(dev);
	close(fd);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);
	long slots = bounce_slots();

	if (!importable(heap))
		return;
	share(heap, 64);
	share(heap, 32);
	segments(heap);
	alignment(heap);
	dma32(heap);
	too_large(heap);
	ok(held_as(heap, before) && bounce_slots() == slots,
	   "%s: no buffer and no bounce buffer is left behind", heap->name);
}

int main(void)
{
	for_each_heap(test);
	return done_testing();
}
