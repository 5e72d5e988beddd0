/* SPDX-License-Identifier: MIT
 *
 * strips: how the packed weight of a linear is parted. It is a row of strips of up to 4 blocks (64 columns of
 * y), and each lies in memory from its first depth to its last.
 */
#ifndef MODELS_KERNELS_STRIPS_H
#define MODELS_KERNELS_STRIPS_H

#include "base/num.h"
#include "kernels/linear.h"
#include "kernels/product.h"

enum { STRIP_BLOCKS = 4, STRIP = STRIP_BLOCKS * BLOCK };

static inline size_t tiles_of(size_t in)
{
	return (in + TILE_DEPTH - 1) / TILE_DEPTH;
}

/* The depth in units of the product: bf16 tiles, or fp32 numbers. */
static inline size_t depth_of(const struct linear *l)
{
	return l->number == NUMBER_F32 ? l->in : tiles_of(l->in);
}

static inline size_t blocks_of(const struct linear *l)
{
	return (l->out + BLOCK - 1) / BLOCK;
}

static inline size_t strips_of(const struct linear *l)
{
	return (blocks_of(l) + STRIP_BLOCKS - 1) / STRIP_BLOCKS;
}

static inline size_t blocks_in(const struct linear *l, size_t strip)
{
	return min_u64(STRIP_BLOCKS, blocks_of(l) - strip * STRIP_BLOCKS);
}

#endif
