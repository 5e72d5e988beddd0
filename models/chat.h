/* SPDX-License-Identifier: MIT
 *
 * chat: from a pipeline's prompt and a page to the tokens that a model was trained to answer.
 *
 * Qwen's families speak ChatML, Phi-4-mini has marks of its own. What differs besides (a default system
 * message, thinking) is told by the chat template in the model's folder, which is searched for a few words
 * and never run: it is a program.
 * Invariant: only the template's own words become special tokens; a prompt or a document's text
 * that contains "<|im_end|>" is ordinary letters.
 */
#ifndef MODELS_CHAT_H
#define MODELS_CHAT_H

#include "config.h"
#include "tokenizer/tokenizer.h"

enum chat_thinking {
	CHAT_NEVER,
	CHAT_OPTIONAL, /* closed empty thoughts keep it from thinking */
	CHAT_ALWAYS,   /* the template opens the thoughts */
};

struct chat {
	const struct model_config *config;
	struct tokenizer *tokenizer;
	const char *system; /* what the template says when nobody else does; NULL: nothing */
	enum chat_thinking thinking;
	const struct chat_marks *marks; /* static */
	char *prompt; /* prompt.txt beside the weights, the vendor's own words; NULL: none. Owned */
};

/* RC_FATAL: the tokenizer lacks the marks' tokens or does not fit the model, a file is no text, or the
 * template is another than the family's. */
enum rc chat_open(struct chat *, const char *folder, const struct model_config *,
		  struct tokenizer *, struct err *);
void chat_release(struct chat *);

struct chat_message {
	const char *prompt;
	const char *text;	/* for a text model: what the prompt is about; or NULL */
	unsigned rows, columns; /* of the page's tokens; 0: no page */
	bool think;
};

/* Append the tokens; *first is where those of the page begin. */
enum rc chat_build(const struct chat *, const struct chat_message *, struct token_ids *out,
		   size_t *first, struct err *);

#endif
