/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of 'zcbuf top' share. */
#ifndef ZCBUF_TOOLS_TOP_H
#define ZCBUF_TOOLS_TOP_H

#include "report.h"
#include "scan.h"

enum top_table {
	TOP_BUFFER,
	TOP_HOLDING,
	TOP_PROCESS,
	TOP_EXPORTER,
	TOP_CGROUP,
	TOP_TABLES,
};

extern const char *const top_table_names[TOP_TABLES];

/* Words that all must be found: FIELD=TEXT, or TEXT in any field. */
struct top_filter {
	char given[128];
	size_t count;
	struct {
		int field; /* -1: any */
		char text[64];
	} words[8];
};

/* Returns false, and why in @error, if @text is no filter. */
bool top_filter_parse(struct top_filter *filter, const char *text, char *error,
		      size_t size);

/* Which table is shown, and how. */
struct top_choice {
	enum top_table table;
	size_t column; /* that it is sorted by */
	bool reverse;  /* not the largest number, or the first text, at the top */
	struct top_filter filter;
};

/* The column of a table that is called @key, or -1; without a key that it is sorted by. */
int top_column_find(enum top_table table, const char *key);

/* The key of a column, or NULL if the table has no more. */
const char *top_column_key(enum top_table table, size_t column);

/* Makes the table. */
struct report *top_report(const struct scan *scan, const struct top_choice *choice,
			  bool json);

/* What is in it, all in all: "3 buffers, 12 MiB, held by 2 processes". */
void top_summary(const struct scan *scan, const struct top_filter *filter, char *text,
		 size_t size);

/* Shows it all, again and again, until somebody quits. Returns the exit status. */
int top_screen(struct zcbuf_ctx *ctx, struct top_choice choice, double interval);

#endif /* ZCBUF_TOOLS_TOP_H */
