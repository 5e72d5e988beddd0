/* SPDX-License-Identifier: MIT
 *
 * Chooses tokens. A vocabulary has 150,000 and sorting them all would cost more than the draw is
 * worth: what is less likely than the best by a factor of e^30 is left out first, all of it
 * together below one in ten million.
 */
#include "sampler.h"

#include "base/err.h"
#include "kernels/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NEGLIGIBLE 30.0

struct candidate {
	float logit;
	unsigned token;
};

struct sampler {
	size_t vocab;
	struct candidate *candidates;
	unsigned char *marked; /* tokens the penalty has been at */
	float *raw;	       /* logits before the penalty */
};

struct sampler *sampler_new(size_t vocab)
{
	struct sampler *s = xcalloc(1, sizeof(*s));

	s->vocab = vocab;
	s->candidates = xmalloc(vocab * sizeof(*s->candidates));
	s->marked = xcalloc(vocab, 1);
	s->raw = xmalloc(vocab * sizeof(*s->raw));
	return s;
}

void sampler_free(struct sampler *s)
{
	if (!s)
		return;
	free(s->candidates);
	free(s->marked);
	free(s->raw);
	free(s);
}

/* Uniform in [0, 1): splitmix64 of seed and step (Steele, Lea and Flood, OOPSLA 2014). */
static double uniform(uint64_t seed, uint64_t step)
{
	uint64_t z = seed + (step + 1) * 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	z ^= z >> 31;
	return (double)(z >> 11) * 0x1p-53;
}

static void penalise(struct sampler *s, float *logits, double penalty, const unsigned *seen,
		     size_t count)
{
	for (size_t i = 0; i < count; i++) {
		unsigned t = seen[i];

		if (t >= s->vocab || s->marked[t])
			continue;
		s->marked[t] = 1;
		logits[t] =
			logits[t] < 0 ? (float)(logits[t] * penalty) : (float)(logits[t] / penalty);
	}
	for (size_t i = 0; i < count; i++)
		if (seen[i] < s->vocab)
			s->marked[seen[i]] = 0;
}

/* Highest first; of equals the lower id, as argmax has it. */
static int by_logit(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	if (x->logit != y->logit)
		return x->logit > y->logit ? -1 : 1;
	return x->token < y->token ? -1 : x->token > y->token;
}

/* The candidates that top-k leaves, sorted; ties with the k-th stay, as in transformers. */
static size_t collect(struct sampler *s, const float *logits, size_t limit,
		      const struct sampling *how)
{
	double floor = logits[argmax(logits, limit)] - NEGLIGIBLE * how->temperature;
	size_t n = 0, k = how->top_k;

	for (size_t i = 0; i < limit; i++)
		if (logits[i] >= floor)
			s->candidates[n++] = (struct candidate){logits[i], (unsigned)i};
	qsort(s->candidates, n, sizeof(*s->candidates), by_logit);
	if (k == 0 || k >= n)
		return n;
	while (k < n && s->candidates[k].logit == s->candidates[how->top_k - 1].logit)
		k++;
	return k;
}

static unsigned draw(struct sampler *s, const float *logits, size_t limit,
		     const struct sampling *how, uint64_t step)
{
	size_t n = collect(s, logits, limit, how), kept = 0;
	double total = 0, sum = 0, at;

	for (size_t i = 0; i < n; i++)
		total += exp((s->candidates[i].logit - s->candidates[0].logit) / how->temperature);
	/* The token that carries the sum past top_p is kept; the first always is. */
	for (; kept < n && (kept == 0 || sum < how->top_p * total); kept++) {
		double p = exp((s->candidates[kept].logit - s->candidates[0].logit) /
			       how->temperature);

		if (kept && p < how->min_p)
			break;
		sum += p;
	}
	at = uniform(how->seed, step) * sum;
	for (size_t i = 0; i < kept; i++) {
		at -= exp((s->candidates[i].logit - s->candidates[0].logit) / how->temperature);
		if (at < 0)
			return s->candidates[i].token;
	}
	return s->candidates[kept - 1].token;
}

struct choice sampler_choose(struct sampler *s, float *logits, size_t limit,
			     const struct sampling *how, const unsigned *seen, size_t seen_count,
			     uint64_t step)
{
	struct choice c = {.valid = false};
	size_t best = argmax(logits, limit);
	const float *raw = logits;
	double all;

	if (best == limit || !isfinite(logits[best]))
		return c;
	all = log_sum_exp(logits, limit);
	if (how->repetition_penalty != 1) {
		raw = memcpy(s->raw, logits, limit * sizeof(*logits));
		penalise(s, logits, how->repetition_penalty, seen, seen_count);
		best = argmax(logits, limit);
	}
	c.token = how->temperature > 0 ? draw(s, logits, limit, how, step) : (unsigned)best;
	c.log_probability = (float)(raw[c.token] - all);
	c.valid = true;
	return c;
}
