/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of the kernel module share. They speak to it by plain ioctls, without the
 * library, as root, and hold for every heap there is:
 *
 *	static void test(const struct heap *heap)
 *	{
 *		ok(…, "%s: a buffer is zeroed", heap->name);
 *	}
 *
 *	int main(void)
 *	{
 *		for_each_heap(test);
 *		return done_testing();
 *	}
 */
#ifndef ZC_H
#define ZC_H

#include <fcntl.h>
#include <limits.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <zcbuf.h>

#include "process.h"
#include "tap.h"

#define PAGE ((size_t)4096)
#define MiB  ((size_t)1 << 20)

/* The heaps and the ioctls */

struct heap {
	struct zcbuf_ioc_heap is; /* as it was when the test began */
	const char *name;
	int fd; /* its node, open for reading and writing */
};

/* The control node, opened once. */
static int control_fd = -1;

static inline int control(void)
{
	if (control_fd < 0)
		control_fd = open("/dev/zcbuf", O_RDWR | O_CLOEXEC);
	if (control_fd < 0)
		bail("/dev/zcbuf: %s", strerror(errno));
	return control_fd;
}

/* As the module sees it now. */
static inline struct zcbuf_ioc_heap heap_now(const struct heap *heap)
{
	struct zcbuf_ioc_heap now = { .index = heap->is.index };

	if (ioctl(control(), ZCBUF_IOC_HEAPS, &now))
		bail("%s has gone", heap->name);
	return now;
}

static inline bool heap_can(const struct heap *heap, uint64_t capability)
{
	return heap->is.capabilities & capability;
}

/* Has the memory pages? Most devices look for pages, and are refused other memory. */
static inline bool heap_has_pages(const struct heap *heap)
{
	return heap->is.kind != ZCBUF_HEAP_CARVEOUT;
}

/* A new open file of the heap's node. */
static inline int heap_open(const struct heap *heap, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/dma_heap/%s", heap->name);
	return open(path, flags | O_CLOEXEC);
}

static inline void for_each_heap(void (*test)(const struct heap *heap))
{
	struct heap heap = { .fd = -1 };

	while (ioctl(control(), ZCBUF_IOC_HEAPS, &heap.is) == 0) {
		heap.name = heap.is.name;
		heap.fd = heap_open(&heap, O_RDWR);
		if (heap.fd < 0)
			bail("/dev/dma_heap/%s: %s", heap.name, strerror(errno));
		test(&heap);
		close(heap.fd);
		heap.is = (struct zcbuf_ioc_heap){ .index = heap.is.index + 1 };
	}
	if (errno != ENOENT || heap.is.index == 0)
		bail("no heap, or none after number %u: %s", heap.is.index,
		     strerror(errno));
}

/* A buffer of SIZE bytes as most have it; its fd, or -1. */
static inline int alloc(const struct heap *heap, size_t size)
{
	struct zcbuf_ioc_alloc arg = { .size = size, .fd_flags = O_RDWR | O_CLOEXEC };

	return ioctl(heap->fd, ZCBUF_IOC_ALLOC, &arg) ? -1 : arg.fd;
}

/* The same for those who cannot go on without. */
static inline int must_alloc(const struct heap *heap, size_t size)
{
	int fd = alloc(heap, size);

	if (fd < 0)
		bail("%s: no buffer of %zu bytes: %s", heap->name, size, strerror(errno));
	return fd;
}

static inline int view(int fd, uint64_t offset, uint64_t length, uint64_t flags)
{
	struct zcbuf_ioc_view arg = {
		.fd = fd,
		.offset = offset,
		.length = length,
		.flags = flags,
		.fd_flags = O_CLOEXEC,
	};

	return ioctl(control(), ZCBUF_IOC_VIEW, &arg) ? -1 : arg.view_fd;
}

static inline int sync_range(int fd, uint64_t offset, uint64_t length, uint64_t flags)
{
	struct zcbuf_ioc_sync arg = {
		.fd = fd, .offset = offset, .length = length, .flags = flags
	};

	return ioctl(control(), ZCBUF_IOC_SYNC, &arg);
}

static inline int sync_all(int fd, uint64_t flags)
{
	struct dma_buf_sync arg = { .flags = flags };

	return ioctl(fd, DMA_BUF_IOCTL_SYNC, &arg);
}

static inline struct zcbuf_ioc_info info(int fd)
{
	struct zcbuf_ioc_info arg = { .fd = fd };

	if (ioctl(control(), ZCBUF_IOC_INFO, &arg))
		bail("INFO of fd %d: %s", fd, strerror(errno));
	return arg;
}

/* Memory */

static inline void *map(int fd, size_t size)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

static inline void *must_map(int fd, size_t size)
{
	void *memory = map(fd, size);

	if (memory == MAP_FAILED)
		bail("mmap of %zu bytes: %s", size, strerror(errno));
	return memory;
}

/* A pattern in which each word differs from its neighbours and from those of other SEEDs. */
static inline uint64_t pattern(uint64_t seed, size_t word)
{
	return (seed + word) * 0x9e3779b97f4a7c15u + 1;
}

/* SIZE is a multiple of eight here and below. */
static inline void fill(void *memory, size_t size, uint64_t seed)
{
	volatile uint64_t *words = memory;

	for (size_t i = 0; i < size / 8; i++)
		words[i] = pattern(seed, i);
}

static inline bool is_filled(const void *memory, size_t size, uint64_t seed)
{
	const volatile uint64_t *words = memory;

	for (size_t i = 0; i < size / 8; i++)
		if (words[i] != pattern(seed, i)) {
			diag("byte %zu: %#llx, not %#llx", i * 8,
			     (unsigned long long)words[i],
			     (unsigned long long)pattern(seed, i));
			return false;
		}
	return true;
}

/* The same for bytes OFFSET to OFFSET + SIZE of something larger. */
static inline bool is_filled_from(const void *memory, size_t offset, size_t size,
				  uint64_t seed)
{
	return is_filled(memory, size, seed + offset / 8);
}

static inline bool is_zero(const void *memory, size_t size)
{
	const volatile uint64_t *words = memory;

	for (size_t i = 0; i < size / 8; i++)
		if (words[i]) {
			diag("byte %zu: %#llx, not 0", i * 8, (unsigned long long)words[i]);
			return false;
		}
	return true;
}

/* Does touching this byte end in SIGSEGV or SIGBUS? Tried out in a child. */
static inline bool faults(const volatile char *byte, bool write)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		if (write)
			*(volatile char *)byte = 1;
		else
			(void)*byte;
		_exit(0);
	}
	waitpid(child, &status, 0);
	return WIFSIGNALED(status);
}

/* Processes */

/* How a child ended: its exit status, or 128 and the signal. */
static inline int end_of(pid_t child)
{
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			bail("waitpid: %s", strerror(errno));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline bool send_fd(int socket, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
	return sendmsg(socket, &msg, MSG_NOSIGNAL) == 1;
}

static inline int receive_fd(int socket)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg;
	int fd;

	if (recvmsg(socket, &msg, MSG_CMSG_CLOEXEC) != 1)
		return -1;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg || cmsg->cmsg_type != SCM_RIGHTS)
		return -1;
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(int));
	return fd;
}

/* Time */

static inline double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static inline void pause_ms(long ms)
{
	nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 },
		  NULL);
}

/* What is held, and whether all has been given back */

struct held {
	int fds;
	uint64_t buffers, bytes;
};

static inline struct held held(const struct heap *heap)
{
	struct zcbuf_ioc_heap now = heap_now(heap);

	return (struct held){ open_fds(), now.used_buffers, now.used_bytes };
}

/* Files are put a moment after their last close(), so this may wait for a moment. */
static inline bool held_as(const struct heap *heap, struct held before)
{
	struct held now;

	for (int tries = 0; tries < 100; tries++, pause_ms(20)) {
		now = held(heap);
		if (now.fds == before.fds && now.buffers == before.buffers &&
		    now.bytes == before.bytes)
			return true;
	}
	diag("held: %d fds, %llu buffers, %llu bytes; before: %d, %llu, %llu", now.fds,
	     (unsigned long long)now.buffers, (unsigned long long)now.bytes, before.fds,
	     (unsigned long long)before.buffers, (unsigned long long)before.bytes);
	return false;
}

/* What a file says: the whole of it, up to SIZE - 1 bytes. */
static inline bool read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t n = -1;

	text[0] = 0;
	if (fd < 0)
		return false;
	while (length < size - 1 && (n = read(fd, text + length, size - 1 - length)) > 0)
		length += n;
	text[length] = 0;
	close(fd);
	return n >= 0;
}

static inline bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return done;
}

/* The number behind the line's first word KEY, as /proc/meminfo and many others have it; or -1. */
static inline long long number_in(const char *path, const char *key)
{
	char text[32768], *line = text;
	size_t length = strlen(key);

	if (!read_file(path, text, sizeof(text)))
		return -1;
	while (line) {
		if (!strncmp(line, key, length) && strchr(" \t:", line[length]))
			return strtoll(line + length + strspn(line + length, " \t:"), NULL,
				       10);
		line = strchr(line, '\n');
		line += line != NULL;
	}
	return -1;
}

/* What a heap keeps of freed memory */

static inline long long pool_number(const struct heap *heap, const char *file)
{
	char path[128], text[32];

	snprintf(path, sizeof(path), "/sys/class/zcbuf/%s/%s", heap->name, file);
	return read_file(path, text, sizeof(text)) ? atoll(text) : -1;
}

/* Bytes, or -1 if the heap keeps nothing. */
static inline long long pool_bytes(const struct heap *heap)
{
	return pool_number(heap, "pool_bytes");
}

static inline long long pool_limit(const struct heap *heap)
{
	return pool_number(heap, "pool_limit");
}

static inline bool pool_set_limit(const struct heap *heap, long long bytes)
{
	char path[128], text[32];

	snprintf(path, sizeof(path), "/sys/class/zcbuf/%s/pool_limit", heap->name);
	snprintf(text, sizeof(text), "%lld", bytes);
	return write_file(path, text);
}

static inline void pool_drain(const struct heap *heap)
{
	long long limit = pool_limit(heap);

	if (limit >= 0 && (!pool_set_limit(heap, 0) || !pool_set_limit(heap, limit)))
		bail("%s: the pool cannot be drained: %s", heap->name, strerror(errno));
}

/* Memory that is free, in KiB: also what CPUs keep at hand, which MemFree leaves out. */
static inline long long free_kib(void)
{
	FILE *zones = fopen("/proc/zoneinfo", "re");
	long long pages = 0, count;
	char line[256];

	write_file("/proc/sys/vm/drop_caches", "3");
	while (zones && fgets(line, sizeof(line), zones))
		if (sscanf(line, " count: %lld", &count) == 1)
			pages += count;
	fclose(zones);
	return number_in("/proc/meminfo", "MemFree") + pages * (long long)(PAGE / 1024);
}

/* What /proc/self/fdinfo says of FD behind KEY, such as "name"; empty when it says nothing. */
static inline const char *fdinfo(int fd, const char *key)
{
	static char text[4096];
	char path[64], *value;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	read_file(path, text, sizeof(text));
	snprintf(path, sizeof(path), "\n%s:\t", key);
	value = strstr(text, path);
	if (!value)
		return "";
	value += strlen(path);
	value[strcspn(value, "\n")] = 0;
	return value;
}

#endif /* ZC_H */
