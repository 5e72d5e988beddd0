/* SPDX-License-Identifier: MIT
 *
 * product: the one matrix product that linear and attention are made of, for each cpu_level.
 *
 *   y[rows][16 blocks] (+)= x[rows][..] W,   W packed in blocks of 16 columns
 *
 * W lies in the order in which it is read, from the first depth to the last: in bf16 as
 * [pairs of depths][16 blocks][2], what VDPBF16PS and TDPBF16PS take, in fp32 as [depths][16
 * blocks]. A CPU fetches what lies one behind the other ahead; of four runs side by side Zen 4 does
 * not. The depth of bf16 is counted in pairs. x is bf16 (64-byte aligned rows) or fp32.
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
	PAIR = 2 * BLOCK, /* numbers of a block for two depths */
	PAIRS = TILE_DEPTH / 2,
	PRODUCT_FEW = 4, /* rows */
};

struct product {
	void (*bf16)(const uint16_t *x, size_t x_stride, size_t rows, const uint16_t *w,
		     size_t depth, size_t blocks, float *y, size_t y_stride, bool add);
	void (*f32)(const float *x, size_t x_stride, size_t rows, const float *w, size_t depth,
		    size_t blocks, float *y, size_t y_stride, bool add);
	/*
	 * Narrow tiles to bf16 tiles, exactly, `depth` by `blocks` of them; the narrow ones' words
	 * are in the order of linear_pack.c. int8 is biased by 128, from int4 the zeros [16 blocks]
	 * are taken.
	 */
	void (*unpack_int8)(const uint32_t *w, size_t depth, size_t blocks, uint16_t *out);
	void (*unpack_int4)(const uint32_t *w, const uint8_t *zeros, size_t depth, size_t blocks,
			    uint16_t *out);
	/*
	 * The product of up to PRODUCT_FEW rows and 4 blocks by such tiles, `depth` of them: of
	 * int4 where there are zeros, else of int8. The same sums as those of bf16() behind
	 * unpacking, which is done in registers here. NULL where a level has none.
	 */
	void (*few)(const uint16_t *x, size_t x_stride, size_t rows, const uint32_t *w,
		    const uint8_t *zeros, size_t depth, size_t blocks, float *y, size_t y_stride);
	/* Multiply and add as bf16() does, in registers alone; returns how many operations. For
	 * bench. */
	double (*spin)(size_t rounds);
	size_t depth;	 /* bf16 tiles a call should have, so that 4 blocks of W stay in the
			    nearest cache */
	size_t multiple; /* pairs: what the depth of bf16() has to be a multiple of */
};

const struct product *product(void); /* of cpu_level() */

extern const struct product product_plain, product_avx2, product_avx512, product_avx512_bf16,
	product_amx;

#endif
