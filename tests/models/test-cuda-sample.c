/* SPDX-License-Identifier: MIT
 *
 * The GPU's choice of the next token against sampler_choose(): the same token for the same logits, its
 * probability within 1e-5; a NaN told; what it cannot settle left to the host, and only that.
 */
#include "cuda-device.h"

#include "sampler.h"

enum { ROWS = 5, SLOTS = 8 };

struct trial {
	size_t limit, stride;
	float spread;
	struct sampling how;
	bool penalty;
};

struct result {
	struct cuda_choice choices[ROWS];
	uint32_t chosen[SLOTS];
	uint32_t *seen; /* [SLOTS][words] */
};

static size_t words_of(const struct trial *t)
{
	return (t->limit + 31) / 32;
}

/* Row r is slot r + 2. */
static void choose(const struct trial *t, const float *logits, const uint32_t *seen, struct result *result)
{
	struct cuda_sampling how[ROWS];
	float *l = device_copy(logits, ROWS * t->stride * 4);
	size_t seen_size = SLOTS * words_of(t) * 4;
	uint32_t *s = device_copy(seen, seen_size), *chosen;
	struct cuda_choice *choices = device_alloc(ROWS * sizeof(*choices));
	void *scratch = device_alloc(cuda_choose_scratch(ROWS, t->limit)), *h;

	memset(result->chosen, 0xff, sizeof(result->chosen));
	chosen = device_copy(result->chosen, sizeof(result->chosen));
	for (uint32_t r = 0; r < ROWS; r++)
		how[r] = (struct cuda_sampling){
			t->how.temperature, t->how.top_p, t->how.min_p, t->how.repetition_penalty,
			t->how.seed, r, t->how.top_k, r + 2,
		};
	h = device_copy(how, sizeof(how));
	assert_int_equal(cuda_choose(NULL, l, t->stride, t->limit, h, ROWS, s, words_of(t), chosen, choices, scratch), 0);
	device_get(result->choices, choices, sizeof(result->choices));
	device_get(result->chosen, chosen, sizeof(result->chosen));
	result->seen = host_copy(s, seen_size);
	device_free(l), device_free(s), device_free(chosen), device_free(choices), device_free(scratch), device_free(h);
}

/* Returns how many rows were left to the host. */
static unsigned check(const struct trial *t, const float *logits)
{
	struct sampler *sampler = sampler_new(t->limit);
	size_t words = words_of(t);
	uint32_t *seen = xcalloc(SLOTS * words, 4);
	unsigned *list = xcalloc(t->limit, sizeof(*list)), left = 0;
	struct result got;

	for (size_t i = 0; t->penalty && i < SLOTS * words; i++)
		seen[i] = (uint32_t)(random_bits() & random_bits());
	choose(t, logits, seen, &got);
	for (size_t r = 0; r < ROWS; r++) {
		float *copy = xmalloc(t->limit * sizeof(*copy));
		uint32_t *mine = seen + (r + 2) * words;
		struct cuda_choice c = got.choices[r];
		struct choice wanted;
		size_t n = 0;

		for (size_t i = 0; i < t->limit; i++)
			if (mine[i / 32] >> i % 32 & 1)
				list[n++] = (unsigned)i;
		wanted = sampler_choose(sampler, memcpy(copy, logits + r * t->stride, t->limit * 4), t->limit, &t->how,
					list, n, r);
		free(copy);
		if (c.status == CUDA_CHOICE_HOST && wanted.valid) {
			left++;
			continue;
		}
		assert_int_equal(c.status, wanted.valid ? CUDA_CHOICE_VALID : CUDA_CHOICE_NAN);
		assert_int_equal(got.chosen[r + 2], c.token);
		if (!wanted.valid)
			continue;
		if (c.token != wanted.token || !(fabsf(c.log_probability - wanted.log_probability) <= 1e-5f))
			fail_msg("%zu tokens, temperature %g, top-k %u, top-p %g: %u (%g) instead of %u (%g)", t->limit,
				 t->how.temperature, t->how.top_k, t->how.top_p, c.token, (double)c.log_probability,
				 wanted.token, (double)wanted.log_probability);
		mine[c.token / 32] |= 1u << c.token % 32;
		assert_memory_equal(mine, got.seen + (r + 2) * words, words * 4);
	}
	assert_int_equal(got.chosen[0], UINT32_MAX);
	free(seen);
	free(list);
	free(got.seen);
	sampler_free(sampler);
	return left;
}

static float *logits_make(const struct trial *t)
{
	float *logits = random_floats(ROWS * t->stride);

	/* About normal; ties here and there. */
	for (size_t i = 0; i < ROWS * t->stride; i++) {
		logits[i] = (logits[i] + random_float() + random_float()) * t->spread;
		if (i % 7 == 0)
			logits[i] = rintf(logits[i]);
		if (i % t->stride >= t->limit)
			logits[i] = 1000; /* padding is never looked at */
	}
	return logits;
}

static const size_t limits[] = { 1, 31, 1000, 8192, 20011 };

static void test_greedy(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(limits); i++) {
		struct trial t = { limits[i / 2], limits[i / 2] + i % 2 * 5, 8, { .repetition_penalty = i % 2 ? 1.3 : 1 },
				   i % 2 };
		float *logits = logits_make(&t);

		assert_int_equal(check(&t, logits), 0);
		free(logits);
	}
}

/* 0 and -0 are equal: the first of them. */
static void test_zeros(void **state)
{
	struct trial t = { 40, 40, 0, { .repetition_penalty = 1 }, false };
	float logits[ROWS * 40];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(logits); i++)
		logits[i] = i % 40 < 5 ? -1 : i % 2 ? -0.0f : 0;
	assert_int_equal(check(&t, logits), 0);
}

static void test_draw(void **state)
{
	static const struct sampling hows[] = {
		{ 0.1, 0, 0.95, 0, 1, 7 },	 { 0.7, 20, 0.8, 0, 1.05, 8 }, { 1, 0, 0.9, 0, 1, 9 },
		{ 1.5, 50, 1, 0.05, 1, 10 },	 { 0.3, 1, 1, 0, 1, 11 },      { 1, 500, 0.999, 0, 1.2, 12 },
		{ 0.000001, 0, 0.5, 0, 1, 13 }, { 2, 0, 1, 0.1, 1, 14 },
	};

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(hows) * ARRAY_SIZE(limits); i++) {
		size_t limit = limits[i / 2 % ARRAY_SIZE(limits)];
		struct trial t = { limit, limit + 3, i % 2 ? 10 : 3, hows[i / 2 / ARRAY_SIZE(limits)], i % 2 };
		float *logits = logits_make(&t);
		/* More than 1,024 tokens share what top-p or min-p keeps. */
		bool flat = limit > 20000 && i % 2 == 0 && t.how.top_k == 0 && t.how.temperature >= 1;
		unsigned left;

		if (!t.penalty)
			t.how.repetition_penalty = 1;
		left = check(&t, logits);
		assert_true(left == 0 || flat);
		free(logits);
	}
}

/* All alike: nothing is settled by the first 1,024, unless there are no more. */
static void test_left_to_the_host(void **state)
{
	struct trial t = { 5000, 5000, 1, { .temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 3 }, false };
	float *logits = xcalloc(ROWS * t.stride, sizeof(*logits));

	(void)state;
	assert_int_equal(check(&t, logits), ROWS);
	t.how.top_k = 7;
	assert_int_equal(check(&t, logits), ROWS);
	t.limit = 1024;
	assert_int_equal(check(&t, logits), 0);
	t.how.temperature = 0;
	assert_int_equal(check(&t, logits), 0);
	free(logits);
}

static void test_not_a_number(void **state)
{
	const float bad[] = { NAN, INFINITY, -INFINITY, copysignf(NAN, -1) };

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(bad); i++) {
		struct trial t = { 9000, 9000, 3, { .temperature = i % 2, .top_p = 1, .top_k = 9, .repetition_penalty = 1 },
				   false };
		float *logits = logits_make(&t);

		logits[t.stride + 8500] = bad[i / 2];
		logits[3 * t.stride] = bad[i / 2];
		for (size_t k = 0; i / 2 == 2 && k < t.stride; k++)
			logits[4 * t.stride + k] = -INFINITY;
		assert_int_equal(check(&t, logits), 0);
		free(logits);
	}
	assert_int_equal(cuda_choose(NULL, NULL, 4, 5, NULL, 1, NULL, 0, NULL, NULL, NULL), CUDA_INVALID);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_greedy), cmocka_unit_test(test_zeros), cmocka_unit_test(test_draw),
	cmocka_unit_test(test_left_to_the_host), cmocka_unit_test(test_not_a_number),
};

DEVICE_MAIN(tests, NULL, NULL)
