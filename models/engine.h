/* SPDX-License-Identifier: MIT
 *
 * engine: continuous batching. Requests of any length run side by side; whoever has finished makes
 * room for the next at once.
 *
 * A step is one pass through the language model over as many rows as the device takes: one row of each
 * sequence that generates, and pieces of the prompts that are not read yet, first come first
 * served. Keys and values are given out block by block as sequences grow; when none is left, the
 * sequence that came last gives its blocks back and starts again later, with the same result to the
 * bit, unless the device takes sums in any order: then what it has stays, and what follows may differ.
 *
 * A step may take guesses of what comes next along (draft.h), as further rows of a sequence: what is chosen behind
 * the last token and behind each guess that came true is as good as chosen one by one, to the bit.
 */
#ifndef MODELS_ENGINE_H
#define MODELS_ENGINE_H

#include "model.h"

struct engine;

enum { ENGINE_DRAFTS_MAX = 8 };

struct engine_options {
	size_t cache_size;  /* bytes for keys and values; 0: all that the device has for them */
	unsigned sequences; /* side by side */
	unsigned vocab;	    /* tokens the tokenizer has: rows beyond it are padding, never chosen */
	unsigned drafts;    /* guesses for a sequence in one step, up to ENGINE_DRAFTS_MAX */
};

/* What a page's tokens take instead of embeddings. All memory is the caller's. */
struct engine_page {
	struct model_page place;
	const struct features *features;
	unsigned char
		digest[32]; /* SHA-256 of the patches: equal pages share their keys and values */
};

struct engine_request {
	uint64_t id;
	const unsigned *prompt;
	size_t prompt_count;
	const struct engine_page *pages; /* in the prompt's order; stay until the result is taken */
	size_t page_count;
	struct adapted adapted; /* by adapters of the model */
	struct sampling sampling;
	size_t most;  /* tokens at most */
	bool endless; /* go on behind the end-of-text tokens: for measuring */
};

enum engine_finish {
	ENGINE_STOP,
	ENGINE_LENGTH,
	ENGINE_REPETITION,
	ENGINE_NAN, /* the model computed nonsense */
};

struct engine_result {
	uint64_t id;
	enum engine_finish finish;
	unsigned *tokens;	  /* without the end-of-text token; the caller frees both */
	float *log_probabilities; /* one a token, as the model has them */
	size_t count;
	unsigned period; /* ENGINE_REPETITION: tokens in the loop */
};

enum rc engine_open(struct engine **, struct model *, const struct engine_options *, struct err *);
void engine_close(struct engine *);

/* RC_FAILED: the request can never run (longer than the model's positions, or than the cache). */
enum rc engine_add(struct engine *, const struct engine_request *, struct err *);

/* One pass. False: there was nothing to do. */
bool engine_step(struct engine *);

/* A finished request, in the order in which they finished; false: none. */
bool engine_take(struct engine *, struct engine_result *);

struct engine_load {
	unsigned waiting, running;
	size_t blocks, free_blocks;
	uint64_t prompt_tokens, shared_tokens, generated_tokens, preempted; /* since the start */
	uint64_t drafted, accepted; /* guesses, and those that came true */
};

struct engine_load engine_load(const struct engine *);

#endif
