/* SPDX-License-Identifier: MIT
 *
 * eyes: threads that take pages in while the engine computes: read, resized, normalised, cut into patches. A
 * job is the eyes' from when it is given to them until it is taken back; no other thread touches it meanwhile.
 */
#ifndef MODELS_SERVE_EYES_H
#define MODELS_SERVE_EYES_H

#include "serve.h"

/* 0 threads: NULL, and pages are taken in by whoever starts their job. RC_FATAL: no thread, no memory. */
enum rc eyes_open(struct eyes **, const struct server *, unsigned threads, struct err *);
/* Jobs that nobody has taken back are freed. */
void eyes_close(struct eyes *);

/* Pages that `threads` eyes take in ahead. */
unsigned eyes_room(unsigned threads);

/* Given and not taken back. */
unsigned eyes_busy(const struct eyes *);
/* More of them would only lie in memory, as `taken` that were taken back do. */
bool eyes_full(const struct eyes *, size_t taken);

void eyes_give(struct eyes *, struct job *);
/* One that is ready, the first given first; NULL: none is, after `milliseconds`. */
struct job *eyes_take(struct eyes *, unsigned milliseconds);

#endif
