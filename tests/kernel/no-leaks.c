// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is allocated is given back, all of it: after 10,000 buffers, each used in some way, and
 * after each way in which an allocation can fail.
 */
#include <sys/resource.h>

#include "vgem.h"
#include "zc.h"

static int vgem;

/* The kernel's own counters, in KiB or pages. */
struct counters {
	long long free, slab, vmalloc, mapped;
};

static struct counters counters(void)
{
	return (struct counters){
		.free = free_kib(),
		.slab = number_in("/proc/meminfo", "SUnreclaim"),
		.vmalloc = number_in("/proc/meminfo", "VmallocUsed"),
		.mapped = number_in("/proc/vmstat", "nr_mapped"),
	};
}

/*
 * The kernel does other things meanwhile, and some memory comes back only after a while. What
 * is allowed here is far less than one byte leaked by each of 10,000 buffers would make of
 * pages, and less than the smallest object would make of slab.
 */
static bool counters_as(struct counters before)
{
	struct counters now;

	for (int tries = 0; tries < 30; tries++, pause_ms(100)) {
		now = counters();
		if (now.slab - before.slab < 512 && before.free - now.free < 8192 &&
		    now.vmalloc - before.vmalloc < 256 &&
		    llabs(now.mapped - before.mapped) < 256)
			return true;
	}
	diag("SUnreclaim %lld KiB, free %lld KiB, VmallocUsed %lld KiB, nr_mapped %lld",
	     now.slab, now.free, now.vmalloc, now.mapped);
	diag("before:    %lld KiB, free %lld KiB, VmallocUsed %lld KiB, nr_mapped %lld",
	     before.slab, before.free, before.vmalloc, before.mapped);
	return false;
}

/* One buffer and one of the ways to use it; COUNT goes through sizes and ways. */
static bool use(const struct heap *heap, int count)
{
	static const size_t sizes[] = { 1,	   PAGE, 3 * PAGE, 16 * PAGE,
					17 * PAGE, PAGE, 2 * PAGE };
	size_t size = sizes[count % 7];
	struct zcbuf_ioc_alloc arg = { .size = size, .fd_flags = O_RDWR | O_CLOEXEC };
	bool done = true;
	void *memory;
	int other;

	if (count % 500 == 0)
		arg.size = 2 * MiB;
	if (count % 2)
		strcpy(arg.name, "named");
	if (ioctl(heap->fd, ZCBUF_IOC_ALLOC, &arg))
		return false;
	switch (count % 6) {
	case 0:
		memory = map(arg.fd, arg.size);
		done = memory != MAP_FAILED;
		*(char *)memory = 1;
		munmap(memory, arg.size);
		break;
	case 1:
		other = view(arg.fd, 0, PAGE, ZCBUF_VIEW_READ_ONLY);
		done = other >= 0;
		close(other);
		break;
	case 2:
		memory = mmap(NULL, arg.size, PROT_READ, MAP_SHARED, heap->fd,
			      arg.mmap_offset);
		done = memory != MAP_FAILED;
		close(arg.fd);
		munmap(memory, arg.size);
		return done;
	case 3:
		if (vgem >= 0 && heap_has_pages(heap)) {
			uint32_t handle = drm_import(vgem, arg.fd);

			done = handle;
			drm_forget(vgem, handle);
		}
		break;
	case 4:
		done = sync_all(arg.fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW) == 0 &&
		       ioctl(arg.fd, DMA_BUF_SET_NAME_A, "renamed") == 0;
		break;
	}
	return close(arg.fd) == 0 && done;
}

/*
 * Whether doing it TIMES times leaves the counters as they were. What leaks does so each time
 * again; what the kernel keeps for other reasons, three times in a row it does not.
 */
static bool leaves_nothing(bool (*done)(const struct heap *heap, int count),
			   const struct heap *heap, int times, int *failed)
{
	struct counters before;

	*failed = 0;
	for (int tries = 0; tries < 3; tries++) {
		before = counters();
		for (int i = 0; i < times; i++)
			*failed += !done(heap, i);
		if (counters_as(before))
			return true;
	}
	return false;
}

static void ten_thousand(const struct heap *heap)
{
	struct held before = held(heap);
	bool nothing;
	int failed;

	/* Caches fill up at first. */
	for (int i = 0; i < 1000; i++)
		use(heap, i);
	nothing = leaves_nothing(use, heap, 10000, &failed);
	ok(!failed, "%s: 10,000 buffers are allocated, used and freed", heap->name);
	ok(held_as(heap, before), "%s: no fd and no buffer is left", heap->name);
	ok(nothing, "%s: no page and no object is left", heap->name);
}

static struct rlimit limit, none;
static int parent;

static bool refused_without_fd(const struct heap *heap, int count)
{
	bool refused;

	(void)count;
	setrlimit(RLIMIT_NOFILE, &none);
	refused = view(parent, 0, 0, 0) == -1 && alloc(heap, 16 * PAGE) == -1;
	setrlimit(RLIMIT_NOFILE, &limit);
	return refused;
}

/* All that makes fds, when there is none left. */
static void no_fd_left(const struct heap *heap)
{
	struct zcbuf_ioc_alloc arg = { .size = PAGE, .fd_flags = O_RDWR };
	struct dma_heap_allocation_data data = { .len = PAGE, .fd_flags = O_RDWR };
	struct held before;
	int highest, failed;
	bool nothing;

	parent = must_alloc(heap, PAGE);
	before = held(heap);
	getrlimit(RLIMIT_NOFILE, &limit);
	none = limit;
	highest = dup(0);
	close(highest);
	none.rlim_cur = highest;
	setrlimit(RLIMIT_NOFILE, &none);
	is_errno(ioctl(heap->fd, ZCBUF_IOC_ALLOC, &arg), EMFILE,
		 "%s: ALLOC without a free fd", heap->name);
	is_errno(ioctl(heap->fd, DMA_HEAP_IOCTL_ALLOC, &data), EMFILE,
		 "%s: DMA_HEAP_IOCTL_ALLOC without a free fd", heap->name);
	is_errno(view(parent, 0, 0, 0), EMFILE, "%s: VIEW without a free fd", heap->name);
	setrlimit(RLIMIT_NOFILE, &limit);
	nothing = leaves_nothing(refused_without_fd, heap, 1000, &failed);
	ok(!failed, "%s: as often as it is tried", heap->name);
	ok(held_as(heap, before) && info(parent).views == 1,
	   "%s: leaves no fd, buffer or view", heap->name);
	ok(nothing, "%s: and no page and no object", heap->name);
	close(parent);
}

static struct zcbuf_ioc_alloc *page;

static bool refused_without_result(const struct heap *heap, int count)
{
	(void)count;
	return ioctl(heap->fd, ZCBUF_IOC_ALLOC, page) == -1 && errno == EFAULT;
}

/* A failed copy comes after all else has been done. */
static void nowhere_to_write(const struct heap *heap)
{
	struct held before = held(heap);
	bool nothing;
	int failed;

	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	*page = (struct zcbuf_ioc_alloc){ .size = 16 * PAGE,
					  .fd_flags = O_RDWR,
					  .name = "lost" };
	mprotect(page, PAGE, PROT_READ);
	nothing = leaves_nothing(refused_without_result, heap, 1000, &failed);
	ok(!failed, "%s: ALLOC fails when its result cannot be written", heap->name);
	ok(held_as(heap, before), "%s: and leaves no fd and no buffer", heap->name);
	ok(nothing, "%s: and no page and no object", heap->name);
	munmap(page, PAGE);
}

static void test(const struct heap *heap)
{
	ten_thousand(heap);
	no_fd_left(heap);
	nowhere_to_write(heap);
}

int main(void)
{
	vgem = vgem_open();
	for_each_heap(test);
	return done_testing();
}
