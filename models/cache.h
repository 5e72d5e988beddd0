/* SPDX-License-Identifier: MIT
 *
 * cache: who has which block of keys and values.
 *
 * A block holds KV_PAGE tokens in all layers, and is known here by its number alone: its memory is the
 * device's (compute.h). One that is full and whose tokens are part of a
 * prompt can be published under a key that says what all tokens up to its end are; another sequence
 * that begins alike takes it instead of computing it again. A published block that nobody uses
 * stays until its room is needed, the one longest unused goes first.
 *
 * Invariant: a block with references is never handed out; a published one is never written to.
 */
#ifndef MODELS_CACHE_H
#define MODELS_CACHE_H

#include <stddef.h>
#include <stdint.h>

/* SHA-256 of the key before it and of the block's tokens: equal keys, equal blocks. */
struct cache_key {
	uint8_t digest[32];
};

struct cache;

#define CACHE_NONE UINT32_MAX

struct cache *cache_new(uint32_t blocks);
void cache_free(struct cache *);

size_t cache_blocks(const struct cache *);
size_t cache_free_blocks(const struct cache *); /* unused ones, published or not */

/* A block with one reference, or CACHE_NONE when all are in use. */
uint32_t cache_take(struct cache *);
void cache_release(struct cache *, uint32_t block);

/* The block published under the key, with one more reference, or CACHE_NONE. */
uint32_t cache_find(struct cache *, const struct cache_key *);

/* Nothing happens when another block has the key already. */
void cache_publish(struct cache *, uint32_t block, const struct cache_key *);

#endif
