// SPDX-License-Identifier: LGPL-2.1-or-later
/* The context: the log, and the control node. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "private.h"

/* @data is the lowest priority to show. */
static void log_to_stderr(void *data, int priority, const char *message)
{
	if (priority <= (intptr_t)data)
		fprintf(stderr, "zcbuf: %s\n", message);
}

int zcbuf_ctx_new(struct zcbuf_ctx **result)
{
	const char *level = secure_getenv("ZCBUF_LOG");
	bool all = level && !strcmp(level, "debug");
	struct zcbuf_ctx *ctx = malloc(sizeof(*ctx));

	if (!ctx)
		return -ENOMEM;
	*ctx = (struct zcbuf_ctx){
		.refs = 1,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.log = log_to_stderr,
		.log_data = (void *)(intptr_t)(all ? LOG_DEBUG : LOG_WARNING),
		.control = -1,
	};
	*result = ctx;
	return 0;
}

struct zcbuf_ctx *zcbuf_ctx_ref(struct zcbuf_ctx *ctx)
{
	atomic_fetch_add(&ctx->refs, 1);
	return ctx;
}

struct zcbuf_ctx *zcbuf_ctx_unref(struct zcbuf_ctx *ctx)
{
	if (ctx && atomic_fetch_sub(&ctx->refs, 1) == 1) {
		close_p(&ctx->control);
		pthread_mutex_destroy(&ctx->lock);
		free(ctx);
	}
	return NULL;
}

void zcbuf_ctx_set_log(struct zcbuf_ctx *ctx, zcbuf_log_fn log, void *data)
{
	pthread_mutex_lock(&ctx->lock);
	ctx->log = log;
	ctx->log_data = data;
	pthread_mutex_unlock(&ctx->lock);
}

static void ctx_log_args(struct zcbuf_ctx *ctx, int priority, const char *format,
			 va_list args)
{
	char message[512];
	zcbuf_log_fn log;
	void *data;

	pthread_mutex_lock(&ctx->lock);
	log = ctx->log;
	data = ctx->log_data;
	pthread_mutex_unlock(&ctx->lock);
	if (!log)
		return;
	vsnprintf(message, sizeof(message), format, args);
	log(data, priority, message);
}

void ctx_log(struct zcbuf_ctx *ctx, int priority, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	ctx_log_args(ctx, priority, format, args);
	va_end(args);
}

int ctx_fail(struct zcbuf_ctx *ctx, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	ctx_log_args(ctx, LOG_ERR, format, args);
	va_end(args);
	return error;
}

int ctx_control(struct zcbuf_ctx *ctx)
{
	int fd;

	pthread_mutex_lock(&ctx->lock);
	if (ctx->control < 0)
		ctx->control = open("/dev/zcbuf", O_RDWR | O_CLOEXEC);
	fd = ctx->control < 0 ? -errno : ctx->control;
	pthread_mutex_unlock(&ctx->lock);
	return fd;
}
