/* SPDX-License-Identifier: MIT
 *
 * yaml: two readers, one after the other.
 *
 * (1) A walk over libyaml's events marks the line of every value and refuses what settings have no
 * use for: aliases (a small text can stand for a huge one), NUL characters, a second document, deep
 * nesting; its recursion is bounded by that depth.  (2) libcyaml loads the text by a schema made
 * from the keys.  When the schema refuses, the marks are compared with the keys to say why and
 * where.  Scalars are loaded as strings: libcyaml's own number parsing takes "3.5" for 3, "010"
 * for 8 and "-1" for 2^64-1.
 */
#include "base/yaml.h"
#include "base/err.h"
#include "base/num.h"
#include "base/suggest.h"

#include <cyaml/cyaml.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define DEPTH_MAX 4

struct scan {
	struct yaml_marks *marks;
	struct yaml_problem *problem;
	yaml_parser_t parser;
	yaml_event_t event; /* the latest */
};

static bool complain(struct yaml_problem *problem, size_t line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static bool complain(struct yaml_problem *problem, size_t line, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(problem->text, sizeof(problem->text), format, ap);
	va_end(ap);
	problem->line = line;
	return false;
}

/* libyaml's words, and ours for what people usually did. */
static const char *plain_words(const char *problem, const char *line, const char *end)
{
	static const char *const words[][2] = {
		{ "mapping values are not allowed",
		  "wrong indentation, ':' missing in the line above, or a text that needs quotes" },
		{ "did not find expected key", "wrong indentation, or an unfinished value above" },
		{ "could not find expected ':'", "a key without ':' after it" },
		{ "did not find expected '-' indicator", "wrong indentation in a list" },
		{ "did not find expected ',' or ']'", "a list that starts with '[' lacks ',' or ']'" },
		{ "did not find expected ',' or '}'", "a mapping that starts with '{' lacks ',' or '}'" },
		{ "found unexpected end of stream", "a quote is not closed" },
	};

	while (line < end && *line == ' ')
		line++;
	if (line < end && *line == '\t')
		return "a tab cannot indent YAML, use spaces";
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strstr(problem, words[i][0]))
			return words[i][1];
	return problem;
}

/* Start of line n, or the text's end. */
static const char *line_start(const char *text, size_t len, size_t n)
{
	const char *at = text, *end = text + len;

	while (--n && at < end) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));

		at = newline ? newline + 1 : end;
	}
	return at;
}

static bool complain_syntax(struct scan *s, const char *text, size_t len)
{
	const yaml_parser_t *y = &s->parser;
	const char *problem = y->problem ? y->problem : "cannot be read";
	size_t line = 1;

	if (y->error == YAML_MEMORY_ERROR)
		out_of_memory("reading YAML");
	if (y->error == YAML_READER_ERROR) {
		for (size_t i = 0; i < len && i < y->problem_offset; i++)
			line += text[i] == '\n';
		return complain(s->problem, line, "not valid UTF-8 text: %s", problem);
	}
	line += y->context && strstr(y->context, "simple key") ? y->context_mark.line
							       : y->problem_mark.line;
	return complain(s->problem, line, "%s",
			plain_words(problem, line_start(text, len, line), text + len));
}

static bool next_event(struct scan *s)
{
	yaml_event_delete(&s->event);
	return yaml_parser_parse(&s->parser, &s->event);
}

static void add_mark(struct scan *s, const char *parent, const char *key, enum yaml_kind kind,
		     size_t line)
{
	struct yaml_marks *m = s->marks;

	if (!(m->n & (m->n - 1))) /* full at each power of two */
		m->v = xrealloc(m->v, (m->n ? 2 * m->n : 1) * sizeof(*m->v));
	m->v[m->n++] = (struct yaml_mark){ xstrdup(parent), xstrdup(key), kind, line };
}

static bool scan_value(struct scan *s, const char *parent, const char *key, size_t line,
		       unsigned depth);

static bool scan_pairs(struct scan *s, const char *parent, unsigned depth)
{
	bool good = true;

	while (good) {
		size_t line;
		char *key;

		if (!next_event(s))
			return false;
		if (s->event.type == YAML_MAPPING_END_EVENT)
			return true;
		line = s->event.start_mark.line + 1;
		if (s->event.type != YAML_SCALAR_EVENT)
			return complain(s->problem, line, "a key must be a plain word");
		key = xstrdup((const char *)s->event.data.scalar.value);
		good = next_event(s) && scan_value(s, parent, key, line, depth + 1);
		free(key);
	}
	return false;
}

static bool scan_items(struct scan *s, const char *parent, unsigned depth)
{
	for (size_t i = 1;; i++) {
		char number[32];

		if (!next_event(s))
			return false;
		if (s->event.type == YAML_SEQUENCE_END_EVENT)
			return true;
		snprintf(number, sizeof(number), "%zu", i);
		if (!scan_value(s, parent, number, s->event.start_mark.line + 1, depth + 1))
			return false;
	}
}

/* The value that starts with s->event. false: a complaint, or without one a syntax error. */
static bool scan_value(struct scan *s, const char *parent, const char *key, size_t line,
		       unsigned depth)
{
	if (depth > DEPTH_MAX)
		return complain(s->problem, line, "nested too deep");
	switch (s->event.type) {
	case YAML_ALIAS_EVENT:
		return complain(s->problem, line, "aliases (*name) are not allowed, write the value out");
	case YAML_SEQUENCE_START_EVENT:
		add_mark(s, parent, key, YAML_LIST, line);
		return scan_items(s, key, depth);
	case YAML_MAPPING_START_EVENT:
		add_mark(s, parent, key, YAML_MAPPING, line);
		return scan_pairs(s, key, depth);
	default:
		if (memchr(s->event.data.scalar.value, 0, s->event.data.scalar.length))
			return complain(s->problem, line, "a value holds a NUL character");
		add_mark(s, parent, key, YAML_SCALAR, line);
		return true;
	}
}

static bool scan_stream(struct scan *s)
{
	if (!next_event(s) || !next_event(s)) /* start of stream; of document */
		return false;
	if (s->event.type == YAML_STREAM_END_EVENT)
		return true;
	if (!next_event(s) || !scan_value(s, "", "", s->event.start_mark.line + 1, 0))
		return false;
	if (!next_event(s) || !next_event(s)) /* end of document; of stream */
		return false;
	return s->event.type == YAML_STREAM_END_EVENT ||
	       complain(s->problem, s->event.start_mark.line + 1, "a second document starts here");
}

static bool scan_text(struct yaml_marks *marks, const char *text, size_t len,
		      struct yaml_problem *problem)
{
	struct scan s = { .marks = marks, .problem = problem };
	bool good;

	if (!yaml_parser_initialize(&s.parser))
		out_of_memory("starting libyaml");
	yaml_parser_set_input_string(&s.parser, (const unsigned char *)text, len);
	good = scan_stream(&s);
	if (!good && !*problem->text)
		complain_syntax(&s, text, len);
	yaml_event_delete(&s.event);
	yaml_parser_delete(&s.parser);
	return good;
}

void yaml_marks_release(struct yaml_marks *marks)
{
	for (size_t i = 0; i < marks->n; i++) {
		free(marks->v[i].parent);
		free(marks->v[i].key);
	}
	free(marks->v);
	*marks = (struct yaml_marks){ NULL, 0 };
}

const struct yaml_mark *yaml_find(const struct yaml_marks *marks, const char *parent,
				  const char *key)
{
	for (size_t i = 0; i < marks->n; i++)
		if (!strcmp(marks->v[i].parent, parent) && !strcmp(marks->v[i].key, key))
			return &marks->v[i];
	return NULL;
}

static const struct yaml_key *find_key(const struct yaml_key *keys, size_t n, const char *group,
				       const char *key)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(keys[i].group, group) && !strcmp(keys[i].key, key))
			return &keys[i];
	return NULL;
}

static bool complain_unknown(const struct yaml_key *keys, size_t n, const struct yaml_mark *m,
			     struct yaml_problem *problem)
{
	struct suggestion best = { NULL, 0 };
	const struct yaml_key *elsewhere = NULL;

	for (size_t i = 0; i < n; i++) {
		if (!strcmp(keys[i].group, m->parent)) {
			if (!keys[i].refusal)
				suggest(&best, m->key, keys[i].key);
		} else if (!strcmp(keys[i].key, m->key)) {
			elsewhere = &keys[i];
		}
	}
	if (elsewhere && *elsewhere->group)
		return complain(problem, m->line, "key '%s' belongs beneath '%s:'", elsewhere->key,
				elsewhere->group);
	if (elsewhere)
		return complain(problem, m->line, "key '%s' does not belong beneath '%s:'",
				elsewhere->key, m->parent);
	if (best.word)
		return complain(problem, m->line, "unknown key '%s', did you mean '%s'?",
				shown(m->key).s, best.word);
	return complain(problem, m->line, "unknown key '%s'", shown(m->key).s);
}

static bool complain_kind(const struct yaml_key *k, size_t line, struct yaml_problem *problem)
{
	if (k->kind == YAML_SCALAR)
		return complain(problem, line, "%s must be a single value", k->key);
	return complain(problem, line, "%s must be a %s: write %s: %s", k->key,
			k->kind == YAML_LIST ? "list" : "group of keys", k->key,
			k->example ? k->example : "...");
}

/* The first mark that the keys have no place for; true when there is none. */
static bool marks_fit(const struct yaml_marks *marks, const struct yaml_key *keys, size_t n,
		      struct yaml_problem *problem)
{
	for (size_t i = 0; i < marks->n; i++) {
		const struct yaml_mark *m = &marks->v[i], *first;
		const struct yaml_key *k = find_key(keys, n, "", m->parent);

		if (i == 0) {
			if (m->kind != YAML_MAPPING)
				return complain(problem, m->line,
						"expected lines of the form 'key: value'");
			continue;
		}
		if (k && k->kind == YAML_LIST) {
			if (m->kind != YAML_SCALAR)
				return complain(problem, m->line,
						"an entry of %s must be a single value", k->key);
			continue;
		}
		k = find_key(keys, n, m->parent, m->key);
		if (!k)
			return complain_unknown(keys, n, m, problem);
		if (k->refusal)
			return complain(problem, m->line, "%s %s", k->key, k->refusal);
		first = yaml_find(marks, m->parent, m->key);
		if (first != m)
			return complain(problem, m->line, "%s is given twice, first in line %zu",
					k->key, first->line);
		if (m->kind != k->kind)
			return complain_kind(k, m->line, problem);
	}
	return true;
}

/* What libcyaml fills in for keys[i]: slots[i]. */
struct slot {
	char *text;
	char **list;
	unsigned n;
};

static cyaml_schema_field_t *make_fields(const struct yaml_key *keys, size_t n, const char *group);

static cyaml_schema_field_t make_field(const struct yaml_key *keys, size_t n, size_t i)
{
	static const cyaml_schema_value_t item = { CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 0,
								      CYAML_UNLIMITED) };
	const size_t at = i * sizeof(struct slot);
	cyaml_schema_field_t f = { .key = keys[i].key };

	f.value.flags = CYAML_FLAG_OPTIONAL;
	if (keys[i].kind == YAML_MAPPING) { /* its keys have their places in slots, too */
		f.value.type = CYAML_MAPPING;
		f.value.data_size = (uint32_t)(n * sizeof(struct slot));
		f.value.mapping.fields = make_fields(keys, n, keys[i].key);
		return f;
	}
	f.value.flags = (enum cyaml_flag)(CYAML_FLAG_OPTIONAL | CYAML_FLAG_POINTER);
	f.value.data_size = sizeof(char *);
	if (keys[i].kind == YAML_SCALAR) {
		f.data_offset = (uint32_t)(at + offsetof(struct slot, text));
		f.value.type = CYAML_STRING;
		f.value.string.max = CYAML_UNLIMITED;
		return f;
	}
	f.data_offset = (uint32_t)(at + offsetof(struct slot, list));
	f.count_offset = (uint32_t)(at + offsetof(struct slot, n));
	f.count_size = sizeof(unsigned);
	f.value.type = CYAML_SEQUENCE;
	f.value.sequence.entry = &item;
	f.value.sequence.max = CYAML_UNLIMITED;
	return f;
}

/* The fields of a group; a NULL key ends them. Groups hold no groups: this nests once. */
static cyaml_schema_field_t *make_fields(const struct yaml_key *keys, size_t n, const char *group)
{
	cyaml_schema_field_t *fields = xcalloc(n + 1, sizeof(*fields));
	size_t used = 0;

	for (size_t i = 0; i < n; i++)
		if (!strcmp(keys[i].group, group) && !keys[i].refusal)
			fields[used++] = make_field(keys, n, i);
	return fields;
}

static void free_fields(const cyaml_schema_field_t *fields)
{
	for (const cyaml_schema_field_t *f = fields; f->key; f++)
		if (f->value.type == CYAML_MAPPING)
			free_fields(f->value.mapping.fields);
	free((void *)fields);
}

static json_t *slots_to_json(const struct yaml_marks *marks, const struct yaml_key *keys, size_t n,
			     const struct slot *slots)
{
	json_t *all = json_object();

	for (size_t i = 1; i < marks->n; i++) {
		const struct yaml_mark *m = &marks->v[i];
		const struct yaml_key *k = find_key(keys, n, m->parent, m->key);
		json_t *group = *m->parent ? json_object_get(all, m->parent) : all;
		const struct slot *slot;
		json_t *value;

		if (!k) /* entry of a list */
			continue;
		slot = &slots[k - keys];
		if (k->kind == YAML_SCALAR) {
			value = json_string(slot->text ? slot->text : "");
		} else if (k->kind == YAML_MAPPING) {
			value = json_object();
		} else {
			value = json_array();
			for (unsigned e = 0; e < slot->n; e++)
				json_array_append_new(value, json_string(slot->list[e]));
		}
		json_object_set_new(group, k->key, value);
	}
	return all;
}

json_t *yaml_load(const char *text, size_t len, const struct yaml_key *keys, size_t n_keys,
		  struct yaml_marks *marks, struct yaml_problem *problem)
{
	static const cyaml_config_t config = { .mem_fn = cyaml_mem, .flags = CYAML_CFG_NO_ALIAS };
	cyaml_schema_value_t top = { .type = CYAML_MAPPING, .flags = CYAML_FLAG_POINTER };
	cyaml_schema_field_t *fields;
	struct slot *slots = NULL;
	json_t *all = NULL;
	cyaml_err_t failed;

	*marks = (struct yaml_marks){ NULL, 0 };
	*problem = (struct yaml_problem){ 0, "" };
	if (!scan_text(marks, text, len, problem))
		return NULL;
	if (!marks->n)
		return json_object();
	fields = make_fields(keys, n_keys, "");
	top.data_size = (uint32_t)(n_keys * sizeof(struct slot));
	top.mapping.fields = fields;
	failed = cyaml_load_data((const uint8_t *)text, len, &config, &top,
				 (cyaml_data_t **)&slots, NULL);
	/* The text has been parsed once: what is wrong with it is known. */
	if (failed == CYAML_ERR_OOM || failed == CYAML_ERR_LIBYAML_PARSER_INIT ||
	    failed == CYAML_ERR_LIBYAML_PARSER)
		out_of_memory("reading YAML");
	if (failed) {
		if (marks_fit(marks, keys, n_keys, problem))
			complain(problem, 0, "%s", cyaml_strerror(failed));
	} else {
		all = slots ? slots_to_json(marks, keys, n_keys, slots) : json_object();
		cyaml_free(&config, &top, slots, 0);
	}
	free_fields(fields);
	return all;
}
