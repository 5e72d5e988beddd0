/* SPDX-License-Identifier: MIT
 *
 * Walks a model's folder. Nothing is opened but folders; links are told from files, because a
 * Hugging Face cache keeps a revision as links to blobs that are called by their SHA-256.
 */
#include "weights/files.h"

#include "base/lines.h"
#include "base/num.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool model_file_ends(const char *path, const char *const *endings)
{
	size_t len = strlen(path);

	for (; *endings; endings++) {
		size_t n = strlen(*endings);

		if (len > n && !strcmp(path + len - n, *endings))
			return true;
	}
	return false;
}

bool model_file_is_read(const char *path)
{
	static const char *const names[] = {
		"config.json",
		"generation_config.json",
		"preprocessor_config.json",
		"processor_config.json",
		"tokenizer.json",
		"tokenizer_config.json",
		"chat_template.json",
		"chat_template.jinja",
		"prompt.txt",
		"model.safetensors.index.json",
		"adapter_config.json",
	};
	static const char *const weights[] = {".safetensors", NULL};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(path, names[i]))
			return true;
	return !strchr(path, '/') && model_file_ends(path, weights);
}

bool model_file_is_code(const char *path)
{
	static const char *const code[] = {".py",  ".pyc",    ".so",	 ".bin",  ".pt", ".pth",
					   ".pkl", ".pickle", ".joblib", ".ckpt", ".sh", NULL};

	return model_file_ends(path, code);
}

/* The models' folder itself may be laid out as org/name: "" where the folder does not lie in it so.
 */
static const char *name_in_root(const char *path)
{
	const char *root = getenv("CLOISTER_MODELS"), *rest, *slash;
	size_t n;

	root = root && *root ? root : "/models";
	for (n = strlen(root); n && root[n - 1] == '/'; n--)
		;
	rest = strncmp(path, root, n) || path[n] != '/' ? "" : path + n + 1;
	slash = strchr(rest, '/');
	return slash && slash != rest && slash[1] && !strchr(slash + 1, '/') && *rest != '.' &&
			       strncmp(rest, "hub/", 4) && !strstr(rest, "--")
		       ? rest
		       : "";
}

char *model_name(const char *folder)
{
	char *path = xstrdup(folder), *base = NULL, *name, *at;
	size_t len = strlen(path);

	while (len > 1 && path[len - 1] == '/')
		path[--len] = '\0';
	if (*name_in_root(path)) {
		name = xstrdup(name_in_root(path));
		free(path);
		return name;
	}
	if ((at = strstr(path, "/snapshots/")))
		*at = '\0';
	base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	if (!strncmp(base, "models--", 8))
		base += 8;
	name = xstrdup(base);
	if ((at = strstr(name, "--"))) {
		*at = '/';
		memmove(at + 1, at + 2, strlen(at + 2) + 1);
	}
	free(path);
	return name;
}

static bool is_hex(const char *s, size_t n)
{
	return strlen(s) == n && strspn(s, "0123456789abcdef") == n;
}

/* What `hf download --local-dir` keeps beside each file: commit, ETag, time, a line each. */
static char *local_metadata(const char *folder, const char *path, unsigned line)
{
	char *name = xasprintf("%s/.cache/huggingface/download/%s.metadata", folder, path);
	size_t len = 0;
	char *text = read_whole(AT_FDCWD, name, 4096, &len), *rest = text, *word = NULL;

	for (unsigned i = 0; text && i <= line; i++)
		word = strsep(&rest, "\n");
	word = word ? xstrdup(word) : NULL;
	free(text);
	free(name);
	return word;
}

char *model_revision(const char *folder)
{
	const char *at = strstr(folder, "/snapshots/");
	char *revision = NULL;

	if (at) {
		at += strlen("/snapshots/");
		return xstrndup(at, strcspn(at, "/"));
	}
	revision = local_metadata(folder, "config.json", 0);
	if (revision && !is_hex(revision, 40)) {
		free(revision);
		revision = NULL;
	}
	return revision;
}

static void expect(struct model_file *file, const char *sha256)
{
	if (sha256 && is_hex(sha256, SHA256_HEX_SIZE - 1))
		memcpy(file->expected, sha256, SHA256_HEX_SIZE);
}

static void expect_of(struct model_file *file, const char *folder, int dir, const char *name,
		      bool link)
{
	char target[4096];
	char *etag;
	ssize_t n;

	if (link && (n = readlinkat(dir, name, target, sizeof(target) - 1)) > 0) {
		char *slash;

		target[n] = '\0';
		slash = strrchr(target, '/');
		expect(file, slash ? slash + 1 : target);
		return;
	}
	etag = local_metadata(folder, file->path, 1);
	expect(file, etag);
	free(etag);
}

static enum rc walk(struct model_files *files, const char *folder, const char *beneath,
		    unsigned depth, struct err *err);

static enum rc add(struct model_files *files, const char *folder, int dir, const char *name,
		   char *path, unsigned depth, struct err *err)
{
	struct stat st, seen;
	struct model_file *file;
	bool link;
	enum rc rc = RC_FAILED;

	if (fstatat(dir, name, &seen, AT_SYMLINK_NOFOLLOW))
		err_errno(err, rc, "model-file", "%.300s", path);
	else if (files->n == MODEL_FILES_MAX)
		err_set(err, rc, "model-file", "%.300s: more than %d files", folder,
			MODEL_FILES_MAX);
	else if (S_ISDIR(seen.st_mode))
		rc = walk(files, folder, path, depth + 1, err);
	else
		rc = RC_OK;
	if (rc != RC_OK || S_ISDIR(seen.st_mode)) {
		free(path);
		return rc;
	}
	st = seen;
	link = S_ISLNK(seen.st_mode);
	files->v = xrealloc(files->v, (files->n + 1) * sizeof(*files->v));
	file = &files->v[files->n++];
	*file = (struct model_file){.path = path};
	file->dangling = link && fstatat(dir, name, &st, 0);
	file->odd = !file->dangling && !S_ISREG(st.st_mode);
	if (S_ISREG(st.st_mode))
		file->size = (uint64_t)st.st_size;
	files->bytes += file->size;
	expect_of(file, folder, dir, name, link);
	return RC_OK;
}

static enum rc walk(struct model_files *files, const char *folder, const char *beneath,
		    unsigned depth, struct err *err)
{
	char *path = xasprintf("%s%s%s", folder, *beneath ? "/" : "", beneath);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	enum rc rc = RC_OK;

	if (!dir)
		rc = err_errno(err, RC_FAILED, "model-file", "open %.300s", path);
	else if (depth > MODEL_DEPTH_MAX)
		rc = err_set(err, RC_FAILED, "model-file", "%.300s: folders too deep", path);
	for (struct dirent *e; rc == RC_OK && (e = readdir(dir));) {
		if (e->d_name[0] == '.' || (!*beneath && !strcmp(e->d_name, MODEL_LOCK_NAME)))
			continue;
		rc = add(files, folder, fd, e->d_name,
			 xasprintf("%s%s%s", beneath, *beneath ? "/" : "", e->d_name), depth, err);
	}
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
	free(path);
	return rc;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct model_file *)a)->path, ((const struct model_file *)b)->path);
}

enum rc model_files_list(struct model_files *files, const char *folder, struct err *err)
{
	enum rc rc;

	*files = (struct model_files){NULL};
	rc = walk(files, folder, "", 0, err);
	if (files->n)
		qsort(files->v, files->n, sizeof(*files->v), by_path);
	return rc;
}

void model_files_release(struct model_files *files)
{
	for (size_t i = 0; i < files->n; i++)
		free(files->v[i].path);
	free(files->v);
	*files = (struct model_files){NULL};
}

const struct model_file *model_files_find(const struct model_files *files, const char *path)
{
	struct model_file key = {.path = (char *)path};

	return files->n ? bsearch(&key, files->v, files->n, sizeof(key), by_path) : NULL;
}
