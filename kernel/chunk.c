// SPDX-License-Identifier: GPL-2.0-only
/* Chunks: the pages of the system heaps, in contiguous runs of falling size. */
#include <linux/gfp.h>
#include <linux/list.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "internal.h"

/*
 * 2 MiB is what one page table entry can map, 64 KiB what IOMMUs and the TLBs of small
 * machines like, and a page is always to be had. An alignment replaces the smaller sizes.
 */
#define LARGE_ORDER	ilog2(ZCBUF_MAX_CHUNK / PAGE_SIZE)
#define MEDIUM_ORDER	get_order(SZ_64K)
#define NR_TIERS	3

/**
 * struct zcbuf_chunks - the memory of a buffer, largest chunks first
 * @tier: order and number of the chunks of each size
 * @page: first page of each chunk
 */
struct zcbuf_chunks {
	struct {
		unsigned int order;
		unsigned int count;
	} tier[NR_TIERS];
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

static void zcbuf_chunks_free_list(struct list_head *chunks)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, chunks, lru) {
		list_del(&page->lru);
		put_page(page);
	}
}

int zcbuf_chunks_alloc(struct zcbuf_buffer *buf)
{
	const unsigned int min_order = ilog2(buf->alignment) - PAGE_SHIFT;
	const unsigned int orders[NR_TIERS] = {
		max_t(unsigned int, LARGE_ORDER, min_order),
		max_t(unsigned int, MEDIUM_ORDER, min_order),
		min_order,
	};
	unsigned long left = buf->size >> PAGE_SHIFT;
	unsigned int count[NR_TIERS] = { }, tier = 0, nr = 0;
	struct zcbuf_chunks *chunks;
	struct page *page, *next;
	LIST_HEAD(list);
	int err;

	BUILD_BUG_ON(ZCBUF_MAX_CHUNK > ZCBUF_BUDDY_SIZE);
	while (left) {
		bool last = orders[tier] == min_order;

		err = -EINTR;
		if (fatal_signal_pending(current))
			goto free;
		page = NULL;
		if (left >> orders[tier])
			page = alloc_pages(zcbuf_chunks_gfp(buf, last), orders[tier]);
		if (page) {
			list_add_tail(&page->lru, &list);
			left -= 1UL << orders[tier];
			count[tier]++;
			nr++;
		} else if (!last) {
			tier++;
		} else {
			err = -ENOMEM;
			goto free;
		}
		cond_resched();
	}

	err = -ENOMEM;
	chunks = kvmalloc(struct_size(chunks, page, nr), GFP_KERNEL_ACCOUNT);
	if (!chunks)
		goto free;
	for (tier = 0; tier < NR_TIERS; tier++) {
		chunks->tier[tier].order = orders[tier];
		chunks->tier[tier].count = count[tier];
	}
	nr = 0;
	list_for_each_entry_safe(page, next, &list, lru) {
		list_del(&page->lru);
		chunks->page[nr++] = page;
	}
	buf->memory = chunks;
	return 0;

free:
	zcbuf_chunks_free_list(&list);
	return err;
}

void zcbuf_chunks_free(struct zcbuf_buffer *buf)
{
	struct zcbuf_chunks *chunks = buf->memory;
	unsigned int tier, i, nr = 0;

	/*
	 * Somebody may still have pinned a page, for I/O that is under way. The last
	 * reference frees the chunk, and only then does its charge end.
	 */
	for (tier = 0; tier < NR_TIERS; tier++) {
		for (i = 0; i < chunks->tier[tier].count; i++)
			put_page(chunks->page[nr++]);
		cond_resched();
	}
	kvfree(chunks);
}

struct page *zcbuf_chunks_page(struct zcbuf_buffer *buf, unsigned long index,
			       unsigned long *run)
{
	struct zcbuf_chunks *chunks = buf->memory;
	unsigned int tier, nr = 0;

	for (tier = 0; tier < NR_TIERS - 1; tier++) {
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
