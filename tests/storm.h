/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A storm of processes, the lives: each place begins one after the other, and stops some and
 * kills most at random instants. Begun before anything else, so that they inherit nothing.
 * SEED= has the dice fall as they did once.
 */
#ifndef STORM_H
#define STORM_H

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <tap.h>

#define STORM_PHASES 4

struct life {
	atomic_int phase;    /* what it is about, for those who want to know when it died */
	atomic_bool judging; /* it must not be killed now */
};

struct storm {
	char address[64]; /* the lives begin when it is set */
	atomic_bool over;
	atomic_uint frames, wrong;	  /* counted by the lives */
	atomic_uint killed[STORM_PHASES]; /* by phase */
	atomic_uint left, crashed, stopped, resumed;
	/* Between two strokes it is up to these, which are powers of two. */
	unsigned int short_ms, long_ms;
	unsigned int seed;
	pid_t pid;
	struct life lives[];
};

/* In a process of its own, which ends when it returns. */
typedef void (*live_fn)(struct storm *storm, struct life *life, unsigned int place);

static inline void storm_wait(const struct storm *storm)
{
	unsigned int most = storm->long_ms;

	/* More often up to a short time. */
	while (most > storm->short_ms && random() % 8)
		most /= 2;
	poll(NULL, 0, (int)((unsigned long)random() % most));
}

static inline void storm_strike(struct storm *storm, struct life *life, pid_t pid)
{
	int status;

	storm_wait(storm);
	if (random() % 3 == 0) {
		kill(pid, SIGSTOP);
		storm->stopped++;
		storm_wait(storm);
		if (random() % 2) {
			kill(pid, SIGCONT);
			storm->resumed++;
			storm_wait(storm);
		}
	}
	while (life->judging) {
		kill(pid, SIGCONT);
		poll(NULL, 0, 1);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	if (WIFEXITED(status))
		storm->left++;
	else if (WTERMSIG(status) == SIGKILL)
		storm->killed[life->phase]++;
	else
		storm->crashed++;
}

static inline void storm_place(struct storm *storm, unsigned int place, live_fn live)
{
	struct life *life = &storm->lives[place];

	srandom(storm->seed + place);
	while (!storm->address[0])
		poll(NULL, 0, 1);
	while (!storm->over) {
		long seed = random();
		pid_t pid;

		memset(life, 0, sizeof(*life));
		pid = fork();
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			srandom((unsigned int)seed);
			live(storm, life, place);
			_exit(0);
		}
		storm_strike(storm, life, pid);
	}
}

static inline struct storm *storm_begin(unsigned int places, unsigned int short_ms,
					unsigned int long_ms, live_fn live)
{
	struct storm *storm =
		mmap(NULL, sizeof(*storm) + places * sizeof(storm->lives[0]),
		     PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const char *seed = getenv("SEED");

	if (seed)
		storm->seed = (unsigned int)strtoul(seed, NULL, 10);
	else if (getentropy(&storm->seed, sizeof(storm->seed)))
		bail("no seed");
	diag("SEED=%u", storm->seed);
	storm->short_ms = short_ms;
	storm->long_ms = long_ms;
	storm->pid = fork();
	if (storm->pid)
		return storm;
	for (unsigned int i = 0; i < places; i++)
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			storm_place(storm, i, live);
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
	_exit(0);
}

static inline unsigned int storm_lives(const struct storm *storm)
{
	unsigned int lives = storm->left + storm->crashed;

	for (int i = 0; i < STORM_PHASES; i++)
		lives += storm->killed[i];
	return lives;
}

#endif /* STORM_H */
