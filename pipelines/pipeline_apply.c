/* SPDX-License-Identifier: MIT
 *
 * From JSON values to settings (pipeline_settings.h), and what is wrong with them.
 */
#include "pipeline_settings.h"
#include "base/buf.h"
#include "base/num.h"
#include "base/suggest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool fault_set(struct fault *f, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(f->text, sizeof(f->text), format, ap);
	va_end(ap);
	return false;
}

char **list_copy(char *const *list, size_t n)
{
	char **copy = xcalloc(n + 1, sizeof(*copy));

	for (size_t i = 0; i < n; i++)
		copy[i] = xstrdup(list[i]);
	return copy;
}

void list_free(char **list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(list[i]);
	free(list);
}

static const struct setting *find_setting(const struct setting *table, size_t n, const char *key)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(table[i].key, key))
			return &table[i];
	return NULL;
}

static bool find_word(const struct word *words, const char *given, bool by_number, unsigned *out)
{
	uint64_t number;

	for (; words->name; words++) {
		if (!strcmp(words->name, given) ||
		    (by_number && parse_u64(given, 99, &number) && number == words->value)) {
			*out = words->value;
			return true;
		}
	}
	return false;
}

static bool blame_word(struct fault *f, const struct setting *s, const char *given)
{
	struct suggestion best = { NULL, 0 };
	struct buf list;

	buf_init(&list, 300);
	for (const struct word *w = s->words; w->name; w++) {
		buf_addf(&list, "%s%s", list.len ? ", " : "", w->name);
		suggest(&best, given, w->name);
	}
	if (s->kind == NAMED_NUMBER)
		buf_adds(&list, ", or Tesseract's number, 1 and 3 to 13");
	fault_set(f, "'%s' is not one of %s%s%s%s", shown(given).s, list.data,
	      best.word ? "; did you mean '" : "", best.word ? best.word : "",
	      best.word ? "'?" : "");
	buf_release(&list);
	return false;
}

/* The text of a scalar; numbers as they are written. false for anything else. */
static bool scalar_text(const json_t *v, char number[32], const char **out)
{
	if (json_is_string(v)) {
		*out = json_string_value(v);
		return true;
	}
	if (!json_is_number(v))
		return false;
	if (json_is_integer(v))
		snprintf(number, 32, "%lld", (long long)json_integer_value(v));
	else
		snprintf(number, 32, "%.17g", json_real_value(v));
	*out = number;
	return true;
}

static bool apply_number(void *to, const struct setting *s, const char *given, struct fault *f)
{
	uint64_t n;

	if (!parse_u64(given, UINT64_MAX, &n))
		return fault_set(f, "'%s' is not a whole number from %llu to %llu", shown(given).s,
			     (unsigned long long)s->min, (unsigned long long)s->max);
	if (n < s->min || n > s->max)
		return fault_set(f, "%s is out of range, %llu to %llu", given,
			     (unsigned long long)s->min, (unsigned long long)s->max);
	if (s->kind == NUMBER)
		*(unsigned *)to = (unsigned)n;
	else
		*(uint64_t *)to = n;
	return true;
}

static bool apply_real(double *to, const struct setting *s, const char *given, struct fault *f)
{
	size_t digits = strspn(given, "0123456789.eE+-");
	char *end;
	double v = strtod(given, &end);

	if (!*given || given[digits] || *end || !isfinite(v))
		return fault_set(f, "'%s' is not a number from %llu to %llu", shown(given).s,
			     (unsigned long long)s->min, (unsigned long long)s->max);
	if (v < (double)s->min || v > (double)s->max)
		return fault_set(f, "%s is out of range, %llu to %llu", given,
			     (unsigned long long)s->min, (unsigned long long)s->max);
	*to = v;
	return true;
}

static bool apply_scalar(struct pipeline *p, const struct setting *s, const json_t *v,
			 struct fault *f)
{
	void *to = setting_place(p, s->at);
	char number[32];
	const char *given;

	if (!scalar_text(v, number, &given))
		return fault_set(f, "must be a single value");
	if (!*given && s->kind != TEXT)
		return fault_set(f, "has no value");
	switch (s->kind) {
	case WORD:
	case NAMED_NUMBER:
		return find_word(s->words, given, s->kind == NAMED_NUMBER, to) ||
		       blame_word(f, s, given);
	case NUMBER:
	case NUMBER64:
		return apply_number(to, s, given, f);
	case REAL:
		return apply_real(to, s, given, f);
	default:
		if (strlen(given) > s->max)
			return fault_set(f, "is longer than %llu bytes", (unsigned long long)s->max);
		free(*(char **)to);
		*(char **)to = *given ? xstrdup(given) : NULL;
		return true;
	}
}

static bool apply_list(struct pipeline *p, const struct setting *s, const json_t *v,
		       struct fault *f)
{
	size_t n = json_array_size(v);
	char ***list = setting_place(p, s->at);
	size_t *count = setting_place(p, s->count_at);
	char **fresh;

	if (n < s->min || n > s->max)
		return fault_set(f, "needs %llu to %llu entries", (unsigned long long)s->min,
			     (unsigned long long)s->max);
	for (size_t i = 0; i < n; i++) {
		const char *item = json_string_value(json_array_get(v, i));

		f->item = i + 1;
		if (!item || !s->check(item))
			return fault_set(f, "%s%s%snot %s", item && !(s->flags & SECRET) ? "'" : "",
				     item && !(s->flags & SECRET) ? shown(item).s : "",
				     item && !(s->flags & SECRET) ? "' is " : "an entry is ",
				     s->meaning);
	}
	f->item = 0;
	fresh = xcalloc(n + 1, sizeof(*fresh));
	for (size_t i = 0; i < n; i++)
		fresh[i] = xstrdup(json_string_value(json_array_get(v, i)));
	list_free(*list, *count);
	*list = fresh;
	*count = n;
	return true;
}

static bool apply_files(struct pipeline *p, const json_t *v, struct fault *f)
{
	unsigned bits = OUTPUT_DOCUMENT_JSON;
	struct suggestion best;
	const json_t *item;
	size_t i, k;

	json_array_foreach(v, i, item) {
		const char *name = json_string_value(item) ? json_string_value(item) : "";

		f->item = i + 1;
		best = (struct suggestion){ NULL, 0 };
		for (k = 0; k < N_OUTPUTS && strcmp(name, output_names[k]); k++)
			suggest(&best, name, output_names[k]);
		if (k == N_OUTPUTS)
			return fault_set(f, "'%s' is not one of text.md, text.txt, document.json, "
				     "pages.jsonl, document.hocr, document.html%s%s%s",
				     shown(name).s, best.word ? "; did you mean '" : "",
				     best.word ? best.word : "", best.word ? "'?" : "");
		bits |= 1u << k;
	}
	f->item = 0;
	p->outputs = bits;
	return true;
}

static bool apply_setting(struct pipeline *p, const struct setting *s, const json_t *v,
			  struct fault *f)
{
	f->key = s->key;
	f->item = 0;
	switch (s->kind) {
	case GROUP:
		if (!json_is_object(v))
			return fault_set(f, "needs keys of its own: %s: %s", s->key, s->example);
		f->group = s->key;
		if (!settings_apply(p, s->members, s->n_members, 0, v, f))
			return false;
		f->group = "";
		return true;
	case LIST:
	case FILES:
		if (!json_is_array(v))
			return fault_set(f, "must be a list: %s: %s", s->key, s->example);
		return s->kind == LIST ? apply_list(p, s, v, f) : apply_files(p, v, f);
	default:
		return apply_scalar(p, s, v, f);
	}
}

bool settings_apply(struct pipeline *p, const struct setting *table, size_t n, unsigned flags,
		    const json_t *given, struct fault *f)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)given, key, v) {
		const struct setting *s = find_setting(table, n, key);

		f->key = key;
		if (!s || (s->flags & flags) != flags)
			return fault_set(f, "is not a key of this place");
		if (!apply_setting(p, s, v, f))
			return false;
	}
	return true;
}

static bool is_gpus(const char *s)
{
	return !strcmp(s, "none") || !strcmp(s, "all") ||
	       (strlen(s) <= 100 && *s && !s[strspn(s, "0123456789,")] && s[0] != ',' &&
		s[strlen(s) - 1] != ',' && !strstr(s, ",,"));
}

static bool wrap_agrees(const struct pipeline *p, struct fault *f)
{
	const struct foreign_settings *w = &p->foreign;
	bool container = w->wrap == WRAP_PODMAN || w->wrap == WRAP_DOCKER;

	f->key = "wrap";
	if (w->wrap != WRAP_SANDBOX && p->recogniser != RECOGNISER_COMMAND)
		return fault_set(f, "is used only with recogniser: command");
	if (container && !w->image)
		return fault_set(f, "is a container, but there is no image: write image: localhost/mine:1");
	f->key = "image";
	if (w->image && !container)
		return fault_set(f, "is used only with wrap: podman or docker");
	if (w->image && w->image[0] == '-')
		return fault_set(f, "'%s' is not the name of an image", shown(w->image).s);
	f->key = "gpus";
	if (w->gpus && !is_gpus(w->gpus))
		return fault_set(f, "'%s' is neither none nor all nor numbers such as 0,1",
			     shown(w->gpus).s);
	f->key = "reads";
	if (w->n_reads && p->recogniser != RECOGNISER_COMMAND)
		return fault_set(f, "is used only with recogniser: command");
	f->key = "command";
	if (p->n_command && p->command[0][0] != '/' && !container)
		return fault_set(f, "'%s' is not an absolute path", shown(p->command[0]).s);
	return true;
}

bool settings_agree(const struct pipeline *p, struct fault *f)
{
	f->group = "";
	f->item = 0;
	f->key = "recogniser";
	if (p->recogniser == RECOGNISER_COMMAND && !p->n_command)
		return fault_set(f, "is command, but there is no command: write command: %s",
			     find_setting(pipeline_settings, pipeline_settings_count, "command")->example);
	if (p->recogniser == RECOGNISER_MODEL && !p->model.folder)
		return fault_set(f, "is model, but there is no model: write model: {folder: /models/mine}");
	f->group = "model";
	f->key = "device";
	if (p->model.device == DEVICE_CUDA && p->model.weights != MODEL_BF16 && p->model.weights != MODEL_FP8)
		return fault_set(f, "is cuda, which computes with weights: bf16 or fp8 alone");
	f->key = "weights";
	if (p->model.device != DEVICE_CUDA && p->model.weights == MODEL_FP8)
		return fault_set(f, "is fp8, which needs device: cuda");
	f->key = "kv";
	if (p->model.device == DEVICE_CPU && p->model.kv == MODEL_KV_FP8)
		return fault_set(f, "is fp8, which needs a GPU, not device: cpu");
	f->key = "deterministic";
	if (p->model.device == DEVICE_CPU && !p->model.deterministic)
		return fault_set(f, "is false, which is for a GPU, not device: cpu");
	f->key = "gpus";
	if (p->model.device == DEVICE_CPU && p->model.gpus)
		return fault_set(f, "is used only with a GPU, not with device: cpu");
	f->key = "adapters";
	for (size_t i = 0; i < p->model.n_adapters; i++)
		for (size_t k = 0; k < i; k++)
			if (!strcmp(p->model.adapters[i], p->model.adapters[k]))
				return fault_set(f, "'%s' is named twice", shown(p->model.adapters[i]).s);
	f->group = "";
	f->key = "command";
	if (p->n_command && p->recogniser != RECOGNISER_COMMAND)
		return fault_set(f, "is used only with recogniser: command");
	return wrap_agrees(p, f);
}
