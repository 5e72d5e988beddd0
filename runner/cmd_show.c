/* SPDX-License-Identifier: MIT
 *
 * cloister show: all that is known of a document, from its token and what was written about it.
 */
#include "base/num.h"
#include "commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct show {
	const struct options *o;
	const struct spool *spool;
};

/* What the token says; passwords of its ticket are not shown. NULL when it has moved on. */
static json_t *token_json(const struct spool *spool, const struct listed *d)
{
	struct token t;
	struct err err;
	json_t *json = NULL;
	int dir = d->token ? survey_token_dir(spool, d, &err) : -1;

	if (dir < 0)
		return NULL;
	if (token_read(dir, d->token, &t, &err) == RC_OK) {
		if (t.ticket)
			json_object_del(t.ticket, "passwords");
		json = json_pack("{s:s, s:i, s:i, s:s, s:I, s:O*, s:O*, s:O*}", "key", t.key,
				 "attempts", (int)t.attempt, "priority", (int)t.priority, "sha256",
				 t.sha256, "bytes", (json_int_t)t.bytes, "ticket", t.ticket,
				 "archive", t.archive, "failures", t.failures);
		token_release(&t);
	}
	close(dir);
	return json;
}

/* "  LABEL  VALUE" for a string, number or object member that is there. */
static void print_member(const char *label, json_t *value)
{
	char *text;

	if (!value || json_is_null(value))
		return;
	if (json_is_string(value)) {
		text = display(json_string_value(value));
	} else {
		char *raw = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT |
						      JSON_REAL_PRECISION(4));
		text = display(raw ? raw : "?");
		free(raw);
	}
	printf("  %-10s  %s\n", label, text);
	free(text);
}

static void print_failures(json_t *failures)
{
	json_t *failure;
	size_t i;

	json_array_foreach(failures, i, failure) {
		const char *reason = json_string_value(json_object_get(failure, "reason"));
		const char *said = json_string_value(json_object_get(failure, "text"));
		char *text = display(said ? said : "");

		printf("  attempt %-3lld %s: %s\n",
		       (long long)json_integer_value(json_object_get(failure, "attempt")),
		       reason ? reason : "?", text);
		free(text);
	}
}

static void print_pages(json_t *pages)
{
	json_t *page;
	size_t i;

	json_array_foreach(pages, i, page) {
		const char *status = json_string_value(json_object_get(page, "status"));
		const char *reason = json_string_value(json_object_get(page, "reason"));
		const char *said = json_string_value(json_object_get(page, "detail"));
		json_t *confidence = json_object_get(json_object_get(page, "confidence"), "mean");
		char *detail = display(said ? said : "");

		printf("  page %-5lld  %s", (long long)json_integer_value(json_object_get(page, "page")),
		       status ? status : "?");
		if (reason && *reason)
			printf("  %s", reason);
		if (*detail)
			printf(": %s", detail);
		if (confidence)
			printf("  confidence %.2f", json_number_value(confidence));
		putchar('\n');
		free(detail);
	}
}

static void print_result(json_t *result)
{
	static const struct {
		const char *label, *object, *key;
	} members[] = {
		{ "key", NULL, "key" },		{ "sha256", "input", "sha256" },
		{ "bytes", "input", "bytes" },	{ "archive", "input", "archive" },
		{ "repeats", "input", "duplicate_of" },
		{ "counts", NULL, "counts" },	{ "confidence", NULL, "confidence" },
		{ "recogniser", "recogniser", "name" },
		{ "version", "recogniser", "version" },
		{ "attempt", NULL, "attempt" }, { "started", NULL, "started" },
		{ "finished", NULL, "finished" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(members); i++)
		print_member(members[i].label,
			     json_object_get(members[i].object
						     ? json_object_get(result, members[i].object)
						     : result,
					     members[i].key));
	print_pages(json_object_get(result, "pages"));
}

static void print_text(const struct listed *d, json_t *token, json_t *result)
{
	static const char *const of_token[] = { "key",	    "attempts", "priority", "sha256",
						"bytes",    "ticket",   "archive" };
	static const char *const of_failure[] = { "reason", "text", "time", "key", "attempts" };
	char *path = display(d->path);
	char *pipeline = display(d->pipeline);

	printf("%s\n  %-10s  %s\n  %-10s  %s\n", path, "state", document_state_name(d->state),
	       "pipeline", pipeline);
	if (d->state == DOCUMENT_ACTIVE && d->pages >= 0)
		printf("  %-10s  %lld of %lld\n", "pages", (long long)d->finished,
		       (long long)d->pages);
	for (size_t i = 0; i < ARRAY_SIZE(of_token); i++)
		print_member(of_token[i], json_object_get(token, of_token[i]));
	print_failures(json_object_get(token, "failures"));
	if (d->state == DOCUMENT_FAILED) {
		for (size_t i = 0; i < ARRAY_SIZE(of_failure); i++)
			print_member(of_failure[i], json_object_get(result, of_failure[i]));
		print_failures(json_object_get(result, "failures"));
		if (!result)
			printf("  there is no %s%s\n", path, WHY_SUFFIX);
	} else if (result) {
		printf("  %-10s  out/%s\n", "result", path);
		print_result(result);
	}
	free(path);
	free(pipeline);
}

static void show_document(const struct listed *d, void *arg)
{
	const struct show *show = arg;
	json_t *token = token_json(show->spool, d);
	json_t *result = survey_result(show->spool, d);

	if (show->o->json)
		print_json(json_pack("{s:s, s:o, s:o, s:O*, s:O*}", "state",
				     document_state_name(d->state), "path", json_display(d->path),
				     "pipeline", json_display(d->pipeline), "token", token,
				     d->state == DOCUMENT_FAILED ? "why" : "result", result));
	else
		print_text(d, token, result);
	json_decref(token);
	json_decref(result);
}

int cmd_show(const struct options *o)
{
	struct survey survey;
	struct config config;
	struct spool spool;
	struct show show = { .o = o, .spool = &spool };
	struct err err;
	int code = open_spool(o, &spool, &config);

	if (code)
		return code;
	if (survey_take(&survey, &spool, config.default_pipeline, SURVEY_ALL, &err) != RC_OK) {
		complain(o, "%s", err.text);
		code = EX_SOME_FAILED;
	}
	for (int i = 0; i < o->n_args; i++) {
		if (survey_find(&survey, o->args[i], show_document, &show))
			continue;
		complain(o, "%s: no such document; ls lists them", o->args[i]);
		code = EX_SOME_FAILED;
	}
	survey_release(&survey);
	spool_close(&spool);
	config_release(&config);
	return code;
}
