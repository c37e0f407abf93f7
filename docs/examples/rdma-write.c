/* SPDX-License-Identifier: MIT-0 */
/*
 * rdma-write DEVICE PORT > FRAME		receives a frame from another machine
 * rdma-write DEVICE PORT HOST < FRAME		sends it one
 *
 * The sender's RDMA device reads the frame from a buffer of ours, and the receiver's writes it
 * into another: no CPU copies a byte. Over a TCP connection to PORT each end says what the
 * other has to know. Its IP addresses are the devices' as well: that is how RoCE v2 has it.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <err.h>
#include <errno.h>
#include <infiniband/verbs.h>
#include <libzcbuf.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define TRY(call)  ((call) < 0 ? err(1, #call) : (void)0)
#define VERB(call) ((errno = (call)) ? err(1, #call) : (void)0)

/* What an end says of itself, big-endian. */
struct end {
	uint64_t size;	  /* of the frame; from the sender */
	uint64_t address; /* of the buffer, and the key to it; from the receiver */
	uint32_t key;
	uint32_t qp; /* the number of its queue pair */
};

static void tell(int peer, const struct end *end)
{
	if (send(peer, end, sizeof(*end), MSG_NOSIGNAL) != sizeof(*end))
		err(1, "the other end has gone");
}

static struct end hear(int peer)
{
	struct end end;

	if (recv(peer, &end, sizeof(end), MSG_WAITALL) != sizeof(end))
		errx(1, "the other end has gone (it has said why)");
	return end;
}

/* To HOST, or from whoever comes first. An address of IPv4 is one of IPv6 here: ::ffff:… */
static int tcp_connection(const char *port, const char *host)
{
	const struct addrinfo hints = { .ai_family = AF_INET6,
					.ai_socktype = SOCK_STREAM,
					.ai_flags = host ? AI_V4MAPPED : AI_PASSIVE };
	int error, peer, s = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct addrinfo *at;

	TRY(s);
	error = getaddrinfo(host, port, &hints, &at);
	if (error)
		errx(1, "%s, port %s: %s", host ? host : "here", port, gai_strerror(error));
	if (host) {
		if (connect(s, at->ai_addr, at->ai_addrlen))
			err(1, "%s, port %s (start the receiver first)", host, port);
		return s;
	}
	TRY(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)));
	if (bind(s, at->ai_addr, at->ai_addrlen) || listen(s, 1))
		err(1, "port %s", port);
	fprintf(stderr, "waiting for a frame at port %s\n", port);
	peer = accept(s, NULL, NULL);
	TRY(peer);
	return peer;
}

static struct ibv_context *device_open(const char *name)
{
	struct ibv_device **devices = ibv_get_device_list(NULL);
	struct ibv_context *device;

	while (devices && *devices && strcmp(ibv_get_device_name(*devices), name))
		devices++;
	if (!devices || !*devices)
		errx(1, "%s: no such RDMA device (`rdma link` lists them)", name);
	device = ibv_open_device(*devices);
	if (!device)
		err(1, "%s", name);
	return device;
}

/* Our end of the connection, and a queue of what has been completed there. */
static struct ibv_qp *qp_new(struct ibv_context *device)
{
	struct ibv_cq *cq = ibv_create_cq(device, 1, NULL, NULL, 0);
	struct ibv_qp_init_attr init = { .send_cq = cq,
					 .recv_cq = cq,
					 .cap = { 1, 1, 1, 1, 0 },
					 .qp_type = IBV_QPT_RC };
	struct ibv_qp *qp = cq ? ibv_create_qp(ibv_alloc_pd(device), &init) : NULL;

	if (!qp)
		err(1, "%s: no queue pair", ibv_get_device_name(device->device));
	return qp;
}

/* Which of the device's addresses is ADDRESS? */
static int gid_index(struct ibv_context *device, const struct in6_addr *address)
{
	char text[INET6_ADDRSTRLEN];
	struct ibv_port_attr port;
	struct ibv_gid_entry gid;

	VERB(ibv_query_port(device, 1, &port));
	for (int i = 0; i < port.gid_tbl_len; i++)
		if (ibv_query_gid_ex(device, 1, i, &gid, 0) == 0 &&
		    gid.gid_type == IBV_GID_TYPE_ROCE_V2 &&
		    !memcmp(&gid.gid, address, sizeof(*address)))
			return i;
	inet_ntop(AF_INET6, address, text, sizeof(text));
	errx(1, "%s has no RoCE v2 address %s (give a HOST that is reached by the device)",
	     ibv_get_device_name(device->device), text);
}

static void qp_connect(struct ibv_qp *qp, int peer, uint32_t peer_qp)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_INIT,
				    .port_num = 1,
				    .qp_access_flags = IBV_ACCESS_REMOTE_WRITE,
				    .path_mtu = IBV_MTU_1024, /* Ethernet has 1500 */
				    .dest_qp_num = peer_qp,
				    .ah_attr = { .is_global = 1, .port_num = 1 },
				    .timeout = 16, /* 4 us * 2^16 is 1/4 s */
				    .retry_cnt = 6 /* 7 is for ever with rxe */ };
	struct sockaddr_in6 here, there;
	socklen_t length = sizeof(here);

	TRY(getsockname(peer, (struct sockaddr *)&here, &length));
	TRY(getpeername(peer, (struct sockaddr *)&there, &length));
	attr.ah_attr.grh.sgid_index = gid_index(qp->context, &here.sin6_addr);
	attr.ah_attr.grh.hop_limit = 64;
	memcpy(&attr.ah_attr.grh.dgid, &there.sin6_addr, sizeof(there.sin6_addr));

	VERB(ibv_modify_qp(qp, &attr,
			   IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
				   IBV_QP_ACCESS_FLAGS));
	attr.qp_state = IBV_QPS_RTR; /* ready to receive */
	VERB(ibv_modify_qp(qp, &attr,
			   IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
				   IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
				   IBV_QP_MIN_RNR_TIMER));
	attr.qp_state = IBV_QPS_RTS; /* and to send */
	VERB(ibv_modify_qp(qp, &attr,
			   IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
				   IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
				   IBV_QP_MAX_QP_RD_ATOMIC));
}

/* Asks until it is there: for milliseconds, or two seconds if the other end is mute. */
static void wait_for_completion(struct ibv_cq *cq)
{
	struct ibv_wc done;
	int count;

	do
		count = ibv_poll_cq(cq, 1, &done);
	while (!count);
	TRY(count);
	if (done.status != IBV_WC_SUCCESS)
		errx(1, "the frame was not written: %s", ibv_wc_status_str(done.status));
}

/* A buffer that the device may use: its pages are pinned from here on. */
static struct zcbuf_buffer *frame_new(struct ibv_qp *qp, size_t size, int access,
				      struct ibv_mr **mr)
{
	struct zcbuf_buffer *frame;
	struct zcbuf_heap *heap;
	struct zcbuf_ctx *ctx;
	void *pixels;

	TRY(zcbuf_ctx_new(&ctx));
	TRY(zcbuf_heap_open(ctx, "zcbuf-system", &heap));
	TRY(zcbuf_heap_alloc(heap, size, NULL, &frame));
	TRY(zcbuf_buffer_map(frame, ZCBUF_SYNC_READ | ZCBUF_SYNC_WRITE, &pixels));
	*mr = ibv_reg_mr(qp->pd, pixels, size, access);
	if (!*mr)
		err(1, "%zu bytes cannot be registered%s", size,
		    errno == ENOMEM ? " (ulimit -l has to allow it)" : "");
	return frame;
}

static void send_frame(struct ibv_qp *qp, int peer)
{
	struct ibv_send_wr *bad, write = { .opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
					   .send_flags = IBV_SEND_SIGNALED,
					   .num_sge = 1 };
	struct zcbuf_buffer *frame;
	struct end here, there;
	struct ibv_sge source;
	struct ibv_mr *mr;
	struct stat file;

	TRY(fstat(0, &file));
	if (!S_ISREG(file.st_mode) || !file.st_size || file.st_size > 1L << 31)
		errx(1, "standard input is no frame: redirect a file of up to 2 GiB");
	frame = frame_new(qp, file.st_size, 0, &mr);
	TRY(zcbuf_buffer_begin(frame, ZCBUF_SYNC_WRITE));
	if (fread(mr->addr, mr->length, 1, stdin) != 1)
		errx(1, "standard input ends before byte %zu", mr->length);
	TRY(zcbuf_buffer_end(frame, ZCBUF_SYNC_WRITE));

	here = (struct end){ .size = htobe64(mr->length), .qp = htobe32(qp->qp_num) };
	tell(peer, &here);
	there = hear(peer);
	qp_connect(qp, peer, be32toh(there.qp));

	source = (struct ibv_sge){ (uintptr_t)mr->addr, mr->length, mr->lkey };
	write.sg_list = &source;
	write.wr.rdma.remote_addr = be64toh(there.address);
	write.wr.rdma.rkey = be32toh(there.key);
	VERB(ibv_post_send(qp, &write, &bad));
	wait_for_completion(qp->send_cq);
	tell(peer, &here); /* that it is done */
}

static void receive_frame(struct ibv_qp *qp, int peer)
{
	struct end here, there = hear(peer);
	struct ibv_recv_wr *bad, notice = { 0 };
	struct zcbuf_buffer *frame;
	struct ibv_mr *mr;

	frame = frame_new(qp, be64toh(there.size),
			  IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE, &mr);
	qp_connect(qp, peer, be32toh(there.qp));
	/* Nobody is told of a write, but of its immediate data, which come last. */
	VERB(ibv_post_recv(qp, &notice, &bad));
	here = (struct end){ .address = htobe64((uintptr_t)mr->addr),
			     .key = htobe32(mr->rkey),
			     .qp = htobe32(qp->qp_num) };
	tell(peer, &here);
	hear(peer);
	wait_for_completion(qp->recv_cq); /* ours: now the CPU has it, too */

	TRY(zcbuf_buffer_begin(frame, ZCBUF_SYNC_READ));
	if (fwrite(mr->addr, mr->length, 1, stdout) != 1)
		err(1, "standard output");
	TRY(zcbuf_buffer_end(frame, ZCBUF_SYNC_READ));
	fprintf(stderr, "%zu bytes have arrived\n", mr->length);
}

int main(int argc, char **argv)
{
	const char *host = argc == 4 ? argv[3] : NULL;
	struct ibv_qp *qp;
	int peer;

	if (argc != 3 && argc != 4) {
		fprintf(stderr, "usage: rdma-write DEVICE PORT > FRAME\n"
				"       rdma-write DEVICE PORT HOST < FRAME\n");
		return 2;
	}
	qp = qp_new(device_open(argv[1]));
	peer = tcp_connection(argv[2], host);
	host ? send_frame(qp, peer) : receive_frame(qp, peer);
	return fclose(stdout); /* the rest goes with the process */
}
