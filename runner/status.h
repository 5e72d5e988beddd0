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
 * pages: blank are part of ok; reused, of all, were read by an earlier attempt.
 */
#ifndef RUNNER_STATUS_H
#define RUNNER_STATUS_H

#include "spool.h"

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct run_counts {
	uint64_t settling, ready, active, deferred;
	uint64_t done, flagged, failed;                     /* documents of this run */
	uint64_t pages_ok, pages_flagged, pages_failed;
	uint64_t pages_blank;   /* of the ok ones */
	uint64_t pages_reused;  /* of all of these, read by an earlier attempt */
	uint64_t pages_pending; /* of active documents */
};

#define STATUS_WINDOW 60

struct status {
	const struct spool *spool;
	int dir;              /* this worker's own folder, where the files are made */
	const char *worker;
	bool quiet;
	bool terminal;        /* standard error is one that can redraw a line */
	double started;       /* monotonic seconds */
	time_t started_at;
	double next_file, next_line;
	bool write_failed;    /* said once */
	char state[32];       /* as of the last tick, to see a change */
	struct run_counts counts;
	struct run_counts logged;
	uint64_t window[STATUS_WINDOW]; /* pages read, in all, at each of the last seconds */
	uint64_t second;      /* of the newest, since the start */
	char summary[256];    /* pages, rate, what is left: a line for people */
	char line[256];       /* of it, what is on the terminal; "" for nothing */
};

/* worker and dir are borrowed. */
void status_init(struct status *st, const struct spool *spool, int dir, const char *worker, bool quiet);
/* Call about once a second and at the end; `active` and `recognisers` are arrays as above
 * (borrowed). Writes the files when something changed or 10 s have passed; redraws the progress
 * line on a terminal, logs one line a minute elsewhere, if there is news. */
void status_tick(struct status *st, const char *state, const struct run_counts *counts,
		 json_t *active, json_t *recognisers, double now);
/* One line on standard output; the progress line steps aside for it. */
void status_print(struct status *st, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* "40 s", "3 min 20 s", "2 h 05 min" */
void status_duration(char *out, size_t size, double seconds);
/* Write the files for the last time, with state "stopped", and take the progress line off the
 * terminal. */
void status_finish(struct status *st);

#endif
