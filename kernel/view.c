// SPDX-License-Identifier: GPL-2.0-only
/* Views: the dma-bufs that show a buffer, or a part of it, to processes and devices. */
#include <linux/dma-buf.h>
#include <linux/dma-resv.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "compat.h"
#include "internal.h"
#include "trace.h"

static struct sg_table *zcbuf_view_map(struct dma_buf_attachment *attachment,
				       enum dma_data_direction dir)
{
	struct zcbuf_view *view = attachment->dmabuf->priv;
	struct sg_table *sgt = ERR_PTR(-EACCES);

	if (!view->device_read_only || dir == DMA_TO_DEVICE)
		sgt = zcbuf_attachment_map(attachment, dir);
	trace_zcbuf_map(attachment, dir, PTR_ERR_OR_ZERO(sgt));
	return sgt;
}

/*
 * The access of the CPU waits for that of devices first: bounce buffers are copied back
 * here, and what a device has not written yet must not be.
 */
int zcbuf_view_begin(struct dma_buf *dmabuf, size_t offset, size_t length,
		     enum dma_data_direction access)
{
	struct zcbuf_view *view = dmabuf->priv;
	bool write = access != DMA_FROM_DEVICE;
	long ret;

	ret = dma_resv_wait_timeout(&view->buf->resv, dma_resv_usage_rw(write), true,
				    MAX_SCHEDULE_TIMEOUT);
	if (ret < 0)
		goto out;
	zcbuf_attachments_sync_for_cpu(view->buf, view->offset + offset, length);
	ret = 0;
out:
	trace_zcbuf_sync_begin(dmabuf, offset, length, access, ret);
	return ret;
}

void zcbuf_view_end(struct dma_buf *dmabuf, size_t offset, size_t length,
		    enum dma_data_direction access)
{
	struct zcbuf_view *view = dmabuf->priv;

	trace_zcbuf_sync_end(dmabuf, offset, length, access, 0);
	if (access == DMA_FROM_DEVICE)
		return;
	if (view->buf->heap->cache_mode != ZCBUF_CACHED)
		wmb(); /* what the CPU has gathered for write-combined memory leaves it now */
	zcbuf_attachments_sync_for_device(view->buf, view->offset + offset, length);
}

static int zcbuf_view_begin_cpu_access(struct dma_buf *dmabuf, enum dma_data_direction dir)
{
	return zcbuf_view_begin(dmabuf, 0, dmabuf->size, dir);
}

static int zcbuf_view_end_cpu_access(struct dma_buf *dmabuf, enum dma_data_direction dir)
{
	zcbuf_view_end(dmabuf, 0, dmabuf->size, dir);
	return 0;
}

static int zcbuf_view_mmap(struct dma_buf *dmabuf, struct vm_area_struct *vma)
{
	struct zcbuf_view *view = dmabuf->priv;

	/* The core has checked the range against the size of the dma-buf. */
	vma->vm_pgoff += view->offset >> PAGE_SHIFT;
	return zcbuf_buffer_mmap(view->buf, vma);
}

static int zcbuf_view_vmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	struct zcbuf_view *view = dmabuf->priv;

	return zcbuf_buffer_vmap(view->buf, view->offset, dmabuf->size, map);
}

static void zcbuf_view_vunmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	struct zcbuf_view *view = dmabuf->priv;

	zcbuf_buffer_vunmap(view->buf, map);
}

static void zcbuf_view_release(struct dma_buf *dmabuf)
{
	struct zcbuf_view *view = dmabuf->priv;

	atomic_dec(&view->buf->views);
	zcbuf_buffer_put(view->buf);
	kfree(view);
}

static const struct dma_buf_ops zcbuf_view_ops = {
	.attach			= zcbuf_attachment_attach,
	.detach			= zcbuf_attachment_detach,
	.map_dma_buf		= zcbuf_view_map,
	.unmap_dma_buf		= zcbuf_attachment_unmap,
	.begin_cpu_access	= zcbuf_view_begin_cpu_access,
	.end_cpu_access		= zcbuf_view_end_cpu_access,
	.mmap			= zcbuf_view_mmap,
	.vmap			= zcbuf_view_vmap,
	.vunmap			= zcbuf_view_vunmap,
	.release		= zcbuf_view_release,
};

/*
 * Without vmap(), which the core answers for us. A kernel mapping has no direction: whoever
 * has one of a device-read-only view can write. And V4L2 takes every kernel mapping for
 * ordinary memory: for one that is not (&iosys_map.is_iomem) its vunmap() is a BUG().
 */
static const struct dma_buf_ops zcbuf_view_no_vmap_ops = {
	.attach			= zcbuf_attachment_attach,
	.detach			= zcbuf_attachment_detach,
	.map_dma_buf		= zcbuf_view_map,
	.unmap_dma_buf		= zcbuf_attachment_unmap,
	.begin_cpu_access	= zcbuf_view_begin_cpu_access,
	.end_cpu_access		= zcbuf_view_end_cpu_access,
	.mmap			= zcbuf_view_mmap,
	.release		= zcbuf_view_release,
};

/** zcbuf_view_of() - the view that @dmabuf is, or NULL if it is not of zcbuf */
struct zcbuf_view *zcbuf_view_of(struct dma_buf *dmabuf)
{
	if (dmabuf->ops == &zcbuf_view_ops || dmabuf->ops == &zcbuf_view_no_vmap_ops)
		return dmabuf->priv;
	return NULL;
}

/** zcbuf_view_flags() - the ZCBUF_VIEW_* bits that limit @dmabuf */
u64 zcbuf_view_flags(struct dma_buf *dmabuf)
{
	struct zcbuf_view *view = dmabuf->priv;
	u64 flags = 0;

	if (!(dmabuf->file->f_mode & FMODE_WRITE))
		flags |= ZCBUF_VIEW_READ_ONLY;
	if (view->device_read_only)
		flags |= ZCBUF_VIEW_DEVICE_READ_ONLY;
	return flags;
}

/**
 * zcbuf_view_export() - make a dma-buf
 * @buf: the buffer; the dma-buf takes a reference of its own
 * @offset: first byte, page-aligned
 * @length: bytes, page-aligned
 * @access: O_RDONLY, O_WRONLY or O_RDWR, for mappings
 * @device_read_only: no device may write through it
 * @name: may be empty
 */
struct dma_buf *zcbuf_view_export(struct zcbuf_buffer *buf, size_t offset, size_t length,
				  int access, bool device_read_only, const char *name)
{
	DEFINE_DMA_BUF_EXPORT_INFO(exp_info);
	struct zcbuf_view *view;
	struct dma_buf *dmabuf;

	view = kzalloc_obj(*view, GFP_KERNEL_ACCOUNT);
	if (!view)
		return ERR_PTR(-ENOMEM);
	view->buf = buf;
	view->offset = offset;
	view->device_read_only = device_read_only;

	exp_info.exp_name = buf->heap->name;
	if (device_read_only || !(buf->heap->capabilities & ZCBUF_HEAP_CAP_VMAP))
		exp_info.ops = &zcbuf_view_no_vmap_ops;
	else
		exp_info.ops = &zcbuf_view_ops;
	exp_info.size = length;
	exp_info.flags = access;
	exp_info.resv = &buf->resv;
	exp_info.priv = view;
	dmabuf = dma_buf_export(&exp_info);
	if (IS_ERR(dmabuf)) {
		kfree(view);
		return dmabuf;
	}
	/* From here on the dma-buf owns the view. */
	zcbuf_buffer_get(buf);
	atomic_inc(&buf->views);

	if (*name) {
		char *copy = kstrdup(name, GFP_KERNEL_ACCOUNT);

		if (!copy) {
			dma_buf_put(dmabuf);
			return ERR_PTR(-ENOMEM);
		}
		/* No fd exists yet, but debugfs lists the dma-buf already. */
		spin_lock(&dmabuf->name_lock);
		dmabuf->name = copy;
		spin_unlock(&dmabuf->name_lock);
	}
	trace_zcbuf_export(dmabuf);
	return dmabuf;
}
