// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two mappings of one page may not disagree about caching. So pages of a write-combined heap
 * are so in the kernel's own mapping, too, while the buffer lives, and cached again when it is
 * gone. For RAM we look where the CPU does: in the kernel's page tables, by /proc/kcore. What
 * is not RAM the kernel keeps a list of.
 */
#include <elf.h>

#include "importer.h"

static int pagemap, dev;

/* Kernel memory by address. */

static int kcore;
static Elf64_Phdr segments[64];
static int nr_segments;

static void open_kcore(void)
{
	Elf64_Ehdr header;

	kcore = open("/proc/kcore", O_RDONLY | O_CLOEXEC);
	if (kcore < 0 || pread(kcore, &header, sizeof(header), 0) != sizeof(header) ||
	    header.e_phnum > 64)
		bail("/proc/kcore: %s", strerror(errno));
	nr_segments = header.e_phnum;
	if (pread(kcore, segments, sizeof(*segments) * nr_segments, header.e_phoff) < 0)
		bail("/proc/kcore: %s", strerror(errno));
}

static void read_kernel(uint64_t address, void *to, size_t size)
{
	for (int i = 0; i < nr_segments; i++) {
		const Elf64_Phdr *s = &segments[i];

		if (s->p_type == PT_LOAD && address >= s->p_vaddr &&
		    address - s->p_vaddr + size <= s->p_memsz &&
		    pread(kcore, to, size, s->p_offset + (address - s->p_vaddr)) ==
			    (ssize_t)size)
			return;
	}
	bail("no kernel memory at %#llx", (unsigned long long)address);
}

static uint64_t symbol(const char *name)
{
	FILE *symbols = fopen("/proc/kallsyms", "re");
	unsigned long long address;
	char line[512], is[256];

	while (symbols && fgets(line, sizeof(line), symbols))
		if (sscanf(line, "%llx %*c %255s", &address, is) == 2 &&
		    !strcmp(is, name)) {
			fclose(symbols);
			return address;
		}
	bail("the kernel has no symbol %s", name);
}

/* The kernel's mapping of all RAM, in page tables of four levels. */

#define ENTRIES	   512
#define TABLE(e)   ((e) & 0x000ffffffffff000ULL)
#define PRESENT	   0x001
#define LARGE	   0x080
#define NOT_CACHED 0x018 /* PWT and PCD: Linux has write-back where both are clear */

static uint64_t top, direct_map;

static void open_page_tables(void)
{
	open_kcore();
	top = symbol("init_top_pgt");
	read_kernel(symbol("page_offset_base"), &direct_map, sizeof(direct_map));
}

/* Is the kernel's mapping of page number FRAME something else than cached? */
static bool not_cached(uint64_t frame)
{
	uint64_t address = direct_map + frame * PAGE, table = top, entry;

	for (int shift = 39;; shift -= 9) {
		read_kernel(table + (address >> shift & (ENTRIES - 1)) * 8, &entry, 8);
		if (!(entry & PRESENT))
			bail("page %#llx is not mapped", (unsigned long long)frame);
		if (shift == 12 || (shift < 39 && entry & LARGE))
			return entry & NOT_CACHED;
		table = direct_map + TABLE(entry);
	}
}

/* How many pages of what TABLE maps are. */
static long not_cached_in(uint64_t table, int shift)
{
	uint64_t entries[ENTRIES];
	long number = 0;

	read_kernel(table, entries, sizeof(entries));
	for (int i = 0; i < ENTRIES; i++) {
		if (!(entries[i] & PRESENT))
			continue;
		if (shift == 12 || entries[i] & LARGE)
			number += entries[i] & NOT_CACHED ? 1L << (shift - 12) : 0;
		else
			number += not_cached_in(direct_map + TABLE(entries[i]), shift - 9);
	}
	return number;
}

/* Where the mapping begins is chance, in steps of 1 GiB; 64 GiB are enough. */
static long not_cached_pages(void)
{
	long number = 0;

	for (uint64_t address = direct_map; address < direct_map + (64ULL << 30);
	     address += 1ULL << 30) {
		uint64_t entry;

		read_kernel(top + (address >> 39 & (ENTRIES - 1)) * 8, &entry, 8);
		if (!(entry & PRESENT))
			continue;
		read_kernel(direct_map + TABLE(entry) + (address >> 30 & (ENTRIES - 1)) * 8,
			    &entry, 8);
		if (!(entry & PRESENT))
			continue;
		if (entry & LARGE)
			number += entry & NOT_CACHED ? 1L << 18 : 0;
		else
			number += not_cached_in(direct_map + TABLE(entry), 21);
	}
	return number;
}

/* The number of page INDEX of a buffer that is mapped at MEMORY. */
static uint64_t frame_of(const struct heap *heap, int fd, const char *memory, int index)
{
	struct zcbuf_importer_map map;
	uint64_t entry;

	/* pagemap says nothing of areas that are mapped by page number. */
	if (heap_can(heap, ZCBUF_HEAP_CAP_CONTIGUOUS)) {
		if (attach(dev, heap, fd, 64, 0))
			bail("%s: attach: %s", heap->name, strerror(errno));
		map = must_map_device(dev, BIDIRECTIONAL);
		unmap_device(dev);
		detach(dev);
		return map.address / PAGE + index;
	}
	if (pread(pagemap, &entry, 8, ((uintptr_t)memory / PAGE + index) * 8) != 8 ||
	    !(entry >> 63))
		bail("%s: pagemap knows nothing of page %d", heap->name, index);
	return entry & ((1ULL << 55) - 1);
}

static int combined(const uint64_t *frames, int count)
{
	int number = 0;

	for (int i = 0; i < count; i++)
		number += not_cached(frames[i]);
	return number;
}

#define PAGES 777

static void pages(const struct heap *heap)
{
	int expected = heap->is.cache_mode == ZCBUF_WRITE_COMBINED ? PAGES : 0;
	int fd = must_alloc(heap, PAGES * PAGE);
	char *memory = must_map(fd, PAGES * PAGE);
	uint64_t frames[PAGES];

	for (int i = 0; i < PAGES; i++) {
		memory[i * PAGE] = 1;
		frames[i] = frame_of(heap, fd, memory, i);
	}
	ok(combined(frames, PAGES) == expected, "%s: %d of %d pages are write-combined",
	   heap->name, expected, PAGES);
	munmap(memory, PAGES * PAGE);
	ok(combined(frames, PAGES) == expected, "%s: also when nobody maps them",
	   heap->name);
	close(fd);
	pause_ms(50);
	ok(combined(frames, PAGES) == 0, "%s: none when it is freed", heap->name);
}

/* Sizes of all orders, freed in another sequence than they came in. */
static void none_is_left(const struct heap *heap)
{
	long before = not_cached_pages(), between = 0;
	struct held held_before = held(heap);
	unsigned int seed = 1;
	int fds[64], failed = 0;

	memset(fds, -1, sizeof(fds));
	for (int i = 0; i < 2000; i++) {
		int *fd = &fds[rand_r(&seed) % 64];

		if (*fd >= 0)
			close(*fd);
		*fd = alloc(heap, (1 + rand_r(&seed) % 600) * PAGE);
		failed += *fd < 0;
		if (i == 1000)
			between = not_cached_pages();
	}
	for (int i = 0; i < 64; i++)
		close(fds[i]);
	ok(!failed && held_as(heap, held_before), "%s: 2,000 buffers come and go",
	   heap->name);
	ok(heap->is.cache_mode != ZCBUF_WRITE_COMBINED || between > before,
	   "%s: of %ld write-combined pages in between", heap->name, between);
	ok(not_cached_pages() == before, "%s: none is left", heap->name);
}

/* Is TYPE what the list says of the page at ADDRESS? */
static bool listed(const char *type, uint64_t address)
{
	FILE *list = fopen("/sys/kernel/debug/x86/pat_memtype_list", "re");
	unsigned long long from, to;
	char line[256], name[64];
	bool found = false;

	if (!list)
		bail("pat_memtype_list: %s", strerror(errno));
	while (!found && fgets(line, sizeof(line), list))
		found = sscanf(line, "PAT: [mem 0x%llx-0x%llx] %63s", &from, &to, name) ==
				3 &&
			from <= address && address <= to && !strcmp(name, type);
	fclose(list);
	return found;
}

static void without_pages(const struct heap *heap)
{
	bool wc = heap->is.cache_mode == ZCBUF_WRITE_COMBINED;
	int fd = must_alloc(heap, PAGE);
	char *memory = must_map(fd, PAGE);

	*memory = 1;
	ok(listed(wc ? "write-combining" : "uncached-minus",
		  frame_of(heap, fd, memory, 0) * PAGE),
	   "%s: is %s in the list of memory types", heap->name,
	   wc ? "write-combined" : "uncached");
	munmap(memory, PAGE);
	close(fd);
}

static void test(const struct heap *heap)
{
	if (!importable(heap))
		return;
	if (!heap_has_pages(heap)) {
		without_pages(heap);
		return;
	}
	/* The addresses that a device has are those of bounce buffers then. */
	if (!bounces_all() || !heap_can(heap, ZCBUF_HEAP_CAP_CONTIGUOUS))
		pages(heap);
	none_is_left(heap);
}

int main(void)
{
#ifndef __x86_64__
	skip("the page tables of this architecture cannot be read here");
	return done_testing();
#endif
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (pagemap < 0)
		bail("pagemap: %s", strerror(errno));
	open_page_tables();
	dev = device();
	for_each_heap(test);
	return done_testing();
}
