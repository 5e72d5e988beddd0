/* SPDX-License-Identifier: MIT
 *
 * The supervisor's side of the pull protocol (airlock.h): one decoder for one document, replaced
 * when it dies.  Nothing it says is believed before it has been checked against the limits.
 */
#include "document.h"
#include "base/log.h"
#include "base/name.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PNM_HEADER_MAX 64

static void on_line(void *arg);
static void on_end(void *arg);

static double page_deadline(const struct document *d)
{
	return loop_now() + (double)d->pipeline.limits.page_seconds;
}

/* Room for the slots of a document that keeps its recognisers busy alone. */
static enum rc make_slots(struct document *d, struct err *err)
{
	struct slot slots[DECODE_SLOTS_MAX];
	size_t n = readers_appetite(&d->readers) + 2;
	enum rc rc;

	if (n > DECODE_SLOTS_MAX)
		n = DECODE_SLOTS_MAX;
	rc = scratch_add_folder(&d->run->scratch, &d->folder, slots, n, err);
	if (rc != RC_OK)
		return rc;
	d->n_slots = n;
	for (size_t i = 0; i < n; i++)
		d->slots[i] = (struct document_slot){ .slot = slots[i], .document = d };
	return RC_OK;
}

enum rc decoder_start(struct document *d, struct err *err)
{
	char *program = xasprintf("%s/cloister-decode", install_program_dir());
	char count[32];
	const char *argv[] = { program, d->run->sandbox_flag, "--slots", count, NULL };
	struct child_fd fds[DECODE_SLOTS_MAX + 1];
	struct child_spec spec = { .name = "decoder",
				   .argv = argv,
				   .fds = fds,
				   .max_line = d->pipeline.limits.result_kibibytes << 10 };
	json_t *open = NULL;
	struct buf name;
	enum rc rc = RC_OK;

	if (!d->n_slots)
		rc = make_slots(d, err);
	if (rc != RC_OK)
		goto out;
	snprintf(count, sizeof(count), "%zu", d->n_slots);
	fds[spec.n_fds++] = (struct child_fd){ d->fd, DECODE_DOCUMENT_FD };
	for (size_t i = 0; i < d->n_slots; i++)
		fds[spec.n_fds++] =
			(struct child_fd){ d->slots[i].slot.fd, DECODE_SLOT_FD + (int)i };
	if (d->decoder.loop)
		child_kill(&d->decoder);
	rc = child_start(&d->decoder, &d->run->loop, &spec, on_line, on_end, d, err);
	if (rc != RC_OK)
		goto out;
	d->decoder_open = false;
	d->deadline = loop_now() + (double)d->pipeline.limits.open_seconds;
	child_limit_cpu(&d->decoder, (unsigned)d->pipeline.limits.open_seconds);
	buf_init(&name, 1 << 16);
	utf8_repair(&name, d->token.result, strlen(d->token.result));
	open = json_pack("{s:{s:s, s:o}}", "open", "name", name.data, "pipeline",
			 pipeline_json(&d->pipeline, true));
	buf_release(&name);
	child_tell(&d->decoder, open);
out:
	free(program);
	return rc;
}

void decoder_stop(struct document *d)
{
	if (d->decoder.loop)
		child_kill(&d->decoder);
	d->decoder_open = false;
	d->deadline = 0;
}

void decoder_ask(struct document *d, struct document_slot *slot)
{
	d->deadline = page_deadline(d);
	child_limit_cpu(&d->decoder, (unsigned)d->pipeline.limits.page_cpu_seconds);
	child_tell(&d->decoder, json_pack("{s:i, s:i}", "page", (int)slot->page, "slot",
						 (int)(slot - d->slots)));
}

bool decoder_grant(struct document *d, struct document_slot *slot)
{
	struct err err;

	switch (scratch_reserve(&d->run->scratch, &slot->slot, slot->needs, &err)) {
	case RC_OK:
		slot->needs = 0;
		d->deadline = page_deadline(d);
		child_tell(&d->decoder, json_pack("{s:i}", "go", (int)slot->page));
		return true;
	case RC_RETRY:
		if (strcmp(err.reason, "busy"))
			run_disk_full(d->run, err.text);
		return false;
	default:
		/* It waits for an answer that will not come: a fresh one does the other pages. */
		slot->needs = 0;
		d->decoding = NULL;
		decoder_stop(d);
		document_page_failed(d, slot->page, &err, NULL, loop_now() - slot->began);
		document_free_slot(slot);
		document_after_page(d);
		return true;
	}
}

/* The decoder is gone, or has to go, for this reason. `again`: the page may be tried once more. */
static void lose_decoder(struct document *d, const struct err *why, bool again)
{
	struct document_slot *slot = d->decoding;
	bool was_open = d->decoder_open;

	decoder_stop(d);
	d->decoding = NULL;
	d->crashes++;
	if (!was_open && !d->progress) {
		if (again)
			document_try_again(d, why);
		else
			document_fail(d, why);
		return;
	}
	log_warn("document=\"%s\" page=%u reason=%s: %s", d->token.result, slot ? slot->page : 0,
		 why->reason, why->text);
	if (slot) {
		uint32_t page = slot->page;
		double seconds = loop_now() - slot->began;

		document_free_slot(slot);
		if (again && ++d->tries[page - 1] < TRIES_OF_A_PAGE) {
			d->progress[page - 1] = PAGE_PENDING;
			d->first_pending = page < d->first_pending ? page : d->first_pending;
		} else {
			document_page_failed(d, page, why, NULL, seconds);
		}
	}
	document_after_page(d);
}

static void on_end(void *arg)
{
	struct document *d = arg;
	struct err why;
	struct buf text;
	bool again = false;
	int status, signal;

	if (!child_reap(&d->decoder, &status))
		return;
	signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	buf_init(&text, ERR_TEXT_MAX);
	child_describe(&d->decoder, status, &text);
	if (signal == SIGXCPU)
		err_set(&why, RC_FAILED,
			d->decoder_open ? "limit:page-cpu-seconds" : "limit:open-seconds",
			"decoding took more processor time than the limit allows");
	else if (signal == SIGSYS)
		err_set(&why, RC_FAILED, "sandbox", "the decoder made a forbidden system call: %s",
			text.data);
	else if (WIFEXITED(status) && WEXITSTATUS(status) == EX_BUG)
		err_set(&why, RC_FAILED, "limit:memory-mebibytes",
			"decoding took more memory than the limit allows: %s", text.data);
	else if (WIFEXITED(status) && WEXITSTATUS(status) == EX_CONFIGURATION)
		err_set(&why, RC_FAILED, "sandbox", "%s", text.data);
	else
		again = err_set(&why, RC_FAILED, "decoder-crash", "%s", text.data);
	buf_release(&text);
	lose_decoder(d, &why, again);
}

void decoder_late(struct document *d)
{
	struct err why;

	if (d->phase == DOC_UNPACKING)
		err_set(&why, RC_FAILED, "limit:open-seconds",
			"unpacking made no progress for %llu seconds",
			(unsigned long long)d->pipeline.limits.open_seconds);
	else if (!d->decoder_open)
		err_set(&why, RC_FAILED, "limit:open-seconds", "opening it took more than %llu seconds",
			(unsigned long long)d->pipeline.limits.open_seconds);
	else
		err_set(&why, RC_FAILED, "limit:page-seconds",
			"decoding the page took more than %llu seconds",
			(unsigned long long)d->pipeline.limits.page_seconds);
	if (d->phase == DOC_UNPACKING)
		document_fail(d, &why);
	else
		lose_decoder(d, &why, false);
}

static bool take_opened(struct document *d, json_t *message)
{
	json_t *opened = json_object_get(message, "opened");
	json_int_t pages = json_integer_value(json_object_get(opened, "pages"));
	const char *kind = json_string_value(json_object_get(opened, "kind"));
	struct err why;

	if (airlock_take_error(json_object_get(message, "error"), &why)) {
		decoder_stop(d);
		document_fail(d, &why);
		return true;
	}
	if (!kind || strlen(kind) >= sizeof(d->kind))
		return false;
	snprintf(d->kind, sizeof(d->kind), "%s", kind);
	d->deadline = 0;
	if (!strcmp(kind, "archive")) {
		decoder_stop(d);
		unpacking_begin(d);
		return true;
	}
	if (pages < 1 || (uint64_t)pages > d->pipeline.limits.document_pages ||
	    (d->progress && (uint32_t)pages != d->pages))
		return false;
	d->decoder_open = true;
	if (!d->progress)
		document_pages_begin(d, (uint32_t)pages);
	return true;
}

static bool take_need(struct document *d, struct document_slot *slot, json_t *need)
{
	uint64_t bytes = (uint64_t)json_integer_value(need);

	if (bytes < 8 || bytes > d->pipeline.limits.page_megapixels * 3000000 + PNM_HEADER_MAX ||
	    slot->needs || slot->slot.bytes)
		return false;
	slot->needs = bytes;
	d->deadline = 0; /* waiting for room is not its fault */
	decoder_grant(d, slot);
	return true;
}

/* errno tells of the machine, not of the document. */
static void wait_for_system(struct document *d, const char *what)
{
	struct err err;

	err_errno(&err, RC_RETRY, "system", "%s", what);
	decoder_stop(d);
	document_wait(d, err.text);
}

/* The header in the slot must say what the decoder says, and the pixels must fit. */
static bool check_raster(struct document *d, struct document_slot *slot, json_t *done)
{
	json_int_t width = json_integer_value(json_object_get(done, "width"));
	json_int_t height = json_integer_value(json_object_get(done, "height"));
	json_int_t channels = json_integer_value(json_object_get(done, "channels"));
	char want[PNM_HEADER_MAX], have[PNM_HEADER_MAX];
	uint64_t bytes;
	ssize_t got;
	int n;

	if (width < 1 || height < 1 || width > (json_int_t)d->pipeline.limits.page_side_pixels ||
	    height > (json_int_t)d->pipeline.limits.page_side_pixels ||
	    (channels != 1 && channels != 3))
		return false;
	n = snprintf(want, sizeof(want), "P%c\n%d %d\n255\n", channels == 1 ? '5' : '6', (int)width,
		     (int)height);
	bytes = (uint64_t)n + (uint64_t)width * (uint64_t)height * (uint64_t)channels;
	if (bytes > slot->slot.bytes)
		return false;
	got = pread(slot->slot.fd, have, (size_t)n, 0);
	if (got < 0)
		wait_for_system(d, "read a page file");
	if (got != n || memcmp(want, have, (size_t)n))
		return false;
	scratch_trim(&d->run->scratch, &slot->slot, bytes);
	return true;
}

static bool take_page(struct document *d, json_t *message)
{
	struct document_slot *slot = d->decoding;
	json_t *need = json_object_get(message, "need");
	json_t *done = json_object_get(message, "done");
	struct err why;

	if (!slot || json_integer_value(json_object_get(message, "page")) != slot->page)
		return false;
	if (json_is_integer(need))
		return take_need(d, slot, need);
	d->decoding = NULL;
	d->deadline = 0;
	d->crashes = 0;
	slot->decode_seconds = loop_now() - slot->began;
	if (airlock_take_error(json_object_get(message, "error"), &why)) {
		document_page_failed(d, slot->page, &why, NULL, slot->decode_seconds);
		document_free_slot(slot);
		document_after_page(d);
		return true;
	}
	if (!json_is_object(done) ||
	    (!json_object_get(done, "result") && !check_raster(d, slot, done))) {
		d->decoding = slot;
		return false;
	}
	document_page_decoded(slot, done);
	return true;
}

static void on_line(void *arg)
{
	struct document *d = arg;
	json_t *message;
	struct err why;
	bool good;
	char *line;
	size_t len;

	while (!d->closed && d->decoder.loop && d->phase <= DOC_PAGES) {
		enum lines_status status = child_line(&d->decoder, &line, &len);

		if (status == LINES_AGAIN || status == LINES_EOF)
			return;
		if (status == LINES_ERROR && errno != EMSGSIZE) {
			wait_for_system(d, "read from the decoder");
			return;
		}
		message = status == LINES_ONE ? airlock_parse(line, len, &why) : NULL;
		good = message && (d->decoder_open ? take_page(d, message) : take_opened(d, message));
		json_decref(message);
		if (!good && !d->closed) {
			err_set(&why, RC_FAILED, "decoder-crash",
				"the decoder broke the protocol and was stopped");
			lose_decoder(d, &why, true);
			return;
		}
	}
}
