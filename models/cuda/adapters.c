/* SPDX-License-Identifier: MIT
 *
 * Adapters beside the model on the GPU: their weights, and which rows of a step go by which.
 *
 * The memory they take is the cache's: with each one the plan is settled anew, for what was free before anything
 * was loaded; then the cache is smaller, or the adapter is refused. What steps need for them is taken with the
 * cache, when all are there.
 *
 * Rows that go by the same adapters, of prompts or written, stand together in tiles (struct cuda_adapted), which
 * are sent with each step; so a recorded step serves any adapters, and for a step without it is another one.
 */
#include "cuda/device.h"

#include "base/num.h"

#include <stdlib.h>
#include <string.h>

struct cuda_adapters {
	struct text_adapter adapters[ADAPTERS_MAX];
	struct cuda_addition *places[ADAPTERS_MAX]; /* on the GPU: [layers][TEXT_LINEARS] */
	size_t count, weights;			    /* weights: bytes of them all, as planned */
	size_t widest, (*width)[TEXT_LINEARS];	    /* rows of the largest A: of all, of a layer's each */
	struct cuda_buffer low, tiles;		    /* on the GPU, of steps; and in pinned memory: */
	struct cuda_adapted *tile[CUDA_FLIGHTS];
};

/* Tiles of the largest step: those of each sequence may go by others. */
static size_t tiles_max(const struct cuda *c)
{
	return CUDA_ROWS / CUDA_ADAPTED_ROWS + c->compute.sequences;
}

static size_t places_size(const struct cuda *c)
{
	return c->config.text.layers * sizeof(struct cuda_addition[TEXT_LINEARS]);
}

/* What steps need for so many, the largest A of which has so many rows. */
static size_t low_size(size_t count, size_t widest)
{
	return CUDA_ROWS * min_u64(count, ADAPTED_MAX) * widest * sizeof(uint16_t);
}

static size_t tiles_size(const struct cuda *c)
{
	return tiles_max(c) * sizeof(struct cuda_adapted);
}

/* What all will take with one more; weights: theirs alone. */
static enum rc plan(struct cuda *c, struct adapter *adapter, struct memory_plan *p, size_t *weights,
		    struct err *err)
{
	struct cuda_packer counter = c->packer;
	struct cuda_adapters *a = c->adapters;
	size_t widest = a->widest;
	struct text_adapter shapes;
	enum rc rc;

	counter.plan = p;
	counter.part = MEMORY_ADAPTERS;
	*p = c->plan;
	p->part[MEMORY_ADAPTERS] = a->weights;
	rc = text_adapter_load(&shapes, &c->config.text, adapter, &counter.packer, err);
	if (rc != RC_OK)
		return rc;
	for (unsigned i = 0; i < shapes.layers; i++)
		for (unsigned k = 0; k < TEXT_LINEARS; k++)
			widest = max_u64(widest, shapes.layer[i][k].a.out);
	text_adapter_free(&shapes, &counter.packer);
	memory_add(p, MEMORY_ADAPTERS, places_size(c), 1);
	*weights = p->part[MEMORY_ADAPTERS];
	memory_add(p, MEMORY_ADAPTERS, low_size(a->count + 1, widest), 1);
	memory_add(p, MEMORY_ADAPTERS, tiles_size(c), 1);
	return RC_OK;
}

/* Columns as they lie in what the product gives, whose parts are padded each. */
static struct cuda_addition addition_of(const struct cuda *c, const struct text_adapter *t, unsigned layer,
					enum text_linear which)
{
	const struct text_addition *l = &t->layer[layer][which];
	struct cuda_addition to = {.a = l->a.weight, .parts = l->count, .scale = t->scale};

	for (unsigned i = 0; i < l->count; i++) {
		to.b[i] = l->b[i].weight;
		to.first[i] = (uint32_t)l->first[i];
		if (which == TEXT_GATE_UP && l->first[i])
			to.first[i] = (uint32_t)cuda_round(c->config.text.intermediate);
		to.out[i] = (uint32_t)l->b[i].out;
		to.rank = (uint32_t)l->b[i].in;
	}
	return to;
}

static enum rc load(struct cuda *c, struct adapter *adapter, struct err *err)
{
	struct cuda_adapters *a = c->adapters;
	struct text_adapter *t = &a->adapters[a->count];
	struct cuda_addition *there, *all;
	enum rc rc = text_adapter_load(t, &c->config.text, adapter, &c->packer.packer, err);

	if (rc != RC_OK)
		return rc;
	there = gpu_alloc(c->gpu, places_size(c));
	if (!there) {
		text_adapter_free(t, &c->packer.packer);
		return cuda_full(c->gpu, places_size(c), err);
	}
	all = xmalloc(places_size(c));
	for (unsigned i = 0; i < t->layers; i++) {
		for (unsigned k = 0; k < TEXT_LINEARS; k++) {
			size_t width = t->layer[i][k].a.out;

			all[i * TEXT_LINEARS + k] = addition_of(c, t, i, k);
			a->width[i][k] = max_u64(a->width[i][k], width);
			a->widest = max_u64(a->widest, width);
		}
	}
	gpu_write(c->gpu, there, all, places_size(c));
	free(all);
	a->places[a->count++] = there;
	return RC_OK;
}

static struct cuda_adapters *adapters_new(const struct cuda *c)
{
	struct cuda_adapters *a = xcalloc(1, sizeof(*a));

	a->width = xcalloc(c->config.text.layers, sizeof(*a->width));
	return a;
}

enum rc cuda_adapters_add(struct cuda *c, struct adapter *adapter, struct err *err)
{
	struct memory_plan p;
	size_t weights;
	uint32_t blocks;
	enum rc rc;

	if (c->kv.pages)
		BUG("an adapter comes when the cache is there already");
	/* They are packed as bf16 weights are, and read the rows that the layers' products read. */
	if (c->layers.number == NUMBER_E4M3 && c->config.text.intermediate % 16)
		return err_set(err, RC_FATAL, "adapter",
			       "beside fp8 weights adapters are applied to an intermediate_size that is a multiple "
			       "of 16, not to %u",
			       c->config.text.intermediate);
	if (!c->adapters)
		c->adapters = adapters_new(c);
	rc = plan(c, adapter, &p, &weights, err);
	if (rc == RC_OK)
		rc = memory_settle(&p, &c->cache, c->room, &blocks, err);
	if (rc == RC_OK)
		rc = load(c, adapter, err);
	if (rc != RC_OK)
		return rc;
	c->plan = p;
	c->adapters->weights = weights;
	c->compute.cache_size = blocks * c->compute.block_size;
	return RC_OK;
}

enum rc cuda_adapters_reserve(struct cuda *c, struct err *err)
{
	struct cuda_pinned pinned[CUDA_FLIGHTS];
	struct cuda_adapters *a = c->adapters;

	if (!a || !a->count || a->tile[CUDA_FLIGHTS - 1])
		return RC_OK;
	gpu_free(c->gpu, a->low.data);
	gpu_free(c->gpu, a->tiles.data);
	a->low.size = low_size(a->count, a->widest);
	a->tiles.size = tiles_size(c);
	a->low.data = gpu_alloc(c->gpu, a->low.size);
	a->tiles.data = gpu_alloc(c->gpu, a->tiles.size);
	if (!a->low.data || !a->tiles.data)
		return cuda_full(c->gpu, a->low.size + a->tiles.size, err);
	for (unsigned i = 0; i < CUDA_FLIGHTS; i++)
		pinned[i] = (struct cuda_pinned){(void **)&a->tile[i], a->tiles.size};
	return cuda_pin(c, pinned, CUDA_FLIGHTS, err);
}

void cuda_adapters_close(struct cuda *c)
{
	struct cuda_adapters *a = c->adapters;

	if (!a)
		return;
	gpu_free(c->gpu, a->low.data);
	gpu_free(c->gpu, a->tiles.data);
	for (size_t i = 0; i < a->count; i++) {
		gpu_free(c->gpu, a->places[i]);
		text_adapter_free(&a->adapters[i], &c->packer.packer);
	}
	free(a->width);
	free(a);
}

/* ---- steps ---- */

/* The tile that the next row of these goes to: the last of theirs is the only one that may have room. */
static struct cuda_adapted *tile_of(const struct cuda_adapters *a, struct cuda_adapted *tiles, size_t *count,
				    size_t most, const struct adapted *adapted)
{
	struct cuda_adapted new = {.adapters = adapted->count};

	for (unsigned k = 0; k < adapted->count; k++)
		new.adapter[k] = a->places[adapted->number[k]];
	for (size_t i = *count; i-- > 0;)
		if (!memcmp(tiles[i].adapter, new.adapter, sizeof(new.adapter))) {
			if (tiles[i].rows < CUDA_ADAPTED_ROWS)
				return &tiles[i];
			break;
		}
	if (*count == most)
		BUG("rows of more than %zu sequences in one call", most);
	tiles[*count] = new;
	return &tiles[(*count)++];
}

size_t cuda_adapters_send(struct cuda *c, unsigned flight, const struct text_row *const *rows, size_t n,
			  bool repeats)
{
	struct cuda_adapters *a = c->adapters;
	size_t count = 0, used;

	if (!a || !a->count)
		return 0;
	for (size_t i = 0; i < n; i++) {
		struct cuda_adapted *tile;

		if (!rows[i]->adapted.count)
			continue;
		tile = tile_of(a, a->tile[flight], &count, tiles_max(c), &rows[i]->adapted);
		tile->row[tile->rows++] = (uint32_t)i;
	}
	used = count;
	if (repeats)
		count = replay_tiles(used, tiles_max(c));
	memset(a->tile[flight] + used, 0, (count - used) * sizeof(**a->tile));
	gpu_send(c->gpu, a->tiles.data, a->tile[flight], count * sizeof(**a->tile));
	return count;
}

void cuda_adapters_apply(struct cuda *c, size_t tiles, unsigned layer, enum text_linear which,
			 const struct linear *w, const void *x, void *y)
{
	const struct cuda_adapters *a = c->adapters;
	struct cuda_adaptation p = {.place = layer * (size_t)TEXT_LINEARS + which,
				    .in = w->in,
				    .out = w->out,
				    .x = x,
				    .y = y};

	if (!tiles)
		return;
	p.most = (unsigned)min_u64(a->count, ADAPTED_MAX);
	p.width = a->width[layer][which];
	p.tiles = a->tiles.data;
	p.low = a->low.data;
	gpu_check(c->gpu, cuda_adapt(gpu_stream(c->gpu), &p, tiles), "adapters");
}
