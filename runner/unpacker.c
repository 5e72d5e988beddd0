/* SPDX-License-Identifier: MIT
 *
 * Archives: frames from `cloister-decode --unpack` (airlock.h) become files.
 *
 * Members are written as attempt/members/NNNN, whatever they are called; their stored names are
 * data in the manifest.  When the archive has been read to its end, out/.../archive.zip/ is published
 * with archive.json, the list of members, in it; then the folder of members is renamed to
 * state/members/KEY, where the intake finds them like dropped files.  The archive's own token stays
 * until both have happened, so a crash anywhere repeats what is missing.
 */
#include "document.h"
#include "durable.h"
#include "publish.h"
#include "base/log.h"
#include "base/name.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FRAME_HEAD     5
#define FRAME_MAX      (UNPACK_DATA_MAX + 4096)
#define CHUNK          65536

struct unpacking {
	struct buf in;
	int members;         /* folder */
	int file;            /* member being written, or -1 */
	char file_name[24];
	char *stored;        /* its name in the archive, encoded */
	json_int_t ordinal;
	uint64_t bytes, total, received;
	struct sha256_ctx sha256;
	json_t *files;       /* "0001": {"result","archive":{...},"bytes","sha256"} */
	json_t *skipped;     /* [{"member","reason"}] */
	bool ended;
	uint32_t lost;       /* of those, the ones that may have held something */
	struct err error;    /* reason empty: none */
};

static void on_frames(void *arg);
static void on_end(void *arg);

void unpacking_release(struct document *d)
{
	struct unpacking *u = d->unpacking;

	if (!u)
		return;
	buf_release(&u->in);
	if (u->file >= 0)
		close(u->file);
	if (u->members >= 0)
		close(u->members);
	free(u->stored);
	json_decref(u->files);
	json_decref(u->skipped);
	free(u);
	d->unpacking = NULL;
}

static json_int_t archive_depth(const struct document *d)
{
	return json_integer_value(json_object_get(d->token.archive, "depth"));
}

void unpacking_begin(struct document *d)
{
	char *program = xasprintf("%s/cloister-decode", install_program_dir());
	const char *argv[] = { program, d->run->sandbox_flag, "--unpack", NULL };
	struct child_fd fds[] = { { d->fd, DECODE_DOCUMENT_FD } };
	struct child_spec spec = { .name = "unpacker", .argv = argv, .fds = fds, .n_fds = 1 };
	struct unpacking *u = d->unpacking = xcalloc(1, sizeof(*u));
	const char *base = strrchr(d->token.result, '/');
	struct buf name;
	struct err err;

	d->phase = DOC_UNPACKING;
	buf_init(&u->in, FRAME_MAX + CHUNK);
	u->file = u->members = -1;
	u->files = json_object();
	u->skipped = json_array();
	if ((uint64_t)archive_depth(d) >= d->pipeline.limits.archive_depth) {
		err_set(&err, RC_FAILED, "limit:archive-depth",
			"an archive inside %llu archives is not unpacked",
			(unsigned long long)archive_depth(d));
		document_fail(d, &err);
		goto out;
	}
	if (mkdirat(d->attempt, "members", 0755) ||
	    (u->members = openat(d->attempt, "members", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
		document_wait(d, strerror(errno));
		goto out;
	}
	if (child_start(&d->decoder, &d->run->loop, &spec, on_frames, on_end, d, &err) != RC_OK) {
		document_wait(d, err.text);
		goto out;
	}
	d->deadline = loop_now() + (double)d->pipeline.limits.open_seconds;
	buf_init(&name, 1 << 16);
	base = base ? base + 1 : d->token.result;
	utf8_repair(&name, base, strlen(base));
	child_tell(&d->decoder, json_pack("{s:{s:s, s:o}}", "open", "name", name.data, "pipeline",
					  pipeline_json(&d->pipeline, true)));
	buf_release(&name);
out:
	free(program);
}

static void stop_and_wait(struct document *d, const char *what)
{
	decoder_stop(d);
	document_wait(d, what);
}

/* A member starts. */
static bool take_member(struct document *d, json_t *head)
{
	struct unpacking *u = d->unpacking;
	const char *path = json_string_value(json_object_get(head, "path"));

	u->ordinal = json_integer_value(json_object_get(head, "ordinal"));
	if (!path || u->file >= 0 || u->ordinal < 1 ||
	    (uint64_t)u->ordinal > d->pipeline.limits.archive_members)
		return false;
	snprintf(u->file_name, sizeof(u->file_name), "%04lld", (long long)u->ordinal);
	free(u->stored);
	u->stored = xstrdup(path);
	u->bytes = 0;
	sha256_init(&u->sha256);
	u->file = openat(u->members, u->file_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (u->file < 0 && errno == EEXIST)
		return false; /* the same ordinal twice */
	if (u->file < 0)
		stop_and_wait(d, strerror(errno));
	return true;
}

static bool take_data(struct document *d, const char *data, size_t len)
{
	struct unpacking *u = d->unpacking;

	u->bytes += len;
	u->total += len;
	if (u->file < 0 || u->total > d->pipeline.limits.archive_mebibytes << 20)
		return false;
	sha256_update(&u->sha256, len, (const uint8_t *)data);
	if (write_full(u->file, data, len))
		stop_and_wait(d, strerror(errno));
	return true;
}

/* NNNN-BASENAME beneath the archive's result. */
static char *member_result(const struct document *d, const char *ordinal, const char *stored)
{
	struct buf name, path, encoded;
	char *result;

	buf_init(&path, 1 << 16);
	buf_init(&name, 1 << 16);
	buf_init(&encoded, 1 << 17);
	if (!name_decode(&path, stored, strlen(stored)))
		buf_clear(&path);
	buf_addf(&name, "%s/%s-", d->token.result, ordinal);
	name_sanitise(&name, path.data ? path.data : "", path.len);
	name_encode(&encoded, name.data, name.len);
	result = buf_detach(&encoded);
	buf_release(&name);
	buf_release(&path);
	return result;
}

static bool end_member(struct document *d)
{
	struct unpacking *u = d->unpacking;
	char sha256[SHA256_HEX_SIZE], *result, *archive_path;
	struct buf encoded;

	if (u->file < 0)
		return false;
	durable_sync(u->file, "member");
	close(u->file);
	u->file = -1;
	sha256_hex(&u->sha256, sha256);
	result = member_result(d, u->file_name, u->stored);
	buf_init(&encoded, 1 << 16);
	name_encode(&encoded, d->token.result, strlen(d->token.result));
	archive_path = buf_detach(&encoded);
	json_object_set_new(
		u->files, u->file_name,
		json_pack("{s:s, s:I, s:s, s:s, s:{s:s, s:s, s:s, s:I, s:I}}", "result", result, "bytes",
			  (json_int_t)u->bytes, "sha256", sha256, "member", u->stored, "archive", "path",
			  archive_path, "sha256", d->token.sha256, "member", u->stored, "ordinal",
			  u->ordinal, "depth", archive_depth(d) + 1));
	free(result);
	free(archive_path);
	return true;
}

static bool take_end(struct unpacking *u, json_t *end)
{
	json_t *error = json_object_get(end, "error");

	u->ended = true;
	return !error || airlock_take_error(error, &u->error);
}

/* A member that is passed over; one that had started is taken back. Litter of other systems is
 * listed only; anything else makes the archive one to look at. */
static bool take_skipped(struct document *d, json_t *head)
{
	struct unpacking *u = d->unpacking;
	const char *reason = json_string_value(json_object_get(head, "reason"));

	if (!reason)
		return false;
	if (strcmp(reason, "ignored-name")) {
		u->lost++;
		log_warn("member passed over document=\"%s\" member=\"%s\" reason=%s", d->token.result,
			 json_string_value(json_object_get(head, "path")), reason);
	}
	if (json_array_size(u->skipped) > d->pipeline.limits.archive_members)
		return false;
	if (u->file >= 0) {
		close(u->file);
		u->file = -1;
		unlinkat(u->members, u->file_name, 0);
	}
	return !json_array_append(u->skipped, head);
}

static bool take_frame(struct document *d, char type, const char *data, size_t len)
{
	struct unpacking *u = d->unpacking;
	json_t *json = NULL;
	bool good = false;
	struct err err;

	if (u->ended)
		return false;
	if (type == 'D')
		return take_data(d, data, len);
	json = airlock_parse(data, len, &err);
	if (json && type == 'M')
		good = take_member(d, json);
	else if (json && type == 'E')
		good = end_member(d);
	else if (json && type == 'S')
		good = take_skipped(d, json);
	else if (json && type == 'X')
		good = take_end(u, json);
	json_decref(json);
	return good;
}

static void break_off(struct document *d, const char *text)
{
	struct err err;

	err_set(&err, RC_FAILED, "decoder-crash", "%s", text);
	decoder_stop(d);
	document_try_again(d, &err);
}

static void on_frames(void *arg)
{
	struct document *d = arg;
	struct unpacking *u = d->unpacking;
	char chunk[CHUNK];
	size_t at = 0;
	ssize_t n;

	if (d->closed || d->decoder.out < 0)
		return;
	n = read(d->decoder.out, chunk, sizeof(chunk));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		struct err err;

		err_errno(&err, RC_RETRY, "system", "read from the unpacker");
		stop_and_wait(d, err.text);
		return;
	}
	if (n == 0) {
		child_pause(&d->decoder); /* on_end follows */
		return;
	}
	d->deadline = loop_now() + (double)d->pipeline.limits.open_seconds;
	u->received += (uint64_t)n;
	buf_add(&u->in, chunk, (size_t)n);
	while (!d->closed && u->in.len - at >= FRAME_HEAD) {
		const unsigned char *head = (const unsigned char *)u->in.data + at;
		size_t len = head[1] | (size_t)head[2] << 8 | (size_t)head[3] << 16 |
			     (size_t)head[4] << 24;

		if (len > UNPACK_DATA_MAX) {
			break_off(d, "the unpacker sent a frame that is too long");
			return;
		}
		if (u->in.len - at - FRAME_HEAD < len)
			break;
		if (!take_frame(d, (char)head[0], u->in.data + at + FRAME_HEAD, len)) {
			if (!d->closed)
				break_off(d, "the unpacker broke the protocol and was stopped");
			return;
		}
		at += FRAME_HEAD + len;
	}
	if (!d->closed)
		buf_consume(&u->in, at);
}

static json_t *manifest(const struct document *d)
{
	struct buf name;
	json_t *json;

	buf_init(&name, 1 << 16);
	name_escape(&name, d->token.result, strlen(d->token.result));
	json = json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:I, s:O, s:O, s:O?}", "archive", 1, "key",
			 d->token.key, "identity", d->token.identity, "name", name.data, "pipeline",
			 d->token.pipeline, "sha256", d->token.sha256, "bytes",
			 (json_int_t)d->token.bytes, "files", d->unpacking->files, "skipped",
			 d->unpacking->skipped, "ticket", d->token.ticket);
	buf_release(&name);
	return json;
}

/* archive.json into the folder of results and beside the members; everything synced. */
static enum rc write_manifests(struct document *d, struct err *err)
{
	json_t *json = manifest(d);
	char *text = json_dumps(json, JSON_INDENT(2));
	enum rc rc = RC_OK;
	int out = -1;

	if (mkdirat(d->attempt, "out", 0755) ||
	    (out = openat(d->attempt, "out", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		rc = err_errno(err, RC_RETRY, "write-error", "make folder for the result");
	if (rc == RC_OK)
		rc = durable_write(out, "archive.json", text, strlen(text), true, err);
	if (rc == RC_OK)
		rc = durable_write(d->unpacking->members, "archive.json", text, strlen(text), true, err);
	if (rc == RC_OK) {
		durable_sync(d->attempt, "attempt");
		durable_sync(d->run->spool->tmp, "state/tmp");
	}
	if (out >= 0)
		close(out);
	free(text);
	json_decref(json);
	return rc;
}

static void on_end(void *arg)
{
	struct document *d = arg;
	struct unpacking *u = d->unpacking;
	struct err err;
	struct buf text;
	int status;

	if (!child_reap(&d->decoder, &status))
		return;
	/* What it wrote before it ended still lies in the pipe. */
	for (uint64_t before = UINT64_MAX; !d->closed && before != u->received;) {
		before = u->received;
		on_frames(d);
	}
	d->deadline = 0;
	if (d->closed)
		return;
	if (!u->ended) {
		buf_init(&text, ERR_TEXT_MAX);
		child_describe(&d->decoder, status, &text);
		break_off(d, text.data);
		buf_release(&text);
		return;
	}
	decoder_stop(d);
	/* A damaged archive still gives what came before the damage; one that is over a limit or
	 * locked gives nothing. */
	if (u->error.reason[0] &&
	    (strcmp(u->error.reason, "damaged") || !json_object_size(u->files))) {
		document_fail(d, &u->error);
		return;
	}
	if (document_changed(d))
		return;
	if (write_manifests(d, &err) != RC_OK ||
	    publish_result(d->run, d->attempt, &d->token, &d->final, &err) != RC_OK) {
		document_wait(d, err.text);
		return;
	}
	d->phase = DOC_WRITTEN;
}

void unpacking_finish(struct document *d)
{
	struct run *run = d->run;
	struct err err;

	if (!d->unpacking || d->unpacking->members < 0)
		return;
	if (json_object_size(d->unpacking->files) &&
	    durable_move(d->attempt, "members", run->spool->members, d->token.key, &err) != RC_OK &&
	    strcmp(err.reason, "exists")) {
		document_wait(d, err.text);
		return;
	}
	durable_sync(run->spool->members, "state/members");
	run->intake.urgent = true;
	d->flagged = d->unpacking->lost;
	if (d->unpacking->error.reason[0])
		document_fail(d, &d->unpacking->error);
}

/* An attempt that died after publishing archive.json may still hold the members. */
bool unpacking_recover(struct document *d)
{
	size_t length = strlen(d->token.key);
	int top = openat(d->run->spool->tmp, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = top < 0 ? NULL : fdopendir(top);
	bool moved = true;
	struct err err;

	for (struct dirent *e; dir && (e = readdir(dir));) {
		char path[300];

		if (strncmp(e->d_name, d->token.key, length) || e->d_name[length] != '.')
			continue;
		snprintf(path, sizeof(path), "%s/members/archive.json", e->d_name);
		if (faccessat(top, path, F_OK, AT_SYMLINK_NOFOLLOW))
			continue;
		snprintf(path, sizeof(path), "%s/members", e->d_name);
		if (durable_move(top, path, d->run->spool->members, d->token.key, &err) == RC_OK)
			durable_sync(d->run->spool->members, "state/members");
		else if (strcmp(err.reason, "exists"))
			moved = false;
		d->run->intake.urgent = true;
	}
	if (dir)
		closedir(dir);
	if (!moved)
		document_wait(d, err.text);
	return moved;
}
