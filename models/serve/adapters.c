/* SPDX-License-Identifier: MIT
 *
 * adapters: the LoRA adapters that cloister-model was started with, by name.
 *
 * All of them stay beside the one model that they adapt, so that many pipelines share it; a request
 * says by which it wants to be answered.
 */
#include "serve.h"

#include "airlock.h"
#include "modelfolder.h"

#include <stdlib.h>
#include <string.h>

void adapters_add(struct server *s, const char *name)
{
	s->adapters = xrealloc(s->adapters, (s->adapter_count + 1) * sizeof(*s->adapters));
	s->adapters[s->adapter_count++] =
		(struct served_adapter){.name = name, .folder = model_folder(name)};
}

void adapters_release(struct server *s)
{
	for (size_t i = 0; i < s->adapter_count; i++)
		free(s->adapters[i].folder);
	free(s->adapters);
	s->adapters = NULL;
	s->adapter_count = 0;
}

static enum rc add(const struct server *s, const char *name, struct adapted *out, struct err *err)
{
	unsigned k = 0;

	while (name && k < s->adapter_count && strcmp(s->adapters[k].name, name) != 0)
		k++;
	if (!name || k == s->adapter_count)
		return err_set(err, RC_FAILED, "protocol",
			       "request: there is no adapter \"%.200s\" beside the model",
			       name ? name : "");
	if (*s->adapters[k].why.reason)
		return err_set(err, RC_FAILED, "adapter", "%s", s->adapters[k].why.text);
	k = s->adapters[k].number;
	for (unsigned i = 0; i < out->count; i++)
		if (out->number[i] == k)
			return err_set(err, RC_FAILED, "protocol",
				       "request: adapter \"%.200s\" is named twice", name);
	if (out->count == ADAPTED_MAX)
		return err_set(err, RC_FAILED, "protocol", "request: more than %d adapters",
			       ADAPTED_MAX);
	out->number[out->count++] = k;
	return RC_OK;
}

enum rc adapters_find(const struct server *s, const json_t *names, struct adapted *out,
		      struct err *err)
{
	const json_t *name;
	size_t i;

	*out = (struct adapted){0};
	if (names && !json_is_array(names))
		return err_set(err, RC_FAILED, "protocol", "request: adapters is not a list");
	json_array_foreach(names, i, name)
	{
		if (add(s, json_string_value(name), out, err) != RC_OK)
			return RC_FAILED;
	}
	return RC_OK;
}

static json_t *hello_of(const struct served_adapter *a)
{
	json_t *error, *one;

	if (!*a->why.reason)
		return json_pack("{s:s, s:s, s:s*}", "name", a->name, "sha256", a->id.sha256,
				 "lock", *a->id.lock ? a->id.lock : NULL);
	error = airlock_error(&a->why);
	one = json_pack("{s:s, s:O}", "name", a->name, "error",
			json_object_get(json_object_get(error, "error"), "text"));
	json_decref(error);
	return one;
}

json_t *adapters_hello(const struct server *s)
{
	json_t *list = json_array();

	for (size_t i = 0; i < s->adapter_count; i++) {
		json_array_append_new(list, hello_of(&s->adapters[i]));
	}
	return list;
}

json_t *adapters_names(const struct server *s, const struct adapted *adapted)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < adapted->count; i++)
		for (size_t k = 0; k < s->adapter_count; k++)
			if (!*s->adapters[k].why.reason &&
			    s->adapters[k].number == adapted->number[i])
				json_array_append_new(list, json_string(s->adapters[k].name));
	return list;
}
