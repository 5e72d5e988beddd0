/* SPDX-License-Identifier: MIT
 *
 * A list of the keys seen: there are some hundred at most, and a look through it is nothing beside a step.
 */
#include "cuda/replay.h"

#include "base/num.h"
#include "cuda/memory.h"

#include <stdlib.h>

struct record {
	struct replay_key key;
	struct gpu_graph *graph; /* NULL: seen once, or there is no room for it */
	bool refused;
};

struct replays {
	struct gpu *gpu;
	struct record *records;
	size_t count, room;
};

struct replays *replays_new(struct gpu *gpu)
{
	struct replays *r = xcalloc(1, sizeof(*r));

	r->gpu = gpu;
	return r;
}

void replays_forget(struct replays *r)
{
	for (size_t i = 0; i < r->count; i++)
		gpu_graph_free(r->gpu, r->records[i].graph);
	r->count = 0;
}

void replays_free(struct replays *r)
{
	if (!r)
		return;
	replays_forget(r);
	free(r->records);
	free(r);
}

size_t replay_rows(size_t n, size_t most)
{
	size_t rows = 1;

	while (rows < 8 && rows < n)
		rows *= 2;
	return min_u64(n > 8 ? (n + 15) / 16 * 16 : rows, most);
}

size_t replay_keys(size_t n, size_t most)
{
	size_t keys = CUDA_DECODE_SPLIT;

	while (keys < n)
		keys *= 2;
	return min_u64(keys, most);
}

size_t replay_tiles(size_t n, size_t most)
{
	size_t tiles = n > 0;

	while (tiles < n)
		tiles *= 2;
	return min_u64(tiles, most);
}

static bool same(const struct replay_key *a, const struct replay_key *b)
{
	return a->flight == b->flight && a->limit == b->limit && a->rows == b->rows && a->keys == b->keys &&
	       a->tiles == b->tiles;
}

static struct record *find(struct replays *r, const struct replay_key *key)
{
	for (size_t i = 0; i < r->count; i++)
		if (same(&r->records[i].key, key))
			return &r->records[i];
	return NULL;
}

static void add(struct replays *r, const struct replay_key *key)
{
	if (r->count == r->room) {
		r->room = r->room ? 2 * r->room : 64;
		r->records = xrealloc(r->records, r->room * sizeof(*r->records));
	}
	r->records[r->count++] = (struct record){.key = *key};
}

void replay(struct replays *r, const struct replay_key *key, void (*run)(void *arg), void *arg)
{
	struct record *record = find(r, key);

	if (!record)
		add(r, key);
	if (!record || record->refused) {
		run(arg);
		return;
	}
	if (!record->graph && gpu_room(r->gpu) >= MEMORY_FOR_KERNELS) {
		gpu_graph_begin(r->gpu);
		run(arg);
		record->graph = gpu_graph_end(r->gpu);
	}
	record->refused = !record->graph;
	if (record->graph)
		gpu_graph_run(r->gpu, record->graph);
	else
		run(arg);
}
