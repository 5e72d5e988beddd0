/* SPDX-License-Identifier: MIT
 *
 * supervisor: `cloister run`.
 */
#ifndef RUNNER_SUPERVISOR_H
#define RUNNER_SUPERVISOR_H

#include "base/err.h"
#include "config.h"
#include "spool.h"

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct run_options {
	bool once;         /* end when the spool is drained */
	unsigned jobs;     /* recogniser processes; 0: config, else cores */
	time_t until;      /* drain at this time and exit 75; 0: never */
	bool quiet;        /* no progress, no line per document */
	bool lines;        /* print one line per finished document on standard output */
};

/* Work until told to stop or, with `once`, until drained. Returns the exit code. */
int supervisor_run(struct spool *spool, const struct config *config,
		   const struct run_options *options);

/* Locks on the supervisor itself: it can write the spool and the page files, nothing else, and has
 * no way to a network. Children inherit all of it and add their own. */
enum rc supervisor_lock_down(const char *spool, const char *scratch, bool require, struct err *err);

#endif
