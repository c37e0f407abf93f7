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

#endif /* ZCBUF_COMPAT_H */
