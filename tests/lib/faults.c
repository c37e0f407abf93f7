// SPDX-License-Identifier: LGPL-2.1-or-later
/* What happens when heaps that could be opened fail, one after the other. */
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "lib.h"

/* This program's ioctl() is the library's, too: it fails with the errno that is set here. */
static int fail_zcbuf, fail_dma_heap, fail_udmabuf, fail_memfd;
static int fail_sync_times, fail_sync;
/* The module enumerates its first two heaps the other way round. */
static bool swap_heaps;

static int list_swapped(int fd, struct zcbuf_ioc_heap *heap)
{
	uint32_t index = heap->index;
	int r;

	heap->index ^= index < 2;
	r = (int)syscall(SYS_ioctl, fd, ZCBUF_IOC_HEAPS, heap);
	heap->index = index;
	return r;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *argument;

	va_start(args, request);
	argument = va_arg(args, void *);
	va_end(args);
	errno = 0;
	if (request == ZCBUF_IOC_ALLOC)
		errno = fail_zcbuf;
	else if (request == DMA_HEAP_IOCTL_ALLOC)
		errno = fail_dma_heap;
	else if (request == UDMABUF_CREATE)
		errno = fail_udmabuf;
	else if ((request == DMA_BUF_IOCTL_SYNC || request == ZCBUF_IOC_SYNC) &&
		 fail_sync_times && fail_sync_times--)
		errno = fail_sync;
	else if (request == ZCBUF_IOC_HEAPS && swap_heaps)
		return list_swapped(fd, argument);
	return errno ? -1 : (int)syscall(SYS_ioctl, fd, request, argument);
}

int memfd_create(const char *name, unsigned int flags)
{
	errno = fail_memfd;
	return errno ? -1 : (int)syscall(SYS_memfd_create, name, flags);
}

static enum zcbuf_backend backend_of_next(struct zcbuf_heap *heap)
{
	struct zcbuf_buffer_info info = { 0 };
	struct zcbuf_buffer *buffer;

	forget_log();
	if (zcbuf_heap_alloc(heap, 4096, NULL, &buffer))
		return 0;
	zcbuf_buffer_get_info(buffer, &info);
	zcbuf_buffer_unref(buffer);
	return info.backend;
}

static void falling_back(struct zcbuf_heap *heap)
{
	struct zcbuf_buffer *buffer = (void *)1;
	bool has_heap = !access("/dev/dma_heap/system", F_OK);
	bool has_udmabuf = !access("/dev/udmabuf", F_OK);
	int fds = open_fds();

	ok(backend_of_next(heap) == ZCBUF_BACKEND_ZCBUF && !logged.infos,
	   "as long as zcbuf has memory it is zcbuf's");
	fail_zcbuf = ENOMEM;
	ok(backend_of_next(heap) == (has_heap	   ? ZCBUF_BACKEND_DMA_HEAP
				     : has_udmabuf ? ZCBUF_BACKEND_UDMABUF
						   : ZCBUF_BACKEND_MEMFD),
	   "when zcbuf has none, the next heap gives it");
	ok(!logged.errors && logged.infos && strstr(logged.info, "no buffer of 4096 bytes"),
	   "a fallback is no error, but can be read in the log");
	fail_dma_heap = ENOMEM;
	ok(backend_of_next(heap) ==
		   (has_udmabuf ? ZCBUF_BACKEND_UDMABUF : ZCBUF_BACKEND_MEMFD),
	   "when the kernel's heap has none either, udmabuf does");
	fail_udmabuf = ENOMEM;
	ok(backend_of_next(heap) == ZCBUF_BACKEND_MEMFD, "at last it is a memfd");
	fail_memfd = EPERM;
	forget_log();
	returns(zcbuf_heap_alloc(heap, 4096, NULL, &buffer), -EPERM,
		"when all fail, the error is the last one's");
	ok(logged.errors == 1 && strstr(logged.error, "memfd: no buffer of 4096 bytes"),
	   "which is logged once");
	fail_dma_heap = fail_udmabuf = fail_memfd = 0;

	fail_zcbuf = EMFILE;
	returns(zcbuf_heap_alloc(heap, 4096, NULL, &buffer), -EMFILE,
		"without file descriptors no other heap is tried");
	fail_zcbuf = EDQUOT;
	ok(backend_of_next(heap) != ZCBUF_BACKEND_ZCBUF, "at a limit of zcbuf's another does");
	fail_zcbuf = EINTR;
	returns(zcbuf_heap_alloc(heap, 4096, NULL, &buffer), -EINTR,
		"a killed allocation tries no other heap");
	fail_zcbuf = 0;
	ok(buffer == (void *)1, "a failure writes no result");
	ok(backend_of_next(heap) == ZCBUF_BACKEND_ZCBUF, "zcbuf is tried anew each time");
	ok(open_fds() == fds, "falling back leaks no file descriptor");
}

/* udmabuf refuses what is larger than its module parameter says. */
static void beyond_a_real_limit(struct zcbuf_ctx *ctx)
{
	struct zcbuf_heap_need need = { .backends = ZCBUF_BACKEND_UDMABUF |
						    ZCBUF_BACKEND_MEMFD };
	struct zcbuf_buffer_info info;
	struct zcbuf_buffer *buffer;
	struct zcbuf_heap *heap;
	FILE *file = fopen("/sys/module/udmabuf/parameters/size_limit_mb", "r+");
	int limit;

	if (!file || fscanf(file, "%d", &limit) != 1) {
		skip("this kernel has no udmabuf");
		return;
	}
	rewind(file);
	fputs("2", file);
	fflush(file);
	must(zcbuf_heap_open_for(ctx, &need, &heap));
	must(zcbuf_heap_alloc(heap, 2 << 20, NULL, &buffer));
	must(zcbuf_buffer_get_info(buffer, &info));
	ok(info.backend == ZCBUF_BACKEND_UDMABUF,
	   "udmabuf serves what is within its limit");
	zcbuf_buffer_unref(buffer);
	must(zcbuf_heap_alloc(heap, (2 << 20) + 1, NULL, &buffer));
	must(zcbuf_buffer_get_info(buffer, &info));
	ok(info.backend == ZCBUF_BACKEND_MEMFD, "memfd serves what is beyond");
	zcbuf_buffer_unref(buffer);
	zcbuf_heap_unref(heap);
	rewind(file);
	fprintf(file, "%d", limit);
	fclose(file);
}

static void default_heap_first(struct zcbuf_ctx *ctx)
{
	struct zcbuf_heap_info *infos;

	swap_heaps = true;
	must(zcbuf_heap_list(ctx, &infos));
	swap_heaps = false;
	ok(!strcmp(infos[0].name, "zcbuf-system") &&
		   infos[1].backend == ZCBUF_BACKEND_ZCBUF &&
		   strcmp(infos[1].name, "zcbuf-system"),
	   "zcbuf-system is the first, wherever the module puts it");
	free(infos);
}

static void restarting(struct zcbuf_ctx *ctx)
{
	struct zcbuf_buffer *buffer = new_buffer(ctx, "zcbuf-system", 8192);

	fail_sync_times = 3;
	fail_sync = EINTR;
	returns(zcbuf_buffer_begin(buffer, ZCBUF_SYNC_READ), 0, "a signal restarts begin");
	ok(!fail_sync_times, "as often as there is one");
	fail_sync_times = 3;
	fail_sync = EAGAIN;
	returns(zcbuf_buffer_end(buffer, ZCBUF_SYNC_READ), 0, "EAGAIN restarts end");
	fail_sync_times = 3;
	fail_sync = EINTR;
	returns(zcbuf_buffer_begin_range(buffer, ZCBUF_SYNC_READ, 1, 1), 0,
		"a signal restarts begin of a range");
	ok(!fail_sync_times, "as often as there is one");
	fail_sync_times = 1;
	fail_sync = EIO;
	forget_log();
	returns(zcbuf_buffer_begin(buffer, ZCBUF_SYNC_READ), -EIO,
		"other errors come through");
	ok(logged.errors == 1, "and are logged");
	zcbuf_buffer_unref(buffer);
}

int main(void)
{
	struct zcbuf_ctx *ctx = new_ctx();
	struct zcbuf_heap *heap;

	must(zcbuf_heap_open(ctx, NULL, &heap));
	falling_back(heap);
	beyond_a_real_limit(ctx);
	default_heap_first(ctx);
	restarting(ctx);
	zcbuf_heap_unref(heap);
	zcbuf_ctx_unref(ctx);
	return done_testing();
}
