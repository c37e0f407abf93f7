/* SPDX-License-Identifier: MIT-0 */
/*
 * zcbuf-contig VIDEO: a camera without scatter-gather writes a frame into a buffer of ours.
 * Such a driver (V4L2's dma-contig) refuses memory that is in more than one piece.
 */
#include <err.h>
#include <fcntl.h>
#include <libzcbuf.h>
#include <linux/videodev2.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define TRY(call) ((call) < 0 ? err(1, #call) : (void)0)

int main(int argc, char **argv)
{
	struct v4l2_format format = { .type = V4L2_BUF_TYPE_VIDEO_CAPTURE };
	struct v4l2_requestbuffers request = {
		.count = 1,
		.type = format.type,
		.memory = V4L2_MEMORY_DMABUF,
	};
	struct v4l2_buffer queued = { .type = format.type, .memory = request.memory };
	int camera = open(argc > 1 ? argv[1] : "/dev/video0", O_RDWR | O_CLOEXEC);
	/* Below 4 GiB: what the camera cannot reach would be copied, frame by frame. */
	const struct zcbuf_alloc_options options = { .flags = ZCBUF_ALLOC_DMA32 };
	struct zcbuf_buffer_info info;
	struct zcbuf_buffer *frame;
	struct zcbuf_heap *heap;
	struct zcbuf_ctx *ctx;
	unsigned long sum = 0;
	void *data;

	TRY(camera);
	TRY(ioctl(camera, VIDIOC_G_FMT, &format));
	TRY(zcbuf_ctx_new(&ctx));
	TRY(zcbuf_heap_open(ctx, "zcbuf-contig", &heap));
	TRY(zcbuf_heap_alloc(heap, format.fmt.pix.sizeimage, &options, &frame));
	TRY(zcbuf_buffer_get_info(frame, &info));
	printf("%zu bytes in %u piece\n", zcbuf_buffer_size(frame), info.chunks);

	TRY(ioctl(camera, VIDIOC_REQBUFS, &request));
	queued.m.fd = zcbuf_buffer_fd(frame);
	TRY(ioctl(camera, VIDIOC_QBUF, &queued));
	TRY(ioctl(camera, VIDIOC_STREAMON, &format.type));
	TRY(ioctl(camera, VIDIOC_DQBUF, &queued)); /* sleeps until the camera is done */

	TRY(zcbuf_buffer_map(frame, ZCBUF_SYNC_READ, &data));
	TRY(zcbuf_buffer_begin(frame, ZCBUF_SYNC_READ)); /* no stale cache */
	for (size_t i = 0; i < queued.bytesused; i++)
		sum += ((unsigned char *)data)[i];
	TRY(zcbuf_buffer_end(frame, ZCBUF_SYNC_READ));
	printf("the camera wrote %u bytes, %lu on average\n", queued.bytesused,
	       sum / queued.bytesused);
	return 0;
}
