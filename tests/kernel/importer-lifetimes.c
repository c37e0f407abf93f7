// SPDX-License-Identifier: GPL-2.0-only
/*
 * A buffer lives as long as a device has it, whoever goes first and however; and mapping,
 * unmapping and syncing may happen at once.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "importer.h"

#define SIZE (64 * 1024 + 3 * PAGE)

/* The rest of a test without an attachment makes no sense. */
static void must_attach(int dev, const struct heap *heap, int fd, unsigned int bits)
{
	if (attach(dev, heap, fd, bits, 0))
		bail("%s: attach: %s", heap->name, strerror(errno));
}

static void one_mapping(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE), dev = device();

	is_errno(map_device(dev, TO_DEVICE), EINVAL,
		 "%s: a device maps what it attached to", heap->name);
	is_errno(detach(dev), EINVAL, "%s: and detaches from that", heap->name);
	must_attach(dev, heap, fd, 64);
	is_errno(attach(dev, heap, fd, 64, 0), EBUSY, "%s: once", heap->name);
	is_errno(unmap_device(dev), EINVAL, "%s: it unmaps what it mapped", heap->name);
	must_map_device(dev, TO_DEVICE);
	is_errno(map_device(dev, TO_DEVICE), EBUSY, "%s: it maps once", heap->name);
	/* The core answers for peer-to-peer devices, before 6.13. */
	if (heap->is.kind != ZCBUF_HEAP_CARVEOUT) {
		is_errno(map_again(dev, TO_DEVICE), EBUSY,
			 "%s: the exporter refuses a second mapping", heap->name);
		is_errno(map_again(dev, FROM_DEVICE), EBUSY,
			 "%s: in another direction, too", heap->name);
	}
	is_errno(detach(dev), EBUSY, "%s: a mapped device stays attached", heap->name);
	ok(info(fd).attachments == 1, "%s: and is counted", heap->name);
	ok(unmap_device(dev) == 0 && map_device(dev, FROM_DEVICE) == 0 &&
		   unmap_device(dev) == 0,
	   "%s: after that it maps in another direction", heap->name);
	ok(detach(dev) == 0 && info(fd).attachments == 0, "%s: and detaches", heap->name);
	close(dev);
	close(fd);
}

/* The importer itself takes no nonsense, or it would be no use in finding any. */
static void arguments(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE), dev = device();
	char *memory = must_map(fd, SIZE);
	int flags = heap->is.kind == ZCBUF_HEAP_CARVEOUT ? ZCBUF_IMPORTER_PEER_TO_PEER : 0;
	struct zcbuf_importer_attach good = { .fd = fd, .flags = flags, .dma_bits = 64 },
				     bad;
	struct zcbuf_importer_map mapping = { .direction = 3 };

	bad = good;
	bad.dma_bits = 0;
	is_errno(ioctl(dev, ZCBUF_IMPORTER_ATTACH, &bad), EINVAL,
		 "a device has an address");
	bad.dma_bits = 65;
	is_errno(ioctl(dev, ZCBUF_IMPORTER_ATTACH, &bad), EINVAL, "of 64 bits at most");
	bad = good;
	bad.flags = 2;
	is_errno(ioctl(dev, ZCBUF_IMPORTER_ATTACH, &bad), EINVAL, "flags are known ones");
	bad = good;
	bad.fd = -1;
	is_errno(ioctl(dev, ZCBUF_IMPORTER_ATTACH, &bad), EBADF, "an fd is open");
	bad.fd = dev;
	is_errno(ioctl(dev, ZCBUF_IMPORTER_ATTACH, &bad), EINVAL, "and a dma-buf");
	is_errno(ioctl(dev, ZCBUF_IMPORTER_ATTACH, NULL), EFAULT, "arguments are memory");
	is_errno(ioctl(dev, _IO('Z', 0xff)), EINVAL, "without an attachment nothing works");
	ok(ioctl(dev, ZCBUF_IMPORTER_ATTACH, &good) == 0, "good arguments are taken");
	is_errno(ioctl(dev, _IO('Z', 0xff)), ENOTTY, "unknown calls are refused");
	is_errno(ioctl(dev, ZCBUF_IMPORTER_MAP, &mapping), EINVAL,
		 "directions are known ones");
	is_errno(ioctl(dev, ZCBUF_IMPORTER_MAP, NULL), EFAULT, "MAP wants memory, too");
	is_errno(ioctl(dev, ZCBUF_IMPORTER_CPU_BEGIN, 3), EINVAL, "access has a direction");
	is_errno(device_read(dev, memory, 0, 1), EINVAL, "a device reads what it mapped");
	must_map_device(dev, BIDIRECTIONAL);
	is_errno(device_read(dev, memory, 0, 0), EINVAL, "something,");
	is_errno(device_read(dev, memory, SIZE, 1), EINVAL, "not what is behind,");
	is_errno(device_read(dev, memory, 1, SIZE), EINVAL, "not beyond the end,");
	is_errno(device_read(dev, memory, 2, UINT64_MAX), EINVAL, "nor all round");
	is_errno(device_read(dev, NULL, 0, SIZE), EFAULT, "into memory");
	is_errno(device_write(dev, NULL, 0, SIZE), EFAULT, "or from it");
	is_errno(ioctl(dev, ZCBUF_IMPORTER_SLOW, ZCBUF_IMPORTER_MAX_DELAY + 1), EINVAL,
		 "slow is not stopped");
	munmap(memory, SIZE);
	close(dev);
	close(fd);
}

static void exporter_goes_first(const struct heap *heap, unsigned int bits)
{
	struct held before = held(heap);
	int fd = must_alloc(heap, SIZE), dev = device();
	char *memory = must_map(fd, SIZE);

	fill(memory, SIZE, 1);
	munmap(memory, SIZE);
	if (!reaches(bits, heap, fd)) {
		skip("%s: too far away for %u bits", heap->name, bits);
		close(fd);
		close(dev);
		return;
	}
	must_attach(dev, heap, fd, bits);
	must_map_device(dev, BIDIRECTIONAL);
	close(fd);
	ok(heap_now(heap).used_buffers == before.buffers + 1,
	   "%s, %u bits: a buffer lives on in its device", heap->name, bits);
	ok(device_sees(dev, SIZE, 1), "%s, %u bits: which still reads it", heap->name,
	   bits);
	ok(device_fills(dev, 0, SIZE, 2) && device_sees(dev, SIZE, 2),
	   "%s, %u bits: and writes it", heap->name, bits);
	close(dev);
	ok(held_as(heap, before), "%s, %u bits: and goes with it", heap->name, bits);
}

static void device_goes_first(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE), dev = device();
	char *memory = must_map(fd, SIZE);

	must_attach(dev, heap, fd, 64);
	must_map_device(dev, FROM_DEVICE);
	device_fills(dev, 0, SIZE, 3);
	close(dev);
	ok(info(fd).attachments == 0, "%s: a device that vanishes leaves no attachment",
	   heap->name);
	ok(is_filled(memory, SIZE, 3), "%s: but what it wrote", heap->name);
	munmap(memory, SIZE);
	close(fd);
}

/* The parent's fd, then the view's: the device has a reference on what it attached to only. */
static void views_go(const struct heap *heap)
{
	struct held before = held(heap);
	int fd = must_alloc(heap, SIZE), dev = device();
	int part = view(fd, PAGE, PAGE, 0);
	char *memory = must_map(fd, SIZE);

	fill(memory, SIZE, 4);
	must_attach(dev, heap, part, 64);
	munmap(memory, SIZE);
	close(fd);
	ok(info(part).views == 1, "%s: a view outlives the buffer's own fd", heap->name);
	close(part);
	must_map_device(dev, TO_DEVICE);
	ok(device_sees(dev, PAGE, 4 + PAGE / 8), "%s: and its device both", heap->name);
	close(dev);
	ok(held_as(heap, before), "%s: the last one takes the buffer with it", heap->name);
}

/* Killed while it maps, with the lock of the fences held. */
static void killed(const struct heap *heap)
{
	struct held before = held(heap);
	pid_t child = fork();

	if (child == 0) {
		int fd = alloc(heap, SIZE), dev = device();

		if (attach(dev, heap, fd, reaches(32, heap, fd) ? 32 : 64, 0))
			_exit(1);
		ioctl(dev, ZCBUF_IMPORTER_SLOW, 300);
		for (;;)
			if (map_device(dev, BIDIRECTIONAL) == 0)
				unmap_device(dev);
	}
	pause_ms(400);
	kill(child, SIGKILL);
	ok(end_of(child) == 128 + SIGKILL, "%s: a process is killed while a device maps",
	   heap->name);
	ok(held_as(heap, before), "%s: and its buffer goes", heap->name);
}

struct race {
	int fd, part, dev, other;
	const struct heap *heap;
	unsigned int bits;
	atomic_bool over;
	atomic_int mappings, syncs, failures;
};

static void *map_and_unmap(void *arg)
{
	struct race *race = arg;
	unsigned int turn = 0;

	for (; !atomic_load(&race->over); turn++) {
		if (map_device(race->dev, turn % 3) || unmap_device(race->dev))
			race->failures++;
		race->mappings++;
	}
	return NULL;
}

static void *attach_and_detach(void *arg)
{
	struct race *race = arg;

	while (!atomic_load(&race->over))
		if (attach(race->other, race->heap, race->part, race->bits, PAGE) ||
		    map_device(race->other, TO_DEVICE) || unmap_device(race->other) ||
		    detach(race->other))
			race->failures++;
	return NULL;
}

static void *sync_parts(void *arg)
{
	struct race *race = arg;
	unsigned int turn = 0;

	for (; !atomic_load(&race->over); turn++) {
		size_t offset = turn * 4099 % (SIZE - 1),
		       length = 1 + turn * 61 % (SIZE - offset);

		if (sync_range(race->fd, offset, length, SYNC_CPU_READS) ||
		    sync_range(race->fd, offset, length, SYNC_CPU_WROTE) ||
		    sync_all(race->part, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW) ||
		    sync_all(race->part, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW) ||
		    info(race->fd).size != SIZE)
			race->failures++;
		race->syncs++;
	}
	return NULL;
}

/* The devices write nothing, so that whatever is copied where, the memory stays the same. */
static void race(const struct heap *heap, unsigned int bits, unsigned int delay)
{
	struct race race = {
		.heap = heap, .bits = bits, .dev = device(), .other = device()
	};
	static void *(*const racers[])(void *) = { map_and_unmap, attach_and_detach,
						   sync_parts };
	long slots = bounce_slots();
	pthread_t thread[3];
	char *memory;

	race.fd = must_alloc(heap, SIZE);
	race.part = view(race.fd, 2 * PAGE, 5 * PAGE, 0);
	memory = must_map(race.fd, SIZE);
	fill(memory, SIZE, 5);
	if (!reaches(bits, heap, race.fd)) {
		skip("%s: too far away for %u bits", heap->name, bits);
		goto close;
	}
	must_attach(race.dev, heap, race.fd, bits);
	ioctl(race.dev, ZCBUF_IMPORTER_SLOW, delay);
	ioctl(race.other, ZCBUF_IMPORTER_SLOW, delay);
	for (int i = 0; i < 3; i++)
		if (pthread_create(&thread[i], NULL, racers[i], &race))
			bail("no thread");
	pause_ms(1500);
	race.over = true;
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	ok(!race.failures && race.mappings && race.syncs,
	   "%s, %u bits, %u ms: devices map while processes sync", heap->name, bits, delay);
	diag("%d mappings, %d syncs, %d failures", race.mappings, race.syncs,
	     race.failures);
	ok(is_filled(memory, SIZE, 5), "%s, %u bits, %u ms: and no byte is lost",
	   heap->name, bits, delay);
close:
	munmap(memory, SIZE);
	close(race.dev);
	close(race.other);
	close(race.part);
	close(race.fd);
	ok(bounce_slots() == slots, "%s, %u bits, %u ms: nor a bounce buffer", heap->name,
	   bits, delay);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);

	if (!importable(heap))
		return;
	one_mapping(heap);
	if (heap->is.index == 0)
		arguments(heap);
	exporter_goes_first(heap, 64);
	exporter_goes_first(heap, 32);
	device_goes_first(heap);
	views_go(heap);
	killed(heap);
	race(heap, 64, 0);
	race(heap, 32, 0);
	race(heap, 32, 1);
	ok(held_as(heap, before), "%s: nothing is left behind", heap->name);
}

int main(void)
{
	for_each_heap(test);
	return done_testing();
}
