/* SPDX-License-Identifier: MIT
 *
 * The decoder, from token rows to logits. Activations are fp32; weights are packed in the number
 * the model was opened with. h below is hidden, d head_dim, n the rows of a call.
 */
#include "text.h"

#include "base/num.h"
#include "kernels/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct layer {
	struct linear qkv, o, gate_up, down;
	float *input_norm, *post_norm; /* [h] */
	float *q_norm, *k_norm;	       /* [d]; NULL in Qwen2.5 */
};

struct text {
	struct text_config c;
	struct kv_shape kv;
	size_t page; /* bytes of keys and values of a layer in a block */
	struct matrix embed;
	struct layer *layers;
	float *norm;
	struct linear head;
	float *inverse;	     /* rope frequencies, [d/2] */
	unsigned char *axis; /* which of the three positions turns frequency j, [d/2] */

	/* Scratch for TEXT_ROWS_MAX rows. */
	float *x, *y, *qkv, *attended, *gate_up, *mlp, *cosine, *sine, *logits;
	size_t logits_max; /* rows there is room for */
	struct attention_row *attention;
	void **pages; /* page tables of the sequences of a call, one behind the other */
	size_t pages_max;
};

static size_t qkv_size(const struct text_config *c)
{
	return (size_t)(c->heads + 2 * c->kv_heads) * c->head_dim;
}

/* A projection made of the tensors layers.N.PART.weight, stacked; with biases where the model has
 * them. */
static enum rc load_linear(struct linear *out, struct weights *w, unsigned layer,
			   const char *const *parts, const size_t *rows, size_t count,
			   size_t columns, bool bias, enum number number, struct pool *pool,
			   struct err *err)
{
	struct matrix m[3];
	float *biases[3] = {NULL, NULL, NULL};
	enum rc rc = RC_OK;

	for (size_t i = 0; rc == RC_OK && i < count; i++) {
		char *name = xasprintf("text.layers.%u.%s.weight", layer, parts[i]);

		rc = weights_take(w, name, rows[i], columns, &m[i], err);
		free(name);
		if (rc == RC_OK && bias) {
			name = xasprintf("text.layers.%u.%s.bias", layer, parts[i]);
			rc = weights_take_f32(w, name, rows[i], 1, &biases[i], err);
			free(name);
		}
	}
	if (rc == RC_OK)
		rc = linear_pack(out, m, bias ? (const float *const *)biases : NULL, count, number,
				 pool, err);
	for (size_t i = 0; i < count; i++)
		free(biases[i]);
	return rc;
}

static enum rc load_norm(float **out, struct weights *w, unsigned layer, const char *part,
			 size_t size, struct err *err)
{
	char *name = xasprintf("text.layers.%u.%s.weight", layer, part);
	enum rc rc = weights_take_f32(w, name, size, 1, out, err);

	free(name);
	return rc;
}

static enum rc load_layer(struct text *t, unsigned i, struct weights *w, enum number number,
			  struct pool *pool, struct err *err)
{
	static const char *const qkv[] = {"self_attn.q_proj", "self_attn.k_proj",
					  "self_attn.v_proj"};
	static const char *const o[] = {"self_attn.o_proj"};
	static const char *const gate_up[] = {"mlp.gate_proj", "mlp.up_proj"};
	static const char *const down[] = {"mlp.down_proj"};
	const struct text_config *c = &t->c;
	struct layer *l = &t->layers[i];
	size_t q = (size_t)c->heads * c->head_dim, kv = (size_t)c->kv_heads * c->head_dim,
	       h = c->hidden;

	if (load_linear(&l->qkv, w, i, qkv, (size_t[]){q, kv, kv}, 3, h, c->qkv_bias, number, pool,
			err) != RC_OK ||
	    load_linear(&l->o, w, i, o, &h, 1, q, false, number, pool, err) != RC_OK ||
	    load_linear(&l->gate_up, w, i, gate_up, (size_t[]){c->intermediate, c->intermediate}, 2,
			h, false, number, pool, err) != RC_OK ||
	    load_linear(&l->down, w, i, down, &h, 1, c->intermediate, false, number, pool, err) !=
		    RC_OK ||
	    load_norm(&l->input_norm, w, i, "input_layernorm", h, err) != RC_OK ||
	    load_norm(&l->post_norm, w, i, "post_attention_layernorm", h, err) != RC_OK)
		return RC_FATAL;
	if (c->qk_norm &&
	    (load_norm(&l->q_norm, w, i, "self_attn.q_norm", c->head_dim, err) != RC_OK ||
	     load_norm(&l->k_norm, w, i, "self_attn.k_norm", c->head_dim, err) != RC_OK))
		return RC_FATAL;
	return RC_OK;
}

/* A head that was saved although it is tied is left alone. */
static enum rc load_head(struct text *t, struct weights *w, enum number number, struct pool *pool,
			 struct err *err)
{
	struct matrix m, ignored;

	if (!t->c.tied) {
		if (weights_take(w, "lm_head.weight", t->c.vocab, t->c.hidden, &m, err) != RC_OK)
			return RC_FATAL;
	} else {
		m = t->embed;
		if (weights_find(w, "lm_head.weight") &&
		    weights_take(w, "lm_head.weight", t->c.vocab, t->c.hidden, &ignored, err) !=
			    RC_OK)
			return RC_FATAL;
	}
	return linear_pack(&t->head, &m, NULL, 1, number, pool, err);
}

/* Frequency j turns with the row (H) or column (W) position where mrope says so, with T elsewhere.
 */
static void rope_prepare(struct text *t)
{
	const struct text_config *c = &t->c;
	unsigned half = c->head_dim / 2;

	t->inverse = xmalloc(half * sizeof(float));
	t->axis = xcalloc(half, 1);
	for (unsigned j = 0; j < half; j++) {
		t->inverse[j] =
			1.0f / powf((float)c->rope_theta, (float)(2 * j) / (float)c->head_dim);
		if (c->mrope_interleaved && (j % 3 == 1 || j % 3 == 2) && j < 3 * c->mrope[j % 3])
			t->axis[j] = j % 3;
		else if (!c->mrope_interleaved && c->mrope[0])
			t->axis[j] = j < c->mrope[0] ? 0 : j < c->mrope[0] + c->mrope[1] ? 1 : 2;
	}
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
	t->cosine = xmalloc(n * c->head_dim / 2 * sizeof(float));
	t->sine = xmalloc(n * c->head_dim / 2 * sizeof(float));
	t->attention = xcalloc(n, sizeof(*t->attention));
}

enum rc text_load(struct text **out, const struct text_config *config, struct weights *w,
		  enum number number, struct pool *pool, struct err *err)
{
	struct text *t = xcalloc(1, sizeof(*t));
	enum rc rc;

	t->c = *config;
	t->kv = (struct kv_shape){config->kv_heads, config->head_dim,
				  number == NUMBER_F32 ? NUMBER_F32 : NUMBER_BF16};
	t->page = kv_page_size(&t->kv);
	t->layers = xcalloc(config->layers, sizeof(*t->layers));
	rc = weights_take(w, "text.embed_tokens.weight", config->vocab, config->hidden, &t->embed,
			  err);
	for (unsigned i = 0; rc == RC_OK && i < config->layers; i++)
		rc = load_layer(t, i, w, number, pool, err);
	if (rc == RC_OK)
		rc = weights_take_f32(w, "text.norm.weight", config->hidden, 1, &t->norm, err);
	if (rc == RC_OK)
		rc = load_head(t, w, number, pool, err);
	if (rc != RC_OK) {
		text_free(t);
		t = NULL;
	} else {
		rope_prepare(t);
		scratch_prepare(t);
	}
	*out = t;
	return rc;
}

void text_free(struct text *t)
{
	if (!t)
		return;
	for (unsigned i = 0; i < t->c.layers; i++) {
		struct layer *l = &t->layers[i];

		linear_release(&l->qkv);
		linear_release(&l->o);
		linear_release(&l->gate_up);
		linear_release(&l->down);
		free(l->input_norm);
		free(l->post_norm);
		free(l->q_norm);
		free(l->k_norm);
	}
	linear_release(&t->head);
	free(t->layers);
	free(t->norm);
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
	free(t->pages);
	free(t);
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
	size_t half = c->head_dim / 2, size = text_block_size(t), need = 0, used = 0;

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
			matrix_to_f32(&t->embed, r->token, 1, t->x + i * c->hidden);
		for (size_t j = 0; j < half; j++) {
			float angle = (float)r->position[t->axis[j]] * t->inverse[j];

			t->cosine[i * half + j] = cosf(angle);
			t->sine[i * half + j] = sinf(angle);
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

/* x += o(attention(norm(x))) */
static void attend(struct text *t, const struct layer *l, struct pool *pool,
		   const struct text_row *rows, size_t n)
{
	const struct text_config *c = &t->c;
	size_t width = qkv_size(c), q = (size_t)c->heads * c->head_dim,
	       kv = (size_t)c->kv_heads * c->head_dim;

	rms_norm(pool, t->x, l->input_norm, c->eps, t->y, n, c->hidden);
	linear_apply(&l->qkv, pool, t->y, c->hidden, n, t->qkv, width);
	if (c->qk_norm) {
		rms_norm_heads(pool, t->qkv, l->q_norm, c->eps, n, width, c->heads, c->head_dim);
		rms_norm_heads(pool, t->qkv + q, l->k_norm, c->eps, n, width, c->kv_heads,
			       c->head_dim);
	}
	/* q and k lie beside each other: one call turns both. */
	rope(pool, t->qkv, t->cosine, t->sine, n, width, c->heads + c->kv_heads, c->head_dim,
	     c->head_dim);
	for (size_t i = 0; i < n; i++)
		kv_store(&t->kv, t->attention[i].pages[rows[i].index / KV_PAGE],
			 (unsigned)(rows[i].index % KV_PAGE), t->qkv + i * width + q,
			 t->qkv + i * width + q + kv);
	attention_paged(&t->kv, pool, c->heads, 1.0f / sqrtf((float)c->head_dim), t->attention, n);
	linear_apply(&l->o, pool, t->attended, q, n, t->y, c->hidden);
	add(pool, t->x, t->y, n * c->hidden);
}

/* x += down(silu(gate(norm(x))) up(norm(x))) */
static void feed_forward(struct text *t, const struct layer *l, struct pool *pool, size_t n)
{
	const struct text_config *c = &t->c;

	rms_norm(pool, t->x, l->post_norm, c->eps, t->y, n, c->hidden);
	linear_apply(&l->gate_up, pool, t->y, c->hidden, n, t->gate_up,
		     2 * (size_t)c->intermediate);
	silu_gate(pool, t->gate_up, t->mlp, n, c->intermediate);
	linear_apply(&l->down, pool, t->mlp, c->intermediate, n, t->y, c->hidden);
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
		rms_norm(pool, t->x, t->norm, c->eps, t->y, wanted, c->hidden);
		linear_apply(&t->head, pool, t->y, c->hidden, wanted, t->logits, c->vocab);
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
		attend(t, &t->layers[i], pool, rows, n);
		feed_forward(t, &t->layers[i], pool, n);
		add_deepstack(t, i, rows, n);
		for (size_t k = 0; k < pages; k++)
			t->pages[k] = (char *)t->pages[k] + t->page;
	}
	return read_logits(t, pool, rows, n);
}
