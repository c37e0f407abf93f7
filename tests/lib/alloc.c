// SPDX-License-Identifier: LGPL-2.1-or-later
/* What each heap gives, and what it refuses. */
#include <sys/mman.h>

#include "lib.h"

/* A word at a time: memory of a device, on arm64, answers what is not aligned by SIGBUS. */
static bool is_zero(const void *data, size_t size)
{
	const volatile uint64_t *words = data;
	size_t i = 0;

	while (i < size / 8 && !words[i])
		i++;
	return i == size / 8;
}

static void fill(void *data, size_t size)
{
	volatile uint64_t *words = data;

	for (size_t i = 0; i < size / 8; i++)
		words[i] = 0xa5a5a5a5a5a5a5a5;
}

static void sizes(const char *name, struct zcbuf_heap *heap, uint64_t max_size)
{
	static const size_t sizes[] = { 1,     4095,	      4096,	     4097,
					65536, (2 << 20) - 1, (2 << 20) + 1, 9 << 20 };
	bool rounded = true, zeroed = true, writable = true;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct zcbuf_buffer *buffer;
		unsigned char *data;
		size_t size;

		if (max_size && sizes[i] > max_size)
			continue;
		/* The second one may be made of the memory of the first. */
		for (int round = 0; round < 2; round++) {
			must(zcbuf_heap_alloc(heap, sizes[i], NULL, &buffer));
			size = zcbuf_buffer_size(buffer);
			rounded &= size == ((sizes[i] + 4095) & ~(size_t)4095);
			data = mapped(buffer, ZCBUF_SYNC_READ | ZCBUF_SYNC_WRITE);
			zeroed &= is_zero(data, size);
			fill(data, size);
			writable &= data[0] == 0xa5 && data[size - 1] == 0xa5;
			zcbuf_buffer_unref(buffer);
		}
	}
	ok(rounded, "%s: sizes are rounded up to whole pages", name);
	ok(zeroed, "%s: memory is zeroed, to the end of the last page", name);
	ok(writable, "%s: memory can be written", name);
}

static void description(const char *name, struct zcbuf_heap *heap,
			enum zcbuf_backend backend)
{
	struct zcbuf_alloc_options options = { .name = "a name of 31 bytes, not one more" };
	struct zcbuf_buffer_info info;
	struct zcbuf_buffer *buffer;
	struct stat st;

	options.name += strlen(options.name) - 31;
	must(zcbuf_heap_alloc(heap, 12345, &options, &buffer));
	must(zcbuf_buffer_get_info(buffer, &info));
	must(fstat(zcbuf_buffer_fd(buffer), &st));
	ok(info.backend == backend && !strcmp(info.heap, name),
	   "%s: the buffer says where it is from", name);
	ok(!strcmp(info.name, options.name), "%s: the buffer has its name", name);
	ok(info.size == 16384 && info.inode == st.st_ino && !info.read_only,
	   "%s: the buffer knows its size and inode", name);
	if (backend == ZCBUF_BACKEND_ZCBUF)
		ok(info.buffer_id && info.buffer_size == 16384 && info.views == 1 &&
			   info.chunks >= 1 && info.max_chunk >= info.min_chunk &&
			   info.min_chunk >= 4096 && !info.attachments,
		   "%s: the module tells what it is made of", name);
	else
		ok(!info.buffer_id && !info.chunks && !info.views,
		   "%s: what only zcbuf knows is zero", name);
	ok(fcntl(zcbuf_buffer_fd(buffer), F_GETFD) & FD_CLOEXEC,
	   "%s: the fd is close-on-exec", name);
	zcbuf_buffer_unref(buffer);

	must(zcbuf_heap_alloc(heap, 1, NULL, &buffer));
	must(zcbuf_buffer_get_info(buffer, &info));
	ok(!info.name[0], "%s: a buffer needs no name", name);
	zcbuf_buffer_unref(buffer);
}

static void refusals(const char *name, struct zcbuf_heap *heap,
		     const struct zcbuf_heap_info *info)
{
	static const char *const bad_names[] = { "32 bytes are too much for one!!!",
						 "two\nlines", "\x7f", "\t" };
	struct zcbuf_alloc_options options = { 0 };
	struct zcbuf_buffer *buffer = (void *)1, *recycled;
	int fds = open_fds(), refused = 0, expected;

	forget_log();
	returns(zcbuf_heap_alloc(heap, 0, NULL, &buffer), -EINVAL, "%s: no bytes: -EINVAL",
		name);
	ok(logged.errors == 1 && strstr(logged.error, "size 0"), "%s: which is logged once",
	   name);
	options.alignment = 3 * 4096;
	returns(zcbuf_heap_alloc(heap, 1, &options, &buffer), -EINVAL,
		"%s: alignment that is no power of two: -EINVAL", name);
	for (int i = 0; i < 4; i++) {
		options = (struct zcbuf_alloc_options){ .name = bad_names[i] };
		refused += zcbuf_heap_alloc(heap, 1, &options, &buffer) == -EINVAL;
	}
	ok(refused == 4, "%s: bad names: -EINVAL", name);

	options = (struct zcbuf_alloc_options){ .alignment = 2 * info->max_alignment };
	forget_log();
	returns(zcbuf_heap_alloc(heap, 1, &options, &buffer), -EOPNOTSUPP,
		"%s: more alignment than it can: -EOPNOTSUPP", name);
	ok(logged.errors == 1, "%s: which is logged once", name);
	options = (struct zcbuf_alloc_options){ .flags = 1ull << 63 };
	expected = info->backend == ZCBUF_BACKEND_ZCBUF ? -EINVAL : -EOPNOTSUPP;
	returns(zcbuf_heap_alloc(heap, 1, &options, &buffer), expected,
		"%s: a flag that it does not know is refused", name);
	options = (struct zcbuf_alloc_options){ .flags = ZCBUF_ALLOC_RECYCLE };
	if (ok(!zcbuf_heap_alloc(heap, 1, &options, &recycled),
	       "%s: who allows his old data gets a buffer from any heap", name))
		zcbuf_buffer_unref(recycled);

	forget_log();
	returns(zcbuf_heap_alloc(heap, SIZE_MAX, NULL, &buffer), -ENOMEM,
		"%s: 2^64 - 1 bytes: -ENOMEM", name);
	returns(zcbuf_heap_alloc(heap, SIZE_MAX / 2, NULL, &buffer), -ENOMEM,
		"%s: 2^63 - 1 bytes: -ENOMEM", name);
	returns(zcbuf_heap_alloc(heap, 1ull << 44, NULL, &buffer), -ENOMEM,
		"%s: 16 TiB: -ENOMEM", name);
	ok(logged.errors == 3 && strstr(logged.error, "17592186044416 bytes"),
	   "%s: the messages name the size", name);

	forbid_fds();
	returns(zcbuf_heap_alloc(heap, 1, NULL, &buffer), -EMFILE,
		"%s: no file descriptor left: -EMFILE", name);
	allow_fds();
	ok(buffer == (void *)1, "%s: a failure writes no result", name);
	ok(open_fds() == fds, "%s: a failure leaks no file descriptor", name);
}

static void alignment_and_flags(struct zcbuf_ctx *ctx)
{
	struct zcbuf_alloc_options options = { .alignment = 65536 };
	struct zcbuf_buffer_info info;
	struct zcbuf_buffer *buffer;
	struct zcbuf_heap *heap;

	must(zcbuf_heap_open(ctx, "zcbuf-system", &heap));
	must(zcbuf_heap_alloc(heap, 4096, &options, &buffer));
	must(zcbuf_buffer_get_info(buffer, &info));
	ok(info.alignment == 65536 && info.size == 65536 && info.min_chunk >= 65536,
	   "zcbuf-system aligns each piece");
	zcbuf_buffer_unref(buffer);
	options = (struct zcbuf_alloc_options){ .flags = ZCBUF_ALLOC_DMA32 };
	must(zcbuf_heap_alloc(heap, 4096, &options, &buffer));
	must(zcbuf_buffer_get_info(buffer, &info));
	ok(info.alloc_flags == ZCBUF_ALLOC_DMA32, "zcbuf-system gives memory below 4 GiB");
	zcbuf_buffer_unref(buffer);
	zcbuf_heap_unref(heap);
}

static void move_to_cgroup(const char *limit)
{
	FILE *file;

	mkdir("/sys/fs/cgroup/zcbuf-test", 0755);
	file = fopen("/sys/fs/cgroup/zcbuf-test/memory.max", "w");
	check(file && fputs(limit, file) >= 0 && !fclose(file));
	file = fopen("/sys/fs/cgroup/zcbuf-test/cgroup.procs", "w");
	check(file && fputs("0", file) >= 0 && !fclose(file));
}

/* Takes 1 MiB at a time, so that what is refused is what does not fit. */
static int until_the_cgroup_is_full(void *name)
{
	struct zcbuf_ctx *ctx = new_ctx();
	struct zcbuf_buffer *buffer;
	struct zcbuf_heap *heap;
	int count = 0, r;

	check(!zcbuf_heap_open(ctx, name, &heap));
	/* A page of our own that is copied at the limit would be who is killed for it. */
	check(!mlockall(MCL_CURRENT));
	move_to_cgroup("64M");
	while (!(r = zcbuf_heap_alloc(heap, 1 << 20, NULL, &buffer)))
		count++;
	check(r == -ENOMEM);
	check(count >= 32 && count <= 64);
	return 0;
}

static void a_full_cgroup(const char *name)
{
	ok(in_child(until_the_cgroup_is_full, (void *)name),
	   "%s: memory beyond the cgroup's limit is -ENOMEM, and nobody is killed", name);
	rmdir("/sys/fs/cgroup/zcbuf-test");
}

int main(void)
{
	struct zcbuf_ctx *ctx = new_ctx();
	struct zcbuf_heap_info *infos;
	int count = (int)must(zcbuf_heap_list(ctx, &infos));

	compact_memory();
	for (int i = 0; i < count; i++) {
		struct zcbuf_heap *heap;

		must(zcbuf_heap_open(ctx, infos[i].name, &heap));
		sizes(infos[i].name, heap, infos[i].max_size);
		description(infos[i].name, heap, infos[i].backend);
		refusals(infos[i].name, heap, &infos[i]);
		if (infos[i].capabilities & ZCBUF_HEAP_CAP_CHARGED)
			a_full_cgroup(infos[i].name);
		zcbuf_heap_unref(heap);
	}
	alignment_and_flags(ctx);
	free(infos);
	zcbuf_ctx_unref(ctx);
	return done_testing();
}
