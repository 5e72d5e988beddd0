/* SPDX-License-Identifier: MIT
 *
 * Beginning and ending an attempt (document.h).
 */
#include "document.h"
#include "aside.h"
#include "durable.h"
#include "kept.h"
#include "publish.h"
#include "base/log.h"
#include "base/name.h"
#include "base/num.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RETRY_SECONDS 1

/* Does folder "KEY.WORKER-N" belong to somebody else who is alive? That happens on a shared file
 * system alone, when two machines have admitted one drop. */
static bool is_at_work(const struct run *run, const char *attempt)
{
	const char *worker = attempt + KEY_SIZE, *dash = strrchr(worker, '-');
	char name[WORKER_NAME_SIZE] = "";

	if (dash && dash - worker < WORKER_NAME_SIZE)
		memcpy(name, worker, (size_t)(dash - worker));
	return strcmp(name, run->lease.name) && lease_alive(&run->lease, name);
}

/* Who else had an attempt at this document is dead. */
void document_sweep_attempts(struct document *d, const char *but)
{
	size_t length = strlen(d->token.key);
	int fd = openat(d->run->spool->tmp, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	for (struct dirent *e; dir && (e = readdir(dir));)
		if (!strncmp(e->d_name, d->token.key, length) && e->d_name[length] == '.' &&
		    !(but && !strcmp(e->d_name, but)) && !is_at_work(d->run, e->d_name))
			durable_remove_tree(fd, e->d_name);
	if (dir)
		closedir(dir);
}

/* The attempt is over, the document is not. What was read stays, if it is not in earlier ones. */
static void end_attempt(struct document *d)
{
	journal_sync(&d->journal);
	if (d->attempt >= 0 && !d->adopted && d->phase != DOC_WRITTEN)
		durable_remove_tree(d->run->spool->tmp, d->attempt_name);
}

static void drop_token(struct document *d)
{
	unlinkat(d->run->lease.dir, d->token_name, 0);
	intake_forget(d->run, token_path_hash(d->token.source, d->token.file));
}

static void report(struct document *d, const char *state, const struct err *why)
{
	double seconds = loop_now() - d->started_at;
	struct buf name;

	buf_init(&name, 1 << 16);
	name_escape(&name, d->token.result, strlen(d->token.result));
	if (why)
		log_warn("%s document=\"%s\" reason=%s: %s", state, d->token.result, why->reason,
			 why->text);
	else
		log_at(d->run->options->lines ? LOG_DEBUG : LOG_INFO,
			 "%s document=\"%s\" sha256=%s pipeline=%s pages=%u ok=%u blank=%u flagged=%u "
			 "failed=%u reused=%u seconds=%.2f",
			 state, d->token.result, d->token.sha256, d->token.pipeline, d->pages, d->ok,
			 d->blank, d->flagged, d->failed, d->reused, seconds);
	if (d->run->options->lines && why)
		status_print(&d->run->status, "%-44s %5u %8.2f  %s: %s (%s)", name.data, d->pages,
			     seconds, state, why->reason, why->text);
	else if (d->run->options->lines && d->unpacking && d->flagged)
		status_print(&d->run->status, "%-44s %5u %8.2f  %s, %u members passed over", name.data,
			     d->pages, seconds, state, d->flagged);
	else if (d->run->options->lines && (d->flagged || d->failed))
		status_print(&d->run->status, "%-44s %5u %8.2f  %s, %u of %u pages need a look",
			     name.data, d->pages, seconds, state, d->flagged + d->failed, d->pages);
	else if (d->run->options->lines)
		status_print(&d->run->status, "%-44s %5u %8.2f  %s", name.data, d->pages, seconds,
			     state);
	buf_release(&name);
}

void document_release(struct document *d)
{
	if (d->decoder.loop)
		child_kill(&d->decoder);
	if (d->writer.loop)
		child_kill(&d->writer);
	unpacking_release(d);
	for (size_t i = 0; i < d->n_slots; i++) {
		if (d->slots[i].use == SLOT_READING)
			engine_forget(&d->slots[i].reading);
		aside_release(d->slots[i].aside);
		json_decref(d->slots[i].decoded);
		json_decref(d->slots[i].record);
		json_decref(d->slots[i].reading.params);
	}
	if (d->n_slots) {
		struct slot slots[DECODE_SLOTS_MAX];

		for (size_t i = 0; i < d->n_slots; i++)
			slots[i] = d->slots[i].slot;
		scratch_drop_folder(&d->run->scratch, d->folder, slots, d->n_slots);
	}
	journal_close(&d->journal);
	if (d->attempt >= 0)
		close(d->attempt);
	if (d->fd >= 0)
		close(d->fd);
	json_decref(d->written);
	free(d->progress);
	free(d->tries);
	free(d->duplicate_of);
	free(d->final);
	if (d->readers.page)
		readers_let_go(&d->readers);
	if (d->pipeline.name)
		pipeline_release(&d->pipeline);
	token_release(&d->token);
	free(d);
}

/* A list of the pages that failed, for why.json; long lists are cut. */
static json_t *explain(struct document *d)
{
	json_t *why = json_pack("{s:s, s:s, s:s, s:I, s:i, s:i}", "key", d->token.key, "pipeline",
				d->token.pipeline, "sha256", d->token.sha256, "bytes",
				(json_int_t)d->token.bytes, "attempts", (int)d->token.attempt, "pages",
				(int)d->pages);

	if (d->token.failures)
		json_object_set(why, "failures", d->token.failures);
	if (d->token.archive)
		json_object_set(why, "archive", d->token.archive);
	return why;
}

void document_fail(struct document *d, const struct err *why)
{
	struct err err;

	if (d->closed || (d->fd >= 0 && document_changed(d)))
		return;
	if (publish_failure(d->run, &d->token, explain(d), why, &err) != RC_OK) {
		document_wait(d, err.text);
		return;
	}
	d->closed = true;
	d->run->counts.failed++;
	report(d, "failed", why);
	document_sweep_attempts(d, NULL);
	drop_token(d);
}

/* Before an attempt that failed is followed by the next. A file that is gone may have been finished by
 * another machine: that shows when what we remember of the file system is older than a lease. */
static time_t pause_after(const struct document *d, const struct err *why)
{
	if (strcmp(why->reason, "vanished"))
		return RETRY_SECONDS;
	return (time_t)min_u64(d->run->config->lease_seconds, DEFERRED_SECONDS_MAX);
}

bool document_holds(const struct run *run, const char *token_name)
{
	for (const struct document *d = run->documents; d; d = d->next)
		if (!d->closed && !strcmp(d->token_name, token_name))
			return true;
	return false;
}

/* The token stays where it is for now (run_take_back_strays). */
static void leave_stray(struct document *d, const struct err *err)
{
	log_warn("token %s: %s", d->token_name, err->text);
	d->run->strays++;
}

/* A file that is gone is believed only when it is gone at two attempts in a row, whatever came before:
 * a machine that died while it moved a document to failed/ leaves it with one failure explained. */
static bool is_final(const struct token *t, const char *reason)
{
	size_t before = json_array_size(t->failures);
	const json_t *last = before ? json_array_get(t->failures, before - 1) : NULL;
	const char *earlier = json_string_value(json_object_get(last, "reason"));

	if (!strcmp(reason, "vanished"))
		return earlier && !strcmp(earlier, reason);
	return before + 1 >= ATTEMPTS_EXPLAINED;
}

void document_try_again(struct document *d, const struct err *why)
{
	struct token *t = &d->token;
	bool final = is_final(t, why->reason);
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { 0 } };
	struct buf text;
	struct err err;

	if (d->closed)
		return;
	if (!t->failures)
		t->failures = json_array();
	buf_init(&text, 4 * ERR_TEXT_MAX);
	utf8_repair(&text, why->text, strlen(why->text));
	json_array_append_new(t->failures,
			      json_pack("{s:i, s:s, s:s}", "attempt", (int)t->attempt, "reason",
					why->reason, "text", text.data ? text.data : ""));
	buf_release(&text);
	if (final) {
		document_fail(d, why);
		return;
	}
	log_warn("attempt %u failed document=\"%s\" reason=%s: %s; trying again", t->attempt,
		 t->result, why->reason, why->text);
	d->closed = true;
	end_attempt(d);
	times[1].tv_sec = time(NULL) + pause_after(d, why);
	err_set(&err, RC_RETRY, "system", "its time cannot be set");
	if (token_write(d->run->lease.dir, t, &err) != RC_OK ||
	    utimensat(d->run->lease.dir, d->token_name, times, 0) ||
	    durable_replace(d->run->lease.dir, d->token_name, d->run->spool->deferred, d->token_name,
			    &err) != RC_OK)
		leave_stray(d, &err);
	else
		d->run->counts.deferred++;
}

void document_give_back(struct document *d)
{
	struct token *t = &d->token;
	char name[TOKEN_NAME_SIZE];
	struct err err;
	int ready;

	if (d->closed)
		return;
	d->closed = true;
	end_attempt(d);
	/* This attempt is not counted: nothing the document did ended it. */
	t->attempt -= t->attempt > 0;
	token_name(t, name);
	ready = spool_ready_dir(d->run->spool, t->priority, t->pipeline, &err);
	if (ready < 0 ||
	    durable_replace(d->run->lease.dir, d->token_name, ready, name, &err) != RC_OK)
		leave_stray(d, &err);
	else if (!path_set_has(&d->run->parked, token_path_hash(t->source, t->file)))
		queue_add(&d->run->queue, t->priority, t->pipeline, t->key, t->attempt);
	if (ready >= 0)
		close(ready);
}

void document_wait(struct document *d, const char *what)
{
	if (d->closed)
		return;
	run_disk_full(d->run, what);
	document_give_back(d);
}

void document_park(struct document *d)
{
	path_set_add(&d->run->parked, token_path_hash(d->token.source, d->token.file));
	document_give_back(d);
}

void document_gone(struct document *d)
{
	if (d->closed)
		return;
	d->closed = true;
	document_sweep_attempts(d, NULL);
	drop_token(d);
	d->run->intake.urgent = true;
}

void document_acknowledge(struct document *d)
{
	struct run_counts *counts = &d->run->counts;
	bool look = d->flagged || d->failed, stays;
	struct err err;

	if (!d->duplicate_of) /* what repeats another has no text to be repeated */
		index_add(&d->run->index, d->token.identity, d->final);
	if (publish_original(d->run, &d->token, d->pipeline.originals, &stays, &err) != RC_OK) {
		document_wait(d, err.text);
		return;
	}
	d->closed = true;
	if (stays)
		kept_add_result(d->run, &d->token, d->final);
	counts->done++;
	counts->flagged += look;
	report(d, d->unpacking ? "unpacked" : d->duplicate_of ? "duplicate" : look ? "flagged" : "done",
	       NULL);
	document_sweep_attempts(d, NULL);
	drop_token(d);
}

/* An earlier attempt got as far as publishing: only the rest is left to do. */
static enum rc was_published(struct document *d, struct err *err)
{
	enum rc rc = publish_find(d->run, &d->token, "key", d->token.key, &d->final, err);

	if (!d->final)
		return rc;
	d->phase = DOC_WRITTEN;
	unpacking_recover(d);
	return RC_OK;
}

bool document_changed(struct document *d)
{
	const struct token *t = &d->token;
	struct stat st;
	bool there;

	if (!fstat(d->fd, &st) && (uint64_t)st.st_size == t->bytes &&
	    (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec == t->mtime_ns &&
	    (publish_is_original(d->run, t, &there) || !there))
		return false;
	log_warn("input-changed document=\"%s\": it was written to after it was admitted; it is "
		 "admitted anew when it stands still",
		 t->file);
	decoder_stop(d);
	document_gone(d);
	return true;
}

/* Open the file and see that it is still what was admitted. */
static bool open_document(struct document *d)
{
	const struct token *t = &d->token;
	int folder = t->source == SOURCE_IN ? d->run->spool->in : d->run->spool->members;
	struct err err;
	char *earlier;

	d->fd = intake_open(folder, t->file, &err);
	if (d->fd < 0 && !strcmp(err.reason, "vanished")) {
		/* Another worker may have finished it under a token of its own. */
		earlier = index_find(&d->run->index, t->identity);
		if (earlier)
			document_gone(d);
		else if (d->run->spool->shared)
			document_try_again(d, &err);
		else
			document_fail(d, &err);
		free(earlier);
		return false;
	}
	if (d->fd < 0) {
		if (!strcmp(err.reason, "system"))
			document_wait(d, err.text);
		else
			document_fail(d, &err);
		return false;
	}
	return !document_changed(d);
}

static bool make_attempt(struct document *d)
{
	static unsigned serial;
	struct err err;

	snprintf(d->attempt_name, sizeof(d->attempt_name), "%s.%s-%u", d->token.key,
		 d->run->lease.name, ++serial);
	if (mkdirat(d->run->spool->tmp, d->attempt_name, 0755))
		err_errno(&err, RC_RETRY, "write-error", "make state/tmp/%s", d->attempt_name);
	else if ((d->attempt = openat(d->run->spool->tmp, d->attempt_name,
				      O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		err_errno(&err, RC_RETRY, "write-error", "open state/tmp/%s", d->attempt_name);
	else if (journal_create(&d->journal, d->attempt, d->token.key, d->token.identity, &err) == RC_OK)
		return true;
	document_wait(d, err.text);
	return false;
}

/* The recognisers are known now, and with them what the result depends on. */
static void open_with_readers(struct document *d)
{
	struct err err;

	if (readers_check(&d->readers, &d->pipeline, &err) != RC_OK) {
		document_fail(d, &err);
		return;
	}
	run_identity(d->token.sha256, &d->pipeline, &d->readers, d->token.identity);
	if (!make_attempt(d))
		return;
	if (d->pipeline.duplicates != DUPLICATES_PROCESS)
		d->duplicate_of = index_find(&d->run->index, d->token.identity);
	if (d->duplicate_of && d->pipeline.duplicates == DUPLICATES_SKIP) {
		d->final = xstrdup(d->duplicate_of);
		d->phase = DOC_WRITTEN;
		return;
	}
	if (d->duplicate_of) {
		strcpy(d->kind, "duplicate");
		document_write(d);
		return;
	}
	if (decoder_start(d, &err) != RC_OK)
		document_wait(d, err.text);
}

struct document *document_begin(struct run *run, const char *token_name)
{
	struct document *d = xcalloc(1, sizeof(*d));
	struct err err;
	enum rc rc;

	d->run = run;
	d->fd = d->attempt = d->journal.fd = -1;
	d->started = time(NULL);
	d->started_at = loop_now();
	d->first_pending = 1;
	snprintf(d->token_name, sizeof(d->token_name), "%s", token_name);
	rc = token_read(run->lease.dir, token_name, &d->token, &err);
	if (rc != RC_OK) {
		if (!strcmp(err.reason, "token"))
			intake_torn(run, run->lease.dir, token_name);
		else if (strcmp(err.reason, "vanished"))
			leave_stray(d, &err);
		goto over;
	}
	rc = was_published(d, &err);
	if (rc == RC_OK)
		rc = run_pipeline(run, d->token.pipeline, d->token.ticket, &d->pipeline, &err);
	if (d->final)
		return d; /* even if its pipeline is gone */
	if (rc == RC_RETRY) {
		document_wait(d, err.text);
		goto over;
	}
	if (rc != RC_OK) {
		document_fail(d, &err);
		goto over;
	}
	pipeline_hash(&d->pipeline, d->pipeline_hash);
	d->readers = readers_of(&run->pool, &d->pipeline);
	readers_hold(&d->readers);
	if (!open_document(d))
		goto over;
	if (d->token.attempt > ATTEMPTS_UNEXPLAINED) {
		err_set(&err, RC_FAILED, "too-many-attempts",
			"%u attempts ended without a word (crashes or power cuts); not tried again",
			d->token.attempt - 1);
		document_fail(d, &err);
		goto over;
	}
	return d;
over:
	document_release(d);
	return NULL;
}

/* Anew, as long as nothing is asked of them: which adapters a model can be read with is known when it says
 * hello. */
static void look_for_readers(struct document *d)
{
	const struct pipeline *p = &d->pipeline;
	struct readers found;

	if (!p->model.n_adapters && !(p->next && p->next->model.n_adapters))
		return;
	found = readers_of(&d->run->pool, p);
	readers_hold(&found);
	readers_let_go(&d->readers);
	d->readers = found;
}

double document_turn(struct document *d, double now)
{
	double next = INFINITY;
	struct err why;

	if (d->closed || d->phase == DOC_WRITTEN)
		return next;
	if (d->phase == DOC_OPENING && !d->decoder.loop && !d->writer.loop) {
		look_for_readers(d);
		if (readers_state(&d->readers) == ENGINE_BROKEN)
			document_park(d);
		else if (d->run->draining)
			document_give_back(d);
		else if (readers_known(&d->readers, &why) == ENGINE_READY)
			open_with_readers(d);
		else
			return next; /* the pool's news will wake us */
		return now;
	}
	for (size_t i = 0; i < d->n_slots && !d->closed; i++)
		if (d->slots[i].needs && !decoder_grant(d, &d->slots[i]))
			next = fmin(next, now + 0.05);
	for (size_t i = 0; i < d->n_slots && !d->closed; i++)
		if (d->slots[i].aside)
			next = fmin(next, aside_turn(d->slots[i].aside, now));
	if (d->closed || d->phase == DOC_WRITTEN)
		return next;
	if (d->phase == DOC_PAGES && readers_state(&d->readers) == ENGINE_BROKEN)
		document_drain(d);
	if (d->closed)
		return next;
	if (d->journal.unsynced >= SYNC_PAGES || (d->journal.unsynced && now >= d->next_sync)) {
		journal_sync(&d->journal);
		d->next_sync = now + 1;
	}
	if (d->journal.unsynced)
		next = fmin(next, d->next_sync);
	if (d->deadline && now >= d->deadline)
		decoder_late(d);
	if (d->deadline)
		next = fmin(next, d->deadline);
	return next;
}

bool document_idle(const struct document *d)
{
	if (d->phase == DOC_WRITING || d->phase == DOC_UNPACKING ||
	    (d->decoding && !d->decoding->needs))
		return false;
	for (size_t i = 0; i < d->n_slots; i++) /* one that waits for room may wait for long */
		if (d->slots[i].use != SLOT_FREE && !d->slots[i].needs)
			return false;
	return true;
}

void document_drain(struct document *d)
{
	if (d->closed || d->phase == DOC_WRITTEN || !document_idle(d))
		return;
	if (readers_state(&d->readers) == ENGINE_BROKEN)
		document_park(d);
	else
		document_give_back(d);
}
