/* SPDX-License-Identifier: MIT
 *
 * write: the parts of cloister-write.
 *
 * job.c reads what the supervisor asks for, leaf.c looks at one page's record, sink.c is a file
 * being written, figures.c stores a page's pictures; text.c, manifest.c, records.c, hocr.c and web.c are
 * the formats.  Pages go through one at
 * a time, each to all formats, so that memory does not grow with the document.
 */
#ifndef WRITE_WRITE_H
#define WRITE_WRITE_H

#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define FIGURES_FOLDER	 "figures"
#define WRITE_JOURNAL_FD 3
#define WRITE_FOLDER_FD	 4
#define WRITE_JOB_MAX	 (16u << 20)

/* What the job line says. Strings are borrowed from `json`. */
struct job {
	json_t *json; /* owned */
	const char *key, *name, *kind;
	uint32_t pages;
	json_t *input, *pipeline, *recogniser, *outputs;
};
enum rc job_parse(struct job *job, const char *line, size_t len, struct err *err);
void job_release(struct job *job);

enum leaf_status { LEAF_OK, LEAF_FLAGGED, LEAF_FAILED, LEAF_STATUSES };

/* One page, as far as the formats need to know. Pointers are borrowed from `record`. */
struct leaf {
	json_t *record, *result; /* result NULL: nothing was read */
	uint32_t page, width, height;
	enum leaf_status status;
	const char *reason, *detail, *source; /* reason, detail "" where there is none */
	const char *format, *text;	      /* of the result; "text" and "" without one */
	const char *read; /* the text that belongs to the result's lines: before a text step, if one
			     followed */
	bool blank;
	double dpi, confidence, worst; /* confidences -1 where there is none */
	unsigned rotation;
	uint64_t words;
	json_t *figures; /* NULL: none */
	const char *html; /* of the text, for document.html; NULL: none */
};
/* RC_FAILED, reason "journal", when the record is not that of a page. */
enum rc leaf_read(struct leaf *leaf, json_t *record, uint32_t page, struct err *err);
/* "failed, limit:page-seconds: took too long"; empty for a page that is just fine. */
void leaf_describe(struct buf *out, const struct leaf *leaf);
extern const char *const leaf_status_names[LEAF_STATUSES];

/* Sums over the pages written so far. */
struct totals {
	uint32_t pages, by_status[LEAF_STATUSES], blank;
	uint64_t words;
	double confidence_sum, worst; /* the sum is weighted by words */
	uint64_t confidence_words;
};
void totals_add(struct totals *totals, const struct leaf *leaf);
/* -1 without any word. */
double totals_confidence(const struct totals *totals);
/* {"ok":..,"flagged":..,"failed":..,"blank":..,"words":..}. New reference. */
json_t *totals_json(const struct totals *totals);

/* A file being written. The first failure sticks; sink_close() reports it. */
struct sink {
	int fd, failure; /* failure: errno, 0 while all is well */
	const char *name;
	struct buf out;
};
enum rc sink_open(struct sink *sink, int dirfd, const char *name, struct err *err);
void sink_add(struct sink *sink, const char *data, size_t len);
void sink_adds(struct sink *sink, const char *s);
void sink_addf(struct sink *sink, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sink_flush(struct sink *sink);
/* Write what is buffered, sync, close. */
enum rc sink_close(struct sink *sink, struct err *err);
/* Forget what was not written; harmless after sink_close(). */
void sink_drop(struct sink *sink);

/* Its pictures: each becomes a file figures/PAGE-N.png beneath dirfd, synced; its bytes leave the record,
 * where "file", "bytes" and "sha256" take their place; and links of its text to blocks lead there. */
struct figures {
	int fd; /* of the folder, -1 before the first */
};
enum rc figures_write(struct figures *figures, int dirfd, struct leaf *leaf, struct err *err);
/* Sync the folder, when all is written. */
void figures_close(struct figures *figures);

/* A format; begin and end may be NULL. `kept` is what it keeps from page to page; it is empty at
 * first and released by the caller. */
struct output {
	const char *name;
	void (*begin)(struct sink *sink, const struct job *job);
	void (*page)(struct sink *sink, const struct leaf *leaf, struct buf *kept);
	void (*end)(struct sink *sink, const struct job *job, const struct totals *totals,
		    const struct buf *kept);
};
#define KEPT_MAX (1u << 30)
extern const struct output output_text_md, output_text_txt, output_document_json,
	output_pages_jsonl, output_document_hocr, output_document_html;

/* text.c: plain text as Markdown that shows it as written; for its test. */
void markdown_escape(struct buf *out, const char *text);
/* hocr.c: text as XML character data or attribute value; what XML 1.0 cannot hold is left out. */
void xml_escape(struct buf *out, const char *text);

/* Write all outputs of the job into dirfd from the journal; sync them and the folder. */
enum rc write_document(const struct job *job, int journal_fd, int dirfd, struct totals *totals,
		       struct err *err);

#endif
