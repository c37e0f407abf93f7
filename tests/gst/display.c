/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A display imports each buffer of another process once, and shows it without a copy. */
#include "gst-test.h"

#include <sys/utsname.h>

static gint imports, hits, copies;

static void count(GstDebugCategory *category, GstDebugLevel level, const gchar *file,
		  const gchar *function, gint line, GObject *object,
		  GstDebugMessage *message, gpointer data)
{
	const gchar *text = gst_debug_message_get(message);

	(void)category, (void)level, (void)file, (void)function, (void)line, (void)object,
		(void)data;
	if (!text)
		return;
	if (strstr(text, "found these prime ids"))
		g_atomic_int_inc(&imports);
	if (strstr(text, "found KMS mem"))
		g_atomic_int_inc(&hits);
	if (strstr(text, "frame copy") || strstr(text, "copying"))
		g_atomic_int_inc(&copies);
}

static void a_display_imports_each_buffer_once(void)
{
	gchar *address = gst_test_address();
	GstElement *producer = gst_test_pipeline(
		"videotestsrc num-buffers=30 ! "
		"video/x-raw,format=BGRx,width=1024,height=768 ! "
		"zcbufsink name=sink socket-path=%s wait-for-connection=true max-wait=-1 "
		"sync=false",
		address);
	GstElement *consumer = gst_test_pipeline(
		"zcbufsrc name=src socket-path=%s reconnect=true ! kmssink "
		"driver-name=bochs-drm force-modesetting=true sync=false",
		address);
	GstElement *src = gst_bin_get_by_name(GST_BIN(consumer), "src");

	gst_debug_set_threshold_for_name("kmssink", GST_LEVEL_LOG);
	gst_debug_set_threshold_for_name("GST_PERFORMANCE", GST_LEVEL_LOG);
	gst_debug_add_log_function(count, NULL, NULL);
	gst_element_set_state(producer, GST_STATE_PLAYING);
	gst_element_set_state(consumer, GST_STATE_PLAYING);
	ok(gst_test_wait_eos(producer) && gst_test_wait_eos(consumer),
	   "a stream is shown to its end");
	gst_debug_remove_log_function(count);
	gst_debug_set_threshold_for_name("kmssink", GST_LEVEL_NONE);
	gst_debug_set_threshold_for_name("GST_PERFORMANCE", GST_LEVEL_NONE);
	diag("%d imports, %d hits, %d copies", imports, hits, copies);
	ok(imports + hits >= 30, "each frame is shown from the memory it arrived in");
	ok((guint64)imports == gst_test_stat(src, "buffers"),
	   "each buffer is imported once");
	ok(copies == 0, "no frame is copied");
	gst_object_unref(src);
	gst_test_stop(consumer);
	gst_test_stop(producer);
	g_free(address);
}

int main(void)
{
	struct utsname name;

	gst_test_begin();
	uname(&name);
	/* Before 7.0, bochs imports no foreign buffers. */
	if (access("/sys/bus/pci/drivers/bochs-drm", F_OK) != 0 || atoi(name.release) < 7)
		skip("no display that imports dma-bufs");
	else if (!gst_test_have_dmabuf())
		skip("no dma-bufs");
	else
		a_display_imports_each_buffer_once();
	return gst_test_end();
}
