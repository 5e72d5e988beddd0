/* SPDX-License-Identifier: MIT
 *
 * split: matches one after the other, and the gaps between them.
 */
#include "tokenizer/split.h"
#include "tokenizer/unicode.h"

#include <stdlib.h>

struct split {
	enum split_keep keep;
	const struct word_rules *words; /* or: */
	struct pattern *pattern;
};

enum rc split_new(struct split **out, const char *regex, size_t len, enum split_keep keep,
		  enum split_by by, const char *place, struct err *err)
{
	struct split *split = xcalloc(1, sizeof(*split));
	enum rc rc = RC_OK;

	split->keep = keep;
	if (by == SPLIT_BEST && keep != SPLIT_KEEP_GAPS)
		split->words = words_known(regex, len);
	if (!split->words)
		rc = pattern_new(&split->pattern, regex, len, place, err);
	if (rc) {
		split_free(split);
		split = NULL;
	}
	*out = split;
	return rc;
}

void split_free(struct split *split)
{
	if (!split)
		return;
	pattern_free(split->pattern);
	free(split);
}

/* Over one character, if there is one. */
static bool step(const char *s, size_t len, size_t *at)
{
	uint32_t c;

	if (*at == len)
		return false;
	*at += utf8_get(s + *at, &c);
	return true;
}

bool split_next(struct split *split, const char *s, size_t len, struct split_at *at, size_t *start,
		size_t *stop, enum rc *rc, struct err *err)
{
	*rc = RC_OK;
	if (split->words) {
		if (at->at == len)
			return false;
		*start = at->at;
		*stop = at->at += words_next(split->words, s, at->at, len);
		return true;
	}
	for (;;) {
		size_t gap = at->at;
		bool found;

		if (at->waiting) {
			at->waiting = false;
			*start = at->start;
			*stop = at->at = at->from = at->stop;
			if (*stop == *start && !step(s, len, &at->from))
				at->ended = true;
			if (split->keep != SPLIT_KEEP_GAPS && *stop > *start)
				return true;
			continue;
		}
		if (at->ended)
			return false;
		*rc = pattern_find(split->pattern, s, len, at->from, &at->start, &at->stop, &found,
				   err);
		if (*rc)
			return false;
		at->waiting = found;
		at->ended = !found;
		*start = gap;
		*stop = found ? at->start : len;
		if (split->keep != SPLIT_KEEP_MATCHES && *stop > *start)
			return true;
	}
}
