/* SPDX-License-Identifier: MIT
 *
 * unpack: a model out of an archive of pack.c, in a folder that appears when all of it is right.
 *
 * The archive is parsed by a process that can create files in one hidden folder and nothing else.
 * It takes what pack.c writes and no more: the lock first, then regular files in the order of the
 * lock, of the sizes it says. They are called by their number (".0"), so no name out of the archive
 * is used there. This process reads the lock again, gives them their names, has every hash compared
 * by a process that can only read, syncs all, and renames the folder.
 *
 * An unpacking that is interrupted leaves the hidden folder, which the next one removes.
 */
#include "durable.h"
#include "folders/archive.h"
#include "folders/folders.h"
#include "base/lines.h"
#include "weights/lock.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define STAGING	   ".cloister-unpack"
#define LOCK_BYTES (16u << 20)
#define BLOCK	   (1u << 20)

struct unpacking {
	const char *file, *root, *bar;
	int archive, dir, staging; /* open: the archive, the root, the hidden folder */
	uint64_t room;		   /* bytes free there */
	struct archive *reader;
	struct progress progress;
};

/* ---- in the process that parses ---- */

static enum rc bad(struct unpacking *u, struct err *err)
{
	const char *why = archive_error_string(u->reader);

	return err_set(err, RC_FAILED, "archive", "%s",
		       why ? why : "is not an archive of this kind");
}

/* The next member: a regular file called TOP/path of this size. size UINT64_MAX: of any up to
 * LOCK_BYTES. */
static enum rc next_member(struct unpacking *u, const char *top, const char *path, uint64_t *size,
			   struct err *err)
{
	struct archive_entry *entry;
	int r = archive_read_next_header(u->reader, &entry);
	const char *name, *rest;
	size_t n = top ? strlen(top) : 0;

	if (r == ARCHIVE_EOF)
		return err_set(err, RC_FAILED, "archive", "%.200s is missing", path);
	if (r != ARCHIVE_OK)
		return bad(u, err);
	name = archive_entry_pathname(entry);
	if (!name)
		return err_set(err, RC_FAILED, "archive", "a name in it cannot be read");
	if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) ||
	    archive_entry_symlink(entry))
		return err_set(err, RC_FAILED, "archive", "%.200s is not a file", name);
	rest = strchr(name, '/');
	if (!rest || strcmp(rest + 1, path) ||
	    (top && ((size_t)(rest - name) != n || strncmp(name, top, n))))
		return err_set(err, RC_FAILED, "archive", "holds %.150s where %.150s belongs", name,
			       path);
	if (!archive_entry_size_is_set(entry) || archive_entry_size(entry) < 0 ||
	    (*size == UINT64_MAX ? archive_entry_size(entry) > LOCK_BYTES
				 : (uint64_t)archive_entry_size(entry) != *size))
		return err_set(err, RC_FAILED, "archive",
			       "%.200s has %lld bytes, not what its lock says", name,
			       (long long)archive_entry_size(entry));
	*size = (uint64_t)archive_entry_size(entry);
	return RC_OK;
}

/* The member's data, of exactly this size, into a new file; or into text when that is not NULL. */
static enum rc take_data(struct unpacking *u, const char *name, uint64_t size, uint8_t *block,
			 char *text, struct err *err)
{
	int fd = openat(u->staging, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			0644);
	uint64_t done = 0;
	enum rc rc = RC_OK;
	la_ssize_t n = 0;

	if (fd < 0)
		return err_errno(err, RC_FAILED, "write-error", "create a file");
	while (rc == RC_OK && (n = archive_read_data(u->reader, block, BLOCK)) > 0) {
		if ((uint64_t)n > size - done) {
			rc = err_set(err, RC_FAILED, "archive",
				     "a file has more data than it says");
			break;
		}
		if (text)
			memcpy(text + done, block, (size_t)n);
		if (write_full(fd, block, (size_t)n))
			rc = err_errno(err, RC_FAILED, "write-error", "write");
		done += (uint64_t)n;
		progress_add(&u->progress, (uint64_t)n);
	}
	if (rc == RC_OK && n < 0)
		rc = bad(u, err);
	if (rc == RC_OK && done != size)
		rc = err_set(err, RC_FAILED, "archive", "ends within a file");
	if (close(fd) && rc == RC_OK)
		rc = err_errno(err, RC_FAILED, "write-error", "close");
	return rc;
}

static enum rc take_lock(struct unpacking *u, uint8_t *block, struct model_lock *lock,
			 struct err *err)
{
	uint64_t size = UINT64_MAX;
	enum rc rc = next_member(u, NULL, MODEL_LOCK_NAME, &size, err);
	char *text = rc == RC_OK ? xmalloc(size + 1) : NULL;

	if (rc == RC_OK)
		rc = take_data(u, MODEL_LOCK_NAME, size, block, text, err);
	if (rc == RC_OK)
		rc = model_lock_parse(lock, text, size, err);
	if (rc == RC_OK && lock->bytes > u->room)
		rc = err_set(err, RC_FAILED, "write-error",
			     "needs %llu bytes, and %s has room for %llu",
			     (unsigned long long)lock->bytes, u->root, (unsigned long long)u->room);
	free(text);
	return rc;
}

static enum rc take_files(struct unpacking *u, uint8_t *block, struct err *err)
{
	struct model_lock lock = {NULL};
	struct archive_entry *entry;
	enum rc rc = take_lock(u, block, &lock, err);
	char *top = rc == RC_OK ? archive_top(lock.model) : NULL;

	u->progress.total = lock.bytes;
	u->progress.what = u->bar;
	for (size_t i = 0; i < lock.n && rc == RC_OK; i++) {
		uint64_t size = lock.v[i].size;
		char name[32];

		snprintf(name, sizeof(name), ".%zu", i);
		rc = next_member(u, top, lock.v[i].path, &size, err);
		if (rc == RC_OK)
			rc = take_data(u, name, size, block, NULL, err);
	}
	if (rc == RC_OK && archive_read_next_header(u->reader, &entry) != ARCHIVE_EOF)
		rc = err_set(err, RC_FAILED, "archive", "holds more than its lock says");
	progress_end(&u->progress);
	free(top);
	model_lock_release(&lock);
	return rc;
}

static int parse(const struct folders_options *o, void *arg, int out)
{
	struct unpacking *u = arg;
	uint8_t *block = xmalloc(BLOCK);
	struct err err;
	enum rc rc;

	(void)out;
	u->reader = archive_read_new();
	if (!u->reader || archive_read_support_format_tar(u->reader) != ARCHIVE_OK ||
	    archive_read_open_fd(u->reader, u->archive, BLOCK) != ARCHIVE_OK)
		rc = bad(u, &err);
	else
		rc = take_files(u, block, &err);
	if (rc != RC_OK)
		folders_say(o, "%s: %s", u->file, err.text);
	archive_read_free(u->reader);
	free(block);
	return rc == RC_OK ? EX_ALL_DONE : EX_SOME_FAILED;
}

/* ---- outside ---- */

struct checking {
	const char *folder, *bar;
};

static int check(const struct folders_options *o, void *arg, int out)
{
	const struct checking *c = arg;
	struct difference_of *v = NULL;
	struct model_files files = {NULL};
	struct model_lock lock = {NULL};
	struct pool *pool = NULL;
	int code = EX_SOME_FAILED;
	struct err err;
	size_t n = 0;

	(void)out;
	if (model_lock_load(&lock, c->folder, &err) != RC_OK ||
	    model_files_list(&files, c->folder, &err) != RC_OK ||
	    pool_open(&pool, 0, &err) != RC_OK) {
		folders_say(o, "%s", err.text);
	} else {
		n = model_lock_compare(&lock, c->folder, &files, NULL, DIGEST_BOTH, pool, c->bar,
				       &v);
		code = n ? EX_SOME_FAILED : EX_ALL_DONE;
	}
	for (size_t i = 0; i < n; i++) {
		char *text = difference_text(&v[i]);

		folders_say(o, "%s: %s", o->args[0], text);
		free(text);
	}
	if (pool)
		pool_close(pool);
	model_files_release(&files);
	model_lock_release(&lock);
	free(v);
	return code;
}

/* Files get their names; folders are made and synced on the way. */
static enum rc give_names(struct unpacking *u, const struct model_lock *lock, struct err *err)
{
	enum rc rc = RC_OK;

	for (size_t i = 0; i < lock->n && rc == RC_OK; i++) {
		const char *path = lock->v[i].path, *slash = strrchr(path, '/');
		char *folder = slash ? xstrndup(path, (size_t)(slash - path)) : xstrdup("");
		int dir = durable_mkdirs(u->staging, folder, err), fd = -1;
		char name[32];

		snprintf(name, sizeof(name), ".%zu", i);
		rc = dir < 0 ? RC_FAILED
			     : durable_move(u->staging, name, dir, slash ? slash + 1 : path, err);
		if (rc == RC_OK)
			fd = openat(dir, slash ? slash + 1 : path,
				    O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0) {
			durable_sync(fd, path);
			close(fd);
		} else if (rc == RC_OK) {
			rc = err_errno(err, RC_FAILED, "write-error", "open %.200s", path);
		}
		if (rc == RC_OK)
			durable_sync(dir, path);
		if (dir >= 0)
			close(dir);
		free(folder);
	}
	return rc;
}

/* All of it lies in the hidden folder: is it right, and may it have its name? */
static int settle(const struct folders_options *o, struct unpacking *u, const char *staging)
{
	struct checking c = {staging, u->bar ? "checking" : NULL};
	struct model_lock lock = {NULL};
	char *top = NULL;
	int code = EX_SOME_FAILED;
	struct err err;

	if (model_lock_load(&lock, staging, &err) != RC_OK)
		goto say;
	top = archive_top(lock.model);
	if (!archive_top_valid(top)) {
		err_set(&err, RC_FAILED, "archive", "its model is called %.100s", lock.model);
		goto say;
	}
	if (!faccessat(u->dir, top, F_OK, AT_SYMLINK_NOFOLLOW)) {
		err_set(&err, RC_FAILED, "exists", "%.200s/%.200s is there already", u->root, top);
		goto say;
	}
	if (give_names(u, &lock, &err) != RC_OK)
		goto say;
	code = folders_confined(o, SANDBOX_MODEL, staging, -1, check, &c, NULL, NULL);
	if (code)
		goto out;
	code = EX_SOME_FAILED;
	durable_sync(u->staging, staging);
	if (fchmod(u->staging, 0755) || durable_move(u->dir, STAGING, u->dir, top, &err) != RC_OK)
		goto say;
	durable_sync(u->dir, u->root);
	if (o->json)
		folders_print_json(json_pack("{s:s, s:s, s:s, s:I, s:i}", "model", lock.model,
					     "folder", top, "lock", lock.sha256, "bytes",
					     (json_int_t)lock.bytes, "files", (int)lock.n));
	else if (!o->quiet)
		printf("%s: unpacked into %s/%s: %zu files, %s, lock %s\n", lock.model, u->root,
		       top, lock.n, size_text(lock.bytes).s, lock.sha256);
	code = EX_ALL_DONE;
	goto out;
say:
	folders_say(o, "%s: %s", u->file, err.text);
out:
	model_lock_release(&lock);
	free(top);
	return code;
}

static int unpack(const struct folders_options *o, struct unpacking *u)
{
	char *staging = xasprintf("%s/" STAGING, u->root);
	struct statvfs room;
	int code = EX_SOME_FAILED;

	if (flock(u->dir, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) {
		folders_say(o, "%s: something else is being unpacked there", u->root);
		goto out;
	}
	durable_remove_tree(u->dir, STAGING);
	if (mkdirat(u->dir, STAGING, 0700) ||
	    (u->staging = openat(u->dir, STAGING,
				 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0 ||
	    fstatvfs(u->staging, &room)) {
		folders_say(o, "make a folder in %s: %s", u->root, strerror(errno));
		goto out;
	}
	u->room = (uint64_t)room.f_bavail * room.f_frsize;
	code = folders_confined(o, SANDBOX_WRITE, NULL, u->staging, parse, u, NULL, NULL);
	if (code == EX_ALL_DONE)
		code = settle(o, u, staging);
	if (code != EX_ALL_DONE)
		durable_remove_tree(u->dir, STAGING);
out:
	if (u->staging >= 0)
		close(u->staging);
	free(staging);
	return code;
}

int folders_unpack(const struct folders_options *o)
{
	struct unpacking u = {.file = o->args[0],
			      .root = o->output ? o->output : folders_root(),
			      .bar = !o->quiet && isatty(STDERR_FILENO) ? "unpacking" : NULL,
			      .staging = -1};
	int code = EX_SOME_FAILED;

	u.archive = open(u.file, O_RDONLY | O_CLOEXEC);
	u.dir = u.archive < 0 ? -1 : open(u.root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (u.archive < 0)
		folders_say(o, "%s: %s", u.file, strerror(errno));
	else if (u.dir < 0)
		folders_say(o, "%s: %s", u.root, strerror(errno));
	else
		code = unpack(o, &u);
	if (u.dir >= 0)
		close(u.dir);
	if (u.archive >= 0)
		close(u.archive);
	return code;
}
