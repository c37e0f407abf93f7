// SPDX-License-Identifier: GPL-2.0-only
/*
 * Limits in /sys/class/zcbuf/, which may change at any time: of all living buffers, of a heap's,
 * of a user's. Whoever is above one gets EDQUOT, and nobody loses what they have.
 */
#include <grp.h>
#include <pthread.h>
#include <stdatomic.h>

#include "zc.h"

#define SIZE (16 * PAGE)
#define MOST 64 /* buffers, in any part of this */

/* What DIRECTORY/ATTRIBUTE says, or is told. */
static bool says(const char *directory, const char *attribute, const char *value)
{
	char path[128], now[64];

	snprintf(path, sizeof(path), "/sys/class/zcbuf/%s/%s", directory, attribute);
	if (!read_file(path, now, sizeof(now)))
		bail("%s: %s", path, strerror(errno));
	now[strcspn(now, "\n")] = 0;
	return !strcmp(now, value);
}

static int tell(const char *directory, const char *attribute, const char *value)
{
	char path[128];
	int fd, error = 0;

	snprintf(path, sizeof(path), "/sys/class/zcbuf/%s/%s", directory, attribute);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (write(fd, value, strlen(value)) < 0)
		error = -1;
	close(fd);
	return error;
}

static void allow(const char *directory, const char *attribute, uint64_t bytes)
{
	char value[32];

	snprintf(value, sizeof(value), "%llu\n", (unsigned long long)bytes);
	if (tell(directory, attribute, value))
		bail("%s/%s: %s", directory, attribute, strerror(errno));
}

/* As many buffers as there may be, up to MOST; then what the one after them was told. */
static int alloc_all(const struct heap *heap, int *fds, int *error)
{
	int count = 0;

	while (count < MOST && (fds[count] = alloc(heap, SIZE)) >= 0)
		count++;
	*error = count < MOST ? errno : 0;
	return count;
}

static void close_all(const int *fds, int count)
{
	while (count)
		close(fds[--count]);
}

/* Exactly as many buffers as the limit says, and one more for each that is freed. */
static void bounds(const struct heap *heap, const char *directory, const char *attribute,
		   const char *what, uint64_t used)
{
	int fds[MOST], error, count;
	struct held before = held(heap);

	allow(directory, attribute, used + 3 * SIZE);
	count = alloc_all(heap, fds, &error);
	ok(count == 3 && error == EDQUOT,
	   "%s: %s bounds it: 3 buffers, then EDQUOT (%d, %s)", heap->name, what, count,
	   strerror(error));
	close(fds[--count]);
	/* The buffer goes when its file does, a moment after close(). */
	for (int tries = 0; tries < 100 && (fds[count] = alloc(heap, SIZE)) < 0; tries++)
		pause_ms(10);
	ok(fds[count] >= 0, "%s: %s: for one that is freed there is another", heap->name,
	   what);
	count += fds[count] >= 0;
	allow(directory, attribute, 0);
	ok(alloc(heap, SIZE) == -1 && errno == EDQUOT, "%s: %s: lowered, it refuses all",
	   heap->name, what);
	ok(info(fds[0]).size == SIZE, "%s: %s: and takes nothing away", heap->name, what);
	ok(tell(directory, attribute, "max") == 0 && says(directory, attribute, "max"),
	   "%s: %s: there may be none", heap->name, what);
	fds[count] = alloc(heap, SIZE);
	ok(fds[count] >= 0, "%s: %s: and then there is none", heap->name, what);
	close_all(fds, count + 1);
	ok(held_as(heap, before), "%s: %s: nothing is left behind", heap->name, what);
}

static uint64_t used_by_all(void)
{
	struct zcbuf_ioc_heap heap = { .index = 0 };
	uint64_t used = 0;

	while (ioctl(control(), ZCBUF_IOC_HEAPS, &heap) == 0) {
		used += heap.used_bytes;
		heap = (struct zcbuf_ioc_heap){ .index = heap.index + 1 };
	}
	return used;
}

static void values(const struct heap *heap, const char *directory, const char *attribute)
{
	const char *bad[] = { "-1", "10 MB", "0x", "max 1", "18446744073709551616" };
	size_t refused = 0;
	pid_t child;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		refused += tell(directory, attribute, bad[i]) == -1;
	ok(refused == sizeof(bad) / sizeof(*bad) && says(directory, attribute, "max"),
	   "%s: %s/%s takes nothing but a number or max", heap->name, directory, attribute);
	child = fork();
	if (child == 0) {
		if (setgroups(0, NULL) || setresuid(65534, 65534, 65534))
			_exit(99);
		_exit(tell(directory, attribute, "max") == -1 && errno == EACCES ? 0 : 1);
	}
	ok(end_of(child) == 0, "%s: %s/%s is not for everybody to set", heap->name,
	   directory, attribute);
}

/* A buffer that the heap makes larger than was asked for is counted as large as it is. */
static void grown(const struct heap *heap)
{
	struct zcbuf_ioc_alloc arg = { .size = 64 * MiB - PAGE,
				       .fd_flags = O_RDWR | O_CLOEXEC };
	struct held before = held(heap);

	if (heap->is.max_size < 64 * MiB)
		return;
	allow(heap->name, "limit", before.bytes + 64 * MiB - PAGE);
	if (ioctl(heap->fd, ZCBUF_IOC_ALLOC, &arg) == 0) {
		ok(arg.size == 64 * MiB - PAGE, "%s: what does not grow fits exactly",
		   heap->name);
		close(arg.fd);
	} else {
		ok(errno == EDQUOT || errno == ENOMEM,
		   "%s: what grows above the limit is refused", heap->name);
	}
	tell(heap->name, "limit", "max");
	ok(held_as(heap, before), "%s: and nothing of it stays", heap->name);
}

/* Threads that allocate and free at once never have more than the limit, and often all of it. */

static const struct heap *racing;
static atomic_int living, most, refusals;

static void *race(void *argument)
{
	for (int i = 0; i < 100; i++) {
		int fd = alloc(racing, SIZE), now, seen;

		if (fd < 0) {
			refusals += errno == EDQUOT;
			continue;
		}
		now = ++living;
		seen = most;
		while (now > seen && !atomic_compare_exchange_weak(&most, &seen, now))
			;
		pause_ms(1); /* with what it has */
		living--;
		close(fd);
	}
	return argument;
}

static void raced(const struct heap *heap)
{
	struct held before = held(heap);
	pthread_t threads[6];

	racing = heap;
	living = most = refusals = 0;
	allow(heap->name, "limit", before.bytes + 2 * SIZE);
	for (int i = 0; i < 6; i++)
		pthread_create(&threads[i], NULL, race, NULL);
	for (int i = 0; i < 6; i++)
		pthread_join(threads[i], NULL);
	ok(most >= 1 && most <= 2,
	   "%s: 6 threads never have more than 2 buffers (%d; %d refused)", heap->name,
	   most, refusals);
	tell(heap->name, "limit", "max");
	ok(held_as(heap, before), "%s: and what they had is counted down", heap->name);
}

/*
 * As another user, in a group that may open the node: takes as many buffers as it can get,
 * sends them to the socket and ends with their number.
 */
static pid_t user(const struct heap *heap, uid_t uid, int socket_fd)
{
	struct heap mine = *heap;
	int fds[MOST], error, count;
	struct stat node;
	pid_t child;

	child = fork();
	if (child)
		return child;
	fstat(heap->fd, &node);
	if (setgroups(1, &node.st_gid) || setresuid(uid, uid, uid))
		_exit(99);
	mine.fd = heap_open(heap, O_RDWR);
	count = alloc_all(&mine, fds, &error);
	for (int i = 0; i < count; i++)
		if (!send_fd(socket_fd, fds[i]))
			_exit(98);
	_exit(error == EDQUOT ? count : 97);
}

/* Each user has a limit of their own, and is charged for as long as their buffers live. */
static void users(const struct heap *heap)
{
	struct held before = held(heap);
	int sockets[2], fds[9];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets))
		bail("socketpair: %s", strerror(errno));
	allow("zcbuf", "user_limit", 4 * SIZE);
	ok(end_of(user(heap, 1001, sockets[1])) == 4 &&
		   end_of(user(heap, 1002, sockets[1])) == 4,
	   "%s: two users each get what the user's limit says", heap->name);
	fds[8] = alloc(heap, SIZE);
	ok(fds[8] >= 0, "%s: and so does a third", heap->name);
	for (int i = 0; i < 8; i++)
		fds[i] = receive_fd(sockets[0]);
	ok(end_of(user(heap, 1001, sockets[1])) == 0,
	   "%s: what a user passed on before it ended is still the user's", heap->name);
	close_all(fds, 9);
	for (int tries = 0; tries < 100 && heap_now(heap).used_bytes > before.bytes;
	     tries++)
		pause_ms(20);
	ok(end_of(user(heap, 1001, sockets[1])) == 4, "%s: until it is freed", heap->name);
	close(sockets[0]);
	close(sockets[1]);
	tell("zcbuf", "user_limit", "max");
	ok(held_as(heap, before), "%s: nothing is left behind", heap->name);
}

static void test(const struct heap *heap)
{
	values(heap, heap->name, "limit");
	bounds(heap, heap->name, "limit", "the heap's limit", held(heap).bytes);
	bounds(heap, "zcbuf", "limit", "the limit of all heaps", used_by_all());
	bounds(heap, "zcbuf", "user_limit", "the user's limit", used_by_all());
	grown(heap);
	raced(heap);
	users(heap);
}

int main(void)
{
	struct heap none = { .name = "all heaps" };

	values(&none, "zcbuf", "limit");
	values(&none, "zcbuf", "user_limit");
	for_each_heap(test);
	return done_testing();
}
