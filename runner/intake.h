/* SPDX-License-Identifier: MIT
 *
 * intake: from a file in the drop box to a token in ready/.
 *
 * A scan of in/ (and of state/members/) at start, every rescan_seconds and after a hint from inotify
 * finds files without a token.  A file is taken when it was renamed in, or when its size and mtime
 * have stood still for `settle_seconds` and nobody holds it open for writing.  It is then opened
 * once, hashed a piece at a time between other work, and given a token whose key tells document,
 * settings and model.  What is not a regular file, or has no usable pipeline, goes to failed/ at
 * once, with the reason.
 */
#ifndef RUNNER_INTAKE_H
#define RUNNER_INTAKE_H

#include "base/hash.h"
#include "pipeline.h"
#include "spool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct run;

/* Set of path hashes (token_path_hash); 0 is not a member. */
struct path_set {
	uint64_t *slots;
	size_t n, cap;
};
bool path_set_has(const struct path_set *s, uint64_t path);
void path_set_add(struct path_set *s, uint64_t path);
void path_set_remove(struct path_set *s, uint64_t path);

struct candidate {
	char *file; /* beneath in/ or members/; NULL: taken */
	enum token_source source;
	uint64_t path;
	uint64_t bytes;
	int64_t mtime_ns, ctime_ns;
	double still_since; /* size and times, on our clock */
	bool renamed;       /* seen to be renamed in: complete */
};

struct intake {
	int inotify; /* -1: none */
	struct watch {
		int wd;
		char *dir; /* beneath in/ */
	} *watches;
	size_t n_watches;
	bool rescan;              /* something happened that a scan must look at, soon */
	bool urgent;              /* ... at once */
	bool more;                /* the last scan stopped early, at the limit of candidates */
	/* Paths with a token, as of the last look at all tokens and since, and as of the look before: a
	 * token that another worker moves while we look may be missed once. */
	struct path_set admitted, admitted_before;
	struct path_set finished; /* what stays in in/: kept_state() of each */
	struct kept_failure {
		uint64_t state;
		char *file; /* beneath in/ */
	} *failures; /* of these, those that failed (kept.h) */
	size_t n_failures;
	struct path_set listed;   /* paths of candidates */
	struct path_set passed_over; /* folders; logged once */
	size_t n_passed_over;	     /* at the last scan */
	bool unread;		     /* a folder could not be read then, for an error that may pass */
	struct torn {
		char key[KEY_SIZE];
		uint64_t path;
		unsigned attempt;
	} *torn; /* tokens that lost their content in a power cut: key and attempts still count */
	size_t n_torn;
	struct candidate *candidates; /* oldest first; [first_candidate .. n_candidates) */
	size_t first_candidate, n_candidates, cap_candidates;
	struct admission { /* the one being hashed */
		bool busy;
		struct candidate candidate;
		struct token token;
		struct pipeline pipeline;
		int fd;
		uint64_t arrived_us;
		struct sha256_ctx sha256;
		uint64_t done;
	} now;
};

void intake_init(struct intake *in, struct run *run);
void intake_release(struct intake *in, struct run *run);

/* Look for new files. */
void intake_scan(struct run *run);
/* End what is being admitted; its file is found again by the next scan. */
void intake_abandon(struct run *run);
/* Take the next steps, for at most a few milliseconds. Returns the moment it wants to be called
 * again: now when there is more to do at once. */
double intake_turn(struct run *run, double now);
/* Files seen that are not yet admitted. */
size_t intake_waiting(const struct intake *in);

/* Remove a token that lost its content: its document is admitted anew, under the key it had while
 * document, settings and model are the same, so that a result it has already is found. */
void intake_torn(struct run *run, int dirfd, const char *name);

bool intake_has_token(const struct intake *in, uint64_t path);
/* A document has left in/: forget its path. */
void intake_forget(struct run *run, uint64_t path);
/* Before all tokens are looked at anew. */
void intake_forget_tokens(struct intake *in);

/* Send a file that cannot become a document to failed/RESULT, with the reason. */
void intake_reject(struct run *run, const struct candidate *c, const char *result,
		   const struct err *why);

/* Open a file beneath a folder without following links or leaving it; regular files only.
 * Reasons: vanished, not-a-regular-file, unreadable. -1 and err. */
int intake_open(int dirfd, const char *file, struct err *err);

#endif
