/* SPDX-License-Identifier: MIT
 *
 * yaml: settings out of a YAML text: keys with a value or a list of values, some keys in groups
 * (mappings, one level deep). libcyaml checks the text against the keys that there are; this adds
 * the line of every value and complaints in plain words.
 */
#ifndef BASE_YAML_H
#define BASE_YAML_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum yaml_kind { YAML_SCALAR, YAML_LIST, YAML_MAPPING };

/* A key that a text may have. */
struct yaml_key {
	const char *group; /* "" or the YAML_MAPPING key it stands beneath */
	const char *key;
	enum yaml_kind kind;
	const char *example; /* of a list or mapping, as people write it; or NULL */
	const char *refusal; /* not NULL: may not be used after all, and this is why */
};

/* One value: the key `key` of the mapping `parent`, "" being the whole text; the whole text is key
 * "" of parent "". Entries of a list have their number, from 1, as key and the list's key as
 * parent. */
struct yaml_mark {
	char *parent, *key;
	enum yaml_kind kind;
	size_t line; /* from 1 */
};

struct yaml_marks {
	struct yaml_mark *v; /* in the order of the text; none for an empty text */
	size_t n;
};

/* What is wrong, and where. */
struct yaml_problem {
	size_t line; /* 0: nowhere in particular */
	char text[384];
};

/* The text's keys and values as JSON, in its order: scalars are strings as they were written,
 * so that the caller decides what a number is; lists are arrays of strings. An empty text is an
 * empty object. NULL and *problem otherwise: syntax, unknown keys, keys given twice, a list where
 * a value belongs, aliases, NUL characters, a second document. New reference. The caller releases
 * the marks either way. For texts of up to some 100 KiB. */
json_t *yaml_load(const char *text, size_t len, const struct yaml_key *keys, size_t n_keys,
		  struct yaml_marks *marks, struct yaml_problem *problem);
void yaml_marks_release(struct yaml_marks *marks);

/* The first mark of this name, or NULL. */
const struct yaml_mark *yaml_find(const struct yaml_marks *marks, const char *parent,
				  const char *key);

#endif
