/* SPDX-License-Identifier: MIT
 *
 * lock: cloister.lock, which pins every file of a model's folder.
 *
 *   {"cloister_lock":1, "model":"org/name", "revision":HEX or null, "date":"2026-11-22T04:00:00Z",
 *    "tool":"cloister 0.1.0", "bytes":N,
 *    "files":[{"path":..., "size":N, "sha256":HEX, "pieces":HEX}]}      (digest.h)
 *
 * It is what was there when somebody looked: it tells of files that have changed since, for
 * whatever reason, and not of a person who changes file and lock together. For that there is its
 * own SHA-256, which stands in every result, and can be written down elsewhere.
 */
#ifndef MODELS_WEIGHTS_LOCK_H
#define MODELS_WEIGHTS_LOCK_H

#include "weights/digest.h"
#include "weights/files.h"

#include <jansson.h>

struct locked_file {
	const char *path;
	uint64_t size;
	const char *sha256, *pieces;
};

struct model_lock {
	json_t *json;				    /* owns the texts */
	const char *model, *revision, *date, *tool; /* revision: NULL when it is not known */
	struct locked_file *v;			    /* by path */
	size_t n;
	uint64_t bytes;
	char sha256[SHA256_HEX_SIZE]; /* of the file itself */
};

/* RC_FAILED; the reason is "model-unlocked" when there is none, "model-lock" when it is not right.
 * Caller releases either way. */
enum rc model_lock_load(struct model_lock *, const char *folder, struct err *);
enum rc model_lock_parse(struct model_lock *, const char *text, size_t len, struct err *);
void model_lock_release(struct model_lock *);
const struct locked_file *model_lock_find(const struct model_lock *, const char *path);

/* The text of a lock of these files; the caller frees it. */
char *model_lock_text(const char *folder, const struct digest *, size_t n, size_t *len);

enum difference { FILE_SAME, FILE_ADDED, FILE_MISSING, FILE_CHANGED, FILE_UNREADABLE };

struct difference_of {
	enum difference kind;
	const char *path;	/* of lock or files */
	uint64_t locked, found; /* bytes */
	int error;
};

/*
 * What is not as the lock says, of the files that `which` chooses (NULL: all); in *out, which the
 * caller frees. Files are read where path and size are right; not at all with a pool of NULL.
 */
size_t model_lock_compare(const struct model_lock *, const char *folder, const struct model_files *,
			  bool (*which)(const char *path), enum digest_kind, struct pool *,
			  const char *what, struct difference_of **out);

/* "tokenizer.json has changed" and the like, for people. */
char *difference_text(const struct difference_of *);

#endif
