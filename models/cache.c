/* SPDX-License-Identifier: MIT
 *
 * A stack of the free blocks, a chained hash table of the published, and a ring of those of them that are
 * idle, the one longest unused first; its head is one block more than there are.
 */
#include "cache.h"

#include "base/err.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct block {
	uint32_t references;
	bool published;
	struct cache_key key;
	uint32_t next;	       /* in its hash chain */
	uint32_t older, newer; /* in the ring */
};

struct cache {
	uint32_t count, free_count, idle; /* idle: published without references */
	struct block *blocks; /* [count + 1] */
	uint32_t *free; /* stack of blocks that are neither referenced nor published */
	uint32_t *table;
	size_t table_size;
};

struct cache *cache_new(uint32_t blocks)
{
	struct cache *c = xcalloc(1, sizeof(*c));

	c->count = c->free_count = blocks;
	c->blocks = xcalloc((size_t)blocks + 1, sizeof(*c->blocks));
	c->blocks[blocks].older = c->blocks[blocks].newer = blocks;
	c->free = xcalloc(blocks, sizeof(*c->free));
	c->table_size = 2 * (size_t)blocks + 1;
	c->table = xmalloc(c->table_size * sizeof(*c->table));
	for (uint32_t i = 0; i < blocks; i++)
		c->free[i] = blocks - 1 - i;
	for (size_t i = 0; i < c->table_size; i++)
		c->table[i] = CACHE_NONE;
	return c;
}

void cache_free(struct cache *c)
{
	if (!c)
		return;
	free(c->blocks);
	free(c->free);
	free(c->table);
	free(c);
}

size_t cache_blocks(const struct cache *c)
{
	return c->count;
}

size_t cache_free_blocks(const struct cache *c)
{
	return (size_t)c->free_count + c->idle;
}

static uint32_t *chain(const struct cache *c, const struct cache_key *key)
{
	uint64_t hash;

	memcpy(&hash, key->digest, sizeof(hash));
	return &c->table[hash % c->table_size];
}

static uint32_t lookup(const struct cache *c, const struct cache_key *key)
{
	uint32_t i = *chain(c, key);

	while (i != CACHE_NONE && memcmp(&c->blocks[i].key, key, sizeof(*key)) != 0)
		i = c->blocks[i].next;
	return i;
}

static void unpublish(struct cache *c, uint32_t i)
{
	uint32_t *link = chain(c, &c->blocks[i].key);

	while (*link != i)
		link = &c->blocks[*link].next;
	*link = c->blocks[i].next;
	c->blocks[i].published = false;
}

static void ring_remove(struct cache *c, uint32_t i)
{
	const struct block *b = &c->blocks[i];

	c->blocks[b->older].newer = b->newer;
	c->blocks[b->newer].older = b->older;
	c->idle--;
}

static void ring_add(struct cache *c, uint32_t i)
{
	struct block *head = &c->blocks[c->count];

	c->blocks[i].older = head->older;
	c->blocks[i].newer = c->count;
	c->blocks[head->older].newer = i;
	head->older = i;
	c->idle++;
}

uint32_t cache_take(struct cache *c)
{
	uint32_t i;

	if (c->free_count) {
		i = c->free[--c->free_count];
	} else if (c->idle) {
		i = c->blocks[c->count].newer;
		ring_remove(c, i);
		unpublish(c, i);
	} else {
		return CACHE_NONE;
	}
	c->blocks[i].references = 1;
	return i;
}

void cache_release(struct cache *c, uint32_t block)
{
	struct block *b = &c->blocks[block];

	if (--b->references)
		return;
	if (b->published)
		ring_add(c, block);
	else
		c->free[c->free_count++] = block;
}

uint32_t cache_find(struct cache *c, const struct cache_key *key)
{
	uint32_t i = lookup(c, key);

	if (i != CACHE_NONE && c->blocks[i].references++ == 0)
		ring_remove(c, i);
	return i;
}

void cache_publish(struct cache *c, uint32_t block, const struct cache_key *key)
{
	uint32_t *link = chain(c, key);
	struct block *b = &c->blocks[block];

	if (b->published || lookup(c, key) != CACHE_NONE)
		return;
	b->key = *key;
	b->published = true;
	b->next = *link;
	*link = block;
}
