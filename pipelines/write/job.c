/* SPDX-License-Identifier: MIT
 *
 * job: the line that tells what to write.
 *
 *   {"key":KEY,"name":DISPLAY_NAME,"path":ENCODED_PATH,"input":{"sha256":..,"bytes":N},
 *    "archive":{..}?,"duplicate_of":..?,"pipeline":{"name":..,"hash":..,"settings":{..}},
 *    "recogniser":{"name":..,"version":..,"model":{"name":..,"sha256":..}},"cloister":"0.1.0",
 *    "kind":"pdf","pages":N,"outputs":["text.md",..],"started":ISO,"finished":ISO,"attempt":N,
 *    "seconds":S}
 *
 * It comes from the supervisor, so a line that does not fit is our own fault.
 */
#include "write.h"

#include <string.h>

#define PAGES_MAX 10000000

enum rc job_parse(struct job *job, const char *line, size_t len, struct err *err)
{
	json_error_t why;
	int pages = 0;

	*job = (struct job){ .json = json_loadb(line, len, JSON_REJECT_DUPLICATES, &why) };
	if (!job->json)
		return err_set(err, RC_FATAL, "protocol", "job: %s", why.text);
	if (json_unpack_ex(job->json, &why, 0,
			   "{s:s, s:s, s:s, s:i, s:o, s:o, s:o, s:o}", "key", &job->key,
			   "name", &job->name, "kind", &job->kind, "pages", &pages, "input",
			   &job->input, "pipeline", &job->pipeline, "recogniser", &job->recogniser,
			   "outputs", &job->outputs)) {
		err_set(err, RC_FATAL, "protocol", "job: %s", why.text);
	} else if (!json_is_string(json_object_get(job->input, "sha256"))) {
		err_set(err, RC_FATAL, "protocol", "job: the input has no SHA-256");
	} else if (pages < 0 || pages > PAGES_MAX) {
		err_set(err, RC_FATAL, "protocol", "job: %d pages", pages);
	} else if (!json_is_array(job->outputs) || !json_array_size(job->outputs)) {
		err_set(err, RC_FATAL, "protocol", "job: outputs is not a list of files");
	} else {
		job->pages = (uint32_t)pages;
		return RC_OK;
	}
	job_release(job);
	return RC_FATAL;
}

void job_release(struct job *job)
{
	json_decref(job->json);
	*job = (struct job){ 0 };
}
