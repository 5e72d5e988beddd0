/* SPDX-License-Identifier: MIT
 *
 * copy: the bytes of one open file into another, shared on disk where the file system can.
 */
#ifndef RUNNER_COPY_H
#define RUNNER_COPY_H

#include "base/err.h"

#include <stdbool.h>

/* All of a file, from its start, into an empty one. RC_FAILED, reasons "read-error" and
 * "write-error". */
enum rc copy_data(int from, int to, struct err *err);

/* From where `from` stands to its end, to anything that can be written. The same reasons. */
enum rc copy_stream(int from, int to, struct err *err);

/* Open a document to read: a regular file, never waiting for a FIFO's other end. `follow`: a link
 * may stand for it. A descriptor, or -1 and err. dirfd as in openat(2). */
int copy_open(int dirfd, const char *path, bool follow, struct err *err);

#endif
