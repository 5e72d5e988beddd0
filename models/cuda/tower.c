/* SPDX-License-Identifier: MIT
 *
 * The vision towers on the GPU: vision.c and vision_*.c, with the kernels of this folder. The families
 * differ in the norm (with a bias: Qwen3's LayerNorm, without: Qwen2.5's RMSNorm), in the gate of their
 * feed-forward part, in windows, and in what is learned about positions.
 *
 * Qwen2.5's patches go over in window order already, and its tokens are put back in order on the host.
 *
 * Small pages go through together: their patches lie one behind the other without anything between them,
 * and each is a segment of attention of its own. All else is row by row, so that a page gives the same bits
 * whatever is beside it.
 *
 * Pages are looked at on a stream of their own (c->eye), beside steps of the language model: neither waits for
 * the other, and neither's kernels see what the other does. A pass under way has pinned memory of its own
 * (struct look) until somebody asks for its features; on the GPU passes use the same memory one after the other.
 */
#include "cuda/device.h"

#include "base/num.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EPS 1e-6f

enum { WIDE_ROWS = 16384 }; /* of the feed-forward part at a time: bounds its scratch */

/* A page in a pass. */
struct page {
	unsigned rows, columns;
	size_t first, tokens; /* among those of the pass */
	struct features *features;
};

/* A pass under way: how it is described to the GPU, and what came out. */
struct look {
	struct gpu_mark *done;
	/* Pinned. */
	uint16_t *patches, *out; /* out: tokens of all pages, then those of each deepstack */
	struct cuda_patch *places;
	struct cuda_tile *whole, *windows;
	/* The host's. */
	struct page *pages;
	size_t count, tokens;
	size_t *order; /* Qwen2.5: which token of its page comes k-th; else NULL */
};

struct tower {
	size_t most; /* patches of a pass */
	struct look looks[CUDA_LOOKS];
	uint64_t begun, ended; /* passes; the i-th is looks[i % CUDA_LOOKS]'s, its pages' ticket i + 1 */
	struct cuda_buffer inverse, patches, places, whole, windows;
	struct cuda_buffer x, y, delta, qkv, wide, inner, cosine, sine, merged, out;
};

/* A pass on its way through the kernels. */
struct sheet {
	struct look *look;
	size_t n, tokens;
	size_t whole, windows; /* tiles of attention */
	bool pending; /* delta is still to be added to x */
};

/* Patches of the largest page that image_fit() makes: no more than fill the most pixels, or the least,
 * where long thin pages are rounded up to whole tokens. */
static size_t patches_most(const struct model_config *config)
{
	const struct vision_config *v = &config->vision;
	double token = (double)v->patch * v->merge, least = (double)config->image.min_pixels,
	       most = fmax((double)config->image.max_pixels,
			   least + 15 * token * sqrt(least) + token * token);

	return (size_t)ceil(most / (token * token)) * v->merge * v->merge;
}

void tower_plan(struct cuda *c)
{
	const struct vision_config *v = &c->config.vision;
	const struct vision *w = c->vision;
	const struct vision_block *b = w->blocks;
	struct tower *t = c->tower = xcalloc(1, sizeof(*t));
	size_t n = t->most = max_u64(patches_most(&c->config), CUDA_PATCHES), h = v->hidden,
	       half = h / v->heads / 2, tokens = n / v->merge / v->merge, part = min_u64(n, WIDE_ROWS),
	       number = sizeof(uint16_t);

	cuda_need(c, &t->inverse, MEMORY_PAGE, half / 2, sizeof(float));
	cuda_need(c, &t->patches, MEMORY_PAGE, n * w->embed.in, number);
	cuda_need(c, &t->places, MEMORY_PAGE, n, sizeof(struct cuda_patch));
	cuda_need(c, &t->whole, MEMORY_PAGE, n / CUDA_SEGMENT_TILE + tokens, sizeof(struct cuda_tile));
	if (w->family == FAMILY_QWEN2_5_VL)
		cuda_need(c, &t->windows, MEMORY_PAGE, n / CUDA_SEGMENT_TILE_SHORT + tokens,
			  sizeof(struct cuda_tile));
	cuda_need(c, &t->x, MEMORY_PAGE, n * h, sizeof(float));
	cuda_need(c, &t->y, MEMORY_PAGE, n * h, number);
	cuda_need(c, &t->delta, MEMORY_PAGE, n * h, number);
	cuda_need(c, &t->qkv, MEMORY_PAGE, n * b->qkv.out, number);
	cuda_need(c, &t->wide, MEMORY_PAGE, part * b->up.out, number);
	cuda_need(c, &t->inner, MEMORY_PAGE, part * b->down.in, number);
	cuda_need(c, &t->cosine, MEMORY_PAGE, n * half, sizeof(float));
	cuda_need(c, &t->sine, MEMORY_PAGE, n * half, sizeof(float));
	cuda_need(c, &t->merged, MEMORY_PAGE, tokens * w->merger.fc1.out, number);
	cuda_need(c, &t->out, MEMORY_PAGE, tokens * w->merger.fc2.out, number);
}

static enum rc open_look(struct cuda *c, struct look *l, struct err *err)
{
	const struct vision_config *v = &c->config.vision;
	const struct tower *t = c->tower;
	size_t tokens = t->most / v->merge / v->merge;
	const struct cuda_pinned pieces[] = {
		{(void **)&l->patches, t->patches.size},
		{(void **)&l->out, (1 + v->deepstacks) * tokens * v->out * sizeof(*l->out)},
		{(void **)&l->places, t->places.size},
		{(void **)&l->whole, t->whole.size},
		{(void **)&l->windows, t->windows.size},
	};

	l->done = gpu_mark_new(c->eye);
	return cuda_pin(c, pieces, ARRAY_SIZE(pieces), err);
}

static void close_look(struct cuda *c, struct look *l)
{
	gpu_mark_free(c->eye, l->done);
	free(l->order);
	free(l->pages);
}

enum rc tower_open(struct cuda *c, struct err *err)
{
	enum rc rc = RC_OK;

	gpu_write(c->gpu, c->tower->inverse.data, c->vision->inverse,
		  c->config.vision.hidden / c->config.vision.heads / 4 * sizeof(float));
	for (unsigned i = 0; rc == RC_OK && i < CUDA_LOOKS; i++)
		rc = open_look(c, &c->tower->looks[i], err);
	return rc;
}

void tower_close(struct cuda *c)
{
	if (!c->tower)
		return;
	for (unsigned i = 0; i < CUDA_LOOKS; i++)
		close_look(c, &c->tower->looks[i]);
	free(c->tower);
}

/* Tiles of attention within segments, which end at these patches. */
static size_t send_tiles(struct cuda *c, const struct cuda_buffer *b, struct cuda_tile *tiles,
			 const uint32_t *ends, size_t count, unsigned tile_rows)
{
	size_t n;

	cuda_announced(b, (ends[count] / tile_rows + count) * sizeof(*tiles));
	n = cuda_segment_tiles(ends, count, tile_rows, tiles);
	gpu_send(c->eye, b->data, tiles, n * sizeof(*tiles));
	return n;
}

/* Pages attend to themselves. */
static void send_whole(struct cuda *c, struct sheet *s)
{
	const struct look *l = s->look;
	uint32_t *ends = xcalloc(l->count + 1, sizeof(*ends));
	size_t side = s->n / s->tokens;

	for (size_t i = 0; i < l->count; i++)
		ends[i + 1] = (uint32_t)((l->pages[i].first + l->pages[i].tokens) * side);
	s->whole = send_tiles(c, &c->tower->whole, l->whole, ends, l->count, CUDA_SEGMENT_TILE);
	free(ends);
}

/* And windows; which token comes k-th in its page. */
static void send_windows(struct cuda *c, struct sheet *s)
{
	struct look *l = s->look;
	uint32_t *ends = xcalloc(s->tokens + 1, sizeof(*ends));
	size_t *segments = xcalloc(s->tokens + 1, sizeof(*segments)), side = s->n / s->tokens, count = 0;

	l->order = xcalloc(s->tokens, sizeof(*l->order));
	for (const struct page *p = l->pages; p < l->pages + l->count; p++) {
		size_t windows = vision_window_order(&c->config.vision, p->rows, p->columns,
						     l->order + p->first, segments);

		for (size_t i = 1; i <= windows; i++)
			ends[++count] = (uint32_t)(p->first * side + segments[i]);
	}
	s->windows = send_tiles(c, &c->tower->windows, l->windows, ends, count, CUDA_SEGMENT_TILE_SHORT);
	free(ends);
	free(segments);
}

/* bf16, padded, in the order in which they go over. */
void *tower_pack(const struct cuda *c, float *patches, unsigned rows, unsigned columns)
{
	const struct vision_config *v = &c->config.vision;
	size_t side = (size_t)v->merge * v->merge, n = (size_t)rows * columns, in = c->vision->embed.in,
	       width = 3 * (size_t)v->temporal * v->patch * v->patch, *order = NULL, *segments;
	uint16_t *packed = xcalloc(n, in * sizeof(*packed));

	if (c->vision->family == FAMILY_QWEN2_5_VL) {
		order = xcalloc(n / side, sizeof(*order));
		segments = xcalloc(n / side + 1, sizeof(*segments));
		vision_window_order(v, rows, columns, order, segments);
		free(segments);
	}
	for (size_t i = 0; i < n; i++) {
		size_t token = order ? order[i / side] : i / side;
		const float *from = patches + (token * side + i % side) * width;

		for (size_t k = 0; k < width; k++)
			packed[i * in + k] = bf16_from_f32(from[k]);
	}
	free(order);
	free(patches);
	return packed;
}

/* Where the patches of a page lie. */
static void place_patches(const struct vision_config *v, const struct look *l, const struct page *p)
{
	size_t merge = v->merge, side = merge * merge, across = p->columns / merge;
	struct cuda_patch *places = l->places + p->first * side;

	for (size_t i = 0; i < p->tokens * side; i++) {
		size_t token = l->order ? l->order[p->first + i / side] : i / side, inner = i % side;

		places[i] = (struct cuda_patch){.row = (uint16_t)(token / across * merge + inner / merge),
						.column = (uint16_t)(token % across * merge + inner % merge),
						.rows = (uint16_t)p->rows,
						.columns = (uint16_t)p->columns};
	}
}

/* Patches, where they lie, and what attends to what, to the GPU. */
static void send_pages(struct cuda *c, struct sheet *s)
{
	struct tower *t = c->tower;
	struct look *l = s->look;

	if (c->vision->family == FAMILY_QWEN2_5_VL)
		send_windows(c, s);
	send_whole(c, s);
	for (size_t i = 0; i < l->count; i++)
		place_patches(&c->config.vision, l, &l->pages[i]);
	gpu_send(c->eye, t->patches.data, l->patches, s->n * c->vision->embed.in * sizeof(*l->patches));
	gpu_send(c->eye, t->places.data, l->places, s->n * sizeof(*l->places));
}

/* y = norm(x), after what is pending has been added to x. width: of the norm. */
static void norm(struct cuda *c, struct sheet *s, const struct vision_norm *w)
{
	struct tower *t = c->tower;
	cudaStream_t stream = gpu_stream(c->eye);
	size_t rows = s->n * c->config.vision.hidden / w->size;
	const uint16_t *delta = s->pending ? t->delta.data : NULL;

	gpu_check(c->eye,
		  w->bias ? cuda_add_layer_norm(stream, t->x.data, delta, w->weight, w->bias, EPS,
						t->y.data, rows, w->size)
			  : cuda_add_rms_norm(stream, t->x.data, delta, NULL, NULL, w->weight, EPS,
					      t->y.data, rows, w->size),
		  "norm of patches");
	s->pending = false;
}

static void bias(struct cuda *c, uint16_t *y, const struct linear *w, size_t n)
{
	if (w->bias)
		gpu_check(c->eye, cuda_bias(gpu_stream(c->eye), y, cuda_bias_of(w), n, w->out), "bias");
}

static void attend(struct cuda *c, struct sheet *s, const struct vision_block *b, bool whole)
{
	const struct vision_config *v = &c->config.vision;
	struct tower *t = c->tower;
	cudaStream_t stream = gpu_stream(c->eye);
	unsigned dim = v->hidden / v->heads;

	norm(c, s, &b->norm1);
	cuda_multiply(c->eye, GPU_MANY, &b->qkv, t->y.data, s->n, t->qkv.data, false);
	gpu_check(c->eye,
		  cuda_vision_rotate(stream, t->qkv.data, cuda_bias_of(&b->qkv), t->cosine.data,
				     t->sine.data, s->n, v->heads, dim),
		  "rotation of patches");
	gpu_check(c->eye,
		  cuda_attention_segments(stream, t->qkv.data, t->y.data, v->heads, dim,
					  1.0f / sqrtf((float)dim),
					  whole ? t->whole.data : t->windows.data,
					  whole ? s->whole : s->windows,
					  whole ? CUDA_SEGMENT_TILE : CUDA_SEGMENT_TILE_SHORT),
		  "attention of patches");
	cuda_multiply(c->eye, GPU_MANY, &b->proj, t->y.data, s->n, t->delta.data, false);
	bias(c, t->delta.data, &b->proj, s->n);
	s->pending = true;
}

static void feed_forward(struct cuda *c, struct sheet *s, const struct vision_block *b)
{
	struct tower *t = c->tower;
	cudaStream_t stream = gpu_stream(c->eye);
	bool gated = b->up.out == 2 * b->down.in;

	norm(c, s, &b->norm2);
	for (size_t first = 0, n; first < s->n; first += n) {
		const uint16_t *y = (uint16_t *)t->y.data + first * b->up.in;
		uint16_t *delta = (uint16_t *)t->delta.data + first * b->down.out;

		n = min_u64(WIDE_ROWS, s->n - first);
		cuda_multiply(c->eye, GPU_MANY, &b->up, y, n, t->wide.data, false);
		gpu_check(c->eye,
			  gated ? cuda_silu_gate(stream, t->wide.data, cuda_bias_of(&b->up),
						 t->inner.data, n, b->down.in)
				: cuda_gelu_tanh(stream, t->wide.data, cuda_bias_of(&b->up), n,
						 b->up.out),
			  "feed-forward of patches");
		cuda_multiply(c->eye, GPU_MANY, &b->down, gated ? t->inner.data : t->wide.data, n, delta,
			      false);
	}
	bias(c, t->delta.data, &b->down, s->n);
	s->pending = true;
}

/* Tokens for the language model, [tokens][out], to the host, as part 0, 1, ... of what comes out. */
static void merge(struct cuda *c, struct sheet *s, const struct vision_merger *m, size_t part)
{
	struct tower *t = c->tower;
	size_t size = s->tokens * c->config.vision.out;

	norm(c, s, &m->norm);
	cuda_multiply(c->eye, GPU_MANY, &m->fc1, t->y.data, s->tokens, t->merged.data, false);
	gpu_check(c->eye,
		  cuda_gelu_erf(gpu_stream(c->eye), t->merged.data, cuda_bias_of(&m->fc1), s->tokens,
				m->fc1.out),
		  "merging of patches");
	cuda_multiply(c->eye, GPU_MANY, &m->fc2, t->merged.data, s->tokens, t->out.data, false);
	bias(c, t->out.data, &m->fc2, s->tokens);
	gpu_fetch(c->eye, s->look->out + part * size, t->out.data, size * sizeof(uint16_t));
}

static void run(struct cuda *c, struct sheet *s)
{
	const struct vision_config *v = &c->config.vision;
	const struct vision *w = c->vision;
	struct tower *t = c->tower;
	cudaStream_t stream = gpu_stream(c->eye);

	cuda_multiply(c->eye, GPU_MANY, &w->embed, t->patches.data, s->n, t->y.data, false);
	gpu_check(c->eye,
		  cuda_patches(stream, t->y.data, cuda_bias_of(&w->embed), w->positions, v->positions,
			       t->places.data, t->x.data, s->n, v->hidden),
		  "patches");
	gpu_check(c->eye,
		  cuda_vision_angles(stream, t->places.data, s->n, t->inverse.data,
				     v->hidden / v->heads / 4, t->cosine.data, t->sine.data),
		  "angles of patches");
	for (unsigned i = 0; i < v->depth; i++) {
		attend(c, s, &w->blocks[i], !s->look->order || v->full[i]);
		feed_forward(c, s, &w->blocks[i]);
		for (unsigned k = 0; k < v->deepstacks; k++)
			if (v->deepstack[k] == i)
				merge(c, s, &w->deepstack[k], 1 + k);
	}
	merge(c, s, &w->merger, 0);
}

/* Tokens of a page to where they are wanted: `from` are those of its pass. */
static void take_page(const struct look *l, const struct page *p, size_t out, const uint16_t *from,
		      float *features)
{
	uint16_t *to = (uint16_t *)(void *)features;

	for (size_t k = 0; k < p->tokens; k++) {
		size_t token = l->order ? l->order[p->first + k] : k;

		memcpy(to + token * out, from + (p->first + k) * out, out * sizeof(*to));
	}
}

/* The first pass under way has come to its end. */
static void take(struct cuda *c)
{
	const struct vision_config *v = &c->config.vision;
	struct tower *t = c->tower;
	struct look *l = &t->looks[t->ended++ % CUDA_LOOKS];
	size_t size = l->tokens * v->out;

	gpu_mark_wait(c->eye, l->done);
	for (const struct page *p = l->pages; p < l->pages + l->count; p++) {
		take_page(l, p, v->out, l->out, p->features->embeddings);
		for (unsigned d = 0; d < v->deepstacks; d++)
			take_page(l, p, v->out, l->out + (1 + d) * size, p->features->deepstack[d]);
		p->features->ticket = 0;
	}
	free(l->pages);
	free(l->order);
	l->pages = NULL;
	l->order = NULL;
}

bool tower_seen(struct cuda *c, struct features *f, bool wait)
{
	struct tower *t = c->tower;

	while (f->ticket) {
		if (!wait && !gpu_mark_passed(c->eye, t->looks[t->ended % CUDA_LOOKS].done))
			return false;
		take(c);
	}
	return true;
}

/* Features of a page that will be there, or NULL. */
static struct features make_features(const struct vision_config *v, size_t tokens)
{
	size_t size = tokens * v->out;
	uint16_t *memory = malloc((1 + v->deepstacks) * size * sizeof(*memory));
	struct features f = {.embeddings = (float *)(void *)memory};

	for (unsigned d = 0; memory && d < v->deepstacks; d++)
		f.deepstack[d] = (float *)(void *)(memory + (1 + d) * size);
	return f;
}

/* One more page in the pass, if there is room for it. */
static bool add_page(struct cuda *c, struct look *l, const struct view *view, struct err *err)
{
	const struct vision_config *v = &c->config.vision;
	size_t side = (size_t)v->merge * v->merge, n = (size_t)view->rows * view->columns,
	       in = c->vision->embed.in, room = l->count ? CUDA_PATCHES : c->tower->most;
	struct page p = {view->rows, view->columns, l->tokens, n / side, view->features};

	*view->features = (struct features){0};
	if (p.rows % v->merge || p.columns % v->merge || !n || p.rows > UINT16_MAX || p.columns > UINT16_MAX)
		BUG("a page of %u x %u patches", p.rows, p.columns);
	if (l->tokens * side + n > room) {
		err_set(err, RC_FAILED, "memory", "a page of %zu patches: there is room for %zu on the GPU", n,
			room);
		return false;
	}
	*p.features = make_features(v, p.tokens);
	if (!p.features->embeddings) {
		err_set(err, RC_FAILED, "memory", "no memory for a page of %zu tokens", p.tokens);
		return false;
	}
	p.features->ticket = c->tower->begun + 1;
	memcpy(l->patches + l->tokens * side * in, view->patches, n * in * sizeof(*l->patches));
	l->pages[l->count++] = p;
	l->tokens += p.tokens;
	return true;
}

size_t tower_look(struct cuda *c, const struct view *views, size_t count, struct err *err)
{
	struct tower *t = c->tower;
	struct look *l = &t->looks[t->begun % CUDA_LOOKS];
	struct sheet s = {.look = l};

	if (t->begun - t->ended == CUDA_LOOKS)
		take(c);
	l->pages = xcalloc(count, sizeof(*l->pages));
	l->count = l->tokens = 0;
	while (l->count < count && add_page(c, l, &views[l->count], err))
		;
	if (!l->count) {
		free(l->pages);
		l->pages = NULL;
		return 0;
	}
	t->begun++;
	s.tokens = l->tokens;
	s.n = l->tokens * c->config.vision.merge * c->config.vision.merge;
	send_pages(c, &s);
	run(c, &s);
	gpu_mark_set(c->eye, l->done);
	return l->count;
}
