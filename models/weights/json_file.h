/* SPDX-License-Identifier: MIT
 *
 * json_file: the JSON files of a model folder, and their fields, with errors that name both.
 *
 * The folder is somebody else's data: every getter checks type and range. Getters take the first of
 * `objects` (NULL-terminated, NULL entries skipped by count) that has the key, because the same
 * field lies at the top level in some folders and in text_config in others.
 */
#ifndef MODELS_WEIGHTS_JSON_FILE_H
#define MODELS_WEIGHTS_JSON_FILE_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

enum json_file_need {
	JSON_FILE_REQUIRED,
	JSON_FILE_OPTIONAL, /* *out is NULL when there is no such file */
};

/* An object, at most 256 MiB of text. The caller gives it back with json_decref(). */
enum rc json_file_load(const char *folder, const char *name, enum json_file_need, json_t **out,
		       struct err *);

/* Where a field is looked for, and what to call the place in errors. */
struct json_place {
	const char *file;
	const json_t *objects[3]; /* in this order; NULL: none */
};

/* The value, or NULL: absent or null. */
const json_t *json_place_get(const struct json_place *, const char *key);

/*
 * Getters: an absent field leaves *out as it is when `required` is false, and is an error
 * otherwise. A value out of [min, max] or of another type is an error.
 */
enum rc json_place_size(const struct json_place *, const char *key, bool required, unsigned min,
			unsigned max, unsigned *out, struct err *);
enum rc json_place_number(const struct json_place *, const char *key, bool required, double min,
			  double max, double *out, struct err *);
enum rc json_place_bool(const struct json_place *, const char *key, bool *out, struct err *);

/* *out stays owned by the object. */
enum rc json_place_string(const struct json_place *, const char *key, bool required,
			  const char **out, struct err *);

/* A list of at most `most` sizes, or one alone. */
enum rc json_place_sizes(const struct json_place *, const char *key, bool required, unsigned max,
			 unsigned most, unsigned *out, unsigned *count, struct err *);

#endif
