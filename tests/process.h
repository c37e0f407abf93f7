/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What this process has, for tests that look whether it has all given back. */
#ifndef PROCESS_H
#define PROCESS_H

#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

#include <tap.h>

/* File descriptors. */
static inline int open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = -3; /* ".", ".." and the directory itself */

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* Memory, without the buffers that it shares with others. */
static inline long memory_kib(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	long pages = 0, shared = 0;

	if (!file || fscanf(file, "%*s %ld %ld", &pages, &shared) != 2)
		bail("no /proc/self/statm");
	fclose(file);
	return (pages - shared) * (sysconf(_SC_PAGESIZE) / 1024);
}

#endif /* PROCESS_H */
