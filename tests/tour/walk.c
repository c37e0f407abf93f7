// SPDX-License-Identifier: GPL-2.0-only
/*
 * walk HEAP: takes one buffer of that heap along the way that docs/mmap.md describes, and prints
 * what the kernel's function_graph tracer saw of it, step by step, and what user space gets.
 * ./trace sets the tracer up, runs this, and makes the tables of that page of it.
 */
#include <sys/uio.h>

#include "../../kernel/importer.h"
#include "../kernel/zc.h"

#define TRACING "/sys/kernel/tracing/"
#define SIZE	(16 * PAGE)
#define DISK	"/mnt/scratch/tour"

static int tracing_on;

static void begin(void)
{
	int trace = open(TRACING "trace", O_WRONLY | O_TRUNC | O_CLOEXEC); /* forgets all */

	close(trace);
	if (pwrite(tracing_on, "1", 1, 0) != 1)
		bail("tracing_on: %s", strerror(errno));
}

static void stop(void)
{
	if (pwrite(tracing_on, "0", 1, 0) != 1)
		bail("tracing_on: %s", strerror(errno));
}

/* Everything that the tracer saw since begin(). */
static void end(const char *step)
{
	static char text[1 << 20];

	stop();
	read_file(TRACING "trace", text, sizeof(text));
	printf("step %s\n%s", step, text);
}

static void trace_pid(pid_t pid)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", pid);
	if (!write_file(TRACING "set_ftrace_pid", text))
		bail("set_ftrace_pid: %s", strerror(errno));
}

/* A line for a table of what works: KIND is "fact" of user space, or "device". */
static void answer(const char *kind, const char *what, bool works)
{
	static const char *const names[] = {
		[EPERM] = "EPERM",   [EIO] = "EIO",	  [EACCES] = "EACCES",
		[EFAULT] = "EFAULT", [EINVAL] = "EINVAL", [EOPNOTSUPP] = "EOPNOTSUPP",
	};
	const char *error =
		errno < (int)(sizeof(names) / sizeof(*names)) ? names[errno] : NULL;

	if (!error)
		error = strerror(errno);
	printf("%s %s: %s\n", kind, what, works ? "yes" : error);
}

static void fact(const char *what, bool works)
{
	answer("fact", what, works);
}

static void touch(volatile char *memory, size_t size)
{
	for (size_t i = 0; i < size; i += PAGE)
		memory[i] += 1;
}

/* A child begins at once, and touches MEMORY when it is told to. */
static void walk_fork(char *memory)
{
	int go[2], done[2];
	char byte = 0;
	pid_t child;

	if (pipe(go) || pipe(done))
		bail("pipe: %s", strerror(errno));
	begin();
	child = fork();
	if (child == 0) {
		if (read(go[0], &byte, 1) != 1)
			_exit(1);
		begin();
		touch(memory, SIZE);
		stop();
		_exit(write(done[1], &byte, 1) != 1);
	}
	end("fork");
	trace_pid(child);
	if (write(go[1], &byte, 1) != 1 || read(done[0], &byte, 1) != 1)
		bail("the child has gone");
	end("child");
	fact("a child of fork() has it too", end_of(child) == 0 && memory[0] == 2);
	trace_pid(getpid());
	for (int i = 0; i < 2; i++) {
		close(go[i]);
		close(done[i]);
	}
}

/* The lines of smaps that follow the one of MEMORY. */
static const char *smaps(const char *memory)
{
	static char text[1 << 18];
	char start[32], *found;

	snprintf(start, sizeof(start), "%lx-", (unsigned long)memory);
	read_file("/proc/self/smaps", text, sizeof(text));
	found = strstr(text, start);
	return found ? found : "";
}

static void print_smaps(const char *memory)
{
	const char *text = smaps(memory), *flags = strstr(text, "VmFlags:");
	unsigned long rss = 0, pss = 0;
	const char *line;

	if ((line = strstr(text, "\nRss:")))
		rss = strtoul(line + 5, NULL, 10);
	if ((line = strstr(text, "\nPss:")))
		pss = strtoul(line + 5, NULL, 10);
	printf("fact Rss, Pss in smaps: %lu, %lu kB\n", rss, pss);
	for (flags = flags ? flags + 8 : ""; flags[0] == ' ' && flags[1] > ' '; flags += 3)
		printf("flag %.2s\n", flags + 1);
}

/* Returns where MEMORY is then. */
static char *facts(int fd, char *memory)
{
	struct iovec local = { .iov_base = (char[8]){ 0 }, .iov_len = 8 };
	struct iovec remote = { .iov_base = memory, .iov_len = 8 };
	int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	int read_only = view(fd, 0, 0, ZCBUF_VIEW_READ_ONLY);
	char bytes[8] = { 0 }, *other, *grown;

	print_smaps(memory);
	fact("MAP_PRIVATE", mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, fd, 0) != MAP_FAILED);
	fact("PROT_EXEC", mmap(NULL, SIZE, PROT_EXEC, MAP_SHARED, fd, 0) != MAP_FAILED);
	grown = mremap(memory, SIZE, 2 * SIZE, MREMAP_MAYMOVE);
	fact("mremap(), larger", grown != MAP_FAILED);
	if (grown != MAP_FAILED)
		remote.iov_base = memory = mremap(grown, 2 * SIZE, SIZE, 0);
	fact("madvise(MADV_DODUMP)", madvise(memory, SIZE, MADV_DODUMP) == 0);
	fact("process_vm_readv()",
	     process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 8);
	fact("pread() of /proc/self/mem",
	     pread(mem, bytes, 8, (off_t)(uintptr_t)memory) == 8);
	other = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, read_only, 0);
	fact("pwrite() there, read-only view",
	     pwrite(mem, bytes, 8, (off_t)(uintptr_t)other) == 8);
	fact("mprotect(PROT_WRITE), read-only view",
	     mprotect(other, SIZE, PROT_READ | PROT_WRITE) == 0);
	munmap(other, SIZE);
	close(read_only);
	close(mem);
	return memory;
}

/* Free addresses for a mapping that lies in one page of the page table, as most would. */
static char *place(void)
{
	char *room = mmap(NULL, 4 * MiB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap(room, 4 * MiB);
	return (char *)(((uintptr_t)room + 2 * MiB - 1) & -(2 * MiB));
}

/* In one chunk, as is usual: chunks are counted, and where memory is fragmented try again. */
static int walk_alloc(const struct heap *heap)
{
	int fds[64], n = 0;

	do {
		begin();
		fds[n] = alloc(heap, SIZE);
		stop();
		if (fds[n++] < 0)
			bail("%s: no buffer: %s", heap->name, strerror(errno));
	} while (heap->is.kind == ZCBUF_HEAP_SYSTEM && info(fds[n - 1]).chunks > 1 &&
		 n < 64);
	end("alloc");
	for (int i = 0; i < n - 1; i++)
		close(fds[i]);
	return fds[n - 1];
}

static void attach_and_map(int importer, int fd, uint32_t bits, uint32_t flags,
			   struct zcbuf_importer_map *map)
{
	struct zcbuf_importer_attach attach = { .fd = fd,
						.flags = flags,
						.dma_bits = bits };

	if (ioctl(importer, ZCBUF_IMPORTER_ATTACH, &attach) ||
	    ioctl(importer, ZCBUF_IMPORTER_MAP, map))
		bail("the importer: %s", strerror(errno));
}

static void unmap_and_detach(int importer)
{
	ioctl(importer, ZCBUF_IMPORTER_UNMAP);
	ioctl(importer, ZCBUF_IMPORTER_DETACH);
}

/* A device that reaches all memory. */
static void walk_device(int importer, int fd)
{
	struct zcbuf_importer_attach plain = { .fd = fd, .dma_bits = 64 };
	struct zcbuf_importer_map map = { .direction = ZCBUF_IMPORTER_BIDIRECTIONAL };
	bool pages = ioctl(importer, ZCBUF_IMPORTER_ATTACH, &plain) == 0 &&
		     ioctl(importer, ZCBUF_IMPORTER_MAP, &map) == 0;
	int view_fd = view(fd, 0, 0, ZCBUF_VIEW_DEVICE_READ_ONLY);
	bool works;

	answer("device", "a device without peer-to-peer maps", pages);
	unmap_and_detach(importer);

	begin();
	attach_and_map(importer, fd, 64, pages ? 0 : ZCBUF_IMPORTER_PEER_TO_PEER, &map);
	end("map");
	begin();
	sync_all(fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW);
	sync_all(fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW);
	end("sync");
	unmap_and_detach(importer);

	plain.fd = view_fd;
	plain.flags = pages ? 0 : ZCBUF_IMPORTER_PEER_TO_PEER;
	works = ioctl(importer, ZCBUF_IMPORTER_ATTACH, &plain) == 0;
	answer("device", "its device-read-only view attaches", works);
	map.direction = ZCBUF_IMPORTER_TO_DEVICE;
	answer("device", "and maps to the device",
	       works && ioctl(importer, ZCBUF_IMPORTER_MAP, &map) == 0);
	ioctl(importer, ZCBUF_IMPORTER_UNMAP);
	map.direction = ZCBUF_IMPORTER_BIDIRECTIONAL;
	answer("device", "and maps for both directions",
	       works && ioctl(importer, ZCBUF_IMPORTER_MAP, &map) == 0);
	unmap_and_detach(importer);
	close(view_fd);
}

/*
 * A device that reaches 4 GiB. Whether memory lies above is the machine's choice: try until
 * it does. Carveouts lie where they lie, and are never bounced: any device that reaches them.
 */
static void walk_bouncing_device(const struct heap *heap, int importer)
{
	bool pages = heap->is.kind != ZCBUF_HEAP_CARVEOUT;
	uint32_t flags = pages ? 0 : ZCBUF_IMPORTER_PEER_TO_PEER, bits = pages ? 32 : 64;
	int fds[64], tries = pages ? 64 : 1, n = 0;
	const struct zcbuf_importer_map both = {
		.direction = ZCBUF_IMPORTER_BIDIRECTIONAL,
	};
	struct zcbuf_importer_map map;

	do {
		map = both;
		fds[n] = must_alloc(heap, SIZE);
		attach_and_map(importer, fds[n++], bits, flags, &map);
		if (map.bounced || n == tries)
			break;
		unmap_and_detach(importer);
	} while (n < tries);
	if (map.bounced || !pages) {
		begin();
		sync_all(fds[n - 1], DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW);
		sync_all(fds[n - 1], DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW);
		end("bounce");
	}
	unmap_and_detach(importer);
	while (n)
		close(fds[--n]);
}

static void walk(const struct heap *heap)
{
	int disk = open(DISK, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
	int importer = open("/dev/zcbuf-importer", O_RDWR | O_CLOEXEC);
	bool works;
	char *memory;
	int fd;

	if (disk < 0 || fallocate(disk, 0, 0, SIZE))
		bail(DISK ": %s", strerror(errno));
	if (importer < 0)
		bail("/dev/zcbuf-importer: %s", strerror(errno));

	fd = walk_alloc(heap);

	memory = place();
	begin();
	memory = mmap(memory, SIZE, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
	end("mmap");
	if (memory == MAP_FAILED)
		bail("%s: mmap: %s", heap->name, strerror(errno));

	begin();
	touch(memory, SIZE);
	end("touch");

	walk_device(importer, fd);
	walk_bouncing_device(heap, importer);
	close(importer);
	walk_fork(memory);
	memory = facts(fd, memory);

	begin();
	works = pwrite(disk, memory, SIZE, 0) == (ssize_t)SIZE;
	end("pin");
	fact("O_DIRECT write from it", works);

	works = madvise(memory, SIZE, MADV_DONTNEED) == 0;
	fact("madvise(MADV_DONTNEED)", works);
	begin();
	touch(memory, PAGE);
	end("fault");
	fact("and all is there when touched again",
	     memory[0] == 3 && memory[SIZE - PAGE] == 2);
	touch(memory, SIZE); /* so that munmap() has all of it to do */

	begin();
	munmap(memory, SIZE);
	end("munmap");

	begin();
	close(fd);
	end("close");
	close(disk);
	unlink(DISK);
}

static const char *wanted;
static bool found;

static void walk_if_wanted(const struct heap *heap)
{
	if (strcmp(heap->name, wanted))
		return;
	found = true;
	walk(heap);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		bail("usage: walk HEAP");
	wanted = argv[1];
	setvbuf(stdout, NULL, _IOFBF, 1 << 22); /* no write() between the steps */
	tracing_on = open(TRACING "tracing_on", O_WRONLY);
	if (tracing_on < 0)
		bail(TRACING "tracing_on: %s", strerror(errno));
	trace_pid(getpid());
	for_each_heap(walk_if_wanted);
	if (!found)
		bail("no heap %s", wanted);
	return 0;
}
