/* SPDX-License-Identifier: MIT
 *
 * product_amx: the bf16 product in tiles. fp32 and the unpacking of int8 and int4 are as product_avx512
 * has them.
 *
 * 32 rows x 2 blocks at a time while there are 32 rows; the rest by 16 and at last by fewer rows, 4
 * blocks at a time. One row too goes through the tiles: it waits for memory anyway, and its sums
 * are then those it has in company.
 */
#ifdef __x86_64__
#ifndef TILE_EMULATED
#pragma GCC target("avx512f,avx512bf16,amx-tile,amx-bf16")
#endif
#include "kernels/product.h"
#include "kernels/tile.h"

enum { TILE_ROWS = 16, TILE_BYTES = TILE * 2, AHEAD = 4 * TILE_BYTES };

static void configure(unsigned rows)
{
	static __thread unsigned current;

	if (current != rows)
		tile_configure(rows);
	current = rows;
}

/* 32 rows, 2 blocks. */
static inline void square(const uint16_t *x, size_t x_stride, const uint16_t *w, size_t step,
			  size_t depth, float *y, size_t y_stride, bool add)
{
	const uint16_t *below = x + TILE_ROWS * x_stride;
	float *y_below = y + TILE_ROWS * y_stride;

	if (add) {
		tile_load(0, y, y_stride * 4);
		tile_load(1, y + BLOCK, y_stride * 4);
		tile_load(2, y_below, y_stride * 4);
		tile_load(3, y_below + BLOCK, y_stride * 4);
	} else {
		tile_zero(0);
		tile_zero(1);
		tile_zero(2);
		tile_zero(3);
	}
	for (size_t d = 0; d < depth;
	     d += PAIRS, w += PAIRS * step, x += TILE_DEPTH, below += TILE_DEPTH) {
		tile_load(4, x, x_stride * 2);
		tile_load(6, w, step * 2);
		tile_load(7, w + PAIR, step * 2);
		tile_dot(0, 4, 6);
		tile_dot(1, 4, 7);
		tile_load(5, below, x_stride * 2);
		tile_dot(2, 5, 6);
		tile_dot(3, 5, 7);
	}
	tile_store(0, y, y_stride * 4);
	tile_store(1, y + BLOCK, y_stride * 4);
	tile_store(2, y_below, y_stride * 4);
	tile_store(3, y_below + BLOCK, y_stride * 4);
}

/* Up to 16 rows, `blocks` (1 to 4) blocks. */
static inline void stripe(const uint16_t *x, size_t x_stride, const uint16_t *w, size_t step,
			  size_t depth, size_t blocks, float *y, size_t y_stride, bool add)
{
/* block, a tile of its own for W: the names of tiles are literals */
#define EACH_BLOCK(DO)                                                                             \
	do {                                                                                       \
		DO(0, 5);                                                                          \
		if (blocks > 1)                                                                    \
			DO(1, 6);                                                                  \
		if (blocks > 2)                                                                    \
			DO(2, 7);                                                                  \
		if (blocks > 3)                                                                    \
			DO(3, 5);                                                                  \
	} while (0)
#define LOAD(b, t)  tile_load(b, y + (b)*BLOCK, y_stride * 4)
#define ZERO(b, t)  tile_zero(b)
#define STORE(b, t) tile_store(b, y + (b)*BLOCK, y_stride * 4)
#define DOT(b, t)                                                                                  \
	do {                                                                                       \
		tile_load(t, w + (b)*PAIR, step * 2);                                              \
		tile_dot(b, 4, t);                                                                 \
	} while (0)

	if (add)
		EACH_BLOCK(LOAD);
	else
		EACH_BLOCK(ZERO);
	for (size_t d = 0; d < depth; d += PAIRS, w += PAIRS * step, x += TILE_DEPTH) {
		for (size_t byte = 0; byte < blocks * TILE_BYTES; byte += 64)
			__builtin_prefetch((const char *)w + AHEAD + byte);
		tile_load(4, x, x_stride * 2);
		EACH_BLOCK(DOT);
	}
	EACH_BLOCK(STORE);
}

static void product_tiles(const uint16_t *x, size_t x_stride, size_t rows, const uint16_t *w,
			  size_t depth, size_t blocks, float *y, size_t y_stride, bool add)
{
	size_t step = blocks * PAIR, whole = rows / (2 * TILE_ROWS) * (2 * TILE_ROWS);

	for (size_t b = 0; whole > 0 && b < blocks; b += 2) {
		configure(TILE_ROWS);
		for (size_t r = 0; r < whole; r += 2 * TILE_ROWS) {
			const uint16_t *xr = x + r * x_stride;
			float *yr = y + r * y_stride + b * BLOCK;

			if (b + 1 < blocks) {
				square(xr, x_stride, w + b * PAIR, step, depth, yr, y_stride, add);
				continue;
			}
			stripe(xr, x_stride, w + b * PAIR, step, depth, 1, yr, y_stride, add);
			stripe(xr + TILE_ROWS * x_stride, x_stride, w + b * PAIR, step, depth, 1,
			       yr + TILE_ROWS * y_stride, y_stride, add);
		}
	}
	for (size_t r = whole; r < rows; r += TILE_ROWS) {
		configure(rows - r < TILE_ROWS ? (unsigned)(rows - r) : TILE_ROWS);
		for (size_t b = 0; b < blocks; b += 4)
			stripe(x + r * x_stride, x_stride, w + b * PAIR, step, depth,
			       blocks - b < 4 ? blocks - b : 4, y + r * y_stride + b * BLOCK,
			       y_stride, add);
	}
}

static void product_f32(const float *x, size_t x_stride, size_t rows, const float *w, size_t depth,
			size_t blocks, float *y, size_t y_stride, bool add)
{
	product_avx512.f32(x, x_stride, rows, w, depth, blocks, y, y_stride, add);
}

static void unpack_int8(const uint32_t *w, size_t depth, size_t blocks, uint16_t *out)
{
	product_avx512.unpack_int8(w, depth, blocks, out);
}

static void unpack_int4(const uint32_t *w, const uint8_t *zeros, size_t depth, size_t blocks,
			uint16_t *out)
{
	product_avx512.unpack_int4(w, zeros, depth, blocks, out);
}

static double spin(size_t rounds)
{
	configure(TILE_ROWS);
	tile_zero(4);
	tile_zero(5);
	tile_zero(6);
	tile_zero(7);
	for (size_t i = 0; i < rounds; i++) {
		tile_dot(0, 4, 6);
		tile_dot(1, 4, 7);
		tile_dot(2, 5, 6);
		tile_dot(3, 5, 7);
	}
	return (double)rounds * 4 * TILE_ROWS * TILE * 2;
}

const struct product product_amx = {
	.bf16 = product_tiles,
	.f32 = product_f32,
	.unpack_int8 = unpack_int8,
	.unpack_int4 = unpack_int4,
	.spin = spin,
	.depth = 16,
	.multiple = PAIRS,
};
#endif
