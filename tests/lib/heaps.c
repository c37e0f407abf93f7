// SPDX-License-Identifier: LGPL-2.1-or-later
/* Which heaps there are, and who may open which. */
#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

#include "lib.h"

static struct zcbuf_heap_info *find(struct zcbuf_heap_info *infos, int count,
				    const char *name)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(infos[i].name, name))
			return &infos[i];
	return NULL;
}

static void listing(struct zcbuf_ctx *ctx)
{
	struct zcbuf_heap_info *infos, *zcbuf;
	int count = (int)must(zcbuf_heap_list(ctx, &infos));
	bool ordered = true;

	for (int i = 1; i < count; i++)
		ordered &= infos[i - 1].backend <= infos[i].backend;
	ok(ordered, "heaps are listed in the order of their backends");
	ok(!strcmp(infos[0].name, "zcbuf-system"), "zcbuf-system is the first");
	ok(!strcmp(infos[count - 1].name, "memfd") && !infos[count - 1].node[0],
	   "memfd is the last, and needs no node");

	zcbuf = &infos[0];
	ok(zcbuf->backend == ZCBUF_BACKEND_ZCBUF && zcbuf->kind == ZCBUF_HEAP_SYSTEM &&
		   zcbuf->cache_mode == ZCBUF_CACHED && zcbuf->status == 0,
	   "zcbuf-system is a cached system heap that root may use");
	ok(!strcmp(zcbuf->node, "/dev/dma_heap/zcbuf-system"), "its node is told");
	ok(zcbuf->max_size > 1 << 20 && zcbuf->max_alignment >= 4096,
	   "its limits are told");
	ok(zcbuf->capabilities & ZCBUF_HEAP_CAP_PIN,
	   "it says that its mappings can be pinned");
	ok((access("/dev/dma_heap/system", F_OK) == 0) == !!find(infos, count, "system"),
	   "a system heap of the kernel is listed where there is one");
	ok((access("/dev/udmabuf", F_OK) == 0) == !!find(infos, count, "udmabuf"),
	   "udmabuf is listed where there is one");

	for (int i = 0; i < count; i++) {
		struct zcbuf_heap *heap;

		if (infos[i].status)
			continue;
		if (returns(zcbuf_heap_open(ctx, infos[i].name, &heap), 0,
			    "%s can be opened by its name", infos[i].name))
			zcbuf_heap_unref(heap);
	}
	free(infos);
}

static void use_is_counted(struct zcbuf_ctx *ctx)
{
	struct zcbuf_heap_info *before, *during;
	struct zcbuf_buffer *buffer;

	must(zcbuf_heap_list(ctx, &before));
	buffer = new_buffer(ctx, "zcbuf-system", 1 << 20);
	must(zcbuf_heap_list(ctx, &during));
	ok(during->used_bytes - before->used_bytes == 1 << 20 &&
		   during->used_buffers - before->used_buffers == 1,
	   "a buffer is counted as use of its heap");
	zcbuf_buffer_unref(buffer);
	free(before);
	free(during);
}

static void wrong_names(struct zcbuf_ctx *ctx)
{
	struct zcbuf_heap *heap = (void *)1;

	forget_log();
	returns(zcbuf_heap_open(ctx, "no-such", &heap), -ENOENT,
		"an unknown heap: -ENOENT");
	ok(logged.errors == 1 && strstr(logged.error, "no-such: no such heap"),
	   "the message names it");
	returns(zcbuf_heap_open(ctx, "zcbuf-no-such", &heap), -ENOENT,
		"an unknown heap of zcbuf: -ENOENT");
	ok(strstr(logged.error, "zcbuf list"), "the message says where to look");
	returns(zcbuf_heap_open(ctx, "", &heap), -ENOENT, "an empty name: -ENOENT");
	ok(heap == (void *)1, "a function that fails writes no result");
}

static void needs(struct zcbuf_ctx *ctx)
{
	struct zcbuf_heap_need need = { 0 };
	struct zcbuf_buffer_info info;
	struct zcbuf_buffer *buffer;
	struct zcbuf_heap *heap;

	need.backends = ZCBUF_BACKEND_FOREIGN;
	returns(zcbuf_heap_open_for(ctx, &need, &heap), -EINVAL,
		"nothing is allocated from 'foreign': -EINVAL");
	need.backends = 1u << 31;
	returns(zcbuf_heap_open_for(ctx, &need, &heap), -EINVAL,
		"unknown backend: -EINVAL");
	need = (struct zcbuf_heap_need){ .cache_mode = 9 };
	returns(zcbuf_heap_open_for(ctx, &need, &heap), -EINVAL,
		"unknown cache mode: -EINVAL");
	need = (struct zcbuf_heap_need){ .capabilities = 1ull << 63 };
	forget_log();
	returns(zcbuf_heap_open_for(ctx, &need, &heap), -ENOENT,
		"a capability that nothing here has: -ENOENT");
	ok(logged.errors == 1 && strstr(logged.error, "0x8000000000000000"),
	   "the message names it");
	need = (struct zcbuf_heap_need){ .backends = ZCBUF_BACKEND_MEMFD,
					 .cache_mode = ZCBUF_WRITE_COMBINED };
	returns(zcbuf_heap_open_for(ctx, &need, &heap), -ENOENT,
		"write-combined memory from memfd: -ENOENT");

	need = (struct zcbuf_heap_need){ .backends = ZCBUF_BACKEND_MEMFD };
	must(zcbuf_heap_open_for(ctx, &need, &heap));
	must(zcbuf_heap_alloc(heap, 1, NULL, &buffer));
	zcbuf_buffer_get_info(buffer, &info);
	ok(info.backend == ZCBUF_BACKEND_MEMFD, "one backend can be demanded");
	zcbuf_buffer_unref(buffer);
	zcbuf_heap_unref(heap);

	need = (struct zcbuf_heap_need){
		.backends = ZCBUF_BACKEND_DMA_HEAP | ZCBUF_BACKEND_UDMABUF |
			    ZCBUF_BACKEND_MEMFD,
		.capabilities = ZCBUF_HEAP_CAP_PIN,
	};
	must(zcbuf_heap_open_for(ctx, &need, &heap));
	must(zcbuf_heap_alloc(heap, 1, NULL, &buffer));
	zcbuf_buffer_get_info(buffer, &info);
	ok(info.backend == ZCBUF_BACKEND_MEMFD,
	   "what cannot be pinned is passed over if that is needed");
	zcbuf_buffer_unref(buffer);
	zcbuf_heap_unref(heap);

	must(zcbuf_heap_open(ctx, NULL, &heap));
	must(zcbuf_heap_alloc(heap, 1, NULL, &buffer));
	zcbuf_buffer_get_info(buffer, &info);
	ok(info.backend == ZCBUF_BACKEND_ZCBUF && !strcmp(info.heap, "zcbuf-system"),
	   "without any need the memory is of zcbuf-system");
	zcbuf_buffer_unref(buffer);
	ok(zcbuf_heap_ref(heap) == heap && !zcbuf_heap_unref(heap) &&
		   !zcbuf_heap_alloc(heap, 1, NULL, &buffer),
	   "a heap stays while there is a reference");
	zcbuf_heap_unref(heap);
	ok(zcbuf_buffer_size(buffer) == 4096, "a buffer outlives its heap");
	zcbuf_buffer_unref(buffer);
	ok(!zcbuf_heap_unref(NULL) && !zcbuf_buffer_unref(NULL) && !zcbuf_ctx_unref(NULL),
	   "NULL may be unref'd");
}

/* A heap of which only the name is known may be memory that no CPU can read. */
static void unknown_heaps(struct zcbuf_ctx *ctx)
{
	static const char node[] = "/dev/dma_heap/protected,test";
	struct zcbuf_heap_need need = { .backends = ZCBUF_BACKEND_DMA_HEAP };
	struct zcbuf_heap_info *infos, *found;
	struct zcbuf_buffer *buffer;
	struct zcbuf_heap *heap;
	int count, r;

	must(mknod(node, S_IFCHR | 0600, makedev(1, 3)));
	count = (int)must(zcbuf_heap_list(ctx, &infos));
	found = find(infos, count, "protected,test");
	ok(found && found->backend == ZCBUF_BACKEND_DMA_HEAP && !found->kind,
	   "a heap of which nothing is known is listed");
	free(infos);

	r = zcbuf_heap_open_for(ctx, &need, &heap);
	ok(r == (access("/dev/dma_heap/system", F_OK) ? -ENOENT : 0),
	   "it is not opened unless it is named");
	if (!r)
		zcbuf_heap_unref(heap);
	must(zcbuf_heap_open(ctx, "protected,test", &heap));
	forget_log();
	returns(zcbuf_heap_alloc(heap, 4096, NULL, &buffer), -ENOTTY,
		"it is opened by its name, and its error comes through");
	ok(logged.errors == 1, "which is logged once");
	zcbuf_heap_unref(heap);
	unlink(node);
}

static int without_permission(void *argument)
{
	struct zcbuf_heap_need need = { .backends = ZCBUF_BACKEND_ZCBUF };
	struct zcbuf_ctx *ctx = new_ctx();
	struct zcbuf_heap_info *infos;
	struct zcbuf_buffer_info info;
	struct zcbuf_buffer *buffer;
	struct zcbuf_heap *heap;

	(void)argument;
	check(!setgroups(0, NULL) && !setgid(65534) && !setuid(65534));
	check(zcbuf_heap_list(ctx, &infos) >= 2);
	check(!strcmp(infos[0].name, "zcbuf-system") && infos[0].status == -EACCES);
	forget_log();
	check(zcbuf_heap_open(ctx, "zcbuf-system", &heap) == -EACCES);
	check(!strcmp(logged.error, "/dev/dma_heap/zcbuf-system: permission denied "
				    "(join group 'video')"));
	forget_log();
	check(zcbuf_heap_open_for(ctx, &need, &heap) == -EACCES && logged.errors == 1);
	check(strstr(logged.error, "join group 'video'"));
	forget_log();
	check(!zcbuf_heap_open(ctx, NULL, &heap) && !logged.errors && logged.infos);
	check(!zcbuf_heap_alloc(heap, 4096, NULL, &buffer));
	check(!zcbuf_buffer_get_info(buffer, &info) && info.backend != ZCBUF_BACKEND_ZCBUF);
	return 0;
}

static int without_module(void *argument)
{
	struct zcbuf_ctx *ctx = new_ctx();
	struct zcbuf_heap_info *infos;
	struct zcbuf_heap *heap;
	int count;

	(void)argument;
	/* A /dev of its own without zcbuf. */
	check(!unshare(CLONE_NEWNS) && !mount("", "/", NULL, MS_PRIVATE | MS_REC, NULL));
	check(!mount("none", "/dev", "tmpfs", 0, NULL));
	forget_log();
	count = zcbuf_heap_list(ctx, &infos);
	check(count == 1 && infos[0].backend == ZCBUF_BACKEND_MEMFD && !logged.errors);
	check(zcbuf_heap_open(ctx, "zcbuf-system", &heap) == -ENOENT && logged.errors == 1);
	check(!strcmp(logged.error,
		      "/dev/zcbuf: no such device (load the module: modprobe zcbuf)"));
	check(!zcbuf_heap_open(ctx, NULL, &heap));
	return 0;
}

static void no_file_descriptors(struct zcbuf_ctx *ctx)
{
	struct zcbuf_heap_info *infos;
	struct zcbuf_heap *heap;
	int fds = open_fds();

	forget_log();
	forbid_fds();
	returns(zcbuf_heap_open(ctx, "zcbuf-system", &heap), -EMFILE,
		"opening without a free file descriptor: -EMFILE");
	ok(logged.errors == 1, "which is logged once");
	returns(zcbuf_heap_open(ctx, NULL, &heap), -EMFILE, "the same for the best heap");
	returns(zcbuf_heap_list(ctx, &infos), -EMFILE, "the same for listing");
	allow_fds();
	ok(open_fds() == fds, "no file descriptor was leaked");
}

int main(void)
{
	struct zcbuf_ctx *ctx = new_ctx();
	int fds = open_fds();
	struct stat st;

	listing(ctx);
	use_is_counted(ctx);
	wrong_names(ctx);
	needs(ctx);
	unknown_heaps(ctx);
	must(stat("/dev/dma_heap/zcbuf-system", &st));
	must(chown("/dev/dma_heap/zcbuf-system", 0, 44)); /* as the udev rule does */
	ok(in_child(without_permission, NULL),
	   "a heap that may not be opened is listed, explained, and fallen back from");
	must(chown("/dev/dma_heap/zcbuf-system", 0, st.st_gid));
	ok(in_child(without_module, NULL), "a module that is not loaded is explained");
	no_file_descriptors(ctx);

	ok(!strcmp(zcbuf_backend_name(ZCBUF_BACKEND_ZCBUF), "zcbuf") &&
		   !strcmp(zcbuf_backend_name(ZCBUF_BACKEND_DMA_HEAP), "dma-heap") &&
		   !strcmp(zcbuf_backend_name(ZCBUF_BACKEND_UDMABUF), "udmabuf") &&
		   !strcmp(zcbuf_backend_name(ZCBUF_BACKEND_MEMFD), "memfd") &&
		   !strcmp(zcbuf_backend_name(ZCBUF_BACKEND_FOREIGN), "foreign"),
	   "backends have names");
	ok(!zcbuf_backend_name(0) && !zcbuf_backend_name(3), "what is no backend has none");
	zcbuf_ctx_unref(ctx);
	ok(open_fds() == fds, "all file descriptors are closed at the end");
	return done_testing();
}
