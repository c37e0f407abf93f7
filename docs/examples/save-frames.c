/* SPDX-License-Identifier: MIT-0 */
/*
 * save-frames CAMERA COUNT FILE: a camera writes frames into buffers of ours, and a disk reads
 * them from there. No CPU copies a byte, and no page cache fills up.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <libzcbuf.h>
#include <linux/videodev2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BUFFERS	  4 /* one is written to the disk, the camera has the others meanwhile */
#define TRY(call) ((call) < 0 ? err(1, #call) : (void)0)

int main(int argc, char **argv)
{
	struct v4l2_format format = { .type = V4L2_BUF_TYPE_VIDEO_CAPTURE };
	struct v4l2_requestbuffers request = {
		.count = BUFFERS,
		.type = format.type,
		.memory = V4L2_MEMORY_DMABUF,
	};
	struct v4l2_buffer queued = { .type = format.type, .memory = request.memory };
	struct zcbuf_buffer *frame[BUFFERS];
	struct zcbuf_heap *heap;
	struct zcbuf_ctx *ctx;
	unsigned int count, saved = 0, first = 0, last = 0;
	int camera, file;
	ssize_t written;
	size_t step;
	void *pixels;

	if (argc != 4) {
		fprintf(stderr, "usage: save-frames /dev/videoN COUNT FILE\n");
		return 2;
	}
	count = strtoul(argv[2], NULL, 10);
	camera = open(argv[1], O_RDWR | O_CLOEXEC);
	if (camera < 0)
		err(1, "%s", argv[1]);
	file = open(argv[3], O_WRONLY | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0644);
	if (file < 0)
		err(1, "%s%s", argv[3],
		    errno == EINVAL ? " (choose a file system that has O_DIRECT)" : "");

	TRY(ioctl(camera, VIDIOC_G_FMT, &format));
	TRY(ioctl(camera, VIDIOC_REQBUFS, &request));
	TRY(zcbuf_ctx_new(&ctx));
	TRY(zcbuf_heap_open(ctx, "zcbuf-system", &heap));
	for (queued.index = 0; queued.index < BUFFERS; queued.index++) {
		struct zcbuf_buffer **buf = &frame[queued.index];

		TRY(zcbuf_heap_alloc(heap, format.fmt.pix.sizeimage, NULL, buf));
		queued.m.fd = zcbuf_buffer_fd(*buf);
		TRY(ioctl(camera, VIDIOC_QBUF, &queued));
	}
	/* The disk wants whole blocks. Pages are that, and a buffer is made of whole ones. */
	step = (format.fmt.pix.sizeimage + 4095UL) & ~4095UL;

	TRY(ioctl(camera, VIDIOC_STREAMON, &format.type));
	while (saved < count) {
		TRY(ioctl(camera, VIDIOC_DQBUF, &queued)); /* sleeps until there is one */
		if (!(queued.flags & V4L2_BUF_FLAG_ERROR)) {
			struct zcbuf_buffer *buf = frame[queued.index];

			TRY(zcbuf_buffer_map(buf, ZCBUF_SYNC_READ, &pixels));
			TRY(zcbuf_buffer_begin(buf, ZCBUF_SYNC_READ));
			written = pwrite(file, pixels, step, (off_t)saved * step);
			TRY(zcbuf_buffer_end(buf, ZCBUF_SYNC_READ));
			if (written < 0)
				err(1, "%s: frame %u, %zu bytes", argv[3], saved, step);
			if ((size_t)written < step)
				errx(1, "%s: no room for more than %u frames of %zu bytes",
				     argv[3], saved, step);
			last = queued.sequence;
			if (!saved++)
				first = last;
		}
		queued.m.fd = zcbuf_buffer_fd(frame[queued.index]);
		TRY(ioctl(camera, VIDIOC_QBUF, &queued));
	}
	TRY(fsync(file)); /* their number and the file's length */
	printf("%u frames of %u bytes, one each %zu bytes of %s; %u were lost\n", saved,
	       format.fmt.pix.sizeimage, step, argv[3],
	       saved ? last - first + 1 - saved : 0);
	return 0;
}
