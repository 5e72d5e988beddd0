/* SPDX-License-Identifier: MIT
 *
 * The choice of experts, and what they give for a row, at every level: the sum in the order of their
 * numbers, whatever other rows there are.
 */
#include "kernels.h"

#include "experts.h"

#include <math.h>

enum { HIDDEN = 40, WIDE = 24, EXPERTS = 9, USED = 3, ROWS = 60 };

/* By the definition: e is chosen when fewer than `used` come before it. */
static void choose_plainly(const float *logits, unsigned experts, unsigned used, bool normed, unsigned *expert,
			   double *weight)
{
	double all = 0, chosen = 0;
	unsigned n = 0;

	for (unsigned e = 0; e < experts; e++)
		all += exp(logits[e]);
	for (unsigned e = 0; e < experts; e++) {
		unsigned before = 0;

		for (unsigned o = 0; o < experts; o++)
			before += logits[o] > logits[e] || (logits[o] == logits[e] && o < e);
		if (before >= used)
			continue;
		expert[n] = e;
		weight[n] = exp(logits[e]) / all;
		chosen += weight[n++];
	}
	assert_int_equal(n, used);
	for (unsigned i = 0; i < n && normed; i++)
		weight[i] /= chosen;
}

static void test_choice(void **state)
{
	enum { MOST = 130 };

	(void)state;
	for (unsigned round = 0; round < 400; round++) {
		unsigned experts = 1 + random_bits() % MOST, used = 1 + random_bits() % experts;
		unsigned expert[MOST], want[MOST];
		float logits[MOST], copy[MOST], weight[MOST];
		double share[MOST];

		for (unsigned e = 0; e < experts; e++) /* many that are equal */
			logits[e] = round % 2 ? 8 * random_float() : (float)(random_bits() % 5);
		memcpy(copy, logits, sizeof(copy));
		choose_plainly(logits, experts, used, round % 3, want, share);
		experts_choose(copy, experts, used, round % 3, expert, weight);
		for (unsigned i = 0; i < used; i++) {
			assert_int_equal(expert[i], want[i]);
			assert_true(fabs(weight[i] - share[i]) <= 1e-5 * share[i]);
		}
	}
}

/* Each chosen once, whatever the numbers are. */
static void test_odd_choice(void **state)
{
	static const float odd[] = { NAN, INFINITY, -INFINITY, 0 };

	(void)state;
	for (unsigned i = 0; i < 4 * 4 * 4; i++) {
		float logits[] = { odd[i % 4], odd[i / 4 % 4], odd[i / 16] }, weight[2];
		bool finite = !isnan(logits[0]) && !isnan(logits[1]) && !isnan(logits[2]), first = false;
		unsigned expert[2];

		for (int k = 0; k < 3; k++)
			first = first || logits[k] == 0;
		for (int k = 0; k < 3; k++)
			finite = finite && logits[k] != INFINITY && first;
		experts_choose(logits, 3, 2, false, expert, weight);
		assert_true(expert[0] < expert[1] && expert[1] < 3);
		if (finite)
			assert_true(fabsf(weight[0] + weight[1] - 1) < 0.67f);
		else
			assert_true(isnan(weight[0]) && isnan(weight[1]));
	}
}

static struct linear make(size_t in, size_t out, enum number number, struct pool *pool)
{
	struct matrix m = { .data = random_floats(in * out), .number = NUMBER_F32, .rows = out, .columns = in };
	struct linear l;
	struct err err;

	assert_int_equal(linear_pack(&l, &m, NULL, 1, number, pool, &err), RC_OK);
	free((void *)(uintptr_t)m.data);
	return l;
}

/* One row by the definition, from the same products. */
static void apply_plainly(const struct text_experts *x, struct pool *pool, const float *row, float *y)
{
	float logits[EXPERTS], weight[USED], gated[2 * WIDE], inner[WIDE], out[HIDDEN];
	unsigned expert[USED];

	linear_apply(&x->router, pool, row, HIDDEN, 1, logits, EXPERTS);
	experts_choose(logits, EXPERTS, USED, true, expert, weight);
	memset(y, 0, HIDDEN * sizeof(*y));
	for (int k = 0; k < USED; k++) {
		linear_apply(&x->gate_up[expert[k]], pool, row, HIDDEN, 1, gated, 2 * WIDE);
		for (int j = 0; j < WIDE; j++)
			inner[j] = gated[j] / (1 + expf(-gated[j])) * gated[WIDE + j];
		linear_apply(&x->down[expert[k]], pool, inner, WIDE, 1, out, HIDDEN);
		for (int j = 0; j < HIDDEN; j++)
			y[j] += weight[k] * out[j];
	}
}

static void test_rows(void **state)
{
	struct text_config c = { .hidden = HIDDEN, .experts = EXPERTS, .experts_used = USED,
				 .expert_intermediate = WIDE, .expert_weights_normed = true };
	struct pool *pool = test_pool(3);
	struct experts_scratch *s = experts_scratch_new(&c, ROWS);
	struct text_experts x = { .count = EXPERTS, .gate_up = xcalloc(EXPERTS, sizeof(struct linear)),
				  .down = xcalloc(EXPERTS, sizeof(struct linear)) };
	float *rows = random_floats(ROWS * HIDDEN), *whole = xmalloc(ROWS * HIDDEN * sizeof(float)), plain[HIDDEN];

	(void)state;
	x.router = make(HIDDEN, EXPERTS, NUMBER_F32, pool);
	for (int e = 0; e < EXPERTS; e++) {
		x.gate_up[e] = make(HIDDEN, 2 * WIDE, e == 2 ? NUMBER_F32 : NUMBER_BF16, pool);
		x.down[e] = make(WIDE, HIDDEN, NUMBER_BF16, pool);
	}
	memcpy(whole, rows, ROWS * HIDDEN * sizeof(*rows));
	experts_apply(&x, s, pool, whole, ROWS);
	for (int i = 0; i < ROWS; i++) {
		apply_plainly(&x, pool, rows + i * HIDDEN, plain);
		for (int j = 0; j < HIDDEN; j++)
			assert_true(fabsf(plain[j] - whole[i * HIDDEN + j]) < 0.1f);
	}
	for (size_t first = 0, n; first < ROWS; first += n) {
		float part[ROWS * HIDDEN];

		n = 1 + random_bits() % 5;
		n = n < ROWS - first ? n : ROWS - first;
		memcpy(part, rows + first * HIDDEN, n * HIDDEN * sizeof(*rows));
		experts_apply(&x, s, pool, part, n);
		assert_memory_equal(part, whole + first * HIDDEN, n * HIDDEN * sizeof(*rows));
	}
	experts_scratch_free(s);
	linear_release(&x.router);
	for (int e = 0; e < EXPERTS; e++) {
		linear_release(&x.gate_up[e]);
		linear_release(&x.down[e]);
	}
	free(x.gate_up);
	free(x.down);
	free(rows);
	free(whole);
	pool_close(pool);
}

int main(void)
{
	static const char *const names[] = { "choice", "odd choice", "rows" };
	static void (*const tests[])(void **) = { test_choice, test_odd_choice, test_rows };

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return run_at_every_level(names, tests, ARRAY_SIZE(tests));
}
