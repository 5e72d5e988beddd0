/* SPDX-License-Identifier: MIT
 *
 * cloister ls: a line a document.
 */
#include "commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Which folders have to be looked at for documents in this state. */
static unsigned folders_of(const char *state)
{
	if (!state)
		return SURVEY_ALL;
	if (!strcmp(state, "failed"))
		return SURVEY_FAILED;
	if (!strcmp(state, "done") || !strcmp(state, "flagged") || !strcmp(state, "unpacked"))
		return SURVEY_FINISHED;
	return SURVEY_IN;
}

static void print_document(const struct listed *d, bool json)
{
	const char *state = document_state_name(d->state);
	char pages[48] = "-";
	char *path, *pipeline;

	if (json) {
		print_json(json_pack("{s:s, s:o, s:o, s:o, s:o, s:o*}", "state", state, "path",
				     json_display(d->path), "pipeline", json_display(d->pipeline), "pages",
				     d->pages < 0 ? json_null() : json_integer(d->pages), "finished",
				     json_integer(d->finished), "members",
				     d->members < 0 ? NULL : json_integer(d->members)));
		return;
	}
	path = display(d->path);
	pipeline = display(d->pipeline);
	if (d->pages >= 0 && d->state == DOCUMENT_ACTIVE)
		snprintf(pages, sizeof(pages), "%lld/%lld", (long long)d->finished,
			 (long long)d->pages);
	else if (d->pages >= 0)
		snprintf(pages, sizeof(pages), "%lld", (long long)d->pages);
	else if (d->members >= 0)
		snprintf(pages, sizeof(pages), "%lld", (long long)d->members);
	printf("%-8s  %-12s  %7s  %s\n", state, pipeline, pages, path);
	free(path);
	free(pipeline);
}

int cmd_ls(const struct options *o)
{
	struct survey survey;
	struct config config;
	struct spool spool;
	struct err err;
	int code = open_spool(o, &spool, &config);

	if (code)
		return code;
	if (survey_take(&survey, &spool, config.default_pipeline, folders_of(o->state), &err) !=
	    RC_OK) {
		complain(o, "%s", err.text);
		code = EX_SOME_FAILED;
	}
	for (size_t i = 0; i < survey.n; i++)
		if (!o->state ||
		    !strcmp(o->state, document_state_name(survey.documents[i].state)))
			print_document(&survey.documents[i], o->json);
	survey_release(&survey);
	spool_close(&spool);
	config_release(&config);
	return code;
}
