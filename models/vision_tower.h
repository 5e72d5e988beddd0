/* SPDX-License-Identifier: MIT
 *
 * vision_tower: what the towers of all families share. Private to vision*.c.
 */
#ifndef MODELS_VISION_TOWER_H
#define MODELS_VISION_TOWER_H

#include "vision.h"
#include "weights/packer.h"

struct vision_norm {
	vector *weight, *bias; /* bias NULL: RMSNorm */
	size_t size;
};

struct vision_block {
	struct vision_norm norm1, norm2;
	struct linear qkv, proj;
	struct linear up,
		down; /* up: gate and up one below the other where the family has a gate */
};

/* Patches of a token side by side, two products with a GELU between them. */
struct vision_merger {
	struct vision_norm norm; /* size hidden: before they are put side by side; more: after */
	struct linear fc1, fc2;
};

struct vision {
	struct vision_config c;
	enum family family;
	enum number number; /* in which attention multiplies */
	const struct packer *packer;
	struct linear embed;
	vector *positions; /* Qwen3: [positions^2][hidden] */
	struct vision_block *blocks;
	struct vision_merger merger, deepstack[8];
	float *inverse; /* rope frequencies, [head_dim / 4] */
};

/* One page on its way through. h is hidden, n the patches. */
struct vision_page {
	unsigned rows, columns; /* patches */
	size_t n;
	unsigned *row, *column; /* of each patch, [n] */
	float *cosine, *sine;	/* [n][head_dim / 2] */
	float *x, *y;		/* [n][h] */
	float *qkv;		/* [n][3 h] */
	float *wide;		/* scratch of the feed-forward part */
	size_t *whole;		/* {0, n}: everything attends to everything */
};

/* One tensor NAME.weight and its bias, and a norm. */
enum rc vision_take_linear(const struct vision *, struct linear *, struct weights *, const char *name,
			   size_t out, size_t in, bool bias, struct err *);
enum rc vision_take_norm(const struct vision *, struct vision_norm *, struct weights *,
			 const char *name, size_t size, bool bias, struct err *);
void vision_norm(const struct vision_norm *, struct pool *, const float *x, float *y, size_t rows);

/* x += proj(attention(norm1(x))), within each of `count` segments. */
enum rc vision_attend(const struct vision *, const struct vision_block *, struct pool *,
		      struct vision_page *, const size_t *segments, size_t count, struct err *);

/* x += mlp(norm2(x)), some rows at a time. */
void vision_feed_forward(const struct vision *, const struct vision_block *, struct pool *,
			 struct vision_page *);

/* x -> out [n / merge^2][vision out]. Uses page->y and page->qkv. */
void vision_merge(const struct vision *, const struct vision_merger *, struct pool *,
		  struct vision_page *, float *out);

/*
 * Qwen2.5: order[k]: which token comes k-th, windows row-major and row-major within; segments: where
 * windows end, in patches. Both the caller's, as long as there are tokens, and one more. Returns the
 * number of windows.
 */
size_t vision_window_order(const struct vision_config *, unsigned rows, unsigned columns,
			   size_t *order, size_t *segments);

/* The families. */
enum rc vision_qwen2_5_load(struct vision *, struct weights *, struct err *);
enum rc vision_qwen2_5_run(const struct vision *, struct pool *, struct vision_page *, float *out,
			   struct err *);
enum rc vision_qwen3_load(struct vision *, struct weights *, struct err *);
enum rc vision_qwen3_run(const struct vision *, struct pool *, struct vision_page *, float *out,
			 float *const *deepstack, struct err *);

#endif
