/* SPDX-License-Identifier: MIT
 *
 * lease: which workers are alive.
 *
 * A worker owns state/active/WORKER/ and the tokens in it for as long as the counter in its `hb`
 * file moves.  Others judge by their own monotonic clock: a counter that did not move for a lease is
 * a dead worker, whatever the clocks of the two machines say.  On the same boot of the same machine
 * and in the same pid namespace a process that is gone is dead at once.  Whoever judges moves the
 * tokens back to ready/ and removes the folder; a worker that finds its folder gone exits at once,
 * before it can touch anything (self-fencing).
 *
 * hb: "COUNTER BOOT-ID PIDNS PID STARTTIME\n", renamed into place.
 */
#ifndef RUNNER_LEASE_H
#define RUNNER_LEASE_H

#include "base/err.h"
#include "spool.h"

#include <stdbool.h>
#include <stdint.h>

#define WORKER_NAME_SIZE 64

struct lease {
	const struct spool *spool;
	char name[WORKER_NAME_SIZE]; /* HOST.PID.RANDOM: unique for ever */
	int dir;                     /* state/active/WORKER */
	uint64_t counter;
	double period, lease_seconds;
	double next_beat;
	struct lease_other {
		char name[WORKER_NAME_SIZE];
		uint64_t counter;
		double changed; /* my clock, when the counter last moved */
		bool seen;      /* in the scan that goes on */
		bool doubtful;  /* holds tokens, and has not been seen to live */
	} *others;
	size_t n_others;
};

enum rc lease_take(struct lease *l, const struct spool *spool, uint64_t lease_seconds,
		   struct err *err);
/* Give the folder up. */
void lease_drop(struct lease *l);

/* Beat when it is time. Ends the process (exit 75) when this worker has been declared dead. */
void lease_beat(struct lease *l, double now);

/* Look at the other workers; for each token of a dead one call orphan(dirfd, name, arg), which has
 * to move it away; if it cannot, it is called again for it later. Returns how many workers were
 * found dead. */
unsigned lease_reap(struct lease *l, double now,
		    void (*orphan)(int dirfd, const char *name, void *arg), void *arg);

/* Does any worker hold tokens that may yet turn out to be dead? */
bool lease_in_doubt(const struct lease *l);

/* Is there a worker of this name that nobody has found dead yet? For the sweep of tmp/. */
bool lease_alive(const struct lease *l, const char *worker);

#endif
