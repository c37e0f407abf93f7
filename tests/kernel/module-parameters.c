// SPDX-License-Identifier: GPL-2.0-only
/*
 * The parameters of the module: which heaps, and which carveouts. What cannot be had is
 * refused with its reason in the kernel's log, and leaves nothing behind.
 *
 * The machine has QEMU's ivshmem at 0000:00:10.0, whose BAR 2 is memory and whose BAR 0 is a
 * page's part of registers; and RAM reserved from 0x60000000 to 0x61000000, which a device
 * tree, where there is one, describes as two carveouts.
 */
#include "module.h"

#ifdef __x86_64__
#define EVERY_HEAP 5
#else
#define EVERY_HEAP 4 /* pages that are write-combined in the kernel's mapping, too, has x86 only */
#endif

static int log_fd, from_tree;

/* What the kernel has said since it was last asked. */
static const char *said(void)
{
	static char text[65536];
	size_t length = 0;
	ssize_t n;

	while (length < sizeof(text) - 8192 &&
	       ((n = read(log_fd, text + length, 8191)) > 0 || errno == EPIPE))
		length += n > 0 ? n : 0;
	text[length] = 0;
	return text;
}

/* Does a line of /proc/iomem or a node still speak of a heap? */
static bool nothing_left(void)
{
	static char regions[65536];
	struct dirent *entry;
	bool left = false;
	DIR *dir;

	read_file("/proc/iomem", regions, sizeof(regions));
	left = strstr(regions, "zcbuf") || access("/dev/zcbuf", F_OK) == 0;
	dir = opendir("/dev/dma_heap");
	while (dir && (entry = readdir(dir)))
		left = left || !strncmp(entry->d_name, "zcbuf", 5);
	if (dir)
		closedir(dir);
	return !left;
}

static void refused(const char *parameters, int error, const char *reason)
{
	const char *text;

	said();
	is_errno(load(parameters), error, "%.60s is refused", parameters);
	text = said();
	ok(strstr(text, reason), "and the log says: %s", reason);
	if (!strstr(text, reason))
		diag("it says: %.500s", text);
	ok(!loaded() && nothing_left(), "and nothing is left of it");
	if (loaded())
		unload();
}

static bool has(const char *name)
{
	struct zcbuf_ioc_heap arg = { .index = 0 };

	for (; ioctl(control(), ZCBUF_IOC_HEAPS, &arg) == 0; arg.index++)
		if (!strcmp(arg.name, name))
			return true;
	return false;
}

static int heaps(void)
{
	struct zcbuf_ioc_heap arg = { .index = 0 };
	int count = 0;

	while (ioctl(control(), ZCBUF_IOC_HEAPS, &arg) == 0)
		arg = (struct zcbuf_ioc_heap){ .index = ++count };
	return count;
}

static void chosen(void)
{
	ok(load("") == 0 && heaps() == EVERY_HEAP + from_tree,
	   "without parameters it offers every heap");
	ok(unload() == 0 && load("heaps=contig,system") == 0 && heaps() == 2 + from_tree &&
		   has("zcbuf-system") && has("zcbuf-contig"),
	   "it offers the heaps that are chosen, and no other");
	ok(unload() == 0 && load("heaps=vmalloc carveout=a:2@0000:00:10.0") == 0 &&
		   heaps() == 2 + from_tree && has("zcbuf-vmalloc") &&
		   has("zcbuf-carveout-a"),
	   "and carveouts beside them");
	unload();
	refused("heaps=system,sistem", EINVAL,
		"heaps=sistem: no such heap; there are system,");
	refused("heaps=", EINVAL, "heaps=: no such heap");
}

static void syntax(void)
{
	static const char *const wrong[] = {
		"",
		"a",
		"a:1M",
		"a:1M@",
		"a:@0x60000000",
		"a:1M@0x60000000:wx",
		"a:1M@0x60000000x",
		"a:1Q@0x60000000",
		"a:0@0x60000000",
		"a:-4096@0x60000000",
		"a:1M@-4096",
		"a:x@0000:00:10.0",
		"a:2@0000:00:10.0:",
		"a:2@0000:00:10.0:wc:wc",
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		char parameters[128], reason[128];

		snprintf(parameters, sizeof(parameters), "carveout=%s", wrong[i]);
		snprintf(reason, sizeof(reason), "carveout '%s' is not NAME:SIZE@ADDRESS",
			 wrong[i]);
		refused(parameters, EINVAL, reason);
	}
	refused("carveout=:2@0000:00:10.0", EINVAL, "carveout name '' is empty");
	refused("carveout=a/b:2@0000:00:10.0", EINVAL, "carveout name 'a/b' is");
	refused("carveout=a_name_that_is_longer_than_a_heap_can_have:2@0000:00:10.0",
		EINVAL, "too long");
}

static void regions(void)
{
	static const char in_use[] = "are not reserved: boot with memmap=";

	refused("carveout=a:1M@0x10000000", EINVAL, in_use);
	refused("carveout=a:1M@0x5ff80000", EINVAL, in_use);
	refused("carveout=a:1M@0x60f80000", EINVAL, in_use);
	refused("carveout=a:32M@0x5f800000", EINVAL, in_use);
	refused("carveout=a:1M@0x7000000000", EINVAL, in_use);
	if (from_tree) {
		skip("no memory is reserved but by the device tree");
		return;
	}
	refused("carveout=a:4097@0x60000000", EINVAL, "are not whole pages");
	refused("carveout=a:4K@0x60000800", EINVAL, "are not whole pages");
	refused("carveout=a:1M@0x60000000,b:1M@0x600ff000", EBUSY,
		"carveout b: somebody else uses it");
	refused("carveout=a:1M@0x60000000,a:1M@0x60100000", EBUSY,
		"carveout a: there is one already");
}

static void bars(void)
{
	refused("carveout=a:2@0000:00:1e.7", ENODEV, "no PCI device 0000:00:1e.7");
	refused("carveout=a:1@0000:00:10.0", EINVAL, "BAR 1 of 0000:00:10.0 is not memory");
	refused("carveout=a:6@0000:00:10.0", EINVAL, "BAR 6 of 0000:00:10.0 is not memory");
	refused("carveout=a:0@0000:00:10.0", EINVAL, "are not whole pages");
	refused("carveout=a:0@0000:00:01.0", EBUSY, "somebody else uses it");
	refused("carveout=a:2@0000:00:10.0,b:2@0000:00:10.0", EBUSY,
		"carveout b: somebody else uses it");
}

/* Who opens a node while the module loads would be left with nothing when that fails. */
static void nobody_gets_in(void)
{
	int loads = 0, status;
	pid_t child = fork();

	if (child == 0) {
		for (;;)
			if (open("/dev/dma_heap/zcbuf-system", O_RDWR | O_CLOEXEC) >= 0 ||
			    open("/dev/zcbuf", O_RDWR | O_CLOEXEC) >= 0)
				_exit(1);
	}
	for (int i = 0; i < 200; i++)
		loads += load("carveout=a:2@0000:00:10.0,b:1M@0x10000000") == 0;
	ok(!loads && waitpid(child, &status, WNOHANG) == 0,
	   "no node can be opened before it is certain that the module loads");
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
}

static void load_again(void)
{
	if (loaded())
		unload();
	if (system("modprobe zcbuf"))
		diag("zcbuf does not load any more");
}

int main(void)
{
	log_fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	/* from here on: what it has said already may be more than said() takes */
	if (log_fd < 0 || lseek(log_fd, 0, SEEK_END) < 0 || unload())
		bail("/dev/kmsg or the module: %s", strerror(errno));
	atexit(load_again);
	if (access("/proc/device-tree/reserved-memory", F_OK) == 0)
		from_tree = 2;
	chosen();
	syntax();
	regions();
	bars();
	nobody_gets_in();
	ok(load(from_tree
			? "carveout=c:2@0000:00:10.0"
			: "carveout=a:8M@0x60000000,b:8M@0x60800000,c:2@0000:00:10.0") == 0,
	   "all of it can be had afterwards");
	ok(heaps() == EVERY_HEAP + 3, "as heaps");
	return done_testing();
}
