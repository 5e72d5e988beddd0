/* SPDX-License-Identifier: MIT */
#include "publish.h"
#include "durable.h"
#include "base/log.h"
#include "base/name.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NAMES_MAX 100000

char *publish_name(const char *name, unsigned n)
{
	return n < 2 ? xstrdup(name) : xasprintf("%s~%u", name, n);
}

/* Split "a/b/c" into "a/b" and "c"; both freed by the caller. */
static void split(const char *path, char **dir, char **base)
{
	const char *slash = strrchr(path, '/');

	*dir = slash ? strndup(path, (size_t)(slash - path)) : xstrdup("");
	*base = xstrdup(slash ? slash + 1 : path);
}

/* The key in folder NAME of dirfd, as document.json or archive.json tells it. */
static bool has_key(int dirfd, const char *name, const char *file, const char *key)
{
	char *path = xasprintf("%s/%s", name, file);
	int fd = openat(dirfd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	json_t *json = fd < 0 ? NULL : json_loadfd(fd, 0, NULL);
	const char *found = json_string_value(json_object_get(json, "key"));
	bool same = found && !strcmp(found, key);

	json_decref(json);
	if (fd >= 0)
		close(fd);
	free(path);
	return same;
}

static bool is_result_of(int dirfd, const char *name, const char *key)
{
	return has_key(dirfd, name, "document.json", key) ||
	       has_key(dirfd, name, "archive.json", key);
}

char *publish_find(struct run *run, const struct token *t)
{
	char *dir, *base, *found = NULL;
	int fd;

	split(t->result, &dir, &base);
	fd = openat(run->spool->out, *dir ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (unsigned n = 1; fd >= 0 && !found && n < NAMES_MAX; n++) {
		char *name = publish_name(base, n);
		bool there = !faccessat(fd, name, F_OK, AT_SYMLINK_NOFOLLOW);

		if (there && is_result_of(fd, name, t->key))
			found = *dir ? xasprintf("%s/%s", dir, name) : xstrdup(name);
		free(name);
		if (!there)
			break;
	}
	if (fd >= 0)
		close(fd);
	free(dir);
	free(base);
	return found;
}

enum rc publish_result(struct run *run, int attempt, const struct token *t, char **final,
		       struct err *err)
{
	char *dir, *base;
	enum rc rc = RC_RETRY;
	int parent;

	*final = NULL;
	split(t->result, &dir, &base);
	parent = durable_mkdirs(run->spool->out, dir, err);
	for (unsigned n = 1; parent >= 0 && !*final && n < NAMES_MAX; n++) {
		char *name = publish_name(base, n);

		rc = durable_move(attempt, "out", parent, name, err);
		if (rc == RC_OK || (!strcmp(err->reason, "exists") &&
				    is_result_of(parent, name, t->key))) {
			rc = RC_OK;
			*final = *dir ? xasprintf("%s/%s", dir, name) : xstrdup(name);
		}
		free(name);
		if (rc != RC_OK && strcmp(err->reason, "exists"))
			break;
	}
	if (parent >= 0)
		close(parent);
	free(dir);
	free(base);
	return rc;
}

void publish_sync(struct run *run, const char *final)
{
	char *dir, *base;
	int fd;

	split(final, &dir, &base);
	fd = openat(run->spool->out, *dir ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		die(EX_WORK_REMAINS, "open out/%s to sync it: %s", dir, strerror(errno));
	durable_sync(fd, dir);
	close(fd);
	free(dir);
	free(base);
}

/* Move fromdir/file to the same place beneath `to`, under a name that is free. */
static enum rc move_beneath(int fromdir, const char *file, int to, const char *as,
			    struct err *err)
{
	char *dir, *base;
	enum rc rc = RC_RETRY;
	int parent;

	split(as, &dir, &base);
	parent = durable_mkdirs(to, dir, err);
	for (unsigned n = 1; parent >= 0 && n < NAMES_MAX; n++) {
		char *name = publish_name(base, n);

		rc = durable_move(fromdir, file, parent, name, err);
		free(name);
		if (rc == RC_OK || strcmp(err->reason, "exists"))
			break;
	}
	if (parent >= 0)
		close(parent);
	free(dir);
	free(base);
	return rc;
}

static void move_ticket(struct run *run, const char *file, int to, const char *as)
{
	char *ticket = xasprintf("%s" TICKET_SUFFIX, file);
	char *ticket_as = xasprintf("%s" TICKET_SUFFIX, as);
	struct stat st;
	struct err err;

	if (!fstatat(run->spool->in, ticket, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode) &&
	    move_beneath(run->spool->in, ticket, to, ticket_as, &err) != RC_OK)
		log_warn("ticket of %s: %s", file, err.text);
	free(ticket);
	free(ticket_as);
}

/* The last member takes the folder, with the manifest in it, along. */
static void sweep_members(struct run *run, const char *file)
{
	char *folder, *base;
	bool last = true;
	DIR *dir;
	int fd;

	split(file, &folder, &base);
	fd = openat(run->spool->members, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	for (struct dirent *e; dir && last && (e = readdir(dir));)
		last = e->d_name[0] == '.' || !strcmp(e->d_name, "archive.json");
	if (dir)
		closedir(dir);
	if (dir && last)
		durable_remove_tree(run->spool->members, folder);
	free(folder);
	free(base);
}

void publish_original(struct run *run, const struct token *t, enum originals_policy policy)
{
	enum rc rc = RC_OK;
	struct err err;

	if (t->source == SOURCE_MEMBER) {
		unlinkat(run->spool->members, t->file, 0);
		sweep_members(run, t->file);
		return;
	}
	if (policy == ORIGINALS_KEEP)
		return;
	if (policy == ORIGINALS_DELETE) {
		char *ticket = xasprintf("%s" TICKET_SUFFIX, t->file);

		unlinkat(run->spool->in, ticket, 0);
		unlinkat(run->spool->in, t->file, 0);
		free(ticket);
		return;
	}
	move_ticket(run, t->file, run->spool->done, t->file);
	rc = move_beneath(run->spool->in, t->file, run->spool->done, t->file, &err);
	if (rc != RC_OK && strcmp(err.reason, "vanished"))
		log_warn("original of out/%s stays in in/: %s", t->result, err.text);
}

/* Write PARENT/NAME.why.json, unless there is one already; false when the name is taken by another
 * document. */
static bool take_failed_name(int parent, const char *name, json_t *why, enum rc *rc,
			     struct err *err)
{
	char *why_name = xasprintf("%s" WHY_SUFFIX, name), *text;
	const char *key = json_string_value(json_object_get(why, "key"));
	int fd = openat(parent, why_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	bool taken = !faccessat(parent, name, F_OK, AT_SYMLINK_NOFOLLOW);

	*rc = RC_OK;
	if (fd >= 0) {
		json_t *old = json_loadfd(fd, 0, NULL);
		const char *old_key = json_string_value(json_object_get(old, "key"));

		taken |= !key || !old_key || strcmp(key, old_key);
		json_decref(old);
		close(fd);
	}
	if (!taken) {
		text = json_dumps(why, JSON_INDENT(2));
		*rc = durable_write(parent, why_name, text, strlen(text), true, err);
		free(text);
	}
	free(why_name);
	return !taken;
}

enum rc publish_failure(struct run *run, enum token_source source, const char *file,
			const char *result, json_t *why, const struct err *reason,
			struct err *err)
{
	int from = source == SOURCE_IN ? run->spool->in : run->spool->members;
	char stamp[32], *dir, *base;
	time_t now = time(NULL);
	enum rc rc = RC_RETRY;
	struct buf shown;
	struct tm tm;
	int parent;

	gmtime_r(&now, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &tm);
	buf_init(&shown, 1 << 16);
	name_escape(&shown, result, strlen(result));
	json_object_set_new(why, "document", json_string(shown.data));
	json_object_set_new(why, "reason", json_string(reason->reason));
	buf_clear(&shown);
	utf8_repair(&shown, reason->text, strlen(reason->text));
	json_object_set_new(why, "text", json_string(shown.data));
	json_object_set_new(why, "time", json_string(stamp));
	json_object_set_new(why, "cloister", json_string(CLOISTER_VERSION));
	buf_release(&shown);
	split(result, &dir, &base);
	parent = durable_mkdirs(run->spool->failed, dir, err);
	for (unsigned n = 1; parent >= 0 && n < NAMES_MAX; n++) {
		char *name = publish_name(base, n);
		bool mine = take_failed_name(parent, name, why, &rc, err);

		if (mine && rc == RC_OK) {
			rc = durable_move(from, file, parent, name, err);
			if (rc != RC_OK && !strcmp(err->reason, "vanished"))
				rc = RC_OK; /* there is nothing left to move; the reason stands */
			durable_sync(parent, dir);
			if (source == SOURCE_IN) {
				char *as = *dir ? xasprintf("%s/%s", dir, name) : xstrdup(name);

				move_ticket(run, file, run->spool->failed, as);
				free(as);
			} else {
				sweep_members(run, file);
			}
		}
		free(name);
		if (mine)
			break;
	}
	if (parent >= 0)
		close(parent);
	json_decref(why);
	free(dir);
	free(base);
	return rc;
}
