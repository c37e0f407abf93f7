/* SPDX-License-Identifier: GPL-2.0-only */
/* The heaps that 'zcbuf bench' measures, for programs that measure something else of them. */
#ifndef PEERS_H
#define PEERS_H

#include <libzcbuf.h>
#include <stdio.h>
#include <stdlib.h>

typedef void (*measure_fn)(struct zcbuf_heap *heap, const struct zcbuf_heap_info *info,
			   size_t size);

static inline bool is_peer(const struct zcbuf_heap_info *heap)
{
	if (heap->backend == ZCBUF_BACKEND_ZCBUF)
		return heap->cache_mode == ZCBUF_CACHED &&
		       (heap->capabilities & ZCBUF_HEAP_CAP_PIN);
	return heap->backend != ZCBUF_BACKEND_MEMFD; /* no device takes it */
}

/* Each peer with each size that the command line has. Returns an exit status. */
static inline int measure_peers(int argc, char **argv, measure_fn measure)
{
	struct zcbuf_heap_info *infos;
	struct zcbuf_heap *heap;
	struct zcbuf_ctx *ctx;
	int count;

	if (argc < 2 || zcbuf_ctx_new(&ctx) < 0)
		return 2;
	zcbuf_ctx_set_log(ctx, NULL, NULL); /* not every heap has every size */
	count = zcbuf_heap_list(ctx, &infos);
	for (int i = 0; i < count; i++) {
		if (!is_peer(&infos[i]) || zcbuf_heap_open(ctx, infos[i].name, &heap) < 0)
			continue;
		for (int j = 1; j < argc; j++)
			measure(heap, &infos[i], strtoul(argv[j], NULL, 0));
		zcbuf_heap_unref(heap);
	}
	return 0;
}

#endif /* PEERS_H */
