// SPDX-License-Identifier: GPL-2.0-only
/* zcbuf_importer: a device that imports dma-bufs, for tests. See importer.h. */
#include <linux/delay.h>
#include <linux/dma-buf.h>
#include <linux/dma-direct.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/iosys-map.h>
#include <linux/miscdevice.h>
#include <linux/platform_device.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "importer.h"

/* An open file, which is a device. */
struct importer {
	struct mutex lock; /* guards all of it */
	struct device *dev; /* on the platform bus, bound to no driver */
	struct dma_buf *dmabuf; /* what it is attached to, or NULL */
	struct dma_buf_attachment *attachment;
	struct sg_table *sgt; /* its mapping, or NULL */
	enum dma_data_direction dir;
	unsigned int delay; /* in milliseconds */
	u8 page[PAGE_SIZE]; /* on the way to user space, which may fault */
};

static void importer_pause(const struct importer *imp)
{
	if (imp->delay)
		msleep(imp->delay);
}

/* What moves is not a dma-buf of zcbuf. */
static void importer_move_notify(struct dma_buf_attachment *attachment)
{
}

static const struct dma_buf_attach_ops importer_attach_ops = {
	.allow_peer2peer	= true,
	.zcbuf_move_notify	= importer_move_notify,
};

static long importer_attach(struct importer *imp, void __user *arg)
{
	struct zcbuf_importer_attach attach;
	const struct dma_buf_attach_ops *ops;
	struct dma_buf *dmabuf;
	int err;

	if (copy_from_user(&attach, arg, sizeof(attach)))
		return -EFAULT;
	if (attach.flags & ~ZCBUF_IMPORTER_PEER_TO_PEER || !attach.dma_bits ||
	    attach.dma_bits > 64)
		return -EINVAL;
	if (imp->dmabuf)
		return -EBUSY;
	err = dma_set_mask_and_coherent(imp->dev, DMA_BIT_MASK(attach.dma_bits));
	if (err)
		return err;
	dma_set_max_seg_size(imp->dev, attach.max_segment ?: UINT_MAX);

	dmabuf = dma_buf_get(attach.fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	ops = attach.flags & ZCBUF_IMPORTER_PEER_TO_PEER ? &importer_attach_ops : NULL;
	imp->attachment = dma_buf_dynamic_attach(dmabuf, imp->dev, ops, imp);
	if (IS_ERR(imp->attachment)) {
		dma_buf_put(dmabuf);
		return PTR_ERR(imp->attachment);
	}
	imp->dmabuf = dmabuf;
	return 0;
}

static long importer_detach(struct importer *imp)
{
	if (imp->sgt)
		return -EBUSY;
	dma_buf_detach(imp->dmabuf, imp->attachment);
	dma_buf_put(imp->dmabuf);
	imp->dmabuf = NULL;
	return 0;
}

/* Before 6.2 a static attachment is mapped without the lock. */
static bool importer_maps_locked(const struct importer *imp)
{
	return ZCBUF_MAPS_LOCKED || imp->attachment->importer_ops;
}

static struct sg_table *importer_get_sgt(struct importer *imp, enum dma_data_direction dir)
{
	struct dma_resv *resv = imp->dmabuf->resv;
	struct sg_table *sgt;
	long ret = 0;

	if (importer_maps_locked(imp))
		dma_resv_lock(resv, NULL);
	/* The core waits for static attachments only. */
	if (imp->attachment->importer_ops)
		ret = dma_resv_wait_timeout(resv, DMA_RESV_USAGE_KERNEL, true,
					    MAX_SCHEDULE_TIMEOUT);
	sgt = ret < 0 ? ERR_PTR(ret) : dma_buf_map_attachment(imp->attachment, dir);
	importer_pause(imp);
	if (importer_maps_locked(imp))
		dma_resv_unlock(resv);
	return sgt;
}

static void importer_put_sgt(struct importer *imp, struct sg_table *sgt,
			     enum dma_data_direction dir)
{
	struct dma_resv *resv = imp->dmabuf->resv;

	if (importer_maps_locked(imp))
		dma_resv_lock(resv, NULL);
	importer_pause(imp);
	dma_buf_unmap_attachment(imp->attachment, sgt, dir);
	if (importer_maps_locked(imp))
		dma_resv_unlock(resv);
}

static phys_addr_t importer_phys(struct importer *imp, dma_addr_t addr)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(imp->dev);

	return domain ? iommu_iova_to_phys(domain, addr) : dma_to_phys(imp->dev, addr);
}

static void importer_report(struct importer *imp, struct zcbuf_importer_map *map)
{
	u64 mask = dma_get_mask(imp->dev), addresses = 0, next = 0, page_pos = 0;
	struct scatterlist *sg, *page_sg = imp->sgt->sgl;
	int i;

	map->orig_nents = imp->sgt->orig_nents;
	map->nents = imp->sgt->nents;
	map->contiguous = 1;
	for_each_sgtable_dma_sg(imp->sgt, sg, i) {
		u64 addr = sg_dma_address(sg), len = sg_dma_len(sg);

		if (i && addr != next)
			map->contiguous = 0;
		next = addr + len;
		addresses |= addr;
		if (addr > mask || len - 1 > mask - addr)
			map->unreachable++;

		/* The entry with the page: an IOMMU makes one segment of many entries. */
		while (page_sg && map->length - page_pos >= page_sg->length) {
			page_pos += page_sg->length;
			page_sg = sg_next(page_sg);
		}
		/* A core that is built for debugging hides the pages. */
		if (!IS_ENABLED(CONFIG_DMABUF_DEBUG) && page_sg && sg_page(page_sg)) {
			map->known++;
			if (importer_phys(imp, addr) !=
			    sg_phys(page_sg) + (map->length - page_pos))
				map->bounced++;
		}
		map->length += len;
		map->max_segment = max(map->max_segment, len);
	}
	map->alignment = addresses & -addresses;
	map->address = sg_dma_address(imp->sgt->sgl);
}

static long importer_unmap(struct importer *imp)
{
	if (!imp->sgt)
		return -EINVAL;
	importer_put_sgt(imp, imp->sgt, imp->dir);
	imp->sgt = NULL;
	return 0;
}

static long importer_map(struct importer *imp, void __user *arg)
{
	struct zcbuf_importer_map map;
	struct sg_table *sgt;
	bool again;

	if (copy_from_user(&map, arg, sizeof(map)))
		return -EFAULT;
	if (map.flags & ~ZCBUF_IMPORTER_MAP_AGAIN || map.direction > DMA_FROM_DEVICE)
		return -EINVAL;
	again = map.flags & ZCBUF_IMPORTER_MAP_AGAIN;
	if (again != !!imp->sgt)
		return again ? -EINVAL : -EBUSY;
	sgt = importer_get_sgt(imp, map.direction);
	if (IS_ERR(sgt))
		return PTR_ERR(sgt);
	if (again) {
		importer_put_sgt(imp, sgt, map.direction);
		return 0;
	}
	imp->sgt = sgt;
	imp->dir = map.direction;
	map = (struct zcbuf_importer_map){ .direction = map.direction };
	importer_report(imp, &map);
	if (!copy_to_user(arg, &map, sizeof(map)))
		return 0;
	importer_unmap(imp);
	return -EFAULT;
}

static long importer_get_copy(struct zcbuf_importer_copy *copy, void __user *arg, u64 size)
{
	if (copy_from_user(copy, arg, sizeof(*copy)))
		return -EFAULT;
	if (!copy->length || copy->offset >= size || copy->length > size - copy->offset)
		return -EINVAL;
	return 0;
}

/* Copy between user space and @map; @copy.offset is not looked at. */
static long importer_copy(struct importer *imp, struct iosys_map *map, size_t offset,
			  const struct zcbuf_importer_copy *copy, bool write)
{
	char __user *user = u64_to_user_ptr(copy->user);
	size_t left, n;

	for (left = copy->length; left; left -= n, offset += n, user += n) {
		n = min(left, PAGE_SIZE);
		if (write) {
			if (copy_from_user(imp->page, user, n))
				return -EFAULT;
			iosys_map_memcpy_to(map, offset, imp->page, n);
		} else {
			iosys_map_memcpy_from(imp->page, map, offset, n);
			if (copy_to_user(user, imp->page, n))
				return -EFAULT;
		}
		cond_resched();
	}
	return 0;
}

/* The device copies within one page of its address space. */
static long importer_copy_page(struct importer *imp, dma_addr_t addr,
			       const struct zcbuf_importer_copy *copy, bool write)
{
	phys_addr_t phys = importer_phys(imp, addr);
	struct iosys_map map;
	void *vaddr;
	long err;

	if (page_is_ram(PHYS_PFN(phys))) {
		vaddr = kmap_local_page(pfn_to_page(PHYS_PFN(phys)));
		iosys_map_set_vaddr(&map, vaddr);
		err = importer_copy(imp, &map, offset_in_page(phys), copy, write);
		kunmap_local(vaddr);
		return err;
	}
	iosys_map_set_vaddr_iomem(&map, ioremap_wc(phys & PAGE_MASK, PAGE_SIZE));
	if (iosys_map_is_null(&map))
		return -ENOMEM;
	err = importer_copy(imp, &map, offset_in_page(phys), copy, write);
	iounmap(map.vaddr_iomem);
	return err;
}

static long importer_device_copy(struct importer *imp, void __user *arg, bool write)
{
	struct zcbuf_importer_copy copy, part;
	struct scatterlist *sg;
	u64 size = 0, pos = 0;
	long err;
	int i;

	if (!imp->sgt)
		return -EINVAL;
	if (imp->dir == (write ? DMA_TO_DEVICE : DMA_FROM_DEVICE))
		return -EACCES;
	for_each_sgtable_dma_sg(imp->sgt, sg, i)
		size += sg_dma_len(sg);
	err = importer_get_copy(&copy, arg, size);
	if (err)
		return err;

	importer_pause(imp);
	for_each_sgtable_dma_sg(imp->sgt, sg, i) {
		while (copy.length && copy.offset - pos < sg_dma_len(sg)) {
			dma_addr_t addr = sg_dma_address(sg) + (copy.offset - pos);

			part = copy;
			part.length = min3(copy.length, pos + sg_dma_len(sg) - copy.offset,
					   (u64)PAGE_SIZE - offset_in_page(addr));
			err = importer_copy_page(imp, addr, &part, write);
			if (err)
				return err;
			copy.offset += part.length;
			copy.length -= part.length;
			copy.user += part.length;
		}
		pos += sg_dma_len(sg);
	}
	return 0;
}

static long importer_vmap_copy(struct importer *imp, void __user *arg, bool write)
{
	struct zcbuf_importer_copy copy;
	struct iosys_map map;
	long err;

	err = importer_get_copy(&copy, arg, imp->dmabuf->size);
	if (err)
		return err;
	err = dma_buf_vmap_unlocked(imp->dmabuf, &map);
	if (err)
		return err;
	importer_pause(imp);
	err = importer_copy(imp, &map, copy.offset, &copy, write);
	dma_buf_vunmap_unlocked(imp->dmabuf, &map);
	return err;
}

static long importer_ioctl_locked(struct importer *imp, unsigned int cmd, unsigned long arg)
{
	void __user *uarg = (void __user *)arg;

	switch (cmd) {
	case ZCBUF_IMPORTER_ATTACH:
		return importer_attach(imp, uarg);
	case ZCBUF_IMPORTER_SLOW:
		if (arg > ZCBUF_IMPORTER_MAX_DELAY)
			return -EINVAL;
		imp->delay = arg;
		return 0;
	}
	if (!imp->dmabuf)
		return -EINVAL;
	switch (cmd) {
	case ZCBUF_IMPORTER_DETACH:
		return importer_detach(imp);
	case ZCBUF_IMPORTER_MAP:
		return importer_map(imp, uarg);
	case ZCBUF_IMPORTER_UNMAP:
		return importer_unmap(imp);
	case ZCBUF_IMPORTER_DEVICE_READ:
	case ZCBUF_IMPORTER_DEVICE_WRITE:
		return importer_device_copy(imp, uarg, cmd == ZCBUF_IMPORTER_DEVICE_WRITE);
	case ZCBUF_IMPORTER_VMAP_READ:
	case ZCBUF_IMPORTER_VMAP_WRITE:
		return importer_vmap_copy(imp, uarg, cmd == ZCBUF_IMPORTER_VMAP_WRITE);
	case ZCBUF_IMPORTER_CPU_BEGIN:
	case ZCBUF_IMPORTER_CPU_END:
		if (arg > DMA_FROM_DEVICE)
			return -EINVAL;
		return cmd == ZCBUF_IMPORTER_CPU_BEGIN ?
			dma_buf_begin_cpu_access(imp->dmabuf, arg) :
			dma_buf_end_cpu_access(imp->dmabuf, arg);
	}
	return -ENOTTY;
}

static long importer_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct importer *imp = file->private_data;
	long ret;

	mutex_lock(&imp->lock);
	ret = importer_ioctl_locked(imp, cmd, arg);
	mutex_unlock(&imp->lock);
	return ret;
}

static int importer_open(struct inode *inode, struct file *file)
{
	struct platform_device *pdev;
	struct importer *imp;

	imp = kzalloc_obj(*imp, GFP_KERNEL);
	if (!imp)
		return -ENOMEM;
	pdev = platform_device_register_simple("zcbuf-importer", PLATFORM_DEVID_AUTO,
					       NULL, 0);
	if (IS_ERR(pdev)) {
		kfree(imp);
		return PTR_ERR(pdev);
	}
	mutex_init(&imp->lock);
	imp->dev = &pdev->dev;
	file->private_data = imp;
	return nonseekable_open(inode, file);
}

static int importer_release(struct inode *inode, struct file *file)
{
	struct importer *imp = file->private_data;

	if (imp->sgt)
		importer_unmap(imp);
	if (imp->dmabuf)
		importer_detach(imp);
	platform_device_unregister(to_platform_device(imp->dev));
	mutex_destroy(&imp->lock);
	kfree(imp);
	return 0;
}

static const struct file_operations importer_fops = {
	.owner		= THIS_MODULE,
	.open		= importer_open,
	.release	= importer_release,
	.unlocked_ioctl	= importer_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

/* For root only, on machines for tests. */
static struct miscdevice importer_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "zcbuf-importer",
	.mode	= 0600,
	.fops	= &importer_fops,
};

module_misc_device(importer_misc);

MODULE_DESCRIPTION("A device that imports dma-bufs, for the tests of zcbuf");
MODULE_LICENSE("GPL");
ZCBUF_IMPORT_NS_DMA_BUF;
