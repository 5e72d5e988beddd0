/* SPDX-License-Identifier: MIT
 *
 * Reads the JSON files of a model folder. jansson bounds the depth of nesting; the size is bounded
 * here.
 */
#include "weights/json_file.h"

#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (256u << 20)

static enum rc read_all(int fd, const char *path, char **out, size_t *size, struct err *err)
{
	struct stat st;
	char *text;
	size_t have = 0;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(err, RC_FATAL, "model-damaged", "%.400s is not a file", path);
	if (st.st_size > (off_t)FILE_MAX)
		return err_set(err, RC_FATAL, "model-damaged", "%.400s is larger than 256 MiB",
			       path);
	text = xmalloc((size_t)st.st_size + 1);
	while (have < (size_t)st.st_size) {
		ssize_t n = read(fd, text + have, (size_t)st.st_size - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			free(text);
			return err_errno(err, RC_FATAL, "model", "cannot read %.400s", path);
		}
		if (n == 0)
			break;
		have += (size_t)n;
	}
	*out = text;
	*size = have;
	return RC_OK;
}

enum rc json_file_load(const char *folder, const char *name, enum json_file_need need, json_t **out,
		       struct err *err)
{
	char *path = xasprintf("%s/%s", folder, name), *text = NULL;
	enum rc rc = RC_FATAL;
	json_error_t why;
	size_t size = 0;
	int fd;

	*out = NULL;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT && need == JSON_FILE_OPTIONAL) {
		rc = RC_OK;
		goto out;
	}
	if (fd < 0) {
		err_errno(err, RC_FATAL, "model-incomplete", "cannot open %.400s", path);
		goto out;
	}
	if (read_all(fd, path, &text, &size, err) != RC_OK)
		goto out;
	*out = json_loadb(text, size, JSON_REJECT_DUPLICATES, &why);
	if (!*out)
		err_set(err, RC_FATAL, "model-damaged", "%.300s:%d: %.150s", path, why.line,
			why.text);
	else if (!json_is_object(*out))
		err_set(err, RC_FATAL, "model-damaged", "%.400s is not a JSON object", path);
	else
		rc = RC_OK;
	if (rc != RC_OK) {
		json_decref(*out);
		*out = NULL;
	}
out:
	if (fd >= 0)
		close(fd);
	free(text);
	free(path);
	return rc;
}

const json_t *json_place_get(const struct json_place *place, const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(place->objects); i++) {
		const json_t *value = json_object_get(place->objects[i], key);

		if (value && !json_is_null(value))
			return value;
	}
	return NULL;
}

static enum rc wrong(const struct json_place *place, const char *key, const char *what,
		     struct err *err)
{
	return err_set(err, RC_FATAL, "model-config", "%.200s: %.100s %s", place->file, key, what);
}

enum rc json_place_number(const struct json_place *place, const char *key, bool required,
			  double min, double max, double *out, struct err *err)
{
	const json_t *value = json_place_get(place, key);
	double n;

	if (!value)
		return required ? wrong(place, key, "is missing", err) : RC_OK;
	if (!json_is_number(value))
		return wrong(place, key, "is not a number", err);
	n = json_number_value(value);
	if (!(n >= min && n <= max))
		return err_set(err, RC_FATAL, "model-config",
			       "%.200s: %.100s is %g, not from %g to %g", place->file, key, n, min,
			       max);
	*out = n;
	return RC_OK;
}

enum rc json_place_size(const struct json_place *place, const char *key, bool required,
			unsigned min, unsigned max, unsigned *out, struct err *err)
{
	const json_t *value = json_place_get(place, key);
	double n = *out;

	if (value && !json_is_integer(value))
		return wrong(place, key, "is not a whole number", err);
	if (json_place_number(place, key, required, min, max, &n, err) != RC_OK)
		return RC_FATAL;
	*out = (unsigned)n;
	return RC_OK;
}

enum rc json_place_bool(const struct json_place *place, const char *key, bool *out, struct err *err)
{
	const json_t *value = json_place_get(place, key);

	if (value && !json_is_boolean(value))
		return wrong(place, key, "is neither true nor false", err);
	if (value)
		*out = json_is_true(value);
	return RC_OK;
}

enum rc json_place_string(const struct json_place *place, const char *key, bool required,
			  const char **out, struct err *err)
{
	const json_t *value = json_place_get(place, key);

	if (!value)
		return required ? wrong(place, key, "is missing", err) : RC_OK;
	if (!json_is_string(value))
		return wrong(place, key, "is not a string", err);
	*out = json_string_value(value);
	return RC_OK;
}

enum rc json_place_sizes(const struct json_place *place, const char *key, bool required,
			 unsigned max, unsigned most, unsigned *out, unsigned *count,
			 struct err *err)
{
	const json_t *value = json_place_get(place, key);
	bool list = json_is_array(value);
	size_t n = list ? json_array_size(value) : 1;

	if (!value)
		return required ? wrong(place, key, "is missing", err) : RC_OK;
	if (n > most)
		return err_set(err, RC_FATAL, "model-config",
			       "%.200s: %.100s has more than %u entries", place->file, key, most);
	for (size_t i = 0; i < n; i++) {
		const json_t *item = list ? json_array_get(value, i) : value;
		json_int_t v = json_is_integer(item) ? json_integer_value(item) : -1;

		if (v < 0 || v > (json_int_t)max)
			return err_set(err, RC_FATAL, "model-config",
				       "%.200s: %.100s has an entry that is not a whole number "
				       "from 0 to %u",
				       place->file, key, max);
		out[i] = (unsigned)v;
	}
	*count = (unsigned)n;
	return RC_OK;
}
