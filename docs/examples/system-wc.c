/* SPDX-License-Identifier: MIT-0 */
/*
 * zcbuf-system-wc CARD: the CPU draws a picture, and a display shows that memory.
 * Its writes are gathered, and leave the CPU in any order, by END at the latest; reads are slow.
 * So each line is made in the cache, and then only written.
 */
#include <err.h>
#include <fcntl.h>
#include <libzcbuf.h>
#include <stdio.h>
#include <string.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

#define TRY(call) ((call) < 0 ? err(1, #call) : (void)0)

int main(int argc, char **argv)
{
	int card = argc == 2 ? open(argv[1], O_RDWR | O_CLOEXEC) : -1;
	drmModeRes *res = drmModeGetResources(card);
	drmModeConnector *screen = res ? drmModeGetConnector(card, *res->connectors) : NULL;
	struct zcbuf_ctx *ctx;
	struct zcbuf_heap *heap;
	struct zcbuf_buffer *frame;
	uint32_t line[16384], handle, fb;
	void *pixels;

	if (!screen || !screen->count_modes) {
		fprintf(stderr, "usage: system-wc /dev/dri/cardN, with a screen\n");
		return 2;
	}
	drmModeModeInfo *mode = &screen->modes[0];
	size_t width = mode->hdisplay, height = mode->vdisplay, stride = width * 4;

	TRY(zcbuf_ctx_new(&ctx));
	TRY(zcbuf_heap_open(ctx, "zcbuf-system-wc", &heap));
	TRY(zcbuf_heap_alloc(heap, stride * height, NULL, &frame));
	TRY(zcbuf_buffer_map(frame, ZCBUF_SYNC_WRITE, &pixels));
	TRY(zcbuf_buffer_begin(frame, ZCBUF_SYNC_WRITE));
	for (size_t y = 0; y < height; y++) {
		for (size_t x = 0; x < width; x++)
			line[x] = 255 * x / width << 16 | 255 * y / height << 8 | 0x80;
		memcpy((char *)pixels + y * stride, line, stride);
	}
	TRY(zcbuf_buffer_end(frame, ZCBUF_SYNC_WRITE));

	TRY(drmPrimeFDToHandle(card, zcbuf_buffer_fd(frame), &handle));
	TRY(drmModeAddFB(card, width, height, 24, 32, stride, handle, &fb));
	TRY(drmModeSetCrtc(card, res->crtcs[0], fb, 0, 0, &screen->connector_id, 1, mode));
	printf("%zux%zu on the screen until Enter\n", width, height);
	fflush(stdout);
	getchar();
	return 0; /* the display stops, and all of it goes */
}
