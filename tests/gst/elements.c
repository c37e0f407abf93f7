/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * docs/gstreamer.md tells the truth: each launch line of its table is run as it stands, and the
 * copies that are made are those that its row tells of.
 */
#include "gst-test.h"

#include <linux/videodev2.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>

#define APP_FRAMES 20

/* What a pipeline did. */
struct run {
	gint frames;		   /* that reached a sink */
	guint64 sum;		   /* of their checksums */
	guint64 zero_copy, copied; /* by our elements */
	GHashTable *others;	   /* names of elements that said that they copy */
};

static GMutex lock;
static struct run *current;

/* The id of what speaks is the name that GStreamer gave it: v4l2src0, v4l2src0:pool0:src. */
static void hear_of_copies(GstDebugCategory *category, GstDebugLevel level,
			   const gchar *file, const gchar *function, gint line,
			   GObject *object, GstDebugMessage *message, gpointer data)
{
	const gchar *text, *id;
	gchar *who;

	(void)level, (void)file, (void)function, (void)line, (void)object, (void)data;
	(void)category;
	text = gst_debug_message_get(message);
	id = gst_debug_message_get_id(message);
	/* What has no id is GStreamer's core, which copies caps and events all the time. */
	if (!text || !id || !(strstr(text, "copying") || strstr(text, "frame copy")))
		return;
	who = g_strndup(id, strcspn(id, ":"));
	while (*who && g_ascii_isdigit(who[strlen(who) - 1]))
		who[strlen(who) - 1] = '\0';
	g_mutex_lock(&lock);
	if (g_str_has_prefix(who, "zcbuf") || !current)
		g_free(who); /* ours count themselves */
	else if (g_hash_table_add(current->others, who))
		printf("# %s: %s\n", id, text);
	g_mutex_unlock(&lock);
}

static GstPadProbeReturn frame_arrives(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
	GstCaps *caps = gst_pad_get_current_caps(pad);
	gchar *text = gst_test_checksum(GST_PAD_PROBE_INFO_BUFFER(info), caps);

	(void)data;
	g_mutex_lock(&lock);
	current->frames++;
	if (text) {
		text[16] = '\0';
		current->sum += g_ascii_strtoull(text, NULL, 16);
	}
	g_mutex_unlock(&lock);
	g_free(text);
	gst_caps_unref(caps);
	return GST_PAD_PROBE_OK;
}

static void watch(GstElement *element, const gchar *pad_name, GstPadProbeCallback callback)
{
	GstPad *pad = gst_element_get_static_pad(element, pad_name);

	gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, callback, NULL, NULL);
	gst_object_unref(pad);
}

static const gchar *factory_of(GstElement *element)
{
	GstElementFactory *factory = gst_element_get_factory(element);

	return factory ? GST_OBJECT_NAME(factory) : "";
}

/* The application that an appsrc wants. */
static void feed(GstElement *appsrc, guint length, gpointer data)
{
	static gint n;
	GstFlowReturn flow;
	GstVideoInfo info;
	GstBuffer *buffer;
	GstCaps *caps;

	(void)length, (void)data;
	if (++n > APP_FRAMES) {
		g_signal_emit_by_name(appsrc, "end-of-stream", &flow);
		return;
	}
	g_object_get(appsrc, "caps", &caps, NULL);
	gst_video_info_from_caps(&info, caps);
	gst_caps_unref(caps);
	buffer = gst_buffer_new_allocate(NULL, GST_VIDEO_INFO_SIZE(&info), NULL);
	gst_buffer_memset(buffer, 0, (guint8)n, GST_VIDEO_INFO_SIZE(&info));
	g_signal_emit_by_name(appsrc, "push-buffer", buffer, &flow);
	gst_buffer_unref(buffer);
}

static gboolean play(GstElement *pipeline, struct run *run)
{
	GstIterator *elements = gst_bin_iterate_recurse(GST_BIN(pipeline));
	GstElement *element;
	GValue item = G_VALUE_INIT;
	GSList *ours = NULL;
	gboolean ended;

	memset(run, 0, sizeof(*run));
	run->others = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	current = run;
	while (gst_iterator_next(elements, &item) == GST_ITERATOR_OK) {
		element = g_value_get_object(&item);
		if (GST_OBJECT_FLAG_IS_SET(element, GST_ELEMENT_FLAG_SINK))
			watch(element, "sink", frame_arrives);
		if (g_str_equal(factory_of(element), "zcbufupload") ||
		    g_str_equal(factory_of(element), "zcbufsink"))
			ours = g_slist_prepend(ours, gst_object_ref(element));
		if (g_str_equal(factory_of(element), "appsrc"))
			g_signal_connect(element, "need-data", G_CALLBACK(feed), NULL);
		g_value_reset(&item);
	}
	gst_iterator_free(elements);

	gst_element_set_state(pipeline, GST_STATE_PLAYING);
	ended = gst_test_wait_eos(pipeline);
	for (GSList *i = ours; i; i = i->next) {
		run->zero_copy += gst_test_counter(i->data, "zero-copy-frames");
		run->copied += gst_test_counter(i->data, "copied-frames");
	}
	g_slist_free_full(ours, gst_object_unref);
	gst_test_stop(pipeline);
	return ended;
}

static void clear(struct run *run)
{
	g_mutex_lock(&lock);
	current = NULL;
	g_mutex_unlock(&lock);
	g_hash_table_unref(run->others);
}

/* As gst-launch-1.0 reads it; NULL if an element is missing. */
static GstElement *parse(gchar **words, GError **error)
{
	return gst_parse_launchv_full((const gchar **)words, NULL,
				      GST_PARSE_FLAG_FATAL_ERRORS, error);
}

/*
 * The same pipeline without zcbuf, if a test source and a fakesink are its ends; else NULL. Between
 * two exclamation marks, what is ours becomes an identity.
 */
static GstElement *without_zcbuf(gchar **words)
{
	GPtrArray *result = g_ptr_array_new();
	GstElement *pipeline = NULL;
	gboolean start = TRUE, leave_out = FALSE, source = FALSE, sink = FALSE;

	for (guint i = 0; words[i]; i++) {
		if (start && (g_str_equal(words[i], "zcbufupload") ||
			      strstr(words[i], "memory:DMABuf"))) {
			g_ptr_array_add(result, "identity");
			leave_out = TRUE;
		}
		start = g_str_equal(words[i], "!");
		if (start)
			leave_out = FALSE;
		if (!leave_out)
			g_ptr_array_add(result, words[i]);
		source |= g_str_equal(words[i], "videotestsrc");
		sink |= g_str_equal(words[i], "fakesink");
		if (g_str_equal(words[i], "glupload"))
			source = FALSE; /* they differ, as the table says */
	}
	g_ptr_array_add(result, NULL);
	if (source && sink)
		pipeline = parse((gchar **)result->pdata, NULL);
	g_ptr_array_free(result, TRUE);
	return pipeline;
}

static gchar *names(GHashTable *set)
{
	GList *keys = g_list_sort(g_hash_table_get_keys(set), (GCompareFunc)strcmp);
	GString *text = g_string_new(NULL);

	for (GList *i = keys; i; i = i->next)
		g_string_append_printf(text, "%s`%s`", text->len ? ", " : "",
				       (gchar *)i->data);
	g_list_free(keys);
	return g_string_free(text, FALSE);
}

/* Words that name devices which are not everywhere. */
static const gchar *what_is_missing(gchar **words)
{
	struct utsname name;

	uname(&name);
	for (guint i = 0; words[i]; i++) {
		if (g_str_equal(words[i], "kmssink") &&
		    (access("/sys/bus/pci/drivers/bochs-drm", F_OK) != 0 ||
		     atoi(name.release) < 7))
			return "no display that imports dma-bufs";
		if (g_str_has_prefix(words[i], "v4l2") && access("/dev/video0", F_OK) != 0)
			return "no camera";
		/* In the code that llvmpipe compiles, sooner or later. */
		if (g_str_equal(words[i], "waylandsink"))
			return "weston dies on Mesa's software renderer";
	}
	return NULL;
}

/* @here: copies a frame by our elements; @others: who else copies; as the table has them. */
static void a_line_does_what_its_row_says(const gchar *element, const gchar *line,
					  const gchar *here, const gchar *others)
{
	GError *error = NULL;
	GstElement *pipeline, *plain;
	struct run run, reference;
	gchar **words, *copiers;

	if (!g_shell_parse_argv(line, NULL, &words, NULL)) {
		ok(FALSE, "%s: '%s' is a line for a shell", element, line);
		return;
	}
	if (what_is_missing(words)) {
		skip("%s: %s", element, what_is_missing(words));
		g_strfreev(words);
		return;
	}
	pipeline = parse(words + 1, &error);
	if (g_error_matches(error, GST_PARSE_ERROR, GST_PARSE_ERROR_NO_SUCH_ELEMENT)) {
		if (ok(g_str_equal(here, "?"),
		       "%s: the table makes no claim without a test", element))
			skip("%s: %s", element, error->message);
		g_error_free(error);
		g_strfreev(words);
		return;
	}
	if (!ok(pipeline, "%s: %s", element, line)) {
		diag("%s", error->message);
		g_error_free(error);
		g_strfreev(words);
		return;
	}
	ok(play(pipeline, &run) && run.frames > 0, "%s: frames reach the end", element);
	copiers = names(run.others);
	diag("%d frames, %" G_GUINT64_FORMAT " passed, %" G_GUINT64_FORMAT " copied; %s",
	     run.frames, run.zero_copy, run.copied, copiers);
	ok(run.zero_copy + run.copied > 0 && (g_str_equal(here, "0")   ? run.copied == 0
					      : g_str_equal(here, "1") ? run.zero_copy == 0
								       : FALSE),
	   "%s: our elements copy %s times a frame", element, here);
	ok(g_str_equal(copiers, others), "%s: who else copies: %s", element,
	   *others ? others : "nobody");
	clear(&run);
	plain = without_zcbuf(words + 1);
	if (plain) {
		ok(play(plain, &reference) && reference.frames == run.frames &&
			   reference.sum == run.sum,
		   "%s: the frames are those of the same line without zcbuf", element);
		clear(&reference);
	}
	g_free(copiers);
	g_strfreev(words);
}

/* | element | `line` | here | others | why | */
static void every_row_is_true(void)
{
	gchar *text, **lines, **cells;
	gint rows = 0;

	if (!g_file_get_contents(TABLE, &text, NULL, NULL))
		bail("no " TABLE);
	lines = g_strsplit(text, "\n", -1);
	for (guint i = 0; lines[i]; i++) {
		if (!strstr(lines[i], "gst-launch-1.0"))
			continue;
		cells = g_strsplit(lines[i], "|", -1);
		if (ok(g_strv_length(cells) == 7, "a row of the table: %s", lines[i])) {
			for (guint c = 1; c <= 4; c++)
				g_strstrip(cells[c]);
			rows++;
			g_strdelimit(cells[2], "`", ' ');
			a_line_does_what_its_row_says(cells[1], g_strstrip(cells[2]),
						      cells[3], cells[4]);
		}
		g_strfreev(cells);
	}
	ok(rows > 0, "the table has %d rows", rows);
	g_strfreev(lines);
	g_free(text);
}

/* vivid's first output is interlaced television; its second one is HDMI. */
static void choose_hdmi(void)
{
	int fd = open("/dev/video1", O_RDWR), hdmi = 1;

	if (fd >= 0 && ioctl(fd, VIDIOC_S_OUTPUT, &hdmi) < 0)
		diag("/dev/video1 has no second output");
	if (fd >= 0)
		close(fd);
}

int main(void)
{
	/* GL without a screen. */
	setenv("GST_GL_PLATFORM", "egl", FALSE);
	setenv("GST_GL_WINDOW", "surfaceless", FALSE);
	gst_test_begin();
	choose_hdmi();
	/* Where elements say that they copy. */
	gst_debug_set_threshold_from_string(
		"GST_PERFORMANCE:LOG,kmssink:LOG,v4l2bufferpool:LOG,waylandsink:LOG",
		FALSE);
	gst_debug_remove_log_function(gst_debug_log_default);
	gst_debug_add_log_function(hear_of_copies, NULL, NULL);
	every_row_is_true();
	gst_debug_remove_log_function(hear_of_copies);
	return done_testing();
}
