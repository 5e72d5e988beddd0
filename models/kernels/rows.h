/* SPDX-License-Identifier: MIT
 *
 * rows: arithmetic on one row of fp32, for each cpu_level. What each result means: ops.h.
 *
 * Invariant: a number depends on its row alone, in an order that is the same for every call.
 */
#ifndef MODELS_KERNELS_ROWS_H
#define MODELS_KERNELS_ROWS_H

#include <stddef.h>
#include <stdint.h>

/* Of one row of queries: the keys seen so far. Starts as { -INFINITY, 0 }. */
struct softmax {
	float max, sum;
	float correction; /* by softmax(): what all weights before the last 32 must be multiplied by */
};

struct rows {
	void (*bf16)(const float *x, uint16_t *out, size_t n);
	/* y = sums * scale + bias; NULL: 1 and 0. bias and y may be the same. */
	void (*finish)(const float *sums, const float *scale, const float *bias, float *y,
		       size_t n);
	void (*multiply)(float *x, float by, size_t n);
	/*
	 * Take 32 more scores of n queries in, s [n][32], behind `before` keys; a query has `keys`
	 * in all, more than that, and what is beyond weighs nothing. exp(s * scale - max) goes to
	 * bf16 [n][32] or, where that is NULL, back to s.
	 */
	void (*softmax)(struct softmax *, const size_t *keys, size_t before, size_t n, float *s,
			float scale, uint16_t *bf16);

	void (*rms_norm)(const float *x, const float *weight, float eps, float *y, size_t n);
	void (*layer_norm)(const float *x, const float *weight, const float *bias, float eps,
			   float *y, size_t n);
	void (*silu_gate)(const float *gate, const float *up, float *y, size_t n);
	void (*gelu_erf)(float *x, size_t n);
	void (*gelu_tanh)(float *x, size_t n);
	void (*add)(float *y, const float *x, size_t n);
	void (*rotate)(float *x, const float *cosine, const float *sine, size_t half);
	float (*largest)(const float *x, size_t n); /* NaN when one of them is */
	double (*sum_exp)(const float *x, float minus, size_t n);
};

const struct rows *rows_of_level(void);

extern const struct rows rows_plain, rows_avx2, rows_avx512;

#endif
