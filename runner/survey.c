/* SPDX-License-Identifier: MIT
 *
 * survey: in/ gives the files, the names of the tokens tell which of them have been admitted (they
 * hold a hash of the path), out/ and failed/ hold the rest. Only the tokens of documents that do not
 * lie in in/, members of archives, need to be opened.
 */
#include "survey.h"
#include "kept.h"
#include "publish.h"
#include "base/buf.h"
#include "base/name.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 64
#define PATH_BYTES 4096
#define JSON_BYTES (256u << 20)

const char *document_state_name(enum document_state state)
{
	static const char *const names[] = { "waiting", "ready",   "active",   "deferred", "hold",
					     "done",    "flagged", "unpacked", "failed" };

	return state < DOCUMENT_STATES ? names[state] : "?";
}

static struct listed *add(struct survey *s, enum document_state state, const char *path,
			    const char *default_pipeline)
{
	struct listed *d;
	char pipeline[65];

	if (s->n == s->cap) {
		s->cap = s->cap ? 2 * s->cap : 64;
		s->documents = xrealloc(s->documents, s->cap * sizeof(*s->documents));
	}
	spool_pipeline_of(path, default_pipeline, pipeline);
	d = &s->documents[s->n++];
	*d = (struct listed){ .state = state,
				.path = xstrdup(path),
				.pipeline = xstrdup(pipeline),
				.pages = -1,
				.members = -1 };
	return d;
}

static void release_listed(struct listed *d)
{
	free(d->path);
	free(d->pipeline);
	free(d->token);
	free(d->worker);
}

void survey_release(struct survey *s)
{
	for (size_t i = 0; i < s->n; i++)
		release_listed(&s->documents[i]);
	free(s->documents);
	*s = (struct survey){ 0 };
}

/* ---- walking a tree ---- */

struct walk {
	struct survey *survey;
	const struct spool *spool;
	const char *default_pipeline;
	/* Called for every entry that is not hidden; path is beneath the top. true: go into it. */
	bool (*entry)(struct walk *w, int dirfd, const char *name, const char *path);
};

static void walk_folder(struct walk *w, int dirfd, const char *name, struct buf *path, int depth)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	size_t before = path->len;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	for (struct dirent *e; (e = readdir(dir));) {
		if (e->d_name[0] == '.')
			continue;
		if (before)
			buf_addc(path, '/');
		buf_adds(path, e->d_name);
		if (!path->overflow && w->entry(w, fd, e->d_name, path->data) && depth < DEPTH_MAX)
			walk_folder(w, fd, e->d_name, path, depth + 1);
		path->overflow = false;
		path->len = before;
	}
	closedir(dir);
}

static void walk_tree(struct walk *w, int top)
{
	struct buf path;

	buf_init(&path, PATH_BYTES);
	walk_folder(w, top, ".", &path, 0);
	buf_release(&path);
}

static bool is_folder(int dirfd, const char *name)
{
	struct stat st;

	return !fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) && S_ISDIR(st.st_mode);
}

static bool in_entry(struct walk *w, int dirfd, const char *name, const char *path)
{
	if (is_folder(dirfd, name))
		return true;
	if (!spool_ignores(name)) {
		struct listed *d = add(w->survey, DOCUMENT_WAITING, path, w->default_pipeline);

		d->hash = token_path_hash(SOURCE_IN, path);
	}
	return false;
}

static json_t *read_in(int dirfd, const char *folder, const char *name)
{
	struct buf path;
	json_t *json;

	buf_init(&path, 512);
	buf_addf(&path, "%s/%s", folder, name);
	json = read_json(dirfd, path.data);
	buf_release(&path);
	return json;
}

static void add_result(struct walk *w, const char *path, json_t *result)
{
	struct listed *d = add(w->survey, DOCUMENT_DONE, path, w->default_pipeline);
	json_t *counts = json_object_get(result, "counts");
	json_t *pages = json_object_get(counts, "pages");

	if (json_is_integer(pages))
		d->pages = json_integer_value(pages);
	if (json_integer_value(json_object_get(counts, "flagged")) ||
	    json_integer_value(json_object_get(counts, "failed")))
		d->state = DOCUMENT_FLAGGED;
}

/* A folder with document.json in it is a result; one with archive.json is an archive, and holds the
 * results of its members. */
static bool out_entry(struct walk *w, int dirfd, const char *name, const char *path)
{
	json_t *result, *archive;

	if (!is_folder(dirfd, name))
		return false;
	result = read_in(dirfd, name, "document.json");
	archive = result ? NULL : read_in(dirfd, name, "archive.json");
	if (result)
		add_result(w, path, result);
	if (archive)
		add(w->survey, DOCUMENT_UNPACKED, path, w->default_pipeline)->members =
			(int64_t)json_object_size(json_object_get(archive, "files"));
	json_decref(archive);
	json_decref(result);
	return true;
}

static bool ends_with(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n > m && !strcmp(s + n - m, suffix);
}

/* Why files stand for documents that were gone, or could not be moved. */
static bool failed_entry(struct walk *w, int dirfd, const char *name, const char *path)
{
	if (is_folder(dirfd, name))
		return true;
	if (ends_with(name, WHY_SUFFIX)) {
		struct buf bare, file;
		struct stat st;

		buf_init(&bare, PATH_BYTES);
		buf_init(&file, PATH_BYTES);
		buf_add(&bare, path, strlen(path) - strlen(WHY_SUFFIX));
		buf_add(&file, name, strlen(name) - strlen(WHY_SUFFIX));
		if (fstatat(dirfd, file.data, &st, AT_SYMLINK_NOFOLLOW))
			add(w->survey, DOCUMENT_FAILED, bare.data, w->default_pipeline);
		buf_release(&bare);
		buf_release(&file);
	} else if (!spool_ignores(name)) {
		add(w->survey, DOCUMENT_FAILED, path, w->default_pipeline);
	}
	return false;
}

/* ---- tokens ---- */

static int by_hash(const void *a, const void *b)
{
	uint64_t x = ((const struct listed *)a)->hash;
	uint64_t y = ((const struct listed *)b)->hash;

	return x < y ? -1 : x > y;
}

static int by_path(const void *a, const void *b)
{
	const struct listed *x = a, *y = b;
	int order = strcmp(x->path, y->path);

	return order ? order : (int)x->state - (int)y->state;
}

struct tokens {
	struct walk *walk;
	size_t n_in; /* the files of in/, sorted by hash, are documents[0 .. n_in) */
};

static bool token_entry(const struct token_entry *e, void *arg)
{
	struct tokens *t = arg;
	struct survey *s = t->walk->survey;
	struct listed wanted = { .hash = e->path_hash };
	struct listed *d =
		t->n_in ? bsearch(&wanted, s->documents, t->n_in, sizeof(*d), by_hash) : NULL;
	struct token token;
	struct err err;

	/* A token met twice has moved while we walked: the later place is the newer one. */
	if (!d) {
		if (token_read(e->dirfd, e->name, &token, &err) != RC_OK)
			return true;
		d = add(s, DOCUMENT_READY,
			token.source == SOURCE_IN ? token.file : token.result,
			t->walk->default_pipeline);
		free(d->pipeline);
		d->pipeline = xstrdup(token.pipeline);
		token_release(&token);
	}
	d->state = DOCUMENT_READY + (enum document_state)e->state;
	d->priority = e->priority;
	free(d->token);
	d->token = xstrdup(e->name);
	free(d->worker);
	d->worker = e->worker ? xstrdup(e->worker) : NULL;
	return true;
}

static bool same_shown(const char *path, const char *name)
{
	struct buf b;
	bool same;

	buf_init(&b, 4 * PATH_BYTES);
	name_escape(&b, path, strlen(path));
	same = b.data && !strcmp(b.data, name);
	buf_release(&b);
	return same;
}

/* The document's path, as it is or as it is shown? One that lies in in/ itself may also be named by
 * the pipeline it belongs to, as its result is. */
static bool is_path(const struct listed *d, const char *name)
{
	size_t n = strlen(d->pipeline);

	if (!strchr(d->path, '/') && !strncmp(name, d->pipeline, n) && name[n] == '/')
		name += n + 1;
	return !strcmp(d->path, name) || same_shown(d->path, name);
}

/* What the run says of the documents it reads. */
static void add_progress(struct survey *s, const struct spool *spool)
{
	json_t *status = read_json(spool->state, "status.json");
	json_t *active;
	size_t i;

	json_array_foreach(json_object_get(status, "active"), i, active) {
		const char *path = json_string_value(json_object_get(active, "path"));
		json_t *pages = json_object_get(active, "pages");

		for (size_t k = 0; path && k < s->n; k++) {
			struct listed *d = &s->documents[k];

			if (d->state != DOCUMENT_ACTIVE || !is_path(d, path))
				continue;
			if (json_is_integer(pages))
				d->pages = json_integer_value(pages);
			d->finished = json_integer_value(json_object_get(active, "page"));
		}
	}
	json_decref(status);
}

/* Is this file finished, and stays where it is (kept.h)? Then its result is there and nothing has
 * happened to the file since, not even a rename; or its reason is, and tells of it as it is. */
static bool is_kept(const struct spool *spool, const struct listed *d)
{
	static const char *const names[] = { "document.json", "archive.json" };
	struct stat result, file;
	struct buf path;
	bool kept = false;

	if (fstatat(spool->in, d->path, &file, AT_SYMLINK_NOFOLLOW))
		return false;
	buf_init(&path, 2 * PATH_BYTES);
	for (size_t i = 0; i < 2 && !kept; i++) {
		buf_clear(&path);
		buf_addf(&path, "%s/%s", d->path, names[i]);
		kept = !fstatat(spool->out, path.data, &result, AT_SYMLINK_NOFOLLOW) &&
		       file.st_ctime <= result.st_mtime;
	}
	buf_release(&path);
	return kept || kept_is_failure(spool, d->path, &file);
}

static void drop_kept(struct survey *s, const struct spool *spool)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++) {
		struct listed *d = &s->documents[i];

		if (d->state == DOCUMENT_WAITING && is_kept(spool, d))
			release_listed(d);
		else
			s->documents[n++] = *d;
	}
	s->n = n;
}

enum rc survey_take(struct survey *s, const struct spool *spool, const char *default_pipeline,
		    unsigned what, struct err *err)
{
	struct walk w = { .survey = s, .spool = spool, .default_pipeline = default_pipeline };
	struct tokens t = { .walk = &w };
	enum rc rc = RC_OK;

	*s = (struct survey){ 0 };
	if (what & SURVEY_IN) {
		w.entry = in_entry;
		walk_tree(&w, spool->in);
		t.n_in = s->n;
		if (s->n)
			qsort(s->documents, s->n, sizeof(*s->documents), by_hash);
		rc = spool_walk_tokens(spool, (1u << TOKEN_STATES) - 1, token_entry, &t, err);
		drop_kept(s, spool);
		add_progress(s, spool);
	}
	if (what & SURVEY_FINISHED) {
		w.entry = out_entry;
		walk_tree(&w, spool->out);
	}
	if (what & SURVEY_FAILED) {
		w.entry = failed_entry;
		walk_tree(&w, spool->failed);
	}
	if (s->n)
		qsort(s->documents, s->n, sizeof(*s->documents), by_path);
	return rc;
}

/* ---- finding one ---- */

static bool has_key(const struct listed *d, const char *name)
{
	return d->token && strlen(name) == KEY_SIZE - 1 && !strncmp(d->token, name, KEY_SIZE - 1);
}

static bool is_end(const struct listed *d, const char *name)
{
	const char *slash = d->path;

	while ((slash = strchr(slash, '/'))) {
		slash++;
		if (!strcmp(slash, name) || same_shown(slash, name))
			return true;
	}
	return false;
}

size_t survey_find(const struct survey *s, const char *name,
		   void (*visit)(const struct listed *d, void *arg), void *arg)
{
	static bool (*const matches[])(const struct listed *d, const char *name) = {
		has_key, is_path, is_end
	};
	size_t found = 0;

	if (!strncmp(name, "in/", 3))
		name += 3; /* as submit prints it */
	for (size_t m = 0; m < 3 && !found; m++) {
		for (size_t i = 0; i < s->n; i++) {
			if (!matches[m](&s->documents[i], name))
				continue;
			visit(&s->documents[i], arg);
			found++;
		}
	}
	return found;
}

int survey_token_dir(const struct spool *spool, const struct listed *d, struct err *err)
{
	int parent = d->state == DOCUMENT_READY	   ? spool->ready
		     : d->state == DOCUMENT_ACTIVE   ? spool->active
		     : d->state == DOCUMENT_DEFERRED ? spool->deferred
						     : spool->hold;
	struct buf path;
	int fd;

	buf_init(&path, PATH_BYTES);
	if (d->state == DOCUMENT_READY)
		buf_addf(&path, "%u/%s", d->priority, d->pipeline);
	else
		buf_adds(&path, d->state == DOCUMENT_ACTIVE && d->worker ? d->worker : ".");
	fd = openat(parent, path.data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		err_set(err, RC_RETRY, "vanished", "has just moved on; ask again");
	buf_release(&path);
	return fd;
}

json_t *read_json(int dirfd, const char *path)
{
	int fd = openat(dirfd, path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	json_t *json = NULL;
	struct stat st;

	if (fd < 0)
		return NULL;
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size <= JSON_BYTES)
		json = json_loadfd(fd, 0, NULL);
	close(fd);
	if (!json_is_object(json)) {
		json_decref(json);
		return NULL;
	}
	return json;
}

json_t *survey_result(const struct spool *spool, const struct listed *d)
{
	struct buf path;
	json_t *json = NULL;

	buf_init(&path, PATH_BYTES + 64);
	buf_adds(&path, d->path);
	if (d->state == DOCUMENT_FAILED) {
		buf_adds(&path, WHY_SUFFIX);
		json = read_json(spool->failed, path.data);
	} else if (d->state == DOCUMENT_DONE || d->state == DOCUMENT_FLAGGED ||
		   d->state == DOCUMENT_UNPACKED) {
		buf_adds(&path, d->state == DOCUMENT_UNPACKED ? "/archive.json" : "/document.json");
		json = read_json(spool->out, path.data);
	}
	buf_release(&path);
	return json;
}

/* Does what is written about the document say otherwise? */
static bool has_other_bytes(const struct spool *spool, const struct listed *d, const char *sha256)
{
	json_t *json = survey_result(spool, d);
	const char *said = json_string_value(json_object_get(
		d->state == DOCUMENT_DONE || d->state == DOCUMENT_FLAGGED
			? json_object_get(json, "input")
			: json,
		"sha256"));
	bool other = said && strcmp(said, sha256);

	json_decref(json);
	return other;
}

/* Index of the first document whose path is not before this one. */
static size_t lower_bound(const struct survey *s, const char *path)
{
	size_t low = 0, high = s->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(s->documents[middle].path, path) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* One name may stand for a result and a failure, of two archives that were called the same. */
const struct listed *survey_member(const struct survey *s, const struct spool *spool,
				   const char *path, const char *sha256)
{
	bool taken = true;

	for (unsigned n = 1; taken; n++) {
		char *name = publish_name(path, n);

		taken = false;
		for (size_t i = lower_bound(s, name);
		     i < s->n && !strcmp(s->documents[i].path, name); i++) {
			taken = true;
			if (has_other_bytes(spool, &s->documents[i], sha256))
				continue;
			free(name);
			return &s->documents[i];
		}
		free(name);
	}
	return NULL;
}
