/* SPDX-License-Identifier: MIT
 *
 * tile: the softmax that attention keeps while it reads keys, for the rows of one m16 tile, and the
 * fragments of q. In all, a lane has g = lane / 4, t = lane % 4 and rows g and g + 8.
 *
 * exp(s scale - max) is taken as exp2(s scale - max) with log2 e in the scale; the maximum is kept
 * of the scores as they are, so that a score costs one multiply-add.
 */
#ifndef MODELS_CUDA_TILE_CUH
#define MODELS_CUDA_TILE_CUH

#include "cuda/ptx.cuh"

#define LOG2_E 1.44269504088896341f

/* Of rows g and g + 8. sum is of the lane's own columns until tile_total(). */
struct tile_state {
	float max[2], sum[2];
};

DEVICE void tile_start(struct tile_state &s)
{
	s = {{-INFINITY, -INFINITY}, {0, 0}};
}

/* The largest of a row's columns, which four lanes have between them. */
DEVICE float tile_row_max(float x)
{
	x = fmaxf(x, shuffle_xor(x, 1));
	return fmaxf(x, shuffle_xor(x, 2));
}

DEVICE float tile_row_sum(float x)
{
	x += shuffle_xor(x, 1);
	return x + shuffle_xor(x, 2);
}

/* What a sum with this maximum weighs beside others, of which `most` is the largest. */
DEVICE float tile_weight(float max, float most, float scale)
{
	return max == most ? 1.0f : fast_exp2((max - most) * scale);
}

/*
 * Takes `count` n8 tiles of scores, masked ones -INFINITY, and makes weights of them; correction:
 * what earlier weights are multiplied by. Rows that have seen nothing yet stay at nothing.
 */
template <int count>
DEVICE void tile_softmax(struct tile_state &state, float (*s)[4], float scale, float *correction)
{
	UNROLL
	for (int r = 0; r < 2; r++) {
		float most = state.max[r], base;

		UNROLL
		for (int n = 0; n < count; n++)
			most = fmaxf(most, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
		most = tile_row_max(most);
		base = most == -INFINITY ? 0.0f : most * scale;
		correction[r] = tile_weight(state.max[r], most, scale);
		state.sum[r] *= correction[r];
		state.max[r] = most;
		UNROLL
		for (int n = 0; n < count; n++) {
			s[n][2 * r] = fast_exp2(fmaf(s[n][2 * r], scale, -base));
			s[n][2 * r + 1] = fast_exp2(fmaf(s[n][2 * r + 1], scale, -base));
			state.sum[r] += s[n][2 * r] + s[n][2 * r + 1];
		}
	}
}

/* Two n8 tiles of weights as the first operand of a product over their 16 columns. */
DEVICE void tile_weights(uint32_t *a, const float (*s)[4])
{
	a[0] = bf16x2_of(s[0][0], s[0][1]);
	a[1] = bf16x2_of(s[0][2], s[0][3]);
	a[2] = bf16x2_of(s[1][0], s[1][1]);
	a[3] = bf16x2_of(s[1][2], s[1][3]);
}

/* Sums are multiplied only where some row of the warp's found a larger score: else by 1. */
template <int count> DEVICE void tile_correct(float (*sums)[4], const float *correction)
{
	if (!any_lane(correction[0] != 1.0f || correction[1] != 1.0f))
		return;
	UNROLL
	for (int n = 0; n < count; n++) {
		sums[n][0] *= correction[0];
		sums[n][1] *= correction[0];
		sums[n][2] *= correction[1];
		sums[n][3] *= correction[1];
	}
}

/*
 * 16 columns of q as first operand: rows low and high, NULL for zeros, columns at and following;
 * what is at `dim` and beyond is 0.
 */
DEVICE void tile_q(uint32_t *a, const uint16_t *low, const uint16_t *high, unsigned at,
		   unsigned dim)
{
	unsigned t = threadIdx.x % 4;

	a[0] = low && at < dim ? *(const uint32_t *)(low + at + 2 * t) : 0;
	a[1] = high && at < dim ? *(const uint32_t *)(high + at + 2 * t) : 0;
	a[2] = low && at + 8 < dim ? *(const uint32_t *)(low + at + 8 + 2 * t) : 0;
	a[3] = high && at + 8 < dim ? *(const uint32_t *)(high + at + 8 + 2 * t) : 0;
}

#endif
