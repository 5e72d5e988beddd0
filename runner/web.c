/* SPDX-License-Identifier: MIT
 *
 * What document.html says of a page: Markdown and HTML that a recogniser wrote go through
 * `cloister-decode --html`, which reads both and writes HTML that is safe for a browser.  Plain
 * text needs no reader: the writer escapes it.
 *
 * Whoever writes results only stores what comes back.  Where nothing does, the page's text stands
 * in document.html as the text that it is, and the page is flagged.
 */
#include "aside.h"

#include <string.h>

static uint64_t answer_max(const struct limits *limits)
{
	return limits->result_kibibytes << 10;
}

static json_t *request(const struct aside *a)
{
	json_t *result = json_object_get(a->record, "result");
	json_t *blocks = json_array(), *figure;
	size_t i;

	json_array_foreach(json_object_get(a->record, "figures"), i, figure)
		json_array_append(blocks, json_object_get(figure, "block"));
	return json_pack("{s:{s:O, s:O, s:o, s:I}}", "html", "format",
			 json_object_get(result, "format"), "text", json_object_get(result, "text"),
			 "figures", blocks, "bytes",
			 (json_int_t)answer_max(&a->slot->document->pipeline.limits));
}

static bool take(struct aside *a, const json_t *answer, struct err *missing)
{
	json_t *html = json_object_get(answer, "html");

	(void)missing;
	if (!json_is_string(html))
		return false;
	json_object_set(a->record, "html", html);
	return true;
}

static const struct aside_kind kind = {
	.name = "html",
	.doing = "turning its text into HTML",
	.answer_max = answer_max,
	.request = request,
	.take = take,
	.next = document_page_keep,
};

bool web_wanted(const struct document *d, const json_t *record)
{
	const json_t *result = json_object_get(record, "result");
	const char *format = json_string_value(json_object_get(result, "format"));
	const char *text = json_string_value(json_object_get(result, "text"));

	return d->pipeline.outputs & OUTPUT_DOCUMENT_HTML && text && *text && format &&
	       strcmp(format, "text") && !json_object_get(record, "html");
}

bool web_begin(struct document_slot *slot, json_t *record)
{
	struct document *d = slot->document;

	if (!web_wanted(d, record))
		return false;
	scratch_free(&d->run->scratch, &slot->slot);
	json_object_set_new(record, "html", json_null());
	aside_begin(slot, &kind, record, NULL);
	return true;
}
