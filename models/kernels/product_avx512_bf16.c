/* SPDX-License-Identifier: MIT
 *
 * product_avx512_bf16: the bf16 product with VDPBF16PS, which adds a pair of products to each of 16
 * lanes, and with few rows the narrow ones, whose weights become bf16 in registers. fp32 is as
 * product_avx512 has it.
 */
#ifdef __x86_64__
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,prefer-vector-width=512")
#define LANES  16
#define ROWS   6
#define BLOCKS 4
#define OWN_BF16
#pragma GCC optimize("O3")
#include "kernels/product_vector.h"

#include "base/err.h"

#include <immintrin.h>

INLINE __m512i pair_of(const uint16_t *x)
{
	int both;

	memcpy(&both, x, sizeof(both));
	return _mm512_set1_epi32(both);
}

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
#pragma GCC unroll 4
	for (size_t p = 0; p < depth; p++, w += step, x += 2) {
		__m512i factor[COLUMNS];

#pragma GCC unroll 16
		for (int c = 0; c < columns; c++)
			factor[c] = _mm512_loadu_si512(w + c * PAIR);
#pragma GCC unroll 16
		for (int c = 0; next && c < columns; c++)
			__builtin_prefetch(next + p * step + c * PAIR, 0, 2);
#pragma GCC unroll 16
		for (int r = 0; r < rows; r++) {
			__m512i xr = pair_of(x + r * x_stride);

#pragma GCC unroll 16
			for (int c = 0; c < columns; c++)
				sum[r][c] = _mm512_dpbf16_ps(sum[r][c], (__m512bh)xr,
							     (__m512bh)factor[c]);
		}
	}
#pragma GCC unroll 16
	for (int r = 0; r < rows; r++) {
#pragma GCC unroll 16
		for (int c = 0; c < columns; c++)
			_mm512_storeu_ps(y + r * y_stride + c * BLOCK, sum[r][c]);
	}
}

DRIVE(product_pairs, uint16_t, PAIR, micro_pairs)

/* Pair `pair` of a quad. */
INLINE __m512i int8_pair(vu words, int pair)
{
	return (__m512i)_mm512_cvtne2ps_pbh((__m512)int8_part(words, 2 * pair + 1),
					    (__m512)int8_part(words, 2 * pair));
}

static void unpack_int8(const uint32_t *restrict w, size_t depth, size_t blocks,
			uint16_t *restrict out)
{
	size_t step = blocks * PAIR;

	for (size_t q = 0; q < depth * QUADS; q++, out += step) {
		for (size_t b = 0; b < blocks; b++, w += BLOCK, out += PAIR) {
			vu words = load_bits(w);

			__builtin_prefetch((const char *)w + FETCH);
			_mm512_storeu_si512(out, int8_pair(words, 0));
			_mm512_storeu_si512(out + step, int8_pair(words, 1));
		}
	}
}

/* `pairs` of them are in a word: 2 of int8, 4 of int4. */
INLINE void micro_narrow(const uint16_t *restrict x, size_t x_stride, const uint32_t *restrict w,
			 const uint8_t *zeros, size_t depth, float *restrict y, size_t y_stride,
			 const int pairs, const int rows, const int blocks)
{
	__m512 sum[PRODUCT_FEW][4];
	vu offset[4];

#pragma GCC unroll 4
	for (int b = 0; b < blocks; b++) {
		if (pairs == 4)
			offset[b] = int4_offset_of(zeros + b * BLOCK);
#pragma GCC unroll 4
		for (int r = 0; r < rows; r++)
			sum[r][b] = _mm512_setzero_ps();
	}
	for (size_t i = 0; i < depth * PAIRS / pairs; i++, x += 2 * pairs) {
#pragma GCC unroll 4
		for (int b = 0; b < blocks; b++, w += BLOCK) {
			vu word = load_bits(w);

			__builtin_prefetch((const char *)w + FETCH);
#pragma GCC unroll 4
			for (int p = 0; p < pairs; p++) {
				__m512i factor = pairs == 2 ? int8_pair(word, p)
							    : (__m512i)int4_pair(word, p, offset[b]);

#pragma GCC unroll 4
				for (int r = 0; r < rows; r++)
					sum[r][b] = _mm512_dpbf16_ps(
						sum[r][b],
						(__m512bh)pair_of(x + r * x_stride + 2 * p),
						(__m512bh)factor);
			}
		}
	}
#pragma GCC unroll 4
	for (int b = 0; b < blocks; b++) {
#pragma GCC unroll 4
		for (int r = 0; r < rows; r++)
			_mm512_storeu_ps(y + r * y_stride + b * BLOCK, sum[r][b]);
	}
}

/* From run-time sizes to constant ones. */
#define FEW(ROWS_, BLOCKS_)                                                                        \
	case ROWS_ * 8 + BLOCKS_:                                                                  \
		if (zeros)                                                                         \
			micro_narrow(x, x_stride, w, zeros, depth, y, y_stride, 4, ROWS_, BLOCKS_); \
		else                                                                               \
			micro_narrow(x, x_stride, w, NULL, depth, y, y_stride, 2, ROWS_, BLOCKS_); \
		break;

static void product_few(const uint16_t *x, size_t x_stride, size_t rows, const uint32_t *w,
			const uint8_t *zeros, size_t depth, size_t blocks, float *y, size_t y_stride)
{
	switch (rows * 8 + blocks) {
		FEW(1, 1) FEW(1, 2) FEW(1, 3) FEW(1, 4)
		FEW(2, 1) FEW(2, 2) FEW(2, 3) FEW(2, 4)
		FEW(3, 1) FEW(3, 2) FEW(3, 3) FEW(3, 4)
		FEW(4, 1) FEW(4, 2) FEW(4, 3) FEW(4, 4)
	default:
		BUG("%zu rows by %zu blocks are not few", rows, blocks);
	}
}

/* All sums stay 0: they are read so that they must not be taken for each other, and returned so
 * that they must be computed. */
static double spin(size_t rounds)
{
	enum { CHAINS = 12 };
	static volatile int factor = 0x3f003f00;
	static volatile float zero;
	float last = 0;
	__m512 sum[CHAINS];
	__m512bh x = (__m512bh)_mm512_set1_epi32(factor);

	for (int c = 0; c < CHAINS; c++)
		sum[c] = _mm512_set1_ps(zero);
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
	.unpack_int8 = unpack_int8,
	.unpack_int4 = unpack_int4,
	.few = product_few,
	.spin = spin,
	.depth = 8,
	.multiple = 1,
};
#endif
