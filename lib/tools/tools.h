/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The zcbuf command: what its subcommands share. */
#ifndef ZCBUF_TOOLS_H
#define ZCBUF_TOOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libzcbuf.h"

#define EXIT_USAGE 2

/* Subcommands: return the exit status. argv[0] is the subcommand's name. */
int cmd_alloc(struct zcbuf_ctx *ctx, int argc, char **argv);
int cmd_bench(struct zcbuf_ctx *ctx, int argc, char **argv);
int cmd_doctor(struct zcbuf_ctx *ctx, int argc, char **argv);
int cmd_info(struct zcbuf_ctx *ctx, int argc, char **argv);
int cmd_list(struct zcbuf_ctx *ctx, int argc, char **argv);
int cmd_top(struct zcbuf_ctx *ctx, int argc, char **argv);

/* Prints "zcbuf: MESSAGE" to stderr and returns EXIT_FAILURE. */
__attribute__((format(printf, 1, 2))) int failure(const char *format, ...);

/* The same for a wrong command line: adds where the right one is explained. */
__attribute__((format(printf, 2, 3))) int usage_error(const char *subcommand,
						      const char *format, ...);

/* "64", "0x40", "4K", "8M", "1G", "1GiB": false if it is nothing of these, or
 * too much. */
bool parse_bytes(const char *text, uint64_t *bytes);

/* The name of @count names at @index, or NULL. */
const char *name_of(const char *const *names, size_t count, uint32_t index);

#endif /* ZCBUF_TOOLS_H */
