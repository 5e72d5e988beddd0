/* SPDX-License-Identifier: MIT
 *
 * scan: reads the large parts of a tokenizer.json in place: hundreds of thousands of short strings,
 * for which a tree of values costs more than all the rest of loading. The small parts are cut out
 * as spans and given to jansson.
 *
 * The text is checked to be UTF-8 by the caller. After a failure every call fails.
 */
#ifndef MODELS_TOKENIZER_SCAN_H
#define MODELS_TOKENIZER_SCAN_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct span {
	const char *s;
	size_t len;
};

struct scan {
	const char *at, *end, *begin;
	const char *file, *path; /* for the error: "tokenizer.json", "model.vocab" */
	struct err *err;
	struct buf text; /* of a string with escapes */
	bool failed;
};

void scan_init(struct scan *, struct span, const char *begin, const char *file, const char *path,
	       struct err *);
void scan_release(struct scan *);

/* Fill the error with the place, and return false. */
bool scan_fail(struct scan *, const char *format, ...) __attribute__((format(printf, 2, 3)));

bool scan_open(struct scan *, char bracket);
/* Another element or member follows? `first` starts true. At the end the bracket is consumed. */
bool scan_more(struct scan *, char bracket, bool *first);
/* Valid until the next string. */
bool scan_string(struct scan *, struct span *);
bool scan_key(struct scan *, struct span *);
bool scan_number(struct scan *, uint32_t max, uint32_t *);
/* Any value, uninterpreted. */
bool scan_value(struct scan *, struct span *);
/* Nothing but space is left. */
bool scan_finish(struct scan *);
/* The character that the next value begins with; 0 at the end. */
char scan_peek(struct scan *);

#endif
