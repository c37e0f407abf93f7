/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vgem: a GPU without hardware. It imports dma-bufs, exports its own, and has fences. */
#ifndef VGEM_H
#define VGEM_H

#include <drm/drm.h>
#include <drm/drm_mode.h>
#include <drm/vgem_drm.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* The card node of the DRM driver called NAME, or -1. */
static inline int drm_open(const char *name)
{
	for (int i = 0; i < 16; i++) {
		char path[32], driver[32] = "";
		struct drm_version version = { .name = driver,
					       .name_len = sizeof(driver) - 1 };
		int fd;

		snprintf(path, sizeof(path), "/dev/dri/card%d", i);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && ioctl(fd, DRM_IOCTL_VERSION, &version) == 0 &&
		    !strcmp(driver, name))
			return fd;
		if (fd >= 0)
			close(fd);
	}
	errno = ENODEV;
	return -1;
}

static inline int vgem_open(void)
{
	return drm_open("vgem");
}

/* FD as a handle of the card, or 0. */
static inline uint32_t drm_import(int card, int fd)
{
	struct drm_prime_handle prime = { .fd = fd };

	return ioctl(card, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime) ? 0 : prime.handle;
}

static inline int drm_export(int card, uint32_t handle, uint32_t flags)
{
	struct drm_prime_handle prime = { .handle = handle, .flags = flags };

	return ioctl(card, DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime) ? -1 : prime.fd;
}

static inline void drm_forget(int card, uint32_t handle)
{
	struct drm_gem_close gem = { .handle = handle };

	ioctl(card, DRM_IOCTL_GEM_CLOSE, &gem);
}

/* A dma-buf that is not ours, or -1. */
static inline int drm_foreign(int card)
{
	struct drm_mode_create_dumb dumb = { .width = 64, .height = 64, .bpp = 32 };
	int fd;

	if (ioctl(card, DRM_IOCTL_MODE_CREATE_DUMB, &dumb))
		return -1;
	fd = drm_export(card, dumb.handle, O_CLOEXEC | O_RDWR);
	drm_forget(card, dumb.handle);
	return fd;
}

/* A device begins to work on the buffer: to read it, or to write it. The fence, or 0. */
static inline uint32_t vgem_begin(int vgem, uint32_t handle, bool write)
{
	struct drm_vgem_fence_attach attach = {
		.handle = handle,
		.flags = write ? VGEM_FENCE_WRITE : 0,
	};

	return ioctl(vgem, DRM_IOCTL_VGEM_FENCE_ATTACH, &attach) ? 0 : attach.out_fence;
}

/* It has done its work. */
static inline bool vgem_end(int vgem, uint32_t fence)
{
	struct drm_vgem_fence_signal signal = { .fence = fence };

	return ioctl(vgem, DRM_IOCTL_VGEM_FENCE_SIGNAL, &signal) == 0;
}

/* A sync_file of work on a buffer of vgem's own, which vgem_end() ends by FENCE; or -1. */
static inline int vgem_work(int vgem, uint32_t *fence)
{
	struct dma_buf_export_sync_file export = { .flags = DMA_BUF_SYNC_READ, .fd = -1 };
	int fd = drm_foreign(vgem);
	uint32_t handle = fd < 0 ? 0 : drm_import(vgem, fd);

	*fence = handle ? vgem_begin(vgem, handle, true) : 0;
	if (*fence && ioctl(fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &export))
		export.fd = -1;
	if (handle)
		drm_forget(vgem, handle);
	if (fd >= 0)
		close(fd);
	return export.fd;
}

#endif /* VGEM_H */
