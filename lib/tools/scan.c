// SPDX-License-Identifier: LGPL-2.1-or-later
/* Finds dma-bufs: in /proc, in the kernel's lists of them, and by asking the module. */
#include "scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "report.h"

#define BUFINFO	   "/sys/kernel/debug/dma_buf/bufinfo"
#define STATISTICS "/sys/kernel/dmabuf/buffers"
#define PREFIX	   "/dmabuf:"

/* A line of /proc/PID/maps. Anybody can have a file of that name in a place of his own: it
 * counts only if it is on the device of the dma-bufs. */
struct scan_mapping {
	struct scan_process *process;
	uint64_t device, inode, bytes, end;
	double created;
	char name[64];
};

/* ---- small things -------------------------------------------------------------------- */

/* Makes room for one more in an array that doubles. */
static void *grown(void *array, size_t count, size_t size)
{
	if (count & (count - 1))
		return array;
	return or_die(reallocarray(array, count ? 2 * count : 1, size));
}

static void copy(char *to, size_t size, const char *text)
{
	snprintf(to, size, "%s", text);
}

static FILE *open_at(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");

	if (fd >= 0 && !file)
		close(fd);
	return file;
}

static DIR *open_dir(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *entries = fd < 0 ? NULL : fdopendir(fd);

	if (fd >= 0 && !entries)
		close(fd);
	return entries;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/*
 * A dma-buf's inode gets its times when it is made. Only its change time can never be set
 * back: nobody can make a buffer look older than it is.
 */
static double created(const struct stat *st)
{
	return (double)st->st_ctim.tv_sec + (double)st->st_ctim.tv_nsec / 1e9;
}

/* ---- what is found --------------------------------------------------------------------- */

/* Where it is in the buffers, or ought to be. */
static size_t position(const struct scan *scan, uint64_t inode)
{
	size_t low = 0, high = scan->buffer_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (scan->buffers[middle]->inode < inode)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct scan_buffer *find_buffer(const struct scan *scan, uint64_t inode)
{
	size_t i = position(scan, inode);

	return i < scan->buffer_count && scan->buffers[i]->inode == inode ? scan->buffers[i]
									  : NULL;
}

static struct scan_buffer *add_buffer(struct scan *scan, uint64_t inode)
{
	struct scan_buffer *buffer = find_buffer(scan, inode);
	size_t i = position(scan, inode);

	if (buffer)
		return buffer;
	buffer = or_die(calloc(1, sizeof(struct scan_buffer)));
	buffer->inode = inode;
	buffer->memory = buffer;
	buffer->seen = scan->time;
	scan->buffers = (struct scan_buffer **)grown(scan->buffers, scan->buffer_count,
						     sizeof(struct scan_buffer *));
	memmove(&scan->buffers[i + 1], &scan->buffers[i],
		(scan->buffer_count++ - i) * sizeof(struct scan_buffer *));
	scan->buffers[i] = buffer;
	return buffer;
}

static struct scan_holding *add_holding(struct scan *scan, struct scan_buffer *buffer,
					struct scan_process *process)
{
	struct scan_holding *holding = buffer->holdings;

	while (holding && holding->process != process)
		holding = holding->next;
	if (holding)
		return holding;
	holding = or_die(malloc(sizeof(struct scan_holding)));
	*holding = (struct scan_holding){
		.next = buffer->holdings,
		.buffer = buffer,
		.process = process,
		.fd = -1,
	};
	buffer->holdings = holding;
	scan->holdings = (struct scan_holding **)grown(scan->holdings, scan->holding_count,
						       sizeof(struct scan_holding *));
	scan->holdings[scan->holding_count++] = holding;
	return holding;
}

/* ---- /proc/PID ------------------------------------------------------------------------- */

/* The name comes last: whatever its lines are, they are its own. */
static void parse_fdinfo(FILE *file, struct scan_buffer *buffer)
{
	char line[256];

	while (!buffer->name[0] && fgets(line, sizeof(line), file)) {
		unsigned long long value;

		if (sscanf(line, "ino: %llu", &value) == 1)
			buffer->inode = value;
		else if (sscanf(line, "size: %llu", &value) == 1)
			buffer->size = value;
		else if (sscanf(line, "count: %llu", &value) == 1)
			buffer->references = value;
		else if (sscanf(line, "exp_name: %63[^\n]", buffer->exporter) == 1)
			buffer->size_known = true;
		else
			sscanf(line, "name: %63[^\n]", buffer->name);
	}
}

int scan_fd(int pid, int fd, struct scan_buffer *buffer)
{
	char path[64];
	FILE *file;

	*buffer = (struct scan_buffer){ 0 };
	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", pid, fd);
	file = fopen(path, "re");
	if (!file)
		return -errno;
	parse_fdinfo(file, buffer);
	fclose(file);
	return 0;
}

static void read_fd(struct scan *scan, struct scan_process *process, int dir,
		    const char *number)
{
	char path[64], link[sizeof(PREFIX)] = "";
	struct scan_buffer found = { 0 }, *buffer;
	struct scan_holding *holding;
	struct stat st;
	FILE *file;

	snprintf(path, sizeof(path), "fd/%.16s", number);
	if (readlinkat(dir, path, link, sizeof(link) - 1) < 0 || strcmp(link, PREFIX))
		return;
	if (fstatat(dir, path, &st, 0))
		return;
	snprintf(path, sizeof(path), "fdinfo/%.16s", number);
	file = open_at(dir, path);
	if (!file)
		return;
	parse_fdinfo(file, &found);
	fclose(file);
	if (!found.exporter[0] || found.inode != st.st_ino)
		return;
	scan->device = st.st_dev;
	buffer = add_buffer(scan, found.inode);
	buffer->size = found.size;
	buffer->size_known = true;
	buffer->references = found.references;
	buffer->created = created(&st);
	memcpy(buffer->exporter, found.exporter, sizeof(buffer->exporter));
	memcpy(buffer->name, found.name, sizeof(buffer->name));
	holding = add_holding(scan, buffer, process);
	if (!holding->fds++)
		holding->fd = atoi(number);
}

static void read_mapping(struct scan *scan, struct scan_process *process, int dir,
			 char *line)
{
	unsigned long long start, end, offset, inode;
	unsigned int major, minor;
	struct scan_mapping *mapping;
	struct stat st;
	char path[64];
	int name = 0;

	if (sscanf(line, "%llx-%llx %*s %llx %x:%x %llu %n", &start, &end, &offset, &major,
		   &minor, &inode, &name) < 6 ||
	    strncmp(line + name, PREFIX, strlen(PREFIX)) != 0)
		return;
	line[strcspn(line, "\n")] = '\0';
	scan->mappings =
		grown(scan->mappings, scan->mapping_count, sizeof(struct scan_mapping));
	mapping = &scan->mappings[scan->mapping_count++];
	*mapping = (struct scan_mapping){
		.process = process,
		.device = makedev(major, minor),
		.inode = inode,
		.bytes = end - start,
		.end = offset + (end - start),
	};
	copy(mapping->name, sizeof(mapping->name), line + name + strlen(PREFIX));
	/* Only root may follow it. */
	snprintf(path, sizeof(path), "map_files/%llx-%llx", start, end);
	if (fstatat(dir, path, &st, 0) == 0 && st.st_ino == inode)
		mapping->created = created(&st);
}

static void add_mapping(struct scan *scan, const struct scan_mapping *mapping)
{
	struct scan_holding *holding;
	struct scan_buffer *buffer;

	if (scan->device && mapping->device != scan->device)
		return;
	buffer = add_buffer(scan, mapping->inode);
	if (!buffer->size_known && buffer->size < mapping->end)
		buffer->size = mapping->end;
	if (!buffer->created)
		buffer->created = mapping->created;
	if (!buffer->name[0])
		copy(buffer->name, sizeof(buffer->name), mapping->name);
	holding = add_holding(scan, buffer, mapping->process);
	holding->mappings++;
	holding->mapped += mapping->bytes;
}

/* The one that memory is charged to: of version 2, unless version 1 has memory. */
static char *read_cgroup(int dir)
{
	FILE *file = open_at(dir, "cgroup");
	char *line = NULL, *cgroup = NULL;
	size_t size = 0;

	while (file && getline(&line, &size, file) > 0) {
		char *controllers = strchr(line, ':');
		char *path = controllers ? strchr(controllers + 1, ':') : NULL;
		bool unified = path == controllers + 1;

		if (!path)
			continue;
		*path++ = '\0';
		path[strcspn(path, "\n")] = '\0';
		if (unified ? cgroup != NULL : !strstr(controllers, "memory"))
			continue;
		free(cgroup);
		cgroup = or_die(strdup(path));
	}
	free(line);
	if (file)
		fclose(file);
	return cgroup;
}

/* The user in whose rights it runs, or (uid_t)-1. */
static uid_t read_user(int dir)
{
	FILE *file = open_at(dir, "status");
	unsigned int user = (unsigned int)-1;
	char line[256];

	while (file && fgets(line, sizeof(line), file) &&
	       sscanf(line, "Uid: %*u %u", &user) != 1)
		;
	if (file)
		fclose(file);
	return user;
}

static void describe_process(struct scan_process *process, int dir)
{
	FILE *file = open_at(dir, "comm");

	if (file) {
		size_t length = fread(process->name, 1, sizeof(process->name) - 1, file);

		process->name[length > 0 ? length - 1 : 0] = '\0';
		fclose(file);
	}
	process->user = read_user(dir);
	process->cgroup = read_cgroup(dir);
}

/* Kernel threads and processes that have ended have no buffers to hide. */
static bool may_hold_buffers(int dir)
{
	const unsigned int kernel_thread = 0x00200000; /* PF_KTHREAD of <linux/sched.h> */
	unsigned int flags = kernel_thread;
	FILE *file = open_at(dir, "stat");
	char text[512] = "", *end, state = 'X';

	if (!file)
		return false;
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	end = strrchr(text, ')'); /* of the name, which may have some too */
	return end && sscanf(end, ") %c %*d %*d %*d %*d %*d %u", &state, &flags) == 2 &&
	       !(flags & kernel_thread) && !strchr("ZX", state);
}

static void read_process(struct scan *scan, const char *pid)
{
	size_t holdings = scan->holding_count, mappings = scan->mapping_count;
	struct scan_process *process;
	struct dirent *entry;
	size_t size = 0;
	char *line = NULL;
	FILE *maps = NULL;
	DIR *fds = NULL;
	int dir;

	/* Open, it is of this process even if another one gets the number. */
	dir = openat(AT_FDCWD, pid, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return;
	fds = open_dir(dir, "fd");
	maps = fds ? open_at(dir, "maps") : NULL;
	if (!fds || !maps) {
		if ((errno == EACCES || errno == EPERM) && may_hold_buffers(dir)) {
			if (read_user(dir) == geteuid())
				scan->hidden_own++;
			else
				scan->hidden_others++;
		}
		if (fds)
			closedir(fds);
		close(dir);
		return;
	}
	process = or_die(calloc(1, sizeof(*process)));
	process->pid = atoi(pid + strlen("/proc/"));
	while ((entry = readdir(fds)))
		read_fd(scan, process, dir, entry->d_name);
	while (getline(&line, &size, maps) > 0)
		read_mapping(scan, process, dir, line);
	free(line);
	if (scan->holding_count == holdings && scan->mapping_count == mappings) {
		free(process);
	} else {
		describe_process(process, dir);
		scan->processes =
			(struct scan_process **)grown(scan->processes, scan->process_count,
						      sizeof(struct scan_process *));
		process->index = scan->process_count++;
		scan->processes[process->index] = process;
	}
	fclose(maps);
	closedir(fds);
	close(dir);
}

static bool read_processes(struct scan *scan)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	char path[32];

	if (!proc)
		return false;
	while ((entry = readdir(proc))) {
		if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%.16s", entry->d_name);
		read_process(scan, path);
	}
	closedir(proc);
	scan->hides_others = access("/proc/1", F_OK) != 0;
	for (size_t i = 0; i < scan->mapping_count; i++)
		add_mapping(scan, &scan->mappings[i]);
	return true;
}

/* ---- the kernel's lists ---------------------------------------------------------------- */

/* Room for one more and the NULL at the end. */
static void add_device(struct scan_buffer *buffer, const char *name)
{
	size_t count = 0;

	while (buffer->devices && buffer->devices[count])
		count++;
	buffer->devices =
		(char **)or_die(reallocarray(buffer->devices, count + 2, sizeof(char *)));
	buffer->devices[count] = name ? or_die(strdup(name)) : NULL;
	buffer->devices[name ? count + 1 : count] = NULL;
}

static void forget_devices(struct scan_buffer *buffer)
{
	for (size_t i = 0; buffer->devices && buffer->devices[i]; i++)
		free(buffer->devices[i]);
	free(buffer->devices);
	buffer->devices = NULL;
}

/*
 * A record is a line "size flags mode references exporter inode name", its fences, "Attached
 * Devices:", these, "Total N devices attached" and an empty line. A name may have lines too,
 * but no room for the end of a record and the beginning of another; and the real list of
 * devices is the last one.
 */
static void read_bufinfo(struct scan *scan, FILE *file, int round)
{
	struct scan_buffer *buffer = NULL;
	bool lists_devices = false;
	size_t size = 0;
	char *line = NULL;

	while (getline(&line, &size, file) > 0) {
		unsigned long long bytes, references, inode;
		char exporter[64];
		int name = 0;

		line[strcspn(line, "\n")] = '\0';
		if (!strncmp(line, "Total ", 6)) {
			buffer = NULL;
		} else if (buffer && !strcmp(line, "\tAttached Devices:")) {
			forget_devices(buffer);
			add_device(buffer, NULL);
			lists_devices = true;
		} else if (buffer && lists_devices && line[0] == '\t') {
			add_device(buffer, line + 1);
		} else if (!buffer &&
			   sscanf(line, "%llu\t%*x\t%*x\t%llu\t%63[^\t]\t%llu\t%n", &bytes,
				  &references, exporter, &inode, &name) == 4) {
			buffer = round == 1 ? add_buffer(scan, inode)
					    : find_buffer(scan, inode);
			lists_devices = false;
			if (!buffer) /* new, and for the next scan */
				continue;
			buffer->listed = round;
			buffer->size = bytes;
			buffer->size_known = true;
			buffer->references = references;
			copy(buffer->exporter, sizeof(buffer->exporter), exporter);
			if (strcmp(line + name, "<none>"))
				copy(buffer->name, sizeof(buffer->name), line + name);
		}
	}
	free(line);
}

static bool read_line_at(int dir, const char *name, char *text, int size)
{
	FILE *file = open_at(dir, name);
	bool good = file && fgets(text, size, file);

	if (good)
		text[strcspn(text, "\n")] = '\0';
	if (file)
		fclose(file);
	return good;
}

/* CONFIG_DMABUF_SYSFS_STATS, which everybody may read. */
static bool read_statistics(struct scan *scan, int round)
{
	DIR *all = open_dir(AT_FDCWD, STATISTICS);
	struct dirent *entry;

	if (!all)
		return false;
	while ((entry = readdir(all))) {
		uint64_t inode = strtoull(entry->d_name, NULL, 10);
		struct scan_buffer *buffer;
		char size[32], path[300];

		if (!inode)
			continue;
		buffer = round == 1 ? add_buffer(scan, inode) : find_buffer(scan, inode);
		if (!buffer)
			continue;
		buffer->listed = round;
		snprintf(path, sizeof(path), "%s/size", entry->d_name);
		if (read_line_at(dirfd(all), path, size, sizeof(size))) {
			buffer->size = strtoull(size, NULL, 10);
			buffer->size_known = true;
		}
		snprintf(path, sizeof(path), "%s/exporter_name", entry->d_name);
		read_line_at(dirfd(all), path, buffer->exporter, sizeof(buffer->exporter));
	}
	closedir(all);
	return true;
}

static void read_lists(struct scan *scan, int round)
{
	FILE *file = fopen(BUFINFO, "re");

	scan->list_error = file ? 0 : errno;
	scan->lists_devices = file != NULL;
	scan->lists_all = true;
	if (file) {
		read_bufinfo(scan, file, round);
		fclose(file);
	} else {
		scan->lists_all = read_statistics(scan, round);
	}
}

/* What no process holds may have been freed since it was listed. */
static void drop_freed(struct scan *scan)
{
	size_t held = 0, kept = 0;

	while (held < scan->buffer_count && scan->buffers[held]->holdings)
		held++;
	if (held < scan->buffer_count)
		read_lists(scan, 2);
	for (size_t i = 0; i < scan->buffer_count; i++) {
		struct scan_buffer *buffer = scan->buffers[i];

		if (buffer->holdings || buffer->listed == 2) {
			buffer->index = kept;
			scan->buffers[kept++] = buffer;
			continue;
		}
		forget_devices(buffer);
		free(buffer);
	}
	scan->buffer_count = kept;
}

/* ---- the module ------------------------------------------------------------------------ */

int scan_info(struct zcbuf_ctx *ctx, int pid, int fd, struct scan_buffer *buffer)
{
	struct zcbuf_buffer *borrowed = NULL;
	int pidfd, copied, r;

	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return -errno;
	copied = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	r = copied < 0 ? -errno : zcbuf_buffer_import(ctx, copied, &borrowed);
	if (r >= 0)
		r = zcbuf_buffer_get_info(borrowed, &buffer->info);
	zcbuf_buffer_unref(borrowed);
	close(pidfd);
	if (copied >= 0)
		close(copied);
	/* The number may be another file's by now. */
	if (r < 0 || buffer->info.inode != buffer->inode)
		buffer->info = (struct zcbuf_buffer_info){ 0 };
	return r < 0 ? r : buffer->info.inode ? 0 : -ESTALE;
}

static int by_memory(const void *a, const void *b)
{
	const struct scan_buffer *x = *(struct scan_buffer *const *)a;
	const struct scan_buffer *y = *(struct scan_buffer *const *)b;

	if (x->info.buffer_id != y->info.buffer_id)
		return x->info.buffer_id < y->info.buffer_id ? -1 : 1;
	return (x->inode > y->inode) - (x->inode < y->inode);
}

/* Asks zcbuf's buffers what they are, and finds those that share memory. */
static void ask_module(struct scan *scan, struct zcbuf_ctx *ctx)
{
	struct scan_buffer **sorted = (struct scan_buffer **)or_die(
		calloc(scan->buffer_count + 1, sizeof(struct scan_buffer *)));

	for (size_t i = 0; i < scan->buffer_count; i++) {
		struct scan_buffer *buffer = scan->buffers[i];
		const struct scan_holding *holding = buffer->holdings;

		sorted[i] = buffer;
		if (strncmp(buffer->exporter, "zcbuf-", 6) != 0)
			continue;
		for (; holding && !buffer->info.buffer_id; holding = holding->next) {
			if (holding->fd >= 0)
				scan_info(ctx, holding->process->pid, holding->fd, buffer);
		}
		scan->unasked += !buffer->info.buffer_id;
	}
	qsort(sorted, scan->buffer_count, sizeof(struct scan_buffer *), by_memory);
	for (size_t i = 1; i < scan->buffer_count; i++) {
		if (sorted[i]->info.buffer_id &&
		    sorted[i]->info.buffer_id == sorted[i - 1]->info.buffer_id)
			sorted[i]->memory = sorted[i - 1]->memory;
	}
	free(sorted);
}

/* ---- all of it ------------------------------------------------------------------------- */

struct scan *scan_new(struct zcbuf_ctx *ctx)
{
	struct scan *scan = or_die(calloc(1, sizeof(struct scan)));

	scan->time = now();
	read_lists(scan, 1);
	if (!read_processes(scan)) {
		scan_free(scan);
		return NULL;
	}
	drop_freed(scan);
	ask_module(scan, ctx);
	return scan;
}

void scan_free(struct scan *scan)
{
	if (!scan)
		return;
	for (size_t i = 0; i < scan->buffer_count; i++) {
		forget_devices(scan->buffers[i]);
		free(scan->buffers[i]);
	}
	for (size_t i = 0; i < scan->process_count; i++) {
		free(scan->processes[i]->cgroup);
		free(scan->processes[i]);
	}
	for (size_t i = 0; i < scan->holding_count; i++)
		free(scan->holdings[i]);
	free(scan->buffers);
	free(scan->processes);
	free(scan->holdings);
	free(scan->mappings);
	free(scan);
}

void scan_inherit(struct scan *scan, const struct scan *earlier)
{
	for (size_t i = 0; i < scan->buffer_count; i++) {
		struct scan_buffer *buffer = scan->buffers[i];
		const struct scan_buffer *known = find_buffer(earlier, buffer->inode);

		if (!known)
			continue;
		buffer->seen = known->seen;
		if (!buffer->created)
			buffer->created = known->created;
	}
}

bool scan_note(const struct scan *scan, size_t index, char *text, size_t size)
{
	const bool root = geteuid() == 0;
	const char *remedy = root ? "CAP_SYS_PTRACE is missing" : "run as root";
	size_t hidden = scan->hidden_others + (root ? scan->hidden_own : 0);

	if (hidden && index-- == 0) {
		snprintf(text, size, "%zu process%s%s not visible; %s", hidden,
			 hidden == 1 ? "" : "es", root ? "" : " of other users", remedy);
		return true;
	}
	if (scan->hidden_own && !root && index-- == 0) {
		snprintf(text, size,
			 "%zu process%s of this user not visible, for %s not be inspected; "
			 "%s",
			 scan->hidden_own, scan->hidden_own == 1 ? "" : "es",
			 scan->hidden_own == 1 ? "it may" : "they may", remedy);
		return true;
	}
	if (scan->hides_others && index-- == 0) {
		snprintf(text, size,
			 "processes%s not visible, for /proc does not show them; %s",
			 root ? "" : " of other users",
			 root ? "mount proc at /proc" : "run as root");
		return true;
	}
	if (!scan->lists_devices && index-- == 0) {
		snprintf(text, size, "devices%s not visible; %s",
			 scan->lists_all ? "" : ", and buffers that no process holds,",
			 scan->list_error == ENOENT ? "mount debugfs at /sys/kernel/debug"
						    : "run as root");
		return true;
	}
	if (scan->unasked && index-- == 0) {
		snprintf(text, size,
			 "what only the module zcbuf knows of %zu of its buffers not "
			 "visible%s",
			 scan->unasked,
			 root ? ": no process has a file descriptor" : "; run as root");
		return true;
	}
	return false;
}
