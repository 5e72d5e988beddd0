/* SPDX-License-Identifier: MIT
 *
 * The language model on the GPU: text.c, with the kernels of this folder.
 *
 * Tokens of prompts come first in a step and tokens that the model has written behind them: each product
 * is two, of a kind of its own for the two (gpu.h), and so is attention. Where any order of sums will do, a
 * product is one.
 *
 * A step begins while the one before is under way: what describes it lies in pinned memory of its own
 * (struct flight) until it ends, its logits too. On the GPU a step's memory is the next one's: things are done
 * in the order in which they are asked for. The token that a draw chose is left in its slot, where the next
 * step's row finds it before the host has seen it; so is what was seen, a bit for each token.
 *
 * A step without prompts is filled up to a round number of rows and keys and taken from a record where there is
 * one (replay.c). What fills it up has a block of its own, and chooses into a slot of its own.
 */
#include "cuda/device.h"

#include "base/num.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What a step is. */
struct step {
	size_t rows, prompt; /* prompt: rows that are part of one */
	size_t tables, tiles, picked;
	size_t embedded; /* rows that come from pages */
	size_t adapted;	 /* tiles of rows with adapters */
	uint32_t max_keys;
	unsigned limit; /* of tokens that can be chosen */
	bool repeats;	/* it may be taken from a record */
};

/* A step under way: how it is described to the GPU, and where its results go. */
struct flight {
	struct gpu_mark *done;
	/* Pinned. */
	struct cuda_row *row;
	struct cuda_tile *tile;
	uint32_t *table, *pick;
	uint16_t *embedded; /* of pages, and of each deepstack behind them */
	struct cuda_sampling *how;
	uint32_t *seen; /* of slots that are fresh */
	struct cuda_choice *choice;
	/* The host's. */
	const struct text_row **source; /* of each row, for as long as the step begins */
	struct draw **draw;		/* of each pick, or NULL */
	float **wanted;			/* where its logits are to go, or NULL */
	size_t picked;
	struct cuda_buffer logits; /* the GPU's */
};

struct language {
	const uint16_t *embed; /* [vocab][hidden] */
	struct sampler *sampler; /* for what the GPU leaves to the host */
	size_t seen_width;	 /* words a slot */
	struct flight flights[CUDA_FLIGHTS];
	unsigned begun, ended;
	/* On the GPU. */
	struct cuda_buffer table_of_tokens, inverse, axis;
	struct cuda_buffer rows, tables, tiles, picks, pages, deepstack[DEEPSTACKS_MAX];
	struct cuda_buffer x, y, delta, qkv, q, attended, wide, inner, cosine, sine;
	struct cuda_buffer codes, scales; /* rows in e4m3, where weights are */
	struct cuda_buffer routes, expert, weight, list, count, spread, parts, outs; /* of experts */
	struct cuda_buffer how, choices, chosen, seen, attention, choosing;
};

/* The table that tokens' embeddings are taken from: the head, where the two are tied. */
static void load_embed(struct cuda *c, struct language *l)
{
	const struct matrix *m = &c->text.embed;

	l->embed = c->text.head.weight;
	if (c->config.text.tied)
		return;
	l->embed = l->table_of_tokens.data;
	cuda_write_part(c->gpu, l->table_of_tokens.data, m, m->rows, cuda_round(m->columns));
}

/* What a layer's feed-forward needs; that of the widest layer is there for all. */
static void plan_feed_forward(struct cuda *c)
{
	const struct text_config *t = &c->config.text;
	const struct text_experts *x = NULL;
	struct language *l = c->language;
	size_t n = CUDA_ROWS, choices = n * t->experts_used, number = sizeof(uint16_t), wide = 0, inner = 0;

	for (unsigned i = 0; i < t->layers; i++) {
		const struct text_layer *w = &c->text.layer[i];

		wide = max_u64(wide, w->gate_up.out);
		inner = max_u64(inner, w->down.in);
		x = w->experts.count ? &w->experts : x;
	}
	if (wide) {
		cuda_need(c, &l->wide, MEMORY_STEP, n * wide, number);
		cuda_need(c, &l->inner, MEMORY_STEP, n * inner, number);
	}
	if (!x)
		return;
	cuda_need(c, &l->routes, MEMORY_STEP, n * x->router.out, sizeof(float));
	cuda_need(c, &l->expert, MEMORY_STEP, choices, sizeof(uint32_t));
	cuda_need(c, &l->weight, MEMORY_STEP, choices, sizeof(float));
	cuda_need(c, &l->list, MEMORY_STEP, n * t->experts, sizeof(uint32_t));
	cuda_need(c, &l->count, MEMORY_STEP, t->experts, sizeof(uint32_t));
	cuda_need(c, &l->spread, MEMORY_STEP, choices * x->gate_up->out, number);
	cuda_need(c, &l->parts, MEMORY_STEP, choices * x->down->in, number);
	cuda_need(c, &l->outs, MEMORY_STEP, choices * x->down->out, number);
}

/* Rows on their way into the widest product of fp8. */
static void plan_fp8(struct cuda *c)
{
	struct language *l = c->language;
	size_t widest = 0;

	for (unsigned i = 0; i < c->config.text.layers; i++) {
		const struct text_layer *w = &c->text.layer[i];

		widest = max_u64(widest, max_u64(w->qkv.in, max_u64(w->o.in, w->down.in)));
	}
	cuda_need(c, &l->codes, MEMORY_STEP, CUDA_ROWS * widest, sizeof(uint8_t));
	cuda_need(c, &l->scales, MEMORY_STEP, CUDA_ROWS, sizeof(float));
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
	cuda_need(c, &l->tables, MEMORY_STEP, sequences * (t->max_positions / KV_PAGE + 1) + 1,
		  sizeof(uint32_t));
	cuda_need(c, &l->tiles, MEMORY_STEP, n, sizeof(struct cuda_tile));
	cuda_need(c, &l->picks, MEMORY_STEP, c->picks, sizeof(uint32_t));
	cuda_need(c, &l->x, MEMORY_STEP, n * h, sizeof(float));
	cuda_need(c, &l->y, MEMORY_STEP, n * h, number);
	cuda_need(c, &l->delta, MEMORY_STEP, n * h, number);
	cuda_need(c, &l->qkv, MEMORY_STEP, n * w->qkv.out, number);
	cuda_need(c, &l->q, MEMORY_STEP, n * q, number);
	cuda_need(c, &l->attended, MEMORY_STEP, n * q, number);
	plan_feed_forward(c);
	if (c->layers.number == NUMBER_E4M3)
		plan_fp8(c);
	cuda_need(c, &l->cosine, MEMORY_STEP, n * half, sizeof(float));
	cuda_need(c, &l->sine, MEMORY_STEP, n * half, sizeof(float));
	cuda_need(c, &l->attention, MEMORY_STEP,
		  cuda_decode_scratch(sequences, t->heads, t->head_dim, t->max_positions), 1);
	if (c->config.vision.depth)
		cuda_need(c, &l->pages, MEMORY_STEP, n * h, number);
	for (unsigned d = 0; d < c->config.vision.deepstacks; d++)
		cuda_need(c, &l->deepstack[d], MEMORY_STEP, n * h, number);
	for (unsigned i = 0; i < CUDA_FLIGHTS; i++)
		cuda_need(c, &l->flights[i].logits, MEMORY_LOGITS, c->picks * c->text.head.out,
			  sizeof(float));
	/* One slot more, for rows of which nothing is to stay. */
	l->seen_width = (t->vocab + 31) / 32;
	cuda_need(c, &l->how, MEMORY_SAMPLING, c->picks, sizeof(struct cuda_sampling));
	cuda_need(c, &l->choices, MEMORY_SAMPLING, c->picks, sizeof(struct cuda_choice));
	cuda_need(c, &l->chosen, MEMORY_SAMPLING, sequences + 1, sizeof(uint32_t));
	cuda_need(c, &l->seen, MEMORY_SAMPLING, (sequences + 1) * l->seen_width, sizeof(uint32_t));
	cuda_need(c, &l->choosing, MEMORY_SAMPLING, cuda_choose_scratch(c->picks, t->vocab), 1);
}

static enum rc open_flight(struct cuda *c, struct flight *f, struct err *err)
{
	const struct text_config *t = &c->config.text;
	const struct language *l = c->language;
	size_t n = CUDA_ROWS, parts = c->config.vision.depth ? 1 + c->config.vision.deepstacks : 0;
	const struct cuda_pinned pieces[] = {
		{(void **)&f->row, n * sizeof(*f->row)},
		{(void **)&f->tile, n * sizeof(*f->tile)},
		{(void **)&f->table, l->tables.size},
		{(void **)&f->pick, c->picks * sizeof(*f->pick)},
		{(void **)&f->embedded, parts * n * t->hidden * sizeof(*f->embedded)},
		{(void **)&f->how, c->picks * sizeof(*f->how)},
		{(void **)&f->seen, c->picks * l->seen_width * sizeof(*f->seen)},
		{(void **)&f->choice, c->picks * sizeof(*f->choice)},
	};

	f->done = gpu_mark_new(c->gpu);
	f->source = xcalloc(n, sizeof(*f->source));
	f->draw = xcalloc(c->picks, sizeof(*f->draw));
	f->wanted = xcalloc(c->picks, sizeof(*f->wanted));
	return cuda_pin(c, pieces, ARRAY_SIZE(pieces), err);
}

static void close_flight(struct cuda *c, struct flight *f)
{
	gpu_mark_free(c->gpu, f->done);
	free(f->source);
	free(f->draw);
	free(f->wanted);
}

enum rc language_open(struct cuda *c, struct err *err)
{
	struct language *l = c->language;
	unsigned half = c->config.text.rotary / 2;
	float *inverse = xmalloc(2 * half * sizeof(*inverse));
	uint8_t *axis = xmalloc(half);
	enum rc rc = RC_OK;

	load_embed(c, l);
	text_rope(&c->config.text, inverse, axis);
	gpu_write(c->gpu, l->inverse.data, inverse, 2 * half * sizeof(*inverse));
	gpu_write(c->gpu, l->axis.data, axis, half);
	free(inverse);
	free(axis);
	l->sampler = sampler_new(c->config.text.vocab);
	for (unsigned i = 0; rc == RC_OK && i < CUDA_FLIGHTS; i++)
		rc = open_flight(c, &l->flights[i], err);
	return rc;
}

void language_close(struct cuda *c)
{
	struct language *l = c->language;

	if (!l)
		return;
	for (unsigned i = 0; i < CUDA_FLIGHTS; i++)
		close_flight(c, &l->flights[i]);
	sampler_free(l->sampler);
	free(l);
}

/* Rows of pages' features, one behind the other as they come in the step, to the GPU. */
static void send_pages(struct cuda *c, struct flight *f, const struct step *s)
{
	struct language *l = c->language;
	size_t h = c->config.text.hidden, size = s->embedded * h * sizeof(uint16_t);
	uint16_t *to = f->embedded;

	for (unsigned part = 0; s->embedded && part <= c->config.vision.deepstacks; part++) {
		uint16_t *start = to;

		for (size_t i = 0; i < s->rows; i++) {
			const struct features *page = f->source[i]->page;
			const uint16_t *from;

			if (!page)
				continue;
			from = (const void *)(part ? page->deepstack[part - 1] : page->embeddings);
			if (from)
				memcpy(to, from + f->source[i]->place * h, h * sizeof(*to));
			else
				memset(to, 0, h * sizeof(*to));
			to += h;
		}
		gpu_send(c->gpu, part ? l->deepstack[part - 1].data : l->pages.data, start, size);
	}
}

/* Where the page table of a row's sequence starts; it is put there. */
static uint32_t table_of(const struct language *l, struct flight *f, struct step *s,
			 const struct text_sequence *sequence)
{
	size_t start = s->tables, size = sequence->count * sizeof(*f->table);

	cuda_announced(&l->tables, start * sizeof(*f->table) + size);
	memcpy(f->table + start, sequence->blocks, size);
	s->tables += sequence->count;
	return (uint32_t)start;
}

static void add_pick(struct cuda *c, struct flight *f, struct step *s, const struct text_row *r)
{
	if (s->picked == c->picks)
		BUG("more than %zu rows of logits in one call", s->picked);
	f->draw[s->picked] = r->draw;
	f->wanted[s->picked] = r->logits;
	f->pick[s->picked++] = (uint32_t)s->rows;
}

static void add_rows(struct cuda *c, struct flight *f, struct step *s, const struct text_row *rows,
		     size_t count, bool written)
{
	const struct text_sequence *last = NULL;
	uint32_t table = 0;

	for (size_t i = 0; i < count; i++) {
		const struct text_row *r = &rows[i];
		struct cuda_row *row = &f->row[s->rows];

		if (r->written != written)
			continue;
		if (r->sequence != last)
			table = table_of(c->language, f, s, r->sequence);
		last = r->sequence;
		*row = (struct cuda_row){.table = table,
					 .index = (uint32_t)r->index,
					 .token = r->chosen ? CUDA_CHOSEN | r->sequence->slot : r->token,
					 .embedding = CUDA_NONE,
					 .far = r->far};
		for (unsigned axis = 0; axis < 3; axis++)
			row->position[axis] = r->position[axis];
		if (r->page)
			row->embedding = (uint32_t)s->embedded++;
		if (r->logits || r->draw)
			add_pick(c, f, s, r);
		if (written)
			s->max_keys = (uint32_t)max_u64(s->max_keys, r->index + 1);
		f->source[s->rows++] = r;
	}
}

/* Up to a number of rows and keys for which there may be a record; each row is a pick then. */
static void fill_up(struct cuda *c, struct flight *f, struct step *s)
{
	const struct text_sequence spare = {.blocks = &c->spare_block, .count = 1};
	size_t rows = replay_rows(s->rows, c->picks);
	uint32_t table = table_of(c->language, f, s, &spare);

	for (; s->rows < rows; s->rows++)
		f->row[s->rows] = (struct cuda_row){.table = table, .embedding = CUDA_NONE};
	for (; s->picked < rows; s->picked++) {
		f->draw[s->picked] = NULL;
		f->wanted[s->picked] = NULL;
		f->pick[s->picked] = (uint32_t)rows - 1;
	}
	s->max_keys = (uint32_t)replay_keys(s->max_keys, c->config.text.max_positions);
	s->repeats = true;
}

/* The tokens of a fresh slot, a bit for each, where a penalty asks for them. */
static void send_seen(struct cuda *c, struct flight *f, size_t k, unsigned slot)
{
	struct language *l = c->language;
	const struct draw *d = f->draw[k];
	uint32_t *bits = f->seen + k * l->seen_width;

	memset(bits, 0, l->seen_width * sizeof(*bits));
	for (size_t i = 0; i < d->seen_count; i++)
		bits[d->seen[i] / 32] |= 1u << d->seen[i] % 32;
	gpu_send(c->gpu, (uint32_t *)l->seen.data + slot * l->seen_width, bits,
		 l->seen_width * sizeof(*bits));
}

/* How the picks' tokens are chosen. */
static void send_sampling(struct cuda *c, struct flight *f, struct step *s)
{
	static const struct sampling greedy = {.repetition_penalty = 1, .top_p = 1};
	struct language *l = c->language;

	s->limit = c->config.text.vocab;
	for (size_t k = 0; k < s->picked; k++) {
		const struct draw *d = f->draw[k];
		const struct sampling *how = d ? d->how : &greedy;
		unsigned slot = d && !d->apart ? f->source[f->pick[k]]->sequence->slot : c->compute.sequences;

		f->how[k] = (struct cuda_sampling){.temperature = how->temperature,
						   .top_p = how->top_p,
						   .min_p = how->min_p,
						   .repetition_penalty = how->repetition_penalty,
						   .seed = how->seed,
						   .step = d ? d->step : 0,
						   .top_k = how->top_k,
						   .slot = slot};
		if (d)
			s->limit = d->limit;
		if (d && d->apart && how->repetition_penalty != 1)
			BUG("a penalty in a draw of several");
		if (d && d->fresh && how->repetition_penalty != 1)
			send_seen(c, f, k, slot);
	}
	gpu_send(c->gpu, l->how.data, f->how, s->picked * sizeof(*f->how));
}

static struct step describe(struct cuda *c, struct flight *f, const struct text_row *rows, size_t count)
{
	const struct text_config *t = &c->config.text;
	struct language *l = c->language;
	struct step s = {0};

	add_rows(c, f, &s, rows, count, false);
	s.prompt = s.rows;
	add_rows(c, f, &s, rows, count, true);
	f->picked = s.picked;
	if (!s.prompt && s.rows <= c->picks)
		fill_up(c, f, &s);
	s.adapted = cuda_adapters_send(c, (unsigned)(f - l->flights), f->source, count, s.repeats);
	s.tiles = cuda_prefill_tiles(f->row, s.prompt, t->heads / t->kv_heads, f->tile);
	gpu_send(c->gpu, l->rows.data, f->row, s.rows * sizeof(*f->row));
	gpu_send(c->gpu, l->tables.data, f->table, s.tables * sizeof(*f->table));
	gpu_send(c->gpu, l->tiles.data, f->tile, s.tiles * sizeof(*f->tile));
	gpu_send(c->gpu, l->picks.data, f->pick, s.picked * sizeof(*f->pick));
	send_pages(c, f, &s);
	send_sampling(c, f, &s);
	return s;
}

/* wide: with bf16 alone. */
static void multiply_kind(struct cuda *c, enum gpu_rows kind, const struct linear *w, const uint16_t *x,
			  size_t n, void *y, bool wide)
{
	uint8_t *codes = c->language->codes.data;
	float *scales = c->language->scales.data;

	if (w->number != NUMBER_E4M3) {
		cuda_multiply(c->gpu, kind, w, x, n, y, wide);
	} else if (n) {
		gpu_check(c->gpu, cuda_quantise(gpu_stream(c->gpu), x, codes, scales, n, w->in), "rows in fp8");
		gpu_product_fp8(c->gpu, kind, (struct gpu_fp8){w->weight, w->scale}, w->out, w->in,
				(struct gpu_fp8){codes, scales}, n, y);
	}
}

/* Both kinds of rows through one projection. */
static void multiply(struct cuda *c, const struct step *s, const struct linear *w, const void *x,
		     void *y, bool wide)
{
	const uint16_t *from = x;
	size_t size = s->prompt * w->out * (wide ? sizeof(float) : sizeof(uint16_t));

	if (c->any_order) {
		multiply_kind(c, GPU_ANY, w, from, s->rows, y, wide);
		return;
	}
	multiply_kind(c, GPU_MANY, w, from, s->prompt, y, wide);
	multiply_kind(c, GPU_FEW, w, from + s->prompt * w->in, s->rows - s->prompt, (char *)y + size, wide);
}

/* Through one that may be adapted. */
static void project(struct cuda *c, const struct step *s, unsigned layer, enum text_linear which,
		    const struct linear *w, const void *x, void *y)
{
	multiply(c, s, w, x, y, false);
	cuda_adapters_apply(c, s->adapted, layer, which, w, x, y);
}

/* Of as many rows at a time as there is room for splits of the keys: what was announced is for one row of each
 * sequence with all the keys it can have. */
static void attend_written(struct cuda *c, const struct step *s, const struct cuda_kv *kv,
			   struct cuda_attention a)
{
	const struct text_config *t = &c->config.text;
	struct language *l = c->language;
	size_t q = (size_t)t->heads * t->head_dim, left = s->rows - s->prompt,
	       most = l->attention.size /
		      max_u64(cuda_decode_scratch(1, t->heads, t->head_dim, s->max_keys), 1);

	a.rows += s->prompt;
	a.q += s->prompt * q;
	a.out += s->prompt * q;
	while (left) {
		size_t n = min_u64(left, max_u64(most, 1));

		cuda_announced(&l->attention, cuda_decode_scratch(n, t->heads, t->head_dim, s->max_keys));
		gpu_check(c->gpu, cuda_attention_decode(gpu_stream(c->gpu), kv, &a, n, s->max_keys, l->attention.data),
			  "attention of written tokens");
		a.rows += n;
		a.q += n * q;
		a.out += n * q;
		left -= n;
	}
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

	kv.pages = (char *)kv.pages + layer * c->page_size;
	project(c, s, layer, TEXT_QKV, &w->qkv, l->y.data, l->qkv.data);
	gpu_check(c->gpu, cuda_qkv_store(stream, &kv, a.rows, a.tables, s->rows, &qkv),
		  "storing keys and values");
	gpu_check(c->gpu, cuda_attention_prefill(stream, &kv, &a, l->tiles.data, s->tiles),
		  "attention of prompts");
	attend_written(c, s, &kv, a);
	project(c, s, layer, TEXT_O, &w->o, l->attended.data, l->delta.data);
}

static void route(struct cuda *c, const struct step *s, const struct text_experts *x)
{
	const struct text_config *t = &c->config.text;
	struct language *l = c->language;
	cudaStream_t stream = gpu_stream(c->gpu);
	struct cuda_experts gate_up = cuda_experts_of(x->gate_up), down = cuda_experts_of(x->down);
	unsigned used = t->experts_used;
	size_t n = s->rows;

	multiply(c, s, &x->router, l->y.data, l->routes.data, true);
	gpu_check(c->gpu,
		  cuda_route(stream, l->routes.data, x->router.out, n, t->experts, used, t->expert_weights_normed,
			     l->expert.data, l->weight.data),
		  "choice of experts");
	gpu_check(c->gpu,
		  cuda_group(stream, l->expert.data, n, t->experts, used, l->list.data, l->count.data),
		  "rows of experts");
	gpu_check(c->gpu,
		  cuda_expert_product(stream, &gate_up, t->experts, l->list.data, l->count.data, n, l->y.data,
				      used, l->spread.data),
		  "experts");
	gpu_check(c->gpu,
		  cuda_silu_gate(stream, l->spread.data, NULL, l->parts.data, n * used, down.in),
		  "SwiGLU");
	gpu_check(c->gpu,
		  cuda_expert_product(stream, &down, t->experts, l->list.data, l->count.data, n,
				      l->parts.data, 1, l->outs.data),
		  "experts");
	gpu_check(c->gpu,
		  cuda_expert_sum(stream, l->outs.data, l->weight.data, used, l->delta.data, n, down.out),
		  "sum of experts");
}

static void feed_forward(struct cuda *c, const struct step *s, unsigned layer)
{
	const struct text_layer *w = &c->text.layer[layer];
	struct language *l = c->language;

	if (w->experts.count) {
		route(c, s, &w->experts);
		return;
	}
	project(c, s, layer, TEXT_GATE_UP, &w->gate_up, l->y.data, l->wide.data);
	gpu_check(c->gpu,
		  cuda_silu_gate(gpu_stream(c->gpu), l->wide.data, NULL, l->inner.data, s->rows,
				 w->down.in),
		  "SwiGLU");
	project(c, s, layer, TEXT_DOWN, &w->down, l->inner.data, l->delta.data);
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

	gpu_check(c->gpu,
		  cuda_embed(stream, l->rows.data, s->rows, h, l->embed,
			     s->embedded ? l->pages.data : NULL, l->chosen.data, l->x.data),
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
		feed_forward(c, s, i);
	}
}

/* The logits of the picks, and what is chosen by them. */
static void choose(struct cuda *c, struct flight *f, const struct step *s)
{
	const struct text_config *t = &c->config.text;
	struct language *l = c->language;
	const uint16_t *deep = deepstack_after(c, s, (int)t->layers - 1);

	gpu_check(c->gpu,
		  cuda_pick_rms_norm(gpu_stream(c->gpu), l->x.data, l->delta.data, deep,
				     deep ? l->rows.data : NULL, l->picks.data, c->text.norm, t->eps,
				     l->y.data, s->picked, t->hidden),
		  "last norm");
	cuda_multiply(c->gpu, c->any_order ? GPU_ANY : GPU_FEW, &c->text.head, l->y.data, s->picked,
		      f->logits.data, true);
	gpu_check(c->gpu,
		  cuda_choose(gpu_stream(c->gpu), f->logits.data, c->text.head.out, s->limit, l->how.data,
			      s->picked, l->seen.data, l->seen_width, l->chosen.data, l->choices.data,
			      l->choosing.data),
		  "choice of tokens");
}

struct work {
	struct cuda *c;
	struct flight *flight;
	const struct step *step;
};

static void run(void *arg)
{
	const struct work *w = arg;

	run_layers(w->c, w->step);
	if (w->step->picked)
		choose(w->c, w->flight, w->step);
}

void language_begin(struct cuda *c, const struct text_row *rows, size_t count)
{
	struct language *l = c->language;
	struct flight *f = &l->flights[l->begun++ % CUDA_FLIGHTS];
	struct step s;

	if (count > CUDA_ROWS || l->begun - l->ended > CUDA_FLIGHTS)
		BUG("%zu rows in one call, %u steps under way", count, l->begun - l->ended);
	f->picked = 0;
	if (count) {
		struct work work = {c, f, &s};

		s = describe(c, f, rows, count);
		if (s.repeats)
			replay(c->replays,
			       &(struct replay_key){(unsigned)(f - l->flights), s.limit, s.rows, s.max_keys,
						    s.adapted},
			       run, &work);
		else
			run(&work);
		gpu_fetch(c->gpu, f->choice, l->choices.data, f->picked * sizeof(*f->choice));
	}
	gpu_mark_set(c->gpu, f->done);
}

/* A draw that the GPU leaves to the host. */
static void choose_here(struct cuda *c, struct draw *d, float *logits)
{
	d->choice = sampler_choose(c->language->sampler, logits, d->limit, d->how, d->seen,
				   d->seen_count, d->step);
	d->late = true;
}

void language_end(struct cuda *c)
{
	struct language *l = c->language;
	struct flight *f = &l->flights[l->ended++ % CUDA_FLIGHTS];
	size_t vocab = c->config.text.vocab;

	gpu_mark_wait(c->gpu, f->done);
	for (size_t k = 0; k < f->picked; k++) {
		const float *logits = (float *)f->logits.data + k * c->text.head.out;
		const struct cuda_choice *choice = &f->choice[k];
		struct draw *d = f->draw[k];

		if (f->wanted[k])
			gpu_read(c->gpu, f->wanted[k], logits, vocab * sizeof(*logits));
		if (!d || d->dropped)
			continue;
		d->late = false;
		d->choice = (struct choice){choice->status == CUDA_CHOICE_VALID, choice->token,
					    choice->log_probability};
		if (choice->status == CUDA_CHOICE_HOST) {
			float *copy = xmalloc(vocab * sizeof(*copy));

			gpu_read(c->gpu, copy, logits, vocab * sizeof(*copy));
			choose_here(c, d, copy);
			free(copy);
		}
	}
}
