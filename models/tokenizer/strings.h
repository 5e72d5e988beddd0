/* SPDX-License-Identifier: MIT
 *
 * strings: a hash table from byte strings to ids, insertion only.
 */
#ifndef MODELS_TOKENIZER_STRINGS_H
#define MODELS_TOKENIZER_STRINGS_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct string_entry {
	uint32_t at, len, hash, id;
};

struct strings {
	struct buf text;
	struct string_entry *entry;
	size_t count, cap;
	uint32_t *slot; /* index of the entry + 1; twice as many at least as entries */
	size_t slots;
};

void strings_init(struct strings *, size_t max_bytes);
void strings_release(struct strings *);
/* false when s is there already, or memory of max_bytes is full (text.overflow). */
bool strings_add(struct strings *, const char *s, size_t len, uint32_t id);
bool strings_find(const struct strings *, const char *s, size_t len, uint32_t *id);

#endif
