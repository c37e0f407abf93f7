// SPDX-License-Identifier: GPL-2.0-only
/* zcbuf-system: pages in chunks, mapped by vm_insert_pages(). The default. */
#include <linux/init.h>

#include "internal.h"

static const struct zcbuf_heap_ops zcbuf_system_ops = {
	.alloc	= zcbuf_chunks_alloc,
	.free	= zcbuf_chunks_free,
	.page	= zcbuf_chunks_page,
};

static struct zcbuf_heap zcbuf_system = {
	.ops		= &zcbuf_system_ops,
	.name		= "zcbuf-system",
	.kind		= ZCBUF_HEAP_SYSTEM,
	.cache_mode	= ZCBUF_CACHED,
	.capabilities	= ZCBUF_HEAP_CAP_PIN | ZCBUF_HEAP_CAP_VMAP | ZCBUF_HEAP_CAP_CHARGED |
			  ZCBUF_HEAP_CAP_DMA32,
	.max_alignment	= ZCBUF_MAX_CHUNK,
	.pooled		= true,
};

int __init zcbuf_system_init(void)
{
	return zcbuf_heap_register(&zcbuf_system);
}
