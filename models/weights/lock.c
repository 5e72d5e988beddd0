/* SPDX-License-Identifier: MIT
 *
 * Reads, writes and compares locks. A lock may come from another machine: every path in it is
 * checked before it is used, and none leads out of the folder.
 */
#include "weights/lock.h"

#include "base/lines.h"
#include "base/name.h"
#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOCK_BYTES_MAX (16u << 20)

static bool path_valid(const char *path)
{
	size_t depth = 0;

	if (strlen(path) > 1024 || !strcmp(path, MODEL_LOCK_NAME))
		return false;
	for (const char *p = path;; p++) {
		size_t n = strcspn(p, "/");

		/* No empty part, no "..", nothing hidden: what walks folders leaves those out. */
		if (!n || n > 255 || *p == '.' || ++depth > MODEL_DEPTH_MAX)
			return false;
		for (size_t i = 0; i < n; i++)
			if ((unsigned char)p[i] < 0x20 || p[i] == 0x7f)
				return false;
		p += n;
		if (!*p)
			return true;
	}
}

static bool hash_valid(const char *hex)
{
	return hex && strlen(hex) == SHA256_HEX_SIZE - 1 &&
	       strspn(hex, "0123456789abcdef") == SHA256_HEX_SIZE - 1;
}

static enum rc bad(struct err *err, const char *what)
{
	return err_set(err, RC_FAILED, "model-lock", MODEL_LOCK_NAME ": %s", what);
}

static enum rc read_file(struct model_lock *lock, const json_t *entry, struct err *err)
{
	const json_t *size = json_object_get(entry, "size");
	struct locked_file f = {
		.path = json_string_value(json_object_get(entry, "path")),
		.sha256 = json_string_value(json_object_get(entry, "sha256")),
		.pieces = json_string_value(json_object_get(entry, "pieces")),
	};

	if (!f.path || !path_valid(f.path))
		return bad(err, "the path of a file is missing, or leads out of the folder");
	if (lock->n && strcmp(lock->v[lock->n - 1].path, f.path) >= 0)
		return bad(err, "files are not in the order of their paths");
	if (!json_is_integer(size) || json_integer_value(size) < 0 || !hash_valid(f.sha256) ||
	    !hash_valid(f.pieces))
		return bad(err, "a file has no size, sha256 or pieces");
	f.size = (uint64_t)json_integer_value(size);
	if (!checked_add(lock->bytes, f.size, &lock->bytes))
		return bad(err, "the sizes overflow");
	lock->v[lock->n++] = f;
	return RC_OK;
}

enum rc model_lock_parse(struct model_lock *lock, const char *text, size_t len, struct err *err)
{
	json_error_t why;
	const json_t *files, *entry;
	enum rc rc = RC_OK;
	size_t i;

	*lock = (struct model_lock){NULL};
	sha256_hex_of(text, len, lock->sha256);
	lock->json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
	if (!json_is_object(lock->json))
		return bad(err, lock->json ? "is not a JSON object" : why.text);
	if (json_integer_value(json_object_get(lock->json, "cloister_lock")) != 1)
		return bad(err, "is not a lock of a version that this program knows");
	lock->model = json_string_value(json_object_get(lock->json, "model"));
	lock->revision = json_string_value(json_object_get(lock->json, "revision"));
	lock->date = json_string_value(json_object_get(lock->json, "date"));
	lock->tool = json_string_value(json_object_get(lock->json, "tool"));
	files = json_object_get(lock->json, "files");
	if (!lock->model || !lock->date || !lock->tool || !json_is_array(files))
		return bad(err, "model, date, tool or files is missing");
	if (json_array_size(files) > MODEL_FILES_MAX)
		return bad(err, "has too many files");
	lock->v = xcalloc(json_array_size(files) + 1, sizeof(*lock->v));
	json_array_foreach(files, i, entry)
	{
		rc = read_file(lock, entry, err);
		if (rc != RC_OK)
			break;
	}
	return rc;
}

enum rc model_lock_load(struct model_lock *lock, const char *folder, struct err *err)
{
	char *path = xasprintf("%s/" MODEL_LOCK_NAME, folder);
	size_t len = 0;
	char *text = read_whole(AT_FDCWD, path, LOCK_BYTES_MAX, &len);
	enum rc rc;

	*lock = (struct model_lock){NULL};
	if (!text && errno == ENOENT)
		rc = err_set(err, RC_FAILED, "model-unlocked", "there is no " MODEL_LOCK_NAME);
	else if (!text)
		rc = err_errno(err, RC_FAILED, "model-lock", "read " MODEL_LOCK_NAME);
	else
		rc = model_lock_parse(lock, text, len, err);
	free(text);
	free(path);
	return rc;
}

void model_lock_release(struct model_lock *lock)
{
	json_decref(lock->json);
	free(lock->v);
	*lock = (struct model_lock){NULL};
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct locked_file *)a)->path, ((const struct locked_file *)b)->path);
}

const struct locked_file *model_lock_find(const struct model_lock *lock, const char *path)
{
	struct locked_file key = {.path = path};

	return lock->n ? bsearch(&key, lock->v, lock->n, sizeof(key), by_path) : NULL;
}

char *model_lock_text(const char *folder, const struct digest *v, size_t n, size_t *len)
{
	char *name = model_name(folder), *revision = model_revision(folder), *text;
	json_t *files = json_array(), *lock;
	time_t now = time(NULL);
	uint64_t bytes = 0;
	char date[32];
	struct tm tm;
	struct buf b;

	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	for (size_t i = 0; i < n; i++) {
		bytes += v[i].size;
		json_array_append_new(files, json_pack("{s:s, s:I, s:s, s:s}", "path", v[i].path,
						       "size", (json_int_t)v[i].size, "sha256",
						       v[i].sha256, "pieces", v[i].pieces));
	}
	lock = json_pack("{s:i, s:s, s:s?, s:s, s:s, s:I, s:o}", "cloister_lock", 1, "model", name,
			 "revision", revision, "date", date, "tool", "cloister " CLOISTER_VERSION,
			 "bytes", (json_int_t)bytes, "files", files);
	text = lock ? json_dumps(lock, JSON_INDENT(1)) : NULL;
	if (!text)
		BUG("a lock cannot be written"); /* paths were checked to be UTF-8 */
	buf_init(&b, 2 * (size_t)LOCK_BYTES_MAX);
	buf_addf(&b, "%s\n", text);
	*len = b.len;
	free(text);
	json_decref(lock);
	free(revision);
	free(name);
	return buf_detach(&b);
}

struct comparison {
	struct difference_of *v;
	size_t n;
};

static void differs(struct comparison *c, enum difference kind, const char *path, uint64_t locked,
		    uint64_t found, int error)
{
	c->v = xrealloc(c->v, (c->n + 1) * sizeof(*c->v));
	c->v[c->n++] = (struct difference_of){kind, path, locked, found, error};
}

static int by_difference(const void *a, const void *b)
{
	return strcmp(((const struct difference_of *)a)->path,
		      ((const struct difference_of *)b)->path);
}

size_t model_lock_compare(const struct model_lock *lock, const char *folder,
			  const struct model_files *files, bool (*which)(const char *path),
			  enum digest_kind kind, struct pool *pool, const char *what,
			  struct difference_of **out)
{
	struct digest *digests = xcalloc(lock->n + 1, sizeof(*digests));
	struct comparison c = {NULL, 0};
	size_t n = 0;

	for (size_t i = 0; i < files->n; i++)
		if ((!which || which(files->v[i].path)) && !model_lock_find(lock, files->v[i].path))
			differs(&c, FILE_ADDED, files->v[i].path, 0, files->v[i].size, 0);
	for (size_t i = 0; i < lock->n; i++) {
		const struct locked_file *locked = &lock->v[i];
		const struct model_file *file = model_files_find(files, locked->path);

		if (which && !which(locked->path))
			continue;
		if (!file || file->dangling)
			differs(&c, FILE_MISSING, locked->path, locked->size, 0, 0);
		else if (file->size != locked->size)
			differs(&c, FILE_CHANGED, locked->path, locked->size, file->size, 0);
		else
			digests[n++] = (struct digest){.path = locked->path, .size = locked->size};
	}
	if (pool)
		digest_files(folder, digests, n, kind, pool, what);
	for (size_t i = 0; pool && i < n; i++) {
		const struct digest *d = &digests[i];
		const struct locked_file *locked = model_lock_find(lock, d->path);

		if (d->error && d->error != ESTALE)
			differs(&c, FILE_UNREADABLE, d->path, d->size, d->size, d->error);
		else if (d->error || strcmp(d->pieces, locked->pieces) ||
			 (kind == DIGEST_BOTH && strcmp(d->sha256, locked->sha256)))
			differs(&c, FILE_CHANGED, d->path, d->size, d->size, 0);
	}
	free(digests);
	if (c.n)
		qsort(c.v, c.n, sizeof(*c.v), by_difference);
	*out = c.v;
	return c.n;
}

char *difference_text(const struct difference_of *d)
{
	switch (d->kind) {
	case FILE_ADDED:
		return xasprintf("%.200s is not in the lock", d->path);
	case FILE_MISSING:
		return xasprintf("%.200s is missing", d->path);
	case FILE_UNREADABLE:
		return xasprintf("%.200s cannot be read: %s", d->path, strerror(d->error));
	default:
		if (d->locked != d->found)
			return xasprintf("%.200s has changed: %llu bytes, locked with %llu",
					 d->path, (unsigned long long)d->found,
					 (unsigned long long)d->locked);
		return xasprintf("%.200s has changed", d->path);
	}
}
