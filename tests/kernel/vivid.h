/* SPDX-License-Identifier: GPL-2.0-only */
/* vivid, a camera and a video output without hardware; just enough of V4L2 to stream frames. */
#ifndef VIVID_H
#define VIVID_H

#include <linux/videodev2.h>
#include <poll.h>

#include "zc.h"

struct video {
	int fd;
	uint32_t type; /* V4L2_BUF_TYPE_VIDEO_CAPTURE or V4L2_BUF_TYPE_VIDEO_OUTPUT */
	uint32_t size; /* bytes of a frame */
};

/* The first capture or output node of the driver called DRIVER. */
static inline struct video video_open(const char *driver, uint32_t type)
{
	uint32_t wanted = type == V4L2_BUF_TYPE_VIDEO_OUTPUT ? V4L2_CAP_VIDEO_OUTPUT
							     : V4L2_CAP_VIDEO_CAPTURE;

	for (int i = 0; i < 64; i++) {
		struct v4l2_capability capability;
		char path[32];
		int fd;

		snprintf(path, sizeof(path), "/dev/video%d", i);
		fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
		if (fd >= 0 && ioctl(fd, VIDIOC_QUERYCAP, &capability) == 0 &&
		    !strcmp((char *)capability.driver, driver) &&
		    capability.device_caps & wanted)
			return (struct video){ .fd = fd, .type = type };
		if (fd >= 0)
			close(fd);
	}
	bail("no video node of %s: modprobe %s", driver, driver);
}

/* The control whose name is or begins with NAME; its number is 0 when there is none. */
static inline struct v4l2_control video_find_control(const struct video *video,
						     const char *name)
{
	struct v4l2_queryctrl query = { .id = V4L2_CTRL_FLAG_NEXT_CTRL };

	while (ioctl(video->fd, VIDIOC_QUERYCTRL, &query) == 0) {
		if (!strncmp((char *)query.name, name, strlen(name)))
			return (struct v4l2_control){ .id = query.id };
		query.id |= V4L2_CTRL_FLAG_NEXT_CTRL;
	}
	return (struct v4l2_control){ .id = 0 };
}

static inline bool video_control(const struct video *video, const char *name, int value)
{
	struct v4l2_control control = video_find_control(video, name);

	control.value = value;
	return control.id && ioctl(video->fd, VIDIOC_S_CTRL, &control) == 0;
}

static inline bool video_control_is(const struct video *video, const char *name, int value)
{
	struct v4l2_control control = video_find_control(video, name);

	return control.id && ioctl(video->fd, VIDIOC_G_CTRL, &control) == 0 &&
	       control.value == value;
}

/* Frames of WIDTH by HEIGHT pixels in FOURCC, or as near as the device can come. */
static inline void video_format(struct video *video, uint32_t width, uint32_t height,
				uint32_t fourcc)
{
	struct v4l2_format format = { .type = video->type };

	if (ioctl(video->fd, VIDIOC_G_FMT, &format))
		bail("VIDIOC_G_FMT: %s", strerror(errno));
	if (width)
		format.fmt.pix.width = width;
	if (height)
		format.fmt.pix.height = height;
	format.fmt.pix.pixelformat = fourcc;
	format.fmt.pix.bytesperline = 0; /* no wider than it has to be: nobody writes there */
	if (ioctl(video->fd, VIDIOC_S_FMT, &format))
		bail("VIDIOC_S_FMT: %s", strerror(errno));
	video->size = format.fmt.pix.sizeimage;
}

static inline int video_request(const struct video *video, uint32_t memory, uint32_t count)
{
	struct v4l2_requestbuffers request = { .type = video->type,
					       .memory = memory,
					       .count = count };

	return ioctl(video->fd, VIDIOC_REQBUFS, &request) ? -1 : (int)request.count;
}

/* FD is that of the dma-buf, or -1 for the device's own memory. */
static inline int video_queue(const struct video *video, uint32_t index, int fd)
{
	struct v4l2_buffer buffer = {
		.type = video->type,
		.index = index,
		.memory = fd < 0 ? V4L2_MEMORY_MMAP : V4L2_MEMORY_DMABUF,
		.field = V4L2_FIELD_NONE,
		.bytesused = video->type == V4L2_BUF_TYPE_VIDEO_OUTPUT ? video->size : 0,
	};

	if (fd >= 0)
		buffer.m.fd = fd;
	return ioctl(video->fd, VIDIOC_QBUF, &buffer);
}

/* The number of the next frame's buffer, or -1 when none comes within some seconds. */
static inline int video_dequeue(const struct video *video, uint32_t memory)
{
	struct v4l2_buffer buffer = { .type = video->type, .memory = memory };
	struct pollfd pollfd = {
		.fd = video->fd,
		.events = video->type == V4L2_BUF_TYPE_VIDEO_OUTPUT ? POLLOUT : POLLIN,
	};

	if (poll(&pollfd, 1, 10000) != 1 || ioctl(video->fd, VIDIOC_DQBUF, &buffer))
		return -1;
	return buffer.flags & V4L2_BUF_FLAG_ERROR ? -1 : (int)buffer.index;
}

static inline int video_on(const struct video *video)
{
	return ioctl(video->fd, VIDIOC_STREAMON, &video->type);
}

static inline int video_off(const struct video *video)
{
	return ioctl(video->fd, VIDIOC_STREAMOFF, &video->type);
}

static void *reference; /* a frame of the test picture, from the camera's own memory */

/* The camera without what changes from frame to frame. */
static inline struct video camera(void)
{
	struct video video = video_open("vivid", V4L2_BUF_TYPE_VIDEO_CAPTURE);

	if (ioctl(video.fd, VIDIOC_S_INPUT, &(int){ 0 }))
		bail("VIDIOC_S_INPUT: %s", strerror(errno));
	if (!video_control(&video, "OSD Text Mode", 2) ||
	    !video_control(&video, "Horizontal Movement", 3))
		bail("vivid has no OSD Text Mode or Horizontal Movement");
	video_format(&video, 640, 480, V4L2_PIX_FMT_YUYV);
	return video;
}

static inline void take_reference(void)
{
	struct video video = camera();
	struct v4l2_buffer buffer = { .type = video.type, .memory = V4L2_MEMORY_MMAP };
	void *memory;
	bool picture = false;

	if (video_request(&video, V4L2_MEMORY_MMAP, 2) < 1 ||
	    ioctl(video.fd, VIDIOC_QUERYBUF, &buffer))
		bail("no MMAP buffers: %s", strerror(errno));
	memory =
		mmap(NULL, buffer.length, PROT_READ, MAP_SHARED, video.fd, buffer.m.offset);
	if (memory == MAP_FAILED || video_queue(&video, 0, -1) || video_on(&video) ||
	    video_dequeue(&video, V4L2_MEMORY_MMAP) != 0)
		bail("the camera does not stream to its own memory: %s", strerror(errno));
	reference = malloc(video.size);
	memcpy(reference, memory, video.size);
	for (size_t i = 8; i < video.size / 8; i++)
		picture |= ((uint64_t *)reference)[i] != *(uint64_t *)reference;
	ok(picture, "the camera's picture has more than one colour");
	munmap(memory, buffer.length);
	close(video.fd);
}

static inline bool shows_reference(int fd, size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	bool same;

	sync_all(fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ);
	same = !memcmp(memory, reference, size);
	sync_all(fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ);
	munmap(memory, size);
	return same;
}

#endif /* VIVID_H */
