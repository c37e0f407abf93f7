// SPDX-License-Identifier: LGPL-2.1-or-later
/* zcbuf top: every dma-buf of the machine, and who holds it. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "top.h"

static const char help[] =
	"Usage: zcbuf top [--by TABLE] [--sort COLUMN] [--reverse] [--filter WORDS]\n"
	"                 [--interval SECONDS] [--once] [--json]\n"
	"\n"
	"Shows every dma-buf of this machine that this user may see, whoever exported "
	"it, and\n"
	"who holds it: live, or once if there is no terminal.\n"
	"\n"
	"  --by TABLE          buffer, holding, process, exporter or cgroup\n"
	"  --sort COLUMN       the column that decides the order\n"
	"  --reverse           the other way round: smallest number first\n"
	"  --filter WORDS      only what has all of these words: TEXT in any field, or "
	"FIELD=TEXT;\n"
	"                      the fields are exporter, name, inode, device, pid, process, "
	"user,\n"
	"                      cgroup\n"
	"  --interval SECONDS  between two looks, 2 if not given\n"
	"  --once              look once, and print it\n"
	"  --json              the same as JSON, with all tables\n"
	"\n"
	"  AGE       since the buffer was made\n"
	"  FDS       file descriptors of it; MAPS: mappings, MAPPED: their bytes\n"
	"  DEVICES   that are attached: their names, or how many\n"
	"  HELD BY   processes that have a file descriptor or a mapping\n"
	"  HELD      memory in a process's buffers, that of several views counted once\n"
	"  SHARE     of it, if all processes that hold some take an equal part\n"
	"  UNIQUE    of it what no other process, or cgroup, holds\n"
	"  SHARED    memory that several processes hold; NO PROCESS: only devices, or in\n"
	"            flight between processes\n"
	"\n"
	"'-' stands for what is not known, '>=' for what is at least so much.\n"
	"\n"
	"Keys:      q quits; b, h, p, e, c choose the table; < and > the column, r "
	"reverses;\n"
	"           / filters; arrows scroll; space looks now\n"
	"Examples:  zcbuf top    zcbuf top --once --by process    zcbuf top --filter "
	"exporter=drm\n";

static int find_table(const char *name)
{
	for (int i = 0; i < TOP_TABLES; i++) {
		if (!strcmp(top_table_names[i], name))
			return i;
	}
	return -1;
}

/* "inode, size, …": what --sort takes. */
static const char *keys_of(enum top_table table, char *text, size_t size)
{
	const char *key;
	size_t length = 0;

	for (size_t i = 0; (key = top_column_key(table, i)) && length < size; i++)
		length += (size_t)snprintf(text + length, size - length, "%s%s",
					   i ? ", " : "", key);
	return text;
}

static bool parse_seconds(const char *text, double *seconds)
{
	char *end;

	if (!strchr("0123456789.", *text))
		return false;
	*seconds = strtod(text, &end);
	return end != text && !*end && *seconds >= 0.1 && *seconds <= 86400;
}

/* One object with a member for each table. */
static void print_json(const struct scan *scan, struct top_choice choice)
{
	static const char *const members[TOP_TABLES] = {
		[TOP_BUFFER] = "buffers",    [TOP_HOLDING] = "holdings",
		[TOP_PROCESS] = "processes", [TOP_EXPORTER] = "exporters",
		[TOP_CGROUP] = "cgroups",
	};
	enum top_table sorted = choice.table;
	struct report *missing = report_new(true);
	char note[256];

	printf("{\"time\": %.3f,\n", scan->time);
	for (choice.table = 0; choice.table < TOP_TABLES; choice.table++) {
		struct top_choice by_default = choice;
		struct report *report;

		if (choice.table != sorted) {
			by_default.column = (size_t)top_column_find(choice.table, NULL);
			by_default.reverse = false;
		}
		report = top_report(scan, &by_default, true);
		printf("\"%s\": ", members[choice.table]);
		report_print(report);
		printf(",\n");
		report_free(report);
	}
	printf("\"hidden_processes\": %zu,\n\"missing\": ",
	       scan->hidden_others + scan->hidden_own);
	for (size_t i = 0; scan_note(scan, i, note, sizeof(note)); i++) {
		report_row(missing);
		report_text(missing, NULL, "what", note);
	}
	report_print(missing);
	printf("}\n");
	report_free(missing);
}

static void print_table(const struct scan *scan, const struct top_choice *choice)
{
	struct report *report = top_report(scan, choice, false);
	char text[256];

	top_summary(scan, &choice->filter, text, sizeof(text));
	printf("%s\n", text);
	report_print(report);
	report_free(report);
	fflush(stdout);
	for (size_t i = 0; scan_note(scan, i, text, sizeof(text)); i++)
		fprintf(stderr, "zcbuf: %s\n", text);
}

static int show_once(struct zcbuf_ctx *ctx, const struct top_choice *choice, bool json)
{
	struct scan *scan = scan_new(ctx);

	if (!scan)
		return failure("/proc: %m");
	if (json)
		print_json(scan, *choice);
	else
		print_table(scan, choice);
	scan_free(scan);
	return EXIT_SUCCESS;
}

static bool has_screen(void)
{
	const char *terminal = getenv("TERM");

	return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && terminal &&
	       strcmp(terminal, "dumb") != 0;
}

int cmd_top(struct zcbuf_ctx *ctx, int argc, char **argv)
{
	static const struct option options[] = {
		{ "by", required_argument, NULL, 'b' },
		{ "sort", required_argument, NULL, 's' },
		{ "reverse", no_argument, NULL, 'r' },
		{ "filter", required_argument, NULL, 'f' },
		{ "interval", required_argument, NULL, 'i' },
		{ "once", no_argument, NULL, 'o' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct top_choice choice = { .table = TOP_BUFFER };
	bool json = false, once = false;
	const char *sort = NULL;
	double interval = 2;
	char text[256];
	int number;

	for (int o; (o = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
		switch (o) {
		case 'b':
			number = find_table(optarg);
			if (number < 0)
				return usage_error("top",
						   "--by %s: not buffer, holding, process, "
						   "exporter or cgroup",
						   optarg);
			choice.table = (enum top_table)number;
			break;
		case 's':
			sort = optarg;
			break;
		case 'r':
			choice.reverse = true;
			break;
		case 'f':
			if (!top_filter_parse(&choice.filter, optarg, text, sizeof(text)))
				return usage_error("top", "--filter %s: %s", optarg, text);
			break;
		case 'i':
			if (!parse_seconds(optarg, &interval))
				return usage_error("top",
						   "--interval %s: not seconds from 0.1 to "
						   "86400",
						   optarg);
			break;
		case 'o':
			once = true;
			break;
		case 'j':
			json = true;
			break;
		case 'h':
			fputs(help, stdout);
			return EXIT_SUCCESS;
		default:
			return EXIT_USAGE;
		}
	}
	if (optind < argc)
		return usage_error("top", "%s: not expected", argv[optind]);
	number = top_column_find(choice.table, sort);
	if (number < 0)
		return usage_error("top", "--sort %s: --by %s has %s", sort,
				   top_table_names[choice.table],
				   keys_of(choice.table, text, sizeof(text)));
	choice.column = (size_t)number;
	zcbuf_ctx_set_log(ctx, NULL, NULL); /* most of what is tried here may well fail */
	if (json || once || !has_screen())
		return show_once(ctx, &choice, json);
	return top_screen(ctx, choice, interval);
}
