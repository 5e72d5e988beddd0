/* SPDX-License-Identifier: MIT
 *
 * For each two tokens in a row, where they stood last: a table by their hash, in which the later takes the
 * place of the earlier. As long as what followed there follows here, it is followed further. (Longer runs of tokens,
 * the longest known first, found no better guesses: SPEED.md.)
 *
 * Invariant: follows < count.
 */
#include "draft.h"

#include "base/err.h"
#include "base/num.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { TRUST_MAX = 16 };

struct draft {
	uint32_t *behind; /* [mask + 1]: the token behind a pair; 0: none */
	size_t mask;
	size_t follows; /* the token that may come next is as this one; 0: no guess */
	unsigned trust; /* tokens that may be guessed at once */
};

struct draft *draft_new(const unsigned *tokens, size_t count, size_t most)
{
	struct draft *d = xcalloc(1, sizeof(*d));
	size_t size = 64;

	while (size < 2 * most)
		size *= 2;
	d->mask = size - 1;
	d->behind = xcalloc(size, sizeof(*d->behind));
	for (size_t i = 1; i <= count; i++)
		draft_add(d, tokens, i);
	d->trust = 0; /* nobody wrote that */
	return d;
}

void draft_free(struct draft *d)
{
	if (d)
		free(d->behind);
	free(d);
}

static void check_guess(struct draft *d, const unsigned *tokens, size_t count)
{
	if (!d->follows)
		return;
	if (tokens[d->follows] == tokens[count - 1]) {
		d->follows++;
		d->trust = (unsigned)min_u64(d->trust + 1, TRUST_MAX);
	} else {
		d->follows = 0;
		d->trust /= 2;
	}
}

static uint64_t hash_pair(const unsigned *pair)
{
	return ((uint64_t)pair[0] << 32 | pair[1]) * 0x9e3779b97f4a7c15u >> 32;
}

void draft_add(struct draft *d, const unsigned *tokens, size_t count)
{
	const unsigned *pair;
	uint32_t *behind;

	check_guess(d, tokens, count);
	if (count < 2)
		return;
	pair = tokens + count - 2;
	behind = &d->behind[hash_pair(pair) & d->mask];
	if (!d->follows && *behind && !memcmp(tokens + *behind - 2, pair, 2 * sizeof(*pair)))
		d->follows = *behind;
	*behind = (uint32_t)count;
}

bool draft_ready(const struct draft *d)
{
	return d->follows && d->trust;
}

size_t draft_guess(const struct draft *d, unsigned *tokens, size_t count, size_t most)
{
	size_t n = d->follows ? min_u64(d->trust, most) : 0;

	/* One by one: what is guessed may be guessed from. */
	for (size_t i = 0; i < n; i++)
		tokens[count + i] = tokens[d->follows + i];
	return n;
}
