/* SPDX-License-Identifier: MIT
 *
 * unicode-data: ranges of code points, each table closed by an empty one.
 */
#ifndef MODELS_TOKENIZER_UNICODE_DATA_H
#define MODELS_TOKENIZER_UNICODE_DATA_H

#include <stdint.h>

struct unicode_range {
	uint32_t first, last;
};

struct unicode_newer {
	uint32_t first, last;
	char category[3];
};

/* Assigned by Unicode 15 to 16, with their general category. */
extern const struct unicode_newer unicode_newer_ranges[];
/* Marks and compositions newer than Unicode 9: the reference's NFC takes them for letters that
 * join nothing. */
extern const struct unicode_range unicode_frozen_ranges[];

#endif
