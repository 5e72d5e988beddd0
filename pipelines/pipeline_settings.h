/* SPDX-License-Identifier: MIT
 *
 * pipeline_settings: the table of a pipeline's keys, and the way to set one. Private to pipeline*.c.
 *
 * One table describes every key: its kind, range, words, where it lies in struct pipeline, whether
 * a ticket may set it and whether it can change a result.  From it come the keys for libcyaml, the
 * checks and the JSON form.  Invariant: a setting reaches struct pipeline only through settings_apply(),
 * whether it comes from a file, a ticket or the supervisor's open line.
 */
#ifndef PIPELINES_PIPELINE_SETTINGS_H
#define PIPELINES_PIPELINE_SETTINGS_H

#include "pipeline.h"

struct word {
	const char *name;
	unsigned value;
};

enum setting_kind {
	WORD,         /* enum, one of words */
	NAMED_NUMBER, /* unsigned, one of words by name or number */
	NUMBER,       /* unsigned in min..max */
	NUMBER64,     /* uint64_t in min..max */
	REAL,         /* double in min..max */
	TEXT,         /* char * or NULL */
	LIST,         /* char ** of min..max items that pass check */
	FILES,        /* bits, list of output_names */
	GROUP,        /* mapping of members */
};

enum setting_flag {
	IN_TICKET = 1 << 0,
	NOT_HASHED = 1 << 1, /* cannot change the text of a result */
	SECRET = 1 << 2,
	FOREIGN = 1 << 3,   /* only with recogniser: command */
};

struct setting {
	const char *key;
	enum setting_kind kind;
	unsigned flags;
	size_t at, count_at; /* offsets in struct pipeline */
	uint64_t min, max;
	const struct word *words;
	bool (*check)(const char *item);
	const char *meaning; /* what an item of a list is */
	const char *example; /* of a list or group, as it is written */
	const struct setting *members;
	size_t n_members;
};

extern const struct setting pipeline_settings[], model_settings[];
extern const size_t pipeline_settings_count, model_settings_count;

static inline void *setting_place(const struct pipeline *p, size_t at)
{
	return (char *)p + at;
}

/* A complaint about a key, before anyone has looked up its line. */
struct fault {
	const char *group; /* "", or the one that it stands in */
	const char *key;   /* "" when it is about the whole */
	size_t item;       /* of a list, from 1; 0 for the key itself */
	size_t line;       /* where it is known, else 0 */
	char text[ERR_TEXT_MAX - 128];
};

/* Always false. */
bool fault_set(struct fault *f, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Every key of the object `given`; those of the table that have all `flags`. false: *f says which is wrong. */
bool settings_apply(struct pipeline *p, const struct setting *table, size_t n, unsigned flags,
		    const json_t *given, struct fault *f);
/* What no key can see alone. */
bool settings_agree(const struct pipeline *p, struct fault *f);
/* Those of the table that have none of the flags in `without`; the caller's. */
json_t *settings_to_json(const struct pipeline *p, const struct setting *table, size_t n,
			 unsigned without);

/* Lists of strings; NULL stands behind the last one of a copy. */
char **list_copy(char *const *list, size_t n);
void list_free(char **list, size_t n);

#endif
