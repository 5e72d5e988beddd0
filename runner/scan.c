/* SPDX-License-Identifier: MIT
 *
 * The scan: walks in/ and state/members/ and lists the files that have no token (intake.h).
 *
 * inotify hints cut the wait short: they ask for a scan, and tell which names were renamed in.
 */
#include "run.h"
#include "durable.h"
#include "kept.h"
#include "publish.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CANDIDATES_MAX 8192
#define DEPTH_MAX      64
#define PATH_BYTES_MAX 4000

struct scan {
	struct run *run;
	enum token_source source;
	size_t known; /* candidates from earlier scans */
	double now;
	int64_t wall_ns;
};

static struct candidate *find_candidate(struct intake *in, uint64_t path)
{
	for (size_t i = in->first_candidate; i < in->n_candidates; i++)
		if (in->candidates[i].file && in->candidates[i].path == path)
			return &in->candidates[i];
	return NULL;
}

static bool being_admitted(const struct intake *in, uint64_t path)
{
	return in->now.busy && in->now.candidate.path == path;
}

static int64_t to_ns(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void see_file(struct scan *s, const char *file, uint64_t path, const struct stat *st)
{
	struct intake *in = &s->run->intake;
	struct candidate fresh = { .source = s->source,
				   .path = path,
				   .bytes = (uint64_t)st->st_size,
				   .mtime_ns = to_ns(st->st_mtim),
				   .ctime_ns = to_ns(st->st_ctim),
				   .still_since = s->now };
	struct candidate *c = path_set_has(&in->listed, path) ? find_candidate(in, path) : NULL;

	if (c) {
		if (c->bytes != fresh.bytes || c->mtime_ns != fresh.mtime_ns ||
		    c->ctime_ns != fresh.ctime_ns) {
			c->bytes = fresh.bytes;
			c->mtime_ns = fresh.mtime_ns;
			c->ctime_ns = fresh.ctime_ns;
			c->still_since = s->now;
		}
		return;
	}
	if (path_set_has(&in->finished, kept_state(path, fresh.bytes, fresh.mtime_ns)))
		return;
	if (in->n_candidates - in->first_candidate >= CANDIDATES_MAX) {
		in->more = true;
		return;
	}
	/* ctime moves with every write and cannot be set: a file that is older than the settle time by
	 * it has stood still since. A clock that is ahead only makes us wait. */
	if (s->wall_ns > fresh.ctime_ns)
		fresh.still_since -= (double)(s->wall_ns - fresh.ctime_ns) / 1e9;
	fresh.file = xstrdup(file);
	if (in->n_candidates == in->cap_candidates) {
		in->cap_candidates = in->cap_candidates ? 2 * in->cap_candidates : 256;
		in->candidates =
			xrealloc(in->candidates, in->cap_candidates * sizeof(*in->candidates));
	}
	in->candidates[in->n_candidates++] = fresh;
	path_set_add(&in->listed, path);
}

/* What is neither file nor folder is refused where it is met. */
static void see_other(struct scan *s, const char *file, uint64_t path, const struct stat *st)
{
	struct candidate c = { .file = (char *)file,
			       .source = s->source,
			       .path = path,
			       .bytes = (uint64_t)st->st_size,
			       .mtime_ns = to_ns(st->st_mtim) };
	struct err why;

	if (path_set_has(&s->run->intake.finished, kept_state(path, c.bytes, c.mtime_ns)))
		return;
	err_set(&why, RC_FAILED, "not-a-regular-file",
		"only regular files are read; this is a symbolic link, FIFO, socket or device");
	intake_reject(s->run, &c, file, &why);
}

static void watch_folder(struct intake *in, int fd, const char *dir)
{
	char path[64];
	int wd;

	if (in->inotify < 0)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	wd = inotify_add_watch(in->inotify, path,
			       IN_MOVED_TO | IN_CLOSE_WRITE | IN_CREATE | IN_ONLYDIR);
	for (size_t i = 0; i < in->n_watches; i++)
		if (in->watches[i].wd == wd)
			return;
	if (wd < 0)
		return; /* too many folders: the scan finds what the hints do not tell */
	in->watches = xrealloc(in->watches, (in->n_watches + 1) * sizeof(*in->watches));
	in->watches[in->n_watches++] = (struct watch){ wd, xstrdup(dir) };
}

static bool skip_name(const struct scan *s, const char *name)
{
	return s->source == SOURCE_IN ? spool_ignores(name)
				      : name[0] == '.' || !strcmp(name, "archive.json");
}

/* The folder stays as it is: said once a run, and by the exit status while it is so. */
static void pass_over(struct scan *s, const char *folder, const char *why)
{
	uint64_t path = token_path_hash(s->source, folder);

	s->run->intake.n_passed_over++;
	if (path_set_has(&s->run->intake.passed_over, path))
		return;
	path_set_add(&s->run->intake.passed_over, path);
	log_warn("folder \"%s\" is passed over: %s", folder, why);
}

static void not_open(struct scan *s, const char *folder)
{
	if (errno == EACCES || errno == EPERM) {
		pass_over(s, folder, strerror(errno));
	} else if (errno_passes(errno)) {
		s->run->tokens_known = false; /* looked at again soon */
	} else if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP) { /* it has not just gone */
		s->run->intake.unread = true;
		log_warn("folder \"%s\" cannot be read: %s", folder, strerror(errno));
	}
}

static void scan_folder(struct scan *s, int parent, const char *name, const char *path, int depth)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	bool empty = true;

	if (!dir) {
		not_open(s, path);
		if (fd >= 0)
			close(fd);
		return;
	}
	if (depth > DEPTH_MAX) {
		pass_over(s, path, "it lies too deep");
		closedir(dir);
		return;
	}
	if (s->source == SOURCE_IN)
		watch_folder(&s->run->intake, fd, path);
	errno = 0;
	for (struct dirent *e; !s->run->intake.more && (e = readdir(dir)); errno = 0) {
		size_t used = strlen(path), length = strlen(e->d_name);
		char file[PATH_BYTES_MAX + 256 + 2];
		struct stat st;
		uint64_t hash;

		if (skip_name(s, e->d_name))
			continue;
		empty = false;
		if (used + length + 1 > PATH_BYTES_MAX) {
			pass_over(s, path, "what lies in it has paths that are too long");
			continue;
		}
		snprintf(file, sizeof(file), "%s%s%s", path, used ? "/" : "", e->d_name);
		if (e->d_type == DT_DIR) {
			scan_folder(s, fd, e->d_name, file, depth + 1);
			continue;
		}
		hash = token_path_hash(s->source, file);
		if (intake_has_token(&s->run->intake, hash) ||
		    being_admitted(&s->run->intake, hash))
			continue;
		if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW)) {
			if (errno != ENOENT)
				s->run->tokens_known = false; /* looked at again soon */
			continue;
		}
		if (S_ISDIR(st.st_mode))
			scan_folder(s, fd, e->d_name, file, depth + 1);
		else if (s->source == SOURCE_MEMBER && !depth)
			continue; /* members lie in the folder of their archive */
		else if (S_ISREG(st.st_mode))
			see_file(s, file, hash, &st);
		else
			see_other(s, file, hash, &st);
	}
	if (errno)
		s->run->tokens_known = false;
	/* All members are finished; who finished the last could not see that. */
	else if (s->source == SOURCE_MEMBER && depth == 1 && empty && !s->run->intake.more)
		durable_remove_tree(parent, name);
	closedir(dir);
}

static int oldest_first(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	if (x->mtime_ns != y->mtime_ns)
		return x->mtime_ns < y->mtime_ns ? -1 : 1;
	return strcmp(x->file, y->file);
}

void intake_scan(struct run *run)
{
	struct intake *in = &run->intake;
	struct timespec wall;
	struct scan s = { .run = run, .now = loop_now() };
	size_t kept = 0;

	clock_gettime(CLOCK_REALTIME, &wall);
	s.wall_ns = to_ns(wall);
	free(in->listed.slots);
	in->listed = (struct path_set){ 0 };
	for (size_t i = in->first_candidate; i < in->n_candidates; i++) {
		if (!in->candidates[i].file)
			continue;
		path_set_add(&in->listed, in->candidates[i].path);
		in->candidates[kept++] = in->candidates[i];
	}
	in->first_candidate = 0;
	in->n_candidates = kept;
	in->n_passed_over = 0;
	in->unread = false;
	in->rescan = in->urgent = in->more = false;
	kept_forget_withdrawn(run);
	s.source = SOURCE_MEMBER;
	scan_folder(&s, run->spool->members, ".", "", 0);
	s.source = SOURCE_IN;
	scan_folder(&s, run->spool->in, ".", "", 0);
	if (in->n_candidates > kept)
		qsort(in->candidates + kept, in->n_candidates - kept, sizeof(*in->candidates),
		      oldest_first);
}

/* A rename means complete: no scan is needed to take the file. Anything else only asks for one. */
static void take_hint(struct run *run, const struct inotify_event *event)
{
	struct intake *in = &run->intake;
	struct scan s = { .run = run, .source = SOURCE_IN, .now = loop_now() };

	if (!(event->mask & IN_MOVED_TO) || !event->len || (event->mask & IN_ISDIR) ||
	    spool_ignores(event->name)) {
		in->rescan = true;
		return;
	}
	for (size_t i = 0; i < in->n_watches; i++) {
		const char *dir = in->watches[i].dir;
		struct candidate *c;
		struct stat st;
		char *file;
		uint64_t path;

		if (in->watches[i].wd != event->wd)
			continue;
		file = xasprintf("%s%s%s", dir, *dir ? "/" : "", event->name);
		path = token_path_hash(SOURCE_IN, file);
		if (being_admitted(in, path))
			in->rescan = true; /* as it was before: a second token is not given */
		else if (!intake_has_token(in, path) &&
			 !fstatat(run->spool->in, file, &st, AT_SYMLINK_NOFOLLOW) &&
			 S_ISREG(st.st_mode)) {
			see_file(&s, file, path, &st);
			c = find_candidate(in, path);
			if (c)
				c->renamed = true;
		}
		free(file);
		return;
	}
	in->rescan = true;
}

static void on_inotify(void *arg)
{
	struct run *run = arg;
	_Alignas(struct inotify_event) char events[8192];
	ssize_t n = read(run->intake.inotify, events, sizeof(events));

	for (ssize_t at = 0; at < n;) {
		const struct inotify_event *event = (const void *)(events + at);

		take_hint(run, event);
		at += (ssize_t)(sizeof(*event) + event->len);
	}
}

void intake_init(struct intake *in, struct run *run)
{
	*in = (struct intake){ .now.fd = -1, .rescan = true };
	in->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (in->inotify < 0)
		log_warn("inotify: %s; new documents are found by scanning alone", strerror(errno));
	else
		loop_watch(&run->loop, in->inotify, on_inotify, run);
}

void intake_release(struct intake *in, struct run *run)
{
	if (in->inotify >= 0) {
		loop_unwatch(&run->loop, in->inotify);
		close(in->inotify);
	}
	for (size_t i = 0; i < in->n_watches; i++)
		free(in->watches[i].dir);
	for (size_t i = in->first_candidate; i < in->n_candidates; i++)
		free(in->candidates[i].file);
	free(in->watches);
	free(in->candidates);
	free(in->torn);
	free(in->admitted.slots);
	free(in->admitted_before.slots);
	free(in->finished.slots);
	for (size_t i = 0; i < in->n_failures; i++)
		free(in->failures[i].file);
	free(in->failures);
	free(in->passed_over.slots);
	free(in->listed.slots);
}
