/* SPDX-License-Identifier: MIT
 *
 * linear_pack: bring the rows of a stored matrix into the order that product.h describes.
 *
 * A task is one block (16 rows of the matrix, 16 columns of y): the rows are brought to the packed
 * number first, padded with zeros, and then laid depth by depth. int8 is symmetric, the largest
 * magnitude of a row at 127. Reads stay within the rows: a mapped file may end behind the last.
 *
 * int8 and int4 lie as words of 32 bits, so that a strip is read from its first to its last:
 * [quads or octs of depths][blocks][16]. int8 is biased by 128, and word j has depths j % 2 (bytes
 * 0 and 1) and j % 2 + 2 (bytes 2 and 3) of columns j / 2 (bytes 0 and 2) and 8 + j / 2 (bytes 1
 * and 3): so bytes 0 of all words, as bf16, are one half of a pair's row, and bytes 1 the other.
 * int4 keeps the file's numbers: the 4 bits of 8 depths of one column are a word, those of the
 * pairs' first numbers in its lower half, so that a shift and a mask part them into pairs of bf16.
 */
#include "kernels/linear.h"

#include "kernels/rows.h"
#include "kernels/strips.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { GRAIN = 2 << 20 };

struct pack {
	struct linear *linear;
	const struct matrix *parts;
	const struct rows *row;
	char *scratch; /* of each thread: 16 rows of [padded] numbers, and one in fp32 */
	size_t padded; /* depth in numbers */
	size_t scratch_size;
};

/* The part that has the row, which becomes the row of it. */
static const struct matrix *part_of(const struct pack *p, size_t *row)
{
	const struct matrix *part = p->parts;

	while (*row >= part->rows)
		*row -= part++->rows;
	return part;
}

/* To the nearest, ties to even: adding 1.5 * 2^23 leaves the integer in the low bits. */
static float row_to_int8(const float *x, size_t n, int8_t *out)
{
	const float round = 12582912.0f;
	float largest = 0, scale;

	for (size_t i = 0; i < n; i++)
		largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
	scale = largest / 127;
	for (size_t i = 0; i < n && scale > 0; i++) {
		union {
			float f;
			int32_t bits;
		} shifted = {.f = x[i] / scale + round};

		out[i] = (int8_t)shifted.bits;
	}
	return scale;
}

/* 16 rows of numbers, `stride` apart, into a block's numbers for one depth, a pair or a quad, at
 * every `step`. */
static void lay_f32(const float *rows, size_t stride, size_t depth, float *to, size_t step)
{
	for (size_t d = 0; d < depth; d++, to += step) {
		for (size_t n = 0; n < BLOCK; n++)
			to[n] = rows[n * stride + d];
	}
}

static void lay_bf16(const uint16_t *rows, size_t stride, size_t tiles, uint16_t *to, size_t step)
{
	for (size_t p = 0; p < tiles * PAIRS; p++, to += step, rows += 2) {
		for (size_t n = 0; n < BLOCK; n++)
			memcpy(to + n * 2, rows + n * stride, 4);
	}
}

static void lay_int8(const int8_t *rows, size_t stride, size_t tiles, uint8_t *to, size_t step)
{
	for (size_t q = 0; q < tiles * (TILE_DEPTH / 4); q++, to += step, rows += 4) {
		for (size_t j = 0; j < BLOCK; j++) {
			const int8_t *low = rows + j / 2 * stride + j % 2, *high = low + 8 * stride;

			to[4 * j] = (uint8_t)(low[0] + 128);
			to[4 * j + 1] = (uint8_t)(high[0] + 128);
			to[4 * j + 2] = (uint8_t)(low[2] + 128);
			to[4 * j + 3] = (uint8_t)(high[2] + 128);
		}
	}
}

/* 8 rows of one part: their nibbles into 8 words of an oct, an oct every `step` words. */
static void lay_int4(const struct matrix *part, size_t row, uint32_t *to, size_t step)
{
	const char *from = (const char *)part->data + row / 8 * sizeof(uint32_t);
	size_t stride = part->across / 8 * sizeof(uint32_t);

	for (size_t k = 0; k < part->columns; k++, from += stride) {
		uint32_t *oct = to + k / 8 * step, word;
		unsigned shift = 4 * nibble_of(k);

		memcpy(&word, from, sizeof(word));
		for (size_t n = 0; n < 8; n++)
			oct[n] |= (word >> 4 * nibble_of(n) & 15) << shift;
	}
}

static void lay_groups(const struct matrix *part, size_t row, size_t groups, float *scale,
		       uint8_t *zero)
{
	size_t stride = part->across * number_size(part->scale),
	       first = row * number_size(part->scale);

	for (size_t g = 0; g < groups; g++, scale += STRIP, zero += STRIP) {
		struct matrix eight = {.data = (const char *)part->scales + g * stride + first,
				       .number = part->scale,
				       .rows = 1,
				       .columns = 8};
		uint32_t word;

		memcpy(&word,
		       (const char *)part->zeros + (g * part->across + row) / 8 * sizeof(word),
		       sizeof(word));
		matrix_to_f32(&eight, 0, 1, scale);
		for (size_t n = 0; n < 8; n++)
			zero[n] = word >> 4 * nibble_of(n) & 15;
	}
}

static void pack_block_int4(void *arg, size_t block, unsigned thread)
{
	const struct pack *p = arg;
	struct linear *l = p->linear;
	size_t strip = block / STRIP_BLOCKS, within = block % STRIP_BLOCKS,
	       beside = blocks_in(l, strip);
	size_t groups = l->in / l->group, tiles = depth_of(l);
	size_t column = (strip * groups * STRIP_BLOCKS + within) * BLOCK;
	uint32_t *to =
		(uint32_t *)l->weight + strip * STRIP_BLOCKS * tiles * (TILE / 8) + within * BLOCK;

	(void)thread;
	for (size_t oct = 0; oct < tiles * (TILE_DEPTH / 8); oct++)
		memset(to + oct * beside * BLOCK, 0, BLOCK * sizeof(*to));
	for (size_t n = 0; n < BLOCK && block * BLOCK + n < l->out; n += 8) {
		size_t row = block * BLOCK + n;
		const struct matrix *part = part_of(p, &row);

		lay_int4(part, row, to + n, beside * BLOCK);
		lay_groups(part, row, groups, l->group_scale + column + n,
			   l->group_zero + column + n);
	}
}

static void pack_block(void *arg, size_t block, unsigned thread)
{
	const struct pack *p = arg;
	struct linear *l = p->linear;
	size_t size = number_size(l->number), first = block * BLOCK,
	       rows = min_u64(BLOCK, l->out - first);
	size_t strip = block / STRIP_BLOCKS, within = block % STRIP_BLOCKS,
	       beside = blocks_in(l, strip), depth = depth_of(l);
	size_t unit = l->number == NUMBER_F32 ? BLOCK : TILE;
	char *scratch = p->scratch + thread * p->scratch_size;
	float *wide = (float *)(scratch + BLOCK * p->padded * size);
	char *to = (char *)l->weight + strip * STRIP_BLOCKS * depth * unit * size;

	memset(scratch, 0, p->scratch_size);
	for (size_t r = 0; r < rows; r++) {
		void *out = scratch + r * p->padded * size;
		size_t row = first + r;
		const struct matrix *part = part_of(p, &row);

		if (part->number == l->number && !part->across) {
			memcpy(out, (const char *)part->data + row * l->in * size, l->in * size);
			continue;
		}
		matrix_to_f32(part, row, 1, l->number == NUMBER_F32 ? out : wide);
		if (l->number == NUMBER_BF16)
			p->row->bf16(wide, out, l->in);
		else if (l->number == NUMBER_INT8)
			l->scale[first + r] = row_to_int8(wide, l->in, out);
	}
	if (l->number == NUMBER_F32)
		lay_f32((float *)scratch, p->padded, depth, (float *)to + within * BLOCK,
			beside * BLOCK);
	else if (l->number == NUMBER_BF16)
		lay_bf16((uint16_t *)scratch, p->padded, depth, (uint16_t *)to + within * PAIR,
			 beside * PAIR);
	else
		lay_int8((int8_t *)scratch, p->padded, depth, (uint8_t *)to + within * 4 * BLOCK,
			 beside * 4 * BLOCK);
}

static bool allocate_groups(struct linear *l)
{
	size_t n = strips_of(l) * (l->in / l->group) * STRIP;

	l->group_scale = calloc(n, sizeof(*l->group_scale));
	l->group_zero = calloc(n, sizeof(*l->group_zero));
	return l->group_scale && l->group_zero;
}

static enum rc allocate(struct pack *p, bool biased, struct pool *pool, struct err *err)
{
	struct linear *l = p->linear;
	bool int4 = l->number == NUMBER_INT4;
	size_t size, rounded;

	p->padded = l->number == NUMBER_F32 ? l->in : tiles_of(l->in) * TILE_DEPTH;
	p->scratch_size =
		(p->padded * (BLOCK * number_size(l->number) + sizeof(float)) + 63) / 64 * 64;
	if (!checked_mul(blocks_of(l) * BLOCK, p->padded, &size) ||
	    !checked_mul(size, int4 ? 1 : number_size(l->number), &size) ||
	    !checked_add(size, GRAIN - 1, &rounded))
		return err_set(err, RC_FATAL, "memory", "a weight of %zu x %zu is too large",
			       l->out, l->in);
	size = int4 ? size / 2 : size;
	l->weight_size = size;
	l->weight = size < GRAIN ? aligned_alloc(64, (size + 63) / 64 * 64)
				 : aligned_alloc(GRAIN, rounded / GRAIN * GRAIN);
	if (biased)
		l->bias = calloc(l->out, sizeof(*l->bias));
	if (l->number == NUMBER_INT8)
		l->scale = calloc(l->out, sizeof(*l->scale));
	p->scratch = pool_scratch(pool, pool_threads(pool) * p->scratch_size);
	if (!l->weight || !p->scratch || (biased && !l->bias) || (int4 && !allocate_groups(l)) ||
	    (l->number == NUMBER_INT8 && !l->scale)) {
		linear_release(l);
		return err_set(err, RC_FATAL, "memory", "no memory for a weight of %zu bytes",
			       size);
	}
	if (size >= GRAIN)
		madvise(l->weight, rounded / GRAIN * GRAIN, MADV_HUGEPAGE);
	return RC_OK;
}

enum rc linear_pack(struct linear *l, const struct matrix *parts, const float *const *biases,
		    size_t count, enum number number, struct pool *pool, struct err *err)
{
	struct pack p = {.linear = l, .parts = parts, .row = rows_of_level()};
	bool biased = false;
	size_t row = 0;

	*l = (struct linear){.in = parts[0].columns, .number = number};
	if (number == NUMBER_INT4)
		l->group = parts->group;
	if (number == NUMBER_INT4 && !matrices_are_int4(parts, count))
		BUG("a part is not int4 in groups of %zu", l->group);
	for (size_t i = 0; i < count; i++) {
		if (parts[i].columns != l->in)
			BUG("parts of %zu and %zu columns", l->in, parts[i].columns);
		l->out += parts[i].rows;
		biased = biased || (biases && biases[i]);
	}
	if (allocate(&p, biased, pool, err) != RC_OK)
		return RC_FATAL;
	for (size_t i = 0; i < count; row += parts[i++].rows) {
		if (biases && biases[i])
			memcpy(l->bias + row, biases[i], parts[i].rows * sizeof(float));
	}
	pool_run(pool, number == NUMBER_INT4 ? pack_block_int4 : pack_block, &p, blocks_of(l));
	return RC_OK;
}
