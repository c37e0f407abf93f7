/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GST_ZCBUF_POOL_H
#define GST_ZCBUF_POOL_H

#include "gstzcbufallocator.h"

#include <gst/video/video.h>

G_BEGIN_DECLS

#define GST_TYPE_ZCBUF_POOL gst_zcbuf_pool_get_type()
G_DECLARE_FINAL_TYPE(GstZcbufPool, gst_zcbuf_pool, GST, ZCBUF_POOL, GstBufferPool)

GstBufferPool *gst_zcbuf_pool_new(GstAllocator *allocator, const GstVideoAlignment *align);
gboolean gst_zcbuf_caps_are_dmabuf(GstCaps *caps);
gboolean gst_zcbuf_video_info_from_caps(GstVideoInfo *info, GstCaps *caps);
void gst_zcbuf_video_alignment_merge(GstVideoAlignment *to, const GstVideoAlignment *from);

G_END_DECLS

#endif /* GST_ZCBUF_POOL_H */
