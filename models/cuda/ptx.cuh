/* SPDX-License-Identifier: MIT
 *
 * ptx: what the kernels ask of the machine, each behind one small function: the PTX for nvcc, the
 * emulation of tests/models/cuda-emulation.h for a C++ compiler. Nothing else in this folder knows
 * which of the two it is.
 *
 * Invariant: both give the same bits, but for mma_bf16() (the order of its 16 products is the
 * hardware's own) and fast_exp2() (2 units in the last place).
 */
#ifndef MODELS_CUDA_PTX_CUH
#define MODELS_CUDA_PTX_CUH

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __CUDACC__
#include <cuda_runtime.h>
#define UNROLL		       _Pragma("unroll")
#define BLOCK_MEMORY(name)     extern __shared__ __align__(16) unsigned char name[]
#define THREADS_OF_BLOCK(most) __launch_bounds__(most)
#else
#include "cuda-emulation.h"
#define UNROLL
#define BLOCK_MEMORY(name) unsigned char *name = emulation_block_memory()
#define THREADS_OF_BLOCK(most)
#endif

#include "cuda/kernels.h"

#define DEVICE static __device__ __forceinline__

enum { WARP = 32 };

DEVICE float float_of_bits(uint32_t bits)
{
#ifdef __CUDACC__
	return __uint_as_float(bits);
#else
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
#endif
}

DEVICE uint32_t bits_of_float(float f)
{
#ifdef __CUDACC__
	return __float_as_uint(f);
#else
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	return bits;
#endif
}

/* --- Numbers --- */

DEVICE float float_of_bf16(uint16_t b)
{
	return float_of_bits((uint32_t)b << 16);
}

/* To nearest, ties to even; every NaN becomes 0x7fff. */
DEVICE uint32_t bf16x2_of(float low, float high)
{
#ifdef __CUDACC__
	uint32_t both;

	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
	return both;
#else
	return emulated_bf16(low) | (uint32_t)emulated_bf16(high) << 16;
#endif
}

DEVICE uint16_t bf16_of(float f)
{
	return (uint16_t)bf16x2_of(f, 0.0f);
}

DEVICE float low_of(uint32_t bf16x2)
{
	return float_of_bits(bf16x2 << 16);
}

DEVICE float high_of(uint32_t bf16x2)
{
	return float_of_bits(bf16x2 & 0xffff0000u);
}

#define E4M3_MOST 448.0f

/*
 * To e4m3 to nearest, ties to even, what is beyond 448 to 448, as cvt.rn.satfinite.e4m3x2 of sm_89
 * does; in arithmetic, for sm_80 has no such instruction.
 */
DEVICE uint8_t e4m3_of(float f)
{
	uint32_t bits = bits_of_float(f), sign = bits >> 24 & 0x80, size = bits & 0x7fffffff, code;

	if (size > 0x7f800000)
		return 0x7f;
	if (size >= 0x43e80000) /* 464: half way to what would be 480 */
		code = 0x7e;
	else if (size < 0x3c800000) /* below 2^-6: in steps of 2^-9 */
		code = bits_of_float(float_of_bits(size) + 16384.0f) - bits_of_float(16384.0f);
	else
		code = ((size + 0x7ffff + (size >> 20 & 1)) >> 20) - (120 << 3);
	return (uint8_t)(sign | (code > 0x7e ? 0x7e : code));
}

/* Two of them, the first one low. */
DEVICE uint32_t e4m3x2_of(float low, float high)
{
	return e4m3_of(low) | (uint32_t)e4m3_of(high) << 8;
}

/*
 * Two e4m3 in the high bytes of the halves of `pair` to bf16x2, exactly: the fields are shifted
 * into place and 2^120 makes up for the exponents' biases (subnormals too). The code of NaN gives
 * 480: NaN is in the scales.
 */
DEVICE uint32_t bf16x2_of_e4m3(uint32_t pair)
{
	uint32_t shifted = (pair & 0x80008000u) | (pair & 0x7f007f00u) >> 4;
#ifdef __CUDACC__
	uint32_t both;

	asm("fma.rn.bf16x2 %0, %1, %2, %3;"
	    : "=r"(both)
	    : "r"(shifted), "r"(0x7b807b80u), "r"(0x80008000u));
	return both;
#else
	return bf16x2_of(low_of(shifted) * 0x1p120f, high_of(shifted) * 0x1p120f);
#endif
}

/* The bytes of the eight in (low, high) that the digits of `choice` name, the lowest first. */
DEVICE uint32_t pick_bytes(uint32_t low, uint32_t high, uint32_t choice)
{
#ifdef __CUDACC__
	return __byte_perm(low, high, choice);
#else
	uint64_t all = (uint64_t)high << 32 | low;
	uint32_t picked = 0;

	for (int i = 0; i < 4; i++)
		picked |= (uint32_t)(all >> (choice >> 4 * i & 7) * 8 & 0xff) << 8 * i;
	return picked;
#endif
}

DEVICE float fast_exp2(float x)
{
#ifdef __CUDACC__
	float y;

	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
#else
	return exp2f(x);
#endif
}

/* a b, rounded: never part of a multiply-add, which the CPU's results know nothing of. */
DEVICE double product(double a, double b)
{
#ifdef __CUDACC__
	return __dmul_rn(a, b);
#else
	return a * b;
#endif
}

/* Of whole numbers, in the block's memory: returns what was there. */
DEVICE unsigned add_atomic(unsigned *to, unsigned x)
{
#ifdef __CUDACC__
	return atomicAdd(to, x);
#else
	unsigned before = *to;

	*to += x;
	return before;
#endif
}

/* --- A warp, all lanes of it at the same call --- */

DEVICE void sync_block(void)
{
#ifdef __CUDACC__
	__syncthreads();
#else
	emulation_sync_block();
#endif
}

DEVICE void sync_warp(void)
{
#ifdef __CUDACC__
	__syncwarp();
#else
	emulation_sync_warp();
#endif
}

DEVICE uint32_t shuffle(uint32_t x, unsigned lane)
{
#ifdef __CUDACC__
	return __shfl_sync(0xffffffffu, x, (int)lane);
#else
	return emulation_shuffle(x, lane);
#endif
}

DEVICE float shuffle_xor(float x, unsigned mask)
{
#ifdef __CUDACC__
	return __shfl_xor_sync(0xffffffffu, x, (int)mask);
#else
	return float_of_bits(emulation_shuffle(bits_of_float(x), threadIdx.x % WARP ^ mask));
#endif
}

DEVICE bool any_lane(bool condition)
{
#ifdef __CUDACC__
	return __any_sync(0xffffffffu, condition);
#else
	return emulation_any(condition);
#endif
}

/*
 * c [16][8] += a [16][16] b [16][8], bf16 with fp32 sums. With g = lane / 4, t = lane % 4: a[0] has
 * row g, columns 2t and 2t + 1; a[1] row g + 8; a[2] and a[3] columns 8 further; b[0] column g,
 * rows 2t and 2t + 1; b[1] rows 8 further; c[0], c[1] row g, columns 2t and 2t + 1; c[2], c[3] row
 * g + 8.
 */
DEVICE void mma_bf16(float *c, const uint32_t *a, const uint32_t *b)
{
#ifdef __CUDACC__
	asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
	    "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
	    : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
	emulation_mma(c, a, b);
#endif
}

/*
 * Four matrices of 8 x 8 halves from the block's memory: lane 8 i + r has the address of row r of
 * matrix i, 16 bytes; m[i] gets row lane / 4, columns 2 (lane % 4) and one more of it. With
 * transpose, of it transposed.
 */
DEVICE void load_matrices(uint32_t *m, const void *row)
{
#ifdef __CUDACC__
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
		     : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
		     : "r"((uint32_t)__cvta_generic_to_shared(row))
		     : "memory");
#else
	emulation_load_matrices(m, row, false);
#endif
}

DEVICE void load_matrices_transposed(uint32_t *m, const void *row)
{
#ifdef __CUDACC__
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
		     : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
		     : "r"((uint32_t)__cvta_generic_to_shared(row))
		     : "memory");
#else
	emulation_load_matrices(m, row, true);
#endif
}

/* --- Copies into the block's memory that go on while the thread computes --- */

/* 16 bytes, both addresses aligned; not `there`: zeros, and from is not looked at. */
DEVICE void copy_async(void *to, const void *from, bool there)
{
#ifdef __CUDACC__
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
		     :
		     : "r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from), "r"(there ? 16 : 0)
		     : "memory");
#else
	emulation_copy_async(to, from, there);
#endif
}

/* What the thread has asked for since the last call is one group. */
DEVICE void copies_end_group(void)
{
#ifdef __CUDACC__
	asm volatile("cp.async.commit_group;" : : : "memory");
#else
	emulation_copies_end_group();
#endif
}

/* Until all of the thread's groups but the last `but` have arrived. Others see them after a sync.
 */
template <int but> DEVICE void copies_wait(void)
{
#ifdef __CUDACC__
	asm volatile("cp.async.wait_group %0;" : : "n"(but) : "memory");
#else
	emulation_copies_wait(but);
#endif
}

/* --- Launches, on the host --- */

#ifdef __CUDACC__
template <typename... parameters, typename... arguments>
static int launch(void (*kernel)(parameters...), dim3 blocks, unsigned threads, size_t memory,
		  cudaStream_t stream, arguments... given)
{
	if (memory > 48 * 1024) {
		cudaError_t error = cudaFuncSetAttribute(
			kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)memory);

		if (error != cudaSuccess)
			return (int)error;
	}
	kernel<<<blocks, threads, memory, stream>>>(given...);
	return (int)cudaGetLastError();
}
#endif

static inline unsigned divide_up(size_t a, size_t b)
{
	return (unsigned)((a + b - 1) / b);
}

#endif
