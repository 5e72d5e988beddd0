/* SPDX-License-Identifier: MIT
 *
 * publish: how a document leaves the queue.
 *
 * A result becomes visible by one rename of a complete folder into out/, acknowledged when the folder
 * it now lies in is synced; only then does the original move to done/ and the token go.  A failure
 * first writes NAME.why.json into failed/, then moves the original there.  At every step in between a
 * crash leaves a token, and whoever takes it finds the key in what is there already and goes on.
 * A name that is taken by another document gets ~2, ~3 ... added.
 */
#ifndef RUNNER_PUBLISH_H
#define RUNNER_PUBLISH_H

#include "run.h"

/* Rename attempt/out to out/RESULT. *final = the path beneath out/ it got; the caller frees.
 * RC_OK also when an earlier attempt of the same key has already published. */
enum rc publish_result(struct run *run, int attempt, const struct token *t, char **final,
		       struct err *err);
/* Sync the folder that out/FINAL lies in: from here on the result is acknowledged. */
void publish_sync(struct run *run, const char *final);
/* *found = the path beneath out/ where a result of t's name lies that has this value for the member
 * "key" or "identity", or NULL; the caller frees. RC_RETRY when nobody can tell now. */
enum rc publish_find(struct run *run, const struct token *t, const char *member,
		     const char *value, char **found, struct err *err);

/* Is the file that the token names still the one that was admitted? Somebody may have renamed
 * another over it. */
bool publish_is_original(struct run *run, const struct token *t, bool *there);

/* After publish_sync(): original to done/ (or as the pipeline says), ticket along with it. *stays: it
 * is to stay in in/, or the system does not let us move it. RC_RETRY when that cannot be done now. */
enum rc publish_original(struct run *run, const struct token *t, enum originals_policy policy,
			 bool *stays, struct err *err);

/* Document to failed/ with its reason; where the system does not let us move it, the reason alone,
 * which says so (kept.h). Of the token, source, file, result, bytes, mtime_ns and identity count. why:
 * an object, consumed, that gets document, reason, text and time added. RC_RETRY when it cannot be
 * written now. */
enum rc publish_failure(struct run *run, const struct token *t, json_t *why,
			const struct err *reason, struct err *err);

/* The folder in failed/ for the document RESULT, made when missing and `make`, and the name it is to
 * have there; both of the caller. -1 and err, and errno when not `make`. */
int publish_open_failed(const struct spool *spool, const char *result, bool make, char **base,
			struct err *err);
/* publish_name() for failed/, where the name needs room for what is added to it. */
char *publish_failed_name(const char *name, unsigned n);

/* Remove state/members/FOLDER, with the manifest in it, when no member is left. */
void publish_sweep_members(struct run *run, const char *folder);

/* name, or name~N, for N = 2, 3, ...; the caller frees. */
char *publish_name(const char *name, unsigned n);

#endif
