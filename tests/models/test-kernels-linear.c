/* SPDX-License-Identifier: MIT
 *
 * linear, at every level: against fp64, and the same bits for a row whatever is in its batch.
 */
#include "kernels.h"

#include "kernels/linear.h"

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROWS = 70 };

static const enum number numbers[] = { NUMBER_F32, NUMBER_BF16, NUMBER_INT8 };

static const struct shape {
	size_t in, out;
} shapes[] = {
	{ 1, 1 }, { 7, 5 }, { 31, 16 }, { 32, 64 }, { 33, 70 }, { 257, 129 }, { 588, 100 }, { 1176, 65 }, { 3420, 48 },
};

struct weights {
	struct linear linear;
	float *stored;    /* as the source has them, in fp32 */
	float *bias;
	size_t in, out;
};

static void store_number(char *to, enum number number, float *value)
{
	uint16_t half;

	if (number == NUMBER_F32) {
		memcpy(to, value, 4);
		return;
	}
	if (number == NUMBER_BF16) {
		half = bf16_from_f32(*value);
		*value = bf16_to_f32(half);
	} else {
		half = (uint16_t)(random_bits() % 0x3c00 | (random_bits() & 0x8000));
		*value = f16_to_f32(half);
	}
	memcpy(to, &half, 2);
}

/* The source is in two parts of different formats and ends at the end of a mapping, at an odd address. */
static struct weights make(enum number number, size_t in, size_t out, struct pool *pool)
{
	static const enum number formats[] = { NUMBER_BF16, NUMBER_F32, NUMBER_F16 };
	size_t page = (size_t)sysconf(_SC_PAGESIZE), first = out / 3;
	struct matrix parts[2] = {
		{ .number = formats[(in + out) % 3], .rows = first, .columns = in },
		{ .number = formats[(in + out + 1) % 3], .rows = out - first, .columns = in },
	};
	size_t size[2], mapped[2];
	char *map[2];
	const float *biases[2];
	struct weights w = { .in = in, .out = out, .stored = xcalloc(in * out, sizeof(float)), .bias = random_floats(out) };
	struct err err;

	for (int p = 0; p < 2; p++) {
		size[p] = parts[p].rows * in * number_size(parts[p].number);
		mapped[p] = (size[p] / page + 2) * page;
		map[p] = mmap(NULL, mapped[p], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		assert_ptr_not_equal(map[p], MAP_FAILED);
		assert_int_equal(mprotect(map[p] + mapped[p] - page, page, PROT_NONE), 0);
		parts[p].data = map[p] + mapped[p] - page - size[p];
		for (size_t i = 0; i < parts[p].rows * in; i++) {
			float *value = &w.stored[(p ? first * in : 0) + i];

			*value = random_float();
			store_number((char *)parts[p].data + i * number_size(parts[p].number), parts[p].number, value);
		}
	}
	biases[0] = in % 2 ? w.bias : NULL;
	biases[1] = w.bias + first;
	for (size_t i = 0; i < first && !biases[0]; i++)
		w.bias[i] = 0;
	assert_int_equal(linear_pack(&w.linear, parts, biases, 2, number, pool, &err), RC_OK);
	for (int p = 0; p < 2; p++)
		munmap(map[p], mapped[p]);
	return w;
}

static void weights_release(struct weights *w)
{
	linear_release(&w->linear);
	free(w->stored);
	free(w->bias);
}

/* A row of the weight as it multiplies. */
static void row_as_packed(const struct weights *w, size_t n, double *row)
{
	const float *stored = w->stored + n * w->in;
	float largest = 0, scale;

	for (size_t k = 0; k < w->in; k++)
		largest = fmaxf(largest, fabsf(stored[k]));
	scale = largest / 127;
	for (size_t k = 0; k < w->in; k++) {
		if (w->linear.number == NUMBER_F32)
			row[k] = stored[k];
		else if (w->linear.number == NUMBER_BF16)
			row[k] = bf16_to_f32(bf16_from_f32(stored[k]));
		else
			row[k] = scale > 0 ? (double)scale * lrintf(stored[k] / scale) : 0;
	}
}

/*
 * Rounding errors of a chain of n sums behave as a random walk: sqrt(n) units of 2^-24 of the sum of
 * magnitudes, taken eight times. One product left out of 3,420 would be ten times that.
 */
static void check_against_fp64(const struct weights *w, const float *x, const float *y)
{
	double *row = xcalloc(w->in, sizeof(*row));

	for (size_t n = 0; n < w->out; n++) {
		row_as_packed(w, n, row);
		for (size_t m = 0; m < ROWS; m++) {
			double sum = w->bias[n], magnitudes = fabs(sum), bound;

			for (size_t k = 0; k < w->in; k++) {
				float xk = x[m * w->in + k];
				double product = row[k] * (w->linear.number == NUMBER_F32 ?
								   xk : bf16_to_f32(bf16_from_f32(xk)));

				sum += product;
				magnitudes += fabs(product);
			}
			bound = (8 * sqrt((double)w->in) + 4) * 0x1p-24 * magnitudes;
			if (!(fabs(y[m * w->out + n] - sum) <= bound))
				fail_msg("%s %zu x %zu, row %zu, column %zu: %.9g instead of %.9g (bound %.2g)",
					 number_name(w->linear.number), w->out, w->in, m, n, y[m * w->out + n], sum,
					 bound);
		}
	}
	free(row);
}

static void check_batches(const struct weights *w, struct pool *pool, const float *x, const float *y)
{
	size_t stride = w->out + 3;
	float *part = xcalloc(ROWS * stride, sizeof(*part));

	for (size_t batch = 1; batch <= ROWS; batch++) {
		size_t first = random_bits() % (ROWS - batch + 1), last = batch == 1 ? ROWS : first + 1;

		if (w->in > 600 && batch > 8 && batch % 7 > 1)
			continue;
		for (first = batch == 1 ? 0 : first; first < last; first++) {
			linear_apply(&w->linear, pool, x + first * w->in, w->in, batch, part, stride);
			for (size_t m = 0; m < batch; m++) {
				if (memcmp(part + m * stride, y + (first + m) * w->out, w->out * sizeof(*y)) != 0)
					fail_msg("%s %zu x %zu: row %zu differs in a batch of %zu",
						 number_name(w->linear.number), w->out, w->in, first + m, batch);
			}
		}
	}
	free(part);
}

static void test_shapes(void **state)
{
	struct pool *one = test_pool(1), *three = test_pool(3);

	(void)state;
	for (size_t s = 0; s < ARRAY_SIZE(shapes); s++) {
		for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
			size_t in = shapes[s].in, out = shapes[s].out;
			struct weights w = make(numbers[i], in, out, three);
			float *x = random_floats(ROWS * in), *y = xcalloc(ROWS * out, sizeof(*y));

			linear_apply(&w.linear, three, x, in, ROWS, y, out);
			check_against_fp64(&w, x, y);
			check_batches(&w, one, x, y);
			free(x);
			free(y);
			weights_release(&w);
		}
	}
	pool_close(one);
	pool_close(three);
}

/* More rows than linear takes at a time. */
static void test_many_rows(void **state)
{
	enum { MANY = 1100, IN = 40, OUT = 80 };
	struct pool *pool = test_pool(2);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		struct weights w = make(numbers[i], IN, OUT, pool);
		float *x = random_floats(MANY * IN), *y = xcalloc(MANY * OUT, sizeof(*y)), alone[OUT];

		linear_apply(&w.linear, pool, x, IN, MANY, y, OUT);
		for (size_t m = 0; m < MANY; m += 13) {
			linear_apply(&w.linear, pool, x + m * IN, IN, 1, alone, OUT);
			assert_memory_equal(alone, y + m * OUT, sizeof(alone));
		}
		free(x);
		free(y);
		weights_release(&w);
	}
	pool_close(pool);
}

/* What is not finite stays in its row. */
static void test_not_finite(void **state)
{
	enum { IN = 100, OUT = 40 };
	struct pool *pool = test_pool(2);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		struct weights w = make(numbers[i], IN, OUT, pool);
		float *x = random_floats(3 * IN), y[3 * OUT], clean[3 * OUT];

		linear_apply(&w.linear, pool, x, IN, 3, clean, OUT);
		x[IN + 5] = NAN;
		linear_apply(&w.linear, pool, x, IN, 3, y, OUT);
		assert_memory_equal(y, clean, OUT * sizeof(*y));
		assert_memory_equal(y + 2 * OUT, clean + 2 * OUT, OUT * sizeof(*y));
		for (size_t n = 0; n < OUT; n++)
			assert_true(isnan(y[OUT + n]));
		free(x);
		weights_release(&w);
	}
	pool_close(pool);
}

int main(void)
{
	static const char *const names[] = { "shapes", "many rows", "not finite" };
	static void (*const tests[])(void **) = { test_shapes, test_many_rows, test_not_finite };

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return run_at_every_level(names, tests, ARRAY_SIZE(tests));
}
