/* SPDX-License-Identifier: MIT
 *
 * Originals that stay in in/ when they are finished (kept.h).
 *
 * Invariant: a file that stays is taken in again when and only when it, or what it would be read with,
 * has changed, or its reason is gone.  What it was read as is told by kept_key(); of a result the key
 * stands in the index, or the result itself tells; of a failure it stands in the reason, and nowhere
 * else, so that removing the reason is all that it takes to have the file read again.  The set
 * `finished` spares a run from reading the file twice to find that out.
 */
#include "kept.h"
#include "durable.h"
#include "publish.h"
#include "base/lines.h"
#include "base/log.h"
#include "base/name.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WHY_BYTES_MAX (64u << 20)
#define PATH_BYTES    (1u << 16)

uint64_t kept_state(uint64_t path, uint64_t bytes, int64_t mtime_ns)
{
	uint64_t state[3] = { path, bytes, (uint64_t)mtime_ns };

	return hash64(state, sizeof(state));
}

static uint64_t state_of(const struct token *t)
{
	return kept_state(token_path_hash(t->source, t->file), t->bytes, t->mtime_ns);
}

/* What it was read as: file, settings and model. */
static void kept_key(const struct token *t, char key[17])
{
	char *text = xasprintf("%s %016" PRIx64, t->identity, state_of(t));

	snprintf(key, 17, "%016" PRIx64, hash64(text, strlen(text)));
	free(text);
}

void kept_add_result(struct run *run, const struct token *t, const char *final)
{
	char key[17];

	path_set_add(&run->intake.finished, state_of(t));
	kept_key(t, key);
	if (!index_has(&run->index, key))
		index_add(&run->index, key, final);
}

bool kept_find_result(struct run *run, const struct token *t, enum originals_policy policy,
		      char **final)
{
	bool keep = policy == ORIGINALS_KEEP;
	struct err err;
	char key[17];

	*final = NULL;
	if (t->source != SOURCE_IN)
		return false;
	kept_key(t, key);
	if (index_has(&run->index, key))
		return true;
	/* The same drop has the same key. Not seen now, it is found when it has a token. */
	if (publish_find(run, t, keep ? "identity" : "key", keep ? t->identity : t->key, final,
			 &err) != RC_OK)
		log_warn("%s", err.text);
	return *final;
}

json_t *kept_original(const struct token *t, const char *because)
{
	json_t *original;
	struct buf path;
	char key[17];

	kept_key(t, key);
	buf_init(&path, PATH_BYTES);
	name_encode(&path, t->file, strlen(t->file));
	original = json_pack("{s:s, s:I, s:I, s:s, s:s}", "in", path.data, "bytes",
			     (json_int_t)t->bytes, "mtime_ns", (json_int_t)t->mtime_ns, "read_as", key,
			     "stays", because);
	if (!original)
		BUG("original \"%s\" cannot be packed", t->file);
	buf_release(&path);
	return original;
}

void kept_add_failure(struct run *run, const struct token *t)
{
	struct intake *in = &run->intake;

	path_set_add(&in->finished, state_of(t));
	in->failures = xrealloc(in->failures, (in->n_failures + 1) * sizeof(*in->failures));
	in->failures[in->n_failures++] =
		(struct kept_failure){ .state = state_of(t), .file = xstrdup(t->file) };
}

/* A reason in failed/ that tells of an original in in/. */
struct reason {
	int folder;
	char *name;
	json_t *original; /* NULL: there is none */
};

static void reason_release(struct reason *r)
{
	if (r->folder >= 0)
		close(r->folder);
	free(r->name);
	json_decref(r->original);
}

/* Member "original" of a reason, or NULL; *unknown when it cannot be read now. New reference. */
static json_t *read_original(int folder, const char *name, bool *unknown)
{
	size_t len;
	char *text = read_whole(folder, name, WHY_BYTES_MAX, &len);
	json_t *why = text ? json_loadb(text, len, 0, NULL) : NULL;
	json_t *original = json_incref(json_object_get(why, "original"));

	*unknown = !text && errno != ENOENT && errno != EINVAL && errno != ELOOP && errno != EFBIG;
	json_decref(why);
	free(text);
	return original;
}

static bool is_about(const json_t *original, const char *file)
{
	const char *path = json_string_value(json_object_get(original, "in"));
	struct buf b;
	bool same;

	buf_init(&b, PATH_BYTES);
	same = path && *path && name_decode(&b, path, strlen(path)) && !strcmp(b.data, file);
	buf_release(&b);
	return same;
}

/* Find the reason about in/FILE. It lies alone, under the first name that was free. */
static enum rc find_reason(const struct spool *spool, const char *file, struct reason *r,
			   struct err *err)
{
	bool more = true, unknown = false;
	char *base;

	*r = (struct reason){ .folder = publish_open_failed(spool, file, false, &base, err) };
	if (r->folder < 0)
		unknown = errno != ENOENT && errno != ENOTDIR;
	for (unsigned n = 1; r->folder >= 0 && more; n++) {
		char *name = publish_failed_name(base, n);

		free(r->name);
		r->name = xasprintf("%s" WHY_SUFFIX, name);
		more = !faccessat(r->folder, name, F_OK, AT_SYMLINK_NOFOLLOW);
		unknown = !more && errno != ENOENT;
		if (!more && !unknown) {
			r->original = read_original(r->folder, r->name, &unknown);
			more = !unknown && !faccessat(r->folder, r->name, F_OK, AT_SYMLINK_NOFOLLOW);
		}
		free(name);
		if (is_about(r->original, file))
			break;
		json_decref(r->original);
		r->original = NULL;
	}
	free(base);
	if (unknown)
		return err_errno(err, RC_RETRY, "system", "look for the reason of in/%s", file);
	return RC_OK;
}

enum rc kept_look_for_failure(struct run *run, const struct token *t, bool *failed,
			      struct err *err)
{
	char key[17];
	struct reason r;
	enum rc rc;

	*failed = false;
	if (t->source != SOURCE_IN)
		return RC_OK;
	rc = find_reason(run->spool, t->file, &r, err);
	if (r.original) {
		const char *read_as = json_string_value(json_object_get(r.original, "read_as"));

		kept_key(t, key);
		*failed = read_as && !strcmp(read_as, key);
		if (*failed)
			kept_add_failure(run, t);
		else if (!unlinkat(r.folder, r.name, 0))
			durable_sync(r.folder, r.name);
	}
	reason_release(&r);
	return rc;
}

void kept_forget_withdrawn(struct run *run)
{
	struct intake *in = &run->intake;
	size_t n = 0;

	for (size_t i = 0; i < in->n_failures; i++) {
		struct kept_failure *f = &in->failures[i];
		struct reason r;
		struct err err;

		if (find_reason(run->spool, f->file, &r, &err) == RC_OK && !r.original) {
			path_set_remove(&in->finished, f->state);
			free(f->file);
		} else {
			in->failures[n++] = *f;
		}
		reason_release(&r);
	}
	in->n_failures = n;
}

static bool is_unchanged(const json_t *original, const struct stat *st)
{
	json_int_t mtime_ns = (json_int_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;

	return json_integer_value(json_object_get(original, "bytes")) == st->st_size &&
	       json_integer_value(json_object_get(original, "mtime_ns")) == mtime_ns;
}

bool kept_is_failure(const struct spool *spool, const char *file, const struct stat *st)
{
	struct reason r;
	struct err err;
	bool failed = find_reason(spool, file, &r, &err) == RC_OK && r.original &&
		      is_unchanged(r.original, st);

	reason_release(&r);
	return failed;
}

char *kept_file(int folder, const char *why_name)
{
	bool unknown;
	json_t *original = read_original(folder, why_name, &unknown);
	const char *path = json_string_value(json_object_get(original, "in"));
	struct buf b;

	buf_init(&b, PATH_BYTES);
	if (!path || !name_decode(&b, path, strlen(path)))
		buf_release(&b);
	json_decref(original);
	return b.data;
}
