/* SPDX-License-Identifier: GPL-2.0-only */
/* Loading and unloading zcbuf, with parameters of the test's own. */
#ifndef MODULE_H
#define MODULE_H

#include <sys/syscall.h>

#include "zc.h"

static inline bool loaded(void)
{
	return access("/sys/module/zcbuf/refcnt", F_OK) == 0;
}

static inline int unload(void)
{
	close(control_fd);
	control_fd = -1;
	return syscall(SYS_delete_module, "zcbuf", O_NONBLOCK);
}

/* As insmod would, from where modprobe finds it. */
static inline int load(const char *parameters)
{
	static char file[PATH_MAX];
	FILE *modinfo;
	int fd, error;

	if (!*file) {
		modinfo = popen("modinfo -F filename zcbuf", "re");
		if (!modinfo || !fgets(file, sizeof(file), modinfo))
			bail("modinfo knows no zcbuf");
		pclose(modinfo);
		file[strcspn(file, "\n")] = 0;
	}
	fd = open(file, O_RDONLY | O_CLOEXEC);
	error = syscall(SYS_finit_module, fd, parameters, 0);
	close(fd);
	return error;
}

#endif /* MODULE_H */
