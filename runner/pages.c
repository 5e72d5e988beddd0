/* SPDX-License-Identifier: MIT
 *
 * The pages of a document: which are asked for next, what becomes of each, its record in the
 * journal.  A page is recorded exactly once; when the last one is, the writer starts.
 */
#include "aside.h"
#include "document.h"
#include "base/log.h"
#include "base/name.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void count_page(struct document *d, const char *status, const char *reason)
{
	struct run_counts *counts = &d->run->counts;
	bool blank = reason && !strcmp(reason, "blank");

	d->finished++;
	if (!strcmp(status, "ok")) {
		d->ok++;
		d->blank += blank;
		counts->pages_ok++;
		counts->pages_blank += blank;
	} else if (!strcmp(status, "flagged")) {
		d->flagged++;
		counts->pages_flagged++;
	} else {
		d->failed++;
		counts->pages_failed++;
	}
	counts->pages_pending -= counts->pages_pending > 0;
}

/* What was made of a page beside its text. false: there was nothing. */
static bool drop_additions(json_t *record)
{
	bool figures = !json_object_del(record, "figures"), html = !json_object_del(record, "html");

	return figures || html;
}

/* Make a page final. record: consumed. */
static void record_page(struct document *d, uint32_t page, json_t *record)
{
	const char *status = json_string_value(json_object_get(record, "status"));
	const char *reason = json_string_value(json_object_get(record, "reason"));
	struct err err;
	enum rc rc;

	if (d->closed || d->progress[page - 1] == PAGE_DONE) {
		json_decref(record);
		return;
	}
	rc = journal_append(&d->journal, record, &err);
	if (rc == RC_FAILED && drop_additions(record)) {
		document_flag(record, &err);
		status = json_string_value(json_object_get(record, "status"));
		reason = json_string_value(json_object_get(record, "reason"));
		rc = journal_append(&d->journal, record, &err);
	}
	if (rc == RC_FAILED) {
		/* Too long to be kept: the page failed, and that fits. */
		json_object_del(record, "result");
		json_object_set_new(record, "status", json_string("failed"));
		json_object_set_new(record, "reason", json_string(err.reason));
		json_object_set_new(record, "detail", json_string(err.text));
		status = "failed";
		reason = NULL;
		rc = journal_append(&d->journal, record, &err);
	}
	if (rc != RC_OK) {
		document_wait(d, err.text);
	} else {
		d->progress[page - 1] = PAGE_DONE;
		count_page(d, status, reason);
	}
	json_decref(record);
}

/* What every record starts with, from what the decoder said. */
static json_t *start_record(const struct document *d, uint32_t page, json_t *decoded,
			    double decode_seconds)
{
	static const char *const copied[] = { "width",   "height",   "channels", "dpi",
					      "native",  "ink",      "warnings", "evidence" };
	json_t *record = json_pack("{s:i, s:i, s:{s:f}}", "page", (int)page, "tries",
				   d->tries[page - 1] + 1, "seconds", "decode", decode_seconds);

	for (size_t i = 0; decoded && i < sizeof(copied) / sizeof(*copied); i++) {
		json_t *value = json_object_get(decoded, copied[i]);

		if (!strcmp(copied[i], "dpi") && json_number_value(value) <= 0)
			continue; /* the file does not say */
		if (value)
			json_object_set(record, copied[i], value);
	}
	return record;
}

static json_t *clean_text(const char *text)
{
	struct buf clean;
	json_t *json;

	buf_init(&clean, 1 << 12);
	utf8_repair(&clean, text, strlen(text));
	json = json_string(clean.data);
	buf_release(&clean);
	return json;
}

void document_set_outcome(json_t *record, const char *status, const char *reason, const char *detail)
{
	if (status)
		json_object_set_new(record, "status", json_string(status));
	if (reason)
		json_object_set_new(record, "reason", json_string(reason));
	if (detail && *detail)
		json_object_set_new(record, "detail", clean_text(detail));
}

static void set_outcome(json_t *record, const char *status, const char *reason, const char *detail,
			const char *source)
{
	document_set_outcome(record, status, reason, detail);
	json_object_set_new(record, "source", json_string(source));
}

void document_page_failed(struct document *d, uint32_t page, const struct err *why,
			  json_t *decoded, double decode_seconds)
{
	json_t *record = start_record(d, page, decoded, decode_seconds);

	log_warn("page failed document=\"%s\" page=%u reason=%s: %s", d->token.result, page,
		 why->reason, why->text);
	document_set_outcome(record, "failed", why->reason, why->text);
	record_page(d, page, record);
}

void document_free_slot(struct document_slot *slot)
{
	scratch_free(&slot->document->run->scratch, &slot->slot);
	json_decref(slot->decoded);
	json_decref(slot->reading.params);
	json_decref(slot->record);
	*slot = (struct document_slot){ .slot = slot->slot, .document = slot->document };
}

/* The recogniser's word on how it ended decides whether the text can be trusted. */
static void judge(json_t *record, json_t *result)
{
	const char *finish = json_string_value(json_object_get(result, "finish"));
	json_t *rotation = json_object_get(result, "rotation");

	if (rotation)
		json_object_set(record, "rotation", rotation);
	if (finish && !strcmp(finish, "length"))
		set_outcome(record, "failed", "finish:length", "the text was cut at the length limit",
			    "recogniser");
	else if (finish && strcmp(finish, "stop"))
		set_outcome(record, "flagged", "finish", finish, "recogniser");
	else
		set_outcome(record, "ok", NULL, NULL, "recogniser");
}

void document_flag(json_t *record, const struct err *why)
{
	const char *status = json_string_value(json_object_get(record, "status"));
	json_t *warnings = json_copy(json_object_get(record, "warnings"));

	if (!warnings)
		warnings = json_array();
	json_array_append_new(warnings, clean_text(why->text));
	json_object_set_new(record, "warnings", warnings);
	if (!strcmp(status, "ok"))
		document_set_outcome(record, "flagged", why->reason, why->text);
}

void document_page_keep(struct document_slot *slot, json_t *record)
{
	struct document *d = slot->document;

	record_page(d, slot->page, record);
	document_free_slot(slot);
	document_after_page(d);
}

void document_page_final(struct document_slot *slot, json_t *record)
{
	if (!web_begin(slot, record))
		document_page_keep(slot, record);
}

void document_page_read(struct document_slot *slot, json_t *record)
{
	if (!text_step_begin(slot, record))
		document_page_final(slot, record);
}

void document_page_unread(struct document_slot *slot)
{
	struct document *d = slot->document;

	d->progress[slot->page - 1] = PAGE_PENDING;
	if (slot->page < d->first_pending)
		d->first_pending = slot->page;
	document_free_slot(slot);
	if (readers_state(&d->readers) == ENGINE_BROKEN)
		document_drain(d);
}

static void on_read(void *arg, struct reading *reading, enum rc rc, json_t *result,
		    double seconds, const struct err *why)
{
	struct document_slot *slot = arg;
	struct document *d = slot->document;
	json_t *record;

	(void)reading;
	if (rc == RC_RETRY) {
		document_page_unread(slot);
		return;
	}
	if (!result) {
		document_page_failed(d, slot->page, why, slot->decoded, slot->decode_seconds);
		document_free_slot(slot);
		document_after_page(d);
		return;
	}
	record = start_record(d, slot->page, slot->decoded, slot->decode_seconds);
	json_object_set_new(json_object_get(record, "seconds"), "read", json_real(seconds));
	judge(record, result);
	json_object_set_new(record, "result", result);
	if (!figures_begin(slot, record))
		document_page_read(slot, record);
}

static void read_page(struct document_slot *slot, json_t *done)
{
	struct document *d = slot->document;
	struct reading *r = &slot->reading;

	slot->use = SLOT_READING;
	slot->decoded = json_incref(done);
	scratch_slot_name(d->folder, (size_t)(slot - d->slots), r->page);
	r->width = (uint32_t)json_integer_value(json_object_get(done, "width"));
	r->height = (uint32_t)json_integer_value(json_object_get(done, "height"));
	r->dpi = json_number_value(json_object_get(done, "dpi"));
	r->native = json_is_true(json_object_get(done, "native"));
	r->prompt = d->pipeline.prompt;
	r->params = pipeline_params(&d->pipeline);
	r->seconds = (unsigned)d->pipeline.limits.read_seconds;
	r->max_line = d->pipeline.limits.result_kibibytes << 10;
	r->done = on_read;
	r->arg = slot;
	engine_read(d->readers.page, r);
}

/* A text layer's words are as hostile as a recogniser's: the same check. NULL: the page failed. */
static json_t *record_of_text_layer(struct document_slot *slot, json_t *done)
{
	struct document *d = slot->document;
	json_t *result, *record;
	struct err why;

	result = airlock_result(json_object_get(done, "result"),
				(uint32_t)json_integer_value(json_object_get(done, "width")),
				(uint32_t)json_integer_value(json_object_get(done, "height")), &why);
	if (!result) {
		document_page_failed(d, slot->page, &why, done, slot->decode_seconds);
		return NULL;
	}
	record = start_record(d, slot->page, done, slot->decode_seconds);
	set_outcome(record, "ok", NULL, NULL, "text-layer");
	json_object_set_new(record, "result", result);
	return record;
}

void document_page_decoded(struct document_slot *slot, json_t *done)
{
	struct document *d = slot->document;
	const char *blank = json_string_value(json_object_get(done, "blank"));
	json_t *record;

	if (json_object_get(done, "result")) {
		record = record_of_text_layer(slot, done);
		if (record) {
			document_page_read(slot, record);
			return;
		}
	} else if (blank && strcmp(blank, "no")) {
		record = start_record(d, slot->page, done, slot->decode_seconds);
		if (!strcmp(blank, "blank"))
			set_outcome(record, "ok", "blank", NULL, "blank");
		else
			set_outcome(record, "flagged", "suspect-blank",
				    "the page has content, but came out as one plain surface", "blank");
		record_page(d, slot->page, record);
	} else {
		read_page(slot, done);
		return;
	}
	document_free_slot(slot);
	document_after_page(d);
}

/* Take over the pages of one earlier attempt. */
static void adopt_journal(struct document *d, int fd)
{
	struct journal_index index;
	struct err err;

	if (journal_read(fd, &index, d->pages, &err) != RC_OK)
		return;
	for (uint32_t page = 1; !strcmp(index.identity, d->token.identity) &&
				page <= index.n_pages && !d->closed;
	     page++) {
		json_t *record;

		if (d->progress[page - 1] == PAGE_DONE || !index.pages[page - 1].offset)
			continue;
		record = journal_page(fd, &index, page, &err);
		if (!json_is_string(json_object_get(record, "status")) || web_wanted(d, record)) {
			json_decref(record);
			continue;
		}
		record_page(d, page, record);
		d->reused++;
		d->run->counts.pages_reused++;
	}
	journal_index_release(&index);
}

static void adopt_earlier_attempts(struct document *d)
{
	size_t length = strlen(d->token.key);
	int top = openat(d->run->spool->tmp, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = top < 0 ? NULL : fdopendir(top);
	bool found = false;

	for (struct dirent *e; dir && !d->closed && (e = readdir(dir));) {
		char path[300];
		int fd;

		if (strncmp(e->d_name, d->token.key, length) || e->d_name[length] != '.' ||
		    !strcmp(e->d_name, d->attempt_name))
			continue;
		found = true;
		snprintf(path, sizeof(path), "%s/" JOURNAL_NAME, e->d_name);
		fd = openat(top, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			continue;
		adopt_journal(d, fd);
		close(fd);
	}
	if (dir)
		closedir(dir);
	if (d->closed)
		return;
	d->adopted = true;
	if (found) {
		journal_sync(&d->journal);
		document_sweep_attempts(d, d->attempt_name);
	}
	if (d->reused)
		log_info("document=\"%s\" %u of %u pages were finished by an earlier attempt",
			 d->token.result, d->reused, d->pages);
}

void document_pages_begin(struct document *d, uint32_t pages)
{
	d->pages = pages;
	d->progress = xcalloc(pages, sizeof(*d->progress));
	d->tries = xcalloc(pages, sizeof(*d->tries));
	d->phase = DOC_PAGES;
	d->run->counts.pages_pending += pages;
	adopt_earlier_attempts(d);
	document_after_page(d);
}

static uint32_t next_pending(const struct document *d)
{
	uint32_t page = d->first_pending;

	while (page <= d->pages && d->progress[page - 1] != PAGE_PENDING)
		page++;
	return page;
}

static struct document_slot *free_slot(struct document *d)
{
	for (size_t i = 0; i < d->n_slots; i++)
		if (d->slots[i].use == SLOT_FREE)
			return &d->slots[i];
	return NULL;
}

bool document_wants_page(const struct document *d)
{
	return !d->closed && d->phase == DOC_PAGES && !d->decoding &&
	       (d->decoder_open || !d->decoder.loop) && readers_state(&d->readers) != ENGINE_BROKEN &&
	       free_slot((struct document *)d) && next_pending(d) <= d->pages;
}

void document_ask_page(struct document *d)
{
	struct document_slot *slot = free_slot(d);
	struct err err;

	if (!d->decoder.loop) {
		/* The last one died. This one has to open the document first. */
		if (decoder_start(d, &err) != RC_OK)
			document_wait(d, err.text);
		return;
	}
	slot->page = next_pending(d);
	d->first_pending = slot->page + 1;
	d->progress[slot->page - 1] = PAGE_BUSY;
	d->asked++;
	slot->use = SLOT_DECODING;
	slot->began = loop_now();
	d->decoding = slot;
	decoder_ask(d, slot);
}

/* A document whose decoder does nothing but die is not worth one more. */
static void give_up_on_the_rest(struct document *d)
{
	struct err why;

	err_set(&why, RC_FAILED, "too-many-crashes",
		"not tried: the decoder died %u times in a row on pages before", d->crashes);
	for (uint32_t page = 1; page <= d->pages && !d->closed; page++)
		if (d->progress[page - 1] == PAGE_PENDING)
			document_page_failed(d, page, &why, NULL, 0);
}

void document_after_page(struct document *d)
{
	if (d->closed || d->phase != DOC_PAGES)
		return;
	if (d->crashes >= CRASHES_IN_A_ROW)
		give_up_on_the_rest(d);
	if (!d->closed && d->finished == d->pages) {
		decoder_stop(d);
		document_write(d);
	}
}
