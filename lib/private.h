/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of libzcbuf share with each other and with nobody else. */
#ifndef LIBZCBUF_PRIVATE_H
#define LIBZCBUF_PRIVATE_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <syslog.h>
#include <unistd.h>

#include "libzcbuf.h"

/* ---- things that are released when their scope ends ---------------------------------- */

#define _cleanup_(release) __attribute__((cleanup(release)))

static inline void free_p(void *pointer)
{
	free(*(void **)pointer);
}

static inline void close_p(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void zcbuf_ctx_unref_p(struct zcbuf_ctx **ctx)
{
	zcbuf_ctx_unref(*ctx);
}

static inline void zcbuf_heap_unref_p(struct zcbuf_heap **heap)
{
	zcbuf_heap_unref(*heap);
}

static inline void zcbuf_buffer_unref_p(struct zcbuf_buffer **buffer)
{
	zcbuf_buffer_unref(*buffer);
}

/* Hands over what a variable holds, so that its cleanup finds nothing to do. */
#define take_pointer(pointer)                             \
	({                                                \
		__typeof__(pointer) *taken_ = &(pointer); \
		__typeof__(pointer) value_ = *taken_;     \
		*taken_ = NULL;                           \
		value_;                                   \
	})

static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* ---- small things -------------------------------------------------------------------- */

/* ioctl() in the manner of this library: a negative errno on failure. */
static inline int ioctl_errno(int fd, unsigned long request, void *argument)
{
	int r = ioctl(fd, request, argument);

	return r < 0 ? -errno : r;
}

static inline size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

/* ---- context ------------------------------------------------------------------------- */

struct zcbuf_ctx {
	atomic_uint refs;
	pthread_mutex_t lock; /* of all that follows */
	zcbuf_log_fn log;
	void *log_data;
	int control; /* /dev/zcbuf, or -1 as long as it was not needed */
};

__attribute__((format(printf, 3, 4))) void ctx_log(struct zcbuf_ctx *ctx, int priority,
						   const char *format, ...);

/* Logs an error and returns @error, so that a failure is one line: return ctx_fail(…). */
__attribute__((format(printf, 3, 4))) int ctx_fail(struct zcbuf_ctx *ctx, int error,
						   const char *format, ...);

/* /dev/zcbuf, which the context keeps open, or the negative errno of opening it. */
int ctx_control(struct zcbuf_ctx *ctx);

/* ---- heaps --------------------------------------------------------------------------- */

struct heap_list {
	struct zcbuf_heap_info *infos;
	size_t count;
};

static inline void heap_list_release(struct heap_list *list)
{
	free(list->infos);
}

/* Adds a copy of @info. */
int heap_list_add(struct heap_list *list, const struct zcbuf_heap_info *info);

/* Who makes memory; backend_*.c has one each. */
struct backend {
	enum zcbuf_backend id;
	const char *name;
	/* Adds the heaps that this machine has, whether or not they may be opened. */
	int (*list)(struct zcbuf_ctx *ctx, struct heap_list *list);
	/* Returns an fd over @size zeroed bytes or more. @node is the heap's, opened. */
	int (*alloc)(int node, size_t size, const struct zcbuf_alloc_options *options);
};

extern const struct backend backend_zcbuf;
extern const struct backend backend_dma_heap;
extern const struct backend backend_udmabuf;
extern const struct backend backend_memfd;

/* A memfd of whole pages that can never change its size. */
int memfd_new(const char *name, size_t size);

/* Whether there is probably memory for @size more bytes. */
bool memory_suffices(uint64_t size);

/* ---- buffers ------------------------------------------------------------------------- */

/* Makes a buffer of @fd, which it takes over if it succeeds. */
int buffer_new(struct zcbuf_ctx *ctx, int fd, enum zcbuf_backend backend, const char *heap,
	       struct zcbuf_buffer **buffer);

/* The same for an fd of which nothing is known; -EINVAL if it cannot be used. */
int buffer_adopt(struct zcbuf_ctx *ctx, int fd, struct zcbuf_buffer **buffer);

#endif /* LIBZCBUF_PRIVATE_H */
