// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pools: freed chunks, kept for the next buffer of the same memory cgroup.
 *
 * A page stays charged to the cgroup that allocated it until the page allocator has it
 * back, so each cgroup has a pool of its own. While a chunk lies in a pool its reference
 * count is frozen at zero: nobody else had a reference, and nobody can get one.
 *
 * Chunks come back dirty. A thread that yields to all others zeroes them; one that is needed
 * before is zeroed by whoever needs it. Only for an owner who wants to see his own old data
 * again there are pools, his alone, whose chunks stay as they are.
 */
#include <linux/freezer.h>
#include <linux/highmem.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/list_lru.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/shrinker.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/vmstat.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <uapi/linux/sched/types.h>

#include "compat.h"
#include "internal.h"
#include "trace.h"

/* Nobody says when a cgroup dies, so pools are looked through now and then. */
#define TIDY_INTERVAL	(2 * HZ)
/* Pages given back at once, with the scheduler asked in between. */
#define TRIM_PAGES	512
/* Chunks taken at once, with the lock held. */
#define TAKE_CHUNKS	64

/**
 * struct zcbuf_pool - chunks of one memory cgroup
 * @memcg: the cgroup, on which there is a reference
 * @owner: whose data its chunks hold, or NULL: they are zeroed
 * @link: in zcbuf_pools
 * @users: buffers whose chunks may come back, and whoever else uses the pool just now;
 *	guarded by zcbuf_pools_lock. A pool without users and chunks may go
 * @lock: inside of zcbuf_pools_lock, outside of that of the list_lru only
 * @abandoned: @owner is gone
 * @lru: in zcbuf_pool_lru while there are chunks, so that reclaim of the cgroup asks us
 * @dirty: chunks to be zeroed, by tier
 * @clean: chunks that can be given out, by tier
 * @pages: in all chunks
 */
struct zcbuf_pool {
	struct mem_cgroup *memcg;
	const void *owner;
	struct list_head link;
	unsigned int users;
	spinlock_t lock; /* guards the rest */
	bool abandoned;
	struct list_head lru;
	struct list_head dirty[ZCBUF_TIERS];
	struct list_head clean[ZCBUF_TIERS];
	unsigned long pages;
};

static LIST_HEAD(zcbuf_pools);
static DEFINE_SPINLOCK(zcbuf_pools_lock);
static struct kmem_cache *zcbuf_pool_cache;
static struct list_lru zcbuf_pool_lru;
static struct shrinker *zcbuf_pool_shrinker;

static struct task_struct *zcbuf_pool_thread;
static DECLARE_WAIT_QUEUE_HEAD(zcbuf_pool_work);
static DEFINE_MUTEX(zcbuf_pool_cleaning);	/* held while the thread has a chunk */
static atomic_long_t zcbuf_pool_dirty;		/* chunks */
static atomic_long_t zcbuf_pool_pages;		/* in all pools, and in the thread's hands */
static long zcbuf_pool_limit;			/* of zcbuf_pool_pages */

static void zcbuf_pool_tidy(struct work_struct *work);
/* Deferrable: an idle machine is not woken up for it. */
static DECLARE_DEFERRABLE_WORK(zcbuf_pool_tidy_work, zcbuf_pool_tidy);

static long zcbuf_pool_chunk_pages(struct page *page)
{
	return 1L << compound_order(page);
}

static struct zcbuf_pool *zcbuf_pool_find_locked(struct mem_cgroup *memcg, const void *owner)
{
	struct zcbuf_pool *pool;

	list_for_each_entry(pool, &zcbuf_pools, link) {
		if (pool->memcg == memcg && pool->owner == owner && !pool->abandoned) {
			pool->users++;
			return pool;
		}
	}
	return NULL;
}

static struct zcbuf_pool *zcbuf_pool_new(struct mem_cgroup *memcg, const void *owner)
{
	struct zcbuf_pool *pool;
	unsigned int tier;

	pool = kmem_cache_alloc_lru(zcbuf_pool_cache, &zcbuf_pool_lru,
				    GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!pool)
		return NULL;
	pool->memcg = memcg;
	pool->owner = owner;
	pool->users = 1;
	spin_lock_init(&pool->lock);
	INIT_LIST_HEAD(&pool->lru);
	for (tier = 0; tier < ZCBUF_TIERS; tier++) {
		INIT_LIST_HEAD(&pool->dirty[tier]);
		INIT_LIST_HEAD(&pool->clean[tier]);
	}
	return pool;
}

/**
 * zcbuf_pool_get() - the pool of the caller's memory cgroup and of one owner
 * @owner: NULL for what all share; any other must call zcbuf_pool_abandon() in the end
 *
 * Returns NULL when it has to be done without.
 */
struct zcbuf_pool *zcbuf_pool_get(const void *owner)
{
	struct mem_cgroup *memcg = get_mem_cgroup_from_mm(current->mm);
	struct zcbuf_pool *pool, *new;

	spin_lock(&zcbuf_pools_lock);
	pool = zcbuf_pool_find_locked(memcg, owner);
	spin_unlock(&zcbuf_pools_lock);
	if (pool)
		goto put_memcg;

	new = zcbuf_pool_new(memcg, owner);
	if (!new)
		goto put_memcg;
	spin_lock(&zcbuf_pools_lock);
	pool = zcbuf_pool_find_locked(memcg, owner);
	if (!pool)
		list_add(&new->link, &zcbuf_pools);
	spin_unlock(&zcbuf_pools_lock);
	if (!pool) {
		/* It owns the reference on memcg from here on. */
		schedule_delayed_work(&zcbuf_pool_tidy_work, TIDY_INTERVAL);
		return new;
	}
	kmem_cache_free(zcbuf_pool_cache, new);
put_memcg:
	mem_cgroup_put(memcg);
	return pool;
}

/** zcbuf_pool_put() - no chunk of the caller will come back any more */
void zcbuf_pool_put(struct zcbuf_pool *pool)
{
	spin_lock(&zcbuf_pools_lock);
	pool->users--;
	spin_unlock(&zcbuf_pools_lock);
}

/* Chunks on @list are in our hands now, if @sign is 1, or are not any more, if it is -1. */
static void zcbuf_pool_account(struct list_head *list, int sign)
{
	struct page *page;
	long pages = 0;

	list_for_each_entry(page, list, lru) {
		pages += sign * zcbuf_pool_chunk_pages(page);
		if (!list_is_last(&page->lru, list) &&
		    page_pgdat(list_next_entry(page, lru)) == page_pgdat(page))
			continue;
		/* What a shrinker gives back at once counts as available memory. */
		mod_node_page_state(page_pgdat(page), NR_KERNEL_MISC_RECLAIMABLE, pages);
		pages = 0;
	}
}

/* Add @pages that are now in one of the lists of @pool, or take some away, if negative. */
static void zcbuf_pool_count_locked(struct zcbuf_pool *pool, long pages)
{
	bool had_some = pool->pages;

	pool->pages += pages;
	if (pool->pages && !had_some)
		list_lru_add_obj(&zcbuf_pool_lru, &pool->lru);
	else if (!pool->pages && had_some)
		list_lru_del_obj(&zcbuf_pool_lru, &pool->lru);
}

/* Move up to @want chunks of @list, which are of one size, to the empty @chunks. */
static unsigned long zcbuf_pool_cut_locked(struct zcbuf_pool *pool, struct list_head *list,
					   unsigned long want, struct list_head *chunks)
{
	struct list_head *end = list->next;
	unsigned long count;
	struct page *page;

	for (count = 0; count < want && end != list; count++)
		end = end->next;
	if (!count)
		return 0;
	list_cut_before(chunks, list, end);
	page = list_first_entry(chunks, struct page, lru);
	zcbuf_pool_count_locked(pool, -(long)count * zcbuf_pool_chunk_pages(page));
	return count;
}

static struct page *zcbuf_pool_pop_locked(struct zcbuf_pool *pool, struct list_head *list)
{
	struct page *page = list_first_entry_or_null(list, struct page, lru);

	if (page) {
		list_del(&page->lru);
		zcbuf_pool_count_locked(pool, -zcbuf_pool_chunk_pages(page));
	}
	return page;
}

static struct page *zcbuf_pool_pop_dirty_locked(struct zcbuf_pool *pool, unsigned int tier)
{
	struct page *page = zcbuf_pool_pop_locked(pool, &pool->dirty[tier]);

	if (page)
		atomic_long_dec(&zcbuf_pool_dirty);
	return page;
}

/* Chunks on @list, which are in no pool any more, become ordinary ones with one reference. */
static void zcbuf_pool_release(struct list_head *list)
{
	struct page *page;
	long pages = 0;

	zcbuf_pool_account(list, -1);
	list_for_each_entry(page, list, lru) {
		pages += zcbuf_pool_chunk_pages(page);
		page_ref_unfreeze(page, 1);
	}
	atomic_long_sub(pages, &zcbuf_pool_pages);
}

static void zcbuf_pool_free(struct list_head *list)
{
	struct page *page, *next;

	zcbuf_pool_release(list);
	list_for_each_entry_safe(page, next, list, lru) {
		list_del(&page->lru);
		put_page(page);
	}
}

/* Returns false when the memory is broken; then nobody shall have it. */
static bool zcbuf_pool_clear(struct page *page)
{
	long pages = zcbuf_pool_chunk_pages(page), i;

	for (i = 0; i < pages; i++) {
		if (PageHWPoison(page + i))
			return false;
		clear_highpage(page + i);
		cond_resched();
	}
	trace_zcbuf_pool_clear(pages << PAGE_SHIFT, 1, 1);
	return true;
}

/**
 * zcbuf_pool_take() - take chunks out of a pool
 * @pool: the pool
 * @tier: which size
 * @want: how many at most
 * @list: gets them, by &page.lru, with one reference each
 *
 * Returns how many: those that are clean, or one that had to be zeroed.
 */
unsigned long zcbuf_pool_take(struct zcbuf_pool *pool, unsigned int tier, unsigned long want,
			      struct list_head *list)
{
	unsigned long taken;
	struct page *page;
	LIST_HEAD(chunks);

	want = min(want, TAKE_CHUNKS);
	do {
		spin_lock(&pool->lock);
		taken = zcbuf_pool_cut_locked(pool, &pool->clean[tier], want, &chunks);
		page = taken ? NULL : zcbuf_pool_pop_dirty_locked(pool, tier);
		spin_unlock(&pool->lock);
		if (!page)
			break;
		list_add(&page->lru, &chunks);
		if (zcbuf_pool_clear(page))
			taken = 1;
		else
			zcbuf_pool_free(&chunks);
	} while (!taken);
	zcbuf_pool_release(&chunks);
	list_splice_tail(&chunks, list);
	return taken;
}

/* Does the pool's cgroup pay for @page? Its allocator may have moved to another since. */
static bool zcbuf_pool_pays(struct zcbuf_pool *pool, struct page *page)
{
	struct mem_cgroup *memcg;

	rcu_read_lock();
	memcg = zcbuf_page_memcg(page);
	rcu_read_unlock();
	if (memcg)
		return memcg == pool->memcg;
	/* Nobody does: that is so in the root, and everywhere if nothing is counted. */
	return !pool->memcg || !parent_mem_cgroup(pool->memcg);
}

/* Nobody can have a reference any more, if this returns true. */
static bool zcbuf_pool_freeze(struct zcbuf_pool *pool, struct page *page)
{
	if (!zcbuf_pool_pays(pool, page) || !page_ref_freeze(page, 1))
		return false;
	/* What its last owner's page tables left behind. */
	folio_clear_referenced(page_folio(page));
	folio_clear_dirty(page_folio(page));
	return true;
}

/**
 * zcbuf_pool_give() - keep chunks that are not used any more
 * @pool: the pool
 * @tier: which size
 * @chunks: first page of each; the caller's references are gone
 * @count: how many
 *
 * Frees those that somebody else has a reference on, that are of another cgroup, or too
 * many.
 */
void zcbuf_pool_give(struct zcbuf_pool *pool, unsigned int tier, struct page **chunks,
		     unsigned int count)
{
	struct list_head *to = pool->owner ? &pool->clean[tier] : &pool->dirty[tier];
	long pages = zcbuf_pool_chunk_pages(chunks[0]), kept = 0, over;
	bool first = false;
	LIST_HEAD(unwanted);
	LIST_HEAD(frozen);
	unsigned int i;

	for (i = 0; i < count; i++) {
		if (!zcbuf_pool_freeze(pool, chunks[i])) {
			put_page(chunks[i]);
			continue;
		}
		list_add(&chunks[i]->lru, &frozen);
		kept++;
	}
	atomic_long_add(kept * pages, &zcbuf_pool_pages);
	zcbuf_pool_account(&frozen, 1);

	spin_lock(&pool->lock);
	over = atomic_long_read(&zcbuf_pool_pages) - READ_ONCE(zcbuf_pool_limit);
	for (; kept && (over > 0 || pool->abandoned); kept--, over -= pages)
		list_move(frozen.next, &unwanted);
	if (kept) {
		list_splice(&frozen, to);
		zcbuf_pool_count_locked(pool, kept * pages);
		if (!pool->owner)
			first = atomic_long_add_return(kept, &zcbuf_pool_dirty) == kept;
	}
	spin_unlock(&pool->lock);
	trace_zcbuf_pool_give(pages << PAGE_SHIFT, count, kept);
	zcbuf_pool_free(&unwanted);
	if (first)
		wake_up(&zcbuf_pool_work);
}

/* Give back @pages or a little more, dirty chunks first. Returns how many. */
static unsigned long zcbuf_pool_shrink(struct zcbuf_pool *pool, unsigned long pages)
{
	unsigned long freed = 0;
	struct page *page;
	LIST_HEAD(chunks);
	unsigned int tier;

	spin_lock(&pool->lock);
	for (tier = 0; tier < 2 * ZCBUF_TIERS && freed < pages;) {
		page = tier < ZCBUF_TIERS ? zcbuf_pool_pop_dirty_locked(pool, tier) :
			zcbuf_pool_pop_locked(pool, &pool->clean[tier - ZCBUF_TIERS]);
		if (!page) {
			tier++;
			continue;
		}
		list_add(&page->lru, &chunks);
		freed += zcbuf_pool_chunk_pages(page);
	}
	spin_unlock(&pool->lock);
	trace_zcbuf_pool_shrink(PAGE_SIZE, pages, freed);
	zcbuf_pool_free(&chunks);
	return freed;
}

/*
 * Reclaim for a cgroup takes from its own pool, and from those of cgroups that are dead:
 * what these paid for is their parents' now.
 */
static bool zcbuf_pool_reclaimable(struct zcbuf_pool *pool, struct mem_cgroup *memcg)
{
	return READ_ONCE(pool->pages) &&
	       (pool->memcg == memcg || !mem_cgroup_online(pool->memcg));
}

static unsigned long zcbuf_pool_shrinker_count(struct shrinker *shrinker,
					       struct shrink_control *sc)
{
	struct zcbuf_pool *pool;
	unsigned long pages = 0;

	spin_lock(&zcbuf_pools_lock);
	list_for_each_entry(pool, &zcbuf_pools, link)
		if (zcbuf_pool_reclaimable(pool, sc->memcg))
			pages += READ_ONCE(pool->pages);
	spin_unlock(&zcbuf_pools_lock);
	return pages ?: SHRINK_EMPTY;
}

static unsigned long zcbuf_pool_shrinker_scan(struct shrinker *shrinker,
					      struct shrink_control *sc)
{
	struct zcbuf_pool *pool;
	unsigned long freed = 0;

	spin_lock(&zcbuf_pools_lock);
	list_for_each_entry(pool, &zcbuf_pools, link) {
		if (!zcbuf_pool_reclaimable(pool, sc->memcg))
			continue;
		/* Whoever is used stays in the list. */
		pool->users++;
		spin_unlock(&zcbuf_pools_lock);
		freed += zcbuf_pool_shrink(pool, sc->nr_to_scan);
		spin_lock(&zcbuf_pools_lock);
		pool->users--;
		if (freed >= sc->nr_to_scan)
			break;
	}
	spin_unlock(&zcbuf_pools_lock);
	sc->nr_scanned = freed;
	return freed ?: SHRINK_STOP;
}

/* The next dirty chunk of any pool, which has one user more then. */
static struct page *zcbuf_pool_next_dirty(struct zcbuf_pool **from, unsigned int *from_tier)
{
	struct page *page = NULL;
	struct zcbuf_pool *pool;
	unsigned int tier;

	spin_lock(&zcbuf_pools_lock);
	list_for_each_entry(pool, &zcbuf_pools, link) {
		spin_lock(&pool->lock);
		for (tier = 0; tier < ZCBUF_TIERS; tier++) {
			page = zcbuf_pool_pop_dirty_locked(pool, tier);
			if (page)
				break;
		}
		spin_unlock(&pool->lock);
		if (!page)
			continue;
		pool->users++;
		*from = pool;
		*from_tier = tier;
		/* Fair to all cgroups: another one comes next. */
		list_move_tail(&pool->link, &zcbuf_pools);
		break;
	}
	spin_unlock(&zcbuf_pools_lock);
	return page;
}

static void zcbuf_pool_clean_one(void)
{
	struct zcbuf_pool *pool;
	LIST_HEAD(unwanted);
	unsigned int tier;
	struct page *page;
	bool keep;

	mutex_lock(&zcbuf_pool_cleaning);
	page = zcbuf_pool_next_dirty(&pool, &tier);
	if (page) {
		keep = zcbuf_pool_clear(page);
		spin_lock(&pool->lock);
		keep = keep && atomic_long_read(&zcbuf_pool_pages) <=
			       READ_ONCE(zcbuf_pool_limit);
		if (keep) {
			list_add(&page->lru, &pool->clean[tier]);
			zcbuf_pool_count_locked(pool, zcbuf_pool_chunk_pages(page));
		}
		spin_unlock(&pool->lock);
		if (!keep) {
			list_add(&page->lru, &unwanted);
			zcbuf_pool_free(&unwanted);
		}
		zcbuf_pool_put(pool);
	}
	mutex_unlock(&zcbuf_pool_cleaning);
}

/** zcbuf_pool_wait() - until the chunk that is being zeroed now lies in its pool */
void zcbuf_pool_wait(void)
{
	mutex_lock(&zcbuf_pool_cleaning);
	mutex_unlock(&zcbuf_pool_cleaning);
}

static bool zcbuf_pool_has_work(void)
{
	return atomic_long_read(&zcbuf_pool_dirty) || kthread_should_stop();
}

static int zcbuf_pool_run(void *unused)
{
	/* A nice level would not do: a thread that has slept long may still go first. */
	const struct sched_attr idle = { .size = sizeof(idle), .sched_policy = SCHED_IDLE };

	WARN_ON_ONCE(sched_setattr_nocheck(current, &idle));
	set_freezable();
	while (!kthread_should_stop()) {
		wait_event_freezable(zcbuf_pool_work, zcbuf_pool_has_work());
		if (atomic_long_read(&zcbuf_pool_dirty))
			zcbuf_pool_clean_one();
		cond_resched();
	}
	return 0;
}

/* A pool that has too much: one that is nobody's, or any while all are over the limit. */
static struct zcbuf_pool *zcbuf_pool_to_trim(void)
{
	struct zcbuf_pool *pool, *found = NULL;

	spin_lock(&zcbuf_pools_lock);
	list_for_each_entry(pool, &zcbuf_pools, link) {
		/* Whoever is adding a chunk has seen the old limit: wait for him. */
		spin_lock(&pool->lock);
		if (pool->pages && (pool->abandoned || !mem_cgroup_online(pool->memcg) ||
				    atomic_long_read(&zcbuf_pool_pages) > zcbuf_pool_limit))
			found = pool;
		spin_unlock(&pool->lock);
		if (found) {
			found->users++;
			break;
		}
	}
	spin_unlock(&zcbuf_pools_lock);
	return found;
}

static void zcbuf_pool_trim(void)
{
	struct zcbuf_pool *pool;

	while ((pool = zcbuf_pool_to_trim())) {
		zcbuf_pool_shrink(pool, TRIM_PAGES);
		zcbuf_pool_put(pool);
		cond_resched();
	}
}

/** zcbuf_pool_abandon() - @owner wants nothing back any more */
void zcbuf_pool_abandon(const void *owner)
{
	struct zcbuf_pool *pool;

	spin_lock(&zcbuf_pools_lock);
	list_for_each_entry(pool, &zcbuf_pools, link) {
		if (pool->owner != owner)
			continue;
		/* Whoever is adding a chunk comes before this, and the chunk is trimmed. */
		spin_lock(&pool->lock);
		pool->abandoned = true;
		spin_unlock(&pool->lock);
	}
	spin_unlock(&zcbuf_pools_lock);
	zcbuf_pool_trim();
}

static void zcbuf_pool_free_unused(void)
{
	struct zcbuf_pool *pool, *next;
	LIST_HEAD(unused);

	spin_lock(&zcbuf_pools_lock);
	list_for_each_entry_safe(pool, next, &zcbuf_pools, link)
		if (!pool->users && !READ_ONCE(pool->pages))
			list_move(&pool->link, &unused);
	spin_unlock(&zcbuf_pools_lock);
	list_for_each_entry_safe(pool, next, &unused, link) {
		mem_cgroup_put(pool->memcg);
		kmem_cache_free(zcbuf_pool_cache, pool);
	}
}

static void zcbuf_pool_tidy(struct work_struct *work)
{
	zcbuf_pool_trim();
	zcbuf_pool_free_unused();
	if (!list_empty_careful(&zcbuf_pools))
		schedule_delayed_work(&zcbuf_pool_tidy_work, TIDY_INTERVAL);
}

/** zcbuf_pool_bytes() - memory that is kept */
u64 zcbuf_pool_bytes(void)
{
	return (u64)atomic_long_read(&zcbuf_pool_pages) << PAGE_SHIFT;
}

u64 zcbuf_pool_get_limit(void)
{
	return (u64)READ_ONCE(zcbuf_pool_limit) << PAGE_SHIFT;
}

/** zcbuf_pool_set_limit() - keep no more than @bytes from now on. 0 empties all pools. */
void zcbuf_pool_set_limit(u64 bytes)
{
	WRITE_ONCE(zcbuf_pool_limit, min_t(u64, bytes >> PAGE_SHIFT, LONG_MAX));
	/* The chunk that the thread has, if any, goes when it is done with it. */
	mutex_lock(&zcbuf_pool_cleaning);
	zcbuf_pool_trim();
	mutex_unlock(&zcbuf_pool_cleaning);
}

int __init zcbuf_pool_init(void)
{
	int err = -ENOMEM;

	zcbuf_pool_limit = totalram_pages() / 8;
	zcbuf_pool_cache = KMEM_CACHE(zcbuf_pool, SLAB_ACCOUNT);
	if (!zcbuf_pool_cache)
		return -ENOMEM;
	zcbuf_pool_shrinker = zcbuf_shrinker_register("zcbuf-pool", SHRINKER_MEMCG_AWARE,
						      zcbuf_pool_shrinker_count,
						      zcbuf_pool_shrinker_scan);
	if (!zcbuf_pool_shrinker)
		goto destroy_cache;
	err = list_lru_init_memcg(&zcbuf_pool_lru, zcbuf_pool_shrinker);
	if (err)
		goto free_shrinker;
	zcbuf_pool_thread = kthread_run(zcbuf_pool_run, NULL, "zcbuf-pool");
	if (IS_ERR(zcbuf_pool_thread)) {
		err = PTR_ERR(zcbuf_pool_thread);
		goto destroy_lru;
	}
	return 0;

destroy_lru:
	list_lru_destroy(&zcbuf_pool_lru);
free_shrinker:
	zcbuf_shrinker_unregister(zcbuf_pool_shrinker);
destroy_cache:
	kmem_cache_destroy(zcbuf_pool_cache);
	return err;
}

/** zcbuf_pool_exit() - give everything back. No buffer is left. */
void zcbuf_pool_exit(void)
{
	kthread_stop(zcbuf_pool_thread);
	cancel_delayed_work_sync(&zcbuf_pool_tidy_work);
	zcbuf_shrinker_unregister(zcbuf_pool_shrinker);
	zcbuf_pool_limit = 0;
	zcbuf_pool_trim();
	zcbuf_pool_free_unused();
	list_lru_destroy(&zcbuf_pool_lru);
	kmem_cache_destroy(zcbuf_pool_cache);
}
