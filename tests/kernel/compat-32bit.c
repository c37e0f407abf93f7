// SPDX-License-Identifier: GPL-2.0-only
/* Programs of 32 bits speak the same ABI. The old system call gate of x86 plays such a program. */
#include <setjmp.h>

#include "zc.h"

#if defined(__x86_64__) || defined(__i386__)

#define I386_IOCTL  54
#define I386_GETPID 20

static sigjmp_buf no_gate;

static void refused(int signal)
{
	siglongjmp(no_gate, signal);
}

static long call32(long number, long a, long b, long c)
{
	long result;

	/* It forgets the upper halves of what it is given. */
	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(number), "b"(a), "c"(b), "d"(c)
			 : "memory", "r8", "r9", "r10", "r11");
	result = (int)result;
	if (result < 0 && result > -4096) {
		errno = -result;
		return -1;
	}
	return result;
}

static int ioctl32(int fd, unsigned long cmd, void *arg)
{
	return call32(I386_IOCTL, fd, (int)cmd, (long)arg);
}

/* Can a program of 64 bits use the gate here? */
static bool has_gate(void)
{
	struct sigaction action = { .sa_handler = refused }, segv, ill;
	volatile bool works = false;

	sigaction(SIGSEGV, &action, &segv);
	sigaction(SIGILL, &action, &ill);
	if (!sigsetjmp(no_gate, 1))
		works = call32(I386_GETPID, 0, 0, 0) == getpid();
	sigaction(SIGSEGV, &segv, NULL);
	sigaction(SIGILL, &ill, NULL);
	return works;
}

static void test(const struct heap *heap)
{
	/* Where 32 bits reach. */
	union {
		struct zcbuf_ioc_alloc alloc;
		struct zcbuf_ioc_heap heap;
		struct zcbuf_ioc_view view;
		struct zcbuf_ioc_sync sync;
		struct zcbuf_ioc_info info;
		struct dma_heap_allocation_data data;
	} *arg = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	struct held before = held(heap);
	int fd, other;

	arg->alloc = (struct zcbuf_ioc_alloc){ .size = 3 * PAGE,
					       .fd_flags = O_RDWR,
					       .name = "small" };
	ok(ioctl32(heap->fd, ZCBUF_IOC_ALLOC, arg) == 0 && arg->alloc.size == 3 * PAGE,
	   "%s: ALLOC of a 32-bit program", heap->name);
	ok(arg->alloc.mmap_offset >> 12 <= UINT32_MAX,
	   "%s: it can ask mmap2() for the offset that it is told", heap->name);
	fd = arg->alloc.fd;
	arg->heap = (struct zcbuf_ioc_heap){ .index = heap->is.index };
	ok(ioctl32(control(), ZCBUF_IOC_HEAPS, arg) == 0 &&
		   !strcmp(arg->heap.name, heap->name),
	   "%s: HEAPS of a 32-bit program", heap->name);
	arg->info = (struct zcbuf_ioc_info){ .fd = fd };
	ok(ioctl32(control(), ZCBUF_IOC_INFO, arg) == 0 &&
		   !strcmp(arg->info.name, "small") && arg->info.size == 3 * PAGE,
	   "%s: INFO of a 32-bit program", heap->name);
	arg->view = (struct zcbuf_ioc_view){ .fd = fd, .offset = PAGE };
	ok(ioctl32(control(), ZCBUF_IOC_VIEW, arg) == 0 &&
		   lseek(arg->view.view_fd, 0, SEEK_END) == (off_t)(2 * PAGE),
	   "%s: VIEW of a 32-bit program", heap->name);
	other = arg->view.view_fd;
	arg->sync =
		(struct zcbuf_ioc_sync){ .fd = fd, .length = 1, .flags = ZCBUF_SYNC_READ };
	ok(ioctl32(control(), ZCBUF_IOC_SYNC, arg) == 0, "%s: SYNC of a 32-bit program",
	   heap->name);
	close(other);
	close(fd);
	arg->data = (struct dma_heap_allocation_data){ .len = PAGE, .fd_flags = O_RDWR };
	ok(ioctl32(heap->fd, DMA_HEAP_IOCTL_ALLOC, arg) == 0,
	   "%s: DMA_HEAP_IOCTL_ALLOC of a 32-bit program", heap->name);
	close(arg->data.fd);
	munmap(arg, PAGE);
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

int main(void)
{
	if (has_gate())
		for_each_heap(test);
	else
		skip("this kernel runs no 32-bit programs");
	return done_testing();
}

#else

int main(void)
{
	skip("only x86 has a gate to 32 bits");
	return done_testing();
}

#endif
