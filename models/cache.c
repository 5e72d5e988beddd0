/* SPDX-License-Identifier: MIT
 *
 * One mapping cut into blocks, a stack of the free ones, and a chained hash table of the published.
 */
#include "cache.h"

#include "base/num.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NONE SIZE_MAX

struct block {
	unsigned references;
	bool published;
	struct cache_key key;
	size_t next;   /* in its hash chain */
	uint64_t used; /* when it was last released */
};

struct cache {
	char *memory;
	size_t block_size, count, size;
	struct block *blocks;
	size_t *free;		 /* stack of blocks that are neither referenced nor published */
	size_t free_count, idle; /* idle: published without references */
	size_t *table, table_size;
	uint64_t clock;
};

enum rc cache_open(struct cache **out, size_t block_size, size_t blocks, struct err *err)
{
	struct cache *c = xcalloc(1, sizeof(*c));
	size_t size;

	*out = NULL;
	block_size = (block_size + 63) / 64 * 64;
	if (!checked_mul(block_size, blocks, &size) || !size) {
		free(c);
		return err_set(err, RC_FATAL, "memory", "a cache of %zu blocks of %zu bytes",
			       blocks, block_size);
	}
	c->memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (c->memory == MAP_FAILED) {
		free(c);
		return err_errno(err, RC_FATAL, "memory", "no %zu bytes for keys and values", size);
	}
	madvise(c->memory, size, MADV_HUGEPAGE);
	c->block_size = block_size;
	c->count = c->free_count = blocks;
	c->size = size;
	c->blocks = xcalloc(blocks, sizeof(*c->blocks));
	c->free = xmalloc(blocks * sizeof(*c->free));
	c->table_size = 2 * blocks + 1;
	c->table = xmalloc(c->table_size * sizeof(*c->table));
	for (size_t i = 0; i < blocks; i++)
		c->free[i] = blocks - 1 - i;
	for (size_t i = 0; i < c->table_size; i++)
		c->table[i] = NONE;
	*out = c;
	return RC_OK;
}

void cache_close(struct cache *c)
{
	if (!c)
		return;
	munmap(c->memory, c->size);
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
	return c->free_count + c->idle;
}

static size_t *chain(const struct cache *c, const struct cache_key *key)
{
	uint64_t hash;

	memcpy(&hash, key->digest, sizeof(hash));
	return &c->table[hash % c->table_size];
}

static size_t lookup(const struct cache *c, const struct cache_key *key)
{
	size_t i = *chain(c, key);

	while (i != NONE && memcmp(&c->blocks[i].key, key, sizeof(*key)) != 0)
		i = c->blocks[i].next;
	return i;
}

static void unpublish(struct cache *c, size_t i)
{
	size_t *link = chain(c, &c->blocks[i].key);

	while (*link != i)
		link = &c->blocks[*link].next;
	*link = c->blocks[i].next;
	c->blocks[i].published = false;
}

/* The idle block that has been unused longest. */
static size_t evict(struct cache *c)
{
	size_t oldest = NONE;

	for (size_t i = 0; i < c->count; i++)
		if (c->blocks[i].published && !c->blocks[i].references &&
		    (oldest == NONE || c->blocks[i].used < c->blocks[oldest].used))
			oldest = i;
	if (oldest != NONE) {
		unpublish(c, oldest);
		c->idle--;
	}
	return oldest;
}

void *cache_take(struct cache *c)
{
	size_t i = c->free_count ? c->free[--c->free_count] : evict(c);

	if (i == NONE)
		return NULL;
	c->blocks[i].references = 1;
	return memset(c->memory + i * c->block_size, 0, c->block_size);
}

static size_t index_of(const struct cache *c, const void *block)
{
	return (size_t)((const char *)block - c->memory) / c->block_size;
}

void cache_release(struct cache *c, void *block)
{
	size_t i = index_of(c, block);
	struct block *b = &c->blocks[i];

	if (--b->references)
		return;
	b->used = ++c->clock;
	if (b->published)
		c->idle++;
	else
		c->free[c->free_count++] = i;
}

void *cache_find(struct cache *c, const struct cache_key *key)
{
	size_t i = lookup(c, key);

	if (i == NONE)
		return NULL;
	if (c->blocks[i].references++ == 0)
		c->idle--;
	return c->memory + i * c->block_size;
}

void cache_publish(struct cache *c, void *block, const struct cache_key *key)
{
	size_t i = index_of(c, block), *link = chain(c, key);
	struct block *b = &c->blocks[i];

	if (b->published || lookup(c, key) != NONE)
		return;
	b->key = *key;
	b->published = true;
	b->next = *link;
	*link = i;
}
