// SPDX-License-Identifier: GPL-2.0-only
/*
 * Through libdrm: a GPU imports buffers, and a display shows them. What is on the screen is
 * read back from the video memory, where the kernel lets us.
 */
#include <drm_fourcc.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

#include <sys/sysmacros.h>

#include "zc.h"

static void prime(const struct heap *heap)
{
	int vgem = drmOpen("vgem", NULL), fd = must_alloc(heap, 4 * PAGE), other, back;
	uint32_t handle, again;

	if (vgem < 0) {
		skip("%s: no vgem", heap->name);
		close(fd);
		return;
	}
	ok(drmPrimeFDToHandle(vgem, fd, &handle) == 0, "%s: vgem imports it", heap->name);
	ok(info(fd).attachments == 1, "%s: and is attached", heap->name);
	other = dup(fd);
	ok(drmPrimeFDToHandle(vgem, other, &again) == 0 && again == handle,
	   "%s: twice the same buffer is one handle", heap->name);
	close(other);
	ok(drmPrimeHandleToFD(vgem, handle, DRM_CLOEXEC | DRM_RDWR, &back) == 0 &&
		   info(back).inode == info(fd).inode,
	   "%s: exported again it is the same dma-buf", heap->name);
	close(back);
	close(fd);

	/* The handle alone holds it now. */
	ok(drmPrimeHandleToFD(vgem, handle, DRM_CLOEXEC | DRM_RDWR, &back) == 0 &&
		   info(back).attachments == 1,
	   "%s: a handle holds the buffer without an fd", heap->name);
	drmCloseBufferHandle(vgem, handle);
	ok(info(back).attachments == 0, "%s: and lets it go", heap->name);
	close(back);
	drmClose(vgem);
}

/* Each of many; and all at once when the GPU is closed. */
static void many(const struct heap *heap)
{
	struct held before = held(heap);
	int vgem = drmOpen("vgem", NULL), failed = 0;

	if (vgem < 0) {
		skip("%s: no vgem", heap->name);
		return;
	}
	for (int i = 0; i < 200; i++) {
		uint32_t handle;
		int fd = must_alloc(heap, PAGE << i % 4);

		failed += drmPrimeFDToHandle(vgem, fd, &handle) != 0;
		close(fd);
	}
	ok(!failed && heap_now(heap).used_buffers == before.buffers + 200,
	   "%s: 200 buffers are held by a GPU alone", heap->name);
	drmClose(vgem);
	ok(held_as(heap, before), "%s: and go when it is closed", heap->name);
}

/*
 * Importers of no pages say so themselves; vgem is not one of them. From Linux 7 on it imports
 * without asking for pages, as it has no device that would use them.
 */
static void no_pages(const struct heap *heap)
{
	struct held before = held(heap);
	int vgem = drmOpen("vgem", NULL), fd = must_alloc(heap, PAGE);
	uint32_t handle;
	bool imported = drmPrimeFDToHandle(vgem, fd, &handle) == 0;

	ok(imported || errno == EOPNOTSUPP, "%s: a GPU is refused when it wants pages",
	   heap->name);
	ok(info(fd).attachments == (imported ? 1 : 0), "%s: and is attached only if it is not",
	   heap->name);
	close(fd);
	drmClose(vgem);
	ok(held_as(heap, before), "%s: and holds nothing in the end", heap->name);
}

struct screen {
	int fd;
	char driver[32];
	drmModeConnector *connector;
	uint32_t crtc;
	drmModeModeInfo mode;
	uint8_t *vram; /* what is shown, or NULL */
};

/* The video memory behind the screen; root may map it when the kernel has iomem=relaxed. */
static uint8_t *map_vram(const struct screen *screen, size_t size)
{
	char path[64];
	struct stat node;
	uint8_t *vram;
	int fd;

	fstat(screen->fd, &node);
	snprintf(path, sizeof(path), "/sys/dev/char/%u:%u/device/resource0",
		 major(node.st_rdev), minor(node.st_rdev));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	vram = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	return vram == MAP_FAILED ? NULL : vram;
}

/* The first card with a connected display. */
static bool find_screen(struct screen *screen)
{
	for (int i = 0; i < 8; i++) {
		char path[32];
		drmVersion *version;
		drmModeRes *res;

		snprintf(path, sizeof(path), "/dev/dri/card%d", i);
		screen->fd = open(path, O_RDWR | O_CLOEXEC);
		res = screen->fd < 0 ? NULL : drmModeGetResources(screen->fd);
		if (!res) {
			close(screen->fd);
			continue;
		}
		for (int c = 0; c < res->count_connectors; c++) {
			drmModeConnector *connector =
				drmModeGetConnector(screen->fd, res->connectors[c]);

			if (connector->connection != DRM_MODE_CONNECTED ||
			    !connector->count_modes) {
				drmModeFreeConnector(connector);
				continue;
			}
			version = drmGetVersion(screen->fd);
			snprintf(screen->driver, sizeof(screen->driver), "%s",
				 version->name);
			drmFreeVersion(version);
			screen->connector = connector;
			screen->crtc = res->crtcs[0];
			/* 800x600 has no rows with padding on any of these displays. */
			screen->mode = connector->modes[0];
			for (int m = 0; m < connector->count_modes; m++)
				if (connector->modes[m].hdisplay == 800 &&
				    connector->modes[m].vdisplay == 600)
					screen->mode = connector->modes[m];
			drmModeFreeResources(res);
			return true;
		}
		drmModeFreeResources(res);
		close(screen->fd);
	}
	return false;
}

/* A picture in which each pixel is something else, in shades that 16 bits can show as well. */
static uint32_t pixel(uint32_t seed, uint32_t x, uint32_t y)
{
	uint32_t red = (x + seed) & 0x1f, green = (x / 32 + y) & 0x3f,
		 blue = (y / 8) & 0x1f;

	return red << 19 | green << 10 | blue << 3;
}

static void draw(uint8_t *memory, uint32_t pitch, const drmModeModeInfo *mode,
		 uint32_t seed)
{
	for (uint32_t y = 0; y < mode->vdisplay; y++)
		for (uint32_t x = 0; x < mode->hdisplay; x++)
			((volatile uint32_t *)(memory + (size_t)y * pitch))[x] =
				pixel(seed, x, y);
}

/* The screen may have fewer bits a pixel than the picture; then the upper ones are shown. */
static uint32_t seen(const uint8_t *row, uint32_t x, uint32_t bytes)
{
	uint32_t p;

	switch (bytes) {
	case 4:
		return ((const uint32_t *)row)[x] & 0xffffff;
	case 3:
		return row[3 * x] | row[3 * x + 1] << 8 | row[3 * x + 2] << 16;
	default:
		p = ((const uint16_t *)row)[x];
		return (p >> 11) << 19 | ((p >> 5) & 0x3f) << 10 | (p & 0x1f) << 3;
	}
}

static bool on_screen(const struct screen *screen, uint32_t seed)
{
	const drmModeModeInfo *mode = &screen->mode;

	for (uint32_t bytes = 4; bytes >= 2; bytes--) {
		bool same = true;

		for (uint32_t y = 0; y < mode->vdisplay && same; y++)
			for (uint32_t x = 0; x < mode->hdisplay && same; x++)
				same = seen(screen->vram +
						    (size_t)y * mode->hdisplay * bytes,
					    x, bytes) == pixel(seed, x, y);
		if (same)
			return true;
	}
	return false;
}

/* The display may be a frame late. */
static bool comes_on_screen(const struct screen *screen, uint32_t seed)
{
	for (int tries = 0; tries < 20; tries++, pause_ms(100))
		if (on_screen(screen, seed))
			return true;
	return false;
}

/* Shown from its offset in the dma-buf on: OFFSET is 0 for a buffer of one frame. */
static void show(const struct heap *heap, struct screen *screen, int fd, uint8_t *memory,
		 uint32_t seed, const char *what)
{
	const drmModeModeInfo *mode = &screen->mode;
	uint32_t handle = 0, pitch = mode->hdisplay * 4, fb = 0;
	int error;

	draw(memory, pitch, mode, seed);
	error = drmPrimeFDToHandle(screen->fd, fd, &handle);
	if (error) {
		skip("%s: %s does not import dma-bufs on this kernel: %s", heap->name,
		     screen->driver, strerror(errno));
		return;
	}
	error = drmModeAddFB2(screen->fd, mode->hdisplay, mode->vdisplay,
			      DRM_FORMAT_XRGB8888, (uint32_t[4]){ handle },
			      (uint32_t[4]){ pitch }, (uint32_t[4]){ 0 }, &fb, 0);
	if (error) {
		skip("%s: %s makes no framebuffer of an import on this kernel: %s",
		     heap->name, screen->driver, strerror(errno));
		drmCloseBufferHandle(screen->fd, handle);
		return;
	}
	ok(drmModeSetCrtc(screen->fd, screen->crtc, fb, 0, 0,
			  &screen->connector->connector_id, 1,
			  (drmModeModeInfo *)mode) == 0,
	   "%s: %s shows %s", heap->name, screen->driver, what);
	ok(info(fd).attachments == 1, "%s: it is attached", heap->name);
	if (screen->vram)
		ok(comes_on_screen(screen, seed), "%s: each pixel of it is on the screen",
		   heap->name);
	else
		skip("%s: the video memory cannot be read: boot with iomem=relaxed",
		     heap->name);

	/* A change is shown when the display is told of it. */
	draw(memory, pitch, mode, seed + 7);
	drmModeDirtyFB(screen->fd, fb,
		       &(drmModeClip){ 0, 0, mode->hdisplay, mode->vdisplay }, 1);
	if (screen->vram)
		ok(comes_on_screen(screen, seed + 7), "%s: and what is drawn next",
		   heap->name);
	drmModeSetCrtc(screen->fd, screen->crtc, 0, 0, 0, NULL, 0, NULL);
	drmModeRmFB(screen->fd, fb);
	drmCloseBufferHandle(screen->fd, handle);
	ok(info(fd).attachments == 0, "%s: the display lets go of it", heap->name);
}

static void display(const struct heap *heap)
{
	struct screen screen = { .fd = -1 };
	int fd, part;
	uint8_t *memory;
	size_t size;

	if (!find_screen(&screen)) {
		skip("%s: no display", heap->name);
		return;
	}
	size = (size_t)screen.mode.hdisplay * screen.mode.vdisplay * 4;
	size = (size + PAGE - 1) & -PAGE;
	screen.vram = map_vram(&screen, size);

	fd = must_alloc(heap, size + PAGE);
	memory = must_map(fd, size + PAGE);
	show(heap, &screen, fd, memory, 1, "a buffer");
	part = view(fd, PAGE, size, ZCBUF_VIEW_READ_ONLY);
	show(heap, &screen, part, memory + PAGE, 2, "a read-only view of a part of it");
	close(part);
	munmap(memory, size + PAGE);
	close(fd);

	if (screen.vram)
		munmap(screen.vram, size);
	drmModeFreeConnector(screen.connector);
	close(screen.fd);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);

	if (heap_has_pages(heap)) {
		prime(heap);
		many(heap);
		display(heap);
	} else {
		no_pages(heap);
	}
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

int main(void)
{
	for_each_heap(test);
	return done_testing();
}
