/* SPDX-License-Identifier: MIT
 *
 * The text step: what a page says, given to the recogniser of the pipeline that follows (`then`).
 *
 * A page's record is made as without it, and held back while its text is worked on; the page's
 * picture goes meanwhile.  An answer takes the place of the text; the text it was made from stays
 * as "source_text", with lines, blocks and confidence, which are those of the page.  Invariant: no
 * text is lost and none is changed unseen.  Where there is no good answer (a crash, a time-out, a
 * text that was cut, went round in circles, or is empty) the page keeps the text that was read, and
 * is flagged "then:" and why: that text is what the page would have without the step, but not what
 * was asked for.
 *
 * Every page with text takes the step, also one whose text came from the document itself; a page
 * that failed, is blank or says nothing does not.
 */
#include "airlock.h"
#include "document.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

static bool says_nothing(const char *text)
{
	return !text || !text[strspn(text, " \t\n")];
}

/* What the text step said about its answer, beside the text. */
static json_t *measures_of(const json_t *answer)
{
	static const char *const not_copied[] = {"status", "text",   "format",
						 "lines",  "blocks", "rotation"};
	json_t *out = answer ? json_copy((json_t *)answer) : json_object();

	for (size_t i = 0; i < sizeof(not_copied) / sizeof(*not_copied); i++)
		json_object_del(out, not_copied[i]);
	return out;
}

static bool is_good(const json_t *answer, struct err *why)
{
	const char *finish = json_string_value(json_object_get(answer, "finish"));

	if (finish && !strcmp(finish, "length"))
		err_set(why, RC_FAILED, "finish:length", "the answer was cut at the length limit");
	else if (finish && strcmp(finish, "stop"))
		err_set(why, RC_FAILED, "finish", "%s", finish);
	else if (says_nothing(json_string_value(json_object_get(answer, "text"))))
		err_set(why, RC_FAILED, "empty", "the answer is empty");
	else
		return true;
	return false;
}

static void move(json_t *object, const char *from, const char *to)
{
	json_object_set(object, to, json_object_get(object, from));
}

static void take_answer(json_t *record, const json_t *answer)
{
	json_t *result = json_object_get(record, "result");

	move(result, "text", "source_text");
	move(result, "format", "source_format");
	json_object_set(result, "text", json_object_get(answer, "text"));
	json_object_set(result, "format", json_object_get(answer, "format"));
}

/* The page keeps its text. What was wrong with the page before goes before. */
static void refuse(struct document *d, json_t *record, json_t *then, const struct err *why)
{
	bool was_ok = !strcmp(json_string_value(json_object_get(record, "status")), "ok");
	char reason[ERR_REASON_MAX];

	snprintf(reason, sizeof(reason), "then:%.*s", ERR_REASON_MAX - 6, why->reason);
	document_set_outcome(then, NULL, reason, why->text);
	if (was_ok)
		document_set_outcome(record, "flagged", reason, why->text);
	log_warn("page keeps the text that was read document=\"%s\" page=%u reason=%s: %s",
		 d->token.result, (unsigned)json_integer_value(json_object_get(record, "page")),
		 reason, why->text);
}

static void on_answer(void *arg, struct reading *reading, enum rc rc, json_t *answer,
		      double seconds, const struct err *why)
{
	struct document_slot *slot = arg;
	json_t *record = slot->record, *then;
	struct err err;

	(void)reading;
	if (rc == RC_RETRY) {
		document_page_unread(slot);
		return;
	}
	slot->record = NULL;
	then = measures_of(answer);
	if (!answer)
		refuse(slot->document, record, then, why);
	else if (!is_good(answer, &err))
		refuse(slot->document, record, then, &err);
	else
		take_answer(record, answer);
	json_object_set_new(json_object_get(record, "result"), "then", then);
	json_object_set_new(json_object_get(record, "seconds"), "then", json_real(seconds));
	json_decref(answer);
	document_page_final(slot, record);
}

bool text_step_begin(struct document_slot *slot, json_t *record)
{
	struct document *d = slot->document;
	const struct pipeline *next = d->pipeline.next;
	json_t *result = json_object_get(record, "result");
	const char *text = json_string_value(json_object_get(result, "text"));
	struct reading *r = &slot->reading;
	struct err err;

	if (!next || says_nothing(text) ||
	    !strcmp(json_string_value(json_object_get(record, "status")), "failed"))
		return false;
	if (strlen(text) > REQUEST_TEXT_MAX) {
		json_t *then = json_object();

		err_set(&err, RC_FAILED, "limit:request",
			"the text has %zu bytes, a request holds %u", strlen(text),
			REQUEST_TEXT_MAX);
		refuse(d, record, then, &err);
		json_object_set_new(result, "then", then);
		return false;
	}
	scratch_free(&d->run->scratch, &slot->slot);
	slot->use = SLOT_READING;
	slot->record = record;
	json_decref(r->params);
	*r = (struct reading){
		.text = text,
		.format = json_string_value(json_object_get(result, "format")),
		.width = (uint32_t)json_integer_value(json_object_get(record, "width")),
		.height = (uint32_t)json_integer_value(json_object_get(record, "height")),
		.prompt = next->prompt,
		.params = pipeline_params(next),
		.seconds = (unsigned)next->limits.read_seconds,
		.max_line = next->limits.result_kibibytes << 10,
		.done = on_answer,
		.arg = slot,
	};
	scratch_slot_name(d->folder, (size_t)(slot - d->slots), r->page);
	engine_read(d->readers.text, r);
	return true;
}
