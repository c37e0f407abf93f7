/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory cgroups, for tests of what is charged to whom. cgroups_begin() comes first. */
#ifndef CGROUP_H
#define CGROUP_H

#include "zc.h"

#define ROOT "/sys/fs/cgroup"

static char own_cgroup[PATH_MAX]; /* where this process came from */

static inline const char *in(const char *cgroup, const char *file)
{
	static char path[2 * PATH_MAX];

	snprintf(path, sizeof(path), ROOT "/%s/%s", cgroup, file);
	return path;
}

static inline void make(const char *cgroup)
{
	if (mkdir(in(cgroup, ""), 0755) && errno != EEXIST)
		bail("%s: %s", in(cgroup, ""), strerror(errno));
}

static inline void enter(const char *cgroup)
{
	if (!write_file(in(cgroup, "cgroup.procs"), "0"))
		bail("cannot enter %s: %s", cgroup, strerror(errno));
}

static inline void leave(void)
{
	enter(own_cgroup);
}

/* Processes that ended are still there for a moment. */
static inline bool drop(const char *cgroup)
{
	for (int tries = 0; tries < 100; tries++, pause_ms(20))
		if (rmdir(in(cgroup, "")) == 0)
			return true;
	diag("%s: %s", in(cgroup, ""), strerror(errno));
	return false;
}

static inline long long charge(const char *cgroup)
{
	char text[32] = "";

	read_file(in(cgroup, "memory.current"), text, sizeof(text));
	return atoll(text);
}

static inline long long event(const char *cgroup, const char *name)
{
	return number_in(in(cgroup, "memory.events"), name);
}

/*
 * Each CPU keeps up to 64 pages of a cgroup's charge at hand, and slab is charged by the page.
 * That is little beside the sizes used here.
 */
static inline bool about(long long is, long long should)
{
	if (llabs(is - should) <= (long long)MiB)
		return true;
	diag("%lld bytes, not about %lld", is, should);
	return false;
}

static inline void cgroups_begin(void)
{
	char line[PATH_MAX];

	if (access(ROOT "/memory.stat", F_OK) && access(ROOT "/cgroup.controllers", F_OK))
		bail("no cgroup2 at " ROOT);
	read_file("/proc/self/cgroup", line, sizeof(line));
	line[strcspn(line, "\n")] = 0;
	strcpy(own_cgroup, strlen(line) > 4 ? line + 4 : "."); /* "0::/where" */
}

#endif /* CGROUP_H */
