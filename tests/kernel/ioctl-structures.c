// SPDX-License-Identifier: GPL-2.0-only
/*
 * What holds for every ioctl alike: structures may be longer than the kernel knows, if what is
 * behind is zero; never shorter than they were first; memory that cannot be read or written
 * ends in EFAULT and has no effect; an ioctl of another node is none.
 */
#include "zc.h"

static int buffer; /* what VIEW, SYNC and INFO are asked about */

static void set_alloc(void *arg)
{
	*(struct zcbuf_ioc_alloc *)arg =
		(struct zcbuf_ioc_alloc){ .size = PAGE, .fd_flags = O_RDWR };
}

static int alloc_gave(const void *arg)
{
	return ((const struct zcbuf_ioc_alloc *)arg)->fd;
}

static void set_heaps(void *arg)
{
	*(struct zcbuf_ioc_heap *)arg = (struct zcbuf_ioc_heap){ .index = 0 };
}

static void set_view(void *arg)
{
	*(struct zcbuf_ioc_view *)arg = (struct zcbuf_ioc_view){ .fd = buffer };
}

static int view_gave(const void *arg)
{
	return ((const struct zcbuf_ioc_view *)arg)->view_fd;
}

static void set_sync(void *arg)
{
	*(struct zcbuf_ioc_sync *)arg = (struct zcbuf_ioc_sync){ .fd = buffer,
								 .length = PAGE,
								 .flags = ZCBUF_SYNC_READ };
}

static void set_info(void *arg)
{
	*(struct zcbuf_ioc_info *)arg = (struct zcbuf_ioc_info){ .fd = buffer };
}

static const struct verb {
	const char *name;
	unsigned long cmd;
	bool on_heap, writes;
	void (*set)(void *arg);
	int (*gave)(const void *arg);
} verbs[] = {
	{ "ALLOC", ZCBUF_IOC_ALLOC, true, true, set_alloc, alloc_gave },
	{ "HEAPS", ZCBUF_IOC_HEAPS, false, true, set_heaps, NULL },
	{ "VIEW", ZCBUF_IOC_VIEW, false, true, set_view, view_gave },
	{ "SYNC", ZCBUF_IOC_SYNC, false, false, set_sync, NULL },
	{ "INFO", ZCBUF_IOC_INFO, false, true, set_info, NULL },
};

static unsigned long resized(unsigned long cmd, size_t size)
{
	return _IOC(_IOC_DIR(cmd), _IOC_TYPE(cmd), _IOC_NR(cmd), size);
}

/* Closes what a successful call made. */
static bool works(int node, const struct verb *verb, unsigned long cmd, void *arg)
{
	if (ioctl(node, cmd, arg))
		return false;
	return !verb->gave || close(verb->gave(arg)) == 0;
}

static void sizes(const struct heap *heap, int node, const struct verb *verb, char *arg)
{
	size_t size = _IOC_SIZE(verb->cmd);

	verb->set(arg);
	ok(works(node, verb, verb->cmd, arg), "%s: %s works", heap->name, verb->name);

	for (size_t less = 0; less < size; less += less + 8 < size ? 8 : 7) {
		verb->set(arg);
		if (!(ioctl(node, resized(verb->cmd, less), arg) == -1 &&
		      errno == EINVAL)) {
			ok(false, "%s: %s refuses a structure of %zu bytes", heap->name,
			   verb->name, less);
			return;
		}
	}
	ok(true, "%s: %s refuses each shorter structure", heap->name, verb->name);

	static const size_t longer[] = { 1, 8, 64 };

	for (size_t i = 0; i < sizeof(longer) / sizeof(*longer); i++) {
		size_t more = size + longer[i];

		memset(arg, 0, PAGE);
		verb->set(arg);
		ok(works(node, verb, resized(verb->cmd, more), arg) && arg[more - 1] == 0,
		   "%s: %s takes %zu more bytes that are zero", heap->name, verb->name,
		   longer[i]);

		verb->set(arg);
		arg[more - 1] = 1;
		is_errno(ioctl(node, resized(verb->cmd, more), arg), E2BIG,
			 "%s: %s refuses %zu more bytes, the last not zero", heap->name,
			 verb->name, longer[i]);
		ok(arg[more - 1] == 1, "%s: %s does not write to them", heap->name,
		   verb->name);
	}
	memset(arg, 0, PAGE);
	verb->set(arg);
	ok(works(node, verb, resized(verb->cmd, PAGE), arg), "%s: %s takes a whole page",
	   heap->name, verb->name);
	verb->set(arg);
	arg[PAGE - 1] = 1;
	is_errno(ioctl(node, resized(verb->cmd, PAGE), arg), E2BIG,
		 "%s: %s refuses a whole page, the last byte not zero", heap->name,
		 verb->name);
}

/* PAGES: one that can be read and written, then one that cannot. */
static void addresses(const struct heap *heap, int node, const struct verb *verb,
		      char *pages)
{
	size_t size = _IOC_SIZE(verb->cmd);
	struct held before = held(heap);

	is_errno(ioctl(node, verb->cmd, NULL), EFAULT, "%s: %s of NULL", heap->name,
		 verb->name);
	is_errno(ioctl(node, verb->cmd, pages + PAGE), EFAULT, "%s: %s of unmapped memory",
		 heap->name, verb->name);
	is_errno(ioctl(node, verb->cmd, (void *)0xffff888000000000), EFAULT,
		 "%s: %s of the kernel's memory", heap->name, verb->name);
	is_errno(ioctl(node, verb->cmd, pages + PAGE - size / 2), EFAULT,
		 "%s: %s of half unmapped memory", heap->name, verb->name);

	verb->set(pages);
	mprotect(pages, PAGE, PROT_READ);
	if (verb->writes)
		is_errno(ioctl(node, verb->cmd, pages), EFAULT,
			 "%s: %s of read-only memory", heap->name, verb->name);
	else
		ok(ioctl(node, verb->cmd, pages) == 0,
		   "%s: %s has nothing to write, read-only memory will do", heap->name,
		   verb->name);
	mprotect(pages, PAGE, PROT_READ | PROT_WRITE);
	ok(held_as(heap, before), "%s: %s has left nothing behind", heap->name, verb->name);
}

static void test(const struct heap *heap)
{
	char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	mprotect(pages + PAGE, PAGE, PROT_NONE);
	buffer = must_alloc(heap, PAGE);
	for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++) {
		const struct verb *verb = &verbs[i];
		int node = verb->on_heap ? heap->fd : control();
		int other = verb->on_heap ? control() : heap->fd;

		sizes(heap, node, verb, pages);
		addresses(heap, node, verb, pages);
		verb->set(pages);
		is_errno(ioctl(other, verb->cmd, pages), ENOTTY,
			 "%s: the other node has no %s", heap->name, verb->name);
		is_errno(ioctl(buffer, verb->cmd, pages), ENOTTY, "%s: a dma-buf has no %s",
			 heap->name, verb->name);
	}
	close(buffer);
	munmap(pages, 2 * PAGE);

	struct dma_heap_allocation_data data = { .len = PAGE, .fd_flags = O_RDWR };

	is_errno(ioctl(control(), DMA_HEAP_IOCTL_ALLOC, &data), ENOTTY,
		 "%s: the control node does not allocate", heap->name);
	is_errno(ioctl(heap->fd, _IOWR(ZCBUF_IOC_MAGIC, 0x7f, data), &data), ENOTTY,
		 "%s: a heap node knows no other ioctl", heap->name);
	is_errno(ioctl(control(), _IOWR(ZCBUF_IOC_MAGIC, 0x7f, data), &data), ENOTTY,
		 "%s: the control node knows no other ioctl", heap->name);
	is_errno(ioctl(heap->fd,
		       _IOWR('z', _IOC_NR(ZCBUF_IOC_ALLOC), struct zcbuf_ioc_alloc), &data),
		 ENOTTY, "%s: a heap node knows no other magic", heap->name);
}

int main(void)
{
	for_each_heap(test);
	return done_testing();
}
