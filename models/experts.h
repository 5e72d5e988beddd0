/* SPDX-License-Identifier: MIT
 *
 * experts: the feed-forward of a routed layer. A row goes through those experts of the layer that
 * its router ranks highest, and what comes out is added up by their weights.
 *
 * Invariant: a row's sum has the order of the experts' numbers, whatever other rows went to them.
 */
#ifndef MODELS_EXPERTS_H
#define MODELS_EXPERTS_H

#include "kernels/pool.h"
#include "text_weights.h"

struct experts_scratch;

/* For calls of up to `rows` rows. The configuration stays the caller's. */
struct experts_scratch *experts_scratch_new(const struct text_config *, size_t rows);
void experts_scratch_free(struct experts_scratch *);

/* x [n][h] becomes what the experts make of it. */
void experts_apply(const struct text_experts *, struct experts_scratch *, struct pool *, float *x,
		   size_t n);

/*
 * The choice of a row: out of its router's numbers logits[experts] the `used` largest (of equal
 * ones the first), in the order of their numbers, with their share of softmax(logits); normed: of
 * the sum of those chosen. A row that has a NaN gets weights that are NaN. The logits are used up.
 */
void experts_choose(float *logits, unsigned experts, unsigned used, bool normed, unsigned *expert,
		    float *weight);

#endif
