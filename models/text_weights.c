/* SPDX-License-Identifier: MIT
 *
 * Which tensors make which projection of the language model.
 */
#include "text_weights.h"

#include "weights/awq.h"

#include <math.h>
#include <stdlib.h>

static enum rc load_norm(vector **out, const struct packer *p, struct weights *w, unsigned layer,
			 const char *part, size_t size, struct err *err)
{
	char *name = xasprintf("text.layers.%u.%s.weight", layer, part);
	enum rc rc = packer_vector(p, w, out, name, size, 1, err);

	free(name);
	return rc;
}

static enum rc load_stacked(struct linear *out, const struct packer *p, struct weights *w, unsigned layer,
			    const char *part, const size_t *rows, size_t count, size_t columns,
			    struct err *err)
{
	char *name = xasprintf("text.layers.%u.%s", layer, part);
	enum rc rc = packer_stacked(p, w, out, name, rows, count, columns, err);

	free(name);
	return rc;
}

static enum rc load_layer(struct text_layer *l, const struct text_config *c, unsigned i,
			  struct weights *w, const struct packer *p, struct err *err)
{
	static const char *const qkv[] = {"self_attn.q_proj", "self_attn.k_proj",
					  "self_attn.v_proj"};
	static const char *const o[] = {"self_attn.o_proj"};
	static const char *const gate_up[] = {"mlp.gate_proj", "mlp.up_proj"};
	static const char *const down[] = {"mlp.down_proj"};
	size_t q = (size_t)c->heads * c->head_dim, kv = (size_t)c->kv_heads * c->head_dim,
	       h = c->hidden, wide = c->intermediate;
	const size_t three[] = {q, kv, kv}, two[] = {wide, wide};
	char *name = xasprintf("text.layers.%u", i);
	enum rc rc;

	if (c->stacked)
		rc = load_stacked(&l->qkv, p, w, i, "self_attn.qkv_proj", three, 3, h, err);
	else
		rc = packer_linear(p, w, &l->qkv, name, qkv, three, 3, h, c->qkv_bias, err);
	if (rc == RC_OK)
		rc = packer_linear(p, w, &l->o, name, o, &h, 1, q, false, err);
	if (rc == RC_OK && c->routed[i])
		rc = text_experts_load(&l->experts, c, i, w, p, err);
	else if (rc == RC_OK && c->stacked)
		rc = load_stacked(&l->gate_up, p, w, i, "mlp.gate_up_proj", two, 2, h, err);
	else if (rc == RC_OK)
		rc = packer_linear(p, w, &l->gate_up, name, gate_up, two, 2, h, false, err);
	if (rc == RC_OK && !c->routed[i])
		rc = packer_linear(p, w, &l->down, name, down, &h, 1, wide, false, err);
	free(name);
	if (rc == RC_OK)
		rc = load_norm(&l->input_norm, p, w, i, "input_layernorm", h, err);
	if (rc == RC_OK)
		rc = load_norm(&l->post_norm, p, w, i, "post_attention_layernorm", h, err);
	if (rc == RC_OK && c->qk_norm)
		rc = load_norm(&l->q_norm, p, w, i, "self_attn.q_norm", c->head_dim, err);
	if (rc == RC_OK && c->qk_norm)
		rc = load_norm(&l->k_norm, p, w, i, "self_attn.k_norm", c->head_dim, err);
	return rc;
}

/* A head that was saved although it is tied is left alone. */
static enum rc load_head(struct text_weights *t, const struct text_config *c, struct weights *w,
			 const struct packer *p, struct err *err)
{
	const struct packer *head = p->head ? p->head : p;
	struct matrix m = t->embed, saved;

	if ((!c->tied || weights_find(w, "lm_head.weight")) &&
	    weights_take_linear(w, "lm_head", c->vocab, c->hidden, &saved, err) != RC_OK)
		return RC_FATAL;
	return head->linear(head, &t->head, c->tied ? &m : &saved, NULL, 1, err);
}

enum rc text_weights_load(struct text_weights *t, const struct text_config *c, struct weights *w,
			  const struct packer *p, struct err *err)
{
	enum rc rc;

	*t = (struct text_weights){.layers = c->layers};
	t->layer = xcalloc(c->layers, sizeof(*t->layer));
	rc = weights_take(w, "text.embed_tokens.weight", c->vocab, c->hidden, &t->embed, err);
	for (unsigned i = 0; rc == RC_OK && i < c->layers; i++)
		rc = load_layer(&t->layer[i], c, i, w, p, err);
	if (rc == RC_OK)
		rc = packer_vector(p, w, &t->norm, "text.norm.weight", c->hidden, 1, err);
	if (rc == RC_OK)
		rc = load_head(t, c, w, p, err);
	if (rc != RC_OK)
		text_weights_free(t, p);
	return rc;
}

void text_weights_free(struct text_weights *t, const struct packer *p)
{
	for (unsigned i = 0; t->layer && i < t->layers; i++) {
		struct text_layer *l = &t->layer[i];

		p->free_linear(p, &l->qkv);
		p->free_linear(p, &l->o);
		p->free_linear(p, &l->gate_up);
		p->free_linear(p, &l->down);
		text_experts_free(&l->experts, p);
		p->free_vector(p, l->input_norm);
		p->free_vector(p, l->post_norm);
		p->free_vector(p, l->q_norm);
		p->free_vector(p, l->k_norm);
	}
	p->free_linear(p, &t->head);
	p->free_vector(p, t->norm);
	free(t->layer);
	*t = (struct text_weights){0};
}

/* Frequency j turns with the row (H) or column (W) position where mrope says so, with T elsewhere.
 */
void text_rope(const struct text_config *c, float *inverse, uint8_t *axis)
{
	unsigned half = c->rotary / 2;

	for (unsigned j = 0; j < half; j++) {
		float period = powf((float)c->rope_theta, (float)(2 * j) / (float)c->rotary);

		for (unsigned far = 0; far < 2; far++)
			inverse[far * half + j] =
				1.0f / ((c->switch_at ? c->factor[far][j] : 1) * period);
		axis[j] = 0;
		if (c->mrope_interleaved && (j % 3 == 1 || j % 3 == 2) && j < 3 * c->mrope[j % 3])
			axis[j] = j % 3;
		else if (!c->mrope_interleaved && c->mrope[0])
			axis[j] = j < c->mrope[0] ? 0 : j < c->mrope[0] + c->mrope[1] ? 1 : 2;
	}
}
