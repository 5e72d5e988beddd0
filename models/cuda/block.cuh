/* SPDX-License-Identifier: MIT
 *
 * block: what the kernels that work on rows share: 8 numbers at a time, and sums over a warp and a
 * block.
 *
 * Invariant: a sum's order depends on the number of threads alone, and every thread gets the same
 * bits.
 */
#ifndef MODELS_CUDA_BLOCK_CUH
#define MODELS_CUDA_BLOCK_CUH

#include "cuda/ptx.cuh"

struct eight {
	float v[8];
};

DEVICE struct eight load_bf16(const uint16_t *p)
{
	uint4 u = *(const uint4 *)p;

	return {{low_of(u.x), high_of(u.x), low_of(u.y), high_of(u.y), low_of(u.z), high_of(u.z),
		 low_of(u.w), high_of(u.w)}};
}

DEVICE void store_bf16(uint16_t *p, const struct eight &e)
{
	uint4 u;

	u.x = bf16x2_of(e.v[0], e.v[1]);
	u.y = bf16x2_of(e.v[2], e.v[3]);
	u.z = bf16x2_of(e.v[4], e.v[5]);
	u.w = bf16x2_of(e.v[6], e.v[7]);
	*(uint4 *)p = u;
}

DEVICE struct eight load_f32(const float *p)
{
	float4 low = ((const float4 *)p)[0], high = ((const float4 *)p)[1];

	return {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
}

DEVICE void store_f32(float *p, const struct eight &e)
{
	float4 low, high;

	low.x = e.v[0], low.y = e.v[1], low.z = e.v[2], low.w = e.v[3];
	high.x = e.v[4], high.y = e.v[5], high.z = e.v[6], high.w = e.v[7];
	((float4 *)p)[0] = low;
	((float4 *)p)[1] = high;
}

DEVICE void add_eight(struct eight &e, const struct eight &other)
{
	UNROLL
	for (int i = 0; i < 8; i++)
		e.v[i] += other.v[i];
}

DEVICE float warp_sum(float x)
{
	UNROLL
	for (unsigned mask = WARP / 2; mask > 0; mask /= 2)
		x += shuffle_xor(x, mask);
	return x;
}

DEVICE float warp_max(float x)
{
	UNROLL
	for (unsigned mask = WARP / 2; mask > 0; mask /= 2)
		x = fmaxf(x, shuffle_xor(x, mask));
	return x;
}

/* part: the block's memory, a float for each warp; in use until the block's next sync. */
DEVICE float block_sum(float x, float *part)
{
	float sum = 0;

	x = warp_sum(x);
	if (threadIdx.x % WARP == 0)
		part[threadIdx.x / WARP] = x;
	sync_block();
	for (unsigned w = 0; w < blockDim.x / WARP; w++)
		sum += part[w];
	return sum;
}

#endif
