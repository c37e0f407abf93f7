// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where address, offset and chunk let it, one page table entry maps 2 MiB of a buffer. Its pages
 * can still be pinned, and all that user space can do to a mapping leaves the memory as it was.
 */
#include <sys/klog.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include "huge.h"

static void touch(void *memory, size_t size)
{
	for (size_t i = 0; i < size; i += PAGE)
		((volatile char *)memory)[i] = 0;
}

static long faults_so_far(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt + usage.ru_majflt;
}

/* Has the kernel found its counters wrong when a process ended? */
static bool counters_right(void)
{
	static char log[1 << 20];
	int length = klogctl(3, log, sizeof(log) - 1);

	log[length > 0 ? length : 0] = 0;
	return !strstr(log, "Bad rss-counter") && !strstr(log, "Bad page");
}

/* What TEST does in a process of its own, which has all its counters checked at its end. */
static bool in_child(bool (*test)(int fd, size_t size), int fd, size_t size)
{
	pid_t child = fork();

	if (child == 0)
		_exit(test(fd, size) ? 0 : 1);
	return end_of(child) == 0 && counters_right();
}

/* Up to a 32nd more, if that makes whole large pages. */
static void grows(const struct heap *heap)
{
	static const struct {
		size_t asked, had;
	} sizes[] = {
		{ PAGE, PAGE },
		{ HUGE - 16 * PAGE, HUGE - 16 * PAGE },
		{ HUGE - 15 * PAGE, HUGE },
		{ HUGE - PAGE + 1, HUGE },
		{ HUGE, HUGE },
		{ HUGE + 1, HUGE + PAGE },
		{ 3110400 /* 1080p, NV12 */, 3112960 },
		{ 8294400 /* 1080p, RGBA */, 4 * HUGE },
		{ FRAME, 6 * HUGE },
		{ 30 * HUGE + 16 * PAGE, 30 * HUGE + 16 * PAGE },
		{ 30 * HUGE + 31 * 16 * PAGE, 31 * HUGE },
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		struct zcbuf_ioc_alloc arg = { .size = sizes[i].asked, .fd_flags = O_RDWR };
		struct dma_heap_allocation_data mainline = { .len = sizes[i].asked,
							     .fd_flags = O_RDWR };
		size_t exact = (sizes[i].asked + PAGE - 1) / PAGE * PAGE;
		char *memory;

		if (ioctl(heap->fd, ZCBUF_IOC_ALLOC, &arg) ||
		    ioctl(heap->fd, DMA_HEAP_IOCTL_ALLOC, &mainline))
			bail("%s: no buffer of %zu bytes", heap->name, sizes[i].asked);
		ok(arg.size == sizes[i].had && info(arg.fd).size == arg.size &&
			   lseek(arg.fd, 0, SEEK_END) == (off_t)arg.size,
		   "%s: %zu bytes become %zu", heap->name, sizes[i].asked, sizes[i].had);
		memory = must_map(arg.fd, arg.size);
		ok(is_zero(memory, arg.size), "%s: all of them zero", heap->name);
		munmap(memory, arg.size);
		ok(info(mainline.fd).size == exact &&
			   info(mainline.fd).buffer_size == sizes[i].had &&
			   lseek(mainline.fd, 0, SEEK_END) == (off_t)exact,
		   "%s: who asks as mainline is asked sees whole pages only", heap->name);
		is_errno(map(mainline.fd, exact + PAGE), EINVAL,
			 "%s: and reaches nothing behind them", heap->name);
		close(arg.fd);
		close(mainline.fd);
	}
}

static void few_faults(const struct heap *heap)
{
	int fd = must_alloc(heap, FRAME);
	long before = faults_so_far(), faults;
	char *memory = map_huge(fd, 6 * HUGE);

	touch(memory, FRAME);
	faults = faults_so_far() - before;
	ok(faults <= 7, "%s: a frame of %zu bytes is mapped and touched with 7 faults",
	   heap->name, FRAME);
	diag("%s: %ld faults, %lld KiB in large entries", heap->name, faults,
	     huge_kib(memory, 6 * HUGE));
	ok(huge_kib(memory, 6 * HUGE) == 6 * 2048, "%s: of which six bring 2 MiB each",
	   heap->name);
	munmap(memory, 6 * HUGE);

	before = faults_so_far();
	memory = map_huge(fd, FRAME);
	touch(memory, FRAME);
	faults = faults_so_far() - before;
	ok(faults <= 7 && huge_kib(memory, FRAME) == 5 * 2048,
	   "%s: and when only that much of it is mapped", heap->name);
	munmap(memory, FRAME);

	before = faults_so_far();
	memory = map_near(fd, FRAME, 0, PROT_READ | PROT_WRITE, PAGE);
	touch(memory, FRAME);
	faults = faults_so_far() - before;
	ok(faults <= 7, "%s: not many more where the address lets no large entry be",
	   heap->name);
	munmap(memory, FRAME);
	close(fd);
}

/* Which large pages were had is chance, but not what is in them. */
static void places(const struct heap *heap)
{
	static const size_t sizes[] = { HUGE, HUGE - PAGE, HUGE + PAGE,
					2 * HUGE + 3 * 64 * 1024 + 3 * PAGE, 3 * HUGE };
	static const size_t shifts[] = { 0, PAGE, HUGE - PAGE };
	int wrong = 0;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		size_t size = sizes[i];
		int fd = must_alloc(heap, size);
		char *whole = map_huge(fd, size);

		fill(whole, size, i);
		for (size_t shift = 0; shift < 3; shift++)
			for (size_t offset = 0; offset < size; offset += HUGE - PAGE) {
				size_t rest = size - offset;
				char *part =
					map_near(fd, rest, offset, PROT_READ | PROT_WRITE,
						 shifts[shift]);

				wrong += !is_filled_from(part, offset, rest, i);
				fill(part, rest, i + offset / 8 + 1);
				wrong += !is_filled_from(whole + offset, 0, rest,
							 i + offset / 8 + 1);
				fill(whole, size, i);
				munmap(part, rest);
			}
		munmap(whole, size);
		close(fd);
	}
	ok(!wrong, "%s: each part of each size, at each address, shows what it should",
	   heap->name);
}

static bool split_by_mprotect(int fd, size_t size)
{
	char *memory = map_huge(fd, size), *page = memory + HUGE / 2;

	fill(memory, size, 1);
	return mprotect(page, PAGE, PROT_READ) == 0 && is_filled(memory, size, 1) &&
	       faults(page, true) && !faults(page - PAGE, true) &&
	       !faults(page + PAGE, true) &&
	       mprotect(page, PAGE, PROT_READ | PROT_WRITE) == 0 && !faults(page, true);
}

static bool split_by_munmap(int fd, size_t size)
{
	char *memory = map_huge(fd, size), *page = memory + HUGE / 2;

	fill(memory, size, 2);
	return munmap(page, PAGE) == 0 && faults(page, false) &&
	       is_filled(memory, HUGE / 2, 2) &&
	       is_filled_from(page + PAGE, HUGE / 2 + PAGE, size - HUGE / 2 - PAGE, 2);
}

static bool moved_by_mremap(int fd, size_t size)
{
	char *memory = map_huge(fd, size);
	char *room =
		mmap(NULL, size + 2 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *aligned = room + (HUGE - (uintptr_t)room % HUGE) % HUGE;
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;

	fill(memory, size, 3);
	return mremap(memory, size, size, flags, aligned + PAGE) == aligned + PAGE &&
	       is_filled(aligned + PAGE, size, 3) &&
	       mremap(aligned + PAGE, size, size, flags, memory) == memory &&
	       is_filled(memory, size, 3) &&
	       mremap(memory, size, size, flags, aligned) == aligned &&
	       is_filled(aligned, size, 3) &&
	       mremap(aligned, size, HUGE + PAGE, 0) == aligned &&
	       is_filled(aligned, HUGE + PAGE, 3) && faults(aligned + HUGE + PAGE, false);
}

static bool thrown_away(int fd, size_t size)
{
	char *memory = map_huge(fd, size);

	fill(memory, size, 4);
	return madvise(memory, size, MADV_DONTNEED) == 0 && is_filled(memory, size, 4) &&
	       madvise(memory + HUGE / 2, PAGE, MADV_DONTNEED) == 0 &&
	       is_filled(memory, size, 4) &&
	       madvise(memory + HUGE - PAGE, 2 * PAGE, MADV_DONTNEED) == 0 &&
	       is_filled(memory, size, 4);
}

static bool forked(int fd, size_t size)
{
	char *memory = map_huge(fd, size);
	pid_t child;

	fill(memory, size, 5);
	child = fork();
	if (child == 0) {
		bool same = is_filled(memory, size, 5);

		fill(memory, size, 6);
		_exit(same ? 0 : 1);
	}
	return end_of(child) == 0 && is_filled(memory, size, 6);
}

static bool read_only(int fd, size_t size)
{
	int read_fd = view(fd, 0, 0, ZCBUF_VIEW_READ_ONLY);
	char *memory = map_huge(fd, size);
	char *other = map_near(read_fd, size, 0, PROT_READ, 0);
	char *later = map_near(fd, size, 0, PROT_READ, 0);
	bool right;

	fill(memory, size, 7);
	right = is_filled(other, size, 7) && faults(other, true) &&
		mprotect(other, size, PROT_READ | PROT_WRITE) == -1 && errno == EACCES;
	right = is_filled(later, size, 7) && faults(later + size - 1, true) && right;
	right = mprotect(later, size, PROT_READ | PROT_WRITE) == 0 && right;
	fill(later, size, 8);
	return is_filled(other, size, 8) && is_filled(memory, size, 8) && right;
}

static bool by_debuggers(int fd, size_t size)
{
	char *memory = map_huge(fd, size), *copy = malloc(size);
	struct iovec local = { .iov_base = copy, .iov_len = size };
	struct iovec remote = { .iov_base = memory, .iov_len = size };
	int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	bool right;

	fill(memory, size, 9);
	right = process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)size &&
		is_filled(copy, size, 9);
	memset(copy, 0, size);
	right = pread(mem, copy, size, (off_t)(uintptr_t)memory) == (ssize_t)size &&
		is_filled(copy, size, 9) && right;
	fill(copy, size, 10);
	right = process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)size &&
		is_filled(memory, size, 10) && right;
	fill(copy, size, 11);
	return pwrite(mem, copy, size, (off_t)(uintptr_t)memory) == (ssize_t)size &&
	       is_filled(memory, size, 11) && right;
}

static bool directly_to_disk(int fd, size_t size)
{
	char path[] = "/mnt/scratch/zcbuf-XXXXXX", *memory = map_huge(fd, size);
	int file = mkostemp(path, O_DIRECT | O_CLOEXEC);
	bool right;

	unlink(path);
	fill(memory, size, 12);
	right = pwrite(file, memory, size, 0) == (ssize_t)size;
	memset(memory, 0, size);
	right = pread(file, memory, size, 0) == (ssize_t)size &&
		is_filled(memory, size, 12) && right;
	/* Not touched before: the pin brings the pages in. */
	munmap(memory, size);
	memory = map_huge(fd, size);
	return pread(file, memory, size, 0) == (ssize_t)size &&
	       is_filled(memory, size, 12) && right;
}

static bool without_large_pages(int fd, size_t size)
{
	long before;
	char *memory;

	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	before = faults_so_far();
	memory = map_huge(fd, size);
	touch(memory, size);
	if (faults_so_far() - before > 16)
		diag("%ld faults", faults_so_far() - before);
	fill(memory, size, 13);
	return faults_so_far() - before <= 16 && is_filled(memory, size, 13);
}

/* The first fault of each 2 MiB reads, of another thread or process the next one writes. */
static bool read_then_written(int fd, size_t size)
{
	char *memory = map_huge(fd, size);
	volatile char sum = 0;

	for (size_t i = 0; i < size; i += PAGE)
		sum += memory[i];
	fill(memory, size, 14);
	return is_filled(memory, size, 14);
}

static bool locked_and_populated(int fd, size_t size)
{
	char *memory;
	bool right;

	mlockall(MCL_CURRENT | MCL_FUTURE);
	memory = map_huge(fd, size);
	fill(memory, size, 15);
	right = is_filled(memory, size, 15);
	munlockall();
	munmap(memory, size);
	memory = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	return memory != MAP_FAILED && is_filled(memory, size, 15) && right;
}

static void all_that_is_done(const struct heap *heap)
{
	static const struct {
		const char *name;
		bool (*test)(int fd, size_t size);
	} tests[] = {
		{ "a page in the middle loses a right and gets it back",
		  split_by_mprotect },
		{ "a page in the middle goes", split_by_munmap },
		{ "a mapping moves and shrinks", moved_by_mremap },
		{ "MADV_DONTNEED of all and of parts", thrown_away },
		{ "a child has what its parent wrote, and the other way round", forked },
		{ "read-only mappings stay so", read_only },
		{ "process_vm_readv() and /proc/PID/mem read and write", by_debuggers },
		{ "O_DIRECT writes and reads", directly_to_disk },
		{ "a process that has switched large pages off", without_large_pages },
		{ "what was read first can be written then", read_then_written },
		{ "mlockall() and MAP_POPULATE", locked_and_populated },
	};
	static const size_t sizes[] = { 2 * HUGE, FRAME };

	for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++)
		for (size_t j = 0; j < 2; j++) {
			int fd = must_alloc(heap, sizes[j]);

			ok(in_child(tests[i].test, fd, sizes[j]), "%s: %s (%zu bytes)",
			   heap->name, tests[i].name, sizes[j]);
			close(fd);
		}
}

static void by_the_heap_node(const struct heap *heap)
{
	struct zcbuf_ioc_alloc arg = { .size = 2 * HUGE, .fd_flags = O_RDWR | O_CLOEXEC };
	char *memory, *other;
	long before;

	if (ioctl(heap->fd, ZCBUF_IOC_ALLOC, &arg))
		bail("no buffer: %s", strerror(errno));
	before = faults_so_far();
	memory = map_near(heap->fd, 2 * HUGE, arg.mmap_offset, PROT_READ | PROT_WRITE, 0);
	fill(memory, 2 * HUGE, 16);
	ok(faults_so_far() - before <= 4,
	   "%s: a mapping by the heap's node has few faults, too", heap->name);
	other = map_huge(arg.fd, 2 * HUGE);
	ok(is_filled(other, 2 * HUGE, 16), "%s: and shows the same as one by the dma-buf",
	   heap->name);
	munmap(memory, 2 * HUGE);
	munmap(other, 2 * HUGE);
	close(arg.fd);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);
	int fd;

	if (heap->is.kind != ZCBUF_HEAP_SYSTEM)
		return;
	fd = must_alloc(heap, FRAME);
	if (info(fd).max_chunk < HUGE ||
	    access("/sys/kernel/mm/transparent_hugepage", F_OK)) {
		skip("%s: no large pages here", heap->name);
		close(fd);
		return;
	}
	close(fd);
	grows(heap);
	few_faults(heap);
	places(heap);
	all_that_is_done(heap);
	by_the_heap_node(heap);
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

int main(void)
{
	for_each_heap(test);
	return done_testing();
}
