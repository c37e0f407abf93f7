// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * How much memory is left. When there is none for a memfd or for a heap of the kernel, the
 * caller gets no error: the kernel kills a process. What is clearly too much must therefore
 * not be tried.
 */
#include <stdio.h>
#include <string.h>

#include "private.h"

static void fclose_p(FILE **file)
{
	if (*file)
		fclose(*file);
}

/* The number in the line that begins with @key, or @otherwise if there is none. */
static uint64_t number_in(const char *path, const char *key, uint64_t otherwise)
{
	_cleanup_(fclose_p) FILE *file = fopen(path, "re");
	unsigned long long number;
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, key, strlen(key)) &&
		    sscanf(line + strlen(key), "%llu", &number) == 1)
			return number;
	return otherwise;
}

static uint64_t left_in_machine(void)
{
	const uint64_t unknown = UINT64_MAX >> 11; /* kB; the sum must not overflow */

	return (number_in("/proc/meminfo", "MemAvailable:", unknown) +
		number_in("/proc/meminfo", "SwapFree:", 0))
	       << 10;
}

/* In one cgroup: what is below its limit, and what it could give back at once. */
static uint64_t left_in_cgroup(const char *directory)
{
	uint64_t limit, used, cached;
	char path[1100];

	/* No number: it is "max", or the root, which has no such file. */
	snprintf(path, sizeof(path), "%s/memory.max", directory);
	limit = number_in(path, "", UINT64_MAX);
	if (limit == UINT64_MAX)
		return limit;
	snprintf(path, sizeof(path), "%s/memory.current", directory);
	used = number_in(path, "", 0);
	snprintf(path, sizeof(path), "%s/memory.stat", directory);
	cached = number_in(path, "inactive_file", 0) + number_in(path, "active_file", 0);
	return used > limit + cached ? 0 : limit + cached - used;
}

static uint64_t left_in_all_cgroups(void)
{
	_cleanup_(fclose_p) FILE *file = fopen("/proc/self/cgroup", "re");
	char line[1024], directory[sizeof(line) + 16];
	uint64_t left = UINT64_MAX, here;
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file))
		found = !strncmp(line, "0::/", 4);
	if (!found)
		return UINT64_MAX;
	line[strcspn(line, "\n")] = '\0';
	snprintf(directory, sizeof(directory), "/sys/fs/cgroup%s", line + 3);
	while (strlen(directory) > strlen("/sys/fs/cgroup")) {
		here = left_in_cgroup(directory);
		left = here < left ? here : left;
		*strrchr(directory, '/') = '\0';
	}
	return left;
}

bool memory_suffices(uint64_t size)
{
	/* Page tables and the like need some, too, and a little is left for the program. */
	uint64_t needed = size + size / 64 + (1 << 20);

	return needed <= left_in_machine() && needed <= left_in_all_cgroups();
}
