/* SPDX-License-Identifier: MIT
 *
 * unpack: the members of an archive as frames on standard output.
 *
 * libarchive reads the archive from its descriptor and is never asked to write anything: a
 * member's path is data, sent percent-encoded, and no file is made here.  Only formats and filters
 * that libarchive handles inside this process are switched on, one by one; those it would start a
 * program for are not.
 *
 * Limits are counted from the bytes that come out, never from what headers claim, and members that
 * are passed over are read like all others, so that a bomb among them counts.  The packed size is
 * the size of the file, which nobody can lie about.
 *
 * Invariant: a member that got its 'E' frame was read to its end without a complaint; an 'S' frame
 * for a member that had started takes it back; 'X' is the last frame, whatever happened.
 */
#include "airlock.h"
#include "base/buf.h"
#include "base/lines.h"
#include "base/log.h"
#include "base/name.h"
#include "base/num.h"
#include "decode.h"
#include "oom.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BLOCK      65536
#define RATIO_FREE      (10ull << 20) /* unpacked bytes that no ratio is asked of */
#define MEMBER_PATH_MAX 4096 /* encoded; the supervisor keeps the paths of all members */
#define FRAME_HEADER    5

struct unpack {
	const struct limits *limits;
	struct archive *a;
	uint64_t packed, unpacked;
	uint64_t headers; /* entries of any kind, for limit:archive-members */
	uint64_t members; /* those that were reported; the last ordinal */
	uint64_t encrypted, complete;
	struct err err;
};

/* RC_FATAL: nobody reads us any more. */
static enum rc send_frame(char type, const void *payload, size_t len)
{
	static uint8_t frame[FRAME_HEADER + UNPACK_DATA_MAX];
	struct err unused;

	if (len > UNPACK_DATA_MAX)
		BUG("frame of %zu bytes", len);
	frame[0] = (uint8_t)type;
	for (size_t i = 0; i < 4; i++)
		frame[1 + i] = (uint8_t)(len >> (8 * i));
	memcpy(frame + FRAME_HEADER, payload, len);
	if (write_full(STDOUT_FILENO, frame, FRAME_HEADER + len))
		return err_set(&unused, RC_FATAL, "pipe", "standard output is closed");
	return RC_OK;
}

static enum rc send_json(char type, json_t *payload)
{
	char *text = airlock_dump(payload);
	enum rc rc = send_frame(type, text, strlen(text));

	free(text);
	json_decref(payload);
	return rc;
}

static enum rc limit(struct unpack *u, const char *reason, const char *what, uint64_t most)
{
	return err_set(&u->err, RC_FAILED, reason, "%s than the pipeline's limit of %llu", what,
		       (unsigned long long)most);
}

static enum rc count_unpacked(struct unpack *u, size_t n)
{
	u->unpacked += n;
	if (u->unpacked > u->limits->archive_mebibytes << 20)
		return limit(u, "limit:archive-mebibytes", "more MiB unpacked",
			     u->limits->archive_mebibytes);
	if (u->unpacked > RATIO_FREE && u->unpacked / u->limits->archive_ratio > u->packed)
		return limit(u, "limit:archive-ratio",
			     "a larger ratio of unpacked to packed bytes", u->limits->archive_ratio);
	return RC_OK;
}

/* ---- members ---- */

struct member {
	struct archive_entry *entry;
	const char *path; /* as stored, bytes */
	char *shown;      /* encoded */
	uint64_t ordinal; /* 0 until it is reported */
};

static json_t *member_json(const struct member *m)
{
	return json_pack("{s:I,s:s}", "ordinal", (json_int_t)m->ordinal, "path", m->shown);
}

/* Once: a member is not announced before its first byte could be read. */
static enum rc report_start(struct unpack *u, struct member *m)
{
	if (m->ordinal)
		return RC_OK;
	m->ordinal = ++u->members;
	return send_json('M', member_json(m));
}

static enum rc report_skipped(struct unpack *u, struct member *m, const char *reason)
{
	json_t *payload;

	if (!m->ordinal)
		m->ordinal = ++u->members;
	payload = member_json(m);
	json_object_set_new(payload, "reason", json_string(reason));
	return send_json('S', payload);
}

static bool is_ignored_name(const char *path)
{
	static const char *const files[] = { ".DS_Store", "Thumbs.db", "desktop.ini" };
	const char *slash = strrchr(path, '/');
	const char *base = slash ? slash + 1 : path;

	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (!strcasecmp(base, files[i]))
			return true;
	return !strncmp(path, "__MACOSX/", 9) || strstr(path, "/__MACOSX/");
}

static bool is_file(struct archive_entry *entry)
{
	return archive_entry_filetype(entry) == AE_IFREG && !archive_entry_hardlink(entry) &&
	       !archive_entry_symlink(entry);
}

/* What a failed call of libarchive was about. */
static bool about_encryption(struct unpack *u, struct archive_entry *entry)
{
	const char *text = archive_error_string(u->a);

	return archive_entry_is_encrypted(entry) ||
	       (text && (strcasestr(text, "passphrase") || strcasestr(text, "encrypt")));
}

/* The archive cannot be read past this point. */
static enum rc damaged(struct unpack *u, const struct member *m)
{
	const char *text = archive_error_string(u->a);
	struct buf why;

	text = text ? text : "it ends too early";
	buf_init(&why, 4 * ERR_TEXT_MAX);
	name_escape(&why, text, min_u64(strlen(text), 200));
	if (m)
		err_set(&u->err, RC_FAILED, "damaged", "member %llu, %.200s: %s",
			(unsigned long long)m->ordinal, m->shown, why.data ? why.data : "");
	else
		err_set(&u->err, RC_FAILED, "damaged", "after %llu members: %s",
			(unsigned long long)u->members, why.data ? why.data : "");
	buf_release(&why);
	return RC_FAILED;
}

/* What one call for data led to. */
enum data { DATA_SOME, DATA_END, DATA_BAD_MEMBER, DATA_BAD_ARCHIVE };

static enum data read_data(struct unpack *u, void *block, size_t *n)
{
	for (int tries = 0; tries < 8; tries++) {
		la_ssize_t got = archive_read_data(u->a, block, READ_BLOCK);

		if (got > 0) {
			*n = (size_t)got;
			return DATA_SOME;
		}
		if (got == 0)
			return DATA_END;
		if (got == ARCHIVE_FATAL)
			return DATA_BAD_ARCHIVE;
		if (got != ARCHIVE_RETRY)
			return DATA_BAD_MEMBER; /* WARN too: a wrong checksum is one */
	}
	return DATA_BAD_ARCHIVE;
}

/* Read a member that is not wanted; RC_OK also when it is broken and the next can be read. */
static enum rc pass_over(struct unpack *u, const struct member *m)
{
	static char block[READ_BLOCK];
	size_t n;

	for (;;) {
		enum rc rc;

		switch (read_data(u, block, &n)) {
		case DATA_SOME:
			rc = count_unpacked(u, n);
			if (rc)
				return rc;
			break;
		case DATA_BAD_ARCHIVE:
			return damaged(u, m->ordinal ? m : NULL);
		default:
			return RC_OK;
		}
	}
}

static enum rc send_data(struct unpack *u, struct member *m)
{
	static char block[READ_BLOCK];
	uint64_t size = 0;
	size_t n;
	enum data data;
	enum rc rc = RC_OK;

	while ((data = read_data(u, block, &n)) == DATA_SOME) {
		rc = count_unpacked(u, n);
		if (rc == RC_OK)
			rc = report_start(u, m);
		if (rc == RC_OK)
			rc = send_frame('D', block, n);
		if (rc)
			return rc;
		size += n;
	}
	if (data == DATA_END) {
		rc = report_start(u, m);
		if (rc)
			return rc;
		u->complete++;
		return send_json('E', json_pack("{s:I}", "size", (json_int_t)size));
	}
	if (!about_encryption(u, m->entry)) {
		rc = report_skipped(u, m, "damaged");
		return rc == RC_OK && data == DATA_BAD_ARCHIVE ? damaged(u, m) : rc;
	}
	u->encrypted++;
	rc = report_skipped(u, m, "encrypted");
	if (rc == RC_OK && data == DATA_BAD_ARCHIVE) /* a wrong password may pass the first check */
		rc = err_set(&u->err, RC_FAILED, "encrypted",
			     "member %llu cannot be read with the passwords of the pipeline",
			     (unsigned long long)m->ordinal);
	return rc;
}

static enum rc take_member(struct unpack *u, struct member *m)
{
	enum rc rc;

	if (archive_entry_filetype(m->entry) == AE_IFDIR)
		return pass_over(u, m);
	if (!is_file(m->entry))
		rc = report_skipped(u, m, "not-a-regular-file");
	else if (is_ignored_name(m->path))
		rc = report_skipped(u, m, "ignored-name");
	else
		return send_data(u, m);
	return rc ? rc : pass_over(u, m);
}

/* ---- the archive ---- */

/* A compressed single file has no name of its own: what the document is called, less the suffix
 * that named the compression. */
static char *name_of_plain_file(const char *name)
{
	static const char *const suffixes[] = { ".gz", ".bz2", ".xz", ".zst" };
	const char *slash = strrchr(name, '/');
	char *base = xstrdup(slash ? slash + 1 : name);
	size_t len = strlen(base);

	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		size_t n = strlen(suffixes[i]);

		if (len > n && !strcasecmp(base + len - n, suffixes[i])) {
			base[len - n] = '\0';
			break;
		}
	}
	return base;
}

static bool is_plain_file(struct archive *a)
{
	return archive_format(a) == ARCHIVE_FORMAT_RAW;
}

static char *encoded(const char *path)
{
	struct buf out;

	buf_init(&out, MEMBER_PATH_MAX);
	name_encode(&out, path, strlen(path));
	if (out.overflow) {
		buf_release(&out);
		return NULL;
	}
	return buf_detach(&out);
}

static enum rc next_member(struct unpack *u, struct archive_entry *entry, const char *plain_name)
{
	const char *path = is_plain_file(u->a) ? plain_name : archive_entry_pathname(entry);
	struct member m = { .entry = entry, .path = path ? path : "" };
	enum rc rc;

	if (++u->headers > u->limits->archive_members)
		return limit(u, "limit:archive-members", "more members",
			     u->limits->archive_members);
	m.shown = encoded(m.path);
	if (m.shown) {
		rc = take_member(u, &m);
	} else {
		m.shown = xstrdup("");
		rc = report_skipped(u, &m, "name-too-long");
		rc = rc ? rc : pass_over(u, &m);
	}
	free(m.shown);
	return rc;
}

static enum rc read_members(struct unpack *u, const char *plain_name)
{
	struct archive_entry *entry;
	enum rc rc = RC_OK;
	int retries = 0;

	while (rc == RC_OK) {
		int r = archive_read_next_header(u->a, &entry);

		if (r == ARCHIVE_EOF)
			break;
		if (r == ARCHIVE_RETRY && retries++ < 8)
			continue;
		if (r == ARCHIVE_OK || r == ARCHIVE_WARN) {
			/* Anything at all is "raw"; it takes a compression to make it ours. */
			if (is_plain_file(u->a) && archive_filter_count(u->a) < 2)
				return err_set(&u->err, RC_FAILED, "damaged",
					       "not an archive that can be read");
			rc = next_member(u, entry, plain_name);
		} else if (archive_read_has_encrypted_entries(u->a) == 1) {
			rc = err_set(&u->err, RC_FAILED, "encrypted",
				     "the list of members is encrypted");
		} else {
			rc = damaged(u, NULL);
		}
	}
	if (rc == RC_OK && u->encrypted && !u->complete)
		rc = err_set(&u->err, RC_FAILED, "encrypted",
			     "all members are encrypted, and no password of the pipeline opens them");
	if (rc == RC_OK && !u->members)
		rc = err_set(&u->err, RC_FAILED, "empty", "the archive has no members");
	return rc;
}

/* true when libarchive does this inside the process. */
static bool inside(int r)
{
	return r == ARCHIVE_OK;
}

static enum rc open_archive(struct unpack *u, const struct pipeline *p)
{
	struct archive *a = u->a = archive_read_new();
	struct stat st;

	if (!inside(archive_read_support_filter_gzip(a)) ||
	    !inside(archive_read_support_filter_bzip2(a)) ||
	    !inside(archive_read_support_filter_xz(a)) ||
	    !inside(archive_read_support_filter_zstd(a)) ||
	    !inside(archive_read_support_format_zip(a)) ||
	    !inside(archive_read_support_format_7zip(a)) ||
	    !inside(archive_read_support_format_tar(a)) ||
	    !inside(archive_read_support_format_raw(a)))
		die(EX_CONFIGURATION, "this libarchive lacks a format: %s", archive_error_string(a));
	for (size_t i = 0; i < p->n_passwords; i++)
		if (*p->passwords[i])
			archive_read_add_passphrase(a, p->passwords[i]);
	if (fstat(DECODE_DOCUMENT_FD, &st))
		return err_errno(&u->err, RC_FAILED, "read-error", "the archive cannot be read");
	u->packed = (uint64_t)st.st_size;
	if (archive_read_open_fd(a, DECODE_DOCUMENT_FD, READ_BLOCK) != ARCHIVE_OK)
		return damaged(u, NULL);
	return RC_OK;
}

/* The 'X' frame for when memory runs out, when none can be made any more. */
static void prepare_last_words(struct buf *frame)
{
	struct err err;
	json_t *payload;
	char *text;

	err_set(&err, RC_FAILED, "limit:memory-mebibytes",
		"unpacking takes more memory than the pipeline's limit");
	payload = airlock_error(&err);
	text = airlock_dump(payload);
	buf_init(frame, 4096);
	buf_addc(frame, 'X');
	for (size_t i = 0; i < 4; i++)
		buf_addc(frame, (char)(strlen(text) >> (8 * i)));
	buf_adds(frame, text);
	free(text);
	json_decref(payload);
	oom_last_words(frame->data, frame->len);
}

int unpack_main(const char *name, const struct pipeline *p)
{
	struct unpack u = { .limits = &p->limits };
	struct buf last_words;
	char *plain_name = name_of_plain_file(name);
	enum rc rc;

	prepare_last_words(&last_words);
	rc = open_archive(&u, p);
	if (rc == RC_OK)
		rc = read_members(&u, plain_name);
	oom_last_words(NULL, 0);
	if (rc == RC_OK)
		rc = send_json('X', json_pack("{s:I}", "members", (json_int_t)u.members));
	else if (rc == RC_FAILED)
		rc = send_json('X', airlock_error(&u.err));
	archive_read_free(u.a);
	buf_release(&last_words);
	free(plain_name);
	return rc ? EX_WORK_REMAINS : EX_ALL_DONE;
}
