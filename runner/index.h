/* SPDX-License-Identifier: MIT
 *
 * index: which result was made from which document, for telling duplicates.
 *
 * SPOOL/state/index has one line a result: IDENTITY (16 hex digits) SP PATH (encoded, beneath out/).
 * It is derived: when it is missing it is built anew from the document.json files in out/, and a
 * line whose result is gone counts for nothing.
 */
#ifndef RUNNER_INDEX_H
#define RUNNER_INDEX_H

#include "spool.h"

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
/* Path beneath out/ of an earlier result with this identity that still exists, or NULL.
 * The caller frees. */
char *index_find(const struct index *ix, const char *identity);

#endif
