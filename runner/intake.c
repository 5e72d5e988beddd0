/* SPDX-License-Identifier: MIT
 *
 * Admission: a candidate is opened, checked, hashed and given a token (intake.h).
 */
#include "run.h"
#include "airlock.h"
#include "child.h"
#include "durable.h"
#include "kept.h"
#include "publish.h"
#include "base/lines.h"
#include "base/log.h"
#include "base/name.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HASH_BYTES_A_TURN (8u << 20)
#define TURN_SECONDS      0.02
#define TICKET_BYTES_MAX  (64u << 10)
#define TICKET_SECONDS    5
#define MANIFEST_BYTES_MAX (1u << 30)

/* Open addressing; a removed member leaves its slot to whoever follows in the same run. */
static size_t path_slot(const struct path_set *s, uint64_t path)
{
	size_t i = path & (s->cap - 1);

	while (s->slots[i] && s->slots[i] != path)
		i = (i + 1) & (s->cap - 1);
	return i;
}

bool path_set_has(const struct path_set *s, uint64_t path)
{
	return s->cap && s->slots[path_slot(s, path)] == path;
}

void path_set_add(struct path_set *s, uint64_t path)
{
	if (2 * (s->n + 1) > s->cap) {
		struct path_set grown = { .cap = s->cap ? 2 * s->cap : 256 };

		grown.slots = xcalloc(grown.cap, sizeof(*grown.slots));
		for (size_t i = 0; i < s->cap; i++)
			if (s->slots[i])
				grown.slots[path_slot(&grown, s->slots[i])] = s->slots[i];
		grown.n = s->n;
		free(s->slots);
		*s = grown;
	}
	size_t i = path_slot(s, path);

	s->n += !s->slots[i];
	s->slots[i] = path;
}

void path_set_remove(struct path_set *s, uint64_t path)
{
	size_t hole, i;

	if (!path_set_has(s, path))
		return;
	hole = path_slot(s, path);
	s->slots[hole] = 0;
	s->n--;
	for (i = (hole + 1) & (s->cap - 1); s->slots[i]; i = (i + 1) & (s->cap - 1)) {
		uint64_t moved = s->slots[i];

		s->slots[i] = 0;
		s->slots[path_slot(s, moved)] = moved;
	}
}

/* Open one part of a path, which is not a link. */
static int open_part(int dirfd, const char *part, int flags)
{
	int fd = openat(dirfd, part, flags | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 && errno == ENOTDIR &&
	    !fstatat(dirfd, part, &st, AT_SYMLINK_NOFOLLOW) && S_ISLNK(st.st_mode))
		errno = ELOOP;
	return fd;
}

/* Beneath a folder and through no link, part by part: openat2(2), which can do that at once, answers
 * ENOSYS under systemd's RestrictSUIDSGID= and in older containers. */
static int open_through_no_link(int dirfd, const char *file)
{
	int at = dirfd, fd = -1;

	for (const char *p = file; p;) {
		const char *slash = strchr(p, '/');
		char part[NAME_MAX + 1];
		size_t n = slash ? (size_t)(slash - p) : strlen(p);

		fd = -1;
		errno = n > NAME_MAX ? ENAMETOOLONG : EXDEV;
		if (n <= NAME_MAX) {
			memcpy(part, p, n);
			part[n] = '\0';
			if (n && strcmp(part, ".."))
				fd = open_part(at, part, slash ? O_PATH | O_DIRECTORY
							       : O_RDONLY | O_NONBLOCK | O_NOCTTY);
		}
		if (at != dirfd) {
			int error = errno;

			close(at);
			errno = error;
		}
		at = fd;
		p = slash && fd >= 0 ? slash + 1 : NULL;
	}
	return fd;
}

int intake_open(int dirfd, const char *file, struct err *err)
{
	int fd = open_through_no_link(dirfd, file);
	struct stat st;

	if (fd < 0) {
		if (errno == ENOENT || errno == ENOTDIR)
			err_set(err, RC_FAILED, "vanished", "the file is gone");
		else if (errno == ELOOP || errno == ENXIO)
			err_set(err, RC_FAILED, "not-a-regular-file",
				"a symbolic link, FIFO or device is not read");
		else if (errno_passes(errno))
			err_errno(err, RC_RETRY, "system", "open");
		else
			err_errno(err, RC_FAILED, "unreadable", "open");
		return -1;
	}
	if (fstat(fd, &st)) {
		err_errno(err, RC_RETRY, "system", "stat");
		close(fd);
		return -1;
	}
	if (!S_ISREG(st.st_mode)) {
		err_set(err, RC_FAILED, "not-a-regular-file",
			"only regular files are read, this is something else");
		close(fd);
		return -1;
	}
	return fd;
}

size_t intake_waiting(const struct intake *in)
{
	return in->n_candidates - in->first_candidate + in->now.busy;
}

bool intake_has_token(const struct intake *in, uint64_t path)
{
	return path_set_has(&in->admitted, path) || path_set_has(&in->admitted_before, path);
}

void intake_forget(struct run *run, uint64_t path)
{
	path_set_remove(&run->intake.admitted, path);
	path_set_remove(&run->intake.admitted_before, path);
}

void intake_forget_tokens(struct intake *in)
{
	free(in->admitted_before.slots);
	in->admitted_before = in->admitted;
	in->admitted = (struct path_set){ 0 };
}

void intake_torn(struct run *run, int dirfd, const char *name)
{
	struct intake *in = &run->intake;
	struct torn torn;

	if (!token_name_parse(name, torn.key, &torn.attempt, &torn.path))
		return;
	log_warn("token %s is torn (a power cut?); its document is admitted anew", name);
	unlinkat(dirfd, name, 0);
	in->torn = xrealloc(in->torn, (in->n_torn + 1) * sizeof(*in->torn));
	in->torn[in->n_torn++] = torn;
	intake_forget(run, torn.path);
	in->urgent = true;
}

/* Attempts, and while it is the same document its key, go on from a token that was torn. */
static void take_up_torn(struct intake *in, struct token *t, uint64_t path)
{
	for (size_t i = 0; i < in->n_torn; i++) {
		if (in->torn[i].path != path)
			continue;
		t->attempt = in->torn[i].attempt;
		if (!strcmp(strchr(in->torn[i].key, '-'), strchr(t->key, '-')))
			strcpy(t->key, in->torn[i].key);
		in->torn[i] = in->torn[--in->n_torn];
		return;
	}
}

/* Said where everything is said of the run's documents. */
static void report_rejected(struct run *run, const char *file, const struct err *why)
{
	struct buf name;

	log_warn("failed document=\"%s\" reason=%s: %s", file, why->reason, why->text);
	if (!run->options->lines)
		return;
	buf_init(&name, 1 << 16);
	name_escape(&name, file, strlen(file));
	status_print(&run->status, "%-44s %5s %8s  failed: %s (%s)", name.data, "-", "-", why->reason,
		     why->text);
	buf_release(&name);
}

/* The file cannot become a document. What it is refused for takes the place of an identity. */
void intake_reject(struct run *run, const struct candidate *c, const char *result,
		   const struct err *why)
{
	struct token t = { .source = c->source,
			   .file = c->file,
			   .result = (char *)result,
			   .bytes = c->bytes,
			   .mtime_ns = c->mtime_ns };
	bool known;
	struct err err;
	enum rc rc;

	snprintf(t.identity, sizeof(t.identity), "%s", why->reason);
	rc = kept_look_for_failure(run, &t, &known, &err);
	if (rc == RC_OK && known)
		return;
	if (rc == RC_OK)
		rc = publish_failure(run, &t, json_object(), why, &err);
	if (rc != RC_OK) {
		run_disk_full(run, err.text); /* found again by the scan after the pause */
		return;
	}
	run->counts.failed++;
	report_rejected(run, c->file, why);
}

/* Where a dropped file's ticket is, read through the sandboxed parser. *ticket stays NULL without
 * one. Waits for the child: a ticket is small and its time is bounded. */
static enum rc read_ticket(struct run *run, const char *file, json_t **ticket, struct err *err)
{
	char *name = xasprintf("%s" TICKET_SUFFIX, file);
	char *program = xasprintf("%s/cloister-decode", install_program_dir());
	const char *argv[] = { program, run->sandbox_flag, "--ticket", name, NULL };
	struct child_fd fds[1];
	struct child_spec spec = { .name = "cloister-decode", .argv = argv, .fds = fds, .n_fds = 1,
				   .max_line = TICKET_BYTES_MAX * 4 };
	enum lines_status status = LINES_AGAIN;
	struct child child;
	struct err opened;
	json_t *reply = NULL;
	enum rc rc = RC_OK;
	struct loop loop;
	size_t len;
	char *line;
	int fd = intake_open(run->spool->in, name, &opened);

	*ticket = NULL;
	if (fd < 0) {
		bool none = !strcmp(opened.reason, "vanished") || errno == ENAMETOOLONG;

		rc = none ? RC_OK
			  : err_set(err, strcmp(opened.reason, "system") ? RC_FAILED : RC_RETRY, "ticket",
				    "%s: %s", name, opened.text);
		goto out;
	}
	fds[0] = (struct child_fd){ fd, DECODE_DOCUMENT_FD };
	loop_init(&loop);
	rc = child_start(&child, &loop, &spec, loop_ignore, loop_ignore, NULL, err);
	if (rc == RC_OK) {
		double by = loop_now() + TICKET_SECONDS;

		child_limit_cpu(&child, TICKET_SECONDS);
		while ((status = child_line(&child, &line, &len)) == LINES_AGAIN && loop_now() < by)
			poll(&(struct pollfd){ .fd = child.out, .events = POLLIN }, 1, 100);
		if (status == LINES_ERROR && errno != EMSGSIZE)
			rc = err_errno(err, RC_RETRY, "system", "read the ticket %s", name);
		else if (status == LINES_ONE)
			reply = airlock_parse(line, len, err);
		*ticket = json_incref(json_object_get(reply, "ticket"));
		if (rc == RC_OK && !*ticket) {
			json_t *error = json_object_get(reply, "error");
			const char *text = json_string_value(json_object_get(error, "text"));

			rc = err_set(err, RC_FAILED, "ticket", "%s",
				     text ? text : "the ticket could not be read");
		}
		json_decref(reply);
		child_kill(&child);
	}
	loop_release(&loop);
	close(fd);
out:
	free(name);
	free(program);
	return rc;
}

void intake_abandon(struct run *run)
{
	struct admission *a = &run->intake.now;

	if (a->fd >= 0)
		close(a->fd);
	free(a->candidate.file);
	token_release(&a->token);
	if (a->pipeline.name)
		pipeline_release(&a->pipeline);
	*a = (struct admission){ .fd = -1 };
}

/* Nobody has it open for writing, as far as the file system can tell (a read lease is refused
 * while somebody has). Needs to own the file; where leases do not exist, standing still is all. */
static bool being_written(int fd)
{
	if (fcntl(fd, F_SETLEASE, F_RDLCK))
		return errno == EAGAIN;
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return false;
}

static int64_t to_ns(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ctime too: another machine that has finished the file changes it, and nothing else, on the way to
 * done/. Its key would be a new one. Having stood still again it is gone. */
static bool moved_on(const struct candidate *c, const struct stat *st)
{
	return c->bytes != (uint64_t)st->st_size || c->mtime_ns != to_ns(st->st_mtim) ||
	       c->ctime_ns != to_ns(st->st_ctim);
}

static enum rc begin_in(struct run *run, struct admission *a, struct err *err)
{
	char name[65];
	enum rc rc;

	spool_pipeline_of(a->token.file, run->config->default_pipeline, name);
	a->token.pipeline = xstrdup(name);
	a->token.result = xstrdup(a->token.file);
	rc = read_ticket(run, a->token.file, &a->token.ticket, err);
	if (rc == RC_OK)
		rc = run_pipeline(run, name, a->token.ticket, &a->pipeline, err);
	return rc;
}

/* A member's settings are its archive's; the manifest beside it tells them. */
static enum rc begin_member(struct run *run, struct admission *a, struct err *err)
{
	const char *slash = strchr(a->token.file, '/'); /* scan_folder() sees to that */
	char *manifest = xasprintf("%.*s/archive.json", (int)(slash - a->token.file), a->token.file);
	size_t len;
	char *text = read_whole(run->spool->members, manifest, MANIFEST_BYTES_MAX, &len);
	int error = errno;
	json_t *json = text ? json_loadb(text, len, 0, NULL) : NULL;
	json_t *member = json_object_get(json_object_get(json, "files"), slash + 1);
	const char *pipeline = json_string_value(json_object_get(json, "pipeline"));
	const char *result = json_string_value(json_object_get(member, "result"));
	enum rc rc = RC_FAILED;
	struct buf decoded;

	buf_init(&decoded, 1 << 16);
	if (!text && (errno = error) != ENOENT)
		rc = err_errno(err, RC_RETRY, "system", "read state/members/%s", manifest);
	else if (!pipeline || !result || !name_decode(&decoded, result, strlen(result))) {
		err_set(err, RC_FAILED, "archive", "the manifest %s does not tell about it", manifest);
	} else {
		a->token.pipeline = xstrdup(pipeline);
		a->token.result = xstrdup(decoded.data);
		a->token.ticket = json_is_object(json_object_get(json, "ticket"))
					  ? json_incref(json_object_get(json, "ticket"))
					  : NULL;
		a->token.archive = json_incref(json_object_get(member, "archive"));
		rc = run_pipeline(run, pipeline, a->token.ticket, &a->pipeline, err);
	}
	free(text);
	buf_release(&decoded);
	json_decref(json);
	free(manifest);
	return rc;
}

static void begin_admission(struct run *run, struct candidate *c)
{
	struct admission *a = &run->intake.now;
	int folder = c->source == SOURCE_IN ? run->spool->in : run->spool->members;
	enum rc rc = RC_OK;
	struct err err = { 0 };
	struct stat st;

	*a = (struct admission){ .busy = true, .candidate = *c, .fd = -1 };
	a->token.source = c->source;
	a->token.file = xstrdup(c->file);
	sha256_init(&a->sha256);
	a->fd = intake_open(folder, c->file, &err);
	if (a->fd >= 0 && fstat(a->fd, &st)) {
		rc = err_errno(&err, RC_RETRY, "system", "stat \"%s\"", c->file);
	} else if (a->fd < 0) {
		rc = RC_FAILED;
		if (!strcmp(err.reason, "vanished")) {
			log_warn("document \"%s\" vanished before it was read", c->file);
			goto drop;
		}
		/* A member lies in our own state: it is not the sender's fault. */
		if (!strcmp(err.reason, "system") || c->source == SOURCE_MEMBER)
			rc = RC_RETRY;
	} else if (c->source == SOURCE_IN &&
		   (moved_on(c, &st) || being_written(a->fd))) {
		log_debug("document \"%s\" is still being written", c->file);
		run->intake.rescan = true;
		goto drop;
	}
	if (rc == RC_OK)
		rc = c->source == SOURCE_IN ? begin_in(run, a, &err) : begin_member(run, a, &err);
	if (rc == RC_OK && a->pipeline.limits.input_mebibytes < (uint64_t)st.st_size >> 20)
		rc = err_set(&err, RC_FAILED, "limit:input-mebibytes",
			     "the file has %llu MiB, the pipeline allows %llu",
			     (unsigned long long)st.st_size >> 20,
			     (unsigned long long)a->pipeline.limits.input_mebibytes);
	if (rc == RC_OK) {
		a->arrived_us = (uint64_t)to_ns(st.st_ctim) / 1000;
		a->token.bytes = (uint64_t)st.st_size;
		a->token.mtime_ns = to_ns(st.st_mtim);
		a->token.priority = a->pipeline.priority;
		return;
	}
	if (rc == RC_FAILED)
		intake_reject(run, c, a->token.result ? a->token.result : c->file, &err);
	else
		run_disk_full(run, err.text); /* found again by the scan after the pause */
drop:
	intake_abandon(run);
}

/* The next piece of the file; *all: there are no more. */
static enum rc hash_piece(struct admission *a, bool *all, struct err *err)
{
	static uint8_t block[1 << 18];
	uint64_t until = a->done + HASH_BYTES_A_TURN;

	while (a->done < until) {
		ssize_t n = pread(a->fd, block, sizeof(block), (off_t)a->done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, errno_passes(errno) ? RC_RETRY : RC_FAILED,
					 "read-error", "read at byte %llu",
					 (unsigned long long)a->done);
		*all = n == 0;
		if (*all)
			break;
		sha256_update(&a->sha256, (size_t)n, block);
		a->done += (uint64_t)n;
	}
	return RC_OK;
}

static bool changed_meanwhile(const struct admission *a)
{
	struct stat st;

	return a->done != a->token.bytes || fstat(a->fd, &st) ||
	       (uint64_t)st.st_size != a->token.bytes || to_ns(st.st_mtim) != a->token.mtime_ns;
}

/* Is it finished, and only its original stays in in/? RC_RETRY when nobody can tell now. */
static enum rc look_for_end(struct run *run, const struct admission *a, bool *finished,
			    struct err *err)
{
	const struct token *t = &a->token;
	enum rc rc = kept_look_for_failure(run, t, finished, err);
	bool stays;
	char *final;

	if (rc != RC_OK || *finished)
		return rc;
	*finished = kept_find_result(run, t, a->pipeline.originals, &final);
	if (!*finished)
		return rc;
	/* It could not be moved when it was read; it may be now. */
	rc = publish_original(run, t, a->pipeline.originals, &stays, err);
	if (stays)
		kept_add_result(run, t, final);
	free(final);
	return rc;
}

static void give_token(struct run *run, struct admission *a)
{
	struct intake *in = &run->intake;
	char name[TOKEN_NAME_SIZE];
	struct err err;
	int dir;

	take_up_torn(in, &a->token, a->candidate.path);
	token_name(&a->token, name);
	dir = spool_ready_dir(run->spool, a->token.priority, a->token.pipeline, &err);
	/* By way of our own folder: what a crash leaves there is found. */
	if (dir < 0 || token_write(run->lease.dir, &a->token, &err) != RC_OK ||
	    durable_replace(run->lease.dir, name, dir, name, &err) != RC_OK) {
		unlinkat(run->lease.dir, name, 0);
		run_disk_full(run, err.text);
	} else {
		path_set_add(&in->admitted, a->candidate.path);
		queue_add(&run->queue, a->token.priority, a->token.pipeline, a->token.key,
			  a->token.attempt);
		log_debug("admitted document=\"%s\" key=%s", a->token.file, a->token.key);
	}
	if (dir >= 0)
		close(dir);
}

/* One step for the document being admitted; false when it has to wait for something. */
static bool step_admission(struct run *run)
{
	struct admission *a = &run->intake.now;
	struct readers readers;
	struct err err = { 0 }, why;
	bool finished, all = false;
	enum rc rc;

	if (a->token.sha256[0] == '\0') {
		rc = hash_piece(a, &all, &err);
		if (rc == RC_OK && !all)
			return true;
		if (rc != RC_OK) {
			if (rc == RC_FAILED)
				intake_reject(run, &a->candidate, a->token.result, &err);
			else
				run_disk_full(run, err.text); /* found again by the scan after the pause */
			intake_abandon(run);
			return true;
		}
		if (changed_meanwhile(a)) {
			log_warn("document \"%s\" changed while it was read; waiting for it to stand still",
				 a->candidate.file);
			intake_abandon(run);
			run->intake.urgent = true;
			return true;
		}
		sha256_hex(&a->sha256, a->token.sha256);
	}
	/* Which model it will be read with is part of the key: the recogniser has to say hello. */
	readers = readers_of(&run->pool, &a->pipeline);
	switch (readers_known(&readers, &why)) {
	case ENGINE_STARTING:
		return false;
	case ENGINE_BROKEN:
		err_set(&err, RC_FAILED, "recogniser", "%s", why.text);
		break;
	case ENGINE_READY:
		readers_check(&readers, &a->pipeline, &err);
		break;
	}
	if (err.reason[0]) {
		intake_reject(run, &a->candidate, a->token.result, &err);
	} else {
		run_identity(a->token.sha256, &a->pipeline, &readers, a->token.identity);
		token_make_key(&a->token, a->arrived_us);
		if (look_for_end(run, a, &finished, &err) != RC_OK)
			run_disk_full(run, err.text); /* found again by the scan after the pause */
		else if (!finished)
			give_token(run, a);
	}
	intake_abandon(run);
	return true;
}

/* Is it complete, by what we know of it? */
static bool settled(struct run *run, const struct candidate *c, double now)
{
	return c->source == SOURCE_MEMBER || c->renamed ||
	       now - c->still_since >= (double)run->config->settle_seconds;
}

/* The first candidate that is complete, or NULL and when to look again. */
static struct candidate *next_candidate(struct run *run, double now, double *look_again)
{
	struct intake *in = &run->intake;

	while (in->first_candidate < in->n_candidates && !in->candidates[in->first_candidate].file)
		in->first_candidate++;
	*look_again = INFINITY;
	for (size_t i = in->first_candidate; i < in->n_candidates; i++) {
		struct candidate *c = &in->candidates[i];

		if (!c->file)
			continue;
		if (settled(run, c, now))
			return c;
		*look_again =
			fmin(*look_again, c->still_since + (double)run->config->settle_seconds);
	}
	return NULL;
}

double intake_turn(struct run *run, double now)
{
	struct intake *in = &run->intake;
	double until = now + TURN_SECONDS;

	while (loop_now() < until) {
		struct candidate *c, taken;
		double look_again;

		if (run->draining || run->disk_full)
			return INFINITY;
		if (in->now.busy) {
			if (!step_admission(run))
				return INFINITY; /* the pool's news will wake us */
			continue;
		}
		c = next_candidate(run, now, &look_again);
		if (!c)
			return look_again;
		taken = *c;
		c->file = NULL;
		begin_admission(run, &taken);
	}
	return now;
}
