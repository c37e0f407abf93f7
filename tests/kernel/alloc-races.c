// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory is taken and given back by several threads at once, while the shrinker and the pool's
 * limit take it away, and signals arrive. No page is ever of two buffers, none shows what an
 * earlier one had, and no call ends because of a signal that does not kill.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "zc.h"

#define USERS	4
#define RACE_MS 300

/* What takes chunks of one size, of all, and parts of one: two users then share it. */
static const size_t sizes[] = {
	PAGE, 2 * PAGE, 65536, 65536 + PAGE, 17 * PAGE, 3 * 65536, 2 * MiB, 2 * MiB + PAGE,
};
#define SIZES (sizeof(sizes) / sizeof(*sizes))

static const struct heap *heap;
static atomic_bool over;
static atomic_ulong buffers, shared, stale, refused, signals;

/* The two ends of each page say whose it is. */
static bool pages_are(const volatile uint64_t *words, size_t size, uint64_t value)
{
	for (size_t i = 0; i < size / 8; i += PAGE / 8)
		if (words[i] != value || words[i + PAGE / 8 - 1] != value)
			return false;
	return true;
}

static void mark_pages(volatile uint64_t *words, size_t size, uint64_t value)
{
	for (size_t i = 0; i < size / 8; i += PAGE / 8)
		words[i] = words[i + PAGE / 8 - 1] = value;
}

static void *use(void *number)
{
	uint64_t mark = (uintptr_t)number << 32;
	unsigned int seed = (uintptr_t)number;

	for (; !over; buffers++) {
		size_t size = sizes[rand_r(&seed) % SIZES];
		int fd = alloc(heap, size);
		void *memory;

		if (fd < 0) {
			/* Four of them may want more than a carveout has. */
			refused += errno != ENOMEM;
			continue;
		}
		memory = must_map(fd, size);
		stale += !pages_are(memory, size, 0);
		mark_pages(memory, size, ++mark);
		sched_yield();
		shared += !pages_are(memory, size, mark);
		if (mark % 2)
			close(fd);
		munmap(memory, size);
		if (mark % 2 == 0)
			close(fd);
	}
	return NULL;
}

/* What disturbs the users: each runs until it is told to end. */

static void nobody(pthread_t *users)
{
	(void)users;
	pause_ms(RACE_MS);
}

static void shrinker(pthread_t *users)
{
	(void)users;
	for (double start = seconds(); seconds() - start < RACE_MS / 1e3;)
		write_file("/proc/sys/vm/drop_caches", "2");
}

static void limit(pthread_t *users)
{
	long long before = pool_limit(heap);

	(void)users;
	for (double start = seconds(); seconds() - start < RACE_MS / 1e3;) {
		pool_set_limit(heap, 0);
		pool_set_limit(heap, 1 * MiB);
		sched_yield();
	}
	pool_set_limit(heap, before);
}

static void signaller(pthread_t *users)
{
	for (double start = seconds(); seconds() - start < RACE_MS / 1e3;)
		for (int i = 0; i < USERS; i++)
			pthread_kill(users[i], SIGUSR1);
}

static void count_signal(int number)
{
	(void)number;
	signals++;
}

static void against(const char *whom, void (*disturb)(pthread_t *users))
{
	struct held before = held(heap);
	pthread_t users[USERS];

	over = false;
	buffers = shared = stale = refused = 0;
	for (uintptr_t i = 0; i < USERS; i++)
		pthread_create(&users[i], NULL, use, (void *)(i + 1));
	/* A slow machine needs longer until each had its turns. */
	do
		disturb(users);
	while (buffers < 100 && !shared && !stale && !refused);
	over = true;
	for (int i = 0; i < USERS; i++)
		pthread_join(users[i], NULL);
	diag("%s: %lu buffers", heap->name, buffers);
	ok(!shared, "%s: %s: no two buffers share a page", heap->name, whom);
	ok(!stale, "%s: %s: no new one shows an old one's", heap->name, whom);
	ok(!refused, "%s: %s: each is had, or there is no memory", heap->name, whom);
	ok(held_as(heap, before), "%s: %s: all is given back", heap->name, whom);
}

static void test(const struct heap *each)
{
	heap = each;
	against("users against each other", nobody);
	against("users against the shrinker", shrinker);
	if (pool_bytes(heap) >= 0)
		against("users against the pool's limit", limit);
	against("users who get signals", signaller);
}

int main(void)
{
	struct sigaction action = { .sa_handler = count_signal };

	sigaction(SIGUSR1, &action, NULL);
	for_each_heap(test);
	ok(signals > 100, "%lu signals were handled", signals);
	return done_testing();
}
