/* SPDX-License-Identifier: MIT
 *
 * Products of fp8: rows become e4m3 with a scale each, every number to the nearest that there is; the product is
 * what fp32 sums of those numbers give, within 2^-8 (its rounding to bf16) and 2^-12 of what was added up; and
 * a row has the same bits alone and in company. Beside a product of the numbers that went in, the root of the
 * mean square of the error is less than 4.5 % of that of the results: 3.7 % with normal numbers.
 */
#include "cuda-device.h"

#include "cuda/gpu.h"
#include "e4m3.h"

static const size_t widths[] = {16, 64, 176, 2048, 11008};

enum { ROWS = 7 };

static uint8_t *quantise(const uint16_t *x, size_t n, size_t width, float *scale)
{
	uint8_t *codes = device_alloc(n * width), *got;
	float *scales = device_alloc(n * sizeof(*scales));

	assert_int_equal(cuda_quantise(NULL, x, codes, scales, n, width), 0);
	got = host_copy(codes, n * width);
	device_get(scale, scales, n * sizeof(*scale));
	device_free(codes);
	device_free(scales);
	return got;
}

/* No other code is nearer; of two as near, the even one. */
static void check_nearest(float x, float scale, uint8_t code)
{
	double want = (double)(x / scale), off = fabs(want - e4m3_to_f32(code));

	assert_int_not_equal(code & 0x7f, 0x7f);
	for (int other = 0; other < 256; other++) {
		double further = fabs(want - e4m3_to_f32((uint8_t)other));

		if (further < off || (further == off && other % 2 == 0 && code % 2))
			fail_msg("%g becomes code %d, and %d is nearer", want, code, other);
	}
}

static void test_quantise(void **state)
{
	(void)state;
	for (size_t w = 0; w < ARRAY_SIZE(widths); w++) {
		size_t n = widths[w], step = n > 1000 ? 37 : 1;
		float *x = random_floats(ROWS * n), scale[ROWS], alone;
		uint16_t *xd;
		uint8_t *codes, *row;

		for (size_t i = 0; i < ROWS * n; i++)
			x[i] *= expf(20 * random_float()); /* from the largest down to what becomes 0 */
		for (size_t i = 0; i < n; i++)
			x[2 * n + i] = 0;
		xd = device_bf16(x, ROWS * n);
		codes = quantise(xd, ROWS, n, scale);
		for (size_t r = 0; r < ROWS; r++) {
			float most = 0;

			for (size_t i = 0; i < n; i++)
				most = fmaxf(most, fabsf(x[r * n + i]));
			assert_true(scale[r] == most / 448);
			for (size_t i = 0; r != 2 && i < n; i += step)
				check_nearest(x[r * n + i], scale[r], codes[r * n + i]);
			for (size_t i = 0; r == 2 && i < n; i++)
				assert_int_equal(codes[r * n + i], 0);
		}
		row = quantise(xd + 5 * n, 1, n, &alone);
		assert_memory_equal(row, codes + 5 * n, n);
		assert_true(alone == scale[5]);
		free(x), free(codes), free(row);
		device_free(xd);
	}
	assert_int_equal(cuda_quantise(NULL, NULL, NULL, NULL, 1, 24), CUDA_INVALID);
	assert_int_equal(cuda_quantise(NULL, NULL, NULL, NULL, 0, 32), 0);
}

/* One number that is none makes its row's scale none, wherever it stands, and no other row's. */
static void test_not_numbers(void **state)
{
	static const float none[] = {NAN, -NAN, INFINITY, -INFINITY};
	enum { WIDTH = 4112 };

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(none); k++) {
		float *x = random_floats(3 * WIDTH), scale[3];
		uint16_t *xd;

		x[WIDTH + random_bits() % WIDTH] = none[k];
		xd = device_bf16(x, 3 * WIDTH);
		free(quantise(xd, 3, WIDTH, scale));
		assert_true(isfinite(scale[0]) && isnan(scale[1]) && isfinite(scale[2]));
		free(x);
		device_free(xd);
	}
}

/* --- Products --- */

struct rows {
	struct gpu_fp8 fp8;
	float *x;      /* the numbers, as bf16 has them */
	uint8_t *codes; /* and what fp8 has, on the host */
	float *scale;
};

static float normal(void)
{
	return sqrtf(-2 * logf(0.5f + 0.4999f * random_float())) * cosf(3.14159265f * random_float());
}

static struct rows make_rows(struct gpu *g, size_t n, size_t width)
{
	struct rows r = {.x = xmalloc(n * width * sizeof(*r.x)),
			 .codes = xmalloc(n * width),
			 .scale = xmalloc(n * sizeof(*r.scale))};
	uint16_t *bf16 = xmalloc(n * width * sizeof(*bf16)), *there = gpu_alloc(g, n * width * sizeof(*bf16));
	uint8_t *codes = gpu_alloc(g, n * width);
	float *scale = gpu_alloc(g, n * sizeof(*scale));

	for (size_t i = 0; i < n * width; i++) {
		bf16[i] = bf16_from_f32(normal() * (float)(1 + i / width % 3));
		r.x[i] = bf16_to_f32(bf16[i]);
	}
	gpu_write(g, there, bf16, n * width * sizeof(*bf16));
	gpu_check(g, cuda_quantise(gpu_stream(g), there, codes, scale, n, width), "rows in fp8");
	gpu_read(g, r.codes, codes, n * width);
	gpu_read(g, r.scale, scale, n * sizeof(*scale));
	gpu_free(g, there);
	free(bf16);
	r.fp8 = (struct gpu_fp8){codes, scale};
	return r;
}

static void free_rows(struct gpu *g, struct rows *r)
{
	gpu_free(g, r->fp8.codes);
	gpu_free(g, r->fp8.scale);
	free(r->x);
	free(r->codes);
	free(r->scale);
}

/* Against the sum of what the codes stand for; returns the square of the distance from the exact one, and *square
 * of that. */
static double check_number(const struct rows *w, size_t k, const struct rows *x, size_t i, size_t in, float got,
			   double *square)
{
	double sum = 0, size = 0, exact = 0, scales = (double)w->scale[k] * x->scale[i];

	for (size_t j = 0; j < in; j++) {
		double part = (double)e4m3_to_f32(w->codes[k * in + j]) * e4m3_to_f32(x->codes[i * in + j]);

		sum += part;
		size += fabs(part);
		exact += (double)w->x[k * in + j] * x->x[i * in + j];
	}
	if (!(fabs(got - sum * scales) <= fabs(sum * scales) * 0x1p-8 + size * scales * 0x1p-12))
		fail_msg("row %zu, column %zu: %.9g instead of %.9g", i, k, got, sum * scales);
	*square += exact * exact;
	return (got - exact) * (got - exact);
}

static void check_product(struct gpu *g, enum gpu_rows kind, size_t out, size_t in, size_t n)
{
	struct rows w = make_rows(g, out, in), x = make_rows(g, n, in);
	uint16_t *y = gpu_alloc(g, n * out * sizeof(*y)), *alone = gpu_alloc(g, out * sizeof(*alone)),
		 *all = xmalloc(n * out * sizeof(*all)), *row = xmalloc(out * sizeof(*row));
	double off = 0, square = 0;

	gpu_product_fp8(g, kind, w.fp8, out, in, x.fp8, n, y);
	gpu_read(g, all, y, n * out * sizeof(*all));
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < out; k++)
			off += check_number(&w, k, &x, i, in, bf16_to_f32(all[i * out + k]), &square);
	if (!(off < 0.045 * 0.045 * square))
		fail_msg("%zu by %zu: the product is off by %.2f %%", out, in, 100 * sqrt(off / square));
	/* The first row, that all scales are aligned. */
	gpu_product_fp8(g, kind, w.fp8, out, in, x.fp8, 1, alone);
	gpu_read(g, row, alone, out * sizeof(*row));
	assert_memory_equal(row, all, out * sizeof(*row));
	free_rows(g, &w);
	free_rows(g, &x);
	gpu_free(g, y);
	gpu_free(g, alone);
	free(all);
	free(row);
}

static void test_product(void **state)
{
	struct gpu *g;
	struct err err;

	(void)state;
	assert_int_equal(gpu_open(&g, &err), RC_OK);
	if (gpu_has_fp8(g, 256, 256, &err) != RC_OK) {
		print_message("# %s\n", err.text);
		gpu_close(g);
		skip();
	}
	for (int kind = GPU_FEW; kind <= GPU_MANY; kind++) {
		check_product(g, (enum gpu_rows)kind, 16, 16, 1);
		check_product(g, (enum gpu_rows)kind, 48, 1024, 5);
		check_product(g, (enum gpu_rows)kind, 96, 112, 33);
#ifdef CUDA_DEVICE /* deep, and wide: not every GPU has kernels for few rows */
		check_product(g, (enum gpu_rows)kind, 2048, 11008, 17);
		check_product(g, (enum gpu_rows)kind, 22016, 2048, 3);
#endif
	}
	gpu_close(g);
}

/* On a GPU compute-sanitizer looks for this. */
#ifndef CUDA_DEVICE
static void write_codes(void *arg)
{
	uint16_t *x = device_alloc(2 * 64 * sizeof(*x));
	uint8_t *codes = device_alloc(*(size_t *)arg);
	float *scale = device_alloc(2 * sizeof(*scale));

	cuda_quantise(NULL, x, codes, scale, 2, 64);
}

static void test_out_of_range(void **state)
{
	size_t size = 2 * 64;

	(void)state;
	assert_int_equal(status_of(write_codes, &size), 0);
	size -= 16;
	assert_int_not_equal(status_of(write_codes, &size), 0);
}
#endif

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_quantise),
	cmocka_unit_test(test_not_numbers),
	cmocka_unit_test(test_product),
#ifndef CUDA_DEVICE
	cmocka_unit_test(test_out_of_range),
#endif
};

DEVICE_MAIN(tests, NULL, NULL)
