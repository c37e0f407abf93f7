// SPDX-License-Identifier: GPL-2.0-only
/*
 * A read-only view is never written through by its holder, whatever is tried: mmap, mprotect,
 * mremap, fork, another look at the fd, a debugger's back doors, a pinned page, a detour
 * through a device. A device-read-only view is not written by a device either.
 */
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include "vgem.h"
#include "zc.h"

#define SIZE (4 * PAGE)

/* The ways into a view; what each of them has to fail at is checked by the contents, too. */
static void direct_ways(const struct heap *heap, int fd, const char *which)
{
	char *memory, link[64], *other;
	int again;

	is_errno(map(fd, SIZE), EACCES, "%s: %s cannot be mapped to write", heap->name,
		 which);
	is_errno(mmap(NULL, SIZE, PROT_WRITE, MAP_SHARED, fd, 0), EACCES,
		 "%s: %s cannot be mapped only to write", heap->name, which);
	is_errno(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0), EINVAL,
		 "%s: %s cannot be mapped privately", heap->name, which);
	memory = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
	ok(memory != MAP_FAILED && is_filled(memory, SIZE, 1), "%s: %s can be read",
	   heap->name, which);
	is_errno(mprotect(memory, SIZE, PROT_READ | PROT_WRITE), EACCES,
		 "%s: %s cannot become writable", heap->name, which);
	is_errno(mprotect(memory + PAGE, PAGE, PROT_WRITE), EACCES,
		 "%s: nor can a page of it", heap->name);
	ok(faults(memory, true) && faults(memory + SIZE - 1, true),
	   "%s: a write to %s faults", heap->name, which);

	other = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memory = mremap(memory, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, other);
	ok(memory == other && faults(memory, true) &&
		   mprotect(memory, SIZE, PROT_WRITE) == -1,
	   "%s: nor when it has been moved", heap->name);
	if (heap_can(heap, ZCBUF_HEAP_CAP_PIN)) {
		madvise(memory, SIZE, MADV_DONTNEED);
		ok(is_filled(memory, SIZE, 1) && faults(memory, true),
		   "%s: nor when it has been faulted in again", heap->name);
	}
	ok(madvise(memory, SIZE, MADV_POPULATE_WRITE) == -1,
	   "%s: nor can it be populated to write", heap->name);

	pid_t child = fork();

	if (child == 0)
		_exit(mprotect(memory, SIZE, PROT_READ | PROT_WRITE) == -1 &&
				      map(fd, SIZE) == MAP_FAILED
			      ? 0
			      : 1);
	ok(end_of(child) == 0, "%s: nor by a child", heap->name);
	munmap(memory, SIZE);

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	again = open(link, O_RDWR | O_CLOEXEC);
	ok(again == -1, "%s: %s cannot be opened anew to write", heap->name, which);
	if (again >= 0)
		close(again);
	fcntl(fd, F_SETFL, O_RDWR);
	ok((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY && map(fd, SIZE) == MAP_FAILED,
	   "%s: nor can its fd be made writable", heap->name);
	again = dup(fd);
	ok(map(again, SIZE) == MAP_FAILED, "%s: nor is a duplicate", heap->name);
	close(again);
}

/* Debuggers may write where the program may not; not here. */
static void back_doors(const struct heap *heap, int fd, const char *which)
{
	char *memory = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0), path[64];
	uint64_t word = 0;
	struct iovec local = { .iov_base = &word, .iov_len = 8 };
	struct iovec remote = { .iov_base = memory, .iov_len = 8 };
	pid_t child;
	int mem, pipes[2];

	mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	ok(pwrite(mem, &word, 8, (off_t)(uintptr_t)memory) == -1,
	   "%s: %s cannot be written through /proc/self/mem", heap->name, which);
	ok(pread(mem, &word, 8, (off_t)(uintptr_t)memory) == 8 && word == pattern(1, 0),
	   "%s: but read", heap->name);
	close(mem);

	word = 0;
	child = fork();
	if (child == 0) {
		raise(SIGSTOP);
		_exit(0);
	}
	snprintf(path, sizeof(path), "/proc/%d/mem", child);
	mem = open(path, O_RDWR | O_CLOEXEC);
	ok(ptrace(PTRACE_SEIZE, child, 0, 0) == 0 &&
		   ptrace(PTRACE_INTERRUPT, child, 0, 0) == 0 &&
		   waitpid(child, NULL, WUNTRACED) == child,
	   "%s: a debugger holds a process that has %s", heap->name, which);
	ok(ptrace(PTRACE_POKEDATA, child, memory, 0) == -1, "%s: it cannot poke into it",
	   heap->name);
	errno = 0;
	ok(ptrace(PTRACE_PEEKDATA, child, memory, 0) == (long)pattern(1, 0) && !errno,
	   "%s: but peek", heap->name);
	ok(pwrite(mem, &word, 8, (off_t)(uintptr_t)memory) == -1,
	   "%s: nor write through /proc/PID/mem", heap->name);
	ok(process_vm_writev(child, &local, 1, &remote, 1, 0) == -1,
	   "%s: nor by process_vm_writev()", heap->name);
	close(mem);
	kill(child, SIGKILL);
	end_of(child);

	/* The kernel as one who writes for us. */
	if (pipe(pipes) || write(pipes[1], "12345678", 8) != 8)
		bail("pipe: %s", strerror(errno));
	is_errno(read(pipes[0], memory, 8), EFAULT, "%s: read() does not write to %s",
		 heap->name, which);
	close(pipes[0]);
	close(pipes[1]);
	munmap(memory, SIZE);
}

static void never_widens(const struct heap *heap, int fd, const char *which)
{
	struct zcbuf_ioc_view wide = { .fd = fd, .fd_flags = O_RDWR };
	int again = view(fd, PAGE, 0, 0);

	ok(again >= 0 && map(again, SIZE - PAGE) == MAP_FAILED && errno == EACCES,
	   "%s: a view of %s is read-only, too", heap->name, which);
	ok(info(again).view_flags == info(fd).view_flags, "%s: and INFO says so",
	   heap->name);
	close(again);
	is_errno(ioctl(control(), ZCBUF_IOC_VIEW, &wide), EINVAL,
		 "%s: nor can VIEW be asked for a writable one", heap->name);
}

/* To a device and back: is the fd that comes back as narrow as the one that went? */
static void there_and_back(const struct heap *heap, int fd, const char *which)
{
	int vgem = vgem_open(), back;
	uint32_t handle = vgem < 0 ? 0 : drm_import(vgem, fd);

	if (!handle && info(fd).view_flags & ZCBUF_VIEW_DEVICE_READ_ONLY) {
		close(vgem); /* see device_may_not_write() */
		return;
	}
	if (!ok(handle, "%s: vgem imports %s", heap->name, which))
		return;
	back = drm_export(vgem, handle, O_RDWR | O_CLOEXEC);
	ok(back >= 0 && map(back, SIZE) == MAP_FAILED && errno == EACCES,
	   "%s: %s comes back from a device as it went", heap->name, which);
	ok(info(back).inode == info(fd).inode, "%s: as the same dma-buf", heap->name);

	struct drm_mode_map_dumb dumb = { .handle = handle };

	if (ioctl(vgem, DRM_IOCTL_MODE_MAP_DUMB, &dumb) == 0)
		ok(mmap(NULL, SIZE, PROT_WRITE, MAP_SHARED, vgem, dumb.offset) ==
			   MAP_FAILED,
		   "%s: nor can it be mapped by the device's node", heap->name);
	else
		ok(true, "%s: nor can it be mapped by the device's node", heap->name);
	close(back);
	drm_forget(vgem, handle);
	close(vgem);
}

static void each_level(const struct heap *heap, uint64_t flags, const char *which)
{
	int fd = must_alloc(heap, SIZE), narrow = view(fd, 0, 0, flags);
	uint64_t says = flags | ZCBUF_VIEW_READ_ONLY;
	void *memory = must_map(fd, SIZE);

	if (!ok(narrow >= 0, "%s: %s can be made", heap->name, which))
		goto out;
	fill(memory, SIZE, 1);
	ok(info(narrow).view_flags == says, "%s: INFO tells that it is %s", heap->name,
	   which);
	ok(info(fd).view_flags == 0, "%s: and its parent is not", heap->name);
	direct_ways(heap, narrow, which);
	back_doors(heap, narrow, which);
	never_widens(heap, narrow, which);
	if (heap_has_pages(heap))
		there_and_back(heap, narrow, which);
	ok(is_filled(memory, SIZE, 1), "%s: nothing of that changed a byte", heap->name);
	fill(memory, SIZE, 2);

	void *see = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, narrow, 0);

	ok(is_filled(see, SIZE, 2), "%s: %s shows what others write", heap->name, which);
	ok(sync_range(narrow, 0, SIZE, ZCBUF_SYNC_START | ZCBUF_SYNC_READ) == 0 &&
		   sync_all(narrow, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ) == 0 &&
		   sync_all(narrow, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ) == 0 &&
		   sync_range(narrow, 0, SIZE, ZCBUF_SYNC_END | ZCBUF_SYNC_READ) == 0,
	   "%s: and can be synced", heap->name);
	munmap(see, SIZE);
	close(narrow);
out:
	munmap(memory, SIZE);
	close(fd);
}

/* What was allocated with O_RDONLY is as good as a read-only view. */
static void born_read_only(const struct heap *heap)
{
	struct zcbuf_ioc_alloc arg = { .size = SIZE, .fd_flags = O_RDONLY | O_CLOEXEC };
	int narrow;

	if (ioctl(heap->fd, ZCBUF_IOC_ALLOC, &arg))
		bail("no buffer: %s", strerror(errno));
	ok(info(arg.fd).view_flags == ZCBUF_VIEW_READ_ONLY,
	   "%s: INFO tells that O_RDONLY is read-only", heap->name);
	narrow = view(arg.fd, 0, 0, 0);
	is_errno(map(narrow, SIZE), EACCES, "%s: a view of an O_RDONLY fd is read-only",
		 heap->name);
	close(narrow);
	close(arg.fd);
}

/* vgem maps what it imports for reading and writing, or, from 7.x on, not at all. */
static void device_may_not_write(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE),
	    narrow = view(fd, 0, 0, ZCBUF_VIEW_DEVICE_READ_ONLY);
	int vgem = vgem_open();
	uint32_t handle;

	errno = 0;
	handle = drm_import(vgem, narrow);
	if (handle)
		diag("vgem of this kernel does not map what it imports");
	ok(handle || errno == EACCES,
	   "%s: a device that might write is refused by device-read-only", heap->name);
	if (handle)
		drm_forget(vgem, handle);
	ok(info(fd).attachments == 0, "%s: and is not attached any more", heap->name);
	handle = drm_import(vgem, fd);
	ok(handle, "%s: but not by its parent", heap->name);
	drm_forget(vgem, handle);
	close(vgem);
	close(narrow);
	close(fd);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);

	each_level(heap, ZCBUF_VIEW_READ_ONLY, "a read-only view");
	each_level(heap, ZCBUF_VIEW_DEVICE_READ_ONLY, "a device-read-only view");
	each_level(heap, ZCBUF_VIEW_READ_ONLY | ZCBUF_VIEW_DEVICE_READ_ONLY,
		   "a view with both flags");
	born_read_only(heap);
	if (heap_has_pages(heap))
		device_may_not_write(heap);
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

int main(void)
{
	/* faults() is meant to crash. */
	setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
	for_each_heap(test);
	return done_testing();
}
