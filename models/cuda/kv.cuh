/* SPDX-License-Identifier: MIT
 *
 * kv: where keys, values and scales of a head lie in a page. See kernels.h.
 */
#ifndef MODELS_CUDA_KV_CUH
#define MODELS_CUDA_KV_CUH

#include "cuda/ptx.cuh"

static inline __host__ __device__ unsigned kv_number_size(enum cuda_kv_number number)
{
	return number == CUDA_KV_BF16 ? 2 : 1;
}

/* Bytes of the keys of a head in a page, and of its values. */
static inline __host__ __device__ size_t kv_half(unsigned dim, enum cuda_kv_number number)
{
	return (size_t)CUDA_KV_PAGE * dim * kv_number_size(number);
}

static inline __host__ __device__ size_t kv_head_size(unsigned dim, enum cuda_kv_number number)
{
	return 2 * kv_half(dim, number) +
	       (number == CUDA_KV_E4M3 ? 2 * CUDA_KV_PAGE * sizeof(uint16_t) : 0);
}

DEVICE unsigned char *kv_head(const struct cuda_kv &kv, uint32_t page, unsigned head)
{
	return (unsigned char *)kv.pages + page * kv.stride +
	       head * kv_head_size(kv.dim, kv.number);
}

static inline bool kv_valid(const struct cuda_kv *kv)
{
	return kv->dim % 16 == 0 && kv->dim > 0 && kv->dim <= CUDA_DIM_MAX &&
	       kv->stride % 16 == 0 && kv->heads > 0 &&
	       (kv->number == CUDA_KV_BF16 || kv->number == CUDA_KV_E4M3);
}

#endif
