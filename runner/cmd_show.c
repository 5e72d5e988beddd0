/* SPDX-License-Identifier: MIT
 *
 * cloister show: all that is known of a document, from its token and what was written about it; of
 * an archive, also what became of its members.
 */
#include "base/name.h"
#include "base/num.h"
#include "commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct show {
	const struct options *o;
	const struct spool *spool;
	const struct survey *survey;
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

/* The bytes of a name that stands in JSON encoded; freed by the caller. */
static char *decoded(json_t *encoded)
{
	const char *text = json_string_value(encoded);
	struct buf b;

	buf_init(&b, 1 << 16);
	if (!text || !name_decode(&b, text, strlen(text))) {
		buf_clear(&b);
		buf_adds(&b, "?");
	}
	return buf_detach(&b);
}

static void print_decoded(const char *label, json_t *encoded)
{
	char *raw = decoded(encoded);
	char *text = display(raw);

	printf("  %-10s  %s\n", label, text);
	free(text);
	free(raw);
}

/* Which archive it came out of, and what it is called in there. */
static void print_origin(json_t *archive)
{
	if (!json_is_object(archive))
		return;
	print_decoded("archive", json_object_get(archive, "path"));
	print_decoded("member", json_object_get(archive, "member"));
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
		{ "bytes", "input", "bytes" },	{ "repeats", "input", "duplicate_of" },
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
	print_origin(json_object_get(json_object_get(result, "input"), "archive"));
	print_pages(json_object_get(result, "pages"));
}

/* The members of an archive and what became of them:
 * [{"ordinal","member","state","path","reason"}]; state "gone" for one that lies nowhere any more. */
static json_t *members_json(const struct show *show, json_t *archive)
{
	json_t *members = json_array(), *file;
	const char *ordinal;

	json_object_foreach(json_object_get(archive, "files"), ordinal, file) {
		const char *sha256 = json_string_value(json_object_get(file, "sha256"));
		char *path = decoded(json_object_get(file, "result"));
		char *member = decoded(json_object_get(file, "member"));
		const struct listed *d =
			survey_member(show->survey, show->spool, path, sha256 ? sha256 : "");
		json_t *why = d && d->state == DOCUMENT_FAILED ? survey_result(show->spool, d) : NULL;

		json_array_append_new(
			members, json_pack("{s:i, s:o, s:s, s:o, s:O*}", "ordinal",
					   (int)strtol(ordinal, NULL, 10), "member",
					   json_display(member), "state",
					   d ? document_state_name(d->state) : "gone", "path",
					   json_display(d ? d->path : path), "reason",
					   json_object_get(why, "reason")));
		json_decref(why);
		free(member);
		free(path);
	}
	return members;
}

static void print_archive(json_t *archive, json_t *members)
{
	json_t *skipped = json_object_get(archive, "skipped"), *entry;
	size_t i;

	print_member("key", json_object_get(archive, "key"));
	print_member("sha256", json_object_get(archive, "sha256"));
	print_member("bytes", json_object_get(archive, "bytes"));
	printf("  %-10s  %zu\n  %-10s  %zu\n", "members", json_array_size(members), "skipped",
	       json_array_size(skipped));
	json_array_foreach(members, i, entry) {
		const char *reason = json_string_value(json_object_get(entry, "reason"));

		printf("  member %04lld  %s%s%s  %s -> %s\n",
		       (long long)json_integer_value(json_object_get(entry, "ordinal")),
		       json_string_value(json_object_get(entry, "state")), reason ? " " : "",
		       reason ? reason : "", json_string_value(json_object_get(entry, "member")),
		       json_string_value(json_object_get(entry, "path")));
	}
	json_array_foreach(skipped, i, entry) {
		const char *reason = json_string_value(json_object_get(entry, "reason"));
		char *raw = decoded(json_object_get(entry, "path"));
		char *path = display(raw);

		printf("  member %04lld  skipped %s  %s\n",
		       (long long)json_integer_value(json_object_get(entry, "ordinal")),
		       reason ? reason : "?", path);
		free(path);
		free(raw);
	}
}

static void print_text(const struct listed *d, json_t *token, json_t *result, json_t *members)
{
	static const char *const of_token[] = { "key",	  "attempts", "priority",
						"sha256", "bytes",    "ticket" };
	static const char *const of_failure[] = { "reason", "text", "time", "key", "attempts" };
	json_t *original = json_object_get(result, "original");
	char *path = display(d->path);
	char *pipeline = display(d->pipeline);

	printf("%s\n  %-10s  %s\n  %-10s  %s\n", path, "state", document_state_name(d->state),
	       "pipeline", pipeline);
	if (d->state == DOCUMENT_ACTIVE && d->pages >= 0)
		printf("  %-10s  %lld of %lld\n", "pages", (long long)d->finished,
		       (long long)d->pages);
	for (size_t i = 0; i < ARRAY_SIZE(of_token); i++)
		print_member(of_token[i], json_object_get(token, of_token[i]));
	print_origin(json_object_get(token, "archive"));
	print_failures(json_object_get(token, "failures"));
	if (d->state == DOCUMENT_FAILED) {
		for (size_t i = 0; i < ARRAY_SIZE(of_failure); i++)
			print_member(of_failure[i], json_object_get(result, of_failure[i]));
		print_origin(json_object_get(result, "archive"));
		if (original) {
			print_decoded("stays in", json_object_get(original, "in"));
			print_member("because", json_object_get(original, "stays"));
		}
		print_failures(json_object_get(result, "failures"));
		if (!result)
			printf("  there is no %s%s\n", path, WHY_SUFFIX);
	} else if (result) {
		printf("  %-10s  out/%s\n", "result", path);
		if (members)
			print_archive(result, members);
		else
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
	json_t *members = d->state == DOCUMENT_UNPACKED ? members_json(show, result) : NULL;

	if (show->o->json)
		print_json(json_pack("{s:s, s:o, s:o, s:O*, s:O*, s:O*}", "state",
				     document_state_name(d->state), "path", json_display(d->path),
				     "pipeline", json_display(d->pipeline), "token", token,
				     d->state == DOCUMENT_FAILED ? "why" : "result", result, "members",
				     members));
	else
		print_text(d, token, result, members);
	json_decref(members);
	json_decref(token);
	json_decref(result);
}

int cmd_show(const struct options *o)
{
	struct survey survey;
	struct config config;
	struct spool spool;
	struct show show = { .o = o, .spool = &spool, .survey = &survey };
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
