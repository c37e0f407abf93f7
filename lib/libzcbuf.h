/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libzcbuf: buffers that processes and devices share without a copy.
 *
 * Three handles, from large to small:
 *
 *   struct zcbuf_ctx     what the process knows about this machine, and where messages go
 *   struct zcbuf_heap    a place, or an ordered list of places, that memory comes from
 *   struct zcbuf_buffer  memory with a file descriptor, a mapping and a name
 *
 * A first program allocates a frame, writes to it, and gives it to another process:
 *
 *   struct zcbuf_ctx *ctx;
 *   struct zcbuf_heap *heap;
 *   struct zcbuf_buffer *buf;
 *   void *data;
 *
 *   zcbuf_ctx_new(&ctx);
 *   zcbuf_heap_open(ctx, NULL, &heap);
 *   zcbuf_heap_alloc(heap, 1920 * 1080 * 4, NULL, &buf);
 *   zcbuf_buffer_map(buf, ZCBUF_SYNC_WRITE, &data);
 *   zcbuf_buffer_begin(buf, ZCBUF_SYNC_WRITE);
 *   memset(data, 0x80, zcbuf_buffer_size(buf));
 *   zcbuf_buffer_end(buf, ZCBUF_SYNC_WRITE);
 *   zcbuf_buffer_send(buf, socket);
 *
 * Rules that hold everywhere:
 *   - A function that can fail returns 0 (or a count) or a negative errno. It then has no
 *     effect, and *result is not written. What was wrong, where, and what to do about it
 *     goes to the context's log function as one line.
 *   - Handles are reference-counted: _new, _open, _alloc, _import, _view and _recv
 *     return one reference, _ref adds one, _unref takes one away and returns NULL. NULL may
 *     be unref'd.
 *   - A handle may be used by several threads at once.
 *   - File descriptors that a function returns as a plain int belong to the handle, unless
 *     it says otherwise. All are close-on-exec.
 */
#ifndef LIBZCBUF_H
#define LIBZCBUF_H

#include <stddef.h>
#include <stdint.h>

#include <zcbuf.h> /* heap kinds, cache modes, ZCBUF_HEAP_CAP_*, ZCBUF_VIEW_*, ZCBUF_SYNC_* */

#ifdef __cplusplus
extern "C" {
#endif

/* ---- context ------------------------------------------------------------------------- */

struct zcbuf_ctx;

/**
 * zcbuf_log_fn - receives messages
 * @data: what was given to zcbuf_ctx_set_log()
 * @priority: as for syslog(3): LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG
 * @message: one line without newline; names the thing, the value and the remedy
 */
typedef void (*zcbuf_log_fn)(void *data, int priority, const char *message);

/**
 * zcbuf_ctx_new - make a context
 *
 * It logs errors and warnings to stderr until zcbuf_ctx_set_log() says otherwise;
 * ZCBUF_LOG=debug in the environment shows all messages. Errors: -ENOMEM.
 */
int zcbuf_ctx_new(struct zcbuf_ctx **ctx);
struct zcbuf_ctx *zcbuf_ctx_ref(struct zcbuf_ctx *ctx);
struct zcbuf_ctx *zcbuf_ctx_unref(struct zcbuf_ctx *ctx);

/** zcbuf_ctx_set_log - send messages to @log, or nowhere if it is NULL */
void zcbuf_ctx_set_log(struct zcbuf_ctx *ctx, zcbuf_log_fn log, void *data);

/* ---- heaps --------------------------------------------------------------------------- */

/**
 * enum zcbuf_backend - who makes the memory; bits, in the order in which they are tried
 * @ZCBUF_BACKEND_ZCBUF: the zcbuf kernel module, /dev/dma_heap/zcbuf-NAME
 * @ZCBUF_BACKEND_DMA_HEAP: another heap in /dev/dma_heap
 * @ZCBUF_BACKEND_UDMABUF: /dev/udmabuf over a memfd
 * @ZCBUF_BACKEND_MEMFD: a memfd. Processes can share it, devices cannot
 * @ZCBUF_BACKEND_FOREIGN: imported: a dma-buf of a driver, of another dma-heap or of
 *	udmabuf. (What is zcbuf's own, or a memfd, is known again wherever it arrives.)
 */
enum zcbuf_backend {
	ZCBUF_BACKEND_ZCBUF = 1 << 0,
	ZCBUF_BACKEND_DMA_HEAP = 1 << 1,
	ZCBUF_BACKEND_UDMABUF = 1 << 2,
	ZCBUF_BACKEND_MEMFD = 1 << 3,
	ZCBUF_BACKEND_FOREIGN = 1 << 4,
};

/** zcbuf_backend_name - "zcbuf", "dma-heap", "udmabuf", "memfd", "foreign", or NULL */
const char *zcbuf_backend_name(enum zcbuf_backend backend);

/**
 * struct zcbuf_heap_info - one heap of this machine
 * @backend: who makes its memory
 * @kind: &enum zcbuf_heap_kind, 0 if not known
 * @cache_mode: &enum zcbuf_cache_mode, 0 if not known
 * @status: 0 if this process may allocate from it, else the negative errno that opening
 *	its node gave
 * @capabilities: ZCBUF_HEAP_CAP_* bits that are known to hold
 * @max_size: largest buffer in bytes, 0 if not known
 * @max_alignment: largest alignment in bytes
 * @used_bytes: bytes in buffers that are alive, 0 if not known
 * @used_buffers: buffers that are alive, 0 if not known
 * @name: the name that zcbuf_heap_open() takes
 * @node: path of the device node; "" for memfd
 */
struct zcbuf_heap_info {
	enum zcbuf_backend backend;
	uint32_t kind;
	uint32_t cache_mode;
	int32_t status;
	uint64_t capabilities;
	uint64_t max_size;
	uint64_t max_alignment;
	uint64_t used_bytes;
	uint64_t used_buffers;
	char name[ZCBUF_NAME_LEN];
	char node[64];
};

/**
 * zcbuf_heap_list - all heaps of this machine, in the order in which they would be tried
 * @infos: out: an array, to be freed with free(3)
 *
 * Returns the number of heaps. Errors: -ENOMEM, -EMFILE.
 */
int zcbuf_heap_list(struct zcbuf_ctx *ctx, struct zcbuf_heap_info **infos);

struct zcbuf_heap;

/**
 * struct zcbuf_heap_need - what a heap must be able to do; all zero: nothing special
 * @backends: &enum zcbuf_backend bits that may be used, 0 for all four that allocate
 * @cache_mode: &enum zcbuf_cache_mode; 0 is ZCBUF_CACHED, because the CPU reads any other
 *	memory many times slower
 * @capabilities: ZCBUF_HEAP_CAP_* bits that must hold
 */
struct zcbuf_heap_need {
	uint32_t backends;
	uint32_t cache_mode;
	uint64_t capabilities;
};

/**
 * zcbuf_heap_open - open one heap by its name, or the best there is
 * @name: "zcbuf-system", "system", "udmabuf", "memfd" … as zcbuf_heap_list() gives them;
 *	NULL is zcbuf_heap_open_for() with no need
 *
 * Errors: -ENOENT (no such heap), -EACCES (no permission), -ENOMEM, -EMFILE.
 */
int zcbuf_heap_open(struct zcbuf_ctx *ctx, const char *name, struct zcbuf_heap **heap);

/**
 * zcbuf_heap_open_for - open all heaps that meet a need, best first
 *
 * Each allocation tries them in their order until one succeeds, so that a heap that
 * exists but is exhausted does not end the program; zcbuf_buffer_get_info() tells which
 * one a buffer came from. Heaps of reserved memory, and heaps of which nothing is known, are
 * opened only by their names. Errors: -ENOENT (no heap here meets the need), -EACCES (one
 * would, but may not be opened), -EINVAL, -ENOMEM, -EMFILE.
 */
int zcbuf_heap_open_for(struct zcbuf_ctx *ctx, const struct zcbuf_heap_need *need,
			struct zcbuf_heap **heap);
struct zcbuf_heap *zcbuf_heap_ref(struct zcbuf_heap *heap);
struct zcbuf_heap *zcbuf_heap_unref(struct zcbuf_heap *heap);

/* ---- buffers ------------------------------------------------------------------------- */

struct zcbuf_buffer;

/**
 * struct zcbuf_alloc_options - how to allocate; all zero: the defaults
 * @flags: ZCBUF_ALLOC_* bits; a heap that cannot is passed over. ZCBUF_ALLOC_RECYCLE allows
 *	old data of buffers that were made with it through the same &struct zcbuf_heap
 * @alignment: of the bus address of each contiguous piece, a power of two in bytes, or 0;
 *	a heap that cannot is passed over
 * @name: shown by /proc/PID/fdinfo and tools; NULL for none, else up to 31 bytes without
 *	control characters
 */
struct zcbuf_alloc_options {
	uint64_t flags;
	uint64_t alignment;
	const char *name;
};

/**
 * zcbuf_heap_alloc - allocate a zeroed buffer (but see ZCBUF_ALLOC_RECYCLE)
 * @size: bytes, at least 1; the buffer may be larger, see zcbuf_buffer_size()
 * @options: NULL for the defaults
 *
 * Errors: -EINVAL (size 0, alignment or name not as described), -EOPNOTSUPP (no heap here can
 * do that alignment or those flags), else those of the last heap tried: -ENOMEM, -EDQUOT (a
 * limit in /sys/class/zcbuf/), -EMFILE, -EINTR (killed) …
 */
int zcbuf_heap_alloc(struct zcbuf_heap *heap, size_t size,
		     const struct zcbuf_alloc_options *options,
		     struct zcbuf_buffer **buffer);

/**
 * zcbuf_buffer_import - use a dma-buf or memfd that somebody else made
 * @fd: duplicated; the caller keeps its own
 *
 * A memfd must be sealed with F_SEAL_SHRINK: whoever else holds it could otherwise shrink it,
 * and the next touch of the mapping would be a SIGBUS. Errors: -EBADF, -EINVAL (neither
 * dma-buf nor such a memfd), -EMFILE, -ENOMEM.
 */
int zcbuf_buffer_import(struct zcbuf_ctx *ctx, int fd, struct zcbuf_buffer **buffer);
struct zcbuf_buffer *zcbuf_buffer_ref(struct zcbuf_buffer *buffer);
struct zcbuf_buffer *zcbuf_buffer_unref(struct zcbuf_buffer *buffer);

/** zcbuf_buffer_fd - the dma-buf (or memfd); valid as long as the buffer */
int zcbuf_buffer_fd(const struct zcbuf_buffer *buffer);

/** zcbuf_buffer_size - bytes, a multiple of the page size */
size_t zcbuf_buffer_size(const struct zcbuf_buffer *buffer);

/**
 * zcbuf_buffer_map - map the buffer into this process, once
 * @access: ZCBUF_SYNC_READ, ZCBUF_SYNC_WRITE or both: what the caller will do
 * @data: out: address, the same for every call, valid as long as the buffer; aligned to
 *	2 MiB for buffers of that size and more, so that the kernel can use large pages
 *
 * Errors: -EACCES (read-only buffer and ZCBUF_SYNC_WRITE), -ENOMEM, -EINVAL.
 */
int zcbuf_buffer_map(struct zcbuf_buffer *buffer, uint64_t access, void **data);

/**
 * zcbuf_buffer_begin - before the CPU touches the mapping
 * @access: ZCBUF_SYNC_READ, ZCBUF_SYNC_WRITE or both
 *
 * Waits for devices that still work on the buffer, and makes what they wrote visible.
 * zcbuf_buffer_end() with the same @access ends the session and makes what the CPU wrote
 * visible to devices. Both restart after a signal. Errors: -EINVAL.
 */
int zcbuf_buffer_begin(struct zcbuf_buffer *buffer, uint64_t access);
int zcbuf_buffer_end(struct zcbuf_buffer *buffer, uint64_t access);

/**
 * zcbuf_buffer_begin_range - the same for @length bytes at @offset only
 *
 * On buffers that are not zcbuf's own it covers the whole buffer. Errors: -EINVAL (range
 * outside of the buffer or empty).
 */
int zcbuf_buffer_begin_range(struct zcbuf_buffer *buffer, uint64_t access, size_t offset,
			     size_t length);
int zcbuf_buffer_end_range(struct zcbuf_buffer *buffer, uint64_t access, size_t offset,
			   size_t length);

/**
 * zcbuf_buffer_view - a second buffer over a part of this one, or with fewer rights
 * @offset: bytes, page-aligned
 * @length: bytes, page-aligned; 0 up to the end
 * @flags: ZCBUF_VIEW_* bits
 *
 * Errors: -EOPNOTSUPP (not zcbuf's own buffer), -EINVAL, -EACCES, -ENOMEM, -EMFILE.
 */
int zcbuf_buffer_view(struct zcbuf_buffer *buffer, size_t offset, size_t length,
		      uint64_t flags, struct zcbuf_buffer **view);

/**
 * struct zcbuf_buffer_info - what a buffer is
 * @backend: who made it
 * @read_only: 1 if it cannot be mapped for writing
 * @size: bytes
 * @inode: the same for every file descriptor of this dma-buf in every process
 * @buffer_id: the same for all views of one buffer; 0 if not zcbuf's own. The rest is
 *	zero then, too
 * @offset: where this view begins in its buffer
 * @buffer_size: bytes of the whole buffer
 * @alloc_flags: ZCBUF_ALLOC_* bits
 * @view_flags: ZCBUF_VIEW_* bits
 * @alignment: bytes
 * @views: dma-bufs of the buffer
 * @attachments: devices attached to it
 * @user_mappings: mappings of it in all processes
 * @chunks: contiguous pieces
 * @max_chunk: bytes of the largest
 * @min_chunk: bytes of the smallest
 * @heap: name of the heap, "" if not known
 * @name: name of the buffer, "" if it has none
 */
struct zcbuf_buffer_info {
	enum zcbuf_backend backend;
	uint32_t read_only;
	uint64_t size;
	uint64_t inode;
	uint64_t buffer_id;
	uint64_t offset;
	uint64_t buffer_size;
	uint64_t alloc_flags;
	uint64_t view_flags;
	uint64_t alignment;
	uint32_t views;
	uint32_t attachments;
	uint32_t user_mappings;
	uint32_t chunks;
	uint64_t max_chunk;
	uint64_t min_chunk;
	char heap[ZCBUF_NAME_LEN];
	char name[ZCBUF_NAME_LEN];
};

/** zcbuf_buffer_get_info - what a buffer is now */
int zcbuf_buffer_get_info(struct zcbuf_buffer *buffer, struct zcbuf_buffer_info *info);

/**
 * zcbuf_buffer_send - give a buffer to the process at the other end of a Unix socket
 * @socket: a connected AF_UNIX socket of any type
 *
 * The receiver gets a file descriptor of its own; either side may close first. Errors:
 * those of sendmsg(2), -EAFNOSUPPORT (not a Unix socket).
 */
int zcbuf_buffer_send(struct zcbuf_buffer *buffer, int socket);

/**
 * zcbuf_buffer_recv - receive what zcbuf_buffer_send() sent
 *
 * Errors: those of recvmsg(2); -ECONNRESET (the other end closed), -EPROTO (something
 * else arrived; it was discarded, and a SOCK_STREAM socket should be closed, because nobody
 * knows where the next message begins), -EMFILE (no room for the file descriptor; the message
 * is lost).
 */
int zcbuf_buffer_recv(struct zcbuf_ctx *ctx, int socket, struct zcbuf_buffer **buffer);

#ifdef __cplusplus
}
#endif

#endif /* LIBZCBUF_H */
