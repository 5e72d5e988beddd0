/* SPDX-License-Identifier: MIT
 *
 * measure: what the GPU gives at best, for others to be held against: a copy within its memory, and a
 * product of large matrices. Each is asked for RUNS times in a row, without waiting between, and the
 * fastest of ROUNDS such rows counts.
 */
#include "cuda/device.h"

#include "base/num.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

enum { RUNS = 10, ROUNDS = 5 };

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* In (-1, 1). A product of zeros would take less power, and so less time, than one of numbers. */
static uint16_t *numbers(struct gpu *g, size_t n)
{
	uint16_t *v = xmalloc(n * sizeof(*v)), *there = gpu_alloc(g, n * sizeof(*v));

	for (size_t i = 0; i < n; i++)
		v[i] = bf16_from_f32((float)(i * 2654435761u % 65536) / 32768 - 1);
	if (there)
		gpu_write(g, there, v, n * sizeof(*v));
	free(v);
	return there;
}

struct work {
	char *from, *to;
	size_t bytes;
	uint16_t *w, *x, *y;
	size_t side;
	struct gpu_fp8 w8, x8; /* the same numbers in e4m3 */
};

static void copy(struct gpu *g, const struct work *j)
{
	gpu_copy(g, j->to, j->from, j->bytes);
}

static void multiply(struct gpu *g, const struct work *j)
{
	gpu_product(g, GPU_MANY, j->w, j->side, j->side, j->x, j->side, j->y, false);
}

static void multiply_fp8(struct gpu *g, const struct work *j)
{
	gpu_product_fp8(g, GPU_MANY, j->w8, j->side, j->side, j->x8, j->side, j->y);
}

static double fastest(struct gpu *g, void (*run)(struct gpu *, const struct work *), const struct work *j)
{
	struct gpu_mark *mark = gpu_mark_new(g);
	double best = INFINITY, start;

	run(g, j); /* a kernel is picked now, and clocks rise */
	for (int round = 0; round < ROUNDS; round++) {
		gpu_mark_set(g, mark);
		gpu_mark_wait(g, mark);
		start = now();
		for (int i = 0; i < RUNS; i++)
			run(g, j);
		gpu_mark_set(g, mark);
		gpu_mark_wait(g, mark);
		best = fmin(best, (now() - start) / RUNS);
	}
	gpu_mark_free(g, mark);
	return best;
}

/* NULL codes: no room. */
static struct gpu_fp8 quantised(struct gpu *g, const uint16_t *x, size_t side)
{
	uint8_t *codes = gpu_alloc(g, side * side);
	float *scale = gpu_alloc(g, side * sizeof(*scale));

	if (codes && scale) {
		gpu_check(g, cuda_quantise(gpu_stream(g), x, codes, scale, side, side), "numbers in fp8");
		return (struct gpu_fp8){codes, scale};
	}
	gpu_free(g, codes);
	gpu_free(g, scale);
	return (struct gpu_fp8){0};
}

static void free_fp8(struct gpu *g, struct gpu_fp8 x)
{
	gpu_free(g, x.codes);
	gpu_free(g, x.scale);
}

static enum rc measure_fp8(struct gpu *g, struct work *j, struct compute_peak *peak, struct err *err)
{
	enum rc rc = RC_OK;

	j->w8 = quantised(g, j->w, j->side);
	j->x8 = quantised(g, j->x, j->side);
	if (j->w8.codes && j->x8.codes)
		peak->flop_fp8 = 2 * pow((double)j->side, 3) / fastest(g, multiply_fp8, j);
	else
		rc = err_set(err, RC_FAILED, "memory", "no room on the GPU to measure with");
	free_fp8(g, j->w8);
	free_fp8(g, j->x8);
	return rc;
}

enum rc cuda_measure(struct cuda *c, size_t side, size_t bytes, struct compute_peak *peak, struct err *err)
{
	size_t padded = cuda_round_fp8(side), area = padded * padded;
	struct work j = {.side = padded, .bytes = bytes};
	enum rc rc = RC_OK;

	j.from = gpu_alloc(c->gpu, bytes);
	j.to = gpu_alloc(c->gpu, bytes);
	j.w = numbers(c->gpu, area);
	j.x = numbers(c->gpu, area);
	j.y = gpu_alloc(c->gpu, area * sizeof(*j.y));
	if (!j.from || !j.to || !j.w || !j.x || !j.y) {
		rc = err_set(err, RC_FAILED, "memory", "no room on the GPU to measure with");
	} else {
		peak->copied = 2.0 * (double)bytes / fastest(c->gpu, copy, &j);
		peak->flop = 2.0 * (double)area * (double)j.side / fastest(c->gpu, multiply, &j);
		peak->flop_fp8 = 0;
		if (c->layers.number == NUMBER_E4M3)
			rc = measure_fp8(c->gpu, &j, peak, err);
	}
	gpu_free(c->gpu, j.from);
	gpu_free(c->gpu, j.to);
	gpu_free(c->gpu, j.w);
	gpu_free(c->gpu, j.x);
	gpu_free(c->gpu, j.y);
	return rc;
}
