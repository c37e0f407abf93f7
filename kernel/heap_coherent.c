// SPDX-License-Identifier: GPL-2.0-only
/*
 * zcbuf-coherent: dma_alloc_attrs() and dma_mmap_attrs(): memory that the CPU and devices
 * see alike without any sync, on machines where caches are not coherent too.
 */
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/init.h>
#include <linux/mm.h>
#include <linux/platform_device.h>
#include <linux/scatterlist.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "compat.h"
#include "internal.h"

/* The DMA API allocates for a device. These two differ in what they can address. */
static struct platform_device *zcbuf_coherent_dev;
static struct platform_device *zcbuf_coherent_dev32;

/**
 * struct zcbuf_coherent_memory - what dma_alloc_attrs() gave
 * @dev: for which device
 * @vaddr: where the kernel sees it
 * @addr: where the device sees it
 * @page: its first page
 */
struct zcbuf_coherent_memory {
	struct device *dev;
	void *vaddr;
	dma_addr_t addr;
	struct page *page;
};

static int zcbuf_coherent_alloc(struct zcbuf_buffer *buf)
{
	bool dma32 = buf->flags & ZCBUF_ALLOC_DMA32;
	struct zcbuf_coherent_memory *mem;
	struct sg_table sgt;
	int err;

	mem = kzalloc_obj(*mem, GFP_KERNEL_ACCOUNT);
	if (!mem)
		return -ENOMEM;
	mem->dev = dma32 ? &zcbuf_coherent_dev32->dev : &zcbuf_coherent_dev->dev;
	err = -ENOMEM;
	mem->vaddr = dma_alloc_attrs(mem->dev, buf->size, &mem->addr,
				     GFP_KERNEL_ACCOUNT | __GFP_NOWARN | __GFP_RETRY_MAYFAIL,
				     DMA_ATTR_NO_WARN);
	if (!mem->vaddr)
		goto free_mem;

	/* One run of pages, since no IOMMU serves this device. */
	err = dma_get_sgtable_attrs(mem->dev, &sgt, mem->vaddr, mem->addr, buf->size, 0);
	if (err)
		goto free_dma;
	mem->page = sgt.orig_nents == 1 ? sg_page(sgt.sgl) : NULL;
	sg_free_table(&sgt);
	err = -EOPNOTSUPP;
	if (!mem->page)
		goto free_dma;
	err = -ENOMEM;
	if (!IS_ALIGNED(page_to_phys(mem->page), buf->alignment))
		goto free_dma;
	buf->memory = mem;
	return 0;

free_dma:
	dma_free_attrs(mem->dev, buf->size, mem->vaddr, mem->addr, 0);
free_mem:
	kfree(mem);
	return fatal_signal_pending(current) ? -EINTR : err;
}

static void zcbuf_coherent_free(struct zcbuf_buffer *buf)
{
	struct zcbuf_coherent_memory *mem = buf->memory;

	dma_free_attrs(mem->dev, buf->size, mem->vaddr, mem->addr, 0);
	kfree(mem);
}

static struct page *zcbuf_coherent_page(struct zcbuf_buffer *buf, unsigned long index,
					unsigned long *run)
{
	struct zcbuf_coherent_memory *mem = buf->memory;

	*run = (buf->size >> PAGE_SHIFT) - index;
	return mem->page + index;
}

static int zcbuf_coherent_mmap(struct zcbuf_buffer *buf, struct vm_area_struct *vma)
{
	struct zcbuf_coherent_memory *mem = buf->memory;

	return dma_mmap_attrs(mem->dev, vma, mem->vaddr, mem->addr, buf->size, 0);
}

static void zcbuf_coherent_kernel_map(struct zcbuf_buffer *buf, struct iosys_map *map)
{
	struct zcbuf_coherent_memory *mem = buf->memory;

	iosys_map_set_vaddr(map, mem->vaddr);
}

static const struct zcbuf_heap_ops zcbuf_coherent_ops = {
	.alloc		= zcbuf_coherent_alloc,
	.free		= zcbuf_coherent_free,
	.page		= zcbuf_coherent_page,
	.mmap		= zcbuf_coherent_mmap,
	.kernel_map	= zcbuf_coherent_kernel_map,
};

static struct zcbuf_heap zcbuf_coherent = {
	.ops		= &zcbuf_coherent_ops,
	.name		= "zcbuf-coherent",
	.kind		= ZCBUF_HEAP_COHERENT,
	.cache_mode	= ZCBUF_CACHED,
	.capabilities	= ZCBUF_HEAP_CAP_CONTIGUOUS | ZCBUF_HEAP_CAP_VMAP |
			  ZCBUF_HEAP_CAP_CHARGED | ZCBUF_HEAP_CAP_DMA32,
	.max_size	= ZCBUF_BUDDY_SIZE,
	.max_alignment	= ZCBUF_BUDDY_SIZE,
};

/*
 * CMA is nobody's share of memory, so what the DMA API takes from there is not charged, and
 * aligned no further than this. Where it cannot be known whether there is CMA, there may be.
 */
static void zcbuf_coherent_consider_cma(void)
{
#ifdef CONFIG_DMA_CMA
#ifdef ZCBUF_HAVE_CMA
	if (!dev_get_cma_area(NULL))
		return;
#endif
	zcbuf_coherent.capabilities &= ~ZCBUF_HEAP_CAP_CHARGED;
	zcbuf_coherent.max_alignment = min_t(u64, zcbuf_coherent.max_alignment,
					     PAGE_SIZE << CONFIG_CMA_ALIGNMENT);
#endif
}

static struct platform_device *zcbuf_coherent_device(int id, u64 mask)
{
	struct platform_device *pdev;
	int err;

	pdev = platform_device_register_simple("zcbuf-coherent", id, NULL, 0);
	if (IS_ERR(pdev))
		return pdev;
	err = dma_coerce_mask_and_coherent(&pdev->dev, mask);
	if (err) {
		platform_device_unregister(pdev);
		return ERR_PTR(err);
	}
	return pdev;
}

int __init zcbuf_coherent_init(void)
{
	int err;

	zcbuf_coherent_dev = zcbuf_coherent_device(64, DMA_BIT_MASK(64));
	if (IS_ERR(zcbuf_coherent_dev)) {
		err = PTR_ERR(zcbuf_coherent_dev);
		goto none;
	}
	zcbuf_coherent_dev32 = zcbuf_coherent_device(32, DMA_BIT_MASK(32));
	if (IS_ERR(zcbuf_coherent_dev32)) {
		err = PTR_ERR(zcbuf_coherent_dev32);
		goto unregister;
	}
	if (!dev_is_dma_coherent(&zcbuf_coherent_dev->dev))
		zcbuf_coherent.cache_mode = ZCBUF_WRITE_COMBINED;
	zcbuf_coherent_consider_cma();
	err = zcbuf_heap_register(&zcbuf_coherent);
	if (err)
		goto unregister32;
	return 0;

unregister32:
	platform_device_unregister(zcbuf_coherent_dev32);
unregister:
	platform_device_unregister(zcbuf_coherent_dev);
none:
	zcbuf_coherent_dev = NULL;
	return err;
}

void zcbuf_coherent_exit(void)
{
	if (!zcbuf_coherent_dev)
		return;
	platform_device_unregister(zcbuf_coherent_dev32);
	platform_device_unregister(zcbuf_coherent_dev);
}
