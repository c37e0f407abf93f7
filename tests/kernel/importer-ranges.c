// SPDX-License-Identifier: GPL-2.0-only
/*
 * ZCBUF_IOC_SYNC brings a range to the CPU or to devices, and no byte beside it. That shows
 * where a device works on bounce buffers: it and the CPU then have a copy each.
 */
#include "importer.h"

#define SIZE (2 * 64 * 1024 + 3 * PAGE)

static const struct range {
	size_t offset, length;
} ranges[] = {
	{ 0, 1 },
	{ SIZE - 1, 1 },
	{ 1, SIZE - 2 },
	{ PAGE, PAGE },
	{ PAGE - 1, 2 },
	{ 3, 5 },
	{ 5 * PAGE + 123, 4567 },
	{ 64 * 1024 - 1, 2 },
	{ 64 * 1024 - 777, 64 * 1024 + 1555 },
	{ SIZE - PAGE - 1, PAGE + 1 },
	{ 2047, 2 }, /* bounce buffers are made of 2 KiB slots */
	{ 0, SIZE },
};

#define RANGES (sizeof(ranges) / sizeof(*ranges))

/* What the memory is filled with: two patterns that differ in every byte. */
static unsigned char before[SIZE], after[SIZE], wanted[SIZE], seen[SIZE];

static void make_patterns(void)
{
	fill(before, SIZE, 1);
	for (size_t i = 0; i < SIZE; i++)
		after[i] = ~before[i];
}

/* "after" within the range and "before" around it, or "after" everywhere */
static void want(const struct range *range, bool elsewhere_before)
{
	memcpy(wanted, elsewhere_before ? before : after, SIZE);
	memcpy(wanted + range->offset, after + range->offset, range->length);
}

static bool as_wanted(const void *memory, const struct range *range)
{
	memcpy(seen, memory, SIZE);
	for (size_t i = 0; i < SIZE; i++)
		if (seen[i] != wanted[i]) {
			diag("range of %zu from %zu: byte %zu is %s", range->length,
			     range->offset, i,
			     seen[i] == before[i]  ? "old"
			     : seen[i] == after[i] ? "new"
						   : "neither");
			return false;
		}
	return true;
}

static bool device_as_wanted(int dev, const struct range *range)
{
	static unsigned char copy[SIZE];

	return device_read(dev, copy, 0, SIZE) == 0 && as_wanted(copy, range);
}

struct shared {
	const struct heap *heap;
	char what[64];
	int fd, dev;
	char *memory;
	size_t size;
	unsigned int bits, segment;
	bool bounced; /* the device has a copy of its own of each byte */
};

static void end(struct shared *s)
{
	unmap_device(s->dev);
	detach(s->dev);
}

/* Of how many pages has the device a copy of its own? Without a sync nobody sees the other's. */
static size_t pages_apart(struct shared *s, enum direction direction)
{
	size_t apart = 0;
	char byte;

	for (size_t i = 0; i < s->size; i += PAGE) {
		if (direction == FROM_DEVICE) {
			byte = ~s->memory[i];
			device_write(s->dev, &byte, i, 1);
		} else {
			s->memory[i] = ~s->memory[i];
			device_read(s->dev, &byte, i, 1);
		}
		apart += s->memory[i] != byte;
	}
	return apart;
}

static bool begin(struct shared *s, enum direction direction)
{
	struct zcbuf_importer_map map;
	size_t apart;

	if (attach(s->dev, s->heap, s->fd, s->bits, s->segment))
		bail("%s: attach: %s", s->heap->name, strerror(errno));
	map = must_map_device(s->dev, direction);
	apart = pages_apart(s, direction);
	s->bounced = apart == s->size / PAGE;
	snprintf(s->what, sizeof(s->what), "%s, segments of %llu, %s%s", s->heap->name,
		 (unsigned long long)map.max_segment, direction_name[direction],
		 s->bounced ? ", bounced" : "");
	if (map.known == map.nents && s->bounced != (map.bounced == map.nents))
		bail("%s: %u of %u segments are said to be", s->what, map.bounced,
		     map.nents);
	if (!apart || s->bounced)
		return true;
	skip("%s: %zu of %zu pages are bounced, not all", s->what, apart, s->size / PAGE);
	end(s);
	return false;
}

/* Ranges come to the CPU. */
static void from_device(struct shared *s, enum direction direction)
{
	int wrong = 0, wrong_view = 0;

	if (!begin(s, direction))
		return;
	for (const struct range *r = ranges; r < ranges + RANGES; r++) {
		memcpy(s->memory, before, SIZE);
		device_write(s->dev, after, 0, SIZE);
		want(r, s->bounced);
		if (sync_range(s->fd, r->offset, r->length, SYNC_CPU_READS) ||
		    !as_wanted(s->memory, r))
			wrong++;
		sync_range(s->fd, r->offset, r->length, ZCBUF_SYNC_END | ZCBUF_SYNC_READ);
	}
	ok(!wrong, "%s: the CPU sees the range that it begins to read, and no more",
	   s->what);

	/* Through a view, offsets count from its beginning. */
	for (const struct range *r = ranges; r < ranges + RANGES; r++) {
		size_t page = r->offset / PAGE * PAGE;
		int part = view(s->fd, page, 0, 0);

		memcpy(s->memory, before, SIZE);
		device_write(s->dev, after, 0, SIZE);
		want(r, s->bounced);
		if (sync_range(part, r->offset - page, r->length, SYNC_CPU_READS) ||
		    !as_wanted(s->memory, r))
			wrong_view++;
		close(part);
	}
	ok(!wrong_view, "%s: the same through views", s->what);

	memcpy(s->memory, before, SIZE);
	device_write(s->dev, after, 0, SIZE);
	want(ranges, false);
	sync_all(s->fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ);
	ok(as_wanted(s->memory, ranges), "%s: DMA_BUF_IOCTL_SYNC brings all", s->what);
	end(s);
}

/* Ranges go to the device. */
static void to_device(struct shared *s, enum direction direction)
{
	int wrong = 0, wrong_view = 0;

	if (!begin(s, direction))
		return;
	for (const struct range *r = ranges; r < ranges + RANGES; r++) {
		memcpy(s->memory, before, SIZE);
		sync_range(s->fd, 0, SIZE, SYNC_CPU_WROTE);
		memcpy(s->memory, after, SIZE);
		want(r, s->bounced);
		if (sync_range(s->fd, r->offset, r->length, SYNC_CPU_WROTE) ||
		    !device_as_wanted(s->dev, r))
			wrong++;
	}
	ok(!wrong, "%s: the device sees the range that the CPU wrote, and no more",
	   s->what);

	for (const struct range *r = ranges; r < ranges + RANGES; r++) {
		size_t page = r->offset / PAGE * PAGE;
		int part = view(s->fd, page, 0, 0);

		memcpy(s->memory, before, SIZE);
		sync_range(s->fd, 0, SIZE, SYNC_CPU_WROTE);
		memcpy(s->memory, after, SIZE);
		want(r, s->bounced);
		if (sync_range(part, r->offset - page, r->length, SYNC_CPU_WROTE) ||
		    !device_as_wanted(s->dev, r))
			wrong_view++;
		close(part);
	}
	ok(!wrong_view, "%s: the same through views", s->what);

	memcpy(s->memory, before, SIZE);
	memcpy(wanted, before, SIZE);
	sync_all(s->fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE);
	ok(device_as_wanted(s->dev, ranges), "%s: DMA_BUF_IOCTL_SYNC brings all", s->what);
	end(s);
}

/* What has no news is not copied over what has. */
static void not_backwards(struct shared *s)
{
	const struct range *whole = &ranges[RANGES - 1];

	if (begin(s, TO_DEVICE)) {
		memcpy(s->memory, before, SIZE);
		sync_all(s->fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE);
		memcpy(s->memory, after, SIZE);
		want(whole, false);
		sync_all(s->fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW);
		ok(as_wanted(s->memory, whole),
		   "%s: beginning access takes nothing from a device that only reads",
		   s->what);
		if (s->bounced) {
			memcpy(wanted, before, SIZE);
			sync_all(s->fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ);
			ok(device_as_wanted(s->dev, whole),
			   "%s: who has only read gives nothing to the device", s->what);
		}
		end(s);
	}
	if (begin(s, FROM_DEVICE)) {
		memcpy(s->memory, before, SIZE);
		device_write(s->dev, after, 0, SIZE);
		sync_all(s->fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW);
		want(whole, false);
		unmap_device(s->dev);
		ok(as_wanted(s->memory, whole),
		   "%s: ending access takes nothing from a device that only writes",
		   s->what);
		must_map_device(s->dev, FROM_DEVICE);
		end(s);
	}
}

/* Each device has its own idea of the memory, and its own segments. */
static void two_readers(struct shared *s, struct shared *other)
{
	int wrong = 0;

	for (const struct range *r = ranges; r < ranges + RANGES; r++) {
		memcpy(s->memory, before, SIZE);
		sync_range(s->fd, 0, SIZE, SYNC_CPU_WROTE);
		memcpy(s->memory, after, SIZE);
		sync_range(s->fd, r->offset, r->length, SYNC_CPU_WROTE);
		want(r, s->bounced);
		wrong += !device_as_wanted(s->dev, r);
		want(r, other->bounced);
		wrong += !device_as_wanted(other->dev, r);
	}
	ok(!wrong, "%s: two devices see what the CPU wrote", s->heap->name);
	ok(info(s->fd).attachments == 2, "%s: and are counted", s->heap->name);
}

static void writer_and_reader(struct shared *s, struct shared *other)
{
	const unsigned int both = ZCBUF_SYNC_READ | ZCBUF_SYNC_WRITE;

	memcpy(s->memory, before, SIZE);
	device_write(s->dev, after, 0, SIZE);
	sync_range(s->fd, 0, SIZE, ZCBUF_SYNC_START | both);
	want(ranges, false);
	ok(as_wanted(s->memory, ranges), "%s: one device writes, the CPU sees it",
	   s->heap->name);
	sync_range(s->fd, 0, SIZE, ZCBUF_SYNC_END | both);
	ok(device_as_wanted(other->dev, ranges), "%s: and brings it to another",
	   s->heap->name);
}

static void two_devices(struct shared *s)
{
	struct shared other = *s;

	other.dev = device();
	other.segment = s->segment == PAGE ? 64 * 1024 : PAGE;
	if (begin(&other, TO_DEVICE)) {
		if (begin(s, TO_DEVICE)) {
			two_readers(s, &other);
			end(s);
		}
		if (begin(s, FROM_DEVICE)) {
			writer_and_reader(s, &other);
			end(s);
		}
	}
	close(other.dev);
}

/* The device has a part, the CPU brackets another part: they meet where they overlap. */
static void part_attached(const struct shared *whole)
{
	static const struct range some[] = {
		{ 0, SIZE },	       /* all round */
		{ 0, 3 * PAGE },       /* before it */
		{ 7 * PAGE, PAGE },    /* behind it */
		{ 3 * PAGE - 10, 20 }, /* across its beginning */
		{ 7 * PAGE - 10, 20 }, /* across its end */
		{ 4 * PAGE + 1, 100 }, /* within it */
	};
	const size_t first = 3 * PAGE, length = 4 * PAGE;
	static unsigned char copy[4 * PAGE];
	struct shared part = *whole;
	int wrong = 0;

	part.fd = view(whole->fd, first, length, 0);
	part.memory += first;
	part.size = length;
	if (begin(&part, TO_DEVICE)) {
		for (const struct range *r = some; r < some + sizeof(some) / sizeof(*some);
		     r++) {
			memcpy(whole->memory, before, SIZE);
			sync_range(whole->fd, 0, SIZE, SYNC_CPU_WROTE);
			memcpy(whole->memory, after, SIZE);
			sync_range(whole->fd, r->offset, r->length, SYNC_CPU_WROTE);
			want(r, part.bounced);
			if (device_read(part.dev, copy, 0, length) ||
			    memcmp(copy, wanted + first, length)) {
				diag("range of %zu from %zu", r->length, r->offset);
				wrong++;
			}
		}
		ok(!wrong, "%s: and of a view just what was synced of its part", part.what);
		end(&part);
	}
	close(part.fd);
}

static void test(const struct heap *heap)
{
	static const unsigned int segments[] = { PAGE, 64 * 1024, 0 };
	struct held held_before = held(heap);
	struct shared s = { .heap = heap, .size = SIZE };

	if (heap->is.max_size < SIZE || !importable(heap))
		return;
	s.fd = must_alloc(heap, SIZE);
	s.memory = must_map(s.fd, SIZE);
	s.dev = device();
	s.bits = reaches(32, heap, s.fd) ? 32 : 64;
	for (unsigned int i = 0; i < sizeof(segments) / sizeof(*segments); i++) {
		s.segment = segments[i];
		from_device(&s, FROM_DEVICE);
		from_device(&s, BIDIRECTIONAL);
		to_device(&s, TO_DEVICE);
		to_device(&s, BIDIRECTIONAL);
		not_backwards(&s);
		two_devices(&s);
		part_attached(&s);
	}
	munmap(s.memory, SIZE);
	close(s.dev);
	close(s.fd);
	ok(held_as(heap, held_before), "%s: nothing is left behind", heap->name);
}

int main(void)
{
	make_patterns();
	for_each_heap(test);
	return done_testing();
}
