/* SPDX-License-Identifier: MIT
 *
 * The vision towers of tests/golden/ out of the GPU's kernels, beside the CPU's with the same bf16 weights: two
 * pages in one batch, that of Qwen2.5-VL in the order of its windows. What comes out is within 3 % of the largest
 * number (as far as rounding every product's result to bf16 leads).
 */
#include "cuda-model.h"

enum { PAGES = 2, PATCHES_MAX = 512 };

/* In patches: the first has windows cut off at its right and lower edge. */
static const unsigned page_rows[PAGES] = { 12, 4 }, page_columns[PAGES] = { 20, 6 };

struct merger {
	uint16_t *norm, *norm_bias, *fc1_bias, *fc2_bias;
	size_t norm_width;
	struct weight fc1, fc2;
};

struct block {
	uint16_t *norm1, *norm1_bias, *norm2, *norm2_bias, *qkv_bias, *proj_bias, *up_bias, *down_bias;
	struct weight qkv, proj, up, down;
};

struct tower {
	const struct model_config *config;
	bool qwen3;
	size_t n, h, side; /* patches, width, patches a token */
	struct weights *w;
	float *x, *cosine, *sine;
	uint16_t *y, *qkv, *delta, *wide, *inner;
	struct cuda_patch *patches;

	uint32_t order[PATCHES_MAX]; /* which patch of its batch comes k-th */
	uint32_t windows[PATCHES_MAX + 1], pages[PAGES + 1];
	size_t window_count;
};

static struct pool *pool;

static uint16_t *take_vector(struct tower *t, const char *prefix, const char *part, size_t n)
{
	float *x = take(t->w, prefix, part, n, 1), *wide = xcalloc(padded(n), sizeof(*wide));
	uint16_t *p;

	memcpy(wide, x, n * sizeof(*x));
	p = device_bf16(wide, padded(n));
	free(x);
	free(wide);
	return p;
}

static struct weight matrix(struct tower *t, const char *prefix, const char *part, size_t out, size_t in)
{
	return take_weight(t->w, prefix, &part, &out, 1, in);
}

static void norm(struct tower *t, const uint16_t *delta, const uint16_t *weight, const uint16_t *bias, size_t n,
		 size_t width)
{
	if (bias)
		LAUNCHED(cuda_add_layer_norm(NULL, t->x, delta, weight, bias, 1e-6f, t->y, n, width));
	else
		LAUNCHED(cuda_add_rms_norm(NULL, t->x, delta, NULL, NULL, weight, 1e-6f, t->y, n, width));
}

/* --- The order of patches --- */

static void place(struct tower *t, size_t *k, unsigned page, unsigned token_row, unsigned token_column,
		  struct cuda_patch *patches)
{
	unsigned merge = t->config->vision.merge, across = page_columns[page] / merge;

	for (unsigned inner = 0; inner < merge * merge; inner++, (*k)++) {
		t->order[*k] = t->pages[page] + (token_row * across + token_column) * merge * merge + inner;
		patches[*k] = (struct cuda_patch){
			(uint16_t)(token_row * merge + inner / merge), (uint16_t)(token_column * merge + inner % merge),
			(uint16_t)page_rows[page], (uint16_t)page_columns[page],
		};
	}
}

/* Windows one after the other; for Qwen3-VL a page is one. */
static void place_all(struct tower *t)
{
	const struct vision_config *c = &t->config->vision;
	unsigned side = t->qwen3 ? PATCHES_MAX : c->window / c->merge / c->patch;
	struct cuda_patch patches[PATCHES_MAX];
	size_t k = 0;

	for (unsigned p = 0; p < PAGES; p++) {
		unsigned down = page_rows[p] / c->merge, across = page_columns[p] / c->merge;

		t->pages[p + 1] = t->pages[p] + page_rows[p] * page_columns[p];
		for (unsigned top = 0; top < down; top += side) {
			for (unsigned left = 0; left < across; left += side) {
				for (unsigned r = top; r < min_u64(top + side, down); r++)
					for (unsigned q = left; q < min_u64(left + side, across); q++)
						place(t, &k, p, r, q, patches);
				t->windows[++t->window_count] = (uint32_t)k;
			}
		}
	}
	t->n = k;
	t->patches = device_copy(patches, k * sizeof(*patches));
}

/* --- The parts --- */

static void attend(struct tower *t, bool full)
{
	unsigned heads = t->config->vision.heads, dim = (unsigned)t->h / heads;
	unsigned rows = full ? CUDA_SEGMENT_TILE : CUDA_SEGMENT_TILE_SHORT;
	const uint32_t *segments = full ? t->pages : t->windows;
	struct cuda_tile host_tiles[PATCHES_MAX], *tiles;
	size_t count = cuda_segment_tiles(segments, full ? PAGES : t->window_count, rows, host_tiles);

	tiles = device_copy(host_tiles, count * sizeof(*tiles));
	LAUNCHED(cuda_attention_segments(NULL, t->qkv, t->y, heads, dim, 1.0f / sqrtf((float)dim), tiles, count, rows));
	device_free(tiles);
}

static struct block block_load(struct tower *t, unsigned i)
{
	const struct vision_config *c = &t->config->vision;
	size_t h = t->h, inner = c->intermediate, two[] = { inner, inner };
	struct block b = { 0 };
	char name[32];

	snprintf(name, sizeof(name), "visual.blocks.%u", i);
	b.norm1 = take_vector(t, name, "norm1.weight", h);
	b.norm2 = take_vector(t, name, "norm2.weight", h);
	b.qkv = matrix(t, name, "attn.qkv.weight", 3 * h, h);
	b.qkv_bias = take_vector(t, name, "attn.qkv.bias", 3 * h);
	b.proj = matrix(t, name, "attn.proj.weight", h, h);
	b.proj_bias = take_vector(t, name, "attn.proj.bias", h);
	if (t->qwen3) {
		b.norm1_bias = take_vector(t, name, "norm1.bias", h);
		b.norm2_bias = take_vector(t, name, "norm2.bias", h);
		b.up = matrix(t, name, "mlp.linear_fc1.weight", inner, h);
		b.up_bias = take_vector(t, name, "mlp.linear_fc1.bias", inner);
		b.down = matrix(t, name, "mlp.linear_fc2.weight", h, inner);
		b.down_bias = take_vector(t, name, "mlp.linear_fc2.bias", h);
	} else {
		struct weight bias = take_weight(t->w, name, (const char *[]){ "mlp.gate_proj.bias", "mlp.up_proj.bias" },
						 two, 2, 1);

		b.up_bias = device_bf16(bias.w, bias.out);
		free(bias.w);
		b.up = take_weight(t->w, name, (const char *[]){ "mlp.gate_proj.weight", "mlp.up_proj.weight" }, two, 2, h);
		b.down = matrix(t, name, "mlp.down_proj.weight", h, inner);
		b.down_bias = take_vector(t, name, "mlp.down_proj.bias", h);
	}
	return b;
}

static void block_free(struct block *b)
{
	const uint16_t *all[] = { b->norm1, b->norm1_bias, b->norm2, b->norm2_bias, b->qkv_bias, b->proj_bias, b->up_bias,
				  b->down_bias };

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (all[i])
			device_free(all[i]);
	free(b->qkv.w), free(b->proj.w), free(b->up.w), free(b->down.w);
}

/* Leaves in t->delta what is to be added to x. */
static void block_run(struct tower *t, unsigned i, const uint16_t *delta)
{
	const struct vision_config *c = &t->config->vision;
	size_t inner = padded(c->intermediate);
	struct block b = block_load(t, i);

	norm(t, delta, b.norm1, b.norm1_bias, t->n, t->h);
	product(&b.qkv, t->y, t->n, t->qkv, NULL);
	LAUNCHED(cuda_vision_rotate(NULL, t->qkv, b.qkv_bias, t->cosine, t->sine, t->n, c->heads,
				    (unsigned)t->h / c->heads));
	attend(t, t->qwen3 || c->full[i]);
	product(&b.proj, t->y, t->n, t->delta, NULL);
	LAUNCHED(cuda_bias(NULL, t->delta, b.proj_bias, t->n, t->h));
	norm(t, t->delta, b.norm2, b.norm2_bias, t->n, t->h);
	product(&b.up, t->y, t->n, t->wide, NULL);
	if (t->qwen3)
		LAUNCHED(cuda_gelu_tanh(NULL, t->wide, b.up_bias, t->n, inner));
	else
		LAUNCHED(cuda_silu_gate(NULL, t->wide, b.up_bias, t->inner, t->n, inner));
	product(&b.down, t->qwen3 ? t->wide : t->inner, t->n, t->delta, NULL);
	LAUNCHED(cuda_bias(NULL, t->delta, b.down_bias, t->n, t->h));
	block_free(&b);
}

/* x, with *delta (NULL: nothing), which it has from then on, to tokens. */
static float *merge(struct tower *t, const uint16_t **delta, const char *prefix, const char *const *names, bool after,
		    bool bias)
{
	size_t wide = t->side * t->h, tokens = t->n / t->side, out = t->config->vision.out, width = after ? wide : t->h;
	char fc1[64], fc2[64], norms[64];
	struct weight first, second;
	uint16_t *weight, *norm_bias = NULL, *bias1, *bias2;
	float *result;

	snprintf(norms, sizeof(norms), "%s.%s", prefix, names[0]);
	snprintf(fc1, sizeof(fc1), "%s.%s", prefix, names[1]);
	snprintf(fc2, sizeof(fc2), "%s.%s", prefix, names[2]);
	weight = take_vector(t, norms, "weight", width);
	if (bias)
		norm_bias = take_vector(t, norms, "bias", width);
	first = matrix(t, fc1, "weight", wide, wide);
	bias1 = take_vector(t, fc1, "bias", wide);
	second = matrix(t, fc2, "weight", out, wide);
	bias2 = take_vector(t, fc2, "bias", out);
	/* Patches of a token lie behind each other: [n][h] is [tokens][side h] as it stands. */
	norm(t, *delta, weight, norm_bias, after ? tokens : t->n, width);
	*delta = NULL;
	product(&first, t->y, tokens, t->qkv, NULL);
	LAUNCHED(cuda_gelu_erf(NULL, t->qkv, bias1, tokens, wide));
	product(&second, t->qkv, tokens, t->y, NULL);
	LAUNCHED(cuda_bias(NULL, t->y, bias2, tokens, out));
	result = host_floats(t->y, tokens * out);
	device_free(weight), device_free(bias1), device_free(bias2);
	if (norm_bias)
		device_free(norm_bias);
	free(first.w), free(second.w);
	return result;
}

/* Patches [n][depth] in merge order, page behind page, to x. */
static void embed(struct tower *t, const float *pixels, size_t depth)
{
	const struct vision_config *c = &t->config->vision;
	struct weight w = matrix(t, "visual.patch_embed.proj", "weight", t->h, depth);
	uint16_t *bias = t->qwen3 ? take_vector(t, "visual.patch_embed.proj", "bias", t->h) : NULL, *table = NULL, *in, *out;
	float *ordered = xcalloc(t->n * w.in, sizeof(*ordered));
	unsigned quarter = (unsigned)t->h / c->heads / 4;
	float *inverse = xcalloc(quarter, sizeof(*inverse)), *inverse_on_device;

	for (size_t i = 0; i < t->n; i++)
		memcpy(ordered + i * w.in, pixels + t->order[i] * depth, depth * sizeof(*pixels));
	in = device_bf16(ordered, t->n * w.in);
	out = device_alloc(t->n * t->h * 2);
	product(&w, in, t->n, out, NULL);
	if (t->qwen3) {
		float *positions = take(t->w, "visual.pos_embed", "weight", (size_t)c->positions * c->positions, t->h);

		table = device_bf16(positions, (size_t)c->positions * c->positions * t->h);
		free(positions);
	}
	LAUNCHED(cuda_patches(NULL, out, bias, table, c->positions, t->patches, t->x, t->n, t->h));
	for (unsigned k = 0; k < quarter; k++)
		inverse[k] = 1.0f / powf(10000.0f, (float)(2 * k) / (float)(2 * quarter));
	inverse_on_device = device_copy(inverse, quarter * sizeof(*inverse));
	LAUNCHED(cuda_vision_angles(NULL, t->patches, t->n, inverse_on_device, quarter, t->cosine, t->sine));
	device_free(in), device_free(out), device_free(inverse_on_device);
	if (bias)
		device_free(bias);
	if (table)
		device_free(table);
	free(w.w), free(ordered), free(inverse);
}

/* Tokens as they came out against those of each page from the CPU: a deepstack's, or -1, the embeddings. */
static void compare(const struct tower *t, const char *name, const float *got, const struct features *wanted,
		    int deepstack)
{
	size_t out = t->config->vision.out, tokens = t->n / t->side;
	float *ordered = xcalloc(tokens * out, sizeof(*ordered)), *all = xcalloc(tokens * out, sizeof(*all));
	double worst;

	for (size_t i = 0; i < tokens; i++)
		memcpy(ordered + t->order[i * t->side] / t->side * out, got + i * out, out * sizeof(*got));
	for (unsigned p = 0; p < PAGES; p++)
		memcpy(all + t->pages[p] / t->side * out,
		       deepstack < 0 ? wanted[p].embeddings : wanted[p].deepstack[deepstack],
		       (t->pages[p + 1] - t->pages[p]) / t->side * out * sizeof(*all));
	worst = worst_of(ordered, all, tokens * out);
	if (!(worst <= 0.03))
		fail_msg("%s, deepstack %d: off by %g", name, deepstack, worst);
	free(ordered);
	free(all);
}

static void run(struct tower *t, const char *name, const struct features *wanted)
{
	static const char *const qwen3[] = { "norm", "linear_fc1", "linear_fc2" }, *const qwen2_5[] = { "ln_q", "mlp.0", "mlp.2" };
	const struct vision_config *c = &t->config->vision;
	const uint16_t *delta = NULL;
	float *got;

	for (unsigned i = 0; i < c->depth; i++) {
		block_run(t, i, delta);
		delta = t->delta;
		for (unsigned k = 0; k < c->deepstacks; k++) {
			char prefix[64];

			if (c->deepstack[k] != i)
				continue;
			snprintf(prefix, sizeof(prefix), "visual.deepstack_merger_list.%u", k);
			got = merge(t, &delta, prefix, qwen3, true, true);
			compare(t, name, got, wanted, (int)k);
			free(got);
		}
	}
	got = merge(t, &delta, "visual.merger", t->qwen3 ? qwen3 : qwen2_5, false, t->qwen3);
	compare(t, name, got, wanted, -1);
	free(got);
}

/* Each page alone. */
static void on_cpu(const struct model *m, const float *pixels, size_t depth, const struct tower *t,
		   struct features *pages)
{
	struct err err;

	for (unsigned p = 0; p < PAGES; p++)
		if (m->compute->calls->see(m->compute, pixels + t->pages[p] * depth, page_rows[p], page_columns[p],
					   &pages[p], &err) != RC_OK)
			fail_msg("%s", err.text);
}

static void check_tower(const char *name)
{
	char *folder = xasprintf("tests/golden/models/%s", name);
	struct features wanted[PAGES] = { { 0 } };
	float *pixels;
	struct tower t = { 0 };
	struct model m;
	size_t depth, inner, out;
	struct err err;

	if (model_open(&m, folder, NUMBER_BF16, pool, &err) != RC_OK)
		fail_msg("%s", err.text);
	t.config = &m.config;
	t.w = m.weights;
	t.qwen3 = m.config.family == FAMILY_QWEN3_VL;
	t.h = m.config.vision.hidden;
	t.side = (size_t)m.config.vision.merge * m.config.vision.merge;
	depth = 3 * (size_t)m.config.vision.temporal * m.config.vision.patch * m.config.vision.patch;
	inner = padded(m.config.vision.intermediate);
	out = max_u64(t.h, m.config.vision.out);
	place_all(&t);
	t.x = device_alloc(t.n * t.h * 4);
	t.cosine = device_alloc(t.n * t.h * 4);
	t.sine = device_alloc(t.n * t.h * 4);
	t.y = device_alloc(t.n * out * 2);
	t.qkv = device_alloc(t.n * 3 * t.h * 2);
	t.delta = device_alloc(t.n * t.h * 2);
	t.wide = device_alloc(t.n * 2 * inner * 2);
	t.inner = device_alloc(t.n * inner * 2);
	pixels = random_floats(t.n * depth);
	on_cpu(&m, pixels, depth, &t, wanted);
	embed(&t, pixels, depth);
	run(&t, name, wanted);
	device_free(t.x), device_free(t.cosine), device_free(t.sine), device_free(t.y), device_free(t.qkv);
	device_free(t.delta), device_free(t.wide), device_free(t.inner), device_free(t.patches);
	for (unsigned p = 0; p < PAGES; p++)
		m.compute->calls->forget(m.compute, &wanted[p]);
	free(pixels);
	free(folder);
	model_close(&m);
}

static void test_qwen2_5(void **state)
{
	(void)state;
	check_tower("qwen2.5-vl");
}

static void test_qwen3(void **state)
{
	(void)state;
	check_tower("qwen3-vl");
}

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

static const struct CMUnitTest tests[] = { cmocka_unit_test(test_qwen2_5), cmocka_unit_test(test_qwen3) };

DEVICE_MAIN(tests, start, stop)
