/* SPDX-License-Identifier: MIT
 *
 * The tree of folders: opening it, refusing what cannot be safe, finding pipelines in it.
 */
#include "spool.h"
#include "durable.h"
#include "pipeline.h"
#include "base/log.h"
#include "base/num.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#define PROBE ".probe"

/* statfs(2): NFS, SMB, SMB2, CIFS, Lustre, GPFS, Ceph, BeeGFS, AFS, 9P; FUSE may be any of them. */
static const uint32_t network_file_systems[] = { 0x6969,     0x517b,     0xfe534d42, 0xff534d42,
						 0x0bd00bd0, 0x47504653, 0x00c36400, 0x19830326,
						 0x5346414f, 0x01021997, 0x65735546 };

static bool is_shared(int fd)
{
	struct statfs fs;
	bool found = false;

	for (size_t i = 0; !fstatfs(fd, &fs) && i < ARRAY_SIZE(network_file_systems); i++)
		found |= (uint32_t)fs.f_type == network_file_systems[i];
	return found;
}

static enum rc open_part(int dirfd, const char *name, bool create, int *fd, struct err *err)
{
	if (create && mkdirat(dirfd, name, 0755) && errno != EEXIST)
		return err_errno(err, RC_FATAL, "configuration", "make folder %s", name);
	*fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*fd < 0)
		return err_errno(err, RC_FATAL, "configuration", "open folder %s", name);
	return RC_OK;
}

/* Results are published, and originals moved, by one rename: try it for real.  The folder has one
 * name, so that what a killed run left is used up by the next; a run that starts at the same time may
 * take it away. */
static enum rc try_rename(const struct spool *s, int from, int to, const char *name,
			  struct err *err)
{
	int tried = -1;

	for (int i = 0; i < 10 && tried; i++) {
		if (mkdirat(from, PROBE, 0700) && errno != EEXIST)
			return err_errno(err, RC_FATAL, "configuration",
					 "spool %s cannot be written", s->path);
		tried = renameat(from, PROBE, to, PROBE);
		if (tried && errno != ENOENT)
			break;
	}
	if (!tried) {
		unlinkat(to, PROBE, AT_REMOVEDIR);
		return RC_OK;
	}
	err_errno(err, RC_FATAL, "configuration",
		  "spool %s: cannot rename from its state into its %s folder, they must lie on one "
		  "file system and mount",
		  s->path, name);
	unlinkat(from, PROBE, AT_REMOVEDIR);
	return RC_FATAL;
}

enum rc spool_open(struct spool *s, const char *path, bool create, struct err *err)
{
	struct stat st;
	struct {
		const char *name;
		int *parent, *fd;
	} parts[] = {
		{ "in", &s->root, &s->in },          { "out", &s->root, &s->out },
		{ "failed", &s->root, &s->failed },  { "done", &s->root, &s->done },
		{ "state", &s->root, &s->state },    { "ready", &s->state, &s->ready },
		{ "active", &s->state, &s->active }, { "deferred", &s->state, &s->deferred },
		{ "hold", &s->state, &s->hold },     { "tmp", &s->state, &s->tmp },
		{ "members", &s->state, &s->members },
	};
	enum rc rc = RC_OK;

	*s = (struct spool){ .path = xstrdup(path), .root = -1 };
	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
		*parts[i].fd = -1;
	if (create && mkdir(path, 0755) && errno != EEXIST) {
		rc = err_errno(err, RC_FATAL, "configuration", "make spool %s", path);
		goto out;
	}
	s->root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->root < 0) {
		rc = err_errno(err, RC_FATAL, "configuration", "open spool %s", path);
		goto out;
	}
	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts) && rc == RC_OK; i++)
		rc = open_part(*parts[i].parent, parts[i].name, create, parts[i].fd, err);
	if (rc != RC_OK)
		goto out;
	s->shared = is_shared(s->state);
	/* The drop box may be open to all; whoever can write state can forge results. */
	if (fstat(s->state, &st) || (st.st_mode & S_IWOTH)) {
		rc = err_set(err, RC_FATAL, "configuration",
			     "spool %s: its state folder is writable by everybody; chmod o-w it", path);
		goto out;
	}
	if (create) {
		rc = try_rename(s, s->tmp, s->out, "out", err);
		if (rc == RC_OK)
			rc = try_rename(s, s->tmp, s->failed, "failed", err);
		if (rc == RC_OK)
			rc = try_rename(s, s->in, s->done, "done", err);
		if (rc == RC_OK)
			rc = try_rename(s, s->in, s->failed, "failed", err);
	}
out:
	if (rc != RC_OK)
		spool_close(s);
	return rc;
}

void spool_close(struct spool *s)
{
	int *fds[] = { &s->root,   &s->in,       &s->out,  &s->failed, &s->done,   &s->state,
		       &s->ready,  &s->active,   &s->hold, &s->tmp,    &s->members, &s->deferred };

	for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
	free(s->path);
	s->path = NULL;
}

static bool ends_with(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && !strcmp(s + n - m, suffix);
}

bool spool_ignores(const char *basename)
{
	static const char *const endings[] = { "~",         ".part",       ".tmp",
					       ".filepart", ".crdownload", TICKET_SUFFIX };

	if (basename[0] == '.')
		return true;
	for (size_t i = 0; i < sizeof(endings) / sizeof(*endings); i++)
		if (ends_with(basename, endings[i]))
			return true;
	return false;
}

bool spool_pipeline_name_valid(const char *name)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t n = strlen(name);

	return n >= 1 && n <= 64 && strspn(name, allowed) == n && name[0] != '.' &&
	       name[0] != '_' && name[0] != '-';
}

void spool_pipeline_of(const char *file, const char *fallback, char name[65])
{
	const char *slash = strchr(file, '/');
	size_t n = slash ? (size_t)(slash - file) : strlen(fallback);

	if (n > 64)
		n = 64; /* no pipeline is called that: it will be unknown */
	memcpy(name, slash ? file : fallback, n);
	name[n] = '\0';
}

enum rc spool_find_pipeline(const char *folder, const char *name, struct pipeline *p,
			    struct err *err)
{
	const char *folders[2] = { folder, install_pipeline_dir() };

	for (size_t i = 0; spool_pipeline_name_valid(name) && i < 2; i++) {
		char *file = xasprintf("%s/%s.yaml", folders[i], name);
		enum rc rc = RC_RETRY;

		int there = access(file, F_OK);

		if (!there)
			rc = pipeline_load(p, name, file, err);
		else if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
			rc = err_errno(err, RC_RETRY, "system", "look for %s", file);
		else
			rc = RC_FAILED;
		free(file);
		if (!there || rc == RC_RETRY) /* not seen is not the same as not there */
			return rc;
	}
	return err_set(err, RC_FAILED, "unknown-pipeline",
		       "no pipeline is called '%.64s': there is neither %s/%.64s.yaml nor a shipped one",
		       name, folder, name);
}

enum rc spool_follow_pipeline(const char *folder, struct pipeline *p, struct err *err)
{
	struct pipeline next = { 0 };
	enum rc rc;

	if (!p->then)
		return RC_OK;
	rc = spool_find_pipeline(folder, p->then, &next, err);
	if (rc == RC_OK)
		return pipeline_follow(p, &next, err);
	pipeline_release(&next);
	return rc == RC_RETRY ? rc : pipeline_blame_then(p, err, "%s", err->text);
}

enum rc spool_load_pipeline(const struct spool *s, const char *name, struct pipeline *p,
			    struct err *err)
{
	char *folder = xasprintf("%s/pipelines", s->path);
	enum rc rc = spool_find_pipeline(folder, name, p, err);

	if (rc == RC_OK)
		rc = spool_follow_pipeline(folder, p, err);
	free(folder);
	return rc;
}

json_t *spool_pipeline_names(const struct spool *s)
{
	char *own = xasprintf("%s/pipelines", s->path);
	const char *folders[] = { own, install_pipeline_dir() };
	json_t *names = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		DIR *dir = opendir(folders[i]);

		for (struct dirent *e; dir && (e = readdir(dir));) {
			size_t n = strlen(e->d_name);
			char *name;

			if (n <= 5 || strcmp(e->d_name + n - 5, ".yaml"))
				continue;
			name = xstrndup(e->d_name, n - 5);
			if (spool_pipeline_name_valid(name))
				json_object_set_new(names, name, json_null());
			free(name);
		}
		if (dir)
			closedir(dir);
	}
	free(own);
	return names;
}

/* Folder of the running program. */
static const char *own_dir(void)
{
	static char dir[4096];
	ssize_t n;
	char *slash;

	if (dir[0])
		return dir;
	n = readlink("/proc/self/exe", dir, sizeof(dir) - 1);
	if (n < 0)
		n = 0;
	dir[n] = '\0';
	slash = strrchr(dir, '/');
	if (slash)
		*slash = '\0';
	return dir;
}

const char *install_program_dir(void)
{
	static char dir[4200];
	const char *given = getenv("CLOISTER_LIBEXEC");

	if (given)
		return given;
	if (!dir[0]) {
		snprintf(dir, sizeof(dir), "%s/cloister-decode", own_dir());
		if (!access(dir, X_OK))
			snprintf(dir, sizeof(dir), "%s", own_dir());
		else
			snprintf(dir, sizeof(dir), "%s/../libexec/cloister", own_dir());
	}
	return dir;
}

enum rc install_check(struct err *err)
{
	static const char *const programs[] = { "cloister-decode", "cloister-write" };

	for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
		char *path = xasprintf("%s/%s", install_program_dir(), programs[i]);
		int missing = access(path, X_OK);

		if (missing)
			err_errno(err, RC_FATAL, "configuration", "%s cannot be started", path);
		free(path);
		if (missing)
			return RC_FATAL;
	}
	return RC_OK;
}

const char *install_pipeline_dir(void)
{
	static char dir[4200];
	const char *given = getenv("CLOISTER_PIPELINES");

	if (given)
		return given;
	if (!dir[0]) {
		snprintf(dir, sizeof(dir), "%s/pipelines", own_dir());
		if (access(dir, F_OK))
			snprintf(dir, sizeof(dir), "%s/../share/cloister/pipelines", own_dir());
	}
	return dir;
}
