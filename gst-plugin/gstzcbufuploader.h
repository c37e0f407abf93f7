/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GST_ZCBUF_UPLOADER_H
#define GST_ZCBUF_UPLOADER_H

#include "gstzcbufpool.h"

G_BEGIN_DECLS

typedef struct {
	GstElement *element;

	/* properties, under the element's object lock */
	gchar *heap;
	guint need;
	guint min_buffers;
	guint max_buffers;
	guint stride_align;
	guint64 zero_copy_frames;
	guint64 copied_frames;

	/* the stream, touched by its thread only */
	GstAllocator *allocator;
	gboolean dmabuf_only; /* what the allocator was opened for */
	GstCaps *caps;
	gboolean is_video;
	GstVideoInfo info;
	gboolean reads_meta;	 /* who comes next looks at GstVideoMeta */
	GstVideoAlignment align; /* that who comes next asks for */
	guint next_min_buffers;	 /* that who comes next holds */
	gboolean warned_of_copy;
	gboolean warned_of_memfd;

	GMutex pool_lock;
	GstBufferPool *pool; /* of the copies */
	gboolean flushing;
} GstZcbufUploader;

/* The properties of a zcbuf element that owns pools; the element's own start after them. */
enum {
	GST_ZCBUF_UPLOADER_PROP_HEAP = 1,
	GST_ZCBUF_UPLOADER_PROP_NEED,
	GST_ZCBUF_UPLOADER_PROP_MIN_BUFFERS,
	GST_ZCBUF_UPLOADER_PROP_MAX_BUFFERS,
	GST_ZCBUF_UPLOADER_PROP_STRIDE_ALIGN,
	GST_ZCBUF_UPLOADER_PROP_ZERO_COPY_FRAMES,
	GST_ZCBUF_UPLOADER_PROP_COPIED_FRAMES,
	GST_ZCBUF_UPLOADER_PROP_LAST,
};

void gst_zcbuf_uploader_install_properties(GObjectClass *klass);
gboolean gst_zcbuf_uploader_set_property(GstZcbufUploader *self, guint id,
					 const GValue *value);
gboolean gst_zcbuf_uploader_get_property(GstZcbufUploader *self, guint id, GValue *value);

void gst_zcbuf_uploader_init(GstZcbufUploader *self, GstElement *element);
void gst_zcbuf_uploader_finalize(GstZcbufUploader *self);
gboolean gst_zcbuf_uploader_start(GstZcbufUploader *self);
void gst_zcbuf_uploader_stop(GstZcbufUploader *self);
void gst_zcbuf_uploader_set_flushing(GstZcbufUploader *self, gboolean flushing);
gboolean gst_zcbuf_uploader_set_caps(GstZcbufUploader *self, GstCaps *caps,
				     gboolean dmabuf_only);
void gst_zcbuf_uploader_propose(GstZcbufUploader *self, GstQuery *query);
GstFlowReturn gst_zcbuf_uploader_upload(GstZcbufUploader *self, GstBuffer *in,
					GstBuffer **out);

G_END_DECLS

#endif /* GST_ZCBUF_UPLOADER_H */
