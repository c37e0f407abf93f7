// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a heap keeps of freed memory: no byte of it is ever seen again, no page of it that
 * somebody still holds, and none by another cgroup. It is never more than pool_limit, and goes
 * when memory is short, when its cgroup dies and when somebody says so.
 */
#include <liburing.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "cgroup.h"

#define LARGE (2 * MiB)

static void fill_and_free(const struct heap *heap, size_t size)
{
	int fd = must_alloc(heap, size);
	void *memory = must_map(fd, size);

	memset(memory, 0xff, size);
	munmap(memory, size);
	close(fd);
}

static bool born_zero(const struct heap *heap, size_t size)
{
	int fd = must_alloc(heap, size);
	void *memory = must_map(fd, size);
	bool zero = is_zero(memory, size);

	memset(memory, 0xff, size);
	munmap(memory, size);
	close(fd);
	return zero;
}

/* The heap keeps BYTES more than BEFORE, or will do so in a moment. */
static bool keeps(const struct heap *heap, long long before, long long bytes)
{
	for (int tries = 0; tries < 50; tries++, pause_ms(20))
		if (pool_bytes(heap) == before + bytes)
			return true;
	diag("%lld bytes are kept, before there were %lld", pool_bytes(heap), before);
	return false;
}

static void kept_and_given_again(const struct heap *heap)
{
	int fd;

	pool_drain(heap);
	ok(pool_bytes(heap) == 0, "%s: a pool can be drained", heap->name);
	fill_and_free(heap, 3 * LARGE + 5 * 65536 + 7 * PAGE);
	ok(keeps(heap, 0, 3 * LARGE + 5 * 65536 + 7 * PAGE),
	   "%s: freed chunks of all sizes are kept", heap->name);
	fd = must_alloc(heap, 3 * LARGE + 5 * 65536 + 7 * PAGE);
	/* All but those that are just being zeroed: one of each size, one after the other. */
	ok(pool_bytes(heap) <= (long long)(LARGE + 65536 + PAGE), "%s: and given again",
	   heap->name);
	close(fd);
	ok(pool_limit(heap) > 0 && pool_bytes(heap) <= pool_limit(heap),
	   "%s: there is a limit from the beginning", heap->name);
}

static void counted_as_available(const struct heap *heap)
{
	long long reclaimable, available, now, gained = LLONG_MAX;
	bool counted = false;

	/* Others give memory back, too, while the pool does: but not each time. */
	for (int tries = 0; tries < 5 && (!counted || gained >= 48 * 1024); tries++) {
		pool_drain(heap);
		reclaimable = number_in("/proc/meminfo", "KReclaimable");
		fill_and_free(heap, 64 * MiB);
		now = number_in("/proc/meminfo", "KReclaimable");
		counted = counted || llabs(now - reclaimable - 64 * 1024) < 8 * 1024;
		available = number_in("/proc/meminfo", "MemAvailable");
		pool_drain(heap);
		now = number_in("/proc/meminfo", "MemAvailable");
		if (now - available < gained)
			gained = now - available;
	}
	ok(counted, "%s: what is kept counts as reclaimable", heap->name);
	ok(gained < 48 * 1024, "%s: so that most of it is available memory: +%lld KiB",
	   heap->name, gained);
}

/* Sizes that take chunks of each kind, and leave some of each behind. */
static const size_t sizes[] = {
	PAGE,	       64 * 1024,    LARGE,	    3 * LARGE + PAGE,
	15 * PAGE,     LARGE - PAGE, 65536 + PAGE,  PAGE,
	LARGE + 65536, 17 * PAGE,    3 * 64 * 1024, 2 * LARGE - PAGE,
};
#define SIZES (sizeof(sizes) / sizeof(*sizes))

/* All memory of the heap has been ones; @ms lets the thread zero some of it, or none. */
static bool all_born_zero(const struct heap *heap, int ms)
{
	bool zero = true;

	for (size_t i = 0; i < SIZES; i++)
		fill_and_free(heap, sizes[i]);
	for (int round = 0; round < 20; round++)
		for (size_t i = 0; i < SIZES; i++) {
			if (ms && i % 4 == 0)
				pause_ms(ms);
			zero = born_zero(heap, sizes[(i * 5 + round) % SIZES]) && zero;
		}
	return zero;
}

static void never_seen_again(const struct heap *heap)
{
	long long limit = pool_limit(heap);

	ok(all_born_zero(heap, 0), "%s: what is given again at once is zero", heap->name);
	ok(all_born_zero(heap, 7), "%s: what is given again later is zero", heap->name);
	pool_set_limit(heap, 3 * MiB);
	ok(all_born_zero(heap, 1), "%s: so it is when there is little room", heap->name);
	pool_set_limit(heap, limit);

	/* Those who are killed while they allocate leave chunks half-zeroed, if it can be. */
	bool zero = true;

	for (int round = 0; round < 40; round++) {
		pid_t child;

		fill_and_free(heap, 24 * MiB);
		child = fork();
		if (child == 0)
			for (;;)
				close(alloc(heap, 20 * MiB));
		pause_ms(round % 10);
		kill(child, SIGKILL);
		end_of(child);
		zero = born_zero(heap, 4 * MiB + PAGE) && zero;
	}
	ok(zero, "%s: and when somebody was killed while allocating it", heap->name);

	/* Another user of the same cgroup does get the memory, but nothing that was in it. */
	for (int round = 0; round < 10; round++) {
		pid_t child;

		fill_and_free(heap, 8 * MiB);
		child = fork();
		if (child == 0)
			_exit(setresgid(65534, 65534, 65534) ||
			      setresuid(65534, 65534, 65534) || !born_zero(heap, 8 * MiB));
		zero = end_of(child) == 0 && zero;
	}
	ok(zero, "%s: and when it was another user's", heap->name);

	/* Memory that went through reclaim, in the middle of being zeroed or not. */
	for (int round = 0; round < 10; round++) {
		fill_and_free(heap, 24 * MiB);
		write_file("/proc/sys/vm/drop_caches", "2");
		zero = born_zero(heap, 4 * MiB + PAGE) && zero;
	}
	ok(zero, "%s: and when it was taken away from the pool", heap->name);
}

/* Pages that are held by HOLD do not go back; the chunks around them do. */
static void held_pages(const struct heap *heap)
{
	size_t size = 3 * LARGE;
	struct iovec iov = { .iov_len = PAGE };
	char *memory, copy[PAGE];
	int fd, pipes[2];
	long long before;

	/* Whatever is smaller than a large chunk must not blur the sum. */
	pool_drain(heap);
	fd = must_alloc(heap, size);
	if (info(fd).min_chunk < LARGE) {
		skip("%s: no large chunks here", heap->name);
		close(fd);
		return;
	}
	if (pipe2(pipes, O_CLOEXEC))
		bail("no pipe");
	memory = must_map(fd, size);
	fill(memory, size, 1);
	iov.iov_base = memory + LARGE + 7 * PAGE;
	if (vmsplice(pipes[1], &iov, 1, 0) != (ssize_t)PAGE)
		bail("vmsplice: %s", strerror(errno));
	before = pool_bytes(heap);
	munmap(memory, size);
	close(fd);
	ok(keeps(heap, before, size - LARGE),
	   "%s: a chunk of which a pipe has a page stays out", heap->name);
	for (int round = 0; round < 8; round++)
		fill_and_free(heap, size);
	ok(read(pipes[0], copy, PAGE) == (ssize_t)PAGE &&
		   is_filled_from(copy, LARGE + 7 * PAGE, PAGE, 1),
	   "%s: and what is in the pipe stays as it was", heap->name);
	close(pipes[0]);
	close(pipes[1]);
}

static void held_by_uring(const struct heap *heap)
{
	size_t size = 2 * LARGE;
	int fd = must_alloc(heap, size);
	char *memory = must_map(fd, size);
	struct iovec iov = { .iov_base = memory + PAGE, .iov_len = LARGE };
	bool large = info(fd).min_chunk == LARGE;
	struct io_uring ring;
	long long before;
	bool usable;

	usable = io_uring_queue_init(4, &ring, 0) == 0;
	if (!usable || io_uring_register_buffers(&ring, &iov, 1) || !large) {
		skip("%s: io_uring of this kernel registers no buffers of files",
		     heap->name);
		if (usable)
			io_uring_queue_exit(&ring);
		munmap(memory, size);
		close(fd);
		return;
	}
	before = pool_bytes(heap);
	munmap(memory, size);
	close(fd);
	pause_ms(100);
	ok(keeps(heap, before, 0), "%s: what io_uring has registered stays out",
	   heap->name);
	io_uring_queue_exit(&ring);
}

/* A read from the disk is under way when its buffer dies, and others get memory. */
static void held_by_reads(const struct heap *heap)
{
	char path[] = "/mnt/scratch/zcbuf-XXXXXX";
	int file = mkostemp(path, O_DIRECT | O_CLOEXEC), lost = 0, wrong = 0;
	char *source = mmap(NULL, LARGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct io_uring_cqe *cqe;
	struct io_uring ring;

	unlink(path);
	memset(source, 0xaa, LARGE);
	if (pwrite(file, source, LARGE, 0) != (ssize_t)LARGE)
		bail("%s: %s", path, strerror(errno));
	if (io_uring_queue_init(4, &ring, 0)) {
		skip("%s: this kernel has no io_uring", heap->name);
		return;
	}
	for (int round = 0; round < 30; round++) {
		int fd = must_alloc(heap, LARGE), others[3];
		char *memory = must_map(fd, LARGE), *other[3];

		io_uring_prep_read(io_uring_get_sqe(&ring), file, memory, LARGE, 0);
		io_uring_submit(&ring);
		munmap(memory, LARGE);
		close(fd);
		for (int i = 0; i < 3; i++) {
			others[i] = must_alloc(heap, LARGE);
			other[i] = must_map(others[i], LARGE);
		}
		if (io_uring_wait_cqe(&ring, &cqe))
			bail("io_uring: %s", strerror(errno));
		lost += cqe->res != (int)LARGE && cqe->res != -EFAULT;
		io_uring_cqe_seen(&ring, cqe);
		for (int i = 0; i < 3; i++) {
			wrong += !is_zero(other[i], LARGE);
			munmap(other[i], LARGE);
			close(others[i]);
		}
	}
	ok(!wrong && !lost, "%s: a read that outlives its buffer reaches nobody else's",
	   heap->name);
	io_uring_queue_exit(&ring);
	munmap(source, LARGE);
	close(file);
}

static void held_by_a_child(const struct heap *heap)
{
	size_t size = 2 * LARGE + PAGE;
	int fd = must_alloc(heap, size), go[2];
	char *memory = must_map(fd, size), byte = 0;
	long long before = pool_bytes(heap);
	pid_t child;

	if (pipe2(go, O_CLOEXEC))
		bail("no pipe");
	fill(memory, size, 2);
	child = fork();
	if (child == 0) {
		close(fd);
		close(go[1]);
		_exit(read(go[0], &byte, 1) == 1 && is_filled(memory, size, 2) ? 0 : 1);
	}
	munmap(memory, size);
	close(fd);
	for (int round = 0; round < 4; round++)
		fill_and_free(heap, size);
	if (write(go[1], &byte, 1) != 1)
		bail("pipe: %s", strerror(errno));
	ok(end_of(child) == 0, "%s: what a child has mapped stays as it is", heap->name);
	ok(pool_bytes(heap) >= before, "%s: and goes back when it ends", heap->name);
	close(go[0]);
	close(go[1]);
}

static const struct heap *racing;
static atomic_bool over;
static atomic_llong most;

static void *frees_all_the_time(void *arg)
{
	size_t size = (uintptr_t)arg;

	while (!over) {
		int fds[8];

		for (int i = 0; i < 8; i++)
			fds[i] = alloc(racing, size);
		for (int i = 0; i < 8; i++)
			close(fds[i]);
	}
	return NULL;
}

static void *watches(void *arg)
{
	(void)arg;
	while (!over) {
		long long now = pool_bytes(racing);

		if (now > most)
			most = now;
	}
	return NULL;
}

static void bounded(const struct heap *heap)
{
	long long limit = pool_limit(heap);
	pthread_t threads[3];
	bool drained = true;

	pool_set_limit(heap, 5 * MiB + 3);
	ok(pool_limit(heap) == 5 * MiB && pool_bytes(heap) <= 5 * (long long)MiB,
	   "%s: a limit counts at once, in whole pages", heap->name);
	fill_and_free(heap, 16 * MiB);
	ok(pool_bytes(heap) <= 5 * (long long)MiB, "%s: and later", heap->name);

	racing = heap;
	over = false;
	most = 0;
	pthread_create(&threads[0], NULL, frees_all_the_time, (void *)LARGE);
	pthread_create(&threads[1], NULL, frees_all_the_time,
		       (void *)(LARGE + 65536 + PAGE));
	pthread_create(&threads[2], NULL, watches, NULL);
	pause_ms(500);
	/* What is being given back is no more in the pool than what has been. */
	ok(most <= 5 * (long long)MiB + 4 * (long long)LARGE, "%s: also for many at once",
	   heap->name);
	diag("%s: %lld bytes at most", heap->name, (long long)most);
	for (int round = 0; round < 100; round++) {
		pool_set_limit(heap, 64 * MiB);
		sched_yield();
		pool_set_limit(heap, 0);
		drained = keeps(heap, 0, 0) && drained;
	}
	over = true;
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	ok(drained, "%s: limit 0 empties it, whoever frees memory meanwhile", heap->name);
	pool_set_limit(heap, limit);

	drained = true;
	for (int round = 0; round < 50; round++) {
		fill_and_free(heap, 8 * MiB);
		pause_ms(round % 5);
		pool_set_limit(heap, 0);
		drained = pool_bytes(heap) == 0 && drained;
		pool_set_limit(heap, limit);
	}
	ok(drained, "%s: nothing is left when the write to pool_limit returns", heap->name);

	char path[128];

	snprintf(path, sizeof(path), "/sys/class/zcbuf/%s/pool_limit", heap->name);
	ok(!write_file(path, "many") && !write_file(path, "-1"), "%s: a limit is a number",
	   heap->name);
	ok(pool_limit(heap) == limit, "%s: and stays what it was otherwise", heap->name);
}

static void for_its_cgroup_only(const struct heap *heap)
{
	long long kept, a, b;
	bool right = true;

	pool_drain(heap);
	make("zcbuf-a");
	make("zcbuf-b");
	enter("zcbuf-a");
	a = charge("zcbuf-a");
	fill_and_free(heap, 8 * MiB);
	ok(about(charge("zcbuf-a"), a + 8 * MiB), "%s: what is kept stays charged",
	   heap->name);
	kept = pool_bytes(heap);

	enter("zcbuf-b");
	b = charge("zcbuf-b");
	for (int round = 0; round < 4; round++) {
		int fd = must_alloc(heap, 8 * MiB);

		right = about(charge("zcbuf-b"), b + 8 * MiB) && pool_bytes(heap) == kept &&
			right;
		close(fd);
		right = pool_bytes(heap) == kept + 8 * (long long)MiB && right;
		enter("zcbuf-a");
		fd = must_alloc(heap, 8 * MiB);
		/* One chunk may just be being zeroed, and another have been taken. */
		right = charge("zcbuf-a") < a + 11 * (long long)MiB && right;
		close(fd);
		enter("zcbuf-b");
		right = about(charge("zcbuf-b"), b + 8 * MiB) && right;
		pool_drain(heap);
		right = about(charge("zcbuf-a"), a) && about(charge("zcbuf-b"), b) && right;
		enter("zcbuf-a");
		fill_and_free(heap, 8 * MiB);
		enter("zcbuf-b");
	}
	ok(right, "%s: another cgroup gets none of it", heap->name);

	/* Who moves takes along neither his memory nor its charge. */
	int fd;

	pool_drain(heap);
	enter("zcbuf-a");
	fd = must_alloc(heap, 8 * MiB);
	enter("zcbuf-b");
	close(fd);
	fd = must_alloc(heap, 8 * MiB);
	ok(about(charge("zcbuf-a"), a + 8 * MiB) && about(charge("zcbuf-b"), b + 8 * MiB),
	   "%s: what was allocated here and freed there stays here", heap->name);
	close(fd);
	leave();
	pool_drain(heap);
	ok(drop("zcbuf-a") && drop("zcbuf-b"), "%s: both cgroups can go", heap->name);
}

static void dies_with_its_cgroup(const struct heap *heap)
{
	long long parent;
	bool gone = false;

	pool_drain(heap);
	make("zcbuf-p");
	write_file(in("zcbuf-p", "cgroup.subtree_control"), "+memory");
	parent = charge("zcbuf-p");
	make("zcbuf-p/a");
	enter("zcbuf-p/a");
	fill_and_free(heap, 16 * MiB);
	leave();
	ok(pool_bytes(heap) >= 16 * (long long)MiB && drop("zcbuf-p/a"),
	   "%s: a cgroup can go whose memory is kept", heap->name);
	for (int tries = 0; tries < 100 && !gone; tries++, pause_ms(100))
		gone = pool_bytes(heap) == 0;
	ok(gone, "%s: soon nothing of it is kept", heap->name);
	ok(about(charge("zcbuf-p"), parent), "%s: nor charged", heap->name);
	ok(drop("zcbuf-p"), "%s: its parent can go", heap->name);
}

/* Anonymous memory, touched. */
static bool touched(size_t bytes)
{
	char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return memory != MAP_FAILED;
}

static void gives_way_in_its_cgroup(const struct heap *heap)
{
	pid_t child;

	pool_drain(heap);
	make("zcbuf-a");
	write_file(in("zcbuf-a", "memory.max"), "67108864");
	child = fork();
	if (child == 0) {
		enter("zcbuf-a");
		fill_and_free(heap, 48 * MiB);
		if (pool_bytes(heap) < 40 * (long long)MiB)
			_exit(2);
		_exit(touched(56 * MiB) ? 0 : 1);
	}
	ok(end_of(child) == 0 && event("zcbuf-a", "oom_kill") == 0,
	   "%s: at the limit of a cgroup what is kept gives way", heap->name);
	ok(pool_bytes(heap) <= 16 * (long long)MiB, "%s: and only little is left",
	   heap->name);
	/* For a buffer as for anything else. */
	child = fork();
	if (child == 0) {
		enter("zcbuf-a");
		for (int i = 0; i < 12; i++)
			close(must_alloc(heap, 4 * MiB));
		for (int i = 0; i < 800; i++)
			if (alloc(heap, PAGE) < 0)
				_exit(1);
		for (int i = 0; i < 10; i++)
			if (alloc(heap, 4 * MiB) < 0)
				_exit(2);
		_exit(0);
	}
	ok(end_of(child) == 0, "%s: small chunks for large ones, too", heap->name);
	pool_drain(heap);
	ok(drop("zcbuf-a"), "%s: the cgroup can go", heap->name);
}

static void no_huge_pages(void)
{
	write_file("/proc/sys/vm/nr_hugepages", "0");
}

static void gives_way(const struct heap *heap)
{
	long long limit = pool_limit(heap), kills = number_in("/proc/vmstat", "oom_kill");
	long long kept, free;
	char text[32];
	pid_t child;

	/* Huge pages take memory away without touching it: the rest is filled soon. */
	pool_drain(heap);
	snprintf(text, sizeof(text), "%lld", (free_kib() - 900 * 1024) / 2048);
	write_file("/proc/sys/vm/nr_hugepages", text);
	free = free_kib();
	pool_set_limit(heap, 1024 * (long long)MiB);
	fill_and_free(heap, 512 * MiB);
	kept = pool_bytes(heap);
	ok(kept == 512 * (long long)MiB, "%s: more than half of the memory is kept",
	   heap->name);
	child = fork();
	if (child == 0) {
		write_file("/proc/self/oom_score_adj", "1000");
		_exit(touched((free - 160 * 1024) * 1024) ? 0 : 1);
	}
	ok(end_of(child) == 0, "%s: a process can have nearly all of it", heap->name);
	ok(number_in("/proc/vmstat", "oom_kill") == kills, "%s: nobody is killed",
	   heap->name);
	diag("%s: %lld MiB of %lld are still kept", heap->name, pool_bytes(heap) >> 20,
	     kept >> 20);
	ok(pool_bytes(heap) < kept / 4, "%s: what was kept has gone", heap->name);
	no_huge_pages();
	pool_set_limit(heap, limit);
	pool_drain(heap);
}

/* Who cleans up runs when nobody else wants to. */
static void yields(const struct heap *heap)
{
	FILE *ps = popen("ps -C zcbuf-pool -o cls=", "re");
	char text[16] = "";

	ok(ps && fgets(text, sizeof(text), ps) && strstr(text, "IDL"),
	   "%s: the thread that zeroes yields to everything", heap->name);
	pclose(ps);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);

	if (pool_bytes(heap) < 0)
		return;
	kept_and_given_again(heap);
	counted_as_available(heap);
	never_seen_again(heap);
	held_pages(heap);
	held_by_uring(heap);
	held_by_reads(heap);
	held_by_a_child(heap);
	bounded(heap);
	for_its_cgroup_only(heap);
	dies_with_its_cgroup(heap);
	gives_way_in_its_cgroup(heap);
	gives_way(heap);
	yields(heap);
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

int main(void)
{
	atexit(no_huge_pages);
	cgroups_begin();
	for_each_heap(test);
	return done_testing();
}
