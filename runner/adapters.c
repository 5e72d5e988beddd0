/* SPDX-License-Identifier: MIT
 *
 * A sorted list of adapters, and what hello said of each (adapters.h).
 */
#include "adapters.h"

#include "base/buf.h"
#include "base/name.h"

#include <stdlib.h>
#include <string.h>

void adapters_release(struct adapters *a)
{
	for (size_t i = 0; i < a->n; i++)
		free(a->v[i].name);
	free(a->v);
	*a = (struct adapters){NULL};
}

static struct engine_adapter *find(const struct adapters *a, const char *name)
{
	for (size_t i = 0; i < a->n; i++)
		if (!strcmp(a->v[i].name, name))
			return &a->v[i];
	return NULL;
}

static size_t count_of(const struct pipeline *p)
{
	return p->recogniser == RECOGNISER_MODEL ? p->model.n_adapters : 0;
}

void adapters_add(struct adapters *a, const struct pipeline *p)
{
	for (size_t i = 0; i < count_of(p); i++) {
		const char *name = p->model.adapters[i];
		size_t at = 0;

		if (find(a, name) || a->n == ENGINE_ADAPTERS_MAX)
			continue;
		a->v = xrealloc(a->v, (a->n + 1) * sizeof(*a->v));
		while (at < a->n && strcmp(a->v[at].name, name) < 0)
			at++;
		memmove(a->v + at + 1, a->v + at, (a->n++ - at) * sizeof(*a->v));
		a->v[at] = (struct engine_adapter){.name = xstrdup(name)};
	}
}

bool adapters_cover(const struct adapters *a, const struct pipeline *p)
{
	for (size_t i = 0; i < count_of(p); i++)
		if (!find(a, p->model.adapters[i]))
			return false;
	return true;
}

static bool take_hash(char to[65], const json_t *value)
{
	const char *hex = json_string_value(value);

	if (!hex || strlen(hex) != 64)
		return false;
	memcpy(to, hex, 65);
	return true;
}

/* One that it could not load; the words are a file's, perhaps. */
static void take_error(struct engine_adapter *e, const char *error)
{
	struct buf text;

	buf_init(&text, 4 * ERR_TEXT_MAX);
	name_escape(&text, error, strnlen(error, ERR_TEXT_MAX));
	err_set(&e->why, RC_FAILED, "recogniser", "%s", text.data ? text.data : "no reason given");
	buf_release(&text);
}

bool adapters_take_hello(struct adapters *a, const json_t *list)
{
	size_t taken = 0, i;
	const json_t *one;

	json_array_foreach(list, i, one)
	{
		const char *name = json_string_value(json_object_get(one, "name")),
			   *error = json_string_value(json_object_get(one, "error"));
		struct engine_adapter *e = name ? find(a, name) : NULL;

		if (!e)
			continue;
		*e->sha256 = *e->lock = '\0';
		e->why = (struct err){.text = ""};
		if (error)
			take_error(e, error);
		else if (!take_hash(e->sha256, json_object_get(one, "sha256")))
			return false;
		take_hash(e->lock, json_object_get(one, "lock"));
		taken++;
	}
	return taken == a->n;
}

const struct engine_adapter *adapters_bad(const struct adapters *a, const struct pipeline *p)
{
	for (size_t i = 0; i < count_of(p); i++) {
		const struct engine_adapter *e = find(a, p->model.adapters[i]);

		if (e && *e->why.reason)
			return e;
	}
	return NULL;
}

json_t *adapters_json(const struct adapters *a, const struct pipeline *p)
{
	json_t *list = count_of(p) ? json_array() : NULL;

	for (size_t i = 0; i < count_of(p); i++) {
		const struct engine_adapter *e = find(a, p->model.adapters[i]);

		json_array_append_new(list,
				      json_pack("{s:s, s:s, s:s*}", "name", p->model.adapters[i],
						"sha256", e ? e->sha256 : "", "lock",
						e && *e->lock ? e->lock : NULL));
	}
	return list;
}
