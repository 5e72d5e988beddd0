/* SPDX-License-Identifier: MIT
 *
 * leaf: one page's record from the journal, as the formats see it, and the sums over all of them.
 */
#include "write.h"
#include "base/name.h"
#include "base/num.h"

#include <string.h>

const char *const leaf_status_names[LEAF_STATUSES] = { "ok", "flagged", "failed" };

static const char *text_of(const json_t *obj, const char *key, const char *otherwise)
{
	const char *s = json_string_value(json_object_get(obj, key));

	return s ? s : otherwise;
}

static double number_of(const json_t *obj, const char *key, double otherwise)
{
	const json_t *n = json_object_get(obj, key);

	return json_is_number(n) ? json_number_value(n) : otherwise;
}

static uint32_t size_of(const json_t *obj, const char *key)
{
	double n = number_of(obj, key, 0);

	return n > 0 && n <= INT32_MAX ? (uint32_t)n : 0;
}

/* Words with boxes; of a result without them, pieces between white space. */
static uint64_t count_words(const json_t *result, const char *text)
{
	const json_t *lines = json_object_get(result, "lines");
	uint64_t words = 0;
	json_t *line;
	size_t i;

	json_array_foreach(lines, i, line)
		words += json_array_size(json_object_get(line, "words"));
	for (const char *p = text; !json_array_size(lines) && *(p += strspn(p, " \t\n")); words++)
		p += strcspn(p, " \t\n");
	return words;
}

enum rc leaf_read(struct leaf *leaf, json_t *record, uint32_t page, struct err *err)
{
	const char *status = text_of(record, "status", "");

	*leaf = (struct leaf){ .record = record, .status = LEAF_STATUSES };
	leaf->page = size_of(record, "page");
	for (int i = 0; i < LEAF_STATUSES; i++)
		if (!strcmp(status, leaf_status_names[i]))
			leaf->status = (enum leaf_status)i;
	if (leaf->page != page || leaf->status == LEAF_STATUSES)
		return err_set(err, RC_FAILED, "journal", "the record of page %u is not one of a page",
			       page);
	leaf->result = json_object_get(record, "result");
	if (!json_is_object(leaf->result))
		leaf->result = NULL;
	leaf->reason = text_of(record, "reason", "");
	leaf->detail = text_of(record, "detail", "");
	leaf->source = text_of(record, "source", "");
	leaf->format = text_of(leaf->result, "format", "text");
	leaf->text = text_of(leaf->result, "text", "");
	leaf->read = text_of(leaf->result, "source_text", leaf->text);
	leaf->blank = !strcmp(leaf->source, "blank");
	leaf->width = size_of(record, "width");
	leaf->height = size_of(record, "height");
	leaf->dpi = number_of(record, "dpi", 0);
	leaf->rotation = (unsigned)number_of(leaf->result, "rotation",
					     number_of(record, "rotation", 0));
	leaf->confidence = number_of(leaf->result, "confidence", -1);
	leaf->worst = number_of(leaf->result, "confidence_worst", -1);
	leaf->figures = json_object_get(record, "figures");
	leaf->html = text_of(record, "html", NULL);
	leaf->words = count_words(leaf->result, leaf->text);
	return RC_OK;
}

void leaf_describe(struct buf *out, const struct leaf *leaf)
{
	if (leaf->status != LEAF_OK)
		buf_adds(out, leaf_status_names[leaf->status]);
	else if (leaf->blank)
		buf_adds(out, "blank");
	else if (!*leaf->text)
		buf_adds(out, "no text found");
	if (leaf->status == LEAF_OK)
		return;
	if (*leaf->reason)
		buf_addf(out, ", %s", leaf->reason);
	if (*leaf->detail) {
		buf_adds(out, ": ");
		name_escape(out, leaf->detail, strlen(leaf->detail));
	}
}

void totals_add(struct totals *t, const struct leaf *leaf)
{
	t->pages++;
	t->by_status[leaf->status]++;
	t->blank += leaf->blank;
	t->words += leaf->words;
	if (leaf->confidence < 0 || !leaf->words)
		return;
	if (leaf->worst >= 0 && (!t->confidence_words || leaf->worst < t->worst))
		t->worst = leaf->worst;
	t->confidence_sum += leaf->confidence * (double)leaf->words;
	t->confidence_words += leaf->words;
}

double totals_confidence(const struct totals *t)
{
	return t->confidence_words ? t->confidence_sum / (double)t->confidence_words : -1;
}

json_t *totals_json(const struct totals *t)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I}", "ok", (json_int_t)t->by_status[LEAF_OK],
			 "flagged", (json_int_t)t->by_status[LEAF_FLAGGED], "failed",
			 (json_int_t)t->by_status[LEAF_FAILED], "blank", (json_int_t)t->blank,
			 "words", (json_int_t)t->words);
}
