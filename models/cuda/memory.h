/* SPDX-License-Identifier: MIT
 *
 * cuda/memory: where a GPU's memory goes, known before anything is loaded.
 *
 * Everything that the engine takes has a part here; what is left is the cache's. Arithmetic alone: sizes
 * come from those who allocate (device.c, language.c, tower.c), which take nothing later that they have
 * not announced.
 */
#ifndef MODELS_CUDA_MEMORY_H
#define MODELS_CUDA_MEMORY_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum memory_part {
	MEMORY_WEIGHTS,	 /* of the language model, padded as they will lie there */
	MEMORY_TOWER,	 /* the same of the vision tower */
	MEMORY_STEP,	 /* rows of the largest step on their way through the layers */
	MEMORY_LOGITS,
	MEMORY_SAMPLING, /* what a choice takes, and the tokens seen */
	MEMORY_PAGE,	 /* patches of the largest pass on their way through the tower */
	MEMORY_ADAPTERS, /* weights of the adapters, and what a step needs for them */
	MEMORY_CACHE,	 /* keys and values */
	MEMORY_PARTS
};

struct memory_plan {
	size_t part[MEMORY_PARTS]; /* bytes; SIZE_MAX: more than can be counted */
};

/* What is kept free for the driver: kernels, which are loaded as they are first used, and graphs. An
 * estimate: not measured. */
#define MEMORY_RESERVE ((size_t)512 << 20)
/* Of that, what graphs leave to kernels: what is loaded when nothing is left ends the process. */
#define MEMORY_FOR_KERNELS (MEMORY_RESERVE / 2)

/* Bytes that an allocation takes: pages of 2 MiB for a large one, pieces of such a page for a small one. */
size_t memory_round(size_t size);

/* One allocation of count * size bytes. */
void memory_add(struct memory_plan *, enum memory_part, size_t count, size_t size);
size_t memory_total(const struct memory_plan *);

/* What is wanted of the cache. */
struct memory_cache {
	size_t block; /* bytes */
	size_t asked; /* bytes, for as many whole blocks; 0: what is left, so far as it is of use */
	uint32_t least, most; /* blocks; for asked == 0 */
	uint32_t spare;	      /* blocks that are there beside those */
};

/*
 * The cache's part, when all others are there: *blocks. RC_FATAL, reason "memory", when it does not fit
 * into `room` free bytes: the text has every part.
 */
enum rc memory_settle(struct memory_plan *, const struct memory_cache *, size_t room,
		      uint32_t *blocks, struct err *);

#endif
