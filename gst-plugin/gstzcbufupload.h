/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GST_ZCBUF_UPLOAD_H
#define GST_ZCBUF_UPLOAD_H

#include <gst/base/base.h>

G_BEGIN_DECLS

#define GST_TYPE_ZCBUF_UPLOAD gst_zcbuf_upload_get_type()
G_DECLARE_FINAL_TYPE(GstZcbufUpload, gst_zcbuf_upload, GST, ZCBUF_UPLOAD, GstBaseTransform)

GST_ELEMENT_REGISTER_DECLARE(zcbufupload)

G_END_DECLS

#endif /* GST_ZCBUF_UPLOAD_H */
