/* SPDX-License-Identifier: MIT
 *
 * manifest: document.json, the proof of what was done: which document, by which pipeline and model,
 * and what became of each page.
 *
 * What a person looks for stands first: the document, the counts, how it was made; then the pages,
 * one a line.  The counts are known only at the end, so the lines of the pages, some hundred bytes
 * each, wait in memory.
 */
#include "write.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define JSON_STYLE (JSON_COMPACT | JSON_REAL_PRECISION(6))

static void set_if(json_t *to, const char *key, json_t *value)
{
	bool empty_list = json_is_array(value) && !json_array_size(value);

	if (value && !json_is_null(value) && !empty_list)
		json_object_set(to, key, value);
}

static void set_confidence(json_t *to, double mean, double worst)
{
	json_t *both;

	if (mean < 0)
		return;
	both = json_pack("{s:f}", "mean", round(mean * 1e4) / 1e4);
	if (worst >= 0)
		json_object_set_new(both, "worst", json_real(round(worst * 1e4) / 1e4));
	json_object_set_new(to, "confidence", both);
}

static void page(struct sink *sink, const struct leaf *leaf, struct buf *kept)
{
	static const char *const copied[] = { "reason",	 "detail", "source",  "width", "height",
					      "dpi",	 "native", "ink",     "tries", "seconds",
					      "warnings", "figures" };
	static const char *const of_result[] = { "finish", "tokens", "readings", "temperature",
						 "prompt_sha256", "device", "adapters", "then" };
	json_t *out = json_pack("{s:i, s:s}", "page", (int)leaf->page, "status",
				leaf_status_names[leaf->status]);
	char *line;

	(void)sink;
	for (size_t i = 0; i < sizeof(copied) / sizeof(*copied); i++)
		set_if(out, copied[i], json_object_get(leaf->record, copied[i]));
	if (leaf->result) {
		json_object_set_new(out, "rotation", json_integer(leaf->rotation));
		json_object_set_new(out, "words", json_integer((json_int_t)leaf->words));
		for (size_t i = 0; i < sizeof(of_result) / sizeof(*of_result); i++)
			set_if(out, of_result[i], json_object_get(leaf->result, of_result[i]));
		set_confidence(out, leaf->confidence, leaf->worst);
	}
	line = json_dumps(out, JSON_STYLE);
	buf_adds(kept, kept->len ? ",\n    " : "\n    ");
	buf_adds(kept, line);
	free(line);
	json_decref(out);
}

static json_t *head(const struct job *job, const struct totals *t)
{
	static const char *const of_document[] = { "name", "path", "kind", "archive",
						   "duplicate_of" };
	static const char *const of_run[] = { "pipeline", "recogniser", "outputs",
					      "attempt",  "started",	"finished",
					      "seconds" };
	json_t *out = json_object(), *input = json_object(), *counts = totals_json(t);

	set_if(out, "cloister", json_object_get(job->json, "cloister"));
	set_if(out, "key", json_object_get(job->json, "key"));
	set_if(out, "identity", json_object_get(job->json, "identity"));
	for (size_t i = 0; i < sizeof(of_document) / sizeof(*of_document); i++)
		set_if(input, of_document[i], json_object_get(job->json, of_document[i]));
	json_object_update(input, job->input);
	json_object_set_new(out, "input", input);
	json_object_set_new(counts, "pages", json_integer(t->pages));
	json_object_set_new(out, "counts", counts);
	set_confidence(out, totals_confidence(t), t->worst);
	for (size_t i = 0; i < sizeof(of_run) / sizeof(*of_run); i++)
		set_if(out, of_run[i], json_object_get(job->json, of_run[i]));
	return out;
}

static void end(struct sink *sink, const struct job *job, const struct totals *totals,
		const struct buf *kept)
{
	json_t *top = head(job, totals);
	char *text = json_dumps(top, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
	size_t len = text ? strlen(text) : 0;

	if (len < 4 || kept->overflow)
		BUG("document.json cannot be made");
	sink_add(sink, text, len - strlen("\n}"));
	sink_adds(sink, ",\n  \"pages\": [");
	sink_add(sink, kept->data ? kept->data : "", kept->len);
	sink_adds(sink, kept->len ? "\n  ]\n}\n" : "]\n}\n");
	free(text);
	json_decref(top);
}

const struct output output_document_json = { .name = "document.json", .page = page, .end = end };
