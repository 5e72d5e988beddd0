/* SPDX-License-Identifier: MIT
 *
 * index: which result was made from which document, for telling duplicates.
 *
 * SPOOL/state/index has one line a result: IDENTITY (16 hex digits) SP PATH (encoded, beneath out/).
 * It is derived: when it is missing it is built anew from the document.json files in out/, and a
 * line whose result is gone counts for nothing.  For an original that stays in in/ there is a second
 * line, with the key of kept.c in the place of the identity.
 */
#ifndef RUNNER_INDEX_H
#define RUNNER_INDEX_H

#include "spool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct index {
	const struct spool *spool;
	int fd;
	struct index_entry {
		uint64_t identity;
		uint64_t offset; /* of the line; identity and offset 0: empty */
	} *entries;
	size_t n, cap; /* open addressing, cap a power of two */
};

enum rc index_open(struct index *ix, const struct spool *spool, struct err *err);
void index_close(struct index *ix);
void index_add(struct index *ix, const char *identity, const char *result);
/* Is there a line of this identity, whether or not its result still exists? */
bool index_has(const struct index *ix, const char *identity);
/* Path beneath out/ of an earlier result with this identity that still exists, or NULL.
 * The caller frees. */
char *index_find(const struct index *ix, const char *identity);

#endif
