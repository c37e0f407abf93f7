/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The dma-bufs of this machine, whoever exported them, and who holds them: by file
 * descriptors, and by mappings, which stay when the descriptor is closed. What this user may
 * not see is counted.
 */
#ifndef ZCBUF_TOOLS_SCAN_H
#define ZCBUF_TOOLS_SCAN_H

#include <sys/types.h>

#include "tools.h"

/* One dma-buf. */
struct scan_buffer {
	size_t index; /* in the array of all */
	uint64_t inode;
	uint64_t size; /* or what is mapped of it, if that is all that is known */
	bool size_known;
	uint64_t references;	       /* to its file, by whatever; 0 if not known */
	char exporter[64];	       /* "" if not known */
	char name[64];		       /* "" if it has none */
	double created;		       /* seconds since 1970, 0 if not known */
	double seen;		       /* the same, when it was seen first */
	struct zcbuf_buffer_info info; /* all zero if it could not be asked */
	char **devices;		    /* attached to it, NULL at the end; NULL if not known */
	struct scan_buffer *memory; /* the first buffer over the same memory, or itself */
	struct scan_holding *holdings;
	int listed; /* when the kernel's list had it last */
};

struct scan_process {
	size_t index; /* in the array of all */
	int pid;
	uid_t user;
	char name[64];
	char *cgroup;
};

/* A process and a buffer that it holds. */
struct scan_holding {
	struct scan_holding *next; /* of the same buffer */
	struct scan_buffer *buffer;
	struct scan_process *process;
	int fd; /* one of them, or -1 */
	uint32_t fds, mappings;
	uint64_t mapped; /* bytes of all mappings */
};

struct scan {
	struct scan_buffer **buffers; /* by inode */
	struct scan_process **processes;
	struct scan_holding **holdings; /* by process */
	size_t buffer_count, process_count, holding_count;
	double time; /* seconds since 1970 */

	/* What is missing */
	size_t hidden_others, hidden_own; /* processes: of other users, of this one */
	bool hides_others;		  /* /proc does not even have them */
	bool lists_devices, lists_all;	  /* the kernel told all attachments, all buffers */
	int list_error;			  /* why it did not: errno */
	size_t unasked;			  /* buffers of zcbuf that may not be asked */

	uint64_t device; /* of the file system of dma-bufs, 0 if not known */
	struct scan_mapping *mappings;
	size_t mapping_count;
};

/* One fd: what /proc says about it, which leaves the exporter empty if it is no dma-buf. */
int scan_fd(int pid, int fd, struct scan_buffer *buffer);

/* And what the module says: borrows the file for a moment, which needs the right to ptrace
 * the process. */
int scan_info(struct zcbuf_ctx *ctx, int pid, int fd, struct scan_buffer *buffer);

/* All of it. NULL if there is no /proc to read. */
struct scan *scan_new(struct zcbuf_ctx *ctx);
void scan_free(struct scan *scan);

/* Takes over from an earlier scan since when each buffer is known. */
void scan_inherit(struct scan *scan, const struct scan *earlier);

/* Writes why something was not visible, and what to do about it: line number @index, from
 * 0 on; false if there are no more. */
bool scan_note(const struct scan *scan, size_t index, char *text, size_t size);

#endif /* ZCBUF_TOOLS_SCAN_H */
