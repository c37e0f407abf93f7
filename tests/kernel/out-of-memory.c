// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who asks for more memory than there is gets ENOMEM, and nobody is killed for it; who is
 * killed while allocating goes at once. All comes back in both cases.
 */
#include "zc.h"

static bool free_as(long long before)
{
	long long now;

	for (int tries = 0; tries < 30; tries++, pause_ms(100)) {
		now = free_kib();
		if (before - now < 16384)
			return true;
	}
	diag("%lld KiB are free, before there were %lld", now, before);
	return false;
}

/* Buffers as large as the heap makes them, until BYTES are had. */
static int take(const struct heap *heap, uint64_t bytes)
{
	uint64_t most = heap->is.max_size < bytes ? heap->is.max_size : bytes, taken = 0;

	while (taken < bytes) {
		if (alloc(heap, most) < 0)
			return errno;
		taken += most;
	}
	return 0;
}

/*
 * For who takes BYTES: from fork() to the end, or from the kill after DELAY ms. In ms; or
 * NEVER for who had no memory to begin with, and for who was faster.
 */
#define NEVER 1e9
static double time_of(const struct heap *heap, uint64_t bytes, long delay)
{
	pid_t child = fork();
	double start = seconds();

	if (child == 0)
		_exit(take(heap, bytes) ? 1 : 0);
	if (delay) {
		pause_ms(delay);
		start = seconds();
		kill(child, SIGKILL);
	}
	if (end_of(child) != (delay ? 128 + SIGKILL : 0))
		return NEVER;
	return (seconds() - start) * 1e3;
}

/*
 * An allocation that went on to its end would take about as long as one that nobody kills, each
 * time. One that does not may still have to wait for a machine with other things to do.
 */
static void killed(const struct heap *heap)
{
	uint64_t half = number_in("/proc/meminfo", "MemTotal") * 1024ULL / 2;
	struct held before = held(heap);
	long long free = free_kib();
	double whole, least;

	/* The machine itself is slow when a page is touched for the first time. */
	time_of(heap, half, 0);
	least = whole = time_of(heap, half, 0);
	for (int tries = 0; tries < 6 && whole < NEVER; tries++) {
		double left = time_of(heap, half, 1 + whole / (tries % 2 ? 4 : 8));

		least = left < least ? left : least;
	}
	/* Carveouts and CMA have less. */
	if (whole < NEVER)
		ok(least < whole / 3,
		   "%s: who is killed while allocating half of the memory goes at once "
		   "(%.0f ms, not %.0f)",
		   heap->name, least, whole);
	ok(held_as(heap, before), "%s: and leaves no buffer", heap->name);
	ok(free_as(free), "%s: and no page", heap->name);
}

/*
 * Huge pages take memory away without touching it. What is left is enough for all else that
 * runs here, and is taken quickly.
 */
static void leave_only(long long kib)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", (free_kib() - kib) / 2048);
	write_file("/proc/sys/vm/nr_hugepages", text);
}

static void give_back(void)
{
	write_file("/proc/sys/vm/nr_hugepages", "0");
}

static void all_of_it(const struct heap *heap)
{
	uint64_t all = number_in("/proc/meminfo", "MemTotal") * 1024ULL * 2;
	long long kills = number_in("/proc/vmstat", "oom_kill"), free;
	struct held before = held(heap);
	pid_t child;

	leave_only(400 * 1024);
	free = free_kib();
	child = fork();
	if (child == 0) {
		/* What it executes must not be what goes when there is nothing else. */
		mlockall(MCL_CURRENT);
		/* If somebody must be killed, then this. */
		write_file("/proc/self/oom_score_adj", "1000");
		_exit(take(heap, all));
	}
	ok(end_of(child) == ENOMEM, "%s: who wants more than there is gets ENOMEM",
	   heap->name);
	ok(number_in("/proc/vmstat", "oom_kill") == kills, "%s: nobody is killed for it",
	   heap->name);
	ok(held_as(heap, before), "%s: it leaves no buffer", heap->name);
	ok(free_as(free), "%s: and no page", heap->name);
	give_back();
}

static void test(const struct heap *heap)
{
	killed(heap);
	all_of_it(heap);
}

int main(void)
{
	atexit(give_back);
	for_each_heap(test);
	return done_testing();
}
