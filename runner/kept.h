/* SPDX-License-Identifier: MIT
 *
 * kept: originals that stay in in/ when they are finished, and are not read again.
 *
 * With `originals: keep` these are all that were read; besides, whatever the system does not let us
 * move: it lies on a mount of its own, is read-only, immutable.  A failure that stays has its reason
 * alone in failed/, with a member "original" that says where the original lies and why it does.
 */
#ifndef RUNNER_KEPT_H
#define RUNNER_KEPT_H

#include "run.h"

#include <sys/stat.h>

/* Path, size and time of a file in one number. */
uint64_t kept_state(uint64_t path, uint64_t bytes, int64_t mtime_ns);

/* Of an original that stays: its result is out/FINAL. */
void kept_add_result(struct run *run, const struct token *t, const char *final);
/* Has this file, as it is now, its result? *final = its path beneath out/, freed by the caller; NULL
 * when only the index tells. */
bool kept_find_result(struct run *run, const struct token *t, enum originals_policy policy,
		      char **final);

/* The member "original" of a reason. */
json_t *kept_original(const struct token *t, const char *because);
/* After its reason was written. */
void kept_add_failure(struct run *run, const struct token *t);
/* *failed: has this file failed, as it is now and with the settings it has now? A reason that tells of
 * it as it was before is withdrawn. RC_RETRY when nobody can tell now. */
enum rc kept_look_for_failure(struct run *run, const struct token *t, bool *failed,
			      struct err *err);
/* Failures whose reasons somebody has withdrawn are taken in by the scan that follows. */
void kept_forget_withdrawn(struct run *run);

/* The same for the commands, which know no settings: has in/FILE failed as it is now? */
bool kept_is_failure(const struct spool *spool, const char *file, const struct stat *st);
/* Path beneath in/ of the original that a reason tells of, or NULL; the caller frees. */
char *kept_file(int folder, const char *why_name);

#endif
