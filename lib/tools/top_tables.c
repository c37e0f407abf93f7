// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The tables of zcbuf top. Memory that several dma-bufs share, as zcbuf's views do, counts
 * once. Each process that holds some has an equal share of it.
 */
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "top.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MAX_CELLS    20

const char *const top_table_names[TOP_TABLES] = {
	[TOP_BUFFER] = "buffer",     [TOP_HOLDING] = "holding", [TOP_PROCESS] = "process",
	[TOP_EXPORTER] = "exporter", [TOP_CGROUP] = "cgroup",
};

/* ---- filter ---------------------------------------------------------------------------- */

enum { EXPORTER, NAME, INODE, DEVICE, PID, PROCESS, USER, CGROUP, FIELDS };

static const char *const fields[FIELDS] = { "exporter", "name",	   "inode", "device",
					    "pid",	"process", "user",  "cgroup" };

bool top_filter_parse(struct top_filter *filter, const char *text, char *error, size_t size)
{
	struct top_filter parsed = { 0 };

	snprintf(parsed.given, sizeof(parsed.given), "%s", text);
	while (*(text += strspn(text, " "))) {
		size_t length = strcspn(text, " "), name = strcspn(text, "= ");
		int field = -1;

		if (parsed.count == COUNT(parsed.words) ||
		    length >= sizeof(parsed.words[0].text)) {
			snprintf(error, size, "no more than %zu words of %zu bytes",
				 COUNT(parsed.words), sizeof(parsed.words[0].text) - 1);
			return false;
		}
		for (int i = 0; text[name] == '=' && i < FIELDS; i++) {
			if (strlen(fields[i]) == name && !strncmp(text, fields[i], name))
				field = i;
		}
		if (text[name] == '=' && field < 0) {
			snprintf(
				error, size,
				"no field '%.*s'; there are exporter, name, inode, device, "
				"pid, process, user, cgroup",
				(int)(name < 32 ? name : 32), text);
			return false;
		}
		parsed.words[parsed.count].field = field;
		name = field < 0 ? 0 : name + 1;
		snprintf(parsed.words[parsed.count++].text, sizeof(parsed.words[0].text),
			 "%.*s", (int)(length - name), text + name);
		text += length;
	}
	*filter = parsed;
	return true;
}

static const char *user_name(uid_t user)
{
	static char name[64];
	static uid_t last = (uid_t)-1;
	const struct passwd *entry;

	if (user == last && name[0])
		return name;
	entry = getpwuid(user);
	last = user;
	if (entry)
		snprintf(name, sizeof(name), "%s", entry->pw_name);
	else
		snprintf(name, sizeof(name), "%u", user);
	return name;
}

static bool is_number(const char *text, uint64_t number)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%" PRIu64, number);
	return !strcmp(text, digits);
}

static bool field_matches(int field, const char *text, const struct scan_buffer *buffer,
			  const struct scan_process *process)
{
	switch (field) {
	case EXPORTER:
		return strcasestr(buffer->exporter, text);
	case NAME:
		return strcasestr(buffer->name, text);
	case INODE:
		return is_number(text, buffer->inode);
	case DEVICE:
		for (size_t i = 0; buffer->devices && buffer->devices[i]; i++) {
			if (strcasestr(buffer->devices[i], text))
				return true;
		}
		return false;
	case PID:
		return process && is_number(text, (uint64_t)process->pid);
	case PROCESS:
		return process && strcasestr(process->name, text);
	case USER:
		return process && strcasestr(user_name(process->user), text);
	default:
		return process && process->cgroup && strcasestr(process->cgroup, text);
	}
}

/* Whether a buffer is meant, as held by a process or, if that is NULL, by none. */
static bool matches(const struct top_filter *filter, const struct scan_buffer *buffer,
		    const struct scan_process *process)
{
	for (size_t i = 0; i < filter->count; i++) {
		int field = filter->words[i].field, first = field < 0 ? 0 : field;
		int end = field < 0 ? FIELDS : field + 1;
		bool found = false;

		for (int f = first; f < end && !found; f++)
			found = field_matches(f, filter->words[i].text, buffer, process);
		if (!found)
			return false;
	}
	return true;
}

static bool is_meant(const struct top_filter *filter, const struct scan_buffer *buffer)
{
	const struct scan_holding *holding = buffer->holdings;

	if (!holding)
		return matches(filter, buffer, NULL);
	while (holding && !matches(filter, buffer, holding->process))
		holding = holding->next;
	return holding != NULL;
}

/* ---- who has how much ------------------------------------------------------------------ */

static uint64_t memory_size(const struct scan_buffer *memory)
{
	return memory->info.buffer_id ? memory->info.buffer_size : memory->size;
}

/* A process, and memory that it holds by one buffer or several. */
struct claim {
	const struct scan_buffer *memory;
	const struct scan_process *process;
	bool meant;
};

struct claims {
	struct claim *array;
	size_t count;
	uint32_t *holders; /* processes, for each memory's index */
};

static int by_memory(const void *a, const void *b)
{
	const struct claim *x = a, *y = b;

	if (x->memory != y->memory)
		return x->memory->index < y->memory->index ? -1 : 1;
	return (x->process->index > y->process->index) -
	       (x->process->index < y->process->index);
}

static struct claims claims_of(const struct scan *scan, const struct top_filter *filter)
{
	struct claims claims = {
		.array = or_die(calloc(scan->holding_count + 1, sizeof(struct claim))),
		.holders = or_die(calloc(scan->buffer_count + 1, sizeof(uint32_t))),
	};

	for (size_t i = 0; i < scan->holding_count; i++) {
		const struct scan_holding *holding = scan->holdings[i];

		claims.array[i] = (struct claim){
			.memory = holding->buffer->memory,
			.process = holding->process,
			.meant = matches(filter, holding->buffer, holding->process),
		};
	}
	qsort(claims.array, scan->holding_count, sizeof(struct claim), by_memory);
	for (size_t i = 0; i < scan->holding_count; i++) {
		struct claim *claim = &claims.array[i];
		struct claim *last = claims.count ? &claims.array[claims.count - 1] : NULL;

		if (last && last->memory == claim->memory &&
		    last->process == claim->process) {
			last->meant |= claim->meant;
			continue;
		}
		claims.array[claims.count++] = *claim;
		claims.holders[claim->memory->index]++;
	}
	return claims;
}

static void claims_release(struct claims *claims)
{
	free(claims->array);
	free(claims->holders);
}

/* What a process, a cgroup or an exporter adds up to. */
struct group {
	const char *name;
	const struct scan_process *process;
	bool *members; /* which processes */
	size_t buffers, processes;
	uint32_t fds, mappings;
	uint64_t held, unique;	 /* memory; of it what nobody else has */
	uint64_t shared, unheld; /* of an exporter: by several processes, by none */
	double share;
	/* while counting */
	const struct scan_buffer *buffer, *memory, *unique_memory, *held_memory;
	uint32_t claims;
};

struct groups {
	struct group *array;
	size_t count;
};

static struct group *group_of(const struct scan *scan, struct groups *groups,
			      enum top_table table, const struct scan_buffer *buffer,
			      const struct scan_process *process)
{
	const char *name = table == TOP_EXPORTER ? buffer->exporter : process->cgroup;
	struct group *group;

	for (size_t i = 0; i < groups->count; i++) {
		group = &groups->array[i];
		if (table == TOP_PROCESS ? group->process == process
					 : !strcmp(group->name, name ? name : ""))
			return group;
	}
	groups->array = or_die(
		reallocarray(groups->array, groups->count + 1, sizeof(struct group)));
	group = &groups->array[groups->count++];
	*group = (struct group){
		.name = name ? name : "",
		.process = process,
		.members = or_die(calloc(scan->process_count + 1, sizeof(bool))),
	};
	return group;
}

static void count_holding(struct group *group, const struct scan_buffer *buffer,
			  const struct scan_holding *holding)
{
	if (group->buffer != buffer)
		group->buffers++;
	group->buffer = buffer;
	if (!holding)
		return;
	group->fds += holding->fds;
	group->mappings += holding->mappings;
	group->processes += !group->members[holding->process->index];
	group->members[holding->process->index] = true;
}

/* Counts one memory, to which there are @count claims, for groups of processes. */
static void count_memory(const struct scan *scan, struct groups *groups,
			 enum top_table table, const struct claim *claims, size_t count)
{
	const struct scan_buffer *memory = claims->memory;
	const uint64_t size = memory_size(memory);

	for (size_t i = 0; i < count; i++) {
		struct group *group =
			group_of(scan, groups, table, memory, claims[i].process);

		if (group->memory != memory)
			group->claims = 0;
		group->memory = memory;
		group->claims++;
		if (!claims[i].meant)
			continue;
		group->share += (double)size / (double)count;
		if (group->held_memory != memory)
			group->held += size;
		group->held_memory = memory;
	}
	for (size_t i = 0; i < count; i++) {
		struct group *group =
			group_of(scan, groups, table, memory, claims[i].process);

		if (group->claims == count && group->held_memory == memory &&
		    group->unique_memory != memory)
			group->unique += size;
		group->unique_memory = memory;
	}
}

static struct groups group_by(const struct scan *scan, const struct top_filter *filter,
			      enum top_table table)
{
	struct claims claims = claims_of(scan, filter);
	bool *counted = or_die(calloc(scan->buffer_count + 1, sizeof(bool)));
	struct groups groups = { 0 };

	for (size_t i = 0; i < scan->buffer_count; i++) {
		const struct scan_buffer *buffer = scan->buffers[i];
		const struct scan_holding *holding = buffer->holdings;
		uint32_t holders = claims.holders[buffer->memory->index];
		struct group *group;

		for (; holding; holding = holding->next) {
			if (matches(filter, buffer, holding->process))
				count_holding(group_of(scan, &groups, table, buffer,
						       holding->process),
					      buffer, holding);
		}
		if (table != TOP_EXPORTER || !is_meant(filter, buffer))
			continue;
		group = group_of(scan, &groups, table, buffer, NULL);
		count_holding(group, buffer, NULL);
		if (counted[buffer->memory->index])
			continue;
		counted[buffer->memory->index] = true;
		group->held += memory_size(buffer->memory);
		group->shared += holders > 1 ? memory_size(buffer->memory) : 0;
		group->unheld += holders ? 0 : memory_size(buffer->memory);
	}
	for (size_t i = 0, next; table != TOP_EXPORTER && i < claims.count; i = next) {
		for (next = i; next < claims.count &&
			       claims.array[next].memory == claims.array[i].memory;)
			next++;
		count_memory(scan, &groups, table, &claims.array[i], next - i);
	}
	free(counted);
	claims_release(&claims);
	return groups;
}

static void groups_release(struct groups *groups)
{
	for (size_t i = 0; i < groups->count; i++)
		free(groups->array[i].members);
	free(groups->array);
}

/* ---- tables ---------------------------------------------------------------------------- */

struct column {
	const char *title; /* NULL: only in JSON */
	const char *key;
};

static const struct column columns[TOP_TABLES][MAX_CELLS] = {
	[TOP_BUFFER] = {
		{ "INODE", "inode" }, { "SIZE", "size" }, { "EXPORTER", "exporter" },
		{ "AGE", "age" }, { "FDS", "fds" }, { "MAPS", "mappings" },
		{ "DEVICES", "devices" }, { "NAME", "name" }, { "HELD BY", "pids" },
		{ NULL, "size_known" }, { NULL, "references" }, { NULL, "heap" },
		{ NULL, "access" }, { NULL, "buffer_id" }, { NULL, "offset" },
		{ NULL, "buffer_size" }, { NULL, "views" }, { NULL, "attachments" },
		{ NULL, "user_mappings" },
	},
	[TOP_HOLDING] = {
		{ "PID", "pid" }, { "PROCESS", "process" }, { "INODE", "inode" },
		{ "SIZE", "size" }, { "SHARE", "share" }, { "FDS", "fds" },
		{ "MAPS", "mappings" }, { "MAPPED", "mapped" },
		{ "EXPORTER", "exporter" }, { "NAME", "name" },
	},
	[TOP_PROCESS] = {
		{ "PID", "pid" }, { "USER", "user" }, { "PROCESS", "process" },
		{ "BUFFERS", "buffers" }, { "FDS", "fds" }, { "MAPS", "mappings" },
		{ "HELD", "held" }, { "SHARE", "share" }, { "UNIQUE", "unique" },
		{ "CGROUP", "cgroup" }, { NULL, "uid" },
	},
	[TOP_EXPORTER] = {
		{ "EXPORTER", "exporter" }, { "BUFFERS", "buffers" },
		{ "PROCESSES", "processes" }, { "MEMORY", "memory" },
		{ "SHARED", "shared" }, { "NO PROCESS", "unheld" },
	},
	[TOP_CGROUP] = {
		{ "CGROUP", "cgroup" }, { "PROCESSES", "processes" },
		{ "BUFFERS", "buffers" }, { "HELD", "held" }, { "SHARE", "share" },
		{ "UNIQUE", "unique" },
	},
};

static const char *const default_columns[TOP_TABLES] = {
	[TOP_BUFFER] = "size",	   [TOP_HOLDING] = "share", [TOP_PROCESS] = "share",
	[TOP_EXPORTER] = "memory", [TOP_CGROUP] = "share",
};

const char *top_column_key(enum top_table table, size_t column)
{
	return column < MAX_CELLS && columns[table][column].title
		       ? columns[table][column].key
		       : NULL;
}

int top_column_find(enum top_table table, const char *key)
{
	key = key ? key : default_columns[table];
	for (int i = 0; i < MAX_CELLS && columns[table][i].title; i++) {
		if (!strcmp(columns[table][i].key, key))
			return i;
	}
	return -1;
}

struct cell {
	enum { UNKNOWN, TEXT, NUMBER, BYTES, SECONDS, BOOL, DEVICES, PIDS } kind;
	bool exact;
	uint64_t number;
	char *text; /* owned, except by DEVICES */
	char *const *texts;
	uint64_t *numbers; /* owned */
};

struct row {
	size_t count;
	struct cell cells[MAX_CELLS];
};

struct rows {
	struct row *array;
	size_t count;
};

static struct row *add_row(struct rows *rows)
{
	rows->array =
		or_die(reallocarray(rows->array, rows->count + 1, sizeof(struct row)));
	rows->array[rows->count] = (struct row){ 0 };
	return &rows->array[rows->count++];
}

static struct cell *add_cell(struct row *row, int kind)
{
	struct cell *cell = &row->cells[row->count++];

	cell->kind = kind;
	cell->exact = true;
	return cell;
}

static void add_number(struct row *row, int kind, uint64_t number)
{
	add_cell(row, kind)->number = number;
}

static void add_text(struct row *row, const char *text)
{
	struct cell *cell = add_cell(row, text && *text ? TEXT : UNKNOWN);

	cell->text = cell->kind == TEXT ? or_die(strdup(text)) : NULL;
}

static void add_info(struct row *row, const struct scan_buffer *buffer, uint64_t number)
{
	add_number(row, buffer->info.buffer_id ? NUMBER : UNKNOWN, number);
}

static void add_size(struct row *row, const struct scan_buffer *buffer)
{
	struct cell *cell = add_cell(row, BYTES);

	cell->number = buffer->size;
	cell->exact = buffer->size_known;
}

/* In a scan that is not the first, that it was there before is known at least. */
static void add_age(struct row *row, const struct scan *scan,
		    const struct scan_buffer *buffer)
{
	double since = buffer->created ? buffer->created : buffer->seen;
	struct cell *cell = add_cell(row, SECONDS);

	cell->number = since < scan->time ? (uint64_t)(scan->time - since) : 0;
	cell->exact = buffer->created != 0;
	if (!cell->exact && !cell->number)
		cell->kind = UNKNOWN;
}

static void add_devices(struct row *row, const struct scan_buffer *buffer)
{
	struct cell *cell = add_cell(row, DEVICES);

	cell->texts = buffer->devices;
	if (!buffer->devices && !buffer->info.buffer_id)
		cell->kind = UNKNOWN;
	if (!buffer->devices)
		cell->number = buffer->info.attachments;
	while (buffer->devices && buffer->devices[cell->number])
		cell->number++;
}

static void add_pids(struct row *row, const struct scan_buffer *buffer,
		     const struct top_filter *filter)
{
	struct cell *cell = add_cell(row, PIDS);
	size_t size;
	FILE *text = or_die(open_memstream(&cell->text, &size));

	for (const struct scan_holding *holding = buffer->holdings; holding;
	     holding = holding->next) {
		if (!matches(filter, buffer, holding->process))
			continue;
		fprintf(text, "%s%s(%d)", cell->number ? " " : "", holding->process->name,
			holding->process->pid);
		cell->numbers = or_die(
			reallocarray(cell->numbers, cell->number + 1, sizeof(uint64_t)));
		cell->numbers[cell->number++] = (uint64_t)holding->process->pid;
	}
	fclose(text);
}

static void add_buffer(struct rows *rows, const struct scan *scan,
		       const struct scan_buffer *buffer, const struct top_filter *filter)
{
	const struct zcbuf_buffer_info *info = &buffer->info;
	struct row *row = add_row(rows);
	uint32_t fds = 0, mappings = 0;

	for (const struct scan_holding *holding = buffer->holdings; holding;
	     holding = holding->next) {
		fds += holding->fds;
		mappings += holding->mappings;
	}
	add_number(row, NUMBER, buffer->inode);
	add_size(row, buffer);
	add_text(row, buffer->exporter);
	add_age(row, scan, buffer);
	add_number(row, NUMBER, fds);
	add_number(row, NUMBER, mappings);
	add_devices(row, buffer);
	add_text(row, buffer->name);
	add_pids(row, buffer, filter);
	add_number(row, BOOL, buffer->size_known);
	add_number(row, buffer->references ? NUMBER : UNKNOWN, buffer->references);
	add_text(row, info->heap);
	add_text(row, !info->buffer_id ? NULL : info->read_only ? "ro" : "rw");
	add_info(row, buffer, info->buffer_id);
	add_info(row, buffer, info->offset);
	add_info(row, buffer, info->buffer_size);
	add_info(row, buffer, info->views);
	add_info(row, buffer, info->attachments);
	add_info(row, buffer, info->user_mappings);
}

static void add_holding(struct rows *rows, const struct scan_holding *holding,
			const struct claims *claims)
{
	const struct scan_buffer *buffer = holding->buffer;
	struct row *row = add_row(rows);

	add_number(row, NUMBER, (uint64_t)holding->process->pid);
	add_text(row, holding->process->name);
	add_number(row, NUMBER, buffer->inode);
	add_size(row, buffer);
	add_number(row, BYTES,
		   memory_size(buffer->memory) / claims->holders[buffer->memory->index]);
	add_number(row, NUMBER, holding->fds);
	add_number(row, NUMBER, holding->mappings);
	add_number(row, BYTES, holding->mapped);
	add_text(row, buffer->exporter);
	add_text(row, buffer->name);
}

static void add_group(struct rows *rows, const struct group *group, enum top_table table)
{
	struct row *row;

	if (!group->buffers) /* only others of its memory are meant */
		return;
	row = add_row(rows);
	if (table == TOP_PROCESS) {
		add_number(row, NUMBER, (uint64_t)group->process->pid);
		add_text(row, user_name(group->process->user));
		add_text(row, group->process->name);
	} else {
		add_text(row, group->name);
		if (table == TOP_CGROUP)
			add_number(row, NUMBER, group->processes);
	}
	add_number(row, NUMBER, group->buffers);
	if (table == TOP_EXPORTER) {
		add_number(row, NUMBER, group->processes);
		add_number(row, BYTES, group->held);
		add_number(row, BYTES, group->shared);
		add_number(row, BYTES, group->unheld);
		return;
	}
	if (table == TOP_PROCESS) {
		add_number(row, NUMBER, group->fds);
		add_number(row, NUMBER, group->mappings);
	}
	add_number(row, BYTES, group->held);
	add_number(row, BYTES, (uint64_t)(group->share + 0.5));
	add_number(row, BYTES, group->unique);
	if (table == TOP_PROCESS) {
		add_text(row, group->process->cgroup);
		add_number(row, NUMBER, group->process->user);
	}
}

static struct rows rows_of(const struct scan *scan, const struct top_choice *choice)
{
	const struct top_filter *filter = &choice->filter;
	struct rows rows = { 0 };

	if (choice->table == TOP_BUFFER) {
		for (size_t i = 0; i < scan->buffer_count; i++) {
			if (is_meant(filter, scan->buffers[i]))
				add_buffer(&rows, scan, scan->buffers[i], filter);
		}
	} else if (choice->table == TOP_HOLDING) {
		struct claims claims = claims_of(scan, filter);

		for (size_t i = 0; i < scan->holding_count; i++) {
			const struct scan_holding *holding = scan->holdings[i];

			if (matches(filter, holding->buffer, holding->process))
				add_holding(&rows, holding, &claims);
		}
		claims_release(&claims);
	} else {
		struct groups groups = group_by(scan, filter, choice->table);

		for (size_t i = 0; i < groups.count; i++)
			add_group(&rows, &groups.array[i], choice->table);
		groups_release(&groups);
	}
	return rows;
}

/* ---- sorted ---------------------------------------------------------------------------- */

/* The largest number and the first text come first, what is not known comes last. */
static int compare_cells(const struct cell *a, const struct cell *b)
{
	if (a->kind == UNKNOWN || b->kind == UNKNOWN)
		return (a->kind == UNKNOWN) - (b->kind == UNKNOWN);
	if (a->kind == TEXT)
		return strcmp(a->text, b->text);
	return (a->number < b->number) - (a->number > b->number);
}

static int compare_rows(const void *a, const void *b, void *data)
{
	const struct top_choice *choice = data;
	const struct row *x = a, *y = b;
	int order = compare_cells(&x->cells[choice->column], &y->cells[choice->column]);

	if (choice->reverse)
		order = -order;
	for (size_t i = 0; !order && i < x->count; i++)
		order = -compare_cells(&x->cells[i], &y->cells[i]);
	return order;
}

static void report_cell(struct report *report, const struct column *column,
			const struct cell *cell, bool json)
{
	const char *title = column->title, *key = column->key;

	switch (cell->kind) {
	case UNKNOWN:
		report_unknown(report, title, key);
		break;
	case TEXT:
		report_text(report, title, key, cell->text);
		break;
	case NUMBER:
		report_number(report, title, key, cell->number);
		break;
	case BYTES:
		report_size(report, title, key, cell->number, cell->exact);
		break;
	case SECONDS:
		report_seconds(report, title, key, cell->number, cell->exact);
		break;
	case BOOL:
		report_bool(report, title, key, cell->number);
		break;
	case DEVICES:
		if (cell->texts)
			report_texts(report, title, key, cell->texts);
		else if (json)
			report_unknown(report, title, key);
		else
			report_number(report, title, key, cell->number);
		break;
	case PIDS:
		report_numbers(report, title, key, cell->text, cell->numbers, cell->number);
		break;
	}
}

struct report *top_report(const struct scan *scan, const struct top_choice *choice,
			  bool json)
{
	struct rows rows = rows_of(scan, choice);
	struct report *report = report_new(json);

	if (rows.count)
		qsort_r(rows.array, rows.count, sizeof(struct row), compare_rows,
			(void *)choice);
	for (size_t i = 0; i < rows.count; i++) {
		struct row *row = &rows.array[i];

		report_row(report);
		for (size_t j = 0; j < row->count; j++) {
			report_cell(report, &columns[choice->table][j], &row->cells[j],
				    json);
			free(row->cells[j].text);
			free(row->cells[j].numbers);
		}
	}
	free(rows.array);
	return report;
}

void top_summary(const struct scan *scan, const struct top_filter *filter, char *text,
		 size_t size)
{
	struct groups groups = group_by(scan, filter, TOP_EXPORTER);
	bool *holds = or_die(calloc(scan->process_count + 1, sizeof(bool)));
	size_t buffers = 0, processes = 0, exporters = groups.count;
	uint64_t memory = 0, unheld = 0;

	for (size_t i = 0; i < groups.count; i++) {
		const struct group *group = &groups.array[i];

		buffers += group->buffers;
		memory += group->held;
		unheld += group->unheld;
		for (size_t j = 0; j < scan->process_count; j++)
			holds[j] |= group->members[j];
	}
	for (size_t j = 0; j < scan->process_count; j++)
		processes += holds[j];
	snprintf(text, size,
		 "%zu buffer%s of %zu exporter%s, %s, held by %zu process%s%s%s%s", buffers,
		 buffers == 1 ? "" : "s", exporters, exporters == 1 ? "" : "s",
		 readable_bytes(memory).text, processes, processes == 1 ? "" : "es",
		 unheld ? "; " : "", unheld ? readable_bytes(unheld).text : "",
		 unheld ? " held by none" : "");
	free(holds);
	groups_release(&groups);
}
