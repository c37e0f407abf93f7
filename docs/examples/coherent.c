/* SPDX-License-Identifier: MIT-0 */
/*
 * zcbuf-coherent: a ring of descriptors, which both sides poll, so nobody could say where to
 * sync. Here the device is a child. As with many a driver, open(), ioctl() and mmap() do it.
 */
#include <err.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zcbuf.h>

#define TRY(call) ((call) < 0 ? err(1, #call) : (void)0)
#define SLOTS	  64

struct descriptor {
	uint64_t value;
	_Atomic uint32_t owner; /* 0: the CPU's, 1: the device's */
};

static void device(struct descriptor *ring)
{
	for (int i = 0; i < SLOTS; i++) {
		while (!atomic_load_explicit(&ring[i].owner, memory_order_acquire))
			;
		ring[i].value *= 2;
		atomic_store_explicit(&ring[i].owner, 0, memory_order_release);
	}
}

int main(void)
{
	struct zcbuf_ioc_alloc arg = { .size = SLOTS * sizeof(struct descriptor),
				       .flags = ZCBUF_ALLOC_DMA32, /* below 4 GiB */
				       .fd_flags = O_RDWR | O_CLOEXEC };
	int heap = open("/dev/dma_heap/zcbuf-coherent", O_RDWR | O_CLOEXEC), wrong = 0;
	struct descriptor *ring;

	TRY(ioctl(heap, ZCBUF_IOC_ALLOC, &arg));
	ring = mmap(NULL, arg.size, PROT_READ | PROT_WRITE, MAP_SHARED, heap,
		    arg.mmap_offset);
	TRY(ring == MAP_FAILED ? -1 : 0);
	if (fork() == 0)
		return device(ring), 0;
	for (int i = 0; i < SLOTS; i++) {
		ring[i].value = i;
		/* Release and acquire order the two: who sees the owner sees the value. */
		atomic_store_explicit(&ring[i].owner, 1, memory_order_release);
	}
	wait(NULL);
	for (int i = 0; i < SLOTS; i++)
		wrong += ring[i].owner || ring[i].value != 2u * i;
	printf("%d descriptors went round, %d wrong\n", SLOTS, wrong);
	return wrong != 0;
}
