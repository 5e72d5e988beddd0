/* SPDX-License-Identifier: MIT
 *
 * The language model on the GPU: text.c, with the kernels of this folder.
 *
 * Tokens of prompts come first in a step and tokens that the model has written behind them: each product
 * is two, of a kind of its own for the two (gpu.h), and so is attention. The step is described to the GPU
 * in one copy; choices come back in one.
 */
#include "cuda/device.h"

#include "base/num.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What a step is, as it lies on the GPU; host's copies first. */
struct step {
	size_t rows, prompt, sequences; /* prompt: rows that are part of one */
	size_t tables, tiles, picked;
	size_t embedded; /* rows that come from pages */
	uint32_t max_keys;
};

struct language {
	const uint16_t *embed; /* [vocab][hidden] */
	struct sampler *sampler; /* for what the GPU leaves to the host */
	/* On the host, CUDA_ROWS of each. */
	struct cuda_row *row;
	const struct text_row **source;
	struct cuda_tile *tile;
	uint32_t *table, *pick;
	size_t table_max;
	uint16_t *embedded; /* grows */
	size_t embedded_max;
	/* On the GPU. */
	struct cuda_buffer table_of_tokens, inverse, axis;
	struct cuda_buffer rows, tables, tiles, picks, pages, deepstack[DEEPSTACKS_MAX];
	struct cuda_buffer x, y, delta, qkv, q, attended, wide, inner, cosine, sine;
	struct cuda_buffer logits, how, choices, attention, choosing;
};

/* The table that tokens' embeddings are taken from: the head, where the two are tied. */
static void load_embed(struct cuda *c, struct language *l)
{
	const struct matrix *m = &c->text.embed;

	l->embed = c->text.head.weight;
	if (c->config.text.tied)
		return;
	l->embed = l->table_of_tokens.data;
	cuda_write_rows(c->gpu, l->table_of_tokens.data, m, cuda_round(m->columns));
}

void language_plan(struct cuda *c)
{
	const struct text_config *t = &c->config.text;
	const struct text_layer *w = c->text.layer;
	struct language *l = c->language = xcalloc(1, sizeof(*l));
	size_t n = CUDA_ROWS, h = t->hidden, q = (size_t)t->heads * t->head_dim,
	       half = t->rotary / 2, number = sizeof(uint16_t), sequences = c->compute.sequences;

	if (!t->tied)
		cuda_need(c, &l->table_of_tokens, MEMORY_WEIGHTS, t->vocab * cuda_round(h), number);
	cuda_need(c, &l->inverse, MEMORY_STEP, 2 * half, sizeof(float));
	cuda_need(c, &l->axis, MEMORY_STEP, half, sizeof(uint8_t));
	cuda_need(c, &l->rows, MEMORY_STEP, n, sizeof(struct cuda_row));
	cuda_need(c, &l->tables, MEMORY_STEP, sequences * (t->max_positions / KV_PAGE + 1),
		  sizeof(uint32_t));
	cuda_need(c, &l->tiles, MEMORY_STEP, n, sizeof(struct cuda_tile));
	cuda_need(c, &l->picks, MEMORY_STEP, n, sizeof(uint32_t));
	cuda_need(c, &l->x, MEMORY_STEP, n * h, sizeof(float));
	cuda_need(c, &l->y, MEMORY_STEP, n * h, number);
	cuda_need(c, &l->delta, MEMORY_STEP, n * h, number);
	cuda_need(c, &l->qkv, MEMORY_STEP, n * w->qkv.out, number);
	cuda_need(c, &l->q, MEMORY_STEP, n * q, number);
	cuda_need(c, &l->attended, MEMORY_STEP, n * q, number);
	cuda_need(c, &l->wide, MEMORY_STEP, n * w->gate_up.out, number);
	cuda_need(c, &l->inner, MEMORY_STEP, n * w->down.in, number);
	cuda_need(c, &l->cosine, MEMORY_STEP, n * half, sizeof(float));
	cuda_need(c, &l->sine, MEMORY_STEP, n * half, sizeof(float));
	cuda_need(c, &l->attention, MEMORY_STEP,
		  cuda_decode_scratch(sequences, t->heads, t->head_dim, t->max_positions), 1);
	if (c->config.vision.depth)
		cuda_need(c, &l->pages, MEMORY_STEP, n * h, number);
	for (unsigned d = 0; d < c->config.vision.deepstacks; d++)
		cuda_need(c, &l->deepstack[d], MEMORY_STEP, n * h, number);
	cuda_need(c, &l->logits, MEMORY_LOGITS, CUDA_LOGITS * c->text.head.out, sizeof(float));
	cuda_need(c, &l->how, MEMORY_SAMPLING, CUDA_LOGITS, sizeof(struct cuda_sampling));
	cuda_need(c, &l->choices, MEMORY_SAMPLING, CUDA_LOGITS, sizeof(struct cuda_choice));
	cuda_need(c, &l->choosing, MEMORY_SAMPLING, cuda_choose_scratch(CUDA_LOGITS, t->vocab), 1);
}

void language_open(struct cuda *c)
{
	struct language *l = c->language;
	unsigned half = c->config.text.rotary / 2;
	float *inverse = xmalloc(2 * half * sizeof(*inverse));
	uint8_t *axis = xmalloc(half);

	load_embed(c, l);
	text_rope(&c->config.text, false, inverse, axis);
	text_rope(&c->config.text, true, inverse + half, axis);
	gpu_write(c->gpu, l->inverse.data, inverse, 2 * half * sizeof(*inverse));
	gpu_write(c->gpu, l->axis.data, axis, half);
	free(inverse);
	free(axis);
	l->sampler = sampler_new(c->config.text.vocab);
	l->row = xcalloc(CUDA_ROWS, sizeof(*l->row));
	l->source = xcalloc(CUDA_ROWS, sizeof(*l->source));
	l->tile = xcalloc(CUDA_ROWS, sizeof(*l->tile));
	l->pick = xcalloc(CUDA_ROWS, sizeof(*l->pick));
}

void language_close(struct cuda *c)
{
	struct language *l = c->language;

	if (!l)
		return;
	sampler_free(l->sampler);
	free(l->row);
	free(l->source);
	free(l->tile);
	free(l->table);
	free(l->pick);
	free(l->embedded);
	free(l);
}

/* Rows of pages' features, one behind the other as they come in the step, to the GPU. */
static void send_pages(struct cuda *c, const struct step *s)
{
	struct language *l = c->language;
	size_t h = c->config.text.hidden, size = s->embedded * h * sizeof(uint16_t);

	if (s->embedded > l->embedded_max) {
		l->embedded = xrealloc(l->embedded, size);
		l->embedded_max = s->embedded;
	}
	for (unsigned part = 0; s->embedded && part <= c->config.vision.deepstacks; part++) {
		size_t k = 0;

		for (size_t i = 0; i < s->rows; i++) {
			const struct features *f = l->source[i]->page;
			const uint16_t *from;

			if (!f)
				continue;
			from = (const void *)(part ? f->deepstack[part - 1] : f->embeddings);
			if (from)
				memcpy(l->embedded + k * h, from + l->source[i]->place * h,
				       h * sizeof(uint16_t));
			else
				memset(l->embedded + k * h, 0, h * sizeof(uint16_t));
			k++;
		}
		gpu_write(c->gpu, part ? l->deepstack[part - 1].data : l->pages.data, l->embedded,
			  size);
	}
}

/* Where the page table of a row's sequence starts; it is put there if it is not yet. */
static uint32_t table_of(struct language *l, struct step *s, const struct text_sequence *sequence)
{
	size_t start = s->tables;

	if (start + sequence->count > l->table_max) {
		l->table_max = 2 * (start + sequence->count);
		l->table = xrealloc(l->table, l->table_max * sizeof(*l->table));
	}
	memcpy(l->table + start, sequence->blocks, sequence->count * sizeof(*l->table));
	s->tables += sequence->count;
	return (uint32_t)start;
}

static void add_rows(struct language *l, struct step *s, const struct text_row *rows, size_t count,
		     bool written)
{
	const struct text_sequence *last = NULL;
	uint32_t table = 0;

	for (size_t i = 0; i < count; i++) {
		const struct text_row *r = &rows[i];
		struct cuda_row *row = &l->row[s->rows];

		if (r->written != written)
			continue;
		if (r->sequence != last)
			table = table_of(l, s, r->sequence);
		last = r->sequence;
		*row = (struct cuda_row){.table = table,
					 .index = (uint32_t)r->index,
					 .token = r->token,
					 .embedding = CUDA_NONE,
					 .far = r->far};
		for (unsigned axis = 0; axis < 3; axis++)
			row->position[axis] = r->position[axis];
		if (r->page)
			row->embedding = (uint32_t)s->embedded++;
		if (r->logits || r->draw)
			l->pick[s->picked++] = (uint32_t)s->rows;
		if (written)
			s->max_keys = (uint32_t)max_u64(s->max_keys, r->index + 1);
		l->source[s->rows++] = r;
	}
}

static struct step describe(struct cuda *c, const struct text_row *rows, size_t count)
{
	const struct text_config *t = &c->config.text;
	struct language *l = c->language;
	struct step s = {0};

	add_rows(l, &s, rows, count, false);
	s.prompt = s.rows;
	add_rows(l, &s, rows, count, true);
	s.tiles = cuda_prefill_tiles(l->row, s.prompt, t->heads / t->kv_heads, l->tile);
	gpu_write(c->gpu, l->rows.data, l->row, s.rows * sizeof(*l->row));
	gpu_write(c->gpu, cuda_room(&l->tables, s.tables * sizeof(*l->table)), l->table,
		  s.tables * sizeof(*l->table));
	gpu_write(c->gpu, l->tiles.data, l->tile, s.tiles * sizeof(*l->tile));
	gpu_write(c->gpu, l->picks.data, l->pick, s.picked * sizeof(*l->pick));
	send_pages(c, &s);
	return s;
}

/* Both kinds of rows through one projection. */
static void multiply(struct cuda *c, const struct step *s, const struct linear *w, const void *x,
		     void *y)
{
	const uint16_t *from = x;
	uint16_t *to = y;

	cuda_multiply(c, GPU_MANY, w, from, s->prompt, to, false);
	cuda_multiply(c, GPU_FEW, w, from + s->prompt * w->in, s->rows - s->prompt,
		      to + s->prompt * w->out, false);
}

static void attend(struct cuda *c, const struct step *s, unsigned layer)
{
	const struct text_config *t = &c->config.text;
	const struct text_layer *w = &c->text.layer[layer];
	struct language *l = c->language;
	cudaStream_t stream = gpu_stream(c->gpu);
	struct cuda_kv kv = c->kv;
	struct cuda_qkv qkv = {.qkv = l->qkv.data,
			       .bias = cuda_bias_of(&w->qkv),
			       .q_norm = w->q_norm,
			       .k_norm = w->k_norm,
			       .eps = t->eps,
			       .cosine = l->cosine.data,
			       .sine = l->sine.data,
			       .rotary = t->rotary,
			       .q_heads = t->heads,
			       .q = l->q.data};
	struct cuda_attention a = {.rows = l->rows.data,
				   .tables = l->tables.data,
				   .q = l->q.data,
				   .out = l->attended.data,
				   .q_heads = t->heads,
				   .scale = 1.0f / sqrtf((float)t->head_dim)};
	size_t n = s->rows - s->prompt, q = (size_t)t->heads * t->head_dim;

	kv.pages = c->blocks + layer * c->page_size;
	multiply(c, s, &w->qkv, l->y.data, l->qkv.data);
	gpu_check(c->gpu, cuda_qkv_store(stream, &kv, a.rows, a.tables, s->rows, &qkv),
		  "storing keys and values");
	gpu_check(c->gpu, cuda_attention_prefill(stream, &kv, &a, l->tiles.data, s->tiles),
		  "attention of prompts");
	a.rows += s->prompt;
	a.q += s->prompt * q;
	a.out += s->prompt * q;
	if (n)
		gpu_check(c->gpu,
			  cuda_attention_decode(stream, &kv, &a, n, s->max_keys, l->attention.data),
			  "attention of written tokens");
	multiply(c, s, &w->o, l->attended.data, l->delta.data);
}

static void feed_forward(struct cuda *c, const struct step *s, const struct text_layer *w)
{
	struct language *l = c->language;

	multiply(c, s, &w->gate_up, l->y.data, l->wide.data);
	gpu_check(c->gpu,
		  cuda_silu_gate(gpu_stream(c->gpu), l->wide.data, NULL, l->inner.data, s->rows,
				 w->down.in),
		  "SwiGLU");
	multiply(c, s, &w->down, l->inner.data, l->delta.data);
}

/* What the page's tokens get added after a layer, or NULL. */
static const uint16_t *deepstack_after(const struct cuda *c, const struct step *s, int layer)
{
	return s->embedded && layer >= 0 && layer < (int)c->config.vision.deepstacks
		       ? c->language->deepstack[layer].data
		       : NULL;
}

static void run_layers(struct cuda *c, const struct step *s)
{
	const struct text_config *t = &c->config.text;
	struct language *l = c->language;
	cudaStream_t stream = gpu_stream(c->gpu);
	size_t h = t->hidden;

	cuda_room(&l->attention,
		  cuda_decode_scratch(s->rows - s->prompt, t->heads, t->head_dim, s->max_keys));
	gpu_check(c->gpu,
		  cuda_embed(stream, l->rows.data, s->rows, h, l->embed,
			     s->embedded ? l->pages.data : NULL, NULL, l->x.data),
		  "embeddings");
	gpu_check(c->gpu,
		  cuda_text_angles(stream, l->rows.data, s->rows, l->inverse.data, l->axis.data,
				   t->rotary / 2, t->rope_scale, l->cosine.data, l->sine.data),
		  "angles");
	for (unsigned i = 0; i < t->layers; i++) {
		const struct text_layer *w = &c->text.layer[i];
		const uint16_t *deep = deepstack_after(c, s, (int)i - 1);

		gpu_check(c->gpu,
			  cuda_add_rms_norm(stream, l->x.data, i ? l->delta.data : NULL, deep,
					    deep ? l->rows.data : NULL, w->input_norm, t->eps,
					    l->y.data, s->rows, h),
			  "norm");
		attend(c, s, i);
		gpu_check(c->gpu,
			  cuda_add_rms_norm(stream, l->x.data, l->delta.data, NULL, NULL,
					    w->post_norm, t->eps, l->y.data, s->rows, h),
			  "norm");
		feed_forward(c, s, w);
	}
}

static struct cuda_sampling sampling_of(const struct draw *d)
{
	static const struct sampling greedy = {.repetition_penalty = 1, .top_p = 1};
	const struct sampling *how = d ? d->how : &greedy;

	return (struct cuda_sampling){.temperature = how->temperature,
				      .top_p = how->top_p,
				      .min_p = how->min_p,
				      .repetition_penalty = 1,
				      .seed = how->seed,
				      .step = d ? d->step : 0,
				      .top_k = how->top_k};
}

/* Logits that the host looks at itself: those asked for, penalties, draws among too many. */
static void choose_here(struct cuda *c, const struct text_row *r, size_t k, bool choose)
{
	const struct text_config *t = &c->config.text;
	float *logits = r->logits ? r->logits : xmalloc(t->vocab * sizeof(*logits)), *copy;

	gpu_read(c->gpu, logits, (float *)c->language->logits.data + k * c->text.head.out,
		 t->vocab * sizeof(*logits));
	if (choose) {
		copy = xmalloc(t->vocab * sizeof(*copy));
		memcpy(copy, logits, t->vocab * sizeof(*copy));
		r->draw->choice = sampler_choose(c->language->sampler, copy, r->draw->limit, r->draw->how,
						 r->draw->seen, r->draw->seen_count, r->draw->step);
		free(copy);
	}
	if (!r->logits)
		free(logits);
}

/* Rows first .. first + n - 1 of those picked. */
static void choose(struct cuda *c, const struct step *s, size_t first, size_t n)
{
	const struct text_config *t = &c->config.text;
	struct language *l = c->language;
	struct cuda_sampling how[CUDA_LOGITS];
	struct cuda_choice choices[CUDA_LOGITS];
	const struct text_row *rows[CUDA_LOGITS];
	const uint16_t *deep = deepstack_after(c, s, (int)t->layers - 1);
	size_t limit = t->vocab;

	for (size_t k = 0; k < n; k++) {
		rows[k] = l->source[l->pick[first + k]];
		how[k] = sampling_of(rows[k]->draw);
		if (rows[k]->draw)
			limit = rows[k]->draw->limit;
	}
	gpu_check(c->gpu,
		  cuda_pick_rms_norm(gpu_stream(c->gpu), l->x.data, l->delta.data, deep,
				     deep ? l->rows.data : NULL, (uint32_t *)l->picks.data + first,
				     c->text.norm, t->eps, l->y.data, n, t->hidden),
		  "last norm");
	cuda_multiply(c, GPU_FEW, &c->text.head, l->y.data, n, l->logits.data, true);
	gpu_write(c->gpu, l->how.data, how, n * sizeof(*how));
	gpu_check(c->gpu,
		  cuda_choose(gpu_stream(c->gpu), l->logits.data, c->text.head.out, limit, l->how.data,
			      n, NULL, 0, NULL, l->choices.data, l->choosing.data),
		  "choice of tokens");
	gpu_read(c->gpu, choices, l->choices.data, n * sizeof(*choices));
	for (size_t k = 0; k < n; k++) {
		struct draw *d = rows[k]->draw;
		bool here = d && (choices[k].status == CUDA_CHOICE_HOST ||
				  d->how->repetition_penalty != 1);

		if (d)
			d->choice = (struct choice){choices[k].status == CUDA_CHOICE_VALID,
						    choices[k].token, choices[k].log_probability};
		if (here || rows[k]->logits)
			choose_here(c, rows[k], k, here);
	}
}

void language_forward(struct cuda *c, const struct text_row *rows, size_t count)
{
	struct step s;

	if (count > CUDA_ROWS)
		BUG("%zu rows in one call", count);
	if (count == 0)
		return;
	s = describe(c, rows, count);
	run_layers(c, &s);
	for (size_t first = 0; first < s.picked; first += CUDA_LOGITS)
		choose(c, &s, first, min_u64(CUDA_LOGITS, s.picked - first));
}
