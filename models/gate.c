/* SPDX-License-Identifier: MIT
 *
 * The logits of the bf16 model at all places are kept in the host's memory (4 bytes for each token of the
 * vocabulary, 200 MB in all); those of the fp8 model are compared as they come.
 */
#include "gate.h"

#include "base/log.h"
#include "base/num.h"
#include "kernels/kv.h"
#include "kernels/ops.h"
#include "tokenizer/tokenizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS_MAX = GATE_READ + GATE_WRITTEN };

/* What documents are made of: letters, a table, an account, a page of a book, in two languages. */
static const char text[] =
	"Harbour Office, 14 March 1962\n\n"
	"Dear Mr Whitcombe,\n\n"
	"Thank you for your letter of the 9th. The ferry will leave the north pier at 7.40 in the morning and "
	"return before dark; in a strong westerly wind it does not sail at all, and the fare is given back at "
	"the window. Please have the crates weighed beforehand: whatever is heavier than 250 kg needs the crane, "
	"which has to be ordered two days ahead. The keeper of the lighthouse asks you to bring his newspapers "
	"and a tin of lamp oil, as you did last autumn.\n\n"
	"| Day | High water | Low water | Height |\n"
	"|---|---|---|---|\n"
	"| Monday | 05:12 | 11:26 | 3.8 m |\n"
	"| Tuesday | 06:03 | 12:15 | 4.1 m |\n"
	"| Wednesday | 06:49 | 13:02 | 4.3 m |\n\n"
	"Sehr geehrte Damen und Herren,\n\n"
	"hiermit bestelle ich zwei Zimmer mit Blick auf den See, vom 3. bis zum 17. August. Wir kommen mit dem "
	"Abendzug und brauchen einen Wagen vom Bahnhof; die Rechnung schicken Sie bitte an meine Anschrift in "
	"der Lindenstraße 12. Für die Kinder wäre uns ein ruhiges Zimmer im ersten Stock am liebsten.\n\n"
	"## Account for the second quarter\n\n"
	"1. Repairs to the roof of the boat house: 1,240.50\n"
	"2. Rope, tar and paint: 318.75\n"
	"3. Wages of two men, 26 days: 2,080.00\n"
	"Total: 3,639.25, of which 1,500.00 were paid in advance.\n\n"
	"The area of a circle is $A = \\pi r^2$, and the rain that falls on it in an hour is easily reckoned from "
	"that. In the evening the old man walked down to the water, as he had done every day since he came to "
	"the island, and looked for the light on the other side. It was there; it had always been there. He sat "
	"down on the wall and waited until it grew cold.\n";

/* --- The comparison --- */

void gate_add(struct gate_sums *s, const float *p, const float *q, size_t n)
{
	double all_p = log_sum_exp(p, n), all_q = log_sum_exp(q, n), sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += exp(p[i] - all_p) * ((p[i] - all_p) - (q[i] - all_q));
	s->divergence += sum;
	s->same += argmax(p, n) == argmax(q, n);
	s->tokens++;
}

enum rc gate_judge(const struct gate_sums *s, struct gate_figures *f, struct err *err)
{
	f->tokens = s->tokens;
	f->divergence = s->divergence / (double)s->tokens;
	f->agreement = (double)s->same / (double)s->tokens;
	if (f->divergence <= GATE_DIVERGENCE && f->agreement >= GATE_AGREEMENT)
		return RC_OK;
	return err_set(err, RC_FATAL, "accuracy",
		       "fp8 weights change too much: over %zu tokens the mean divergence from bf16 is %.4f nat (%.2f "
		       "at most), and the most likely token is the same at %.1f %% (%.0f %% at least): weights: "
		       "bf16",
		       f->tokens, f->divergence, GATE_DIVERGENCE, 100 * f->agreement, 100 * GATE_AGREEMENT);
}

/* --- The models --- */

/* The text, as a model of this vocabulary reads it. */
struct passage {
	unsigned token[TOKENS_MAX];
	size_t count;
	unsigned limit; /* tokens from here on are padding of the matrix */
};

static enum rc passage_open(struct passage *t, const char *folder, struct err *err)
{
	struct token_ids ids = {0};
	struct tokenizer *tokenizer;
	enum rc rc = tokenizer_open(&tokenizer, folder, err);

	if (rc != RC_OK)
		return rc;
	t->limit = (unsigned)tokenizer_size(tokenizer);
	rc = tokenizer_encode(tokenizer, text, strlen(text), 0, &ids, err);
	t->count = min_u64(ids.count, TOKENS_MAX);
	for (size_t i = 0; i < t->count; i++)
		t->token[i] = ids.id[i];
	token_ids_release(&ids);
	tokenizer_free(tokenizer);
	return rc;
}

/* A step over tokens first .. first + count - 1, logits [count][vocab]. */
static void step(struct compute *c, const struct passage *t, const struct text_sequence *s, size_t first,
		 size_t count, float *logits, size_t vocab)
{
	struct text_row *rows = xcalloc(count, sizeof(*rows));

	for (size_t i = 0; i < count; i++) {
		unsigned at = (unsigned)(first + i);

		rows[i] = (struct text_row){.sequence = s,
					    .index = at,
					    .position = {at, at, at},
					    .written = at >= GATE_READ,
					    .token = t->token[at],
					    .logits = logits + i * vocab};
	}
	compute_forward(c, rows, count);
	free(rows);
}

/* All of the text; kept [count][limit] are the logits, or, with sums, what these are compared with. */
static enum rc run(const struct model *m, const struct passage *t, float *kept, struct gate_sums *sums,
		   struct err *err)
{
	struct compute *c = m->compute;
	size_t vocab = m->config.text.vocab, limit = t->limit, blocks = t->count / KV_PAGE + 1, n,
	       chunk = min_u64(c->sequences, c->rows_max);
	struct text_sequence s = {xcalloc(blocks, sizeof(*s.blocks)), blocks, 0};
	float *logits = xcalloc(chunk * vocab, sizeof(*logits));
	enum rc rc = c->calls->reserve(c, (uint32_t)blocks, err);

	for (uint32_t b = 0; b < blocks; b++)
		s.blocks[b] = b;
	for (size_t first = 0; rc == RC_OK && first < t->count; first += n) {
		n = first < GATE_READ ? min_u64(chunk, min_u64(t->count, GATE_READ) - first) : 1;
		step(c, t, &s, first, n, logits, vocab);
		for (size_t i = 0; i < n; i++) {
			float *at = kept + (first + i) * limit;

			if (sums)
				gate_add(sums, at, logits + i * vocab, limit);
			else
				memcpy(at, logits + i * vocab, limit * sizeof(*at));
		}
	}
	if (rc == RC_OK)
		rc = c->calls->reserve(c, 0, err);
	free(s.blocks);
	free(logits);
	return rc;
}

/* The logits in bf16, the caller's to free. */
static enum rc run_plain(float **kept, struct passage *t, const char *folder, compute_opener *open,
			 const struct compute_options *options, struct pool *pool, struct err *err)
{
	struct compute_options plain = *options;
	struct err why;
	struct model m;
	enum rc rc;

	plain.plain = true;
	plain.cache_size = 0;
	rc = model_open(&m, folder, open, &plain, pool, &why);
	if (rc != RC_OK && !strcmp(why.reason, "memory"))
		return err_set(err, rc, why.reason, "in bf16, which fp8 weights are held against: %.400s", why.text);
	if (rc != RC_OK) {
		*err = why;
		return rc;
	}
	t->count = min_u64(t->count, m.config.text.max_positions);
	t->limit = (unsigned)min_u64(t->limit, m.config.text.vocab);
	*kept = xcalloc(t->count * t->limit, sizeof(**kept));
	rc = run(&m, t, *kept, NULL, err);
	model_close(&m);
	return rc;
}

static enum rc compare(const struct model *m, const struct passage *t, float *kept, struct gate_figures *f,
		       struct err *err)
{
	struct gate_sums sums = {0};
	enum rc rc = run(m, t, kept, &sums, err);

	if (rc == RC_OK)
		rc = gate_judge(&sums, f, err);
	if (rc == RC_OK)
		log_info("fp8 weights beside bf16 over %zu tokens: mean divergence %.4f nat, %.1f %% the same most "
			 "likely token",
			 f->tokens, f->divergence, 100 * f->agreement);
	return rc;
}

enum rc gate_open(struct model *m, const char *folder, compute_opener *open,
		  const struct compute_options *options, struct pool *pool, struct gate_figures *f,
		  struct err *err)
{
	struct passage passage;
	float *kept = NULL;
	enum rc rc;

	*m = (struct model){0};
	*f = (struct gate_figures){0};
	if (options->weights != NUMBER_E4M3)
		return model_open(m, folder, open, options, pool, err);
	rc = passage_open(&passage, folder, err);
	if (rc == RC_OK)
		rc = run_plain(&kept, &passage, folder, open, options, pool, err);
	if (rc == RC_OK)
		rc = model_open(m, folder, open, options, pool, err);
	if (rc == RC_OK && (rc = compare(m, &passage, kept, f, err)) != RC_OK)
		model_close(m);
	free(kept);
	return rc;
}
