/* SPDX-License-Identifier: MIT
 *
 * attention: softmax(q k' scale) v, never with all scores in memory (one block of keys at a time,
 * the running maximum and sum kept: Milakov and Gimelshein, arXiv 1805.02867; Dao et al.,
 * arXiv 2205.14135).
 *
 * Keys and values lie in pages of KV_PAGE tokens. A page belongs to one layer of one sequence, and
 * holds all its key/value heads; how it is laid out inside is the kernels' own business. The page
 * tables are the caller's: a prefix that several sequences share is in the tables of all of them.
 *
 * Invariant: as linear.h has it, the result of one query row depends on its own q and its own keys
 * alone, page by page from the first: not on the other rows of the call nor on how a prompt was cut
 * into calls.
 */
#ifndef MODELS_KERNELS_ATTENTION_H
#define MODELS_KERNELS_ATTENTION_H

#include "kernels/linear.h"

#include <stddef.h>

enum { KV_PAGE = 32 };

struct kv_shape {
	unsigned heads;	    /* key/value heads */
	unsigned dim;	    /* of a head: a multiple of 8, up to 256 */
	enum number number; /* BF16, or F32 where the model is F32 */
};

size_t kv_page_size(const struct kv_shape *); /* bytes; pages are aligned to 64 */

/* Put a token's keys and values, [heads][dim] each, into slot 0..KV_PAGE-1. A page starts as zeros.
 */
void kv_store(const struct kv_shape *, void *page, unsigned slot, const float *k, const float *v);

/* One row of queries: a token of a sequence. */
struct attention_row {
	const float *q;	    /* [q_heads][dim] */
	float *out;	    /* [q_heads][dim] */
	void *const *pages; /* the sequence's page table for this layer */
	size_t keys;	    /* it attends to tokens 0 .. keys-1 (causal: its own index + 1) */
};

/*
 * q_heads is a multiple of shape->heads; query head h reads key/value head h / (q_heads / heads).
 * Rows of one sequence that follow each other are worked on together.
 */
void attention_paged(const struct kv_shape *, struct pool *, unsigned q_heads, float scale,
		     const struct attention_row *rows, size_t count);

/*
 * Without a cache, every token to every token of its segment (vision): q, k, v [tokens][stride],
 * heads of dim beside each other; out [tokens][out_stride]. Segments: count + 1 ascending offsets,
 * the first 0, the last the number of tokens. number: in which q, k and the weights multiply.
 * RC_FATAL when memory for the packed keys is not to be had.
 */
enum rc attention_segments(struct pool *, unsigned heads, unsigned dim, enum number number,
			   float scale, const float *q, const float *k, const float *v,
			   size_t stride, float *out, size_t out_stride, const size_t *segments,
			   size_t count, struct err *);

#endif
