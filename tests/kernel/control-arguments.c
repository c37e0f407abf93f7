// SPDX-License-Identifier: GPL-2.0-only
/* The ioctls of /dev/zcbuf: HEAPS, VIEW, SYNC and INFO, and each way they refuse. */
#include <linux/udmabuf.h>
#include <sys/eventfd.h>

#include "vgem.h"
#include "zc.h"

static void heaps(const struct heap *heap)
{
	struct zcbuf_ioc_heap now = heap_now(heap), arg = { .index = ~0u };
	struct stat node;
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/dev/dma_heap/%s", now.name);
	ok(stat(path, &node) == 0 && S_ISCHR(node.st_mode), "%s: its node is %s",
	   heap->name, path);
	ok(now.kind >= ZCBUF_HEAP_SYSTEM && now.kind <= ZCBUF_HEAP_CARVEOUT,
	   "%s: its kind is known", heap->name);
	ok(now.cache_mode >= ZCBUF_CACHED && now.cache_mode <= ZCBUF_UNCACHED,
	   "%s: its cache mode is known", heap->name);
	ok(now.max_size >= PAGE && now.max_size % PAGE == 0, "%s: max_size is whole pages",
	   heap->name);
	ok(now.reserved == 0, "%s: reserved is zero", heap->name);

	fd = must_alloc(heap, 3 * PAGE);
	ok(heap_now(heap).used_buffers == now.used_buffers + 1,
	   "%s: a buffer more is in use", heap->name);
	ok(heap_now(heap).used_bytes == now.used_bytes + 3 * PAGE,
	   "%s: its bytes are in use", heap->name);
	close(fd);
	ok(heap_now(heap).used_buffers == now.used_buffers &&
		   heap_now(heap).used_bytes == now.used_bytes,
	   "%s: and are not when it is freed", heap->name);

	is_errno(ioctl(control(), ZCBUF_IOC_HEAPS, &arg), ENOENT,
		 "%s: there is no heap 2^32 - 1", heap->name);
	arg = (struct zcbuf_ioc_heap){ .index = heap->is.index, .reserved = 1 };
	is_errno(ioctl(control(), ZCBUF_IOC_HEAPS, &arg), EINVAL,
		 "%s: HEAPS refuses what is reserved", heap->name);
}

/* Each node that looks like ours is in the list. */
static void nodes_are_listed(void)
{
	DIR *dir = opendir("/dev/dma_heap");
	struct dirent *entry;
	int nodes = 0, listed = 0;

	while (dir && (entry = readdir(dir)))
		nodes += !strncmp(entry->d_name, "zcbuf-", 6);
	closedir(dir);
	for (struct zcbuf_ioc_heap arg = {}; ioctl(control(), ZCBUF_IOC_HEAPS, &arg) == 0;
	     arg = (struct zcbuf_ioc_heap){ .index = listed })
		listed++;
	ok(nodes == listed && nodes, "%d nodes and %d heaps", nodes, listed);
}

/* What VIEW, SYNC and INFO answer for FD, when all three answer the same. */
static int refused(int fd)
{
	struct zcbuf_ioc_info arg = { .fd = fd };
	int error, new;

	new = view(fd, 0, 0, 0);
	error = errno;
	if (new >= 0) {
		close(new);
		return 0;
	}
	if (sync_range(fd, 0, PAGE, ZCBUF_SYNC_READ) == 0 || errno != error)
		return 0;
	if (ioctl(control(), ZCBUF_IOC_INFO, &arg) == 0 || errno != error)
		return 0;
	return error;
}

static void strange_fds(const struct heap *heap)
{
	int fd = must_alloc(heap, PAGE), vgem = vgem_open(), udmabuf, pipes[2];
	char path[64];

	ok(refused(-1) == EBADF, "%s: fd -1 is no fd", heap->name);
	ok(refused(1 << 30) == EBADF, "%s: fd 2^30 is no fd", heap->name);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	close(fd);
	ok(refused(fd) == EBADF, "%s: a closed fd is no fd", heap->name);

	fd = must_alloc(heap, PAGE);
	int path_only = open(path, O_PATH | O_CLOEXEC);
	ok(path_only >= 0 && refused(path_only) == EBADF, "%s: an O_PATH fd is no fd",
	   heap->name);
	close(path_only);
	close(fd);

	ok(pipe(pipes) == 0 && refused(pipes[0]) == EINVAL, "%s: a pipe is no dma-buf",
	   heap->name);
	close(pipes[0]);
	close(pipes[1]);
	ok(refused(control()) == EINVAL, "%s: the control node is no dma-buf", heap->name);
	ok(refused(heap->fd) == EINVAL, "%s: a heap node is no dma-buf", heap->name);

	int event = eventfd(0, 0);
	ok(refused(event) == EINVAL, "%s: an eventfd is no dma-buf", heap->name);
	close(event);

	int memory = memfd_create("memory", MFD_ALLOW_SEALING);
	ok(ftruncate(memory, PAGE) == 0 && fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK) == 0 &&
		   refused(memory) == EINVAL,
	   "%s: a memfd is no dma-buf", heap->name);

	udmabuf = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	if (udmabuf >= 0) {
		struct udmabuf_create create = { .memfd = memory, .size = PAGE };

		fd = ioctl(udmabuf, UDMABUF_CREATE, &create);
		ok(fd >= 0 && refused(fd) == EINVAL, "%s: udmabuf's is not ours",
		   heap->name);
		close(fd);
		close(udmabuf);
	} else {
		skip("%s: this kernel has no udmabuf", heap->name);
	}
	close(memory);

	if (vgem >= 0) {
		fd = drm_foreign(vgem);
		ok(fd >= 0 && refused(fd) == EINVAL, "%s: vgem's is not ours", heap->name);
		close(fd);
		close(vgem);
	} else {
		skip("%s: this kernel has no vgem", heap->name);
	}
}

static void view_arguments(const struct heap *heap)
{
	int fd = must_alloc(heap, 4 * PAGE), refusals = 0;
	struct zcbuf_ioc_view arg;

	is_errno(view(fd, 1, 0, 0), EINVAL, "%s: a view begins at a page", heap->name);
	is_errno(view(fd, 0, 1, 0), EINVAL, "%s: a view is whole pages", heap->name);
	is_errno(view(fd, 4 * PAGE, 0, 0), EINVAL, "%s: no view of nothing at the end",
		 heap->name);
	is_errno(view(fd, 5 * PAGE, 0, 0), EINVAL, "%s: no view from behind the end",
		 heap->name);
	is_errno(view(fd, 4 * PAGE, PAGE, 0), EINVAL, "%s: no view behind the end",
		 heap->name);
	is_errno(view(fd, 0, 5 * PAGE, 0), EINVAL, "%s: no view that is longer",
		 heap->name);
	is_errno(view(fd, 3 * PAGE, 2 * PAGE, 0), EINVAL, "%s: no view over the end",
		 heap->name);
	is_errno(view(fd, PAGE, -PAGE, 0), EINVAL, "%s: no view that wraps to nothing",
		 heap->name);
	is_errno(view(fd, -PAGE, 2 * PAGE, 0), EINVAL, "%s: no view that wraps to a page",
		 heap->name);
	is_errno(view(fd, 1ULL << 63, 0, 0), EINVAL, "%s: no view from 2^63", heap->name);
	is_errno(view(fd, 0, 1ULL << 63, 0), EINVAL, "%s: no view of 2^63 bytes",
		 heap->name);

	for (int bit = 2; bit < 64; bit++)
		refusals += view(fd, 0, 0, 1ULL << bit) == -1 && errno == EINVAL;
	ok(refusals == 62, "%s: each unknown flag of VIEW is refused", heap->name);

	static const uint32_t bad[] = { O_WRONLY, O_RDWR, O_NONBLOCK, O_CLOEXEC | O_RDWR,
					~0u };

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		arg = (struct zcbuf_ioc_view){ .fd = fd, .fd_flags = bad[i] };
		is_errno(ioctl(control(), ZCBUF_IOC_VIEW, &arg), EINVAL,
			 "%s: fd_flags %#x of VIEW are refused", heap->name, bad[i]);
	}
	arg = (struct zcbuf_ioc_view){ .fd = fd, .reserved = 1 };
	is_errno(ioctl(control(), ZCBUF_IOC_VIEW, &arg), EINVAL,
		 "%s: VIEW refuses what is reserved", heap->name);

	for (uint32_t flags = 0; flags <= O_CLOEXEC; flags += O_CLOEXEC) {
		arg = (struct zcbuf_ioc_view){ .fd = fd, .fd_flags = flags };
		ok(ioctl(control(), ZCBUF_IOC_VIEW, &arg) == 0 &&
			   fcntl(arg.view_fd, F_GETFD) == (flags ? FD_CLOEXEC : 0),
		   "%s: a view is %sclose-on-exec as asked", heap->name,
		   flags ? "" : "not ");
		close(arg.view_fd);
	}
	close(fd);

	struct zcbuf_ioc_alloc write_only = { .size = PAGE, .fd_flags = O_WRONLY };

	if (ioctl(heap->fd, ZCBUF_IOC_ALLOC, &write_only))
		bail("no write-only buffer: %s", strerror(errno));
	is_errno(view(write_only.fd, 0, 0, 0), EACCES,
		 "%s: what may not be read has no view", heap->name);
	close(write_only.fd);
}

static void sync_arguments(const struct heap *heap)
{
	const uint64_t both = ZCBUF_SYNC_READ | ZCBUF_SYNC_WRITE, start = ZCBUF_SYNC_START;
	int fd = must_alloc(heap, 2 * PAGE), refusals = 0;
	struct zcbuf_ioc_sync arg = {
		.fd = fd, .length = PAGE, .flags = both, .reserved = 1
	};

	is_errno(ioctl(control(), ZCBUF_IOC_SYNC, &arg), EINVAL,
		 "%s: SYNC refuses what is reserved", heap->name);
	is_errno(sync_range(fd, 0, 0, both), EINVAL, "%s: SYNC of nothing", heap->name);
	is_errno(sync_range(fd, 0, 2 * PAGE + 1, both), EINVAL,
		 "%s: SYNC of a byte too many", heap->name);
	is_errno(sync_range(fd, 2 * PAGE, 1, both), EINVAL, "%s: SYNC behind the end",
		 heap->name);
	is_errno(sync_range(fd, 1, ~0ULL, both), EINVAL, "%s: SYNC that wraps to nothing",
		 heap->name);
	is_errno(sync_range(fd, ~0ULL, 2, both), EINVAL, "%s: SYNC that wraps to a byte",
		 heap->name);
	is_errno(sync_range(fd, 0, PAGE, start), EINVAL,
		 "%s: SYNC neither to read nor to write", heap->name);
	is_errno(sync_range(fd, 0, PAGE, ZCBUF_SYNC_END), EINVAL,
		 "%s: the end of neither reading nor writing", heap->name);
	for (int bit = 3; bit < 64; bit++)
		refusals += sync_range(fd, 0, PAGE, both | 1ULL << bit) == -1 &&
			    errno == EINVAL;
	ok(refusals == 61, "%s: each unknown flag of SYNC is refused", heap->name);

	for (uint64_t access = 1; access <= both; access++) {
		ok(sync_range(fd, 0, 2 * PAGE, start | access) == 0 &&
			   sync_range(fd, 0, 2 * PAGE, ZCBUF_SYNC_END | access) == 0,
		   "%s: SYNC of the whole, access %llu", heap->name,
		   (unsigned long long)access);
		ok(sync_range(fd, 2 * PAGE - 1, 1, start | access) == 0 &&
			   sync_range(fd, 2 * PAGE - 1, 1, ZCBUF_SYNC_END | access) == 0,
		   "%s: SYNC of the last byte, access %llu", heap->name,
		   (unsigned long long)access);
	}
	close(fd);
}

static void info_tells(const struct heap *heap)
{
	struct zcbuf_ioc_alloc arg = { .size = 4 * PAGE,
				       .fd_flags = O_RDWR,
				       .name = "whole" };
	struct zcbuf_ioc_info bad = { .reserved = 1 }, about, part;
	struct stat file;
	int narrow, other;
	void *memory;

	if (ioctl(heap->fd, ZCBUF_IOC_ALLOC, &arg))
		bail("no buffer: %s", strerror(errno));
	bad.fd = arg.fd;
	is_errno(ioctl(control(), ZCBUF_IOC_INFO, &bad), EINVAL,
		 "%s: INFO refuses what is reserved", heap->name);

	about = info(arg.fd);
	ok(!strcmp(about.heap, heap->name), "%s: INFO tells the heap", heap->name);
	ok(about.size == 4 * PAGE && about.buffer_size == 4 * PAGE && about.offset == 0,
	   "%s: INFO tells the size", heap->name);
	fstat(arg.fd, &file);
	ok(about.inode == file.st_ino, "%s: INFO tells the inode", heap->name);
	ok(about.alloc_flags == 0 && about.view_flags == 0, "%s: INFO tells of no flags",
	   heap->name);
	ok(about.views == 1 && about.attachments == 0 && about.user_mappings == 0,
	   "%s: INFO counts one view, no attachment, no mapping", heap->name);
	ok(about.chunks >= 1 && about.min_chunk >= PAGE &&
		   about.max_chunk >= about.min_chunk &&
		   about.chunks * about.max_chunk >= about.buffer_size &&
		   about.chunks * about.min_chunk <= about.buffer_size,
	   "%s: INFO counts %u chunks of %llu to %llu bytes", heap->name, about.chunks,
	   (unsigned long long)about.min_chunk, (unsigned long long)about.max_chunk);
	if (heap_can(heap, ZCBUF_HEAP_CAP_CONTIGUOUS))
		ok(about.chunks == 1, "%s: a contiguous buffer is one chunk", heap->name);
	ok(about.reserved == 0, "%s: INFO leaves what is reserved", heap->name);

	memory = must_map(arg.fd, 4 * PAGE);
	ok(info(arg.fd).user_mappings == 1, "%s: INFO counts a mapping", heap->name);
	munmap((char *)memory + PAGE, PAGE);
	ok(info(arg.fd).user_mappings == 2, "%s: INFO counts both halves of it",
	   heap->name);
	munmap(memory, 4 * PAGE);
	ok(info(arg.fd).user_mappings == 0, "%s: INFO counts no mapping any more",
	   heap->name);

	narrow = view(arg.fd, PAGE, 2 * PAGE, ZCBUF_VIEW_READ_ONLY);
	part = info(narrow);
	ok(part.size == 2 * PAGE && part.offset == PAGE && part.buffer_size == 4 * PAGE,
	   "%s: INFO tells where a view lies", heap->name);
	ok(part.view_flags == ZCBUF_VIEW_READ_ONLY,
	   "%s: INFO tells that a view is read-only", heap->name);
	ok(part.buffer_id == about.buffer_id && part.inode != about.inode,
	   "%s: a view has the buffer's id and its own inode", heap->name);
	ok(part.views == 2 && info(arg.fd).views == 2, "%s: INFO counts both views",
	   heap->name);
	memory = mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, narrow, 0);
	ok(info(arg.fd).user_mappings == 1, "%s: a view's mapping is the buffer's",
	   heap->name);
	munmap(memory, 2 * PAGE);
	close(narrow);
	ok(info(arg.fd).views == 1, "%s: INFO counts one view again", heap->name);

	other = must_alloc(heap, PAGE);
	ok(info(other).buffer_id != about.buffer_id, "%s: another buffer has another id",
	   heap->name);
	close(arg.fd);
	arg.fd = must_alloc(heap, PAGE);
	ok(info(arg.fd).buffer_id != about.buffer_id, "%s: an id is not used again",
	   heap->name);
	close(other);
	close(arg.fd);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);

	heaps(heap);
	strange_fds(heap);
	view_arguments(heap);
	sync_arguments(heap);
	info_tells(heap);
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

int main(void)
{
	nodes_are_listed();
	for_each_heap(test);
	return done_testing();
}
