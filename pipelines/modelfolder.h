/* SPDX-License-Identifier: MIT
 *
 * modelfolder: where a model lies that a pipeline names.
 */
#ifndef PIPELINES_MODELFOLDER_H
#define PIPELINES_MODELFOLDER_H

#include <stdbool.h>

/* An absolute path as it is. Another name beneath $CLOISTER_MODELS (default /models), in one of the ways
 * in which download tools lay models out: org/name, org--name, models--org--name/snapshots/REVISION, the
 * last beneath hub/ too; of several revisions the one that refs/main names.
 * Always a path; the caller frees it. */
char *model_folder(const char *name);

/* Does it look like a folder of a model, or of an adapter? */
bool model_folder_exists(const char *folder);

#endif
