// SPDX-License-Identifier: GPL-2.0-only
/*
 * zcbuf-carveout-NAME: memory outside of the page allocator, mapped by remap_pfn_range():
 * RAM that was reserved at boot, or a BAR of a PCI device.
 *
 * It is given as a module parameter, or by a device-tree node:
 *
 *	camera-pool {
 *		compatible = "zcbuf,carveout";
 *		memory-region = <&camera_reserved>;
 *	};
 */
#include <linux/genalloc.h>
#include <linux/init.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/list.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/of.h>
#include <linux/of_reserved_mem.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "compat.h"
#include "internal.h"

static char *carveout[8];
static unsigned int nr_carveouts;
/* Physical addresses are root's to see. */
module_param_array(carveout, charp, &nr_carveouts, 0400);
MODULE_PARM_DESC(carveout,
		 "NAME:SIZE@ADDRESS[:wc] for reserved RAM, NAME:BAR@DOMAIN:BUS:DEVICE.FUNCTION[:wc] for a PCI BAR, comma-separated; uncached unless :wc");

/**
 * struct zcbuf_carveout - one region
 * @heap: its heap
 * @link: in zcbuf_carveouts
 * @base: its first bus address
 * @size: bytes
 * @vaddr: where the kernel sees it
 * @pool: which pages are free
 * @pdev: the PCI device whose BAR it is, or NULL
 * @bar: which BAR
 */
struct zcbuf_carveout {
	struct zcbuf_heap heap;
	struct list_head link;
	phys_addr_t base;
	size_t size;
	void __iomem *vaddr;
	struct gen_pool *pool;
	struct pci_dev *pdev;
	int bar;
};

static LIST_HEAD(zcbuf_carveouts);

static struct zcbuf_carveout *zcbuf_carveout_of(struct zcbuf_buffer *buf)
{
	return container_of(buf->heap, struct zcbuf_carveout, heap);
}

static phys_addr_t zcbuf_carveout_phys(struct zcbuf_buffer *buf)
{
	return (uintptr_t)buf->memory;
}

static void __iomem *zcbuf_carveout_vaddr(struct zcbuf_buffer *buf)
{
	struct zcbuf_carveout *c = zcbuf_carveout_of(buf);

	return c->vaddr + (zcbuf_carveout_phys(buf) - c->base);
}

static int zcbuf_carveout_alloc(struct zcbuf_buffer *buf)
{
	struct genpool_data_align align = { .align = buf->alignment };
	struct zcbuf_carveout *c = zcbuf_carveout_of(buf);
	unsigned long addr;

	addr = gen_pool_alloc_algo(c->pool, buf->size, gen_pool_first_fit_align, &align);
	if (!addr)
		return -ENOMEM;
	buf->memory = (void *)addr;
	memset_io(zcbuf_carveout_vaddr(buf), 0, buf->size);
	return 0;
}

static void zcbuf_carveout_free(struct zcbuf_buffer *buf)
{
	gen_pool_free(zcbuf_carveout_of(buf)->pool, (unsigned long)buf->memory, buf->size);
}

static int zcbuf_carveout_mmap(struct zcbuf_buffer *buf, struct vm_area_struct *vma)
{
	return remap_pfn_range(vma, vma->vm_start,
			       PHYS_PFN(zcbuf_carveout_phys(buf)) + vma->vm_pgoff,
			       vma->vm_end - vma->vm_start, vma->vm_page_prot);
}

static void zcbuf_carveout_kernel_map(struct zcbuf_buffer *buf, struct iosys_map *map)
{
	iosys_map_set_vaddr_iomem(map, zcbuf_carveout_vaddr(buf));
}

static const struct zcbuf_heap_ops zcbuf_carveout_ops = {
	.alloc		= zcbuf_carveout_alloc,
	.free		= zcbuf_carveout_free,
	.phys		= zcbuf_carveout_phys,
	.mmap		= zcbuf_carveout_mmap,
	.kernel_map	= zcbuf_carveout_kernel_map,
};

/* Take the region itself: reserved RAM, or a BAR that no driver uses. */
static int zcbuf_carveout_request(struct zcbuf_carveout *c)
{
	if (c->pdev)
		return pci_request_region(c->pdev, c->bar, c->heap.name);
	return request_mem_region(c->base, c->size, c->heap.name) ? 0 : -EBUSY;
}

static void zcbuf_carveout_release(struct zcbuf_carveout *c)
{
	if (c->pdev)
		pci_release_region(c->pdev, c->bar);
	else
		release_mem_region(c->base, c->size);
}

static void zcbuf_carveout_destroy(struct zcbuf_carveout *c)
{
	gen_pool_destroy(c->pool);
	iounmap(c->vaddr);
	zcbuf_carveout_release(c);
	if (c->pdev) {
		pci_disable_device(c->pdev);
		pci_dev_put(c->pdev);
	}
	kfree(c);
}

/*
 * Make a heap of [@base, @base + @size). Takes over the reference on @pdev. Messages say
 * why not, since all that the one who loads the module sees otherwise is an errno.
 */
static int zcbuf_carveout_add(const char *name, phys_addr_t base, size_t size, bool wc,
			      struct pci_dev *pdev, int bar)
{
	struct zcbuf_carveout *c;
	int err;

	if (!size || !PAGE_ALIGNED(base) || !PAGE_ALIGNED(size) ||
	    base + size < base || base + size - 1 > ULONG_MAX) {
		pr_err("zcbuf: carveout %s: %#zx bytes at %pa are not whole pages\n", name,
		       size, &base);
		err = -EINVAL;
		goto put;
	}
	err = -ENOMEM;
	c = kzalloc_obj(*c, GFP_KERNEL);
	if (!c)
		goto put;
	c->base = base;
	c->size = size;
	c->pdev = pdev;
	c->bar = bar;
	c->heap.ops = &zcbuf_carveout_ops;
	c->heap.kind = ZCBUF_HEAP_CARVEOUT;
	c->heap.cache_mode = wc ? ZCBUF_WRITE_COMBINED : ZCBUF_UNCACHED;
	c->heap.capabilities = ZCBUF_HEAP_CAP_CONTIGUOUS;
	if (base + size <= SZ_4G)
		c->heap.capabilities |= ZCBUF_HEAP_CAP_DMA32;
	c->heap.max_size = size;
	c->heap.max_alignment = min_t(u64, rounddown_pow_of_two(size), SZ_1G);
	err = -EINVAL;
	if (snprintf(c->heap.name, sizeof(c->heap.name), "zcbuf-carveout-%s", name) >=
	    sizeof(c->heap.name) || !*name || strpbrk(name, "/ ")) {
		pr_err("zcbuf: carveout name '%s' is empty, too long or no file name\n", name);
		goto free;
	}

	err = zcbuf_carveout_request(c);
	if (err) {
		pr_err("zcbuf: carveout %s: somebody else uses it (%d)\n", name, err);
		goto free;
	}
	err = -ENOMEM;
	c->vaddr = wc ? ioremap_wc(base, size) : ioremap(base, size);
	if (!c->vaddr)
		goto release;
	c->pool = gen_pool_create(PAGE_SHIFT, NUMA_NO_NODE);
	if (!c->pool)
		goto unmap;
	err = gen_pool_add(c->pool, base, size, NUMA_NO_NODE);
	if (err)
		goto destroy;
	err = zcbuf_heap_register(&c->heap);
	if (err) {
		pr_err("zcbuf: carveout %s: %s\n", name,
		       err == -EBUSY ? "there is one already" : "there are too many heaps");
		goto destroy;
	}
	list_add_tail(&c->link, &zcbuf_carveouts);
	return 0;

destroy:
	gen_pool_destroy(c->pool);
unmap:
	iounmap(c->vaddr);
release:
	zcbuf_carveout_release(c);
free:
	kfree(c);
put:
	if (pdev) {
		pci_disable_device(pdev);
		pci_dev_put(pdev);
	}
	return err;
}

static int zcbuf_carveout_add_ram(const char *name, u64 base, u64 size, bool wc)
{
	/* Reserved from one end to the other, so that no part of it is anybody's memory. */
	if (region_intersects(base, size, IORESOURCE_MEM, IORES_DESC_RESERVED) !=
	    REGION_INTERSECTS) {
		pr_err("zcbuf: carveout %s: %#llx bytes at %#llx are not reserved: boot with memmap=SIZE$ADDRESS, or use a device-tree node\n",
		       name, size, base);
		return -EINVAL;
	}
	return zcbuf_carveout_add(name, base, size, wc, NULL, 0);
}

static int zcbuf_carveout_add_bar(const char *name, int bar, unsigned int domain,
				  unsigned int bus, unsigned int devfn, bool wc)
{
	struct pci_dev *pdev;
	int err;

	pdev = pci_get_domain_bus_and_slot(domain, bus, devfn);
	if (!pdev) {
		pr_err("zcbuf: carveout %s: no PCI device %04x:%02x:%02x.%x\n", name, domain,
		       bus, PCI_SLOT(devfn), PCI_FUNC(devfn));
		return -ENODEV;
	}
	if (bar < 0 || bar >= PCI_STD_NUM_BARS ||
	    !(pci_resource_flags(pdev, bar) & IORESOURCE_MEM)) {
		pr_err("zcbuf: carveout %s: BAR %d of %s is not memory\n", name, bar,
		       pci_name(pdev));
		pci_dev_put(pdev);
		return -EINVAL;
	}
	err = pci_enable_device(pdev);
	if (err) {
		pci_dev_put(pdev);
		return err;
	}
	return zcbuf_carveout_add(name, pci_resource_start(pdev, bar),
				  pci_resource_len(pdev, bar), wc, pdev, bar);
}

/* @spec: NAME:WHAT@WHERE[:wc]; @copy: of it, which is taken apart */
static int zcbuf_carveout_parse(const char *spec, char *copy)
{
	unsigned int domain, bus, slot, func, bar;
	char *name, *what, *where, *end;
	size_t len = strlen(spec);
	u64 size, base;
	bool wc = false;
	int used = 0;

	if (len > 3 && !strcmp(spec + len - 3, ":wc")) {
		wc = true;
		copy[len - 3] = 0;
	}
	where = copy;
	name = strsep(&where, ":");
	what = strsep(&where, "@");
	if (!what || !where)
		goto malformed;

	if (sscanf(where, "%x:%x:%x.%x%n", &domain, &bus, &slot, &func, &used) == 4) {
		if (where[used] || kstrtouint(what, 10, &bar))
			goto malformed;
		return zcbuf_carveout_add_bar(name, bar, domain, bus, PCI_DEVFN(slot, func),
					      wc);
	}
	size = memparse(what, &end);
	if (*end)
		goto malformed;
	base = memparse(where, &end);
	if (*end || end == where || !size || base + size < base || base + size > SIZE_MAX)
		goto malformed;
	return zcbuf_carveout_add_ram(name, base, size, wc);

malformed:
	pr_err("zcbuf: carveout '%s' is not NAME:SIZE@ADDRESS or NAME:BAR@DOMAIN:BUS:DEVICE.FUNCTION, with or without :wc behind\n",
	       spec);
	return -EINVAL;
}

/* The parameter itself stays whole, for sysfs to show. */
static int zcbuf_carveout_add_spec(const char *spec)
{
	char *copy = kstrdup(spec, GFP_KERNEL);
	int err;

	if (!copy)
		return -ENOMEM;
	err = zcbuf_carveout_parse(spec, copy);
	kfree(copy);
	return err;
}

static int __init zcbuf_carveout_probe(struct platform_device *pdev)
{
	struct device_node *region = of_parse_phandle(pdev->dev.of_node, "memory-region", 0);
	struct reserved_mem *mem = region ? of_reserved_mem_lookup(region) : NULL;

	of_node_put(region);
	if (!mem)
		return dev_err_probe(&pdev->dev, -EINVAL, "no memory-region\n");
	if (region_intersects(mem->base, mem->size, IORESOURCE_SYSTEM_RAM,
			      IORES_DESC_NONE) != REGION_DISJOINT)
		return dev_err_probe(&pdev->dev, -EINVAL,
				     "memory-region %s is Linux's, too: it needs no-map\n",
				     mem->name);
	return zcbuf_carveout_add(pdev->dev.of_node->name, mem->base, mem->size,
				  of_property_read_bool(pdev->dev.of_node, "write-combine"),
				  NULL, 0);
}

static const struct of_device_id zcbuf_carveout_match[] = {
	{ .compatible = "zcbuf,carveout" },
	{ }
};
MODULE_DEVICE_TABLE(of, zcbuf_carveout_match);

static struct platform_driver zcbuf_carveout_driver = {
	.driver = {
		.name		= "zcbuf-carveout",
		.of_match_table	= zcbuf_carveout_match,
	},
};

static bool zcbuf_carveout_bound;

int __init zcbuf_carveout_init(void)
{
	unsigned int i;
	int err;

	for (i = 0; i < nr_carveouts; i++) {
		err = zcbuf_carveout_add_spec(carveout[i]);
		if (err)
			return err;
	}
	/* The tree is fixed: probe what it has now, and nothing later. */
	err = platform_driver_probe(&zcbuf_carveout_driver, zcbuf_carveout_probe);
	zcbuf_carveout_bound = !err;
	return err == -ENODEV ? 0 : err;
}

void zcbuf_carveout_exit(void)
{
	struct zcbuf_carveout *c, *next;

	if (zcbuf_carveout_bound)
		platform_driver_unregister(&zcbuf_carveout_driver);
	list_for_each_entry_safe(c, next, &zcbuf_carveouts, link) {
		list_del(&c->link);
		zcbuf_carveout_destroy(c);
	}
}
