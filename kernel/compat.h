/* SPDX-License-Identifier: GPL-2.0-only */
/* All differences between the kernels that zcbuf builds on, and nothing else. */
#ifndef ZCBUF_COMPAT_H
#define ZCBUF_COMPAT_H

#include <linux/mm.h>
#include <linux/module.h>
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
