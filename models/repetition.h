/* SPDX-License-Identifier: MIT
 *
 * repetition: a model that goes round in circles, found while it does.
 *
 * The output loops when its end repeats with some period p: for every p up to REPETITION_PERIOD the
 * number of tokens that equal the one p before them is kept. A table of empty cells repeats too, so
 * only long runs count: REPETITION_TOKENS tokens, and REPETITION_TIMES rounds.
 */
#ifndef MODELS_REPETITION_H
#define MODELS_REPETITION_H

#include <stdbool.h>
#include <stddef.h>

enum {
	REPETITION_PERIOD = 256, /* tokens of the longest loop that is found */
	REPETITION_TOKENS = 128,
	REPETITION_TIMES = 5,
};

struct repetition {
	unsigned run[REPETITION_PERIOD + 1];
};

/* Look at the last of `count` tokens; to be called once for each. True: it loops, and *period says
 * with how many tokens. */
bool repetition_add(struct repetition *, const unsigned *tokens, size_t count, unsigned *period);

#endif
