/* SPDX-License-Identifier: MIT
 *
 * Which projections of the language model can be adapted, and what is kept of an adapter.
 */
#include "text_adapter.h"

#include <stdlib.h>

enum { PARTS_MAX = 3 };

/* A linear's parts, by the names of their tensors; NULL ends them. */
struct place {
	const char *part[PARTS_MAX];
	size_t out[PARTS_MAX], in;
	bool halves; /* B is packed as the linear is, in two halves */
};

static void places_of(const struct text_config *c, struct place places[TEXT_LINEARS])
{
	size_t q = (size_t)c->heads * c->head_dim, kv = (size_t)c->kv_heads * c->head_dim,
	       h = c->hidden, wide = c->intermediate;

	places[TEXT_QKV] = (struct place){
		{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}, {q, kv, kv}, h, false};
	places[TEXT_O] = (struct place){{"self_attn.o_proj"}, {h}, q, false};
	places[TEXT_GATE_UP] = (struct place){{"mlp.gate_proj", "mlp.up_proj"}, {wide, wide}, h, false};
	places[TEXT_DOWN] = (struct place){{"mlp.down_proj"}, {h}, wide, false};
	if (!c->stacked)
		return;
	/* One A for all that is stacked, so one part. */
	places[TEXT_QKV] = (struct place){{"self_attn.qkv_proj"}, {q + 2 * kv}, h, false};
	places[TEXT_GATE_UP] = (struct place){{"mlp.gate_up_proj"}, {2 * wide}, h, true};
}

static enum rc load_addition(struct text_adapter *t, struct text_addition *to, unsigned layer,
			     const struct place *place, struct adapter *from,
			     const struct packer *p, struct err *err)
{
	struct matrix a[PARTS_MAX], b[2];
	unsigned count = 0;
	size_t first = 0;

	for (unsigned i = 0; i < PARTS_MAX && place->part[i]; first += place->out[i++]) {
		bool there;

		if (adapter_take(from, layer, place->part[i], place->out[i], place->in, &a[count],
				 &b[0], &there, err) != RC_OK)
			return RC_FATAL;
		if (!there)
			continue;
		if (place->halves) {
			b[1] = matrix_rows(&b[0], place->out[i] / 2, place->out[i] / 2);
			b[0] = matrix_rows(&b[0], 0, place->out[i] / 2);
		}
		if (p->linear(p, &to->b[count], b, NULL, place->halves ? 2 : 1, err) != RC_OK)
			return RC_FATAL;
		to->first[count++] = first;
		to->count = count;
		t->widest = place->out[i] > t->widest ? place->out[i] : t->widest;
	}
	return count ? p->linear(p, &to->a, a, NULL, count, err) : RC_OK;
}

enum rc text_adapter_load(struct text_adapter *t, const struct text_config *c, struct adapter *from,
			  const struct packer *p, struct err *err)
{
	struct place places[TEXT_LINEARS];
	enum rc rc = RC_OK;

	*t = (struct text_adapter){
		.layers = c->layers, .rank = adapter_rank(from), .scale = adapter_scale(from)};
	t->layer = xcalloc(c->layers, sizeof(*t->layer));
	places_of(c, places);
	for (unsigned i = 0; i < c->layers; i++)
		for (unsigned k = 0; rc == RC_OK && k < TEXT_LINEARS; k++)
			/* Experts are not adapted. */
			if (!c->routed[i] || k == TEXT_QKV || k == TEXT_O)
				rc = load_addition(t, &t->layer[i][k], i, &places[k], from, p, err);
	if (rc == RC_OK)
		rc = adapter_all_taken(from, err);
	if (rc != RC_OK)
		text_adapter_free(t, p);
	return rc;
}

void text_adapter_free(struct text_adapter *t, const struct packer *p)
{
	for (unsigned i = 0; t->layer && i < t->layers; i++)
		for (unsigned k = 0; k < TEXT_LINEARS; k++) {
			struct text_addition *l = &t->layer[i][k];

			p->free_linear(p, &l->a);
			for (unsigned n = 0; n < l->count; n++)
				p->free_linear(p, &l->b[n]);
		}
	free(t->layer);
	*t = (struct text_adapter){0};
}
