// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two kinds of node, two kinds of right: everybody may open /dev/zcbuf, which works on fds
 * they hold; only some may open a heap's node, which allocates.
 */
#include <grp.h>

#include "zc.h"

static const uid_t nobody = 65534;

static void become_nobody(void)
{
	if (setgroups(0, NULL) || setresgid(nobody, nobody, nobody) ||
	    setresuid(nobody, nobody, nobody))
		_exit(99);
}

static void modes(const struct heap *heap)
{
	struct stat node;
	char path[64];
	pid_t child;

	ok(stat("/dev/zcbuf", &node) == 0 && S_ISCHR(node.st_mode) &&
		   (node.st_mode & 0777) == 0666,
	   "%s: /dev/zcbuf is for everybody", heap->name);
	snprintf(path, sizeof(path), "/dev/dma_heap/%s", heap->name);
	ok(stat(path, &node) == 0 && S_ISCHR(node.st_mode) && (node.st_mode & 0777) == 0660,
	   "%s: its node is not", heap->name);

	child = fork();
	if (child == 0) {
		become_nobody();
		_exit(heap_open(heap, O_RDWR) == -1 && errno == EACCES ? 0 : 1);
	}
	ok(end_of(child) == 0, "%s: a stranger may not open it to write", heap->name);
	child = fork();
	if (child == 0) {
		become_nobody();
		_exit(heap_open(heap, O_RDONLY) == -1 && errno == EACCES ? 0 : 1);
	}
	ok(end_of(child) == 0, "%s: nor to read", heap->name);
}

static void stranger_with_a_buffer(const struct heap *heap)
{
	int fd = must_alloc(heap, 2 * PAGE);
	pid_t child = fork();

	if (child == 0) {
		struct zcbuf_ioc_info about = { .fd = fd };
		struct zcbuf_ioc_view narrow = { .fd = fd, .length = PAGE };
		struct zcbuf_ioc_sync sync = { .fd = fd,
					       .length = 1,
					       .flags = ZCBUF_SYNC_READ };
		struct zcbuf_ioc_heap heaps = {};
		int node;

		become_nobody();
		node = open("/dev/zcbuf", O_RDONLY);
		if (node < 0)
			_exit(1);
		if (ioctl(node, ZCBUF_IOC_HEAPS, &heaps))
			_exit(2);
		if (ioctl(node, ZCBUF_IOC_INFO, &about) || about.size != 2 * PAGE)
			_exit(3);
		if (ioctl(node, ZCBUF_IOC_VIEW, &narrow) ||
		    lseek(narrow.view_fd, 0, SEEK_END) != (off_t)PAGE)
			_exit(4);
		if (ioctl(node, ZCBUF_IOC_SYNC, &sync))
			_exit(5);
		if (map(narrow.view_fd, PAGE) == MAP_FAILED)
			_exit(6);
		_exit(0);
	}
	ok(end_of(child) == 0,
	   "%s: a stranger who holds a buffer can list, ask, narrow and sync", heap->name);
	close(fd);
}

/* A heap node that is passed on is passed on with its right: that is what an fd is. */
static void stranger_with_a_heap(const struct heap *heap)
{
	pid_t child = fork();

	if (child == 0) {
		become_nobody();
		_exit(alloc(heap, PAGE) >= 0 ? 0 : 1);
	}
	ok(end_of(child) == 0, "%s: a stranger who was given its open node can allocate",
	   heap->name);
}

static void read_only_node(const struct heap *heap)
{
	struct zcbuf_ioc_alloc arg = { .size = PAGE, .fd_flags = O_RDWR | O_CLOEXEC };
	int node = heap_open(heap, O_RDONLY);

	ok(ioctl(node, ZCBUF_IOC_ALLOC, &arg) == 0,
	   "%s: a node opened to read allocates, as in mainline", heap->name);
	is_errno(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, node,
		      arg.mmap_offset),
		 EACCES, "%s: but maps nothing writable", heap->name);
	close(arg.fd);
	close(node);
}

static void no_other_use(const struct heap *heap)
{
	int fd = must_alloc(heap, PAGE);
	char byte = 0;

	is_errno(read(heap->fd, &byte, 1), EINVAL, "%s: its node cannot be read",
		 heap->name);
	is_errno(write(heap->fd, &byte, 1), EINVAL, "%s: nor written", heap->name);
	is_errno(read(control(), &byte, 1), EINVAL, "%s: the control node cannot be read",
		 heap->name);
	is_errno(write(control(), &byte, 1), EINVAL, "%s: nor written", heap->name);
	is_errno(map(control(), PAGE), ENODEV, "%s: nor mapped", heap->name);
	is_errno(read(fd, &byte, 1), EINVAL, "%s: a buffer cannot be read by read()",
		 heap->name);
	is_errno(write(fd, &byte, 1), EINVAL, "%s: nor written by write()", heap->name);
	is_errno(ftruncate(fd, 2 * PAGE), EINVAL, "%s: nor resized", heap->name);
	is_errno(fallocate(fd, 0, 0, 2 * PAGE), ENODEV, "%s: nor grown", heap->name);
	close(fd);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);

	modes(heap);
	stranger_with_a_buffer(heap);
	stranger_with_a_heap(heap);
	read_only_node(heap);
	no_other_use(heap);
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

int main(void)
{
	for_each_heap(test);
	return done_testing();
}
