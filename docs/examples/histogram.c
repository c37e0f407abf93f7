/* SPDX-License-Identifier: MIT-0 */
/*
 * zcbuf-histogram ADDRESS: how dark and how bright is what a zcbufsink shows? Prints a line
 * for each frame, until the stream ends. A plain C program, and no frame is copied for it.
 */
#include <libzcbuf-channel.h>
#include <stdio.h>
#include <stdlib.h>

#define BINS	  16
#define TRY(call) ((call) < 0 ? exit(1) : (void)0) /* libzcbuf has said why */

static void print_histogram(unsigned long long sequence, const unsigned char *data,
			    size_t size)
{
	static const char *const bars[] = { " ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
	size_t count[BINS] = { 0 }, most = 1;

	for (size_t i = 0; i < size; i++)
		count[data[i] * BINS / 256]++;
	for (int i = 0; i < BINS; i++)
		most = count[i] > most ? count[i] : most;
	printf("%6llu  dark |", sequence);
	for (int i = 0; i < BINS; i++)
		fputs(bars[(count[i] * 8 + most - 1) / most], stdout);
	puts("| bright");
	fflush(stdout);
}

static void look_at(const struct zcbuf_frame *frame)
{
	struct zcbuf_buffer *buffer = frame->buffers[0];
	void *data;

	if (!buffer)
		return; /* a frame may be metadata only */
	TRY(zcbuf_buffer_map(buffer, ZCBUF_SYNC_READ, &data)); /* once; then it stays */
	TRY(zcbuf_buffer_begin(buffer, ZCBUF_SYNC_READ));
	print_histogram(frame->sequence, data, zcbuf_buffer_size(buffer));
	TRY(zcbuf_buffer_end(buffer, ZCBUF_SYNC_READ));
}

int main(int argc, char **argv)
{
	const struct zcbuf_consumer_config config = { .flags = ZCBUF_CONSUMER_RECONNECT };
	struct zcbuf_consumer_event event;
	struct zcbuf_consumer *consumer;
	struct zcbuf_ctx *ctx;

	if (argc != 2) {
		fprintf(stderr, "usage: zcbuf-histogram ADDRESS\n");
		return 2;
	}
	TRY(zcbuf_ctx_new(&ctx));
	TRY(zcbuf_consumer_new(ctx, argv[1], &config, &consumer));
	while (zcbuf_consumer_next_event(consumer, -1, &event) == 1) {
		if (event.type == ZCBUF_CONSUMER_END)
			break;
		if (event.type != ZCBUF_CONSUMER_FRAME)
			continue;
		look_at(event.frame);
		zcbuf_consumer_give_back(consumer, event.frame, -1);
	}
	zcbuf_consumer_unref(consumer);
	zcbuf_ctx_unref(ctx);
	return 0;
}
