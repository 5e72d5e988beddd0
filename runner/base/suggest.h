/* SPDX-License-Identifier: MIT
 *
 * suggest: the word that a mistyped one was meant to be, and the mistyped one fit for a message.
 */
#ifndef BASE_SUGGEST_H
#define BASE_SUGGEST_H

#include <stddef.h>

/* The nearest of the words shown so far; start with { NULL, 0 }. word stays NULL while all of them
 * are too far from what was typed to have been meant. */
struct suggestion {
	const char *word; /* borrowed */
	size_t distance;
};

void suggest(struct suggestion *best, const char *typed, const char *word);

/* Text escaped as by name_escape() and cut, "..." added: printf("%s", shown(text).s). */
struct shown {
	char s[100];
};
struct shown shown(const char *text);

#endif
