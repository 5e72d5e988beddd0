/* SPDX-License-Identifier: MIT
 *
 * ops: what lies between the matrix products, on rows of fp32.
 *
 * All are row by row, in an order that does not depend on the number of rows.
 */
#ifndef MODELS_KERNELS_OPS_H
#define MODELS_KERNELS_OPS_H

#include "kernels/pool.h"

#include <stddef.h>

/* y = x / sqrt(mean(x^2) + eps) * weight. x and y may be the same. [rows][n], contiguous. */
void rms_norm(struct pool *, const float *x, const float *weight, float eps, float *y, size_t rows,
	      size_t n);

/* The same within each head of a row that has more beside them: x [rows][stride], in place. */
void rms_norm_heads(struct pool *, float *x, const float *weight, float eps, size_t rows,
		    size_t stride, unsigned heads, unsigned dim);

/* y = (x - mean) / sqrt(variance + eps) * weight + bias. */
void layer_norm(struct pool *, const float *x, const float *weight, const float *bias, float eps,
		float *y, size_t rows, size_t n);

/* gate_up [rows][2 n], gate first: y[rows][n] = silu(gate) * up. */
void silu_gate(struct pool *, const float *gate_up, float *y, size_t rows, size_t n);

void gelu_erf(struct pool *, float *x, size_t n); /* 0.5 x (1 + erf(x / sqrt 2)) */
void gelu_tanh(struct pool *, float *x,
	       size_t n); /* 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) */

void add(struct pool *, float *y, const float *x, size_t n); /* y += x */

/* The same into rows that have more beside them: y [rows][stride], x [rows][n]. */
void add_rows(struct pool *, float *y, size_t stride, const float *x, size_t rows, size_t n);

/*
 * Rotate pairs (i, i + rotary/2) of each head by the row's angles; what is beyond `rotary` stays.
 * x [rows][stride]; cosine and sine [rows][rotary/2].
 */
void rope(struct pool *, float *x, const float *cosine, const float *sine, size_t rows,
	  size_t stride, unsigned heads, unsigned dim, unsigned rotary);

/* Index of the first largest; n >= 1. A NaN anywhere gives n. */
size_t argmax(const float *x, size_t n);

/* log(sum(exp(x))), exp in fp32, summed up in fp64. */
double log_sum_exp(const float *x, size_t n);

#endif
