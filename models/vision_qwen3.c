/* SPDX-License-Identifier: MIT
 *
 * The tower of Qwen3-VL: every block attends to the whole page; a learned grid of positions is
 * stretched over it (bilinear, corners on corners); some blocks' outputs go through mergers of
 * their own to the first layers of the language model ("deepstack").
 */
#include "vision_tower.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static enum rc load_merger(struct vision *v, struct vision_merger *m, struct weights *w,
			   const char *name, bool after, struct err *err)
{
	size_t h = v->c.hidden, wide = h * v->c.merge * v->c.merge;
	char norm[80], fc1[80], fc2[80];

	snprintf(norm, sizeof(norm), "%s.norm", name);
	snprintf(fc1, sizeof(fc1), "%s.linear_fc1", name);
	snprintf(fc2, sizeof(fc2), "%s.linear_fc2", name);
	if (vision_take_norm(v, &m->norm, w, norm, after ? wide : h, true, err) != RC_OK ||
	    vision_take_linear(v, &m->fc1, w, fc1, wide, wide, true, err) != RC_OK)
		return RC_FATAL;
	return vision_take_linear(v, &m->fc2, w, fc2, v->c.out, wide, true, err);
}

enum rc vision_qwen3_load(struct vision *v, struct weights *w, struct err *err)
{
	const struct vision_config *c = &v->c;
	size_t h = c->hidden;
	char name[64];

	if (vision_take_linear(v, &v->embed, w, "visual.patch_embed.proj", h,
			       3 * (size_t)c->temporal * c->patch * c->patch, true, err) != RC_OK ||
	    packer_vector(v->packer, w, &v->positions, "visual.pos_embed.weight",
			  (size_t)c->positions * c->positions, h, err) != RC_OK ||
	    load_merger(v, &v->merger, w, "visual.merger", false, err) != RC_OK)
		return RC_FATAL;
	for (unsigned i = 0; i < c->deepstacks; i++) {
		snprintf(name, sizeof(name), "visual.deepstack_merger_list.%u", i);
		if (load_merger(v, &v->deepstack[i], w, name, true, err) != RC_OK)
			return RC_FATAL;
	}
	for (unsigned i = 0; i < c->depth; i++) {
		struct vision_block *b = &v->blocks[i];

#define NAME(part) (snprintf(name, sizeof(name), "visual.blocks.%u." part, i), name)
		if (vision_take_norm(v, &b->norm1, w, NAME("norm1"), h, true, err) != RC_OK ||
		    vision_take_norm(v, &b->norm2, w, NAME("norm2"), h, true, err) != RC_OK ||
		    vision_take_linear(v, &b->qkv, w, NAME("attn.qkv"), 3 * h, h, true, err) != RC_OK ||
		    vision_take_linear(v, &b->proj, w, NAME("attn.proj"), h, h, true, err) != RC_OK ||
		    vision_take_linear(v, &b->up, w, NAME("mlp.linear_fc1"), c->intermediate, h, true, err) != RC_OK ||
		    vision_take_linear(v, &b->down, w, NAME("mlp.linear_fc2"), h, c->intermediate,
				       true, err) != RC_OK)
			return RC_FATAL;
#undef NAME
	}
	return RC_OK;
}

/* Where patch i of n lies on a grid of `side`: two neighbours and the weight of the second. */
static void stretch(unsigned i, unsigned n, unsigned side, unsigned *low, unsigned *high,
		    float *weight)
{
	float at = n > 1 ? (float)i * (float)(side - 1) / (float)(n - 1) : 0;

	*low = (unsigned)at;
	*high = *low + 1 < side ? *low + 1 : side - 1;
	*weight = at - (float)*low;
}

static void add_positions(const struct vision *v, struct vision_page *p)
{
	unsigned side = v->c.positions;
	size_t h = v->c.hidden;
	const float *positions = v->positions;

	for (size_t i = 0; i < p->n; i++) {
		unsigned top, bottom, left, right;
		const float *corner[4];
		float down, across, weight[4], *x = p->x + i * h;

		stretch(p->row[i], p->rows, side, &top, &bottom, &down);
		stretch(p->column[i], p->columns, side, &left, &right, &across);
		corner[0] = positions + ((size_t)top * side + left) * h;
		corner[1] = positions + ((size_t)top * side + right) * h;
		corner[2] = positions + ((size_t)bottom * side + left) * h;
		corner[3] = positions + ((size_t)bottom * side + right) * h;
		weight[0] = (1 - down) * (1 - across), weight[1] = (1 - down) * across;
		weight[2] = down * (1 - across), weight[3] = down * across;
		for (size_t j = 0; j < h; j++)
			x[j] += corner[0][j] * weight[0] + corner[1][j] * weight[1] +
				corner[2][j] * weight[2] + corner[3][j] * weight[3];
	}
}

enum rc vision_qwen3_run(const struct vision *v, struct pool *pool, struct vision_page *p,
			 float *out, float *const *deepstack, struct err *err)
{
	add_positions(v, p);
	for (unsigned i = 0; i < v->c.depth; i++) {
		if (vision_attend(v, &v->blocks[i], pool, p, p->whole, 1, err) != RC_OK)
			return RC_FATAL;
		vision_feed_forward(v, &v->blocks[i], pool, p);
		for (unsigned k = 0; k < v->c.deepstacks; k++)
			if (v->c.deepstack[k] == i)
				vision_merge(v, &v->deepstack[k], pool, p, deepstack[k]);
	}
	vision_merge(v, &v->merger, pool, p, out);
	return RC_OK;
}
