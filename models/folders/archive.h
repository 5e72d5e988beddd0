/* SPDX-License-Identifier: MIT
 *
 * What pack.c and unpack.c agree on.
 */
#ifndef MODELS_FOLDERS_ARCHIVE_H
#define MODELS_FOLDERS_ARCHIVE_H

#include <stdbool.h>

/* The folder that everything in an archive lies in: "org--name" for "org/name". The caller frees
 * it. */
char *archive_top(const char *model);
bool archive_top_valid(const char *top);

#endif
