/* SPDX-License-Identifier: MIT
 *
 * gate: a model is opened with fp8 weights only where they change little of what it says.
 *
 * The same language model, in bf16 and in fp8, goes over a fixed text; at each of its tokens it says how
 * likely every token is that may follow. Of the two distributions p and q the mean of the divergence
 * sum p log(p / q) is taken, in nats, and the share of places where both have the same most likely token.
 */
#ifndef MODELS_GATE_H
#define MODELS_GATE_H

#include "model.h"

/*
 * The most and the least. At 0.02 nat fp8 finds what bf16 would say 2 % less likely than bf16 itself does, on
 * average; with the sample model, which comes to 0.002, it is where errors of reading begin to show (MODEL.md).
 * Where the two likeliest tokens are near each other any rounding turns them over: they may at 5 of 100 places,
 * in a text that nobody can foresee.
 */
#define GATE_DIVERGENCE 0.02
#define GATE_AGREEMENT	0.95

enum {
	GATE_READ = 256,   /* tokens that are read as a prompt is, */
	GATE_WRITTEN = 64, /* and one by one as what the model has written: they are other products */
};

struct gate_figures {
	size_t tokens; /* 0: there was nothing to compare */
	double divergence, agreement;
};

/* As model_open(). RC_FATAL, reason "accuracy", with the figures where they are not within the bounds. The
 * model is loaded twice then, first its language model in bf16, which has to fit as well. */
enum rc gate_open(struct model *, const char *folder, compute_opener *, const struct compute_options *,
		  struct pool *, struct gate_figures *, struct err *);

/* What two models say about a token, logits [n] each; into sums, for gate_judge(). */
struct gate_sums {
	size_t tokens, same;
	double divergence;
};

void gate_add(struct gate_sums *, const float *p, const float *q, size_t n);
enum rc gate_judge(const struct gate_sums *, struct gate_figures *, struct err *);

#endif
