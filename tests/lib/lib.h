/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the library's tests share. */
#ifndef TESTS_LIB_H
#define TESTS_LIB_H

#include <errno.h>
#include <fcntl.h>
#include <libzcbuf.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include <process.h>
#include <tap.h>

/* returns(call, value, name…): CALL must return VALUE; says what it returned instead. */
#define returns(call, value, ...)                                                  \
	({                                                                         \
		long got_ = (call), want_ = (value);                               \
		if (!tap_ok(got_ == want_, __FILE__, __LINE__, #call " = " #value, \
			    __VA_ARGS__))                                          \
			diag("it returned %ld (%s)", got_, strerror((int)-got_));  \
		got_ == want_;                                                     \
	})

/* must(call): CALL must not fail, else nothing that follows would make sense. */
#define must(call)                                                                  \
	({                                                                          \
		long got_ = (call);                                                 \
		if (got_ < 0)                                                       \
			bail("%s:%d: %s: %ld, %s", __FILE__, __LINE__, #call, got_, \
			     strerror(got_ == -1 ? errno : (int)-got_));            \
		got_;                                                               \
	})

/* What the library has logged since forget_log(). */
static struct {
	int errors, infos;
	char error[512], info[512];
} logged;

/* The library calls it from any thread. */
static void keep_log(void *data, int priority, const char *message)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	(void)data;
	pthread_mutex_lock(&lock);
	if (priority == LOG_ERR) {
		logged.errors++;
		strncpy(logged.error, message, sizeof(logged.error) - 1);
	} else if (priority == LOG_INFO) {
		logged.infos++;
		strncpy(logged.info, message, sizeof(logged.info) - 1);
	}
	pthread_mutex_unlock(&lock);
}

static inline void forget_log(void)
{
	memset(&logged, 0, sizeof(logged));
}

static inline struct zcbuf_ctx *new_ctx(void)
{
	struct zcbuf_ctx *ctx;

	must(zcbuf_ctx_new(&ctx));
	zcbuf_ctx_set_log(ctx, keep_log, NULL);
	return ctx;
}

/* A buffer of @size bytes from one heap. */
static inline struct zcbuf_buffer *new_buffer(struct zcbuf_ctx *ctx, const char *heap_name,
					      size_t size)
{
	struct zcbuf_buffer *buffer;
	struct zcbuf_heap *heap;

	must(zcbuf_heap_open(ctx, heap_name, &heap));
	must(zcbuf_heap_alloc(heap, size, NULL, &buffer));
	zcbuf_heap_unref(heap);
	return buffer;
}

static inline unsigned char *mapped(struct zcbuf_buffer *buffer, uint64_t access)
{
	void *data;

	must(zcbuf_buffer_map(buffer, access, &data));
	return data;
}

/* Large contiguous runs are there again after tests that left memory in pieces. */
static inline void compact_memory(void)
{
	FILE *file = fopen("/proc/sys/vm/compact_memory", "w");

	if (!file || fputs("1", file) < 0 || fclose(file))
		bail("memory cannot be compacted: %s", strerror(errno));
}

/* The next file descriptor cannot be had until allow_fds(). */
static inline void forbid_fds(void)
{
	int next = dup(0);
	struct rlimit limit;

	close(next);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = (rlim_t)next;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static inline void allow_fds(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* Runs @code in a child process; true if it returned 0, which _exit() then passes on. */
static inline bool in_child(int (*code)(void *), void *argument)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(code(argument));
	must(waitpid(pid, &status, 0));
	if (WIFSIGNALED(status))
		diag("the child was killed by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status))
		diag("the child exited with %d", WEXITSTATUS(status));
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

/* check(condition): in a child, which must not print TAP: exits with the line if it fails. */
#define check(cond)                                                                  \
	do {                                                                         \
		if (!(cond)) {                                                       \
			fprintf(stderr, "# %s:%d: %s\n", __FILE__, __LINE__, #cond); \
			_exit(99);                                                   \
		}                                                                    \
	} while (0)

#endif /* TESTS_LIB_H */
