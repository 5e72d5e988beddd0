/* SPDX-License-Identifier: MIT
 *
 * product: the one matrix product that linear and attention are made of, for each cpu_level.
 *
 *   y[rows][16 blocks] (+)= x[rows][..] W,   W packed in blocks of 16 columns
 *
 * W lies as [depth][blocks] units: in bf16 a unit is a tile of 32 x 16 numbers, pairs along the
 * depth beside each other ([16 pairs][16 columns][2], what VDPBF16PS and TDPBF16PS read), in fp32
 * it is one row of 16. x is bf16 (32 depth numbers a row, 64-byte aligned rows) or fp32.
 *
 * Invariant: every number of y is one chain of sums from the first depth to the last, so neither
 * the number of rows nor cutting the depth into several calls changes a bit of it. (The pairs of a
 * bf16 product are added as the level's instruction adds them.)
 */
#ifndef MODELS_KERNELS_PRODUCT_H
#define MODELS_KERNELS_PRODUCT_H

#include "kernels/cpu.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	BLOCK = 16,	 /* columns */
	TILE_DEPTH = 32, /* bf16 numbers */
	TILE = BLOCK * TILE_DEPTH,
};

struct product {
	void (*bf16)(const uint16_t *x, size_t x_stride, size_t rows, const uint16_t *w,
		     size_t depth, size_t blocks, float *y, size_t y_stride, bool add);
	void (*f32)(const float *x, size_t x_stride, size_t rows, const float *w, size_t depth,
		    size_t blocks, float *y, size_t y_stride, bool add);
	/* int8 tiles ([8 quads][16 columns][4]) to bf16 tiles: exact. */
	void (*unpack)(const int8_t *w, size_t tiles, uint16_t *out);
	/* int4 tiles ([4 octs][16 columns] words, linear_pack.c), `depth` by `blocks` of them, less the
	 * zeros [16 blocks], to bf16 tiles: exact. */
	void (*unpack_int4)(const uint32_t *w, const uint8_t *zeros, size_t depth, size_t blocks,
			    uint16_t *out);
	/* Multiply and add as bf16() does, in registers alone; returns how many operations. For
	 * bench. */
	double (*spin)(size_t rounds);
	size_t depth; /* bf16 tiles a call should have, so that 4 blocks of W stay in the nearest
			 cache */
};

const struct product *product(void); /* of cpu_level() */

extern const struct product product_plain, product_avx2, product_avx512, product_avx512_bf16,
	product_amx;

#endif
