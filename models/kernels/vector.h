/* SPDX-License-Identifier: MIT
 *
 * vector: LANES numbers at once in GCC's vector extensions. The file that includes this sets LANES
 * and the target, so the same source serves every level.
 */
#ifndef MODELS_KERNELS_VECTOR_H
#define MODELS_KERNELS_VECTOR_H

#include <stdint.h>
#include <string.h>

typedef float vf __attribute__((vector_size(LANES * 4)));
typedef int32_t vi __attribute__((vector_size(LANES * 4)));
typedef uint32_t vu __attribute__((vector_size(LANES * 4)));

#define INLINE static inline __attribute__((always_inline))

INLINE vf load(const float *p)
{
	vf v;

	memcpy(&v, p, sizeof(v));
	return v;
}

INLINE void store(float *p, vf v)
{
	memcpy(p, &v, sizeof(v));
}

INLINE vu load_bits(const void *p)
{
	vu v;

	memcpy(&v, p, sizeof(v));
	return v;
}

INLINE vf splat(float x)
{
	return x - (vf){0};
}

INLINE vu splat_bits(uint32_t x)
{
	return x - (vu){0};
}

#endif
