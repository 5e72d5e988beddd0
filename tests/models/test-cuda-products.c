/* SPDX-License-Identifier: MIT
 *
 * Products of bf16: what exact sums give, within 2^-8 where they are rounded to bf16 and 2^-14 of what was added
 * up; and, of few rows and of many, a row has the same bits alone, in company, and from the middle of it. On a GPU
 * with the shapes of real models and as many rows as a step or a pass of the tower can have.
 */
#include "cuda-device.h"

#include "cuda/gpu.h"

#ifdef CUDA_DEVICE
/* Of Qwen2.5-VL-3B and Qwen3-VL-4B and their towers; some depths are no multiples of 128. */
static const size_t shapes[][2] = {{2560, 2048}, {2048, 2048}, {22016, 2048}, {2048, 11008}, {6144, 2560},
				   {2560, 9728}, {3840, 1280}, {1280, 1176},  {6848, 1280},  {1280, 3424},
				   {1152, 4304}, {16, 16}};
static const size_t few[] = {1, 3, 17, 64, 65, 255, 256}, many[] = {1, 63, 257, 2048, 4095, 16384};
#else
static const size_t shapes[][2] = {{16, 16}, {48, 256}, {96, 112}};
static const size_t few[] = {1, 3, 65}, many[] = {1, 63, 257};
#endif

struct numbers {
	uint16_t *here, *there;
};

static struct numbers make(struct gpu *g, size_t n)
{
	struct numbers made = {xmalloc(n * sizeof(uint16_t)), gpu_alloc(g, n * sizeof(uint16_t))};

	assert_non_null(made.there);
	for (size_t i = 0; i < n; i++)
		made.here[i] = bf16_from_f32(random_float());
	gpu_write(g, made.there, made.here, n * sizeof(*made.here));
	return made;
}

static void release(struct gpu *g, struct numbers *n)
{
	free(n->here);
	gpu_free(g, n->there);
}

static void check_number(const uint16_t *w, const uint16_t *x, size_t in, float got, bool wide)
{
	double sum = 0, size = 0;

	for (size_t j = 0; j < in; j++) {
		double part = (double)bf16_to_f32(w[j]) * bf16_to_f32(x[j]);

		sum += part;
		size += fabs(part);
	}
	if (!(fabs(got - sum) <= (wide ? 0 : fabs(sum) * 0x1p-8) + size * 0x1p-14))
		fail_msg("%.9g instead of %.9g", got, sum);
}

/* Of all rows or, from the first on, of one; freed by the caller. */
static char *multiply(struct gpu *g, enum gpu_rows kind, const struct numbers *w, size_t out, size_t in,
		      const struct numbers *x, size_t first, size_t n, bool wide)
{
	size_t size = n * out * (wide ? sizeof(float) : sizeof(uint16_t));
	void *y = gpu_alloc(g, size);
	char *got = xmalloc(size);

	assert_non_null(y);
	gpu_product(g, kind, w->there, out, in, x->there + first * in, n, y, wide);
	gpu_read(g, got, y, size);
	gpu_free(g, y);
	return got;
}

static void check_rows(struct gpu *g, enum gpu_rows kind, const struct numbers *w, size_t out, size_t in, size_t n,
		       bool wide)
{
	const size_t size = out * (wide ? sizeof(float) : sizeof(uint16_t)), alone[] = {0, n / 2, n - 1};
	struct numbers x = make(g, n * in);
	char *all = multiply(g, kind, w, out, in, &x, 0, n, wide);

	for (size_t k = 0; k < 200; k++) {
		size_t i = k * 7919 % n, column = k * 104729 % out;
		const char *at = all + i * size;

		check_number(w->here + column * in, x.here + i * in, in,
			     wide ? ((const float *)(const void *)at)[column]
				  : bf16_to_f32(((const uint16_t *)(const void *)at)[column]),
			     wide);
	}
	for (size_t k = 0; k < 3; k++) {
		char *one = multiply(g, kind, w, out, in, &x, alone[k], 1, wide);

		if (memcmp(one, all + alone[k] * size, size) != 0)
			fail_msg("%zu by %zu: row %zu of %zu is not as alone", out, in, alone[k], n);
		free(one);
	}
	free(all);
	release(g, &x);
}

static void check(enum gpu_rows kind, const size_t *rows, size_t count)
{
	struct gpu *g;
	struct err err;

	assert_int_equal(gpu_open(&g, &err), RC_OK);
	for (size_t s = 0; s < ARRAY_SIZE(shapes); s++) {
		size_t out = shapes[s][0], in = shapes[s][1];
		struct numbers w = make(g, out * in);

		for (size_t i = 0; i < count; i++)
			check_rows(g, kind, &w, out, in, rows[i], i % 2);
		release(g, &w);
	}
	gpu_close(g);
}

static void test_few(void **state)
{
	(void)state;
	check(GPU_FEW, few, ARRAY_SIZE(few));
}

static void test_many(void **state)
{
	(void)state;
	check(GPU_MANY, many, ARRAY_SIZE(many));
}

static const struct CMUnitTest tests[] = {cmocka_unit_test(test_few), cmocka_unit_test(test_many)};

DEVICE_MAIN(tests, NULL, NULL)
