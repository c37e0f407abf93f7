/* SPDX-License-Identifier: GPL-2.0-only */
/* Mappings at addresses that let one page table entry map 2 MiB. */
#ifndef HUGE_H
#define HUGE_H

#include "zc.h"

#define HUGE  (2 * MiB)
#define FRAME ((size_t)12439552) /* 3840 x 2160, NV12: 5.93 times 2 MiB */

/* At an address of which all bits below HUGE are those of SHIFT. */
static inline void *map_near(int fd, size_t size, off_t offset, int prot, size_t shift)
{
	char *room =
		mmap(NULL, size + 2 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *place = room + (HUGE - (uintptr_t)room % HUGE) % HUGE + shift;
	char *end = place + ((size + PAGE - 1) & -PAGE);
	void *memory = mmap(place, size, prot, MAP_SHARED | MAP_FIXED, fd, offset);

	munmap(room, place - room);
	munmap(end, room + size + 2 * HUGE - end);
	if (memory == MAP_FAILED)
		bail("mmap of %zu bytes: %s", size, strerror(errno));
	return memory;
}

static inline void *map_huge(int fd, size_t size)
{
	return map_near(fd, size, 0, PROT_READ | PROT_WRITE, 0);
}

/* KiB of [MEMORY, MEMORY + SIZE) that entries of 2 MiB map. */
static inline long long huge_kib(const void *memory, size_t size)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	unsigned long start = 0, end = 0, first = (unsigned long)memory;
	long long kib, sum = 0;
	char line[512];

	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			continue;
		if (start < first + size && end > first &&
		    sscanf(line, "FilePmdMapped: %lld", &kib) == 1)
			sum += kib;
	}
	fclose(smaps);
	return sum;
}

#endif /* HUGE_H */
