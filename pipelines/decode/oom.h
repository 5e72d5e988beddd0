/* SPDX-License-Identifier: MIT
 *
 * oom: out of memory ends the process; nothing here returns NULL.
 */
#ifndef DECODE_OOM_H
#define DECODE_OOM_H

#include <stddef.h>

/* From here on, write these bytes to standard output and exit 0 (all is explained) instead of
 * exiting 70. For who writes to standard output only where nothing allocates, so that the words
 * never stand within others. Borrowed; NULL for 70 again. */
void oom_last_words(const void *bytes, size_t len);

#endif
