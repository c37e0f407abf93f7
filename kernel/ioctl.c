// SPDX-License-Identifier: GPL-2.0-only
/* The ioctls: those of uapi/zcbuf.h, and mainline's DMA_HEAP_IOCTL_ALLOC. */
#include <linux/ctype.h>
#include <linux/dma-buf.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/uaccess.h>
#include <uapi/linux/dma-heap.h>

#include "internal.h"
#include "trace.h"

#define VALID_ALLOC_FLAGS	(ZCBUF_ALLOC_DMA32 | ZCBUF_ALLOC_RECYCLE)
#define VALID_VIEW_FLAGS	(ZCBUF_VIEW_READ_ONLY | ZCBUF_VIEW_DEVICE_READ_ONLY)
#define VALID_SYNC_FLAGS	(ZCBUF_SYNC_READ | ZCBUF_SYNC_WRITE | ZCBUF_SYNC_END)

/* Which ioctl it is does not depend on the size of the structure: structures grow. */
#define IOC_KEY(cmd)		((cmd) & ~IOCSIZE_MASK)

/* All structures still have the size of their first version; nobody has a smaller one. */
static int zcbuf_copy_in(void *karg, size_t ksize, unsigned int cmd, void __user *arg)
{
	if (_IOC_SIZE(cmd) < ksize)
		return -EINVAL;
	return copy_struct_from_user(karg, ksize, arg, _IOC_SIZE(cmd));
}

static int zcbuf_copy_out(void __user *arg, const void *karg, size_t size)
{
	return copy_to_user(arg, karg, size) ? -EFAULT : 0;
}

/*
 * Give @dmabuf to the caller as a file descriptor. Its number goes into *@fd, which is
 * part of @karg, and is told to user space before the descriptor exists: nothing after
 * fd_install() can fail, and no other thread can close it before. Takes over @dmabuf.
 */
static int zcbuf_publish(struct dma_buf *dmabuf, u32 fd_flags, s32 *fd, void __user *arg,
			 const void *karg, size_t size)
{
	int err;

	*fd = get_unused_fd_flags(fd_flags & O_CLOEXEC);
	if (*fd < 0) {
		err = *fd;
		goto put;
	}
	err = zcbuf_copy_out(arg, karg, size);
	if (err)
		goto unuse;
	fd_install(*fd, dmabuf->file);
	return 0;

unuse:
	put_unused_fd(*fd);
put:
	dma_buf_put(dmabuf);
	return err;
}

static bool zcbuf_name_valid(const char *name)
{
	const char *end = memchr(name, 0, ZCBUF_NAME_LEN);

	if (!end)
		return false;
	/* Names are printed by /proc, line by line. */
	while (name < end)
		if (iscntrl(*name++))
			return false;
	return true;
}

/* The dma-buf has the size that was asked for, in whole pages, if @exact. */
static struct dma_buf *zcbuf_alloc(struct zcbuf_file *zfile, struct zcbuf_ioc_alloc *alloc,
				   bool exact)
{
	struct zcbuf_buffer *buf;
	struct dma_buf *dmabuf;
	int err;

	buf = zcbuf_buffer_alloc(zfile, alloc->size, alloc->alignment, alloc->flags);
	trace_zcbuf_alloc(zcbuf_file_heap(zfile), alloc->size, alloc->flags, buf);
	if (IS_ERR(buf))
		return ERR_CAST(buf);
	alloc->size = exact ? PAGE_ALIGN(alloc->size) : buf->size;
	err = zcbuf_file_add(zfile, buf);
	if (err)
		dmabuf = ERR_PTR(err);
	else
		dmabuf = zcbuf_view_export(buf, 0, alloc->size, alloc->fd_flags & O_ACCMODE,
					   false, alloc->name);
	alloc->mmap_offset = (u64)buf->file_page << PAGE_SHIFT;
	/* The dma-buf has its own reference; without one this is the end of the buffer. */
	zcbuf_buffer_put(buf);
	return dmabuf;
}

static long zcbuf_ioctl_alloc(struct zcbuf_file *zfile, unsigned int cmd, void __user *arg)
{
	struct zcbuf_ioc_alloc alloc;
	struct dma_buf *dmabuf;
	int err;

	err = zcbuf_copy_in(&alloc, sizeof(alloc), cmd, arg);
	if (err)
		return err;
	if (alloc.flags & ~VALID_ALLOC_FLAGS ||
	    alloc.fd_flags & ~(O_CLOEXEC | O_ACCMODE) ||
	    (alloc.fd_flags & O_ACCMODE) == O_ACCMODE || !zcbuf_name_valid(alloc.name))
		return -EINVAL;
	dmabuf = zcbuf_alloc(zfile, &alloc, false);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	return zcbuf_publish(dmabuf, alloc.fd_flags, &alloc.fd, arg, &alloc, sizeof(alloc));
}

/*
 * As mainline does it: the caller's structure may be shorter or longer than ours, and
 * what is behind ours is not looked at.
 */
static long zcbuf_ioctl_dma_heap_alloc(struct zcbuf_file *zfile, unsigned int cmd,
				       void __user *arg)
{
	size_t in = cmd & IOC_IN ? _IOC_SIZE(cmd) : 0;
	size_t out = cmd & IOC_OUT ? _IOC_SIZE(cmd) : 0;
	struct dma_heap_allocation_data data = { };
	struct zcbuf_ioc_alloc alloc = { };
	struct dma_buf *dmabuf;

	if (copy_from_user(&data, arg, min(in, sizeof(data))))
		return -EFAULT;
	if (data.fd || data.fd_flags & ~DMA_HEAP_VALID_FD_FLAGS ||
	    data.heap_flags & ~DMA_HEAP_VALID_HEAP_FLAGS)
		return -EINVAL;
	alloc.size = data.len;
	alloc.fd_flags = data.fd_flags;
	dmabuf = zcbuf_alloc(zfile, &alloc, true);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	return zcbuf_publish(dmabuf, data.fd_flags, (s32 *)&data.fd, arg, &data,
			     min(out, sizeof(data)));
}

long zcbuf_heap_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct zcbuf_file *zfile = file->private_data;
	void __user *uarg = (void __user *)arg;

	if (IOC_KEY(cmd) == IOC_KEY(ZCBUF_IOC_ALLOC))
		return zcbuf_ioctl_alloc(zfile, cmd, uarg);
	if (_IOC_TYPE(cmd) != DMA_HEAP_IOC_MAGIC)
		return -ENOTTY;
	if (_IOC_NR(cmd) != _IOC_NR(DMA_HEAP_IOCTL_ALLOC))
		return -EINVAL;
	return zcbuf_ioctl_dma_heap_alloc(zfile, cmd, uarg);
}

static long zcbuf_ioctl_heaps(unsigned int cmd, void __user *arg)
{
	struct zcbuf_ioc_heap info;
	struct zcbuf_heap *heap;
	int err;

	err = zcbuf_copy_in(&info, sizeof(info), cmd, arg);
	if (err)
		return err;
	if (info.reserved)
		return -EINVAL;
	heap = zcbuf_heap_at(info.index);
	if (!heap)
		return -ENOENT;
	info.kind = heap->kind;
	info.cache_mode = heap->cache_mode;
	info.capabilities = heap->capabilities;
	info.max_size = zcbuf_heap_max_size(heap);
	info.max_alignment = heap->max_alignment;
	info.used_bytes = atomic64_read(&heap->used_bytes);
	info.used_buffers = atomic64_read(&heap->used_buffers);
	strscpy_pad(info.name, heap->name, sizeof(info.name));
	return zcbuf_copy_out(arg, &info, sizeof(info));
}

/* The dma-buf behind @fd, with a reference, if it is of zcbuf. */
static struct dma_buf *zcbuf_dma_buf_get(int fd)
{
	struct dma_buf *dmabuf = dma_buf_get(fd);

	if (!IS_ERR(dmabuf) && !zcbuf_view_of(dmabuf)) {
		dma_buf_put(dmabuf);
		return ERR_PTR(-EINVAL);
	}
	return dmabuf;
}

static void zcbuf_dma_buf_name(struct dma_buf *dmabuf, char *name)
{
	*name = 0;
	spin_lock(&dmabuf->name_lock);
	if (dmabuf->name)
		strscpy(name, dmabuf->name, ZCBUF_NAME_LEN);
	spin_unlock(&dmabuf->name_lock);
}

/* A view inherits every limit of its parent, of which @args may only add more. */
static struct dma_buf *zcbuf_narrow(struct dma_buf *parent,
				    const struct zcbuf_ioc_view *args)
{
	struct zcbuf_view *view = zcbuf_view_of(parent);
	u64 flags = args->flags | zcbuf_view_flags(parent);
	char name[ZCBUF_NAME_LEN];
	u64 length = args->length;

	if (!(parent->file->f_mode & FMODE_READ))
		return ERR_PTR(-EACCES);
	if (!PAGE_ALIGNED(args->offset) || !PAGE_ALIGNED(length) ||
	    args->offset >= parent->size || length > parent->size - args->offset)
		return ERR_PTR(-EINVAL);
	if (!length)
		length = parent->size - args->offset;
	zcbuf_dma_buf_name(parent, name);
	return zcbuf_view_export(view->buf, view->offset + args->offset, length,
				 flags ? O_RDONLY : O_RDWR,
				 flags & ZCBUF_VIEW_DEVICE_READ_ONLY, name);
}

static long zcbuf_ioctl_view(unsigned int cmd, void __user *arg)
{
	struct zcbuf_ioc_view args;
	struct dma_buf *parent, *dmabuf;
	int err;

	err = zcbuf_copy_in(&args, sizeof(args), cmd, arg);
	if (err)
		return err;
	if (args.flags & ~VALID_VIEW_FLAGS || args.fd_flags & ~O_CLOEXEC || args.reserved)
		return -EINVAL;
	parent = zcbuf_dma_buf_get(args.fd);
	if (IS_ERR(parent))
		return PTR_ERR(parent);
	dmabuf = zcbuf_narrow(parent, &args);
	dma_buf_put(parent);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	return zcbuf_publish(dmabuf, args.fd_flags, &args.view_fd, arg, &args,
			     sizeof(args));
}

static long zcbuf_ioctl_sync(unsigned int cmd, void __user *arg)
{
	enum dma_data_direction access;
	struct zcbuf_ioc_sync sync;
	struct dma_buf *dmabuf;
	int err;

	err = zcbuf_copy_in(&sync, sizeof(sync), cmd, arg);
	if (err)
		return err;
	if (sync.flags & ~VALID_SYNC_FLAGS || sync.reserved || !sync.length)
		return -EINVAL;
	switch (sync.flags & (ZCBUF_SYNC_READ | ZCBUF_SYNC_WRITE)) {
	case ZCBUF_SYNC_READ:
		access = DMA_FROM_DEVICE;
		break;
	case ZCBUF_SYNC_WRITE:
		access = DMA_TO_DEVICE;
		break;
	case ZCBUF_SYNC_READ | ZCBUF_SYNC_WRITE:
		access = DMA_BIDIRECTIONAL;
		break;
	default:
		return -EINVAL;
	}
	dmabuf = zcbuf_dma_buf_get(sync.fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	if (sync.offset >= dmabuf->size || sync.length > dmabuf->size - sync.offset)
		err = -EINVAL;
	else if (sync.flags & ZCBUF_SYNC_END)
		zcbuf_view_end(dmabuf, sync.offset, sync.length, access);
	else
		err = zcbuf_view_begin(dmabuf, sync.offset, sync.length, access);
	dma_buf_put(dmabuf);
	return err;
}

static long zcbuf_ioctl_info(unsigned int cmd, void __user *arg)
{
	struct zcbuf_ioc_info info;
	struct dma_buf *dmabuf;
	struct zcbuf_view *view;
	s32 fd;
	int err;

	err = zcbuf_copy_in(&info, sizeof(info), cmd, arg);
	if (err)
		return err;
	if (info.reserved)
		return -EINVAL;
	fd = info.fd;
	dmabuf = zcbuf_dma_buf_get(fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	view = zcbuf_view_of(dmabuf);

	memset(&info, 0, sizeof(info));
	info.fd = fd;
	info.size = dmabuf->size;
	info.offset = view->offset;
	info.inode = file_inode(dmabuf->file)->i_ino;
	info.view_flags = zcbuf_view_flags(dmabuf);
	zcbuf_buffer_info(view->buf, &info);
	zcbuf_dma_buf_name(dmabuf, info.name);
	dma_buf_put(dmabuf);
	return zcbuf_copy_out(arg, &info, sizeof(info));
}

static long zcbuf_control_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *uarg = (void __user *)arg;

	switch (IOC_KEY(cmd)) {
	case IOC_KEY(ZCBUF_IOC_HEAPS):
		return zcbuf_ioctl_heaps(cmd, uarg);
	case IOC_KEY(ZCBUF_IOC_VIEW):
		return zcbuf_ioctl_view(cmd, uarg);
	case IOC_KEY(ZCBUF_IOC_SYNC):
		return zcbuf_ioctl_sync(cmd, uarg);
	case IOC_KEY(ZCBUF_IOC_INFO):
		return zcbuf_ioctl_info(cmd, uarg);
	default:
		return -ENOTTY;
	}
}

const struct file_operations zcbuf_control_fops = {
	.owner		= THIS_MODULE,
	.open		= nonseekable_open,
	.unlocked_ioctl	= zcbuf_control_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};
