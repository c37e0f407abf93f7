// SPDX-License-Identifier: GPL-2.0-only
/*
 * A camera writes its frames straight into our buffers, and a video output reads them from
 * there: vivid does both, and shows what it would have shown in its own memory.
 */
#include "vivid.h"

#define BUFFERS 4
#define FRAMES	6
#define LOOPED	3

/* So that an old picture is not taken for a new one. */
static void wipe(int fd, size_t size)
{
	void *memory = must_map(fd, size);

	memset(memory, 0xa5, size);
	munmap(memory, size);
}

static void capture(const struct heap *heap)
{
	struct video video = camera();
	int fds[BUFFERS], wrong = 0, frames = 0;

	if (video_request(&video, V4L2_MEMORY_DMABUF, BUFFERS) != BUFFERS)
		bail("no DMABUF streaming: %s", strerror(errno));
	for (int i = 0; i < BUFFERS; i++)
		fds[i] = must_alloc(heap, video.size);
	if (!heap_can(heap, ZCBUF_HEAP_CAP_VMAP)) {
		ok(video_queue(&video, 0, fds[0]) == -1,
		   "%s: a driver that works by the CPU refuses it", heap->name);
		goto out;
	}
	for (int i = 0; i < BUFFERS; i++) {
		wipe(fds[i], video.size);
		wrong += video_queue(&video, i, fds[i]) != 0;
	}
	ok(!wrong && video_on(&video) == 0, "%s: the camera takes its buffers", heap->name);
	for (frames = 0; !wrong && frames < FRAMES; frames++) {
		int i = video_dequeue(&video, V4L2_MEMORY_DMABUF);

		if (i < 0 || !shows_reference(fds[i], video.size)) {
			wrong++;
			break;
		}
		wipe(fds[i], video.size);
		wrong += video_queue(&video, i, fds[i]) != 0;
	}
	ok(!wrong && frames == FRAMES,
	   "%s: each frame is the camera's picture, to the last byte", heap->name);
	video_off(&video);
out:
	video_request(&video, V4L2_MEMORY_DMABUF, 0);
	for (int i = 0; i < BUFFERS; i++)
		close(fds[i]);
	close(video.fd);
}

/* A frame in the middle of a larger buffer. */
static void capture_into_a_view(const struct heap *heap)
{
	struct video video = camera();
	size_t size = video.size + 2 * PAGE;
	int fd = must_alloc(heap, size), part = view(fd, PAGE, video.size, 0), small,
	    read_only;
	char *memory = must_map(fd, size);

	fill(memory, size, 1);
	video_request(&video, V4L2_MEMORY_DMABUF, 1);
	ok(video_queue(&video, 0, part) == 0 && video_on(&video) == 0 &&
		   video_dequeue(&video, V4L2_MEMORY_DMABUF) == 0 &&
		   !memcmp(memory + PAGE, reference, video.size),
	   "%s: a camera can have a view, and fills it", heap->name);
	ok(is_filled(memory, PAGE, 1) &&
		   is_filled_from(memory + size - PAGE, size - PAGE, PAGE, 1),
	   "%s: and nothing around it", heap->name);
	video_off(&video);

	small = view(fd, 0, video.size - PAGE, 0);
	is_errno(video_queue(&video, 0, small), EINVAL,
		 "%s: a view that is too small is refused", heap->name);
	close(small);

	/* Read-only is for the CPU's users; a device may fill what they read. */
	read_only = view(part, 0, 0, ZCBUF_VIEW_READ_ONLY);
	wipe(part, video.size);
	ok(video_queue(&video, 0, read_only) == 0 && video_on(&video) == 0 &&
		   video_dequeue(&video, V4L2_MEMORY_DMABUF) == 0 &&
		   shows_reference(read_only, video.size),
	   "%s: a camera may fill a read-only view", heap->name);
	video_off(&video);
	close(read_only);

	read_only = view(part, 0, 0, ZCBUF_VIEW_DEVICE_READ_ONLY);
	ok(video_queue(&video, 0, read_only) == -1, "%s: but not a device-read-only one",
	   heap->name);
	close(read_only);

	video_request(&video, V4L2_MEMORY_DMABUF, 0);
	munmap(memory, size);
	close(part);
	close(fd);
	close(video.fd);
}

/* The device keeps what it was given, for as long as it streams. */
static void closed_while_streaming(const struct heap *heap)
{
	struct held before = held(heap);
	struct video video = camera();
	int fd = must_alloc(heap, video.size), other;

	video_request(&video, V4L2_MEMORY_DMABUF, 1);
	other = dup(fd);
	ok(video_queue(&video, 0, fd) == 0 && close(fd) == 0 && video_on(&video) == 0 &&
		   video_dequeue(&video, V4L2_MEMORY_DMABUF) == 0 &&
		   shows_reference(other, video.size),
	   "%s: the camera fills a buffer whose fd was closed", heap->name);
	close(other);
	ok(heap_now(heap).used_buffers == before.buffers + 1, "%s: it holds the buffer",
	   heap->name);
	video_off(&video);
	video_request(&video, V4L2_MEMORY_DMABUF, 0);
	close(video.fd);
	ok(held_as(heap, before), "%s: until it stops", heap->name);
}

/*
 * What goes out at vivid's HDMI output may come in at its HDMI input: the last one each. On
 * some kernels, work that vivid leaves behind at each change reads the control before it has
 * its new value, and then takes it back: a connection may need a second time.
 */
static bool connect_hdmi(bool on)
{
	struct video in = video_open("vivid", V4L2_BUF_TYPE_VIDEO_CAPTURE);
	struct video out = video_open("vivid", V4L2_BUF_TYPE_VIDEO_OUTPUT);
	const char *connected = "HDMI 000-0 Is Connected To";
	int wanted = on ? 2 : 0;
	bool done;

	if (ioctl(in.fd, VIDIOC_S_INPUT, &(int){ 3 }) ||
	    ioctl(out.fd, VIDIOC_S_OUTPUT, &(int){ 1 }))
		bail("vivid has no HDMI: %s", strerror(errno));
	done = video_control(&in, "Loop Video", on) ||
	       video_control(&out, "Loop Video", on);
	for (int tries = 0; tries < 10 && video_control(&in, connected, wanted); tries++) {
		pause_ms(300);
		done = video_control_is(&in, connected, wanted);
		if (done)
			break;
	}
	close(in.fd);
	close(out.fd);
	return done;
}

/* 1280x720 at first. */
static void loop(const struct heap *heap)
{
	struct video in = video_open("vivid", V4L2_BUF_TYPE_VIDEO_CAPTURE);
	struct video out = video_open("vivid", V4L2_BUF_TYPE_VIDEO_OUTPUT);
	int in_fds[LOOPED], out_fds[LOOPED], seen = 0;

	if (ioctl(in.fd, VIDIOC_S_INPUT, &(int){ 3 }) ||
	    ioctl(out.fd, VIDIOC_S_OUTPUT, &(int){ 1 }))
		bail("vivid has no HDMI: %s", strerror(errno));
	video_control(&in, "OSD Text Mode", 2);
	video_format(&in, 0, 0, V4L2_PIX_FMT_YUYV);
	video_format(&out, 0, 0, V4L2_PIX_FMT_YUYV);
	ok(in.size == out.size, "%s: both have frames of %u bytes", heap->name, in.size);

	video_request(&in, V4L2_MEMORY_DMABUF, LOOPED);
	video_request(&out, V4L2_MEMORY_DMABUF, LOOPED);
	for (int i = 0; i < LOOPED; i++) {
		uint64_t *memory;

		in_fds[i] = must_alloc(heap, in.size);
		out_fds[i] = must_alloc(heap, out.size);
		memory = must_map(out_fds[i], out.size);
		fill(memory, out.size, 1);
		munmap(memory, out.size);
		if (video_queue(&out, i, out_fds[i]) || video_queue(&in, i, in_fds[i]))
			bail("%s: vivid does not take it: %s", heap->name, strerror(errno));
	}
	ok(video_on(&out) == 0 && video_on(&in) == 0, "%s: input and output stream",
	   heap->name);
	/* While no frame is there to go out, noise comes in. */
	for (double start = seconds(); !seen && seconds() - start < 10;) {
		struct pollfd sent = { .fd = out.fd, .events = POLLOUT };
		void *memory;
		int i;

		while (poll(&sent, 1, 0) == 1 &&
		       (i = video_dequeue(&out, V4L2_MEMORY_DMABUF)) >= 0)
			video_queue(&out, i, out_fds[i]);
		i = video_dequeue(&in, V4L2_MEMORY_DMABUF);
		if (i < 0)
			break;
		memory = must_map(in_fds[i], in.size);
		seen = *(uint64_t *)memory == pattern(1, 0) &&
		       is_filled(memory, in.size, 1);
		munmap(memory, in.size);
		video_queue(&in, i, in_fds[i]);
	}
	ok(seen, "%s: what we wrote went out, and came in, to the last byte", heap->name);
	video_off(&in);
	video_off(&out);
	for (int i = 0; i < LOOPED; i++) {
		close(in_fds[i]);
		close(out_fds[i]);
	}
	close(in.fd);
	close(out.fd);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);

	capture(heap);
	if (heap_can(heap, ZCBUF_HEAP_CAP_VMAP)) {
		capture_into_a_view(heap);
		closed_while_streaming(heap);
		loop(heap);
	}
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

int main(void)
{
	take_reference();
	ok(connect_hdmi(true), "vivid's output is connected to its input");
	for_each_heap(test);
	connect_hdmi(false);
	return done_testing();
}
