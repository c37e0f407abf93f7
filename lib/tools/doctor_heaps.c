// SPDX-License-Identifier: LGPL-2.1-or-later
/* A buffer of each heap, zcbuf's and others. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "doctor.h"

/* The buffer is as large as wanted, and given back at once. Returns a negative errno. */
static int try_heap(struct doctor *doctor, const char *name)
{
	static const struct zcbuf_alloc_options options = { .name = "zcbuf doctor" };
	struct zcbuf_buffer *buffer;
	struct zcbuf_heap *heap;
	int r = zcbuf_heap_open(doctor->ctx, name, &heap);

	if (r < 0)
		return r;
	r = zcbuf_heap_alloc(heap, doctor->size, &options, &buffer);
	if (!r)
		zcbuf_buffer_unref(buffer);
	zcbuf_heap_unref(heap);
	return r;
}

static void remedy_failed(struct doctor *doctor, const struct zcbuf_heap_info *heap,
			  int error)
{
	if (error == -EDQUOT && !doctor->is_over_limit)
		remedy(doctor,
		       "this user's buffers are at the limit: free some, or: echo max | "
		       "sudo tee /sys/class/zcbuf/zcbuf/user_limit");
	else if (error == -ENOMEM && heap->kind == ZCBUF_HEAP_CARVEOUT)
		remedy(doctor, "free buffers of it ('zcbuf info PID' shows them)");
	else if (error == -ENOMEM && (heap->capabilities & ZCBUF_HEAP_CAP_CONTIGUOUS))
		remedy(doctor,
		       "echo 1 | sudo tee /proc/sys/vm/compact_memory; or boot with "
		       "cma=256M, or ask for less");
	else if (error == -ENOMEM)
		remedy(doctor, "end programs, or ask for less");
}

/* Returns whether it allocates. */
static bool check_zcbuf_heap(struct doctor *doctor, const struct zcbuf_heap_info *heap)
{
	int r;

	if (heap->status)
		return false; /* which has been said, with the nodes or the permissions */
	if (doctor->size > heap->max_size) {
		finding(doctor, NOTE, "heap", "%s: its largest buffer has %s", heap->name,
			readable_bytes(heap->max_size).text);
		return false;
	}
	if (!doctor->has_room) {
		finding(doctor, NOTE, "heap", "%s: not tried, for memory would not suffice",
			heap->name);
		return false;
	}
	r = try_heap(doctor, heap->name);
	if (r < 0) {
		finding(doctor, FAILURE, "heap", "%s: no buffer of %s: %s", heap->name,
			readable_bytes(doctor->size).text, strerror(-r));
		remedy_failed(doctor, heap, r);
		return false;
	}
	finding(doctor, FINE, "heap", "%s allocates", heap->name);
	return true;
}

/* The user may have these instead, or not: nothing depends on them. */
static void check_other_heap(struct doctor *doctor, const struct zcbuf_heap_info *heap)
{
	const char *name = heap->node[0] ? heap->node : heap->name;
	struct stat node;
	int r;

	if (heap->status == -EACCES && !stat(heap->node, &node)) {
		finding(doctor, NOTE, "heap", "%s, not zcbuf's: permission denied, %s",
			name, why_denied(heap->node, &node).reason);
		return;
	}
	r = heap->status       ? heap->status
	    : doctor->has_room ? try_heap(doctor, heap->name)
			       : 0;
	if (r < 0)
		finding(doctor, NOTE, "heap", "%s, not zcbuf's: no buffer of %s: %s", name,
			readable_bytes(doctor->size).text, strerror(-r));
	else if (!doctor->has_room)
		finding(doctor, NOTE, "heap", "%s, not zcbuf's: not tried", name);
	else if (heap->backend == ZCBUF_BACKEND_MEMFD)
		finding(doctor, FINE, "heap",
			"%s, not zcbuf's, allocates: for processes, not "
			"for devices",
			name);
	else
		finding(doctor, FINE, "heap", "%s, not zcbuf's, allocates", name);
}

static void udmabuf_limits(struct doctor *doctor)
{
	static const char directory[] = "/sys/module/udmabuf/parameters";
	char pieces[32], megabytes[32];

	if (access("/dev/udmabuf", F_OK))
		finding(doctor, NOTE, "heap", "/dev/udmabuf: %s", strerror(errno));
	else if (first_line(pieces, sizeof(pieces), "%s/list_limit", directory) &&
		 first_line(megabytes, sizeof(megabytes), "%s/size_limit_mb", directory))
		finding(doctor, NOTE, "heap",
			"/dev/udmabuf: size_limit_mb %s, list_limit %s", megabytes, pieces);
}

void doctor_heaps(struct doctor *doctor)
{
	struct zcbuf_heap_info *heaps;
	unsigned int allocate = 0;
	int count;

	zcbuf_ctx_set_log(doctor->ctx, NULL, NULL); /* it is all said here */
	count = zcbuf_heap_list(doctor->ctx, &heaps);
	for (int i = 0; i < count; i++) {
		if (heaps[i].backend == ZCBUF_BACKEND_ZCBUF)
			allocate += check_zcbuf_heap(doctor, &heaps[i]);
		else
			check_other_heap(doctor, &heaps[i]);
	}
	if (count >= 0)
		free(heaps);
	udmabuf_limits(doctor);
	if (!allocate && !doctor->failures) {
		finding(doctor, FAILURE, "heap", "none of zcbuf's allocates %s",
			readable_bytes(doctor->size).text);
		remedy(doctor, "ask for less");
	}
}
