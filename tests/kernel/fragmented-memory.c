// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where no two free pages lie side by side, a buffer is made of single pages, without waiting
 * for the kernel to move others together; when there are large chunks again, it has them.
 */
#include "fragment.h"

#define LARGE (2 * MiB)

static long long vmstat(const char *key)
{
	return number_in("/proc/vmstat", key);
}

static bool has_large_chunks(const struct heap *heap)
{
	int fd = must_alloc(heap, 64 * MiB);
	bool large = info(fd).min_chunk == LARGE;

	close(fd);
	return large;
}

/* All of it is zero, and two mappings and the chunks behind them agree about what is there. */
static bool holds_data(int fd, uint64_t seed)
{
	size_t size = info(fd).size;
	char *memory = must_map(fd, size), *other = must_map(fd, size);
	bool right = is_zero(memory, size);

	fill(memory, size, seed);
	right = is_filled(other, size, seed) && right;
	munmap(memory, size);
	munmap(other, size);
	return right;
}

static void of_small_chunks(const struct heap *heap, size_t size)
{
	long long stalls = vmstat("compact_stall");
	struct zcbuf_ioc_info is;
	int fd = alloc(heap, size);

	if (!ok(fd >= 0, "%s: %zu bytes can be had", heap->name, size))
		return;
	is = info(fd);
	diag("%s: %u chunks of %llu to %llu bytes", heap->name, is.chunks,
	     (unsigned long long)is.min_chunk, (unsigned long long)is.max_chunk);
	ok(is.min_chunk == PAGE && is.max_chunk <= LARGE / 2 &&
		   is.chunks > is.buffer_size / PAGE / 2,
	   "%s: nearly all in single pages", heap->name);
	ok(holds_data(fd, size), "%s: zeroed, and they hold data", heap->name);
	close(fd);
	fd = alloc(heap, size);
	ok(fd >= 0 && info(fd).min_chunk == PAGE, "%s: the next one as well", heap->name);
	ok(holds_data(fd, size), "%s: and it is zeroed", heap->name);
	close(fd);
	ok(vmstat("compact_stall") == stalls,
	   "%s: nobody waits for pages to be moved together", heap->name);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);
	long long kills = vmstat("oom_kill");
	char ratio[64], now[64];

	if (strcmp(heap->name, "zcbuf-system"))
		return;
	read_file("/proc/sys/vm/lowmem_reserve_ratio", ratio, sizeof(ratio));
	pool_drain(heap);
	ok(has_large_chunks(heap), "%s: a buffer has large chunks", heap->name);
	pool_drain(heap);
	fragment();
	of_small_chunks(heap, 12439552);
	of_small_chunks(heap, 64 * MiB);
	unfragment();
	pool_drain(heap);
	ok(has_large_chunks(heap), "%s: then a buffer has large chunks again", heap->name);
	ok(vmstat("oom_kill") == kills, "%s: nobody is killed", heap->name);
	read_file("/proc/sys/vm/lowmem_reserve_ratio", now, sizeof(now));
	ok(!strcmp(now, ratio), "%s: the machine is as it was", heap->name);
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

int main(void)
{
#ifdef __aarch64__
	skip("all memory is in the zone of old devices, which is left alone");
	return done_testing();
#endif
	for_each_heap(test);
	return done_testing();
}
