// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fences say when a device has done its work. vgem plays the device: a buffer can be polled,
 * its fences can be taken out and put in as sync_files, and CPU access waits for them.
 */
#include <poll.h>
#include <pthread.h>

#include "vgem.h"
#include "zc.h"

#define SIZE (4 * PAGE)

static int vgem;
static uint32_t elsewhere; /* a buffer of vgem's own, */
static int elsewhere_fd;   /* and its dma-buf */

static int export_fence(int fd, uint32_t flags)
{
	struct dma_buf_export_sync_file arg = { .flags = flags };

	return ioctl(fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &arg) ? -1 : arg.fd;
}

static int import_fence(int fd, uint32_t flags, int sync_file)
{
	struct dma_buf_import_sync_file arg = { .flags = flags, .fd = sync_file };

	return ioctl(fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &arg);
}

/* The handle by which vgem has the dma-buf, or 0 where it cannot have it. */
static uint32_t import(const struct heap *heap, int fd)
{
	uint32_t handle = heap_has_pages(heap) ? drm_import(vgem, fd) : 0;

	if (!handle && heap_has_pages(heap))
		bail("%s: vgem does not import: %s", heap->name, strerror(errno));
	return handle;
}

/*
 * A device begins to work on the buffer. Where vgem cannot have the buffer (HANDLE is 0) it
 * works on another one, and the fence is brought here.
 */
static uint32_t work_on(int fd, uint32_t handle, bool write)
{
	uint32_t fence =
		vgem_begin(vgem, handle ? handle : elsewhere, handle ? write : true);
	int sync_file;

	if (!handle) {
		sync_file = export_fence(elsewhere_fd, DMA_BUF_SYNC_READ);
		if (import_fence(fd, write ? DMA_BUF_SYNC_WRITE : DMA_BUF_SYNC_READ,
				 sync_file))
			bail("no fence: %s", strerror(errno));
		close(sync_file);
	}
	return fence;
}

/* What poll() says at once. */
static int ready(int fd)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN | POLLOUT };

	/* The answer to the first question may be that the kernel begins to watch. */
	poll(&pollfd, 1, 0);
	return pollfd.revents;
}

static void polling(const struct heap *heap, int fd, uint32_t handle)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	uint32_t fence;

	ok(ready(fd) == (POLLIN | POLLOUT),
	   "%s: nobody works on it: it can be read and written", heap->name);
	fence = work_on(fd, handle, false);
	ok(fence && ready(fd) == POLLIN, "%s: a device reads it: it can be read",
	   heap->name);
	vgem_end(vgem, fence);
	ok(ready(fd) == (POLLIN | POLLOUT), "%s: no more: it can be written again",
	   heap->name);
	fence = work_on(fd, handle, true);
	ok(fence && ready(fd) == 0,
	   "%s: a device writes it: it can be neither read nor written", heap->name);
	ok(poll(&pollfd, 1, 20) == 0, "%s: poll() waits as long as it is asked to",
	   heap->name);
	vgem_end(vgem, fence);
	ok(poll(&pollfd, 1, 5000) == 1 && pollfd.revents == POLLIN,
	   "%s: and ends when the device does", heap->name);
	ok(ready(fd) == (POLLIN | POLLOUT), "%s: then it can be read and written",
	   heap->name);
}

static bool signalled(int sync_file)
{
	struct pollfd pollfd = { .fd = sync_file, .events = POLLIN };

	return poll(&pollfd, 1, 0) == 1;
}

static void sync_files(const struct heap *heap, int fd, uint32_t handle)
{
	int other = must_alloc(heap, SIZE), idle = export_fence(fd, DMA_BUF_SYNC_RW), reads,
	    writes;
	uint32_t fence;

	ok(idle >= 0 && signalled(idle),
	   "%s: the fence of an idle buffer has been signalled", heap->name);
	close(idle);
	is_errno(export_fence(fd, 0), EINVAL, "%s: a fence is for reading or for writing",
		 heap->name);
	is_errno(import_fence(fd, DMA_BUF_SYNC_WRITE, fd), EINVAL,
		 "%s: a dma-buf is no fence", heap->name);

	fence = work_on(fd, handle, false);
	reads = export_fence(fd, DMA_BUF_SYNC_READ);
	writes = export_fence(fd, DMA_BUF_SYNC_WRITE);
	ok(signalled(reads) && !signalled(writes),
	   "%s: who wants to write waits for a reading device, who wants to read does not",
	   heap->name);
	vgem_end(vgem, fence);
	ok(signalled(writes), "%s: until it has read", heap->name);
	close(reads);
	close(writes);

	fence = work_on(fd, handle, true);
	reads = export_fence(fd, DMA_BUF_SYNC_READ);
	ok(!signalled(reads), "%s: who wants to read waits for a writing device",
	   heap->name);
	ok(ready(other) == (POLLIN | POLLOUT), "%s: another buffer does not", heap->name);
	ok(import_fence(other, DMA_BUF_SYNC_WRITE, reads) == 0,
	   "%s: until it is given that fence", heap->name);
	ok(ready(other) == 0, "%s: then it does", heap->name);
	vgem_end(vgem, fence);
	ok(signalled(reads) && ready(other) == (POLLIN | POLLOUT),
	   "%s: and one signal is for both", heap->name);
	close(reads);
	close(other);
}

struct later {
	uint32_t fence;
	double done;
};

static void *end_later(void *data)
{
	struct later *later = data;

	pause_ms(50);
	later->done = seconds();
	vgem_end(vgem, later->fence);
	return NULL;
}

/* How CPU access begins: over the whole by the dma-buf, or over a range by ours. */
static int begin_whole(int fd, uint64_t access)
{
	return sync_all(fd, DMA_BUF_SYNC_START | access);
}

static int begin_range(int fd, uint64_t access)
{
	return sync_range(fd, 8, 8, ZCBUF_SYNC_START | access);
}

/* Does it return only after the device has done its work? */
static bool waits(uint32_t handle, bool device_writes, int fd, uint64_t access,
		  int (*begin)(int fd, uint64_t access))
{
	struct later later = { .fence = work_on(fd, handle, device_writes) };
	pthread_t thread;
	double end;
	int error;

	if (!later.fence)
		bail("no fence: %s", strerror(errno));
	pthread_create(&thread, NULL, end_later, &later);
	error = begin(fd, access);
	end = seconds();
	pthread_join(thread, NULL);
	return error == 0 && end >= later.done;
}

static void waiting(const struct heap *heap, int fd, uint32_t handle, const char *which)
{
	static const struct {
		const char *name;
		int (*begin)(int fd, uint64_t access);
	} ways[] = { { "DMA_BUF_IOCTL_SYNC", begin_whole },
		     { "ZCBUF_IOC_SYNC", begin_range } };

	for (int i = 0; i < 2; i++) {
		ok(waits(handle, true, fd, ZCBUF_SYNC_READ, ways[i].begin),
		   "%s: %s of %s to read waits for a writing device", heap->name,
		   ways[i].name, which);
		ok(waits(handle, true, fd, ZCBUF_SYNC_WRITE, ways[i].begin),
		   "%s: %s of %s to write waits for a writing device", heap->name,
		   ways[i].name, which);
		ok(waits(handle, false, fd, ZCBUF_SYNC_WRITE, ways[i].begin),
		   "%s: %s of %s to write waits for a reading device", heap->name,
		   ways[i].name, which);

		uint32_t fence = work_on(fd, handle, false);

		ok(ways[i].begin(fd, ZCBUF_SYNC_READ) == 0 && ready(fd) == POLLIN,
		   "%s: %s of %s to read does not wait for a reading device", heap->name,
		   ways[i].name, which);
		vgem_end(vgem, fence);
	}

	uint32_t fence = work_on(fd, handle, true);
	double start = seconds();

	ok(sync_range(fd, 0, PAGE, ZCBUF_SYNC_END | ZCBUF_SYNC_WRITE) == 0 &&
		   sync_all(fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW) == 0 &&
		   seconds() - start < 2,
	   "%s: END of %s never waits", heap->name, which);
	vgem_end(vgem, fence);
}

static void wake(int signal)
{
	(void)signal;
}

static void interrupted(const struct heap *heap, int fd, uint32_t handle)
{
	struct sigaction action = { .sa_handler = wake };
	uint32_t fence = work_on(fd, handle, true);
	timer_t timer;

	/* It comes again and again: the first may be too early. */
	struct itimerspec every = { { 0, 50000000 }, { 0, 50000000 } };

	sigaction(SIGALRM, &action, NULL);
	timer_create(CLOCK_MONOTONIC, NULL, &timer);
	timer_settime(timer, 0, &every, NULL);
	is_errno(begin_range(fd, ZCBUF_SYNC_READ), EINTR, "%s: a signal ends the wait",
		 heap->name);
	timer_delete(timer);
	vgem_end(vgem, fence);
	ok(begin_range(fd, ZCBUF_SYNC_READ) == 0, "%s: which can be begun again",
	   heap->name);
}

static void views(const struct heap *heap, int fd, uint32_t handle)
{
	int narrow = view(fd, PAGE, PAGE, ZCBUF_VIEW_READ_ONLY), apart;
	uint32_t fence = work_on(fd, handle, true);

	ok(fence && ready(narrow) == 0, "%s: a view shares the fences of its parent",
	   heap->name);
	apart = view(fd, 3 * PAGE, PAGE, 0);
	ok(ready(apart) == 0, "%s: also one that was made meanwhile", heap->name);
	vgem_end(vgem, fence);
	ok(ready(narrow) == (POLLIN | POLLOUT), "%s: and their signals", heap->name);

	uint32_t part = import(heap, apart);

	fence = work_on(apart, part, true);
	ok(fence && ready(fd) == 0 && ready(narrow) == 0,
	   "%s: when it writes there, parent and other views know", heap->name);
	vgem_end(vgem, fence);
	ok(waits(part, true, fd, ZCBUF_SYNC_READ, begin_whole), "%s: and wait for it",
	   heap->name);
	waiting(heap, narrow, handle, "a view");
	drm_forget(vgem, part);
	close(apart);
	close(narrow);
}

/* A device may still be working when nobody wants the result any more. */
static void dropped(const struct heap *heap)
{
	struct held before = held(heap);
	int fd = must_alloc(heap, SIZE), sync_file;
	uint32_t handle = import(heap, fd), fence = work_on(fd, handle, true);

	ready(fd);
	sync_file = export_fence(fd, DMA_BUF_SYNC_READ);
	drm_forget(vgem, handle);
	close(fd);
	vgem_end(vgem, fence);
	ok(signalled(sync_file), "%s: a fence outlives its buffer", heap->name);
	close(sync_file);
	ok(held_as(heap, before), "%s: and does not hold it", heap->name);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);
	int fd = must_alloc(heap, SIZE);
	uint32_t handle = import(heap, fd);

	polling(heap, fd, handle);
	sync_files(heap, fd, handle);
	waiting(heap, fd, handle, "a buffer");
	interrupted(heap, fd, handle);
	views(heap, fd, handle);
	drm_forget(vgem, handle);
	close(fd);
	dropped(heap);
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

int main(void)
{
	vgem = vgem_open();
	if (vgem < 0)
		bail("no vgem: modprobe vgem");
	elsewhere_fd = drm_foreign(vgem);
	elsewhere = drm_import(vgem, elsewhere_fd);
	for_each_heap(test);
	return done_testing();
}
