/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A V4L2 camera writes into the pool that zcbufsink or zcbufupload offers. */
#include "gst-test.h"

#include <fcntl.h>
#include <linux/videodev2.h>
#include <sys/ioctl.h>

#define MAX_FRAMES 15

/* What a pad saw of a stream: none of these loses a frame. */
struct seen {
	GMutex lock;
	guint n_frames;
	gchar *checksum[MAX_FRAMES];
	guint foreign; /* frames in other memory than a zcbuf dma-buf */
};

static gboolean is_zcbuf(GstMemory *mem)
{
	gchar *path, *text = NULL;
	gboolean is;

	if (!gst_is_dmabuf_memory(mem))
		return FALSE;
	path = g_strdup_printf("/proc/self/fdinfo/%d", gst_dmabuf_memory_get_fd(mem));
	g_file_get_contents(path, &text, NULL, NULL);
	is = text && strstr(text, "exp_name:\tzcbuf");
	g_free(path);
	g_free(text);
	return is;
}

static GstPadProbeReturn see(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
	GstBuffer *buffer = GST_PAD_PROBE_INFO_BUFFER(info);
	struct seen *seen = data;
	GstMapInfo map;

	(void)pad;
	g_mutex_lock(&seen->lock);
	for (guint i = 0; i < gst_buffer_n_memory(buffer); i++)
		seen->foreign += !is_zcbuf(gst_buffer_peek_memory(buffer, i));
	gst_buffer_map(buffer, &map, GST_MAP_READ);
	if (seen->n_frames < MAX_FRAMES)
		seen->checksum[seen->n_frames] =
			g_compute_checksum_for_data(G_CHECKSUM_MD5, map.data, map.size);
	seen->n_frames++;
	gst_buffer_unmap(buffer, &map);
	g_mutex_unlock(&seen->lock);
	return GST_PAD_PROBE_OK;
}

static void watch(GstElement *element, const gchar *pad_name, struct seen *seen)
{
	GstPad *pad = gst_element_get_static_pad(element, pad_name);

	gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, see, seen, NULL);
	gst_object_unref(pad);
}

static void forget(struct seen *seen)
{
	for (int i = 0; i < MAX_FRAMES; i++)
		g_free(seen->checksum[i]);
	memset(seen, 0, sizeof(*seen));
}

/* The device node of a driver that captures, or outputs; NULL if there is none. */
static const gchar *find_device(guint32 capability)
{
	static gchar path[32];
	struct v4l2_capability cap;
	int fd;

	for (int i = 0; i < 16; i++) {
		g_snprintf(path, sizeof(path), "/dev/video%d", i);
		fd = open(path, O_RDWR);
		if (fd < 0)
			continue;
		if (ioctl(fd, VIDIOC_QUERYCAP, &cap) == 0 &&
		    g_str_equal((const gchar *)cap.driver, "vivid") &&
		    (cap.device_caps & capability)) {
			close(fd);
			return path;
		}
		close(fd);
	}
	return NULL;
}

static void a_camera_writes_into_our_buffers(const gchar *device, const gchar *format)
{
	static struct seen captured, received;
	gchar *address = gst_test_address();
	GstElement *producer = gst_test_pipeline(
		"v4l2src name=camera device=%s io-mode=dmabuf-import num-buffers=15 ! "
		"video/x-raw,format=%s,width=640,height=360 ! "
		"zcbufsink name=sink socket-path=%s wait-for-connection=true max-wait=-1",
		device, format, address);
	GstElement *consumer = gst_test_pipeline(
		"zcbufsrc name=src socket-path=%s reconnect=true ! fakesink sync=false",
		address);
	GstElement *sink = gst_bin_get_by_name(GST_BIN(producer), "sink");
	GstElement *src = gst_bin_get_by_name(GST_BIN(consumer), "src");
	guint same = 0;

	watch(sink, "sink", &captured);
	watch(src, "src", &received);
	gst_element_set_state(producer, GST_STATE_PLAYING);
	gst_element_set_state(consumer, GST_STATE_PLAYING);
	ok(gst_test_wait_eos(producer) && gst_test_wait_eos(consumer) &&
		   captured.n_frames == MAX_FRAMES && received.n_frames == MAX_FRAMES,
	   "%s: a camera's frames reach another pipeline", format);
	for (int i = 0; i < MAX_FRAMES; i++)
		if (g_strcmp0(received.checksum[i], captured.checksum[i]) != 0)
			diag("frame %d: %s captured, %s received", i, captured.checksum[i],
			     received.checksum[i]);
		else
			same += captured.checksum[i] != NULL;
	ok(same == MAX_FRAMES, "%s: with every pixel", format);
	ok(captured.foreign == 0 && received.foreign == 0,
	   "%s: in zcbuf's dma-bufs from the driver on", format);
	ok(gst_test_counter(sink, "copied-frames") == 0 &&
		   gst_test_counter(sink, "zero-copy-frames") == 15,
	   "%s: not copied", format);
	gst_object_unref(sink);
	gst_object_unref(src);
	gst_test_stop(consumer);
	gst_test_stop(producer);
	forget(&captured);
	forget(&received);
	g_free(address);
}

static void the_drivers_own_buffers_can_be_shared(const gchar *device)
{
	static struct seen received;
	gchar *address = gst_test_address();
	GstElement *producer = gst_test_pipeline(
		"v4l2src device=%s io-mode=dmabuf num-buffers=15 ! "
		"video/x-raw,format=YUY2,width=640,height=360 ! "
		"zcbufsink name=sink socket-path=%s wait-for-connection=true max-wait=-1",
		device, address);
	GstElement *consumer = gst_test_pipeline(
		"zcbufsrc name=src socket-path=%s reconnect=true ! fakesink sync=false",
		address);
	GstElement *sink = gst_bin_get_by_name(GST_BIN(producer), "sink");
	GstElement *src = gst_bin_get_by_name(GST_BIN(consumer), "src");

	watch(src, "src", &received);
	gst_element_set_state(producer, GST_STATE_PLAYING);
	gst_element_set_state(consumer, GST_STATE_PLAYING);
	ok(gst_test_wait_eos(producer) && gst_test_wait_eos(consumer) &&
		   received.n_frames == MAX_FRAMES,
	   "a camera's own dma-bufs reach another pipeline");
	ok(gst_test_counter(sink, "copied-frames") == 0, "as they are");
	ok(gst_test_stat(src, "buffers") < 15, "each crosses once");
	gst_object_unref(sink);
	gst_object_unref(src);
	gst_test_stop(consumer);
	gst_test_stop(producer);
	forget(&received);
	g_free(address);
}

/* vivid's first output is interlaced, its second is HDMI. */
static gboolean select_hdmi(const gchar *device)
{
	int fd = open(device, O_RDWR);
	int output = 1;
	gboolean selected = fd >= 0 && ioctl(fd, VIDIOC_S_OUTPUT, &output) == 0;

	close(fd);
	return selected;
}

static void a_sink_reads_our_buffers(const gchar *device)
{
	GstElement *pipeline =
		gst_test_pipeline("videotestsrc num-buffers=15 ! "
				  "video/x-raw,format=YUY2,width=640,height=360 ! "
				  "zcbufupload name=upload ! v4l2sink device=%s "
				  "io-mode=dmabuf-import sync=false",
				  device);
	GstElement *upload = gst_bin_get_by_name(GST_BIN(pipeline), "upload");

	gst_element_set_state(pipeline, GST_STATE_PLAYING);
	ok(gst_test_wait_eos(pipeline) &&
		   gst_test_counter(upload, "zero-copy-frames") == 15,
	   "a V4L2 output imports our buffers");
	gst_object_unref(upload);
	gst_test_stop(pipeline);
}

int main(void)
{
	static const gchar *formats[] = { "YUY2", "NV12", "BGRx", "I420", "RGB", "GRAY8" };
	const gchar *device;

	gst_test_begin();
	device = find_device(V4L2_CAP_VIDEO_CAPTURE);
	if (device && gst_test_have_dmabuf()) {
		for (guint i = 0; i < G_N_ELEMENTS(formats); i++)
			a_camera_writes_into_our_buffers(device, formats[i]);
		the_drivers_own_buffers_can_be_shared(device);
	} else {
		skip("no vivid camera, or no dma-bufs");
	}
	device = find_device(V4L2_CAP_VIDEO_OUTPUT);
	if (device && gst_test_have_dmabuf() && select_hdmi(device))
		a_sink_reads_our_buffers(device);
	else
		skip("no vivid output, or no dma-bufs");
	return gst_test_end();
}
