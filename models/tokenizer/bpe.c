/* SPDX-License-Identifier: MIT
 *
 * bpe: the bytes of a word, merged pair by pair.
 *
 * The pair of the lowest rank is merged, the leftmost of equals, until no neighbours have a merge.
 * Short words look at all their ranks each time: a few loads. Long ones keep candidates in a heap
 * by (rank, place) over a linked list of pieces, n log n for a hostile word of megabytes; a
 * candidate whose pieces have changed is passed over.
 *
 * Words that were merged before are remembered in a table without lists: of two in one slot the
 * later stays.
 */
#include "tokenizer/internal.h"

#include <stdlib.h>
#include <string.h>

#define CACHE_SLOTS 32768
#define SHORT_WORD  96

struct candidate {
	uint64_t key; /* rank << 32 | place */
	uint32_t a, b, id;
};

struct piece {
	uint32_t id, previous, next; /* NO_TOKEN: none; id NO_TOKEN: merged into the one before */
};

struct bpe_scratch {
	struct buf name;
	struct piece *piece;
	size_t pieces;
	struct candidate *heap;
	size_t count, cap;
};

static size_t merge_hash(uint32_t a, uint32_t b)
{
	uint64_t h = ((uint64_t)a << 32 | b) * 0x9e3779b97f4a7c15u;

	return (size_t)(h ^ h >> 32);
}

/* The slot of the pair, or the empty one where it belongs. */
static inline struct merge *merge_slot(struct merge *merges, size_t mask, uint32_t a, uint32_t b)
{
	size_t i = merge_hash(a, b) & mask;

	while (merges[i].a != NO_TOKEN && (merges[i].a != a || merges[i].b != b))
		i = (i + 1) & mask;
	return &merges[i];
}

static inline const struct merge *merge_of(const struct tokenizer *t, uint32_t a, uint32_t b)
{
	const struct merge *m = merge_slot(t->merges, t->merges_mask, a, b);

	return m->a == NO_TOKEN ? NULL : m;
}

/* At least one slot in three stays empty. */
void merges_grow(struct tokenizer *t)
{
	size_t slots = t->merges ? (t->merges_mask + 1) * 2 : 1024;
	struct merge *merges = xmalloc(slots * sizeof(*merges));

	for (size_t i = 0; i < slots; i++)
		merges[i].a = NO_TOKEN;
	for (size_t i = 0; t->merges && i <= t->merges_mask; i++) {
		const struct merge *m = &t->merges[i];

		if (m->a != NO_TOKEN)
			*merge_slot(merges, slots - 1, m->a, m->b) = *m;
	}
	free(t->merges);
	t->merges = merges;
	t->merges_mask = slots - 1;
}

bool merges_add(struct tokenizer *t, uint32_t a, uint32_t b, uint32_t id)
{
	struct merge *slot;

	if (t->merge_count >= t->merges_mask / 3 * 2)
		merges_grow(t);
	slot = merge_slot(t->merges, t->merges_mask, a, b);
	if (slot->a != NO_TOKEN)
		return false;
	*slot = (struct merge){a, b, (uint32_t)t->merge_count++, id};
	return true;
}

/* The merge of id[0] and id[1]. */
static inline void look_up(const struct tokenizer *t, const uint32_t *id, uint32_t *rank,
			   uint32_t *into)
{
	const struct merge *m = merge_of(t, id[0], id[1]);

	*rank = m ? m->rank : UINT32_MAX;
	*into = m ? m->id : NO_TOKEN;
}

static void merge_short(const struct tokenizer *t, const char *s, size_t len, struct token_ids *out)
{
	uint32_t id[SHORT_WORD], rank[SHORT_WORD], into[SHORT_WORD];
	size_t count = len;

	for (size_t i = 0; i < count; i++)
		id[i] = t->byte_token[(unsigned char)s[i]];
	for (size_t i = 0; i + 1 < count; i++)
		look_up(t, id + i, rank + i, into + i);
	while (count > 1) {
		size_t best = 0;

		for (size_t i = 1; i + 1 < count; i++)
			if (rank[i] < rank[best])
				best = i;
		if (rank[best] == UINT32_MAX)
			break;
		id[best] = into[best];
		count--;
		memmove(id + best + 1, id + best + 2, (count - best - 1) * sizeof(*id));
		memmove(rank + best, rank + best + 1, (count - best - 1) * sizeof(*rank));
		memmove(into + best, into + best + 1, (count - best - 1) * sizeof(*into));
		if (best + 1 < count)
			look_up(t, id + best, rank + best, into + best);
		if (best)
			look_up(t, id + best - 1, rank + best - 1, into + best - 1);
	}
	for (size_t i = 0; i < count; i++)
		token_ids_add(out, id[i]);
}

static void heap_push(struct bpe_scratch *b, struct candidate c)
{
	size_t i;

	if (b->count == b->cap) {
		b->cap = b->cap ? b->cap * 2 : 1024;
		b->heap = xrealloc(b->heap, b->cap * sizeof(*b->heap));
	}
	for (i = b->count++; i && b->heap[(i - 1) / 2].key > c.key; i = (i - 1) / 2)
		b->heap[i] = b->heap[(i - 1) / 2];
	b->heap[i] = c;
}

static struct candidate heap_pop(struct bpe_scratch *b)
{
	struct candidate top = b->heap[0], last = b->heap[--b->count];
	size_t i = 0;

	for (;;) {
		size_t child = i * 2 + 1;

		if (child >= b->count)
			break;
		if (child + 1 < b->count && b->heap[child + 1].key < b->heap[child].key)
			child++;
		if (b->heap[child].key >= last.key)
			break;
		b->heap[i] = b->heap[child];
		i = child;
	}
	b->heap[i] = last;
	return top;
}

/* The pair that begins at `at`, where it has a merge. */
static void consider(const struct tokenizer *t, struct bpe_scratch *b, uint32_t at)
{
	const struct piece *p = &b->piece[at];
	const struct merge *m;

	if (p->next == NO_TOKEN)
		return;
	m = merge_of(t, p->id, b->piece[p->next].id);
	if (m)
		heap_push(b, (struct candidate){(uint64_t)m->rank << 32 | at, m->a, m->b, m->id});
}

static void merge_long(struct tokenizer *t, const char *s, size_t len, struct token_ids *out)
{
	struct bpe_scratch *b = t->scratch;

	if (b->pieces < len) {
		b->pieces = len;
		b->piece = xrealloc(b->piece, len * sizeof(*b->piece));
	}
	for (size_t i = 0; i < len; i++)
		b->piece[i] = (struct piece){t->byte_token[(unsigned char)s[i]],
					     i ? (uint32_t)i - 1 : NO_TOKEN,
					     i + 1 < len ? (uint32_t)i + 1 : NO_TOKEN};
	b->count = 0;
	for (size_t i = 0; i < len; i++)
		consider(t, b, (uint32_t)i);
	while (b->count) {
		struct candidate c = heap_pop(b);
		uint32_t at = (uint32_t)c.key;
		struct piece *p = &b->piece[at], *next;

		if (p->id != c.a || p->next == NO_TOKEN || b->piece[p->next].id != c.b)
			continue;
		next = &b->piece[p->next];
		p->id = c.id;
		p->next = next->next;
		next->id = NO_TOKEN;
		if (p->next != NO_TOKEN)
			b->piece[p->next].previous = at;
		consider(t, b, at);
		if (p->previous != NO_TOKEN)
			consider(t, b, p->previous);
	}
	for (uint32_t i = 0; i != NO_TOKEN; i = b->piece[i].next)
		token_ids_add(out, b->piece[i].id);
	if (len > TOKEN_BYTES_MAX) { /* an unusual word: give its memory back */
		free(b->piece);
		free(b->heap);
		b->piece = NULL;
		b->heap = NULL;
		b->pieces = b->cap = 0;
	}
}

static struct cached *cache_slot(const struct tokenizer *t, const char *s, size_t len)
{
	uint64_t h = len, w = 0;

	for (size_t i = 0; i < len; i += 8) {
		size_t n = len - i < 8 ? len - i : 8;

		w = 0;
		memcpy(&w, s + i, n);
		h = (h ^ w) * 0x9e3779b97f4a7c15u;
		h ^= h >> 32;
	}
	return &t->cache[h & (CACHE_SLOTS - 1)];
}

static void remember(struct cached *c, const char *s, size_t len, const uint32_t *id, size_t count)
{
	if (count > CACHED_IDS)
		return;
	c->len = (uint8_t)len;
	c->count = (uint8_t)count;
	memcpy(c->text, s, len);
	memcpy(c->id, id, count * sizeof(*id));
}

void bpe_word(struct tokenizer *t, const char *s, size_t len, struct token_ids *out)
{
	struct cached *c = NULL;
	size_t before = out->count;
	uint32_t id;

	if (!t->scratch) {
		t->scratch = xcalloc(1, sizeof(*t->scratch));
		buf_init(&t->scratch->name, (size_t)TOKEN_BYTES_MAX * 2);
		t->cache = xcalloc(CACHE_SLOTS, sizeof(*t->cache));
	}
	if (len == 1) {
		token_ids_add(out, t->byte_token[(unsigned char)*s]);
		return;
	}
	if (len <= CACHED_BYTES) {
		c = cache_slot(t, s, len);
		if (c->len == len && !memcmp(c->text, s, len)) {
			for (size_t i = 0; i < c->count; i++)
				token_ids_add(out, c->id[i]);
			return;
		}
	}
	if (t->ignore_merges && len <= TOKEN_BYTES_MAX) {
		buf_clear(&t->scratch->name);
		alphabet_encode(&t->scratch->name, s, len);
		if (strings_find(&t->names, t->scratch->name.data, t->scratch->name.len, &id)) {
			token_ids_add(out, id);
			return;
		}
	}
	if (len <= SHORT_WORD)
		merge_short(t, s, len, out);
	else
		merge_long(t, s, len, out);
	if (c)
		remember(c, s, len, out->id + before, out->count - before);
}

void bpe_release(struct tokenizer *t)
{
	if (t->scratch) {
		buf_release(&t->scratch->name);
		free(t->scratch->piece);
		free(t->scratch->heap);
	}
	free(t->scratch);
	free(t->cache);
	free(t->merges);
}
