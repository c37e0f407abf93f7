// SPDX-License-Identifier: LGPL-2.1-or-later
/* The zcbuf command: finds the subcommand and runs it. */
#include <errno.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "tools.h"

static const char help[] =
	"Usage: zcbuf COMMAND [OPTION…]\n"
	"\n"
	"Looks at and tries out buffers that processes and devices share without a "
	"copy.\n"
	"\n"
	"Commands:\n"
	"  list    the heaps of this machine, and what each can do\n"
	"  alloc   allocate buffers, and show what they are made of\n"
	"  info    describe a buffer, or all buffers of a process\n"
	"  top     every dma-buf of this machine, and who holds it, live\n"
	"  bench   measure what a buffer costs, from each heap\n"
	"  doctor  find out what keeps this user from allocating, and what helps\n"
	"\n"
	"  --help     this, or after a command what that does\n"
	"  --version  which version this is\n"
	"\n"
	"Examples:\n"
	"  zcbuf list                     which memory can I have?\n"
	"  zcbuf alloc 8M                 does allocating work, and from which "
	"heap?\n"
	"  zcbuf alloc --hold --name x 1G keep a buffer, to look at it from "
	"elsewhere\n"
	"  zcbuf info $(pidof myapp)      which buffers does that process hold?\n"
	"  zcbuf top                      who holds which buffers, and what do they "
	"add up to?\n"
	"  zcbuf list --json | jq         the heaps again, for a program\n"
	"  zcbuf doctor                   why can I not allocate?\n"
	"  zcbuf bench                    what does a frame cost, from each of them?\n"
	"\n"
	"Buffers come from the heaps of the module zcbuf, else from other heaps "
	"in\n"
	"/dev/dma_heap, else from /dev/udmabuf, else from a memfd, which no device "
	"can use.\n"
	"Exit status: 0 done, 1 failed, 2 wrong usage. ZCBUF_LOG=debug says "
	"more.\n";

static const struct {
	const char *name;
	int (*run)(struct zcbuf_ctx *ctx, int argc, char **argv);
} commands[] = {
	{ "list", cmd_list }, { "alloc", cmd_alloc }, { "info", cmd_info },
	{ "top", cmd_top },   { "bench", cmd_bench }, { "doctor", cmd_doctor },
};

int failure(const char *format, ...)
{
	va_list args;

	fputs("zcbuf: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return EXIT_FAILURE;
}

int usage_error(const char *subcommand, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "zcbuf %s: ", subcommand);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, " (try 'zcbuf %s --help')\n", subcommand);
	return EXIT_USAGE;
}

bool parse_bytes(const char *text, uint64_t *bytes)
{
	static const char units[] = "KMGT";
	unsigned long long value;
	const char *unit;
	char *end;
	int shift;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	value = strtoull(text, &end, 0);
	if (errno)
		return false;
	unit = *end ? strchr(units, *end) : NULL;
	shift = unit ? 10 * (int)(unit - units + 1) : 0;
	end += unit ? 1 : 0;
	if ((*end && strcmp(end, unit ? "iB" : "B")) || value > UINT64_MAX >> shift)
		return false;
	*bytes = value << shift;
	return true;
}

const char *name_of(const char *const *names, size_t count, uint32_t index)
{
	return index < count ? names[index] : NULL;
}

/* A person at a terminal wants to know what was tried, too, but not time and again. */
static void log_message(void *data, int priority, const char *message)
{
	const char *level = getenv("ZCBUF_LOG");
	static char last[256];

	(void)data;
	if (priority > LOG_INFO && (!level || strcmp(level, "debug")))
		return;
	if (strncmp(message, last, sizeof(last) - 1))
		failure("%s", message);
	strncpy(last, message, sizeof(last) - 1);
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL;
	struct zcbuf_ctx *ctx;
	int r, status;

	setlocale(LC_CTYPE, "C.UTF-8"); /* names are UTF-8, whatever the user's language */
	if (!name) {
		fputs(help, stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
		fputs(help, stdout);
		return EXIT_SUCCESS;
	}
	if (!strcmp(name, "--version")) {
		puts("zcbuf " ZCBUF_VERSION);
		return EXIT_SUCCESS;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(name, commands[i].name))
			continue;
		r = zcbuf_ctx_new(&ctx);
		if (r < 0)
			return failure("%s", strerror(-r));
		zcbuf_ctx_set_log(ctx, log_message, NULL);
		status = commands[i].run(ctx, argc - 1, argv + 1);
		zcbuf_ctx_unref(ctx);
		if (fflush(stdout) || ferror(stdout))
			return failure("standard output: %s", strerror(errno));
		return status;
	}
	failure("%s: no such command (try 'zcbuf --help')", name);
	return EXIT_USAGE;
}
