/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of 'zcbuf bench' share. */
#ifndef ZCBUF_TOOLS_BENCH_H
#define ZCBUF_TOOLS_BENCH_H

#include <sys/types.h>

#include "series.h"
#include "tools.h"

#define MAX_PEERS 20 /* the table has no more columns */

/* What is counted. A life comes twice: steady, and COLD + … */
enum {
	ALLOC,
	MMAP,
	TOUCH,
	SYNC,
	MUNMAP,
	CLOSE,
	LIFE, /* the sum of those above */
	BACKGROUND,
	COLD,
	/* of a buffer that lives on */
	READ = 2 * COLD,
	DIRECT_IO,
	PASS,
	SYNC_RANGE,
	SERIES,
};

/* A kind of memory, and what it costs at the size that is being measured. */
struct peer {
	char name[ZCBUF_NAME_LEN + sizeof(", recycled")];
	int (*alloc)(const struct peer *peer, size_t *size); /* NULL: it has no fd */
	int node;
	uint64_t flags;
	bool is_dma_buf, is_zcbuf;
	char pool_limit[96]; /* the file; empty if it has no pool */
	struct series series[SERIES];
};

/* What is measured, and with what. */
struct bench {
	struct peer peers[MAX_PEERS];
	size_t count;
	size_t page;
	bool cold;   /* measured too, with pools that are emptied before */
	int disk;    /* a file for O_DIRECT, or -1 */
	int control; /* /dev/zcbuf, or -1 */
	pid_t child; /* another process */
	int other;   /* a socket to it */
};

/*
 * Adds the heaps of the list @names, or all whose memory the CPU uses as it uses its own.
 * Returns an exit status; what cannot be opened has been said.
 */
int bench_find_peers(struct bench *bench, struct zcbuf_ctx *ctx, char **names);

/* Starts the other process, and opens the control node if there is one. False: see errno. */
bool bench_begin(struct bench *bench);
void bench_end(const struct bench *bench);

/* Fills the series of @peer. */
void bench_measure(const struct bench *bench, struct peer *peer, size_t size);

#endif /* ZCBUF_TOOLS_BENCH_H */
