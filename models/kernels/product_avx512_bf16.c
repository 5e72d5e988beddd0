/* SPDX-License-Identifier: MIT
 *
 * product_avx512_bf16: the bf16 product with VDPBF16PS, which adds a pair of products to each of 16
 * lanes. fp32 is as product_avx512 has it.
 */
#ifdef __x86_64__
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,prefer-vector-width=512")
#define LANES  16
#define ROWS   6
#define BLOCKS 4
#define OWN_BF16
#pragma GCC optimize("O3")
#include "kernels/product_vector.h"

#include <immintrin.h>

INLINE void micro_pairs(const uint16_t *restrict x, size_t x_stride, const uint16_t *restrict w,
			size_t step, size_t depth, float *restrict y, size_t y_stride, bool add,
			const int rows, const int columns, const uint16_t *next)
{
	__m512 sum[ROWS][COLUMNS];

#pragma GCC unroll 16
	for (int r = 0; r < rows; r++) {
#pragma GCC unroll 16
		for (int c = 0; c < columns; c++)
			sum[r][c] = add ? _mm512_loadu_ps(y + r * y_stride + c * BLOCK)
					: _mm512_setzero_ps();
	}
	for (size_t d = 0; d < depth; d++, w += step, x += TILE_DEPTH) {
#pragma GCC unroll 4
		for (int pair = 0; pair < TILE_DEPTH / 2; pair++) {
			__m512i factor[COLUMNS];

#pragma GCC unroll 16
			for (int c = 0; c < columns; c++)
				factor[c] = _mm512_loadu_si512(w + c * TILE + pair * 2 * BLOCK);
#pragma GCC unroll 16
			for (int c = 0; next && c < columns; c++)
				__builtin_prefetch(next + d * step + c * TILE + pair * 2 * BLOCK, 0,
						   2);
#pragma GCC unroll 16
			for (int r = 0; r < rows; r++) {
				__m512i xr = _mm512_set1_epi32(
					*(const int *)(x + r * x_stride + pair * 2));

#pragma GCC unroll 16
				for (int c = 0; c < columns; c++)
					sum[r][c] = _mm512_dpbf16_ps(sum[r][c], (__m512bh)xr,
								     (__m512bh)factor[c]);
			}
		}
	}
#pragma GCC unroll 16
	for (int r = 0; r < rows; r++) {
#pragma GCC unroll 16
		for (int c = 0; c < columns; c++)
			_mm512_storeu_ps(y + r * y_stride + c * BLOCK, sum[r][c]);
	}
}

DRIVE(product_pairs, uint16_t, TILE, micro_pairs)

/* All sums stay 0: they are returned so that they must be computed. */
static double spin(size_t rounds)
{
	enum { CHAINS = 12 };
	static volatile int factor = 0x3f003f00;
	float last = 0;
	__m512 sum[CHAINS] = {{0}};
	__m512bh x = (__m512bh)_mm512_set1_epi32(factor);

	for (size_t i = 0; i < rounds; i++) {
#pragma GCC unroll 16
		for (int c = 0; c < CHAINS; c++)
			sum[c] = _mm512_dpbf16_ps(sum[c], x, x);
	}
	for (int c = 0; c < CHAINS; c++)
		last += sum[c][0];
	return (double)rounds * CHAINS * BLOCK * 4 + (double)last;
}

const struct product product_avx512_bf16 = {
	.bf16 = product_pairs,
	.f32 = product_f32,
	.unpack = unpack_int8,
	.unpack_int4 = unpack_int4,
	.spin = spin,
	.depth = 8,
};
#endif
