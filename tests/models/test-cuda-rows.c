/* SPDX-License-Identifier: MIT
 *
 * The GPU's embeddings, norms and activations against the CPU's: fp32 results within 2^-20, bf16 ones within
 * 2^-8 (half a unit of rounding, and what fp32 before it may shift it by); and each row the same bits alone.
 */
#include "cuda-device.h"

#include "kernels/ops.h"

#define BF16_OFF 0x1p-8

static const size_t widths[] = { 8, 72, 128, 1152, 2048, 3424 };

enum { ROWS = 7, TOKENS = 11, PICTURES = 3 };

static struct pool *pool;

static void test_embed(void **state)
{
	struct cuda_row rows[ROWS] = { { 0 } }, *rows_on_device;
	uint32_t chosen[2] = { 4, 9 }, *chosen_on_device = device_copy(chosen, sizeof(chosen));

	(void)state;
	for (size_t i = 0; i < ROWS; i++)
		rows[i] = (struct cuda_row){ .token = (uint32_t)(random_bits() % TOKENS), .embedding = CUDA_NONE };
	rows[2].embedding = 2;
	rows[5].token = CUDA_CHOSEN | 1;
	rows_on_device = device_copy(rows, sizeof(rows));
	for (size_t w = 0; w < ARRAY_SIZE(widths); w++) {
		size_t n = widths[w];
		float *table = random_floats(TOKENS * n), *vision = random_floats(PICTURES * n), *got;
		uint16_t *t = device_bf16(table, TOKENS * n), *v = device_bf16(vision, PICTURES * n);
		float *x = device_alloc(ROWS * n * 4);

		assert_int_equal(cuda_embed(NULL, rows_on_device, ROWS, n, t, v, chosen_on_device, x), 0);
		got = host_copy(x, ROWS * n * 4);
		for (size_t i = 0; i < ROWS; i++) {
			const float *wanted = i == 2 ? vision + 2 * n : table + (i == 5 ? 9 : rows[i].token) * n;

			assert_memory_equal(got + i * n, wanted, n * 4);
		}
		free(table);
		free(vision);
		free(got);
		device_free(t);
		device_free(v);
		device_free(x);
	}
	assert_int_equal(cuda_embed(NULL, rows_on_device, 1, 12, NULL, NULL, NULL, NULL), CUDA_INVALID);
	device_free(rows_on_device);
	device_free(chosen_on_device);
}

/* x + delta, and + deepstack for the rows that have an embedding, as the CPU adds them. */
static void add_all(float *x, const float *delta, const float *deepstack, const struct cuda_row *rows, size_t n)
{
	for (size_t i = 0; i < ROWS * n; i++) {
		x[i] += delta[i];
		if (rows[i / n].embedding != CUDA_NONE)
			x[i] += deepstack[rows[i / n].embedding * n + i % n];
	}
}

static void check_rms_norm(const struct cuda_row *rows, const struct cuda_row *rows_on_device, size_t n)
{
	static const uint32_t pick[] = { 6, 0, 3 };
	float *x = random_floats(ROWS * n), *delta = random_floats(ROWS * n), *deepstack = random_floats(PICTURES * n);
	float *weight = random_floats(n), *wanted = xcalloc(ROWS * n, 4), *got, *kept;
	float *xd = device_copy(x, ROWS * n * 4), *one = device_copy(x + 3 * n, n * 4);
	float *untouched = device_copy(x, ROWS * n * 4);
	uint16_t *d = device_bf16(delta, ROWS * n), *s = device_bf16(deepstack, PICTURES * n);
	uint16_t *w = device_bf16(weight, n), *y = device_alloc(ROWS * n * 2), *again = device_alloc(3 * n * 2);
	uint32_t *picked = device_copy(pick, sizeof(pick));
	uint16_t *all, *some;

	add_all(x, delta, deepstack, rows, n);
	rms_norm(pool, x, weight, 1e-6f, wanted, ROWS, n);
	assert_int_equal(cuda_add_rms_norm(NULL, xd, d, s, rows_on_device, w, 1e-6f, y, ROWS, n), 0);
	kept = host_copy(xd, ROWS * n * 4);
	assert_memory_equal(kept, x, ROWS * n * 4);
	got = host_floats(y, ROWS * n);
	check_close("rms_norm", got, wanted, ROWS * n, BF16_OFF, 1e-7);

	all = host_copy(y, ROWS * n * 2);
	assert_int_equal(cuda_add_rms_norm(NULL, one, d + 3 * n, s, rows_on_device + 3, w, 1e-6f, again, 1, n), 0);
	some = host_copy(again, n * 2);
	assert_memory_equal(some, all + 3 * n, n * 2);
	free(some);
	assert_int_equal(cuda_pick_rms_norm(NULL, untouched, d, s, rows_on_device, picked, w, 1e-6f, again, 3, n), 0);
	some = host_copy(again, 3 * n * 2);
	for (size_t i = 0; i < 3; i++)
		assert_memory_equal(some + i * n, all + pick[i] * n, n * 2);

	/* Addition alone. */
	assert_int_equal(cuda_add_rms_norm(NULL, xd, d, NULL, NULL, w, 1e-6f, NULL, ROWS, n), 0);
	free(kept);
	kept = host_copy(xd, ROWS * n * 4);
	for (size_t i = 0; i < ROWS * n; i++)
		assert_true(kept[i] == x[i] + delta[i]);
	free(x), free(delta), free(deepstack), free(weight), free(wanted), free(got), free(kept), free(all), free(some);
	device_free(xd), device_free(one), device_free(untouched), device_free(d), device_free(s), device_free(w);
	device_free(y), device_free(again), device_free(picked);
}

static void test_rms_norm(void **state)
{
	struct cuda_row rows[ROWS], *rows_on_device;

	(void)state;
	for (size_t i = 0; i < ROWS; i++)
		rows[i] = (struct cuda_row){ .embedding = i % 3 ? CUDA_NONE : (uint32_t)(i / 3) };
	rows_on_device = device_copy(rows, sizeof(rows));
	for (size_t w = 0; w < ARRAY_SIZE(widths); w++)
		check_rms_norm(rows, rows_on_device, widths[w]);
	assert_int_equal(cuda_add_rms_norm(NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL, 1, 8200), CUDA_INVALID);
	device_free(rows_on_device);
}

static void test_layer_norm(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
		size_t n = widths[i];
		float *x = random_floats(ROWS * n), *delta = random_floats(ROWS * n), *weight = random_floats(n);
		float *bias = random_floats(n), *wanted = xcalloc(ROWS * n, 4), *got, *kept;
		float *xd = device_copy(x, ROWS * n * 4), *one = device_copy(x + 2 * n, n * 4);
		uint16_t *d = device_bf16(delta, ROWS * n), *w = device_bf16(weight, n), *b = device_bf16(bias, n);
		uint16_t *y = device_alloc(ROWS * n * 2), *alone = device_alloc(n * 2), *all, *row;

		add(pool, x, delta, ROWS * n);
		layer_norm(pool, x, weight, bias, 1e-6f, wanted, ROWS, n);
		assert_int_equal(cuda_add_layer_norm(NULL, xd, d, w, b, 1e-6f, y, ROWS, n), 0);
		kept = host_copy(xd, ROWS * n * 4);
		assert_memory_equal(kept, x, ROWS * n * 4);
		got = host_floats(y, ROWS * n);
		check_close("layer_norm", got, wanted, ROWS * n, BF16_OFF, 2e-6);
		assert_int_equal(cuda_add_layer_norm(NULL, one, d + 2 * n, w, b, 1e-6f, alone, 1, n), 0);
		all = host_copy(y, ROWS * n * 2);
		row = host_copy(alone, n * 2);
		assert_memory_equal(row, all + 2 * n, n * 2);
		free(x), free(delta), free(weight), free(bias), free(wanted), free(got), free(kept), free(all), free(row);
		device_free(xd), device_free(one), device_free(d), device_free(w), device_free(b), device_free(y);
		device_free(alone);
	}
}

static void biased(float *y, const float *x, const float *bias, size_t width)
{
	for (size_t i = 0; i < ROWS * width; i++)
		y[i] = x[i] + bias[i % width];
}

static void test_silu_gate(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(widths); i++) {
		size_t n = widths[i / 2];
		float *x = random_floats(ROWS * 2 * n), *bias = random_floats(2 * n), *wanted = xcalloc(ROWS * n, 4), *got;
		uint16_t *xd, *b, *y = device_alloc(ROWS * n * 2);

		for (size_t k = 0; k < ROWS * 2 * n; k++)
			x[k] *= 20;
		xd = device_bf16(x, ROWS * 2 * n);
		b = device_bf16(bias, 2 * n);
		if (i % 2)
			biased(x, x, bias, 2 * n);
		silu_gate(pool, x, wanted, ROWS, n);
		assert_int_equal(cuda_silu_gate(NULL, xd, i % 2 ? b : NULL, y, ROWS, n), 0);
		got = host_floats(y, ROWS * n);
		check_close("silu_gate", got, wanted, ROWS * n, BF16_OFF, 1e-30);
		free(x), free(bias), free(wanted), free(got);
		device_free(xd), device_free(b), device_free(y);
	}
}

static void test_gelu(void **state)
{
	static int (*const kernels[])(cudaStream_t, uint16_t *, const uint16_t *, size_t, size_t) = {
		cuda_gelu_tanh, cuda_gelu_erf, cuda_bias,
	};
	static void (*const references[])(struct pool *, float *, size_t) = { gelu_tanh, gelu_erf, NULL };

	(void)state;
	for (size_t i = 0; i < 6 * ARRAY_SIZE(widths); i++) {
		size_t n = widths[i / 6], which = i % 3;
		float *x = random_floats(ROWS * n), *bias = random_floats(n), *got;
		uint16_t *xd, *b = device_bf16(bias, n);

		for (size_t k = 0; k < ROWS * n; k++)
			x[k] *= 6;
		xd = device_bf16(x, ROWS * n);
		if (i / 3 % 2)
			biased(x, x, bias, n);
		if (references[which])
			references[which](pool, x, ROWS * n);
		assert_int_equal(kernels[which](NULL, xd, i / 3 % 2 ? b : NULL, ROWS, n), 0);
		got = host_floats(xd, ROWS * n);
		/* Where the two terms of GELU cancel, erf and exp are off by their own unit. */
		check_close("gelu", got, x, ROWS * n, BF16_OFF, 1e-6);
		free(x), free(bias), free(got);
		device_free(xd), device_free(b);
	}
}

/* On a GPU compute-sanitizer looks for this. */
#ifndef CUDA_DEVICE
static void normalise(void *arg)
{
	float *x = device_alloc(ROWS * 128 * 4);
	uint16_t *weight = device_alloc(*(size_t *)arg), *y = device_alloc(ROWS * 128 * 2);

	cuda_add_rms_norm(NULL, x, NULL, NULL, NULL, weight, 1e-6f, y, ROWS, 128);
}

static void test_out_of_range(void **state)
{
	size_t size = 128 * 2;

	(void)state;
	assert_int_equal(status_of(normalise, &size), 0);
	size -= 16;
	assert_int_not_equal(status_of(normalise, &size), 0);
}
#endif

static int start(void **state)
{
	(void)state;
	pool = test_pool(1);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	pool_close(pool);
	return 0;
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_embed), cmocka_unit_test(test_rms_norm), cmocka_unit_test(test_layer_norm),
	cmocka_unit_test(test_silu_gate), cmocka_unit_test(test_gelu),
#ifndef CUDA_DEVICE
	cmocka_unit_test(test_out_of_range),
#endif
};

DEVICE_MAIN(tests, start, stop)
