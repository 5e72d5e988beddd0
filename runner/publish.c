/* SPDX-License-Identifier: MIT */
#include "publish.h"
#include "durable.h"
#include "kept.h"
#include "base/lines.h"
#include "base/log.h"
#include "base/name.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NAMES_MAX  100000
#define SUFFIX_MAX 16
#define RESULT_BYTES_MAX (1u << 30)

/* NAME, its last part cut to `max` bytes, before its suffix and not within a character. */
static char *shorten(const char *name, size_t max)
{
	const char *slash = strrchr(name, '/');
	const char *base = slash ? slash + 1 : name;
	const char *dot = strrchr(base, '.');
	size_t n = strlen(base);

	if (n <= max)
		return xstrdup(name);
	if (!dot || dot == base || strlen(dot) > SUFFIX_MAX)
		dot = base + n;
	n = max - strlen(dot);
	for (int i = 0; i < 3 && ((unsigned char)base[n] & 0xc0) == 0x80; i++)
		n--;
	return xasprintf("%.*s%s", (int)(base - name + (ptrdiff_t)n), name, dot);
}

char *publish_name(const char *name, unsigned n)
{
	char number[16] = "", *cut, *full;

	if (n > 1)
		snprintf(number, sizeof(number), "~%u", n);
	cut = shorten(name, NAME_MAX - strlen(number));
	full = xasprintf("%s%s", cut, number);
	free(cut);
	return full;
}

char *publish_failed_name(const char *name, unsigned n)
{
	char *cut = shorten(name, NAME_MAX - strlen("." WHY_SUFFIX ".part~12345"));
	char *full = publish_name(cut, n);

	free(cut);
	return full;
}

/* Split "a/b/c" into "a/b" and "c"; both freed by the caller. */
static void split(const char *path, char **dir, char **base)
{
	const char *slash = strrchr(path, '/');

	*dir = slash ? xstrndup(path, (size_t)(slash - path)) : xstrdup("");
	*base = xstrdup(slash ? slash + 1 : path);
}

enum answer { NO, YES, UNKNOWN };

/* Does FILE in folder NAME of dirfd have this value for the member? UNKNOWN, and errno, when the system
 * does not let us look. */
static enum answer tells(int dirfd, const char *name, const char *file, const char *member,
			 const char *value)
{
	char *path = xasprintf("%s/%s", name, file), *text;
	const char *found = NULL;
	json_t *json = NULL;
	enum answer answer;
	size_t len;

	text = read_whole(dirfd, path, RESULT_BYTES_MAX, &len);
	answer = text || errno == ENOENT || errno == ENOTDIR || errno == EINVAL ? NO : UNKNOWN;
	if (text)
		json = json_loadb(text, len, 0, NULL);
	found = json_string_value(json_object_get(json, member));
	if (found && !strcmp(found, value))
		answer = YES;
	json_decref(json);
	free(text);
	free(path);
	return answer;
}

static enum answer is_result_of(int dirfd, const char *name, const char *member, const char *value)
{
	enum answer answer = tells(dirfd, name, "document.json", member, value);

	return answer == NO ? tells(dirfd, name, "archive.json", member, value) : answer;
}

enum rc publish_find(struct run *run, const struct token *t, const char *member,
		     const char *value, char **found, struct err *err)
{
	enum answer answer = NO;
	enum rc rc = RC_OK;
	char *dir, *base;
	int fd;

	*found = NULL;
	split(t->result, &dir, &base);
	fd = openat(run->spool->out, *dir ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && errno != ENOENT && errno != ENOTDIR)
		rc = err_errno(err, RC_RETRY, "system", "look for out/%s", t->result);
	for (unsigned n = 1; fd >= 0 && answer == NO && n < NAMES_MAX; n++) {
		char *name = publish_name(base, n);
		bool there = !faccessat(fd, name, F_OK, AT_SYMLINK_NOFOLLOW);

		if (there)
			answer = is_result_of(fd, name, member, value);
		else if (errno != ENOENT)
			answer = UNKNOWN;
		if (answer == YES)
			*found = *dir ? xasprintf("%s/%s", dir, name) : xstrdup(name);
		if (answer == UNKNOWN)
			rc = err_errno(err, RC_RETRY, "system", "look into out/%s", t->result);
		free(name);
		if (!there)
			break;
	}
	if (fd >= 0)
		close(fd);
	free(dir);
	free(base);
	return rc;
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
		if (rc != RC_OK && !strcmp(err->reason, "exists")) {
			enum answer answer = is_result_of(parent, name, "key", t->key);

			if (answer == UNKNOWN)
				err_errno(err, RC_RETRY, "system", "look into out/%s", t->result);
			if (answer == YES)
				rc = RC_OK;
		}
		if (rc == RC_OK) {
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

/* Sync the folder that FILE beneath root lies, or lay, in. */
static void sync_folder_of(int root, const char *file)
{
	char *dir, *base;
	int fd;

	split(file, &dir, &base);
	fd = openat(root, *dir ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && errno != ENOENT) /* somebody may have taken the whole folder away already */
		die(EX_WORK_REMAINS, "open the folder of %s to sync it: %s", file, strerror(errno));
	if (fd >= 0) {
		durable_sync(fd, file);
		close(fd);
	}
	free(dir);
	free(base);
}

void publish_sync(struct run *run, const char *final)
{
	sync_folder_of(run->spool->out, final);
}

/* Folder DIR beneath root, made when missing and `make`. Where a document lies under the name of a
 * folder on the way (it was there before the folder was), the folder gets ~2, ~3 ... */
static int open_beneath(int root, const char *dir, bool make, struct err *err)
{
	int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (const char *p = dir; fd >= 0 && *p;) {
		size_t length = strcspn(p, "/");
		char *part = xstrndup(p, length);
		int next = -1;

		errno = ENOTDIR;
		for (unsigned n = 1; next < 0 && errno == ENOTDIR && n < NAMES_MAX; n++) {
			char *name = publish_name(part, n);

			next = make ? durable_mkdirs(fd, name, err)
				    : openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			free(name);
		}
		free(part);
		close(fd);
		fd = next;
		p += length + (p[length] == '/');
	}
	return fd;
}

/* Move fromdir/file to the same place beneath `to`, under a name that is free. The new folder is
 * synced; its caller syncs the old one (sync_folder_of), before the token goes: a token that is gone for
 * good beside an original that came back would have it read a second time. */
static enum rc move_beneath(int fromdir, const char *file, int to, const char *as,
			    struct err *err)
{
	char *dir, *base;
	enum rc rc = RC_RETRY;
	int parent;

	split(as, &dir, &base);
	parent = open_beneath(to, dir, true, err);
	for (unsigned n = 1; parent >= 0 && n < NAMES_MAX; n++) {
		char *name = publish_name(base, n);

		rc = durable_move(fromdir, file, parent, name, err);
		free(name);
		if (rc == RC_OK || strcmp(err->reason, "exists"))
			break;
	}
	if (rc == RC_OK)
		durable_sync(parent, as);
	if (parent >= 0)
		close(parent);
	free(dir);
	free(base);
	return rc;
}

/* The system will not change its mind while we wait. */
static bool is_forbidden(void)
{
	return errno == EACCES || errno == EPERM || errno == EROFS || errno == EXDEV ||
	       errno == EBUSY; /* it is a mount point itself */
}

static enum rc move_ticket(struct run *run, const char *file, int to, const char *as,
			   struct err *err)
{
	char *ticket = xasprintf("%s" TICKET_SUFFIX, file);
	char *ticket_as = xasprintf("%s" TICKET_SUFFIX, as);
	enum rc rc = RC_OK;
	struct stat st;

	if (fstatat(run->spool->in, ticket, &st, AT_SYMLINK_NOFOLLOW)) {
		if (errno != ENOENT && errno != ENAMETOOLONG)
			rc = err_errno(err, RC_RETRY, "system", "stat in/%s", ticket);
	} else if (S_ISREG(st.st_mode)) {
		rc = move_beneath(run->spool->in, ticket, to, ticket_as, err);
	}
	if (rc != RC_OK && (is_forbidden() || !strcmp(err->reason, "vanished"))) {
		log_warn("ticket of %s: %s", file, err->text);
		rc = RC_OK;
	}
	free(ticket);
	free(ticket_as);
	return rc;
}

void publish_sweep_members(struct run *run, const char *folder)
{
	int fd = openat(run->spool->members, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	bool last = true;

	for (struct dirent *e; dir && last && (e = readdir(dir));)
		last = e->d_name[0] == '.' || !strcmp(e->d_name, "archive.json");
	if (dir)
		closedir(dir);
	if (dir && last)
		durable_remove_tree(run->spool->members, folder);
}

static void sweep_members(struct run *run, const char *file)
{
	char *folder, *base;

	split(file, &folder, &base);
	publish_sweep_members(run, folder);
	free(folder);
	free(base);
}

bool publish_is_original(struct run *run, const struct token *t, bool *there)
{
	int folder = t->source == SOURCE_IN ? run->spool->in : run->spool->members;
	struct stat st;

	*there = !fstatat(folder, t->file, &st, AT_SYMLINK_NOFOLLOW);
	if (!*there && errno != ENOENT && errno != ENOTDIR)
		return *there = true; /* as far as we can see: moving it will tell */
	return *there && S_ISREG(st.st_mode) && (uint64_t)st.st_size == t->bytes &&
	       (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec == t->mtime_ns;
}

enum rc publish_original(struct run *run, const struct token *t, enum originals_policy policy,
			 bool *stays, struct err *err)
{
	enum rc rc = RC_OK;
	bool there;

	*stays = false;
	if (t->source == SOURCE_MEMBER) {
		unlinkat(run->spool->members, t->file, 0);
		sync_folder_of(run->spool->members, t->file);
		sweep_members(run, t->file);
		return rc;
	}
	if (policy == ORIGINALS_KEEP) {
		*stays = true;
		return rc;
	}
	if (!publish_is_original(run, t, &there)) {
		run->intake.urgent |= there; /* a new document has taken its place */
		return rc;
	}
	if (policy == ORIGINALS_DELETE) {
		char *ticket = xasprintf("%s" TICKET_SUFFIX, t->file);

		unlinkat(run->spool->in, ticket, 0);
		if (unlinkat(run->spool->in, t->file, 0) && errno != ENOENT)
			rc = err_errno(err, RC_RETRY, "write-error", "remove in/%s", t->file);
		free(ticket);
	} else {
		rc = move_ticket(run, t->file, run->spool->done, t->file, err);
		if (rc == RC_OK)
			rc = move_beneath(run->spool->in, t->file, run->spool->done, t->file, err);
		if (rc != RC_OK && !strcmp(err->reason, "vanished"))
			rc = RC_OK;
	}
	if (rc == RC_OK)
		sync_folder_of(run->spool->in, t->file);
	if (rc != RC_OK && is_forbidden()) {
		log_error("original of out/%s stays in in/: %s", t->result, err->text);
		*stays = true;
		rc = RC_OK;
	}
	return rc;
}

/* What lies in failed/ under a name: nothing; a reason of ours alone, because an attempt died
 * before it moved the document; both; or something of another document. */
enum failed_place { PLACE_FREE, PLACE_BEGUN, PLACE_DONE, PLACE_TAKEN, PLACE_UNKNOWN };

static const char *text_of(const json_t *why, const char *key)
{
	const char *text = json_string_value(json_object_get(why, key));

	return text ? text : "";
}

/* Does the reason that lies there speak of our document? One that vanished may have failed under a key that
 * another machine gave it. */
static bool is_ours(const json_t *old, const json_t *why, bool document)
{
	const char *key = text_of(why, "key"), *old_key = text_of(old, "key");

	/* What was never admitted has no key: a reason without its document may be taken over, unless
	 * that is to be so. */
	if (!*key || !*old_key)
		return !*key && !*old_key && !document && !json_object_get(old, "original");
	return !strcmp(key, old_key) || (!strcmp(text_of(why, "reason"), "vanished") &&
					 !strcmp(text_of(why, "sha256"), text_of(old, "sha256")));
}

static enum failed_place look_in_failed(int parent, const char *name, const char *why_name,
					const json_t *why)
{
	bool document = !faccessat(parent, name, F_OK, AT_SYMLINK_NOFOLLOW), ours;
	json_t *old;
	size_t len;
	char *text;

	if (!document && errno != ENOENT)
		return PLACE_UNKNOWN;
	text = read_whole(parent, why_name, RESULT_BYTES_MAX, &len);
	if (!text && errno != ENOENT)
		return errno == EINVAL || errno == ELOOP ? PLACE_TAKEN : PLACE_UNKNOWN;
	if (!text)
		return document ? PLACE_TAKEN : PLACE_FREE;
	old = json_loadb(text, len, 0, NULL);
	ours = is_ours(old, why, document);
	json_decref(old);
	free(text);
	return !ours ? PLACE_TAKEN : document ? PLACE_DONE : PLACE_BEGUN;
}

static enum rc write_why(int parent, const char *name, json_t *why, struct err *err)
{
	char *text = json_dumps(why, JSON_INDENT(2));
	enum rc rc = durable_write(parent, name, text, strlen(text), true, err);

	free(text);
	return rc;
}

/* Reason and document into failed/ under this name; PLACE_TAKEN when it belongs to another. The reason
 * says that the original *stays only when that has been found out: until then, whoever finds it alone
 * goes on with the move. */
static enum failed_place put_in_failed(struct run *run, int parent, const char *name, json_t *why,
				       const struct token *t, bool *stays, enum rc *rc,
				       struct err *err)
{
	int from = t->source == SOURCE_IN ? run->spool->in : run->spool->members;
	char *why_name = xasprintf("%s" WHY_SUFFIX, name);
	enum failed_place place = look_in_failed(parent, name, why_name, why);

	*rc = RC_OK;
	if (place == PLACE_UNKNOWN)
		*rc = err_errno(err, RC_RETRY, "system", "look into failed/%s", name);
	/* PLACE_DONE too: a move in two steps may have been cut short between them. */
	if (place == PLACE_FREE || place == PLACE_BEGUN || place == PLACE_DONE) {
		bool done = place == PLACE_DONE;
		bool written = done || (*rc = write_why(parent, why_name, why, err)) == RC_OK;
		bool moved = written &&
			     (*rc = durable_move(from, t->file, parent, name, err)) == RC_OK;
		bool exists = written && !moved && !strcmp(err->reason, "exists");
		bool stale = written && !moved && !strcmp(err->reason, "stale");

		if (written && !moved && ((done && exists) || !strcmp(err->reason, "vanished"))) {
			*rc = RC_OK; /* there is nothing left to move; the reason stands */
		} else if (written && !moved && t->source == SOURCE_IN && is_forbidden()) {
			json_object_set_new(why, "original", kept_original(t, strerror(errno)));
			log_warn("original of failed/%s stays in in/: %s", t->result, err->text);
			*rc = write_why(parent, why_name, why, err);
			*stays = *rc == RC_OK;
		}
		if (*rc != RC_OK && !done && !exists && !stale) /* else it may be another's */
			unlinkat(parent, why_name, 0);
		durable_sync(parent, "failed");
		if (!*stays)
			sync_folder_of(from, t->file);
	}
	free(why_name);
	return place;
}

int publish_open_failed(const struct spool *spool, const char *result, bool make, char **base,
			struct err *err)
{
	char *dir;
	int fd;

	split(result, &dir, base);
	fd = open_beneath(spool->failed, dir, make, err);
	free(dir);
	return fd;
}

static void describe(json_t *why, const char *result, const struct err *reason)
{
	time_t now = time(NULL);
	struct buf shown;
	char stamp[32];
	struct tm tm;

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
}

enum rc publish_failure(struct run *run, const struct token *t, json_t *why,
			const struct err *reason, struct err *err)
{
	bool taken = true, stays = false;
	enum rc rc = RC_RETRY;
	char *base;
	int parent = publish_open_failed(run->spool, t->result, true, &base, err);

	describe(why, t->result, reason);
	for (unsigned n = 1; parent >= 0 && taken && n < NAMES_MAX; n++) {
		char *name = publish_failed_name(base, n);

		taken = put_in_failed(run, parent, name, why, t, &stays, &rc, err) == PLACE_TAKEN;
		if (!taken && rc == RC_OK && t->source == SOURCE_IN && !stays) {
			const char *slash = strrchr(t->result, '/');
			char *as = xasprintf("%.*s%s", slash ? (int)(slash + 1 - t->result) : 0,
					     t->result, name);

			rc = move_ticket(run, t->file, run->spool->failed, as, err);
			free(as);
		}
		free(name);
	}
	if (rc == RC_OK && stays)
		kept_add_failure(run, t);
	if (rc == RC_OK && t->source == SOURCE_MEMBER)
		sweep_members(run, t->file);
	if (parent >= 0)
		close(parent);
	json_decref(why);
	free(base);
	return rc;
}
