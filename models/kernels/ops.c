/* SPDX-License-Identifier: MIT
 *
 * ops: the rows of rows.h shared out among threads. A small piece of work stays with the caller: to
 * wake a thread takes longer.
 */
#include "kernels/ops.h"

#include "base/num.h"
#include "kernels/rows.h"

#include <math.h>

enum { NUMBERS_A_TASK = 16384 };

struct op {
	void (*row)(const struct op *, size_t i);
	size_t rows, rows_a_task;
	const struct rows *table;
	const float *x, *x2, *x3;
	float *y;
	size_t n, stride;
	unsigned heads, dim;
	float eps;
};

static void run_rows(void *arg, size_t i, unsigned thread)
{
	const struct op *op = arg;
	size_t last = min_u64((i + 1) * op->rows_a_task, op->rows);

	(void)thread;
	for (size_t r = i * op->rows_a_task; r < last; r++)
		op->row(op, r);
}

/* `numbers`: how many a row has. */
static void run(struct pool *pool, struct op op, size_t rows, size_t numbers)
{
	op.table = rows_of_level();
	op.rows = rows;
	op.rows_a_task = max_u64(NUMBERS_A_TASK / max_u64(numbers, 1), 1);
	pool_run(pool, run_rows, &op, (rows + op.rows_a_task - 1) / op.rows_a_task);
}

static void rms_norm_row(const struct op *op, size_t i)
{
	op->table->rms_norm(op->x + i * op->n, op->x2, op->eps, op->y + i * op->n, op->n);
}

void rms_norm(struct pool *pool, const float *x, const float *weight, float eps, float *y,
	      size_t rows, size_t n)
{
	run(pool,
	    (struct op){.row = rms_norm_row, .x = x, .x2 = weight, .eps = eps, .y = y, .n = n},
	    rows, n);
}

static void rms_norm_heads_row(const struct op *op, size_t i)
{
	for (unsigned h = 0; h < op->heads; h++) {
		float *head = op->y + i * op->stride + (size_t)h * op->dim;

		op->table->rms_norm(head, op->x2, op->eps, head, op->dim);
	}
}

void rms_norm_heads(struct pool *pool, float *x, const float *weight, float eps, size_t rows,
		    size_t stride, unsigned heads, unsigned dim)
{
	run(pool,
	    (struct op){.row = rms_norm_heads_row,
			.x2 = weight,
			.eps = eps,
			.y = x,
			.stride = stride,
			.heads = heads,
			.dim = dim},
	    rows, (size_t)heads * dim);
}

static void layer_norm_row(const struct op *op, size_t i)
{
	op->table->layer_norm(op->x + i * op->n, op->x2, op->x3, op->eps, op->y + i * op->n, op->n);
}

void layer_norm(struct pool *pool, const float *x, const float *weight, const float *bias,
		float eps, float *y, size_t rows, size_t n)
{
	run(pool,
	    (struct op){.row = layer_norm_row,
			.x = x,
			.x2 = weight,
			.x3 = bias,
			.eps = eps,
			.y = y,
			.n = n},
	    rows, n);
}

static void silu_gate_row(const struct op *op, size_t i)
{
	const float *gate = op->x + i * 2 * op->n;

	op->table->silu_gate(gate, gate + op->n, op->y + i * op->n, op->n);
}

void silu_gate(struct pool *pool, const float *gate_up, float *y, size_t rows, size_t n)
{
	run(pool, (struct op){.row = silu_gate_row, .x = gate_up, .y = y, .n = n}, rows, n);
}

/* What knows no rows is cut into pieces of NUMBERS_A_TASK. */
static void run_pieces(struct pool *pool, struct op op, size_t n)
{
	op.n = n;
	run(pool, op, (n + NUMBERS_A_TASK - 1) / NUMBERS_A_TASK, NUMBERS_A_TASK);
}

static size_t piece(const struct op *op, size_t i)
{
	return min_u64(NUMBERS_A_TASK, op->n - i * NUMBERS_A_TASK);
}

static void gelu_erf_piece(const struct op *op, size_t i)
{
	op->table->gelu_erf(op->y + i * NUMBERS_A_TASK, piece(op, i));
}

void gelu_erf(struct pool *pool, float *x, size_t n)
{
	run_pieces(pool, (struct op){.row = gelu_erf_piece, .y = x}, n);
}

static void gelu_tanh_piece(const struct op *op, size_t i)
{
	op->table->gelu_tanh(op->y + i * NUMBERS_A_TASK, piece(op, i));
}

void gelu_tanh(struct pool *pool, float *x, size_t n)
{
	run_pieces(pool, (struct op){.row = gelu_tanh_piece, .y = x}, n);
}

static void add_piece(const struct op *op, size_t i)
{
	op->table->add(op->y + i * NUMBERS_A_TASK, op->x + i * NUMBERS_A_TASK, piece(op, i));
}

void add(struct pool *pool, float *y, const float *x, size_t n)
{
	run_pieces(pool, (struct op){.row = add_piece, .x = x, .y = y}, n);
}

static void add_row(const struct op *op, size_t i)
{
	op->table->add(op->y + i * op->stride, op->x + i * op->n, op->n);
}

void add_rows(struct pool *pool, float *y, size_t stride, const float *x, size_t rows, size_t n)
{
	run(pool, (struct op){.row = add_row, .x = x, .y = y, .n = n, .stride = stride}, rows, n);
}

static void rope_row(const struct op *op, size_t i)
{
	for (unsigned h = 0; h < op->heads; h++)
		op->table->rotate(op->y + i * op->stride + (size_t)h * op->dim, op->x + i * op->n,
				  op->x2 + i * op->n, op->n);
}

void rope(struct pool *pool, float *x, const float *cosine, const float *sine, size_t rows,
	  size_t stride, unsigned heads, unsigned dim, unsigned rotary)
{
	run(pool,
	    (struct op){.row = rope_row,
			.x = cosine,
			.x2 = sine,
			.y = x,
			.n = rotary / 2,
			.stride = stride,
			.heads = heads,
			.dim = dim},
	    rows, (size_t)heads * dim);
}

size_t argmax(const float *x, size_t n)
{
	float largest = rows_of_level()->largest(x, n);
	size_t i = 0;

	if (isnan(largest))
		return n;
	while (x[i] != largest)
		i++;
	return i;
}

double log_sum_exp(const float *x, size_t n)
{
	const struct rows *table = rows_of_level();
	float largest = table->largest(x, n);

	if (!isfinite(largest))
		return (double)largest;
	return (double)largest + log(table->sum_exp(x, largest, n));
}
