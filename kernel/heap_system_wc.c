// SPDX-License-Identifier: GPL-2.0-only
/*
 * zcbuf-system-wc: the pages of the system heap, write-combined, for frames that the CPU
 * writes and a device reads.
 *
 * Two mappings of one page must not disagree about caching, so the kernel's own mapping is
 * changed too, and changed back before the page goes. Only x86 lets a module do that; on
 * other machines this heap does not exist.
 */
#include <linux/init.h>
#include <linux/mm.h>

#ifdef CONFIG_X86
#include <asm/set_memory.h>
#endif

#include "internal.h"

#ifdef CONFIG_X86

/* Call @set for all pages of @buf, an array of one page at a time. */
static int zcbuf_wc_set(struct zcbuf_buffer *buf, int (*set)(struct page **pages, int n))
{
	const unsigned int batch = PAGE_SIZE / sizeof(struct page *);
	unsigned long total = buf->size >> PAGE_SHIFT;
	unsigned long index = 0, run = 0;
	struct page **pages, *page = NULL;
	int err = 0;

	pages = (struct page **)__get_free_page(GFP_KERNEL | __GFP_NOFAIL);
	while (index < total && !err) {
		unsigned int n = 0;

		for (; n < batch && index < total; n++, index++, run--, page++) {
			if (!run)
				page = zcbuf_chunks_page(buf, index, &run);
			pages[n] = page;
		}
		err = set(pages, n);
		cond_resched();
	}
	free_page((unsigned long)pages);
	return err;
}

static void zcbuf_wc_free(struct zcbuf_buffer *buf)
{
	/*
	 * Pages that somebody still has pinned change back as well: no user mapping is
	 * left, and the kernel's is the only one. Memory that cannot be changed back would
	 * surprise its next owner; it is lost instead.
	 */
	if (!WARN_ON_ONCE(zcbuf_wc_set(buf, set_pages_array_wb)))
		zcbuf_chunks_free(buf);
}

static int zcbuf_wc_alloc(struct zcbuf_buffer *buf)
{
	int err;

	err = zcbuf_chunks_alloc(buf);
	if (err)
		return err;
	err = zcbuf_wc_set(buf, set_pages_array_wc);
	if (err)
		zcbuf_wc_free(buf);
	return err;
}

static const struct zcbuf_heap_ops zcbuf_wc_ops = {
	.alloc	= zcbuf_wc_alloc,
	.free	= zcbuf_wc_free,
	.page	= zcbuf_chunks_page,
};

static struct zcbuf_heap zcbuf_wc = {
	.ops		= &zcbuf_wc_ops,
	.name		= "zcbuf-system-wc",
	.kind		= ZCBUF_HEAP_SYSTEM,
	.cache_mode	= ZCBUF_WRITE_COMBINED,
	.capabilities	= ZCBUF_HEAP_CAP_PIN | ZCBUF_HEAP_CAP_VMAP | ZCBUF_HEAP_CAP_CHARGED |
			  ZCBUF_HEAP_CAP_DMA32,
	.max_alignment	= ZCBUF_MAX_CHUNK,
};

int __init zcbuf_system_wc_init(void)
{
	return zcbuf_heap_register(&zcbuf_wc);
}

#else

int __init zcbuf_system_wc_init(void)
{
	return -EOPNOTSUPP;
}

#endif
