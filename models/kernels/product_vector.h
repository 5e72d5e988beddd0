/* SPDX-License-Identifier: MIT
 *
 * product_vector: the product (product.h) in vectors of LANES. Included once a level, with the name
 * of its table in PRODUCT.
 *
 * A micro-kernel keeps ROWS x COLUMNS vectors of y in registers. A bf16 number is the upper half of
 * its fp32, so the numbers at even depth are moved up and those at odd depth masked.
 *
 * With a few rows a micro-kernel may fetch what follows its W in memory, which the next call will
 * most likely read: what the CPU fetches of its own accord pauses while W is used again. With many
 * rows there is time to wait.
 */
#include "kernels/product.h"
#include "kernels/vector.h"

#define WIDE	(BLOCK / LANES) /* vectors in a block */
#define COLUMNS (BLOCKS * WIDE)

enum {
	AHEAD_ROWS = 64,
	FETCH = 4096 /* bytes ahead */,
	QUADS = TILE_DEPTH / 4,
	OCTS = TILE_DEPTH / 8
};

INLINE void micro_bf16(const uint16_t *restrict x, size_t x_stride, const uint16_t *restrict w,
		       size_t step, size_t depth, float *restrict y, size_t y_stride, bool add,
		       const int rows, const int columns, const uint16_t *next)
{
	vf sum[ROWS][4 * WIDE];

#pragma GCC unroll 16
	for (int r = 0; r < rows; r++) {
#pragma GCC unroll 16
		for (int c = 0; c < columns; c++)
			sum[r][c] = add ? load(y + r * y_stride + c * LANES) : splat(0);
	}
#pragma GCC unroll 1
	for (size_t p = 0; p < depth; p++, w += step, x += 2) {
		for (int b = 0; next && b < columns / WIDE; b++)
			__builtin_prefetch(next + p * step + b * PAIR, 0, 2);
#pragma GCC unroll 2
		for (int odd = 0; odd < 2; odd++) {
			vf factor[4 * WIDE];

#pragma GCC unroll 16
			for (int c = 0; c < columns; c++) {
				vu both = load_bits(w + c * LANES * 2);

				factor[c] = (vf)(odd ? both & 0xffff0000u : both << 16);
			}
#pragma GCC unroll 16
			for (int r = 0; r < rows; r++) {
				vf xr = (vf)splat_bits((uint32_t)x[r * x_stride + odd] << 16);

#pragma GCC unroll 16
				for (int c = 0; c < columns; c++)
					sum[r][c] += xr * factor[c];
			}
		}
	}
#pragma GCC unroll 16
	for (int r = 0; r < rows; r++) {
#pragma GCC unroll 16
		for (int c = 0; c < columns; c++)
			store(y + r * y_stride + c * LANES, sum[r][c]);
	}
}

INLINE void micro_f32(const float *restrict x, size_t x_stride, const float *restrict w,
		      size_t step, size_t depth, float *restrict y, size_t y_stride, bool add,
		      const int rows, const int columns, const float *next)
{
	vf sum[ROWS][4 * WIDE];

	(void)next;
#pragma GCC unroll 16
	for (int r = 0; r < rows; r++) {
#pragma GCC unroll 16
		for (int c = 0; c < columns; c++)
			sum[r][c] = add ? load(y + r * y_stride + c * LANES) : splat(0);
	}
	for (size_t d = 0; d < depth; d++, w += step) {
		vf factor[4 * WIDE];

#pragma GCC unroll 16
		for (int c = 0; c < columns; c++)
			factor[c] = load(w + c * LANES);
#pragma GCC unroll 16
		for (int r = 0; r < rows; r++) {
			vf xr = splat(x[r * x_stride + d]);

#pragma GCC unroll 16
			for (int c = 0; c < columns; c++)
				sum[r][c] += xr * factor[c];
		}
	}
#pragma GCC unroll 16
	for (int r = 0; r < rows; r++) {
#pragma GCC unroll 16
		for (int c = 0; c < columns; c++)
			store(y + r * y_stride + c * LANES, sum[r][c]);
	}
}

/*
 * From run-time sizes to the micro-kernels of constant size: ROWS rows while there are, then the
 * rest. One row alone needs no fetching ahead.
 */
#define REST(N, MICRO)                                                                             \
	case N:                                                                                    \
		if (N < ROWS)                                                                      \
			MICRO(x, x_stride, w, step, depth, y, y_stride, add,                       \
			      N<ROWS ? N : 1, columns, N> 1 ? next : NULL);                        \
		break;
#define DRIVE(NAME, NUMBER, UNIT, MICRO)                                                           \
	INLINE void NAME##_columns(const NUMBER *x, size_t x_stride, size_t rows, const NUMBER *w, \
				   size_t step, size_t depth, float *y, size_t y_stride, bool add, \
				   const int columns)                                              \
	{                                                                                          \
		const NUMBER *next = rows <= AHEAD_ROWS ? w + depth * step : NULL;                 \
                                                                                                   \
		for (; rows >= ROWS; rows -= ROWS, x += ROWS * x_stride, y += ROWS * y_stride)     \
			MICRO(x, x_stride, w, step, depth, y, y_stride, add, ROWS, columns, next); \
		switch (rows) {                                                                    \
			REST(5, MICRO)                                                             \
			REST(4, MICRO)                                                             \
			REST(3, MICRO)                                                             \
			REST(2, MICRO)                                                             \
			REST(1, MICRO)                                                             \
		}                                                                                  \
	}                                                                                          \
	static void NAME(const NUMBER *x, size_t x_stride, size_t rows, const NUMBER *w,           \
			 size_t depth, size_t blocks, float *y, size_t y_stride, bool add)         \
	{                                                                                          \
		size_t step = blocks * UNIT;                                                       \
                                                                                                   \
		/* One row reads a strip once. */                                                  \
		for (; BLOCKS < 4 && rows == 1 && blocks >= 4;                                     \
		     blocks -= 4, w += 4 * UNIT, y += 4 * BLOCK)                                   \
			MICRO(x, x_stride, w, step, depth, y, y_stride, add, 1, 4 * WIDE, NULL);   \
		for (; blocks >= BLOCKS;                                                           \
		     blocks -= BLOCKS, w += BLOCKS * UNIT, y += BLOCKS * BLOCK)                    \
			NAME##_columns(x, x_stride, rows, w, step, depth, y, y_stride, add,        \
				       COLUMNS);                                                   \
		for (; BLOCKS > 2 && blocks >= 2; blocks -= 2, w += 2 * UNIT, y += 2 * BLOCK)      \
			NAME##_columns(x, x_stride, rows, w, step, depth, y, y_stride, add,        \
				       BLOCKS > 2 ? 2 * WIDE : WIDE);                              \
		for (; blocks > 0; blocks--, w += UNIT, y += BLOCK)                                \
			NAME##_columns(x, x_stride, rows, w, step, depth, y, y_stride, add, WIDE); \
	}

#ifndef OWN_BF16
DRIVE(product_bf16, uint16_t, PAIR, micro_bf16)
#endif
DRIVE(product_f32, float, BLOCK, micro_f32)

/* Numbers of byte `part` of each word (linear_pack.c) as fp32. A byte becomes the last bits before
 * the point of a larger number, from which it is parted by a subtraction, its bias with it. */
INLINE vf int8_part(vu words, int part)
{
	if (part >= 2)
		words >>= 16;
	return part % 2 ? (vf)((words & 0xff00u) | 0x47000000u) - (32768 + 128)
			: (vf)((words & 0xffu) | 0x4b000000u) - (8388608 + 128);
}

#ifndef OWN_BF16
static void unpack_int8(const uint32_t *restrict w, size_t depth, size_t blocks,
			uint16_t *restrict out)
{
	typedef uint16_t halves __attribute__((vector_size(LANES * 2)));
	size_t step = blocks * PAIR;

	for (size_t q = 0; q < depth * QUADS; q++, out += step) {
		for (size_t b = 0; b < blocks; b++, out += PAIR) {
#pragma GCC unroll 4
			for (int i = 0; i < WIDE; i++, w += LANES) {
				__builtin_prefetch((const char *)w + FETCH);
#pragma GCC unroll 4
				for (int part = 0; part < 4; part++) {
					vu bits = (vu)int8_part(load_bits(w), part) >> 16;
					halves half = __builtin_convertvector(bits, halves);

					memcpy(out + part / 2 * step + part % 2 * BLOCK + i * LANES,
					       &half, sizeof(half));
				}
			}
		}
	}
}
#endif

/* What makes of 4 bits and their zero an index of the table below, or the zero itself. */
#if LANES == 16
#include <immintrin.h>

INLINE vu int4_offset(vu zeros)
{
	return 0x00100010u - zeros * 0x00010001u;
}

/* Pair `pair` of an oct: its first numbers in the lower half of the words, its second in the upper.
 * A table has all differences. */
INLINE vu int4_pair(vu words, int pair, vu offset)
{
	vu index = (words >> 4 * pair & 0x000f000fu) + offset;
	static const _Alignas(64) uint16_t bf16[32] = {
		0xc180, 0xc170, 0xc160, 0xc150, 0xc140, 0xc130, 0xc120, 0xc110,
		0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040, 0xc000, 0xbf80,
		0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0,
		0x4100, 0x4110, 0x4120, 0x4130, 0x4140, 0x4150, 0x4160, 0x4170,
	};

	return (vu)_mm512_permutexvar_epi16((__m512i)index, _mm512_load_si512(bf16));
}
#else
INLINE vu int4_offset(vu zeros)
{
	return zeros;
}

INLINE vu int4_pair(vu words, int pair, vu zeros)
{
	vf even = __builtin_convertvector((vi)(words >> 4 * pair & 15u) - (vi)zeros, vf),
	   odd = __builtin_convertvector((vi)(words >> (16 + 4 * pair) & 15u) - (vi)zeros, vf);

	return (vu)even >> 16 | (vu)odd;
}
#endif

INLINE vu int4_offset_of(const uint8_t *zeros)
{
	typedef uint8_t bytes __attribute__((vector_size(LANES)));
	bytes zero;

	memcpy(&zero, zeros, sizeof(zero));
	return int4_offset(__builtin_convertvector(zero, vu));
}

static void unpack_int4(const uint32_t *restrict w, const uint8_t *restrict zeros, size_t depth,
			size_t blocks, uint16_t *restrict out)
{
	size_t step = blocks * PAIR;

	for (size_t o = 0; o < depth * OCTS; o++, out += 3 * step) {
		for (size_t i = 0; i < blocks * WIDE; i++, w += LANES, out += 2 * LANES) {
			vu words = load_bits(w), offset = int4_offset_of(zeros + i * LANES);

			__builtin_prefetch((const char *)w + FETCH);
#pragma GCC unroll 4
			for (int pair = 0; pair < 4; pair++) {
				vu both = int4_pair(words, pair, offset);

				memcpy(out + pair * step, &both, sizeof(both));
			}
		}
	}
}

#ifndef OWN_BF16
/* All sums stay 0: they are read so that they must not be taken for each other, and returned so
 * that they must be computed. */
static double spin(size_t rounds)
{
	enum { CHAINS = 12 };
	static volatile float factor = 0.5f, zero;
	float last = 0;
	vf sum[CHAINS], x = splat(factor);

	for (int c = 0; c < CHAINS; c++)
		sum[c] = splat(zero);
	for (size_t i = 0; i < rounds; i++) {
#pragma GCC unroll 16
		for (int c = 0; c < CHAINS; c++)
			sum[c] += sum[c] * x;
	}
	for (int c = 0; c < CHAINS; c++)
		last += sum[c][0];
	return (double)rounds * CHAINS * LANES * 2 + (double)last;
}

const struct product PRODUCT = {
	.bf16 = product_bf16,
	.f32 = product_f32,
	.unpack_int8 = unpack_int8,
	.unpack_int4 = unpack_int4,
	.spin = spin,
	.depth = DEPTH,
	.multiple = 1,
};
#endif
