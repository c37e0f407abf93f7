// SPDX-License-Identifier: GPL-2.0-only
/*
 * zcbuf-vmalloc: one range of kernel addresses, mapped into user space page by page. For
 * drivers that work on frames with the CPU: they find them mapped.
 */
#include <linux/init.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/vmalloc.h>

#include "internal.h"

/* vmalloc_user() is the same without the charge, and with one for remap_vmalloc_range(). */
static int zcbuf_vmalloc_alloc(struct zcbuf_buffer *buf)
{
	buf->memory = __vmalloc(buf->size, GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN |
					   __GFP_RETRY_MAYFAIL);
	if (buf->memory)
		return 0;
	return fatal_signal_pending(current) ? -EINTR : -ENOMEM;
}

static void zcbuf_vmalloc_free(struct zcbuf_buffer *buf)
{
	vfree(buf->memory);
}

static struct page *zcbuf_vmalloc_page(struct zcbuf_buffer *buf, unsigned long index,
				       unsigned long *run)
{
	*run = 1;
	return vmalloc_to_page(buf->memory + (index << PAGE_SHIFT));
}

static void zcbuf_vmalloc_kernel_map(struct zcbuf_buffer *buf, struct iosys_map *map)
{
	iosys_map_set_vaddr(map, buf->memory);
}

static const struct zcbuf_heap_ops zcbuf_vmalloc_ops = {
	.alloc		= zcbuf_vmalloc_alloc,
	.free		= zcbuf_vmalloc_free,
	.page		= zcbuf_vmalloc_page,
	.kernel_map	= zcbuf_vmalloc_kernel_map,
};

static struct zcbuf_heap zcbuf_vmalloc = {
	.ops		= &zcbuf_vmalloc_ops,
	.name		= "zcbuf-vmalloc",
	.kind		= ZCBUF_HEAP_VMALLOC,
	.cache_mode	= ZCBUF_CACHED,
	.capabilities	= ZCBUF_HEAP_CAP_PIN | ZCBUF_HEAP_CAP_VMAP | ZCBUF_HEAP_CAP_CHARGED,
	.max_alignment	= PAGE_SIZE,
};

int __init zcbuf_vmalloc_init(void)
{
	/* A signal does not end vmalloc(), so a buffer must not take long. */
	zcbuf_vmalloc.max_size = PAGE_ALIGN((u64)totalram_pages() << PAGE_SHIFT >> 5);
	return zcbuf_heap_register(&zcbuf_vmalloc);
}
