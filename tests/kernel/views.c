// SPDX-License-Identifier: GPL-2.0-only
/*
 * A view is a dma-buf over a part of a buffer. It shows just that part, shares the memory,
 * lives by itself, and is never wider than what it was made of.
 */
#include <sys/resource.h>

#include "vgem.h"
#include "zc.h"

#define PAGES 6
#define SIZE  (PAGES * PAGE)

static void ranges(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE), wrong = 0;
	char *whole = must_map(fd, SIZE);

	fill(whole, SIZE, 1);
	for (size_t first = 0; first < PAGES; first++)
		for (size_t count = 0; first + count <= PAGES; count++) {
			size_t size = count ? count * PAGE : SIZE - first * PAGE;
			int part = view(fd, first * PAGE, count * PAGE, 0);
			char *memory = map(part, size);

			if (part < 0 || lseek(part, 0, SEEK_END) != (off_t)size ||
			    memory == MAP_FAILED ||
			    !is_filled_from(memory, first * PAGE, size, 1) ||
			    map(part, size + PAGE) != MAP_FAILED || errno != EINVAL ||
			    mmap(NULL, PAGE, PROT_READ, MAP_SHARED, part, size) !=
				    MAP_FAILED) {
				diag("pages %zu to %zu", first, first + count);
				wrong++;
			}
			munmap(memory, size);
			/* And pages within it. */
			memory = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, part, size - PAGE);
			if (!is_filled_from(memory, first * PAGE + size - PAGE, PAGE, 1))
				wrong++;
			munmap(memory, PAGE);
			close(part);
		}
	ok(!wrong, "%s: each view maps its own pages, and no other", heap->name);

	int part = view(fd, 2 * PAGE, 2 * PAGE, 0);
	char *memory = must_map(part, 2 * PAGE);

	fill(memory, 2 * PAGE, 2);
	ok(is_filled(whole + 2 * PAGE, 2 * PAGE, 2) && is_filled(whole, 2 * PAGE, 1) &&
		   is_filled_from(whole + 4 * PAGE, 4 * PAGE, 2 * PAGE, 1),
	   "%s: what is written through a view is in the buffer, at its place", heap->name);
	ok(mremap(memory, 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED,
	   "%s: a view's mapping cannot grow into the rest of the buffer", heap->name);
	if (heap_can(heap, ZCBUF_HEAP_CAP_PIN)) {
		madvise(memory, 2 * PAGE, MADV_DONTNEED);
		ok(is_filled(memory, 2 * PAGE, 2),
		   "%s: nor lose its place by MADV_DONTNEED", heap->name);
	}
	munmap(memory, 2 * PAGE);
	close(part);
	munmap(whole, SIZE);
	close(fd);
}

static void views_of_views(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE);
	int outer = view(fd, PAGE, 4 * PAGE, 0), inner = view(outer, PAGE, 2 * PAGE, 0);
	char *whole = must_map(fd, SIZE), *memory;

	fill(whole, SIZE, 3);
	memory = must_map(inner, 2 * PAGE);
	ok(is_filled_from(memory, 2 * PAGE, 2 * PAGE, 3),
	   "%s: a view of a view counts from there", heap->name);
	ok(info(inner).offset == 2 * PAGE && info(inner).views == 3,
	   "%s: and INFO from the buffer", heap->name);
	munmap(memory, 2 * PAGE);
	is_errno(view(inner, 0, 3 * PAGE, 0), EINVAL, "%s: it is never longer", heap->name);
	is_errno(view(inner, 2 * PAGE, PAGE, 0), EINVAL, "%s: and never further",
		 heap->name);
	is_errno(view(inner, -PAGE, 2 * PAGE, 0), EINVAL, "%s: nor further to the front",
		 heap->name);
	close(inner);
	close(outer);
	munmap(whole, SIZE);
	close(fd);
}

static void lifetimes(const struct heap *heap)
{
	struct held before = held(heap);
	int fd = must_alloc(heap, SIZE), part = view(fd, PAGE, PAGE, 0);
	char *memory = must_map(fd, SIZE);

	fill(memory, SIZE, 4);
	munmap(memory, SIZE);
	close(part);
	memory = must_map(fd, SIZE);
	ok(is_filled(memory, SIZE, 4), "%s: the buffer lives on when a view is closed",
	   heap->name);
	munmap(memory, SIZE);

	part = view(fd, PAGE, PAGE, 0);
	close(fd);
	memory = must_map(part, PAGE);
	ok(is_filled_from(memory, PAGE, PAGE, 4),
	   "%s: a view lives on when the buffer is closed", heap->name);
	ok(info(part).views == 1 && info(part).buffer_size == SIZE,
	   "%s: and with it the whole buffer", heap->name);
	close(part);
	ok(is_filled_from(memory, PAGE, PAGE, 4),
	   "%s: a view's mapping lives on without either", heap->name);
	munmap(memory, PAGE);
	ok(held_as(heap, before), "%s: the last of all frees the memory", heap->name);
}

static void other_processes(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE), sockets[2], part;
	char *memory = must_map(fd, SIZE);
	pid_t child;

	fill(memory, SIZE, 5);
	socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets);
	child = fork();
	if (child == 0) {
		int got, mine;
		char *there;

		close(fd);
		munmap(memory, SIZE);
		got = receive_fd(sockets[1]);
		there = map(got, 2 * PAGE);
		if (there == MAP_FAILED || !is_filled_from(there, PAGE, 2 * PAGE, 5))
			_exit(1);
		if (map(got, 3 * PAGE) != MAP_FAILED)
			_exit(2);
		fill(there, PAGE, 6);
		mine = view(got, PAGE, PAGE, ZCBUF_VIEW_READ_ONLY);
		_exit(mine >= 0 && send_fd(sockets[1], mine) ? 0 : 3);
	}
	part = view(fd, PAGE, 2 * PAGE, 0);
	send_fd(sockets[0], part);
	close(part);
	ok(end_of(child) == 0, "%s: another process gets a view, and no more than that",
	   heap->name);
	ok(is_filled(memory + PAGE, PAGE, 6), "%s: its writes are in the buffer",
	   heap->name);
	part = receive_fd(sockets[0]);
	ok(part >= 0 && info(part).offset == 2 * PAGE &&
		   info(part).buffer_id == info(fd).buffer_id,
	   "%s: and a view that it made comes back", heap->name);
	close(part);
	close(sockets[0]);
	close(sockets[1]);
	munmap(memory, SIZE);
	close(fd);
}

static void names(const struct heap *heap)
{
	struct zcbuf_ioc_alloc arg = { .size = SIZE, .fd_flags = O_RDWR, .name = "parent" };
	int part;

	if (ioctl(heap->fd, ZCBUF_IOC_ALLOC, &arg))
		bail("no buffer: %s", strerror(errno));
	part = view(arg.fd, 0, PAGE, 0);
	ok(ioctl(part, DMA_BUF_SET_NAME_A, "child") == 0 &&
		   !strcmp(info(part).name, "child") &&
		   !strcmp(info(arg.fd).name, "parent"),
	   "%s: a view can have its own name", heap->name);
	close(part);
	close(arg.fd);
}

static void devices(const struct heap *heap)
{
	int vgem = vgem_open(), fd = must_alloc(heap, SIZE), part = view(fd, PAGE, PAGE, 0);
	uint32_t whole, narrow;

	if (vgem < 0) {
		skip("%s: no vgem", heap->name);
		goto out;
	}
	whole = drm_import(vgem, fd);
	narrow = drm_import(vgem, part);
	ok(whole && narrow && whole != narrow, "%s: a device can have the whole and a view",
	   heap->name);
	ok(info(fd).attachments == 2 && info(part).attachments == 2,
	   "%s: both are attached to one buffer", heap->name);
	drm_forget(vgem, whole);
	drm_forget(vgem, narrow);
	ok(info(fd).attachments == 0, "%s: and are not when it lets go", heap->name);
	close(vgem);
out:
	close(part);
	close(fd);
}

static void ten_thousand(const struct heap *heap)
{
	enum { ROUNDS = 10, EACH = 1000 };
	struct rlimit many = { .rlim_cur = EACH + 100, .rlim_max = EACH + 100 };
	struct held before = held(heap);
	int fd = must_alloc(heap, SIZE), failed = 0;
	static int views[EACH];

	setrlimit(RLIMIT_NOFILE, &many);

	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < EACH; i++) {
			/* Each of the one before, or of the buffer. */
			int parent = i % 7 ? views[i - 1] : fd;

			views[i] = view(parent, 0, 0, i % 5 ? 0 : ZCBUF_VIEW_READ_ONLY);
			failed += views[i] < 0;
		}
		if (round == 0)
			ok(info(fd).views == EACH + 1, "%s: INFO counts %d views",
			   heap->name, EACH + 1);
		for (int i = 0; i < EACH; i++)
			close(views[round % 2 ? EACH - 1 - i : i]);
	}
	ok(failed == 0, "%s: 10,000 views can be made", heap->name);
	ok(info(fd).views == 1, "%s: and go", heap->name);
	close(fd);
	ok(held_as(heap, before), "%s: and leave nothing", heap->name);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);

	ranges(heap);
	views_of_views(heap);
	lifetimes(heap);
	other_processes(heap);
	names(heap);
	if (heap_has_pages(heap))
		devices(heap);
	ten_thousand(heap);
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

int main(void)
{
	for_each_heap(test);
	return done_testing();
}
