/* SPDX-License-Identifier: MIT
 *
 * bench: see bench.h.
 *
 * Ceilings: the largest number of a buffer far larger than any cache, by all threads (DRAM read),
 * and the bf16 multiply-add of this level in registers alone. A linear layer has as many copies of
 * its weight as make up COLD bytes and takes them in turn, as a model does, so that no cache serves
 * few rows. One thread is measured in its own CPU time, which a busy machine disturbs less.
 */
#include "kernels/bench.h"

#include "base/num.h"
#include "kernels/attention.h"
#include "kernels/linear.h"
#include "kernels/product.h"
#include "kernels/rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { ROUNDS_MAX = 64, COPIES_MAX = 64, COLD = 256 << 20, READ_PIECE = 1 << 20, SPINS = 200000 };

struct bench {
	const char *kernel, *number;
	size_t rows, in, out; /* attention: queries, keys, head size */
	double flop, bytes;   /* of one run */
	void (*run)(struct bench *, struct pool *);
	struct linear *copies;
	size_t count, next;
	double seconds[ROUNDS_MAX];
};

/* What all share: input, output, and the buffer that is read. */
static float *x, *y;
static void *cold;
static void **pages;

static double now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void read_piece(void *arg, size_t i, unsigned thread)
{
	enum { FLOATS = READ_PIECE / sizeof(float) };

	((volatile float *)arg)[thread] =
		rows_of_level()->largest((const float *)cold + i * FLOATS, FLOATS);
}

static void run_read(struct bench *b, struct pool *pool)
{
	float largest[COPIES_MAX];

	b->bytes = COLD;
	pool_run(pool, read_piece, largest, COLD / READ_PIECE);
}

static void spin(void *arg, size_t i, unsigned thread)
{
	(void)i;
	(void)thread;
	*(double *)arg = product()->spin(SPINS);
}

static void run_peak(struct bench *b, struct pool *pool)
{
	double flop[COPIES_MAX] = {0};
	unsigned n = pool_threads(pool);

	pool_run(pool, spin, flop, n);
	b->flop = flop[0] * n;
}

static void run_linear(struct bench *b, struct pool *pool)
{
	struct linear *l = &b->copies[b->next++ % b->count];

	linear_apply(l, pool, x, b->in, b->rows, y, b->out);
}

enum { HEADS = 8, GROUP = 2, PAGED_DIM = 128, VISION_HEADS = 4 };

static const struct kv_shape paged_shape = {HEADS, PAGED_DIM, NUMBER_BF16};

static void run_paged(struct bench *b, struct pool *pool)
{
	size_t width = HEADS * GROUP * PAGED_DIM;
	struct attention_row *rows = xcalloc(b->rows, sizeof(*rows));

	for (size_t i = 0; i < b->rows; i++)
		rows[i] = (struct attention_row){x + i * width, y + i * width, pages,
						 b->in - b->rows + i + 1};
	attention_paged(&paged_shape, pool, HEADS * GROUP, 0.09f, rows, b->rows);
	free(rows);
}

static void run_segments(struct bench *b, struct pool *pool)
{
	size_t count = b->rows / b->in, width = VISION_HEADS * b->out;
	size_t *segments = xcalloc(count + 1, sizeof(*segments));
	struct err err;

	for (size_t i = 0; i <= count; i++)
		segments[i] = i * b->in;
	if (attention_segments(pool, VISION_HEADS, (unsigned)b->out, NUMBER_BF16, 0.1f, x,
			       x + width, x + 2 * width, 3 * width, y, width, segments, count,
			       &err) != RC_OK)
		die(EX_BUG, "%s", err.text);
	free(segments);
}

static void nothing(void *arg, size_t i, unsigned thread)
{
	(void)arg;
	(void)i;
	(void)thread;
}

static void run_nothing(struct bench *b, struct pool *pool)
{
	for (size_t i = 0; i < b->rows; i++)
		pool_run(pool, nothing, NULL, pool_threads(pool));
}

static enum rc make_linear(struct bench *b, enum number number, struct pool *pool, struct err *err)
{
	struct matrix m = {.data = cold, .number = NUMBER_BF16, .rows = b->out, .columns = b->in};

	if (number == NUMBER_INT4)
		m = (struct matrix){.data = cold,
				    .number = NUMBER_INT4,
				    .rows = b->out / 8 * 8,
				    .columns = b->in,
				    .across = b->out / 8 * 8,
				    .zeros = cold,
				    .scales = cold,
				    .scale = NUMBER_BF16,
				    .group = 128};

	b->kernel = "linear";
	b->number = number_name(number);
	b->run = run_linear;
	b->flop = 2.0 * (double)b->rows * (double)b->in * (double)b->out;
	b->bytes = (double)b->in * (double)b->out *
		   (number == NUMBER_INT4 ? 0.5 : (double)number_size(number));
	b->count = min_u64((uint64_t)(COLD / b->bytes) + 1, COPIES_MAX);
	b->copies = xcalloc(b->count, sizeof(*b->copies));
	for (size_t i = 0; i < b->count; i++) {
		if (linear_pack(&b->copies[i], &m, NULL, 1, number, pool, err) != RC_OK)
			return RC_FATAL;
	}
	return RC_OK;
}

static int by_time(const void *a, const void *b)
{
	double d = *(const double *)a - *(const double *)b;

	return (d > 0) - (d < 0);
}

static void print(FILE *out, struct bench *b, unsigned rounds, const struct bench *reading,
		  const struct bench *peak)
{
	double median = b->seconds[rounds / 2], best = b->seconds[0];

	fprintf(out,
		"{\"kernel\":\"%s\",\"number\":\"%s\",\"rows\":%zu,\"in\":%zu,\"out\":%zu,"
		"\"microseconds\":%.1f",
		b->kernel, b->number, b->rows, b->in, b->out, median * 1e6);
	if (b->flop > 0)
		fprintf(out, ",\"gflops\":%.1f,\"gflops_best\":%.1f,\"of_peak\":%.3f",
			b->flop / median / 1e9, b->flop / best / 1e9,
			b->flop / median / (peak->flop / peak->seconds[rounds / 2]));
	if (b->bytes > 0)
		fprintf(out, ",\"gbytes\":%.1f,\"gbytes_best\":%.1f,\"of_read\":%.3f",
			b->bytes / median / 1e9, b->bytes / best / 1e9,
			b->bytes / median / (reading->bytes / reading->seconds[rounds / 2]));
	fprintf(out, "}\n");
}

static void make_input(void)
{
	enum { FLOATS = 8 << 20, PAGES = 64 };

	x = xmalloc(FLOATS * sizeof(*x));
	y = xcalloc(FLOATS, sizeof(*y));
	cold = aligned_alloc(2 << 20, COLD); /* as weights have it */
	if (!cold)
		die(EX_BUG, "out of memory");
	madvise(cold, COLD, MADV_HUGEPAGE);
	pages = xcalloc(PAGES, sizeof(*pages));
	for (size_t i = 0; i < FLOATS; i++)
		x[i] = sinf((float)i);
	for (size_t i = 0; i < COLD / sizeof(uint16_t); i++)
		((uint16_t *)cold)[i] =
			bf16_from_f32((float)(i * 2654435761u % 65536) / 65536 - 0.5f);
	for (size_t i = 0; i < PAGES; i++) {
		pages[i] = aligned_alloc(64, kv_page_size(&paged_shape));
		if (!pages[i])
			die(EX_BUG, "out of memory");
		memset(pages[i], 0, kv_page_size(&paged_shape));
		for (unsigned slot = 0; slot < KV_PAGE; slot++)
			kv_store(&paged_shape, pages[i], slot, x + i * KV_PAGE + slot,
				 x + i + slot * 7);
	}
}

enum rc kernels_bench(struct pool *pool, unsigned rounds, FILE *out, struct err *err)
{
	static const enum number numbers[] = {NUMBER_BF16, NUMBER_INT8, NUMBER_INT4, NUMBER_F32};
	static const size_t shapes[][3] = {{1, 2048, 11008},   {16, 2048, 11008}, {64, 2048, 11008},
					   {512, 2048, 11008}, {1, 1024, 6144},	  {512, 1024, 6144},
					   {512, 1280, 3420}};
	static const double kv = 2.0 * HEADS * PAGED_DIM * 2,
			    score = 4.0 * HEADS * GROUP * PAGED_DIM;
	struct bench all[48] = {
		{.kernel = "read", .number = "f32", .run = run_read},
		{.kernel = "peak", .number = "bf16", .run = run_peak},
		{.kernel = "pool", .number = "none", .run = run_nothing, .rows = 1000},
		{"paged", "bf16", 1, 2048, 128, score * 2048, kv * 2048, run_paged, .count = 0},
		{"paged", "bf16", 512, 2048, 128, score * 512 * 1792, 0, run_paged, .count = 0},
		{"segments", "bf16", 4096, 4096, 72, 4.0 * 4096 * 4096 * 72 * VISION_HEADS, 0,
		 run_segments, .count = 0},
		{"segments", "bf16", 4096, 64, 80, 4.0 * 4096 * 64 * 80 * VISION_HEADS, 0,
		 run_segments, .count = 0},
	};
	clockid_t clock = pool_threads(pool) == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
	size_t count = 7;

	if (rounds == 0 || rounds > ROUNDS_MAX || pool_threads(pool) > COPIES_MAX)
		return err_set(err, RC_FATAL, "bench", "1 to %d rounds, %d threads at most",
			       ROUNDS_MAX, COPIES_MAX);
	make_input();
	for (size_t i = 0; i < ARRAY_SIZE(numbers) * ARRAY_SIZE(shapes); i++) {
		const size_t *s = shapes[i % ARRAY_SIZE(shapes)];
		struct bench *b = &all[count++];

		*b = (struct bench){.rows = s[0], .in = s[1], .out = s[2]};
		if (make_linear(b, numbers[i / ARRAY_SIZE(shapes)], pool, err) != RC_OK)
			return RC_FATAL;
	}
	for (unsigned r = 0; r < rounds; r++) {
		for (struct bench *b = all; b < all + count; b++) {
			double start = now(clock);

			b->run(b, pool);
			b->seconds[r] = now(clock) - start;
		}
	}
	fprintf(out, "{\"level\":\"%s\",\"threads\":%u,\"rounds\":%u}\n",
		cpu_level_name(cpu_level()), pool_threads(pool), rounds);
	for (struct bench *b = all; b < all + count; b++)
		qsort(b->seconds, rounds, sizeof(*b->seconds), by_time);
	for (struct bench *b = all; b < all + count; b++) {
		print(out, b, rounds, &all[0], &all[1]);
		for (size_t i = 0; i < b->count; i++)
			linear_release(&b->copies[i]);
		free(b->copies);
	}
	for (size_t i = 0; i < 64; i++)
		free(pages[i]);
	free(pages);
	free(cold);
	free(x);
	free(y);
	return RC_OK;
}

/* ---- the ceilings alone, with a product in the place of registers ---- */

enum { PEAK_ROUNDS = 5, COPY_PIECE = 1 << 20 };

struct copying {
	char *from, *to;
};

static void copy_piece(void *arg, size_t i, unsigned thread)
{
	const struct copying *c = arg;

	(void)thread;
	memcpy(c->to + i * COPY_PIECE, c->from + i * COPY_PIECE, COPY_PIECE);
}

enum rc kernels_peak(struct pool *pool, size_t side, size_t bytes, double *copied, double *flop,
		     struct err *err)
{
	size_t pieces = bytes / COPY_PIECE + 1, area = side * side;
	struct copying c = {xcalloc(pieces, COPY_PIECE), xcalloc(pieces, COPY_PIECE)};
	uint16_t *numbers = xmalloc(area * sizeof(*numbers));
	float *in = xmalloc(area * sizeof(*in)), *out = xmalloc(area * sizeof(*out));
	struct matrix m = {.data = numbers, .number = NUMBER_BF16, .rows = side, .columns = side};
	double copy = INFINITY, product = INFINITY, start;
	struct linear l;
	enum rc rc;

	for (size_t i = 0; i < area; i++) {
		in[i] = sinf((float)i);
		numbers[i] = bf16_from_f32(in[i]);
	}
	memset(c.from, 1, pieces * COPY_PIECE);
	memset(c.to, 2, pieces * COPY_PIECE);
	rc = linear_pack(&l, &m, NULL, 1, NUMBER_BF16, pool, err);
	for (int r = 0; rc == RC_OK && r < PEAK_ROUNDS; r++) {
		start = now(CLOCK_MONOTONIC);
		pool_run(pool, copy_piece, &c, pieces);
		copy = fmin(copy, now(CLOCK_MONOTONIC) - start);
		start = now(CLOCK_MONOTONIC);
		linear_apply(&l, pool, in, side, side, out, side);
		product = fmin(product, now(CLOCK_MONOTONIC) - start);
	}
	if (rc == RC_OK) {
		*copied = 2.0 * (double)pieces * COPY_PIECE / copy;
		*flop = 2.0 * (double)area * (double)side / product;
		linear_release(&l);
	}
	free(c.from);
	free(c.to);
	free(numbers);
	free(in);
	free(out);
	return rc;
}
