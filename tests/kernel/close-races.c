// SPDX-License-Identifier: GPL-2.0-only
/*
 * Threads that close, map, replace and rewrite what another thread is about to use. Nobody
 * knows who wins each race; nothing may break, nothing may stay behind, and what is answered
 * must be one of the documented answers.
 */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "zc.h"

#define SIZE	(4 * PAGE)
#define RACE_MS 150

static const struct heap *heap;
static atomic_bool over;
static atomic_int victim = -1; /* the fd that is fought over */
static atomic_ulong rounds, wrong;

static void *side(void *turn)
{
	while (!over) {
		((void (*)(void))(uintptr_t)turn)();
		rounds++;
	}
	return NULL;
}

/* Turn upon turn of each of two sides, until time is up. */
static void race(void (*one)(void), void (*other)(void))
{
	pthread_t threads[2];

	over = false;
	rounds = wrong = 0;
	pthread_create(&threads[0], NULL, side, (void *)(uintptr_t)one);
	pthread_create(&threads[1], NULL, side, (void *)(uintptr_t)other);
	pause_ms(RACE_MS);
	while (rounds <= 20 && !over)
		pause_ms(RACE_MS);
	over = true;
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
}

/* Documented, or due to the race itself. */
static void allow(int result, int a, int b)
{
	if (result == -1 && errno != a && errno != b) {
		wrong++;
		over = true;
		diag("errno is %d, %s", errno, strerror(errno));
	}
}

/* Side one of most races: the victim is allocated anew and closed again. */
static void alloc_and_close(void)
{
	int fd = alloc(heap, SIZE);

	if (fd < 0) {
		allow(-1, EMFILE, ENOMEM);
		return;
	}
	victim = fd;
	sched_yield();
	close(fd);
}

static void ask(void)
{
	struct zcbuf_ioc_info arg = { .fd = victim };

	allow(ioctl(control(), ZCBUF_IOC_INFO, &arg), EBADF, EINVAL);
}

static void narrow(void)
{
	int fd = view(victim, PAGE, PAGE, ZCBUF_VIEW_READ_ONLY);

	allow(fd, EBADF, EINVAL);
	if (fd >= 0)
		close(fd);
}

static void sync_it(void)
{
	allow(sync_range(victim, 0, PAGE, ZCBUF_SYNC_START | ZCBUF_SYNC_WRITE), EBADF,
	      EINVAL);
	sync_all(victim, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW);
	sync_all(victim, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW);
}

static void map_it(void)
{
	volatile uint64_t *memory = map(victim, SIZE);

	if (memory == MAP_FAILED)
		return;
	if (memory[0] && memory[0] != 1)
		wrong++;
	memory[0] = 1;
	munmap((void *)memory, SIZE);
}

static void poll_and_name(void)
{
	struct pollfd pollfd = { .fd = victim, .events = POLLIN | POLLOUT };
	char name[16];

	poll(&pollfd, 1, 0);
	snprintf(name, sizeof(name), "round %lu", rounds % 100);
	ioctl(victim, DMA_BUF_SET_NAME_A, name);
}

/* Closing what ALLOC is about to return: guess the number, be early. */
static void close_guess(void)
{
	int guess = dup(0);

	close(guess);
	for (int fd = guess; fd < guess + 4; fd++)
		close(fd);
}

static void only_alloc(void)
{
	int fd = alloc(heap, SIZE);

	/* It may have been closed, and another may have the number. */
	allow(fd, EMFILE, ENOMEM);
	if (fd >= 0)
		close(fd);
}

static void only_view(void)
{
	int fd = view(victim, 0, 0, 0);

	allow(fd, EMFILE, EBADF);
	if (fd >= 0)
		close(fd);
}

/* The heap's node finds a buffer while it dies. */
static atomic_ulong offset;

static void alloc_at_offset(void)
{
	struct zcbuf_ioc_alloc arg = { .size = SIZE, .fd_flags = O_RDWR | O_CLOEXEC };

	if (ioctl(heap->fd, ZCBUF_IOC_ALLOC, &arg))
		return;
	offset = arg.mmap_offset;
	sched_yield();
	close(arg.fd);
}

static void map_offset(void)
{
	for (int i = 0; i < 2; i++) {
		/* The one that is, and the one that will be. */
		volatile uint64_t *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
						 MAP_SHARED, heap->fd, offset + i * SIZE);

		if (memory == MAP_FAILED) {
			allow(-1, EINVAL, EINVAL);
			continue;
		}
		if (memory[0] && memory[0] != 2)
			wrong++;
		memory[0] = 2;
		munmap((void *)memory, SIZE);
	}
}

/* The argument changes while the kernel reads it: it must read it once. */
static struct zcbuf_ioc_alloc shared;

static void flip_argument(void)
{
	memset(shared.name, rounds % 2 ? 'x' : 0, sizeof(shared.name));
	shared.size = rounds % 3 ? SIZE : 0;
	shared.alignment = rounds % 5 ? 0 : 3;
	shared.flags = rounds % 7 ? 0 : 1ULL << 40;
	shared.fd_flags = O_RDWR;
}

static void alloc_flipping(void)
{
	int result = ioctl(heap->fd, ZCBUF_IOC_ALLOC, &shared);
	int fd = shared.fd;

	allow(result, EINVAL, ENOMEM);
	if (result == 0) {
		const char *name = info(fd).name;

		if (strlen(name) != 0 && strspn(name, "x") != strlen(name))
			wrong++;
		close(fd);
	}
}

/* A mapping is split and torn while another thread counts and faults. */
static char *torn;

static void tear(void)
{
	munmap(torn + PAGE, PAGE);
	madvise(torn, SIZE, MADV_DONTNEED);
	mmap(torn, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, victim, 0);
}

static void count_and_fault(void)
{
	volatile char byte = *torn;

	(void)byte;
	if (info(victim).user_mappings > 3)
		wrong++;
}

static void one(const char *name, void (*first)(void), void (*second)(void))
{
	struct held before = held(heap);

	race(first, second);
	ok(!wrong && rounds > 20, "%s: %s", heap->name, name);
	ok(held_as(heap, before), "%s: and all is given back", heap->name);
}

static void test(const struct heap *each)
{
	heap = each;
	one("close() against INFO", alloc_and_close, ask);
	one("close() against VIEW", alloc_and_close, narrow);
	one("close() against SYNC", alloc_and_close, sync_it);
	one("close() against mmap()", alloc_and_close, map_it);
	one("close() against poll() and SET_NAME", alloc_and_close, poll_and_name);
	one("close() against mmap() on the heap's node", alloc_at_offset, map_offset);

	/* Whoever guesses must have no fd of ours to close by mistake. */
	one("close() of the fd that ALLOC is about to return", only_alloc, close_guess);
	victim = must_alloc(heap, SIZE);
	one("close() of the fd that VIEW is about to return", only_view, close_guess);
	close(victim);

	flip_argument();
	one("ALLOC while its argument changes", alloc_flipping, flip_argument);

	victim = must_alloc(heap, SIZE);
	torn = must_map(victim, SIZE);
	one("mappings split, dropped and made anew against faults and INFO", tear,
	    count_and_fault);
	munmap(torn, SIZE);
	close(victim);
}

int main(void)
{
	control();
	for_each_heap(test);
	return done_testing();
}
