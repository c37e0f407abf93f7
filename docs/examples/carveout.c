/* SPDX-License-Identifier: MIT-0 */
/*
 * zcbuf-carveout NODE TEXT: writes a text into memory that no page allocator knows: reserved
 * RAM, or a device's own. The mapping is uncached, so each access goes out as it is written, in
 * this order and in this size. Mainline's ioctl is all that it takes.
 */
#include <err.h>
#include <fcntl.h>
#include <linux/dma-heap.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define TRY(call) ((call) < 0 ? err(1, #call) : (void)0)

int main(int argc, char **argv)
{
	struct dma_heap_allocation_data arg = { .len = 4096, .fd_flags = O_RDWR };
	volatile uint32_t *memory; /* volatile: no access is merged, moved or left out */
	uint32_t words[64] = { 0 };
	int heap;

	if (argc != 3 || strlen(argv[2]) >= sizeof(words)) {
		fprintf(stderr, "usage: carveout /dev/dma_heap/zcbuf-carveout-NAME TEXT\n");
		return 2;
	}
	heap = open(argv[1], O_RDWR | O_CLOEXEC);
	TRY(heap);
	TRY(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &arg));
	memory = mmap(NULL, arg.len, PROT_READ | PROT_WRITE, MAP_SHARED, arg.fd, 0);
	TRY(memory == MAP_FAILED ? -1 : 0);

	memcpy(words, argv[2], strlen(argv[2]));
	for (int i = 0; i < 64; i++)
		memory[i] = words[i]; /* memcpy() may write twice, or any size */
	for (int i = 0; i < 64; i++)
		if (memory[i] != words[i]) {
			fprintf(stderr, "word %d reads %#x, not %#x\n", i, memory[i],
				words[i]);
			return 1;
		}
	printf("%s holds the text until Enter\n", argv[1]);
	fflush(stdout);
	getchar();
	return 0; /* its end frees the memory, and the next owner finds zeroes */
}
