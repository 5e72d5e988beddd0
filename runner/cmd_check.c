/* SPDX-License-Identifier: MIT
 *
 * cloister check: is this file right? What it is, is told by its name. With --recogniser: conform.h.
 */
#include "commands.h"
#include "copy.h"
#include "pipeline.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TICKET_BYTES  (1u << 20)
#define SETTINGS_NAME "cloister.yaml"

static bool ends_with(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n > m && !strcmp(s + n - m, suffix);
}

static enum rc check_ticket(const char *file, struct err *err)
{
	int fd = copy_open(AT_FDCWD, file, true, err);
	char *bytes;
	json_t *ticket = NULL;
	ssize_t n;
	enum rc rc;

	if (fd < 0)
		return RC_FAILED;
	bytes = xmalloc(TICKET_BYTES);
	n = read(fd, bytes, TICKET_BYTES);
	if (n < 0)
		rc = err_errno(err, RC_FAILED, "read-error", "read");
	else if (n == TICKET_BYTES)
		rc = err_set(err, RC_FAILED, "ticket", "longer than a ticket may be");
	else
		rc = ticket_parse(file, bytes, (size_t)n, &ticket, err);
	json_decref(ticket);
	free(bytes);
	close(fd);
	return rc;
}

static enum rc check_settings(const char *file, struct err *err)
{
	const char *slash = strrchr(file, '/');
	char *folder = slash ? xstrndup(file, (size_t)(slash - file + 1)) : xstrdup(".");
	struct config config;
	enum rc rc;

	if (access(file, R_OK))
		rc = err_errno(err, RC_FAILED, "unreadable", "open");
	else
		rc = config_load(&config, folder, err);
	if (rc == RC_OK)
		config_release(&config);
	free(folder);
	return rc;
}

static enum rc check_pipeline(const char *file, const char *base, struct err *err)
{
	size_t n = ends_with(base, ".yaml") ? strlen(base) - strlen(".yaml") : strlen(base);
	char *name = xstrndup(base, n);
	struct pipeline p = { 0 };
	char *folder = base > file ? xstrndup(file, (size_t)(base - file - 1)) : xstrdup(".");
	enum rc rc;

	if (!ends_with(base, ".yaml") || !spool_pipeline_name_valid(name))
		rc = err_set(err, RC_FAILED, "pipeline",
			     "a pipeline file is called NAME.yaml; NAME has letters, digits, '.', '_' "
			     "and '-', at most 64");
	else
		rc = pipeline_load(&p, name, file, err);
	if (rc == RC_OK)
		rc = spool_follow_pipeline(folder, &p, err);
	pipeline_release(&p);
	free(folder);
	free(name);
	return rc;
}

static enum rc check_file(const char *file, struct err *err)
{
	const char *slash = strrchr(file, '/');
	const char *base = slash ? slash + 1 : file;

	if (!strcmp(base, SETTINGS_NAME))
		return check_settings(file, err);
	if (ends_with(base, TICKET_SUFFIX))
		return check_ticket(file, err);
	return check_pipeline(file, base, err);
}

int cmd_check(const struct options *o)
{
	int code = EX_ALL_DONE;

	if (o->recogniser)
		return check_recogniser(o);
	if (!o->n_args || o->pipeline || o->seconds) {
		complain(o, o->n_args ? "--pipeline and --seconds are for --recogniser" : "needs FILE...");
		return EX_USAGE_ERROR;
	}
	for (int i = 0; i < o->n_args; i++) {
		const char *file = o->args[i];
		struct err err;
		enum rc rc = check_file(file, &err);
		/* Errors of a known line name the file themselves. */
		bool named = rc != RC_OK && !strncmp(err.text, file, strlen(file));
		char *name = display(file);
		char *text = rc != RC_OK ? display(err.text) : NULL;

		if (rc != RC_OK)
			code = EX_CONFIGURATION;
		if (o->json && rc == RC_OK)
			print_json(json_pack("{s:s, s:b}", "file", name, "ok", 1));
		else if (o->json)
			print_json(json_pack("{s:s, s:b, s:s, s:s}", "file", name, "ok", 0, "reason",
					     err.reason, "text", text));
		else if (rc != RC_OK && named)
			printf("%s\n", text);
		else if (rc != RC_OK)
			printf("%s: %s\n", name, text);
		else if (!o->quiet)
			printf("%s: ok\n", name);
		free(name);
		free(text);
	}
	return code;
}
