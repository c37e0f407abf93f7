// SPDX-License-Identifier: GPL-2.0-only
/* ZCBUF_IOC_ALLOC: what it takes, what it gives, and each way it refuses. */
#include "zc.h"

static int alloc_arg(const struct heap *heap, struct zcbuf_ioc_alloc *arg)
{
	return ioctl(heap->fd, ZCBUF_IOC_ALLOC, arg);
}

static void sizes(const struct heap *heap)
{
	static const struct {
		uint64_t asked, given;
	} good[] = {
		{ 1, PAGE },
		{ PAGE - 1, PAGE },
		{ PAGE, PAGE },
		{ PAGE + 1, 2 * PAGE },
		{ 12 * PAGE, 12 * PAGE },
		{ MiB - 1, MiB },
	};
	static const struct {
		uint64_t size, alignment;
		int error;
	} bad[] = {
		{ 0, 0, EINVAL },
		{ ~0ULL, 0, EINVAL },
		{ ~0ULL - PAGE + 2, 0, EINVAL },
		{ ~0ULL - PAGE + 1, 0, ENOMEM },
		{ ~0ULL - PAGE + 1, 2 * PAGE, EINVAL },
		{ 1ULL << 63, 0, ENOMEM },
		{ 1ULL << 44, 0, ENOMEM },
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		struct zcbuf_ioc_alloc arg = { .size = good[i].asked, .fd_flags = O_RDWR };

		if (!ok(alloc_arg(heap, &arg) == 0, "%s: %llu bytes can be had", heap->name,
			(unsigned long long)good[i].asked))
			continue;
		ok(arg.size == good[i].given, "%s: %llu bytes are rounded up to %llu",
		   heap->name, (unsigned long long)good[i].asked,
		   (unsigned long long)good[i].given);
		ok(lseek(arg.fd, 0, SEEK_END) == (off_t)good[i].given,
		   "%s: lseek() to the end tells the size", heap->name);
		close(arg.fd);
	}

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct zcbuf_ioc_alloc arg = {
			.size = bad[i].size,
			.alignment = bad[i].alignment,
			.fd_flags = O_RDWR,
			.fd = -7,
		};
		struct zcbuf_ioc_alloc same = arg;

		is_errno(alloc_arg(heap, &arg), bad[i].error,
			 "%s: %#llx bytes, aligned to %llu, are refused", heap->name,
			 (unsigned long long)bad[i].size,
			 (unsigned long long)bad[i].alignment);
		ok(!memcmp(&arg, &same, sizeof(arg)), "%s: and the argument is left alone",
		   heap->name);
	}

	struct zcbuf_ioc_alloc more = { .size = heap->is.max_size + 1, .fd_flags = O_RDWR };

	is_errno(alloc_arg(heap, &more), ENOMEM,
		 "%s: one byte more than max_size is refused", heap->name);
	more.size = 1ULL << 32;
	if (heap->is.max_size < more.size)
		is_errno(alloc_arg(heap, &more), ENOMEM, "%s: 2^32 bytes are refused",
			 heap->name);
	else
		skip("%s: max_size is more than 2^32 bytes", heap->name);
}

static void flags(const struct heap *heap)
{
	int refused = 0;

	for (int bit = 2; bit < 64; bit++) {
		struct zcbuf_ioc_alloc arg = { .size = PAGE,
					       .flags = 1ULL << bit,
					       .fd_flags = O_RDWR };

		refused += alloc_arg(heap, &arg) == -1 && errno == EINVAL;
	}
	ok(refused == 62, "%s: each unknown flag is refused", heap->name);

	struct zcbuf_ioc_alloc recycle = { .size = PAGE,
					   .flags = ZCBUF_ALLOC_RECYCLE,
					   .fd_flags = O_RDWR };

	if (ok(alloc_arg(heap, &recycle) == 0, "%s: RECYCLE is taken", heap->name)) {
		ok(info(recycle.fd).alloc_flags == ZCBUF_ALLOC_RECYCLE,
		   "%s: and INFO tells of it", heap->name);
		close(recycle.fd);
	}

	struct zcbuf_ioc_alloc dma32 = { .size = PAGE,
					 .flags = ZCBUF_ALLOC_DMA32,
					 .fd_flags = O_RDWR };

	if (!heap_can(heap, ZCBUF_HEAP_CAP_DMA32)) {
		is_errno(alloc_arg(heap, &dma32), EINVAL,
			 "%s: DMA32 is refused where it is not understood", heap->name);
	} else if (ok(alloc_arg(heap, &dma32) == 0, "%s: DMA32 is taken", heap->name)) {
		ok(info(dma32.fd).alloc_flags == ZCBUF_ALLOC_DMA32,
		   "%s: and INFO tells of it", heap->name);
		close(dma32.fd);
	}
}

static void fd_flags(const struct heap *heap)
{
	static const struct {
		const char *name;
		uint32_t flags;
	} good[] = {
		{ "O_RDONLY", O_RDONLY },
		{ "O_WRONLY", O_WRONLY },
		{ "O_RDWR", O_RDWR },
		{ "O_RDWR | O_CLOEXEC", O_RDWR | O_CLOEXEC },
	};
	static const uint32_t bad[] = {
		O_ACCMODE,
		O_RDWR | O_NONBLOCK,
		O_RDWR | O_APPEND,
		O_RDWR | O_CREAT,
		O_RDWR | O_PATH,
		O_RDWR | 1u << 31,
		~0u,
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		struct zcbuf_ioc_alloc arg = { .size = PAGE, .fd_flags = good[i].flags };

		if (!ok(alloc_arg(heap, &arg) == 0, "%s: fd_flags may be %s", heap->name,
			good[i].name))
			continue;
		ok((uint32_t)(fcntl(arg.fd, F_GETFL) & O_ACCMODE) ==
			   (good[i].flags & O_ACCMODE),
		   "%s: and the fd is %s", heap->name, good[i].name);
		ok(!!(fcntl(arg.fd, F_GETFD) & FD_CLOEXEC) == !!(good[i].flags & O_CLOEXEC),
		   "%s: and close-on-exec is as asked for %s", heap->name, good[i].name);
		close(arg.fd);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct zcbuf_ioc_alloc arg = { .size = PAGE, .fd_flags = bad[i] };

		is_errno(alloc_arg(heap, &arg), EINVAL, "%s: fd_flags %#x are refused",
			 heap->name, bad[i]);
	}
}

/* The physical address behind a page of ours, or 0; only root may ask. */
static uint64_t physical(const void *page)
{
	uint64_t entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (pread(fd, &entry, 8, (uintptr_t)page / PAGE * 8) != 8)
		entry = 0;
	close(fd);
	return entry >> 63 ? (entry & ((1ULL << 55) - 1)) * PAGE : 0;
}

static void alignments(const struct heap *heap)
{
	uint64_t limit = heap->is.max_alignment;

	ok(limit >= PAGE && !(limit & (limit - 1)), "%s: max_alignment is a power of two",
	   heap->name);
	for (uint64_t asked = 1; asked && asked <= limit && asked <= 4 * MiB; asked *= 8) {
		uint64_t pages = asked < PAGE ? PAGE : asked;
		uint64_t size = 3 * pages <= heap->is.max_size ? 2 * pages + 1 : 1;
		struct zcbuf_ioc_alloc arg = { .size = size,
					       .alignment = asked,
					       .fd_flags = O_RDWR };
		struct zcbuf_ioc_info about;
		bool aligned = true;
		char *memory;

		if (!ok(alloc_arg(heap, &arg) == 0, "%s: alignment %llu can be had",
			heap->name, (unsigned long long)asked))
			continue;
		ok(arg.size == (size + pages - 1) / pages * pages,
		   "%s: the size is rounded up to alignment %llu", heap->name,
		   (unsigned long long)asked);
		about = info(arg.fd);
		ok(about.alignment >= asked && about.min_chunk % pages == 0,
		   "%s: INFO tells of alignment %llu", heap->name,
		   (unsigned long long)asked);

		/* The kernel tells the addresses only of pages that can be pinned. */
		memory = must_map(arg.fd, arg.size);
		for (uint64_t at = 0; at < arg.size; at += pages) {
			volatile char touch = memory[at];

			(void)touch;
			if (!physical(memory + at) || physical(memory + at) % pages)
				aligned = false;
		}
		if (heap_can(heap, ZCBUF_HEAP_CAP_PIN))
			ok(aligned, "%s: the memory is aligned to %llu", heap->name,
			   (unsigned long long)asked);
		munmap(memory, arg.size);
		close(arg.fd);
	}

	static const uint64_t bad[] = { 3, PAGE + 1, 3 * PAGE, ~0ULL };

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct zcbuf_ioc_alloc arg = { .size = PAGE,
					       .alignment = bad[i],
					       .fd_flags = O_RDWR };

		is_errno(alloc_arg(heap, &arg), EINVAL,
			 "%s: alignment %#llx, no power of two, is refused", heap->name,
			 (unsigned long long)bad[i]);
	}

	struct zcbuf_ioc_alloc more = { .size = PAGE,
					.alignment = limit * 2,
					.fd_flags = O_RDWR };

	if (more.alignment)
		is_errno(alloc_arg(heap, &more), EINVAL,
			 "%s: more than max_alignment is refused", heap->name);
	more.alignment = 1ULL << 63;
	is_errno(alloc_arg(heap, &more), EINVAL, "%s: alignment 2^63 is refused",
		 heap->name);
}

static bool name_refused(const struct heap *heap, const char *name, size_t length)
{
	struct zcbuf_ioc_alloc arg = { .size = PAGE, .fd_flags = O_RDWR };

	memcpy(arg.name, name, length);
	errno = 0;
	return alloc_arg(heap, &arg) == -1 && errno == EINVAL;
}

static void names(const struct heap *heap)
{
	static const char *const good[] = {
		"frame",
		"a name of 31 bytes, the longest",
		"Größe",
		"",
	};
	char full[ZCBUF_NAME_LEN];

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		struct zcbuf_ioc_alloc arg = { .size = PAGE, .fd_flags = O_RDWR };
		char link[64], path[32] = "";

		strcpy(arg.name, good[i]);
		if (!ok(alloc_arg(heap, &arg) == 0, "%s: a buffer may be called '%s'",
			heap->name, good[i]))
			continue;
		ok(!strcmp(info(arg.fd).name, good[i]), "%s: INFO tells the name '%s'",
		   heap->name, good[i]);
		ok(!strcmp(fdinfo(arg.fd, "name"), good[i]),
		   "%s: fdinfo tells the name '%s'", heap->name, good[i]);
		snprintf(link, sizeof(link), "/proc/self/fd/%d", arg.fd);
		if (readlink(link, path, sizeof(path) - 1) < 0)
			path[0] = 0;
		ok(!strncmp(path, "/dmabuf:", 8) &&
			   !strncmp(path + 8, good[i], strlen(path + 8)),
		   "%s: /proc/self/fd shows the name '%s'", heap->name, good[i]);
		close(arg.fd);
	}

	struct zcbuf_ioc_alloc arg = { .size = PAGE, .fd_flags = O_RDWR, .name = "before" };

	ok(alloc_arg(heap, &arg) == 0 && ioctl(arg.fd, DMA_BUF_SET_NAME_A, "after") == 0 &&
		   !strcmp(info(arg.fd).name, "after") &&
		   !strcmp(fdinfo(arg.fd, "name"), "after"),
	   "%s: DMA_BUF_SET_NAME gives a new name", heap->name);
	close(arg.fd);

	memset(full, 'x', sizeof(full));
	ok(name_refused(heap, full, sizeof(full)), "%s: a name without an end is refused",
	   heap->name);
	ok(name_refused(heap, "line\nline", 9), "%s: a line break in a name is refused",
	   heap->name);
	ok(name_refused(heap, "\033[2J", 4), "%s: an escape in a name is refused",
	   heap->name);
	ok(name_refused(heap, "\x7f", 1), "%s: a delete in a name is refused", heap->name);
	ok(name_refused(heap, "\t", 1), "%s: a tabulator in a name is refused", heap->name);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);

	sizes(heap);
	flags(heap);
	fd_flags(heap);
	alignments(heap);
	names(heap);
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

int main(void)
{
	for_each_heap(test);
	return done_testing();
}
