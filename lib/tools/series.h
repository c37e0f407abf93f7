/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What an operation costs, counted some times and printed as a line of JSON: by 'zcbuf bench',
 * and by those programs in tests/bench/ that need more than a user's machine has.
 */
#ifndef ZCBUF_TOOLS_SERIES_H
#define ZCBUF_TOOLS_SERIES_H

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>

#define SERIES_WARM_UP 3
#define SERIES_ROUNDS  9
#define SERIES_LENGTH  (SERIES_WARM_UP + SERIES_ROUNDS)

/* All zero: nothing counted yet. */
struct series {
	uint64_t cost[SERIES_LENGTH]; /* nanoseconds */
	unsigned int count;
	long faults; /* the last time */
	int error;   /* errno, if it failed */
};

struct series_mark {
	uint64_t time;
	long faults;
};

static inline uint64_t series_now(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static inline long series_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt + usage.ru_majflt;
}

static inline struct series_mark series_begin(clockid_t clock)
{
	struct series_mark mark = { .faults = series_faults() };

	mark.time = series_now(clock);
	return mark;
}

static inline void series_add(struct series *series, uint64_t cost, long faults)
{
	series->cost[series->count++] = cost;
	series->faults = faults;
}

static inline void series_end(struct series *series, clockid_t clock,
			      struct series_mark mark, bool failed)
{
	uint64_t cost = series_now(clock) - mark.time;

	if (failed)
		series->error = errno;
	series_add(series, cost, series_faults() - mark.faults);
}

/* The value of CALL, which is -1 if it fails; what it costs by CLOCK goes to SERIES. */
#define COUNTED_BY(clock, series, call)                                                  \
	({                                                                               \
		struct series_mark counted_mark = series_begin(clock);                   \
		__auto_type counted_result = (call);                                     \
                                                                                         \
		series_end(series, clock, counted_mark, (intptr_t)counted_result == -1); \
		counted_result;                                                          \
	})

#define COUNTED(series, call) COUNTED_BY(CLOCK_MONOTONIC, series, call)

static inline int series_compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Sorts the costs, for there is nothing to do with them but look at the middle and the ends. */
static inline uint64_t series_median(struct series *series)
{
	qsort(series->cost, series->count, sizeof(series->cost[0]), series_compare);
	return series->cost[series->count / 2];
}

static inline void series_print(struct series *series, const char *peer,
				const char *operation, const char *state, uint64_t size)
{
	struct utsname machine;
	uint64_t median;

	if (!series->count)
		return;
	uname(&machine);
	printf("{\"kernel\": \"%s\", \"peer\": \"%s\", \"operation\": \"%s\", "
	       "\"state\": \"%s\", \"size\": %" PRIu64 ", ",
	       machine.release, peer, operation, state, size);
	if (series->error) {
		printf("\"error\": \"%s\"}\n", strerrorname_np(series->error));
		return;
	}
	median = series_median(series);
	printf("\"median\": %" PRIu64 ", \"min\": %" PRIu64 ", \"max\": %" PRIu64
	       ", \"rounds\": %u, \"faults\": %ld}\n",
	       median, series->cost[0], series->cost[series->count - 1], series->count,
	       series->faults);
}

#endif /* ZCBUF_TOOLS_SERIES_H */
