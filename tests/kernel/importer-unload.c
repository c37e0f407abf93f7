// SPDX-License-Identifier: GPL-2.0-only
/* The module stays as long as a device is attached, though no process has anything of it. */
#include <sys/syscall.h>

#include "importer.h"

static int unload(const char *module)
{
	return syscall(SYS_delete_module, module, O_NONBLOCK);
}

/* A device that is attached to a buffer of heap number INDEX, all fds of which are closed. */
static int attached_to(unsigned int index)
{
	struct heap heap = { .is.index = index };
	int ctl = open("/dev/zcbuf", O_RDWR | O_CLOEXEC), dev = -1, fd;

	if (ctl < 0)
		bail("/dev/zcbuf: %s", strerror(errno));
	if (ioctl(ctl, ZCBUF_IOC_HEAPS, &heap.is) == 0) {
		heap.name = heap.is.name;
		heap.fd = heap_open(&heap, O_RDWR);
		fd = must_alloc(&heap, PAGE);
		dev = device();
		if (attach(dev, &heap, fd, 64, 0))
			bail("%s: attach: %s", heap.name, strerror(errno));
		diag("%s", heap.name);
		close(fd);
		close(heap.fd);
	}
	close(ctl);
	return dev;
}

int main(void)
{
	int dev, tries = 0;

	for (unsigned int index = 0; (dev = attached_to(index)) >= 0; index++) {
		pause_ms(50); /* closed files are put a little later */
		ok(unload("zcbuf") < 0 && (errno == EBUSY || errno == EWOULDBLOCK),
		   "the module stays while a device is attached");
		if (!bounces_all()) /* where some heaps cannot be mapped */
			ok(map_device(dev, TO_DEVICE) == 0, "and the device maps");
		ok(unload("zcbuf") < 0 && (errno == EBUSY || errno == EWOULDBLOCK),
		   "the module stays while a device has a mapping");
		close(dev);
	}
	ok(unload("zcbuf_importer") == 0, "the importer goes when no device is left");
	while (unload("zcbuf") && tries++ < 100)
		pause_ms(20);
	ok(access("/sys/module/zcbuf", F_OK) < 0, "and the module when none is attached");
	ok(system("modprobe zcbuf") == 0 && access("/dev/zcbuf", F_OK) == 0,
	   "and can come back");
	return done_testing();
}
