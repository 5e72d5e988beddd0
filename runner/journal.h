/* SPDX-License-Identifier: MIT
 *
 * journal: the pages of one attempt, a record each, in the order they were finished.
 *
 * A record is one line, "CRC SP JSON LF": CRC is the CRC-32C of JSON as eight hex digits.  The first
 * record is the head, the last one the end; between them stands each page at most once:
 *
 *   {"journal":1,"key":KEY,"identity":SHA256}     of document, pipeline and model
 *   {"page":1,"status":"ok|flagged|failed", ...}  see page_record in document.c
 *   {"end":PAGES}
 *
 * Readers stop at the first line whose checksum does not hold: what a crash tore off was never
 * acknowledged.  Only the attempt that made a journal writes it.
 */
#ifndef RUNNER_JOURNAL_H
#define RUNNER_JOURNAL_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define JOURNAL_NAME       "pages"
#define JOURNAL_RECORD_MAX (64u << 20)

struct journal {
	int fd; /* owned */
	unsigned unsynced;
};

/* Create the journal of a new attempt in dirfd and write its head. */
enum rc journal_create(struct journal *j, int dirfd, const char *key, const char *identity,
		       struct err *err);
/* Append one record (borrowed). RC_RETRY when the disk is full: what was written of it is cut off. */
enum rc journal_append(struct journal *j, json_t *record, struct err *err);
/* Sync what was appended since the last call. */
void journal_sync(struct journal *j);
void journal_close(struct journal *j);

/* Where a page's record lies in a journal file. */
struct journal_page {
	off_t offset; /* of the JSON; 0 = the journal does not hold this page */
	uint32_t length;
};

struct journal_index {
	char key[128];
	char identity[65];
	struct journal_page *pages; /* [n_pages], page N at N-1; a later record of a page wins */
	uint32_t n_pages;           /* highest page seen */
	bool ended;
	uint32_t end_pages;
};

/* Read a journal up to the first bad record. RC_FAILED, reason "journal", when not even the head
 * is good. Caller releases. */
enum rc journal_read(int fd, struct journal_index *index, uint32_t max_pages, struct err *err);
void journal_index_release(struct journal_index *index);

/* One page's record, or NULL when the index has none. The checksum was verified by journal_read().
 * New reference. */
json_t *journal_page(int fd, const struct journal_index *index, uint32_t page, struct err *err);

#endif
