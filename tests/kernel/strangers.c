// SPDX-License-Identifier: GPL-2.0-only
/*
 * Somebody without rights tries all that nodes-rights does not name: whatever of the module's
 * files can be written, whatever shows where memory lies, and whatever keeps a buffer alive that
 * nobody has given them, or that they have given back.
 */
#include <dirent.h>
#include <grp.h>
#include <sys/syscall.h>

#include "zc.h"

#define SIZE (3 * PAGE)

static int failures;

/* In the stranger's process, which says by its exit status how much went wrong. */
static void must(bool right, const char *heap, const char *what)
{
	if (right)
		return;
	failures++;
	diag("%s: %s", heap, what);
}

static void become_stranger(void)
{
	if (setgroups(0, NULL) || setresgid(65534, 65534, 65534) ||
	    setresuid(65534, 65534, 65534))
		_exit(99);
}

/* Addresses */

static uint64_t physical; /* where the buffer's first page is, or 0 */

/* Of a page that this process has touched. */
static uint64_t physical_address(const void *address)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	if (pread(fd, &entry, 8, (uintptr_t)address / PAGE * 8) != 8)
		entry = 0;
	close(fd);
	return (entry & ((1ULL << 55) - 1)) * PAGE;
}

/* Where the region of a carveout begins. */
static uint64_t region_address(const char *heap)
{
	FILE *iomem = fopen("/proc/iomem", "re");
	unsigned long long start;
	char line[256], name[128];

	while (iomem && fgets(line, sizeof(line), iomem))
		if (sscanf(line, " %llx-%*x : %127s", &start, name) == 2 &&
		    !strcmp(name, heap)) {
			fclose(iomem);
			return start;
		}
	bail("%s is not in /proc/iomem", heap);
}

/* Where x86 has a page for old programs, always: [vsyscall]. */
#define VSYSCALL 0xffffffffff600000

/* The kernel's half of the address space on the machines that we know, but not a small negative. */
static bool is_kernel_address(uint64_t value)
{
	return value >= 0xffff000000000000 && value < (uint64_t)-65536 &&
	       value != VSYSCALL && value != VSYSCALL + PAGE;
}

static bool words_are_clean(const void *structure, size_t size)
{
	uint64_t word;

	for (size_t i = 0; i + 8 <= size; i += 4) {
		memcpy(&word, (const char *)structure + i, 8);
		if (is_kernel_address(word) ||
		    (physical && (word == physical || word == physical / PAGE)))
			return false;
	}
	return true;
}

/* Each hexadecimal number of five digits or more, in whatever is around it. */
static bool text_is_clean(const char *text)
{
	while (*text) {
		size_t digits = strspn(text, "0123456789abcdefABCDEF");
		uint64_t value = strtoull(text, NULL, 16);

		if (digits >= 5 &&
		    (is_kernel_address(value) ||
		     (physical && (value == physical || value == physical / PAGE))))
			return false;
		text += digits ? digits : 1;
	}
	return true;
}

/* Files */

/* Nothing below DIR can be written, and what can be read gives no address away. */
static void look_through(const char *heap, const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		char name[PATH_MAX], text[65536];
		int fd;

		if (entry->d_name[0] == '.' || entry->d_type == DT_LNK)
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		if (entry->d_type == DT_DIR) {
			look_through(heap, name);
			continue;
		}
		fd = open(name, O_WRONLY | O_CLOEXEC);
		must(fd < 0, heap, name);
		if (read_file(name, text, sizeof(text)))
			must(text_is_clean(text), heap, name);
	}
	if (dir)
		closedir(dir);
}

static void files(const char *heap)
{
	char path[64];

	/* The heap's directory itself: /sys/class/zcbuf has links. */
	snprintf(path, sizeof(path), "/sys/class/zcbuf/%s/", heap);
	look_through(heap, path);
	look_through(heap, "/sys/class/zcbuf/zcbuf/");
	look_through(heap, "/sys/module/zcbuf");
	must(access("/sys/kernel/debug/dma_buf", R_OK) != 0, heap, "debugfs can be read");
	must(syscall(SYS_delete_module, "zcbuf", O_NONBLOCK) == -1 && errno == EPERM, heap,
	     "the module can be unloaded");
}

/* What the kernel tells of a buffer that they hold. */
static void answers(const struct heap *heap, int fd)
{
	struct zcbuf_ioc_info about = { .fd = fd };
	struct zcbuf_ioc_heap heaps = { .index = heap->is.index };
	struct zcbuf_ioc_view part = { .fd = fd, .length = PAGE };
	char path[64], text[65536];
	void *memory;

	must(ioctl(control(), ZCBUF_IOC_INFO, &about) == 0 &&
		     words_are_clean(&about, sizeof(about)),
	     heap->name, "INFO has an address");
	must(ioctl(control(), ZCBUF_IOC_HEAPS, &heaps) == 0 &&
		     words_are_clean(&heaps, sizeof(heaps)),
	     heap->name, "HEAPS has an address");
	must(ioctl(control(), ZCBUF_IOC_VIEW, &part) == 0 &&
		     words_are_clean(&part, sizeof(part)),
	     heap->name, "VIEW has an address");
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	must(read_file(path, text, sizeof(text)) && text_is_clean(text), heap->name,
	     "fdinfo has an address");
	memory = map(part.view_fd, PAGE);
	must(memory != MAP_FAILED && physical_address(memory) == 0, heap->name,
	     "pagemap has an address");
	must(read_file("/proc/self/smaps", text, sizeof(text)) && text_is_clean(text),
	     heap->name, "smaps has an address");
	munmap(memory, PAGE);
	close(part.view_fd);
}

/* What another one holds, who is us as we were. */
static void others(const struct heap *heap, int hidden)
{
	char path[64];
	int pidfd = syscall(SYS_pidfd_open, getppid(), 0), fd;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", getppid(), hidden);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	must(fd < 0, heap->name, "another one's buffer can be opened");
	must(syscall(SYS_pidfd_getfd, pidfd, hidden, 0) == -1 && errno == EPERM, heap->name,
	     "another one's buffer can be taken");
	snprintf(path, sizeof(path), "/proc/%d/map_files", getppid());
	must(!opendir(path), heap->name, "another one's mappings can be opened");
	/* Numbers that are no fds of theirs. */
	for (int number = 3; number < 64; number++) {
		struct zcbuf_ioc_info about = { .fd = number };
		struct zcbuf_ioc_view whole = { .fd = number };
		int flags = fcntl(number, F_GETFD);

		if (flags >= 0)
			continue;
		must(ioctl(control(), ZCBUF_IOC_INFO, &about) == -1 && errno == EBADF,
		     heap->name, "INFO of what is not theirs");
		must(ioctl(control(), ZCBUF_IOC_VIEW, &whole) == -1 && errno == EBADF,
		     heap->name, "a view of what is not theirs");
	}
	close(pidfd);
}

/* The stranger has one buffer, and no other fd but that of the control node. */
static void stranger(const struct heap *heap, int given, int hidden)
{
	dup2(given, 100);
	close_range(3, 99, 0);
	close_range(101, ~0U, 0);
	control_fd = -1;
	become_stranger();
	must(heap_open(heap, O_RDONLY) < 0, heap->name, "the heap can be opened");
	files(heap->name);
	answers(heap, 100);
	others(heap, hidden);
	_exit(failures > 50 ? 50 : failures);
}

/* They hold the control node open, and had a buffer, views of it, mappings, and sync brackets. */
static void gives_back(const struct heap *heap)
{
	struct held before = held(heap);
	int fd = must_alloc(heap, SIZE), sockets[2], pipes[2];
	pid_t child;
	char byte;

	socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets);
	if (pipe2(pipes, O_CLOEXEC))
		bail("pipe: %s", strerror(errno));
	child = fork();
	if (child == 0) {
		int views[16], mine;

		become_stranger();
		close(heap->fd);
		close(fd);
		control_fd = open("/dev/zcbuf", O_RDWR | O_CLOEXEC);
		mine = receive_fd(sockets[1]);
		for (int i = 0; i < 16; i++) {
			views[i] = view(i ? views[i - 1] : mine, 0, 0, 0);
			sync_range(views[i], 0, PAGE, ZCBUF_SYNC_START | ZCBUF_SYNC_WRITE);
			munmap(must_map(views[i], SIZE), SIZE);
		}
		for (int i = 0; i < 16; i++)
			close(views[i]);
		close(mine);
		if (write(pipes[1], "", 1) != 1)
			_exit(1);
		pause();
	}
	send_fd(sockets[0], fd);
	close(fd);
	close(sockets[0]);
	close(sockets[1]);
	if (read(pipes[0], &byte, 1) != 1)
		bail("the stranger is gone");
	close(pipes[0]);
	close(pipes[1]);
	ok(held_as(heap, before), "%s: whoever has no fd and no mapping keeps no memory",
	   heap->name);
	kill(child, SIGKILL);
	end_of(child);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);
	int given = must_alloc(heap, SIZE), hidden = must_alloc(heap, SIZE);
	void *memory = must_map(given, SIZE);
	pid_t child;

	*(volatile char *)memory = 1;
	physical = heap_has_pages(heap) ? physical_address(memory)
					: region_address(heap->name);
	/* What was mapped by number, and not by page, pagemap does not tell. */
	ok(physical || !heap_can(heap, ZCBUF_HEAP_CAP_PIN),
	   "%s: root sees where its memory lies", heap->name);
	child = fork();
	if (child == 0)
		stranger(heap, given, hidden);
	munmap(memory, SIZE);
	ok(end_of(child) == 0, "%s: a stranger gets nothing that was not given",
	   heap->name);
	close(given);
	close(hidden);
	gives_back(heap);
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

int main(void)
{
	for_each_heap(test);
	return done_testing();
}
