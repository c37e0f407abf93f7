// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a board with media hardware does, by the drivers that the kernel's developers wrote to try
 * such things: a camera (vivid), a converter of pixel formats (vim2m), an encoder and a decoder
 * (vicodec), and a display that writes down what it shows (vkms). All that lies between them
 * are buffers of ours, which each of them imports. Distributions build none but the camera.
 */
#include <drm_fourcc.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

#include "vivid.h"

#define WIDTH  640
#define HEIGHT 480
#define FRAMES 4
#define PIXELS ((size_t)WIDTH * HEIGHT)

/* A device with a queue for what it reads and one for what it makes of it. */
struct m2m {
	struct video in, out;
	uint32_t out_format;
	bool makes; /* the second one streams as well */
};

static bool have_drivers(void)
{
	return system("modprobe -a vim2m vicodec vkms 2> /dev/null") == 0;
}

/* By its name in sysfs: the encoder and the decoder are of one driver. */
static struct m2m m2m_open(const char *name, uint32_t in_format, uint32_t out_format)
{
	struct m2m m2m = { { -1, V4L2_BUF_TYPE_VIDEO_OUTPUT, 0 },
			   { -1, V4L2_BUF_TYPE_VIDEO_CAPTURE, 0 },
			   out_format,
			   false };

	for (int i = 0; i < 64 && m2m.in.fd < 0; i++) {
		char path[64], text[64];

		snprintf(path, sizeof(path), "/sys/class/video4linux/video%d/name", i);
		if (!read_file(path, text, sizeof(text)))
			continue;
		text[strcspn(text, "\n")] = 0;
		snprintf(path, sizeof(path), "/dev/video%d", i);
		if (!strcmp(text, name))
			m2m.in.fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	}
	if (m2m.in.fd < 0)
		bail("no video node is called %s: %s", name, strerror(errno));
	m2m.out.fd = m2m.in.fd;
	video_format(&m2m.in, WIDTH, HEIGHT, in_format);
	video_format(&m2m.out, WIDTH, HEIGHT, out_format);
	return m2m;
}

static bool m2m_on(const struct m2m *m2m)
{
	return video_request(&m2m->in, V4L2_MEMORY_DMABUF, 1) > 0 &&
	       video_on(&m2m->in) == 0;
}

/* A decoder knows what it makes when it has seen what there is to decode. */
static bool m2m_makes(struct m2m *m2m)
{
	if (m2m->makes)
		return true;
	video_format(&m2m->out, WIDTH, HEIGHT, m2m->out_format);
	m2m->makes = video_request(&m2m->out, V4L2_MEMORY_DMABUF, 1) > 0 &&
		     video_on(&m2m->out) == 0;
	return m2m->makes;
}

/* IN_FD's first IN_SIZE bytes go through the device to OUT_FD; how many came out, or 0. */
static uint32_t m2m_run(struct m2m *m2m, int in_fd, uint32_t in_size, int out_fd)
{
	struct v4l2_buffer made = { .type = m2m->out.type, .memory = V4L2_MEMORY_DMABUF };
	struct pollfd pollfd = { .fd = m2m->out.fd, .events = POLLIN };

	m2m->in.size = in_size;
	if (video_queue(&m2m->in, 0, in_fd) || !m2m_makes(m2m) ||
	    video_queue(&m2m->out, 0, out_fd) || poll(&pollfd, 1, 20000) != 1 ||
	    ioctl(m2m->out.fd, VIDIOC_DQBUF, &made) || made.flags & V4L2_BUF_FLAG_ERROR ||
	    video_dequeue(&m2m->in, V4L2_MEMORY_DMABUF) != 0)
		return 0;
	return made.bytesused;
}

/* vkms by atomic mode setting: one plane in, and the writeback connector out. */
struct display {
	int fd;
	uint32_t crtc, plane, writeback, mode;
};

/* The number of a property, or 0; VALUE gets what it is. */
static uint32_t property(const struct display *display, uint32_t object, uint32_t type,
			 const char *name, uint64_t *value)
{
	drmModeObjectProperties *all =
		drmModeObjectGetProperties(display->fd, object, type);
	uint32_t found = 0;

	for (uint32_t i = 0; all && i < all->count_props; i++) {
		drmModePropertyRes *one = drmModeGetProperty(display->fd, all->props[i]);

		if (!strcmp(one->name, name)) {
			found = one->prop_id;
			if (value)
				*value = all->prop_values[i];
		}
		drmModeFreeProperty(one);
	}
	drmModeFreeObjectProperties(all);
	return found;
}

static struct display display_open(void)
{
	struct display display = { .fd = drmOpen("vkms", NULL) };
	drmModePlaneRes *planes;
	drmModeModeInfo mode;
	drmModeRes *res;

	if (display.fd < 0 || drmSetClientCap(display.fd, DRM_CLIENT_CAP_ATOMIC, 1) ||
	    drmSetClientCap(display.fd, DRM_CLIENT_CAP_WRITEBACK_CONNECTORS, 1))
		bail("vkms does not open: %s", strerror(errno));
	res = drmModeGetResources(display.fd);
	planes = drmModeGetPlaneResources(display.fd);
	display.crtc = res->crtcs[0];
	for (uint32_t i = 0; i < planes->count_planes && !display.plane; i++) {
		uint64_t type = 0;

		property(&display, planes->planes[i], DRM_MODE_OBJECT_PLANE, "type", &type);
		if (type == DRM_PLANE_TYPE_PRIMARY)
			display.plane = planes->planes[i];
	}
	for (int i = 0; i < res->count_connectors; i++) {
		drmModeConnector *one = drmModeGetConnector(display.fd, res->connectors[i]);

		if (one->connector_type == DRM_MODE_CONNECTOR_WRITEBACK)
			display.writeback = one->connector_id;
		for (int m = 0; m < one->count_modes && !display.mode; m++) {
			mode = one->modes[m];
			if (mode.hdisplay == WIDTH && mode.vdisplay == HEIGHT)
				drmModeCreatePropertyBlob(display.fd, &mode, sizeof(mode),
							  &display.mode);
		}
		drmModeFreeConnector(one);
	}
	drmModeFreePlaneResources(planes);
	drmModeFreeResources(res);
	if (!display.plane || !display.writeback || !display.mode)
		bail("vkms has plane %u, writeback connector %u, and mode %u",
		     display.plane, display.writeback, display.mode);
	return display;
}

static uint32_t display_import(const struct display *display, int fd, uint32_t format,
			       uint32_t pitch, uint32_t *handle)
{
	uint32_t fb = 0;

	if (drmPrimeFDToHandle(display->fd, fd, handle) ||
	    drmModeAddFB2(display->fd, WIDTH, HEIGHT, format, (uint32_t[4]){ *handle },
			  (uint32_t[4]){ pitch }, (uint32_t[4]){ 0 }, &fb, 0))
		bail("vkms takes no framebuffer: %s", strerror(errno));
	return fb;
}

/* Shows FRAME, and waits until what was shown is in SHOWN. */
static bool display_show(const struct display *display, uint32_t frame, uint32_t shown)
{
	drmModeAtomicReq *request = drmModeAtomicAlloc();
	int32_t fence = -1;
	struct {
		uint32_t object, type;
		const char *name;
		uint64_t value;
	} wanted[] = {
		{ display->crtc, DRM_MODE_OBJECT_CRTC, "ACTIVE", 1 },
		{ display->crtc, DRM_MODE_OBJECT_CRTC, "MODE_ID", display->mode },
		{ display->plane, DRM_MODE_OBJECT_PLANE, "FB_ID", frame },
		{ display->plane, DRM_MODE_OBJECT_PLANE, "CRTC_ID", display->crtc },
		{ display->plane, DRM_MODE_OBJECT_PLANE, "SRC_W", WIDTH << 16 },
		{ display->plane, DRM_MODE_OBJECT_PLANE, "SRC_H", HEIGHT << 16 },
		{ display->plane, DRM_MODE_OBJECT_PLANE, "CRTC_W", WIDTH },
		{ display->plane, DRM_MODE_OBJECT_PLANE, "CRTC_H", HEIGHT },
		{ display->writeback, DRM_MODE_OBJECT_CONNECTOR, "CRTC_ID", display->crtc },
		{ display->writeback, DRM_MODE_OBJECT_CONNECTOR, "WRITEBACK_FB_ID", shown },
		{ display->writeback, DRM_MODE_OBJECT_CONNECTOR, "WRITEBACK_OUT_FENCE_PTR",
		  (uintptr_t)&fence },
	};
	struct pollfd done = { .events = POLLIN };
	bool is_shown;

	for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++)
		drmModeAtomicAddProperty(request, wanted[i].object,
					 property(display, wanted[i].object, wanted[i].type,
						  wanted[i].name, NULL),
					 wanted[i].value);
	is_shown = drmModeAtomicCommit(display->fd, request, DRM_MODE_ATOMIC_ALLOW_MODESET,
				       NULL) == 0;
	if (!is_shown)
		diag("atomic commit: %s", strerror(errno));
	drmModeAtomicFree(request);
	done.fd = fence;
	is_shown = is_shown && poll(&done, 1, 20000) == 1;
	if (fence >= 0)
		close(fence);
	return is_shown;
}

static void display_off(const struct display *display)
{
	drmModeAtomicReq *request = drmModeAtomicAlloc();
	static const char *const planes[] = { "FB_ID", "CRTC_ID" }, *const crtcs[] = {
		"ACTIVE", "MODE_ID"
	};

	for (int i = 0; i < 2; i++) {
		drmModeAtomicAddProperty(request, display->plane,
					 property(display, display->plane,
						  DRM_MODE_OBJECT_PLANE, planes[i], NULL),
					 0);
		drmModeAtomicAddProperty(request, display->crtc,
					 property(display, display->crtc,
						  DRM_MODE_OBJECT_CRTC, crtcs[i], NULL),
					 0);
	}
	drmModeAtomicAddProperty(request, display->writeback,
				 property(display, display->writeback,
					  DRM_MODE_OBJECT_CONNECTOR, "CRTC_ID", NULL),
				 0);
	drmModeAtomicCommit(display->fd, request, DRM_MODE_ATOMIC_ALLOW_MODESET, NULL);
	drmModeAtomicFree(request);
}

/* The CPU looks at what devices wrote, and wipes it, so that nothing old is taken for new. */
struct seen {
	int fd;
	size_t size;
	uint8_t *memory;
};

static struct seen see(const struct heap *heap, size_t size)
{
	struct seen seen = { must_alloc(heap, size), size, NULL };

	seen.memory = must_map(seen.fd, size);
	return seen;
}

static void look(const struct seen *seen)
{
	sync_all(seen->fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW);
}

static void wipe(const struct seen *seen)
{
	memset(seen->memory, 0xa5, seen->size);
	sync_all(seen->fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW);
}

static void forget(struct seen *seen)
{
	munmap(seen->memory, seen->size);
	close(seen->fd);
}

/* Is there a picture at all? */
static bool has_colours(const uint8_t *rgb)
{
	for (size_t i = 3; i < 3 * PIXELS; i += 3)
		if (memcmp(rgb, rgb + i, 3) != 0)
			return true;
	return false;
}

/* Red, green, blue to blue, green, red. */
static bool is_swapped(const uint8_t *rgb, const uint8_t *bgr)
{
	for (size_t i = 0; i < 3 * PIXELS; i += 3)
		if (rgb[i] != bgr[i + 2] || rgb[i + 1] != bgr[i + 1] ||
		    rgb[i + 2] != bgr[i])
			return false;
	return true;
}

/* The codec may lose a little: the mean difference of two bytes. */
static double difference(const uint8_t *one, const uint8_t *other)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < 3 * PIXELS; i++)
		sum += abs(one[i] - other[i]);
	return (double)sum / (3 * PIXELS);
}

static bool is_shown(const uint8_t *bgr, const uint8_t *bgrx)
{
	for (size_t i = 0; i < PIXELS; i++)
		if (memcmp(bgr + 3 * i, bgrx + 4 * i, 3) != 0)
			return false;
	return true;
}

static void chain(const struct heap *heap)
{
	struct held before = held(heap);
	struct video video = camera();
	struct m2m converter = m2m_open("vim2m", V4L2_PIX_FMT_RGB24, V4L2_PIX_FMT_BGR24);
	struct m2m encoder =
		m2m_open("stateful-encoder", V4L2_PIX_FMT_BGR24, V4L2_PIX_FMT_FWHT);
	struct m2m decoder =
		m2m_open("stateful-decoder", V4L2_PIX_FMT_FWHT, V4L2_PIX_FMT_BGR24);
	struct display display = display_open();
	int converted = 0, close_to = 0, shown = 0, frames = 0;
	struct seen raw, swapped, coded, decoded, screen;
	uint32_t handles[2], frame_fb, screen_fb;

	video_control(&video, "Horizontal Movement", 5);
	video_format(&video, WIDTH, HEIGHT, V4L2_PIX_FMT_RGB24);
	raw = see(heap, video.size);
	swapped = see(heap, converter.out.size);
	coded = see(heap, encoder.out.size);
	decoded = see(heap, decoder.out.size);
	screen = see(heap, 4 * PIXELS);
	frame_fb = display_import(&display, decoded.fd, DRM_FORMAT_RGB888, 3 * WIDTH,
				  &handles[0]);
	screen_fb = display_import(&display, screen.fd, DRM_FORMAT_XRGB8888, 4 * WIDTH,
				   &handles[1]);
	ok(video_request(&video, V4L2_MEMORY_DMABUF, 1) > 0 &&
		   video_queue(&video, 0, raw.fd) == 0 && video_on(&video) == 0 &&
		   m2m_on(&converter) && m2m_on(&encoder) && m2m_on(&decoder),
	   "%s: camera, converter, encoder, and decoder stream", heap->name);
	for (; frames < FRAMES; frames++) {
		const char *at = "camera";
		uint32_t bytes = 0;

		if (video_dequeue(&video, V4L2_MEMORY_DMABUF) == 0) {
			at = "converter";
			bytes = m2m_run(&converter, raw.fd, 3 * PIXELS, swapped.fd);
		}
		if (bytes) {
			at = "encoder";
			bytes = m2m_run(&encoder, swapped.fd, 3 * PIXELS, coded.fd);
		}
		if (bytes) {
			at = "decoder";
			bytes = m2m_run(&decoder, coded.fd, bytes, decoded.fd);
		}
		if (bytes) {
			at = "display";
			bytes = display_show(&display, frame_fb, screen_fb);
		}
		if (!bytes) {
			diag("frame %d does not get beyond the %s", frames, at);
			break;
		}
		look(&raw);
		look(&swapped);
		look(&coded);
		look(&decoded);
		look(&screen);
		converted +=
			has_colours(raw.memory) && is_swapped(raw.memory, swapped.memory);
		close_to += difference(swapped.memory, decoded.memory) < 1;
		shown += is_shown(decoded.memory, screen.memory);
		wipe(&raw);
		wipe(&swapped);
		wipe(&coded);
		wipe(&decoded);
		wipe(&screen);
		video_queue(&video, 0, raw.fd);
	}
	ok(frames == FRAMES, "%s: %d frames go all the way", heap->name, FRAMES);
	ok(converted == FRAMES, "%s: converted to the last byte", heap->name);
	ok(close_to == FRAMES, "%s: decoded as nearly as the codec can", heap->name);
	ok(shown == FRAMES, "%s: and each pixel is shown", heap->name);

	display_off(&display);
	drmModeRmFB(display.fd, frame_fb);
	drmModeRmFB(display.fd, screen_fb);
	drmClose(display.fd);
	close(converter.in.fd);
	close(encoder.in.fd);
	close(decoder.in.fd);
	close(video.fd);
	forget(&raw);
	forget(&swapped);
	forget(&coded);
	forget(&decoded);
	forget(&screen);
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

static void test(const struct heap *heap)
{
	if (heap_can(heap, ZCBUF_HEAP_CAP_VMAP))
		chain(heap);
}

int main(void)
{
	if (!have_drivers()) {
		skip("this kernel has no vim2m, vicodec, and vkms");
		return done_testing();
	}
	for_each_heap(test);
	ok(system("modprobe -r vim2m vicodec vkms") == 0,
	   "the drivers can be unloaded again");
	return done_testing();
}
