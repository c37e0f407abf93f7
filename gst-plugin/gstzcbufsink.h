/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GST_ZCBUF_SINK_H
#define GST_ZCBUF_SINK_H

#include <gst/base/base.h>

G_BEGIN_DECLS

#define GST_TYPE_ZCBUF_SINK gst_zcbuf_sink_get_type()
G_DECLARE_FINAL_TYPE(GstZcbufSink, gst_zcbuf_sink, GST, ZCBUF_SINK, GstBaseSink)

GST_ELEMENT_REGISTER_DECLARE(zcbufsink)

G_END_DECLS

#endif /* GST_ZCBUF_SINK_H */
