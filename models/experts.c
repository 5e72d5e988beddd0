/* SPDX-License-Identifier: MIT
 *
 * Rows are brought into the order of their experts, so that each expert has one product for all its
 * rows (linear_apply_shares()); a row lies there once for each expert it goes to, in a `slot`.
 */
#include "experts.h"

#include "kernels/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct experts_scratch {
	const struct text_config *config;
	size_t rows;
	float *logits;			     /* [rows][experts] */
	unsigned *expert;		     /* [rows][used], ascending in a row */
	float *weight;			     /* [rows][used] */
	size_t *slot;			     /* [rows][used] */
	size_t *next;			     /* [experts] */
	struct linear_share *gate_up, *down; /* of the experts that have rows */
	float *in, *gated, *inner; /* [slots][..]; what comes out takes the place of what went in */
};

struct experts_scratch *experts_scratch_new(const struct text_config *c, size_t rows)
{
	struct experts_scratch *s = xcalloc(1, sizeof(*s));
	size_t slots = rows * c->experts_used;

	s->config = c;
	s->rows = rows;
	s->logits = xmalloc(rows * c->experts * sizeof(*s->logits));
	s->expert = xcalloc(slots, sizeof(*s->expert));
	s->weight = xcalloc(slots, sizeof(*s->weight));
	s->slot = xcalloc(slots, sizeof(*s->slot));
	s->next = xcalloc(c->experts, sizeof(*s->next));
	s->gate_up = xcalloc(c->experts, sizeof(*s->gate_up));
	s->down = xcalloc(c->experts, sizeof(*s->down));
	s->in = xmalloc(slots * c->hidden * sizeof(float));
	s->gated = xmalloc(slots * 2 * c->expert_intermediate * sizeof(float));
	s->inner = xmalloc(slots * c->expert_intermediate * sizeof(float));
	return s;
}

void experts_scratch_free(struct experts_scratch *s)
{
	if (!s)
		return;
	free(s->logits);
	free(s->expert);
	free(s->weight);
	free(s->slot);
	free(s->next);
	free(s->gate_up);
	free(s->down);
	free(s->in);
	free(s->gated);
	free(s->inner);
	free(s);
}

void experts_choose(float *logits, unsigned experts, unsigned used, bool normed, unsigned *expert,
		    float *weight)
{
	const float taken = -1; /* below every exp() */
	float most = -INFINITY, sum = 0, chosen = 0;

	for (unsigned e = 0; e < experts; e++)
		most = logits[e] > most ? logits[e] : most;
	for (unsigned e = 0; e < experts; e++) {
		logits[e] = expf(logits[e] - most);
		sum += logits[e];
	}
	for (unsigned n = 0; n < used; n++) {
		unsigned best = 0, at = n;

		for (unsigned e = 1; e < experts; e++)
			if (logits[best] == taken || logits[e] > logits[best])
				best = e;
		for (; at > 0 && expert[at - 1] > best; at--) {
			expert[at] = expert[at - 1];
			weight[at] = weight[at - 1];
		}
		expert[at] = best;
		weight[at] = logits[best] / sum;
		chosen += weight[at];
		logits[best] = taken;
	}
	for (unsigned n = 0; n < used && normed; n++)
		weight[n] /= chosen;
}

struct routing {
	struct experts_scratch *s;
	float *x;
};

static void choose_row(void *arg, size_t i, unsigned thread)
{
	const struct experts_scratch *s = ((const struct routing *)arg)->s;
	const struct text_config *c = s->config;
	size_t first = i * c->experts_used;

	(void)thread;
	experts_choose(s->logits + i * c->experts, c->experts, c->experts_used,
		       c->expert_weights_normed, s->expert + first, s->weight + first);
}

/* A slot for each choice: experts ascending, and of one the rows. Returns how many experts have
 * some. */
static size_t give_slots(struct experts_scratch *s, const struct text_experts *x, size_t n)
{
	size_t slots = n * s->config->experts_used, shares = 0, first = 0;

	memset(s->next, 0, s->config->experts * sizeof(*s->next));
	for (size_t i = 0; i < slots; i++)
		s->next[s->expert[i]]++;
	for (unsigned e = 0; e < s->config->experts; e++) {
		size_t rows = s->next[e];

		s->next[e] = first;
		first += rows;
		if (!rows)
			continue;
		s->gate_up[shares] = (struct linear_share){&x->gate_up[e], rows};
		s->down[shares++] = (struct linear_share){&x->down[e], rows};
	}
	for (size_t i = 0; i < slots; i++)
		s->slot[i] = s->next[s->expert[i]]++;
	return shares;
}

static void spread_row(void *arg, size_t i, unsigned thread)
{
	const struct routing *r = arg;
	const struct experts_scratch *s = r->s;
	size_t used = s->config->experts_used, h = s->config->hidden;

	(void)thread;
	for (size_t k = 0; k < used; k++)
		memcpy(s->in + s->slot[i * used + k] * h, r->x + i * h, h * sizeof(float));
}

static void gather_row(void *arg, size_t i, unsigned thread)
{
	const struct routing *r = arg;
	const struct experts_scratch *s = r->s;
	size_t used = s->config->experts_used, h = s->config->hidden;
	float *y = r->x + i * h;

	(void)thread;
	for (size_t k = 0; k < used; k++) {
		const float *out = s->in + s->slot[i * used + k] * h;
		float weight = s->weight[i * used + k];

		for (size_t j = 0; j < h; j++)
			y[j] = (k ? y[j] : 0) + weight * out[j];
	}
}

void experts_apply(const struct text_experts *x, struct experts_scratch *s, struct pool *pool,
		   float *rows, size_t n)
{
	const struct text_config *c = s->config;
	size_t h = c->hidden, wide = c->expert_intermediate, shares;
	struct routing r = {s, rows};

	if (n > s->rows)
		BUG("%zu rows in one call", n);
	linear_apply(&x->router, pool, rows, h, n, s->logits, c->experts);
	pool_run(pool, choose_row, &r, n);
	shares = give_slots(s, x, n);
	pool_run(pool, spread_row, &r, n);
	linear_apply_shares(s->gate_up, shares, pool, s->in, h, s->gated, 2 * wide);
	silu_gate(pool, s->gated, s->inner, n * c->experts_used, wide);
	linear_apply_shares(s->down, shares, pool, s->inner, wide, s->in, h);
	pool_run(pool, gather_row, &r, n);
}
