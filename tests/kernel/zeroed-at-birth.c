// SPDX-License-Identifier: GPL-2.0-only
/*
 * No byte of an earlier owner is ever seen: a buffer of any size is zero when it is born,
 * though all memory around has been full of ones a moment before.
 */
#include "zc.h"

/* Fill a lot of the kernel's free memory, and of the heap's own, with ones. */
static void dirty(const struct heap *heap, size_t bytes)
{
	size_t done = 0, part = 4 * MiB;
	void *memory;

	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	memset(memory, 0xff, bytes);
	munmap(memory, bytes);

	int fds[64], count = 0;

	while (done < bytes && count < 64) {
		size_t size = part >> count % 11; /* 4 MiB to 4 KiB: each order of chunks */

		fds[count] = alloc(heap, size);
		if (fds[count] < 0)
			break;
		memory = must_map(fds[count++], size);
		memset(memory, 0xff, size);
		munmap(memory, size);
		done += size;
	}
	while (count)
		close(fds[--count]);
}

static bool born_zero(const struct heap *heap, size_t size)
{
	int fd = alloc(heap, size);
	size_t whole = (size + PAGE - 1) / PAGE * PAGE;
	void *memory;
	bool zero;

	if (fd < 0 && errno == ENOMEM && size > MiB)
		return true; /* a small heap, or a fragmented one */
	if (fd < 0)
		return false;
	memory = must_map(fd, whole);
	zero = is_zero(memory, whole);
	memset(memory, 0xff, whole);
	munmap(memory, whole);
	close(fd);
	return zero;
}

static void test(const struct heap *heap)
{
	dirty(heap, 48 * MiB);
	for (size_t size = PAGE; size <= 8 * MiB; size *= 2) {
		bool zero = true;

		for (int again = 0; again < 3; again++)
			zero = born_zero(heap, size) && zero;
		ok(zero, "%s: %zu bytes are zero at birth", heap->name, size);
	}

	static const size_t odd[] = {
		1,
		3 * PAGE,
		15 * PAGE,
		17 * PAGE,
		MiB - PAGE,
		MiB + 1,
		2 * MiB + 65536 + PAGE,
		3 * MiB - 1,
	};

	dirty(heap, 16 * MiB);
	for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++)
		ok(born_zero(heap, odd[i]),
		   "%s: %zu bytes are zero at birth, to the end of the page", heap->name,
		   odd[i]);

	/* Many at once, so that they cannot all be the same memory. */
	int fds[32];
	bool zero = true;

	dirty(heap, 16 * MiB);
	for (int i = 0; i < 32; i++) {
		void *memory;

		fds[i] = must_alloc(heap, 17 * PAGE);
		memory = must_map(fds[i], 17 * PAGE);
		zero = is_zero(memory, 17 * PAGE) && zero;
		munmap(memory, 17 * PAGE);
	}
	ok(zero, "%s: 32 living buffers are zero", heap->name);
	for (int i = 0; i < 32; i++)
		close(fds[i]);
}

/* With init_on_alloc the kernel zeroes each page by itself, and nothing here can fail. */
static void say_if_blind(void)
{
	char line[4096];

	read_file("/proc/cmdline", line, sizeof(line));
	if (!strstr(line, "init_on_alloc=0"))
		diag("the kernel may be zeroing by itself: boot it with init_on_alloc=0");
}

int main(void)
{
	say_if_blind();
	for_each_heap(test);
	return done_testing();
}
