/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory as it is on a machine that has run for long: there is enough of it, but hardly two
 * free pages lie side by side. fragment() takes all that is free, page by page, and gives back
 * those with an odd number; unfragment() ends it, and so does the end of the process, except
 * for the sysctls.
 */
#ifndef FRAGMENT_H
#define FRAGMENT_H

#include <sched.h>

#include "zc.h"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24 /* Linux 5.18 */
#endif

/* Bytes that stay free while all others are taken: nobody may be killed for want of them. */
#define FRAGMENT_SPARE	    (8 * MiB)
#define FRAGMENT_CHUNKS	    512

#define FRAGMENT_HUGE_PAGES "/proc/sys/vm/nr_hugepages"

/*
 * Nothing may move the pages together again, and what the kernel holds back in each zone must
 * be little, for it stays whole; but nothing is taken from the zone of ISA devices.
 */
static struct fragment_sysctl {
	const char *path, *value;
	char before[64];
} fragment_sysctls[] = {
	{ .path = "/proc/sys/vm/compact_unevictable_allowed", .value = "0" },
	{ .path = "/proc/sys/vm/compaction_proactiveness", .value = "0" },
	{ .path = "/proc/sys/vm/lowmem_reserve_ratio", .value = "1 0 0" },
	{ .path = "/proc/sys/vm/min_free_kbytes", .value = "1024" },
};

static char *fragment_memory;
static size_t fragment_size;
static cpu_set_t fragment_cpus;
static int fragment_cpu;
static int fragment_fds[FRAGMENT_CHUNKS], fragment_fd_count;

/* Bytes in free chunks of 2^ORDER pages and more, in all zones but that of ISA devices. */
static inline size_t free_in_chunks(unsigned int order)
{
	FILE *buddies = fopen("/proc/buddyinfo", "re");
	size_t sum = 0, chunks;
	char line[512], zone[16];
	int at, length;

	while (buddies && fgets(line, sizeof(line), buddies)) {
		if (sscanf(line, "Node %*d, zone %15s%n", zone, &at) != 1 ||
		    !strcmp(zone, "DMA"))
			continue;
		for (unsigned int i = 0; sscanf(line + at, "%zu%n", &chunks, &length) == 1;
		     i++, at += length)
			sum += i >= order ? chunks * (PAGE << i) : 0;
	}
	fclose(buddies);
	return sum;
}

static inline void unfragment(void)
{
	if (fragment_memory)
		munmap(fragment_memory, fragment_size);
	fragment_memory = NULL;
	write_file(FRAGMENT_HUGE_PAGES, "0");
	while (fragment_fd_count)
		close(fragment_fds[--fragment_fd_count]);
	for (size_t i = 0; i < sizeof(fragment_sysctls) / sizeof(*fragment_sysctls); i++)
		if (*fragment_sysctls[i].before)
			write_file(fragment_sysctls[i].path, fragment_sysctls[i].before);
}

/* Pages with an odd number go back, so that none of their neighbours can be free. */
static inline void fragment_give_back_odd(void)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry[512];

	for (size_t page = 0; page < fragment_size / PAGE; page += 512) {
		off_t at = ((uintptr_t)fragment_memory / PAGE + page) * sizeof(*entry);

		if (pread(pagemap, entry, sizeof(entry), at) != sizeof(entry))
			bail("/proc/self/pagemap: %s", strerror(errno));
		/* bit 63: it is there; below bit 55: its number, which only root sees */
		for (size_t i = 0; i < 512; i++)
			if (entry[i] >> 63 && entry[i] & 1 &&
			    madvise(fragment_memory + (page + i) * PAGE, PAGE,
				    MADV_DONTNEED_LOCKED))
				bail("MADV_DONTNEED_LOCKED: %s", strerror(errno));
	}
	close(pagemap);
}

/* On the next of the CPUs, each of which has free pages at hand that nobody else gets. */
static inline void fragment_next_cpu(void)
{
	cpu_set_t one;

	do
		fragment_cpu = (fragment_cpu + 1) % CPU_SETSIZE;
	while (!CPU_ISSET(fragment_cpu, &fragment_cpus));
	CPU_ZERO(&one);
	CPU_SET(fragment_cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

/*
 * What had to be spared lies in chunks. Large ones become huge pages: when there are no more,
 * the kernel looks for those that its CPUs have at hand, too. Buffers take the smaller ones.
 */
static inline void fragment_take_chunks(void)
{
	int heap = open("/dev/dma_heap/zcbuf-system", O_RDWR | O_CLOEXEC);
	struct zcbuf_ioc_alloc arg;
	bool whole = true;

	write_file(FRAGMENT_HUGE_PAGES, "1000");
	while (whole && fragment_fd_count < FRAGMENT_CHUNKS) {
		arg = (struct zcbuf_ioc_alloc){ .size = 16 * PAGE };
		if (ioctl(heap, ZCBUF_IOC_ALLOC, &arg))
			bail("zcbuf-system: no chunk: %s", strerror(errno));
		whole = info(arg.fd).chunks == 1;
		fragment_fds[fragment_fd_count++] = arg.fd;
	}
	close(heap);
}

/* From here on hardly two free pages lie side by side. Needs root. */
static inline void fragment(void)
{
	for (size_t i = 0; i < sizeof(fragment_sysctls) / sizeof(*fragment_sysctls); i++) {
		struct fragment_sysctl *sysctl = &fragment_sysctls[i];

		if (!read_file(sysctl->path, sysctl->before, sizeof(sysctl->before)) ||
		    !write_file(sysctl->path, sysctl->value))
			bail("%s: %s", sysctl->path, strerror(errno));
	}
	atexit(unfragment);
	sched_getaffinity(0, sizeof(fragment_cpus), &fragment_cpus);
	write_file("/proc/sys/vm/drop_caches", "3");
	fragment_size =
		number_in("/proc/meminfo", "MemTotal") * 1024 / (2 * MiB) * (2 * MiB);
	fragment_memory = mmap(NULL, fragment_size, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (fragment_memory == MAP_FAILED ||
	    madvise(fragment_memory, fragment_size, MADV_NOHUGEPAGE) ||
	    mlock2(fragment_memory, fragment_size, MLOCK_ONFAULT))
		bail("no memory to take: %s", strerror(errno));
	for (size_t at = 0; at < fragment_size; at += PAGE) {
		if (at % MiB == 0) {
			if (free_in_chunks(0) < FRAGMENT_SPARE)
				break;
			fragment_next_cpu();
		}
		fragment_memory[at] = 1;
	}
	sched_setaffinity(0, sizeof(fragment_cpus), &fragment_cpus);
	fragment_give_back_odd();
	fragment_take_chunks();
	if (free_in_chunks(9) || free_in_chunks(4) > 2 * MiB)
		bail("%zu bytes are still free in chunks of 64 KiB and more",
		     free_in_chunks(4));
}

#endif /* FRAGMENT_H */
