/* SPDX-License-Identifier: MIT
 *
 * The language models of tests/golden/ out of the GPU's kernels, beside what the CPU computes with the same bf16
 * weights: a prompt in two pieces, with rows and additions from a vision tower, and then token by token as
 * cuda_choose() chooses them.
 *
 * Logits are within 4 % of the largest of them (as far as rounding every product's result to bf16 leads), and the
 * token is the same unless the CPU's own two best are closer than that.
 */
#include "cuda-model.h"

enum { PROMPT = 41, CUT = 23, STEPS = 6, ROWS = PROMPT + STEPS, PICTURES = 9, PICTURE_AT = 5, TABLE = 3, DEEPSTACKS = 2 };

struct layer {
	struct weight qkv, o, gate_up, down;
	uint16_t *qkv_bias, *input_norm, *post_norm, *q_norm, *k_norm;
	struct cuda_kv kv;
};

struct device_model {
	const struct text_config *c;
	struct layer *layers;
	struct weight head;
	uint16_t *embed, *norm, *vision, *deepstack[DEEPSTACKS];
	float *inverse;
	uint8_t *axis;

	float *x, *cosine, *sine, *logits;
	uint16_t *y, *qkv, *q, *attended, *wide, *mlp, *delta;
	uint32_t *tables, *chosen, *pick;
	struct cuda_sampling *how;
	struct cuda_choice *choices;
	void *decode_scratch, *choose_scratch;
};

static struct pool *pool;

/* --- Loading --- */

static void load_layer(struct device_model *m, unsigned i, struct weights *w, enum cuda_kv_number number)
{
	const struct text_config *c = m->c;
	struct layer *l = &m->layers[i];
	size_t q = (size_t)c->heads * c->head_dim, kv = (size_t)c->kv_heads * c->head_dim, h = c->hidden;
	size_t qkv[] = { q, kv, kv }, wide[] = { c->intermediate, c->intermediate };
	size_t page = cuda_kv_page_size(c->kv_heads, c->head_dim, number);
	char name[32];

	snprintf(name, sizeof(name), "text.layers.%u", i);
	l->qkv = take_weight(w, name, (const char *[]){ "self_attn.q_proj.weight", "self_attn.k_proj.weight",
						     "self_attn.v_proj.weight" }, qkv, 3, h);
	l->o = take_weight(w, name, (const char *[]){ "self_attn.o_proj.weight" }, &h, 1, q);
	l->gate_up = take_weight(w, name, (const char *[]){ "mlp.gate_proj.weight", "mlp.up_proj.weight" }, wide, 2, h);
	l->down = take_weight(w, name, (const char *[]){ "mlp.down_proj.weight" }, &h, 1, c->intermediate);
	l->input_norm = take_device(w, name, "input_layernorm.weight", h);
	l->post_norm = take_device(w, name, "post_attention_layernorm.weight", h);
	if (c->qk_norm) {
		l->q_norm = take_device(w, name, "self_attn.q_norm.weight", c->head_dim);
		l->k_norm = take_device(w, name, "self_attn.k_norm.weight", c->head_dim);
	}
	if (c->qkv_bias) {
		struct weight bias = take_weight(w, name, (const char *[]){ "self_attn.q_proj.bias", "self_attn.k_proj.bias",
									 "self_attn.v_proj.bias" }, qkv, 3, 1);

		l->qkv_bias = device_bf16(bias.w, bias.out);
		free(bias.w);
	}
	l->kv = (struct cuda_kv){ device_alloc(TABLE * page), page, c->kv_heads, c->head_dim, number };
}

/* As text.c has the frequencies and their axes. */
static void load_angles(struct device_model *m)
{
	const struct text_config *c = m->c;
	unsigned half = c->head_dim / 2;
	float *inverse = xcalloc(half, sizeof(*inverse));
	uint8_t *axis = xcalloc(half, 1);

	for (unsigned j = 0; j < half; j++) {
		inverse[j] = 1.0f / powf((float)c->rope_theta, (float)(2 * j) / (float)c->head_dim);
		if (c->mrope_interleaved && j % 3 && j < 3 * c->mrope[j % 3])
			axis[j] = j % 3;
		else if (!c->mrope_interleaved && c->mrope[0])
			axis[j] = j < c->mrope[0] ? 0 : j < c->mrope[0] + c->mrope[1] ? 1 : 2;
	}
	m->inverse = device_copy(inverse, half * sizeof(*inverse));
	m->axis = device_copy(axis, half);
	free(inverse);
	free(axis);
}

static void load(struct device_model *m, const struct text_config *c, struct weights *w, enum cuda_kv_number number)
{
	size_t q = (size_t)c->heads * c->head_dim, width = q + 2 * (size_t)c->kv_heads * c->head_dim, vocab = c->vocab;
	uint32_t tables[TABLE] = { 2, 0, 1 }, pick = 0;
	struct cuda_sampling greedy = { .repetition_penalty = 1 };
	float *embed = take(w, "text", "embed_tokens.weight", c->vocab, c->hidden);

	*m = (struct device_model){ .c = c };
	m->layers = xcalloc(c->layers, sizeof(*m->layers));
	for (unsigned i = 0; i < c->layers; i++)
		load_layer(m, i, w, number);
	load_angles(m);
	m->embed = device_bf16(embed, vocab * c->hidden);
	free(embed);
	m->norm = take_device(w, "text", "norm.weight", c->hidden);
	m->head = take_weight(w, c->tied ? "text" : "lm_head", (const char *[]){ c->tied ? "embed_tokens.weight" : "weight" },
			      &vocab, 1, c->hidden);
	m->x = device_alloc((size_t)ROWS * c->hidden * 4);
	m->cosine = device_alloc((size_t)ROWS * c->head_dim * 2);
	m->sine = device_alloc((size_t)ROWS * c->head_dim * 2);
	m->logits = device_alloc(m->head.out * 4);
	m->y = device_alloc((size_t)ROWS * c->hidden * 2);
	m->delta = device_alloc((size_t)ROWS * c->hidden * 2);
	m->qkv = device_alloc(ROWS * width * 2);
	m->q = device_alloc(ROWS * q * 2);
	m->attended = device_alloc(ROWS * q * 2);
	m->wide = device_alloc(ROWS * 2 * padded(c->intermediate) * 2);
	m->mlp = device_alloc(ROWS * padded(c->intermediate) * 2);
	m->tables = device_copy(tables, sizeof(tables));
	m->chosen = device_copy(tables, 4);
	m->pick = device_copy(&pick, 4);
	m->how = device_copy(&greedy, sizeof(greedy));
	m->choices = device_alloc(sizeof(*m->choices));
	m->decode_scratch = device_alloc(cuda_decode_scratch(1, c->heads, c->head_dim, ROWS));
	m->choose_scratch = device_alloc(cuda_choose_scratch(1, vocab));
}

static void unload(struct device_model *m)
{
	const void *all[] = { m->embed, m->norm, m->vision, m->deepstack[0], m->deepstack[1], m->inverse, m->axis, m->x,
			      m->cosine, m->sine, m->logits, m->y, m->qkv, m->q, m->attended, m->wide, m->mlp, m->delta,
			      m->tables, m->chosen, m->pick, m->how, m->choices, m->decode_scratch, m->choose_scratch };

	for (unsigned i = 0; i < m->c->layers; i++) {
		struct layer *l = &m->layers[i];
		const void *parts[] = { l->qkv_bias, l->input_norm, l->post_norm, l->q_norm, l->k_norm, l->kv.pages };

		free(l->qkv.w), free(l->o.w), free(l->gate_up.w), free(l->down.w);
		for (size_t k = 0; k < ARRAY_SIZE(parts); k++)
			if (parts[k])
				device_free(parts[k]);
	}
	for (size_t k = 0; k < ARRAY_SIZE(all); k++)
		device_free(all[k]);
	free(m->layers);
	free(m->head.w);
}

/* --- A pass --- */

static void attend(struct device_model *m, struct layer *l, const struct cuda_row *host_rows,
		   const struct cuda_row *rows, size_t n)
{
	const struct text_config *c = m->c;
	struct cuda_qkv qkv = { m->qkv, l->qkv_bias, l->q_norm, l->k_norm, c->eps, m->cosine, m->sine, c->heads, m->q };
	struct cuda_attention a = { rows, m->tables, m->q, m->attended, c->heads, 1.0f / sqrtf((float)c->head_dim) };
	struct cuda_tile host_tiles[ROWS], *tiles;
	size_t count;

	LAUNCHED(cuda_qkv_store(NULL, &l->kv, rows, m->tables, n, &qkv));
	if (n == 1) {
		LAUNCHED(cuda_attention_decode(NULL, &l->kv, &a, 1, ROWS, m->decode_scratch));
		return;
	}
	count = cuda_prefill_tiles(host_rows, n, c->heads / c->kv_heads, host_tiles);
	tiles = device_copy(host_tiles, count * sizeof(*tiles));
	LAUNCHED(cuda_attention_prefill(NULL, &l->kv, &a, tiles, count));
	device_free(tiles);
}

/* n rows; the last one's logits, and the token that is chosen. */
static struct cuda_choice forward(struct device_model *m, const struct cuda_row *host_rows, size_t n)
{
	const struct text_config *c = m->c;
	struct cuda_row *rows = device_copy(host_rows, n * sizeof(*rows));
	uint32_t last = (uint32_t)n - 1;
	const uint16_t *delta = NULL, *deepstack = NULL;
	struct cuda_choice choice;

	LAUNCHED(cuda_text_angles(NULL, rows, n, m->inverse, m->axis, c->head_dim / 2, m->cosine, m->sine));
	LAUNCHED(cuda_embed(NULL, rows, n, c->hidden, m->embed, m->vision, m->chosen, m->x));
	for (unsigned i = 0; i < c->layers; i++) {
		struct layer *l = &m->layers[i];

		LAUNCHED(cuda_add_rms_norm(NULL, m->x, delta, deepstack, deepstack ? rows : NULL, l->input_norm, c->eps,
					   m->y, n, c->hidden));
		product(&l->qkv, m->y, n, m->qkv, NULL);
		attend(m, l, host_rows, rows, n);
		product(&l->o, m->attended, n, m->delta, NULL);
		LAUNCHED(cuda_add_rms_norm(NULL, m->x, m->delta, NULL, NULL, l->post_norm, c->eps, m->y, n, c->hidden));
		product(&l->gate_up, m->y, n, m->wide, NULL);
		LAUNCHED(cuda_silu_gate(NULL, m->wide, NULL, m->mlp, n, padded(c->intermediate)));
		product(&l->down, m->mlp, n, m->delta, NULL);
		delta = m->delta;
		deepstack = i < DEEPSTACKS ? m->deepstack[i] : NULL;
	}
	device_put(m->pick, &last, 4);
	LAUNCHED(cuda_pick_rms_norm(NULL, m->x, delta, deepstack, deepstack ? rows : NULL, m->pick, m->norm, c->eps,
				    m->y, 1, c->hidden));
	product(&m->head, m->y, 1, NULL, m->logits);
	LAUNCHED(cuda_choose(NULL, m->logits, m->head.out, c->vocab, m->how, 1, NULL, 0, m->chosen, m->choices,
			     m->choose_scratch));
	device_get(&choice, m->choices, sizeof(choice));
	device_free(rows);
	return choice;
}

/* --- The same on the CPU --- */

struct both {
	struct model cpu;
	struct device_model gpu;
	struct text_sequence sequence;
	struct features features; /* random ones, of a page that nobody has seen */
	float *logits;
	unsigned tokens[ROWS];
	enum cuda_kv_number number;
};

static bool is_picture(size_t row)
{
	return row >= PICTURE_AT && row < PICTURE_AT + PICTURES;
}

static void positions(size_t row, uint32_t *position)
{
	for (unsigned axis = 0; axis < 3; axis++)
		position[axis] = (uint32_t)row;
	if (is_picture(row)) {
		position[0] = PICTURE_AT;
		position[1] = PICTURE_AT + (uint32_t)(row - PICTURE_AT) / 3;
		position[2] = PICTURE_AT + (uint32_t)(row - PICTURE_AT) % 3;
	}
}

static void cpu_forward(struct both *b, size_t first, size_t n)
{
	struct text_row rows[ROWS] = { { 0 } };

	for (size_t i = 0; i < n; i++) {
		size_t at = first + i;
		uint32_t position[3];

		positions(at, position);
		rows[i] = (struct text_row){ .sequence = &b->sequence, .index = at, .token = b->tokens[at],
					     .position = { position[0], position[1], position[2] } };
		if (is_picture(at)) {
			rows[i].page = &b->features;
			rows[i].place = at - PICTURE_AT;
		}
	}
	rows[n - 1].logits = b->logits;
	b->cpu.compute->calls->forward(b->cpu.compute, rows, n);
}

static struct cuda_choice gpu_forward(struct both *b, size_t first, size_t n)
{
	struct cuda_row rows[ROWS] = { { 0 } };

	for (size_t i = 0; i < n; i++) {
		size_t at = first + i;

		rows[i] = (struct cuda_row){ .index = (uint32_t)at, .token = b->tokens[at], .embedding = CUDA_NONE };
		positions(at, rows[i].position);
		if (is_picture(at))
			rows[i].embedding = (uint32_t)(at - PICTURE_AT);
		else if (at >= PROMPT)
			rows[i].token = CUDA_CHOSEN | 0; /* left there by the step before */
	}
	return forward(&b->gpu, rows, n);
}

static void compare(const struct both *b, const char *name, size_t step, struct cuda_choice choice)
{
	size_t vocab = b->cpu.config.text.vocab;
	float *got = host_copy(b->gpu.logits, vocab * 4), best = b->logits[b->tokens[PROMPT + step]];
	/* e4m3 has 3 bits of mantissa: what it does to a small model's logits is seen, not bounded tightly. */
	double bound = b->number == CUDA_KV_BF16 ? 0.04 : 0.25, worst = worst_of(got, b->logits, vocab), most = 0;

	if (!(worst <= bound))
		fail_msg("%s, step %zu: off by %g", name, step, worst);
	for (size_t i = 0; i < vocab; i++)
		most = fmax(most, fabs((double)b->logits[i]));
	assert_int_equal(choice.status, CUDA_CHOICE_VALID);
	for (size_t i = 0; i < vocab; i++)
		assert_true(got[i] <= got[choice.token]);
	assert_true((double)b->logits[choice.token] >= (double)best - 2 * bound * most);
	free(got);
}

static void check_model(const char *name, enum cuda_kv_number number)
{
	char *folder = xasprintf("tests/golden/models/%s", name);
	struct both b = { .number = number };
	struct cuda_choice choice;
	uint32_t blocks[TABLE];
	size_t hidden;
	struct err err;

	if (model_open(&b.cpu, folder, NUMBER_BF16, pool, &err) != RC_OK)
		fail_msg("%s", err.text);
	load(&b.gpu, &b.cpu.config.text, b.cpu.weights, number);
	hidden = b.cpu.config.text.hidden;
	if (b.cpu.compute->calls->reserve(b.cpu.compute, TABLE, &err) != RC_OK)
		fail_msg("%s", err.text);
	for (uint32_t i = 0; i < TABLE; i++) {
		blocks[i] = i;
		b.cpu.compute->calls->clear(b.cpu.compute, i);
	}
	b.sequence = (struct text_sequence){ blocks, TABLE };
	b.features.embeddings = random_floats(PICTURES * hidden);
	b.gpu.vision = device_bf16(b.features.embeddings, PICTURES * hidden);
	for (size_t k = 0; k < DEEPSTACKS; k++) {
		b.features.deepstack[k] = random_floats(PICTURES * hidden);
		b.gpu.deepstack[k] = device_bf16(b.features.deepstack[k], PICTURES * hidden);
	}
	b.logits = xcalloc(b.cpu.config.text.vocab, sizeof(float));
	for (size_t i = 0; i < PROMPT; i++)
		b.tokens[i] = (unsigned)(random_bits() % b.cpu.config.text.vocab);

	cpu_forward(&b, 0, PROMPT);
	gpu_forward(&b, 0, CUT);
	choice = gpu_forward(&b, CUT, PROMPT - CUT);
	for (size_t step = 0; step < STEPS; step++) {
		b.tokens[PROMPT + step] = 0;
		for (unsigned i = 0; i < b.cpu.config.text.vocab; i++)
			if (b.logits[i] > b.logits[b.tokens[PROMPT + step]])
				b.tokens[PROMPT + step] = i;
		compare(&b, name, step, choice);
		/* Both go on with what the GPU has chosen. */
		b.tokens[PROMPT + step] = choice.token;
		cpu_forward(&b, PROMPT + step, 1);
		choice = gpu_forward(&b, PROMPT + step, 1);
	}
	unload(&b.gpu);
	model_close(&b.cpu);
	for (size_t k = 0; k < DEEPSTACKS; k++)
		free(b.features.deepstack[k]);
	free(b.features.embeddings), free(b.logits), free(folder);
}

static void test_models(void **state)
{
	static const char *const names[] = { "qwen3", "qwen3-untied", "qwen2.5-vl", "qwen3-vl" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		check_model(names[i], CUDA_KV_BF16);
}

static void test_e4m3(void **state)
{
	(void)state;
	check_model("qwen3", CUDA_KV_E4M3);
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

static const struct CMUnitTest tests[] = { cmocka_unit_test(test_models), cmocka_unit_test(test_e4m3) };

DEVICE_MAIN(tests, start, stop)
