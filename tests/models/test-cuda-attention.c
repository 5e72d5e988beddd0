/* SPDX-License-Identifier: MIT
 *
 * q, k and v on the GPU, and attention over pages, against the CPU's norms, rotation and attention_paged() on
 * the same bf16 numbers. Bounds, of results below 1: 2^-7 with a bf16 cache (rounding of the weights and of the
 * result), 2^-4 with e4m3 (3 bits of mantissa: 2^-4 of each value and of the scores' products); against a
 * reference that reads the numbers that e4m3 holds, 2^-7 too. A row has the same bits alone and in company, in
 * whatever pieces a prompt is read.
 */
#include "cuda-device.h"
#include "e4m3.h"

#include "kernels/attention.h"
#include "kernels/ops.h"

static const struct shape {
	unsigned q_heads, heads, dim, rotary;
	bool bias, norm;
} shapes[] = {
	{ 4, 2, 64, 64, false, true },	  { 16, 2, 128, 128, true, false }, { 3, 1, 80, 80, false, false },
	{ 5, 5, 16, 8, true, true },	  { 14, 2, 128, 128, false, true }, { 20, 1, 64, 64, true, false },
	{ 2, 1, 48, 44, false, false },	  { 6, 2, 128, 96, false, false },
};

enum { SEQUENCES = 3, PAGES = 64 };

static const size_t tokens[SEQUENCES] = { 1, 45, 131 };

/* Sequences whose prompts are read whole, on the CPU; and the same for the GPU. */
struct model {
	const struct shape *shape;
	enum cuda_kv_number number;
	size_t n; /* rows: all tokens of all sequences */
	struct cuda_row *rows;
	uint32_t tables[SEQUENCES * 16]; /* page numbers, shuffled */
	float *qkv, *bias, *q_norm, *k_norm, *cosine, *sine, *wanted;
	float scale;

	struct cuda_kv kv;
	struct cuda_qkv in; /* on the device, all rows */
	struct cuda_row *rows_on_device;
	uint32_t *tables_on_device;
	uint16_t *q, *out;
};

static struct pool *pool;

static size_t width_of(const struct shape *s)
{
	return (size_t)(s->q_heads + 2 * s->heads) * s->dim;
}

/* What a cache in e4m3 makes of a head: the largest is 448 steps of the scale. */
static void through_e4m3(float *x, unsigned dim)
{
	float most = 0, scale;

	for (unsigned i = 0; i < dim; i++)
		most = fmaxf(most, fabsf(x[i]));
	scale = bf16_to_f32(bf16_from_f32(most / 448));
	for (unsigned i = 0; i < dim && scale > 0; i++) {
		float size = fminf(fabsf(x[i] / scale), 448), step;

		step = exp2f(fmaxf(floorf(log2f(fmaxf(size, 0x1p-20f))), -6) - 3);
		x[i] = copysignf(fminf(rintf(size / step) * step, 448) * scale, x[i]);
	}
}

/* Everything as text.c does it; leaves q, k and v of all rows in m->qkv, and in `wanted` what comes out. */
static void on_cpu(struct model *m)
{
	const struct shape *s = m->shape;
	size_t width = width_of(s), q = (size_t)s->q_heads * s->dim, kv = (size_t)s->heads * s->dim, row = 0;
	struct kv_shape shape = { s->heads, s->dim, NUMBER_BF16 };
	struct attention_row *rows = xcalloc(m->n, sizeof(*rows));
	void *pages[SEQUENCES][16] = { { NULL } };

	for (size_t i = 0; s->bias && i < m->n * width; i++)
		m->qkv[i] += m->bias[i % width];
	if (s->norm) {
		rms_norm_heads(pool, m->qkv, m->q_norm, 1e-6f, m->n, width, s->q_heads, s->dim);
		rms_norm_heads(pool, m->qkv + q, m->k_norm, 1e-6f, m->n, width, s->heads, s->dim);
	}
	rope(pool, m->qkv, m->cosine, m->sine, m->n, width, s->q_heads + s->heads, s->dim, s->rotary);
	for (size_t i = 0; m->number == CUDA_KV_E4M3 && i < m->n * 2 * s->heads; i++)
		through_e4m3(m->qkv + i / (2 * s->heads) * width + q + i % (2 * s->heads) * s->dim, s->dim);
	for (size_t j = 0; j < SEQUENCES; j++) {
		for (size_t t = 0; t < tokens[j]; t++, row++) {
			float *k = m->qkv + row * width + q;

			if (t % KV_PAGE == 0) {
				pages[j][t / KV_PAGE] = aligned_alloc(64, (kv_page_size(&shape) + 63) / 64 * 64);
				memset(pages[j][t / KV_PAGE], 0, kv_page_size(&shape));
			}
			kv_store(&shape, pages[j][t / KV_PAGE], t % KV_PAGE, k, k + kv);
			rows[row] = (struct attention_row){ k - q, m->wanted + row * q, pages[j], t + 1 };
		}
	}
	attention_paged(&shape, pool, s->q_heads, m->scale, rows, m->n);
	for (size_t j = 0; j < SEQUENCES * 16; j++)
		free(pages[j / 16][j % 16]);
	free(rows);
}

static void rows_make(struct model *m)
{
	uint32_t number[PAGES];

	for (uint32_t i = 0; i < PAGES; i++) {
		uint32_t j = (uint32_t)(random_bits() % (i + 1));

		number[i] = number[j];
		number[j] = i;
	}
	for (size_t i = 0; i < ARRAY_SIZE(m->tables); i++)
		m->tables[i] = UINT32_MAX / 2; /* none */
	for (size_t j = 0, page = 0; j < SEQUENCES; j++) {
		for (size_t t = 0; t < tokens[j]; t++) {
			if (t % CUDA_KV_PAGE == 0)
				m->tables[j * 16 + t / CUDA_KV_PAGE] = number[page++];
			m->rows = xrealloc(m->rows, (m->n + 1) * sizeof(*m->rows));
			m->rows[m->n++] = (struct cuda_row){
				.table = (uint32_t)j * 16, .index = (uint32_t)t,
				.position = { (uint32_t)t, (uint32_t)t * 2, (uint32_t)t / 3 }, .far = j == 1,
			};
		}
	}
}

/* Angles on the device, against the CPU's cosines. */
static void angles_make(struct model *m)
{
	unsigned half = m->shape->rotary / 2;
	float scale = 1.1902381f;
	float *inverse = xcalloc(2 * half, sizeof(*inverse)), *inverse_on_device, *cosine, *sine;
	uint8_t *axis = xcalloc(half, 1), *axis_on_device;
	float *c = device_alloc(m->n * half * 4), *s = device_alloc(m->n * half * 4);

	for (unsigned j = 0; j < half; j++) {
		inverse[j] = 1.0f / powf(10000.0f, (float)j / (float)half);
		inverse[half + j] = inverse[j] / (1.5f + (float)j);
		axis[j] = j % 3;
	}
	inverse_on_device = device_copy(inverse, 2 * half * 4);
	axis_on_device = device_copy(axis, half);
	assert_int_equal(cuda_text_angles(NULL, m->rows_on_device, m->n, inverse_on_device, axis_on_device, half, scale,
					  c, s), 0);
	m->cosine = host_copy(c, m->n * half * 4);
	m->sine = host_copy(s, m->n * half * 4);
	cosine = xcalloc(m->n * half, 4);
	sine = xcalloc(m->n * half, 4);
	for (size_t i = 0; i < m->n * half; i++) {
		const struct cuda_row *row = &m->rows[i / half];
		float angle = (float)row->position[axis[i % half]] * inverse[row->far * half + i % half];

		cosine[i] = cosf(angle) * scale;
		sine[i] = sinf(angle) * scale;
	}
	check_close("cosine", m->cosine, cosine, m->n * half, 0, 3e-7);
	check_close("sine", m->sine, sine, m->n * half, 0, 3e-7);
	m->in.cosine = c;
	m->in.sine = s;
	free(inverse), free(axis), free(cosine), free(sine);
	device_free(inverse_on_device), device_free(axis_on_device);
}

static void model_make(struct model *m, const struct shape *s, enum cuda_kv_number number)
{
	size_t width = width_of(s), q = (size_t)s->q_heads * s->dim, page = cuda_kv_page_size(s->heads, s->dim, number);

	*m = (struct model){ .shape = s, .number = number, .scale = 1 / sqrtf((float)s->dim) };
	rows_make(m);
	m->rows_on_device = device_copy(m->rows, m->n * sizeof(*m->rows));
	m->tables_on_device = device_copy(m->tables, sizeof(m->tables));
	angles_make(m);
	m->qkv = random_floats(m->n * width);
	m->bias = random_floats(width);
	m->q_norm = random_floats(s->dim);
	m->k_norm = random_floats(s->dim);
	m->wanted = xcalloc(m->n * q, sizeof(float));
	m->in.qkv = device_bf16(m->qkv, m->n * width);
	m->in.bias = device_bf16(m->bias, width);
	m->in.q_norm = device_bf16(m->q_norm, s->dim);
	m->in.k_norm = device_bf16(m->k_norm, s->dim);
	m->in.eps = 1e-6f;
	m->in.q_heads = s->q_heads;
	m->in.rotary = s->rotary;
	m->q = m->in.q = device_alloc(m->n * q * 2);
	m->out = device_alloc(m->n * q * 2);
	m->kv = (struct cuda_kv){ device_alloc(PAGES * (page + 32)), page + 32, s->heads, s->dim, number };
	on_cpu(m);
}

static void model_free(struct model *m)
{
	free(m->rows), free(m->qkv), free(m->bias), free(m->q_norm), free(m->k_norm), free(m->cosine), free(m->sine);
	free(m->wanted);
	device_free(m->rows_on_device), device_free(m->tables_on_device), device_free(m->in.qkv);
	device_free(m->in.bias), device_free(m->in.q_norm), device_free(m->in.k_norm), device_free(m->in.cosine);
	device_free(m->in.sine), device_free(m->q), device_free(m->out), device_free(m->kv.pages);
}

static void store(struct model *m, size_t first, size_t count)
{
	struct cuda_qkv in = m->in;
	size_t half = m->shape->rotary / 2;

	in.qkv += first * width_of(m->shape);
	in.q += first * m->shape->q_heads * m->shape->dim;
	in.cosine += first * half;
	in.sine += first * half;
	if (!m->shape->bias)
		in.bias = NULL;
	if (!m->shape->norm)
		in.q_norm = in.k_norm = NULL;
	assert_int_equal(cuda_qkv_store(NULL, &m->kv, m->rows_on_device + first, m->tables_on_device, count, &in), 0);
}

static struct cuda_attention call_of(const struct model *m, size_t first)
{
	size_t q = (size_t)m->shape->q_heads * m->shape->dim;

	return (struct cuda_attention){
		.rows = m->rows_on_device + first, .tables = m->tables_on_device, .q = m->q + first * q,
		.out = m->out + first * q, .q_heads = m->shape->q_heads, .scale = m->scale,
	};
}

static void prefill(struct model *m, size_t first, size_t count)
{
	struct cuda_attention a = call_of(m, first);
	struct cuda_tile *tiles = xcalloc(count, sizeof(*tiles)), *on_device;
	size_t n = cuda_prefill_tiles(m->rows + first, count, m->shape->q_heads / m->shape->heads, tiles);

	on_device = device_copy(tiles, n * sizeof(*tiles));
	assert_int_equal(cuda_attention_prefill(NULL, &m->kv, &a, on_device, n), 0);
	device_free(on_device);
	free(tiles);
}

static void decode(struct model *m, size_t first, size_t count, size_t max_keys)
{
	struct cuda_attention a = call_of(m, first);
	void *scratch = device_alloc(cuda_decode_scratch(count, a.q_heads, m->shape->dim, max_keys));

	assert_int_equal(cuda_attention_decode(NULL, &m->kv, &a, count, max_keys, scratch), 0);
	device_free(scratch);
}

static void check_out(const struct model *m, const char *what, size_t first, size_t count)
{
	size_t q = (size_t)m->shape->q_heads * m->shape->dim;
	float *got = host_floats(m->out + first * q, count * q);
	char name[80];

	snprintf(name, sizeof(name), "%s, %u heads of %u, %u a key's, %s", what, m->shape->q_heads, m->shape->dim,
		 m->shape->q_heads / m->shape->heads, m->number == CUDA_KV_BF16 ? "bf16" : "e4m3");
	check_close(name, got, m->wanted + first * q, count * q, 0x1p-7, m->number == CUDA_KV_BF16 ? 0x1p-8 : 0x1p-7);
	free(got);
}

static void forget_out(struct model *m)
{
	size_t size = m->n * m->shape->q_heads * m->shape->dim * 2;
	void *nothing = xmalloc(size);

	device_put(m->out, memset(nothing, 0xff, size), size);
	free(nothing);
}

static void test_prefill(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(shapes); i++) {
		struct model m;
		size_t size;
		void *whole, *pieces;

		model_make(&m, &shapes[i / 2], i % 2 ? CUDA_KV_E4M3 : CUDA_KV_BF16);
		size = m.n * m.shape->q_heads * m.shape->dim * 2;
		store(&m, 0, m.n);
		prefill(&m, 0, m.n);
		check_out(&m, "prefill", 0, m.n);
		whole = host_copy(m.out, size);
		forget_out(&m);
		for (size_t first = 0, count; first < m.n; first += count) {
			count = min_u64(1 + random_bits() % 90, m.n - first);
			prefill(&m, first, count);
		}
		pieces = host_copy(m.out, size);
		assert_memory_equal(pieces, whole, size);
		free(whole);
		free(pieces);
		model_free(&m);
	}
}

/* Runs of one sequence, of so many rows that a tile's query vectors are 128 at most. */
static void test_tiles(void **state)
{
	struct cuda_row rows[40] = { { 0 } };
	struct cuda_tile tiles[40];

	(void)state;
	for (uint32_t i = 0; i < 40; i++)
		rows[i] = (struct cuda_row){ .table = i < 25 ? 0 : 8, .index = i < 30 ? i : i - 30 };
	assert_int_equal(cuda_prefill_tiles(rows, 40, 8, tiles), 4);
	assert_true(tiles[0].first == 0 && tiles[0].count == 16);
	assert_true(tiles[1].first == 16 && tiles[1].count == 9);
	assert_true(tiles[2].first == 25 && tiles[2].count == 5);
	assert_true(tiles[3].first == 30 && tiles[3].count == 10);
	assert_int_equal(cuda_prefill_tiles(rows, 25, 128, tiles), 25);
	assert_int_equal(cuda_prefill_tiles(rows, 0, 8, tiles), 0);
}

static void test_decode(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(shapes); i++) {
		struct model m;
		size_t row, first, count = 24;
		void *together, *alone;

		model_make(&m, &shapes[i / 2], i % 2 ? CUDA_KV_E4M3 : CUDA_KV_BF16);
		store(&m, 0, m.n);
		/* The ends of two sequences and the beginnings of two, or the end of the last. */
		first = i % 3 ? tokens[0] + tokens[1] - 12 : m.n - count;
		decode(&m, first, count, 131);
		check_out(&m, "decode", first, count);
		row = (size_t)m.shape->q_heads * m.shape->dim * 2;
		together = host_copy((char *)m.out + first * row, count * row);
		forget_out(&m);
		for (size_t r = 0; r < count; r += 3) {
			decode(&m, first + r, 1, r % 2 ? 131 : 2000);
			alone = host_copy((char *)m.out + (first + r) * row, row);
			assert_memory_equal(alone, (char *)together + r * row, row);
			free(alone);
		}
		free(together);
		model_free(&m);
	}
}

enum { PAGES_LONG = 49 };

/* Keys and values of a sequence, as numbers [heads][2][keys][dim], and as pages on the device. */
struct cache {
	float *x;
	uint32_t tables[PAGES_LONG];
	struct cuda_kv kv;
};

/* A random number into a page, where kernels.h says it lies; returns it. */
static float place(unsigned char *head, const struct cuda_kv *kv, unsigned v, unsigned slot, unsigned c)
{
	size_t at = ((size_t)v * CUDA_KV_PAGE + slot) * kv->dim + c;
	float scale;

	if (kv->number == CUDA_KV_BF16) {
		uint16_t x = bf16_from_f32(random_float());

		memcpy(head + at * 2, &x, 2);
		return bf16_to_f32(x);
	}
	head[at] = (uint8_t)random_bits();
	if ((head[at] & 0x7f) == 0x7f)
		head[at] ^= 1; /* NaN is in scales alone */
	scale = bf16_to_f32(bf16_from_f32((float)(slot % 7 + 1) / 7 / 448));
	memcpy(head + 2 * (size_t)CUDA_KV_PAGE * kv->dim + (v * CUDA_KV_PAGE + slot) * 2,
	       &(uint16_t){ bf16_from_f32(scale) }, 2);
	return e4m3_to_f32(head[at]) * scale;
}

/* What is beyond the last token is NaN. */
static void cache_make(struct cache *m, unsigned heads, unsigned dim, uint32_t keys, enum cuda_kv_number number)
{
	size_t size = cuda_kv_page_size(heads, dim, number);
	unsigned char *pages = xmalloc(PAGES_LONG * size);

	memset(pages, 0xff, PAGES_LONG * size);
	m->kv = (struct cuda_kv){ NULL, size, heads, dim, number };
	m->x = xcalloc((size_t)heads * 2 * keys * dim, sizeof(*m->x));
	for (uint32_t i = 0; i < PAGES_LONG; i++)
		m->tables[i] = (i * 5) % PAGES_LONG;
	for (size_t i = 0; i < (size_t)heads * 2 * keys * dim; i++) {
		unsigned c = (unsigned)(i % dim), t = (unsigned)(i / dim % keys), v = (unsigned)(i / dim / keys);

		m->x[i] = place(pages + m->tables[t / CUDA_KV_PAGE] * size + v / 2 * (size / heads), &m->kv, v % 2,
				t % CUDA_KV_PAGE, c);
	}
	m->kv.pages = device_copy(pages, PAGES_LONG * size);
	free(pages);
}

/* More keys than one split: against fp64, for the CPU's reference is in test_decode(). */
static void check_long(unsigned q_heads, unsigned heads, unsigned dim, uint32_t keys, enum cuda_kv_number number)
{
	float *q = random_floats((size_t)q_heads * dim), *got;
	struct cuda_row row = { .index = keys - 1 };
	struct cuda_attention a = { .q_heads = q_heads, .scale = 4 / sqrtf((float)dim) };
	void *scratch = device_alloc(cuda_decode_scratch(1, q_heads, dim, keys));
	double *weight = xcalloc(keys, sizeof(*weight));
	struct cache m;

	cache_make(&m, heads, dim, keys, number);
	a.q = device_bf16(q, (size_t)q_heads * dim);
	a.rows = device_copy(&row, sizeof(row));
	a.tables = device_copy(m.tables, sizeof(m.tables));
	a.out = device_alloc((size_t)q_heads * dim * 2);
	assert_int_equal(cuda_attention_decode(NULL, &m.kv, &a, 1, keys, scratch), 0);
	got = host_floats(a.out, (size_t)q_heads * dim);
	for (unsigned h = 0; h < q_heads; h++) {
		const float *k = m.x + (size_t)h / (q_heads / heads) * 2 * keys * dim, *v = k + (size_t)keys * dim;
		double max = -INFINITY, sum = 0;

		for (uint32_t t = 0; t < keys; t++) {
			weight[t] = 0;
			for (unsigned c = 0; c < dim; c++)
				weight[t] += (double)q[h * dim + c] * (double)k[t * dim + c] * (double)a.scale;
			max = fmax(max, weight[t]);
		}
		for (uint32_t t = 0; t < keys; t++)
			sum += weight[t] = exp(weight[t] - max);
		for (unsigned c = 0; c < dim; c++) {
			double value = 0;

			for (uint32_t t = 0; t < keys; t++)
				value += weight[t] / sum * (double)v[t * dim + c];
			if (!(fabs(value - got[h * dim + c]) <= 0x1p-8))
				fail_msg("%u keys of %u: %g instead of %g", keys, dim, (double)got[h * dim + c], value);
		}
	}
	free(m.x), free(q), free(got), free(weight);
	device_free(a.q), device_free(m.kv.pages), device_free(a.rows), device_free(a.tables), device_free(a.out);
	device_free(scratch);
}

static void test_long(void **state)
{
	(void)state;
	check_long(4, 1, 128, 512, CUDA_KV_BF16);
	check_long(4, 2, 64, 513, CUDA_KV_E4M3);
	check_long(7, 1, 80, 1030, CUDA_KV_E4M3);
	check_long(6, 2, 80, 1030, CUDA_KV_BF16);
	check_long(20, 1, 128, 1537, CUDA_KV_BF16);
	check_long(8, 1, 128, 1100, CUDA_KV_E4M3);
}

/* A token that is not a number is found again by those that look at it and by no others. */
static void test_not_a_number(void **state)
{
	static const struct shape shape = { 4, 2, 64, 64, false, false };
	static const enum cuda_kv_number numbers[] = { CUDA_KV_BF16, CUDA_KV_E4M3 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		size_t first = tokens[0], bad = 40, width = width_of(&shape), q = (size_t)shape.q_heads * shape.dim;
		uint16_t nan = 0x7fc0;
		struct model m;
		float *got;

		model_make(&m, &shape, numbers[i]);
		device_put((uint16_t *)m.in.qkv + (first + bad) * width + q + 3, &nan, 2); /* k of head 0 */
		store(&m, 0, m.n);
		prefill(&m, 0, m.n);
		for (int pass = 0; pass < 2; pass++) {
			got = host_floats(m.out, m.n * q);
			for (size_t r = first; r < first + 80; r++) {
				bool affected = r >= first + bad && r < first + tokens[1];

				assert_true(!!isnan(got[r * q]) == affected);
				assert_false(isnan(got[r * q + 2 * shape.dim])); /* of head 1 */
			}
			free(got);
			decode(&m, first, 80, 131);
		}
		model_free(&m);
	}
}

static void test_refused(void **state)
{
	struct cuda_attention a = { .q_heads = 4 };
	struct cuda_kv kv = { NULL, 4096, 2, 72, CUDA_KV_BF16 };
	struct cuda_qkv qkv = { .q_heads = 3, .rotary = 64 };

	(void)state;
	assert_int_equal(cuda_attention_decode(NULL, &kv, &a, 1, 1, NULL), CUDA_INVALID);
	assert_int_equal(cuda_attention_prefill(NULL, &kv, &a, NULL, 1), CUDA_INVALID);
	kv.dim = 144;
	assert_int_equal(cuda_attention_decode(NULL, &kv, &a, 1, 1, NULL), CUDA_INVALID);
	kv.dim = 64;
	assert_int_equal(cuda_qkv_store(NULL, &kv, NULL, NULL, 1, &qkv), CUDA_INVALID);
	qkv = (struct cuda_qkv){ .q_heads = 4, .rotary = 42 };
	assert_int_equal(cuda_qkv_store(NULL, &kv, NULL, NULL, 1, &qkv), CUDA_INVALID);
	assert_int_equal(cuda_attention_prefill(NULL, &kv, &a, NULL, 0), 0);
	assert_int_equal(cuda_attention_decode(NULL, &kv, &a, 0, 1, NULL), 0);
}

#ifndef CUDA_DEVICE
/* Token *arg of a sequence with 5 pages. */
static void decode_token(void *arg)
{
	static const struct shape shape = { 4, 2, 64, 64, false, false };
	struct model m;

	model_make(&m, &shape, CUDA_KV_BF16);
	store(&m, 0, m.n);
	m.rows[m.n - 1].index = *(const uint32_t *)arg;
	device_put(m.rows_on_device, m.rows, m.n * sizeof(*m.rows));
	decode(&m, m.n - 1, 1, 512);
}

static void test_out_of_range(void **state)
{
	uint32_t within = 5 * CUDA_KV_PAGE - 1, beyond = 5 * CUDA_KV_PAGE;

	(void)state;
	assert_int_equal(status_of(decode_token, &within), 0);
	assert_int_not_equal(status_of(decode_token, &beyond), 0);
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
	cmocka_unit_test(test_tiles), cmocka_unit_test(test_prefill), cmocka_unit_test(test_decode),
	cmocka_unit_test(test_long), cmocka_unit_test(test_not_a_number), cmocka_unit_test(test_refused),
#ifndef CUDA_DEVICE
	cmocka_unit_test(test_out_of_range),
#endif
};

DEVICE_MAIN(tests, start, stop)
