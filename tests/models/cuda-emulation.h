/* SPDX-License-Identifier: MIT
 *
 * cuda-emulation: CUDA's language for a C++ compiler, so that models/cuda/ runs where there is no GPU.
 *
 * Every thread of a block is a fibre. One runs until it has to wait for its warp or its block; which comes
 * next is drawn, so that what depends on an order does not give the same result twice. What all lanes of a
 * warp do together (shuffles, mma, ldmatrix) the last one to arrive does for all. Copies into the block's
 * memory arrive in one block at once, in the next not before they are waited for, as is drawn too; and that
 * memory is full of NaN when a block starts.
 *
 * A kernel that would hang or is undefined on a GPU is told off and ends the program: a lane that leaves or
 * does another thing while others wait for it, addresses that are not aligned. Memory is the test's own, with
 * a page behind it that nobody may touch (cuda-device.h): an access out of range ends the program too.
 */
#ifndef TESTS_CUDA_EMULATION_H
#define TESTS_CUDA_EMULATION_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cuda-stream.h"
#include "cuda/kernels.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __shared__	static

struct emulation_index {
	unsigned x, y, z;
};

struct dim3 {
	unsigned x, y, z;

	dim3(size_t across, size_t down = 1, size_t deep = 1)
		: x((unsigned)across), y((unsigned)down), z((unsigned)deep)
	{
	}
};

struct alignas(8) float2 {
	float x, y;
};

struct alignas(8) uint2 {
	unsigned x, y;
};

struct alignas(16) float4 {
	float x, y, z, w;
};

struct alignas(16) uint4 {
	unsigned x, y, z, w;
};

static inline int min(int a, int b)
{
	return a < b ? a : b;
}

static inline unsigned min(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

extern struct emulation_index threadIdx, blockIdx, blockDim, gridDim; /* of the fibre that runs */

uint16_t emulated_bf16(float);

unsigned char *emulation_block_memory(void);
void emulation_sync_block(void);
void emulation_sync_warp(void);
uint32_t emulation_shuffle(uint32_t x, unsigned lane);
bool emulation_any(bool condition);
void emulation_mma(float *c, const uint32_t *a, const uint32_t *b);
void emulation_load_matrices(uint32_t *m, const void *row, bool transposed);
void emulation_copy_async(void *to, const void *from, bool there);
void emulation_copies_end_group(void);
void emulation_copies_wait(int but);

/* Whether a GPU would take it. */
bool emulation_fits(dim3 blocks, unsigned threads, size_t memory);

/* Blocks one after the other, `kernel` once in each of their threads. */
void emulation_run(dim3 blocks, unsigned threads, size_t memory, void (*kernel)(void *), void *closure);

template <typename... parameters, typename... arguments>
static int launch(void (*kernel)(parameters...), dim3 blocks, unsigned threads, size_t memory,
		  cudaStream_t stream, arguments... given)
{
	auto call = [=] { kernel(given...); };
	auto whole = [=] {
		emulation_run(
			blocks, threads, memory, [](void *closure) { (*(decltype(call) *)closure)(); },
			(void *)&call);
	};

	if (!emulation_fits(blocks, threads, memory))
		return CUDA_INVALID;
	if (stream)
		stream_put(
			stream, [](void *closure) { (*(decltype(whole) *)closure)(); }, &whole, sizeof(whole));
	else
		whole();
	return 0;
}

#endif
