/* SPDX-License-Identifier: MIT */
#include "index.h"
#include "base/log.h"
#include "base/lines.h"
#include "base/name.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_MAX_BYTES 8192
#define RESULT_FILE    "document.json"

static void insert(struct index *ix, uint64_t identity, uint64_t offset)
{
	size_t i;

	if (2 * (ix->n + 1) > ix->cap) {
		struct index_entry *old = ix->entries;
		size_t old_cap = ix->cap;

		ix->cap = old_cap ? 2 * old_cap : 1024;
		ix->entries = xcalloc(ix->cap, sizeof(*ix->entries));
		ix->n = 0;
		for (size_t k = 0; k < old_cap; k++)
			if (old[k].offset)
				insert(ix, old[k].identity, old[k].offset);
		free(old);
	}
	for (i = identity & (ix->cap - 1); ix->entries[i].offset; i = (i + 1) & (ix->cap - 1))
		if (ix->entries[i].identity == identity)
			break;
	if (!ix->entries[i].offset)
		ix->n++;
	ix->entries[i] = (struct index_entry){ identity, offset };
}

/* Offsets are stored plus one, so that the first line is not an empty entry. */
static void append(struct index *ix, const char *identity, const char *result)
{
	struct buf line;
	off_t at = lseek(ix->fd, 0, SEEK_END);

	buf_init(&line, LINE_MAX_BYTES);
	buf_addf(&line, "%.16s ", identity);
	name_encode(&line, result, strlen(result));
	buf_addc(&line, '\n');
	if (!line.overflow && at >= 0 && !write_full(ix->fd, line.data, line.len))
		insert(ix, strtoull(line.data, NULL, 16), (uint64_t)at + 1);
	buf_release(&line);
}

static void load(struct index *ix)
{
	int fd = fcntl(ix->fd, F_DUPFD_CLOEXEC, 0);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
	uint64_t offset = 0;
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;

	if (!file)
		return;
	rewind(file);
	while ((n = getline(&line, &cap, file)) > 0) {
		char *end;
		uint64_t identity = strtoull(line, &end, 16);

		if (end == line + 16 && *end == ' ' && line[n - 1] == '\n')
			insert(ix, identity, offset + 1);
		offset += (uint64_t)n;
	}
	free(line);
	fclose(file);
}

static void add_result(struct index *ix, int dir, const char *path)
{
	int fd = openat(dir, RESULT_FILE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	const char *identity;
	json_t *json;

	if (fd < 0)
		return;
	json = json_loadfd(fd, 0, NULL);
	if (!json_unpack(json, "{s:s}", "identity", &identity) && strlen(identity) == 64 &&
	    !json_object_get(json_object_get(json, "input"), "duplicate_of"))
		append(ix, identity, path);
	json_decref(json);
	close(fd);
}

static void rebuild(struct index *ix, int parent, const char *name, const char *path, int depth)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	if (*path)
		add_result(ix, fd, path);
	for (struct dirent *e; depth < 64 && (e = readdir(dir));) {
		char *below;

		if (e->d_name[0] == '.' || (e->d_type != DT_DIR && e->d_type != DT_UNKNOWN))
			continue;
		below = xasprintf("%s%s%s", path, *path ? "/" : "", e->d_name);
		rebuild(ix, fd, e->d_name, below, depth + 1);
		free(below);
	}
	closedir(dir);
}

enum rc index_open(struct index *ix, const struct spool *spool, struct err *err)
{
	struct stat st;

	*ix = (struct index){ .spool = spool };
	ix->fd = openat(spool->state, "index", O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC,
			0644);
	if (ix->fd < 0 || fstat(ix->fd, &st))
		return err_errno(err, RC_FATAL, "configuration", "open state/index");
	if (st.st_size)
		load(ix);
	else
		rebuild(ix, spool->out, ".", "", 0);
	return RC_OK;
}

void index_close(struct index *ix)
{
	if (ix->fd >= 0)
		close(ix->fd);
	free(ix->entries);
	*ix = (struct index){ .fd = -1 };
}

void index_add(struct index *ix, const char *identity, const char *result)
{
	append(ix, identity, result);
}

/* A result may have been collected, and another have taken its name. */
static bool is_made_from(const struct index *ix, const char *path, const char *identity)
{
	char *file = xasprintf("%s/" RESULT_FILE, path);
	int fd = openat(ix->spool->out, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	json_t *json = fd < 0 ? NULL : json_loadfd(fd, 0, NULL);
	const char *found = json_string_value(json_object_get(json, "identity"));
	bool same = found && !strcmp(found, identity);

	json_decref(json);
	if (fd >= 0)
		close(fd);
	free(file);
	return same;
}

/* The entry of an identity, or NULL. */
static const struct index_entry *look_up(const struct index *ix, uint64_t identity)
{
	for (size_t i = identity & (ix->cap - 1); ix->cap && ix->entries[i].offset;
	     i = (i + 1) & (ix->cap - 1))
		if (ix->entries[i].identity == identity)
			return &ix->entries[i];
	return NULL;
}

static uint64_t first_half(const char *identity, char hex[17])
{
	snprintf(hex, 17, "%.16s", identity);
	return strtoull(hex, NULL, 16);
}

bool index_has(const struct index *ix, const char *identity)
{
	char hex[17];

	return look_up(ix, first_half(identity, hex));
}

char *index_find(const struct index *ix, const char *identity)
{
	char hex[17], line[LINE_MAX_BYTES];
	const struct index_entry *e = look_up(ix, first_half(identity, hex));
	ssize_t n = e ? pread(ix->fd, line, sizeof(line) - 1, (off_t)e->offset - 1) : -1;
	char *found = NULL;
	struct buf path;

	/* Another worker may have written at the same time: then the line is not the one. */
	if (n < 18 || strncmp(line, hex, 16))
		return NULL;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	buf_init(&path, LINE_MAX_BYTES);
	if (name_decode(&path, line + 17, strlen(line + 17)) && is_made_from(ix, path.data, identity))
		found = buf_detach(&path);
	buf_release(&path);
	return found;
}
