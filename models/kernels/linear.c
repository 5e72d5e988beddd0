/* SPDX-License-Identifier: MIT
 *
 * linear: y = x W' + bias over the products of product.h.
 *
 * A packed weight is a row of strips of up to 4 blocks (64 columns of y); a strip lies in memory
 * from its first depth to its last, so one row of x streams the weight. A task is one strip for up
 * to ROWS rows: it goes through the depth in cuts that the nearest cache holds, all rows for each,
 * and keeps its sums in scratch until scale and bias are due.
 *
 * Invariant: the cuts and the rows of a task change no order of sums (product.h); scale and bias
 * come last, as one multiply-add.
 */
#include "kernels/linear.h"

#include "base/num.h"
#include "kernels/product.h"
#include "kernels/rows.h"

#include <stdlib.h>
#include <string.h>

enum {
	STRIP_BLOCKS = 4,
	STRIP = STRIP_BLOCKS * BLOCK,
	ROWS = 512,
	INT8_DEPTH = 8, /* tiles of a strip unpacked at a time */
	INT8_DEPTH_FEW = 2,
	FEW_ROWS = 16,
};

/* The depth in units of the product: bf16 tiles, or fp32 numbers. */
static size_t depth_of(const struct linear *l)
{
	return l->number == NUMBER_F32 ? l->in : (l->in + TILE_DEPTH - 1) / TILE_DEPTH;
}

static size_t unit_size(const struct linear *l)
{
	return l->number == NUMBER_F32 ? BLOCK * sizeof(float) : TILE * number_size(l->number);
}

static size_t blocks_of(const struct linear *l)
{
	return (l->out + BLOCK - 1) / BLOCK;
}

static size_t strips_of(const struct linear *l)
{
	return (blocks_of(l) + STRIP_BLOCKS - 1) / STRIP_BLOCKS;
}

struct apply {
	const struct linear *linear;
	const struct product *product;
	const struct rows *row;
	const float *x;
	size_t x_stride, rows;
	float *y;
	size_t y_stride;
	size_t row_tasks, rows_a_task;
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
	a->row->bf16(a->x + i * a->x_stride, to, a->linear->in);
	memset(to + a->linear->in, 0,
	       (depth_of(a->linear) * TILE_DEPTH - a->linear->in) * sizeof(*to));
}

/* The depth of a product, so that W stays in the cache for all rows; unpacking few should not
 * stall. */
static size_t cut_of(const struct apply *a, size_t rows)
{
	if (a->linear->number == NUMBER_F32)
		return a->linear->in;
	if (a->linear->number == NUMBER_INT8)
		return rows <= FEW_ROWS ? INT8_DEPTH_FEW : INT8_DEPTH;
	return a->product->depth;
}

/* sums[rows][STRIP] = x[first..] strip */
static void sum_strip(const struct apply *a, size_t strip, size_t first, size_t rows, size_t blocks,
		      float *sums, uint16_t *unpacked)
{
	const struct linear *l = a->linear;
	size_t depth = depth_of(l), unit = unit_size(l);
	const char *w = (const char *)l->weight + strip * STRIP_BLOCKS * depth * unit;
	size_t cut = cut_of(a, rows);

	for (size_t d = 0; d < depth; d += cut) {
		const char *from = w + d * blocks * unit;
		size_t n = min_u64(cut, depth - d);

		if (l->number == NUMBER_F32) {
			a->product->f32(a->x + first * a->x_stride, a->x_stride, rows,
					(const float *)from, n, blocks, sums, STRIP, d > 0);
			continue;
		}
		if (l->number == NUMBER_INT8) {
			a->product->unpack((const int8_t *)from, n * blocks, unpacked);
			from = (const char *)unpacked;
		}
		a->product->bf16(a->packed + first * a->packed_stride + d * TILE_DEPTH,
				 a->packed_stride, rows, (const uint16_t *)from, n, blocks, sums,
				 STRIP, d > 0);
	}
}

static void apply_strip(void *arg, size_t i, unsigned thread)
{
	const struct apply *a = arg;
	const struct linear *l = a->linear;
	size_t strip = i / a->row_tasks, first = i % a->row_tasks * a->rows_a_task;
	size_t rows = min_u64(a->rows_a_task, a->rows - first), column = strip * STRIP;
	size_t blocks = min_u64(STRIP_BLOCKS, blocks_of(l) - strip * STRIP_BLOCKS);
	size_t columns = min_u64(STRIP, l->out - column);
	uint16_t *unpacked = (uint16_t *)(a->scratch + thread * a->scratch_size);
	float *sums = (float *)(unpacked + INT8_DEPTH * STRIP_BLOCKS * TILE);

	sum_strip(a, strip, first, rows, blocks, sums, unpacked);
	for (size_t r = 0; r < rows; r++)
		a->row->finish(sums + r * STRIP, l->scale ? l->scale + column : NULL,
			       l->bias ? l->bias + column : NULL,
			       a->y + (first + r) * a->y_stride + column, columns);
}

static void apply_rows(struct apply *a, struct pool *pool)
{
	size_t threads = pool_threads(pool), strips = strips_of(a->linear), x_size = 0;

	/* An odd number of cache lines a row: rows then do not fall on each other in the cache. */
	a->packed_stride = (depth_of(a->linear) | 1) * TILE_DEPTH;
	if (a->linear->number != NUMBER_F32)
		x_size = a->rows * a->packed_stride * sizeof(*a->packed);
	a->row_tasks = 1;
	while (strips * a->row_tasks < 4 * threads && a->rows / a->row_tasks >= 2 * 32)
		a->row_tasks++;
	a->rows_a_task = ((a->rows + a->row_tasks - 1) / a->row_tasks + 31) / 32 * 32;
	a->row_tasks = (a->rows + a->rows_a_task - 1) / a->rows_a_task;
	a->scratch_size = INT8_DEPTH * STRIP_BLOCKS * TILE * sizeof(uint16_t) +
			  a->rows_a_task * STRIP * sizeof(float);
	a->packed = pool_scratch(pool, x_size + threads * a->scratch_size);
	if (!a->packed)
		die(EX_BUG, "out of memory");
	a->scratch = (char *)a->packed + x_size;
	if (a->linear->number != NUMBER_F32)
		pool_run(pool, round_rows, a, a->rows);
	pool_run(pool, apply_strip, a, strips * a->row_tasks);
}

void linear_apply(const struct linear *l, struct pool *pool, const float *x, size_t x_stride,
		  size_t rows, float *y, size_t y_stride)
{
	struct apply a = {.linear = l,
			  .product = product(),
			  .row = rows_of_level(),
			  .x_stride = x_stride,
			  .y_stride = y_stride};

	for (size_t r = 0; r < rows; r += ROWS) {
		a.x = x + r * x_stride;
		a.y = y + r * y_stride;
		a.rows = min_u64(ROWS, rows - r);
		apply_rows(&a, pool);
	}
}

void linear_release(struct linear *l)
{
	free(l->weight);
	free(l->bias);
	free(l->scale);
	memset(l, 0, sizeof(*l));
}
