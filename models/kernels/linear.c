/* SPDX-License-Identifier: MIT
 *
 * linear: y = x W' + bias over the products of product.h.
 *
 * One row of x streams the weight, strip by strip (strips.h). A task is one strip of one linear for
 * up to LINEAR_ROWS rows: it goes through the depth in cuts that the nearest cache holds, all rows
 * for each, and keeps its sums in scratch until scale and bias are due. int8 and int4 are unpacked
 * cut by cut, or with few rows in registers, where a level can.
 *
 * Invariant: the cuts and the rows of a task change no order of sums (product.h); scale and bias
 * come last, as one multiply-add. In int4 each group is such a chain of its own, and the groups are
 * added up one after the other.
 */
#include "kernels/linear.h"

#include "kernels/rows.h"
#include "kernels/strips.h"

#include <stdlib.h>
#include <string.h>

enum {
	INT8_DEPTH = 8, /* tiles of a strip unpacked at a time */
	INT8_DEPTH_FEW = 2,
	FEW_ROWS = 16,
};

static size_t unit_size(const struct linear *l)
{
	if (l->number == NUMBER_INT4)
		return TILE / 2;
	return l->number == NUMBER_F32 ? BLOCK * sizeof(float) : TILE * number_size(l->number);
}

/* One linear of those applied together, and which rows are its own. */
struct piece {
	const struct linear *linear;
	size_t first, rows;
	size_t row_tasks, rows_a_task;
	size_t tasks; /* of this and all before it */
};

struct apply {
	const struct piece *pieces;
	size_t count;
	const struct product *product;
	const struct rows *row;
	const float *x;
	size_t x_stride, rows;
	float *y;
	size_t y_stride;
	size_t in;
	uint16_t *packed; /* x in bf16, [rows][packed_stride] */
	size_t packed_stride;
	char *scratch; /* of each thread */
	size_t scratch_size;
};

static void round_rows(void *arg, size_t i, unsigned thread)
{
	const struct apply *a = arg;
	uint16_t *to = a->packed + i * a->packed_stride;

	(void)thread;
	a->row->bf16(a->x + i * a->x_stride, to, a->in);
	memset(to + a->in, 0, (tiles_of(a->in) * TILE_DEPTH - a->in) * sizeof(*to));
}

/* The depth of a product, so that W stays in the cache for all rows: one alone needs it once.
 * Unpacking few should not stall. */
static size_t cut_of(const struct apply *a, const struct linear *l, size_t rows)
{
	if (l->number == NUMBER_F32)
		return l->in;
	if (l->number == NUMBER_INT8 || l->number == NUMBER_INT4)
		return rows <= FEW_ROWS ? INT8_DEPTH_FEW : INT8_DEPTH;
	return rows == 1 ? depth_of(l) : a->product->depth;
}

/* sums[rows][STRIP] = x[first..] strip */
static void sum_strip(const struct apply *a, const struct linear *l, size_t strip, size_t first,
		      size_t rows, size_t blocks, float *sums, uint16_t *unpacked)
{
	size_t depth = depth_of(l), unit = unit_size(l);
	const char *w = (const char *)l->weight + strip * STRIP_BLOCKS * depth * unit;
	const uint16_t *x = a->packed + first * a->packed_stride;
	size_t cut = cut_of(a, l, rows);

	if (l->number == NUMBER_INT8 && rows <= PRODUCT_FEW && a->product->few) {
		a->product->few(x, a->packed_stride, rows, (const uint32_t *)w, NULL, depth, blocks,
				sums, STRIP);
		return;
	}
	for (size_t d = 0; d < depth; d += cut) {
		const char *from = w + d * blocks * unit;
		size_t n = min_u64(cut, depth - d);

		if (l->number == NUMBER_F32) {
			a->product->f32(a->x + first * a->x_stride, a->x_stride, rows,
					(const float *)from, n, blocks, sums, STRIP, d > 0);
			continue;
		}
		if (l->number == NUMBER_INT8) {
			a->product->unpack_int8((const uint32_t *)from, n, blocks, unpacked);
			from = (const char *)unpacked;
		}
		a->product->bf16(x + d * TILE_DEPTH, a->packed_stride, rows, (const uint16_t *)from,
				 n * PAIRS, blocks, sums, STRIP, d > 0);
	}
}

/* The same of an int4 strip. The sums of a group are made behind the sums. */
static void sum_strip_int4(const struct apply *a, const struct linear *l, size_t strip,
			   size_t first, size_t rows, size_t blocks, float *sums,
			   uint16_t *unpacked)
{
	size_t depth = depth_of(l), unit = unit_size(l), cut = cut_of(a, l, rows);
	size_t tiles = tiles_of(l->group), groups = l->in / l->group;
	const char *w = (const char *)l->weight + strip * STRIP_BLOCKS * depth * unit;
	float *part = sums + rows * STRIP;
	bool few = rows <= PRODUCT_FEW && a->product->few;

	for (size_t g = 0; g < groups; g++) {
		const float *scale = l->group_scale + (strip * groups + g) * STRIP;
		const uint8_t *zero = l->group_zero + (strip * groups + g) * STRIP;
		const char *from = w + g * tiles * blocks * unit;
		const uint16_t *x = a->packed + first * a->packed_stride + g * l->group;

		if (few)
			a->product->few(x, a->packed_stride, rows, (const uint32_t *)from, zero,
					tiles, blocks, part, STRIP);
		for (size_t d = 0; d < tiles && !few; d += cut) {
			size_t n = min_u64(cut, tiles - d);

			a->product->unpack_int4((const uint32_t *)(from + d * blocks * unit), zero,
						n, blocks, unpacked);
			a->product->bf16(x + d * TILE_DEPTH, a->packed_stride, rows, unpacked,
					 n * PAIRS, blocks, part, STRIP, d > 0);
		}
		for (size_t r = 0; r < rows; r++)
			a->row->finish(part + r * STRIP, scale, g ? sums + r * STRIP : NULL,
				       sums + r * STRIP, blocks * BLOCK);
	}
}

static const struct piece *piece_of(const struct apply *a, size_t task)
{
	size_t low = 0, high = a->count - 1;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (task < a->pieces[middle].tasks)
			high = middle;
		else
			low = middle + 1;
	}
	return &a->pieces[low];
}

static void apply_strip(void *arg, size_t i, unsigned thread)
{
	const struct apply *a = arg;
	const struct piece *p = piece_of(a, i);
	const struct linear *l = p->linear;
	size_t task = i - (p->tasks - strips_of(l) * p->row_tasks);
	size_t strip = task / p->row_tasks, skipped = task % p->row_tasks * p->rows_a_task;
	size_t rows = min_u64(p->rows_a_task, p->rows - skipped), first = p->first + skipped;
	size_t blocks = blocks_in(l, strip), column = strip * STRIP,
	       columns = min_u64(STRIP, l->out - column);
	uint16_t *unpacked = (uint16_t *)(a->scratch + thread * a->scratch_size);
	float *sums = (float *)(unpacked + INT8_DEPTH * STRIP_BLOCKS * TILE);

	if (l->number == NUMBER_INT4)
		sum_strip_int4(a, l, strip, first, rows, blocks, sums, unpacked);
	else
		sum_strip(a, l, strip, first, rows, blocks, sums, unpacked);
	for (size_t r = 0; r < rows; r++)
		a->row->finish(sums + r * STRIP, l->scale ? l->scale + column : NULL,
			       l->bias ? l->bias + column : NULL,
			       a->y + (first + r) * a->y_stride + column, columns);
}

/* Tasks, enough of them for all threads. Returns the most rows that one has. */
static size_t share_out(struct piece *pieces, size_t count, size_t threads)
{
	size_t strips = 0, tasks = 0, most = 0;

	for (size_t i = 0; i < count; i++)
		strips += strips_of(pieces[i].linear);
	for (struct piece *p = pieces; p < pieces + count; p++) {
		size_t n = 1;

		while (strips * n < 4 * threads && p->rows / n >= 2 * 32)
			n++;
		p->rows_a_task = ((p->rows + n - 1) / n + 31) / 32 * 32;
		p->row_tasks = (p->rows + p->rows_a_task - 1) / p->rows_a_task;
		tasks += strips_of(p->linear) * p->row_tasks;
		p->tasks = tasks;
		most = max_u64(most, p->rows_a_task);
	}
	return most;
}

static void apply_pieces(struct apply *a, struct pool *pool, struct piece *pieces)
{
	size_t threads = pool_threads(pool), most = share_out(pieces, a->count, threads),
	       x_size = 0;
	bool rounded = false, grouped = false;

	for (size_t i = 0; i < a->count; i++) {
		rounded = rounded || pieces[i].linear->number != NUMBER_F32;
		grouped = grouped || pieces[i].linear->number == NUMBER_INT4;
	}
	/* An odd number of cache lines a row: rows then do not fall on each other in the cache. */
	a->packed_stride = (tiles_of(a->in) | 1) * TILE_DEPTH;
	if (rounded)
		x_size = a->rows * a->packed_stride * sizeof(*a->packed);
	a->scratch_size = INT8_DEPTH * STRIP_BLOCKS * TILE * sizeof(uint16_t) +
			  (grouped ? 2 : 1) * most * STRIP * sizeof(float);
	a->packed = pool_scratch(pool, x_size + threads * a->scratch_size);
	if (!a->packed)
		die(EX_BUG, "out of memory");
	a->scratch = (char *)a->packed + x_size;
	a->pieces = pieces;
	if (rounded)
		pool_run(pool, round_rows, a, a->rows);
	pool_run(pool, apply_strip, a, pieces[a->count - 1].tasks);
}

void linear_apply_shares(const struct linear_share *shares, size_t count, struct pool *pool,
			 const float *x, size_t x_stride, float *y, size_t y_stride)
{
	struct piece *pieces = xcalloc(count + 1, sizeof(*pieces));
	struct apply a = {.count = count,
			  .product = product(),
			  .row = rows_of_level(),
			  .x = x,
			  .x_stride = x_stride,
			  .y = y,
			  .y_stride = y_stride};

	for (size_t i = 0; i < count; i++) {
		if (shares[i].rows == 0 || shares[i].rows > LINEAR_ROWS ||
		    shares[i].linear->in != shares->linear->in)
			BUG("a share of %zu rows, %zu deep", shares[i].rows, shares[i].linear->in);
		pieces[i] = (struct piece){shares[i].linear, a.rows, shares[i].rows, 0, 0, 0};
		a.rows += shares[i].rows;
	}
	if (count) {
		a.in = shares->linear->in;
		apply_pieces(&a, pool, pieces);
	}
	free(pieces);
}

void linear_apply(const struct linear *l, struct pool *pool, const float *x, size_t x_stride,
		  size_t rows, float *y, size_t y_stride)
{
	struct apply a = {.count = 1,
			  .product = product(),
			  .row = rows_of_level(),
			  .x_stride = x_stride,
			  .y_stride = y_stride,
			  .in = l->in};

	for (size_t r = 0; r < rows; r += LINEAR_ROWS) {
		a.x = x + r * x_stride;
		a.y = y + r * y_stride;
		a.rows = min_u64(LINEAR_ROWS, rows - r);
		apply_pieces(&a, pool, &(struct piece){l, 0, a.rows, 0, 0, 0});
	}
}

void linear_release(struct linear *l)
{
	free(l->weight);
	free(l->bias);
	free(l->scale);
	free(l->group_scale);
	free(l->group_zero);
	memset(l, 0, sizeof(*l));
}
