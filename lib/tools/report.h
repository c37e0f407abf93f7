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
#include <stdio.h>

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
/* The same, or ">= 1 MiB" for what is at least so large; JSON has the number. */
void report_size(struct report *report, const char *title, const char *key, uint64_t bytes,
		 bool exact);
/* "90 s", "5 min", or ">= 5 min" for what is at least so long, which is null in JSON. */
void report_seconds(struct report *report, const char *title, const char *key,
		    uint64_t seconds, bool exact);
void report_unknown(struct report *report, const char *title, const char *key);
void report_bool(struct report *report, const char *title, const char *key, bool value);

/* The names of the @bits that are set: "pin,vmap" or ["pin", "vmap"]. */
void report_bits(struct report *report, const char *title, const char *key, uint64_t bits,
		 const char *const *names, size_t count);

/* Texts up to a NULL: "a,b" or ["a", "b"]. */
void report_texts(struct report *report, const char *title, const char *key,
		  char *const *texts);

/* Numbers, which a table has as @shown. */
void report_numbers(struct report *report, const char *title, const char *key,
		    const char *shown, const uint64_t *numbers, size_t count);

bool report_is_empty(const struct report *report);

void report_write(const struct report *report, FILE *file);
void report_print(const struct report *report);
void report_free(struct report *report);

/* Bytes for people: "8 MiB", "8100 KiB". */
struct readable {
	char text[32];
};
struct readable readable_bytes(uint64_t bytes);

/*
 * Names are other people's: what could steer a terminal is shown as '?'. The caller frees
 * the result.
 */
char *report_printable(const char *text);

/* What malloc() and its like returned; out of memory, the command ends. */
void *or_die(void *memory);

#endif /* ZCBUF_TOOLS_REPORT_H */
