/* SPDX-License-Identifier: MIT
 *
 * pipeline: settings from YAML or JSON, and as JSON.
 *
 * YAML comes as JSON with strings for scalars from base/yaml.c.  A complaint of settings_apply()
 * names a key; yaml's marks turn that key into a line.
 */
#include "pipeline.h"
#include "pipeline_settings.h"
#include "airlock.h"
#include "base/buf.h"
#include "base/num.h"
#include "base/suggest.h"
#include "base/trusted.h"
#include "base/yaml.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES_MAX 65536

void pipeline_defaults(struct pipeline *p, const char *name)
{
	static char *const english[] = { (char *)"eng" };

	*p = (struct pipeline){
		.name = xstrdup(name),
		.file = xstrdup(""),
		.languages = list_copy(english, 1),
		.n_languages = 1,
		.page_segmentation = 3,
		.rotate = ROTATE_AUTO,
		.dpi = 300,
		.blank_ink = 0.00003,
		.outputs = OUTPUT_DOCUMENT_HTML - 1,
		.foreign = { .temporary_mebibytes = 64 },
		.priority = 5,
		.model = {
			.deterministic = true,
			.reply = REPLY_MARKDOWN,
			.tokens = 8192,
			.top_p = 1,
			.repetition_penalty = 1,
			.retries = 3,
			.sequences = 8,
		},
		.limits = {
			.input_mebibytes = 4096,
			.document_pages = 20000,
			.page_megapixels = 100,
			.page_side_pixels = 30000,
			.image_megapixels = 400,
			.page_cpu_seconds = 30,
			.page_seconds = 60,
			.open_seconds = 60,
			.memory_mebibytes = 2048,
			.read_seconds = 300,
			.result_kibibytes = 16384,
			.page_figures = 64,
			.figures_mebibytes = 16,
			.archive_members = 16384,
			.archive_depth = 2,
			.archive_mebibytes = 20480,
			.archive_ratio = 200,
		},
	};
}

void pipeline_release(struct pipeline *p)
{
	free(p->name);
	free(p->file);
	free(p->prompt);
	free(p->then);
	free(p->model.folder);
	list_free(p->model.adapters, p->model.n_adapters);
	free(p->foreign.image);
	free(p->foreign.gpus);
	list_free(p->foreign.reads, p->foreign.n_reads);
	if (p->next)
		pipeline_release(p->next);
	free(p->next);
	list_free(p->command, p->n_command);
	list_free(p->languages, p->n_languages);
	list_free(p->passwords, p->n_passwords);
	*p = (struct pipeline){ 0 };
}

void pipeline_copy(struct pipeline *to, const struct pipeline *from)
{
	*to = *from;
	to->name = xstrdup(from->name);
	to->file = xstrdup(from->file);
	to->prompt = from->prompt ? xstrdup(from->prompt) : NULL;
	to->then = from->then ? xstrdup(from->then) : NULL;
	to->next = from->next ? xmalloc(sizeof(*to->next)) : NULL;
	if (to->next)
		pipeline_copy(to->next, from->next);
	to->model.folder = from->model.folder ? xstrdup(from->model.folder) : NULL;
	to->model.adapters = list_copy(from->model.adapters, from->model.n_adapters);
	to->foreign.image = from->foreign.image ? xstrdup(from->foreign.image) : NULL;
	to->foreign.gpus = from->foreign.gpus ? xstrdup(from->foreign.gpus) : NULL;
	to->foreign.reads = list_copy(from->foreign.reads, from->foreign.n_reads);
	to->command = list_copy(from->command, from->n_command);
	to->languages = list_copy(from->languages, from->n_languages);
	to->passwords = list_copy(from->passwords, from->n_passwords);
}

/* Names that other programs have for the same things. */
static const struct yaml_key known_as[] = {
	{ "", "psm", YAML_SCALAR, NULL, "is called page_segmentation here" },
	{ "", "lang", YAML_SCALAR, NULL, "is called languages here, a list: languages: [eng, deu]" },
	{ "", "engine", YAML_SCALAR, NULL, "is called recogniser here" },
	{ "", "resolution", YAML_SCALAR, NULL, "is called dpi here" },
};

#define KEYS_MAX 128

static enum yaml_kind kind_in_yaml(const struct setting *s)
{
	if (s->kind == GROUP)
		return YAML_MAPPING;
	return s->kind == LIST || s->kind == FILES ? YAML_LIST : YAML_SCALAR;
}

static struct yaml_key yaml_key_of(const struct setting *s, const char *group, bool ticket)
{
	return (struct yaml_key){
		group, s->key, kind_in_yaml(s), s->example,
		ticket && !(s->flags & IN_TICKET) ? "is for pipelines, a ticket cannot set it" : NULL,
	};
}

static json_t *read_yaml(const char *text, size_t len, bool ticket, struct yaml_marks *marks,
			 struct fault *f)
{
	struct yaml_key keys[KEYS_MAX];
	struct yaml_problem problem;
	size_t n = 0;
	json_t *all;

	for (size_t i = 0; i < pipeline_settings_count; i++) {
		const struct setting *s = &pipeline_settings[i];

		if (n + 1 + s->n_members + ARRAY_SIZE(known_as) + 1 > KEYS_MAX)
			BUG("more than %d keys", KEYS_MAX);
		keys[n++] = yaml_key_of(s, "", ticket);
		for (size_t k = 0; k < s->n_members; k++)
			keys[n++] = yaml_key_of(&s->members[k], s->key, ticket);
	}
	for (size_t i = 0; i < ARRAY_SIZE(known_as); i++)
		keys[n++] = known_as[i];
	if (ticket)
		keys[n++] = (struct yaml_key){ "", "password", YAML_SCALAR, NULL, NULL };
	all = yaml_load(text, len, keys, n, marks, &problem);
	if (!all) {
		f->line = problem.line;
		fault_set(f, "%s", problem.text);
	}
	return all;
}

/* A fault becomes "NAME:LINE: GROUP.KEY: text". */
static enum rc complain(const char *name, const struct yaml_marks *marks, const struct fault *f,
			const char *reason, struct err *err)
{
	const struct yaml_mark *mark = NULL;
	size_t line = f->line;
	char item[32], where[32] = "";

	snprintf(item, sizeof(item), "%zu", f->item);
	if (*f->key && f->item)
		mark = yaml_find(marks, f->key, item);
	if (*f->key && !mark)
		mark = yaml_find(marks, f->group, f->key);
	if (*f->key && !mark)
		mark = yaml_find(marks, "", "password"); /* folded into passwords */
	if (!line && mark)
		line = mark->line;
	if (line)
		snprintf(where, sizeof(where), "%zu:", line);
	return err_set(err, RC_FAILED, reason, "%s:%s %s%s%s%s%s", name, where, f->group,
		       *f->group ? "." : "", f->key, *f->key ? ": " : "", f->text);
}

enum rc pipeline_load(struct pipeline *p, const char *name, const char *file, struct err *err)
{
	struct yaml_marks marks = { NULL, 0 };
	struct fault f = { .group = "", .key = "" };
	struct buf text;
	json_t *given = NULL;
	enum rc rc;

	pipeline_defaults(p, name);
	free(p->file);
	p->file = xstrdup(file);
	buf_init(&text, FILE_BYTES_MAX);
	rc = trusted_read(file, geteuid(), &text, "pipeline", err);
	if (rc == RC_RETRY && !strcmp(err->reason, "absent")) {
		strcpy(err->reason, "pipeline");
		rc = RC_FAILED;
	}
	if (rc)
		goto out;
	given = read_yaml(text.data ? text.data : "", text.len, false, &marks, &f);
	if (!given || !settings_apply(p, pipeline_settings, pipeline_settings_count, 0, given, &f) || !settings_agree(p, &f))
		rc = complain(file, &marks, &f, "pipeline", err);
	else if (p->then)
		p->then_line = yaml_find(&marks, "", "then")->line;
out:
	json_decref(given);
	yaml_marks_release(&marks);
	buf_release(&text);
	return rc;
}

enum rc pipeline_blame_then(const struct pipeline *p, struct err *err, const char *format, ...)
{
	struct fault f = { .group = "", .key = "then", .line = p->then_line };
	const struct yaml_marks none = { NULL, 0 };
	va_list ap;

	va_start(ap, format);
	vsnprintf(f.text, sizeof(f.text), format, ap);
	va_end(ap);
	return complain(p->file, &none, &f, "pipeline", err);
}

enum rc pipeline_follow(struct pipeline *p, struct pipeline *next, struct err *err)
{
	enum rc rc = RC_OK;

	if (!strcmp(p->then, p->name))
		rc = pipeline_blame_then(p, err, "'%s' is this pipeline itself", p->then);
	else if (next->then)
		rc = pipeline_blame_then(p, err, "'%s' has a then of its own, and only one may follow",
					 p->then);
	else if (next->recogniser == RECOGNISER_TESSERACT)
		rc = pipeline_blame_then(p, err,
					 "'%s' reads pages with Tesseract, which takes no text: "
					 "its recogniser must be model or command", p->then);
	if (rc != RC_OK) {
		pipeline_release(next);
		return rc;
	}
	p->next = xmalloc(sizeof(*p->next));
	*p->next = *next;
	return RC_OK;
}

/* password: x  ->  passwords: [x, ...] */
static void fold_password(json_t *given)
{
	json_t *password = json_object_get(given, "password");
	json_t *list = json_object_get(given, "passwords");

	if (!password)
		return;
	if (!list) {
		list = json_array();
		json_object_set_new(given, "passwords", list);
	}
	json_array_insert(list, 0, password);
	json_object_del(given, "password");
}

enum rc ticket_parse(const char *name, const void *bytes, size_t len, json_t **out,
		     struct err *err)
{
	struct yaml_marks marks = { NULL, 0 };
	struct pipeline checked;
	struct fault f = { .group = "", .key = "" };
	json_t *given = NULL, *all;
	enum rc rc = RC_OK;
	const char *key;
	json_t *value;

	pipeline_defaults(&checked, "ticket");
	if (len > FILE_BYTES_MAX)
		fault_set(&f, "larger than %d bytes", FILE_BYTES_MAX);
	else
		given = read_yaml(len ? bytes : "", len, true, &marks, &f);
	if (given)
		fold_password(given);
	if (!given || !settings_apply(&checked, pipeline_settings, pipeline_settings_count, IN_TICKET, given, &f)) {
		rc = complain(shown(name).s, &marks, &f, "ticket", err);
		goto out;
	}
	*out = json_object();
	all = pipeline_json(&checked, true);
	json_object_foreach(given, key, value)
		json_object_set(*out, key, json_object_get(all, key));
	json_decref(all);
out:
	json_decref(given);
	yaml_marks_release(&marks);
	pipeline_release(&checked);
	return rc;
}

/* Put `given` on top of p, or leave p as it was. */
static enum rc apply_json(struct pipeline *p, const json_t *given, unsigned flags,
			  const char *reason, struct err *err)
{
	const struct yaml_marks none = { NULL, 0 };
	struct fault f = { .group = "", .key = "" };
	struct pipeline changed;

	pipeline_copy(&changed, p);
	if (!settings_apply(&changed, pipeline_settings, pipeline_settings_count, flags, given, &f) || !settings_agree(&changed, &f)) {
		pipeline_release(&changed);
		return complain(reason, &none, &f, reason, err);
	}
	pipeline_release(p);
	*p = changed;
	return RC_OK;
}

enum rc pipeline_apply_ticket(struct pipeline *p, const json_t *ticket, struct err *err)
{
	json_t *given;
	enum rc rc;

	if (!json_is_object(ticket))
		return err_set(err, RC_FAILED, "ticket", "ticket is not a JSON object");
	given = json_copy((json_t *)ticket);
	if (json_object_get(given, "passwords")) { /* the ticket's first, then the pipeline's */
		json_t *list = json_copy(json_object_get(given, "passwords"));

		for (size_t i = 0; i < p->n_passwords; i++)
			json_array_append_new(list, json_string(p->passwords[i]));
		json_object_set_new(given, "passwords", list);
	}
	rc = apply_json(p, given, IN_TICKET, "ticket", err);
	json_decref(given);
	return rc;
}

enum rc pipeline_from_json(struct pipeline *p, const json_t *json, struct err *err)
{
	const char *name = json_string_value(json_object_get(json, "name"));
	json_t *given;
	enum rc rc;

	pipeline_defaults(p, name ? name : "");
	if (!json_is_object(json) || !name)
		return err_set(err, RC_FAILED, "pipeline", "settings are not an object with a name");
	given = json_copy((json_t *)json);
	json_object_del(given, "name");
	rc = apply_json(p, given, 0, "pipeline", err);
	json_decref(given);
	return rc;
}

static json_t *to_json(const struct pipeline *p, unsigned without)
{
	return settings_to_json(p, pipeline_settings, pipeline_settings_count, without);
}

json_t *pipeline_json(const struct pipeline *p, bool secrets)
{
	json_t *out = to_json(p, secrets ? 0 : SECRET);

	json_object_set_new(out, "name", json_string(p->name));
	return out;
}

json_t *pipeline_params(const struct pipeline *p)
{
	json_t *model;

	if (p->recogniser != RECOGNISER_MODEL)
		return json_pack("{s:i, s:s}", "page_segmentation", (int)p->page_segmentation, "rotate",
				 p->rotate == ROTATE_AUTO ? "auto" : "none");
	model = settings_to_json(p, model_settings, model_settings_count, NOT_HASHED);
	json_object_del(model, "folder");
	json_object_del(model, "weights");
	json_object_del(model, "kv");
	json_object_del(model, "deterministic");
	json_object_del(model, "device");
	return model;
}

/* A key that is younger than results counts only where it changes them: they keep their identity. */
static json_t *hashed(const struct pipeline *p)
{
	json_t *all = to_json(p, NOT_HASHED);

	if (p->model.deterministic)
		json_object_del(json_object_get(all, "model"), "deterministic");
	return all;
}

void pipeline_hash(const struct pipeline *p, char hex[SHA256_HEX_SIZE])
{
	json_t *all = hashed(p);
	char *text;

	if (p->next)
		json_object_set_new(all, "then", hashed(p->next));
	text = airlock_dump(all);
	sha256_hex_of(text, strlen(text), hex);
	free(text);
	json_decref(all);
}
