// SPDX-License-Identifier: GPL-2.0-only
/* Chunks: the pages of the system heaps, in contiguous runs of falling size. */
#include <linux/gfp.h>
#include <linux/list.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "internal.h"
#include "trace.h"

/*
 * 2 MiB is what one page table entry can map, 64 KiB what IOMMUs and the TLBs of small
 * machines like, and a page is always to be had. An alignment replaces the smaller sizes.
 */
#define LARGE_ORDER	ilog2(ZCBUF_MAX_CHUNK / PAGE_SIZE)
#define MEDIUM_ORDER	(ilog2(SZ_64K) - PAGE_SHIFT)

/*
 * A buffer grows up to this part of it if it consists of large chunks only then. That saves
 * up to 47 small ones, and user space up to 511 page table entries.
 */
#define GROWTH_PART	32

/* Chunks given back at once, with the scheduler asked in between. */
#define FREE_BATCH	64U

/**
 * struct zcbuf_chunks - the memory of a buffer, largest chunks first
 * @pool: where chunks of the usual orders come from and go to, or NULL
 * @tier: order and number of the chunks of each size
 * @page: first page of each chunk
 */
struct zcbuf_chunks {
	struct zcbuf_pool *pool;
	struct {
		unsigned int order;
		unsigned int count;
	} tier[ZCBUF_TIERS];
	struct page *page[];
};

static gfp_t zcbuf_chunks_gfp(struct zcbuf_buffer *buf, bool last_resort)
{
	gfp_t gfp = __GFP_ZERO | __GFP_COMP | __GFP_ACCOUNT | __GFP_NOWARN;

	if (buf->flags & ZCBUF_ALLOC_DMA32)
		gfp |= GFP_USER | __GFP_DMA32;
	else
		gfp |= GFP_HIGHUSER;
	/* The caller gets -ENOMEM; nobody is killed for it. */
	if (last_resort)
		return gfp | __GFP_RETRY_MAYFAIL;
	/* A smaller chunk serves as well: do not even wake up reclaim for a large one. */
	return (gfp | __GFP_NORETRY) & ~__GFP_RECLAIM;
}

static const unsigned int zcbuf_chunks_order[ZCBUF_TIERS] = { LARGE_ORDER, MEDIUM_ORDER, 0 };

static struct page *zcbuf_chunks_alloc_one(struct zcbuf_buffer *buf, struct zcbuf_pool *pool,
					   unsigned int order, bool last)
{
	gfp_t gfp = zcbuf_chunks_gfp(buf, last);
	struct page *page = alloc_pages(gfp, order);

	if (!page && last && pool) {
		/* Reclaim cannot take away those that are just being zeroed. */
		zcbuf_pool_wait();
		page = alloc_pages(gfp, order);
	}
	/* A fault that maps it as a whole compares this with the file's length. */
	if (page)
		page_folio(page)->index = 0;
	return page;
}

/*
 * Add chunks of @order to @list, which is that of @tier unless the buffer's alignment is
 * larger. Returns how many, at most @want, and 0 if none can be had.
 */
static unsigned long zcbuf_chunks_add(struct zcbuf_buffer *buf, struct zcbuf_pool *pool,
				      unsigned int tier, unsigned int order, bool last,
				      unsigned long want, struct list_head *list)
{
	unsigned long taken = 0;
	struct page *page;

	if (pool && order == zcbuf_chunks_order[tier]) {
		taken = zcbuf_pool_take(pool, tier, want, list);
		trace_zcbuf_pool_take(PAGE_SIZE << order, want, taken);
	}
	if (taken)
		return taken;
	page = zcbuf_chunks_alloc_one(buf, pool, order, last);
	if (!page)
		return 0;
	list_add_tail(&page->lru, list);
	return 1;
}

/* Collect chunks for @buf on @list, and say how many of which order there are. */
static int zcbuf_chunks_fill(struct zcbuf_buffer *buf, struct zcbuf_pool *pool,
			     struct list_head *list, unsigned int *orders, unsigned int *counts)
{
	const unsigned int min_order = ilog2(buf->alignment) - PAGE_SHIFT;
	unsigned long left = buf->size >> PAGE_SHIFT, added;
	unsigned int tier;

	for (tier = 0; tier < ZCBUF_TIERS; tier++) {
		bool last = zcbuf_chunks_order[tier] <= min_order || tier == ZCBUF_TIERS - 1;
		unsigned int order = max(zcbuf_chunks_order[tier], min_order);

		orders[tier] = order;
		for (; left >> order; left -= added << order) {
			if (fatal_signal_pending(current))
				return -EINTR;
			added = zcbuf_chunks_add(buf, pool, tier, order, last, left >> order,
						 list);
			if (!added && last)
				return -ENOMEM;
			if (!added)
				break;
			counts[tier] += added;
			cond_resched();
		}
	}
	return 0;
}

static size_t zcbuf_chunks_size(size_t size)
{
	size_t large = ALIGN(size, ZCBUF_MAX_CHUNK);

	return large - size <= size / GROWTH_PART ? large : size;
}

/*
 * Many chunks are what fragmented memory gives. There kvmalloc() of older kernels has pages
 * moved together before it takes single ones.
 */
static struct zcbuf_chunks *zcbuf_chunks_new(unsigned int nr)
{
	struct zcbuf_chunks *chunks;
	size_t size = struct_size(chunks, page, nr);

	return size <= PAGE_SIZE ? kmalloc(size, GFP_KERNEL_ACCOUNT) :
				   __vmalloc(size, GFP_KERNEL_ACCOUNT);
}

/** zcbuf_chunks_alloc() - make memory of chunks for @buf, which may grow by that */
int zcbuf_chunks_alloc(struct zcbuf_buffer *buf)
{
	unsigned int orders[ZCBUF_TIERS], counts[ZCBUF_TIERS] = { }, tier, nr = 0;
	struct zcbuf_pool *pool = NULL;
	struct zcbuf_chunks *chunks;
	struct page *page, *next;
	LIST_HEAD(list);
	int err;

	BUILD_BUG_ON(ZCBUF_MAX_CHUNK > ZCBUF_BUDDY_SIZE);
	buf->size = zcbuf_chunks_size(buf->size);
	if (buf->heap->pooled && !(buf->flags & ZCBUF_ALLOC_DMA32))
		pool = zcbuf_pool_get(buf->recycler);
	err = zcbuf_chunks_fill(buf, pool, &list, orders, counts);
	if (err)
		goto free;

	err = -ENOMEM;
	for (tier = 0; tier < ZCBUF_TIERS; tier++)
		nr += counts[tier];
	chunks = zcbuf_chunks_new(nr);
	if (!chunks)
		goto free;
	chunks->pool = pool;
	for (tier = 0; tier < ZCBUF_TIERS; tier++) {
		chunks->tier[tier].order = orders[tier];
		chunks->tier[tier].count = counts[tier];
	}
	nr = 0;
	list_for_each_entry_safe(page, next, &list, lru) {
		list_del(&page->lru);
		chunks->page[nr++] = page;
	}
	buf->memory = chunks;
	return 0;

free:
	list_for_each_entry_safe(page, next, &list, lru) {
		list_del(&page->lru);
		put_page(page);
	}
	if (pool)
		zcbuf_pool_put(pool);
	return err;
}

void zcbuf_chunks_free(struct zcbuf_buffer *buf)
{
	struct zcbuf_chunks *chunks = buf->memory;
	struct page **page = chunks->page;
	unsigned int tier, count, n, i;

	/*
	 * Somebody may still have pinned a page, for I/O that is under way. Such a chunk
	 * is not for the pool: the last reference frees it, and only then its charge ends.
	 */
	for (tier = 0; tier < ZCBUF_TIERS; tier++) {
		bool pooled = chunks->pool &&
			      chunks->tier[tier].order == zcbuf_chunks_order[tier];

		for (count = chunks->tier[tier].count; count; count -= n, page += n) {
			n = min(count, FREE_BATCH);
			if (pooled)
				zcbuf_pool_give(chunks->pool, tier, page, n);
			for (i = 0; !pooled && i < n; i++)
				put_page(page[i]);
			cond_resched();
		}
	}
	if (chunks->pool)
		zcbuf_pool_put(chunks->pool);
	kvfree(chunks);
}

struct page *zcbuf_chunks_page(struct zcbuf_buffer *buf, unsigned long index,
			       unsigned long *run)
{
	struct zcbuf_chunks *chunks = buf->memory;
	unsigned int tier, nr = 0;

	for (tier = 0; tier < ZCBUF_TIERS - 1; tier++) {
		unsigned long pages = (unsigned long)chunks->tier[tier].count <<
				      chunks->tier[tier].order;

		if (index < pages)
			break;
		index -= pages;
		nr += chunks->tier[tier].count;
	}
	nr += index >> chunks->tier[tier].order;
	index &= (1UL << chunks->tier[tier].order) - 1;
	*run = (1UL << chunks->tier[tier].order) - index;
	return chunks->page[nr] + index;
}
