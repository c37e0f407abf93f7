// SPDX-License-Identifier: GPL-2.0-only
/*
 * Each allocation and each copy to or from user space fails once: of an operation's first run
 * the first one, of its second run the second one, and so on until it comes through without
 * (fail-nth, in the kernel's page about fault injection). Whatever failed, the caller has an
 * errno, nothing was published, nothing is left behind, and the operation succeeds afterwards.
 */
#include "importer.h"
#include "module.h"

/* 2 MiB, 64 KiB and 4 KiB; too much for one allocation of anything but pages. */
#define SIZE (2 * MiB + 16 * PAGE + 3 * PAGE)
/* For devices: DMA-API debugging has a call that can fail for each piece. */
#define FEW_PAGES (19 * PAGE)

static int fail_nth;	      /* the file */
static unsigned int nth;      /* what fails in the next operation; 0: nothing */
static bool injected;	      /* did it come to that? */
static char panic_on_warn[8]; /* as it was */

static void arm(void)
{
	char number[16];

	snprintf(number, sizeof(number), "%u", nth);
	if (nth && write(fail_nth, number, strlen(number)) < 0)
		bail("fail-nth: %s", strerror(errno));
}

/* What was to fail may be the reading of the file that says so. */
static void disarm(void)
{
	char rest[16] = "";
	int error = errno;

	injected = nth && pread(fail_nth, rest, sizeof(rest) - 1, 0) > 0 && atoi(rest) == 0;
	while (nth && pwrite(fail_nth, "0", 1, 0) < 0)
		;
	errno = error;
}

/* The value of CALL, in which one of the calls below it fails. */
#define FAILING(call)                        \
	({                                   \
		arm();                       \
		__auto_type value_ = (call); \
		disarm();                    \
		value_;                      \
	})

/* Operations: each returns 0 or an errno, and undoes what it did. */

static int allocate(const struct heap *heap, size_t size, uint64_t flags)
{
	struct zcbuf_ioc_alloc arg = { .size = size,
				       .flags = flags,
				       .fd_flags = O_RDWR | O_CLOEXEC,
				       .name = "named" };

	if (FAILING(ioctl(heap->fd, ZCBUF_IOC_ALLOC, &arg)))
		return errno;
	close(arg.fd);
	return 0;
}

static int op_alloc(const struct heap *heap)
{
	return allocate(heap, SIZE, 0);
}

static int op_alloc_page(const struct heap *heap)
{
	return allocate(heap, 1, 0);
}

static int op_alloc_dma32(const struct heap *heap)
{
	return heap_can(heap, ZCBUF_HEAP_CAP_DMA32)
		       ? allocate(heap, SIZE, ZCBUF_ALLOC_DMA32)
		       : 0;
}

static int op_alloc_recycle(const struct heap *heap)
{
	struct heap file = *heap;
	int error;

	file.fd = heap_open(heap, O_RDWR);
	error = allocate(&file, SIZE, ZCBUF_ALLOC_RECYCLE);
	if (!error)
		error = allocate(&file, SIZE, ZCBUF_ALLOC_RECYCLE);
	close(file.fd);
	return error;
}

static int op_dma_heap(const struct heap *heap)
{
	struct dma_heap_allocation_data arg = { .len = SIZE,
						.fd_flags = O_RDWR | O_CLOEXEC };

	if (FAILING(ioctl(heap->fd, DMA_HEAP_IOCTL_ALLOC, &arg)))
		return errno;
	close((int)arg.fd);
	return 0;
}

static int op_open(const struct heap *heap)
{
	int fd = FAILING(heap_open(heap, O_RDWR));

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

static int op_view(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE), error = 0, other;

	other = FAILING(view(fd, PAGE, PAGE, ZCBUF_VIEW_READ_ONLY));
	if (other < 0)
		error = errno;
	if (info(fd).views != (error ? 1 : 2))
		error = ENOTRECOVERABLE;
	if (other >= 0)
		close(other);
	close(fd);
	return error;
}

static int map_and_touch(const struct heap *heap, int fd, uint64_t offset)
{
	char *memory = FAILING(
		mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset));

	/* No memory for what remap_pfn_range() remembers of cache modes is EINVAL to it. */
	if (memory == MAP_FAILED)
		return errno == EINVAL && !heap_has_pages(heap) ? ENOMEM : errno;
	for (size_t at = 0; at < SIZE; at += PAGE)
		memory[at] = 1;
	munmap(memory, SIZE);
	return 0;
}

static int op_mmap(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE), error = map_and_touch(heap, fd, 0);

	if (info(fd).user_mappings)
		error = ENOTRECOVERABLE;
	close(fd);
	return error;
}

static int op_mmap_node(const struct heap *heap)
{
	struct zcbuf_ioc_alloc arg = { .size = SIZE, .fd_flags = O_RDWR | O_CLOEXEC };
	int error;

	if (ioctl(heap->fd, ZCBUF_IOC_ALLOC, &arg))
		bail("%s: %s", heap->name, strerror(errno));
	error = map_and_touch(heap, heap->fd, arg.mmap_offset);
	close(arg.fd);
	return error;
}

/* The kernel tries a fault again whose memory was not to be had. */
static int op_touch(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE);
	volatile char *memory = must_map(fd, SIZE);

	arm();
	for (size_t at = 0; at < SIZE; at += PAGE)
		memory[at] = 1;
	disarm();
	munmap((void *)memory, SIZE);
	close(fd);
	return 0;
}

static int op_fork(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE), error = 0;
	volatile char *memory = must_map(fd, SIZE);
	pid_t child;

	memory[0] = 1;
	child = FAILING(fork());
	if (child == 0)
		_exit(memory[0] != 1);
	if (child < 0)
		error = errno;
	else if (end_of(child))
		error = ENOTRECOVERABLE;
	munmap((void *)memory, SIZE);
	close(fd);
	return error;
}

static int op_control(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE), error = 0;
	struct zcbuf_ioc_heap is = { .index = heap->is.index };
	struct zcbuf_ioc_info about = { .fd = fd };

	arm();
	if (ioctl(control(), ZCBUF_IOC_HEAPS, &is) ||
	    ioctl(control(), ZCBUF_IOC_INFO, &about) ||
	    sync_range(fd, PAGE, PAGE, SYNC_CPU_READS) ||
	    sync_range(fd, PAGE, PAGE, SYNC_CPU_WROTE) ||
	    sync_all(fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW) ||
	    sync_all(fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW))
		error = errno;
	disarm();
	close(fd);
	return error;
}

static int op_attach(const struct heap *heap)
{
	int fd = must_alloc(heap, FEW_PAGES), dev = device(), error = 0;

	if (FAILING(attach(dev, heap, fd, 64, 0)))
		error = errno;
	if (info(fd).attachments != (error ? 0 : 1))
		error = ENOTRECOVERABLE;
	close(dev);
	close(fd);
	return error;
}

static int op_map(const struct heap *heap)
{
	int fd = must_alloc(heap, FEW_PAGES), dev = device(), error = 0;

	if (attach(dev, heap, fd, 64, 0))
		bail("%s: a device cannot attach: %s", heap->name, strerror(errno));
	if (FAILING(map_device(dev, BIDIRECTIONAL)))
		error = errno;
	/* After a failure it is not mapped; and unmapped it can be mapped again. */
	if ((error == 0 && unmap_device(dev)) || map_device(dev, TO_DEVICE) ||
	    unmap_device(dev))
		error = ENOTRECOVERABLE;
	close(dev);
	close(fd);
	return error;
}

static void set(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		bail("%s: %s", path, strerror(errno));
	close(fd);
}

/* dma_buf_vmap() warns, once, about an exporter that has no memory for it. */
static int op_vmap(const struct heap *heap)
{
	int fd, dev, error = 0;
	uint64_t word;

	if (!heap_can(heap, ZCBUF_HEAP_CAP_VMAP))
		return 0;
	fd = must_alloc(heap, FEW_PAGES);
	dev = device();
	if (attach(dev, heap, fd, 64, 0))
		bail("%s: a device cannot attach: %s", heap->name, strerror(errno));
	set("/proc/sys/kernel/panic_on_warn", "0");
	if (FAILING(vmap_read(dev, &word, 0, sizeof(word))))
		error = errno;
	set("/proc/sys/kernel/panic_on_warn", panic_on_warn);
	close(dev);
	close(fd);
	return error;
}

static const struct {
	const char *name;
	int (*run)(const struct heap *heap);
} operations[] = {
	{ "open", op_open },
	{ "alloc", op_alloc },
	{ "alloc of a page", op_alloc_page },
	{ "alloc, DMA32", op_alloc_dma32 },
	{ "alloc, recycled", op_alloc_recycle },
	{ "DMA_HEAP_IOCTL_ALLOC", op_dma_heap },
	{ "view", op_view },
	{ "mmap", op_mmap },
	{ "mmap of the node", op_mmap_node },
	{ "first touch", op_touch },
	{ "fork", op_fork },
	{ "heaps, info, sync", op_control },
	{ "attach", op_attach },
	{ "map to a device", op_map },
	{ "vmap", op_vmap },
};

static void each_fails(const struct heap *heap, const char *name,
		       int (*run)(const struct heap *heap))
{
	struct held before;
	int wrong = 0, failed = 0, error;

	nth = 0;
	error = run(heap);
	if (!ok(!error, "%s: %s", heap->name, name)) {
		diag("%s", strerror(error));
		return;
	}
	before = held(heap);
	do {
		nth++;
		error = run(heap);
		failed += error != 0;
		if (error && error != ENOMEM && error != EFAULT) {
			diag("call %u failed, and the operation with %s", nth,
			     strerror(error));
			wrong++;
		}
		if (error && !injected) {
			diag("nothing failed, and the operation with %s", strerror(error));
			wrong++;
		}
		if (injected && !held_as(heap, before)) {
			diag("call %u failed, and left something behind", nth);
			wrong++;
		}
		if (error) {
			unsigned int failing = nth;
			bool was_injected = injected;

			nth = 0;
			wrong += run(heap) != 0;
			nth = failing;
			injected = was_injected;
		}
	} while (injected && wrong < 10);
	diag("%s: %s: %u calls failed, the operation %d times", heap->name, name, nth - 1,
	     failed);
	ok(!wrong, "%s: %s: each call below it fails well", heap->name, name);
	ok(held_as(heap, before), "%s: %s: nothing is left behind", heap->name, name);
}

static void test(const struct heap *heap)
{
	bool maps = importable(heap);

	for (size_t i = 0; i < sizeof(operations) / sizeof(*operations); i++)
		if (operations[i].run != op_map || maps)
			each_fails(heap, operations[i].name, operations[i].run);
}

int main(void)
{
	fail_nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (fail_nth < 0) {
		puts("1..0 # SKIP this kernel injects no failures");
		return 0;
	}
	/* Also what may sleep, which is nearly all; and without a line in the log for each. */
	set("/sys/kernel/debug/failslab/ignore-gfp-wait", "N");
	set("/sys/kernel/debug/failslab/verbose", "0");
	set("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N");
	set("/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N");
	set("/sys/kernel/debug/fail_page_alloc/min-order", "0");
	set("/sys/kernel/debug/fail_page_alloc/verbose", "0");
	set("/sys/kernel/debug/fail_usercopy/verbose", "0");
	if (!read_file("/proc/sys/kernel/panic_on_warn", panic_on_warn,
		       sizeof(panic_on_warn)))
		bail("panic_on_warn: %s", strerror(errno));
	for_each_heap(test);
	return done_testing();
}
