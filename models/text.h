/* SPDX-License-Identifier: MIT
 *
 * text: the language model of Qwen2.5 and Qwen3, alone or behind a vision tower.
 *
 * Pre-norm decoder: RMSNorm, grouped-query attention with rotary positions, SwiGLU. Qwen2.5 has
 * biases on q, k and v; Qwen3 normalises q and k in each head. Source: transformers
 * models/qwen2_5_vl, models/qwen3 and models/qwen3_vl.
 *
 * A call works on rows: tokens of any sequences side by side, those of one sequence in ascending
 * order. What comes out for a row depends on its own sequence alone (kernels/linear.h).
 */
#ifndef MODELS_TEXT_H
#define MODELS_TEXT_H

#include "config.h"
#include "kernels/attention.h"
#include "kernels/linear.h"
#include "weights/safetensors.h"

enum { TEXT_ROWS_MAX = 512 };

struct text;

enum rc text_load(struct text **, const struct text_config *, struct weights *, enum number,
		  struct pool *, struct err *);
void text_free(struct text *);

/* Keys and values of KV_PAGE tokens in all layers: the unit in which a cache is shared out. */
size_t text_block_size(const struct text *);

/* The blocks of one sequence, first tokens first; all zeros when they are handed out. */
struct text_sequence {
	void **blocks;
	size_t count;
};

struct text_row {
	const struct text_sequence *sequence;
	size_t index;		   /* of the token in its sequence; its block is there */
	unsigned position[3];	   /* time, row, column; all three the same for text */
	unsigned token;		   /* whose embedding goes in, unless ... */
	const float *embedding;	   /* ... this is set: [hidden], from the vision tower */
	const float *deepstack[8]; /* added after layer 0, 1, ... up to the first NULL */
	float *logits;		   /* [vocab], or NULL */
};

/* count <= TEXT_ROWS_MAX. Stores keys and values of the rows, and fills in the logits asked for. */
void text_forward(struct text *, struct pool *, const struct text_row *, size_t count);

#endif
