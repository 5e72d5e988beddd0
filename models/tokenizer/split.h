/* SPDX-License-Identifier: MIT
 *
 * split: cuts a text into the words that are encoded by themselves, with a regular expression of
 * the file.
 *
 * The expressions of the families that are known (words.c) have a scanner by hand, many times as
 * fast; any other goes through PCRE2 (pattern.c). Both find the same words, and the same as the
 * reference implementation, whose expressions are Oniguruma's.
 */
#ifndef MODELS_TOKENIZER_SPLIT_H
#define MODELS_TOKENIZER_SPLIT_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

#define SPLITS_MAX 8

struct split;
struct word_rules;
struct pattern;

enum split_keep {
	SPLIT_KEEP_ALL,	    /* what matches, and what lies between: "Isolated" */
	SPLIT_KEEP_MATCHES, /* "Removed", inverted */
	SPLIT_KEEP_GAPS,    /* "Removed" */
};

enum split_by {
	SPLIT_BEST,  /* by hand where the expression is known */
	SPLIT_REGEX, /* always PCRE2: for tests */
};

/* `place` is what errors call the expression: "tokenizer.json: pre_tokenizer.pattern.Regex". */
enum rc split_new(struct split **, const char *regex, size_t len, enum split_keep, enum split_by,
		  const char *place, struct err *);
void split_free(struct split *);

/* The next piece of s; false at the end, or with *rc set when the expression gives up. Pieces are
 * never empty. The state starts zeroed. */
struct split_at {
	size_t at;	    /* before this all is done */
	size_t from;	    /* where to look on: behind an empty match */
	size_t start, stop; /* a match that waits for the gap before it */
	bool waiting, ended;
};
bool split_next(struct split *, const char *s, size_t len, struct split_at *, size_t *start,
		size_t *stop, enum rc *rc, struct err *);

/* words.c: the rules of a known expression, or NULL. */
const struct word_rules *words_known(const char *regex, size_t len);
/* Length of the word at s + at; every text is covered by words without gaps. */
size_t words_next(const struct word_rules *, const char *s, size_t at, size_t len);

/* pattern.c */
enum rc pattern_new(struct pattern **, const char *regex, size_t len, const char *place,
		    struct err *);
void pattern_free(struct pattern *);
/* A match at or after `from`; *found tells. s is valid UTF-8. */
enum rc pattern_find(struct pattern *, const char *s, size_t len, size_t from, size_t *start,
		     size_t *stop, bool *found, struct err *);

#endif
