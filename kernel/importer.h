/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * /dev/zcbuf-importer: a device that imports dma-bufs, for tests. Shared with them, and no
 * stable interface.
 *
 * Each open file is one device of its own, which nothing else uses, with at most one
 * attachment and one mapping. Calls on one file wait for each other. Its end unmaps and
 * detaches. No call has an effect when it fails.
 */
#ifndef ZCBUF_IMPORTER_H
#define ZCBUF_IMPORTER_H

#include <linux/ioctl.h>
#include <linux/types.h>

/*
 * The device maps dynamically and takes peer-to-peer addresses. Kernels before 6.13 then
 * map at once, for both directions, and keep that until DETACH.
 */
#define ZCBUF_IMPORTER_PEER_TO_PEER	0x1

/**
 * struct zcbuf_importer_attach - see ZCBUF_IMPORTER_ATTACH
 * @fd: the dma-buf, of any exporter
 * @flags: ZCBUF_IMPORTER_PEER_TO_PEER or 0
 * @dma_bits: how many bits of an address the device has, 1 to 64
 * @max_segment: the most bytes that it takes as one segment, or 0 for any number
 */
struct zcbuf_importer_attach {
	__s32 fd;
	__u32 flags;
	__u32 dma_bits;
	__u32 max_segment;
};

/* Directions: the numbers of the kernel's enum dma_data_direction. */
#define ZCBUF_IMPORTER_BIDIRECTIONAL	0
#define ZCBUF_IMPORTER_TO_DEVICE	1
#define ZCBUF_IMPORTER_FROM_DEVICE	2

/*
 * Ask the exporter for one more mapping while there is one already, and undo that at once
 * if it succeeds. Such a MAP reports nothing.
 */
#define ZCBUF_IMPORTER_MAP_AGAIN	0x1

/**
 * struct zcbuf_importer_map - see ZCBUF_IMPORTER_MAP
 * @direction: in: ZCBUF_IMPORTER_BIDIRECTIONAL, _TO_DEVICE or _FROM_DEVICE
 * @flags: in: ZCBUF_IMPORTER_MAP_AGAIN or 0
 * @orig_nents: out: entries of the table that say where the CPU finds the memory
 * @nents: out: segments, as the device sees them
 * @known: out: segments of which the importer knows the page; others say nothing here
 * @bounced: out: segments that are not at their page but in a bounce buffer
 * @unreachable: out: segments that end beyond what @dma_bits can address
 * @contiguous: out: 1 if each segment begins where the one before ends
 * @length: out: bytes in all segments
 * @max_segment: out: bytes in the largest one
 * @alignment: out: the largest power of two that all their addresses are multiples of
 * @address: out: where the first one begins for the device
 */
struct zcbuf_importer_map {
	__u32 direction;
	__u32 flags;
	__u32 orig_nents;
	__u32 nents;
	__u32 known;
	__u32 bounced;
	__u32 unreachable;
	__u32 contiguous;
	__u64 length;
	__u64 max_segment;
	__u64 alignment;
	__u64 address;
};

/**
 * struct zcbuf_importer_copy - see ZCBUF_IMPORTER_DEVICE_READ and the others
 * @offset: where in the dma-buf
 * @length: bytes, at least 1
 * @user: the memory to copy to or from
 */
struct zcbuf_importer_copy {
	__u64 offset;
	__u64 length;
	__u64 user;
};

/* The longest delay in milliseconds. */
#define ZCBUF_IMPORTER_MAX_DELAY	1000

/* -EBUSY: attached already; -EIO: no such DMA mask; else what the exporter answers */
#define ZCBUF_IMPORTER_ATTACH	_IOW('Z', 0x80, struct zcbuf_importer_attach)

/* All others answer -EINVAL when there is no attachment. -EBUSY: it is mapped */
#define ZCBUF_IMPORTER_DETACH	_IO('Z', 0x81)

/* -EBUSY: mapped already; else what the exporter answers */
#define ZCBUF_IMPORTER_MAP	_IOWR('Z', 0x82, struct zcbuf_importer_map)

/* -EINVAL: not mapped */
#define ZCBUF_IMPORTER_UNMAP	_IO('Z', 0x83)

/*
 * The device reads or writes memory, at the addresses that MAP gave it. -EINVAL: not
 * mapped, or out of range; -EACCES: not in this direction
 */
#define ZCBUF_IMPORTER_DEVICE_READ	_IOW('Z', 0x84, struct zcbuf_importer_copy)
#define ZCBUF_IMPORTER_DEVICE_WRITE	_IOW('Z', 0x85, struct zcbuf_importer_copy)

/* The driver of the device begins and ends CPU access. The argument is a direction. */
#define ZCBUF_IMPORTER_CPU_BEGIN	_IO('Z', 0x86)
#define ZCBUF_IMPORTER_CPU_END		_IO('Z', 0x87)

/* The driver of the device maps the dma-buf into the kernel, and copies. */
#define ZCBUF_IMPORTER_VMAP_READ	_IOW('Z', 0x88, struct zcbuf_importer_copy)
#define ZCBUF_IMPORTER_VMAP_WRITE	_IOW('Z', 0x89, struct zcbuf_importer_copy)

/*
 * From now on be slow, in order to lose races: pause for as many milliseconds as the
 * argument says after mapping and before unmapping, with the lock of the fences held where
 * this kernel wants that, before a device access, and between vmap and vunmap. Needs no
 * attachment.
 */
#define ZCBUF_IMPORTER_SLOW	_IO('Z', 0x8a)

#endif /* ZCBUF_IMPORTER_H */
