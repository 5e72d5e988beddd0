/* SPDX-License-Identifier: MIT
 *
 * buf: a growing byte buffer with a hard maximum.
 *
 * data is always followed by a NUL that len does not count.  A write that would pass `max` leaves
 * the buffer as it was and sets `overflow`; check it once, at the end.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>

struct buf {
	char *data;
	size_t len, cap, max;
	bool overflow;
};

void buf_init(struct buf *b, size_t max);
void buf_release(struct buf *b); /* frees; the buffer is as after buf_init() */
void buf_clear(struct buf *b);   /* keeps the memory */

void buf_add(struct buf *b, const void *data, size_t len);
void buf_adds(struct buf *b, const char *s);
void buf_addc(struct buf *b, char c);
void buf_addf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_vaddf(struct buf *b, const char *format, va_list ap);

/* Drop the first n bytes. */
void buf_consume(struct buf *b, size_t n);

/* Hand the NUL-terminated memory to the caller, who frees it; the buffer is empty afterwards. */
char *buf_detach(struct buf *b);

#endif
