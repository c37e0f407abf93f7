// SPDX-License-Identifier: LGPL-2.1-or-later
/* What one frame costs each side in the steady state: system calls, mappings, allocations. */
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "channel.h"

#define WARM_UP 50
#define FRAMES	500

/* ---- counting --------------------------------------------------------------------------- */

struct cost {
	unsigned int calls, mappings, allocations;
};

static atomic_uint allocations;

#ifndef SANITIZED
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

void *malloc(size_t size)
{
	allocations++;
	return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	allocations++;
	return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
	allocations++;
	return __libc_realloc(old, size);
}
#endif

/* The part between two calls of this one is counted. */
static void mark(void)
{
	syscall(SYS_getppid);
}

/* Runs @role in a process of its own, and counts its system calls between two marks. */
static struct cost cost_of(void (*role)(void *, atomic_uint *), void *argument)
{
	atomic_uint *counted =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct cost cost = { 0 };
	pid_t pid = must(fork());
	int status, marks = 0;

	if (!pid) {
		ptrace(PTRACE_TRACEME);
		raise(SIGSTOP);
		role(argument, counted);
		_exit(0);
	}
	must(waitpid(pid, &status, 0));
	must(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL));
	for (;;) {
		struct __ptrace_syscall_info info;
		int signal = 0;

		if (WIFSTOPPED(status) && WSTOPSIG(status) != (SIGTRAP | 0x80) &&
		    WSTOPSIG(status) != SIGSTOP)
			signal = WSTOPSIG(status);
		must(ptrace(PTRACE_SYSCALL, pid, 0, signal));
		must(waitpid(pid, &status, 0));
		if (WIFEXITED(status) || WIFSIGNALED(status))
			break;
		if (WSTOPSIG(status) != (SIGTRAP | 0x80))
			continue;
		must(ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info));
		if (info.op != PTRACE_SYSCALL_INFO_ENTRY)
			continue;
		if (info.entry.nr == SYS_getppid) {
			marks++;
		} else if (marks == 1) {
			cost.calls += info.entry.nr != SYS_clock_nanosleep; /* pace() */
			cost.mappings += info.entry.nr == SYS_mmap;
		}
	}
	if (marks != 2 || status)
		bail("the process that was counted ended early (%d, %d)", marks, status);
	cost.allocations = *counted;
	munmap(counted, 4096);
	return cost;
}

/* ---- the two sides ---------------------------------------------------------------------- */

struct setting {
	char address[64];
	unsigned int buffers;
	unsigned int metadata;
};

static void pace(void)
{
	clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ .tv_nsec = 2000000 }, NULL);
}

static void begin(unsigned int frame, atomic_uint *counted)
{
	if (frame == WARM_UP) {
		*counted = allocations;
		mark();
	}
}

static void end(unsigned int frame, atomic_uint *counted)
{
	if (frame == WARM_UP + FRAMES) {
		mark();
		*counted = allocations - *counted;
	}
}

static void produce(void *argument, atomic_uint *counted)
{
	static char metadata[4096];
	const struct setting *setting = argument;
	struct zcbuf_producer_event event;
	struct stage s;

	stage_open(&s, NULL, setting->buffers);
	must(zcbuf_producer_listen(s.producer, setting->address, 0));
	until(&s, s.connected == 1);
	for (unsigned int i = 0; i <= WARM_UP + FRAMES; i++) {
		struct zcbuf_frame frame = { .metadata = metadata,
					     .metadata_size = setting->metadata };

		begin(i, counted);
		end(i, counted);
		while (!s.n_free &&
		       zcbuf_producer_next_event(s.producer, PATIENCE_MS, &event) == 1)
			stage_event(&s, &event);
		frame.buffers[0] = s.free[--s.n_free];
		must(zcbuf_producer_send(s.producer, &frame, PATIENCE_MS));
		pace();
	}
	stage_close(&s);
}

static void consume(void *argument, atomic_uint *counted)
{
	const struct setting *setting = argument;
	struct zcbuf_consumer_config config = { .flags = ZCBUF_CONSUMER_RECONNECT,
						.retry_ms = 10 };
	struct zcbuf_consumer_event event;
	struct zcbuf_consumer *c;
	unsigned int frames = 0;

	must(zcbuf_consumer_new(new_ctx(), setting->address, &config, &c));
	while (zcbuf_consumer_next_event(c, -1, &event) == 1) {
		if (event.type == ZCBUF_CONSUMER_DISCONNECTED)
			break;
		if (event.type != ZCBUF_CONSUMER_FRAME)
			continue;
		begin(frames, counted);
		must(zcbuf_consumer_give_back(c, event.frame, -1));
		end(frames++, counted);
	}
	zcbuf_consumer_unref(c);
}

static void check_side(const char *side, void (*counted)(void *, atomic_uint *),
		       void (*other)(void *, atomic_uint *), const struct setting *wanted)
{
	static int number;
	struct setting setting = *wanted;
	struct cost cost;
	pid_t pid;

	snprintf(setting.address, sizeof(setting.address), "@zcbuf-cost-%d-%d", getpid(),
		 ++number);
	pid = must(fork());
	if (!pid) {
		atomic_uint nobody_looks;

		other(&setting, &nobody_looks);
		_exit(0);
	}
	cost = cost_of(counted, &setting);
	must(waitpid(pid, NULL, 0));
	/* A machine that stands still for a tenth of a second costs three calls more. */
	ok(cost.calls <= FRAMES * 2 + FRAMES / 10,
	   "%s, %u buffers, %u bytes of metadata: %.2f system calls a frame", side,
	   setting.buffers, setting.metadata, (double)cost.calls / FRAMES);
	ok(!cost.mappings, "%s: no mmap", side);
#ifndef SANITIZED
	ok(!cost.allocations, "%s: no allocation", side);
#endif
}

int main(void)
{
	static const struct setting settings[] = {
		{ .buffers = 2 },
		{ .buffers = 4, .metadata = 200 },
		{ .buffers = 8, .metadata = 4096 },
	};

	for (int i = 0; i < 3; i++) {
		check_side("producer", produce, consume, &settings[i]);
		check_side("consumer", consume, produce, &settings[i]);
	}
	return done_testing();
}
