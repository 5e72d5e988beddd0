/* SPDX-License-Identifier: MIT
 *
 * attention_tile: see attention_tile.h.
 *
 * For each page: scores = q K', the running softmax of each row, sums = sums * correction + weights
 * V.
 *
 * Invariant: a query takes part in the pages that hold keys of its own and in no other, and what a
 * page holds beyond them weighs exactly nothing; so its neighbours in the tile do not touch its
 * bits. (Values must be finite: nothing times NaN is NaN.)
 */
#include "kernels/attention_tile.h"

#include "kernels/strips.h"

#include <string.h>

/* In numbers; odd in cache lines. */
static size_t q_stride(const struct kv_shape *shape)
{
	return shape->number == NUMBER_F32 ? shape->dim
					   : (tiles_of(kv_depth(shape)) | 1) * TILE_DEPTH;
}

void attention_tile_add(struct attention_tile *t, const float *q, float *out, size_t keys)
{
	size_t i = t->queries++, columns = kv_columns(t->shape->dim);
	char *to = t->q + i * q_stride(t->shape) * number_size(t->shape->number);

	if (t->shape->number == NUMBER_F32) {
		memcpy(to, q, t->shape->dim * sizeof(*q));
	} else {
		t->row->bf16(q, (uint16_t *)to, t->shape->dim);
		memset((uint16_t *)to + t->shape->dim, 0,
		       (kv_depth(t->shape) - t->shape->dim) * sizeof(uint16_t));
	}
	t->out[i] = out;
	t->keys[i] = keys;
	t->state[i] = (struct softmax){.max = -__builtin_inff()};
	memset(t->sums + i * columns, 0, columns * sizeof(*t->sums));
}

static void multiply_keys(struct attention_tile *t, const void *keys, size_t first)
{
	const char *q = t->q + first * q_stride(t->shape) * number_size(t->shape->number);
	float *scores = t->scores + first * KV_PAGE;
	size_t stride = q_stride(t->shape), depth = kv_depth(t->shape), rows = t->queries - first;

	if (t->shape->number == NUMBER_F32)
		t->product->f32((const float *)q, stride, rows, keys, depth, KEY_BLOCKS, scores,
				KV_PAGE, false);
	else
		t->product->bf16((const uint16_t *)q, stride, rows, keys, depth / 2, KEY_BLOCKS,
				 scores, KV_PAGE, false);
}

static void weigh(struct attention_tile *t, size_t page, size_t first)
{
	size_t columns = kv_columns(t->shape->dim);

	t->row->softmax(t->state + first, t->keys + first, page * KV_PAGE, t->queries - first,
			t->scores + first * KV_PAGE, t->scale,
			t->shape->number == NUMBER_F32 ? NULL : t->weights + first * KV_PAGE);
	for (size_t i = first; i < t->queries; i++)
		if (t->state[i].correction != 1.0f)
			t->row->multiply(t->sums + i * columns, t->state[i].correction, columns);
}

static void multiply_values(struct attention_tile *t, const void *values, size_t first)
{
	size_t columns = kv_columns(t->shape->dim), rows = t->queries - first;
	float *sums = t->sums + first * columns;

	if (t->shape->number == NUMBER_F32)
		t->product->f32(t->scores + first * KV_PAGE, KV_PAGE, rows, values, KV_PAGE,
				columns / BLOCK, sums, columns, true);
	else
		t->product->bf16(t->weights + first * KV_PAGE, KV_PAGE, rows, values, KV_PAGE / 2,
				 columns / BLOCK, sums, columns, true);
}

void attention_tile_run(struct attention_tile *t)
{
	size_t first = 0, columns = kv_columns(t->shape->dim);

	for (size_t page = 0;; page++) {
		const char *keys;

		while (first < t->queries && t->keys[first] <= page * KV_PAGE)
			first++;
		if (first == t->queries)
			break;
		keys = t->pages ? (const char *)t->pages[page] + t->offset
				: t->first + page * t->page_size;
		multiply_keys(t, keys, first);
		weigh(t, page, first);
		multiply_values(t, keys + kv_keys_size(t->shape), first);
	}
	for (size_t i = 0; i < t->queries; i++) {
		float *sums = t->sums + i * columns;

		if (t->keys[i] > 0)
			t->row->multiply(sums, 1.0f / t->state[i].sum, columns);
		memcpy(t->out[i], sums, t->shape->dim * sizeof(*sums));
	}
}
