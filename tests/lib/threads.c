// SPDX-License-Identifier: LGPL-2.1-or-later
/* One context, one heap and one buffer in many threads at once. */
#include <pthread.h>
#include <stdatomic.h>

#include "lib.h"

#ifdef __SANITIZE_THREAD__ /* ten times slower, and it needs no luck */
#define THREADS 4
#define ROUNDS	20
#else
#define THREADS 8
#define ROUNDS	50
#endif
#define RW (ZCBUF_SYNC_READ | ZCBUF_SYNC_WRITE)

static struct shared {
	struct zcbuf_ctx *ctx;
	struct zcbuf_heap *heap;
	struct zcbuf_buffer *buffer;
	_Atomic(void *) address;
	atomic_int failures, messages;
} shared;

/* Anything that is shared between the threads that log. */
static void count_message(void *count, int priority, const char *message)
{
	(void)priority;
	(void)message;
	atomic_fetch_add((atomic_int *)count, 1);
}

static void *work(void *argument)
{
	struct zcbuf_heap_info *infos;
	struct zcbuf_buffer_info info;
	struct zcbuf_buffer *buffer;
	int failures = 0;
	void *data, *other = NULL;

	(void)argument;
	for (int i = 0; i < ROUNDS; i++) {
		/* All race for the mapping: it must be the same for everybody. */
		failures += !!zcbuf_buffer_map(shared.buffer, RW, &data);
		if (!atomic_compare_exchange_strong(&shared.address, &other, data))
			failures += other != data;
		other = NULL;
		zcbuf_buffer_ref(shared.buffer);
		failures += !!zcbuf_buffer_begin(shared.buffer, RW);
		failures += !!zcbuf_buffer_end(shared.buffer, RW);
		failures += !!zcbuf_buffer_get_info(shared.buffer, &info);
		zcbuf_buffer_unref(shared.buffer);

		zcbuf_heap_ref(shared.heap);
		failures += !!zcbuf_heap_alloc(shared.heap, 65536, NULL, &buffer);
		zcbuf_heap_unref(shared.heap);
		failures += !!zcbuf_buffer_map(buffer, RW, &data);
		memset(data, i, 65536);
		zcbuf_buffer_unref(buffer);

		/* Fails and logs, while others change where the log goes. */
		failures += zcbuf_heap_alloc(shared.heap, 0, NULL, &buffer) != -EINVAL;
		if (i % 10 == 0) {
			zcbuf_ctx_set_log(shared.ctx, i % 20 ? count_message : NULL,
					  &shared.messages);
			failures += zcbuf_heap_list(shared.ctx, &infos) < 1;
			free(infos);
		}
	}
	atomic_fetch_add(&shared.failures, failures);
	return NULL;
}

int main(void)
{
	pthread_t threads[THREADS];
	int fds = open_fds();

	shared.ctx = new_ctx();
	must(zcbuf_heap_open(shared.ctx, NULL, &shared.heap));
	for (int round = 0; round < 4; round++) {
		must(zcbuf_heap_alloc(shared.heap, 2 << 20, NULL, &shared.buffer));
		atomic_store(&shared.address, NULL);
		for (int i = 0; i < THREADS; i++)
			must(-pthread_create(&threads[i], NULL, work, NULL));
		for (int i = 0; i < THREADS; i++)
			pthread_join(threads[i], NULL);
		zcbuf_buffer_unref(shared.buffer);
	}
	returns(atomic_load(&shared.failures), 0,
		"threads may share a context, a heap and a buffer");
	zcbuf_heap_unref(shared.heap);
	zcbuf_ctx_unref(shared.ctx);
	ok(open_fds() == fds, "no file descriptor is left");
	return done_testing();
}
