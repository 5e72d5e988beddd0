/* SPDX-License-Identifier: MIT
 *
 * The decoder, from token rows to logits. Activations are fp32; weights are packed in the number
 * the model was opened with. h below is hidden, d head_dim, n the rows of a call.
 */
#include "text.h"

#include "base/num.h"
#include "experts.h"
#include "kernels/ops.h"
#include "text_adapter.h"
#include "text_weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct text {
	struct text_config c;
	struct kv_shape kv;
	size_t page; /* bytes of keys and values of a layer in a block */
	const struct packer *packer;
	struct text_weights w;
	float *inverse; /* of the rope, [2][rotary/2], the second of far rows */
	uint8_t *axis;	/* which of the three positions turns each */

	struct text_adapter adapters[ADAPTERS_MAX];
	size_t adapter_count;
	const struct packer *adapter_packer;
	float *low, *high; /* scratch for them */

	/* Scratch for TEXT_ROWS_MAX rows. */
	float *x, *y, *qkv, *attended, *gate_up, *mlp, *cosine, *sine, *logits;
	size_t logits_max;		 /* rows there is room for */
	struct experts_scratch *experts; /* NULL: no layer is routed */
	struct attention_row *attention;
	void **pages; /* page tables of the sequences of a call, one behind the other */
	size_t pages_max;
};

static size_t qkv_size(const struct text_config *c)
{
	return (size_t)(c->heads + 2 * c->kv_heads) * c->head_dim;
}

static void scratch_prepare(struct text *t)
{
	const struct text_config *c = &t->c;
	size_t n = TEXT_ROWS_MAX, q = (size_t)c->heads * c->head_dim;

	t->x = xmalloc(n * c->hidden * sizeof(float));
	t->y = xmalloc(n * c->hidden * sizeof(float));
	t->qkv = xmalloc(n * qkv_size(c) * sizeof(float));
	t->attended = xmalloc(n * q * sizeof(float));
	t->gate_up = xmalloc(n * 2 * c->intermediate * sizeof(float));
	t->mlp = xmalloc(n * c->intermediate * sizeof(float));
	t->cosine = xmalloc(n * c->rotary / 2 * sizeof(float));
	t->sine = xmalloc(n * c->rotary / 2 * sizeof(float));
	t->attention = xcalloc(n, sizeof(*t->attention));
	if (c->experts)
		t->experts = experts_scratch_new(c, n);
}

enum rc text_load(struct text **out, const struct text_config *config, struct weights *w,
		  enum number keys, const struct packer *packer, struct err *err)
{
	struct text *t = xcalloc(1, sizeof(*t));
	enum rc rc = text_weights_load(&t->w, config, w, packer, err);

	*out = NULL;
	if (rc != RC_OK) {
		free(t);
		return rc;
	}
	t->c = *config;
	t->packer = packer;
	t->kv = (struct kv_shape){config->kv_heads, config->head_dim, keys};
	t->page = kv_page_size(&t->kv);
	t->axis = xmalloc(config->rotary / 2 * sizeof(*t->axis));
	t->inverse = xmalloc(config->rotary * sizeof(*t->inverse));
	text_rope(config, t->inverse, t->axis);
	scratch_prepare(t);
	*out = t;
	return RC_OK;
}

void text_free(struct text *t)
{
	if (!t)
		return;
	text_weights_free(&t->w, t->packer);
	for (size_t i = 0; i < t->adapter_count; i++)
		text_adapter_free(&t->adapters[i], t->adapter_packer);
	free(t->low);
	free(t->high);
	free(t->inverse);
	free(t->axis);
	free(t->x);
	free(t->y);
	free(t->qkv);
	free(t->attended);
	free(t->gate_up);
	free(t->mlp);
	free(t->cosine);
	free(t->sine);
	free(t->logits);
	free(t->attention);
	experts_scratch_free(t->experts);
	free(t->pages);
	free(t);
}

enum rc text_adapt(struct text *t, struct adapter *adapter, const struct packer *packer,
		   struct err *err)
{
	size_t rank = 0, widest = 0;

	if (text_adapter_load(&t->adapters[t->adapter_count], &t->c, adapter, packer, err) != RC_OK)
		return RC_FATAL;
	t->adapter_packer = packer;
	t->adapter_count++;
	for (size_t i = 0; i < t->adapter_count; i++) {
		rank = max_u64(rank, t->adapters[i].rank);
		widest = max_u64(widest, t->adapters[i].widest);
	}
	free(t->low);
	free(t->high);
	t->low = xmalloc(TEXT_ROWS_MAX * 3 * rank * sizeof(float));
	t->high = xmalloc(TEXT_ROWS_MAX * widest * sizeof(float));
	return RC_OK;
}

size_t text_block_size(const struct text *t)
{
	return t->page * t->c.layers;
}

/* Embeddings into x, angles into cosine and sine, and one page table for each sequence of the call.
 */
static size_t prepare_rows(struct text *t, char *blocks, const struct text_row *rows, size_t n)
{
	const struct text_config *c = &t->c;
	size_t half = c->rotary / 2, size = text_block_size(t), need = 0, used = 0;

	for (size_t i = 0; i < n; i++)
		if (i == 0 || rows[i].sequence != rows[i - 1].sequence)
			need += rows[i].sequence->count;
	if (need > t->pages_max) {
		t->pages = xrealloc(t->pages, need * sizeof(*t->pages));
		t->pages_max = need;
	}
	for (size_t i = 0; i < n; i++) {
		const struct text_row *r = &rows[i];

		if (r->page)
			memcpy(t->x + i * c->hidden, r->page->embeddings + r->place * c->hidden,
			       c->hidden * sizeof(float));
		else
			matrix_to_f32(&t->w.embed, r->token, 1, t->x + i * c->hidden);
		for (size_t j = 0; j < half; j++) {
			float angle = (float)r->position[t->axis[j]] * t->inverse[r->far * half + j];

			t->cosine[i * half + j] = cosf(angle) * c->rope_scale;
			t->sine[i * half + j] = sinf(angle) * c->rope_scale;
		}
		if (i == 0 || r->sequence != rows[i - 1].sequence) {
			t->attention[i].pages = t->pages + used;
			for (size_t b = 0; b < r->sequence->count; b++)
				t->pages[used++] = blocks + r->sequence->blocks[b] * size;
		} else {
			t->attention[i].pages = t->attention[i - 1].pages;
		}
		t->attention[i].keys = r->index + 1;
		t->attention[i].out = t->attended + i * c->heads * c->head_dim;
		t->attention[i].q = t->qkv + i * qkv_size(c);
	}
	return used;
}

/* y += scale * b(a(x)), a part of y each. */
static void add_adapter(struct text *t, const struct text_adapter *adapter,
			const struct text_addition *l, struct pool *pool, const float *x,
			size_t x_stride, size_t n, float *y, size_t y_stride)
{
	size_t width = (size_t)l->count * adapter->rank;

	if (!l->count)
		return;
	linear_apply(&l->a, pool, x, x_stride, n, t->low, width);
	for (size_t i = 0; i < n * width; i++)
		t->low[i] *= adapter->scale;
	for (unsigned k = 0; k < l->count; k++) {
		const struct linear *b = &l->b[k];

		linear_apply(b, pool, t->low + k * adapter->rank, width, n, t->high, b->out);
		add_rows(pool, y + l->first[k], y_stride, t->high, n, b->out);
	}
}

static bool same_adapters(const struct text_row *a, const struct text_row *b)
{
	return a->adapted.count == b->adapted.count &&
	       !memcmp(a->adapted.number, b->adapted.number,
		       a->adapted.count * sizeof(*a->adapted.number));
}

/* Rows of the same adapters go together as far as they follow each other. */
static void adapt(struct text *t, const struct text_row *rows, size_t n, unsigned layer,
		  enum text_linear which, struct pool *pool, const float *x, size_t x_stride,
		  float *y, size_t y_stride)
{
	for (size_t i = 0, run; t->adapter_count && i < n; i += run) {
		for (run = 1; i + run < n && same_adapters(&rows[i], &rows[i + run]);)
			run++;
		for (unsigned k = 0; k < rows[i].adapted.count; k++) {
			const struct text_adapter *a = &t->adapters[rows[i].adapted.number[k]];

			add_adapter(t, a, &a->layer[layer][which], pool, x + i * x_stride, x_stride,
				    run, y + i * y_stride, y_stride);
		}
	}
}

/* x += o(attention(norm(x))) */
static void attend(struct text *t, unsigned layer, struct pool *pool, const struct text_row *rows,
		   size_t n)
{
	const struct text_layer *l = &t->w.layer[layer];
	const struct text_config *c = &t->c;
	size_t width = qkv_size(c), q = (size_t)c->heads * c->head_dim,
	       kv = (size_t)c->kv_heads * c->head_dim;

	rms_norm(pool, t->x, l->input_norm, c->eps, t->y, n, c->hidden);
	linear_apply(&l->qkv, pool, t->y, c->hidden, n, t->qkv, width);
	adapt(t, rows, n, layer, TEXT_QKV, pool, t->y, c->hidden, t->qkv, width);
	if (c->qk_norm) {
		rms_norm_heads(pool, t->qkv, l->q_norm, c->eps, n, width, c->heads, c->head_dim);
		rms_norm_heads(pool, t->qkv + q, l->k_norm, c->eps, n, width, c->kv_heads,
			       c->head_dim);
	}
	/* q and k lie beside each other: one call turns both. */
	rope(pool, t->qkv, t->cosine, t->sine, n, width, c->heads + c->kv_heads, c->head_dim,
	     c->rotary);
	for (size_t i = 0; i < n; i++)
		kv_store(&t->kv, t->attention[i].pages[rows[i].index / KV_PAGE],
			 (unsigned)(rows[i].index % KV_PAGE), t->qkv + i * width + q,
			 t->qkv + i * width + q + kv);
	attention_paged(&t->kv, pool, c->heads, 1.0f / sqrtf((float)c->head_dim), t->attention, n);
	linear_apply(&l->o, pool, t->attended, q, n, t->y, c->hidden);
	adapt(t, rows, n, layer, TEXT_O, pool, t->attended, q, t->y, c->hidden);
	add(pool, t->x, t->y, n * c->hidden);
}

/* x += down(silu(gate(norm(x))) up(norm(x))), or what the experts of a routed layer make of norm(x)
 */
static void feed_forward(struct text *t, unsigned layer, struct pool *pool,
			 const struct text_row *rows, size_t n)
{
	const struct text_layer *l = &t->w.layer[layer];
	const struct text_config *c = &t->c;
	size_t wide = c->intermediate;

	rms_norm(pool, t->x, l->post_norm, c->eps, t->y, n, c->hidden);
	if (l->experts.count) {
		experts_apply(&l->experts, t->experts, pool, t->y, n);
		add(pool, t->x, t->y, n * c->hidden);
		return;
	}
	linear_apply(&l->gate_up, pool, t->y, c->hidden, n, t->gate_up, 2 * wide);
	adapt(t, rows, n, layer, TEXT_GATE_UP, pool, t->y, c->hidden, t->gate_up, 2 * wide);
	silu_gate(pool, t->gate_up, t->mlp, n, c->intermediate);
	linear_apply(&l->down, pool, t->mlp, wide, n, t->y, c->hidden);
	adapt(t, rows, n, layer, TEXT_DOWN, pool, t->mlp, wide, t->y, c->hidden);
	add(pool, t->x, t->y, n * c->hidden);
}

/* Rows whose logits are wanted, and those in one buffer. */
static float *read_logits(struct text *t, struct pool *pool, const struct text_row *rows, size_t n)
{
	const struct text_config *c = &t->c;
	size_t wanted = 0;

	for (size_t i = 0; i < n; i++) {
		if (!rows[i].logits && !rows[i].draw)
			continue;
		memmove(t->x + wanted * c->hidden, t->x + i * c->hidden, c->hidden * sizeof(float));
		wanted++;
	}
	if (wanted > t->logits_max) {
		t->logits = xrealloc(t->logits, wanted * c->vocab * sizeof(float));
		t->logits_max = wanted;
	}
	if (wanted) {
		rms_norm(pool, t->x, t->w.norm, c->eps, t->y, wanted, c->hidden);
		linear_apply(&t->w.head, pool, t->y, c->hidden, wanted, t->logits, c->vocab);
	}
	return t->logits;
}

/* What the page's tokens get added after layer i. */
static void add_deepstack(struct text *t, unsigned i, const struct text_row *rows, size_t n)
{
	size_t h = t->c.hidden;

	for (size_t k = 0; i < DEEPSTACKS_MAX && k < n; k++) {
		const struct features *page = rows[k].page;
		float *x = t->x + k * h;

		for (size_t j = 0; page && page->deepstack[i] && j < h; j++)
			x[j] += page->deepstack[i][rows[k].place * h + j];
	}
}

float *text_forward(struct text *t, struct pool *pool, void *blocks, const struct text_row *rows,
		    size_t n)
{
	size_t pages;

	if (n > TEXT_ROWS_MAX)
		BUG("%zu rows in one call", n);
	pages = prepare_rows(t, blocks, rows, n);
	for (unsigned i = 0; i < t->c.layers; i++) {
		attend(t, i, pool, rows, n);
		feed_forward(t, i, pool, rows, n);
		add_deepstack(t, i, rows, n);
		for (size_t k = 0; k < pages; k++)
			t->pages[k] = (char *)t->pages[k] + t->page;
	}
	return read_logits(t, pool, rows, n);
}
