/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rows for people or for programs: the same calls print an aligned table or, as
 * JSON, an array of objects. Every row has the same cells in the same order.
 * @title heads the column of the table; a cell whose title is NULL is only in
 * the JSON.
 */
#ifndef ZCBUF_TOOLS_REPORT_H
#define ZCBUF_TOOLS_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct report;

struct report *report_new(bool json);
void report_row(struct report *report);

/* NULL is what is not known: "-" or null. */
void report_text(struct report *report, const char *title, const char *key,
		 const char *text);
void report_number(struct report *report, const char *title, const char *key,
		   uint64_t number);
/* A number that the caller has written down as he likes it. */
void report_figure(struct report *report, const char *title, const char *key,
		   const char *text);
void report_bytes(struct report *report, const char *title, const char *key,
		  uint64_t bytes);
void report_unknown(struct report *report, const char *title, const char *key);
void report_bool(struct report *report, const char *title, const char *key, bool value);

/* The names of the @bits that are set: "pin,vmap" or ["pin", "vmap"]. */
void report_bits(struct report *report, const char *title, const char *key, uint64_t bits,
		 const char *const *names, size_t count);

bool report_is_empty(const struct report *report);

void report_print(const struct report *report);
void report_free(struct report *report);

#endif /* ZCBUF_TOOLS_REPORT_H */
