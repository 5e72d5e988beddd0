/* SPDX-License-Identifier: MIT
 *
 * queue: the tokens of ready/ in memory, 32 bytes each, and which comes next.
 *
 * Order: effective priority (0 first; a token gains one level for every hour it has waited), then the
 * pipeline that has been served fewest pages, then time of arrival.  The directory is the truth: an
 * entry whose token somebody else took is dropped when claiming it fails.
 */
#ifndef RUNNER_QUEUE_H
#define RUNNER_QUEUE_H

#include "spool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct queue_entry {
	uint64_t time;     /* of arrival, microseconds since 1970 */
	uint64_t identity; /* the two halves of the key */
	uint64_t path;
	uint16_t attempt;
};

struct queue_lane {
	unsigned priority;
	char *pipeline;
	uint64_t *served;            /* pages, shared by the lanes of a pipeline */
	struct queue_entry *entries; /* [first .. end) sorted by time when `sorted` */
	size_t first, end, cap;
	bool sorted;
	bool closed; /* its recogniser is broken: nothing of it is claimed in this run */
};

struct queue {
	struct queue_lane *lanes;
	size_t n_lanes;
	struct queue_pipeline {
		char *name;
		uint64_t *served;
	} *pipelines;
	size_t n_pipelines;
};

void queue_release(struct queue *q);
void queue_clear(struct queue *q);
size_t queue_length(const struct queue *q);

void queue_add(struct queue *q, unsigned priority, const char *pipeline, const char *key,
	       unsigned attempt);

/* Take the next entry out; false when there is none. name is the token's file name; skip(lane, arg)
 * true passes a lane over. */
bool queue_next(struct queue *q, bool (*skip)(const struct queue_lane *lane, void *arg), void *arg,
		char name[TOKEN_NAME_SIZE], unsigned *priority, char pipeline[65]);

/* Pages that pipeline was served, for the turns. The pointer stays valid. */
uint64_t *queue_served(struct queue *q, const char *pipeline);

#endif
