// SPDX-License-Identifier: LGPL-2.1-or-later
/* Memory that processes can share and devices cannot: the last resort. */
#include <fcntl.h>
#include <sys/mman.h>

#include "private.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

int memfd_new(const char *name, size_t size)
{
	unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	_cleanup_(close_p) int fd = -1;
	size_t page = page_size();

	if (size > (size_t)INT64_MAX - page)
		return -ENOMEM;
	fd = memfd_create(name ? name : "", flags | MFD_NOEXEC_SEAL);
	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		fd = memfd_create(name ? name : "", flags);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)((size + page - 1) & ~(page - 1))))
		return errno == EFBIG || errno == EINVAL ? -ENOMEM : -errno;
	/*
	 * A memfd that shrinks takes its mappings' pages away, and a receiver that added
	 * F_SEAL_WRITE would lock out everybody else: nothing can be sealed after this.
	 */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return -errno;
	return take_fd(&fd);
}

/*
 * Without this the memory would be found missing only when it is touched, by SIGBUS. In
 * steps, because a signal undoes the step that it interrupts.
 */
static int populate(int fd)
{
	off_t step = 8 << 20, size = lseek(fd, 0, SEEK_END);

	for (off_t offset = 0; offset < size;) {
		off_t length = size - offset < step ? size - offset : step;

		if (!fallocate(fd, 0, offset, length))
			offset += length;
		else if (errno != EINTR)
			return errno == ENOSPC ? -ENOMEM : -errno;
	}
	return 0;
}

static int memfd_list(struct zcbuf_ctx *ctx, struct heap_list *list)
{
	struct zcbuf_heap_info info = {
		.backend = ZCBUF_BACKEND_MEMFD,
		.kind = ZCBUF_HEAP_SYSTEM,
		.cache_mode = ZCBUF_CACHED,
		.capabilities = ZCBUF_HEAP_CAP_CHARGED | ZCBUF_HEAP_CAP_PIN,
		.max_alignment = page_size(),
		.name = "memfd",
	};

	(void)ctx;
	return heap_list_add(list, &info);
}

static int memfd_alloc(int node, size_t size, const struct zcbuf_alloc_options *options)
{
	_cleanup_(close_p) int fd = memfd_new(options->name, size);
	int r;

	(void)node;
	if (fd < 0)
		return fd;
	r = populate(fd);
	return r < 0 ? r : take_fd(&fd);
}

const struct backend backend_memfd = {
	.id = ZCBUF_BACKEND_MEMFD,
	.name = "memfd",
	.list = memfd_list,
	.alloc = memfd_alloc,
};
