/* SPDX-License-Identifier: MIT
 *
 * suggest: Levenshtein's distance, with case and the choice of '-' or '_' left out of it.
 */
#include "base/suggest.h"
#include "base/buf.h"
#include "base/name.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define WORD_MAX_BYTES 40

static char fold(char c)
{
	return c == '-' ? '_' : (char)tolower((unsigned char)c);
}

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* One row of the usual table at a time; long words are far from all. */
static size_t distance(const char *a, const char *b)
{
	size_t row[WORD_MAX_BYTES + 1];
	size_t n = strlen(b);

	if (strlen(a) > WORD_MAX_BYTES || n > WORD_MAX_BYTES)
		return SIZE_MAX;
	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 0; a[i]; i++) {
		size_t diagonal = row[0];

		row[0] = i + 1;
		for (size_t j = 1; j <= n; j++) {
			size_t change = diagonal + (fold(a[i]) != fold(b[j - 1]));

			diagonal = row[j];
			row[j] = min_size(change, 1 + min_size(row[j], row[j - 1]));
		}
	}
	return row[n];
}

void suggest(struct suggestion *best, const char *typed, const char *word)
{
	size_t d = distance(typed, word);

	if (d <= (strlen(word) + 2) / 3 && (!best->word || d < best->distance))
		*best = (struct suggestion){ word, d };
}

struct shown shown(const char *text)
{
	struct shown out = { "" };
	size_t len = strlen(text);
	struct buf b;

	buf_init(&b, sizeof(out.s) - 4);
	for (size_t i = 0, n; i < len && !b.overflow; i += n) {
		n = utf8_sequence(text + i, len - i);
		n = n ? n : 1;
		name_escape(&b, text + i, n);
	}
	snprintf(out.s, sizeof(out.s), "%s%s", b.data ? b.data : "", b.overflow ? "..." : "");
	buf_release(&b);
	return out;
}
