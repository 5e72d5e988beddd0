/* SPDX-License-Identifier: MIT
 *
 * tokenizer: text to token ids and back, from a Hugging Face tokenizer.json: byte-level BPE.
 *
 * Same ids and same text as the reference implementation (the `tokenizers` package), and nothing
 * guessed: a file with a field or a type that is not known here is refused by name. The file is
 * hostile; so is the text.
 *
 * One tokenizer encodes for one thread at a time (it remembers words); everything that takes a
 * const tokenizer may be called by many.
 */
#ifndef MODELS_TOKENIZER_H
#define MODELS_TOKENIZER_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer;

/* tokenizer.json of `folder`, and its tokenizer_config.json for the end token where there is one.
 */
enum rc tokenizer_open(struct tokenizer **, const char *folder, struct err *);
/* The same from memory; `name` is what errors call the file. */
enum rc tokenizer_parse(struct tokenizer **, const char *json, size_t len, const char *name,
			struct err *);
void tokenizer_free(struct tokenizer *);

/* A growing array of ids; zero-initialised it is empty. */
struct token_ids {
	uint32_t *id;
	size_t count, cap;
};

void token_ids_add(struct token_ids *, uint32_t id);
void token_ids_release(struct token_ids *);

/*
 * By default text is only text: what looks like a special token in a document becomes the ordinary
 * tokens of its letters, so a document cannot speak for the template.
 */
enum {
	ENCODE_ADDED = 1,    /* added tokens (special ones too) in the text are recognised */
	ENCODE_TEMPLATE = 2, /* put around it what the file's post_processor puts around a text */
};

/* Append the ids of text. Bytes that are not UTF-8 count as U+FFFD, one a maximal subpart. */
enum rc tokenizer_encode(struct tokenizer *, const char *text, size_t len, unsigned flags,
			 struct token_ids *out, struct err *);

/* Ids are below this; there may be gaps. A model's matrix often has more rows: never emit those. */
size_t tokenizer_size(const struct tokenizer *);
/* The bytes of one token (a part of a character, perhaps); NULL when there is no such token. */
const char *tokenizer_bytes(const struct tokenizer *, uint32_t id, size_t *len);
/* An added token by its text. */
bool tokenizer_find(const struct tokenizer *, const char *text, uint32_t *id);
bool tokenizer_is_special(const struct tokenizer *, uint32_t id);
/* eos_token of tokenizer_config.json. */
bool tokenizer_eos(const struct tokenizer *, uint32_t *id);

/* Append the text of ids; bytes that are not UTF-8 as U+FFFD, unknown ids as nothing. */
void tokenizer_decode(const struct tokenizer *, const uint32_t *ids, size_t count,
		      bool skip_special, struct buf *out);

/* The same token by token: a character that is not whole yet is kept back. Starts zeroed. */
struct token_stream {
	unsigned char carry[4];
	size_t len;
};

void token_stream_push(struct token_stream *, const struct tokenizer *, uint32_t id,
		       struct buf *out);
/* What is left; the stream is as new afterwards. */
void token_stream_end(struct token_stream *, struct buf *out);

#endif
