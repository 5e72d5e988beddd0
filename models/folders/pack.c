/* SPDX-License-Identifier: MIT
 *
 * pack: one archive of a locked model, to be carried.
 *
 * The archive is a plain tar: ORG--NAME/cloister.lock first, which is its manifest, then the files
 * of the lock in its order, uncompressed, since weights do not compress. Each is hashed as it is
 * read, and an archive gets its name only when all were as the lock says; the same lock makes the
 * same bytes.
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
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK (1u << 20)

struct packing {
	const struct folders_options *o;
	const char *folder;
	struct archive *archive;
	char *top; /* ORG--NAME */
	struct progress progress;
};

char *archive_top(const char *model)
{
	const char *slash = strchr(model, '/');

	return slash ? xasprintf("%.*s--%s", (int)(slash - model), model, slash + 1)
		     : xstrdup(model);
}

bool archive_top_valid(const char *top)
{
	return *top && *top != '.' && !strchr(top, '/') && strlen(top) < 200;
}

static enum rc failed(struct packing *p, struct err *err)
{
	const char *why = archive_error_string(p->archive);

	return err_set(err, RC_FAILED, "archive", "write the archive: %s",
		       why ? why : "no reason given");
}

static enum rc begin(struct packing *p, const char *path, uint64_t size, struct err *err)
{
	struct archive_entry *entry = archive_entry_new();
	char *name = xasprintf("%s/%s", p->top, path);
	int r;

	archive_entry_set_pathname(entry, name);
	archive_entry_set_size(entry, (la_int64_t)size);
	archive_entry_set_filetype(entry, AE_IFREG);
	archive_entry_set_perm(entry, 0644);
	archive_entry_set_mtime(entry, 0, 0);
	r = archive_write_header(p->archive, entry);
	archive_entry_free(entry);
	free(name);
	return r == ARCHIVE_OK ? RC_OK : failed(p, err);
}

static enum rc add_file(struct packing *p, const struct locked_file *f, uint8_t *block,
			struct err *err)
{
	char *path = xasprintf("%s/%s", p->folder, f->path), hex[SHA256_HEX_SIZE];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	uint64_t left = f->size;
	struct sha256_ctx hash;
	enum rc rc = RC_OK;
	ssize_t n = 0;

	free(path);
	if (fd < 0)
		return err_errno(err, RC_FAILED, "model-file", "%.200s", f->path);
	sha256_init(&hash);
	rc = begin(p, f->path, f->size, err);
	while (rc == RC_OK && (n = read(fd, block, BLOCK)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			rc = err_errno(err, RC_FAILED, "model-file", "read %.200s", f->path);
			break;
		}
		sha256_update(&hash, (size_t)n, block);
		if ((uint64_t)n > left)
			break;
		left -= (uint64_t)n;
		if (archive_write_data(p->archive, block, (size_t)n) != n)
			rc = failed(p, err);
		progress_add(&p->progress, (uint64_t)n);
	}
	sha256_hex(&hash, hex);
	if (rc == RC_OK && (left || n || strcmp(hex, f->sha256)))
		rc = err_set(err, RC_FAILED, "model-lock", "%.200s is not as it was locked",
			     f->path);
	close(fd);
	return rc;
}

static enum rc add_lock(struct packing *p, struct err *err)
{
	char *path = xasprintf("%s/" MODEL_LOCK_NAME, p->folder);
	size_t len;
	char *text = read_whole(AT_FDCWD, path, 16u << 20, &len);
	enum rc rc;

	free(path);
	if (!text)
		return err_errno(err, RC_FAILED, "model-lock", "read " MODEL_LOCK_NAME);
	rc = begin(p, MODEL_LOCK_NAME, len, err);
	if (rc == RC_OK && archive_write_data(p->archive, text, len) != (la_ssize_t)len)
		rc = failed(p, err);
	free(text);
	return rc;
}

static enum rc write_archive(struct packing *p, const struct model_lock *lock, int fd,
			     struct err *err)
{
	uint8_t *block = xmalloc(BLOCK);
	enum rc rc = RC_OK;

	p->archive = archive_write_new();
	p->progress.total = lock->bytes;
	if (!p->archive || archive_write_set_format_pax_restricted(p->archive) != ARCHIVE_OK ||
	    archive_write_open_fd(p->archive, fd) != ARCHIVE_OK)
		rc = failed(p, err);
	if (rc == RC_OK)
		rc = add_lock(p, err);
	for (size_t i = 0; i < lock->n && rc == RC_OK; i++)
		rc = add_file(p, &lock->v[i], block, err);
	if (rc == RC_OK && archive_write_close(p->archive) != ARCHIVE_OK)
		rc = failed(p, err);
	archive_write_free(p->archive);
	progress_end(&p->progress);
	free(block);
	return rc;
}

/* By names and sizes; the bytes are compared as they are packed. */
static enum rc check_lock(const char *folder, const struct model_lock *lock, struct err *err)
{
	struct difference_of *v = NULL;
	struct model_files files;
	enum rc rc = model_files_list(&files, folder, err);
	size_t n = rc == RC_OK ? model_lock_compare(lock, folder, &files, NULL, DIGEST_PIECES, NULL,
						    NULL, &v)
			       : 0;

	if (n) {
		char *text = difference_text(&v[0]);

		rc = err_set(err, RC_FAILED, "model-lock", "%.300s%s", text,
			     n > 1 ? ", and more differs: see `cloister models diff`" : "");
		free(text);
	}
	model_files_release(&files);
	free(v);
	return rc;
}

static void sync_folder_of(const char *file)
{
	const char *slash = strrchr(file, '/');
	char *folder = slash ? xstrndup(file, (size_t)(slash - file + 1)) : xstrdup(".");
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0) {
		durable_sync(fd, folder);
		close(fd);
	}
	free(folder);
}

static enum rc pack_to(struct packing *p, const struct model_lock *lock, const char *file,
		       uint64_t *bytes, struct err *err)
{
	char *part = xasprintf("%s.part", file);
	struct stat st = {0};
	enum rc rc;
	int fd;

	if (!access(file, F_OK)) {
		free(part);
		return err_set(err, RC_FAILED, "exists", "%.300s is there already", file);
	}
	fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0) {
		rc = err_errno(err, RC_FAILED, "write-error", "create %.300s", part);
		free(part);
		return rc;
	}
	rc = write_archive(p, lock, fd, err);
	if (rc == RC_OK && fstat(fd, &st))
		rc = err_errno(err, RC_FAILED, "write-error", "%.300s", part);
	if (rc == RC_OK) {
		durable_sync(fd, part);
		rc = durable_move(AT_FDCWD, part, AT_FDCWD, file, err);
	}
	if (close(fd) && rc == RC_OK)
		rc = err_errno(err, RC_FAILED, "write-error", "close %.300s", part);
	if (rc == RC_OK)
		sync_folder_of(file);
	else
		unlink(part);
	*bytes = (uint64_t)st.st_size;
	free(part);
	return rc;
}

static void say_packed(const struct folders_options *o, const char *file, uint64_t bytes,
		       const struct model_lock *lock)
{
	if (o->json)
		folders_print_json(json_pack("{s:s, s:s, s:I, s:s}", "model", lock->model,
					     "archive", file, "bytes", (json_int_t)bytes, "lock",
					     lock->sha256));
	else if (!o->quiet)
		printf("%s: packed into %s, %s, lock %s\n", lock->model, file, size_text(bytes).s,
		       lock->sha256);
}

int folders_pack(const struct folders_options *o)
{
	struct packing p = {.o = o};
	struct model_lock lock = {NULL};
	char *folder, *file = NULL;
	int code = EX_SOME_FAILED;
	uint64_t bytes = 0;
	struct err err;

	folder = folders_find(o->args[0], &err);
	if (!folder) {
		folders_say(o, "%s", err.text);
		return EX_CONFIGURATION;
	}
	p.folder = folder;
	p.progress.what = !o->quiet && isatty(STDERR_FILENO) ? "packing" : NULL;
	if (model_lock_load(&lock, folder, &err) != RC_OK) {
		folders_say(o, "%s: %s: `cloister models lock` it first", folder, err.text);
		code = EX_CONFIGURATION;
		goto out;
	}
	p.top = archive_top(lock.model);
	file = o->output ? xstrdup(o->output) : xasprintf("%s.tar", p.top);
	if (!archive_top_valid(p.top))
		folders_say(o, "%s: its lock calls it %s, which cannot be the name of a folder",
			    folder, lock.model);
	else if (check_lock(folder, &lock, &err) != RC_OK ||
		 pack_to(&p, &lock, file, &bytes, &err) != RC_OK)
		folders_say(o, "%s: %s", folder, err.text);
	else
		code = EX_ALL_DONE;
	if (code == EX_ALL_DONE)
		say_packed(o, file, bytes, &lock);
out:
	model_lock_release(&lock);
	free(p.top);
	free(file);
	free(folder);
	return code;
}
