/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * docs/gstreamer.md tells the truth: each launch line of its table is run as it stands, and the
 * copies that are made are those that its row tells of. So are the examples of gst-inspect-1.0.
 *
 * Two lines with one socket-path are one stream: each of them is run here, and its copies are
 * counted, while gst-launch-1.0 runs the other one in a process of its own.
 */
#include "gst-test.h"

#include <linux/videodev2.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/utsname.h>
#include <sys/wait.h>

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
	if (!text || !id ||
	    !(strstr(text, "copying") || strstr(text, "frame copy") ||
	      strstr(text, "uploader Raw Data returned")))
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

/* The pool that downstream offers whoever asks, ready for use. */
static GstBufferPool *ask_for_pool(GstElement *appsrc, GstCaps *caps)
{
	GstPad *pad = gst_element_get_static_pad(appsrc, "src");
	GstQuery *query = gst_query_new_allocation(caps, TRUE);
	GstBufferPool *pool = NULL;
	GstStructure *config;
	guint size, min, max;

	if (gst_pad_peer_query(pad, query) && gst_query_get_n_allocation_pools(query) > 0)
		gst_query_parse_nth_allocation_pool(query, 0, &pool, &size, &min, &max);
	if (pool) {
		config = gst_buffer_pool_get_config(pool);
		gst_buffer_pool_config_set_params(config, caps, size, min, max);
		gst_buffer_pool_set_config(pool, config);
		gst_buffer_pool_set_active(pool, TRUE);
	}
	gst_query_unref(query);
	gst_object_unref(pad);
	return pool;
}

/* The application that an appsrc wants; one that is called "pooled" asks for a pool. */
struct app {
	gint frames;
	GstBufferPool *pool;
};

static void feed(GstElement *appsrc, guint length, gpointer data)
{
	struct app *app = data;
	GstBuffer *buffer = NULL;
	GstFlowReturn flow;
	GstVideoInfo info;
	GstCaps *caps;

	(void)length;
	if (++app->frames > APP_FRAMES) {
		g_signal_emit_by_name(appsrc, "end-of-stream", &flow);
		return;
	}
	g_object_get(appsrc, "caps", &caps, NULL);
	gst_video_info_from_caps(&info, caps);
	if (app->frames == 1 && g_str_equal(GST_OBJECT_NAME(appsrc), "pooled"))
		app->pool = ask_for_pool(appsrc, caps);
	gst_caps_unref(caps);
	if (app->pool)
		gst_buffer_pool_acquire_buffer(app->pool, &buffer, NULL);
	else
		buffer = gst_buffer_new_allocate(NULL, GST_VIDEO_INFO_SIZE(&info), NULL);
	gst_buffer_memset(buffer, 0, (guint8)app->frames, GST_VIDEO_INFO_SIZE(&info));
	g_signal_emit_by_name(appsrc, "push-buffer", buffer, &flow);
	gst_buffer_unref(buffer);
}

/* ---- the other process ------------------------------------------------------------------- */

static gchar *socket_path(gchar **words)
{
	for (guint i = 0; words[i]; i++)
		if (g_str_has_prefix(words[i], "socket-path="))
			return words[i] + strlen("socket-path=");
	return NULL;
}

/* The line at the other end of the same socket; to be freed. */
static gchar *find_partner(gchar **lines, gchar **words)
{
	gchar *path = socket_path(words), *text = g_strjoinv(" ", words), *partner = NULL;

	for (guint i = 0; path && lines[i] && !partner; i++) {
		gchar **others, *other;

		if (!g_shell_parse_argv(lines[i], NULL, &others, NULL))
			continue;
		other = g_strjoinv(" ", others);
		if (g_strcmp0(socket_path(others), path) == 0 && !g_str_equal(other, text))
			partner = g_strdup(lines[i]);
		g_free(other);
		g_strfreev(others);
	}
	g_free(text);
	return partner;
}

static GPid start(const gchar *line)
{
	gchar **words, **environment = g_get_environ();
	GPid pid;

	/* What this process writes is its own. */
	environment = g_environ_unsetenv(environment, "GST_TRACERS");
	environment = g_environ_unsetenv(environment, "GST_DEBUG_FILE");
	if (!g_shell_parse_argv(line, NULL, &words, NULL) ||
	    !g_spawn_async(NULL, words, environment,
			   G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD |
				   G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL,
			   NULL, NULL, &pid, NULL))
		bail("cannot start %s", line);
	g_strfreev(words);
	g_strfreev(environment);
	return pid;
}

/* Whether it has come to its end and found nothing wrong. */
static gboolean ended_well(GPid pid)
{
	int status;

	if (!gst_test_until(waitpid(pid, &status, WNOHANG) == pid)) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- a pipeline -------------------------------------------------------------------------- */

static void count_copies(GstElement *element, struct run *run)
{
	guint64 copied;

	if (g_str_equal(factory_of(element), "zcbufsrc")) {
		copied = gst_test_stat(element, "copied-frames");
		run->zero_copy += gst_test_stat(element, "frames") - copied;
	} else {
		copied = gst_test_counter(element, "copied-frames");
		run->zero_copy += gst_test_counter(element, "zero-copy-frames");
	}
	run->copied += copied;
}

/* @partner: (nullable): line of the process at the other end of the socket @path */
static gboolean play(GstElement *pipeline, struct run *run, const gchar *path,
		     const gchar *partner)
{
	GstIterator *elements = gst_bin_iterate_recurse(GST_BIN(pipeline));
	struct app app = { 0 };
	GstElement *element;
	GValue item = G_VALUE_INIT;
	GSList *ours = NULL;
	gboolean ended, listens = FALSE;
	GPid pid = 0;

	memset(run, 0, sizeof(*run));
	run->others = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	current = run;
	while (gst_iterator_next(elements, &item) == GST_ITERATOR_OK) {
		element = g_value_get_object(&item);
		if (GST_OBJECT_FLAG_IS_SET(element, GST_ELEMENT_FLAG_SINK)) {
			watch(element, "sink", frame_arrives);
			listens |= g_object_class_find_property(G_OBJECT_GET_CLASS(element),
								"socket-path") != NULL;
		}
		if (g_str_has_prefix(factory_of(element), "zcbuf"))
			ours = g_slist_prepend(ours, gst_object_ref(element));
		if (g_str_equal(factory_of(element), "appsrc"))
			g_signal_connect(element, "need-data", G_CALLBACK(feed), &app);
		g_value_reset(&item);
	}
	gst_iterator_free(elements);

	if (partner && !listens) {
		pid = start(partner);
		gst_test_until(*path == '@' || access(path, F_OK) == 0);
	}
	gst_element_set_state(pipeline, GST_STATE_PLAYING);
	if (partner && listens)
		pid = start(partner);
	ended = gst_test_wait_eos(pipeline);
	for (GSList *i = ours; i; i = i->next)
		count_copies(i->data, run);
	g_slist_free_full(ours, gst_object_unref);
	gst_test_stop(pipeline);
	if (app.pool) {
		gst_buffer_pool_set_active(app.pool, FALSE);
		gst_object_unref(app.pool);
	}
	return (!partner || ended_well(pid)) && ended;
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
	}
	return NULL;
}

/*
 * @here: copies a frame by our elements; @others: who else copies; as the table has them.
 * @lines: among which is the other end of its socket, if it has one
 */
static void a_line_does_what_its_row_says(const gchar *element, const gchar *line,
					  const gchar *here, const gchar *others,
					  gchar **lines)
{
	static struct run first; /* of the two ends of a socket */
	GError *error = NULL;
	GstElement *pipeline, *plain;
	struct run run, reference;
	gchar **words, *copiers, *path, *partner;

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
	path = socket_path(words);
	partner = find_partner(lines, words);
	ok(play(pipeline, &run, path, partner) && run.frames > 0,
	   "%s: frames reach the end%s", element,
	   partner ? ", and so they do in the other process" : "");
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
		ok(play(plain, &reference, NULL, NULL) && reference.frames == run.frames &&
			   reference.sum == run.sum,
		   "%s: the frames are those of the same line without zcbuf", element);
		clear(&reference);
	}
	if (partner && first.frames > 0) {
		ok(first.frames == run.frames && first.sum == run.sum,
		   "%s: the same frames are at both ends of the socket", element);
		first.frames = 0;
	} else if (partner) {
		first = run;
	}
	g_free(partner);
	g_free(copiers);
	g_strfreev(words);
}

/* | element | `line` | here | others | why | */
static void every_row_is_true(void)
{
	GPtrArray *rows = g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
	GPtrArray *lines = g_ptr_array_new();
	gchar *text, **all;

	if (!g_file_get_contents(TABLE, &text, NULL, NULL))
		bail("no " TABLE);
	all = g_strsplit(text, "\n", -1);
	for (guint i = 0; all[i]; i++) {
		gchar **cells;

		if (!strstr(all[i], "gst-launch-1.0"))
			continue;
		cells = g_strsplit(all[i], "|", -1);
		if (!ok(g_strv_length(cells) == 7, "a row of the table: %s", all[i])) {
			g_strfreev(cells);
			continue;
		}
		for (guint c = 1; c <= 4; c++)
			g_strstrip(c == 2 ? g_strdelimit(cells[c], "`", ' ') : cells[c]);
		g_ptr_array_add(rows, cells);
		g_ptr_array_add(lines, cells[2]);
	}
	g_ptr_array_add(lines, NULL);
	for (guint i = 0; i < rows->len; i++) {
		gchar **cells = rows->pdata[i];

		a_line_does_what_its_row_says(cells[1], cells[2], cells[3], cells[4],
					      (gchar **)lines->pdata);
	}
	ok(rows->len > 0, "the table has %u rows", rows->len);
	g_ptr_array_free(lines, TRUE);
	g_ptr_array_free(rows, TRUE);
	g_strfreev(all);
	g_free(text);
}

/* What gst-inspect-1.0 says behind a word, such as "Example"; to be freed. */
static gchar *inspect(const gchar *element, const gchar *word)
{
	gchar *command = g_strdup_printf("gst-inspect-1.0 --no-colors %s", element);
	gchar *page = NULL, **lines, *text = NULL;

	g_spawn_command_line_sync(command, &page, NULL, NULL, NULL);
	lines = g_strsplit(page ? page : "", "\n", -1);
	for (guint i = 0; lines[i] && !text; i++)
		if (g_str_has_prefix(g_strstrip(lines[i]), word))
			text = g_strdup(g_strchug(lines[i] + strlen(word)));
	g_strfreev(lines);
	g_free(page);
	g_free(command);
	return text;
}

static void every_example_runs(void)
{
	static const gchar *const elements[] = { "zcbufupload", "zcbufsink", "zcbufsrc" };
	gchar *lines[G_N_ELEMENTS(elements) + 1] = { NULL };

	for (guint i = 0; i < G_N_ELEMENTS(elements); i++) {
		lines[i] = inspect(elements[i], "Example");
		if (!lines[i])
			bail("gst-inspect-1.0 has no example of %s", elements[i]);
	}
	for (guint i = 0; i < G_N_ELEMENTS(elements); i++)
		a_line_does_what_its_row_says(elements[i], lines[i], "0", "", lines);
	for (guint i = 0; i < G_N_ELEMENTS(elements); i++)
		g_free(lines[i]);
}

/*
 * Mesa's software renderer, in this process and in weston. Through vgem's render node it cannot
 * map the frames on Linux 6.1, and reads from address 0; without a node it maps the dma-bufs
 * themselves. AVX2's gathers, in QEMU's emulation, read 2 GiB beside the frame there.
 */
static void prepare_gl(void)
{
	setenv("GST_GL_PLATFORM", "egl", FALSE);
	setenv("GST_GL_WINDOW", "surfaceless", FALSE);
	setenv("GALLIUM_OVERRIDE_CPU_CAPS", "sse4.1", FALSE);
	if (unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("/dev/null", "/dev/dri/renderD128", NULL, MS_BIND, NULL) < 0)
		bail("cannot hide /dev/dri/renderD128: %s", strerror(errno));
}

/* waylandsink's display, without a screen. */
static GPid start_weston(void)
{
	static gchar dir[] = "/tmp/zcbuf-weston-XXXXXX";
	gchar *path;
	GPid pid;

	if (!mkdtemp(dir))
		bail("no temporary directory");
	setenv("XDG_RUNTIME_DIR", dir, TRUE);
	setenv("WAYLAND_DISPLAY", "zcbuf-test", TRUE);
	pid = start("weston --backend=headless --renderer=gl --socket=zcbuf-test "
		    "--idle-time=0");
	path = g_build_filename(dir, "zcbuf-test", NULL);
	gst_test_until(access(path, F_OK) == 0);
	g_free(path);
	return pid;
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
	GPid weston;

	prepare_gl();
	gst_test_begin();
	choose_hdmi();
	weston = start_weston();
	/* Where elements say that they copy. */
	gst_debug_set_threshold_from_string(
		"GST_PERFORMANCE:LOG,kmssink:LOG,v4l2bufferpool:LOG,waylandsink:LOG,"
		"glupload:LOG",
		FALSE);
	gst_debug_remove_log_function(gst_debug_log_default);
	gst_debug_add_log_function(hear_of_copies, NULL, NULL);
	every_row_is_true();
	every_example_runs();
	gst_debug_remove_log_function(hear_of_copies);
	kill(weston, SIGTERM);
	ok(ended_well(weston), "weston has come through all of it");
	return done_testing();
}
