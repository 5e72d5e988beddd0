/* SPDX-License-Identifier: MIT
 *
 * document: a journal in, the files of a result folder out.
 *
 * Invariant: either every page 1..N stands in each file exactly once, in order, and all of it is
 * synced, or the call fails.  The journal's records come in the order in which pages were
 * finished; its index gives them in page order, one in memory at a time.
 */
#include "write.h"
#include "durable.h"
#include "journal.h"
#include "base/num.h"

#include <string.h>

static const struct output *const formats[] = {
	&output_text_md,      &output_text_txt,	     &output_document_json,
	&output_pages_jsonl, &output_document_hocr, &output_document_html,
};

struct open_output {
	const struct output *output;
	struct sink sink;
	struct buf kept;
};

static const struct output *format_named(const char *name)
{
	for (size_t i = 0; name && i < ARRAY_SIZE(formats); i++)
		if (!strcmp(name, formats[i]->name))
			return formats[i];
	return NULL;
}

static enum rc open_outputs(struct open_output *open, size_t *n, const struct job *job, int dirfd,
			    struct err *err)
{
	json_t *name;
	size_t i;

	json_array_foreach(job->outputs, i, name) {
		const struct output *output = format_named(json_string_value(name));

		if (!output || i == ARRAY_SIZE(formats))
			return err_set(err, RC_FATAL, "protocol", "job: output %zu is not known",
				       i + 1);
		if (sink_open(&open[i].sink, dirfd, output->name, err) != RC_OK)
			return RC_RETRY;
		open[i].output = output;
		buf_init(&open[i].kept, KEPT_MAX);
		*n = i + 1;
		if (output->begin)
			output->begin(&open[i].sink, job);
	}
	return RC_OK;
}

static enum rc check_journal(const struct job *job, const struct journal_index *index,
			     struct err *err)
{
	if (strcmp(index->key, job->key))
		return err_set(err, RC_FAILED, "journal", "the journal is that of %s", index->key);
	if (!index->ended)
		return err_set(err, RC_FAILED, "journal", "the journal has no end record");
	if (index->end_pages != job->pages || index->n_pages > job->pages)
		return err_set(err, RC_FAILED, "journal", "the journal has %u pages, not %u",
			       (unsigned)max_u64(index->end_pages, index->n_pages), job->pages);
	for (uint32_t page = 1; page <= job->pages; page++)
		if (page > index->n_pages || !index->pages[page - 1].offset)
			return err_set(err, RC_FAILED, "journal", "page %u is not in the journal",
				       page);
	return RC_OK;
}

static enum rc write_pages(const struct job *job, int fd, const struct journal_index *index,
			   int dirfd, struct open_output *open, size_t n, struct totals *totals,
			   struct err *err)
{
	struct figures figures = { .fd = -1 };
	enum rc rc = RC_OK;

	for (uint32_t page = 1; page <= job->pages && rc == RC_OK; page++) {
		json_t *record = journal_page(fd, index, page, err);
		struct leaf leaf;

		rc = record ? leaf_read(&leaf, record, page, err) : RC_FAILED;
		if (rc == RC_OK)
			rc = figures_write(&figures, dirfd, &leaf, err);
		if (rc == RC_OK) {
			totals_add(totals, &leaf);
			for (size_t i = 0; i < n; i++)
				open[i].output->page(&open[i].sink, &leaf, &open[i].kept);
		}
		json_decref(record);
	}
	figures_close(&figures);
	return rc;
}

enum rc write_document(const struct job *job, int journal_fd, int dirfd, struct totals *totals,
		       struct err *err)
{
	struct open_output open[ARRAY_SIZE(formats)] = { 0 };
	struct journal_index index;
	size_t n = 0;
	enum rc rc;

	*totals = (struct totals){ 0 };
	/* One page more than there may be, to tell a journal that has too many. */
	rc = journal_read(journal_fd, &index, job->pages + 1, err);
	if (rc != RC_OK)
		return rc;
	rc = check_journal(job, &index, err);
	if (rc == RC_OK)
		rc = open_outputs(open, &n, job, dirfd, err);
	if (rc == RC_OK)
		rc = write_pages(job, journal_fd, &index, dirfd, open, n, totals, err);
	for (size_t i = 0; rc == RC_OK && i < n; i++) {
		if (open[i].output->end)
			open[i].output->end(&open[i].sink, job, totals, &open[i].kept);
		sink_flush(&open[i].sink);
	}
	/* Only now, with all data written: the first sync takes most of the others along. */
	for (size_t i = 0; rc == RC_OK && i < n; i++)
		rc = sink_close(&open[i].sink, err);
	for (size_t i = 0; i < n; i++) {
		sink_drop(&open[i].sink);
		buf_release(&open[i].kept);
	}
	if (rc == RC_OK)
		durable_sync(dirfd, "the output folder");
	journal_index_release(&index);
	return rc;
}
