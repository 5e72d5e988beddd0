/* SPDX-License-Identifier: MIT
 *
 * cuda-model: what the tests that put a whole model together out of the GPU's kernels share: weights as bf16
 * numbers, and products as cuBLASLt takes them, here on the host: bf16 in and out, fp32 sums.
 */
#ifndef TESTS_CUDA_MODEL_H
#define TESTS_CUDA_MODEL_H

#include "cuda-device.h"

#include "model.h"

#define LAUNCHED(call) assert_int_equal(call, 0)

struct weight {
	float *w; /* [out][in], on the host */
	size_t out, in;
};

/* The tensor "PREFIX.PART", rounded to bf16. */
static inline float *take(struct weights *w, const char *prefix, const char *part, size_t rows, size_t columns)
{
	char name[128];
	float *x;
	struct err err;

	snprintf(name, sizeof(name), "%s.%s", prefix, part);
	if (weights_take_f32(w, name, rows, columns, &x, &err) != RC_OK)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < rows * columns; i++)
		x[i] = bf16_to_f32(bf16_from_f32(x[i]));
	return x;
}

static inline uint16_t *take_device(struct weights *w, const char *prefix, const char *part, size_t n)
{
	float *x = take(w, prefix, part, n, 1);
	uint16_t *p = device_bf16(x, n);

	free(x);
	return p;
}

/* Widths are multiples of 8: what is added is zeros, and stays zeros through SwiGLU. */
static inline size_t padded(size_t n)
{
	return (n + 7) / 8 * 8;
}

/* Parts one below the other. */
static inline struct weight take_weight(struct weights *w, const char *prefix, const char *const *parts, const size_t *rows,
				 size_t count, size_t in)
{
	struct weight all = { NULL, 0, in > 1 ? padded(in) : in };

	for (size_t i = 0; i < count; i++) {
		size_t out = padded(rows[i]);
		float *x = take(w, prefix, parts[i], rows[i], in);

		all.w = xrealloc(all.w, (all.out + out) * all.in * sizeof(float));
		memset(all.w + all.out * all.in, 0, out * all.in * sizeof(float));
		for (size_t r = 0; r < rows[i]; r++)
			memcpy(all.w + (all.out + r) * all.in, x + r * in, in * sizeof(float));
		all.out += out;
		free(x);
	}
	return all;
}

/* y = x W', bf16 or, for logits, fp32. */
static inline void product(const struct weight *w, const uint16_t *x, size_t n, uint16_t *y, float *logits)
{
	float *in = host_floats(x, n * w->in), *out = xcalloc(n * w->out, sizeof(*out));
	uint16_t *rounded = xmalloc(n * w->out * sizeof(*rounded));

	for (size_t i = 0; i < n * w->out; i++) {
		const float *a = in + i / w->out * w->in, *b = w->w + i % w->out * w->in;

		for (size_t k = 0; k < w->in; k++)
			out[i] += a[k] * b[k];
		rounded[i] = bf16_from_f32(out[i]);
	}
	if (logits)
		device_put(logits, out, n * w->out * sizeof(*out));
	else
		device_put(y, rounded, n * w->out * sizeof(*rounded));
	free(in);
	free(out);
	free(rounded);
}

/* The largest difference, as a share of the largest number. */
static inline double worst_of(const float *got, const float *wanted, size_t n)
{
	double most = 0, worst = 0;

	for (size_t i = 0; i < n; i++) {
		most = fmax(most, fabs((double)wanted[i]));
		worst = fmax(worst, isfinite(got[i]) ? fabs((double)got[i] - (double)wanted[i]) : INFINITY);
	}
	return worst / most;
}

#endif
