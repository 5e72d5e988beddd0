/* SPDX-License-Identifier: MIT
 *
 * The GPU's experts: the choice is the CPU's, every choice is in its expert's list once, products agree with
 * fp64 within their bf16 rounding, and a row gives the same bits whatever rows are beside it.
 */
#include "cuda-device.h"

#include "experts.h"

enum { MOST_ROWS = 150 };

static void check_routes(size_t n, unsigned experts, unsigned used, bool normed)
{
	size_t stride = experts + 3;
	float *logits = xcalloc(n * stride, sizeof(*logits)), *copy = xcalloc(experts, sizeof(*copy)), *weight;
	unsigned *want = xcalloc(used, sizeof(*want));
	float *share = xcalloc(used, sizeof(*share));
	uint32_t *expert, *e = device_alloc(n * used * sizeof(*e));
	float *w = device_alloc(n * used * sizeof(*w)), *l;

	for (size_t i = 0; i < n * stride; i++) /* every other row has many that are equal */
		logits[i] = i / stride % 2 ? 6 * random_float() : (float)(random_bits() % 4);
	if (n > 4)
		logits[4 * stride + experts / 2] = NAN;
	l = device_copy(logits, n * stride * sizeof(*logits));
	assert_int_equal(cuda_route(NULL, l, stride, n, experts, used, normed, e, w), 0);
	expert = host_copy(e, n * used * sizeof(*expert));
	weight = host_copy(w, n * used * sizeof(*weight));
	for (size_t i = 0; i < n; i++) {
		memcpy(copy, logits + i * stride, experts * sizeof(*copy));
		experts_choose(copy, experts, used, normed, want, share);
		for (unsigned k = 0; k < used; k++) {
			if (i == 4) {
				assert_true(isnan(weight[i * used + k]) && expert[i * used + k] < experts);
				assert_true(!k || expert[i * used + k] > expert[i * used + k - 1]);
				continue;
			}
			assert_int_equal(expert[i * used + k], want[k]);
			assert_true(fabsf(weight[i * used + k] - share[k]) <= 1e-5f * share[k]);
		}
	}
	free(logits), free(copy), free(want), free(share), free(expert), free(weight);
	device_free(e), device_free(w), device_free(l);
}

static void test_route(void **state)
{
	(void)state;
	check_routes(7, 1, 1, true);
	check_routes(9, 5, 5, false);
	check_routes(20, 31, 4, true);
	check_routes(12, 128, 8, true);
	check_routes(5, 130, 70, false);
	assert_int_equal(cuda_route(NULL, NULL, 4, 1, 4, 5, true, NULL, NULL), CUDA_INVALID);
	assert_int_equal(cuda_route(NULL, NULL, 4, 1, 4, 0, true, NULL, NULL), CUDA_INVALID);
	assert_int_equal(cuda_route(NULL, NULL, 2000, 1, 2000, 1, true, NULL, NULL), CUDA_INVALID);
}

/* Experts of random weights, and what they are in fp32. */
struct layer {
	struct cuda_experts e;
	unsigned experts;
	float *weight; /* [experts][out][in], as they multiply */
};

static void fill_int4(struct layer *l, char *to, float *weight)
{
	struct cuda_experts *e = &l->e;
	float *scales = (float *)(void *)(to + e->scales);

	for (size_t g = 0; g < e->in / e->group; g++) {
		for (size_t c = 0; c < e->out; c++) {
			int zero = (int)put_nibble(to + e->zeros, e->out, g, c, random_bits() % 16);
			float scale = random_float() / 16;

			scales[g * e->out + c] = scale;
			for (size_t k = g * e->group; k < (g + 1) * e->group; k++) {
				int q = (int)put_nibble(to, e->out, k, c, random_bits() % 16);

				weight[c * e->in + k] = bf16_to_f32(bf16_from_f32((float)(q - zero) * scale));
			}
		}
	}
}

static struct layer make_layer(unsigned experts, unsigned in, unsigned out, unsigned group)
{
	struct layer l = { .e = { .in = in, .out = out, .group = group }, .experts = experts };
	struct cuda_experts *e = &l.e;
	char *all;

	e->stride = (size_t)in * out * 2;
	if (group) {
		e->zeros = (size_t)in * out / 2;
		e->scales = e->zeros + (in / group * out / 2 + 15) / 16 * 16;
		e->stride = e->scales + (in / group * out * 4 + 15) / 16 * 16;
	}
	all = xcalloc(experts, e->stride);
	l.weight = xcalloc((size_t)experts * in * out, sizeof(float));
	for (size_t i = 0; i < experts; i++) {
		float *weight = l.weight + i * in * out;

		if (group) {
			fill_int4(&l, all + i * e->stride, weight);
			continue;
		}
		for (size_t k = 0; k < (size_t)in * out; k++) {
			uint16_t half = bf16_from_f32(random_float());

			memcpy(all + i * e->stride + k * 2, &half, 2);
			weight[k] = bf16_to_f32(half);
		}
	}
	e->weights = device_copy(all, experts * e->stride);
	free(all);
	return l;
}

/* All rows' choices through their experts: [rows][used][out]. */
static uint16_t *run(const struct layer *l, const uint16_t *x, const uint32_t *expert, size_t n, unsigned used,
		     bool spread)
{
	uint32_t *e = device_copy(expert, n * used * 4), *list = device_alloc(n * l->experts * 4),
		 *count = device_alloc(l->experts * 4), *counted, *listed;
	uint16_t *y = device_alloc(n * used * l->e.out * 2), *got;
	size_t all = 0;

	assert_int_equal(cuda_group(NULL, e, n, l->experts, used, list, count), 0);
	counted = host_copy(count, l->experts * 4);
	listed = host_copy(list, n * l->experts * 4);
	for (size_t i = 0; i < l->experts; i++) {
		for (size_t k = 0; k < counted[i]; k++)
			assert_int_equal(expert[listed[i * n + k]], i);
		all += counted[i];
	}
	assert_int_equal(all, n * used);
	assert_int_equal(cuda_expert_product(NULL, &l->e, l->experts, list, count, n, x, spread ? used : 1, y), 0);
	got = host_copy(y, n * used * l->e.out * 2);
	free(counted), free(listed);
	device_free(e), device_free(list), device_free(count), device_free(y);
	return got;
}

/* Two each: many go to expert 1, none to the last. */
static void choose(uint32_t *expert, size_t n, unsigned experts)
{
	for (size_t i = 0; i < n; i++) {
		expert[2 * i] = i % 4 ? 1 : 0;
		expert[2 * i + 1] = experts > 3 ? (uint32_t)(2 + i % (experts - 3)) : 1 - expert[2 * i];
	}
}

static void check_products(unsigned experts, unsigned in, unsigned out, unsigned group, bool spread)
{
	enum { USED = 2 };
	struct layer l = make_layer(experts, in, out, group);
	size_t n = MOST_ROWS, rows = spread ? n : n * USED;
	float *x = random_floats(rows * in);
	uint16_t *xd = device_bf16(x, rows * in), *all, *some;
	uint32_t expert[MOST_ROWS * USED];

	choose(expert, n, experts);
	all = run(&l, xd, expert, n, USED, spread);
	for (size_t i = 0; i < n * USED; i++) {
		const float *row = x + (spread ? i / USED : i) * in, *w = l.weight + (size_t)expert[i] * in * out;

		for (size_t c = 0; c < out; c++) {
			double sum = 0, size = 0;
			float got = bf16_to_f32(all[i * out + c]);

			for (size_t k = 0; k < in; k++) {
				sum += (double)row[k] * w[c * in + k];
				size += fabs((double)row[k] * w[c * in + k]);
			}
			if (!(fabs(got - sum) <= 0x1p-8 * fabs(sum) + 1e-6 * size))
				fail_msg("%u x %u, group %u: choice %zu, column %zu: %g, not %g", out, in, group, i,
					 c, got, sum);
		}
	}
	/* Rows of a part, beside fewer others. */
	for (size_t first = 0, part; first < n; first += part) {
		part = 1 + random_bits() % 60;
		part = part < n - first ? part : n - first;
		some = run(&l, xd + first * (spread ? 1 : USED) * in, expert + first * USED, part, USED, spread);
		assert_memory_equal(some, all + first * USED * out, part * USED * out * 2);
		free(some);
	}
	free(x), free(all), free(l.weight);
	device_free(xd), device_free(l.e.weights);
}

static void test_products(void **state)
{
	struct cuda_experts odd = { .in = 64, .out = 64, .group = 48 };

	(void)state;
	check_products(4, 72, 80, 0, true);
	check_products(3, 8, 8, 0, false);
	check_products(5, 104, 136, 0, false);
	check_products(4, 96, 64, 32, true);
	check_products(3, 64, 72, 64, false);
	check_products(3, 160, 88, 32, false);
	assert_int_equal(cuda_expert_product(NULL, &odd, 1, NULL, NULL, 1, NULL, 1, NULL), CUDA_INVALID);
	odd.group = 0, odd.in = 60;
	assert_int_equal(cuda_expert_product(NULL, &odd, 1, NULL, NULL, 1, NULL, 1, NULL), CUDA_INVALID);
}

static void test_sum(void **state)
{
	enum { ROWS = 9, USED = 3, WIDTH = 72 };
	float *x = random_floats(ROWS * USED * WIDTH), *weight = random_floats(ROWS * USED), *got;
	uint16_t *xd = device_bf16(x, ROWS * USED * WIDTH), *y = device_alloc(ROWS * WIDTH * 2);
	float *w = device_copy(weight, ROWS * USED * sizeof(*weight));

	(void)state;
	assert_int_equal(cuda_expert_sum(NULL, xd, w, USED, y, ROWS, WIDTH), 0);
	got = host_floats(y, ROWS * WIDTH);
	for (size_t i = 0; i < ROWS * WIDTH; i++) {
		double sum = 0, size = 0;

		for (size_t k = 0; k < USED; k++) {
			double part = (double)weight[i / WIDTH * USED + k] *
				      x[(i / WIDTH * USED + k) * WIDTH + i % WIDTH];

			sum += part;
			size += fabs(part);
		}
		assert_true(fabs(got[i] - sum) <= 0x1p-8 * fabs(sum) + 1e-6 * size);
	}
	assert_int_equal(cuda_expert_sum(NULL, xd, w, USED, y, ROWS, 12), CUDA_INVALID);
	free(x), free(weight), free(got);
	device_free(xd), device_free(y), device_free(w);
}

static const struct CMUnitTest tests[] = { cmocka_unit_test(test_route), cmocka_unit_test(test_products),
					   cmocka_unit_test(test_sum) };

DEVICE_MAIN(tests, NULL, NULL)
