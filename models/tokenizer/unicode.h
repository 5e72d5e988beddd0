/* SPDX-License-Identifier: MIT
 *
 * unicode: what a tokenizer asks of Unicode, in the versions that the reference implementation
 * has: character classes of Unicode 16, normalisation of Unicode 9.
 */
#ifndef MODELS_TOKENIZER_UNICODE_H
#define MODELS_TOKENIZER_UNICODE_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A character is in at most one of the first six. */
enum {
	CLASS_UPPER = 1,   /* Lu, Lt */
	CLASS_LOWER = 2,   /* Ll */
	CLASS_OTHER = 4,   /* Lm, Lo */
	CLASS_MARK = 8,	   /* M */
	CLASS_NUMBER = 16, /* N */
	CLASS_SPACE = 32,  /* White_Space */
	CLASS_WORD = 64,   /* \w: Alphabetic, M, Nd, Pc */
	CLASS_JOINS = 128, /* NFC may change it, or join it to what stands before it */
	CLASS_LETTER = CLASS_UPPER | CLASS_LOWER | CLASS_OTHER,
};

#define CODE_POINTS 0x110000

/* CODE_POINTS bytes, made at the first call. */
const unsigned char *unicode_classes(void);

/* General category ("L", "Lu", "Nd") of the code points that may be newer than the libraries':
 * append "\x{..}-\x{..}" for each range of the category `name` (1 or 2 letters). */
void unicode_newer(struct buf *out, const char *name, size_t len);

/* The code point at s (valid UTF-8) and its length. */
static inline size_t utf8_get(const char *s, uint32_t *c)
{
	const unsigned char *u = (const unsigned char *)s;

	if (u[0] < 0x80) {
		*c = u[0];
		return 1;
	}
	if (u[0] < 0xe0) {
		*c = (u[0] & 0x1fu) << 6 | (u[1] & 0x3fu);
		return 2;
	}
	if (u[0] < 0xf0) {
		*c = (u[0] & 0x0fu) << 12 | (u[1] & 0x3fu) << 6 | (u[2] & 0x3fu);
		return 3;
	}
	*c = (u[0] & 7u) << 18 | (u[1] & 0x3fu) << 12 | (u[2] & 0x3fu) << 6 | (u[3] & 0x3fu);
	return 4;
}

/* Start of the character that ends at `end`; there is one. */
static inline size_t utf8_back(const char *s, size_t end)
{
	do
		end--;
	while ((s[end] & 0xc0) == 0x80);
	return end;
}

/* Length of the longest valid prefix. */
size_t utf8_valid_prefix(const char *s, size_t len);
/* Append s with each maximal subpart of an ill-formed sequence as U+FFFD. An incomplete sequence
 * that ends s is left out when `rest` is given, and *rest is its length. */
void utf8_replace(struct buf *out, const char *s, size_t len, size_t *rest);

/* NFC. false when s (valid UTF-8) is NFC already, and nothing is appended. */
bool unicode_nfc(struct buf *out, const char *s, size_t len);

#endif
