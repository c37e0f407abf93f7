// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where a carveout's buffers lie: at the first place that fits, as aligned as asked, never in
 * each other, and without loss over 100,000 allocations; checked against a map of our own,
 * by physical addresses. And what a program writes to a device's memory, the device has.
 */
#include <glob.h>
#include <sys/resource.h>

#include "importer.h"

static int dev; /* which tells where it finds a buffer */

static int alloc_at(const struct heap *heap, size_t pages, uint64_t alignment,
		    uint64_t *address)
{
	struct zcbuf_ioc_alloc arg = {
		.size = pages * PAGE,
		.alignment = alignment,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};

	if (ioctl(heap->fd, ZCBUF_IOC_ALLOC, &arg))
		return -1;
	if (attach(dev, heap, arg.fd, 64, 0))
		bail("%s: attach: %s", heap->name, strerror(errno));
	*address = must_map_device(dev, BIDIRECTIONAL).address;
	unmap_device(dev);
	detach(dev);
	return arg.fd;
}

static uint64_t start_of(const struct heap *heap)
{
	uint64_t address;
	int fd = alloc_at(heap, heap->is.max_size / PAGE, 0, &address);

	if (fd < 0)
		bail("%s: not all of it can be had: %s", heap->name, strerror(errno));
	close(fd);
	return address;
}

struct buffer {
	int fd; /* or -1 */
	size_t page, pages;
};

#define SLOTS  128
#define LARGEST 192 /* pages: 128 of them are more than a carveout has, so it is full at times */

static char taken[64 * MiB / PAGE];

/* The first place, as gen_pool_first_fit_align() promises it. */
static size_t first_fit(size_t all, uint64_t start, size_t pages, uint64_t alignment)
{
	size_t length = 0, page;

	for (page = 0; page < all; page++) {
		if (length == 0 && (start + page * PAGE) % alignment)
			continue;
		length = taken[page] ? 0 : length + 1;
		if (length == pages)
			return page + 1 - pages;
	}
	return SIZE_MAX;
}

static void first_fits(const struct heap *heap, int times)
{
	struct held before = held(heap);
	size_t all = heap->is.max_size / PAGE;
	uint64_t start = start_of(heap), address;
	struct buffer buffers[SLOTS];
	int wrong = 0, full = 0, count = 0;
	unsigned int seed = 1;

	memset(taken, 0, sizeof(taken));
	for (int i = 0; i < SLOTS; i++)
		buffers[i].fd = -1;
	while (count < times && !wrong) {
		struct buffer *b = &buffers[rand_r(&seed) % SLOTS];
		size_t pages = 1 + rand_r(&seed) % 8;
		uint64_t alignment = PAGE << rand_r(&seed) % 8;
		size_t expected;

		if (b->fd >= 0) {
			close(b->fd);
			memset(taken + b->page, 0, b->pages);
			b->fd = -1;
			continue;
		}
		if (rand_r(&seed) % 8 == 0)
			pages = 1 + rand_r(&seed) % LARGEST;
		/* A buffer is a multiple of its alignment. */
		pages = (pages + alignment / PAGE - 1) / (alignment / PAGE) * (alignment / PAGE);
		expected = first_fit(all, start, pages, alignment);
		b->fd = alloc_at(heap, pages, alignment, &address);
		count++;
		if (expected == SIZE_MAX) {
			wrong += b->fd >= 0 || errno != ENOMEM;
			full++;
			continue;
		}
		if (b->fd < 0 || address != start + expected * PAGE) {
			diag("number %d, %zu pages aligned to %#llx: %#llx, not %#llx; %s",
			     count, pages, (unsigned long long)alignment,
			     (unsigned long long)address,
			     (unsigned long long)(start + expected * PAGE),
			     b->fd < 0 ? strerror(errno) : "");
			wrong++;
			break;
		}
		b->page = expected;
		b->pages = pages;
		memset(taken + b->page, 1, b->pages);
	}
	ok(!wrong && count == times, "%s: %d buffers lie each at the first place that fits",
	   heap->name, times);
	diag("%s: %d found no place", heap->name, full);
	ok(full > times / 1000 && full < times / 2, "%s: and ENOMEM is said just when there is none",
	   heap->name);
	for (int i = 0; i < SLOTS; i++)
		if (buffers[i].fd >= 0)
			close(buffers[i].fd);
	ok(held_as(heap, before), "%s: no fd and no buffer is left", heap->name);
	ok(start_of(heap) == start, "%s: and all of it can be had as one buffer again",
	   heap->name);
}

/* The file behind QEMU's ivshmem lies in out/vm/, one for each machine that runs: find ours. */
static int other_side(const volatile char *memory, size_t offset)
{
	char tag[64], there[64];
	glob_t files;
	int found = -1;

	memcpy(tag, (const char *)memory, sizeof(tag));
	if (glob("out/vm/*/ivshmem", 0, NULL, &files))
		return -1;
	for (size_t i = 0; i < files.gl_pathc && found < 0; i++) {
		int fd = open(files.gl_pathv[i], O_RDWR | O_CLOEXEC);

		if (fd >= 0 && pread(fd, there, sizeof(there), offset) == sizeof(there) &&
		    !memcmp(tag, there, sizeof(tag)))
			found = fd;
		else if (fd >= 0)
			close(fd);
	}
	globfree(&files);
	return found;
}

static void the_device_has_it(const struct heap *heap)
{
	const size_t size = MiB;
	uint64_t start = start_of(heap), address;
	int fds[2], file;
	char *memory, *copy = malloc(size);

	fds[0] = alloc_at(heap, 3, 0, &address); /* so that the other begins somewhere */
	fds[1] = alloc_at(heap, size / PAGE, 0, &address);
	memory = must_map(fds[1], size);
	fill(memory, size, seconds() * 1e9);
	file = other_side(memory, address - start);
	ok(file >= 0, "%s: the host has in its file what was written here", heap->name);
	fill(memory, size, 7);
	ok(pread(file, copy, size, address - start) == (ssize_t)size &&
		   is_filled(copy, size, 7),
	   "%s: every byte, where the buffer lies, and at once", heap->name);
	fill(copy, size, 8);
	ok(pwrite(file, copy, size, address - start) == (ssize_t)size &&
		   is_filled(memory, size, 8),
	   "%s: and what the other side writes is read here", heap->name);
	munmap(memory, size);
	close(fds[1]);
	fds[1] = alloc_at(heap, size / PAGE, 0, &address);
	ok(pread(file, copy, size, address - start) == (ssize_t)size && is_zero(copy, size),
	   "%s: a new buffer is zeroed on the device, too", heap->name);
	close(file);
	close(fds[0]);
	close(fds[1]);
	free(copy);
}

static void test(const struct heap *heap)
{
	if (heap->is.kind != ZCBUF_HEAP_CARVEOUT || !importable(heap))
		return;
	first_fits(heap, !strcmp(heap->name, "zcbuf-carveout-ram") ? 100000 : 10000);
	if (!strcmp(heap->name, "zcbuf-carveout-bar"))
		the_device_has_it(heap);
}

int main(void)
{
	dev = device();
	for_each_heap(test);
	return done_testing();
}
