/* SPDX-License-Identifier: MIT-0 */
/*
 * zcbuf-system FILE: a child writes a buffer, and the parent writes the same pages to a disk.
 * Nothing is copied on the way: the fd crosses a socket, and the disk reads the pages themselves.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <libzcbuf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SIZE	  (1 << 20)
#define TRY(call) ((call) < 0 ? exit(1) : (void)0) /* libzcbuf has said why */

int main(int argc, char **argv)
{
	struct zcbuf_ctx *ctx;
	struct zcbuf_heap *heap;
	struct zcbuf_buffer *buf;
	int pair[2], disk;
	ssize_t written;
	void *data;

	if (argc != 2)
		return 2;
	TRY(zcbuf_ctx_new(&ctx));
	TRY(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	if (fork() == 0) {
		TRY(zcbuf_heap_open(ctx, "zcbuf-system", &heap));
		TRY(zcbuf_heap_alloc(heap, SIZE, NULL, &buf));
		TRY(zcbuf_buffer_map(buf, ZCBUF_SYNC_WRITE, &data));
		TRY(zcbuf_buffer_begin(buf, ZCBUF_SYNC_WRITE));
		memset(data, 'z', SIZE);
		TRY(zcbuf_buffer_end(buf, ZCBUF_SYNC_WRITE));
		TRY(zcbuf_buffer_send(buf, pair[1]));
		return 0;
	}
	TRY(zcbuf_buffer_recv(ctx, pair[0], &buf));
	TRY(zcbuf_buffer_map(buf, ZCBUF_SYNC_READ, &data));

	/* A heap whose mappings cannot be pinned answers EFAULT here. */
	disk = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0644);
	TRY(zcbuf_buffer_begin(buf, ZCBUF_SYNC_READ));
	written = write(disk, data, SIZE);
	TRY(zcbuf_buffer_end(buf, ZCBUF_SYNC_READ));
	if (written != SIZE) {
		perror(argv[1]);
		return 1;
	}
	printf("%zd bytes went to %s without a copy\n", written, argv[1]);
	zcbuf_buffer_unref(buf);
	zcbuf_ctx_unref(ctx);
	return close(disk);
}
