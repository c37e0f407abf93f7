/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The tracepoints of the system "zcbuf", see docs/tracing.md. They name a buffer by its id
 * and a dma-buf by its inode, as ZCBUF_IOC_INFO does, and say no address but those that
 * user space has chosen.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM zcbuf

#if !defined(ZCBUF_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define ZCBUF_TRACE_H

#include <linux/device.h>
#include <linux/dma-buf.h>
#include <linux/dma-direction.h>
#include <linux/err.h>
#include <linux/mm.h>
#include <linux/string.h>
#include <linux/tracepoint.h>

#include "internal.h"

#define zcbuf_trace_direction(dir) \
	__print_symbolic(dir, { DMA_BIDIRECTIONAL, "both" }, { DMA_TO_DEVICE, "to-device" }, \
			 { DMA_FROM_DEVICE, "from-device" })

/* A buffer was asked for: @id and @size are what came of it, or @error. */
TRACE_EVENT(zcbuf_alloc,
	TP_PROTO(const struct zcbuf_heap *heap, u64 asked, u64 flags, struct zcbuf_buffer *buf),
	TP_ARGS(heap, asked, flags, buf),
	TP_STRUCT__entry(__array(char, heap, ZCBUF_NAME_LEN)
			 __field(u64, asked)
			 __field(u64, flags)
			 __field(u64, id)
			 __field(u64, size)
			 __field(int, error)),
	TP_fast_assign(strscpy(__entry->heap, heap->name, ZCBUF_NAME_LEN);
		       __entry->asked = asked;
		       __entry->flags = flags;
		       __entry->id = IS_ERR(buf) ? 0 : buf->id;
		       __entry->size = IS_ERR(buf) ? 0 : buf->size;
		       __entry->error = PTR_ERR_OR_ZERO(buf);),
	TP_printk("heap=%s asked=%llu flags=%#llx id=%llu size=%llu error=%d", __entry->heap,
		  __entry->asked, __entry->flags, __entry->id, __entry->size, __entry->error)
);

/* The last reference to a buffer is gone. */
TRACE_EVENT(zcbuf_free,
	TP_PROTO(const struct zcbuf_buffer *buf),
	TP_ARGS(buf),
	TP_STRUCT__entry(__array(char, heap, ZCBUF_NAME_LEN)
			 __field(u64, id)
			 __field(u64, size)),
	TP_fast_assign(strscpy(__entry->heap, buf->heap->name, ZCBUF_NAME_LEN);
		       __entry->id = buf->id;
		       __entry->size = buf->size;),
	TP_printk("heap=%s id=%llu size=%llu", __entry->heap, __entry->id, __entry->size)
);

/* A dma-buf was made: the whole of a new buffer, or a view. */
TRACE_EVENT(zcbuf_export,
	TP_PROTO(struct dma_buf *dmabuf),
	TP_ARGS(dmabuf),
	TP_STRUCT__entry(__field(u64, id)
			 __field(u64, inode)
			 __field(u64, offset)
			 __field(u64, size)
			 __field(u64, flags)),
	TP_fast_assign(const struct zcbuf_view *view = dmabuf->priv;

		       __entry->id = view->buf->id;
		       __entry->inode = file_inode(dmabuf->file)->i_ino;
		       __entry->offset = view->offset;
		       __entry->size = dmabuf->size;
		       __entry->flags = zcbuf_view_flags(dmabuf);),
	TP_printk("id=%llu inode=%llu offset=%llu size=%llu flags=%#llx", __entry->id,
		  __entry->inode, __entry->offset, __entry->size, __entry->flags)
);

DECLARE_EVENT_CLASS(zcbuf_attachment,
	TP_PROTO(struct dma_buf *dmabuf, struct device *dev),
	TP_ARGS(dmabuf, dev),
	TP_STRUCT__entry(__field(u64, id)
			 __field(u64, inode)
			 __array(char, device, ZCBUF_NAME_LEN)),
	TP_fast_assign(const struct zcbuf_view *view = dmabuf->priv;

		       __entry->id = view->buf->id;
		       __entry->inode = file_inode(dmabuf->file)->i_ino;
		       strscpy(__entry->device, dev_name(dev), ZCBUF_NAME_LEN);),
	TP_printk("id=%llu inode=%llu device=%s", __entry->id, __entry->inode,
		  __entry->device)
);

/* A device imports a dma-buf. */
DEFINE_EVENT(zcbuf_attachment, zcbuf_attach,
	TP_PROTO(struct dma_buf *dmabuf, struct device *dev),
	TP_ARGS(dmabuf, dev)
);

/* It lets go of it. */
DEFINE_EVENT(zcbuf_attachment, zcbuf_detach,
	TP_PROTO(struct dma_buf *dmabuf, struct device *dev),
	TP_ARGS(dmabuf, dev)
);

DECLARE_EVENT_CLASS(zcbuf_device_mapping,
	TP_PROTO(const struct dma_buf_attachment *attachment, enum dma_data_direction dir,
		 int error),
	TP_ARGS(attachment, dir, error),
	TP_STRUCT__entry(__field(u64, id)
			 __field(u64, inode)
			 __array(char, device, ZCBUF_NAME_LEN)
			 __field(int, dir)
			 __field(int, error)),
	TP_fast_assign(const struct zcbuf_view *view = attachment->dmabuf->priv;

		       __entry->id = view->buf->id;
		       __entry->inode = file_inode(attachment->dmabuf->file)->i_ino;
		       strscpy(__entry->device, dev_name(attachment->dev), ZCBUF_NAME_LEN);
		       __entry->dir = dir;
		       __entry->error = error;),
	TP_printk("id=%llu inode=%llu device=%s dir=%s error=%d", __entry->id, __entry->inode,
		  __entry->device, zcbuf_trace_direction(__entry->dir), __entry->error)
);

/* A device gets bus addresses, or @error. */
DEFINE_EVENT(zcbuf_device_mapping, zcbuf_map,
	TP_PROTO(const struct dma_buf_attachment *attachment, enum dma_data_direction dir,
		 int error),
	TP_ARGS(attachment, dir, error)
);

/* They end. */
DEFINE_EVENT(zcbuf_device_mapping, zcbuf_unmap,
	TP_PROTO(const struct dma_buf_attachment *attachment, enum dma_data_direction dir,
		 int error),
	TP_ARGS(attachment, dir, error)
);

DECLARE_EVENT_CLASS(zcbuf_user_mapping,
	TP_PROTO(const struct zcbuf_buffer *buf, const struct vm_area_struct *vma, int error),
	TP_ARGS(buf, vma, error),
	TP_STRUCT__entry(__field(u64, id)
			 __field(u64, address)
			 __field(u64, offset)
			 __field(u64, size)
			 __field(int, error)),
	TP_fast_assign(__entry->id = buf->id;
		       __entry->address = vma->vm_start;
		       __entry->offset = (u64)vma->vm_pgoff << PAGE_SHIFT;
		       __entry->size = vma->vm_end - vma->vm_start;
		       __entry->error = error;),
	TP_printk("id=%llu address=%#llx offset=%llu size=%llu error=%d", __entry->id,
		  __entry->address, __entry->offset, __entry->size, __entry->error)
);

/* A process maps a buffer, or fails to. */
DEFINE_EVENT(zcbuf_user_mapping, zcbuf_mmap,
	TP_PROTO(const struct zcbuf_buffer *buf, const struct vm_area_struct *vma, int error),
	TP_ARGS(buf, vma, error)
);

/* A mapping, or what was left of it, ends. */
DEFINE_EVENT(zcbuf_user_mapping, zcbuf_munmap,
	TP_PROTO(const struct zcbuf_buffer *buf, const struct vm_area_struct *vma, int error),
	TP_ARGS(buf, vma, error)
);

/* A page of a mapping was touched that was not in the page table. */
TRACE_EVENT(zcbuf_fault,
	TP_PROTO(const struct zcbuf_buffer *buf, const struct vm_fault *vmf, u64 size,
		 vm_fault_t result),
	TP_ARGS(buf, vmf, size, result),
	TP_STRUCT__entry(__field(u64, id)
			 __field(u64, address)
			 __field(u64, offset)
			 __field(u64, size)
			 __field(unsigned int, result)),
	TP_fast_assign(__entry->id = buf->id;
		       __entry->address = vmf->address;
		       __entry->offset = (u64)vmf->pgoff << PAGE_SHIFT;
		       __entry->size = size;
		       __entry->result = (__force unsigned int)result;),
	TP_printk("id=%llu address=%#llx offset=%llu size=%llu result=%#x", __entry->id,
		  __entry->address, __entry->offset, __entry->size, __entry->result)
);

DECLARE_EVENT_CLASS(zcbuf_sync,
	TP_PROTO(struct dma_buf *dmabuf, u64 offset, u64 size, enum dma_data_direction access,
		 int error),
	TP_ARGS(dmabuf, offset, size, access, error),
	TP_STRUCT__entry(__field(u64, id)
			 __field(u64, inode)
			 __field(u64, offset)
			 __field(u64, size)
			 __field(int, access)
			 __field(int, error)),
	TP_fast_assign(const struct zcbuf_view *view = dmabuf->priv;

		       __entry->id = view->buf->id;
		       __entry->inode = file_inode(dmabuf->file)->i_ino;
		       __entry->offset = offset;
		       __entry->size = size;
		       __entry->access = access;
		       __entry->error = error;),
	TP_printk("id=%llu inode=%llu offset=%llu size=%llu access=%s error=%d", __entry->id,
		  __entry->inode, __entry->offset, __entry->size,
		  __print_symbolic(__entry->access, { DMA_BIDIRECTIONAL, "rw" },
				   { DMA_TO_DEVICE, "w" }, { DMA_FROM_DEVICE, "r" }),
		  __entry->error)
);

/* The CPU's access to a range begins: fences were waited for, what devices wrote is there. */
DEFINE_EVENT(zcbuf_sync, zcbuf_sync_begin,
	TP_PROTO(struct dma_buf *dmabuf, u64 offset, u64 size, enum dma_data_direction access,
		 int error),
	TP_ARGS(dmabuf, offset, size, access, error)
);

/* It ends: devices see what the CPU wrote. */
DEFINE_EVENT(zcbuf_sync, zcbuf_sync_end,
	TP_PROTO(struct dma_buf *dmabuf, u64 offset, u64 size, enum dma_data_direction access,
		 int error),
	TP_ARGS(dmabuf, offset, size, access, error)
);

DECLARE_EVENT_CLASS(zcbuf_pool,
	TP_PROTO(u64 chunk_size, unsigned long asked, unsigned long done),
	TP_ARGS(chunk_size, asked, done),
	TP_STRUCT__entry(__field(u64, chunk_size)
			 __field(unsigned long, asked)
			 __field(unsigned long, done)),
	TP_fast_assign(__entry->chunk_size = chunk_size;
		       __entry->asked = asked;
		       __entry->done = done;),
	TP_printk("chunk_size=%llu asked=%lu done=%lu", __entry->chunk_size, __entry->asked,
		  __entry->done)
);

/* Of @asked chunks a pool had @done: with 0 the page allocator is asked. */
DEFINE_EVENT(zcbuf_pool, zcbuf_pool_take,
	TP_PROTO(u64 chunk_size, unsigned long asked, unsigned long done),
	TP_ARGS(chunk_size, asked, done)
);

/* Of @asked chunks that came back a pool keeps @done. */
DEFINE_EVENT(zcbuf_pool, zcbuf_pool_give,
	TP_PROTO(u64 chunk_size, unsigned long asked, unsigned long done),
	TP_ARGS(chunk_size, asked, done)
);

/* @done chunks were zeroed, in the background or, if a buffer waits for it, by who asked. */
DEFINE_EVENT(zcbuf_pool, zcbuf_pool_clear,
	TP_PROTO(u64 chunk_size, unsigned long asked, unsigned long done),
	TP_ARGS(chunk_size, asked, done)
);

/* Memory is wanted back, or too much is kept: @asked pages, of which @done went; in pages. */
DEFINE_EVENT(zcbuf_pool, zcbuf_pool_shrink,
	TP_PROTO(u64 chunk_size, unsigned long asked, unsigned long done),
	TP_ARGS(chunk_size, asked, done)
);

#endif /* ZCBUF_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
