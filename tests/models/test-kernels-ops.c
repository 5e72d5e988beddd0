/* SPDX-License-Identifier: MIT
 *
 * ops, at every level: against fp64, row by row the same bits, and what is not a number.
 */
#include "kernels.h"

#include "kernels/linear.h"
#include "kernels/ops.h"

#include <float.h>
#include <math.h>

static const size_t widths[] = { 1, 5, 16, 31, 64, 127, 128, 1000, 3420 };

enum { ROWS = 37 };

static struct pool *pool;

static void check(const char *what, size_t n, size_t i, float got, double wanted, double bound)
{
	if (!(fabs(got - wanted) <= bound))
		fail_msg("%s of %zu at %zu: %.9g instead of %.9g (bound %.2g)", what, n, i, got, wanted, bound);
}

static double mean_of(const float *x, size_t n, double minus, int power)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += pow(x[i] - minus, power);
	return sum / (double)n;
}

static void test_norms(void **state)
{
	(void)state;
	for (size_t w = 0; w < ARRAY_SIZE(widths); w++) {
		size_t n = widths[w];
		float *x = random_floats(ROWS * n), *weight = random_floats(n), *bias = random_floats(n);
		float *rms = xcalloc(ROWS * n, 4), *layer = xcalloc(ROWS * n, 4), *alone = xcalloc(n, 4);

		for (size_t i = 0; i < ROWS * n; i++)
			x[i] = x[i] * 3 + 1;
		rms_norm(pool, x, weight, 1e-6f, rms, ROWS, n);
		layer_norm(pool, x, weight, bias, 1e-6f, layer, ROWS, n);
		for (size_t r = 0; r < ROWS; r++) {
			const float *row = x + r * n;
			double mean = mean_of(row, n, 0, 1), variance = mean_of(row, n, mean, 2);
			double root = sqrt(mean_of(row, n, 0, 2) + 1e-6), deviation = sqrt(variance + 1e-6);

			for (size_t i = 0; i < n; i++) {
				/* the mean itself is off by a unit of its own size */
				double off = n == 1 ? 1e-3 : 4e-6 * (4 + 4 / deviation);

				check("rms_norm", n, i, rms[r * n + i], row[i] / root * weight[i], 2e-6);
				check("layer_norm", n, i, layer[r * n + i],
				      (row[i] - mean) / deviation * weight[i] + bias[i], off);
			}
			rms_norm(pool, row, weight, 1e-6f, alone, 1, n);
			assert_memory_equal(alone, rms + r * n, n * 4);
			layer_norm(pool, row, weight, bias, 1e-6f, alone, 1, n);
			assert_memory_equal(alone, layer + r * n, n * 4);
		}
		rms_norm(pool, x, weight, 1e-6f, x, ROWS, n);
		assert_memory_equal(x, rms, ROWS * n * 4);
		free(x);
		free(weight);
		free(bias);
		free(rms);
		free(layer);
		free(alone);
	}
}

static void test_heads(void **state)
{
	enum { HEADS = 3, DIM = 80, STRIDE = 300, ROTARY = 64 };
	float *x = random_floats(ROWS * STRIDE), *y = xcalloc(ROWS * STRIDE, 4), *weight = random_floats(DIM);
	float *cosine = random_floats(ROWS * ROTARY / 2), *sine = random_floats(ROWS * ROTARY / 2);

	(void)state;
	memcpy(y, x, ROWS * STRIDE * 4);
	rms_norm_heads(pool, y, weight, 1e-6f, ROWS, STRIDE, HEADS, DIM);
	for (size_t r = 0; r < ROWS; r++) {
		for (size_t i = 0; i < STRIDE; i++) {
			const float *head = x + r * STRIDE + i / DIM * DIM;
			double wanted = i >= HEADS * DIM ? x[r * STRIDE + i] :
				x[r * STRIDE + i] / sqrt(mean_of(head, DIM, 0, 2) + 1e-6) * weight[i % DIM];

			check("rms_norm_heads", DIM, i, y[r * STRIDE + i], wanted, 2e-6);
		}
	}
	memcpy(y, x, ROWS * STRIDE * 4);
	rope(pool, y, cosine, sine, ROWS, STRIDE, HEADS, DIM, ROTARY);
	for (size_t r = 0; r < ROWS; r++) {
		for (size_t i = 0; i < STRIDE; i++) {
			const float *head = x + r * STRIDE + i / DIM * DIM;
			size_t d = i % DIM, pair = d % (ROTARY / 2), half = ROTARY / 2;
			double c = cosine[r * half + pair], s = sine[r * half + pair], wanted = x[r * STRIDE + i];

			if (i < HEADS * DIM && d < ROTARY)
				wanted = d < half ? head[pair] * c - head[pair + half] * s :
						    head[pair + half] * c + head[pair] * s;
			check("rope", DIM, i, y[r * STRIDE + i], wanted, 2.5e-7);
		}
	}
	free(x);
	free(y);
	free(weight);
	free(cosine);
	free(sine);
}

static double silu(double x)
{
	return x / (1 + exp(-x));
}

static double gelu_by_erf(double x)
{
	return 0.5 * x * (1 + erf(x / sqrt(2)));
}

static double gelu_by_tanh(double x)
{
	return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

/* Over the whole range in which the functions are not straight, and far beyond. */
static void test_activations(void **state)
{
	enum { N = 200003 };
	float *x = xcalloc(2 * N, 4), *y = xcalloc(N, 4);

	(void)state;
	for (size_t i = 0; i < N; i++) {
		x[i] = ((float)i / N - 0.5f) * 60;
		if (i > N - 9)
			x[i] = (i % 2 ? -1.0f : 1.0f) * powf(10, (float)(i % 8) * 5);
		x[N + i] = random_float();
	}
	silu_gate(pool, x, y, 1, N);
	for (size_t i = 0; i < N; i++)
		check("silu", N, i, y[i], silu(x[i]) * x[N + i], 5e-7 * fabs(silu(x[i]) * x[N + i]) + 1e-37);
	memcpy(y, x, N * 4);
	gelu_erf(pool, y, N);
	for (size_t i = 0; i < N; i++)
		check("gelu_erf", N, i, y[i], gelu_by_erf(x[i]), 2.5e-7 * fabs(x[i]));
	memcpy(y, x, N * 4);
	gelu_tanh(pool, y, N);
	/* The error of u, of which exp(2 u) is taken, grows with u: relative 2 u 2^-23 below. */
	for (size_t i = 0; i < N; i++)
		check("gelu_tanh", N, i, y[i], gelu_by_tanh(x[i]), 4e-7 * fabs(x[i]));
	for (size_t i = 0; i < 64; i++) {
		float one[2] = { x[i * 3000], x[i * 3000] }, alone[2];

		memcpy(y, x, N * 4);
		gelu_erf(pool, y, N);
		memcpy(alone, one, 4);
		gelu_erf(pool, alone, 1);
		assert_memory_equal(alone, y + i * 3000, 4);
	}
	memcpy(y, x, N * 4);
	add(pool, y, x, N);
	for (size_t i = 0; i < N; i++)
		assert_true(y[i] == x[i] + x[i]);
	free(x);
	free(y);
}

/* exp by way of log_sum_exp of two: the second is 0, so exp(x) = exp(result) - 1 for large x. */
static void test_sums(void **state)
{
	float x[300], nan[3] = { 1, NAN, 2 }, minus[2] = { -INFINITY, -INFINITY }, mixed[3] = { -INFINITY, 3, 3 };

	(void)state;
	for (size_t n = 1; n <= ARRAY_SIZE(x); n++) {
		double sum = 0;
		size_t first = random_bits() % n;

		for (size_t i = 0; i < n; i++)
			x[i] = random_float() * 40;
		x[first] = 41;
		x[n - 1] = 41;
		for (size_t i = 0; i < n; i++)
			sum += exp((double)x[i] - 41);
		assert_int_equal(argmax(x, n), first);
		check("log_sum_exp", n, 0, (float)(log_sum_exp(x, n) - 41), log(sum), 4e-7);
		x[random_bits() % n] = NAN;
		assert_int_equal(argmax(x, n), n);
		assert_true(isnan(log_sum_exp(x, n)));
	}
	assert_int_equal(argmax(nan, 3), 3);
	assert_int_equal(argmax(minus, 2), 0);
	assert_int_equal(argmax(mixed, 3), 1);
	assert_true(isinf(log_sum_exp(minus, 2)) && log_sum_exp(minus, 2) < 0);
	check("log_sum_exp", 3, 0, (float)log_sum_exp(mixed, 3), 3 + log(2), 4e-7);
}

static void test_not_a_number(void **state)
{
	float x[40], y[40], weight[40];

	(void)state;
	for (size_t i = 0; i < 40; i++)
		x[i] = weight[i] = 1;
	x[3] = NAN;
	x[39] = -INFINITY;
	silu_gate(pool, x, y, 1, 20);
	assert_true(isnan(y[3]));
	assert_true(isinf(y[19]));
	memcpy(y, x, sizeof(y));
	gelu_tanh(pool, y, 39);
	assert_true(isnan(y[3]) && !isnan(y[4]));
	memcpy(y, x, sizeof(y));
	gelu_erf(pool, y, 39);
	assert_true(isnan(y[3]) && !isnan(y[4]));
	rms_norm(pool, x, weight, 1e-6f, y, 2, 20);
	assert_true(isnan(y[0]) && isnan(y[19]));
}

static void test_bf16(void **state)
{
	(void)state;
	assert_int_equal(bf16_from_f32(1.0f), 0x3f80);
	assert_int_equal(bf16_from_f32(1.00390625f), 0x3f80); /* a tie, to even */
	assert_int_equal(bf16_from_f32(1.01171875f), 0x3f82);
	assert_int_equal(bf16_from_f32(FLT_MAX), 0x7f80);
	assert_int_equal(bf16_from_f32(-INFINITY), 0xff80);
	assert_true(isnan(bf16_to_f32(bf16_from_f32(NAN))));
	for (uint32_t b = 0; b < 0x10000; b++)
		assert_true(bf16_from_f32(bf16_to_f32((uint16_t)b)) == (b | (isnan(bf16_to_f32((uint16_t)b)) ? 0x40 : 0)));
	assert_true(f16_to_f32(0x3c00) == 1 && f16_to_f32(0xc000) == -2 && f16_to_f32(0x7bff) == 65504);
	assert_true(f16_to_f32(1) == 0x1p-24f && f16_to_f32(0x8400) == -0x1p-14f && isinf(f16_to_f32(0xfc00)));
	assert_true(isnan(f16_to_f32(0x7e01)));
}

int main(void)
{
	static const char *const names[] = { "norms", "heads", "activations", "sums", "not a number", "bf16" };
	static void (*const tests[])(void **) = { test_norms, test_heads, test_activations, test_sums, test_not_a_number,
						  test_bf16 };
	int failed;

	pool = test_pool(2);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	failed = run_at_every_level(names, tests, ARRAY_SIZE(tests));
	pool_close(pool);
	return failed;
}
