/* SPDX-License-Identifier: MIT
 *
 * strings: open addressing with linear probing over indices into an array of entries; the bytes of
 * all strings lie one behind the other. At most half of the slots are taken.
 *
 * Strings made to collide make a hostile file slow to load, by its own size and no more than that
 * of TOKENS_MAX; the time of a start is what its author may spend.
 */
#include "tokenizer/strings.h"
#include "base/err.h"

#include <stdlib.h>
#include <string.h>

static uint32_t hash(const char *s, size_t len)
{
	uint64_t h = len * 0x9e3779b97f4a7c15u, w;

	for (; len >= 8; s += 8, len -= 8) {
		memcpy(&w, s, 8);
		h = (h ^ w) * 0xff51afd7ed558ccdu;
		h ^= h >> 32;
	}
	if (len) {
		w = 0;
		memcpy(&w, s, len);
		h = (h ^ w) * 0xff51afd7ed558ccdu;
	}
	h ^= h >> 29;
	h *= 0xc4ceb9fe1a85ec53u;
	return (uint32_t)(h >> 32);
}

void strings_init(struct strings *t, size_t max_bytes)
{
	memset(t, 0, sizeof(*t));
	buf_init(&t->text, max_bytes);
}

void strings_release(struct strings *t)
{
	buf_release(&t->text);
	free(t->entry);
	free(t->slot);
	memset(t, 0, sizeof(*t));
}

/* The slot of s, or the empty one where it belongs. */
static uint32_t *slot_of(const struct strings *t, const char *s, size_t len, uint32_t h)
{
	for (size_t i = h & (t->slots - 1);; i = (i + 1) & (t->slots - 1)) {
		const struct string_entry *e;

		if (!t->slot[i])
			return &t->slot[i];
		e = &t->entry[t->slot[i] - 1];
		if (e->hash == h && e->len == len && !memcmp(t->text.data + e->at, s, len))
			return &t->slot[i];
	}
}

static void grow(struct strings *t)
{
	t->cap = t->cap ? t->cap * 2 : 1024;
	t->entry = xrealloc(t->entry, t->cap * sizeof(*t->entry));
	free(t->slot);
	t->slots = t->cap * 2;
	t->slot = xcalloc(t->slots, sizeof(*t->slot));
	for (size_t i = 0; i < t->count; i++) {
		size_t k = t->entry[i].hash & (t->slots - 1);

		while (t->slot[k])
			k = (k + 1) & (t->slots - 1);
		t->slot[k] = (uint32_t)i + 1;
	}
}

bool strings_add(struct strings *t, const char *s, size_t len, uint32_t id)
{
	uint32_t h = hash(s, len), *slot;
	size_t at = t->text.len;

	if (t->count == t->cap)
		grow(t);
	slot = slot_of(t, s, len, h);
	if (*slot)
		return false;
	buf_add(&t->text, s, len);
	if (t->text.overflow)
		return false;
	t->entry[t->count] = (struct string_entry){(uint32_t)at, (uint32_t)len, h, id};
	*slot = (uint32_t)++t->count;
	return true;
}

bool strings_find(const struct strings *t, const char *s, size_t len, uint32_t *id)
{
	uint32_t slot;

	if (!t->count)
		return false;
	slot = *slot_of(t, s, len, hash(s, len));
	if (!slot)
		return false;
	*id = t->entry[slot - 1].id;
	return true;
}
