/* SPDX-License-Identifier: MIT
 *
 * on-compute: tests that are the same wherever a model is computed: on the CPU, or with ON_CUDA on a GPU, or
 * in its emulation.
 */
#ifndef TESTS_ON_COMPUTE_H
#define TESTS_ON_COMPUTE_H

#include "compute.h"

#include <math.h>
#include <stdlib.h>

/* The device's numbers of features, in the host's memory on both. */
#ifdef ON_CUDA
#include "cuda/gpu.h"

#define COMPUTE_OPEN compute_open_cuda
#define ONLY_ON_CPU(...)
#define ONLY_ON_CUDA(...) __VA_ARGS__,
typedef uint16_t feature;

static inline float feature_value(feature x)
{
	return bf16_to_f32(x);
}

static inline feature feature_of(float x)
{
	return bf16_from_f32(x);
}
#else
#define COMPUTE_OPEN compute_open_cpu
#define ONLY_ON_CPU(...) __VA_ARGS__
#define ONLY_ON_CUDA(...)
typedef float feature;

static inline float feature_value(feature x)
{
	return x;
}

static inline feature feature_of(float x)
{
	return x;
}
#endif

/* Why there is no such device here, or NULL. */
static inline const char *compute_missing(void)
{
#ifdef ON_CUDA
	static struct err err;
	struct gpu *gpu;

	if (gpu_open(&gpu, &err) != RC_OK)
		return err.text;
	gpu_close(gpu);
#endif
	return NULL;
}

/* Why it does not compute with fp8 weights, or NULL. */
static inline const char *compute_lacks_fp8(void)
{
#ifdef ON_CUDA
	static struct err err;
	struct gpu *gpu;
	enum rc rc = gpu_open(&gpu, &err);

	if (rc == RC_OK) {
		rc = gpu_has_fp8(gpu, 256, 256, &err);
		gpu_close(gpu);
	}
	return rc == RC_OK ? NULL : err.text;
#else
	return "it is for GPUs";
#endif
}

/* Is it a model that the device does not compute? */
static inline bool compute_refuses(const struct model_config *c)
{
#ifdef ON_CUDA
	return c->text.head_dim % 16;
#else
	(void)c;
	return false;
#endif
}

/* n numbers, freed by the caller. */
static inline float *features_read(const float *features, size_t n)
{
	const feature *from = (const void *)features;
	float *to = xmalloc(n * sizeof(*to));

	for (size_t i = 0; i < n; i++)
		to[i] = feature_value(from[i]);
	return to;
}

static inline void features_write(float *features, size_t i, float x)
{
	((feature *)(void *)features)[i] = feature_of(x);
}

/* The largest difference as a share of the largest number that is wanted; infinite where one got is not finite. */
static inline double furthest(const float *got, const float *wanted, size_t n)
{
	double largest = 0, off = 0;

	for (size_t i = 0; i < n; i++) {
		largest = fmax(largest, fabs((double)wanted[i]));
		off = fmax(off, isfinite(got[i]) ? fabs((double)got[i] - wanted[i]) : INFINITY);
	}
	return off / largest;
}

#endif
