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

static const enum number numbers[] = { NUMBER_F32, NUMBER_BF16, NUMBER_INT8, NUMBER_INT4 };

/* The group of int4: 0 for all of the depth. Where `in` is no multiple of it, there is none in int4. */
static const struct shape {
	size_t in, out, group;
} shapes[] = {
	{ 1, 1, 1 }, { 7, 5, 1 }, { 31, 16, 0 }, { 32, 64, 32 }, { 33, 72, 0 }, { 257, 129, 1 }, { 96, 200, 32 },
	{ 384, 80, 128 }, { 588, 104, 0 }, { 96, 32, 32 }, { 63, 88, 0 }, { 1176, 65, 1 }, { 3456, 48, 128 }, { 3420, 48, 1 },
};

static bool has_number(const struct shape *s, enum number number)
{
	return number != NUMBER_INT4 || s->group != 1;
}

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

/* A mapping that ends behind `size` bytes. */
static char *map_before_end(size_t size, char **map, size_t *mapped)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	*mapped = (size / page + 2) * page;
	*map = mmap(NULL, *mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(*map, MAP_FAILED);
	assert_int_equal(mprotect(*map + *mapped - page, page, PROT_NONE), 0);
	return *map + *mapped - page - size;
}

/* int4 in two parts; `number`: what it is packed in. */
static struct weights make_int4(enum number number, size_t in, size_t out, size_t group, struct pool *pool)
{
	static const enum number formats[] = { NUMBER_F16, NUMBER_BF16, NUMBER_F32 };
	size_t first = out / 16 * 8, done = 0, mapped[6];
	struct weights w = { .in = in, .out = out, .stored = xcalloc(in * out, sizeof(float)), .bias = random_floats(out) };
	const float *biases[2] = { w.bias, w.bias + first };
	struct matrix parts[2];
	char *map[6];
	struct err err;

	group = group ? group : in;
	for (size_t p = 0; p < 2; done += parts[p++].rows) {
		size_t rows = p ? out - first : first, groups = in / group;
		enum number scale = formats[(in + out + p) % 3];
		char *q = map_before_end(in * rows / 2, &map[3 * p], &mapped[3 * p]);
		char *zeros = map_before_end(groups * rows / 2, &map[3 * p + 1], &mapped[3 * p + 1]);
		char *scales = map_before_end(groups * rows * number_size(scale), &map[3 * p + 2], &mapped[3 * p + 2]);

		parts[p] = (struct matrix){ .data = q, .number = NUMBER_INT4, .rows = rows, .columns = in, .across = rows,
					    .zeros = zeros, .scales = scales, .scale = scale, .group = group };
		for (size_t g = 0; g < groups; g++) {
			for (size_t r = 0; r < rows; r++) {
				int zero = (int)put_nibble(zeros, rows, g, r, random_bits() % 16);
				float value = random_float() / 8;

				store_number(scales + (g * rows + r) * number_size(scale), scale, &value);
				for (size_t k = g * group; k < (g + 1) * group; k++) {
					int n = (int)put_nibble(q, rows, k, r, random_bits() % 16);

					w.stored[(done + r) * in + k] = (float)(n - zero) * value;
				}
			}
		}
	}
	/* The second in two, as a stacked projection has them. */
	if (out - first > 8) {
		const float *three[3] = { biases[0], biases[1], biases[1] + 8 };
		struct matrix cut[3] = { parts[0], matrix_rows(&parts[1], 0, 8),
					 matrix_rows(&parts[1], 8, out - first - 8) };

		assert_int_equal(linear_pack(&w.linear, cut, three, 3, number, pool, &err), RC_OK);
	} else {
		assert_int_equal(linear_pack(&w.linear, parts, biases, 2, number, pool, &err), RC_OK);
	}
	for (int i = 0; i < 6; i++)
		munmap(map[i], mapped[i]);
	return w;
}

/* The source is in two parts of different formats and ends at the end of a mapping, at an odd address; the
 * second may lie turned. */
static struct weights make(enum number number, size_t in, size_t out, struct pool *pool)
{
	static const enum number formats[] = { NUMBER_BF16, NUMBER_F32, NUMBER_F16 };
	size_t first = out / 3;
	struct matrix parts[2] = {
		{ .number = formats[(in + out) % 3], .rows = first, .columns = in },
		{ .number = formats[(in + out + 1) % 3], .rows = out - first, .columns = in,
		  .across = in % 2 ? out - first + 3 : 0 },
	};
	size_t size[2], mapped[2];
	char *map[2];
	const float *biases[2];
	struct weights w = { .in = in, .out = out, .stored = xcalloc(in * out, sizeof(float)), .bias = random_floats(out) };
	struct err err;

	for (int p = 0; p < 2; p++) {
		size_t item = number_size(parts[p].number), across = parts[p].across;

		size[p] = (across ? (in - 1) * across + parts[p].rows : parts[p].rows * in) * item;
		parts[p].data = map_before_end(size[p], &map[p], &mapped[p]);
		for (size_t i = 0; i < parts[p].rows * in; i++) {
			float *value = &w.stored[(p ? first * in : 0) + i];
			size_t at = across ? i % in * across + i / in : i;

			*value = random_float();
			store_number((char *)parts[p].data + at * item, parts[p].number, value);
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

/* As it is usual: int4 of int4 alone. */
static struct weights make_any(enum number number, size_t in, size_t out, size_t group, struct pool *pool)
{
	return number == NUMBER_INT4 ? make_int4(number, in, out, group, pool) : make(number, in, out, pool);
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
		if (w->linear.number == NUMBER_F32 || w->linear.number == NUMBER_INT4)
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
			float *x, *y;
			struct weights w;

			if (!has_number(&shapes[s], numbers[i]))
				continue;
			w = make_any(numbers[i], in, out, shapes[s].group, three);
			x = random_floats(ROWS * in);
			y = xcalloc(ROWS * out, sizeof(*y));
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

/* int4 of a file in every number that it may be packed in. */
static void test_from_int4(void **state)
{
	struct pool *pool = test_pool(2);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		struct weights w = make_int4(numbers[i], 96, 72, 32, pool);
		float *x = random_floats(ROWS * 96), *y = xcalloc(ROWS * 72, sizeof(*y));

		linear_apply(&w.linear, pool, x, 96, ROWS, y, 72);
		check_against_fp64(&w, x, y);
		free(x);
		free(y);
		weights_release(&w);
	}
	pool_close(pool);
}

/* Shares of several weights at once, of numbers and sizes as they come: what each gives alone. */
static void test_shares(void **state)
{
	enum { SHARES = 9, IN = 64, OUT = 200 };
	struct pool *pool = test_pool(3);
	struct weights w[SHARES];
	struct linear_share shares[SHARES];
	size_t all = 0, first = 0;
	float *x, *y;

	(void)state;
	for (size_t i = 0; i < SHARES; i++) {
		w[i] = make_any(numbers[i % 4], IN, OUT, 32, pool);
		shares[i] = (struct linear_share){ &w[i].linear, i == 4 ? LINEAR_ROWS : 1 + random_bits() % 90 };
		all += shares[i].rows;
	}
	x = random_floats(all * IN);
	y = xcalloc(all * OUT, sizeof(*y));
	linear_apply_shares(shares, SHARES, pool, x, IN, y, OUT);
	for (size_t i = 0; i < SHARES; first += shares[i++].rows) {
		float *alone = xcalloc(shares[i].rows * OUT, sizeof(*alone));

		linear_apply(&w[i].linear, pool, x + first * IN, IN, shares[i].rows, alone, OUT);
		assert_memory_equal(alone, y + first * OUT, shares[i].rows * OUT * sizeof(*alone));
		free(alone);
	}
	linear_apply_shares(shares, 0, pool, x, IN, y, OUT);
	for (size_t i = 0; i < SHARES; i++)
		weights_release(&w[i]);
	free(x);
	free(y);
	pool_close(pool);
}

/* More rows than linear takes at a time. */
static void test_many_rows(void **state)
{
	enum { MANY = 1100, IN = 64, OUT = 80 };
	struct pool *pool = test_pool(2);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		struct weights w = make_any(numbers[i], IN, OUT, 32, pool);
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
	enum { IN = 96, OUT = 40 };
	struct pool *pool = test_pool(2);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		struct weights w = make_any(numbers[i], IN, OUT, 32, pool);
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
	static const char *const names[] = { "shapes", "from int4", "shares", "many rows", "not finite" };
	static void (*const tests[])(void **) = { test_shapes, test_from_int4, test_shares, test_many_rows,
						  test_not_finite };

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return run_at_every_level(names, tests, ARRAY_SIZE(tests));
}
