/* SPDX-License-Identifier: MIT
 *
 * cache: the blocks of keys and values, shared out to sequences.
 *
 * A block holds KV_PAGE tokens in all layers. One that is full and whose tokens are part of a
 * prompt can be published under a key that says what all tokens up to its end are; another sequence
 * that begins alike takes it instead of computing it again. A published block that nobody uses
 * stays until its room is needed, the one longest unused goes first.
 *
 * Invariant: a block with references is never handed out; a published one is never written to.
 */
#ifndef MODELS_CACHE_H
#define MODELS_CACHE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* SHA-256 of the key before it and of the block's tokens: equal keys, equal blocks. */
struct cache_key {
	uint8_t digest[32];
};

struct cache;

/* RC_FATAL when memory is not to be had. */
enum rc cache_open(struct cache **, size_t block_size, size_t blocks, struct err *);
void cache_close(struct cache *);

size_t cache_blocks(const struct cache *);
size_t cache_free_blocks(const struct cache *); /* unused ones, published or not */

/* A block of zeros with one reference, or NULL when all are in use. */
void *cache_take(struct cache *);
void cache_release(struct cache *, void *block);

/* The block published under the key, with one more reference; NULL: none. */
void *cache_find(struct cache *, const struct cache_key *);

/* Nothing happens when another block has the key already. */
void cache_publish(struct cache *, void *block, const struct cache_key *);

#endif
