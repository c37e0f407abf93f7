/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GST_ZCBUF_ALLOCATOR_H
#define GST_ZCBUF_ALLOCATOR_H

#include <gst/allocators/allocators.h>
#include <libzcbuf.h>

G_BEGIN_DECLS

#define GST_TYPE_ZCBUF_ALLOCATOR gst_zcbuf_allocator_get_type()
G_DECLARE_FINAL_TYPE(GstZcbufAllocator, gst_zcbuf_allocator, GST, ZCBUF_ALLOCATOR,
		     GstDmaBufAllocator)

GstAllocator *gst_zcbuf_allocator_new(const gchar *heap, guint capabilities,
				      gboolean dmabuf_only, GError **error);
GstAllocator *gst_zcbuf_allocator_new_for_import(void);
struct zcbuf_ctx *gst_zcbuf_allocator_get_ctx(GstZcbufAllocator *self);
GstMemory *gst_zcbuf_allocator_wrap(GstZcbufAllocator *self, struct zcbuf_buffer *buffer);
struct zcbuf_buffer *gst_zcbuf_memory_get_buffer(GstMemory *mem);
void gst_zcbuf_set_error(GError **error, int code, int result);

G_END_DECLS

#endif /* GST_ZCBUF_ALLOCATOR_H */
