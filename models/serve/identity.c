/* SPDX-License-Identifier: MIT
 *
 * identity: which model this is, by its bytes.
 */
#include "serve.h"

#include "base/num.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE	  (16u << 20)
#define FILES_MAX 4096

/* models--org--name/snapshots/REV and org--name, as download tools lay models out. */
char *model_name(const char *folder)
{
	char *path = xstrdup(folder), *base = NULL, *name, *at;
	size_t len = strlen(path);

	while (len > 1 && path[len - 1] == '/')
		path[--len] = '\0';
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

/* Files that the engine reads. */
static bool counts(const char *name)
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
	};
	static const char weights[] = ".safetensors";
	size_t len = strlen(name);

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(name, names[i]))
			return true;
	return len > strlen(weights) && !strcmp(name + len - strlen(weights), weights);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct pieces {
	const uint8_t *data;
	size_t size;
	uint8_t (*digest)[SHA256_DIGEST_SIZE];
};

static void hash_piece(void *arg, size_t i, unsigned thread)
{
	const struct pieces *p = arg;
	size_t at = i * PIECE;
	struct sha256_ctx hash;

	(void)thread;
	sha256_init(&hash);
	sha256_update(&hash, min_u64(PIECE, p->size - at), p->data + at);
	sha256_digest(&hash, SHA256_DIGEST_SIZE, p->digest[i]);
}

static enum rc hash_file(int dir, const char *name, struct pool *pool, struct sha256_ctx *all,
			 struct err *err)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char line[512], hex[SHA256_HEX_SIZE];
	struct pieces p = {.data = NULL};
	struct sha256_ctx whole;
	enum rc rc = RC_OK;
	struct stat st;
	size_t n;

	if (fd < 0 || fstat(fd, &st)) {
		rc = err_errno(err, RC_FATAL, "model-file", "open %.200s", name);
		goto out;
	}
	if (!S_ISREG(st.st_mode)) {
		rc = err_set(err, RC_FATAL, "model-file", "%.200s is not a file", name);
		goto out;
	}
	p.size = (size_t)st.st_size;
	n = (p.size + PIECE - 1) / PIECE;
	p.data = p.size ? mmap(NULL, p.size, PROT_READ, MAP_SHARED, fd, 0) : NULL;
	if (p.data == MAP_FAILED) {
		rc = err_errno(err, RC_FATAL, "model-file", "map %.200s", name);
		goto out;
	}
	p.digest = xcalloc(n + 1, sizeof(*p.digest));
	pool_run(pool, hash_piece, &p, n);
	sha256_init(&whole);
	sha256_update(&whole, n * sizeof(*p.digest), (const uint8_t *)p.digest);
	sha256_hex(&whole, hex);
	n = (size_t)snprintf(line, sizeof(line), "%.300s %zu %s\n", name, p.size, hex);
	sha256_update(all, n, (const uint8_t *)line);
	free(p.digest);
	if (p.size)
		munmap((void *)p.data, p.size);
out:
	if (fd >= 0)
		close(fd);
	return rc;
}

enum rc model_identity(const char *folder, struct pool *pool, char hex[SHA256_HEX_SIZE],
		       struct err *err)
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	char **names = xcalloc(FILES_MAX, sizeof(*names));
	struct sha256_ctx all;
	enum rc rc = RC_OK;
	size_t n = 0;

	sha256_init(&all);
	if (!dir)
		rc = err_errno(err, RC_FATAL, "model-file", "open %.300s", folder);
	for (struct dirent *e; dir && (e = readdir(dir)) && n < FILES_MAX;)
		if (counts(e->d_name))
			names[n++] = xstrdup(e->d_name);
	qsort(names, n, sizeof(*names), by_name);
	for (size_t i = 0; i < n; i++) {
		if (rc == RC_OK)
			rc = hash_file(fd, names[i], pool, &all, err);
		free(names[i]);
	}
	free(names);
	sha256_hex(&all, hex);
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
	return rc;
}
