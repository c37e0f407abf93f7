/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a test program prints: TAP, https://testanything.org.
 *
 *	int main(void)
 *	{
 *		ok(sizeof(short) == 2, "a short has two bytes");
 *		is_errno(close(-1), EBADF, "closing nothing fails");
 *		return done_testing();
 *	}
 *
 * A name says the behaviour that holds. The plan comes last: a program that dies half-way
 * has none, and so has failed. Only the thread of main() may call these, and no forked child.
 */
#ifndef TAP_H
#define TAP_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int tap_count, tap_failures;

/* One line: PREFIX, the formatted text, and whatever there is to say behind it. */
__attribute__((format(printf, 3, 0))) static inline void tap_line(FILE *to, const char *prefix,
								   const char *fmt, va_list args)
{
	fputs(prefix, to);
	vfprintf(to, fmt, args);
	fputc('\n', to);
	fflush(to); /* nothing may be left in the buffer for a child to print again */
}

/* A remark; the harness ignores it. */
__attribute__((format(printf, 1, 2))) static inline void diag(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	tap_line(stdout, "# ", fmt, args);
	va_end(args);
}

/* The test cannot be made here, and why. */
__attribute__((format(printf, 1, 2))) static inline void skip(const char *fmt, ...)
{
	char prefix[32];
	va_list args;

	snprintf(prefix, sizeof(prefix), "ok %d # SKIP ", ++tap_count);
	va_start(args, fmt);
	tap_line(stdout, prefix, fmt, args);
	va_end(args);
}

/* Nothing that follows would make sense: give up, and fail. */
__attribute__((format(printf, 1, 2), noreturn)) static inline void bail(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	tap_line(stdout, "Bail out! ", fmt, args);
	va_end(args);
	exit(1);
}

__attribute__((format(printf, 5, 6))) static inline bool
tap_ok(bool passed, const char *file, int line, const char *source, const char *fmt, ...)
{
	int error = errno;
	char prefix[32];
	va_list args;

	snprintf(prefix, sizeof(prefix), "%sok %d - ", passed ? "" : "not ", ++tap_count);
	va_start(args, fmt);
	tap_line(stdout, prefix, fmt, args);
	va_end(args);
	if (!passed) {
		tap_failures++;
		diag("%s:%d: %s (errno is %d, %s)", file, line, source, error, strerror(error));
	}
	return passed;
}

/* ok(condition, name…): the test passes when CONDITION holds; returns it. */
#define ok(cond, ...) tap_ok((cond), __FILE__, __LINE__, #cond, __VA_ARGS__)

/* is_errno(call, error, name…): CALL must return -1 (or MAP_FAILED) and set errno to ERROR. */
#define is_errno(call, error, ...)                                                             \
	({                                                                                     \
		errno = 0;                                                                     \
		long tap_result = (long)(call);                                                \
		tap_ok(tap_result == -1 && errno == (error), __FILE__, __LINE__,               \
		       #call " = -" #error, __VA_ARGS__);                                      \
	})

/* Print the plan; what main() returns. */
static inline int done_testing(void)
{
	printf("1..%d\n", tap_count);
	return tap_failures ? 1 : 0;
}

#endif /* TAP_H */
