// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Which devices take buffers of zcbuf's heaps. Each is given one, and gives it back at once.
 *
 * A device that somebody uses is not disturbed: a GPU has a handle for each of its users, and
 * a camera's buffers belong to whoever asked for them first, until then to nobody. No format is
 * set and no stream is begun.
 */
#include <drm/drm.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "doctor.h"

/* A device, opened, and how it is offered a buffer: 0, or a negative errno. */
struct importer {
	const char *path;
	char driver[64];
	int fd;
	size_t size; /* of a buffer */
	int (*offer)(const struct importer *importer, int buffer);
	struct v4l2_format format; /* of a camera or the like */
};

/* A buffer of one heap: 1 if there is none to try with, else as offer(). */
static int offer_from(struct doctor *doctor, const struct importer *importer,
		      const char *heap_name)
{
	struct zcbuf_buffer *buffer;
	struct zcbuf_heap *heap;
	int r = 1;

	if (zcbuf_heap_open(doctor->ctx, heap_name, &heap) < 0)
		return 1;
	if (!zcbuf_heap_alloc(heap, importer->size, NULL, &buffer)) {
		r = importer->offer(importer, zcbuf_buffer_fd(buffer));
		zcbuf_buffer_unref(buffer);
	}
	zcbuf_heap_unref(heap);
	return r;
}

static void check_importer(struct doctor *doctor, const struct importer *importer)
{
	struct zcbuf_heap_info *heaps;
	char takes[512] = "", refuses[512] = "";
	int count = zcbuf_heap_list(doctor->ctx, &heaps), last = 0;
	bool all = true;

	for (int i = 0; i < count; i++) {
		int r;

		if (heaps[i].backend != ZCBUF_BACKEND_ZCBUF)
			continue;
		r = heaps[i].status ? 1 : offer_from(doctor, importer, heaps[i].name);
		if (r == -EBUSY) {
			finding(doctor, NOTE, "importer",
				"%s (%s): not tried, for somebody uses it", importer->path,
				importer->driver);
			free(heaps);
			return;
		}
		if (!r)
			append(takes, sizeof(takes), heaps[i].name);
		else if (r < 0)
			append(refuses, sizeof(refuses), heaps[i].name);
		last = r < 0 ? r : last;
		all &= !r;
	}
	if (count >= 0)
		free(heaps);
	if (takes[0])
		finding(doctor, FINE, "importer", "%s (%s) takes %s%s%s", importer->path,
			importer->driver, all ? "buffers of each heap" : takes,
			refuses[0] ? "; not " : "", refuses);
	else if (refuses[0])
		finding(doctor, WARNING, "importer",
			"%s (%s) takes no buffer of zcbuf's: %s", importer->path,
			importer->driver, strerror(-last));
	else
		finding(doctor, NOTE, "importer", "%s (%s): not tried without a buffer",
			importer->path, importer->driver);
}

/* -1 if it cannot be opened, and that has been said. */
static int open_device(struct doctor *doctor, const char *path)
{
	int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	int error = fd < 0 ? errno : 0;
	struct stat node;

	if (error == EACCES && !stat(path, &node)) {
		struct denial denial = why_denied(path, &node);

		finding(doctor, NOTE, "importer", "%s: not tried, permission denied: %s",
			path, denial.reason);
		remedy(doctor, "%s", denial.remedy);
	} else if (error) {
		finding(doctor, NOTE, "importer", "%s: not tried: %s", path,
			strerror(error));
	}
	return fd;
}

/* ---- GPUs and displays --------------------------------------------------------------- */

static int offer_drm(const struct importer *importer, int buffer)
{
	struct drm_prime_handle prime = { .fd = buffer };
	struct drm_gem_close gem = { 0 };

	if (ioctl(importer->fd, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime))
		return -errno;
	gem.handle = prime.handle;
	ioctl(importer->fd, DRM_IOCTL_GEM_CLOSE, &gem);
	return 0;
}

static void check_drm(struct doctor *doctor, const char *path)
{
	struct importer importer = { .path = path, .size = 65536, .offer = offer_drm };
	struct drm_version version = { .name = importer.driver,
				       .name_len = sizeof(importer.driver) - 1 };

	importer.fd = open_device(doctor, path);
	if (importer.fd < 0)
		return;
	/* Whoever opens a display that nobody has becomes its master. */
	ioctl(importer.fd, DRM_IOCTL_DROP_MASTER, 0);
	if (ioctl(importer.fd, DRM_IOCTL_VERSION, &version))
		finding(doctor, NOTE, "importer", "%s: no DRM device: %s", path,
			strerror(errno));
	else
		check_importer(doctor, &importer);
	close(importer.fd);
}

struct search {
	struct doctor *doctor;
	const char *prefix;
	bool found;
};

static void find_prefix(void *data, const char *name)
{
	struct search *search = data;

	search->found |= !strncmp(name, search->prefix, strlen(search->prefix));
}

/* A card that has a node for who only renders is tried by that. */
static void check_dri(void *data, const char *name)
{
	struct search render = { .prefix = "renderD" };
	char path[320];

	if (!strncmp(name, "card", 4)) {
		snprintf(path, sizeof(path), "/sys/class/drm/%.64s/device/drm", name);
		for_each_name(path, find_prefix, &render);
	}
	if (render.found || (strncmp(name, "card", 4) && strncmp(name, "renderD", 7)))
		return;
	snprintf(path, sizeof(path), "/dev/dri/%s", name);
	check_drm(data, path);
}

/* ---- cameras, codecs and the like ---------------------------------------------------- */

static int offer_v4l2(const struct importer *importer, int fd)
{
	struct v4l2_requestbuffers request = {
		.type = importer->format.type,
		.memory = V4L2_MEMORY_DMABUF,
		.count = 1,
	};
	struct v4l2_plane planes[VIDEO_MAX_PLANES] = { 0 };
	struct v4l2_buffer buffer = { .type = request.type, .memory = request.memory };
	bool output = V4L2_TYPE_IS_OUTPUT(request.type);
	int r;

	if (V4L2_TYPE_IS_MULTIPLANAR(request.type)) {
		const struct v4l2_pix_format_mplane *pix = &importer->format.fmt.pix_mp;

		buffer.m.planes = planes;
		buffer.length = pix->num_planes;
		for (uint32_t i = 0; i < pix->num_planes && i < VIDEO_MAX_PLANES; i++) {
			planes[i].m.fd = fd;
			planes[i].length = (uint32_t)importer->size;
			if (output)
				planes[i].bytesused = pix->plane_fmt[i].sizeimage;
		}
	} else {
		buffer.m.fd = fd;
		if (output)
			buffer.bytesused = importer->format.fmt.pix.sizeimage;
	}
	if (ioctl(importer->fd, VIDIOC_REQBUFS, &request))
		return -errno;
	r = ioctl(importer->fd, VIDIOC_QBUF, &buffer) ? -errno : 0;
	request.count = 0;
	ioctl(importer->fd, VIDIOC_REQBUFS, &request);
	return r;
}

static uint32_t type_of(uint32_t capabilities)
{
	if (capabilities & (V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_VIDEO_M2M))
		return V4L2_BUF_TYPE_VIDEO_CAPTURE;
	if (capabilities & (V4L2_CAP_VIDEO_CAPTURE_MPLANE | V4L2_CAP_VIDEO_M2M_MPLANE))
		return V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE;
	if (capabilities & V4L2_CAP_VIDEO_OUTPUT)
		return V4L2_BUF_TYPE_VIDEO_OUTPUT;
	if (capabilities & V4L2_CAP_VIDEO_OUTPUT_MPLANE)
		return V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE;
	return 0;
}

/* The bytes of the largest plane of a frame, as the device is set. */
static size_t frame_size(struct importer *importer)
{
	const struct v4l2_pix_format_mplane *pix = &importer->format.fmt.pix_mp;
	size_t size = 0;

	if (ioctl(importer->fd, VIDIOC_G_FMT, &importer->format))
		return 0;
	if (!V4L2_TYPE_IS_MULTIPLANAR(importer->format.type))
		return importer->format.fmt.pix.sizeimage;
	for (uint32_t i = 0; i < pix->num_planes && i < VIDEO_MAX_PLANES; i++)
		if (pix->plane_fmt[i].sizeimage > size)
			size = pix->plane_fmt[i].sizeimage;
	return size;
}

static void check_video(void *data, const char *name)
{
	struct importer importer = { .offer = offer_v4l2 };
	struct v4l2_capability capability = { 0 };
	struct doctor *doctor = data;
	char path[320];

	if (strncmp(name, "video", 5) != 0)
		return;
	snprintf(path, sizeof(path), "/dev/%s", name);
	importer.path = path;
	importer.fd = open_device(doctor, path);
	if (importer.fd < 0)
		return;
	if (ioctl(importer.fd, VIDIOC_QUERYCAP, &capability)) {
		finding(doctor, NOTE, "importer", "%s: no V4L2 device: %s", path,
			strerror(errno));
	} else if (type_of(capability.device_caps) &&
		   (capability.device_caps & V4L2_CAP_STREAMING)) {
		snprintf(importer.driver, sizeof(importer.driver), "%.16s, %.32s",
			 (const char *)capability.driver, (const char *)capability.card);
		importer.format.type = type_of(capability.device_caps);
		importer.size = frame_size(&importer);
		if (importer.size)
			check_importer(doctor, &importer);
		else
			finding(doctor, NOTE, "importer",
				"%s (%s): not tried, for it has no format yet", path,
				importer.driver);
	}
	close(importer.fd);
}

/* ---- RDMA ---------------------------------------------------------------------------- */

static void note_rdma(void *data, const char *name)
{
	finding(data, NOTE, "importer", "%s (RDMA): not tried", name);
}

static bool has_buffers(struct doctor *doctor)
{
	struct zcbuf_heap_info *heaps;
	int count = zcbuf_heap_list(doctor->ctx, &heaps);
	bool found = false;

	for (int i = 0; i < count; i++)
		found |= heaps[i].backend == ZCBUF_BACKEND_ZCBUF && !heaps[i].status;
	if (count >= 0)
		free(heaps);
	return found && doctor->has_room;
}

void doctor_importers(struct doctor *doctor)
{
	if (!has_buffers(doctor)) {
		finding(doctor, NOTE, "importer", "not tried without a buffer of zcbuf's");
		return;
	}
	for_each_name("/dev/dri", check_dri, doctor);
	for_each_name("/sys/class/video4linux", check_video, doctor);
	for_each_name("/sys/class/infiniband", note_rdma, doctor);
}
