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
#include <linux/list.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "internal.h"

/**
 * struct zcbuf_contig_memory - one run of pages, each with a reference count of its own
 * @page: the first
 * @pages: how many
 * @cma: they came from CMA
 * @link: in zcbuf_contig_pinned
 */
struct zcbuf_contig_memory {
	struct page *page;
	unsigned long pages;
	bool cma;
	struct list_head link;
};

#ifdef ZCBUF_HAVE_CMA

/* CMA takes a run back as a whole. Until nobody has a page of it pinned any more it waits. */
static LIST_HEAD(zcbuf_contig_pinned);
static DEFINE_MUTEX(zcbuf_contig_lock);
static void zcbuf_contig_retry(struct work_struct *work);
static DECLARE_DELAYED_WORK(zcbuf_contig_work, zcbuf_contig_retry);

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

static bool zcbuf_contig_cma_release(struct zcbuf_contig_memory *mem)
{
	unsigned long i;

	for (i = 0; i < mem->pages; i++)
		if (page_count(mem->page + i) != 1)
			return false;
	cma_release(dev_get_cma_area(NULL), mem->page, mem->pages);
	kfree(mem);
	return true;
}

static void zcbuf_contig_retry(struct work_struct *work)
{
	struct zcbuf_contig_memory *mem, *next;

	mutex_lock(&zcbuf_contig_lock);
	list_for_each_entry_safe(mem, next, &zcbuf_contig_pinned, link) {
		list_del(&mem->link);
		if (zcbuf_contig_cma_release(mem))
			module_put(THIS_MODULE);
		else
			list_add(&mem->link, &zcbuf_contig_pinned);
	}
	if (!list_empty(&zcbuf_contig_pinned))
		schedule_delayed_work(&zcbuf_contig_work, HZ / 10);
	mutex_unlock(&zcbuf_contig_lock);
}

static void zcbuf_contig_cma_free(struct zcbuf_contig_memory *mem)
{
	if (zcbuf_contig_cma_release(mem))
		return;
	__module_get(THIS_MODULE);
	mutex_lock(&zcbuf_contig_lock);
	list_add(&mem->link, &zcbuf_contig_pinned);
	mutex_unlock(&zcbuf_contig_lock);
	schedule_delayed_work(&zcbuf_contig_work, HZ / 10);
}

void zcbuf_contig_exit(void)
{
	cancel_delayed_work_sync(&zcbuf_contig_work);
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

void zcbuf_contig_exit(void)
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

	if (mem->cma) {
		zcbuf_contig_cma_free(mem);
		return;
	}
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

static const struct zcbuf_heap_ops zcbuf_contig_ops = {
	.alloc	= zcbuf_contig_alloc,
	.free	= zcbuf_contig_free,
	.page	= zcbuf_contig_page,
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
	/* CMA is set aside at boot: it is nobody's share of memory, and not charged. */
	if (zcbuf_contig_has_cma())
		zcbuf_contig.capabilities &= ~ZCBUF_HEAP_CAP_CHARGED;
	else
		zcbuf_contig.max_size = ZCBUF_BUDDY_SIZE;
	return zcbuf_heap_register(&zcbuf_contig);
}
