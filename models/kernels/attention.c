/* SPDX-License-Identifier: MIT
 *
 * attention: share out queries among tiles, and tiles among threads. See attention.h.
 *
 * In pages, a tile is one key/value head and rows of one sequence that follow each other, all query
 * heads that read it. In segments it is one head and a run of tokens; heads go one after the other,
 * so that the packed keys and values of one head, which all tiles read, stay in the cache.
 */
#include "kernels/attention.h"

#include "base/num.h"
#include "kernels/attention_tile.h"

#include <string.h>

enum { CACHE_LINE = 64, FETCH_TOKENS = 8 };

struct paged {
	const struct kv_shape *shape;
	const struct attention_row *rows;
	unsigned group; /* query heads a key/value head */
	float scale;
	size_t *starts;		      /* rows at which the tiles start, and the end */
	struct attention_tile *tiles; /* of each thread */
};

static void prepare(struct attention_tile *t, const struct kv_shape *shape, float scale)
{
	t->shape = shape;
	t->product = product();
	t->row = rows_of_level();
	t->scale = scale;
	t->queries = 0;
}

static void paged_tile(void *arg, size_t i, unsigned thread)
{
	const struct paged *p = arg;
	struct attention_tile *t = &p->tiles[thread];
	size_t tile = i / p->shape->heads, head = i % p->shape->heads, dim = p->shape->dim;

	prepare(t, p->shape, p->scale);
	t->pages = p->rows[p->starts[tile]].pages;
	t->offset = head * kv_head_size(p->shape);
	for (size_t r = p->starts[tile]; r < p->starts[tile + 1]; r++) {
		for (unsigned g = 0; g < p->group; g++) {
			size_t at = (head * p->group + g) * dim;

			attention_tile_add(t, p->rows[r].q + at, p->rows[r].out + at,
					   p->rows[r].keys);
		}
	}
	attention_tile_run(t);
}

static size_t cut_into_tiles(const struct paged *p, size_t count)
{
	size_t tiles = 0, most = TILE_QUERIES / p->group, start = 0;

	for (size_t r = 0; r < count; r++) {
		if (r == 0 || r - start == most || p->rows[r].pages != p->rows[r - 1].pages ||
		    p->rows[r].keys < p->rows[r - 1].keys) {
			start = r;
			p->starts[tiles++] = r;
		}
	}
	p->starts[tiles] = count;
	return tiles;
}

void attention_paged(const struct kv_shape *shape, struct pool *pool, unsigned q_heads, float scale,
		     const struct attention_row *rows, size_t count)
{
	struct paged p = {
		.shape = shape, .rows = rows, .group = q_heads / shape->heads, .scale = scale};
	size_t tiles_size = pool_threads(pool) * sizeof(*p.tiles);

	if (p.group > TILE_QUERIES || shape->dim > DIM_MAX)
		BUG("%u query heads a head of %u", p.group, shape->dim);
	p.tiles = pool_scratch(pool, tiles_size + (count + 1) * sizeof(*p.starts));
	if (!p.tiles)
		die(EX_BUG, "out of memory");
	p.starts = (size_t *)((char *)p.tiles + tiles_size);
	pool_run(pool, paged_tile, &p, cut_into_tiles(&p, count) * shape->heads);
}

struct segments {
	struct kv_shape shape; /* of one head */
	float scale;
	const float *q, *k, *v;
	float *out;
	size_t stride, out_stride;
	const size_t *segments;
	size_t count;
	size_t *pages, *tiles; /* index of each segment's first, and the end */
	char *packed;
	struct attention_tile *tile; /* of each thread */
};

/* The segment of whose things (pages or tiles, first their indices) i is one. */
static size_t segment_of(const size_t *first, size_t count, size_t i)
{
	size_t low = 0, high = count;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (first[middle] <= i)
			low = middle;
		else
			high = middle;
	}
	return low;
}

static size_t divide_up(size_t a, size_t b)
{
	return (a + b - 1) / b;
}

/* A head's numbers are a short run in each token's: a CPU does not see where the next one begins.
 */
static void fetch_ahead(const float *p, size_t stride, size_t token, size_t tokens, size_t dim)
{
	if (token + FETCH_TOKENS >= tokens)
		return;
	p += (token + FETCH_TOKENS) * stride;
	for (size_t d = 0; d < dim; d += CACHE_LINE / sizeof(*p))
		__builtin_prefetch(p + d);
}

static void pack_page(void *arg, size_t i, unsigned thread)
{
	const struct segments *s = arg;
	size_t segment = segment_of(s->pages, s->count, i), size = kv_head_size(&s->shape);
	size_t token = s->segments[segment] + (i - s->pages[segment]) * KV_PAGE;
	size_t last = min_u64(token + KV_PAGE, s->segments[segment + 1]),
	       tokens = s->segments[s->count];

	(void)thread;
	memset(s->packed + i * size, 0, size);
	for (unsigned slot = 0; token < last; slot++, token++) {
		fetch_ahead(s->k, s->stride, token, tokens, s->shape.dim);
		fetch_ahead(s->v, s->stride, token, tokens, s->shape.dim);
		kv_store_head(&s->shape, s->packed + i * size, slot, s->k + token * s->stride,
			      s->v + token * s->stride);
	}
}

static void segment_tile(void *arg, size_t i, unsigned thread)
{
	const struct segments *s = arg;
	struct attention_tile *t = &s->tile[thread];
	size_t segment = segment_of(s->tiles, s->count, i), tile = i - s->tiles[segment];
	size_t start = s->segments[segment], keys = s->segments[segment + 1] - start;
	size_t queries = divide_up(keys, s->tiles[segment + 1] - s->tiles[segment]);
	size_t token = start + tile * queries, last = min_u64(token + queries, start + keys);

	prepare(t, &s->shape, s->scale);
	t->pages = NULL;
	t->page_size = kv_head_size(&s->shape);
	t->first = s->packed + s->pages[segment] * t->page_size;
	for (; token < last; token++) {
		fetch_ahead(s->q, s->stride, token, s->segments[s->count], s->shape.dim);
		fetch_ahead(s->out, s->out_stride, token, s->segments[s->count], s->shape.dim);
		attention_tile_add(t, s->q + token * s->stride, s->out + token * s->out_stride,
				   keys);
	}
	attention_tile_run(t);
}

static enum rc prepare_segments(struct segments *s, struct pool *pool, struct err *err)
{
	size_t tokens = s->segments[s->count], tile_size = pool_threads(pool) * sizeof(*s->tile);
	size_t index = (s->count + 1) * sizeof(*s->pages), pages = 0, packed;

	for (size_t i = 0; i < s->count; i++)
		pages += divide_up(s->segments[i + 1] - s->segments[i], KV_PAGE);
	if (checked_mul(pages, kv_head_size(&s->shape), &packed) &&
	    checked_add(packed, tile_size + 2 * index, &packed))
		s->tile = pool_scratch(pool, packed);
	if (!s->tile)
		return err_set(err, RC_FATAL, "memory", "no memory for the keys of %zu tokens",
			       tokens);
	s->packed = (char *)s->tile + tile_size;
	s->pages = (size_t *)(s->packed + pages * kv_head_size(&s->shape));
	s->tiles = s->pages + s->count + 1;
	s->pages[0] = s->tiles[0] = 0;
	for (size_t i = 0; i < s->count; i++) {
		size_t keys = s->segments[i + 1] - s->segments[i];

		s->pages[i + 1] = s->pages[i] + divide_up(keys, KV_PAGE);
		s->tiles[i + 1] = s->tiles[i] + divide_up(keys, TILE_QUERIES);
	}
	return RC_OK;
}

enum rc attention_segments(struct pool *pool, unsigned heads, unsigned dim, enum number number,
			   float scale, const float *q, const float *k, const float *v,
			   size_t stride, float *out, size_t out_stride, const size_t *segments,
			   size_t count, struct err *err)
{
	struct segments s = {
		.shape = {.heads = 1, .dim = dim, .number = number},
		.scale = scale,
		.q = q,
		.k = k,
		.v = v,
		.out = out,
		.stride = stride,
		.out_stride = out_stride,
		.segments = segments,
		.count = count,
	};

	if (dim > DIM_MAX)
		BUG("a head of %u", dim);
	if (count == 0)
		return RC_OK;
	if (prepare_segments(&s, pool, err) != RC_OK)
		return RC_FATAL;
	for (unsigned h = 0; h < heads; h++, s.q += dim, s.k += dim, s.v += dim, s.out += dim) {
		pool_run(pool, pack_page, &s, s.pages[count]);
		pool_run(pool, segment_tile, &s, s.tiles[count]);
	}
	return RC_OK;
}
