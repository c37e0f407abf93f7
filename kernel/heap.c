// SPDX-License-Identifier: GPL-2.0-only
/* Heaps: where memory comes from, and what an open node of one is. */
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "compat.h"
#include "internal.h"

/* Offsets for mmap() in pages. 32 bits are what a 32-bit program can ask for. */
#define MAX_FILE_PAGES	((u64)U32_MAX)

/**
 * struct zcbuf_file - one open heap node, and where mmap() on it finds which buffer
 * @ref: the open file has one reference, and each buffer that it allocated
 * @heap: the heap
 * @user: who opened it
 * @lock: innermost
 * @buffers: living buffers by offset. A buffer takes itself out when it dies
 * @next: where the search for a free offset begins
 */
struct zcbuf_file {
	struct kref ref;
	struct zcbuf_heap *heap;
	struct zcbuf_user *user;
	struct mutex lock; /* guards the rest */
	struct rb_root buffers;
	unsigned long next;
};

static struct zcbuf_heap *zcbuf_heaps[ZCBUF_MAX_HEAPS];
static unsigned int zcbuf_nr_heaps;

static void zcbuf_file_release(struct kref *ref)
{
	struct zcbuf_file *zfile = container_of(ref, struct zcbuf_file, ref);

	mutex_destroy(&zfile->lock);
	zcbuf_user_put(zfile->user);
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

struct zcbuf_user *zcbuf_file_user(struct zcbuf_file *zfile)
{
	return zfile->user;
}

static int zcbuf_heap_open(struct inode *inode, struct file *file)
{
	struct zcbuf_heap *heap = zcbuf_heap_at(iminor(inode) - ZCBUF_FIRST_HEAP_MINOR);
	struct zcbuf_file *zfile;

	if (!heap)
		return -ENXIO;
	zfile = kzalloc_obj(*zfile, GFP_KERNEL_ACCOUNT);
	if (!zfile)
		return -ENOMEM;
	zfile->user = zcbuf_user_get();
	if (!zfile->user) {
		kfree(zfile);
		return -ENOMEM;
	}
	kref_init(&zfile->ref);
	mutex_init(&zfile->lock);
	zfile->heap = heap;
	zfile->buffers = RB_ROOT;
	zfile->next = 1;
	file->private_data = zfile;
	return nonseekable_open(inode, file);
}

static int zcbuf_heap_release(struct inode *inode, struct file *file)
{
	struct zcbuf_file *zfile = file->private_data;

	if (zfile->heap->pooled)
		zcbuf_pool_abandon(zfile);
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

const struct file_operations zcbuf_heap_fops = {
	.owner		= THIS_MODULE,
	.open		= zcbuf_heap_open,
	.release	= zcbuf_heap_release,
	.mmap		= zcbuf_heap_mmap,
	.unlocked_ioctl	= zcbuf_heap_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

u64 zcbuf_heap_max_size(const struct zcbuf_heap *heap)
{
	return heap->max_size ?: (u64)totalram_pages() << PAGE_SHIFT;
}

struct zcbuf_heap *zcbuf_heap_at(unsigned int index)
{
	return index < zcbuf_nr_heaps ? zcbuf_heaps[index] : NULL;
}

/** zcbuf_heap_register() - add a heap. It is seen when the module has loaded, not before. */
int zcbuf_heap_register(struct zcbuf_heap *heap)
{
	unsigned int i;

	if (zcbuf_nr_heaps == ZCBUF_MAX_HEAPS)
		return -ENOSPC;
	for (i = 0; i < zcbuf_nr_heaps; i++)
		if (!strcmp(zcbuf_heaps[i]->name, heap->name))
			return -EBUSY;
	heap->limit = ZCBUF_NO_LIMIT;
	zcbuf_heaps[zcbuf_nr_heaps++] = heap;
	return 0;
}
