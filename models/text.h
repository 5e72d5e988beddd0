/* SPDX-License-Identifier: MIT
 *
 * text: the language model of Qwen2.5, Qwen3 and Phi-3, alone or behind a vision tower.
 *
 * Pre-norm decoder: RMSNorm, grouped-query attention with rotary positions, SwiGLU. Qwen2.5 has
 * biases on q, k and v; Qwen3 normalises q and k in each head; Phi-3 turns a part of each head, in long
 * sequences by other angles. Source: transformers models/qwen2_5_vl, models/qwen3, models/qwen3_vl and
 * models/phi3.
 *
 * A call works on rows: tokens of any sequences side by side, those of one sequence in ascending
 * order. What comes out for a row depends on its own sequence alone (kernels/linear.h).
 */
#ifndef MODELS_TEXT_H
#define MODELS_TEXT_H

#include "compute.h"
#include "weights/packer.h"

enum { TEXT_ROWS_MAX = 512 };

struct text;

/* keys: the number that keys and values are kept in. The packer stays the caller's, and is used by
 * text_free(). */
enum rc text_load(struct text **, const struct text_config *, struct weights *, enum number keys,
		  const struct packer *, struct err *);
void text_free(struct text *);

/* One more adapter, of ADAPTERS_MAX at most, packed by the packer, which stays the caller's as the other
 * does. RC_FATAL. */
enum rc text_adapt(struct text *, struct adapter *, const struct packer *, struct err *);

/* Bytes of the keys and values of KV_PAGE tokens in all layers. */
size_t text_block_size(const struct text *);

/*
 * count <= TEXT_ROWS_MAX. Stores keys and values of the rows in `blocks`, one behind the other in memory.
 * Returns the logits of the rows that have `logits` or `draw`, [rows][vocab], good until the next call.
 */
float *text_forward(struct text *, struct pool *, void *blocks, const struct text_row *, size_t count);

#endif
