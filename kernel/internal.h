/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The four nouns of zcbuf:
 *
 *   heap --alloc--> buffer --export--> view (one dma-buf) --attach--> attachment
 *
 * A buffer is reference-counted: each view, and each mapping made through a heap node,
 * holds one reference. Views of one buffer share its memory and its fences.
 *
 * Locks, outermost first: mmap_lock, dma_resv, that of debugfs.c, &zcbuf_buffer.lock,
 * &zcbuf_file.lock, and those of pool.c, which reclaim takes as well. Nothing allocates or
 * copies to user space from that of debugfs.c on. The lock of limit.c is by itself.
 */
#ifndef ZCBUF_INTERNAL_H
#define ZCBUF_INTERNAL_H

#include <linux/atomic.h>
#include <linux/dma-buf.h>
#include <linux/dma-resv.h>
#include <linux/iosys-map.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/rbtree.h>
#include <linux/types.h>

#include "../uapi/zcbuf.h"

struct seq_file;
struct zcbuf_buffer;
struct zcbuf_file;
struct zcbuf_user;

/**
 * struct zcbuf_heap_ops - how a heap makes memory and maps it
 *
 * A heap gives @page, or @phys if its memory has no struct page.
 */
struct zcbuf_heap_ops {
	/**
	 * @alloc: make memory for @buf, which has its size, alignment and flags, and set
	 * &zcbuf_buffer.memory. It is zeroed but for what &zcbuf_buffer.recycler may see.
	 * The size may be raised.
	 */
	int (*alloc)(struct zcbuf_buffer *buf);

	/** @free: give &zcbuf_buffer.memory back. Others may still hold its pages. */
	void (*free)(struct zcbuf_buffer *buf);

	/**
	 * @page: page number @index of the buffer, which is in range; @run is how many
	 * pages from there on are physically contiguous.
	 */
	struct page *(*page)(struct zcbuf_buffer *buf, unsigned long index,
			     unsigned long *run);

	/**
	 * @phys: where the buffer begins on the bus, if it has no pages. Only importers
	 * that say they need none (&dma_buf_attachment.peer2peer) can map it then.
	 */
	phys_addr_t (*phys)(struct zcbuf_buffer *buf);

	/**
	 * @mmap: fill @vma, whose &vm_area_struct.vm_pgoff counts pages of @buf. Without
	 * it the pages are inserted, and can then be pinned.
	 */
	int (*mmap)(struct zcbuf_buffer *buf, struct vm_area_struct *vma);

	/**
	 * @kernel_map: where the kernel sees the buffer for as long as it lives. Without
	 * it each vmap() maps the pages anew. Heaps with @mmap must have it.
	 */
	void (*kernel_map)(struct zcbuf_buffer *buf, struct iosys_map *map);
};

/**
 * struct zcbuf_heap - where memory comes from
 * @ops: how it works
 * @name: name of the node in /dev/dma_heap/
 * @kind: &enum zcbuf_heap_kind
 * @cache_mode: &enum zcbuf_cache_mode
 * @capabilities: ZCBUF_HEAP_CAP_* bits
 * @max_size: bytes of the largest buffer, 0 for all that memory could hold
 * @max_alignment: bytes
 * @pooled: chunks go back to a pool
 * @limit: bytes that living buffers may have together, or ZCBUF_NO_LIMIT
 * @used_bytes: in living buffers
 * @used_buffers: living buffers
 */
struct zcbuf_heap {
	const struct zcbuf_heap_ops *ops;
	char name[ZCBUF_NAME_LEN];
	u32 kind;
	u32 cache_mode;
	u64 capabilities;
	u64 max_size;
	u64 max_alignment;
	bool pooled;
	u64 limit;
	atomic64_t used_bytes;
	atomic64_t used_buffers;
};

/**
 * struct zcbuf_buffer - memory with an owner and a charge
 * @ref: one for each view, and for each mapping made through a heap node
 * @link: in the list of all
 * @heap: where the memory comes from
 * @user: for whom it is counted
 * @memory: the heap's own
 * @size: bytes, whole pages; @heap may have made it larger than was asked for
 * @alignment: bytes
 * @flags: ZCBUF_ALLOC_* bits
 * @recycler: whose earlier data may be in the memory, or NULL
 * @id: unique
 * @resv: fences, shared by all views
 * @lock: outside of &zcbuf_file.lock, inside of dma_resv
 * @attachments: &struct zcbuf_attachment of all views
 * @views: dma-bufs alive
 * @mappings: VMAs alive
 * @file: the open heap node that allocated it, for mmap() there
 * @file_node: in @file's tree of offsets
 * @file_page: first page offset in @file
 */
struct zcbuf_buffer {
	struct kref ref;
	struct list_head link;
	struct zcbuf_heap *heap;
	struct zcbuf_user *user;
	void *memory;
	size_t size;
	size_t alignment;
	u64 flags;
	const struct zcbuf_file *recycler;
	u64 id;
	struct dma_resv resv;
	struct mutex lock; /* guards attachments and their mappings */
	struct list_head attachments;
	atomic_t views;
	atomic_t mappings;
	struct zcbuf_file *file;
	struct rb_node file_node;
	unsigned long file_page;
};

/**
 * struct zcbuf_view - one dma-buf: a buffer or a part of it, with rights
 * @buf: the buffer, on which it holds a reference
 * @offset: first byte, page-aligned
 * @device_read_only: no device may write through it
 *
 * The length is that of the dma-buf, and read-only is the mode of its file.
 */
struct zcbuf_view {
	struct zcbuf_buffer *buf;
	size_t offset;
	bool device_read_only;
};

/* node.c */
int zcbuf_nodes_init(void);
void zcbuf_nodes_exit(void);

/* heap.c */
#define ZCBUF_MAX_HEAPS		16
/* Heap number 0 has this minor number, and the control node the one below. */
#define ZCBUF_FIRST_HEAP_MINOR	1

extern const struct file_operations zcbuf_heap_fops;

int zcbuf_heap_register(struct zcbuf_heap *heap);
struct zcbuf_heap *zcbuf_heap_at(unsigned int index);
u64 zcbuf_heap_max_size(const struct zcbuf_heap *heap);
struct zcbuf_heap *zcbuf_file_heap(struct zcbuf_file *zfile);
struct zcbuf_user *zcbuf_file_user(struct zcbuf_file *zfile);
int zcbuf_file_add(struct zcbuf_file *zfile, struct zcbuf_buffer *buf);
void zcbuf_file_remove(struct zcbuf_buffer *buf);

/* limit.c */
#define ZCBUF_NO_LIMIT		U64_MAX

extern u64 zcbuf_limit;
extern u64 zcbuf_user_limit;

struct zcbuf_user *zcbuf_user_get(void);
struct zcbuf_user *zcbuf_user_hold(struct zcbuf_user *user);
void zcbuf_user_put(struct zcbuf_user *user);
uid_t zcbuf_user_uid(const struct zcbuf_user *user);
int zcbuf_charge(struct zcbuf_heap *heap, struct zcbuf_user *user, u64 bytes);
void zcbuf_uncharge(struct zcbuf_heap *heap, struct zcbuf_user *user, u64 bytes);

/* buffer.c */
struct zcbuf_buffer *zcbuf_buffer_alloc(struct zcbuf_file *zfile, u64 size, u64 alignment,
					u64 flags);
void zcbuf_buffer_get(struct zcbuf_buffer *buf);
void zcbuf_buffer_put(struct zcbuf_buffer *buf);
int zcbuf_buffer_mmap(struct zcbuf_buffer *buf, struct vm_area_struct *vma);
int zcbuf_buffer_sgt(struct zcbuf_buffer *buf, size_t offset, size_t length,
		     size_t max_segment, struct sg_table *sgt);
int zcbuf_buffer_vmap(struct zcbuf_buffer *buf, size_t offset, size_t length,
		      struct iosys_map *map);
void zcbuf_buffer_vunmap(struct zcbuf_buffer *buf, struct iosys_map *map);
void zcbuf_buffer_info(struct zcbuf_buffer *buf, struct zcbuf_ioc_info *info);

/* view.c */
struct dma_buf *zcbuf_view_export(struct zcbuf_buffer *buf, size_t offset, size_t length,
				  int access, bool device_read_only, const char *name);
struct zcbuf_view *zcbuf_view_of(struct dma_buf *dmabuf);
u64 zcbuf_view_flags(struct dma_buf *dmabuf);
int zcbuf_view_begin(struct dma_buf *dmabuf, size_t offset, size_t length,
		     enum dma_data_direction access);
void zcbuf_view_end(struct dma_buf *dmabuf, size_t offset, size_t length,
		    enum dma_data_direction access);

/* attachment.c */
int zcbuf_attachment_attach(struct dma_buf *dmabuf, struct dma_buf_attachment *attachment);
void zcbuf_attachment_detach(struct dma_buf *dmabuf, struct dma_buf_attachment *attachment);
struct sg_table *zcbuf_attachment_map(struct dma_buf_attachment *attachment,
				      enum dma_data_direction dir);
void zcbuf_attachment_unmap(struct dma_buf_attachment *attachment, struct sg_table *sgt,
			    enum dma_data_direction dir);
void zcbuf_attachments_sync_for_cpu(struct zcbuf_buffer *buf, size_t offset, size_t length);
void zcbuf_attachments_sync_for_device(struct zcbuf_buffer *buf, size_t offset,
				       size_t length);
unsigned int zcbuf_attachments_count(struct zcbuf_buffer *buf);
void zcbuf_attachments_show(struct zcbuf_buffer *buf, struct seq_file *m);

/* debugfs.c */
void zcbuf_debugfs_add(struct zcbuf_buffer *buf);
void zcbuf_debugfs_remove(struct zcbuf_buffer *buf);
void zcbuf_debugfs_init(void);
void zcbuf_debugfs_exit(void);

/* ioctl.c */
extern const struct file_operations zcbuf_control_fops;

long zcbuf_heap_ioctl(struct file *file, unsigned int cmd, unsigned long arg);

/* chunk.c */

/* The most that the page allocator has in one piece. */
#define ZCBUF_BUDDY_SIZE	(PAGE_SIZE * MAX_ORDER_NR_PAGES)
/* What one page table entry maps. */
#define ZCBUF_MAX_CHUNK		PMD_SIZE

/* Sizes of chunks: what one page table entry maps, what a small one likes, a page. */
#define ZCBUF_TIERS		3

int zcbuf_chunks_alloc(struct zcbuf_buffer *buf);
void zcbuf_chunks_free(struct zcbuf_buffer *buf);
struct page *zcbuf_chunks_page(struct zcbuf_buffer *buf, unsigned long index,
			       unsigned long *run);

/* pool.c */
struct zcbuf_pool;
struct zcbuf_pool *zcbuf_pool_get(const void *owner);
void zcbuf_pool_put(struct zcbuf_pool *pool);
void zcbuf_pool_abandon(const void *owner);
unsigned long zcbuf_pool_take(struct zcbuf_pool *pool, unsigned int tier, unsigned long want,
			      struct list_head *list);
void zcbuf_pool_wait(void);
void zcbuf_pool_give(struct zcbuf_pool *pool, unsigned int tier, struct page **chunks,
		     unsigned int count);
u64 zcbuf_pool_bytes(void);
u64 zcbuf_pool_get_limit(void);
void zcbuf_pool_set_limit(u64 bytes);
int zcbuf_pool_init(void);
void zcbuf_pool_exit(void);

/* heap_*.c: each registers its heap, or says why it cannot */
int zcbuf_system_init(void);
int zcbuf_system_wc_init(void);
int zcbuf_contig_init(void);
int zcbuf_coherent_init(void);
int zcbuf_vmalloc_init(void);
int zcbuf_carveout_init(void);
void zcbuf_coherent_exit(void);
void zcbuf_carveout_exit(void);

#endif /* ZCBUF_INTERNAL_H */
