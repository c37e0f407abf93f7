// SPDX-License-Identifier: LGPL-2.1-or-later
/* What bounds the memory of buffers: zcbuf's limits, the cgroup's, the machine's. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "doctor.h"

#define NO_LIMIT UINT64_MAX

/* A number, or NO_LIMIT for "max"; false if it cannot be read. */
__attribute__((format(printf, 2, 3))) static bool read_limit(uint64_t *bytes,
							     const char *format, ...)
{
	char path[512], line[32];
	va_list args;

	va_start(args, format);
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	if (!first_line(line, sizeof(line), "%s", path))
		return false;
	*bytes = strcmp(line, "max") ? strtoull(line, NULL, 10) : NO_LIMIT;
	return true;
}

/* ---- of zcbuf ------------------------------------------------------------------------ */

/* @used is NO_LIMIT if that is not known. Returns whether there is a limit. */
static bool check_limit(struct doctor *doctor, const char *file, uint64_t used,
			const char *whose)
{
	uint64_t limit;

	if (!read_limit(&limit, "/sys/class/zcbuf/%s", file)) {
		finding(doctor, NOTE, "limit", "/sys/class/zcbuf/%s: %s", file,
			strerror(errno));
		return true;
	}
	if (limit == NO_LIMIT)
		return false;
	if (doctor->size > limit || (used != NO_LIMIT && used > limit - doctor->size)) {
		finding(doctor, FAILURE, "limit", "%s may have %s%s%s: no room for %s",
			whose, readable_bytes(limit).text,
			used == NO_LIMIT ? "" : ", and have ",
			used == NO_LIMIT ? "" : readable_bytes(used).text,
			readable_bytes(doctor->size).text);
		remedy(doctor,
		       "free buffers ('zcbuf info PID' shows them), or: echo max | sudo "
		       "tee "
		       "/sys/class/zcbuf/%s",
		       file);
		doctor->is_over_limit = true;
	} else if (used == NO_LIMIT) {
		finding(doctor, FINE, "limit", "%s may have %s", whose,
			readable_bytes(limit).text);
	} else {
		finding(doctor, FINE, "limit", "%s may have %s, and have %s", whose,
			readable_bytes(limit).text, readable_bytes(used).text);
	}
	return true;
}

static void zcbuf_limits(struct doctor *doctor)
{
	int control = open("/dev/zcbuf", O_RDWR | O_CLOEXEC);
	struct zcbuf_ioc_heap heap = { 0 };
	uint64_t bytes = 0, buffers = 0;
	bool limited = false;

	if (control < 0)
		return; /* which has been said */
	for (; !ioctl(control, ZCBUF_IOC_HEAPS, &heap); heap.index++) {
		char file[64], whose[64];

		snprintf(file, sizeof(file), "%s/limit", heap.name);
		snprintf(whose, sizeof(whose), "buffers of %s", heap.name);
		limited |= check_limit(doctor, file, heap.used_bytes, whose);
		bytes += heap.used_bytes;
		buffers += heap.used_buffers;
	}
	close(control);
	limited |= check_limit(doctor, "zcbuf/limit", bytes, "all buffers together");
	limited |= check_limit(doctor, "zcbuf/user_limit", NO_LIMIT,
			       "the buffers of one user");
	if (!limited)
		finding(doctor, FINE, "limit",
			"none in /sys/class/zcbuf; there are %" PRIu64
			" buffers of %s in all",
			buffers, readable_bytes(bytes).text);
}

/* ---- of the cgroup ------------------------------------------------------------------- */

/* The path of this process's cgroup below /sys/fs/cgroup, which is "" for the root. */
static bool find_cgroup(char *path, size_t size)
{
	FILE *file = fopen("/proc/self/cgroup", "re");
	char line[512];
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		found = !strncmp(line, "0::/", 4);
	}
	if (file)
		fclose(file);
	if (found)
		snprintf(path, size, "%s", strcmp(line + 3, "/") ? line + 3 : "");
	return found && !access("/sys/fs/cgroup/cgroup.controllers", F_OK);
}

/* What the kernel would rather give back than fail: files that are cached. */
static uint64_t cached_in(const char *cgroup)
{
	char path[640], key[32];
	uint64_t value, file = 0, shmem = 0;
	FILE *stat;

	snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.stat", cgroup);
	stat = fopen(path, "re");
	while (stat && fscanf(stat, "%31s %" SCNu64, key, &value) == 2) {
		if (!strcmp(key, "file"))
			file = value;
		else if (!strcmp(key, "shmem"))
			shmem = value;
	}
	if (stat)
		fclose(stat);
	return file > shmem ? file - shmem : 0;
}

/* Each cgroup above counts, too. The one that leaves the least is told of. */
static void cgroup_limits(struct doctor *doctor)
{
	char path[512], tightest[512];
	uint64_t least = NO_LIMIT, limit = 0, used = 0;

	if (!find_cgroup(path, sizeof(path))) {
		finding(doctor, NOTE, "memory", "there is no cgroup v2 to look at");
		return;
	}
	while (path[0]) {
		uint64_t max, current, room, cached;

		if (read_limit(&max, "/sys/fs/cgroup%s/memory.max", path) &&
		    max != NO_LIMIT &&
		    read_limit(&current, "/sys/fs/cgroup%s/memory.current", path)) {
			cached = cached_in(path);
			room = max > current ? max - current : 0;
			if (room + cached < least) {
				least = room + cached;
				limit = max;
				used = current > cached ? current - cached : 0;
				strcpy(tightest, path);
			}
		}
		*strrchr(path, '/') = '\0';
	}
	if (least == NO_LIMIT) {
		finding(doctor, FINE, "memory", "no limit of a cgroup");
	} else if (least < doctor->size) {
		finding(doctor, FAILURE, "memory",
			"the cgroup %s may have %s, and has %s: no room for %s", tightest,
			readable_bytes(limit).text, readable_bytes(used).text,
			readable_bytes(doctor->size).text);
		remedy(doctor, "echo max | sudo tee /sys/fs/cgroup%s/memory.max%s",
		       tightest,
		       strstr(tightest, ".s") ? "; or MemoryMax= of that unit" : "");
		doctor->has_room = false;
	} else {
		finding(doctor, FINE, "memory", "the cgroup %s may have %s, and has %s",
			tightest, readable_bytes(limit).text, readable_bytes(used).text);
	}
}

/* ---- of the machine ------------------------------------------------------------------ */

static void machine_limits(struct doctor *doctor)
{
	FILE *file = fopen("/proc/meminfo", "re");
	uint64_t available = NO_LIMIT;
	char line[128];

	while (file && available == NO_LIMIT && fgets(line, sizeof(line), file))
		if (sscanf(line, "MemAvailable: %" SCNu64, &available) == 1)
			available <<= 10;
	if (file)
		fclose(file);
	if (available < doctor->size) {
		finding(doctor, FAILURE, "memory", "%s are available: no room for %s",
			readable_bytes(available).text, readable_bytes(doctor->size).text);
		remedy(doctor, "end programs, or ask for less");
		doctor->has_room = false;
	} else if (available == NO_LIMIT) {
		finding(doctor, NOTE, "memory", "/proc/meminfo does not tell");
	} else {
		finding(doctor, FINE, "memory", "%s are available",
			readable_bytes(available).text);
	}
}

/* Allocating is not bounded by it. */
static void locked_memory(struct doctor *doctor)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) || limit.rlim_cur == RLIM_INFINITY ||
	    limit.rlim_cur >= doctor->size || !geteuid())
		return;
	finding(doctor, NOTE, "memory",
		"this user may lock %s: no buffer of %s for RDMA, or fixed in io_uring",
		readable_bytes(limit.rlim_cur).text, readable_bytes(doctor->size).text);
	remedy(doctor,
	       "ulimit -l unlimited as root; or LimitMEMLOCK=infinity in the unit that "
	       "starts it, or memlock in /etc/security/limits.conf");
}

void doctor_limits(struct doctor *doctor)
{
	zcbuf_limits(doctor);
	cgroup_limits(doctor);
	machine_limits(doctor);
	locked_memory(doctor);
}
