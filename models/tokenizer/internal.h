/* SPDX-License-Identifier: MIT
 *
 * internal: what the files of the tokenizer share.
 */
#ifndef MODELS_TOKENIZER_INTERNAL_H
#define MODELS_TOKENIZER_INTERNAL_H

#include "tokenizer/split.h"
#include "tokenizer/strings.h"
#include "tokenizer/tokenizer.h"

#include <jansson.h>

#define NO_TOKEN UINT32_MAX

/* More than any vocabulary has; what a hostile file may make us allocate follows from these. */
#define TOKENS_MAX	(1u << 22)
#define TOKEN_BYTES_MAX (1u << 16)
#define ADDED_MAX	(1u << 16)
#define FILE_MAX	((size_t)512 << 20)
#define TEXT_MAX	((size_t)256 << 20)

/* An entry of the vocabulary. `bytes` is into tokenizer.bytes. */
struct token {
	uint32_t at, len; /* len 0: no such token */
	bool special;
};

struct added {
	char *text; /* owned, as normalised when `normalized` */
	size_t len;
	uint32_t id;
	bool special, lstrip, rstrip, single_word, normalized;
};

/* Added tokens by their first byte, the longest first: [first[c], first[c + 1]). */
struct matcher {
	const struct added **token;
	size_t count;
	size_t first[257];
};

/* An open-addressed table of pairs; a == NO_TOKEN is an empty slot. */
struct merge {
	uint32_t a, b, rank, id;
};

/* A word remembered with its ids: one cache line. */
#define CACHED_BYTES 30
#define CACHED_IDS   8
struct cached {
	uint8_t len, count;
	char text[CACHED_BYTES];
	uint32_t id[CACHED_IDS];
};

/* Memory for merging, kept from word to word. */
struct bpe_scratch;

struct tokenizer {
	struct token *token; /* [size] */
	size_t size;
	struct buf bytes;
	struct strings names; /* the vocabulary as the file spells it */
	uint32_t byte_token[256];
	uint32_t eos;

	struct merge *merges;
	size_t merges_mask, merge_count;
	bool ignore_merges;

	bool nfc;
	struct split *split[SPLITS_MAX];
	size_t split_count;
	size_t prefix_before; /* the split before which a space is put; SIZE_MAX: none */

	struct added *added;
	size_t added_count;
	struct strings added_names;
	struct matcher raw, normalized;

	struct token_ids before, after; /* of the post_processor */

	struct cached *cache;
	struct bpe_scratch *scratch;
};

/* config.c: one member of the file each. */
enum rc config_normalizer(struct tokenizer *, json_t *, const char *file, struct err *);
enum rc config_pre_tokenizer(struct tokenizer *, json_t *, const char *file, struct err *);
enum rc config_post_processor(struct tokenizer *, json_t *, const char *file, struct err *);
enum rc config_decoder(json_t *, const char *file, struct err *);
enum rc config_added_tokens(struct tokenizer *, json_t *, const char *file, struct err *);

/* added.c */
void added_prepare(struct tokenizer *);
void added_release(struct tokenizer *);

struct added_match {
	const struct added *token;
	size_t start, stop;
};

/* The first match at or after *at, which moves behind it. `done`: what earlier ones took. */
bool added_next(const struct matcher *, const char *s, size_t len, size_t *at, size_t done,
		struct added_match *);

/* bpe.c: merges_grow() before the first merge. */
void merges_grow(struct tokenizer *);
/* false when the pair is there already. */
bool merges_add(struct tokenizer *, uint32_t a, uint32_t b, uint32_t id);
void bpe_word(struct tokenizer *, const char *s, size_t len, struct token_ids *out);
void bpe_release(struct tokenizer *);

/* alphabet.c: the 256 printable characters that stand for bytes in the file. */
void alphabet_encode(struct buf *out, const char *bytes, size_t len);
/* false when s has another character; what was appended is taken back. */
bool alphabet_decode(struct buf *out, const char *s, size_t len);

#endif
