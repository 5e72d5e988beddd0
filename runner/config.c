/* SPDX-License-Identifier: MIT
 *
 * config: one table gives the keys of cloister.yaml, their ranges and where they lie in struct
 * config; base/yaml.h reads the text by libcyaml's schema made from it.
 */
#include "config.h"
#include "base/buf.h"
#include "base/num.h"
#include "base/suggest.h"
#include "base/trusted.h"
#include "base/yaml.h"
#include "spool.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SETTINGS_NAME "cloister.yaml"
#define FILE_BYTES    65536
#define DAY	      86400

enum kind { NUMBER, YES_OR_NO, PIPELINE, FOLDER };

static const struct setting {
	const char *key;
	enum kind kind;
	size_t offset;
	uint64_t min, max;
} settings[] = {
	{ "default_pipeline", PIPELINE, offsetof(struct config, default_pipeline), 0, 0 },
	{ "require_sandbox", YES_OR_NO, offsetof(struct config, require_sandbox), 0, 0 },
	{ "require_lock", YES_OR_NO, offsetof(struct config, require_lock), 0, 0 },
	{ "allow_containers", YES_OR_NO, offsetof(struct config, allow_containers), 0, 0 },
	{ "allow_unwrapped", YES_OR_NO, offsetof(struct config, allow_unwrapped), 0, 0 },
	{ "scratch", FOLDER, offsetof(struct config, scratch), 0, 0 },
	{ "settle_seconds", NUMBER, offsetof(struct config, settle_seconds), 0, DAY },
	{ "lease_seconds", NUMBER, offsetof(struct config, lease_seconds), 3, DAY },
	{ "rescan_seconds", NUMBER, offsetof(struct config, rescan_seconds), 1, DAY },
	{ "free_mebibytes", NUMBER, offsetof(struct config, free_mebibytes), 0, 1ull << 40 },
	{ "scratch_mebibytes", NUMBER, offsetof(struct config, scratch_mebibytes), 0, 1ull << 40 },
	{ "jobs", NUMBER, offsetof(struct config, jobs), 0, 512 },
};

/* A complaint about one value, before it is known where it stands. */
struct fault {
	char text[256];
};

static bool blame(struct fault *f, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool blame(struct fault *f, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(f->text, sizeof(f->text), format, ap);
	va_end(ap);
	return false;
}

static bool set_text(char **to, const char *value)
{
	free(*to);
	*to = xstrdup(value);
	return true;
}

static bool set_bool(bool *to, const char *value, struct fault *f)
{
	if (strcmp(value, "true") && strcmp(value, "false"))
		return blame(f, "'%s' is neither true nor false", shown(value).s);
	*to = !strcmp(value, "true");
	return true;
}

static bool set(struct config *c, const struct setting *s, const char *value, struct fault *f)
{
	void *to = (char *)c + s->offset;

	switch (s->kind) {
	case NUMBER:
		if (!parse_u64(value, s->max, to) || *(uint64_t *)to < s->min)
			return blame(f, "'%s' is not a whole number from %llu to %llu",
				     shown(value).s, (unsigned long long)s->min,
				     (unsigned long long)s->max);
		return true;
	case YES_OR_NO:
		return set_bool(to, value, f);
	case PIPELINE:
		if (!spool_pipeline_name_valid(value))
			return blame(f, "'%s' cannot be the name of a pipeline", shown(value).s);
		return set_text(to, value);
	case FOLDER:
		if (value[0] != '/')
			return blame(f, "'%s' is not an absolute path", shown(value).s);
		return set_text(to, value);
	}
	return false;
}

static enum rc parse(struct config *c, const char *file, const struct buf *text, struct err *err)
{
	struct yaml_key keys[ARRAY_SIZE(settings)];
	struct yaml_marks marks;
	struct yaml_problem problem;
	struct fault f;
	enum rc rc = RC_OK;
	json_t *given;

	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		keys[i] = (struct yaml_key){ "", settings[i].key, YAML_SCALAR, NULL, NULL };
	given = yaml_load(text->data ? text->data : "", text->len, keys, ARRAY_SIZE(keys), &marks,
			  &problem);
	if (!given && problem.line)
		rc = err_set(err, RC_FATAL, "configuration", "%s:%zu: %s", file, problem.line,
			     problem.text);
	else if (!given)
		rc = err_set(err, RC_FATAL, "configuration", "%s: %s", file, problem.text);
	for (size_t i = 0; rc == RC_OK && i < ARRAY_SIZE(settings); i++) {
		const char *value = json_string_value(json_object_get(given, settings[i].key));

		if (value && !set(c, &settings[i], value, &f))
			rc = err_set(err, RC_FATAL, "configuration", "%s:%zu: %s: %s", file,
				     yaml_find(&marks, "", settings[i].key)->line,
				     settings[i].key, f.text);
	}
	json_decref(given);
	yaml_marks_release(&marks);
	return rc;
}

enum rc config_load(struct config *c, const char *spool_path, struct err *err)
{
	size_t n = strlen(spool_path);
	const char *slash = n && spool_path[n - 1] == '/' ? "" : "/";
	char *file = !strcmp(spool_path, ".") ? xstrdup(SETTINGS_NAME)
					      : xasprintf("%s%s%s", spool_path, slash, SETTINGS_NAME);
	struct stat spool;
	struct buf text;
	enum rc rc;

	*c = (struct config){ .default_pipeline = xstrdup("tesseract"),
			      .require_sandbox = true,
			      .require_lock = true,
			      .settle_seconds = 5,
			      .lease_seconds = 60,
			      .rescan_seconds = 30,
			      .free_mebibytes = 256 };
	buf_init(&text, FILE_BYTES);
	rc = trusted_read(file, stat(spool_path, &spool) ? geteuid() : spool.st_uid, &text,
			  "configuration", err);
	if (rc == RC_OK)
		rc = parse(c, file, &text, err);
	else
		rc = strcmp(err->reason, "absent") ? RC_FATAL : RC_OK;
	if (rc != RC_OK)
		config_release(c);
	buf_release(&text);
	free(file);
	return rc;
}

void config_release(struct config *c)
{
	free(c->default_pipeline);
	free(c->scratch);
	*c = (struct config){ 0 };
}
