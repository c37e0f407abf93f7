// SPDX-License-Identifier: GPL-2.0-only
/*
 * A buffer is charged to the cgroup of who allocates it, from birth until its memory is freed;
 * whoever else holds it pays nothing. At the limit ALLOC fails and nobody is killed for it; who
 * is killed for another one's memory leaves nothing behind.
 */
#include "cgroup.h"

#define SIZE (16 * MiB)

/* SIZE bytes in as many buffers as the heap needs for them. */
struct some {
	int fds[SIZE / MiB], count;
};

static struct some take(const struct heap *heap, size_t bytes)
{
	size_t each = heap->is.max_size < bytes ? MiB : bytes;
	struct some some = { .count = 0 };

	for (size_t taken = 0; taken < bytes; taken += each) {
		int fd = alloc(heap, each);

		if (fd < 0)
			break;
		some.fds[some.count++] = fd;
	}
	return some;
}

static void give_back(const struct heap *heap, struct some *some)
{
	while (some->count)
		close(some->fds[--some->count]);
	/* What the heap keeps for the same cgroup stays charged to it. */
	pool_drain(heap);
}

static size_t bytes_in(const struct some *some)
{
	size_t bytes = 0;

	for (int i = 0; i < some->count; i++)
		bytes += lseek(some->fds[i], 0, SEEK_END);
	return bytes;
}

static void charged_and_uncharged(const struct heap *heap)
{
	long long before;
	struct some some;

	make("zcbuf-a");
	enter("zcbuf-a");
	before = charge("zcbuf-a");
	some = take(heap, SIZE);
	ok(bytes_in(&some) == SIZE && about(charge("zcbuf-a"), before + SIZE),
	   "%s: a buffer is charged at birth, before it is touched", heap->name);

	void *memory = must_map(some.fds[0], MiB);

	fill(memory, MiB, 1);
	ok(about(charge("zcbuf-a"), before + SIZE), "%s: and no more when it is used",
	   heap->name);
	munmap(memory, MiB);
	give_back(heap, &some);
	ok(about(charge("zcbuf-a"), before), "%s: the charge ends when it is freed",
	   heap->name);
	leave();
	ok(drop("zcbuf-a"), "%s: the cgroup can go", heap->name);
}

static void who_pays(const struct heap *heap)
{
	long long before, other;
	struct some some;
	void *memory;

	make("zcbuf-a");
	make("zcbuf-b");
	enter("zcbuf-a");
	before = charge("zcbuf-a");
	some = take(heap, SIZE);
	enter("zcbuf-b");
	other = charge("zcbuf-b");
	memory = must_map(some.fds[0], MiB);
	fill(memory, MiB, 2);
	ok(about(charge("zcbuf-a"), before + SIZE) && about(charge("zcbuf-b"), other),
	   "%s: who allocated it pays, not who uses it", heap->name);
	munmap(memory, MiB);
	give_back(heap, &some);
	ok(about(charge("zcbuf-a"), before) && about(charge("zcbuf-b"), other),
	   "%s: nobody when another has freed it", heap->name);

	/* What one has freed the other may be given, with its charge. */
	bool right = true;

	for (int round = 0; round < 6; round++) {
		const char *payer = round % 2 ? "zcbuf-b" : "zcbuf-a";
		const char *idler = round % 2 ? "zcbuf-a" : "zcbuf-b";
		long long payers = charge(payer), idlers = charge(idler);

		enter(payer);
		some = take(heap, SIZE);
		right = about(charge(payer), payers + SIZE) &&
			about(charge(idler), idlers) && right;
		give_back(heap, &some);
		right = about(charge(payer), payers) && right;
	}
	ok(right, "%s: two cgroups in turn pay for their own only", heap->name);
	leave();
	ok(drop("zcbuf-a") && drop("zcbuf-b"), "%s: both cgroups can go", heap->name);
}

static void outlives_its_cgroup(const struct heap *heap)
{
	struct held before = held(heap);
	struct some some;
	void *memory;

	make("zcbuf-a");
	enter("zcbuf-a");
	some = take(heap, MiB);
	leave();
	ok(drop("zcbuf-a"), "%s: a cgroup can go before its buffer", heap->name);
	memory = must_map(some.fds[0], MiB);
	fill(memory, MiB, 3);
	ok(is_filled(memory, MiB, 3), "%s: which stays as it is", heap->name);
	munmap(memory, MiB);
	give_back(heap, &some);
	ok(held_as(heap, before), "%s: and is freed as any other", heap->name);
}

/*
 * Linux 7 takes back what a failed vmalloc() had got a moment later, and until then even a file
 * that is opened is too much. Reading one again costs the cgroup nothing.
 */
static void await_charge_below(int current, long long bytes)
{
	char text[32] = "";

	for (int tries = 0; tries < 100; tries++, pause_ms(20))
		if (pread(current, text, sizeof(text) - 1, 0) > 0 && atoll(text) < bytes)
			return;
}

static void limit(const struct heap *heap)
{
	struct held before = held(heap);
	long long base;
	pid_t child;

	make("zcbuf-a");
	write_file(in("zcbuf-a", "memory.max"), "8388608");
	base = charge("zcbuf-a");
	child = fork();
	if (child == 0) {
		struct some some;
		int fd, current = open(in("zcbuf-a", "memory.current"), O_RDONLY);

		/* A page of our own that is copied at the limit would be who is killed for it. */
		mlockall(MCL_CURRENT);
		enter("zcbuf-a");
		await_charge_below(current, 8 * MiB);
		some = take(heap, SIZE);
		if (bytes_in(&some) == SIZE || errno != ENOMEM)
			_exit(1);
		if (!some.count)
			await_charge_below(current, MiB);
		give_back(heap, &some);
		fd = alloc(heap, 2 * MiB);
		if (fd < 0)
			_exit(2);
		_exit(0);
	}
	ok(end_of(child) == 0,
	   "%s: at the limit ALLOC answers ENOMEM, and less can still be had", heap->name);
	ok(event("zcbuf-a", "max") > 0, "%s: it was the limit", heap->name);
	ok(event("zcbuf-a", "oom_kill") == 0, "%s: and nobody was killed", heap->name);
	pool_drain(heap);
	ok(about(charge("zcbuf-a"), base), "%s: nothing stays charged", heap->name);
	ok(held_as(heap, before), "%s: and no buffer stays", heap->name);
	ok(drop("zcbuf-a"), "%s: the cgroup can go", heap->name);
}

/* Until killed: as many buffers as can be had, none, as many as can be had… */
static void take_again_and_again(const struct heap *heap)
{
	for (;;) {
		struct some some = take(heap, SIZE);

		for (int i = 0; i < some.count; i++)
			close(some.fds[i]);
	}
}

/* Until somebody is killed for it: another one, or when that was not enough, who eats. */
static void eat(void)
{
	while (event("zcbuf-a", "oom_kill") == 0)
		memset(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0),
		       1, PAGE);
}

/* Before it can have much. It is the first to be killed there. */
static void send_to_cgroup(pid_t child)
{
	char path[64], pid[16];

	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", child);
	snprintf(pid, sizeof(pid), "%d", child);
	if (!write_file(path, "1000") || !write_file(in("zcbuf-a", "cgroup.procs"), pid))
		bail("child %d cannot be sent to zcbuf-a: %s", child, strerror(errno));
}

static void killed_at_the_limit(const struct heap *heap)
{
	struct held before = held(heap);
	bool killed = true, gone = true;

	for (int round = 0; round < 3; round++) {
		pid_t victim, eater;

		make("zcbuf-a");
		write_file(in("zcbuf-a", "memory.max"), "16777216");
		victim = fork();
		if (victim == 0) {
			mlockall(MCL_CURRENT);
			take_again_and_again(heap);
		}
		send_to_cgroup(victim);
		eater = fork();
		if (eater == 0) {
			enter("zcbuf-a");
			eat();
			_exit(0);
		}
		killed = end_of(victim) == 128 + SIGKILL && killed;
		end_of(eater);
		gone = drop("zcbuf-a") && gone;
	}
	ok(killed, "%s: who allocates when their cgroup's memory ends is killed for it",
	   heap->name);
	ok(held_as(heap, before), "%s: and leaves no buffer", heap->name);
	ok(gone, "%s: nor a charge that keeps the cgroup", heap->name);
}

static void test(const struct heap *heap)
{
	if (!heap_can(heap, ZCBUF_HEAP_CAP_CHARGED)) {
		diag("%s does not say that it charges", heap->name);
		return;
	}
	charged_and_uncharged(heap);
	who_pays(heap);
	outlives_its_cgroup(heap);
	limit(heap);
	killed_at_the_limit(heap);
}

int main(void)
{
	cgroups_begin();
	for_each_heap(test);
	return done_testing();
}
