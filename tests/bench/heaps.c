// SPDX-License-Identifier: GPL-2.0-only
/*
 * heaps UNIT: what each operation of a buffer's life costs, with every kind of shareable
 * memory that this machine has, and with anonymous memory, which cannot be shared.
 *
 * Prints a line of JSON for each peer, size and operation. UNIT says what the machine's clock
 * counts: nanoseconds, or instructions under QEMU's -icount.
 */
#include <linux/udmabuf.h>
#include <sys/resource.h>

#include "../kernel/importer.h"

#define WARM_UP 3
#define ROUNDS	9
#define PAUSE	33 /* ms between two lives: frames come 30 times a second */

/* In any process this is free, and 2 MiB entries fit: what libraries do, and all peers get. */
#define PLACE		((void *)(1ul << 44))

#define BEGIN		(ZCBUF_SYNC_START | ZCBUF_SYNC_READ | ZCBUF_SYNC_WRITE)
#define END		(ZCBUF_SYNC_END | ZCBUF_SYNC_READ | ZCBUF_SYNC_WRITE)

#define BOUNCED_SEGMENT (64 * 1024) /* the swiotlb has no larger room than 256 KiB */

static const char *unit;
static char kernel[65];

/* ---- peers ------------------------------------------------------------------------------ */

struct peer {
	const char *name;
	int (*alloc)(const struct peer *peer, size_t size); /* an fd or -1 */
	int node;
	bool is_dma_buf, is_zcbuf;
};

static int alloc_heap(const struct peer *peer, size_t size)
{
	struct dma_heap_allocation_data arg = { .len = size,
						.fd_flags = O_RDWR | O_CLOEXEC };

	return ioctl(peer->node, DMA_HEAP_IOCTL_ALLOC, &arg) ? -1 : (int)arg.fd;
}

static int alloc_memfd(const struct peer *peer, size_t size)
{
	int fd = memfd_create(peer->name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && ftruncate(fd, size) == 0)
		return fd;
	close(fd);
	return -1;
}

static int alloc_udmabuf(const struct peer *peer, size_t size)
{
	struct udmabuf_create arg = { .flags = UDMABUF_FLAGS_CLOEXEC, .size = size };
	int fd = -1, memfd = alloc_memfd(peer, size);

	if (memfd < 0)
		return -1;
	arg.memfd = memfd;
	if (fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK) == 0)
		fd = ioctl(peer->node, UDMABUF_CREATE, &arg);
	close(memfd);
	return fd;
}

/* ---- counting --------------------------------------------------------------------------- */

enum operation {
	/* one after the other, a life */
	ALLOC,
	MMAP,
	TOUCH,
	SYNC,
	MUNMAP,
	CLOSE,
	LIFE, /* their sum */
	/* with a buffer that lives on */
	READ,
	DIRECT_IO,
	PASS,
	SYNC_RANGE,
	ATTACH,
	VMAP,
	SYNC_BOUNCED,
	SYNC_RANGE_BOUNCED,
	OPERATIONS,
};

static const char *const operation_name[] = {
	[ALLOC] = "alloc",
	[MMAP] = "mmap",
	[TOUCH] = "touch",
	[SYNC] = "sync",
	[MUNMAP] = "munmap",
	[CLOSE] = "close",
	[LIFE] = "life",
	[READ] = "read",
	[DIRECT_IO] = "O_DIRECT",
	[PASS] = "pass",
	[SYNC_RANGE] = "sync 4 KiB",
	[ATTACH] = "attach",
	[VMAP] = "vmap",
	[SYNC_BOUNCED] = "sync, bounced",
	[SYNC_RANGE_BOUNCED] = "sync 4 KiB, bounced",
};

static struct series {
	uint64_t cost[WARM_UP + ROUNDS];
	unsigned int count;
	long faults; /* the last time */
	int error;
} series[OPERATIONS];

struct mark {
	uint64_t time;
	long faults;
};

/* An operation that waits for a disk is counted by what it does itself. */
static uint64_t now(enum operation operation)
{
	struct timespec time;

	clock_gettime(operation == DIRECT_IO ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC,
		      &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static long faults_so_far(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

static struct mark begin(enum operation operation)
{
	struct mark mark = { .faults = faults_so_far() };

	mark.time = now(operation);
	return mark;
}

static void end(enum operation operation, struct mark mark, bool failed)
{
	uint64_t cost = now(operation) - mark.time;
	struct series *to = &series[operation];

	if (failed)
		to->error = errno;
	to->faults = faults_so_far() - mark.faults;
	to->cost[to->count++] = cost;
}

/* The value of CALL, which must be -1 if it fails; what it costs goes to its series. */
#define COUNTED(operation, call)                                          \
	({                                                                \
		struct mark counted_mark = begin(operation);              \
		__auto_type counted_result = (call);                      \
                                                                          \
		end(operation, counted_mark, (long)counted_result == -1); \
		counted_result;                                           \
	})

/* What threads of the module have run, in the unit of the clock. */
static uint64_t background(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	uint64_t sum = 0;
	char path[300], text[64];

	while ((entry = readdir(proc))) {
		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		if (!read_file(path, text, sizeof(text)) || strncmp(text, "zcbuf-", 6))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/schedstat", entry->d_name);
		if (read_file(path, text, sizeof(text)))
			sum += strtoull(text, NULL, 10);
	}
	closedir(proc);
	return sum;
}

static void forget(void)
{
	memset(series, 0, sizeof(series));
}

static int by_cost(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void report(const struct peer *peer, size_t size, const char *state, uint64_t behind)
{
	for (enum operation i = 0; i < OPERATIONS; i++) {
		struct series *of = &series[i];

		if (!of->count)
			continue;
		printf("{\"kernel\": \"%s\", \"unit\": \"%s\", \"peer\": \"%s\", "
		       "\"operation\": \"%s\", \"state\": \"%s\", \"size\": %zu, ",
		       kernel, unit, peer->name, operation_name[i], state, size);
		if (of->error) {
			printf("\"error\": \"%s\"}\n", strerrorname_np(of->error));
			continue;
		}
		qsort(of->cost, of->count, sizeof(of->cost[0]), by_cost);
		printf("\"median\": %llu, \"min\": %llu, \"max\": %llu, \"rounds\": %u, "
		       "\"faults\": %ld",
		       (unsigned long long)of->cost[of->count / 2],
		       (unsigned long long)of->cost[0],
		       (unsigned long long)of->cost[of->count - 1], of->count, of->faults);
		if (i == LIFE)
			printf(", \"background\": %llu", (unsigned long long)behind);
		printf("}\n");
	}
	fflush(stdout);
	forget();
}

/* ---- a life ----------------------------------------------------------------------------- */

static int touch(volatile char *memory, size_t size)
{
	for (size_t i = 0; i < size; i += PAGE)
		memory[i] = 1;
	return 0;
}

static int sync_both(int fd)
{
	return sync_all(fd, BEGIN) ?: sync_all(fd, END);
}

static int sync_both_range(int fd)
{
	return sync_range(fd, 0, PAGE, BEGIN) ?: sync_range(fd, 0, PAGE, END);
}

static void *map_at_place(int fd, size_t size)
{
	return mmap(PLACE, size, PROT_READ | PROT_WRITE,
		    fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
}

/* False: there is no such buffer. */
static bool live(const struct peer *peer, size_t size)
{
	struct series *life = &series[LIFE];
	char *memory;
	int fd = -1;

	if (peer->alloc && (fd = COUNTED(ALLOC, peer->alloc(peer, size))) < 0)
		return false;
	memory = COUNTED(MMAP, map_at_place(fd, size));
	if (memory == MAP_FAILED)
		bail("%s: mmap of %zu bytes: %s", peer->name, size, strerror(errno));
	COUNTED(TOUCH, touch(memory, size));
	if (peer->is_dma_buf)
		COUNTED(SYNC, sync_both(fd));
	COUNTED(MUNMAP, munmap(memory, size));
	if (fd >= 0)
		COUNTED(CLOSE, close(fd));

	life->faults = 0;
	for (enum operation i = 0; i < LIFE; i++)
		if (series[i].count) {
			life->cost[life->count] += series[i].cost[series[i].count - 1];
			life->faults += series[i].faults;
		}
	life->count++;
	return true;
}

/* Like that of a camera's frames, with a pause in between. */
static bool steady_lives(const struct peer *peer, size_t size)
{
	uint64_t before;

	for (unsigned int i = 0; i < WARM_UP; i++, pause_ms(PAUSE))
		if (!live(peer, size)) {
			report(peer, size, "steady", 0);
			return false;
		}
	forget();
	before = background();
	for (unsigned int i = 0; i < ROUNDS; i++, pause_ms(PAUSE))
		live(peer, size);
	report(peer, size, "steady", (background() - before) / ROUNDS);
	return true;
}

/* What the heap kept for later goes back to the kernel. */
static void drain(const struct peer *peer)
{
	char path[128], limit[64];

	snprintf(path, sizeof(path), "/sys/class/zcbuf/%s/pool_limit", peer->name);
	if (!read_file(path, limit, sizeof(limit)))
		return;
	if (!write_file(path, "0") || !write_file(path, limit))
		bail("%s: %s", path, strerror(errno));
}

static void cold_lives(const struct peer *peer, size_t size)
{
	uint64_t before = background();

	for (unsigned int i = 0; i < ROUNDS; i++, pause_ms(PAUSE)) {
		drain(peer);
		live(peer, size);
	}
	report(peer, size, "cold", (background() - before) / ROUNDS);
}

/* ---- a buffer that lives on ------------------------------------------------------------- */

static int read_all(const volatile uint64_t *memory, size_t size)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < size / sizeof(*memory); i++)
		sum += memory[i];
	return sum == 1; /* whatever it is */
}

/* The other process: takes an fd, closes it, says so. */
static int other_process(void)
{
	int pair[2], fd;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		bail("socketpair: %s", strerror(errno));
	if (fork()) {
		close(pair[1]);
		return pair[0];
	}
	close(pair[0]);
	while ((fd = receive_fd(pair[1])) >= 0) {
		close(fd);
		if (write(pair[1], "", 1) != 1)
			break;
	}
	_exit(0);
}

static int pass(int socket, int fd)
{
	char byte;

	return send_fd(socket, fd) && read(socket, &byte, 1) == 1 ? 0 : -1;
}

static const struct heap any_heap;

static int attach_and_map(int dev, int fd)
{
	if (attach(dev, &any_heap, fd, 64, 0) || map_device(dev, BIDIRECTIONAL))
		return -1;
	return unmap_device(dev) ?: detach(dev);
}

static void use_on_device(const struct peer *peer, int fd)
{
	struct zcbuf_importer_map map = { .direction = BIDIRECTIONAL };
	int dev = device();
	char byte;

	for (unsigned int i = 0; i < WARM_UP + ROUNDS; i++)
		COUNTED(ATTACH, attach_and_map(dev, fd));
	if (attach(dev, &any_heap, fd, 64, 0) == 0)
		for (unsigned int i = 0; i < WARM_UP + ROUNDS; i++)
			COUNTED(VMAP, vmap_read(dev, &byte, 0, 1));
	close(dev);

	/* Memory above 4 GiB is copied for a device with 32 bits of address, if there is room. */
	dev = device();
	if (attach(dev, &any_heap, fd, 32, BOUNCED_SEGMENT) == 0 &&
	    ioctl(dev, ZCBUF_IMPORTER_MAP, &map) == 0 && map.bounced == map.nents)
		for (unsigned int i = 0; i < WARM_UP + ROUNDS; i++) {
			COUNTED(SYNC_BOUNCED, sync_both(fd));
			if (peer->is_zcbuf)
				COUNTED(SYNC_RANGE_BOUNCED, sync_both_range(fd));
		}
	close(dev);
}

static void use(const struct peer *peer, size_t size, int disk, int socket)
{
	int fd = peer->alloc ? peer->alloc(peer, size) : -1;
	char *memory = map_at_place(fd, size);

	if (memory == MAP_FAILED)
		bail("%s: mmap of %zu bytes: %s", peer->name, size, strerror(errno));
	touch(memory, size);
	for (unsigned int i = 0; i < WARM_UP + ROUNDS; i++) {
		COUNTED(READ, read_all((uint64_t *)memory, size));
		if (size >= MiB)
			COUNTED(DIRECT_IO, (int)pwrite(disk, memory, MiB, 0));
		if (fd >= 0)
			COUNTED(PASS, pass(socket, fd));
		if (peer->is_zcbuf)
			COUNTED(SYNC_RANGE, sync_both_range(fd));
	}
	if (peer->is_dma_buf)
		use_on_device(peer, fd);
	munmap(memory, size);
	if (fd >= 0)
		close(fd);
	report(peer, size, "held", 0);
}

/* ---- all of them ------------------------------------------------------------------------ */

static const size_t sizes[] = {
	4096,
	65536,
	MiB,
	3110400 /* 1080p NV12 */,
	8294400 /* 1080p RGBA */,
	12439552 /* 4K NV12, the whole pages of it */,
	33177600 /* 4K RGBA */,
	64 * MiB,
};

static struct peer peers[16];
static unsigned int peer_count;

static void add(struct peer peer)
{
	if (peer_count < sizeof(peers) / sizeof(peers[0]))
		peers[peer_count++] = peer;
}

static void add_node(const char *name, const char *path, struct peer peer)
{
	peer.node = open(path, O_RDWR | O_CLOEXEC);
	peer.name = name;
	if (peer.node >= 0)
		add(peer);
}

/* Those whose memory is the page allocator's, and mapped as ordinary memory is. */
static void add_zcbuf(const struct heap *heap)
{
	struct peer peer = { .alloc = alloc_heap, .is_dma_buf = true, .is_zcbuf = true };
	char path[64];

	if (heap->is.cache_mode != ZCBUF_CACHED || !heap_can(heap, ZCBUF_HEAP_CAP_PIN))
		return;
	snprintf(path, sizeof(path), "/dev/dma_heap/%s", heap->name);
	add_node(strdup(heap->name), path, peer);
}

int main(int argc, char **argv)
{
	int disk, socket;

	if (argc != 2) {
		fprintf(stderr, "usage: heaps instructions|nanoseconds\n");
		return 2;
	}
	unit = argv[1];
	read_file("/proc/sys/kernel/osrelease", kernel, sizeof(kernel));
	kernel[strcspn(kernel, "\n")] = 0;

	for_each_heap(add_zcbuf);
	add_node("system", "/dev/dma_heap/system",
		 (struct peer){ .alloc = alloc_heap, .is_dma_buf = true });
	add_node("udmabuf", "/dev/udmabuf",
		 (struct peer){ .alloc = alloc_udmabuf, .is_dma_buf = true });
	add((struct peer){ .name = "memfd", .alloc = alloc_memfd });
	add((struct peer){ .name = "anonymous" });

	socket = other_process();
	disk = open("/mnt/scratch/bench", O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
	if (disk < 0)
		bail("/mnt/scratch/bench: %s", strerror(errno));

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		/* no peer but a zcbuf or dma-heap rounds up by itself */
		size_t size = (sizes[i] + PAGE - 1) / PAGE * PAGE;

		for (unsigned int p = 0; p < peer_count; p++)
			if (steady_lives(&peers[p], size)) {
				cold_lives(&peers[p], size);
				use(&peers[p], size, disk, socket);
			}
	}
	unlink("/mnt/scratch/bench");
	return 0;
}
