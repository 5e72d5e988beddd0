/* SPDX-License-Identifier: MIT
 *
 * draft: what a sequence may write next, guessed from what it has read and written itself: where its last
 * tokens stood before, what followed them there. Rows of tables, tags and headers come again and again, and
 * a text that is to be mended is mostly written as it was read.
 *
 * How many tokens are guessed at once depends on how guesses went lately: one more for each that came true, half as
 * many after one that did not. Guesses are looked at whether anybody uses them or not.
 */
#ifndef MODELS_DRAFT_H
#define MODELS_DRAFT_H

#include <stdbool.h>
#include <stddef.h>

struct draft;

/* Of a sequence that begins with these tokens and has `most` in the end. */
struct draft *draft_new(const unsigned *tokens, size_t count, size_t most);
void draft_free(struct draft *);

/* Look at the last of `count` tokens; to be called once for each that is written. */
void draft_add(struct draft *, const unsigned *tokens, size_t count);

/* Would there be a guess, if the next token were as guessed? */
bool draft_ready(const struct draft *);

/* Puts up to `most` tokens behind the `count` there are, and returns how many. */
size_t draft_guess(const struct draft *, unsigned *tokens, size_t count, size_t most);

#endif
