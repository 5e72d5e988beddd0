/* SPDX-License-Identifier: MIT
 *
 * From the last page to the published folder: the writer makes the files, then one rename.
 *
 * A document of which no page at all could be read is a failure: it goes to failed/ with the reason
 * of its pages.  Otherwise the result says which pages failed, and why.
 */
#include "document.h"
#include "durable.h"
#include "publish.h"
#include "base/log.h"
#include "base/name.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define WRITER_JOURNAL_FD 3
#define WRITER_FOLDER_FD  4
#define WRITER_LINE_MAX   4096
#define WRITER_PAGES      100 /* that it may take as long for as the decoder may for one */

static void iso_time(time_t t, char out[32])
{
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static void set_text(json_t *object, const char *key, const char *bytes, bool encode)
{
	struct buf b;

	buf_init(&b, 1 << 17);
	if (encode)
		name_encode(&b, bytes, strlen(bytes));
	else
		name_escape(&b, bytes, strlen(bytes));
	json_object_set_new(object, key, json_string(b.data ? b.data : ""));
	buf_release(&b);
}

static json_t *output_names_of(unsigned outputs)
{
	json_t *names = json_array();

	for (size_t i = 0; i < N_OUTPUTS; i++)
		if (outputs & 1u << i)
			json_array_append_new(names, json_string(output_names[i]));
	return names;
}

/* What the pages went through: name, hash and settings; those of the pipeline that followed in "then". */
static json_t *pipeline_of(const struct document *d)
{
	json_t *of = json_pack("{s:s, s:s, s:o}", "name", d->token.pipeline, "hash", d->pipeline_hash,
			       "settings", pipeline_json(&d->pipeline, false));

	if (d->pipeline.next)
		json_object_set_new(of, "then", json_pack("{s:s, s:o}", "name", d->pipeline.then, "settings",
							  pipeline_json(d->pipeline.next, false)));
	return of;
}

/* The line that tells the writer all but the pages. */
static json_t *writer_job(const struct document *d)
{
	char started[32], finished[32];
	json_t *job;

	iso_time(d->started, started);
	iso_time(time(NULL), finished);
	job = json_pack("{s:s, s:s, s:{s:s, s:I}, s:o, s:o, s:s, s:s, s:i, s:o, s:s, s:s, s:i, s:f}",
			"key", d->token.key, "identity", d->token.identity, "input", "sha256",
			d->token.sha256, "bytes", (json_int_t)d->token.bytes, "pipeline", pipeline_of(d),
			"recogniser", readers_json(&d->readers, &d->pipeline), "cloister", CLOISTER_VERSION, "kind",
			d->kind, "pages", (int)d->pages, "outputs",
			output_names_of(d->pipeline.outputs), "started", started, "finished", finished,
			"attempt", (int)d->token.attempt, "seconds", loop_now() - d->started_at);
	if (!job)
		BUG("job of %s cannot be packed", d->token.key);
	set_text(job, "name", d->token.result, false);
	set_text(job, "path", d->token.source == SOURCE_IN ? d->token.file : d->token.result, true);
	if (d->token.archive)
		json_object_set(job, "archive", d->token.archive);
	if (d->duplicate_of)
		set_text(job, "duplicate_of", d->duplicate_of, false);
	return job;
}

static void on_written(void *arg)
{
	struct document *d = arg;
	struct err err;
	char *line;
	size_t len;

	while (child_line(&d->writer, &line, &len) == LINES_ONE) {
		json_t *message = airlock_parse(line, len, &err);
		json_t *written = json_object_get(message, "written");

		if (written && !d->written)
			d->written = json_incref(written);
		json_decref(message);
	}
}

/* No clock on the wall: a file system that stands still is not the document's fault. */
static unsigned writer_seconds(const struct document *d)
{
	return (unsigned)d->pipeline.limits.page_cpu_seconds * (1 + d->pages / WRITER_PAGES);
}

static void on_end(void *arg)
{
	struct document *d = arg;
	struct err err;
	struct buf text;
	int status;

	if (!child_reap(&d->writer, &status))
		return;
	on_written(d);
	buf_init(&text, ERR_TEXT_MAX);
	child_describe(&d->writer, status, &text);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && d->written) {
		/* The writer has synced the folder and what is in it. */
		if (document_changed(d)) {
			/* nothing of it is published */
		} else if (publish_result(d->run, d->attempt, &d->token, &d->final, &err) == RC_OK) {
			d->phase = DOC_WRITTEN;
		} else {
			document_wait(d, err.text);
		}
	} else if (WIFEXITED(status) && WEXITSTATUS(status) == EX_WORK_REMAINS) {
		document_wait(d, text.data);
	} else {
		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU)
			err_set(&err, RC_FAILED, "limit:page-cpu-seconds",
				"the writer took more than %u seconds of processor time",
				writer_seconds(d));
		else
			err_set(&err, RC_FAILED, "writer", "%s", text.data);
		document_try_again(d, &err);
	}
	buf_release(&text);
	child_kill(&d->writer);
}

/* Why the pages failed: their common reason, or that of the first. */
static bool nothing_was_read(const struct document *d, struct err *why)
{
	struct journal_index index;
	json_t *record;
	struct err err;

	if (!d->pages || d->failed < d->pages ||
	    journal_read(d->journal.fd, &index, d->pages, &err) != RC_OK)
		return false;
	record = journal_page(d->journal.fd, &index, 1, &err);
	err_set(why, RC_FAILED, "unreadable", "no page could be read");
	if (record) {
		const char *reason = json_string_value(json_object_get(record, "reason"));
		const char *detail = json_string_value(json_object_get(record, "detail"));

		err_set(why, RC_FAILED, reason ? reason : "unreadable", "%s%s",
			d->pages > 1 ? "no page could be read; the first: " : "",
			detail ? detail : "no page could be read");
		json_decref(record);
	}
	journal_index_release(&index);
	return true;
}

void document_write(struct document *d)
{
	char *program = xasprintf("%s/cloister-write", install_program_dir());
	const char *argv[] = { program, d->run->sandbox_flag, NULL };
	struct child_fd fds[2] = { { -1, WRITER_JOURNAL_FD }, { -1, WRITER_FOLDER_FD } };
	struct child_spec spec = { .name = "writer",
				   .argv = argv,
				   .fds = fds,
				   .n_fds = 2,
				   .max_line = WRITER_LINE_MAX };
	json_t *end = json_pack("{s:i}", "end", (int)d->pages);
	enum rc rc;
	struct err err;

	d->phase = DOC_WRITING;
	rc = journal_append(&d->journal, end, &err);
	json_decref(end);
	if (rc == RC_OK && nothing_was_read(d, &err)) {
		document_fail(d, &err);
		goto out;
	}
	if (rc == RC_OK && mkdirat(d->attempt, "out", 0755) && errno != EEXIST)
		rc = err_errno(&err, RC_RETRY, "write-error", "make folder for the result");
	if (rc != RC_OK) {
		document_wait(d, err.text);
		goto out;
	}
	fds[0].from = openat(d->attempt, JOURNAL_NAME, O_RDONLY | O_CLOEXEC);
	fds[1].from = openat(d->attempt, "out", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fds[0].from < 0 || fds[1].from < 0)
		rc = err_errno(&err, RC_RETRY, "write-error", "open the attempt");
	else
		rc = child_start(&d->writer, &d->run->loop, &spec, on_written, on_end, d, &err);
	if (rc != RC_OK) {
		document_wait(d, err.text);
	} else {
		child_limit_cpu(&d->writer, writer_seconds(d));
		child_tell(&d->writer, writer_job(d));
		child_close_in(&d->writer);
	}
out:
	for (size_t i = 0; i < 2; i++)
		if (fds[i].from >= 0)
			close(fds[i].from);
	free(program);
}
