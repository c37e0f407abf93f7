// SPDX-License-Identifier: GPL-2.0-only
/*
 * DMA_HEAP_IOCTL_ALLOC behaves as on a heap of mainline, so that programs written for those
 * work: its errors, and structures older or newer than the kernel, whose unknown bytes are
 * not looked at.
 */
#include "zc.h"

static int heap_alloc(const struct heap *heap, struct dma_heap_allocation_data *data)
{
	return ioctl(heap->fd, DMA_HEAP_IOCTL_ALLOC, data);
}

static void lengths(const struct heap *heap)
{
	static const uint64_t good[][2] = {
		{ 1, PAGE },
		{ PAGE, PAGE },
		{ PAGE + 1, 2 * PAGE },
		{ MiB, MiB },
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		struct dma_heap_allocation_data data = {
			.len = good[i][0],
			.fd_flags = O_RDWR | O_CLOEXEC,
		};

		if (!ok(heap_alloc(heap, &data) == 0, "%s: %llu bytes can be had",
			heap->name, (unsigned long long)good[i][0]))
			continue;
		ok(data.len == good[i][0], "%s: len stays as it was", heap->name);
		ok(lseek(data.fd, 0, SEEK_END) == (off_t)good[i][1],
		   "%s: %llu bytes are rounded up to whole pages", heap->name,
		   (unsigned long long)good[i][0]);
		ok(fcntl(data.fd, F_GETFD) == FD_CLOEXEC, "%s: the fd is close-on-exec",
		   heap->name);
		close(data.fd);
	}

	struct dma_heap_allocation_data data = { .fd_flags = O_RDWR };

	is_errno(heap_alloc(heap, &data), EINVAL, "%s: no bytes are refused", heap->name);
	data.len = ~0ULL;
	is_errno(heap_alloc(heap, &data), EINVAL, "%s: 2^64 - 1 bytes are refused",
		 heap->name);
	data.len = 1ULL << 63;
	is_errno(heap_alloc(heap, &data), ENOMEM, "%s: 2^63 bytes are refused", heap->name);
	data.len = heap->is.max_size + PAGE;
	is_errno(heap_alloc(heap, &data), ENOMEM, "%s: more than max_size is refused",
		 heap->name);
}

static void flags(const struct heap *heap)
{
	struct dma_heap_allocation_data data = { .len = PAGE, .fd_flags = O_RDWR, .fd = 3 };

	is_errno(heap_alloc(heap, &data), EINVAL, "%s: an fd that is not zero is refused",
		 heap->name);
	data = (struct dma_heap_allocation_data){ .len = PAGE,
						  .fd_flags = O_RDWR | O_NONBLOCK };
	is_errno(heap_alloc(heap, &data), EINVAL, "%s: O_NONBLOCK is refused", heap->name);
	data.fd_flags = ~(O_RDWR | O_CLOEXEC);
	is_errno(heap_alloc(heap, &data), EINVAL, "%s: all other fd_flags are refused",
		 heap->name);
	for (uint64_t heap_flags = 1; heap_flags; heap_flags <<= 21) {
		data = (struct dma_heap_allocation_data){
			.len = PAGE,
			.fd_flags = O_RDWR,
			.heap_flags = heap_flags,
		};
		is_errno(heap_alloc(heap, &data), EINVAL,
			 "%s: heap_flags %#llx are refused", heap->name,
			 (unsigned long long)heap_flags);
	}
	data = (struct dma_heap_allocation_data){ .len = PAGE };
	if (ok(heap_alloc(heap, &data) == 0 &&
		       (fcntl(data.fd, F_GETFL) & O_ACCMODE) == O_RDONLY,
	       "%s: fd_flags 0 give a read-only fd", heap->name))
		is_errno(map(data.fd, PAGE), EACCES, "%s: which cannot be mapped writable",
			 heap->name);
	close(data.fd);
}

/* Before heap_flags were thought of. */
struct older {
	uint64_t len;
	uint32_t fd;
	uint32_t fd_flags;
};

struct newer {
	struct dma_heap_allocation_data known;
	uint64_t unknown[16];
};

static void other_sizes(const struct heap *heap)
{
	struct older old = { .len = MiB, .fd_flags = O_RDWR | O_CLOEXEC };
	struct newer new = { .known = { .len = MiB, .fd_flags = O_RDWR | O_CLOEXEC } };
	bool kept = true;

	if (ok(ioctl(heap->fd, _IOWR(DMA_HEAP_IOC_MAGIC, 0, struct older), &old) == 0,
	       "%s: an older structure works", heap->name))
		close(old.fd);

	memset(new.unknown, 0xaa, sizeof(new.unknown));
	if (ok(ioctl(heap->fd, _IOWR(DMA_HEAP_IOC_MAGIC, 0, struct newer), &new) == 0,
	       "%s: a newer structure works, what is unknown in it is ignored", heap->name))
		close(new.known.fd);
	for (int i = 0; i < 16; i++)
		kept = kept && new.unknown[i] == 0xaaaaaaaaaaaaaaaa;
	ok(kept, "%s: and left as it was", heap->name);

	is_errno(ioctl(heap->fd, _IO(DMA_HEAP_IOC_MAGIC, 0), &old), EINVAL,
		 "%s: an empty structure has no length", heap->name);
	is_errno(ioctl(heap->fd, _IOWR(DMA_HEAP_IOC_MAGIC, 1, struct older), &old), EINVAL,
		 "%s: there is no second ioctl of dma-heaps", heap->name);
}

/* The fd must not exist when its number could not be told. */
static void bad_memory(const struct heap *heap)
{
	struct dma_heap_allocation_data *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
						     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct held before = held(heap);

	is_errno(heap_alloc(heap, NULL), EFAULT, "%s: NULL", heap->name);
	*page = (struct dma_heap_allocation_data){ .len = PAGE, .fd_flags = O_RDWR };
	mprotect(page, PAGE, PROT_READ);
	is_errno(heap_alloc(heap, page), EFAULT, "%s: read-only memory", heap->name);
	munmap(page, PAGE);
	is_errno(heap_alloc(heap, page), EFAULT, "%s: unmapped memory", heap->name);
	ok(held_as(heap, before), "%s: no fd and no buffer comes of it", heap->name);
}

static void contents(const struct heap *heap)
{
	struct dma_heap_allocation_data data = { .len = MiB,
						 .fd_flags = O_RDWR | O_CLOEXEC };
	void *memory;

	if (heap_alloc(heap, &data))
		bail("no buffer: %s", strerror(errno));
	ok(!strcmp(info(data.fd).heap, heap->name), "%s: it is a buffer of this heap",
	   heap->name);
	memory = must_map(data.fd, MiB);
	ok(is_zero(memory, MiB), "%s: it is zeroed", heap->name);
	ok(sync_all(data.fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW) == 0,
	   "%s: access may begin", heap->name);
	fill(memory, MiB, 1);
	ok(sync_all(data.fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW) == 0, "%s: and end",
	   heap->name);
	ok(is_filled(memory, MiB, 1), "%s: it holds what is written", heap->name);
	munmap(memory, MiB);
	close(data.fd);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);

	lengths(heap);
	flags(heap);
	other_sizes(heap);
	bad_memory(heap);
	contents(heap);
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

int main(void)
{
	for_each_heap(test);
	return done_testing();
}
