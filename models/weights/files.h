/* SPDX-License-Identifier: MIT
 *
 * files: what lies in a model's folder.
 *
 * Names that begin with a dot are what download tools keep for themselves (.cache, .git,
 * .gitattributes): they are no part of the model. Neither is its lock.
 */
#ifndef MODELS_WEIGHTS_FILES_H
#define MODELS_WEIGHTS_FILES_H

#include "base/err.h"
#include "base/hash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_LOCK_NAME "cloister.lock"

enum {
	MODEL_FILES_MAX = 16384,
	MODEL_DEPTH_MAX = 8,
};

struct model_file {
	char *path; /* in the folder */
	uint64_t size;
	bool dangling; /* a link to what is not there */
	bool odd;      /* neither a file nor a link to one */
	/* SHA-256 that the download tool knew it by, or "": the name of the blob it is a link to.
	 */
	char expected[SHA256_HEX_SIZE];
};

struct model_files {
	struct model_file *v; /* by path */
	size_t n;
	uint64_t bytes;
};

/* RC_FAILED names the folder that cannot be read. Caller releases either way. */
enum rc model_files_list(struct model_files *, const char *folder, struct err *);
void model_files_release(struct model_files *);
const struct model_file *model_files_find(const struct model_files *, const char *path);

/* Does the engine read it? Nothing else in a folder can change a result. */
bool model_file_is_read(const char *path);

/* Would it run code in a program that opens it: Python, a pickle? The engine opens none of them. */
bool model_file_is_code(const char *path);

/* "org/name" for the folders that downloads make, else the folder's own name. Freed by the caller.
 */
char *model_name(const char *folder);

/* The revision that a folder of a Hugging Face cache is called by, or that lies in .cache beside
 * the files of a download to a folder; NULL where neither says. Freed by the caller. */
char *model_revision(const char *folder);

/* Of "NAME.EXTENSION", any of the extensions, NULL-terminated. */
bool model_file_ends(const char *path, const char *const *endings);

#endif
