/* SPDX-License-Identifier: MIT
 *
 * readers: the recognisers of one pipeline: who reads its pages, and who is given their text where
 * another pipeline follows (`then`).
 *
 * Engines belong to their pool; a struct readers is two pointers to them.
 */
#ifndef RUNNER_READERS_H
#define RUNNER_READERS_H

#include "recogniser.h"

struct readers {
	struct engine *page;
	struct engine *text; /* or NULL */
};

struct readers readers_of(struct pool *pool, const struct pipeline *pipeline);

/* BROKEN when one of them is, else STARTING when one of them is. */
enum engine_state readers_state(const struct readers *r);
/* What results depend on is known, although one may have broken since: READY. BROKEN: one broke
 * before it had said who it is, and *why is why. */
enum engine_state readers_known(const struct readers *r, struct err *why);
/* Once they are known: does the one read pages, and the other take text? RC_FAILED, reason
 * "pipeline". */
enum rc readers_check(const struct readers *r, const struct pipeline *pipeline, struct err *err);

/* A document is open that needs them: none of them is stopped altogether to make room for others.
 */
void readers_hold(const struct readers *r);
void readers_let_go(const struct readers *r);

/* How many pages keep all of them busy. */
unsigned readers_appetite(const struct readers *r);

/* {"name":..,"version":..,"model":{"name":..,"sha256":..,"adapters":[..]},"then":{the same}}, new reference. */
json_t *readers_json(const struct readers *r, const struct pipeline *pipeline);

#endif
