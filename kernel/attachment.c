// SPDX-License-Identifier: GPL-2.0-only
/* Attachments: one importing device and what it has mapped. */
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/minmax.h>
#include <linux/scatterlist.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "compat.h"
#include "internal.h"
#include "trace.h"

/**
 * struct zcbuf_attachment - one device on one view
 * @link: in &zcbuf_buffer.attachments
 * @dev: the device
 * @offset: where the view begins in the buffer, in bytes
 * @length: bytes of the view
 * @sgt: its pages and, while mapped, its bus addresses
 * @dir: direction of the mapping, DMA_NONE while there is none
 */
struct zcbuf_attachment {
	struct list_head link;
	struct device *dev;
	size_t offset;
	size_t length;
	struct sg_table sgt;
	enum dma_data_direction dir;
};

int zcbuf_attachment_attach(struct dma_buf *dmabuf, struct dma_buf_attachment *attachment)
{
	struct zcbuf_view *view = dmabuf->priv;
	struct zcbuf_buffer *buf = view->buf;
	struct zcbuf_attachment *a;
	size_t max_segment;
	int err;

	a = kzalloc_obj(*a, GFP_KERNEL);
	if (!a)
		return -ENOMEM;
	a->dev = attachment->dev;
	a->offset = view->offset;
	a->length = dmabuf->size;
	a->dir = DMA_NONE;

	/* What the device takes as one segment, and what fits into one bounce buffer. */
	max_segment = min_t(size_t, dma_get_max_seg_size(a->dev),
			    dma_max_mapping_size(a->dev));
	max_segment = max_t(size_t, ALIGN_DOWN(max_segment, PAGE_SIZE), PAGE_SIZE);
	err = zcbuf_buffer_sgt(buf, a->offset, a->length, max_segment, &a->sgt);
	if (err) {
		kfree(a);
		return err;
	}
	attachment->priv = a;

	mutex_lock(&buf->lock);
	list_add_tail(&a->link, &buf->attachments);
	mutex_unlock(&buf->lock);
	trace_zcbuf_attach(dmabuf, a->dev);
	return 0;
}

void zcbuf_attachment_detach(struct dma_buf *dmabuf, struct dma_buf_attachment *attachment)
{
	struct zcbuf_view *view = dmabuf->priv;
	struct zcbuf_attachment *a = attachment->priv;

	trace_zcbuf_detach(dmabuf, a->dev);
	mutex_lock(&view->buf->lock);
	list_del(&a->link);
	mutex_unlock(&view->buf->lock);
	sg_free_table(&a->sgt);
	kfree(a);
}

/* Memory without pages is mapped as a resource: the CPU's caches have no part in it. */
static void zcbuf_attachment_unmap_phys(struct zcbuf_attachment *a, enum dma_data_direction dir)
{
	struct scatterlist *sg;
	int i;

	for_each_sgtable_sg(&a->sgt, sg, i) {
		if (!sg_dma_len(sg))
			break;
		dma_unmap_resource(a->dev, sg_dma_address(sg), sg_dma_len(sg), dir, 0);
		sg_dma_len(sg) = 0;
	}
}

static int zcbuf_attachment_map_phys(struct zcbuf_attachment *a, phys_addr_t phys,
				     enum dma_data_direction dir)
{
	struct scatterlist *sg;
	int i;

	/* dma_map_resource() warns about what the device does not reach. */
	if (!device_iommu_mapped(a->dev) &&
	    phys + a->length - 1 > min_not_zero(dma_get_mask(a->dev), a->dev->bus_dma_limit))
		return -EIO;
	for_each_sgtable_sg(&a->sgt, sg, i) {
		dma_addr_t addr = dma_map_resource(a->dev, phys, sg->length, dir, 0);

		if (dma_mapping_error(a->dev, addr)) {
			zcbuf_attachment_unmap_phys(a, dir);
			return -EIO;
		}
		sg_dma_address(sg) = addr;
		sg_dma_len(sg) = sg->length;
		phys += sg->length;
	}
	a->sgt.nents = a->sgt.orig_nents;
	return 0;
}

/* An attachment has one mapping at a time: its table holds one set of bus addresses. */
struct sg_table *zcbuf_attachment_map(struct dma_buf_attachment *attachment,
				      enum dma_data_direction dir)
{
	struct zcbuf_view *view = attachment->dmabuf->priv;
	const struct zcbuf_heap_ops *ops = view->buf->heap->ops;
	struct zcbuf_attachment *a = attachment->priv;
	int err = -EBUSY;

	/*
	 * An importer that looks for pages would find none, and a device that takes less than
	 * a page at a time would be given more. Not refused when they attach: V4L2, since
	 * Linux 6.12, then never puts its reference to the buffer.
	 */
	if ((!ops->page && !attachment->peer2peer) || dma_get_max_seg_size(a->dev) < PAGE_SIZE)
		return ERR_PTR(-EOPNOTSUPP);

	mutex_lock(&view->buf->lock);
	if (a->dir != DMA_NONE)
		goto unlock;
	if (ops->page)
		err = dma_map_sgtable(a->dev, &a->sgt, dir, 0);
	else
		err = zcbuf_attachment_map_phys(a, ops->phys(view->buf) + a->offset, dir);
	if (!err)
		a->dir = dir;
unlock:
	mutex_unlock(&view->buf->lock);
	return err ? ERR_PTR(err) : &a->sgt;
}

void zcbuf_attachment_unmap(struct dma_buf_attachment *attachment, struct sg_table *sgt,
			    enum dma_data_direction dir)
{
	struct zcbuf_view *view = attachment->dmabuf->priv;
	struct zcbuf_attachment *a = attachment->priv;

	trace_zcbuf_unmap(attachment, dir, 0);
	mutex_lock(&view->buf->lock);
	a->dir = DMA_NONE;
	if (view->buf->heap->ops->page)
		dma_unmap_sgtable(a->dev, sgt, dir, 0);
	else
		zcbuf_attachment_unmap_phys(a, dir);
	mutex_unlock(&view->buf->lock);
}

typedef void (*zcbuf_sync_fn)(struct device *dev, dma_addr_t addr, size_t size,
			      enum dma_data_direction dir);

/*
 * Sync @length bytes from @offset of the attachment on. An IOMMU makes one bus segment of
 * many pages, but the DMA API takes one sync for one run of pages: cut at both borders.
 */
static void zcbuf_attachment_sync(struct zcbuf_attachment *a, size_t offset, size_t length,
				  zcbuf_sync_fn sync)
{
	struct scatterlist *bus = a->sgt.sgl, *pages = a->sgt.sgl;
	size_t bus_start = 0, pages_start = 0, pos = 0, end = offset + length;

	while (pos < end) {
		size_t bus_end = bus_start + sg_dma_len(bus);
		size_t pages_end = pages_start + pages->length;
		size_t next = min3(bus_end, pages_end, end);

		pos = max(pos, offset);
		if (pos < next)
			sync(a->dev, sg_dma_address(bus) + (pos - bus_start), next - pos,
			     a->dir);
		pos = next;
		if (pos == bus_end) {
			bus_start = bus_end;
			bus = sg_next(bus);
		}
		if (pos == pages_end) {
			pages_start = pages_end;
			pages = sg_next(pages);
		}
	}
}

static void zcbuf_attachments_sync(struct zcbuf_buffer *buf, size_t offset, size_t length,
				   zcbuf_sync_fn sync, bool for_cpu)
{
	struct zcbuf_attachment *a;

	if (!buf->heap->ops->page)
		return;
	mutex_lock(&buf->lock);
	list_for_each_entry(a, &buf->attachments, link) {
		size_t from = max(offset, a->offset);
		size_t to = min(offset + length, a->offset + a->length);

		/* What a device only reads holds no news for the CPU. */
		if (a->dir == DMA_NONE || (for_cpu && a->dir == DMA_TO_DEVICE))
			continue;
		if (from < to)
			zcbuf_attachment_sync(a, from - a->offset, to - from, sync);
	}
	mutex_unlock(&buf->lock);
}

static void sync_for_cpu(struct device *dev, dma_addr_t addr, size_t size,
			 enum dma_data_direction dir)
{
	dma_sync_single_for_cpu(dev, addr, size, dir);
}

static void sync_for_device(struct device *dev, dma_addr_t addr, size_t size,
			    enum dma_data_direction dir)
{
	dma_sync_single_for_device(dev, addr, size, dir);
}

/** zcbuf_attachments_sync_for_cpu() - let the CPU see what devices wrote to a range */
void zcbuf_attachments_sync_for_cpu(struct zcbuf_buffer *buf, size_t offset, size_t length)
{
	zcbuf_attachments_sync(buf, offset, length, sync_for_cpu, true);
}

/** zcbuf_attachments_sync_for_device() - let devices see what the CPU wrote to a range */
void zcbuf_attachments_sync_for_device(struct zcbuf_buffer *buf, size_t offset,
				       size_t length)
{
	zcbuf_attachments_sync(buf, offset, length, sync_for_device, false);
}

unsigned int zcbuf_attachments_count(struct zcbuf_buffer *buf)
{
	struct zcbuf_attachment *a;
	unsigned int count = 0;

	mutex_lock(&buf->lock);
	list_for_each_entry(a, &buf->attachments, link)
		count++;
	mutex_unlock(&buf->lock);
	return count;
}

/** zcbuf_attachments_show() - the devices, each with the direction of its mapping, or - */
void zcbuf_attachments_show(struct zcbuf_buffer *buf, struct seq_file *m)
{
	static const char * const mapped[] = {
		[DMA_BIDIRECTIONAL]	= "both",
		[DMA_TO_DEVICE]		= "to-device",
		[DMA_FROM_DEVICE]	= "from-device",
		[DMA_NONE]		= "attached",
	};
	struct zcbuf_attachment *a;
	const char *comma = "";

	mutex_lock(&buf->lock);
	if (list_empty(&buf->attachments))
		seq_putc(m, '-');
	list_for_each_entry(a, &buf->attachments, link) {
		seq_printf(m, "%s%s:%s", comma, dev_name(a->dev), mapped[a->dir]);
		comma = ",";
	}
	mutex_unlock(&buf->lock);
}
