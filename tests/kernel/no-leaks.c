// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is allocated is given back, all of it: after 10,000 buffers, each used in some way, and
 * after each way in which an allocation can fail.
 */
#include <sys/resource.h>

#include "vgem.h"

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

static void ten_thousand(const struct heap *heap)
{
	struct held before = held(heap);
	struct counters first;
	int failed = 0;

	/* Caches fill up at first. */
	for (int i = 0; i < 1000; i++)
		use(heap, i);
	first = counters();
	for (int i = 0; i < 10000; i++)
		failed += !use(heap, i);
	ok(!failed, "%s: 10,000 buffers are allocated, used and freed", heap->name);
	ok(held_as(heap, before), "%s: no fd and no buffer is left", heap->name);
	ok(counters_as(first), "%s: no page and no object is left", heap->name);
}

/* All that makes fds, when there is none left. */
static void no_fd_left(const struct heap *heap)
{
	struct zcbuf_ioc_alloc arg = { .size = PAGE, .fd_flags = O_RDWR };
	struct dma_heap_allocation_data data = { .len = PAGE, .fd_flags = O_RDWR };
	struct rlimit limit, none;
	int fd = must_alloc(heap, PAGE), highest, failed = 0;
	struct held before = held(heap);
	struct counters first;

	getrlimit(RLIMIT_NOFILE, &limit);
	none = limit;
	highest = dup(0);
	close(highest);
	none.rlim_cur = highest;
	first = counters();
	setrlimit(RLIMIT_NOFILE, &none);
	is_errno(ioctl(heap->fd, ZCBUF_IOC_ALLOC, &arg), EMFILE,
		 "%s: ALLOC without a free fd", heap->name);
	is_errno(ioctl(heap->fd, DMA_HEAP_IOCTL_ALLOC, &data), EMFILE,
		 "%s: DMA_HEAP_IOCTL_ALLOC without a free fd", heap->name);
	is_errno(view(fd, 0, 0, 0), EMFILE, "%s: VIEW without a free fd", heap->name);
	for (int i = 0; i < 1000; i++)
		failed += view(fd, 0, 0, 0) == -1 && alloc(heap, 16 * PAGE) == -1;
	setrlimit(RLIMIT_NOFILE, &limit);
	ok(failed == 1000, "%s: as often as it is tried", heap->name);
	ok(held_as(heap, before) && info(fd).views == 1, "%s: leaves no fd, buffer or view",
	   heap->name);
	ok(counters_as(first), "%s: and no page and no object", heap->name);
	close(fd);
}

/* A failed copy comes after all else has been done. */
static void nowhere_to_write(const struct heap *heap)
{
	struct zcbuf_ioc_alloc *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
					    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct held before = held(heap);
	struct counters first = counters();
	int failed = 0;

	*page = (struct zcbuf_ioc_alloc){ .size = 16 * PAGE,
					  .fd_flags = O_RDWR,
					  .name = "lost" };
	mprotect(page, PAGE, PROT_READ);
	for (int i = 0; i < 1000; i++)
		failed += ioctl(heap->fd, ZCBUF_IOC_ALLOC, page) == -1 && errno == EFAULT;
	ok(failed == 1000, "%s: ALLOC fails when its result cannot be written", heap->name);
	ok(held_as(heap, before), "%s: and leaves no fd and no buffer", heap->name);
	ok(counters_as(first), "%s: and no page and no object", heap->name);
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
