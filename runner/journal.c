/* SPDX-License-Identifier: MIT */
#include "journal.h"
#include "durable.h"
#include "base/buf.h"
#include "base/hash.h"
#include "base/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PREFIX 9 /* eight hex digits and a space */

enum rc journal_append(struct journal *j, json_t *record, struct err *err)
{
	char *json = json_dumps(record, JSON_COMPACT | JSON_SORT_KEYS);
	size_t len = json ? strlen(json) : 0;
	off_t start = lseek(j->fd, 0, SEEK_END);
	char prefix[PREFIX + 1];
	enum rc rc = RC_OK;

	if (!json)
		BUG("record cannot be dumped");
	if (len > JOURNAL_RECORD_MAX) {
		free(json);
		return err_set(err, RC_FAILED, "limit:result-kibibytes",
			       "record of %zu bytes is too long", len);
	}
	snprintf(prefix, sizeof(prefix), "%08x ", crc32c(0, json, len));
	if (start < 0 || write_full(j->fd, prefix, PREFIX) || write_full(j->fd, json, len) ||
	    write_full(j->fd, "\n", 1)) {
		rc = err_errno(err, RC_RETRY, "write-error", "append to journal");
		if (start >= 0 && ftruncate(j->fd, start))
			rc = RC_FATAL;
	} else {
		j->unsynced++;
	}
	free(json);
	return rc;
}

enum rc journal_create(struct journal *j, int dirfd, const char *key, const char *identity,
		       struct err *err)
{
	json_t *head;
	enum rc rc;

	j->unsynced = 0;
	j->fd = openat(dirfd, JOURNAL_NAME, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (j->fd < 0)
		return err_errno(err, RC_RETRY, "write-error", "create journal");
	head = json_pack("{s:i, s:s, s:s}", "journal", 1, "key", key, "identity", identity);
	rc = journal_append(j, head, err);
	json_decref(head);
	if (rc != RC_OK)
		journal_close(j);
	return rc;
}

void journal_sync(struct journal *j)
{
	if (j->unsynced)
		durable_sync(j->fd, "journal");
	j->unsynced = 0;
}

void journal_close(struct journal *j)
{
	if (j->fd >= 0)
		close(j->fd);
	j->fd = -1;
}

static void index_page(struct journal_index *index, uint32_t page, off_t offset, size_t length)
{
	if (page > index->n_pages) {
		index->pages = xrealloc(index->pages, page * sizeof(*index->pages));
		memset(index->pages + index->n_pages, 0,
		       (page - index->n_pages) * sizeof(*index->pages));
		index->n_pages = page;
	}
	index->pages[page - 1] = (struct journal_page){ offset, (uint32_t)length };
}

/* One good record into the index; false when it does not belong in a journal. */
static bool index_record(struct journal_index *index, bool first, const char *json, size_t len,
			 off_t offset, uint32_t max_pages)
{
	json_t *record = json_loadb(json, len, JSON_REJECT_DUPLICATES, NULL);
	const char *key = NULL, *identity = NULL;
	json_int_t version = 0, page = 0, end = -1;
	bool good = false;

	if (!record)
		return false;
	if (first) {
		good = !json_unpack(record, "{s:I, s:s, s:s}", "journal", &version, "key", &key,
				    "identity", &identity) &&
		       version == 1 && strlen(key) < sizeof(index->key) && strlen(identity) == 64;
		if (good) {
			strcpy(index->key, key);
			strcpy(index->identity, identity);
		}
	} else if (!json_unpack(record, "{s:I}", "end", &end)) {
		good = end >= 0 && end <= max_pages;
		index->ended = good;
		index->end_pages = good ? (uint32_t)end : 0;
	} else if (!json_unpack(record, "{s:I}", "page", &page)) {
		good = page >= 1 && page <= max_pages;
		if (good)
			index_page(index, (uint32_t)page, offset, len);
	}
	json_decref(record);
	return good;
}

enum rc journal_read(int fd, struct journal_index *index, uint32_t max_pages, struct err *err)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	FILE *file = copy < 0 ? NULL : fdopen(copy, "r");
	bool first = true;
	char *line = NULL;
	size_t cap = 0;
	off_t offset = 0;
	ssize_t n;

	*index = (struct journal_index){ 0 };
	if (!file) {
		if (copy >= 0)
			close(copy);
		return err_errno(err, RC_FAILED, "journal", "open journal");
	}
	rewind(file);
	while (!index->ended && (n = getline(&line, &cap, file)) > 0) {
		const char *json = line + PREFIX;
		size_t len = (size_t)n - PREFIX - 1;
		char prefix[PREFIX + 1];

		if (n <= PREFIX + 1 || line[n - 1] != '\n' || len > JOURNAL_RECORD_MAX)
			break;
		snprintf(prefix, sizeof(prefix), "%08x ", crc32c(0, json, len));
		if (memcmp(prefix, line, PREFIX) ||
		    !index_record(index, first, json, len, offset + PREFIX, max_pages))
			break;
		first = false;
		offset += n;
	}
	free(line);
	fclose(file);
	if (first)
		return err_set(err, RC_FAILED, "journal", "journal has no good head");
	return RC_OK;
}

void journal_index_release(struct journal_index *index)
{
	free(index->pages);
	*index = (struct journal_index){ 0 };
}

json_t *journal_page(int fd, const struct journal_index *index, uint32_t page, struct err *err)
{
	struct journal_page *p;
	json_t *record = NULL;
	size_t done = 0;
	char *json;

	if (page < 1 || page > index->n_pages || !index->pages[page - 1].offset) {
		err_set(err, RC_FAILED, "journal", "page %u is not in the journal", page);
		return NULL;
	}
	p = &index->pages[page - 1];
	json = xmalloc(p->length);
	while (done < p->length) {
		ssize_t n = pread(fd, json + done, p->length - done, p->offset + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	if (done == p->length)
		record = json_loadb(json, done, JSON_REJECT_DUPLICATES, NULL);
	if (!record)
		err_set(err, RC_FAILED, "journal", "page %u cannot be read back", page);
	free(json);
	return record;
}
