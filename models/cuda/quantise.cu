/* SPDX-License-Identifier: MIT
 *
 * quantise: rows of bf16 to e4m3 with a scale each: what goes into a product of fp8, rows of x as rows of
 * weights.
 *
 * A block a row, which is read twice, the second time out of the cache: for its largest number, then to be
 * written. Moved, a number: 2 + 1 bytes.
 *
 * Numbers are compared by their bits, which for sizes are in order: so infinities and NaN are largest, and
 * none is lost. They make the scale NaN, and with it all that the row is multiplied by.
 */
#include "cuda/block.cuh"

enum { QUANTISE_THREADS = 256 };

DEVICE uint32_t largest_of(uint32_t bf16x2, uint32_t most)
{
	uint32_t low = bf16x2 & 0x7fff, high = bf16x2 >> 16 & 0x7fff;

	low = low > high ? low : high;
	return low > most ? low : most;
}

/* part: the block's memory, a number for each warp. */
DEVICE uint32_t block_largest(uint32_t most, uint32_t *part)
{
	UNROLL
	for (unsigned mask = WARP / 2; mask > 0; mask /= 2) {
		uint32_t other = shuffle(most, threadIdx.x % WARP ^ mask);

		most = other > most ? other : most;
	}
	if (threadIdx.x % WARP == 0)
		part[threadIdx.x / WARP] = most;
	sync_block();
	for (unsigned w = 0; w < blockDim.x / WARP; w++)
		most = part[w] > most ? part[w] : most;
	return most;
}

DEVICE uint32_t four_e4m3(const float *x, float by)
{
	return e4m3x2_of(x[0] / by, x[1] / by) | e4m3x2_of(x[2] / by, x[3] / by) << 16;
}

static __global__ void THREADS_OF_BLOCK(QUANTISE_THREADS)
	quantise_kernel(const uint16_t *x, uint8_t *codes, float *scale, size_t width)
{
	BLOCK_MEMORY(memory);
	size_t row = blockIdx.x * width;
	uint32_t most = 0;
	float by;

	for (size_t i = threadIdx.x * 8; i < width; i += blockDim.x * 8) {
		uint4 u = *(const uint4 *)(x + row + i);

		most = largest_of(u.x, largest_of(u.y, largest_of(u.z, largest_of(u.w, most))));
	}
	most = block_largest(most, (uint32_t *)memory);
	by = most < 0x7f80 ? float_of_bf16((uint16_t)most) / E4M3_MOST : NAN;
	if (threadIdx.x == 0)
		scale[blockIdx.x] = by;
	if (by == 0.0f)
		by = 1.0f;
	for (size_t i = threadIdx.x * 8; i < width; i += blockDim.x * 8) {
		struct eight e = load_bf16(x + row + i);
		uint2 u;

		u.x = four_e4m3(e.v, by);
		u.y = four_e4m3(e.v + 4, by);
		*(uint2 *)(codes + row + i) = u;
	}
}

int cuda_quantise(cudaStream_t stream, const uint16_t *x, uint8_t *codes, float *scale, size_t n,
		  size_t width)
{
	if (width % 16)
		return CUDA_INVALID;
	return n ? launch(quantise_kernel, n, QUANTISE_THREADS, QUANTISE_THREADS / WARP * sizeof(uint32_t),
			  stream, x, codes, scale, width)
		 : 0;
}
