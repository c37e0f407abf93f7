/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of 'zcbuf doctor' share. */
#ifndef ZCBUF_TOOLS_DOCTOR_H
#define ZCBUF_TOOLS_DOCTOR_H

#include <sys/stat.h>
#include <sys/utsname.h>

#include "report.h"
#include "tools.h"

enum verdict {
	FINE,
	NOTE,	 /* of no consequence, or could not be looked at */
	WARNING, /* does not keep anybody from allocating, or may in a while */
	FAILURE, /* does */
};

struct doctor {
	struct zcbuf_ctx *ctx;
	struct report *json; /* or NULL */
	bool has_remedy;     /* the last finding, in the JSON */
	unsigned int failures;
	uint64_t size; /* of a buffer that is wanted */
	struct utsname machine;
	bool is_loaded; /* the module */
	bool has_room;	/* memory suffices for a buffer, so that one can be tried */
	bool is_over_limit;
};

/* Adds what was found about one thing. */
__attribute__((format(printf, 4, 5))) void finding(struct doctor *doctor,
						   enum verdict verdict, const char *about,
						   const char *format, ...);

/* What to do about the last finding. */
__attribute__((format(printf, 2, 3))) void remedy(struct doctor *doctor, const char *format,
						  ...);

/* The first line of a file; false if there is none to be read, see errno. */
__attribute__((format(printf, 3, 4))) bool first_line(char *line, size_t size,
						      const char *format, ...);

/* Appends @name to the list "one, two" in @list of @size bytes. */
void append(char *list, size_t size, const char *name);

/*
 * Runs a program; @said gets the last line that it prints. Returns its exit status, which
 * is 127 if there is no such program.
 */
int run(char *said, size_t size, const char *const *arguments);

/* Calls @look with each name in the directory @path that is no dot file, in order. */
void for_each_name(const char *path, void (*look)(void *data, const char *name),
		   void *data);

/* The path of the node that is called @name in /sys/class/zcbuf. */
struct node_path {
	char text[80];
};
struct node_path node_path(const char *name);

/* Why this user may not open a node, and what helps. */
struct denial {
	char reason[160];
	char remedy[256];
};
struct denial why_denied(const char *path, const struct stat *node);

/* The parts of the examination, in their order. */
void doctor_kernel(struct doctor *doctor);
void doctor_module(struct doctor *doctor);
void doctor_nodes(struct doctor *doctor);
void doctor_rights(struct doctor *doctor);
void doctor_limits(struct doctor *doctor);
void doctor_heaps(struct doctor *doctor);
void doctor_importers(struct doctor *doctor);
void doctor_gstreamer(struct doctor *doctor);

#endif /* ZCBUF_TOOLS_DOCTOR_H */
