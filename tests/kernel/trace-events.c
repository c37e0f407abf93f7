// SPDX-License-Identifier: GPL-2.0-only
/*
 * The tracepoints say what happens to a buffer, in the words of ZCBUF_IOC_INFO: an instance
 * of the kernel's trace listens to all of them while one thing after the other is done.
 */
#include <sys/mman.h>

#include "importer.h"

#define TRACING "/sys/kernel/tracing"
#define MINE	TRACING "/instances/zcbuf-test"
#define SIZE	(8 * PAGE)

static int dev;

static void set(const char *file, const char *text)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", MINE, file);
	if (!write_file(path, text))
		bail("%s: '%s': %s", path, text, strerror(errno));
}

/* All that was traced since it was last asked. */
static const char *traced(void)
{
	static char text[1 << 20];

	if (!read_file(MINE "/trace", text, sizeof(text)))
		bail(MINE "/trace: %s", strerror(errno));
	close(open(MINE "/trace", O_WRONLY | O_TRUNC | O_CLOEXEC));
	return text;
}

/* How many lines of TEXT have the event EVENT with all that the format says. */
__attribute__((format(printf, 3, 4))) static int times(const char *text, const char *event,
						       const char *format, ...)
{
	char line[512], name[64];
	va_list args;
	int count = 0;

	snprintf(name, sizeof(name), ": zcbuf_%s: ", event);
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	for (; (text = strstr(text, name)); text++)
		count += !strncmp(text + strlen(name), line, strlen(line));
	return count;
}

static void said(const char *text, int count, int expected, const char *heap,
		 const char *what)
{
	if (!ok(count == expected, "%s: %s", heap, what))
		diag("%d times, not %d, in: %.1500s", count, expected, text);
}

static struct zcbuf_ioc_info born(const struct heap *heap, int *fd)
{
	struct zcbuf_ioc_info is;
	const char *text;

	traced();
	*fd = must_alloc(heap, SIZE);
	is = info(*fd);
	text = traced();
	said(text,
	     times(text, "alloc", "heap=%s asked=%lu flags=0x0 id=%llu size=%llu error=0\n",
		   heap->name, (unsigned long)SIZE, is.buffer_id, is.buffer_size),
	     1, heap->name, "alloc has the heap, the sizes and the id");
	said(text,
	     times(text, "export", "id=%llu inode=%llu offset=0 size=%llu flags=0x0\n",
		   is.buffer_id, is.inode, is.size),
	     1, heap->name, "export has the inode");
	return is;
}

static void mappings(const struct heap *heap, int fd, const struct zcbuf_ioc_info *is)
{
	char *memory = must_map(fd, 4 * PAGE);
	const char *text = traced();

	said(text,
	     times(text, "mmap", "id=%llu address=%#llx offset=0 size=%lu error=0\n",
		   is->buffer_id, (unsigned long long)(uintptr_t)memory,
		   (unsigned long)(4 * PAGE)),
	     1, heap->name, "mmap has the address that user space has");
	if (heap_has_pages(heap) && madvise(memory + PAGE, PAGE, MADV_DONTNEED) == 0) {
		*(volatile char *)(memory + PAGE + 5) = 1;
		text = traced();
		said(text,
		     times(text, "fault",
			   "id=%llu address=%#llx offset=%lu size=%lu result=",
			   is->buffer_id, (unsigned long long)(uintptr_t)memory + PAGE + 5,
			   (unsigned long)PAGE, (unsigned long)PAGE) +
			     times(text, "fault",
				   "id=%llu address=%#llx offset=%lu size=%lu result=",
				   is->buffer_id,
				   (unsigned long long)(uintptr_t)memory + PAGE,
				   (unsigned long)PAGE, (unsigned long)PAGE),
		     1, heap->name, "fault has the address that was touched");
	}
	munmap(memory, PAGE);
	munmap(memory + PAGE, 3 * PAGE);
	text = traced();
	said(text,
	     times(text, "munmap", "id=%llu address=%#llx offset=%lu size=%lu ",
		   is->buffer_id, (unsigned long long)(uintptr_t)memory + PAGE,
		   (unsigned long)PAGE, (unsigned long)(3 * PAGE)),
	     1, heap->name, "munmap has what was left of the mapping");
}

static void views(const struct heap *heap, int fd, const struct zcbuf_ioc_info *is)
{
	int narrow = view(fd, PAGE, 2 * PAGE, ZCBUF_VIEW_READ_ONLY);
	struct zcbuf_ioc_info its = info(narrow);
	const char *text = traced();

	said(text,
	     times(text, "export", "id=%llu inode=%llu offset=%lu size=%lu flags=%#llx\n",
		   is->buffer_id, its.inode, (unsigned long)PAGE, (unsigned long)(2 * PAGE),
		   ZCBUF_VIEW_READ_ONLY),
	     1, heap->name, "export has a view's range and rights");
	close(narrow);
	text = traced();
	said(text, times(text, "free", "heap="), 0, heap->name,
	     "nothing is freed with a view");
}

static void syncs(const struct heap *heap, int fd, const struct zcbuf_ioc_info *is)
{
	const char *text;

	sync_range(fd, PAGE, 100, ZCBUF_SYNC_READ);
	sync_range(fd, PAGE, 100, ZCBUF_SYNC_READ | ZCBUF_SYNC_END);
	sync_all(fd, ZCBUF_SYNC_READ | ZCBUF_SYNC_WRITE);
	sync_all(fd, ZCBUF_SYNC_READ | ZCBUF_SYNC_WRITE | ZCBUF_SYNC_END);
	text = traced();
	said(text,
	     times(text, "sync_begin",
		   "id=%llu inode=%llu offset=%lu size=100 access=r error=0\n",
		   is->buffer_id, is->inode, (unsigned long)PAGE),
	     1, heap->name, "sync_begin has the range");
	said(text,
	     times(text, "sync_end", "id=%llu inode=%llu offset=%lu size=100 access=r ",
		   is->buffer_id, is->inode, (unsigned long)PAGE),
	     1, heap->name, "sync_end, too");
	said(text,
	     times(text, "sync_begin",
		   "id=%llu inode=%llu offset=0 size=%llu access=rw error=0\n",
		   is->buffer_id, is->inode, is->size),
	     1, heap->name, "the standard ioctl is the whole of it");
}

static void devices(const struct heap *heap, int fd, const struct zcbuf_ioc_info *is)
{
	char device[64] = "";
	const char *text, *direction = "from-device";
	int early = 0;

	if (!importable(heap) || attach(dev, heap, fd, 64, 0))
		return;
	text = traced();
	said(text,
	     times(text, "attach", "id=%llu inode=%llu device=", is->buffer_id, is->inode),
	     1, heap->name, "attach has the dma-buf");
	if (strstr(text, "device="))
		sscanf(strstr(text, "device="), "device=%63s", device);
	ok(!strncmp(device, "zcbuf-importer", strlen("zcbuf-importer")),
	   "%s: and the device", heap->name);
	/* Older kernels map for a peer-to-peer importer as it attaches, and no more then. */
	if (!heap_has_pages(heap))
		early = times(text, "map",
			      "id=%llu inode=%llu device=%s dir=both error=0\n",
			      is->buffer_id, is->inode, device);
	if (early)
		direction = "both";
	must_map_device(dev, FROM_DEVICE);
	if (!early)
		is_errno(map_again(dev, FROM_DEVICE), EBUSY, "%s: it maps once",
			 heap->name);
	unmap_device(dev);
	detach(dev);
	text = traced();
	said(text,
	     early + times(text, "map", "id=%llu inode=%llu device=%s dir=%s error=0\n",
			   is->buffer_id, is->inode, device, direction),
	     1, heap->name, "map has the direction");
	if (!early)
		said(text,
		     times(text, "map",
			   "id=%llu inode=%llu device=%s dir=from-device error=%d\n",
			   is->buffer_id, is->inode, device, -EBUSY),
		     1, heap->name, "and the error");
	said(text,
	     times(text, "unmap", "id=%llu inode=%llu device=%s dir=%s ", is->buffer_id,
		   is->inode, device, direction),
	     1, heap->name, "unmap follows");
	said(text, times(text, "detach", "id=%llu inode=%llu ", is->buffer_id, is->inode),
	     1, heap->name, "detach ends it");
}

static void life(const struct heap *heap)
{
	struct zcbuf_ioc_info is;
	const char *text;
	int fd;

	is = born(heap, &fd);
	mappings(heap, fd, &is);
	views(heap, fd, &is);
	syncs(heap, fd, &is);
	devices(heap, fd, &is);
	traced();
	close(fd);
	text = traced();
	said(text,
	     times(text, "free", "heap=%s id=%llu size=%llu\n", heap->name, is.buffer_id,
		   is.buffer_size),
	     1, heap->name, "free is the end of it");
	is_errno(alloc(heap, 1ULL << 60), ENOMEM, "%s: too much is refused", heap->name);
	text = traced();
	said(text,
	     times(text, "alloc", "heap=%s asked=%llu flags=0x0 id=0 size=0 error=%d\n",
		   heap->name, 1ULL << 60, -ENOMEM),
	     1, heap->name, "alloc has the error");
}

static void pools(const struct heap *heap)
{
	const char *text;

	if (strcmp(heap->name, "zcbuf-system"))
		return;
	pool_drain(heap);
	traced();
	close(must_alloc(heap, PAGE));
	text = traced();
	said(text,
	     times(text, "pool_take", "chunk_size=%lu asked=1 done=0\n",
		   (unsigned long)PAGE),
	     1, heap->name, "pool_take: an empty pool has nothing");
	said(text,
	     times(text, "pool_give", "chunk_size=%lu asked=1 done=1\n",
		   (unsigned long)PAGE),
	     1, heap->name, "pool_give: it keeps what comes back");
	close(must_alloc(heap, PAGE));
	text = traced();
	said(text,
	     times(text, "pool_take", "chunk_size=%lu asked=1 done=1\n",
		   (unsigned long)PAGE),
	     1, heap->name, "pool_take: and has it for the next one");
	pool_drain(heap);
	text = traced();
	ok(times(text, "pool_shrink", "chunk_size=%lu asked=", (unsigned long)PAGE) > 0,
	   "%s: pool_shrink: a pool without a limit left gives back", heap->name);
}

/* A filter on a field is what makes one buffer's life readable. */
static void filters(const struct heap *heap)
{
	char filter[64];
	const char *text;
	int fd, other;

	if (strcmp(heap->name, "zcbuf-system"))
		return;
	fd = must_alloc(heap, PAGE);
	other = must_alloc(heap, PAGE);
	snprintf(filter, sizeof(filter), "id == %llu", info(fd).buffer_id);
	set("events/zcbuf/zcbuf_free/filter", filter);
	traced();
	close(other);
	close(fd);
	text = traced();
	ok(times(text, "free", "heap=") == 1, "a filter leaves what it is about");
	set("events/zcbuf/zcbuf_free/filter", "0");
	set("events/zcbuf/enable", "0");
	traced();
	close(must_alloc(heap, PAGE));
	ok(!strstr(traced(), "zcbuf_"), "nothing is traced that is not enabled");
}

/* Who is not root can neither listen nor read what others listened to. */
static void strangers(void)
{
	pid_t child = fork();

	if (child == 0) {
		if (setgid(65534) || setuid(65534))
			_exit(2);
		_exit(access(TRACING "/trace", R_OK) == 0 ||
		      access(MINE "/events/zcbuf/enable", W_OK) == 0);
	}
	ok(end_of(child) == 0, "another user sees and changes none of it");
}

static void end(void)
{
	rmdir(MINE);
}

int main(void)
{
	if (mkdir(MINE, 0700) && errno != EEXIST)
		bail(MINE ": %s", strerror(errno));
	atexit(end);
	dev = device();
	set("events/zcbuf/enable", "1");
	for_each_heap(life);
	for_each_heap(pools);
	strangers();
	for_each_heap(filters);
	return done_testing();
}
