// SPDX-License-Identifier: GPL-2.0-only
/*
 * zcbuf-contig: one physically contiguous run, for devices without scatter-gather. From the
 * page allocator as far as it reaches, and from CMA where the kernel has it.
 */
#include <linux/cma.h>
#include <linux/dma-map-ops.h>
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/init.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "compat.h"
#include "internal.h"

/**
 * struct zcbuf_contig_memory - one run of pages, each with a reference count of its own
 * @page: the first
 * @pages: how many
 * @cma: they came from CMA
 */
struct zcbuf_contig_memory {
	struct page *page;
	unsigned long pages;
	bool cma;
};

#ifdef ZCBUF_HAVE_CMA

static bool zcbuf_contig_has_cma(void)
{
	return dev_get_cma_area(NULL);
}

static struct page *zcbuf_contig_cma_alloc(struct zcbuf_buffer *buf)
{
	unsigned long pages = buf->size >> PAGE_SHIFT, i;
	struct page *page;

	/* CMA lies where all devices reach it, but nothing says that this is below 4 GiB. */
	if (!zcbuf_contig_has_cma() || buf->flags & ZCBUF_ALLOC_DMA32)
		return NULL;
	page = cma_alloc(dev_get_cma_area(NULL), pages, ilog2(buf->alignment) - PAGE_SHIFT,
			 true);
	for (i = 0; page && i < pages; i++)
		clear_highpage(page + i);
	return page;
}

static void zcbuf_contig_cma_free(struct zcbuf_contig_memory *mem)
{
	cma_release(dev_get_cma_area(NULL), mem->page, mem->pages);
}

#else

static bool zcbuf_contig_has_cma(void)
{
	return false;
}

static struct page *zcbuf_contig_cma_alloc(struct zcbuf_buffer *buf)
{
	return NULL;
}

static void zcbuf_contig_cma_free(struct zcbuf_contig_memory *mem)
{
}

#endif

static struct page *zcbuf_contig_buddy_alloc(struct zcbuf_buffer *buf)
{
	unsigned int order = get_order(buf->size);
	unsigned long pages = buf->size >> PAGE_SHIFT, i;
	gfp_t gfp = __GFP_ZERO | __GFP_ACCOUNT | __GFP_NOWARN | __GFP_RETRY_MAYFAIL;
	struct page *page;

	if (buf->size > ZCBUF_BUDDY_SIZE)
		return NULL;
	gfp |= buf->flags & ZCBUF_ALLOC_DMA32 ? GFP_USER | __GFP_DMA32 : GFP_HIGHUSER;
	page = alloc_pages(gfp, order);
	if (!page)
		return NULL;
	/* Each page lives on its own now, and those behind the end go back at once. */
	split_page(page, order);
	for (i = pages; i < 1UL << order; i++)
		__free_page(page + i);
	return page;
}

static int zcbuf_contig_alloc(struct zcbuf_buffer *buf)
{
	struct zcbuf_contig_memory *mem;

	mem = kzalloc_obj(*mem, GFP_KERNEL_ACCOUNT);
	if (!mem)
		return -ENOMEM;
	mem->pages = buf->size >> PAGE_SHIFT;
	mem->page = zcbuf_contig_buddy_alloc(buf);
	if (!mem->page) {
		mem->page = zcbuf_contig_cma_alloc(buf);
		mem->cma = true;
	}
	if (!mem->page) {
		kfree(mem);
		return fatal_signal_pending(current) ? -EINTR : -ENOMEM;
	}
	buf->memory = mem;
	return 0;
}

static void zcbuf_contig_free(struct zcbuf_buffer *buf)
{
	struct zcbuf_contig_memory *mem = buf->memory;
	unsigned long i;

	if (mem->cma)
		zcbuf_contig_cma_free(mem);
	else
		for (i = 0; i < mem->pages; i++)
			put_page(mem->page + i);
	kfree(mem);
}

static struct page *zcbuf_contig_page(struct zcbuf_buffer *buf, unsigned long index,
				      unsigned long *run)
{
	struct zcbuf_contig_memory *mem = buf->memory;

	*run = mem->pages - index;
	return mem->page + index;
}

static int zcbuf_contig_mmap(struct zcbuf_buffer *buf, struct vm_area_struct *vma)
{
	struct zcbuf_contig_memory *mem = buf->memory;

	return remap_pfn_range(vma, vma->vm_start, page_to_pfn(mem->page) + vma->vm_pgoff,
			       vma->vm_end - vma->vm_start, vma->vm_page_prot);
}

static void zcbuf_contig_kernel_map(struct zcbuf_buffer *buf, struct iosys_map *map)
{
	struct zcbuf_contig_memory *mem = buf->memory;

	iosys_map_set_vaddr(map, page_address(mem->page));
}

static const struct zcbuf_heap_ops zcbuf_contig_ops = {
	.alloc	= zcbuf_contig_alloc,
	.free	= zcbuf_contig_free,
	.page	= zcbuf_contig_page,
};

/*
 * CMA takes a run back as a whole, whoever still holds a page of it, and who wants to pin a
 * page for long tries for ever to move it away first. So no page of it may be pinned.
 */
static const struct zcbuf_heap_ops zcbuf_contig_cma_ops = {
	.alloc		= zcbuf_contig_alloc,
	.free		= zcbuf_contig_free,
	.page		= zcbuf_contig_page,
	.mmap		= zcbuf_contig_mmap,
	.kernel_map	= zcbuf_contig_kernel_map,
};

static struct zcbuf_heap zcbuf_contig = {
	.ops		= &zcbuf_contig_ops,
	.name		= "zcbuf-contig",
	.kind		= ZCBUF_HEAP_CONTIG,
	.cache_mode	= ZCBUF_CACHED,
	.capabilities	= ZCBUF_HEAP_CAP_CONTIGUOUS | ZCBUF_HEAP_CAP_PIN | ZCBUF_HEAP_CAP_VMAP |
			  ZCBUF_HEAP_CAP_CHARGED | ZCBUF_HEAP_CAP_DMA32,
	.max_alignment	= ZCBUF_BUDDY_SIZE,
};

int __init zcbuf_contig_init(void)
{
	if (!zcbuf_contig_has_cma()) {
		zcbuf_contig.max_size = ZCBUF_BUDDY_SIZE;
		return zcbuf_heap_register(&zcbuf_contig);
	}
	/* CMA is set aside at boot: it is nobody's share of memory, and not charged. */
	zcbuf_contig.ops = &zcbuf_contig_cma_ops;
	zcbuf_contig.capabilities &= ~(ZCBUF_HEAP_CAP_CHARGED | ZCBUF_HEAP_CAP_PIN);
	return zcbuf_heap_register(&zcbuf_contig);
}
