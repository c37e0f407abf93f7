/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * zcbuf: heaps of shareable dma-bufs, for everybody.
 *
 * Two kinds of device node, two kinds of right:
 *
 *   /dev/dma_heap/zcbuf-NAME  allocates from one heap: ZCBUF_IOC_ALLOC, mainline's
 *                             DMA_HEAP_IOCTL_ALLOC, and mmap() at the offset that
 *                             ZCBUF_IOC_ALLOC returned.
 *   /dev/zcbuf                works on dma-buf fds that the caller already holds and
 *                             never gives more than they give: ZCBUF_IOC_HEAPS,
 *                             ZCBUF_IOC_VIEW, ZCBUF_IOC_SYNC, ZCBUF_IOC_INFO.
 *
 * The fds are ordinary dma-bufs: mmap(), poll(), DMA_BUF_IOCTL_SYNC,
 * DMA_BUF_SET_NAME and the sync_file ioctls of <linux/dma-buf.h> work on them.
 *
 * Every structure may grow at its end. The kernel takes the size from the
 * ioctl number, as openat2() and clone3() do: bytes that it does not know must be
 * zero (-E2BIG otherwise), bytes that the caller does not know are read as zero and
 * not written. Reserved fields and unknown flags must be zero (-EINVAL otherwise).
 * No call has an effect when it fails.
 */
#ifndef _UAPI_ZCBUF_H
#define _UAPI_ZCBUF_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Bytes of a name, terminating zero included. */
#define ZCBUF_NAME_LEN		32

/**
 * enum zcbuf_heap_kind - how a heap's memory is made and mapped
 * @ZCBUF_HEAP_SYSTEM: pages in chunks, mapped by vm_insert_pages()
 * @ZCBUF_HEAP_CONTIG: one physically contiguous run, mapped by vm_insert_pages()
 * @ZCBUF_HEAP_COHERENT: dma_alloc_attrs(), mapped by dma_mmap_attrs()
 * @ZCBUF_HEAP_VMALLOC: vmalloc_user(), mapped by vm_insert_page()
 * @ZCBUF_HEAP_CARVEOUT: reserved RAM or a device's BAR, mapped by remap_pfn_range()
 */
enum zcbuf_heap_kind {
	ZCBUF_HEAP_SYSTEM	= 1,
	ZCBUF_HEAP_CONTIG	= 2,
	ZCBUF_HEAP_COHERENT	= 3,
	ZCBUF_HEAP_VMALLOC	= 4,
	ZCBUF_HEAP_CARVEOUT	= 5,
};

/**
 * enum zcbuf_cache_mode - how user space and the kernel map a heap's memory
 * @ZCBUF_CACHED: write-back, the normal cache mode of memory
 * @ZCBUF_WRITE_COMBINED: writes are gathered, reads are slow
 * @ZCBUF_UNCACHED: each access goes to the memory or to the device
 */
enum zcbuf_cache_mode {
	ZCBUF_CACHED		= 1,
	ZCBUF_WRITE_COMBINED	= 2,
	ZCBUF_UNCACHED		= 3,
};

/* What a heap can do: bits of &struct zcbuf_ioc_heap.capabilities. */

/* Every buffer is one physically contiguous run. */
#define ZCBUF_HEAP_CAP_CONTIGUOUS	0x01ULL
/* User mappings can be pinned: O_DIRECT, io_uring buffers, MSG_ZEROCOPY, RDMA. */
#define ZCBUF_HEAP_CAP_PIN		0x02ULL
/* The kernel can map a buffer for itself: vmap(), which CPU-side importers need. */
#define ZCBUF_HEAP_CAP_VMAP		0x04ULL
/* Memory is charged to the memory cgroup of the allocating process. */
#define ZCBUF_HEAP_CAP_CHARGED		0x08ULL
/* ZCBUF_ALLOC_DMA32 is understood. */
#define ZCBUF_HEAP_CAP_DMA32		0x10ULL

/**
 * struct zcbuf_ioc_heap - one heap; see ZCBUF_IOC_HEAPS
 * @index: in: which heap, counted from 0
 * @kind: out: &enum zcbuf_heap_kind
 * @cache_mode: out: &enum zcbuf_cache_mode
 * @reserved: zero
 * @capabilities: out: ZCBUF_HEAP_CAP_* bits
 * @max_size: out: the largest buffer that can be asked for, in bytes
 * @max_alignment: out: the largest alignment that can be asked for, in bytes
 * @used_bytes: out: bytes in the buffers that are alive now
 * @used_buffers: out: buffers that are alive now
 * @name: out: the heap's name; its node is /dev/dma_heap/@name
 */
struct zcbuf_ioc_heap {
	__u32 index;
	__u32 kind;
	__u32 cache_mode;
	__u32 reserved;
	__u64 capabilities;
	__u64 max_size;
	__u64 max_alignment;
	__u64 used_bytes;
	__u64 used_buffers;
	char name[ZCBUF_NAME_LEN];
};

/* The memory lies below 4 GiB. */
#define ZCBUF_ALLOC_DMA32		0x01ULL
/*
 * The memory need not be zeroed where it comes from an earlier buffer that was made with
 * this flag by the same open file of the heap node: whoever has that file may see what was
 * in its buffers. Nobody else's data is ever seen. Heaps without a pool zero it all the same.
 */
#define ZCBUF_ALLOC_RECYCLE		0x02ULL

/**
 * struct zcbuf_ioc_alloc - a new buffer; see ZCBUF_IOC_ALLOC
 * @size: in: bytes wanted, 1 to &struct zcbuf_ioc_heap.max_size; out: the buffer's
 *	size, rounded up to whole pages and to @alignment. A heap of chunks rounds up to
 *	whole 2 MiB where that adds no more than a 32nd: such a buffer costs the least
 * @flags: in: ZCBUF_ALLOC_* bits
 * @alignment: in: a power of two in bytes that the address of every contiguous piece of
 *	the memory is a multiple of; 0 means one page. Bus addresses are as well, unless a
 *	device needs bounce buffers
 * @mmap_offset: out: where mmap() on this heap node finds the buffer, for as long as
 *	the buffer lives and only through the open file that allocated it
 * @fd_flags: in: O_RDONLY, O_WRONLY or O_RDWR (which mappings @fd allows), and O_CLOEXEC
 * @fd: out: the dma-buf, owned by the caller
 * @name: in: the buffer's name from birth on, or an empty string; zero-terminated,
 *	without control characters
 */
struct zcbuf_ioc_alloc {
	__u64 size;
	__u64 flags;
	__u64 alignment;
	__u64 mmap_offset;
	__u32 fd_flags;
	__s32 fd;
	char name[ZCBUF_NAME_LEN];
};

/* The new fd allows no writable mapping, whatever its holder tries. */
#define ZCBUF_VIEW_READ_ONLY		0x01ULL
/* No device may write through the new fd either. Implies ZCBUF_VIEW_READ_ONLY. */
#define ZCBUF_VIEW_DEVICE_READ_ONLY	0x02ULL

/**
 * struct zcbuf_ioc_view - another dma-buf over a buffer's memory; see ZCBUF_IOC_VIEW
 * @offset: in: where the view begins in the dma-buf @fd, in bytes; page-aligned
 * @length: in: bytes, page-aligned; 0 means up to the end
 * @flags: in: ZCBUF_VIEW_* bits; what already limits @fd limits the view too
 * @fd: in: a dma-buf of zcbuf that may be read
 * @fd_flags: in: O_CLOEXEC or 0
 * @view_fd: out: the new dma-buf, owned by the caller. It shares memory and fences
 *	with the one it came from, and lives independently of it
 * @reserved: zero
 */
struct zcbuf_ioc_view {
	__u64 offset;
	__u64 length;
	__u64 flags;
	__s32 fd;
	__u32 fd_flags;
	__s32 view_fd;
	__u32 reserved;
};

/* The same bits as DMA_BUF_SYNC_* of <linux/dma-buf.h>. */
#define ZCBUF_SYNC_READ			0x01ULL
#define ZCBUF_SYNC_WRITE		0x02ULL
#define ZCBUF_SYNC_START		0x00ULL
#define ZCBUF_SYNC_END			0x04ULL

/**
 * struct zcbuf_ioc_sync - bracket CPU access to a range; see ZCBUF_IOC_SYNC
 * @offset: in: where the range begins in the dma-buf @fd, in bytes
 * @length: in: bytes, at least 1
 * @flags: in: ZCBUF_SYNC_START or ZCBUF_SYNC_END, with ZCBUF_SYNC_READ,
 *	ZCBUF_SYNC_WRITE or both
 * @fd: in: a dma-buf of zcbuf
 * @reserved: zero
 */
struct zcbuf_ioc_sync {
	__u64 offset;
	__u64 length;
	__u64 flags;
	__s32 fd;
	__u32 reserved;
};

/**
 * struct zcbuf_ioc_info - what a dma-buf of zcbuf is; see ZCBUF_IOC_INFO
 * @fd: in: the dma-buf
 * @reserved: zero
 * @size: out: bytes of this dma-buf
 * @offset: out: where it begins in its buffer
 * @buffer_size: out: bytes of the buffer
 * @buffer_id: out: a number that all views of one buffer share, and no other buffer
 *	since the module was loaded has had
 * @inode: out: the dma-buf's inode number, as fstat() and /proc/PID/fdinfo give it
 * @alloc_flags: out: ZCBUF_ALLOC_* bits the buffer was made with
 * @view_flags: out: ZCBUF_VIEW_* bits that limit this dma-buf
 * @alignment: out: alignment of the buffer's pieces, in bytes
 * @views: out: dma-bufs of the buffer that are alive, this one included
 * @attachments: out: devices attached to the buffer
 * @user_mappings: out: mappings (VMAs) of the buffer in all processes
 * @chunks: out: contiguous pieces the buffer is made of
 * @max_chunk: out: bytes of the largest piece
 * @min_chunk: out: bytes of the smallest piece
 * @heap: out: name of the heap
 * @name: out: name of the dma-buf
 */
struct zcbuf_ioc_info {
	__s32 fd;
	__u32 reserved;
	__u64 size;
	__u64 offset;
	__u64 buffer_size;
	__u64 buffer_id;
	__u64 inode;
	__u64 alloc_flags;
	__u64 view_flags;
	__u64 alignment;
	__u32 views;
	__u32 attachments;
	__u32 user_mappings;
	__u32 chunks;
	__u64 max_chunk;
	__u64 min_chunk;
	char heap[ZCBUF_NAME_LEN];
	char name[ZCBUF_NAME_LEN];
};

#define ZCBUF_IOC_MAGIC		'Z'

/**
 * DOC: ZCBUF_IOC_ALLOC - allocate a buffer (heap nodes)
 *
 * The memory is zeroed, but see ZCBUF_ALLOC_RECYCLE. Errors: -EINVAL (size 0 or not to be
 * rounded up, alignment, flag, fd_flags or name not as described), -ENOMEM (larger than
 * the heap's max_size, no memory, none of that kind or alignment, or the cgroup's limit is
 * reached), -EDQUOT (a limit in /sys/class/zcbuf/ would be exceeded: that of zcbuf, of the
 * heap, or of the user who opened the node), -EINTR (killed while allocating), -EMFILE,
 * -ENFILE (no fd left), -EFAULT, -E2BIG.
 */
#define ZCBUF_IOC_ALLOC		_IOWR(ZCBUF_IOC_MAGIC, 0x40, struct zcbuf_ioc_alloc)

/**
 * DOC: ZCBUF_IOC_HEAPS - describe heap number @index (control node)
 *
 * Call it with 0, 1, 2 … until it answers -ENOENT. Errors: -ENOENT, -EINVAL, -EFAULT,
 * -E2BIG.
 */
#define ZCBUF_IOC_HEAPS		_IOWR(ZCBUF_IOC_MAGIC, 0x41, struct zcbuf_ioc_heap)

/**
 * DOC: ZCBUF_IOC_VIEW - make a narrower dma-buf of one (control node)
 *
 * Errors: -EBADF (no such fd), -EINVAL (not a dma-buf of zcbuf; range or flags not as
 * described), -EACCES (the fd may not be read), -ENOMEM, -EMFILE, -ENFILE, -EFAULT,
 * -E2BIG.
 */
#define ZCBUF_IOC_VIEW		_IOWR(ZCBUF_IOC_MAGIC, 0x42, struct zcbuf_ioc_view)

/**
 * DOC: ZCBUF_IOC_SYNC - DMA_BUF_IOCTL_SYNC for a range only (control node)
 *
 * START waits for the fences of devices that still work on the buffer, then makes what
 * devices wrote to the range visible to the CPU; END makes what the CPU wrote visible
 * to devices. Bytes outside of the range are not touched. Errors: -EBADF, -EINVAL,
 * -EINTR (interrupted while waiting: call again), -EFAULT, -E2BIG.
 */
#define ZCBUF_IOC_SYNC		_IOW(ZCBUF_IOC_MAGIC, 0x43, struct zcbuf_ioc_sync)

/**
 * DOC: ZCBUF_IOC_INFO - describe a dma-buf (control node)
 *
 * Errors: -EBADF, -EINVAL (not a dma-buf of zcbuf), -EFAULT, -E2BIG.
 */
#define ZCBUF_IOC_INFO		_IOWR(ZCBUF_IOC_MAGIC, 0x44, struct zcbuf_ioc_info)

#endif /* _UAPI_ZCBUF_H */
