// SPDX-License-Identifier: LGPL-2.1-or-later
/* Buffers: memory with a file descriptor and, once asked for, a mapping. */
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "private.h"

#define HUGE_PAGE ((size_t)2 << 20)

struct zcbuf_buffer {
	atomic_uint refs;
	struct zcbuf_ctx *ctx;
	int fd;
	enum zcbuf_backend backend;
	int protection; /* the widest that a mapping may have */
	size_t size;
	uint64_t inode;
	char heap[ZCBUF_NAME_LEN];
	pthread_mutex_t lock; /* of @data */
	void *data;	      /* the mapping, or NULL */
};

/* ---- birth and end ------------------------------------------------------------------- */

static int widest_protection(int fd)
{
	int mode = fcntl(fd, F_GETFL), seals = fcntl(fd, F_GET_SEALS);

	if (mode < 0)
		return -errno;
	if ((mode & O_ACCMODE) == O_WRONLY)
		return PROT_NONE; /* mmap() always reads */
	if ((mode & O_ACCMODE) == O_RDONLY)
		return PROT_READ;
	if (seals >= 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
		return PROT_READ;
	return PROT_READ | PROT_WRITE;
}

int buffer_new(struct zcbuf_ctx *ctx, int fd, enum zcbuf_backend backend, const char *heap,
	       struct zcbuf_buffer **result)
{
	size_t page = page_size();
	struct zcbuf_buffer *buffer;
	struct stat st;
	int protection = widest_protection(fd);

	if (protection < 0)
		return protection;
	if (fstat(fd, &st))
		return -errno;
	if (st.st_size <= 0 || (uint64_t)st.st_size > SIZE_MAX - page)
		return -EINVAL;
	buffer = malloc(sizeof(*buffer));
	if (!buffer)
		return -ENOMEM;
	*buffer = (struct zcbuf_buffer){
		.refs = 1,
		.ctx = zcbuf_ctx_ref(ctx),
		.fd = fd,
		.backend = backend,
		.protection = protection,
		.size = ((size_t)st.st_size + page - 1) & ~(page - 1),
		.inode = st.st_ino,
		.lock = PTHREAD_MUTEX_INITIALIZER,
	};
	strncpy(buffer->heap, heap, sizeof(buffer->heap) - 1);
	*result = buffer;
	return 0;
}

static bool is_dmabuf(int fd)
{
	struct statfs fs;

	return !fstatfs(fd, &fs) && fs.f_type == DMA_BUF_MAGIC;
}

/* Only a memfd can have this seal, and only with it a mapping can never end in SIGBUS. */
static bool is_fixed_memfd(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & F_SEAL_SHRINK);
}

static int ask_module(struct zcbuf_ctx *ctx, int fd, struct zcbuf_ioc_info *info)
{
	int control = ctx_control(ctx);

	if (control < 0)
		return control;
	*info = (struct zcbuf_ioc_info){ .fd = fd };
	return ioctl_errno(control, ZCBUF_IOC_INFO, info);
}

int buffer_adopt(struct zcbuf_ctx *ctx, int fd, struct zcbuf_buffer **buffer)
{
	struct zcbuf_ioc_info info;

	if (is_fixed_memfd(fd))
		return buffer_new(ctx, fd, ZCBUF_BACKEND_MEMFD, "memfd", buffer);
	if (!is_dmabuf(fd))
		return -EINVAL;
	if (ask_module(ctx, fd, &info) < 0)
		return buffer_new(ctx, fd, ZCBUF_BACKEND_FOREIGN, "", buffer);
	return buffer_new(ctx, fd, ZCBUF_BACKEND_ZCBUF, info.heap, buffer);
}

int zcbuf_buffer_import(struct zcbuf_ctx *ctx, int fd, struct zcbuf_buffer **buffer)
{
	_cleanup_(close_p) int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	int r;

	if (own < 0)
		return ctx_fail(ctx, -errno, "fd %d: cannot be imported: %m", fd);
	r = buffer_adopt(ctx, own, buffer);
	if (r == -EINVAL)
		return ctx_fail(
			ctx, r,
			"fd %d: neither a dma-buf nor a memfd that cannot shrink (a "
			"memfd needs F_SEAL_SHRINK)",
			fd);
	if (r < 0)
		return r;
	take_fd(&own);
	return 0;
}

struct zcbuf_buffer *zcbuf_buffer_ref(struct zcbuf_buffer *buffer)
{
	atomic_fetch_add(&buffer->refs, 1);
	return buffer;
}

struct zcbuf_buffer *zcbuf_buffer_unref(struct zcbuf_buffer *buffer)
{
	if (!buffer || atomic_fetch_sub(&buffer->refs, 1) != 1)
		return NULL;
	if (buffer->data)
		munmap(buffer->data, buffer->size);
	close(buffer->fd);
	pthread_mutex_destroy(&buffer->lock);
	zcbuf_ctx_unref(buffer->ctx);
	free(buffer);
	return NULL;
}

int zcbuf_buffer_fd(const struct zcbuf_buffer *buffer)
{
	return buffer->fd;
}

size_t zcbuf_buffer_size(const struct zcbuf_buffer *buffer)
{
	return buffer->size;
}

/* ---- mapping ------------------------------------------------------------------------- */

/*
 * The kernel maps 2 MiB at once only where the address is a multiple of that, and leaves
 * the choice of the address to user space: reserve enough, and keep the aligned part.
 */
static void *map_aligned(int fd, size_t size, int protection)
{
	size_t slack = size >= HUGE_PAGE ? HUGE_PAGE : 0, before;
	char *reserved, *data;

	if (!slack)
		return mmap(NULL, size, protection, MAP_SHARED, fd, 0);
	reserved = mmap(NULL, size + slack, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (reserved == MAP_FAILED)
		return MAP_FAILED;
	before = -(uintptr_t)reserved & (HUGE_PAGE - 1);
	data = mmap(reserved + before, size, protection, MAP_SHARED | MAP_FIXED, fd, 0);
	if (data == MAP_FAILED) {
		int error = errno;

		munmap(reserved, size + slack);
		errno = error;
		return MAP_FAILED;
	}
	if (before)
		munmap(reserved, before);
	if (before < slack)
		munmap(data + size, slack - before);
	return data;
}

static bool access_is_valid(uint64_t access)
{
	return access && !(access & ~(ZCBUF_SYNC_READ | ZCBUF_SYNC_WRITE));
}

int zcbuf_buffer_map(struct zcbuf_buffer *buffer, uint64_t access, void **result)
{
	void *data;

	if (!access_is_valid(access))
		return ctx_fail(buffer->ctx, -EINVAL,
				"map: access 0x%llx: not read, write or both",
				(unsigned long long)access);
	if (!buffer->protection ||
	    ((access & ZCBUF_SYNC_WRITE) && !(buffer->protection & PROT_WRITE)))
		return ctx_fail(buffer->ctx, -EACCES, "map: buffer %llu is %s-only",
				(unsigned long long)buffer->inode,
				buffer->protection ? "read" : "write");
	pthread_mutex_lock(&buffer->lock);
	if (!buffer->data) {
		data = map_aligned(buffer->fd, buffer->size, buffer->protection);
		if (data == MAP_FAILED) {
			int error = -errno;

			pthread_mutex_unlock(&buffer->lock);
			return ctx_fail(buffer->ctx, error,
					"map: buffer %llu of %zu bytes: %s",
					(unsigned long long)buffer->inode, buffer->size,
					strerror(-error));
		}
		buffer->data = data;
	}
	*result = buffer->data;
	pthread_mutex_unlock(&buffer->lock);
	return 0;
}

/* ---- CPU access sessions ------------------------------------------------------------- */

static int ioctl_restarted(int fd, unsigned long request, void *argument)
{
	int r;

	do
		r = ioctl_errno(fd, request, argument);
	while (r == -EINTR || r == -EAGAIN);
	return r;
}

static int sync_all(struct zcbuf_buffer *buffer, uint64_t access, uint64_t edge)
{
	struct dma_buf_sync sync = { .flags = access | edge };
	int r;

	if (!access_is_valid(access))
		return ctx_fail(buffer->ctx, -EINVAL,
				"session: access 0x%llx: not read, write or both",
				(unsigned long long)access);
	if (buffer->backend == ZCBUF_BACKEND_MEMFD)
		return 0; /* no device can reach it */
	r = ioctl_restarted(buffer->fd, DMA_BUF_IOCTL_SYNC, &sync);
	if (r < 0)
		return ctx_fail(buffer->ctx, r, "session: buffer %llu: %s",
				(unsigned long long)buffer->inode, strerror(-r));
	return 0;
}

static int sync_range(struct zcbuf_buffer *buffer, uint64_t access, uint64_t edge,
		      size_t offset, size_t length)
{
	struct zcbuf_ioc_sync sync = {
		.offset = offset,
		.length = length,
		.flags = access | edge,
		.fd = buffer->fd,
	};
	int control, r;

	if (!length || offset > buffer->size || length > buffer->size - offset)
		return ctx_fail(buffer->ctx, -EINVAL,
				"session: %zu bytes at %zu: not in the buffer's %zu",
				length, offset, buffer->size);
	if (buffer->backend != ZCBUF_BACKEND_ZCBUF || !access_is_valid(access))
		return sync_all(buffer, access, edge);
	control = ctx_control(buffer->ctx);
	r = control < 0 ? control : ioctl_restarted(control, ZCBUF_IOC_SYNC, &sync);
	if (r < 0)
		return ctx_fail(buffer->ctx, r,
				"session: %zu bytes at %zu of buffer %llu: %s", length,
				offset, (unsigned long long)buffer->inode, strerror(-r));
	return 0;
}

int zcbuf_buffer_begin(struct zcbuf_buffer *buffer, uint64_t access)
{
	return sync_all(buffer, access, DMA_BUF_SYNC_START);
}

int zcbuf_buffer_end(struct zcbuf_buffer *buffer, uint64_t access)
{
	return sync_all(buffer, access, DMA_BUF_SYNC_END);
}

int zcbuf_buffer_begin_range(struct zcbuf_buffer *buffer, uint64_t access, size_t offset,
			     size_t length)
{
	return sync_range(buffer, access, ZCBUF_SYNC_START, offset, length);
}

int zcbuf_buffer_end_range(struct zcbuf_buffer *buffer, uint64_t access, size_t offset,
			   size_t length)
{
	return sync_range(buffer, access, ZCBUF_SYNC_END, offset, length);
}

/* ---- views --------------------------------------------------------------------------- */

int zcbuf_buffer_view(struct zcbuf_buffer *buffer, size_t offset, size_t length,
		      uint64_t flags, struct zcbuf_buffer **result)
{
	struct zcbuf_ioc_view view = {
		.offset = offset,
		.length = length,
		.flags = flags,
		.fd = buffer->fd,
		.fd_flags = O_CLOEXEC,
	};
	int control, r;

	if (buffer->backend != ZCBUF_BACKEND_ZCBUF)
		return ctx_fail(buffer->ctx, -EOPNOTSUPP,
				"view: buffer %llu: a %s buffer has none (allocate from a "
				"zcbuf heap)",
				(unsigned long long)buffer->inode,
				zcbuf_backend_name(buffer->backend));
	control = ctx_control(buffer->ctx);
	r = control < 0 ? control : ioctl_errno(control, ZCBUF_IOC_VIEW, &view);
	if (!r) {
		r = buffer_new(buffer->ctx, view.view_fd, ZCBUF_BACKEND_ZCBUF, buffer->heap,
			       result);
		if (r < 0)
			close(view.view_fd);
	}
	if (r < 0)
		return ctx_fail(buffer->ctx, r,
				"view: %zu bytes at %zu of buffer %llu, flags 0x%llx: %s",
				length, offset, (unsigned long long)buffer->inode,
				(unsigned long long)flags, strerror(-r));
	return 0;
}

/* ---- description --------------------------------------------------------------------- */

/* From /proc/self/fd: "/dmabuf:NAME" or "/memfd:NAME (deleted)". */
static void read_name(int fd, char name[ZCBUF_NAME_LEN])
{
	static const char deleted[] = " (deleted)";
	char path[32], link[320], *colon;
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	length = readlink(path, link, sizeof(link) - 1);
	if (length < 0)
		return;
	link[length] = '\0';
	if (length >= (ssize_t)strlen(deleted) &&
	    !strcmp(link + length - strlen(deleted), deleted))
		link[(size_t)length - strlen(deleted)] = '\0';
	colon = strchr(link, ':');
	if (colon)
		snprintf(name, ZCBUF_NAME_LEN, "%.*s", ZCBUF_NAME_LEN - 1, colon + 1);
}

int zcbuf_buffer_get_info(struct zcbuf_buffer *buffer, struct zcbuf_buffer_info *result)
{
	struct zcbuf_ioc_info from_module;
	struct zcbuf_buffer_info info = {
		.backend = buffer->backend,
		.read_only = !(buffer->protection & PROT_WRITE),
		.size = buffer->size,
		.inode = buffer->inode,
	};
	int r;

	memcpy(info.heap, buffer->heap, sizeof(info.heap));
	if (buffer->backend != ZCBUF_BACKEND_ZCBUF) {
		read_name(buffer->fd, info.name);
		*result = info;
		return 0;
	}
	r = ask_module(buffer->ctx, buffer->fd, &from_module);
	if (r < 0)
		return ctx_fail(buffer->ctx, r, "info: buffer %llu: %s",
				(unsigned long long)buffer->inode, strerror(-r));
	info.buffer_id = from_module.buffer_id;
	info.offset = from_module.offset;
	info.buffer_size = from_module.buffer_size;
	info.alloc_flags = from_module.alloc_flags;
	info.view_flags = from_module.view_flags;
	info.alignment = from_module.alignment;
	info.views = from_module.views;
	info.attachments = from_module.attachments;
	info.user_mappings = from_module.user_mappings;
	info.chunks = from_module.chunks;
	info.max_chunk = from_module.max_chunk;
	info.min_chunk = from_module.min_chunk;
	memcpy(info.name, from_module.name, sizeof(info.name));
	*result = info;
	return 0;
}
