/* SPDX-License-Identifier: MIT
 *
 * Counts, for every period, how long the output has been repeating with it.
 */
#include "repetition.h"

bool repetition_add(struct repetition *r, const unsigned *tokens, size_t count, unsigned *period)
{
	unsigned last = tokens[count - 1], found = 0;

	for (unsigned p = 1; p <= REPETITION_PERIOD && p < count; p++) {
		r->run[p] = tokens[count - 1 - p] == last ? r->run[p] + 1 : 0;
		if (!found && r->run[p] >= REPETITION_TOKENS && r->run[p] >= REPETITION_TIMES * p)
			found = p;
	}
	*period = found;
	return found != 0;
}
