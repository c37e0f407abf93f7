// SPDX-License-Identifier: LGPL-2.1-or-later
/* Tables and JSON. */
#include "report.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>

#define MAX_COLUMNS 24

struct cell {
	char *shown; /* NULL in JSON */
	char *json;  /* NULL in a table */
};

struct column {
	const char *title;
	const char *key;
	bool right; /* aligned: numbers */
	int width;
};

struct report {
	bool json;
	size_t columns, rows, next; /* @next cell of the last row */
	struct column column[MAX_COLUMNS];
	struct cell (*row)[MAX_COLUMNS];
};

void *or_die(void *memory)
{
	if (memory)
		return memory;
	fputs("zcbuf: out of memory\n", stderr);
	exit(EXIT_FAILURE);
}

__attribute__((format(printf, 1, 2))) static char *format(const char *text, ...)
{
	va_list args;
	char *result;
	int length;

	va_start(args, text);
	length = vasprintf(&result, text, args);
	va_end(args);
	return or_die(length < 0 ? NULL : result);
}

struct report *report_new(bool json)
{
	struct report *report = or_die(calloc(1, sizeof(*report)));

	report->json = json;
	return report;
}

void report_row(struct report *report)
{
	report->row =
		or_die(reallocarray(report->row, report->rows + 1, sizeof(*report->row)));
	memset(report->row[report->rows++], 0, sizeof(*report->row));
	report->next = 0;
}

bool report_is_empty(const struct report *report)
{
	return !report->rows;
}

/* How many places a text takes on a terminal. */
static int width_of(const char *text)
{
	wchar_t wide[256];
	size_t length = mbstowcs(wide, text, 256);

	return length > 256 ? (int)strlen(text) : wcswidth(wide, length);
}

/* Takes over the one of @shown and @json that will be printed, and frees the
 * other. */
static void add_cell(struct report *report, const char *title, const char *key, bool right,
		     char *shown, char *json)
{
	struct column *column = &report->column[report->next];
	struct cell *cell = &report->row[report->rows - 1][report->next];

	free(report->json ? shown : json);
	if (report->json)
		cell->json = json;
	else
		cell->shown = shown;
	if (++report->next > report->columns)
		report->columns = report->next;
	column->title = title;
	column->key = key;
	column->right |= right;
	if (!report->json && title) {
		int width = width_of(shown);

		column->width = column->width > width ? column->width : width;
	}
}

/* The character at the start of @text and its length; an invalid byte is '\0' of length 1. */
static size_t character(const char *text, wchar_t *wide)
{
	mbstate_t state = { 0 };
	size_t length = mbrtowc(wide, text, MB_CUR_MAX, &state);

	if (length != (size_t)-1 && length != (size_t)-2)
		return length;
	*wide = L'\0';
	return 1;
}

char *report_printable(const char *text)
{
	char *shown = or_die(malloc(strlen(text) + 1)), *end = shown;

	while (*text) {
		wchar_t wide;
		size_t length = character(text, &wide);

		if (wide && iswprint((wint_t)wide))
			end = mempcpy(end, text, length);
		else
			*end++ = '?';
		text += length;
	}
	*end = '\0';
	return shown;
}

static char *json_string(const char *text)
{
	char *json = or_die(malloc(6 * strlen(text) + 3)), *end = json;

	*end++ = '"';
	while (*text) {
		wchar_t wide;
		size_t length = character(text, &wide);

		if (!wide)
			end += sprintf(end, "\\ufffd");
		else if (wide < 0x20 || wide == '"' || wide == '\\')
			end += sprintf(end, "\\u%04x", (unsigned int)wide);
		else
			end = mempcpy(end, text, length);
		text += length;
	}
	*end++ = '"';
	*end = '\0';
	return json;
}

void report_unknown(struct report *report, const char *title, const char *key)
{
	add_cell(report, title, key, false, format("-"), format("null"));
}

void report_text(struct report *report, const char *title, const char *key,
		 const char *text)
{
	if (text)
		add_cell(report, title, key, false, report_printable(text),
			 json_string(text));
	else
		report_unknown(report, title, key);
}

void report_number(struct report *report, const char *title, const char *key,
		   uint64_t number)
{
	add_cell(report, title, key, true, format("%" PRIu64, number),
		 format("%" PRIu64, number));
}

void report_figure(struct report *report, const char *title, const char *key,
		   const char *text)
{
	add_cell(report, title, key, true, report_printable(text), json_string(text));
}

struct readable readable_bytes(uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double value = (double)bytes;
	struct readable text;
	size_t unit = 0;
	int digits = 1;

	while (value >= 1024 && unit < 4) {
		value /= 1024;
		unit++;
	}
	if (value == (double)(uint64_t)value) {
		digits = 0;
	} else if (unit > 1 && value * 1024 == (double)(uint64_t)(value * 1024)) {
		/* Exactly, if the next smaller unit can say it: 8100 KiB, not 7.9 MiB. */
		value *= 1024;
		unit--;
		digits = 0;
	}
	snprintf(text.text, sizeof(text.text), "%.*f %s", digits, value, units[unit]);
	return text;
}

void report_bytes(struct report *report, const char *title, const char *key, uint64_t bytes)
{
	add_cell(report, title, key, true, format("%s", readable_bytes(bytes).text),
		 format("%" PRIu64, bytes));
}

void report_size(struct report *report, const char *title, const char *key, uint64_t bytes,
		 bool exact)
{
	add_cell(report, title, key, true,
		 format("%s%s", exact ? "" : ">= ", readable_bytes(bytes).text),
		 format("%" PRIu64, bytes));
}

void report_seconds(struct report *report, const char *title, const char *key,
		    uint64_t seconds, bool exact)
{
	static const struct {
		uint64_t seconds;
		const char *name;
	} units[] = { { 86400, "d" }, { 3600, "h" }, { 60, "min" }, { 1, "s" } };
	size_t unit = 0;

	while (unit < 3 && seconds < 2 * units[unit].seconds)
		unit++;
	add_cell(report, title, key, true,
		 format("%s%" PRIu64 " %s", exact ? "" : ">= ",
			seconds / units[unit].seconds, units[unit].name),
		 exact ? format("%" PRIu64, seconds) : format("null"));
}

void report_numbers(struct report *report, const char *title, const char *key,
		    const char *shown, const uint64_t *numbers, size_t count)
{
	char *json = format("[");

	for (size_t i = 0; i < count; i++) {
		char *longer = format("%s%s%" PRIu64, json, i ? ", " : "", numbers[i]);

		free(json);
		json = longer;
	}
	add_cell(report, title, key, false, report_printable(count ? shown : "-"),
		 format("%s]", json));
	free(json);
}

void report_texts(struct report *report, const char *title, const char *key,
		  char *const *texts)
{
	char *shown = format("%s", ""), *json = format("["), *all;

	for (size_t i = 0; texts[i]; i++) {
		char *quoted = json_string(texts[i]);
		char *longer = format("%s%s%s", json, i ? ", " : "", quoted);

		free(quoted);
		free(json);
		json = longer;
		longer = format("%s%s%s", shown, i ? "," : "", texts[i]);
		free(shown);
		shown = longer;
	}
	all = report_printable(*shown ? shown : "-");
	add_cell(report, title, key, false, all, format("%s]", json));
	free(shown);
	free(json);
}

void report_bool(struct report *report, const char *title, const char *key, bool value)
{
	add_cell(report, title, key, false, format(value ? "yes" : "no"),
		 format(value ? "true" : "false"));
}

void report_bits(struct report *report, const char *title, const char *key, uint64_t bits,
		 const char *const *names, size_t count)
{
	char *shown = format("%s", ""), *json = format("[");

	for (size_t i = 0; i < count; i++) {
		char *longer;

		if (!(bits >> i & 1))
			continue;
		longer = format("%s%s%s", shown, *shown ? "," : "", names[i]);
		free(shown);
		shown = longer;
		longer = format("%s%s\"%s\"", json, json[1] ? ", " : "", names[i]);
		free(json);
		json = longer;
	}
	if (!*shown) {
		free(shown);
		shown = format("-");
	}
	add_cell(report, title, key, false, shown, format("%s]", json));
	free(json);
}

static void print_json(const struct report *report, FILE *file)
{
	fprintf(file, "[");
	for (size_t row = 0; row < report->rows; row++) {
		fprintf(file, row ? ",\n " : "\n ");
		for (size_t i = 0; i < report->columns; i++)
			fprintf(file, "%s\"%s\": %s", i ? ", " : "{", report->column[i].key,
				report->row[row][i].json);
		fprintf(file, "}");
	}
	fprintf(file, report->rows ? "\n]\n" : "]\n");
}

static void print_line(const struct report *report, const struct cell *cells, FILE *file)
{
	const char *gap = "";
	int skipped = 0; /* blanks that are printed only if something follows */

	for (size_t i = 0; i < report->columns; i++) {
		const struct column *column = &report->column[i];
		const char *text = cells ? cells[i].shown : column->title;
		int width, blanks;

		if (!column->title)
			continue;
		width = (int)strlen(column->title);
		width = column->width > width ? column->width : width;
		blanks = width - width_of(text);
		fprintf(file, "%*s%s", skipped + (column->right ? blanks : 0), "", gap);
		fprintf(file, "%s", text);
		skipped = column->right ? 0 : blanks;
		gap = "  ";
	}
	fprintf(file, "\n");
}

static void print_table(const struct report *report, FILE *file)
{
	if (report->rows)
		print_line(report, NULL, file);
	for (size_t row = 0; row < report->rows; row++)
		print_line(report, report->row[row], file);
}

void report_write(const struct report *report, FILE *file)
{
	if (report->json)
		print_json(report, file);
	else
		print_table(report, file);
}

void report_print(const struct report *report)
{
	report_write(report, stdout);
}

void report_free(struct report *report)
{
	for (size_t row = 0; row < report->rows; row++) {
		for (size_t i = 0; i < report->columns; i++) {
			free(report->row[row][i].shown);
			free(report->row[row][i].json);
		}
	}
	free(report->row);
	free(report);
}
