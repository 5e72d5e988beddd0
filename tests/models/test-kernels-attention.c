/* SPDX-License-Identifier: MIT
 *
 * attention, at every level: against fp64, and the same bits for a query however a prompt is cut into
 * calls and whatever is beside it.
 */
#include "kernels.h"

#include "kernels/attention.h"

#include <math.h>

static const struct shape {
	unsigned q_heads, heads, dim;
} shapes[] = {
	{ 4, 2, 64 }, { 3, 1, 72 }, { 2, 2, 80 }, { 16, 8, 128 }, { 8, 1, 256 }, { 5, 5, 8 }, { 7, 1, 128 },
};

struct sequence {
	size_t tokens;
	float *q, *k, *v; /* [tokens][heads * dim] */
	float *out;       /* of one call for each token alone */
	void *pages[8];
};

static void *page_of_zeros(const struct kv_shape *shape)
{
	void *page = aligned_alloc(64, (kv_page_size(shape) + 63) / 64 * 64);

	assert_non_null(page);
	return memset(page, 0, kv_page_size(shape));
}

static void store(const struct kv_shape *kv, struct sequence *s, size_t first, size_t last)
{
	for (size_t t = first; t < last; t++) {
		if (!s->pages[t / KV_PAGE])
			s->pages[t / KV_PAGE] = page_of_zeros(kv);
		kv_store(kv, s->pages[t / KV_PAGE], t % KV_PAGE, s->k + t * kv->heads * kv->dim,
			 s->v + t * kv->heads * kv->dim);
	}
}

static void forget(struct sequence *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(s->pages); i++) {
		free(s->pages[i]);
		s->pages[i] = NULL;
	}
}

static struct sequence sequence_make(const struct shape *shape, size_t tokens)
{
	struct sequence s = { .tokens = tokens };

	s.q = random_floats(tokens * shape->q_heads * shape->dim);
	s.k = random_floats(tokens * shape->heads * shape->dim);
	s.v = random_floats(tokens * shape->heads * shape->dim);
	s.out = xcalloc(tokens * shape->q_heads * shape->dim, sizeof(float));
	return s;
}

static void sequence_release(struct sequence *s)
{
	forget(s);
	free(s->q);
	free(s->k);
	free(s->v);
	free(s->out);
}

static double rounded(enum number number, float x)
{
	return number == NUMBER_F32 ? x : bf16_to_f32(bf16_from_f32(x));
}

/*
 * One query against keys and values with strides. fp32: 1e-5 of values below 1. bf16: what is left
 * out of the reference is the rounding of the weights, 2^-9 of each, so below 2^-8 of values below 1.
 */
static void check_query(enum number number, unsigned dim, float scale, const float *q, const float *k, const float *v,
			size_t stride, size_t keys, const float *out)
{
	double *weights = xcalloc(keys, sizeof(*weights)), max = -INFINITY, sum = 0;
	double bound = number == NUMBER_F32 ? 1e-5 : 0x1p-8;

	for (size_t t = 0; t < keys; t++) {
		for (unsigned d = 0; d < dim; d++)
			weights[t] += rounded(number, q[d]) * rounded(number, k[t * stride + d]);
		weights[t] *= (double)scale;
		max = fmax(max, weights[t]);
	}
	for (size_t t = 0; t < keys; t++)
		sum += weights[t] = exp(weights[t] - max);
	for (unsigned d = 0; d < dim; d++) {
		double value = 0;

		for (size_t t = 0; t < keys; t++)
			value += weights[t] / sum * rounded(number, v[t * stride + d]);
		if (!(fabs(value - out[d]) <= bound))
			fail_msg("%s, dim %u, %zu keys: %.9g instead of %.9g", number_name(number), dim, keys, out[d],
				 value);
	}
	free(weights);
}

static struct attention_row row_of(struct sequence *s, size_t token, size_t width, float *out)
{
	return (struct attention_row){ .q = s->q + token * width, .out = out, .pages = s->pages, .keys = token + 1 };
}

static void each_alone(const struct kv_shape *kv, struct pool *pool, const struct shape *shape, float scale,
		       struct sequence *s)
{
	size_t width = (size_t)shape->q_heads * shape->dim, kv_width = (size_t)shape->heads * shape->dim;
	unsigned group = shape->q_heads / shape->heads;

	for (size_t t = 0; t < s->tokens; t++) {
		struct attention_row row = row_of(s, t, width, s->out + t * width);

		store(kv, s, t, t + 1);
		attention_paged(kv, pool, shape->q_heads, scale, &row, 1);
		for (unsigned h = 0; h < shape->q_heads && (t % 9 == 0 || t + 1 == s->tokens); h++)
			check_query(kv->number, shape->dim, scale, row.q + h * shape->dim,
				    s->k + h / group * shape->dim, s->v + h / group * shape->dim, kv_width, t + 1,
				    row.out + h * shape->dim);
	}
	forget(s);
}

/* Random cuts of all sequences, beside each other in one call. */
static void cut_and_mixed(const struct kv_shape *kv, struct pool *pool, const struct shape *shape, float scale,
			  struct sequence *sequences, size_t count)
{
	size_t width = (size_t)shape->q_heads * shape->dim, at[8] = { 0 }, left = 0, n;
	struct attention_row *rows;
	float *out, **expected;

	for (size_t i = 0; i < count; i++)
		left += sequences[i].tokens;
	rows = xcalloc(left, sizeof(*rows));
	expected = xcalloc(left, sizeof(*expected));
	out = xcalloc(left * width, sizeof(*out));
	while (left > 0) {
		n = 0;
		for (size_t i = 0; i < count; i++) {
			struct sequence *s = &sequences[i];
			size_t more = min_u64(random_bits() % 50, s->tokens - at[i]);

			store(kv, s, at[i], at[i] + more);
			for (size_t t = at[i]; t < at[i] + more; t++, n++) {
				rows[n] = row_of(s, t, width, out + n * width);
				expected[n] = s->out + t * width;
			}
			at[i] += more;
			left -= more;
		}
		attention_paged(kv, pool, shape->q_heads, scale, rows, n);
		for (size_t r = 0; r < n; r++) {
			if (memcmp(rows[r].out, expected[r], width * sizeof(*out)) != 0)
				fail_msg("%s, %u heads of %u: the query at %zu differs in company", number_name(kv->number),
					 shape->q_heads, shape->dim, rows[r].keys - 1);
		}
	}
	for (size_t i = 0; i < count; i++)
		forget(&sequences[i]);
	free(rows);
	free(expected);
	free(out);
}

static void test_paged(void **state)
{
	static const size_t tokens[] = { 1, 33, 100, 64, 131 };
	struct pool *one = test_pool(1), *three = test_pool(3);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(shapes) * 2; i++) {
		const struct shape *shape = &shapes[i / 2];
		struct kv_shape kv = { shape->heads, shape->dim, i % 2 ? NUMBER_BF16 : NUMBER_F32 };
		float scale = 1 / sqrtf((float)shape->dim) * (i % 3 ? 1 : 12);
		struct sequence s[ARRAY_SIZE(tokens)];

		for (size_t j = 0; j < ARRAY_SIZE(tokens); j++) {
			s[j] = sequence_make(shape, tokens[j]);
			each_alone(&kv, one, shape, scale, &s[j]);
		}
		cut_and_mixed(&kv, three, shape, scale, s, ARRAY_SIZE(tokens));
		cut_and_mixed(&kv, one, shape, scale, s, ARRAY_SIZE(tokens));
		for (size_t j = 0; j < ARRAY_SIZE(tokens); j++)
			sequence_release(&s[j]);
	}
	pool_close(one);
	pool_close(three);
}

static void check_segments(struct pool *pool, unsigned heads, unsigned dim, enum number number, const size_t *segments,
			   size_t count)
{
	size_t tokens = segments[count], width = (size_t)heads * dim, stride = 3 * width + 5;
	float *qkv = random_floats(tokens * stride), *out = xcalloc(tokens * (width + 1), sizeof(*out));
	float scale = 1 / sqrtf((float)dim), *alone = xcalloc(tokens * width, sizeof(*alone));
	struct err err;

	assert_int_equal(attention_segments(pool, heads, dim, number, scale, qkv, qkv + width, qkv + 2 * width, stride,
					    out, width + 1, segments, count, &err), RC_OK);
	for (size_t i = 0; i < count; i++) {
		size_t first = segments[i], keys = segments[i + 1] - first, only[2] = { 0, keys };
		const float *start = qkv + first * stride;

		if (keys == 0)
			continue;
		assert_int_equal(attention_segments(pool, heads, dim, number, scale, start, start + width,
						    start + 2 * width, stride, alone, width, only, 1, &err), RC_OK);
		for (size_t t = 0; t < keys; t++) {
			const float *result = out + (first + t) * (width + 1);
			unsigned h = (unsigned)(t % heads);

			assert_memory_equal(result, alone + t * width, width * sizeof(*out));
			if (t % 5 == 0 || t + 1 == keys)
				check_query(number, dim, scale, start + t * stride + h * dim, start + width + h * dim,
					    start + 2 * width + h * dim, stride, keys, result + h * dim);
		}
	}
	free(qkv);
	free(out);
	free(alone);
}

static void test_segments(void **state)
{
	static const size_t windows[] = { 0, 64, 128, 128, 144, 208, 209, 257 }, one[] = { 0, 301 }, least[] = { 0, 1 };
	static const unsigned dims[] = { 64, 72, 80, 128, 256, 16 };
	struct pool *pool = test_pool(2);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(dims) * 2; i++) {
		enum number number = i % 2 ? NUMBER_BF16 : NUMBER_F32;

		check_segments(pool, 2, dims[i / 2], number, windows, ARRAY_SIZE(windows) - 1);
		check_segments(pool, 3, dims[i / 2], number, one, 1);
		check_segments(pool, 1, dims[i / 2], number, least, 1);
	}
	pool_close(pool);
}

int main(void)
{
	static const char *const names[] = { "paged", "segments" };
	static void (*const tests[])(void **) = { test_paged, test_segments };

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return run_at_every_level(names, tests, ARRAY_SIZE(tests));
}
