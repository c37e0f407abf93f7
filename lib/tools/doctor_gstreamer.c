// SPDX-License-Identifier: LGPL-2.1-or-later
/* Whether GStreamer finds zcbuf's plugin, and can load it. */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "doctor.h"

#define PLUGIN "libgstzcbuf.so"

/* The directories that a distribution may have; those of GStreamer have its core elements. */
static const char installed[] = "/usr/{lib,lib64,lib/*-linux-gnu*}/gstreamer-1.0";
/* Those that one may have who builds it, and where nobody looks who is not told to. */
static const char elsewhere[] = "/usr/local/{lib,lib64,lib/*-linux-gnu*}/gstreamer-1.0";

static bool find(const char *directories, const char *file, char *path, size_t size)
{
	char pattern[512];
	glob_t found;
	bool is_found;

	snprintf(pattern, sizeof(pattern), "%s/%s", directories, file);
	is_found = !glob(pattern, GLOB_BRACE, NULL, &found);
	if (is_found)
		snprintf(path, size, "%s", found.gl_pathv[0]);
	globfree(&found);
	return is_found;
}

/* The value of @name with _1_0 behind it, else of @name. */
static const char *setting(const char *name)
{
	char specific[64];
	const char *value;

	snprintf(specific, sizeof(specific), "%s_1_0", name);
	value = getenv(specific);
	return value ? value : getenv(name);
}

/* In the directories of @list, separated by colons. */
static bool find_in(const char *list, char *path, size_t size)
{
	while (list && *list) {
		size_t length = strcspn(list, ":");

		snprintf(path, size, "%.*s/%s", (int)length, list, PLUGIN);
		if (!access(path, R_OK))
			return true;
		list += length + (list[length] == ':');
	}
	return false;
}

/* As GStreamer looks for plugins, and in its order. */
static bool find_plugin(char *path, size_t size)
{
	const char *system_path = setting("GST_PLUGIN_SYSTEM_PATH");
	const char *home = getenv("HOME"), *share = getenv("XDG_DATA_HOME");
	char own[512];

	if (find_in(setting("GST_PLUGIN_PATH"), path, size))
		return true;
	if (system_path)
		return find_in(system_path, path, size);
	snprintf(own, sizeof(own), "%s%s/gstreamer-1.0/plugins", share ? share : home,
		 share ? "" : "/.local/share");
	return ((share || home) && find_in(own, path, size)) ||
	       find(installed, PLUGIN, path, size);
}

/* GStreamer would write down which plugins there are, and is told not to. */
static int inspect(const char *path, char *said, size_t size)
{
	return run(said, size,
		   (const char *const[]){ "env", "GST_REGISTRY_DISABLE=yes",
					  "gst-inspect-1.0", path, NULL });
}

void doctor_gstreamer(struct doctor *doctor)
{
	char path[512], said[512];
	int status;

	if (!find_plugin(path, sizeof(path))) {
		if (find(elsewhere, PLUGIN, path, sizeof(path))) {
			*strrchr(path, '/') = '\0';
			finding(doctor, WARNING, "gstreamer",
				"the plugin is in %s, where GStreamer does not look", path);
			remedy(doctor, "export GST_PLUGIN_PATH=%s", path);
		} else if (find(installed, "libgstcoreelements.so", path, sizeof(path))) {
			*strrchr(path, '/') = '\0';
			finding(doctor, WARNING, "gstreamer",
				"the plugin %s is not where GStreamer looks", PLUGIN);
			remedy(doctor,
			       "install it in %s, or: export GST_PLUGIN_PATH=DIRECTORY "
			       "with "
			       "its own",
			       path);
		} else {
			finding(doctor, NOTE, "gstreamer", "not installed");
		}
		return;
	}
	status = inspect(path, said, sizeof(said));
	if (status == 127) {
		finding(doctor, FINE, "gstreamer", "%s; not tried without gst-inspect-1.0",
			path);
	} else if (status) {
		finding(doctor, WARNING, "gstreamer", "%s: %s", path, said);
		remedy(doctor,
		       "install what it misses; it needs GStreamer 1.24 or later, and "
		       "libzcbuf of its own version");
	} else {
		finding(doctor, FINE, "gstreamer", "%s", path);
	}
}
