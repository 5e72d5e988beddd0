/* SPDX-License-Identifier: MIT
 *
 * attention_tile: attention of a few query vectors that read the same keys, page by page.
 */
#ifndef MODELS_KERNELS_ATTENTION_TILE_H
#define MODELS_KERNELS_ATTENTION_TILE_H

#include "kernels/kv.h"
#include "kernels/rows.h"

enum { TILE_QUERIES = 48 };

struct attention_tile {
	const struct kv_shape *shape;
	const struct product *product;
	const struct rows *row;
	float scale;
	size_t queries;

	/* The page at index i: pages[i] + offset, or, without pages, first + i * page_size. */
	void *const *pages;
	size_t offset;
	const char *first;
	size_t page_size;

	float *out[TILE_QUERIES];
	size_t keys[TILE_QUERIES]; /* ascending */
	struct softmax state[TILE_QUERIES];
	_Alignas(64) char q[TILE_QUERIES * (DIM_MAX + TILE_DEPTH) * sizeof(float)];
	_Alignas(64) float scores[TILE_QUERIES * KV_PAGE];
	_Alignas(64) uint16_t weights[TILE_QUERIES * KV_PAGE];
	_Alignas(64) float sums[TILE_QUERIES * DIM_MAX];
};

void attention_tile_add(struct attention_tile *, const float *q, float *out, size_t keys);
void attention_tile_run(struct attention_tile *);

#endif
