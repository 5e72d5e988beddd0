/* SPDX-License-Identifier: MIT
 *
 * The tower of Qwen2.5-VL: most blocks attend within windows of 112 x 112 pixels, a few to the
 * whole page. Tokens are put in window order first, so that a window is a run of rows, and back at
 * the end. Windows at the right and lower edge are what is left over there, smaller.
 */
#include "base/num.h"
#include "vision_tower.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum rc vision_qwen2_5_load(struct vision *v, struct weights *w, struct err *err)
{
	const struct vision_config *c = &v->c;
	size_t h = c->hidden, wide = h * c->merge * c->merge;

	if (vision_take_linear(v, &v->embed, w, "visual.patch_embed.proj", h,
			       3 * (size_t)c->temporal * c->patch * c->patch, false, err) != RC_OK ||
	    vision_take_norm(v, &v->merger.norm, w, "visual.merger.ln_q", h, false, err) != RC_OK ||
	    vision_take_linear(v, &v->merger.fc1, w, "visual.merger.mlp.0", wide, wide, true, err) != RC_OK ||
	    vision_take_linear(v, &v->merger.fc2, w, "visual.merger.mlp.2", c->out, wide, true, err) != RC_OK)
		return RC_FATAL;
	for (unsigned i = 0; i < c->depth; i++) {
		struct vision_block *b = &v->blocks[i];
		static const char *const up[] = {"gate_proj", "up_proj"};
		const size_t rows[] = {c->intermediate, c->intermediate};
		char name[64];

#define NAME(part) (snprintf(name, sizeof(name), "visual.blocks.%u." part, i), name)
		if (vision_take_norm(v, &b->norm1, w, NAME("norm1"), h, false, err) != RC_OK ||
		    vision_take_norm(v, &b->norm2, w, NAME("norm2"), h, false, err) != RC_OK ||
		    vision_take_linear(v, &b->qkv, w, NAME("attn.qkv"), 3 * h, h, true, err) != RC_OK ||
		    vision_take_linear(v, &b->proj, w, NAME("attn.proj"), h, h, true, err) != RC_OK ||
		    packer_linear(v->packer, w, &b->up, NAME("mlp"), up, rows, 2, h, true, err) != RC_OK ||
		    vision_take_linear(v, &b->down, w, NAME("mlp.down_proj"), h, c->intermediate, true,
				       err) != RC_OK)
			return RC_FATAL;
#undef NAME
	}
	return RC_OK;
}

size_t vision_window_order(const struct vision_config *c, unsigned rows, unsigned columns,
			   size_t *order, size_t *segments)
{
	unsigned side = c->window / c->merge / c->patch, down = rows / c->merge,
		 across = columns / c->merge;
	size_t k = 0, count = 0;

	segments[0] = 0;
	for (unsigned top = 0; top < down; top += side) {
		for (unsigned left = 0; left < across; left += side) {
			for (unsigned r = top; r < min_u64(top + side, down); r++)
				for (unsigned q = left; q < min_u64(left + side, across); q++)
					order[k++] = (size_t)r * across + q;
			segments[++count] = k * c->merge * c->merge;
		}
	}
	return count;
}

/* to[k] = from[order[k]], tokens of `size` floats; or the other way round. */
static void reorder(const size_t *order, size_t tokens, size_t size, const float *from, float *to,
		    bool back)
{
	for (size_t k = 0; k < tokens; k++) {
		size_t source = back ? k : order[k], target = back ? order[k] : k;

		memcpy(to + target * size, from + source * size, size * sizeof(float));
	}
}

static void reorder_in_place(const size_t *order, size_t tokens, size_t size, float *x,
			     float *scratch, bool back)
{
	reorder(order, tokens, size, x, scratch, back);
	memcpy(x, scratch, tokens * size * sizeof(float));
}

enum rc vision_qwen2_5_run(const struct vision *v, struct pool *pool, struct vision_page *p,
			   float *out, struct err *err)
{
	size_t side = (size_t)v->c.merge * v->c.merge, tokens = p->n / side,
	       half = v->c.hidden / v->c.heads / 2, count;
	size_t *order = malloc(tokens * sizeof(*order)),
	       *segments = malloc((tokens + 1) * sizeof(*segments));
	enum rc rc = RC_OK;

	if (!order || !segments) {
		rc = err_set(err, RC_FATAL, "memory", "no memory for a page of %zu tokens", tokens);
		goto out;
	}
	count = vision_window_order(&v->c, p->rows, p->columns, order, segments);
	reorder_in_place(order, tokens, side * v->c.hidden, p->x, p->y, false);
	reorder_in_place(order, tokens, side * half, p->cosine, p->y, false);
	reorder_in_place(order, tokens, side * half, p->sine, p->y, false);
	for (unsigned i = 0; rc == RC_OK && i < v->c.depth; i++) {
		rc = v->c.full[i] ? vision_attend(v, &v->blocks[i], pool, p, p->whole, 1, err)
				  : vision_attend(v, &v->blocks[i], pool, p, segments, count, err);
		if (rc == RC_OK)
			vision_feed_forward(v, &v->blocks[i], pool, p);
	}
	if (rc != RC_OK)
		goto out;
	/* The merged tokens fit where the patches were: vision out is at most what fc1 took in. */
	vision_merge(v, &v->merger, pool, p, out);
	if (v->c.out <= side * v->c.hidden)
		reorder_in_place(order, tokens, v->c.out, out, p->y, true);
	else
		rc = err_set(err, RC_FATAL, "model-config",
			     "out_hidden_size is larger than a token's patches");
out:
	free(order);
	free(segments);
	return rc;
}
