/* SPDX-License-Identifier: MIT
 *
 * serve: answer the supervisor's requests for pages, in the order they come.
 */
#ifndef DECODE_SERVE_H
#define DECODE_SERVE_H

#include "base/lines.h"
#include "decode.h"

/* The document is on DECODE_DOCUMENT_FD, the slots behind it; `in` is where the requests come
 * from. From inside the sandbox. The exit code of the program. */
int serve(struct lines *in, const struct pipeline *p, unsigned slots);

#endif
