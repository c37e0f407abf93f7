// SPDX-License-Identifier: GPL-2.0-only
/*
 * Many and large: 100,000 buffers that live at once, a buffer that 1,000 processes have mapped,
 * and one of more than 4 GiB, whose sizes and offsets need more than 32 bits.
 */
#include <sys/resource.h>

#include "zc.h"

#define BUFFERS	  100000
#define PROCESSES 1000

static const uint64_t big = (4ULL << 30) + 2 * MiB;

static bool all_is_back(long long free, long long slab)
{
	long long pages = 0, objects = 0;

	for (int tries = 0; tries < 50; tries++, pause_ms(100)) {
		pages = free - free_kib();
		objects = number_in("/proc/meminfo", "SUnreclaim") - slab;
		/* Less than an eighth of what they took: the kernel keeps some for the next. */
		if (pages < BUFFERS / 2 && objects < BUFFERS / 4)
			return true;
	}
	diag("%lld KiB are missing, %lld of them objects", pages, objects);
	return false;
}

/* Each is its own memory: it still has its number when all the others have theirs. */
static void many_buffers(const struct heap *heap)
{
	struct held before = held(heap);
	long long slab, free;
	static int fds[BUFFERS];
	int count, wrong = 0;

	pool_drain(heap);
	free = free_kib();
	slab = number_in("/proc/meminfo", "SUnreclaim");
	for (count = 0; count < BUFFERS; count++) {
		int *memory;

		fds[count] = alloc(heap, PAGE);
		if (fds[count] < 0)
			break;
		memory = must_map(fds[count], PAGE);
		wrong += *memory != 0;
		*memory = count;
		munmap(memory, PAGE);
	}
	ok(count == BUFFERS && heap_now(heap).used_buffers == before.buffers + BUFFERS,
	   "%s: %d buffers live at once", heap->name, count);
	for (int i = 0; i < count; i += 7) {
		int *memory = must_map(fds[i], PAGE);

		wrong += *memory != i;
		munmap(memory, PAGE);
	}
	ok(!wrong, "%s: each with memory of its own", heap->name);
	for (int i = 0; i < count; i++)
		close(fds[i]);
	ok(held_as(heap, before), "%s: all go", heap->name);
	pool_drain(heap);
	ok(all_is_back(free, slab), "%s: and their memory comes back", heap->name);
}

static void many_processes(const struct heap *heap)
{
	struct held before = held(heap);
	int fd = must_alloc(heap, PROCESSES * 8), ready[2], end[2], wrong = 0;
	uint64_t *memory = must_map(fd, PROCESSES * 8);
	static pid_t children[PROCESSES];

	if (pipe2(ready, O_CLOEXEC) || pipe2(end, O_CLOEXEC))
		bail("pipe: %s", strerror(errno));
	for (int i = 0; i < PROCESSES; i++) {
		children[i] = fork();
		if (children[i] == 0) {
			uint64_t *mine = must_map(fd, PROCESSES * 8);
			char byte;

			munmap(memory, PROCESSES * 8);
			close(end[1]);
			mine[i] = pattern(1, i);
			if (write(ready[1], "", 1) != 1 || read(end[0], &byte, 1) != 0)
				_exit(1);
			_exit(is_filled(mine, PROCESSES * 8, 1) ? 0 : 2);
		}
		if (children[i] < 0)
			bail("fork %d: %s", i, strerror(errno));
	}
	for (int i = 0; i < PROCESSES; i++) {
		char byte;

		wrong += read(ready[0], &byte, 1) != 1;
	}
	ok(!wrong && info(fd).user_mappings == PROCESSES + 1,
	   "%s: %d processes have it mapped", heap->name, PROCESSES);
	close(end[1]);
	for (int i = 0; i < PROCESSES; i++)
		wrong += end_of(children[i]) != 0;
	ok(!wrong, "%s: and each sees what all wrote", heap->name);
	ok(info(fd).user_mappings == 1, "%s: no mapping is left of them", heap->name);
	munmap(memory, PROCESSES * 8);
	close(fd);
	close(ready[0]);
	close(ready[1]);
	close(end[0]);
	ok(held_as(heap, before), "%s: nor anything else", heap->name);
}

static void large_buffer(const struct heap *heap)
{
	struct held before = held(heap);
	int fd = alloc(heap, big), part;
	char *memory, *end;
	uint64_t wrong = 0;

	if (fd < 0)
		bail("%s: no buffer of %llu bytes: %s", heap->name, (unsigned long long)big,
		     strerror(errno));
	ok(info(fd).size == big && lseek(fd, 0, SEEK_END) == (off_t)big,
	   "%s: a buffer of more than 4 GiB", heap->name);
	memory = must_map(fd, big);
	for (uint64_t at = 0; at < big; at += PAGE) {
		wrong += *(uint64_t *)(memory + at) != 0;
		*(uint64_t *)(memory + at) = at;
	}
	ok(!wrong, "%s: is zero", heap->name);
	for (uint64_t at = 0; at < big; at += PAGE)
		wrong += *(uint64_t *)(memory + at) != at;
	ok(!wrong, "%s: no two of its pages are one", heap->name);

	part = view(fd, 4ULL << 30, PAGE, 0);
	end = must_map(part, PAGE);
	ok(*(uint64_t *)end == 4ULL << 30, "%s: a view may begin behind 4 GiB", heap->name);
	munmap(end, PAGE);
	close(part);
	end = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, (4ULL << 30) + PAGE);
	ok(end != MAP_FAILED && *(uint64_t *)end == (4ULL << 30) + PAGE,
	   "%s: and so may a mapping", heap->name);
	munmap(end, PAGE);
	ok(sync_range(fd, big - 1, 1, ZCBUF_SYNC_START | ZCBUF_SYNC_READ) == 0 &&
		   sync_range(fd, big - 1, 1, ZCBUF_SYNC_END | ZCBUF_SYNC_READ) == 0,
	   "%s: and a sync", heap->name);
	munmap(memory, big);
	close(fd);
	ok(held_as(heap, before), "%s: it goes as any other", heap->name);
	pool_drain(heap);
}

static void test(const struct heap *heap)
{
	bool room = number_in("/proc/meminfo", "MemAvailable") * 1024ULL > big + 512 * MiB;

	many_processes(heap);
	/* It would be the same code for the others, and takes its time. */
	if (heap->is.index != 0)
		return;
	many_buffers(heap);
	if (room)
		large_buffer(heap);
	else
		skip("%s: this machine has no room for a buffer of 4 GiB", heap->name);
}

int main(void)
{
	struct rlimit files = { BUFFERS + 1000, BUFFERS + 1000 };

	if (setrlimit(RLIMIT_NOFILE, &files))
		bail("%d fds: %s", BUFFERS, strerror(errno));
	for_each_heap(test);
	return done_testing();
}
