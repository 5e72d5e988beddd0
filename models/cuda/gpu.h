/* SPDX-License-Identifier: MIT
 *
 * cuda/gpu: one GPU: its memory, a stream, matrix products. Opened twice, it has two streams, which
 * share its memory and wait for nothing of each other. gpu.c does it with the CUDA toolkit; the
 * tests have another one that computes on the CPU (tests/models/cuda-gpu.c).
 *
 * Everything is done in the order in which it was asked for, and later than that unless a function says that
 * it waits. What fails on the way (a fallen GPU, a
 * memory error) ends the process: its pages are read again by the next one.
 */
#ifndef MODELS_CUDA_GPU_H
#define MODELS_CUDA_GPU_H

#include "base/err.h"
#include "cuda/kernels.h"

#include <stdbool.h>

struct gpu;

/* The first one that can be seen (CUDA_VISIBLE_DEVICES). RC_FATAL says why there is none. */
enum rc gpu_open(struct gpu **, struct err *);
void gpu_close(struct gpu *);
const char *gpu_name(const struct gpu *);
cudaStream_t gpu_stream(const struct gpu *);

size_t gpu_room(const struct gpu *); /* bytes that are free now */
void *gpu_alloc(struct gpu *, size_t size); /* NULL: it does not fit; aligned to 256 bytes */
void gpu_free(struct gpu *, const void *);

/* Memory of the host that the GPU reaches by itself. NULL: it is not to be had. */
void *gpu_pin(struct gpu *, size_t size);
void gpu_unpin(struct gpu *, void *);

/* Both between pinned memory and the GPU's, and both return at once: `from` has to stay, and `to` is not
 * there, until somebody has waited for it. */
void gpu_send(struct gpu *, void *to, const void *from, size_t size);
void gpu_fetch(struct gpu *, void *to, const void *from, size_t size);

/* A place in the order. */
struct gpu_mark;
struct gpu_mark *gpu_mark_new(struct gpu *);
void gpu_mark_free(struct gpu *, struct gpu_mark *);
void gpu_mark_set(struct gpu *, struct gpu_mark *); /* behind all that was asked for */
void gpu_mark_wait(struct gpu *, struct gpu_mark *);
bool gpu_mark_passed(struct gpu *, struct gpu_mark *);

/* Kernels and products that are asked for between begin and end are not done but recorded, to be done as often
 * as wanted; each product has been done before, or one like it (gpu_rows_like()). NULL: there is no room for
 * it. */
struct gpu_graph;
void gpu_graph_begin(struct gpu *);
struct gpu_graph *gpu_graph_end(struct gpu *);
void gpu_graph_run(struct gpu *, struct gpu_graph *);
void gpu_graph_free(struct gpu *, struct gpu_graph *);

/* Within the GPU's memory. */
void gpu_copy(struct gpu *, void *to, const void *from, size_t size);

/* From any memory, which may be changed when it returns. */
void gpu_write(struct gpu *, void *to, const void *from, size_t size);
/* Waits until it is there. */
void gpu_read(struct gpu *, void *to, const void *from, size_t size);
/* Until all is done that was asked for. */
void gpu_wait(struct gpu *);

/* What a function of kernels.h returned. */
void gpu_check(const struct gpu *, int code, const char *what);

/*
 * y [n][out] = x [n][in] w', all bf16 but y where `wide`, fp32; w [out][in]; in and out multiples of 8.
 * Sums are fp32, and their order depends on in, out and the kind alone, not on n: a row gives the same
 * bits whatever is beside it. GPU_FEW suits few rows, GPU_MANY many. With GPU_ANY the order depends on n as
 * well: it is what suits n rows.
 */
enum gpu_rows { GPU_FEW, GPU_MANY, GPU_ANY };

enum { GPU_FEW_MOST = 256 };

/* The number of rows that a product of n rows is done as if it had. */
static inline size_t gpu_rows_like(enum gpu_rows kind, size_t n)
{
	size_t rows = 1;

	if (kind == GPU_FEW && n > GPU_FEW_MOST)
		BUG("%zu rows are not few", n);
	if (kind != GPU_ANY)
		return kind == GPU_FEW ? 64 : 2048;
	while (rows < n)
		rows *= 2;
	return rows;
}

void gpu_product(struct gpu *, enum gpu_rows, const uint16_t *w, size_t out, size_t in,
		 const uint16_t *x, size_t n, void *y, bool wide);

/* Rows of e4m3, as cuda_quantise() makes them. */
struct gpu_fp8 {
	const uint8_t *codes;
	const float *scale; /* one a row */
};

/* Is there the product below, for any number of rows? RC_FATAL says why not. */
enum rc gpu_has_fp8(struct gpu *, size_t out, size_t in, struct err *);

/* The same product of numbers of e4m3: the sum of each is multiplied by the scales of its two rows. y is
 * bf16; in and out are multiples of 16. */
void gpu_product_fp8(struct gpu *, enum gpu_rows, struct gpu_fp8 w, size_t out, size_t in, struct gpu_fp8 x,
		     size_t n, uint16_t *y);

#endif
