/* SPDX-License-Identifier: GPL-2.0-only */
/* All differences between the kernels that zcbuf builds on, and nothing else. */
#ifndef ZCBUF_COMPAT_H
#define ZCBUF_COMPAT_H

#include <linux/list_lru.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/shrinker.h>
#include <linux/slab.h>

#include "probes.h"

#ifndef kzalloc_obj
#define kzalloc_obj(obj, gfp) kzalloc(sizeof(obj), gfp)
#endif

#ifndef ZCBUF_HAVE_VM_FLAGS_MOD
static inline void vm_flags_mod(struct vm_area_struct *vma, vm_flags_t set,
				vm_flags_t clear)
{
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
}
#endif

#ifndef ZCBUF_HAVE_LIST_LRU_ADD_OBJ
/* The caller keeps the memory cgroup of the item alive for as long as it takes. */
static inline bool list_lru_add_obj(struct list_lru *lru, struct list_head *item)
{
	bool added;

	rcu_read_lock();
	added = list_lru_add(lru, item);
	rcu_read_unlock();
	return added;
}

static inline bool list_lru_del_obj(struct list_lru *lru, struct list_head *item)
{
	bool deleted;

	rcu_read_lock();
	deleted = list_lru_del(lru, item);
	rcu_read_unlock();
	return deleted;
}
#endif

/* Under the RCU lock. */
static inline struct mem_cgroup *zcbuf_page_memcg(struct page *page)
{
#ifdef ZCBUF_HAVE_FOLIO_MEMCG_CHECK
	return folio_memcg_check(page_folio(page));
#else
	return page_memcg_check(page);
#endif
}

typedef unsigned long (*zcbuf_shrinker_fn)(struct shrinker *shrinker,
					   struct shrink_control *sc);

static inline struct shrinker *
zcbuf_shrinker_register(const char *name, unsigned int flags, zcbuf_shrinker_fn count,
			zcbuf_shrinker_fn scan)
{
	struct shrinker *shrinker;

#ifdef ZCBUF_HAVE_SHRINKER_ALLOC
	shrinker = shrinker_alloc(flags, "%s", name);
#else
	shrinker = kzalloc(sizeof(*shrinker), GFP_KERNEL);
#endif
	if (!shrinker)
		return NULL;
	shrinker->count_objects = count;
	shrinker->scan_objects = scan;
	shrinker->seeks = DEFAULT_SEEKS;
#ifdef ZCBUF_HAVE_SHRINKER_ALLOC
	shrinker_register(shrinker);
#else
	shrinker->flags = flags;
	if (register_shrinker(shrinker, "%s", name)) {
		kfree(shrinker);
		return NULL;
	}
#endif
	return shrinker;
}

static inline void zcbuf_shrinker_unregister(struct shrinker *shrinker)
{
#ifdef ZCBUF_HAVE_SHRINKER_ALLOC
	shrinker_free(shrinker);
#else
	unregister_shrinker(shrinker);
	kfree(shrinker);
#endif
}

/* Has the process, or the machine, no use for large pages? */
static inline bool zcbuf_thp_disabled(struct vm_area_struct *vma)
{
#ifdef ZCBUF_HAVE_VMA_THP_DISABLED_FORCED
	return vma_thp_disabled(vma, vma->vm_flags, false);
#elif defined(ZCBUF_HAVE_VMA_THP_DISABLED)
	return vma_thp_disabled(vma, vma->vm_flags);
#else
	return !IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE);
#endif
}

#ifdef ZCBUF_HAVE_CONST_DEVNODE
#define zcbuf_devnode_device const struct device
#else
#define zcbuf_devnode_device struct device
#endif

#ifdef ZCBUF_HAVE_BARE_IMPORT_NS
#define ZCBUF_IMPORT_NS_DMA_BUF MODULE_IMPORT_NS(DMA_BUF)
#else
#define ZCBUF_IMPORT_NS_DMA_BUF MODULE_IMPORT_NS("DMA_BUF")
#endif

#ifdef ZCBUF_HAVE_VMAP_UNLOCKED
#define ZCBUF_MAPS_LOCKED true
#else
/* Before 6.2 a static importer holds no lock, neither for a device mapping nor for vmap. */
#define ZCBUF_MAPS_LOCKED false
#define dma_buf_vmap_unlocked dma_buf_vmap
#define dma_buf_vunmap_unlocked dma_buf_vunmap
#endif

#ifdef ZCBUF_HAVE_MOVE_NOTIFY
#define zcbuf_move_notify move_notify
#else
#define zcbuf_move_notify invalidate_mappings
#endif

#endif /* ZCBUF_COMPAT_H */
