// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a device sees: zcbuf_importer attaches, maps, reads and writes at the addresses that it
 * was given, in each direction, with few address bits, so that the kernel copies through bounce
 * buffers, and with small segments. CPU and device must see each other's bytes where they were
 * synced, and nowhere else.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "../../kernel/importer.h"
#include "zc.h"

#define SIZE   (MiB + 5 * PAGE)
#define BOTH   ZCBUF_IMPORTER_BIDIRECTIONAL
#define TO     ZCBUF_IMPORTER_TO_DEVICE
#define FROM   ZCBUF_IMPORTER_FROM_DEVICE
#define ACCESS (ZCBUF_SYNC_READ | ZCBUF_SYNC_WRITE)

static int new_device(void)
{
	int device = open("/dev/zcbuf-importer", O_RDWR | O_CLOEXEC);

	if (device < 0)
		bail("/dev/zcbuf-importer: %s", strerror(errno));
	return device;
}

/* Memory without pages is only for devices that say that they need none. */
static int attach(const struct heap *heap, int device, int fd, uint32_t bits,
		  uint32_t segment)
{
	struct zcbuf_importer_attach arg = {
		.fd = fd,
		.dma_bits = bits,
		.max_segment = segment,
	};

	if (heap->is.kind == ZCBUF_HEAP_CARVEOUT)
		arg.flags = ZCBUF_IMPORTER_PEER_TO_PEER;
	return ioctl(device, ZCBUF_IMPORTER_ATTACH, &arg);
}

static int map_for(int device, uint32_t direction, struct zcbuf_importer_map *report)
{
	*report = (struct zcbuf_importer_map){ .direction = direction };
	return ioctl(device, ZCBUF_IMPORTER_MAP, report);
}

static int unmap(int device)
{
	return ioctl(device, ZCBUF_IMPORTER_UNMAP);
}

static int copy(int device, unsigned long how, size_t offset, size_t length, void *memory)
{
	struct zcbuf_importer_copy arg = { .offset = offset,
					   .length = length,
					   .user = (uintptr_t)memory };

	return ioctl(device, how, &arg);
}

/* What the device, or its driver, finds from OFFSET on is SEED's pattern. */
static bool finds(int device, unsigned long how, size_t offset, size_t length,
		  uint64_t seed)
{
	void *memory = malloc(length);
	bool same = copy(device, how, offset, length, memory) == 0 &&
		    is_filled_from(memory, offset, length, seed);

	free(memory);
	return same;
}

static bool writes(int device, unsigned long how, size_t offset, size_t length,
		   uint64_t seed)
{
	void *memory = malloc(length);
	bool done;

	fill(memory, length, seed + offset / 8);
	done = copy(device, how, offset, length, memory) == 0;
	free(memory);
	return done;
}

#define device_finds(device, ...)  finds(device, ZCBUF_IMPORTER_DEVICE_READ, __VA_ARGS__)
#define device_writes(device, ...) writes(device, ZCBUF_IMPORTER_DEVICE_WRITE, __VA_ARGS__)

static void directions(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE), device = new_device();
	void *memory = must_map(fd, SIZE);
	struct zcbuf_importer_map report;
	bool dynamic = heap->is.kind == ZCBUF_HEAP_CARVEOUT;

	if (!ok(attach(heap, device, fd, 64, 0) == 0, "%s: a device can attach",
		heap->name))
		goto out;
	ok(info(fd).attachments == 1, "%s: INFO counts it", heap->name);
	fill(memory, SIZE, 1);
	ok(map_for(device, TO, &report) == 0 && device_finds(device, 0, SIZE, 1),
	   "%s: it reads what the CPU wrote before it mapped", heap->name);
	ok(report.length == SIZE && report.unreachable == 0,
	   "%s: it can reach each byte and no more", heap->name);
	if (heap_can(heap, ZCBUF_HEAP_CAP_CONTIGUOUS))
		ok(report.contiguous, "%s: in one piece", heap->name);
	ok(unmap(device) == 0, "%s: it can unmap", heap->name);
	if (!dynamic) {
		ok(map_for(device, FROM, &report) == 0 &&
			   device_writes(device, 0, SIZE, 2) && unmap(device) == 0 &&
			   is_filled(memory, SIZE, 2),
		   "%s: the CPU reads what the device wrote before it unmapped",
		   heap->name);
	}
	fill(memory, SIZE, 3);
	ok(map_for(device, BOTH, &report) == 0 && device_finds(device, 0, SIZE, 3) &&
		   device_writes(device, PAGE, 2 * PAGE, 4),
	   "%s: a device can map both ways", heap->name);

	struct zcbuf_importer_map again = { .direction = BOTH,
					    .flags = ZCBUF_IMPORTER_MAP_AGAIN };

	if (!dynamic)
		is_errno(ioctl(device, ZCBUF_IMPORTER_MAP, &again), EBUSY,
			 "%s: but only once at a time", heap->name);
	ok(unmap(device) == 0 && is_filled(memory, PAGE, 3) &&
		   is_filled_from(memory + PAGE, PAGE, 2 * PAGE, 4) &&
		   is_filled_from(memory + 3 * PAGE, 3 * PAGE, SIZE - 3 * PAGE, 3),
	   "%s: it wrote where it was told to", heap->name);
	ok(ioctl(device, ZCBUF_IMPORTER_DETACH) == 0 && info(fd).attachments == 0,
	   "%s: and can detach", heap->name);
out:
	close(device);
	munmap(memory, SIZE);
	close(fd);
}

/* A table entry is never longer than the device can take, and the whole is covered. */
static void segments(const struct heap *heap)
{
	static const uint32_t limits[] = { PAGE, 65536, 65536 + PAGE, 2 << 20 };
	size_t size = 2 * MiB + 3 * PAGE;
	int fd = must_alloc(heap, size);

	for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++) {
		int device = new_device();
		struct zcbuf_importer_map report;

		ok(attach(heap, device, fd, 64, limits[i]) == 0 &&
			   map_for(device, BOTH, &report) == 0 && report.length == size &&
			   report.max_segment <= limits[i] &&
			   device_writes(device, 0, size, i) &&
			   device_finds(device, 0, size, i),
		   "%s: a device that takes %u bytes at once gets segments of that",
		   heap->name, limits[i]);
		close(device);
	}
	close(fd);
}

static void alignments(const struct heap *heap)
{
	for (uint64_t asked = PAGE; asked <= heap->is.max_alignment && asked <= MiB;
	     asked *= 4) {
		struct zcbuf_ioc_alloc arg = { .size = asked,
					       .alignment = asked,
					       .fd_flags = O_RDWR };
		struct zcbuf_importer_map report;
		int device = new_device();

		if (ioctl(heap->fd, ZCBUF_IOC_ALLOC, &arg))
			bail("no buffer: %s", strerror(errno));
		ok(attach(heap, device, arg.fd, 64, 0) == 0 &&
			   map_for(device, BOTH, &report) == 0 && report.alignment >= asked,
		   "%s: a device sees alignment %llu", heap->name,
		   (unsigned long long)asked);
		close(device);
		close(arg.fd);
	}
}

static void low_memory(const struct heap *heap)
{
	struct zcbuf_ioc_alloc arg = { .size = SIZE,
				       .flags = ZCBUF_ALLOC_DMA32,
				       .fd_flags = O_RDWR };
	struct zcbuf_importer_map report;
	int device = new_device();

	if (!heap_can(heap, ZCBUF_HEAP_CAP_DMA32)) {
		close(device);
		return;
	}
	if (ioctl(heap->fd, ZCBUF_IOC_ALLOC, &arg))
		bail("no buffer: %s", strerror(errno));
	ok(attach(heap, device, arg.fd, 32, 0) == 0 &&
		   map_for(device, BOTH, &report) == 0 && report.bounced == 0 &&
		   report.unreachable == 0,
	   "%s: a device of 32 bits reaches a DMA32 buffer without a copy", heap->name);
	close(device);
	close(arg.fd);
}

/*
 * A buffer of which a device of 32 bits reaches nothing directly, attached and mapped both
 * ways; or -1. The kernel likes to give such memory, but need not.
 */
static int bounced(const struct heap *heap, int device, size_t size)
{
	int fds[8], count = 0, found = -1;

	while (found < 0 && count < 8) {
		struct zcbuf_importer_map report;
		int fd = alloc(heap, size);

		if (fd < 0)
			break;
		if (attach(heap, device, fd, 32, 0) == 0 &&
		    map_for(device, BOTH, &report) == 0 && report.known &&
		    report.bounced == report.known) {
			found = fd;
		} else {
			unmap(device);
			ioctl(device, ZCBUF_IMPORTER_DETACH);
			fds[count++] = fd;
		}
	}
	while (count)
		close(fds[--count]);
	return found;
}

/* Ranges are multiples of eight here, for the patterns. */
static const struct range {
	size_t offset, length;
} ranges[] = {
	{ 0, 8 },	   { PAGE, PAGE },
	{ PAGE - 8, 16 },  { 3 * PAGE + 72, 5 * PAGE + 64 },
	{ 65536 - 8, 16 }, { 262144 - 64, 128 },
	{ SIZE - 8, 8 },   { 0, SIZE },
};

static bool only_in(const void *memory, struct range range, uint64_t inside,
		    uint64_t outside)
{
	const char *bytes = memory;
	size_t end = range.offset + range.length;

	return is_filled(bytes, range.offset, outside) &&
	       is_filled_from(bytes + range.offset, range.offset, range.length, inside) &&
	       is_filled_from(bytes + end, end, SIZE - end, outside);
}

/* The device's memory is another one: each byte moves when it is synced, and only then. */
static void bounce(const struct heap *heap)
{
	void *memory, *device_sees = malloc(SIZE);
	int device = new_device(), fd = bounced(heap, device, SIZE);

	if (fd < 0) {
		skip("%s: no buffer that has to be copied for a device of 32 bits",
		     heap->name);
		goto out;
	}
	memory = must_map(fd, SIZE);
	for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++) {
		struct range range = ranges[i];

		fill(memory, SIZE, 10);
		sync_range(fd, 0, SIZE, ZCBUF_SYNC_END | ZCBUF_SYNC_WRITE);
		device_writes(device, 0, SIZE, 20);
		ok(sync_range(fd, range.offset, range.length, ZCBUF_SYNC_START | ACCESS) ==
				   0 &&
			   only_in(memory, range, 20, 10),
		   "%s: START of bytes %zu to %zu shows what the device wrote there, and "
		   "only there",
		   heap->name, range.offset, range.offset + range.length);

		fill(memory, SIZE, 30);
		ok(sync_range(fd, range.offset, range.length, ZCBUF_SYNC_END | ACCESS) ==
				   0 &&
			   copy(device, ZCBUF_IMPORTER_DEVICE_READ, 0, SIZE, device_sees) ==
				   0 &&
			   only_in(device_sees, range, 30, 20),
		   "%s: END of bytes %zu to %zu shows the device what is there, and only "
		   "that",
		   heap->name, range.offset, range.offset + range.length);
	}

	fill(memory, SIZE, 40);
	ok(sync_all(fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW) == 0 &&
		   device_finds(device, 0, SIZE, 40),
	   "%s: DMA_BUF_IOCTL_SYNC END shows the device the whole", heap->name);
	ok(device_writes(device, 0, SIZE, 50) &&
		   sync_all(fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW) == 0 &&
		   is_filled(memory, SIZE, 50),
	   "%s: and START shows what the device wrote", heap->name);
	ok(sync_range(fd, 0, SIZE, ZCBUF_SYNC_END | ZCBUF_SYNC_READ) == 0 &&
		   device_finds(device, 0, SIZE, 50),
	   "%s: who only read has nothing to show", heap->name);
	ok(device_writes(device, 0, SIZE, 60) && unmap(device) == 0 &&
		   is_filled(memory, SIZE, 60),
	   "%s: unmapping shows the CPU the rest", heap->name);
	munmap(memory, SIZE);
out:
	close(device);
	close(fd);
	free(device_sees);
}

/* The same through a view: its offsets are its own, and its device has no more than it. */
static void bounced_view(const struct heap *heap)
{
	int scout = new_device(), device = new_device(), fd = bounced(heap, scout, SIZE),
	    part;
	struct zcbuf_importer_map report;
	char *memory;

	close(scout);
	if (fd < 0) {
		skip("%s: no buffer that has to be copied for a device of 32 bits",
		     heap->name);
		close(device);
		return;
	}
	memory = must_map(fd, SIZE);
	part = view(fd, 2 * PAGE, 4 * PAGE, 0);
	fill(memory, SIZE, 1);
	ok(attach(heap, device, part, 32, 0) == 0 && map_for(device, BOTH, &report) == 0 &&
		   report.length == 4 * PAGE,
	   "%s: a device has of a view just its range", heap->name);
	ok(device_writes(device, 0, 4 * PAGE, 2), "%s: and writes there", heap->name);
	ok(sync_range(part, PAGE, PAGE, ZCBUF_SYNC_START | ACCESS) == 0 &&
		   is_filled(memory, 3 * PAGE, 1) &&
		   is_filled_from(memory + 3 * PAGE, PAGE, PAGE, 2) &&
		   is_filled_from(memory + 4 * PAGE, 4 * PAGE, SIZE - 4 * PAGE, 1),
	   "%s: SYNC of a view counts from its beginning", heap->name);
	ok(sync_range(fd, 5 * PAGE, 8 * PAGE, ZCBUF_SYNC_START | ACCESS) == 0 &&
		   is_filled_from(memory + 5 * PAGE, 3 * PAGE, PAGE, 2) &&
		   is_filled_from(memory + 4 * PAGE, 4 * PAGE, PAGE, 1) &&
		   is_filled_from(memory + 6 * PAGE, 6 * PAGE, SIZE - 6 * PAGE, 1),
	   "%s: SYNC of the buffer reaches the device of a view, within its range",
	   heap->name);
	ok(sync_range(fd, 0, PAGE, ZCBUF_SYNC_START | ACCESS) == 0 &&
		   is_filled(memory, 3 * PAGE, 1),
	   "%s: and leaves it alone elsewhere", heap->name);
	close(device);
	close(part);
	munmap(memory, SIZE);
	close(fd);
}

/* Unbalanced, too early, too late: no more than a list that is empty. */
static void brackets(const struct heap *heap)
{
	const uint64_t start = ZCBUF_SYNC_START | ACCESS, end = ZCBUF_SYNC_END | ACCESS;
	int fd = must_alloc(heap, SIZE), device = new_device();
	void *memory = must_map(fd, SIZE);
	struct zcbuf_importer_map report;
	bool mapped = false;

	fill(memory, SIZE, 1);
	for (int state = 0; state < 4; state++) {
		static const char *const when[] = {
			"before anything attaches",
			"while it is attached",
			"while it is mapped",
			"after it has gone",
		};

		if (state == 1)
			ok(attach(heap, device, fd, 64, 0) == 0, "%s: a device attaches",
			   heap->name);
		if (state == 2)
			mapped = map_for(device, BOTH, &report) == 0;
		if (state == 3) {
			ok(mapped, "%s: it mapped", heap->name);
			close(device);
		}
		ok(sync_range(fd, 0, SIZE, end) == 0 &&
			   sync_all(fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW) == 0,
		   "%s: END without START %s", heap->name, when[state]);
		ok(sync_range(fd, 0, SIZE, start) == 0 &&
			   sync_range(fd, 0, SIZE, start) == 0 &&
			   sync_range(fd, 0, SIZE, end) == 0,
		   "%s: START, START, END %s", heap->name, when[state]);
		ok(sync_all(fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW) == 0 &&
			   sync_range(fd, PAGE, PAGE, end) == 0,
		   "%s: START of the whole, END of a page %s", heap->name, when[state]);
	}
	ok(is_filled(memory, SIZE, 1), "%s: and no byte has changed", heap->name);
	munmap(memory, SIZE);
	close(fd);
}

static void driver_access(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE), part = view(fd, 3 * PAGE, SIZE - 5 * PAGE, 0);
	int device = new_device(), on_part = new_device(), failed = 0;
	void *memory = must_map(fd, SIZE);

	attach(heap, device, fd, 64, 0);
	attach(heap, on_part, part, 64, 0);
	if (!heap_can(heap, ZCBUF_HEAP_CAP_VMAP)) {
		ok(copy(device, ZCBUF_IMPORTER_VMAP_READ, 0, 8, memory) == -1,
		   "%s: it cannot be mapped into the kernel, as it says", heap->name);
		goto out;
	}
	fill(memory, SIZE, 1);
	ok(finds(device, ZCBUF_IMPORTER_VMAP_READ, 0, SIZE, 1),
	   "%s: a driver finds each byte at its place in the kernel's mapping", heap->name);
	for (size_t at = 0; at < SIZE; at += 37 * PAGE)
		failed += !finds(device, ZCBUF_IMPORTER_VMAP_READ, at, 8, 1);
	ok(!failed, "%s: as often as it maps it", heap->name);
	ok(writes(device, ZCBUF_IMPORTER_VMAP_WRITE, PAGE, SIZE - PAGE, 2) &&
		   is_filled(memory, PAGE, 1) &&
		   is_filled_from((char *)memory + PAGE, PAGE, SIZE - PAGE, 2),
	   "%s: what it writes there is in the buffer", heap->name);

	struct zcbuf_importer_copy over = { .offset = SIZE - 5 * PAGE, .length = 8 };

	fill(memory, SIZE, 3);
	ok(finds(on_part, ZCBUF_IMPORTER_VMAP_READ, 0, 8, 3 + 3 * PAGE / 8) &&
		   finds(on_part, ZCBUF_IMPORTER_VMAP_READ, SIZE - 5 * PAGE - 8, 8,
			 3 + 3 * PAGE / 8),
	   "%s: a view's mapping is just the view", heap->name);
	is_errno(ioctl(on_part, ZCBUF_IMPORTER_VMAP_READ, &over), EINVAL, "%s: and no more",
		 heap->name);
	ok(ioctl(device, ZCBUF_IMPORTER_CPU_BEGIN, BOTH) == 0 &&
		   ioctl(device, ZCBUF_IMPORTER_CPU_END, BOTH) == 0,
	   "%s: a driver can bracket its access", heap->name);
out:
	close(device);
	close(on_part);
	munmap(memory, SIZE);
	close(part);
	close(fd);
}

static void device_read_only(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE),
	    narrow = view(fd, 0, 0, ZCBUF_VIEW_DEVICE_READ_ONLY);
	int further = view(narrow, PAGE, PAGE, 0), device = new_device();
	void *memory = must_map(fd, SIZE);
	struct zcbuf_importer_map report;
	char byte = 0;

	fill(memory, SIZE, 1);
	/* A dynamic device of an old kernel maps both ways when it attaches. */
	if (attach(heap, device, narrow, 64, 0)) {
		ok(heap->is.kind == ZCBUF_HEAP_CARVEOUT && errno == EACCES,
		   "%s: device-read-only refuses a device that maps both ways at once",
		   heap->name);
		goto out;
	}
	is_errno(map_for(device, BOTH, &report), EACCES,
		 "%s: device-read-only refuses a mapping both ways", heap->name);
	is_errno(map_for(device, FROM, &report), EACCES,
		 "%s: and one for the device to write", heap->name);
	ok(map_for(device, TO, &report) == 0 && device_finds(device, 0, SIZE, 1),
	   "%s: but lets it read", heap->name);
	unmap(device);
	ok(copy(device, ZCBUF_IMPORTER_VMAP_READ, 0, 1, &byte) == -1,
	   "%s: it refuses a kernel mapping, which has no direction", heap->name);
	ioctl(device, ZCBUF_IMPORTER_DETACH);
	ok(attach(heap, device, further, 64, 0) == 0 &&
		   map_for(device, BOTH, &report) == -1 && errno == EACCES,
	   "%s: so does each view of it", heap->name);
	ioctl(device, ZCBUF_IMPORTER_DETACH);
out:
	ok(attach(heap, device, fd, 64, 0) == 0 && map_for(device, BOTH, &report) == 0,
	   "%s: its parent does not", heap->name);
	ok(is_filled(memory, SIZE, 1), "%s: and no byte has changed", heap->name);
	close(device);
	munmap(memory, SIZE);
	close(further);
	close(narrow);
	close(fd);
}

static void lifetimes(const struct heap *heap)
{
	struct held before = held(heap);
	int fd = must_alloc(heap, SIZE), one = new_device(), other = new_device();
	struct zcbuf_importer_map report;

	ok(attach(heap, one, fd, 64, 0) == 0 && attach(heap, other, fd, 64, PAGE) == 0 &&
		   map_for(one, BOTH, &report) == 0 && map_for(other, BOTH, &report) == 0 &&
		   info(fd).attachments == 2,
	   "%s: two devices have it at once", heap->name);
	ok(device_writes(one, 0, SIZE, 1) && device_finds(other, 0, SIZE, 1),
	   "%s: one reads what the other wrote", heap->name);
	close(fd);
	ok(device_writes(other, 0, SIZE, 2) && device_finds(one, 0, SIZE, 2),
	   "%s: also when nobody else has it any more", heap->name);
	close(one);
	ok(device_finds(other, 0, SIZE, 2), "%s: one may go", heap->name);
	close(other);
	ok(held_as(heap, before), "%s: the last one frees it", heap->name);
}

/* Pageless memory is refused by name to those who look for pages. */
static void pageless(const struct heap *heap)
{
	struct zcbuf_importer_attach plain = { .dma_bits = 64 };
	int fd = must_alloc(heap, PAGE), device = new_device();

	plain.fd = fd;
	is_errno(ioctl(device, ZCBUF_IMPORTER_ATTACH, &plain), EOPNOTSUPP,
		 "%s: a device that wants pages is refused", heap->name);
	close(device);
	close(fd);
}

static atomic_bool over;
static int raced;

static void *map_and_unmap(void *data)
{
	struct zcbuf_importer_map report;
	int device = *(int *)data;

	while (!over) {
		map_for(device, BOTH, &report);
		unmap(device);
	}
	return NULL;
}

static void *attach_and_detach(void *data)
{
	while (!over) {
		int device = new_device();

		attach(data, device, raced, 32, PAGE);
		close(device);
	}
	return NULL;
}

/* A table must not be synced while it is made or unmade. */
static void races(const struct heap *heap)
{
	int device = new_device(), syncs = 0, failed = 0;
	pthread_t threads[2];

	raced = must_alloc(heap, 64 * PAGE);
	attach(heap, device, raced, 32, 0);
	over = false;
	pthread_create(&threads[0], NULL, map_and_unmap, &device);
	pthread_create(&threads[1], NULL, attach_and_detach, (void *)heap);
	for (double begin = seconds(); seconds() - begin < 0.3; syncs++) {
		failed += sync_range(raced, 3 * PAGE, 40 * PAGE,
				     ZCBUF_SYNC_START | ACCESS) != 0;
		failed += sync_range(raced, 3 * PAGE, 40 * PAGE, ZCBUF_SYNC_END | ACCESS) !=
			  0;
		failed += info(raced).attachments > 2;
	}
	over = true;
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	ok(!failed && syncs > 5, "%s: SYNC while devices come, map, unmap and go",
	   heap->name);
	close(device);
	close(raced);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);

	if (heap->is.max_size < 4 * MiB) {
		skip("%s is too small", heap->name);
		return;
	}
	directions(heap);
	segments(heap);
	alignments(heap);
	low_memory(heap);
	if (heap->is.kind == ZCBUF_HEAP_CARVEOUT) {
		pageless(heap);
	} else {
		bounce(heap);
		bounced_view(heap);
	}
	brackets(heap);
	driver_access(heap);
	device_read_only(heap);
	lifetimes(heap);
	races(heap);
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

int main(void)
{
	if (system("modprobe zcbuf_importer"))
		bail("no zcbuf_importer");
	for_each_heap(test);
	return done_testing();
}
