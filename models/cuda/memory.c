/* SPDX-License-Identifier: MIT
 *
 * The plan of a GPU's memory. Sums saturate, so that a size from a file that is too large to count does not
 * fit rather than wrap.
 */
#include "cuda/memory.h"

#include "base/num.h"

#include <stdio.h>

enum { LARGE = 1 << 20, PAGE = 2 << 20, PIECE = 512 };

static size_t round_up(size_t n, size_t to)
{
	size_t all;

	return checked_add(n, to - 1, &all) ? all / to * to : SIZE_MAX;
}

static size_t sum(size_t a, size_t b)
{
	size_t all;

	return checked_add(a, b, &all) ? all : SIZE_MAX;
}

size_t memory_round(size_t size)
{
	return round_up(size ? size : 1, size >= LARGE ? PAGE : PIECE);
}

void memory_add(struct memory_plan *p, enum memory_part part, size_t count, size_t size)
{
	size_t bytes;

	bytes = checked_mul(count, size, &bytes) ? memory_round(bytes) : SIZE_MAX;
	p->part[part] = sum(p->part[part], bytes);
}

size_t memory_total(const struct memory_plan *p)
{
	size_t all = 0;

	for (unsigned i = 0; i < MEMORY_PARTS; i++)
		all = sum(all, p->part[i]);
	return all;
}

/* Rounded up: what is too much by a byte is seen to be. */
static size_t mebibytes(size_t bytes)
{
	return round_up(bytes, 1 << 20) >> 20;
}

static enum rc refuse(const struct memory_plan *p, size_t room, struct err *err)
{
	static const char *const names[MEMORY_PARTS] = {
		"weights",  "weights of the tower", "a step", "logits",
		"sampling", "a page",		    "adapters", "cache"};
	size_t needed = sum(memory_total(p), MEMORY_RESERVE);
	char text[400];
	size_t at = 0;

	for (unsigned i = 0; i < MEMORY_PARTS; i++)
		if (p->part[i])
			at += (size_t)snprintf(text + at, sizeof(text) - at, "%s %zu, ", names[i],
					       mebibytes(p->part[i]));
	return err_set(err, RC_FATAL, "memory",
		       "it does not fit into the GPU's memory: %zu MiB are needed (%sthe driver %zu), %zu "
		       "are free",
		       mebibytes(needed), text, MEMORY_RESERVE >> 20, room >> 20);
}

/* Blocks in whole pages, so that rounding takes no more than is there. */
static size_t fits(size_t left, const struct memory_cache *cache)
{
	size_t blocks = left / PAGE * PAGE / cache->block;

	return blocks > cache->spare ? blocks - cache->spare : 0;
}

enum rc memory_settle(struct memory_plan *p, const struct memory_cache *cache, size_t room,
		      uint32_t *blocks, struct err *err)
{
	size_t needed, left, count = cache->asked / cache->block;

	p->part[MEMORY_CACHE] = 0;
	needed = sum(memory_total(p), MEMORY_RESERVE);
	left = needed < room ? room - needed : 0;
	if (!cache->asked)
		count = min_u64(max_u64(fits(left, cache), cache->least), cache->most);
	count = min_u64(count, UINT32_MAX - 1);
	memory_add(p, MEMORY_CACHE, count + cache->spare, cache->block);
	if (sum(needed, p->part[MEMORY_CACHE]) > room)
		return refuse(p, room, err);
	if (!count)
		return err_set(err, RC_FATAL, "memory",
			       "a cache of %zu bytes holds nothing: a block takes %zu", cache->asked,
			       cache->block);
	*blocks = (uint32_t)count;
	return RC_OK;
}
