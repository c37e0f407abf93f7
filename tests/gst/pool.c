/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The pool that zcbufupload offers, used as elements upstream use it. */
#include "gst-test.h"

#include <libzcbuf.h>

/* Asks zcbufupload for a pool; the harness keeps the element alive. */
static GstBufferPool *ask_for_pool(GstHarness *h, GstCaps *caps, GstQuery **query)
{
	GstBufferPool *pool = NULL;

	*query = gst_query_new_allocation(caps, TRUE);
	if (gst_pad_peer_query(h->srcpad, *query) &&
	    gst_query_get_n_allocation_pools(*query) > 0)
		gst_query_parse_nth_allocation_pool(*query, 0, &pool, NULL, NULL, NULL);
	return pool;
}

static void put_away(GstHarness *h, GstCaps *caps, GstBufferPool *pool, GstQuery *query)
{
	gst_buffer_pool_set_active(pool, FALSE);
	gst_object_unref(pool);
	gst_query_unref(query);
	gst_harness_teardown(h);
	gst_caps_unref(caps);
}

static GstHarness *upload_harness(GstCaps *caps, const gchar *properties)
{
	gchar *line = g_strdup_printf("zcbufupload %s", properties);
	GstHarness *h = gst_harness_new_parse(line);

	gst_harness_add_propose_allocation_meta(h, GST_VIDEO_META_API_TYPE, NULL);
	gst_harness_set_caps(h, gst_caps_ref(caps), gst_caps_ref(caps));
	g_free(line);
	return h;
}

static gboolean configure(GstBufferPool *pool, GstCaps *caps, guint min, guint max,
			  const GstVideoAlignment *align)
{
	GstStructure *config = gst_buffer_pool_get_config(pool);
	GstVideoInfo info;

	gst_video_info_from_caps(&info, caps);
	gst_buffer_pool_config_set_params(config, caps, GST_VIDEO_INFO_SIZE(&info), min,
					  max);
	gst_buffer_pool_config_add_option(config, GST_BUFFER_POOL_OPTION_VIDEO_META);
	if (align) {
		gst_buffer_pool_config_add_option(config,
						  GST_BUFFER_POOL_OPTION_VIDEO_ALIGNMENT);
		gst_buffer_pool_config_set_video_alignment(config, align);
	}
	return gst_buffer_pool_set_config(pool, config);
}

static guint n_rows(const GstVideoFrame *frame, guint plane)
{
	gint comp[GST_VIDEO_MAX_COMPONENTS];

	if (GST_VIDEO_FORMAT_INFO_HAS_PALETTE(frame->info.finfo) && plane == 1)
		return 256;
	gst_video_format_info_component(frame->info.finfo, plane, comp);
	return GST_VIDEO_FRAME_COMP_HEIGHT(frame, comp[0]);
}

/* Each plane gets a value of its own, in all bytes of its rows; no plane may change another. */
static gboolean planes_are_apart(GstBuffer *buffer, const GstVideoInfo *info)
{
	gboolean sound = TRUE;
	GstVideoFrame frame;
	GstMapInfo map;

	if (!gst_video_frame_map(&frame, info, buffer, GST_MAP_READWRITE))
		return FALSE;
	gst_buffer_map(buffer, &map, GST_MAP_READ);
	for (int pass = 0; pass < 2; pass++)
		for (guint p = 0; p < GST_VIDEO_FRAME_N_PLANES(&frame); p++)
			for (guint row = 0; row < n_rows(&frame, p); row++) {
				guint8 *data =
					(guint8 *)GST_VIDEO_FRAME_PLANE_DATA(&frame, p) +
					row * (gsize)GST_VIDEO_FRAME_PLANE_STRIDE(&frame,
										  p);
				gsize bytes = (gsize)info->stride[p];

				if (data + bytes > map.data + map.size)
					sound = FALSE;
				else if (pass == 0)
					memset(data, 0x11 + (int)p, bytes);
				for (gsize i = 0; pass == 1 && sound && i < bytes; i++)
					sound = data[i] == 0x11 + p;
			}
	gst_buffer_unmap(buffer, &map);
	gst_video_frame_unmap(&frame);
	return sound;
}

static gboolean strides_are_aligned(GstBuffer *buffer, guint mask)
{
	GstVideoMeta *meta = gst_buffer_get_video_meta(buffer);

	const GstVideoFormatInfo *info = gst_video_format_get_info(meta->format);

	for (guint i = 0; i < meta->n_planes; i++)
		if (meta->stride[i] & (gint)mask &&
		    !(GST_VIDEO_FORMAT_INFO_HAS_PALETTE(info) && i == 1))
			return FALSE;
	return TRUE;
}

static gboolean try_format(GstVideoFormat format, gint width, gint height,
			   const GstVideoAlignment *align)
{
	GstCaps *caps = gst_caps_new_simple("video/x-raw", "format", G_TYPE_STRING,
					    gst_video_format_to_string(format), "width",
					    G_TYPE_INT, width, "height", G_TYPE_INT, height,
					    "framerate", GST_TYPE_FRACTION, 30, 1, NULL);
	GstHarness *h = upload_harness(caps, "");
	GstQuery *query;
	GstBufferPool *pool = ask_for_pool(h, caps, &query);
	GstBuffer *buffer = NULL;
	GstVideoInfo info;
	gboolean good = FALSE;

	gst_video_info_from_caps(&info, caps);
	if (pool && configure(pool, caps, 1, 1, align) &&
	    gst_buffer_pool_set_active(pool, TRUE) &&
	    gst_buffer_pool_acquire_buffer(pool, &buffer, NULL) == GST_FLOW_OK)
		good = gst_buffer_n_memory(buffer) == 1 &&
		       gst_is_fd_memory(gst_buffer_peek_memory(buffer, 0)) &&
		       gst_buffer_get_size(buffer) >= GST_VIDEO_INFO_SIZE(&info) &&
		       planes_are_apart(buffer, &info) &&
		       strides_are_aligned(buffer, align ? align->stride_align[0] : 0);
	gst_clear_buffer(&buffer);
	if (pool)
		gst_buffer_pool_set_active(pool, FALSE);
	gst_clear_object(&pool);
	gst_query_unref(query);
	gst_harness_teardown(h);
	gst_caps_unref(caps);
	return good;
}

static void every_format_is_sound(void)
{
	static const gint sizes[][2] = { { 1, 1 }, { 63, 35 } };
	GstVideoAlignment align;
	const GstVideoFormat *formats;
	guint n, bad = 0, bad_aligned = 0;

	gst_video_alignment_reset(&align);
	align.padding_top = 2;
	align.padding_bottom = 3;
	align.padding_left = 8;
	align.padding_right = 5;
	for (int i = 0; i < GST_VIDEO_MAX_PLANES; i++)
		align.stride_align[i] = 63;

	formats = gst_video_formats_raw(&n);
	for (guint i = 0; i < n; i++) {
		const GstVideoFormatInfo *info = gst_video_format_get_info(formats[i]);

		if (GST_VIDEO_FORMAT_INFO_IS_TILED(info))
			continue;
		for (guint s = 0; s < G_N_ELEMENTS(sizes); s++) {
			if (!try_format(formats[i], sizes[s][0], sizes[s][1], NULL)) {
				diag("%s %dx%d", GST_VIDEO_FORMAT_INFO_NAME(info),
				     sizes[s][0], sizes[s][1]);
				bad++;
			}
			/* GStreamer itself cannot align some formats of one pixel. */
			if (sizes[s][0] > 1 &&
			    !try_format(formats[i], sizes[s][0], sizes[s][1], &align)) {
				diag("%s %dx%d aligned", GST_VIDEO_FORMAT_INFO_NAME(info),
				     sizes[s][0], sizes[s][1]);
				bad_aligned++;
			}
		}
	}
	diag("%u formats", n);
	ok(bad == 0, "planes of every linear format lie apart within the buffer");
	ok(bad_aligned == 0, "so they do with padding, and strides of 64 bytes");
}

static void pool_keeps_its_promises(void)
{
	GstCaps *caps = gst_caps_from_string(
		"video/x-raw,format=I420,width=320,height=240,framerate=30/1");
	GstBufferPoolAcquireParams dont_wait = {
		.flags = GST_BUFFER_POOL_ACQUIRE_FLAG_DONTWAIT
	};
	GstHarness *h =
		upload_harness(caps, "min-buffers=3 max-buffers=5 stride-align=256");
	GstBuffer *buffers[4] = { NULL };
	guint size, min, max, taken = 0;
	GstBufferPool *pool;
	GstMapInfo map;
	GstQuery *query;
	GstMemory *mem;
	guint8 *data;

	pool = ask_for_pool(h, caps, &query);
	gst_query_parse_nth_allocation_pool(query, 0, NULL, &size, &min, &max);
	ok(min == 3 && max == 5, "min-buffers and max-buffers are proposed");
	ok(gst_query_find_allocation_meta(query, GST_VIDEO_META_API_TYPE, NULL),
	   "GstVideoMeta is proposed");

	ok(configure(pool, caps, 2, 3, NULL) && gst_buffer_pool_set_active(pool, TRUE),
	   "a pool of 2 to 3 buffers can be had");
	while (taken < 4 && gst_buffer_pool_acquire_buffer(pool, &buffers[taken],
							   &dont_wait) == GST_FLOW_OK)
		taken++;
	ok(taken == 3, "it gives out 3 buffers and no more");
	ok(strides_are_aligned(buffers[0], 255),
	   "stride-align is heeded where VideoMeta is used");

	mem = gst_buffer_peek_memory(buffers[0], 0);
	ok(gst_is_fd_memory(mem), "a buffer is fd memory");
	ok(gst_is_dmabuf_memory(mem) == gst_test_have_dmabuf(),
	   "and says that it is a dma-buf exactly when it is one");
	gst_buffer_map(buffers[0], &map, GST_MAP_READ);
	data = map.data;
	gst_buffer_unmap(buffers[0], &map);
	gst_buffer_map(buffers[0], &map, GST_MAP_READWRITE);
	ok(map.data == data, "it is mapped once and kept");
	gst_buffer_unmap(buffers[0], &map);
	while (taken)
		gst_buffer_unref(buffers[--taken]);
	ok(gst_buffer_pool_acquire_buffer(pool, &buffers[0], &dont_wait) == GST_FLOW_OK,
	   "a buffer that came back can be had again");
	gst_buffer_map(buffers[0], &map, GST_MAP_WRITE);
	gst_buffer_unmap(buffers[0], &map);
	gst_buffer_unref(buffers[0]);
	put_away(h, caps, pool, query);
}

/* In how many contiguous pieces a frame of 3 MiB lies; 0 if it is not in a zcbuf heap. */
static guint chunks_of_a_frame(const gchar *properties)
{
	GstCaps *caps = gst_caps_from_string(
		"video/x-raw,format=BGRx,width=1024,height=768,framerate=30/1");
	GstHarness *h = upload_harness(caps, properties);
	struct zcbuf_buffer_info info = { 0 };
	struct zcbuf_buffer *frame;
	struct zcbuf_ctx *ctx;
	GstBuffer *buffer;
	GstBufferPool *pool;
	GstQuery *query;
	int fd;

	pool = ask_for_pool(h, caps, &query);
	configure(pool, caps, 1, 1, NULL);
	gst_buffer_pool_set_active(pool, TRUE);
	gst_buffer_pool_acquire_buffer(pool, &buffer, NULL);
	fd = gst_fd_memory_get_fd(gst_buffer_peek_memory(buffer, 0));
	if (zcbuf_ctx_new(&ctx) == 0 && zcbuf_buffer_import(ctx, fd, &frame) == 0) {
		zcbuf_buffer_get_info(frame, &info);
		zcbuf_buffer_unref(frame);
	}
	zcbuf_ctx_unref(ctx);
	gst_buffer_unref(buffer);
	put_away(h, caps, pool, query);
	return info.chunks;
}

static void the_heap_meets_the_need(void)
{
	if (access("/dev/zcbuf", F_OK) != 0) {
		skip("no zcbuf heaps");
		return;
	}
	ok(chunks_of_a_frame("") > 1, "a frame of 3 MiB lies in several pieces");
	ok(chunks_of_a_frame("need=contiguous") == 1, "in one, if that is the need");
	ok(chunks_of_a_frame("need=contiguous heap=zcbuf-system") > 1,
	   "a heap that is named is taken, whatever the need");
}

static void without_videometa_the_layout_is_standard(void)
{
	GstCaps *caps = gst_caps_from_string(
		"video/x-raw,format=I420,width=318,height=238,framerate=30/1");
	GstHarness *h = upload_harness(caps, "stride-align=256");
	GstBuffer *buffer;
	GstStructure *config;
	GstBufferPool *pool;
	GstVideoMeta *meta;
	GstVideoInfo info;
	GstQuery *query;

	gst_video_info_from_caps(&info, caps);
	pool = ask_for_pool(h, caps, &query);
	config = gst_buffer_pool_get_config(pool);
	gst_buffer_pool_config_set_params(config, caps, GST_VIDEO_INFO_SIZE(&info), 1, 1);
	gst_buffer_pool_set_config(pool, config);
	gst_buffer_pool_set_active(pool, TRUE);
	gst_buffer_pool_acquire_buffer(pool, &buffer, NULL);
	meta = gst_buffer_get_video_meta(buffer);
	ok(meta->stride[0] == info.stride[0] && meta->offset[2] == info.offset[2],
	   "who does not ask for VideoMeta gets the standard layout, whatever stride-align "
	   "says");
	gst_buffer_unref(buffer);
	put_away(h, caps, pool, query);
}

static void copies_and_shares_work(void)
{
	GstCaps *caps = gst_caps_from_string(
		"video/x-raw,format=GRAY8,width=64,height=64,framerate=30/1");
	GstHarness *h = upload_harness(caps, "");
	GstBuffer *buffer, *part, *copy;
	GstBufferPool *pool;
	GstQuery *query;

	pool = ask_for_pool(h, caps, &query);
	configure(pool, caps, 1, 2, NULL);
	gst_buffer_pool_set_active(pool, TRUE);
	gst_buffer_pool_acquire_buffer(pool, &buffer, NULL);
	gst_buffer_memset(buffer, 0, 0xab, -1);
	gst_buffer_memset(buffer, 100, 0xcd, 10);
	part = gst_buffer_copy_region(buffer, GST_BUFFER_COPY_MEMORY, 100, 10);
	ok(part && gst_buffer_get_size(part) == 10 &&
		   gst_buffer_memcmp(part, 0, "\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd",
				     10) == 0,
	   "a part of a buffer can be shared and read");
	copy = gst_buffer_copy_deep(buffer);
	ok(copy && gst_buffer_memcmp(copy, 100, "\xcd", 1) == 0 &&
		   gst_is_dmabuf_memory(gst_buffer_peek_memory(copy, 0)) ==
			   gst_is_dmabuf_memory(gst_buffer_peek_memory(buffer, 0)),
	   "a deep copy is memory of the same kind");
	gst_buffer_unref(copy);
	gst_buffer_unref(part);
	gst_buffer_unref(buffer);
	put_away(h, caps, pool, query);
}

int main(void)
{
	gst_test_begin();
	pool_keeps_its_promises();
	the_heap_meets_the_need();
	without_videometa_the_layout_is_standard();
	copies_and_shares_work();
	every_format_is_sound();
	return gst_test_end();
}
