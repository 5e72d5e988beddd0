/* SPDX-License-Identifier: MIT
 *
 * tessdata: which traineddata files are used, and their hash.
 *
 * libtesseract goes on without a language of "deu+eng" that it cannot load, and says so only on
 * stderr.  So every file is looked for here first, and the hash that identifies the model in
 * results is taken over the files that were loaded.
 */
#include "tess.h"
#include "base/num.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUFFIX	     ".traineddata"
#define LANGUAGE_MAX 64

const char *tessdata_folder(struct err *err)
{
	static const char *const usual[] = {
		"/usr/share/tesseract-ocr/5/tessdata",
		"/usr/share/tesseract-ocr/4.00/tessdata",
		"/usr/share/tessdata",
		"/usr/local/share/tessdata",
	};
	const char *prefix = getenv("TESSDATA_PREFIX");

	if (prefix && *prefix)
		return prefix;
	for (size_t i = 0; i < ARRAY_SIZE(usual); i++)
		if (!access(usual[i], R_OK | X_OK))
			return usual[i];
	err_set(err, RC_FATAL, "tessdata",
		"no tessdata folder found; install tesseract-ocr-eng or set TESSDATA_PREFIX");
	return NULL;
}

static bool language_path(const char *folder, const char *language, size_t len, char *path,
			  size_t size)
{
	return snprintf(path, size, "%s/%.*s" SUFFIX, folder, (int)len, language) < (int)size;
}

bool tessdata_has(const char *folder, const char *language)
{
	char path[4096];

	return language_path(folder, language, strlen(language), path, sizeof(path)) &&
	       !access(path, R_OK);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "deu, eng, fra": what is there, for the message about what is not. */
static void list_languages(const char *folder, struct buf *out)
{
	DIR *dir = opendir(folder);
	char *names[256];
	size_t n = 0;

	for (struct dirent *e; dir && n < ARRAY_SIZE(names) && (e = readdir(dir));) {
		size_t len = strlen(e->d_name);

		if (len > strlen(SUFFIX) && !strcmp(e->d_name + len - strlen(SUFFIX), SUFFIX))
			names[n++] = xstrndup(e->d_name, len - strlen(SUFFIX));
	}
	if (dir)
		closedir(dir);
	qsort(names, n, sizeof(*names), by_name);
	for (size_t i = 0; i < n; i++) {
		buf_addf(out, "%s%s", i ? ", " : "", names[i]);
		free(names[i]);
	}
	if (!n)
		buf_adds(out, "none");
}

static bool language_is_sane(const char *language, size_t len)
{
	if (!len || len > LANGUAGE_MAX || language[0] == '/' || language[0] == '.')
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = language[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == '_' || c == '-' || c == '/'))
			return false;
	}
	return true;
}

enum rc tessdata_check(const char *folder, const char *languages, struct err *err)
{
	for (const char *p = languages;; p++) {
		size_t len = strcspn(p, "+");
		char path[4096];
		struct buf there;

		if (!language_is_sane(p, len))
			return err_set(err, RC_FATAL, "language",
				       "\"%.100s\" is not a list of languages such as deu+eng",
				       languages);
		if (!language_path(folder, p, len, path, sizeof(path)) || access(path, R_OK)) {
			buf_init(&there, 300);
			list_languages(folder, &there);
			err_set(err, RC_FATAL, "language",
				"language \"%.*s\" is missing: no readable file %s; there are: %s",
				(int)len, p, path, there.data ? there.data : "too many to list");
			buf_release(&there);
			return RC_FATAL;
		}
		p += len;
		if (!*p)
			return RC_OK;
	}
}

static enum rc hash_file(struct sha256_ctx *ctx, const char *path, struct err *err)
{
	uint8_t chunk[65536];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	enum rc rc = RC_OK;
	ssize_t n;

	if (fd < 0)
		return err_errno(err, RC_FATAL, "tessdata", "open %s", path);
	while ((n = read(fd, chunk, sizeof(chunk))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			rc = err_errno(err, RC_FATAL, "tessdata", "read %s", path);
			break;
		}
		sha256_update(ctx, (size_t)n, chunk);
	}
	close(fd);
	return rc;
}

enum rc tessdata_hash(const char *folder, const char *const *languages, size_t n,
		      char hex[SHA256_HEX_SIZE], struct err *err)
{
	struct sha256_ctx ctx;
	char path[4096];

	sha256_init(&ctx);
	for (size_t i = 0; i < n; i++) {
		if (!language_path(folder, languages[i], strlen(languages[i]), path, sizeof(path)))
			return err_set(err, RC_FATAL, "tessdata", "path of %s is too long",
				       languages[i]);
		if (hash_file(&ctx, path, err) != RC_OK)
			return RC_FATAL;
	}
	sha256_hex(&ctx, hex);
	return RC_OK;
}
