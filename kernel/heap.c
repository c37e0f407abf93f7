// SPDX-License-Identifier: GPL-2.0-only
/* Heaps: where memory comes from, and their device nodes. */
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "compat.h"
#include "internal.h"

#define MAX_HEAPS	16

/* Offsets for mmap() in pages. 32 bits are what a 32-bit program can ask for. */
#define MAX_FILE_PAGES	((u64)U32_MAX)

/**
 * struct zcbuf_file - one open heap node, and where mmap() on it finds which buffer
 * @ref: the open file has one reference, and each buffer that it allocated
 * @heap: the heap
 * @lock: innermost
 * @buffers: living buffers by offset. A buffer takes itself out when it dies
 * @next: where the search for a free offset begins
 */
struct zcbuf_file {
	struct kref ref;
	struct zcbuf_heap *heap;
	struct mutex lock; /* guards the rest */
	struct rb_root buffers;
	unsigned long next;
};

static dev_t zcbuf_devt;
static struct zcbuf_heap *zcbuf_heaps[MAX_HEAPS];
static unsigned int zcbuf_nr_heaps;

static void zcbuf_file_release(struct kref *ref)
{
	struct zcbuf_file *zfile = container_of(ref, struct zcbuf_file, ref);

	mutex_destroy(&zfile->lock);
	kfree(zfile);
}

static unsigned long zcbuf_file_end(const struct zcbuf_buffer *buf)
{
	return buf->file_page + (buf->size >> PAGE_SHIFT);
}

/* The first buffer that ends behind @page, or NULL. */
static struct zcbuf_buffer *zcbuf_file_find_locked(struct zcbuf_file *zfile,
						   unsigned long page)
{
	struct rb_node *node = zfile->buffers.rb_node;
	struct zcbuf_buffer *found = NULL;

	while (node) {
		struct zcbuf_buffer *buf = rb_entry(node, struct zcbuf_buffer, file_node);

		if (page < zcbuf_file_end(buf)) {
			found = buf;
			node = node->rb_left;
		} else {
			node = node->rb_right;
		}
	}
	return found;
}

/* The first free range of @pages from @page on, or 0. Page 0 is never given out. */
static unsigned long zcbuf_file_gap_locked(struct zcbuf_file *zfile, unsigned long page,
					   unsigned long pages)
{
	struct zcbuf_buffer *buf = zcbuf_file_find_locked(zfile, page);

	while (buf && buf->file_page - page < pages) {
		struct rb_node *node = rb_next(&buf->file_node);

		page = zcbuf_file_end(buf);
		buf = node ? rb_entry(node, struct zcbuf_buffer, file_node) : NULL;
	}
	return page + (u64)pages <= MAX_FILE_PAGES ? page : 0;
}

static bool zcbuf_file_less(struct rb_node *a, const struct rb_node *b)
{
	return rb_entry(a, struct zcbuf_buffer, file_node)->file_page <
	       rb_entry(b, struct zcbuf_buffer, file_node)->file_page;
}

/** zcbuf_file_add() - give a new buffer an offset for mmap() on the heap node */
int zcbuf_file_add(struct zcbuf_file *zfile, struct zcbuf_buffer *buf)
{
	unsigned long pages = buf->size >> PAGE_SHIFT;
	unsigned long page;

	mutex_lock(&zfile->lock);
	page = zcbuf_file_gap_locked(zfile, zfile->next, pages);
	if (!page)
		page = zcbuf_file_gap_locked(zfile, 1, pages);
	if (page) {
		buf->file_page = page;
		rb_add(&buf->file_node, &zfile->buffers, zcbuf_file_less);
		zfile->next = page + pages;
		buf->file = zfile;
		kref_get(&zfile->ref);
	}
	mutex_unlock(&zfile->lock);
	return page ? 0 : -ENOMEM;
}

void zcbuf_file_remove(struct zcbuf_buffer *buf)
{
	struct zcbuf_file *zfile = buf->file;

	mutex_lock(&zfile->lock);
	rb_erase(&buf->file_node, &zfile->buffers);
	mutex_unlock(&zfile->lock);
	kref_put(&zfile->ref, zcbuf_file_release);
}

struct zcbuf_heap *zcbuf_file_heap(struct zcbuf_file *zfile)
{
	return zfile->heap;
}

static int zcbuf_heap_open(struct inode *inode, struct file *file)
{
	struct zcbuf_file *zfile;

	zfile = kzalloc_obj(*zfile, GFP_KERNEL_ACCOUNT);
	if (!zfile)
		return -ENOMEM;
	kref_init(&zfile->ref);
	mutex_init(&zfile->lock);
	zfile->heap = container_of(inode->i_cdev, struct zcbuf_heap, cdev);
	zfile->buffers = RB_ROOT;
	zfile->next = 1;
	file->private_data = zfile;
	return nonseekable_open(inode, file);
}

static int zcbuf_heap_release(struct inode *inode, struct file *file)
{
	struct zcbuf_file *zfile = file->private_data;

	kref_put(&zfile->ref, zcbuf_file_release);
	return 0;
}

static int zcbuf_heap_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct zcbuf_file *zfile = file->private_data;
	struct zcbuf_buffer *buf;
	int err = -EINVAL;

	mutex_lock(&zfile->lock);
	buf = zcbuf_file_find_locked(zfile, vma->vm_pgoff);
	if (buf && (vma->vm_pgoff < buf->file_page ||
		    vma_pages(vma) > zcbuf_file_end(buf) - vma->vm_pgoff ||
		    !kref_get_unless_zero(&buf->ref)))
		buf = NULL;
	mutex_unlock(&zfile->lock);
	if (!buf)
		return err;

	vma->vm_pgoff -= buf->file_page;
	err = zcbuf_buffer_mmap(buf, vma);
	zcbuf_buffer_put(buf);
	return err;
}

static const struct file_operations zcbuf_heap_fops = {
	.owner		= THIS_MODULE,
	.open		= zcbuf_heap_open,
	.release	= zcbuf_heap_release,
	.mmap		= zcbuf_heap_mmap,
	.unlocked_ioctl	= zcbuf_heap_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

/* @mode is NULL when the node is removed. */
static char *zcbuf_heap_devnode(zcbuf_devnode_device *dev, umode_t *mode)
{
	if (mode)
		*mode = 0660;
	return kasprintf(GFP_KERNEL, "dma_heap/%s", dev_name(dev));
}

/* Mainline's "dma_heap" class is taken where the kernel has heaps of its own. */
static struct class zcbuf_heap_class = {
	.name		= "zcbuf_heap",
	.devnode	= zcbuf_heap_devnode,
};

u64 zcbuf_heap_max_size(const struct zcbuf_heap *heap)
{
	return heap->max_size ?: (u64)totalram_pages() << PAGE_SHIFT;
}

struct zcbuf_heap *zcbuf_heap_at(unsigned int index)
{
	return index < zcbuf_nr_heaps ? zcbuf_heaps[index] : NULL;
}

/** zcbuf_heap_register() - make a heap visible. Heaps come while the module loads only. */
int zcbuf_heap_register(struct zcbuf_heap *heap)
{
	dev_t devt = MKDEV(MAJOR(zcbuf_devt), zcbuf_nr_heaps);
	struct device *dev;
	int err;

	if (zcbuf_nr_heaps == MAX_HEAPS)
		return -ENOSPC;
	cdev_init(&heap->cdev, &zcbuf_heap_fops);
	heap->cdev.owner = THIS_MODULE;
	err = cdev_add(&heap->cdev, devt, 1);
	if (err)
		return err;
	dev = device_create(&zcbuf_heap_class, NULL, devt, NULL, "%s", heap->name);
	if (IS_ERR(dev)) {
		cdev_del(&heap->cdev);
		return PTR_ERR(dev);
	}
	zcbuf_heaps[zcbuf_nr_heaps++] = heap;
	return 0;
}

int zcbuf_heap_init(void)
{
	int err;

	err = alloc_chrdev_region(&zcbuf_devt, 0, MAX_HEAPS, "zcbuf_heap");
	if (err)
		return err;
	err = class_register(&zcbuf_heap_class);
	if (err)
		unregister_chrdev_region(zcbuf_devt, MAX_HEAPS);
	return err;
}

/** zcbuf_heap_exit() - unregister all heaps. No buffer and no open node is left. */
void zcbuf_heap_exit(void)
{
	while (zcbuf_nr_heaps) {
		struct zcbuf_heap *heap = zcbuf_heaps[--zcbuf_nr_heaps];

		device_destroy(&zcbuf_heap_class, heap->cdev.dev);
		cdev_del(&heap->cdev);
	}
	class_unregister(&zcbuf_heap_class);
	unregister_chrdev_region(zcbuf_devt, MAX_HEAPS);
}
