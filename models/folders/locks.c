/* SPDX-License-Identifier: MIT
 *
 * lock, verify and diff: what a model's folder holds is written down once, and compared from then
 * on.
 *
 * A lock is written only for a folder that is complete, from one reading of every file. Where the
 * download tool knows a file's SHA-256 (a blob of a cache is called by it, .cache has it as the
 * ETag) the two must agree. A folder that is locked already and has not changed keeps its lock, and
 * with it the hash that stands in results.
 */
#include "base/name.h"
#include "durable.h"
#include "folders/folders.h"
#include "folders/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *bar_title(const struct folders_options *o, const char *what)
{
	return !o->quiet && isatty(STDERR_FILENO) ? what : NULL;
}

/* Where a run could not follow it: its sandbox gives the folder and the blobs beside a snapshot. */
static enum rc check_links(const char *folder, const struct model_files *files, struct err *err)
{
	char *inside = realpath(folder, NULL), *blobs = NULL, *path;
	enum rc rc = RC_OK;

	if (strstr(folder, "/snapshots/")) {
		path = xasprintf("%s/../../blobs", folder);
		blobs = realpath(path, NULL);
		free(path);
	}
	for (size_t i = 0; rc == RC_OK && inside && i < files->n; i++) {
		char *real;

		path = xasprintf("%s/%s", folder, files->v[i].path);
		real = realpath(path, NULL);
		if (real &&
		    (strncmp(real, inside, strlen(inside)) || real[strlen(inside)] != '/') &&
		    (!blobs || strncmp(real, blobs, strlen(blobs)) || real[strlen(blobs)] != '/'))
			rc = err_set(
				err, RC_FAILED, "model-file",
				"%.200s is a link out of the model's folder, where a run cannot "
				"follow it",
				files->v[i].path);
		else if (!utf8_valid(files->v[i].path, strlen(files->v[i].path)))
			rc = err_set(err, RC_FAILED, "model-file", "%.200s: its name is not UTF-8",
				     files->v[i].path);
		free(real);
		free(path);
	}
	free(blobs);
	free(inside);
	return rc;
}

/* ---- lock ---- */

struct locking {
	const char *folder;
	const struct model_files *files;
	const char *bar;
};

static bool is_complete(const struct folders_options *o, const char *folder)
{
	struct model_state m;
	const json_t *text;
	bool complete;
	size_t i;

	model_state_take(&m, folder);
	complete = m.readiness != MODEL_INCOMPLETE && m.readiness != MODEL_REFUSED;
	json_array_foreach(m.problems, i, text) if (!complete)
		folders_say(o, "%s: %s", m.name, json_string_value(text));
	model_state_release(&m);
	return complete;
}

static bool all_as_downloaded(const struct folders_options *o, const struct locking *l,
			      const struct digest *v)
{
	bool good = true;

	for (size_t i = 0; i < l->files->n; i++) {
		const char *expected = l->files->v[i].expected;
		struct err err;

		if (digest_check(&v[i], &err) != RC_OK) {
			folders_say(o, "%s: %s", l->folder, err.text);
			good = false;
		} else if (*expected && strcmp(expected, v[i].sha256)) {
			folders_say(o, "%s: %s is damaged: its SHA-256 is %s, downloaded as %s",
				    l->folder, v[i].path, v[i].sha256, expected);
			good = false;
		}
	}
	return good;
}

static int make_lock(const struct folders_options *o, void *arg, int out)
{
	const struct locking *l = arg;
	struct digest *v = xcalloc(l->files->n + 1, sizeof(*v));
	int code = EX_SOME_FAILED;
	struct pool *pool;
	struct err err;
	char *text;
	size_t len;

	if (!is_complete(o, l->folder))
		goto out;
	for (size_t i = 0; i < l->files->n; i++)
		v[i] = (struct digest){.path = l->files->v[i].path, .size = l->files->v[i].size};
	if (pool_open(&pool, 0, &err) != RC_OK) {
		folders_say(o, "%s", err.text);
		goto out;
	}
	digest_files(l->folder, v, l->files->n, DIGEST_BOTH, pool, l->bar);
	pool_close(pool);
	if (!all_as_downloaded(o, l, v))
		goto out;
	text = model_lock_text(l->folder, v, l->files->n, &len);
	for (size_t done = 0; done < len;) {
		ssize_t n = write(out, text + done, len - done);

		if (n < 0 && errno != EINTR)
			die(EX_BUG, "pipe: %s", strerror(errno));
		done += n > 0 ? (size_t)n : 0;
	}
	free(text);
	code = EX_ALL_DONE;
out:
	free(v);
	return code;
}

/* Says what is new in `now`; true when nothing is. */
static bool same_lock(const struct folders_options *o, const struct model_lock *old,
		      const struct model_lock *now)
{
	bool same = true;

	for (size_t i = 0; i < now->n; i++) {
		const struct locked_file *f = model_lock_find(old, now->v[i].path);

		if (f && f->size == now->v[i].size && !strcmp(f->sha256, now->v[i].sha256))
			continue;
		folders_say(o, "%s: %s %s since it was locked on %s", now->model, now->v[i].path,
			    f ? "has changed" : "has come", old->date);
		same = false;
	}
	for (size_t i = 0; i < old->n; i++) {
		if (model_lock_find(now, old->v[i].path))
			continue;
		folders_say(o, "%s: %s is gone since it was locked on %s", now->model,
			    old->v[i].path, old->date);
		same = false;
	}
	return same;
}

static void say_locked(const struct folders_options *o, const struct model_lock *lock,
		       const char *how)
{
	if (o->json)
		folders_print_json(json_pack("{s:s, s:s, s:s?, s:I, s:i, s:s}", "model",
					     lock->model, "lock", lock->sha256, "revision",
					     lock->revision, "bytes", (json_int_t)lock->bytes,
					     "files", (int)lock->n, "date", lock->date));
	else if (!o->quiet)
		printf("%s: %s: %zu files, %s, lock %s\n", lock->model, how, lock->n,
		       size_text(lock->bytes).s, lock->sha256);
}

static int store_lock(const struct folders_options *o, const char *folder, const char *text,
		      size_t len)
{
	struct model_lock now = {NULL}, old = {NULL};
	int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), code = EX_SOME_FAILED;
	struct err err;

	if (dir < 0 || model_lock_parse(&now, text, len, &err) != RC_OK) {
		folders_say(o, "%s: %s", folder, dir < 0 ? strerror(errno) : err.text);
	} else if (model_lock_load(&old, folder, &err) == RC_OK && same_lock(o, &old, &now)) {
		say_locked(o, &old, "unchanged, keeps its lock");
		code = EX_ALL_DONE;
	} else if (durable_write(dir, MODEL_LOCK_NAME, text, len, true, &err) != RC_OK) {
		folders_say(o, "%s: %s", folder, err.text);
	} else {
		say_locked(o, &now, "locked");
		code = EX_ALL_DONE;
	}
	model_lock_release(&now);
	model_lock_release(&old);
	if (dir >= 0)
		close(dir);
	return code;
}

static int lock_one(const struct folders_options *o, const char *name)
{
	struct model_files files = {NULL};
	struct locking l = {.files = &files, .bar = bar_title(o, "locking")};
	char *folder, *text = NULL;
	struct err err;
	size_t len = 0;
	int code;

	folder = folders_find(name, &err);
	if (!folder) {
		folders_say(o, "%s", err.text);
		return EX_CONFIGURATION;
	}
	l.folder = folder;
	if (model_files_list(&files, folder, &err) != RC_OK ||
	    check_links(folder, &files, &err) != RC_OK) {
		folders_say(o, "%s: %s", folder, err.text);
		code = EX_SOME_FAILED;
		goto out;
	}
	code = folders_confined(o, SANDBOX_MODEL, folder, -1, make_lock, &l, &text, &len);
	if (code == EX_ALL_DONE)
		code = text ? store_lock(o, folder, text, len) : EX_SOME_FAILED;
out:
	model_files_release(&files);
	free(text);
	free(folder);
	return code;
}

/* ---- verify and diff ---- */

struct comparing {
	const char *folder, *bar;
	bool list; /* what differs */
};

static const char *const kinds[] = {
	[FILE_SAME] = "same",	    [FILE_ADDED] = "added",	      [FILE_MISSING] = "missing",
	[FILE_CHANGED] = "changed", [FILE_UNREADABLE] = "unreadable",
};

static void print_json(const struct model_lock *lock, const char *folder,
		       const struct difference_of *v, size_t n)
{
	json_t *list = json_array();
	char *shown = folders_display(folder);

	for (size_t i = 0; i < n; i++) {
		char *path = folders_display(v[i].path);

		json_array_append_new(list,
				      json_pack("{s:s, s:s, s:I, s:I}", "path", path, "is",
						kinds[v[i].kind], "bytes", (json_int_t)v[i].found,
						"locked_bytes", (json_int_t)v[i].locked));
		free(path);
	}
	folders_print_json(json_pack("{s:s, s:s, s:b, s:s, s:I, s:i, s:s, s:o}", "model",
				     lock->model, "folder", shown, "unchanged", !n, "lock",
				     lock->sha256, "bytes", (json_int_t)lock->bytes, "files",
				     (int)lock->n, "date", lock->date, "differences", list));
	free(shown);
}

static void print_differences(const struct difference_of *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char *path = folders_display(v[i].path);

		printf("%-10s %s", kinds[v[i].kind], path);
		if (v[i].kind == FILE_UNREADABLE)
			printf("  %s", strerror(v[i].error));
		else if (v[i].kind == FILE_CHANGED && v[i].locked != v[i].found)
			printf("  %llu bytes, locked with %llu", (unsigned long long)v[i].found,
			       (unsigned long long)v[i].locked);
		putchar('\n');
		free(path);
	}
}

static int compare(const struct folders_options *o, void *arg, int out)
{
	const struct comparing *c = arg;
	struct difference_of *v = NULL;
	struct model_files files = {NULL};
	struct model_lock lock;
	struct pool *pool = NULL;
	int code = EX_CONFIGURATION;
	struct err err;
	size_t n;

	(void)out;
	if (model_lock_load(&lock, c->folder, &err) != RC_OK ||
	    model_files_list(&files, c->folder, &err) != RC_OK ||
	    pool_open(&pool, 0, &err) != RC_OK) {
		folders_say(o, "%s: %s", c->folder, err.text);
		goto out;
	}
	n = model_lock_compare(&lock, c->folder, &files, NULL, DIGEST_PIECES, pool, c->bar, &v);
	code = n ? EX_SOME_FAILED : EX_ALL_DONE;
	if (o->json)
		print_json(&lock, c->folder, v, n);
	else if (c->list)
		print_differences(v, n);
	else if (n)
		folders_say(o,
			    "%s: differs from its lock of %s in %zu of %zu files: "
			    "`cloister models diff` names them",
			    lock.model, lock.date, n, lock.n);
	else
		say_locked(o, &lock, "unchanged");
out:
	if (pool)
		pool_close(pool);
	model_files_release(&files);
	model_lock_release(&lock);
	free(v);
	return code;
}

static int compare_one(const struct folders_options *o, const char *name, bool list)
{
	struct comparing c = {.list = list, .bar = bar_title(o, "reading")};
	struct err err;
	char *folder = folders_find(name, &err);
	int code;

	if (!folder) {
		folders_say(o, "%s", err.text);
		return EX_CONFIGURATION;
	}
	c.folder = folder;
	code = folders_confined(o, SANDBOX_MODEL, folder, -1, compare, &c, NULL, NULL);
	free(folder);
	return code;
}

/* ---- several ---- */

static int worse(int a, int b)
{
	return a > b ? a : b;
}

int folders_lock(const struct folders_options *o)
{
	int code = EX_ALL_DONE;

	for (int i = 0; i < o->n_args; i++)
		code = worse(code, lock_one(o, o->args[i]));
	return code;
}

int folders_verify(const struct folders_options *o)
{
	int code = EX_ALL_DONE;

	for (int i = 0; i < o->n_args; i++)
		code = worse(code, compare_one(o, o->args[i], false));
	return code;
}

int folders_diff(const struct folders_options *o)
{
	int code = EX_ALL_DONE;

	for (int i = 0; i < o->n_args; i++)
		code = worse(code, compare_one(o, o->args[i], true));
	return code;
}
