// SPDX-License-Identifier: GPL-2.0-only
/*
 * A camera without scatter-gather: vivid, loaded with allocators=1, takes one contiguous piece
 * of memory a frame, attaches to it and maps it, and refuses all else. vivid is as before when
 * this ends.
 */
#include "importer.h"
#include "vivid.h"

static const char plain[] = "modprobe -r vivid && modprobe vivid n_devs=1 node_types=0x101";

/* Below 4 GiB, where the kernel does not have to copy for a device of 32 bits. */
static int alloc_low(const struct heap *heap, size_t size)
{
	struct zcbuf_ioc_alloc arg = {
		.size = size,
		.flags = heap_can(heap, ZCBUF_HEAP_CAP_DMA32) ? ZCBUF_ALLOC_DMA32 : 0,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};

	return ioctl(heap->fd, ZCBUF_IOC_ALLOC, &arg) ? -1 : arg.fd;
}

static uint64_t physical_page(const void *page)
{
	uint64_t entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (pread(fd, &entry, 8, (uintptr_t)page / PAGE * 8) != 8)
		entry = 0;
	close(fd);
	return entry >> 63 ? entry & ((1ULL << 55) - 1) : 0;
}

/* Chunks may lie side by side by chance. */
static bool is_scattered(int fd, size_t size)
{
	char *memory = must_map(fd, size);
	bool scattered = false;

	memset(memory, 1, size);
	for (size_t at = PAGE; at < size; at += PAGE)
		if (physical_page(memory + at) != physical_page(memory + at - PAGE) + 1)
			scattered = true;
	munmap(memory, size);
	return scattered;
}

static void contiguous(const struct heap *heap)
{
	struct held before = held(heap);
	struct video video = camera();
	int fds[3], wrong = 0;

	video_request(&video, V4L2_MEMORY_DMABUF, 3);
	for (int i = 0; i < 3; i++) {
		fds[i] = alloc_low(heap, video.size);
		wrong += video_queue(&video, i, fds[i]) != 0;
	}
	if (!ok(!wrong, "%s: a camera without scatter-gather takes its buffers",
		heap->name))
		goto out;
	ok(info(fds[0]).attachments == 1, "%s: and attaches to them", heap->name);
	video_on(&video);
	for (int frame = 0; frame < 6; frame++) {
		int i = video_dequeue(&video, V4L2_MEMORY_DMABUF);

		wrong += i < 0 || !shows_reference(fds[i], video.size) ||
			 video_queue(&video, i, fds[i]);
	}
	ok(!wrong, "%s: each frame is the camera's picture, to the last byte", heap->name);
	video_off(&video);
out:
	video_request(&video, V4L2_MEMORY_DMABUF, 0);
	ok(info(fds[0]).attachments == 0, "%s: and lets go of them", heap->name);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	close(video.fd);
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

static void scattered(const struct heap *heap)
{
	struct video video = camera();
	int fds[16], count = 0;
	bool found = false;

	/* Each is held until one is found, so that each is other memory. */
	while (!found && count < 16) {
		fds[count] = alloc_low(heap, video.size);
		found = fds[count] >= 0 && is_scattered(fds[count], video.size);
		count++;
	}
	if (found) {
		video_request(&video, V4L2_MEMORY_DMABUF, 1);
		ok(video_queue(&video, 0, fds[count - 1]) == -1,
		   "%s: a camera without scatter-gather refuses a scattered buffer",
		   heap->name);
		ok(info(fds[count - 1]).attachments == 0,
		   "%s: and is not attached any more", heap->name);
	} else {
		skip("%s: 16 buffers, and none of them scattered", heap->name);
	}
	while (count)
		close(fds[--count]);
	close(video.fd);
}

/* This camera maps for the direction in which it works; an output only reads. */
static void directions(const struct heap *heap)
{
	struct video in = camera(), out = video_open("vivid", V4L2_BUF_TYPE_VIDEO_OUTPUT);
	int fd, narrow;

	if (ioctl(out.fd, VIDIOC_S_OUTPUT, &(int){ 1 }))
		bail("vivid has no HDMI: %s", strerror(errno));
	video_format(&out, 0, 0, V4L2_PIX_FMT_YUYV);
	fd = alloc_low(heap, out.size);
	narrow = view(fd, 0, 0, ZCBUF_VIEW_DEVICE_READ_ONLY);
	video_request(&in, V4L2_MEMORY_DMABUF, 2);
	video_request(&out, V4L2_MEMORY_DMABUF, 2);
	ok(video_queue(&in, 0, narrow) == -1,
	   "%s: a camera may not have a device-read-only view", heap->name);
	ok(video_queue(&out, 0, narrow) == 0, "%s: an output may: it only reads",
	   heap->name);
	video_request(&out, V4L2_MEMORY_DMABUF, 0);
	close(narrow);
	close(fd);
	close(in.fd);
	close(out.fd);
}

/* It wants pages. */
static void refused(const struct heap *heap)
{
	struct held before = held(heap);
	struct video video = camera();
	int fd = must_alloc(heap, video.size);

	video_request(&video, V4L2_MEMORY_DMABUF, 1);
	is_errno(video_queue(&video, 0, fd), EINVAL,
		 "%s: a camera refuses memory without pages", heap->name);
	close(fd);
	close(video.fd);
	ok(held_as(heap, before), "%s: and does not keep it", heap->name);
}

static void test(const struct heap *heap)
{
	if (!heap_has_pages(heap)) {
		refused(heap);
	} else if (bounces_all()) {
		/* The pieces of a frame may come to lie one behind the other, or not. */
	} else if (heap_can(heap, ZCBUF_HEAP_CAP_CONTIGUOUS)) {
		contiguous(heap);
		directions(heap);
	} else if (heap_can(heap, ZCBUF_HEAP_CAP_DMA32)) {
		scattered(heap);
	} /* else the kernel bounces, too */
}

static void reload_plain(void)
{
	if (system(plain))
		diag("vivid could not be loaded again");
}

int main(void)
{
	if (system("modprobe -r vivid && modprobe vivid n_devs=1 node_types=0x101 "
		   "allocators=1"))
		bail("vivid cannot be loaded with allocators=1");
	atexit(reload_plain);
	take_reference();
	for_each_heap(test);
	return done_testing();
}
