/* SPDX-License-Identifier: MIT
 *
 * The experts of a layer, out of either layout that models are saved in:
 *
 *   mlp.experts.E.{gate,up,down}_proj.weight	one tensor a projection
 *   mlp.experts.{gate_up,down}_proj		all experts stacked: turned in the original repositories
 *						([experts][h][2 wide] and [experts][wide][h]), in what
 *						transformers 5 saves as every other weight is
 *
 * One of the two stacks always tells which way both lie: gate_up is square for h = 2 wide alone,
 * down for h = wide.
 */
#include "text_weights.h"

#include "weights/awq.h"

#include <inttypes.h>
#include <stdlib.h>

static bool has_shape(const struct tensor *t, uint64_t a, uint64_t b, uint64_t c)
{
	return t->rank == 3 && t->shape[0] == a && t->shape[1] == b && t->shape[2] == c;
}

static enum rc wrong_shape(const struct tensor *t, uint64_t a, uint64_t b, uint64_t c,
			   struct err *err)
{
	return err_set(err, RC_FATAL, "model-damaged",
		       "%.100s: tensor %.120s is no stack of %" PRIu64 " experts of %" PRIu64
		       " x %" PRIu64 " numbers, nor of %" PRIu64 " x %" PRIu64,
		       t->file, t->stored, a, b, c, c, b);
}

/* Both stacks lie the same way. */
static enum rc direction(const struct tensor *gate_up, const struct tensor *down, uint64_t experts,
			 uint64_t h, uint64_t wide, bool *turned, struct err *err)
{
	bool straight = has_shape(gate_up, experts, 2 * wide, h);

	*turned = has_shape(gate_up, experts, h, 2 * wide) && has_shape(down, experts, wide, h);
	if (*turned || (straight && has_shape(down, experts, h, wide)))
		return RC_OK;
	if (!straight && !has_shape(gate_up, experts, h, 2 * wide))
		return wrong_shape(gate_up, experts, h, 2 * wide, err);
	return wrong_shape(down, experts, wide, h, err);
}

/* Matrices of all experts: gate and up of each, down of each. */
struct parts {
	struct matrix *gate_up, *down;
};

/* Matrix i of a stack, of `rows` rows. */
static struct matrix expert_of(const struct matrix *stack, size_t i, size_t rows, bool turned)
{
	return (struct matrix){.data = (const char *)stack->data +
				       i * stack->columns * number_size(stack->number),
			       .number = stack->number,
			       .rows = rows,
			       .columns = stack->columns / rows,
			       .across = turned ? rows : 0};
}

static enum rc find_stacked(struct parts *parts, const struct text_config *c, const char *name,
			    struct weights *w, struct err *err)
{
	char *gate_up = xasprintf("%s.experts.gate_up_proj", name),
	     *down = xasprintf("%s.experts.down_proj", name);
	uint64_t n = c->experts, h = c->hidden, wide = c->expert_intermediate;
	const struct tensor *first = weights_find(w, gate_up), *second = weights_find(w, down);
	struct matrix gates, downs;
	bool turned = false;
	enum rc rc;

	rc = second ? direction(first, second, n, h, wide, &turned, err)
		    : err_set(err, RC_FATAL, "model-damaged", "%.100s: tensor %.120s is missing",
			      first->file, down);
	if (rc == RC_OK)
		rc = weights_take(w, gate_up, n, 2 * wide * h, &gates, err);
	if (rc == RC_OK)
		rc = weights_take(w, down, n, h * wide, &downs, err);
	for (unsigned i = 0; rc == RC_OK && i < n; i++) {
		struct matrix both = expert_of(&gates, i, 2 * wide, turned);

		parts->gate_up[2 * i] = matrix_rows(&both, 0, wide);
		parts->gate_up[2 * i + 1] = matrix_rows(&both, wide, wide);
		parts->down[i] = expert_of(&downs, i, h, turned);
	}
	free(gate_up);
	free(down);
	return rc;
}

static enum rc find_each(struct parts *parts, const struct text_config *c, const char *name,
			 struct weights *w, struct err *err)
{
	static const char *const projections[] = {"gate_proj", "up_proj", "down_proj"};
	size_t h = c->hidden, wide = c->expert_intermediate;
	enum rc rc = RC_OK;

	for (unsigned i = 0; rc == RC_OK && i < 3 * c->experts; i++) {
		unsigned expert = i / 3, which = i % 3;
		char *full = xasprintf("%s.experts.%u.%s", name, expert, projections[which]);

		if (which < 2)
			rc = weights_take_linear(w, full, wide, h,
						 &parts->gate_up[2 * expert + which], err);
		else
			rc = weights_take_linear(w, full, h, wide, &parts->down[expert], err);
		free(full);
	}
	return rc;
}

enum rc text_experts_load(struct text_experts *x, const struct text_config *c, unsigned layer,
			  struct weights *w, const struct packer *p, struct err *err)
{
	static const char *const router[] = {"gate"};
	char *name = xasprintf("text.layers.%u.mlp", layer);
	char *stack = xasprintf("%s.experts.gate_up_proj", name);
	size_t experts = c->experts;
	struct parts parts = {xcalloc(2 * experts, sizeof(*parts.gate_up)),
			      xcalloc(experts, sizeof(*parts.down))};
	enum rc rc;

	x->count = c->experts;
	x->gate_up = xcalloc(experts, sizeof(*x->gate_up));
	x->down = xcalloc(experts, sizeof(*x->down));
	rc = packer_linear(p->fine ? p->fine : p, w, &x->router, name, router, &experts, 1,
			   c->hidden, false, err);
	if (rc == RC_OK)
		rc = weights_find(w, stack) ? find_stacked(&parts, c, name, w, err)
					    : find_each(&parts, c, name, w, err);
	if (rc == RC_OK)
		rc = packer_stack(p, x->gate_up, parts.gate_up, 2, experts, err);
	if (rc == RC_OK)
		rc = packer_stack(p, x->down, parts.down, 1, experts, err);
	free(parts.gate_up);
	free(parts.down);
	free(stack);
	free(name);
	return rc;
}

void text_experts_free(struct text_experts *x, const struct packer *p)
{
	p->free_linear(p, &x->router);
	packer_free_stack(p, x->gate_up, x->count);
	packer_free_stack(p, x->down, x->count);
	free(x->gate_up);
	free(x->down);
	*x = (struct text_experts){0};
}
