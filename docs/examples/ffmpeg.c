/* SPDX-License-Identifier: MIT-0 */
/*
 * ffmpeg: a buffer becomes an AVFrame of AV_PIX_FMT_DRM_PRIME, as a decoder or filter of FFmpeg takes it,
 * and FFmpeg maps it. No byte is copied.
 */
#include <drm_fourcc.h>
#include <libavutil/hwcontext.h>
#include <libavutil/hwcontext_drm.h>
#include <libavutil/pixdesc.h>
#include <libzcbuf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH	  1920
#define HEIGHT	  1080
#define STRIDE	  (WIDTH * 4)
#define TRY(call) fine(call, #call)

static void fine(int status, const char *call)
{
	if (status >= 0)
		return;
	fprintf(stderr, "%s: %s\n", call, av_err2str(status));
	exit(1);
}

static void free_descriptor(void *buffer, uint8_t *descriptor)
{
	zcbuf_buffer_unref(buffer);
	av_free(descriptor);
}

/* FFmpeg gets a reference to the buffer. */
static AVFrame *wrap(struct zcbuf_buffer *buffer, AVBufferRef *frames)
{
	AVDRMFrameDescriptor *descriptor = av_mallocz(sizeof(*descriptor));
	AVFrame *frame = av_frame_alloc();

	*descriptor = (AVDRMFrameDescriptor){
		.nb_objects = 1,
		.objects[0] = { .fd = zcbuf_buffer_fd(buffer),
				.size = zcbuf_buffer_size(buffer),
				.format_modifier = DRM_FORMAT_MOD_LINEAR },
		.nb_layers = 1,
		.layers[0] = { .format = DRM_FORMAT_XRGB8888,
			       .nb_planes = 1,
			       .planes[0].pitch = STRIDE },
	};
	frame->format = AV_PIX_FMT_DRM_PRIME;
	frame->width = WIDTH;
	frame->height = HEIGHT;
	frame->data[0] = (uint8_t *)descriptor;
	frame->buf[0] = av_buffer_create(frame->data[0], sizeof(*descriptor),
					 free_descriptor, zcbuf_buffer_ref(buffer), 0);
	frame->hw_frames_ctx = av_buffer_ref(frames);
	return frame;
}

int main(int argc, char **argv)
{
	AVFrame *frame, *mapped = av_frame_alloc();
	AVBufferRef *device, *frames;
	AVHWFramesContext *pool;
	struct zcbuf_buffer *buffer;
	struct zcbuf_heap *heap;
	struct zcbuf_ctx *ctx;
	void *pixels;

	if (argc != 2) {
		fprintf(stderr, "usage: ffmpeg /dev/dri/renderDN\n");
		return 2;
	}
	TRY(av_hwdevice_ctx_create(&device, AV_HWDEVICE_TYPE_DRM, argv[1], NULL, 0));
	frames = av_hwframe_ctx_alloc(device);
	pool = (AVHWFramesContext *)frames->data;
	pool->format = AV_PIX_FMT_DRM_PRIME;
	pool->sw_format = AV_PIX_FMT_BGR0;
	pool->width = WIDTH;
	pool->height = HEIGHT;
	TRY(av_hwframe_ctx_init(frames));

	TRY(zcbuf_ctx_new(&ctx));
	TRY(zcbuf_heap_open(ctx, NULL, &heap));
	TRY(zcbuf_heap_alloc(heap, STRIDE * HEIGHT, NULL, &buffer));
	frame = wrap(buffer, frames);

	mapped->format = pool->sw_format;
	TRY(av_hwframe_map(mapped, frame, AV_HWFRAME_MAP_READ));
	TRY(zcbuf_buffer_map(buffer, ZCBUF_SYNC_WRITE, &pixels));
	TRY(zcbuf_buffer_begin(buffer, ZCBUF_SYNC_WRITE));
	memset((char *)pixels + 500 * STRIDE, 0x80,
	       STRIDE); /* seen by FFmpeg: the same memory */
	TRY(zcbuf_buffer_end(buffer, ZCBUF_SYNC_WRITE));
	printf("%dx%d %s, line 499: %#x, line 500: %#x\n", mapped->width, mapped->height,
	       av_get_pix_fmt_name(mapped->format),
	       mapped->data[0][499 * mapped->linesize[0]],
	       mapped->data[0][500 * mapped->linesize[0]]);

	av_frame_free(&mapped);
	av_frame_free(&frame);
	av_buffer_unref(&frames);
	av_buffer_unref(&device);
	zcbuf_buffer_unref(buffer);
	zcbuf_heap_unref(heap);
	zcbuf_ctx_unref(ctx);
	return 0;
}
