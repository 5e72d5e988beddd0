/* SPDX-License-Identifier: MIT
 *
 * vision: the towers of Qwen2.5-VL and Qwen3-VL, from the patches of a page to rows of embeddings
 * for the language model.
 *
 * Patches come in merge order: the merge x merge patches that become one token follow each other,
 * row-major, and so do the tokens. Source: transformers models/qwen2_5_vl and models/qwen3_vl.
 */
#ifndef MODELS_VISION_H
#define MODELS_VISION_H

#include "config.h"
#include "kernels/pool.h"
#include "weights/packer.h"

struct vision;

/* number: in which attention multiplies. The packer stays the caller's, and is used by vision_free(). */
enum rc vision_load(struct vision **, const struct model_config *, struct weights *, enum number,
		    const struct packer *, struct err *);
void vision_free(struct vision *);

/*
 * patches [rows * columns][3 * temporal * patch^2]; rows and columns count patches and are
 * multiples of merge. out [tokens][out], tokens = rows * columns / merge^2; deepstack: one
 * [tokens][out] for each block of vision_config.deepstack. RC_FATAL when memory is not to be had.
 */
enum rc vision_run(const struct vision *, struct pool *, const float *patches, unsigned rows,
		   unsigned columns, float *out, float *const *deepstack, struct err *);

#endif
