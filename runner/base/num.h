/* SPDX-License-Identifier: MIT
 *
 * num: checked arithmetic.  Every size that comes from a document passes through here.
 */
#ifndef BASE_NUM_H
#define BASE_NUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof(*(a)))

/* true and *out set when the result fits. */
static inline bool checked_mul(size_t a, size_t b, size_t *out)
{
	return !__builtin_mul_overflow(a, b, out);
}

static inline bool checked_add(size_t a, size_t b, size_t *out)
{
	return !__builtin_add_overflow(a, b, out);
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Strict decimal: digits only, whole string, at most `max`. */
bool parse_u64(const char *text, uint64_t max, uint64_t *out);

#endif
