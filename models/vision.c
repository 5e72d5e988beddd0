/* SPDX-License-Identifier: MIT
 *
 * Loading and running a vision tower, whichever family it is of: patch embedding, the attention and
 * feed-forward parts of a block, and the merger that makes a token of several patches.
 */
#include "vision_tower.h"

#include "base/num.h"
#include "kernels/attention.h"
#include "kernels/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EPS	  1e-6f
#define WIDE_ROWS 1024 /* rows of the feed-forward part at a time: bounds its scratch */

static unsigned head_dim(const struct vision_config *c)
{
	return c->hidden / c->heads;
}

enum rc vision_take_linear(const struct vision *v, struct linear *out, struct weights *w,
			   const char *name, size_t rows, size_t columns, bool bias,
			   struct err *err)
{
	return packer_linear(v->packer, w, out, name, (const char *const[]){""}, &rows, 1, columns,
			     bias, err);
}

enum rc vision_take_norm(const struct vision *v, struct vision_norm *out, struct weights *w,
			 const char *name, size_t size, bool bias, struct err *err)
{
	char *tensor = xasprintf("%s.weight", name);
	enum rc rc = packer_vector(v->packer, w, &out->weight, tensor, size, 1, err);

	free(tensor);
	out->size = size;
	tensor = xasprintf("%s.bias", name);
	if (rc == RC_OK && bias)
		rc = packer_vector(v->packer, w, &out->bias, tensor, size, 1, err);
	free(tensor);
	return rc;
}

void vision_norm(const struct vision_norm *n, struct pool *pool, const float *x, float *y,
		 size_t rows)
{
	if (n->bias)
		layer_norm(pool, x, n->weight, n->bias, EPS, y, rows, n->size);
	else
		rms_norm(pool, x, n->weight, EPS, y, rows, n->size);
}

enum rc vision_attend(const struct vision *v, const struct vision_block *b, struct pool *pool,
		      struct vision_page *p, const size_t *segments, size_t count, struct err *err)
{
	size_t h = v->c.hidden, width = 3 * h;
	unsigned dim = head_dim(&v->c);

	vision_norm(&b->norm1, pool, p->x, p->y, p->n);
	linear_apply(&b->qkv, pool, p->y, h, p->n, p->qkv, width);
	rope(pool, p->qkv, p->cosine, p->sine, p->n, width, 2 * v->c.heads, dim, dim);
	if (attention_segments(pool, v->c.heads, dim,
			       v->number, 1.0f / sqrtf((float)dim), p->qkv, p->qkv + h, p->qkv + 2 * h, width,
			       p->y, h, segments, count, err) != RC_OK)
		return RC_FATAL;
	/* q, k and v are no longer needed. */
	linear_apply(&b->proj, pool, p->y, h, p->n, p->qkv, h);
	add(pool, p->x, p->qkv, p->n * h);
	return RC_OK;
}

void vision_feed_forward(const struct vision *v, const struct vision_block *b, struct pool *pool,
			 struct vision_page *p)
{
	bool gated = b->up.out == 2 * (size_t)v->c.intermediate;
	size_t h = v->c.hidden, wide = b->up.out;

	vision_norm(&b->norm2, pool, p->x, p->y, p->n);
	for (size_t first = 0, rows; first < p->n; first += rows) {
		float *inner = p->wide, *back = p->qkv;

		rows = min_u64(WIDE_ROWS, p->n - first);
		linear_apply(&b->up, pool, p->y + first * h, h, rows, p->wide, wide);
		if (gated) {
			inner = p->wide + (size_t)WIDE_ROWS * wide;
			silu_gate(pool, p->wide, inner, rows, v->c.intermediate);
		} else {
			gelu_tanh(pool, inner, rows * wide);
		}
		linear_apply(&b->down, pool, inner, v->c.intermediate, rows, back, h);
		add(pool, p->x + first * h, back, rows * h);
	}
}

void vision_merge(const struct vision *v, const struct vision_merger *m, struct pool *pool,
		  struct vision_page *p, float *out)
{
	size_t side = (size_t)v->c.merge * v->c.merge, wide = side * v->c.hidden,
	       tokens = p->n / side;

	/* Patches of a token lie behind each other, so [n][h] is [tokens][side h] as it stands. */
	vision_norm(&m->norm, pool, p->x, p->y, m->norm.size == wide ? tokens : p->n);
	linear_apply(&m->fc1, pool, p->y, wide, tokens, p->qkv, wide);
	gelu_erf(pool, p->qkv, tokens * wide);
	linear_apply(&m->fc2, pool, p->qkv, wide, tokens, out, v->c.out);
}

static void norm_free(const struct packer *p, struct vision_norm *n)
{
	p->free_vector(p, n->weight);
	p->free_vector(p, n->bias);
}

static void merger_free(const struct packer *p, struct vision_merger *m)
{
	norm_free(p, &m->norm);
	p->free_linear(p, &m->fc1);
	p->free_linear(p, &m->fc2);
}

void vision_free(struct vision *v)
{
	const struct packer *p = v ? v->packer : NULL;

	if (!v)
		return;
	for (unsigned i = 0; v->blocks && i < v->c.depth; i++) {
		struct vision_block *b = &v->blocks[i];

		norm_free(p, &b->norm1);
		norm_free(p, &b->norm2);
		p->free_linear(p, &b->qkv);
		p->free_linear(p, &b->proj);
		p->free_linear(p, &b->up);
		p->free_linear(p, &b->down);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(v->deepstack); i++)
		merger_free(p, &v->deepstack[i]);
	merger_free(p, &v->merger);
	p->free_linear(p, &v->embed);
	p->free_vector(p, v->positions);
	free(v->blocks);
	free(v->inverse);
	free(v);
}

enum rc vision_load(struct vision **out, const struct model_config *config, struct weights *w,
		    enum number number, const struct packer *packer, struct err *err)
{
	struct vision *v = xcalloc(1, sizeof(*v));
	unsigned quarter = head_dim(&config->vision) / 4;
	enum rc rc;

	v->c = config->vision;
	v->family = config->family;
	v->number = number;
	v->packer = packer;
	v->blocks = xcalloc(v->c.depth, sizeof(*v->blocks));
	v->inverse = xmalloc((quarter + 1) * sizeof(float));
	for (unsigned k = 0; k < quarter; k++)
		v->inverse[k] =
			1.0f / powf(10000.0f, (float)(2 * k) / (float)(head_dim(&v->c) / 2));
	rc = v->family == FAMILY_QWEN3_VL ? vision_qwen3_load(v, w, err)
					  : vision_qwen2_5_load(v, w, err);
	if (rc != RC_OK) {
		vision_free(v);
		v = NULL;
	}
	*out = v;
	return rc;
}

static void page_free(struct vision_page *p)
{
	free(p->row);
	free(p->column);
	free(p->cosine);
	free(p->sine);
	free(p->x);
	free(p->y);
	free(p->qkv);
	free(p->wide);
	free(p->whole);
}

/* Where each patch lies, in merge order, and its angles: first the row's, then the column's. */
static void place_patches(const struct vision *v, struct vision_page *p)
{
	unsigned merge = v->c.merge, across = p->columns / merge, quarter = head_dim(&v->c) / 4;

	for (size_t i = 0; i < p->n; i++) {
		size_t token = i / (merge * merge), inner = i % (merge * merge);

		p->row[i] = (unsigned)(token / across * merge + inner / merge);
		p->column[i] = (unsigned)(token % across * merge + inner % merge);
		for (unsigned k = 0; k < quarter; k++) {
			float down = (float)p->row[i] * v->inverse[k],
			      right = (float)p->column[i] * v->inverse[k];
			float *cosine = p->cosine + i * 2 * quarter,
			      *sine = p->sine + i * 2 * quarter;

			cosine[k] = cosf(down), sine[k] = sinf(down);
			cosine[quarter + k] = cosf(right), sine[quarter + k] = sinf(right);
		}
	}
}

static enum rc page_prepare(const struct vision *v, struct vision_page *p, struct err *err)
{
	size_t h = v->c.hidden, half = head_dim(&v->c) / 2, n = p->n;

	p->row = malloc(n * sizeof(*p->row));
	p->column = malloc(n * sizeof(*p->column));
	p->cosine = malloc(n * half * sizeof(float));
	p->sine = malloc(n * half * sizeof(float));
	p->x = malloc(n * h * sizeof(float));
	p->y = malloc(n * h * sizeof(float));
	p->qkv = malloc(n * 3 * h * sizeof(float));
	p->wide = malloc((size_t)WIDE_ROWS * 3 * v->c.intermediate * sizeof(float));
	p->whole = malloc(2 * sizeof(*p->whole));
	if (!p->row || !p->column || !p->cosine || !p->sine || !p->x || !p->y || !p->qkv ||
	    !p->wide || !p->whole)
		return err_set(err, RC_FATAL, "memory", "no memory for a page of %zu patches", n);
	p->whole[0] = 0;
	p->whole[1] = n;
	place_patches(v, p);
	return RC_OK;
}

enum rc vision_run(const struct vision *v, struct pool *pool, const float *patches, unsigned rows,
		   unsigned columns, float *out, float *const *deepstack, struct err *err)
{
	struct vision_page p = {.rows = rows, .columns = columns, .n = (size_t)rows * columns};
	enum rc rc;

	if (rows % v->c.merge || columns % v->c.merge || !p.n)
		BUG("a page of %u x %u patches", rows, columns);
	rc = page_prepare(v, &p, err);
	if (rc == RC_OK) {
		linear_apply(&v->embed, pool, patches, v->embed.in, p.n, p.x, v->c.hidden);
		rc = v->family == FAMILY_QWEN3_VL
			     ? vision_qwen3_run(v, pool, &p, out, deepstack, err)
			     : vision_qwen2_5_run(v, pool, &p, out, err);
	}
	page_free(&p);
	return rc;
}
