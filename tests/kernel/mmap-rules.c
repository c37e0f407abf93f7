// SPDX-License-Identifier: GPL-2.0-only
/*
 * mmap() of a buffer: which ranges and rights it gives, which it refuses, and that the memory
 * stays what it is through all that user space can do to a mapping.
 */
#include "zc.h"

#define PAGES 5
#define SIZE  (PAGES * PAGE)

static void *map_at(int fd, size_t length, int prot, off_t offset)
{
	return mmap(NULL, length, prot, MAP_SHARED, fd, offset);
}

/* Each first page and each length, those that fit and those that do not. */
static void ranges(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE), wrong = 0;
	char *whole = must_map(fd, SIZE);

	fill(whole, SIZE, 1);
	for (size_t first = 0; first <= PAGES + 1; first++)
		for (size_t count = 1; count <= PAGES + 2; count++) {
			bool fits = first + count <= PAGES;
			void *part = map_at(fd, count * PAGE, PROT_READ, first * PAGE);

			if (fits != (part != MAP_FAILED) || (!fits && errno != EINVAL) ||
			    (fits &&
			     !is_filled_from(part, first * PAGE, count * PAGE, 1))) {
				diag("pages %zu to %zu", first, first + count);
				wrong++;
			}
			if (part != MAP_FAILED)
				munmap(part, count * PAGE);
		}
	ok(!wrong, "%s: each range within maps what is there, each other is refused",
	   heap->name);

	char *last = map_at(fd, 1, PROT_READ | PROT_WRITE, SIZE - PAGE);

	ok(last != MAP_FAILED && is_filled_from(last, SIZE - PAGE, PAGE, 1),
	   "%s: one byte of the last page maps the last page", heap->name);
	munmap(last, PAGE);
	is_errno(map_at(fd, 1, PROT_READ, SIZE), EINVAL, "%s: nothing begins at the end",
		 heap->name);
	is_errno(map_at(fd, SIZE + 1, PROT_READ, 0), EINVAL,
		 "%s: one byte too many is refused", heap->name);
	is_errno(map_at(fd, PAGE, PROT_READ, 1ULL << 44), EINVAL,
		 "%s: offset 2^44 is refused", heap->name);
	ok(map_at(fd, PAGE, PROT_READ, LLONG_MAX & -PAGE) == MAP_FAILED &&
		   (errno == EINVAL || errno == EOVERFLOW),
	   "%s: the last offset there is is refused", heap->name);
	ok(map_at(fd, 2 * PAGE, PROT_READ, -PAGE) == MAP_FAILED &&
		   (errno == EINVAL || errno == EOVERFLOW),
	   "%s: an offset that wraps is refused", heap->name);
	is_errno(map_at(fd, PAGE, PROT_READ, 1), EINVAL,
		 "%s: half a page's offset is refused", heap->name);
	munmap(whole, SIZE);
	close(fd);
}

static void rights(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE);
	struct zcbuf_ioc_alloc arg = { .size = SIZE, .fd_flags = O_RDONLY };
	void *memory;

	is_errno(mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, fd, 0), EINVAL,
		 "%s: a private mapping is refused", heap->name);
	is_errno(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0), EINVAL,
		 "%s: a private writable mapping is refused", heap->name);
	is_errno(map_at(fd, SIZE, PROT_READ | PROT_EXEC, 0), EPERM,
		 "%s: an executable mapping is refused", heap->name);
	memory = must_map(fd, SIZE);
	is_errno(mprotect(memory, SIZE, PROT_READ | PROT_EXEC), EACCES,
		 "%s: a mapping cannot become executable", heap->name);
	ok(mprotect(memory, SIZE, PROT_NONE) == 0 && faults(memory, false),
	   "%s: mprotect() can take all rights", heap->name);
	ok(mprotect(memory, SIZE, PROT_READ) == 0 && !faults(memory, false) &&
		   faults(memory, true),
	   "%s: and give back that to read", heap->name);
	ok(mprotect(memory, SIZE, PROT_READ | PROT_WRITE) == 0 && !faults(memory, true),
	   "%s: and that to write", heap->name);
	munmap(memory, SIZE);
	memory = mmap(NULL, SIZE, PROT_NONE, MAP_SHARED, fd, 0);
	ok(memory != MAP_FAILED && mprotect(memory, SIZE, PROT_READ | PROT_WRITE) == 0 &&
		   is_filled(memory, 0, 0) && !faults(memory, true),
	   "%s: a mapping without rights can be given them", heap->name);
	munmap(memory, SIZE);
	memory = mmap(NULL, SIZE, PROT_READ, MAP_SHARED_VALIDATE, fd, 0);
	ok(memory != MAP_FAILED, "%s: MAP_SHARED_VALIDATE is as good", heap->name);
	munmap(memory, SIZE);
	close(fd);

	if (ioctl(heap->fd, ZCBUF_IOC_ALLOC, &arg))
		bail("no read-only buffer: %s", strerror(errno));
	memory = map_at(arg.fd, SIZE, PROT_READ, 0);
	ok(memory != MAP_FAILED && is_zero(memory, SIZE), "%s: a read-only fd maps to read",
	   heap->name);
	is_errno(mprotect(memory, SIZE, PROT_READ | PROT_WRITE), EACCES,
		 "%s: and cannot become writable", heap->name);
	is_errno(map(arg.fd, SIZE), EACCES, "%s: nor be mapped to write", heap->name);
	is_errno(mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, arg.fd, 0), EINVAL,
		 "%s: a private mapping of a read-only fd is refused", heap->name);
	munmap(memory, SIZE);
	close(arg.fd);

	arg = (struct zcbuf_ioc_alloc){ .size = SIZE, .fd_flags = O_WRONLY };
	if (ioctl(heap->fd, ZCBUF_IOC_ALLOC, &arg))
		bail("no write-only buffer: %s", strerror(errno));
	is_errno(map_at(arg.fd, SIZE, PROT_READ, 0), EACCES,
		 "%s: a write-only fd maps nothing to read", heap->name);
	is_errno(map_at(arg.fd, SIZE, PROT_WRITE, 0), EACCES,
		 "%s: nor to write, as all files", heap->name);
	close(arg.fd);
}

static void remaps(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE);
	char *memory = must_map(fd, SIZE), *moved, *room;

	fill(memory, SIZE, 2);
	ok(mremap(memory, SIZE, SIZE + PAGE, MREMAP_MAYMOVE) == MAP_FAILED,
	   "%s: a mapping cannot grow", heap->name);
	ok(mremap(memory, SIZE, 512 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED,
	   "%s: nor grow by far", heap->name);
	ok(mremap(memory, 0, SIZE, MREMAP_MAYMOVE) == MAP_FAILED,
	   "%s: nor be doubled by mremap() of nothing", heap->name);
	ok(mremap(memory, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP) == MAP_FAILED,
	   "%s: nor moved and left behind", heap->name);
	ok(is_filled(memory, SIZE, 2), "%s: and is as before", heap->name);

	char *part = map_at(fd, PAGE, PROT_READ, 0);

	ok(mremap(part, PAGE, 2 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED,
	   "%s: a mapping of a part cannot grow to the whole", heap->name);
	munmap(part, PAGE);

	room = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	moved = mremap(memory, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, room);
	ok(moved == room && is_filled(moved, SIZE, 2), "%s: it can move, with its contents",
	   heap->name);
	ok(info(fd).user_mappings == 1, "%s: and is still one mapping", heap->name);
	ok(mremap(moved, SIZE, 2 * PAGE, 0) == moved && is_filled(moved, 2 * PAGE, 2) &&
		   faults(moved + 2 * PAGE, false),
	   "%s: it can shrink", heap->name);
	munmap(moved, 2 * PAGE);
	close(fd);
}

static void holes(const struct heap *heap)
{
	struct held before = held(heap);
	int fd = must_alloc(heap, SIZE);
	char *memory = must_map(fd, SIZE);

	fill(memory, SIZE, 3);
	munmap(memory + 2 * PAGE, PAGE);
	ok(is_filled(memory, 2 * PAGE, 3) &&
		   is_filled_from(memory + 3 * PAGE, 3 * PAGE, 2 * PAGE, 3) &&
		   faults(memory + 2 * PAGE, false),
	   "%s: a page taken from the middle leaves both sides", heap->name);
	mmap(memory + PAGE, PAGE, PROT_READ | PROT_WRITE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	ok(is_zero(memory + PAGE, PAGE) && is_filled(memory, PAGE, 3),
	   "%s: another mapping can be put over a page", heap->name);
	mmap(memory + PAGE, 2 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, PAGE);
	ok(is_filled(memory, SIZE, 3), "%s: and the buffer over it again", heap->name);
	close(fd);
	ok(is_filled(memory, SIZE, 3), "%s: pieces live on without the fd", heap->name);
	munmap(memory, PAGE);
	munmap(memory + PAGE, 2 * PAGE);
	ok(heap_now(heap).used_buffers == before.buffers + 1,
	   "%s: the last piece holds the buffer", heap->name);
	munmap(memory + 3 * PAGE, 2 * PAGE);
	ok(held_as(heap, before), "%s: which goes with it", heap->name);
}

static void advice(const struct heap *heap)
{
	static const struct {
		const char *name;
		int advice;
	} harmless[] = {
		{ "MADV_DONTNEED", MADV_DONTNEED },
		{ "MADV_FREE", MADV_FREE },
		{ "MADV_REMOVE", MADV_REMOVE },
		{ "MADV_COLD", MADV_COLD },
		{ "MADV_PAGEOUT", MADV_PAGEOUT },
		{ "MADV_MERGEABLE", MADV_MERGEABLE },
		{ "MADV_HUGEPAGE", MADV_HUGEPAGE },
		{ "MADV_COLLAPSE", 25 },
		{ "MADV_POPULATE_READ", MADV_POPULATE_READ },
		{ "MADV_POPULATE_WRITE", MADV_POPULATE_WRITE },
	};
	size_t size = 4 * MiB + SIZE; /* large chunks and small ones */
	int fd = alloc(heap, size);
	char *memory;
	pid_t child;

	if (fd < 0)
		fd = must_alloc(heap, size = SIZE);
	memory = must_map(fd, size);
	for (size_t i = 0; i < sizeof(harmless) / sizeof(*harmless); i++) {
		fill(memory, size, i);
		madvise(memory, size, harmless[i].advice);
		ok(is_filled(memory, size, i), "%s: %s changes no contents", heap->name,
		   harmless[i].name);
		if (size > MiB)
			madvise(memory + MiB - PAGE, 2 * PAGE, harmless[i].advice);
		fill(memory, size, i + 100);
		ok(is_filled(memory, size, i + 100), "%s: nor after a part of it",
		   heap->name);
	}

	ok(madvise(memory, size, MADV_DONTFORK) == 0 && faults(memory, false) &&
		   faults(memory + size - 1, false),
	   "%s: a child need not have it", heap->name);
	child = fork();
	if (child == 0) {
		char *again = map(fd, size);

		_exit(again != MAP_FAILED && is_filled(again, size, 109) ? 0 : 1);
	}
	ok(end_of(child) == 0, "%s: but can map it again", heap->name);
	munmap(memory, size);
	close(fd);
}

/* The line of VmFlags in smaps for the mapping at MEMORY. */
static bool vm_flags(const void *memory, char *flags, size_t size)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	char line[512], start[32];
	bool here = false, found = false;

	snprintf(start, sizeof(start), "%lx-", (unsigned long)memory);
	while (!found && fgets(line, sizeof(line), smaps)) {
		if (strchr("0123456789abcdef", line[0]))
			here = !strncmp(line, start, strlen(start));
		found = here && !strncmp(line, "VmFlags:", 8);
	}
	snprintf(flags, size, "%s", found ? line + 8 : "");
	fclose(smaps);
	return found;
}

static void flags(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE);
	void *memory = must_map(fd, SIZE);
	char text[512];

	ok(vm_flags(memory, text, sizeof(text)), "%s: smaps knows the mapping", heap->name);
	ok(strstr(text, " dd"), "%s: it stays out of core dumps", heap->name);
	ok(strstr(text, " de"), "%s: it does not expand", heap->name);
	ok(!strstr(text, " me"), "%s: it may never be executed", heap->name);
	ok(strstr(text, " sh"), "%s: it is shared", heap->name);
	if (heap_can(heap, ZCBUF_HEAP_CAP_PIN))
		ok(!strstr(text, " io") && !strstr(text, " pf"),
		   "%s: its pages can be pinned", heap->name);
	is_errno(madvise(memory, SIZE, MADV_DODUMP), EINVAL,
		 "%s: nor can it be put into core dumps", heap->name);
	ok(mlock(memory, SIZE) == 0 && munlock(memory, SIZE) == 0,
	   "%s: mlock() does no harm", heap->name);
	munmap(memory, SIZE);

	mlockall(MCL_FUTURE);
	memory = map(fd, SIZE);
	ok(memory != MAP_FAILED && is_zero(memory, SIZE), "%s: nor does mlockall()",
	   heap->name);
	munlockall();
	munmap(memory, SIZE);
	memory = mmap(NULL, SIZE, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	ok(memory != MAP_FAILED && is_zero(memory, SIZE), "%s: nor MAP_POPULATE",
	   heap->name);
	munmap(memory, SIZE);
	close(fd);
}

/* A mapping of 2 MiB pages must hold at any alignment of address and offset. */
static void large(const struct heap *heap)
{
	size_t wish = 4 * MiB + 3 * PAGE, most = heap->is.max_size - PAGE;
	size_t size = wish < most ? wish : most;
	char *room = mmap(NULL, 8 * MiB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *aligned = room + (2 * MiB - (uintptr_t)room % (2 * MiB)) % (2 * MiB);
	int fd = alloc(heap, size);

	if (fd < 0) {
		skip("%s: no buffer of %zu bytes", heap->name, size);
		munmap(room, 8 * MiB);
		return;
	}
	for (size_t shift = 0; shift <= PAGE; shift += PAGE)
		for (size_t offset = 0; offset <= PAGE; offset += PAGE) {
			char *memory =
				mmap(aligned + shift, size - offset, PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_FIXED, fd, offset);

			ok(memory != MAP_FAILED,
			   "%s: address at page %zu, offset at page %zu", heap->name,
			   shift / PAGE, offset / PAGE);
			fill(memory, size - offset, 4 + offset / 8);
			ok(is_filled(memory, size - offset, 4 + offset / 8) &&
				   mprotect(memory + PAGE, PAGE, PROT_READ) == 0 &&
				   faults(memory + PAGE, true) &&
				   !faults(memory + 2 * PAGE, false),
			   "%s: holds, and one page of it can lose a right", heap->name);
			munmap(memory, 2 * MiB);
			ok(is_filled_from(memory + 2 * MiB, 2 * MiB,
					  size - offset - 2 * MiB, 4 + offset / 8),
			   "%s: and its first 2 MiB can go", heap->name);
			munmap(memory, size);
		}
	munmap(room, 8 * MiB);
	close(fd);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);

	ranges(heap);
	rights(heap);
	remaps(heap);
	holes(heap);
	advice(heap);
	flags(heap);
	large(heap);
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

int main(void)
{
	for_each_heap(test);
	return done_testing();
}
