/* SPDX-License-Identifier: GPL-2.0-only */
/* Devices that import dma-bufs: /dev/zcbuf-importer, as the tests use it. */
#ifndef IMPORTER_H
#define IMPORTER_H

#include "../../kernel/importer.h"
#include "zc.h"

enum direction {
	BIDIRECTIONAL = ZCBUF_IMPORTER_BIDIRECTIONAL,
	TO_DEVICE = ZCBUF_IMPORTER_TO_DEVICE,
	FROM_DEVICE = ZCBUF_IMPORTER_FROM_DEVICE,
};

static const char *const direction_name[] = {
	[BIDIRECTIONAL] = "both ways",
	[TO_DEVICE] = "to the device",
	[FROM_DEVICE] = "from the device",
};

#define SYNC_CPU_READS (ZCBUF_SYNC_START | ZCBUF_SYNC_READ)
#define SYNC_CPU_WROTE (ZCBUF_SYNC_END | ZCBUF_SYNC_WRITE)

/* A new device. */
static inline int device(void)
{
	int fd = open("/dev/zcbuf-importer", O_RDWR | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT && system("modprobe zcbuf_importer") == 0)
		fd = open("/dev/zcbuf-importer", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		bail("/dev/zcbuf-importer: %s", strerror(errno));
	return fd;
}

/* Attach DEV, which has BITS of address and takes MAX_SEGMENT bytes (0: any) at a time. */
static inline int attach(int dev, const struct heap *heap, int fd, unsigned int bits,
			 unsigned int max_segment)
{
	struct zcbuf_importer_attach arg = {
		.fd = fd,
		.dma_bits = bits,
		.max_segment = max_segment,
	};

	/* The only one whose memory has no pages to bring to a device. */
	if (heap->is.kind == ZCBUF_HEAP_CARVEOUT)
		arg.flags = ZCBUF_IMPORTER_PEER_TO_PEER;
	return ioctl(dev, ZCBUF_IMPORTER_ATTACH, &arg);
}

static inline int detach(int dev)
{
	return ioctl(dev, ZCBUF_IMPORTER_DETACH);
}

static inline int map_again(int dev, enum direction direction)
{
	struct zcbuf_importer_map arg = {
		.direction = direction,
		.flags = ZCBUF_IMPORTER_MAP_AGAIN,
	};

	return ioctl(dev, ZCBUF_IMPORTER_MAP, &arg);
}

static inline int map_device(int dev, enum direction direction)
{
	struct zcbuf_importer_map arg = { .direction = direction };

	return ioctl(dev, ZCBUF_IMPORTER_MAP, &arg);
}

static inline struct zcbuf_importer_map must_map_device(int dev, enum direction direction)
{
	struct zcbuf_importer_map arg = { .direction = direction };

	if (ioctl(dev, ZCBUF_IMPORTER_MAP, &arg))
		bail("a device cannot map %s: %s", direction_name[direction],
		     strerror(errno));
	return arg;
}

static inline int unmap_device(int dev)
{
	return ioctl(dev, ZCBUF_IMPORTER_UNMAP);
}

static inline int device_copy(int dev, unsigned long verb, const void *memory,
			      size_t offset, size_t length)
{
	struct zcbuf_importer_copy arg = {
		.offset = offset,
		.length = length,
		.user = (uintptr_t)memory,
	};

	return ioctl(dev, verb, &arg);
}

static inline int device_read(int dev, void *to, size_t offset, size_t length)
{
	return device_copy(dev, ZCBUF_IMPORTER_DEVICE_READ, to, offset, length);
}

static inline int device_write(int dev, const void *from, size_t offset, size_t length)
{
	return device_copy(dev, ZCBUF_IMPORTER_DEVICE_WRITE, from, offset, length);
}

static inline int vmap_read(int dev, void *to, size_t offset, size_t length)
{
	return device_copy(dev, ZCBUF_IMPORTER_VMAP_READ, to, offset, length);
}

static inline int vmap_write(int dev, const void *from, size_t offset, size_t length)
{
	return device_copy(dev, ZCBUF_IMPORTER_VMAP_WRITE, from, offset, length);
}

/* Does the device read SEED's pattern in all SIZE bytes? */
static inline bool device_sees(int dev, size_t size, uint64_t seed)
{
	void *copy = malloc(size);
	bool good = device_read(dev, copy, 0, size) == 0 && is_filled(copy, size, seed);

	free(copy);
	return good;
}

/* The device writes SEED's pattern into bytes OFFSET to OFFSET + LENGTH. */
static inline bool device_fills(int dev, size_t offset, size_t length, uint64_t seed)
{
	void *copy = malloc(length);
	bool good;

	fill(copy, length, seed + offset / 8);
	good = device_write(dev, copy, offset, length) == 0;
	free(copy);
	return good;
}

/* The memory of carveouts is not bounced to devices that do not reach it. */
static inline bool reaches(unsigned int bits, const struct heap *heap, int fd)
{
	int dev;
	bool can;

	if (heap->is.kind != ZCBUF_HEAP_CARVEOUT)
		return true;
	dev = device();
	can = attach(dev, heap, fd, bits, 0) == 0 && map_device(dev, TO_DEVICE) == 0;
	close(dev);
	return can;
}

/* Is there memory that a device with 32 bits of address does not reach? */
static inline bool has_high_memory(void)
{
	char text[32768];

	return read_file("/proc/iomem", text, sizeof(text)) &&
	       strstr(strstr(text, "\n100000000-") ?: "", "System RAM");
}

/* Has the machine been told to bounce everything, even what a device reaches? */
static inline bool bounces_all(void)
{
	char text[4096];

	return read_file("/proc/cmdline", text, sizeof(text)) &&
	       strstr(text, "swiotlb=force");
}

/* Can devices map it at all? Where all is bounced, memory without pages cannot be mapped. */
static inline bool importable(const struct heap *heap)
{
	int fd, dev;

	if (heap_has_pages(heap) || !bounces_all())
		return true;
	fd = must_alloc(heap, PAGE);
	dev = device();
	if (attach(dev, heap, fd, 64, 0))
		bail("%s: attach: %s", heap->name, strerror(errno));
	is_errno(map_device(dev, TO_DEVICE), EIO, "%s: it is not bounced", heap->name);
	close(dev);
	close(fd);
	return false;
}

/* Bounce buffers in use, in slots of 2 KiB, or -1 if the kernel does not tell. */
static inline long bounce_slots(void)
{
	char text[32];

	if (!read_file("/sys/kernel/debug/swiotlb/io_tlb_used", text, sizeof(text)))
		return -1;
	return atol(text);
}

static inline size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

#endif /* IMPORTER_H */
