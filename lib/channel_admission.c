// SPDX-License-Identifier: LGPL-2.1-or-later
/* Who may be a consumer. */
#include <fcntl.h>
#include <sys/epoll.h>

#include "channel_producer.h"

/*
 * Accepting takes one part of the time in so many, because each connection that is accepted
 * costs as much again and more: then a flood of them does not delay frames.
 */
#define ACCEPT_SHARE	 20
#define ACCEPTS_PER_TURN 4
/* How long the others wait after a turn, at least and at most. */
#define PAUSE_MIN (2 * NSEC_PER_MSEC)
#define PAUSE_MAX (100 * NSEC_PER_MSEC)

/* ---- one of them ---------------------------------------------------------------------- */

static bool group_listed(const struct zcbuf_producer *p, gid_t gid)
{
	for (size_t i = 0; i < p->config.n_gids; i++)
		if (p->gids[i] == gid)
			return true;
	return false;
}

static bool in_listed_group(const struct zcbuf_producer *p, int fd)
{
	_cleanup_(free_p) gid_t *groups = NULL;
	socklen_t size = 0;
	gid_t none;

	/* Fails, and says how much room there must be. */
	getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, &none, &size);
	groups = malloc(size + 1);
	if (!groups || getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size))
		return false;
	for (size_t i = 0; i < size / sizeof(*groups); i++)
		if (group_listed(p, groups[i]))
			return true;
	return false;
}

/* Without the lock. */
static bool peer_allowed(const struct zcbuf_producer *p, int fd,
			 const struct zcbuf_peer *peer)
{
	if ((p->config.flags & ZCBUF_PRODUCER_ALLOW_ALL) || peer->uid == p->own_uid ||
	    peer->uid == 0)
		return true;
	for (size_t i = 0; i < p->config.n_uids; i++)
		if (p->uids[i] == peer->uid)
			return true;
	if (group_listed(p, peer->gid) || (p->config.n_gids && in_listed_group(p, fd)))
		return true;
	return p->config.allow && p->config.allow(p->config.allow_data, peer);
}

static bool make_place(struct zcbuf_producer *p)
{
	struct client *oldest = NULL;

	if (p->n_clients < p->config.max_consumers)
		return true;
	for (struct client *c = p->first; c; c = c->next)
		if (c->state == SILENT && (!oldest || c->info.id < oldest->info.id))
			oldest = c;
	if (oldest)
		client_disconnect(p, oldest, -EUSERS);
	return oldest;
}

static int client_add(struct zcbuf_producer *p, int fd, const struct zcbuf_peer *peer)
{
	struct client *client = calloc(1, sizeof(*client));
	unsigned int index = 0;
	int r;

	if (!client)
		return -ENOMEM;
	while (p->clients[index])
		index++;
	*client = (struct client){
		.next = p->first,
		.info.id = ++p->client_serial * ZCBUF_CHANNEL_CONSUMERS_MAX + index,
		.info.peer = *peer,
		.fd = fd,
		.since = channel_now(),
	};
	r = channel_epoll_add(p->io, fd, client->info.id);
	if (r < 0) {
		free(client);
		return r;
	}
	p->first = p->clients[index] = client;
	p->n_clients++;
	producer_arm_timer(p);
	/* Now, so that it cannot be taken for one that says nothing. */
	client_receive(p, client);
	return 0;
}

int producer_admit(struct zcbuf_producer *p, int fd)
{
	_cleanup_(close_p) int own = fd;
	struct zcbuf_peer peer;
	bool allowed;
	int r;

	r = channel_peer(fd, &peer);
	if (r < 0)
		return r;
	producer_unlock(p);
	allowed = peer_allowed(p, fd, &peer);
	producer_lock(p);
	if (!allowed) {
		ctx_log(p->ctx, LOG_INFO, "process %d of user %u may not connect", peer.pid,
			peer.uid);
		r = -EACCES;
	} else if (p->closed) {
		r = -EPIPE;
	} else if (!make_place(p)) {
		r = -EUSERS;
	} else {
		r = client_add(p, fd, &peer);
	}
	if (r < 0) {
		p->stats.refused++;
		client_say_bye(fd, r);
		shutdown(fd, SHUT_RDWR);
		return r;
	}
	take_fd(&own);
	return 0;
}

/* ---- all of them ---------------------------------------------------------------------- */

static void listen_to_all(struct zcbuf_producer *p, bool listen)
{
	for (unsigned int i = 0; i < p->n_listeners; i++) {
		struct epoll_event event = { .events = listen ? EPOLLIN : 0,
					     .data.u64 = i };

		epoll_ctl(p->io, EPOLL_CTL_MOD, p->listeners[i].fd, &event);
	}
}

static void pause_listening(struct zcbuf_producer *p, int64_t time)
{
	if (time < PAUSE_MIN)
		time = PAUSE_MIN;
	if (time > PAUSE_MAX)
		time = PAUSE_MAX;
	listen_to_all(p, false);
	p->resume = channel_now() + time;
	producer_arm_timer(p);
}

void producer_resume_listening(struct zcbuf_producer *p)
{
	p->resume = CHANNEL_NEVER;
	listen_to_all(p, true);
}

void producer_accept(struct zcbuf_producer *p, unsigned int i)
{
	int64_t begin = channel_now();

	for (int turn = 0; turn < ACCEPTS_PER_TURN; turn++) {
		int fd = accept4(p->listeners[i].fd, NULL, NULL,
				 SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			producer_admit(p, fd);
			if (p->closed)
				return;
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
			   errno == ENOBUFS) {
			ctx_log(p->ctx, LOG_WARNING, "a consumer has to wait: %m");
			pause_listening(p, PAUSE_MAX);
			return;
		} else if (errno != EINTR && errno != ECONNABORTED) {
			return;
		}
	}
	pause_listening(p, (channel_now() - begin) * ACCEPT_SHARE);
}
