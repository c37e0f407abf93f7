// SPDX-License-Identifier: LGPL-2.1-or-later
/* zcbuf info: describes a buffer, or all buffers of a process. */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report.h"
#include "scan.h"

static const char help[] =
	"Usage: zcbuf info [--json] FD | PID | PID:FD\n"
	"\n"
	"Describes the buffer behind a file descriptor that the command was "
	"started with, all\n"
	"dma-bufs of a process, or one of them. A number is taken for a file "
	"descriptor if that\n"
	"is a buffer, else for a process.\n"
	"\n"
	"  --json    print JSON\n"
	"\n"
	"  FD        '-' for what is mapped, and has no file descriptor any more\n"
	"  INODE     the same for one dma-buf in every process\n"
	"  EXPORTER  who made it: zcbuf, another dma-heap, a driver, or memfd\n"
	"  HEAP      zcbuf's heap that the memory is from\n"
	"  ACCESS    rw, or ro for what cannot be mapped for writing\n"
	"  VIEWS     dma-bufs over the same memory\n"
	"  DEVICES   that are attached\n"
	"  MAPPED    how often, in all processes together\n"
	"  CHUNKS    contiguous pieces of memory\n"
	"\n"
	"'-' stands for what is not known: only zcbuf's own buffers tell all, and "
	"only to who\n"
	"may inspect the process (its user, or root).\n"
	"\n"
	"Examples:  zcbuf info 1234    zcbuf info 1234:7    zcbuf info 3 "
	"3<&\"$fd\"\n";

static void report_count(struct report *report, const char *title, const char *key,
			 uint64_t buffer_id, uint64_t number)
{
	if (buffer_id)
		report_number(report, title, key, number);
	else
		report_unknown(report, title, key);
}

/* @fd is -1 for a mapping without one. */
static void report_buffer(struct report *report, int pid, int fd,
			  const struct scan_buffer *buffer)
{
	const struct zcbuf_buffer_info *info = &buffer->info;
	const char *name = info->name[0] ? info->name : buffer->name;
	const char *exporter = buffer->exporter[0] ? buffer->exporter
			       : fd >= 0	   ? "memfd"
						   : NULL;
	const char *access = !info->inode ? NULL : info->read_only ? "ro" : "rw";

	report_row(report);
	report_number(report, "PID", "pid", (uint64_t)pid);
	if (fd >= 0)
		report_number(report, "FD", "fd", (uint64_t)fd);
	else
		report_unknown(report, "FD", "fd");
	report_number(report, "INODE", "inode", buffer->inode);
	report_size(report, "SIZE", "size", info->inode ? info->size : buffer->size,
		    info->inode || buffer->size_known);
	report_text(report, "EXPORTER", "exporter", exporter);
	report_text(report, "HEAP", "heap", info->heap[0] ? info->heap : NULL);
	report_text(report, "ACCESS", "access", access);
	report_count(report, NULL, "buffer_id", info->buffer_id, info->buffer_id);
	report_count(report, NULL, "offset", info->buffer_id, info->offset);
	report_count(report, NULL, "buffer_size", info->buffer_id, info->buffer_size);
	report_count(report, "VIEWS", "views", info->buffer_id, info->views);
	report_count(report, "DEVICES", "attachments", info->buffer_id, info->attachments);
	report_count(report, "MAPPED", "user_mappings", info->buffer_id,
		     info->user_mappings);
	report_count(report, "CHUNKS", "chunks", info->buffer_id, info->chunks);
	report_text(report, "NAME", "name", name[0] ? name : NULL);
}

/*
 * Adds a row if the fd is a buffer, and returns whether it is. What may not be
 * looked into is described from outside.
 */
static bool add_fd(struct zcbuf_ctx *ctx, struct report *report, int pid, int fd)
{
	struct scan_buffer buffer;
	bool found;

	if (scan_fd(pid, fd, &buffer) < 0)
		return false;
	found = scan_info(ctx, pid, fd, &buffer) == 0 || buffer.exporter[0];
	if (found)
		report_buffer(report, pid, fd, &buffer);
	return found;
}

/* Adds what a process has mapped without a file descriptor. Others may have one, and more is
 * known then. */
static void add_mapped(struct zcbuf_ctx *ctx, struct report *report, int pid)
{
	struct scan *scan = scan_new(ctx);

	for (size_t i = 0; scan && i < scan->holding_count; i++) {
		const struct scan_holding *holding = scan->holdings[i];

		if (holding->process->pid == pid && holding->fd < 0)
			report_buffer(report, pid, -1, holding->buffer);
	}
	scan_free(scan);
}

/* Adds all dma-bufs of a process. */
static int add_process(struct zcbuf_ctx *ctx, struct report *report, int pid)
{
	struct dirent **entries;
	char path[64];
	int count;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo", pid);
	count = scandir(path, &entries, NULL, NULL);
	if (count < 0)
		return -errno;
	for (int i = 0; i < count; i++) {
		int fd = atoi(entries[i]->d_name);
		struct scan_buffer buffer;

		/* A process has memfds for many purposes: only dma-bufs are surely buffers.
     */
		if (entries[i]->d_name[0] != '.' && !scan_fd(pid, fd, &buffer) &&
		    buffer.exporter[0])
			add_fd(ctx, report, pid, fd);
		free(entries[i]);
	}
	free(entries);
	add_mapped(ctx, report, pid);
	return 0;
}

static int fail_process(int pid, int error)
{
	switch (error) {
	case -ENOENT:
		return failure(
			"%d: no such process, and no buffer among the file descriptors "
			"given to this command",
			pid);
	case -EACCES:
		return failure(
			"process %d: permission denied (only its user or root may look)",
			pid);
	default:
		return failure("process %d: %s", pid, strerror(-error));
	}
}

static int describe(struct zcbuf_ctx *ctx, struct report *report, int pid, int fd)
{
	int r;

	if (fd >= 0) {
		if (!add_fd(ctx, report, pid, fd))
			return failure("%d:%d: no buffer, or not to be seen by this user",
				       pid, fd);
		return EXIT_SUCCESS;
	}
	if (add_fd(ctx, report, getpid(), pid))
		return EXIT_SUCCESS;
	r = add_process(ctx, report, pid);
	return r < 0 ? fail_process(pid, r) : EXIT_SUCCESS;
}

/* "7" or "1234:7"; @fd is -1 if there is only one number. */
static bool parse_target(const char *text, int *pid, int *fd)
{
	int end = 0;

	*fd = -1;
	if (strspn(text, "0123456789:") != strlen(text))
		return false;
	if (sscanf(text, "%9d%n", pid, &end) == 1 && !text[end])
		return true;
	return sscanf(text, "%9d:%9d%n", pid, fd, &end) == 2 && !text[end];
}

int cmd_info(struct zcbuf_ctx *ctx, int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct report *report;
	int pid, fd, status;
	bool json = false;

	for (int o; (o = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
		if (o == 'h') {
			fputs(help, stdout);
			return EXIT_SUCCESS;
		}
		if (o != 'j')
			return EXIT_USAGE;
		json = true;
	}
	if (optind + 1 != argc)
		return usage_error("info", "which file descriptor or process?");
	if (!parse_target(argv[optind], &pid, &fd))
		return usage_error("info", "%s: not FD, PID or PID:FD", argv[optind]);
	zcbuf_ctx_set_log(ctx, NULL, NULL); /* most of what is tried here may well fail */
	report = report_new(json);
	status = describe(ctx, report, pid, fd);
	if (status == EXIT_SUCCESS) {
		if (!json && report_is_empty(report))
			fprintf(stderr, "zcbuf: process %d has no dma-bufs\n", pid);
		report_print(report);
	}
	report_free(report);
	return status;
}
