/* SPDX-License-Identifier: MIT
 *
 * identity: which model this is, by its bytes, and whether they are those of its lock.
 *
 * Both are made from one reading of the files that the engine uses, at every start: nothing is
 * taken over from an earlier one, so a lock that is said to hold does hold for what is about to be
 * loaded.
 */
#include "serve.h"

#include "base/num.h"

#include <stdlib.h>
#include <string.h>

/* FILE_SAME when each file is as the lock says, and there are no others. */
static enum rc check_lock(const struct model_lock *lock, const struct digest *v, size_t n,
			  struct err *err)
{
	size_t found = 0, wanted = 0;

	for (size_t i = 0; i < lock->n; i++)
		wanted += model_file_is_read(lock->v[i].path);
	for (size_t i = 0; i < n; i++) {
		const struct locked_file *f = model_lock_find(lock, v[i].path);

		if (!f)
			return err_set(err, RC_FAILED, "model-lock", "%.200s is not in its lock",
				       v[i].path);
		if (f->size != v[i].size || strcmp(f->pieces, v[i].pieces))
			return err_set(err, RC_FAILED, "model-lock",
				       "%.200s is not as it was locked", v[i].path);
		found++;
	}
	for (size_t i = 0; found < wanted && i < lock->n; i++) {
		bool there = !model_file_is_read(lock->v[i].path);

		for (size_t k = 0; !there && k < n; k++)
			there = !strcmp(v[k].path, lock->v[i].path);
		if (!there)
			return err_set(err, RC_FAILED, "model-lock", "%.200s is missing",
				       lock->v[i].path);
	}
	return RC_OK;
}

static void hash_all(const struct digest *v, size_t n, char hex[SHA256_HEX_SIZE])
{
	struct sha256_ctx all;

	sha256_init(&all);
	for (size_t i = 0; i < n; i++) {
		char *line = xasprintf("%.300s %llu %s\n", v[i].path, (unsigned long long)v[i].size,
				       v[i].pieces);

		sha256_update(&all, strlen(line), (const uint8_t *)line);
		free(line);
	}
	sha256_hex(&all, hex);
}

enum rc model_identity(const char *folder, struct pool *pool, struct model_identity *id,
		       struct err *err)
{
	struct model_lock lock = {NULL};
	struct model_files files;
	struct digest *v = NULL;
	enum rc rc = model_files_list(&files, folder, err);
	size_t n = 0;

	*id = (struct model_identity){.unlocked = {.text = ""}};
	if (rc != RC_OK) {
		rc = RC_FATAL;
		goto out;
	}
	v = xcalloc(files.n + 1, sizeof(*v));
	for (size_t i = 0; i < files.n; i++)
		if (model_file_is_read(files.v[i].path))
			v[n++] = (struct digest){.path = files.v[i].path, .size = files.v[i].size};
	digest_files(folder, v, n, DIGEST_PIECES, pool, NULL);
	for (size_t i = 0; i < n && rc == RC_OK; i++)
		rc = digest_check(&v[i], err);
	if (rc != RC_OK)
		goto out;
	hash_all(v, n, id->sha256);
	if (model_lock_load(&lock, folder, &id->unlocked) == RC_OK &&
	    check_lock(&lock, v, n, &id->unlocked) == RC_OK)
		memcpy(id->lock, lock.sha256, sizeof(id->lock));
out:
	model_lock_release(&lock);
	model_files_release(&files);
	free(v);
	return rc;
}
