// SPDX-License-Identifier: GPL-2.0-only
/*
 * libFuzzer: what programs may ask of the module, by three threads of a process and a child of
 * it at once, who share file descriptors, mappings, and devices that import.
 *
 * The input is a list of calls, of four bytes each: see struct call. Where the kernel can say
 * which of the module's code ran (KCOV), libFuzzer keeps what reaches more of it; where it
 * can make calls fail (fail-nth), some do. What is judged is the kernel's log, what is left
 * behind, and whether the machine is still there.
 */
#include <glob.h>
#include <linux/kcov.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "../kernel/importer.h" /* of tests/kernel */

#define THREADS	      3
#define MAX_CALLS     64
#define SLOTS	      16
#define MAPPINGS      8
#define MAPPING_BYTES (8 * MiB)
#define COVER_WORDS   65536

/* A half of a byte is the number of a slot, or whatever else the call wants to know. */
struct call {
	uint8_t what; /* the function; upper two bits: whose call, or that it shall fail */
	uint8_t a, b, c;
};

/* One thread, and what the kernel keeps for it. */
struct worker {
	pthread_t thread;
	int fail_nth, pipe[2];
	uint64_t *cover; /* a number, and as many addresses of code */
};

static struct worker workers[THREADS];
static pthread_barrier_t begin, end;
static const struct call *calls;
static size_t call_count;
static bool is_child;
static _Atomic pid_t child;

static int first_fd; /* and all above are the input's */
static _Atomic int slots[SLOTS];
static struct {
	_Atomic uint64_t offset;
	_Atomic int node;
} mmaps[SLOTS]; /* by which node, and where, the buffer can be mapped that was put there last */

/* Which slots have what. */
enum kind { BUFFER, DEVICE, OTHER, ANY };

static const struct {
	unsigned int first, count;
} kinds[] = {
	[BUFFER] = { 0, 10 },
	[DEVICE] = { 10, 3 },
	[OTHER] = { 13, 3 },
	[ANY] = { 0, SLOTS },
};

static struct node {
	int fd;
	char name[ZCBUF_NAME_LEN];
	char pool_limit[24]; /* as it was */
} nodes[16];
static int node_count, direct_file, memory_file;
static char shrinker[128], scan[64]; /* the pool's file, and what to tell it */
static uint8_t *mappings;	     /* MAPPINGS times MAPPING_BYTES of address space */

static uintptr_t module_start, module_size;
static _Atomic unsigned long operations;

__attribute__((section("__libfuzzer_extra_counters"))) static uint8_t reached[65536];

static const uint64_t sizes[] = {
	1,	  PAGE,	      2 * PAGE, 3 * PAGE, 16 * PAGE,	       19 * PAGE,
	PAGE + 1, MiB,	      2 * MiB,	4 * MiB,  2 * MiB + 19 * PAGE, 2 * MiB + PAGE,
	0,	  1ULL << 40, -PAGE,	-1ULL,
};

static uint64_t size_of(uint8_t number)
{
	return sizes[number % 16] + (number & 0x10 ? number >> 5 : 0);
}

/* One that is there, from that number on: calls of nothing find little. */
static int fd_of(enum kind kind, uint8_t number)
{
	unsigned int count = kinds[kind].count;

	for (unsigned int i = 0; i < count; i++) {
		int fd = slots[kinds[kind].first + (number + i) % count];

		if (fd >= 0)
			return fd;
	}
	return -1;
}

static void put(enum kind kind, uint8_t number, int fd)
{
	int old;

	if (fd < 0)
		return;
	old = atomic_exchange(&slots[kinds[kind].first + number % kinds[kind].count], fd);
	if (old >= first_fd)
		close(old);
}

static uint8_t *mapping(uint8_t number)
{
	return mappings + number % MAPPINGS * MAPPING_BYTES;
}

/* So much of a mapping as the number says, or all of it. */
static size_t part(uint8_t number)
{
	uint64_t size = size_of(number);

	return size && size < MAPPING_BYTES ? size : MAPPING_BYTES;
}

static void call_alloc(const struct call *call, struct worker *worker)
{
	int node = call->c & 0x80 ? fd_of(OTHER, call->b) : nodes[call->b % node_count].fd;
	struct zcbuf_ioc_alloc arg = {
		.size = size_of(call->a >> 4 | (call->c & 0x10)),
		.flags = (call->c & 0x60) == 0x60 ? call->c & 3
						  : call->c & ZCBUF_ALLOC_RECYCLE,
		.alignment = call->c & 4 ? PAGE << (call->b >> 4 & 11) : 0,
		.fd_flags = (call->c & 0x38) == 0x38 ? call->b >> 6 : O_RDWR | O_CLOEXEC,
		.name = "fuzz",
	};

	(void)worker;
	if (ioctl(node, ZCBUF_IOC_ALLOC, &arg))
		return;
	mmaps[call->a % SLOTS].offset = arg.mmap_offset;
	mmaps[call->a % SLOTS].node = node;
	put(BUFFER, call->a, arg.fd);
}

static void call_dma_heap_alloc(const struct call *call, struct worker *worker)
{
	struct dma_heap_allocation_data arg = {
		.len = size_of(call->a >> 4),
		.fd_flags = call->c & 1 ? O_RDWR | O_CLOEXEC : call->c,
		.heap_flags = call->c & 2 ? call->c : 0,
	};

	(void)worker;
	if (ioctl(nodes[call->b % node_count].fd, DMA_HEAP_IOCTL_ALLOC, &arg) == 0)
		put(BUFFER, call->a, (int)arg.fd);
}

/* A node of its own, by which buffers can be mapped that are allocated through it. */
static void call_open(const struct call *call, struct worker *worker)
{
	char path[64];

	(void)worker;
	snprintf(path, sizeof(path), "/proc/self/fd/%d",
		 call->b & 0x80 ? fd_of(ANY, call->b) : nodes[call->b % node_count].fd);
	put(OTHER, call->a, open(path, (call->c & 3) | O_CLOEXEC));
}

static void call_view(const struct call *call, struct worker *worker)
{
	struct zcbuf_ioc_view arg = {
		.offset = call->c & 4 ? size_of(call->b & 0xf) : 0,
		.length = call->c & 8 ? size_of(call->b >> 4) : 0,
		.flags = call->c & 3,
		.fd = fd_of(call->c & 0x40 ? ANY : BUFFER, call->a),
		.fd_flags = O_CLOEXEC,
	};

	(void)worker;
	if (ioctl(control(), ZCBUF_IOC_VIEW, &arg) == 0)
		put(BUFFER, call->a >> 4, arg.view_fd);
}

static void call_sync(const struct call *call, struct worker *worker)
{
	(void)worker;
	if (call->c & 0x80)
		sync_all(fd_of(BUFFER, call->a), call->c & 0x7f);
	else
		sync_range(fd_of(BUFFER, call->a), size_of(call->b & 0xf),
			   size_of(call->b >> 4), call->c);
}

static void call_info(const struct call *call, struct worker *worker)
{
	struct zcbuf_ioc_info arg = { .fd = fd_of(call->c & 2 ? ANY : BUFFER, call->a) };
	struct zcbuf_ioc_heap heap = { .index = call->b % 16 };

	(void)worker;
	if (call->c & 1)
		ioctl(control(), ZCBUF_IOC_HEAPS, &heap);
	else
		ioctl(control(), ZCBUF_IOC_INFO, &arg);
}

static void call_close(const struct call *call, struct worker *worker)
{
	int fd = atomic_exchange(&slots[call->a % SLOTS], -1);

	(void)worker;
	if (fd >= first_fd)
		close(fd);
}

/* Behind the back of whoever uses the number at the moment. */
static void call_dup(const struct call *call, struct worker *worker)
{
	int to = fd_of(ANY, call->a >> 4);

	(void)worker;
	if (call->c & 1 && to >= first_fd)
		dup2(fd_of(ANY, call->a), to);
	else
		put(BUFFER, call->a >> 4, dup(fd_of(BUFFER, call->a)));
}

static void call_mmap(const struct call *call, struct worker *worker)
{
	static const int protections[] = { PROT_READ, PROT_READ | PROT_WRITE, PROT_WRITE,
					   PROT_NONE };
	bool node = call->c & 4;

	(void)worker;
	mmap(mapping(call->a >> 4), part(call->b), protections[call->c & 3],
	     (call->c & 8 ? MAP_PRIVATE : MAP_SHARED) | MAP_FIXED |
		     (call->c & 0x10 ? MAP_POPULATE : 0),
	     node ? mmaps[call->a % SLOTS].node : fd_of(BUFFER, call->a),
	     node	      ? (off_t)mmaps[call->a % SLOTS].offset
	     : call->c & 0x20 ? (off_t)size_of(call->b >> 4 & 7)
			      : 0);
}

static void call_munmap(const struct call *call, struct worker *worker)
{
	size_t offset = call->c & 1 ? size_of(call->c >> 4 & 7) & -PAGE : 0;

	(void)worker;
	if (offset < MAPPING_BYTES / 2)
		mmap(mapping(call->a) + offset, part(call->b) / 2, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

static void call_mremap(const struct call *call, struct worker *worker)
{
	uint8_t *from = mapping(call->a), *to = mapping(call->a >> 4);

	(void)worker;
	if (from == to)
		return;
	mremap(from, call->c & 1 ? 0 : part(call->b), part(call->c >> 4),
	       MREMAP_MAYMOVE | MREMAP_FIXED, to);
	/* whatever came of it, nobody else may take the addresses */
	mmap(from, MAPPING_BYTES, PROT_NONE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
}

static void call_mprotect(const struct call *call, struct worker *worker)
{
	static const int advice[] = { MADV_DONTNEED,	  MADV_DONTFORK,
				      MADV_DOFORK,	  MADV_WILLNEED,
				      MADV_FREE,	  MADV_POPULATE_WRITE,
				      MADV_POPULATE_READ, MADV_COLLAPSE };
	uint8_t *memory = mapping(call->a);

	(void)worker;
	if (call->c & 8)
		madvise(memory, part(call->b), advice[call->c & 7]);
	else if (call->c & 0x10)
		mlock(memory, part(call->b));
	else if (call->c & 0x20)
		munlock(memory, part(call->b));
	else
		mprotect(memory, part(call->b), call->c & (PROT_READ | PROT_WRITE));
}

/* The kernel touches it for us, and answers EFAULT where a touch would end the fuzzer. */
static void call_touch(const struct call *call, struct worker *worker)
{
	uint8_t *memory = mapping(call->a) + (part(call->b) - 1) / 2;
	uint64_t word = call->b;

	write(worker->pipe[1], memory, sizeof(word));
	read(worker->pipe[0], call->c & 1 ? memory + PAGE : (void *)&word, sizeof(word));
}

/* Its pages are held by a pipe, until the end. */
static void call_vmsplice(const struct call *call, struct worker *worker)
{
	struct iovec memory = { mapping(call->a), part(call->b) };

	vmsplice(worker->pipe[1], &memory, 1,
		 SPLICE_F_NONBLOCK | (call->c & 1 ? SPLICE_F_GIFT : 0));
}

static void call_direct_io(const struct call *call, struct worker *worker)
{
	size_t size = part(call->b) & -PAGE;

	(void)worker;
	if (size > MiB)
		size = MiB;
	if (call->c & 1)
		pread(direct_file, mapping(call->a), size, 0);
	else
		pwrite(direct_file, mapping(call->a), size, 0);
}

static void call_process_vm(const struct call *call, struct worker *worker)
{
	struct iovec here = { mapping(call->a), PAGE },
		     there = { mapping(call->a >> 4), PAGE };

	(void)worker;
	if (call->c & 2) /* as a debugger does, also where protection forbids it */
		pwrite(memory_file, here.iov_base, sizeof(long), (uintptr_t)there.iov_base);
	else if (call->c & 4)
		pread(memory_file, here.iov_base, sizeof(long), (uintptr_t)there.iov_base);
	else if (call->c & 1)
		process_vm_readv(getpid(), &here, 1, &there, 1, 0);
	else
		process_vm_writev(getpid(), &here, 1, &there, 1, 0);
}

static void call_device(const struct call *call, struct worker *worker)
{
	(void)worker;
	put(DEVICE, call->a, open("/dev/zcbuf-importer", O_RDWR | O_CLOEXEC));
}

static void call_attach(const struct call *call, struct worker *worker)
{
	/* below 32 the core warns when bounce buffers lie beyond */
	static const uint8_t bits[] = { 64, 32, 33, 65 };
	struct zcbuf_importer_attach arg = {
		.fd = fd_of(BUFFER, call->a >> 4),
		.flags = call->c & 1,
		.dma_bits = bits[call->b & 3],
		.max_segment = call->b & 4 ? size_of(call->b >> 4) : 0,
	};

	(void)worker;
	ioctl(fd_of(DEVICE, call->a), ZCBUF_IMPORTER_ATTACH, &arg);
}

static void call_detach(const struct call *call, struct worker *worker)
{
	(void)worker;
	ioctl(fd_of(DEVICE, call->a), ZCBUF_IMPORTER_DETACH);
}

static void call_map(const struct call *call, struct worker *worker)
{
	struct zcbuf_importer_map arg = { .direction = call->b % 4, .flags = call->c & 1 };

	(void)worker;
	ioctl(fd_of(DEVICE, call->a), ZCBUF_IMPORTER_MAP, &arg);
}

static void call_unmap(const struct call *call, struct worker *worker)
{
	(void)worker;
	ioctl(fd_of(DEVICE, call->a), ZCBUF_IMPORTER_UNMAP);
}

static void call_device_access(const struct call *call, struct worker *worker)
{
	static const unsigned long verbs[] = { ZCBUF_IMPORTER_DEVICE_READ,
					       ZCBUF_IMPORTER_DEVICE_WRITE,
					       ZCBUF_IMPORTER_VMAP_READ,
					       ZCBUF_IMPORTER_VMAP_WRITE };
	uint64_t word = 0;

	(void)worker;
	device_copy(fd_of(DEVICE, call->a), verbs[call->c & 3], &word,
		    size_of(call->b) & -8, sizeof(word));
}

static void call_device_sync(const struct call *call, struct worker *worker)
{
	(void)worker;
	ioctl(fd_of(DEVICE, call->a),
	      call->c & 1 ? ZCBUF_IMPORTER_CPU_BEGIN : ZCBUF_IMPORTER_CPU_END, call->b % 4);
}

/* What every dma-buf can. */
static void call_dma_buf(const struct call *call, struct worker *worker)
{
	struct dma_buf_export_sync_file sync = { .flags = call->b & 7,
						 .fd = fd_of(OTHER, call->a >> 4) };
	struct stat status;
	char path[64], text[512];
	int fd = fd_of(BUFFER, call->a);

	(void)worker;
	switch (call->c % 6) {
	case 0:
		ioctl(fd, DMA_BUF_SET_NAME_B, call->b & 1 ? "a name" : "");
		break;
	case 1:
		if (ioctl(fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &sync) == 0)
			put(OTHER, call->a >> 4, sync.fd);
		break;
	case 2:
		ioctl(fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &sync);
		break;
	case 3:
		snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
		read_file(path, text, sizeof(text));
		break;
	case 4:
		fstat(fd, &status);
		break;
	default:
		lseek(fd, size_of(call->b), call->b & 1 ? SEEK_END : SEEK_SET);
	}
}

/* An ioctl of any size, and anything in it. */
static void call_raw(const struct call *call, struct worker *worker)
{
	static const int numbers[] = { 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0, 0xff };
	uint64_t arg[64];
	int fds[] = { control(), nodes[call->a % node_count].fd, fd_of(ANY, call->a),
		      fd_of(BUFFER, call->a >> 4) };

	(void)worker;
	for (size_t i = 0; i < 64; i++)
		arg[i] = call->c & 0x10 ? 0 : pattern(call->b, i);
	arg[call->b % 8] = size_of(call->b >> 4);
	ioctl(fds[call->c & 3],
	      _IOC(call->c >> 6, call->c & 4 ? 'H' : 'Z', numbers[call->b % 8],
		   (call->c & 8 ? call->a : call->a >> 3) * 4),
	      call->c & 0x20 ? (void *)mapping(call->a) : arg);
}

static void call_pass(const struct call *call, struct worker *worker)
{
	int sockets[2];

	(void)worker;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets))
		return;
	/* nobody may take it out: then it dies with the socket */
	if (send_fd(sockets[0], fd_of(ANY, call->a)) && call->c & 1)
		put(BUFFER, call->a >> 4, receive_fd(sockets[1]));
	close(sockets[0]);
	close(sockets[1]);
}

/* The child makes the rest of this thread's calls as well, at the same time. */
static void call_fork(const struct call *call, struct worker *worker)
{
	pid_t none = 0;

	(void)worker;
	/* it takes longer than all else */
	if (call->c & 7 || is_child || !atomic_compare_exchange_strong(&child, &none, -1))
		return;
	none = fork();
	is_child = none == 0;
	if (!is_child)
		child = none;
}

/* The pool's memory is wanted back, or there is a bound for a moment. */
static void call_pressure(const struct call *call, struct worker *worker)
{
	const struct node *node = &nodes[call->a % node_count];
	char path[80], number[24];

	(void)worker;
	if (call->c & 8) {
		if (*shrinker)
			write_file(shrinker, scan);
		return;
	}
	snprintf(path, sizeof(path), "/sys/class/zcbuf/%s/%s", node->name,
		 call->c & 2 ? "pool_limit" : "limit");
	snprintf(number, sizeof(number), "%llu", (unsigned long long)size_of(call->b));
	write_file(path, number);
	write_file(path, call->c & 2 ? node->pool_limit : "max");
}

static void (*const functions[])(const struct call *call, struct worker *worker) = {
	call_alloc,	call_alloc,	    call_alloc,	      call_dma_heap_alloc,
	call_open,	call_view,	    call_view,	      call_sync,
	call_info,	call_close,	    call_close,	      call_dup,
	call_mmap,	call_mmap,	    call_munmap,      call_mremap,
	call_mprotect,	call_touch,	    call_touch,	      call_vmsplice,
	call_direct_io, call_process_vm,    call_device,      call_attach,
	call_attach,	call_detach,	    call_map,	      call_map,
	call_unmap,	call_device_access, call_device_sync, call_dma_buf,
	call_raw,	call_pass,	    call_fork,	      call_pressure,
};

/* The first NTH allocation or copy for user space that the next call makes fails; 0: none. */
static void fail(const struct worker *worker, unsigned int nth)
{
	char number[16];

	snprintf(number, sizeof(number), "%u", nth);
	/* what fails may be the reading of the number */
	for (int tries = 0; tries < 100; tries++)
		if (pwrite(worker->fail_nth, number, strlen(number), 0) > 0)
			break;
}

static void make(const struct call *call, struct worker *worker)
{
	void (*function)(const struct call *call, struct worker *worker) =
		functions[(call->what & 0x3f) % (sizeof(functions) / sizeof(*functions))];
	/* The core warns of an exporter whose vmap() fails. */
	bool fails = call->what >> 6 == THREADS && worker->fail_nth >= 0 &&
		     function != call_device_access && function != call_fork;
	sigset_t all;

	if (worker->cover && !is_child)
		__atomic_store_n(&worker->cover[0], 0, __ATOMIC_RELAXED);
	if (fails) {
		/* a signal that cannot be written to the stack is a SIGSEGV */
		sigfillset(&all);
		pthread_sigmask(SIG_BLOCK, &all, NULL);
		fail(worker, 1 + (call->c & 0x1f));
	}
	function(call, worker);
	if (fails) {
		fail(worker, 0);
		pthread_sigmask(SIG_UNBLOCK, &all, NULL);
	}
	operations++;
	if (!worker->cover || is_child)
		return;
	for (size_t i = 0; i < __atomic_load_n(&worker->cover[0], __ATOMIC_RELAXED); i++) {
		uintptr_t at = worker->cover[1 + i] - module_start;

		if (at < module_size)
			reached[(at ^ at >> 16) % sizeof(reached)]++;
	}
}

/* Each call is of one thread; those that shall fail are the first one's. */
static void run(int number)
{
	for (size_t i = 0; i < call_count; i++)
		if (calls[i].what >> 6 == number ||
		    (calls[i].what >> 6 == THREADS && number == 0))
			make(&calls[i], &workers[number]);
	if (is_child)
		_exit(0);
}

static void watch(struct worker *worker)
{
	int kcov = open("/sys/kernel/debug/kcov", O_RDWR | O_CLOEXEC);

	worker->fail_nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (pipe2(worker->pipe, O_NONBLOCK | O_CLOEXEC))
		abort();
	if (kcov < 0)
		return;
	if (ioctl(kcov, KCOV_INIT_TRACE, COVER_WORDS))
		abort();
	worker->cover = mmap(NULL, COVER_WORDS * sizeof(uint64_t), PROT_READ | PROT_WRITE,
			     MAP_SHARED, kcov, 0);
	if (worker->cover == MAP_FAILED || ioctl(kcov, KCOV_ENABLE, KCOV_TRACE_PC))
		abort();
}

static void *work(void *argument)
{
	struct worker *worker = argument;

	watch(worker);
	pthread_barrier_wait(&end);
	for (;;) {
		pthread_barrier_wait(&begin);
		run(worker - workers);
		pthread_barrier_wait(&end);
	}
	return NULL;
}

static void find_module(void)
{
	FILE *modules = fopen("/proc/modules", "re");
	char name[64];
	unsigned long size, start;

	while (modules &&
	       fscanf(modules, "%63s %lu %*s %*s %*s %lx%*[^\n]", name, &size, &start) == 3)
		if (!strcmp(name, "zcbuf")) {
			module_start = start;
			module_size = size;
		}
	if (modules)
		fclose(modules);
}

static void say_operations(void)
{
	fprintf(stderr, "%lu operations\n", operations);
}

static void set_up(void)
{
	struct zcbuf_ioc_heap heap = { .index = 0 };
	char path[80], cgroup[64];
	struct stat status;
	glob_t files;

	close(device());
	find_module();
	while (node_count < 16 && ioctl(control(), ZCBUF_IOC_HEAPS, &heap) == 0) {
		struct node *node = &nodes[node_count++];

		memcpy(node->name, heap.name, sizeof(node->name));
		snprintf(path, sizeof(path), "/dev/dma_heap/%s", heap.name);
		node->fd = open(path, O_RDWR | O_CLOEXEC);
		if (node->fd < 0)
			bail("%s: %s", path, strerror(errno));
		snprintf(path, sizeof(path), "/sys/class/zcbuf/%s/pool_limit", heap.name);
		read_file(path, node->pool_limit, sizeof(node->pool_limit));
		heap = (struct zcbuf_ioc_heap){ .index = heap.index + 1 };
	}
	if (!node_count)
		bail("no heap: %s", strerror(errno));
	if (glob("/sys/kernel/debug/shrinker/zcbuf-pool-*/scan", 0, NULL, &files) == 0)
		snprintf(shrinker, sizeof(shrinker), "%s", files.gl_pathv[0]);
	globfree(&files);
	read_file("/proc/self/cgroup", cgroup, sizeof(cgroup));
	snprintf(path, sizeof(path), "/sys/fs/cgroup/%s", cgroup + strlen("0::/"));
	path[strcspn(path, "\n")] = 0;
	if (stat(path, &status) == 0)
		snprintf(scan, sizeof(scan), "%lu 0 100", (unsigned long)status.st_ino);
	direct_file = open("/mnt/scratch", O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
	memory_file = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	mappings = mmap(NULL, (MAPPINGS + 1) * MAPPING_BYTES, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (direct_file < 0 || memory_file < 0 || mappings == MAP_FAILED)
		bail("no file and memory: %s", strerror(errno));
	/* where huge pages can be mapped */
	mappings += -(uintptr_t)mappings % MAPPING_BYTES;
	for (int i = 0; i < SLOTS; i++)
		slots[i] = -1;
	pthread_barrier_init(&begin, NULL, THREADS);
	pthread_barrier_init(&end, NULL, THREADS);
	for (int i = 1; i < THREADS; i++)
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			bail("no thread");
	watch(&workers[0]);
	pthread_barrier_wait(&end);
	atexit(say_operations);
	first_fd = dup(0);
	close(first_fd);
}

/* Nothing of one input is there for the next one. */
static void clean_up(void)
{
	char text[4096];

	if (child > 0)
		waitpid(child, NULL, 0);
	child = 0;
	for (int i = 0; i < SLOTS; i++)
		slots[i] = -1;
	close_range(first_fd, ~0U, 0);
	mmap(mappings, MAPPINGS * MAPPING_BYTES, PROT_NONE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	for (int i = 0; i < THREADS; i++)
		while (read(workers[i].pipe[0], text, sizeof(text)) > 0)
			;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!mappings)
		set_up();
	calls = (const struct call *)data;
	call_count = size / sizeof(*calls);
	if (call_count > MAX_CALLS)
		call_count = MAX_CALLS;
	pthread_barrier_wait(&begin);
	run(0);
	pthread_barrier_wait(&end);
	clean_up();
	return 0;
}
