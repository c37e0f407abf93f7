// SPDX-License-Identifier: GPL-2.0-only
/*
 * 100,000 random steps of two processes, each in a cgroup of its own: they allocate from whatever
 * heap charges, map and write, pass buffers to each other, free them, and have the pools emptied.
 * Whoever holds a buffer, the one who allocated it pays for it, and nobody for one that is free.
 */
#include "cgroup.h"

#define STEPS	   100000
#define CHECK_EACH 5000
#define SLOTS	   48
#define WALKERS	   2

enum verb { ALLOC, WRITE, PASS, FREE };

struct order {
	enum verb verb;
	uint32_t slot, heap;
	uint64_t size;
};

static const char *const cgroups[WALKERS] = { "zcbuf-a", "zcbuf-b" };

static struct walker {
	pid_t pid;
	int orders; /* of which each is answered by the size, or 0 for what failed */
	struct slot {
		uint64_t size; /* 0: none */
		uint64_t cost;
		int payer;
	} slots[SLOTS];
	long long base; /* of its charge */
	uint64_t paid;	/* for the living buffers that it allocated */
} walkers[WALKERS];

static struct heap heaps[16];
static int heap_count;

static uint64_t seed;

static uint32_t any(uint32_t below)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (seed >> 33) % below;
}

static void remember(const struct heap *heap)
{
	if (!heap_can(heap, ZCBUF_HEAP_CAP_CHARGED))
		return;
	heaps[heap_count] = *heap;
	heaps[heap_count].name = heaps[heap_count].is.name;
	heaps[heap_count++].fd = heap_open(heap, O_RDWR);
}

/* The child's part. OTHER is its way to the other child. */
static void walk(int orders, int other)
{
	int fds[SLOTS];
	struct order order;

	memset(fds, -1, sizeof(fds));
	while (read(orders, &order, sizeof(order)) == sizeof(order)) {
		uint64_t done = 0;
		int *fd = &fds[order.slot];
		void *memory;

		switch (order.verb) {
		case ALLOC:
			*fd = alloc(&heaps[order.heap], order.size);
			done = *fd < 0 ? 0 : lseek(*fd, 0, SEEK_END);
			break;
		case WRITE:
			memory = map(*fd, order.size);
			if (memory != MAP_FAILED) {
				memset(memory, order.slot + 1, order.size);
				done = munmap(memory, order.size) == 0;
			}
			break;
		case PASS:
			/* from it, or to it */
			if (*fd >= 0) {
				done = send_fd(other, *fd) && close(*fd) == 0;
				*fd = -1;
			} else {
				*fd = receive_fd(other);
				done = *fd >= 0;
			}
			break;
		case FREE:
			done = close(*fd) == 0;
			*fd = -1;
			break;
		}
		write(orders, &done, sizeof(done));
	}
	_exit(0);
}

static void begin(void)
{
	int others[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, others))
		bail("socketpair: %s", strerror(errno));
	for (int i = 0; i < WALKERS; i++) {
		int orders[2];

		make(cgroups[i]);
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, orders))
			bail("socketpair: %s", strerror(errno));
		walkers[i].pid = fork();
		if (walkers[i].pid == 0) {
			for (int j = 0; j < i; j++)
				close(walkers[j].orders);
			close(orders[0]);
			close(others[!i]);
			enter(cgroups[i]);
			walk(orders[1], others[i]);
		}
		close(orders[1]);
		walkers[i].orders = orders[0];
	}
	close(others[0]);
	close(others[1]);
}

static uint64_t tell(int walker, struct order order)
{
	uint64_t done = 0;

	if (write(walkers[walker].orders, &order, sizeof(order)) != sizeof(order) ||
	    read(walkers[walker].orders, &done, sizeof(done)) != sizeof(done))
		bail("walker %d is gone", walker);
	return done;
}

/* The DMA API takes 2^n pages, whatever is asked for. */
static uint64_t cost(const struct heap *heap, uint64_t size)
{
	uint64_t taken = PAGE;

	if (heap->is.kind != ZCBUF_HEAP_COHERENT)
		return size;
	while (taken < size)
		taken *= 2;
	return taken;
}

/* One step; false if it failed that should not. */
static bool step(void)
{
	int w = any(WALKERS), slot = any(SLOTS), to;
	struct walker *walker = &walkers[w];
	struct slot *at = &walker->slots[slot];
	struct order order = { .slot = slot, .size = at->size };

	if (!order.size) {
		order.heap = any(heap_count);
		/* mostly small ones, as most buffers are */
		order.size = PAGE + any(any(4) ? 128 * 1024 : MiB);
		order.verb = ALLOC;
		at->size = tell(w, order);
		at->cost = cost(&heaps[order.heap], at->size);
		at->payer = w;
		walker->paid += at->cost;
		return at->size >= order.size;
	}
	switch (any(3)) {
	case 0:
		order.verb = WRITE;
		return tell(w, order);
	case 1:
		for (to = 0; to < SLOTS && walkers[!w].slots[to].size; to++)
			;
		if (to == SLOTS)
			return true;
		order.verb = PASS;
		walkers[!w].slots[to] = *at;
		at->size = 0;
		return tell(w, order) &&
		       tell(!w, (struct order){ .verb = PASS, .slot = to });
	default:
		order.verb = FREE;
		walkers[at->payer].paid -= at->cost;
		at->size = 0;
		return tell(w, order);
	}
}

/* What the pools keep is paid for, too: they are emptied. */
static bool all_right(void)
{
	bool right = true;

	for (int i = 0; i < heap_count; i++)
		pool_drain(&heaps[i]);
	for (int w = 0; w < WALKERS; w++)
		right &= about(charge(cgroups[w]), walkers[w].base + walkers[w].paid);
	return right;
}

int main(void)
{
	int failed = 0, wrong = 0;

	cgroups_begin();
	seed = getpid() + time(NULL);
	diag("seed %llu", (unsigned long long)seed);
	for_each_heap(remember);
	begin();
	for (int i = 0; i < heap_count; i++)
		pool_drain(&heaps[i]);
	for (int w = 0; w < WALKERS; w++) {
		/* what a walker has once and for all */
		walkers[w].slots[0].size =
			tell(w, (struct order){ .verb = ALLOC, .size = PAGE });
		walkers[w].slots[0].cost = PAGE;
		walkers[w].slots[0].payer = w;
		walkers[w].base = charge(cgroups[w]) - PAGE;
		walkers[w].paid = PAGE;
	}
	for (int i = 1; i <= STEPS; i++) {
		failed += !step();
		if (i % CHECK_EACH)
			continue;
		wrong += !all_right();
	}
	ok(!failed, "none of %d steps fails", STEPS);
	ok(!wrong, "what is alive is paid for by who allocated it, %d times",
	   STEPS / CHECK_EACH);
	for (int w = 0; w < WALKERS; w++) {
		close(walkers[w].orders);
		ok(end_of(walkers[w].pid) == 0, "walker %d comes to its end", w);
	}
	for (int i = 0; i < heap_count; i++)
		pool_drain(&heaps[i]);
	for (int w = 0; w < WALKERS; w++) {
		ok(about(charge(cgroups[w]), 0), "nothing is left to pay for %s",
		   cgroups[w]);
		ok(drop(cgroups[w]), "which can go");
	}
	return done_testing();
}
