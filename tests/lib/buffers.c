// SPDX-License-Identifier: LGPL-2.1-or-later
/* Mapping buffers, CPU access sessions, views, and importing what others made. */
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "lib.h"

#define RW  (ZCBUF_SYNC_READ | ZCBUF_SYNC_WRITE)
#define MiB ((size_t)1 << 20)

static bool is_mapped(void *data)
{
	return !msync(data, 4096, MS_ASYNC);
}

static void mapping(struct zcbuf_ctx *ctx, const char *heap)
{
	struct zcbuf_buffer *buffer = new_buffer(ctx, heap, 2 * MiB);
	void *data = NULL, *again = NULL;

	returns(zcbuf_buffer_map(buffer, 0, &data), -EINVAL, "%s: map for nothing: -EINVAL",
		heap);
	returns(zcbuf_buffer_map(buffer, 4, &data), -EINVAL,
		"%s: map for an unknown access: -EINVAL", heap);
	ok(!data, "%s: a failure writes no address", heap);
	returns(zcbuf_buffer_map(buffer, ZCBUF_SYNC_READ, &data), 0, "%s: can be mapped",
		heap);
	returns(zcbuf_buffer_map(buffer, RW, &again), 0, "%s: can be mapped again", heap);
	ok(data == again, "%s: a buffer has one mapping", heap);
	ok(!((uintptr_t)data % (2 * MiB)), "%s: a large buffer is aligned to 2 MiB", heap);
	memset(data, 1, zcbuf_buffer_size(buffer));
	ok(zcbuf_buffer_ref(buffer) == buffer && !zcbuf_buffer_unref(buffer) &&
		   is_mapped(data),
	   "%s: the mapping stays while there is a reference", heap);
	zcbuf_buffer_unref(buffer);
	ok(!is_mapped(data), "%s: and goes with the last one", heap);
	ok(!is_mapped((char *)data + 2 * MiB - 4096) && !is_mapped((char *)data + 2 * MiB),
	   "%s: to its end", heap);
}

/* Whatever the allocator of addresses does, nothing but the buffer stays mapped. */
static void no_address_space_is_lost(struct zcbuf_ctx *ctx)
{
	char line[256];
	long before = 0, after = 0, *count = &before;

	for (int round = 0; round < 2; round++, count = &after) {
		FILE *maps;

		for (int i = 0; i < 20; i++) {
			struct zcbuf_buffer *buffer =
				new_buffer(ctx, "memfd", 2 * MiB + 4096 * (size_t)i);
			void *data = mapped(buffer, RW);

			if (!round || i % 2)
				munmap(mmap(data, 4096, PROT_NONE,
					    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
				       4096);
			zcbuf_buffer_unref(buffer);
		}
		maps = fopen("/proc/self/maps", "r");
		while (fgets(line, sizeof(line), maps))
			++*count;
		fclose(maps);
	}
	ok(before == after, "no address space is lost to alignment");
}

static void sessions(struct zcbuf_ctx *ctx, const char *heap)
{
	struct zcbuf_buffer *buffer = new_buffer(ctx, heap, 8192);
	static const uint64_t accesses[] = { ZCBUF_SYNC_READ, ZCBUF_SYNC_WRITE, RW };
	int good = 0;

	for (int i = 0; i < 3; i++)
		good += !zcbuf_buffer_begin(buffer, accesses[i]) &&
			!zcbuf_buffer_end(buffer, accesses[i]) &&
			!zcbuf_buffer_begin_range(buffer, accesses[i], 8191, 1) &&
			!zcbuf_buffer_end_range(buffer, accesses[i], 0, 8192);
	ok(good == 3, "%s: sessions to read, to write and for both", heap);
	returns(zcbuf_buffer_begin(buffer, 0), -EINVAL, "%s: begin for nothing: -EINVAL",
		heap);
	returns(zcbuf_buffer_end(buffer, 4), -EINVAL, "%s: unknown access: -EINVAL", heap);
	returns(zcbuf_buffer_begin_range(buffer, 8, 0, 1), -EINVAL,
		"%s: unknown access to a range: -EINVAL", heap);
	returns(zcbuf_buffer_begin_range(buffer, RW, 0, 0), -EINVAL,
		"%s: empty range: -EINVAL", heap);
	returns(zcbuf_buffer_end_range(buffer, RW, 8192, 1), -EINVAL,
		"%s: range behind the end: -EINVAL", heap);
	returns(zcbuf_buffer_end_range(buffer, RW, 1, 8192), -EINVAL,
		"%s: range over the end: -EINVAL", heap);
	returns(zcbuf_buffer_end_range(buffer, RW, 8191, SIZE_MAX), -EINVAL,
		"%s: range around the address space: -EINVAL", heap);
	zcbuf_buffer_unref(buffer);
}

static void ignore_signal(int signal)
{
	(void)signal;
}

static void sessions_under_signals(struct zcbuf_ctx *ctx)
{
	struct itimerval often = { { 0, 1000 }, { 0, 1000 } }, never = { 0 };
	struct zcbuf_buffer *buffer = new_buffer(ctx, "zcbuf-system", 4 * MiB);
	struct sigaction action = { .sa_handler = ignore_signal };
	int failed = 0;

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	for (int i = 0; i < 2000; i++)
		failed += zcbuf_buffer_begin(buffer, RW) || zcbuf_buffer_end(buffer, RW);
	setitimer(ITIMER_REAL, &never, NULL);
	returns(failed, 0, "signals never end a session early");
	zcbuf_buffer_unref(buffer);
}

static int write_byte(void *data)
{
	struct rlimit no_core = { 0 };

	setrlimit(RLIMIT_CORE, &no_core);
	mprotect(data, 4096, PROT_READ | PROT_WRITE);
	*(volatile char *)data = 1;
	return 0;
}

static void views(struct zcbuf_ctx *ctx)
{
	struct zcbuf_buffer *buffer = new_buffer(ctx, "zcbuf-system", 16384);
	struct zcbuf_buffer *view, *nested, *other = new_buffer(ctx, "memfd", 4096);
	struct zcbuf_buffer_info info, whole;
	unsigned char *data = mapped(buffer, RW);
	void *none;
	int fds;

	must(zcbuf_buffer_get_info(buffer, &whole));
	data[4096] = 42;
	must(zcbuf_buffer_view(buffer, 4096, 8192, ZCBUF_VIEW_READ_ONLY, &view));
	must(zcbuf_buffer_get_info(view, &info));
	ok(info.backend == ZCBUF_BACKEND_ZCBUF && info.buffer_id == whole.buffer_id &&
		   info.inode != whole.inode && info.views == 2 && info.offset == 4096 &&
		   info.size == 8192 && info.buffer_size == 16384 && info.read_only,
	   "a view is a dma-buf of its own over a part of the buffer");
	ok(zcbuf_buffer_size(view) == 8192 && *mapped(view, ZCBUF_SYNC_READ) == 42,
	   "it shows that part");
	forget_log();
	returns(zcbuf_buffer_map(view, ZCBUF_SYNC_WRITE, &none), -EACCES,
		"a read-only view cannot be mapped to write");
	ok(logged.errors == 1 && strstr(logged.error, "read-only"), "the message says why");
	returns(zcbuf_buffer_map(view, RW, &none), -EACCES, "nor to read and write");
	ok(!in_child(write_byte, mapped(view, ZCBUF_SYNC_READ)),
	   "its mapping stays read-only");
	must(zcbuf_buffer_view(view, 4096, 0, 0, &nested));
	must(zcbuf_buffer_get_info(nested, &info));
	ok(info.read_only && info.offset == 8192 && info.size == 4096,
	   "a view of a view counts from there, and has no more rights");
	zcbuf_buffer_unref(buffer);
	zcbuf_buffer_unref(view);
	ok(*mapped(nested, ZCBUF_SYNC_READ) == 0, "a view outlives what it was made of");

	fds = open_fds();
	returns(zcbuf_buffer_view(nested, 1, 0, 0, &view), -EINVAL,
		"offset inside a page: -EINVAL");
	returns(zcbuf_buffer_view(nested, 0, 1, 0, &view), -EINVAL,
		"length inside a page: -EINVAL");
	returns(zcbuf_buffer_view(nested, 4096, 0, 0, &view), -EINVAL,
		"a view behind the end: -EINVAL");
	returns(zcbuf_buffer_view(nested, 0, 8192, 0, &view), -EINVAL,
		"a view over the end: -EINVAL");
	returns(zcbuf_buffer_view(nested, 0, 0, 1u << 31, &view), -EINVAL,
		"unknown flag: -EINVAL");
	returns(zcbuf_buffer_view(other, 0, 0, 0, &view), -EOPNOTSUPP,
		"a view of a memfd: -EOPNOTSUPP");
	forbid_fds();
	returns(zcbuf_buffer_view(nested, 0, 0, 0, &view), -EMFILE,
		"no file descriptor left: -EMFILE");
	allow_fds();
	ok(open_fds() == fds, "failures leak no file descriptor");
	zcbuf_buffer_unref(nested);
	zcbuf_buffer_unref(other);
}

static void importing(struct zcbuf_ctx *ctx, const char *heap, enum zcbuf_backend backend)
{
	struct zcbuf_buffer *buffer = new_buffer(ctx, heap, 8192), *copy;
	struct zcbuf_buffer_info ours, theirs;
	int fd = dup(zcbuf_buffer_fd(buffer));

	strcpy((char *)mapped(buffer, RW), "hello");
	must(zcbuf_buffer_get_info(buffer, &ours));
	returns(zcbuf_buffer_import(ctx, fd, &copy), 0, "%s: can be imported", heap);
	close(fd);
	zcbuf_buffer_unref(buffer);
	must(zcbuf_buffer_get_info(copy, &theirs));
	ok(theirs.backend == backend, "%s: its origin is found out", heap);
	ok(theirs.inode == ours.inode && theirs.size == 8192 &&
		   theirs.buffer_id == ours.buffer_id,
	   "%s: it is the same buffer", heap);
	ok(!strcmp((char *)mapped(copy, RW), "hello"), "%s: with the same content", heap);
	returns(zcbuf_buffer_begin(copy, RW) || zcbuf_buffer_end(copy, RW), 0,
		"%s: it can be accessed in sessions", heap);
	zcbuf_buffer_unref(copy);
}

static int memfd_with_seals(int seals)
{
	int fd = (int)must(memfd_create("test", MFD_ALLOW_SEALING | MFD_CLOEXEC));

	must(ftruncate(fd, 5000));
	must(fcntl(fd, F_ADD_SEALS, seals));
	return fd;
}

static int reopened(int fd, int flags)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return (int)must(open(path, flags | O_CLOEXEC));
}

static void refused_import(struct zcbuf_ctx *ctx, int fd, int error, const char *name)
{
	struct zcbuf_buffer *buffer = (void *)1;
	int fds = open_fds();

	compact_memory();
	forget_log();
	returns(zcbuf_buffer_import(ctx, fd, &buffer), error, "import of %s is refused",
		name);
	ok(logged.errors == 1, "which is logged once");
	ok(buffer == (void *)1 && open_fds() == fds, "and has no effect");
	if (fd >= 0)
		close(fd);
}

static void imports_of_other_things(struct zcbuf_ctx *ctx)
{
	char path[] = "/dev/shm/zcbuf-test-XXXXXX";
	struct zcbuf_buffer *buffer;
	void *data;
	int fds[2], fd;

	must(pipe(fds));
	close(fds[1]);
	refused_import(ctx, fds[0], -EINVAL, "a pipe");
	refused_import(ctx, -1, -EBADF, "a bad file descriptor");
	refused_import(ctx, 999, -EBADF, "a closed file descriptor");
	refused_import(ctx, open("/dev/null", O_RDWR), -EINVAL, "a device");
	refused_import(ctx, open("/proc/self/exe", O_RDONLY), -EINVAL, "a file");
	refused_import(ctx, open("/dev/zcbuf", O_RDWR), -EINVAL, "the control node");
	fd = mkstemp(path);
	must(ftruncate(fd, 4096));
	unlink(path);
	refused_import(ctx, fd, -EINVAL, "a file in a tmpfs");
	refused_import(ctx, memfd_with_seals(0), -EINVAL, "a memfd that can shrink");
	fd = (int)must(memfd_create("empty", MFD_ALLOW_SEALING));
	must(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
	refused_import(ctx, fd, -EINVAL, "an empty memfd");
	fd = memfd_with_seals(F_SEAL_SHRINK);
	forbid_fds();
	returns(zcbuf_buffer_import(ctx, fd, &buffer), -EMFILE,
		"no descriptor left: -EMFILE");
	allow_fds();

	must(zcbuf_buffer_import(ctx, fd, &buffer));
	ok(zcbuf_buffer_size(buffer) == 8192,
	   "the size of a memfd is rounded up to whole pages");
	mapped(buffer, RW)[8191] = 1;
	ok(fcntl(zcbuf_buffer_fd(buffer), F_GETFD) & FD_CLOEXEC,
	   "an import is close-on-exec");
	zcbuf_buffer_unref(buffer);

	fds[0] = reopened(fd, O_RDONLY);
	must(zcbuf_buffer_import(ctx, fds[0], &buffer));
	returns(zcbuf_buffer_map(buffer, RW, &data), -EACCES, "a read-only memfd stays so");
	returns(zcbuf_buffer_map(buffer, ZCBUF_SYNC_READ, &data), 0, "but can be read");
	zcbuf_buffer_unref(buffer);
	close(fds[0]);
	fds[0] = reopened(fd, O_WRONLY);
	must(zcbuf_buffer_import(ctx, fds[0], &buffer));
	returns(zcbuf_buffer_map(buffer, ZCBUF_SYNC_WRITE, &data), -EACCES,
		"what is write-only cannot be mapped");
	zcbuf_buffer_unref(buffer);
	close(fds[0]);
	close(fd);

	fd = memfd_with_seals(F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE);
	must(zcbuf_buffer_import(ctx, fd, &buffer));
	returns(zcbuf_buffer_map(buffer, ZCBUF_SYNC_WRITE, &data), -EACCES,
		"a memfd sealed against writing is read-only");
	returns(zcbuf_buffer_map(buffer, ZCBUF_SYNC_READ, &data), 0, "but can be read");
	zcbuf_buffer_unref(buffer);
	close(fd);
}

/* What a process that we gave a memfd to can do to us. */
static void memfds_cannot_change(struct zcbuf_ctx *ctx)
{
	struct zcbuf_buffer *buffer = new_buffer(ctx, "memfd", 8192);
	int fd = zcbuf_buffer_fd(buffer);

	is_errno(ftruncate(fd, 0), EPERM, "our memfd cannot shrink under its mappings");
	is_errno(ftruncate(fd, 1 << 20), EPERM, "nor grow");
	is_errno(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EPERM,
		 "nor be sealed by a receiver");
	zcbuf_buffer_unref(buffer);
}

int main(void)
{
	struct zcbuf_ctx *ctx = new_ctx();
	struct zcbuf_heap_info *infos;
	int count = (int)must(zcbuf_heap_list(ctx, &infos));
	int fds = open_fds();

	compact_memory();
	for (int i = 0; i < count; i++) {
		enum zcbuf_backend backend = infos[i].backend;
		bool ours =
			backend == ZCBUF_BACKEND_ZCBUF || backend == ZCBUF_BACKEND_MEMFD;

		mapping(ctx, infos[i].name);
		sessions(ctx, infos[i].name);
		importing(ctx, infos[i].name, ours ? backend : ZCBUF_BACKEND_FOREIGN);
	}
	no_address_space_is_lost(ctx);
	sessions_under_signals(ctx);
	views(ctx);
	imports_of_other_things(ctx);
	memfds_cannot_change(ctx);
	ok(open_fds() == fds, "all file descriptors are closed at the end");
	free(infos);
	zcbuf_ctx_unref(ctx);
	return done_testing();
}
