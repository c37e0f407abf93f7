/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the tests of the GStreamer plugin share. A program defines its tests and ends with
 *
 *	int main(void)
 *	{
 *		gst_test_begin();
 *		frames_are_equal();
 *		return gst_test_end();
 *	}
 *
 * The leaks tracer watches all of it; what it finds is one more failure.
 */
#ifndef GST_TEST_H
#define GST_TEST_H

#include <tap.h>

#include <fcntl.h>
#include <gst/allocators/allocators.h>
#include <gst/check/gstharness.h>
#include <gst/gst.h>
#include <gst/video/video.h>
#include <sys/stat.h>
#include <unistd.h>

static char gst_test_leaks[] = "/tmp/zcbuf-leaks-XXXXXX";
static int gst_test_criticals;

static inline void gst_test_log(const gchar *domain, GLogLevelFlags level,
				const gchar *message, gpointer data)
{
	(void)data;
	if (level & (G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING))
		gst_test_criticals++;
	diag("%s: %s", domain ? domain : "", message);
}

static inline void gst_test_begin(void)
{
	GstPlugin *plugin;
	int fd = mkstemp(gst_test_leaks);

	if (fd < 0)
		bail("no temporary file");
	close(fd);
	setenv("GST_TRACERS", "leaks", TRUE);
	setenv("GST_DEBUG", "GST_TRACER:7", TRUE);
	setenv("GST_DEBUG_FILE", gst_test_leaks, TRUE);
	setenv("GST_DEBUG_NO_COLOR", "1", TRUE);
	g_log_set_default_handler(gst_test_log, NULL);
	gst_init(NULL, NULL);
	plugin = gst_registry_find_plugin(gst_registry_get(), "zcbuf");
	if (!plugin)
		bail("the zcbuf plugin is not installed");
	gst_object_unref(plugin);
}

static inline int gst_test_end(void)
{
	gchar *log = NULL;
	gchar **lines;
	int leaks = 0;

	gst_deinit();
	g_file_get_contents(gst_test_leaks, &log, NULL, NULL);
	lines = g_strsplit(log ? log : "", "\n", -1);
	for (int i = 0; lines[i]; i++)
		if (strstr(lines[i], "object-alive, ") && !strstr(lines[i], "%s")) {
			leaks++;
			diag("%s", strstr(lines[i], "object-alive"));
		}
	g_strfreev(lines);
	g_free(log);
	unlink(gst_test_leaks);
	ok(leaks == 0, "the leaks tracer finds nothing");
	ok(gst_test_criticals == 0, "GLib has nothing to complain of");
	return done_testing();
}

/* An address that no other test uses. */
static inline gchar *gst_test_address(void)
{
	static int n;

	return g_strdup_printf("@zcbuf-test-%d-%d", (int)getpid(), n++);
}

static inline GstElement *gst_test_pipeline(const gchar *format, ...) G_GNUC_PRINTF(1, 2);

static inline GstElement *gst_test_pipeline(const gchar *format, ...)
{
	GError *error = NULL;
	GstElement *pipeline;
	gchar *description;
	va_list args;

	va_start(args, format);
	description = g_strdup_vprintf(format, args);
	va_end(args);
	pipeline = gst_parse_launch(description, &error);
	if (error)
		bail("%s: %s", description, error->message);
	g_free(description);
	return pipeline;
}

/* The first message of some types, or NULL in time; what came before it is dropped. */
static inline GstMessage *gst_test_wait(GstElement *pipeline, GstMessageType types,
					int seconds)
{
	GstBus *bus = gst_element_get_bus(pipeline);
	GstMessage *message =
		gst_bus_timed_pop_filtered(bus, (GstClockTime)seconds * GST_SECOND, types);

	gst_object_unref(bus);
	return message;
}

/* Wait for the end of the stream; FALSE if there is an error or nothing for a long time. */
static inline gboolean gst_test_wait_eos(GstElement *pipeline)
{
	GstMessage *message =
		gst_test_wait(pipeline, GST_MESSAGE_EOS | GST_MESSAGE_ERROR, 120);
	gboolean eos = message && GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS;
	GError *error = NULL;
	gchar *debug = NULL;

	if (message && !eos) {
		gst_message_parse_error(message, &error, &debug);
		diag("%s (%s)", error->message, debug);
		g_error_free(error);
		g_free(debug);
	}
	if (message)
		gst_message_unref(message);
	return eos;
}

static inline void gst_test_stop(GstElement *pipeline)
{
	gst_element_set_state(pipeline, GST_STATE_NULL);
	gst_object_unref(pipeline);
}

/* A number from the structure that an element's property stats is. */
static inline guint64 gst_test_stat(GstElement *element, const gchar *name)
{
	GstStructure *stats;
	guint64 number = 0;
	guint small = 0;

	g_object_get(element, "stats", &stats, NULL);
	if (gst_structure_get_uint(stats, name, &small))
		number = small;
	else
		gst_structure_get_uint64(stats, name, &number);
	gst_structure_free(stats);
	return number;
}

static inline guint64 gst_test_counter(GstElement *element, const gchar *name)
{
	guint64 number;

	g_object_get(element, name, &number, NULL);
	return number;
}

/* Try until it holds, for ten seconds. */
#define gst_test_until(condition)                   \
	({                                          \
		int tries = 1000;                   \
		while (!(condition) && tries-- > 0) \
			g_usleep(10 * 1000);        \
		(condition);                        \
	})

/* Whether anything here makes dma-bufs; where nothing does, frames are in memfds. */
static inline gboolean gst_test_have_dmabuf(void)
{
	return access("/dev/zcbuf", F_OK) == 0 || access("/dev/udmabuf", W_OK) == 0 ||
	       access("/dev/dma_heap/system", R_OK) == 0;
}

/* Under any linear caps, DMA_DRM's as well. */
static inline gboolean gst_test_video_info(GstVideoInfo *info, GstCaps *caps)
{
	GstVideoInfoDmaDrm drm;

	if (!gst_video_is_dma_drm_caps(caps))
		return gst_video_info_from_caps(info, caps);
	return gst_video_info_dma_drm_from_caps(&drm, caps) &&
	       gst_video_info_dma_drm_to_video_info(&drm, info);
}

/*
 * A checksum of a frame's pixels, unpacked so that neither strides nor paddings matter; of all
 * bytes if it is no raw video. To be freed; NULL if it cannot be read.
 */
static inline gchar *gst_test_checksum(GstBuffer *buffer, GstCaps *caps)
{
	GChecksum *sum = g_checksum_new(G_CHECKSUM_SHA1);
	const GstVideoFormatInfo *format;
	gchar *text = NULL;
	GstVideoFrame frame;
	GstVideoInfo info;
	GstMapInfo map;
	guint8 *line;

	if (gst_structure_has_name(gst_caps_get_structure(caps, 0), "video/x-raw")) {
		if (!gst_test_video_info(&info, caps) ||
		    !gst_video_frame_map(&frame, &info, buffer, GST_MAP_READ))
			goto out;
		format = frame.info.finfo;
		/* As wide as a block of pixels more, which some formats write. */
		line = g_malloc0(8 * ((gsize)info.width + 64));
		for (gint y = 0; y < info.height; y++) {
			format->unpack_func(format, GST_VIDEO_PACK_FLAG_NONE, line,
					    frame.data, frame.info.stride, 0, y,
					    info.width);
			g_checksum_update(sum, line,
					  (gssize)info.width *
						  GST_VIDEO_FORMAT_INFO_PSTRIDE(
							  gst_video_format_get_info(
								  format->unpack_format),
							  0));
		}
		g_free(line);
		gst_video_frame_unmap(&frame);
	} else {
		if (!gst_buffer_map(buffer, &map, GST_MAP_READ))
			goto out;
		g_checksum_update(sum, map.data, (gssize)map.size);
		gst_buffer_unmap(buffer, &map);
	}
	text = g_strdup(g_checksum_get_string(sum));
out:
	g_checksum_free(sum);
	return text;
}

#endif /* GST_TEST_H */
