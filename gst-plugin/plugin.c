/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstzcbufsink.h"
#include "gstzcbufsrc.h"
#include "gstzcbufupload.h"

#include <gst/gst.h>

static gboolean plugin_init(GstPlugin *plugin)
{
	return GST_ELEMENT_REGISTER(zcbufsink, plugin) &&
	       GST_ELEMENT_REGISTER(zcbufsrc, plugin) &&
	       GST_ELEMENT_REGISTER(zcbufupload, plugin);
}

GST_PLUGIN_DEFINE(GST_VERSION_MAJOR, GST_VERSION_MINOR, zcbuf,
		  "Frames in dma-bufs, between elements, devices and processes",
		  plugin_init, VERSION, "LGPL", PACKAGE, "Unknown package origin")
