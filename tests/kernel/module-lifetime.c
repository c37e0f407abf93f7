// SPDX-License-Identifier: GPL-2.0-only
/*
 * The module unloads whenever nobody holds anything of it, and not before; again and
 * again. It is loaded again in the end, with the parameters it had.
 */
#include <sys/uio.h>

#include "module.h"
#include "vgem.h"
#include "zc.h"

#define SIZE (4 * PAGE)

static char parameters[4096];
static char names[16][ZCBUF_NAME_LEN];
static int heaps;

static void find_parameters(void)
{
	DIR *dir = opendir("/sys/module/zcbuf/parameters");
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		char path[PATH_MAX], value[1024];
		size_t end = strlen(parameters);

		snprintf(path, sizeof(path), "/sys/module/zcbuf/parameters/%s",
			 entry->d_name);
		if (entry->d_name[0] == '.' || !read_file(path, value, sizeof(value)))
			continue;
		value[strcspn(value, "\n")] = 0;
		if (*value && strcmp(value, "(null)"))
			snprintf(parameters + end, sizeof(parameters) - end, "%s=%s ",
				 entry->d_name, value);
	}
	if (dir)
		closedir(dir);
}

/* The heap called NAME, as if for_each_heap() had opened it. */
static struct heap open_heap(const char *name)
{
	struct heap heap = { .name = name };

	for (heap.is.index = 0; ioctl(control(), ZCBUF_IOC_HEAPS, &heap.is) == 0;
	     heap.is.index++)
		if (!strcmp(heap.is.name, name)) {
			heap.fd = heap_open(&heap, O_RDWR);
			return heap;
		}
	bail("%s has gone", name);
}

static void find_heaps(void)
{
	struct zcbuf_ioc_heap arg = { .index = 0 };

	while (heaps < 16 && ioctl(control(), ZCBUF_IOC_HEAPS, &arg) == 0) {
		strcpy(names[heaps++], arg.name);
		arg = (struct zcbuf_ioc_heap){ .index = heaps };
	}
}

static void nothing_held(const char *when)
{
	ok(unload() == 0, "it unloads %s", when);
	if (!loaded())
		ok(load(parameters) == 0, "and loads again");
}

/* Refused now. What is held is let go by the caller. */
static void refused(const char *name, const char *holder)
{
	is_errno(unload(), EWOULDBLOCK, "%s: it does not unload while %s", name, holder);
	if (!loaded() && load(parameters))
		bail("it unloaded, and does not load again: %s", strerror(errno));
}

static void holders(const char *name)
{
	struct heap heap = open_heap(name);
	struct zcbuf_ioc_alloc arg = { .size = SIZE, .fd_flags = O_RDWR | O_CLOEXEC };
	int fd, narrow, sockets[2], vgem;
	void *memory;

	refused(name, "a heap's node is open");
	fd = must_alloc(&heap, SIZE);
	close(heap.fd);
	refused(name, "a buffer's fd is open");
	narrow = view(fd, 0, PAGE, ZCBUF_VIEW_READ_ONLY);
	close(fd);
	refused(name, "a view's fd is open");
	memory = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, narrow, 0);
	close(narrow);
	refused(name, "a view is mapped");
	munmap(memory, PAGE);

	heap = open_heap(name);
	fd = must_alloc(&heap, SIZE);
	memory = must_map(fd, SIZE);
	close(fd);
	close(heap.fd);
	refused(name, "a buffer is mapped");
	munmap((char *)memory + PAGE, SIZE - PAGE);
	refused(name, "one page of it is");
	munmap(memory, PAGE);

	heap = open_heap(name);
	if (ioctl(heap.fd, ZCBUF_IOC_ALLOC, &arg))
		bail("no buffer: %s", strerror(errno));
	memory = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, heap.fd, arg.mmap_offset);
	close(arg.fd);
	close(heap.fd);
	refused(name, "a heap's node is mapped");
	munmap(memory, SIZE);

	heap = open_heap(name);
	fd = must_alloc(&heap, SIZE);
	socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets);
	send_fd(sockets[0], fd);
	close(fd);
	close(heap.fd);
	refused(name, "a buffer is under way in a socket");
	close(sockets[0]);
	close(sockets[1]);

	heap = open_heap(name);
	close(heap.fd);
	vgem = vgem_open();
	if (vgem < 0) {
		skip("%s: no vgem", name);
	} else if (heap_has_pages(&heap)) {
		heap = open_heap(name);
		fd = must_alloc(&heap, SIZE);
		drm_import(vgem, fd);
		close(fd);
		close(heap.fd);
		refused(name, "a device has a buffer");
		close(vgem);
	}

	control();
	is_errno(syscall(SYS_delete_module, "zcbuf", O_NONBLOCK), EWOULDBLOCK,
		 "%s: it does not unload while the control node is open", name);
	nothing_held("when all is let go");
}

/* Pages that are pinned are no longer the module's. */
static void pages_in_a_pipe(const char *name)
{
	struct heap heap = open_heap(name);
	struct iovec iov = { .iov_len = SIZE };
	int fd, pipes[2];
	void *copy;

	if (!heap_can(&heap, ZCBUF_HEAP_CAP_PIN)) {
		close(heap.fd);
		return;
	}
	fd = must_alloc(&heap, SIZE);
	iov.iov_base = must_map(fd, SIZE);
	copy = malloc(SIZE);
	close(heap.fd);
	fill(iov.iov_base, SIZE, 1);
	if (pipe2(pipes, O_CLOEXEC) || vmsplice(pipes[1], &iov, 1, 0) != SIZE)
		bail("vmsplice: %s", strerror(errno));
	munmap(iov.iov_base, SIZE);
	close(fd);
	nothing_held("while a pipe has pages of it");
	ok(read(pipes[0], copy, SIZE) == SIZE && is_filled(copy, SIZE, 1),
	   "%s: which are as they were", name);
	close(pipes[0]);
	close(pipes[1]);
	free(copy);
}

/* What a heap keeps goes with the module, also while it is being zeroed. */
static void kept_memory(const char *name)
{
	struct heap heap = open_heap(name);
	bool keeps = pool_bytes(&heap) >= 0, gone = true;
	long long free = 0;

	close(heap.fd);
	for (int round = 0; round < 10 && keeps; round++) {
		int fd;

		heap = open_heap(name);
		fd = must_alloc(&heap, 64 * MiB);
		close(heap.fd);
		if (round == 0)
			free = free_kib();
		close(fd);
		pause_ms(round);
		gone = unload() == 0 && load(parameters) == 0 && gone;
	}
	if (!keeps)
		return;
	ok(gone, "%s: it unloads while freed memory is being zeroed", name);
	free -= free_kib();
	ok(free < -48 * 1024, "%s: which all is given back", name);
}

/* A heap's files in sysfs keep nobody from unloading, and say nothing of a heap that went. */
static void open_attribute(const char *name)
{
	char path[PATH_MAX], text[32];
	int fd;

	snprintf(path, sizeof(path), "/sys/class/zcbuf/%s/limit", name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	ok(fd >= 0 && pread(fd, text, sizeof(text), 0) > 0, "%s: its limit can be read",
	   name);
	ok(unload() == 0, "%s: it unloads while that file is open", name);
	is_errno(pread(fd, text, sizeof(text), 0), ENODEV, "%s: which is of no heap then",
		 name);
	is_errno(pwrite(fd, "0", 1, 0), ENODEV, "%s: and sets no limit", name);
	ok(load(parameters) == 0, "%s: it loads again", name);
	is_errno(pread(fd, text, sizeof(text), 0), ENODEV,
		 "%s: and the file is not of the new heap", name);
	close(fd);
}

static bool nodes_there(bool should)
{
	bool right = (access("/dev/zcbuf", F_OK) == 0) == should;

	for (int i = 0; i < heaps; i++) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "/dev/dma_heap/%s", names[i]);
		right = right && (access(path, F_OK) == 0) == should;
	}
	return right;
}

static bool each_heap_works(void)
{
	bool works = true;

	for (int i = 0; i < heaps; i++) {
		struct heap heap = open_heap(names[i]);
		int fd = alloc(&heap, SIZE);
		void *memory = map(fd, SIZE);

		works = works && memory != MAP_FAILED && is_zero(memory, SIZE);
		if (memory != MAP_FAILED)
			fill(memory, SIZE, 2);
		munmap(memory, SIZE);
		close(fd);
		close(heap.fd);
	}
	return works;
}

static void again_and_again(void)
{
	long long slab = 0, free = 0;
	int failed = 0, strange = 0;

	/* What leaks does so each time; what the kernel keeps for other reasons, not. */
	for (int tries = 0; tries < 4 && (!tries || slab >= 512 || free >= 8192); tries++) {
		free = free_kib();
		slab = number_in("/proc/meminfo", "SUnreclaim");
		for (int i = 0; i < 25; i++) {
			failed += unload() != 0;
			strange += !nodes_there(false);
			failed += load(parameters) != 0;
			strange += !nodes_there(true);
			failed += !each_heap_works();
		}
		free -= free_kib();
		slab = number_in("/proc/meminfo", "SUnreclaim") - slab;
	}
	ok(!failed, "it unloads, loads and works again and again");
	ok(!strange, "its nodes come and go with it");
	ok(slab < 512 && free < 8192, "and no memory does (slab %lld KiB, pages %lld KiB)",
	   slab, free);
}

/*
 * Processes that open, ask, allocate, map and read sysfs, each at its own pace, while the module
 * goes whenever none of them is looking.
 */
static void use_until_killed(int which)
{
	for (unsigned int i = which;; i++) {
		const char *name = names[i % heaps];
		struct zcbuf_ioc_heap about = { .index = i % heaps };
		struct heap heap = { .name = name, .fd = heap_open(&heap, O_RDWR) };
		int fd = heap.fd < 0 ? -1 : alloc(&heap, SIZE);
		void *memory;

		control_fd = open("/dev/zcbuf", O_RDWR | O_CLOEXEC);
		ioctl(control_fd, ZCBUF_IOC_HEAPS, &about);
		pool_number(&heap, which % 2 ? "limit" : "pool_bytes");
		if (fd >= 0) {
			memory = map(fd, SIZE);
			if (memory == MAP_FAILED || !is_zero(memory, SIZE))
				_exit(1);
			memset(memory, 0xff, SIZE);
			close(view(fd, 0, 0, 0));
			munmap(memory, SIZE);
			close(fd);
		}
		close(control_fd);
		close(heap.fd);
		pause_ms(which);
	}
}

#define PROCESSES 3

static void against_everything(void)
{
	int gone = 0, held = 0, strange = 0, alive = 0;
	pid_t children[PROCESSES];

	close(control_fd);
	control_fd = -1;
	for (int i = 0; i < PROCESSES; i++) {
		children[i] = fork();
		if (children[i] == 0)
			use_until_killed(i + 1);
	}
	for (double start = seconds();
	     (gone < 100 || !held) && !strange && seconds() - start < 60;) {
		if (unload() == 0) {
			gone++;
			strange += load(parameters) != 0;
		} else {
			held++;
			strange += errno != EWOULDBLOCK;
		}
	}
	for (int i = 0; i < PROCESSES; i++) {
		kill(children[i], SIGKILL);
		alive += end_of(children[i]) == 128 + SIGKILL;
	}
	ok(gone && held && !strange,
	   "it unloads and loads while processes come and go (%d times, %d refused)", gone,
	   held);
	ok(alive == PROCESSES, "who see only new memory, and what it refuses");
	nothing_held("when they are gone");
}

/* Whatever happens, others need it. */
static void load_at_least(void)
{
	if (!loaded() && load(parameters) && system("modprobe zcbuf"))
		diag("zcbuf does not load any more");
}

int main(void)
{
	atexit(load_at_least);
	find_parameters();
	find_heaps();
	diag("%s", parameters);
	nothing_held("at first");
	for (int i = 0; i < heaps; i++) {
		holders(names[i]);
		pages_in_a_pipe(names[i]);
		kept_memory(names[i]);
		open_attribute(names[i]);
	}
	again_and_again();
	against_everything();
	return done_testing();
}
