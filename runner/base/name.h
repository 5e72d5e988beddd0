/* SPDX-License-Identifier: MIT
 *
 * name: file names and messages are bytes; these functions make them fit for lines, JSON and
 * people without losing any of them.
 */
#ifndef BASE_NAME_H
#define BASE_NAME_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

/* Length of the valid UTF-8 sequence at s (1-4), or 0. Surrogates and overlong forms are invalid. */
size_t utf8_sequence(const char *s, size_t len);
bool utf8_valid(const char *s, size_t len);

/* Append for display: valid UTF-8 as it is; control characters, the C1 range, bidirectional
 * overrides and bytes that are not UTF-8 as \xNN, a backslash as \\. Unambiguous. */
void name_escape(struct buf *out, const char *s, size_t len);

/* Percent-encoding of everything but [A-Za-z0-9._/~+,=@-] and valid UTF-8 above U+009F: reversible,
 * one line, valid UTF-8. */
void name_encode(struct buf *out, const char *s, size_t len);
/* false when s is not a valid encoding or holds %00. */
bool name_decode(struct buf *out, const char *s, size_t len);

/* Append s with every byte that is not valid UTF-8 replaced by U+FFFD. */
void utf8_repair(struct buf *out, const char *s, size_t len);

/* The last path component as a safe file name: no '/', no control characters, no leading dot,
 * at most 100 bytes, "unnamed" when nothing is left. */
void name_sanitise(struct buf *out, const char *path, size_t len);

#endif
