/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GST_ZCBUF_SRC_H
#define GST_ZCBUF_SRC_H

#include <gst/base/base.h>

G_BEGIN_DECLS

#define GST_TYPE_ZCBUF_SRC gst_zcbuf_src_get_type()
G_DECLARE_FINAL_TYPE(GstZcbufSrc, gst_zcbuf_src, GST, ZCBUF_SRC, GstPushSrc)

GST_ELEMENT_REGISTER_DECLARE(zcbufsrc)

G_END_DECLS

#endif /* GST_ZCBUF_SRC_H */
