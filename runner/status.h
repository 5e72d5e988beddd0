/* SPDX-License-Identifier: MIT
 *
 * status: what a run tells the world: SPOOL/state/status.json and cloister.prom (a Prometheus
 * textfile), each renamed into place, and the progress line on a terminal.
 *
 * status.json: {"cloister":VERSION,"state":"running|paused:disk|draining|stopped","worker":NAME,
 *   "pid":N,"started":ISO,"updated":ISO,
 *   "documents":{"settling":N,"ready":N,"active":N,"deferred":N,"done":N,"flagged":N,"failed":N},
 *   "pages":{"ok":N,"blank":N,"flagged":N,"failed":N,"reused":N,"total_known":N},
 *   "pages_per_second":X,"eta_seconds":N or null,
 *   "active":[{"path":..,"page":finished pages,"pages":N}],"recognisers":[{"name":..,"busy":N,
 *   "processes":N}]}
 * documents: done, flagged and failed count this run; flagged are part of done.
 */
#ifndef RUNNER_STATUS_H
#define RUNNER_STATUS_H

#include "spool.h"

#include <stdbool.h>
#include <stdint.h>

struct run_counts {
	uint64_t settling, ready, active, deferred;
	uint64_t done, flagged, failed;                     /* documents of this run */
	uint64_t pages_ok, pages_blank, pages_flagged, pages_failed, pages_reused;
	uint64_t pages_pending; /* of active documents */
};

struct status {
	const struct spool *spool;
	const char *worker;
	bool quiet;
	double started;       /* monotonic seconds */
	double next_file, next_line;
	double window[60];    /* pages finished at each of the last 60 seconds, for the rate */
};

void status_init(struct status *st, const struct spool *spool, const char *worker, bool quiet);
/* Call about once a second and at the end; `active` and `recognisers` are arrays as above
 * (borrowed). Writes the files when something changed or 10 s have passed; redraws the progress
 * line on a terminal, logs one line a minute elsewhere. */
void status_tick(struct status *st, const char *state, const struct run_counts *counts,
		 json_t *active, json_t *recognisers, double now);
/* Take the progress line off the terminal. */
void status_finish(struct status *st);

#endif
