// SPDX-License-Identifier: GPL-2.0-only
/* Buffers: memory with an owner, and the ways by which the CPU maps it. */
#include <linux/fs.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/scatterlist.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "internal.h"
#include "trace.h"

/* Pages that go into one vm_insert_pages() call: an array of one page. */
#define INSERT_BATCH	(PAGE_SIZE / sizeof(struct page *))

static atomic64_t zcbuf_buffer_ids;

static struct page *zcbuf_nth_page(struct page *page, unsigned long n)
{
	return pfn_to_page(page_to_pfn(page) + n);
}

struct zcbuf_buffer *zcbuf_buffer_alloc(struct zcbuf_file *zfile, u64 size, u64 alignment,
					u64 flags)
{
	struct zcbuf_heap *heap = zcbuf_file_heap(zfile);
	struct zcbuf_buffer *buf;
	int err;

	if (!alignment)
		alignment = PAGE_SIZE;
	if (!is_power_of_2(alignment) || alignment > heap->max_alignment)
		return ERR_PTR(-EINVAL);
	alignment = max_t(u64, alignment, PAGE_SIZE);
	if (!size || size > U64_MAX - (alignment - 1))
		return ERR_PTR(-EINVAL);
	if (flags & ZCBUF_ALLOC_DMA32 && !(heap->capabilities & ZCBUF_HEAP_CAP_DMA32))
		return ERR_PTR(-EINVAL);
	size = ALIGN(size, alignment);
	if (size > zcbuf_heap_max_size(heap))
		return ERR_PTR(-ENOMEM);

	buf = kzalloc_obj(*buf, GFP_KERNEL_ACCOUNT);
	if (!buf)
		return ERR_PTR(-ENOMEM);
	kref_init(&buf->ref);
	mutex_init(&buf->lock);
	INIT_LIST_HEAD(&buf->attachments);
	buf->heap = heap;
	buf->user = zcbuf_user_hold(zcbuf_file_user(zfile));
	buf->size = size;
	buf->alignment = alignment;
	buf->flags = flags;
	buf->recycler = flags & ZCBUF_ALLOC_RECYCLE ? zfile : NULL;
	buf->id = atomic64_inc_return(&zcbuf_buffer_ids);

	err = zcbuf_charge(heap, buf->user, size);
	if (err)
		goto free;
	err = heap->ops->alloc(buf);
	if (err)
		goto uncharge;
	/* The heap may have made it larger. */
	if (buf->size > size)
		err = zcbuf_charge(heap, buf->user, buf->size - size);
	if (err)
		goto free_memory;
	dma_resv_init(&buf->resv);
	atomic64_inc(&heap->used_buffers);
	zcbuf_debugfs_add(buf);
	return buf;

free_memory:
	heap->ops->free(buf);
uncharge:
	zcbuf_uncharge(heap, buf->user, size);
free:
	zcbuf_user_put(buf->user);
	mutex_destroy(&buf->lock);
	kfree(buf);
	return ERR_PTR(err);
}

static void zcbuf_buffer_release(struct kref *ref)
{
	struct zcbuf_buffer *buf = container_of(ref, struct zcbuf_buffer, ref);

	trace_zcbuf_free(buf);
	zcbuf_debugfs_remove(buf);
	if (buf->file)
		zcbuf_file_remove(buf);
	buf->heap->ops->free(buf);
	zcbuf_uncharge(buf->heap, buf->user, buf->size);
	atomic64_dec(&buf->heap->used_buffers);
	zcbuf_user_put(buf->user);
	dma_resv_fini(&buf->resv);
	mutex_destroy(&buf->lock);
	kfree(buf);
}

void zcbuf_buffer_get(struct zcbuf_buffer *buf)
{
	kref_get(&buf->ref);
}

void zcbuf_buffer_put(struct zcbuf_buffer *buf)
{
	kref_put(&buf->ref, zcbuf_buffer_release);
}

static void zcbuf_vma_open(struct vm_area_struct *vma)
{
	struct zcbuf_buffer *buf = vma->vm_private_data;

	zcbuf_buffer_get(buf);
	atomic_inc(&buf->mappings);
}

static void zcbuf_vma_close(struct vm_area_struct *vma)
{
	struct zcbuf_buffer *buf = vma->vm_private_data;

	trace_zcbuf_munmap(buf, vma, 0);
	atomic_dec(&buf->mappings);
	zcbuf_buffer_put(buf);
}

/*
 * May 2 MiB entries map parts of @vma? Where no function puts one in, the core does so by
 * itself when a fault brings it a page of a large chunk, but only if the file is that long.
 */
static bool zcbuf_vma_takes_huge(struct vm_area_struct *vma)
{
	if (zcbuf_thp_disabled(vma))
		return false;
#ifdef ZCBUF_HAVE_INSERT_FOLIO_PMD
	return true;
#else
	return i_size_read(file_inode(vma->vm_file)) >= PMD_SIZE;
#endif
}

/* The first page of the chunk that one entry maps from @addr of @vma on, or NULL. */
static struct page *zcbuf_vma_huge_page(struct vm_area_struct *vma, unsigned long addr)
{
	struct zcbuf_buffer *buf = vma->vm_private_data;
	struct page *page;
	unsigned long run;

	if (addr & ~PMD_MASK || addr < vma->vm_start || vma->vm_end - addr < PMD_SIZE)
		return NULL;
	page = buf->heap->ops->page(buf, linear_page_index(vma, addr), &run);
	return PageHead(page) && compound_order(page) == PMD_SHIFT - PAGE_SHIFT ? page : NULL;
}

/* @pages is an array of INSERT_BATCH. */
static int zcbuf_vma_insert_pages(struct vm_area_struct *vma, unsigned long addr,
				  unsigned long end, struct page **pages)
{
	struct zcbuf_buffer *buf = vma->vm_private_data;
	unsigned long index = linear_page_index(vma, addr);
	int err = 0;

	while (addr < end && !err) {
		unsigned long most = min((end - addr) >> PAGE_SHIFT, INSERT_BATCH);
		unsigned long n = 0, left, run, i;

		while (n < most) {
			struct page *page = buf->heap->ops->page(buf, index + n, &run);

			run = min(run, most - n);
			for (i = 0; i < run; i++)
				pages[n++] = zcbuf_nth_page(page, i);
		}
		left = n;
		err = vm_insert_pages(vma, addr, pages, &left);
		index += n;
		addr += n << PAGE_SHIFT;
	}
	return err;
}

/*
 * Fill the page table, except where 2 MiB entries can map the buffer: those come by faults.
 * An area that may have some is an ordinary one: with VM_MIXEDMAP the kernel forgets to
 * count an entry down when it splits it. The price is that a child of fork() finds none of
 * the small entries and gets them by faults.
 */
static int zcbuf_vma_populate(struct vm_area_struct *vma)
{
	bool takes_huge = zcbuf_vma_takes_huge(vma), huge = false;
	unsigned long addr = vma->vm_start, next;
	struct page **pages = NULL;
	int err = 0;

	vm_flags_mod(vma, VM_MIXEDMAP, 0);
	for (; addr < vma->vm_end && !err; addr = next) {
		next = pmd_addr_end(addr, vma->vm_end);
		if (takes_huge && zcbuf_vma_huge_page(vma, addr)) {
			huge = true;
			continue;
		}
		if (!pages)
			pages = (struct page **)__get_free_page(GFP_KERNEL);
		err = pages ? zcbuf_vma_insert_pages(vma, addr, next, pages) : -ENOMEM;
		if (fatal_signal_pending(current))
			err = -EINTR;
		cond_resched();
	}
	free_page((unsigned long)pages);
	if (huge)
		vm_flags_mod(vma, 0, VM_MIXEDMAP);
	return err;
}

#ifdef ZCBUF_HAVE_INSERT_FOLIO_PMD
static vm_fault_t zcbuf_vma_huge_fault(struct vm_fault *vmf, unsigned int order)
{
	struct page *page = NULL;
	vm_fault_t result;

	if (order == PMD_SHIFT - PAGE_SHIFT && !(vmf->vma->vm_flags & VM_MIXEDMAP))
		page = zcbuf_vma_huge_page(vmf->vma, vmf->address & PMD_MASK);
	if (!page)
		return VM_FAULT_FALLBACK;
	result = vmf_insert_folio_pmd(vmf, page_folio(page), vmf->flags & FAULT_FLAG_WRITE);
	trace_zcbuf_fault(vmf->vma->vm_private_data, vmf, PMD_SIZE, result);
	return result;
}
#endif

/*
 * What is missing may be a 2 MiB entry, a page of one that was split, or a page that
 * MADV_DONTNEED threw away. The core gets the page in an ordinary area only, because it may
 * map all of the chunk; see zcbuf_vma_populate().
 */
static vm_fault_t zcbuf_vma_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct zcbuf_buffer *buf = vma->vm_private_data;
	vm_fault_t result = 0;
	struct page *page;
	unsigned long run;

	if (vmf->pgoff >= buf->size >> PAGE_SHIFT)
		return VM_FAULT_SIGBUS;
	page = buf->heap->ops->page(buf, vmf->pgoff, &run);
	if (vma->vm_flags & VM_MIXEDMAP) {
		result = vmf_insert_page(vma, vmf->address & PAGE_MASK, page);
	} else {
		get_page(page);
		vmf->page = page;
	}
	trace_zcbuf_fault(buf, vmf, PAGE_SIZE, result);
	return result;
}

static const struct vm_operations_struct zcbuf_page_vm_ops = {
	.open	= zcbuf_vma_open,
	.close	= zcbuf_vma_close,
	.fault	= zcbuf_vma_fault,
#ifdef ZCBUF_HAVE_INSERT_FOLIO_PMD
	.huge_fault = zcbuf_vma_huge_fault,
#endif
};

/* ptrace() and /proc/PID/mem reach what they cannot pin through the kernel's mapping. */
static int zcbuf_vma_access(struct vm_area_struct *vma, unsigned long addr, void *data,
			    int len, int write)
{
	struct zcbuf_buffer *buf = vma->vm_private_data;
	size_t offset = (addr - vma->vm_start) + (vma->vm_pgoff << PAGE_SHIFT);
	struct iosys_map map;

	/* Whoever forces his way past the rights of this mapping is not let in. */
	if (!(vma->vm_flags & (write ? VM_WRITE : VM_READ)))
		return -EACCES;
	len = min_t(unsigned long, len, vma->vm_end - addr);
	buf->heap->ops->kernel_map(buf, &map);
	if (write)
		iosys_map_memcpy_to(&map, offset, data, len);
	else
		iosys_map_memcpy_from(data, &map, offset, len);
	return len;
}

static const struct vm_operations_struct zcbuf_pfn_vm_ops = {
	.open	= zcbuf_vma_open,
	.close	= zcbuf_vma_close,
	.access	= zcbuf_vma_access,
};

static pgprot_t zcbuf_buffer_prot(struct zcbuf_buffer *buf, pgprot_t prot)
{
	switch (buf->heap->cache_mode) {
	case ZCBUF_WRITE_COMBINED:
		return pgprot_writecombine(prot);
	case ZCBUF_UNCACHED:
		return pgprot_noncached(prot);
	default:
		return prot;
	}
}

/**
 * zcbuf_buffer_mmap() - map a buffer into user space
 * @buf: the buffer, on which the new VMA takes a reference
 * @vma: &vm_area_struct.vm_pgoff counts pages of @buf; the caller has checked that the
 *	whole range lies within what it may map
 */
int zcbuf_buffer_mmap(struct zcbuf_buffer *buf, struct vm_area_struct *vma)
{
	int err;

	/*
	 * A private mapping would turn into anonymous copies. A shared one of a read-only
	 * file has lost VM_SHARED, but not VM_MAYSHARE.
	 */
	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EPERM;
	vm_flags_mod(vma, VM_DONTEXPAND | VM_DONTDUMP, VM_MAYEXEC);
	vma->vm_page_prot = zcbuf_buffer_prot(buf, vma->vm_page_prot);

	vma->vm_private_data = buf;
	if (buf->heap->ops->mmap)
		err = buf->heap->ops->mmap(buf, vma);
	else
		err = zcbuf_vma_populate(vma);
	trace_zcbuf_mmap(buf, vma, err);
	if (err)
		return err;
	vma->vm_ops = buf->heap->ops->mmap ? &zcbuf_pfn_vm_ops : &zcbuf_page_vm_ops;
	zcbuf_vma_open(vma);
	return 0;
}

/*
 * The contiguous piece at page @index: its first page, NULL if the heap has none, and its
 * length in pages, up to page @end and to @most.
 */
static struct page *zcbuf_buffer_piece(struct zcbuf_buffer *buf, unsigned long index,
				       unsigned long end, unsigned long most,
				       unsigned long *npages)
{
	struct page *page = NULL;

	*npages = end - index;
	if (buf->heap->ops->page)
		page = buf->heap->ops->page(buf, index, npages);
	*npages = min3(*npages, end - index, most);
	return page;
}

/*
 * List the pages of a range for a device, in entries of at most @max_segment bytes, which
 * is at least a page. @sgt is to be freed with sg_free_table().
 */
int zcbuf_buffer_sgt(struct zcbuf_buffer *buf, size_t offset, size_t length,
		     size_t max_segment, struct sg_table *sgt)
{
	unsigned long first = offset >> PAGE_SHIFT;
	unsigned long end = first + (length >> PAGE_SHIFT);
	unsigned long most = max_segment >> PAGE_SHIFT;
	unsigned long index, npages;
	unsigned int entries = 0;
	struct scatterlist *sg;
	struct page *page;
	int err;

	for (index = first; index < end; index += npages, entries++)
		zcbuf_buffer_piece(buf, index, end, most, &npages);
	err = sg_alloc_table(sgt, entries, GFP_KERNEL);
	if (err)
		return err;
	for (index = first, sg = sgt->sgl; index < end; index += npages, sg = sg_next(sg)) {
		page = zcbuf_buffer_piece(buf, index, end, most, &npages);
		sg_set_page(sg, page, npages << PAGE_SHIFT, 0);
	}
	return 0;
}

/** zcbuf_buffer_vmap() - map a range into the kernel */
int zcbuf_buffer_vmap(struct zcbuf_buffer *buf, size_t offset, size_t length,
		      struct iosys_map *map)
{
	unsigned long first = offset >> PAGE_SHIFT;
	unsigned long count = length >> PAGE_SHIFT;
	unsigned long index, run, i;
	struct page **pages, *page;
	void *vaddr;

	if (buf->heap->ops->kernel_map) {
		buf->heap->ops->kernel_map(buf, map);
		iosys_map_incr(map, offset);
		return 0;
	}
	page = buf->heap->ops->page(buf, first, &run);
	if (run >= count && !PageHighMem(page)) {
		iosys_map_set_vaddr(map, page_address(page));
		return 0;
	}

	pages = kvmalloc_array(count, sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return -ENOMEM;
	for (index = 0; index < count; index += run) {
		page = zcbuf_buffer_piece(buf, first + index, first + count, count, &run);
		for (i = 0; i < run; i++)
			pages[index + i] = zcbuf_nth_page(page, i);
	}
	vaddr = vmap(pages, count, VM_MAP, zcbuf_buffer_prot(buf, PAGE_KERNEL));
	kvfree(pages);
	if (!vaddr)
		return -ENOMEM;
	iosys_map_set_vaddr(map, vaddr);
	return 0;
}

void zcbuf_buffer_vunmap(struct zcbuf_buffer *buf, struct iosys_map *map)
{
	if (!buf->heap->ops->kernel_map && is_vmalloc_addr(map->vaddr))
		vunmap(map->vaddr);
}

/** zcbuf_buffer_info() - fill in what concerns the buffer, not one view of it */
void zcbuf_buffer_info(struct zcbuf_buffer *buf, struct zcbuf_ioc_info *info)
{
	unsigned long pages = buf->size >> PAGE_SHIFT;
	unsigned long index, run;

	info->buffer_size = buf->size;
	info->buffer_id = buf->id;
	info->alloc_flags = buf->flags;
	info->alignment = buf->alignment;
	info->views = atomic_read(&buf->views);
	info->attachments = zcbuf_attachments_count(buf);
	info->user_mappings = atomic_read(&buf->mappings);
	info->min_chunk = U64_MAX;
	for (index = 0; index < pages; index += run) {
		zcbuf_buffer_piece(buf, index, pages, pages, &run);
		info->chunks++;
		info->max_chunk = max_t(u64, info->max_chunk, (u64)run << PAGE_SHIFT);
		info->min_chunk = min_t(u64, info->min_chunk, (u64)run << PAGE_SHIFT);
	}
	strscpy(info->heap, buf->heap->name, sizeof(info->heap));
}
