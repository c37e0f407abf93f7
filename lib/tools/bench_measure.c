// SPDX-License-Identifier: LGPL-2.1-or-later
/* What 'zcbuf bench' does with a buffer, and what that costs. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define PAUSE  33 /* ms between two lives: frames come 30 times a second */
#define DIRECT ((size_t)1 << 20)

/* A hint: free in any process, and a multiple of 2 MiB, so that large pages can be mapped. */
#define PLACE ((void *)((uintptr_t)1 << (sizeof(void *) > 4 ? 37 : 30)))

/* ---- a life -------------------------------------------------------------------------- */

/* What is counted returns -1, and sets errno, if it fails. */
static int touch(volatile char *memory, size_t size, size_t page)
{
	for (size_t i = 0; i < size; i += page)
		memory[i] = 1;
	return 0;
}

static int sync_whole(int fd)
{
	struct dma_buf_sync sync = { .flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW };

	if (ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync))
		return -1;
	sync.flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW;
	return ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync);
}

static void *map(int fd, size_t size)
{
	int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;

	return mmap(PLACE, size, PROT_READ | PROT_WRITE, flags, fd, 0);
}

/* Returns false if there is no such buffer, or none that can be mapped. */
static bool live(const struct bench *bench, const struct peer *peer, size_t size,
		 struct series *life)
{
	uint64_t cost = 0;
	size_t whole = size; /* what the buffer really has */
	long faults = 0;
	int fd = -1;
	void *memory;

	if (peer->alloc && (fd = COUNTED(&life[ALLOC], peer->alloc(peer, &whole))) < 0)
		return false;
	memory = COUNTED(&life[MMAP], map(fd, whole));
	if (memory == MAP_FAILED) {
		close(fd);
		return false;
	}
	COUNTED(&life[TOUCH], touch(memory, size, bench->page));
	if (peer->is_dma_buf)
		COUNTED(&life[SYNC], sync_whole(fd));
	COUNTED(&life[MUNMAP], munmap(memory, whole));
	if (fd >= 0)
		COUNTED(&life[CLOSE], close(fd));

	for (int i = 0; i < LIFE; i++) {
		if (!life[i].count)
			continue;
		cost += life[i].cost[life[i].count - 1];
		faults += life[i].faults;
	}
	series_add(&life[LIFE], cost, faults);
	return true;
}

static void pause_between(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = PAUSE * 1000000L }, NULL);
}

static bool read_line(const char *path, char *line, int size)
{
	FILE *file = fopen(path, "re");
	bool done = file && fgets(line, size, file);

	if (file)
		fclose(file);
	if (done)
		line[strcspn(line, "\n")] = '\0';
	return done;
}

/* CPU time of the module's threads so far; false if there are none to be seen. */
static bool background(uint64_t *sum)
{
	DIR *proc = opendir("/proc");
	const struct dirent *entry;
	char path[300], line[64];
	bool found = false;

	*sum = 0;
	while (proc && (entry = readdir(proc))) {
		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		if (!read_line(path, line, sizeof(line)) || strncmp(line, "zcbuf-", 6))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/schedstat", entry->d_name);
		if (!read_line(path, line, sizeof(line)))
			continue;
		*sum += strtoull(line, NULL, 10);
		found = true;
	}
	if (proc)
		closedir(proc);
	return found;
}

static bool write_line(const char *path, const char *line)
{
	FILE *file = fopen(path, "we");
	bool done = file && fputs(line, file) >= 0;

	return file && !fclose(file) && done;
}

/* What the heap keeps goes back to the kernel. No signal comes while its limit is wrong. */
static void empty_pool(const struct peer *peer)
{
	char limit[64];
	sigset_t all, before;

	if (!read_line(peer->pool_limit, limit, sizeof(limit)))
		return;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	write_line(peer->pool_limit, "0");
	if (!write_line(peer->pool_limit, limit))
		failure("%s: cannot write %s back: %s", peer->pool_limit, limit,
			strerror(errno));
	sigprocmask(SIG_SETMASK, &before, NULL);
}

/* @life is that of the peer's series, or COLD + that. */
static void measure_lives(const struct bench *bench, const struct peer *peer, size_t size,
			  struct series *life)
{
	bool cold = life != peer->series;
	uint64_t before, after;
	bool known = background(&before);

	for (int i = 0; i < SERIES_ROUNDS; i++, pause_between()) {
		if (cold && peer->pool_limit[0])
			empty_pool(peer);
		live(bench, peer, size, life);
	}
	if (peer->pool_limit[0] && known && background(&after))
		series_add(&life[BACKGROUND], (after - before) / SERIES_ROUNDS, 0);
}

/* ---- a buffer that lives on ---------------------------------------------------------- */

static int read_all(const volatile uint64_t *memory, size_t size)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < size / sizeof(*memory); i++)
		sum += memory[i];
	return sum == 1; /* whatever it is */
}

static int sync_range(int control, int fd, size_t length)
{
	struct zcbuf_ioc_sync sync = {
		.fd = fd,
		.length = length,
		.flags = ZCBUF_SYNC_START | ZCBUF_SYNC_READ | ZCBUF_SYNC_WRITE,
	};

	if (ioctl(control, ZCBUF_IOC_SYNC, &sync))
		return -1;
	sync.flags = ZCBUF_SYNC_END | ZCBUF_SYNC_READ | ZCBUF_SYNC_WRITE;
	return ioctl(control, ZCBUF_IOC_SYNC, &sync);
}

/* A message of one byte and one fd. */
struct message {
	struct iovec iov;
	struct msghdr header;
	char byte;
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
};

static struct msghdr *message_header(struct message *message)
{
	message->iov = (struct iovec){ .iov_base = &message->byte, .iov_len = 1 };
	message->header = (struct msghdr){
		.msg_iov = &message->iov,
		.msg_iovlen = 1,
		.msg_control = &message->control,
		.msg_controllen = sizeof(message->control),
	};
	return &message->header;
}

/* Gives the other process an fd, and waits until it has closed it. */
static int pass(int socket, int fd)
{
	struct message message = {
		.control.align = {
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
			.cmsg_len = CMSG_LEN(sizeof(int)),
		},
	};
	char answer;

	memcpy(CMSG_DATA(&message.control.align), &fd, sizeof(fd));
	if (sendmsg(socket, message_header(&message), MSG_NOSIGNAL) != 1)
		return -1;
	return read(socket, &answer, 1) == 1 ? 0 : -1;
}

static void answer(int socket)
{
	struct message message = { 0 };
	int fd;

	while (recvmsg(socket, message_header(&message), MSG_CMSG_CLOEXEC) == 1) {
		memcpy(&fd, CMSG_DATA(&message.control.align), sizeof(fd));
		close(fd);
		if (send(socket, "", 1, MSG_NOSIGNAL) != 1)
			break;
	}
}

static void measure_use(const struct bench *bench, struct peer *peer, size_t size)
{
	size_t whole = size;
	int fd = peer->alloc ? peer->alloc(peer, &whole) : -1;
	void *memory = map(fd, whole);

	if (memory == MAP_FAILED) {
		close(fd);
		return;
	}
	touch(memory, size, bench->page);
	for (int i = 0; i < SERIES_LENGTH; i++) {
		COUNTED(&peer->series[READ], read_all(memory, size));
		/* The wait for the disk is not the memory's. */
		if (bench->disk >= 0 && size >= DIRECT)
			COUNTED_BY(CLOCK_THREAD_CPUTIME_ID, &peer->series[DIRECT_IO],
				   pwrite(bench->disk, memory, DIRECT, 0));
		if (fd >= 0)
			COUNTED(&peer->series[PASS], pass(bench->other, fd));
		if (peer->is_zcbuf)
			COUNTED(&peer->series[SYNC_RANGE],
				sync_range(bench->control, fd, 4096));
	}
	munmap(memory, whole);
	close(fd);
}

void bench_measure(const struct bench *bench, struct peer *peer, size_t size)
{
	memset(peer->series, 0, sizeof(peer->series));
	for (int i = 0; i < SERIES_WARM_UP; i++, pause_between())
		if (!live(bench, peer, size, peer->series))
			return; /* the error is there to be reported */
	memset(peer->series, 0, sizeof(peer->series));
	measure_lives(bench, peer, size, peer->series);
	if (bench->cold)
		measure_lives(bench, peer, size, peer->series + COLD);
	measure_use(bench, peer, size);
}

/* The other process takes fds until its socket is closed. */
bool bench_begin(struct bench *bench)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return false;
	bench->child = fork();
	if (bench->child == 0) {
		close(pair[0]);
		answer(pair[1]);
		_exit(0);
	}
	close(pair[1]);
	bench->other = pair[0];
	bench->control = open("/dev/zcbuf", O_RDWR | O_CLOEXEC);
	return bench->child > 0;
}

void bench_end(const struct bench *bench)
{
	close(bench->control);
	close(bench->other);
	waitpid(bench->child, NULL, 0);
}
