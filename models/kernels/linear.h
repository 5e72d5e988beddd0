/* SPDX-License-Identifier: MIT
 *
 * linear: y = x W' + bias, with W packed for the CPU it runs on.
 *
 * Invariant: a row of y depends on that row of x and on W alone. The order in which products are
 * added up does not depend on the number of rows, on the thread or on the blocking, so a page's
 * result has the same bits whatever shares its batch.
 *
 * x and y are fp32. A bf16 weight multiplies x rounded to bf16 (to nearest, ties to even) and adds
 * up in fp32; an int8 weight has one fp32 scale a row of W and multiplies x as bf16; an int4 weight
 * has a zero and an fp32 scale for each group along a row of W, multiplies x as bf16 within a
 * group, and the groups' sums, scaled, add up from the first to the last; an fp32 weight stays fp32
 * throughout.
 */
#ifndef MODELS_KERNELS_LINEAR_H
#define MODELS_KERNELS_LINEAR_H

#include "base/err.h"
#include "kernels/pool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum number {
	NUMBER_F32,
	NUMBER_BF16,
	NUMBER_F16,
	NUMBER_INT8, /* packed weights only */
	NUMBER_E4M3, /* with a scale a row; packed on a GPU only (cuda/device.c) */
	NUMBER_INT4, /* with zeros and scales; of files and packed, two to a byte (number_size() is
			0) */
};

size_t number_size(enum number);
const char *number_name(enum number);
/* What weights may be packed in, by name: bf16, int8, fp8 (e4m3) or f32. */
bool number_of_weights(const char *name, enum number *out);

/* bf16 <-> fp32; to nearest, ties to even; a NaN stays one. */
static inline float bf16_to_f32(uint16_t b)
{
	union {
		uint32_t bits;
		float f;
	} u = {.bits = (uint32_t)b << 16};

	return u.f;
}

uint16_t bf16_from_f32(float);
float f16_to_f32(uint16_t);

/* Rows of a stored matrix, row-major, not necessarily aligned. With `across` it lies turned:
 * numbers of a column follow each other, and the next column is `across` numbers further. */
struct matrix {
	const void *data;
	enum number number; /* F32, BF16, F16 or INT4 */
	size_t rows, columns;
	size_t across;

	/*
	 * INT4 as AWQ's "gemm" has it, always turned. A column is `across` / 8 words of 32 bits,
	 * and its row 8 i + j has 4 bits of word i from bit 4 nibble_of(j) up. The zeros of group g
	 * are a column as well, its scales `across` numbers. A group is `group` columns; rows and
	 * across are multiples of 8, columns of `group`; and `group` is a multiple of 32, or all
	 * columns.
	 */
	const void *zeros, *scales;
	enum number scale;
	size_t group;
};

static inline unsigned nibble_of(size_t row)
{
	return (unsigned)(row % 8 / 2 + row % 2 * 4);
}

/* All of them, in groups of one size: they can be packed so. */
bool matrices_are_int4(const struct matrix *, size_t count);

/* Rows first .. first + count - 1; of an INT4 one both are multiples of 8. */
struct matrix matrix_rows(const struct matrix *, size_t first, size_t count);

/* The same as fp32, [count][columns]. */
void matrix_to_f32(const struct matrix *, size_t first, size_t count, float *out);

struct linear {
	size_t in, out;	     /* columns of x, columns of y */
	enum number number;  /* of the packed weight: F32, BF16, INT8, E4M3 or INT4 */
	void *weight;	     /* packed, owned */
	size_t weight_size;  /* bytes */
	float *bias, *scale; /* [out] or NULL, owned; scale: INT8, E4M3 */

	/* INT4: [strips of 64 columns][groups][64], owned. */
	size_t group; /* numbers of a row of W */
	float *group_scale;
	uint8_t *group_zero;
};

/*
 * Pack the rows of `parts`, one below the other ([out, in] in all; q, k and v make one linear).
 * INT4 takes parts that are INT4, all with the same group, and the other numbers any parts.
 * biases: one pointer a part, each to that part's rows in fp32 or NULL; NULL: none at all.
 * RC_FATAL when memory is not to be had.
 */
enum rc linear_pack(struct linear *, const struct matrix *parts, const float *const *biases,
		    size_t count, enum number number, struct pool *, struct err *);
void linear_release(struct linear *);

/* x [rows][x_stride] -> y [rows][y_stride], strides in floats, >= in and out. They do not overlap.
 */
void linear_apply(const struct linear *, struct pool *, const float *x, size_t x_stride,
		  size_t rows, float *y, size_t y_stride);

/* Several at once, all of the same `in` and `out`: the rows of one after those of the other, at
 * most LINEAR_ROWS of each. A row gives what linear_apply() gives. */
enum { LINEAR_ROWS = 512 };

struct linear_share {
	const struct linear *linear;
	size_t rows; /* 1 or more */
};

void linear_apply_shares(const struct linear_share *, size_t count, struct pool *, const float *x,
			 size_t x_stride, float *y, size_t y_stride);

#endif
