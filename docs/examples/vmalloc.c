/* SPDX-License-Identifier: MIT-0 */
/*
 * zcbuf-vmalloc VIDEO: a driver that works on frames with the CPU shows two of ours. It wants
 * each in one piece of the kernel's address space, and there this memory is from birth.
 */
#include <err.h>
#include <fcntl.h>
#include <libzcbuf.h>
#include <linux/videodev2.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define TRY(call) ((call) < 0 ? err(1, #call) : (void)0)

int main(int argc, char **argv)
{
	struct v4l2_format format = { .type = V4L2_BUF_TYPE_VIDEO_OUTPUT };
	struct v4l2_requestbuffers request = {
		.count = 2,
		.type = format.type,
		.memory = V4L2_MEMORY_DMABUF,
	};
	int screen = open(argc > 1 ? argv[1] : "/dev/video1", O_RDWR | O_CLOEXEC);
	struct zcbuf_buffer *frame[2];
	struct v4l2_buffer queued;
	struct zcbuf_heap *heap;
	struct zcbuf_ctx *ctx;
	void *pixels;

	TRY(screen);
	TRY(ioctl(screen, VIDIOC_G_FMT, &format));
	TRY(ioctl(screen, VIDIOC_REQBUFS, &request));
	TRY(zcbuf_ctx_new(&ctx));
	TRY(zcbuf_heap_open(ctx, "zcbuf-vmalloc", &heap));
	for (int i = 0; i < 2; i++) {
		TRY(zcbuf_heap_alloc(heap, format.fmt.pix.sizeimage, NULL, &frame[i]));
		TRY(zcbuf_buffer_map(frame[i], ZCBUF_SYNC_WRITE, &pixels));
		TRY(zcbuf_buffer_begin(frame[i], ZCBUF_SYNC_WRITE));
		memset(pixels, 0x40 << i, format.fmt.pix.sizeimage);
		TRY(zcbuf_buffer_end(frame[i], ZCBUF_SYNC_WRITE));

		queued = (struct v4l2_buffer){ .index = i, .type = format.type };
		queued.memory = V4L2_MEMORY_DMABUF;
		queued.m.fd = zcbuf_buffer_fd(frame[i]);
		queued.length = zcbuf_buffer_size(frame[i]);
		queued.bytesused = format.fmt.pix.sizeimage;
		TRY(ioctl(screen, VIDIOC_QBUF, &queued));
	}
	TRY(ioctl(screen, VIDIOC_STREAMON, &format.type));
	TRY(ioctl(screen, VIDIOC_DQBUF, &queued)); /* sleeps until one is done with */
	printf("%ux%u shown, frame %u\n", format.fmt.pix.width, format.fmt.pix.height,
	       queued.sequence);
	return 0;
}
