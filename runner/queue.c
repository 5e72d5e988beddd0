/* SPDX-License-Identifier: MIT */
#include "queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define AGEING_US (3600ull * 1000000)

void queue_clear(struct queue *q)
{
	for (size_t i = 0; i < q->n_lanes; i++)
		q->lanes[i].first = q->lanes[i].end = 0;
}

void queue_release(struct queue *q)
{
	for (size_t i = 0; i < q->n_lanes; i++) {
		free(q->lanes[i].pipeline);
		free(q->lanes[i].entries);
	}
	for (size_t i = 0; i < q->n_pipelines; i++) {
		free(q->pipelines[i].name);
		free(q->pipelines[i].served);
	}
	free(q->lanes);
	free(q->pipelines);
	*q = (struct queue){ 0 };
}

size_t queue_length(const struct queue *q)
{
	size_t n = 0;

	for (size_t i = 0; i < q->n_lanes; i++)
		n += q->lanes[i].end - q->lanes[i].first;
	return n;
}

/* A pipeline that comes late starts with the turns of the one that is furthest behind, so that it
 * does not shut the others out until it has caught up. */
uint64_t *queue_served(struct queue *q, const char *pipeline)
{
	uint64_t *served, least = UINT64_MAX;

	for (size_t i = 0; i < q->n_pipelines; i++) {
		if (!strcmp(q->pipelines[i].name, pipeline))
			return q->pipelines[i].served;
		if (*q->pipelines[i].served < least)
			least = *q->pipelines[i].served;
	}
	served = xmalloc(sizeof(*served));
	*served = q->n_pipelines ? least : 0;
	q->pipelines = xrealloc(q->pipelines, (q->n_pipelines + 1) * sizeof(*q->pipelines));
	q->pipelines[q->n_pipelines++] = (struct queue_pipeline){ xstrdup(pipeline), served };
	return served;
}

static struct queue_lane *find_lane(struct queue *q, unsigned priority, const char *pipeline)
{
	for (size_t i = 0; i < q->n_lanes; i++)
		if (q->lanes[i].priority == priority && !strcmp(q->lanes[i].pipeline, pipeline))
			return &q->lanes[i];
	q->lanes = xrealloc(q->lanes, (q->n_lanes + 1) * sizeof(*q->lanes));
	q->lanes[q->n_lanes] = (struct queue_lane){ .priority = priority,
						    .pipeline = xstrdup(pipeline),
						    .served = queue_served(q, pipeline),
						    .sorted = true };
	return &q->lanes[q->n_lanes++];
}

void queue_add(struct queue *q, unsigned priority, const char *pipeline, const char *key,
	       unsigned attempt)
{
	struct queue_lane *lane = find_lane(q, priority, pipeline);
	struct queue_entry e = { .time = key_time(key),
				 .identity = strtoull(key + 23, NULL, 16),
				 .path = strtoull(key + 40, NULL, 16),
				 .attempt = (uint16_t)attempt };

	if (lane->first == lane->end)
		lane->first = lane->end = 0;
	if (lane->end == lane->cap) {
		lane->cap = lane->cap ? 2 * lane->cap : 64;
		lane->entries = xrealloc(lane->entries, lane->cap * sizeof(e));
	}
	if (lane->end > lane->first && lane->entries[lane->end - 1].time > e.time)
		lane->sorted = false;
	lane->entries[lane->end++] = e;
}

static int by_time(const void *a, const void *b)
{
	const struct queue_entry *x = a, *y = b;

	if (x->time != y->time)
		return x->time < y->time ? -1 : 1;
	return x->path < y->path ? -1 : x->path > y->path;
}

static unsigned effective_priority(const struct queue_lane *lane, uint64_t now)
{
	uint64_t arrived = lane->entries[lane->first].time;
	uint64_t levels = now > arrived ? (now - arrived) / AGEING_US : 0;

	return levels >= lane->priority ? 0 : lane->priority - (unsigned)levels;
}

static bool before(const struct queue_lane *a, const struct queue_lane *b, uint64_t now)
{
	unsigned pa = effective_priority(a, now), pb = effective_priority(b, now);

	if (pa != pb)
		return pa < pb;
	if (*a->served != *b->served)
		return *a->served < *b->served;
	return a->entries[a->first].time < b->entries[b->first].time;
}

bool queue_next(struct queue *q, bool (*skip)(const struct queue_lane *lane, void *arg), void *arg,
		char name[TOKEN_NAME_SIZE], unsigned *priority, char pipeline[65])
{
	struct queue_lane *best = NULL;
	const struct queue_entry *e;
	char key[KEY_SIZE];
	struct timespec ts;
	uint64_t now;

	clock_gettime(CLOCK_REALTIME, &ts);
	now = (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
	for (size_t i = 0; i < q->n_lanes; i++) {
		struct queue_lane *lane = &q->lanes[i];

		if (lane->first == lane->end || lane->closed || skip(lane, arg))
			continue;
		if (!lane->sorted) {
			qsort(lane->entries + lane->first, lane->end - lane->first,
			      sizeof(*lane->entries), by_time);
			lane->sorted = true;
		}
		if (!best || before(lane, best, now))
			best = lane;
	}
	if (!best)
		return false;
	e = &best->entries[best->first++];
	key_make(key, e->time, e->identity, e->path);
	snprintf(name, TOKEN_NAME_SIZE, "%s.a%u", key, e->attempt);
	*priority = best->priority;
	snprintf(pipeline, 65, "%s", best->pipeline);
	return true;
}
