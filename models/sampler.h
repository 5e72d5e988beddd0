/* SPDX-License-Identifier: MIT
 *
 * sampler: from logits to the next token.
 *
 * The warpers of transformers' generation, in its order: repetition penalty, temperature, top-k,
 * top-p, min-p. A draw depends on the seed and on the number of the step alone, so that a page
 * gives the same text whatever runs beside it.
 */
#ifndef MODELS_SAMPLER_H
#define MODELS_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sampling {
	double temperature;	   /* 0: greedy, and what follows is not used */
	unsigned top_k;		   /* 0: all */
	double top_p;		   /* 1: all */
	double min_p;		   /* share of the best token's probability; 0: all */
	double repetition_penalty; /* 1: none; also when greedy */
	uint64_t seed;
};

struct choice {
	bool valid; /* false: a NaN among the logits, or no finite one */
	unsigned token;
	float log_probability; /* of the token, as the model has it: before any warper */
};

struct sampler; /* scratch for one vocabulary */

struct sampler *sampler_new(size_t vocab);
void sampler_free(struct sampler *);

/*
 * logits [vocab] are changed. Tokens >= limit are never chosen (rows that pad the vocabulary).
 * seen: prompt and output so far, for the penalty; step counts draws of the sequence.
 */
struct choice sampler_choose(struct sampler *, float *logits, size_t limit, const struct sampling *,
			     const unsigned *seen, size_t seen_count, uint64_t step);

#endif
