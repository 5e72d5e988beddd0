/* SPDX-License-Identifier: MIT
 *
 * kv: how a page of keys and values lies in memory, for attention's files.
 *
 * Head by head, first the keys and then the values, each packed as the W of a product (product.h):
 * the keys as 32 columns (tokens) of depth dim, the values as dim columns of depth 32 (tokens). So
 * scores and weighted values are two plain products on every level.
 */
#ifndef MODELS_KERNELS_KV_H
#define MODELS_KERNELS_KV_H

#include "kernels/attention.h"
#include "kernels/product.h"

enum { DIM_MAX = 256, KEY_BLOCKS = KV_PAGE / BLOCK };

_Static_assert((int)KV_PAGE == (int)TILE_DEPTH, "the tokens of a page are the depth of one tile");

/* Columns of a head's values, and depth of its keys, with their padding. */
static inline size_t kv_columns(unsigned dim)
{
	return ((size_t)dim + BLOCK - 1) / BLOCK * BLOCK;
}

static inline size_t kv_depth(const struct kv_shape *shape)
{
	size_t multiple = shape->number == NUMBER_F32 ? 1 : 2 * product()->multiple;

	return (shape->dim + multiple - 1) / multiple * multiple;
}

static inline size_t kv_keys_size(const struct kv_shape *shape)
{
	return KV_PAGE * kv_depth(shape) * number_size(shape->number);
}

static inline size_t kv_head_size(const struct kv_shape *shape)
{
	return kv_keys_size(shape) + KV_PAGE * kv_columns(shape->dim) * number_size(shape->number);
}

/* One head of kv_store(). */
void kv_store_head(const struct kv_shape *, void *head, unsigned slot, const float *k,
		   const float *v);

#endif
