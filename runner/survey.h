/* SPDX-License-Identifier: MIT
 *
 * survey: every document of a spool and its state, by looking at the folders.
 *
 * A run may go on meanwhile: each document is found where it was at the moment it was looked at.
 */
#ifndef RUNNER_SURVEY_H
#define RUNNER_SURVEY_H

#include "spool.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum document_state {
	DOCUMENT_WAITING, /* in in/, not admitted */
	DOCUMENT_READY,
	DOCUMENT_ACTIVE,
	DOCUMENT_DEFERRED,
	DOCUMENT_HOLD,
	DOCUMENT_DONE,
	DOCUMENT_FLAGGED, /* finished, but not every page is ok */
	DOCUMENT_UNPACKED, /* an archive: its members are documents of their own */
	DOCUMENT_FAILED,
	DOCUMENT_STATES,
};
const char *document_state_name(enum document_state state);

#define SURVEY_IN       (1u << 0) /* waiting .. hold */
#define SURVEY_FINISHED (1u << 1) /* done, flagged, unpacked */
#define SURVEY_FAILED   (1u << 2)
#define SURVEY_ALL      (SURVEY_IN | SURVEY_FINISHED | SURVEY_FAILED)

struct listed {
	enum document_state state;
	char *path;     /* beneath in/: as it was dropped, or out of which archive; bytes */
	char *pipeline;
	char *token;    /* name of its token; NULL without */
	char *worker;   /* who reads it; NULL unless active */
	unsigned priority; /* of a ready token */
	uint64_t hash;     /* of the path, to match tokens */
	int64_t pages;     /* -1: nobody knows yet; of an archive: never */
	int64_t finished;  /* of these, while it is read */
	int64_t members;   /* of an unpacked archive; -1: it is none */
};

struct survey {
	struct listed *documents; /* sorted by path */
	size_t n, cap;
};

enum rc survey_take(struct survey *s, const struct spool *spool, const char *default_pipeline,
		    unsigned what, struct err *err);
void survey_release(struct survey *s);

/* The documents that `name` stands for: a key; else the whole path, as it is or as it is shown;
 * else the end of the paths. Calls visit for each, in order; returns how many. */
size_t survey_find(const struct survey *s, const char *name,
		   void (*visit)(const struct listed *d, void *arg), void *arg);

/* Descriptor of the folder that a document's token lies in, or -1 and err (it has moved on). */
int survey_token_dir(const struct spool *spool, const struct listed *d, struct err *err);

/* The JSON object in dirfd/path, or NULL. New reference. */
json_t *read_json(int dirfd, const char *path);

/* document.json or archive.json of a result folder beneath out/, or why.json of a failed document;
 * NULL without. New reference. */
json_t *survey_result(const struct spool *spool, const struct listed *d);

/* What became of a member of an archive: the document called `path` or `path~N` that has these
 * bytes, as far as its hash is known; NULL when there is none. */
const struct listed *survey_member(const struct survey *s, const struct spool *spool,
				   const char *path, const char *sha256);

#endif
