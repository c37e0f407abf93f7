/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstzcbufframe.h"

#include <errno.h>
#include <gst/video/video.h>
#include <linux/dma-buf.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

/*
 * Take a frame's metadata apart. FALSE if it is not what zcbufsink writes, or if a memory
 * lies outside of its buffer.
 */
gboolean gst_zcbuf_frame_parse(const struct zcbuf_frame *frame,
			       struct gst_zcbuf_frame_metadata *metadata)
{
	const guint8 *bytes = frame->metadata;
	gsize size = frame->metadata_size;
	gsize memories_size;

	if (size < sizeof(metadata->header))
		return FALSE;
	memcpy(&metadata->header, bytes, sizeof(metadata->header));
	bytes += sizeof(metadata->header);
	size -= sizeof(metadata->header);

	if (metadata->header.version != GST_ZCBUF_FRAME_VERSION ||
	    metadata->header.n_memories > ZCBUF_FRAME_BUFFERS)
		return FALSE;
	memories_size = metadata->header.n_memories * sizeof(metadata->memories[0]);
	if (size < memories_size)
		return FALSE;
	memcpy(metadata->memories, bytes, memories_size);
	metadata->metas = bytes + memories_size;
	metadata->metas_size = size - memories_size;

	for (guint i = 0; i < metadata->header.n_memories; i++) {
		const struct gst_zcbuf_frame_memory *mem = &metadata->memories[i];
		gsize buffer_size;

		if (mem->buffer >= ZCBUF_FRAME_BUFFERS || !frame->buffers[mem->buffer])
			return FALSE;
		buffer_size = zcbuf_buffer_size(frame->buffers[mem->buffer]);
		if (mem->offset > buffer_size || mem->size > buffer_size - mem->offset)
			return FALSE;
	}
	return TRUE;
}

/* Append what metas of @buffer can be written, as long as there is room. */
void gst_zcbuf_frame_write_metas(GstBuffer *buffer, GByteArray *metadata)
{
	gpointer state = NULL;
	GstMeta *meta;
	guint before;

	while ((meta = gst_buffer_iterate_meta(buffer, &state))) {
		before = metadata->len;
		if (gst_meta_serialize_simple(meta, metadata) &&
		    metadata->len > ZCBUF_CHANNEL_PAYLOAD_MAX) {
			GST_WARNING("no room for %s", g_type_name(meta->info->type));
			g_byte_array_set_size(metadata, before);
		}
	}
}

/* Add the metas that came with a frame to @buffer. FALSE if one is cut off. */
gboolean gst_zcbuf_frame_read_metas(const struct gst_zcbuf_frame_metadata *metadata,
				    GstBuffer *buffer)
{
	const guint8 *bytes = metadata->metas;
	gsize size = metadata->metas_size;
	guint32 name_length, consumed;

	/* A meta that nobody has used in this process is not known to it. */
	gst_video_meta_get_info();
	gst_video_crop_meta_get_info();
	gst_video_time_code_meta_get_info();
	gst_reference_timestamp_meta_get_info();

	while (size > 0) {
		/* gst_meta_deserialize() believes the length of the name at offset 4. */
		if (size < 2 * sizeof(guint32))
			return FALSE;
		memcpy(&name_length, bytes + sizeof(guint32), sizeof(name_length));
		if (GUINT32_FROM_LE(name_length) > size)
			return FALSE;
		gst_meta_deserialize(buffer, bytes, size, &consumed);
		if (consumed == 0)
			return FALSE;
		bytes += consumed;
		size -= consumed;
	}
	return TRUE;
}

/*
 * From now on whoever uses the frame's buffers waits for its fence, as for any other, if it has
 * one. @work is what it is the end of: DMA_BUF_SYNC_READ, which only writers wait for, or
 * DMA_BUF_SYNC_WRITE. It is waited for here if a buffer is no dma-buf.
 */
void gst_zcbuf_frame_wait_for_fence(const struct zcbuf_frame *frame, guint32 work)
{
	struct dma_buf_import_sync_file import = { .flags = work, .fd = frame->fence };
	struct pollfd end = { .fd = frame->fence, .events = POLLIN };
	gboolean attached = TRUE;

	if (frame->fence <= 0)
		return;
	for (guint i = 0; i < ZCBUF_FRAME_BUFFERS && frame->buffers[i]; i++)
		attached &= ioctl(zcbuf_buffer_fd(frame->buffers[i]),
				  DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &import) == 0;
	while (!attached && poll(&end, 1, -1) < 0 && errno == EINTR)
		;
}

/* What to add to a time of the element's clock to have it in CLOCK_MONOTONIC. */
GstClockTimeDiff gst_zcbuf_clock_offset(GstElement *element)
{
	GstClock *clock = gst_element_get_clock(element);
	GstClockType type = GST_CLOCK_TYPE_OTHER;
	GstClockTimeDiff offset = 0;

	if (!clock)
		return 0;
	/* Not a subclass: audio clocks are. */
	if (G_OBJECT_TYPE(clock) == GST_TYPE_SYSTEM_CLOCK)
		g_object_get(clock, "clock-type", &type, NULL);
	if (type != GST_CLOCK_TYPE_MONOTONIC)
		offset = GST_CLOCK_DIFF(gst_clock_get_time(clock),
					(GstClockTime)g_get_monotonic_time() * GST_USECOND);
	gst_object_unref(clock);
	return offset;
}
