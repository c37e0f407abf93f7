// SPDX-License-Identifier: GPL-2.0-only
/*
 * A process registers its mapping of a buffer with an RDMA device, soft-RoCE here, and another
 * one reads and writes the memory from its end of a connection. What is registered is given
 * to nobody else, though the buffer be freed. Heaps without ZCBUF_HEAP_CAP_PIN answer EFAULT.
 */
#include <arpa/inet.h>
#include <infiniband/verbs.h>

#include "cgroup.h"
#include "huge.h"

#define DEVICE "rxe0"
#define READS  IBV_ACCESS_REMOTE_READ
#define WRITES (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | READS)

/* One end of a connection. */
struct end {
	struct ibv_context *device;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	int socket; /* to the process at the other end */
};

/* What the other process shall do with its memory and ours, and what came of it. */
struct order {
	bool connect;		   /* only that, anew */
	enum ibv_wr_opcode opcode; /* IBV_WR_RDMA_WRITE_WITH_IMM or IBV_WR_RDMA_READ */
	uint32_t key;
	uint64_t address;
	size_t size;
	uint64_t seed; /* of the pattern that is written, or that must be read */
};

enum outcome { STUCK, WRONG, RIGHT };

static bool end_open(struct end *end, int socket)
{
	struct ibv_device **devices = ibv_get_device_list(NULL);
	struct ibv_qp_init_attr init = { .qp_type = IBV_QPT_RC };

	*end = (struct end){ .socket = socket };
	for (int i = 0; devices && devices[i]; i++)
		if (!strcmp(ibv_get_device_name(devices[i]), DEVICE))
			end->device = ibv_open_device(devices[i]);
	ibv_free_device_list(devices);
	if (!end->device)
		return false;
	end->pd = ibv_alloc_pd(end->device);
	end->cq = ibv_create_cq(end->device, 4, NULL, NULL, 0);
	init.send_cq = init.recv_cq = end->cq;
	init.cap = (struct ibv_qp_cap){ 4, 4, 1, 1, 0 };
	end->qp = ibv_create_qp(end->pd, &init);
	return end->qp;
}

static void end_close(struct end *end)
{
	ibv_destroy_qp(end->qp);
	ibv_destroy_cq(end->cq);
	ibv_dealloc_pd(end->pd);
	ibv_close_device(end->device);
	close(end->socket);
}

/* The device has the address of its network interface a moment after it was made. */
static int gid_index(struct end *end, union ibv_gid *gid)
{
	inet_pton(AF_INET6, "::ffff:127.0.0.1", gid);
	for (int tries = 0; tries < 500; tries++, pause_ms(20))
		for (int i = 0; i < 8; i++) {
			struct ibv_gid_entry entry;

			if (ibv_query_gid_ex(end->device, 1, i, &entry, 0) == 0 &&
			    !memcmp(&entry.gid, gid, sizeof(*gid)))
				return i;
		}
	return -1;
}

/* Both processes call this, also when they were connected before. */
static bool end_connect(struct end *end)
{
	struct ibv_qp_attr reset = { .qp_state = IBV_QPS_RESET };
	struct ibv_wc stale;
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_INIT,
				    .port_num = 1,
				    .qp_access_flags = WRITES,
				    .path_mtu = IBV_MTU_4096,
				    .max_dest_rd_atomic = 1,
				    .max_rd_atomic = 1,
				    .min_rnr_timer = 12,
				    .timeout = 18, /* 1 s */
				    .retry_cnt = 7,
				    .rnr_retry = 7 };
	int index = gid_index(end, &attr.ah_attr.grh.dgid);

	attr.ah_attr.grh.sgid_index = index;
	attr.ah_attr.grh.hop_limit = 1;
	attr.ah_attr.is_global = 1;
	attr.ah_attr.port_num = 1;
	if (index < 0 || ibv_modify_qp(end->qp, &reset, IBV_QP_STATE))
		return false;
	while (ibv_poll_cq(end->cq, 1, &stale) > 0)
		;
	if (ibv_modify_qp(end->qp, &attr,
			  IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
				  IBV_QP_ACCESS_FLAGS) ||
	    write(end->socket, &end->qp->qp_num, 4) != 4 ||
	    read(end->socket, &attr.dest_qp_num, 4) != 4)
		return false;
	attr.qp_state = IBV_QPS_RTR;
	if (ibv_modify_qp(end->qp, &attr,
			  IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
				  IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
				  IBV_QP_MIN_RNR_TIMER))
		return false;
	attr.qp_state = IBV_QPS_RTS;
	return ibv_modify_qp(end->qp, &attr,
			     IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
				     IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
				     IBV_QP_MAX_QP_RD_ATOMIC) == 0;
}

/* A packet that is lost on a busy machine is sent again after a second, up to seven times. */
static enum outcome end_completion(struct end *end, struct ibv_wc *wc)
{
	for (int tries = 0; tries < 10000; tries++, pause_ms(1))
		if (ibv_poll_cq(end->cq, 1, wc)) {
			if (wc->status == IBV_WC_RETRY_EXC_ERR)
				return STUCK;
			return wc->status == IBV_WC_SUCCESS ? RIGHT : WRONG;
		}
	return STUCK;
}

/* The other process: does what it is ordered to, and says whether it could. */

static enum outcome carry_out(struct end *end, const struct order *order, struct ibv_mr *mr)
{
	struct ibv_sge sge = { .addr = (uintptr_t)mr->addr,
			       .length = order->size,
			       .lkey = mr->lkey };
	struct ibv_send_wr wr = { .sg_list = &sge,
				  .num_sge = 1,
				  .opcode = order->opcode,
				  .send_flags = IBV_SEND_SIGNALED,
				  .imm_data = htonl(order->seed),
				  .wr.rdma.remote_addr = order->address,
				  .wr.rdma.rkey = order->key };
	struct ibv_send_wr *bad;
	enum outcome outcome;
	struct ibv_wc wc;

	if (order->opcode == IBV_WR_RDMA_READ)
		memset(mr->addr, 0xaa, mr->length);
	else
		fill(mr->addr, mr->length, order->seed);
	if (ibv_post_send(end->qp, &wr, &bad))
		return WRONG;
	outcome = end_completion(end, &wc);
	if (outcome == RIGHT && order->opcode == IBV_WR_RDMA_READ &&
	    !is_filled(mr->addr, order->size, order->seed))
		return WRONG;
	return outcome;
}

/* The largest buffer that is used here. */
static size_t frame_of(const struct heap *heap)
{
	return heap->is.max_size < FRAME ? heap->is.max_size : FRAME;
}

static void other_process(const struct heap *heap, int socket)
{
	size_t size = frame_of(heap);
	int fd = alloc(heap, size);
	void *memory = map(fd, size);
	struct order order;
	struct ibv_mr *mr;
	struct end end;

	if (memory == MAP_FAILED || !end_open(&end, socket) || !end_connect(&end))
		_exit(1);
	mr = ibv_reg_mr(end.pd, memory, size, IBV_ACCESS_LOCAL_WRITE);
	while (mr && read(socket, &order, sizeof(order)) == sizeof(order)) {
		enum outcome outcome;

		if (order.connect)
			outcome = end_connect(&end) ? RIGHT : WRONG;
		else
			outcome = carry_out(&end, &order, mr);
		if (write(socket, &outcome, sizeof(outcome)) < 0)
			break;
	}
	_exit(1); /* or killed by its parent: it does not tidy up */
}

static enum outcome ordered(struct end *end, const struct order *order)
{
	enum outcome outcome = WRONG;

	if (write(end->socket, order, sizeof(*order)) != sizeof(*order) ||
	    (order->connect && !end_connect(end)) ||
	    read(end->socket, &outcome, sizeof(outcome)) != sizeof(outcome))
		bail("the other process has ended: %s", strerror(errno));
	return outcome;
}

/*
 * Linux 7.3's soft-RoCE may lose a packet and then stand still for ever. That says nothing of the
 * memory: such a connection is made anew, and the order given again.
 */
static bool went_right(struct end *end, const struct order *order,
		       enum outcome (*carry)(struct end *end, const struct order *order))
{
	enum outcome outcome = carry(end, order);

	for (int tries = 0; tries < 3 && outcome == STUCK; tries++) {
		diag("the connection stands still, and is made anew");
		if (ordered(end, &(struct order){ .connect = true }) != RIGHT)
			return false;
		outcome = carry(end, order);
	}
	return outcome == RIGHT;
}

/* The other process reads the pattern SEED from the beginning of MR. */
static bool is_read(struct end *end, const struct ibv_mr *mr, size_t size, uint64_t seed)
{
	return went_right(end,
			  &(struct order){ .opcode = IBV_WR_RDMA_READ,
					   .key = mr->rkey,
					   .address = (uintptr_t)mr->addr,
					   .size = size,
					   .seed = seed },
			  ordered);
}

static enum outcome write_ordered(struct end *end, const struct order *order)
{
	struct ibv_recv_wr *bad, wr = { 0 };
	enum outcome outcome;
	struct ibv_wc wc;

	if (ibv_post_recv(end->qp, &wr, &bad))
		return WRONG;
	outcome = ordered(end, order);
	if (outcome == RIGHT)
		outcome = end_completion(end, &wc);
	if (outcome == RIGHT &&
	    (wc.opcode != IBV_WC_RECV_RDMA_WITH_IMM || wc.byte_len != order->size ||
	     ntohl(wc.imm_data) != order->seed))
		return WRONG;
	return outcome;
}

/* The other process writes the pattern SEED into MR, and this one is told so. */
static bool is_written(struct end *end, const struct ibv_mr *mr, size_t offset, size_t size,
		       uint64_t seed)
{
	return went_right(end,
			  &(struct order){ .opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
					   .key = mr->rkey,
					   .address = (uintptr_t)mr->addr + offset,
					   .size = size,
					   .seed = seed },
			  write_ordered);
}

/* This process: has the memory. */

static void whole_buffers(const struct heap *heap, struct end *end)
{
	const size_t sizes[] = { PAGE, 17 * PAGE, 2 * MiB, frame_of(heap) };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		size_t size = sizes[i];
		int fd = must_alloc(heap, size);
		void *memory = map_huge(fd, size);
		struct ibv_mr *mr = ibv_reg_mr(end->pd, memory, size, WRITES);

		if (ok(mr, "%s: a mapping of %zu bytes is registered", heap->name, size)) {
			ok(is_written(end, mr, 0, size, i + 1) &&
				   is_filled(memory, size, i + 1),
			   "%s: another process writes all of it", heap->name);
			fill(memory, size, i + 10);
			ok(is_read(end, mr, size, i + 10), "%s: and reads all of it",
			   heap->name);
			ok(ibv_dereg_mr(mr) == 0 && is_filled(memory, size, i + 10),
			   "%s: which stays as it is when it is not registered any more",
			   heap->name);
		}
		if (heap->is.kind == ZCBUF_HEAP_SYSTEM && size == FRAME)
			ok(huge_kib(memory, size) == 5 * 2048,
			   "%s: where five entries of 2 MiB map it", heap->name);
		munmap(memory, size);
		close(fd);
	}
}

/* Of the buffer, at addresses and of sizes that are multiples of nothing. */
static void parts(const struct heap *heap, struct end *end)
{
	static const struct {
		size_t offset, size;
	} parts[] = { { 1, 1 },
		      { PAGE - 3, 7 },
		      { 2 * MiB - 13, 2 * PAGE + 1001 },
		      { MiB + 5, MiB + 4093 } };
	size_t size = 3 * MiB;
	int fd = must_alloc(heap, size);
	char *memory = map_huge(fd, size), *should = malloc(size), *written = malloc(size);
	struct ibv_mr *mr = ibv_reg_mr(end->pd, memory, size, WRITES);

	if (!mr)
		bail("%s: ibv_reg_mr: %s", heap->name, strerror(errno));
	fill(memory, size, 20);
	fill(should, size, 20);
	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		fill(written, size, 21 + i);
		memcpy(should + parts[i].offset, written, parts[i].size);
		ok(is_written(end, mr, parts[i].offset, parts[i].size, 21 + i) &&
			   !memcmp(memory, should, size),
		   "%s: %zu bytes are written at byte %zu, and no other", heap->name,
		   parts[i].size, parts[i].offset);
	}
	ibv_dereg_mr(mr);

	/* A registration, too, may begin and end anywhere. */
	mr = ibv_reg_mr(end->pd, memory + PAGE + 1, PAGE, WRITES);
	memcpy(should + PAGE + 1, written, PAGE);
	ok(mr && is_written(end, mr, 0, PAGE, 24) && !memcmp(memory, should, size),
	   "%s: parts of two pages are registered", heap->name);
	ibv_dereg_mr(mr);
	free(should);
	free(written);
	munmap(memory, size);
	close(fd);
}

/* Linux 6.1 pins for writing whatever it registers, which no read-only shared mapping allows. */
static bool kernel_registers_read_only(struct end *end)
{
	int fd = memfd_create("read-only", MFD_CLOEXEC);
	struct ibv_mr *mr;
	void *memory;

	if (ftruncate(fd, PAGE))
		bail("memfd: %s", strerror(errno));
	memory = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	mr = ibv_reg_mr(end->pd, memory, PAGE, READS);
	if (mr)
		ibv_dereg_mr(mr);
	munmap(memory, PAGE);
	close(fd);
	return mr;
}

static bool refused(struct end *end, void *memory, size_t size, int access)
{
	struct ibv_mr *mr;

	errno = 0;
	mr = ibv_reg_mr(end->pd, memory, size, access);
	if (!mr)
		return errno == EFAULT;
	ibv_dereg_mr(mr);
	return false;
}

static void read_only(const struct heap *heap, struct end *end)
{
	size_t size = 2 * MiB;
	int fd = must_alloc(heap, size);
	void *memory = map_huge(fd, size);
	bool allowed = kernel_registers_read_only(end);
	const struct {
		const char *name;
		int fd;
	} ways[] = { { "a read-only view", view(fd, 0, 0, ZCBUF_VIEW_READ_ONLY) },
		     { "a device-read-only view",
		       view(fd, 0, 0, ZCBUF_VIEW_DEVICE_READ_ONLY) },
		     { "a mapping without PROT_WRITE", dup(fd) } };

	fill(memory, size, 30);
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		void *narrow = map_near(ways[i].fd, size, 0, PROT_READ, 0);
		struct ibv_mr *mr;

		ok(refused(end, narrow, size, WRITES) &&
			   refused(end, narrow, size, IBV_ACCESS_LOCAL_WRITE),
		   "%s: %s is not registered for writing", heap->name, ways[i].name);
		if (allowed) {
			mr = ibv_reg_mr(end->pd, narrow, size, READS);
			ok(mr && is_read(end, mr, size, 30),
			   "%s: but for reading, and is read", heap->name);
			if (mr)
				ibv_dereg_mr(mr);
		} else {
			ok(refused(end, narrow, size, READS),
			   "%s: nor for reading, as no shared memory on this kernel",
			   heap->name);
		}
		munmap(narrow, size);
		close(ways[i].fd);
	}
	ok(is_filled(memory, size, 30), "%s: nothing was written", heap->name);
	munmap(memory, size);
	close(fd);
}

/* Buffers that might be made of memory that was freed a moment ago. */
struct others {
	int fds[8], count;
	void *memory[8];
	size_t size;
};

static void others_take(const struct heap *heap, struct others *others)
{
	for (others->count = 0; others->count < 8; others->count++) {
		int fd = alloc(heap, others->size);

		if (fd < 0)
			break;
		others->fds[others->count] = fd;
		others->memory[others->count] = must_map(fd, others->size);
		fill(others->memory[others->count], others->size, 50 + others->count);
	}
}

static bool others_untouched(const struct others *others)
{
	for (int i = 0; i < others->count; i++)
		if (!is_filled(others->memory[i], others->size, 50 + i))
			return false;
	return others->count > 0;
}

static void others_give_back(struct others *others)
{
	while (others->count) {
		munmap(others->memory[--others->count], others->size);
		close(others->fds[others->count]);
	}
}

static void buffer_gone(const struct heap *heap, struct end *end)
{
	size_t size = frame_of(heap);
	struct others others = { .size = size };
	bool charged = heap_can(heap, ZCBUF_HEAP_CAP_CHARGED);
	struct held before = held(heap);
	long long charge_before;
	struct ibv_mr *mr;
	void *memory;
	int fd;

	make("zcbuf-rdma");
	enter("zcbuf-rdma");
	charge_before = charge("zcbuf-rdma");
	fd = must_alloc(heap, size);
	memory = map_huge(fd, size);
	fill(memory, size, 40);
	mr = ibv_reg_mr(end->pd, memory, size, WRITES);
	if (!mr)
		bail("%s: ibv_reg_mr: %s", heap->name, strerror(errno));
	munmap(memory, size);
	close(fd);
	ok(held_as(heap, before), "%s: a buffer that is registered is unmapped and closed",
	   heap->name);
	if (charged)
		ok(about(charge("zcbuf-rdma"), charge_before + size),
		   "%s: its memory is there, and is paid for", heap->name);

	others_take(heap, &others);
	ok(is_read(end, mr, size, 40), "%s: another process reads what was in it",
	   heap->name);
	ok(is_written(end, mr, 0, size, 41) && is_read(end, mr, size, 41),
	   "%s: and writes, and reads what it wrote", heap->name);
	ok(others_untouched(&others), "%s: no other buffer has been given any of it",
	   heap->name);
	others_give_back(&others);
	ok(ibv_dereg_mr(mr) == 0 && held_as(heap, before),
	   "%s: the registration ends, long after the buffer", heap->name);
	pool_drain(heap);
	if (charged)
		ok(about(charge("zcbuf-rdma"), charge_before),
		   "%s: and then its memory is free", heap->name);
	leave();
	ok(drop("zcbuf-rdma"), "%s: the cgroup can go", heap->name);
}

static void pinned(const struct heap *heap)
{
	struct end end;
	int pair[2];
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		bail("socketpair: %s", strerror(errno));
	child = fork();
	if (child == 0) {
		close(pair[0]);
		other_process(heap, pair[1]);
	}
	close(pair[1]);
	if (!end_open(&end, pair[0]) || !end_connect(&end))
		bail("no connection to the other process by " DEVICE ": %s",
		     strerror(errno));
	whole_buffers(heap, &end);
	parts(heap, &end);
	read_only(heap, &end);
	buffer_gone(heap, &end);
	kill(child, SIGKILL);
	end_of(child);
	end_close(&end);
}

static void not_pinned(const struct heap *heap)
{
	struct end end;
	size_t size = 16 * PAGE;
	int fd = must_alloc(heap, size);
	void *memory = must_map(fd, size);

	if (!end_open(&end, -1))
		bail(DEVICE ": %s", strerror(errno));
	fill(memory, size, 60);
	ok(refused(&end, memory, size, WRITES) && refused(&end, memory, size, READS),
	   "%s: cannot be registered", heap->name);
	ok(is_filled(memory, size, 60), "%s: and is none the worse", heap->name);
	end_close(&end);
	munmap(memory, size);
	close(fd);
}

static void test(const struct heap *heap)
{
	struct held before = held(heap);

	if (heap_can(heap, ZCBUF_HEAP_CAP_PIN))
		pinned(heap);
	else
		not_pinned(heap);
	ok(held_as(heap, before), "%s: no fd and no buffer is left behind", heap->name);
}

int main(void)
{
	if (system("modprobe rdma_rxe && rdma link add " DEVICE " type rxe netdev lo"))
		bail("no soft-RoCE on the loopback interface");
	cgroups_begin();
	for_each_heap(test);
	if (system("rdma link delete " DEVICE))
		bail(DEVICE " does not go");
	return done_testing();
}
