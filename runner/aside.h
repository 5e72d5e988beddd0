/* SPDX-License-Identifier: MIT
 *
 * aside: what is made of a page beside its reading, by a mode of cloister-decode that can open no
 * file and gets what it works on by pipe: one process a page, one request, one answer.
 *
 * The page's record waits meanwhile.  What comes of it is put into the record, so that it is there
 * when the page is, once, whatever dies in between.  Where nothing comes of it (a crash, a limit)
 * the page is flagged with the reason, and loses nothing else.
 */
#ifndef RUNNER_ASIDE_H
#define RUNNER_ASIDE_H

#include "document.h"

struct aside {
	const struct aside_kind *kind;
	struct document_slot *slot;
	struct child child;
	unsigned tries;
	double deadline;
	json_t *record; /* of the page */
	json_t *draft;	/* the kind's own */
};

struct aside_kind {
	const char *name;  /* of the mode; the reason where nothing comes of it */
	const char *doing; /* "cutting its pictures out", for messages */
	bool with_page;	   /* the page file is its descriptor 3 */
	uint64_t (*answer_max)(const struct limits *); /* bytes */
	json_t *(*request)(const struct aside *);
	/* Put the answer into the record; `missing` is set when there is less in it than there
	 * should be. false: it is no answer. */
	bool (*take)(struct aside *, const json_t *answer, struct err *missing);
	void (*next)(struct document_slot *slot, json_t *record); /* record: consumed */
};

/* record, draft: consumed. */
void aside_begin(struct document_slot *slot, const struct aside_kind *kind, json_t *record,
		 json_t *draft);
/* Time limit. Returns when to call again. */
double aside_turn(struct aside *, double now);
void aside_release(struct aside *); /* may be NULL */

/* figures.c: cut the blocks that the record's result marks as figures out of the page, and hand the
 * record on to document_page_read(). In the record: "figures":[{"block":N,"label":..,"box":[..],
 * "png":BASE64}], in the order of the blocks; the writer makes files of them. false: there is
 * nothing to cut, nothing happens. */
bool figures_begin(struct document_slot *slot, json_t *record);

/* web.c: turn the text of a page's record into what document.html says of it, where that is asked
 * for and takes more than escapes, and hand the record on to document_page_keep(). In the record:
 * "html":TEXT, or null where it could not be made. */
bool web_begin(struct document_slot *slot, json_t *record);
/* Is it still to be made? */
bool web_wanted(const struct document *d, const json_t *record);

#endif
